//! The scheduler: which of all that could happen next does.

use super::bus::{Message, SimBus};
use super::chaos::{Chaos, Counts, Worker};
use super::check::Checker;
use super::fault::Kind;
use super::host::{Life, SimHost, send};
use super::rest::LONGEST_MS;
use super::setup::Setup;
use super::store::{Data, SimStore};
use crate::nobody::Nobody;
use axum::Router;
use axum::http::Method;
use eventplane_api::{Api, Limits, Options};
use eventplane_domain::Tenant;
use eventplane_domain::{Mutant, planted};
use eventplane_engine::{Failure, Handler, Ports};
use eventplane_keys::{LocalMasterKey, MasterKey};
use eventplane_plane::{TABLES, handlers};
use eventplane_storage::PoolSizes;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// How many hosts there are.
pub(super) const HOSTS: usize = 3;
/// How long a launch has, and how long when all are in haste, in milliseconds.
const DEADLINE_MS: i64 = 600_000;
const HASTY_MS: i64 = 600;
/// How long a host has room for: two zones, so that some launches are refused.
const ZONES: [&str; 2] = ["a", "b"];

/// How long is waited for something where nothing else can be done, in milliseconds.
const IDLE_MS: i64 = 2_000;

type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is under way.
pub(super) struct Task {
    pub(super) worker: Worker,
    pub(super) what: What,
}

pub(super) enum What {
    /// A message, and whether another worker has it by now.
    Delivery(Message, bool, Running<Result<(), Failure>>),
    Agent(usize, Running<()>),
    Client(Running<()>),
    Operator(usize, Running<()>),
    Sweep(Running<usize>),
}

/// What all histories of a thread have in common: what is dear to make.
pub struct Stage {
    pub(super) chaos: Arc<Chaos>,
    pub(super) store: Arc<SimStore>,
    pub(super) bus: Arc<SimBus>,
    pub(super) ports: Ports,
    pub(super) master: Arc<dyn MasterKey>,
    routers: [Router; 2],
    prepared: Data,
    /// Each tenant, with a subnet of its own and an address of it.
    pub(super) tenants: Vec<(Tenant, String, String)>,
}

/// One history.
pub(super) struct World<'s> {
    pub(super) stage: &'s Stage,
    pub(super) setup: Setup,
    functions: BTreeMap<&'static str, Arc<dyn Handler>>,
    pub(super) router: Router,
    pub(super) hosts: Vec<Arc<SimHost>>,
    pub(super) tasks: Vec<Task>,
    pub(super) checker: Checker,
    checked: u64,
    pub(super) ids: Arc<Mutex<BTreeMap<usize, String>>>,
    pub(super) deadline_ms: i64,
    /// Whether retries come at once, and not as late as on AWS.
    is_fast: bool,
    /// Whether users ask for each thing once, and trust that it will be done.
    pub(super) asks_once: bool,
    /// What they have asked for: which launch, and what of it.
    pub(super) asked: BTreeSet<(usize, &'static str)>,
    pub(super) steps: u64,
    pub(super) nudges: usize,
}

impl Stage {
    /// Zones, pools, hosts, tenants and a role. The hosts have room for a few launches each, so that
    /// some are refused.
    #[must_use]
    pub fn new() -> Stage {
        let chaos = Arc::new(Chaos::new());
        let store = Arc::new(SimStore::new(TABLES, chaos.clone()));
        let key = LocalMasterKey::from_bytes("simulation", [7; 32], chaos.clone());
        let master: Arc<dyn MasterKey> = Arc::new(key);
        let nobody: Arc<SimBus> = Arc::new(SimBus::new(chaos.clone(), vec![]));
        let ports = Ports {
            store: store.clone(),
            bus: nobody,
            clock: chaos.clone(),
            chance: chaos.clone(),
        };
        let names = handlers(&ports, &master, 0).iter().map(|one| one.name()).collect();
        let bus = Arc::new(SimBus::new(chaos.clone(), names));
        let ports = Ports { bus: bus.clone(), ..ports };
        let router = |launch_deadline_ms| {
            eventplane_api::router(Api {
                ports: ports.clone(),
                waiter: Arc::new(Nobody),
                dead_letters: Arc::new(Nobody),
                breakers: Arc::new(Nobody),
                archive: None,
                master: master.clone(),
                options: Options {
                    launch_deadline_ms,
                    tenant_of_request: true,
                    ..Options::default()
                },
                limits: Limits::off(),
            })
        };
        let routers = [DEADLINE_MS, HASTY_MS].map(router);
        let prepared = Data::default();
        let mut stage =
            Stage { chaos, store, bus, ports, master, routers, prepared, tenants: vec![] };
        stage.prepare();
        stage
    }

