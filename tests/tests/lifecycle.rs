//! Stop, start, reboot, terminate and protect, as users see them over HTTP.

use axum::http::{Method, StatusCode};
use eventplane_domain::Tenant;
use eventplane_local::bus::BusOptions;
use eventplane_plane::PlaneOptions;
use eventplane_tests::books::Books;
use eventplane_tests::site::{Site, options};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

async fn books(site: &Site) -> Books {
    let idle = tokio::time::timeout(Duration::from_secs(30), site.plane.bus().idle());
    idle.await.expect("the bus comes to rest");
    Books::read(&**site.plane.store(), &Tenant::local()).await
}

/// Asks something that is refused; the status and the error.
async fn refused(site: &Site, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let (status, answer) = site.send(method, path, body).await;
    assert!(!status.is_success(), "{path}: {answer}");
    (status.as_u16(), answer["error"].clone())
}

/// Asks a verb that the instance's state does not allow.
async fn not_now(site: &Site, id: &str, verb: &str, state: &str) {
    let path = format!("/v1/instances/{id}/{verb}");
    let (status, error) = refused(site, Method::POST, &path, None).await;
    assert_eq!((status, &error["code"]), (409, &json!("IncorrectInstanceState")), "{verb}");
    assert_eq!((&error["class"], &error["retry"]), (&json!("conflict"), &json!(false)));
    let message = error["message"].as_str().expect("words");
    assert!(message.contains(&format!("{id} is {state}")), "{message}");
}

/// All hosts of the site take nothing new, or do again.
async fn change_hosts(site: &Site, state: &str) {
    for host in site.get("/v1/hosts").await["hosts"].as_array().expect("hosts") {
        let path = format!("/v1/hosts/{}", host["host_id"].as_str().expect("an id"));
        let (status, _) = site.send(Method::PUT, &path, Some(json!({ "state": state }))).await;
        assert_eq!(status, StatusCode::OK);
    }
}

