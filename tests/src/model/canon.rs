//! Equal situations are equal states: what nothing decides by is left out of items and events, or
//! always the same.

use super::START;
use eventplane_domain::Reason;
use eventplane_events::{Data, Entry, Event, envelope, read};
use eventplane_store::{Item, Value};

/// What people read, and nothing decides by.
const LEFT_OUT: [&str; 4] = ["log", "late", "nudges", "audit_head"];
/// Moments and texts of which only matters whether they are there: a sweep finds every moment of
/// the sweeper in the past.
const FIXED: [&str; 12] = [
    "why",
    "due",
    "running_at",
    "ended_at",
    "created",
    "expires_at",
    "sealed",
    "signature",
    "document",
    "nudge_at",
    "at",
    "audit",
];
/// The moment that every sweep finds in the past.
const PAST: &str = "0000000000001";

/// The item as the model keeps it.
pub(super) fn item(mut item: Item) -> Item {
    for name in LEFT_OUT {
        item.remove(name);
    }
    for name in FIXED {
        if let Some(value) = item.get_mut(name) {
            match value {
                Value::S(text) if name == "nudge_at" => *text = PAST.to_owned(),
                // A record of no entries.
                Value::S(text) if name == "audit" => *text = "[]".to_owned(),
                Value::S(text) => *text = "-".to_owned(),
                Value::N(number) => *number = START.0,
                Value::B(bytes) => bytes.clear(),
                Value::Bool(_) => {}
            }
        }
    }
    item
}

/// The event as the model keeps it: without ids, moments, hops and the words of reasons.
pub(super) fn event(entry: &Entry) -> Event {
    let message = envelope(entry, "b", "2026-01-01T00:00:00Z");
    let mut event = read(&message).expect("the plane's own event can be read");
    let metadata = &mut event.metadata;
    metadata.id = "e".to_owned();
    metadata.time = START;
    metadata.correlationid = "c".to_owned();
    metadata.causationid = None;
    metadata.hop = 0;
    metadata.traceparent = None;
    if let Some(reason) = reason_of(&mut event.data) {
        reason.message = "-".to_owned();
    }
    event
}

fn reason_of(data: &mut Data) -> Option<&mut Reason> {
    match data {
        Data::LaunchFailed(data) => Some(&mut data.reason),
        Data::InstanceWithdrawn(data) => Some(&mut data.reason),
        Data::InstanceHalted(data) => data.reason.as_mut(),
        Data::InstanceStopRequested(data) | Data::InstanceTerminationRequested(data) => {
            Some(&mut data.reason)
        }
        Data::InstanceStartRequested(data) => Some(&mut data.reason),
        Data::InstanceTerminated(data) => Some(&mut data.reason),
        _ => None,
    }
}
