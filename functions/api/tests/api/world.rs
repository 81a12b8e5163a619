//! A small world around the router.

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use eventplane_api::{Api, LimitSettings, Limits, Options, router};
use eventplane_capacity::Capacity;
use eventplane_domain::{InstanceId, Millis, Tenant};
use eventplane_engine::{
    Breaker, BreakerState, Breakers, Chance, Clock, DeadLetter, DeadLetters, Dice, Fault, Function,
    Handler, LetInByNobody, Ports, Publisher, Step,
};
use eventplane_events::{Entry, Event, envelope, read};
use eventplane_handoff::Handoff;
use eventplane_instances::{Record, record_key};
use eventplane_keys::LocalMasterKey;
use eventplane_local::store::EmbeddedStore;
use eventplane_network::Networking;
use eventplane_security::Security;
use eventplane_storage::Storage;
use eventplane_store::{
    FaultKind, Item, Key, Page, Query, Store, StoreFault, TransactError, Write,
};
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tower::ServiceExt;

pub(crate) const NOW: Millis = Millis(1_795_000_000_000);
pub(crate) const ZONE: &str = "zone-a";

/// A bus that remembers what it took, and takes nothing while it is down.
#[derive(Default)]
pub(crate) struct Bus {
    events: Mutex<Vec<Event>>,
    down: AtomicBool,
}

#[async_trait]
impl Publisher for Bus {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        let total = entries.len();
        if self.down.load(Ordering::Relaxed) {
            return Err(Fault::Publish { failed: total, total, message: "down".to_owned() });
        }
        let read = |entry: &Entry| read(&message(entry)).expect("what is published is readable");
        self.events.lock().expect("not poisoned").extend(entries.iter().map(read));
        Ok(())
    }
}

fn message(entry: &Entry) -> String {
    envelope(entry, "0", "2026-11-18T00:26:40Z")
}

struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::Relaxed))
    }
}

struct Seeded(Mutex<Dice>);

impl Chance for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = self.0.lock().expect("not poisoned");
        bytes.fill_with(|| dice.draw().to_le_bytes()[0]);
    }
}

/// What a store may do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// It answers nothing.
    Down,
    /// It does not tell who agents are, until it has no trouble any more.
    SlowOfAgents,
    /// It writes, and its answer is lost.
    AnswerLost,
    /// The writes are lost on their way to it, and nobody can tell.
    WriteLost,
    /// So many more transactions meet another.
    Contended(u32),
}

/// The store, in trouble or not.
struct Failing {
    store: Arc<EmbeddedStore>,
    trouble: Mutex<Trouble>,
    /// How often it was asked for something.
    asked: AtomicUsize,
}

impl Failing {
    fn trouble(&self) -> Trouble {
        *self.trouble.lock().expect("not poisoned")
    }
    fn up(&self) -> Result<&EmbeddedStore, StoreFault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.trouble() == Trouble::Down {
            return Err(StoreFault::new(FaultKind::Unavailable, "the disk is on fire"));
        }
        Ok(&self.store)
    }
}

#[async_trait]
impl Store for Failing {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault> {
        self.up()?.get(key).await
    }
    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        let of_agents = keys.iter().any(|key| key.partition.starts_with("@agent/"));
        let store = self.up()?;
        // Not for ever: a test that waits in vain is to fail.
        for _ in 0..100_000 {
            if !of_agents || self.trouble() != Trouble::SlowOfAgents {
                break;
            }
            tokio::task::yield_now().await;
        }
        store.batch_get(keys).await
    }
    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        self.up()?.query(query).await
    }
    async fn transact(&self, writes: Vec<Write>) -> Result<(), TransactError> {
        let unknown = || StoreFault::new(FaultKind::OutcomeUnknown, "no answer came");
        match self.trouble() {
            Trouble::None | Trouble::Down | Trouble::SlowOfAgents => {
                self.up()?.transact(writes).await
            }
            Trouble::WriteLost => Err(unknown().into()),
            Trouble::Contended(left) => {
                let next = if left > 1 { Trouble::Contended(left - 1) } else { Trouble::None };
                *self.trouble.lock().expect("not poisoned") = next;
                Err(StoreFault::new(FaultKind::Conflict, "another has it").into())
            }
            Trouble::AnswerLost => {
                self.store.transact(writes).await?;
                Err(unknown().into())
            }
        }
    }
}

/// Dead letters in a list.
#[derive(Default)]
pub(crate) struct Letters {
    pub(crate) kept: Mutex<Vec<DeadLetter>>,
}

