//! A group of transactions, judged one after the other before any of them is written.
//!
//! Items are read and decoded once per group, and encoded once at its end, however many of its
//! transactions touch them.

use super::encoding;
use super::layout::{Layout, Placed, broken_key, row, standing};
use super::read::Snapshot;
use super::stats::{item_bytes, write_units};
use eventplane_store::{
    Action, Failed, Index, Item, StoreFault, Update, Value, Write, apply, holds,
};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The most bytes of an item, as DynamoDB counts them.
///
/// Source: "Quotas in Amazon DynamoDB", DynamoDB developer guide.
const ITEM_BYTES_MAX: u64 = 400 * 1024;

/// A transaction with the bytes of its keys.
pub(super) type Writes = Vec<(Vec<u8>, Write)>;

/// Why a transaction wrote nothing.
pub(super) enum Refusal {
    /// Conditions did not hold.
    Conditions(Vec<Failed>),
    /// The store could not do it.
    Fault(StoreFault),
    /// The caller asked for what DynamoDB would refuse; the caller panics with this.
    Bug(String),
}

/// One item to write, with the rows of indexes that go and come with it.
pub(super) struct Change {
    pub(super) key: Vec<u8>,
    /// The item's bytes; `None` when it goes.
    pub(super) item: Option<Vec<u8>>,
    pub(super) rows_gone: Vec<Vec<u8>>,
    pub(super) rows_new: Vec<Vec<u8>>,
}

/// What a group did, apart from its changes.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) items_written: u64,
    pub(super) write_units: u64,
}

/// The state after the transactions judged so far.
pub(super) struct Group<'g> {
    layout: &'g Layout,
    snapshot: &'g Snapshot,
    places: HashMap<Vec<u8>, usize>,
    slots: Vec<Slot<'g>>,
    tally: Tally,
}

/// An item that the group looked at.
struct Slot<'g> {
    table: &'g Placed,
    item: Option<Item>,
    bytes: u64,
    /// The rows of the item as it is stored.
    rows: Vec<Vec<u8>>,
    is_stored: bool,
    is_changed: bool,
}

