//! The shell of the api: requests of API Gateway go into its router.
//!
//! Source: "Working with AWS Lambda proxy integrations for HTTP APIs", API Gateway developer guide
//! (payload format 2.0).

use crate::world::World;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use eventplane_domain::Tenant;
use eventplane_engine::{Waiter, Watching};
use lambda_http::request::RequestContext;
use lambda_http::{Error, Request, RequestExt, service_fn};
use serde_json::json;
use tower::ServiceExt;

/// Serves the api, until Lambda ends the process. Where the template names a claim, a request with
/// a token goes on with its caller's [`Tenant`] as an extension; one whose token has no tenant in
/// that claim goes nowhere.
///
/// # Errors
/// A runtime that does not answer.
pub async fn serve_http(world: &World, router: Router) -> Result<(), Error> {
    let claim = world.tenant_claim();
    let serve = |mut request: Request| {
        let (router, claim) = (router.clone(), claim.clone());
        async move {
            match caller(&request, claim.as_deref()) {
                Caller::Unnamed(claim) => return Ok(unnamed(claim)),
                Caller::Tenant(tenant) => drop(request.extensions_mut().insert(tenant)),
                Caller::OfTheAccount => {}
            }
            router.oneshot(request).await
        }
    };
    lambda_http::run(service_fn(serve)).await
}

/// Who sent a request.
#[derive(Debug, PartialEq, Eq)]
enum Caller<'a> {
    /// Somebody whom the account lets in by its own policies.
    OfTheAccount,
    /// Somebody with a token that names a tenant: the authorizer has verified it.
    Tenant(Tenant),
    /// Somebody with a token that names none in this claim.
    Unnamed(&'a str),
}

fn caller<'a>(request: &Request, claim: Option<&'a str>) -> Caller<'a> {
    let jwt = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => {
            context.authorizer.as_ref().and_then(|authorizer| authorizer.jwt.as_ref())
        }
        _ => None,
    };
    let (Some(jwt), Some(claim)) = (jwt, claim) else { return Caller::OfTheAccount };
    let tenant = jwt.claims.get(claim).and_then(|tenant| Tenant::parse(tenant).ok());
    tenant.map_or(Caller::Unnamed(claim), Caller::Tenant)
}

fn unnamed(claim: &str) -> Response<Body> {
    let message = format!("the token has to name a tenant in its claim `{claim}`");
    let error = json!({ "code": "UnauthorizedOperation", "message": message, "class": "auth", "retry": false });
    let mut response = Response::new(Body::from(json!({ "error": error }).to_string()));
    *response.status_mut() = StatusCode::FORBIDDEN;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Nobody tells of changes here: an answer that is waited for comes at once, and is asked for again.
/// A request that is held open would cost for all the time that it waits.
pub struct NobodyTells;

impl Waiter for NobodyTells {
    fn watch(&self, _: &'static str, _: &str) -> Option<Box<dyn Watching>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(authorizer: &str) -> Request {
        let event = format!(
            r#"{{"version": "2.0", "rawPath": "/v1/instances", "rawQueryString": "", "headers": {{}},
                "requestContext": {{"http": {{"method": "GET", "path": "/v1/instances"}},
                "stage": "$default", "authorizer": {authorizer}}}, "isBase64Encoded": false}}"#
        );
        lambda_http::request::from_str(&event).expect("an event of API Gateway")
    }

    #[test]
    fn the_tenant_is_what_the_verified_token_says() {
        let jwt = |claims: &str| format!(r#"{{"jwt": {{"claims": {claims}, "scopes": null}}}}"#);
        let acme = || Caller::Tenant(Tenant::parse("acme").expect("a tenant"));
        for (authorizer, expected) in [
            (jwt(r#"{"tenant": "acme", "sub": "u-1"}"#), acme()),
            (jwt(r#"{"sub": "u-1"}"#), Caller::Unnamed("tenant")),
            (jwt(r#"{"tenant": "a/b"}"#), Caller::Unnamed("tenant")),
            (r#"{"iam": {"accountId": "1"}}"#.to_owned(), Caller::OfTheAccount),
            ("null".to_owned(), Caller::OfTheAccount),
        ] {
            let request = request(&authorizer);
            assert_eq!(caller(&request, Some("tenant")), expected, "{authorizer}");
            assert_eq!(caller(&request, None), Caller::OfTheAccount, "{authorizer}");
        }
    }
}
