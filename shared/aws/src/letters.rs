//! Dead letters on SQS: where a function puts what it cannot handle, and how people look at it and
//! deliver it again.
//!
//! Three ways lead into a dead-letter queue, and the body is the same event on each: the function
//! itself puts a message there with its reason ([`OwnQueues`]); SQS moves one that was received too
//! often, such as when the function died of it; EventBridge puts what it could not deliver.

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageAttributeValue, MessageSystemAttributeName, SendMessageBatchRequestEntry,
};
use eventplane_domain::Millis;
use eventplane_engine::{DeadLetter, DeadLetters, Fault};
use std::collections::HashSet;
use tracing::warn;

/// How many messages one request of SQS takes.
///
/// Source: "`ReceiveMessage`", SQS API reference.
const BATCH_MAX: i32 = 10;
/// How long a letter that is looked at is hidden from others, in seconds: longer than looking takes,
/// which ends by making it visible again.
const LOOK_S: i32 = 30;
/// How many receives in a row that bring nothing new end a look: one receive asks only some of a
/// queue's servers.
const EMPTY_RECEIVES_MAX: u32 = 2;
/// The attribute that says why a function could not handle a message.
const REASON: &str = "reason";
/// The attribute that says how often it had received it.
const RECEIVED: &str = "received";
/// The longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 1_000;

/// A function's own queues, for what it could not handle.
pub(crate) struct OwnQueues {
    client: Client,
    inbox: String,
    dead_letters: String,
}

impl OwnQueues {
    pub(crate) fn new(client: Client, inbox: String, dead_letters: String) -> Self {
        OwnQueues { client, inbox, dead_letters }
    }

    /// Lets a message be delivered again so many seconds from now, and not only when all the time
    /// that a function may take has passed several times.
    ///
    /// # Errors
    /// When SQS did not do it: then it comes at its own time.
    pub(crate) async fn again_in(&self, receipt_handle: &str, seconds: i32) -> Result<(), Fault> {
        let request = self.client.change_message_visibility().queue_url(&self.inbox);
        let sent = request.receipt_handle(receipt_handle).visibility_timeout(seconds).send().await;
        sent.map(drop).map_err(|error| Fault::Other(DisplayErrorContext(&error).to_string()))
    }

    /// Keeps a message with the reason why it was not handled.
    ///
    /// # Errors
    /// When SQS did not take it: then the message has to stay where it is.
    pub(crate) async fn keep(&self, body: &str, reason: &str, received: u32) -> Result<(), Fault> {
        let reason: String =
            reason.chars().filter(|c| is_allowed(*c)).take(REASON_CHARS_MAX).collect();
        let sent = self
            .client
            .send_message()
            .queue_url(&self.dead_letters)
            .message_body(body)
            .message_attributes(REASON, text(if reason.is_empty() { "unsaid" } else { &reason }))
            .message_attributes(RECEIVED, text(&received.to_string()))
            .send()
            .await;
        sent.map(drop).map_err(|error| Fault::Other(DisplayErrorContext(&error).to_string()))
    }
}

fn text(value: &str) -> MessageAttributeValue {
    let value = MessageAttributeValue::builder().data_type("String").string_value(value);
    value.build().expect("the type is given")
}

/// Whether SQS takes the character. Source: "`SendMessage`", SQS API reference.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// A function's two queues, by their addresses.
pub(crate) struct Queues {
    pub(crate) function: String,
    pub(crate) inbox: String,
    pub(crate) dead_letters: String,
}

/// What becomes of letters.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// They are delivered again.
    Redriven,
    /// They go for ever.
    Purged,
}

/// The dead letters of all functions.
pub struct SqsDeadLetters {
    client: Client,
    queues: Vec<Queues>,
}

impl SqsDeadLetters {
    pub(crate) fn new(client: Client, queues: Vec<Queues>) -> Self {
        SqsDeadLetters { client, queues }
    }

    fn of<'a>(&'a self, function: Option<&'a str>) -> impl Iterator<Item = &'a Queues> {
        self.queues.iter().filter(move |of| function.is_none_or(|wanted| wanted == of.function))
    }

