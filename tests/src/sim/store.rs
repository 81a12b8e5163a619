//! The simulation's store: the port's own pure functions over a map, with a point at every call
//! where others may come first, where it may fail, or where its caller may die. Its indexes follow
//! the items later, if the history says so.

use super::chaos::Chaos;
use super::fault::Kind;
use async_trait::async_trait;
use eventplane_store::{
    Action, Failed, FaultKind, Item, ItemExt, Key, Page, Query, Store, StoreFault, Table,
    TransactError, Update, Write, apply, holds, validate,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One call in so many is refused, is not answered, or loses its answer.
const REFUSED_ONE_IN: usize = 90;
const UNANSWERED_ONE_IN: usize = 60;
const LOST_ONE_IN: usize = 50;
/// With many refused, one call in so many.
const MANY_ONE_IN: usize = 5;
/// How far behind an index is at most while it is late, and otherwise, in milliseconds.
pub(super) const INDEX_LATE_MS: i64 = 300_000;
const INDEX_BEHIND_MS: usize = 60;
/// What a later version writes into its receipts besides.
const LATER_FIELD: &str = "colour";

/// A store in memory that keeps its callers waiting.
pub struct SimStore {
    tables: &'static [Table],
    data: Mutex<Data>,
    chaos: Arc<Chaos>,
}

/// What a store holds.
#[derive(Clone, Default)]
pub struct Data {
    /// The items.
    pub items: BTreeMap<Key, Item>,
    indexes: BTreeMap<Partition, BTreeMap<String, Place>>,
    /// What the indexes have yet to learn, and when.
    behind: VecDeque<(i64, Learn)>,
    changed: Vec<Key>,
}

/// A partition of an index: table, index, partition.
type Partition = (&'static str, &'static str, String);

/// An item in an index: what it is ordered by, and its key.
type Place = (String, Key);

/// What an index learns of an item: the place that it leaves, and the one that it gets.
#[derive(Clone)]
struct Learn {
    leaves: Option<(Partition, String)>,
    gets: Option<(Partition, String, Place)>,
}

impl SimStore {
    /// A store of these tables.
    #[must_use]
    pub fn new(tables: &'static [Table], chaos: Arc<Chaos>) -> Self {
        SimStore { tables, data: Mutex::default(), chaos }
    }

    /// What it holds, for whoever checks the books.
    pub fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was changed since this was last asked.
    pub fn take_changed(&self) -> Vec<Key> {
        std::mem::take(&mut self.data().changed)
    }

    /// Goes back to what it held then.
    pub fn restore(&self, data: &Data) {
        self.data().clone_from(data);
    }

    async fn before(&self, keys: &[&Key]) -> Result<(), StoreFault> {
        self.chaos.pause().await;
        let chaos = &self.chaos;
        if chaos.strikes_in_window(Kind::StoreDown, "")
            || chaos.strikes(Kind::Refused, REFUSED_ONE_IN)
            || chaos.strikes(Kind::ManyRefused, MANY_ONE_IN)
        {
            return Err(StoreFault::new(FaultKind::Unavailable, "nothing was done"));
        }
        if keys.iter().any(|key| chaos.strikes_in_window(Kind::HotKey, &key.partition)) {
            return Err(StoreFault::new(FaultKind::Throttled, "too much is asked of one key"));
        }
        Ok(())
    }

    /// How far behind its indexes are now, in milliseconds.
    fn lag_ms(&self) -> i64 {
        if !self.chaos.may(Kind::LateIndex) {
            0
        } else if self.chaos.in_any_window(Kind::LateIndex) {
            INDEX_LATE_MS
        } else {
            self.chaos.of_kind(Kind::LateIndex, INDEX_BEHIND_MS) as i64
        }
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), TransactError> {
        let due = self.chaos.moment() + self.lag_ms();
        let mut data = self.data();
        let fails = |write: &Write| {
            let item = data.items.get(&write.key);
            !write.conditions.iter().all(|condition| holds(condition, item))
        };
        let failed: Vec<Failed> = (writes.iter().enumerate())
            .filter(|(_, write)| fails(write))
            .map(|(index, write)| Failed {
                index,
                key: write.key.clone(),
                item: data.items.get(&write.key).cloned(),
            })
            .collect();
        if !failed.is_empty() {
            return Err(TransactError::ConditionFailed(failed));
        }
        for Write { key, action, .. } in writes {
            if matches!(action, Action::Check) {
                continue;
            }
            let before = data.items.remove(&key);
            let left = self.places(&key, before.as_ref());
            let after = apply(action, before);
            let gets = self.places(&key, after.as_ref());
            for (left, gets) in left.into_iter().zip(gets) {
                let is_same = left.as_ref().map(|(of, at, _)| (of, at))
                    == gets.as_ref().map(|(of, at, _)| (of, at));
                if !is_same {
                    let learn = Learn { leaves: left.map(|(of, at, _)| (of, at)), gets };
                    let due = data.behind.back().map_or(due, |(last, _)| due.max(*last));
                    data.behind.push_back((due, learn));
                }
            }
            data.changed.push(key.clone());
            if let Some(item) = after {
                data.items.insert(key, item);
            }
        }
        Ok(())
    }

    /// Where an item stands in each of its table's indexes.
    fn places(&self, key: &Key, item: Option<&Item>) -> Vec<Option<(Partition, String, Place)>> {
        let table = self.tables.iter().find(|table| table.name == key.table);
        let indexes = table.map_or(&[][..], |table| table.indexes);
        let place = |index: &eventplane_store::Index| {
            let item = item?;
            let (partition, sort) = (item.text(index.partition)?, item.text(index.sort)?);
            let of = (key.table, index.name, partition.to_owned());
            Some((of, position(sort, key), (sort.to_owned(), key.clone())))
        };
        indexes.iter().map(place).collect()
    }

    /// The receipts of a later version have an attribute that nobody else knows.
    fn written_later(writes: &mut [Write]) {
        for write in writes.iter_mut().filter(|write| write.key.sort == "receipt") {
            match &mut write.action {
                Action::Put(item) => {
                    item.insert(LATER_FIELD.to_owned(), "blue".into());
                }
                Action::Update(updates) => updates.push(Update::set(LATER_FIELD, "blue")),
                Action::Delete | Action::Check => {}
            }
        }
    }

    fn told(writes: &[Write]) -> String {
        let verb = |write: &Write| match write.action {
            Action::Put(_) => "put",
            Action::Update(_) => "update",
            Action::Delete => "delete",
            Action::Check => "check",
        };
        let told: Vec<String> =
            writes.iter().map(|write| format!("{} {}", verb(write), write.key)).collect();
        told.join(", ")
    }
}

impl Data {
    /// Lets the indexes learn what they have to know by now.
    fn learn(&mut self, now: i64) {
        while self.behind.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, Learn { leaves, gets })) = self.behind.pop_front() else { return };
            if let Some((of, at)) = leaves
                && let Some(partition) = self.indexes.get_mut(&of)
            {
                partition.remove(&at);
            }
            if let Some((of, at, place)) = gets {
                self.indexes.entry(of).or_default().insert(at, place);
            }
        }
    }

    /// What a query finds: position, sort key and key of each item, in order.
    fn found(&self, query: &Query) -> Vec<(String, &str, &Key)> {
        let is_asked = |sort: &str| {
            let starts = match &query.from {
                Some(from) if query.descending => sort <= from.as_str(),
                Some(from) => sort >= from.as_str(),
                None => true,
            };
            starts && sort.starts_with(&query.prefix)
        };
        match query.index {
            None => {
                let first = Key::new(query.table, query.partition.as_str(), "");
                let is_there = |(key, _): &(&Key, &Item)| {
                    (key.table, &key.partition) == (query.table, &query.partition)
                };
                let there = self.items.range(first..).take_while(is_there);
                let asked = there.filter(|(key, _)| is_asked(&key.sort));
                asked.map(|(key, _)| (position(&key.sort, key), key.sort.as_str(), key)).collect()
            }
            Some(index) => {
                let of = (query.table, index, query.partition.clone());
                let there = self.indexes.get(&of).into_iter().flatten();
                let asked = there.filter(|(_, (sort, _))| is_asked(sort));
                asked.map(|(at, (sort, key))| (at.clone(), sort.as_str(), key)).collect()
            }
        }
    }
}

