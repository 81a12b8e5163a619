//! Quotas, buckets and modes, by a clock that the test moves.

use crate::world::{Answer, Trouble, World, ids};
use axum::http::{Method, header};
use eventplane_api::{LimitSettings, Limits, Options};
use eventplane_domain::Tenant;
use serde_json::{Value, json};

fn micro(count: u32) -> Value {
    json!({ "instance_type": "t3.micro", "count": count })
}

async fn launches(world: &World, body: &Value) -> Answer {
    world.post("/v1/instances", body).await
}

/// What a request that came too often is told, and when to come again.
fn assert_throttled(answer: &Answer, told: &str, after_s: &str) {
    let error = (answer.status.as_u16(), answer.error("code"), answer.error("class"));
    assert_eq!(error, (503, "RequestLimitExceeded", "throttled"), "{}", answer.body);
    assert_eq!(answer.body["error"]["retry"], true);
    assert!(answer.error("message").contains(told), "{}", answer.body);
    let after = answer.headers.get(header::RETRY_AFTER).map(|value| value.to_str().expect("text"));
    assert_eq!(after, Some(after_s), "{}", answer.body);
}

#[tokio::test]
async fn a_launch_over_a_quota_says_what_would_fit_and_that_fits() {
    for (limits, one, code, told) in [
        ("instances=3", 3, "InstanceLimitExceeded", "at most 3 instances are for you: 0 are used"),
        (
            "vcpus=5",
            2,
            "VcpuLimitExceeded",
            "0 are used and 8 more were asked for; 2 more t3.micro",
        ),
        ("addresses=1", 1, "NetworkInterfaceLimitExceeded", "1 more t3.micro would fit"),
        ("volumes=3", 3, "VolumeLimitExceeded", "at most 3 volumes are for you"),
        ("volume_gib=17", 2, "VolumeLimitExceeded", "17 GiB of volumes"),
        // The tightest binds.
        ("instances=3,vcpus=2", 1, "InstanceLimitExceeded", "1 more t3.micro would fit"),
    ] {
        let world = World::limited(limits).await;
        let refused = launches(&world, &micro(4)).await;
        let error = (refused.status.as_u16(), refused.error("code"), refused.error("class"));
        assert_eq!(error, (400, code, "quota"), "{limits}: {}", refused.body);
        assert!(refused.error("message").contains(told), "{limits}: {}", refused.body);
        assert!(ids(&world.get("/v1/instances").await.with(200)).is_empty(), "all or nothing");
        // What is said to fit does, and nothing more.
        assert_eq!(world.launch(&micro(one)).await.len(), one as usize, "{limits}");
        let refused = launches(&world, &micro(1)).await;
        assert!(refused.error("message").contains("0 more t3.micro"), "{limits} {}", refused.body);
        assert_eq!(refused.body["error"]["retry"], false);
    }
}

#[tokio::test]
async fn limits_show_what_there_is_and_what_is_used() {
    let world = World::limited("ec2,volumes=7").await;
    world.launch(&micro(2)).await;
    let limits = world.get("/v1/limits").await.with(200);
    let quotas = limits["quotas"].as_array().expect("a list").iter();
    let quotas: Vec<(&str, Value, Value)> = quotas
        .map(|of| (of["name"].as_str().expect("a name"), of["used"].clone(), of["limit"].clone()))
        .collect();
    let right = [
        ("instances", json!(2), Value::Null),
        ("vcpus", json!(4), json!(5)),
        ("addresses", json!(2), json!(5_000)),
        ("volumes", json!(2), json!(7)),
        ("volume_gib", json!(16), json!(51_200)),
    ];
    assert_eq!(quotas, right);
    assert_eq!(
        limits["rates"][0],
        json!({ "action": "RunInstances", "requests": { "size": 5, "per_s": 2 },
            "instances": { "size": 1000, "per_s": 2 } })
    );
}

#[tokio::test]
async fn a_bucket_of_requests_runs_dry_and_fills_again() {
    let world = World::limited("RunInstances=2/1,TerminateInstances=1/1").await;
    let id = world.launch(&micro(1)).await.remove(0);
    world.launch(&micro(1)).await;
    assert_throttled(
        &launches(&world, &micro(1)).await,
        "RunInstances takes 2 requests at once, and 1 a second after that; this many again in 1000",
        "1",
    );
    world.pass(999);
    assert_throttled(&launches(&world, &micro(1)).await, "again in 1 ms", "1");
    world.pass(1);
    world.launch(&micro(1)).await;
    assert_throttled(&launches(&world, &micro(1)).await, "RunInstances", "1");
    // Other actions have buckets of their own.
    world.delete(&format!("/v1/instances/{id}")).await.with(200);
    let refused = world.delete(&format!("/v1/instances/{id}")).await;
    assert_throttled(&refused, "TerminateInstances takes 1 requests at once", "1");
    world.pass(1_000);
    world.delete(&format!("/v1/instances/{id}")).await.with(200);
}