    /// The queues and the message id that a letter's id names.
    fn named<'a>(&'a self, id: &'a str) -> Option<(&'a Queues, &'a str)> {
        let (function, message) = id.split_once('.')?;
        Some((self.of(Some(function)).next()?, message))
    }

    async fn receive(&self, of: &Queues, most: i32) -> Result<Vec<Message>, Fault> {
        let request = self
            .client
            .receive_message()
            .queue_url(&of.dead_letters)
            .max_number_of_messages(most)
            .visibility_timeout(LOOK_S)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All);
        let answer = request.send().await.map_err(|error| fault(of, "receive", &error))?;
        Ok(answer.messages.unwrap_or_default())
    }

    /// Looks at the letters of one function until `enough` says so of one, or there are no more;
    /// afterwards all are visible again.
    async fn look(
        &self,
        of: &Queues,
        mut enough: impl FnMut(&Message, usize) -> bool,
    ) -> Result<Vec<Message>, Fault> {
        let (mut seen, mut ids, mut empty) = (Vec::new(), HashSet::new(), 0);
        while empty < EMPTY_RECEIVES_MAX {
            let received = match self.receive(of, BATCH_MAX).await {
                Ok(received) => received,
                Err(fault) => {
                    self.let_be(of, &seen).await;
                    return Err(fault);
                }
            };
            let (mut is_new, mut is_enough) = (false, false);
            for message in received {
                is_new |= ids.insert(message.message_id().unwrap_or_default().to_owned());
                is_enough |= enough(&message, ids.len());
                // All that was received is hidden, and has to be seen to be let be.
                seen.push(message);
            }
            if is_enough {
                break;
            }
            empty = if is_new { 0 } else { empty + 1 };
        }
        Ok(seen)
    }

    /// Makes letters visible again. One that stays hidden shows itself after [`LOOK_S`].
    async fn let_be(&self, of: &Queues, messages: &[Message]) {
        for part in messages.chunks(BATCH_MAX as usize) {
            let entry = |(n, message): (usize, &Message)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(n.to_string())
                    .receipt_handle(message.receipt_handle().unwrap_or_default())
                    .visibility_timeout(0)
                    .build()
                    .expect("what is required is given")
            };
            let entries = part.iter().enumerate().map(entry).collect();
            let request = self.client.change_message_visibility_batch().set_entries(Some(entries));
            match request.queue_url(&of.dead_letters).send().await {
                Ok(answer) if answer.failed().is_empty() => {}
                Ok(answer) => warn!(failed = answer.failed().len(), "letters stay hidden a while"),
                Err(error) => {
                    warn!(error = %DisplayErrorContext(&error), "letters stay hidden a while")
                }
            }
        }
    }

    /// Puts letters into their inbox and then takes them out of the queue of dead letters: one that
    /// cannot be taken out is delivered once more, which does no harm; one that cannot be put is
    /// visible again. How many were put.
    async fn deliver(&self, of: &Queues, messages: &[Message]) -> Result<usize, Fault> {
        if messages.is_empty() {
            return Ok(0);
        }
        let entry = |(n, message): (usize, &Message)| {
            SendMessageBatchRequestEntry::builder()
                .id(n.to_string())
                .message_body(message.body().unwrap_or_default())
                .build()
                .expect("what is required is given")
        };
        let entries = messages.iter().enumerate().map(entry).collect();
        let request = self.client.send_message_batch().queue_url(&of.inbox);
        let sent = match request.set_entries(Some(entries)).send().await {
            Ok(sent) => sent,
            Err(error) => {
                self.let_be(of, messages).await;
                return Err(fault(of, "redrive", &error));
            }
        };
        if let Some(failed) = sent.failed().first() {
            let (code, count) = (failed.code(), sent.failed().len());
            warn!(of.function, code, count, "letters were not redriven, and stay");
        }
        let places: HashSet<&str> = sent.successful().iter().map(|done| done.id()).collect();
        let (put, left): (Vec<_>, Vec<_>) =
            messages.iter().enumerate().partition(|(n, _)| places.contains(n.to_string().as_str()));
        let letters = |of: Vec<(usize, &Message)>| -> Vec<Message> {
            of.into_iter().map(|(_, letter)| letter.clone()).collect()
        };
        self.let_be(of, &letters(left)).await;
        let put = letters(put);
        self.take_out(of, &put).await;
        Ok(put.len())
    }

    /// Redrives or purges the letters of one function that were sent `until` then, at most `limit`;
    /// how many. What was sent later, such as what was redriven and failed again at once, stays
    /// hidden while this goes on, so that it does not stand in the way of the rest.
    async fn sort_out(
        &self,
        of: &Queues,
        until: Millis,
        limit: usize,
        fate: Fate,
    ) -> Result<usize, Fault> {
        let (mut done, mut empty, mut later) = (0, 0, Vec::new());
        let outcome = loop {
            if done >= limit || empty >= EMPTY_RECEIVES_MAX {
                break Ok(done);
            }
            let most = i32::try_from(limit - done).unwrap_or(BATCH_MAX).min(BATCH_MAX);
            let received = match self.receive(of, most).await {
                Ok(received) => received,
                Err(fault) => break Err(fault),
            };
            let (meant, new): (Vec<Message>, Vec<Message>) =
                received.into_iter().partition(|message| sent_at(message) <= until);
            let gone = match fate {
                Fate::Redriven => self.deliver(of, &meant).await,
                Fate::Purged => Ok(self.take_out(of, &meant).await),
            };
            let gone = match gone {
                Ok(gone) => gone,
                Err(fault) => break Err(fault),
            };
            empty = if gone > 0 || !new.is_empty() { 0 } else { empty + 1 };
            done += gone;
            later.extend(new);
        };
        self.let_be(of, &later).await;
        outcome
    }

    /// Takes letters out of the queue of dead letters; how many went.
    async fn take_out(&self, of: &Queues, messages: &[Message]) -> usize {
        let entry = |(n, message): (usize, &Message)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(n.to_string());
            entry.receipt_handle(message.receipt_handle()?).build().ok()
        };
        let entries: Vec<_> = messages.iter().enumerate().filter_map(entry).collect();
        if entries.is_empty() {
            return 0;
        }
        let request = self.client.delete_message_batch().queue_url(&of.dead_letters);
        let (gone, failed) = match request.set_entries(Some(entries)).send().await {
            Ok(gone) if gone.failed().is_empty() => return gone.successful().len(),
            Ok(gone) => {
                let failed = format!("{} of {}", gone.failed().len(), messages.len());
                (gone.successful().len(), failed)
            }
            Err(error) => (0, DisplayErrorContext(&error).to_string()),
        };
        warn!(of.function, failed, "letters are listed still");
        gone
    }
}

