//! Route tables: through what a subnet's instances reach what does not lie in their network.

use crate::claim::derived_id;
use crate::subnets::Subnets;
use eventplane_domain::{Route, Tenant};
use eventplane_store::{Condition, Item, Key, Value, Write};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Where a tenant's subnets may lie: the private addresses of RFC 1918. What lies in one of these
/// that holds a subnet of the tenant is reached directly, by the route `local` that every table
/// has.
pub const PRIVATE_SPACES: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
];
/// The target of what is reached directly.
pub const LOCAL: &str = "local";

const ROUTE: &str = "to ";
const MAIN: &str = "main";

/// Where a route table is kept.
#[must_use]
pub fn key(tenant: &Tenant, route_table_id: &str) -> Key {
    Key::new(crate::TABLE.name, tenant.partition("route-tables"), route_table_id)
}

/// The id of the tenant's main route table: that of the default subnets.
#[must_use]
pub fn main_id(tenant: &Tenant) -> String {
    derived_id("rtb", &format!("{tenant}/route-table/main"))
}

/// Makes the main route table; fails if it is there.
pub(crate) fn seed(tenant: &Tenant) -> Write {
    let item = Item::from([(MAIN.to_owned(), Value::Bool(true))]);
    Write::put(key(tenant, &main_id(tenant)), item).when(Condition::ItemAbsent)
}

/// The routes that a table adds to the local ones.
#[must_use]
pub fn read(item: Option<&Item>) -> Vec<Route> {
    let attributes = item.into_iter().flatten();
    let route = |(name, value): (&String, &Value)| match (name.strip_prefix(ROUTE), value) {
        (Some(destination), Value::S(target)) => {
            Some(Route { destination: destination.to_owned(), target: target.clone() })
        }
        _ => None,
    };
    attributes.filter_map(route).collect()
}

/// The routes of an instance: the local ones, then those of its subnet's table.
#[must_use]
pub fn compile(subnets: &Subnets, table: Option<&Item>) -> Vec<Route> {
    let is_used =
        |space: &&Ipv4Net| subnets.all.iter().any(|subnet| space.contains(&subnet.cidr_block));
    let local = PRIVATE_SPACES
        .iter()
        .filter(is_used)
        .map(|space| Route { destination: space.to_string(), target: LOCAL.to_owned() });
    local.chain(read(table)).collect()
}
