//! The events: what has happened, past tense, immutable, versioned.
//!
//! An [`Event`] travels in EventBridge's envelope: `source` is `eventplane.<function>`,
//! `detail-type` the event's name, and `detail` holds [`Metadata`] and the event's own data.
//! [`Data`] is the list of all events; everything else that knows their names is checked
//! against it.

mod data;
mod envelope;
mod metadata;
#[cfg(feature = "schema")]
pub mod samples;

pub use data::{
    CapacityAllocated, Data, InstanceHalted, InstanceHandedOff, InstanceRequested, InstanceRunning,
    InstanceStartRequested, InstanceTerminated, InstanceWithdrawn, KINDS, Kind, LaunchFailed,
    NetworkConfigured, Reboot, Returned, SecurityConfigured, TerminationRequested,
    VolumeProvisioned,
};
pub use envelope::{Entry, Unreadable, envelope, read};
#[cfg(feature = "schema")]
pub use metadata::Detail;
pub use metadata::{HOPS_MAX, Metadata, SCHEMA_VERSION};

/// An event: who, when and why, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who, when and why.
    pub metadata: Metadata,
    /// What has happened.
    pub data: Data,
}
