//! How many requests of hosts' agents this process works on at once: after an outage all agents come
//! back together, and users are to be served meanwhile. Whoever is one too many is told when to ask
//! again, each its own moment.

use crate::Api;
use crate::error::Refusal;
use axum::http::StatusCode;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many requests of agents a process works on at once, if nothing else is set.
pub(crate) const AGENTS_IN_FLIGHT_MAX: usize = 64;
/// After how long at most who was one too many is to ask again, in seconds.
const AGAIN_S_MAX: u64 = 5;

/// The places for agents' requests.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Semaphore>);

/// A place, until it is dropped.
pub(crate) struct Place {
    admission: Admission,
    permit: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(crate) fn of(at_once: usize) -> Self {
        Admission(Arc::new(Semaphore::new(at_once)))
    }

    /// A place for a request, if one is free.
    pub(crate) fn admit(&self, api: &Api) -> Result<Place, Refusal> {
        match self.0.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place { admission: self.clone(), permit: Some(permit) }),
            Err(_) => {
                let message = "too many hosts ask at this moment: ask again after what the header \
                               `Retry-After` says, in seconds";
                let again_s = 1 + api.ports.chance.draw() % AGAIN_S_MAX;
                let refusal = Refusal::invalid("RequestLimitExceeded", message)
                    .status(StatusCode::SERVICE_UNAVAILABLE);
                Err(Refusal { retry_after_s: Some(again_s), ..refusal })
            }
        }
    }
}

impl Place {
    /// Leaves the place to others while the request only waits.
    pub(crate) fn leave(&mut self) {
        self.permit = None;
    }

    /// Takes a place again. Whoever was admitted once is not refused: it has its turn.
    pub(crate) async fn take_again(&mut self) {
        // The places are never closed.
        self.permit = self.admission.0.clone().acquire_owned().await.ok();
    }
}
