//! Why a launch has no host as the fleet stands, and what would have one.
//!
//! Which check a host falls to is asked of the step's own `fit`: whoever says why a launch was
//! refused cannot say it by another rule than the one that refused it.

use crate::decide::{Unfit, fit};
use crate::fleet::{fleet_key, groups};
use crate::host::{
    CLASS_MAX, DIMENSION_NAMES, Host, HostState, NO_GPUS, Sizes, class_that_fits,
    class_that_may_fit,
};
use crate::search::{EXACT_UP_TO, all, directories_of_all};
use eventplane_domain::{GpuNeed, LaunchSpec};
use eventplane_engine::Fault;
use eventplane_store::{ItemExt, Store};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How programs call the dimensions, and in which unit they miss.
pub(crate) const DIMENSIONS: [(&str, &str); 4] =
    [("vcpus", "vCPUs"), ("memory", "MiB"), ("network", "Mbps"), ("gpus", "GPUs")];
/// How many zones a sentence names.
const ZONES_NAMED_MAX: usize = 3;

/// The fleet as it stands, for the question why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fleet {
    /// Every host: up to 1,000 of them.
    Hosts(Vec<Host>),
    /// Larger fleets, as the index counts them.
    Classes(Vec<Group>),
}

/// The hosts of one zone and GPU model, counted by class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The zone.
    pub zone: String,
    /// The model of their GPUs, if they have any.
    pub gpu_model: Option<String>,
    /// How many of them take new instances, by class.
    pub by_class: Vec<i64>,
    /// How many of them do not, by state.
    pub by_state: BTreeMap<&'static str, i64>,
}

/// Reads the fleet: host by host up to 1,000 hosts, above that by the index's classes.
///
/// # Errors
/// A fault of the store.
pub async fn look(store: &dyn Store) -> Result<Fleet, Fault> {
    let Some(fleet) = store.get(&fleet_key()).await? else { return Ok(Fleet::Hosts(vec![])) };
    if fleet.number(crate::fleet::HOSTS).unwrap_or(0) <= EXACT_UP_TO {
        return Ok(Fleet::Hosts(all(store).await?));
    }
    let directories = directories_of_all(store, &fleet).await?;
    let group = |(zone, model, _): (&str, &str, i64)| {
        let of = |name: &str| {
            let here = directories.iter().filter(|d| (d.zone, d.model) == (zone, model));
            here.map(|d| d.counts.number(name).unwrap_or(0)).sum::<i64>()
        };
        let inactive = HostState::ALL.into_iter().filter(|state| *state != HostState::Active);
        Group {
            zone: zone.to_owned(),
            gpu_model: (model != NO_GPUS).then(|| model.to_owned()),
            by_class: (0..=CLASS_MAX).map(|class| of(&crate::host::class_count(class))).collect(),
            by_state: inactive.map(|state| (state.name(), of(state.name()))).collect(),
        }
    };
    Ok(Fleet::Classes(groups(&fleet).map(group).collect()))
}

/// What the hosts say to a launch: how many would take it, and to which checks the others fall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tree {
    /// How many hosts there are.
    pub hosts: i64,
    /// How many of them have the room now; above 1,000 hosts, how many surely have.
    pub fit: i64,
    /// How it was counted: `host by host`, or `by class`.
    pub counted: &'static str,
    /// The checks, each with the hosts that fall to it first.
    pub checks: Vec<Check>,
    /// The check that keeps out the most hosts by itself, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binds: Option<Binds>,
    /// The host that misses by the least; only where hosts are counted one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Near>,
}

/// One check, and the hosts that fall to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `zone`, `gpu_model`, `state`, a dimension (`vcpus`, `memory`, `network`, `gpus`), or by
    /// class: `room` (none of the class has it) and `unsure` (some of the class may have it).
    pub check: &'static str,
    /// Of a `state`: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// How many hosts fall to it, and to none before it.
    pub hosts: i64,
    /// How many hosts nothing else keeps out; unknown by class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone: Option<i64>,
    /// Of a dimension: by how much these hosts miss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_by: Option<ShortBy>,
}

