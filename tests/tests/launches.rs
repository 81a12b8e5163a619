//! Launches from end to end, through the api: to running, refused, terminated at every point, many
//! at once, with every event twice and in any order.

use axum::http::{Method, StatusCode};
use eventplane_domain::Tenant;
use eventplane_local::bus::BusOptions;
use eventplane_tests::books::Books;
use eventplane_tests::site::Site;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

async fn books(site: &Site) -> Books {
    // Until all that was published is handled: a paused function keeps its messages.
    let idle = tokio::time::timeout(Duration::from_secs(30), site.plane.bus().idle());
    idle.await.expect("the bus comes to rest");
    Books::read(&**site.plane.store(), &Tenant::local()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_runs_and_its_termination_leaves_nothing() {
    let site = Site::with_hosts(12).await;
    let id = site.launch_micro().await;
    let shown = site.until(&id, "running").await;
    assert!(shown["placement"]["host"].is_string(), "{shown:#}");
    assert!(shown["private_ip"].as_str().is_some_and(|ip| ip.starts_with("172.31.")), "{shown:#}");
    assert_eq!(shown["volumes"].as_array().map(Vec::len), Some(1), "{shown:#}");
    books(&site).await.check();
    let (_, answer) = site.send(Method::DELETE, &format!("/v1/instances/{id}"), None).await;
    assert_eq!(answer["previous_state"], "running");
    assert_ne!(site.get(&format!("/v1/instances/{id}")).await["state"], "running");
    let shown = site.until(&id, "terminated").await;
    assert_eq!(shown["state_reason"]["code"], "Client.UserInitiatedShutdown");
    books(&site).await.check_nothing_is_held();
    let events = site.get(&format!("/v1/instances/{id}/events")).await;
    let told: Vec<String> = events["events"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| format!("{} {}", line["step"], line["what"]).replace('"', ""))
        .collect();
    for line in [
        "api requested",
        "capacity taken",
        "network taken",
        "storage taken",
        "security taken",
        "handoff handed off",
        "api termination requested",
        "handoff withdrawing",
        "handoff withdrawn",
        "capacity given back for good",
        "instances terminated",
    ] {
        assert!(told.iter().any(|told| told == line), "{line} is missing in {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_in_the_middle_come_in_every_order() {
    let site = Site::with_hosts(6).await;
    let bus = site.plane.bus();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let functions = ["network", "storage", "security"];
        for function in functions {
            assert!(bus.pause(function));
        }
        let id = site.launch_micro().await;
        for step in order.map(|n| functions[n]) {
            assert_eq!(site.get(&format!("/v1/instances/{id}")).await["state"], "pending");
            bus.resume(step);
            until_answered(&site, &id, step).await;
        }
        site.until(&id, "running").await;
        site.terminate(&id).await;
        site.until(&id, "terminated").await;
    }
    books(&site).await.check_nothing_is_held();
}

/// Waits until the step's line is in the timeline.
async fn until_answered(site: &Site, id: &str, step: &str) {
    for _ in 0..3_000 {
        let events = site.get(&format!("/v1/instances/{id}/events")).await;
        let lines = events["events"].as_array().expect("lines");
        if lines.iter().any(|line| line["step"] == step) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{step} did not answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_twice_and_in_any_order_changes_nothing() {
    let bus =
        BusOptions { duplicates_percent: 100, is_shuffled: true, seed: 7, ..BusOptions::default() };
    let site = Site::with_bus(12, bus).await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(site.launch_micro().await);
    }
    for id in &ids {
        site.until(id, "running").await;
    }
    books(&site).await.check();
    for id in &ids {
        site.terminate(id).await;
        site.terminate(id).await;
    }
    for id in &ids {
        site.until(id, "terminated").await;
    }
    books(&site).await.check_nothing_is_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_at_each_step_gives_everything_back_and_says_why() {
    let site = Site::with_hosts(12).await;
    let huge = json!({ "volume_type": "io2", "size_gib": 65_536, "iops": 100 });
    // Each of a pool's eight shards has room for one of them.
    let huge: Vec<Value> = vec![huge; 9];
    let taken = site.launch_micro().await;
    let taken = site.until(&taken, "running").await;
    let role = json!({ "name": "web" });
    site.send(Method::POST, "/v1/roles", Some(role)).await;
    let cases = [
        (json!({ "instance_type": "p5.48xlarge" }), "InsufficientInstanceCapacity", "12 hosts"),
        (
            json!({
                "instance_type": "t3.micro",
                "subnet_id": taken["subnet_id"],
                "private_ip": taken["private_ip"],
            }),
            "InvalidIPAddress.InUse",
            "172.31.",
        ),
        (
            json!({ "instance_type": "t3.micro", "volumes": huge }),
            "InsufficientVolumeCapacity",
            "GiB",
        ),
    ];
    for (asked, code, word) in cases {
        let id = site.launch(asked).await;
        let shown = site.until(&id, "terminated").await;
        let reason = &shown["state_reason"];
        assert!(reason["code"].as_str().is_some_and(|said| said.ends_with(code)), "{reason}");
        assert!(reason["message"].as_str().is_some_and(|said| said.contains(word)), "{reason}");
        books(&site).await.check();
    }
    // The role goes between the api's look and the step's.
    site.plane.bus().pause("security");
    let id = site.launch(json!({ "instance_type": "t3.micro", "role": "web" })).await;
    let (status, _) = site.send(Method::DELETE, "/v1/roles/web", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    site.plane.bus().resume("security");
    let shown = site.until(&id, "terminated").await;
    assert!(shown["state_reason"]["message"].as_str().is_some_and(|said| said.contains("`web`")));
    site.terminate(taken["instance_id"].as_str().expect("an id")).await;
    site.until(taken["instance_id"].as_str().expect("an id"), "terminated").await;
    books(&site).await.check_nothing_is_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_termination_at_each_point_of_a_launch_gives_everything_back() {
    let site = Site::with_hosts(6).await;
    let bus = site.plane.bus();
    for stuck in ["capacity", "network", "storage", "security", "handoff", "instances"] {
        bus.pause(stuck);
        let id = site.launch_micro().await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        site.terminate(&id).await;
        assert_eq!(site.get(&format!("/v1/instances/{id}")).await["state"], "shutting-down");
        bus.resume(stuck);
        let shown = site.until(&id, "terminated").await;
        assert_eq!(shown["state_reason"]["code"], "Client.UserInitiatedShutdown", "{stuck}");
        books(&site).await.check_nothing_is_held();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_launches_64_at_a_time_get_a_room_and_an_address_each() {
    let site = Arc::new(Site::with_hosts(60).await);
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (site, next) = (site.clone(), next.clone());
        tasks.spawn(async move {
            while next.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 1_000 {
                let id = site.launch_micro().await;
                site.until(&id, "running").await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no launch failed");
    }
    let books = books(&site).await;
    books.check();
    assert_eq!(books.accounts.len(), 1_000);
    assert_eq!(books.assignments.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_step_holds_up_only_its_own_and_goes_on_when_mended() {
    let site = Site::with_hosts(6).await;
    let before = site.launch_micro().await;
    site.until(&before, "running").await;
    site.plane.bus().break_function("network", "broken by the test");
    let id = site.launch_micro().await;
    until_answered(&site, &id, "storage").await;
    let shown = site.get(&format!("/v1/instances/{id}")).await;
    assert_eq!(
        (&shown["state"], &shown["pending"]["awaits"]),
        (&json!("pending"), &json!(["network"]))
    );
    site.plane.bus().mend("network");
    site.until(&id, "running").await;
    books(&site).await.check();
}
