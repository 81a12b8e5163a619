//! The metadata service of one instance, as long as it is held.

use super::{World, place};
use crate::metadata::{self, InstanceFacts};
use crate::round::now;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// How soon credentials that could not be had are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How soon it is tried again to listen where somebody else does.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);
/// Where nothing expires, nothing has to be asked for: then in so long.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The metadata service of an instance.
pub(crate) struct Service {
    /// Where.
    pub(crate) address: SocketAddr,
    facts: watch::Sender<metadata::Known>,
    stale_at: Instant,
}

impl Service {
    /// Starts one, at an address that is free.
    ///
    /// # Errors
    /// When it cannot listen.
    pub(crate) fn start(world: &Arc<World>, facts: Arc<InstanceFacts>) -> Result<Service, String> {
        let listener = place::listen(world, &facts, None)?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let service = Service::of(facts, address);
        let (told, tokens) = (service.facts.subscribe(), world.tokens.clone());
        tokio::spawn(metadata::serve(in_runtime(listener)?, told, tokens));
        Ok(service)
    }

    /// Goes on with one, at the address that its instance was told. If somebody else has it now, it is
    /// taken as soon as it is free: an instance runs without its metadata as well.
    pub(crate) fn go_on(
        world: &Arc<World>,
        facts: Arc<InstanceFacts>,
        address: SocketAddr,
    ) -> Service {
        let service = Service::of(facts.clone(), address);
        let (told, world) = (service.facts.subscribe(), world.clone());
        tokio::spawn(async move {
            loop {
                match place::listen(&world, &facts, Some(address)).and_then(in_runtime) {
                    Ok(listener) => {
                        return metadata::serve(listener, told, world.tokens.clone()).await;
                    }
                    Err(why) => warn!(instance = %facts.key.instance_id, why),
                }
                sleep(LISTEN_AGAIN).await;
                if told.has_changed().is_err() {
                    return;
                }
            }
        });
        service
    }

    fn of(facts: Arc<InstanceFacts>, address: SocketAddr) -> Service {
        let stale_at = Instant::now() + fresh_for(&facts);
        Service { address, facts: watch::Sender::new(Some(facts)), stale_at }
    }

    /// What it tells.
    pub(crate) fn facts(&self) -> Arc<InstanceFacts> {
        self.facts.borrow().clone().expect("it was started with some")
    }

    /// When its credentials are to be replaced by fresh ones.
    pub(crate) fn stale_at(&self) -> Instant {
        self.stale_at
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

fn in_runtime(listener: std::net::TcpListener) -> Result<TcpListener, String> {
    let ready = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    ready.map_err(|error| error.to_string())
}

/// For how long credentials are fresh: half of what is left of them, so that a plane may be gone for
/// the other half.
fn fresh_for(facts: &InstanceFacts) -> Duration {
    let Some(credentials) = &facts.details.credentials else { return NEVER };
    let left = credentials.expires_at.since(now()) / 2;
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}
