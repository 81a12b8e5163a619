//! How a host's agent comes to speak for its host: a token, a key, a session.

use super::signed::{Agent, Newcomer};
use crate::Shared;
use crate::answer::rfc3339;
use crate::error::Refusal;
use crate::extract::{Body, Operator, Path};
use crate::hosts::{HostShape, admit, host_id};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use eventplane_capacity::agents::{begin_session, change, change_key, enrol, give_token, revoke};
use eventplane_domain::Reason;
use eventplane_keys::hex;
use eventplane_keys::host::is_public_key;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long a token is good if nothing is asked for, and at most, in seconds.
const TTL_S: i64 = 3_600;
const TTL_S_MAX: i64 = 604_800;
/// How long the name of a session may be, in hexadecimal digits.
const SESSION_CHARS: std::ops::RangeInclusive<usize> = 16..=64;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(give))
        .routes(routes!(enrolment))
        .routes(routes!(registration))
        .routes(routes!(new_key))
        .routes(routes!(revoked))
}

/// For which host a token is asked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AskToken {
    /// 1 to 64 letters, digits, `-`, `_` and `.`.
    host_id: String,
    /// For how many seconds it is good: 1 to 604,800; 3,600 if nothing is said.
    ttl_s: Option<i64>,
    /// Whether the next agent may take the place of one that is enrolled.
    #[serde(default)]
    replace: bool,
}

/// Gives a token that lets a host's agent enrol, once. It is shown here and kept nowhere.
#[utoipa::path(post, path = "/v1/enrolments", tag = "hosts", request_body = AskToken,
    responses((status = 201, description = "The token, and until when it is good"),
        (status = 409, description = "IncorrectHostState: an agent is enrolled already")))]
async fn give(
    Operator(api): Operator,
    Body(asked): Body<AskToken>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let host = host_id(&asked.host_id)?;
    let ttl_s = asked.ttl_s.unwrap_or(TTL_S);
    if !(1..=TTL_S_MAX).contains(&ttl_s) {
        let message = format!("`ttl_s` has to be 1 to {TTL_S_MAX} seconds, not {ttl_s}");
        return Err(Refusal::value("ttl_s", message));
    }
    let mut chance = [0; 16];
    api.ports.chance.fill(&mut chance);
    let token = format!("{host}.{}", hex(&chance));
    let (hash, until) = (hash(&token), api.ports.clock.now().plus(ttl_s * 1000));
    let given = change(&*api.ports.store, &host, |agent, registered| {
        give_token(agent, registered, &hash, until, asked.replace).map(Some)
    });
    given.await??;
    let body = json!({ "host_id": host, "token": token, "expires_at": rfc3339(until.0) });
    Ok((StatusCode::CREATED, Json(body)))
}

/// How an agent enrols.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Enrolment {
    /// The token, as an operator was given it.
    token: String,
    /// The public half of the agent's Ed25519 key, 64 hexadecimal digits.
    public_key: String,
}

/// Enrols a host's agent: from now on the host is whoever signs with this key. Once more with the
/// same key changes nothing. This request alone is not signed: the token is its proof.
#[utoipa::path(post, path = "/v1/agents/{host_id}/enrolment", tag = "agents",
    request_body = Enrolment, params(("host_id" = String, Path)),
    responses((status = 200, description = "It is enrolled"),
        (status = 403, description = "InvalidEnrolmentToken, EnrolmentTokenUsed")))]
async fn enrolment(
    State(api): State<Shared>,
    Path(id): Path<String>,
    Body(asked): Body<Enrolment>,
) -> Result<Json<Value>, Refusal> {
    let host = host_id(&id)?;
    check_key(&asked.public_key)?;
    let (hash, now) = (hash(&asked.token), api.ports.clock.now());
    let enrolled =
        change(&*api.ports.store, &host, |agent, _| enrol(agent, &hash, &asked.public_key, now));
    enrolled.await?.map_err(|reason| Refusal::from(reason).about("token"))?;
    Ok(Json(json!({ "host_id": host })))
}

/// How an agent begins to speak for its host.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BeginSession {
    /// The session of this agent that spoke last; none if it never spoke.
    previous: Option<String>,
    /// The session that begins: 16 to 64 hexadecimal digits by chance.
    session: String,
    /// What the host has.
    host: HostShape,
}

/// Begins a session of the host's agent, and registers the host. A second agent with the same key
/// does not know the session that speaks, and is refused.
#[utoipa::path(post, path = "/v1/agents/{host_id}/registration", tag = "agents",
    request_body = BeginSession, params(("host_id" = String, Path)),
    responses((status = 200, description = "The host"),
        (status = 409, description = "HostFenced: another agent speaks for it")))]
async fn registration(Newcomer(agent): Newcomer) -> Result<Json<Value>, Refusal> {
    let asked: BeginSession = agent.body()?;
    let digits = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !SESSION_CHARS.contains(&asked.session.len()) || !asked.session.bytes().all(digits) {
        let message = "`session` is 16 to 64 hexadecimal digits (0-9, a-f) by chance";
        return Err(Refusal::value("session", message));
    }
    let (api, host) = (&agent.api, &agent.host);
    let begun = change(&*api.ports.store, host, |known, _| {
        let known = known.filter(|known| known.public_key.as_deref() == Some(&agent.public_key));
        let known = known.ok_or_else(|| eventplane_capacity::agents::fenced(host))?;
        begin_session(host, known, asked.previous.as_deref(), &asked.session)
    });
    begun.await??;
    Ok(Json(admit(api, host, asked.host, true).await?))
}

/// Another key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// The public half of the agent's next Ed25519 key, 64 hexadecimal digits.
    public_key: String,
}

/// Changes the key of a host's agent: signed with the present one, or with the new one once it is in
/// place.
#[utoipa::path(put, path = "/v1/agents/{host_id}/key", tag = "agents", request_body = NewKey,
    params(("host_id" = String, Path)),
    responses((status = 200, description = "From now on the new key signs")))]
async fn new_key(agent: Agent) -> Result<Json<Value>, Refusal> {
    let asked: NewKey = agent.body()?;
    check_key(&asked.public_key)?;
    let host = &agent.host;
    let signed = (agent.public_key.as_str(), agent.session.as_deref());
    let changed = change(&*agent.api.ports.store, host, |known, _| {
        change_key(host, &known.cloned().unwrap_or_default(), signed, &asked.public_key)
    });
    changed.await??;
    Ok(Json(json!({ "host_id": host, "public_key": asked.public_key })))
}

/// Revokes the key of a host's agent, and a token that is not used yet. What it runs, runs on: the
/// host falls silent, until another agent enrols for it or it is declared dead.
#[utoipa::path(delete, path = "/v1/hosts/{host_id}/key", tag = "hosts",
    params(("host_id" = String, Path)), responses((status = 204, description = "It is revoked"),
        (status = 404, description = "InvalidHostKey.NotFound: it never enrolled")))]
async fn revoked(Operator(api): Operator, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let host = host_id(&id)?;
    change(&*api.ports.store, &host, |agent, _| revoke(&host, agent)).await??;
    Ok(StatusCode::NO_CONTENT)
}

fn check_key(public_key: &str) -> Result<(), Refusal> {
    if is_public_key(public_key) {
        return Ok(());
    }
    let message =
        "a public key is the one half of an Ed25519 key: 64 hexadecimal digits (0-9, a-f)";
    Err(Refusal::from(Reason::new("InvalidParameterValue", message)).about("public_key"))
}

fn hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}
