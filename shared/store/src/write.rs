//! Writes, their conditions and their updates, and what they mean: pure functions on items.

use crate::{Item, ItemExt, Key, TRANSACTION_WRITES_MAX, Value};
use std::collections::HashSet;

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The item it is about.
    pub key: Key,
    /// All of them must hold of the item as it stands.
    pub conditions: Vec<Condition>,
    /// What is done.
    pub action: Action,
}

/// What a [`Write`] does to its item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The item becomes this one.
    Put(Item),
    /// The item is changed in place, and made if there was none.
    Update(Vec<Update>),
    /// The item goes.
    Delete,
    /// Nothing: only the conditions count.
    Check,
}

/// What has to hold of the item before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is no item.
    ItemAbsent,
    /// There is an item.
    ItemPresent,
    /// The item has no such attribute (true also when there is no item).
    Absent(String),
    /// The item has the attribute.
    Present(String),
    /// The attribute stands there with this very value.
    Equals(String, Value),
    /// The attribute is not there with this value (true also when it, or the item, is absent).
    Differs(String, Value),
    /// The attribute is a number, at least this.
    AtLeast(String, i64),
    /// The attribute is a number, at most this.
    AtMost(String, i64),
    /// At least one of these holds.
    Any(Vec<Condition>),
}

impl Condition {
    /// [`Condition::Absent`].
    pub fn absent(name: impl Into<String>) -> Self {
        Condition::Absent(name.into())
    }
    /// [`Condition::Present`].
    pub fn present(name: impl Into<String>) -> Self {
        Condition::Present(name.into())
    }
    /// [`Condition::Equals`].
    pub fn equals(name: impl Into<String>, value: impl Into<Value>) -> Self {
        Condition::Equals(name.into(), value.into())
    }
    /// [`Condition::Differs`].
    pub fn differs(name: impl Into<String>, value: impl Into<Value>) -> Self {
        Condition::Differs(name.into(), value.into())
    }
    /// [`Condition::AtLeast`].
    pub fn at_least(name: impl Into<String>, least: i64) -> Self {
        Condition::AtLeast(name.into(), least)
    }
    /// [`Condition::AtMost`].
    pub fn at_most(name: impl Into<String>, most: i64) -> Self {
        Condition::AtMost(name.into(), most)
    }
    /// The attribute is absent, or a number at most this: free, or free again by now.
    pub fn absent_or_at_most(name: impl Into<String>, most: i64) -> Self {
        let name = name.into();
        Condition::Any(vec![Condition::Absent(name.clone()), Condition::AtMost(name, most)])
    }
}

/// A change of one attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// The attribute becomes this value.
    Set(String, Value),
    /// The attribute goes, if it is there.
    Remove(String),
    /// This is added to the number, which counts as 0 where it is absent.
    Add(String, i64),
}

impl Update {
    /// [`Update::Set`].
    pub fn set(name: impl Into<String>, value: impl Into<Value>) -> Self {
        Update::Set(name.into(), value.into())
    }
    /// [`Update::Remove`].
    pub fn remove(name: impl Into<String>) -> Self {
        Update::Remove(name.into())
    }
    /// [`Update::Add`].
    pub fn add(name: impl Into<String>, amount: i64) -> Self {
        Update::Add(name.into(), amount)
    }
    /// The attribute that it changes.
    fn name(&self) -> &str {
        match self {
            Update::Set(name, _) | Update::Remove(name) | Update::Add(name, _) => name,
        }
    }
}

impl Write {
    /// Puts `item`, whatever stands there.
    #[must_use]
    pub fn put(key: Key, item: Item) -> Self {
        Write { key, conditions: vec![], action: Action::Put(item) }
    }
    /// Changes the item in place.
    #[must_use]
    pub fn update(key: Key, updates: Vec<Update>) -> Self {
        Write { key, conditions: vec![], action: Action::Update(updates) }
    }
    /// Deletes the item.
    #[must_use]
    pub fn delete(key: Key) -> Self {
        Write { key, conditions: vec![], action: Action::Delete }
    }
    /// Checks conditions and writes nothing.
    #[must_use]
    pub fn check(key: Key) -> Self {
        Write { key, conditions: vec![], action: Action::Check }
    }
    /// The same write, under one condition more.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }
    /// The same write, under all of these conditions more.
    #[must_use]
    pub fn when_all(mut self, conditions: impl IntoIterator<Item = Condition>) -> Self {
        self.conditions.extend(conditions);
        self
    }
}

