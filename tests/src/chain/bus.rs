//! The plane's bus: the template's rules, an inbox before each function with its five receives, and
//! dead letters that nobody redrives here.

use super::weather::{Fate, NotDone, UnderWay, Weather};
use async_trait::async_trait;
use eventplane_engine::{Failure, Fault, Handler, Publisher};
use eventplane_events::{Entry, envelope};
use eventplane_local::wiring::{Inbox, Wiring};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How long a hop takes: EventBridge, the queue, and the function's poller.
const HOP_MS: u64 = 40;
/// The waits between the tries of a message that a function could not handle, in milliseconds.
const WAITS_MS: [u64; 4] = [2_000, 10_000, 60_000, 300_000];
/// How long a publisher waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Bus {
    wiring: Wiring,
    weather: Arc<Weather>,
    at_once: BTreeMap<String, Semaphore>,
    functions: OnceLock<BTreeMap<String, Arc<dyn Handler>>>,
    me: Weak<Bus>,
}

impl Bus {
    pub(crate) fn new(weather: Arc<Weather>) -> Arc<Bus> {
        let wiring = Wiring::built_in();
        let at_once = |inbox: &Inbox| {
            (inbox.function.clone(), Semaphore::new(super::pace(&inbox.function).0))
        };
        let at_once = wiring.inboxes.iter().map(at_once).collect();
        let functions = OnceLock::new();
        Arc::new_cyclic(|me| Bus { wiring, weather, at_once, functions, me: me.clone() })
    }

    pub(crate) fn start(&self, functions: Vec<Arc<dyn Handler>>) {
        let functions = functions.into_iter().map(|one| (one.name().to_owned(), one)).collect();
        assert!(self.functions.set(functions).is_ok(), "started once");
    }

    fn put(&self, entry: &Entry) {
        let message = envelope(entry, "b", "2026-01-01T00:00:00Z");
        let value: Value = serde_json::from_str(&message).expect("an envelope is JSON");
        let body: Arc<str> = message.into();
        for function in self.wiring.hearers(&value) {
            let inbox = self.wiring.inboxes.iter().find(|inbox| inbox.function == function);
            let inbox = inbox.expect("a rule has an inbox").clone();
            let (Some(bus), body) = (self.me.upgrade(), body.clone()) else { return };
            let counted = UnderWay::new(&self.weather);
            tokio::spawn(async move {
                let _counted = counted;
                bus.deliver(inbox, body).await;
            });
        }
    }

    /// Delivers a message until it is handled, or is a dead letter.
    async fn deliver(&self, inbox: Inbox, body: Arc<str>) {
        sleep(Duration::from_millis(HOP_MS + self.weather.below(HOP_MS as usize) as u64)).await;
        for received in 1..=inbox.receives_max {
            let wait_ms = match self.receive(&inbox.function, body.clone(), received).await {
                Some(Ok(())) => return,
                Some(Err(Failure::SetAside(why))) => panic!("{why}: {body}"),
                Some(Err(Failure::Retry(_))) => WAITS_MS[(received as usize - 1).min(3)],
                // Nobody has said anything: it is hidden until its time is over.
                None => inbox.visibility_timeout_ms,
            };
            if received < inbox.receives_max {
                sleep(Duration::from_millis(wait_ms)).await;
            }
        }
    }

    /// One delivery; none if the queue hears nothing of it.
    async fn receive(
        &self,
        name: &str,
        body: Arc<str>,
        received: u32,
    ) -> Option<Result<(), Failure>> {
        let _turn = self.at_once[name].acquire().await.ok()?;
        let function = self.functions.get()?.get(name)?.clone();
        let (weather, takes_ms) = (self.weather.clone(), super::pace(name).1);
        let work = async move {
            let handled = async {
                sleep(Duration::from_millis(takes_ms)).await;
                function.deliver(&body, received).await
            };
            weather.until_crash(handled).await
        };
        // A function that may take 15 seconds and has not answered then is ended.
        let called = tokio::time::timeout(Duration::from_secs(15), self.weather.call(name, work));
        match called.await {
            Ok(Ok(handled)) => handled,
            Ok(Err(NotDone)) | Err(_) => None,
        }
    }
}

#[async_trait]
impl Publisher for Bus {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        let fate = self.weather.fate("bus");
        if matches!(fate, Fate::Well | Fate::Silent { done: true }) {
            entries.iter().for_each(|entry| self.put(entry));
        }
        if fate == Fate::Well {
            return Ok(());
        }
        if fate != Fate::NotDone {
            sleep(PATIENCE).await;
        }
        let (failed, message) = (entries.len(), "no answer came".to_owned());
        Err(Fault::Publish { failed, total: failed, message })
    }
}
