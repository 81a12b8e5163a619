//! Why the volumes of a launch have no room as the pools stand, and which would have.

use crate::asked::{Iops, VOLUME_TYPES, VOLUMES_MAX, VolumeType};
use crate::pools::{SHARDS, Shard, Short, listed, place, read_shards, shard_key, shard_name};
use eventplane_domain::VolumeSpec;
use eventplane_engine::Fault;
use eventplane_store::{Key, Store};
use serde::Serialize;
use std::collections::BTreeMap;

/// The pools of all zones as they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rooms(BTreeMap<String, Vec<Shard>>);

/// What the pools of one zone say to a launch's volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ZoneTree {
    /// The zone.
    pub zone: String,
    /// Whether all of the volumes would have room there now.
    pub fits: bool,
    /// The first volume that has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short: Option<Check>,
    /// The pools of the types that are asked for.
    pub pools: Vec<Pool>,
}

/// A volume without room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `volume_type` (the zone has none of it), `size_gib`, `iops`, or `shard` (no shard has both).
    pub check: &'static str,
    /// The volume's device.
    pub device: String,
    /// Its type.
    pub volume_type: String,
    /// The size that it asks for, in GiB.
    pub size_gib: i64,
    /// The I/O operations per second that it asks for.
    pub iops: i64,
    /// By how much the emptiest shard misses, beside the launch's other volumes: GiB, or IOPS.
    pub short_by: i64,
}

/// The room of one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// The volume type.
    pub volume_type: String,
    /// Free GiB in all of its shards.
    pub free_gib: i64,
    /// Free GiB in the emptiest: the largest volume that fits.
    pub largest_free_gib: i64,
    /// Free I/O operations per second in all of its shards.
    pub free_iops: i64,
    /// Free I/O operations per second in the emptiest.
    pub largest_free_iops: i64,
}

/// Reads all pools, shard by shard.
///
/// # Errors
/// A fault of the store.
pub async fn look(store: &dyn Store) -> Result<Rooms, Fault> {
    let mut rooms: BTreeMap<String, Vec<Shard>> = BTreeMap::new();
    for (zone, kind) in listed(store).await? {
        let wanted: Vec<(String, u8)> = (0..SHARDS).map(|number| (kind.clone(), number)).collect();
        let key = |number| shard_key(&shard_name(&zone, &kind, number));
        let keys: Vec<Key> = (0..SHARDS).map(key).collect();
        let items = store.batch_get(&keys).await?;
        rooms.entry(zone).or_default().extend(read_shards(&wanted, &items)?);
    }
    Ok(Rooms(rooms))
}

/// Whether the volumes have room whichever shard is tried first: the step begins at a random one.
fn fits(volumes: &[VolumeSpec], shards: &[Shard]) -> Result<(), Short> {
    for start in 0..SHARDS {
        let mut turned = shards.to_vec();
        turned.sort_by_key(|shard| (shard.number + SHARDS - start) % SHARDS);
        place(volumes, &turned)?;
    }
    Ok(())
}