/// Whether `condition` holds of the item as it stands.
#[must_use]
pub fn holds(condition: &Condition, item: Option<&Item>) -> bool {
    let value = |name: &String| item.and_then(|item| item.get(name));
    let number = |name: &String| item.and_then(|item| item.number(name));
    match condition {
        Condition::ItemAbsent => item.is_none(),
        Condition::ItemPresent => item.is_some(),
        Condition::Absent(name) => value(name).is_none(),
        Condition::Present(name) => value(name).is_some(),
        Condition::Equals(name, wanted) => value(name) == Some(wanted),
        Condition::Differs(name, other) => value(name) != Some(other),
        Condition::AtLeast(name, least) => number(name).is_some_and(|n| n >= *least),
        Condition::AtMost(name, most) => number(name).is_some_and(|n| n <= *most),
        Condition::Any(any) => any.iter().any(|condition| holds(condition, item)),
    }
}

/// The item after the action; `None` when there is none then.
///
/// # Panics
/// When a number is added to something else, or overflows: a bug of the caller.
#[must_use]
pub fn apply(action: Action, item: Option<Item>) -> Option<Item> {
    match action {
        Action::Put(new) => Some(new),
        Action::Delete => None,
        Action::Check => item,
        Action::Update(updates) => {
            let mut item = item.unwrap_or_default();
            for update in updates {
                match update {
                    Update::Set(name, value) => {
                        item.insert(name, value);
                    }
                    Update::Remove(name) => {
                        item.remove(&name);
                    }
                    Update::Add(name, amount) => {
                        let old = match item.get(&name) {
                            None => 0,
                            Some(Value::N(n)) => *n,
                            Some(other) => panic!("add to `{name}`, which is {other:?}"),
                        };
                        let new = old.checked_add(amount).expect("a counter fits 64 bits");
                        item.insert(name, Value::N(new));
                    }
                }
            }
            Some(item)
        }
    }
}

/// The most bytes of a partition key.
///
/// Source: "Quotas in Amazon DynamoDB", DynamoDB developer guide, as is the next.
pub const PARTITION_BYTES_MAX: usize = 2048;
/// The most bytes of a sort key.
pub const SORT_BYTES_MAX: usize = 1024;

/// Panics unless the writes are a transaction that DynamoDB would take: 1 to
/// [`TRANSACTION_WRITES_MAX`] writes, each of an item of its own, under keys that are not empty nor
/// too long, each check with a condition, no attribute updated twice.
///
/// # Panics
/// See above: a caller's bug, named with the key.
pub fn validate(writes: &[Write]) {
    assert!(
        !writes.is_empty() && writes.len() <= TRANSACTION_WRITES_MAX,
        "a transaction has 1 to {TRANSACTION_WRITES_MAX} writes, not {}",
        writes.len()
    );
    let mut seen = HashSet::with_capacity(writes.len());
    for Write { key, conditions, action } in writes {
        let bad = |part: &str| part.is_empty() || part.contains('\0');
        assert!(
            !bad(&key.partition) && !bad(&key.sort),
            "the key {key} has an empty part or a NUL"
        );
        assert!(
            key.partition.len() <= PARTITION_BYTES_MAX && key.sort.len() <= SORT_BYTES_MAX,
            "the key {key} is too long"
        );
        assert!(seen.insert(key), "two writes of {key} in one transaction");
        match action {
            Action::Check => {
                assert!(!conditions.is_empty(), "a check of {key} without a condition");
            }
            Action::Update(updates) => {
                let mut names: Vec<_> = updates.iter().map(Update::name).collect();
                names.sort_unstable();
                let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
                assert!(twice.is_none(), "an update of {key} names {twice:?} twice");
            }
            Action::Put(_) | Action::Delete => {}
        }
    }
}
