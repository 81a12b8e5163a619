//! The storage step: it takes room for an instance's volumes out of the pools of the host's zone,
//! and gives it back when the instance is terminated.
//!
//! Every volume is encrypted with its tenant's data key, which is kept wrapped by the master key;
//! events and receipts carry only the key's id.

mod asked;
#[cfg(test)]
mod cases;
mod claim;
mod decide;
mod gone;
pub mod images;
mod kept;
pub mod ledger;
mod pools;
mod tenant_key;
#[cfg(test)]
mod tests;
pub mod why;

pub use asked::{
    AskedVolume, DATA_DEVICES, Iops, VOLUME_TYPES, VOLUMES_MAX, VolumeType, launch_volumes,
};
pub use claim::volumes;
pub use decide::Facts;
pub use gone::{OfInstance, gone};
pub use kept::{KeptVolume, delete_kept, kept};
pub use pools::{PoolSize, PoolSizes, PoolState, SHARDS, pools, seed};

use async_trait::async_trait;
use eventplane_domain::{InstanceId, Launch, Tenant};
use eventplane_engine::{Chance, Decision, Dice, Fault, Look, Moment, Step};
use eventplane_events::{Data, Event};
use eventplane_keys::MasterKey;
use eventplane_store::{FaultKind, Key, StoreFault, Table};
use pools::{place, read_shards, shard_key, shard_name, types_of};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use tenant_key::{TenantKey, tenant_key_key};

/// The table of receipts, pools, tenants' keys, volumes that stayed, and images.
pub const TABLE: Table = Table { name: "storage", indexes: &[] };

/// The storage step.
pub struct Storage {
    master: Arc<dyn MasterKey>,
    chance: Arc<dyn Chance>,
}

impl Storage {
    /// The step, with the master key that wraps tenants' keys and the chance that makes them.
    pub fn new(master: Arc<dyn MasterKey>, chance: Arc<dyn Chance>) -> Self {
        Storage { master, chance }
    }

    /// The receipt and, where new volumes are asked for, the tenant's key and shards with room.
    async fn look_for_room(
        &self,
        event: &Event,
        launch: &Launch,
        look: Look<'_>,
    ) -> Result<Facts, Fault> {
        let tenant = &event.metadata.tenant;
        let pools = Pools::of(launch, look.dice);
        let first = pools.shards(0..1);
        let mut keys = pools.keys(&first);
        keys.push(tenant_key_key(tenant));
        keys.push(receipt_key(tenant, &event.metadata.subject));
        let mut items = look.store.batch_get(&keys).await?;
        let mut facts = Facts::recorded(items.pop().flatten().as_ref())?;
        if !facts.asks_for_room(event, look.now) {
            return Ok(facts);
        }
        facts.key = Some(match items.pop().flatten() {
            Some(item) => TenantKey::read(&item)?,
            None => TenantKey::make(tenant, &*self.master, &*self.chance).await?,
        });
        facts.shards = read_shards(&first, &items)?;
        if place(&launch.spec.volumes, &facts.shards).is_err() {
            if facts.shards.len() < first.len() {
                facts.types = types_of(look.store, pools.zone).await?;
            }
            let others = pools.shards(1..SHARDS);
            let items = look.store.batch_get(&pools.keys(&others)).await?;
            facts.shards.extend(read_shards(&others, &items)?);
        }
        Ok(facts)
    }
}

/// The pools that a launch needs room in, and the shard that is tried first.
struct Pools<'a> {
    zone: &'a str,
    types: BTreeSet<&'a str>,
    start: u8,
}

impl<'a> Pools<'a> {
    fn of(launch: &'a Launch, dice: &mut Dice) -> Self {
        let types = launch.spec.volumes.iter().map(|volume| volume.volume_type.as_str()).collect();
        let start = dice.below(usize::from(SHARDS));
        let start = u8::try_from(start).expect("there are fewer than 256 shards");
        Pools { zone: &launch.placement.zone, types, start }
    }

    /// The shards at these places behind the first, of each pool: type and number.
    fn shards(&self, places: Range<u8>) -> Vec<(String, u8)> {
        places
            .map(|place| (self.start + place) % SHARDS)
            .flat_map(|number| self.types.iter().map(move |kind| ((*kind).to_owned(), number)))
            .collect()
    }

    fn keys(&self, shards: &[(String, u8)]) -> Vec<Key> {
        let key = |(kind, number): &(String, u8)| shard_key(&shard_name(self.zone, kind, *number));
        shards.iter().map(key).collect()
    }
}

/// Where the step keeps its receipt for an instance.
#[must_use]
pub fn receipt_key(tenant: &Tenant, instance: &InstanceId) -> Key {
    Key::new(TABLE.name, tenant.partition(instance), "receipt")
}

/// What is stored is not what was written: somebody has to look at the table.
pub(crate) fn corrupt(what: impl Into<String>) -> Fault {
    Fault::Store(StoreFault::new(FaultKind::Corrupt, what))
}

#[async_trait]
impl Step for Storage {
    type Facts = Facts;

    fn name(&self) -> &'static str {
        "storage"
    }

    async fn look(&self, event: &Event, look: Look<'_>) -> Result<Facts, Fault> {
        if let Data::CapacityAllocated(allocated) = &event.data {
            return self.look_for_room(event, &allocated.launch, look).await;
        }
        let key = receipt_key(&event.metadata.tenant, &event.metadata.subject);
        Facts::recorded(look.store.get(&key).await?.as_ref())
    }

    fn decide(&self, event: &Event, facts: &Facts, moment: Moment<'_>) -> Decision {
        decide::decide(event, facts, moment.delivery())
    }
}
