//! What users ask of an instance that there is: start, stop, reboot, terminate, protect. What is
//! wanted is written down before it is published, so that it is not lost with its publication.

use crate::error::Refusal;
use crate::extract::{Body, Caller, Path};
use crate::limits::{Action, admit};
use crate::view::{Whole, instance_id, read};
use crate::{Api, Shared};
use axum::Json;
use axum::http::StatusCode;
use eventplane_domain::{InstanceId, Reason, State, code};
use eventplane_engine::{Emit, Origin, stamp};
use eventplane_events::{Data, InstanceStartRequested, Reboot, TerminationRequested};
use eventplane_instances::{Asked, Request, Want};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How often a request is decided anew because another one was written meanwhile.
const TRIES_MAX: usize = 8;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(stop))
        .routes(routes!(reboot))
        .routes(routes!(modify))
}

/// What may be asked of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Stop,
    Reboot,
    Terminate,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruling {
    /// It is written down and published, and the instance shows this state at once.
    Ask(State),
    /// It is so already, or on its way: it is published once more, in case that was lost.
    Repeat,
    /// It is so already.
    Already,
    /// Not in this state: only in these.
    Not(&'static str),
}

/// Whether EC2 allows it in this state. What is so already is a success.
///
/// Source: "Amazon EC2 instance state changes" and "Stop and start Amazon EC2 instances", EC2 user
/// guide; `IncorrectInstanceState` under "Error codes for the Amazon EC2 API".
fn rule(verb: Verb, state: State) -> Ruling {
    use Ruling::{Already, Ask, Not, Repeat};
    match (verb, state) {
        (Verb::Terminate, State::Terminated) => Already,
        (Verb::Terminate, State::ShuttingDown) => Repeat,
        (Verb::Terminate, _) => Ask(State::ShuttingDown),
        (Verb::Start, State::Stopped) => Ask(State::Pending),
        (Verb::Start, State::Pending) => Repeat,
        (Verb::Start, State::Running) => Already,
        (Verb::Start, _) => Not("only a stopped instance can be started"),
        (Verb::Stop, State::Running) => Ask(State::Stopping),
        (Verb::Stop, State::Stopping) => Repeat,
        (Verb::Stop, State::Stopped) => Already,
        (Verb::Stop, _) => Not("only a running instance can be stopped"),
        (Verb::Reboot, State::Running) => Ask(State::Running),
        (Verb::Reboot, _) => Not("only a running instance can be rebooted"),
    }
}

impl Verb {
    fn wants(self) -> Want {
        match self {
            Verb::Start => Want::Running,
            Verb::Stop => Want::Stopped,
            Verb::Reboot => Want::Rebooted,
            Verb::Terminate => Want::Terminated,
        }
    }

    /// Why, as EC2 has it for what users ask.
    fn reason(self) -> Reason {
        let done = match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Reboot => "reboot",
            Verb::Terminate => "termination",
        };
        Reason::new(code::USER_SHUTDOWN, format!("User initiated: the {done} was asked for"))
    }

    /// The event that says so; of reboots it says which.
    fn data(self, request: &Request) -> Data {
        let reason = request.asked.as_ref().map_or(self.reason(), |asked| asked.reason.clone());
        match self {
            Verb::Start => Data::InstanceStartRequested(InstanceStartRequested { reason }),
            Verb::Stop => Data::InstanceStopRequested(TerminationRequested { reason }),
            Verb::Terminate => Data::InstanceTerminationRequested(TerminationRequested { reason }),
            Verb::Reboot => Data::InstanceRebootRequested(Reboot { number: request.reboots }),
        }
    }
}

/// Asks it of the instance; the answer has the state before and now.
pub(crate) async fn ask(api: &Api, id: &InstanceId, verb: Verb) -> Result<Json<Value>, Refusal> {
    let (store, tenant) = (&*api.ports.store, &api.options.tenant);
    for _ in 0..TRIES_MAX {
        let whole = read(store, tenant, id).await?;
        let previous = whole.state();
        let changed = |current: State| {
            Json(json!({
                "instance_id": id, "previous_state": previous, "current_state": current,
            }))
        };
        let before = whole.request.as_ref();
        let current = match rule(verb, previous) {
            Ruling::Already => return Ok(changed(previous)),
            Ruling::Not(only) => return Err(incorrect_state(id, previous, only)),
            Ruling::Repeat => {
                // What is pending for the first time was never started: it is the launch that goes on.
                if before.and_then(Request::wants) == Some(verb.wants()) {
                    publish(api, &whole, verb, before.expect("it has one")).await;
                }
                return Ok(changed(previous));
            }
            Ruling::Ask(current) => current,
        };
        if verb == Verb::Terminate && before.is_some_and(|request| request.is_protected) {
            return Err(protected(id));
        }
        let asked = Asked {
            wants: verb.wants(),
            generation: whole.record.progress.generation,
            at: api.ports.clock.now(),
            reason: verb.reason(),
        };
        let request = before.cloned().unwrap_or_default().asking(asked);
        if store.try_transact(vec![request.replace(before, tenant, id)]).await? {
            publish(api, &whole, verb, &request).await;
            return Ok(changed(current));
        }
    }
    Err(contended(id))
}

/// Publishes the request. What the bus does not take is published again by the sweeper.
async fn publish(api: &Api, whole: &Whole, verb: Verb, request: &Request) {
    let record = &whole.record;
    // Of the generation that was seen when it was asked for: once more is the same.
    let asked = request.asked.as_ref().map(|asked| asked.generation);
    let generation = asked.unwrap_or(record.progress.generation);
    let emit = Emit { data: verb.data(request), generation, deadline: record.deadline };
    let (tenant, subject) = (&record.tenant, &record.id);
    let origin = Origin::Fresh { tenant, subject, traceparent: None };
    let entry = stamp(&api.ports, "api", &origin, emit).entry();
    if let Err(fault) = api.ports.bus.publish(vec![entry]).await {
        warn!(%fault, ?verb, "a request is written, but not published: the sweeper will");
    }
}

