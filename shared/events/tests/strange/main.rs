//! Strange messages: whatever comes is an event, or is set aside with a reason. Longer: `cargo xtask
//! fuzz`.

mod draw;

use draw::{Change, change, changed, sample};
use eventplane_events::{Event, KINDS, Unreadable, envelope, read};
use proptest::prelude::*;
use serde_json::json;

fn again(event: &Event) -> Result<Event, Unreadable> {
    read(&envelope(&event.entry(), "b-1", "2026-11-23T00:00:00Z"))
}

/// An event comes back as it went; all else says why it is none.
fn is_an_event_or_says_why(message: &str) -> Result<bool, TestCaseError> {
    match read(message) {
        Ok(event) => {
            let back = again(&event).map_err(|why| TestCaseError::fail(why.to_string()))?;
            prop_assert_eq!(back, event);
            Ok(true)
        }
        Err(why) => {
            let said = why.to_string();
            prop_assert!(said.len() > 20, "{}", said);
            Ok(false)
        }
    }
}

proptest! {
    #[test]
    fn a_changed_envelope_is_an_event_or_says_why_not(
        kind in any::<usize>(), changes in prop::collection::vec((any::<usize>(), change()), 1..4),
    ) {
        is_an_event_or_says_why(&changed(sample(kind), &changes))?;
    }

    #[test]
    fn any_text_says_why_it_is_no_event(text in any::<String>()) {
        prop_assert!(!is_an_event_or_says_why(&text)?);
    }

    #[test]
    fn any_bytes_of_an_event_may_be_others(
        kind in any::<usize>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(), is_cut in any::<bool>(),
    ) {
        let mut bytes = sample(kind).to_string().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        is_an_event_or_says_why(&String::from_utf8_lossy(&bytes))?;
    }
}

/// A major version that nobody knows is told before anything else that is wrong with it.
#[test]
fn a_later_major_version_is_named_whatever_else_it_has() {
    for kind in 0..KINDS.len() {
        let mut message = sample(kind);
        message["detail"] = json!({
            "metadata": { "schemaversion": "2.0", "colour": {} }, "data": [1]
        });
        let why = read(&message.to_string()).expect_err("another version");
        assert!(matches!(why, Unreadable::UnknownVersion { .. }), "{why}");
    }
}

/// That the drawing is worth something: some of it is still an event, and most is none.
#[test]
fn what_is_drawn_is_sometimes_an_event() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let drawn = (any::<usize>(), prop::collection::vec((any::<usize>(), change()), 1..4));
    let mut events = 0;
    for _ in 0..1_000 {
        let (kind, changes) = drawn.new_tree(&mut runner).expect("drawn").current();
        events += usize::from(read(&changed(sample(kind), &changes)).is_ok());
    }
    assert!((100..900).contains(&events), "{events} of 1000");
    assert_eq!(changed(json!({}), &[(1, Change::Remove)]), "{}");
}