/// By how much hosts miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ShortBy {
    /// The one that misses by the least.
    pub least: i64,
    /// The one that misses by the most.
    pub most: i64,
    /// In what: `vCPUs`, `MiB`, `Mbps`, `GPUs`.
    pub unit: &'static str,
}

/// The check that binds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Binds {
    /// The check.
    pub check: &'static str,
    /// How many hosts would have room if it were lifted.
    pub lets_through: i64,
}

/// The nearest host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Near {
    /// Its id.
    pub host: String,
    /// Its zone.
    pub zone: String,
    /// The checks that it falls to, all of them.
    pub checks: Vec<&'static str>,
    /// By how much it misses in each dimension; 0 where it does not.
    pub short_by: Sizes,
}

/// A check's name for programs, and the state it speaks of.
fn named(unfit: Unfit) -> (&'static str, Option<&'static str>) {
    match unfit {
        Unfit::OtherZone => ("zone", None),
        Unfit::OtherModel => ("gpu_model", None),
        Unfit::Draining => ("state", Some(HostState::Draining.name())),
        Unfit::Impaired => ("state", Some(HostState::Impaired.name())),
        Unfit::Dead => ("state", Some(HostState::Dead.name())),
        Unfit::HadIt => ("had_it", None),
        Unfit::Short(dimension) => (DIMENSIONS[dimension].0, None),
    }
}

/// Everything that keeps the host out: what it falls to is lifted, and it is asked again.
fn falls_to(spec: &LaunchSpec, host: &Host) -> Vec<Unfit> {
    let (mut spec, mut host) = (spec.clone(), host.clone());
    let mut all = Vec::new();
    while let Err(unfit) = fit(&spec, &host, &[]) {
        all.push(unfit);
        match unfit {
            Unfit::OtherZone => spec.zone = None,
            Unfit::OtherModel => spec.gpus = None,
            Unfit::Draining | Unfit::Impaired | Unfit::Dead => host.state = HostState::Active,
            Unfit::HadIt => unreachable!("the question is asked as of a first launch"),
            Unfit::Short(dimension) => {
                let mut free = host.free.each();
                free[dimension] = Sizes::needed(&spec).each()[dimension];
                host.free = Sizes::of(free);
            }
        }
    }
    all
}

/// By how much the host misses, per dimension.
fn misses(spec: &LaunchSpec, host: &Host) -> Sizes {
    Sizes::needed(spec).zip(host.free, |need, free| need.saturating_sub(free).max(0))
}

/// What is missing, of what is needed, in the dimension where that is most, in ten-thousandths.
fn share_missed(need: Sizes, missed: Sizes) -> i64 {
    let shares = need.zip(missed, |need, missed| missed.saturating_mul(10_000) / need.max(1));
    shares.each().into_iter().max().unwrap_or(0)
}

impl Fleet {
    /// What the fleet says to the launch as it stands.
    #[must_use]
    pub fn tree(&self, spec: &LaunchSpec) -> Tree {
        // What no check looks at is not copied for every host.
        let spec = &LaunchSpec { volumes: vec![], security_group_ids: vec![], ..spec.clone() };
        match self {
            Fleet::Hosts(hosts) => by_host(spec, hosts),
            Fleet::Classes(groups) => by_class(spec, groups),
        }
    }

    /// The zones in which the launch would have a host now: of those that it allows. Above 1,000
    /// hosts, those in which the index is sure of one.
    #[must_use]
    pub fn zones(&self, spec: &LaunchSpec) -> BTreeSet<String> {
        match self {
            Fleet::Hosts(hosts) => {
                let fits = |host: &&Host| fit(spec, host, &[]).is_ok();
                hosts.iter().filter(fits).map(|host| host.zone.clone()).collect()
            }
            Fleet::Classes(groups) => {
                let sure = |group: &&Group| group.falls_to(spec).is_none() && group.sure(spec) > 0;
                groups.iter().filter(sure).map(|group| group.zone.clone()).collect()
            }
        }
    }

