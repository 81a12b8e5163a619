//! The simulation's bus: the template's rules, inboxes that hand out in any order, twice now and
//! then, and dead letters.

use super::chaos::Chaos;
use async_trait::async_trait;
use eventplane_domain::Millis;
use eventplane_engine::{
    Breaker, Breakers, DeadLetter, DeadLetters, Fault, Publisher, Waiter, Watching,
};
use eventplane_events::{Entry, envelope};
use eventplane_local::wiring::Wiring;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// After how many receives a message becomes a dead letter.
const RECEIVES_MAX: u32 = 5;

/// A message in an inbox.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) function: String,
    pub(crate) body: Arc<str>,
    received: u32,
}

#[derive(Default)]
struct Inboxes {
    waiting: Vec<Message>,
    dead: Vec<Message>,
}

pub(crate) struct SimBus {
    wiring: Wiring,
    chaos: Arc<Chaos>,
    /// Whether it may refuse what users ask for: nobody but the sweeper publishes that again.
    loses_requests: bool,
    inboxes: Mutex<Inboxes>,
}

impl SimBus {
    pub(crate) fn new(chaos: Arc<Chaos>, loses_requests: bool) -> Self {
        SimBus { wiring: Wiring::built_in(), chaos, loses_requests, inboxes: Mutex::default() }
    }

    fn inboxes(&self) -> MutexGuard<'_, Inboxes> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, entry: &Entry) {
        let message = envelope(entry, "b", "2026-01-01T00:00:00Z");
        let value: Value = serde_json::from_str(&message).expect("an envelope is JSON");
        let body: Arc<str> = message.into();
        for function in self.wiring.hearers(&value) {
            let message =
                Message { function: function.to_owned(), body: body.clone(), received: 0 };
            self.inboxes().waiting.push(message);
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.inboxes().waiting.len()
    }

    /// Takes any message; with `duplicates`, one in eight stays as well.
    pub(crate) fn take(&self, duplicates: bool) -> Option<Message> {
        let mut inboxes = self.inboxes();
        if inboxes.waiting.is_empty() {
            return None;
        }
        let drawn = self.chaos.below(inboxes.waiting.len());
        let message = inboxes.waiting.swap_remove(drawn);
        if duplicates && self.chaos.draws(8) {
            inboxes.waiting.push(message.clone());
        }
        Some(message)
    }

    /// A delivery failed, or whoever had it died: it is delivered again, or becomes a dead letter.
    pub(crate) fn give_back(&self, message: Message) {
        let message = Message { received: message.received + 1, ..message };
        let mut inboxes = self.inboxes();
        if message.received < RECEIVES_MAX {
            inboxes.waiting.push(message);
        } else {
            inboxes.dead.push(message);
        }
    }

    /// Forgets any one message.
    pub(crate) fn lose_one(&self) {
        let _ = self.take(false);
    }

    /// Delivers all dead letters again, as an operator would.
    pub(crate) fn redrive_all(&self) -> usize {
        let mut inboxes = self.inboxes();
        let dead = std::mem::take(&mut inboxes.dead);
        let count = dead.len();
        inboxes.waiting.extend(dead.into_iter().map(|one| Message { received: 0, ..one }));
        count
    }
}

#[async_trait]
impl Publisher for SimBus {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        self.chaos.pause().await;
        let total = entries.len();
        let is_asked = |entry: &Entry| {
            entry.source == "eventplane.api" && entry.detail_type.ends_with("Requested")
        };
        let may_fail = self.loses_requests || !entries.iter().any(is_asked);
        let fails = may_fail && self.chaos.fails();
        let taken = if fails { self.chaos.below(total + 1) } else { total };
        entries[..taken].iter().for_each(|entry| self.put(entry));
        self.chaos.pause().await;
        if taken == total {
            return Ok(());
        }
        let message = "some were not taken".to_owned();
        Err(Fault::Publish { failed: total - taken, total, message })
    }
}

/// The simulation redrives by itself: nobody asks over the api.
#[async_trait]
impl DeadLetters for SimBus {
    async fn list(&self, _: Option<&str>, _: usize) -> Result<Vec<DeadLetter>, Fault> {
        Ok(vec![])
    }
    async fn get(&self, _: &str) -> Result<Option<DeadLetter>, Fault> {
        Ok(None)
    }
    async fn redrive(&self, _: &str) -> Result<bool, Fault> {
        Ok(false)
    }
    async fn purge(&self, _: &str, _: Millis, _: usize) -> Result<usize, Fault> {
        Ok(0)
    }
}

#[async_trait]
impl Breakers for SimBus {
    async fn breakers(&self) -> Result<Vec<Breaker>, Fault> {
        Ok(vec![])
    }
    async fn set_breaker(&self, _: &str, _: bool) -> Result<Option<Breaker>, Fault> {
        Ok(None)
    }
}

/// Nobody waits: time passes only between two polls.
impl Waiter for SimBus {
    fn watch(&self, _: &'static str, _: &str) -> Option<Box<dyn Watching>> {
        None
    }
}
