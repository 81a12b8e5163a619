//! The driver of a real host: every instance has a directory, a keeper that outlives the agent, and a
//! worker here that carries out its orders.

mod cgroup;
pub mod firewall;
mod keeper;
mod keeping;
mod link;
pub mod netns;
mod place;
pub mod port;
mod program;
mod qemu;
mod run;
mod service;
mod volumes;
mod worker;

pub use keeper::run_instance;

pub(crate) use cgroup::Cgroups;
pub(crate) use link::Link;

use crate::config::{DriverKind, HostConfig};
use crate::driver::{Driver, Happened};
use crate::host::Phase;
use crate::metadata::{LaunchBody, Tokens};
use crate::wire::InstanceKey;
use async_trait::async_trait;
use axum::body::Bytes;
use eventplane_domain::{InstanceId, Millis, Tenant};
use netns::Netns;
use port::Port;
use run::RunDir;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use volumes::Found;
use worker::{Command, Worker};

/// How soon after its start, or after an instance is gone, and how often otherwise, a host asks which of
/// its volumes were given back.
const VOLUMES_SOON: Duration = Duration::from_secs(2);
const VOLUMES_EVERY: Duration = Duration::from_secs(600);

/// What a driver needs of the machine.
///
/// # Errors
/// What is missing, and what would help.
pub(crate) fn networks(config: &HostConfig) -> Result<Option<Netns>, String> {
    match config.driver {
        DriverKind::Process => Ok(None),
        DriverKind::Netns => {
            Netns::find(&config.host_id).map(Some).map_err(|error| error.to_string())
        }
        DriverKind::Qemu => qemu::check().map(|()| None),
    }
}

/// What all instances of a host share.
pub(crate) struct World {
    pub(crate) config: HostConfig,
    pub(crate) link: Link,
    /// The command that runs a keeper.
    pub(crate) keeper: Vec<String>,
    /// Where the machine allows it.
    pub(crate) cgroups: Option<Cgroups>,
    /// For the driver of that name.
    pub(crate) netns: Option<Netns>,
    /// What seals the tokens of metadata services.
    pub(crate) tokens: Arc<Tokens>,
}

/// What an instance is made of, as the wanted set has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) generation: u32,
    pub(crate) deadline: Millis,
    /// Whether an earlier generation has run: then its volumes are there.
    #[serde(default)]
    pub(crate) has_run: bool,
    /// The newest request to see its output.
    #[serde(default)]
    pub(crate) consoles: u32,
    pub(crate) launch: LaunchBody,
}

/// The wanted set, for what a driver needs of it.
#[derive(Deserialize)]
struct Orders {
    wanted: Vec<OrderOf>,
}

#[derive(Deserialize)]
struct OrderOf {
    #[serde(flatten)]
    key: InstanceKey,
    #[serde(flatten)]
    order: Order,
}

/// One instance's worker, and what is known of it here.
struct Known {
    commands: UnboundedSender<Command>,
    /// The newest generation whose order was written down.
    ordered: u32,
    consoles: u32,
    /// Orders to stop that are not yet carried out.
    stops: u32,
}

/// The instances that are here, for who looks after volumes.
#[derive(Default)]
struct Here {
    keys: Mutex<BTreeSet<InstanceKey>>,
    /// One is here no more.
    has_gone: Notify,
}

impl Here {
    fn keys(&self) -> MutexGuard<'_, BTreeSet<InstanceKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The instances of a real host.
pub(crate) struct Machine {
    world: Arc<World>,
    known: BTreeMap<InstanceKey, Known>,
    here: Arc<Here>,
    tell: UnboundedSender<Happened>,
    told: UnboundedReceiver<Happened>,
    volumes: JoinHandle<()>,
}

impl Machine {
    pub(crate) fn new(world: World) -> Machine {
        let (tell, told) = mpsc::unbounded_channel();
        let (world, here) = (Arc::new(world), Arc::default());
        let volumes = tokio::spawn(look_after_volumes(world.clone(), Arc::clone(&here)));
        Machine { world, known: BTreeMap::new(), here, tell, told, volumes }
    }

