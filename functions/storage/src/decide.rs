//! The choice: where the volumes of a launch go, and what becomes of them in the end.

use crate::claim::Claim;
use crate::kept::KeptVolume;
use crate::pools::{SHARDS, Shard, Short, place, return_room, shard_name, take_room};
use crate::receipt_key;
use crate::tenant_key::TenantKey;
use eventplane_domain::receipt::{Ruling, rule};
use eventplane_domain::{Launch, Millis, Reason, Step, VolumeSpec, code};
use eventplane_engine::{
    Decision, Delivery, Fault, Receipt, TakesOn, ask_of, give_back, publish_again, refuse,
    refuse_late, take,
};
use eventplane_events::{Data, Event, VolumeProvisioned};
use eventplane_store::{Item, Write};

/// What it looks at.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The receipt, if there is one.
    pub receipt: Option<Receipt>,
    /// What the receipt holds.
    pub(crate) claim: Option<Claim>,
    /// The tenant's data key; read only where new volumes are asked for.
    pub(crate) key: Option<TenantKey>,
    /// Shards of the pools that the launch needs, in the order in which they are tried. One of each
    /// pool where that is enough, otherwise all.
    pub(crate) shards: Vec<Shard>,
    /// The volume types that the zone has; read only where one is asked for that has no shard.
    pub(crate) types: Vec<String>,
}

impl Facts {
    /// What is recorded, without more.
    pub(crate) fn recorded(receipt: Option<&Item>) -> Result<Facts, Fault> {
        let receipt = Receipt::read(receipt)?;
        let claim = receipt.as_ref().map(Claim::held).transpose()?.flatten();
        Ok(Facts { receipt, claim, ..Facts::default() })
    }

    /// Whether the event asks for new volumes, given what is recorded.
    pub(crate) fn asks_for_room(&self, event: &Event, now: Millis) -> bool {
        let recorded = self.receipt.as_ref().map(Receipt::recorded);
        let ruling = ask_of(event, TakesOn::Placement).map(|ask| rule(recorded, ask, now));
        ruling == Some(Ruling::Decide) && self.claim.is_none()
    }
}

pub(crate) fn decide(event: &Event, facts: &Facts, at: impl Into<Delivery>) -> Decision {
    let at = at.into();
    let Some(ask) = ask_of(event, TakesOn::Placement) else { return Decision::nothing() };
    let before = facts.receipt.as_ref();
    let key = receipt_key(&event.metadata.tenant, &event.metadata.subject);
    match rule(before.map(Receipt::recorded), ask, at.now) {
        Ruling::Stale => Decision::nothing(),
        Ruling::Repeat => publish_again(event, before, Step::Storage, Data::VolumeReleased, |_| {
            provisioned(launch_of(event), facts.claim.as_ref())
        }),
        Ruling::RefuseLate => refuse_late(event, key, before, at, Step::Storage),
        Ruling::GiveBack => {
            let writes = end_writes(event, facts.claim.as_ref(), at.now);
            give_back(event, key, before, at, writes, Data::VolumeReleased)
        }
        Ruling::Decide => match provide(event, facts) {
            Ok((claim, writes)) => {
                let data = provisioned(launch_of(event), Some(&claim));
                take(event, key, before, at, claim.item(), writes, data)
            }
            Err(reason) => refuse(event, key, before, at, Step::Storage, reason),
        },
    }
}

/// The launch that asks for volumes.
///
/// # Panics
/// When another event does: a bug.
fn launch_of(event: &Event) -> &Launch {
    match &event.data {
        Data::CapacityAllocated(allocated) => &allocated.launch,
        other => panic!("{} asks for no volumes", other.name()),
    }
}

fn provisioned(launch: &Launch, claim: Option<&Claim>) -> Data {
    let provisioned = claim.map(Claim::volumes).unwrap_or_default();
    Data::VolumeProvisioned(VolumeProvisioned { launch: launch.clone(), provisioned })
}

