//! The bus of one machine: rules, inboxes and dead letters as `template.yaml` has them.
//!
//! An event goes to the inbox of each function with a rule that matches. Workers hand it to the
//! function at least once, in no promised order; a failed delivery is repeated after a wait, and
//! the last one that the template allows makes it a dead letter. While a function's breaker is open
//! its messages wait. Inboxes are in memory: whatever they hold is recorded elsewhere (receipts,
//! request items, instance records) and published again at the next start, so neither publishing
//! nor acknowledging waits for a disk. Dead letters are durable, and so is which breakers are open.

mod breakers;
mod fair;
mod gate;
mod letters;
mod options;
mod queue;
mod route;
mod worker;

#[cfg(test)]
mod breaker_tests;
#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod tests;

pub use letters::DEAD_LETTERS;
pub use options::{BusOptions, BusStats, FunctionStats};
pub use route::Router;

use crate::archive::LocalArchive;
use crate::wiring::Wiring;
use async_trait::async_trait;
use eventplane_domain::Millis;
use eventplane_engine::{Clock, DeadLetter, DeadLetters, Dice, Fault, Handler, Publisher};
use eventplane_events::{Entry, envelope};
use eventplane_store::Store;
use fair::tenant_of;
use letters::Letters;
use queue::{Message, Pending, Queue};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::task::JoinHandle;

/// The largest entry that the bus takes, in bytes: 256 KB.
///
/// Source: "`PutEvents`", EventBridge API reference.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// The bus of one machine.
pub struct LocalBus {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    since: breakers::Since,
    clock: Arc<dyn Clock>,
    router: Router,
    concurrency: usize,
    duplicates_percent: usize,
    dice: Mutex<Dice>,
    published: AtomicU64,
    sent: AtomicU64,
    pending: Arc<Pending>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    archive: OnceLock<LocalArchive>,
}

/// What the workers share with the bus.
struct Shared {
    queues: Vec<Arc<Queue>>,
    letters: Letters,
    deliveries: AtomicU64,
    /// Messages that left their inbox.
    deleted: AtomicU64,
}

impl LocalBus {
    /// A bus with these inboxes and rules. Its dead letters are in the table [`DEAD_LETTERS`] of
    /// `store`. Inboxes fill from now on, and empty once it is [started](LocalBus::start).
    #[must_use]
    pub fn new(
        wiring: Wiring,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: BusOptions,
    ) -> Arc<LocalBus> {
        let router = Router::new(&wiring);
        let pending = Arc::new(Pending::default());
        let mut dice = Dice::new(options.seed);
        let mut queue = |inbox| {
            let dice = Dice::new(dice.draw());
            Arc::new(Queue::new(inbox, &options, dice, pending.clone()))
        };
        let queues = wiring.inboxes.into_iter().map(&mut queue).collect();
        let letters = Letters::new(store.clone(), clock.clone());
        let shared = Shared {
            queues,
            letters,
            deliveries: AtomicU64::default(),
            deleted: AtomicU64::default(),
        };
        Arc::new(LocalBus {
            shared: Arc::new(shared),
            store,
            since: breakers::Since::default(),
            clock,
            router,
            concurrency: options.concurrency.max(1),
            duplicates_percent: usize::from(options.duplicates_percent),
            dice: Mutex::new(dice),
            published: AtomicU64::default(),
            sent: AtomicU64::default(),
            pending,
            tasks: Mutex::default(),
            archive: OnceLock::new(),
        })
    }

    /// Keeps every event that is published from now on in `archive`, if it has none yet.
    pub fn archive_to(&self, archive: LocalArchive) {
        let _ = self.archive.set(archive);
    }

    /// Delivers to these handlers from now on, on the runtime that this is called in. The messages
    /// of a function without a handler wait.
    ///
    /// # Panics
    /// When a handler's function has no inbox in the wiring: a bug.
    pub fn start(&self, handlers: Vec<Arc<dyn Handler>>) {
        let mut tasks = self.tasks();
        for handler in handlers {
            let queue = self.queue(handler.name());
            let queue = queue.unwrap_or_else(|| panic!("no inbox for `{}`", handler.name()));
            let keeper = queue.clone();
            tasks.push(tokio::spawn(async move { keeper.keep().await }));
            for _ in 0..self.concurrency {
                let work = worker::work(self.shared.clone(), queue.clone(), handler.clone());
                tasks.push(tokio::spawn(work));
            }
        }
    }