    fn prepare(&mut self) {
        let zones = ZONES.map(str::to_owned);
        for name in ["default", "other"] {
            let tenant = Tenant::try_from(name.to_owned()).expect("a tenant");
            drive(eventplane_network::seed(&*self.store, &tenant, &zones)).expect("seeded");
            let router = &self.routers[0];
            let role = json!({ "name": "reader", "permissions": ["read"] });
            let made = drive(send(router, Method::POST, "/v1/roles", Some(role), Some(&tenant)));
            assert_eq!(made.0, 201, "{}", made.1);
            let (_, listed) = drive(send(router, Method::GET, "/v1/subnets", None, Some(&tenant)));
            let subnet = &listed["subnets"][0];
            let text = |name: &str| subnet[name].as_str().expect("a text").to_owned();
            let block = text("cidr_block");
            let (start, _) = block.split_once(".0/").expect("a block of addresses");
            self.tenants.push((tenant, text("subnet_id"), format!("{start}.10")));
        }
        let seeded = eventplane_storage::seed(&*self.store, &zones, PoolSizes::default());
        drive(seeded).expect("seeded");
        for n in 0..HOSTS {
            let body = json!({
                "host_id": format!("host-{n}"), "zone": ZONES[n % 2], "rack": "r1",
                // On one of them a launch changes the class of what is free, on another it does not.
                "vcpus": ([4, 7, 4][n]), "memory_mib": 16_384, "network_mbps": 1000,
            });
            let router = &self.routers[0];
            let made = drive(send(router, Method::POST, "/v1/hosts", Some(body), None));
            assert_eq!(made.0, 200, "{}", made.1);
        }
        self.prepared = self.store.data().clone();
    }

    /// Begins the history of this setup.
    pub(super) fn begin(&self, setup: Setup, tells: bool) -> World<'_> {
        self.chaos.begin(setup, tells);
        self.store.restore(&self.prepared);
        self.bus.clear();
        let is_hasty = setup.kinds.has(Kind::Hasty);
        let deadline_ms = if is_hasty { HASTY_MS } else { DEADLINE_MS };
        let functions = handlers(&self.ports, &self.master, deadline_ms);
        World {
            stage: self,
            setup,
            functions: functions.into_iter().map(|one| (one.name(), one)).collect(),
            router: self.routers[usize::from(is_hasty)].clone(),
            hosts: (0..HOSTS).map(|n| SimHost::new(format!("host-{n}"))).collect(),
            tasks: vec![],
            checker: Checker::default(),
            checked: 0,
            ids: Arc::default(),
            deadline_ms,
            is_fast: !setup.seed.is_multiple_of(3),
            asks_once: setup.seed.is_multiple_of(2),
            asked: BTreeSet::new(),
            steps: 0,
            nudges: 0,
        }
    }

    /// What was counted in the history.
    pub(super) fn counts(&self) -> Counts {
        self.chaos.take_counts()
    }
}

impl Default for Stage {
    fn default() -> Self {
        Stage::new()
    }
}

