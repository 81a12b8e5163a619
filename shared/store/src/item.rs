//! Items, values and keys.

use std::collections::BTreeMap;
use std::fmt;

/// The value of an attribute. Numbers are whole: sizes, counts and milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    N(i64),
    /// A text; also how structures that no condition looks into are kept (as JSON).
    S(String),
    /// Bytes, such as a sealed secret.
    B(Vec<u8>),
    /// A truth value.
    Bool(bool),
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::N(n)
    }
}
impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::S(s.to_owned())
    }
}
impl From<String> for Value {
    fn from(s: String) -> Self {
        Value::S(s)
    }
}
impl From<Vec<u8>> for Value {
    fn from(b: Vec<u8>) -> Self {
        Value::B(b)
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::Bool(b)
    }
}

/// An item's attributes by name, without its key.
pub type Item = BTreeMap<String, Value>;

/// Reading and building items in one line.
pub trait ItemExt {
    /// The number under `name`.
    fn number(&self, name: &str) -> Option<i64>;
    /// The text under `name`.
    fn text(&self, name: &str) -> Option<&str>;
    /// The bytes under `name`.
    fn bytes(&self, name: &str) -> Option<&[u8]>;
    /// Whether the truth value `name` stands there and is true.
    fn is_true(&self, name: &str) -> bool;
    /// This item with one attribute more.
    #[must_use]
    fn with(self, name: &str, value: impl Into<Value>) -> Self;
    /// This item with one attribute more, if there is a value for it.
    #[must_use]
    fn with_some(self, name: &str, value: Option<impl Into<Value>>) -> Self;
}

impl ItemExt for Item {
    fn number(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Value::N(n)) => Some(*n),
            _ => None,
        }
    }
    fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::S(s)) => Some(s),
            _ => None,
        }
    }
    fn bytes(&self, name: &str) -> Option<&[u8]> {
        match self.get(name) {
            Some(Value::B(b)) => Some(b),
            _ => None,
        }
    }
    fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Bool(true)))
    }
    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.insert(name.to_owned(), value.into());
        self
    }
    fn with_some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

/// Where an item stands: a table, a partition in it, and a place in the partition.
///
/// Both parts are texts that are not empty and hold no NUL (the local store's separator).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The table's name.
    pub table: &'static str,
    /// The partition key.
    pub partition: String,
    /// The sort key.
    pub sort: String,
}

impl Key {
    /// The key `sort` of `partition` in `table`.
    pub fn new(table: &'static str, partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Key { table, partition: partition.into(), sort: sort.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.table, self.partition, self.sort)
    }
}
