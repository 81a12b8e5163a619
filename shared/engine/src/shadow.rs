//! The shadow of a world: a step that runs in it sees what stands, and changes nothing.
//!
//! Its store reads through to the world's own and keeps its writes to itself, so that what is run
//! in it later sees them; its bus only notes what would be published. It is what a dry run and a
//! replay run in.

use crate::{Fault, Ports, Publisher};
use async_trait::async_trait;
use eventplane_events::Entry;
use eventplane_store::{
    Action, Failed, Index, Item, ItemExt, Key, Page, Query, Store, StoreFault, Table,
    TransactError, Write, apply, holds, validate,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A world's shadow.
pub struct Shadow {
    store: Arc<ShadowStore>,
    bus: Arc<Noted>,
    ports: Ports,
}

/// What would have been done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// What would have been written, in order.
    pub writes: Vec<(Verb, Key)>,
    /// What would have been published, in order.
    pub events: Vec<Entry>,
}

/// What is done to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Put,
    Update,
    Delete,
}

impl Verb {
    /// The verb as a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verb::Put => "put",
            Verb::Update => "update",
            Verb::Delete => "delete",
        }
    }
}

impl Shadow {
    /// The shadow of the world that `ports` lead to, where these are the tables.
    #[must_use]
    pub fn of(ports: &Ports, tables: &[Table]) -> Shadow {
        let store = Arc::new(ShadowStore::over(ports.store.clone(), tables));
        let bus = Arc::new(Noted::default());
        let ports = Ports { store: store.clone(), bus: bus.clone(), ..ports.clone() };
        Shadow { store, bus, ports }
    }

    /// The world as it is seen in the shadow.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// What would have been done since this was last asked.
    #[must_use]
    pub fn effects(&self) -> Effects {
        let writes = std::mem::take(&mut self.store.own().noted);
        let events = std::mem::take(&mut *self.bus.entries());
        Effects { writes, events }
    }
}

/// A bus that notes what it is given, and delivers nothing.
#[derive(Default)]
struct Noted(Mutex<Vec<Entry>>);

impl Noted {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Publisher for Noted {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        self.entries().extend(entries);
        Ok(())
    }
}

/// A store that reads through to another, and keeps its own writes in memory.
///
/// Reads see its own writes, and otherwise what the other holds at that moment.
pub struct ShadowStore {
    beneath: Arc<dyn Store>,
    tables: Vec<Table>,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    /// Items as they were written here; none where one was deleted.
    items: BTreeMap<Key, Option<Item>>,
    noted: Vec<(Verb, Key)>,
}

/// A place in the order of a query: the sort key that it goes by, then partition and sort key of
/// the item, which tell those with the same one apart.
type Place = (String, String, String);

impl ShadowStore {
    /// A shadow over `beneath`, which has these tables.
    #[must_use]
    pub fn over(beneath: Arc<dyn Store>, tables: &[Table]) -> ShadowStore {
        ShadowStore { beneath, tables: tables.to_vec(), own: Mutex::default() }
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, query: &Query) -> Option<Index> {
        let name = query.index?;
        let table = self.tables.iter().find(|table| table.name == query.table);
        let mut indexes = table.into_iter().flat_map(|table| table.indexes);
        let found = indexes.find(|index| index.name == name).copied();
        Some(found.unwrap_or_else(|| panic!("the table {} has no index `{name}`", query.table)))
    }

    /// The items that were written here and that the query asks for, by their places.
    fn written(&self, query: &Query, after: Option<&Place>) -> BTreeMap<Place, (Key, Item)> {
        let index = self.index(query);
        let own = self.own();
        let items = own.items.iter().filter(|(key, _)| key.table == query.table);
        let items = items.filter_map(|(key, item)| {
            let item = item.as_ref()?;
            let (partition, sort, seen) = match index {
                None => (key.partition.as_str(), key.sort.as_str(), item.clone()),
                Some(Index { partition, sort, .. }) => {
                    let (of, by) = (item.text(partition)?, item.text(sort)?);
                    (of, by, Item::new().with(partition, of).with(sort, by))
                }
            };
            let place = place(sort, key);
            (partition == query.partition && asks_for(query, sort) && is_past(query, &place, after))
                .then(|| (place, (key.clone(), seen)))
        });
        items.collect()
    }
}

fn place(sort: &str, key: &Key) -> Place {
    (sort.to_owned(), key.partition.clone(), key.sort.clone())
}

