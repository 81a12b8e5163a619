//! How a history ends: the trouble is over, and all has to come to rest.

use super::chaos::Counts;
use super::fault::Kind;
use super::host::{Life, send};
use super::setup::Setup;
use super::world::{HOSTS, Stage, What, World, drive};
use axum::http::Method;
use eventplane_domain::State;
use eventplane_instances::Record;
use std::collections::BTreeSet;

/// How many rounds of everything it may take until all has come to rest.
const ROUNDS_MAX: usize = 60;
/// Longer than the sweeper waits before it nudges, in milliseconds.
const NUDGE_MS: i64 = 31_000;
/// How often dead letters are delivered again at rest, where nothing fails.
const REDRIVES_MAX: usize = 4;
/// The longest that is waited for one thing, in milliseconds: what comes a day late is not waited
/// for.
pub(super) const LONGEST_MS: i64 = 4 * 3_600_000;
/// More than how late the latest message is, in milliseconds.
const DAY_MS: i64 = 25 * 3_600_000;
/// After how long a client token is used again, in milliseconds.
const TOKEN_MS: i64 = 11 * 60_000;
/// How long it is good after its instances have ended, at least, in milliseconds, less a minute for
/// clocks that are not right.
const KEPT_MS: i64 = 24 * 3_600_000 - 60_000;

/// What a history came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// How often something was polled or looked at.
    pub steps: u64,
    /// How many transactions were committed.
    pub commits: u64,
    /// How long it took by the clock in it, in milliseconds.
    pub lasted_ms: i64,
    /// How many instances there were.
    pub instances: usize,
    /// How many ended up running, and how many stopped, before all were terminated.
    pub running: usize,
    /// See [`History::running`].
    pub stopped: usize,
    /// How many generations there were beyond the first of each instance.
    pub generations: usize,
    /// How often the sweeper nudged.
    pub nudges: usize,
    /// What went wrong and what came of it, and how often.
    pub counts: Counts,
    /// The next number of its chances: two histories that are alike to the last draw have the same.
    pub last_draw: usize,
}

impl Stage {
    /// Runs the history of this setup. With `tells`, what happens is told by [`Stage::told`].
    ///
    /// # Panics
    /// When an invariant does not hold, or not all comes to rest. The stage is then to be made anew.
    #[must_use]
    pub fn run(&self, setup: Setup, tells: bool) -> History {
        let mut world = self.begin(setup, tells);
        self.chaos.set_troubled(true);
        if setup.kinds.has(Kind::ManyRefused) {
            for launch in 0..setup.launches {
                world.asked.insert((launch, "launch"));
                world.launch(launch);
            }
        }
        for _ in 0..setup.steps {
            world.step();
        }
        let begun = self.chaos.moment();
        self.chaos.set_troubled(false);
        self.chaos.tell(|| "the trouble ends".to_owned());
        world.come_to_rest();
        world.nobody_has_to_nudge();
        world.the_ledger_balances();
        world.secrets_are_kept();
        if setup.kinds.has(Kind::Storm) {
            world.start_again();
        }
        let (stopped, running) = (world.count(State::Stopped), world.count(State::Running));
        world.yesterday_comes_again();
        assert_eq!((stopped, running), (world.count(State::Stopped), world.count(State::Running)));
        let generations = |one: &Record| one.progress.generation as usize - 1;
        let generations = world.checker.records().map(|(_, one)| generations(one)).sum();
        self.chaos.tell(|| "all are terminated".to_owned());
        world.terminate_all();
        world.come_to_rest();
        world.checker.nothing_is_held();
        world.tokens_still_stand();
        world.yesterday_comes_again();
        world.checker.nothing_is_held();
        world.checker.has_missed_nothing(&self.store.data());
        History {
            steps: world.steps,
            commits: self.chaos.writes(),
            lasted_ms: begun - super::chaos::START.0,
            instances: world.launched().len(),
            running,
            stopped,
            generations,
            nudges: world.nudges,
            counts: self.counts(),
            last_draw: self.chaos.below(usize::MAX),
        }
    }

    /// What was told of the last history.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        self.chaos.told()
    }
}

