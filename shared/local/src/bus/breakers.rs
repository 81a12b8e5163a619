//! Breakers: which functions get no messages, kept in the store so that a restart changes nothing.

use super::letters::DEAD_LETTERS;
use super::queue::Queue;
use super::{LocalBus, gate::Gate};
use async_trait::async_trait;
use eventplane_domain::Millis;
use eventplane_engine::{Breaker, BreakerState, Breakers, Fault};
use eventplane_store::{FaultKind, Item, ItemExt, Key, Query, StoreFault, Write};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The partition of all breakers, beside those of the dead letters: an item for each function whose
/// breaker was ever touched.
const PARTITION: &str = "@breakers";
const IS_OPEN: &str = "open";
const SINCE: &str = "since";

/// When each breaker that was ever touched was last opened or closed.
#[derive(Default)]
pub(super) struct Since {
    of: Mutex<BTreeMap<String, Millis>>,
    /// What is stored and what the queue does are changed together.
    changing: tokio::sync::Mutex<()>,
}

impl Since {
    fn of(&self) -> MutexGuard<'_, BTreeMap<String, Millis>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalBus {
    /// Opens the breakers that were open when the store was last used: call it before the bus is
    /// [started](LocalBus::start). What was draining then goes on at full speed.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn restore_breakers(&self) -> Result<(), Fault> {
        let mut query = Query::partition(DEAD_LETTERS.name, PARTITION, self.shared.queues.len());
        loop {
            let page = self.store.query(&query).await?;
            for (key, item) in page.items {
                let (is_open, since) = read(&key, &item)?;
                self.since.of().insert(key.sort.clone(), since);
                // A function that has no inbox any more has no breaker either.
                if let Some(queue) = self.queue(&key.sort).filter(|_| is_open) {
                    queue.set_breaker(true);
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn breaker(&self, queue: &Queue) -> Breaker {
        let function = queue.inbox.function.clone();
        let held = queue.held();
        let state = match held.gate {
            Gate::Closed => BreakerState::Closed,
            Gate::Open => BreakerState::Open,
            Gate::Draining { .. } => BreakerState::Draining,
        };
        let since = self.since.of().get(&function).copied();
        Breaker { function, state, since, waiting: held.queued as u64 }
    }
}

#[async_trait]
impl Breakers for LocalBus {
    async fn breakers(&self) -> Result<Vec<Breaker>, Fault> {
        Ok(self.shared.queues.iter().map(|queue| self.breaker(queue)).collect())
    }

    async fn set_breaker(&self, function: &str, is_open: bool) -> Result<Option<Breaker>, Fault> {
        let Some(queue) = self.queue(function) else { return Ok(None) };
        let _alone = self.since.changing.lock().await;
        if (queue.held().gate == Gate::Open) != is_open {
            let now = self.clock.now();
            let item = Item::new().with(IS_OPEN, i64::from(is_open)).with(SINCE, now.0);
            self.store.try_transact(vec![Write::put(key(function), item)]).await?;
            self.since.of().insert(function.to_owned(), now);
            queue.set_breaker(is_open);
        }
        Ok(Some(self.breaker(queue)))
    }
}

fn key(function: &str) -> Key {
    Key::new(DEAD_LETTERS.name, PARTITION, function)
}

/// Whether it is open, and since when it is as it is.
fn read(key: &Key, item: &Item) -> Result<(bool, Millis), Fault> {
    let parts = || Some((item.number(IS_OPEN)? != 0, Millis(item.number(SINCE)?)));
    parts().ok_or_else(|| {
        Fault::Store(StoreFault::new(FaultKind::Corrupt, format!("not a breaker: {key}")))
    })
}
