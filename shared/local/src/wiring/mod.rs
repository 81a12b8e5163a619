//! Who hears what: the inboxes and rules of `template.yaml`, read the way AWS would deploy them.
//!
//! Reading is as strict as the bus is silent: a rule whose queue has no policy, or whose dead
//! letters are another's, deploys well and loses events. Here it is an error.

mod policy;
pub mod template;

use eventplane_pattern::{Pattern, PatternError};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use thiserror::Error;

/// The template that is built into the binary.
const TEMPLATE: &str = include_str!("../../../../template.yaml");

/// What the logical id of a function's inbox ends with; before it stands the function's name.
const INBOX: &str = "Inbox";

/// Of a queue that names none.
///
/// Source: "`AWS::SQS::Queue`", CloudFormation template reference.
const VISIBILITY_TIMEOUT_DEFAULT_S: u64 = 30;

/// Why a template does not say who hears what.
#[derive(Debug, Error)]
pub enum WiringError {
    /// It is not YAML, or not what JSON can express.
    #[error("not a template in YAML: {0}")]
    Yaml(String),
    /// Something stands at `at` that does not deliver, or nothing stands there.
    #[error("{at}: {expected}")]
    Wrong {
        /// The path in the template.
        at: String,
        /// What would be right.
        expected: String,
    },
    /// A rule's pattern is not one.
    #[error("{rule}/Properties/EventPattern: {cause}")]
    Pattern {
        /// The rule's logical id.
        rule: String,
        /// What is wrong with it.
        #[source]
        cause: PatternError,
    },
}

/// A function's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    /// The function that it belongs to.
    pub function: String,
    /// How long a message that is being handled is hidden from others, in milliseconds.
    pub visibility_timeout_ms: u64,
    /// How often a message is received before it becomes a dead letter.
    pub receives_max: u32,
}

/// A rule: events that match its pattern go to the inbox of its function.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its logical id.
    pub name: String,
    /// What it matches.
    pub pattern: Pattern,
    /// The pattern's fields at the top of the envelope.
    pub fields: Vec<String>,
    /// The function whose inbox is its target.
    pub function: String,
}

/// The inboxes and rules of a template, in the order of their names, without those of replays.
#[derive(Debug, Clone)]
pub struct Wiring {
    /// Of every function that hears events.
    pub inboxes: Vec<Inbox>,
    /// Of the bus.
    pub rules: Vec<Rule>,
}

impl Wiring {
    /// The wiring of the template that is built into the binary.
    ///
    /// # Panics
    /// When that template has none: a test reads it, so it cannot come to that.
    #[must_use]
    pub fn built_in() -> Wiring {
        Wiring::of_template(TEMPLATE).unwrap_or_else(|error| panic!("template.yaml: {error}"))
    }

    /// Reads the wiring of a template.
    ///
    /// # Errors
    /// When an event could get lost in it: [`WiringError`] says where, and what would be right.
    pub fn of_template(yaml: &str) -> Result<Wiring, WiringError> {
        let document = template::read(yaml)?;
        let resources = Resources::of(&document)?;
        let mut inboxes = resources
            .of_type("AWS::SQS::Queue")
            .filter_map(|(id, queue)| Some((id, id.strip_suffix(INBOX)?, queue)))
            .map(|(id, function, queue)| inbox(id, function, queue))
            .collect::<Result<Vec<_>, _>>()?;
        let (mut rules, mut of_replays) = (Vec::new(), BTreeSet::new());
        for (id, properties) in resources.of_type("AWS::Events::Rule") {
            let rule = rule(&resources, id, properties)?;
            if properties["EventPattern"]["replay-name"] == json!([{ "exists": true }]) {
                of_replays.insert(rule.function);
            } else {
                rules.push(rule);
            }
        }
        // Here nothing is replayed onto the bus, so nobody waits for it.
        inboxes.retain(|inbox| !of_replays.contains(&inbox.function));
        for inbox in &inboxes {
            if !rules.iter().any(|rule| rule.function == inbox.function) {
                return Err(wrong(&inbox.function, "its inbox needs a rule that fills it"));
            }
        }
        Ok(Wiring { inboxes, rules })
    }

    /// The functions that hear `envelope`, an event in its envelope: one for each rule that
    /// matches.
    pub fn hearers<'w>(&'w self, envelope: &'w Value) -> impl Iterator<Item = &'w str> {
        let matching = self.rules.iter().filter(|rule| rule.pattern.matches(envelope));
        matching.map(|rule| rule.function.as_str())
    }
}

/// The resources of a template, by logical id.
struct Resources<'t>(&'t Map<String, Value>);

