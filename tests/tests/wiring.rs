//! Who hears what: `template.yaml` against the list of events, and what AWS would make of it.

use eventplane_events::{Entry, KINDS, Kind, envelope};
use eventplane_local::wiring::{Wiring, template};
use serde_json::{Value, json};

const TEMPLATE: &str = include_str!("../../template.yaml");

/// Who hears each event: the flow, as the design draws it. The last two are for listeners outside.
const HEARERS: [(&str, &[&str]); 20] = [
    ("InstanceRequested", &["capacity", "handoff"]),
    ("CapacityAllocated", &["network", "security", "storage"]),
    ("NetworkConfigured", &["handoff"]),
    ("VolumeProvisioned", &["handoff"]),
    ("SecurityConfigured", &["handoff"]),
    ("InstanceRunning", &["instances"]),
    ("InstanceHalted", &["handoff"]),
    ("LaunchFailed", &["handoff"]),
    ("InstanceStopRequested", &["handoff", "instances"]),
    ("InstanceStartRequested", &["instances"]),
    ("InstanceRebootRequested", &["handoff"]),
    ("InstanceRebootOrdered", &["instances"]),
    ("InstanceTerminationRequested", &["handoff"]),
    ("InstanceWithdrawn", &["capacity", "instances", "network", "security", "storage"]),
    ("CapacityReleased", &["instances"]),
    ("NetworkReleased", &["instances"]),
    ("VolumeReleased", &["instances"]),
    ("SecurityRevoked", &["instances"]),
    ("InstanceHandedOff", &[]),
    ("InstanceTerminated", &[]),
];

const FUNCTIONS: [&str; 6] = ["capacity", "handoff", "instances", "network", "security", "storage"];

/// The same of every function's block, in this order.
const BLOCK: [&str; 8] =
    ["Role", "Logs", "Table", "Inbox", "DeadLetters", "QueuePolicy", "Rule", "Function"];

/// The functions that hear no event: their blocks are exceptions, with a reason in their banners.
const EXCEPTIONS: [&str; 2] = ["sweeper", "api"];

fn event(kind: &Kind, publisher: &str) -> Value {
    let entry = Entry {
        source: format!("eventplane.{publisher}"),
        detail_type: kind.name,
        detail: r#"{"metadata":{},"data":{}}"#.to_owned(),
    };
    let message = envelope(&entry, "e-1", "2026-11-24T00:00:00Z");
    serde_json::from_str(&message).expect("the envelope is JSON")
}

fn hearers<'w>(wiring: &'w Wiring, event: &'w Value) -> Vec<&'w str> {
    let mut hearers: Vec<&str> = wiring.hearers(event).collect();
    hearers.sort_unstable();
    hearers
}

#[test]
fn every_event_reaches_exactly_its_hearers_from_each_of_its_publishers() {
    let wiring = Wiring::built_in();
    assert_eq!(HEARERS.len(), KINDS.len());
    for kind in KINDS {
        let (_, expected) = HEARERS
            .iter()
            .find(|(name, _)| *name == kind.name)
            .unwrap_or_else(|| panic!("{} is not in the table of hearers", kind.name));
        for publisher in kind.publishers {
            let event = event(kind, publisher);
            // No function hears itself: that would be a loop.
            let expected: Vec<&str> =
                expected.iter().copied().filter(|hearer| hearer != publisher).collect();
            assert_eq!(hearers(&wiring, &event), expected, "{} by {publisher}", kind.name);
        }
    }
}

#[test]
fn a_replayed_event_reaches_nobody() {
    let wiring = Wiring::built_in();
    for kind in KINDS {
        let mut replayed = event(kind, kind.publishers[0]);
        replayed["replay-name"] = json!("monday");
        assert_eq!(hearers(&wiring, &replayed), [""; 0], "{}", kind.name);
    }
}

