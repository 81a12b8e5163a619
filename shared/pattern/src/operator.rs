//! Reads the operators of a leaf: `{"prefix": "eu-"}` and its kin.
//!
//! Sources: "Comparison operators for use in event patterns in Amazon EventBridge", EventBridge
//! user guide; "Ruler by Example" in the README of Event Ruler.

use crate::test::{NUMBER_MAX, Range, Test, Words, masked};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// All operators that may stand in a leaf.
pub(crate) const OPERATORS: [&str; 8] = [
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "cidr",
    "exists",
];

/// What would be right instead.
type Right = String;

/// Reads one operator with its value.
pub(crate) fn test(object: &Map<String, Value>) -> Result<Test, Right> {
    let (operator, value) = only(object)?;
    match operator {
        "prefix" | "suffix" | "equals-ignore-case" | "wildcard" => {
            words(operator, value).map(Test::Words)
        }
        "anything-but" => anything_but(value),
        "numeric" => numeric(value).map(Test::Numeric),
        "cidr" => cidr(value),
        "exists" => value
            .as_bool()
            .map(Test::Exists)
            .ok_or_else(|| "`exists` takes true or false".to_owned()),
        other => Err(format!("there is no operator `{other}`: it is one of {}", listed())),
    }
}

fn listed() -> String {
    OPERATORS.map(|operator| format!("`{operator}`")).join(", ")
}

fn only(object: &Map<String, Value>) -> Result<(&str, &Value), Right> {
    let mut entries = object.iter();
    match (entries.next(), entries.next()) {
        (Some((operator, value)), None) => Ok((operator, value)),
        (None, _) => Err(format!("an operator is missing: it is one of {}", listed())),
        _ => Err("one object holds one operator: put each into an object of its own, \
                  and any of them has to match"
            .to_owned()),
    }
}

fn words(operator: &str, value: &Value) -> Result<Words, Right> {
    match (operator, value) {
        ("prefix", Value::String(text)) => Ok(Words::Prefix(text.clone())),
        ("suffix", Value::String(text)) => Ok(Words::Suffix(text.clone())),
        ("equals-ignore-case", Value::String(text)) => Ok(Words::AnyCase(text.clone())),
        ("wildcard", Value::String(text)) => pieces(text).map(Words::Wildcard),
        ("prefix" | "suffix", Value::Object(object)) => match only(object)? {
            ("equals-ignore-case", Value::String(text)) if operator == "prefix" => {
                Ok(Words::PrefixAnyCase(text.clone()))
            }
            ("equals-ignore-case", Value::String(text)) => Ok(Words::SuffixAnyCase(text.clone())),
            _ => {
                Err(format!("`{operator}` takes a string, or {{\"equals-ignore-case\": a string}}"))
            }
        },
        ("prefix" | "suffix", _) => {
            Err(format!("`{operator}` takes a string, or {{\"equals-ignore-case\": a string}}"))
        }
        _ => Err(format!("`{operator}` takes a string")),
    }
}

/// The text between the wildcards. A backslash makes the `*` or the backslash after it plain.
fn pieces(text: &str) -> Result<Vec<String>, Right> {
    let mut pieces = vec![String::new()];
    let mut after_wildcard = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '*' if after_wildcard => {
                return Err("`wildcard` takes no two `*` in a row: one stands for any text; \
                            a plain one is written `\\*`"
                    .to_owned());
            }
            '*' => None,
            '\\' => match chars.next() {
                Some(escaped @ ('*' | '\\')) => Some(escaped),
                _ => {
                    return Err("in `wildcard` a backslash stands before `*` or another backslash"
                        .to_owned());
                }
            },
            other => Some(other),
        };
        after_wildcard = plain.is_none();
        match (plain, pieces.last_mut()) {
            (Some(c), Some(piece)) => piece.push(c),
            _ => pieces.push(String::new()),
        }
    }
    Ok(pieces)
}