    /// All zones that have hosts.
    #[must_use]
    pub fn all_zones(&self) -> BTreeSet<String> {
        match self {
            Fleet::Hosts(hosts) => hosts.iter().map(|host| host.zone.clone()).collect(),
            Fleet::Classes(groups) => groups.iter().map(|group| group.zone.clone()).collect(),
        }
    }
}

impl Group {
    fn falls_to(&self, spec: &LaunchSpec) -> Option<&'static str> {
        let is_model = |need: &GpuNeed| self.gpu_model.as_deref() == Some(need.model.as_str());
        if spec.zone.as_ref().is_some_and(|zone| *zone != self.zone) {
            Some("zone")
        } else if !spec.gpus.as_ref().is_none_or(is_model) {
            Some("gpu_model")
        } else {
            None
        }
    }
    fn hosts(&self) -> i64 {
        self.by_class.iter().sum::<i64>() + self.by_state.values().sum::<i64>()
    }
    /// How many hosts are in these classes.
    fn of_classes(&self, from: i64, to: i64) -> i64 {
        let classes = (0..).zip(&self.by_class).filter(|(class, _)| (from..to).contains(class));
        classes.map(|(_, count)| count).sum()
    }
    /// How many hosts surely have the room.
    fn sure(&self, spec: &LaunchSpec) -> i64 {
        let least = class_that_fits(Sizes::needed(spec)).unwrap_or(CLASS_MAX + 1);
        self.of_classes(least, CLASS_MAX + 1)
    }
}

fn by_host(spec: &LaunchSpec, hosts: &[Host]) -> Tree {
    let need = Sizes::needed(spec);
    let mut first: BTreeMap<Unfit, (i64, i64, Vec<i64>)> = BTreeMap::new();
    let mut alone: BTreeMap<&'static str, i64> = BTreeMap::new();
    let mut nearest: Option<((usize, i64), Near)> = None;
    let mut fits = 0;
    for host in hosts {
        let falls = falls_to(spec, host);
        let Some(before_all) = falls.first().copied() else {
            fits += 1;
            continue;
        };
        let missed = misses(spec, host);
        let (count, only, missing) = first.entry(before_all).or_default();
        *count += 1;
        if let Unfit::Short(dimension) = before_all {
            missing.push(missed.each()[dimension]);
        }
        if falls.len() == 1 {
            *only += 1;
            *alone.entry(named(before_all).0).or_default() += 1;
        }
        let others = falls.iter().filter(|one| !matches!(one, Unfit::Short(_))).count();
        let rank = (others, share_missed(need, missed));
        if nearest.as_ref().is_none_or(|(nearest, _)| rank < *nearest) {
            let checks = falls.iter().map(|one| named(*one).0).collect();
            let (zone, host_id) = (host.zone.clone(), host.id.to_string());
            let near = Near { host: host_id, zone, checks, short_by: missed };
            nearest = Some((rank, near));
        }
    }
    let check = |(unfit, (count, only, missing)): (Unfit, (i64, i64, Vec<i64>))| {
        let (check, state) = named(unfit);
        let unit = match unfit {
            Unfit::Short(dimension) => DIMENSIONS[dimension].1,
            _ => "",
        };
        let range = missing.iter().min().zip(missing.iter().max());
        let short_by = range.map(|(least, most)| ShortBy { least: *least, most: *most, unit });
        Check { check, state, hosts: count, alone: Some(only), short_by }
    };
    let most = alone.into_iter().max_by_key(|(_, hosts)| *hosts);
    Tree {
        hosts: hosts.len() as i64,
        fit: fits,
        counted: "host by host",
        checks: first.into_iter().map(check).collect(),
        binds: most.map(|(check, lets_through)| Binds { check, lets_through }),
        nearest: nearest.map(|(_, near)| near).filter(|_| fits == 0),
    }
}

