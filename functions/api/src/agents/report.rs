//! What hosts report: what differs from what the tables know is published.

use super::signed::Agent;
use crate::error::Refusal;
use crate::extract::{Body, Operator, Path};
use crate::hosts::{heard, host_id, of_operator};
use crate::{Api, Shared};
use axum::Json;
use eventplane_capacity::seen;
use eventplane_domain::{HostId, InstanceId, Reason, State, Tenant};
use eventplane_engine::{Emit, Origin, metric, stamp};
use eventplane_events::{Data, Entry, InstanceHalted, InstanceRunning};
use eventplane_handoff::{Assignment, assignment_key};
use eventplane_instances::{Record, look_at_let_go, record_key};
use eventplane_store::{Item, Key};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(of_simulated)).routes(routes!(of_agent))
}

/// What a host sees.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Report {
    /// Whether this is all that the host sees, or only what changed just now.
    /// What a host leaves out is never taken for gone.
    complete: bool,
    /// The newest revision that the host has acted on.
    #[allow(dead_code, reason = "for people who read reports")]
    revision: u64,
    /// What it runs.
    #[serde(default)]
    instances: Vec<Observed>,
    /// What it promises not to run, now or ever, up to a generation.
    #[serde(default)]
    let_go: Vec<LetGo>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Observed {
    #[schema(value_type = String)]
    tenant: Tenant,
    #[schema(value_type = String)]
    instance_id: InstanceId,
    generation: u32,
    #[allow(dead_code, reason = "there is one state so far; others are refused by name")]
    state: ObservedState,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ObservedState {
    Running,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LetGo {
    #[schema(value_type = String)]
    tenant: Tenant,
    #[schema(value_type = String)]
    instance_id: InstanceId,
    generation: u32,
    #[schema(value_type = Option<Object>)]
    reason: Option<Reason>,
    /// Whether this generation has run.
    #[serde(default)]
    has_run: bool,
}

/// Takes a simulated host's report: what differs from what the tables know is published.
#[utoipa::path(post, path = "/v1/hosts/{host_id}/reports", tag = "agents", request_body = Report,
    params(("host_id" = String, Path)),
    responses((status = 200, description = "How much of it was news"),
        (status = 403, description = "HostIsEnrolled: it speaks for itself")))]
async fn of_simulated(
    Operator(api): Operator,
    Path(id): Path<String>,
    Body(report): Body<Report>,
) -> Result<Json<Value>, Refusal> {
    let id = host_id(&id)?;
    // Whole reports come at the pace of heartbeats: each is a sign of life.
    if report.complete {
        heard(&api, &id).await?
    } else {
        of_operator(&api, &id).await?
    };
    take(&api, &id, &report).await
}

/// Takes the report of the agent's host: what differs from what the tables know is published.
#[utoipa::path(post, path = "/v1/agents/{host_id}/reports", tag = "agents", request_body = Report,
    params(("host_id" = String, Path)),
    responses((status = 200, description = "How much of it was news")))]
async fn of_agent(agent: Agent) -> Result<Json<Value>, Refusal> {
    let report: Report = agent.body()?;
    let host = agent.registered()?;
    let api = &agent.api;
    if report.complete {
        let (store, now) = (&*api.ports.store, api.ports.clock.now());
        seen::heard(store, host, agent.seen.as_ref(), now).await?;
    }
    take(api, &agent.host, &report).await
}

