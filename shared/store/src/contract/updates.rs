//! Every action and every kind of update.

use super::Scope;
use crate::{Condition, Item, ItemExt, Update, Write};

pub(super) async fn every_update_changes_its_attribute_alone(scope: Scope) {
    let key = scope.key("p", "s");
    let before =
        Item::new().with("keep", "me").with("text", "old").with("n", 40).with("gone", true);
    scope.put(&key, before).await;
    let updates = vec![
        Update::set("text", 5),
        Update::set("new", vec![1, 2, 3]),
        Update::add("n", -42),
        Update::add("made", 9),
        Update::remove("gone"),
        Update::remove("never_there"),
    ];
    scope.write(vec![Write::update(key.clone(), updates)]).await;
    let after = Item::new()
        .with("keep", "me")
        .with("text", 5)
        .with("new", vec![1, 2, 3])
        .with("n", -2)
        .with("made", 9);
    assert_eq!(scope.get(&key).await, Some(after));
}

pub(super) async fn an_update_makes_the_item_that_is_missing(scope: Scope) {
    let key = scope.key("p", "s");
    let updates = vec![Update::set("state", "new"), Update::add("n", 3)];
    let write = Write::update(key.clone(), updates).when(Condition::absent("state"));
    scope.write(vec![write.clone()]).await;
    let made = Item::new().with("state", "new").with("n", 3);
    assert_eq!(scope.get(&key).await, Some(made.clone()));

    let failed = scope.refused(vec![write]).await;
    assert_eq!(failed[0].item, Some(made));
}

pub(super) async fn a_put_replaces_the_whole_item(scope: Scope) {
    let key = scope.key("p", "s");
    scope.put(&key, Item::new().with("a", 1).with("b", 2)).await;
    scope.put(&key, Item::new().with("b", 3)).await;
    assert_eq!(scope.get(&key).await, Some(Item::new().with("b", 3)));
}

pub(super) async fn a_delete_takes_the_item_and_may_come_twice(scope: Scope) {
    let key = scope.key("p", "s");
    scope.put(&key, Item::new().with("owner", "i-1")).await;
    let of = |owner: &str| Write::delete(key.clone()).when(Condition::equals("owner", owner));
    scope.refused(vec![of("i-2")]).await;
    assert!(scope.get(&key).await.is_some());
    scope.write(vec![of("i-1")]).await;
    assert_eq!(scope.get(&key).await, None);
    scope.write(vec![Write::delete(key.clone())]).await;
    assert_eq!(scope.refused(vec![of("i-1")]).await[0].item, None);
    scope.put(&key, Item::new().with("again", true)).await;
    assert_eq!(scope.get(&key).await, Some(Item::new().with("again", true)));
}

pub(super) async fn a_number_goes_down_to_its_bound_and_no_further(scope: Scope) {
    let key = scope.key("p", "s");
    scope.put(&key, Item::new().with("free", 10)).await;
    let take = Write::update(key.clone(), vec![Update::add("free", -4)])
        .when(Condition::at_least("free", 4));
    scope.write(vec![take.clone()]).await;
    scope.write(vec![take.clone()]).await;
    let failed = scope.refused(vec![take]).await;
    assert_eq!(failed[0].item, Some(Item::new().with("free", 2)));
}
