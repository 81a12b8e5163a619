//! What a host knows of one instance: as it lies on the host's disk.

use crate::wire::InstanceKey;
use eventplane_domain::{Identity, LaunchSpec, Millis, Network, Placement, Volume};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a launch is made of, as the wanted set carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchBody {
    /// What was asked for.
    pub spec: LaunchSpec,
    /// Where it runs.
    pub placement: Placement,
    /// Its interface.
    pub network: Network,
    /// Its volumes, the root volume first.
    pub volumes: Vec<Volume>,
    /// References to its identity.
    pub identity: Identity,
}

/// What the control plane says of an instance to the host that runs it, besides its launch: answer
/// of `GET /v1/agents/{host_id}/instances/{tenant}/{instance_id}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The text that it finds when it starts.
    pub user_data: Option<String>,
    /// Its identity document.
    pub document: SignedDocument,
    /// The keys that identity documents are verified with.
    pub keys: Vec<PublicKey>,
    /// The credentials of its role, if it has one.
    pub credentials: Option<Credentials>,
}

/// An identity document with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedDocument {
    /// The document: JSON, signed byte by byte as it stands here.
    pub document: String,
    /// The signature (Ed25519, RFC 8032), 64 bytes in hex.
    pub signature: String,
    /// The key that signed it.
    pub key_id: String,
}

/// A key that identity documents are verified with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// Its id, as documents name it.
    pub key_id: String,
    /// `Ed25519`.
    pub algorithm: String,
    /// The key, 32 bytes in hex.
    pub public_key: String,
}

/// Credentials of a role, good until they expire.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The role that they speak for.
    pub role: String,
    /// Which credentials these are.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// What goes with the secret in every request.
    pub token: String,
    /// When they were made.
    pub updated_at: Millis,
    /// Until when they are good.
    pub expires_at: Millis,
}

/// All that a host knows of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceFacts {
    /// Which instance.
    #[serde(flatten)]
    pub key: InstanceKey,
    /// What its launch is made of.
    pub launch: LaunchBody,
    /// What else the control plane says of it.
    pub details: Details,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, {}, hidden)", self.role, self.access_key_id)
    }
}

/// User data holds passwords often enough: no output shows it.
impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Details")
            .field("tags", &self.tags)
            .field("user_data_bytes", &self.user_data.as_ref().map(String::len))
            .field("document", &self.document)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}
