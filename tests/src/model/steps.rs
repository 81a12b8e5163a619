//! What may happen in a state, and what becomes of it.

use super::atoms::Numbers;
use super::check::{Facts, NOT_HANDLED, WENT_BACK, goes_back, host_name};
use super::configuration::Configuration;
use super::heal::Healed;
use super::machine::{Life, Machine};
use super::plane::{Call, Outcome, Plane, now};
use super::state::{Cells, Looking, Sent, State};
use axum::http::Method;
use eventplane_agent::wire::Assignments;
use eventplane_storage::{PoolSize, PoolSizes};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// What a user may ask of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Verb {
    Stop,
    Start,
    Terminate,
}

/// What may happen. `upto` is after how many of its transactions a function dies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Deliver {
        to: u8,
        event: u32,
    },
    /// The function commits, and dies before it publishes.
    Crash {
        to: u8,
        event: u32,
    },
    /// The function looks, and others come before its commit.
    Look {
        to: u8,
        event: u32,
    },
    /// The function that has looked commits and publishes.
    Commit,
    Lose {
        event: u32,
    },
    Ask {
        verb: Verb,
        instance: usize,
    },
    /// The api writes the request down, and dies before it publishes.
    AskAndCrash {
        verb: Verb,
        instance: usize,
    },
    /// The host's agent asks what it is to run.
    Poll {
        host: usize,
    },
    /// The answer comes.
    Hear {
        host: usize,
    },
    Start {
        host: usize,
        at: usize,
    },
    /// A start fails, or what runs ends by itself.
    FailToStart {
        host: usize,
        at: usize,
    },
    End {
        host: usize,
        at: usize,
    },
    Report {
        host: usize,
    },
    /// The api writes what a report leads to, and dies before it publishes.
    ReportAndCrash {
        host: usize,
    },
    LetGo {
        host: usize,
    },
    Restart {
        host: usize,
    },
    Die {
        host: usize,
    },
    SayDead {
        host: usize,
    },
    /// The operator's word is written in part, as many transactions of it.
    SayDeadAndCrash {
        host: usize,
        upto: usize,
    },
    PassDeadline,
}

/// The model: a configuration on a plane.
pub(super) struct Protocol {
    pub(super) configuration: Configuration,
    pub(super) plane: Plane,
    pub(super) machines: Numbers<String, Machine>,
    /// The instances' ids.
    pub(super) ids: Vec<String>,
    pub(super) first: State,
    pub(super) healed: Mutex<Healed>,
}

/// What an action did, for whoever prints it.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) commits: Vec<Vec<(u32, Option<u32>)>>,
    pub(super) published: Vec<u32>,
    pub(super) failure: Option<String>,
}

impl Protocol {
    /// The site of a configuration, its launches written down and published.
    pub(super) fn new(configuration: Configuration) -> Protocol {
        let pool_sizes = pool_sizes(&configuration);
        let plane = Plane::new(pool_sizes);
        let machines = Numbers::default();
        let hosts = configuration.hosts.len();
        let machine = number(&machines, Machine::default());
        let mut state = State {
            cells: plane.seeded(pool_sizes),
            sent: Sent::default(),
            machines: vec![machine; hosts].into(),
            looking: None,
            left: configuration.left,
            phase: 0,
            lost: false,
            broken: 0,
        };
        let mut ask = |method: Method, path: &str, body: Option<Value>| {
            let body = body.map(|body| body.to_string());
            let call = Call::Http { method, path: path.to_owned(), body };
            let outcome = plane.call(&state.cells, &call, 0);
            let (status, answer) = outcome.answer.clone().expect("an answer");
            assert!(status < 300, "{path}: {status} {answer}");
            state.cells = after(&state.cells, &outcome.commits);
            state.sent = state.sent.and(&outcome.published);
            answer
        };
        for (host, slots) in configuration.hosts.iter().enumerate() {
            let name = host_name(host);
            let registration = json!({
                "host_id": name, "zone": "a", "rack": format!("r{host}"),
                "vcpus": slots * 2, "memory_mib": 65_536, "network_mbps": 100_000,
            });
            ask(Method::POST, "/v1/hosts", Some(registration));
            // From now on its heartbeats change nothing.
            let nothing = json!({ "complete": true, "revision": 0 });
            ask(Method::POST, &format!("/v1/hosts/{name}/reports"), Some(nothing));
        }
        let mut launch = json!({ "instance_type": "t3.micro" });
        if configuration.is_scarce {
            let subnets = ask(Method::GET, "/v1/subnets", None);
            launch["subnet_id"] = subnets["subnets"][0]["subnet_id"].clone();
            launch["private_ip"] = json!("172.31.0.10");
        }
        let mut ids = Vec::new();
        for number in 0..configuration.launches {
            plane.set_chance(number as i64);
            launch["tags"] = json!({ "launch": number.to_string() });
            let answer = ask(Method::POST, "/v1/instances", Some(launch.clone()));
            let id = answer["instances"][0]["instance_id"].as_str();
            ids.push(id.expect("an id").to_owned());
        }
        let healed = Mutex::default();
        Protocol { configuration, plane, machines, ids, first: state, healed }
    }