#[test]
fn what_is_replayed_reaches_the_shadow_and_what_happens_does_not() {
    let resources = &template::read(TEMPLATE).expect("readable")["Resources"];
    let pattern = &resources["ShadowRule"]["Properties"]["EventPattern"];
    let pattern = eventplane_pattern::Pattern::from_value(pattern).expect("a pattern");
    for kind in KINDS {
        for publisher in kind.publishers {
            let mut event = event(kind, publisher);
            assert!(!pattern.matches(&event), "{} by {publisher}", kind.name);
            event["replay-name"] = json!("monday");
            assert!(pattern.matches(&event), "{} by {publisher}", kind.name);
        }
    }
    let mut foreign = event(&KINDS[0], "console");
    foreign["source"] = json!("aws.ec2");
    foreign["replay-name"] = json!("monday");
    assert!(!pattern.matches(&foreign));
}

#[test]
fn an_event_from_elsewhere_reaches_nobody() {
    let wiring = Wiring::built_in();
    for kind in KINDS {
        for source in ["console", "api2", "Api", ""] {
            let foreign = event(kind, source);
            assert_eq!(hearers(&wiring, &foreign), [""; 0], "{} by {source}", kind.name);
        }
        let mut bare = event(kind, kind.publishers[0]);
        bare["source"] = json!(kind.publishers[0]);
        assert_eq!(hearers(&wiring, &bare), [""; 0], "{} without the prefix", kind.name);
    }
}

#[test]
fn a_rule_names_exactly_the_publishers_of_the_events_that_its_function_hears() {
    for rule in &Wiring::built_in().rules {
        let heard = rule.pattern.exact_strings("detail-type").expect("names of events");
        let publishers_of = |name: &str| {
            let kind = KINDS.iter().find(|kind| kind.name == name);
            kind.unwrap_or_else(|| panic!("{}: no event `{name}`", rule.name)).publishers
        };
        let mut expected: Vec<String> = heard
            .iter()
            .flat_map(|name| publishers_of(name))
            .filter(|publisher| ***publisher != *rule.function)
            .map(|publisher| format!("eventplane.{publisher}"))
            .collect();
        expected.sort_unstable();
        expected.dedup();
        let mut named = rule.pattern.exact_strings("source").expect("names of sources");
        named.sort_unstable();
        assert_eq!(named, expected, "{}", rule.name);
        assert!(!rule.pattern.reads_detail(), "{} would cost a parse of each event", rule.name);
    }
}

#[test]
fn every_function_has_one_inbox_and_one_rule_with_the_designs_limits() {
    let wiring = Wiring::built_in();
    let functions: Vec<&str> = wiring.inboxes.iter().map(|inbox| &*inbox.function).collect();
    assert_eq!(functions, FUNCTIONS);
    let mut ruled: Vec<&str> = wiring.rules.iter().map(|rule| &*rule.function).collect();
    ruled.sort_unstable();
    assert_eq!(ruled, FUNCTIONS);
    for inbox in &wiring.inboxes {
        assert_eq!(inbox.receives_max, 5, "{}", inbox.function);
        assert_eq!(inbox.visibility_timeout_ms, 90_000, "{}", inbox.function);
    }
    let resources = &template::read(TEMPLATE).expect("readable")["Resources"];
    for function in FUNCTIONS {
        let name = capitalized(function);
        let queue = |suffix| &resources[format!("{name}{suffix}")]["Properties"];
        assert_eq!(queue("Inbox")["MessageRetentionPeriod"], 4 * 24 * 3600);
        assert_eq!(queue("DeadLetters")["MessageRetentionPeriod"], 14 * 24 * 3600);
        let rule = &resources[format!("{name}Rule")];
        assert_eq!(rule["DependsOn"], format!("{name}QueuePolicy"));
        let pattern = rule["Properties"]["EventPattern"].to_string();
        // "Amazon EventBridge quotas", EventBridge user guide.
        assert!(pattern.len() <= 2048, "{function}: {} characters", pattern.len());
    }
}

