//! What the storage step's receipt holds: the volumes, as short as they can be said.

use crate::corrupt;
use crate::pools::shard_name;
use eventplane_domain::{InstanceId, Volume, VolumeSpec};
use eventplane_engine::{Fault, Receipt};
use eventplane_store::{Item, ItemExt};

const INSTANCE: &str = "of";
const ZONE: &str = "zone";
const KEY: &str = "key";
const VOLUMES: &str = "vols";

/// The volumes that one instance holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// The zone that the volumes are in.
    pub(crate) zone: String,
    /// The data key that they are encrypted with.
    pub(crate) key_id: String,
    /// What was asked for, and the shard that it was taken from, the root volume first.
    pub(crate) volumes: Vec<(VolumeSpec, u8)>,
}

/// A volume as it is stored: device, type, GiB, IOPS, whether it goes with the instance, shard.
type Short = (String, String, u32, u32, bool, u8);

impl Claim {
    /// The claim as a receipt's attributes.
    pub(crate) fn item(&self) -> Item {
        let short = |(spec, shard): &(VolumeSpec, u8)| -> Short {
            let VolumeSpec { device, volume_type, size_gib, iops, delete_on_termination } =
                spec.clone();
            (device, volume_type, size_gib, iops, delete_on_termination, *shard)
        };
        let volumes: Vec<Short> = self.volumes.iter().map(short).collect();
        Item::new()
            .with(INSTANCE, self.instance.as_str())
            .with(ZONE, self.zone.as_str())
            .with(KEY, self.key_id.as_str())
            .with(VOLUMES, serde_json::to_string(&volumes).expect("plain data"))
    }

    /// What the receipt holds, if it holds anything.
    ///
    /// # Errors
    /// A fault when it holds something that cannot be read: it would be lost if it were ignored.
    pub(crate) fn held(receipt: &Receipt) -> Result<Option<Claim>, Fault> {
        let item = &receipt.claim;
        let Some(volumes) = item.text(VOLUMES) else { return Ok(None) };
        let read = || {
            let long = |(device, volume_type, size_gib, iops, delete_on_termination, shard)| {
                (VolumeSpec { device, volume_type, size_gib, iops, delete_on_termination }, shard)
            };
            Some(Claim {
                instance: InstanceId::parse(item.text(INSTANCE)?).ok()?,
                zone: item.text(ZONE)?.to_owned(),
                key_id: item.text(KEY)?.to_owned(),
                volumes: serde_json::from_str::<Vec<Short>>(volumes)
                    .ok()?
                    .into_iter()
                    .map(long)
                    .collect(),
            })
        };
        read()
            .map(Some)
            .ok_or_else(|| corrupt(format!("not a claim of volumes: {:?}", item.keys())))
    }

    /// The volumes, each with its id and its place.
    pub(crate) fn volumes(&self) -> Vec<Volume> {
        let volume = |(index, (spec, shard)): (usize, &(VolumeSpec, u8))| Volume {
            volume_id: self.instance.volume(index),
            pool: shard_name(&self.zone, &spec.volume_type, *shard),
            spec: spec.clone(),
            key_id: self.key_id.clone(),
        };
        self.volumes.iter().enumerate().map(volume).collect()
    }
}

/// The volumes that the receipt holds, the root volume first; none if it holds none.
#[must_use]
pub fn volumes(receipt: &Receipt) -> Vec<Volume> {
    match Claim::held(receipt) {
        Ok(Some(claim)) => claim.volumes(),
        Ok(None) | Err(_) => vec![],
    }
}
