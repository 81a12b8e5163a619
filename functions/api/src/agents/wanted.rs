//! The wanted set: all that a host is to run and to let go.

use super::signed::Agent;
use crate::error::Refusal;
use crate::extract::{Operator, Parameters, Path};
use crate::hosts::{host_id, of_operator};
use crate::{Api, Shared, WAIT_S_MAX};
use axum::Json;
use axum::response::{IntoResponse, Response};
use eventplane_domain::{HostId, InstanceId, Millis, Tenant};
use eventplane_engine::Fault;
use eventplane_handoff::{Assignment, AssignmentBody, WantedSet, host_partition, offer_write};
use eventplane_store::{Key, TRANSACTION_WRITES_MAX, TransactError, Write};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How soon a host is to ask again while something is pending for it, and otherwise.
const POLL_SOON_MS: u64 = 250;
const POLL_LATER_MS: u64 = 5_000;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(of_simulated)).routes(routes!(of_agent))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    after: Option<u64>,
    wait: Option<u64>,
}

/// All that a simulated host is to run and to let go. With `after` and `wait`: as soon as that has
/// changed.
#[utoipa::path(get, path = "/v1/hosts/{host_id}/assignments", tag = "agents",
    params(("host_id" = String, Path),
        ("after" = Option<u64>, Query, description = "The newest revision that the host knows"),
        ("wait" = Option<u64>, Query, description = "Seconds, at most 30")),
    responses((status = 200, description = "The wanted set"),
        (status = 403, description = "HostIsEnrolled: it asks for itself")))]
async fn of_simulated(
    Operator(api): Operator,
    Path(id): Path<String>,
    Parameters(after): Parameters<After>,
) -> Result<Response, Refusal> {
    let id = host_id(&id)?;
    of_operator(&api, &id).await?;
    answer(&api, &id, &after, None).await
}

/// All that the agent's host is to run and to let go. With `after` and `wait`: as soon as that has
/// changed.
#[utoipa::path(get, path = "/v1/agents/{host_id}/assignments", tag = "agents",
    params(("host_id" = String, Path),
        ("after" = Option<u64>, Query, description = "The newest revision that the host knows"),
        ("wait" = Option<u64>, Query, description = "Seconds, at most 30")),
    responses((status = 200, description = "The wanted set")))]
async fn of_agent(
    Parameters(after): Parameters<After>,
    mut agent: Agent,
) -> Result<Response, Refusal> {
    agent.registered()?;
    let (api, host) = (agent.api.clone(), agent.host.clone());
    answer(&api, &host, &after, Some(&mut agent)).await
}

/// The wanted set, once it is news or the time is over. An agent that was shut out while it waited is
/// told that instead: what is new is for another.
async fn answer(
    api: &Api,
    id: &HostId,
    after: &After,
    mut agent: Option<&mut Agent>,
) -> Result<Response, Refusal> {
    let wait_s = after.wait.unwrap_or(0).min(WAIT_S_MAX);
    let end = Instant::now() + Duration::from_secs(wait_s);
    let table = eventplane_handoff::TABLE.name;
    let mut watch = match wait_s {
        0 => None,
        _ => api.waiter.watch(table, &host_partition(id)),
    };
    loop {
        let wanted = WantedSet::of(&*api.ports.store, id).await?;
        let is_news = after.after != Some(wanted.revision)
            || wanted.assignments.iter().any(|assignment| !assignment.offered);
        let over = is_news || Instant::now() >= end;
        let Some(watch) = watch.as_mut().filter(|_| !over) else {
            let soon = wanted.assignments.iter().any(|one| one.withdrawing || !one.offered);
            let wanted = offer(api, wanted).await?;
            return Ok(Json(told(&wanted, soon)).into_response());
        };
        if let Some(agent) = &mut agent {
            agent.waits();
        }
        // Whether it changed or the time is over: what stands then is the answer.
        let _ = timeout_at(end, watch.changed()).await;
        if let Some(agent) = &mut agent {
            agent.goes_on().await?;
        }
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
    /// Whether an earlier generation has run: then its volumes are there already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    has_run: bool,
    /// The newest request for what it has written to its console.
    #[serde(skip_serializing_if = "is_zero")]
    consoles: u32,
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
            has_run: assignment.has_run,
            consoles: assignment.consoles,
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
