//! The shell of a function that hears events: a batch of its inbox, or one event that somebody hands
//! it directly, becomes messages for its handler.
//!
//! What Lambda sends is read here and not by types of the runtime: a payload that those cannot read
//! ends the process. Source: "Reporting batch item failures" (Using Lambda with Amazon SQS), Lambda
//! developer guide: what is not listed as failed is deleted from the queue.

use crate::letters::OwnQueues;
use crate::settings::SettingError;
use crate::world::World;
use eventplane_engine::{Failure, Fault, Handler, metric};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{error, warn};

/// How often a message is received before SQS moves it to the dead letters: `maxReceiveCount` of
/// every inbox in `template.yaml`. At the last time the function puts it there itself, with the
/// reason.
pub const RECEIVES_MAX: u32 = 5;
/// The longest that one message may take: with what is said to its queue afterwards less than the 15
/// seconds after which Lambda ends the function with all of its batch, so that the one which hangs
/// fails alone and says so.
const MESSAGE_MAX: Duration = Duration::from_secs(9);
/// The unit of counts in CloudWatch.
const COUNT: &str = "Count";

/// Serves a function that hears events, until Lambda ends the process.
///
/// # Errors
/// A setting that is missing, or a runtime that does not answer.
pub async fn serve(world: &World, handler: impl Handler + 'static) -> Result<(), Error> {
    let (queues, waits_s) = (world.own_queues()?, Waits::of(&world.retry_waits()?)?);
    let shell = Arc::new(Shell { handler: Arc::new(handler), queues, waits_s });
    let serve = |event: LambdaEvent<Box<RawValue>>| {
        let shell = shell.clone();
        async move { shell.invoke(event.payload.get()).await }
    };
    lambda_runtime::run(service_fn(serve)).await
}

/// Serves a function that a schedule wakes, until Lambda ends the process. What it fails at is left
/// to the next time.
///
/// # Errors
/// A runtime that does not answer.
pub async fn serve_schedule(work: impl AsyncFn() -> Result<(), Fault>) -> Result<(), Error> {
    let serve = async |_: LambdaEvent<Box<RawValue>>| work().await.map_err(Error::from);
    lambda_runtime::run(service_fn(serve)).await
}

struct Shell {
    handler: Arc<dyn Handler>,
    queues: OwnQueues,
    waits_s: Waits,
}

/// How long a message that failed waits before it is tried again, in seconds, by how often it was
/// received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waits([i32; RECEIVES_MAX as usize - 1]);

impl Waits {
    /// Reads them from a text such as `2,10,60,300`.
    fn of(text: &str) -> Result<Waits, SettingError> {
        let waits: Option<Vec<i32>> = text.split(',').map(|one| one.trim().parse().ok()).collect();
        let waits =
            waits.and_then(|waits| <[i32; RECEIVES_MAX as usize - 1]>::try_from(waits).ok());
        let waits = waits.filter(|waits| waits.iter().all(|wait| (0..=43_200).contains(wait)));
        waits.map(Waits).ok_or_else(|| SettingError::Waits(text.to_owned()))
    }

    fn after(self, received: u32) -> i32 {
        let place = (received.max(1) as usize - 1).min(self.0.len() - 1);
        self.0[place]
    }
}

/// A batch of an inbox.
#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    receipt_handle: String,
    body: String,
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Deserialize, Default)]
struct Attributes {
    #[serde(rename = "ApproximateReceiveCount")]
    receive_count: Option<String>,
}

impl Record {
    /// How often it was received, this time included.
    fn received(&self) -> u32 {
        let count = self.attributes.receive_count.as_deref();
        count.and_then(|count| count.parse().ok()).unwrap_or(1)
    }
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is handled.
    Done,
    /// It is delivered again later.
    Again,
    /// It goes to the dead letters now, with this reason.
    SetAside(String),
}

