//! The addresses of a subnet as slot maps: one item per block of 32 addresses, so that leases of
//! different addresses hardly ever meet in one item, and never in a condition.
//!
//! A block's item has `s<slot>` (the owner) for every leased slot, `r<slot>` (milliseconds) for a
//! slot that rests until then, `n` (how many are leased) and `closed` once its subnet goes. It
//! comes into being with its first lease. Every [`GROUP_BLOCKS`] blocks share a partition and a
//! summary that names the full ones; it is written only when a block becomes full or ceases to be.

use eventplane_domain::{Millis, Mutant, Tenant, planted};
use eventplane_store::{Condition, Item, ItemExt, Key, Update, Value, Write};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::ops::Range;

/// How many addresses share an item: with owners of 19 characters it stays under 1 KB.
pub const BLOCK_SLOTS: u32 = 32;
/// How many blocks share a partition and a summary.
pub const GROUP_BLOCKS: u32 = 64;
/// How long a released address rests, in milliseconds, so that what still remembers its old owner
/// (caches of neighbours, connections) has forgotten it.
pub const REST_MS: i64 = 60_000;
/// How many of a subnet's first addresses are never leased: network, router, name server, and one
/// for later. The last one, broadcast, is not leased either.
///
/// Source: "Subnet CIDR blocks", Amazon VPC user guide.
pub const FIRST_RESERVED: u32 = 4;
/// The first and the last addresses together.
const RESERVED: u32 = FIRST_RESERVED + 1;

const HELD: &str = "n";
const CLOSED: &str = "closed";
/// Time to live of a closed block: garbage collection only.
const EXPIRES: &str = "expires_at";
/// How long a closed block is kept: longer than any launch that may still have seen it open.
const CLOSED_KEPT_MS: i64 = 24 * 3600 * 1000;

/// Where an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The block's number in the subnet.
    pub block: u32,
    /// The slot in the block.
    pub slot: u32,
}

/// How a slot stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// It can be leased.
    Free,
    /// This instance has it.
    Leased(String),
    /// It can be leased after this moment.
    Resting(Millis),
}

/// How many blocks the subnet has.
#[must_use]
pub fn count(cidr: Ipv4Net) -> u32 {
    size(cidr).div_ceil(BLOCK_SLOTS)
}

/// How many addresses of the subnet can be leased at all.
#[must_use]
pub fn usable_addresses(cidr: Ipv4Net) -> u32 {
    size(cidr).saturating_sub(RESERVED)
}

/// The subnet's addresses, the reserved ones too. A whole number of 32 bits: no prefix is
/// shorter than /16.
fn size(cidr: Ipv4Net) -> u32 {
    1u32.checked_shl(32 - u32::from(cidr.prefix_len())).unwrap_or(u32::MAX)
}

/// The slots of a block that can be leased at all.
#[must_use]
pub fn usable(cidr: Ipv4Net, block: u32) -> Range<u32> {
    let start = if block == 0 { FIRST_RESERVED } else { 0 };
    let left = size(cidr).saturating_sub(block * BLOCK_SLOTS);
    let end = if left <= BLOCK_SLOTS { left.saturating_sub(1) } else { BLOCK_SLOTS };
    start..end.max(start)
}

/// Where `address` stands; `None` if it lies outside the subnet or is never leased.
#[must_use]
pub fn place_of(cidr: Ipv4Net, address: Ipv4Addr) -> Option<Place> {
    if !cidr.contains(&address) {
        return None;
    }
    let offset = u32::from(address) - u32::from(cidr.network());
    let place = Place { block: offset / BLOCK_SLOTS, slot: offset % BLOCK_SLOTS };
    usable(cidr, place.block).contains(&place.slot).then_some(place)
}

/// The address at `place`.
#[must_use]
pub fn address(cidr: Ipv4Net, place: Place) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()) + place.block * BLOCK_SLOTS + place.slot)
}

