//! Instances as their users see and end them.

use crate::error::Refusal;
use crate::extract::{Caller, Parameters, Path};
use crate::lifecycle::{Verb, ask};
use crate::limits::{Action, admit};
use crate::view::{Whole, instance_id, read, read_all};
use crate::{Shared, WAIT_S_MAX};
use axum::Json;
use eventplane_domain::{InstanceId, State, Tenant};
use eventplane_instances::{BY_TENANT, TABLE};
use eventplane_store::Query;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many instances a page has if nothing is asked for, and at most.
const PAGE: usize = 50;
const PAGE_MAX: usize = 100;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, terminate))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filters {
    state: Option<String>,
    zone: Option<String>,
    instance_type: Option<String>,
    tag: Option<String>,
    limit: Option<usize>,
    next: Option<String>,
}

impl Filters {
    /// EC2 counts apart what passes a filter, and pages.
    fn action(&self) -> Action {
        let Filters { state, zone, instance_type, tag, limit, next } = self;
        let filters = [state, zone, instance_type, tag, next];
        match limit.is_some() || filters.into_iter().any(Option::is_some) {
            true => Action::DescribeSome,
            false => Action::Describe,
        }
    }

    fn check(&self) -> Result<usize, Refusal> {
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=PAGE_MAX).contains(&limit) {
            let message = format!("`limit` has to be 1 to {PAGE_MAX}, not {limit}");
            return Err(Refusal::value("limit", message));
        }
        if let Some(state) = &self.state {
            state_of("state", state)?;
        }
        Ok(limit)
    }

    fn let_through(&self, whole: &Whole) -> bool {
        let placed = whole.receipts[0].as_ref().and_then(eventplane_capacity::placement);
        let zone = placed.map(|placement| placement.zone).or(whole.record.spec.zone.clone());
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        let tags = &whole.record.tags;
        let has_tag = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => tags.get(key).is_some_and(|found| found == value),
            None => tags.contains_key(wanted),
        };
        is(&self.state, whole.state().name())
            && is(&self.instance_type, &whole.record.spec.instance_type)
            && self.zone.as_ref().is_none_or(|wanted| Some(wanted) == zone.as_ref())
            && self.tag.as_ref().is_none_or(has_tag)
    }
}

fn state_of(field: &str, name: &str) -> Result<State, Refusal> {
    State::of_name(name).ok_or_else(|| {
        let names = State::ALL.map(State::name).join(", ");
        Refusal::value(field, format!("`{field}` is one of {names}; not `{name}`"))
    })
}

/// The instances, newest first. Filters apply to each page: one may be short, or empty, and have a
/// `next`.
#[utoipa::path(get, path = "/v1/instances", tag = "instances",
    params(
        ("state" = Option<String>, Query), ("zone" = Option<String>, Query),
        ("instance_type" = Option<String>, Query),
        ("tag" = Option<String>, Query, description = "KEY, or KEY=VALUE"),
        ("limit" = Option<usize>, Query, description = "1 to 100; 50 if none is given"),
        ("next" = Option<String>, Query, description = "As the page before gave it")),
    responses((status = 200, description = "A page of instances")))]
async fn list(
    Caller(api): Caller,
    Parameters(filters): Parameters<Filters>,
) -> Result<Json<Value>, Refusal> {
    admit(&api, filters.action(), 0).await?;
    let limit = filters.check()?;
    let tenant = &api.options.tenant;
    let mut query = Query::index(TABLE.name, BY_TENANT, tenant.as_str(), limit);
    query.descending = true;
    query.after = match &filters.next {
        Some(next) => {
            Some(unhex(next).filter(|end| is_end_of_a_page(end, tenant)).ok_or_else(|| {
                let message = "`next` is given back as the page before gave it";
                Refusal::invalid("InvalidPaginationToken", message).about("next")
            })?)
        }
        None => None,
    };
    let page = api.ports.store.query(&query).await?;
    let ids: Vec<InstanceId> = page
        .items
        .iter()
        .filter_map(|(key, _)| InstanceId::parse(key.partition.rsplit('/').next()?).ok())
        .collect();
    let found = read_all(&*api.ports.store, tenant, &ids).await?;
    let shown: Vec<Value> = found
        .iter()
        .flatten()
        .filter(|whole| filters.let_through(whole))
        .map(Whole::shown)
        .collect();
    let next = page.next.map(|next| hex(&next));
    Ok(Json(json!({ "instances": shown, "next": next })))
}

/// Whether a text can be the end of a page of the tenant's instances: a store may take another for a
/// bug of ours.
pub(crate) fn is_end_of_a_page(end: &str, tenant: &Tenant) -> bool {
    let of = |id: &InstanceId| format!("{id}\0{}\0record", tenant.partition(id));
    let id = end.split('\0').next().and_then(|id| InstanceId::parse(id).ok());
    id.is_some_and(|id| of(&id) == end)
}

/// A page's end as a text that any address can hold.
pub(crate) fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
pub(crate) fn unhex(text: &str) -> Option<String> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Until {
    until: Option<String>,
    wait: Option<u64>,
}

/// One instance; with `until` and `wait`, as soon as it is in that state, or can no longer be.
#[utoipa::path(get, path = "/v1/instances/{instance_id}", tag = "instances",
    params(("instance_id" = String, Path),
        ("until" = Option<String>, Query, description = "A state to wait for"),
        ("wait" = Option<u64>, Query, description = "Seconds, at most 30")),
    responses((status = 200, description = "The instance")))]
async fn show(
    Caller(api): Caller,
    Path(id): Path<String>,
    Parameters(until): Parameters<Until>,
) -> Result<Json<Value>, Refusal> {
    admit(&api, Action::DescribeSome, 0).await?;
    let id = instance_id(&id)?;
    let wanted = until.until.as_ref().map(|name| state_of("until", name)).transpose()?;
    let wait_s = until.wait.unwrap_or(0);
    if wait_s > WAIT_S_MAX {
        let message = format!("`wait` is at most {WAIT_S_MAX} seconds, not {wait_s}");
        return Err(Refusal::value("wait", message));
    }
    let (store, tenant) = (&*api.ports.store, &api.options.tenant);
    let Some(wanted) = wanted.filter(|_| wait_s > 0) else {
        return Ok(Json(read(store, tenant, &id).await?.shown()));
    };
    let end = Instant::now() + Duration::from_secs(wait_s);
    let mut watch = api.waiter.watch(TABLE.name, &tenant.partition(&id));
    loop {
        let whole = read(store, tenant, &id).await?;
        let (state, recorded) = (whole.state(), whole.record.progress.state);
        let arrived = state == wanted && (state == recorded || state.is_moving());
        // A start that has failed goes back to stopped, and nothing leads on from there by itself.
        let is_back =
            wanted == State::Running && (state, recorded) == (State::Stopped, State::Stopped);
        let never = recorded == State::Terminated || is_back || Instant::now() >= end;
        let Some(watch) = watch.as_mut().filter(|_| !arrived && !never) else {
            return Ok(Json(whole.shown()));
        };
        // Whether it changed or the time is over: what stands then is the answer.
        let _ = timeout_at(end, watch.changed()).await;
    }
}

/// Terminates an instance; once more does no harm.
#[utoipa::path(delete, path = "/v1/instances/{instance_id}", tag = "instances",
    params(("instance_id" = String, Path)),
    responses((status = 200, description = "The state before and now"),
        (status = 409, description = "OperationNotPermitted: it is protected")))]
async fn terminate(Caller(api): Caller, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    admit(&api, Action::Terminate, 1).await?;
    ask(&api, &instance_id(&id)?, Verb::Terminate).await
}
