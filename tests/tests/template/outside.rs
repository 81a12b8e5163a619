//! What stands around queues and rules: tables, the key, logs, the functions' environment, the API.

use crate::plane::{Plane, arn_of, each, mapping_of, reference, texts};
use crate::{FUNCTIONS, STEPS};
use eventplane_api::TABLES;
use eventplane_store::Index;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What the emulator refuses, or only plays at: not asked for there.
const UNKNOWN_TO_EMULATORS: [&str; 4] =
    ["AWS::Events::Archive", "AWS::Logs::Delivery", "AWS::EventSchemas::", "AWS::CodeDeploy::"];

fn keys(partition: &str, sort: &str) -> Value {
    json!([
        { "AttributeName": partition, "KeyType": "HASH" },
        { "AttributeName": sort, "KeyType": "RANGE" },
    ])
}

fn index(of: &Index) -> Value {
    json!({
        "IndexName": of.name,
        "KeySchema": keys(of.partition, of.sort),
        "Projection": { "ProjectionType": "KEYS_ONLY" },
    })
}

/// The tag by which `eventplane purge` finds what a deleted stack has left.
fn is_tagged(of: &Value) -> bool {
    let tag = json!({ "Key": "eventplane:stack", "Value": { "Ref": "AWS::StackName" } });
    each(&of["Tags"]).contains(&tag)
}

fn is_kept(resource: &Value) -> bool {
    resource["DeletionPolicy"] == "Retain" && resource["UpdateReplacePolicy"] == "Retain"
}

pub(crate) fn tables(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    for (step, table) in STEPS.iter().zip(TABLES) {
        let id = format!("{step}Table");
        let of = plane.of(&id);
        let indexes = match table.indexes {
            [] => Value::Null,
            indexes => indexes.iter().map(index).collect(),
        };
        let ttl = json!({ "AttributeName": "expires_at", "Enabled": true });
        let recovery = &of["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"];
        for (is, what) in [
            (table.name == step.to_lowercase(), "another table's name in the code"),
            (is_kept(plane.resource(&id)), "deleted or replaced with its data"),
            (of["DeletionProtectionEnabled"] == true, "no deletion protection"),
            (*recovery == true, "no recovery to a point in time"),
            (of["SSESpecification"]["SSEEnabled"] == true, "not encrypted with a key of KMS"),
            (of["TableName"].is_null(), "a name of its own, so it can never be replaced"),
            (of["BillingMode"] == "PAY_PER_REQUEST", "not on demand"),
            (of["TimeToLiveSpecification"] == ttl, "nothing expires"),
            (of["KeySchema"] == keys("pk", "sk"), "other keys than the store's"),
            (of["GlobalSecondaryIndexes"] == indexes, "other indexes than the code's"),
            (is_tagged(of), "no tag"),
        ] {
            if !is {
                wrong.push(format!("{id}: {what}"));
            }
        }
    }
    let tables = plane.all("AWS::DynamoDB::Table").count();
    if tables != TABLES.len() {
        wrong.push(format!("{tables} tables"));
    }
    wrong
}

pub(crate) fn master_key(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    let keys: Vec<(&str, &Value)> = plane.all("AWS::KMS::Key").collect();
    if keys.len() != 1 {
        wrong.push(format!("{} keys instead of one: each costs every month", keys.len()));
    }
    for (id, key) in keys {
        if !is_kept(plane.resource(id)) || key["EnableKeyRotation"] != true || !is_tagged(key) {
            wrong.push(format!("{id}: not kept, not rotated, or not tagged"));
        }
    }
    wrong
}

pub(crate) fn logs(plane: &Plane) -> Vec<String> {
    let endless = plane
        .all("AWS::Logs::LogGroup")
        .filter(|(_, of)| of["RetentionInDays"] != json!({ "Ref": "LogRetentionDays" }));
    let mut wrong: Vec<String> = endless.map(|(id, _)| format!("{id}: kept for ever")).collect();
    for name in FUNCTIONS {
        let logging = &plane.of(&format!("{name}Function"))["LoggingConfig"];
        if reference(&logging["LogGroup"]) != Some(&*format!("{name}Logs")) {
            wrong.push(format!("{name}Function: logs elsewhere than into {name}Logs"));
        }
        if logging["LogFormat"] != "JSON" || logging["SystemLogLevel"] != "WARN" {
            wrong.push(format!("{name}Function: pays for the platform's lines"));
        }
        // What has no level counts as INFO, and so do metrics: at WARN they would be dropped.
        // Source: "Log-level filtering", Lambda developer guide.
        if logging["ApplicationLogLevel"] != "TRACE" {
            wrong.push(format!("{name}Function: Lambda drops lines that RUST_LOG lets through"));
        }
    }
    wrong
}

