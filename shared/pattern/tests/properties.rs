//! What holds for any JSON.

use eventplane_pattern::Pattern;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn plain() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(|number: f64| json!(number)),
        "[a-z*/\\\\.:0-9äÄ-]{0,12}".prop_map(Value::from),
    ]
}

/// Names that mean something in a pattern, and others.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]",
        prop::sample::select(vec![
            "$or",
            "prefix",
            "suffix",
            "equals-ignore-case",
            "wildcard",
            "anything-but",
            "numeric",
            "cidr",
            "exists",
            "detail",
        ])
        .prop_map(str::to_owned),
    ]
}

fn nested(name: impl Strategy<Value = String> + Clone + 'static) -> impl Strategy<Value = Value> {
    plain().prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// An event of objects and plain values only.
fn event() -> impl Strategy<Value = Value> {
    let object = |inner: BoxedStrategy<Value>| {
        prop::collection::btree_map("[a-f]{1,3}", inner, 1..4)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
    };
    object(plain().prop_recursive(4, 32, 4, move |inner| object(inner.boxed())).boxed())
}

/// The pattern that asks for exactly what the event holds.
fn exact(event: &Value) -> Value {
    match event {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), exact(value)))
            .collect::<Map<_, _>>()
            .into(),
        plain => json!([plain]),
    }
}

proptest! {
    #[test]
    fn reading_never_panics_and_what_is_read_never_panics(
        pattern in nested(name().boxed()), event in nested(name().boxed()),
    ) {
        if let Ok(pattern) = Pattern::from_value(&pattern) {
            let matches = pattern.matches(&event);
            prop_assert_eq!(matches, pattern.matches(&event));
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error_with_words(text in "[\\[\\]{}\",:a-z0-9$ ]{0,40}") {
        if let Err(error) = Pattern::parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn the_exact_pattern_of_an_event_matches_it(event in event()) {
        let pattern = Pattern::from_value(&exact(&event)).expect("a pattern");
        prop_assert!(pattern.matches(&event));
        let nothing = json!({});
        prop_assert!(!pattern.matches(&nothing));
    }

    #[test]
    fn anything_but_a_string_is_the_opposite_of_the_string(a in "[ab]{0,3}", b in "[ab]{0,3}") {
        let event = json!({ "f": b });
        let is = Pattern::from_value(&json!({ "f": [a] })).expect("a pattern");
        let not = Pattern::from_value(&json!({ "f": [{"anything-but": a}] })).expect("a pattern");
        prop_assert_ne!(is.matches(&event), not.matches(&event));
    }

    #[test]
    fn a_wildcard_finds_the_ends_that_it_was_made_of(
        head in "[a-z]{0,4}", middle in "[a-z]{0,6}", tail in "[a-z]{0,4}",
    ) {
        let pattern = json!({ "f": [{"wildcard": format!("{head}*{tail}")}] });
        let pattern = Pattern::from_value(&pattern).expect("a pattern");
        let event = json!({ "f": format!("{head}{middle}{tail}") });
        prop_assert!(pattern.matches(&event));
    }
}
