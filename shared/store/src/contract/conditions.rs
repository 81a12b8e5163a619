//! Every kind of condition, on items that are there and on items that are not.

use super::Scope;
use crate::{Condition, Failed, Item, ItemExt, Value, Write, holds};

/// Each condition with what it says of [`sample`], and of no item.
fn table_of_conditions() -> Vec<(Condition, bool, bool)> {
    let any = |conditions: &[Condition]| Condition::Any(conditions.to_vec());
    vec![
        (Condition::ItemAbsent, false, true),
        (Condition::ItemPresent, true, false),
        (Condition::absent("n"), false, true),
        (Condition::absent("none"), true, true),
        (Condition::present("n"), true, false),
        (Condition::present("none"), false, false),
        (Condition::equals("n", 7), true, false),
        (Condition::equals("n", 8), false, false),
        (Condition::equals("n", "7"), false, false),
        (Condition::equals("text", "ab"), true, false),
        (Condition::equals("text", "a"), false, false),
        (Condition::equals("bytes", vec![1, 2]), true, false),
        (Condition::equals("bytes", vec![1]), false, false),
        (Condition::equals("yes", true), true, false),
        (Condition::equals("yes", false), false, false),
        (Condition::equals("none", 0), false, false),
        (Condition::differs("n", 7), false, true),
        (Condition::differs("n", 8), true, true),
        (Condition::differs("n", "7"), true, true),
        (Condition::differs("text", "ab"), false, true),
        (Condition::differs("none", 0), true, true),
        (Condition::at_least("n", 7), true, false),
        (Condition::at_least("n", 8), false, false),
        (Condition::at_least("n", -8), true, false),
        (Condition::at_least("text", 0), false, false),
        (Condition::at_least("none", 0), false, false),
        (Condition::at_least("least", i64::MIN), true, false),
        (Condition::at_least("least", i64::MIN + 1), false, false),
        (Condition::at_most("n", 7), true, false),
        (Condition::at_most("n", 6), false, false),
        (Condition::at_most("text", 9), false, false),
        (Condition::at_most("none", 9), false, false),
        (Condition::absent_or_at_most("n", 7), true, true),
        (Condition::absent_or_at_most("n", 6), false, true),
        (Condition::absent_or_at_most("none", 0), true, true),
        (any(&[Condition::equals("n", 1), Condition::equals("n", 7)]), true, false),
        (any(&[Condition::equals("n", 1), Condition::equals("n", 2)]), false, false),
        (any(&[Condition::ItemAbsent, Condition::equals("n", 2)]), false, true),
        (any(&[any(&[Condition::ItemAbsent]), any(&[Condition::present("n")])]), true, true),
    ]
}

fn sample() -> Item {
    Item::new()
        .with("n", 7)
        .with("least", i64::MIN)
        .with("text", "ab")
        .with("bytes", vec![1, 2])
        .with("yes", true)
}

pub(super) async fn every_condition_judges_present_and_absent_items(scope: Scope) {
    let (there, missing) = (scope.key("p", "there"), scope.key("p", "missing"));
    scope.put(&there, sample()).await;
    for (condition, of_sample, of_nothing) in table_of_conditions() {
        for (key, item, wanted) in
            [(&there, Some(sample()), of_sample), (&missing, None, of_nothing)]
        {
            assert_eq!(holds(&condition, item.as_ref()), wanted, "{condition:?} of {item:?}");
            let check = Write::check(key.clone()).when(condition.clone());
            let answer = scope.try_write(vec![check]).await;
            let failed = Failed { index: 0, key: key.clone(), item };
            let wanted = if wanted { Ok(()) } else { Err(vec![failed]) };
            assert_eq!(answer, wanted, "{condition:?}");
        }
    }
    assert_eq!(scope.get(&there).await, Some(sample()));
    assert_eq!(scope.get(&missing).await, None);
}

pub(super) async fn conditions_of_one_write_must_all_hold(scope: Scope) {
    let key = scope.key("p", "s");
    scope.put(&key, sample()).await;
    let put = |conditions: &[Condition]| {
        let item = sample().with("n", 8);
        vec![Write::put(key.clone(), item).when_all(conditions.iter().cloned())]
    };
    let (holds, fails) = (Condition::equals("n", 7), Condition::equals("text", "other"));
    for conditions in [[holds.clone(), fails.clone()], [fails, holds.clone()]] {
        let failed = scope.refused(put(&conditions)).await;
        assert_eq!(failed, vec![Failed { index: 0, key: key.clone(), item: Some(sample()) }]);
    }
    scope.write(put(&[holds, Condition::equals("yes", true)])).await;
    let item = scope.get(&key).await.expect("it is there");
    assert_eq!(item.get("n"), Some(&Value::N(8)));
}
