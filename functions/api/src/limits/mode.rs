//! What the plane takes on now: its mode, which rules and operators change.

use super::{Action, THROTTLED};
use crate::answer::rfc3339;
use crate::error::Refusal;
use crate::extract::{Body, Operator};
use crate::{Api, Shared};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use eventplane_domain::{Millis, Mode};
use eventplane_instances::{Standing, mode_key};
use eventplane_store::{FaultKind, StoreFault};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tracing::error;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How old the mode may be that a process goes by, in milliseconds.
const LOOK_EVERY_MS: i64 = 5_000;
/// How long a store that did not answer is left alone, in milliseconds: meanwhile requests are
/// refused at once, and nobody waits for it.
const LEFT_ALONE_MS: i64 = 1_000;
/// How long the store may take to tell the mode.
const PATIENCE: Duration = Duration::from_secs(1);
/// When to come again while a mode refuses, in milliseconds.
const COME_AGAIN_MS: i64 = 60_000;
/// How often a mode is set anew because it was changed meanwhile.
const TRIES_MAX: usize = 3;
/// The longest reason, in characters.
const REASON_CHARS_MAX: usize = 200;

/// What a mode makes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    /// At the small rate of all tenants together.
    Shed,
    Refused,
}

/// What is done in a mode: launches are shed before terminations. Reads are no matter of it.
pub(super) fn verdict(mode: Mode, action: Action) -> Verdict {
    use Action::{Describe, DescribeSome, Launch, Reboot, Start, Stop, Terminate};
    match (mode, action) {
        (Mode::Normal, _) | (_, Describe | DescribeSome) => Verdict::Go,
        (Mode::Shedding, Launch | Start) => Verdict::Shed,
        (Mode::Shedding, _) | (Mode::TerminateOnly, Stop | Terminate) => Verdict::Go,
        (Mode::TerminateOnly, Launch | Start | Reboot) | (Mode::ReadOnly, _) => Verdict::Refused,
    }
}

/// The refusal of what a mode does not do.
pub(super) fn refused(standing: &Standing, what: &str) -> Refusal {
    let (mode, reason) = (standing.mode.name(), &standing.reason);
    let message = format!("the plane is {mode}, where {what} is not done: {reason}");
    Refusal::invalid("ServiceUnavailable", message)
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .after_ms(COME_AGAIN_MS)
}

/// What is said to those that are shed.
pub(super) fn shed(standing: &Standing, action: Action) -> String {
    let name = action.name();
    format!("the plane sheds what begins, and lets only a few {name} through: {}", standing.reason)
}

/// What a process knows of the mode.
#[derive(Default)]
pub(super) struct Watch(Mutex<Option<Known>>);

#[derive(Clone)]
struct Known {
    at: Millis,
    /// Nothing when the store did not answer.
    standing: Option<Standing>,
}

impl Watch {
    /// What is known, if it is fresh. If it is not, the next one looks, and the others go by what
    /// was known until it has.
    fn known(&self, now: Millis) -> Option<Known> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = known.as_mut()?;
        let fresh_ms = if last.standing.is_some() { LOOK_EVERY_MS } else { LEFT_ALONE_MS };
        if now >= last.at && now.since(last.at) < fresh_ms {
            return Some(last.clone());
        }
        last.at = now;
        None
    }

    fn learn(&self, now: Millis, standing: Option<Standing>) {
        let known = Some(Known { at: now, standing });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn last(&self) -> Option<Standing> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().and_then(|known| known.standing.clone())
    }
}

/// The mode that holds, as this process knows it.
///
/// # Errors
/// When the store does not answer, and has not a moment ago.
pub(super) async fn standing(api: &Api) -> Result<Standing, Refusal> {
    let Some(watch) = &api.limits.watch else { return Ok(Standing::default()) };
    let now = api.ports.clock.now();
    let standing = match watch.known(now) {
        Some(known) => known.standing,
        None => {
            let standing = look(api, watch).await;
            watch.learn(now, standing.clone());
            standing
        }
    };
    match standing {
        Some(standing) if standing.is_set || api.limits.settings.modes => Ok(standing),
        Some(_) => Ok(Standing::default()),
        None => Err(unreachable()),
    }
}

/// Reads the mode. Nothing when the store does not answer; one that is only busy is gone by with
/// what was known.
async fn look(api: &Api, watch: &Watch) -> Option<Standing> {
    let key = mode_key();
    let no_answer = || StoreFault::new(FaultKind::Unavailable, "no answer in time");
    let read = timeout(PATIENCE, api.ports.store.get(&key)).await;
    match read.unwrap_or_else(|_| Err(no_answer())) {
        Ok(item) => Some(read_standing(item.as_ref())),
        Err(fault) if matches!(fault.kind, FaultKind::Throttled | FaultKind::Conflict) => {
            Some(watch.last().unwrap_or_default())
        }
        Err(fault) => {
            error!(%fault, "the mode is not known: the store does not answer");
            None
        }
    }
}

/// A mode that nobody can read is no reason to stand still.
fn read_standing(item: Option<&eventplane_store::Item>) -> Standing {
    let Some(item) = item else { return Standing::default() };
    Standing::read(item).unwrap_or_else(|fault| {
        error!(%fault, "the mode is taken for normal");
        Standing::default()
    })
}

fn unreachable() -> Refusal {
    let message = "the store does not answer: nothing was done, and what is under way goes on by \
                   itself as soon as it does";
    Refusal::invalid("ServiceUnavailable", message)
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .after_ms(LEFT_ALONE_MS)
}

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(show, set))
}