/// The volumes of this generation: those that are held, or new ones with the writes that take them.
fn provide(event: &Event, facts: &Facts) -> Result<(Claim, Vec<Write>), Reason> {
    let Launch { spec, placement, .. } = launch_of(event);
    if let Some(claim) = &facts.claim {
        return match claim.zone == placement.zone {
            true => Ok((claim.clone(), vec![])),
            false => Err(zone_mismatch(claim, &placement.zone)),
        };
    }
    let places = place(&spec.volumes, &facts.shards)
        .map_err(|short| no_room(&spec.volumes, &placement.zone, facts, &short))?;
    let key = facts.key.as_ref().expect("who asks for new volumes has looked for the key");
    let claim = Claim {
        instance: event.metadata.subject.clone(),
        zone: placement.zone.clone(),
        key_id: key.id.clone(),
        volumes: spec.volumes.iter().cloned().zip(places).collect(),
    };
    let mut writes = take_room(in_shards(&claim));
    writes.extend(key.write(&event.metadata.tenant));
    Ok((claim, writes))
}

fn in_shards(claim: &Claim) -> impl Iterator<Item = (String, &VolumeSpec)> {
    let name = |spec: &VolumeSpec, shard| shard_name(&claim.zone, &spec.volume_type, shard);
    claim.volumes.iter().map(move |(spec, shard)| (name(spec, *shard), spec))
}

/// What becomes of the volumes when their instance is terminated: those that are deleted with it
/// give their room back, the others stay. The flag alone decides, also for an instance that never
/// ran: this step cannot know what a host has written.
fn end_writes(event: &Event, claim: Option<&Claim>, now: Millis) -> Vec<Write> {
    let Some(claim) = claim else { return vec![] };
    let goes = |(_, spec): &(String, &VolumeSpec)| spec.delete_on_termination;
    let mut writes = return_room(in_shards(claim).filter(goes));
    let kept = claim.volumes().into_iter().filter(|volume| !volume.spec.delete_on_termination);
    writes.extend(kept.map(|volume| {
        let (zone, instance) = (claim.zone.clone(), claim.instance.clone());
        KeptVolume { volume, zone, instance, since: now }.write(&event.metadata.tenant)
    }));
    writes
}

fn zone_mismatch(claim: &Claim, zone: &str) -> Reason {
    let message = format!(
        "the volumes of {} are in {}, and it was placed in {zone}: it can run only where its \
         volumes are",
        claim.instance, claim.zone
    );
    Reason::new(code::VOLUME_ZONE_MISMATCH, message)
}

/// Why a volume has no place: its type is unknown in the zone, or no shard has room for it.
fn no_room(volumes: &[VolumeSpec], zone: &str, facts: &Facts, short: &Short) -> Reason {
    let VolumeSpec { device, volume_type, size_gib, iops, .. } = &volumes[short.volume];
    let pool: Vec<&Shard> =
        short.beside.iter().filter(|shard| shard.volume_type == *volume_type).collect();
    if pool.is_empty() {
        let types = match facts.types.join(", ") {
            none if none.is_empty() => "none at all".to_owned(),
            types => types,
        };
        let message =
            format!("{zone} has no volumes of type {volume_type} (for {device}), it has {types}");
        return Reason::new(code::UNKNOWN_VOLUME_TYPE, message);
    }
    let most = |of: fn(&Shard) -> i64| pool.iter().map(|shard| of(shard)).max().unwrap_or(0);
    let all = |of: fn(&Shard) -> i64| pool.iter().map(|shard| of(shard)).sum::<i64>();
    let message = format!(
        "{device} asks for {size_gib} GiB and {iops} IOPS of {volume_type} in {zone}; free beside \
         the launch's other volumes: {} GiB and {} IOPS in the pool's {SHARDS} shards, at most {} \
         GiB and {} IOPS in one",
        all(|shard| shard.free_gib),
        all(|shard| shard.free_iops),
        most(|shard| shard.free_gib),
        most(|shard| shard.free_iops),
    );
    Reason::new(code::INSUFFICIENT_VOLUME_CAPACITY, message)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