/// What a function reads from its environment.
fn read(name: &str) -> BTreeSet<String> {
    let mut read = BTreeSet::from(["RUST_LOG", "BUS_NAME"].map(str::to_owned));
    let mut reads = |names: &[&str]| read.extend(names.iter().map(|name| (*name).to_owned()));
    match name {
        "Sweeper" => {
            reads(&["STACK_NAME", "HOST_DEAD_AFTER_S"]);
            reads(&["TABLE_CAPACITY", "TABLE_HANDOFF", "TABLE_INSTANCES"]);
        }
        "Api" => {
            reads(&["STACK_NAME", "MASTER_KEY_ID", "LAUNCH_DEADLINE_S", "TENANT_CLAIM", "LIMITS"]);
            for step in STEPS.map(str::to_uppercase) {
                for of in ["TABLE", "INBOX_URL", "DEAD_LETTERS_URL", "MAPPING_ID"] {
                    reads(&[&format!("{of}_{step}")]);
                }
            }
        }
        step => {
            reads(&["STACK_NAME", "INBOX_URL", "DEAD_LETTERS_URL", "RETRY_WAITS_S"]);
            reads(&[&format!("TABLE_{}", step.to_uppercase())]);
            match step {
                "Storage" | "Security" => reads(&["MASTER_KEY_ID"]),
                "Instances" => reads(&["LAUNCH_DEADLINE_S", "ENDING_DEADLINE_S"]),
                _ => {}
            }
        }
    }
    read
}

/// What a variable of this name stands for, of which function it may.
fn stands_for(function: &str, variable: &str) -> Value {
    let capitalized = |name: &str| format!("{}{}", &name[..1], name[1..].to_lowercase());
    let reference = |name: String| json!({ "Ref": name });
    let of = |kind: &str| variable.strip_prefix(kind).map(capitalized);
    match variable {
        "RUST_LOG" => reference("LogLevel".into()),
        "BUS_NAME" => reference("Bus".into()),
        "STACK_NAME" => reference("AWS::StackName".into()),
        "LAUNCH_DEADLINE_S" => reference("LaunchDeadlineS".into()),
        "ENDING_DEADLINE_S" => reference("EndingDeadlineS".into()),
        "HOST_DEAD_AFTER_S" => reference("HostDeadAfterS".into()),
        "TENANT_CLAIM" => reference("TenantClaim".into()),
        "LIMITS" => reference("Limits".into()),
        "MASTER_KEY_ID" => json!({ "Fn::GetAtt": ["MasterKey", "Arn"] }),
        "RETRY_WAITS_S" => reference("RetryWaitsS".into()),
        "INBOX_URL" => reference(format!("{function}Inbox")),
        "DEAD_LETTERS_URL" => reference(format!("{function}DeadLetters")),
        _ => match (of("TABLE_"), of("INBOX_URL_"), of("DEAD_LETTERS_URL_")) {
            (Some(step), ..) => reference(format!("{step}Table")),
            (_, Some(step), _) => reference(format!("{step}Inbox")),
            (.., Some(step)) => reference(format!("{step}DeadLetters")),
            _ => of("MAPPING_ID_").map_or(Value::Null, |step| reference(mapping_of(&step))),
        },
    }
}

pub(crate) fn environment(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in FUNCTIONS {
        let variables = &plane.of(&format!("{name}Function"))["Environment"]["Variables"];
        let told: BTreeSet<String> =
            variables.as_object().into_iter().flat_map(|of| of.keys().cloned()).collect();
        let read = read(name);
        wrong.extend(read.difference(&told).map(|lacks| format!("{name}: lacks {lacks}")));
        wrong.extend(told.difference(&read).map(|more| format!("{name}: never reads {more}")));
        for variable in told.intersection(&read) {
            if variables[variable] != stands_for(name, variable) {
                wrong.push(format!("{name}: {variable} is {}", variables[variable]));
            }
        }
    }
    let functions = plane.all("AWS::Lambda::Function").count();
    if functions != FUNCTIONS.len() {
        wrong.push(format!("{functions} functions"));
    }
    wrong
}

