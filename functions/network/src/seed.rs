//! What every tenant begins with: a main route table, a default security group, and a default
//! subnet in each zone.
//!
//! Source: "Default VPC components", Amazon VPC user guide.

use crate::{groups, routes, subnets};
use eventplane_domain::Tenant;
use eventplane_engine::Fault;
use eventplane_store::Store;

/// How often an addition is tried when others add subnets at the same moment.
const TRIES_MAX: usize = 8;

/// Makes what a tenant begins with, where it is not there yet: called at every start, and costs one
/// read where nothing is missing. A default subnet that was deleted is not made again, and a zone
/// beyond the first [`subnets::DEFAULT_ZONES_MAX`] gets none.
///
/// # Errors
/// A fault of the store.
pub async fn seed(store: &dyn Store, tenant: &Tenant, zones: &[String]) -> Result<(), Fault> {
    let table = routes::key(tenant, &routes::main_id(tenant));
    let group = groups::key(tenant, &groups::default_id(tenant));
    let items = store.batch_get(&[table, group, subnets::key(tenant)]).await?;
    if items[0].is_none() {
        store.try_transact(vec![routes::seed(tenant)]).await?;
    }
    if items[1].is_none() {
        store.try_transact(groups::seed(tenant).to_vec()).await?;
    }
    for zone in zones {
        if subnets::seed(tenant, zone, items[2].as_ref())?.is_some() {
            seed_subnet(store, tenant, zone).await?;
        }
    }
    Ok(())
}

async fn seed_subnet(store: &dyn Store, tenant: &Tenant, zone: &str) -> Result<(), Fault> {
    for _ in 0..TRIES_MAX {
        let item = store.get(&subnets::key(tenant)).await?;
        let Some(write) = subnets::seed(tenant, zone, item.as_ref())? else { return Ok(()) };
        if store.try_transact(vec![write]).await? {
            return Ok(());
        }
    }
    Err(Fault::Contention { tries: TRIES_MAX, contended: subnets::key(tenant).to_string() })
}