fn asks_for(query: &Query, sort: &str) -> bool {
    let starts = query.from.as_deref().is_none_or(|from| match query.descending {
        false => sort >= from,
        true => sort <= from,
    });
    starts && sort.starts_with(&query.prefix)
}

fn is_past(query: &Query, place: &Place, after: Option<&Place>) -> bool {
    after.is_none_or(|after| if query.descending { place < after } else { place > after })
}

/// A place as the end of a page, and back: keys have no NUL.
fn token(place: &Place) -> String {
    format!("{}\0{}\0{}", place.0, place.1, place.2)
}

fn place_of(token: &str) -> Option<Place> {
    let mut parts = token.split('\0').map(str::to_owned);
    Some((parts.next()?, parts.next()?, parts.next()?))
}

#[async_trait]
impl Store for ShadowStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault> {
        let own = self.own().items.get(key).cloned();
        match own {
            Some(item) => Ok(item),
            None => self.beneath.get(key).await,
        }
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        let beneath = self.beneath.batch_get(keys).await?;
        let own = self.own();
        let seen = |(key, item): (&Key, Option<Item>)| own.items.get(key).cloned().unwrap_or(item);
        Ok(keys.iter().zip(beneath).map(seen).collect())
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        let limit = query.limit.max(1);
        let after = query.after.as_deref().and_then(place_of);
        let mut found = self.written(query, after.as_ref());
        let index = self.index(query);
        // Where a page of the other store ends is no place here: it is read from the sort key on.
        let resumed = after.as_ref().map(|after| after.0.clone());
        let from = match query.descending {
            false => query.from.clone().max(resumed),
            true => [query.from.clone(), resumed].into_iter().flatten().min(),
        };
        let mut below = Query { from, after: None, limit: limit + 1, ..query.clone() };
        let more = loop {
            let page = self.beneath.query(&below).await?;
            let last = page.items.last().map(|(key, item)| sort_of(index, key, item));
            for (key, item) in page.items {
                let place = place(&sort_of(index, &key, &item), &key);
                let is_hidden = self.own().items.contains_key(&key);
                if !is_hidden && is_past(query, &place, after.as_ref()) {
                    found.insert(place, (key, item));
                }
            }
            let Some(next) = page.next else { break None };
            below.after = Some(next);
            let Some(last) = last else { continue };
            // Of the last sort key, and beyond, more may come.
            let is_sure = |place: &&Place| match query.descending {
                false => place.0 < last,
                true => place.0 > last,
            };
            if found.keys().filter(is_sure).count() >= limit {
                break Some(last);
            }
        };
        let mut ordered: Vec<_> = found.into_iter().collect();
        if query.descending {
            ordered.reverse();
        }
        let is_cut = more.is_some() || ordered.len() > limit;
        ordered.truncate(limit);
        let next = ordered.last().filter(|_| is_cut).map(|(place, _)| token(place));
        Ok(Page { items: ordered.into_iter().map(|(_, found)| found).collect(), next })
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TransactError> {
        validate(&writes);
        let keys: Vec<Key> = writes.iter().map(|write| write.key.clone()).collect();
        let beneath = self.beneath.batch_get(&keys).await?;
        let mut own = self.own();
        let stands =
            |(key, item): (&Key, Option<Item>)| own.items.get(key).cloned().unwrap_or(item);
        let items: Vec<Option<Item>> = keys.iter().zip(beneath).map(stands).collect();
        let failed: Vec<Failed> = (writes.iter().zip(&items).enumerate())
            .filter(|(_, (write, item))| {
                !write.conditions.iter().all(|condition| holds(condition, item.as_ref()))
            })
            .map(|(index, (write, item))| Failed {
                index,
                key: write.key.clone(),
                item: item.clone(),
            })
            .collect();
        if !failed.is_empty() {
            return Err(TransactError::ConditionFailed(failed));
        }
        for (write, item) in writes.into_iter().zip(items) {
            let verb = match &write.action {
                Action::Put(_) => Verb::Put,
                Action::Update(_) => Verb::Update,
                Action::Delete => Verb::Delete,
                Action::Check => continue,
            };
            own.noted.push((verb, write.key.clone()));
            own.items.insert(write.key, apply(write.action, item));
        }
        Ok(())
    }
}

/// The sort key that a query of this index, or of the table, orders an item by.
fn sort_of(index: Option<Index>, key: &Key, item: &Item) -> String {
    match index {
        None => key.sort.clone(),
        Some(index) => item.text(index.sort).unwrap_or_default().to_owned(),
    }
}
