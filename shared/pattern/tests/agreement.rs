//! The matcher against another one, written from the words of the documentation alone and as plainly
//! as can be: it picks one element of every array in every possible way, and asks the pattern, as it
//! is written, of what is left. What both are asked is drawn from the grammar.
//!
//! Longer: `cargo xtask fuzz`. `{"exists": false}` under an array has its cases in `structure.rs`:
//! the documentation has no words for it.

use eventplane_pattern::Pattern;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

// What is drawn: few names and few letters, so that much of it matches.

/// Names of fields that a pattern asks values of, and of those that it looks into.
const LEAVES: [&str; 4] = ["a", "b", "detail-type", "prefix"];
const OBJECTS: [&str; 3] = ["detail", "x", "y"];

fn text() -> impl Strategy<Value = String> {
    "[abAä*\\\\/.]{0,4}"
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3..4_i64).prop_map(Value::from),
        (-6..7_i64).prop_map(|half| json!(half as f64 / 2.0)),
        prop::sample::select(vec![
            json!(5_000_000_000_i64),
            json!(5_000_000_001_i64),
            json!(-5.0e9),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(-0.0),
        ]),
    ]
}

fn address() -> impl Strategy<Value = String> {
    let v4 = (9..12_u8, 0..2_u8, any::<u8>()).prop_map(|(a, b, c)| format!("{a}.{b}.0.{c}"));
    let v6 = (0..3_u16, any::<u16>()).prop_map(|(a, b)| format!("2001:{a:x}::{b:x}"));
    prop_oneof![v4, v6]
}

fn plain() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::from),
        3 => number(),
        1 => address().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn words() -> impl Strategy<Value = Value> {
    let wildcard = prop::collection::vec(r"[abA]|\*|\\\*|\\\\", 0..5).prop_map(|all| all.concat());
    prop_oneof![
        text().prop_map(|text| json!({ "prefix": text })),
        text().prop_map(|text| json!({ "suffix": text })),
        text().prop_map(|text| json!({ "prefix": { "equals-ignore-case": text } })),
        text().prop_map(|text| json!({ "suffix": { "equals-ignore-case": text } })),
        text().prop_map(|text| json!({ "equals-ignore-case": text })),
        wildcard.prop_map(|text| json!({ "wildcard": text })),
    ]
}

fn anything_but() -> impl Strategy<Value = Value> {
    let many = |name: &'static str| {
        prop::collection::vec("[abA]{1,2}", 1..3).prop_map(move |all| json!({ name: all }))
    };
    prop_oneof![
        text().prop_map(Value::from),
        number(),
        prop::collection::vec(text(), 1..4).prop_map(Value::from),
        prop::collection::vec(number(), 1..4).prop_map(Value::from),
        many("prefix"),
        many("suffix"),
        many("equals-ignore-case"),
        many("wildcard"),
    ]
    .prop_map(|but| json!({ "anything-but": but }))
}

fn numeric() -> impl Strategy<Value = Value> {
    let one = (prop::sample::select(vec!["=", "<", "<=", ">", ">="]), number());
    let low = (prop::sample::select(vec![">", ">="]), number());
    let high = (prop::sample::select(vec!["<", "<="]), number());
    prop_oneof![
        one.prop_map(|(operator, limit)| json!({ "numeric": [operator, limit] })),
        (low, high).prop_map(|((above, from), (below, to))| {
            json!({ "numeric": [above, from, below, to] })
        }),
    ]
}

fn cidr() -> impl Strategy<Value = Value> {
    (address(), 0..129_u32).prop_map(|(address, bits)| {
        let most = if address.contains(':') { 128 } else { 32 };
        json!({ "cidr": format!("{address}/{}", bits % (most + 1)) })
    })
}

fn leaf(exists: impl Strategy<Value = bool> + 'static) -> impl Strategy<Value = Value> {
    let test = prop_oneof![
        4 => plain(),
        3 => words(),
        2 => anything_but(),
        2 => numeric(),
        1 => cidr(),
        2 => exists.prop_map(|there| json!({ "exists": there })),
    ];
    prop::collection::vec(test, 1..3).prop_map(Value::from)
}

fn object(fields: Vec<(String, Value)>) -> Value {
    Value::Object(fields.into_iter().collect())
}

