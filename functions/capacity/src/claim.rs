//! What a reservation's receipt holds: where the room is, and how much.

use crate::host::Sizes;
use eventplane_domain::{HostId, InstanceId, Placement, Tenant};
use eventplane_engine::Receipt;
use eventplane_store::{Item, ItemExt, Key};

const HOST: &str = "host";
const ZONE: &str = "zone";
const RACK: &str = "rack";
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

/// The claim on room of a host.
#[must_use]
pub(crate) fn claim(placement: &Placement, held: Sizes) -> Item {
    let item = Item::new()
        .with(HOST, placement.host.as_str())
        .with(ZONE, placement.zone.as_str())
        .with(RACK, placement.rack.as_str());
    held.write(item, HELD)
}
