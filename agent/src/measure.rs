//! What a host has: read from the files in which Linux says it.
//!
//! What `host.toml` gives is not measured. What can be neither measured nor guessed is an error
//! that says what to write there.

use crate::config::{Capacity, HostConfig};
use crate::wire::{Gpus, Registration};
use std::collections::BTreeMap;
use std::path::Path;
use thiserror::Error;

/// The processors that are in use: `0-3,6` (Linux documentation, "CPU hotplug in the Kernel").
const CPUS_ONLINE: &str = "sys/devices/system/cpu/online";
/// `proc_meminfo(5)`.
const MEMORY: &str = "proc/meminfo";
/// The routes, addresses in hexadecimal (`proc_pid_net(5)`).
const ROUTES: &str = "proc/net/route";
/// Per interface, its speed in Mbps (Linux documentation, ABI `sysfs-class-net`).
const INTERFACES: &str = "sys/class/net";
/// Per GPU a folder, in it what the driver knows of it (NVIDIA driver README, "The /proc
/// Interface").
const NVIDIA_GPUS: &str = "proc/driver/nvidia/gpus";
/// The bandwidth, in Mbps, of a host whose interface does not say: that of the usual one.
const NETWORK_MBPS: u32 = 1_000;

/// What a host says of itself, and what an operator should know of how that came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// What it says.
    pub registration: Registration,
    /// What was guessed or left out, with what to write into `host.toml` where that is wrong.
    pub notes: Vec<String>,
}

/// What a host has cannot be said: says all that is missing, and what to write into `host.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this host cannot be measured: {}", .0.join("; "))]
pub struct MeasureError(Vec<String>);

/// Measures the host whose files lie under `root` (`/`), as far as `config` does not say it.
///
/// # Errors
/// [`MeasureError`] when its processors or its memory cannot be read, or nothing of them is left
/// for instances.
pub fn measure(root: &Path, config: &HostConfig) -> Result<Measured, MeasureError> {
    let Capacity { vcpus, memory_mib, network_mbps, gpus, reserved_vcpus, reserved_memory_mib } =
        &config.capacity;
    let mut missing = Vec::new();
    let mut notes = Vec::new();
    let mut measured = |what,
                        given: &Option<u32>,
                        found: &dyn Fn() -> Result<u32, String>,
                        kept| match given.map_or_else(found, Ok) {
        Ok(all) if all > kept => all - kept,
        Ok(all) => {
            let right = format!("write a smaller `reserved_{what}` below `[capacity]`");
            missing.push(format!("{kept} of its {all} `{what}` are reserved: {right}"));
            0
        }
        Err(why) => {
            let right = format!("write `{what} = …` below `[capacity]`");
            missing.push(format!("no `{what}`, for {why}: {right}"));
            0
        }
    };
    let vcpus = measured("vcpus", vcpus, &|| online(root), *reserved_vcpus);
    let memory_mib = measured("memory_mib", memory_mib, &|| memory(root), *reserved_memory_mib);
    let network_mbps = network_mbps.unwrap_or_else(|| {
        speed(root).unwrap_or_else(|why| {
            notes.push(format!(
                "the network's speed is taken to be {NETWORK_MBPS} Mbps, for {why}: write \
                 `network_mbps = …` below `[capacity]` if it is another"
            ));
            NETWORK_MBPS
        })
    });
    let gpus = match gpus {
        Some(gpus) => Some(gpus.clone()).filter(|gpus| gpus.count > 0),
        None => nvidia(root, &mut notes),
    };
    if !missing.is_empty() {
        return Err(MeasureError(missing));
    }
    let registration = Registration {
        host_id: config.host_id.to_string(),
        zone: config.zone.clone(),
        rack: config.rack.clone(),
        vcpus,
        memory_mib,
        network_mbps,
        gpus,
    };
    Ok(Measured { registration, notes })
}

fn read(root: &Path, name: &str) -> Result<String, String> {
    std::fs::read_to_string(root.join(name)).map_err(|error| format!("/{name}: {error}"))
}

fn unclear(name: &str, text: &str) -> String {
    format!("/{name} says `{}`", text.trim().chars().take(80).collect::<String>())
}

/// How many processors are in use.
fn online(root: &Path) -> Result<u32, String> {
    let text = read(root, CPUS_ONLINE)?;
    count(text.trim()).ok_or_else(|| unclear(CPUS_ONLINE, &text))
}

