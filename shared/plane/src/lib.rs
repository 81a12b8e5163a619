//! The whole control plane in one process: the steps, the api and the sweeper on the doors of one
//! machine, with simulated hosts if some are wanted.
//!
//! The steps are the same that run on Lambda. What differs is assembled here, and nowhere else.

mod steps;

pub use eventplane_api::LimitSettings;
pub use steps::{TABLES, handlers};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use eventplane_agent::{Fleet, FleetOptions, InProcess, JournalError};
use eventplane_api::{Api, Limits, Options, Refusal};
use eventplane_domain::Tenant;
use eventplane_engine::{Chance, Clock, Fault, Handler, Ports};
use eventplane_engine::{OsChance, SystemClock};
use eventplane_keys::{LocalMasterKey, MasterKey};
use eventplane_local::archive::LocalArchive;
use eventplane_local::bus::{BusOptions, LocalBus};
use eventplane_local::data_dir::{self, DataDirError};
use eventplane_local::store::{EmbeddedStore, OpenError};
use eventplane_local::wiring::Wiring;
use eventplane_storage::PoolSizes;
use eventplane_sweeper::Lately;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

/// How often the sweeper looks, in milliseconds.
const SWEEP_EVERY_MS: u64 = 1_000;
/// How long requests under way may take to end when the plane stops.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon an answer has to come when the plane stops.
const SOON: Duration = Duration::from_millis(500);

/// What a plane is like.
#[derive(Debug, Clone)]
pub struct PlaneOptions {
    /// Where it keeps its memory; in memory if nowhere.
    pub data_dir: Option<PathBuf>,
    /// Where it listens; port 0 for one that is free.
    pub listen: SocketAddr,
    /// The zones that it begins with.
    pub zones: Vec<String>,
    /// The simulated hosts that run in the same process, in these zones.
    pub fleet: FleetOptions,
    /// How long a launch has until it must run, in milliseconds.
    pub launch_deadline_ms: i64,
    /// After how long a silence a host counts as dead, in milliseconds; none for never. A host that
    /// is cut off and not gone then runs on what is started elsewhere.
    pub host_dead_after_ms: Option<i64>,
    /// How its bus delivers.
    pub bus: BusOptions,
    /// The volume pools of each zone.
    pub pool_sizes: PoolSizes,
    /// What is limited.
    pub limits: LimitSettings,
    /// Whether each request is of a tenant of its own: see [`Options::tenant_of_request`].
    pub tenant_of_request: bool,
}

impl Default for PlaneOptions {
    /// In memory, on a free port of loopback, with 12 hosts in three zones.
    fn default() -> Self {
        let fleet = FleetOptions::default();
        PlaneOptions {
            data_dir: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            zones: fleet.zones.clone(),
            fleet,
            launch_deadline_ms: 60_000,
            host_dead_after_ms: None,
            bus: BusOptions::default(),
            pool_sizes: PoolSizes::default(),
            limits: LimitSettings::default(),
            tenant_of_request: false,
        }
    }
}

