//! Pools: the room for volumes, per zone and volume type, in shards so that no item is hot.

use crate::{TABLE, corrupt};
use eventplane_domain::VolumeSpec;
use eventplane_engine::Fault;
use eventplane_store::{Condition, Item, ItemExt, Key, Query, Store, Update, Write};
use std::collections::BTreeMap;

/// Into how many shards each pool is split.
pub const SHARDS: u8 = 8;
/// The partition that lists the pools: its sort keys are `<zone>/<type>`.
const LIST: &str = "@pools";
/// How many pools' shards one read fetches: 12 times 8 stays below the 100 keys that `BatchGetItem`
/// takes (DynamoDB API reference).
const PAGE_POOLS: usize = 12;
/// How many pools a page of the list has.
const LISTED_AT_ONCE: usize = 100;

pub(crate) const FREE_GIB: &str = "free_gib";
pub(crate) const FREE_IOPS: &str = "free_iops";
pub(crate) const TOTAL_GIB: &str = "total_gib";
pub(crate) const TOTAL_IOPS: &str = "total_iops";

/// The size of one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Room in GiB.
    pub gib: u32,
    /// I/O operations per second.
    pub iops: u32,
}

/// The sizes of a zone's pools, one for each volume type that Eventplane offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSizes {
    /// General purpose SSD.
    pub gp3: PoolSize,
    /// Provisioned IOPS SSD.
    pub io2: PoolSize,
    /// Throughput optimized HDD.
    pub st1: PoolSize,
}

impl Default for PoolSizes {
    /// Room for some 100,000 root volumes of 8 GiB and 3,000 IOPS in a zone, and as much again.
    fn default() -> Self {
        PoolSizes {
            gp3: PoolSize { gib: 2_000_000, iops: 600_000_000 },
            io2: PoolSize { gib: 800_000, iops: 200_000_000 },
            st1: PoolSize { gib: 4_000_000, iops: 8_000_000 },
        }
    }
}

/// A pool as it stands, all shards together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolState {
    /// The zone.
    pub zone: String,
    /// The volume type.
    pub volume_type: String,
    /// Room in GiB.
    pub total_gib: i64,
    /// What of it is free.
    pub free_gib: i64,
    /// The free room of the emptiest shard: the largest volume that fits.
    pub largest_free_gib: i64,
    /// I/O operations per second.
    pub total_iops: i64,
    /// What of them is free.
    pub free_iops: i64,
}

/// One shard of a pool, as a decision sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    /// The volume type.
    pub(crate) volume_type: String,
    /// Its number, from 0.
    pub(crate) number: u8,
    /// Free room in GiB.
    pub(crate) free_gib: i64,
    /// Free I/O operations per second.
    pub(crate) free_iops: i64,
}

/// The shard's name, as in events: `<zone>/<type>/<shard>`.
pub(crate) fn shard_name(zone: &str, volume_type: &str, number: u8) -> String {
    format!("{zone}/{volume_type}/{number}")
}

/// Where the shard of that name is kept.
pub(crate) fn shard_key(name: &str) -> Key {
    Key::new(TABLE.name, format!("@pool/{name}"), "pool")
}

/// Reads these shards of `zone`; those that do not exist are left out.
pub(crate) fn read_shards(
    wanted: &[(String, u8)],
    items: &[Option<Item>],
) -> Result<Vec<Shard>, Fault> {
    wanted
        .iter()
        .zip(items)
        .filter_map(|((volume_type, number), item)| {
            let item = item.as_ref()?;
            let (Some(free_gib), Some(free_iops)) = (item.number(FREE_GIB), item.number(FREE_IOPS))
            else {
                return Some(Err(corrupt(format!("not a pool's shard: {:?}", item.keys()))));
            };
            let volume_type = volume_type.clone();
            Some(Ok(Shard { volume_type, number: *number, free_gib, free_iops }))
        })
        .collect()
}

/// Finds a shard for each volume, in the order of the shards, the largest volume first.
///
/// # Errors
/// The place in `volumes` of the first that does not fit, and the shards as they are beside those
/// that do.
pub(crate) fn place(volumes: &[VolumeSpec], shards: &[Shard]) -> Result<Vec<u8>, Short> {
    let mut free = shards.to_vec();
    let mut places = vec![0; volumes.len()];
    let mut order: Vec<usize> = (0..volumes.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse((volumes[*at].size_gib, volumes[*at].iops)));
    for at in order {
        let volume = &volumes[at];
        let (gib, iops) = (i64::from(volume.size_gib), i64::from(volume.iops));
        let fits = |shard: &&mut Shard| {
            shard.volume_type == volume.volume_type
                && shard.free_gib >= gib
                && shard.free_iops >= iops
        };
        let Some(shard) = free.iter_mut().find(fits) else {
            return Err(Short { volume: at, beside: free });
        };
        shard.free_gib -= gib;
        shard.free_iops -= iops;
        places[at] = shard.number;
    }
    Ok(places)
}

/// A volume that no shard has room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Short {
    /// Its place among the volumes.
    pub(crate) volume: usize,
    /// The shards beside the volumes that fit.
    pub(crate) beside: Vec<Shard>,
}

