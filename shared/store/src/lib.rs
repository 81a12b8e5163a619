//! The store, as data: the part of DynamoDB that Eventplane uses, in plain values.
//!
//! A [`Store`] holds [`Item`]s under [`Key`]s. Reads are [`Store::get`], [`Store::batch_get`] and
//! [`Store::query`]; there is one way to write, [`Store::transact`]: all of its [`Write`]s or none,
//! each under [`Condition`]s that name what matters (`free_vcpus` at least 4, slot 17 absent), never
//! a version of the whole item.
//!
//! This crate is the port alone. Its implementations live in `shared/local` (one machine) and
//! `shared/aws` (DynamoDB); [`contract`] is the suite that each of them passes.
#![allow(clippy::module_name_repetitions)]

pub mod contract;
mod item;
mod write;

pub use item::{Item, ItemExt, Key, Value};
pub use write::{
    Action, Condition, PARTITION_BYTES_MAX, SORT_BYTES_MAX, Update, Write, apply, holds, validate,
};

use async_trait::async_trait;
use thiserror::Error;

/// The most writes in one transaction.
///
/// Source: "Amazon DynamoDB Transactions: How it works", DynamoDB developer guide.
pub const TRANSACTION_WRITES_MAX: usize = 100;

/// A table and its indexes: declared by the room that owns the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// The table's name inside Eventplane, such as `capacity`.
    pub name: &'static str,
    /// Its global indexes.
    pub indexes: &'static [Index],
}

/// A global index of a table: an item stands in it while it has both attributes.
///
/// An index holds keys alone: a query of it answers each item with these two attributes and its
/// key in the table. So a write that changes neither costs the index nothing. Reads of an index are
/// eventually consistent on DynamoDB: it serves lists and the sweeper, never a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    /// The index's name.
    pub name: &'static str,
    /// The attribute (a string) that is the index's partition.
    pub partition: &'static str,
    /// The attribute (a string) that orders the partition.
    pub sort: &'static str,
}

/// Which items of one partition to read, in the order of their sort keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The table's name.
    pub table: &'static str,
    /// The index to read, or the table itself.
    pub index: Option<&'static str>,
    /// The partition: of the table, or of the index.
    pub partition: String,
    /// Only sort keys that begin with this; empty for all.
    pub prefix: String,
    /// Only sort keys at or after this one (at or before it when `descending`).
    pub from: Option<String>,
    /// Go on behind an earlier page: its `next`, unchanged.
    pub after: Option<String>,
    /// Newest (greatest) first.
    pub descending: bool,
    /// At most this many items in the page; at least 1.
    pub limit: usize,
}

impl Query {
    /// All of a table's partition, ascending, up to `limit` items.
    #[must_use]
    pub fn partition(table: &'static str, partition: impl Into<String>, limit: usize) -> Self {
        Query {
            table,
            index: None,
            partition: partition.into(),
            prefix: String::new(),
            from: None,
            after: None,
            descending: false,
            limit,
        }
    }

    /// The same of an index.
    #[must_use]
    pub fn index(
        table: &'static str,
        index: &'static str,
        partition: impl Into<String>,
        limit: usize,
    ) -> Self {
        Query { index: Some(index), ..Query::partition(table, partition, limit) }
    }

    /// Only sort keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Query { prefix: prefix.into(), ..self }
    }

    /// Only sort keys at or after `from`.
    #[must_use]
    pub fn starting_at(self, from: impl Into<String>) -> Self {
        Query { from: Some(from.into()), ..self }
    }
}

/// A page of a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The items, each with its key in the table; of an index, only the two attributes of the index.
    pub items: Vec<(Key, Item)>,
    /// Where the next page begins, if there may be one: opaque, for [`Query::after`].
    pub next: Option<String>,
}

/// Why the store could not answer. Nothing of it is the customer's doing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("store {kind:?}: {message}")]
pub struct StoreFault {
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// What the implementation says of it.
    pub message: String,
}

/// The kinds of [`StoreFault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Another transaction held one of the items: try again soon.
    Conflict,
    /// Too much was asked of a key or a table: try again later.
    Throttled,
    /// The store did not do it, and says so.
    Unavailable,
    /// No answer came: it may have been done. Look again before doing it again.
    OutcomeUnknown,
    /// What is stored cannot be read: somebody has to look.
    Corrupt,
}

impl StoreFault {
    /// A fault of `kind` that says `message`.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        StoreFault { kind, message: message.into() }
    }
}

/// One write of a transaction whose condition did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The write's place in the transaction.
    pub index: usize,
    /// Its key.
    pub key: Key,
    /// The item as it stands, the one that won (`ALL_OLD`); `None` if there is none.
    pub item: Option<Item>,
}

/// Why a transaction wrote nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransactError {
    /// At least one condition did not hold: somebody was faster. Every one that failed is named.
    #[error("{} condition(s) did not hold", .0.len())]
    ConditionFailed(Vec<Failed>),
    /// The store could not answer; with [`FaultKind::OutcomeUnknown`] it may have written.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

/// The store. `transact` is durable before it answers, and all or nothing.
///
/// A caller that breaks a rule of the port (two writes of one item, none or more than
/// [`TRANSACTION_WRITES_MAX`], an empty key) has a bug: implementations panic through
/// [`validate`].
#[async_trait]
pub trait Store: Send + Sync {
    /// One item, read consistently.
    ///
    /// # Errors
    /// A fault of the store.
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault>;

    /// Items in the order of their keys, each read consistently, though not all at one moment.
    ///
    /// # Errors
    /// A fault of the store; no partial answers.
    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault>;

    /// A page of one partition: consistent for a table, eventually so for an index.
    ///
    /// # Errors
    /// A fault of the store.
    async fn query(&self, query: &Query) -> Result<Page, StoreFault>;

    /// Writes all or nothing, each under its conditions.
    ///
    /// # Errors
    /// [`TransactError::ConditionFailed`] names every write whose condition did not hold, with the
    /// item that stands there.
    async fn transact(&self, writes: Vec<Write>) -> Result<(), TransactError>;

    /// The same for whoever need not know what stands there instead: false when a condition did
    /// not hold, and nothing was written.
    ///
    /// # Errors
    /// A fault of the store.
    async fn try_transact(&self, writes: Vec<Write>) -> Result<bool, StoreFault> {
        match self.transact(writes).await {
            Ok(()) => Ok(true),
            Err(TransactError::ConditionFailed(_)) => Ok(false),
            Err(TransactError::Fault(fault)) => Err(fault),
        }
    }
}
