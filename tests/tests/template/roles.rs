//! What each function may do: exactly what its ports need.

use crate::plane::{Plane, arn_of, each, in_words, mapping_of, texts};
use crate::{FUNCTIONS, STEPS};
use eventplane_events::KINDS;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// One permission in words: the action, and what it is on.
type Grants = BTreeSet<String>;

const READ: [&str; 2] = ["GetItem", "BatchGetItem"];
/// Transactions need the permissions of their writes: IAM knows no others.
const WRITE: [&str; 4] = ["PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"];

/// The steps that look through a partition.
const QUERYING: [&str; 2] = ["Capacity", "Storage"];
/// The steps that have the master key wrap keys.
const WRAPPING: [&str; 2] = ["Storage", "Security"];

fn table(grants: &mut Grants, table: &str, actions: &[&str]) {
    grants.extend(actions.iter().map(|action| format!("dynamodb:{action} {table}")));
}

fn grant(grants: &mut Grants, on: &str, actions: &[&str]) {
    grants.extend(actions.iter().map(|action| format!("{action} {on}")));
}

fn events_of(function: &str) -> Vec<&'static str> {
    let function = function.to_lowercase();
    let by = KINDS.iter().filter(|kind| kind.publishers.contains(&&*function));
    let mut names: Vec<&str> = by.map(|kind| kind.name).collect();
    names.sort_unstable();
    names
}

/// What the function's ports need.
fn needed(function: &str) -> Grants {
    let mut grants = Grants::new();
    grant(&mut grants, &format!("{function}Logs"), &["logs:CreateLogStream", "logs:PutLogEvents"]);
    grant(&mut grants, "*", &["xray:PutTraceSegments", "xray:PutTelemetryRecords"]);
    let (source, events) = (function.to_lowercase(), events_of(function));
    grants.insert(format!("events:PutEvents Bus as eventplane.{source} {events:?}"));
    let wraps = WRAPPING.contains(&function) || function == "Api";
    if wraps {
        grant(&mut grants, "MasterKey", &["kms:Encrypt", "kms:Decrypt"]);
    }
    match function {
        "Sweeper" => {
            // A batch of one key is read by itself.
            table(&mut grants, "InstancesTable", &["GetItem", "BatchGetItem", "UpdateItem"]);
            table(&mut grants, "InstancesTable/index/open", &["Query"]);
            // Hosts that are silent change their state, and with it their place in the index.
            let hosts = ["GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem"];
            table(&mut grants, "CapacityTable", &hosts);
            // What a host had that counts as dead is read, and its header marked.
            table(&mut grants, "HandoffTable", &["Query", "UpdateItem"]);
            grant(&mut grants, "SweeperDeadLetters", &["sqs:SendMessage"]);
        }
        "Api" => {
            for step in STEPS {
                table(&mut grants, &format!("{step}Table"), &READ);
                table(&mut grants, &format!("{step}Table"), &WRITE);
                let letters = ["Receive", "Delete"].map(|verb| format!("sqs:{verb}Message"));
                let letters = [&*letters[0], &letters[1]];
                grant(&mut grants, &format!("{step}DeadLetters"), &letters);
                let looks = ["sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"];
                grant(&mut grants, &format!("{step}DeadLetters"), &looks);
                // What is redriven goes there, and breakers tell how much waits there.
                let inbox = ["sqs:SendMessage", "sqs:GetQueueAttributes"];
                grant(&mut grants, &format!("{step}Inbox"), &inbox);
                // Breakers: these mappings and no others. To list mappings would take a permission
                // on all. Source: "Actions, resources, and condition keys for AWS Lambda", Service
                // Authorization Reference.
                let breaker = ["lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"];
                grant(&mut grants, &mapping_of(step), &breaker);
            }
            for of in ["Capacity", "Network", "Storage", "Security", "Handoff", "Instances"] {
                table(&mut grants, &format!("{of}Table"), &["Query"]);
            }
            table(&mut grants, "SecurityTable/index/by_role", &["Query"]);
            table(&mut grants, "InstancesTable/index/by_tenant", &["Query"]);
            table(&mut grants, "InstancesTable/index/open", &["Query"]);
        }
        step => {
            table(&mut grants, &format!("{step}Table"), &READ);
            table(&mut grants, &format!("{step}Table"), &WRITE);
            if QUERYING.contains(&step) {
                table(&mut grants, &format!("{step}Table"), &["Query"]);
            }
            let reads = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"];
            grant(&mut grants, &format!("{step}Inbox"), &reads);
            // What failed for a passing reason is tried again sooner, or later, than the rest.
            grant(&mut grants, &format!("{step}Inbox"), &["sqs:ChangeMessageVisibility"]);
            grant(&mut grants, &format!("{step}DeadLetters"), &["sqs:SendMessage"]);
        }
    }
    grants
}

