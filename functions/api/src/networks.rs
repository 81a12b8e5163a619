//! Subnets, route tables, and security groups with their rules.

use crate::Shared;
use crate::error::Refusal;
use crate::extract::{Body, Caller, Path};
use axum::Json;
use axum::http::StatusCode;
use eventplane_network::manage::route_tables::{self, DeleteRoute, RouteTableView, RouteView};
use eventplane_network::manage::security_groups::{self, CreateGroup, GroupView, Rule};
use eventplane_network::manage::subnets::{self, CreateSubnet, SubnetView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_subnets, create_subnet))
        .routes(routes!(get_subnet, delete_subnet))
        .routes(routes!(list_route_tables, create_route_table))
        .routes(routes!(get_route_table, delete_route_table))
        .routes(routes!(add_route, remove_route))
        .routes(routes!(list_groups, create_group))
        .routes(routes!(get_group, delete_group))
        .routes(routes!(add_rule, remove_rule))
}

/// The tenant's subnets.
#[derive(Debug, Serialize, ToSchema)]
struct Subnets {
    /// All of them, by id.
    subnets: Vec<SubnetView>,
}

/// Lists the subnets.
#[utoipa::path(
    get, path = "/v1/subnets", tag = "networks",
    responses((status = 200, body = Subnets, description = "All subnets, by id"))
)]
async fn list_subnets(Caller(api): Caller) -> Result<Json<Subnets>, Refusal> {
    let subnets = subnets::list(&*api.ports.store, &api.options.tenant).await?;
    Ok(Json(Subnets { subnets }))
}

/// Makes a subnet.
#[utoipa::path(
    post, path = "/v1/subnets", tag = "networks", request_body = CreateSubnet,
    responses((status = 201, body = SubnetView, description = "The subnet"))
)]
async fn create_subnet(
    Caller(api): Caller,
    Body(request): Body<CreateSubnet>,
) -> Result<(StatusCode, Json<SubnetView>), Refusal> {
    let made = subnets::create(&api.ports, &api.options.tenant, &request).await??;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Shows a subnet, and how its addresses stand.
#[utoipa::path(
    get, path = "/v1/subnets/{subnet_id}", tag = "networks",
    params(("subnet_id" = String, Path, description = "`subnet-` and 17 hex digits")),
    responses((status = 200, body = SubnetView, description = "The subnet"))
)]
async fn get_subnet(
    Caller(api): Caller,
    Path(id): Path<String>,
) -> Result<Json<SubnetView>, Refusal> {
    Ok(Json(subnets::get(&api.ports, &api.options.tenant, &id).await??))
}

/// Deletes a subnet, unless an instance has one of its addresses.
#[utoipa::path(
    delete, path = "/v1/subnets/{subnet_id}", tag = "networks",
    params(("subnet_id" = String, Path, description = "`subnet-` and 17 hex digits")),
    responses((status = 204, description = "It is gone"))
)]
async fn delete_subnet(Caller(api): Caller, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    subnets::delete(&api.ports, &api.options.tenant, &id).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// The tenant's route tables.
#[derive(Debug, Serialize, ToSchema)]
struct RouteTables {
    /// All of them, by id.
    route_tables: Vec<RouteTableView>,
}

/// Lists the route tables.
#[utoipa::path(
    get, path = "/v1/route-tables", tag = "networks",
    responses((status = 200, body = RouteTables, description = "All route tables, by id"))
)]
async fn list_route_tables(Caller(api): Caller) -> Result<Json<RouteTables>, Refusal> {
    let route_tables = route_tables::list(&*api.ports.store, &api.options.tenant).await?;
    Ok(Json(RouteTables { route_tables }))
}

/// A request for a route table: it has no fields, and its routes are added one by one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateRouteTable {}

/// Makes a route table that has only the local routes.
#[utoipa::path(
    post, path = "/v1/route-tables", tag = "networks", request_body = CreateRouteTable,
    responses((status = 201, body = RouteTableView, description = "The route table"))
)]
async fn create_route_table(
    Caller(api): Caller,
    Body(CreateRouteTable {}): Body<CreateRouteTable>,
) -> Result<(StatusCode, Json<RouteTableView>), Refusal> {
    let made = route_tables::create(&api.ports, &api.options.tenant).await??;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Shows a route table.
#[utoipa::path(
    get, path = "/v1/route-tables/{route_table_id}", tag = "networks",
    params(("route_table_id" = String, Path, description = "`rtb-` and 17 hex digits")),
    responses((status = 200, body = RouteTableView, description = "The route table"))
)]
async fn get_route_table(
    Caller(api): Caller,
    Path(id): Path<String>,
) -> Result<Json<RouteTableView>, Refusal> {
    Ok(Json(route_tables::get(&*api.ports.store, &api.options.tenant, &id).await??))
}

