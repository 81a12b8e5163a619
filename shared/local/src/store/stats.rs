//! What a store has done so far: for tests, benches and estimates of cost.

use eventplane_store::{Item, Value};
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Transactions that were answered, also those whose conditions did not hold.
    pub transactions: u64,
    /// Durable commits; one serves all transactions of its group.
    pub groups: u64,
    /// Items that transactions put, updated or deleted.
    pub items_written: u64,
    /// Calls of get, `batch_get` and query.
    pub reads: u64,
    /// What DynamoDB would bill for the transactions; see [`write_units`].
    pub write_units: u64,
}

/// The counters behind [`StoreStats`].
#[derive(Default)]
pub(super) struct Counters {
    pub(super) transactions: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) items_written: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) write_units: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> StoreStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            transactions: read(&self.transactions),
            groups: read(&self.groups),
            items_written: read(&self.items_written),
            reads: read(&self.reads),
            write_units: read(&self.write_units),
        }
    }
}

/// The size that one write unit pays for, in bytes.
const WRITE_UNIT_BYTES: u64 = 1024;
/// A write of a transaction pays for its preparation and for its commit.
const TRANSACTION_FACTOR: u64 = 2;
/// What the names of the two key attributes count, in bytes.
const KEY_NAMES_BYTES: u64 = 4;

/// What DynamoDB bills for one write, in write units: one per started kilobyte of the larger of the
/// item before and after, at least one; twice in a transaction of several writes. A write whose
/// condition does not hold, and a check, cost as much. Indexes come on top.
///
/// Source: "DynamoDB read and write operations" and "Amazon DynamoDB Transactions: How it works",
/// DynamoDB developer guide.
pub(super) fn write_units(before_bytes: u64, after_bytes: u64, is_transaction: bool) -> u64 {
    let units = before_bytes.max(after_bytes).div_ceil(WRITE_UNIT_BYTES).max(1);
    units * if is_transaction { TRANSACTION_FACTOR } else { 1 }
}

/// The size of an item as DynamoDB counts it, in bytes, with a key of `key_bytes`.
///
/// Source: "DynamoDB item sizes and formats", DynamoDB developer guide.
pub(super) fn item_bytes(key_bytes: usize, item: &Item) -> u64 {
    let attributes = item.iter().map(|(name, value)| {
        name.len()
            + match value {
                // A byte for two digits, one more, and one for the sign of negative numbers.
                Value::N(n) => digits(n.unsigned_abs()).div_ceil(2) + 1 + usize::from(*n < 0),
                Value::S(text) => text.len(),
                Value::B(bytes) => bytes.len(),
                Value::Bool(_) => 1,
            }
    });
    (key_bytes + attributes.sum::<usize>()) as u64 + KEY_NAMES_BYTES
}

fn digits(n: u64) -> usize {
    n.checked_ilog10().map_or(1, |log| log as usize + 1)
}
