//! `replay --stack`: the archive of a stack's bus, through its shadow.
//!
//! An archive is read by replaying it onto its bus. The template's rule `shadow` hears replays and
//! nothing else, and no rule of a step hears any; besides, this replay is told to go to that rule
//! alone. What comes out of its queue is rehearsed by the api, where nothing has an effect.
//!
//! Sources: "Archiving and replaying events in Amazon EventBridge", EventBridge user guide;
//! "`StartReplay`" and "`ReplayDestination`", EventBridge API reference: events come by the minute
//! of their time, and within it in no order, so that they are put in order here.

use crate::args::Replay;
use crate::client::Client;
use crate::kept::told;
use crate::problem::Problem;
use crate::rehearsal::show;
use crate::show::{Screen, text_at};
use crate::sign::account;
use aws_config::SdkConfig;
use aws_sdk_eventbridge::primitives::{DateTime, DateTimeFormat};
use aws_sdk_eventbridge::types::{ArchiveState, ReplayDestination, ReplayState};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message};
use eventplane_local::wiring::Wiring;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many messages one request of SQS takes. Source: "`ReceiveMessage`", SQS API reference.
const BATCH_MAX: i32 = 10;
/// How long one receive waits for messages, in seconds.
const WAIT_S: i32 = 2;
/// How many empty receives in a row, once the replay is done, say that nothing more comes.
const EMPTY_RECEIVES_MAX: u32 = 3;
/// How long a replay may take.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// The most of one rehearsal: deliveries, as the api takes them, and bytes of them, which with all
/// else have to fit a body of 64 KiB.
const DELIVERIES_MAX: usize = 100;
const DELIVERIES_BYTES_MAX: usize = 56 * 1024;

/// What a stack's replay needs, by the names of its outputs.
struct Shadow {
    bus: String,
    rule: String,
    inbox: String,
}

/// The services of one account, in one region.
pub(crate) struct Account {
    stacks: aws_sdk_cloudformation::Client,
    events: aws_sdk_eventbridge::Client,
    queues: aws_sdk_sqs::Client,
}

/// Replays a stack's archive between two moments, and shows what each function would do.
pub(crate) async fn of_stack(
    client: &Client,
    screen: &mut Screen,
    stack: &str,
    asked: &Replay,
) -> Result<(), Problem> {
    let account = Account::new(&account().load().await);
    let answer = account.replay(client, screen, stack, asked).await?;
    show(screen, &answer);
    Ok(())
}

fn moment(name: &str, text: Option<&String>) -> Result<DateTime, Problem> {
    let text = text.map(String::as_str).unwrap_or_default();
    DateTime::from_str(text, DateTimeFormat::DateTimeWithOffset).map_err(|_| {
        let message = format!("--{name} is a moment such as 2026-11-25T08:30:00Z, not `{text}`");
        Problem::Input(message)
    })
}

impl Account {
    pub(crate) fn new(config: &SdkConfig) -> Account {
        Account {
            stacks: aws_sdk_cloudformation::Client::new(config),
            events: aws_sdk_eventbridge::Client::new(config),
            queues: aws_sdk_sqs::Client::new(config),
        }
    }

    /// Replays and rehearses; the answer is as the api's own of a replay.
    pub(crate) async fn replay(
        &self,
        client: &Client,
        screen: &mut Screen,
        stack: &str,
        asked: &Replay,
    ) -> Result<Value, Problem> {
        let (from, to) = (moment("from", asked.from.as_ref())?, moment("to", asked.to.as_ref())?);
        if from > to {
            return Err(Problem::Input("--from is after --to".to_owned()));
        }
        let shadow = self.shadow(stack).await?;
        let archive = self.archive(stack, &shadow.bus).await?;
        let name = replay_name();
        let destination = ReplayDestination::builder().arn(&shadow.bus).filter_arns(&shadow.rule);
        let destination = destination.build().expect("the bus is given");
        let start = self.events.start_replay().replay_name(&name).event_source_arn(archive);
        let start = start.event_start_time(from).event_end_time(to).destination(destination);
        start.send().await.map_err(|error| told("start the replay", &error))?;
        let messages = self.drain(&name, &shadow.inbox, screen).await?;
        if messages.is_empty() {
            screen.aside(
                "nothing was replayed: an event may take ten minutes from the bus to its archive",
            );
        }
        rehearse(client, &in_order(messages, asked.instance.as_deref()), asked).await
    }

