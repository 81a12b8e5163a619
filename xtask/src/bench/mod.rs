//! `cargo xtask bench`: prints what the plane does, how fast, and for how much. It asserts no time:
//! a number means something only beside the machine that it was measured on.
//!
//! Three processes take part in it: the plane with its simulated hosts is one of its own, so that
//! its CPU and memory can be counted alone.

#[cfg(feature = "bench-aws")]
mod aws;
mod choosing;
mod crash;
mod load;
mod process;
mod serve;

pub use serve::{Serve, serve};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use load::{Load, Outcome};
use process::Server;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::sleep;

/// How many hosts there are to choose from.
const MANY_HOSTS: usize = 100_000;
/// How many times one of them is chosen.
const DECISIONS: usize = 10_000;
/// How long an idle plane is watched.
const IDLE: Duration = Duration::from_secs(10);
/// How long it may settle before.
const SETTLE: Duration = Duration::from_secs(2);

/// What is measured.
#[derive(Debug, Args)]
pub struct Options {
    /// How many launches at concurrency 64.
    #[arg(long, default_value_t = 20_000)]
    launches: usize,
    /// How many launches one after the other.
    #[arg(long, default_value_t = 500)]
    single: usize,
    /// How many instances are launched and terminated before memory is looked at.
    #[arg(long, default_value_t = 10_000)]
    history: usize,
    /// How many hosts.
    #[arg(long, default_value_t = 1_000)]
    hosts: usize,
    /// Only these parts, separated by commas: launches, single, choosing, idle, crash, history.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The local plane if it is none.
    #[command(subcommand)]
    on: Option<On>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum On {
    /// Cold starts of the functions beside a bare hello, and what a launch costs on AWS
    Aws,
}

impl Options {
    fn has(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// Runs this program again as it is when it is optimized, with the same arguments.
///
/// # Errors
/// When it cannot be built or started, or fails.
pub fn run_optimized(options: &Options) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--release", "--quiet", "--package", "xtask"]);
    if options.on.is_some() {
        cargo.args(["--features", "bench-aws"]);
    }
    cargo.arg("--");
    let status = cargo.args(std::env::args_os().skip(1)).current_dir(crate::workspace()).status();
    ensure!(status.context("cargo could not be started")?.success(), "the bench failed");
    Ok(())
}

/// Measures, and prints.
///
/// # Errors
/// When something does not work, or is not exact.
pub async fn run(options: Options) -> Result<()> {
    match options.on {
        #[cfg(feature = "bench-aws")]
        Some(On::Aws) => return aws::bench().await,
        #[cfg(not(feature = "bench-aws"))]
        Some(On::Aws) => anyhow::bail!("build with `--features bench-aws`, as `cargo xtask` does"),
        None => {}
    }
    let cores = std::thread::available_parallelism()?;
    say(&format!(
        "{cores} cores, {} hosts of 128 vCPUs and 512 GiB in 3 zones, 51 subnets, t3.medium; \
         durable, in a temporary directory",
        options.hosts
    ));
    if options.has("launches") {
        launches(&options, 64, options.launches).await?;
    }
    if options.has("single") {
        launches(&options, 1, options.single).await?;
    }
    if options.has("idle") {
        idle(&options).await?;
    }
    if options.has("choosing") {
        let took = choosing::run(MANY_HOSTS, DECISIONS).await?;
        let us = |share: f64| took[(share * (took.len() - 1) as f64) as usize].as_secs_f64() * 1e6;
        let mean = took.iter().sum::<Duration>().as_secs_f64() * 1e6 / took.len() as f64;
        say(&format!(
            "choosing among {MANY_HOSTS} hosts: {mean:.0} us a decision (p50 {:.0}, p99 {:.0})",
            us(0.5),
            us(0.99)
        ));
    }
    if options.has("crash") {
        let dir = TempDir::new()?;
        let crash = crash::run(dir.path(), options.hosts, options.launches).await?;
        say(&format!(
            "kill -9 in the middle of {} launches: ready again after {:.0} ms, slowest launch \
             {:.0} ms, {} requests repeated, {} instances run, the books are exact",
            options.launches,
            crash.ready.as_secs_f64() * 1e3,
            crash.slowest_ms,
            crash.repeated,
            crash.running
        ));
    }
    if options.has("history") {
        history(&options).await?;
    }
    Ok(())
}

/// Launches at one concurrency, on a plane of its own.
async fn launches(options: &Options, clients: usize, launches: usize) -> Result<()> {
    let dir = TempDir::new()?;
    let server = server(dir.path(), options.hosts).await?;
    let before = load::get(server.address, "/stats").await?;
    let (outcome, cpu_s) = loaded(&server, "/launch", clients, launches).await?;
    outcome.check_unique()?;
    let after = load::get(server.address, "/stats").await?;
    let per_launch = |name: &str| {
        let of = |stats: &serde_json::Value| stats[name].as_f64().unwrap_or_default();
        (of(&after) - of(&before)) / launches as f64
    };
    tell(&format!("{launches} launches at concurrency {clients}"), &outcome, cpu_s, &server)?;
    say(&format!(
        "  a launch: {:.2} commits, {:.1} transactions, {:.1} reads, {:.1} write units, {:.1} events, \
         {:.1} deliveries, {:.1} polls and {:.1} reports of hosts",
        per_launch("commits"),
        per_launch("transactions"),
        per_launch("reads"),
        per_launch("write_units"),
        per_launch("events"),
        per_launch("deliveries"),
        per_launch("polls"),
        per_launch("reports"),
    ));
    Ok(())
}

/// Launches and terminates, and looks at what that has left in memory.
async fn history(options: &Options) -> Result<()> {
    let dir = TempDir::new()?;
    let server = server(dir.path(), options.hosts).await?;
    let before = server.peak_mib()?;
    let (outcome, cpu_s) = loaded(&server, "/launch-and-terminate", 64, options.history).await?;
    let what = format!("{} launches and terminations at concurrency 64", options.history);
    tell(&what, &outcome, cpu_s, &server)?;
    let bytes = std::fs::metadata(dir.path().join("eventplane.redb"))?.len();
    say(&format!(
        "  memory before them {before:.0} MiB; the file has {:.0} bytes a launch",
        bytes as f64 / options.history as f64
    ));
    Ok(())
}

async fn idle(options: &Options) -> Result<()> {
    for (hosts, launches) in [(12, 0), (options.hosts, options.hosts)] {
        let dir = TempDir::new()?;
        let server = server(dir.path(), hosts).await?;
        if launches > 0 {
            loaded(&server, "/launch", 64, launches).await?;
        }
        sleep(SETTLE).await;
        let before = server.cpu_s()?;
        sleep(IDLE).await;
        let used = server.cpu_s()? - before;
        say(&format!(
            "idle with {hosts} hosts and {launches} instances: {:.2} % of a core",
            used / IDLE.as_secs_f64() * 100.0
        ));
    }
    Ok(())
}

async fn server(dir: &Path, hosts: usize) -> Result<Server> {
    let mut server = Server::start(dir, hosts).await?;
    server.registered().await?;
    Ok(server)
}

/// Runs a load; what came of it, and the server's CPU seconds.
async fn loaded(
    server: &Server,
    path: &'static str,
    clients: usize,
    launches: usize,
) -> Result<(Outcome, f64)> {
    let before = server.cpu_s()?;
    let outcome = load::run(Load {
        address: server.address,
        path,
        clients,
        launches,
        prefix: "bench".to_owned(),
        fails_at_once: true,
    })
    .await?;
    Ok((outcome, server.cpu_s()? - before))
}

fn tell(what: &str, outcome: &Outcome, cpu_s: f64, server: &Server) -> Result<()> {
    say(&format!(
        "{what}: {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms, {:.2} CPU-s per 1,000, \
         peak memory {:.0} MiB, ready after {:.0} ms",
        outcome.per_s(),
        outcome.quantile_ms(0.5),
        outcome.quantile_ms(0.99),
        outcome.quantile_ms(1.0),
        cpu_s / outcome.launched.len() as f64 * 1_000.0,
        server.peak_mib()?,
        server.ready.as_secs_f64() * 1e3,
    ));
    Ok(())
}

#[allow(clippy::print_stdout, reason = "what a bench is for")]
fn say(line: &str) {
    println!("{line}");
}
