//! What an instance runs, as a process of its host.

use super::World;
use super::run::RunDir;
use crate::metadata::InstanceFacts;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where a program finds its instance's id; also what tells whose a process is.
pub(crate) const INSTANCE_ID: &str = "EVENTPLANE_INSTANCE_ID";
/// What is run where neither image nor user data say what: a machine that does nothing.
const IDLE: [&str; 2] = ["sleep", "infinity"];
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program of an instance: that of its image; without one its user data, if that is a script, as
/// EC2's images do ("Run commands when you launch an EC2 instance with user data input", EC2 user
/// guide: it begins with `#!`).
///
/// # Errors
/// When the script cannot be written.
pub(crate) fn program(
    world: &World,
    dir: &RunDir,
    facts: &InstanceFacts,
) -> io::Result<Vec<String>> {
    if let Some(image) = world.config.image(&facts.launch.spec.image_id) {
        return Ok(image.program.clone());
    }
    let Some(script) = facts.details.user_data.as_ref().filter(|data| data.starts_with("#!"))
    else {
        return Ok(IDLE.map(str::to_owned).to_vec());
    };
    let path = dir.path("user-data");
    // One that runs cannot be written over, but its name can be given to another.
    let fresh = dir.path("user-data.new");
    std::fs::write(&fresh, script)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o700))?;
    std::fs::rename(&fresh, &path)?;
    Ok(vec![path.to_string_lossy().into_owned()])
}

/// The environment of a program: who it is, and where it learns more. The variable of the metadata
/// service is the one that AWS's SDKs read ("IMDS credential provider", AWS SDKs and Tools reference
/// guide).
pub(crate) fn environment(
    facts: &InstanceFacts,
    generation: u32,
    home: &Path,
    metadata: SocketAddr,
) -> BTreeMap<String, String> {
    let launch = &facts.launch;
    let all = [
        (INSTANCE_ID, facts.key.instance_id.to_string()),
        ("EVENTPLANE_TENANT", facts.key.tenant.to_string()),
        ("EVENTPLANE_GENERATION", generation.to_string()),
        ("EVENTPLANE_HOST", launch.placement.host.to_string()),
        ("EVENTPLANE_ZONE", launch.placement.zone.clone()),
        ("EVENTPLANE_PRIVATE_IP", launch.network.private_ip.clone()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{metadata}")),
        ("HOME", home.to_string_lossy().into_owned()),
        ("PATH", PATH.to_owned()),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Gives the volumes names in the instance's directory that say which device each is, such as
/// `volumes/sdf`.
///
/// # Errors
/// When that cannot be done.
pub(crate) fn name_volumes(
    dir: &RunDir,
    facts: &InstanceFacts,
    volumes: &[PathBuf],
) -> io::Result<()> {
    let names = dir.path("volumes");
    std::fs::create_dir_all(&names)?;
    for (volume, path) in facts.launch.volumes.iter().zip(volumes) {
        let device = volume.spec.device.rsplit('/').next().unwrap_or_default();
        match std::os::unix::fs::symlink(path, names.join(device)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
