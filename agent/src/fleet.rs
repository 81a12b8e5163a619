//! Many simulated hosts in one process, each a task of its own.

use crate::disk::RealDisk;
use crate::host::Host;
use crate::journal::{Journal, JournalError};
use crate::round::{HostLoop, Pace, Shared};
use crate::simulated::Simulated;
use crate::sizes::{HostSize, registration};
use crate::speech::Speech;
use crate::transport::Transport;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::warn;

/// How many hosts introduce themselves at the same time.
const REGISTERING_MAX: usize = 64;

/// What a simulated fleet is like.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// How many hosts.
    pub hosts: usize,
    /// What their ids begin with: two fleets of one plane need two of these.
    pub prefix: String,
    /// Their zones, in turn; at least one.
    pub zones: Vec<String>,
    /// The size of every host; a varied fleet without it.
    pub size: Option<HostSize>,
    /// How long starting an instance takes: from, to, in milliseconds.
    pub start_ms: (u64, u64),
    /// How often a host reports everything that it sees, in milliseconds (give or take a tenth).
    pub heartbeat_ms: u64,
    /// How long an answer may be waited for when nothing is new, in seconds.
    pub wait_s: u64,
    /// The shortest time from one question to the next, in milliseconds: what changes meanwhile
    /// comes in one answer.
    pub poll_gap_ms: u64,
    /// Where the hosts keep their memory; without it they forget when the process ends.
    pub memory: Option<PathBuf>,
    /// What the hosts' chance begins from.
    pub seed: u64,
}

impl Default for FleetOptions {
    fn default() -> Self {
        FleetOptions {
            hosts: 12,
            prefix: "host".to_owned(),
            zones: ["zone-a", "zone-b", "zone-c"].map(str::to_owned).to_vec(),
            size: None,
            start_ms: (0, 20),
            heartbeat_ms: 30_000,
            wait_s: 20,
            poll_gap_ms: 5,
            memory: None,
            seed: 0,
        }
    }
}

/// What a fleet has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetStats {
    /// Hosts that have introduced themselves.
    pub registered: usize,
    /// Questions for the wanted set.
    pub polls: usize,
    /// Reports that were taken.
    pub reports: usize,
    /// Instances started.
    pub started: usize,
    /// Instances stopped.
    pub stopped: usize,
    /// Instances rebooted.
    pub rebooted: usize,
    /// Requests that were not answered, or refused.
    pub failed: usize,
}

/// A running fleet. Dropping it silences all of its hosts at once.
pub struct Fleet {
    shared: Arc<Shared>,
    registered: watch::Receiver<usize>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    hosts: usize,
}

impl Fleet {
    /// Starts the hosts; returns before they have introduced themselves.
    ///
    /// # Errors
    /// When the hosts' memory cannot be read.
    pub fn run(
        options: FleetOptions,
        transport: Arc<dyn Transport>,
    ) -> Result<Fleet, JournalError> {
        let (journal, mut known) = match &options.memory {
            None => (None, std::collections::BTreeMap::new()),
            Some(path) => {
                let (journal, known) = Journal::open(Arc::new(RealDisk), path, false)?;
                (Some(journal), known)
            }
        };
        let (counter, registered) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let FleetOptions { hosts, heartbeat_ms, wait_s, poll_gap_ms, start_ms, .. } = options;
        let shared = Arc::new(Shared {
            transport,
            journal,
            registering: Semaphore::new(REGISTERING_MAX),
            registered: counter,
            counts: crate::round::Counts::default(),
            pace: Pace { heartbeat_ms, wait_s, poll_gap_ms },
        });
        let mut tasks = JoinSet::new();
        for index in 0..hosts {
            let FleetOptions { prefix, zones, size, .. } = &options;
            let registration = registration(prefix, index, zones, *size);
            let id = registration.host_id.clone();
            let host = Host::remembering(known.remove(&id).unwrap_or_default());
            let seed = options.seed.wrapping_add(index as u64);
            let driver = Box::new(Simulated::new(start_ms, seed));
            let speech = Speech::ForOperator(registration);
            let host_loop = HostLoop::new(&id, speech, host, driver, shared.clone(), seed);
            let stopped = stopped.clone();
            tasks.spawn(async move {
                if let Err(silenced) = host_loop.run(stopped).await {
                    warn!(host = id, %silenced, "the host says no more");
                }
            });
        }
        Ok(Fleet { shared, registered, stop, tasks, hosts })
    }

    /// Waits until every host has introduced itself, or `patience` has passed; says whether all
    /// have.
    pub async fn registered(&self, patience: Duration) -> bool {
        let mut registered = self.registered.clone();
        let all = registered.wait_for(|count| *count >= self.hosts);
        tokio::time::timeout(patience, all).await.is_ok_and(|all| all.is_ok())
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> FleetStats {
        let counts = &self.shared.counts;
        FleetStats {
            registered: *self.registered.borrow(),
            polls: counts.polls.load(Ordering::Relaxed),
            reports: counts.reports.load(Ordering::Relaxed),
            started: counts.started.load(Ordering::Relaxed),
            stopped: counts.stopped.load(Ordering::Relaxed),
            rebooted: counts.rebooted.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
        }
    }

    /// Silences the hosts. What runs on them runs on.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Waits until every host's task has ended: forever, unless one has a bug.
    pub async fn join(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
