//! The scheduler: which of all that could happen next does.

use super::bus::{Message, SimBus};
use super::chaos::Chaos;
use super::check::{Checker, nothing_is_held, standing, unsettled};
use super::host::{Life, SimHost, send};
use super::store::SimStore;
use axum::Router;
use axum::http::Method;
use eventplane_api::{Api, Limits, Options};
use eventplane_domain::{Millis, Tenant};
use eventplane_engine::{Failure, Handler, Ports};
use eventplane_keys::LocalMasterKey;
use eventplane_plane::{TABLES, handlers};
use eventplane_storage::PoolSizes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// What may go wrong besides the order of things, duplicates, and functions that die anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// Messages are lost, and the api dies between commit and publish: the sweeper has work.
    pub losses: bool,
    /// Launches have so little time that many are late.
    pub deadline_ms: i64,
}

/// What a history came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// How often something was polled.
    pub steps: u64,
    /// How many transactions were committed.
    pub commits: u64,
    /// How many instances ended up running, before all were terminated.
    pub running: usize,
    /// How many instances there were.
    pub instances: usize,
    /// How many instances ended up stopped, before all were terminated.
    pub stopped: usize,
    /// How many generations there were beyond the first of each instance.
    pub generations: usize,
    /// How often the sweeper nudged.
    pub nudges: usize,
}

const HOSTS: usize = 3;
const LAUNCHES: usize = 7;
/// How much happens before the trouble ends.
const STEPS: u64 = 2_500;
/// How many rounds of everything it may take until all has come to rest.
const ROUNDS_MAX: usize = 60;
/// Longer than the sweeper waits, in milliseconds.
const NUDGE_MS: i64 = 31_000;

type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Task {
    Delivery(Message, Running<Result<(), Failure>>),
    Agent(usize, Running<()>),
    Client(Running<()>),
    Operator(usize, Running<()>),
    Sweep(Running<usize>),
}

struct World {
    chaos: Arc<Chaos>,
    store: Arc<SimStore>,
    bus: Arc<SimBus>,
    ports: Ports,
    functions: BTreeMap<String, Arc<dyn Handler>>,
    router: Router,
    hosts: Vec<Arc<SimHost>>,
    tasks: Vec<Task>,
    checker: Checker,
    checked: u64,
    ids: Arc<Mutex<BTreeMap<usize, String>>>,
    trouble: Trouble,
    steps: u64,
    nudges: usize,
}

/// Runs the history of this seed.
///
/// # Panics
/// When an invariant does not hold, or not all comes to rest.
#[must_use]
pub fn run(seed: u64, trouble: Trouble) -> History {
    let mut world = World::new(seed, trouble);
    world.prepare();
    world.chaos.set_faults(true);
    for _ in 0..STEPS {
        world.step();
    }
    world.chaos.set_faults(false);
    world.come_to_rest();
    let ids = world.launched();
    let (stopped, generations) = standing(&world.store);
    let running: usize = world.hosts.iter().map(|host| host.machine().running.len()).sum();
    for id in ids.values() {
        world.client(Method::DELETE, format!("/v1/instances/{id}"), None, None);
    }
    world.come_to_rest();
    nothing_is_held(&world.store);
    History {
        steps: world.steps,
        commits: world.chaos.writes(),
        running,
        instances: ids.len(),
        stopped,
        generations,
        nudges: world.nudges,
    }
}

impl World {
    fn new(seed: u64, trouble: Trouble) -> World {
        let chaos = Arc::new(Chaos::new(seed, Millis(1_800_000_000_000)));
        let store = Arc::new(SimStore::new(TABLES, chaos.clone()));
        let bus = Arc::new(SimBus::new(chaos.clone(), trouble.losses));
        let ports = Ports {
            store: store.clone(),
            bus: bus.clone(),
            clock: chaos.clone(),
            chance: chaos.clone(),
        };
        let key = LocalMasterKey::from_bytes("simulation", [7; 32], chaos.clone());
        let master: Arc<dyn eventplane_keys::MasterKey> = Arc::new(key);
        let functions = handlers(&ports, &master, trouble.deadline_ms);
        let functions = functions.into_iter().map(|one| (one.name().to_owned(), one)).collect();
        let router = eventplane_api::router(Api {
            ports: ports.clone(),
            waiter: bus.clone(),
            dead_letters: bus.clone(),
            breakers: bus.clone(),
            archive: None,
            master,
            options: Options { launch_deadline_ms: trouble.deadline_ms, ..Options::default() },
            limits: Limits::off(),
        });
        World {
            chaos,
            store,
            bus,
            ports,
            functions,
            router,
            hosts: (0..HOSTS).map(|n| SimHost::new(format!("host-{n}"))).collect(),
            tasks: vec![],
            checker: Checker::default(),
            checked: 0,
            ids: Arc::default(),
            trouble,
            steps: 0,
            nudges: 0,
        }
    }

