//! The master key of one machine: a file that only its owner may read.
//!
//! Whoever loses the file loses what is sealed under it; it is copied together with the store.

use eventplane_engine::Chance;
use eventplane_keys::{DataKey, KEY_BYTES, LocalMasterKey};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The file's permissions: its owner reads and writes, nobody else does anything.
const MODE: u32 = 0o600;
/// The permissions of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Why a key file could not be opened: each says what to do.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// Others may read it: the key may be known to them.
    #[error(
        "the key file {0} may be used by others than its owner (mode {1:04o}): make it private \
         with `chmod 600`, and take a new key if others may have read it"
    )]
    NotPrivate(PathBuf, u32),
    /// It is no key file of ours, or damaged.
    #[error(
        "the key file {0} holds {1} bytes, not {KEY_BYTES}: restore a copy, or give another path; \
         what was sealed with it opens with no other key"
    )]
    WrongLength(PathBuf, u64),
    /// The operating system does not let us.
    #[error("the key file {0} cannot be used: {1}")]
    Unusable(PathBuf, #[source] io::Error),
}

/// Opens the key file at `path`, or makes one with a new random key. A new file stands there whole
/// and durable, or not at all; of two that make it at once, both get the one that came first.
///
/// # Errors
/// [`KeyFileError`] when the file may be read by others, is of another length, or cannot be used.
pub fn open_or_create(
    path: &Path,
    chance: &Arc<dyn Chance>,
) -> Result<LocalMasterKey, KeyFileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create(path, &**chance).map_err(|error| unusable(path, error))?;
            File::open(path)
        }
        opened => opened,
    };
    let bytes = read(path, file.map_err(|error| unusable(path, error))?)?;
    Ok(LocalMasterKey::from_bytes(id(&bytes), bytes, chance.clone()))
}

fn unusable(path: &Path, error: io::Error) -> KeyFileError {
    KeyFileError::Unusable(path.to_owned(), error)
}

/// Reads the key, if the file is ours alone.
fn read(path: &Path, mut file: File) -> Result<[u8; KEY_BYTES], KeyFileError> {
    let metadata = file.metadata().map_err(|error| unusable(path, error))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::NotPrivate(path.to_owned(), mode));
    }
    if !metadata.is_file() || metadata.len() != KEY_BYTES as u64 {
        return Err(KeyFileError::WrongLength(path.to_owned(), metadata.len()));
    }
    let mut bytes = [0; KEY_BYTES];
    file.read_exact(&mut bytes).map_err(|error| unusable(path, error))?;
    Ok(bytes)
}

/// Makes the file under a name of its own, then links it into place: a link, unlike a rename,
/// replaces no key that somebody else has put there meanwhile.
fn create(path: &Path, chance: &dyn Chance) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".new-{:016x}", chance.draw()));
    let new = PathBuf::from(new);
    let written = write(&new, &DataKey::random(chance)).and_then(|()| fs::hard_link(&new, path));
    let removed = fs::remove_file(&new);
    match written {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => removed?,
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn write(new: &Path, key: &DataKey) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(new)?;
    file.write_all(key.bytes())?;
    file.sync_all()
}

/// The key's id: it tells keys apart, and nothing of the key.
fn id(bytes: &[u8; KEY_BYTES]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"eventplane master key");
    hash.update(bytes);
    let hex: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("local-{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_keys::MasterKey;
    use std::fs::Permissions;
    use tempfile::{TempDir, tempdir};

    struct System;
    impl Chance for System {
        fn fill(&self, bytes: &mut [u8]) {
            getrandom::fill(bytes).expect("the system has chance");
        }
    }

    fn chance() -> Arc<dyn Chance> {
        Arc::new(System)
    }

    fn place() -> (TempDir, PathBuf) {
        let directory = tempdir().expect("a directory");
        let path = directory.path().join("master.key");
        (directory, path)
    }

    #[tokio::test]
    async fn what_is_wrapped_before_a_restart_unwraps_after_it() {
        let (_directory, path) = place();
        let first = open_or_create(&path, &chance()).expect("created");
        let wrapped = first.wrap(&[7; KEY_BYTES], "default").await.expect("wraps");
        let second = open_or_create(&path, &chance()).expect("opened");
        assert_eq!(first.id(), second.id());
        assert_eq!(second.unwrap(&wrapped, "default").await.expect("unwraps"), [7; KEY_BYTES]);
    }

    #[test]
    fn a_new_file_is_private_and_alone() {
        let (directory, path) = place();
        open_or_create(&path, &chance()).expect("created");
        let mode = fs::metadata(&path).expect("stands there").permissions().mode() & 0o7777;
        assert_eq!(mode, MODE);
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }

    #[test]
    fn of_many_that_make_it_at_once_all_get_the_same_key() {
        let (directory, path) = place();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || open_or_create(&path, &chance()).expect("a key"))
            })
            .collect();
        let ids: Vec<String> = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic").id().to_owned())
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let (_directory, path) = place();
        open_or_create(&path, &chance()).expect("created");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("set");
        let error = open_or_create(&path, &chance()).expect_err("refused").to_string();
        assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_file_of_another_length_is_refused_and_left_alone() {
        for length in [0, 31, 33] {
            let (_directory, path) = place();
            fs::write(&path, vec![1; length]).expect("written");
            fs::set_permissions(&path, Permissions::from_mode(MODE)).expect("set");
            let error = open_or_create(&path, &chance()).expect_err("refused").to_string();
            assert!(error.contains(&format!("holds {length} bytes, not 32")), "{error}");
            assert_eq!(fs::read(&path).expect("stands there").len(), length);
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let (_directory, path) = place();
        let path = path.join("below");
        let error = open_or_create(&path, &chance()).expect_err("refused").to_string();
        assert!(error.contains("below cannot be used"), "{error}");
    }
}
