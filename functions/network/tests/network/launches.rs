//! The step in the engine's loop, over a store.

use crate::world::{World, ZONE, allocated, instance, message, spec, withdrawn};
use eventplane_domain::receipt::Answer;
use eventplane_domain::{LaunchSpec, Network, Outcome, code};
use eventplane_engine::{Handler, Receipt};
use eventplane_events::Data;
use eventplane_network::blocks::{REST_MS, summary_key};
use eventplane_network::subnets::{self, Subnets};
use eventplane_network::{lease, receipt_key, seed};
use eventplane_store::{Query, Store, Update, Value, Write};
use std::collections::HashSet;
use std::sync::Arc;

fn configured(data: &Data) -> &Network {
    match data {
        Data::NetworkConfigured(configured) => &configured.network,
        other => panic!("{other:?}"),
    }
}

fn refused(data: &Data) -> (&str, &str) {
    match data {
        Data::LaunchFailed(failed) => (&failed.reason.code, &failed.reason.message),
        other => panic!("{other:?}"),
    }
}

impl World {
    async fn subnets(&self) -> Subnets {
        let item = self.store.get(&subnets::key(&self.tenant)).await.expect("read");
        Subnets::read(item.as_ref()).expect("subnets")
    }

    /// Makes the zone's default subnet this small.
    async fn shrink(&self, cidr: &str) {
        let mut subnet = self.subnets().await.default_of(ZONE).expect("one").clone();
        subnet.cidr_block = cidr.parse().expect("a block");
        let json = serde_json::to_string(&subnet).expect("plain data");
        let update = vec![Update::set(&subnet.subnet_id, Value::S(json))];
        let write = Write::update(subnets::key(&self.tenant), update);
        self.store.transact(vec![write]).await.expect("written");
    }

    async fn receipt(&self, n: u64) -> Receipt {
        let item = self.store.get(&receipt_key(&self.tenant, &instance(n))).await.expect("read");
        Receipt::read(item.as_ref()).expect("a receipt").expect("a receipt")
    }
}

#[tokio::test]
async fn a_launch_costs_two_reads_and_four_write_units() {
    let world = World::new(&[ZONE]).await;
    let before = world.store.stats();
    world.answer(&allocated(&instance(1), 1, ZONE, spec())).await;
    let taken = world.store.stats();
    assert_eq!(taken.reads - before.reads, 2);
    assert_eq!(taken.items_written - before.items_written, 2);
    assert_eq!(taken.write_units - before.write_units, 4);
    assert_eq!(taken.transactions - before.transactions, 1);
    world.answer(&withdrawn(&instance(1), 1, Outcome::Terminate)).await;
    let ended = world.store.stats();
    assert_eq!(ended.reads - taken.reads, 2);
    assert_eq!(ended.write_units - taken.write_units, 4);
    world.hear(&withdrawn(&instance(1), 1, Outcome::Stop)).await;
    assert_eq!(world.store.stats().reads, ended.reads, "a stop is nothing to look at");
}

#[tokio::test]
async fn a_newer_generation_and_a_repetition_cost_two_reads() {
    let world = World::new(&[ZONE]).await;
    let first = world.answer(&allocated(&instance(1), 1, ZONE, spec())).await;
    for (generation, transactions) in [(1, 0), (2, 1)] {
        let before = world.store.stats();
        let again = world.answer(&allocated(&instance(1), generation, ZONE, spec())).await;
        assert_eq!(configured(&again), configured(&first));
        let after = world.store.stats();
        assert_eq!(after.reads - before.reads, 2);
        assert_eq!(after.transactions - before.transactions, transactions);
    }
}

#[tokio::test]
async fn the_receipt_says_which_address_it_holds() {
    let world = World::new(&[ZONE]).await;
    let answer = world.answer(&allocated(&instance(1), 1, ZONE, spec())).await;
    let network = configured(&answer);
    let held = lease(&world.receipt(1).await).expect("a lease");
    let without = Network { rules: vec![], routes: vec![], ..network.clone() };
    assert_eq!(held, without);
    assert_eq!(network.rules.len(), 2, "the default group's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_address_is_leased_twice_by_sixty_four_tasks_at_once() {
    const TASKS: u64 = 64;
    const EACH: u64 = 8;
    let world = Arc::new(World::new(&[ZONE]).await);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let world = world.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    let event = allocated(&instance(task * EACH + n), 1, ZONE, spec());
                    world.step.handle(&message(&event)).await.expect("handled");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task ends");
    }
    let events = world.published();
    let addresses: HashSet<_> =
        events.iter().map(|event| configured(&event.data).private_ip.clone()).collect();
    assert_eq!(addresses.len() as u64, TASKS * EACH);
    assert_eq!(held_in_blocks(&world).await, TASKS * EACH);
}

