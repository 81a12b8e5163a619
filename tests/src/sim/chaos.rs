//! Where a simulated history gets its chances from: one seed, one history.

use eventplane_domain::Millis;
use eventplane_engine::{Chance, Clock, Dice};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

/// The one source of chance, time and trouble.
pub struct Chaos {
    dice: Mutex<Dice>,
    now: AtomicI64,
    /// Whether calls fail now and then.
    faults: AtomicBool,
    writes: AtomicU64,
}

/// One call in so many fails, while calls fail.
const FAILS_ONE_IN: usize = 60;

impl Chaos {
    /// The chances of this seed.
    #[must_use]
    pub fn new(seed: u64, start: Millis) -> Self {
        Chaos {
            dice: Mutex::new(Dice::new(seed)),
            now: AtomicI64::new(start.0),
            faults: AtomicBool::new(false),
            writes: AtomicU64::new(0),
        }
    }

    fn dice(&self) -> std::sync::MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// A number below `n`.
    pub fn below(&self, n: usize) -> usize {
        self.dice().below(n)
    }
    /// True once in `n` times.
    pub fn draws(&self, n: usize) -> bool {
        self.below(n) == 0
    }
    /// Whether calls fail from now on.
    pub fn set_faults(&self, faults: bool) {
        self.faults.store(faults, Ordering::SeqCst);
    }

    /// Whether anything goes wrong now.
    pub fn has_faults(&self) -> bool {
        self.faults.load(Ordering::SeqCst)
    }
    /// Whether this call fails.
    pub fn fails(&self) -> bool {
        self.faults.load(Ordering::SeqCst) && self.draws(FAILS_ONE_IN)
    }
    /// Time passes.
    pub fn pass(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }
    /// Something was committed.
    pub fn written(&self) {
        self.writes.fetch_add(1, Ordering::SeqCst);
    }
    /// How many transactions were committed.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }
    /// Lets others come first.
    pub fn pause(&self) -> Pause {
        Pause(false)
    }
}

impl Clock for Chaos {
    fn now(&self) -> Millis {
        Millis(self.now.load(Ordering::SeqCst))
    }
}

impl Chance for Chaos {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.dice().draw().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}

/// Waits until it is polled once more.
pub struct Pause(bool);

impl Future for Pause {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
