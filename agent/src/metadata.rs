//! The instance metadata service: what an instance can learn of itself from its host, in the manner
//! of EC2's. It is served from what lies on the host's disk, so it needs no control plane.
//!
//! As with EC2, where version 2 of the service is required: a token is asked for first, by `PUT`.
//! Who asks is known by the listener that is asked, of which each instance has its own. How many
//! hops an answer may take is not limited here: an instance's listener stands where only that
//! instance reaches it.
//!
//! Source: "Use the Instance Metadata Service to access instance metadata" and "Access instance
//! metadata for an EC2 instance", EC2 user guide.

mod content;
mod facts;
mod token;

pub use content::{Missing, content};
pub use facts::{Credentials, Details, InstanceFacts, LaunchBody, PublicKey, SignedDocument};
pub use token::{TTL_S, Tokens};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use percent_encoding::percent_decode_str;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const FORWARDED: &str = "x-forwarded-for";
const TOKEN_PATH: &str = "/latest/api/token";
/// How many connections an instance may have open; more wait. The host's are for all its instances.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long to wait when the system has no room for another connection.
const NO_ROOM_WAIT: Duration = Duration::from_millis(100);

/// What is known of an instance: nothing until the control plane has said it.
pub type Known = Option<Arc<InstanceFacts>>;

/// Serves one instance's metadata until the sender of `facts` is dropped; then all of its
/// connections end at once. An answer is of what `facts` are at that moment.
pub async fn serve(listener: TcpListener, facts: watch::Receiver<Known>, tokens: Arc<Tokens>) {
    let mut ended = facts.clone();
    let mut connections = JoinSet::new();
    let router = Router::new().fallback(answer).with_state(Service { facts, tokens });
    loop {
        tokio::select! {
            () = until_dropped(&mut ended) => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, router.clone()))),
                Err(error) => {
                    warn!(%error, "no connection to the metadata service can be taken");
                    tokio::time::sleep(NO_ROOM_WAIT).await;
                }
            }
        }
    }
}

async fn until_dropped(facts: &mut watch::Receiver<Known>) {
    while facts.changed().await.is_ok() {}
}

async fn connection(stream: TcpStream, router: Router) {
    // A connection that breaks is its instance's business.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}

#[derive(Clone)]
struct Service {
    facts: watch::Receiver<Known>,
    tokens: Arc<Tokens>,
}

async fn answer(
    State(service): State<Service>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(facts) = service.facts.borrow().clone() else {
        let why = "what this instance is made of is not known to its host yet: ask again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    match method {
        Method::PUT => token(&facts, &service.tokens, uri.path(), &headers),
        Method::GET | Method::HEAD => get(&facts, &service.tokens, uri.path(), &headers),
        _ => {
            let allowed = [(header::ALLOW, "GET, HEAD, PUT")];
            (StatusCode::METHOD_NOT_ALLOWED, allowed).into_response()
        }
    }
}

/// Gives out a token. Whoever forwards the requests of others gets none, and versions have none.
fn token(facts: &InstanceFacts, tokens: &Tokens, path: &str, headers: &HeaderMap) -> Response {
    let of_version = path.strip_suffix("/api/token").and_then(|rest| rest.strip_prefix('/'));
    if path != TOKEN_PATH && !of_version.is_some_and(|it| content::VERSIONS.contains(&it)) {
        return not_found();
    }
    if path != TOKEN_PATH {
        return refused(StatusCode::FORBIDDEN, "a token is to be had at /latest/api/token only\n");
    }
    if headers.contains_key(FORWARDED) {
        let why = "no token is given to a request that was forwarded (X-Forwarded-For)\n";
        return refused(StatusCode::FORBIDDEN, why);
    }
    let given = headers.get(TOKEN_TTL).and_then(|value| value.to_str().ok()?.parse().ok());
    let Some(ttl_s) = given.filter(|ttl_s| TTL_S.contains(ttl_s)) else {
        let (from, to) = (TTL_S.start(), TTL_S.end());
        let why = format!("{TOKEN_TTL} has to be there, and {from} to {to}\n");
        return refused(StatusCode::BAD_REQUEST, why);
    };
    let headers = [(TOKEN_TTL, ttl_s.to_string())];
    (headers, tokens.issue(&facts.key, ttl_s)).into_response()
}

fn get(facts: &InstanceFacts, tokens: &Tokens, path: &str, headers: &HeaderMap) -> Response {
    let token = headers.get(TOKEN).and_then(|value| value.to_str().ok());
    if !token.is_some_and(|token| tokens.is_good(&facts.key, token)) {
        let why = format!(
            "{TOKEN} has to be there, with a token of this instance that has not expired: \
             PUT {TOKEN_PATH} gives one\n"
        );
        return refused(StatusCode::UNAUTHORIZED, why);
    }
    let Ok(path) = percent_decode_str(path).decode_utf8() else { return not_found() };
    match content(facts, &path, tokens.now()) {
        // User data is not text to the service, but what somebody else has put there.
        Ok(data) if path.split('/').nth(2) == Some("user-data") => {
            ([(header::CONTENT_TYPE, "application/octet-stream")], data).into_response()
        }
        Ok(text) => text.into_response(),
        Err(Missing::Path) => not_found(),
        Err(Missing::Expired(at)) => {
            let instance = facts.key.instance_id.as_str();
            warn!(instance, expired_at_ms = at.0, "expired credentials were asked for");
            let why = "the role's credentials have expired, and there are no others yet\n";
            refused(StatusCode::NOT_FOUND, why)
        }
    }
}

fn refused(status: StatusCode, why: impl IntoResponse) -> Response {
    (status, why).into_response()
}

fn not_found() -> Response {
    refused(StatusCode::NOT_FOUND, "there is nothing here: GET /latest/ shows what there is\n")
}

#[cfg(test)]
#[path = "metadata/tests.rs"]
mod tests;