    pub(super) fn machine(&self, state: &State, host: usize) -> Arc<Machine> {
        self.machines.value(state.machines[host])
    }

    pub(super) fn all_machines(&self, machines: &[u32]) -> Vec<Arc<Machine>> {
        machines.iter().map(|machine| self.machines.value(*machine)).collect()
    }

    pub(super) fn facts(&self, cells: &Cells) -> Facts {
        Facts::of(&self.plane.atoms, cells)
    }

    /// Everything that may be tried in a state; much of it changes nothing.
    pub(super) fn candidates(&self, state: &State, actions: &mut Vec<Action>) {
        self.expected(state, actions);
        let left = &state.left;
        for event in state.sent.iter() {
            if left.losses > 0 {
                actions.push(Action::Lose { event });
            }
            for to in self.plane.atoms.sent.value(event).hearers.iter().copied() {
                if left.crashes > 0 {
                    actions.push(Action::Crash { to, event });
                }
                if left.overlaps > 0 && state.looking.is_none() {
                    actions.push(Action::Look { to, event });
                }
            }
        }
        for instance in 0..self.ids.len() {
            for (verb, left_of) in [
                (Verb::Stop, left.stops),
                (Verb::Start, left.starts),
                (Verb::Terminate, left.terminations),
            ] {
                if left_of > 0 {
                    actions.push(Action::Ask { verb, instance });
                }
                if left_of > 0 && left.crashes > 0 {
                    actions.push(Action::AskAndCrash { verb, instance });
                }
            }
        }
        for host in 0..state.machines.len() {
            self.trouble(state, host, actions);
        }
        if left.deadlines > 0 {
            actions.push(Action::PassDeadline);
        }
    }

    /// What happens sooner or later if nothing is lost: a state in which none of it changes
    /// anything is quiet.
    pub(super) fn expected(&self, state: &State, actions: &mut Vec<Action>) {
        if state.looking.is_some() {
            actions.push(Action::Commit);
        }
        for event in state.sent.iter() {
            let sent = self.plane.atoms.sent.value(event);
            actions.extend(sent.hearers.iter().map(|to| Action::Deliver { to: *to, event }));
        }
        for host in 0..state.machines.len() {
            let machine = self.machine(state, host);
            match machine.life {
                Life::Alive => {
                    if machine.answer.is_some() {
                        actions.push(Action::Hear { host });
                    }
                    actions.push(Action::Poll { host });
                    let starting = machine.starting().count();
                    actions.extend((0..starting).map(|at| Action::Start { host, at }));
                    actions.push(Action::Report { host });
                    if state.phase > 0 {
                        actions.push(Action::LetGo { host });
                    }
                }
                Life::Gone => actions.push(Action::SayDead { host }),
                Life::SaidDead => {}
            }
        }
    }

    fn trouble(&self, state: &State, host: usize, actions: &mut Vec<Action>) {
        let (machine, left) = (self.machine(state, host), &state.left);
        if machine.life == Life::Alive {
            if left.failures > 0 {
                let (starting, running) = (machine.starting().count(), machine.running.len());
                actions.extend((0..starting).map(|at| Action::FailToStart { host, at }));
                actions.extend((0..running).map(|at| Action::End { host, at }));
            }
            if left.restarts > 0 {
                actions.push(Action::Restart { host });
            }
            if left.deaths > 0 {
                actions.push(Action::Die { host });
            }
            if left.crashes > 0 {
                actions.push(Action::ReportAndCrash { host });
            }
        } else if machine.life == Life::Gone && left.crashes > 0 {
            actions.extend((1..3).map(|upto| Action::SayDeadAndCrash { host, upto }));
        }
    }

