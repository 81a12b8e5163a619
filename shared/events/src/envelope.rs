//! EventBridge's envelope around an event: written once, read strictly where it matters and
//! leniently where versions may differ.
//!
//! Source: "AWS service event metadata" and "PutEventsRequestEntry", EventBridge user guide and
//! API reference.

use crate::{Data, Event, HOPS_MAX, Metadata, SCHEMA_VERSION};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

/// Why a message is not an event that this version can handle: it is set aside, with these words.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// The message is not an envelope.
    #[error("not an event in EventBridge's envelope with `detail.metadata` and `detail.data`: {0}")]
    NotAnEvent(#[source] serde_json::Error),
    /// Its version is one that this reader does not know.
    #[error(
        "schema version {found} of {kind} is not known here: this reader knows {SCHEMA_VERSION} and other versions with the same first number"
    )]
    UnknownVersion {
        /// The event's name.
        kind: String,
        /// The version that it says it has.
        found: String,
    },
    /// There is no event of this name.
    #[error("there is no event called `{0}`: `events/` has the list")]
    UnknownKind(String),
    /// The data is not that of the event.
    #[error("the data of {kind} is not as its schema in `events/` says: {cause}")]
    BadData {
        /// The event's name.
        kind: String,
        /// What is wrong.
        #[source]
        cause: serde_json::Error,
    },
    /// Events have caused one another in a row for too long.
    #[error("hop {0} is over the limit of {HOPS_MAX}: events are causing one another in a loop")]
    Loop(u32),
}

/// Room for the detail of a usual event, so that it is written without moving.
const DETAIL_BYTES: usize = 2048;
/// Room for what an envelope adds to an entry's own texts.
const ENVELOPE_BYTES: usize = 256;

/// An event, ready for the bus: an entry of PutEvents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The envelope's `source`.
    pub source: String,
    /// The envelope's `detail-type`.
    pub detail_type: &'static str,
    /// The envelope's `detail`, as JSON.
    pub detail: String,
}

#[derive(Serialize)]
struct DetailOut<'a> {
    metadata: &'a Metadata,
    data: &'a Data,
}

#[derive(Deserialize)]
struct EnvelopeIn<'a> {
    #[serde(rename = "detail-type")]
    detail_type: String,
    #[serde(borrow)]
    detail: DetailIn<'a>,
}

#[derive(Deserialize)]
struct DetailIn<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Version {
    schemaversion: String,
}

impl Event {
    /// The event as an entry for the bus.
    #[must_use]
    pub fn entry(&self) -> Entry {
        let parts = DetailOut { metadata: &self.metadata, data: &self.data };
        let mut detail = Vec::with_capacity(DETAIL_BYTES);
        serde_json::to_writer(&mut detail, &parts).expect("an event is plain data");
        Entry {
            source: self.metadata.source.clone(),
            detail_type: self.data.name(),
            detail: String::from_utf8(detail).expect("JSON is text"),
        }
    }
}

/// The envelope that a bus puts around an entry: what a queue behind a rule delivers. `id` is the
/// bus's own, and `time` RFC 3339.
#[must_use]
pub fn envelope(entry: &Entry, id: &str, time: &str) -> String {
    let Entry { source, detail_type, detail } = entry;
    // Our own sources are plain words; one that came from outside may be anything.
    let source = serde_json::to_string(source).expect("a text is JSON");
    let bytes = ENVELOPE_BYTES + id.len() + time.len() + source.len() + detail.len();
    let mut text = String::with_capacity(bytes);
    for part in [
        r#"{"version":"0","id":""#,
        id,
        r#"","detail-type":""#,
        detail_type,
        r#"","source":"#,
        &source,
        r#","account":"000000000000","time":""#,
        time,
        r#"","region":"local","resources":[],"detail":"#,
        detail,
        "}",
    ] {
        text.push_str(part);
    }
    text
}

