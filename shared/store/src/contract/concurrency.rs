//! Many callers at once.

use super::Scope;
use crate::{Condition, Item, ItemExt, Update, Write};
use tokio::task::JoinSet;

const CALLERS: i64 = 64;

pub(super) async fn one_of_many_claims_wins_and_the_losers_see_the_winner(scope: Scope) {
    let slot = scope.key("block", "3");
    let mut claims = JoinSet::new();
    for n in 0..CALLERS {
        let (scope, slot) = (scope.clone(), slot.clone());
        claims.spawn(async move {
            let updates = vec![Update::set("slot17", format!("i-{n}")), Update::add("taken", 1)];
            let claim = Write::update(slot, updates).when(Condition::absent("slot17"));
            let own = scope.key("receipt", &n.to_string());
            let receipt = Write::put(own, Item::new().with("slot", 17));
            (n, scope.try_write(vec![claim, receipt]).await)
        });
    }
    let answers = claims.join_all().await;
    let winners: Vec<i64> =
        answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(n, _)| *n).collect();
    let [winner] = winners[..] else { panic!("not one winner but {winners:?}") };

    let item = Item::new().with("slot17", format!("i-{winner}")).with("taken", 1);
    assert_eq!(scope.get(&slot).await, Some(item.clone()));
    for (n, answer) in answers {
        let receipt = scope.get(&scope.key("receipt", &n.to_string())).await;
        assert_eq!(receipt.is_some(), n == winner, "the receipt of {n}");
        if let Err(failed) = answer {
            assert_eq!(failed.len(), 1, "of loser {n}");
            assert_eq!(failed[0].item.as_ref(), Some(&item), "what loser {n} got to see");
        }
    }
}

pub(super) async fn a_counter_adds_up(scope: Scope) {
    let counter = scope.key("p", "counter");
    let mut tasks = JoinSet::new();
    for n in 0..CALLERS {
        let (scope, counter) = (scope.clone(), counter.clone());
        tasks.spawn(async move {
            for _ in 0..5 {
                let add = vec![Update::add("n", n), Update::add("times", 1)];
                scope.write(vec![Write::update(counter.clone(), add)]).await;
            }
        });
    }
    tasks.join_all().await;
    let item = Item::new().with("n", 5 * CALLERS * (CALLERS - 1) / 2).with("times", 5 * CALLERS);
    assert_eq!(scope.get(&counter).await, Some(item));
}

pub(super) async fn many_takers_never_overdraw(scope: Scope) {
    let host = scope.key("host", "h-1");
    scope.put(&host, Item::new().with("free", 50)).await;
    let mut tasks = JoinSet::new();
    for n in 0..CALLERS {
        let (scope, host) = (scope.clone(), host.clone());
        tasks.spawn(async move {
            let take = Write::update(host, vec![Update::add("free", -3)])
                .when(Condition::at_least("free", 3));
            let own = scope.key("receipt", &n.to_string());
            let receipt = Write::put(own, Item::new().with("n", n)).when(Condition::ItemAbsent);
            scope.try_write(vec![take, receipt]).await.is_ok()
        });
    }
    let taken = tasks.join_all().await.into_iter().filter(|taken| *taken).count();
    assert_eq!(taken, 16);
    assert_eq!(scope.get(&host).await, Some(Item::new().with("free", 2)));
}

pub(super) async fn an_answered_write_is_seen_by_every_read(scope: Scope) {
    let mut tasks = JoinSet::new();
    for n in 0..CALLERS {
        let scope = scope.clone();
        tasks.spawn(async move {
            let key = scope.key(&format!("p{}", n % 4), &n.to_string());
            for round in 0..10 {
                let item = Item::new().with("round", round);
                scope.put(&key, item.clone()).await;
                assert_eq!(scope.get(&key).await.as_ref(), Some(&item));
                let batch = scope.store.batch_get(std::slice::from_ref(&key)).await;
                assert_eq!(batch.expect("batch_get answers"), [Some(item.clone())]);
                let query = crate::Query::partition(key.table, key.partition.clone(), 100);
                let (items, _) = scope.all(&query).await;
                assert!(items.contains(&(key.clone(), item)), "round {round} of {key}");
            }
        });
    }
    tasks.join_all().await;
}
