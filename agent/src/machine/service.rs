//! The metadata service of one instance, as long as it is held.

use super::World;
use crate::metadata::{self, InstanceFacts};
use crate::round::now;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How soon credentials that could not be had are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Where nothing expires, nothing has to be asked for: then in so long.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// A metadata service that answers.
pub(crate) struct Service {
    /// Where.
    pub(crate) address: SocketAddr,
    facts: watch::Sender<metadata::Known>,
    /// It answers no more when the sender is gone.
    _server: JoinHandle<()>,
    stale_at: Instant,
}

impl Service {
    /// Starts it: at the address that its instance was told, if it was told one.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub(crate) async fn start(
        world: &World,
        facts: Arc<InstanceFacts>,
        at: Option<SocketAddr>,
    ) -> Result<Service, String> {
        let text = |error: std::io::Error| error.to_string();
        let listener = super::place::listen(world, &facts, at)?;
        listener.set_nonblocking(true).map_err(text)?;
        let address = listener.local_addr().map_err(text)?;
        let listener = TcpListener::from_std(listener).map_err(text)?;
        let stale_at = Instant::now() + fresh_for(&facts);
        let (facts, told) = watch::channel(Some(facts));
        let server = tokio::spawn(metadata::serve(listener, told, world.tokens.clone()));
        Ok(Service { address, facts, _server: server, stale_at })
    }

    /// What it tells.
    pub(crate) fn facts(&self) -> Arc<InstanceFacts> {
        self.facts.borrow().clone().expect("it was started with some")
    }

    /// When its credentials are to be replaced by fresh ones.
    pub(crate) fn stale_at(&self) -> Instant {
        self.stale_at
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale_at <= Instant::now()
    }

    /// It was asked for fresh ones: these came, if any did.
    pub(crate) fn refreshed(&mut self, facts: Option<Arc<InstanceFacts>>) {
        let wait = facts.as_deref().map_or(ASK_AGAIN, fresh_for).max(ASK_AGAIN);
        self.stale_at = Instant::now() + wait;
        if let Some(facts) = facts {
            self.facts.send_replace(Some(facts));
        }
    }
}

/// For how long credentials are fresh: half of what is left of them, so that a plane may be gone for
/// the other half.
fn fresh_for(facts: &InstanceFacts) -> Duration {
    let Some(credentials) = &facts.details.credentials else { return NEVER };
    let left = credentials.expires_at.since(now()) / 2;
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}
