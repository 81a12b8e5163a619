//! What the hosts' agents ask and say: their wanted set, and what they see.

use crate::error::Refusal;
use crate::extract::{Body, Operator, Parameters, Path};
use crate::hosts::{found, heard, host_id};
use crate::{Api, Shared, WAIT_S_MAX};
use axum::Json;
use axum::response::{IntoResponse, Response};
use eventplane_domain::{HostId, InstanceId, Millis, Reason, State, Tenant};
use eventplane_engine::{Emit, Fault, Origin, metric, stamp};
use eventplane_events::{Data, Entry, InstanceHalted, InstanceRunning};
use eventplane_handoff::{
    Assignment, AssignmentBody, WantedSet, assignment_key, host_partition, offer_write,
};
use eventplane_instances::{Record, look_at_let_go, record_key};
use eventplane_store::{Item, Key, TRANSACTION_WRITES_MAX, TransactError, Write};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How soon a host is to ask again while something is pending for it, and otherwise.
const POLL_SOON_MS: u64 = 250;
const POLL_LATER_MS: u64 = 5_000;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(assignments)).routes(routes!(report))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    after: Option<u64>,
    wait: Option<u64>,
}

/// All that a host is to run and to let go. With `after` and `wait`: as soon as that has changed.
#[utoipa::path(get, path = "/v1/hosts/{host_id}/assignments", tag = "agents",
    params(("host_id" = String, Path),
        ("after" = Option<u64>, Query, description = "The newest revision that the host knows"),
        ("wait" = Option<u64>, Query, description = "Seconds, at most 30")),
    responses((status = 200, description = "The wanted set")))]
async fn assignments(
    Operator(api): Operator,
    Path(id): Path<String>,
    Parameters(after): Parameters<After>,
) -> Result<Response, Refusal> {
    let id = host_id(&id)?;
    found(&api, &id).await?;
    let wait_s = after.wait.unwrap_or(0).min(WAIT_S_MAX);
    let end = Instant::now() + Duration::from_secs(wait_s);
    let table = eventplane_handoff::TABLE.name;
    let mut watch = match wait_s {
        0 => None,
        _ => api.waiter.watch(table, &host_partition(&id)),
    };
    loop {
        let wanted = WantedSet::of(&*api.ports.store, &id).await?;
        let is_news = after.after != Some(wanted.revision)
            || wanted.assignments.iter().any(|assignment| !assignment.offered);
        let over = is_news || Instant::now() >= end;
        let Some(watch) = watch.as_mut().filter(|_| !over) else {
            let soon = wanted.assignments.iter().any(|one| one.withdrawing || !one.offered);
            let wanted = offer(&api, wanted).await?;
            return Ok(Json(told(&wanted, soon)).into_response());
        };
        // Whether it changed or the time is over: what stands then is the answer.
        let _ = timeout_at(end, watch.changed()).await;
    }
}

/// Marks as offered what the host is to see for the first time, before it sees it; what is
/// withdrawn meanwhile is left out. A dead host is offered nothing.
async fn offer(api: &Api, mut wanted: WantedSet) -> Result<WantedSet, Fault> {
    let is_new = |assignment: &Assignment| !assignment.offered && !assignment.withdrawing;
    if wanted.dead {
        wanted.assignments.retain(|assignment| assignment.offered);
        wanted.assignments.iter_mut().for_each(|assignment| assignment.withdrawing = true);
        return Ok(wanted);
    }
    loop {
        let writes: Vec<Write> = wanted
            .assignments
            .iter()
            .filter(|assignment| is_new(assignment))
            .take(TRANSACTION_WRITES_MAX)
            .map(offer_write)
            .collect();
        if writes.is_empty() {
            return Ok(wanted);
        }
        let keys: Vec<Key> = writes.iter().map(|write| write.key.clone()).collect();
        match api.ports.store.transact(writes).await {
            Ok(()) => {
                let now_offered = wanted.assignments.iter_mut().filter(|a| keys.contains(&a.key()));
                now_offered.for_each(|assignment| assignment.offered = true);
            }
            Err(TransactError::ConditionFailed(failed)) => wanted
                .assignments
                .retain(|assignment| !failed.iter().any(|gone| gone.key == assignment.key())),
            Err(TransactError::Fault(fault)) => return Err(fault.into()),
        }
    }
}

