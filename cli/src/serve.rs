//! What runs until it is told to end: a plane, or simulated hosts.

use crate::args::{Agent, Reach, Up};
use crate::problem::Problem;
use crate::reach;
use crate::show::Screen;
use eventplane_agent::{Fleet, FleetOptions};
use eventplane_domain::HostId;
use eventplane_plane::{Plane, PlaneOptions};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long simulated hosts may take to introduce themselves before it is said that they have not.
const REGISTERING: Duration = Duration::from_secs(30);

pub(crate) fn failed(error: impl ToString) -> Problem {
    Problem::Failed(error.to_string())
}

/// Completes when the process is told to end: by Ctrl-C, or by SIGTERM.
pub(crate) struct Ending {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Ending {
    /// Listens from now on: a signal that comes before anybody waits is not lost.
    pub(crate) fn listen() -> Result<Ending, Problem> {
        let listen = |kind| signal(kind).map_err(failed);
        let (terminate, interrupt) =
            (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Ending { terminate, interrupt })
    }

    pub(crate) async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn zones(zones: &[String]) -> Result<Vec<String>, Problem> {
    // A zone is named as a host is.
    if let Some(wrong) = zones.iter().find(|zone| HostId::parse(zone).is_err()) {
        let right = "1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit";
        return Err(Problem::Input(format!("a zone has {right}; not `{wrong}`")));
    }
    Ok(zones.to_vec())
}

/// `up`: a plane until it is told to end.
pub(crate) async fn up(asked: &Up, screen: &mut Screen) -> Result<(), Problem> {
    let mut ending = Ending::listen()?;
    let zones = zones(&asked.zones)?;
    let defaults = PlaneOptions::default();
    let plane = Plane::start(PlaneOptions {
        data_dir: asked.data_dir.clone(),
        listen: SocketAddr::new(asked.listen, asked.port),
        fleet: FleetOptions { hosts: asked.hosts as usize, ..defaults.fleet.clone() },
        zones,
        host_dead_after_ms: asked.host_dead_after_s.map(|s| i64::from(s) * 1_000),
        limits: asked.limits.clone(),
        ..defaults
    });
    let plane = plane.await.map_err(failed)?;
    if !plane.fleet().registered(REGISTERING).await {
        screen.aside("warning: not every simulated host has introduced itself yet");
    }
    if !asked.listen.is_loopback() {
        screen.aside(
            "warning: whoever reaches this address may do everything: nobody is asked who they are",
        );
    }
    let kept = match &asked.data_dir {
        None => "in memory".to_owned(),
        Some(dir) => format!("in {}", dir.display()),
    };
    let (address, hosts) = (plane.address(), asked.hosts);
    screen.line(format!("ready: http://{address} ({hosts} simulated hosts, kept {kept})"));
    ending.told().await;
    plane.shutdown().await;
    Ok(())
}

/// `agent --simulated`: simulated hosts until they are told to end.
pub(crate) async fn agent(
    asked: &Agent,
    reach: &Reach,
    screen: &mut Screen,
) -> Result<(), Problem> {
    let mut ending = Ending::listen()?;
    let (http, _) = reach::http(reach).await?;
    let endpoint = http.endpoint().to_owned();
    let options = FleetOptions {
        hosts: asked.kind.simulated.unwrap_or(0) as usize,
        prefix: asked.prefix.clone(),
        zones: zones(&asked.zones)?,
        memory: asked.data_dir.as_deref().map(memory).transpose().map_err(failed)?,
        ..FleetOptions::default()
    };
    let all = options.hosts;
    let fleet = Fleet::run(options, Arc::new(http)).map_err(failed)?;
    tokio::select! {
        () = ending.told() => {}
        () = async {
            while !fleet.registered(REGISTERING).await {
                let come = fleet.stats().registered;
                screen.aside(format!("{come} of {all} hosts have introduced themselves at {endpoint}"));
            }
            screen.line(format!("ready: {all} simulated hosts at {endpoint}"));
            std::future::pending::<()>().await;
        } => {}
    }
    fleet.stop().await;
    Ok(())
}

fn memory(dir: &Path) -> io::Result<std::path::PathBuf> {
    std::fs::create_dir_all(dir)?;
    Ok(dir.join("hosts.journal"))
}
