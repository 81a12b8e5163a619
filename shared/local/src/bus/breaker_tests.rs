//! Breakers and purges, on the bus of [`super::tests`].

use super::tests::{Act, Fixed, Told, bus, bus_with, letters, publish, store};
use super::*;
use eventplane_engine::{Breaker, BreakerState, Breakers};
use std::time::Duration;
use tokio::time::{Instant, sleep};

async fn breaker(bus: &LocalBus) -> Breaker {
    let all = bus.breakers().await.expect("breakers");
    all.into_iter().find(|breaker| breaker.function == "network").expect("it has an inbox")
}

async fn set(bus: &LocalBus, is_open: bool) -> BreakerState {
    bus.set_breaker("network", is_open).await.expect("set").expect("it has an inbox").state
}

#[tokio::test(start_paused = true)]
async fn behind_an_open_breaker_messages_wait_and_then_leave_at_the_rate() {
    let told = Told::to(&[]);
    let options = BusOptions { drain_per_s: 10, ..BusOptions::default() };
    let bus = bus_with(options, store(), &told);
    assert_eq!(
        (breaker(&bus).await.state, breaker(&bus).await.since),
        (BreakerState::Closed, None)
    );
    assert_eq!(set(&bus, true).await, BreakerState::Open);
    publish(&bus, 25).await;
    sleep(Duration::from_secs(100_000)).await;
    let open = breaker(&bus).await;
    assert_eq!((open.state, open.since, open.waiting), (BreakerState::Open, Some(Fixed.now()), 25));
    assert_eq!((told.bodies().len(), letters(&bus).await), (0, vec![]));

    let closed = Instant::now();
    assert_eq!(set(&bus, false).await, BreakerState::Draining);
    sleep(Duration::from_millis(450)).await;
    assert_eq!((told.bodies().len(), breaker(&bus).await.waiting), (5, 20));
    bus.idle().await;
    assert_eq!(told.bodies().len(), 25);
    for (n, at) in told.moments().iter().enumerate() {
        // Ten a second, give or take the timer's millisecond.
        let due = 100 * n as u128;
        let after = (*at - closed).as_millis();
        assert!((due..due + 2 + n as u128).contains(&after), "message {n} after {after} ms");
    }
    assert_eq!(breaker(&bus).await.state, BreakerState::Closed);
    let drained = Instant::now();
    publish(&bus, 1_000).await;
    bus.idle().await;
    assert!(drained.elapsed() < Duration::from_millis(1), "at full speed again");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_it_drains_waits_its_turn_and_then_leaves_at_once() {
    let told = Told::to(&[]);
    let options = BusOptions { drain_per_s: 10, ..BusOptions::default() };
    let bus = bus_with(options, store(), &told);
    set(&bus, true).await;
    publish(&bus, 3).await;
    set(&bus, false).await;
    publish(&bus, 500).await;
    sleep(Duration::from_millis(150)).await;
    assert_eq!(told.bodies().len(), 2);
    sleep(Duration::from_millis(60)).await;
    assert_eq!((told.bodies().len(), breaker(&bus).await.waiting), (503, 0));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_opened_amid_its_draining_is_open() {
    let told = Told::to(&[]);
    let options = BusOptions { drain_per_s: 1, ..BusOptions::default() };
    let bus = bus_with(options, store(), &told);
    set(&bus, true).await;
    publish(&bus, 10).await;
    set(&bus, false).await;
    sleep(Duration::from_millis(1_500)).await;
    // Past the store, which would have the paused clock run on.
    bus.queue("network").expect("it has an inbox").set_breaker(true);
    assert_eq!(breaker(&bus).await.state, BreakerState::Open);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((told.bodies().len(), breaker(&bus).await.waiting), (2, 8));
    assert_eq!(set(&bus, false).await, BreakerState::Draining);
    bus.idle().await;
    assert_eq!(told.bodies().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_message_between_two_tries_waits_too_and_counts_no_try() {
    let told = Told::to(&[Act::Fail]);
    let bus = bus(&told);
    publish(&bus, 1).await;
    sleep(Duration::from_millis(10)).await;
    // Past the store, which would have the paused clock run on to the next try.
    bus.queue("network").expect("it has an inbox").set_breaker(true);
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!((told.bodies().len(), breaker(&bus).await.waiting), (1, 1));
    set(&bus, false).await;
    bus.idle().await;
    assert_eq!((told.bodies().len(), letters(&bus).await), (2, vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_open_after_a_restart_and_a_closed_one_is_not() {
    let told = Told::to(&[]);
    let store = store();
    let before = bus_with(BusOptions::default(), store.clone(), &told);
    set(&before, true).await;
    before.stop().await;
    let after = bus_with(BusOptions::default(), store.clone(), &told);
    after.restore_breakers().await.expect("readable");
    let opened = breaker(&after).await;
    assert_eq!((opened.state, opened.since), (BreakerState::Open, Some(Fixed.now())));
    publish(&after, 3).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((told.bodies().len(), breaker(&after).await.waiting), (0, 3));
    set(&after, false).await;
    after.idle().await;
    after.stop().await;
    let last = bus_with(BusOptions::default(), store, &told);
    last.restore_breakers().await.expect("readable");
    assert_eq!(breaker(&last).await.state, BreakerState::Closed);
    assert_eq!(last.set_breaker("nobody", true).await.expect("an answer"), None);
    assert_eq!(letters(&last).await, [], "a breaker is no dead letter");
}

#[tokio::test(start_paused = true)]
async fn a_purge_leaves_later_letters_and_those_that_are_in_their_inbox_again() {
    let told = Told::to(&[Act::SetAside; 3]);
    let bus = bus(&told);
    publish(&bus, 3).await;
    bus.idle().await;
    let now = Fixed.now();
    let purge = async |until, limit| bus.purge("network", until, limit).await.expect("purged");
    assert_eq!(purge(Millis(now.0 - 1), 10).await, 0, "all came later");
    assert_eq!(purge(now, 1).await, 1);
    let redriven = letters(&bus).await.remove(0).id;
    bus.pause("network");
    assert!(bus.redrive(&redriven).await.expect("an answer"));
    assert_eq!(purge(now, 10).await, 1);
    bus.resume("network");
    bus.idle().await;
    assert_eq!((told.bodies().len(), letters(&bus).await), (4, vec![]));
    assert_eq!(purge(now, 10).await, 0);
}

#[tokio::test(start_paused = true)]
async fn letters_that_fail_again_at_once_do_not_end_a_redrive_early_nor_keep_it_going() {
    let told = Told::to(&[Act::SetAside; 40]);
    let bus = bus(&told);
    publish(&bus, 20).await;
    bus.idle().await;
    let first = letters(&bus).await;
    let until = Fixed.now();
    assert_eq!(bus.redrive_all(None, Millis(until.0 - 1), 100).await.expect("redriven"), 0);
    assert_eq!(bus.redrive_all(Some("network"), until, 100).await.expect("redriven"), 20);
    bus.idle().await;
    let second = letters(&bus).await;
    assert_eq!((second.len(), told.bodies().len()), (20, 40), "each once");
    assert!(second.iter().all(|letter| first.iter().all(|old| old.id != letter.id)));
}
