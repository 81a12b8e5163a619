//! The contract suite: what every implementation of [`Store`] does, case by case.
//!
//! [`run_all`] runs the cases one after the other; [`CASES`] lets a harness run and name each of
//! them. The store under test declares [`TABLE`]. Every case works in partitions of its own, so
//! that a table may be used again and again. A case panics when the store breaks the contract.
#![cfg(feature = "contract")]

mod concurrency;
mod conditions;
mod indexes;
mod queries;
mod reads;
mod transactions;
mod updates;

use crate::{
    Failed, FaultKind, Index, Item, Key, Query, Store, StoreFault, Table, TransactError, Write,
};
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The table that the suite works in.
pub const TABLE: Table = Table {
    name: "contract",
    indexes: &[
        Index { name: BY_STATE, partition: "state", sort: "since" },
        Index { name: BY_OWNER, partition: "owner", sort: "name" },
    ],
};

const BY_STATE: &str = "by_state";
const BY_OWNER: &str = "by_owner";

/// How often a write that met another one is tried again.
const TRIES_MAX: u32 = 200;
/// How long to wait before that, and between two looks at an index.
const PAUSE: Duration = Duration::from_millis(20);
/// How often an index is looked at before it counts as wrong.
const LOOKS_MAX: u32 = 500;

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// What the case says, in snake case.
    pub name: &'static str,
    /// Runs it; panics when the store breaks the contract. Needs a tokio runtime with a clock.
    pub run: fn(Arc<dyn Store>) -> Running,
}

/// A case that runs.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! cases {
    ($($room:ident::$name:ident),* $(,)?) => {
        /// All cases, in the order in which they build on each other.
        pub const CASES: &[Case] = &[$(Case {
            name: stringify!($name),
            run: |store| Box::pin($room::$name(Scope::new(stringify!($name), store))),
        }),*];
    };
}

cases![
    reads::a_put_item_reads_back_as_it_was,
    reads::an_item_without_attributes_is_there,
    reads::a_batch_answers_in_the_order_of_its_keys_with_gaps,
    reads::a_batch_of_nothing_is_nothing,
    conditions::every_condition_judges_present_and_absent_items,
    conditions::conditions_of_one_write_must_all_hold,
    updates::every_update_changes_its_attribute_alone,
    updates::an_update_makes_the_item_that_is_missing,
    updates::a_put_replaces_the_whole_item,
    updates::a_delete_takes_the_item_and_may_come_twice,
    updates::a_number_goes_down_to_its_bound_and_no_further,
    transactions::all_is_written_or_nothing,
    transactions::every_failed_condition_is_named_with_its_item,
    transactions::a_check_decides_and_writes_nothing,
    transactions::a_hundred_writes_are_one_transaction,
    queries::a_query_answers_its_partition_in_order,
    queries::a_query_keeps_to_its_prefix,
    queries::a_query_starts_where_it_is_told,
    queries::a_query_goes_on_to_the_end_without_gap_or_repeat,
    queries::a_partition_never_shows_its_neighbours,
    indexes::an_index_follows_the_attributes,
    indexes::an_index_orders_and_pages_and_keeps_to_prefix_and_start,
    indexes::an_index_holds_items_of_many_partitions,
    concurrency::one_of_many_claims_wins_and_the_losers_see_the_winner,
    concurrency::a_counter_adds_up,
    concurrency::many_takers_never_overdraw,
    concurrency::an_answered_write_is_seen_by_every_read,
];

/// Runs all cases in turn.
///
/// # Panics
/// At the first break of the contract.
pub async fn run_all(store: Arc<dyn Store>) {
    for case in CASES {
        (case.run)(store.clone()).await;
    }
}

/// A store, and partitions that only one case of one run uses.
#[derive(Clone)]
struct Scope {
    store: Arc<dyn Store>,
    prefix: String,
}

impl Scope {
    fn new(case: &str, store: Arc<dyn Store>) -> Self {
        // The port hands in no dice, and a name need only differ from earlier runs.
        let run = RandomState::new().hash_one(case);
        Scope { store, prefix: format!("{case}-{run:016x}") }
    }

    /// The partition (or index partition) that this case calls `name`.
    fn partition(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn key(&self, partition: &str, sort: &str) -> Key {
        Key::new(TABLE.name, self.partition(partition), sort)
    }

    async fn get(&self, key: &Key) -> Option<Item> {
        self.store.get(key).await.expect("get answers")
    }

    /// Transacts, again after a conflict; the refusal, if there was one.
    async fn try_write(&self, writes: Vec<Write>) -> Result<(), Vec<Failed>> {
        for _ in 0..TRIES_MAX {
            match self.store.transact(writes.clone()).await {
                Ok(()) => return Ok(()),
                Err(TransactError::ConditionFailed(failed)) => return Err(failed),
                Err(TransactError::Fault(StoreFault {
                    kind: FaultKind::Conflict | FaultKind::Throttled,
                    ..
                })) => tokio::time::sleep(PAUSE).await,
                Err(TransactError::Fault(fault)) => panic!("transact: {fault}"),
            }
        }
        panic!("a transaction met conflicts {TRIES_MAX} times");
    }

    async fn write(&self, writes: Vec<Write>) {
        if let Err(failed) = self.try_write(writes).await {
            panic!("conditions did not hold: {failed:?}");
        }
    }

    async fn refused(&self, writes: Vec<Write>) -> Vec<Failed> {
        self.try_write(writes).await.expect_err("a condition does not hold")
    }

    async fn put(&self, key: &Key, item: Item) {
        self.write(vec![Write::put(key.clone(), item)]).await;
    }

    /// All pages of a query, and how many there were.
    async fn all(&self, query: &Query) -> (Vec<(Key, Item)>, usize) {
        let mut query = query.clone();
        let mut items = Vec::new();
        for pages in 1.. {
            let page = self.store.query(&query).await.expect("query answers");
            assert!(page.items.len() <= query.limit, "a page holds at most its limit");
            items.extend(page.items);
            if page.next.is_none() {
                return (items, pages);
            }
            assert_ne!(page.next, query.after, "a query goes on");
            query.after = page.next;
        }
        unreachable!("the loop has no end of its own");
    }

    /// The sort keys of all pages.
    async fn sorts(&self, query: &Query) -> Vec<String> {
        self.all(query).await.0.into_iter().map(|(key, _)| key.sort).collect()
    }

    /// Looks at a query of an index until it answers `wanted`, or for too long.
    async fn settles(&self, query: &Query, wanted: &[(Key, Item)]) {
        let mut seen = Vec::new();
        for _ in 0..LOOKS_MAX {
            seen = self.all(query).await.0;
            if seen == wanted {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        assert_eq!(seen, wanted, "the index never showed what was written: {query:?}");
    }
}
