//! Where a history gets its chances from, its time and its trouble: one seed, one history.

use super::fault::{KINDS, Kind};
use super::setup::Setup;
use eventplane_domain::Millis;
use eventplane_engine::{Chance, Clock, Dice};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// When every history begins.
pub(super) const START: Millis = Millis(1_800_000_000_000);

/// How often something happened: (what, where).
pub type Counts = BTreeMap<(&'static str, String), u64>;

/// The one source of chance, time and trouble.
pub struct Chaos(Mutex<Inner>);

struct Inner {
    dice: Dice,
    /// Each kind of trouble has chances of its own: without it, the others strike as before.
    of_kinds: Vec<Dice>,
    setup: Option<Setup>,
    /// Whether anything goes wrong now.
    troubled: bool,
    now: i64,
    windows: Vec<Window>,
    counts: Counts,
    told: Option<Vec<String>>,
    worker: Worker,
    writes: u64,
}

/// Trouble that lasts.
struct Window {
    kind: Kind,
    target: String,
    until: i64,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Worker {
    /// The function, or `api`, `agent`, `sweeper`.
    pub(crate) name: &'static str,
    /// How far its clock is off, in milliseconds.
    pub(crate) skew_ms: i64,
    /// Whether it is of a later version.
    pub(crate) is_later: bool,
    /// Whether it has committed anything in its turns, and published.
    pub(crate) committed: bool,
    pub(crate) published: bool,
    /// Until when it waits for nothing but time.
    pub(crate) sleeps_until: i64,
}

impl Worker {
    pub(crate) const fn new(name: &'static str) -> Worker {
        let (skew_ms, sleeps_until) = (0, 0);
        Worker { name, skew_ms, is_later: false, committed: false, published: false, sleeps_until }
    }
}

impl Chaos {
    /// No chances yet: see [`Chaos::begin`].
    #[must_use]
    pub fn new() -> Self {
        Chaos(Mutex::new(Inner {
            dice: Dice::new(0),
            of_kinds: vec![],
            setup: None,
            troubled: false,
            now: START.0,
            windows: vec![],
            counts: Counts::new(),
            told: None,
            worker: Worker::new("nobody"),
            writes: 0,
        }))
    }

    /// Begins a history.
    pub fn begin(&self, setup: Setup, tells: bool) {
        let of_kind = |(kind, ..): &(Kind, &str, &str)| {
            Dice::new(setup.seed.rotate_left(7) ^ (u64::from(*kind as u8) + 1) << 56)
        };
        *self.inner() = Inner {
            dice: Dice::new(setup.seed),
            of_kinds: KINDS.iter().map(of_kind).collect(),
            setup: Some(setup),
            troubled: false,
            now: START.0,
            windows: vec![],
            counts: Counts::new(),
            told: tells.then(Vec::new),
            worker: Worker::new("nobody"),
            writes: 0,
        };
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// A number below `n`.
    pub fn below(&self, n: usize) -> usize {
        self.inner().dice.below(n)
    }
    /// True once in `n` times.
    pub fn draws(&self, n: usize) -> bool {
        self.below(n) == 0
    }
    /// A number below `n`, of the chances of one kind.
    pub fn of_kind(&self, kind: Kind, n: usize) -> usize {
        self.inner().of_kinds[kind as usize].below(n)
    }

    /// Trouble begins, or ends.
    pub fn set_troubled(&self, troubled: bool) {
        let mut inner = self.inner();
        inner.troubled = troubled;
        inner.windows.clear();
    }

    /// Whether the history has this kind, and trouble has not ended.
    pub fn may(&self, kind: Kind) -> bool {
        let inner = self.inner();
        inner.troubled && inner.has(kind)
    }

    /// Whether the history has this kind at all.
    pub fn has(&self, kind: Kind) -> bool {
        self.inner().has(kind)
    }

    /// Whether this kind strikes now, once in `one_in` times; if so it is counted where the turn is.
    pub fn strikes(&self, kind: Kind, one_in: usize) -> bool {
        let at = self.inner().worker.name;
        self.strikes_at(kind, one_in, at)
    }

    /// The same, counted at `at`.
    pub fn strikes_at(&self, kind: Kind, one_in: usize, at: &str) -> bool {
        let mut inner = self.inner();
        if !inner.troubled || !inner.has(kind) {
            return false;
        }
        let strikes = inner.of_kinds[kind as usize].below(one_in) == 0;
        if strikes {
            inner.struck(kind, at);
        }
        strikes
    }

    /// This kind strikes.
    pub fn struck(&self, kind: Kind, at: &str) {
        self.inner().struck(kind, at);
    }

    /// Trouble of this kind begins, and lasts so long.
    pub fn open_window(&self, kind: Kind, target: &str, for_ms: i64) {
        let mut inner = self.inner();
        inner.tell(|| format!("! {kind} at {target} for {} s", for_ms / 1000));
        let until = inner.now + for_ms;
        inner.windows.push(Window { kind, target: target.to_owned(), until });
    }

    /// Whether trouble of this kind lasts at `target`.
    pub fn in_window(&self, kind: Kind, target: &str) -> bool {
        self.inner().in_window(kind, |window| window.target == target)
    }

    /// Whether trouble of this kind lasts anywhere.
    pub fn in_any_window(&self, kind: Kind) -> bool {
        self.inner().in_window(kind, |_| true)
    }

    /// The same, at a target that is found in `text`; counted where the turn is.
    pub fn strikes_in_window(&self, kind: Kind, text: &str) -> bool {
        let mut inner = self.inner();
        let strikes = inner.in_window(kind, |window| text.contains(&window.target));
        if strikes {
            let at = inner.worker.name;
            inner.struck(kind, at);
        }
        strikes
    }

    /// When the next trouble that lasts ends.
    pub fn window_ends(&self) -> Option<i64> {
        let inner = self.inner();
        inner.windows.iter().map(|window| window.until).filter(|until| *until > inner.now).min()
    }

    /// The moment by a clock that is right.
    pub fn moment(&self) -> i64 {
        self.inner().now
    }
    /// Time passes.
    pub fn pass(&self, ms: i64) {
        self.inner().now += ms.max(0);
    }

    /// Gives somebody the turn.
    pub(crate) fn set_worker(&self, worker: Worker) {
        self.inner().worker = worker;
    }
    pub(crate) fn worker(&self) -> Worker {
        self.inner().worker
    }

    /// Something was committed.
    pub fn written(&self) {
        let mut inner = self.inner();
        inner.writes += 1;
        inner.worker.committed = true;
    }
    /// Something was published.
    pub fn published(&self) {
        self.inner().worker.published = true;
    }
    /// How many transactions were committed.
    pub fn writes(&self) -> u64 {
        self.inner().writes
    }

    /// Counts what happened.
    pub fn count(&self, what: &'static str, at: impl Into<String>) {
        *self.inner().counts.entry((what, at.into())).or_default() += 1;
    }
    /// What was counted.
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.inner().counts)
    }

    /// Whether anybody listens to what is told.
    pub fn tells(&self) -> bool {
        self.inner().told.is_some()
    }
    /// Tells what happens, if anybody listens.
    pub fn tell(&self, text: impl FnOnce() -> String) {
        self.inner().tell(text);
    }
    /// What was told.
    pub fn told(&self) -> Vec<String> {
        self.inner().told.take().unwrap_or_default()
    }

    /// Lets others come first.
    pub fn pause(&self) -> Pause {
        Pause(false)
    }

    /// Waits for time to pass.
    pub async fn sleep(&self, ms: i64) {
        let until = self.moment() + ms;
        while self.moment() < until {
            self.inner().worker.sleeps_until = until;
            self.pause().await;
        }
    }
}

impl Default for Chaos {
    fn default() -> Self {
        Chaos::new()
    }
}

impl Inner {
    fn has(&self, kind: Kind) -> bool {
        self.setup.is_some_and(|setup| setup.kinds.has(kind))
    }

    fn struck(&mut self, kind: Kind, at: &str) {
        *self.counts.entry((kind.name(), at.to_owned())).or_default() += 1;
        self.tell(|| format!("! {kind} at {at}"));
    }

    fn in_window(&self, kind: Kind, is_it: impl Fn(&Window) -> bool) -> bool {
        let lasts = |window: &Window| window.kind == kind && window.until > self.now;
        self.windows.iter().any(|window| lasts(window) && is_it(window))
    }

    fn tell(&mut self, text: impl FnOnce() -> String) {
        let seconds = (self.now - START.0) as f64 / 1000.0;
        if let Some(told) = &mut self.told {
            told.push(format!("{seconds:>11.3} {}", text()));
        }
    }
}

impl Clock for Chaos {
    fn now(&self) -> Millis {
        let inner = self.inner();
        Millis(inner.now + inner.worker.skew_ms)
    }
}

impl Chance for Chaos {
    fn fill(&self, bytes: &mut [u8]) {
        let mut inner = self.inner();
        for chunk in bytes.chunks_mut(8) {
            let drawn = inner.dice.draw().to_le_bytes();
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
