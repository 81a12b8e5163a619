//! Queues: who writes to them, how long they keep, and who reads them.

use crate::STEPS;
use crate::plane::{Plane, arn_of, each, reference, texts};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How long dead letters are kept: 14 days, the longest that SQS does.
const DEAD_LETTERS_S: u64 = 14 * 24 * 3600;

/// What EventBridge writes: the queue, and the ARN of what makes it write, as a policy spells it.
fn writers(plane: &Plane) -> BTreeSet<(String, String)> {
    let arn = |of: &str| {
        format!("arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:{of}")
    };
    let mut writers = BTreeSet::new();
    for (_, rule) in plane.all("AWS::Events::Rule") {
        let name = rule["Name"].as_str().or(rule["Name"]["Fn::Sub"].as_str()).unwrap_or_default();
        let of = match reference(&rule["EventBusName"]) {
            Some(bus) => format!("rule/${{{bus}}}/{name}"),
            None => format!("rule/{name}"),
        };
        for target in each(&rule["Targets"]) {
            for queue in [&target["Arn"], &target["DeadLetterConfig"]["Arn"]] {
                let queue = arn_of(queue).unwrap_or_default();
                if plane.resource(queue)["Type"] == "AWS::SQS::Queue" {
                    writers.insert((queue.to_owned(), arn(&of)));
                }
            }
        }
    }
    for (_, bus) in plane.all("AWS::Events::EventBus") {
        let queue = arn_of(&bus["DeadLetterConfig"]["Arn"]).unwrap_or_default();
        let name = reference(&bus["Name"]).unwrap_or_default();
        writers.insert((queue.to_owned(), arn(&format!("event-bus/${{{name}}}"))));
    }
    writers
}

/// What the queue policies allow, in the same form.
fn allowed(plane: &Plane, wrong: &mut Vec<String>) -> BTreeSet<(String, String)> {
    let mut allowed = BTreeSet::new();
    for (id, policy) in plane.all("AWS::SQS::QueuePolicy") {
        let queues: Vec<&str> = each(&policy["Queues"]).iter().filter_map(reference).collect();
        for statement in each(&policy["PolicyDocument"]["Statement"]) {
            if statement["Effect"] != "Allow"
                || statement["Principal"] != json!({ "Service": "events.amazonaws.com" })
                || statement["Action"] != "sqs:SendMessage"
            {
                wrong.push(format!("{id}: a statement that is not for EventBridge to send"));
                continue;
            }
            let source = statement["Condition"]["ArnEquals"]["aws:SourceArn"]["Fn::Sub"].as_str();
            for queue in each(&statement["Resource"]).iter().filter_map(arn_of) {
                if queues.contains(&queue) {
                    allowed.insert((queue.to_owned(), source.unwrap_or("anybody").to_owned()));
                }
            }
        }
    }
    allowed
}

pub(crate) fn policies(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    let (writers, allowed) = (writers(plane), allowed(plane, &mut wrong));
    for (queue, source) in writers.difference(&allowed) {
        wrong.push(format!("{queue}: no policy lets {source} send"));
    }
    for (queue, source) in allowed.difference(&writers) {
        wrong.push(format!("{queue}: {source} may send, and never does"));
    }
    wrong
}

pub(crate) fn inboxes(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut inboxes = 0;
    for (id, queue) in plane.all("AWS::SQS::Queue") {
        let kept = queue["MessageRetentionPeriod"].as_u64().unwrap_or_default();
        if queue["SqsManagedSseEnabled"] != true {
            wrong.push(format!("{id}: not encrypted"));
        }
        let Some(letters) = arn_of(&queue["RedrivePolicy"]["deadLetterTargetArn"]) else {
            if kept != DEAD_LETTERS_S {
                wrong.push(format!("{id}: dead letters are kept for {kept} s"));
            }
            continue;
        };
        inboxes += 1;
        if kept >= plane.of(letters)["MessageRetentionPeriod"].as_u64().unwrap_or_default() {
            wrong.push(format!("{id}: kept as long as its dead letters, whose age counts on"));
        }
        if queue["RedrivePolicy"]["maxReceiveCount"].as_u64().is_none_or(|receives| receives < 5) {
            wrong.push(format!("{id}: too few receives"));
        }
    }
    // Each step's, and the shadow's.
    if inboxes != STEPS.len() + 1 {
        wrong.push(format!("{inboxes} inboxes"));
    }
    wrong
}

