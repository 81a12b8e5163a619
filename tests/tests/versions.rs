//! Teams deploy independently: a step's next version beside the one that there is, and back again.
//!
//! The next version is the same step in a world that writes as a later one might: its events have a
//! higher minor version and fields that nobody knows, its receipts an attribute that nobody knows.

use async_trait::async_trait;
use axum::http::{Method, StatusCode};
use eventplane_domain::{InstanceId, Millis, Tenant};
use eventplane_engine::{Clock, Failure, Fault, Handler, Ports, Publisher};
use eventplane_events::Entry;
use eventplane_instances::NUDGE_AFTER_MS;
use eventplane_local::bus::BusOptions;
use eventplane_plane::{PlaneOptions, handlers};
use eventplane_store::{
    Action, Item, ItemExt, Key, Page, Query, Store, StoreFault, TransactError, Update, Write,
};
use eventplane_tests::books::Books;
use eventplane_tests::site::{Site, options};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The name of what no reader of today knows.
const UNKNOWN: &str = "colour";

/// A bus whose events are of another version.
struct LaterBus {
    bus: Arc<dyn Publisher>,
    version: &'static str,
}

#[async_trait]
impl Publisher for LaterBus {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        let later = |entry: Entry| {
            let mut detail: Value = serde_json::from_str(&entry.detail).expect("JSON");
            detail["metadata"]["schemaversion"] = json!(self.version);
            detail["metadata"][UNKNOWN] = json!({ "of": ["metadata"] });
            detail["data"][UNKNOWN] = json!("of data");
            Entry { detail: detail.to_string(), ..entry }
        };
        self.bus.publish(entries.into_iter().map(later).collect()).await
    }
}

/// A store in which receipts get an attribute more.
struct LaterStore(Arc<dyn Store>);

#[async_trait]
impl Store for LaterStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault> {
        self.0.get(key).await
    }
    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        self.0.batch_get(keys).await
    }
    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        self.0.query(query).await
    }
    async fn transact(&self, mut writes: Vec<Write>) -> Result<(), TransactError> {
        for write in writes.iter_mut().filter(|write| write.key.sort == "receipt") {
            match &mut write.action {
                Action::Put(item) => {
                    item.insert(UNKNOWN.to_owned(), "blue".into());
                }
                Action::Update(updates) => updates.push(Update::set(UNKNOWN, "blue")),
                Action::Delete | Action::Check => {}
            }
        }
        self.0.transact(writes).await
    }
}

fn later(ports: &Ports, version: &'static str) -> Ports {
    Ports {
        store: Arc::new(LaterStore(ports.store.clone())),
        bus: Arc::new(LaterBus { bus: ports.bus.clone(), version }),
        ..ports.clone()
    }
}

/// Which of two versions gets the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deployed {
    Now,
    Next,
    /// One message this one, one message that.
    Both,
}

/// A step in two versions.
struct SideBySide {
    now: Arc<dyn Handler>,
    next: Arc<dyn Handler>,
    deployed: Mutex<Deployed>,
    messages: AtomicUsize,
    /// Which versions have handled something of an instance.
    handled: Mutex<BTreeMap<String, BTreeSet<Deployed>>>,
}

impl SideBySide {
    fn deploy(&self, deployed: Deployed) {
        *self.deployed.lock().expect("not poisoned") = deployed;
    }

    /// Which version gets this message.
    fn version_for(&self, message: &str) -> Deployed {
        let turn = self.messages.fetch_add(1, Ordering::Relaxed) % 2;
        let by = match *self.deployed.lock().expect("not poisoned") {
            Deployed::Both if turn == 0 => Deployed::Now,
            Deployed::Both => Deployed::Next,
            one => one,
        };
        let read: Value = serde_json::from_str(message).expect("JSON");
        let subject = read["detail"]["metadata"]["subject"].as_str().expect("a subject");
        let mut handled = self.handled.lock().expect("not poisoned");
        handled.entry(subject.to_owned()).or_default().insert(by);
        by
    }

    /// How many instances both versions have handled.
    fn shared(&self) -> usize {
        let handled = self.handled.lock().expect("not poisoned");
        handled.values().filter(|by| by.len() == 2).count()
    }
}

#[async_trait]
impl Handler for SideBySide {
    fn name(&self) -> &'static str {
        self.now.name()
    }
    async fn deliver(&self, message: &str, received: u32) -> Result<(), Failure> {
        match self.version_for(message) {
            Deployed::Next => self.next.deliver(message, received).await,
            _ => self.now.deliver(message, received).await,
        }
    }
}

/// A site on which `step` is there in two versions; the events of the next one are of `version`.
async fn site_with(step: &str, version: &'static str, bus: BusOptions) -> (Site, Arc<SideBySide>) {
    let options = PlaneOptions { bus, ..options(6) };
    let deadline_ms = options.launch_deadline_ms;
    let mut two = None;
    let site = Site::start_with(options, |ports, master| {
        let now = handlers(ports, master, deadline_ms);
        let next = handlers(&later(ports, version), master, deadline_ms);
        let mut functions: Vec<Arc<dyn Handler>> = Vec::new();
        for (now, next) in now.into_iter().zip(next) {
            if now.name() == step {
                let one = Arc::new(SideBySide {
                    now,
                    next,
                    deployed: Mutex::new(Deployed::Now),
                    messages: AtomicUsize::new(0),
                    handled: Mutex::default(),
                });
                functions.push(one.clone());
                two = Some(one);
            } else {
                functions.push(now);
            }
        }
        functions
    })
    .await;
    (site, two.expect("there is such a step"))
}

