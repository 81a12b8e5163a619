//! Route tables, as people manage them.

use super::{
    CANNOT_DELETE, DEPENDENCY, INVALID_VALUE, TRIES_MAX, all, check_id, cidr, contended, fresh_id,
    partition, quoted, subnets, write,
};
use crate::routes::{self, LOCAL, PREFIX, PRIVATE_SPACES, ROUTES_MAX, key};
use crate::subnets::Subnets;
use eventplane_domain::{Reason, Route, Tenant};
use eventplane_engine::{Fault, Ports};
use eventplane_store::{Item, Store, Write};
use serde::{Deserialize, Serialize};

pub(super) const MALFORMED: &str = "InvalidRouteTableId.Malformed";
const NOT_FOUND: &str = "InvalidRouteTableID.NotFound";
const EXISTS: &str = "RouteAlreadyExists";
const LIMIT: &str = "RouteLimitExceeded";
const NO_ROUTE: &str = "InvalidRoute.NotFound";
const TARGET_LENGTH_MAX: usize = 64;

/// A route: in a request and in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RouteView {
    /// Where to: an IPv4 block.
    pub destination: String,
    /// Through what: a name that the hosts' site knows, such as `igw-1`; in an answer also
    /// `local`, for what is reached directly.
    pub target: String,
}

/// A request to remove a route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeleteRoute {
    /// Where to: an IPv4 block.
    pub destination: String,
}

/// A route table, as an answer shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RouteTableView {
    /// `rtb-` and 17 hex digits.
    pub route_table_id: String,
    /// Whether it is that of the default subnets, and of all that name none.
    pub main: bool,
    /// Its routes, the local ones first. Instances are told of a change with their next generation.
    pub routes: Vec<RouteView>,
    /// The subnets that use it.
    pub subnet_ids: Vec<String>,
}

impl RouteView {
    fn of(Route { destination, target }: Route) -> Self {
        RouteView { destination, target }
    }
}

impl RouteTableView {
    fn of(route_table_id: &str, item: &Item, subnets: &Subnets) -> Self {
        let uses = subnets.all.iter().filter(|subnet| subnet.route_table_id == route_table_id);
        RouteTableView {
            route_table_id: route_table_id.to_owned(),
            main: routes::is_main(item),
            routes: routes::compile(subnets, Some(item)).into_iter().map(RouteView::of).collect(),
            subnet_ids: uses.map(|subnet| subnet.subnet_id.clone()).collect(),
        }
    }
}

/// All route tables of the tenant, in the order of their ids.
///
/// # Errors
/// A fault of the store.
pub async fn list(store: &dyn Store, tenant: &Tenant) -> Result<Vec<RouteTableView>, Fault> {
    let subnets = subnets::read(store, tenant).await?;
    let query = partition(tenant.partition("route-tables"), PREFIX);
    let tables = all(store, query).await?;
    Ok(tables.iter().map(|(key, item)| RouteTableView::of(&key.sort, item, &subnets)).collect())
}

/// One route table.
///
/// # Errors
/// A refusal when there is no such table (inner), or a fault of the store.
pub async fn get(
    store: &dyn Store,
    tenant: &Tenant,
    route_table_id: &str,
) -> Result<Result<RouteTableView, Reason>, Fault> {
    if let Err(reason) = check_id(route_table_id, PREFIX, MALFORMED) {
        return Ok(Err(reason));
    }
    let subnets = subnets::read(store, tenant).await?;
    let Some(item) = store.get(&key(tenant, route_table_id)).await? else {
        return Ok(Err(not_found(route_table_id)));
    };
    Ok(Ok(RouteTableView::of(route_table_id, &item, &subnets)))
}

/// Makes a route table without routes of its own.
///
/// # Errors
/// A refusal (inner), or a fault of the store.
pub async fn create(
    ports: &Ports,
    tenant: &Tenant,
) -> Result<Result<RouteTableView, Reason>, Fault> {
    for _ in 0..TRIES_MAX {
        let id = fresh_id(ports, PREFIX);
        if write(&*ports.store, vec![routes::create(tenant, &id)]).await?.is_ok() {
            return get(&*ports.store, tenant, &id).await;
        }
    }
    Err(contended(&key(tenant, PREFIX)))
}

