//! What all answers have in common: a request id, errors in one form, and the routes that are
//! about the api itself.

use crate::Shared;
use crate::error::Refusal;
use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(health))
}

/// Whether the api answers.
#[utoipa::path(get, path = "/health", tag = "api",
    responses((status = 200, description = "It answers")))]
async fn health() -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// Gives every answer its request id, and writes the body of every refusal.
pub(crate) async fn with_request_id(request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    let mut response = next.run(request).await;
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        let body = refusal.body(&id);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        *response.body_mut() = Body::from(body);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

pub(crate) async fn no_such_route(uri: Uri) -> Refusal {
    let message = format!("there is nothing at {}: /openapi.json lists what there is", uri.path());
    Refusal::not_found("NotFound", message)
}

pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    let message = format!("{} takes no {method}: /openapi.json lists what it takes", uri.path());
    Refusal::invalid("MethodNotAllowed", message).status(StatusCode::METHOD_NOT_ALLOWED)
}

/// A moment for people: RFC 3339, in UTC.
pub(crate) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default()
}
