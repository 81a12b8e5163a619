//! Virtual time, chance, and what goes wrong: the same for whatever control plane is under it.

use super::Fault;
use eventplane_domain::Millis;
use eventplane_engine::{Chance, Clock, Dice};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// The moment at which every history begins.
pub(crate) const START: Millis = Millis(1_800_000_000_000);
/// How long all is well before the fault begins, in milliseconds.
pub(crate) const BEFORE_MS: u64 = 20_000;
/// How long a request and its answer are on their way together, in milliseconds.
const WAY_MS: usize = 10;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Well,
    /// It is not done, and its caller is told at once.
    NotDone,
    /// Its caller hears nothing, whether it was done or not.
    Silent {
        done: bool,
    },
}

/// Whoever was called could not, and has said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotDone;

/// The one source of time, chance and trouble of a history.
pub(crate) struct Weather {
    pub(crate) fault: Fault,
    begun: Instant,
    dice: Mutex<Dice>,
    /// Tells all processes that call others to die. (It wakes them in the order in which they came;
    /// a watch would do so in any.)
    crash: Notify,
    under_way: AtomicUsize,
}

impl Weather {
    pub(crate) fn new(fault: Fault, seed: u64) -> Arc<Weather> {
        Arc::new(Weather {
            fault,
            begun: Instant::now(),
            dice: Mutex::new(Dice::new(seed)),
            crash: Notify::new(),
            under_way: AtomicUsize::new(0),
        })
    }

    /// Milliseconds since the history began.
    pub(crate) fn at_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
    pub(crate) async fn until_ms(&self, ms: u64) {
        tokio::time::sleep_until(self.begun + Duration::from_millis(ms)).await;
    }
    pub(crate) fn end_ms(&self) -> u64 {
        BEFORE_MS + self.fault.lasts_ms()
    }
    fn is_on(&self) -> bool {
        (BEFORE_MS..self.end_ms()).contains(&self.at_ms())
    }
    pub(crate) fn below(&self, n: usize) -> usize {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).below(n)
    }

    /// What becomes of a call of `to` that is made now.
    pub(crate) fn fate(&self, to: &str) -> Fate {
        if !self.is_on() {
            return Fate::Well;
        }
        match self.fault {
            Fault::StepThrottled if to == "network" => Fate::NotDone,
            Fault::StepFailing if to == "storage" => Fate::NotDone,
            Fault::StoreGone if to == "store" => Fate::NotDone,
            Fault::FifthFails if self.below(5) == 0 => Fate::NotDone,
            Fault::AnswersLost => match self.below(10) {
                0 => Fate::Silent { done: false },
                1 => Fate::Silent { done: true },
                _ => Fate::Well,
            },
            _ => Fate::Well,
        }
    }

    /// Calls another process. What it does goes on when its caller dies or waits no longer; an
    /// answer that is lost is waited for without end.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        to: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, NotDone> {
        sleep(Duration::from_millis(1 + self.below(WAY_MS) as u64)).await;
        let done = match self.fate(to) {
            Fate::NotDone => return Err(NotDone),
            Fate::Silent { done: false } => return std::future::pending().await,
            Fate::Silent { done: true } => {
                drop(self.start(work));
                return std::future::pending().await;
            }
            Fate::Well => self.start(work),
        };
        done.await.map_err(|_| NotDone)
    }

    fn start<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let counted = UnderWay::new(self);
        tokio::spawn(async move {
            let _counted = counted;
            work.await
        })
    }

    /// Runs until the process that does so dies; nothing is left then but what it had others do.
    pub(crate) async fn until_crash<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let crash = self.crash.notified();
        tokio::select! {
            biased;
            () = crash => None,
            value = work => Some(value),
        }
    }

    /// All callers die every few seconds, while that is the fault.
    pub(crate) async fn crash_callers(self: Arc<Self>) {
        self.until_ms(BEFORE_MS).await;
        while self.fault == Fault::CallersCrash && self.is_on() {
            self.crash.notify_waiters();
            sleep(Duration::from_millis(1_500 + self.below(3_000) as u64)).await;
        }
    }

    /// Whether nothing is under way that may still change something.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) == 0
    }
}

/// Something that is under way while this lives.
pub(crate) struct UnderWay(Arc<Weather>);

impl UnderWay {
    pub(crate) fn new(weather: &Arc<Weather>) -> UnderWay {
        weather.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(weather.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Clock for Weather {
    fn now(&self) -> Millis {
        START.plus(i64::try_from(self.at_ms()).unwrap_or(i64::MAX))
    }
}

impl Chance for Weather {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            let drawn = dice.draw().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}
