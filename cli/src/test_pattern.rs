//! `test-pattern`: whether an event pattern matches an event, as EventBridge would say.

use crate::body::text_of;
use crate::problem::Problem;
use eventplane_pattern::Pattern;
use serde_json::Value;
use std::path::Path;

/// Whether the pattern in one file matches the event in the other.
pub(crate) fn matches(pattern: &Path, event: &Path) -> Result<bool, Problem> {
    let read = Pattern::parse(&text_of(pattern)?);
    let parsed = read.map_err(|error| {
        Problem::Input(format!("{} is no event pattern: {error}", pattern.display()))
    })?;
    let json: Value = serde_json::from_str(&text_of(event)?)
        .map_err(|error| Problem::Input(format!("{} is no JSON: {error}", event.display())))?;
    if !json.is_object() {
        return Err(Problem::Input(format!("{} is no event: a JSON object", event.display())));
    }
    Ok(parsed.matches(&json))
}
