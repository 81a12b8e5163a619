//! A `kill -9` in the middle of a load: how soon the plane is back, and whether the books are exact.

use super::load::{self, Load};
use super::process::Server;
use anyhow::{Context, Result, anyhow, ensure};
use eventplane_domain::{State, Tenant};
use eventplane_local::store::EmbeddedStore;
use eventplane_plane::TABLES;
use eventplane_tests::books::Books;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// When the kill comes, after the load's first request.
const KILL_AFTER: Duration = Duration::from_millis(1_000);
/// How often it is looked whether the plane has come to rest.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What came of it.
#[derive(Debug)]
pub(super) struct Crash {
    /// From the second start until the plane answered.
    pub(super) ready: Duration,
    /// The slowest launch: the one that saw the crash.
    pub(super) slowest_ms: f64,
    /// Requests that had to be repeated.
    pub(super) repeated: usize,
    /// How many instances run.
    pub(super) running: usize,
}

/// Kills a server that launches, starts it again, and reads the books when all is answered.
///
/// # Errors
/// When a launch is not answered in the end, or the books are not exact.
pub(super) async fn run(data_dir: &Path, hosts: usize, launches: usize) -> Result<Crash> {
    let mut server = Server::start(data_dir, hosts).await?;
    server.registered().await?;
    let (to, address) = watch::channel(server.address);
    let front = front(address).await?;
    let load = tokio::spawn(load::run(Load {
        address: front,
        path: "/launch",
        clients: 64,
        launches,
        prefix: "crash".to_owned(),
        fails_at_once: false,
    }));
    sleep(KILL_AFTER).await;
    server.kill().await?;
    ensure!(!load.is_finished(), "the load ended before the kill: give it more launches");
    let mut server = Server::start(data_dir, hosts).await?;
    let ready = server.ready;
    to.send_replace(server.address);
    let outcome = load.await??;
    outcome.check_unique()?;
    rest(server.address).await?;
    server.kill().await?;
    let running = books(data_dir, launches).await?;
    Ok(Crash { ready, slowest_ms: outcome.quantile_ms(1.0), repeated: outcome.repeated, running })
}

/// One address for both servers: each connection goes to the server of that moment.
async fn front(server: watch::Receiver<SocketAddr>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = *server.borrow();
            tokio::spawn(async move {
                if let Ok(mut stream) = TcpStream::connect(server).await {
                    // Its end is seen by the client, which then comes again.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut stream).await;
                }
            });
        }
    });
    Ok(address)
}

/// Waits until the plane has nothing to handle.
async fn rest(address: SocketAddr) -> Result<()> {
    for _ in 0..100 {
        let stats: serde_json::Value = load::get(address, "/stats").await?;
        ensure!(stats["dead_letters"] == 0, "dead letters: {stats}");
        if stats["waiting"] == 0 {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
    Err(anyhow!("the plane does not come to rest"))
}

/// Reads the books of a plane that does not run; how many instances it has running.
async fn books(data_dir: &Path, launches: usize) -> Result<usize> {
    let store = Arc::new(EmbeddedStore::open(data_dir.join("eventplane.redb"), TABLES)?);
    // What does not add up panics there, with what it is.
    let read = tokio::spawn(async move {
        let books = Books::read(&*store, &Tenant::local()).await;
        books.check();
        let runs = |account: &&eventplane_tests::books::Account| {
            account.record.progress.state == State::Running
        };
        books.accounts.iter().filter(runs).count()
    });
    let running = read.await.context("the books are not exact")?;
    ensure!(running == launches, "{launches} launches were answered, and {running} instances run");
    Ok(running)
}
