//! What a launch and its termination cost, counted: write units, transactions, reads, events and
//! requests of queues. The plane is quiet: nothing is late, no host reports but what is new.

use async_trait::async_trait;
use eventplane_agent::{Fleet, FleetOptions, InProcess, Method, Transport};
use eventplane_api::{Api, Options};
use eventplane_engine::{Clock, Ports};
use eventplane_engine::{OsChance, SystemClock};
use eventplane_keys::LocalMasterKey;
use eventplane_local::bus::{BusOptions, LocalBus};
use eventplane_local::store::EmbeddedStore;
use eventplane_local::wiring::Wiring;
use eventplane_plane::{TABLES, handlers};
use eventplane_store::{Item, Key, Page, Query, Store, StoreFault, TransactError, Value, Write};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many launches are counted.
const LAUNCHES: u64 = 20;
/// The largest item that a usual launch writes, in bytes: one write unit of DynamoDB.
const ITEM_BYTES_MAX: usize = 1024;

/// What is counted, and what a launch to running and a termination may cost. A rise needs its reason
/// in the commit that makes it.
///
/// The first number of each pair is exact: what the cheapest of them costs while functions handle
/// one message at a time, so that no race is lost, on a host that stays in its class of room. The
/// second is the most that they may cost on the average while functions handle many at a time: two
/// of the three that join may look and decide again, and so may the five messages that change the
/// record when an instance ends (ten lost races, if all meet); an empty host often changes its class
/// (three items more).
const COSTS: [(&str, [u64; 2], [u64; 2]); 8] = [
    ("write units, as DynamoDB bills them", [30, 42], [37, 53]),
    ("items written", [16, 19], [20, 23]),
    ("transactions", [10, 13], [12, 22]),
    ("reads by functions", [12, 15], [15, 25]),
    ("events published", [7, 7], [8, 8]),
    ("messages into inboxes", [9, 9], [11, 11]),
    ("deliveries", [9, 9], [11, 11]),
    ("requests of queues", [27, 27], [33, 33]),
];

/// Keys with the largest size that each had.
type Sizes = Arc<Mutex<BTreeMap<Key, usize>>>;

/// The store of the functions or of the api: counts its reads, and remembers how large each item
/// was.
struct Counting {
    store: Arc<EmbeddedStore>,
    reads: AtomicU64,
    sizes: Sizes,
}

impl Counting {
    fn of(store: &Arc<EmbeddedStore>, sizes: &Sizes) -> Arc<Self> {
        let reads = AtomicU64::default();
        Arc::new(Counting { store: store.clone(), reads, sizes: sizes.clone() })
    }
}

/// The size of an item as DynamoDB counts it, at most; in bytes.
fn bytes(key: &Key, item: &Item) -> usize {
    let value = |value: &Value| match value {
        Value::N(n) => n.to_string().len() / 2 + 2,
        Value::S(text) => text.len(),
        Value::B(bytes) => bytes.len(),
        Value::Bool(_) => 1,
    };
    let attributes: usize = item.iter().map(|(name, of)| name.len() + value(of)).sum();
    attributes + key.partition.len() + key.sort.len() + 4
}

#[async_trait]
impl Store for Counting {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault> {
        self.reads.fetch_add(1, Relaxed);
        self.store.get(key).await
    }
    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        self.reads.fetch_add(1, Relaxed);
        self.store.batch_get(keys).await
    }
    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        self.reads.fetch_add(1, Relaxed);
        self.store.query(query).await
    }
    async fn transact(&self, writes: Vec<Write>) -> Result<(), TransactError> {
        let keys: Vec<Key> = writes.iter().map(|write| write.key.clone()).collect();
        self.store.transact(writes).await?;
        for (key, item) in keys.iter().zip(self.store.batch_get(&keys).await?) {
            let size = item.map_or(0, |item| bytes(key, &item));
            let mut sizes = self.sizes.lock().expect("no panic holds it");
            let largest = sizes.entry(key.clone()).or_default();
            *largest = size.max(*largest);
        }
        Ok(())
    }
}

/// A plane whose functions and api count for themselves.
struct Counted {
    store: Arc<EmbeddedStore>,
    bus: Arc<LocalBus>,
    functions: Arc<Counting>,
    http: InProcess,
    fleet: Fleet,
}

