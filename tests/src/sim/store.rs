//! The simulation's store: the port's own pure functions over a map, with a point at every call
//! where others may come first, where it may fail, or where its caller may die.

use super::chaos::Chaos;
use async_trait::async_trait;
use eventplane_store::{
    Failed, FaultKind, Item, ItemExt, Key, Page, Query, Store, StoreFault, Table, TransactError,
    Write, apply, holds, validate,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store in memory that keeps its callers waiting.
pub struct SimStore {
    tables: &'static [Table],
    items: Mutex<BTreeMap<Key, Item>>,
    chaos: Arc<Chaos>,
}

impl SimStore {
    /// A store of these tables.
    #[must_use]
    pub fn new(tables: &'static [Table], chaos: Arc<Chaos>) -> Self {
        SimStore { tables, items: Mutex::default(), chaos }
    }

    /// All items, for whoever checks the books.
    pub fn items(&self) -> MutexGuard<'_, BTreeMap<Key, Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn before(&self, what: &str) -> Result<(), StoreFault> {
        self.chaos.pause().await;
        if self.chaos.fails() {
            return Err(StoreFault::new(FaultKind::Unavailable, format!("{what}: not done")));
        }
        Ok(())
    }

    /// The place of an item in what is queried, and what it shows there: none if it does not stand
    /// there.
    fn place(&self, query: &Query, key: &Key, item: &Item) -> Option<(String, Item)> {
        if key.table != query.table {
            return None;
        }
        let Some(name) = query.index else {
            let stands = key.partition == query.partition;
            return stands.then(|| (key.sort.clone(), item.clone()));
        };
        let table = self.tables.iter().find(|table| table.name == query.table);
        let index = table?.indexes.iter().find(|index| index.name == name).expect("declared");
        let partition = item.text(index.partition)?;
        let sort = item.text(index.sort)?;
        let shown = Item::new().with(index.partition, partition).with(index.sort, sort);
        (partition == query.partition).then(|| (sort.to_owned(), shown))
    }
}

/// The places of items in a query: by sort key, and where these are equal by the items' own keys.
fn position(sort: &str, key: &Key) -> String {
    format!("{sort}\0{}\0{}", key.partition, key.sort)
}

fn transact(items: &mut BTreeMap<Key, Item>, writes: Vec<Write>) -> Result<(), TransactError> {
    let failed: Vec<Failed> = writes
        .iter()
        .enumerate()
        .filter(|(_, write)| !write.conditions.iter().all(|c| holds(c, items.get(&write.key))))
        .map(|(index, write)| Failed {
            index,
            key: write.key.clone(),
            item: items.get(&write.key).cloned(),
        })
        .collect();
    if !failed.is_empty() {
        return Err(TransactError::ConditionFailed(failed));
    }
    for write in writes {
        let before = items.remove(&write.key);
        if let Some(after) = apply(write.action, before) {
            items.insert(write.key, after);
        }
    }
    Ok(())
}

#[async_trait]
impl Store for SimStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault> {
        self.before("get").await?;
        Ok(self.items().get(key).cloned())
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        self.before("batch get").await?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            // Each is read at a moment of its own.
            if self.chaos.draws(8) {
                self.chaos.pause().await;
            }
            found.push(self.items().get(key).cloned());
        }
        Ok(found)
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        self.before("query").await?;
        let items = self.items();
        let mut found: Vec<(String, String, Key, Item)> = items
            .iter()
            .filter_map(|(key, item)| {
                let (sort, shown) = self.place(query, key, item)?;
                Some((sort, key, shown))
            })
            .filter(|(sort, ..)| sort.starts_with(&query.prefix))
            .filter(|(sort, ..)| match &query.from {
                Some(from) if query.descending => sort <= from,
                Some(from) => sort >= from,
                None => true,
            })
            .map(|(sort, key, item)| {
                let position = position(&sort, key);
                (position, sort, key.clone(), item)
            })
            .collect();
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
        Ok(Page { items: found.into_iter().map(|(_, _, key, item)| (key, item)).collect(), next })
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TransactError> {
        validate(&writes);
        self.before("transact").await?;
        let done = transact(&mut self.items(), writes);
        done?;
        self.chaos.written();
        self.chaos.pause().await;
        if self.chaos.fails() {
            let message = "the answer was lost: it was done";
            return Err(StoreFault::new(FaultKind::OutcomeUnknown, message).into());
        }
        Ok(())
    }
}
