//! What a receipt says of each answer, and when the next one may take its place.

use super::*;
use crate::samples::{DEADLINE, event, launch, spec};
use eventplane_events::{CapacityAllocated, InstanceRequested, InstanceWithdrawn};
use eventplane_store::{Action, Update, holds};

fn key() -> Key {
    Key::new("t", "default/i-1", "receipt")
}

fn requested(has_run: bool) -> Data {
    Data::InstanceRequested(InstanceRequested { spec: spec(), has_run, replaced: 0 })
}

fn placed() -> Data {
    Data::CapacityAllocated(CapacityAllocated { launch: launch(true) })
}

fn withdrawn(outcome: Outcome) -> Data {
    let reason = reason();
    Data::InstanceWithdrawn(InstanceWithdrawn { outcome, reason, has_run: false })
}

fn reason() -> Reason {
    Reason::new(code::INSUFFICIENT_CAPACITY, "no room")
}

fn claim() -> Item {
    Item::new().with("ip", "10.0.0.9")
}

fn put(decision: &Decision) -> Item {
    match &decision.writes[0].action {
        Action::Put(item) => item.clone(),
        other => panic!("a receipt is put, not {other:?}"),
    }
}

fn receipt(decision: &Decision) -> Receipt {
    Receipt::read(Some(&put(decision))).expect("a receipt").expect("there")
}

fn can_replace(decision: &Decision, standing: Option<&Item>) -> bool {
    decision.writes[0].conditions.iter().all(|condition| holds(condition, standing))
}

fn taken(generation: u32) -> Decision {
    let event = event(generation, requested(false));
    take(&event, key(), None, Millis(5), claim(), vec![], placed())
}

#[test]
fn what_an_event_asks_depends_on_what_the_step_takes_on() {
    use Outcome::{Replace, Stop, Terminate};
    let take = Some(Ask::Take { generation: 2, deadline: DEADLINE });
    let back = Some(Ask::GiveBack { generation: 2 });
    for (data, on_request, on_placement) in [
        (requested(false), take, None),
        (placed(), None, take),
        (withdrawn(Stop), back, None),
        (withdrawn(Replace), back, None),
        (withdrawn(Terminate), Some(Ask::GiveBackForGood), Some(Ask::GiveBackForGood)),
        (Data::CapacityReleased(Returned { for_good: true }), None, None),
    ] {
        let event = event(2, data);
        let name = event.data.name();
        assert_eq!(ask_of(&event, TakesOn::Request), on_request, "{name}");
        assert_eq!(ask_of(&event, TakesOn::Placement), on_placement, "{name}");
    }
}

#[test]
fn a_take_is_recorded_with_its_claim_and_its_resources_before_it_is_published() {
    let event = event(2, requested(false));
    let resource = Write::update(Key::new("t", "@host/h", "host"), vec![Update::add("free", -1)]);
    let at = Delivery { now: Millis(5), received: 3 };
    let decision = take(&event, key(), None, at, claim(), vec![resource.clone()], placed());
    let written = receipt(&decision);
    assert_eq!((written.recorded(), written.deadline), ((2, Answer::Taken), DEADLINE));
    assert_eq!((written.claim, written.reason), (claim(), None));
    let logged = Logged { at: Millis(5), generation: 2, what: Answer::Taken, received: 3 };
    assert_eq!(written.log, [logged]);
    assert_eq!(decision.writes[1..], [resource]);
    let emit = Emit { data: placed(), generation: 2, deadline: DEADLINE };
    assert_eq!(decision.events, [emit]);
}

#[test]
fn a_receipt_is_written_only_over_what_was_read() {
    assert!(can_replace(&taken(1), None));
    assert!(!can_replace(&taken(1), Some(&put(&taken(1)))), "the first one only where none is");
    let before = receipt(&taken(1));
    let ask = event(2, requested(false));
    let next = refuse(&ask, key(), Some(&before), Millis(6), Step::Network, reason());
    assert!(can_replace(&next, Some(&put(&taken(1)))));
    assert!(!can_replace(&next, Some(&put(&taken(2)))), "another generation stands there");
    let back = give_back(
        &event(1, withdrawn(Outcome::Stop)),
        key(),
        Some(&before),
        Millis(6),
        vec![],
        Data::CapacityReleased,
    );
    assert!(!can_replace(&next, Some(&put(&back))), "another answer stands there");
    assert!(!can_replace(&next, None));
}

#[test]
fn a_refusal_keeps_the_claim_and_says_why_to_whoever_waits() {
    let before = receipt(&taken(1));
    for (data, has_run) in [(requested(false), false), (requested(true), true), (placed(), true)] {
        let event = event(2, data);
        let decision = refuse(&event, key(), Some(&before), Millis(6), Step::Network, reason());
        let written = receipt(&decision);
        assert_eq!(written.recorded(), (2, Answer::Refused));
        assert_eq!((written.claim, written.reason), (claim(), Some(reason())));
        let failed = LaunchFailed { step: Step::Network, reason: reason(), has_run };
        assert_eq!(decision.events, [Emit::of(&event, Data::LaunchFailed(failed))]);
    }
    let noted = refuse_noting(
        &event(2, requested(false)),
        key(),
        Some(&before),
        Millis(6),
        Step::Network,
        reason(),
        Item::new().with("audit", "x"),
    );
    assert_eq!(receipt(&noted).claim, claim().with("audit", "x"));
}

