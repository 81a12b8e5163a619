//! The plane of the model: the real functions and the real api, called at one moment over one
//! state's items. What a call does depends on what it reads and on nothing else, so that it is
//! done once and remembered.

use super::atoms::{Atoms, Place};
use super::doors::{Done, Doors, Items, Seen};
use super::state::Cells;
use super::{DEADLINE_MS, START};
use crate::nobody::Nobody;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use eventplane_api::{Api, Limits, Options};
use eventplane_domain::Millis;
use eventplane_engine::{Handler, Ports};
use eventplane_keys::{LocalMasterKey, MasterKey};
use eventplane_local::wiring::Wiring;
use eventplane_plane::handlers;
use eventplane_storage::PoolSizes;
use http_body_util::BodyExt;
use serde_json::Value;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use tower::ServiceExt;

/// What may be called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Call {
    /// A function, with the event of this number.
    Deliver { to: u8, event: u32 },
    /// The api.
    Http { method: Method, path: String, body: Option<String> },
    /// The sweeper.
    Sweep,
}

/// What a call did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The transactions that changed something: keys, and the cells that stand there now.
    pub(super) commits: Vec<Vec<(u32, Option<u32>)>>,
    /// The events that were published after that.
    pub(super) published: Vec<u32>,
    /// The api's answer.
    pub(super) answer: Option<(u16, Value)>,
    /// Why a function could not handle its message: a fault without anything being broken.
    pub(super) failure: Option<String>,
}

/// A call at a moment.
type Moment = (Call, u8);
/// What a call was found to read, and what it did for each of what it read.
type Lesson = (Vec<Probe>, HashMap<Vec<u32>, Arc<Outcome>>);

/// [`Seen`], in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Probe {
    Key(u32),
    Partition(u32),
    Table(u32),
}

pub(super) struct Plane {
    pub(super) atoms: Atoms,
    pub(super) functions: Vec<String>,
    wiring: Wiring,
    world: Mutex<World>,
    learned: RwLock<HashMap<Moment, Vec<Lesson>>>,
}

struct World {
    doors: Arc<Doors>,
    ports: Ports,
    handlers: Vec<Arc<dyn Handler>>,
    router: Router,
}

impl Plane {
    pub(super) fn new(pool_sizes: PoolSizes) -> Plane {
        let doors = Arc::new(Doors::default());
        let ports = Ports {
            store: doors.clone(),
            bus: doors.clone(),
            clock: doors.clone(),
            chance: doors.clone(),
        };
        let master: Arc<dyn MasterKey> =
            Arc::new(LocalMasterKey::from_bytes("model", [7; 32], doors.clone()));
        let handlers = handlers(&ports, &master, DEADLINE_MS);
        let functions = handlers.iter().map(|handler| handler.name().to_owned()).collect();
        let router = eventplane_api::router(Api {
            ports: ports.clone(),
            waiter: Arc::new(Nobody),
            dead_letters: Arc::new(Nobody),
            breakers: Arc::new(Nobody),
            archive: None,
            master,
            options: Options { launch_deadline_ms: DEADLINE_MS, pool_sizes, ..Options::default() },
            limits: Limits::off(),
        });
        Plane {
            atoms: Atoms::default(),
            functions,
            wiring: Wiring::built_in(),
            world: Mutex::new(World { doors, ports, handlers, router }),
            learned: RwLock::default(),
        }
    }

    /// Calls, `phase` deadlines after the start.
    pub(super) fn call(&self, cells: &Cells, call: &Call, phase: u8) -> Arc<Outcome> {
        let moment = (call.clone(), phase);
        {
            let learned = self.learned.read().unwrap_or_else(PoisonError::into_inner);
            for (seen, known) in learned.get(&moment).into_iter().flatten() {
                if let Some(outcome) = known.get(&self.read(cells, seen)) {
                    return outcome.clone();
                }
            }
        }
        let (outcome, seen) = self.perform(cells, None, call, phase);
        let outcome = Arc::new(outcome);
        let read = self.read(cells, &seen);
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        let lessons = learned.entry(moment).or_default();
        let at = lessons.iter().position(|(known, _)| *known == seen).unwrap_or_else(|| {
            lessons.push((seen, HashMap::new()));
            lessons.len() - 1
        });
        lessons[at].1.insert(read, outcome.clone());
        outcome
    }

    /// A delivery whose function had looked while `earlier` stood, before others came.
    pub(super) fn call_late(
        &self,
        cells: &Cells,
        earlier: &Cells,
        call: &Call,
        phase: u8,
    ) -> Arc<Outcome> {
        let outcome = self.call(earlier, call, phase);
        let learned = self.learned.read().unwrap_or_else(PoisonError::into_inner);
        let lessons = learned.get(&(call.clone(), phase));
        let is_as_it_was = lessons.into_iter().flatten().any(|(probes, known)| {
            let read = self.read(earlier, probes);
            known.contains_key(&read) && self.read(cells, probes) == read
        });
        drop(learned);
        // The others have changed nothing that it looks at.
        if is_as_it_was {
            return outcome;
        }
        Arc::new(self.perform(cells, Some(earlier), call, phase).0)
    }

