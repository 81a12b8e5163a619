//! The tenant's data key: one for all of its volumes, kept wrapped by the master key.

use crate::{TABLE, corrupt};
use eventplane_domain::Tenant;
use eventplane_engine::{Chance, Fault};
use eventplane_keys::{DataKey, MasterKey};
use eventplane_store::{Condition, Item, ItemExt, Key, Write};
use sha2::{Digest, Sha256};

const ID: &str = "id";
const WRAPPED: &str = "wrapped";
const MASTER: &str = "master";

/// The tenant's data key, as a decision sees it: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantKey {
    /// Its id: `key-…`, derived from the tenant.
    pub(crate) id: String,
    /// The item to put, if the tenant has no key yet.
    pub(crate) new: Option<Item>,
}

/// Where the tenant's wrapped data key is kept.
pub(crate) fn tenant_key_key(tenant: &Tenant) -> Key {
    Key::new(TABLE.name, tenant.partition("key"), "key")
}

impl TenantKey {
    /// The key that `item` is.
    pub(crate) fn read(item: &Item) -> Result<TenantKey, Fault> {
        match (item.text(ID), item.bytes(WRAPPED)) {
            (Some(id), Some(_)) => Ok(TenantKey { id: id.to_owned(), new: None }),
            _ => Err(corrupt("a tenant's data key without its id or its wrapped bytes")),
        }
    }

    /// Makes the tenant's key: random, and wrapped for this tenant alone.
    pub(crate) async fn make(
        tenant: &Tenant,
        master: &dyn MasterKey,
        chance: &dyn Chance,
    ) -> Result<TenantKey, Fault> {
        let key = DataKey::random(chance);
        let wrapped = master.wrap(key.bytes(), tenant.as_str()).await?;
        let id = key_id(tenant);
        let item =
            Item::new().with(ID, id.as_str()).with(WRAPPED, wrapped).with(MASTER, master.id());
        Ok(TenantKey { id, new: Some(item) })
    }

    /// The write that makes the key stand there, if it does not yet: of two launches that make one
    /// at once, the second loses the race and finds the first's.
    pub(crate) fn write(&self, tenant: &Tenant) -> Option<Write> {
        let item = self.new.clone()?;
        Some(Write::put(tenant_key_key(tenant), item).when(Condition::ItemAbsent))
    }
}

/// `key-` and 17 hex digits that always come out the same for one tenant.
fn key_id(tenant: &Tenant) -> String {
    let digest = Sha256::digest(tenant.as_str().as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("key-{}", &hex[..17])
}
