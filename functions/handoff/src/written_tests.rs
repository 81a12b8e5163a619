//! What a decision writes down and says, field by field.

use super::*;

/// The receipt that the decision writes first.
fn written(decision: &Decision) -> Receipt {
    match &decision.writes[0].action {
        eventplane_store::Action::Put(item) => {
            Receipt::read(Some(item)).expect("a receipt").expect("there")
        }
        other => panic!("{other:?} is no receipt"),
    }
}

#[test]
fn what_is_written_down_holds_all_that_the_next_event_needs() {
    let first = written(&decide(&event(1, join(1)), &none(), Millis(5)));
    assert_eq!((first.stage, first.generation), (Stage::Joining, 1));
    assert_eq!((first.parts, first.placement), (vec![part(1)], Some(placement())));
    let given = written(&decide(&event(1, join(2)), &at(joined(&[0, 1])), Millis(5)));
    assert_eq!((given.stage, given.placement), (HandedOff, Some(placement())));
    assert_eq!(given.parts, [], "the host has them");
    let asked = decide(&event(1, terminate()), &on_host(HandedOff, None, true), Millis(5));
    let going = written(&asked);
    assert_eq!((going.stage, going.placement), (Withdrawing, Some(placement())));
    assert_eq!(going.ending.map(|ending| ending.outcome), Some(Terminate));
    let promised = on_host(Withdrawing, Some(Stop), true);
    let ended = written(&decide(&event(1, halted("h-1", true)), &promised, Millis(5)));
    assert_eq!((ended.stage, ended.placement), (Withdrawn, Some(placement())));
    assert_eq!(ended.ending.map(|ending| ending.outcome), Some(Stop));
}

#[test]
fn the_deadline_itself_is_in_time() {
    check("first", none(), 1, join(0), DEADLINE.0, (1, &[]));
    check("third", at(joined(&[0, 1])), 1, join(2), DEADLINE.0, (3, &["InstanceHandedOff"]));
    check("a nudge", none(), 1, requested(), DEADLINE.0, (0, &[]));
}

#[test]
fn a_late_join_says_what_came_how_late() {
    let ended = withdrawn_by(&decide(&event(1, join(0)), &none(), Millis(LATE + 6)));
    assert_eq!(ended.reason.code, code::LAUNCH_TIMEOUT);
    assert_eq!(ended.reason.message, "NetworkConfigured came 7 ms after the launch's deadline");
}

#[test]
fn whoever_stops_an_instance_has_seen_it_run_and_whoever_terminates_it_may_not_have() {
    let never_offered = || on_host(HandedOff, None, false);
    let stopped = withdrawn_by(&decide(&event(1, stop()), &never_offered(), Millis(5)));
    assert_eq!((stopped.outcome, stopped.has_run), (Stop, true));
    let ended = withdrawn_by(&decide(&event(1, terminate()), &never_offered(), Millis(5)));
    assert_eq!((ended.outcome, ended.has_run), (Terminate, false));
    assert_eq!(ended.reason, reason());
}

#[test]
fn a_stop_asked_for_again_is_repeated_and_not_begun_anew() {
    check("under way", on_host(Withdrawing, Some(Stop), true), 1, stop(), 5, (0, &[]));
    let replaced = at(receipt(1, Withdrawn, Some(Replace)));
    check("replaced", replaced, 1, stop(), 5, (0, &["replace 1"]));
}

#[test]
fn a_dead_hosts_instance_may_have_run_if_anybody_has_seen_it() {
    let halt = |has_run| {
        let reason = Some(Reason::new(code::HOST_DEAD, "the host h-1 was declared dead"));
        Data::InstanceHalted(InstanceHalted { host: "h-1".to_owned(), reason, has_run })
    };
    for (said, earlier, offered) in [(true, false, false), (false, true, false)] {
        let mut facts = on_host(HandedOff, None, offered);
        facts.assignment.as_mut().expect("it has one").has_run = earlier;
        let ended = withdrawn_by(&decide(&event(1, halt(said)), &facts, Millis(5)));
        assert!(ended.has_run, "said {said}, earlier {earlier}, offered {offered}");
    }
}

#[test]
fn the_assignment_is_read_where_it_may_be_changed_and_nowhere_else() {
    let data = [
        (requested(), true),
        (halted("h-1", true), true),
        (stop(), true),
        (terminate(), true),
        (Data::InstanceRebootRequested(Reboot { number: 1 }), true),
        (join(0), false),
        (failed(false), false),
    ];
    for (data, may_change) in data {
        let event = event(1, data);
        for stage in [Stage::Joining, HandedOff, Withdrawing, Withdrawn] {
            let has_one = matches!(stage, HandedOff | Withdrawing);
            let read = reads_the_assignment(&event, &receipt(1, stage, None));
            assert_eq!(read, has_one && may_change, "{} when {stage:?}", event.data.name());
        }
    }
}

#[test]
fn a_generation_begins_only_after_the_one_before_is_withdrawn() {
    let joining = Facts { receipt: Some(joined(&[0])), ..none() };
    check("while one joins", joining, 2, join(0), 5, (0, &[]));
    check("while a host has one", at(receipt(1, HandedOff, None)), 2, requested(), LATE, (0, &[]));
}

#[test]
fn a_nudge_of_what_a_dead_host_was_offered_says_that_it_may_have_run() {
    let unseen = Facts { host_is_dead: true, ..on_host(HandedOff, None, false) };
    for (facts, has_run) in [(on_dead_host(HandedOff, None), true), (unseen, false)] {
        let ended = withdrawn_by(&decide(&event(1, requested()), &facts, Millis(5)));
        assert_eq!((ended.outcome, ended.has_run), (Replace, has_run));
    }
}
