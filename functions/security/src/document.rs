//! The identity document: what an instance can show of itself, signed so that anybody with the
//! published key can verify it without asking.

use crate::keys::Signing;
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use eventplane_domain::Launch;
use eventplane_events::Event;
use eventplane_keys::{hex, unhex};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The version of the document's form.
const VERSION: &str = "2026-11-24";

/// A document with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedDocument {
    /// The document: JSON, signed byte by byte as it stands here.
    pub document: String,
    /// The signature (Ed25519, RFC 8032), 64 bytes in hex.
    pub signature: String,
    /// The key that signed it.
    pub key_id: String,
}

/// Signs the document of a launch.
pub(crate) fn sign(
    event: &Event,
    launch: &Launch,
    now_ms: i64,
    signing: &Signing,
) -> SignedDocument {
    let document = json!({
        "version": VERSION,
        "instanceId": event.metadata.subject,
        "accountId": event.metadata.tenant,
        "generation": event.metadata.generation,
        "instanceType": launch.spec.instance_type,
        "imageId": launch.spec.image_id,
        "availabilityZone": launch.placement.zone,
        "host": launch.placement.host,
        "pendingTime": now_ms,
    })
    .to_string();
    let signature = hex(&signing.key.sign(document.as_bytes()).to_bytes());
    SignedDocument { document, signature, key_id: signing.id.clone() }
}

/// Whether the document was signed with the key whose public half this is (32 bytes in hex).
#[must_use]
pub fn verify(document: &SignedDocument, public_key: &str) -> bool {
    let check = || {
        let key: [u8; 32] = unhex(public_key)?.try_into().ok()?;
        let signature: [u8; 64] = unhex(&document.signature)?.try_into().ok()?;
        let key = VerifyingKey::from_bytes(&key).ok()?;
        key.verify_strict(document.document.as_bytes(), &Signature::from_bytes(&signature)).ok()
    };
    check().is_some()
}
