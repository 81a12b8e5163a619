//! Why an instance is not running, and what would run instead: every suggestion is sent as it was
//! given, and has to run.

use axum::http::{Method, StatusCode};
use eventplane_agent::{FleetOptions, HostSize};
use eventplane_plane::PlaneOptions;
use eventplane_storage::{PoolSize, PoolSizes};
use eventplane_tests::site::{Site, options};
use serde_json::{Value, json};

/// A site of so many hosts, all of 8 vCPUs and 16 GiB, in three zones.
async fn small_hosts(hosts: usize) -> Site {
    let size = HostSize { vcpus: 8, memory_mib: 16_384, network_mbps: 10_000 };
    let options = options(hosts);
    let fleet = FleetOptions { size: Some(size), ..options.fleet };
    Site::start(PlaneOptions { fleet, ..options }).await
}

/// Launches what is refused, and reads why.
async fn refused(site: &Site, asked: &Value, code: &str) -> Value {
    let id = site.launch(asked.clone()).await;
    site.until(&id, "terminated").await;
    let why = site.get(&format!("/v1/instances/{id}/why")).await;
    let said = why["failed"]["code"].as_str().expect("a code");
    assert!(said.ends_with(code), "{why:#}");
    assert_eq!((&why["state"], &why["fits_now"]), (&json!("terminated"), &json!(false)), "{why:#}");
    assert!(why["as_of"].is_string() && why["failed"]["at"].is_string(), "{why:#}");
    why
}

fn suggestions(why: &Value) -> &Vec<Value> {
    why["suggestions"].as_array().expect("a list")
}

/// Applies a change as JSON merge patches are.
fn changed(asked: &Value, change: &Value) -> Value {
    let mut body = asked.as_object().expect("an object").clone();
    for (name, value) in change.as_object().expect("an object") {
        match value {
            Value::Null => body.remove(name),
            value => body.insert(name.clone(), value.clone()),
        };
    }
    Value::Object(body)
}

/// Every suggestion runs: its change applied to what was asked for, and its request as it is.
async fn all_run(site: &Site, asked: &Value, why: &Value) {
    assert!(!suggestions(why).is_empty(), "nothing is suggested: {why:#}");
    for one in suggestions(why) {
        assert!(one["words"].as_str().is_some_and(|words| !words.is_empty()), "{one:#}");
        for body in [changed(asked, &one["change"]), one["request"].clone()] {
            let id = site.launch(body).await;
            site.until(&id, "running").await;
            site.terminate(&id).await;
            site.until(&id, "terminated").await;
        }
    }
}

/// What the suggestions change in this field.
fn changes_of<'w>(why: &'w Value, field: &str) -> Vec<&'w Value> {
    suggestions(why).iter().filter_map(|one| one["change"].get(field)).collect()
}

