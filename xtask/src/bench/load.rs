//! A closed loop of clients: each sends its next request when it has the answer to its last one.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client waits after a request that failed.
const PAUSE: Duration = Duration::from_millis(20);
/// How often one launch is asked for before the bench gives up: enough for a server that is away
/// for half a minute.
const TRIES_MAX: usize = 1_500;

/// A load: launches with the tokens `PREFIX-0`, `PREFIX-1` and so on.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// Where to.
    pub(super) address: SocketAddr,
    /// Which route.
    pub(super) path: &'static str,
    /// How many clients.
    pub(super) clients: usize,
    /// How many launches, of all clients together.
    pub(super) launches: usize,
    /// What the tokens begin with.
    pub(super) prefix: String,
    /// What counts as a failure: with `false`, requests are repeated until they are answered.
    pub(super) fails_at_once: bool,
}

/// A launch that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Launched {
    /// Its instance.
    pub(super) instance_id: String,
    /// Its address; absent where the route does not show one.
    #[serde(default, alias = "private_ip")]
    pub(super) ip: String,
}

/// What came of a load.
#[derive(Debug)]
pub(super) struct Outcome {
    /// From the first request to the last answer.
    pub(super) took: Duration,
    /// How long each launch took, shortest first.
    pub(super) latencies: Vec<Duration>,
    /// What was launched.
    pub(super) launched: Vec<Launched>,
    /// Requests that had to be repeated.
    pub(super) repeated: usize,
}

impl Outcome {
    /// Launches in a second.
    #[must_use]
    pub(super) fn per_s(&self) -> f64 {
        self.launched.len() as f64 / self.took.as_secs_f64()
    }

    /// How long all but `1 - share` of the launches took at most, in milliseconds.
    #[must_use]
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (share * last as f64).round() as usize;
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1_000.0)
    }

    /// Fails unless every launch has an instance and an address of its own.
    ///
    /// # Errors
    /// When two have the same.
    pub(super) fn check_unique(&self) -> Result<()> {
        let ids: HashSet<&str> = self.launched.iter().map(|one| &*one.instance_id).collect();
        let addresses: HashSet<&str> = self.launched.iter().map(|one| &*one.ip).collect();
        ensure!(ids.len() == self.launched.len(), "two launches have the same instance");
        ensure!(addresses.len() == self.launched.len(), "two instances have the same address");
        Ok(())
    }
}

/// Runs a load to its end.
///
/// # Errors
/// When a launch is not answered.
pub(super) async fn run(load: Load) -> Result<Outcome> {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        clients.spawn(client(load.clone(), next.clone()));
    }
    let mut outcome =
        Outcome { took: Duration::ZERO, latencies: vec![], launched: vec![], repeated: 0 };
    while let Some(done) = clients.join_next().await {
        let (latencies, launched, repeated) = done??;
        outcome.latencies.extend(latencies);
        outcome.launched.extend(launched);
        outcome.repeated += repeated;
    }
    outcome.took = begun.elapsed();
    outcome.latencies.sort_unstable();
    Ok(outcome)
}

async fn client(
    load: Load,
    next: Arc<AtomicUsize>,
) -> Result<(Vec<Duration>, Vec<Launched>, usize)> {
    let mut connection = None;
    let (mut latencies, mut launched, mut repeated) = (vec![], vec![], 0);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.launches {
            return Ok((latencies, launched, repeated));
        }
        let request = request(&load, number);
        let begun = Instant::now();
        let mut tries = 0;
        let body = loop {
            let sent = timeout(PATIENCE, send(&mut connection, load.address, &request)).await;
            match sent.unwrap_or_else(|_| bail!("no answer in time")) {
                Ok(body) => break body,
                Err(error) if load.fails_at_once || tries >= TRIES_MAX => return Err(error),
                Err(_) => {
                    connection = None;
                    tries += 1;
                    sleep(PAUSE).await;
                }
            }
        };
        latencies.push(begun.elapsed());
        launched.push(serde_json::from_slice(&body)?);
        repeated += tries;
    }
}

/// What a route of the gateway shows.
///
/// # Errors
/// When it does not answer, or not with JSON.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<serde_json::Value> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
    let mut connection = None;
    let sent = timeout(PATIENCE, send(&mut connection, address, request.as_bytes()));
    Ok(serde_json::from_slice(&sent.await.context("no answer in time")??)?)
}

fn request(load: &Load, number: usize) -> Vec<u8> {
    let body = format!(r#"{{"zone":{},"vcpus":2,"memory_mib":4096}}"#, number % 3);
    format!(
        "POST {} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
         idempotency-key: {}-{number}\r\ncontent-length: {}\r\n\r\n{body}",
        load.path,
        load.prefix,
        body.len()
    )
    .into_bytes()
}

/// Sends a request on a connection that is kept; the body of an answer with status 200.
async fn send(
    connection: &mut Option<TcpStream>,
    address: SocketAddr,
    request: &[u8],
) -> Result<Vec<u8>> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            connection.insert(stream)
        }
    };
    stream.write_all(request).await?;
    let mut answer = Vec::with_capacity(1024);
    let head = loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        ensure!(stream.read_buf(&mut answer).await? > 0, "the connection was closed");
    };
    let lines = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = lines.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.context("an answer without a length")?.trim().parse()?;
    let mut body = answer.split_off(head + 4);
    while body.len() < length {
        ensure!(stream.read_buf(&mut body).await? > 0, "the connection was closed");
    }
    let is_good = lines.starts_with("http/1.1 200");
    ensure!(is_good, "{}: {}", lines.lines().next().unwrap_or(""), String::from_utf8_lossy(&body));
    Ok(body)
}