fn pair(before: &str, now: &str) -> (String, String) {
    (before.to_owned(), now.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_gives_back_its_room_alone_and_starts_as_it_was() {
    let site = Site::with_hosts(6).await;
    let id = site.launch_micro().await;
    let ran = site.until(&id, "running").await;
    assert_eq!(site.ask(&id, "stop").await, pair("running", "stopping"));
    let stopped = site.until(&id, "stopped").await;
    assert_eq!(stopped["state_reason"]["code"], "Client.UserInitiatedShutdown");
    assert_eq!(stopped["placement"], Value::Null);
    let standing = books(&site).await;
    standing.check();
    assert!(standing.hosts.iter().all(|host| host.free == host.total), "its room is free");
    let storage = standing.accounts[0].receipts[2].as_ref().expect("a receipt");
    assert!(!eventplane_storage::volumes(storage).is_empty(), "its volumes are not");
    assert_eq!(site.ask(&id, "stop").await, pair("stopped", "stopped"), "once more");

    // Its host takes nothing new: it starts on another one of its zone.
    let host = ran["placement"]["host"].as_str().expect("a host");
    let draining = Some(json!({ "state": "draining" }));
    site.send(Method::PUT, &format!("/v1/hosts/{host}"), draining).await;
    assert_eq!(site.ask(&id, "start").await, pair("stopped", "pending"));
    let runs = site.until_generation(&id, 2, "running").await;
    assert_eq!(site.ask(&id, "start").await, pair("running", "running"), "once more");
    for same in ["private_ip", "mac", "volumes", "subnet_id", "interface_id"] {
        assert_eq!(runs[same], ran[same], "{same}");
    }
    assert_eq!(runs["placement"]["zone"], ran["placement"]["zone"]);
    assert_ne!(runs["placement"]["host"], ran["placement"]["host"]);
    assert_eq!(runs["state_reason"], Value::Null);
    books(&site).await.check();
    site.terminate(&id).await;
    site.until(&id, "terminated").await;
    books(&site).await.check_nothing_is_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_shows_at_once_and_what_a_state_does_not_allow_is_refused() {
    let site = Site::with_hosts(3).await;
    site.plane.bus().pause("network");
    let id = site.launch_micro().await;
    for verb in ["stop", "reboot"] {
        not_now(&site, &id, verb, "pending").await;
    }
    assert_eq!(site.ask(&id, "start").await, pair("pending", "pending"));
    site.plane.bus().resume("network");
    site.until(&id, "running").await;

    site.plane.bus().pause("handoff");
    site.ask(&id, "stop").await;
    let shown = site.get(&format!("/v1/instances/{id}")).await;
    assert_eq!(shown["state"], "stopping");
    assert_eq!(shown["ending"]["awaits"], json!(["handoff"]));
    assert_eq!(site.ask(&id, "stop").await, pair("stopping", "stopping"));
    for verb in ["start", "reboot"] {
        not_now(&site, &id, verb, "stopping").await;
    }
    site.plane.bus().resume("handoff");
    site.until(&id, "stopped").await;
    not_now(&site, &id, "reboot", "stopped").await;

    site.plane.bus().pause("instances");
    site.ask(&id, "start").await;
    assert_eq!(site.get(&format!("/v1/instances/{id}")).await["state"], "pending");
    site.plane.bus().resume("instances");
    site.until_generation(&id, 2, "running").await;

    site.plane.bus().pause("handoff");
    site.terminate(&id).await;
    for verb in ["start", "stop", "reboot"] {
        not_now(&site, &id, verb, "shutting-down").await;
    }
    site.plane.bus().resume("handoff");
    site.until(&id, "terminated").await;
    for verb in ["start", "stop", "reboot"] {
        not_now(&site, &id, verb, "terminated").await;
    }
    let unknown = "i-0123456789abcdef0";
    for verb in ["start", "stop", "reboot"] {
        let path = |id: &str| format!("/v1/instances/{id}/{verb}");
        let (status, error) = refused(&site, Method::POST, &path(unknown), None).await;
        assert_eq!((status, &error["code"]), (404, &json!("InvalidInstanceID.NotFound")));
        let (status, error) = refused(&site, Method::POST, &path("i-1"), None).await;
        assert_eq!((status, &error["code"]), (400, &json!("InvalidInstanceID.Malformed")));
    }
    books(&site).await.check_nothing_is_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fits_nowhere_goes_back_to_stopped_and_may_be_tried_again() {
    let site = Site::with_hosts(3).await;
    let id = site.launch_micro().await;
    let ran = site.until(&id, "running").await;
    site.ask(&id, "stop").await;
    site.until(&id, "stopped").await;
    change_hosts(&site, "draining").await;
    for generation in 2..5 {
        site.ask(&id, "start").await;
        // Whoever waits until it runs hears that it will not.
        let shown = site.get(&format!("/v1/instances/{id}?until=running&wait=30")).await;
        assert_eq!(
            (&shown["state"], &shown["generation"]),
            (&json!("stopped"), &json!(generation))
        );
        let code = &shown["state_reason"]["code"];
        assert_eq!(code, "Server.InsufficientInstanceCapacity", "{shown:#}");
        assert_eq!(
            (&shown["volumes"], &shown["private_ip"]),
            (&ran["volumes"], &ran["private_ip"])
        );
    }
    books(&site).await.check();
    change_hosts(&site, "active").await;
    site.ask(&id, "start").await;
    site.until_generation(&id, 5, "running").await;
    books(&site).await.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_termination_wins_over_whatever_is_in_flight() {
    let site =
        Site::with_bus(6, BusOptions { duplicates_percent: 50, ..BusOptions::default() }).await;
    for (stuck, verb) in [
        ("handoff", "stop"),
        ("capacity", "stop"),
        ("instances", "stop"),
        ("instances", "start"),
        ("capacity", "start"),
        ("storage", "start"),
        ("handoff", "start"),
        ("handoff", "reboot"),
    ] {
        let id = site.launch_micro().await;
        site.until(&id, "running").await;
        if verb == "start" {
            site.ask(&id, "stop").await;
            site.until(&id, "stopped").await;
        }
        site.plane.bus().pause(stuck);
        site.ask(&id, verb).await;
        // As far as it comes.
        tokio::time::sleep(Duration::from_millis(20)).await;
        site.terminate(&id).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        site.plane.bus().resume(stuck);
        let ended = site.until(&id, "terminated").await;
        let code = &ended["state_reason"]["code"];
        assert_eq!(code, "Client.UserInitiatedShutdown", "{verb} at {stuck}: {ended:#}");
    }
    books(&site).await.check_nothing_is_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_protected_is_not_terminated_until_the_protection_is_taken_away() {
    let site = Site::with_hosts(3).await;
    let asked = json!({ "instance_type": "t3.micro", "termination_protection": true });
    let (_, answer) = site.send(Method::POST, "/v1/instances", Some(asked)).await;
    let shown = &answer["instances"][0];
    assert_eq!(shown["termination_protection"], true, "{answer:#}");
    let id = shown["instance_id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/instances/{id}");
    for wait_for in ["running", "stopped"] {
        site.until(&id, wait_for).await;
        let (status, error) = refused(&site, Method::DELETE, &path, None).await;
        assert_eq!((status, &error["code"]), (409, &json!("OperationNotPermitted")), "{error}");
        if wait_for == "running" {
            site.ask(&id, "stop").await;
        }
    }
    let off = Some(json!({ "termination_protection": false }));
    let (status, shown) = site.send(Method::PUT, &path, off.clone()).await;
    assert_eq!((status, &shown["termination_protection"]), (StatusCode::OK, &Value::Null));
    let on = Some(json!({ "termination_protection": true }));
    let (_, shown) = site.send(Method::PUT, &path, on.clone()).await;
    assert_eq!(
        (&shown["termination_protection"], &shown["state"]),
        (&json!(true), &json!("stopped"))
    );
    refused(&site, Method::DELETE, &path, None).await;
    site.send(Method::PUT, &path, off).await;
    site.terminate(&id).await;
    site.until(&id, "terminated").await;
    let (status, error) = refused(&site, Method::PUT, &path, on).await;
    assert_eq!((status, &error["code"]), (409, &json!("IncorrectInstanceState")));
    let many = |count: u32| {
        let launch = json!({ "instance_type": "t3.micro", "count": count });
        let mut launch = launch.as_object().expect("an object").clone();
        launch.insert("termination_protection".to_owned(), json!(true));
        Some(Value::Object(launch))
    };
    let (status, _) = site.send(Method::POST, "/v1/instances", many(45)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "as many as one transaction takes");
    let (status, error) = refused(&site, Method::POST, "/v1/instances", many(46)).await;
    assert_eq!((status, &error["field"]), (400, &json!("count")));
    let wrong = Some(json!({ "termination": false }));
    let (status, error) = refused(&site, Method::PUT, &path, wrong).await;
    assert_eq!(
        (status, &error["code"], &error["field"]),
        (400, &json!("UnknownParameter"), &json!("termination"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reboot_that_is_asked_for_is_done_once_where_the_instance_runs() {
    let site =
        Site::with_bus(3, BusOptions { duplicates_percent: 100, ..BusOptions::default() }).await;
    let id = site.launch_micro().await;
    let before = site.until(&id, "running").await;
    for count in 1..4 {
        assert_eq!(site.ask(&id, "reboot").await, pair("running", "running"));
        for _ in 0..3_000 {
            if site.plane.fleet().stats().rebooted >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(site.plane.fleet().stats().rebooted, count);
    }
    books(&site).await.check();
    let stats = site.plane.fleet().stats();
    assert_eq!((stats.rebooted, stats.started, stats.stopped), (3, 1, 0));
    assert_eq!(site.get(&format!("/v1/instances/{id}")).await, before, "nothing else is changed");
}

/// A host that is spoken for by hand.
async fn register(site: &Site, name: &str, zone: &str) {
    let host = json!({
        "host_id": name, "zone": zone, "rack": "r1",
        "vcpus": 4, "memory_mib": 8_192, "network_mbps": 10_000,
    });
    let (status, answer) = site.send(Method::POST, "/v1/hosts", Some(host)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

/// Waits until a host, other than those, is told to run this generation of the instance.
async fn told_to_run(site: &Site, hosts: &[&str], generation: u32) -> String {
    for _ in 0..3_000 {
        for host in hosts {
            let told = site.get(&format!("/v1/hosts/{host}/assignments")).await;
            let wanted = told["wanted"].as_array().expect("a set");
            if wanted.iter().any(|one| one["generation"] == generation) {
                return (*host).to_owned();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no host was told to run generation {generation}");
}

async fn refuse(site: &Site, host: &str, id: &str, generation: u32) {
    let report = json!({ "complete": false, "revision": 1, "let_go": [{
        "tenant": "default", "instance_id": id, "generation": generation,
        "reason": { "code": "Server.InternalError", "message": format!("{host} has no kernel") },
    }]});
    let (status, _) =
        site.send(Method::POST, &format!("/v1/hosts/{host}/reports"), Some(report)).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_refuses_is_placed_on_others_of_its_zone_three_times_in_all() {
    let site = Site::with_hosts(0).await;
    let hosts = ["h-1", "h-2", "h-3", "h-4", "h-5"];
    for host in hosts {
        register(&site, host, "zone-a").await;
        register(&site, &format!("other-{host}"), "zone-b").await;
    }
    let launch = json!({ "instance_type": "t3.micro", "zone": "zone-a" });
    let id = site.launch(launch.clone()).await;
    let mut had_it = BTreeSet::new();
    for generation in 1..=3 {
        let host = told_to_run(&site, &hosts, generation).await;
        assert!(had_it.insert(host.clone()), "{host} had it before");
        if generation > 1 {
            let shown = site.get(&format!("/v1/instances/{id}")).await;
            let reason = shown["state_reason"]["message"].as_str().expect("why it is pending");
            assert!(reason.contains("has no kernel"), "{shown:#}");
        }
        refuse(&site, &host, &id, generation).await;
    }
    let ended = site.until(&id, "terminated").await;
    let message = ended["state_reason"]["message"].as_str().expect("words");
    assert!(message.contains("the last of 3 hosts"), "{message}");
    books(&site).await.check_nothing_is_held();

    // Two hosts are not three: the refusal says what came before it.
    for host in &hosts[2..] {
        let draining = Some(json!({ "state": "draining" }));
        site.send(Method::PUT, &format!("/v1/hosts/{host}"), draining).await;
    }
    let id = site.launch(launch).await;
    for generation in 1..=2 {
        let host = told_to_run(&site, &hosts, generation).await;
        refuse(&site, &host, &id, generation).await;
    }
    let ended = site.until(&id, "terminated").await;
    let reason = &ended["state_reason"];
    assert_eq!(reason["code"], "Server.InsufficientInstanceCapacity", "{ended:#}");
    let message = reason["message"].as_str().expect("words");
    assert!(message.contains("2 that had it and did not run it"), "{message}");
    assert!(message.contains("before that: h-"), "{message}");
    books(&site).await.check_nothing_is_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_silent_host_was_never_offered_is_placed_again_after_its_deadline() {
    let quick = PlaneOptions { launch_deadline_ms: 400, ..options(0) };
    let site = Site::start(quick).await;
    for host in ["h-1", "h-2", "h-3"] {
        register(&site, host, "zone-a").await;
    }
    let id = site.launch_micro().await;
    let ended = site.until(&id, "terminated").await;
    assert_eq!(ended["generation"], 3, "{ended:#}");
    let message = ended["state_reason"]["message"].as_str().expect("words");
    assert!(message.contains("did not ask for its assignment"), "{message}");
    books(&site).await.check_nothing_is_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_host_that_may_run_it_and_says_so() {
    let site = Site::with_hosts(0).await;
    register(&site, "h-1", "zone-a").await;
    let id = site.launch_micro().await;
    told_to_run(&site, &["h-1"], 1).await;
    let report = json!({ "complete": true, "revision": 1, "instances": [{
        "tenant": "default", "instance_id": id, "generation": 1, "state": "running",
    }]});
    site.send(Method::POST, "/v1/hosts/h-1/reports", Some(report)).await;
    site.until(&id, "running").await;
    site.ask(&id, "stop").await;
    books(&site).await.check();
    let shown = site.get(&format!("/v1/instances/{id}")).await;
    assert_eq!(
        (&shown["state"], &shown["ending"]["awaits"]),
        (&json!("stopping"), &json!(["host"]))
    );
    // Nothing is given back while it may run; a termination waits as well, and wins.
    site.terminate(&id).await;
    books(&site).await.check();
    let shown = site.get(&format!("/v1/instances/{id}")).await;
    assert_eq!(
        (&shown["state"], &shown["ending"]["awaits"]),
        (&json!("shutting-down"), &json!(["host"]))
    );
    let told = site.get("/v1/hosts/h-1/assignments").await;
    assert_eq!(told["let_go"][0]["generation"], 1);
    refuse(&site, "h-1", &id, 1).await;
    site.until(&id, "terminated").await;
    books(&site).await.check_nothing_is_held();
}
