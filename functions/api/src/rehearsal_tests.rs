//! What makes a message unsafe that no table shows, and what is past which message.

use super::*;
use async_trait::async_trait;
use eventplane_domain::{InstanceId, Millis, Reason, Tenant};
use eventplane_engine::{Failure, Fault, Receipt};
use eventplane_events::{InstanceWithdrawn, Returned, TerminationRequested, samples};
use eventplane_handoff::Ending;
use eventplane_instances::Record;
use eventplane_store::Item;

/// Does as the message says.
struct Obeys;

#[async_trait]
impl Handler for Obeys {
    fn name(&self) -> &'static str {
        "obeys"
    }
    async fn deliver(&self, message: &str, _: u32) -> Result<(), Failure> {
        match message {
            "fail" => Err(Fault::Other("as told".to_owned()).into()),
            "panic" => panic!("as told"),
            "hang" => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_fails_panics_or_hangs_would_do_so_again() {
    for (message, why) in
        [("fail", "as told"), ("panic", "obeys has a bug"), ("hang", "longer than 9s")]
    {
        let said = handle(Arc::new(Obeys), message).await.expect_err(message);
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(handle(Arc::new(Obeys), "well").await, Ok(()));
}

fn reason() -> Reason {
    Reason::new("Server.Told", "told")
}

fn event(data: Data, generation: u32) -> Event {
    let mut event = samples::all().remove(0);
    event.metadata.subject = InstanceId::new(Millis(1), 1);
    event.metadata.generation = generation;
    event.data = data;
    event
}

fn sample(name: &str) -> Data {
    let mut all = samples::all().into_iter().map(|event| event.data);
    all.find(|data| data.name() == name).expect("a sample")
}

fn whole(generation: u32) -> Whole {
    let Data::InstanceRequested(requested) = sample("InstanceRequested") else { unreachable!() };
    let id = InstanceId::new(Millis(1), 1);
    let mut record =
        Record::requested(Tenant::local(), id, requested.spec, Millis(1), Millis(60_000));
    record.progress.generation = generation;
    Whole::new(record)
}

fn receipt(generation: u32, answer: Answer) -> Option<Receipt> {
    let (deadline, claim) = (Millis(60_000), Item::new());
    Some(Receipt { generation, answer, deadline, reason: None, log: vec![], claim })
}

fn handoff(generation: u32, outcome: Outcome) -> Option<eventplane_handoff::Receipt> {
    Some(eventplane_handoff::Receipt {
        generation,
        stage: Stage::Withdrawn,
        deadline: Millis(60_000),
        parts: vec![],
        placement: None,
        ending: Some(Ending { outcome, reason: reason(), has_run: false }),
        log: vec![],
    })
}

#[test]
fn a_message_is_stale_when_what_is_recorded_is_past_it() {
    let with_storage = |receipt| {
        let mut whole = whole(1);
        whole.receipts[2] = receipt;
        whole
    };
    let with_handoff = |handoff| Whole { handoff, ..whole(1) };
    let mut ended = whole(1);
    ended.record.progress.state = State::Terminated;
    let asks = || event(sample("CapacityAllocated"), 1);
    let cases = [
        ("storage", whole(1), None),
        ("storage", whole(2), Some("2 is recorded")),
        ("storage", with_storage(receipt(1, Answer::Taken)), None),
        ("storage", with_storage(receipt(1, Answer::Refused)), None),
        ("storage", with_storage(receipt(2, Answer::Taken)), Some("2 is recorded")),
        ("storage", with_storage(receipt(1, Answer::GivenBackForGood)), Some("the end")),
        // Another's receipt is none of its business.
        ("network", with_storage(receipt(2, Answer::GivenBackForGood)), None),
        ("handoff", with_handoff(handoff(1, Outcome::Terminate)), Some("the end")),
        ("handoff", with_handoff(handoff(1, Outcome::Stop)), None),
        ("handoff", with_handoff(handoff(2, Outcome::Stop)), Some("2 is recorded")),
        ("instances", ended, Some("has ended")),
    ];
    for (function, whole, why) in cases {
        let said = past(function, &asks(), Some(&whole));
        let is_right = match (&said, why) {
            (Some(said), Some(why)) => said.contains(why),
            (said, why) => said.is_none() && why.is_none(),
        };
        assert!(is_right, "{function}: {said:?}, not {why:?}");
    }
    assert!(past("storage", &asks(), None).expect("stale").contains("no record"));
}

#[test]
fn what_is_a_part_of_the_end_is_never_stale() {
    let mut ended = whole(3);
    ended.record.progress.state = State::Terminated;
    let withdrawn = |outcome| {
        Data::InstanceWithdrawn(InstanceWithdrawn { outcome, reason: reason(), has_run: false })
    };
    let asked = TerminationRequested { reason: reason() };
    for (data, is_stale) in [
        (Data::InstanceTerminationRequested(asked.clone()), false),
        (Data::InstanceStopRequested(asked), true),
        (withdrawn(Outcome::Terminate), false),
        (withdrawn(Outcome::Replace), true),
        (Data::VolumeReleased(Returned { for_good: true }), false),
        (Data::CapacityReleased(Returned { for_good: false }), true),
    ] {
        let told = format!("{data:?}");
        let said = past("instances", &event(data, 1), Some(&ended));
        assert_eq!(said.is_some(), is_stale, "{told}");
    }
}
