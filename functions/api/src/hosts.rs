//! Hosts as people see and manage them, and what the plane has room for.

use crate::agents::{has_enrolled, is_enrolled};
use crate::error::Refusal;
use crate::extract::{Body, Operator, Parameters, Path};
use crate::{Api, Shared};
use axum::Json;
use axum::http::StatusCode;
use eventplane_capacity::fleet::{self, Host, HostState, Registration};
use eventplane_capacity::seen;
use eventplane_domain::{GpuNeed, HostId};
use eventplane_handoff::{WantedSet, alive_write};
use eventplane_sweeper::{declare_dead, halt_all};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many hosts a page has if nothing is asked for, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(register, list))
        .routes(routes!(show, change))
        .routes(routes!(capacity))
}

/// How an operator introduces a host that is simulated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RegisterHost {
    /// 1 to 64 letters, digits, `-`, `_` and `.`.
    host_id: String,
    /// Its zone.
    zone: String,
    /// Its rack.
    rack: String,
    /// Virtual CPUs.
    vcpus: u32,
    /// Memory in MiB.
    memory_mib: u32,
    /// Network bandwidth in Mbps.
    network_mbps: u32,
    /// Its GPUs, if it has any: all of one model.
    gpus: Option<Gpus>,
}

/// What a host has, and where it stands.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostShape {
    /// Its zone.
    zone: String,
    /// Its rack.
    rack: String,
    /// Virtual CPUs.
    vcpus: u32,
    /// Memory in MiB.
    memory_mib: u32,
    /// Network bandwidth in Mbps.
    network_mbps: u32,
    /// Its GPUs, if it has any: all of one model.
    gpus: Option<Gpus>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Gpus {
    model: String,
    count: u32,
}

pub(crate) fn host_id(text: &str) -> Result<HostId, Refusal> {
    HostId::parse(text).map_err(|id| Refusal::malformed("InvalidHostID.Malformed", "host_id", &id))
}

fn shown(host: &Host) -> Value {
    let mut shown = json!({
        "host_id": host.id,
        "zone": host.zone,
        "rack": host.rack,
        "state": host.state,
        "total": host.total,
        "free": host.free,
    });
    if host.is_enrolled {
        shown["enrolled"] = json!(true);
    }
    if let Some(model) = &host.gpu_model {
        shown["gpu_model"] = json!(model);
    }
    shown
}

/// Registers a host; once more the same changes nothing, other sizes change it by the difference.
#[utoipa::path(post, path = "/v1/hosts", tag = "hosts", request_body = RegisterHost,
    responses((status = 200, description = "The host"),
        (status = 403, description = "HostIsEnrolled: its own agent registers it")))]
async fn register(
    Operator(api): Operator,
    Body(asked): Body<RegisterHost>,
) -> Result<Json<Value>, Refusal> {
    let id = host_id(&asked.host_id)?;
    if has_enrolled(&api, &id).await? {
        return Err(is_enrolled(&id));
    }
    let RegisterHost { zone, rack, vcpus, memory_mib, network_mbps, gpus, .. } = asked;
    let shape = HostShape { zone, rack, vcpus, memory_mib, network_mbps, gpus };
    Ok(Json(admit(&api, &id, shape, false).await?))
}

/// Registers a host, and shows it.
pub(crate) async fn admit(
    api: &Api,
    id: &HostId,
    shape: HostShape,
    is_enrolled: bool,
) -> Result<Value, Refusal> {
    let HostShape { zone, rack, vcpus, memory_mib, network_mbps, gpus } = shape;
    let gpus = gpus.map(|gpus| GpuNeed { model: gpus.model, count: gpus.count });
    let registration =
        Registration { zone, rack, vcpus, memory_mib, network_mbps, gpus, is_enrolled };
    let store = &*api.ports.store;
    let is_new = fleet::host(store, id).await?.is_none();
    let host = fleet::register(store, id, &registration).await??;
    let seen = store.get(&seen::seen_key(id)).await?;
    seen::heard(store, &host, seen.as_ref(), api.ports.clock.now()).await?;
    if is_new {
        // The first host of a zone brings the zone's subnet and pools.
        let zones = [host.zone.clone()];
        eventplane_network::seed(store, &api.options.tenant, &zones).await?;
        eventplane_storage::seed(store, &zones, api.options.pool_sizes).await?;
    }
    Ok(shown(&host))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paging {
    limit: Option<usize>,
    next: Option<String>,
}

/// The hosts, by their ids.
#[utoipa::path(get, path = "/v1/hosts", tag = "hosts",
    params(("limit" = Option<usize>, Query, description = "1 to 1,000; 100 if none is given"),
        ("next" = Option<String>, Query, description = "As the page before gave it")),
    responses((status = 200, description = "A page of hosts")))]
