//! What a launch and its termination cost, counted: write and read units, transactions, events and
//! requests of queues. The plane is quiet: nothing is late, no host reports but what is new.
//!
//! What it has to be stands in `shared/cost`, which works out dollars from it.

use async_trait::async_trait;
use eventplane_agent::{Fleet, FleetOptions, InProcess, Method, Transport, registration};
use eventplane_api::{Api, Limits, Options};
use eventplane_cost::counts::{
    ASSIGNMENT_BYTES, Count, HEARTBEAT_EVERY_S, HOST, HostCounts, INBOXES, POLL_EVERY_S,
    READ_UNIT_BYTES, ROWS, SEEN_EVERY_S, SWEEP_SHARDS,
};
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

/// Keys with the largest size that each had.
type Sizes = Arc<Mutex<BTreeMap<Key, usize>>>;

/// The store of the functions, or of the api for some of its clients: counts what they read and
/// write, and remembers how large each item was.
struct Counting {
    store: Arc<EmbeddedStore>,
    reads: AtomicU64,
    /// Half read units: what an eventual read of up to 4 KB costs.
    read_halves: AtomicU64,
    /// Write units of tables; every item is a kilobyte at most.
    write_units: AtomicU64,
    sizes: Sizes,
}

impl Counting {
    fn of(store: &Arc<EmbeddedStore>, sizes: &Sizes) -> Arc<Self> {
        let [reads, read_halves, write_units] = Default::default();
        let (store, sizes) = (store.clone(), sizes.clone());
        Arc::new(Counting { store, reads, read_halves, write_units, sizes })
    }

    /// Counts the reading of so many bytes at once: two halves for each started 4 KB if it is
    /// consistent, one if not, and what is not there costs as much as the smallest.
    ///
    /// Source: "DynamoDB read and write operations", DynamoDB developer guide.
    fn has_read(&self, bytes: usize, is_consistent: bool) {
        let units = (bytes as u64).div_ceil(READ_UNIT_BYTES).max(1);
        self.read_halves.fetch_add(units * if is_consistent { 2 } else { 1 }, Relaxed);
    }

    /// Reads so far, their half units, and write units.
    fn counts(&self) -> [u64; 3] {
        [&self.reads, &self.read_halves, &self.write_units].map(|counter| counter.load(Relaxed))
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
        let item = self.store.get(key).await?;
        self.has_read(item.as_ref().map_or(0, |item| bytes(key, item)), true);
        Ok(item)
    }
    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        self.reads.fetch_add(1, Relaxed);
        let items = self.store.batch_get(keys).await?;
        // Each item of a batch is rounded up by itself.
        for (key, item) in keys.iter().zip(&items) {
            self.has_read(item.as_ref().map_or(0, |item| bytes(key, item)), true);
        }
        Ok(items)
    }
    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        self.reads.fetch_add(1, Relaxed);
        let page = self.store.query(query).await?;
        // A page is rounded up as a whole.
        let all = page.items.iter().map(|(key, item)| bytes(key, item)).sum();
        self.has_read(all, query.index.is_none());
        Ok(page)
    }
    async fn transact(&self, writes: Vec<Write>) -> Result<(), TransactError> {
        let each = if writes.len() > 1 { 2 } else { 1 };
        self.write_units.fetch_add(writes.len() as u64 * each, Relaxed);
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
    /// The api for who launches and terminates, and what it counts.
    users: (InProcess, Arc<Counting>),
    /// The api for who only looks and waits.
    watch: InProcess,
    /// The api for hosts that a test plays, and what it counts.
    played: (InProcess, Arc<Counting>),
    fleet: Fleet,
}