    fn instances_dir(&self) -> PathBuf {
        self.world.config.data_dir.join("instances")
    }

    fn dir(&self, key: &InstanceKey) -> PathBuf {
        self.instances_dir().join(key.tenant.as_str()).join(key.instance_id.as_str())
    }

    fn known(&mut self, key: &InstanceKey) -> &mut Known {
        if !self.known.contains_key(key) {
            let (commands, orders) = mpsc::unbounded_channel();
            let dir = RunDir::at(&self.dir(key));
            let ordered: Option<Order> = dir.read("order.json").ok().flatten();
            let worker = Worker {
                key: key.clone(),
                dir,
                world: self.world.clone(),
                commands: orders,
                tell: self.tell.clone(),
            };
            tokio::spawn(worker.run());
            let ordered = ordered.map_or(0, |order| order.generation);
            let known = Known { commands, ordered, consoles: 0, stops: 0 };
            self.known.insert(key.clone(), known);
            self.here.keys().insert(key.clone());
        }
        self.known.get_mut(key).expect("it is there now")
    }

    fn order(&mut self, key: &InstanceKey, command: Command) {
        let known = self.known(key);
        if matches!(command, Command::Stop | Command::Resume(_, Phase::LetGo)) {
            known.stops += 1;
        }
        // A worker that is gone had a bug: nothing of its instance is promised then.
        let _ = known.commands.send(command);
    }

    fn remove(&self, key: &InstanceKey) {
        match std::fs::remove_dir_all(self.dir(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(instance = %key.instance_id, %error, "not all that was kept of it is gone");
            }
            _ => {}
        }
    }

    /// The instances that have a directory.
    fn on_disk(&self) -> io::Result<Vec<InstanceKey>> {
        let mut keys = Vec::new();
        for tenant in std::fs::read_dir(self.instances_dir())? {
            let tenant = tenant?;
            let Some(name) = tenant.file_name().to_str().and_then(|name| Tenant::parse(name).ok())
            else {
                continue;
            };
            for instance in std::fs::read_dir(tenant.path())? {
                let instance = instance?.file_name();
                let id = instance.to_str().and_then(|id| InstanceId::parse(id).ok());
                keys.extend(
                    id.map(|instance_id| InstanceKey { tenant: name.clone(), instance_id }),
                );
            }
        }
        Ok(keys)
    }

    /// Tells the networks which ports are up already, and takes down what is nobody's.
    fn adopt_networks(&self, remembered: &[(InstanceKey, u32, Phase)]) {
        let Some(netns) = &self.world.netns else { return };
        let goes_on = remembered.iter().filter(|(_, _, phase)| *phase != Phase::LetGo);
        for (key, generation, _) in goes_on {
            let order: Option<Order> = RunDir::at(&self.dir(key)).read("order.json").ok().flatten();
            let order = order.filter(|order| order.generation == *generation);
            let port = order.map(|order| Port::of(&key.instance_id, &order.launch.network));
            if let Some(Ok(port)) = port {
                netns.adopt(port);
            }
        }
        for instance in netns.left_over().unwrap_or_default() {
            if let Err(error) = netns.down(&instance) {
                warn!(%instance, %error, "a network that is nobody's stays");
            }
        }
    }

