//! The step's part of the ledger: what a receipt holds of a host, and whether a host adds up.

use crate::claim::{held, placement};
use crate::host::{Host, Sizes};
use crate::why::DIMENSIONS;
use eventplane_domain::HostId;
use eventplane_engine::{Fault, Receipt};
use eventplane_store::{FaultKind, StoreFault};

/// One dimension of a host in which free and held are not total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// In what: `vCPUs`, `MiB`, `Mbps`, `GPUs`.
    pub unit: &'static str,
    /// All that there is.
    pub total: i64,
    /// What nobody holds.
    pub free: i64,
    /// What receipts hold.
    pub held: i64,
}

/// The host that the receipt holds room of, and how much.
///
/// # Errors
/// A fault when it names a host and not how much: that would be lost if it were ignored.
pub fn held_by(receipt: &Receipt) -> Result<Option<(HostId, Sizes)>, Fault> {
    match (placement(receipt), held(receipt)) {
        (None, None) => Ok(None),
        (Some(placement), Some(room)) => Ok(Some((placement.host, room))),
        _ => {
            let message = format!("not a claim on room: {:?}", receipt.claim.keys());
            Err(Fault::Store(StoreFault::new(FaultKind::Corrupt, message)))
        }
    }
}

/// The dimensions in which the host's free room and what receipts hold of it are not its total, or
/// in which something is below zero.
#[must_use]
pub fn differences(host: &Host, held: impl Iterator<Item = Sizes>) -> Vec<Difference> {
    let held = held.fold(Sizes::default(), Sizes::plus).each();
    let (total, free) = (host.total.each(), host.free.each());
    let is_off = |d: &usize| total[*d] - free[*d] != held[*d] || free[*d] < 0;
    let difference = |d: usize| Difference {
        unit: DIMENSIONS[d].1,
        total: total[d],
        free: free[d],
        held: held[d],
    };
    (0..DIMENSIONS.len()).filter(is_off).map(difference).collect()
}

/// Room in words, such as `2 vCPUs, 1024 MiB, 64 Mbps`.
#[must_use]
pub fn words(room: Sizes) -> String {
    let parts = room.each().into_iter().zip(DIMENSIONS).filter(|(size, _)| *size != 0);
    parts.map(|(size, (_, unit))| format!("{size} {unit}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostState;

    #[test]
    fn a_host_adds_up_when_free_and_held_are_total_in_every_dimension() {
        let total = Sizes { vcpus: 8, memory_mib: 4096, network_mbps: 100, gpus: 1 };
        let host = |free: Sizes| Host {
            id: HostId::parse("h-1").expect("a host id"),
            zone: "a".to_owned(),
            rack: "r".to_owned(),
            state: HostState::Active,
            gpu_model: Some("T4".to_owned()),
            total,
            free,
            is_enrolled: false,
        };
        let one = Sizes { vcpus: 2, memory_mib: 1024, network_mbps: 10, gpus: 0 };
        let left = total.minus(one).minus(one);
        assert_eq!(differences(&host(left), [one, one].into_iter()), []);
        assert_eq!(differences(&host(total), std::iter::empty()), []);
        let off = differences(&host(Sizes { vcpus: 3, gpus: 2, ..left }), [one, one].into_iter());
        let off: Vec<_> = off.iter().map(|one| (one.unit, one.free, one.held)).collect();
        assert_eq!(off, [("vCPUs", 3, 4), ("GPUs", 2, 0)]);
        let over = Sizes { vcpus: -1, ..total };
        let nine = Sizes { vcpus: 9, ..Sizes::default() };
        assert_eq!(differences(&host(over), std::iter::once(nine)).len(), 1, "over-committed");
        assert_eq!(words(one), "2 vCPUs, 1024 MiB, 10 Mbps");
    }
}