#[async_trait]
impl DeadLetters for SqsDeadLetters {
    async fn list(&self, function: Option<&str>, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        let mut letters = Vec::new();
        for of in self.of(function) {
            let seen = self.look(of, |_, count| count >= limit).await?;
            self.let_be(of, &seen).await;
            let mut ids = HashSet::new();
            let new = seen.iter().filter(|message| ids.insert(message.message_id()));
            letters.extend(new.map(|message| letter(of, message)));
        }
        letters.sort_by_key(|letter| letter.at);
        letters.truncate(limit);
        Ok(letters)
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, Fault> {
        let Some((of, wanted)) = self.named(id) else { return Ok(None) };
        let seen = self.look(of, |message, _| message.message_id() == Some(wanted)).await?;
        self.let_be(of, &seen).await;
        let found = seen.iter().find(|message| message.message_id() == Some(wanted));
        Ok(found.map(|message| letter(of, message)))
    }

    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        let Some((of, wanted)) = self.named(id) else { return Ok(false) };
        let is_wanted = |message: &Message| message.message_id() == Some(wanted);
        let seen = self.look(of, |message, _| is_wanted(message)).await?;
        let (found, others): (Vec<Message>, Vec<Message>) = seen.into_iter().partition(is_wanted);
        self.let_be(of, &others).await;
        // Received twice, the newest receipt counts.
        let Some(found) = found.last() else { return Ok(false) };
        Ok(self.deliver(of, std::slice::from_ref(found)).await? > 0)
    }

    async fn redrive_all(
        &self,
        function: Option<&str>,
        until: Millis,
        limit: usize,
    ) -> Result<usize, Fault> {
        let mut redriven = 0;
        for of in self.of(function) {
            redriven += self.sort_out(of, until, limit - redriven, Fate::Redriven).await?;
        }
        Ok(redriven)
    }