/// A pattern; `absence` draws whether fields may be asked to be absent.
fn pattern(absence: impl Strategy<Value = bool> + Clone + 'static) -> impl Strategy<Value = Value> {
    let leaf_field =
        (prop::sample::select(LEAVES.to_vec()), leaf(absence)).prop_map(|(n, l)| (n.to_owned(), l));
    let leaf_field = leaf_field.boxed();
    let flat = prop::collection::vec(leaf_field.clone(), 1..3).prop_map(object);
    flat.prop_recursive(3, 24, 4, move |inner| {
        let below = (prop::sample::select(OBJECTS.to_vec()), inner.clone());
        let below = below.prop_map(|(name, below)| (name.to_owned(), below));
        let or = prop::collection::vec(inner, 2..4);
        let or = or.prop_map(|all| ("$or".to_owned(), Value::from(all)));
        let field = prop_oneof![4 => leaf_field.clone(), 4 => below, 1 => or];
        prop::collection::vec(field, 1..4).prop_map(object)
    })
}

/// An event: objects, plain values and, if wanted, arrays of whatever.
fn event(with_arrays: bool) -> impl Strategy<Value = Value> {
    let names = [&LEAVES[..], &OBJECTS[..]].concat();
    plain()
        .prop_recursive(4, 32, 4, move |inner| {
            let field = (prop::sample::select(names.clone()), inner.clone());
            let field = field.prop_map(|(name, value)| (name.to_owned(), value));
            let fields = prop::collection::vec(field, 0..5).prop_map(object);
            let array = prop::collection::vec(inner, 0..3).prop_map(Value::from);
            prop_oneof![3 => fields, if with_arrays { 1 } else { 0 } => array]
        })
        .prop_map(|value| match value {
            Value::Object(_) => value,
            other => json!({ "a": other }),
        })
}

/// An event that the pattern may well match: for most fields it has a value that one of their tests
/// is made of, now and then in an array among others.
fn likely(
    pattern: &Value,
    with_arrays: bool,
    choices: &mut impl Iterator<Item = u8>,
) -> Map<String, Value> {
    let mut event = Map::new();
    for (name, asked) in pattern.as_object().into_iter().flatten() {
        let mut choose = |n: usize| choices.next().map_or(0, |choice| usize::from(choice) % n);
        let (which, skips, wraps) = (choose(8), choose(8) == 0, with_arrays && choose(4) == 0);
        let value = match asked {
            _ if skips => continue,
            Value::Array(all) if name == "$or" => {
                event.extend(likely(&all[which % all.len()], with_arrays, choices));
                continue;
            }
            Value::Array(tests) => example(&tests[which % tests.len()]),
            below => Value::Object(likely(below, with_arrays, choices)),
        };
        event.insert(name.clone(), if wraps { json!(["b", value, {}]) } else { value });
    }
    event
}

/// A value that a test is made of.
fn example(test: &Value) -> Value {
    let Some((operator, operand)) = test.as_object().and_then(|object| object.iter().next()) else {
        return test.clone();
    };
    let text = operand.get("equals-ignore-case").unwrap_or(operand).as_str().unwrap_or_default();
    match operator.as_str() {
        "prefix" => json!(format!("{text}b")),
        "suffix" => json!(format!("b{text}")),
        "equals-ignore-case" => json!(text.to_uppercase()),
        "wildcard" => json!(text.replace('*', "ab")),
        "numeric" => operand[1].clone(),
        "cidr" => json!(text.split('/').next()),
        _ => json!("A"),
    }
}

/// A pattern and an event: any, or a likely one with something of another thrown in.
fn both(
    absence: impl Strategy<Value = bool> + Clone + 'static,
    with_arrays: bool,
) -> impl Strategy<Value = (Value, Value)> {
    let choices = prop::collection::vec(any::<u8>(), 48);
    (pattern(absence), event(with_arrays), choices).prop_map(move |(pattern, event, choices)| {
        if choices[0].is_multiple_of(4) {
            return (pattern, event);
        }
        let mut mixed = likely(&pattern, with_arrays, &mut choices[1..].iter().copied());
        for (name, value) in event.as_object().into_iter().flatten().take(1) {
            mixed.entry(name.clone()).or_insert_with(|| value.clone());
        }
        (pattern, Value::Object(mixed))
    })
}

