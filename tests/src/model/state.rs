//! A state of the model: what is stored, what was sent, how the hosts are, and what may still
//! happen.

use std::sync::Arc;

/// What is stored: the cell of each key, in the order of the keys' numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Cells(Arc<[(u32, u32)]>);

impl Cells {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }

    /// The cell of a key.
    pub(super) fn at(&self, key: u32) -> Option<u32> {
        self.0.binary_search_by_key(&key, |(key, _)| *key).ok().map(|at| self.0[at].1)
    }

    /// What stands after a transaction.
    pub(super) fn after(&self, commit: &[(u32, Option<u32>)]) -> Cells {
        let mut cells = self.0.to_vec();
        for (key, cell) in commit {
            match (cells.binary_search_by_key(key, |(key, _)| *key), cell) {
                (Ok(at), Some(cell)) => cells[at].1 = *cell,
                (Ok(at), None) => drop(cells.remove(at)),
                (Err(at), Some(cell)) => cells.insert(at, (*key, *cell)),
                (Err(_), None) => {}
            }
        }
        Cells(cells.into())
    }
}

/// The events that may be delivered, any number of times each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Sent(Arc<[u32]>);

impl Sent {
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// These, and what is published now.
    pub(super) fn and(&self, published: &[u32]) -> Sent {
        if published.iter().all(|event| self.0.binary_search(event).is_ok()) {
            return self.clone();
        }
        let mut events = self.0.to_vec();
        events.extend(published);
        events.sort_unstable();
        events.dedup();
        Sent(events.into())
    }

    /// All but one.
    pub(super) fn without(&self, event: u32) -> Sent {
        Sent(self.0.iter().copied().filter(|other| *other != event).collect())
    }
}

/// What may still happen besides deliveries: how often each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Left {
    /// Functions that die after their commit and before they publish.
    pub crashes: u8,
    /// Events that are lost for good.
    pub losses: u8,
    /// What runs, or is started, ends by itself.
    pub failures: u8,
    /// Agents that are killed and started again.
    pub restarts: u8,
    /// Hosts that are gone with all that ran on them, and declared dead some time later.
    pub deaths: u8,
    /// Deadlines that pass.
    pub deadlines: u8,
    /// Deliveries that others come before, between their look and their commit.
    pub overlaps: u8,
    /// Stops, starts and terminations that users ask for, of any instance.
    pub stops: u8,
    /// See `stops`.
    pub starts: u8,
    /// See `stops`.
    pub terminations: u8,
}

/// A function that has looked and not yet committed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Looking {
    pub(super) to: u8,
    pub(super) event: u32,
    /// What it has seen.
    pub(super) earlier: Cells,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) cells: Cells,
    pub(super) sent: Sent,
    /// The hosts' numbers, in the order of the hosts.
    pub(super) machines: Arc<[u32]>,
    pub(super) looking: Option<Looking>,
    pub(super) left: Left,
    /// How many deadlines have passed.
    pub(super) phase: u8,
    /// Whether anything was lost that only the sweeper brings back.
    pub(super) lost: bool,
    /// The laws that do not hold, a bit for each.
    pub(super) broken: u16,
}
