//! The tenants that have ever launched, where there are several: whoever looks at all instances
//! has to know whose there are.

use crate::TABLE;
use eventplane_domain::Tenant;
use eventplane_engine::Fault;
use eventplane_store::{Condition, Item, Key, Query, Store, Write};

/// The partition of the roster: its sort keys are the tenants. No tenant's own begins so.
const ROSTER: &str = "@tenants";
/// How many tenants are read at once.
const PAGE: usize = 500;

/// Writes a tenant into the roster, where it is not yet: a read, and once a write.
///
/// # Errors
/// A fault of the store.
pub async fn enrol(store: &dyn Store, tenant: &Tenant) -> Result<(), Fault> {
    let key = Key::new(TABLE.name, ROSTER, tenant.as_str());
    if store.get(&key).await?.is_none() {
        let write = Write::put(key, Item::new()).when(Condition::ItemAbsent);
        store.try_transact(vec![write]).await?;
    }
    Ok(())
}

/// The tenants in the roster, by name.
///
/// # Errors
/// A fault of the store.
pub async fn roster(store: &dyn Store) -> Result<Vec<Tenant>, Fault> {
    let mut tenants = Vec::new();
    let mut query = Query::partition(TABLE.name, ROSTER, PAGE);
    loop {
        let page = store.query(&query).await?;
        tenants.extend(page.items.iter().filter_map(|(key, _)| Tenant::parse(&key.sort).ok()));
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(tenants),
        }
    }
}
