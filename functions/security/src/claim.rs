//! What the receipt holds: the document, the sealed credentials, and the audit record. The audit
//! record stays when all else is given back.

use crate::audit::{self, Entry};
use crate::document::SignedDocument;
use crate::keys::{Keys, hex, unhex};
use crate::receipt_key;
use eventplane_domain::{Identity, InstanceId, Millis, Tenant};
use eventplane_engine::{Chance, Fault, Receipt};
use eventplane_keys::{DataKey, MasterKey};
use eventplane_store::{FaultKind, Item, ItemExt, Store, StoreFault};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

pub(crate) const ROLE_OF: &str = "role_of";
pub(crate) const INSTANCE: &str = "instance";
pub(crate) const ROLE: &str = "role";
const SEALED: &str = "sealed";
const VERSION: &str = "version";
const DOCUMENT: &str = "document";
const SIGNATURE: &str = "signature";
const KEY: &str = "key";
const AUDIT: &str = "audit";
const AUDIT_HEAD: &str = "audit_head";

/// How long credentials live, in milliseconds: 12 hours, the longest session of a role in AWS
/// (which renews those of an EC2 instance). Here a generation's are not renewed; the next one gets
/// new ones.
///
/// Source: "AssumeRole" (`DurationSeconds`), STS API reference.
pub const CREDENTIALS_LIVE_MS: i64 = 12 * 3600 * 1000;

/// Credentials of a role. They are shown to nobody by accident: not in a log, not in an event.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Which credentials these are.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// Until when they are good, in milliseconds since the epoch: whoever honours them checks it.
    pub expires_at: Millis,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, hidden)", self.access_key_id)
    }
}

/// Fresh credentials, and the nonce to seal them with.
#[derive(Clone)]
pub(crate) struct Secret {
    credentials: Credentials,
    nonce: [u8; 12],
}

impl Secret {
    pub(crate) fn draw(chance: &dyn Chance, now: Millis) -> Secret {
        let (mut id, mut secret, mut nonce) = ([0; 8], [0; 20], [0; 12]);
        chance.fill(&mut id);
        chance.fill(&mut secret);
        chance.fill(&mut nonce);
        let access_key_id = format!("EPIA{}", hex(&id).to_uppercase());
        let secret_access_key = hex(&secret);
        let expires_at = now.plus(CREDENTIALS_LIVE_MS);
        Secret { credentials: Credentials { access_key_id, secret_access_key, expires_at }, nonce }
    }

    /// Sealed for one generation of one instance: nobody can pass them off as another's.
    fn seal(&self, key: &DataKey, context: &str) -> Vec<u8> {
        let plain = serde_json::to_vec(&self.credentials).expect("plain data");
        key.seal(self.nonce, context.as_bytes(), &plain)
    }
}

fn context(tenant: &Tenant, id: &InstanceId, version: u32) -> String {
    format!("{tenant}/{id}/{version}")
}

/// What is granted to a generation.
pub(crate) struct Grant<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) id: &'a InstanceId,
    pub(crate) generation: u32,
    pub(crate) document: &'a SignedDocument,
    /// The role, its fresh credentials, and the key that seals them.
    pub(crate) role: Option<(&'a str, &'a Secret, &'a DataKey)>,
}

impl Grant<'_> {
    /// The grant as a receipt's claim, with the audit record.
    pub(crate) fn claim(&self, chain: &[Entry]) -> Item {
        let mut item = with_audit(Item::new(), chain)
            .with(DOCUMENT, self.document.document.as_str())
            .with(SIGNATURE, unhex(&self.document.signature).unwrap_or_default())
            .with(KEY, self.document.key_id.as_str())
            .with(VERSION, i64::from(self.generation));
        if let Some((role, secret, key)) = self.role {
            let context = context(self.tenant, self.id, self.generation);
            item = item
                .with(ROLE, role)
                .with(ROLE_OF, self.tenant.partition(role))
                .with(INSTANCE, self.id.as_str())
                .with(SEALED, secret.seal(key, &context));
        }
        item
    }
}

/// The attributes of an audit record.
pub(crate) fn with_audit(item: Item, chain: &[Entry]) -> Item {
    let head = chain.last().map(Entry::hash).unwrap_or_default();
    item.with(AUDIT, audit::write(chain)).with(AUDIT_HEAD, unhex(&head).unwrap_or_default())
}

/// Refuses to go on from an audit record that cannot be read: a new one would hide the old.
///
/// # Errors
/// A fault: somebody has to look at the table.
pub(crate) fn check_readable(receipt: &Receipt) -> Result<(), Fault> {
    if receipt.claim.text(AUDIT).and_then(audit::read).is_some() {
        return Ok(());
    }
    let message = "the audit record in a receipt cannot be read";
    Err(StoreFault::new(FaultKind::Corrupt, message).into())
}

/// The audit record of an instance, and the hash of its newest entry: what [`crate::audit::verify`]
/// takes. What cannot be read comes back empty, which is never verified.
#[must_use]
pub fn audit_of(receipt: &Receipt) -> (Vec<Entry>, String) {
    let chain = receipt.claim.text(AUDIT).and_then(audit::read).unwrap_or_default();
    (chain, receipt.claim.bytes(AUDIT_HEAD).map(hex).unwrap_or_default())
}

/// The identity as events and hosts see it: references, never a secret.
#[must_use]
pub fn identity(receipt: &Receipt) -> Option<Identity> {
    let claim = &receipt.claim;
    let role = claim.text(ROLE).map(str::to_owned);
    let version = u32::try_from(claim.number(VERSION)?).ok()?;
    Some(Identity {
        credentials_ref: role.as_ref().map(|_| format!("credentials/{version}")),
        role,
        credentials_version: version,
        signing_key_id: claim.text(KEY)?.to_owned(),
    })
}

/// The signed document of the newest generation, while it is granted.
#[must_use]
pub fn document_of(receipt: &Receipt) -> Option<SignedDocument> {
    let text = |name| receipt.claim.text(name).map(str::to_owned);
    Some(SignedDocument {
        document: text(DOCUMENT)?,
        signature: receipt.claim.bytes(SIGNATURE).map(hex)?,
        key_id: text(KEY)?,
    })
}

/// The credentials of this generation of an instance, unsealed; none without a role, when they are
/// another generation's, or after they were revoked.
///
/// # Errors
/// A fault of the store or of the master key's keeper, or when what is stored was tampered with.
pub async fn credentials(
    store: &dyn Store,
    master: Arc<dyn MasterKey>,
    chance: Arc<dyn Chance>,
    tenant: &Tenant,
    id: &InstanceId,
    generation: u32,
) -> Result<Option<Credentials>, Fault> {
    let receipt = Receipt::read(store.get(&receipt_key(tenant, id)).await?.as_ref())?;
    let Some(receipt) = receipt else { return Ok(None) };
    let Some(sealed) = receipt.claim.bytes(SEALED) else { return Ok(None) };
    if receipt.claim.number(VERSION) != Some(i64::from(generation)) {
        return Ok(None);
    }
    let key = Keys::new(master, chance).of_tenant(store, tenant).await?;
    let corrupt = || StoreFault::new(FaultKind::Corrupt, format!("the credentials of {id}"));
    let context = context(tenant, id, generation);
    let plain = key.open(context.as_bytes(), sealed).map_err(|_| corrupt())?;
    Ok(Some(serde_json::from_slice(&plain).map_err(|_| corrupt())?))
}
