//! A listener outside the plane: a queue behind a rule of its own that hears every event.

use super::site::Site;
use anyhow::Result;
use serde_json::{Value, json};
use std::cell::RefCell;

/// The rule's and the queue's name.
const NAME: &str = "e2e-tap";

/// All events so far.
pub(super) struct Tap {
    url: String,
    heard: RefCell<Vec<String>>,
}

impl Tap {
    /// Listens from now on.
    ///
    /// # Errors
    /// When queue or rule cannot be made.
    pub(super) fn on(site: &Site) -> Result<Tap> {
        let aws = site.emulator;
        let queue = aws.call("sqs", "create_queue", &json!({ "QueueName": NAME }))?;
        let url = queue["QueueUrl"].as_str().unwrap_or_default().to_owned();
        let wanted = json!({ "QueueUrl": url, "AttributeNames": ["QueueArn"] });
        let arn =
            aws.call("sqs", "get_queue_attributes", &wanted)?["Attributes"]["QueueArn"].clone();
        let bus = site.resource("Bus")?;
        let pattern = json!({ "source": [{ "prefix": "eventplane." }] }).to_string();
        let rule = json!({ "Name": NAME, "EventBusName": bus, "EventPattern": pattern });
        aws.call("events", "put_rule", &rule)?;
        let target = json!({ "Id": "tap", "Arn": arn });
        let targets = json!({ "Rule": NAME, "EventBusName": bus, "Targets": [target] });
        aws.call("events", "put_targets", &targets)?;
        Ok(Tap { url, heard: RefCell::default() })
    }

    /// All events about an instance so far, each in its envelope.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub(super) fn events(&self, site: &Site, id: &str) -> Result<Vec<String>> {
        loop {
            let wanted = json!({ "QueueUrl": self.url, "MaxNumberOfMessages": 10 });
            let answer = site.emulator.call("sqs", "receive_message", &wanted)?;
            let Some(messages) = answer["Messages"].as_array().filter(|all| !all.is_empty()) else {
                break;
            };
            let mut heard = self.heard.borrow_mut();
            heard.extend(messages.iter().filter_map(|one| one["Body"].as_str().map(str::to_owned)));
            let entry = |(n, one): (usize, &Value)| json!({ "Id": n.to_string(), "ReceiptHandle": one["ReceiptHandle"] });
            let entries: Vec<Value> = messages.iter().enumerate().map(entry).collect();
            let gone = json!({ "QueueUrl": self.url, "Entries": entries });
            site.emulator.call("sqs", "delete_message_batch", &gone)?;
        }
        let is_about = |event: &&String| {
            let event: Value = serde_json::from_str(event).unwrap_or_default();
            event["detail"]["metadata"]["subject"] == id
        };
        Ok(self.heard.borrow().iter().filter(is_about).cloned().collect())
    }
}
