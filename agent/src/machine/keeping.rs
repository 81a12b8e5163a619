//! The agent's hold of an instance's keeper: a child of its own, or one that an agent before it has
//! left.

use super::cgroup;
use super::keeper::STARTED;
use super::program::INSTANCE_ID;
use super::run::{Plan, Process, Run, RunDir, boot, has_in_environment, processes};
use eventplane_domain::InstanceId;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// How long a keeper may take to say that its program runs, or that it cannot.
const SAYS: Duration = Duration::from_secs(20);
/// How long past its own patience a keeper may take to end.
const PAST_GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether what was killed is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A keeper that lives, or has just ended.
pub(crate) struct Kept {
    process: AsyncFd<OwnedFd>,
}

impl Kept {
    #[allow(
        deprecated,
        reason = "of the two, the one for who keeps the descriptor open: it is owned"
    )]
    fn of(process: OwnedFd) -> io::Result<Kept> {
        Ok(Kept { process: AsyncFd::new(process)? })
    }

    /// Starts a keeper by this command, to which the directory is added, and waits until its program
    /// runs. None may live there.
    ///
    /// # Errors
    /// Why nothing runs, in one line. What was begun may have to be swept.
    pub(crate) async fn start(command: &[String], dir: &RunDir) -> Result<Kept, String> {
        dir.remove("run.json").and_then(|()| dir.remove("exit.json")).map_err(text)?;
        let [name, arguments @ ..] = command else { return Err("no keeper".to_owned()) };
        let child = Command::new(name)
            .args(arguments)
            .arg(dir.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.map_err(|error| format!("{name}: {error}"))?;
        let said = child.stdout.take().expect("it was asked for");
        let mut line = String::new();
        let said = timeout(SAYS, BufReader::new(said).read_line(&mut line)).await;
        let why = match (said, line.trim_end()) {
            (Ok(Ok(_)), STARTED) => match Kept::find(dir).map_err(text)? {
                Some(kept) => return Ok(kept),
                // It has ended already: how, it has written down.
                None => return Kept::of_ended(&child).map_err(text),
            },
            (Ok(Ok(0)), _) => "its keeper ended without a word".to_owned(),
            (Ok(Ok(_)), why) => why.to_owned(),
            (Ok(Err(error)), _) => text(error),
            (Err(_), _) => format!("its keeper said nothing for {SAYS:?}"),
        };
        // What was not heard to run is not to run later.
        let _ = child.kill().await;
        Err(why)
    }

    /// The handle of a process that has ended and was not waited for: it says so at once.
    fn of_ended(child: &tokio::process::Child) -> io::Result<Kept> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let gone = || io::Error::new(io::ErrorKind::NotFound, "its keeper has ended");
        Kept::of(pidfd_open(pid.ok_or_else(gone)?, PidfdFlags::NONBLOCK)?)
    }

    /// The keeper of this directory's instance, if one lives.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub(crate) fn find(dir: &RunDir) -> io::Result<Option<Kept>> {
        while let Some(pid) = dir.keeper()? {
            let process = pidfd_open(pid, PidfdFlags::NONBLOCK);
            // If it is still the one that listens, the handle is its own, and not that of a process
            // that got its id after it.
            if dir.keeper()? == Some(pid) {
                return Ok(Some(Kept::of(process?)?));
            }
        }
        Ok(None)
    }

    /// Waits until the keeper has ended.
    pub(crate) async fn ended(&self) {
        // A process that has ended stays readable ("pidfd_open", Linux manual page). An error is no end.
        while self.process.readable().await.is_err() {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Has the keeper stop its program, and end; by force if it does not.
    pub(crate) async fn stop(&self, grace: Duration) {
        let _ = pidfd_send_signal(&self.process, Signal::TERM);
        if timeout(grace + PAST_GRACE, self.ended()).await.is_err() {
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
            self.ended().await;
        }
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// Kills what a keeper that ended by force has left, and waits until it is gone: what is in the
/// instance's group where there is one, and what is in the keeper's session and knows the instance as
/// its own.
///
/// # Errors
/// When the machine does not show its processes.
pub(crate) async fn sweep(dir: &RunDir, instance: &InstanceId) -> io::Result<()> {
    let plan: Option<Plan> = dir.read("plan.json")?;
    let group = plan.and_then(|plan| plan.cgroup);
    let run: Option<Run> = dir.read("run.json")?;
    let run = run.filter(|run| boot().is_ok_and(|boot| boot == run.boot));
    loop {
        let is_left = |process: &Process| {
            run.as_ref().is_some_and(|run| run.pid == process.session)
                && has_in_environment(process.pid, INSTANCE_ID, instance.as_str())
        };
        let left = if run.is_some() { processes(is_left)? } else { Vec::new() };
        for pid in &left {
            let _ = kill_process(*pid, Signal::KILL);
        }
        if let Some(group) = &group {
            cgroup::kill(group);
        }
        if left.is_empty() && group.as_deref().is_none_or(cgroup::is_empty) {
            break;
        }
        sleep(LOOK_AGAIN).await;
    }
    if let Some(group) = &group {
        cgroup::remove(group);
    }
    dir.remove("run.json")
}
