//! The machine's clock and its source of chance.

use crate::{Chance, Clock};
use eventplane_domain::Millis;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place where the plane reads a clock")]
    fn now(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// How many bytes are asked of the system at once: a draw takes 8.
const DRAWN_BYTES: usize = 1024;

/// The system's source of chance, good for secrets. It is asked for many draws at once; a byte that
/// was handed out is wiped.
pub struct OsChance(Mutex<Drawn>);

struct Drawn {
    bytes: [u8; DRAWN_BYTES],
    /// How many of `bytes` are handed out.
    used: usize,
}

impl Default for OsChance {
    fn default() -> Self {
        OsChance(Mutex::new(Drawn { bytes: [0; DRAWN_BYTES], used: DRAWN_BYTES }))
    }
}

impl Chance for OsChance {
    /// # Panics
    /// When the system has no chance to give: nothing may go on without it.
    fn fill(&self, bytes: &mut [u8]) {
        let draw = |into: &mut [u8]| getrandom::fill(into).expect("the system gives random bytes");
        if bytes.len() > DRAWN_BYTES {
            return draw(bytes);
        }
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.used + bytes.len() > DRAWN_BYTES {
            draw(&mut drawn.bytes);
            drawn.used = 0;
        }
        let from = drawn.used;
        drawn.used += bytes.len();
        let taken = &mut drawn.bytes[from..from + bytes.len()];
        bytes.copy_from_slice(taken);
        taken.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_draw_comes_twice() {
        let chance = OsChance::default();
        let draws: HashSet<u64> = (0..1000).map(|_| chance.draw()).collect();
        assert_eq!(draws.len(), 1000);
        assert!(!draws.contains(&0));
    }

    #[test]
    fn chance_does_not_end_however_little_is_asked_for_at_once() {
        let chance = OsChance::default();
        let mut drawn = [0; 2 * DRAWN_BYTES];
        drawn.chunks_mut(1).for_each(|one| chance.fill(one));
        assert!(drawn.chunks(32).all(|part| part.iter().any(|byte| *byte != 0)));
    }

    #[test]
    fn a_long_secret_is_filled_to_its_end() {
        let mut secret = vec![0; DRAWN_BYTES + 64];
        OsChance::default().fill(&mut secret);
        assert!(secret.chunks(32).all(|part| part.iter().any(|byte| *byte != 0)));
    }
}
