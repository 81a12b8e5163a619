//! Address blocks against a model: a map from slots to how they stand.

use crate::world::NOW;
use eventplane_domain::{Millis, Tenant};
use eventplane_network::blocks::{
    self, BLOCK_SLOTS, Block, FIRST_RESERVED, Ground, REST_MS, Slot, address, count, gateway,
    groups, is_full, place_of, usable, usable_addresses,
};
use eventplane_store::{Item, Key, Write, apply, holds};
use ipnet::Ipv4Net;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

fn any_cidr() -> impl Strategy<Value = Ipv4Net> {
    (16..=28_u8, any::<u32>()).prop_map(|(prefix, bits)| {
        Ipv4Net::new(Ipv4Addr::from(bits), prefix).expect("a good prefix").trunc()
    })
}

/// Items under keys, changed as a store changes them: all of a transaction or nothing.
#[derive(Default)]
struct Items(BTreeMap<Key, Item>);

impl Items {
    fn transact(&mut self, writes: Vec<Write>) -> bool {
        let all_hold = writes.iter().all(|write| {
            let item = self.0.get(&write.key);
            write.conditions.iter().all(|condition| holds(condition, item))
        });
        if all_hold {
            for write in writes {
                let item = self.0.remove(&write.key);
                if let Some(item) = apply(write.action, item) {
                    self.0.insert(write.key, item);
                }
            }
        }
        all_hold
    }
}

#[derive(Debug, Clone)]
enum Act {
    Lease(u32),
    Release(u32),
    Wait(i64),
    Close,
    Open,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..BLOCK_SLOTS).prop_map(Act::Lease),
        4 => (0..BLOCK_SLOTS).prop_map(Act::Release),
        2 => (0..2 * REST_MS).prop_map(Act::Wait),
        1 => Just(Act::Close),
        1 => Just(Act::Open),
    ]
}

proptest! {
    #[test]
    fn a_place_and_its_address_name_one_another(cidr in any_cidr(), offset in any::<u32>()) {
        let size = 1_u32 << (32 - cidr.prefix_len());
        let offset = offset % size;
        let at = Ipv4Addr::from(u32::from(cidr.network()) + offset);
        match place_of(cidr, at) {
            Some(place) => {
                prop_assert!(offset >= FIRST_RESERVED && offset < size - 1, "{} is reserved", at);
                prop_assert_eq!(address(cidr, place), at);
                prop_assert!(place.block < count(cidr));
                prop_assert!(at != gateway(cidr));
            }
            None => prop_assert!(offset < FIRST_RESERVED || offset == size - 1, "{} is usable", at),
        }
    }

    #[test]
    fn the_blocks_hold_all_usable_addresses_and_no_other(cidr in any_cidr()) {
        let of_blocks: u32 = (0..count(cidr)).map(|block| usable(cidr, block).len() as u32).sum();
        prop_assert_eq!(of_blocks, usable_addresses(cidr));
        prop_assert_eq!(usable_addresses(cidr), (1 << (32 - cidr.prefix_len())) - 5);
        prop_assert!(groups(cidr) <= 32);
        prop_assert_eq!(place_of(cidr, cidr.broadcast()), None);
    }

    #[test]
    fn a_block_stands_as_its_model_says(
        prefix in 26..=28_u8,
        acts in prop::collection::vec(any_act(), 0..120),
    ) {
        let cidr = Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 0), prefix).expect("a good prefix");
        let tenant = Tenant::local();
        let ground = Ground { tenant: &tenant, subnet_id: "subnet-1", cidr };
        let (mut items, mut now) = (Items::default(), NOW);
        let mut leased = BTreeMap::<u32, String>::new();
        let mut resting = BTreeMap::<u32, Millis>::new();
        let mut closed = false;
        for (n, act) in acts.into_iter().enumerate() {
            let block = Block { number: 0, item: items.0.get(&ground.block_key(0)).cloned() };
            match act {
                Act::Lease(slot) => {
                    let is_free = usable(cidr, 0).contains(&slot) && !leased.contains_key(&slot)
                        && resting.get(&slot).is_none_or(|until| *until <= now) && !closed;
                    prop_assert_eq!(block.free(cidr, now).contains(&slot), is_free);
                    if !usable(cidr, 0).contains(&slot) {
                        continue;
                    }
                    let owner = format!("i-{n:017x}");
                    let was_leased = items.transact(block.lease(&ground, slot, &owner, now));
                    prop_assert_eq!(was_leased, is_free);
                    if is_free {
                        leased.insert(slot, owner);
                        resting.remove(&slot);
                    }
                }
                Act::Release(slot) => {
                    let owner = leased.remove(&slot);
                    let stranger = block.release(&ground, slot, "i-stranger", now);
                    prop_assert!(stranger.is_empty());
                    if let Some(owner) = owner {
                        prop_assert!(items.transact(block.release(&ground, slot, &owner, now)));
                        resting.insert(slot, now.plus(REST_MS));
                    }
                }
                Act::Wait(ms) => now = now.plus(ms),
                Act::Close => {
                    let was_closed = items.transact(vec![ground.close(0, "me", now)]);
                    prop_assert_eq!(was_closed, leased.is_empty());
                    closed |= was_closed;
                }
                Act::Open => {
                    prop_assert_eq!(items.transact(vec![ground.open(0, "me")]), closed);
                    closed = false;
                }
            }
            let block = Block { number: 0, item: items.0.get(&ground.block_key(0)).cloned() };
            prop_assert_eq!(block.held(), leased.len() as i64);
            prop_assert_eq!(block.is_closed(), closed);
            for (slot, owner) in &leased {
                prop_assert_eq!(block.slot(*slot, now), Slot::Leased(owner.clone()));
            }
            let summary = items.0.get(&blocks::summary_key(&tenant, "subnet-1", 0));
            prop_assert_eq!(is_full(summary, 0), leased.len() == usable(cidr, 0).len());
        }
    }
}

