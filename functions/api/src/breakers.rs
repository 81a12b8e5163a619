//! Breakers: to stop a function's events for a while, and to let them go on.

use crate::answer::rfc3339;
use crate::error::Refusal;
use crate::extract::{Body, Operator, Path};
use crate::{Shared, TABLES};
use axum::Json;
use eventplane_engine::Breaker;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(set))
}

/// What a breaker is to be.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Open,
    Closed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    state: Wanted,
}

fn shown(breaker: &Breaker) -> Value {
    json!({
        "function": breaker.function,
        "state": breaker.state.name(),
        "since": breaker.since.map(|since| rfc3339(since.0)),
        "waiting": breaker.waiting,
    })
}

/// A function that hears no events, with those that do: each has a table of its name.
pub(crate) fn no_function(name: &str) -> Refusal {
    let functions = TABLES.map(|table| table.name).join(", ");
    let message = format!("`{name}` is no function with an inbox; these are: {functions}");
    Refusal::not_found("InvalidFunction.NotFound", message).about("function")
}

/// The breakers of all functions that have an inbox, with how many messages wait there.
#[utoipa::path(get, path = "/v1/breakers", tag = "breakers",
    responses((status = 200, description = "The breakers")))]
async fn list(Operator(api): Operator) -> Result<Json<Value>, Refusal> {
    let breakers = api.breakers.breakers().await?;
    let breakers: Vec<Value> = breakers.iter().map(shown).collect();
    Ok(Json(json!({ "breakers": breakers })))
}

/// Opens or closes a function's breaker: while it is open the function's events wait.
#[utoipa::path(put, path = "/v1/breakers/{function}", tag = "breakers",
    params(("function" = String, Path)),
    request_body(content = Value, description = "`{\"state\": \"open\"}` or `closed`"),
    responses((status = 200, description = "The breaker as it stands now")))]
async fn set(
    Operator(api): Operator,
    Path(function): Path<String>,
    Body(Asked { state }): Body<Asked>,
) -> Result<Json<Value>, Refusal> {
    let is_open = matches!(state, Wanted::Open);
    let breaker = api.breakers.set_breaker(&function, is_open).await?;
    breaker.as_ref().map(shown).map(Json).ok_or_else(|| no_function(&function))
}