/// Deletes a route table that no subnet uses. The main one stays.
///
/// # Errors
/// A refusal when there is no such table or it is used (inner), or a fault of the store.
pub async fn delete(
    store: &dyn Store,
    tenant: &Tenant,
    route_table_id: &str,
) -> Result<Result<(), Reason>, Fault> {
    for _ in 0..TRIES_MAX {
        let table = match get(store, tenant, route_table_id).await? {
            Ok(table) => table,
            Err(reason) => return Ok(Err(reason)),
        };
        if table.main {
            let message = format!("{route_table_id} is the main route table: it stays");
            return Ok(Err(Reason::new(CANNOT_DELETE, message)));
        }
        let subnets = subnets::read(store, tenant).await?;
        let uses = |subnet: &&crate::subnets::Subnet| subnet.route_table_id == route_table_id;
        if let Some(subnet) = subnets.all.iter().find(uses) {
            let message = format!(
                "the subnet {} uses the route table {route_table_id}: delete it first",
                subnet.subnet_id
            );
            return Ok(Err(Reason::new(DEPENDENCY, message)));
        }
        let no_subnet_came = Write::check(crate::subnets::key(tenant)).when(subnets.unchanged());
        let writes = vec![routes::delete(tenant, route_table_id), no_subnet_came];
        if write(store, writes).await?.is_ok() {
            return Ok(Ok(()));
        }
    }
    Err(contended(&key(tenant, route_table_id)))
}

/// Adds a route.
///
/// # Errors
/// A refusal when there is no such table, it has a route to there, or it is full (inner), or a
/// fault of the store.
pub async fn add_route(
    store: &dyn Store,
    tenant: &Tenant,
    route_table_id: &str,
    request: &RouteView,
) -> Result<Result<RouteTableView, Reason>, Fault> {
    let route = match checked(route_table_id, request) {
        Ok(route) => route,
        Err(reason) => return Ok(Err(reason)),
    };
    match write(store, vec![routes::add(tenant, route_table_id, &route)]).await? {
        Ok(()) => get(store, tenant, route_table_id).await,
        Err(failed) => Ok(Err(why_not_added(route_table_id, &route, failed[0].item.as_ref()))),
    }
}

fn checked(route_table_id: &str, request: &RouteView) -> Result<Route, Reason> {
    check_id(route_table_id, PREFIX, MALFORMED)?;
    let destination = cidr(&request.destination, "destination")?;
    if PRIVATE_SPACES.contains(&destination) {
        let message =
            format!("`destination`: {destination} is reached directly; name a part of it");
        return Err(Reason::new(INVALID_VALUE, message));
    }
    let target = &request.target;
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    if target.is_empty()
        || target.len() > TARGET_LENGTH_MAX
        || !target.bytes().all(is_good)
        || target == LOCAL
    {
        let message = format!(
            "`target`: {} is not 1 to {TARGET_LENGTH_MAX} letters, digits, `-`, `_`, `.` and `:` \
             other than `{LOCAL}`",
            quoted(target)
        );
        return Err(Reason::new(INVALID_VALUE, message));
    }
    Ok(Route { destination: destination.to_string(), target: target.clone() })
}

fn why_not_added(route_table_id: &str, route: &Route, item: Option<&Item>) -> Reason {
    let Some(item) = item else { return not_found(route_table_id) };
    match routes::read(Some(item)).iter().find(|other| other.destination == route.destination) {
        Some(other) => {
            let (to, target) = (&other.destination, &other.target);
            let message =
                format!("{route_table_id} has a route to {to} through {target}: remove it first");
            Reason::new(EXISTS, message)
        }
        None => Reason::new(LIMIT, format!("{route_table_id} has {ROUTES_MAX} routes: remove one")),
    }
}

/// Removes a route.
///
/// # Errors
/// A refusal when there is no such table or it has no such route (inner), or a fault of the store.
pub async fn remove_route(
    store: &dyn Store,
    tenant: &Tenant,
    route_table_id: &str,
    request: &DeleteRoute,
) -> Result<Result<RouteTableView, Reason>, Fault> {
    let destination = check_id(route_table_id, PREFIX, MALFORMED)
        .and_then(|()| cidr(&request.destination, "destination"));
    let destination = match destination {
        Ok(destination) => destination,
        Err(reason) => return Ok(Err(reason)),
    };
    match write(store, vec![routes::remove(tenant, route_table_id, destination)]).await? {
        Ok(()) => get(store, tenant, route_table_id).await,
        Err(failed) if failed[0].item.is_none() => Ok(Err(not_found(route_table_id))),
        Err(_) => {
            let message = format!("{route_table_id} has no route of its own to {destination}");
            Ok(Err(Reason::new(NO_ROUTE, message)))
        }
    }
}

pub(super) fn not_found(route_table_id: &str) -> Reason {
    Reason::new(NOT_FOUND, format!("there is no route table {route_table_id}"))
}
