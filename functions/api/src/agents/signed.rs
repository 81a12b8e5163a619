//! The agent of a host that has enrolled, as its handlers see it: each of its requests is signed with
//! the host's own key, and of the session that speaks for the host.

use super::admission::{Admission, Place};
use crate::error::Refusal;
use crate::extract::{from_json, whole_body};
use crate::hosts::host_id;
use crate::{Api, Shared};
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use eventplane_capacity::agents::{self, agent_key, fenced};
use eventplane_capacity::fleet::{Host, host_key, not_found};
use eventplane_capacity::seen::seen_key;
use eventplane_domain::{HostId, Reason};
use eventplane_keys::host::{Presented, SESSION, Signed};
use eventplane_store::Item;
use serde::de::DeserializeOwned;

/// An agent that has shown that it speaks for its host.
pub(crate) struct Agent {
    pub(crate) api: Shared,
    /// Its host.
    pub(crate) host: HostId,
    /// When the host was last heard of, read for reports alone.
    pub(crate) seen: Option<Item>,
    /// The key that signed the request.
    pub(crate) public_key: String,
    /// The session that the request is of.
    pub(crate) session: Option<String>,
    registered: Option<Host>,
    bytes: Bytes,
    place: Place,
}

impl Agent {
    /// The host as it is registered.
    pub(crate) fn registered(&self) -> Result<&Host, Refusal> {
        let missing = || Refusal::from(not_found(&self.host)).about("host_id");
        self.registered.as_ref().ok_or_else(missing)
    }

    /// The body, which the signature covers.
    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        from_json(&self.bytes)
    }

    /// The request only waits from now on: others may be worked on.
    pub(crate) fn waits(&mut self) {
        self.place.leave();
    }

    /// The request waits no longer. Refuses an agent that was shut out since it came; one that has only
    /// changed its key meanwhile is the same.
    pub(crate) async fn goes_on(&mut self) -> Result<(), Refusal> {
        self.place.take_again().await;
        let item = self.api.ports.store.get(&agent_key(&self.host)).await?;
        let agent = agents::Agent::read(item.as_ref())?.unwrap_or_default();
        if agent.is_revoked {
            return Err(revoked(&self.host).into());
        }
        let is_same = agent.session.is_some() && agent.session == self.session;
        is_same.then_some(()).ok_or_else(|| fenced(&self.host).into())
    }
}

impl FromRequest<Shared> for Agent {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, Refusal> {
        let (agent, known) = speaker(request, api).await?;
        match agent.session == known.session {
            true => Ok(agent),
            false => Err(fenced(&agent.host).into()),
        }
    }
}

/// An agent that wants to speak for its host, and may be of another session than the one that does.
pub(crate) struct Newcomer(pub(crate) Agent);

impl FromRequest<Shared> for Newcomer {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, Refusal> {
        Ok(Newcomer(speaker(request, api).await?.0))
    }
}

/// Whoever has signed the request with the key of the host whose path it is. What can be refused
/// without the store is refused first: anybody may send this.
async fn speaker(request: Request, api: &Shared) -> Result<(Agent, agents::Agent), Refusal> {
    let (parts, bytes) = whole_body(request).await?;
    let host = host_of(parts.uri.path())?;
    let session = header(&parts.headers, SESSION).map(str::to_owned);
    let presented = presented(&parts, &bytes, session.as_deref())?;
    if presented.host != host.as_str() {
        let message = format!("{} speaks for itself alone, and not for {host}", presented.host);
        let refusal = Refusal::invalid("UnauthorizedOperation", message);
        return Err(refusal.status(StatusCode::FORBIDDEN));
    }
    presented.check_moment(api.ports.clock.now().0 / 1000).map_err(unproven)?;
    let admission: Option<&Admission> = parts.extensions.get();
    let place = admission.expect("the router has it").admit(api)?;
    let mut keys = vec![agent_key(&host), host_key(&host)];
    if parts.uri.path().ends_with("/reports") {
        keys.push(seen_key(&host));
    }
    let mut items = api.ports.store.batch_get(&keys).await?;
    let known = agents::Agent::read(items[0].as_ref())?.unwrap_or_default();
    let Some(public_key) = known.public_key.clone() else {
        let message = format!(
            "{host} is not enrolled: `eventplane hosts enrol {host}` gives a token to enrol its \
             agent with"
        );
        return Err(Reason::new("HostUnauthenticated", message).into());
    };
    presented.check_key(&public_key).map_err(unproven)?;
    if known.is_revoked {
        return Err(revoked(&host).into());
    }
    let registered = items[1].as_ref().map(|item| Host::read(&host, item)).transpose()?;
    let seen = items.get_mut(2).and_then(Option::take);
    let api = api.clone();
    Ok((Agent { api, host, seen, public_key, session, registered, bytes, place }, known))
}

fn revoked(host: &HostId) -> Reason {
    let message = format!(
        "the key of {host} was revoked; `eventplane hosts enrol {host}` gives a token for another one"
    );
    Reason::new("HostKeyRevoked", message)
}

/// The host in a path below `/v1/agents/`.
fn host_of(path: &str) -> Result<HostId, Refusal> {
    host_id(path.split('/').nth(3).unwrap_or_default())
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn presented(parts: &Parts, body: &[u8], session: Option<&str>) -> Result<Presented, Refusal> {
    let (path, query) = (parts.uri.path(), parts.uri.query());
    let signed = Signed { method: parts.method.as_str(), path, query, body, session };
    Presented::read(&signed, |name| header(&parts.headers, name)).map_err(unproven)
}

fn unproven(why: eventplane_keys::host::Unproven) -> Refusal {
    Reason::new("HostUnauthenticated", why.to_string()).into()
}

/// What no operator does for a host: it speaks for itself.
pub(crate) fn is_enrolled(host: &HostId) -> Refusal {
    let message = format!(
        "{host} is enrolled: its own agent asks and reports, below /v1/agents/{host}; an operator \
         may drain it, declare it dead, or revoke its key"
    );
    Reason::new("HostIsEnrolled", message).into()
}

/// Whether an agent has enrolled for the host, registered or not.
pub(crate) async fn has_enrolled(api: &Api, host: &HostId) -> Result<bool, Refusal> {
    let item = api.ports.store.get(&agent_key(host)).await?;
    let agent = agents::Agent::read(item.as_ref())?;
    Ok(agent.is_some_and(|agent| agent.public_key.is_some()))
}
