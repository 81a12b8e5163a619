//! Queries of a table's partition.

use super::{Scope, TABLE};
use crate::{Item, ItemExt, Query, Write};

const SORTS: [&str; 8] = ["a", "a#1", "a#2", "a#30", "b", "b#1", "bb", "c"];

async fn fill(scope: &Scope) {
    // Not in order, so that the store has something to sort.
    let sorts = SORTS.iter().rev();
    let writes = sorts.map(|sort| {
        Write::put(scope.key("p", sort), Item::new().with("text", format!("item {sort}")))
    });
    scope.write(writes.collect()).await;
}

fn query(scope: &Scope, limit: usize) -> Query {
    Query::partition(TABLE.name, scope.partition("p"), limit)
}

fn down(query: Query) -> Query {
    Query { descending: true, ..query }
}

fn reversed(sorts: &[&'static str]) -> Vec<&'static str> {
    sorts.iter().rev().copied().collect()
}

pub(super) async fn a_query_answers_its_partition_in_order(scope: Scope) {
    assert_eq!(scope.store.query(&query(&scope, 5)).await, Ok(crate::Page::default()));
    fill(&scope).await;
    let (items, _) = scope.all(&query(&scope, 100)).await;
    let wanted: Vec<_> = SORTS
        .iter()
        .map(|sort| (scope.key("p", sort), Item::new().with("text", format!("item {sort}"))))
        .collect();
    assert_eq!(items, wanted);
    assert_eq!(scope.sorts(&down(query(&scope, 100))).await, reversed(&SORTS));
    let first = scope.store.query(&query(&scope, 1)).await.expect("query answers");
    assert_eq!(first.items, wanted[..1]);
    let last = scope.store.query(&down(query(&scope, 1))).await.expect("query answers");
    assert_eq!(last.items, wanted[7..]);
}

pub(super) async fn a_query_keeps_to_its_prefix(scope: Scope) {
    fill(&scope).await;
    for (prefix, wanted) in [
        ("a", &SORTS[0..4]),
        ("a#", &SORTS[1..4]),
        ("a#3", &SORTS[3..4]),
        ("b", &SORTS[4..7]),
        ("bb", &SORTS[6..7]),
        ("c", &SORTS[7..8]),
        ("d", &[]),
    ] {
        for limit in [1, 2, 100] {
            let query = query(&scope, limit).prefix(prefix);
            assert_eq!(scope.sorts(&query).await, wanted, "{prefix} by {limit}");
            assert_eq!(scope.sorts(&down(query)).await, reversed(wanted), "{prefix} by {limit}");
        }
    }
}

pub(super) async fn a_query_starts_where_it_is_told(scope: Scope) {
    fill(&scope).await;
    for (from, up, back) in [
        ("a", &SORTS[..], &SORTS[..1]),
        ("a#2", &SORTS[2..], &SORTS[..3]),
        ("a#3", &SORTS[3..], &SORTS[..3]),
        ("b", &SORTS[4..], &SORTS[..5]),
        ("c", &SORTS[7..], &SORTS[..]),
        ("d", &[], &SORTS[..]),
        ("A", &SORTS[..], &[]),
    ] {
        for limit in [1, 3, 100] {
            let query = query(&scope, limit).starting_at(from);
            assert_eq!(scope.sorts(&query).await, up, "from {from} by {limit}");
            assert_eq!(scope.sorts(&down(query)).await, reversed(back), "from {from} by {limit}");
        }
    }
    let both = query(&scope, 2).prefix("a#").starting_at("a#2");
    assert_eq!(scope.sorts(&both).await, SORTS[2..4]);
    assert_eq!(scope.sorts(&down(both)).await, ["a#2", "a#1"]);
    let before = query(&scope, 2).prefix("b").starting_at("a");
    assert_eq!(scope.sorts(&before).await, SORTS[4..7]);
    assert!(scope.sorts(&down(before)).await.is_empty());
    let behind = query(&scope, 2).prefix("a").starting_at("c");
    assert!(scope.sorts(&behind).await.is_empty());
    assert_eq!(scope.sorts(&down(behind)).await, reversed(&SORTS[..4]));
}

pub(super) async fn a_query_goes_on_to_the_end_without_gap_or_repeat(scope: Scope) {
    let sorts: Vec<String> = (0..230).map(|n| format!("{n:04}")).collect();
    for part in sorts.chunks(80) {
        let put = |sort: &String| Write::put(scope.key("p", sort), Item::new().with("n", 1));
        scope.write(part.iter().map(put).collect()).await;
    }
    let backwards: Vec<String> = sorts.iter().rev().cloned().collect();
    for limit in [7, 23, 229, 230, 231] {
        assert_eq!(scope.sorts(&query(&scope, limit)).await, sorts, "by {limit}");
        assert_eq!(scope.sorts(&down(query(&scope, limit))).await, backwards, "by {limit}");
    }
    let (_, pages) = scope.all(&query(&scope, 100)).await;
    assert_eq!(pages, 3);

    // An item that goes between two pages moves nothing else.
    let first = scope.store.query(&query(&scope, 10)).await.expect("query answers");
    scope.write(vec![Write::delete(scope.key("p", "0009"))]).await;
    let second = Query { after: first.next, ..query(&scope, 10) };
    let second = scope.store.query(&second).await.expect("query answers");
    assert_eq!(second.items[0].0.sort, "0010");
}

pub(super) async fn a_partition_never_shows_its_neighbours(scope: Scope) {
    for partition in ["p", "p1", "p#", "o", "q", "pa"] {
        scope.put(&scope.key(partition, partition), Item::new()).await;
    }
    for partition in ["p", "p1", "p#", "o", "q", "pa"] {
        let query = Query::partition(TABLE.name, scope.partition(partition), 10);
        assert_eq!(scope.sorts(&query).await, [partition]);
        assert_eq!(scope.sorts(&down(query)).await, [partition]);
    }
}
