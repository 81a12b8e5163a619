//! What a host asks its plane about single instances.

use super::volumes::Found;
use crate::metadata::Details;
use crate::speech::agent_route;
use crate::transport::{Answer, Method, Transport};
use crate::wire::InstanceKey;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most volumes that are asked about at once.
pub(crate) const VOLUMES_MAX: usize = 100;

/// The way to the plane, for one host.
pub(crate) struct Link {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) host_id: String,
}

#[derive(Deserialize)]
struct Gone {
    gone: Vec<String>,
}

impl Link {
    async fn send(
        &self,
        method: Method,
        route: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Answer, String> {
        let path = agent_route(&self.host_id, route);
        let body = body.map(|body| serde_json::to_vec(&body).expect("plain data"));
        let sent = self.transport.send(method, &path, body);
        let answer = timeout(PATIENCE, sent).await.map_err(|_| "no answer in time".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.is_success() {
            return Ok(answer);
        }
        Err(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)))
    }

    /// What this generation of an instance is to know: tags, user data, identity, credentials.
    ///
    /// # Errors
    /// Why it cannot be had now.
    pub(crate) async fn details(
        &self,
        key: &InstanceKey,
        generation: u32,
    ) -> Result<Details, String> {
        let InstanceKey { tenant, instance_id } = key;
        let route = format!("instances/{tenant}/{instance_id}?generation={generation}");
        let answer = self.send(Method::GET, &route, None).await?;
        answer.json().map_err(|error| error.to_string())
    }

    /// Sends an instance's newest output.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(crate) async fn console(
        &self,
        key: &InstanceKey,
        generation: u32,
        text: &str,
        at: i64,
    ) -> Result<(), String> {
        let InstanceKey { tenant, instance_id } = key;
        let route = format!("instances/{tenant}/{instance_id}/console");
        let body = json!({ "generation": generation, "text": text, "at": at });
        self.send(Method::PUT, &route, Some(body)).await.map(drop)
    }

    /// Which of these volumes were given back for good.
    ///
    /// # Errors
    /// Why that is not known: then none was.
    pub(crate) async fn gone(&self, volumes: &[Found]) -> Result<Vec<String>, String> {
        let answer =
            self.send(Method::POST, "volumes", Some(json!({ "volumes": volumes }))).await?;
        let gone: Gone = answer.json().map_err(|error| error.to_string())?;
        Ok(gone.gone)
    }
}