/// The fate of a message that was not handled.
fn fate(failure: &Failure, received: u32) -> Fate {
    match failure {
        Failure::SetAside(unreadable) => Fate::SetAside(unreadable.to_string()),
        Failure::Retry(fault) if received >= RECEIVES_MAX => Fate::SetAside(fault.to_string()),
        Failure::Retry(_) => Fate::Again,
    }
}

impl Shell {
    /// Handles what Lambda sent: the answer for a batch names what failed; a single event that
    /// cannot be handled is an error, which whoever invoked the function hears.
    async fn invoke(self: Arc<Self>, payload: &str) -> Result<Value, Error> {
        let Ok(batch) = serde_json::from_str::<Batch>(payload) else {
            self.handler.handle(payload).await?;
            return Ok(json!({}));
        };
        let mut running = JoinSet::new();
        for record in batch.records {
            let shell = self.clone();
            running.spawn(async move {
                let is_done = shell.is_done_with(&record).await;
                (!is_done).then_some(record.message_id)
            });
        }
        let failed = running.join_all().await.into_iter().flatten();
        let failed: Vec<Value> = failed.map(|id| json!({ "itemIdentifier": id })).collect();
        Ok(json!({ "batchItemFailures": failed }))
    }

    /// Handles one message, in a task of its own: one that panics, or takes too long, fails alone.
    async fn handle(&self, body: String, received: u32) -> Result<(), Failure> {
        let (function, handler) = (self.handler.name(), self.handler.clone());
        let mut task = tokio::spawn(async move { handler.deliver(&body, received).await });
        let fault = match tokio::time::timeout(MESSAGE_MAX, &mut task).await {
            Ok(Ok(handled)) => return handled,
            Ok(Err(panicked)) => {
                error!(function, %panicked, "a bug");
                format!("{function} has a bug: {panicked}")
            }
            Err(_) => {
                task.abort();
                format!("{function} took longer than {MESSAGE_MAX:?}")
            }
        };
        Err(Failure::Retry(Fault::Other(fault)))
    }

