//! The events' own data, and the list of all events.

use eventplane_domain::{
    Identity, Launch, LaunchSpec, Network, Outcome, Placement, Reason, Step, Volume,
};
use serde::{Deserialize, Serialize};

macro_rules! events {
    ($($(#[doc = $doc:literal])* $name:ident($data:ty) by [$($function:literal),+];)+) => {
        /// All events, by name.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Data {
            $($(#[doc = $doc])* $name($data),)+
        }

        /// The list of all events: what the samples, the schemas and the wiring are checked
        /// against.
        pub const KINDS: &[Kind] = &[
            $(Kind {
                name: stringify!($name),
                publishers: &[$($function),+],
                #[cfg(feature = "schema")]
                about: concat!($($doc),*),
                #[cfg(feature = "schema")]
                schema: || schemars::schema_for!(crate::Detail<$data>),
            },)+
        ];

        impl Data {
            /// The event's name: its `detail-type`.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Data::$name(_) => stringify!($name),)+ }
            }

            /// Reads the data of the event called `name`; `None` if there is no such event.
            pub(crate) fn read(name: &str, json: &str) -> Option<Result<Data, serde_json::Error>> {
                match name {
                    $(stringify!($name) => Some(serde_json::from_str(json).map(Data::$name)),)+
                    _ => None,
                }
            }
        }

        impl Serialize for Data {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Data::$name(data) => data.serialize(serializer),)+ }
            }
        }
    };
}

/// What is known of an event without one in hand.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// The functions that may publish it: the only sources a rule accepts it from.
    pub publishers: &'static [&'static str],
    /// What has happened, in a sentence.
    #[cfg(feature = "schema")]
    pub about: &'static str,
    /// The JSON Schema of its whole detail.
    #[cfg(feature = "schema")]
    pub schema: fn() -> schemars::Schema,
}

events! {
    /// A user asked for an instance, or for its next generation.
    InstanceRequested(InstanceRequested) by ["api", "instances", "sweeper"];
    /// Room on a host is reserved.
    CapacityAllocated(CapacityAllocated) by ["capacity"];
    /// The interface has its address.
    NetworkConfigured(NetworkConfigured) by ["network"];
    /// The volumes have their place.
    VolumeProvisioned(VolumeProvisioned) by ["storage"];
    /// The instance has its identity.
    SecurityConfigured(SecurityConfigured) by ["security"];
    /// The host has its assignment.
    InstanceHandedOff(InstanceHandedOff) by ["handoff"];
    /// The host reports that the instance runs.
    InstanceRunning(InstanceRunning) by ["api"];
    /// The host promises that the instance does not run, and never will up to this generation.
    InstanceHalted(InstanceHalted) by ["api", "sweeper"];
    /// A step refused the launch.
    LaunchFailed(LaunchFailed) by ["capacity", "network", "storage", "security"];
    /// A user asked to stop the instance.
    InstanceStopRequested(TerminationRequested) by ["api", "instances", "sweeper"];
    /// A user asked to start the stopped instance.
    InstanceStartRequested(InstanceStartRequested) by ["api", "sweeper"];
    /// A user asked to reboot the instance where it runs.
    InstanceRebootRequested(Reboot) by ["api", "sweeper"];
    /// The host has the order to reboot the instance.
    InstanceRebootOrdered(Reboot) by ["handoff"];
    /// A user asked to terminate the instance.
    InstanceTerminationRequested(TerminationRequested) by ["api", "sweeper"];
    /// It is decided how this generation ends; nothing may run it any more.
    InstanceWithdrawn(InstanceWithdrawn) by ["handoff"];
    /// The room on the host is free again.
    CapacityReleased(Returned) by ["capacity"];
    /// The address is free again, after its rest.
    NetworkReleased(Returned) by ["network"];
    /// The volumes are gone, or detached.
    VolumeReleased(Returned) by ["storage"];
    /// The credentials are revoked.
    SecurityRevoked(Returned) by ["security"];
    /// The instance is terminated, and holds nothing.
    InstanceTerminated(InstanceTerminated) by ["instances"];
}

/// Data of `InstanceRequested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstanceRequested {
    /// What was asked for. A later generation's zone is that of the first.
    pub spec: LaunchSpec,
    /// Whether an earlier generation has run: what has run is stopped, not terminated, when it
    /// cannot start again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_run: bool,
    /// How many hosts in a row had this launch and did not run it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replaced: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Data of `InstanceStartRequested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstanceStartRequested {
    /// Who asked, and why.
    pub reason: Reason,
}

/// Data of `InstanceRebootRequested` and `InstanceRebootOrdered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reboot {
    /// Which reboot of the instance it is, from 1: an order that comes twice is one.
    pub number: u32,
}

/// Data of `CapacityAllocated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CapacityAllocated {
    /// The launch and its place.
    pub launch: Launch,
}

/// Data of `NetworkConfigured`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkConfigured {
    /// The launch and its place.
    pub launch: Launch,
    /// The interface.
    pub network: Network,
}

/// Data of `VolumeProvisioned`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VolumeProvisioned {
    /// The launch and its place.
    pub launch: Launch,
    /// The volumes, the root volume first.
    pub provisioned: Vec<Volume>,
}

/// Data of `SecurityConfigured`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecurityConfigured {
    /// The launch and its place.
    pub launch: Launch,
    /// References to what was granted.
    pub identity: Identity,
}

/// Data of `InstanceHandedOff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstanceHandedOff {
    /// Where the instance will run.
    pub placement: Placement,
}

/// Data of `InstanceRunning`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstanceRunning {
    /// The host that reports it.
    pub host: String,
}

/// Data of `InstanceHalted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstanceHalted {
    /// The host that promises it, or that an operator declared dead.
    pub host: String,
    /// Why, if it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Whether this generation has run, or may have: what never ran is placed again elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_run: bool,
}

/// Data of `LaunchFailed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LaunchFailed {
    /// The step that refused.
    pub step: Step,
    /// Why.
    pub reason: Reason,
    /// Whether an earlier generation has run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_run: bool,
}

/// Data of `InstanceTerminationRequested` and `InstanceStopRequested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TerminationRequested {
    /// Who asked, and why.
    pub reason: Reason,
}

/// Data of `InstanceWithdrawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstanceWithdrawn {
    /// How the generation ends.
    pub outcome: Outcome,
    /// Why: the state reason that the user sees.
    pub reason: Reason,
    /// Whether any generation has run, or may have: then no failed start ever terminates it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_run: bool,
}

/// Data of `CapacityReleased`, `NetworkReleased`, `VolumeReleased` and `SecurityRevoked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Returned {
    /// Whether it is for good, for every generation.
    pub for_good: bool,
}

/// Data of `InstanceTerminated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstanceTerminated {
    /// Why it ended.
    pub reason: Reason,
}