/// The subnet's router: its first host address.
#[must_use]
pub fn gateway(cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()) + 1)
}

/// The partition of a group of blocks.
#[must_use]
pub fn group_partition(tenant: &Tenant, subnet_id: &str, group: u32) -> String {
    tenant.partition(format!("{subnet_id}/{group:02}"))
}

/// Where a block is kept.
#[must_use]
pub fn block_key(tenant: &Tenant, subnet_id: &str, block: u32) -> Key {
    let partition = group_partition(tenant, subnet_id, block / GROUP_BLOCKS);
    Key::new(crate::TABLE.name, partition, format!("b{block:04}"))
}

/// The number of the block that is kept there.
#[must_use]
pub fn number_of(key: &Key) -> Option<u32> {
    key.sort.strip_prefix('b')?.parse().ok()
}

/// Where a group's summary is kept.
#[must_use]
pub fn summary_key(tenant: &Tenant, subnet_id: &str, group: u32) -> Key {
    Key::new(crate::TABLE.name, group_partition(tenant, subnet_id, group), "full")
}

/// How many groups the subnet's blocks make.
#[must_use]
pub fn groups(cidr: Ipv4Net) -> u32 {
    count(cidr).div_ceil(GROUP_BLOCKS)
}

fn full_mark(block: u32) -> String {
    format!("f{block}")
}

/// Whether the summary says that the block is full.
#[must_use]
pub fn is_full(summary: Option<&Item>, block: u32) -> bool {
    summary.is_some_and(|summary| summary.is_true(&full_mark(block)))
}

/// A block as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its number in the subnet.
    pub number: u32,
    /// Its item, if there is one yet.
    pub item: Option<Item>,
}

impl Block {
    /// How many of its slots are leased.
    #[must_use]
    pub fn held(&self) -> i64 {
        self.item.as_ref().and_then(|item| item.number(HELD)).unwrap_or(0)
    }

