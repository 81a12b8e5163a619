//! The instance's state machine: EC2's states, and one `match` for all that is heard of it.
//!
//! Source of the states and their codes: "InstanceState", EC2 API reference; of the transitions:
//! "Amazon EC2 instance state changes", EC2 user guide.

use crate::Step;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An instance's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum State {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl State {
    /// All states.
    pub const ALL: [State; 6] = [
        State::Pending,
        State::Running,
        State::ShuttingDown,
        State::Terminated,
        State::Stopping,
        State::Stopped,
    ];

    /// The name, as EC2 has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Running => "running",
            State::ShuttingDown => "shutting-down",
            State::Terminated => "terminated",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
        }
    }

    /// EC2's number for it.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            State::Pending => 0,
            State::Running => 16,
            State::ShuttingDown => 32,
            State::Terminated => 48,
            State::Stopping => 64,
            State::Stopped => 80,
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the instance is on its way to another state, so that the sweeper watches it.
    #[must_use]
    pub fn is_moving(self) -> bool {
        matches!(self, State::Pending | State::ShuttingDown | State::Stopping)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a generation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything is given back for good.
    Terminate,
    /// Only the room is given back; the instance may be started again.
    Stop,
    /// Only the room is given back; the next generation is asked for at once.
    Replace,
}

impl Outcome {
    /// The name, as in events and items.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Terminate => "terminate",
            Outcome::Stop => "stop",
            Outcome::Replace => "replace",
        }
    }
    /// The outcome of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Outcome> {
        [Outcome::Terminate, Outcome::Stop, Outcome::Replace]
            .into_iter()
            .find(|outcome| outcome.name() == name)
    }
}

/// Which of the four steps that hold things have given back for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Returned {
    pub capacity: bool,
    pub network: bool,
    pub storage: bool,
    pub security: bool,
}

impl Returned {
    fn all(self) -> bool {
        self.capacity && self.network && self.storage && self.security
    }
    fn with(mut self, step: Step) -> Self {
        match step {
            Step::Capacity => self.capacity = true,
            Step::Network => self.network = true,
            Step::Storage => self.storage = true,
            Step::Security => self.security = true,
            Step::Handoff => {}
        }
        self
    }
}

/// As much of an instance's record as its state depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The state.
    pub state: State,
    /// The newest generation.
    pub generation: u32,
    /// How the newest generation was withdrawn, if it was.
    pub withdrawn: Option<Outcome>,
    /// Who has given back for good.
    pub returned: Returned,
    /// The newest generation whose room was given back, if one was; 0 for none.
    pub room_returned: u32,
}

impl Progress {
    /// An instance that has just been asked for.
    #[must_use]
    pub fn requested() -> Self {
        Progress {
            state: State::Pending,
            generation: 1,
            withdrawn: None,
            returned: Returned::default(),
            room_returned: 0,
        }
    }
}

/// What may be heard of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Heard {
    /// Its host reports that this generation runs.
    Running { generation: u32 },
    /// handoff has decided how this generation ends.
    Withdrawn { generation: u32, outcome: Outcome },
    /// A step has given back: this generation's things, or all for good.
    Returned { step: Step, generation: u32, for_good: bool },
    /// Its user asked to start it, having seen this generation stopped.
    StartRequested { generation: u32 },
}

/// The record after `heard`, or `None` where it changes nothing: in whatever order and however
/// often things are heard, no state goes back.
#[must_use]
pub fn hear(now: Progress, heard: Heard) -> Option<Progress> {
    use Outcome::{Replace, Stop, Terminate};
    let current = |generation| generation == now.generation;
    let then = match (now.state, now.withdrawn, heard) {
        (State::Terminated, _, _) => return None,
        (State::Pending, None, Heard::Running { generation }) if current(generation) => {
            Progress { state: State::Running, ..now }
        }
        (_, Some(Terminate), Heard::Withdrawn { .. }) => return None,
        (_, _, Heard::Withdrawn { generation, outcome: Terminate }) => {
            let generation = now.generation.max(generation);
            Progress { generation, withdrawn: Some(Terminate), ..now }
        }
        (_, None, Heard::Withdrawn { generation, outcome: Stop }) if current(generation) => {
            Progress { withdrawn: Some(Stop), ..now }
        }
        (_, None, Heard::Withdrawn { generation, outcome: Replace }) if current(generation) => {
            Progress { state: State::Pending, generation: generation + 1, ..now }
        }
        (State::Stopped, Some(Stop), Heard::StartRequested { generation })
            if current(generation) =>
        {
            let generation = generation + 1;
            Progress { state: State::Pending, generation, withdrawn: None, ..now }
        }
        (_, _, Heard::Returned { step, for_good: true, .. }) => {
            Progress { returned: now.returned.with(step), ..now }
        }
        (_, _, Heard::Returned { step: Step::Capacity, generation, .. }) => {
            Progress { room_returned: now.room_returned.max(generation), ..now }
        }
        _ => return None,
    };
    let then = settle(then);
    (then != now).then_some(then)
}