fn by_class(spec: &LaunchSpec, groups: &[Group]) -> Tree {
    let need = Sizes::needed(spec);
    let mut counts: BTreeMap<(&'static str, Option<&'static str>), i64> = BTreeMap::new();
    let mut fit = 0;
    for group in groups {
        if let Some(check) = group.falls_to(spec) {
            *counts.entry((check, None)).or_default() += group.hosts();
            continue;
        }
        for (state, hosts) in &group.by_state {
            *counts.entry(("state", Some(state))).or_default() += hosts;
        }
        let may = class_that_may_fit(need, group.gpu_model.is_some());
        let sure = group.sure(spec);
        let full = group.of_classes(0, may);
        fit += sure;
        *counts.entry(("room", None)).or_default() += full;
        *counts.entry(("unsure", None)).or_default() += group.of_classes(may, CLASS_MAX + 1) - sure;
    }
    counts.retain(|_, hosts| *hosts > 0);
    let check = |((check, state), hosts): (&(&'static str, Option<&'static str>), &i64)| Check {
        check,
        state: *state,
        hosts: *hosts,
        alone: None,
        short_by: None,
    };
    Tree {
        hosts: groups.iter().map(Group::hosts).sum(),
        fit,
        counted: "by class",
        checks: counts.iter().map(check).collect(),
        binds: None,
        nearest: None,
    }
}

impl Tree {
    /// The tree in one sentence.
    #[must_use]
    pub fn words(&self) -> String {
        let count = |n: i64| format!("{n} {}", if n == 1 { "host" } else { "hosts" });
        if self.hosts == 0 {
            return "no hosts are registered".to_owned();
        }
        let told = |check: &Check| match (check.check, check.state, check.short_by) {
            (_, _, Some(ShortBy { least, most, unit })) if least == most => {
                format!("{} short by {least} {unit}", check.hosts)
            }
            (_, _, Some(ShortBy { least, most, unit })) => {
                format!("{} short by {least} to {most} {unit}", check.hosts)
            }
            (_, Some(state), _) => format!("{} {state}", check.hosts),
            ("zone", ..) => format!("{} in other zones", check.hosts),
            ("gpu_model", ..) => format!("{} without GPUs of the model", check.hosts),
            ("unsure", ..) => format!("{} that may have the room", check.hosts),
            _ => format!("{} too full", check.hosts),
        };
        let mut parts: Vec<String> = self.checks.iter().map(told).collect();
        if self.fit > 0 {
            parts.insert(0, format!("{} with room", self.fit));
        }
        let mut text = format!("{}: {} ({})", count(self.hosts), parts.join(", "), self.counted);
        if let Some(near) = &self.nearest {
            text += &format!("; the nearest is {} in {}", near.host, near.zone);
            let missed = (0..4).filter(|d| near.short_by.each()[*d] > 0);
            let missed: Vec<String> = missed
                .map(|d| format!("{} {}", near.short_by.each()[d], DIMENSIONS[d].1))
                .collect();
            if !missed.is_empty() {
                text += &format!(", short by {}", missed.join(" and "));
            }
        }
        text
    }
}

/// A type that could be asked for instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind<'k> {
    /// Its name.
    pub name: &'k str,
    /// What it needs.
    pub needs: Sizes,
    /// The model of its GPUs, if it has any.
    pub gpu_model: Option<&'k str>,
}

