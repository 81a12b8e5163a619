//! The shadow of a store: the contract that every store keeps, over nothing and over something.

use eventplane_engine::{Dice, ShadowStore};
use eventplane_local::store::EmbeddedStore;
use eventplane_store::contract::{self, TABLE};
use eventplane_store::{Item, ItemExt, Key, Query, Store, Update, Write};
use std::sync::Arc;

fn embedded() -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::in_memory(&[TABLE]).expect("a store"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_keeps_the_contract_and_changes_nothing_beneath() {
    let beneath = embedded();
    contract::run_all(Arc::new(ShadowStore::over(beneath.clone(), &[TABLE]))).await;
    assert_eq!(beneath.stats().transactions, 0);
}

/// Some write of a few items, which now and then stand in an index.
fn any_write(dice: &mut Dice) -> Write {
    let key =
        Key::new(TABLE.name, format!("p{}", dice.below(2)), format!("s{:02}", dice.below(30)));
    let state = format!("state-{}", dice.below(2));
    let since = format!("{}", dice.below(5));
    match dice.below(5) {
        0 => Write::delete(key),
        1 => Write::update(key, vec![Update::add("n", 1), Update::set("since", since)]),
        2 => Write::update(key, vec![Update::remove("state")]),
        _ => Write::put(key, Item::new().with("state", state).with("since", since)),
    }
}

fn any_query(dice: &mut Dice) -> Query {
    let limit = 1 + dice.below(12);
    let mut query = match dice.below(2) {
        0 => Query::partition(TABLE.name, format!("p{}", dice.below(2)), limit),
        _ => Query::index(TABLE.name, "by_state", format!("state-{}", dice.below(2)), limit),
    };
    if dice.below(3) == 0 {
        let of_index = format!("{}", dice.below(5));
        let of_table = format!("s{:02}", dice.below(30));
        query.from = Some(if query.index.is_some() { of_index } else { of_table });
    }
    if query.index.is_none() && dice.below(3) == 0 {
        query.prefix = format!("s{}", dice.below(3));
    }
    query.descending = dice.below(2) == 0;
    query
}

/// All pages of a query.
async fn all(store: &dyn Store, query: &Query) -> Vec<(Key, Item)> {
    let (mut query, mut items) = (query.clone(), Vec::new());
    loop {
        let page = store.query(&query).await.expect("a page");
        assert!(page.items.len() <= query.limit);
        items.extend(page.items);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return items,
        }
    }
}

#[tokio::test]
async fn what_is_written_beneath_and_in_the_shadow_reads_as_if_one_store_had_it_all() {
    for seed in 0..30 {
        let mut dice = Dice::new(seed);
        let (beneath, one) = (embedded(), embedded());
        for _ in 0..40 {
            let write = any_write(&mut dice);
            beneath.transact(vec![write.clone()]).await.expect("no condition");
            one.transact(vec![write]).await.expect("no condition");
        }
        let before = beneath.stats().transactions;
        let shadow = ShadowStore::over(beneath.clone(), &[TABLE]);
        for _ in 0..40 {
            let write = any_write(&mut dice);
            shadow.transact(vec![write.clone()]).await.expect("no condition");
            one.transact(vec![write]).await.expect("no condition");
            let query = any_query(&mut dice);
            let (seen, right) = (all(&shadow, &query).await, all(&*one, &query).await);
            assert_eq!(seen, right, "seed {seed}: {query:?}");
            let first = shadow.query(&query).await.expect("a page");
            let most = right.len().min(query.limit);
            assert_eq!(first.items, right[..most], "seed {seed}: {query:?}");
        }
        assert_eq!(beneath.stats().transactions, before);
    }
}
