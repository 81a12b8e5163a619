//! The doors of the model: a store over one state's items, a bus that takes note, a clock that
//! stands still, and chance that is none. Nobody waits at them.

use super::canon;
use async_trait::async_trait;
use eventplane_domain::Millis;
use eventplane_engine::{Chance, Clock, Fault, Publisher};
use eventplane_events::Entry;
use eventplane_plane::TABLES;
use eventplane_store::{
    Failed, Item, ItemExt, Key, Page, Query, Store, StoreFault, TransactError, Write, apply, holds,
    validate,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Items by their keys.
pub(super) type Items = BTreeMap<Key, Arc<Item>>;
/// What one transaction has written: the items that stand there now, none where one went.
pub(super) type Commit = Vec<(Key, Option<Arc<Item>>)>;

/// What a call has asked of the store: all that its outcome depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Seen {
    Key(Key),
    Partition(&'static str, String),
    Table(&'static str),
}

#[derive(Default)]
struct Stand {
    items: Items,
    /// What is seen instead of `items` until the first write: how it stood before others came.
    earlier: Option<Items>,
    commits: Vec<Commit>,
    seen: BTreeSet<Seen>,
    published: Vec<Entry>,
}

/// The world of one call: items before it, and all that it did.
#[derive(Default)]
pub(super) struct Doors {
    stand: Mutex<Stand>,
    now: AtomicI64,
    chance: AtomicI64,
}

/// All that a call did.
pub(super) struct Done {
    pub(super) commits: Vec<Commit>,
    pub(super) published: Vec<Entry>,
    pub(super) seen: BTreeSet<Seen>,
}

impl Doors {
    fn stand(&self) -> MutexGuard<'_, Stand> {
        self.stand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens them on these items, at this moment. `earlier` is what is read until the first write.
    pub(super) fn open(&self, items: Items, earlier: Option<Items>, now: Millis) {
        *self.stand() = Stand { items, earlier, ..Stand::default() };
        self.now.store(now.0, Ordering::SeqCst);
    }

    /// What chance says from now on.
    pub(super) fn set_chance(&self, chance: i64) {
        self.chance.store(chance, Ordering::SeqCst);
    }

    /// What was done since they were opened.
    pub(super) fn close(&self) -> Done {
        let Stand { commits, published, seen, .. } = std::mem::take(&mut *self.stand());
        Done { commits, published, seen }
    }
}

impl Stand {
    fn read(&self) -> &Items {
        self.earlier.as_ref().unwrap_or(&self.items)
    }

    fn get(&mut self, key: &Key) -> Option<Item> {
        self.seen.insert(Seen::Key(key.clone()));
        self.read().get(key).map(|item| Item::clone(item))
    }

    fn transact(&mut self, writes: Vec<Write>) -> Result<(), TransactError> {
        self.earlier = None;
        self.seen.extend(writes.iter().map(|write| Seen::Key(write.key.clone())));
        let item = |write: &Write| self.items.get(&write.key).map(|item| &**item);
        let failed: Vec<Failed> = writes
            .iter()
            .enumerate()
            .filter(|(_, write)| !write.conditions.iter().all(|one| holds(one, item(write))))
            .map(|(index, write)| Failed {
                index,
                key: write.key.clone(),
                item: item(write).cloned(),
            })
            .collect();
        if !failed.is_empty() {
            return Err(TransactError::ConditionFailed(failed));
        }
        let mut commit = Commit::new();
        for Write { key, action, .. } in writes {
            let before = self.items.remove(&key);
            let after = apply(action, before.as_deref().cloned());
            let after = after.map(|item| Arc::new(canon::item(item)));
            if before == after {
                self.items.extend(after.map(|item| (key, item)));
                continue;
            }
            self.items.extend(after.clone().map(|item| (key.clone(), item)));
            commit.push((key, after));
        }
        if !commit.is_empty() {
            self.commits.push(commit);
        }
        Ok(())
    }

    fn query(&mut self, query: &Query) -> Page {
        self.seen.insert(match query.index {
            None => Seen::Partition(query.table, query.partition.clone()),
            Some(_) => Seen::Table(query.table),
        });
        let mut found: Vec<(String, Key, Item)> =
            self.read().iter().filter_map(|(key, item)| place(query, key, item)).collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        if query.descending {
            found.reverse();
        }
        if let Some(after) = &query.after {
            found.retain(|(at, ..)| if query.descending { at < after } else { at > after });
        }
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|(at, ..)| at.clone());
        Page { items: found.into_iter().map(|(_, key, item)| (key, item)).collect(), next }
    }
}

/// The place of an item in what is queried, and what it shows there.
fn place(query: &Query, key: &Key, item: &Item) -> Option<(String, Key, Item)> {
    if key.table != query.table {
        return None;
    }
    let (sort, shown) = match query.index {
        None => (key.sort.as_str(), item.clone()),
        Some(name) => {
            let table = TABLES.iter().find(|table| table.name == query.table)?;
            let index = table.indexes.iter().find(|index| index.name == name).expect("declared");
            let (partition, sort) = (item.text(index.partition)?, item.text(index.sort)?);
            (sort, Item::new().with(index.partition, partition).with(index.sort, sort))
        }
    };
    let stands = match query.index {
        None => key.partition == query.partition,
        Some(_) => shown.values().any(|value| *value == query.partition.as_str().into()),
    };
    let is_after = match &query.from {
        Some(from) if query.descending => sort <= from.as_str(),
        Some(from) => sort >= from.as_str(),
        None => true,
    };
    let position = format!("{sort}\0{}\0{}", key.partition, key.sort);
    let is_asked = stands && is_after && sort.starts_with(&query.prefix);
    is_asked.then(|| (position, key.clone(), shown))
}

#[async_trait]
impl Store for Doors {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault> {
        Ok(self.stand().get(key))
    }
    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        let mut stand = self.stand();
        Ok(keys.iter().map(|key| stand.get(key)).collect())
    }
    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        Ok(self.stand().query(query))
    }
    async fn transact(&self, writes: Vec<Write>) -> Result<(), TransactError> {
        validate(&writes);
        self.stand().transact(writes)
    }
}

#[async_trait]
impl Publisher for Doors {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        self.stand().published.extend(entries);
        Ok(())
    }
}

impl Clock for Doors {
    fn now(&self) -> Millis {
        Millis(self.now.load(Ordering::SeqCst))
    }
}

impl Chance for Doors {
    fn fill(&self, bytes: &mut [u8]) {
        let chance = self.chance.load(Ordering::SeqCst).to_le_bytes();
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&chance[..chunk.len()]);
        }
    }
}
