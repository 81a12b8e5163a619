//! The audit record: who asked, and what was granted, refused or revoked. Each entry carries the
//! hash of the one before, so that none can be changed, dropped or moved unnoticed. Whoever can
//! write the whole receipt can also write a new record: to notice that, keep a head elsewhere.

use eventplane_keys::hex;
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
    /// The function whose event asked for it, such as `eventplane.capacity`.
    pub source: String,
    /// The request that led to it: the same in all events that it led to.
    pub request: String,
    /// The role that was asked for, or whose credentials are revoked.
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

/// An entry as it is stored: without the names of its fields, for a receipt is short.
type Stored = (i64, u32, Deed, String, String, String, Option<String>, String);

/// The chain as it is stored.
pub(crate) fn write(chain: &[Entry]) -> String {
    let stored = |entry: &Entry| -> Stored {
        let Entry { at, generation, deed, tenant, source, request, role, before } = entry.clone();
        (at, generation, deed, tenant, source, request, role, before)
    };
    serde_json::to_string(&chain.iter().map(stored).collect::<Vec<_>>()).expect("plain data")
}

/// Reads what [`write`] has written; `None` when it is not that.
pub(crate) fn read(text: &str) -> Option<Vec<Entry>> {
    let entry = |stored: Stored| {
        let (at, generation, deed, tenant, source, request, role, before) = stored;
        Entry { at, generation, deed, tenant, source, request, role, before }
    };
    let stored: Vec<Stored> = serde_json::from_str(text).ok()?;
    Some(stored.into_iter().map(entry).collect())
}

/// Whether the chain is as it was written. The newest entry is vouched for by `head`, where its
/// hash is kept beside the chain. A chain without entries is broken: every answer leaves one.
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
    if before == head && !chain.is_empty() {
        Ok(())
    } else {
        Err(BrokenChain { at: chain.len().saturating_sub(1) })
    }
}