fn check<'w>(why: &'w Value, name: &str) -> &'w Value {
    let checks = why["tree"]["capacity"]["checks"].as_array().expect("checks");
    checks.iter().find(|one| one["check"] == name).unwrap_or_else(|| panic!("{name}: {why:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn short_of_vcpus_the_closest_and_the_largest_type_that_fit_are_suggested() {
    let site = small_hosts(3).await;
    let busy = site.launch(json!({ "instance_type": "c5.xlarge", "zone": "zone-a" })).await;
    site.until(&busy, "running").await;
    let asked = json!({ "instance_type": "c5.4xlarge", "tags": { "Name": "web" } });
    let why = refused(&site, &asked, "InsufficientInstanceCapacity").await;
    assert!(
        why["failed"]["message"]
            .as_str()
            .is_some_and(|m| m.contains("8 vCPUs and 16 GiB in zone-")),
        "{why:#}"
    );
    assert_eq!(why["failed"]["step"], "capacity");
    let short = check(&why, "vcpus");
    assert_eq!((&short["hosts"], &short["short_by"]["least"]), (&json!(3), &json!(8)), "{why:#}");
    assert_eq!(short["short_by"]["most"], 12, "{why:#}");
    assert_eq!(why["tree"]["capacity"]["nearest"]["short_by"]["vcpus"], 8, "{why:#}");
    assert_eq!(changes_of(&why, "instance_type"), ["c5.2xlarge"], "closest and largest in one");
    all_run(&site, &asked, &why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn short_of_memory_it_is_memory_that_binds() {
    let site = small_hosts(3).await;
    let asked = json!({ "instance_type": "r5.xlarge" });
    let why = refused(&site, &asked, "InsufficientInstanceCapacity").await;
    assert_eq!(check(&why, "memory")["short_by"]["least"], 16_384, "{why:#}");
    assert_eq!(why["tree"]["capacity"]["binds"], json!({ "check": "memory", "lets_through": 3 }));
    all_run(&site, &asked, &why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_gpus_of_the_model_those_of_another_are_suggested_and_of_too_many_fewer() {
    let site = Site::with_hosts(12).await;
    let asked = json!({ "instance_type": "p3.2xlarge" });
    let why = refused(&site, &asked, "InsufficientInstanceCapacity").await;
    assert_eq!(check(&why, "gpu_model")["hosts"], 12, "{why:#}");
    assert!(
        changes_of(&why, "instance_type")
            .iter()
            .any(|of| of.as_str().unwrap().starts_with("g4dn."))
    );
    all_run(&site, &asked, &why).await;
    let asked = json!({ "instance_type": "g4dn.12xlarge", "zone": "zone-c" });
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.push(site.launch(json!({ "instance_type": "g4dn.xlarge", "zone": "zone-c" })).await);
    }
    for id in &taken {
        site.until(id, "running").await;
    }
    let why = refused(&site, &asked, "InsufficientInstanceCapacity").await;
    assert!(
        suggestions(&why)
            .iter()
            .any(|one| { one["words"].as_str().is_some_and(|words| words.contains("fewer GPUs")) }),
        "{why:#}"
    );
    all_run(&site, &asked, &why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_zone_without_room_another_is_suggested() {
    let site = small_hosts(6).await;
    let asked = json!({ "instance_type": "t3.micro", "zone": "zone-z" });
    let why = refused(&site, &asked, "InsufficientInstanceCapacity").await;
    assert_eq!(check(&why, "zone")["hosts"], 6, "{why:#}");
    assert!(
        why["failed"]["message"].as_str().is_some_and(|m| m.contains("it would fit in zone-a"))
    );
    assert_eq!(why["tree"]["capacity"]["binds"]["check"], "zone", "{why:#}");
    all_run(&site, &asked, &why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_hosts_are_drained_it_is_said_and_once_they_are_back_that_it_would_fit() {
    let site = small_hosts(3).await;
    let host = |state: &str| json!({ "state": state });
    let (status, _) = site.send(Method::PUT, "/v1/hosts/host-0001", Some(host("draining"))).await;
    assert_eq!(status, StatusCode::OK);
    let asked = json!({ "instance_type": "t3.micro", "zone": "zone-a" });
    let why = refused(&site, &asked, "InsufficientInstanceCapacity").await;
    let drained = check(&why, "state");
    assert_eq!((&drained["state"], &drained["hosts"]), (&json!("draining"), &json!(1)));
    assert_eq!(why["tree"]["capacity"]["nearest"]["host"], "host-0001", "{why:#}");
    all_run(&site, &asked, &why).await;
    site.send(Method::PUT, "/v1/hosts/host-0001", Some(host("active"))).await;
    let id = why["instance_id"].as_str().expect("an id");
    let later = site.get(&format!("/v1/instances/{id}/why")).await;
    assert_eq!((&later["fits_now"], &later["failed"]), (&json!(true), &why["failed"]));
    assert_eq!(later["suggestions"], json!([]));
    assert!(later["summary"].as_str().is_some_and(|words| words.contains("now it would fit")));
}

async fn subnet(site: &Site, zone: &str, cidr: &str) -> String {
    let body = json!({ "zone": zone, "cidr_block": cidr });
    let (status, made) = site.send(Method::POST, "/v1/subnets", Some(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made["subnet_id"].as_str().expect("an id").to_owned()
}

/// Takes every address of the subnet.
async fn fill(site: &Site, subnet_id: &str) {
    let asked = json!({ "instance_type": "t3.nano", "subnet_id": subnet_id, "count": 11 });
    let (_, launched) = site.send(Method::POST, "/v1/instances", Some(asked)).await;
    for one in launched["instances"].as_array().expect("instances") {
        site.until(one["instance_id"].as_str().expect("an id"), "running").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_full_subnet_another_is_suggested_in_the_same_zone_first() {
    let site = Site::with_hosts(6).await;
    let full = subnet(&site, "zone-a", "10.0.0.0/28").await;
    let other = subnet(&site, "zone-a", "10.0.1.0/28").await;
    fill(&site, &full).await;
    let asked = json!({ "instance_type": "t3.micro", "subnet_id": full });
    let why = refused(&site, &asked, "InsufficientFreeAddressesInSubnet").await;
    assert_eq!(why["failed"]["step"], "network");
    let zone = &why["tree"]["network"]["zones"][0];
    assert_eq!((&zone["check"], &zone["addresses"]["free"]), (&json!("addresses"), &json!(0)));
    assert_eq!(zone["addresses"]["leased"], 11, "{why:#}");
    assert!(changes_of(&why, "subnet_id").contains(&&json!(other)), "{why:#}");
    all_run(&site, &asked, &why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_address_that_is_taken_any_other_is_suggested() {
    let site = Site::with_hosts(6).await;
    let taken = site.launch_micro().await;
    let taken = site.until(&taken, "running").await;
    let asked = json!({
        "instance_type": "t3.micro",
        "subnet_id": taken["subnet_id"],
        "private_ip": taken["private_ip"],
    });
    let why = refused(&site, &asked, "InvalidIPAddress.InUse").await;
    let zone = &why["tree"]["network"]["zones"][0];
    assert_eq!(zone["check"], "private_ip", "{why:#}");
    assert!(
        zone["reason"]["message"]
            .as_str()
            .is_some_and(|m| { m.contains(taken["instance_id"].as_str().expect("an id")) })
    );
    assert_eq!(suggestions(&why)[0]["change"], json!({ "private_ip": null }), "{why:#}");
    all_run(&site, &asked, &why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_volume_that_is_too_large_a_smaller_one_and_another_type_are_suggested() {
    let gp3 = PoolSize { gib: 800, iops: 600_000 };
    let pool_sizes = PoolSizes { gp3, ..PoolSizes::default() };
    let site = Site::start(PlaneOptions { pool_sizes, ..options(6) }).await;
    let volume = json!({ "device": "/dev/sdf", "size_gib": 300 });
    let asked = json!({ "instance_type": "t3.micro", "volumes": [volume] });
    let why = refused(&site, &asked, "InsufficientVolumeCapacity").await;
    let zones = why["tree"]["storage"]["zones"].as_array().expect("zones");
    assert!(zones.iter().all(|zone| zone["short"]["check"] == "size_gib"), "{why:#}");
    assert_eq!(zones[0]["short"]["short_by"], 200, "{why:#}");
    let offered: Vec<(&Value, &Value)> = changes_of(&why, "volumes")
        .iter()
        .map(|volumes| (&volumes[1]["size_gib"], &volumes[1]["volume_type"]))
        .collect();
    assert!(offered.contains(&(&json!(100), &json!("gp3"))), "{offered:?}");
    assert!(offered.contains(&(&json!(300), &json!("st1"))), "{offered:?}");
    all_run(&site, &asked, &why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_launch_named_and_is_gone_since_is_left_out() {
    let site = Site::with_hosts(6).await;
    site.send(Method::POST, "/v1/roles", Some(json!({ "name": "web" }))).await;
    let group = json!({ "name": "web", "description": "for the web" });
    let (_, group) = site.send(Method::POST, "/v1/security-groups", Some(group)).await;
    let group = group["group_id"].as_str().expect("an id");
    let asked = json!({
        "instance_type": "t3.micro", "role": "web", "security_group_ids": [group],
    });
    // Nobody holds credentials of the role yet when it goes, and the group is missed first.
    site.plane.bus().pause("network");
    site.plane.bus().pause("security");
    let id = site.launch(asked.clone()).await;
    for path in [format!("/v1/security-groups/{group}"), "/v1/roles/web".to_owned()] {
        let (status, gone) = site.send(Method::DELETE, &path, None).await;
        assert!(status.is_success(), "{path}: {gone}");
    }
    site.plane.bus().resume("network");
    site.until(&id, "shutting-down").await;
    site.plane.bus().resume("security");
    site.until(&id, "terminated").await;
    let why = site.get(&format!("/v1/instances/{id}/why")).await;
    assert_eq!(why["tree"]["request"]["code"], "InvalidGroup.NotFound", "{why:#}");
    assert_eq!(why["fits_now"], false, "{why:#}");
    let change = json!({ "role": null, "security_group_ids": null });
    assert_eq!(suggestions(&why)[0]["change"], change, "{why:#}");
    all_run(&site, &asked, &why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_change_does_not_do_two_are_suggested() {
    let site = small_hosts(6).await;
    let full = subnet(&site, "zone-a", "10.0.0.0/28").await;
    let asked = json!({ "instance_type": "t3.nano", "subnet_id": full, "private_ip": "10.0.0.5" });
    let id = site.launch(asked).await;
    site.until(&id, "running").await;
    let asked =
        json!({ "instance_type": "m5.4xlarge", "subnet_id": full, "private_ip": "10.0.0.5" });
    let why = refused(&site, &asked, "InsufficientInstanceCapacity").await;
    for one in suggestions(&why) {
        assert!(one["change"]["instance_type"].is_string(), "{why:#}");
        assert!(one["change"].get("private_ip").is_some_and(Value::is_null), "{why:#}");
    }
    all_run(&site, &asked, &why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_broken_step_it_is_said_what_is_awaited_and_how_many_are_before() {
    let site = Site::with_hosts(6).await;
    let running = site.launch_micro().await;
    site.until(&running, "running").await;
    site.plane.bus().break_function("network", "broken by the test");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(site.launch_micro().await);
        // Ids grow with the milliseconds: no two of these are of the same.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let path = format!("/v1/instances/{}/why", ids[2]);
    let mut why = site.get(&path).await;
    for _ in 0..3_000 {
        if why["waits"]["for"] == json!(["network"]) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        why = site.get(&path).await;
    }
    let waits = &why["waits"];
    assert_eq!(waits["for"], json!(["network"]), "{why:#}");
    assert_eq!(waits["queue"], json!({ "before": 2, "at_least": false }), "{why:#}");
    let shown = site.get(&format!("/v1/instances/{}", ids[2])).await;
    assert_eq!(waits["deadline"], shown["pending"]["deadline"]);
    // Without their last letter, moments with and without fractions are in the order of time.
    let moment = |value: &Value| value.as_str().expect("a moment").trim_end_matches('Z').to_owned();
    let moments = [&shown["launch_time"], &waits["since"], &why["as_of"]].map(moment);
    assert!(moments.is_sorted(), "{moments:?}");
    assert_eq!(why["fits_now"], true, "{why:#}");
    assert!(why["tree"].get("capacity").is_none() && why["tree"].get("network").is_some());
    site.terminate(&ids[0]).await;
    let why = site.get(&path).await;
    assert_eq!(why["waits"]["queue"]["before"], 1, "what is asked to end is before nobody");
    site.plane.bus().mend("network");
    for id in &ids[1..] {
        site.until(id, "running").await;
    }
    let why = site.get(&path).await;
    assert!(why.get("waits").is_none() && why.get("tree").is_none(), "{why:#}");
    assert!(why["summary"].as_str().is_some_and(|words| words.contains("running")), "{why:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_user_has_ended_did_not_fail_and_who_asks_for_nothing_is_told_so() {
    let site = Site::with_hosts(3).await;
    let id = site.launch_micro().await;
    site.until(&id, "running").await;
    site.terminate(&id).await;
    site.until(&id, "terminated").await;
    let why = site.get(&format!("/v1/instances/{id}/why")).await;
    assert!(why.get("failed").is_none() && why.get("tree").is_none(), "{why:#}");
    assert!(why["summary"].as_str().is_some_and(|words| words.contains("User initiated")));
    let (status, body) = site.send(Method::GET, "/v1/instances/i-0/why", None).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (StatusCode::BAD_REQUEST, &json!("InvalidInstanceID.Malformed"))
    );
}