    /// The state after an action and what it did; none if it changes nothing.
    pub(super) fn take(&self, before: &State, action: &Action) -> Option<(State, Trace)> {
        let mut state = before.clone();
        let trace = match action {
            Action::Deliver { .. }
            | Action::Crash { .. }
            | Action::Look { .. }
            | Action::Commit
            | Action::Lose { .. } => self.bus(&mut state, action)?,
            Action::Ask { verb, instance } => self.ask(&mut state, *verb, *instance, false)?,
            Action::AskAndCrash { verb, instance } => {
                state.left.crashes -= 1;
                self.ask(&mut state, *verb, *instance, true)?
            }
            Action::PassDeadline => {
                state.left.deadlines -= 1;
                state.phase += 1;
                Trace::default()
            }
            Action::Poll { host }
            | Action::Hear { host }
            | Action::Start { host, .. }
            | Action::FailToStart { host, .. }
            | Action::End { host, .. }
            | Action::Report { host }
            | Action::ReportAndCrash { host }
            | Action::LetGo { host }
            | Action::Restart { host }
            | Action::Die { host }
            | Action::SayDead { host }
            | Action::SayDeadAndCrash { host, .. } => self.host(&mut state, action, *host)?,
        };
        if state == *before {
            return None;
        }
        self.judge(before, &mut state, &trace);
        Some((state, trace))
    }

    /// Looks at the laws that can be broken by what has changed.
    fn judge(&self, before: &State, state: &mut State, trace: &Trace) {
        if trace.failure.is_some() {
            state.broken |= NOT_HANDLED;
        }
        if state.cells == before.cells && state.machines == before.machines {
            return;
        }
        let cells = &self.plane.atoms.cells;
        for (key, cell) in trace.commits.iter().flatten() {
            let (Some(was), Some(is)) = (before.cells.at(*key), cell) else { continue };
            if goes_back(&cells.value(was), &cells.value(*is)) {
                state.broken |= WENT_BACK;
            }
        }
        let machines = self.all_machines(&state.machines);
        state.broken |= self.facts(&state.cells).broken(&machines);
    }

    fn bus(&self, state: &mut State, action: &Action) -> Option<Trace> {
        match *action {
            Action::Deliver { to, event } => {
                let outcome =
                    self.plane.call(&state.cells, &Call::Deliver { to, event }, state.phase);
                Some(apply(state, &outcome))
            }
            Action::Crash { to, event } => {
                let outcome =
                    self.plane.call(&state.cells, &Call::Deliver { to, event }, state.phase);
                state.left.crashes -= 1;
                let is_both = !outcome.commits.is_empty() && !outcome.published.is_empty();
                is_both.then(|| apply_upto(state, &outcome, outcome.commits.len()))
            }
            Action::Look { to, event } => {
                let outcome =
                    self.plane.call(&state.cells, &Call::Deliver { to, event }, state.phase);
                state.left.overlaps -= 1;
                state.looking = Some(Looking { to, event, earlier: state.cells.clone() });
                (!outcome.commits.is_empty()).then(Trace::default)
            }
            Action::Commit => {
                let Looking { to, event, earlier } = state.looking.take()?;
                let call = Call::Deliver { to, event };
                let outcome = self.plane.call_late(&state.cells, &earlier, &call, state.phase);
                Some(apply(state, &outcome))
            }
            Action::Lose { event } => {
                state.left.losses -= 1;
                state.lost = true;
                state.sent = state.sent.without(event);
                Some(Trace::default())
            }
            _ => None,
        }
    }

    fn ask(&self, state: &mut State, verb: Verb, instance: usize, crash: bool) -> Option<Trace> {
        let path = format!("/v1/instances/{}", self.ids[instance]);
        let (method, path) = match verb {
            Verb::Stop => (Method::POST, format!("{path}/stop")),
            Verb::Start => (Method::POST, format!("{path}/start")),
            Verb::Terminate => (Method::DELETE, path),
        };
        let left = match verb {
            Verb::Stop => &mut state.left.stops,
            Verb::Start => &mut state.left.starts,
            Verb::Terminate => &mut state.left.terminations,
        };
        *left -= 1;
        let outcome =
            self.plane.call(&state.cells, &Call::Http { method, path, body: None }, state.phase);
        // Nothing was written: it was refused, or is so already.
        if outcome.commits.is_empty() {
            return None;
        }
        if crash {
            state.lost = true;
            return Some(apply_upto(state, &outcome, outcome.commits.len()));
        }
        Some(apply(state, &outcome))
    }

