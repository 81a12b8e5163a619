//! The store on DynamoDB.
//!
//! A transaction of several writes is one `TransactWriteItems`, whose client request token makes the
//! SDK's own repetitions harmless. One write alone is a conditional `PutItem`, `UpdateItem` or
//! `DeleteItem`, which costs half. Source: "Amazon DynamoDB Transactions: How it works", DynamoDB
//! developer guide.

mod alone;
mod attempts;
mod attributes;
mod expression;
mod fault;
mod range;
mod read;
mod write;

use crate::backoff::pause;
use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use eventplane_engine::Chance;
use eventplane_store::{
    FaultKind, Item, Key, Page, Query, Store, StoreFault, Table, TransactError, Write, validate,
};
use std::sync::Arc;

/// How often writes that met others, or were too many, are tried in all, before their message goes
/// back.
const TRIES_MAX: u32 = 4;

/// The store on DynamoDB.
pub struct DynamoStore {
    client: Client,
    tables: Vec<(Table, String)>,
    /// Spreads repetitions out.
    chance: Arc<dyn Chance>,
}

impl DynamoStore {
    /// The store of these tables, each with its name on DynamoDB.
    #[must_use]
    pub fn new(client: Client, tables: Vec<(Table, String)>, chance: Arc<dyn Chance>) -> Self {
        DynamoStore { client, tables, chance }
    }

    /// The table called `name` in Eventplane, and its name on DynamoDB.
    ///
    /// # Panics
    /// When the function was not given that table: a bug.
    fn table(&self, name: &str) -> &(Table, String) {
        let found = self.tables.iter().find(|(table, _)| table.name == name);
        found.unwrap_or_else(|| panic!("this function was not given the table `{name}`"))
    }
}

#[async_trait]
impl Store for DynamoStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreFault> {
        read::get(self, key).await
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        match keys {
            [] => Ok(vec![]),
            [key] => Ok(vec![read::get(self, key).await?]),
            keys => read::batch_get(self, keys).await,
        }
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreFault> {
        read::query(self, query).await
    }

    async fn transact(&self, mut writes: Vec<Write>) -> Result<(), TransactError> {
        validate(&writes);
        for tries in 1.. {
            let last = tries == TRIES_MAX;
            let these = if last { std::mem::take(&mut writes) } else { writes.clone() };
            let done = match <[Write; 1]>::try_from(these) {
                Ok([write]) if alone::is_safe_alone(&write) => alone::alone(self, write).await,
                Ok([write]) => write::together(self, vec![write]).await,
                Err(writes) => write::together(self, writes).await,
            };
            match done {
                Err(TransactError::Fault(fault)) if !last && is_over_soon(&fault) => {
                    pause(&*self.chance, tries).await;
                }
                done => return done,
            }
        }
        unreachable!("the tries have an end")
    }
}

/// Whether the same is worth asking again in some milliseconds: nothing was written, and others are
/// done by then. The SDK repeats neither a conflict nor a canceled transaction.
fn is_over_soon(fault: &StoreFault) -> bool {
    matches!(fault.kind, FaultKind::Conflict | FaultKind::Throttled)
}
