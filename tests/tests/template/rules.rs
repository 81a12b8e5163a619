//! Who hears what, as the expanded rules say it.

use crate::plane::{Plane, arn_of, texts};
use eventplane_events::KINDS;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The events that only listeners outside hear.
const TERMINAL: [&str; 2] = ["InstanceHandedOff", "InstanceTerminated"];

/// The rule that hears what is replayed, and nothing else.
const SHADOW: &str = "ShadowRule";

/// The rules of the bus, with the function whose inbox is their target. A schedule has no pattern,
/// and the shadow is no function.
fn of_steps(plane: &Plane) -> impl Iterator<Item = (&str, &Value, String)> {
    let is_of_step = |id: &str, rule: &Value| !rule["EventPattern"].is_null() && id != SHADOW;
    plane.all("AWS::Events::Rule").filter(move |(id, rule)| is_of_step(id, rule)).map(
        |(id, rule)| {
            let inbox = arn_of(&rule["Targets"][0]["Arn"]).unwrap_or_default();
            let function = inbox.strip_suffix("Inbox").unwrap_or_default().to_lowercase();
            (id, &rule["EventPattern"], function)
        },
    )
}

fn publishers_of(event: &str) -> &'static [&'static str] {
    KINDS.iter().find(|kind| kind.name == event).map_or(&[], |kind| kind.publishers)
}

pub(crate) fn targets(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, rule) in plane.all("AWS::Events::Rule") {
        let targets = rule["Targets"].as_array().map_or(&[][..], Vec::as_slice);
        if targets.len() != 1 {
            wrong.push(format!("{id}: {} targets instead of one", targets.len()));
        }
        for target in targets {
            let letters = arn_of(&target["DeadLetterConfig"]["Arn"]).unwrap_or_default();
            if plane.resource(letters)["Type"] != "AWS::SQS::Queue" {
                wrong.push(format!("{id}: its target has no dead letters"));
            }
            for limit in ["MaximumRetryAttempts", "MaximumEventAgeInSeconds"] {
                if target["RetryPolicy"][limit].as_u64().is_none_or(|limit| limit == 0) {
                    wrong.push(format!("{id}: its target has no {limit}"));
                }
            }
        }
    }
    wrong
}

pub(crate) fn events(plane: &Plane) -> Vec<String> {
    let heard: BTreeSet<&str> =
        of_steps(plane).flat_map(|(_, pattern, _)| texts(&pattern["detail-type"])).collect();
    let mut wrong = Vec::new();
    for kind in KINDS {
        match (heard.contains(kind.name), TERMINAL.contains(&kind.name)) {
            (false, false) => wrong.push(format!("{}: nobody hears it", kind.name)),
            (true, true) => wrong.push(format!("{}: is terminal, and yet heard", kind.name)),
            _ => {}
        }
    }
    wrong
}

pub(crate) fn publishers(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, pattern, hearer) in of_steps(plane) {
        let names = texts(&pattern["detail-type"]);
        for name in names.iter().filter(|name| publishers_of(name).is_empty()) {
            wrong.push(format!("{id}: nobody publishes `{name}`"));
        }
        let expected: BTreeSet<String> = names
            .iter()
            .flat_map(|name| publishers_of(name))
            .filter(|publisher| **publisher != hearer)
            .map(|function| format!("eventplane.{function}"))
            .collect();
        let named = texts(&pattern["source"]).into_iter().map(str::to_owned).collect();
        if expected != named {
            wrong.push(format!("{id}: hears {named:?} instead of {expected:?}"));
        }
    }
    if of_steps(plane).count() != crate::STEPS.len() {
        wrong.push("a step has no rule, or two".to_owned());
    }
    wrong
}

pub(crate) fn loops(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, pattern, function) in of_steps(plane) {
        if function.is_empty() || texts(&pattern["source"]).is_empty() {
            wrong.push(format!("{id}: its target is no inbox, or it hears every source"));
        }
        if texts(&pattern["source"]).contains(&&*format!("eventplane.{function}")) {
            wrong.push(format!("{id}: {function} would hear itself"));
        }
    }
    wrong
}

pub(crate) fn shadow(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    let rule = plane.of(SHADOW);
    let all_replays = json!({
        "source": [{ "prefix": "eventplane." }],
        "replay-name": [{ "exists": true }],
    });
    if rule["EventPattern"] != all_replays {
        wrong.push(format!("{SHADOW}: hears other things than the plane's events, replayed"));
    }
    let inbox = arn_of(&rule["Targets"][0]["Arn"]).unwrap_or_default();
    if inbox != "ShadowInbox" {
        wrong.push(format!("{SHADOW}: what is replayed goes to {inbox}"));
    }
    // A function behind the inbox would do once more what was done.
    let reads = |(id, mapping): (&str, &Value)| {
        (arn_of(&mapping["EventSourceArn"]) == Some("ShadowInbox")).then(|| id.to_owned())
    };
    let readers = plane.all("AWS::Lambda::EventSourceMapping").filter_map(reads);
    wrong.extend(readers.map(|id| format!("{id}: reads what is replayed")));
    wrong
}

pub(crate) fn replays(plane: &Plane) -> Vec<String> {
    of_steps(plane)
        .filter(|(_, pattern, _)| pattern["replay-name"] != json!([{ "exists": false }]))
        .map(|(id, ..)| format!("{id}: hears replays"))
        .collect()
}

pub(crate) fn fair_shares(plane: &Plane) -> Vec<String> {
    let of_a_tenant = json!({ "MessageGroupId": "$.detail.metadata.tenant" });
    // Nobody waits for a turn in the shadow.
    let is_of_step = |id: &str, rule: &Value| !rule["EventPattern"].is_null() && id != SHADOW;
    let targets = plane.all("AWS::Events::Rule").filter(|(id, rule)| is_of_step(id, rule));
    let mut wrong: Vec<String> = targets
        .filter(|(_, rule)| rule["Targets"][0]["SqsParameters"] != of_a_tenant)
        .map(|(id, _)| format!("{id}: a tenant's messages are no group of their own"))
        .collect();
    // A group of a FIFO queue is handled one message after the other.
    let fifo = plane.all("AWS::SQS::Queue").filter(|(_, queue)| queue["FifoQueue"] == true);
    wrong.extend(fifo.map(|(id, _)| format!("{id}: is FIFO")));
    wrong
}
