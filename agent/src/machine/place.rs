//! Where an instance runs: what each driver makes ready for it.

use super::netns::{NAMESPACES, Netns, listen_inside};
use super::port::Port;
use super::run::{Plan, RunDir};
use super::{Order, World, program, qemu, volumes};
use crate::config::DriverKind;
use crate::metadata::{InstanceFacts, LaunchBody};
use crate::round::now;
use crate::wire::InstanceKey;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use tracing::warn;

/// Where an instance with a network of its own finds its metadata ("Access instance metadata for an EC2
/// instance", EC2 user guide).
const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);

/// Makes ready what a program needs, its volumes, its limits and its environment, and plans what is to
/// be run.
///
/// # Errors
/// What is not to be had.
pub(crate) fn place(
    world: &World,
    dir: &RunDir,
    order: &Order,
    facts: &InstanceFacts,
    metadata: SocketAddr,
    crashes: u32,
) -> Result<Plan, String> {
    let launch = &order.launch;
    // A plan of this generation was made when its volumes were.
    let planned: Option<Plan> = dir.read("plan.json").map_err(|error| error.to_string())?;
    let has_run = order.has_run || planned.is_some_and(|plan| plan.generation == order.generation);
    let prepare = |make: &dyn Fn(&_, &_) -> _| {
        let folder = &world.config.volumes_dir;
        volumes::prepare(folder, &facts.key, &launch.volumes, has_run, make)
    };
    let cgroup = world.cgroups.as_ref().map(|groups| {
        let spec = &launch.spec;
        groups.make(facts.key.instance_id.as_str(), spec.vcpus, spec.memory_mib)
    });
    let cgroup = cgroup.transpose().map_err(|error| format!("its control group: {error}"))?;
    let (program, home) = match world.config.driver {
        DriverKind::Process | DriverKind::Netns => {
            let folders = prepare(&volumes::make_folder)?;
            let because = |error: std::io::Error| error.to_string();
            program::name_volumes(dir, facts, &folders).map_err(because)?;
            let home = folders.into_iter().next().unwrap_or_else(|| dir.path(""));
            (program::program(world, dir, facts).map_err(because)?, home)
        }
        DriverKind::Qemu => {
            let base = qemu::base(world, launch)?;
            let disks = prepare(&|volume: &_, path: &_| {
                qemu::make_disk(volume, path, &launch.volumes, &base)
            })?;
            (qemu::program(facts, &disks, metadata), dir.path(""))
        }
    };
    Ok(Plan {
        generation: order.generation,
        program,
        env: program::environment(facts, order.generation, &home, metadata),
        work_dir: home,
        grace_ms: world.config.restart.stop_grace_ms,
        monitor: (world.config.driver == DriverKind::Qemu).then(|| qemu::MONITOR.into()),
        netns: world
            .netns
            .as_ref()
            .map(|netns| Path::new(NAMESPACES).join(netns.namespace(&facts.key.instance_id))),
        cgroup,
        metadata,
        crashes,
        planned_at: now().0,
    })
}

/// Makes an instance's network, or finds it made.
///
/// # Errors
/// What is not to be had.
pub(crate) async fn network_up(
    world: &Arc<World>,
    key: &InstanceKey,
    launch: &LaunchBody,
) -> Result<(), String> {
    if world.netns.is_none() {
        return Ok(());
    }
    let port = Port::of(&key.instance_id, &launch.network).map_err(|error| error.to_string())?;
    let up = move |netns: &Netns| netns.up(&port).map_err(|error| error.to_string());
    on_networks(world, up).await
}

/// Takes an instance's network down.
pub(crate) async fn network_down(world: &Arc<World>, key: &InstanceKey) {
    let instance = key.instance_id.clone();
    let down = move |netns: &Netns| netns.down(&instance).map_err(|error| error.to_string());
    if let Err(why) = on_networks(world, down).await {
        warn!(instance = %key.instance_id, %why, "its network stays until the agent starts anew");
    }
}

/// Networks are made by commands, which are waited for elsewhere.
async fn on_networks(
    world: &Arc<World>,
    what: impl FnOnce(&Netns) -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let world = world.clone();
    let done = tokio::task::spawn_blocking(move || world.netns.as_ref().map_or(Ok(()), what));
    done.await.map_err(|bug| bug.to_string())?
}

/// Listens for an instance's questions about itself: where it was told before, if it was.
///
/// # Errors
/// When it cannot listen there.
pub(crate) fn listen(
    world: &World,
    facts: &InstanceFacts,
    at: Option<SocketAddr>,
) -> Result<TcpListener, String> {
    let cannot = |at, error| format!("the metadata service cannot listen on {at}: {error}");
    if let Some(netns) = &world.netns {
        let namespace = netns.namespace(&facts.key.instance_id);
        return listen_inside(&namespace, METADATA).map_err(|error| cannot(METADATA, error));
    }
    let at = at.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    TcpListener::bind(at).map_err(|error| cannot(at, error))
}