    /// Zones, pools and hosts, before anything goes wrong. The hosts have room for a few launches
    /// each, so that some are refused.
    fn prepare(&mut self) {
        let zones = ["a", "b"].map(str::to_owned);
        let store = self.store.clone();
        drive(async move {
            eventplane_network::seed(&*store, &Tenant::local(), &zones).await.expect("seeded");
            let seeded = eventplane_storage::seed(&*store, &zones, PoolSizes::default()).await;
            seeded.expect("seeded");
        });
        for n in 0..HOSTS {
            let zone = ["a", "b"][n % 2];
            let body = json!({
                "host_id": format!("host-{n}"), "zone": zone, "rack": "r1",
                "vcpus": 4, "memory_mib": 8192, "network_mbps": 1000,
            });
            let router = self.router.clone();
            let (status, value) =
                drive(async move { send(&router, Method::POST, "/v1/hosts", Some(body)).await });
            assert_eq!(status, 200, "{value}");
        }
    }

    fn launched(&self) -> BTreeMap<usize, String> {
        self.ids.lock().expect("no panic").clone()
    }

    /// One of all that could happen now.
    fn step(&mut self) {
        self.steps += 1;
        match self.chaos.below(100) {
            0..=54 => self.poll_any(),
            55..=79 => self.deliver(true),
            80..=89 => self.agent_round(),
            90..=93 => self.ask_something(),
            94..=95 => self.kill_any(),
            96 if self.trouble.losses => self.bus.lose_one(),
            97 if self.chaos.draws(4) => self.trouble_a_host(),
            _ => self.chaos.pass(1 + self.chaos.below(40) as i64),
        }
        if self.chaos.writes() != self.checked {
            self.checked = self.chaos.writes();
            self.checker.check(&self.store, &self.hosts);
        }
    }

    fn poll_any(&mut self) {
        if !self.tasks.is_empty() {
            let drawn = self.chaos.below(self.tasks.len());
            self.poll(drawn);
        }
    }

