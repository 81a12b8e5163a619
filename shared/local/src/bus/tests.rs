use super::*;
use crate::store::EmbeddedStore;
use eventplane_engine::Failure;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

pub(super) struct Fixed;
impl Clock for Fixed {
    fn now(&self) -> Millis {
        Millis(1_764_000_000_000)
    }
}

/// What a handler does with a delivery.
#[derive(Clone, Copy)]
pub(super) enum Act {
    Fail,
    SetAside,
    Panic,
    Hang,
}

/// A function that acts as told, in order, and then handles everything.
#[derive(Default)]
pub(super) struct Told {
    acts: Mutex<VecDeque<Act>>,
    /// What it was handed, and when.
    seen: Mutex<Vec<(String, Instant)>>,
    /// It handles a message only with a permit, if there is a gate.
    gate: Option<Semaphore>,
}

#[async_trait]
impl Handler for Told {
    fn name(&self) -> &'static str {
        "network"
    }

    async fn deliver(&self, message: &str, _: u32) -> Result<(), Failure> {
        self.seen.lock().unwrap().push((message.to_owned(), Instant::now()));
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        let act = self.acts.lock().unwrap().pop_front();
        match act {
            None => Ok(()),
            Some(Act::Fail) => Err(Fault::Other("the table is on fire".to_owned()).into()),
            Some(Act::SetAside) => Err(eventplane_events::Unreadable::Loop(33).into()),
            Some(Act::Panic) => panic!("a bug"),
            Some(Act::Hang) => std::future::pending().await,
        }
    }
}

impl Told {
    pub(super) fn to(acts: &[Act]) -> Arc<Told> {
        Arc::new(Told { acts: Mutex::new(acts.iter().copied().collect()), ..Told::default() })
    }

    fn gated() -> Arc<Told> {
        Arc::new(Told { gate: Some(Semaphore::new(0)), ..Told::default() })
    }

    pub(super) fn bodies(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(body, _)| body.clone()).collect()
    }

    pub(super) fn moments(&self) -> Vec<Instant> {
        self.seen.lock().unwrap().iter().map(|(_, at)| *at).collect()
    }
}

fn entry(n: usize) -> Entry {
    Entry {
        source: "eventplane.capacity".to_owned(),
        detail_type: "CapacityAllocated",
        detail: format!(r#"{{"n":{n}}}"#),
    }
}

pub(super) fn store() -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::in_memory(&[DEAD_LETTERS]).expect("a store"))
}

pub(super) fn bus_with(
    options: BusOptions,
    store: Arc<EmbeddedStore>,
    told: &Arc<Told>,
) -> Arc<LocalBus> {
    let mut wiring = Wiring::built_in();
    // The others have no handler here, and what they hear would wait for ever.
    wiring.rules.retain(|rule| rule.function == "network");
    let bus = LocalBus::new(wiring, store, Arc::new(Fixed), options);
    bus.start(vec![told.clone()]);
    bus
}

pub(super) fn bus(told: &Arc<Told>) -> Arc<LocalBus> {
    bus_with(BusOptions::default(), store(), told)
}

pub(super) async fn publish(bus: &LocalBus, events: usize) {
    bus.publish((0..events).map(entry).collect()).await.expect("taken");
}

fn of_network(bus: &LocalBus) -> FunctionStats {
    let functions = bus.stats().functions;
    functions.into_iter().find(|of| of.function == "network").expect("it has an inbox")
}

pub(super) async fn letters(bus: &LocalBus) -> Vec<DeadLetter> {
    bus.list(Some("network"), 100).await.expect("a list")
}

#[tokio::test(start_paused = true)]
async fn every_event_reaches_its_function_in_its_envelope() {
    let told = Told::to(&[]);
    let bus = bus(&told);
    publish(&bus, 1000).await;
    bus.idle().await;
    let bodies = told.bodies();
    let numbers: HashMap<u64, usize> = bodies.iter().fold(HashMap::new(), |mut numbers, body| {
        let event: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(event["time"], "2025-11-24T16:00:00Z");
        *numbers.entry(event["detail"]["n"].as_u64().expect("a number")).or_default() += 1;
        numbers
    });
    assert!(numbers.len() == 1000 && numbers.values().all(|times| *times == 1));
    let stats = bus.stats();
    assert_eq!((stats.published, stats.sent, stats.deliveries), (1000, 1000, 1000));
    assert_eq!(stats.queue_requests, 3000);
}

