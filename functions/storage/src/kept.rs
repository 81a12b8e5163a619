//! Volumes that outlive their instance: detached, and still in their pool.

use crate::claim::Claim;
use crate::pools::return_room;
use crate::{TABLE, corrupt, receipt_key};
use eventplane_domain::{InstanceId, Millis, Reason, Tenant, Volume, VolumeSpec};
use eventplane_engine::{Fault, Receipt};
use eventplane_store::{Condition, Item, ItemExt, Key, Query, Store, Write};
use std::iter::once;

/// How many volumes are read at once.
const PAGE_VOLUMES: usize = 100;
/// What a volume's id looks like: `vol-`, an instance's 17 digits, and two of its number.
const VOLUME_ID_FORM: &str = "a volume id: `vol-` and 19 hexadecimal digits (0-9, a-f)";

/// A volume that stayed when its instance was terminated ("Preserve data when an instance is
/// terminated", EC2 user guide). Its room stays taken until it is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptVolume {
    /// The volume, under the id that it always had.
    pub volume: Volume,
    /// The zone that it is in.
    pub zone: String,
    /// The instance that it was of.
    pub instance: InstanceId,
    /// Since when it is detached.
    pub since: Millis,
}

fn partition(tenant: &Tenant) -> String {
    tenant.partition("volumes")
}

/// Where a volume is kept that outlived its instance.
pub(crate) fn kept_key(tenant: &Tenant, volume_id: &str) -> Key {
    Key::new(TABLE.name, partition(tenant), volume_id)
}

impl KeptVolume {
    /// The write that keeps it.
    pub(crate) fn write(&self, tenant: &Tenant) -> Write {
        let Volume { volume_id, spec, pool, key_id } = &self.volume;
        let item = Item::new()
            .with("device", spec.device.as_str())
            .with("type", spec.volume_type.as_str())
            .with("gib", i64::from(spec.size_gib))
            .with("iops", i64::from(spec.iops))
            .with("pool", pool.as_str())
            .with("zone", self.zone.as_str())
            .with("key", key_id.as_str())
            .with("of", self.instance.as_str())
            .with("since", self.since.0);
        Write::put(kept_key(tenant, volume_id), item)
    }

    fn read(key: &Key, item: &Item) -> Result<KeptVolume, Fault> {
        let small = |name| u32::try_from(item.number(name)?).ok();
        let text = |name| item.text(name).map(str::to_owned);
        let read = || {
            let spec = VolumeSpec {
                device: text("device")?,
                volume_type: text("type")?,
                size_gib: small("gib")?,
                iops: small("iops")?,
                delete_on_termination: false,
            };
            let (volume_id, pool, key_id) = (key.sort.clone(), text("pool")?, text("key")?);
            Some(KeptVolume {
                volume: Volume { volume_id, spec, pool, key_id },
                zone: text("zone")?,
                instance: InstanceId::parse(item.text("of")?).ok()?,
                since: Millis(item.number("since")?),
            })
        };
        read()
            .ok_or_else(|| corrupt(format!("not a volume that was kept: {key}: {:?}", item.keys())))
    }
}

/// The tenant's volumes that outlived their instances, by id.
///
/// # Errors
/// A fault of the store.
pub async fn kept(store: &dyn Store, tenant: &Tenant) -> Result<Vec<KeptVolume>, Fault> {
    let mut all = Vec::new();
    let mut query = Query::partition(TABLE.name, partition(tenant), PAGE_VOLUMES);
    loop {
        let page = store.query(&query).await?;
        for (key, item) in &page.items {
            all.push(KeptVolume::read(key, item)?);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(all),
        }
    }
}

/// Deletes a volume that outlived its instance, and gives its room back. Refused when there is
/// none (`InvalidVolume.NotFound`), when an instance holds it (`VolumeInUse`), or when it is no
/// volume's id (`InvalidVolumeID.Malformed`); codes as in "Error codes for the Amazon EC2 API".
///
/// # Errors
/// A fault of the store.
pub async fn delete_kept(
    store: &dyn Store,
    tenant: &Tenant,
    volume_id: &str,
) -> Result<Result<(), Reason>, Fault> {
    let Some(instance) = instance_of(volume_id) else {
        let given: String = volume_id.chars().take(64).collect();
        let message = format!("`{given}` is not {VOLUME_ID_FORM}");
        return Ok(Err(Reason::new("InvalidVolumeID.Malformed", message)));
    };
    let key = kept_key(tenant, volume_id);
    let items = store.batch_get(&[key.clone(), receipt_key(tenant, &instance)]).await?;
    let Some(item) = &items[0] else {
        return Ok(Err(not_kept(volume_id, items[1].as_ref())?));
    };
    let kept = KeptVolume::read(&key, item)?.volume;
    let mut writes = return_room(once((kept.pool.clone(), &kept.spec)));
    writes.push(Write::delete(key).when(Condition::ItemPresent));
    match store.try_transact(writes).await? {
        true => Ok(Ok(())),
        false => Ok(Err(not_kept(volume_id, None)?)),
    }
}

/// The instance whose digits the volume's id begins with.
pub(crate) fn instance_of(volume_id: &str) -> Option<InstanceId> {
    let digits = volume_id.strip_prefix("vol-").filter(|digits| digits.len() == 19)?;
    let (instance, number) = digits.split_at_checked(17)?;
    let is_number = number.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    InstanceId::parse(&format!("i-{instance}")).ok().filter(|_| is_number)
}

/// Why a volume that is not kept cannot be deleted, given its instance's receipt.
fn not_kept(volume_id: &str, receipt: Option<&Item>) -> Result<Reason, Fault> {
    let claim = match Receipt::read(receipt)? {
        Some(receipt) => Claim::held(&receipt)?,
        None => None,
    };
    let holder =
        claim.filter(|claim| claim.volumes().iter().any(|volume| volume.volume_id == volume_id));
    Ok(match holder {
        Some(Claim { instance, .. }) => Reason::new(
            "VolumeInUse",
            format!("{volume_id} is attached to {instance}: terminate the instance first"),
        ),
        None => Reason::new(
            "InvalidVolume.NotFound",
            format!("there is no volume {volume_id}: `GET /v1/volumes` lists those that stayed"),
        ),
    })
}