/// Deletes a route table that no subnet uses.
#[utoipa::path(
    delete, path = "/v1/route-tables/{route_table_id}", tag = "networks",
    params(("route_table_id" = String, Path, description = "`rtb-` and 17 hex digits")),
    responses((status = 204, description = "It is gone"))
)]
async fn delete_route_table(
    Caller(api): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    route_tables::delete(&*api.ports.store, &api.options.tenant, &id).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds a route to a table.
#[utoipa::path(
    post, path = "/v1/route-tables/{route_table_id}/routes", tag = "networks",
    params(("route_table_id" = String, Path, description = "`rtb-` and 17 hex digits")),
    request_body = RouteView,
    responses((status = 200, body = RouteTableView, description = "The route table"))
)]
async fn add_route(
    Caller(api): Caller,
    Path(id): Path<String>,
    Body(route): Body<RouteView>,
) -> Result<Json<RouteTableView>, Refusal> {
    let (store, tenant) = (&*api.ports.store, &api.options.tenant);
    Ok(Json(route_tables::add_route(store, tenant, &id, &route).await??))
}

/// Removes a route from a table.
#[utoipa::path(
    delete, path = "/v1/route-tables/{route_table_id}/routes", tag = "networks",
    params(("route_table_id" = String, Path, description = "`rtb-` and 17 hex digits")),
    request_body = DeleteRoute,
    responses((status = 200, body = RouteTableView, description = "The route table"))
)]
async fn remove_route(
    Caller(api): Caller,
    Path(id): Path<String>,
    Body(route): Body<DeleteRoute>,
) -> Result<Json<RouteTableView>, Refusal> {
    let (store, tenant) = (&*api.ports.store, &api.options.tenant);
    Ok(Json(route_tables::remove_route(store, tenant, &id, &route).await??))
}

/// The tenant's security groups.
#[derive(Debug, Serialize, ToSchema)]
struct SecurityGroups {
    /// All of them, by id.
    security_groups: Vec<GroupView>,
}

/// Lists the security groups.
#[utoipa::path(
    get, path = "/v1/security-groups", tag = "networks",
    responses((status = 200, body = SecurityGroups, description = "All security groups, by id"))
)]
async fn list_groups(Caller(api): Caller) -> Result<Json<SecurityGroups>, Refusal> {
    let security_groups = security_groups::list(&*api.ports.store, &api.options.tenant).await?;
    Ok(Json(SecurityGroups { security_groups }))
}

/// Makes a security group that allows nothing in and everything out.
#[utoipa::path(
    post, path = "/v1/security-groups", tag = "networks", request_body = CreateGroup,
    responses((status = 201, body = GroupView, description = "The security group"))
)]
async fn create_group(
    Caller(api): Caller,
    Body(request): Body<CreateGroup>,
) -> Result<(StatusCode, Json<GroupView>), Refusal> {
    let made = security_groups::create(&api.ports, &api.options.tenant, &request).await??;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Shows a security group with its rules.
#[utoipa::path(
    get, path = "/v1/security-groups/{group_id}", tag = "networks",
    params(("group_id" = String, Path, description = "`sg-` and 17 hex digits")),
    responses((status = 200, body = GroupView, description = "The security group"))
)]
async fn get_group(
    Caller(api): Caller,
    Path(id): Path<String>,
) -> Result<Json<GroupView>, Refusal> {
    Ok(Json(security_groups::get(&*api.ports.store, &api.options.tenant, &id).await??))
}

/// Deletes a security group that no rule of another names and no instance has.
#[utoipa::path(
    delete, path = "/v1/security-groups/{group_id}", tag = "networks",
    params(("group_id" = String, Path, description = "`sg-` and 17 hex digits")),
    responses((status = 204, description = "It is gone"))
)]
async fn delete_group(Caller(api): Caller, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    security_groups::delete(&api.ports, &api.options.tenant, &id).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds a rule to a security group.
#[utoipa::path(
    post, path = "/v1/security-groups/{group_id}/rules", tag = "networks",
    params(("group_id" = String, Path, description = "`sg-` and 17 hex digits")),
    request_body = Rule,
    responses((status = 200, body = GroupView, description = "The security group"))
)]
async fn add_rule(
    Caller(api): Caller,
    Path(id): Path<String>,
    Body(rule): Body<Rule>,
) -> Result<Json<GroupView>, Refusal> {
    let (store, tenant) = (&*api.ports.store, &api.options.tenant);
    Ok(Json(security_groups::add_rule(store, tenant, &id, &rule).await??))
}

/// Removes a rule from a security group.
#[utoipa::path(
    delete, path = "/v1/security-groups/{group_id}/rules", tag = "networks",
    params(("group_id" = String, Path, description = "`sg-` and 17 hex digits")),
    request_body = Rule,
    responses((status = 200, body = GroupView, description = "The security group"))
)]
async fn remove_rule(
    Caller(api): Caller,
    Path(id): Path<String>,
    Body(rule): Body<Rule>,
) -> Result<Json<GroupView>, Refusal> {
    let (store, tenant) = (&*api.ports.store, &api.options.tenant);
    Ok(Json(security_groups::remove_rule(store, tenant, &id, &rule).await??))
}