fn incorrect_state(id: &InstanceId, state: State, only: &str) -> Refusal {
    let message = format!("{id} is {state}: {only}");
    Refusal::invalid("IncorrectInstanceState", message).status(StatusCode::CONFLICT)
}

fn protected(id: &InstanceId) -> Refusal {
    let message = format!(
        "{id} is protected from termination: take the protection away first, with `eventplane \
         protect --off {id}`, or PUT /v1/instances/{id} and {{\"termination_protection\": false}}"
    );
    Refusal::invalid("OperationNotPermitted", message).status(StatusCode::CONFLICT)
}

fn contended(id: &InstanceId) -> Refusal {
    let message = format!("others asked for something of {id} at the very same moment: repeat it");
    Refusal::invalid("ServiceUnavailable", message).status(StatusCode::SERVICE_UNAVAILABLE)
}

/// Starts a stopped instance: a new generation, on any host of its zone that has room. Its address
/// and its volumes are as they were.
#[utoipa::path(post, path = "/v1/instances/{instance_id}/start", tag = "instances",
    params(("instance_id" = String, Path)),
    responses((status = 200, description = "The state before and now"),
        (status = 409, description = "IncorrectInstanceState: it is not stopped")))]
async fn start(Caller(api): Caller, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    admit(&api, Action::Start, 1).await?;
    ask(&api, &instance_id(&id)?, Verb::Start).await
}

/// Stops a running instance: its room is given back, its address and volumes are kept.
#[utoipa::path(post, path = "/v1/instances/{instance_id}/stop", tag = "instances",
    params(("instance_id" = String, Path)),
    responses((status = 200, description = "The state before and now"),
        (status = 409, description = "IncorrectInstanceState: it does not run")))]
async fn stop(Caller(api): Caller, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    admit(&api, Action::Stop, 1).await?;
    ask(&api, &instance_id(&id)?, Verb::Stop).await
}

/// Reboots a running instance on its host.
#[utoipa::path(post, path = "/v1/instances/{instance_id}/reboot", tag = "instances",
    params(("instance_id" = String, Path)),
    responses((status = 200, description = "The state, before and now"),
        (status = 409, description = "IncorrectInstanceState: it does not run")))]
async fn reboot(Caller(api): Caller, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    admit(&api, Action::Reboot, 1).await?;
    ask(&api, &instance_id(&id)?, Verb::Reboot).await
}

/// What may be changed of an instance.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ModifyInstance {
    /// Whether terminations are refused.
    termination_protection: bool,
}

/// Protects an instance from termination, or no longer.
#[utoipa::path(put, path = "/v1/instances/{instance_id}", tag = "instances",
    request_body = ModifyInstance, params(("instance_id" = String, Path)),
    responses((status = 200, description = "The instance"),
        (status = 409, description = "IncorrectInstanceState: its end is under way")))]
async fn modify(
    Caller(api): Caller,
    Path(id): Path<String>,
    Body(asked): Body<ModifyInstance>,
) -> Result<Json<Value>, Refusal> {
    let id = instance_id(&id)?;
    let (store, tenant) = (&*api.ports.store, &api.options.tenant);
    let is_protected = asked.termination_protection;
    for _ in 0..TRIES_MAX {
        let whole = read(store, tenant, &id).await?;
        let before = whole.request.clone();
        if matches!(whole.state(), State::ShuttingDown | State::Terminated) {
            let only = "only what is not being terminated can be protected";
            return Err(incorrect_state(&id, whole.state(), only));
        }
        if before.as_ref().is_some_and(|request| request.is_protected) == is_protected {
            return Ok(Json(whole.shown()));
        }
        let request = Request { is_protected, ..before.clone().unwrap_or_default() };
        if store.try_transact(vec![request.replace(before.as_ref(), tenant, &id)]).await? {
            return Ok(Json(Whole { request: Some(request), ..whole }.shown()));
        }
    }
    Err(contended(&id))
}

#[cfg(test)]
mod tests {
    use super::Ruling::{Already, Ask, Repeat};
    use super::*;

    #[test]
    fn each_verb_in_each_state_is_as_ec2_has_it() {
        let not = |ruling: Ruling| matches!(ruling, Ruling::Not(_));
        for (verb, allowed) in [
            (
                Verb::Start,
                [Some(Repeat), Some(Already), None, None, None, Some(Ask(State::Pending))],
            ),
            (
                Verb::Stop,
                [None, Some(Ask(State::Stopping)), None, None, Some(Repeat), Some(Already)],
            ),
            (Verb::Reboot, [None, Some(Ask(State::Running)), None, None, None, None]),
            (
                Verb::Terminate,
                [
                    Some(Ask(State::ShuttingDown)),
                    Some(Ask(State::ShuttingDown)),
                    Some(Repeat),
                    Some(Already),
                    Some(Ask(State::ShuttingDown)),
                    Some(Ask(State::ShuttingDown)),
                ],
            ),
        ] {
            for (state, allowed) in State::ALL.into_iter().zip(allowed) {
                let ruling = rule(verb, state);
                match allowed {
                    Some(allowed) => assert_eq!(ruling, allowed, "{verb:?} when {state}"),
                    None => assert!(not(ruling), "{verb:?} when {state}: {ruling:?}"),
                }
            }
        }
    }
}
