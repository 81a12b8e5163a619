//! Queries of an index, which may lag behind the table.

use super::{BY_OWNER, BY_STATE, Scope, TABLE};
use crate::{Item, ItemExt, Key, Query, Update, Write};

fn by_state(scope: &Scope, state: &str, limit: usize) -> Query {
    Query::index(TABLE.name, BY_STATE, scope.partition(state), limit)
}

pub(super) async fn an_index_follows_the_attributes(scope: Scope) {
    let key = scope.key("p", "s");
    let (new, old) = (by_state(&scope, "new", 10), by_state(&scope, "old", 10));
    let owner = Query::index(TABLE.name, BY_OWNER, scope.partition("o"), 10);
    let state = |state: &str, since: &str| {
        let item = Item::new().with("state", scope.partition(state)).with("since", since);
        vec![(key.clone(), item)]
    };
    let owned = [(key.clone(), Item::new().with("owner", scope.partition("o")).with("name", "n"))];
    let update = |updates: Vec<Update>| vec![Write::update(key.clone(), updates)];

    // Half of what it takes to stand in an index is not enough.
    let item = Item::new().with("state", scope.partition("new"));
    scope.put(&key, item).await;
    scope.settles(&new, &[]).await;

    scope.write(update(vec![Update::set("since", "0001")])).await;
    scope.settles(&new, &state("new", "0001")).await;
    scope.settles(&owner, &[]).await;

    // What is not a key of the index is left out.
    scope.write(update(vec![Update::set("note", "left out")])).await;
    scope.settles(&new, &state("new", "0001")).await;

    let updates = vec![
        Update::set("state", scope.partition("old")),
        Update::set("since", "0002"),
        Update::set("owner", scope.partition("o")),
        Update::set("name", "n"),
    ];
    scope.write(update(updates)).await;
    scope.settles(&new, &[]).await;
    scope.settles(&old, &state("old", "0002")).await;
    scope.settles(&owner, &owned).await;

    scope.write(update(vec![Update::remove("state")])).await;
    scope.settles(&old, &[]).await;
    scope.settles(&owner, &owned).await;

    scope.write(vec![Write::delete(key.clone())]).await;
    scope.settles(&owner, &[]).await;
}

pub(super) async fn an_index_orders_and_pages_and_keeps_to_prefix_and_start(scope: Scope) {
    // Three days of ten, written last day first, each in a partition of its own.
    let rows: Vec<(Key, Item)> = (0..30)
        .map(|n| {
            let item = Item::new()
                .with("state", scope.partition("busy"))
                .with("since", format!("day{}#{:02}", n / 10, n % 10));
            (scope.key(&format!("p{:02}", 29 - n), "s"), item)
        })
        .collect();
    let put = |(key, item): &(Key, Item)| Write::put(key.clone(), item.clone());
    scope.write(rows.iter().rev().map(put).collect()).await;

    let down = |query: Query| Query { descending: true, ..query };
    let backwards: Vec<_> = rows.iter().rev().cloned().collect();
    for limit in [1, 7, 100] {
        let busy = by_state(&scope, "busy", limit);
        scope.settles(&busy, &rows).await;
        scope.settles(&down(busy.clone()), &backwards).await;
        scope.settles(&busy.clone().prefix("day1"), &rows[10..20]).await;
        scope.settles(&down(busy.clone().prefix("day1")), &backwards[10..20]).await;
        scope.settles(&busy.clone().starting_at("day2#05"), &rows[25..]).await;
        scope.settles(&down(busy.starting_at("day2#05")), &backwards[4..]).await;
    }
}

pub(super) async fn an_index_holds_items_of_many_partitions(scope: Scope) {
    // Twelve items of one very place in the index: none may hide another, nor fall between pages.
    let item = Item::new().with("owner", scope.partition("o")).with("name", "same");
    let mut keys: Vec<Key> =
        (0..12).map(|n| scope.key(&format!("p{}", n % 5), &format!("{n:02}"))).collect();
    keys.sort();
    let put = |key: &Key| Write::put(key.clone(), item.clone());
    scope.write(keys.iter().map(put).collect()).await;
    for limit in [1, 5, 12, 50] {
        let query = Query::index(TABLE.name, BY_OWNER, scope.partition("o"), limit);
        // Which of equals comes first is the store's own affair.
        for look in 1.. {
            let (mut found, _) = scope.all(&query).await;
            found.sort_by(|a, b| a.0.cmp(&b.0));
            let wanted: Vec<_> = keys.iter().map(|key| (key.clone(), item.clone())).collect();
            if found == wanted {
                break;
            }
            assert!(look < super::LOOKS_MAX, "the index shows {found:?}");
            tokio::time::sleep(super::PAUSE).await;
        }
    }
}