    fn host(&self, state: &mut State, action: &Action, host: usize) -> Option<Trace> {
        let mut machine = Machine::clone(&*self.machine(state, host));
        let now = now(state.phase);
        let mut trace = Trace::default();
        match action {
            Action::Poll { .. } => {
                let path = format!("/v1/hosts/{}/assignments", host_name(host));
                let call = Call::Http { method: Method::GET, path, body: None };
                let outcome = self.plane.call(&state.cells, &call, state.phase);
                trace = apply(state, &outcome);
                machine.answer = Some(wanted(&outcome)?);
                if !self.configuration.has_slow_answers {
                    machine.hear(now);
                } else if machine.knows_the_answer(now) {
                    machine.answer = None;
                }
            }
            Action::Hear { .. } => machine.hear(now),
            Action::Start { at, .. } => {
                let (key, generation) = machine.starting().nth(*at)?.clone();
                machine.start(&key, generation);
            }
            Action::FailToStart { at, .. } => {
                state.left.failures -= 1;
                let (key, generation) = machine.starting().nth(*at)?.clone();
                machine.end(&key, generation);
            }
            Action::End { at, .. } => {
                state.left.failures -= 1;
                let (key, generation) =
                    machine.running.iter().nth(*at).map(|(key, g)| (key.clone(), *g))?;
                machine.end(&key, generation);
            }
            Action::Report { .. } => {
                let (report, outcome) = self.reported(state, &machine, host);
                trace = apply(state, &outcome);
                machine.reported(&report);
            }
            Action::ReportAndCrash { .. } => {
                let (_, outcome) = self.reported(state, &machine, host);
                state.left.crashes -= 1;
                if outcome.commits.is_empty() {
                    return None;
                }
                trace = apply_upto(state, &outcome, outcome.commits.len());
            }
            Action::LetGo { .. } => machine.pass(now),
            Action::Restart { .. } => {
                state.left.restarts -= 1;
                machine.restart();
            }
            Action::Die { .. } => {
                state.left.deaths -= 1;
                machine.die();
            }
            Action::SayDead { .. } => {
                let outcome = self.said_dead(state, host);
                trace = apply(state, &outcome);
                machine.life = Life::SaidDead;
            }
            Action::SayDeadAndCrash { upto, .. } => {
                let outcome = self.said_dead(state, host);
                state.left.crashes -= 1;
                trace = apply_upto(state, &outcome, *upto);
            }
            _ => return None,
        }
        let mut machines = state.machines.to_vec();
        machines[host] = number(&self.machines, machine);
        state.machines = machines.into();
        Some(trace)
    }

    pub(super) fn reported(
        &self,
        state: &State,
        machine: &Machine,
        host: usize,
    ) -> (eventplane_agent::wire::Report, Arc<Outcome>) {
        let report = machine.report();
        let body = Some(serde_json::to_string(&report).expect("plain data"));
        let path = format!("/v1/hosts/{}/reports", host_name(host));
        let call = Call::Http { method: Method::POST, path, body };
        let outcome = self.plane.call(&state.cells, &call, state.phase);
        (report, outcome)
    }

    fn said_dead(&self, state: &State, host: usize) -> Arc<Outcome> {
        let path = format!("/v1/hosts/{}", host_name(host));
        let body = Some(json!({ "state": "dead" }).to_string());
        self.plane.call(&state.cells, &Call::Http { method: Method::PUT, path, body }, state.phase)
    }
}

/// The wanted set in an answer.
fn wanted(outcome: &Outcome) -> Option<Assignments> {
    let (status, value) = outcome.answer.as_ref()?;
    assert_eq!(*status, 200, "{value}");
    let mut set: Assignments = serde_json::from_value(value.clone()).expect("a wanted set");
    set.poll_after_ms = 0;
    Some(set)
}

/// All that a call did becomes so.
pub(super) fn apply(state: &mut State, outcome: &Outcome) -> Trace {
    state.sent = state.sent.and(&outcome.published);
    let trace = apply_upto(state, outcome, outcome.commits.len());
    let failure = outcome.failure.clone();
    Trace { published: outcome.published.clone(), failure, ..trace }
}

/// As many of a call's transactions become so, and nothing is published.
fn apply_upto(state: &mut State, outcome: &Outcome, upto: usize) -> Trace {
    let commits: Vec<_> = outcome.commits.iter().take(upto).cloned().collect();
    state.cells = after(&state.cells, &commits);
    Trace { commits, ..Trace::default() }
}

fn after(cells: &Cells, commits: &[Vec<(u32, Option<u32>)>]) -> Cells {
    commits.iter().fold(cells.clone(), |cells, commit| cells.after(commit))
}

fn number(machines: &Numbers<String, Machine>, machine: Machine) -> u32 {
    machines.number(format!("{machine:?}"), |_| machine.clone())
}

/// Pools without end, or with room for one root volume.
fn pool_sizes(configuration: &Configuration) -> PoolSizes {
    if !configuration.is_scarce {
        return PoolSizes::default();
    }
    // Of its eight shards only the first has room for 8 GiB.
    let gp3 = PoolSize { gib: 7 * 8 + 1, iops: 1_000_000 };
    PoolSizes { gp3, ..PoolSizes::default() }
}
