//! One conjunction of a pattern: the fields that an event must have, in the event's own shape.

use crate::test::Test;
use serde_json::Value;

/// What an object must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Node {
    pub(crate) fields: Vec<Field>,
}

/// What one field must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// Alternatives for the value.
    pub(crate) leaf: Option<Vec<Test>>,
    /// What the object below it must hold.
    pub(crate) below: Option<Node>,
}

impl Node {
    /// Both conjunctions at once.
    ///
    /// # Errors
    /// The path of a field whose values are constrained by both.
    pub(crate) fn and(mut self, other: &Node) -> Result<Node, String> {
        for theirs in &other.fields {
            let Some(ours) = self.fields.iter_mut().find(|ours| ours.name == theirs.name) else {
                self.fields.push(theirs.clone());
                continue;
            };
            match (&ours.leaf, &theirs.leaf) {
                (Some(_), Some(_)) => return Err(ours.name.clone()),
                (None, Some(tests)) => ours.leaf = Some(tests.clone()),
                (_, None) => {}
            }
            ours.below = match (ours.below.take(), &theirs.below) {
                (Some(a), Some(b)) => {
                    Some(a.and(b).map_err(|path| format!("{}.{path}", ours.name))?)
                }
                (a, b) => a.or_else(|| b.clone()),
            };
        }
        Ok(self)
    }

    /// Whether the event meets it.
    pub(crate) fn matches(&self, event: &Value) -> bool {
        self.meets(event, true)
    }

    /// `absence`: whether `{"exists": false}` counts. In an array of objects one element has to
    /// meet all that is asked; that a field does not exist is true only of all elements.
    fn meets(&self, value: &Value, absence: bool) -> bool {
        match value {
            Value::Object(object) => {
                self.fields.iter().all(|field| field.meets(object.get(&field.name), absence))
            }
            Value::Array(elements) if self.asks_only_absence() => {
                (absence && elements.iter().all(|element| self.meets(element, true)))
                    || elements.iter().any(|element| self.meets(element, false))
            }
            Value::Array(elements) => elements.iter().any(|element| self.meets(element, absence)),
            _ => absence && self.asks_only_absence(),
        }
    }

    /// Whether an event without any of its fields meets it.
    fn asks_only_absence(&self) -> bool {
        self.fields.iter().all(|field| field.meets(None, true))
    }
}

impl Field {
    fn meets(&self, value: Option<&Value>, absence: bool) -> bool {
        let leaf = self.leaf.as_ref().is_none_or(|tests| match value.and_then(|v| any(tests, v)) {
            Some(met) => met,
            None => absence && tests.contains(&Test::Exists(false)),
        });
        leaf && self.below.as_ref().is_none_or(|node| match value {
            Some(value) => node.meets(value, absence),
            None => absence && node.asks_only_absence(),
        })
    }
}

/// Whether any plain value in `value` meets any of the tests; `None` if there is no plain value:
/// an object is no leaf, and an empty array holds none.
fn any(tests: &[Test], value: &Value) -> Option<bool> {
    match value {
        Value::Object(_) => None,
        Value::Array(elements) => elements
            .iter()
            .filter_map(|element| any(tests, element))
            .fold(None, |met, this| Some(met.unwrap_or(false) || this)),
        plain => Some(tests.iter().any(|test| test.meets(plain))),
    }
}
