//! The routes that are found once are those that each rule finds for each event.

use super::route::Router;
use crate::wiring::{Inbox, Rule, Wiring};
use eventplane_events::{Entry, envelope};
use eventplane_pattern::Pattern;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const NAMES: [&str; 3] = ["A", "B", "C"];
const FUNCTIONS: [&str; 3] = ["f", "g", "h"];

fn leaf(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let one = prop::sample::select(values);
    prop_oneof![
        4 => prop::collection::vec(one.clone(), 1..3).prop_map(Value::from),
        1 => one.clone().prop_map(|text| json!([{ "prefix": text }])),
        1 => one.prop_map(|text| json!([{ "anything-but": text }])),
        1 => any::<bool>().prop_map(|there| json!([{ "exists": there }])),
    ]
}

/// A rule's pattern over the envelope's fields, some of which differ from event to event.
fn pattern() -> impl Strategy<Value = Value> {
    let field = prop_oneof![
        3 => leaf(&NAMES).prop_map(|leaf| ("detail-type", leaf)),
        2 => leaf(&["eventplane.x", "eventplane.y"]).prop_map(|leaf| ("source", leaf)),
        1 => leaf(&["1", "2"]).prop_map(|leaf| ("detail", json!({ "n": leaf }))),
        1 => leaf(&["b-1", "b-2"]).prop_map(|leaf| ("id", leaf)),
        1 => leaf(&["local"]).prop_map(|leaf| ("region", leaf)),
        1 => leaf(&["r"]).prop_map(|leaf| ("replay-name", leaf)),
        1 => (leaf(&NAMES), leaf(&["b-1"])).prop_map(|(names, ids)| {
            ("$or", json!([{ "detail-type": names }, { "id": ids }]))
        }),
    ];
    prop::collection::vec(field, 1..4).prop_map(|fields| {
        let fields: Map<String, Value> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Value::Object(fields)
    })
}

fn wiring(patterns: &[(Value, usize)]) -> Wiring {
    let inbox = |function: &&str| Inbox {
        function: (*function).to_owned(),
        visibility_timeout_ms: 1_000,
        receives_max: 5,
    };
    let rule = |(value, function): &(Value, usize)| {
        Some(Rule {
            name: "R".to_owned(),
            pattern: Pattern::from_value(value).ok()?,
            fields: value.as_object()?.keys().cloned().collect(),
            function: FUNCTIONS[*function].to_owned(),
        })
    };
    let rules = patterns.iter().filter_map(rule).collect();
    Wiring { inboxes: FUNCTIONS.iter().map(inbox).collect(), rules }
}

proptest! {
    #[test]
    fn a_route_is_what_every_rule_by_itself_says(
        patterns in prop::collection::vec((pattern(), 0..FUNCTIONS.len()), 1..5),
        events in prop::collection::vec((0..NAMES.len(), 0..3_usize, 0..3_usize, 1..3_usize), 1..8),
    ) {
        let wiring = wiring(&patterns);
        let router = Router::new(&wiring);
        for (name, source, n, id) in events {
            let entry = Entry {
                source: ["eventplane.x", "eventplane.y", "else"][source].to_owned(),
                detail_type: NAMES[name],
                detail: [r#"{"n":"1"}"#, r#"{"n":["2",3]}"#, "{}"][n].to_owned(),
            };
            let message: Arc<str> = envelope(&entry, &format!("b-{id}"), "t").into();
            let event: Value = serde_json::from_str(&message).expect("JSON");
            let mut expected: Vec<&str> = wiring.hearers(&event).collect();
            let routed = router.route(&entry, || message.clone()).map_or(vec![], |(_, to)| to);
            let mut routed: Vec<&str> = routed.iter().map(|inbox| FUNCTIONS[*inbox]).collect();
            expected.sort_unstable();
            routed.sort_unstable();
            prop_assert_eq!(routed, expected, "{:?} by {:?}", event, patterns);
        }
    }
}
