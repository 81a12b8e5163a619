//! What a redrive would do, asked before it is done: every verdict, and that asking changes nothing.

use axum::http::{Method, StatusCode};
use eventplane_agent::{Fleet, InProcess};
use eventplane_domain::{InstanceId, Millis, Tenant};
use eventplane_engine::{Clock, Ports};
use eventplane_events::Entry;
use eventplane_instances::NUDGE_AFTER_MS;
use eventplane_local::bus::BusOptions;
use eventplane_store::{Item, ItemExt, Store, Write};
use eventplane_tests::books::Books;
use eventplane_tests::site::{Site, options};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

async fn site() -> Site {
    Site::with_bus(6, BusOptions { backoff_ms_max: 1, ..BusOptions::default() }).await
}

/// Waits until there are so many letters of a function, and answers them.
async fn letters(site: &Site, function: &str, many: usize) -> Vec<Value> {
    for _ in 0..3_000 {
        let listed = site.get(&format!("/v1/dead-letters?function={function}")).await;
        let listed = listed["dead_letters"].as_array().expect("letters").clone();
        if listed.len() >= many {
            return listed;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no {many} dead letters of {function}");
}

/// A launch whose message to `function` is a dead letter: both ids. The function is mended.
async fn with_a_letter(site: &Site, function: &str) -> (String, String) {
    site.plane.bus().break_function(function, "broken by the test");
    let id = site.launch_micro().await;
    let letter = letters(site, function, 1).await[0]["id"].as_str().expect("an id").to_owned();
    site.plane.bus().mend(function);
    site.plane.bus().idle().await;
    (id, letter)
}

async fn dry_run(site: &Site, letter: &str) -> Value {
    site.get(&format!("/v1/dead-letters/{letter}/dry-run")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_would_go_on_says_what_it_would_write_and_then_does() {
    let site = site().await;
    let (id, letter) = with_a_letter(&site, "storage").await;
    let ruled = dry_run(&site, &letter).await;
    assert_eq!((&ruled["verdict"], &ruled["function"]), (&json!("apply"), &json!("storage")));
    let writes = ruled["writes"].to_string();
    assert!(writes.contains(&format!("storage/default/{id}/receipt")), "{ruled:#}");
    assert_eq!(ruled["publishes"], json!(["VolumeProvisioned"]), "{ruled:#}");
    assert!(ruled["why"].as_str().expect("words").contains("it would write"), "{ruled:#}");
    // Where it came from.
    let shown = site.get(&format!("/v1/dead-letters/{letter}")).await;
    let cause = &shown["cause"];
    assert_eq!((&cause["event"], &cause["hop"]), (&json!("CapacityAllocated"), &json!(1)));
    assert_eq!((&cause["by"], &cause["instance"]), (&json!("eventplane.capacity"), &json!(id)));
    assert_eq!(cause["caused_by"], cause["correlation"], "the request itself led to it");
    assert_eq!(shown["received"], 5);
    let path = format!("/v1/dead-letters/{letter}/redrive");
    assert_eq!(site.send(Method::POST, &path, None).await.0, StatusCode::OK);
    site.until(&id, "running").await;
    let (status, gone) =
        site.send(Method::GET, &format!("/v1/dead-letters/{letter}/dry-run"), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{gone}");
    site.plane.shutdown().await;
}

/// A clock that runs ahead.
struct Ahead(Arc<dyn Clock>);

impl Clock for Ahead {
    fn now(&self) -> Millis {
        self.0.now().plus(NUDGE_AFTER_MS)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_a_nudge_has_overtaken_has_nothing_to_do_and_after_the_end_is_stale() {
    let site = site().await;
    let (id, letter) = with_a_letter(&site, "storage").await;
    let ports = site.plane.ports();
    let ahead = Ports { clock: Arc::new(Ahead(ports.clock.clone())), ..ports.clone() };
    assert_eq!(eventplane_sweeper::sweep(&ahead).await.expect("swept").nudged, 1);
    site.until(&id, "running").await;
    let ruled = dry_run(&site, &letter).await;
    assert_eq!(ruled["verdict"], "nothing to do", "{ruled:#}");
    assert_eq!(
        (&ruled["writes"], &ruled["publishes"]),
        (&json!([]), &json!(["VolumeProvisioned"]))
    );
    site.terminate(&id).await;
    site.until(&id, "terminated").await;
    let ruled = dry_run(&site, &letter).await;
    assert_eq!((&ruled["verdict"], &ruled["writes"]), (&json!("stale"), &json!([])), "{ruled:#}");
    assert!(ruled["why"].as_str().expect("words").contains(&format!("{id} has ended")));
    site.plane.shutdown().await;
}

/// Publishes what no function of ours would.
async fn publish(site: &Site, detail: &Value) {
    let entry = Entry {
        source: "eventplane.capacity".to_owned(),
        detail_type: "CapacityAllocated",
        detail: detail.to_string(),
    };
    site.plane.ports().bus.publish(vec![entry]).await.expect("published");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_fail_again_is_unsafe_and_says_why() {
    let site = site().await;
    let (id, unread) = with_a_letter(&site, "storage").await;
    let detail = site.get(&format!("/v1/dead-letters/{unread}")).await["message"]["detail"].clone();
    let mut newer = detail.clone();
    newer["metadata"]["schemaversion"] = json!("2.0");
    let mut looping = detail.clone();
    looping["metadata"]["hop"] = json!(33);
    for (message, why) in [
        (newer, "schema version 2.0"),
        (looping, "hop 33"),
        (json!({ "metadata": "garbage" }), "not an event"),
    ] {
        publish(&site, &message).await;
        let mut of_network = letters(&site, "network", 1).await;
        let letter = of_network.remove(0)["id"].as_str().expect("an id").to_owned();
        let ruled = dry_run(&site, &letter).await;
        assert_eq!(ruled["verdict"], "unsafe", "{ruled:#}");
        assert!(ruled["why"].as_str().is_some_and(|said| said.contains(why)), "{ruled:#}");
        // Away with it: nothing would come of it.
        let function = letter.split('.').next().expect("a function");
        let at = letter.split_once('.').expect("an id").1;
        let key = eventplane_store::Key::new("dead-letters", format!("@dead/{function}"), at);
        site.plane.store().transact(vec![Write::delete(key)]).await.expect("deleted");
    }
    // A fault of the step: what it has recorded cannot be read.
    let key =
        eventplane_storage::receipt_key(&Tenant::local(), &InstanceId::parse(&id).expect("id"));
    let nonsense = Write::put(key.clone(), Item::new().with("gen", "nonsense"));
    site.plane.store().transact(vec![nonsense]).await.expect("written");
    let ruled = dry_run(&site, &unread).await;
    assert_eq!(ruled["verdict"], "unsafe", "{ruled:#}");
    assert!(ruled["why"].as_str().is_some_and(|said| said.contains("not a receipt")), "{ruled:#}");
    site.plane.store().transact(vec![Write::delete(key)]).await.expect("deleted");
    assert_eq!(dry_run(&site, &unread).await["verdict"], "apply");
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_everything_counts_its_verdicts_and_changes_nothing_at_all() {
    let bus = BusOptions { backoff_ms_max: 1, ..BusOptions::default() };
    let site = Site::with_bus(0, bus).await;
    let hosts = Fleet::run(options(6).fleet, Arc::new(InProcess(site.plane.router())));
    let hosts = hosts.expect("no memory");
    assert!(hosts.registered(Duration::from_secs(60)).await);
    let (id, _) = with_a_letter(&site, "storage").await;
    site.plane.bus().break_function("network", "broken by the test");
    let second = site.launch_micro().await;
    letters(&site, "network", 1).await;
    site.plane.bus().mend("network");
    // Twice the same: the second of them would find the first one's receipt.
    let of_storage = letters(&site, "storage", 1).await;
    site.plane.bus().break_function("storage", "broken by the test");
    publish(&site, &of_storage[0]["message"]["detail"]).await;
    letters(&site, "storage", 2).await;
    site.plane.bus().mend("storage");
    site.plane.bus().idle().await;
    // What hosts report is written too.
    hosts.stop().await;
    site.plane.bus().idle().await;
    let state = async || {
        let books = Books::read(&**site.plane.store(), &Tenant::local()).await;
        let written = site.plane.store().stats().items_written;
        let bus = site.plane.bus().stats();
        let letters = site.get("/v1/dead-letters").await;
        let both = [&id, &second].map(|id| format!("/v1/instances/{id}/events"));
        let timelines = [site.get(&both[0]).await, site.get(&both[1]).await];
        (format!("{books:?} {bus:?}"), written, letters, timelines)
    };
    let before = state().await;
    let all = site.get("/v1/dead-letters/dry-run").await;
    assert_eq!(
        all["summary"],
        json!({ "apply": 2, "nothing to do": 1, "stale": 0, "unsafe": 0 }),
        "{all:#}"
    );
    assert_eq!(all["dead_letters"].as_array().map(Vec::len), Some(3));
    let of_network = site.get("/v1/dead-letters/dry-run?function=network").await;
    assert_eq!(of_network["summary"]["apply"], 1);
    for letter in all["dead_letters"].as_array().expect("letters") {
        dry_run(&site, letter["id"].as_str().expect("an id")).await;
    }
    assert_eq!(state().await, before);
    site.plane.shutdown().await;
}
