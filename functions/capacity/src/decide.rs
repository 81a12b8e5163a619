//! Which host is taken, and why none is.

use crate::claim::{claim, held, home, kept, not_again, placement, receipt_key};
use crate::host::{DIMENSION_NAMES, Host, HostState, Sizes};
use crate::search::{Counts, Seen};
use crate::why::instead;
use eventplane_domain::receipt::{Ruling, rule};
use eventplane_domain::{HostId, Launch, LaunchSpec, Reason, Step, Strategy, code};
use eventplane_engine::{
    Decision, Dice, Moment, Receipt, TakesOn, ask_of, give_back_keeping, publish_again, refuse,
    refuse_late, take,
};
use eventplane_events::{CapacityAllocated, Data, Event, InstanceRequested};
use eventplane_store::{Action, Update, Write};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What the step looks at.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What it has recorded of the instance.
    pub receipt: Option<Receipt>,
    /// The host whose room the receipt holds.
    pub holding: Option<Host>,
    /// What the search has seen, if there was one.
    pub seen: Option<Seen>,
}

pub(crate) fn decide(event: &Event, facts: &Facts, moment: Moment<'_>) -> Decision {
    let Some(ask) = ask_of(event, TakesOn::Request) else { return Decision::nothing() };
    let before = facts.receipt.as_ref();
    let key = receipt_key(&event.metadata.tenant, &event.metadata.subject);
    let at = moment.delivery();
    match rule(before.map(Receipt::recorded), ask, at.now) {
        Ruling::Stale => Decision::nothing(),
        Ruling::Repeat => {
            publish_again(event, before, Step::Capacity, Data::CapacityReleased, |receipt| {
                allocated_again(event, receipt)
            })
        }
        Ruling::RefuseLate => refuse_late(event, key, before, at, Step::Capacity),
        Ruling::GiveBack => {
            let Data::InstanceWithdrawn(withdrawn) = &event.data else {
                unreachable!("only what is withdrawn is given back")
            };
            let (room, kept) = (release(facts), kept(before, withdrawn.outcome));
            give_back_keeping(event, key, before, at, room, Data::CapacityReleased, kept)
        }
        Ruling::Decide => match (&event.data, &facts.seen) {
            (Data::InstanceRequested(requested), Some(seen)) => {
                let spec = at_home(&requested.spec, before);
                let avoided = not_again(before, requested.replaced);
                match choose(&spec, seen, before, &avoided, moment.dice) {
                    Ok(host) => reserve(event, requested, facts, &host, moment),
                    Err(reason) => refuse(event, key, before, at, Step::Capacity, reason),
                }
            }
            _ => Decision::nothing(),
        },
    }
}

fn reserve(
    event: &Event,
    requested: &InstanceRequested,
    facts: &Facts,
    host: &Host,
    moment: Moment<'_>,
) -> Decision {
    let need = Sizes::needed(&requested.spec);
    let placement = host.placement();
    // A newer generation frees the old room and takes the new, which is never on the same host, in
    // one transaction.
    let resources = together(host.change_room(Sizes::default().minus(need)), release(facts));
    let allocated = allocated(requested, placement.clone());
    let key = receipt_key(&event.metadata.tenant, &event.metadata.subject);
    let avoided = not_again(facts.receipt.as_ref(), requested.replaced);
    let claim = claim(&placement, need, &avoided);
    take(event, key, facts.receipt.as_ref(), moment.delivery(), claim, resources, allocated)
}

/// The writes of two hosts as one transaction, in which an item may be written once: hosts of one
/// shard are counted in the same directory.
fn together(mut writes: Vec<Write>, others: Vec<Write>) -> Vec<Write> {
    for other in others {
        let same = writes.iter_mut().find(|write| write.key == other.key);
        match (same.map(|write| &mut write.action), other.action) {
            (Some(Action::Update(updates)), Action::Update(more)) => add_up(updates, more),
            (_, action) => writes.push(Write { action, ..other }),
        }
    }
    writes
}

/// Adds what the others add to what these add.
fn add_up(updates: &mut Vec<Update>, others: Vec<Update>) {
    for other in others {
        let Update::Add(name, amount) = other else { unreachable!("directories only count") };
        let same = updates.iter_mut().find_map(|update| match update {
            Update::Add(of, sum) if *of == name => Some(sum),
            _ => None,
        });
        match same {
            Some(sum) => *sum += amount,
            None => updates.push(Update::Add(name, amount)),
        }
    }
}