async fn books(site: &Site) -> Books {
    let idle = tokio::time::timeout(Duration::from_secs(30), site.plane.bus().idle());
    idle.await.expect("the bus comes to rest");
    Books::read(&**site.plane.store(), &Tenant::local()).await
}

async fn launch(site: &Site, instances: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..instances {
        ids.push(site.launch_micro().await);
    }
    for id in &ids {
        site.until(id, "running").await;
    }
    ids
}

async fn terminate(site: &Site, ids: &[String]) {
    for id in ids {
        site.terminate(id).await;
    }
    for id in ids {
        site.until(id, "terminated").await;
    }
}

/// How many of these have a receipt of `step` that its next version wrote last.
async fn receipts_of_next(site: &Site, step: &str, ids: &[String]) -> usize {
    let tenant = Tenant::local();
    let mut found = 0;
    for id in ids {
        let id = InstanceId::parse(id).expect("an id");
        let key = match step {
            "capacity" => eventplane_capacity::receipt_key(&tenant, &id),
            "network" => eventplane_network::receipt_key(&tenant, &id),
            "storage" => eventplane_storage::receipt_key(&tenant, &id),
            "security" => eventplane_security::receipt_key(&tenant, &id),
            "handoff" => eventplane_handoff::receipt_key(&tenant, &id),
            other => panic!("{other} has no receipts"),
        };
        let item = site.plane.store().get(&key).await.expect("a store").expect("a receipt");
        found += usize::from(item.text(UNKNOWN).is_some());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_of_a_step_work_side_by_side_and_the_older_goes_on_alone() {
    for step in ["capacity", "network", "storage", "security", "handoff"] {
        let bus = BusOptions { duplicates_percent: 50, is_shuffled: true, ..BusOptions::default() };
        let (site, two) = site_with(step, "1.1", bus).await;
        let before = launch(&site, 3).await;
        two.deploy(Deployed::Both);
        let meanwhile = launch(&site, 9).await;
        terminate(&site, &before[..2]).await;
        terminate(&site, &meanwhile[..5]).await;
        books(&site).await.check();
        assert!(two.shared() > 0, "{step}: no instance met both versions");

        two.deploy(Deployed::Next);
        let only_next = launch(&site, 3).await;
        terminate(&site, &before[2..]).await;
        books(&site).await.check();

        two.deploy(Deployed::Now);
        let left = [&meanwhile[5..], &only_next].concat();
        assert!(receipts_of_next(&site, step, &only_next).await > 0, "{step}");
        let after = launch(&site, 2).await;
        terminate(&site, &left).await;
        terminate(&site, &after).await;
        books(&site).await.check_nothing_is_held();
        let letters = site.get("/v1/dead-letters").await;
        assert_eq!(letters["dead_letters"], json!([]), "{step}");
        site.plane.shutdown().await;
    }
}

/// A clock that runs ahead.
struct Ahead(Arc<dyn Clock>, i64);

impl Clock for Ahead {
    fn now(&self) -> Millis {
        self.0.now().plus(self.1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_an_unknown_major_version_is_set_aside_by_who_hears_it_and_disturbs_nobody() {
    let (site, two) = site_with("storage", "2.0", BusOptions::default()).await;
    let runs = launch(&site, 1).await;
    two.deploy(Deployed::Next);
    let stuck = site.launch_micro().await;
    site.plane.bus().idle().await;
    let letters = site.get("/v1/dead-letters").await["dead_letters"].clone();
    assert_eq!(letters.as_array().map(Vec::len), Some(1), "{letters:#}");
    let letter = &letters[0];
    assert_eq!((&letter["function"], &letter["received"]), (&json!("handoff"), &json!(1)));
    assert_eq!(letter["message"]["detail-type"], "VolumeProvisioned");
    let reason = letter["reason"].as_str().expect("a reason");
    for part in ["schema version 2.0 of VolumeProvisioned", "1.0", "same first number"] {
        assert!(reason.contains(part), "{reason}");
    }
    let shown = site.get(&format!("/v1/instances/{stuck}")).await;
    assert_eq!(shown["state"], "pending", "{shown:#}");

    // Whoever meets the older version goes on, and so does what ran before.
    two.deploy(Deployed::Now);
    terminate(&site, &runs).await;
    let others = launch(&site, 2).await;
    // Redriven, the event is what it was. What storage has recorded is published anew, readable.
    let (status, answer) =
        site.send(Method::POST, "/v1/dead-letters/redrive", Some(json!({}))).await;
    assert_eq!((status, &answer["redriven"]), (StatusCode::OK, &json!(1)));
    site.plane.bus().idle().await;
    assert_eq!(site.get(&format!("/v1/instances/{stuck}")).await["state"], "pending");
    let ports = site.plane.ports().clone();
    let clock = Arc::new(Ahead(ports.clock.clone(), NUDGE_AFTER_MS));
    let nudged = eventplane_sweeper::sweep(&Ports { clock, ..ports }).await.expect("swept").nudged;
    assert_eq!(nudged, 1);
    site.until(&stuck, "running").await;
    let purge = json!({ "function": "handoff", "confirm": "handoff" });
    let (status, answer) = site.send(Method::POST, "/v1/dead-letters/purge", Some(purge)).await;
    assert_eq!((status, &answer["purged"]), (StatusCode::OK, &json!(1)), "{answer}");
    books(&site).await.check();
    terminate(&site, &[&others[..], &[stuck]].concat()).await;
    books(&site).await.check_nothing_is_held();
    assert_eq!(site.get("/v1/dead-letters").await["dead_letters"], json!([]));
    site.plane.shutdown().await;
}
