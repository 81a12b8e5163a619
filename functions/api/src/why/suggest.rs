//! The smallest changes with which a launch would run as everything stands: pure, given the
//! catalogue's types and what was looked at.

use super::grounds::{Grounds, compared, of_kind};
use crate::catalogue::InstanceType;
use eventplane_capacity::why::kinds_instead;
use eventplane_domain::{LaunchSpec, VolumeSpec};
use eventplane_storage::VOLUME_TYPES;

/// How many suggestions there are at most.
pub(super) const SUGGESTIONS_MAX: usize = 8;
/// How many of one kind (other zones, other subnets) there are at most.
const OF_A_KIND_MAX: usize = 2;

/// A launch that would run, and what differs in it.
#[derive(Debug, Clone)]
pub(super) struct Suggestion {
    pub(super) words: String,
    pub(super) spec: LaunchSpec,
}

/// A launch in the making.
#[derive(Clone)]
struct Draft {
    spec: LaunchSpec,
    words: Vec<String>,
    /// Which of its parts have been changed: place, volumes, type. Each is changed once.
    changed: [bool; 3],
}

impl Draft {
    fn with(&self, part: usize, words: String, spec: LaunchSpec) -> Draft {
        let mut changed = self.changed;
        changed[part] = true;
        Draft { spec, words: [&self.words[..], &[words]].concat(), changed }
    }

    /// The launch with one change more.
    fn next(&self, grounds: &Grounds, kinds: &[&InstanceType]) -> Vec<Draft> {
        let [place, size, kind] = self.changed;
        let mut drafts = Vec::new();
        if !place {
            drafts.extend(places(self, grounds));
        }
        if !size {
            drafts.extend(volumes(self, grounds));
        }
        if !kind {
            drafts.extend(others(self, grounds, kinds));
        }
        drafts
    }

    /// The launch as it would run, if it would: in one zone if elsewhere something is short.
    fn running(&self, grounds: &Grounds) -> Option<Draft> {
        let spec = grounds.pinned(&self.spec)?;
        let mut draft = self.clone();
        if let Some(zone) = spec.zone.as_ref().filter(|_| spec.zone != self.spec.zone) {
            draft.words.push(format!("in {zone}: elsewhere something else is short"));
        }
        Some(Draft { spec, ..draft }).filter(|draft| !draft.words.is_empty())
    }
}

/// What would run: with one change if there is such a thing, otherwise with two, or three. `words`
/// says what was left out already; `kinds` are the types that the launch's image is made for.
pub(super) fn suggest(
    spec: LaunchSpec,
    words: Vec<String>,
    grounds: &Grounds,
    kinds: &[&InstanceType],
) -> Vec<Suggestion> {
    let asked = Draft { spec, words, changed: [false; 3] };
    let mut kept: Vec<Suggestion> = Vec::new();
    let mut drafts = vec![asked.clone()];
    let mut running: Vec<Draft> = asked.running(grounds).into_iter().collect();
    for _ in asked.changed {
        if !running.is_empty() {
            break;
        }
        drafts = drafts.iter().flat_map(|draft| draft.next(grounds, kinds)).collect();
        running.extend(drafts.iter().filter_map(|draft| draft.running(grounds)));
    }
    let least = running.iter().map(|draft| draft.words.len()).min().unwrap_or(0);
    running.retain(|draft| draft.words.len() == least);
    for Draft { spec, words, .. } in running {
        if kept.len() < SUGGESTIONS_MAX && kept.iter().all(|other| other.spec != spec) {
            kept.push(Suggestion { words: words.join("; "), spec });
        }
    }
    kept
}

/// Which part of a draft is changed.
const PLACE: usize = 0;
const VOLUMES: usize = 1;
const KIND: usize = 2;

/// Another address, another zone, another subnet.
fn places(asked: &Draft, grounds: &Grounds) -> Vec<Draft> {
    let spec = &asked.spec;
    let mut drafts = Vec::new();
    if let Some(address) = &spec.private_ip {
        let words = format!("any free address of the subnet instead of {address}");
        drafts.push(asked.with(PLACE, words, LaunchSpec { private_ip: None, ..spec.clone() }));
    }
    let elsewhere = LaunchSpec { subnet_id: None, private_ip: None, ..spec.clone() };
    if let Some(zone) = &spec.zone {
        let others = grounds.fleet.all_zones().into_iter().filter(|other| other != zone);
        drafts.extend(others.map(|other| {
            let words = format!("{other} instead of {zone}");
            asked.with(PLACE, words, LaunchSpec { zone: Some(other), ..elsewhere.clone() })
        }));
    }
    let rooms = grounds.network.rooms.iter();
    let mut rooms: Vec<_> = rooms
        .filter(|room| spec.subnet_id.as_ref() != Some(&room.subnet.subnet_id))
        .filter(|room| room.addresses.free > 0)
        .collect();
    // First those that leave the zone as it is.
    rooms.sort_by_key(|room| spec.zone.as_ref().is_some_and(|zone| *zone != room.subnet.zone));
    drafts.extend(rooms.into_iter().map(|room| {
        let (id, zone, free) = (&room.subnet.subnet_id, &room.subnet.zone, room.addresses.free);
        let words = format!("in the subnet {id} of {zone}, which has {free} free addresses");
        let (zone, subnet_id) = (Some(zone.clone()), Some(id.clone()));
        asked.with(PLACE, words, LaunchSpec { zone, subnet_id, ..elsewhere.clone() })
    }));
    few(drafts, grounds)
}