// The other matcher.

/// All that becomes of `value` when one element of each array is picked; an empty array leaves
/// nothing.
fn picks(value: &Value) -> Vec<Option<Value>> {
    match value {
        Value::Array(elements) if elements.is_empty() => vec![None],
        Value::Array(elements) => elements.iter().flat_map(picks).collect(),
        Value::Object(fields) => {
            let mut all = vec![Map::new()];
            for (name, value) in fields {
                let of_field = picks(value);
                all = all
                    .iter()
                    .flat_map(|so_far| {
                        of_field.iter().map(|picked| {
                            let mut more = so_far.clone();
                            more.extend(picked.clone().map(|picked| (name.clone(), picked)));
                            more
                        })
                    })
                    .collect();
            }
            all.into_iter().map(|fields| Some(Value::Object(fields))).collect()
        }
        plain => vec![Some(plain.clone())],
    }
}

fn agrees(pattern: &Map<String, Value>, event: Option<&Value>) -> bool {
    pattern.iter().all(|(name, asked)| match asked {
        _ if name == "$or" => {
            let mut all = asked.as_array().expect("a list").iter();
            all.any(|one| agrees(one.as_object().expect("an object"), event))
        }
        Value::Object(below) => agrees(below, event.and_then(|event| event.get(name))),
        Value::Array(tests) => {
            let value = event.and_then(|event| event.get(name)).filter(|value| !value.is_object());
            tests.iter().any(|test| meets(test, value))
        }
        other => panic!("no pattern has {other}"),
    })
}

fn meets(test: &Value, value: Option<&Value>) -> bool {
    let Some((operator, operand)) = test.as_object().and_then(|object| object.iter().next()) else {
        return value == Some(test);
    };
    let Some(value) = value else { return operator == "exists" && operand == false };
    match operator.as_str() {
        "exists" => operand == true,
        "numeric" => value.as_f64().is_some_and(|value| numeric_meets(operand, value)),
        "cidr" => value.as_str().is_some_and(|value| cidr_meets(operand, value)),
        "anything-but" => !is_excluded(operand, value),
        operator => value.as_str().is_some_and(|value| words_meet(operator, operand, value)),
    }
}

fn words_meet(operator: &str, operand: &Value, value: &str) -> bool {
    if let Some(operand) = operand.get("equals-ignore-case") {
        let operand = json!(operand.as_str().expect("text").to_lowercase());
        return words_meet(operator, &operand, &value.to_lowercase());
    }
    let operand = operand.as_str().expect("text");
    match operator {
        "prefix" => value.get(..operand.len()) == Some(operand),
        "suffix" => {
            let from = value.len().checked_sub(operand.len());
            from.is_some_and(|from| value.get(from..) == Some(operand))
        }
        "equals-ignore-case" => value.to_lowercase() == operand.to_lowercase(),
        "wildcard" => {
            let (operand, value): (Vec<char>, Vec<char>) =
                (operand.chars().collect(), value.chars().collect());
            wildcard_meets(&operand, &value)
        }
        other => panic!("there is no {other}"),
    }
}

fn wildcard_meets(operand: &[char], value: &[char]) -> bool {
    match (operand, value) {
        ([], value) => value.is_empty(),
        (['*', rest @ ..], value) => {
            (0..=value.len()).any(|skipped| wildcard_meets(rest, &value[skipped..]))
        }
        (['\\', plain, rest @ ..] | [plain, rest @ ..], [first, others @ ..]) => {
            plain == first && wildcard_meets(rest, others)
        }
        _ => false,
    }
}

fn is_excluded(operand: &Value, value: &Value) -> bool {
    match operand {
        Value::Array(all) => all.iter().any(|one| is_excluded(one, value)),
        Value::Number(_) => value.as_f64().is_some() && value.as_f64() == operand.as_f64(),
        Value::Object(operator) => {
            let (operator, operand) = operator.iter().next().expect("an operator");
            let mut all = operand.as_array().expect("a list").iter();
            value.as_str().is_some_and(|value| all.any(|one| words_meet(operator, one, value)))
        }
        other => value == other,
    }
}

