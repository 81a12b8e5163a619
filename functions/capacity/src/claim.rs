//! What a reservation's receipt holds: where the room is, and how much.

use crate::host::Sizes;
use eventplane_domain::{HostId, InstanceId, Outcome, Placement, Tenant};
use eventplane_engine::Receipt;
use eventplane_store::{Item, ItemExt, Key};

/// How many hosts a launch avoids at most: the newest.
const AVOIDED_MAX: usize = 4;

const HOST: &str = "host";
const ZONE: &str = "zone";
const RACK: &str = "rack";
/// Hosts that had this launch and did not run it, with spaces between.
const AVOIDED: &str = "avoided";
const HELD: [&str; 4] = ["vcpus", "memory", "network", "gpus"];

/// Where the receipt of an instance is kept.
#[must_use]
pub fn receipt_key(tenant: &Tenant, id: &InstanceId) -> Key {
    Key::new(crate::TABLE.name, tenant.partition(id), "receipt")
}

/// Where the receipt's instance is placed, if it holds room.
#[must_use]
pub fn placement(receipt: &Receipt) -> Option<Placement> {
    Some(Placement {
        host: HostId::parse(receipt.claim.text(HOST)?).ok()?,
        zone: receipt.claim.text(ZONE)?.to_owned(),
        rack: receipt.claim.text(RACK)?.to_owned(),
    })
}

/// How much room the receipt holds.
#[must_use]
pub fn held(receipt: &Receipt) -> Option<Sizes> {
    Sizes::read(&receipt.claim, HELD)
}

/// The zone in which the instance's volumes and address are, once it had a place.
#[must_use]
pub(crate) fn home(receipt: Option<&Receipt>) -> Option<&str> {
    receipt.and_then(|receipt| receipt.claim.text(ZONE))
}

/// The hosts that had this launch and did not run it. A newer generation that is asked for while
/// the older one's room is still held is a new placement: that host is one of them.
#[must_use]
pub(crate) fn avoided(receipt: Option<&Receipt>) -> Vec<HostId> {
    let names = receipt.and_then(|receipt| receipt.claim.text(AVOIDED)).unwrap_or_default();
    let mut hosts: Vec<HostId> = names.split(' ').filter_map(|n| HostId::parse(n).ok()).collect();
    hosts.extend(receipt.and_then(placement).map(|placement| placement.host));
    hosts
}

/// What outlives a room that is given back: the zone, and after a replacement the hosts that are
/// not to be tried again.
#[must_use]
pub(crate) fn kept(receipt: Option<&Receipt>, outcome: Outcome) -> Item {
    match outcome {
        Outcome::Terminate => Item::new(),
        Outcome::Stop => Item::new().with_some(ZONE, home(receipt)),
        Outcome::Replace => avoiding(&avoided(receipt)).with_some(ZONE, home(receipt)),
    }
}

/// Those of them that a launch is not to go to: so many newest ones as have had it in a row. What has
/// run since, or is started by its user, may go to any.
#[must_use]
pub(crate) fn not_again(receipt: Option<&Receipt>, replaced: u32) -> Vec<HostId> {
    let mut hosts = avoided(receipt);
    let older = hosts.len().saturating_sub(replaced as usize);
    hosts.split_off(older)
}

fn avoiding(hosts: &[HostId]) -> Item {
    let newest = &hosts[hosts.len().saturating_sub(AVOIDED_MAX)..];
    let names: Vec<&str> = newest.iter().map(HostId::as_str).collect();
    Item::new().with_some(AVOIDED, (!names.is_empty()).then(|| names.join(" ")))
}

/// The claim on room of a host.
#[must_use]
pub(crate) fn claim(placement: &Placement, held: Sizes, avoided: &[HostId]) -> Item {
    let item = avoiding(avoided)
        .with(HOST, placement.host.as_str())
        .with(ZONE, placement.zone.as_str())
        .with(RACK, placement.rack.as_str());
    held.write(item, HELD)
}