#[test]
fn a_late_take_is_refused_with_how_late_it_was() {
    let event = event(1, requested(false));
    let decision = refuse_late(&event, key(), None, DEADLINE.plus(7), Step::Network);
    let why = receipt(&decision).reason.expect("a reason");
    assert_eq!(why.code, code::LAUNCH_TIMEOUT);
    assert_eq!(why.message, "network heard of the launch 7 ms after its deadline");
}

#[test]
fn a_give_back_leaves_nothing_and_answers_also_when_nothing_was_held() {
    let expires_s = (DEADLINE.0 + KEPT_MS) / 1000;
    for (outcome, answer, expires) in [
        (Outcome::Stop, Answer::GivenBack, None),
        (Outcome::Terminate, Answer::GivenBackForGood, Some(expires_s)),
    ] {
        // A termination of an older generation ends the newest.
        for (before, generation) in [(None, 1), (Some(receipt(&taken(3))), 3)] {
            let event = event(1, withdrawn(outcome));
            let decision = give_back(
                &event,
                key(),
                before.as_ref(),
                Millis(6),
                vec![],
                Data::CapacityReleased,
            );
            let written = receipt(&decision);
            assert_eq!(written.recorded(), (generation, answer));
            assert_eq!(written.claim, Item::new());
            assert_eq!(put(&decision).number("expires_at"), expires);
            let data =
                Data::CapacityReleased(Returned { for_good: answer == Answer::GivenBackForGood });
            assert_eq!(decision.events, [Emit { data, generation, deadline: DEADLINE }]);
        }
    }
    assert_eq!(KEPT_MS, 2_592_000_000, "30 days");
    let kept = Item::new().with("zone", "a");
    let ends = event(1, withdrawn(Outcome::Stop));
    let before = receipt(&taken(1));
    let keeping = |kept| {
        give_back_keeping(
            &ends,
            key(),
            Some(&before),
            Millis(6),
            vec![],
            Data::CapacityReleased,
            kept,
        )
    };
    assert_eq!(receipt(&keeping(kept.clone())).claim, kept);
}

#[test]
fn a_receipt_keeps_the_newest_deadline_and_the_whole_log() {
    let before = receipt(&taken(1));
    let mut older = event(1, withdrawn(Outcome::Stop));
    older.metadata.deadline = Millis(DEADLINE.0 - 1);
    let decision =
        give_back(&older, key(), Some(&before), Millis(6), vec![], Data::CapacityReleased);
    let written = receipt(&decision);
    assert_eq!(written.deadline, DEADLINE);
    let answers: Vec<Answer> = written.log.iter().map(|entry| entry.what).collect();
    assert_eq!(answers, [Answer::Taken, Answer::GivenBack]);
    for answer in [Answer::Taken, Answer::Refused, Answer::GivenBack, Answer::GivenBackForGood] {
        assert_eq!(of_letter(letter(answer)), Some(answer));
    }
    assert_eq!(of_letter('q'), None);
}

#[test]
fn what_is_recorded_is_published_again_as_it_was() {
    let again = |receipt: &Receipt| {
        let event = event(2, requested(true));
        let taken = |_: &Receipt| placed();
        let decision =
            publish_again(&event, Some(receipt), Step::Network, Data::CapacityReleased, taken);
        assert_eq!(decision.writes, []);
        decision.events
    };
    let of = |generation, answer, reason| Receipt {
        generation,
        answer,
        reason,
        ..receipt(&taken(generation))
    };
    let emit = |generation, data| vec![Emit { data, generation, deadline: DEADLINE }];
    assert_eq!(again(&of(2, Answer::Taken, None)), emit(2, placed()));
    let failed = LaunchFailed { step: Step::Network, reason: reason(), has_run: true };
    let refused = of(2, Answer::Refused, Some(reason()));
    assert_eq!(again(&refused), emit(2, Data::LaunchFailed(failed)));
    for (answer, for_good) in [(Answer::GivenBack, false), (Answer::GivenBackForGood, true)] {
        let released = Data::CapacityReleased(Returned { for_good });
        assert_eq!(again(&of(3, answer, None)), emit(3, released), "of its own generation");
    }
}

#[test]
fn what_is_no_receipt_is_a_fault_and_not_nothing() {
    assert_eq!(Receipt::read(None).expect("none"), None);
    for missing in ["gen", "answer", "deadline"] {
        let mut item = put(&taken(1));
        item.remove(missing);
        let fault = Receipt::read(Some(&item)).expect_err(missing).to_string();
        assert!(fault.contains("not a receipt"), "{fault}");
    }
}