    /// Writes down what a new generation is made of, before anything is done about it.
    fn keep(&mut self, of: OrderOf) {
        let OrderOf { key, order } = of;
        let dir = self.dir(&key);
        let known = self.known(&key);
        if known.consoles < order.consoles {
            known.consoles = order.consoles;
            let _ = known.commands.send(Command::Console);
        }
        if known.ordered >= order.generation {
            return;
        }
        let kept = std::fs::create_dir_all(&dir)
            .and_then(|()| RunDir::at(&dir).write("order.json", &order));
        match kept {
            Ok(()) => known.ordered = order.generation,
            Err(error) => {
                warn!(instance = %key.instance_id, %error, "its order is not written down")
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.volumes.abort();
    }
}

#[async_trait]
impl Driver for Machine {
    fn resume(&mut self, remembered: Vec<(InstanceKey, u32, Phase)>) {
        let on_disk = self.on_disk().unwrap_or_else(|error| {
            warn!(%error, "what an agent before this one has left cannot be seen");
            vec![]
        });
        self.adopt_networks(&remembered);
        for (key, generation, phase) in &remembered {
            self.order(key, Command::Resume(*generation, *phase));
        }
        for key in on_disk {
            if remembered.iter().any(|(known, _, _)| *known == key) {
                continue;
            }
            // Nothing was promised or begun by what is remembered, so nothing of it is to run.
            match RunDir::at(&self.dir(&key)).may_run() {
                true => self.order(&key, Command::Stop),
                false => self.remove(&key),
            }
        }
    }

    fn hear(&mut self, set: &Bytes) {
        match serde_json::from_slice::<Orders>(set) {
            Ok(orders) => orders.wanted.into_iter().for_each(|order| self.keep(order)),
            Err(error) => warn!(%error, "what is to be run cannot be read"),
        }
    }

    fn start(&mut self, key: &InstanceKey, generation: u32) {
        self.order(key, Command::Start(generation));
    }

    fn reboot(&mut self, key: &InstanceKey, generation: u32) {
        self.order(key, Command::Reboot(generation));
    }

    fn stop(&mut self, key: &InstanceKey, _: u32) {
        self.order(key, Command::Stop);
    }

    fn is_stopping(&self, key: &InstanceKey) -> bool {
        self.known.get(key).is_some_and(|known| known.stops > 0)
    }

    fn forget(&mut self, key: &InstanceKey) {
        // Its worker has nothing left to do, and ends with its orders.
        self.known.remove(key);
        self.remove(key);
        self.here.keys().remove(key);
        self.here.has_gone.notify_one();
    }

    async fn happened(&mut self) -> Vec<Happened> {
        let mut all = Vec::new();
        all.extend(self.told.recv().await);
        while let Ok(next) = self.told.try_recv() {
            all.push(next);
        }
        for happened in &all {
            if let Happened::Stopped(key) = happened
                && let Some(known) = self.known.get_mut(key)
            {
                known.stops = known.stops.saturating_sub(1);
            }
        }
        all
    }
}

/// Deletes volumes that the plane says were given back for good, of instances that are not here.
async fn look_after_volumes(world: Arc<World>, here: Arc<Here>) {
    let folder = &world.config.volumes_dir;
    loop {
        sleep(VOLUMES_SOON).await;
        match volumes::all(folder) {
            Ok(mut volumes) => {
                let is_here = |volume: &Found| {
                    here.keys().iter().any(|key| key.instance_id == volume.instance_id)
                };
                volumes.retain(|volume| !is_here(volume));
                delete_given_back(&world, &volumes).await;
            }
            Err(error) => {
                warn!(%error, folder = %folder.display(), "cannot look after volumes");
            }
        }
        let _ = timeout(VOLUMES_EVERY, here.has_gone.notified()).await;
    }
}

async fn delete_given_back(world: &World, volumes: &[Found]) {
    for some in volumes.chunks(link::VOLUMES_MAX) {
        let gone = match world.link.gone(some).await {
            Ok(gone) => gone,
            Err(why) => {
                warn!(%why, "which volumes were given back is not known");
                return;
            }
        };
        for volume in some.iter().filter(|volume| gone.contains(&volume.volume_id)) {
            let folder = &world.config.volumes_dir;
            match tokio::task::block_in_place(|| volumes::delete(folder, volume)) {
                Ok(()) => info!(volume = volume.volume_id, "deleted: it was given back"),
                Err(error) => warn!(volume = volume.volume_id, %error, "cannot be deleted"),
            }
        }
    }
}