pub(crate) fn waits(plane: &Plane) -> Vec<String> {
    let waits = &plane.0["Parameters"]["RetryWaitsS"];
    let default = waits["Default"].as_str().unwrap_or_default();
    let count = default.split(',').filter(|wait| wait.parse::<u64>().is_ok()).count() as u64;
    let mut wrong = Vec::new();
    for (id, queue) in plane.all("AWS::SQS::Queue") {
        let receives = &queue["RedrivePolicy"]["maxReceiveCount"];
        if receives.as_u64().is_some_and(|receives| receives != count + 1) {
            wrong.push(format!("{id}: {receives} receives, with {count} waits between them"));
        }
    }
    // Whoever gives others gives as many, and none longer than the 12 hours that SQS hides a
    // message. Source: "Amazon SQS visibility timeout", SQS developer guide.
    let pattern = format!("[0-9]{{1,4}}(,[0-9]{{1,4}}){{{}}}", count.saturating_sub(1));
    if waits["AllowedPattern"] != pattern {
        wrong.push(format!("RetryWaitsS: its pattern is not {pattern}"));
    }
    wrong
}

/// The function behind a mapping: what is mapped is its alias.
fn mapped<'p>(plane: &'p Plane, mapping: &Value) -> Option<&'p str> {
    let alias = reference(&mapping["FunctionName"])?;
    reference(&plane.of(alias)["FunctionName"])
}

pub(crate) fn visibility(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, mapping) in plane.all("AWS::Lambda::EventSourceMapping") {
        let inbox = arn_of(&mapping["EventSourceArn"]).unwrap_or_default();
        let hidden_s = plane.of(inbox)["VisibilityTimeout"].as_u64();
        let function = mapped(plane, mapping).unwrap_or_default();
        // "Using Lambda with Amazon SQS", AWS Lambda developer guide.
        let needed_s = plane.of(function)["Timeout"].as_u64().map(|timeout_s| 6 * timeout_s);
        if hidden_s.is_none() || needed_s.is_none() || hidden_s < needed_s {
            wrong.push(format!("{id}: hidden for {hidden_s:?} s instead of {needed_s:?}"));
        }
    }
    wrong
}

pub(crate) fn mappings(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut missing: BTreeSet<String> =
        STEPS.iter().map(|step| format!("{step}Function")).collect();
    for (id, mapping) in plane.all("AWS::Lambda::EventSourceMapping") {
        let function = mapped(plane, mapping).unwrap_or_default();
        missing.remove(function);
        let inbox = arn_of(&mapping["EventSourceArn"]).unwrap_or_default();
        if inbox.strip_suffix("Inbox") != function.strip_suffix("Function") {
            wrong.push(format!("{id}: {function} reads {inbox}"));
        }
        if texts(&mapping["FunctionResponseTypes"]) != ["ReportBatchItemFailures"] {
            wrong.push(format!("{id}: one bad message fails its whole batch"));
        }
        let limit = &mapping["ScalingConfig"]["MaximumConcurrency"];
        // On an emulator it is a number, otherwise the parameter's.
        let on_aws = limit["Fn::If"].get(1).unwrap_or(limit);
        if plane.number(on_aws).is_none_or(|limit| !(2..=1000).contains(&limit)) {
            wrong.push(format!("{id}: no bound of its concurrency"));
        }
        if !mapping["FilterCriteria"].is_null() {
            wrong.push(format!("{id}: what does not pass its filter is deleted"));
        }
    }
    wrong.extend(missing.into_iter().map(|function| format!("{function}: reads no inbox")));
    wrong
}
