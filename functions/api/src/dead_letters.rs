//! What the functions could not handle: to look at, and to deliver again.

use crate::Shared;
use crate::answer::rfc3339;
use crate::error::Refusal;
use crate::extract::{Operator, Parameters, Path};
use axum::Json;
use eventplane_engine::DeadLetter;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many letters of a function a list has at most: on AWS ten come with one request, and an answer
/// has six megabytes at most.
const LISTED_MAX: usize = 100;
/// How many letters one redrive of all takes on at most.
const REDRIVEN_MAX: usize = 1_000;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(redrive))
        .routes(routes!(redrive_all))
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

/// The dead letters, oldest first; a hundred at most.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "dead letters",
    params(("function" = Option<String>, Query, description = "Only those of this function")),
    responses((status = 200, description = "The dead letters")))]
async fn list(
    Operator(api): Operator,
    Parameters(of): Parameters<OfFunction>,
) -> Result<Json<Value>, Refusal> {
    let letters = api.dead_letters.list(of.function.as_deref(), LISTED_MAX).await?;
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

/// Delivers all dead letters again, or those of one function.
#[utoipa::path(post, path = "/v1/dead-letters/redrive", tag = "dead letters",
    params(("function" = Option<String>, Query, description = "Only those of this function")),
    responses((status = 200, description = "How many are delivered")))]
async fn redrive_all(
    Operator(api): Operator,
    Parameters(of): Parameters<OfFunction>,
) -> Result<Json<Value>, Refusal> {
    let redriven = api.dead_letters.redrive_all(of.function.as_deref(), REDRIVEN_MAX).await?;
    Ok(Json(json!({ "redriven": redriven })))
}