/// How many addresses the blocks of the zone's default subnet say are leased, counted twice.
async fn held_in_blocks(world: &World) -> u64 {
    let subnet = world.subnets().await.default_of(ZONE).expect("one").clone();
    let mut held = 0;
    for group in 0..2 {
        let partition = summary_key(&world.tenant, &subnet.subnet_id, group).partition;
        let query = Query::partition("network", partition, 100).prefix("b");
        for (key, item) in world.store.query(&query).await.expect("read").items {
            let slots = item.keys().filter(|name| name.starts_with('s')).count() as i64;
            assert_eq!(item.get("n"), Some(&Value::N(slots)), "{key}");
            held += slots as u64;
        }
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subnet_fills_to_the_last_address_and_then_refuses() {
    for (cidr, usable) in [("10.0.0.0/28", 11), ("10.0.0.0/25", 123)] {
        let world = Arc::new(World::new(&[ZONE]).await);
        world.shrink(cidr).await;
        let tasks: Vec<_> = (0..usable + 13)
            .map(|n| {
                let world = world.clone();
                tokio::spawn(async move {
                    let event = allocated(&instance(n), 1, ZONE, spec());
                    world.step.handle(&message(&event)).await.expect("handled");
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("the task ends");
        }
        let events = world.published();
        let (taken, refusals): (Vec<_>, Vec<_>) =
            events.iter().partition(|event| matches!(event.data, Data::NetworkConfigured(_)));
        let addresses: HashSet<_> =
            taken.iter().map(|event| configured(&event.data).private_ip.clone()).collect();
        assert_eq!((taken.len() as u64, addresses.len() as u64), (usable, usable));
        assert_eq!(refusals.len(), 13);
        for event in &refusals {
            let (code, message) = refused(&event.data);
            assert_eq!(code, code::INSUFFICIENT_ADDRESSES);
            let right = format!("{usable} addresses: {usable} leased, 0 resting");
            assert!(message.contains(&right), "{message}");
        }
    }
}

#[tokio::test]
async fn a_released_address_rests_and_is_leased_again() {
    let world = World::new(&[ZONE]).await;
    world.shrink("10.0.0.0/28").await;
    let mut first = String::new();
    for n in 0..11 {
        let answer = world.answer(&allocated(&instance(n), 1, ZONE, spec())).await;
        if n == 0 {
            first.clone_from(&configured(&answer).private_ip);
        }
    }
    let back = world.answer(&withdrawn(&instance(0), 1, Outcome::Terminate)).await;
    assert!(matches!(back, Data::NetworkReleased(back) if back.for_good));
    world.pass(REST_MS - 1);
    let answer = world.answer(&allocated(&instance(20), 1, ZONE, spec())).await;
    let (code, message) = refused(&answer);
    assert_eq!(code, code::INSUFFICIENT_ADDRESSES);
    assert!(message.contains("11 addresses: 10 leased, 1 resting, the first"), "{message}");
    let wanted = LaunchSpec { private_ip: Some(first.clone()), ..spec() };
    let answer = world.answer(&allocated(&instance(21), 1, ZONE, wanted)).await;
    assert_eq!(refused(&answer).0, code::ADDRESS_IN_USE);
    world.pass(1);
    let answer = world.answer(&allocated(&instance(22), 1, ZONE, spec())).await;
    assert_eq!(configured(&answer).private_ip, first);
    world.answer(&withdrawn(&instance(0), 1, Outcome::Terminate)).await;
    assert_eq!(lease(&world.receipt(22).await).expect("still held").private_ip, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_asked_for_by_many_goes_to_one() {
    let world = Arc::new(World::new(&[ZONE]).await);
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let world = world.clone();
            tokio::spawn(async move {
                let asked = LaunchSpec { private_ip: Some("172.31.3.9".to_owned()), ..spec() };
                let event = allocated(&instance(n), 1, ZONE, asked);
                world.step.handle(&message(&event)).await.expect("handled");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task ends");
    }
    let events = world.published();
    let taken = events.iter().filter(|event| matches!(event.data, Data::NetworkConfigured(_)));
    assert_eq!((taken.count(), events.len()), (1, 16));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_delivered_many_times_at_once_leases_one_address() {
    let world = Arc::new(World::new(&[ZONE]).await);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move {
                let event = allocated(&instance(1), 1, ZONE, spec());
                world.step.handle(&message(&event)).await.expect("handled");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task ends");
    }
    let events = world.published();
    let addresses: HashSet<_> =
        events.iter().map(|event| configured(&event.data).private_ip.clone()).collect();
    assert_eq!((events.len(), addresses.len()), (16, 1));
    assert_eq!(held_in_blocks(&world).await, 1);
}

#[tokio::test]
async fn a_termination_before_its_take_bars_it() {
    let world = World::new(&[ZONE]).await;
    world.answer(&withdrawn(&instance(1), 1, Outcome::Terminate)).await;
    let late = world.answer(&allocated(&instance(1), 1, ZONE, spec())).await;
    assert!(matches!(late, Data::NetworkReleased(back) if back.for_good));
    assert_eq!(held_in_blocks(&world).await, 0);
    assert_eq!(world.receipt(1).await.answer, Answer::GivenBackForGood);
}

#[tokio::test]
async fn a_group_id_that_is_none_is_refused_and_never_a_fault() {
    let world = World::new(&[ZONE]).await;
    for (n, id) in ["name/default", "", "sg-", "sg-\0"].into_iter().enumerate() {
        let asked = LaunchSpec { security_group_ids: vec![id.to_owned()], ..spec() };
        let answer = world.answer(&allocated(&instance(n as u64), 1, ZONE, asked)).await;
        assert_eq!(refused(&answer).0, code::GROUP_NOT_FOUND);
    }
}

#[tokio::test]
async fn seeding_again_changes_nothing_and_adds_new_zones() {
    let world = World::new(&["zone-b", ZONE]).await;
    let first = world.subnets().await;
    let before = world.store.stats();
    seed(&*world.store, &world.tenant, &[ZONE.to_owned()]).await.expect("seeded");
    let after = world.store.stats();
    assert_eq!((after.reads - before.reads, after.transactions - before.transactions), (1, 0));
    let zones = ["zone-c".to_owned(), ZONE.to_owned(), "zone-b".to_owned()];
    seed(&*world.store, &world.tenant, &zones).await.expect("seeded");
    let second = world.subnets().await;
    let cidr = |zone| second.default_of(zone).expect("one").cidr_block.to_string();
    assert_eq!((first.all.len(), second.all.len()), (2, 3));
    assert_eq!(
        ["zone-b", ZONE, "zone-c"].map(cidr),
        ["172.31.0.0/20", "172.31.16.0/20", "172.31.32.0/20"]
    );
    let many: Vec<String> = (0..20).map(|n| format!("z{n}")).collect();
    seed(&*world.store, &world.tenant, &many).await.expect("seeded");
    assert_eq!(world.subnets().await.all.len(), subnets::DEFAULT_ZONES_MAX);
}

#[tokio::test]
async fn a_nearly_full_subnet_is_looked_at_whole_in_four_reads_and_in_three_by_its_summaries() {
    for (summaries, reads) in [(false, 4), (true, 3)] {
        last_block(summaries, reads).await;
    }
}

/// Fills all blocks but one, and counts the reads of a launch into that one.
async fn last_block(summaries: bool, reads: u64) {
    let world = World::new(&[ZONE]).await;
    let subnet = world.subnets().await.default_of(ZONE).expect("one").clone();
    let mut leased = Vec::new();
    for block in 0..127_u32 {
        let ground = eventplane_network::blocks::Ground {
            tenant: &world.tenant,
            subnet_id: &subnet.subnet_id,
            cidr: subnet.cidr_block,
        };
        let slots = (0..32).map(|slot| Update::set(format!("s{slot}"), "i-other"));
        leased.push(Write::update(
            ground.block_key(block),
            slots.chain([Update::set("n", 32)]).collect(),
        ));
    }
    for group in (0..2).filter(|_| summaries) {
        let marks = (group * 64..127).take(64).map(|block| Update::set(format!("f{block}"), true));
        let key = summary_key(&world.tenant, &subnet.subnet_id, group);
        leased.push(Write::update(key, marks.collect()));
    }
    for chunk in leased.chunks(100) {
        world.store.transact(chunk.to_vec()).await.expect("written");
    }
    let before = world.store.stats();
    let answer = world.answer(&allocated(&instance(1), 1, ZONE, spec())).await;
    assert!(configured(&answer).private_ip.starts_with("172.31.15."));
    assert!(world.store.stats().reads - before.reads <= reads);
}
