//! The simulation's bus: the template's rules, inboxes that hand out in any order, and dead letters.

use super::chaos::Chaos;
use super::fault::Kind;
use async_trait::async_trait;
use eventplane_engine::{Fault, Publisher};
use eventplane_events::{Entry, envelope};
use eventplane_local::bus::Router;
use eventplane_local::wiring::Wiring;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// After how many receives a message becomes a dead letter.
const RECEIVES_MAX: u32 = 5;
/// How long a message waits that was received so often, in milliseconds, as on AWS; where retries
/// are fast it waits at most so long.
const WAITS_MS: [i64; 4] = [2_000, 10_000, 60_000, 300_000];
const FAST_MS: usize = 50;
/// How much later a late copy comes, in milliseconds.
const LATE_MS: i64 = 24 * 3_600_000;
/// The largest entry that EventBridge takes, in bytes.
///
/// Source: "PutEvents", EventBridge API reference: the total size of the entries is under 256 KB.
const ENTRY_BYTES_MAX: usize = 256 * 1024;
/// One publication in so many is cut short, and one message in so many is struck otherwise.
const PARTIAL_ONE_IN: usize = 30;
const MESSAGE_ONE_IN: usize = 40;
const DUPLICATE_ONE_IN: usize = 8;
const LOST_ONE_IN: usize = 25;
const UNKNOWN_ONE_IN: usize = 3;

/// A message in an inbox.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) function: &'static str,
    pub(crate) body: Arc<str>,
    /// What it is, for people.
    pub(crate) what: Arc<str>,
    pub(crate) received: u32,
    /// Nobody can read it.
    pub(crate) is_poison: bool,
    visible_at: i64,
}

#[derive(Default)]
struct Inboxes {
    waiting: Vec<Message>,
    dead: Vec<Message>,
    /// All that was ever delivered.
    archive: Vec<Message>,
}

pub(crate) struct SimBus {
    wiring: Wiring,
    router: Router,
    functions: Vec<&'static str>,
    /// The function of each inbox of the wiring.
    inbox_of: Vec<Option<&'static str>>,
    chaos: Arc<Chaos>,
    inboxes: Mutex<Inboxes>,
}

impl SimBus {
    pub(crate) fn new(chaos: Arc<Chaos>, functions: Vec<&'static str>) -> Self {
        let wiring = Wiring::built_in();
        let router = Router::new(&wiring);
        let named = |name: &str| functions.iter().copied().find(|other| *other == name);
        let inbox_of = wiring.inboxes.iter().map(|inbox| named(&inbox.function)).collect();
        SimBus { wiring, router, functions, inbox_of, chaos, inboxes: Mutex::default() }
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        *self.inboxes() = Inboxes::default();
    }

    /// The functions that have an inbox.
    pub(crate) fn functions(&self) -> &[&'static str] {
        &self.functions
    }