/// The parameters that stand anywhere in a value.
fn parameters_in<'p>(plane: &Plane, value: &'p Value, found: &mut BTreeSet<&'p str>) {
    let of_parameter = |name: &&str| !plane.0["Parameters"][*name].is_null();
    found.extend(reference(value).filter(of_parameter));
    let values = value.as_object().into_iter().flat_map(|of| of.values());
    values.chain(value.as_array().into_iter().flatten()).for_each(|value| {
        parameters_in(plane, value, found);
    });
}

/// A version is a function as it was when it was published, with the parameters' values of then: the
/// alias leads past a value that changed, unless that makes another version.
pub(crate) fn versions(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in FUNCTIONS {
        let id = format!("{name}Function");
        let mut parameters = BTreeSet::new();
        parameters_in(plane, plane.of(&id), &mut parameters);
        let version = plane
            .all("AWS::Lambda::Version")
            .find(|(_, of)| reference(&of["FunctionName"]) == Some(&id));
        let told = version.and_then(|(_, of)| of["Description"]["Fn::Sub"].as_str());
        let told: BTreeSet<&str> = told.unwrap_or_default().split_whitespace().collect();
        let needed: BTreeSet<String> =
            parameters.iter().map(|name| format!("${{{name}}}")).collect();
        if !needed.iter().map(String::as_str).eq(told.iter().copied()) {
            wrong.push(format!("{id}: another version for {told:?} instead of {needed:?}"));
        }
    }
    wrong
}

/// A function that EventBridge or SNS calls by itself is called asynchronously: Lambda tells nobody
/// of its failures, unless there is a destination for them.
pub(crate) fn failures(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, permission) in plane.all("AWS::Lambda::Permission") {
        if permission["Principal"] == "apigateway.amazonaws.com" {
            continue;
        }
        let alias = plane.of(reference(&permission["FunctionName"]).unwrap_or_default());
        let configured = plane.all("AWS::Lambda::EventInvokeConfig").any(|(_, config)| {
            let to = arn_of(&config["DestinationConfig"]["OnFailure"]["Destination"]);
            config["FunctionName"] == alias["FunctionName"]
                && config["Qualifier"] == alias["Name"]
                && plane.resource(to.unwrap_or_default())["Type"] == "AWS::SQS::Queue"
        });
        if !configured {
            wrong.push(format!("{id}: nobody would learn of a failure"));
        }
    }
    wrong
}

/// What sends new code back: whatever fails shows in one of these.
fn failures_seen() -> BTreeSet<String> {
    let calls = FUNCTIONS.iter().map(|name| name.to_lowercase());
    let calls = calls.map(|name| format!("AWS/Lambda Errors ${{AWS::StackName}}-{name}"));
    let others = ["Eventplane MessagesFailed AWS::StackName", "AWS/ApiGateway 5xx Api"];
    calls.chain(others.map(str::to_owned)).collect()
}

pub(crate) fn rollback(plane: &Plane) -> Vec<String> {
    let metrics = each(&plane.of("RollbackAlarm")["Metrics"]);
    let sums = metrics.iter().filter(|of| of["Expression"] == "SUM(METRICS())").count();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for of in metrics.iter().map(|of| &of["MetricStat"]).filter(|of| !of.is_null()) {
        let (metric, dimension) = (&of["Metric"], &of["Metric"]["Dimensions"][0]["Value"]);
        let of_what = dimension["Fn::Sub"].as_str().or(reference(dimension)).unwrap_or_default();
        let name = |field: &str| metric[field].as_str().unwrap_or_default();
        seen.insert(format!("{} {} {of_what}", name("Namespace"), name("MetricName")));
        if of["Stat"] != "Sum" {
            wrong.push(format!("RollbackAlarm: {of_what} is not counted"));
        }
    }
    // "Limits", CloudWatch user guide, on alarms.
    if sums != 1 || seen.len() > 10 {
        wrong.push("RollbackAlarm: not one sum of ten metrics at most".to_owned());
    }
    let expected = failures_seen();
    wrong.extend(expected.difference(&seen).map(|of| format!("RollbackAlarm overlooks {of}")));
    wrong.extend(seen.difference(&expected).map(|of| format!("RollbackAlarm counts {of}")));
    wrong
}

