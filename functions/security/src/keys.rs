//! The step's own keys: one that signs, and one per tenant that seals. Each is kept wrapped by the
//! master key, made when it is first needed, and unwrapped once per process.

use crate::TABLE;
use ed25519_dalek::SigningKey;
use eventplane_domain::Tenant;
use eventplane_engine::{Chance, Fault};
use eventplane_keys::{DataKey, MasterKey, hex};
use eventplane_store::{
    Condition, FaultKind, Item, ItemExt, Key, Store, StoreFault, TransactError, Write,
};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

const WRAPPED: &str = "wrapped";
const PUBLIC: &str = "public";
/// What the signing key is wrapped for.
const SIGNING_CONTEXT: &str = "eventplane/security/signing";

/// The key that signs, with its id.
#[derive(Clone)]
pub(crate) struct Signing {
    pub(crate) id: String,
    pub(crate) key: SigningKey,
}

impl Signing {
    /// Its public half.
    pub(crate) fn published(&self) -> PublishedKey {
        let public_key = hex(self.key.verifying_key().as_bytes());
        PublishedKey { key_id: self.id.clone(), algorithm: ALGORITHM, public_key }
    }
}

/// What the plane signs with.
const ALGORITHM: &str = "Ed25519";

/// A public key, for whoever verifies a document or a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishedKey {
    /// Its id, as documents name it.
    pub key_id: String,
    /// `Ed25519`.
    pub algorithm: &'static str,
    /// The key, 32 bytes in hex.
    pub public_key: String,
}

fn signing_item() -> Key {
    Key::new(TABLE.name, "@keys", "signing")
}
fn tenant_item(tenant: &Tenant) -> Key {
    Key::new(TABLE.name, tenant.partition("key"), "key")
}

/// The id of a signing key: the beginning of its public key.
fn key_id(key: &SigningKey) -> String {
    format!("key-{}", &hex(key.verifying_key().as_bytes())[..17])
}

/// The keys that documents are signed with.
///
/// # Errors
/// A fault of the store.
pub async fn published_keys(store: &dyn Store) -> Result<Vec<PublishedKey>, Fault> {
    let Some(item) = store.get(&signing_item()).await? else { return Ok(vec![]) };
    let corrupt = || StoreFault::new(FaultKind::Corrupt, "the signing key has no public half");
    let public = item.text(PUBLIC).filter(|hex| hex.len() == 64).ok_or_else(corrupt)?;
    let key_id = format!("key-{}", &public[..17]);
    Ok(vec![PublishedKey { key_id, algorithm: ALGORITHM, public_key: public.to_owned() }])
}

/// The unwrapped keys of this process.
pub(crate) struct Keys {
    master: Arc<dyn MasterKey>,
    chance: Arc<dyn Chance>,
    unwrapped: Mutex<HashMap<String, [u8; 32]>>,
    /// Held while a key is fetched, so that launches at once unwrap it once.
    fetching: tokio::sync::Mutex<()>,
}

impl Keys {
    pub(crate) fn new(master: Arc<dyn MasterKey>, chance: Arc<dyn Chance>) -> Self {
        Keys {
            master,
            chance,
            unwrapped: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) async fn signing(&self, store: &dyn Store) -> Result<Signing, Fault> {
        let public = |key: &[u8; 32]| hex(SigningKey::from_bytes(key).verifying_key().as_bytes());
        let key = self.get(store, signing_item(), SIGNING_CONTEXT, public).await?;
        let key = SigningKey::from_bytes(&key);
        Ok(Signing { id: key_id(&key), key })
    }

    pub(crate) async fn of_tenant(
        &self,
        store: &dyn Store,
        tenant: &Tenant,
    ) -> Result<DataKey, Fault> {
        let context = format!("eventplane/security/{tenant}");
        let key = self.get(store, tenant_item(tenant), &context, |_| String::new()).await?;
        Ok(DataKey::from_bytes(key))
    }

    fn cached(&self, context: &str) -> Option<[u8; 32]> {
        self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner).get(context).copied()
    }

    /// The key that is kept there; made if there is none. Whoever makes it first has made it for
    /// all.
    async fn get(
        &self,
        store: &dyn Store,
        at: Key,
        context: &str,
        public: impl Fn(&[u8; 32]) -> String + Send,
    ) -> Result<[u8; 32], Fault> {
        if let Some(key) = self.cached(context) {
            return Ok(key);
        }
        let _fetching = self.fetching.lock().await;
        if let Some(key) = self.cached(context) {
            return Ok(key);
        }
        let item = match store.get(&at).await? {
            Some(item) => item,
            None => self.make(store, at.clone(), context, public).await?,
        };
        let wrapped = item.bytes(WRAPPED).ok_or_else(|| {
            StoreFault::new(FaultKind::Corrupt, format!("{at} holds no wrapped key"))
        })?;
        let key = self.master.unwrap(wrapped, context).await?;
        let mut unwrapped = self.unwrapped.lock().unwrap_or_else(PoisonError::into_inner);
        unwrapped.insert(context.to_owned(), key);
        Ok(key)
    }

    async fn make(
        &self,
        store: &dyn Store,
        at: Key,
        context: &str,
        public: impl Fn(&[u8; 32]) -> String + Send,
    ) -> Result<Item, Fault> {
        let mut key = [0; 32];
        self.chance.fill(&mut key);
        let wrapped = self.master.wrap(&key, context).await?;
        let item = Item::new().with(WRAPPED, wrapped).with(PUBLIC, public(&key));
        let write = Write::put(at, item.clone()).when(Condition::ItemAbsent);
        match store.transact(vec![write]).await {
            Ok(()) => Ok(item),
            Err(TransactError::ConditionFailed(failed)) => {
                let theirs = failed.into_iter().find_map(|failed| failed.item);
                theirs.ok_or_else(|| Fault::Other("a key came and went: try again".to_owned()))
            }
            Err(TransactError::Fault(fault)) => Err(fault.into()),
        }
    }
}