/// Reads an event from a message: fields that this version does not know are ignored.
///
/// # Errors
/// [`Unreadable`]: the message is to be set aside with this reason, never dropped.
pub fn read(message: &str) -> Result<Event, Unreadable> {
    let envelope: EnvelopeIn = serde_json::from_str(message).map_err(Unreadable::NotAnEvent)?;
    let kind = envelope.detail_type;
    let metadata_json = envelope.detail.metadata.get();
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    let Version { schemaversion } =
        serde_json::from_str(metadata_json).map_err(Unreadable::NotAnEvent)?;
    if major(&schemaversion) != major(SCHEMA_VERSION) {
        return Err(Unreadable::UnknownVersion { kind, found: schemaversion });
    }
    let metadata: Metadata = serde_json::from_str(metadata_json).map_err(Unreadable::NotAnEvent)?;
    if metadata.hop > HOPS_MAX {
        return Err(Unreadable::Loop(metadata.hop));
    }
    match Data::read(&kind, envelope.detail.data.get()) {
        None => Err(Unreadable::UnknownKind(kind)),
        Some(Err(cause)) => Err(Unreadable::BadData { kind, cause }),
        Some(Ok(data)) => Ok(Event { metadata, data }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TerminationRequested;
    use eventplane_domain::{InstanceId, Millis, Reason, Tenant};

    fn event() -> Event {
        Event {
            metadata: Metadata {
                id: "e-1".to_owned(),
                kind: "InstanceTerminationRequested".to_owned(),
                schemaversion: SCHEMA_VERSION.to_owned(),
                time: Millis(1),
                source: "eventplane.api".to_owned(),
                subject: InstanceId::new(Millis(1), 1),
                correlationid: "c-1".to_owned(),
                causationid: None,
                tenant: Tenant::local(),
                generation: 1,
                deadline: Millis(2),
                hop: 0,
                traceparent: None,
            },
            data: Data::InstanceTerminationRequested(TerminationRequested {
                reason: Reason::new("Client.UserInitiatedShutdown", "asked \"twice\"\n"),
            }),
        }
    }

    fn message() -> String {
        envelope(&event().entry(), "b-1", "2026-11-23T00:00:00Z")
    }

    #[test]
    fn an_event_comes_back_as_it_went() {
        assert_eq!(read(&message()).expect("readable"), event());
    }

    #[test]
    fn an_event_comes_back_whatever_its_source_is() {
        let mut event = event();
        event.metadata.source = "a \"quoted\" \\ source".to_owned();
        let message = envelope(&event.entry(), "b-1", "2026-11-23T00:00:00Z");
        assert_eq!(read(&message).expect("readable"), event);
    }

    #[test]
    fn a_field_that_is_not_known_is_ignored() {
        let with_more = message()
            .replace(r#""hop":0"#, r#""hop":0,"colour":"blue""#)
            .replace(r#""reason":{"#, r#""new":[1],"reason":{"#)
            .replace(r#""schemaversion":"1.0""#, r#""schemaversion":"1.7""#);
        let read = read(&with_more).expect("readable");
        assert_eq!(read.data, event().data);
    }

    #[test]
    fn what_cannot_be_handled_says_why() {
        for (from, to, why) in [
            (r#""schemaversion":"1.0""#, r#""schemaversion":"2.0""#, "schema version 2.0"),
            (
                "InstanceTerminationRequested",
                "InstanceVanished",
                "no event called `InstanceVanished`",
            ),
            (r#""reason":"#, r#""raison":"#, "missing field `reason`"),
            (r#""hop":0"#, r#""hop":33"#, "over the limit of 32"),
            (r#""metadata":"#, r#""meta":"#, "not an event"),
            (r#"{"version""#, r#"[{"version""#, "not an event"),
            (r#""subject":"i-"#, r#""subject":"j-"#, "17 hexadecimal digits"),
        ] {
            let error = read(&message().replace(from, to)).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
