//! The step's part of the ledger: what a receipt holds in the pools, and whether a shard adds up.

use crate::claim::Claim;
use crate::corrupt;
use crate::pools::{
    FREE_GIB, FREE_IOPS, SHARDS, TOTAL_GIB, TOTAL_IOPS, listed, shard_key, shard_name,
};
use eventplane_domain::Volume;
use eventplane_engine::{Fault, Receipt};
use eventplane_store::{Item, ItemExt, Key, Store};

/// A shard of a pool as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    /// `<zone>/<type>/<shard>`.
    pub name: String,
    /// GiB: all, and what of them is free.
    pub gib: (i64, i64),
    /// I/O operations per second: all, and what of them is free.
    pub iops: (i64, i64),
}

/// One size of a shard in which free and held are not total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// In what: `GiB`, or `IOPS`.
    pub unit: &'static str,
    /// All that there is.
    pub total: i64,
    /// What nobody holds.
    pub free: i64,
    /// What volumes hold.
    pub held: i64,
}

/// The volumes that the receipt holds.
///
/// # Errors
/// A fault when it holds something that cannot be read: it would be lost if it were ignored.
pub fn held_by(receipt: &Receipt) -> Result<Vec<Volume>, Fault> {
    Ok(Claim::held(receipt)?.map(|claim| claim.volumes()).unwrap_or_default())
}

/// All shards of all pools.
///
/// # Errors
/// A fault of the store.
pub async fn all(store: &dyn Store) -> Result<Vec<Stands>, Fault> {
    let pools = listed(store).await?;
    let names = pools
        .iter()
        .flat_map(|(zone, kind)| (0..SHARDS).map(move |number| shard_name(zone, kind, number)));
    read(store, names.collect()).await
}

/// The shard of that name, as it stands now.
///
/// # Errors
/// A fault of the store.
pub async fn one(store: &dyn Store, name: &str) -> Result<Option<Stands>, Fault> {
    Ok(read(store, vec![name.to_owned()]).await?.pop())
}

async fn read(store: &dyn Store, names: Vec<String>) -> Result<Vec<Stands>, Fault> {
    let keys: Vec<Key> = names.iter().map(|name| shard_key(name)).collect();
    let items = store.batch_get(&keys).await?;
    let stands = |(name, item): (String, Option<Item>)| {
        let item = item?;
        let sizes = [TOTAL_GIB, FREE_GIB, TOTAL_IOPS, FREE_IOPS].map(|of| item.number(of));
        let [Some(total_gib), Some(free_gib), Some(total_iops), Some(free_iops)] = sizes else {
            return Some(Err(corrupt(format!("{name} is not a pool's shard"))));
        };
        Some(Ok(Stands { name, gib: (total_gib, free_gib), iops: (total_iops, free_iops) }))
    };
    names.into_iter().zip(items).filter_map(stands).collect()
}

impl Stands {
    /// The sizes in which free and what these volumes hold are not total, or of which less than
    /// nothing is free.
    #[must_use]
    pub fn differences<'v>(
        &self,
        held: impl Iterator<Item = &'v Volume> + Clone,
    ) -> Vec<Difference> {
        let gib = held.clone().map(|volume| i64::from(volume.spec.size_gib)).sum();
        let iops = held.map(|volume| i64::from(volume.spec.iops)).sum();
        let sizes = [("GiB", self.gib, gib), ("IOPS", self.iops, iops)];
        let difference = |(unit, (total, free), held)| Difference { unit, total, free, held };
        let is_off = |one: &Difference| one.total - one.free != one.held || one.free < 0;
        sizes.map(difference).into_iter().filter(is_off).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_domain::VolumeSpec;

    #[test]
    fn a_shard_adds_up_when_free_and_held_are_total() {
        let volume = |size_gib, iops| Volume {
            volume_id: "vol-1".to_owned(),
            spec: VolumeSpec {
                device: "/dev/sdf".to_owned(),
                volume_type: "gp3".to_owned(),
                size_gib,
                iops,
                delete_on_termination: true,
            },
            pool: "a/gp3/0".to_owned(),
            key_id: "key".to_owned(),
        };
        let shard = |gib, iops| Stands { name: "a/gp3/0".to_owned(), gib, iops };
        let held = [volume(8, 3_000), volume(2, 1_000)];
        assert_eq!(shard((100, 90), (9_000, 5_000)).differences(held.iter()), []);
        let off = shard((100, 82), (9_000, 5_000)).differences(held.iter());
        assert_eq!(off, [Difference { unit: "GiB", total: 100, free: 82, held: 10 }]);
        assert_eq!(shard((9, -1), (4_000, 0)).differences(held.iter()).len(), 1, "below zero");
    }
}
