//! The step in the engine's own loop, over a store in memory.

use crate::cases::{NOW, allocated, data, event, instance, root, volume, withdrawn};
use crate::{
    PoolSize, PoolSizes, PoolState, SHARDS, Storage, TABLE, delete_kept, kept, pools, receipt_key,
    seed, volumes,
};
use async_trait::async_trait;
use eventplane_domain::{InstanceId, Millis, Outcome, Tenant, VolumeSpec, code};
use eventplane_engine::{Chance, Clock, Dice, Fault, Function, Handler, Ports, Publisher, Receipt};
use eventplane_events::{Data, Entry, Event, envelope, read};
use eventplane_keys::{LocalMasterKey, MasterKey};
use eventplane_local::store::{EmbeddedStore, StoreStats};
use eventplane_store::{ItemExt, Store};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

const MASTER: [u8; 32] = [5; 32];

struct Seeded(Mutex<Dice>);
impl Chance for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = self.0.lock().unwrap();
        bytes.iter_mut().for_each(|byte| *byte = dice.draw() as u8);
    }
}

struct Still;
impl Clock for Still {
    fn now(&self) -> Millis {
        NOW
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<Entry>>);
#[async_trait]
impl Publisher for Heard {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        self.0.lock().unwrap().extend(entries);
        Ok(())
    }
}

/// The step and its world.
struct World {
    store: Arc<EmbeddedStore>,
    heard: Arc<Heard>,
    chance: Arc<dyn Chance>,
    function: Function<Storage>,
}

fn master(chance: &Arc<dyn Chance>) -> LocalMasterKey {
    LocalMasterKey::from_bytes("master-1", MASTER, chance.clone())
}

fn sizes(gib: u32, iops: u32) -> PoolSizes {
    let size = PoolSize { gib, iops };
    PoolSizes { gp3: size, io2: size, st1: size }
}

impl World {
    async fn with(sizes: PoolSizes) -> World {
        let store = Arc::new(EmbeddedStore::in_memory(&[TABLE]).expect("a store"));
        seed(&*store, &["a".to_owned(), "b".to_owned()], sizes).await.expect("seeded");
        let chance: Arc<dyn Chance> = Arc::new(Seeded(Mutex::new(Dice::new(7))));
        let heard = Arc::new(Heard::default());
        let ports = Ports {
            store: store.clone(),
            bus: heard.clone(),
            clock: Arc::new(Still),
            chance: chance.clone(),
        };
        let step = Storage::new(Arc::new(master(&chance)), chance.clone());
        World { store, heard, chance, function: Function::new(step, ports) }
    }

    /// Delivers the event, and gives back what was published on it (by anybody, meanwhile).
    async fn hear(&self, event: &Event) -> Vec<Data> {
        let message = envelope(&event.entry(), "b-1", "2026-11-24T00:00:00Z");
        self.function.handle(&message).await.expect("handled");
        let entries: Vec<Entry> = self.heard.0.lock().unwrap().drain(..).collect();
        let data = |entry: &Entry| read(&envelope(entry, "b-2", "2026-11-24T00:00:00Z")).unwrap();
        entries.iter().map(|entry| data(entry).data).collect()
    }

    async fn pool(&self, zone: &str, volume_type: &str) -> PoolState {
        let all = pools(&*self.store).await.expect("pools");
        let is = |pool: &PoolState| pool.zone == zone && pool.volume_type == volume_type;
        all.into_iter().find(is).expect("the pool")
    }

    async fn receipt(&self, instance: &InstanceId) -> Option<Receipt> {
        let item = self.store.get(&receipt_key(&Tenant::local(), instance)).await.expect("read");
        Receipt::read(item.as_ref()).expect("a receipt")
    }

    fn since(&self, before: StoreStats) -> (u64, u64, u64) {
        let now = self.store.stats();
        (
            now.reads - before.reads,
            now.items_written - before.items_written,
            now.write_units - before.write_units,
        )
    }
}

fn launch(number: u64, volumes: Vec<VolumeSpec>) -> Event {
    event(&instance(number), 1, allocated("a", volumes))
}

fn end(number: u64) -> Event {
    event(&instance(number), 1, withdrawn(Outcome::Terminate))
}