#[test]
fn of_two_that_take_the_last_addresses_at_once_one_has_to_look_again() {
    let tenant = Tenant::local();
    let cidr: Ipv4Net = "10.0.0.0/28".parse().expect("a block");
    let ground = Ground { tenant: &tenant, subnet_id: "subnet-1", cidr };
    let mut items = Items::default();
    let read =
        |items: &Items| Block { number: 0, item: items.0.get(&ground.block_key(0)).cloned() };
    let full =
        |items: &Items| is_full(items.0.get(&blocks::summary_key(&tenant, "subnet-1", 0)), 0);
    for slot in 4..13 {
        assert!(items.transact(read(&items).lease(&ground, slot, "i-1", NOW)));
    }
    let seen = read(&items);
    assert!(items.transact(seen.lease(&ground, 13, "i-1", NOW)));
    assert!(!items.transact(seen.lease(&ground, 14, "i-2", NOW)), "the block would be full");
    assert!(items.transact(read(&items).lease(&ground, 14, "i-2", NOW)));
    assert!(full(&items));
    let seen = read(&items);
    assert!(items.transact(seen.release(&ground, 13, "i-1", NOW)));
    assert!(!full(&items));
    assert!(!items.transact(seen.release(&ground, 14, "i-2", NOW)), "it is not full any more");
    assert!(items.transact(read(&items).release(&ground, 14, "i-2", NOW)));
}

#[test]
fn a_block_and_its_number_are_found_by_its_key() {
    let tenant = Tenant::local();
    for number in [0, 63, 64, 2047] {
        let key = blocks::block_key(&tenant, "subnet-1", number);
        assert_eq!(blocks::number_of(&key), Some(number));
        assert_eq!(key.partition, format!("default/subnet-1/{:02}", number / 64));
    }
    assert_eq!(blocks::number_of(&blocks::summary_key(&tenant, "subnet-1", 0)), None);
}

#[test]
fn a_full_block_stays_under_a_kilobyte() {
    let tenant = Tenant::local();
    let cidr: Ipv4Net = "10.0.0.0/24".parse().expect("a block");
    let ground = Ground { tenant: &tenant, subnet_id: "subnet-0123456789abcdef0", cidr };
    let mut items = Items::default();
    for slot in usable(cidr, 1) {
        let block = Block { number: 1, item: items.0.get(&ground.block_key(1)).cloned() };
        assert!(items.transact(block.lease(&ground, slot, &format!("i-{slot:017x}"), NOW)));
    }
    let key = ground.block_key(1);
    let attributes: usize = items.0[&key].keys().map(|name| name.len() + 19).sum();
    let all = attributes + key.partition.len() + key.sort.len() + "pksk".len();
    assert!(all <= 1024, "{all} bytes");
}