    /// What stands where a call has looked.
    fn read(&self, cells: &Cells, probes: &[Probe]) -> Vec<u32> {
        let mut read = Vec::with_capacity(probes.len() + 4);
        let mut all = |is_in: &dyn Fn(&Place) -> bool| {
            self.atoms.keys.with_all(|places| {
                let those = cells.iter().filter(|(key, _)| is_in(&places[*key as usize]));
                read.extend(those.map(|(_, cell)| cell + 1));
            });
            read.push(u32::MAX);
        };
        for probe in probes {
            match probe {
                Probe::Key(_) => {}
                Probe::Partition(group) => all(&|place| place.partition == *group),
                Probe::Table(group) => all(&|place| place.table == *group),
            }
        }
        for probe in probes {
            if let Probe::Key(key) = probe {
                read.push(cells.at(*key).map_or(0, |cell| cell + 1));
            }
        }
        read
    }

    fn probe(&self, seen: &Seen) -> Probe {
        match seen {
            Seen::Key(key) => Probe::Key(self.atoms.key(key)),
            Seen::Partition(table, partition) => {
                Probe::Partition(self.atoms.partition(table, partition))
            }
            Seen::Table(table) => Probe::Table(self.atoms.table(table)),
        }
    }

    fn items(&self, cells: &Cells) -> Items {
        let item = |(_, number)| {
            let cell = self.atoms.cells.value(number);
            (cell.key.clone(), cell.item.clone())
        };
        cells.iter().map(item).collect()
    }

    fn perform(
        &self,
        cells: &Cells,
        earlier: Option<&Cells>,
        call: &Call,
        phase: u8,
    ) -> (Outcome, Vec<Probe>) {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now(phase);
        world.doors.open(self.items(cells), earlier.map(|cells| self.items(cells)), now);
        let (mut answer, mut failure) = (None, None);
        match call {
            Call::Deliver { to, event } => {
                let body = self.atoms.sent.value(*event);
                let handled = drive(world.handlers[usize::from(*to)].handle(&body.body));
                failure = handled.err().map(|failure| failure.to_string());
            }
            Call::Http { method, path, body } => {
                answer = Some(drive(world.send(method.clone(), path, body.clone())));
            }
            Call::Sweep => {
                let swept = drive(eventplane_sweeper::sweep(&world.ports));
                failure = swept.err().map(|fault| fault.to_string());
            }
        }
        let done = world.doors.close();
        drop(world);
        self.outcome(done, answer, failure)
    }

    fn outcome(
        &self,
        done: Done,
        answer: Option<(u16, Value)>,
        failure: Option<String>,
    ) -> (Outcome, Vec<Probe>) {
        let commits = done
            .commits
            .iter()
            .map(|commit| {
                let cell = |(key, item): &(_, Option<_>)| {
                    let cell = item.as_ref().map(|item| self.atoms.cell(key, item));
                    (self.atoms.key(key), cell)
                };
                commit.iter().map(cell).collect()
            })
            .collect();
        let sent = |entry| self.atoms.sent(entry, &self.wiring, &self.functions);
        let published = done.published.iter().map(sent).collect();
        (
            Outcome { commits, published, answer, failure },
            done.seen.iter().map(|seen| self.probe(seen)).collect(),
        )
    }

    /// What chance says in the calls that follow.
    pub(super) fn set_chance(&self, chance: i64) {
        self.world.lock().unwrap_or_else(PoisonError::into_inner).doors.set_chance(chance);
    }

    /// What a plane of one zone begins with.
    pub(super) fn seeded(&self, pool_sizes: PoolSizes) -> Cells {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.doors.open(Items::new(), None, START);
        let zones = ["a".to_owned()];
        let tenant = eventplane_domain::Tenant::local();
        drive(async {
            let seeded = eventplane_network::seed(&*world.ports.store, &tenant, &zones).await;
            seeded.expect("seeded");
            let seeded = eventplane_storage::seed(&*world.ports.store, &zones, pool_sizes).await;
            seeded.expect("seeded");
        });
        let done = world.doors.close();
        drop(world);
        let (outcome, _) = self.outcome(done, None, None);
        outcome.commits.iter().fold(Cells::default(), |cells, commit| cells.after(commit))
    }
}

/// The moment of a phase: each begins just after the deadline of what was launched in the one
/// before.
pub(super) fn now(phase: u8) -> Millis {
    START.plus(i64::from(phase) * (DEADLINE_MS + 1))
}

impl World {
    async fn send(&self, method: Method, path: &str, body: Option<String>) -> (u16, Value) {
        let body = Body::from(body.unwrap_or_default());
        let request = Request::builder().method(method).uri(path).body(body);
        let Ok(response) = self.router.clone().oneshot(request.expect("a request")).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

/// Runs what never has to wait.
fn drive<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..16 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("nothing in the model waits");
}
