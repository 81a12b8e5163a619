//! Fields, `$or` and arrays together, and what a rule's index asks of a pattern.

use eventplane_pattern::Pattern;
use serde_json::{Value, json};

fn pattern(value: Value) -> Pattern {
    Pattern::from_value(&value).expect("a pattern")
}

/// The event of "Creating Amazon EventBridge event patterns".
fn event() -> Value {
    json!({
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "account": "111122223333",
        "time": "2017-12-22T18:43:48Z",
        "region": "us-west-1",
        "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
        "detail": { "instance-id": "i-1234567890abcdef0", "state": "terminated" }
    })
}

#[test]
fn every_field_that_is_named_has_to_match() {
    let all = json!({
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": { "state": ["terminated"] }
    });
    assert!(pattern(all.clone()).matches(&event()));
    for (pointer, other) in [("/source/0", "aws.s3"), ("/detail/state/0", "running")] {
        let mut one_off = all.clone();
        *one_off.pointer_mut(pointer).expect("is there") = json!(other);
        assert!(!pattern(one_off).matches(&event()), "{pointer}");
    }
    assert!(!pattern(json!({"detail": {"colour": ["blue"]}})).matches(&event()));
    assert!(!pattern(json!({"source": {"deeper": ["aws.ec2"]}})).matches(&event()));
    assert!(!pattern(json!({"detail": ["terminated"]})).matches(&event()));
}

#[test]
fn an_array_matches_if_one_of_its_values_does() {
    let two = json!({ "resources": ["arn:a", "arn:b"] });
    assert!(pattern(json!({"resources": ["arn:x", "arn:b"]})).matches(&two));
    assert!(!pattern(json!({"resources": ["arn:x"]})).matches(&two));
    assert!(!pattern(json!({"resources": ["arn:x"]})).matches(&json!({"resources": []})));
    assert!(pattern(json!({"resources": ["arn:b"]})).matches(&json!({"resources": [["arn:b"]]})));
    assert!(pattern(json!({"resources": [{"anything-but": "arn:a"}]})).matches(&two));
}

#[test]
fn one_element_of_an_array_of_objects_has_to_match_all_that_is_asked_of_it() {
    let john = json!({"firstName": "John", "lastName": "Doe"});
    let anna = json!({"firstName": "Anna", "lastName": "Smith"});
    let peter = json!({"firstName": "Peter", "lastName": "Jones"});
    for employees in [json!([john, anna, peter]), json!([[john, anna], [peter]])] {
        let event = json!({ "employees": employees });
        let asks = |below: Value| pattern(json!({"employees": below})).matches(&event);
        assert!(asks(json!({"firstName": ["Anna"]})));
        assert!(asks(json!({"firstName": ["Anna"], "lastName": ["Smith"]})));
        assert!(!asks(json!({"firstName": ["Anna"], "lastName": ["Jones"]})));
        assert!(!asks(json!({
            "firstName": ["Anna"],
            "$or": [{"lastName": ["Jones"]}, {"lastName": ["Doe"]}]
        })));
    }
}

#[test]
fn fields_inside_and_outside_of_an_or_are_asked_of_the_same_element() {
    let asks = pattern(json!({
        "list": {"a": [1]},
        "$or": [{"list": {"b": [2]}}, {"other": [3]}]
    }));
    assert!(asks.matches(&json!({"list": [{"a": 1, "b": 2}]})));
    assert!(!asks.matches(&json!({"list": [{"a": 1}, {"b": 2}]})));
    assert!(asks.matches(&json!({"list": [{"a": 1}], "other": 3})));
}

#[test]
fn a_field_does_not_exist_in_an_array_if_no_element_has_it() {
    let asks = pattern(json!({"list": {"gone": [{"exists": false}]}}));
    assert!(asks.matches(&json!({"list": [{"a": 1}, {"b": 2}]})));
    assert!(!asks.matches(&json!({"list": [{"a": 1}, {"gone": 2}]})));
    assert!(asks.matches(&json!({"list": []})));
    assert!(asks.matches(&json!({"list": "plain"})));
    assert!(asks.matches(&json!({})));
    let with_value = pattern(json!({"list": {"a": [1], "gone": [{"exists": false}]}}));
    assert!(with_value.matches(&json!({"list": [{"a": 1}, {"a": 2, "gone": 2}]})));
    assert!(!with_value.matches(&json!({"list": [{"a": 1, "gone": 2}, {"b": 1}]})));
}

/// The example of "Or" in "Comparison operators for use in event patterns in Amazon EventBridge".
#[test]
fn or_takes_any_of_its_objects() {
    let asks = pattern(json!({
        "$or": [{"Location": ["New York"]}, {"Day": ["Monday"]}]
    }));
    assert!(asks.matches(&json!({"Location": "New York", "Day": "Friday"})));
    assert!(asks.matches(&json!({"Location": "Rome", "Day": "Monday"})));
    assert!(!asks.matches(&json!({"Location": "Rome", "Day": "Friday"})));
}

/// "Nested Or and And" in the README of Event Ruler.
#[test]
fn or_may_stand_in_or_and_beside_fields() {
    let asks = pattern(json!({
        "source": ["aws.cloudwatch"],
        "$or": [
            {"metricName": ["CPUUtilization", "ReadLatency"]},
            {
                "metricType": ["MetricType"],
                "namespace": ["AWS/EC2", "AWS/ES"],
                "$or": [{"metricId": [1234]}, {"spaceId": [1000]}]
            },
            {"scope": ["Service"]}
        ]
    }));
    let with = |more: Value| {
        let mut event = json!({"source": "aws.cloudwatch"});
        event
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().cloned().unwrap_or_default());
        asks.matches(&event)
    };
    assert!(with(json!({"metricName": "ReadLatency"})));
    assert!(with(json!({"scope": "Service"})));
    assert!(with(json!({"metricType": "MetricType", "namespace": "AWS/ES", "spaceId": 1000})));
    assert!(!with(json!({"metricType": "MetricType", "namespace": "AWS/ES"})));
    assert!(!with(json!({"metricType": "MetricType", "metricId": 1234})));
    assert!(!asks.matches(&json!({"scope": "Service"})));
}

#[test]
fn an_index_gets_the_strings_of_a_field_that_may_be_nothing_else() {
    let asks = pattern(json!({
        "source": ["eventplane.api", "eventplane.sweeper"],
        "detail-type": ["A", {"prefix": "B"}],
        "detail": {"metadata": {"tenant": ["default"]}}
    }));
    assert_eq!(asks.exact_strings("source"), Some(vec!["eventplane.api", "eventplane.sweeper"]));
    assert_eq!(asks.exact_strings("detail-type"), None);
    assert_eq!(asks.exact_strings("detail"), None);
    assert_eq!(asks.exact_strings("account"), None);
    let or = pattern(json!({"$or": [{"source": ["a"]}, {"source": ["b", "a"]}]}));
    assert_eq!(or.exact_strings("source"), Some(vec!["a", "b"]));
    let open = pattern(json!({"$or": [{"source": ["a"]}, {"region": ["b"]}]}));
    assert_eq!(open.exact_strings("source"), None);
}

#[test]
fn a_pattern_knows_whether_it_reads_the_detail() {
    assert!(!pattern(json!({"source": ["a"], "region": [{"exists": true}]})).reads_detail());
    assert!(pattern(json!({"detail": {"a": [1]}})).reads_detail());
    assert!(pattern(json!({"$or": [{"source": ["a"]}, {"detail": {"a": [1]}}]})).reads_detail());
}