    /// Lets every delivery under way end, and begins no other. What is in the inboxes then is
    /// forgotten with the bus.
    pub async fn stop(&self) {
        for queue in &self.shared.queues {
            queue.stop();
        }
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the bus did not end well");
            }
        }
    }

    /// Completes when no message waits and none is being handled. Never does while a paused
    /// function, one without a handler, or one whose breaker is open has messages.
    pub async fn idle(&self) {
        self.pending.none().await;
    }

    /// Keeps messages for `function` in its inbox; false if it has none.
    pub fn pause(&self, function: &str) -> bool {
        self.queue(function).map(|queue| queue.set_paused(true)).is_some()
    }

    /// Ends a [pause](LocalBus::pause); false if the function has no inbox.
    pub fn resume(&self, function: &str) -> bool {
        self.queue(function).map(|queue| queue.set_paused(false)).is_some()
    }

    /// Makes every delivery to `function` fail, as a fault with this reason; false if it has no
    /// inbox.
    pub fn break_function(&self, function: &str, reason: &str) -> bool {
        self.queue(function).map(|queue| queue.set_broken(Some(reason.into()))).is_some()
    }

    /// Mends what was [broken](LocalBus::break_function), and tries again at once what waits for
    /// its next try; false if the function has no inbox.
    pub fn mend(&self, function: &str) -> bool {
        self.queue(function).map(|queue| queue.set_broken(None)).is_some()
    }

    /// What the bus has done and what it holds.
    pub fn stats(&self) -> BusStats {
        let deliveries = self.shared.deliveries.load(Ordering::Relaxed);
        let sent = self.sent.load(Ordering::Relaxed);
        let function = |queue: &Arc<Queue>| {
            let held = queue.held();
            FunctionStats {
                function: queue.inbox.function.clone(),
                queued: held.queued,
                in_flight: held.in_flight,
                dead: queue.dead.load(Ordering::Relaxed),
                is_paused: held.is_paused,
                broken: held.broken.map(|reason| reason.to_string()),
            }
        };
        BusStats {
            published: self.published.load(Ordering::Relaxed),
            sent,
            deliveries,
            queue_requests: sent + deliveries + self.shared.deleted.load(Ordering::Relaxed),
            functions: self.shared.queues.iter().map(function).collect(),
        }
    }

    fn queue(&self, function: &str) -> Option<&Arc<Queue>> {
        self.shared.queues.iter().find(|queue| queue.inbox.function == function)
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a message is delivered if all goes well: twice, if it was drawn so.
    fn copies(&self) -> usize {
        if self.duplicates_percent == 0 {
            return 1;
        }
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        if dice.below(100) < self.duplicates_percent { 2 } else { 1 }
    }

    fn send(&self, queue: &Queue, message: Message) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        queue.put(message);
    }

    fn take(&self, entry: &Entry, now: Millis, time: &str) {
        let number = self.published.fetch_add(1, Ordering::Relaxed);
        let seal =
            || -> Arc<str> { envelope(entry, &format!("{:x}-{number:x}", now.0), time).into() };
        let routed = match self.archive.get() {
            Some(archive) => {
                let body = seal();
                archive.keep(now, &body);
                self.router.route(entry, || body)
            }
            None => self.router.route(entry, seal),
        };
        let Some((body, inboxes)) = routed else { return };
        let tenant: Arc<str> = tenant_of(&entry.detail).into();
        for inbox in inboxes {
            for _ in 0..self.copies() {
                let (body, tenant) = (body.clone(), tenant.clone());
                let message = Message { body, tenant, received: 0, letter: None };
                self.send(&self.shared.queues[inbox], message);
            }
        }
    }
}

#[async_trait]
impl Publisher for LocalBus {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        let now = self.clock.now();
        let time = rfc3339(now);
        let mut failed = 0;
        for entry in &entries {
            let bytes = entry.source.len() + entry.detail_type.len() + entry.detail.len();
            if bytes > ENTRY_BYTES_MAX {
                failed += 1;
            } else {
                self.take(entry, now, &time);
            }
        }
        if failed > 0 {
            let message = format!("an entry has more than {ENTRY_BYTES_MAX} bytes");
            return Err(Fault::Publish { failed, total: entries.len(), message });
        }
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for LocalBus {
    async fn list(&self, function: Option<&str>, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        let mut letters = Vec::new();
        for queue in &self.shared.queues {
            let name = &queue.inbox.function;
            if function.is_none_or(|function| function == name) {
                letters.extend(self.shared.letters.of(name, limit).await?);
            }
        }
        letters.sort_by_key(|letter| letter.at);
        letters.truncate(limit);
        Ok(letters)
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, Fault> {
        self.shared.letters.get(id).await
    }

    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        let Some(letter) = self.shared.letters.get(id).await? else { return Ok(false) };
        let Some(queue) = self.queue(&letter.function) else {
            let gone = format!("`{}` has no inbox any more: the letter stays", letter.function);
            return Err(Fault::Other(gone));
        };
        if !self.shared.letters.redrive(id) {
            return Ok(false);
        }
        let tenant = tenant_of(&letter.body).into();
        let message =
            Message { body: letter.body.into(), tenant, received: 0, letter: Some(letter.id) };
        self.send(queue, message);
        Ok(true)
    }

    async fn purge(&self, function: &str, until: Millis, limit: usize) -> Result<usize, Fault> {
        self.shared.letters.purge(function, until, limit).await
    }
}

/// The moment as EventBridge writes it, in whole seconds. Source: RFC 3339; the calendar is
/// Howard Hinnant's "`chrono`-Compatible Low-Level Date Algorithms" (`civil_from_days`).
fn rfc3339(at: Millis) -> String {
    let seconds = at.0.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