    /// One by one, since `PurgeQueue` may delete also what is sent while it is at work, for up to 60
    /// seconds, and may be called again only after those. Source: "`PurgeQueue`", SQS API reference.
    async fn purge(&self, function: &str, until: Millis, limit: usize) -> Result<usize, Fault> {
        let mut purged = 0;
        for of in self.of(Some(function)) {
            purged += self.sort_out(of, until, limit - purged, Fate::Purged).await?;
        }
        Ok(purged)
    }
}

fn fault<E>(of: &Queues, did: &str, error: &E) -> Fault
where
    E: std::error::Error,
{
    let function = &of.function;
    Fault::Other(format!("{did} dead letters of {function}: {}", DisplayErrorContext(error)))
}

/// When the message was sent: to this queue, or to its inbox, if SQS moved it from there.
fn sent_at(message: &Message) -> Millis {
    let attributes = message.attributes();
    let sent = attributes.and_then(|all| all.get(&MessageSystemAttributeName::SentTimestamp));
    Millis(sent.and_then(|ms| ms.parse().ok()).unwrap_or_default())
}

fn letter(of: &Queues, message: &Message) -> DeadLetter {
    let attribute = |name: &str| {
        let attributes = message.message_attributes();
        attributes.and_then(|all| all.get(name)).and_then(MessageAttributeValue::string_value)
    };
    // "Using dead-letter queues to process undelivered events", EventBridge user guide.
    let reason = match (attribute(REASON), attribute("ERROR_CODE")) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(code)) => {
            let message = attribute("ERROR_MESSAGE").unwrap_or_default();
            format!("EventBridge could not deliver it: {code} {message}").trim_end().to_owned()
        }
        (None, None) => format!(
            "{} received it too often without an end, or ran out of time: its log says more",
            of.function
        ),
    };
    DeadLetter {
        id: format!("{}.{}", of.function, message.message_id().unwrap_or_default()),
        function: of.function.clone(),
        reason,
        received: attribute(RECEIVED).and_then(|n| n.parse().ok()).unwrap_or_default(),
        at: sent_at(message),
        body: message.body().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
#[path = "letters_tests.rs"]
mod by_the_many;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A queue that no request reaches.
    pub(crate) fn queues_nobody_reaches() -> OwnQueues {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::v2026_01_12())
            .build();
        let nowhere = || "https://nowhere.invalid".to_owned();
        OwnQueues::new(Client::from_conf(config), nowhere(), nowhere())
    }

    fn queues() -> Queues {
        let url = |name: &str| format!("https://sqs/{name}");
        Queues { function: "storage".to_owned(), inbox: url("inbox"), dead_letters: url("dead") }
    }

    #[test]
    fn a_letter_says_why_by_whichever_way_it_came() {
        let message = |attributes: &[(&str, &str)]| {
            let message = Message::builder().message_id("m-1").body("{}");
            let message = message.attributes(MessageSystemAttributeName::SentTimestamp, "7");
            attributes
                .iter()
                .fold(message, |message, (name, value)| {
                    message.message_attributes(*name, text(value))
                })
                .build()
        };
        for (attributes, reason, received) in [
            (&[("reason", "no such table"), ("received", "5")][..], "no such table", 5),
            (
                &[("ERROR_CODE", "NO_PERMISSIONS"), ("ERROR_MESSAGE", "denied")],
                "EventBridge could not deliver it: NO_PERMISSIONS denied",
                0,
            ),
            (
                &[],
                "storage received it too often without an end, or ran out of time: its log says more",
                0,
            ),
        ] {
            let letter = letter(&queues(), &message(attributes));
            assert_eq!((letter.reason.as_str(), letter.received), (reason, received));
            assert_eq!((letter.id.as_str(), letter.at), ("storage.m-1", Millis(7)));
        }
    }

    #[test]
    fn a_reason_holds_nothing_that_sqs_refuses() {
        assert!("\u{0}\u{1}\u{1f}\u{fffe}\u{ffff}".chars().all(|c| !is_allowed(c)));
        assert!("a ü\n\u{1f600}".chars().all(is_allowed));
    }
}
