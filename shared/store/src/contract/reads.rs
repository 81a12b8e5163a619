//! What is read is what was written.

use super::Scope;
use crate::{Item, ItemExt, Write};

pub(super) async fn a_put_item_reads_back_as_it_was(scope: Scope) {
    let item = Item::new()
        .with("zero", 0)
        .with("least", i64::MIN)
        .with("greatest", i64::MAX)
        .with("text", "Größe 3 µm, \"quoted\"\n")
        .with("empty_text", "")
        .with("json", r#"{"a":[1,2,{"b":null}]}"#)
        .with("bytes", vec![0, 255, 10, 0])
        .with("empty_bytes", Vec::<u8>::new())
        .with("yes", true)
        .with("no", false)
        .with("long", "x".repeat(20_000));
    let key = scope.key("p", "s");
    assert_eq!(scope.get(&key).await, None);
    scope.put(&key, item.clone()).await;
    assert_eq!(scope.get(&key).await, Some(item));
    assert_eq!(scope.get(&scope.key("p", "s2")).await, None);
    assert_eq!(scope.get(&scope.key("p2", "s")).await, None);
}

pub(super) async fn an_item_without_attributes_is_there(scope: Scope) {
    let key = scope.key("p", "s");
    scope.put(&key, Item::new()).await;
    assert_eq!(scope.get(&key).await, Some(Item::new()));
    let failed = scope
        .refused(vec![Write::put(key.clone(), Item::new()).when(crate::Condition::ItemAbsent)])
        .await;
    assert_eq!(failed[0].item, Some(Item::new()));
}

pub(super) async fn a_batch_answers_in_the_order_of_its_keys_with_gaps(scope: Scope) {
    let keys: Vec<_> =
        (0..60).map(|n| scope.key(&format!("p{}", n % 7), &format!("{n}"))).collect();
    let writes = keys.iter().enumerate().filter(|(n, _)| n % 3 != 0);
    let writes = writes.map(|(n, key)| {
        Write::put(key.clone(), Item::new().with("n", i64::try_from(n).expect("small")))
    });
    scope.write(writes.collect()).await;

    let backwards: Vec<_> = keys.iter().rev().cloned().collect();
    let found = scope.store.batch_get(&backwards).await.expect("batch_get answers");
    let found: Vec<_> =
        found.iter().map(|item| item.as_ref().and_then(|item| item.number("n"))).collect();
    let wanted: Vec<_> = (0..60).rev().map(|n| (n % 3 != 0).then_some(n)).collect();
    assert_eq!(found, wanted);
}

pub(super) async fn a_batch_of_nothing_is_nothing(scope: Scope) {
    assert_eq!(scope.store.batch_get(&[]).await, Ok(vec![]));
}