    /// What the stack says of its shadow.
    async fn shadow(&self, stack: &str) -> Result<Shadow, Problem> {
        let found = self.stacks.describe_stacks().stack_name(stack).send().await;
        let found = found.map_err(|error| told("ask for the stack", &error))?;
        let outputs = found.stacks().iter().flat_map(|stack| stack.outputs());
        let outputs: Vec<_> = outputs.collect();
        let output = |name: &str| {
            let found = outputs.iter().find(|output| output.output_key() == Some(name));
            let value = found.and_then(|output| output.output_value()).map(str::to_owned);
            value.ok_or_else(|| {
                Problem::Failed(format!("the stack {stack} has no output {name}: deploy it again"))
            })
        };
        Ok(Shadow {
            bus: output("BusArn")?,
            rule: output("ShadowRuleArn")?,
            inbox: output("ShadowInboxUrl")?,
        })
    }

    /// The ARN of the bus's archive.
    async fn archive(&self, stack: &str, bus: &str) -> Result<String, Problem> {
        let found = self.events.list_archives().event_source_arn(bus).send().await;
        let found = found.map_err(|error| told("list the archives", &error))?;
        let is_on = |state: Option<&ArchiveState>| state == Some(&ArchiveState::Enabled);
        let archive = found.archives().iter().find(|archive| is_on(archive.state()));
        let name = archive.and_then(|archive| archive.archive_name()).ok_or_else(|| {
            Problem::Failed(format!("the bus of {stack} has no archive that is enabled"))
        })?;
        let archive = self.events.describe_archive().archive_name(name).send().await;
        let archive = archive.map_err(|error| told("look at the archive", &error))?;
        let nameless = || Problem::Failed(format!("the archive {name} has no ARN"));
        archive.archive_arn().map(str::to_owned).ok_or_else(nameless)
    }

    /// All messages of the replay, until it is done and no more come. Those of earlier replays are
    /// of no use to anybody, and go.
    async fn drain(
        &self,
        replay: &str,
        inbox: &str,
        screen: &mut Screen,
    ) -> Result<Vec<Value>, Problem> {
        let begun = tokio::time::Instant::now();
        let (mut events, mut empty) = (Vec::new(), 0);
        loop {
            let is_done = self.is_done(replay).await?;
            let received = self.receive(inbox).await?;
            empty = if is_done && received.is_empty() { empty + 1 } else { 0 };
            let read = |message: &Message| serde_json::from_str::<Value>(message.body()?).ok();
            let of_this = received.iter().filter_map(read);
            events.extend(of_this.filter(|event| event["replay-name"] == replay));
            screen.progress(&format!("{} events replayed", events.len()));
            if empty >= EMPTY_RECEIVES_MAX {
                return Ok(events);
            }
            if begun.elapsed() > PATIENCE {
                let cancel = self.events.cancel_replay().replay_name(replay).send().await;
                cancel.map_err(|error| told("cancel the replay", &error))?;
                let message = format!("the replay {replay} was not done after {PATIENCE:?}");
                return Err(Problem::TimedOut(message));
            }
        }
    }

    async fn is_done(&self, replay: &str) -> Result<bool, Problem> {
        let found = self.events.describe_replay().replay_name(replay).send().await;
        let found = found.map_err(|error| told("look at the replay", &error))?;
        match found.state() {
            Some(ReplayState::Completed) => Ok(true),
            Some(ReplayState::Failed | ReplayState::Cancelled | ReplayState::Cancelling) => {
                let why = found.state_reason().unwrap_or("no reason is given");
                Err(Problem::Failed(format!("the replay {replay} failed: {why}")))
            }
            _ => Ok(false),
        }
    }

