//! What the receipt holds: the document, the sealed secret, and the audit record. The audit
//! record stays when all else is given back.

use crate::audit::{self, Entry};
use crate::document::SignedDocument;
use crate::keys::Keys;
use crate::receipt_key;
use eventplane_domain::{Identity, InstanceId, Tenant};
use eventplane_engine::{Chance, Fault, Receipt};
use eventplane_keys::{DataKey, MasterKey, hex, unhex};
use eventplane_store::{FaultKind, Item, ItemExt, Store, StoreFault};
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

/// The secret of one generation, from which the credentials of its role are derived. Nobody is given
/// it, and no output shows it by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Root(String);

impl Root {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(hidden)")
    }
}

/// A fresh secret, and the nonce to seal it with.
#[derive(Clone)]
pub(crate) struct Secret {
    root: Root,
    nonce: [u8; 12],
}

impl Secret {
    pub(crate) fn draw(chance: &dyn Chance) -> Secret {
        let (mut root, mut nonce) = ([0; 32], [0; 12]);
        chance.fill(&mut root);
        chance.fill(&mut nonce);
        Secret { root: Root(hex(&root)), nonce }
    }

    /// Sealed for one generation of one instance: nobody can pass them off as another's.
    fn seal(&self, key: &DataKey, context: &str) -> Vec<u8> {
        key.seal(self.nonce, context.as_bytes(), self.root.0.as_bytes())
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
    /// The role, its fresh secret, and the key that seals it.
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

/// The secret of this generation in what is recorded of an instance; none without a role, when it is
/// another generation's, or after it was revoked.
pub(crate) fn root_in(
    receipt: &Receipt,
    tenant: &Tenant,
    id: &InstanceId,
    generation: u32,
    key: &DataKey,
) -> Result<Option<Root>, Fault> {
    let Some(sealed) = receipt.claim.bytes(SEALED) else { return Ok(None) };
    if receipt.claim.number(VERSION) != Some(i64::from(generation)) {
        return Ok(None);
    }
    let corrupt = || StoreFault::new(FaultKind::Corrupt, format!("the credentials of {id}"));
    let context = context(tenant, id, generation);
    let plain = key.open(context.as_bytes(), sealed).map_err(|_| corrupt())?;
    Ok(Some(Root(String::from_utf8(plain).map_err(|_| corrupt())?)))
}

/// The secret of this generation of an instance, unsealed.
///
/// # Errors
/// A fault of the store or of the master key's keeper, or when what is stored was tampered with.
pub async fn root(
    store: &dyn Store,
    master: Arc<dyn MasterKey>,
    chance: Arc<dyn Chance>,
    tenant: &Tenant,
    id: &InstanceId,
    generation: u32,
) -> Result<Option<Root>, Fault> {
    let receipt = Receipt::read(store.get(&receipt_key(tenant, id)).await?.as_ref())?;
    let Some(receipt) = receipt else { return Ok(None) };
    let key = Keys::new(master, chance).of_tenant(store, tenant).await?;
    root_in(&receipt, tenant, id, generation, &key)
}