/// What only hosts and operators ask. Everything else is for tenants too.
const OF_HOSTS_AND_OPERATORS: [&str; 17] = [
    "ANY /v1/breakers",
    "ANY /v1/breakers/{function}",
    "ANY /v1/dead-letters",
    "ANY /v1/dead-letters/{proxy+}",
    "ANY /v1/hosts/{host_id}",
    "ANY /v1/hosts/{host_id}/assignments",
    "ANY /v1/hosts/{host_id}/key",
    "ANY /v1/hosts/{host_id}/reports",
    "ANY /v1/mode",
    "ANY /v1/ledger",
    "ANY /v1/ledger/{proxy+}",
    "GET /v1/capacity",
    "GET /v1/hosts",
    "POST /v1/enrolments",
    "POST /v1/hosts",
    "POST /v1/rehearsals",
    "POST /v1/replays",
];

/// Where nobody is asked at the door: a host that has enrolled has a key of its own and no user of the
/// account or token, so the api asks itself, by the signature of each request. Whoever came this way
/// is nobody to all other handlers.
const OPEN: [&str; 1] = ["ANY /v1/agents/{proxy+}"];

pub(crate) fn routes(plane: &Plane) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut keys = BTreeSet::new();
    for (id, route) in plane.all("AWS::ApiGatewayV2::Route") {
        let key = route["RouteKey"].as_str().unwrap_or_default();
        keys.insert(key);
        let (slot, tokens) = match key {
            "$default" => ("Authorization", "PeopleUseJwt"),
            _ => ("HostAuthorization", "HostsUseJwt"),
        };
        let authorizer =
            json!({ "Fn::If": [tokens, { "Ref": "ApiTokens" }, { "Ref": "AWS::NoValue" }] });
        if OPEN.contains(&key) {
            if route["AuthorizationType"] != "NONE" || !route["AuthorizerId"].is_null() {
                wrong.push(format!("{id}: no host that has enrolled gets through"));
            }
        } else if reference(&route["AuthorizationType"]) != Some(slot)
            || route["AuthorizerId"] != authorizer
        {
            wrong.push(format!("{id}: whoever calls {key} is not asked by {slot}"));
        }
        let target = json!({ "Fn::Sub": "integrations/${ApiIntegration}" });
        if route["Target"] != target {
            wrong.push(format!("{id}: leads elsewhere"));
        }
    }
    for (slot, default) in [("Authorization", "AWS_IAM"), ("HostAuthorization", "AWS_IAM")] {
        let parameter = &plane.0["Parameters"][slot];
        if parameter["Default"] != default || texts(&parameter["AllowedValues"]).contains(&"NONE") {
            wrong.push(format!("{slot}: lets anybody in"));
        }
    }
    let expected: BTreeSet<&str> =
        OF_HOSTS_AND_OPERATORS.into_iter().chain(OPEN).chain(["$default"]).collect();
    if keys != expected {
        wrong.push(format!("routes {keys:?}"));
    }
    let alias = json!({ "Ref": "ApiFunctionAliaslive" });
    if plane.of("ApiIntegration")["IntegrationUri"] != alias
        || plane.of("ApiPermission")["FunctionName"] != alias
        || plane.of("ApiIntegration")["PayloadFormatVersion"] != "2.0"
    {
        wrong.push("the API does not lead to the alias, or may not".to_owned());
    }
    let stage = plane.of("ApiStage");
    if stage["AccessLogSettings"].is_null()
        || stage["DefaultRouteSettings"]["ThrottlingRateLimit"].is_null()
    {
        wrong.push("the API logs no access, or has no limit".to_owned());
    }
    wrong
}

pub(crate) fn emulator(plane: &Plane) -> Vec<String> {
    let is_unknown = |kind: &str| UNKNOWN_TO_EMULATORS.iter().any(|of| kind.starts_with(of));
    plane
        .types()
        .filter(|(id, kind, _)| is_unknown(kind) || *id == "Schemas")
        // CodeDeploy's stand only where the deployment is gradual: no emulator asks for that.
        .filter(|(_, kind, condition)| {
            *condition != Some("OnAws") && !kind.starts_with("AWS::CodeDeploy::")
        })
        .map(|(id, kind, _)| format!("{id}: {kind} is asked for everywhere"))
        .collect()
}
