//! What simulated hosts are: a varied fleet, the same for the same number of hosts, or hosts that
//! are all alike.

use crate::wire::{Gpus, Registration};

/// How many racks a zone has.
const RACKS: usize = 4;
/// Every so many hosts one has GPUs.
const GPU_EVERY: usize = 6;
/// The sizes that take turns in a varied fleet.
const SIZES: [HostSize; 3] = [
    HostSize { vcpus: 64, memory_mib: 256 * 1024, network_mbps: 25_000 },
    HostSize { vcpus: 96, memory_mib: 384 * 1024, network_mbps: 50_000 },
    HostSize { vcpus: 48, memory_mib: 192 * 1024, network_mbps: 25_000 },
];

/// The size of a simulated host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostSize {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Network bandwidth in Mbps.
    pub network_mbps: u32,
}

/// How host number `index` introduces itself, its id beginning with `prefix`. Zones take turns,
/// then racks. Hosts of a given size have no GPUs; without one, sizes vary and some hosts have
/// GPUs.
#[must_use]
pub fn registration(
    prefix: &str,
    index: usize,
    zones: &[String],
    size: Option<HostSize>,
) -> Registration {
    let zone = &zones[index % zones.len().max(1)];
    let round = index / zones.len().max(1);
    let HostSize { vcpus, memory_mib, network_mbps } = size.unwrap_or(SIZES[round % SIZES.len()]);
    let has_gpus = size.is_none() && index % GPU_EVERY == GPU_EVERY - 1;
    let gpus = has_gpus.then(|| Gpus { model: "T4".to_owned(), count: 4 });
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
            (0..12).map(|index| registration("host", index, &zones, None)).collect();
        let mut per_zone = BTreeMap::new();
        for host in &hosts {
            *per_zone.entry(&host.zone).or_insert(0) += 1;
        }
        assert_eq!(per_zone.into_values().collect::<Vec<_>>(), [4, 4, 4]);
        assert_eq!(hosts.iter().filter(|host| host.gpus.is_some()).count(), 2);
        let ids: BTreeSet<_> = hosts.iter().map(|host| &host.host_id).collect();
        assert_eq!(ids.len(), 12);
    }
    #[test]
    fn hosts_of_a_given_size_are_all_alike() {
        let zones = ["a", "b"].map(str::to_owned);
        let size = HostSize { vcpus: 128, memory_mib: 512 * 1024, network_mbps: 50_000 };
        for index in 0..12 {
            let host = registration("host", index, &zones, Some(size));
            let is = (host.vcpus, host.memory_mib, host.network_mbps);
            assert_eq!(is, (size.vcpus, size.memory_mib, size.network_mbps));
            assert_eq!(host.gpus, None);
        }
    }
}
