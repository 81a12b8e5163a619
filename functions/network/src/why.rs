//! Why a launch has no address as the tenant's subnets stand, and where there would be one.
//!
//! The rules are the step's own: which subnet a launch goes to, and how a wanted address stands, is
//! asked of `decide`.

use crate::blocks::{self, Block};
use crate::decide::{place_wanted, subnet_of, wanted};
use crate::manage::subnets::{Addresses, addresses, read, read_blocks};
use crate::subnets::{Subnet, Subnets};
use eventplane_domain::{LaunchSpec, Millis, Reason, Tenant, code};
use eventplane_engine::Fault;
use eventplane_store::Store;
use serde::Serialize;

/// How many subnets are looked at, the launch's own and the default ones first: each takes a read
/// for every 2,048 of its addresses.
pub const SUBNETS_LOOKED_AT_MAX: usize = 32;

/// How one subnet stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The subnet.
    pub subnet: Subnet,
    /// How its addresses stand.
    pub addresses: Addresses,
    /// When the first address that rests has rested.
    pub first_rested: Option<Millis>,
}

/// A tenant's subnets as they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grounds {
    /// All subnets, looked at or not.
    pub subnets: Subnets,
    /// Those that were looked at.
    pub rooms: Vec<Room>,
    /// The block of the address that the launch asks for, if it asks for one.
    pub wanted: Option<Block>,
    /// When.
    pub now: Millis,
}

/// What a subnet, or the lack of one, says to a launch that is placed in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ZoneTree {
    /// The zone.
    pub zone: String,
    /// Whether the launch would have an address there now.
    pub fits: bool,
    /// The check that it falls to: `subnet` (there is none for it), `private_ip` (the address is
    /// taken, resting or impossible) or `addresses` (none is free).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<&'static str>,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The subnet that it would go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    /// How its addresses stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Addresses>,
    /// When the first of those that rest has rested, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_rested_at_ms: Option<i64>,
}

/// Reads how the tenant's subnets stand, for this launch.
///
/// # Errors
/// A fault of the store.
pub async fn look(
    store: &dyn Store,
    tenant: &Tenant,
    spec: &LaunchSpec,
    now: Millis,
) -> Result<Grounds, Fault> {
    let subnets = read(store, tenant).await?;
    let mut order: Vec<&Subnet> =
        subnets.all.iter().filter(|subnet| subnet.deleting.is_none()).collect();
    let is_wanted = |subnet: &Subnet| spec.subnet_id.as_ref() == Some(&subnet.subnet_id);
    order.sort_by_key(|subnet| (!is_wanted(subnet), !subnet.default_for_zone));
    let mut rooms = Vec::new();
    for subnet in order.into_iter().take(SUBNETS_LOOKED_AT_MAX) {
        let blocks = read_blocks(store, tenant, subnet).await?;
        let resting = blocks.iter().flat_map(|block| block.resting(subnet.cidr_block, now));
        rooms.push(Room {
            subnet: subnet.clone(),
            addresses: addresses(subnet.cidr_block, &blocks, now),
            first_rested: resting.min(),
        });
    }
    let mut wanted = None;
    if let Some(room) = rooms.iter().find(|room| is_wanted(&room.subnet))
        && let Ok(Some(place)) = place_wanted(spec, &room.subnet)
    {
        let key = blocks::block_key(tenant, &room.subnet.subnet_id, place.block);
        wanted = Some(Block { number: place.block, item: store.get(&key).await? });
    }
    Ok(Grounds { subnets, rooms, wanted, now })
}

impl Grounds {
    /// What the subnets say to the launch if it is placed in `zone`.
    #[must_use]
    pub fn tree(&self, spec: &LaunchSpec, zone: &str) -> ZoneTree {
        let subnet = subnet_of(spec, zone, &self.subnets);
        let room = subnet.as_ref().ok().and_then(|subnet| {
            self.rooms.iter().find(|room| room.subnet.subnet_id == subnet.subnet_id)
        });
        let fallen = match &subnet {
            Err(reason) => Some(("subnet", reason.clone())),
            Ok(subnet) => self.falls_to(spec, subnet, room),
        };
        let (check, reason) = fallen.unzip();
        ZoneTree {
            zone: zone.to_owned(),
            fits: check.is_none(),
            check,
            reason,
            subnet_id: subnet.ok().map(|subnet| subnet.subnet_id.clone()),
            addresses: room.map(|room| room.addresses),
            first_rested_at_ms: room.and_then(|room| room.first_rested).map(|at| at.0),
        }
    }

    fn falls_to(
        &self,
        spec: &LaunchSpec,
        subnet: &Subnet,
        room: Option<&Room>,
    ) -> Option<(&'static str, Reason)> {
        let of_address = |reason| Some(("private_ip", reason));
        match place_wanted(spec, subnet) {
            Err(reason) => return of_address(reason),
            Ok(Some(place)) => {
                let seen: &[Block] = self.wanted.as_slice();
                return wanted(subnet, place, seen, self.now).err().and_then(of_address);
            }
            Ok(None) => {}
        }
        let none =
            |message| Some(("addresses", Reason::new(code::INSUFFICIENT_ADDRESSES, message)));
        let id = &subnet.subnet_id;
        match room.map(|room| room.addresses) {
            None => none(format!(
                "the subnet {id} was not looked at: {SUBNETS_LOOKED_AT_MAX} others were"
            )),
            Some(Addresses { usable, leased, resting, free: 0 }) => none(format!(
                "the subnet {id} has no free address; {usable} addresses: {leased} leased, \
                 {resting} resting"
            )),
            Some(_) => None,
        }
    }
}
