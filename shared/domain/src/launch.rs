//! What a launch asks for, and what each step hands to the next.

use crate::HostId;
use serde::{Deserialize, Serialize};

/// What was asked for, resolved: sizes instead of names, so that no step needs the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LaunchSpec {
    /// The reservation that it belongs to: `r-…`.
    pub reservation_id: String,
    /// Its place in the reservation, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub launch_index: u32,
    /// The type's name in the catalogue, such as `t3.micro`.
    pub instance_type: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Network bandwidth in Mbps that is set aside on the host.
    pub network_mbps: u32,
    /// GPUs, if it needs any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuNeed>,
    /// The image that the root volume is made from: `ami-…`.
    pub image_id: String,
    /// The volumes: the root volume first.
    pub volumes: Vec<VolumeSpec>,
    /// Only hosts of this zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// This subnet and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    /// This private address and no other; goes with `subnet_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip: Option<String>,
    /// Its security groups; empty for the tenant's default group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_group_ids: Vec<String>,
    /// The role that its credentials speak for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Where its user data is kept; never the data itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data_ref: Option<String>,
    /// How to choose among the hosts that fit.
    #[serde(default, skip_serializing_if = "Strategy::is_spread")]
    pub strategy: Strategy,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// How to choose among the hosts that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Over zones and racks, onto the hosts with the most room.
    #[default]
    Spread,
    /// Onto the fullest hosts that fit.
    Pack,
}

impl Strategy {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    fn is_spread(&self) -> bool {
        *self == Strategy::Spread
    }
}

/// GPUs that a launch needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GpuNeed {
    /// The model, such as `a100`.
    pub model: String,
    /// How many.
    pub count: u32,
}

/// A volume that a launch needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VolumeSpec {
    /// The name the instance sees it under, such as `/dev/sda1`.
    pub device: String,
    /// The type, such as `gp3`: each type has pools of its own.
    pub volume_type: String,
    /// The size in GiB.
    pub size_gib: u32,
    /// I/O operations per second that are set aside in the pool.
    pub iops: u32,
    /// Whether it goes when the instance is terminated; otherwise it stays, detached.
    pub delete_on_termination: bool,
}

/// Where an instance was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Placement {
    /// The host.
    pub host: HostId,
    /// Its zone.
    pub zone: String,
    /// Its rack.
    pub rack: String,
}

/// A launch that has its place: what network, storage, security and handoff work from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Launch {
    /// What was asked for.
    pub spec: LaunchSpec,
    /// Where it goes.
    pub placement: Placement,
    /// Whether an earlier generation has run: what has run is stopped, not terminated, when it
    /// cannot start again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_run: bool,
    /// How many hosts in a row had this launch and did not run it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replaced: u32,
}

/// What the network step hands over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Network {
    /// The interface: `eni-…`, of the instance's own digits.
    pub interface_id: String,
    /// The private address.
    pub private_ip: String,
    /// The hardware address.
    pub mac: String,
    /// The subnet it lies in.
    pub subnet_id: String,
    /// The subnet's block, such as `172.31.0.0/20`.
    pub cidr: String,
    /// The router's address: the subnet's first.
    pub gateway: String,
    /// The security groups that apply.
    pub security_group_ids: Vec<String>,
    /// Their rules, compiled: what the host enforces. What no rule allows is denied.
    pub rules: Vec<FirewallRule>,
    /// The routes of the subnet's table.
    pub routes: Vec<Route>,
}

/// One allowance that a host enforces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FirewallRule {
    /// Into the instance, or out of it.
    pub ingress: bool,
    /// `tcp`, `udp`, `icmp`, or `-1` for all.
    pub protocol: String,
    /// The first and the last port; none for protocols without ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
    /// Who: a block of addresses, or the id of a security group.
    pub peer: String,
}

/// One route of a subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Route {
    /// Where to.
    pub destination: String,
    /// Through what: `local`, or what the host's site knows by this name.
    pub target: String,
}

/// A volume that the storage step has provisioned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Volume {
    /// Its id: `vol-…`, of the instance's own digits.
    pub volume_id: String,
    /// What was asked for.
    pub spec: VolumeSpec,
    /// The pool shard that it was taken from.
    pub pool: String,
    /// The data key that it is encrypted with; the key itself never leaves the storage table.
    pub key_id: String,
}

/// What the security step hands over: references, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Identity {
    /// The role, if the launch has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Where the sealed credentials are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<String>,
    /// Their version: rises with every generation.
    pub credentials_version: u32,
    /// The key that signed the identity document.
    pub signing_key_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// An event is small: a usual launch does not say what is usual.
    #[test]
    fn a_launch_says_only_what_is_not_usual() {
        let usual = json!({
            "reservation_id": "r-1", "instance_type": "t3.micro", "vcpus": 2, "memory_mib": 1024,
            "network_mbps": 64, "image_id": "ami-1", "volumes": [],
        });
        let said = |spec: &LaunchSpec| serde_json::to_value(spec).expect("plain data");
        let spec: LaunchSpec = serde_json::from_value(usual.clone()).expect("a specification");
        assert_eq!(said(&spec), usual);
        let with = |name: &str, value: Value| {
            let mut unusual = usual.clone();
            unusual[name] = value;
            unusual
        };
        let packed = LaunchSpec { strategy: Strategy::Pack, ..spec.clone() };
        assert_eq!(said(&packed), with("strategy", json!("pack")));
        let second = LaunchSpec { launch_index: 1, ..spec };
        assert_eq!(said(&second), with("launch_index", json!(1)));
    }
}
