//! Small numbers for whatever states are made of, so that a state is short, and two of them are
//! compared and hashed at once.

use super::canon;
use super::check::Fact;
use eventplane_events::{Entry, Event, envelope};
use eventplane_local::wiring::Wiring;
use eventplane_store::{Item, Key};
use serde_json::Value;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

/// Values of one kind by their numbers, in the order in which they were first met.
struct Known<K, V> {
    by_name: HashMap<K, u32>,
    all: Vec<Arc<V>>,
}

/// A table of [`Known`] values that threads share.
pub(super) struct Numbers<K, V>(RwLock<Known<K, V>>);

impl<K, V> Default for Numbers<K, V> {
    fn default() -> Self {
        Numbers(RwLock::new(Known { by_name: HashMap::new(), all: Vec::new() }))
    }
}

impl<K: Hash + Eq, V> Numbers<K, V> {
    /// The number of the value that `name` stands for; `make` makes it if it is new.
    pub(super) fn number(&self, name: K, make: impl FnOnce(&K) -> V) -> u32 {
        if let Some(number) =
            self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.get(&name)
        {
            return *number;
        }
        let made = Arc::new(make(&name));
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(known.all.len()).expect("fewer than 2^32");
        let number = *known.by_name.entry(name).or_insert(next);
        if number == next {
            known.all.push(made);
        }
        number
    }

    /// What `read` reads of all values.
    pub(super) fn with_all<T>(&self, read: impl FnOnce(&[Arc<V>]) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner).all)
    }

    /// The value of a number.
    pub(super) fn value(&self, number: u32) -> Arc<V> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).all[number as usize].clone()
    }
}

/// A key, and the numbers of what a query may ask for: its table, and its partition.
pub(super) struct Place {
    pub(super) key: Key,
    pub(super) table: u32,
    pub(super) partition: u32,
}

/// An item where it stands, and what the laws read of it.
pub(super) struct Cell {
    pub(super) key: Key,
    pub(super) item: Arc<Item>,
    pub(super) fact: Fact,
}

/// An event that was published.
pub(super) struct Sent {
    pub(super) event: Event,
    /// The message that its hearers get.
    pub(super) body: String,
    /// Who hears it, by the rules of the template: places in the list of functions.
    pub(super) hearers: Vec<u8>,
}

/// All that states are made of.
#[derive(Default)]
pub(super) struct Atoms {
    pub(super) keys: Numbers<Key, Place>,
    groups: Numbers<String, ()>,
    pub(super) cells: Numbers<String, Cell>,
    pub(super) sent: Numbers<String, Sent>,
}

impl Atoms {
    pub(super) fn cell(&self, key: &Key, item: &Arc<Item>) -> u32 {
        let make =
            |_: &String| Cell { key: key.clone(), item: item.clone(), fact: Fact::read(key, item) };
        self.cells.number(format!("{key} {item:?}"), make)
    }

    pub(super) fn key(&self, key: &Key) -> u32 {
        self.keys.number(key.clone(), |key| Place {
            key: key.clone(),
            table: self.table(key.table),
            partition: self.partition(key.table, &key.partition),
        })
    }

    pub(super) fn table(&self, table: &str) -> u32 {
        self.groups.number(table.to_owned(), |_| ())
    }

    pub(super) fn partition(&self, table: &str, partition: &str) -> u32 {
        self.groups.number(format!("{table}/{partition}"), |_| ())
    }

    /// The number of an event, as [`canon::event`] has it.
    pub(super) fn sent(&self, entry: &Entry, wiring: &Wiring, functions: &[String]) -> u32 {
        let event = canon::event(entry);
        let body = envelope(&event.entry(), "b", "2026-01-01T00:00:00Z");
        self.sent.number(body, |body| {
            let value: Value = serde_json::from_str(body).expect("an envelope is JSON");
            let place = |name: &str| functions.iter().position(|function| function == name);
            let hearers = wiring.hearers(&value).filter_map(place).map(|at| at as u8).collect();
            Sent { event, body: body.clone(), hearers }
        })
    }
}
