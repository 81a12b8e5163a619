//! The net: whatever is in flight is dropped, and the sweeper's nudges, whole reports of the agents
//! and the deliveries that follow from these have to bring everything to rest.

use super::machine::Life;
use super::plane::Call;
use super::state::{Cells, Sent, State};
use super::steps::{Action, Protocol, apply};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

/// How many rounds of sweep, deliveries and reports it may take. After half of them the deadline
/// of what is still on its way passes.
const ROUNDS_MAX: usize = 12;
/// How many deliveries one round may take: more are a loop.
const DELIVERIES_MAX: usize = 1_000;

/// What healing starts from, and nothing else matters to it: what is stored, the hosts, the time.
type Start = (Cells, Arc<[u32]>, u8);

/// What was found of the states that were healed.
#[derive(Debug, Default)]
pub(super) struct Healed {
    /// Whether it heals.
    known: HashMap<Start, bool>,
    /// The most rounds that one took.
    pub(super) rounds: usize,
    /// How many different states were healed.
    pub(super) count: usize,
}

impl Protocol {
    /// Whether a state heals after all that is in flight is lost.
    pub(super) fn heals(&self, state: &State) -> bool {
        let start = (state.cells.clone(), state.machines.clone(), state.phase);
        let known = |healed: &Healed| healed.known.get(&start).copied();
        let healed = self.healed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known(&healed) {
            return known;
        }
        drop(healed);
        let (rounds, _) = self.heal(state, false);
        let mut healed = self.healed.lock().unwrap_or_else(PoisonError::into_inner);
        if healed.known.insert(start, rounds.is_some()).is_none() {
            healed.count += 1;
        }
        healed.rounds = healed.rounds.max(rounds.unwrap_or(0));
        rounds.is_some()
    }

    /// Heals a state: in how many rounds, if it does, and where it ended. `told` prints each action.
    pub(super) fn heal(&self, state: &State, told: bool) -> (Option<usize>, State) {
        let mut state = State { sent: Sent::default(), looking: None, ..state.clone() };
        for round in 0..ROUNDS_MAX {
            if self.is_at_rest(&state) {
                return (Some(round), state);
            }
            if round == ROUNDS_MAX / 2 {
                state.phase += 1;
            }
            let swept = self.plane.call(&state.cells, &Call::Sweep, state.phase);
            let trace = apply(&mut state, &swept);
            if told {
                self.tell("the sweeper sweeps", &trace);
            }
            if !self.deliver_all(&mut state, trace.published, told) {
                return (None, state);
            }
            for host in 0..state.machines.len() {
                let published = self.round(&mut state, host, told);
                if !self.deliver_all(&mut state, published, told) {
                    return (None, state);
                }
            }
        }
        (self.is_at_rest(&state).then_some(ROUNDS_MAX), state)
    }

    pub(super) fn is_at_rest(&self, state: &State) -> bool {
        let machines = self.all_machines(&state.machines);
        self.facts(&state.cells).unrest(&machines).is_empty()
    }

    /// Delivers these, and what is published meanwhile, each once; false if that does not end, or a
    /// law is broken on the way.
    fn deliver_all(&self, state: &mut State, published: Vec<u32>, told: bool) -> bool {
        let mut waiting = VecDeque::from(published);
        for _ in 0..DELIVERIES_MAX {
            let Some(event) = waiting.pop_front() else { return true };
            for to in self.plane.atoms.sent.value(event).hearers.iter().copied() {
                waiting.extend(self.happen(state, &Action::Deliver { to, event }, told));
                if state.broken != 0 {
                    return false;
                }
            }
        }
        false
    }

    /// One round of a host's agent, or its operator's word; what was published.
    fn round(&self, state: &mut State, host: usize, told: bool) -> Vec<u32> {
        let mut published = Vec::new();
        if self.machine(state, host).life == Life::Gone {
            return self.happen(state, &Action::SayDead { host }, told);
        }
        if self.machine(state, host).life != Life::Alive {
            return published;
        }
        for action in [Action::Poll { host }, Action::Hear { host }, Action::LetGo { host }] {
            published.extend(self.happen(state, &action, told));
        }
        while self.machine(state, host).starting().next().is_some() {
            published.extend(self.happen(state, &Action::Start { host, at: 0 }, told));
        }
        published.extend(self.happen(state, &Action::Report { host }, told));
        published
    }

    /// An action happens, if it changes anything. What it publishes counts even if it was published
    /// before: a message that was delivered is gone.
    fn happen(&self, state: &mut State, action: &Action, told: bool) -> Vec<u32> {
        state.sent = Sent::default();
        let Some((after, trace)) = self.take(state, action) else { return vec![] };
        *state = after;
        if told {
            self.tell(&self.words(action), &trace);
        }
        trace.published
    }
}
