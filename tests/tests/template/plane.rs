//! An expanded template, and how its resources name each other.

use serde_json::{Map, Value};

/// An expanded template.
#[derive(Clone)]
pub(crate) struct Plane(pub(crate) Value);

impl Plane {
    pub(crate) fn new(template: Value) -> Self {
        assert!(template["Resources"].is_object(), "a template has resources");
        Plane(template)
    }

    fn resources(&self) -> &Map<String, Value> {
        self.0["Resources"].as_object().expect("checked when it was made")
    }

    /// A resource, whole; null if there is none.
    pub(crate) fn resource(&self, id: &str) -> &Value {
        self.resources().get(id).unwrap_or(&Value::Null)
    }

    /// The properties of a resource; null if there is none.
    pub(crate) fn of(&self, id: &str) -> &Value {
        &self.resource(id)["Properties"]
    }

    /// Id and properties of every resource of a type.
    pub(crate) fn all<'p>(&'p self, kind: &str) -> impl Iterator<Item = (&'p str, &'p Value)> {
        let of_kind = self.resources().iter().filter(move |(_, of)| of["Type"] == kind);
        of_kind.map(|(id, of)| (id.as_str(), &of["Properties"]))
    }

    /// Id and type of every resource, and the condition that it stands under.
    pub(crate) fn types(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        self.resources().iter().map(|(id, of)| {
            (id.as_str(), of["Type"].as_str().unwrap_or_default(), of["Condition"].as_str())
        })
    }

    /// The number that stands here, or that the parameter that stands here has by default.
    pub(crate) fn number(&self, value: &Value) -> Option<u64> {
        match value["Ref"].as_str() {
            Some(parameter) => self.0["Parameters"][parameter]["Default"].as_u64(),
            None => value.as_u64(),
        }
    }
}

/// The mapping from a step's inbox to its function, as SAM names it.
pub(crate) fn mapping_of(step: &str) -> String {
    format!("{step}FunctionInbox")
}

/// The resource whose ARN this is.
pub(crate) fn arn_of(value: &Value) -> Option<&str> {
    match value["Fn::GetAtt"].as_array()?.as_slice() {
        // A mapping has its ARN under a longer name.
        [resource, attribute] if attribute == "Arn" || attribute == "EventSourceMappingArn" => {
            resource.as_str()
        }
        _ => None,
    }
}

/// The resource that this refers to.
pub(crate) fn reference(value: &Value) -> Option<&str> {
    value["Ref"].as_str()
}

/// One value, or each of many.
pub(crate) fn each(value: &Value) -> &[Value] {
    match value {
        Value::Array(many) => many,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

/// The texts among one value or many.
pub(crate) fn texts(value: &Value) -> Vec<&str> {
    each(value).iter().filter_map(Value::as_str).collect()
}

/// A resource in words: by its name, by a path that begins with its ARN, or as it stands.
pub(crate) fn in_words(value: &Value) -> String {
    let sub = value["Fn::Sub"].as_str();
    let path =
        sub.and_then(|text| text.strip_prefix("${")).and_then(|text| text.split_once(".Arn}"));
    match (arn_of(value), path, value.as_str()) {
        (Some(resource), ..) => resource.to_owned(),
        (_, Some((resource, path)), _) => format!("{resource}{path}"),
        (.., Some(text)) => text.to_owned(),
        _ => value.to_string(),
    }
}