/// Why a plane could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory cannot be made.
    #[error(
        "the data directory {0} cannot be used: {1}; it has to be a directory that can be written"
    )]
    DataDir(PathBuf, #[source] io::Error),
    /// The store in memory cannot be made.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// What is kept in the data directory cannot be used.
    #[error(transparent)]
    Kept(#[from] DataDirError),
    /// The simulated hosts' memory cannot be used.
    #[error(transparent)]
    Hosts(#[from] JournalError),
    /// What a plane begins with could not be written.
    #[error("what the plane begins with could not be written: {0}")]
    Seed(#[from] Fault),
    /// It cannot listen there.
    #[error("cannot listen on {0}: {1}; choose another port, or 0 for one that is free")]
    Listen(SocketAddr, #[source] io::Error),
}

/// A running plane.
pub struct Plane {
    store: Arc<EmbeddedStore>,
    bus: Arc<LocalBus>,
    archive: LocalArchive,
    router: Router,
    ports: Ports,
    address: SocketAddr,
    fleet: Fleet,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    sweeper: JoinHandle<()>,
}

impl Plane {
    /// Starts a plane. What an earlier process left unfinished goes on from where it was recorded.
    ///
    /// # Errors
    /// [`StartError`] says what cannot be used.
    pub async fn start(options: PlaneOptions) -> Result<Plane, StartError> {
        Plane::start_by(options, Arc::new(SystemClock)).await
    }

    /// The same, by this clock.
    ///
    /// # Errors
    /// [`StartError`] says what cannot be used.
    pub async fn start_by(
        options: PlaneOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Plane, StartError> {
        let deadline_ms = options.launch_deadline_ms;
        Plane::start_with(options, clock, |ports, master| handlers(ports, master, deadline_ms))
            .await
    }

    /// The same with functions of the caller's making, such as another version of a step beside the
    /// one that there is.
    ///
    /// # Errors
    /// [`StartError`] says what cannot be used.
    pub async fn start_with(
        options: PlaneOptions,
        clock: Arc<dyn Clock>,
        functions: impl FnOnce(&Ports, &Arc<dyn MasterKey>) -> Vec<Arc<dyn Handler>>,
    ) -> Result<Plane, StartError> {
        let chance: Arc<dyn Chance> = Arc::new(OsChance::default());
        let (store, master) = open(&options, &chance).await?;
        let bus =
            LocalBus::new(Wiring::built_in(), store.clone(), clock.clone(), options.bus.clone());
        let archive = archive(&options)?;
        bus.archive_to(archive.clone());
        let ports = Ports { store: store.clone(), bus: bus.clone(), clock, chance };
        let tenant = Tenant::local();
        eventplane_network::seed(&*store, &tenant, &options.zones).await?;
        eventplane_storage::seed(&*store, &options.zones, options.pool_sizes).await?;
        let listener = TcpListener::bind(options.listen).await;
        let listener = listener.map_err(|error| StartError::Listen(options.listen, error))?;
        let address =
            listener.local_addr().map_err(|error| StartError::Listen(options.listen, error))?;
        bus.restore_breakers().await?;
        bus.start(functions(&ports, &master));
        eventplane_sweeper::republish_open(&ports).await?;
        let router = eventplane_api::router(Api {
            ports: ports.clone(),
            waiter: store.clone(),
            dead_letters: bus.clone(),
            breakers: bus.clone(),
            archive: Some(Arc::new(archive.clone())),
            master,
            options: Options {
                tenant,
                launch_deadline_ms: options.launch_deadline_ms,
                pool_sizes: options.pool_sizes,
                tenant_of_request: options.tenant_of_request,
                ..Options::default()
            },
            limits: Limits::new(options.limits.clone()),
        });
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(listener, router.clone(), stopped));
        let has_rules = options.limits.has_rules();
        let sweeper = sweep_forever(ports.clone(), has_rules, options.host_dead_after_ms);
        let sweeper = tokio::spawn(sweeper);
        let mut fleet = options.fleet;
        fleet.zones = options.zones;
        fleet.memory = options.data_dir.map(|dir| dir.join("hosts.journal"));
        let fleet = Fleet::run(fleet, Arc::new(InProcess(router.clone())))?;
        Ok(Plane { store, bus, archive, router, ports, address, fleet, stop, server, sweeper })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// Its bus: to break a function on purpose, and for its counts.
    #[must_use]
    pub fn bus(&self) -> &Arc<LocalBus> {
        &self.bus
    }
    /// Its store, for its counts.
    #[must_use]
    pub fn store(&self) -> &Arc<EmbeddedStore> {
        &self.store
    }
    /// Its api, without a socket.
    pub fn router(&self) -> Router {
        self.router.clone()
    }
    /// Its simulated hosts.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }
    /// The world that its functions see.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Stops it: requests and deliveries under way end, the rest goes on at the next start.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        self.fleet.stop().await;
        let mut server = self.server;
        if tokio::time::timeout(PATIENCE, &mut server).await.is_err() {
            warn!("a request did not end in time");
            server.abort();
        }
        // Who is not waited for may still hold the store when the next plane opens it.
        self.sweeper.abort();
        let _ = self.sweeper.await;
        self.bus.stop().await;
        self.archive.flush().await;
    }
}

async fn open(
    options: &PlaneOptions,
    chance: &Arc<dyn Chance>,
) -> Result<(Arc<EmbeddedStore>, Arc<dyn MasterKey>), StartError> {
    match &options.data_dir {
        None => {
            let mut key = [0; 32];
            chance.fill(&mut key);
            let master = LocalMasterKey::from_bytes("in-memory", key, chance.clone());
            Ok((Arc::new(EmbeddedStore::in_memory(TABLES)?), Arc::new(master)))
        }
        Some(dir) => {
            std::fs::create_dir_all(dir)
                .map_err(|error| StartError::DataDir(dir.clone(), error))?;
            let (store, master) = data_dir::open(dir, TABLES, chance).await?;
            Ok((Arc::new(store), Arc::new(master)))
        }
    }
}

fn archive(options: &PlaneOptions) -> Result<LocalArchive, StartError> {
    let Some(dir) = &options.data_dir else {
        return Ok(LocalArchive::in_memory(Wiring::built_in()));
    };
    let archive = LocalArchive::in_dir(&dir.join("archive"), Wiring::built_in());
    archive.map_err(|error| StartError::DataDir(dir.clone(), error))
}

async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%error, "answers on this connection may be late");
        }
    });
    let ends = stopped.clone();
    let until_it_ends =
        move |request: Request, next: Next| answer_or_end(ends.clone(), request, next);
    let router = router.layer(middleware::from_fn(until_it_ends));
    let stopped = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let served = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
    if let Err(error) = served {
        warn!(%error, "the server ended");
    }
}

/// The answer; or, when the plane stops and it does not come soon, as a long poll's does not, that there
/// will be none: whoever waits would keep the store open.
async fn answer_or_end(
    mut stopped: watch::Receiver<bool>,
    request: Request,
    next: Next,
) -> Response {
    tokio::select! {
        biased;
        answer = next.run(request) => answer,
        () = async {
            let _ = stopped.wait_for(|stop| *stop).await;
            tokio::time::sleep(SOON).await;
        } => {
            let message = "the control plane is stopping: ask it again when it is back";
            let refusal = Refusal::invalid("ServiceUnavailable", message);
            refusal.status(StatusCode::SERVICE_UNAVAILABLE).into_response()
        }
    }
}

async fn sweep_forever(ports: Ports, has_rules: bool, host_dead_after_ms: Option<i64>) {
    let mut tick = tokio::time::interval(Duration::from_millis(SWEEP_EVERY_MS));
    let mut lately = Lately::default();
    loop {
        tick.tick().await;
        let swept = match has_rules {
            true => eventplane_sweeper::sweep_and_judge(&ports, &mut lately).await,
            false => eventplane_sweeper::sweep(&ports).await,
        };
        if let Err(fault) = swept {
            warn!(%fault, "the sweep broke off; the next one goes on");
        }
        if let Err(fault) = eventplane_sweeper::watch_hosts(&ports, host_dead_after_ms).await {
            warn!(%fault, "not all hosts were looked at; the next look goes on");
        }
    }
}