fn numeric_meets(operand: &Value, value: f64) -> bool {
    let limits = operand.as_array().expect("a list").chunks(2);
    value.abs() <= 5.0e9
        && limits.into_iter().all(|limit| {
            let to = limit[1].as_f64().expect("a number");
            match limit[0].as_str().expect("an operator") {
                "=" => value == to,
                "<" => value < to,
                "<=" => value <= to,
                ">" => value > to,
                ">=" => value >= to,
                other => panic!("there is no {other}"),
            }
        })
}

fn cidr_meets(operand: &Value, value: &str) -> bool {
    let bits = |address: &str| -> Option<String> {
        match address.parse().ok()? {
            std::net::IpAddr::V4(v4) => Some(format!("{:032b}", u32::from(v4))),
            std::net::IpAddr::V6(v6) => Some(format!("{:0128b}", u128::from(v6))),
        }
    };
    let (network, length) =
        operand.as_str().and_then(|text| text.split_once('/')).expect("a block");
    let length: usize = length.parse().expect("a number");
    let network = bits(network).expect("an address");
    bits(value)
        .is_some_and(|bits| bits.len() == network.len() && bits[..length] == network[..length])
}

/// What both say of one pattern and one event; nothing if it is no pattern, as when a range is empty
/// or a field is named twice.
fn both_agree(pattern: &Value, event: &Value) -> Result<(), TestCaseError> {
    let Ok(read) = Pattern::from_value(pattern) else { return Ok(()) };
    let object = pattern.as_object().expect("an object");
    let expected = picks(event).iter().any(|picked| agrees(object, picked.as_ref()));
    prop_assert_eq!(read.matches(event), expected, "{} of {}", pattern, event);
    Ok(())
}

proptest! {
    #[test]
    fn both_agree_on_events_with_arrays((pattern, event) in both(Just(true), true)) {
        both_agree(&pattern, &event)?;
    }

    #[test]
    fn both_agree_on_what_is_absent((pattern, event) in both(any::<bool>(), false)) {
        both_agree(&pattern, &event)?;
    }

    #[test]
    fn both_agree_on_one_field(
        tests in prop::collection::vec(leaf(any::<bool>()), 8), others in prop::collection::vec(plain(), 8),
    ) {
        both_agree(&json!({ "f": tests[0] }), &json!({}))?;
        for (tests, other) in tests.iter().zip(others) {
            let examples = tests.as_array().into_iter().flatten().map(example);
            for value in examples.chain([other]) {
                both_agree(&json!({ "f": tests }), &json!({ "f": value }))?;
            }
        }
    }

    #[test]
    fn both_agree_on_wildcards(
        wildcards in prop::collection::vec(r"(a|b|\*a|\*b|\*){1,6}", 8), text in "[ab]{0,8}",
    ) {
        for wildcard in wildcards {
            both_agree(&json!({ "f": [{ "wildcard": wildcard }] }), &json!({ "f": text }))?;
        }
    }

    #[test]
    fn an_index_by_exact_strings_leaves_out_nothing_that_matches(
        (pattern, event) in both(any::<bool>(), true), other in event(true),
    ) {
        let Ok(read) = Pattern::from_value(&pattern) else { return Ok(()) };
        for name in LEAVES {
            if let (Some(strings), true) = (read.exact_strings(name), read.matches(&event)) {
                let holds = |value: &Value| value.as_str().is_some_and(|it| strings.contains(&it));
                let is_named = picks(&event[name]).iter().flatten().any(holds);
                prop_assert!(is_named, "{pattern} of {event}: {name} is one of {strings:?}");
            }
        }
        if !read.reads_detail() {
            let mut changed = event.clone();
            changed["detail"] = other;
            prop_assert_eq!(read.matches(&event), read.matches(&changed));
        }
    }
}

/// That the drawing is worth something: much is a pattern, and some of it matches.
#[test]
fn what_is_drawn_is_mostly_a_pattern_and_matches_now_and_then() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut patterns, mut matching) = (0, 0);
    for _ in 0..2_000 {
        let drawn = both(Just(true), true).new_tree(&mut runner).expect("drawn");
        let (pattern, event) = drawn.current();
        if let Ok(pattern) = Pattern::from_value(&pattern) {
            patterns += 1;
            matching += usize::from(pattern.matches(&event));
        }
    }
    assert!(patterns > 1_000 && matching > 300, "{patterns} patterns, {matching} of them match");
}
