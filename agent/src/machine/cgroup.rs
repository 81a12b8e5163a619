//! Limits of an instance by control groups, version 2, where the machine lets the agent make them.
//!
//! Source: "Control Group v2", Linux kernel documentation.

use std::io;
use std::path::{Path, PathBuf};

/// The controllers that limit an instance.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// The most processes of an instance.
const PIDS_MAX: u32 = 32_768;
/// The group of the keepers, which no instance's limits are for.
const KEEPERS: &str = "keepers";
/// The period over which processor time is limited, in microseconds: the kernel's default.
const PERIOD_US: u64 = 100_000;

/// The group of all instances of a host.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    root: PathBuf,
    /// The controllers that are there.
    pub(crate) controllers: Vec<&'static str>,
}

impl Cgroups {
    /// Makes the group of a host's instances.
    ///
    /// # Errors
    /// Why this machine has none: it is said, and instances run without limits.
    pub(crate) fn of_host(host: &str) -> Result<Cgroups, String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = mount_of(&mounts).ok_or("no cgroup2 file system is mounted")?;
        let root = mount.join(format!("eventplane-{host}"));
        // One that another user has made, as root did when it ran this host, is there and of no use.
        let probe = root.join("probe");
        std::fs::create_dir_all(root.join(KEEPERS))
            .and_then(|()| std::fs::create_dir_all(&probe))
            .and_then(|()| std::fs::remove_dir(&probe))
            .map_err(|error| format!("groups cannot be made in {}: {error}", root.display()))?;
        let is_there = |controller: &&str| {
            let enable = format!("+{controller}");
            // Where the group of all delegates it already, writing changes nothing.
            let _ = std::fs::write(mount.join("cgroup.subtree_control"), &enable);
            std::fs::write(root.join("cgroup.subtree_control"), &enable).is_ok()
        };
        let controllers = CONTROLLERS.into_iter().filter(|name| is_there(name)).collect();
        Ok(Cgroups { root, controllers })
    }

    /// Makes the group of one instance, with its limits.
    ///
    /// # Errors
    /// When it cannot be made, or a limit cannot be set.
    pub(crate) fn make(&self, name: &str, vcpus: u32, memory_mib: u32) -> io::Result<PathBuf> {
        let group = self.root.join(name);
        std::fs::create_dir_all(&group)?;
        let has = |controller| self.controllers.contains(&controller);
        if has("cpu") {
            let quota = u64::from(vcpus) * PERIOD_US;
            std::fs::write(group.join("cpu.max"), format!("{quota} {PERIOD_US}"))?;
        }
        if has("memory") {
            let bytes = u64::from(memory_mib) * 1024 * 1024;
            std::fs::write(group.join("memory.max"), bytes.to_string())?;
            // One that outgrows its memory ends as a whole: half a program helps nobody.
            std::fs::write(group.join("memory.oom.group"), "1")?;
        }
        if has("pids") {
            std::fs::write(group.join("pids.max"), PIDS_MAX.to_string())?;
        }
        Ok(group)
    }
}

/// Where the file system of control groups is mounted ("proc_pid_mountinfo", Linux manual page).
fn mount_of(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let mount = fields.split(' ').nth(4)?;
        kind.starts_with("cgroup2 ").then(|| PathBuf::from(mount))
    })
}

/// Moves the calling process into an instance's group, and, when the answer is dropped, into that of
/// the keepers: what it starts meanwhile begins in the instance's, and what kills that group leaves the
/// keeper to tell of it.
///
/// # Errors
/// When the group is not there, or takes no process.
pub(crate) fn enter(group: &Path) -> io::Result<impl Drop + use<>> {
    struct Inside(PathBuf);
    impl Drop for Inside {
        fn drop(&mut self) {
            let _ = std::fs::write(self.0.join("cgroup.procs"), "0");
        }
    }
    std::fs::write(group.join("cgroup.procs"), "0")?;
    Ok(Inside(group.with_file_name(KEEPERS)))
}

/// Kills all that is in an instance's group.
pub(crate) fn kill(group: &Path) {
    let _ = std::fs::write(group.join("cgroup.kill"), "1");
}

/// Whether nothing is in the group, or it is not there.
pub(crate) fn is_empty(group: &Path) -> bool {
    std::fs::read_to_string(group.join("cgroup.events"))
        .map_or(true, |events| events.lines().any(|line| line == "populated 0"))
}

/// Removes an instance's group, which is empty.
pub(crate) fn remove(group: &Path) {
    let _ = std::fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_version_is_found_also_beside_the_first() {
        let mounts = "30 24 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      31 30 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      32 30 0:27 / /sys/fs/cgroup/unified rw shared:1 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_of(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_of("31 30 0:26 / /x rw - cgroup cgroup rw,cpu\n"), None);
    }
}