/// The set as a host is told it; written straight into the answer, since a host hears of all that
/// it runs with every change.
#[derive(Serialize)]
struct Told<'w> {
    revision: u64,
    poll_after_ms: u64,
    wanted: Vec<ToRun<'w>>,
    let_go: Vec<ToLetGo<'w>>,
}

#[derive(Serialize)]
struct ToRun<'w> {
    tenant: &'w Tenant,
    instance_id: &'w InstanceId,
    generation: u32,
    deadline: Millis,
    #[serde(skip_serializing_if = "is_zero")]
    reboots: u32,
    launch: &'w AssignmentBody,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[derive(Serialize)]
struct ToLetGo<'w> {
    tenant: &'w Tenant,
    instance_id: &'w InstanceId,
    generation: u32,
}

/// The set as the host is told it. `soon`: something in it is new to the host, or has to be let
/// go of, so that more may follow at once.
fn told(wanted: &WantedSet, soon: bool) -> Told<'_> {
    let (going, staying): (Vec<&Assignment>, Vec<&Assignment>) =
        wanted.assignments.iter().partition(|assignment| assignment.withdrawing);
    Told {
        revision: wanted.revision,
        poll_after_ms: if soon { POLL_SOON_MS } else { POLL_LATER_MS },
        wanted: staying.into_iter().map(ToRun::of).collect(),
        let_go: going.into_iter().map(ToLetGo::of).collect(),
    }
}

impl<'w> ToRun<'w> {
    fn of(assignment: &'w Assignment) -> Self {
        ToRun {
            tenant: &assignment.tenant,
            instance_id: &assignment.instance,
            generation: assignment.generation,
            deadline: assignment.deadline,
            reboots: assignment.reboots,
            launch: &assignment.body,
        }
    }
}

impl<'w> ToLetGo<'w> {
    fn of(assignment: &'w Assignment) -> Self {
        let Assignment { tenant, instance: instance_id, generation, .. } = assignment;
        ToLetGo { tenant, instance_id, generation: *generation }
    }
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

/// Takes a host's report: what differs from what the tables know is published.
#[utoipa::path(post, path = "/v1/hosts/{host_id}/reports", tag = "agents", request_body = Report,
    params(("host_id" = String, Path)),
    responses((status = 200, description = "How much of it was news")))]
async fn report(
    Operator(api): Operator,
    Path(id): Path<String>,
    Body(report): Body<Report>,
) -> Result<Json<Value>, Refusal> {
    let id = host_id(&id)?;
    // Whole reports come at the pace of heartbeats: each is a sign of life.
    if report.complete {
        heard(&api, &id).await?
    } else {
        found(&api, &id).await.map(drop)?
    };
    let about: Vec<(&Tenant, &InstanceId)> = report
        .instances
        .iter()
        .map(|seen| (&seen.tenant, &seen.instance_id))
        .chain(report.let_go.iter().map(|gone| (&gone.tenant, &gone.instance_id)))
        .collect();
    let known = known(&api, &id, &about).await?;
    let mut entries: Vec<Entry> = Vec::new();
    let (running, gone) = known.split_at(report.instances.len());
    for (seen, known) in report.instances.iter().zip(running) {
        entries.extend(is_running(&api, &id, seen, known));
    }
    for (promise, known) in report.let_go.iter().zip(gone) {
        let Some(entry) = has_let_go(&api, &id, promise, known) else { continue };
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
    tell_durations(&api, &report, running);
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