/// The places of items in a query: by sort key, and where these are equal by the items' own keys.
fn position(sort: &str, key: &Key) -> String {
    format!("{sort}\0{}\0{}", key.partition, key.sort)
}

#[async_trait]
impl Store for SimStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault> {
        self.before(&[key]).await?;
        Ok(self.data().items.get(key).cloned())
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        self.before(&keys.iter().collect::<Vec<_>>()).await?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            // Each is read at a moment of its own.
            if self.chaos.draws(8) {
                self.chaos.pause().await;
            }
            found.push(self.data().items.get(key).cloned());
        }
        Ok(found)
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        self.before(&[]).await?;
        let now = self.chaos.moment();
        let mut data = self.data();
        data.learn(now);
        let mut found = data.found(query);
        if query.descending {
            found.reverse();
        }
        if let Some(after) = &query.after {
            found.retain(|(at, ..)| if query.descending { at < after } else { at > after });
        }
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|(at, ..)| at.clone());
        let index = query.index.and_then(|name| {
            let table = self.tables.iter().find(|table| table.name == query.table)?;
            table.indexes.iter().find(|index| index.name == name)
        });
        let shown = |sort: &str, key: &Key| match index {
            Some(index) => {
                Item::new().with(index.partition, query.partition.as_str()).with(index.sort, sort)
            }
            None => data.items[key].clone(),
        };
        let items = found.iter().map(|(_, sort, key)| ((*key).clone(), shown(sort, key))).collect();
        Ok(Page { items, next })
    }

    async fn transact(&self, mut writes: Vec<Write>) -> Result<(), TransactError> {
        validate(&writes);
        self.before(&writes.iter().map(|write| &write.key).collect::<Vec<_>>()).await?;
        let chaos = &self.chaos;
        let is_of_hosts = writes.iter().any(|write| write.key.sort == "host");
        if is_of_hosts && chaos.in_any_window(Kind::Conflicts) && chaos.strikes(Kind::Conflicts, 2)
        {
            let message = "another transaction holds the host";
            return Err(StoreFault::new(FaultKind::Conflict, message).into());
        }
        if chaos.strikes(Kind::Unanswered, UNANSWERED_ONE_IN) {
            let message = "no answer came: nothing was done";
            return Err(StoreFault::new(FaultKind::OutcomeUnknown, message).into());
        }
        if chaos.worker().is_later {
            SimStore::written_later(&mut writes);
        }
        let name = chaos.worker().name;
        chaos.tell(|| format!("  {name} commits: {}", SimStore::told(&writes)));
        if let Err(error) = self.commit(writes) {
            chaos.tell(|| format!("  {name} has not: {error}"));
            return Err(error);
        }
        chaos.written();
        chaos.pause().await;
        if chaos.strikes(Kind::LostAnswer, LOST_ONE_IN) {
            let message = "the answer was lost: it was done";
            return Err(StoreFault::new(FaultKind::OutcomeUnknown, message).into());
        }
        Ok(())
    }
}
