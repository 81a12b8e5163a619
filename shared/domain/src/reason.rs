//! Why something was denied or ended, in words for people and for machines.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A reason: a code that programs read, in EC2's words, and a sentence that people read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reason {
    /// The code, such as `Server.InsufficientInstanceCapacity`.
    pub code: String,
    /// The sentence, with the numbers that count.
    pub message: String,
}

impl Reason {
    /// A reason of these two.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Reason { code: code.to_owned(), message: message.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// A stage of a launch that can refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Step {
    Capacity,
    Network,
    Storage,
    Security,
    Handoff,
}

impl Step {
    /// The step's name, as in its events' source.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Capacity => "capacity",
            Step::Network => "network",
            Step::Storage => "storage",
            Step::Security => "security",
            Step::Handoff => "handoff",
        }
    }
}

/// The codes of state reasons. Those of EC2 stand under "StateReason" in the EC2 API reference.
#[allow(missing_docs)]
pub mod code {
    pub const INSUFFICIENT_CAPACITY: &str = "Server.InsufficientInstanceCapacity";
    pub const INTERNAL: &str = "Server.InternalError";
    /// Ours: the launch did not become running before its deadline.
    pub const LAUNCH_TIMEOUT: &str = "Server.LaunchTimeout";
    /// Ours: an operator said that the host is dead.
    pub const HOST_DEAD: &str = "Server.HostDead";
    pub const INSUFFICIENT_ADDRESSES: &str = "Client.InsufficientFreeAddressesInSubnet";
    pub const ADDRESS_IN_USE: &str = "Client.InvalidIPAddress.InUse";
    pub const INVALID_ADDRESS: &str = "Client.InvalidIPAddress";
    pub const SUBNET_NOT_FOUND: &str = "Client.InvalidSubnetID.NotFound";
    pub const GROUP_NOT_FOUND: &str = "Client.InvalidGroup.NotFound";
    pub const IMAGE_NOT_FOUND: &str = "Client.InvalidAMIID.NotFound";
    pub const ROLE_NOT_FOUND: &str = "Client.InvalidIamInstanceProfile.NotFound";
    pub const INSUFFICIENT_VOLUME_CAPACITY: &str = "Server.InsufficientVolumeCapacity";
    pub const UNKNOWN_VOLUME_TYPE: &str = "Client.UnknownVolumeType";
    pub const VOLUME_ZONE_MISMATCH: &str = "Client.InvalidVolume.ZoneMismatch";
    pub const USER_SHUTDOWN: &str = "Client.UserInitiatedShutdown";
    pub const INSTANCE_SHUTDOWN: &str = "Client.InstanceInitiatedShutdown";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_shown_with_its_code_and_a_step_by_its_name() {
        let reason = Reason::new(code::HOST_DEAD, "the host h-1 was declared dead");
        assert_eq!(reason.to_string(), "Server.HostDead: the host h-1 was declared dead");
        let steps = [Step::Capacity, Step::Network, Step::Storage, Step::Security, Step::Handoff];
        let names = ["capacity", "network", "storage", "security", "handoff"];
        assert_eq!(steps.map(Step::name), names);
    }
}