/// Those that would run first, a few of each kind: the others serve as beginnings of larger changes.
fn few(drafts: Vec<Draft>, grounds: &Grounds) -> Vec<Draft> {
    let of = |draft: &Draft| (draft.spec.subnet_id.is_some(), draft.spec.private_ip.is_some());
    let (mut good, rest): (Vec<Draft>, Vec<Draft>) =
        drafts.into_iter().partition(|draft| grounds.pinned(&draft.spec).is_some());
    let mut kinds = Vec::new();
    good.retain(|draft| {
        kinds.push(of(draft));
        kinds.iter().filter(|kind| **kind == of(draft)).count() <= OF_A_KIND_MAX
    });
    good.extend(rest);
    good
}

/// Smaller volumes, or volumes of other types, where those that are asked for have no room.
fn volumes(draft: &Draft, grounds: &Grounds) -> Vec<Draft> {
    let spec = &draft.spec;
    let zones = match &spec.zone {
        Some(zone) => [zone.clone()].into(),
        None => grounds.fleet.all_zones(),
    };
    if zones.iter().any(|zone| grounds.storage.fit(zone, &spec.volumes)) {
        return vec![];
    }
    let mut drafts: Vec<Draft> = Vec::new();
    for zone in &zones {
        let smaller = grounds.storage.smaller(zone, &spec.volumes);
        let types = VOLUME_TYPES.iter();
        let of_types = types.filter_map(|kind| grounds.storage.of_type(zone, &spec.volumes, kind));
        for volumes in smaller.into_iter().chain(of_types) {
            if drafts.iter().all(|other| other.spec.volumes != volumes) {
                let words = told(&spec.volumes, &volumes);
                drafts.push(draft.with(VOLUMES, words, LaunchSpec { volumes, ..spec.clone() }));
            }
        }
    }
    drafts
}

/// What differs in the volumes, in words.
fn told(asked: &[VolumeSpec], instead: &[VolumeSpec]) -> String {
    let one = |volume: &VolumeSpec| {
        let VolumeSpec { volume_type, size_gib, iops, .. } = volume;
        match iops {
            0 => format!("{size_gib} GiB of {volume_type}"),
            iops => format!("{size_gib} GiB of {volume_type} with {iops} IOPS"),
        }
    };
    let differ = asked.iter().zip(instead).filter(|(asked, instead)| asked != instead);
    let words = differ.map(|(asked, instead)| {
        format!("{} with {} instead of {}", asked.device, one(instead), one(asked))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Other types of the catalogue, where the one that is asked for has no host.
fn others(draft: &Draft, grounds: &Grounds, kinds: &[&InstanceType]) -> Vec<Draft> {
    let spec = &draft.spec;
    if !grounds.fleet.zones(spec).is_empty() {
        return vec![];
    }
    let model = |spec: &LaunchSpec| spec.gpus.as_ref().map(|gpus| gpus.model.clone());
    let specs: Vec<LaunchSpec> = kinds.iter().map(|kind| of_kind(spec, kind)).collect();
    let fitting: Vec<&LaunchSpec> =
        specs.iter().filter(|spec| grounds.pinned(spec).is_some()).collect();
    let models: Vec<Option<String>> = fitting.iter().map(|spec| model(spec)).collect();
    let compare = fitting.iter().zip(&models);
    let fitting_kinds: Vec<_> = compare
        .map(|(spec, model)| compared(spec, &spec.instance_type, model.as_deref()))
        .collect();
    let wanted_model = model(spec);
    let wanted = compared(spec, &spec.instance_type, wanted_model.as_deref());
    let found = kinds_instead(&wanted, &fitting_kinds);
    let with = |(what, name): (&str, &str)| {
        let of_name = fitting.iter().find(|spec| spec.instance_type == name)?;
        let words = format!("{name} instead of {}: {what}", spec.instance_type);
        Some(draft.with(KIND, words, (*of_name).clone()))
    };
    found.into_iter().filter_map(|(what, kind)| with((what, kind.name))).collect()
}
