//! Volumes that are folders, and when one may be deleted.

use crate::wire::InstanceKey;
use eventplane_domain::{InstanceId, Tenant, Volume};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A volume whose folder is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) tenant: Tenant,
    pub(crate) instance_id: InstanceId,
    pub(crate) volume_id: String,
}

/// Where a volume is kept. Its instance is in the path, so that whoever finds it knows whose it is.
fn path_of(volumes_dir: &Path, key: &InstanceKey, volume_id: &str) -> PathBuf {
    volumes_dir.join(key.tenant.as_str()).join(key.instance_id.as_str()).join(volume_id)
}

/// Where the volumes of an instance are, the root volume first. Those of one that has never run are
/// made if `make` makes them: a folder, or a disk.
///
/// # Errors
/// When one cannot be made, or is not here although its instance has run: what is on it must not come
/// back empty.
pub(crate) fn prepare(
    volumes_dir: &Path,
    key: &InstanceKey,
    volumes: &[Volume],
    has_run: bool,
    make: impl Fn(&Volume, &Path) -> Result<(), String>,
) -> Result<Vec<PathBuf>, String> {
    let one = |volume: &Volume| {
        let path = path_of(volumes_dir, key, &volume.volume_id);
        if path.try_exists().map_err(|error| format!("{}: {error}", path.display()))? {
            return Ok(path);
        }
        if has_run {
            return Err(format!(
                "the volume {} of an earlier run is not on this host: hosts of a zone have to share \
                 the folder that `volumes_dir` names for volumes to follow their instance",
                volume.volume_id
            ));
        }
        let parent = path.parent().expect("it is below the volumes' folder");
        std::fs::create_dir_all(parent).map_err(|error| cannot(parent, &error))?;
        make(volume, &path)?;
        let durable = File::open(parent).and_then(|folder| folder.sync_all());
        durable.map_err(|error| cannot(parent, &error))?;
        Ok(path)
    };
    volumes.iter().map(one).collect()
}

fn cannot(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be made: {error}", path.display())
}

/// A volume as a folder. Its size and its speed are not limited.
pub(crate) fn make_folder(_: &Volume, path: &Path) -> Result<(), String> {
    std::fs::create_dir(path).map_err(|error| cannot(path, &error))
}

/// All volumes that are here. What does not have the name of one is left alone.
///
/// # Errors
/// When the folder cannot be looked into.
pub(crate) fn all(volumes_dir: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for tenant in names(volumes_dir)? {
        let Ok(tenant) = Tenant::parse(&tenant) else { continue };
        for instance in names(&volumes_dir.join(tenant.as_str()))? {
            let Ok(instance_id) = InstanceId::parse(&instance) else { continue };
            let folder = volumes_dir.join(tenant.as_str()).join(&instance);
            // One with a dot was not finished.
            let is_volume = |name: &String| name.starts_with("vol-") && !name.contains('.');
            found.extend(names(&folder)?.into_iter().filter(is_volume).map(|volume_id| Found {
                tenant: tenant.clone(),
                instance_id: instance_id.clone(),
                volume_id,
            }));
        }
    }
    Ok(found)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error),
    }
}

/// Deletes a volume, on the control plane's word that it is given back for good.
///
/// # Errors
/// When it cannot be deleted.
pub(crate) fn delete(volumes_dir: &Path, volume: &Found) -> io::Result<()> {
    let Found { tenant, instance_id, volume_id } = volume;
    let key = InstanceKey { tenant: tenant.clone(), instance_id: instance_id.clone() };
    let path = path_of(volumes_dir, &key, volume_id);
    if path.is_dir() {
        std::fs::remove_dir_all(&path)?;
    } else {
        std::fs::remove_file(&path)?;
    }
    // The instance's folder goes with its last volume.
    let _ = path.parent().map(std::fs::remove_dir);
    Ok(())
}
