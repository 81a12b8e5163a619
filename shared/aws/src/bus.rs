//! The bus on EventBridge.
//!
//! Source: "`PutEvents`" and "`PutEventsResultEntry`", EventBridge API reference: an answer with
//! status 200 may say that entries failed, by their places; `InternalFailure` and
//! `ThrottlingException` are worth repeating, all else is not.

use crate::backoff::pause;
use async_trait::async_trait;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::DisplayErrorContext;
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, PutEventsResultEntry};
use eventplane_engine::{Chance, Fault, Publisher};
use eventplane_events::Entry;
use std::sync::Arc;

/// The most entries of one request.
const ENTRIES_MAX: usize = 10;
/// The most bytes of one request. AWS's pages name 256 KB and, of late, a megabyte: ours are events of
/// a kilobyte or two, so that the smaller costs nothing.
const REQUEST_BYTES_MAX: usize = 256_000;
/// How often entries that failed are sent in all.
const TRIES_MAX: u32 = 4;

/// The bus on EventBridge.
pub struct EventBridge {
    client: Client,
    bus_name: String,
    /// Spreads repetitions out.
    chance: Arc<dyn Chance>,
}

impl EventBridge {
    /// The bus called `bus_name`.
    #[must_use]
    pub fn new(client: Client, bus_name: String, chance: Arc<dyn Chance>) -> Self {
        EventBridge { client, bus_name, chance }
    }

    /// Sends one request's entries, those that fail for a passing reason again; the ones that were
    /// not taken in the end, and what was said of the last of them.
    async fn send(&self, mut entries: Vec<Entry>) -> (usize, String) {
        let mut said = String::new();
        for tries in 1..=TRIES_MAX {
            let request =
                entries.iter().map(|entry| to_request_entry(entry, &self.bus_name)).collect();
            let sent = self.client.put_events().set_entries(Some(request)).send().await;
            let answer = match sent {
                Ok(answer) => answer,
                // The SDK has repeated it already.
                Err(error) => return (entries.len(), DisplayErrorContext(&error).to_string()),
            };
            if answer.failed_entry_count() == 0 {
                return (0, said);
            }
            let (again, lost, last) = sort_out(entries, answer.entries());
            said = last.unwrap_or(said);
            if again.is_empty() || lost > 0 || tries == TRIES_MAX {
                return (again.len() + lost, said);
            }
            entries = again;
            pause(&*self.chance, tries).await;
        }
        (entries.len(), said)
    }
}

#[async_trait]
impl Publisher for EventBridge {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        let total = entries.len();
        let (mut failed, mut message) = (0, String::new());
        for part in parts(entries) {
            let (not_taken, said) = self.send(part).await;
            failed += not_taken;
            if not_taken > 0 {
                message = said;
            }
        }
        if failed > 0 { Err(Fault::Publish { failed, total, message }) } else { Ok(()) }
    }
}

/// The size of an entry, as EventBridge counts it, in bytes.
///
/// Source: "Calculating Amazon EventBridge `PutEvents` event entry size", EventBridge user guide.
fn entry_bytes(entry: &Entry) -> usize {
    entry.source.len() + entry.detail_type.len() + entry.detail.len()
}

/// The entries in parts that each fit a request, in their order. An entry too large for any request
/// is a part of its own, which EventBridge refuses with its reason.
fn parts(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut parts: Vec<Vec<Entry>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let size = entry_bytes(&entry);
        match parts.last_mut() {
            Some(part) if part.len() < ENTRIES_MAX && bytes + size <= REQUEST_BYTES_MAX => {
                bytes += size;
                part.push(entry);
            }
            _ => {
                bytes = size;
                parts.push(vec![entry]);
            }
        }
    }
    parts
}

fn to_request_entry(entry: &Entry, bus_name: &str) -> PutEventsRequestEntry {
    PutEventsRequestEntry::builder()
        .event_bus_name(bus_name)
        .source(&entry.source)
        .detail_type(entry.detail_type)
        .detail(&entry.detail)
        .build()
}

/// Of the entries of one request: those that are worth sending again, how many others were not
/// taken, and what was said of the last one. A result that is missing counts as not taken.
fn sort_out(
    entries: Vec<Entry>,
    results: &[PutEventsResultEntry],
) -> (Vec<Entry>, usize, Option<String>) {
    let (mut again, mut lost, mut said) = (Vec::new(), 0, None);
    for (place, entry) in entries.into_iter().enumerate() {
        let result = results.get(place);
        let code = match result {
            Some(result) if result.event_id().is_some() && result.error_code().is_none() => {
                continue;
            }
            result => result.and_then(PutEventsResultEntry::error_code).unwrap_or("no result"),
        };
        let message = result.and_then(PutEventsResultEntry::error_message).unwrap_or_default();
        said = Some(format!("{}: {code} {message}", entry.detail_type));
        match code {
            "InternalFailure" | "ThrottlingException" | "no result" => again.push(entry),
            _ => lost += 1,
        }
    }
    (again, lost, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: usize) -> Entry {
        Entry { source: "s".to_owned(), detail_type: "T", detail: "x".repeat(bytes - 2) }
    }

    #[test]
    fn a_request_has_at_most_ten_entries_and_a_megabyte() {
        let sizes =
            |entries: Vec<Entry>| -> Vec<usize> { parts(entries).iter().map(Vec::len).collect() };
        assert_eq!(sizes(vec![]), [0; 0]);
        assert_eq!(sizes(vec![entry(100); 25]), [10, 10, 5]);
        assert_eq!(sizes(vec![entry(80_000); 7]), [3, 3, 1]);
        assert_eq!(sizes(vec![entry(REQUEST_BYTES_MAX); 2]), [1, 1]);
        assert_eq!(sizes(vec![entry(10), entry(2 * REQUEST_BYTES_MAX), entry(10)]), [1, 1, 1]);
    }

    #[test]
    fn every_entrys_own_result_counts() {
        let result = |id: Option<&str>, code: Option<&str>| {
            let result = PutEventsResultEntry::builder();
            result.set_event_id(id.map(str::to_owned)).set_error_code(code.map(str::to_owned))
        };
        let results = [
            result(Some("e-1"), None).build(),
            result(None, Some("ThrottlingException")).build(),
            result(None, Some("NotAuthorizedForSourceException")).build(),
            result(None, Some("InternalFailure")).build(),
        ];
        let entries: Vec<Entry> = (3..8).map(entry).collect();
        let (again, lost, said) = sort_out(entries.clone(), &results);
        let expected = [&entries[1], &entries[3], &entries[4]].map(Clone::clone);
        assert_eq!((again, lost), (expected.to_vec(), 1), "the last has no result at all");
        assert_eq!(said.as_deref(), Some("T: no result "));
    }
}