impl<'g> Group<'g> {
    pub(super) fn new(layout: &'g Layout, snapshot: &'g Snapshot) -> Self {
        Group {
            layout,
            snapshot,
            places: HashMap::new(),
            slots: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Judges a transaction by the state after the earlier ones, and changes it if all holds.
    pub(super) fn judge(&mut self, writes: Writes) -> Result<(), Refusal> {
        let is_transaction = writes.len() > 1;
        let mut failed = Vec::new();
        let mut planned = Vec::with_capacity(writes.len());
        for (index, (key, write)) in writes.into_iter().enumerate() {
            let key_bytes = key.len();
            let place = self.load(key).map_err(Refusal::Fault)?;
            let slot = &self.slots[place];
            let mut bytes = 0;
            if !write.conditions.iter().all(|condition| holds(condition, slot.item.as_ref())) {
                failed.push(Failed { index, key: write.key, item: slot.item.clone() });
            } else if write.action != Action::Check {
                let item = slot.after(key_bytes, write).map_err(Refusal::Bug)?;
                bytes = item.1;
                planned.push((place, item));
            }
            self.tally.write_units += write_units(slot.bytes, bytes, is_transaction);
        }
        if !failed.is_empty() {
            return Err(Refusal::Conditions(failed));
        }
        self.tally.items_written += planned.len() as u64;
        for (place, (item, bytes)) in planned {
            let slot = &mut self.slots[place];
            self.tally.write_units += slot.index_write_units(item.as_ref());
            slot.item = item;
            slot.bytes = bytes;
            slot.is_changed = true;
        }
        Ok(())
    }

    /// The place of the item under `key`, read if nobody of the group looked at it yet.
    fn load(&mut self, key: Vec<u8>) -> Result<usize, StoreFault> {
        let entry = match self.places.entry(key) {
            Entry::Occupied(entry) => return Ok(*entry.get()),
            Entry::Vacant(entry) => entry,
        };
        let key = entry.key();
        let item = self.snapshot.item(key)?;
        let table = self.layout.table_of(key).ok_or_else(broken_key)?;
        let stored_rows = item.as_ref().map(|item| rows(table, key, item)).transpose();
        self.slots.push(Slot {
            table,
            bytes: item.as_ref().map_or(0, |item| item_bytes(key.len(), item)),
            rows: stored_rows.map_err(|_| broken_key())?.unwrap_or_default(),
            is_stored: item.is_some(),
            item,
            is_changed: false,
        });
        Ok(*entry.insert(self.slots.len() - 1))
    }

    /// What is to be written, in the order of the keys.
    pub(super) fn finish(self) -> (Vec<Change>, Tally) {
        let mut changes = Vec::new();
        let mut slots: Vec<Option<Slot>> = self.slots.into_iter().map(Some).collect();
        for (key, place) in self.places {
            let Some(slot) = slots[place].take().filter(Slot::is_worth_writing) else { continue };
            let new = slot.item.as_ref().map(|item| rows(slot.table, &key, item));
            let new = new.transpose().unwrap_or_default().unwrap_or_default();
            let (rows_gone, rows_new) = difference(slot.rows, new);
            let item = slot.item.as_ref().map(encoding::encode);
            changes.push(Change { key, item, rows_gone, rows_new });
        }
        changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        (changes, self.tally)
    }
}

impl Slot<'_> {
    /// What DynamoDB bills for the indexes when the item becomes `new`: one unit for a place that
    /// is taken or left, two for one that moves. An index holds keys alone, so nothing else of the
    /// item costs anything there. Not twice in a transaction: indexes follow after it.
    ///
    /// Source: "Provisioned throughput considerations for global secondary indexes", DynamoDB
    /// developer guide.
    fn index_write_units(&self, new: Option<&Item>) -> u64 {
        let place = |index: &Index, item: Option<&Item>| {
            let standing = item.map(|item| standing(index, item).unwrap_or_default());
            standing.flatten().map(|(partition, sort)| (partition.to_owned(), sort.to_owned()))
        };
        let moved = |(index, _): &&(Index, u8)| {
            let (before, after) = (place(index, self.item.as_ref()), place(index, new));
            match before == after {
                true => 0,
                false => u64::from(before.is_some()) + u64::from(after.is_some()),
            }
        };
        self.table.indexes.iter().map(|index| moved(&index)).sum()
    }

    fn is_worth_writing(&self) -> bool {
        self.is_changed && (self.is_stored || self.item.is_some())
    }

    /// The item after the write and its bytes, or what DynamoDB would refuse of it.
    fn after(&self, key_bytes: usize, write: Write) -> Result<(Option<Item>, u64), String> {
        let Write { key, action, .. } = write;
        if let Action::Update(updates) = &action {
            self.check_adds(updates).map_err(|reason| format!("{reason}, of {key}"))?;
        }
        // A put looks at nothing of the old item, so there is no need to copy it.
        let is_update = matches!(action, Action::Update(_));
        let item = apply(action, self.item.as_ref().filter(|_| is_update).cloned());
        let Some(item) = item else {
            return Ok((None, 0));
        };
        for (index, _) in &self.table.indexes {
            standing(index, &item).map_err(|reason| format!("{reason}, of {key}"))?;
        }
        let bytes = item_bytes(key_bytes, &item);
        if bytes > ITEM_BYTES_MAX {
            return Err(format!("{key} would have {bytes} bytes, which is too many"));
        }
        Ok((Some(item), bytes))
    }

    fn check_adds(&self, updates: &[Update]) -> Result<(), String> {
        for update in updates {
            let Update::Add(name, amount) = update else { continue };
            match self.item.as_ref().and_then(|item| item.get(name)) {
                None => {}
                Some(Value::N(n)) if n.checked_add(*amount).is_some() => {}
                Some(other) => return Err(format!("add {amount} to `{name}`, which is {other:?}")),
            }
        }
        Ok(())
    }
}

/// The rows of `item` in the indexes of its table.
fn rows(table: &Placed, key: &[u8], item: &Item) -> Result<Vec<Vec<u8>>, String> {
    let rows = table.indexes.iter().map(|(index, id)| row(index, *id, key, item));
    rows.filter_map(Result::transpose).collect()
}

/// The rows that go and those that come.
fn difference(old: Vec<Vec<u8>>, new: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let comes: Vec<_> = new.iter().filter(|row| !old.contains(row)).cloned().collect();
    let goes = old.into_iter().filter(|row| !new.contains(row)).collect();
    (goes, comes)
}
