//! The loop, over a store and a bus that do as they are told.

use super::*;
use crate::samples::{DEADLINE, event, spec};
use crate::{Chance, Clock, Publisher};
use eventplane_events::{Entry, InstanceRequested, TerminationRequested, envelope};
use eventplane_store::{FaultKind, Item, Key, Page, Query, StoreFault};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

type Answer = Result<(), TransactError>;

/// Answers transactions as told, the last answer for ever; takes note of all that happens.
struct World {
    answers: Mutex<Vec<Answer>>,
    refuses: Option<(usize, usize)>,
    seen: Mutex<Vec<String>>,
}

impl World {
    fn new(answers: Vec<Answer>, refuses: Option<(usize, usize)>) -> (Arc<World>, Ports) {
        let (answers, seen) = (Mutex::new(answers), Mutex::default());
        let world = Arc::new(World { answers, refuses, seen });
        let (store, bus) = (world.clone(), world.clone());
        let ports = Ports { store, bus, clock: world.clone(), chance: world.clone() };
        (world, ports)
    }

    fn note(&self, what: impl Into<String>) {
        self.seen.lock().expect("no panic").push(what.into());
    }
}

#[async_trait]
impl Store for World {
    async fn get(&self, _: &Key) -> Result<Option<Item>, StoreFault> {
        Ok(None)
    }
    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        Ok(vec![None; keys.len()])
    }
    async fn query(&self, _: &Query) -> Result<Page, StoreFault> {
        Ok(Page::default())
    }
    async fn transact(&self, _: Vec<Write>) -> Answer {
        self.note("commit");
        let mut answers = self.answers.lock().expect("no panic");
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    }
}

#[async_trait]
impl Publisher for World {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        self.note(format!("publish {}", entries.len()));
        match self.refuses {
            None => Ok(()),
            Some((failed, total)) => {
                Err(Fault::Publish { failed, total, message: "full".to_owned() })
            }
        }
    }
}

impl Clock for World {
    fn now(&self) -> Millis {
        Millis(5)
    }
}

impl Chance for World {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// Writes and publishes so much, and says which race it has lost and how often it was delivered.
struct Counts {
    writes: usize,
    events: usize,
    world: Arc<World>,
}

#[async_trait]
impl Step for Counts {
    type Facts = ();
    fn name(&self) -> &'static str {
        "counts"
    }
    async fn look(&self, _: &Event, look: Look<'_>) -> Result<(), Fault> {
        let lost: Vec<&str> = look.lost.iter().map(|lost| lost.key.partition.as_str()).collect();
        self.world.note(format!("look {}", lost.join(",")));
        Ok(())
    }
    fn decide(&self, event: &Event, (): &(), moment: Moment<'_>) -> Decision {
        let Delivery { now, received } = moment.delivery();
        self.world.note(format!("decide at {} for the {received}. time", now.0));
        let write = |n| Write::delete(Key::new("t", format!("p{n}"), "s"));
        let emit = Emit::of(event, event.data.clone());
        let writes = (0..self.writes).map(write).collect();
        Decision::commit(writes, vec![emit; self.events])
    }
}

fn lost(partition: &str) -> Answer {
    let key = Key::new("t", partition, "s");
    Err(TransactError::ConditionFailed(vec![Failed { index: 0, key, item: None }]))
}

fn fault(kind: FaultKind) -> Answer {
    Err(StoreFault::new(kind, "as told").into())
}

fn requested() -> Event {
    let data = InstanceRequested { spec: spec(), has_run: false, replaced: 0 };
    event(1, Data::InstanceRequested(data))
}

/// Runs what never has to wait.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

struct Ran {
    outcome: Result<(), Failure>,
    seen: Vec<String>,
}

fn run(writes: usize, events: usize, answers: Vec<Answer>, refuses: Option<(usize, usize)>) -> Ran {
    let (world, ports) = World::new(answers, refuses);
    let function = Function::new(Counts { writes, events, world: world.clone() }, ports);
    assert_eq!(function.name(), "counts");
    let message = envelope(&requested().entry(), "b-1", "2026-01-01T00:00:00Z");
    let outcome = at_once(function.handle(&message));
    let seen = world.seen.lock().expect("no panic").clone();
    Ran { outcome, seen }
}

fn why(ran: &Ran) -> String {
    match &ran.outcome {
        Err(Failure::Retry(fault)) => fault.to_string(),
        other => panic!("not to be delivered again: {other:?}"),
    }
}

const DECIDED: &str = "decide at 5 for the 1. time";