impl<'t> Resources<'t> {
    fn of(template: &'t Value) -> Result<Self, WiringError> {
        let resources = template.get("Resources").and_then(Value::as_object);
        resources.map(Resources).ok_or_else(|| wrong("Resources", "a map of resources is missing"))
    }

    /// Ids and properties of the resources of one type.
    fn of_type(&self, kind: &str) -> impl Iterator<Item = (&'t str, &'t Value)> {
        let of_kind = self.0.iter().filter(move |(_, resource)| resource["Type"] == kind);
        of_kind.map(|(id, resource)| (id.as_str(), &resource["Properties"]))
    }

    fn properties(&self, id: &str, kind: &str) -> Option<&'t Value> {
        self.0.get(id).filter(|resource| resource["Type"] == kind).map(|of| &of["Properties"])
    }
}

fn inbox(id: &str, function: &str, queue: &Value) -> Result<Inbox, WiringError> {
    let at = |property: &str| format!("{id}/Properties/{property}");
    let timeout_s = match &queue["VisibilityTimeout"] {
        Value::Null => Some(VISIBILITY_TIMEOUT_DEFAULT_S),
        seconds => seconds.as_u64(),
    };
    let timeout_s = timeout_s
        .filter(|seconds| (1..=43_200).contains(seconds))
        .ok_or_else(|| wrong(at("VisibilityTimeout"), "a whole number of seconds, 1 to 43200"))?;
    let receives_max = queue["RedrivePolicy"]["maxReceiveCount"].as_u64();
    let receives_max = receives_max
        .and_then(|receives| u32::try_from(receives).ok())
        .filter(|receives| (1..=1000).contains(receives))
        .ok_or_else(|| wrong(at("RedrivePolicy/maxReceiveCount"), "a whole number, 1 to 1000"))?;
    Ok(Inbox {
        function: function.to_lowercase(),
        visibility_timeout_ms: timeout_s * 1000,
        receives_max,
    })
}

fn rule(resources: &Resources, id: &str, properties: &Value) -> Result<Rule, WiringError> {
    let at = |property: &str| format!("{id}/Properties/{property}");
    let bus = properties["EventBusName"]["Ref"].as_str().unwrap_or_default();
    if resources.properties(bus, "AWS::Events::EventBus").is_none() {
        return Err(wrong(at("EventBusName"), "`!Ref` and the bus of this template"));
    }
    let pattern = Pattern::from_value(&properties["EventPattern"])
        .map_err(|cause| WiringError::Pattern { rule: id.to_owned(), cause })?;
    let fields = properties["EventPattern"].as_object().into_iter().flat_map(Map::keys);
    let [target] = properties["Targets"].as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(wrong(at("Targets"), "exactly one target: the inbox of one function"));
    };
    let inbox = arn_of(&target["Arn"]).unwrap_or_default();
    let Some(function) = inbox.strip_suffix(INBOX) else {
        return Err(wrong(at("Targets/0/Arn"), "`!GetAtt <Function>Inbox.Arn`"));
    };
    let Some(queue) = resources.properties(inbox, "AWS::SQS::Queue") else {
        return Err(wrong(inbox, "a queue of this name is missing"));
    };
    let letters = arn_of(&queue["RedrivePolicy"]["deadLetterTargetArn"]).unwrap_or_default();
    if resources.properties(letters, "AWS::SQS::Queue").is_none() {
        let at = format!("{inbox}/Properties/RedrivePolicy/deadLetterTargetArn");
        return Err(wrong(at, "`!GetAtt <Function>DeadLetters.Arn`, a queue of this template"));
    }
    if arn_of(&target["DeadLetterConfig"]["Arn"]) != Some(letters) {
        let expected = format!("`!GetAtt {letters}.Arn`, where the inbox's dead letters go too");
        return Err(wrong(at("Targets/0/DeadLetterConfig/Arn"), expected));
    }
    let name = properties["Name"].as_str().unwrap_or_default();
    for queue in [inbox, letters] {
        let sender = policy::Sender { rule: id, bus, name };
        if !resources.of_type("AWS::SQS::QueuePolicy").any(|(_, p)| sender.may_send_to(queue, p)) {
            let expected = format!("no queue policy lets {id} send to it, so its events vanish");
            return Err(wrong(queue, expected));
        }
    }
    Ok(Rule {
        name: id.to_owned(),
        pattern,
        fields: fields.cloned().collect(),
        function: function.to_lowercase(),
    })
}

/// The resource whose ARN `value` is.
fn arn_of(value: &Value) -> Option<&str> {
    match value["Fn::GetAtt"].as_array()?.as_slice() {
        [resource, attribute] if attribute == "Arn" => resource.as_str(),
        _ => None,
    }
}

fn wrong(at: impl Into<String>, expected: impl Into<String>) -> WiringError {
    WiringError::Wrong { at: at.into(), expected: expected.into() }
}