impl World<'_> {
    pub(super) fn chaos(&self) -> &Chaos {
        &self.stage.chaos
    }

    /// One of all that could happen now.
    pub(super) fn step(&mut self) {
        let is_gone = self.chaos().in_any_window(Kind::PlaneGone);
        match self.chaos().below(100) {
            0..=54 => self.poll_any(),
            _ if is_gone => self.alone(),
            55..=79 => self.deliver(),
            80..=88 => self.agent_round(),
            89..=92 => self.ask_something(),
            93..=94 => self.strike_a_worker(),
            95 if self.chaos().draws(3) => self.trouble_something(),
            96 => self.sweep_now_and_then(),
            97 if self.chaos().draws(12) => self.wait_for_something(LONGEST_MS),
            _ => self.pass_a_moment(),
        }
        self.look();
    }

    fn pass_a_moment(&self) {
        let ms = 1 + self.chaos().below(40) as i64;
        self.chaos().pass(ms);
    }

    /// With the plane gone, hosts and time go on.
    fn alone(&mut self) {
        match self.chaos().below(10) {
            0..=6 => self.agent_round(),
            7 => self.wait_for_something(LONGEST_MS),
            _ => self.pass_a_moment(),
        }
    }

    /// Looks at what was committed, if anything was.
    pub(super) fn look(&mut self) {
        self.steps += 1;
        if self.chaos().writes() != self.checked {
            self.checked = self.chaos().writes();
            self.checker.check(&self.stage.store, &self.hosts);
        }
    }

    /// Time passes until something happens that only waits for it, if that is at most so far away.
    pub(super) fn wait_for_something(&self, ms_max: i64) {
        let now = self.chaos().moment();
        let asleep = self.tasks.iter().map(|task| task.worker.sleeps_until);
        let moments = asleep.chain(self.stage.bus.visible_at()).chain(self.chaos().window_ends());
        let next = moments.filter(|at| *at > now).min();
        if let Some(next) = next.filter(|at| at - now <= ms_max) {
            self.chaos().pass(next - now);
        }
    }

    pub(super) fn poll_any(&mut self) {
        let now = self.chaos().moment();
        let is_awake = |task: &Task| task.worker.sleeps_until <= now;
        let awake = self.tasks.iter().filter(|task| is_awake(task)).count();
        if awake == 0 {
            return self.wait_for_something(IDLE_MS);
        }
        let drawn = self.chaos().below(awake);
        let at = (0..self.tasks.len()).filter(|at| is_awake(&self.tasks[*at])).nth(drawn);
        self.poll(at.expect("it was counted"));
    }

    /// Polls one task, and takes note if it is done.
    fn poll(&mut self, at: usize) {
        let mut context = Context::from_waker(Waker::noop());
        let task = &mut self.tasks[at];
        self.stage.chaos.set_worker(task.worker);
        let done = match &mut task.what {
            What::Delivery(message, has_another, future) => {
                match future.as_mut().poll(&mut context) {
                    Poll::Pending => false,
                    Poll::Ready(handled) => {
                        let message = (!*has_another).then(|| message.clone());
                        self.handled(message, handled);
                        true
                    }
                }
            }
            What::Agent(_, future) | What::Operator(_, future) | What::Client(future) => {
                future.as_mut().poll(&mut context).is_ready()
            }
            What::Sweep(future) => match future.as_mut().poll(&mut context) {
                Poll::Pending => false,
                Poll::Ready(nudged) => {
                    self.nudges += nudged;
                    true
                }
            },
        };
        if done {
            drop(self.tasks.swap_remove(at));
        } else {
            self.tasks[at].worker = self.stage.chaos.worker();
        }
        self.stage.chaos.set_worker(Worker::new("nobody"));
    }

    /// A worker is done with a message, which is nobody's if another worker has it by now.
    fn handled(&self, message: Option<Message>, handled: Result<(), Failure>) {
        let chaos = self.chaos();
        let name = chaos.worker().name;
        match (message, handled) {
            (None, _) => {}
            (Some(message), Ok(())) => {
                assert!(!message.is_poison, "{name} has read what nobody can: {}", message.body);
            }
            (Some(message), Err(Failure::Retry(fault))) => {
                assert!(!message.is_poison, "{name} will try again what nobody can read");
                chaos.tell(|| format!("  {name} fails: {fault}"));
                if !planted(Mutant::AcknowledgeAllWhenSomeFailed) {
                    self.stage.bus.give_back(message, self.is_fast);
                }
            }
            (Some(message), Err(Failure::SetAside(why))) => {
                assert!(message.is_poison, "{name} has set aside {}: {why}", message.body);
                chaos.tell(|| format!("  {name} sets it aside: {why}"));
                self.stage.bus.set_aside(message);
            }
        }
    }

    /// Somebody's turn begins: with a clock of its own, and perhaps of a later version.
    fn worker(&self, name: &'static str) -> Worker {
        let chaos = self.chaos();
        let skew_ms = match chaos.may(Kind::Skew) {
            true => chaos.of_kind(Kind::Skew, 60_001) as i64 - 30_000,
            false => 0,
        };
        if skew_ms != 0 {
            chaos.count(Kind::Skew.name(), name);
        }
        Worker { skew_ms, ..Worker::new(name) }
    }

    pub(super) fn begin(&mut self, name: &'static str, what: What) {
        let worker = self.worker(name);
        self.tasks.push(Task { worker, what });
    }

    pub(super) fn deliver(&mut self) {
        let Some(message) = self.stage.bus.take() else { return };
        if self.chaos().in_any_window(Kind::StuckGiveBack) && self.stage.bus.is_stuck(&message) {
            self.chaos().struck(Kind::StuckGiveBack, message.function);
            return self.stage.bus.give_back(message, self.is_fast);
        }
        let function = self.functions[message.function].clone();
        let (body, received) = (message.body.clone(), message.received + 1);
        let mut worker = self.worker(message.function);
        worker.is_later = self.chaos().strikes_at(Kind::LaterVersion, 2, message.function);
        let skew_ms = worker.skew_ms;
        self.chaos().tell(|| {
            let again = if received > 1 { format!(", delivery {received}") } else { String::new() };
            let skewed =
                if skew_ms != 0 { format!(", its clock {skew_ms} ms off") } else { String::new() };
            format!("{} hears {}{again}{skewed}", message.function, message.what)
        });
        let handled = Box::pin(async move { function.deliver(&body, received).await });
        self.tasks.push(Task { worker, what: What::Delivery(message, false, handled) });
    }

    fn agent_round(&mut self) {
        let drawn = self.chaos().below(self.hosts.len());
        self.round_of(drawn);
    }

    pub(super) fn round_of(&mut self, host: usize) {
        let is_busy = |task: &Task| matches!(task.what, What::Agent(busy, _) if busy == host);
        let is_gone = self.chaos().in_any_window(Kind::PlaneGone);
        if self.tasks.iter().any(is_busy) {
            return;
        }
        let router = if is_gone { Router::new() } else { self.router.clone() };
        let round = self.hosts[host].clone().round(router, self.stage.chaos.clone());
        self.begin("agent", What::Agent(host, Box::pin(round)));
    }

    /// A process dies, or takes so long that another one gets its message as well.
    fn strike_a_worker(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let drawn = self.chaos().below(self.tasks.len());
        let worker = self.tasks[drawn].worker;
        let chaos = &self.stage.chaos;
        match &mut self.tasks[drawn].what {
            What::Delivery(message, has_another, _) => {
                let name = message.function;
                if !*has_another && chaos.strikes_at(Kind::TwoWorkers, 3, name) {
                    *has_another = true;
                    self.stage.bus.give_back(message.clone(), true);
                    return;
                }
                if !chaos.strikes_at(Kind::Crash, 1, name) {
                    return;
                }
                let when = match (worker.committed, worker.published) {
                    (_, true) => "crash after publishing",
                    (true, false) => "crash between commit and publishing",
                    (false, false) => "crash before any effect",
                };
                chaos.count(when, name);
                let is_done = planted(Mutant::AcknowledgeBeforePublish) && worker.committed;
                if !*has_another && !is_done {
                    self.stage.bus.give_back(message.clone(), self.is_fast);
                }
            }
            What::Agent(..) if chaos.strikes_at(Kind::AgentRestarts, 1, "agent") => {}
            What::Client(_) | What::Operator(..)
                if chaos.strikes_at(Kind::ApiDies, 1, worker.name) => {}
            What::Sweep(_) if chaos.strikes_at(Kind::Crash, 1, "sweeper") => {}
            _ => return,
        }
        drop(self.tasks.swap_remove(drawn));
    }

    /// The whole plane dies: what is under way ends where it is. What users asked for and was not
    /// answered is not among it: nobody would ask again.
    pub(super) fn plane_dies(&mut self) {
        let asks = |task: &Task| matches!(task.what, What::Client(_) | What::Operator(..));
        if self.tasks.iter().any(asks) {
            return;
        }
        self.chaos().struck(Kind::PlaneGone, "plane");
        self.chaos().open_window(Kind::PlaneGone, "plane", 3_600_000);
        for task in std::mem::take(&mut self.tasks) {
            if let What::Delivery(message, false, _) = task.what {
                self.stage.bus.give_back(message, self.is_fast);
            }
        }
    }

    /// What an operator says of a host, unless it is waiting for an answer to another word.
    pub(super) fn say_of(&mut self, host: usize, state: &'static str) {
        let is_busy = |task: &Task| matches!(task.what, What::Operator(busy, _) if busy == host);
        if self.tasks.iter().any(is_busy) {
            return;
        }
        let (router, path) = (self.router.clone(), format!("/v1/hosts/host-{host}"));
        let (machine, chaos) = (self.hosts[host].clone(), self.stage.chaos.clone());
        let said = async move {
            let body = Some(json!({ "state": state }));
            let (status, _) = send(&router, Method::PUT, &path, body, None).await;
            chaos.tell(|| format!("the operator says that {} is {state}: {status}", machine.id));
            if status == 200 {
                let life = if state == "dead" { Life::SaidDead } else { Life::Alive };
                machine.machine().life = life;
            }
        };
        self.begin("operator", What::Operator(host, Box::pin(said)));
    }

    /// The ids that were answered, by the number of their launch.
    pub(super) fn launched(&self) -> BTreeMap<usize, String> {
        self.ids.lock().expect("no panic").clone()
    }
}

/// Runs one thing alone to its end.
pub(super) fn drive<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
