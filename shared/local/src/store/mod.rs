//! The store of one machine: one file, written by one thread, durable before it answers.
//!
//! [`EmbeddedStore`] implements [`Store`] on redb. Transactions that arrive while a commit is under
//! way are judged in their order of arrival and made durable together by the next one, so that many
//! callers share the price of a commit and a single caller waits for nobody.
//! A crash at any moment leaves the last commit, and the file opens again at once.

mod encoding;
mod group;
mod layout;
mod open;
mod read;
mod stats;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

pub use open::OpenError;
pub use stats::StoreStats;
pub use watch::Watch;

use async_trait::async_trait;
use eventplane_store::{
    FaultKind, Item, Key, Page, Query, Store, StoreFault, Table, TransactError, Write, validate,
};
use group::Refusal;
use layout::{Layout, join};
use read::Snapshot;
use redb::{Builder, Database, backends::InMemoryBackend};
use stats::Counters;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use tokio::sync::oneshot;
use watch::Watchers;
use writer::Job;

/// The store in a file of this machine, or in memory.
///
/// Dropping it writes what is queued, then closes the file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// `None` only while the store is dropped.
    queue: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

/// What the writer and the readers share.
struct Shared {
    database: Database,
    layout: Layout,
    /// The state after the newest commit, opened by whoever first reads it.
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    watchers: Arc<Watchers>,
    counters: Counters,
    is_durable: bool,
}

impl EmbeddedStore {
    /// Opens the store in the file at `path`, or makes it, with these tables.
    ///
    /// Tables and indexes may be added from one opening to the next; a new index is built from what
    /// is stored. A table that is not declared keeps its items.
    ///
    /// # Errors
    /// When the file is open elsewhere, is none of ours, is damaged, or cannot be used.
    pub fn open(path: impl AsRef<Path>, tables: &[Table]) -> Result<Self, OpenError> {
        let path = path.as_ref();
        Self::with(open::open_file(path)?, path, tables, true)
    }

    /// A store in memory, gone when it is dropped.
    ///
    /// # Errors
    /// When the tables cannot be declared together; see [`OpenError`].
    pub fn in_memory(tables: &[Table]) -> Result<Self, OpenError> {
        let path = Path::new("(in memory)");
        let builder = Builder::new()
            .set_cache_size(open::CACHE_BYTES)
            .create_with_backend(InMemoryBackend::new());
        let database =
            builder.map_err(|error| OpenError::Unusable(path.to_owned(), error.to_string()))?;
        Self::with(database, path, tables, false)
    }

    fn with(
        database: Database,
        path: &Path,
        tables: &[Table],
        is_durable: bool,
    ) -> Result<Self, OpenError> {
        let layout = open::place(&database, path, tables)?;
        let shared = Arc::new(Shared {
            database,
            layout,
            snapshot: Mutex::default(),
            watchers: Arc::default(),
            counters: Counters::default(),
            is_durable,
        });
        let (queue, jobs) = mpsc::channel();
        let of_writer = shared.clone();
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(&of_writer, &jobs))
            .map_err(|error| OpenError::Unusable(path.to_owned(), error.to_string()))?;
        Ok(EmbeddedStore { shared, queue: Some(queue), writer: Some(writer) })
    }

    /// Tells of commits that write to `partition` of `table` from now on.
    ///
    /// # Panics
    /// When the table was not declared.
    #[must_use]
    pub fn watch(&self, table: &'static str, partition: &str) -> Watch {
        let id = self.shared.layout.table(table).id;
        self.shared.watchers.watch(join(id, &[partition]))
    }

    /// What the store has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.shared.counters.read()
    }

    fn read_one(&self, snapshot: &Snapshot, key: &Key) -> Result<Option<Item>, StoreFault> {
        // Nothing can stand under a key that nobody may write.
        let nowhere = |part: &str| part.is_empty() || part.contains('\0');
        if nowhere(&key.partition) || nowhere(&key.sort) {
            return Ok(None);
        }
        snapshot.item(&self.shared.layout.key(key))
    }

    fn snapshot_to_read(&self) -> Result<Arc<Snapshot>, StoreFault> {
        Counters::add(&self.shared.counters.reads, 1);
        self.shared.snapshot()
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault> {
        self.read_one(&*self.snapshot_to_read()?, key)
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        let snapshot = self.snapshot_to_read()?;
        keys.iter().map(|key| self.read_one(&snapshot, key)).collect()
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        let table = self.shared.layout.table(query.table);
        self.snapshot_to_read()?.query(table, query)
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TransactError> {
        validate(&writes);
        let keyed = |write: Write| (self.shared.layout.key(&write.key), write);
        let writes = writes.into_iter().map(keyed).collect();
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().expect("it is there until the drop");
        queue.send(Job { writes, answer }).map_err(|_| stopped(FaultKind::Unavailable))?;
        match answered.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Refusal::Conditions(failed))) => Err(TransactError::ConditionFailed(failed)),
            Ok(Err(Refusal::Fault(fault))) => Err(TransactError::Fault(fault)),
            Ok(Err(Refusal::Bug(bug))) => panic!("{bug}"),
            Err(_) => Err(TransactError::Fault(stopped(FaultKind::OutcomeUnknown))),
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so already.
            let _ = writer.join();
        }
    }
}

impl Shared {
    /// The state after the newest commit.
    ///
    /// A snapshot is kept from one commit to the next: to open one costs more than to read an item.
    fn snapshot(&self) -> Result<Arc<Snapshot>, StoreFault> {
        let mut kept = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(snapshot) = &*kept {
            return Ok(snapshot.clone());
        }
        let snapshot = Arc::new(Snapshot::of(&self.database).map_err(fault)?);
        *kept = Some(snapshot.clone());
        Ok(snapshot)
    }

    fn forget_snapshot(&self) {
        let mut kept = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = None;
    }
}

fn stopped(kind: FaultKind) -> StoreFault {
    StoreFault::new(kind, "the store's writer has stopped: start again")
}

/// A fault while reading.
fn fault(error: impl Into<redb::Error>) -> StoreFault {
    match error.into() {
        redb::Error::Corrupted(reason) => StoreFault::new(FaultKind::Corrupt, reason),
        other => StoreFault::new(FaultKind::Unavailable, other.to_string()),
    }
}
