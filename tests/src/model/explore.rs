//! Explores a configuration with `stateright`.

use super::check::LAWS;
use super::configuration::Configuration;
use super::state::State;
use super::steps::{Action, Protocol};
use eventplane_domain::State as InstanceState;
use stateright::{Checker, Model, Property};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

const QUIET: &str = "what is quiet is at rest";
const HEALS: &str = "what is in flight may be lost: nudges heal it";

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken == 0 {
            self.candidates(state, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        self.take(before, &action).map(|(state, _)| state)
    }

    fn format_action(&self, action: &Action) -> String {
        self.words(action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(LAWS[0], holds::<0>),
            Property::always(LAWS[1], holds::<1>),
            Property::always(LAWS[2], holds::<2>),
            Property::always(LAWS[3], holds::<3>),
            Property::always(LAWS[4], holds::<4>),
            Property::always(LAWS[5], holds::<5>),
            Property::always(LAWS[6], holds::<6>),
            Property::always(LAWS[7], holds::<7>),
            Property::always(QUIET, quiet_is_at_rest),
            Property::always(HEALS, heals),
            Property::sometimes("an instance runs", |model: &Protocol, state: &State| {
                model.facts(&state.cells).count(InstanceState::Running) > 0
            }),
        ]
    }
}

fn holds<const LAW: usize>(_: &Protocol, state: &State) -> bool {
    state.broken & (1 << LAW) == 0
}

fn quiet_is_at_rest(model: &Protocol, state: &State) -> bool {
    if state.lost || state.broken != 0 {
        return true;
    }
    let mut expected = Vec::new();
    model.expected(state, &mut expected);
    let is_quiet = expected.iter().all(|action| model.take(state, action).is_none());
    !is_quiet || model.is_at_rest(state)
}

fn heals(model: &Protocol, state: &State) -> bool {
    let one_in = model.configuration.heals_one_in;
    if state.broken != 0 {
        return true;
    }
    if one_in > 1 {
        let mut hasher = DefaultHasher::new();
        (&state.cells, &state.machines, state.phase).hash(&mut hasher);
        if !hasher.finish().is_multiple_of(one_in) {
            return true;
        }
    }
    model.heals(state)
}

/// What an exploration has come to.
#[derive(Debug, Clone)]
pub struct Explored {
    /// The configuration's name.
    pub name: &'static str,
    /// States, those met again included.
    pub states: usize,
    /// Different states.
    pub unique: usize,
    /// The length of the longest shortest path.
    pub depth: usize,
    /// How many different states were healed after all that was in flight was dropped.
    pub healed: usize,
    /// The most rounds of nudges that one needed.
    pub rounds: usize,
    /// How long it took.
    pub took: Duration,
    /// How many properties were looked at.
    pub properties: usize,
    /// Which of them do not hold, each with the length of the shortest path found.
    pub broken: Vec<(&'static str, usize)>,
    /// Whether all that can be reached was.
    pub is_whole: bool,
}

impl Explored {
    /// What stands above a table of these.
    pub const HEADER: &str = "configuration                                           states    \
                              unique depth    healed rounds     time  properties";
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explored { name, states, unique, depth, healed, rounds, .. } = self;
        let (seconds, all) = (self.took.as_secs_f64(), self.properties);
        let held = all - self.broken.len();
        write!(f, "{name:<50} {states:>11} {unique:>9} {depth:>5} {healed:>9} {rounds:>6}")?;
        write!(f, " {seconds:>7.1}s  {held} of {all} hold")?;
        for (property, depth) in &self.broken {
            write!(f, "; broken at depth {depth}: {property}")?;
        }
        let part = if self.is_whole { "" } else { "; not all was explored" };
        f.write_str(part)
    }
}

/// Explores all that can be reached, or stops after `limit` states; counterexamples are printed.
#[must_use]
pub fn explore(configuration: Configuration, threads: usize, limit: Option<usize>) -> Explored {
    let begun = Instant::now();
    let checker = Protocol::new(configuration).checker().threads(threads);
    let checker = limit.iter().fold(checker, |checker, limit| checker.target_state_count(*limit));
    let depth_max = configuration.depth_max.unwrap_or(usize::MAX);
    let checker = checker.target_max_depth(depth_max);
    let checker = checker.finish_when(stateright::HasDiscoveries::AnyFailures).spawn_bfs().join();
    let took = begun.elapsed();
    let model = checker.model();
    let is_cut = configuration.depth_max.is_some()
        || limit.is_some_and(|limit| checker.state_count() >= limit);
    let mut broken = Vec::new();
    for property in model.properties() {
        let discovery = checker.discovery(property.name);
        let is_failure = property.expectation.discovery_is_failure();
        match discovery {
            Some(path) if is_failure => {
                let steps = path.into_vec();
                broken.push((property.name, steps.len() - 1));
                print(model, property.name, &steps);
            }
            // What was not met although all was explored.
            None if !is_failure && broken.is_empty() && !is_cut => {
                broken.push((property.name, 0));
            }
            _ => {}
        }
    }
    let healed = model.healed.lock().unwrap_or_else(PoisonError::into_inner);
    Explored {
        name: configuration.name,
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        healed: healed.count,
        rounds: healed.rounds,
        took,
        properties: model.properties().len(),
        is_whole: broken.is_empty() && !is_cut,
        broken,
    }
}

/// Prints a counterexample: what happened, what each thing wrote and published, and how the
/// healing fails where that is what fails.
#[allow(clippy::print_stdout, reason = "a history for people")]
fn print(model: &Protocol, property: &str, steps: &[(State, Option<Action>)]) {
    println!("\n  NOT SO: {property}; {} steps to it:", steps.len() - 1);
    for (state, action) in steps {
        let Some(action) = action else { continue };
        if let Some((_, trace)) = model.take(state, action) {
            model.tell(&model.words(action), &trace);
        }
    }
    let Some((last, _)) = steps.last() else { return };
    let machines = model.all_machines(&last.machines);
    for unrest in model.facts(&last.cells).unrest(&machines) {
        println!("    so that {unrest}");
    }
    if property == HEALS {
        println!("    all that is in flight is lost, and then");
        let (_, end) = model.heal(last, true);
        let machines = model.all_machines(&end.machines);
        for unrest in model.facts(&end.cells).unrest(&machines) {
            println!("    and still {unrest}");
        }
    }
}
