//! Reading requests: what does not fit is refused with the field and what would be right.

use crate::error::Refusal;
use crate::{Api, Options, Shared, limits};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use eventplane_domain::Tenant;
use eventplane_engine::LetInByNobody;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// What comes later, and is refused by name until then: (field, what there is instead).
const LATER: [(&str, &str); 2] = [
    ("min_count", "all-or-nothing launches come later: `count` asks for independent launches"),
    ("max_count", "all-or-nothing launches come later: `count` asks for independent launches"),
];

/// Refuses what came through a door at which nobody is asked who they are: that is for hosts' agents
/// alone, who sign.
fn let_in(parts: &Parts) -> Result<(), Refusal> {
    if parts.extensions.get::<LetInByNobody>().is_none() {
        return Ok(());
    }
    let message = "nobody has said who sent this: only hosts' agents are asked by the api itself";
    Err(Refusal::invalid("UnauthorizedOperation", message).status(StatusCode::FORBIDDEN))
}

/// The api for whoever asks: of the caller's tenant.
pub(crate) struct Caller(pub(crate) Shared);

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Refusal> {
        let_in(parts)?;
        limits::enter(api, &parts.method, parts.uri.path()).await?;
        let named = parts.extensions.get::<Option<Tenant>>();
        if named.is_none() && !api.options.tenant_of_request {
            return Ok(Caller(api.clone()));
        }
        let tenant = named.cloned().flatten().ok_or_else(|| {
            let message =
                "no tenant is known for who sent this: send it with a token that names one";
            Refusal::invalid("UnauthorizedOperation", message).status(StatusCode::FORBIDDEN)
        })?;
        let options = Options { tenant, ..api.options.clone() };
        Ok(Caller(Arc::new(Api { options, ..Api::clone(api) })))
    }
}

/// The api for those who run the plane, and for the hosts that they simulate: not for a tenant among
/// others.
pub(crate) struct Operator(pub(crate) Shared);

impl FromRequestParts<Shared> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Refusal> {
        let_in(parts)?;
        if parts.extensions.get::<Option<Tenant>>().is_some() {
            let message = "hosts, capacity, breakers, dead letters, replays and the ledger are for \
                           those who run the plane";
            return Err(
                Refusal::invalid("UnauthorizedOperation", message).status(StatusCode::FORBIDDEN)
            );
        }
        Ok(Operator(api.clone()))
    }
}

/// A body in JSON: one object.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        from_json(&bytes_of(request, state).await?).map(Body)
    }
}

/// The request apart from its body, and the body as it came.
pub(crate) async fn whole_body(request: Request) -> Result<(Parts, Bytes), Refusal> {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts.clone(), body);
    Ok((parts, bytes_of(request, &()).await?))
}

async fn bytes_of<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        let status = rejection.status();
        let (code, message) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let most = crate::BODY_BYTES_MAX;
                ("RequestTooLarge", format!("the body has to be at most {most} bytes"))
            }
            _ => ("MalformedBody", rejection.body_text()),
        };
        Refusal::invalid(code, message).status(status)
    })
}

/// Reads a body: one object.
pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    // serde takes a list for an object whose fields come in order; here that is no object.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        let message =
            "the body has to be one JSON object, such as {\"instance_type\": \"t3.micro\"}";
        return Err(Refusal::invalid("MalformedBody", message));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        refused(&path, error.inner())
    })?;
    json.end().map_err(|error| refused(".", &error))?;
    Ok(value)
}

fn refused(path: &str, error: &serde_json::Error) -> Refusal {
    let said = error.to_string();
    // The position helps nobody who did not write the JSON by hand.
    let said = said.split(" at line ").next().unwrap_or(&said).to_owned();
    if !error.is_data() {
        let message = format!("the body has to be one JSON object: {error}");
        return Refusal::invalid("MalformedBody", message);
    }
    let named = said.split('`').nth(1).unwrap_or_default();
    let inside = |name: &str| match path {
        "." | "" => name.to_owned(),
        path if path.ends_with(name) => path.to_owned(),
        path => format!("{path}.{name}"),
    };
    if let Some((field, instead)) = LATER.iter().find(|(later, _)| inside(named) == *later) {
        Refusal::invalid("UnknownParameter", *instead).about(field)
    } else if said.starts_with("unknown field") {
        Refusal::invalid("UnknownParameter", said.clone()).about(&inside(named))
    } else if said.starts_with("missing field") {
        Refusal::invalid("MissingParameter", said.clone()).about(&inside(named))
    } else {
        Refusal::value(path, format!("`{path}`: {said}"))
    }
}

/// The parts of the path that have names.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(named)) => Ok(Path(named)),
            Err(rejection) => {
                let message = format!("the path is not as it has to be: {rejection}");
                Err(Refusal::invalid("MalformedPath", message))
            }
        }
    }
}

/// The query's parameters.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Parameters(parameters)),
            Err(rejection) => {
                let said = rejection.body_text();
                let said = said.rsplit("query string: ").next().unwrap_or(&said).to_owned();
                let code = match said.contains("unknown field") {
                    true => "UnknownParameter",
                    false => "InvalidParameterValue",
                };
                let field = said.split(['`', ':']).find(|part| !part.contains(' '));
                let field = field.unwrap_or_default().to_owned();
                Err(Refusal::invalid(code, said).about(&field))
            }
        }
    }
}
