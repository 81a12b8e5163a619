//! All or nothing, and who was in the way.

use super::Scope;
use crate::{Condition, Failed, Item, ItemExt, Key, TRANSACTION_WRITES_MAX, Update, Write};

/// One write of each kind; the last one's condition decides.
fn one_of_each(scope: &Scope, condition: Condition) -> Vec<Write> {
    vec![
        Write::put(scope.key("a", "put"), Item::new().with("n", 2)),
        Write::update(scope.key("b", "update"), vec![Update::add("n", 1)]),
        Write::delete(scope.key("c", "delete")),
        Write::check(scope.key("d", "check")).when(condition),
    ]
}

async fn look(scope: &Scope) -> Vec<Option<i64>> {
    let keys: Vec<Key> =
        one_of_each(scope, Condition::ItemPresent).into_iter().map(|write| write.key).collect();
    let items = scope.store.batch_get(&keys).await.expect("batch_get answers");
    items.into_iter().map(|item| item.and_then(|item| item.number("n"))).collect()
}

pub(super) async fn all_is_written_or_nothing(scope: Scope) {
    let keys = one_of_each(&scope, Condition::ItemPresent).into_iter().map(|write| write.key);
    scope.write(keys.map(|key| Write::put(key, Item::new().with("n", 1))).collect()).await;
    assert_eq!(look(&scope).await, [Some(1); 4]);

    let failed = scope.refused(one_of_each(&scope, Condition::equals("n", 9))).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(look(&scope).await, [Some(1); 4]);

    scope.write(one_of_each(&scope, Condition::equals("n", 1))).await;
    assert_eq!(look(&scope).await, [Some(2), Some(2), None, Some(1)]);
}

pub(super) async fn every_failed_condition_is_named_with_its_item(scope: Scope) {
    let key = |n: i64| scope.key("p", &n.to_string());
    let item = |n: i64| Item::new().with("n", n);
    scope.write((0..4).map(|n| Write::put(key(n), item(n))).collect()).await;
    let writes = vec![
        Write::put(key(0), item(100)).when(Condition::ItemAbsent),
        Write::put(key(1), item(101)).when(Condition::equals("n", 1)),
        Write::update(key(2), vec![Update::add("n", 1)]).when(Condition::at_least("n", 3)),
        Write::delete(key(3)).when(Condition::absent("n")),
        Write::check(key(4)).when(Condition::ItemPresent),
        Write::put(key(5), item(105)).when(Condition::ItemAbsent),
    ];
    let failed = |index: usize, n: i64, item| Failed { index, key: key(n), item };
    let wanted = vec![
        failed(0, 0, Some(item(0))),
        failed(2, 2, Some(item(2))),
        failed(3, 3, Some(item(3))),
        failed(4, 4, None),
    ];
    assert_eq!(scope.refused(writes).await, wanted);
    for n in 0..6 {
        assert_eq!(scope.get(&key(n)).await, (n < 4).then(|| item(n)));
    }
}

pub(super) async fn a_check_decides_and_writes_nothing(scope: Scope) {
    let (guard, target) = (scope.key("p", "guard"), scope.key("p", "target"));
    let write = || {
        vec![
            Write::check(guard.clone()).when(Condition::equals("open", true)),
            Write::put(target.clone(), Item::new().with("n", 1)),
        ]
    };
    assert_eq!(scope.refused(write()).await[0].item, None);
    assert_eq!(scope.get(&guard).await, None);
    assert_eq!(scope.get(&target).await, None);

    scope.put(&guard, Item::new().with("open", true)).await;
    scope.write(write()).await;
    assert_eq!(scope.get(&guard).await, Some(Item::new().with("open", true)));
    assert_eq!(scope.get(&target).await, Some(Item::new().with("n", 1)));
}

pub(super) async fn a_hundred_writes_are_one_transaction(scope: Scope) {
    let key = |n: usize| scope.key(&format!("p{}", n % 10), &format!("{n:03}"));
    let writes = |state: &str| -> Vec<Write> {
        let item = Item::new().with("text", state);
        let put = |n| Write::put(key(n), item.clone()).when(Condition::ItemAbsent);
        (0..TRANSACTION_WRITES_MAX).map(put).collect()
    };
    let blocker = Item::new().with("text", "blocker");
    scope.put(&key(57), blocker.clone()).await;
    let failed = scope.refused(writes("first")).await;
    assert_eq!(failed, [Failed { index: 57, key: key(57), item: Some(blocker) }]);
    assert_eq!(scope.get(&key(0)).await, None);

    scope.write(vec![Write::delete(key(57))]).await;
    scope.write(writes("second")).await;
    let failed = scope.refused(writes("third")).await;
    assert_eq!(failed.len(), TRANSACTION_WRITES_MAX);
    let second = Some(Item::new().with("text", "second"));
    assert!(
        failed.iter().enumerate().all(|(n, failed)| failed.index == n && failed.item == second)
    );
}