async fn list(
    Operator(api): Operator,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Value>, Refusal> {
    let limit = paging.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        let message = format!("`limit` has to be 1 to {PAGE_MAX}, not {limit}");
        return Err(Refusal::value("limit", message));
    }
    if paging.next.as_deref().is_some_and(|next| HostId::parse(next).is_err()) {
        let message = "`next` is given back as the page before gave it";
        return Err(Refusal::invalid("InvalidPaginationToken", message).about("next"));
    }
    let (hosts, next) = fleet::hosts(&*api.ports.store, paging.next.as_deref(), limit).await?;
    let hosts: Vec<Value> = hosts.iter().map(shown).collect();
    Ok(Json(json!({ "hosts": hosts, "next": next })))
}

pub(crate) async fn found(api: &Api, id: &HostId) -> Result<Host, Refusal> {
    let host = fleet::host(&*api.ports.store, id).await?;
    host.ok_or_else(|| Refusal::from(fleet::not_found(id)).about("host_id"))
}

/// Refuses an operator who would speak for a host that is not there, or speaks for itself.
pub(crate) async fn of_operator(api: &Api, id: &HostId) -> Result<(), Refusal> {
    match found(api, id).await?.is_enrolled {
        true => Err(is_enrolled(id)),
        false => Ok(()),
    }
}

/// The simulated host that reports: it is heard of.
pub(crate) async fn heard(api: &Api, id: &HostId) -> Result<(), Refusal> {
    let store = &*api.ports.store;
    let items = store.batch_get(&[fleet::host_key(id), seen::seen_key(id)]).await?;
    let Some(item) = &items[0] else {
        return Err(Refusal::from(fleet::not_found(id)).about("host_id"));
    };
    let host = Host::read(id, item)?;
    if host.is_enrolled {
        return Err(is_enrolled(id));
    }
    Ok(seen::heard(store, &host, items[1].as_ref(), api.ports.clock.now()).await?)
}

/// One host.
#[utoipa::path(get, path = "/v1/hosts/{host_id}", tag = "hosts",
    params(("host_id" = String, Path)), responses((status = 200, description = "The host")))]
async fn show(Operator(api): Operator, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    Ok(Json(shown(&found(&api, &host_id(&id)?).await?)))
}

/// What is to become of a host.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeHost {
    /// `active`, `draining` (it takes nothing new), or `dead`: the operator's word that nothing
    /// runs on it any more, and never will by itself.
    state: String,
}

/// Drains a host, takes it back, or says that it is dead.
#[utoipa::path(put, path = "/v1/hosts/{host_id}", tag = "hosts", request_body = ChangeHost,
    params(("host_id" = String, Path)), responses((status = 200, description = "The host")))]
async fn change(
    Operator(api): Operator,
    Path(id): Path<String>,
    Body(asked): Body<ChangeHost>,
) -> Result<Json<Value>, Refusal> {
    let id = host_id(&id)?;
    let named = HostState::of_name(&asked.state).filter(|state| *state != HostState::Impaired);
    let state = named.ok_or_else(|| {
        let message = format!("`state` is active, draining or dead; not `{}`", asked.state);
        Refusal::value("state", message)
    })?;
    found(&api, &id).await?;
    let ports = &api.ports;
    if state == HostState::Dead {
        return Ok(Json(shown(&declare_dead(ports, "api", &id).await??)));
    }
    let wanted = WantedSet::of(&*ports.store, &id).await?;
    if wanted.dead && !wanted.assignments.is_empty() {
        // What it had is being taken from it on the word that it is dead: a host that lived again
        // before that is done would run what runs elsewhere.
        halt_all(ports, "api", &id, &wanted).await?;
        let message = format!(
            "{id} is dead, and {} of the instances that it had are not taken from it yet: repeat \
             this in a moment",
            wanted.assignments.len()
        );
        return Err(Refusal::invalid("IncorrectHostState", message).status(StatusCode::CONFLICT));
    }
    if wanted.dead {
        ports.store.try_transact(vec![alive_write(&id)]).await?;
    }
    let host = fleet::set_state(&*ports.store, &id, state).await??;
    seen::look_anew(&*ports.store, &id).await?;
    Ok(Json(shown(&host)))
}

/// What there is room for: hosts by zone, and volume pools.
#[utoipa::path(get, path = "/v1/capacity", tag = "hosts",
    responses((status = 200, description = "Totals and what is free")))]
async fn capacity(Operator(api): Operator) -> Result<Json<Value>, Refusal> {
    let zones = fleet::summary(&*api.ports.store).await?;
    let pools = eventplane_storage::pools(&*api.ports.store).await?;
    let pools: Vec<Value> = pools
        .iter()
        .map(|pool| {
            json!({
                "zone": pool.zone,
                "volume_type": pool.volume_type,
                "total_gib": pool.total_gib,
                "free_gib": pool.free_gib,
                "largest_free_gib": pool.largest_free_gib,
                "total_iops": pool.total_iops,
                "free_iops": pool.free_iops,
            })
        })
        .collect();
    Ok(Json(json!({ "zones": zones, "pools": pools })))
}