/// Takes room, if each shard still has what is needed of it.
pub(crate) fn take_room<'a>(volumes: impl Iterator<Item = (String, &'a VolumeSpec)>) -> Vec<Write> {
    let write = |(name, (gib, iops)): (String, (i64, i64))| {
        let less = vec![Update::add(FREE_GIB, -gib), Update::add(FREE_IOPS, -iops)];
        Write::update(shard_key(&name), less)
            .when(Condition::at_least(FREE_GIB, gib))
            .when(Condition::at_least(FREE_IOPS, iops))
    };
    sums(volumes).into_iter().map(write).collect()
}

/// Gives room back.
pub(crate) fn return_room<'a>(
    volumes: impl Iterator<Item = (String, &'a VolumeSpec)>,
) -> Vec<Write> {
    let write = |(name, (gib, iops)): (String, (i64, i64))| {
        let more = vec![Update::add(FREE_GIB, gib), Update::add(FREE_IOPS, iops)];
        Write::update(shard_key(&name), more)
    };
    sums(volumes).into_iter().map(write).collect()
}

/// GiB and IOPS by shard: an item is written once in a transaction.
fn sums<'a>(
    volumes: impl Iterator<Item = (String, &'a VolumeSpec)>,
) -> BTreeMap<String, (i64, i64)> {
    let mut sums = BTreeMap::new();
    for (name, volume) in volumes {
        let (gib, iops) = sums.entry(name).or_insert((0, 0));
        *gib += i64::from(volume.size_gib);
        *iops += i64::from(volume.iops);
    }
    sums
}

/// The volume types that `zone` has pools for.
pub(crate) async fn types_of(store: &dyn Store, zone: &str) -> Result<Vec<String>, Fault> {
    let query = Query::partition(TABLE.name, LIST, 100).prefix(format!("{zone}/"));
    let page = store.query(&query).await?;
    let types = page.items.iter().filter_map(|(_, item)| item.text("type").map(str::to_owned));
    Ok(types.collect())
}

/// Makes the pools of these zones. A pool that stands there already stays as it is, so that it may
/// be called at every start.
///
/// # Errors
/// A fault of the store; what is made by then stays, and another call makes the rest.
pub async fn seed(store: &dyn Store, zones: &[String], sizes: PoolSizes) -> Result<(), Fault> {
    for zone in zones {
        for (volume_type, size) in [("gp3", sizes.gp3), ("io2", sizes.io2), ("st1", sizes.st1)] {
            store.try_transact(new_pool(zone, volume_type, size)).await?;
        }
    }
    Ok(())
}

/// The writes that make a pool: its shards share its size, the first ones what does not divide.
fn new_pool(zone: &str, volume_type: &str, size: PoolSize) -> Vec<Write> {
    let listed = Item::new().with("zone", zone).with("type", volume_type);
    let list = Key::new(TABLE.name, LIST, format!("{zone}/{volume_type}"));
    let share = |total: u32, number: u8| {
        let shards = u32::from(SHARDS);
        i64::from(total / shards + u32::from(u32::from(number) < total % shards))
    };
    let shard = |number: u8| {
        let (gib, iops) = (share(size.gib, number), share(size.iops, number));
        let item = Item::new()
            .with(TOTAL_GIB, gib)
            .with(FREE_GIB, gib)
            .with(TOTAL_IOPS, iops)
            .with(FREE_IOPS, iops);
        Write::put(shard_key(&shard_name(zone, volume_type, number)), item)
            .when(Condition::ItemAbsent)
    };
    let list = Write::put(list, listed).when(Condition::ItemAbsent);
    (0..SHARDS).map(shard).chain([list]).collect()
}

/// All pools, by zone and type.
///
/// # Errors
/// A fault of the store.
pub async fn pools(store: &dyn Store) -> Result<Vec<PoolState>, Fault> {
    let mut all = Vec::new();
    for page in listed(store).await?.chunks(PAGE_POOLS) {
        all.extend(states(store, page.to_vec()).await?);
    }
    Ok(all)
}

/// The pools that there are: zone and volume type.
pub(crate) async fn listed(store: &dyn Store) -> Result<Vec<(String, String)>, Fault> {
    let mut all = Vec::new();
    let mut query = Query::partition(TABLE.name, LIST, LISTED_AT_ONCE);
    loop {
        let page = store.query(&query).await?;
        for (_, item) in &page.items {
            let (Some(zone), Some(volume_type)) = (item.text("zone"), item.text("type")) else {
                return Err(corrupt(format!("not a pool in the list of pools: {:?}", item.keys())));
            };
            all.push((zone.to_owned(), volume_type.to_owned()));
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(all),
        }
    }
}

/// Adds up the shards of these pools.
async fn states(store: &dyn Store, pools: Vec<(String, String)>) -> Result<Vec<PoolState>, Fault> {
    let keys: Vec<Key> = pools
        .iter()
        .flat_map(|(zone, kind)| (0..SHARDS).map(move |n| shard_key(&shard_name(zone, kind, n))))
        .collect();
    let items = store.batch_get(&keys).await?;
    let sum = |((zone, volume_type), shards): ((String, String), &[Option<Item>])| {
        let of = |name| shards.iter().flatten().filter_map(move |item| item.number(name));
        PoolState {
            zone,
            volume_type,
            total_gib: of(TOTAL_GIB).sum(),
            free_gib: of(FREE_GIB).sum(),
            largest_free_gib: of(FREE_GIB).max().unwrap_or(0),
            total_iops: of(TOTAL_IOPS).sum(),
            free_iops: of(FREE_IOPS).sum(),
        }
    };
    Ok(pools.into_iter().zip(items.chunks(usize::from(SHARDS))).map(sum).collect())
}
