//! A function's inbox: what waits, what is being handled, and who is to be woken.

use super::BusOptions;
use super::fair::Ready;
use super::gate::Gate;
use crate::wiring::Inbox;
use eventplane_engine::Dice;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// The wait before the second delivery of a message; each one more is `BACKOFF_FACTOR` times as
/// long, so that five deliveries outlast a fault of a minute.
const BACKOFF_MS: u64 = 100;
const BACKOFF_FACTOR: u64 = 8;

/// A message in an inbox.
pub(super) struct Message {
    /// The event in its envelope.
    pub(super) body: Arc<str>,
    /// Whose event it is.
    pub(super) tenant: Arc<str>,
    /// How often it was delivered.
    pub(super) received: u32,
    /// The dead letter that it was, until it is handled.
    pub(super) letter: Option<String>,
}

/// How many messages of all inboxes are not done with.
#[derive(Default)]
pub(super) struct Pending {
    count: AtomicUsize,
    none: Notify,
}

impl Pending {
    fn done(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none.notify_waiters();
        }
    }

    pub(super) async fn none(&self) {
        loop {
            let none = self.none.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

/// The inbox of one function.
pub(super) struct Queue {
    pub(super) inbox: Inbox,
    /// Messages that became dead letters.
    pub(super) dead: AtomicU64,
    backoff_ms_max: u64,
    is_shuffled: bool,
    drain_per_s: u32,
    state: Mutex<State>,
    pending: Arc<Pending>,
    /// A permit for each idle worker that has something to look for.
    wakes: Semaphore,
    /// The keeper has another moment to wait for.
    rescheduled: Notify,
}

struct State {
    ready: Ready,
    /// Between two tries: by the moment of the next, and the order of arrival.
    later: BTreeMap<(Instant, u64), Message>,
    arrivals: u64,
    in_flight: usize,
    /// Workers that found nothing and were not woken since.
    idle: usize,
    is_paused: bool,
    is_stopped: bool,
    gate: Gate,
    broken: Option<Arc<str>>,
    dice: Dice,
}

/// What a worker is to do next.
pub(super) enum Next {
    /// Handle this, or fail with the reason why the function is broken.
    Deliver(Message, Option<Arc<str>>),
    /// Wait to be woken.
    Wait,
    /// End.
    Stop,
}

/// What the queue holds.
pub(super) struct Held {
    pub(super) queued: usize,
    pub(super) in_flight: usize,
    pub(super) is_paused: bool,
    pub(super) gate: Gate,
    pub(super) broken: Option<Arc<str>>,
}

impl Queue {
    pub(super) fn new(
        inbox: Inbox,
        options: &BusOptions,
        dice: Dice,
        pending: Arc<Pending>,
    ) -> Self {
        let state = State {
            ready: Ready::default(),
            later: BTreeMap::new(),
            arrivals: 0,
            in_flight: 0,
            idle: 0,
            is_paused: false,
            is_stopped: false,
            gate: Gate::Closed,
            broken: None,
            dice,
        };
        Queue {
            backoff_ms_max: options.backoff_ms_max.min(inbox.visibility_timeout_ms),
            is_shuffled: options.is_shuffled,
            drain_per_s: options.drain_per_s,
            inbox,
            dead: AtomicU64::new(0),
            state: Mutex::new(state),
            pending,
            wakes: Semaphore::new(0),
            rescheduled: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in.
    pub(super) fn put(&self, message: Message) {
        self.pending.count.fetch_add(1, Ordering::AcqRel);
        let mut state = self.lock();
        state.ready.push(message);
        self.wake(state, 1);
    }

    /// Wakes idle workers for `messages` that became visible.
    fn wake(&self, mut state: MutexGuard<'_, State>, messages: usize) {
        let woken = messages.min(state.idle).min(state.gate.lets_out(Instant::now()));
        if state.is_paused || woken == 0 {
            return;
        }
        state.idle -= woken;
        drop(state);
        self.wakes.add_permits(woken);
    }

    /// The next message for a worker, which from now on is being handled.
    pub(super) fn next(&self) -> Next {
        let mut state = self.lock();
        if state.is_stopped {
            return Next::Stop;
        }
        let now = Instant::now();
        let State { ready, dice, is_paused, gate, .. } = &mut *state;
        let taken = match *is_paused || ready.is_empty() || gate.lets_out(now) == 0 {
            true => None,
            false => ready.pop(self.is_shuffled.then_some(dice)),
        };
        let Some(mut message) = taken else {
            state.idle += 1;
            return Next::Wait;
        };
        message.received += 1;
        state.in_flight += 1;
        let broken = state.broken.clone();
        let before = state.gate;
        state.gate = before.after_one(now);
        if state.gate != before {
            self.gate_changed(state);
        }
        Next::Deliver(message, broken)
    }

    /// The gate may let out more than before, or has another moment for it.
    fn gate_changed(&self, state: MutexGuard<'_, State>) {
        let ready = state.ready.len();
        self.wake(state, ready);
        self.rescheduled.notify_one();
    }

    /// Waits until there may be something for a worker that was told to wait.
    pub(super) async fn woken(&self) {
        if let Ok(permit) = self.wakes.acquire().await {
            permit.forget();
        }
    }

    /// A message that was being handled is done with.
    pub(super) fn done(&self) {
        self.lock().in_flight -= 1;
        self.pending.done();
    }

    /// A message that was being handled is to be delivered again, after a wait that grows with
    /// each delivery, by chance up to half shorter.
    pub(super) fn again_later(&self, message: Message) {
        let step = message.received.saturating_sub(1).min(10);
        let longest = BACKOFF_MS.saturating_mul(BACKOFF_FACTOR.saturating_pow(step));
        let longest = longest.min(self.backoff_ms_max);
        let mut state = self.lock();
        let shorter = state.dice.below(usize::try_from(longest / 2).unwrap_or(0) + 1) as u64;
        let moment = Instant::now() + Duration::from_millis(longest - shorter);
        let arrival = state.arrivals;
        state.arrivals += 1;
        state.in_flight -= 1;
        state.later.insert((moment, arrival), message);
        drop(state);
        self.rescheduled.notify_one();
    }

    /// Makes messages visible again when their wait is over, until the queue is stopped.
    pub(super) async fn keep(&self) {
        while let Some(next) = self.make_visible(Instant::now()) {
            let rescheduled = self.rescheduled.notified();
            match next {
                None => rescheduled.await,
                Some(moment) => {
                    tokio::select! {
                        () = rescheduled => {}
                        () = tokio::time::sleep_until(moment) => {}
                    }
                }
            }
        }
    }

    /// Makes visible what waits for a moment up to `now`, and says which moment is the next, also of
    /// the gate; none at all once the queue is stopped.
    fn make_visible(&self, now: Instant) -> Option<Option<Instant>> {
        let mut state = self.lock();
        if state.is_stopped {
            return None;
        }
        while let Some(entry) = state.later.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let message = entry.remove();
            state.ready.push(message);
        }
        let next_try = state.later.first_key_value().map(|((moment, _), _)| *moment);
        // Whoever is busy looks by itself, as soon as it is done.
        let next_of_gate = state.gate.next(now).filter(|_| !state.ready.is_empty());
        let ready = state.ready.len();
        self.wake(state, ready);
        Some([next_try, next_of_gate].into_iter().flatten().min())
    }

    /// Hands out nothing more, or does so again.
    pub(super) fn set_paused(&self, is_paused: bool) {
        let mut state = self.lock();
        state.is_paused = is_paused;
        let ready = state.ready.len();
        self.wake(state, ready);
    }

    /// Opens or closes the breaker.
    pub(super) fn set_breaker(&self, is_open: bool) {
        let mut state = self.lock();
        let waiting = state.ready.len() + state.later.len();
        state.gate = match is_open {
            true => Gate::Open,
            false => state.gate.close(waiting, self.drain_per_s, Instant::now()),
        };
        self.gate_changed(state);
    }

    /// Makes every delivery fail for this reason, or none any more; then nothing waits for its
    /// next try any longer.
    pub(super) fn set_broken(&self, broken: Option<Arc<str>>) {
        let mut state = self.lock();
        if broken.is_none() {
            let waiting = std::mem::take(&mut state.later);
            waiting.into_values().for_each(|message| state.ready.push(message));
        }
        state.broken = broken;
        let ready = state.ready.len();
        self.wake(state, ready);
    }

    /// Ends the workers and the keeper, each after what it is about.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.wakes.close();
        self.rescheduled.notify_one();
    }

    pub(super) fn held(&self) -> Held {
        let state = self.lock();
        Held {
            queued: state.ready.len() + state.later.len(),
            in_flight: state.in_flight,
            is_paused: state.is_paused,
            gate: state.gate,
            broken: state.broken.clone(),
        }
    }
}