#[test]
fn every_functions_block_has_the_same_resources_in_the_same_order() {
    let resources = TEMPLATE.lines().skip_while(|line| *line != "Resources:");
    let ids: Vec<&str> = resources
        .take_while(|line| *line != "Outputs:")
        .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
        .filter(|id| id.starts_with(|first: char| first.is_ascii_uppercase()))
        .collect();
    let banner = |name: &str| format!("  # {}: ", name.to_lowercase());
    for function in FUNCTIONS {
        let name = capitalized(function);
        let first = ids.iter().position(|id| *id == format!("{name}Role")).expect("a role");
        for (id, suffix) in ids[first..].iter().zip(BLOCK) {
            assert_eq!(*id, format!("{name}{suffix}"));
        }
        let others = ids.iter().filter(|id| id.starts_with(&name)).count();
        assert_eq!(others, BLOCK.len(), "{name}: what is its own stands in its block");
        assert!(TEMPLATE.contains(&banner(&name)), "{name}: a banner");
    }
    let functions = ids.iter().filter_map(|id| id.strip_suffix("Function"));
    let exceptions: Vec<&str> =
        functions.filter(|name| !FUNCTIONS.contains(&&*name.to_lowercase())).collect();
    assert_eq!(exceptions, EXCEPTIONS.map(capitalized));
    for name in exceptions {
        let (_, after) = TEMPLATE.split_once(&banner(name)).expect("a banner");
        let banner: String = after.chars().take(200).collect();
        assert!(banner.contains("exception to the block"), "{name}: why it is one");
    }
}

#[test]
fn every_function_is_built_from_its_crate() {
    let resources = &template::read(TEMPLATE).expect("readable")["Resources"];
    let workspace = xtask::workspace();
    for function in FUNCTIONS.into_iter().chain(EXCEPTIONS) {
        let of = &resources[format!("{}Function", capitalized(function))];
        assert_eq!(of["Metadata"]["BuildMethod"], "rust-cargolambda", "{function}");
        assert_eq!(of["Metadata"]["BuildProperties"]["Binary"], function);
        let code = of["Properties"]["CodeUri"].as_str().expect("a path");
        assert_eq!(code, format!("target/lambda/{function}/"));
        // `base_dir` in `samconfig.toml` is where `sam build` begins.
        let built = workspace.join("infra/sam").join(code).canonicalize().expect("a link");
        let crate_ = workspace.join("functions").join(function).canonicalize().expect("a crate");
        assert_eq!(built, crate_, "infra/sam leads {code} elsewhere");
    }
}

/// The functions of which SAM would publish a version only when some of their properties change.
fn not_always_published(yaml: &str) -> Vec<&'static str> {
    let resources = &template::read(yaml).expect("readable")["Resources"];
    let of =
        |function: &str| &resources[format!("{}Function", capitalized(function))]["Properties"];
    let all = FUNCTIONS.into_iter().chain(EXCEPTIONS);
    let publishes = |function: &str| of(function)["AutoPublishAliasAllProperties"] == true;
    all.filter(|function| !publishes(function)).collect()
}

#[test]
fn whatever_changes_of_a_function_makes_a_new_version() {
    assert_eq!(not_always_published(TEMPLATE), [""; 0]);
    let without = TEMPLATE.replacen("      AutoPublishAliasAllProperties: true\n", "", 1);
    assert_eq!(not_always_published(&without), ["capacity"]);
}

/// Lambda runs this many functions at once in an account, unless it was asked for more. Source:
/// "Lambda quotas", Lambda developer guide.
const CONCURRENCY_OF_AN_ACCOUNT: u64 = 1000;

/// What the steps leave to the rest, in each environment that says how many of one step may run.
fn left_by_the_steps(samconfig: &str) -> Vec<Option<u64>> {
    let said = samconfig.lines().filter_map(|line| line.trim().strip_prefix("\"StepConcurrency="));
    said.map(|said| {
        let of_a_step: u64 = said.trim_end_matches("\",").parse().expect("a number");
        CONCURRENCY_OF_AN_ACCOUNT.checked_sub(of_a_step * FUNCTIONS.len() as u64)
    })
    .collect()
}

