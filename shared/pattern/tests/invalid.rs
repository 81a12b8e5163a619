//! What is no event pattern, and the words that say what would be right.

use eventplane_pattern::{COMBINATIONS_MAX, DEPTH_MAX, Pattern};
use serde_json::{Value, json};

#[test]
fn what_is_no_pattern_is_told_where_and_what_would_be_right() {
    let leaf = |value: &str| format!(r#"{{"detail": {{"state": [{value}]}}}}"#);
    let limits = "from the lower to the upper limit";
    for (pattern, right) in [
        ("{".to_owned(), "an event pattern is a JSON object"),
        ("[]".to_owned(), "the pattern: an event pattern is a JSON object"),
        ("{}".to_owned(), "the pattern: an object names at least one field"),
        (r#"{"detail": {}}"#.to_owned(), "detail: an object names at least one field"),
        (r#"{"source": []}"#.to_owned(), "source: a list holds at least one value"),
        (r#"{"source": "aws.ec2"}"#.to_owned(), "source: a field is an object or a list of values"),
        (r#"{"source": null}"#.to_owned(), "write [value] for one value"),
        (leaf(r#"["x"]"#), "detail.state: a list holds strings, numbers"),
        (leaf("{}"), "detail.state: an operator is missing"),
        (leaf(r#"{"contains": "x"}"#), "no operator `contains`: it is one of `prefix`"),
        (leaf(r#"{"prefix": "a", "suffix": "b"}"#), "one object holds one operator"),
        (leaf(r#"{"prefix": 1}"#), "`prefix` takes a string, or {\"equals-ignore-case\""),
        (leaf(r#"{"suffix": {"prefix": "x"}}"#), "`suffix` takes a string, or"),
        (leaf(r#"{"equals-ignore-case": ["x"]}"#), "`equals-ignore-case` takes a string"),
        (leaf(r#"{"wildcard": "a**b"}"#), "no two `*` in a row"),
        (leaf(r#"{"wildcard": "a\\b"}"#), "a backslash stands before"),
        (leaf(r#"{"wildcard": "a\\"}"#), "a backslash stands before"),
        (leaf(r#"{"exists": "yes"}"#), "`exists` takes true or false"),
        (leaf(r#"{"anything-but": []}"#), "`anything-but` takes a string, a number"),
        (leaf(r#"{"anything-but": null}"#), "`anything-but` takes a string, a number"),
        (leaf(r#"{"anything-but": ["a", 1]}"#), "only strings or only numbers"),
        (leaf(r#"{"anything-but": {"numeric": ["=", 1]}}"#), "one of `prefix`, `suffix`"),
        (leaf(r#"{"anything-but": {"prefix": ""}}"#), "a string that is not empty"),
        (leaf(r#"{"anything-but": {"prefix": [1]}}"#), "a string, or a list of strings"),
        (leaf(r#"{"numeric": 5}"#), limits),
        (leaf(r#"{"numeric": []}"#), limits),
        (leaf(r#"{"numeric": ["<"]}"#), limits),
        (leaf(r#"{"numeric": ["!=", 5]}"#), limits),
        (leaf(r#"{"numeric": ["<", 5, ">", 1]}"#), limits),
        (leaf(r#"{"numeric": [">", 1, "<", 5, "<", 6]}"#), limits),
        (leaf(r#"{"numeric": [">", 5, "<", 5]}"#), "has to be less than the upper"),
        (leaf(r#"{"numeric": ["<", "5"]}"#), "a number from -5.0e9 to 5.0e9"),
        (leaf(r#"{"numeric": ["<", 5.1e9]}"#), "a number from -5.0e9 to 5.0e9"),
        (leaf(r#"{"cidr": "10.0.0.0"}"#), "`cidr` takes a block of addresses"),
        (leaf(r#"{"cidr": "10.0.0.0/33"}"#), "`cidr` takes a block of addresses"),
        (leaf(r#"{"cidr": "::/129"}"#), "`cidr` takes a block of addresses"),
        (leaf(r#"{"cidr": "10.0.0/8"}"#), "`cidr` takes a block of addresses"),
        (r#"{"$or": [{"a": [1]}]}"#.to_owned(), "$or: `$or` takes a list of at least 2 objects"),
        (r#"{"$or": {"a": [1]}}"#.to_owned(), "`$or` takes a list of at least 2 objects"),
        (r#"{"$or": [{"a": [1]}, 2]}"#.to_owned(), "`$or` takes a list of at least 2 objects"),
        (r#"{"$or": [{"a": [1]}, {}]}"#.to_owned(), "an object names at least one field"),
        (
            r#"{"$or": [{"numeric": [1]}, {"a": [1]}]}"#.to_owned(),
            "$or.numeric: inside `$or` no field may have an operator's name",
        ),
        (
            r#"{"a": {"b": [1], "$or": [{"b": [2]}, {"c": [3]}]}}"#.to_owned(),
            "`b` is constrained here and outside of this `$or`",
        ),
    ] {
        let error = Pattern::parse(&pattern).expect_err(&pattern).to_string();
        assert!(error.contains(right), "{pattern}\n  says: {error}\n  not:  {right}");
    }
}

#[test]
fn or_may_make_a_thousand_combinations_and_no_more() {
    let or = |alternatives: usize, field: &str| -> Value {
        (0..alternatives).map(|n| json!({ format!("{field}{n}"): [1] })).collect()
    };
    let pattern = |third: usize| json!({ "a": {"$or": or(10, "x")}, "b": {"$or": or(10, "x")}, "c": {"$or": or(third, "x")} });
    assert!(Pattern::from_value(&pattern(COMBINATIONS_MAX / 100)).is_ok());
    let error = Pattern::from_value(&pattern(COMBINATIONS_MAX / 100 + 1)).expect_err("too many");
    assert!(error.to_string().contains("at most 1000 combinations"), "{error}");
}

#[test]
fn a_pattern_is_not_deeper_than_its_limit() {
    let nested =
        |levels: usize| (1..levels).fold(json!({"a": [1]}), |below, _| json!({"a": below}));
    assert!(Pattern::from_value(&nested(DEPTH_MAX)).is_ok());
    let error = Pattern::from_value(&nested(DEPTH_MAX + 1)).expect_err("too deep").to_string();
    assert!(error.contains("at most 128 fields deep"), "{error}");
}
