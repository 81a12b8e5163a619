//! Dead letters by the many: redriving them all, twice at once and once more, and give-backs that are
//! parked.

use axum::http::{Method, StatusCode};
use eventplane_domain::Tenant;
use eventplane_engine::Publisher;
use eventplane_events::{Entry, KINDS};
use eventplane_local::bus::BusOptions;
use eventplane_plane::PlaneOptions;
use eventplane_storage::{PoolSize, PoolSizes};
use eventplane_tests::books::{Account, Books};
use eventplane_tests::site::{Site, options};
use serde_json::{Value, json};
use std::time::Duration;

/// Messages become dead letters at once here: the waits between two tries are short.
fn hasty(hosts: usize) -> PlaneOptions {
    let bus = BusOptions { backoff_ms_max: 1, ..BusOptions::default() };
    PlaneOptions { bus, ..options(hosts) }
}

async fn at_rest(site: &Site) {
    let idle = tokio::time::timeout(Duration::from_secs(30), site.plane.bus().idle());
    idle.await.expect("the bus comes to rest");
}

async fn books(site: &Site) -> Books {
    at_rest(site).await;
    Books::read(&**site.plane.store(), &Tenant::local()).await
}

async fn letters(site: &Site, of: &str) -> Vec<Value> {
    let listed = site.get(&format!("/v1/dead-letters{of}")).await;
    listed["dead_letters"].as_array().expect("letters").clone()
}

