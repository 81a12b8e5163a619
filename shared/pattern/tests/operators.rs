//! Every operator against values: the rows of "Comparison operators for use in event patterns in
//! Amazon EventBridge", with what each of them has to leave out.

use eventplane_pattern::Pattern;
use serde_json::{Value, json};

/// One leaf, the values that match it, and the values that do not.
fn check(leaf: Value, matching: Value, others: Value) {
    let pattern = Pattern::from_value(&json!({ "f": leaf })).expect("a pattern");
    let list = |values: Value| values.as_array().cloned().unwrap_or_default();
    for value in list(matching) {
        assert!(pattern.matches(&json!({ "f": value })), "{leaf} has to match {value}");
    }
    for value in list(others) {
        assert!(!pattern.matches(&json!({ "f": value })), "{leaf} must not match {value}");
    }
}

#[test]
fn exact_values_match_only_themselves() {
    check(json!(["Alice"]), json!(["Alice"]), json!(["alice", "Alice ", "", null, 1]));
    check(json!([""]), json!([""]), json!([null, " ", 0]));
    check(json!([null]), json!([null]), json!(["", "null", 0, false]));
    check(json!([true]), json!([true]), json!(["true", false, 1, null]));
    check(json!(["Credit", "Debit"]), json!(["Credit", "Debit"]), json!(["Cash"]));
}

#[test]
fn an_exact_number_is_the_number_as_it_is_written() {
    check(json!([300]), json!([300]), json!([300.0, 301, "300"]));
    check(json!([0.5]), json!([0.5]), json!([0, 1, "0.5"]));
}

#[test]
fn prefix_and_suffix_look_at_one_end_of_a_string() {
    check(json!([{"prefix": "us-"}]), json!(["us-east-1", "us-"]), json!(["eu-us-", "US-", 1]));
    check(json!([{"suffix": ".png"}]), json!(["a.png", ".png"]), json!(["a.PNG", ".png ", null]));
    check(
        json!([{"prefix": {"equals-ignore-case": "eventb"}}]),
        json!(["EventBridge", "EVENTB", "eventb"]),
        json!(["event", "xeventb"]),
    );
    check(
        json!([{"suffix": {"equals-ignore-case": "tBridge"}}]),
        json!(["EventBridge", "TBRIDGE"]),
        json!(["tbridges", "bridge"]),
    );
    check(json!([{"prefix": ""}]), json!(["", "x"]), json!([null, 1]));
}

#[test]
fn equals_ignore_case_compares_whole_strings_in_any_case() {
    check(json!([{"equals-ignore-case": "alice"}]), json!(["Alice", "ALICE"]), json!(["Alic", 1]));
    check(json!([{"equals-ignore-case": "ÄRGER"}]), json!(["ärger"]), json!(["arger"]));
}