/// Publishes what of a report is news.
async fn take(api: &Api, id: &HostId, report: &Report) -> Result<Json<Value>, Refusal> {
    let about: Vec<(&Tenant, &InstanceId)> = report
        .instances
        .iter()
        .map(|seen| (&seen.tenant, &seen.instance_id))
        .chain(report.let_go.iter().map(|gone| (&gone.tenant, &gone.instance_id)))
        .collect();
    let known = known(api, id, &about).await?;
    let mut entries: Vec<Entry> = Vec::new();
    let (running, gone) = known.split_at(report.instances.len());
    for (seen, known) in report.instances.iter().zip(running) {
        entries.extend(is_running(api, id, seen, known));
    }
    for (promise, known) in report.let_go.iter().zip(gone) {
        let Some(entry) = has_let_go(api, id, promise, known) else { continue };
        if let Some(of) = known.assignment.as_ref().filter(|assignment| !assignment.withdrawing) {
            let (store, now) = (&*api.ports.store, api.ports.clock.now());
            look_at_let_go(store, &of.tenant, &of.instance, of.generation, now).await?;
        }
        entries.push(entry);
    }
    let news = entries.len();
    if news > 0 {
        api.ports.bus.publish(entries).await?;
    }
    tell_durations(api, report, running);
    Ok(Json(json!({ "news": news })))
}

/// What the tables know of an instance on a host.
struct Known {
    record: Option<Record>,
    assignment: Option<Assignment>,
}

async fn known(
    api: &Api,
    host: &HostId,
    about: &[(&Tenant, &InstanceId)],
) -> Result<Vec<Known>, Refusal> {
    let keys: Vec<Key> = about
        .iter()
        .flat_map(|(tenant, id)| [record_key(tenant, id), assignment_key(host, tenant, id)])
        .collect();
    if keys.is_empty() {
        return Ok(vec![]);
    }
    let items = api.ports.store.batch_get(&keys).await?;
    let read = |(keys, items): (&[Key], &[Option<Item>])| {
        Ok(Known {
            record: items[0].as_ref().map(Record::read).transpose()?,
            assignment: items[1]
                .as_ref()
                .map(|item| Assignment::read(&keys[1], item))
                .transpose()?,
        })
    };
    keys.chunks(2).zip(items.chunks(2)).map(read).collect()
}

/// News if it is new.
fn is_running(api: &Api, host: &HostId, seen: &Observed, known: &Known) -> Option<Entry> {
    let assignment = known.assignment.as_ref().filter(|_| is_new(seen, known))?;
    let data = Data::InstanceRunning(InstanceRunning { host: host.to_string() });
    let emit = Emit { data, generation: seen.generation, deadline: assignment.deadline };
    Some(fresh(api, &seen.tenant, &seen.instance_id, emit))
}

/// Whether the host has this very assignment and the record does not show it running yet.
fn is_new(seen: &Observed, known: &Known) -> bool {
    let (Some(record), Some(assignment)) = (&known.record, &known.assignment) else { return false };
    assignment.generation == seen.generation
        && record.progress.generation == seen.generation
        && record.progress.state == State::Pending
}

/// Says how long each launch took that is heard of as running for the first time.
fn tell_durations(api: &Api, report: &Report, known: &[Known]) {
    let now = api.ports.clock.now();
    for (seen, known) in report.instances.iter().zip(known) {
        let Some(record) = known.record.as_ref().filter(|_| is_new(seen, known)) else { continue };
        // A later generation was asked for at a moment that no record keeps.
        if record.progress.generation == 1 {
            metric("LaunchDuration", "Milliseconds", now.since(record.created));
        }
    }
}

/// News while the host's assignment of that generation, or of an older one, stands.
fn has_let_go(api: &Api, host: &HostId, promise: &LetGo, known: &Known) -> Option<Entry> {
    let assignment = known.assignment.as_ref()?;
    let is_news = assignment.generation <= promise.generation;
    let ran = |record: &Record| {
        record.progress.generation == assignment.generation && record.running_at.is_some()
    };
    let has_run = promise.has_run || known.record.as_ref().is_some_and(ran);
    let reason = promise.reason.clone();
    let data = Data::InstanceHalted(InstanceHalted { host: host.to_string(), reason, has_run });
    let emit = Emit { data, generation: promise.generation, deadline: assignment.deadline };
    is_news.then(|| fresh(api, &promise.tenant, &promise.instance_id, emit))
}

fn fresh(api: &Api, tenant: &Tenant, subject: &InstanceId, emit: Emit) -> Entry {
    let origin = Origin::Fresh { tenant, subject, traceparent: None };
    stamp(&api.ports, "api", &origin, emit).entry()
}
