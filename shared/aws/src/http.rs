//! The shell of the api: requests of API Gateway go into its router.
//!
//! Source: "Working with AWS Lambda proxy integrations for HTTP APIs", API Gateway developer guide
//! (payload format 2.0).

use crate::world::{ONE_TENANT, World};
use axum::Router;
use eventplane_domain::Tenant;
use eventplane_engine::{LetInByNobody, Waiter, Watching};
use lambda_http::request::RequestContext;
use lambda_http::{Error, Request, RequestExt};
use tower::ServiceExt;

/// Serves the api, until Lambda ends the process. A request with a token goes on with the tenant that
/// the token names as an extension, `Option<Tenant>`: none if it names none. A request without a
/// token is of somebody whom the account lets in by its own policies, and has no such extension. One
/// that came by a route at which nobody is asked has [`LetInByNobody`] among them.
///
/// # Errors
/// A runtime that does not answer.
pub async fn serve_http(world: &World, router: Router) -> Result<(), Error> {
    let claim = world.tenant_claim();
    let service = router.map_request(move |mut request: Request| {
        if let Some(tenant) = tenant_of(&request, claim.as_deref()) {
            request.extensions_mut().insert(tenant);
        }
        if is_let_in_by_nobody(&request) {
            request.extensions_mut().insert(LetInByNobody);
        }
        request
    });
    lambda_http::run(service).await
}

/// The tenant of the request's token, if it has a token: the authorizer has verified it. With
/// [`ONE_TENANT`] for a claim, all are of the one tenant.
fn tenant_of(request: &Request, claim: Option<&str>) -> Option<Option<Tenant>> {
    let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() else {
        return None;
    };
    let jwt = context.authorizer.as_ref()?.jwt.as_ref()?;
    match claim {
        Some(ONE_TENANT) => None,
        Some(claim) => Some(jwt.claims.get(claim).and_then(|name| Tenant::parse(name).ok())),
        None => Some(None),
    }
}

/// Whether no authorizer has seen the request: whoever calls by IAM or with a token has a part of its
/// context to themselves.
///
/// Source: "Working with AWS Lambda proxy integrations for HTTP APIs" (`requestContext.authorizer`),
/// API Gateway developer guide.
fn is_let_in_by_nobody(request: &Request) -> bool {
    let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() else {
        return true;
    };
    let authorizer = context.authorizer.as_ref();
    !authorizer.is_some_and(|of| of.jwt.is_some() || of.iam.is_some())
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
        let acme = || Some(Some(Tenant::parse("acme").expect("a tenant")));
        for (authorizer, expected) in [
            (jwt(r#"{"tenant": "acme", "sub": "u-1"}"#), acme()),
            (jwt(r#"{"sub": "u-1"}"#), Some(None)),
            (jwt(r#"{"tenant": "a/b"}"#), Some(None)),
            (r#"{"iam": {"accountId": "1"}}"#.to_owned(), None),
            ("null".to_owned(), None),
        ] {
            let request = request(&authorizer);
            assert_eq!(tenant_of(&request, Some("tenant")), expected, "{authorizer}");
            // A setting that is missing opens nothing to a token.
            assert_eq!(tenant_of(&request, None), expected.map(|_| None), "{authorizer}");
            assert_eq!(tenant_of(&request, Some("*")), None, "{authorizer}");
        }
    }

    #[test]
    fn what_no_authorizer_has_seen_is_let_in_by_nobody() {
        for (authorizer, expected) in [
            (r#"{"jwt": {"claims": {}, "scopes": null}}"#, false),
            (r#"{"iam": {"accountId": "1"}}"#, false),
            ("{}", true),
            ("null", true),
        ] {
            assert_eq!(is_let_in_by_nobody(&request(authorizer)), expected, "{authorizer}");
        }
    }
}