impl Counted {
    /// With so many hosts of a fleet.
    async fn start(bus: BusOptions, hosts: usize) -> Counted {
        let store = Arc::new(EmbeddedStore::in_memory(TABLES).expect("a store"));
        let sizes = Sizes::default();
        let [functions, users, watch, played, hosted] =
            std::array::from_fn(|_| Counting::of(&store, &sizes));
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
            FleetOptions { hosts, start_ms: (0, 0), heartbeat_ms: 3_600_000, ..Default::default() };
        eventplane_network::seed(&*store, &options.tenant, &fleet.zones).await.expect("subnets");
        eventplane_storage::seed(&*store, &fleet.zones, options.pool_sizes).await.expect("pools");
        bus.start(handlers(&ports(&functions), &master, options.launch_deadline_ms));
        let http = |store: &Arc<Counting>| {
            InProcess(eventplane_api::router(Api {
                ports: ports(store),
                waiter: store.store.clone(),
                dead_letters: bus.clone(),
                breakers: bus.clone(),
                archive: None,
                master: master.clone(),
                options: options.clone(),
                limits: Limits::off(),
            }))
        };
        let fleet = Fleet::run(fleet, Arc::new(http(&hosted))).expect("hosts without memory");
        assert!(fleet.registered(Duration::from_secs(60)).await, "all hosts register");
        let (users, watch, played) = ((http(&users), users), http(&watch), (http(&played), played));
        Counted { store, bus, functions, users, watch, played, fleet }
    }

    /// Launches or terminates.
    async fn ask(&self, method: Method, path: &str, body: Option<Json>) -> Json {
        send(&self.users.0, method, path, body).await
    }

    /// Waits until the instance is in `state` and every event is handled.
    async fn until(&self, id: &str, state: &str) {
        let path = format!("/v1/instances/{id}?until={state}&wait=30");
        let shown = send(&self.watch, Method::GET, &path, None).await;
        assert_eq!(shown["state"], state, "{shown:#}");
        self.bus.idle().await;
    }

    /// What has been counted so far, in the order of [`ROWS`].
    fn counts(&self) -> [u64; ROWS.len()] {
        let (store, bus) = (self.store.stats(), self.bus.stats());
        let [reads, read_halves, _] = self.functions.counts();
        let [request_reads, request_read_halves, request_write_units] = self.users.1.counts();
        ROWS.map(|row| match row.count {
            Count::WriteUnits => store.write_units,
            Count::ItemsWritten => store.items_written,
            Count::Transactions => store.transactions,
            Count::Reads => reads,
            Count::ReadHalves => read_halves,
            Count::Events => bus.published,
            Count::Messages => bus.sent,
            Count::Deliveries => bus.deliveries,
            Count::QueueRequests => bus.queue_requests,
            Count::RequestReads => request_reads,
            Count::RequestReadHalves => request_read_halves,
            Count::RequestWriteUnits => request_write_units,
        })
    }

    /// Launches one instance and terminates it: what each of the two has cost.
    async fn live_and_die(&self, round: u64) -> [[u64; ROWS.len()]; 2] {
        let before = self.counts();
        let token = format!("token-{round}");
        let asked = json!({ "instance_type": "t3.micro", "client_token": token });
        let answer = self.ask(Method::POST, "/v1/instances", Some(asked)).await;
        let id = answer["instances"][0]["instance_id"].as_str().expect("an id");
        self.until(id, "running").await;
        let running = self.counts();
        self.ask(Method::DELETE, &format!("/v1/instances/{id}"), None).await;
        self.until(id, "terminated").await;
        let ended = self.counts();
        [(running, before), (ended, running)]
            .map(|(after, before)| std::array::from_fn(|n| after[n] - before[n]))
    }

    /// What a request of a host that the test plays has read and written, and its answer.
    async fn play(&self, method: Method, path: &str, body: Option<Json>) -> ([u64; 2], Json) {
        let [_, read, written] = self.played.1.counts();
        let answer = send(&self.played.0, method, path, body).await;
        let [_, read_after, written_after] = self.played.1.counts();
        ([read_after - read, written_after - written], answer)
    }

