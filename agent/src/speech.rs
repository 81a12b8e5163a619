//! Whose voice a host speaks with: its operator's, as simulated hosts do, or its own.

use crate::identity::{Identity, IdentityError, UNAUTHENTICATED};
use crate::transport::Answer;
use crate::wire::Registration;
use serde_json::{Value, json};
use std::sync::Arc;

/// Refusals that no repetition changes.
const FOR_GOOD: [&str; 3] = ["HostFenced", "HostKeyRevoked", "HostIsEnrolled"];

/// How a host introduces itself, and where it asks.
pub(crate) enum Speech {
    /// Whoever reaches the plane may speak for this host.
    ForOperator(Registration),
    /// The host proves who it is.
    AsItself(Arc<Identity>, Registration),
}

impl Speech {
    /// The path of one of the host's routes.
    pub(crate) fn path(&self, route: &str) -> String {
        match self {
            Speech::ForOperator(host) => format!("/v1/hosts/{}/{route}", host.host_id),
            Speech::AsItself(_, host) => agent_route(&host.host_id, route),
        }
    }

    /// How it introduces itself: path and body.
    ///
    /// # Errors
    /// When it cannot write down that it is about to.
    pub(crate) fn registration(&self) -> Result<(String, Vec<u8>), String> {
        let (path, body) = match self {
            Speech::ForOperator(host) => ("/v1/hosts".to_owned(), json!(host)),
            Speech::AsItself(identity, host) => {
                let (previous, session) = identity.begin_session().map_err(text)?;
                let mut host = json!(host);
                if let Value::Object(fields) = &mut host {
                    fields.remove("host_id");
                }
                let body = json!({ "previous": previous, "session": session, "host": host });
                (self.path("registration"), body)
            }
        };
        Ok((path, serde_json::to_vec(&body).expect("plain data")))
    }

    /// It is known now.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(crate) fn registered(&self) -> Result<(), String> {
        match self {
            Speech::ForOperator(_) => Ok(()),
            Speech::AsItself(identity, _) => identity.session_begun().map_err(text),
        }
    }

    /// Whether it is worth speaking on after this refusal.
    ///
    /// # Errors
    /// What the plane said, when it is not.
    pub(crate) fn check(&self, refusal: &Answer) -> Result<(), String> {
        if let (Speech::AsItself(identity, _), UNAUTHENTICATED) = (self, refusal.status) {
            identity.doubt();
        }
        let said: Value = refusal.json().unwrap_or_default();
        let code = said["error"]["code"].as_str().unwrap_or_default();
        if !FOR_GOOD.contains(&code) {
            return Ok(());
        }
        Err(format!("{code}: {}", said["error"]["message"].as_str().unwrap_or_default()))
    }
}

/// The path of a route at which a host speaks for itself.
pub(crate) fn agent_route(host_id: &str, route: &str) -> String {
    format!("/v1/agents/{host_id}/{route}")
}

fn text(error: IdentityError) -> String {
    error.to_string()
}