#[async_trait]
impl DeadLetters for Letters {
    async fn list(&self, function: Option<&str>, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        let kept = self.kept.lock().expect("not poisoned");
        let of = |letter: &&DeadLetter| function.is_none_or(|name| name == letter.function);
        Ok(kept.iter().filter(of).take(limit).cloned().collect())
    }
    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, Fault> {
        let kept = self.kept.lock().expect("not poisoned");
        Ok(kept.iter().find(|letter| letter.id == id).cloned())
    }
    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        let mut kept = self.kept.lock().expect("not poisoned");
        let before = kept.len();
        kept.retain(|letter| letter.id != id);
        Ok(kept.len() < before)
    }
    async fn purge(&self, function: &str, until: Millis, limit: usize) -> Result<usize, Fault> {
        let mut kept = self.kept.lock().expect("not poisoned");
        let before = kept.len();
        kept.retain(|letter| letter.function != function || letter.at > until);
        assert!(before - kept.len() <= limit, "fewer letters in a test");
        Ok(before - kept.len())
    }
}

/// The breaker of one function, `network`.
#[derive(Default)]
pub(crate) struct OneBreaker {
    is_open: AtomicBool,
}

#[async_trait]
impl Breakers for OneBreaker {
    async fn breakers(&self) -> Result<Vec<Breaker>, Fault> {
        let state = match self.is_open.load(Ordering::Relaxed) {
            true => BreakerState::Open,
            false => BreakerState::Closed,
        };
        Ok(vec![Breaker { function: "network".to_owned(), state, since: None, waiting: 3 }])
    }
    async fn set_breaker(&self, function: &str, is_open: bool) -> Result<Option<Breaker>, Fault> {
        if function != "network" {
            return Ok(None);
        }
        self.is_open.store(is_open, Ordering::Relaxed);
        Ok(self.breakers().await?.pop())
    }
}

/// An answer of the api.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer that has to have this status.
    pub(crate) fn with(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }
    /// What the error has under `name`.
    pub(crate) fn error(&self, name: &str) -> &str {
        self.body["error"][name].as_str().unwrap_or_default()
    }
}

pub(crate) struct World {
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) ports: Ports,
    pub(crate) letters: Arc<Letters>,
    pub(crate) router: Router,
    failing: Arc<Failing>,
    master: Arc<LocalMasterKey>,
    bus: Arc<Bus>,
    clock: Arc<Set>,
    /// Whom the requests' token names, if they have a token.
    pub(crate) token: Mutex<Option<Option<Tenant>>>,
    /// Whether requests come through a door at which nobody is asked.
    pub(crate) door_is_open: AtomicBool,
}

impl World {
    /// A world with one host, `host-1`, in [`ZONE`].
    pub(crate) async fn new() -> World {
        let world = World::empty();
        world.register("host-1").await;
        world
    }