fn anything_but(value: &Value) -> Result<Test, Right> {
    const TAKES: &str = "`anything-but` takes a string, a number, a list of only strings or only \
         numbers, or one of `prefix`, `suffix`, `equals-ignore-case`, `wildcard`";
    if let Value::Object(object) = value {
        let (operator, value) = only(object)?;
        if !OPERATORS[..4].contains(&operator) {
            return Err(TAKES.to_owned());
        }
        let all = listed_in(value)
            .iter()
            .map(|one| match one {
                Value::String(text) if text.is_empty() => {
                    Err(format!("`{operator}` in `anything-but` takes a string that is not empty"))
                }
                Value::String(_) => words(operator, one),
                _ => Err(format!(
                    "`{operator}` in `anything-but` takes a string, or a list of strings"
                )),
            })
            .collect::<Result<Vec<_>, _>>()?;
        return if all.is_empty() { Err(TAKES.to_owned()) } else { Ok(Test::NotWords(all)) };
    }
    let list = listed_in(value);
    let texts = || list.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>();
    let numbers = || list.iter().map(Value::as_f64).collect::<Option<_>>();
    match (list.is_empty(), texts(), numbers()) {
        (false, Some(texts), _) => Ok(Test::NotTexts(texts)),
        (false, _, Some(numbers)) => Ok(Test::NotNumbers(numbers)),
        _ => Err(TAKES.to_owned()),
    }
}

fn listed_in(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn numeric(value: &Value) -> Result<Range, Right> {
    let right = || {
        "`numeric` takes [\"=\", n], one limit such as [\"<\", n], or a range from the lower to \
         the upper limit such as [\">\", 0, \"<=\", 5]"
            .to_owned()
    };
    let low = |operator: &Value, limit| match operator.as_str() {
        Some(">") => Some((limit, false)),
        Some(">=") => Some((limit, true)),
        _ => None,
    };
    let high = |operator: &Value, limit| match operator.as_str() {
        Some("<") => Some((limit, false)),
        Some("<=") => Some((limit, true)),
        _ => None,
    };
    let unbound = (-NUMBER_MAX, true);
    let end = (NUMBER_MAX, true);
    match value.as_array().map_or(&[][..], Vec::as_slice) {
        [operator, limit] => {
            let limit = number(limit)?;
            if operator.as_str() == Some("=") {
                return Ok(Range { low: (limit, true), high: (limit, true) });
            }
            let above = low(operator, limit).map(|low| Range { low, high: end });
            above
                .or_else(|| high(operator, limit).map(|high| Range { low: unbound, high }))
                .ok_or_else(right)
        }
        [above, bottom, below, top] => {
            let (bottom, top) = (number(bottom)?, number(top)?);
            let low = low(above, bottom).ok_or_else(right)?;
            let high = high(below, top).ok_or_else(right)?;
            if bottom >= top {
                return Err("the lower limit of `numeric` has to be less than the upper".to_owned());
            }
            Ok(Range { low, high })
        }
        _ => Err(right()),
    }
}

fn number(value: &Value) -> Result<f64, Right> {
    let number = value.as_f64().filter(|number| number.abs() <= NUMBER_MAX);
    number.ok_or_else(|| "a limit of `numeric` is a number from -5.0e9 to 5.0e9".to_owned())
}

fn cidr(value: &Value) -> Result<Test, Right> {
    let right = || {
        "`cidr` takes a block of addresses such as \"10.0.0.0/24\" or \"2001:db8::/32\"".to_owned()
    };
    let (address, bits) = value.as_str().and_then(|text| text.split_once('/')).ok_or_else(right)?;
    let address: IpAddr = address.parse().map_err(|_| right())?;
    let bits: u32 = bits.parse().map_err(|_| right())?;
    let network = masked(address, bits).ok_or_else(right)?;
    Ok(Test::Cidr { network, bits })
}
