//! Whether a queue takes what a rule sends.
//!
//! Source: "Using resource-based policies for Amazon EventBridge" (Amazon SQS permissions),
//! EventBridge user guide.

use super::arn_of;
use serde_json::Value;

/// A rule that sends.
pub(super) struct Sender<'a> {
    /// Its logical id.
    pub(super) rule: &'a str,
    /// The logical id of its bus.
    pub(super) bus: &'a str,
    /// Its own name; empty when it has none.
    pub(super) name: &'a str,
}

impl Sender<'_> {
    /// Whether the queue policy with these properties lets this rule, and no other, send to
    /// `queue`.
    pub(super) fn may_send_to(&self, queue: &str, policy: &Value) -> bool {
        let is_of_queue = one_or_many(&policy["Queues"]).any(|id| id["Ref"] == queue);
        let mut statements = one_or_many(&policy["PolicyDocument"]["Statement"]);
        is_of_queue && statements.any(|statement| self.is_allowed_by(statement, queue))
    }

    fn is_allowed_by(&self, statement: &Value, queue: &str) -> bool {
        let source = &statement["Condition"]["ArnEquals"]["aws:SourceArn"];
        statement["Effect"] == "Allow"
            && one_or_many(&statement["Principal"]["Service"]).any(|s| s == "events.amazonaws.com")
            && one_or_many(&statement["Action"]).any(|action| action == "sqs:SendMessage")
            && one_or_many(&statement["Resource"]).any(|arn| arn_of(arn) == Some(queue))
            && self.is_source(source)
    }

    /// Whether `arn` is this rule's: taken from it, or spelled out from its bus and its name.
    fn is_source(&self, arn: &Value) -> bool {
        let spelled = format!(":rule/${{{}}}/{}", self.bus, self.name);
        let sub = arn["Fn::Sub"].as_str();
        arn_of(arn) == Some(self.rule)
            || (!self.name.is_empty() && sub.is_some_and(|text| text.ends_with(&spelled)))
    }
}

fn one_or_many(value: &Value) -> impl Iterator<Item = &Value> {
    match value {
        Value::Array(many) => many.iter(),
        one => std::slice::from_ref(one).iter(),
    }
}
