//! Waiting for a change of a partition: for long polls, thousands at once.

use super::EmbeddedStore;
use async_trait::async_trait;
use eventplane_engine::{Waiter, Watching};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Who waits for which partition; an entry lives as long as somebody watches.
#[derive(Default)]
pub(super) struct Watchers {
    partitions: Mutex<HashMap<Box<[u8]>, watch::Sender<()>>>,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, watch::Sender<()>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(self: &Arc<Self>, partition: Vec<u8>) -> Watch {
        let partition = partition.into_boxed_slice();
        let mut partitions = self.lock();
        let sender = partitions.entry(partition.clone()).or_insert_with(|| watch::channel(()).0);
        let changes = Some(sender.subscribe());
        Watch { changes, partition, watchers: self.clone() }
    }

    /// Wakes whoever watches one of these partitions.
    pub(super) fn wake<'p>(&self, partitions: impl Iterator<Item = &'p [u8]>) {
        let watched = self.lock();
        if watched.is_empty() {
            return;
        }
        for partition in partitions {
            if let Some(sender) = watched.get(partition) {
                sender.send_replace(());
            }
        }
    }
}

/// Tells of commits that wrote to one partition of one table.
///
/// Make the watch first, then read, then wait: no commit falls in between.
pub struct Watch {
    /// `None` only while it is dropped.
    changes: Option<watch::Receiver<()>>,
    partition: Box<[u8]>,
    watchers: Arc<Watchers>,
}

impl Watch {
    /// Completes after a commit that wrote an item of the partition since this watch was made, or
    /// since this method last completed; at once if there was one. Never completes once the store
    /// is closed. May be dropped and called again without losing a change.
    pub async fn changed(&mut self) {
        let changes = self.changes.as_mut().expect("it is there until the drop");
        if changes.changed().await.is_err() {
            // The sender goes only after the last watch of its partition.
            std::future::pending().await
        }
    }
}

impl Waiter for EmbeddedStore {
    fn watch(&self, table: &'static str, partition: &str) -> Option<Box<dyn Watching>> {
        Some(Box::new(EmbeddedStore::watch(self, table, partition)))
    }
}

#[async_trait]
impl Watching for Watch {
    async fn changed(&mut self) {
        Watch::changed(self).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Under the lock, so that nobody subscribes between the count and the removal.
        let mut partitions = self.watchers.lock();
        drop(self.changes.take());
        if partitions.get(&self.partition).is_some_and(|sender| sender.receiver_count() == 0) {
            partitions.remove(&self.partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_store::{Item, Key, Store, Table, Write};
    use std::future::poll_fn;
    use std::task::Poll;

    const TABLE: Table = Table { name: "handoff", indexes: &[] };

    async fn write(store: &EmbeddedStore, partition: &str) {
        let key = Key::new(TABLE.name, partition, "assignment");
        store.transact(vec![Write::put(key, Item::new())]).await.expect("written");
    }

    /// Whether the watch completes without waiting.
    async fn has_changed(watch: &mut dyn Watching) -> bool {
        let mut changed = watch.changed();
        poll_fn(|context| Poll::Ready(changed.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn a_watch_tells_of_each_write_to_its_partition_and_of_no_other() {
        let store = EmbeddedStore::in_memory(&[TABLE]).expect("a store");
        write(&store, "host-1").await;
        let waiter: &dyn Waiter = &store;
        let mut watch = waiter.watch(TABLE.name, "host-1").expect("it can tell");
        assert!(!has_changed(&mut *watch).await, "that was before the watch");
        write(&store, "host-10").await;
        assert!(!has_changed(&mut *watch).await, "that was another partition");
        write(&store, "host-1").await;
        write(&store, "host-1").await;
        assert!(has_changed(&mut *watch).await);
        assert!(!has_changed(&mut *watch).await, "once for all that came before");
        write(&store, "host-1").await;
        assert!(has_changed(&mut *watch).await);
    }

    #[tokio::test]
    async fn a_partition_that_nobody_watches_any_more_is_forgotten() {
        let store = EmbeddedStore::in_memory(&[TABLE]).expect("a store");
        let (first, second) =
            (store.watch(TABLE.name, "host-1"), store.watch(TABLE.name, "host-1"));
        drop(first);
        assert_eq!(store.shared.watchers.lock().len(), 1);
        drop(second);
        assert_eq!(store.shared.watchers.lock().len(), 0);
    }
}
