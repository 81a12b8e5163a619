//! The server's process: starting it, killing it, and what it uses.

use super::serve::{GATEWAY, READY, REGISTERED};
use anyhow::{Context, Result};
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long it may take to start, and its hosts to register.
const PATIENCE: Duration = Duration::from_secs(120);
/// The clock ticks of `/proc/PID/stat` in a second: `USER_HZ`, which Linux never changes ("proc(5)").
const TICKS_PER_S: f64 = 100.0;
const KIB_PER_MIB: f64 = 1024.0;

/// A server that runs.
pub(super) struct Server {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Where its gateway answers.
    pub(super) address: SocketAddr,
    /// From its start until the plane answered.
    pub(super) ready: Duration,
}

impl Server {
    /// Starts this program once more, as a server on `data_dir`, and waits until it answers. A
    /// dropped server is killed.
    ///
    /// # Errors
    /// When it does not start in time.
    pub(super) async fn start(data_dir: &Path, hosts: usize) -> Result<Server> {
        let begun = Instant::now();
        let mut child = Command::new(env::current_exe()?)
            .arg("bench-serve")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--hosts", &hosts.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the server could not be started")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        line(&mut lines, READY).await?;
        let ready = begun.elapsed();
        let address = line(&mut lines, GATEWAY).await?;
        Ok(Server { child, lines, address: address.parse()?, ready })
    }

    /// Waits until all hosts have registered.
    ///
    /// # Errors
    /// When they do not in time.
    pub(super) async fn registered(&mut self) -> Result<()> {
        line(&mut self.lines, REGISTERED).await.map(drop)
    }

    /// Kills it, as `kill -9` does.
    ///
    /// # Errors
    /// When it is gone already.
    pub(super) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("the server could not be killed")
    }

    /// Seconds of CPU that it has used so far, in user and kernel.
    ///
    /// # Errors
    /// Where there is no `/proc` as Linux has it.
    pub(super) fn cpu_s(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name may hold anything; what follows its parenthesis are numbers, the first of them
        // the third field. 14 and 15 are the ticks in user and kernel.
        let numbers = stat.rsplit_once(')').context("a line of /proc/PID/stat")?.1;
        let field = |number: usize| numbers.split_whitespace().nth(number - 3)?.parse::<f64>().ok();
        let ticks = field(14).zip(field(15)).context("the ticks of /proc/PID/stat")?;
        Ok((ticks.0 + ticks.1) / TICKS_PER_S)
    }

    /// The most memory that it has had so far, in MiB: `VmHWM`, with the program's own pages.
    ///
    /// # Errors
    /// Where there is no `/proc` as Linux has it.
    pub(super) fn peak_mib(&self) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
        Ok(kib.context("VmHWM of /proc/PID/status")? / KIB_PER_MIB)
    }

    fn proc(&self, file: &str) -> Result<String> {
        let pid = self.child.id().context("the server has ended")?;
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))
    }
}

/// What follows `beginning` on the first line that begins so.
async fn line(lines: &mut Lines<BufReader<ChildStdout>>, beginning: &str) -> Result<String> {
    let found = async {
        while let Some(line) = lines.next_line().await? {
            if let Some(rest) = line.strip_prefix(beginning) {
                return Ok(rest.to_owned());
            }
        }
        anyhow::bail!("the server ended before it said `{beginning}`")
    };
    timeout(PATIENCE, found).await.with_context(|| format!("no `{beginning}` in time"))?
}