    /// What instances cost one after the other, after a first that nobody counts: it makes its
    /// tenant's keys.
    async fn costs(&self) -> Vec<[[u64; ROWS.len()]; 2]> {
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

async fn send(http: &InProcess, method: Method, path: &str, body: Option<Json>) -> Json {
    let body = body.map(|body| body.to_string().into_bytes());
    let answer = http.send(method, path, body).await.expect("an answer");
    assert!(answer.is_success(), "{path}: {answer:?}");
    answer.json().expect("JSON")
}

#[tokio::test]
async fn a_launch_and_a_termination_cost_what_the_table_says() {
    for concurrency in [1, 64] {
        let plane = Counted::start(BusOptions { concurrency, ..BusOptions::default() }, 12).await;
        let costs = plane.costs().await;
        plane.stop().await;
        for (n, row) in ROWS.into_iter().enumerate() {
            for (phase, [least, most]) in [row.launch, row.termination].into_iter().enumerate() {
                let costs: Vec<u64> = costs.iter().map(|cost| cost[phase][n]).collect();
                let (what, name) = (row.what, ["a launch", "a termination"][phase]);
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
    let plane = Counted::start(BusOptions::default(), 12).await;
    let role = json!({ "name": "web-servers" });
    plane.ask(Method::POST, "/v1/roles", Some(role)).await;
    let asked = json!({
        "instance_type": "m5.large",
        "zone": "zone-b",
        "role": "web-servers",
        "tags": { "Name": "web-17", "team": "payments" },
        "client_token": "0d7e1c1e-5a43-4b43-9d5c-3a4a9a1ff2f0",
        "volumes": [{ "size_gib": 100 }],
    });
    let answer = plane.ask(Method::POST, "/v1/instances", Some(asked)).await;
    let id = answer["instances"][0]["instance_id"].as_str().expect("an id");
    plane.until(id, "running").await;
    plane.ask(Method::DELETE, &format!("/v1/instances/{id}"), None).await;
    plane.until(id, "terminated").await;
    let sizes = plane.functions.sizes.lock().expect("no panic holds it").clone();
    plane.stop().await;
    assert!(sizes.len() > 10, "{sizes:?}");
    for (key, bytes) in sizes {
        assert!(bytes <= ITEM_BYTES_MAX, "{key} has {bytes} bytes");
    }
}

#[tokio::test]
async fn a_host_costs_what_the_table_says() {
    let plane = Counted::start(BusOptions::default(), 0).await;
    let host = registration("played", 0, &["zone-a".to_owned()], None);
    let id = host.host_id.clone();
    plane.play(Method::POST, "/v1/hosts", Some(json!(host))).await;
    let (poll, report) = (format!("/v1/hosts/{id}/assignments"), format!("/v1/hosts/{id}/reports"));
    let says = |instances: Json| json!({ "complete": true, "revision": 1, "instances": instances });

    let ([poll_read_halves, written], set) = plane.play(Method::GET, &poll, None).await;
    assert_eq!((written, &set["wanted"]), (0, &json!([])));
    assert_eq!(set["poll_after_ms"], POLL_EVERY_S * 1_000);
    let ([heartbeat_read_halves, written], _) =
        plane.play(Method::POST, &report, Some(says(json!([])))).await;
    assert_eq!(written, 0, "it was heard of within the minute, when it registered");
    let changed = json!({ "complete": false, "revision": 1, "instances": [] });
    let ([report_read_halves, _], _) = plane.play(Method::POST, &report, Some(changed)).await;

    let asked = json!({ "instance_type": "t3.micro" });
    plane.ask(Method::POST, "/v1/instances", Some(asked)).await;
    plane.bus.idle().await;
    let ([_, offer_write_units], set) = plane.play(Method::GET, &poll, None).await;
    let wanted = &set["wanted"][0];
    let seen = json!([{ "tenant": wanted["tenant"], "instance_id": wanted["instance_id"],
        "generation": wanted["generation"], "state": "running" }]);
    let ([halves, _], news) = plane.play(Method::POST, &report, Some(says(seen))).await;
    assert_eq!(news["news"], 1);
    let instance_read_halves = halves - heartbeat_read_halves;
    plane.stop().await;
    let counted = HostCounts {
        poll_read_halves,
        report_read_halves,
        heartbeat_read_halves,
        instance_read_halves,
        offer_write_units,
    };
    assert_eq!(counted, HOST);
}

#[test]
fn what_the_costs_rest_on_is_so() {
    assert_eq!(INBOXES, Wiring::built_in().inboxes.len() as u64);
    assert_eq!(SWEEP_SHARDS, eventplane_instances::OPEN_SHARDS);
    assert_eq!(HEARTBEAT_EVERY_S * 1_000, FleetOptions::default().heartbeat_ms);
    assert_eq!(ASSIGNMENT_BYTES, ITEM_BYTES_MAX as u64);
    assert_eq!(SEEN_EVERY_S as i64 * 1_000, eventplane_capacity::seen::SEEN_EVERY_MS);
}
