//! What every event carries besides its data.

use eventplane_domain::{InstanceId, Millis, Tenant};
use serde::{Deserialize, Serialize};

/// The version of the schemas written now, as `major.minor`: a reader takes any minor of a major
/// that it knows, and ignores fields that it does not know.
pub const SCHEMA_VERSION: &str = "1.0";

/// How many events may have caused one another in a row before a reader takes it for a loop.
/// The longest path of a launch and its undo is eleven.
pub const HOPS_MAX: u32 = 32;

/// Who, when and why: attribute names as in CloudEvents 1.0 ("Context Attributes"), and the plane's
/// own as extension attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Metadata {
    /// This publication's id; a repeated event has a new one, so nothing is deduplicated by it.
    pub id: String,
    /// The event's name: the same as the envelope's `detail-type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version of the event's schema, `major.minor`.
    pub schemaversion: String,
    /// When it was published.
    pub time: Millis,
    /// `eventplane.` and the function that published it.
    pub source: String,
    /// The instance that it is about.
    pub subject: InstanceId,
    /// The same for all that one request of a user has led to.
    pub correlationid: String,
    /// The id of the event that led to this one; none for a request or a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causationid: Option<String>,
    /// Whose instance it is.
    pub tenant: Tenant,
    /// Which run of the instance it is about.
    pub generation: u32,
    /// When this generation has to run.
    pub deadline: Millis,
    /// How many events led to this one since the user's request.
    pub hop: u32,
    /// The W3C trace context, which a bus does not carry by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// An envelope's `detail`, as its schema describes it.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
pub struct Detail<D> {
    /// Who, when and why.
    pub metadata: Metadata,
    /// What has happened.
    pub data: D,
}
