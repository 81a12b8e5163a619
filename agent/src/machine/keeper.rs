//! The keeper of one instance: a small process between the agent and the instance's program, so that
//! the program lives on when the agent dies, and how it ended is written down although nobody asks.
//!
//! It leads a session of its own, holds the instance's name on this machine for as long as it lives,
//! passes the program's output to a bounded log, and ends when the program has ended and nothing that
//! it has started is left.

use super::cgroup;
use super::run::{Exit, Plan, Run, RunDir, boot};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, setsid,
};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};

/// What the keeper says to the agent when the program runs.
pub(crate) const STARTED: &str = "started";
/// The longest log of an instance's output, in bytes; the one before it is kept too.
const LOG_BYTES_MAX: u64 = 1024 * 1024;
/// How long a virtual machine's monitor may take to answer.
const MONITOR_PATIENCE: Duration = Duration::from_secs(2);
/// How long after its program a keeper may be told to stop for both to be one stop.
const TOLD_TOO: Duration = Duration::from_millis(50);
/// How often what is left of a program is looked for after it was killed.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs the program that is planned in an instance's directory, and returns when nothing of it is left.
///
/// # Errors
/// When it cannot be run. The agent is told on standard output, in one line.
pub fn run_instance(dir: &Path) -> Result<(), String> {
    let dir = RunDir::at(dir);
    // Refused only to who leads a group already: then nothing has to be left.
    let _ = setsid();
    let name = dir.take_name().map_err(told)?;
    let plan: Plan = dir.read("plan.json").map_err(told)?.ok_or_else(|| told("no plan"))?;
    let me = getpid();
    let boot = boot().map_err(told)?;
    let run = Run { generation: plan.generation, pid: me.as_raw_nonzero().get(), boot };
    dir.write("run.json", &run).map_err(told)?;
    if let Some(namespace) = &plan.netns {
        enter_network(namespace).map_err(told)?;
    }
    set_child_subreaper(Some(me)).map_err(told)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let exit = runtime.map_err(told)?.block_on(keep(&dir, &plan, name)).map_err(told)?;
    dir.write("exit.json", &exit).map_err(|error| error.to_string())
}

/// Tells the agent why nothing runs.
fn told(why: impl ToString) -> String {
    let why = why.to_string();
    let _ = writeln!(io::stdout(), "{}", why.replace('\n', " "));
    why
}

async fn keep(dir: &RunDir, plan: &Plan, name: UnixListener) -> io::Result<Exit> {
    name.set_nonblocking(true)?;
    let name = tokio::net::UnixListener::from_std(name)?;
    // Listened to from before the program runs, so that no end of it is missed.
    let mut ended = signal(SignalKind::child())?;
    let mut told_to_stop = signal(SignalKind::terminate())?;
    let (program, log) = start(dir, plan)?;
    // Nobody reads it when the agent has died meanwhile.
    let _ = writeln!(io::stdout(), "{STARTED}");
    let mut kill_at = None;
    let status = loop {
        if let Some(status) = reap(Some(program))? {
            break status;
        }
        let patience = kill_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
        tokio::select! {
            _ = ended.recv() => {}
            // Whoever asks who lives here has learned it by being connected.
            _ = name.accept() => {}
            _ = told_to_stop.recv(), if kill_at.is_none() => {
                let monitor = plan.monitor.as_ref().map(|monitor| dir.path("").join(monitor));
                if monitor.is_none_or(|monitor| press_power_button(&monitor).is_err()) {
                    let _ = kill_process_group(program, Signal::TERM);
                }
                kill_at = Some(Instant::now() + Duration::from_millis(plan.grace_ms));
            }
            () = sleep_until(patience) => {
                if kill_at.is_some() {
                    let _ = kill_process_group(program, Signal::KILL);
                    kill_at = Some(Instant::now() + Duration::from_secs(1));
                }
            }
        }
    };
    // What it has started and left behind ends with it.
    if let Some(group) = &plan.cgroup {
        cgroup::kill(group);
    }
    while kill_children()? {
        tokio::time::sleep(LOOK_AGAIN).await;
        while reap(None)?.is_some() {}
    }
    let _ = log.join();
    // Where a machine shuts down, program and keeper are told at the same time.
    let was_told_to = kill_at.is_some() || timeout(TOLD_TOO, told_to_stop.recv()).await.is_ok();
    Ok(Exit {
        generation: plan.generation,
        code: status.code(),
        signal: status.signal(),
        was_told_to,
    })
}

/// Moves this process, which has one thread, into a network namespace.
fn enter_network(namespace: &Path) -> io::Result<()> {
    let because = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", namespace.display()))
    };
    let namespace_file = File::open(namespace).map_err(because)?;
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace_file.as_fd(), kind)
        .map_err(|error| because(error.into()))
}

/// Has a virtual machine shut down ("QEMU Machine Protocol Specification" and `system_powerdown`, QEMU
/// documentation).
fn press_power_button(monitor: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(monitor)?;
    stream.set_read_timeout(Some(MONITOR_PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut heard = |word: &str| {
        let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
        while !lines.next().ok_or_else(gone)??.contains(word) {}
        io::Result::Ok(())
    };
    heard("\"QMP\"")?;
    for command in ["qmp_capabilities", "system_powerdown"] {
        writeln!(stream, "{{\"execute\": \"{command}\"}}")?;
        heard("\"return\"")?;
    }
    Ok(())
}

/// Starts the program, with a thread that passes on its output.
fn start(dir: &RunDir, plan: &Plan) -> io::Result<(Pid, std::thread::JoinHandle<()>)> {
    let (reader, writer) = io::pipe()?;
    let name = plan.program.first().map_or("", String::as_str);
    let mut command = Command::new(name);
    command
        .args(plan.program.iter().skip(1))
        .env_clear()
        .envs(&plan.env)
        .current_dir(&plan.work_dir)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    // All that can fail comes before the program runs.
    let log = Log::open(dir.path("console.log"))?;
    let log = std::thread::Builder::new().spawn(move || log.copy(reader))?;
    let inside = plan.cgroup.as_deref().map(cgroup::enter).transpose()?;
    let child = command.spawn();
    drop(inside);
    let because = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let child = child.map_err(because)?;
    // The command holds ends of the pipe, which has to close when the program ends.
    drop(command);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok((pid.expect("a child has a process id"), log))
}

/// Takes note of children that have ended: of the program its status, of all others nothing.
fn reap(program: Option<Pid>) -> io::Result<Option<ExitStatus>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if program.is_none_or(|program| program == pid) => {
                return Ok(Some(ExitStatus::from_raw(status.as_raw())));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(rustix::io::Errno::CHILD) if program.is_none() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills the children that there are, those that lost their parent among them; whether there were any.
fn kill_children() -> io::Result<bool> {
    let me = getpid();
    let mut any = false;
    for pid in super::run::processes(|process| process.parent == me.as_raw_nonzero().get())? {
        any = true;
        let _ = kill_process(pid, Signal::KILL);
    }
    Ok(any)
}

/// A log that forgets its oldest half.
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    fn open(path: PathBuf) -> io::Result<Log> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Log { path, file, bytes })
    }

    /// Copies until everybody has closed the other end. A full disk loses output, never the program.
    fn copy(mut self, mut from: impl Read) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if self.bytes > LOG_BYTES_MAX {
                let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
                match Log::open(self.path.clone()) {
                    Ok(fresh) => self = fresh,
                    Err(_) => self.bytes = 0,
                }
            }
            let _ = self.file.write_all(&buffer[..count]);
            self.bytes += count as u64;
        }
    }
}