#[test]
fn a_wildcard_stands_for_any_text() {
    check(
        json!([{"wildcard": "dir/*.png"}]),
        json!(["dir/a.png", "dir/.png", "dir/a/b.png"]),
        json!(["dir.png", "dir/a.pn", "x/dir/a.png", 1]),
    );
    check(json!([{"wildcard": "*/lib/*"}]), json!(["/usr/lib/x", "/lib/"]), json!(["/usr/lib"]));
    check(json!([{"wildcard": "a*a"}]), json!(["aa", "aba"]), json!(["a", "ab"]));
    check(json!([{"wildcard": "a*b*b"}]), json!(["abb", "axbxb"]), json!(["ab"]));
    check(json!([{"wildcard": "plain"}]), json!(["plain"]), json!(["plainer"]));
    check(json!([{"wildcard": "*"}]), json!(["", "x"]), json!([null]));
    check(json!([{"wildcard": r"1\*2\\*"}]), json!([r"1*2\x", r"1*2\"]), json!([r"1x2\"]));
}

#[test]
fn anything_but_matches_what_is_there_and_is_something_else() {
    let starting = json!([{"anything-but": "initializing"}]);
    check(starting, json!(["running", "", null, 5, true]), json!(["initializing"]));
    let gone = json!([{"anything-but": ["stopped", "overloaded"]}]);
    check(gone, json!(["running"]), json!(["stopped", "overloaded"]));
    check(json!([{"anything-but": 123}]), json!([124, "123"]), json!([123, 123.0]));
    check(json!([{"anything-but": [100, 200]}]), json!([300]), json!([100, 200.0]));
}

#[test]
fn anything_but_takes_the_operators_for_strings() {
    let not = |operator: &str, value: Value| json!([{"anything-but": {operator: value}}]);
    check(not("prefix", json!("us-")), json!(["eu-1", 7]), json!(["us-1"]));
    check(not("prefix", json!(["us-", "eu-"])), json!(["ap-1"]), json!(["us-1", "eu-1"]));
    check(not("suffix", json!(".png")), json!(["a.jpg"]), json!(["a.png"]));
    check(
        not("equals-ignore-case", json!("initializing")),
        json!(["running"]),
        json!(["INITIALIZING", "initializing"]),
    );
    check(not("equals-ignore-case", json!(["a", "b"])), json!(["c"]), json!(["A", "B"]));
    check(not("wildcard", json!("*/lib/*")), json!(["/usr/bin/x"]), json!(["/usr/lib/x"]));
}

#[test]
fn numeric_compares_numbers_and_nothing_else() {
    check(json!([{"numeric": ["=", 100]}]), json!([100, 100.0, 1e2]), json!([101, "100", null]));
    check(
        json!([{"numeric": [">", 10, "<=", 20]}]),
        json!([10.5, 11, 20]),
        json!([10, 20.1, "15"]),
    );
    check(json!([{"numeric": ["<", 10]}]), json!([9.9, -5e9]), json!([10, 11]));
    check(json!([{"numeric": ["<=", 10]}]), json!([10]), json!([10.1]));
    check(json!([{"numeric": [">=", 10]}]), json!([10, 5e9]), json!([9.9, 5.1e9]));
}

#[test]
fn cidr_takes_addresses_of_its_own_family() {
    check(
        json!([{"cidr": "10.0.0.0/24"}]),
        json!(["10.0.0.0", "10.0.0.255"]),
        json!(["10.0.1.0", "10.0.0", "::a00:0", "x", 10]),
    );
    check(json!([{"cidr": "10.0.0.7/32"}]), json!(["10.0.0.7"]), json!(["10.0.0.8"]));
    check(json!([{"cidr": "0.0.0.0/0"}]), json!(["1.2.3.4"]), json!(["::1"]));
    check(json!([{"cidr": "2001:db8::/32"}]), json!(["2001:db8::1"]), json!(["2001:db9::1"]));
    check(json!([{"cidr": "::/0"}]), json!(["::1", "2001:db8::1"]), json!(["1.2.3.4"]));
}

#[test]
fn exists_looks_for_a_plain_value() {
    check(
        json!([{"exists": true}]),
        json!(["x", "", null, 0, [1]]),
        json!([[], {"below": 1}, [{"below": 1}]]),
    );
    check(
        json!([{"exists": false}]),
        json!([[], {"below": 1}, [{"below": 1}]]),
        json!(["x", null, [1]]),
    );
    let absent = Pattern::parse(r#"{"f": [{"exists": false}]}"#).expect("a pattern");
    assert!(absent.matches(&json!({})));
    let present = Pattern::parse(r#"{"f": [{"exists": true}]}"#).expect("a pattern");
    assert!(!present.matches(&json!({})));
}

#[test]
fn any_alternative_of_a_leaf_is_enough() {
    check(
        json!(["x", 7, {"prefix": "a"}, {"numeric": ["<", 0]}]),
        json!(["x", 7, "ab", -1]),
        json!(["y", 8, 0]),
    );
    let or_absent = Pattern::parse(r#"{"f": ["x", {"exists": false}]}"#).expect("a pattern");
    assert!(or_absent.matches(&json!({})));
    assert!(or_absent.matches(&json!({ "f": "x" })));
    assert!(!or_absent.matches(&json!({ "f": "y" })));
}
