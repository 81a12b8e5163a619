//! The step's part of the ledger: which address a receipt holds, and whether a block of addresses
//! adds up.

use crate::blocks::{self, BLOCK_SLOTS, Block, Place, Slot};
use crate::claim::{Lease, corrupt};
use crate::manage::subnets::{read, read_blocks};
use eventplane_domain::{Millis, Tenant};
use eventplane_engine::{Fault, Receipt};
use eventplane_store::Store;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Where a block of addresses is: whose, and of which subnet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The tenant.
    pub tenant: Tenant,
    /// The subnet.
    pub subnet_id: String,
    /// The block's number in the subnet.
    pub block: u32,
}

/// An address that a receipt holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The block that it stands in.
    pub at: At,
    /// Its slot there.
    pub slot: u32,
    /// The address.
    pub address: Ipv4Addr,
}

/// A block as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    /// Where it is.
    pub at: At,
    /// The subnet's addresses.
    pub cidr: Ipv4Net,
    /// The block.
    pub block: Block,
}

/// Something of a block that does not add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The slot is leased to this instance, and no receipt of it holds the address.
    NotHeld {
        /// The slot.
        slot: u32,
        /// Its address.
        address: Ipv4Addr,
        /// To whom it is leased.
        owner: String,
    },
    /// A receipt of this instance holds the address, and the slot is not leased to it.
    NotLeased {
        /// The slot.
        slot: u32,
        /// Its address.
        address: Ipv4Addr,
        /// Whose receipt holds it.
        holder: String,
        /// To whom it is leased, if to anybody.
        owner: Option<String>,
    },
    /// The block counts other than its leases.
    Miscounted {
        /// How many it counts.
        counts: i64,
        /// How many it has.
        leased: i64,
    },
}

/// The address that the receipt holds, if it holds one.
///
/// # Errors
/// A fault when it holds one that cannot be: it would be lost if it were ignored.
pub fn held_by(tenant: &Tenant, receipt: &Receipt) -> Result<Option<Held>, Fault> {
    let Some(Lease { subnet_id, cidr, address, .. }) = Lease::held(receipt) else {
        // What else is in it, another version of the step has noted.
        return match Lease::is_none(receipt) {
            true => Ok(None),
            false => Err(corrupt(format!("not a claim on an address: {:?}", receipt.claim.keys()))),
        };
    };
    let Some(Place { block, slot }) = blocks::place_of(cidr, address) else {
        return Err(corrupt(format!("a claim on {address}, which {cidr} never leases")));
    };
    Ok(Some(Held { at: At { tenant: tenant.clone(), subnet_id, block }, slot, address }))
}

/// All blocks of the tenant's subnets that were ever used.
///
/// # Errors
/// A fault of the store.
pub async fn all(store: &dyn Store, tenant: &Tenant) -> Result<Vec<Stands>, Fault> {
    let mut all = Vec::new();
    for subnet in read(store, tenant).await?.all {
        for block in read_blocks(store, tenant, &subnet).await? {
            let (tenant, subnet_id) = (tenant.clone(), subnet.subnet_id.clone());
            let at = At { tenant, subnet_id, block: block.number };
            all.push(Stands { at, cidr: subnet.cidr_block, block });
        }
    }
    Ok(all)
}

/// The block that is there, as it stands now; `None` once its subnet is gone.
///
/// # Errors
/// A fault of the store.
pub async fn one(store: &dyn Store, at: &At) -> Result<Option<Stands>, Fault> {
    let At { tenant, subnet_id, block } = at;
    let subnets = read(store, tenant).await?;
    let Some(subnet) = subnets.find_any(subnet_id) else { return Ok(None) };
    let item = store.get(&blocks::block_key(tenant, subnet_id, *block)).await?;
    let block = Block { number: *block, item };
    Ok(Some(Stands { at: at.clone(), cidr: subnet.cidr_block, block }))
}

impl Stands {
    /// The leases that the block has: slot and owner.
    #[must_use]
    pub fn leases(&self) -> BTreeMap<u32, String> {
        let leased = |slot| match self.block.slot(slot, Millis(0)) {
            Slot::Leased(owner) => Some((slot, owner)),
            _ => None,
        };
        (0..BLOCK_SLOTS).filter_map(leased).collect()
    }

    /// How many of its addresses rest at `now`.
    #[must_use]
    pub fn resting(&self, now: Millis) -> usize {
        self.block.resting(self.cidr, now).count()
    }

    /// What does not add up, given who holds what in this block: (slot, instance).
    #[must_use]
    pub fn differences(&self, held: &[(u32, &str)]) -> Vec<Difference> {
        let leases = self.leases();
        let address = |slot| blocks::address(self.cidr, Place { block: self.block.number, slot });
        let mut all = Vec::new();
        for (slot, owner) in &leases {
            if !held.contains(&(*slot, owner)) {
                let (slot, address, owner) = (*slot, address(*slot), owner.clone());
                all.push(Difference::NotHeld { slot, address, owner });
            }
        }
        for (slot, holder) in held {
            let owner = leases.get(slot).cloned();
            if owner.as_deref() != Some(holder) {
                let (address, holder) = (address(*slot), (*holder).to_owned());
                all.push(Difference::NotLeased { slot: *slot, address, holder, owner });
            }
        }
        let (counts, leased) = (self.block.held(), leases.len() as i64);
        if counts != leased {
            all.push(Difference::Miscounted { counts, leased });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::Ground;
    use eventplane_store::apply;

    fn block(owners: &[(u32, &str)]) -> Stands {
        let (tenant, cidr) = (Tenant::local(), "10.0.0.0/24".parse().expect("a block"));
        let ground = Ground { tenant: &tenant, subnet_id: "subnet-1", cidr };
        let mut block = Block { number: 1, item: None };
        for (slot, owner) in owners {
            let lease = block.lease(&ground, *slot, owner, Millis(1)).remove(0);
            block.item = apply(lease.action, block.item);
        }
        let at = At { tenant: tenant.clone(), subnet_id: "subnet-1".to_owned(), block: 1 };
        Stands { at, cidr, block }
    }

    #[test]
    fn a_block_adds_up_when_every_lease_is_held_and_everything_held_is_leased() {
        let two = block(&[(3, "i-a"), (17, "i-b")]);
        assert_eq!(two.differences(&[(3, "i-a"), (17, "i-b")]), []);
        assert_eq!(block(&[]).differences(&[]), []);
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        let lost = two.differences(&[(3, "i-a")]);
        let (slot, owner) = (17, "i-b".to_owned());
        assert_eq!(lost, [Difference::NotHeld { slot, address: address(49), owner }]);
        let twice = two.differences(&[(3, "i-a"), (3, "i-c"), (17, "i-b")]);
        let (holder, owner) = ("i-c".to_owned(), Some("i-a".to_owned()));
        let right = Difference::NotLeased { slot: 3, address: address(35), holder, owner };
        assert_eq!(twice, [right], "nothing is leased to two");
        let mut off = two.clone();
        off.block.item.as_mut().expect("there").insert("n".to_owned(), 3.into());
        let right = Difference::Miscounted { counts: 3, leased: 2 };
        assert_eq!(off.differences(&[(3, "i-a"), (17, "i-b")]), [right]);
    }
}