#[tokio::test(start_paused = true)]
async fn what_no_rule_matches_is_taken_and_goes_nowhere() {
    let told = Told::to(&[]);
    let bus = bus(&told);
    let foreign = Entry { source: "eventplane.storage".to_owned(), ..entry(1) };
    let unheard = Entry { detail_type: "InstanceTerminated", ..entry(2) };
    bus.publish(vec![foreign, unheard]).await.expect("taken");
    bus.idle().await;
    assert_eq!(told.bodies().len(), 0);
    assert_eq!((bus.stats().published, bus.stats().sent), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_too_large_is_refused_and_the_others_are_taken() {
    let told = Told::to(&[]);
    let bus = bus(&told);
    let large = Entry { detail: " ".repeat(ENTRY_BYTES_MAX), ..entry(1) };
    let error = bus.publish(vec![entry(0), large, entry(2)]).await.expect_err("too large");
    assert!(error.to_string().contains("did not take 1 of 3 events"), "{error}");
    bus.idle().await;
    assert_eq!(told.bodies().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_delivery_is_repeated_after_a_growing_wait() {
    let told = Told::to(&[Act::Fail, Act::Fail, Act::Fail, Act::Fail]);
    let bus = bus(&told);
    publish(&bus, 1).await;
    bus.idle().await;
    let moments = told.moments();
    assert_eq!(moments.len(), 5);
    let waits: Vec<_> =
        moments.windows(2).map(|pair| (pair[1] - pair[0]).as_millis() as u64).collect();
    for (wait, longest) in waits.iter().zip([100, 800, 6400, 51_200]) {
        assert!((longest / 2..=longest + 1).contains(wait), "{waits:?}");
    }
    assert_eq!(letters(&bus).await, []);
    assert_eq!(bus.stats().queue_requests, 1 + 5 + 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_failed_delivery_makes_a_dead_letter_with_its_reason() {
    let told = Told::to(&[Act::Fail; 5]);
    let bus = bus(&told);
    publish(&bus, 1).await;
    bus.idle().await;
    let [letter] = &letters(&bus).await[..] else { panic!("one letter") };
    assert_eq!((letter.received, letter.function.as_str()), (5, "network"));
    assert_eq!((letter.reason.as_str(), letter.at), ("the table is on fire", Fixed.now()));
    assert_eq!(letter.body, told.bodies()[0]);
    assert_eq!(bus.get(&letter.id).await.expect("an answer").as_ref(), Some(letter));
    assert_eq!((told.bodies().len(), of_network(&bus).dead), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_handled_is_set_aside_at_once() {
    let told = Told::to(&[Act::SetAside]);
    let bus = bus(&told);
    publish(&bus, 1).await;
    bus.idle().await;
    let [letter] = &letters(&bus).await[..] else { panic!("one letter") };
    assert_eq!(letter.received, 1);
    assert!(letter.reason.contains("hop 33 is over the limit"), "{}", letter.reason);
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_hanging_handler_are_failed_deliveries() {
    let told = Told::to(&[Act::Panic, Act::Hang, Act::Panic, Act::Fail, Act::Hang]);
    let bus = bus_with(BusOptions { concurrency: 1, ..BusOptions::default() }, store(), &told);
    publish(&bus, 1).await;
    bus.idle().await;
    let letter = letters(&bus).await.remove(0);
    assert_eq!(letter.reason, "network was not done within 90000 ms");
    // The only worker has survived all of that.
    *told.acts.lock().unwrap() = [Act::Panic; 5].into();
    publish(&bus, 1).await;
    bus.idle().await;
    assert_eq!(letters(&bus).await[1].reason, "network panicked: a bug");
}

#[tokio::test(start_paused = true)]
async fn a_redriven_letter_is_delivered_anew_and_then_gone() {
    let told = Told::to(&[Act::SetAside]);
    let bus = bus(&told);
    publish(&bus, 1).await;
    bus.idle().await;
    let id = letters(&bus).await.remove(0).id;
    told.acts.lock().unwrap().extend([Act::Fail; 4]);
    assert!(bus.redrive(&id).await.expect("an answer"));
    bus.idle().await;
    assert_eq!(told.bodies().len(), 1 + 5, "it counts from zero again");
    assert_eq!(letters(&bus).await, []);
    assert!(!bus.redrive(&id).await.expect("an answer"));
    for id in ["network.nothing", "nobody.1", "", ".", "network", "network.\0"] {
        assert!(!bus.redrive(id).await.expect("an answer"), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redriven_letter_that_fails_again_is_one_letter() {
    let told = Told::to(&[Act::SetAside, Act::Fail, Act::Fail, Act::Fail, Act::Fail, Act::Fail]);
    let bus = bus(&told);
    publish(&bus, 1).await;
    bus.idle().await;
    let first = letters(&bus).await.remove(0);
    assert!(bus.redrive(&first.id).await.expect("an answer"));
    bus.idle().await;
    let [second] = &letters(&bus).await[..] else { panic!("one letter") };
    assert_eq!(second.reason, "the table is on fire");
    assert_ne!(second.id, first.id);
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_redrive_and_delivery_leaves_the_letter() {
    let told = Told::to(&[Act::SetAside]);
    let store = store();
    let bus = bus_with(BusOptions::default(), store.clone(), &told);
    publish(&bus, 1).await;
    bus.idle().await;
    let letter = letters(&bus).await.remove(0);
    bus.pause("network");
    assert!(bus.redrive(&letter.id).await.expect("an answer"));
    assert_eq!(letters(&bus).await, [], "it is in its inbox");
    assert!(!bus.redrive(&letter.id).await.expect("an answer"), "once is enough");
    bus.stop().await;
    let after = bus_with(BusOptions::default(), store, &told);
    assert_eq!(letters(&after).await, std::slice::from_ref(&letter));
    // The same millisecond as before the crash: the new letter finds an id of its own.
    told.acts.lock().unwrap().push_back(Act::SetAside);
    publish(&after, 1).await;
    after.idle().await;
    assert_eq!(letters(&after).await.len(), 2);
    assert_eq!(after.list(None, 1).await.expect("a list"), [letter]);
}

#[tokio::test(start_paused = true)]
async fn a_paused_function_keeps_its_messages() {
    let told = Told::to(&[]);
    let bus = bus(&told);
    assert!(bus.pause("network") && !bus.pause("nobody"));
    publish(&bus, 100).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((told.bodies().len(), of_network(&bus).queued), (0, 100));
    assert!(of_network(&bus).is_paused);
    assert!(timeout(Duration::from_secs(1), bus.idle()).await.is_err());
    assert!(bus.resume("network") && !bus.resume("nobody"));
    bus.idle().await;
    assert_eq!((told.bodies().len(), of_network(&bus).queued), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_broken_function_fails_until_it_is_mended_and_then_goes_on_at_once() {
    let told = Told::to(&[]);
    let bus = bus(&told);
    assert!(bus.break_function("network", "unplugged") && !bus.break_function("nobody", ""));
    publish(&bus, 10).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((told.bodies().len(), of_network(&bus).queued), (0, 10));
    assert_eq!(of_network(&bus).broken.as_deref(), Some("unplugged"));
    let mended = Instant::now();
    assert!(bus.mend("network") && !bus.mend("nobody"));
    bus.idle().await;
    assert_eq!(told.bodies().len(), 10);
    assert!(mended.elapsed() < Duration::from_millis(10));
    bus.break_function("network", "unplugged");
    publish(&bus, 1).await;
    bus.idle().await;
    assert_eq!(letters(&bus).await[0].reason, "unplugged");
}

#[tokio::test(start_paused = true)]
async fn duplicates_and_any_order_can_be_asked_for_and_a_seed_repeats_them() {
    let run = async |seed| {
        let told = Told::gated();
        let options = BusOptions {
            duplicates_percent: 100,
            is_shuffled: true,
            concurrency: 1,
            seed,
            ..BusOptions::default()
        };
        let bus = bus_with(options, store(), &told);
        publish(&bus, 50).await;
        told.gate.as_ref().expect("a gate").add_permits(100);
        bus.idle().await;
        told.bodies()
    };
    let bodies = run(7).await;
    let mut times: HashMap<&String, usize> = HashMap::new();
    for body in &bodies {
        *times.entry(body).or_default() += 1;
    }
    assert!(times.len() == 50 && times.values().all(|times| *times == 2));
    assert!(!bodies.is_sorted());
    assert_eq!(run(7).await, bodies);
    assert_ne!(run(8).await, bodies);
}

#[tokio::test(start_paused = true)]
async fn a_function_handles_as_many_at_a_time_as_it_may() {
    let told = Told::gated();
    let gate = told.gate.as_ref().expect("a gate");
    let bus = bus_with(BusOptions { concurrency: 3, ..BusOptions::default() }, store(), &told);
    publish(&bus, 10).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!((of_network(&bus).in_flight, of_network(&bus).queued), (3, 7));
    gate.add_permits(1);
    sleep(Duration::from_millis(1)).await;
    assert_eq!((of_network(&bus).in_flight, of_network(&bus).queued), (3, 6));
    gate.add_permits(9);
    bus.idle().await;
    assert_eq!(told.bodies().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn to_stop_lets_what_is_under_way_end_and_begins_nothing() {
    let told = Told::gated();
    let bus = bus_with(BusOptions { concurrency: 2, ..BusOptions::default() }, store(), &told);
    publish(&bus, 5).await;
    sleep(Duration::from_millis(1)).await;
    let stopping = tokio::spawn({
        let bus = bus.clone();
        async move { bus.stop().await }
    });
    sleep(Duration::from_secs(1)).await;
    assert!(!stopping.is_finished());
    told.gate.as_ref().expect("a gate").add_permits(5);
    stopping.await.expect("it ends");
    assert_eq!((told.bodies().len(), of_network(&bus).in_flight), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_the_store_does_not_take_waits_until_it_does() {
    struct Down(Arc<EmbeddedStore>, AtomicU64);
    #[async_trait]
    impl Store for Down {
        async fn get(
            &self,
            key: &eventplane_store::Key,
        ) -> Result<Option<eventplane_store::Item>, eventplane_store::StoreFault> {
            self.0.get(key).await
        }
        async fn batch_get(
            &self,
            keys: &[eventplane_store::Key],
        ) -> Result<Vec<Option<eventplane_store::Item>>, eventplane_store::StoreFault> {
            self.0.batch_get(keys).await
        }
        async fn query(
            &self,
            query: &eventplane_store::Query,
        ) -> Result<eventplane_store::Page, eventplane_store::StoreFault> {
            self.0.query(query).await
        }
        async fn transact(
            &self,
            writes: Vec<eventplane_store::Write>,
        ) -> Result<(), eventplane_store::TransactError> {
            if self.1.fetch_add(1, Ordering::Relaxed) < 3 {
                let kind = eventplane_store::FaultKind::Unavailable;
                return Err(eventplane_store::StoreFault::new(kind, "down").into());
            }
            self.0.transact(writes).await
        }
    }
    let mut wiring = Wiring::built_in();
    wiring.rules.retain(|rule| rule.function == "network");
    let down = Arc::new(Down(store(), AtomicU64::new(0)));
    let bus = LocalBus::new(wiring, down, Arc::new(Fixed), BusOptions::default());
    bus.start(vec![Told::to(&[Act::SetAside; 4])]);
    publish(&bus, 1).await;
    bus.idle().await;
    assert_eq!(letters(&bus).await[0].received, 4);
}

#[test]
fn moments_are_written_as_rfc_3339() {
    for (ms, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (951_782_400_000, "2000-02-29T00:00:00Z"),
        (1_764_000_000_999, "2025-11-24T16:00:00Z"),
        (4_107_542_399_000, "2100-02-28T23:59:59Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(rfc3339(Millis(ms)), text);
    }
}