/// The types to suggest among those that fit, each with what it is: the closest and the largest,
/// and of GPUs fewer of the same model, and another model. A launch that needs no GPUs is offered
/// types with GPUs only where nothing else fits.
#[must_use]
pub fn kinds_instead<'a, 'k>(
    wanted: &Kind,
    fitting: &'a [Kind<'k>],
) -> Vec<(&'static str, &'a Kind<'k>)> {
    let closest = |of: &mut dyn Iterator<Item = &'a Kind<'k>>| {
        of.min_by_key(|kind| (distance(wanted.needs, kind.needs), kind.name))
    };
    let largest = |of: &mut dyn Iterator<Item = &'a Kind<'k>>| {
        of.max_by_key(|kind| (kind.needs.gpus, kind.needs.vcpus, kind.needs.memory_mib, kind.name))
    };
    let is_other = |kind: &&Kind| kind.name != wanted.name;
    let all = || fitting.iter().filter(is_other);
    let same = || all().filter(|kind| kind.gpu_model == wanted.gpu_model);
    let mut found = Vec::new();
    if wanted.gpu_model.is_some() {
        let fewer = closest(&mut same().filter(|kind| kind.needs.gpus < wanted.needs.gpus));
        found.push(("fewer GPUs of the same model", fewer));
        let has_others =
            |kind: &&Kind| kind.gpu_model.is_some() && kind.gpu_model != wanted.gpu_model;
        found.push(("GPUs of another model", closest(&mut all().filter(has_others))));
    }
    found.push(("the closest type that fits", closest(&mut same())));
    found.push(("the largest type that fits", largest(&mut same())));
    if found.iter().all(|(_, kind)| kind.is_none()) {
        let what = match wanted.gpu_model {
            Some(_) => "the closest type without GPUs",
            None => "the closest type that fits, with GPUs",
        };
        found.push((what, closest(&mut all())));
    }
    let mut named = BTreeSet::new();
    let once = |(what, kind): (&'static str, Option<&'a Kind<'k>>)| {
        let kind = kind.filter(|kind| named.insert(kind.name))?;
        Some((what, kind))
    };
    found.into_iter().filter_map(once).collect()
}

/// How far two sizes are from each other: the sum of the dimensions' differences, each as a part of
/// the greater, in ten-thousandths.
fn distance(a: Sizes, b: Sizes) -> i64 {
    let parts = a.zip(b, |a, b| a.abs_diff(b).min(1 << 40) as i64 * 10_000 / a.max(b).max(1));
    parts.each().into_iter().sum()
}

/// What a refusal adds in a few words: the zones in which the launch would fit if it asked for
/// another, or else the largest room on one host. `which` says of which hosts that is.
#[must_use]
pub(crate) fn instead(spec: &LaunchSpec, hosts: &[Host], which: &str) -> String {
    let anywhere = LaunchSpec { zone: None, ..spec.clone() };
    let fits = |host: &&Host| fit(&anywhere, host, &[]).is_ok();
    let zones: BTreeSet<&str> = hosts.iter().filter(fits).map(|host| host.zone.as_str()).collect();
    if !zones.is_empty() {
        let named: Vec<&str> = zones.iter().copied().take(ZONES_NAMED_MAX).collect();
        return format!("; it would fit in {}", named.join(", "));
    }
    let active = hosts.iter().filter(|host| host.state == HostState::Active);
    let has_model = |host: &&Host| host.has_model(spec.gpus.as_ref());
    let by_room = |host: &&Host| (host.free.gpus, host.free.vcpus, host.free.memory_mib);
    let of_model = active.clone().filter(has_model).max_by_key(by_room);
    let plain = |host: &&Host| (host.free.vcpus, host.free.memory_mib);
    let best = match &spec.gpus {
        Some(_) => of_model.or_else(|| active.max_by_key(plain)),
        None => active.max_by_key(plain),
    };
    let Some(host) = best.filter(|host| host.free.vcpus > 0) else { return String::new() };
    let (gib, tenth) = (host.free.memory_mib / 1024, host.free.memory_mib % 1024 * 10 / 1024);
    let gib = if tenth == 0 { gib.to_string() } else { format!("{gib}.{tenth}") };
    let gpus = match &host.gpu_model {
        Some(model) if spec.gpus.is_some() => format!(", {} {model}", host.free.gpus),
        _ => String::new(),
    };
    let (vcpus, names) = (host.free.vcpus, DIMENSION_NAMES);
    format!(
        "; the largest room free on {which} is {vcpus} {} and {gib} GiB{gpus} in {}",
        names[0], host.zone
    )
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