impl World<'_> {
    pub(super) fn sweep_now_and_then(&mut self) {
        if !self.setup.has_sweeper() {
            return;
        }
        // Until something is late, or not: it sweeps whenever its minute has come.
        if self.chaos().draws(3) {
            self.chaos().pass(NUDGE_MS);
        }
        if self.chaos().in_any_window(Kind::SweeperDown) {
            return;
        }
        let times = if self.chaos().strikes_at(Kind::SweeperTwice, 2, "sweeper") { 2 } else { 1 };
        (0..times).for_each(|_| self.sweep());
    }

    fn sweep(&mut self) {
        let ports = self.stage.ports.clone();
        let sweep = async move {
            let nudged = eventplane_sweeper::sweep(&ports).await.map_or(0, |swept| swept.nudged);
            // What it could not do now it does with the next sweep.
            let _ = eventplane_sweeper::watch_hosts(&ports, None).await;
            nudged
        };
        self.begin("sweeper", What::Sweep(Box::pin(sweep)));
    }

    /// Everything that is under way ends, in any order, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..REDRIVES_MAX {
            loop {
                self.deliver();
                (0..4).for_each(|_| self.poll_one());
                if !self.tasks.is_empty() {
                    self.wait_if_all_sleep();
                    continue;
                }
                let now = self.chaos().moment();
                match self.stage.bus.visible_at() {
                    Some(at) if at <= now => {}
                    Some(at) if at - now <= LONGEST_MS => self.chaos().pass(at - now),
                    _ => break,
                }
            }
            if self.stage.bus.redrive_all(1) == 0 {
                return;
            }
        }
        panic!("dead letters again after {REDRIVES_MAX} redrives, and without trouble");
    }

    /// Whoever waits for time gets it.
    fn wait_if_all_sleep(&self) {
        let now = self.chaos().moment();
        if self.tasks.iter().all(|task| task.worker.sleeps_until > now) {
            self.wait_for_something(LONGEST_MS);
        }
    }

    fn poll_one(&mut self) {
        if !self.tasks.is_empty() {
            self.poll_any();
            self.look();
        }
    }

    /// Until every instance runs, is stopped or is terminated, as its user wants it. Without losses
    /// the sweeper has no part in it.
    fn come_to_rest(&mut self) {
        for round in 0..ROUNDS_MAX {
            for host in 0..HOSTS {
                let life = self.hosts[host].machine().life;
                if life != Life::Alive {
                    self.say_of(host, "dead");
                }
            }
            self.settle();
            (0..HOSTS).for_each(|host| self.round_of(host));
            self.settle();
            if self.checker.unsettled().is_empty() {
                return self.checker.runs_what_it_says(&self.hosts);
            }
            // What waits for a host's deadline needs time to pass.
            self.chaos().pass(self.deadline_ms / 4);
            if self.setup.has_sweeper() && round % 4 == 3 {
                self.chaos().pass(NUDGE_MS);
                self.sweep();
            }
        }
        panic!("not at rest after {ROUNDS_MAX} rounds: {:#?}", self.checker.unsettled());
    }

    /// At rest, the sweeper has nothing to do.
    fn nobody_has_to_nudge(&mut self) {
        self.chaos().pass(NUDGE_MS);
        let swept = drive(eventplane_sweeper::sweep(&self.stage.ports)).expect("no trouble");
        assert_eq!(swept.nudged, 0, "rescued by the sweeper");
    }

    /// The plane's own books balance, which it reads from other items than the checks do.
    fn the_ledger_balances(&self) {
        // Until the last index has learned what there is.
        self.chaos().pass(super::store::INDEX_LATE_MS);
        let asked = send(&self.router, Method::GET, "/v1/ledger", None, None);
        let (status, report) = drive(asked);
        assert!(status == 200 && report["balances"] == true, "{status} {report:#}");
    }

    /// Hosts come back, and users start what is stopped: what was refused before runs by a later
    /// generation then.
    fn start_again(&mut self) {
        for host in 0..HOSTS {
            let life = self.hosts[host].machine().life;
            if life != Life::Alive {
                self.say_of(host, "active");
            }
        }
        self.settle();
        self.chaos().tell(|| "what is stopped is started again".to_owned());
        self.start_all();
        self.come_to_rest();
    }

    /// What is a day late comes, and all that was ever delivered comes again: nothing changes.
    fn yesterday_comes_again(&mut self) {
        if self.setup.kinds.has(Kind::Storm) {
            let messages = self.stage.bus.storm();
            self.chaos().count(Kind::Storm.name(), "all");
            self.chaos().tell(|| format!("{messages} messages of the past come again"));
            self.settle();
        }
        if self.stage.bus.waiting() > 0 {
            self.chaos().pass(DAY_MS);
            self.settle();
        }
        assert_eq!(self.stage.bus.waiting(), 0, "messages");
        assert!(self.checker.unsettled().is_empty(), "{:#?}", self.checker.unsettled());
    }

    /// Whoever runs with a role has credentials of its generation, and no event has told them.
    fn secrets_are_kept(&self) {
        let bodies = self.stage.bus.archived();
        let stage = self.stage;
        for launch in self.running_with_a_role() {
            let (tenant, record) = launch;
            let generation = record.progress.generation;
            let got = drive(eventplane_security::root(
                &*stage.store,
                stage.master.clone(),
                stage.chaos.clone(),
                &tenant,
                &record.id,
                generation,
            ));
            let got = got.expect("no trouble");
            let got = got.unwrap_or_else(|| panic!("{} runs without credentials", record.id));
            let secret = got.expose();
            let told = bodies.iter().find(|body| body.contains(secret));
            assert!(told.is_none(), "the secret of {} is in {told:?}", record.id);
        }
    }

    fn running_with_a_role(&self) -> Vec<(eventplane_domain::Tenant, Record)> {
        let records = self.checker.records().map(|(_, record)| record.clone());
        let runs =
            |record: &Record| record.progress.state == State::Running && record.spec.role.is_some();
        records.filter(runs).map(|record| (record.tenant.clone(), record)).collect()
    }

    /// The same token gets the same instances, also after their end, for a day.
    fn tokens_still_stand(&mut self) {
        self.chaos().pass(TOKEN_MS);
        let now = self.chaos().moment();
        let is_good = |record: &Record| record.ended_at.is_some_and(|at| now - at.0 < KEPT_MS);
        let good: BTreeSet<String> = (self.checker.records())
            .filter(|(_, record)| is_good(record))
            .map(|(_, record)| record.id.to_string())
            .collect();
        let before = self.launched();
        for (launch, _) in before.iter().filter(|(_, id)| good.contains(*id)) {
            self.launch(*launch);
        }
        self.settle();
        assert_eq!(before, self.launched());
        self.checker.nothing_is_held();
    }

    fn count(&self, state: State) -> usize {
        self.checker.records().filter(|(_, one)| one.progress.state == state).count()
    }
}
