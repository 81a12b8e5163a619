//! A CloudFormation template, read into plain JSON.
//!
//! The short form of a function is its long form: `!Ref Bus` is `{"Ref": "Bus"}`, `!GetAtt Q.Arn` is
//! `{"Fn::GetAtt": ["Q", "Arn"]}` and any other `!Name` is `{"Fn::Name": ...}`.
//! Source: "Intrinsic function reference", CloudFormation template reference.

use super::WiringError;
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Number, Value, json};

/// Reads a template.
///
/// # Errors
/// When it is not one YAML document that JSON can express.
pub fn read(yaml: &str) -> Result<Value, WiringError> {
    let documents =
        Yaml::load_from_str(yaml).map_err(|error| WiringError::Yaml(error.to_string()))?;
    match &documents[..] {
        [document] => to_json(document),
        several => Err(WiringError::Yaml(format!("{} documents instead of one", several.len()))),
    }
}

fn to_json(node: &Yaml) -> Result<Value, WiringError> {
    match node {
        Yaml::Value(scalar) => of_scalar(scalar),
        Yaml::Sequence(nodes) => nodes.iter().map(to_json).collect(),
        Yaml::Mapping(nodes) => {
            let mut object = Map::new();
            for (name, node) in nodes {
                object.insert(name_of(name)?, to_json(node)?);
            }
            Ok(Value::Object(object))
        }
        Yaml::Tagged(tag, node) if tag.is_yaml_core_schema() => to_json(node),
        Yaml::Tagged(tag, node) => Ok(call(&tag.suffix, to_json(node)?)),
        Yaml::Alias(_) | Yaml::BadValue | Yaml::Representation(..) => {
            Err(WiringError::Yaml("a value that is neither text, number, list nor map".to_owned()))
        }
    }
}

fn of_scalar(scalar: &Scalar) -> Result<Value, WiringError> {
    Ok(match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(is) => Value::Bool(*is),
        Scalar::Integer(number) => json!(number),
        Scalar::FloatingPoint(number) => Number::from_f64(number.0)
            .map(Value::Number)
            .ok_or_else(|| WiringError::Yaml(format!("{number} is not a number of JSON")))?,
        Scalar::String(text) => json!(text),
    })
}

fn name_of(node: &Yaml) -> Result<String, WiringError> {
    match to_json(node)? {
        Value::String(name) => Ok(name),
        Value::Number(name) => Ok(name.to_string()),
        other => Err(WiringError::Yaml(format!("`{other}` cannot be a name: put it in quotes"))),
    }
}

/// The long form of the function whose short form is `!name`.
fn call(name: &str, argument: Value) -> Value {
    match (name, argument) {
        ("Ref", argument) => json!({ "Ref": argument }),
        ("Condition", argument) => json!({ "Condition": argument }),
        ("GetAtt", Value::String(path)) => {
            let (resource, attribute) = path.split_once('.').unwrap_or((&path, ""));
            json!({ "Fn::GetAtt": [resource, attribute] })
        }
        (name, argument) => {
            let mut call = Map::new();
            call.insert(format!("Fn::{name}"), argument);
            Value::Object(call)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_form_is_its_long_form() {
        let yaml = r#"
            Bus: !Ref AWS::StackName
            Queue: !GetAtt CapacityInbox.Arn
            Long: { Fn::GetAtt: [CapacityInbox, Arn] }
            Rule: !Sub arn:${AWS::Partition}:events/${Bus}
            Nested: !Join [":", [a, !Ref B, 1]]
            Version: "2012-10-17"
            Seconds: 90
            Bare: [true, ~, 1.5]
        "#;
        let expected = json!({
            "Bus": { "Ref": "AWS::StackName" },
            "Queue": { "Fn::GetAtt": ["CapacityInbox", "Arn"] },
            "Long": { "Fn::GetAtt": ["CapacityInbox", "Arn"] },
            "Rule": { "Fn::Sub": "arn:${AWS::Partition}:events/${Bus}" },
            "Nested": { "Fn::Join": [":", ["a", { "Ref": "B" }, 1]] },
            "Version": "2012-10-17",
            "Seconds": 90,
            "Bare": [true, null, 1.5],
        });
        assert_eq!(read(yaml).expect("readable"), expected);
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (yaml, why) in [
            ("a: 1\na: 2", "uplicate"),
            ("a: [1", "line"),
            ("a: 1\n---\nb: 2", "2 documents"),
            ("", "0 documents"),
            ("? [a]\n: b", "cannot be a name"),
            ("a: .inf", "not a number of JSON"),
        ] {
            let error = read(yaml).expect_err(yaml).to_string();
            assert!(error.contains(why), "{yaml}: {error}");
        }
    }
}
