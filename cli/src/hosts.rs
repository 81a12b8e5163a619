//! Hosts, as those who run the plane manage them.

use crate::client::Client;
use crate::problem::Problem;
use crate::show::{Screen, text_at};
use crate::tables;
use crate::verbs::path_of;
use clap::Subcommand;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// List hosts.
    List,
    /// Put nothing new on a host; what runs there runs on.
    Drain {
        /// Its id.
        id: String,
    },
    /// Use a drained host again.
    Return {
        /// Its id.
        id: String,
    },
    /// Give your word that a host runs nothing, now or ever again: what it held is given back.
    Dead {
        /// Its id.
        id: String,
    },
    /// Get the token that a host's agent enrols with, once.
    Enrol {
        /// The host's id: the one in its host.toml.
        id: String,
        /// For how many seconds the token is good: an hour if nothing is said, a week at most.
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u32>,
        /// Let the next agent take the place of the one that is enrolled, which is shut out then.
        #[arg(long)]
        replace: bool,
    },
    /// Revoke the key of a host's agent: what runs there runs on, and the host falls silent.
    Revoke {
        /// The host's id.
        id: String,
    },
}

impl HostVerb {
    /// Whether it answers with hosts.
    pub(crate) fn has_ids(&self) -> bool {
        !matches!(self, HostVerb::Enrol { .. } | HostVerb::Revoke { .. })
    }
}

pub(crate) async fn hosts(
    client: &Client,
    screen: &mut Screen,
    verb: Option<&HostVerb>,
) -> Result<(), Problem> {
    let (id, state) = match verb {
        None | Some(HostVerb::List) => {
            let hosts = client.list("/v1/hosts?limit=1000", "hosts").await?;
            screen.either(&json!({ "hosts": hosts }), |screen| tables::hosts(screen, &hosts));
            return Ok(());
        }
        Some(HostVerb::Enrol { id, ttl, replace }) => {
            return enrol(client, screen, id, *ttl, *replace).await;
        }
        Some(HostVerb::Revoke { id }) => {
            client.delete(&format!("/v1/hosts/{}/key", path_of(id)?)).await?;
            let told = json!({ "host_id": id, "revoked": true });
            screen.either(&told, |_| format!("The key of {id} is revoked."));
            return Ok(());
        }
        Some(HostVerb::Drain { id }) => (id, "draining"),
        Some(HostVerb::Return { id }) => (id, "active"),
        Some(HostVerb::Dead { id }) => (id, "dead"),
    };
    let path = format!("/v1/hosts/{}", path_of(id)?);
    let host = client.put(&path, &json!({ "state": state })).await?;
    screen.either(&host, |screen| tables::hosts(screen, std::slice::from_ref(&host)));
    Ok(())
}

/// Gets a token, and shows it with the line to type on the host.
async fn enrol(
    client: &Client,
    screen: &mut Screen,
    id: &str,
    ttl_s: Option<u32>,
    replace: bool,
) -> Result<(), Problem> {
    let mut asked = json!({ "host_id": id });
    if let Some(ttl_s) = ttl_s {
        asked["ttl_s"] = json!(ttl_s);
    }
    if replace {
        asked["replace"] = json!(true);
    }
    let given = client.post("/v1/enrolments", &asked).await?;
    screen.either(&given, |_| {
        let (token, until) = (text_at(&given, "token"), text_at(&given, "expires_at"));
        format!(
            "{token}\n\nGood once, until {until}. On the host:\n\n  eventplane agent --host-config \
             host.toml --enrol-token {token}"
        )
    });
    Ok(())
}