#[test]
fn what_is_decided_is_committed_and_then_published() {
    let ran = run(1, 2, vec![Ok(())], None);
    assert!(ran.outcome.is_ok());
    assert_eq!(ran.seen, ["look ", DECIDED, "commit", "publish 2"]);
}

#[test]
fn nothing_is_written_or_published_where_nothing_is_decided() {
    assert_eq!(run(0, 0, vec![Ok(())], None).seen, ["look ", DECIDED]);
    assert_eq!(run(1, 0, vec![Ok(())], None).seen, ["look ", DECIDED, "commit"]);
    assert_eq!(run(0, 1, vec![Ok(())], None).seen, ["look ", DECIDED, "publish 1"]);
}

#[test]
fn who_loses_a_race_looks_again_at_what_it_lost_to_and_publishes_only_what_is_committed() {
    let ran = run(1, 1, vec![lost("a"), lost("b"), Ok(())], None);
    assert!(ran.outcome.is_ok());
    let tries = ["look ", "look a", "look b"].map(|look| [look, DECIDED, "commit"]);
    assert_eq!(ran.seen, [tries.concat(), vec!["publish 1"]].concat());
}

#[test]
fn who_loses_every_race_says_for_what_and_gives_the_message_back() {
    let ran = run(1, 1, vec![lost("a")], None);
    assert_eq!(why(&ran), "lost 24 races in a row for t/a/s");
    assert_eq!(ran.seen.iter().filter(|what| *what == "commit").count(), TRIES_MAX);
    assert!(!ran.seen.contains(&"publish 1".to_owned()));
}

#[test]
fn what_may_or_may_not_be_committed_is_delivered_again_and_not_published() {
    for kind in [FaultKind::OutcomeUnknown, FaultKind::Unavailable, FaultKind::Throttled] {
        let ran = run(1, 1, vec![fault(kind)], None);
        assert_eq!(why(&ran), format!("store {kind:?}: as told"));
        assert_eq!(ran.seen, ["look ", DECIDED, "commit"], "{kind:?}");
    }
}

#[test]
fn what_the_bus_did_not_take_all_of_is_delivered_again() {
    for (failed, total) in [(1, 2), (2, 2)] {
        let ran = run(1, 2, vec![Ok(())], Some((failed, total)));
        assert_eq!(why(&ran), format!("the bus did not take {failed} of {total} events: full"));
    }
}

#[test]
fn what_is_no_event_is_set_aside_and_never_tried_again() {
    let (world, ports) = World::new(vec![Ok(())], None);
    let function = Function::new(Counts { writes: 1, events: 1, world: world.clone() }, ports);
    let outcome = at_once(function.deliver("{}", 1));
    assert!(matches!(outcome, Err(Failure::SetAside(_))), "{outcome:?}");
    assert!(world.seen.lock().expect("no panic").is_empty());
}

#[test]
fn an_event_says_what_led_to_it_and_one_that_begins_anew_starts_the_hops() {
    let (_, ports) = World::new(vec![Ok(())], None);
    let mut cause = requested().metadata;
    cause.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let reason = eventplane_domain::Reason::new("x", "y");
    let data = Data::InstanceTerminationRequested(TerminationRequested { reason });
    let emit = Emit { data, generation: 4, deadline: DEADLINE.plus(1) };
    let caused = stamp(&ports, "counts", &Origin::Caused(&cause), emit.clone()).metadata;
    assert_eq!((caused.hop, caused.correlationid.as_str()), (cause.hop + 1, "c-1"));
    assert_eq!((caused.causationid.as_deref(), caused.generation), (Some("e-1"), 4));
    assert_eq!((caused.deadline, caused.time), (DEADLINE.plus(1), Millis(5)));
    assert_eq!(
        (caused.source.as_str(), caused.kind.as_str()),
        ("eventplane.counts", "InstanceTerminationRequested")
    );
    assert_eq!((&caused.tenant, &caused.subject), (&cause.tenant, &cause.subject));
    let trace = caused.traceparent.expect("the same trace");
    assert_eq!(trace, "00-0af7651916cd43dd8448eb211c80319c-0707070707070707-01");
    let (tenant, subject) = (&cause.tenant, &cause.subject);
    let origin = Origin::Fresh { tenant, subject, traceparent: Some("not-one") };
    let fresh = stamp(&ports, "api", &origin, emit).metadata;
    assert_eq!((fresh.hop, fresh.causationid), (0, None));
    assert_eq!(fresh.correlationid, fresh.id, "it begins with itself");
    assert!(fresh.id.starts_with("00000000-0005-7"), "milliseconds first: {}", fresh.id);
    assert_eq!(fresh.traceparent.as_deref(), Some("not-one"));
}
