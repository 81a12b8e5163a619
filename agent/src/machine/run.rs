//! One instance's directory: what is written there by whom, and whether anything of it runs.
//!
//! | file | written by | says |
//! |---|---|---|
//! | `order.json` | agent | what the instance is made of, as the wanted set had it |
//! | `facts.json` | agent | what its metadata service tells, secrets included |
//! | `plan.json` | agent | what its keeper is to run |
//! | `run.json` | keeper | which process the keeper is |
//! | `exit.json` | keeper | how the program ended |
//! | `ended.json` | agent | why it is not started again |
//! | `console.log` | keeper | the program's output |

use crate::disk::{Disk, RealDisk, replace};
use rustix::process::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// What a keeper says whose instance has one already.
pub(crate) const KEPT_BY_ANOTHER: &str = "it is kept by another process";

/// What a keeper is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Which run of the instance this is.
    pub(crate) generation: u32,
    /// The program and its arguments.
    pub(crate) program: Vec<String>,
    /// All of its environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Where it runs.
    pub(crate) work_dir: PathBuf,
    /// How long it may take to stop, in milliseconds, before it is killed.
    pub(crate) grace_ms: u64,
    /// The socket of a virtual machine's monitor, below the instance's directory: by it the machine is
    /// asked to shut down, as by its power button. Any other program is sent a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) monitor: Option<PathBuf>,
    /// The network namespace that it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) netns: Option<PathBuf>,
    /// The control group that limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Where its metadata service listens.
    pub(crate) metadata: std::net::SocketAddr,
    /// How often in a row it has crashed before.
    pub(crate) crashes: u32,
    /// When this plan was made, in milliseconds since the epoch.
    pub(crate) planned_at: i64,
}

/// Which process keeps an instance; true while the instance's name is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Which run of the instance it keeps.
    pub(crate) generation: u32,
    /// Its process id, which is its session's too.
    pub(crate) pid: i32,
    /// The machine's start in which that process is: ids begin anew with the next.
    pub(crate) boot: String,
}

/// Which start of the machine this is ("random", Linux manual page).
///
/// # Errors
/// When the machine does not say.
pub(crate) fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// How an instance's program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// Which run of the instance this was.
    pub(crate) generation: u32,
    /// With which code, if it ended by itself.
    pub(crate) code: Option<i32>,
    /// By which signal, if one ended it.
    pub(crate) signal: Option<i32>,
    /// Whether its keeper was told to stop it.
    pub(crate) was_told_to: bool,
}

