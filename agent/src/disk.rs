//! What a host writes down, and what of it is there after the power was gone: only what was synced.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A disk, with the few operations that make a file durable. They are apart from each other so that a
/// test can cut the power between any two.
pub trait Disk: Send + Sync {
    /// The whole file; nothing if there is none.
    ///
    /// # Errors
    /// What keeps it from being read.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Makes a file with these bytes, or writes over it. Neither is durable yet.
    ///
    /// # Errors
    /// What keeps it from being written.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Adds to the end of a file that is there. Not durable yet.
    ///
    /// # Errors
    /// What keeps it from being written.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes the bytes of a file durable ("fsync", Linux manual page).
    ///
    /// # Errors
    /// What keeps it from being durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another's name, in its place. Not durable yet.
    ///
    /// # Errors
    /// What keeps it from being renamed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in the folder of this path durable.
    ///
    /// # Errors
    /// What keeps them from being durable.
    fn sync_names(&self, of: &Path) -> io::Result<()>;
}

/// Replaces a file as a whole: whatever happens, it is there as it was, or as it is to be. Durable when
/// this returns.
///
/// # Errors
/// What keeps it from being written; then it is as it was, or durable all the same.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    disk.write(&fresh, bytes)?;
    disk.sync(&fresh)?;
    disk.rename(&fresh, path)?;
    disk.sync_names(path)
}

/// The machine's own disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(path, bytes)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().append(true).open(path)?.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_names(&self, of: &Path) -> io::Result<()> {
        let folder = of.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}