/// Handles all of these at once.
async fn all_at_once(world: &Arc<World>, events: Vec<Event>) {
    let tasks: Vec<_> = events
        .into_iter()
        .map(|event| {
            let world = world.clone();
            tokio::spawn(async move { world.hear(&event).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

/// GiB and IOPS that receipts of these instances hold.
async fn held(world: &World, instances: u64) -> (i64, i64) {
    let mut sum = (0, 0);
    for number in 0..instances {
        let Some(receipt) = world.receipt(&instance(number)).await else { continue };
        for volume in volumes(&receipt) {
            sum.0 += i64::from(volume.spec.size_gib);
            sum.1 += i64::from(volume.spec.iops);
        }
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn launches_at_once_fill_the_pool_to_its_last_volume_and_no_further() {
    // 8 shards of 40 GiB hold 5 volumes of 8 GiB each: 40 of the 60 fit.
    let world = Arc::new(World::with(sizes(320, 1_000_000)).await);
    all_at_once(&world, (0..60).map(|n| launch(n, vec![root()])).collect()).await;
    let pool = world.pool("a", "gp3").await;
    assert_eq!((pool.free_gib, pool.largest_free_gib), (0, 0));
    let held = held(&world, 60).await;
    assert_eq!((held.0 + pool.free_gib, held.1 + pool.free_iops), (320, 1_000_000));
    for number in 0..60 {
        let receipt = world.receipt(&instance(number)).await.expect("everybody is answered");
        let refused = receipt.reason.map(|reason| reason.code);
        assert!(refused.is_none_or(|refused| refused == code::INSUFFICIENT_VOLUME_CAPACITY));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn launches_duplicates_and_terminations_at_once_keep_the_books() {
    let world = Arc::new(World::with(sizes(2_000, 200_000)).await);
    let wants = || vec![root(), volume("/dev/sdg", "gp3", 20, 3_000)];
    let events =
        (0..80).flat_map(|n| [launch(n, wants()), launch(n, wants()), end(n / 2)]).collect();
    all_at_once(&world, events).await;
    let pool = world.pool("a", "gp3").await;
    let held = held(&world, 80).await;
    assert_eq!((held.0 + pool.free_gib, held.1 + pool.free_iops), (2_000, 200_000));
    all_at_once(&world, (0..80).map(end).collect()).await;
    let pool = world.pool("a", "gp3").await;
    assert_eq!((pool.free_gib, pool.free_iops), (2_000, 200_000), "all is given back, once");
}

#[tokio::test]
async fn a_full_pool_refuses_with_numbers_and_takes_again_after_a_release() {
    let world = World::with(sizes(64, 1_000_000)).await;
    for number in 0..8 {
        world.hear(&launch(number, vec![root()])).await;
    }
    let published = world.hear(&launch(8, vec![root()])).await;
    let [Data::LaunchFailed(failed)] = &published[..] else { panic!("{published:?}") };
    assert_eq!(failed.reason.code, code::INSUFFICIENT_VOLUME_CAPACITY);
    assert!(failed.reason.message.contains("0 GiB"), "{}", failed.reason);
    world.hear(&end(3)).await;
    let published = world.hear(&launch(9, vec![root()])).await;
    assert!(matches!(published[..], [Data::VolumeProvisioned(_)]), "{published:?}");
}

#[tokio::test]
async fn an_unknown_type_is_refused_with_the_types_of_the_zone() {
    let world = World::with(PoolSizes::default()).await;
    let published = world.hear(&launch(1, vec![root(), volume("/dev/sdf", "gp9", 1, 0)])).await;
    let [Data::LaunchFailed(failed)] = &published[..] else { panic!("{published:?}") };
    assert_eq!(failed.reason.code, code::UNKNOWN_VOLUME_TYPE);
    assert!(failed.reason.message.ends_with("it has gp3, io2, st1"), "{}", failed.reason);
}

#[tokio::test]
async fn a_volume_that_stays_keeps_its_room_until_it_is_deleted() {
    let world = World::with(sizes(8_000, 80_000)).await;
    let tenant = Tenant::local();
    let store: &dyn Store = &*world.store;
    world.hear(&launch(1, vec![root(), data()])).await;
    let id = instance(1).volume(1);
    let refused = delete_kept(store, &tenant, &id).await.expect("read").expect_err("in use");
    assert_eq!(refused.code, "VolumeInUse");
    assert!(refused.message.contains(instance(1).as_str()), "{refused}");

    let before = world.receipt(&instance(1)).await.map(|receipt| volumes(&receipt)).expect("held");
    world.hear(&end(1)).await;
    let stayed = kept(store, &tenant).await.expect("read");
    assert_eq!(stayed.len(), 1);
    assert_eq!((&stayed[0].volume, &stayed[0].zone[..]), (&before[1], "a"));
    assert_eq!((&stayed[0].instance, stayed[0].since), (&instance(1), NOW));
    assert_eq!(world.pool("a", "gp3").await.free_gib, 8_000);
    assert_eq!(world.pool("a", "io2").await.free_gib, 7_900);

    delete_kept(store, &tenant, &id).await.expect("written").expect("deleted");
    let pool = world.pool("a", "io2").await;
    assert_eq!((pool.free_gib, pool.free_iops), (8_000, 80_000));
    assert_eq!(kept(store, &tenant).await.expect("read"), []);
    for (id, code) in
        [(id.as_str(), "InvalidVolume.NotFound"), ("vol-1", "InvalidVolumeID.Malformed")]
    {
        let refused = delete_kept(store, &tenant, id).await.expect("read").expect_err("refused");
        assert_eq!(refused.code, code);
    }
    assert_eq!(world.pool("a", "io2").await.free_gib, 8_000, "nothing is given back twice");
}

#[tokio::test]
async fn a_volume_of_another_tenant_is_not_found() {
    let world = World::with(PoolSizes::default()).await;
    world.hear(&launch(1, vec![data()])).await;
    world.hear(&end(1)).await;
    let other = Tenant::parse("acme").expect("a tenant");
    let id = instance(1).volume(0);
    let refused = delete_kept(&*world.store, &other, &id).await.expect("read").expect_err("none");
    assert_eq!(refused.code, "InvalidVolume.NotFound");
    assert_eq!(kept(&*world.store, &other).await.expect("read"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tenant_has_one_key_that_only_the_master_key_unwraps() {
    let world = Arc::new(World::with(PoolSizes::default()).await);
    all_at_once(&world, (0..16).map(|n| launch(n, vec![root()])).collect()).await;
    let mut ids = BTreeSet::new();
    for number in 0..16 {
        let receipt = world.receipt(&instance(number)).await.expect("taken");
        ids.extend(volumes(&receipt).into_iter().map(|volume| volume.key_id));
    }
    let item = world
        .store
        .get(&crate::tenant_key::tenant_key_key(&Tenant::local()))
        .await
        .expect("read")
        .expect("a key");
    assert_eq!(ids.iter().map(String::as_str).collect::<Vec<_>>(), [item.text("id").unwrap()]);
    let wrapped = item.bytes("wrapped").expect("wrapped");
    let master = master(&world.chance);
    master.unwrap(wrapped, "default").await.expect("of this tenant");
    master.unwrap(wrapped, "acme").await.expect_err("not of another tenant");
}

#[tokio::test]
async fn a_launch_costs_one_read_and_one_write_for_its_receipt_and_each_shard() {
    let world = World::with(PoolSizes::default()).await;
    world.hear(&launch(0, vec![root()])).await; // makes the tenant's key
    for (case, event, cost) in [
        ("one volume", launch(1, vec![root()]), (1, 2, 4)),
        ("two of one type", launch(2, vec![root(), volume("/dev/sdg", "gp3", 9, 0)]), (1, 2, 4)),
        ("two types", launch(3, vec![root(), data()]), (1, 3, 6)),
        ("a duplicate", launch(1, vec![root()]), (1, 0, 0)),
        ("a give-back", end(1), (1, 2, 4)),
        ("its duplicate", end(1), (1, 0, 0)),
        ("a stop", event(&instance(2), 1, withdrawn(Outcome::Stop)), (1, 0, 0)),
        ("a give-back that keeps one", end(3), (1, 3, 6)),
    ] {
        let before = world.store.stats();
        world.hear(&event).await;
        assert_eq!(world.since(before), cost, "{case}: reads, items, write units");
    }
}

#[tokio::test]
async fn no_decision_reads_more_than_4_times() {
    let world = World::with(sizes(8, 8)).await;
    for wants in [vec![root()], vec![volume("/dev/sdf", "gp9", 1, 0)]] {
        let before = world.store.stats();
        world.hear(&launch(u64::from(wants[0].size_gib), wants)).await;
        let (reads, items, _) = world.since(before);
        assert!(reads <= 4, "{reads} reads");
        assert_eq!(items, 1, "a refusal writes its receipt alone");
    }
}

#[tokio::test]
async fn pools_are_made_once_and_their_shards_add_up() {
    let world = World::with(sizes(1_003, 17)).await;
    world.hear(&launch(1, vec![volume("/dev/xvda", "gp3", 100, 1)])).await;
    let before = pools(&*world.store).await.expect("pools");
    let zones: Vec<String> = (0..6).map(|n| format!("zone-{n}")).collect();
    let again = [vec!["a".to_owned(), "b".to_owned()], zones].concat();
    seed(&*world.store, &again, sizes(9, 9)).await.expect("seeded");
    let after = pools(&*world.store).await.expect("pools");
    assert_eq!(after[..before.len()], before, "what stands there stays as it is");
    assert_eq!(after.len(), 8 * 3, "more than a page of pools");
    let gp3 = world.pool("a", "gp3").await;
    assert_eq!((gp3.total_gib, gp3.free_gib, gp3.total_iops), (1_003, 903, 17));
    let io2 = world.pool("a", "io2").await;
    assert_eq!((io2.largest_free_gib, io2.total_gib), (1_003 / i64::from(SHARDS) + 1, 1_003));
}
