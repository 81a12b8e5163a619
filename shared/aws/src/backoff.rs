//! Waiting before something is tried again: longer each time, and never at the same moment as
//! others.
//!
//! Source: "Exponential backoff and jitter", AWS architecture blog.

use eventplane_engine::Chance;
use std::time::Duration;

/// The longest first wait, in milliseconds; it doubles with every try.
const FIRST_MS: u64 = 20;
/// The longest wait of all, in milliseconds.
const LONGEST_MS: u64 = 640;

/// Waits before try number `tries` + 1.
pub(crate) async fn pause(chance: &dyn Chance, tries: u32) {
    tokio::time::sleep(Duration::from_millis(wait_ms(chance.draw(), tries))).await;
}

/// Between one millisecond and the whole of what this try may wait.
fn wait_ms(drawn: u64, tries: u32) -> u64 {
    let longest = FIRST_MS.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_MS);
    1 + drawn % longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_differ() {
        for (tries, longest) in [(1, 20), (2, 40), (4, 160), (6, 640), (40, 640)] {
            assert_eq!(wait_ms(longest - 1, tries), longest);
            assert_eq!(wait_ms(longest, tries), 1);
        }
    }
}
