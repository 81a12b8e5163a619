//! What is asked again, and when to look the next time.

use super::*;
use crate::tests::{record, request};
use eventplane_domain::Outcome;

const DEADLINE: Millis = Millis(60_000);

fn open(state: State, wants: Option<Want>) -> Open {
    Open { record: Some(record(1, state)), request: wants.map(|wants| request(wants, 1)) }
}

#[test]
fn a_launch_is_what_is_pending_with_nothing_else_asked_of_it() {
    for (state, wants, is_launch) in [
        (State::Pending, None, true),
        (State::Pending, Some(Want::Terminated), false),
        (State::Running, None, false),
        (State::Stopping, None, false),
    ] {
        assert_eq!(open(state, wants).is_launch(), is_launch, "{state} and {wants:?}");
    }
    assert!(!Open { record: None, request: None }.is_launch());
}

#[test]
fn a_launch_is_looked_at_as_often_as_ever_and_what_ends_ever_more_seldom() {
    let now = Millis(20_000);
    let (usual, third) = (now.plus(NUDGE_AFTER_MS), now.plus(nudge_wait_ms(3)));
    for (state, wants, next) in [
        (State::Pending, None, usual),
        (State::Running, None, third),
        (State::Running, Some(Want::Rebooted), usual),
        (State::Stopped, Some(Want::Running), usual),
        (State::Stopping, None, third),
        (State::ShuttingDown, None, third),
        (State::Pending, Some(Want::Terminated), third),
        (State::Running, Some(Want::Stopped), third),
        // Shown: the record has its own.
        (State::Stopped, Some(Want::Stopped), usual),
    ] {
        assert_eq!(open(state, wants).next_look(2, now), next, "{state} and {wants:?}");
    }
    let launch = open(State::Pending, None);
    let almost = Millis(DEADLINE.0 - 1);
    assert_eq!(launch.next_look(0, almost), DEADLINE.plus(1), "its time ends before");
    assert_eq!(launch.next_look(0, DEADLINE), DEADLINE.plus(1));
    let over = DEADLINE.plus(1);
    assert_eq!(launch.next_look(0, over), over.plus(NUDGE_AFTER_MS));
}

#[test]
fn what_is_asked_again_is_as_it_was_asked() {
    let ends = open(State::Running, Some(Want::Terminated)).nudge().expect("a nudge");
    assert_eq!((ends.generation, ends.deadline), (1, DEADLINE), "a nudge extends none");
    let why = |open: Open| match open.nudge().expect("a nudge").data {
        Data::InstanceTerminationRequested(asked) => asked.reason,
        other => panic!("{} terminates nothing", other.name()),
    };
    let asked = why(open(State::Running, Some(Want::Terminated)));
    assert_eq!(asked.code, code::USER_SHUTDOWN);
    let failed = Reason::new(code::INSUFFICIENT_CAPACITY, "no room");
    let mut by_itself = record(1, State::ShuttingDown);
    by_itself.progress.withdrawn = Some(Outcome::Terminate);
    by_itself.reason = Some(failed.clone());
    assert_eq!(why(Open { record: Some(by_itself), request: None }), failed);
    assert_eq!(why(open(State::ShuttingDown, None)).code, code::INTERNAL, "nobody said why");
    let reboots = open(State::Running, Some(Want::Rebooted)).nudge().expect("a nudge");
    assert_eq!(reboots.data, Data::InstanceRebootRequested(Reboot { number: 1 }));
}
