//! What an instance runs, as a virtual machine of its host.

use super::World;
use crate::metadata::{InstanceFacts, LaunchBody};
use eventplane_domain::Volume;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs of QEMU that are needed.
pub(crate) const PROGRAMS: [&str; 2] = ["qemu-system-x86_64", "qemu-img"];
/// The socket of its monitor, in the instance's directory, which it runs in.
pub(crate) const MONITOR: &str = "monitor";

/// Looks for the programs of QEMU.
///
/// # Errors
/// Which is missing, and in which package it is.
pub(crate) fn check() -> Result<(), String> {
    for (program, package) in PROGRAMS.into_iter().zip(["qemu-system-x86", "qemu-utils"]) {
        Command::new(program).arg("--version").output().map_err(|error| {
            format!(
                "the driver qemu needs `{program}` ({error}): install the package `{package}`, as \
                 Debian names it"
            )
        })?;
    }
    Ok(())
}

/// The disk that the root volume of an instance begins as.
///
/// # Errors
/// When its image has none on this host.
pub(crate) fn base(world: &World, launch: &LaunchBody) -> Result<PathBuf, String> {
    let image = &launch.spec.image_id;
    let disk = world.config.image(image).and_then(|image| image.disk.clone());
    disk.ok_or_else(|| {
        format!("the image {image} has no disk on this host: name one in host.toml, `[images.\"{image}\"]`")
    })
}

/// Makes a volume as a disk: the root volume begins as its image, every other empty.
pub(crate) fn make_disk(
    volume: &Volume,
    path: &Path,
    volumes: &[Volume],
    base: &Path,
) -> Result<(), String> {
    let is_root = volumes.first().is_some_and(|root| root.volume_id == volume.volume_id);
    let unfinished = path.with_extension("new");
    let mut command = Command::new(PROGRAMS[1]);
    command.args(["create", "-q", "-f", "qcow2"]);
    if is_root {
        let form =
            if base.extension().is_some_and(|form| form == "qcow2") { "qcow2" } else { "raw" };
        command.arg("-b").arg(base).args(["-F", form]);
    }
    command.arg(&unfinished).arg(format!("{}G", volume.spec.size_gib));
    let output = command.output().map_err(|error| format!("{}: {error}", PROGRAMS[1]))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let synced = std::fs::File::open(&unfinished).and_then(|disk| disk.sync_all());
    synced
        .and_then(|()| std::fs::rename(&unfinished, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The command of a virtual machine ("QEMU System Emulation", QEMU documentation). Its network is
/// QEMU's own: the guest gets its leased address by DHCP and reaches out through its host. Where it can
/// ask for its metadata, at the subnet's router, the firmware tells it, as a credential that systemd
/// hands on ("System and Service Credentials", systemd documentation: SMBIOS vendor strings).
pub(crate) fn program(
    facts: &InstanceFacts,
    disks: &[PathBuf],
    metadata: SocketAddr,
) -> Vec<String> {
    let spec = &facts.launch.spec;
    let network = &facts.launch.network;
    let mut command: Vec<String> = [
        PROGRAMS[0],
        "-nodefaults",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-machine",
        "q35,accel=kvm:tcg",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut option = |name: &str, value: String| command.extend([name.to_owned(), value]);
    option("-qmp", format!("unix:{MONITOR},server=on,wait=off"));
    option("-name", facts.key.instance_id.to_string());
    option("-smp", spec.vcpus.to_string());
    option("-m", format!("{}M", spec.memory_mib));
    option(
        "-netdev",
        format!(
            "user,id=eth0,net={},host={},dhcpstart={}",
            network.cidr, network.gateway, network.private_ip
        ),
    );
    option("-device", format!("virtio-net-pci,netdev=eth0,mac={}", network.mac));
    let endpoint = format!("http://{}:{}/", network.gateway, metadata.port());
    let credential = format!("io.systemd.credential:eventplane.metadata={endpoint}");
    option("-smbios", format!("type=11,value={credential}"));
    for disk in disks {
        // Commas in a path are doubled ("QEMU System Emulation", `-drive`).
        let path = disk.to_string_lossy().replace(',', ",,");
        option("-drive", format!("file={path},if=virtio,format=qcow2"));
    }
    command
}