    /// Whether its subnet is going.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.item.as_ref().is_some_and(|item| item.contains_key(CLOSED))
    }

    /// How a slot stands at `now`.
    #[must_use]
    pub fn slot(&self, slot: u32, now: Millis) -> Slot {
        let Some(item) = &self.item else { return Slot::Free };
        if let Some(owner) = item.text(&format!("s{slot}")) {
            return Slot::Leased(owner.to_owned());
        }
        match item.number(&format!("r{slot}")) {
            Some(until) if until > now.0 => Slot::Resting(Millis(until)),
            _ => Slot::Free,
        }
    }

    /// The slots that can be leased now.
    #[must_use]
    pub fn free(&self, cidr: Ipv4Net, now: Millis) -> Vec<u32> {
        if self.is_closed() {
            return vec![];
        }
        let taken = self.taken(now);
        usable(cidr, self.number).filter(|slot| taken & (1 << slot) == 0).collect()
    }

    /// A bit for each slot that is leased or rests at `now`: one walk over the item, where asking
    /// slot by slot would look up 64 names.
    fn taken(&self, now: Millis) -> u32 {
        let slot = |name: &str| name.get(1..)?.parse::<u32>().ok().filter(|n| *n < BLOCK_SLOTS);
        let bit = |(name, value): (&String, &Value)| match (name.as_bytes().first(), value) {
            (Some(b's'), _) => slot(name).map(|slot| 1 << slot),
            (Some(b'r'), Value::N(until)) if *until > now.0 => slot(name).map(|slot| 1 << slot),
            _ => None,
        };
        self.item.iter().flatten().filter_map(bit).fold(0, |taken: u32, bit: u32| taken | bit)
    }

    /// Who has its addresses.
    #[must_use]
    pub fn owners(&self) -> Vec<String> {
        let leased = |slot| match self.slot(slot, Millis(0)) {
            Slot::Leased(owner) => Some(owner),
            _ => None,
        };
        (0..BLOCK_SLOTS).filter_map(leased).collect()
    }

    /// Until when each slot that rests does so.
    pub fn resting(&self, cidr: Ipv4Net, now: Millis) -> impl Iterator<Item = Millis> {
        usable(cidr, self.number).filter_map(move |slot| match self.slot(slot, now) {
            Slot::Resting(until) => Some(until),
            _ => None,
        })
    }

    /// Leases a free slot to `owner`: fails if it is taken by then, or if the block's filling up
    /// would go unnoticed.
    #[must_use]
    pub fn lease(&self, ground: &Ground, slot: u32, owner: &str, now: Millis) -> Vec<Write> {
        let all = i64::from(usable(ground.cidr, self.number).len() as u32);
        let (s, r) = (format!("s{slot}"), format!("r{slot}"));
        let updates = vec![Update::set(&s, owner), Update::remove(&r), Update::add(HELD, 1)];
        let is_free = (!planted(Mutant::UnconditionalLease)).then(|| Condition::absent(s));
        let lease = Write::update(ground.block_key(self.number), updates)
            .when_all(is_free)
            .when(Condition::absent_or_at_most(r, now.0))
            .when(Condition::absent(CLOSED));
        if self.held() + 1 < all {
            return vec![lease.when(Condition::absent_or_at_most(HELD, all - 2))];
        }
        let exactly = match self.held() {
            0 => Condition::absent_or_at_most(HELD, 0),
            held => Condition::equals(HELD, held),
        };
        vec![
            lease.when(exactly),
            ground.mark(self.number, Update::set(full_mark(self.number), true)),
        ]
    }

    /// Gives the slot back, if `owner` has it: it rests from `now`.
    #[must_use]
    pub fn release(&self, ground: &Ground, slot: u32, owner: &str, now: Millis) -> Vec<Write> {
        if self.slot(slot, now) != Slot::Leased(owner.to_owned()) {
            return vec![];
        }
        let all = i64::from(usable(ground.cidr, self.number).len() as u32);
        let (s, r) = (format!("s{slot}"), format!("r{slot}"));
        let rested = now.plus(REST_MS).0;
        let updates = vec![Update::remove(&s), Update::set(r, rested), Update::add(HELD, -1)];
        let release =
            Write::update(ground.block_key(self.number), updates).when(Condition::equals(s, owner));
        if self.held() < all {
            return vec![release.when(Condition::at_most(HELD, all - 1))];
        }
        let unmark = ground.mark(self.number, Update::remove(full_mark(self.number)));
        vec![release.when(Condition::equals(HELD, all)), unmark]
    }
}

/// Whose addresses they are, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ground<'a> {
    /// Whose subnet it is.
    pub tenant: &'a Tenant,
    /// The subnet.
    pub subnet_id: &'a str,
    /// Its addresses.
    pub cidr: Ipv4Net,
}

impl Ground<'_> {
    /// Where a block is kept.
    #[must_use]
    pub fn block_key(&self, block: u32) -> Key {
        block_key(self.tenant, self.subnet_id, block)
    }

    fn mark(&self, block: u32, update: Update) -> Write {
        let key = summary_key(self.tenant, self.subnet_id, block / GROUP_BLOCKS);
        Write::update(key, vec![update])
    }

    /// Closes a block for leases: fails while one of its addresses is leased. `by` names who
    /// closes, so that only they open it again.
    #[must_use]
    pub fn close(&self, block: u32, by: &str, now: Millis) -> Write {
        let expires = now.plus(CLOSED_KEPT_MS).0 / 1000;
        let updates = vec![Update::set(CLOSED, by), Update::set(EXPIRES, expires)];
        Write::update(self.block_key(block), updates).when(Condition::absent_or_at_most(HELD, 0))
    }

    /// Opens a block again that `by` has closed.
    #[must_use]
    pub fn open(&self, block: u32, by: &str) -> Write {
        let updates = vec![Update::remove(CLOSED), Update::remove(EXPIRES)];
        Write::update(self.block_key(block), updates).when(Condition::equals(CLOSED, by))
    }
}
