//! What the steps would say to a launch as everything stands: the composition of their trees.

use crate::catalogue::InstanceType;
use eventplane_capacity::fleet::Sizes;
use eventplane_capacity::why::{Fleet, Kind};
use eventplane_domain::LaunchSpec;
use eventplane_network::why as network;
use eventplane_storage::why as storage;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Hosts, subnets and pools as they stand.
pub(super) struct Grounds {
    pub(super) fleet: Fleet,
    pub(super) network: network::Grounds,
    pub(super) storage: storage::Rooms,
}

/// Which steps have still to take what the launch needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) capacity: bool,
    pub(super) network: bool,
    pub(super) storage: bool,
}

impl Grounds {
    /// The zones in which the launch would have a host, and those of them in which it would have
    /// an address and volumes too.
    fn zones(&self, spec: &LaunchSpec) -> (BTreeSet<String>, BTreeSet<String>) {
        let with_host = self.fleet.zones(spec);
        let good = |zone: &&String| {
            self.network.tree(spec, zone).fits && self.storage.fit(zone, &spec.volumes)
        };
        let whole = with_host.iter().filter(good).cloned().collect();
        (with_host, whole)
    }

    /// Whether the launch would run, in whichever zone it is placed.
    pub(super) fn fit(&self, spec: &LaunchSpec) -> bool {
        let (with_host, whole) = self.zones(spec);
        !whole.is_empty() && with_host == whole
    }

    /// The launch, in one zone if it would not run in each that it may be placed in; `None` if it
    /// would run in none.
    pub(super) fn pinned(&self, spec: &LaunchSpec) -> Option<LaunchSpec> {
        let (with_host, whole) = self.zones(spec);
        let first = whole.first()?.clone();
        let zone = if with_host == whole { spec.zone.clone() } else { Some(first) };
        Some(LaunchSpec { zone, ..spec.clone() })
    }

    /// The trees of the steps that are still open, and whether the launch would get past them all.
    pub(super) fn trees(
        &self,
        spec: &LaunchSpec,
        open: Open,
    ) -> (Map<String, Value>, Vec<String>, bool) {
        let (mut trees, mut words, mut fits) = (Map::new(), Vec::new(), true);
        let mut zones: BTreeSet<String> = spec.zone.iter().cloned().collect();
        if open.capacity {
            let tree = self.fleet.tree(spec);
            fits &= tree.fit > 0;
            words.push(tree.words());
            let with_host = self.fleet.zones(spec);
            if zones.is_empty() {
                zones = if with_host.is_empty() { self.fleet.all_zones() } else { with_host };
            }
            trees.insert("capacity".to_owned(), json!(tree));
        }
        if open.network {
            let all: Vec<_> = zones.iter().map(|zone| self.network.tree(spec, zone)).collect();
            fits &= all.iter().all(|zone| zone.fits);
            words.extend(all.iter().filter_map(|zone| Some(zone.reason.as_ref()?.message.clone())));
            trees.insert("network".to_owned(), json!({ "zones": all }));
        }
        if open.storage {
            let of = |zone: &String| self.storage.tree(zone, &spec.volumes);
            let all: Vec<_> = zones.iter().map(of).collect();
            fits &= all.iter().all(|zone| zone.fits);
            words.extend(all.iter().filter(|zone| !zone.fits).map(storage::ZoneTree::words));
            trees.insert("storage".to_owned(), json!({ "zones": all }));
        }
        words.dedup();
        (trees, words, fits)
    }
}

/// The launch with another type.
pub(super) fn of_kind(spec: &LaunchSpec, kind: &InstanceType) -> LaunchSpec {
    LaunchSpec {
        instance_type: kind.instance_type.clone(),
        vcpus: kind.vcpus,
        memory_mib: kind.memory_mib,
        network_mbps: kind.network_mbps,
        gpus: kind.gpus.clone(),
        ..spec.clone()
    }
}

/// The type as the capacity step compares it.
pub(super) fn compared<'k>(spec: &LaunchSpec, name: &'k str, model: Option<&'k str>) -> Kind<'k> {
    Kind { name, needs: Sizes::needed(spec), gpu_model: model }
}
