//! Event patterns as EventBridge reads them: which events a rule hears.
//!
//! Sources, in the EventBridge user guide: "Creating Amazon EventBridge event patterns",
//! "Comparison operators for use in event patterns in Amazon EventBridge", "Matching events on
//! null values and empty strings in Amazon EventBridge", "Arrays in Amazon EventBridge event
//! patterns"; for what holds in arrays of objects, "JSON Array Matching" in the README of Event
//! Ruler, the library that EventBridge is built on. Where EventBridge takes a pattern that does
//! something else than it says, this reader refuses it: a pattern read here works there.

mod error;
mod operator;
mod parse;
mod test;
mod tree;

pub use error::PatternError;
pub use parse::{COMBINATIONS_MAX, DEPTH_MAX};

use serde_json::Value;
use test::Test;
use tree::Node;

/// An event pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// The pattern without its `$or`: an event matches if it matches one of these. Spelled out
    /// so that fields inside and outside of a `$or` are asked of the same element of an array.
    any: Vec<Node>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is not JSON, or not an event pattern: the error says where, and what would be right.
    pub fn parse(json: &str) -> Result<Pattern, PatternError> {
        Pattern::from_value(&serde_json::from_str(json)?)
    }

    /// Reads a pattern from JSON that is already read.
    ///
    /// # Errors
    /// It is not an event pattern: the error says where, and what would be right.
    pub fn from_value(value: &Value) -> Result<Pattern, PatternError> {
        parse::pattern(value).map(|any| Pattern { any })
    }

    /// Whether the event, in its whole envelope, matches.
    #[must_use]
    pub fn matches(&self, event: &Value) -> bool {
        self.any.iter().any(|node| node.matches(event))
    }

    /// The strings that the top-level field may be, if it may be nothing else: an index of rules
    /// by `detail-type` and `source` is made of these.
    #[must_use]
    pub fn exact_strings(&self, field: &str) -> Option<Vec<&str>> {
        let mut all = Vec::new();
        for node in &self.any {
            let field = node.fields.iter().find(|other| other.name == field)?;
            for test in field.leaf.as_ref()? {
                let Test::Text(text) = test else { return None };
                if !all.contains(&text.as_str()) {
                    all.push(text.as_str());
                }
            }
        }
        Some(all)
    }

    /// Whether the answer depends on the event's `detail`.
    #[must_use]
    pub fn reads_detail(&self) -> bool {
        self.any.iter().any(|node| node.fields.iter().any(|field| field.name == "detail"))
    }
}