impl Rooms {
    fn shards(&self, zone: &str) -> &[Shard] {
        self.0.get(zone).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether these volumes have room in the zone.
    #[must_use]
    pub fn fit(&self, zone: &str, volumes: &[VolumeSpec]) -> bool {
        fits(volumes, self.shards(zone)).is_ok()
    }

    /// What the zone's pools say to these volumes.
    #[must_use]
    pub fn tree(&self, zone: &str, volumes: &[VolumeSpec]) -> ZoneTree {
        let shards = self.shards(zone);
        let short = fits(volumes, shards).err().map(|short| check(&volumes[short.volume], &short));
        let mut kinds: Vec<&str> = volumes.iter().map(|one| one.volume_type.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let pool = |kind: &str| {
            let of = || shards.iter().filter(|shard| shard.volume_type == kind);
            Pool {
                volume_type: kind.to_owned(),
                free_gib: of().map(|shard| shard.free_gib).sum(),
                largest_free_gib: of().map(|shard| shard.free_gib).max().unwrap_or(0),
                free_iops: of().map(|shard| shard.free_iops).sum(),
                largest_free_iops: of().map(|shard| shard.free_iops).max().unwrap_or(0),
            }
        };
        let pools = kinds.into_iter().map(pool).collect();
        ZoneTree { zone: zone.to_owned(), fits: short.is_none(), short, pools }
    }

    /// The same volumes, those without room as large and as fast as there is room for.
    #[must_use]
    pub fn smaller(&self, zone: &str, volumes: &[VolumeSpec]) -> Option<Vec<VolumeSpec>> {
        self.changed(zone, volumes, |volume, short| {
            let kind = VOLUME_TYPES.iter().find(|kind| kind.name == volume.volume_type)?;
            let of_kind = short.beside.iter().filter(|one| one.volume_type == volume.volume_type);
            let sized = of_kind.filter_map(|shard| {
                let size_gib = volume.size_gib.min(u32::try_from(shard.free_gib).ok()?);
                let iops = volume.iops.min(u32::try_from(shard.free_iops).ok()?);
                limited(kind, size_gib, iops, volume)
            });
            sized.max_by_key(|smaller| (smaller.size_gib, smaller.iops))
        })
    }

    /// The same volumes, those without room of another type.
    #[must_use]
    pub fn of_type(
        &self,
        zone: &str,
        volumes: &[VolumeSpec],
        kind: &VolumeType,
    ) -> Option<Vec<VolumeSpec>> {
        self.changed(zone, volumes, |volume, _| {
            let size_gib = volume.size_gib.max(*kind.gib.start());
            limited(kind, size_gib, volume.iops, volume)
        })
    }

    /// Changes each volume that has no room until all have; `None` if that leads nowhere.
    fn changed(
        &self,
        zone: &str,
        volumes: &[VolumeSpec],
        change: impl Fn(&VolumeSpec, &Short) -> Option<VolumeSpec>,
    ) -> Option<Vec<VolumeSpec>> {
        let mut volumes = volumes.to_vec();
        // Each may have to give way once for each shard that is tried first.
        for _ in 0..=VOLUMES_MAX * usize::from(SHARDS) {
            let Err(short) = fits(&volumes, self.shards(zone)) else { return Some(volumes) };
            let changed = change(&volumes[short.volume], &short)?;
            if changed == volumes[short.volume] {
                return None;
            }
            volumes[short.volume] = changed;
        }
        None
    }
}

/// The volume with this type, size and speed, if the type's limits allow it.
fn limited(kind: &VolumeType, size_gib: u32, iops: u32, of: &VolumeSpec) -> Option<VolumeSpec> {
    if !kind.gib.contains(&size_gib) {
        return None;
    }
    let iops = match &kind.iops {
        None => 0,
        Some(Iops { range, per_gib_max, .. }) => {
            let (least, most) = (*range.start(), *range.end());
            let most = most.min(per_gib_max.saturating_mul(size_gib)).max(least);
            // The least may be more than there is: then the volume has no room after all.
            iops.clamp(least, most)
        }
    };
    Some(VolumeSpec { volume_type: kind.name.to_owned(), size_gib, iops, ..of.clone() })
}

fn check(volume: &VolumeSpec, short: &Short) -> Check {
    let (gib, iops) = (i64::from(volume.size_gib), i64::from(volume.iops));
    let of_kind = || short.beside.iter().filter(|shard| shard.volume_type == volume.volume_type);
    let most_gib = of_kind().map(|shard| shard.free_gib).max();
    let most_iops = of_kind().map(|shard| shard.free_iops).max();
    let (check, short_by) = match (most_gib, most_iops) {
        (Some(most), _) if most < gib => ("size_gib", gib - most),
        (_, Some(most)) if most < iops => ("iops", iops - most),
        (Some(_), Some(_)) => {
            let with_iops = of_kind().filter(|shard| shard.free_iops >= iops);
            ("shard", gib - with_iops.map(|shard| shard.free_gib).max().unwrap_or(0))
        }
        _ => ("volume_type", gib),
    };
    Check {
        check,
        device: volume.device.clone(),
        volume_type: volume.volume_type.clone(),
        size_gib: gib,
        iops,
        short_by,
    }
}

impl ZoneTree {
    /// The tree in one sentence.
    #[must_use]
    pub fn words(&self) -> String {
        let Some(Check { check, device, volume_type, size_gib, iops, short_by }) = &self.short
        else {
            return format!("{} has room for the volumes", self.zone);
        };
        let zone = &self.zone;
        match *check {
            "volume_type" => format!("{zone} has no volumes of type {volume_type} (for {device})"),
            "iops" => format!(
                "{device} asks for {iops} IOPS of {volume_type} in {zone}, {short_by} more than a \
                 shard of the pool has free"
            ),
            _ => format!(
                "{device} asks for {size_gib} GiB and {iops} IOPS of {volume_type} in {zone}, \
                 {short_by} GiB more than a shard of the pool has free"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(kind: &str, free: &[(i64, i64)]) -> Vec<Shard> {
        let shard = |(number, (free_gib, free_iops)): (usize, &(i64, i64))| Shard {
            volume_type: kind.to_owned(),
            number: number as u8,
            free_gib: *free_gib,
            free_iops: *free_iops,
        };
        free.iter().enumerate().map(shard).collect()
    }

    fn rooms() -> Rooms {
        let mut a = shards("gp3", &[(100, 9_000), (40, 9_000)]);
        a.extend(shards("st1", &[(500, 0), (10, 0)]));
        Rooms(BTreeMap::from([("a".to_owned(), a)]))
    }

    fn volume(kind: &str, size_gib: u32, iops: u32) -> VolumeSpec {
        VolumeSpec {
            device: "/dev/sdf".to_owned(),
            volume_type: kind.to_owned(),
            size_gib,
            iops,
            delete_on_termination: true,
        }
    }

    #[test]
    fn a_tree_names_the_volume_without_room_and_by_how_much() {
        let cases = [
            (vec![volume("gp3", 100, 3_000)], None),
            (vec![volume("gp3", 101, 3_000)], Some(("size_gib", 1))),
            (vec![volume("gp3", 90, 3_000), volume("gp3", 50, 3_000)], Some(("size_gib", 10))),
            (vec![volume("gp3", 50, 9_001)], Some(("iops", 1))),
            (vec![volume("io2", 50, 100)], Some(("volume_type", 50))),
        ];
        for (volumes, right) in cases {
            let tree = rooms().tree("a", &volumes);
            let short = tree.short.as_ref().map(|short| (short.check, short.short_by));
            assert_eq!((short, tree.fits), (right, right.is_none()), "{volumes:?}");
        }
        assert_eq!(rooms().tree("nowhere", &[volume("gp3", 1, 0)]).pools[0].free_gib, 0);
    }

    #[test]
    fn what_is_suggested_has_room_whichever_shard_is_tried_first() {
        let smaller = |volumes: &[VolumeSpec]| {
            let smaller = rooms().smaller("a", volumes)?;
            assert!(rooms().fit("a", &smaller), "{smaller:?}");
            Some(smaller.iter().map(|one| (one.size_gib, one.iops)).collect::<Vec<_>>())
        };
        assert_eq!(smaller(&[volume("gp3", 200, 3_000)]), Some(vec![(100, 3_000)]));
        assert_eq!(smaller(&[volume("gp3", 90, 16_000)]), Some(vec![(90, 9_000)]));
        let two = smaller(&[volume("gp3", 200, 3_000), volume("gp3", 200, 3_000)]);
        assert_eq!(two, Some(vec![(100, 3_000), (40, 3_000)]));
        assert_eq!(smaller(&[volume("st1", 501, 0), volume("st1", 501, 0)]), None);
        assert_eq!(smaller(&[volume("io2", 8, 100)]), None);
    }

    #[test]
    fn another_type_is_suggested_with_what_that_type_needs() {
        let of = |name: &str, volumes: &[VolumeSpec]| {
            let kind = VOLUME_TYPES.iter().find(|kind| kind.name == name).expect("a type");
            let changed = rooms().of_type("a", volumes, kind)?;
            Some((changed[0].volume_type.clone(), changed[0].size_gib, changed[0].iops))
        };
        let large = [volume("gp3", 400, 3_000)];
        assert_eq!(of("st1", &large), Some(("st1".to_owned(), 400, 0)));
        assert_eq!(of("io2", &large), None);
        let missing = [volume("io2", 8, 100)];
        assert_eq!(of("st1", &missing), Some(("st1".to_owned(), 125, 0)));
        assert_eq!(of("gp3", &missing), Some(("gp3".to_owned(), 8, 3_000)));
    }
}
