//! What simulated hosts are: a varied fleet, the same for the same number of hosts.

use crate::wire::{Gpus, Registration};

/// How many racks a zone has.
const RACKS: usize = 4;
/// Every so many hosts one has GPUs.
const GPU_EVERY: usize = 6;
/// Virtual CPUs, memory in MiB, and network bandwidth in Mbps of the hosts without GPUs.
const SIZES: [(u32, u32, u32); 3] =
    [(64, 256 * 1024, 25_000), (96, 384 * 1024, 50_000), (48, 192 * 1024, 25_000)];

/// How host number `index` introduces itself, its id beginning with `prefix`. Zones take turns, then racks.
#[must_use]
pub fn registration(prefix: &str, index: usize, zones: &[String]) -> Registration {
    let zone = &zones[index % zones.len().max(1)];
    let round = index / zones.len().max(1);
    let (vcpus, memory_mib, network_mbps) = SIZES[round % SIZES.len()];
    let gpus =
        (index % GPU_EVERY == GPU_EVERY - 1).then(|| Gpus { model: "T4".to_owned(), count: 4 });
    Registration {
        host_id: format!("{prefix}-{:04}", index + 1),
        zone: zone.clone(),
        rack: format!("{zone}-r{}", round % RACKS + 1),
        vcpus,
        memory_mib,
        network_mbps,
        gpus,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn twelve_hosts_lie_evenly_in_three_zones_and_some_have_gpus() {
        let zones = ["a", "b", "c"].map(str::to_owned);
        let hosts: Vec<Registration> =
            (0..12).map(|index| registration("host", index, &zones)).collect();
        let mut per_zone = BTreeMap::new();
        for host in &hosts {
            *per_zone.entry(&host.zone).or_insert(0) += 1;
        }
        assert_eq!(per_zone.into_values().collect::<Vec<_>>(), [4, 4, 4]);
        assert_eq!(hosts.iter().filter(|host| host.gpus.is_some()).count(), 2);
        let ids: BTreeSet<_> = hosts.iter().map(|host| &host.host_id).collect();
        assert_eq!(ids.len(), 12);
    }
}