fn allocated(requested: &InstanceRequested, placement: eventplane_domain::Placement) -> Data {
    let InstanceRequested { spec, has_run, replaced } = requested.clone();
    let launch = Launch { spec, placement, has_run, replaced };
    Data::CapacityAllocated(CapacityAllocated { launch })
}

fn allocated_again(event: &Event, receipt: &Receipt) -> Data {
    let Data::InstanceRequested(requested) = &event.data else {
        unreachable!("only a request is answered with what was taken")
    };
    allocated(requested, placement(receipt).expect("what was taken has a place"))
}

/// Gives back the room that the receipt holds, if it holds any.
fn release(facts: &Facts) -> Vec<Write> {
    match (&facts.holding, facts.receipt.as_ref().and_then(held)) {
        (Some(host), Some(room)) => host.change_room(room),
        _ => vec![],
    }
}

/// What is asked for, in the zone that an earlier generation had: there are its volumes and its
/// address.
pub(crate) fn at_home<'s>(spec: &'s LaunchSpec, before: Option<&Receipt>) -> Cow<'s, LaunchSpec> {
    match home(before) {
        Some(zone) if spec.zone.as_deref() != Some(zone) => {
            Cow::Owned(LaunchSpec { zone: Some(zone.to_owned()), ..spec.clone() })
        }
        _ => Cow::Borrowed(spec),
    }
}

/// Why a host does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unfit {
    OtherZone,
    OtherModel,
    Draining,
    Impaired,
    Dead,
    HadIt,
    Short(usize),
}

pub(crate) fn fit(spec: &LaunchSpec, host: &Host, avoided: &[HostId]) -> Result<(), Unfit> {
    if spec.zone.as_ref().is_some_and(|zone| *zone != host.zone) {
        return Err(Unfit::OtherZone);
    }
    if !host.has_model(spec.gpus.as_ref()) {
        return Err(Unfit::OtherModel);
    }
    match host.state {
        HostState::Draining => return Err(Unfit::Draining),
        HostState::Impaired => return Err(Unfit::Impaired),
        HostState::Dead => return Err(Unfit::Dead),
        HostState::Active => {}
    }
    if avoided.contains(&host.id) {
        return Err(Unfit::HadIt);
    }
    match host.free.short_of(Sizes::needed(spec)) {
        Some(dimension) => Err(Unfit::Short(dimension)),
        None => Ok(()),
    }
}

fn choose(
    spec: &LaunchSpec,
    seen: &Seen,
    before: Option<&Receipt>,
    avoided: &[HostId],
    dice: &mut Dice,
) -> Result<Host, Reason> {
    let hosts = match seen {
        Seen::All(hosts) | Seen::Some(hosts, _) => hosts,
    };
    let fitting: Vec<&Host> =
        hosts.iter().filter(|host| fit(spec, host, avoided).is_ok()).collect();
    if fitting.is_empty() {
        let (told, which) = match seen {
            Seen::All(hosts) => {
                let unfit = hosts.iter().filter_map(|host| fit(spec, host, avoided).err());
                (exact(unfit), "one host")
            }
            Seen::Some(looked_at, counts) => {
                (by_class(counts, looked_at.len()), "one of those tried")
            }
        };
        // What has had a place cannot go elsewhere for another one.
        let instead = || instead(spec, hosts, which);
        let told = if home(before).is_none() { told + &instead() } else { told };
        return Err(Reason::new(code::INSUFFICIENT_CAPACITY, told));
    }
    Ok(best(spec, hosts, &fitting, dice).clone())
}

/// Shares that lie in the same step are equals, in ten-thousandths: launches that are decided at
/// the same time see the same fleet, and would otherwise all choose the same host.
const SPREAD_STEP: i64 = 500;

