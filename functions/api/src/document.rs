//! The OpenAPI document: what all operations have in common is said here once.

use crate::error::ErrorBody;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use utoipa::openapi::{Content, Ref, RefOr, Response};
use utoipa::{OpenApi, ToSchema};

const JSON: &str = "application/json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Eventplane",
        description = "A control plane for machines, in the shape of EC2. Errors are \
                       `{\"error\": {code, message, class, retry, field, hint, request_id}}`."
    ),
    components(schemas(ErrorBody))
)]
pub(crate) struct Document;

/// The document with what the handlers' own lines leave out: every answer is in JSON, one that
/// is described no further is an object, and all that an operation does not name is an error.
pub(crate) fn completed(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    for item in document.paths.paths.values_mut() {
        let all = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        all.into_iter().flatten().for_each(complete);
    }
    document
}

fn complete(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response
            && response.content.is_empty()
            && status != "204"
        {
            let content = if status.starts_with('4') { error() } else { object() };
            response.content.insert(JSON.to_owned(), RefOr::T(content));
        }
    }
    let mut other = Response::new("An error: its code and message say what would be right");
    other.content.insert(JSON.to_owned(), RefOr::T(error()));
    responses.insert("default".to_owned(), RefOr::T(other));
}

fn error() -> Content {
    Content::new(Some(Ref::from_schema_name(ErrorBody::name())))
}

fn object() -> Content {
    Content::new(Some(Schema::from(ObjectBuilder::new().build())))
}
