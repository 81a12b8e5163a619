//! What the operator of a host says of it: the file `host.toml`.
//!
//! Every field has a default but the zone and the images. What is not understood is refused with its
//! line: a misspelt limit must not become the default in silence.

mod image;
mod read;

pub use image::Image;

use crate::wire::Gpus;
use eventplane_domain::HostId;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where Linux keeps the machine's host name (`proc_sys_kernel(5)`).
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// A host, as its operator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Its id; the machine's host name without one.
    pub host_id: HostId,
    /// Its zone.
    pub zone: String,
    /// Its rack: what has a power supply and a switch in common.
    pub rack: String,
    /// How it runs instances.
    pub driver: DriverKind,
    /// Where it keeps what it has to remember.
    pub data_dir: PathBuf,
    /// Where it keeps volumes. Hosts of a zone that share it let volumes follow their instance.
    pub volumes_dir: PathBuf,
    /// How often it reports everything that it sees, in seconds.
    pub heartbeat_s: u64,
    /// How long an answer may be waited for when nothing is new, in seconds.
    pub poll_wait_s: u64,
    /// What it has, where that is not to be measured.
    pub capacity: Capacity,
    /// What happens when an instance's program ends.
    pub restart: Restart,
    /// What instances run, by the id of their image; `default` for every other.
    pub images: BTreeMap<String, Image>,
}

/// How a host runs instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Each is a process of the host.
    Process,
    /// Each is a process in a network namespace of its own, with its address and its firewall.
    Netns,
    /// Each is a virtual machine.
    Qemu,
}

impl DriverKind {
    /// Its name in `host.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DriverKind::Process => "process",
            DriverKind::Netns => "netns",
            DriverKind::Qemu => "qemu",
        }
    }
}

/// What a host has, where its operator says so, and what of it is not for instances.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capacity {
    /// Virtual CPUs, instead of those that are measured.
    pub vcpus: Option<u32>,
    /// Memory in MiB, instead of what is measured.
    pub memory_mib: Option<u32>,
    /// Network bandwidth in Mbps, instead of what is measured.
    pub network_mbps: Option<u32>,
    /// GPUs, instead of those that are found; a count of 0 for none.
    pub gpus: Option<Gpus>,
    /// Virtual CPUs that are kept for the host itself.
    pub reserved_vcpus: u32,
    /// Memory in MiB that is kept for the host itself.
    pub reserved_memory_mib: u32,
}

/// What happens when an instance's program ends by itself.
///
/// The wait before a restart doubles with every crash from `first_ms` to `longest_ms`, and begins
/// anew once the program has run for `calm_ms`. The longest wait and the calm are kubelet's ("Pod
/// Lifecycle", Kubernetes documentation: capped at 300 seconds, reset after 10 minutes without
/// problems). The first wait is a second instead of kubelet's ten, as the Kubernetes enhancement
/// proposal 4603, "Tune `CrashLoopBackOff`", has it: most crashes are gone with the first restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Which ends are followed by a restart.
    pub policy: RestartPolicy,
    /// The wait before the first restart, in milliseconds.
    pub first_ms: u64,
    /// The longest wait before a restart, in milliseconds.
    pub longest_ms: u64,
    /// How long a program has to run, in milliseconds, for its crashes to be forgotten.
    pub calm_ms: u64,
    /// How long a program that is told to stop may take, in milliseconds, before it is killed.
    pub stop_grace_ms: u64,
}

impl Default for Restart {
    fn default() -> Self {
        Restart {
            policy: RestartPolicy::OnFailure,
            first_ms: 1_000,
            longest_ms: 300_000,
            calm_ms: 600_000,
            stop_grace_ms: 10_000,
        }
    }
}

/// Which ends of a program are followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Those with an error: an exit code other than 0, or a signal.
    OnFailure,
    /// All.
    Always,
    /// None.
    Never,
}

/// `host.toml` cannot be used: says which line, which field, and what would be right.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file, or the machine's host name, cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// Something in it is wrong.
    #[error("{path}, line {line}: {wrong}", path = path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        wrong: String,
    },
    /// Something is missing.
    #[error("{0}: {1}")]
    Missing(PathBuf, String),
}

impl HostConfig {
    /// Reads `host.toml` at `path`. Relative paths in it are taken from its folder.
    ///
    /// # Errors
    /// [`ConfigError`] when it cannot be read or is not right.
    pub fn open(path: &Path) -> Result<HostConfig, ConfigError> {
        let unreadable = |path: &Path, error| ConfigError::Unreadable(path.to_owned(), error);
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
        // A program begins in a folder of its own, so no path may hang on the agent's.
        let path = &std::path::absolute(path).map_err(|error| unreadable(path, error))?;
        let host_name = std::fs::read_to_string(HOST_NAME)
            .map_err(|error| unreadable(Path::new(HOST_NAME), error))?;
        read::config(&text, path, host_name.trim())
    }

    /// What an instance of this image runs; `None` when neither the image nor `default` is named.
    #[must_use]
    pub fn image(&self, image_id: &str) -> Option<&Image> {
        self.images.get(image_id).or_else(|| self.images.get(image::DEFAULT))
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
