//! Metadata for an event that is about to be published.

use crate::{Emit, Ports};
use eventplane_domain::{InstanceId, Millis, Tenant};
use eventplane_events::{Event, Metadata, SCHEMA_VERSION};
use uuid::{Builder, Uuid};

/// Where an event comes from: a user's request, or another event.
#[derive(Debug, Clone)]
pub enum Origin<'a> {
    /// Another event led to it.
    Caused(&'a Metadata),
    /// It begins here: a user asked, a host reported, or the sweeper nudged. The hop count
    /// starts anew.
    Fresh {
        /// Whose instance it is about.
        tenant: &'a Tenant,
        /// The instance.
        subject: &'a InstanceId,
        /// The request's trace context, if it came with one.
        traceparent: Option<&'a str>,
    },
}

/// Makes the event that `function` publishes.
#[must_use]
pub fn stamp(ports: &Ports, function: &str, origin: &Origin, emit: Emit) -> Event {
    let now = ports.clock.now();
    let id = event_id(now, ports);
    let (tenant, subject, correlation, causation, hop, trace) = match origin {
        Origin::Caused(cause) => (
            cause.tenant.clone(),
            cause.subject.clone(),
            cause.correlationid.clone(),
            Some(cause.id.clone()),
            cause.hop + 1,
            cause.traceparent.as_deref(),
        ),
        Origin::Fresh { tenant, subject, traceparent } => {
            ((*tenant).clone(), (*subject).clone(), id.clone(), None, 0, *traceparent)
        }
    };
    Event {
        metadata: Metadata {
            id,
            kind: emit.data.name().to_owned(),
            schemaversion: SCHEMA_VERSION.to_owned(),
            time: now,
            source: format!("eventplane.{function}"),
            subject,
            correlationid: correlation,
            causationid: causation,
            tenant,
            generation: emit.generation,
            deadline: emit.deadline,
            hop,
            traceparent: trace.map(|parent| child_span(parent, ports.chance.draw())),
        },
        data: emit.data,
    }
}

/// A version 7 UUID: milliseconds, then chance.
fn event_id(now: Millis, ports: &Ports) -> String {
    let mut random = [0; 10];
    ports.chance.fill(&mut random);
    let ms = u64::try_from(now.0).unwrap_or(0);
    let id: Uuid = Builder::from_unix_timestamp_millis(ms, &random).into_uuid();
    id.to_string()
}

/// The same trace with a span of its own ("Trace Context", W3C: version, trace, parent, flags).
fn child_span(parent: &str, span: u64) -> String {
    match parent.split('-').collect::<Vec<_>>()[..] {
        [version, trace, _, flags] => format!("{version}-{trace}-{span:016x}-{flags}"),
        _ => parent.to_owned(),
    }
}