#[test]
fn the_steps_leave_room_for_the_api_and_the_sweeper() {
    const SAMCONFIG: &str = include_str!("../../samconfig.toml");
    let parameters = &template::read(TEMPLATE).expect("readable")["Parameters"];
    let burst = parameters["ApiBurst"]["Default"].as_u64().expect("a number");
    // As many requests at once as the API takes, beside the steps.
    let left = left_by_the_steps(SAMCONFIG);
    assert!(left.len() == 2 && left.iter().all(|left| *left >= Some(burst)), "{left:?}");
    let wide = SAMCONFIG.replace("StepConcurrency=100", "StepConcurrency=200");
    assert!(left_by_the_steps(&wide).contains(&None));
}

fn capitalized(name: &str) -> String {
    format!("{}{}", name[..1].to_uppercase(), &name[1..])
}

/// The template with one thing wrong in capacity's block, from its inbox on.
fn with(from: &str, to: &str) -> Result<Wiring, String> {
    let inbox = TEMPLATE.find("  CapacityInbox:").expect("capacity has an inbox");
    let at = TEMPLATE[inbox..].find(from).map(|at| inbox + at).or_else(|| TEMPLATE.find(from));
    let at = at.unwrap_or_else(|| panic!("nothing to replace: {from}"));
    let (before, after) = TEMPLATE.split_at(at);
    let template = format!("{before}{to}{}", &after[from.len()..]);
    Wiring::of_template(&template).map_err(|error| error.to_string())
}

#[test]
fn a_template_that_would_lose_events_is_refused_with_what_would_be_right() {
    for (from, to, why) in [
        ("Queues: [!Ref CapacityInbox, ", "Queues: [", "no queue policy lets CapacityRule send"),
        (
            "Queues: [!Ref CapacityInbox, !Ref CapacityDeadLetters]",
            "Queues: !Ref CapacityInbox",
            "CapacityDeadLetters: no queue policy",
        ),
        ("Effect: Allow", "Effect: Deny", "no queue policy"),
        ("Service: events.", "Service: sns.", "no queue policy"),
        ("sqs:SendMessage", "sqs:ReceiveMessage", "no queue policy"),
        ("rule/${Bus}/capacity", "rule/${Bus}/network", "no queue policy"),
        ("rule/${Bus}/capacity", "rule/capacity", "no queue policy"),
        (
            "Arn: !GetAtt CapacityInbox.Arn",
            "Arn: !Ref CapacityInbox",
            "`!GetAtt <Function>Inbox.Arn`",
        ),
        (
            "Arn: !GetAtt CapacityInbox.Arn",
            "Arn: !GetAtt ComputeInbox.Arn",
            "ComputeInbox: a queue",
        ),
        (
            "            Arn: !GetAtt CapacityDeadLetters.Arn",
            "            Arn: !GetAtt NetworkDeadLetters.Arn",
            "`!GetAtt CapacityDeadLetters.Arn`, where",
        ),
        (
            "deadLetterTargetArn: !GetAtt CapacityDeadLetters.Arn",
            "deadLetterTargetArn: !GetAtt Elsewhere.Arn",
            "RedrivePolicy/deadLetterTargetArn",
        ),
        ("maxReceiveCount: 5", "maxReceiveCount: 0", "a whole number, 1 to 1000"),
        ("VisibilityTimeout: 90", "VisibilityTimeout: 90s", "a whole number of seconds"),
        ("EventBusName: !Ref Bus", "EventBusName: default", "the bus of this template"),
        ("- exists: false", "- exist: false", "CapacityRule/Properties/EventPattern"),
        ("Type: AWS::Events::Rule", "Type: AWS::Events::Archive", "a rule that fills it"),
        ("Resources:", "Resource:", "a map of resources is missing"),
    ] {
        let error = with(from, to).expect_err(why);
        assert!(error.contains(why), "{from} -> {to}: {error}");
    }
}

#[test]
fn a_policy_may_also_take_the_rules_name_from_the_rule() {
    let sub =
        "!Sub arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/${Bus}/capacity";
    with(sub, "!GetAtt CapacityRule.Arn").expect("as good");
}
