//! Ids. Those of an instance's resources derive from its own, so that doing a thing twice names
//! the same thing.

use crate::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// An id that is not of the form it has to have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{given}` is not {right}")]
pub struct MalformedId {
    /// What was given.
    pub given: String,
    /// What would be right.
    pub right: &'static str,
}

/// An instance's id: `i-` and 17 hex digits, 11 of milliseconds and 6 random.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("pattern" = r"^i-[0-9a-f]{17}$")))]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

/// What an [`InstanceId`] looks like.
const INSTANCE_ID_FORM: &str = "an instance id: `i-` and 17 hexadecimal digits (0-9, a-f)";

impl InstanceId {
    /// The id of an instance asked for at `now`; `chance` tells those of one millisecond apart.
    #[must_use]
    pub fn new(now: Millis, chance: u64) -> Self {
        let ms = now.0.max(0) & 0xfff_ffff_ffff;
        InstanceId(format!("i-{ms:011x}{:06x}", chance & 0xff_ffff))
    }

    /// Reads an id.
    ///
    /// # Errors
    /// [`MalformedId`] when it is not `i-` and 17 hex digits in lower case.
    pub fn parse(text: &str) -> Result<Self, MalformedId> {
        let good = text.strip_prefix("i-").is_some_and(|hex| {
            hex.len() == 17 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        if good {
            Ok(InstanceId(text.to_owned()))
        } else {
            Err(MalformedId { given: text.chars().take(64).collect(), right: INSTANCE_ID_FORM })
        }
    }

    /// The id as a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 17 digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0[2..]
    }

    /// When the instance was asked for, as its id says.
    #[must_use]
    pub fn created(&self) -> Millis {
        Millis(i64::from_str_radix(&self.0[2..13], 16).unwrap_or(0))
    }

    /// The id of its network interface: `eni-` and its digits.
    #[must_use]
    pub fn interface(&self) -> String {
        format!("eni-{}", self.digits())
    }

    /// The id of its volume number `index` (0 is the root volume): `vol-`, its digits, and two
    /// digits of the number.
    #[must_use]
    pub fn volume(&self, index: usize) -> String {
        format!("vol-{}{index:02x}", self.digits())
    }
}

impl TryFrom<String> for InstanceId {
    type Error = MalformedId;
    fn try_from(text: String) -> Result<Self, MalformedId> {
        InstanceId::parse(&text)
    }
}
impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.0
    }
}
impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose instance it is: the beginning of every key. 1 to 64 letters, digits, `-` and `_`, the
/// first a letter or digit (so that no key of a tenant meets the plane's own, which begin with
/// `@`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("pattern" = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")))]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(String);

/// A host's id, chosen by whoever runs the host: 1 to 64 letters, digits, `-`, `_` and `.`, the
/// first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("pattern" = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")))]
#[serde(try_from = "String", into = "String")]
pub struct HostId(String);

fn is_name(text: &str, also: &[u8]) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
}

macro_rules! name {
    ($type:ident, $also:expr, $right:expr) => {
        impl $type {
            /// Reads a name.
            ///
            /// # Errors
            /// [`MalformedId`] when it is not of the form that the type describes.
            pub fn parse(text: &str) -> Result<Self, MalformedId> {
                if is_name(text, $also) {
                    return Ok($type(text.to_owned()));
                }
                Err(MalformedId { given: text.chars().take(64).collect(), right: $right })
            }
            /// The name as a text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $type {
            type Error = MalformedId;
            fn try_from(text: String) -> Result<Self, MalformedId> {
                $type::parse(&text)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
name!(Tenant, b"-_", "a tenant: 1 to 64 letters, digits, `-` and `_`, the first a letter or digit");
name!(
    HostId,
    b"-_.",
    "a host id: 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit"
);

impl Tenant {
    /// The only tenant of a local plane.
    #[must_use]
    pub fn local() -> Self {
        Tenant("default".to_owned())
    }
    /// The partition of one of the tenant's things, in any table: `default/i-…`.
    #[must_use]
    pub fn partition(&self, thing: impl fmt::Display) -> String {
        format!("{}/{thing}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_grows_with_time_and_tells_its_moment() {
        let early = InstanceId::new(Millis(1_795_000_000_000), u64::MAX);
        let late = InstanceId::new(Millis(1_795_000_000_001), 0);
        assert!(early < late);
        assert_eq!(early.created(), Millis(1_795_000_000_000));
        assert_eq!(InstanceId::parse(early.as_str()), Ok(early));
    }

    #[test]
    fn a_malformed_id_is_told_what_would_be_right() {
        for bad in [
            "",
            "i-",
            "i-0123",
            "I-0123456789abcdef0",
            "i-0123456789ABCDEF0",
            "x-0123456789abcdef0",
        ] {
            let error = InstanceId::parse(bad).expect_err(bad);
            assert!(error.to_string().contains("17 hexadecimal digits"), "{error}");
        }
        assert!(HostId::parse("-a").is_err());
        assert!(HostId::parse("rack1.host-2").is_ok());
        assert!(Tenant::parse("@fleet").is_err());
        assert!(Tenant::parse("a/b").is_err());
        let longest = "a".repeat(64);
        assert!(Tenant::parse(&longest).is_ok() && Tenant::parse(&(longest + "a")).is_err());
        assert!(Tenant::parse("").is_err());
    }

    #[test]
    fn what_belongs_to_an_instance_has_its_digits() {
        let id = InstanceId::parse("i-1a2b3c4d5e6f70123").expect("an id");
        assert_eq!(id.digits(), "1a2b3c4d5e6f70123");
        assert_eq!(id.interface(), "eni-1a2b3c4d5e6f70123");
        assert_eq!(
            (id.volume(0), id.volume(17)),
            ("vol-1a2b3c4d5e6f7012300".to_owned(), "vol-1a2b3c4d5e6f7012311".to_owned(),)
        );
        assert_eq!(Tenant::local().partition(&id), "default/i-1a2b3c4d5e6f70123");
        assert_eq!(
            (id.to_string(), String::from(id)),
            ("i-1a2b3c4d5e6f70123".to_owned(), "i-1a2b3c4d5e6f70123".to_owned(),)
        );
    }
}