/// What a role's statement allows.
fn granted(statement: &Value) -> Grants {
    let conditions = &statement["Condition"];
    let sources = texts(&conditions["ForAllValues:StringEquals"]["events:source"]).join(" ");
    let mut events = texts(&conditions["StringEquals"]["events:detail-type"]);
    events.sort_unstable();
    let narrowed = json!({
        "ForAllValues:StringEquals": { "events:source": sources },
        "StringEquals": { "events:detail-type": conditions["StringEquals"]["events:detail-type"] },
    });
    let condition = match conditions {
        Value::Null => String::new(),
        conditions if *conditions == narrowed => format!(" as {sources} {events:?}"),
        other => format!(" if {other}"),
    };
    let mut grants = Grants::new();
    for action in texts(&statement["Action"]) {
        for resource in each(&statement["Resource"]) {
            grants.insert(format!("{action} {}{condition}", in_words(resource)));
        }
    }
    grants
}

fn statements(role: &Value) -> impl Iterator<Item = &Value> {
    each(&role["Policies"]).iter().flat_map(|policy| each(&policy["PolicyDocument"]["Statement"]))
}

pub(crate) fn ports(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in FUNCTIONS {
        let id = format!("{name}Function");
        let role = arn_of(&plane.of(&id)["Role"]).unwrap_or_default();
        if role != format!("{name}Role") {
            wrong.push(format!("{id}: its role is `{role}`"));
        }
        let role = plane.of(role);
        if let Some(odd) = statements(role).find(|statement| statement["Effect"] != "Allow") {
            wrong.push(format!("{name}Role: a statement that does not allow: {odd}"));
        }
        let granted: Grants = statements(role).flat_map(granted).collect();
        let needed = needed(name);
        wrong.extend(needed.difference(&granted).map(|lacks| format!("{name}Role lacks {lacks}")));
        wrong.extend(granted.difference(&needed).map(|more| format!("{name}Role may {more}")));
    }
    wrong
}

pub(crate) fn wildcards(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, role) in plane.all("AWS::IAM::Role") {
        if !each(&role["ManagedPolicyArns"]).is_empty() {
            wrong.push(format!("{id}: a managed policy"));
        }
        for action in statements(role).flat_map(|statement| texts(&statement["Action"])) {
            if action.contains('*') {
                wrong.push(format!("{id}: `{action}`"));
            }
        }
        for statement in statements(role).filter(|of| each(&of["Resource"]).contains(&json!("*"))) {
            // X-Ray knows no resources. Source: "Actions, resources, and condition keys for AWS
            // X-Ray", Service Authorization Reference.
            if !texts(&statement["Action"]).iter().all(|action| action.starts_with("xray:Put")) {
                wrong.push(format!("{id}: {} on everything", statement["Action"]));
            }
        }
    }
    for kind in ["AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"] {
        wrong.extend(plane.all(kind).map(|(id, _)| format!("{id}: roles are written out in one")));
    }
    wrong
}