    pub(crate) fn empty() -> World {
        World::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> World {
        World::under(options, Limits::off())
    }

    /// A world with one host, under these limits.
    pub(crate) async fn limited(limits: &str) -> World {
        let settings = LimitSettings::parse(limits).expect("limits");
        let world = World::under(Options::default(), Limits::new(settings));
        world.register("host-1").await;
        world
    }

    pub(crate) fn under(options: Options, limits: Limits) -> World {
        let tables = [
            eventplane_instances::TABLE,
            eventplane_capacity::TABLE,
            eventplane_network::TABLE,
            eventplane_storage::TABLE,
            eventplane_security::TABLE,
            eventplane_handoff::TABLE,
        ];
        let store = Arc::new(EmbeddedStore::in_memory(&tables).expect("a store in memory"));
        let failing = Arc::new(Failing {
            store: store.clone(),
            trouble: Mutex::new(Trouble::None),
            asked: AtomicUsize::new(0),
        });
        let bus = Arc::new(Bus::default());
        let clock = Arc::new(Set(AtomicI64::new(NOW.0)));
        let chance = Arc::new(Seeded(Mutex::new(Dice::new(7))));
        let ports = Ports {
            store: failing.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            chance: chance.clone(),
        };
        let letters = Arc::new(Letters::default());
        let master = Arc::new(LocalMasterKey::from_bytes("test", [7; 32], chance));
        let router = router(Api {
            ports: ports.clone(),
            waiter: store.clone(),
            dead_letters: letters.clone(),
            breakers: Arc::new(OneBreaker::default()),
            archive: None,
            master: master.clone(),
            options,
            limits,
        });
        let token = Mutex::default();
        let door_is_open = AtomicBool::new(false);
        World { store, ports, letters, router, failing, master, bus, clock, token, door_is_open }
    }

    /// The key that wraps the plane's keys.
    pub(crate) fn master(&self) -> Arc<LocalMasterKey> {
        self.master.clone()
    }

    pub(crate) fn pass(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn bus_is_down(&self, down: bool) {
        self.bus.down.store(down, Ordering::Relaxed);
    }

    pub(crate) fn store_has(&self, trouble: Trouble) {
        *self.failing.trouble.lock().expect("not poisoned") = trouble;
    }

    /// How often the store was asked for something since anybody last looked.
    pub(crate) fn store_was_asked(&self) -> usize {
        self.failing.asked.swap(0, Ordering::Relaxed)
    }

    /// What was published since anybody last looked.
    pub(crate) fn published(&self) -> Vec<Event> {
        std::mem::take(&mut *self.bus.events.lock().expect("not poisoned"))
    }

    /// Publishes these events.
    pub(crate) async fn publish(&self, events: &[Event]) {
        let entries = events.iter().map(Event::entry).collect();
        self.bus.publish(entries).await.expect("the bus is up");
    }

    /// The names of what was published since anybody last looked.
    pub(crate) fn published_names(&self) -> Vec<&'static str> {
        self.published().iter().map(|event| event.data.name()).collect()
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        self.send_with(method, path, body, &[]).await
    }

    /// Sends a request with these headers besides.
    pub(crate) async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        headers: &[(&'static str, String)],
    ) -> Answer {
        let builder = Request::builder().method(method);
        let builder = headers.iter().fold(builder, |of, (name, value)| of.header(*name, value));
        let mut request = builder
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .body(Body::from(body))
            .expect("a request");
        if let Some(tenant) = self.token.lock().expect("not poisoned").clone() {
            request.extensions_mut().insert(tenant);
        }
        if self.door_is_open.load(Ordering::Relaxed) {
            request.extensions_mut().insert(LetInByNobody);
        }
        let Ok(response) = self.router.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        assert!(parts.headers.contains_key("x-request-id"), "{path} has no request id");
        // An answer without content is the only one that is no JSON.
        let body = match parts.status {
            StatusCode::NO_CONTENT => Value::Null,
            _ => serde_json::from_slice(&bytes)
                .unwrap_or_else(|error| panic!("{path}: {error}: {bytes:?}")),
        };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, vec![]).await
    }
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, vec![]).await
    }
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string().into_bytes()).await
    }
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, body.to_string().into_bytes()).await
    }

    /// Launches, and returns the instances' ids.
    pub(crate) async fn launch(&self, body: &Value) -> Vec<InstanceId> {
        ids(&self.post("/v1/instances", body).await.with(202))
    }

    pub(crate) async fn register(&self, host: &str) {
        let registration = eventplane_agent::wire::Registration {
            host_id: host.to_owned(),
            zone: ZONE.to_owned(),
            rack: "rack-1".to_owned(),
            vcpus: 64,
            memory_mib: 262_144,
            network_mbps: 25_000,
            gpus: None,
        };
        let body = serde_json::to_value(registration).expect("plain data");
        self.post("/v1/hosts", &body).await.with(200);
    }

    /// Lets one function handle these events, and returns what it published.
    pub(crate) async fn hear<S: Step>(&self, step: S, events: &[Event]) -> Vec<Event> {
        let function = Function::new(step, self.ports.clone());
        for event in events {
            function.handle(&message(&event.entry())).await.expect("handled");
        }
        self.published()
    }

    /// Lets the steps handle what was published, until the handoff has it all.
    pub(crate) async fn hand_off(&self) {
        let chance = self.ports.chance.clone();
        let placed = self.hear(Capacity, &self.published()).await;
        let mut joined = self.hear(Networking, &placed).await;
        joined.extend(self.hear(Storage::new(self.master.clone(), chance.clone()), &placed).await);
        joined.extend(self.hear(Security::new(self.master.clone(), chance), &placed).await);
        self.hear(Handoff, &joined).await;
    }

    /// The record as it stands.
    pub(crate) async fn record(&self, id: &InstanceId) -> Record {
        let key = record_key(&Tenant::local(), id);
        let item = self.store.get(&key).await.expect("read").expect("there is a record");
        Record::read(&item).expect("a record")
    }
}

/// The instances' ids in an answer.
pub(crate) fn ids(answer: &Value) -> Vec<InstanceId> {
    let id = |one: &Value| InstanceId::parse(one["instance_id"].as_str().expect("an id"));
    let instances = answer["instances"].as_array().expect("a list");
    instances.iter().map(|one| id(one).expect("well formed")).collect()
}

/// The function that keeps the records.
pub(crate) fn instances() -> eventplane_instances::Instances {
    eventplane_instances::Instances {
        launch_deadline_ms: Options::default().launch_deadline_ms,
        ending_deadline_ms: eventplane_instances::ENDING_DEADLINE_MS,
    }
}