#[tokio::test]
async fn a_repeated_token_is_a_request_and_no_instance_and_nobody_takes_more_than_a_bucket_holds() {
    let world = World::limited("RunInstances=9/1,RunInstances.instances=5/1").await;
    let asked =
        json!({ "instance_type": "t3.micro", "count": 3, "client_token": "once", "tags": {} });
    let first = world.launch(&asked).await;
    for _ in 0..4 {
        assert_eq!(world.launch(&asked).await, first);
    }
    assert_throttled_for_ever(&launches(&world, &micro(6)).await);
    world.launch(&micro(2)).await;
    assert_throttled(&launches(&world, &micro(1)).await, "5 instances at once", "1");
    let dry = json!({ "instance_type": "t3.micro", "dry_run": true });
    assert_eq!(launches(&world, &dry).await.error("code"), "DryRunOperation", "it takes none");
    world.pass(2_000);
    world.launch(&micro(2)).await;
    // Of nine requests eight were taken (what is refused takes none), and two came back.
    for _ in 0..3 {
        world.launch(&asked).await;
    }
    assert_throttled(&launches(&world, &asked).await, "9 requests at once", "1");
}

fn assert_throttled_for_ever(answer: &Answer) {
    let error = (answer.status.as_u16(), answer.error("code"), &answer.body["error"]["retry"]);
    assert_eq!(error, (400, "RequestLimitExceeded", &json!(false)), "{}", answer.body);
    assert!(answer.error("message").contains("never as many as this"), "{}", answer.body);
    assert!(!answer.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn reads_have_buckets_that_cost_no_write_and_every_tenant_has_its_own() {
    let settings = "DescribeInstances=1/1,DescribeInstances.some=2/1,RunInstances=1/1";
    let limits = Limits::new(LimitSettings::parse(settings).expect("limits"));
    let options = Options { tenant_of_request: true, ..Options::default() };
    let world = World::under(options, limits);
    world.register("host-1").await;
    for name in ["acme", "umbrella"] {
        let tenant = Tenant::parse(name).expect("a tenant");
        *world.token.lock().expect("not poisoned") = Some(Some(tenant));
        let id = world.launch(&micro(1)).await.remove(0);
        world.store_was_asked();
        world.get("/v1/instances").await.with(200);
        assert_throttled(&world.get("/v1/instances").await, "DescribeInstances takes 1", "1");
        world.get(&format!("/v1/instances/{id}")).await.with(200);
        world.get("/v1/instances?limit=1").await.with(200);
        let refused = world.get("/v1/instances?state=running").await;
        assert_throttled(&refused, "DescribeInstances.some takes 2", "1");
        assert!(world.store_was_asked() <= 5, "two of each list, one of the other, and no bucket");
        assert_throttled(&launches(&world, &micro(1)).await, "RunInstances", "1");
    }
}

#[tokio::test]
async fn who_meets_others_at_a_counter_or_a_bucket_tries_again() {
    let world = World::limited("instances=9,RunInstances=9/1").await;
    for meetings in [1, 4] {
        world.store_has(Trouble::Contended(meetings));
        world.launch(&micro(1)).await;
    }
    let limits = world.get("/v1/limits").await.with(200);
    assert_eq!(limits["quotas"][0]["used"], 2);
    world.store_has(Trouble::Contended(1_000));
    assert_throttled(&launches(&world, &micro(1)).await, "at the very same moment", "1");
}

async fn set(world: &World, mode: &str) {
    let reason = "a drill";
    world.put("/v1/mode", &json!({ "mode": mode, "reason": reason })).await.with(200);
}

#[tokio::test]
async fn each_mode_does_what_its_row_says_whether_or_not_anything_is_limited() {
    let world = World::limited("shed=2/1").await;
    let ids = world.launch(&micro(12)).await;
    let mut ids = ids.iter();
    let mut terminate = async || {
        let id = ids.next().expect("an instance");
        world.delete(&format!("/v1/instances/{id}")).await
    };
    for (mode, launched, terminated) in
        [("normal", 6, 2), ("shedding", 2, 2), ("terminate-only", 0, 2), ("read-only", 0, 0)]
    {
        set(&world, mode).await;
        world.pass(60_000);
        let mut done = 0;
        for _ in 0..6 {
            let answer = launches(&world, &micro(1)).await;
            match (answer.status.as_u16(), mode) {
                (202, _) => done += 1,
                (_, "shedding") => {
                    assert_throttled(&answer, "only a few RunInstances through: a drill", "1");
                }
                (_, "read-only") => assert_refused(&answer, mode, "POST /v1/instances"),
                _ => assert_refused(&answer, mode, "RunInstances"),
            }
        }
        assert_eq!(done, launched, "launches while {mode}");
        for _ in 0..2 {
            let answer = terminate().await;
            match terminated {
                0 => assert_refused(&answer, mode, "DELETE /v1/instances/i-"),
                _ => drop(answer.with(200)),
            }
        }
        // What is no instance is changed in every mode but the last.
        let role = json!({ "name": format!("role-{mode}") });
        let answer = world.post("/v1/roles", &role).await;
        match mode {
            "read-only" => assert_refused(&answer, mode, "POST /v1/roles"),
            _ => assert!(answer.status.is_success(), "{}", answer.body),
        }
        world.get("/v1/instances").await.with(200);
        let health = world.get("/health").await.with(200);
        let told = [&health["status"], &health["mode"], &health["reason"], &health["set_by"]];
        assert_eq!(told, ["ok", mode, "a drill", "operator"]);
        // Hosts report, and hear what they are to run, in every mode.
        world.get("/v1/hosts/host-1/assignments").await.with(200);
        let report = json!({ "complete": true, "revision": 0, "instances": [] });
        world.post("/v1/hosts/host-1/reports", &report).await.with(200);
    }
    // Given back where no rules hold, it ends.
    let auto = json!({ "mode": "auto" });
    assert_eq!(world.put("/v1/mode", &auto).await.with(200)["mode"], "normal");
    world.launch(&micro(1)).await;
    // Where they hold, it is theirs to end.
    let world = World::limited("modes=on").await;
    set(&world, "terminate-only").await;
    let back = world.put("/v1/mode", &auto).await.with(200);
    assert_eq!((&back["mode"], &back["set_by"]), (&json!("terminate-only"), &json!("rules")));
    launches(&world, &micro(1)).await.with(503);
}

fn assert_refused(answer: &Answer, mode: &str, what: &str) {
    let error = (answer.status.as_u16(), answer.error("code"));
    assert_eq!(error, (503, "ServiceUnavailable"), "{}", answer.body);
    let (message, told) = (answer.error("message"), format!("the plane is {mode}, where {what}"));
    assert!(message.starts_with(&told) && message.ends_with("is not done: a drill"), "{message}");
    assert_eq!(answer.headers[header::RETRY_AFTER], "60");
}

#[tokio::test]
async fn a_mode_is_set_by_operators_with_a_reason() {
    let world = World::limited("off").await;
    for (body, code, told) in [
        (json!({ "mode": "asleep", "reason": "x" }), "InvalidParameterValue", "terminate-only"),
        (json!({ "mode": "read-only" }), "InvalidParameterValue", "with a `reason`"),
        (json!({ "mode": "read-only", "reason": "  " }), "InvalidParameterValue", "`reason`"),
        (json!({ "reason": "x" }), "MissingParameter", "mode"),
    ] {
        let answer = world.put("/v1/mode", &body).await;
        assert_eq!(answer.error("code"), code, "{}", answer.body);
        assert!(answer.error("message").contains(told), "{}", answer.body);
    }
    assert_eq!(world.get("/v1/mode").await.with(200)["mode"], "normal");
    let tenant = Tenant::parse("acme").expect("a tenant");
    *world.token.lock().expect("not poisoned") = Some(Some(tenant));
    let body = json!({ "mode": "read-only", "reason": "mine" });
    assert_eq!(world.put("/v1/mode", &body).await.error("code"), "UnauthorizedOperation");
}

#[tokio::test]
async fn a_store_that_is_gone_is_told_at_once_and_its_return_within_a_second() {
    let world = World::limited("ec2").await;
    let id = world.launch(&micro(1)).await.remove(0);
    world.pass(5_000);
    world.store_has(Trouble::Down);
    world.store_was_asked();
    for _ in 0..20 {
        let path = format!("/v1/instances/{id}");
        for (method, path, body) in [
            (Method::POST, "/v1/instances", micro(1)),
            (Method::POST, "/v1/instances", json!({ "client_token": "t" })),
            (Method::POST, "/v1/roles", json!({ "name": "r" })),
            (Method::DELETE, &*path, Value::Null),
            (Method::GET, &*path, Value::Null),
            (Method::GET, "/v1/instances", Value::Null),
        ] {
            let answer = world.send(method, path, body.to_string().into_bytes()).await;
            assert_eq!(answer.error("code"), "ServiceUnavailable");
            assert_eq!(answer.headers[header::RETRY_AFTER], "1");
            answer.with(503);
        }
        let health = world.get("/health").await.with(503);
        assert_eq!(health["status"], "unavailable");
    }
    assert_eq!(world.store_was_asked(), 1, "one asks, and the others are told");
    world.get("/v1/hosts/host-1/assignments").await.with(503);
    assert!(world.store_was_asked() > 0, "hosts always ask");
    world.store_has(Trouble::None);
    world.pass(1_000);
    assert_eq!(world.get("/health").await.with(200)["status"], "ok");
    world.launch(&micro(1)).await;
}
