//! Instances that are nothing: they start after a while, and run until they are told to stop.

use crate::driver::{Driver, Happened};
use crate::wire::InstanceKey;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Starts that end within this many milliseconds are reported together.
const TOGETHER_MS: u64 = 4;

/// The driver of simulated hosts.
pub(crate) struct Simulated {
    /// How long a start takes: from, to, in milliseconds.
    start_ms: (u64, u64),
    chance: Chance,
    /// Starts under way, by when they end.
    starts: BTreeMap<(Instant, InstanceKey), u32>,
}

impl Simulated {
    pub(crate) fn new(start_ms: (u64, u64), seed: u64) -> Self {
        Simulated { start_ms, chance: Chance(seed), starts: BTreeMap::new() }
    }
}

#[async_trait]
impl Driver for Simulated {
    fn start(&mut self, key: &InstanceKey, generation: u32) {
        let (from, to) = self.start_ms;
        let takes = from + self.chance.below(to.saturating_sub(from) + 1);
        let takes = Duration::from_millis(takes.next_multiple_of(TOGETHER_MS));
        self.starts.insert((Instant::now() + takes, key.clone()), generation);
    }

    fn reboot(&mut self, _: &InstanceKey, _: u32) {}

    fn stop(&mut self, key: &InstanceKey, generation: u32) {
        self.starts.retain(|(_, starting), of| starting != key || *of > generation);
    }

    async fn happened(&mut self) -> Vec<Happened> {
        let Some(((due, _), _)) = self.starts.first_key_value() else { return pending().await };
        sleep_until(*due).await;
        let now = Instant::now();
        let mut started = Vec::new();
        while let Some(first) = self.starts.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, key), generation) = first.remove_entry();
            started.push(Happened::Started(key, generation));
        }
        started
    }
}

/// Chance that spreads hosts out and decides nothing (SplitMix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}
