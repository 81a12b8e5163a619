//! Route tables: through what a subnet's instances reach what does not lie in their network.

use crate::claim::derived_id;
use crate::subnets::Subnets;
use eventplane_domain::{Route, Tenant};
use eventplane_store::{Condition, Item, ItemExt, Key, Update, Value, Write};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Where a tenant's subnets may lie: the private addresses of RFC 1918, and those that a machine has
/// for itself (RFC 1122, section 3.2.1.3), for instances that are processes of one machine: there such
/// an address is real without any network. What lies in one of these that holds a subnet of the tenant
/// is reached directly, by the route `local` that every table has.
pub const PRIVATE_SPACES: [Ipv4Net; 4] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
];
/// The target of what is reached directly.
pub const LOCAL: &str = "local";

/// How many routes a table may have besides the local ones.
///
/// Source: "Amazon VPC quotas", routes per route table.
pub const ROUTES_MAX: i64 = 50;

pub(crate) const PREFIX: &str = "rtb-";
const ROUTE: &str = "to ";
const MAIN: &str = "main";
/// How many routes the table has.
const COUNT: &str = "routes";

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

/// Makes an empty route table; fails if it is there.
pub(crate) fn create(tenant: &Tenant, route_table_id: &str) -> Write {
    let item = Item::from([(COUNT.to_owned(), Value::N(0))]);
    Write::put(key(tenant, route_table_id), item).when(Condition::ItemAbsent)
}

/// Holds while the table is there.
pub(crate) fn is_there(tenant: &Tenant, route_table_id: &str) -> Write {
    Write::check(key(tenant, route_table_id)).when(Condition::ItemPresent)
}

/// Deletes the table: fails if it is not there, or is the main one.
pub(crate) fn delete(tenant: &Tenant, route_table_id: &str) -> Write {
    Write::delete(key(tenant, route_table_id))
        .when(Condition::ItemPresent)
        .when(Condition::absent(MAIN))
}

/// Adds a route: fails if the table is not there, has one to there, or has no room for it.
pub(crate) fn add(tenant: &Tenant, route_table_id: &str, route: &Route) -> Write {
    let name = format!("{ROUTE}{}", route.destination);
    let updates = vec![Update::set(&name, route.target.as_str()), Update::add(COUNT, 1)];
    Write::update(key(tenant, route_table_id), updates)
        .when(Condition::ItemPresent)
        .when(Condition::absent(name))
        .when(Condition::absent_or_at_most(COUNT, ROUTES_MAX - 1))
}

/// Removes the route to `destination`: fails if the table has none.
pub(crate) fn remove(tenant: &Tenant, route_table_id: &str, destination: Ipv4Net) -> Write {
    let name = format!("{ROUTE}{destination}");
    let updates = vec![Update::remove(&name), Update::add(COUNT, -1)];
    Write::update(key(tenant, route_table_id), updates).when(Condition::present(name))
}

/// Whether the table is the tenant's main one.
pub(crate) fn is_main(item: &Item) -> bool {
    item.is_true(MAIN)
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
