//! What a host and the control plane say to each other, as JSON.

use eventplane_domain::{InstanceId, Millis, Reason, Tenant};
use serde::{Deserialize, Serialize};

/// A host introduces itself: body of `POST /v1/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The id that the host's operator gave it.
    pub host_id: String,
    /// Its zone.
    pub zone: String,
    /// Its rack.
    pub rack: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Network bandwidth in Mbps.
    pub network_mbps: u32,
    /// Its GPUs, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
}

/// The GPUs of a host: all of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpus {
    /// The model, such as `a10g`.
    pub model: String,
    /// How many.
    pub count: u32,
}

/// One instance of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceKey {
    /// Whose it is.
    pub tenant: Tenant,
    /// Which one.
    pub instance_id: InstanceId,
}

/// The full set of what a host is to run: answer of `GET /v1/hosts/{id}/assignments`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Assignments {
    /// Rises with every change of the set: a host never acts on an older one.
    pub revision: u64,
    /// How soon to ask again, in milliseconds, when the answer came without waiting.
    #[serde(default)]
    pub poll_after_ms: u64,
    /// What the host is to run.
    #[serde(default)]
    pub wanted: Vec<Wanted>,
    /// What it has to stop and promise never to run again.
    #[serde(default)]
    pub let_go: Vec<LetGo>,
}

/// An instance that a host is to run. What it is made of travels in the same object; a simulated
/// host has no use for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Which instance.
    #[serde(flatten)]
    pub key: InstanceKey,
    /// Which run of it.
    pub generation: u32,
    /// When it has to run, or be let go of.
    pub deadline: Millis,
    /// Which reboot of it is the newest that was asked for; 0 for none.
    #[serde(default)]
    pub reboots: u32,
}

/// An instance that a host lets go of: in an answer an order, in a report a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetGo {
    /// Which instance.
    #[serde(flatten)]
    pub key: InstanceKey,
    /// Up to which generation.
    pub generation: u32,
    /// Why, if the host decided it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Whether this generation has run: in a report only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_run: bool,
}

/// What a host sees: body of `POST /v1/hosts/{id}/reports`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Whether this is all that the host sees, or only what changed just now.
    pub complete: bool,
    /// The newest revision that the host has acted on.
    pub revision: u64,
    /// What it runs.
    pub instances: Vec<Observed>,
    /// What it promises not to run, now or ever, up to a generation.
    pub let_go: Vec<LetGo>,
}

/// An instance that a host runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Which instance.
    #[serde(flatten)]
    pub key: InstanceKey,
    /// Which run of it.
    pub generation: u32,
    /// How it is.
    pub state: ObservedState,
}

/// How an instance is on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObservedState {
    /// It runs.
    Running,
}