/// The state that follows from what is recorded of a withdrawn generation.
fn settle(progress: Progress) -> Progress {
    let state = match progress.withdrawn {
        Some(Outcome::Terminate) if progress.returned.all() => State::Terminated,
        Some(Outcome::Terminate) => State::ShuttingDown,
        Some(Outcome::Stop) if progress.room_returned >= progress.generation => State::Stopped,
        Some(Outcome::Stop) => State::Stopping,
        Some(Outcome::Replace) | None => progress.state,
    };
    Progress { state, ..progress }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEPS: [Step; 4] = [Step::Capacity, Step::Network, Step::Storage, Step::Security];

    fn any_heard() -> impl Strategy<Value = Heard> {
        let generation = 1..4_u32;
        prop_oneof![
            generation.clone().prop_map(|generation| Heard::Running { generation }),
            generation.clone().prop_map(|generation| Heard::StartRequested { generation }),
            (generation.clone(), 0..3_usize).prop_map(|(generation, o)| Heard::Withdrawn {
                generation,
                outcome: [Outcome::Terminate, Outcome::Stop, Outcome::Replace][o],
            }),
            (generation, 0..4_usize, any::<bool>()).prop_map(|(generation, s, for_good)| {
                Heard::Returned { step: STEPS[s], generation, for_good }
            }),
        ]
    }

    fn after(heard: impl IntoIterator<Item = Heard>) -> Progress {
        heard.into_iter().fold(Progress::requested(), |now, heard| hear(now, heard).unwrap_or(now))
    }

    proptest! {
        #[test]
        fn no_state_goes_back_whatever_is_heard(heard in prop::collection::vec(any_heard(), 0..24)) {
            let mut now = Progress::requested();
            for heard in heard {
                let then = hear(now, heard).unwrap_or(now);
                prop_assert!(then.generation >= now.generation);
                prop_assert!(now.state != State::Terminated || then == now);
                prop_assert!(now.state != State::ShuttingDown
                    || matches!(then.state, State::ShuttingDown | State::Terminated));
                prop_assert!(now.state != State::Running || then.state != State::Pending
                    || then.generation > now.generation);
                prop_assert_eq!(hear(then, heard).unwrap_or(then), then, "twice is as once");
                now = then;
            }
        }

        #[test]
        fn a_termination_ends_it_in_every_order_and_with_duplicates(
            order in Just((0..5_usize).chain(0..5).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let all: Vec<Heard> = STEPS
                .iter()
                .map(|step| Heard::Returned { step: *step, generation: 1, for_good: true })
                .chain([Heard::Withdrawn { generation: 1, outcome: Outcome::Terminate }])
                .collect();
            let end = after(order.into_iter().map(|i| all[i]));
            prop_assert_eq!(end.state, State::Terminated);
        }
    }

    #[test]
    fn a_report_makes_it_running_and_a_new_placement_pending_again() {
        let ran = after([Heard::Running { generation: 1 }]);
        assert_eq!((ran.state, ran.generation), (State::Running, 1));
        let replaced = Heard::Withdrawn { generation: 1, outcome: Outcome::Replace };
        let next = hear(ran, replaced).expect("it changes");
        assert_eq!((next.state, next.generation), (State::Pending, 2));
        assert_eq!(next.withdrawn, None, "the newest generation is not withdrawn");
    }

    #[test]
    fn nothing_is_heard_of_what_has_ended() {
        let ends = Heard::Withdrawn { generation: 1, outcome: Outcome::Terminate };
        let back = STEPS.map(|step| Heard::Returned { step, generation: 1, for_good: true });
        let ended = after([ends].into_iter().chain(back));
        assert_eq!(ended.state, State::Terminated);
        let room = Heard::Returned { step: Step::Capacity, generation: 2, for_good: false };
        let others = [room, Heard::Running { generation: 1 }];
        for heard in [ends].into_iter().chain(back).chain(others) {
            assert_eq!(hear(ended, heard), None, "{heard:?}");
        }
    }

    #[test]
    fn three_give_backs_do_not_end_it() {
        let end = after(
            STEPS[..3]
                .iter()
                .map(|step| Heard::Returned { step: *step, generation: 1, for_good: true })
                .chain([Heard::Withdrawn { generation: 1, outcome: Outcome::Terminate }]),
        );
        assert_eq!(end.state, State::ShuttingDown);
    }

    #[test]
    fn a_stop_ends_when_capacity_has_answered_for_this_generation_in_either_order() {
        let withdrawn = Heard::Withdrawn { generation: 1, outcome: Outcome::Stop };
        let room = Heard::Returned { step: Step::Capacity, generation: 1, for_good: false };
        assert_eq!(after([withdrawn]).state, State::Stopping);
        assert_eq!(after([withdrawn, room]).state, State::Stopped);
        assert_eq!(after([room, withdrawn]).state, State::Stopped);
    }

    #[test]
    fn a_start_begins_the_next_generation_once_the_room_of_the_last_is_given_back() {
        let withdrawn = Heard::Withdrawn { generation: 1, outcome: Outcome::Stop };
        let room = Heard::Returned { step: Step::Capacity, generation: 1, for_good: false };
        let start = Heard::StartRequested { generation: 1 };
        assert_eq!(after([withdrawn, start]).state, State::Stopping, "not before capacity answers");
        let begun = after([withdrawn, room, start, start]);
        assert_eq!((begun.state, begun.generation), (State::Pending, 2));
        assert_eq!(hear(begun, withdrawn), None, "the stop of the generation before is history");
        assert_eq!(after([start]), Progress::requested(), "what is not stopped is not started");
        let failed = Heard::Withdrawn { generation: 2, outcome: Outcome::Stop };
        let room = Heard::Returned { step: Step::Capacity, generation: 2, for_good: false };
        let again = hear(begun, failed).and_then(|now| hear(now, room)).expect("it changes");
        assert_eq!((again.state, again.generation), (State::Stopped, 2));
    }

    #[test]
    fn a_report_of_another_generation_changes_nothing() {
        let now = after([Heard::Withdrawn { generation: 1, outcome: Outcome::Replace }]);
        assert_eq!((now.state, now.generation), (State::Pending, 2));
        assert_eq!(hear(now, Heard::Running { generation: 1 }), None);
        assert_eq!(after([Heard::Running { generation: 2 }]).state, State::Pending);
    }

    #[test]
    fn a_start_of_an_older_generation_starts_nothing() {
        let stop = |generation| {
            [
                Heard::Withdrawn { generation, outcome: Outcome::Stop },
                Heard::Returned { step: Step::Capacity, generation, for_good: false },
            ]
        };
        let start = Heard::StartRequested { generation: 1 };
        let stopped = after(stop(1).into_iter().chain([start]).chain(stop(2)));
        assert_eq!((stopped.state, stopped.generation), (State::Stopped, 2));
        assert_eq!(hear(stopped, start), None);
    }

    #[test]
    fn the_first_termination_holds_with_the_newest_generation_that_it_names() {
        let terminate = |generation| Heard::Withdrawn { generation, outcome: Outcome::Terminate };
        let ends = after([terminate(2)]);
        assert_eq!((ends.state, ends.generation), (State::ShuttingDown, 2));
        assert_eq!(hear(ends, terminate(3)), None);
        let stopped = Heard::Withdrawn { generation: 2, outcome: Outcome::Stop };
        assert_eq!(hear(ends, stopped), None, "terminate beats stop");
    }

    #[test]
    fn every_state_and_outcome_is_found_by_its_name() {
        for state in State::ALL {
            assert_eq!(State::of_name(state.name()), Some(state));
            assert_eq!(state.to_string(), state.name());
        }
        let moving = State::ALL.into_iter().filter(|state| state.is_moving());
        let right = [State::Pending, State::ShuttingDown, State::Stopping];
        assert_eq!(moving.collect::<Vec<_>>(), right);
        let outcomes = [Outcome::Terminate, Outcome::Stop, Outcome::Replace];
        let names = ["terminate", "stop", "replace"];
        assert_eq!(outcomes.map(Outcome::name), names);
        assert_eq!(names.map(Outcome::of_name), outcomes.map(Some));
        assert_eq!((State::of_name("failed"), Outcome::of_name("failed")), (None, None));
    }

    #[test]
    fn names_and_codes_are_those_of_ec2() {
        let pairs = State::ALL.map(|state| (state.code(), state.name()));
        assert_eq!(
            pairs,
            [
                (0, "pending"),
                (16, "running"),
                (32, "shutting-down"),
                (48, "terminated"),
                (64, "stopping"),
                (80, "stopped")
            ]
        );
    }
}