    fn inboxes(&self) -> MutexGuard<'_, Inboxes> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, entry: &Entry) {
        let chaos = &self.chaos;
        let bytes = entry.detail.len() + entry.detail_type.len() + entry.source.len();
        assert!(bytes < ENTRY_BYTES_MAX, "{} has {bytes} bytes", entry.detail_type);
        let is_later = chaos.worker().is_later || chaos.strikes(Kind::UnknownField, UNKNOWN_ONE_IN);
        let seal = || -> Arc<str> {
            let event = envelope(entry, "b", "2026-01-01T00:00:00Z");
            if is_later { with_unknown_fields(&event).into() } else { event.into() }
        };
        let what: Arc<str> = if chaos.tells() { told(entry).into() } else { "".into() };
        let name = chaos.worker().name;
        chaos.tell(|| format!("  {name} publishes {what}"));
        if entry.detail_type == "InstanceWithdrawn" {
            chaos.count(REASON, reason_of(entry));
        }
        let Some((body, inboxes)) = self.router.route(entry, seal) else { return };
        for function in inboxes.into_iter().filter_map(|inbox| self.inbox_of[inbox]) {
            let (body, what) = (body.clone(), what.clone());
            let (received, visible_at, is_poison) = (0, 0, false);
            self.send(Message { function, body, what, received, visible_at, is_poison });
        }
    }

    /// What becomes of a message on its way to an inbox.
    fn send(&self, message: Message) {
        let chaos = &self.chaos;
        let function = message.function;
        if chaos.in_window(Kind::RuleGone, function) {
            return chaos.struck(Kind::RuleGone, function);
        }
        if chaos.in_window(Kind::NoPermission, function) {
            chaos.struck(Kind::NoPermission, function);
            return self.inboxes().dead.push(message);
        }
        let copies = if chaos.strikes_at(Kind::Burst, MESSAGE_ONE_IN, function) {
            let most = if chaos.of_kind(Kind::Burst, 20) == 0 { 99 } else { 7 };
            1 + chaos.of_kind(Kind::Burst, most)
        } else {
            0
        };
        let is_late = chaos.strikes_at(Kind::Late, MESSAGE_ONE_IN, function);
        let mut inboxes = self.inboxes();
        if is_late {
            let visible_at = chaos.moment() + LATE_MS;
            inboxes.waiting.push(Message { visible_at, ..message.clone() });
        }
        inboxes.archive.push(message.clone());
        let copies = std::iter::repeat_n(message, copies + 1);
        inboxes.waiting.extend(copies);
    }

    /// Puts a message into an inbox that nobody can read.
    pub(crate) fn put_poison(&self) {
        let chaos = &self.chaos;
        let drawn = chaos.of_kind(Kind::Poison, self.functions.len());
        let function = self.functions[drawn];
        let of_a_loop = r#"{"detail-type":"InstanceRequested","detail":{"metadata":{"schemaversion":"1.0","id":"e","type":"InstanceRequested","time":1,"source":"eventplane.api","subject":"i-00000000000000001","correlationid":"c","tenant":"default","generation":1,"deadline":1,"hop":33},"data":{}}}"#;
        let of_a_later_version = r#"{"detail-type":"InstanceRequested","detail":{"metadata":{"schemaversion":"2.0"},"data":{}}}"#;
        let bodies = [of_a_loop, of_a_later_version, "not JSON", "{}"];
        let body: Arc<str> = bodies[chaos.of_kind(Kind::Poison, bodies.len())].into();
        let what = "what nobody can read".into();
        chaos.struck(Kind::Poison, function);
        let (received, visible_at, is_poison) = (0, 0, true);
        let poison = Message { function, body, what, received, visible_at, is_poison };
        self.inboxes().waiting.push(poison);
    }

    /// How many messages wait, also for time to pass.
    pub(crate) fn waiting(&self) -> usize {
        self.inboxes().waiting.len()
    }

    /// When the next message can be received.
    pub(crate) fn visible_at(&self) -> Option<i64> {
        self.inboxes().waiting.iter().map(|message| message.visible_at).min()
    }

    /// Takes any message that can be received.
    pub(crate) fn take(&self) -> Option<Message> {
        let chaos = &self.chaos;
        let now = chaos.moment();
        let mut inboxes = self.inboxes();
        let is_there = |message: &Message| {
            message.visible_at <= now && !chaos.in_window(Kind::Throttled, message.function)
        };
        let there: Vec<usize> =
            (0..inboxes.waiting.len()).filter(|at| is_there(&inboxes.waiting[*at])).collect();
        let last = there.last()?;
        let at = match chaos.may(Kind::Reversed) {
            true => *last,
            false => there[chaos.below(there.len())],
        };
        let message = inboxes.waiting.swap_remove(at);
        let function = message.function;
        if chaos.strikes_at(Kind::Duplicate, DUPLICATE_ONE_IN, function) {
            inboxes.waiting.push(message.clone());
        }
        if !message.is_poison && chaos.strikes_at(Kind::LostMessage, LOST_ONE_IN, function) {
            return None;
        }
        Some(message)
    }

    /// Whether it is a give-back that fails for now.
    pub(crate) fn is_stuck(&self, message: &Message) -> bool {
        let is_give_back = message.body.contains(r#""detail-type":"InstanceWithdrawn""#);
        is_give_back && self.chaos.in_window(Kind::StuckGiveBack, message.function)
    }

    /// A delivery failed, or whoever had it died: it is delivered again, or becomes a dead letter.
    pub(crate) fn give_back(&self, message: Message, is_fast: bool) {
        let wait_ms = match is_fast {
            true => self.chaos.below(FAST_MS) as i64,
            false => WAITS_MS[(message.received as usize).min(WAITS_MS.len() - 1)],
        };
        let received = message.received + 1;
        let visible_at = self.chaos.moment() + wait_ms;
        let message = Message { received, visible_at, ..message };
        let mut inboxes = self.inboxes();
        if message.received < RECEIVES_MAX {
            inboxes.waiting.push(message);
        } else {
            inboxes.dead.push(message);
        }
    }

    /// It is set aside, with the reason.
    pub(crate) fn set_aside(&self, message: Message) {
        self.inboxes().dead.push(message);
    }

    /// Delivers all dead letters again, `times` over, as an operator would. Those that nobody can
    /// read stay.
    pub(crate) fn redrive_all(&self, times: usize) -> usize {
        let mut inboxes = self.inboxes();
        let (poison, dead): (Vec<_>, Vec<_>) =
            std::mem::take(&mut inboxes.dead).into_iter().partition(|one| one.is_poison);
        inboxes.dead = poison;
        for letter in &dead {
            let again = Message { received: 0, visible_at: 0, ..letter.clone() };
            inboxes.waiting.extend(std::iter::repeat_n(again, times));
            if self.chaos.has(Kind::Redrive) {
                self.chaos.count(Kind::Redrive.name(), letter.function);
            }
        }
        dead.len()
    }

    /// Delivers all again that was ever delivered. How many messages that are.
    pub(crate) fn storm(&self) -> usize {
        let mut inboxes = self.inboxes();
        let archive = inboxes.archive.clone();
        for message in &archive {
            inboxes.waiting.push(message.clone());
            // What a replay puts onto the bus is heard by no step.
            let replayed = message.body.replacen('{', r#"{"replay-name":"yesterday","#, 1);
            let replayed = serde_json::from_str(&replayed).expect("an envelope is JSON");
            let hearers: Vec<&str> = self.wiring.hearers(&replayed).collect();
            assert!(hearers.is_empty(), "{hearers:?} hear the replayed {}", message.what);
        }
        archive.len()
    }

    /// The bodies of all messages, for whoever looks for what must not be in them.
    pub(crate) fn archived(&self) -> Vec<Arc<str>> {
        self.inboxes().archive.iter().map(|message| message.body.clone()).collect()
    }
}

/// What is counted of how generations end.
pub(crate) const REASON: &str = "reason";

/// The code of the reason that an event gives.
fn reason_of(entry: &Entry) -> &str {
    let after = entry.detail.split_once(r#""code":""#).map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or_default()
}

/// An event for people.
fn told(entry: &Entry) -> String {
    let detail: Value = serde_json::from_str(&entry.detail).expect("a detail is JSON");
    let metadata = &detail["metadata"];
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
    let data = &detail["data"];
    let more = match (&data["outcome"], &data["reason"]["code"], &data["for_good"]) {
        (Value::String(outcome), Value::String(code), _) => format!(" ({outcome}, {code})"),
        (_, Value::String(code), _) => format!(" ({code})"),
        (_, _, Value::Bool(true)) => " (for good)".to_owned(),
        _ => String::new(),
    };
    format!("{}{more} of {} g{}", entry.detail_type, text("subject"), metadata["generation"])
}

/// The event as a later version might write it.
fn with_unknown_fields(event: &str) -> String {
    event
        .replacen(r#""metadata":{"#, r#""metadata":{"colour":["blue"],"#, 1)
        .replacen(r#""schemaversion":"1.0""#, r#""schemaversion":"1.7""#, 1)
        .replacen(r#""data":{}"#, r#""data":{"colour":"blue"}"#, 1)
        .replacen(r#""data":{""#, r#""data":{"colour":{"of":1},""#, 1)
}

#[async_trait]
impl Publisher for SimBus {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        let chaos = &self.chaos;
        chaos.pause().await;
        let total = entries.len();
        let refuses = |message: &str, failed| {
            Err(Fault::Publish { failed, total, message: message.to_owned() })
        };
        // What users ask for is published again by the sweeper alone.
        let is_asked = |entry: &Entry| {
            entry.source == "eventplane.api" && entry.detail_type.ends_with("Requested")
        };
        let may_fail = chaos.has(Kind::ApiDies) || !entries.iter().any(is_asked);
        if may_fail && chaos.strikes_in_window(Kind::PublishThrottled, "") {
            return refuses("too many events", total);
        }
        if may_fail && chaos.strikes(Kind::PartialPublish, PARTIAL_ONE_IN) {
            let taken = chaos.of_kind(Kind::PartialPublish, total);
            entries[..taken].iter().for_each(|entry| self.put(entry));
            chaos.pause().await;
            return refuses("some were not taken", total - taken);
        }
        entries.iter().for_each(|entry| self.put(entry));
        chaos.published();
        chaos.pause().await;
        Ok(())
    }
}