/// Waits until a function has so many dead letters of a kind: its host has to halt an instance before
/// anybody gives back.
async fn until_dead(site: &Site, function: &str, kind: &str, count: usize) {
    let mut listed = Vec::new();
    for _ in 0..3_000 {
        listed = letters(site, &format!("?function={function}")).await;
        if listed.iter().filter(|of| of["message"]["detail-type"] == kind).count() >= count {
            return at_rest(site).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{function} never had {count} dead letters of {kind}: {listed:#?}");
}

async fn redrive(site: &Site) -> u64 {
    let path = "/v1/dead-letters/redrive?limit=1000";
    let (status, answer) = site.send(Method::POST, path, Some(json!({}))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["redriven"].as_u64().expect("a number")
}

/// All that a user sees of these instances, and of what there is room for.
async fn seen(site: &Site, ids: &[String]) -> Vec<Value> {
    let mut seen = vec![site.get("/v1/capacity").await];
    for id in ids {
        for what in ["", "/events", "/audit"] {
            seen.push(site.get(&format!("/v1/instances/{id}{what}")).await);
        }
    }
    seen
}

/// The event that is a letter's message.
fn entry(letter: &Value) -> Entry {
    let message = &letter["message"];
    let kind = KINDS.iter().find(|kind| message["detail-type"] == kind.name);
    Entry {
        source: message["source"].as_str().expect("a source").to_owned(),
        detail_type: kind.expect("an event").name,
        detail: message["detail"].to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redriving_everything_twice_at_once_and_then_again_changes_nothing() {
    let site = Site::start(hasty(6)).await;
    let mut ends = Vec::new();
    for _ in 0..4 {
        ends.push(site.launch_micro().await);
    }
    for id in &ends {
        site.until(id, "running").await;
    }
    at_rest(&site).await;
    let broken = ["network", "storage", "instances"];
    for function in broken {
        site.plane.bus().break_function(function, "broken by the test");
    }
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(site.launch_micro().await);
    }
    for id in &ends {
        site.terminate(id).await;
    }
    for function in broken {
        until_dead(&site, function, "InstanceWithdrawn", 4).await;
    }
    let dead = letters(&site, "").await;
    let launches = dead.iter().filter(|of| of["message"]["detail-type"] == "CapacityAllocated");
    assert_eq!(launches.count(), 8, "four launches, two steps");
    assert!(dead.len() < 100, "the list has them all");

    for function in broken {
        site.plane.bus().mend(function);
    }
    let (one, other) = tokio::join!(redrive(&site), redrive(&site));
    assert_eq!(one + other, dead.len() as u64, "each is delivered by one of the two");
    for id in &runs {
        site.until(id, "running").await;
    }
    for id in &ends {
        site.until(id, "terminated").await;
    }
    books(&site).await.check();
    assert_eq!(letters(&site, "").await, Vec::<Value>::new());
    let all = [&runs[..], &ends].concat();
    let (before, started) = (seen(&site, &all).await, site.plane.fleet().stats().started);
    assert_eq!(started, 8, "each ran once");

    // Again: there is nothing left; and a queue that did not let go of a letter delivers it again.
    assert_eq!(redrive(&site).await, 0);
    let again = dead.iter().map(entry).collect();
    site.plane.bus().publish(again).await.expect("taken");
    books(&site).await.check();
    assert_eq!(seen(&site, &all).await, before);
    assert_eq!(site.plane.fleet().stats().started, started, "nothing runs twice");
    assert_eq!(letters(&site, "").await, Vec::<Value>::new());
    for id in &runs {
        site.terminate(id).await;
    }
    for id in &runs {
        site.until(id, "terminated").await;
    }
    books(&site).await.check_nothing_is_held();
    site.plane.shutdown().await;
}

/// How many volumes of [`volume`] the zone has room for.
const VOLUMES: u32 = 8;

/// A launch with a volume that is as large as a shard of its pool.
fn launch_with_volume() -> Value {
    let volume =
        json!({ "size_gib": 20, "volume_type": "io2", "iops": 1_000, "device": "/dev/sdf" });
    json!({ "instance_type": "t3.micro", "volumes": [volume] })
}

fn of<'b>(books: &'b Books, id: &str) -> &'b Account {
    let mut accounts = books.accounts.iter();
    accounts.find(|account| account.record.id.as_str() == id).expect("it has a record")
}

/// Pools for [`VOLUMES`] volumes, all of them taken; the instances.
async fn full_site() -> (Site, Vec<String>) {
    let io2 = PoolSize { gib: VOLUMES * 20, iops: VOLUMES * 1_000 };
    let site = Site::start(PlaneOptions {
        zones: vec!["zone-a".to_owned()],
        pool_sizes: PoolSizes { io2, ..PoolSizes::default() },
        ..hasty(4)
    })
    .await;
    let mut ids = Vec::new();
    for _ in 0..VOLUMES {
        ids.push(site.launch(launch_with_volume()).await);
    }
    for id in &ids {
        site.until(id, "running").await;
    }
    (site, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_give_back_that_keeps_failing_is_parked_and_what_it_holds_is_not_used_again() {
    let (site, ids) = full_site().await;
    site.plane.bus().break_function("storage", "the volume is stuck");
    let parked = &ids[0];
    site.terminate(parked).await;
    until_dead(&site, "storage", "InstanceWithdrawn", 1).await;
    // It is seen, with the reason, and only there.
    let of_storage = letters(&site, "?function=storage").await;
    assert_eq!(of_storage.len(), 1, "{of_storage:#?}");
    assert_eq!(of_storage[0]["message"]["detail-type"], "InstanceWithdrawn");
    assert_eq!(of_storage[0]["message"]["detail"]["metadata"]["subject"], json!(parked));
    assert_eq!(of_storage[0]["reason"], "the volume is stuck");
    assert_eq!(letters(&site, "").await, of_storage, "nobody else has one");
    // The three others have given back.
    let halfway = books(&site).await;
    halfway.check();
    let [capacity, network, storage, security] = &of(&halfway, parked).receipts;
    assert_eq!(capacity.as_ref().and_then(eventplane_capacity::placement), None);
    assert_eq!(network.as_ref().and_then(eventplane_network::lease), None);
    assert!(security.as_ref().and_then(eventplane_security::identity).is_none());
    assert_eq!(storage.as_ref().map(|held| eventplane_storage::volumes(held).len()), Some(2));
    assert_eq!(site.get(&format!("/v1/instances/{parked}")).await["state"], "shutting-down");

    // Nothing of it is given to anybody else, also once storage works again.
    site.plane.bus().mend("storage");
    let refused = site.launch(launch_with_volume()).await;
    let shown = site.until(&refused, "terminated").await;
    assert_eq!(shown["state_reason"]["code"], "Server.InsufficientVolumeCapacity", "{shown:#}");
    let others = site.launch_micro().await;
    site.until(&others, "running").await;
    books(&site).await.check();
    assert_eq!(site.get(&format!("/v1/instances/{parked}")).await["state"], "shutting-down");

    assert_eq!(redrive(&site).await, 1);
    site.until(parked, "terminated").await;
    let now_fits = site.launch(launch_with_volume()).await;
    site.until(&now_fits, "running").await;
    let all = [&ids[1..], &[others, now_fits]].concat();
    for id in &all {
        site.terminate(id).await;
    }
    for id in &all {
        site.until(id, "terminated").await;
    }
    books(&site).await.check_nothing_is_held();
    assert_eq!(letters(&site, "").await, Vec::<Value>::new());
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_give_back_that_any_step_cannot_make_stays_its_own_until_it_is_redriven() {
    let site = Site::start(hasty(6)).await;
    for function in ["capacity", "network", "storage", "security"] {
        let id = site.launch_micro().await;
        site.until(&id, "running").await;
        site.plane.bus().break_function(function, "broken by the test");
        site.terminate(&id).await;
        until_dead(&site, function, "InstanceWithdrawn", 1).await;
        let parked = letters(&site, &format!("?function={function}")).await;
        assert_eq!((parked.len(), letters(&site, "").await.len()), (1, 1), "{function}");
        assert_eq!(parked[0]["reason"], "broken by the test");
        let state = site.get(&format!("/v1/instances/{id}")).await["state"].clone();
        assert_eq!(state, "shutting-down", "{function}");
        books(&site).await.check();
        site.plane.bus().mend(function);
        assert_eq!(redrive(&site).await, 1);
        site.until(&id, "terminated").await;
        books(&site).await.check_nothing_is_held();
    }
    site.plane.shutdown().await;
}