impl Counted {
    async fn start(bus: BusOptions) -> Counted {
        let store = Arc::new(EmbeddedStore::in_memory(TABLES).expect("a store"));
        let sizes = Sizes::default();
        let (functions, api) = (Counting::of(&store, &sizes), Counting::of(&store, &sizes));
        let chance = Arc::new(OsChance::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let bus = LocalBus::new(Wiring::built_in(), store.clone(), clock.clone(), bus);
        let ports = |store: &Arc<Counting>| Ports {
            store: store.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            chance: chance.clone(),
        };
        let master: Arc<dyn eventplane_keys::MasterKey> =
            Arc::new(LocalMasterKey::from_bytes("test", [7; 32], chance.clone()));
        let options = Options::default();
        let fleet =
            FleetOptions { start_ms: (0, 0), heartbeat_ms: 3_600_000, ..Default::default() };
        eventplane_network::seed(&*store, &options.tenant, &fleet.zones).await.expect("subnets");
        eventplane_storage::seed(&*store, &fleet.zones, options.pool_sizes).await.expect("pools");
        bus.start(handlers(&ports(&functions), &master, options.launch_deadline_ms));
        let http = InProcess(eventplane_api::router(Api {
            ports: ports(&api),
            waiter: store.clone(),
            dead_letters: bus.clone(),
            master,
            options,
        }));
        let fleet = Fleet::run(fleet, Arc::new(http.clone())).expect("hosts without memory");
        assert!(fleet.registered(Duration::from_secs(60)).await, "all hosts register");
        Counted { store, bus, functions, http, fleet }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Json>) -> Json {
        let body = body.map(|body| body.to_string().into_bytes());
        let answer = self.http.send(method, path, body).await.expect("an answer");
        assert!(answer.is_success(), "{path}: {answer:?}");
        answer.json().expect("JSON")
    }

    /// Waits until the instance is in `state` and every event is handled.
    async fn until(&self, id: &str, state: &str) {
        let path = format!("/v1/instances/{id}?until={state}&wait=30");
        let shown = self.send(Method::GET, &path, None).await;
        assert_eq!(shown["state"], state, "{shown:#}");
        self.bus.idle().await;
    }

    /// What has been counted so far, in the order of [`COSTS`].
    fn counts(&self) -> [u64; COSTS.len()] {
        let (store, bus) = (self.store.stats(), self.bus.stats());
        [
            store.write_units,
            store.items_written,
            store.transactions,
            self.functions.reads.load(Relaxed),
            bus.published,
            bus.sent,
            bus.deliveries,
            bus.queue_requests,
        ]
    }

    /// Launches one instance and terminates it: what each of the two has cost.
    async fn live_and_die(&self, round: u64) -> [[u64; COSTS.len()]; 2] {
        let before = self.counts();
        let token = format!("token-{round}");
        let asked = json!({ "instance_type": "t3.micro", "client_token": token });
        let answer = self.send(Method::POST, "/v1/instances", Some(asked)).await;
        let id = answer["instances"][0]["instance_id"].as_str().expect("an id");
        self.until(id, "running").await;
        let running = self.counts();
        self.send(Method::DELETE, &format!("/v1/instances/{id}"), None).await;
        self.until(id, "terminated").await;
        let ended = self.counts();
        [(running, before), (ended, running)]
            .map(|(after, before)| std::array::from_fn(|n| after[n] - before[n]))
    }

    /// What instances cost one after the other, after a first that nobody counts: it makes its
    /// tenant's keys.
    async fn costs(&self) -> Vec<[[u64; COSTS.len()]; 2]> {
        self.live_and_die(0).await;
        let mut costs = Vec::new();
        for round in 1..=LAUNCHES {
            costs.push(self.live_and_die(round).await);
        }
        costs
    }

    async fn stop(self) {
        self.fleet.stop().await;
        self.bus.stop().await;
    }
}

#[tokio::test]
async fn a_launch_and_a_termination_cost_what_the_table_says() {
    for concurrency in [1, 64] {
        let plane = Counted::start(BusOptions { concurrency, ..BusOptions::default() }).await;
        let costs = plane.costs().await;
        plane.stop().await;
        for (n, (what, launch, termination)) in COSTS.into_iter().enumerate() {
            for (phase, [least, most]) in [launch, termination].into_iter().enumerate() {
                let costs: Vec<u64> = costs.iter().map(|cost| cost[phase][n]).collect();
                let name = ["a launch", "a termination"][phase];
                let told = format!("{what} of {name}, {concurrency} at a time: {costs:?}");
                if concurrency == 1 {
                    assert_eq!(costs.iter().min(), Some(&least), "{told}");
                }
                assert!(costs.iter().sum::<u64>() <= most * LAUNCHES, "{told}");
            }
        }
    }
}

#[tokio::test]
async fn every_item_that_a_usual_launch_writes_is_a_kilobyte_at_most() {
    let plane = Counted::start(BusOptions::default()).await;
    let role = json!({ "name": "web-servers" });
    plane.send(Method::POST, "/v1/roles", Some(role)).await;
    let asked = json!({
        "instance_type": "m5.large",
        "zone": "zone-b",
        "role": "web-servers",
        "tags": { "Name": "web-17", "team": "payments" },
        "client_token": "0d7e1c1e-5a43-4b43-9d5c-3a4a9a1ff2f0",
        "volumes": [{ "size_gib": 100 }],
    });
    let answer = plane.send(Method::POST, "/v1/instances", Some(asked)).await;
    let id = answer["instances"][0]["instance_id"].as_str().expect("an id");
    plane.until(id, "running").await;
    plane.send(Method::DELETE, &format!("/v1/instances/{id}"), None).await;
    plane.until(id, "terminated").await;
    let sizes = plane.functions.sizes.lock().expect("no panic holds it").clone();
    plane.stop().await;
    assert!(sizes.len() > 10, "{sizes:?}");
    for (key, bytes) in sizes {
        assert!(bytes <= ITEM_BYTES_MAX, "{key} has {bytes} bytes");
    }
}
