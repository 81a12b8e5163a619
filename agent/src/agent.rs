//! The agent of a real host: what it remembers, who it is, and what runs there.

use crate::config::HostConfig;
use crate::disk::{Disk, RealDisk};
use crate::host::Host;
use crate::identity::Identity;
use crate::journal::{Journal, JournalError};
use crate::machine::{Cgroups, Link, Machine, World, networks};
use crate::metadata::Tokens;
use crate::round::{Counts, HostLoop, Pace, Shared, Silenced};
use crate::speech::Speech;
use crate::transport::{Http, Transport};
use crate::wire::Registration;
use eventplane_engine::{OsChance, SystemClock};
use eventplane_keys::DataKey;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};

/// The shortest time from one question to the next, in milliseconds.
const POLL_GAP_MS: u64 = 20;

/// How often it is looked whether the host's key has lived for long enough.
const KEY_LOOKED_AT: Duration = Duration::from_secs(60);

/// Why an agent cannot begin, or has nothing more to do.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The data directory cannot be used.
    #[error("{0} cannot be used: {1}; `data_dir` has to be a folder that can be written")]
    DataDir(PathBuf, #[source] io::Error),
    /// Another agent works in it.
    #[error("another agent works in {0}: one at a time")]
    InUse(PathBuf),
    /// Its memory cannot be used.
    #[error(transparent)]
    Memory(#[from] JournalError),
    /// Its driver lacks something.
    #[error("{0}")]
    Driver(String),
    /// The plane does not listen to it any more.
    #[error("{0}. What runs on this host runs on")]
    Silenced(#[from] Silenced),
}

/// An agent's data directory, held for it alone.
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens a data directory, or makes it. Nobody else may read it, for there are secrets in it.
    ///
    /// # Errors
    /// When it cannot be made, or another agent works in it.
    pub fn open(path: &Path) -> Result<DataDir, AgentError> {
        let because = |error| AgentError::DataDir(path.to_owned(), error);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(because)?;
        let own = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(path, own).map_err(because)?;
        std::fs::create_dir_all(path.join("instances")).map_err(because)?;
        let lock = File::options().create(true).truncate(false).write(true).to_owned();
        let lock = lock.open(path.join("agent.lock")).map_err(because)?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDir { path: path.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(AgentError::InUse(path.to_owned())),
            Err(std::fs::TryLockError::Error(error)) => Err(because(error)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What an agent is made of.
pub struct Agent {
    /// The host, as its operator describes it.
    pub config: HostConfig,
    /// What it has.
    pub registration: Registration,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The way to its plane.
    pub http: Http,
    /// The command that runs a keeper; a directory is added.
    pub keeper: Vec<String>,
    /// Where it keeps what it has to remember.
    pub data_dir: DataDir,
}

impl Agent {
    /// Runs until it is told to stop, or silenced. Its instances run on either way. `known` is raised
    /// when the plane has come to know the host.
    ///
    /// # Errors
    /// [`AgentError`] says why it cannot begin or go on.
    pub async fn run(
        self,
        known: watch::Sender<usize>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), AgentError> {
        let Agent { config, registration, identity, http, keeper, data_dir } = self;
        as_many_files_as_allowed();
        let transport: Arc<dyn Transport> = Arc::new(http.signed_by(identity.clone()));
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let host_id = config.host_id.to_string();
        let path = data_dir.path().join("host.journal");
        let (journal, mut hosts) = Journal::open(disk, &path, true)?;
        let host = Host::remembering(hosts.remove(&host_id).unwrap_or_default());
        let pace = Pace {
            heartbeat_ms: config.heartbeat_s * 1_000,
            wait_s: config.poll_wait_s,
            poll_gap_ms: POLL_GAP_MS,
        };
        let shared = Shared {
            transport: transport.clone(),
            journal: Some(journal),
            registering: Semaphore::new(1),
            registered: known.clone(),
            counts: Counts::default(),
            pace,
        };
        let tokens = Tokens::new(
            DataKey::from_bytes(identity.token_key()),
            Arc::new(SystemClock),
            Arc::new(OsChance::default()),
        );
        let world = World {
            netns: networks(&config).map_err(AgentError::Driver)?,
            link: Link { transport: transport.clone(), host_id: host_id.clone() },
            keeper,
            cgroups: limits(&host_id),
            tokens: Arc::new(tokens),
            config,
        };
        let driver = Box::new(Machine::new(world));
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).expect("the system gives random bytes");
        let rotation = tokio::spawn(rotate(identity.clone(), transport, known.subscribe()));
        let speech = Speech::AsItself(identity, registration);
        let seed = u64::from_le_bytes(seed);
        let host_loop = HostLoop::new(&host_id, speech, host, driver, Arc::new(shared), seed);
        let ended = host_loop.run(stop).await;
        rotation.abort();
        Ok(ended?)
    }
}

/// Each instance takes some file descriptors: the soft limit is for programs that cannot have many.
fn as_many_files_as_allowed() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "few instances find room: the limit of open files stays low");
    }
}

/// Gives the host another key, as often as one is due, once the plane knows the host.
async fn rotate(
    identity: Arc<Identity>,
    transport: Arc<dyn Transport>,
    mut known: watch::Receiver<usize>,
) {
    if known.wait_for(|known| *known > 0).await.is_err() {
        return;
    }
    loop {
        if identity.key_is_due()
            && let Err(why) = identity.rotate(&*transport).await
        {
            tracing::warn!(%why, "the host keeps its key for now");
        }
        tokio::time::sleep(KEY_LOOKED_AT).await;
    }
}

/// The control groups of this host's instances, if the machine lets the agent make them.
fn limits(host_id: &str) -> Option<Cgroups> {
    match Cgroups::of_host(host_id) {
        Ok(groups) => {
            if groups.controllers.is_empty() {
                tracing::warn!(
                    "instances are not limited: no controller of cgroup v2 is to be had"
                );
            }
            Some(groups)
        }
        Err(why) => {
            tracing::warn!(%why, "instances are not limited");
            None
        }
    }
}