fn shown(standing: &Standing) -> Value {
    let is_new = standing.since > Millis(0);
    json!({
        "mode": standing.mode.name(),
        "since": is_new.then(|| rfc3339(standing.since.0)),
        "reason": standing.reason,
        "set_by": if standing.is_set { "operator" } else { "rules" },
    })
}

/// Whether the api answers, and what the plane takes on.
#[utoipa::path(get, path = "/health", tag = "api",
    responses((status = 200, description = "It answers, and the mode that it is in"),
        (status = 503, description = "The store does not answer")))]
async fn health(State(api): State<Shared>) -> (StatusCode, Json<Value>) {
    let version = env!("CARGO_PKG_VERSION");
    match standing(&api).await {
        Ok(standing) => {
            let mut health = shown(&standing);
            health["status"] = json!("ok");
            health["version"] = json!(version);
            (StatusCode::OK, Json(health))
        }
        Err(refusal) => {
            let health =
                json!({ "status": "unavailable", "version": version, "reason": refusal.message });
            (StatusCode::SERVICE_UNAVAILABLE, Json(health))
        }
    }
}

/// The mode, since when, why, and who has entered it.
#[utoipa::path(get, path = "/v1/mode", tag = "modes",
    responses((status = 200, description = "The mode")))]
async fn show(Operator(api): Operator) -> Result<Json<Value>, Refusal> {
    let item = api.ports.store.get(&mode_key()).await?;
    Ok(Json(shown(&read_standing(item.as_ref()))))
}

/// What an operator wants.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// A mode, or `auto`: then the rules have it again, and leave it step by step. Where there are
    /// none it is normal at once.
    mode: String,
    /// Why: whoever is refused reads it. A mode needs one, `auto` does not.
    reason: Option<String>,
}

impl Wanted {
    /// What stands after it, where rules hold or do not.
    fn after(&self, before: &Standing, now: Millis, has_rules: bool) -> Result<Standing, Refusal> {
        if self.mode == "auto" {
            let reason = "an operator has given it back to the rules".to_owned();
            let mode = if has_rules { before.mode } else { Mode::Normal };
            return Ok(Standing { mode, is_set: false, since: now, reason, ..before.clone() });
        }
        let mode = Mode::of_name(&self.mode).ok_or_else(|| {
            let names = Mode::ALL.map(Mode::name).join(", ");
            let message = format!("`mode` is one of {names}, or auto; not `{}`", self.mode);
            Refusal::value("mode", message)
        })?;
        let reason = self.reason.as_deref().map(str::trim).unwrap_or_default();
        if !(1..=REASON_CHARS_MAX).contains(&reason.chars().count()) {
            let message = format!(
                "a mode is set with a `reason` of 1 to {REASON_CHARS_MAX} characters: whoever is \
                 refused reads it"
            );
            return Err(Refusal::value("reason", message));
        }
        Ok(Standing { mode, since: now, reason: reason.to_owned(), is_set: true, ..before.clone() })
    }
}

/// Sets the mode, or gives it back to the rules. Every process goes by it within seconds.
#[utoipa::path(put, path = "/v1/mode", tag = "modes", request_body = Wanted,
    responses((status = 200, description = "The mode from now on")))]
async fn set(Operator(api): Operator, Body(wanted): Body<Wanted>) -> Result<Json<Value>, Refusal> {
    let store = &api.ports.store;
    for _ in 0..TRIES_MAX {
        let item = store.get(&mode_key()).await?;
        let before = item.as_ref().map(Standing::read).transpose()?;
        let now = api.ports.clock.now();
        let has_rules = api.limits.settings.modes;
        let after = wanted.after(&before.clone().unwrap_or_default(), now, has_rules)?;
        if store.try_transact(vec![after.write(before.as_ref())]).await? {
            let shown = shown(&after);
            if let Some(watch) = &api.limits.watch {
                watch.learn(now, Some(after));
            }
            return Ok(Json(shown));
        }
    }
    let message = "the mode was changed at the very same moment, again and again";
    Err(Refusal::invalid(THROTTLED, message).status(StatusCode::SERVICE_UNAVAILABLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_are_shed_before_terminations() {
        use Verdict::{Go, Refused, Shed};
        // Launch, start, stop, reboot, terminate, describe all, describe some.
        for (mode, verdicts) in [
            (Mode::Normal, [Go, Go, Go, Go, Go, Go, Go]),
            (Mode::Shedding, [Shed, Shed, Go, Go, Go, Go, Go]),
            (Mode::TerminateOnly, [Refused, Refused, Go, Refused, Go, Go, Go]),
            (Mode::ReadOnly, [Refused, Refused, Refused, Refused, Refused, Go, Go]),
        ] {
            assert_eq!(Action::ALL.map(|action| verdict(mode, action)), verdicts, "{mode:?}");
        }
    }

    #[test]
    fn a_process_looks_once_in_a_while_and_one_at_a_time() {
        let watch = Watch::default();
        let stands = |at| watch.known(Millis(at)).map(|known| known.standing.is_some());
        assert_eq!(stands(1_000), None, "nothing is known yet");
        watch.learn(Millis(1_000), Some(Standing::default()));
        assert_eq!(stands(1_000), Some(true));
        assert_eq!(stands(1_000 + LOOK_EVERY_MS - 1), Some(true));
        assert_eq!(stands(1_000 + LOOK_EVERY_MS), None, "this one looks");
        assert_eq!(stands(1_001 + LOOK_EVERY_MS), Some(true), "and the others do not");
        watch.learn(Millis(10_000), None);
        assert_eq!(stands(10_000 + LEFT_ALONE_MS - 1), Some(false), "refused at once");
        assert_eq!(stands(10_000 + LEFT_ALONE_MS), None);
        assert_eq!(stands(9_000), None, "a clock that jumped back");
    }
}
