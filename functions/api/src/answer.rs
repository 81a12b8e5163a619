//! What all answers have in common: a request id, and errors in one form.

use crate::error::Refusal;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

/// Gives every answer its request id, and writes the body of every refusal.
pub(crate) async fn with_request_id(request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    let mut response = next.run(request).await;
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        let body = refusal.body(&id);
        if let Some(seconds) = refusal.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
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