/// How many numbers a list such as `0-3,6` has.
fn count(list: &str) -> Option<u32> {
    let mut sum: u32 = 0;
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
        sum = sum.checked_add(to.checked_sub(from)?.checked_add(1)?)?;
    }
    Some(sum)
}

/// How much memory there is, in MiB.
fn memory(root: &Path) -> Result<u32, String> {
    let text = read(root, MEMORY)?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let mib = kib.and_then(|kib| u32::try_from(kib / 1024).ok()).filter(|mib| *mib > 0);
    mib.ok_or_else(|| unclear(MEMORY, &text))
}

/// The speed of the interface that leads out, in Mbps.
fn speed(root: &Path) -> Result<u32, String> {
    let routes = read(root, ROUTES)?;
    let interface = default_interface(&routes)
        .ok_or_else(|| format!("/{ROUTES} has no default route, so no interface leads out"))?;
    let name = format!("{INTERFACES}/{interface}/speed");
    let text = read(root, &name)?;
    // An interface that does not know says -1, or nothing at all.
    text.trim().parse().ok().filter(|mbps| *mbps > 0).ok_or_else(|| unclear(&name, &text))
}

/// The interface of the default route; of several, of the one that is preferred.
fn default_interface<'r>(routes: &'r str) -> Option<&'r str> {
    let default = |line: &'r str| -> Option<(u32, &'r str)> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, "00000000", _, _, _, _, metric, "00000000", ..] = fields[..] else {
            return None;
        };
        Some((metric.parse().ok()?, interface))
    };
    let (_, interface) = routes.lines().filter_map(default).min_by_key(|(metric, _)| *metric)?;
    Some(interface)
}

/// The GPUs that NVIDIA's driver knows. Of several models the most common is offered: a host has
/// GPUs of one.
fn nvidia(root: &Path, notes: &mut Vec<String>) -> Option<Gpus> {
    let mut models: BTreeMap<String, u32> = BTreeMap::new();
    for entry in std::fs::read_dir(root.join(NVIDIA_GPUS)).ok()?.flatten() {
        let name = format!("{NVIDIA_GPUS}/{}/information", entry.file_name().to_string_lossy());
        let found = read(root, &name).and_then(|text| gpu(&text).ok_or(unclear(&name, &text)));
        match found {
            Ok(Some(model)) => *models.entry(model).or_default() += 1,
            // Its operator has told the driver to leave it alone.
            Ok(None) => {}
            Err(why) => notes.push(format!(
                "a GPU is left out, for {why}: write `gpus = {{ model = \"…\", count = … }}` below \
                 `[capacity]` to offer it"
            )),
        }
    }
    let most = models.iter().max_by_key(|(_, count)| **count).map(|(model, _)| model.clone())?;
    let count = models.remove(&most)?;
    for (other, count) in models {
        notes.push(format!(
            "{count} GPUs of the model {other} are left out, for a host offers one model: write \
             `gpus = {{ model = \"{other}\", count = {count} }}` below `[capacity]` to offer them \
             instead of the {most}"
        ));
    }
    Some(Gpus { model: most, count })
}

/// The model of a GPU from what the driver says of it; nothing inside if it is excluded from use.
fn gpu(information: &str) -> Option<Option<String>> {
    let field = |name: &str| {
        let lines = information.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name)
    };
    if field("GPU Excluded").is_some_and(|(_, value)| value == "Yes") {
        return Some(None);
    }
    field("Model").and_then(|(_, name)| model(name)).map(Some)
}

/// The model as the catalogue of instance types names it, which is how EC2 does ("GpuDeviceInfo",
/// EC2 API reference): without makers, brands, forms and sizes, `NVIDIA A100-SXM4-40GB` is an
/// `A100`.
fn model(name: &str) -> Option<String> {
    let is_brand = |word: &&str| ["NVIDIA", "Tesla", "GeForce", "Quadro"].contains(word);
    let is_form = |word: &str| {
        let is_size = word.strip_suffix("GB").is_some_and(|size| size.parse::<u32>().is_ok());
        is_size || word.starts_with("SXM") || ["PCIe", "PCIE", "NVL"].contains(&word)
    };
    let words: Vec<&str> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .skip_while(is_brand)
        .take_while(|word| !is_form(word))
        .collect();
    (!words.is_empty()).then(|| words.join("-"))
}

#[cfg(test)]
#[path = "measure_tests.rs"]
mod tests;