/// The best of the hosts that fit. Without a need for GPUs, hosts that have none come first.
/// To spread: from the zone with the greatest free share, then the rack, then the host, each in
/// steps of [`SPREAD_STEP`]. To pack: the fullest host. Among equals chance decides.
fn best<'h>(spec: &LaunchSpec, hosts: &[Host], fitting: &[&'h Host], dice: &mut Dice) -> &'h Host {
    let (mut zones, mut racks) = (BTreeMap::new(), BTreeMap::new());
    for host in hosts.iter().filter(|host| host.state == HostState::Active) {
        add(zones.entry(host.zone.as_str()).or_default(), host);
        add(racks.entry((host.zone.as_str(), host.rack.as_str())).or_default(), host);
    }
    let need = Sizes::needed(spec);
    let score = |host: &Host| {
        let wastes_gpus = spec.gpus.is_none() && host.gpu_model.is_some();
        let after = share(host.free.minus(need), host.total);
        let of =
            |room: Option<&(Sizes, Sizes)>| room.map_or(0, |(free, total)| share(*free, *total));
        match spec.strategy {
            Strategy::Pack => (wastes_gpus, after, 0, 0),
            Strategy::Spread => {
                let zone = of(zones.get(host.zone.as_str()));
                let rack = of(racks.get(&(host.zone.as_str(), host.rack.as_str())));
                let step = |share: i64| (10_000 - share) / SPREAD_STEP;
                (wastes_gpus, step(zone), step(rack), step(after))
            }
        }
    };
    let least = fitting.iter().map(|host| score(host)).min();
    let equals: Vec<&&Host> = fitting.iter().filter(|host| Some(score(host)) == least).collect();
    equals[dice.below(equals.len())]
}

fn add(room: &mut (Sizes, Sizes), host: &Host) {
    *room = (room.0.plus(host.free), room.1.plus(host.total));
}

/// What part is free of the dimension that is scarcest, in ten-thousandths. GPUs do not count:
/// whoever needs none does not care, and whoever does sees only hosts that have them.
fn share(free: Sizes, total: Sizes) -> i64 {
    let (free, total) = (free.each(), total.each());
    let shares =
        (0..3).filter(|d| total[*d] > 0).map(|d| free[d].saturating_mul(10_000) / total[d]);
    shares.min().unwrap_or(0)
}

/// "12 hosts: 9 short of vCPUs, 2 in other zones, 1 draining".
fn exact(unfit: impl Iterator<Item = Unfit>) -> String {
    let mut counts: BTreeMap<Unfit, i64> = BTreeMap::new();
    for why in unfit {
        *counts.entry(why).or_default() += 1;
    }
    let hosts: i64 = counts.values().sum();
    let named = |why: Unfit| match why {
        Unfit::OtherZone => "in other zones".to_owned(),
        Unfit::OtherModel => "without GPUs of the model".to_owned(),
        Unfit::Draining => "draining".to_owned(),
        Unfit::Impaired => "silent".to_owned(),
        Unfit::Dead => "dead".to_owned(),
        Unfit::HadIt => "that had it and did not run it".to_owned(),
        Unfit::Short(dimension) => format!("short of {}", DIMENSION_NAMES[dimension]),
    };
    let counts = counts.into_iter().map(|(why, count)| (count, named(why))).collect();
    list(hosts, counts, "counted host by host")
}

/// The same of more hosts than are looked at, from the index's counts.
fn by_class(counts: &Counts, looked_at: usize) -> String {
    let Counts { hosts, other_zones, other_models, draining, impaired, dead, may_fit, too_full } =
        *counts;
    let unsure = format!("in whose class some have room, of which {looked_at} were tried");
    let counts = vec![
        (too_full, "too full".to_owned()),
        (may_fit, unsure),
        (other_zones, "in other zones".to_owned()),
        (other_models, "without GPUs of the model".to_owned()),
        (draining, "draining".to_owned()),
        (impaired, "silent".to_owned()),
        (dead, "dead".to_owned()),
    ];
    list(hosts, counts, "counted by the index's classes")
}

fn list(hosts: i64, mut counts: Vec<(i64, String)>, how: &str) -> String {
    if hosts == 0 {
        return "no hosts are registered: start an agent on one".to_owned();
    }
    counts.retain(|(count, _)| *count > 0);
    counts.sort_by_key(|(count, _)| -count);
    let counts: Vec<String> =
        counts.iter().map(|(count, what)| format!("{count} {what}")).collect();
    format!("{hosts} {}: {} ({how})", if hosts == 1 { "host" } else { "hosts" }, counts.join(", "))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