    /// Handles one message; true when it may go from the inbox.
    async fn is_done_with(&self, record: &Record) -> bool {
        let (function, received) = (self.handler.name(), record.received());
        let message_id = &record.message_id;
        let handled = self.handle(record.body.clone(), received).await;
        let fate = handled.map_or_else(|failure| fate(&failure, received), |()| Fate::Done);
        if fate != Fate::Done {
            metric("MessagesFailed", COUNT, 1);
        }
        match fate {
            Fate::Done => true,
            Fate::Again => {
                let wait_s = self.waits_s.after(received);
                if let Err(fault) = self.queues.again_in(&record.receipt_handle, wait_s).await {
                    warn!(function, message_id, %fault, "it comes again at its own time");
                }
                false
            }
            Fate::SetAside(reason) => {
                warn!(function, message_id, reason, received, "set aside as a dead letter");
                let kept = self.queues.keep(&record.body, &reason, received).await;
                // Not kept, it stays in the inbox, and SQS moves it in the end.
                kept.inspect_err(|fault| warn!(function, message_id, %fault, "not set aside"))
                    .is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letters::tests::queues_nobody_reaches;
    use async_trait::async_trait;

    /// Fails, panics or succeeds as the message says.
    struct Obeys;

    #[async_trait]
    impl Handler for Obeys {
        fn name(&self) -> &'static str {
            "obeys"
        }
        async fn deliver(&self, message: &str, received: u32) -> Result<(), Failure> {
            match message {
                "third" if received != 3 => Err(Failure::Retry(Fault::Other("as told".to_owned()))),
                "third" => Ok(()),
                "fail" => Err(Failure::Retry(Fault::Other("as told".to_owned()))),
                "panic" => panic!("as told"),
                other => eventplane_events::read(other).map(drop).map_err(Failure::SetAside),
            }
        }
    }

    const EVENT: &str = include_str!("../../../events/samples/InstanceTerminationRequested.json");

    async fn invoke(payload: &str) -> Result<Value, Error> {
        let (queues, waits_s) = (queues_nobody_reaches(), Waits([2, 10, 60, 300]));
        Arc::new(Shell { handler: Arc::new(Obeys), queues, waits_s }).invoke(payload).await
    }

    fn batch(bodies: &[&str]) -> String {
        let record = |(n, body): (usize, &&str)| {
            let attributes = json!({ "ApproximateReceiveCount": "1", "SenderId": "x" });
            json!({ "messageId": format!("m-{n}"), "receiptHandle": "r", "body": body,
                "attributes": attributes })
        };
        json!({ "Records": bodies.iter().enumerate().map(record).collect::<Vec<_>>() }).to_string()
    }

    #[tokio::test]
    async fn a_batch_fails_only_where_a_message_failed() {
        for (bodies, expected) in [
            (&[][..], &[][..]),
            (&[EVENT, EVENT], &[]),
            (&[EVENT, "fail", EVENT], &["m-1"]),
            (&["panic", EVENT, "fail"], &["m-0", "m-2"]),
            // No dead-letter queue takes it, so it stays.
            (&[EVENT, "not JSON"], &["m-1"]),
        ] {
            let answer = invoke(&batch(bodies)).await.expect("an answer");
            let failures = answer["batchItemFailures"].as_array().expect("a list").clone();
            let mut failed: Vec<&str> =
                failures.iter().filter_map(|one| one["itemIdentifier"].as_str()).collect();
            failed.sort_unstable();
            assert_eq!(failed, expected, "{bodies:?}");
        }
    }

    #[tokio::test]
    async fn a_message_is_handed_over_with_how_often_it_was_received() {
        let received = |times: &str| batch(&["third"]).replace(r#"Count":"1""#, times);
        for (times, fails) in [(r#"Count":"2""#, 1), (r#"Count":"3""#, 0), (r#"Count":"x""#, 1)] {
            let answer = invoke(&received(times)).await.expect("an answer");
            assert_eq!(
                answer["batchItemFailures"].as_array().map(Vec::len),
                Some(fails),
                "{times}"
            );
        }
    }

    #[tokio::test]
    async fn a_single_event_is_handled_or_its_sender_hears_why_not() {
        assert_eq!(invoke(EVENT).await.expect("handled"), json!({}));
        let error = invoke(r#"{"hello": 1}"#).await.expect_err("no event");
        assert!(error.to_string().contains("not an event"), "{error}");
    }

    #[test]
    fn the_last_receive_sets_aside_with_the_reason() {
        let fault = || Failure::Retry(Fault::Other("no answer".to_owned()));
        assert_eq!(fate(&fault(), 1), Fate::Again);
        assert_eq!(fate(&fault(), RECEIVES_MAX - 1), Fate::Again);
        assert_eq!(fate(&fault(), RECEIVES_MAX), Fate::SetAside("no answer".to_owned()));
        let unreadable = eventplane_events::read("{}").expect_err("no event");
        assert!(matches!(fate(&Failure::SetAside(unreadable), 1), Fate::SetAside(_)));
    }

    #[test]
    fn a_message_that_failed_waits_longer_each_time() {
        let waits = Waits::of("2, 10,60,300").expect("four numbers");
        assert_eq!([0, 1, 2, 4, 9].map(|received| waits.after(received)), [2, 2, 10, 300, 300]);
        for bad in ["", "1", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1,2,3,-4", "1,2,3,99999"] {
            let error = Waits::of(bad).expect_err(bad).to_string();
            assert!(error.contains("four whole numbers"), "{error}");
        }
    }

    /// What the shell takes for the last receive is the template's last.
    #[test]
    fn the_template_knows_as_many_receives() {
        const TEMPLATE: &str = include_str!("../../../template.yaml");
        let lines =
            TEMPLATE.lines().filter_map(|line| line.trim().strip_prefix("maxReceiveCount:"));
        let counts: Vec<&str> = lines.map(str::trim).collect();
        assert!(counts.len() >= 6 && counts.iter().all(|n| *n == RECEIVES_MAX.to_string()));
    }
}
