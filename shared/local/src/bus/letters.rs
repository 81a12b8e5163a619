//! Dead letters: kept in the store until they are redriven and handled.

use super::queue::Message;
use eventplane_domain::Millis;
use eventplane_engine::{Clock, DeadLetter, Fault};
use eventplane_store::{
    Condition, FaultKind, Item, ItemExt, Key, Query, Store, StoreFault, TRANSACTION_WRITES_MAX,
    Table, TransactError, Write,
};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The table of dead letters; a function's letters are one partition, in the order of time.
pub const DEAD_LETTERS: Table = Table { name: "dead-letters", indexes: &[] };

/// How many ids are tried for a letter before the store is said to be at fault.
const IDS_TRIED_MAX: usize = 16;

/// The letters of all functions.
pub(super) struct Letters {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    kept: AtomicU64,
    /// Letters that are in their inbox again. They stay in the store until they are handled, so
    /// that a crash meanwhile leaves them what they were.
    redriven: Mutex<HashSet<String>>,
}

impl Letters {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Letters { store, clock, kept: AtomicU64::new(0), redriven: Mutex::default() }
    }

    fn redriven(&self) -> MutexGuard<'_, HashSet<String>> {
        self.redriven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message as a dead letter; durable when it returns. The letter that it was before
    /// goes with the same transaction.
    pub(super) async fn keep(
        &self,
        function: &str,
        message: &Message,
        reason: &str,
    ) -> Result<(), Fault> {
        let at = self.clock.now();
        let item = Item::new()
            .with("reason", reason)
            .with("received", i64::from(message.received))
            .with("at", at.0)
            .with("body", &*message.body);
        for _ in 0..IDS_TRIED_MAX {
            let n = self.kept.fetch_add(1, Ordering::Relaxed);
            let key = key(function, &format!("{:011x}-{n:04x}", at.0));
            let mut writes = vec![Write::put(key, item.clone()).when(Condition::ItemAbsent)];
            writes.extend(message.letter.as_deref().and_then(key_of).map(Write::delete));
            match self.store.transact(writes).await {
                Ok(()) => {
                    self.forget(message);
                    return Ok(());
                }
                // A letter of this millisecond from before a restart has this id.
                Err(TransactError::ConditionFailed(_)) => {}
                Err(TransactError::Fault(fault)) => return Err(fault.into()),
            }
        }
        Err(Fault::Other(format!("{IDS_TRIED_MAX} ids of dead letters in a row were in use")))
    }

    /// A message that may have been a dead letter is handled: then the letter goes.
    pub(super) async fn handled(&self, message: &Message) {
        let Some(key) = message.letter.as_deref().and_then(key_of) else { return };
        if let Err(fault) = self.store.transact(vec![Write::delete(key.clone())]).await {
            tracing::warn!(letter = %key, %fault, "handled, but still listed as a dead letter");
        }
        self.forget(message);
    }

    fn forget(&self, message: &Message) {
        if let Some(id) = &message.letter {
            self.redriven().remove(id);
        }
    }

    /// The oldest letters of `function`, without those that are in their inbox again.
    pub(super) async fn of(&self, function: &str, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        let mut letters = Vec::new();
        let mut query = Query::partition(DEAD_LETTERS.name, partition(function), limit.max(1));
        loop {
            let page = self.store.query(&query).await?;
            for (key, item) in page.items {
                let letter = read(function, &key, &item)?;
                if letters.len() < limit && !self.redriven().contains(&letter.id) {
                    letters.push(letter);
                }
            }
            match page.next {
                Some(next) if letters.len() < limit => query.after = Some(next),
                _ => return Ok(letters),
            }
        }
    }

    /// The letter called `id`, if it is not in its inbox again.
    pub(super) async fn get(&self, id: &str) -> Result<Option<DeadLetter>, Fault> {
        let Some((function, _)) = id.split_once('.') else { return Ok(None) };
        let Some(key) = key_of(id) else { return Ok(None) };
        match self.store.get(&key).await? {
            Some(item) if !self.redriven().contains(id) => read(function, &key, &item).map(Some),
            _ => Ok(None),
        }
    }

    /// Removes the letters of `function` that were dead letters `until` then, without those that are
    /// in their inbox again.
    pub(super) async fn purge(
        &self,
        function: &str,
        until: Millis,
        limit: usize,
    ) -> Result<usize, Fault> {
        let letters = self.of(function, limit).await?;
        let old = letters.iter().filter(|letter| letter.at <= until);
        let writes: Vec<Write> =
            old.filter_map(|letter| key_of(&letter.id)).map(Write::delete).collect();
        for part in writes.chunks(TRANSACTION_WRITES_MAX) {
            self.store.try_transact(part.to_vec()).await?;
        }
        Ok(writes.len())
    }

    /// Says that a letter goes into its inbox now; false if it is there already.
    pub(super) fn redrive(&self, id: &str) -> bool {
        self.redriven().insert(id.to_owned())
    }
}

fn partition(function: &str) -> String {
    format!("@dead/{function}")
}

fn key(function: &str, sort: &str) -> Key {
    Key::new(DEAD_LETTERS.name, partition(function), sort)
}

/// An id is the function and the sort key.
fn key_of(id: &str) -> Option<Key> {
    let (function, sort) = id.split_once('.')?;
    (!function.is_empty() && !sort.is_empty()).then(|| key(function, sort))
}

fn read(function: &str, key: &Key, item: &Item) -> Result<DeadLetter, Fault> {
    let letter = || {
        Some(DeadLetter {
            id: format!("{function}.{}", key.sort),
            function: function.to_owned(),
            reason: item.text("reason")?.to_owned(),
            received: u32::try_from(item.number("received")?).ok()?,
            at: Millis(item.number("at")?),
            body: item.text("body")?.to_owned(),
        })
    };
    letter().ok_or_else(|| {
        Fault::Store(StoreFault::new(FaultKind::Corrupt, format!("not a dead letter: {key}")))
    })
}