/// The directory of one instance.
#[derive(Debug, Clone)]
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    pub(crate) fn at(dir: &Path) -> Self {
        RunDir(dir.to_owned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// One of its files.
    ///
    /// # Errors
    /// When it cannot be read, or is something else: it is named.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let path = self.path(name);
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let Some(bytes) = RealDisk.read(&path).map_err(named)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| named(error.into()))
    }

    /// Replaces one of its files, durably.
    ///
    /// # Errors
    /// When it cannot be written: it is named.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let path = self.path(name);
        let json = serde_json::to_vec_pretty(value).expect("plain data");
        replace(&RealDisk, &path, &json)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The name that an instance's keeper listens at, by which every agent of this machine knows that
    /// it lives, and which process it is: an address without a file, which goes with its process
    /// ("unix", Linux manual page: abstract sockets, of which each network namespace has its own).
    fn name(&self) -> io::Result<SocketAddr> {
        let mut parts = self.0.components().rev().map(|part| part.as_os_str().to_string_lossy());
        let (instance, tenant) = (parts.next(), parts.next());
        let name =
            format!("eventplane/{}/{}", tenant.unwrap_or_default(), instance.unwrap_or_default());
        SocketAddr::from_abstract_name(name)
    }

    /// Takes the instance's name, whichever folder it is kept in: of one instance there is one keeper
    /// on a machine. Whoever connects is to be accepted, or the queue fills.
    ///
    /// # Errors
    /// When another keeper has it.
    pub(crate) fn take_name(&self) -> io::Result<UnixListener> {
        UnixListener::bind_addr(&self.name()?).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => io::Error::new(error.kind(), KEPT_BY_ANOTHER),
            _ => error,
        })
    }

    /// The keeper that lives: the process that listens at the instance's name (`SO_PEERCRED`).
    ///
    /// # Errors
    /// When that cannot be seen.
    pub(crate) fn keeper(&self) -> io::Result<Option<Pid>> {
        match UnixStream::connect_addr(&self.name()?) {
            Ok(stream) => Ok(Some(rustix::net::sockopt::socket_peercred(&stream)?.pid)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether something of it may run: a keeper lives, or has not said that nothing is left.
    pub(crate) fn may_run(&self) -> bool {
        self.path("run.json").exists() || self.keeper().map_or(true, |keeper| keeper.is_some())
    }

    /// The newest bytes of its output, at most so many, as text.
    pub(crate) fn console(&self, bytes_max: usize) -> String {
        let before = std::fs::read(self.path("console.log.1")).unwrap_or_default();
        let newest = std::fs::read(self.path("console.log")).unwrap_or_default();
        let missing = bytes_max.saturating_sub(newest.len());
        let mut bytes = before[before.len().saturating_sub(missing)..].to_vec();
        bytes.extend_from_slice(&newest[newest.len().saturating_sub(bytes_max)..]);
        // What is no text grows when it is made one; and no character is begun in its middle.
        let text = String::from_utf8_lossy(&bytes);
        let begin = text.ceil_char_boundary(text.len().saturating_sub(bytes_max));
        text[begin..].trim_start_matches('\u{fffd}').to_owned()
    }
}

/// What is looked at of a process ("proc_pid_stat", Linux manual page).
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    is_zombie: bool,
}

/// The processes that are such, except those that have ended and are not yet taken note of.
///
/// # Errors
/// When the machine does not show its processes.
pub(crate) fn processes(is_such: impl Fn(&Process) -> bool) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        // It may have ended since it was listed.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
        else {
            continue;
        };
        if read_stat(pid, &stat).is_some_and(|process| !process.is_zombie && is_such(&process)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Whether a process has this in its environment, as its keeper gave it to what it started.
pub(crate) fn has_in_environment(pid: Pid, name: &str, value: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
    let wanted = format!("{name}={value}");
    environment.is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes()))
}

/// Its second field, the name in parentheses, may hold anything.
fn read_stat(pid: Pid, stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let [state, parent, _group, session, ..] = fields[..] else { return None };
    Some(Process {
        pid,
        parent: parent.parse().ok()?,
        session: session.parse().ok()?,
        is_zombie: state == "Z",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let me = rustix::process::getpid();
        let process = read_stat(me, "4242 (a) b (c)) S 17 4242 99 0 -1").expect("a process");
        assert_eq!((process.parent, process.session, process.is_zombie), (17, 99, false));
        assert!(read_stat(me, "4242 (a)) Z 1 1 1 0").expect("a process").is_zombie);
        assert!(read_stat(me, "").is_none());
    }

    #[test]
    fn the_console_is_the_newest_output_and_begins_with_a_whole_character() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = RunDir::at(folder.path());
        assert_eq!(dir.console(10), "");
        std::fs::write(dir.path("console.log.1"), "old old old ").expect("written");
        std::fs::write(dir.path("console.log"), "new").expect("written");
        assert_eq!(dir.console(8), " old new");
        std::fs::write(dir.path("console.log"), "a€bc").expect("written");
        assert_eq!(dir.console(4), "bc");
        assert_eq!(dir.console(5), "€bc");
    }

    #[test]
    fn an_instance_has_one_keeper_whichever_folder_it_is_kept_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = folder.path().file_name().expect("it has a name");
        let dir = RunDir::at(&folder.path().join("default").join(name));
        let copy = RunDir::at(&folder.path().join("copy/default").join(name));
        assert_eq!(dir.keeper().expect("seen"), None);
        let held = dir.take_name().expect("free");
        let me = Some(rustix::process::getpid());
        assert_eq!((dir.keeper().expect("seen"), copy.keeper().expect("seen")), (me, me));
        assert_eq!(copy.take_name().expect_err("held").to_string(), KEPT_BY_ANOTHER);
        drop(held);
        assert_eq!(dir.keeper().expect("seen"), None);
    }
}