    /// Polls one task, and takes note if it is done.
    fn poll(&mut self, at: usize) {
        let mut context = Context::from_waker(Waker::noop());
        let done = match &mut self.tasks[at] {
            Task::Delivery(message, future) => match future.as_mut().poll(&mut context) {
                Poll::Pending => false,
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(Failure::Retry(_))) => {
                    self.bus.give_back(message.clone());
                    true
                }
                Poll::Ready(Err(Failure::SetAside(why))) => panic!("{why}: {}", message.body),
            },
            Task::Agent(_, future) | Task::Operator(_, future) | Task::Client(future) => {
                future.as_mut().poll(&mut context).is_ready()
            }
            Task::Sweep(future) => match future.as_mut().poll(&mut context) {
                Poll::Pending => false,
                Poll::Ready(nudged) => {
                    self.nudges += nudged;
                    true
                }
            },
        };
        if done {
            drop(self.tasks.swap_remove(at));
        }
    }

    fn deliver(&mut self, duplicates: bool) {
        let Some(message) = self.bus.take(duplicates) else { return };
        let function = self.functions[&message.function].clone();
        let body = message.body.clone();
        let handled = async move { function.handle(&body).await };
        self.tasks.push(Task::Delivery(message, Box::pin(handled)));
    }

    fn agent_round(&mut self) {
        let drawn = self.chaos.below(self.hosts.len());
        self.round_of(drawn);
    }

    fn round_of(&mut self, host: usize) {
        let is_busy = |task: &Task| matches!(task, Task::Agent(busy, _) if *busy == host);
        if self.tasks.iter().any(is_busy) {
            return;
        }
        let round = self.hosts[host].clone().round(self.router.clone(), self.chaos.clone());
        self.tasks.push(Task::Agent(host, Box::pin(round)));
    }

    /// A user launches, launches again with the same token, or asks something of an instance,
    /// whether it may be asked of it now or not.
    fn ask_something(&mut self) {
        let launch = self.chaos.below(LAUNCHES);
        let Some(id) = self.launched().get(&launch).cloned() else { return self.launch(launch) };
        let path = format!("/v1/instances/{id}");
        match self.chaos.below(20) {
            0..=2 => self.launch(launch),
            3..=4 => self.client(Method::DELETE, path, None, None),
            5..=10 => self.client(Method::POST, format!("{path}/stop"), None, None),
            11..=17 => self.client(Method::POST, format!("{path}/start"), None, None),
            _ => self.client(Method::POST, format!("{path}/reboot"), None, None),
        }
    }

    /// An agent is killed and started again; or a host is gone, and its operator says so; or a new
    /// machine takes its place, once the operator's word was taken and nothing is left of the old
    /// one. An operator says one thing after the other.
    fn trouble_a_host(&mut self) {
        let host = self.chaos.below(HOSTS);
        let machine = self.hosts[host].clone();
        self.tasks.retain(|task| !matches!(task, Task::Agent(busy, _) if *busy == host));
        let life = machine.machine().life;
        match life {
            Life::Alive if self.chaos.draws(3) => {
                machine.machine().die();
                self.say_of(host, "dead");
            }
            Life::Alive => machine.machine().restart_agent(),
            Life::Gone => self.say_of(host, "dead"),
            Life::SaidDead => self.say_of(host, "active"),
        }
    }

    /// An operator's word on a host, unless it is waiting for an answer to another one.
    fn say_of(&mut self, host: usize, state: &'static str) {
        if self.tasks.iter().any(|task| matches!(task, Task::Operator(busy, _) if *busy == host)) {
            return;
        }
        let (router, path) = (self.router.clone(), format!("/v1/hosts/host-{host}"));
        let machine = self.hosts[host].clone();
        let said = async move {
            let (status, _) =
                send(&router, Method::PUT, &path, Some(json!({ "state": state }))).await;
            if status == 200 {
                let life = if state == "dead" { Life::SaidDead } else { Life::Alive };
                machine.machine().life = life;
            }
        };
        self.tasks.push(Task::Operator(host, Box::pin(said)));
    }

    fn launch(&mut self, number: usize) {
        let body = json!({
            "instance_type": "t3.micro",
            "client_token": format!("token-{number}"),
        });
        self.client(Method::POST, "/v1/instances".to_owned(), Some(body), Some(number));
    }

    fn client(&mut self, method: Method, path: String, body: Option<Value>, launch: Option<usize>) {
        let (router, ids) = (self.router.clone(), self.ids.clone());
        let request = async move {
            // Whoever is told that it may not have been done asks again.
            let (status, value) = loop {
                let answer = send(&router, method.clone(), &path, body.clone()).await;
                if answer.0 < 500 {
                    break answer;
                }
            };
            let (202, Some(launch)) = (status, launch) else { return };
            let id = value["instances"][0]["instance_id"].as_str().expect("an id").to_owned();
            let before = ids.lock().expect("no panic").insert(launch, id.clone());
            assert!(before.is_none_or(|before| before == id), "one token, two instances");
        };
        self.tasks.push(Task::Client(Box::pin(request)));
    }

    /// A process dies: whatever it was about to do is not done. Its message is delivered again; a
    /// user's request is not, so that the api dies only where losses are expected.
    fn kill_any(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let drawn = self.chaos.below(self.tasks.len());
        let is_request = matches!(self.tasks[drawn], Task::Client(_) | Task::Operator(..));
        if is_request && !self.trouble.losses {
            return;
        }
        match self.tasks.swap_remove(drawn) {
            Task::Delivery(message, _) => self.bus.give_back(message),
            Task::Agent(..) | Task::Operator(..) | Task::Client(_) | Task::Sweep(_) => {}
        }
    }

    /// Everything that is under way ends, in any order, until nothing is left to do.
    fn settle(&mut self) {
        loop {
            while self.bus.waiting() > 0 {
                self.deliver(false);
                self.finish_some();
            }
            while !self.tasks.is_empty() {
                self.poll_any();
                self.look();
            }
            if self.bus.waiting() == 0 && self.bus.redrive_all() == 0 {
                return;
            }
        }
    }

    fn finish_some(&mut self) {
        for _ in 0..4 {
            self.poll_any();
            self.look();
        }
    }

    fn look(&mut self) {
        self.steps += 1;
        if self.chaos.writes() != self.checked {
            self.checked = self.chaos.writes();
            self.checker.check(&self.store, &self.hosts);
        }
    }

    /// Until every instance runs or is terminated. Without losses the sweeper has no part in it.
    fn come_to_rest(&mut self) {
        for round in 0..ROUNDS_MAX {
            for host in 0..HOSTS {
                if self.hosts[host].machine().life != Life::Alive {
                    self.say_of(host, "dead");
                }
            }
            self.settle();
            for host in 0..HOSTS {
                self.round_of(host);
            }
            self.settle();
            if unsettled(&self.store).is_empty() && self.bus.waiting() == 0 {
                return;
            }
            // What waits for a host's deadline needs time to pass.
            self.chaos.pass(self.trouble.deadline_ms / 4);
            if self.trouble.losses && round % 4 == 3 {
                self.chaos.pass(NUDGE_MS);
                let ports = self.ports.clone();
                let sweep = async move {
                    eventplane_sweeper::sweep(&ports).await.map_or(0, |swept| swept.nudged)
                };
                self.tasks.push(Task::Sweep(Box::pin(sweep)));
            }
        }
        panic!("not at rest after {ROUNDS_MAX} rounds: {:#?}", unsettled(&self.store));
    }
}

/// Runs one thing alone to its end.
fn drive<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
