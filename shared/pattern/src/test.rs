//! What one alternative of a leaf asks of one value, and whether the value meets it.
//!
//! Source: "Comparison operators for use in event patterns in Amazon EventBridge", EventBridge
//! user guide.

use serde_json::{Number, Value};
use std::net::IpAddr;

/// Numeric matching takes values from -5.0e9 to 5.0e9, both included: "Numeric matching" in the
/// README of Event Ruler.
pub(crate) const NUMBER_MAX: f64 = 5.0e9;

/// What one alternative of a leaf asks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Text(String),
    Number(Number),
    Bool(bool),
    Null,
    Words(Words),
    Numeric(Range),
    Cidr { network: IpAddr, bits: u32 },
    Exists(bool),
    NotTexts(Vec<String>),
    NotNumbers(Vec<f64>),
    NotWords(Vec<Words>),
}

/// What an operator for strings asks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Words {
    Prefix(String),
    PrefixAnyCase(String),
    Suffix(String),
    SuffixAnyCase(String),
    AnyCase(String),
    /// The text between the wildcards, escapes resolved.
    Wildcard(Vec<String>),
}

/// A range of numbers; an end is its value, and whether the value itself belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Range {
    pub(crate) low: (f64, bool),
    pub(crate) high: (f64, bool),
}

impl Test {
    /// Whether a value that is there, no object and no array, meets it.
    pub(crate) fn meets(&self, value: &Value) -> bool {
        match self {
            Test::Text(text) => value.as_str() == Some(text),
            // As it is written: "300, 300.0, and 3.0e2 are not considered equal", EventBridge
            // user guide. The JSON reader has made one of the latter two; those are equal here.
            Test::Number(number) => value.as_number() == Some(number),
            Test::Bool(it) => value.as_bool() == Some(*it),
            Test::Null => value.is_null(),
            Test::Words(words) => value.as_str().is_some_and(|text| words.meets(text)),
            Test::Numeric(range) => value.as_f64().is_some_and(|number| range.holds(number)),
            Test::Cidr { network, bits } => {
                value.as_str().and_then(|text| text.parse().ok()).is_some_and(|address| {
                    masked(address, *bits).is_some_and(|masked| masked == *network)
                })
            }
            Test::Exists(there) => *there,
            Test::NotTexts(texts) => {
                value.as_str().is_none_or(|text| texts.iter().all(|not| not != text))
            }
            // An event's number is excluded as a number, however it is written.
            Test::NotNumbers(numbers) => {
                value.as_f64().is_none_or(|number| !numbers.contains(&number))
            }
            Test::NotWords(all) => {
                value.as_str().is_none_or(|text| all.iter().all(|words| !words.meets(text)))
            }
        }
    }
}

impl Words {
    fn meets(&self, text: &str) -> bool {
        match self {
            Words::Prefix(prefix) => text.starts_with(prefix),
            Words::Suffix(suffix) => text.ends_with(suffix),
            Words::AnyCase(other) => lower(text).eq(lower(other)),
            Words::PrefixAnyCase(prefix) => begins(lower(text), lower(prefix)),
            Words::SuffixAnyCase(suffix) => begins(lower(text).rev(), lower(suffix).rev()),
            Words::Wildcard(pieces) => wildcard(pieces, text),
        }
    }
}

impl Range {
    fn holds(&self, number: f64) -> bool {
        let above = number > self.low.0 || (self.low.1 && number == self.low.0);
        let below = number < self.high.0 || (self.high.1 && number == self.high.0);
        number.abs() <= NUMBER_MAX && above && below
    }
}

fn lower(text: &str) -> impl DoubleEndedIterator<Item = char> + '_ {
    text.chars().flat_map(char::to_lowercase)
}

fn begins(mut text: impl Iterator<Item = char>, mut with: impl Iterator<Item = char>) -> bool {
    with.all(|c| text.next() == Some(c))
}

fn wildcard(pieces: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = pieces else {
        return pieces.first().is_some_and(|whole| whole == text);
    };
    let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
    let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
    for piece in middle {
        let Some(at) = rest.find(piece.as_str()) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

/// The address with all but its first `bits` bits cleared; `None` if it has fewer.
pub(crate) fn masked(address: IpAddr, bits: u32) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let spare = 32_u32.checked_sub(bits)?;
            let mask = u32::MAX.checked_shl(spare).unwrap_or(0);
            Some(IpAddr::V4((v4.to_bits() & mask).into()))
        }
        IpAddr::V6(v6) => {
            let spare = 128_u32.checked_sub(bits)?;
            let mask = u128::MAX.checked_shl(spare).unwrap_or(0);
            Some(IpAddr::V6((v6.to_bits() & mask).into()))
        }
    }
}
