//! What the functions could not handle: to look at, and to deliver again.

use crate::answer::rfc3339;
use crate::breakers::no_function;
use crate::error::Refusal;
use crate::extract::{Body, Operator, Parameters, Path};
use crate::{Shared, TABLES};
use axum::Json;
use eventplane_domain::Millis;
use eventplane_engine::DeadLetter;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many letters of a function a list has at most: on AWS ten come with one request, and an answer
/// has six megabytes at most.
const LISTED_MAX: usize = 100;
/// How many letters one redrive of all, or one purge, takes on: at most, and a redrive unless it is
/// told. On AWS ten go with three requests, and a function has fifteen seconds.
const TAKEN_MAX: usize = 1_000;
const REDRIVEN: usize = 100;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(redrive))
        .routes(routes!(redrive_all))
        .routes(routes!(purge))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfFunction {
    pub(crate) function: Option<String>,
}

fn shown(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "function": letter.function,
        "reason": letter.reason,
        "received": letter.received,
        "at": rfc3339(letter.at.0),
        "cause": cause(&letter.body),
        "message": serde_json::from_str::<Value>(&letter.body)
            .unwrap_or_else(|_| Value::String(letter.body.clone())),
    })
}

/// Refuses a function that hears no events.
fn known(function: Option<&str>) -> Result<Option<&str>, Refusal> {
    match function {
        Some(name) if !TABLES.iter().any(|table| table.name == name) => Err(no_function(name)),
        function => Ok(function),
    }
}

/// The dead letters, oldest first; a hundred at most.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "dead letters",
    params(("function" = Option<String>, Query, description = "Only those of this function")),
    responses((status = 200, description = "The dead letters")))]
async fn list(
    Operator(api): Operator,
    Parameters(of): Parameters<OfFunction>,
) -> Result<Json<Value>, Refusal> {
    let letters = api.dead_letters.list(known(of.function.as_deref())?, LISTED_MAX).await?;
    let letters: Vec<Value> = letters.iter().map(shown).collect();
    Ok(Json(json!({ "dead_letters": letters })))
}

/// Where the message came from, as far as it can be read: the request that all goes back to, the
/// event that led to this one, and how many did.
fn cause(message: &str) -> Value {
    let message: Value = serde_json::from_str(message).unwrap_or_default();
    let metadata = &message["detail"]["metadata"];
    json!({
        "event": message["detail-type"],
        "by": message["source"],
        "instance": metadata["subject"],
        "correlation": metadata["correlationid"],
        "caused_by": metadata["causationid"],
        "hop": metadata["hop"],
    })
}

pub(crate) fn none(id: &str) -> Refusal {
    let message = format!("there is no dead letter `{id}`: it was redriven, or never was");
    Refusal::not_found("InvalidDeadLetterID.NotFound", message)
}

/// One dead letter.
#[utoipa::path(get, path = "/v1/dead-letters/{id}", tag = "dead letters",
    params(("id" = String, Path)), responses((status = 200, description = "The dead letter")))]
async fn show(Operator(api): Operator, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let letter = api.dead_letters.get(&id).await?.ok_or_else(|| none(&id))?;
    Ok(Json(shown(&letter)))
}

/// Delivers one dead letter again.
#[utoipa::path(post, path = "/v1/dead-letters/{id}/redrive", tag = "dead letters",
    params(("id" = String, Path)), responses((status = 200, description = "It is delivered")))]
async fn redrive(Operator(api): Operator, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    if !api.dead_letters.redrive(&id).await? {
        return Err(none(&id));
    }
    Ok(Json(json!({ "redriven": 1 })))
}

/// What a redrive of all is about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    function: Option<String>,
    limit: Option<usize>,
    until: Option<String>,
}

/// The moment up to which letters are meant: the one that an earlier answer named, or now.
fn until(asked: Option<&str>, now: Millis) -> Result<Millis, Refusal> {
    let Some(text) = asked else { return Ok(now) };
    let moment = text.parse::<jiff::Timestamp>().map_err(|_| {
        let right = rfc3339(now.0);
        Refusal::value("until", format!("`until` has to be a moment such as {right}, not `{text}`"))
    })?;
    Ok(Millis(moment.as_millisecond()))
}

/// Delivers dead letters again, or those of one function: at most `limit`, so that whoever asks in
/// turns sets the pace. What fails again meanwhile is a later letter: with the answer's `until` the
/// next turn leaves it alone.
#[utoipa::path(post, path = "/v1/dead-letters/redrive", tag = "dead letters",
    params(
        ("function" = Option<String>, Query, description = "Only those of this function"),
        ("limit" = Option<usize>, Query, description = "At most so many, 1 to 1000; 100 unless told"),
        ("until" = Option<String>, Query, description = "Only what was a dead letter then"),
    ),
    responses((status = 200, description = "How many are delivered")))]
async fn redrive_all(
    Operator(api): Operator,
    Parameters(of): Parameters<Several>,
) -> Result<Json<Value>, Refusal> {
    let limit = of.limit.unwrap_or(REDRIVEN);
    if !(1..=TAKEN_MAX).contains(&limit) {
        let message = format!("`limit` has to be from 1 to {TAKEN_MAX}, not {limit}");
        return Err(Refusal::value("limit", message));
    }
    let until = until(of.until.as_deref(), api.ports.clock.now())?;
    let function = known(of.function.as_deref())?;
    let redriven = api.dead_letters.redrive_all(function, until, limit).await?;
    Ok(Json(json!({ "redriven": redriven, "until": rfc3339(until.0) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Purge {
    function: String,
    confirm: String,
    until: Option<String>,
}

/// Removes the dead letters of one function for ever, a thousand at most: whoever asks repeats the
/// function's name, since nothing brings them back.
#[utoipa::path(post, path = "/v1/dead-letters/purge", tag = "dead letters",
    request_body(content = Value,
        description = "`{\"function\": F, \"confirm\": F}`, and `until`: only what was a dead letter then"),
    responses((status = 200, description = "How many are removed, as far as that is known")))]
async fn purge(
    Operator(api): Operator,
    Body(Purge { function, confirm, until: then }): Body<Purge>,
) -> Result<Json<Value>, Refusal> {
    known(Some(&function))?;
    if confirm != function {
        let message = format!(
            "`confirm` has to repeat the function, `{function}`, and is `{confirm}`: nothing was removed"
        );
        return Err(Refusal::value("confirm", message));
    }
    let until = until(then.as_deref(), api.ports.clock.now())?;
    let purged = api.dead_letters.purge(&function, until, TAKEN_MAX).await?;
    Ok(Json(json!({ "function": function, "purged": purged, "until": rfc3339(until.0) })))
}
