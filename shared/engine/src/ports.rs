//! What the engine stands on: a store, a bus, a clock and chance. Each comes from outside.

use async_trait::async_trait;
use eventplane_domain::{InstanceId, Millis};
use eventplane_events::Entry;
use eventplane_store::{Store, StoreFault};
use std::sync::Arc;
use thiserror::Error;

/// Why a message could not be handled now: it is delivered again, and after its last try becomes
/// a dead letter.
#[derive(Debug, Error)]
pub enum Fault {
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The bus did not take every event; those that are recorded are published again with the
    /// next delivery.
    #[error("the bus did not take {failed} of {total} events: {message}")]
    Publish {
        /// How many it did not take.
        failed: usize,
        /// Of how many.
        total: usize,
        /// What it said.
        message: String,
    },
    /// Others were faster every time.
    #[error("lost {tries} races in a row for {contended}")]
    Contention {
        /// How often it was tried.
        tries: usize,
        /// The key that the last race was for.
        contended: String,
    },
    /// Something outside that is neither store nor bus, such as a key service.
    #[error("{0}")]
    Other(String),
}

/// A bus: takes events, and delivers each at least once to whoever has a rule for it.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Hands over all entries, or says that some were not taken.
    ///
    /// # Errors
    /// [`Fault::Publish`] when at least one was not taken.
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault>;
}

/// A clock.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Millis;
}

/// A source of chance, good enough for secrets.
pub trait Chance: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
    /// A random number.
    fn draw(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The world, as a function sees it.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct Ports {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Publisher>,
    pub clock: Arc<dyn Clock>,
    pub chance: Arc<dyn Chance>,
}

/// Of a request: that it came through a door at which nobody is asked who they are. Whoever received
/// it puts this among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetInByNobody;

/// What a function could not handle, kept until somebody redrives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id, for [`DeadLetters::redrive`].
    pub id: String,
    /// The function that could not handle it.
    pub function: String,
    /// Why: the failure of its last delivery.
    pub reason: String,
    /// How often it was delivered.
    pub received: u32,
    /// When it became a dead letter, or was sent: the queues of AWS know only that of some.
    pub at: Millis,
    /// The message: an event in its envelope, unless it was never one.
    pub body: String,
}

/// The dead letters of all functions: for people to look at and to redrive.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// The oldest ones of one function, or of all, at most `limit`.
    ///
    /// # Errors
    /// A fault of whoever keeps them.
    async fn list(&self, function: Option<&str>, limit: usize) -> Result<Vec<DeadLetter>, Fault>;
    /// One of them; none if there is no such letter.
    ///
    /// # Errors
    /// A fault of whoever keeps them.
    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, Fault>;
    /// Delivers it to its function again; false if there is no such letter.
    ///
    /// # Errors
    /// A fault of whoever keeps them: the letter may still be there.
    async fn redrive(&self, id: &str) -> Result<bool, Fault>;
    /// Delivers the letters of one function, or of all, again that were dead letters `until` then,
    /// at most `limit`; how many. What fails again at once is a later letter, and is left for the
    /// next redrive.
    ///
    /// # Errors
    /// A fault of whoever keeps them: some may be delivered, the others are still there.
    async fn redrive_all(
        &self,
        function: Option<&str>,
        until: Millis,
        limit: usize,
    ) -> Result<usize, Fault> {
        let mut redriven = 0;
        for letter in self.list(function, limit).await? {
            if letter.at <= until {
                redriven += usize::from(self.redrive(&letter.id).await?);
            }
        }
        Ok(redriven)
    }
    /// Removes the letters of one function for ever that were dead letters `until` then, at most
    /// `limit`; how many.
    ///
    /// # Errors
    /// A fault of whoever keeps them: some may be gone, the others are still there.
    async fn purge(&self, function: &str, until: Millis, limit: usize) -> Result<usize, Fault>;
}

/// What a function's breaker does to its messages. An event that comes to a breaker that is not
/// closed waits in the function's inbox: it is no try, and nothing becomes a dead letter of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// The function gets its messages.
    Closed,
    /// It is being opened: the function may still get some.
    Disabling,
    /// The function gets none.
    Open,
    /// It is being closed: the function may get none yet.
    Enabling,
    /// It is closed, and what had waited is handed out at a limited rate.
    Draining,
}

impl BreakerState {
    /// Its name for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Disabling => "disabling",
            BreakerState::Open => "open",
            BreakerState::Enabling => "enabling",
            BreakerState::Draining => "draining",
        }
    }
}

/// The breaker of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// The function.
    pub function: String,
    /// What it does to the function's messages.
    pub state: BreakerState,
    /// When somebody last opened or closed it, as far as that is known.
    pub since: Option<Millis>,
    /// How many messages wait for the function, those between two tries included.
    pub waiting: u64,
}

/// The breakers of all functions that have an inbox.
#[async_trait]
pub trait Breakers: Send + Sync {
    /// All of them.
    ///
    /// # Errors
    /// A fault of whoever keeps them.
    async fn breakers(&self) -> Result<Vec<Breaker>, Fault>;
    /// Opens or closes the breaker of `function`, and says how it stands then; none if there is no
    /// such function with an inbox. One that is so already stays as it is.
    ///
    /// # Errors
    /// A fault of whoever keeps it: it may be set or not, and setting it again does no harm.
    async fn set_breaker(&self, function: &str, is_open: bool) -> Result<Option<Breaker>, Fault>;
}

/// Which archived events are asked for.
#[derive(Debug, Clone)]
pub struct Span {
    /// Published from this moment on.
    pub from: Millis,
    /// Published up to this moment.
    pub to: Millis,
    /// Only those about this instance.
    pub instance: Option<InstanceId>,
    /// At most this many, the oldest.
    pub limit: usize,
}

/// An event that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// When the bus took it.
    pub at: Millis,
    /// The event in its envelope.
    pub message: String,
    /// The functions whose rules let it through, as they are now.
    pub hearers: Vec<String>,
}

/// What an archive has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The events, in the order in which they were published.
    pub events: Vec<Archived>,
    /// Whether there are more than were asked for.
    pub more: bool,
    /// How many events the archive could not keep since the process began.
    pub dropped: u64,
}

/// The events that were published, as far back as they are kept: for people. What was done about
/// them, the receipts say.
#[async_trait]
pub trait Archive: Send + Sync {
    /// The events of a span of time.
    ///
    /// # Errors
    /// A fault of whoever keeps them.
    async fn read(&self, span: &Span) -> Result<Found, Fault>;
}

/// Long polls: who waits for a change of a partition, where the world can tell of one.
pub trait Waiter: Send + Sync {
    /// Watches `partition` of `table` from now on. Make the watch first, then read, then wait:
    /// no change falls in between. `None` where nothing can tell (on Lambda): then nobody waits.
    fn watch(&self, table: &'static str, partition: &str) -> Option<Box<dyn Watching>>;
}

/// A watch on one partition.
#[async_trait]
pub trait Watching: Send {
    /// Completes once the partition was written since the watch was made, or since this last
    /// completed.
    async fn changed(&mut self);
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
