//! Events, and what may be strange about them: for the reader's tests and for the functions'.

use eventplane_events::KINDS;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

/// Marks a name that stands a second time in its object once the value is text.
const TWICE: &str = "twice:";

/// The generated sample of an event, in its envelope.
pub(crate) fn sample(kind: usize) -> Value {
    let name = KINDS[kind % KINDS.len()].name;
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let file = samples.map(|folder| folder.join(format!("events/samples/{name}.json")));
    let file = file.into_iter().find(|file| file.exists()).expect("generated");
    serde_json::from_str(&std::fs::read_to_string(file).expect("a sample")).expect("JSON")
}

/// What is done to one place of an envelope.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Remove,
    Becomes(Value),
    /// A field that nobody knows stands beside it.
    Beside(String, Value),
    Twice(Value),
    /// It is nested in so many arrays.
    Nested(usize),
}

fn strange() -> impl Strategy<Value = Value> {
    let limits = [json!(i64::MIN), json!(i64::MAX), json!(u64::MAX), json!(u32::MAX), json!(1e308)];
    let small = [json!(0), json!(-1), json!(33), json!(1.5), json!(4_294_967_296_u64)];
    let texts =
        ["", "\u{0}", "\u{202e}txt", "👩‍👩‍👧", "e\u{301}", "\u{feff}", "null", "2.0", "1.", "1.99"];
    let near = ["i-1a20ada2c00abcdef", "i-1A20ADA2C00ABCDEF", "default", "a/b", "@host", "../.."];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select([&limits[..], &small[..]].concat()),
        any::<i64>().prop_map(Value::from),
        prop::sample::select([&texts[..], &near[..]].concat()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        (1..5_000_usize).prop_map(|length| json!("ä".repeat(length))),
        Just(json!([])),
        Just(json!({})),
        Just(json!([1, "a", null])),
    ]
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => Just(Change::Remove),
        4 => strange().prop_map(Change::Becomes),
        2 => ("[a-z]{1,8}", strange()).prop_map(|(name, value)| Change::Beside(name, value)),
        1 => strange().prop_map(Change::Twice),
        1 => prop::sample::select(vec![1, 100, 127, 128, 3_000]).prop_map(Change::Nested),
    ]
}

/// The paths of all that stands in an object.
fn places(value: &Value, path: &str, all: &mut Vec<(String, String)>) {
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            all.push((path.to_owned(), name.clone()));
            places(value, &format!("{path}/{name}"), all);
        }
    }
    if let Value::Array(elements) = value {
        for (index, element) in elements.iter().enumerate() {
            places(element, &format!("{path}/{index}"), all);
        }
    }
}

pub(crate) fn changed(mut message: Value, changes: &[(usize, Change)]) -> String {
    let mut nested = Vec::new();
    for (at, change) in changes {
        let mut all = Vec::new();
        places(&message, "", &mut all);
        let Some((path, name)) = all.get(at % all.len().max(1)) else { continue };
        let object = message.pointer_mut(path).and_then(Value::as_object_mut).expect("an object");
        match change.clone() {
            Change::Remove => drop(object.remove(name)),
            Change::Becomes(value) => drop(object.insert(name.clone(), value)),
            Change::Beside(other, value) => drop(object.entry(other).or_insert(value)),
            Change::Twice(value) => drop(object.insert(format!("{TWICE}{name}"), value)),
            Change::Nested(depth) => {
                let mark = format!("nested:{}", nested.len());
                let value = object.insert(name.clone(), json!(mark)).unwrap_or_default();
                nested.push((mark, format!("{}{value}{}", "[".repeat(depth), "]".repeat(depth))));
            }
        }
    }
    // What no value can hold is put into the text.
    let mut text = message.to_string().replace(&format!("\"{TWICE}"), "\"");
    for (mark, value) in nested {
        text = text.replace(&format!("\"{mark}\""), &value);
    }
    text
}
