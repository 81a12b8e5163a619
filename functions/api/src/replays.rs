//! What has happened, once more, in the shadow: each event of the past is put to each function that
//! its rules name, in order, and what each would do about it is told. No effect is ever repeated.
//!
//! The shadow lies over what stands now and keeps what is written in it until the replay ends. So a
//! launch that is recorded has nothing to do, and what would be applied was never recorded.

use crate::Shared;
use crate::answer::rfc3339;
use crate::error::Refusal;
use crate::extract::{Body, Operator};
use crate::rehearsal::{Rehearsal, Verdict, summary};
use crate::view::instance_id;
use axum::Json;
use eventplane_domain::Millis;
use eventplane_engine::Span;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many events one replay takes on at most: an answer has to come in time, and be read.
const EVENTS_MAX: usize = 1_000;
/// How many deliveries one rehearsal takes on at most: on Lambda an answer has 15 seconds.
const DELIVERIES_MAX: usize = 100;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(replay)).routes(routes!(rehearse))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    from: Option<String>,
    to: Option<String>,
    instance_id: Option<String>,
    function: Option<String>,
}

/// A moment as a request has it.
fn moment(field: &str, text: &str) -> Result<Millis, Refusal> {
    let at = text.parse::<jiff::Timestamp>().map_err(|_| {
        let message =
            format!("`{field}` has to be a moment such as 2026-11-25T08:30:00Z, not `{text}`");
        Refusal::value(field, message)
    })?;
    Ok(Millis(at.as_millisecond()))
}

impl Asked {
    fn span(&self, now: Millis) -> Result<Span, Refusal> {
        let at = |field, text: &Option<String>, unsaid| {
            text.as_ref().map_or(Ok(unsaid), |text| moment(field, text))
        };
        let (from, to) = (at("from", &self.from, Millis(0))?, at("to", &self.to, now)?);
        if from > to {
            let message = "`from` is after `to`: nothing lies between them";
            return Err(Refusal::value("from", message));
        }
        let instance = self.instance_id.as_deref().map(instance_id).transpose()?;
        Ok(Span { from, to, instance, limit: EVENTS_MAX })
    }
}

/// An event as a replay shows it, without what the functions say.
fn event(at: Option<Millis>, message: &str) -> Value {
    let event: Value = serde_json::from_str(message).unwrap_or_default();
    let metadata = &event["detail"]["metadata"];
    json!({
        "at": at.map(|at| rfc3339(at.0)),
        "event": event["detail-type"],
        "instance_id": metadata["subject"],
        "generation": metadata["generation"],
        "event_id": metadata["id"],
        "caused_by": metadata["causationid"],
    })
}

/// Puts the events that were published between two moments to the functions that hear them, in the
/// shadow: what each would do now. A thousand events at most.
#[utoipa::path(post, path = "/v1/replays", tag = "replays", request_body = Object,
    responses((status = 200, description = "By event and function the verdicts, and how many there are of each")))]
async fn replay(Operator(api): Operator, Body(asked): Body<Asked>) -> Result<Json<Value>, Refusal> {
    let Some(archive) = &api.archive else {
        let message = "no archive can be read from here: on AWS `eventplane replay --stack NAME` \
                       has the bus replay its own into the shadow";
        return Err(Refusal::invalid("UnsupportedOperation", message));
    };
    let span = asked.span(api.ports.clock.now())?;
    let rehearsal = Rehearsal::of(&api);
    asked.function.as_deref().map_or(Ok(()), |function| rehearsal.check(function))?;
    let found = archive.read(&span).await?;
    let (mut verdicts, mut events) = (Vec::new(), Vec::new());
    for archived in &found.events {
        let hears = |name: &&String| asked.function.as_ref().is_none_or(|only| only == *name);
        let mut functions = Vec::new();
        for function in archived.hearers.iter().filter(hears) {
            functions.push(one(&rehearsal, function, &archived.message, &mut verdicts).await?);
        }
        let mut shown = event(Some(archived.at), &archived.message);
        shown["functions"] = json!(functions);
        events.push(shown);
    }
    let mut answer = json!({
        "events": events,
        "summary": summary(&verdicts),
        "not_archived": found.dropped,
    });
    if let Some(last) = found.events.last().filter(|_| found.more) {
        answer["more_from"] = json!(rfc3339(last.at.0));
    }
    Ok(Json(answer))
}

async fn one(
    rehearsal: &Rehearsal,
    function: &str,
    message: &str,
    verdicts: &mut Vec<Verdict>,
) -> Result<Value, Refusal> {
    let ruled = rehearsal.run(function, message).await?;
    verdicts.push(ruled.verdict);
    let mut shown = ruled.shown();
    shown["function"] = json!(function);
    Ok(shown)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deliveries {
    deliveries: Vec<Delivery>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delivery {
    function: String,
    message: Value,
}

/// Puts messages to functions in one shadow, one after the other: what each would do now. A hundred
/// at most.
#[utoipa::path(post, path = "/v1/rehearsals", tag = "replays", request_body = Object,
    responses((status = 200, description = "The verdicts in the same order, and how many there are of each")))]
async fn rehearse(
    Operator(api): Operator,
    Body(asked): Body<Deliveries>,
) -> Result<Json<Value>, Refusal> {
    if asked.deliveries.is_empty() || asked.deliveries.len() > DELIVERIES_MAX {
        let many = asked.deliveries.len();
        let message = format!("`deliveries` has to hold 1 to {DELIVERIES_MAX}, not {many}");
        return Err(Refusal::value("deliveries", message));
    }
    let rehearsal = Rehearsal::of(&api);
    for delivery in &asked.deliveries {
        rehearsal.check(&delivery.function)?;
    }
    let (mut verdicts, mut rehearsed) = (Vec::new(), Vec::new());
    for Delivery { function, message } in &asked.deliveries {
        // A message that was never JSON comes as a text.
        let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
        rehearsed.push(one(&rehearsal, function, &message, &mut verdicts).await?);
    }
    Ok(Json(json!({ "rehearsed": rehearsed, "summary": summary(&verdicts) })))
}
