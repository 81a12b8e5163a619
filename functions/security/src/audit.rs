//! The audit record: who asked, and what was granted, refused or revoked. Each entry carries the
//! hash of the one before, so that none can be changed, dropped or moved unnoticed.

use crate::keys::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The hash before the first entry.
const BEGINNING: &str = "";

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Deed {
    Granted,
    Refused,
    Revoked,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in milliseconds since the epoch.
    pub at: i64,
    /// For which generation.
    pub generation: u32,
    /// What.
    pub deed: Deed,
    /// Whose request it was.
    pub tenant: String,
    /// The request that led to it: the same in all events that it led to.
    pub request: String,
    /// The role that the credentials are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The hash of the entry before; empty for the first.
    pub before: String,
}

/// An entry that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "entry {at} does not follow from what is before it: an entry was changed, dropped or moved"
)]
pub struct BrokenChain {
    /// Its place, from 0.
    pub at: usize,
}

impl Entry {
    /// The hash that the next entry carries.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(serde_json::to_vec(self).expect("plain data")))
    }
}

/// Appends an entry: its `before` is set here.
pub(crate) fn append(chain: &mut Vec<Entry>, entry: Entry) {
    let before = chain.last().map_or_else(|| BEGINNING.to_owned(), Entry::hash);
    chain.push(Entry { before, ..entry });
}

/// Whether the chain is as it was written. The newest entry is vouched for by `head`, where its
/// hash is kept beside the chain.
///
/// # Errors
/// The first entry that does not fit.
pub fn verify(chain: &[Entry], head: &str) -> Result<(), BrokenChain> {
    let mut before = BEGINNING.to_owned();
    for (at, entry) in chain.iter().enumerate() {
        if entry.before != before {
            return Err(BrokenChain { at });
        }
        before = entry.hash();
    }
    if before == head { Ok(()) } else { Err(BrokenChain { at: chain.len().saturating_sub(1) }) }
}
