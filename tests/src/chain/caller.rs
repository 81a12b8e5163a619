//! The launch as a chain of calls: one process calls capacity, network, storage, security and the
//! host, and answers its user when the last of them has.
//!
//! Two of it: as it is first written, where a failed call fails the launch; and as a good engineer
//! leaves it, with each call tried again after a growing wait, all that was done undone in reverse
//! when a step fails for good, and the user's token, under which the whole is done once. What
//! neither has is a record of how far a launch is that somebody else would read: what a process
//! that died was doing is nobody's. (With it, and with somebody who reads it, it is a workflow
//! engine, and no chain of calls.)

use super::services::{Ask, STEPS, Services, Step, Trouble, key};
use super::weather::{NotDone, Weather};
use super::{Answer, ControlPlane, Listed, Stand};
use async_trait::async_trait;
use eventplane_domain::Millis;
use eventplane_engine::Clock;
use eventplane_store::{Item, ItemExt, Store, Write};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a call is tried, and how often one that undoes.
const TRIES: u32 = 3;
const TRIES_UNDOING: u32 = 5;
/// The first wait between two tries; it doubles each time.
const WAIT_MS: u64 = 200;

pub(crate) struct Chain {
    services: Arc<Services>,
    weather: Arc<Weather>,
    /// Whether it retries, undoes, and knows tokens.
    is_careful: bool,
    /// What this process is doing now.
    under_way: Arc<Mutex<BTreeSet<String>>>,
}

/// A launch that this process is at; over when it is dropped, as by a crash.
struct Doing(Arc<Mutex<BTreeSet<String>>>, String);

impl Doing {
    /// None if this process is at it already.
    fn begin(under_way: &Arc<Mutex<BTreeSet<String>>>, launch: &str) -> Option<Doing> {
        let mut all = under_way.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(launch.to_owned()).then(|| Doing(under_way.clone(), launch.to_owned()))
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Chain {
    pub(crate) fn new(weather: Arc<Weather>, is_careful: bool) -> Arc<Chain> {
        let services = Services::new(weather.clone());
        Arc::new(Chain { services, weather, is_careful, under_way: Arc::default() })
    }

    fn tries(&self, tries: u32) -> u32 {
        if self.is_careful { tries } else { 1 }
    }

    async fn pause(&self, tried: u32) {
        let longest = WAIT_MS << tried;
        let drawn = self.weather.below(longest as usize / 2) as u64;
        sleep(Duration::from_millis(longest / 2 + drawn)).await;
    }

    /// Calls a service, as often as it may be tried.
    async fn call(&self, step: Step, ask: Ask, launch: &str, tries: u32) -> Result<(), Trouble> {
        let mut tried = 0;
        loop {
            let work = self.services.clone().serve(step, ask, launch.to_owned());
            let answer = timeout(PATIENCE, self.weather.call(step.name(), work)).await;
            match answer {
                Ok(Ok(Err(Trouble::No))) => return Err(Trouble::No),
                Ok(Ok(Ok(()))) => return Ok(()),
                Ok(Ok(Err(Trouble::Fault)) | Err(NotDone)) | Err(_) => {}
            }
            tried += 1;
            if tried >= self.tries(tries) {
                return Err(Trouble::Fault);
            }
            self.pause(tried).await;
        }
    }

    /// Writes how the launch stands, for its user's list.
    async fn list(&self, launch: &str, state: &str) -> Result<(), Trouble> {
        let mut tried = 0;
        loop {
            let item = Item::new().with("state", state).with("at", self.weather.now().0);
            let write = Write::put(key("launches", launch), item);
            if self.services.store.try_transact(vec![write]).await.is_ok() {
                return Ok(());
            }
            tried += 1;
            if tried >= self.tries(TRIES) {
                return Err(Trouble::Fault);
            }
            self.pause(tried).await;
        }
    }

    /// The launch, from its request to its answer.
    async fn launch(self: Arc<Self>, launch: String) -> Answer {
        let Some(_doing) = Doing::begin(&self.under_way, &launch) else { return Answer::Unknown };
        if self.is_careful {
            match self.services.store.get(&key("launches", launch.as_str())).await {
                Err(_) => return Answer::Unknown,
                Ok(Some(item)) if item.text("state") == Some("running") => return Answer::Yes,
                Ok(Some(item)) if item.text("state") == Some("failed") => return Answer::No,
                Ok(_) => {}
            }
        }
        if self.list(&launch, "pending").await.is_err() {
            return Answer::Unknown;
        }
        for (at, step) in STEPS.into_iter().enumerate() {
            if self.call(step, Ask::Take, &launch, TRIES).await.is_err() {
                return self.fail(&launch, at).await;
            }
        }
        match self.list(&launch, "running").await {
            Ok(()) => Answer::Yes,
            Err(_) => self.fail(&launch, STEPS.len() - 1).await,
        }
    }

    /// The step at this place has failed. It may have been done all the same, and so it is undone
    /// with those before it.
    async fn fail(&self, launch: &str, at: usize) -> Answer {
        if self.is_careful {
            for step in STEPS[..=at].iter().rev() {
                // What cannot be undone is in the log, for somebody to look at.
                let _ = self.call(*step, Ask::GiveBack, launch, TRIES_UNDOING).await;
            }
        }
        let _ = self.list(launch, "failed").await;
        Answer::No
    }
}

#[async_trait]
impl ControlPlane for Chain {
    async fn ask(self: Arc<Self>, launch: usize) -> Answer {
        let (weather, chain) = (self.weather.clone(), self.clone());
        let work = async move {
            let work = chain.clone().launch(super::token(launch));
            chain.weather.until_crash(work).await.unwrap_or(Answer::Unknown)
        };
        weather.call("api", work).await.unwrap_or(Answer::Unknown)
    }

    fn knows_tokens(&self) -> bool {
        self.is_careful
    }

    async fn host_is_dead(&self, host: &str) {
        self.services.host_is_dead(host);
    }

    fn sweeps(&self) -> bool {
        false
    }

    fn stands(&self, launches: usize) -> Vec<Stand> {
        let stand = |launch| {
            let launch = super::token(launch);
            let (held, running) = self.services.held(&launch);
            let items = self.services.store.items();
            let item = items.get(&key("launches", launch));
            let listed = item.map(|item| match item.text("state") {
                Some("running") => Listed::Running,
                Some("failed") => Listed::Ended,
                _ => Listed::Pending,
            });
            let since = item.and_then(|item| item.number("at")).map(Millis);
            Stand { listed, held, running, since }
        };
        (0..launches).map(stand).collect()
    }
}
