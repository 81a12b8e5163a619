//! The store that both kinds of control plane stand on: the port's own pure functions over a map,
//! each call with its time and its fate.

use super::weather::{Fate, Weather};
use async_trait::async_trait;
use eventplane_store::{
    Failed, FaultKind, Item, ItemExt, Key, Page, Query, Store, StoreFault, Table, TransactError,
    Write, apply, holds, validate,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// How long a call takes.
const CALL: Duration = Duration::from_millis(4);
/// How long an answer is waited for before the outcome counts as unknown.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Memory {
    tables: &'static [Table],
    items: Mutex<BTreeMap<Key, Item>>,
    weather: Arc<Weather>,
}

impl Memory {
    pub(crate) fn new(tables: &'static [Table], weather: Arc<Weather>) -> Arc<Memory> {
        Arc::new(Memory { tables, items: Mutex::default(), weather })
    }

    /// All items, for whoever checks the books.
    pub(crate) fn items(&self) -> MutexGuard<'_, BTreeMap<Key, Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call: what is done, if it is, and what the caller hears of it.
    async fn call<T>(
        &self,
        work: impl FnOnce(&mut BTreeMap<Key, Item>) -> T,
    ) -> Result<T, StoreFault> {
        sleep(CALL).await;
        let done = match self.weather.fate("store") {
            Fate::Well => return Ok(work(&mut self.items())),
            Fate::NotDone => {
                return Err(StoreFault::new(FaultKind::Unavailable, "not done"));
            }
            Fate::Silent { done } => done,
        };
        if done {
            drop(work(&mut self.items()));
        }
        sleep(PATIENCE).await;
        Err(StoreFault::new(FaultKind::OutcomeUnknown, "no answer came"))
    }

    /// The sort key that an item has in what is queried, and what it shows there.
    fn place(&self, query: &Query, key: &Key, item: &Item) -> Option<(String, Item)> {
        let Some(name) = query.index else { return Some((key.sort.clone(), item.clone())) };
        let table = self.tables.iter().find(|table| table.name == query.table)?;
        let index = table.indexes.iter().find(|index| index.name == name).expect("declared");
        let (partition, sort) = (item.text(index.partition)?, item.text(index.sort)?);
        let shown = Item::new().with(index.partition, partition).with(index.sort, sort);
        (partition == query.partition).then(|| (sort.to_owned(), shown))
    }

    fn page(&self, items: &BTreeMap<Key, Item>, query: &Query) -> Page {
        let of_table = query.index.is_none();
        let first = match of_table {
            true => Key::new(query.table, query.partition.as_str(), ""),
            false => Key::new(query.table, "", ""),
        };
        let stands = |key: &&Key| {
            key.table == query.table && (!of_table || key.partition == query.partition)
        };
        let mut found: Vec<(String, Key, Item)> = items
            .range(first..)
            .take_while(|(key, _)| stands(key))
            .filter_map(|(key, item)| {
                let (sort, shown) = self.place(query, key, item)?;
                let is_in = match &query.from {
                    Some(from) if query.descending => sort <= *from,
                    Some(from) => sort >= *from,
                    None => true,
                };
                let at = format!("{sort}\0{}\0{}", key.partition, key.sort);
                (is_in && sort.starts_with(&query.prefix)).then(|| (at, key.clone(), shown))
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
        Page { items: found.into_iter().map(|(_, key, item)| (key, item)).collect(), next }
    }
}

fn transact(items: &mut BTreeMap<Key, Item>, writes: Vec<Write>) -> Result<(), TransactError> {
    let fails = |write: &Write| !write.conditions.iter().all(|c| holds(c, items.get(&write.key)));
    let failed: Vec<Failed> = writes
        .iter()
        .enumerate()
        .filter(|(_, write)| fails(write))
        .map(|(index, write)| {
            let item = items.get(&write.key).cloned();
            Failed { index, key: write.key.clone(), item }
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
impl Store for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault> {
        self.call(|items| items.get(key).cloned()).await
    }
    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        self.call(|items| keys.iter().map(|key| items.get(key).cloned()).collect()).await
    }
    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        self.call(|items| self.page(items, query)).await
    }
    async fn transact(&self, writes: Vec<Write>) -> Result<(), TransactError> {
        validate(&writes);
        self.call(|items| transact(items, writes)).await?
    }
}
