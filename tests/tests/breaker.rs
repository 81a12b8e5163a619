//! Breakers: a function's events wait while its breaker is open, and everything else goes on.

use axum::http::{Method, StatusCode};
use eventplane_domain::{Millis, Tenant};
use eventplane_engine::{Clock, Ports};
use eventplane_instances::NUDGE_AFTER_MS;
use eventplane_local::bus::BusOptions;
use eventplane_plane::PlaneOptions;
use eventplane_tests::books::Books;
use eventplane_tests::site::{Site, options};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The books at rest.
async fn books(site: &Site) -> Books {
    let idle = tokio::time::timeout(Duration::from_secs(30), site.plane.bus().idle());
    idle.await.expect("the bus comes to rest");
    read(site).await
}

async fn set(site: &Site, function: &str, state: &str) -> Value {
    let path = format!("/v1/breakers/{function}");
    let (status, breaker) = site.send(Method::PUT, &path, Some(json!({ "state": state }))).await;
    assert_eq!(status, StatusCode::OK, "{breaker}");
    breaker
}

async fn breaker(site: &Site, function: &str) -> Value {
    let all = site.get("/v1/breakers").await;
    let all = all["breakers"].as_array().expect("breakers");
    assert_eq!(all.len(), 6, "one for each inbox: {all:?}");
    all.iter().find(|one| one["function"] == function).expect("it has a breaker").clone()
}

/// Waits until so many messages wait for the function.
async fn until_waiting(site: &Site, function: &str, messages: u64) {
    for _ in 0..3_000 {
        if breaker(site, function).await["waiting"] == messages {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{messages} messages never waited: {}", breaker(site, function).await);
}

/// Waits until the instance waits for `step` and for no other.
async fn until_it_awaits(site: &Site, id: &str, step: &str) {
    let mut shown = Value::Null;
    for _ in 0..3_000 {
        shown = site.get(&format!("/v1/instances/{id}")).await;
        if shown["pending"]["awaits"] == json!([step]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} does not wait for {step} alone: {shown:#}");
}

/// What of [capacity, network, storage, security] holds something for the instance.
fn holds(books: &Books, id: &str) -> [bool; 4] {
    let account = books.accounts.iter().find(|account| account.record.id.as_str() == id);
    let [capacity, network, storage, security] = &account.expect("it has a record").receipts;
    [
        capacity.as_ref().and_then(eventplane_capacity::placement).is_some(),
        network.as_ref().and_then(eventplane_network::lease).is_some(),
        storage.as_ref().is_some_and(|receipt| !eventplane_storage::volumes(receipt).is_empty()),
        security.as_ref().and_then(eventplane_security::identity).is_some(),
    ]
}

async fn no_letters(site: &Site) {
    assert_eq!(site.get("/v1/dead-letters").await["dead_letters"], json!([]));
}

async fn read(site: &Site) -> Books {
    Books::read(&**site.plane.store(), &Tenant::local()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_an_open_breaker_launches_wait_also_over_a_restart_and_then_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = Site::in_dir(6, dir.path()).await;
    let opened = set(&site, "network", "open").await;
    assert_eq!((&opened["state"], &opened["waiting"]), (&json!("open"), &json!(0)));
    assert!(opened["since"].is_string(), "{opened}");
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(site.launch_micro().await);
    }
    for id in &ids {
        until_it_awaits(&site, id, "network").await;
    }
    until_waiting(&site, "network", 5).await;
    let halfway = read(&site).await;
    for id in &ids {
        assert_eq!(holds(&halfway, id), [true, false, true, true], "the others have answered");
    }
    assert_eq!(set(&site, "network", "open").await["since"], opened["since"], "open is open");
    site.plane.shutdown().await;

    let site = Site::in_dir(6, dir.path()).await;
    until_waiting(&site, "network", 5).await;
    let still = breaker(&site, "network").await;
    assert_eq!((&still["state"], &still["since"]), (&json!("open"), &opened["since"]));
    for id in &ids {
        until_it_awaits(&site, id, "network").await;
    }
    no_letters(&site).await;

    let closed = set(&site, "network", "closed").await;
    assert!(["draining", "closed"].contains(&closed["state"].as_str().expect("a state")));
    for id in &ids {
        site.until(id, "running").await;
    }
    let books = books(&site).await;
    books.check();
    assert_eq!(books.assignments.len(), 5);
    assert_eq!(breaker(&site, "network").await["state"], "closed");
    no_letters(&site).await;
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_an_open_breaker_terminations_wait_for_that_give_back_alone() {
    let bus = BusOptions { backoff_ms_max: 1, ..BusOptions::default() };
    let site = Site::start(PlaneOptions { bus, ..options(6) }).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(site.launch_micro().await);
    }
    for id in &ids {
        site.until(id, "running").await;
    }
    set(&site, "network", "open").await;
    for id in &ids {
        site.terminate(id).await;
    }
    until_waiting(&site, "network", 5).await;
    let mut halfway = read(&site).await;
    // The others need nothing of network.
    while ids.iter().any(|id| holds(&halfway, id) != [false, true, false, false]) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        halfway = read(&site).await;
    }
    halfway.check();
    for id in &ids {
        assert_eq!(site.get(&format!("/v1/instances/{id}")).await["state"], "shutting-down");
    }
    set(&site, "network", "closed").await;
    for id in &ids {
        site.until(id, "terminated").await;
    }
    books(&site).await.check_nothing_is_held();
    no_letters(&site).await;
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_function_with_an_inbox_has_a_breaker_that_holds_launches_and_lets_them_go() {
    let site = Site::with_hosts(6).await;
    for function in ["capacity", "network", "storage", "security", "handoff", "instances"] {
        set(&site, function, "open").await;
        let id = site.launch_micro().await;
        for _ in 0..3_000 {
            if breaker(&site, function).await["waiting"] != json!(0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            site.get(&format!("/v1/instances/{id}")).await["state"],
            "pending",
            "{function}"
        );
        set(&site, function, "closed").await;
        site.until(&id, "running").await;
        site.terminate(&id).await;
        site.until(&id, "terminated").await;
    }
    books(&site).await.check_nothing_is_held();
    no_letters(&site).await;
    site.plane.shutdown().await;
}

/// A clock that runs ahead.
struct Ahead(Arc<dyn Clock>, i64);

impl Clock for Ahead {
    fn now(&self) -> Millis {
        self.0.now().plus(self.1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_waits_past_its_deadline_is_undone_as_far_as_the_breaker_lets_it() {
    let site = Site::start(PlaneOptions { launch_deadline_ms: 2_000, ..options(3) }).await;
    set(&site, "network", "open").await;
    let id = site.launch_micro().await;
    until_it_awaits(&site, &id, "network").await;
    tokio::time::sleep(Duration::from_millis(2_001)).await;
    let ports = site.plane.ports().clone();
    let clock = Arc::new(Ahead(ports.clock.clone(), NUDGE_AFTER_MS));
    eventplane_sweeper::sweep(&Ports { clock, ..ports }).await.expect("swept");
    while holds(&read(&site).await, &id) != [false; 4] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let state = site.get(&format!("/v1/instances/{id}")).await["state"].clone();
    assert_eq!(state, "shutting-down", "network has not answered");
    set(&site, "network", "closed").await;
    site.until(&id, "terminated").await;
    books(&site).await.check_nothing_is_held();
    no_letters(&site).await;
    site.plane.shutdown().await;
}
