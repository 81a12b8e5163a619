//! What the network step's receipt holds: the lease, and no more than is needed to say it again.

use crate::blocks;
use eventplane_domain::{InstanceId, Network};
use eventplane_engine::{Fault, Receipt};
use eventplane_store::{FaultKind, Item, ItemExt, StoreFault};
use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};
use std::net::Ipv4Addr;

const INTERFACE: &str = "eni";
const SUBNET: &str = "subnet";
const CIDR: &str = "cidr";
const ADDRESS: &str = "ip";
const GROUPS: &str = "groups";

/// An address held by one instance, and the groups that guard it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The interface: `eni-…`.
    pub interface_id: String,
    /// The subnet.
    pub subnet_id: String,
    /// The subnet's addresses.
    pub cidr: Ipv4Net,
    /// The address.
    pub address: Ipv4Addr,
    /// The security groups.
    pub groups: Vec<String>,
}

impl Lease {
    /// The lease of `address` by `instance`.
    #[must_use]
    pub fn new(
        instance: &InstanceId,
        subnet_id: &str,
        cidr: Ipv4Net,
        address: Ipv4Addr,
        groups: Vec<String>,
    ) -> Self {
        let interface_id = instance.interface();
        Lease { interface_id, subnet_id: subnet_id.to_owned(), cidr, address, groups }
    }

    /// The lease as a receipt's claim.
    #[must_use]
    pub fn claim(&self) -> Item {
        Item::new()
            .with(INTERFACE, self.interface_id.as_str())
            .with(SUBNET, self.subnet_id.as_str())
            .with(CIDR, self.cidr.to_string())
            .with(ADDRESS, self.address.to_string())
            .with(GROUPS, self.groups.join(","))
    }

    /// The lease that the receipt holds, if it holds one.
    #[must_use]
    pub fn held(receipt: &Receipt) -> Option<Lease> {
        let claim = &receipt.claim;
        let groups = claim.text(GROUPS).unwrap_or_default().split(',');
        Some(Lease {
            interface_id: claim.text(INTERFACE)?.to_owned(),
            subnet_id: claim.text(SUBNET)?.to_owned(),
            cidr: claim.text(CIDR)?.parse().ok()?,
            address: claim.text(ADDRESS)?.parse().ok()?,
            groups: groups.filter(|group| !group.is_empty()).map(str::to_owned).collect(),
        })
    }

    /// Whether the receipt says nothing of a lease.
    pub(crate) fn is_none(receipt: &Receipt) -> bool {
        [INTERFACE, SUBNET, CIDR, ADDRESS].iter().all(|name| !receipt.claim.contains_key(*name))
    }

    /// The interface as the host is told of it, still without rules and routes.
    #[must_use]
    pub fn network(&self) -> Network {
        Network {
            interface_id: self.interface_id.clone(),
            private_ip: self.address.to_string(),
            mac: mac(&self.subnet_id, self.address),
            subnet_id: self.subnet_id.clone(),
            cidr: self.cidr.to_string(),
            gateway: blocks::gateway(self.cidr).to_string(),
            security_group_ids: self.groups.clone(),
            rules: vec![],
            routes: vec![],
        }
    }
}

/// The interface that the receipt holds. Its rules and routes are left out: they are read from
/// the groups and the route table whenever they are told to a host.
#[must_use]
pub fn lease(receipt: &Receipt) -> Option<Network> {
    Lease::held(receipt).map(|lease| lease.network())
}

/// A hardware address that no other address of the tenant has: locally administered (`02`), a
/// byte of the subnet, and the address itself.
fn mac(subnet_id: &str, address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    let subnet = digest(subnet_id)[0];
    format!("02:{subnet:02x}:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// An id of the form `<prefix>-` and 17 hex digits that always comes out the same for `of`.
#[must_use]
pub(crate) fn derived_id(prefix: &str, of: &str) -> String {
    let hex: String = digest(of).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}-{}", &hex[..17])
}

/// What is stored is not what was written: somebody has to look at the table.
pub(crate) fn corrupt(what: impl Into<String>) -> Fault {
    Fault::Store(StoreFault::new(FaultKind::Corrupt, what))
}