    /// Takes messages out of the queue.
    async fn receive(&self, inbox: &str) -> Result<Vec<Message>, Problem> {
        let receive = self.queues.receive_message().queue_url(inbox);
        let receive = receive.max_number_of_messages(BATCH_MAX).wait_time_seconds(WAIT_S);
        let received = receive.send().await.map_err(|error| told("receive", &error))?;
        let messages = received.messages.unwrap_or_default();
        if messages.is_empty() {
            return Ok(messages);
        }
        let entry = |(index, message): (usize, &Message)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(message.receipt_handle().unwrap_or_default())
                .build()
                .expect("what is required is given")
        };
        let entries = messages.iter().enumerate().map(entry).collect();
        let delete = self.queues.delete_message_batch().queue_url(inbox);
        // One that is not deleted comes once more, and counts once.
        let deleted = delete.set_entries(Some(entries)).send().await;
        deleted.map_err(|error| told("delete what was received", &error))?;
        Ok(messages)
    }
}

/// A name that no other replay has.
#[allow(clippy::disallowed_methods, reason = "two replays begin at different moments")]
fn replay_name() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("shadow-{}", since.as_millis())
}

/// Each event once, without the replay's name, in the order in which they were published.
pub(crate) fn in_order(messages: Vec<Value>, instance: Option<&str>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let mut events: Vec<Value> = messages
        .into_iter()
        .filter(|event| {
            instance.is_none_or(|id| event["detail"]["metadata"]["subject"] == id)
                && seen.insert(event["id"].to_string())
        })
        .collect();
    for event in &mut events {
        event.as_object_mut().and_then(|event| event.remove("replay-name"));
    }
    let metadata = |event: &Value, name: &str| event["detail"]["metadata"][name].as_i64();
    events.sort_by_key(|event| (metadata(event, "time"), metadata(event, "hop")));
    events
}

/// Puts each event to each function that hears it; so many in one shadow as one request holds.
async fn rehearse(client: &Client, events: &[Value], asked: &Replay) -> Result<Value, Problem> {
    let wiring = Wiring::built_in();
    let hears = |function: &&str| asked.function.as_deref().is_none_or(|only| only == *function);
    let mut deliveries = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let functions = wiring.hearers(event).filter(hears);
        deliveries.extend(functions.map(|function| (index, function.to_owned())));
    }
    let mut ruled: Vec<Vec<Value>> = vec![Vec::new(); events.len()];
    let mut counts: Map<String, Value> = Map::new();
    let mut rest = &deliveries[..];
    while !rest.is_empty() {
        let (part, after) = rest.split_at(fitting(rest, events));
        rest = after;
        let delivery = |(index, function): &(usize, String)| json!({ "function": function, "message": events[*index] });
        let body = json!({ "deliveries": part.iter().map(delivery).collect::<Vec<_>>() });
        let answer = client.post("/v1/rehearsals", &body).await?;
        let rehearsed = answer["rehearsed"].as_array().cloned().unwrap_or_default();
        for ((index, _), one) in part.iter().zip(rehearsed) {
            ruled[*index].push(one);
        }
        for (verdict, many) in answer["summary"].as_object().into_iter().flatten() {
            let before = counts.get(verdict).and_then(Value::as_u64).unwrap_or(0);
            counts.insert(verdict.clone(), json!(before + many.as_u64().unwrap_or(0)));
        }
    }
    let shown = |(event, functions): (&Value, Vec<Value>)| {
        let metadata = &event["detail"]["metadata"];
        json!({
            "at": text_at(event, "time"),
            "event": event["detail-type"],
            "instance_id": metadata["subject"],
            "generation": metadata["generation"],
            "event_id": metadata["id"],
            "caused_by": metadata["causationid"],
            "functions": functions,
        })
    };
    let shown: Vec<Value> = events.iter().zip(ruled).map(shown).collect();
    Ok(json!({ "events": shown, "summary": counts }))
}

/// How many of the deliveries one request holds: one at least.
fn fitting(deliveries: &[(usize, String)], events: &[Value]) -> usize {
    let mut bytes = 0;
    let fits = |(index, function): &&(usize, String)| {
        bytes += events[*index].to_string().len() + function.len() + 64;
        bytes <= DELIVERIES_BYTES_MAX
    };
    deliveries.iter().take(DELIVERIES_MAX).take_while(fits).count().max(1)
}

#[cfg(test)]
#[path = "replay_aws_tests.rs"]
mod tests;
