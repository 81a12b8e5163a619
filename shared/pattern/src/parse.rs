//! Reads a pattern's shape: objects, leaves, and `$or`.

use crate::error::PatternError;
use crate::operator::{self, OPERATORS};
use crate::test::Test;
use crate::tree::{Field, Node};
use serde_json::{Map, Value};

/// How many combinations the `$or` of a pattern may make: each `$or` multiplies them by its
/// alternatives, and reading and matching cost as much.
pub const COMBINATIONS_MAX: usize = 1000;

/// How deep a pattern may go: as deep as this workspace's JSON reader follows a text.
pub const DEPTH_MAX: usize = 128;

const OR: &str = "$or";

/// A pattern as the conjunctions of which an event has to meet one.
pub(crate) fn pattern(value: &Value) -> Result<Vec<Node>, PatternError> {
    let mut path = Vec::new();
    match value {
        Value::Object(object) => conjunctions(object, &mut path, false),
        _ => Err(at(&path, "an event pattern is a JSON object")),
    }
}

fn at(path: &[&str], right: impl Into<String>) -> PatternError {
    let path = if path.is_empty() { "the pattern".to_owned() } else { path.join(".") };
    PatternError::Invalid { path, right: right.into() }
}

fn conjunctions<'a>(
    object: &'a Map<String, Value>,
    path: &mut Vec<&'a str>,
    in_or: bool,
) -> Result<Vec<Node>, PatternError> {
    if object.is_empty() {
        return Err(at(path, "an object names at least one field: an empty one is not allowed"));
    }
    let mut all = vec![Node::default()];
    for (name, value) in object {
        path.push(name);
        if path.len() > DEPTH_MAX {
            return Err(at(&path[..4], format!("a pattern is at most {DEPTH_MAX} fields deep")));
        }
        let alternatives = match value {
            _ if name == OR => or(value, path)?,
            _ if in_or && OPERATORS.contains(&name.as_str()) => {
                let right = format!(
                    "inside `$or` no field may have an operator's name; an operator stands in the list of a field: {{\"field\": [{{\"{name}\": …}}]}}"
                );
                return Err(at(path, right));
            }
            Value::Object(below) => conjunctions(below, path, in_or)?
                .into_iter()
                .map(|below| field(name, None, Some(below)))
                .collect(),
            Value::Array(list) => vec![field(name, Some(leaf(list, path)?), None)],
            _ => {
                return Err(at(
                    path,
                    "a field is an object or a list of values: write [value] for one value",
                ));
            }
        };
        all = both(&all, &alternatives, path)?;
        path.pop();
    }
    Ok(all)
}

fn field(name: &str, leaf: Option<Vec<Test>>, below: Option<Node>) -> Node {
    Node { fields: vec![Field { name: name.to_owned(), leaf, below }] }
}

fn both(all: &[Node], alternatives: &[Node], path: &[&str]) -> Result<Vec<Node>, PatternError> {
    if all.len().saturating_mul(alternatives.len()) > COMBINATIONS_MAX {
        let right = format!("`$or` may make at most {COMBINATIONS_MAX} combinations");
        return Err(at(path, right));
    }
    let mut combined = Vec::with_capacity(all.len() * alternatives.len());
    for one in all {
        for other in alternatives {
            let both = one.clone().and(other).map_err(|twice| {
                let right = format!("`{twice}` is constrained here and outside of this `$or`: EventBridge keeps only one of both, so constrain it in one place");
                at(path, right)
            })?;
            combined.push(both);
        }
    }
    Ok(combined)
}

fn or<'a>(value: &'a Value, path: &mut Vec<&'a str>) -> Result<Vec<Node>, PatternError> {
    let right = "`$or` takes a list of at least 2 objects";
    let list = value.as_array().filter(|list| list.len() >= 2).ok_or_else(|| at(path, right))?;
    let mut all = Vec::new();
    for alternative in list {
        let object = alternative.as_object().ok_or_else(|| at(path, right))?;
        all.extend(conjunctions(object, path, true)?);
    }
    Ok(all)
}

fn leaf(list: &[Value], path: &[&str]) -> Result<Vec<Test>, PatternError> {
    if list.is_empty() {
        return Err(at(path, "a list holds at least one value: an empty one matches nothing"));
    }
    list.iter()
        .map(|value| match value {
            Value::String(text) => Ok(Test::Text(text.clone())),
            Value::Number(number) => Ok(Test::Number(number.clone())),
            Value::Bool(it) => Ok(Test::Bool(*it)),
            Value::Null => Ok(Test::Null),
            Value::Object(object) => operator::test(object).map_err(|right| at(path, right)),
            Value::Array(_) => Err(at(
                path,
                "a list holds strings, numbers, true, false, null and operators, and no lists",
            )),
        })
        .collect()
}
