//! The directory that a plane keeps everything in: its store and its key belong together, and
//! neither is made anew beside the other.

use crate::bus::DEAD_LETTERS;
use crate::key_file::{self, KeyFileError};
use crate::store::{EmbeddedStore, OpenError};
use eventplane_engine::Chance;
use eventplane_keys::{LocalMasterKey, MasterKey};
use eventplane_store::{
    Condition, Item, ItemExt, Key, Store, StoreFault, Table, TransactError, Write,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The names of the files.
const STORE: &str = "eventplane.redb";
const KEY: &str = "master.key";
/// The attribute that names the key.
const ID: &str = "id";

/// Why what is in a data directory cannot be used: each says what to do.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// The store's file cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The key's file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// There is a key without a store.
    #[error(
        "the store {0} is missing or empty, and its key file is there: restore a copy of the \
         directory, or move the directory away to begin anew"
    )]
    NoStore(PathBuf),
    /// There is a store without its key.
    #[error(
        "the key file {0} is missing, and its store is there: restore a copy; what was sealed with \
         it opens with no other key"
    )]
    NoKey(PathBuf),
    /// The key is not that of the store.
    #[error(
        "the key file {0} is damaged or another's: it holds the key {1}, and the store was made \
         with {2}: restore a copy; what was sealed with it opens with no other key"
    )]
    OtherKey(PathBuf, String, String),
    /// The store does not tell its key.
    #[error("the store {0} cannot tell its key: {1}")]
    Unreadable(PathBuf, #[source] StoreFault),
}

/// Opens the store and the key in `dir`, or makes both.
///
/// # Errors
/// When one of them cannot be used, is missing while the other is there, or is another's.
pub async fn open(
    dir: &Path,
    tables: &[Table],
    chance: &Arc<dyn Chance>,
) -> Result<(EmbeddedStore, LocalMasterKey), DataDirError> {
    let (store_path, key_path) = (dir.join(STORE), dir.join(KEY));
    let has_key = key_path.exists();
    // The key is made after the store: alone, it has lost it.
    if has_key && std::fs::metadata(&store_path).map_or(0, |file| file.len()) == 0 {
        return Err(DataDirError::NoStore(store_path));
    }
    let store = EmbeddedStore::open(&store_path, tables)?;
    let place = Key::new(DEAD_LETTERS.name, "@master-key", "id");
    let unreadable = |fault| DataDirError::Unreadable(store_path.clone(), fault);
    let known = store.get(&place).await.map_err(unreadable)?;
    let known = known.as_ref().and_then(|item| item.text(ID));
    if known.is_some() && !has_key {
        return Err(DataDirError::NoKey(key_path));
    }
    let key = key_file::open_or_create(&key_path, chance)?;
    match known {
        Some(known) if known != key.id() => {
            let (id, known) = (key.id().to_owned(), known.to_owned());
            return Err(DataDirError::OtherKey(key_path, id, known));
        }
        Some(_) => {}
        None => {
            let write = Write::put(place, Item::new().with(ID, key.id()));
            let written = store.transact(vec![write.when(Condition::ItemAbsent)]).await;
            written.map_err(|error| match error {
                TransactError::Fault(fault) => unreadable(fault),
                TransactError::ConditionFailed(_) => unreachable!("nobody else has it open"),
            })?;
        }
    }
    Ok((store, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt;
    use tempfile::TempDir;

    struct System;
    impl Chance for System {
        fn fill(&self, bytes: &mut [u8]) {
            getrandom::fill(bytes).expect("the system has chance");
        }
    }

    async fn opened(dir: &TempDir) -> Result<(), String> {
        let chance: Arc<dyn Chance> = Arc::new(System);
        let opened = open(dir.path(), &[DEAD_LETTERS], &chance).await;
        opened.map(drop).map_err(|error| error.to_string())
    }

    async fn made() -> TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        opened(&dir).await.expect("made");
        opened(&dir).await.expect("again");
        dir
    }

    #[tokio::test]
    async fn a_store_that_is_gone_or_empty_is_not_made_anew_beside_its_key() {
        let dir = made().await;
        let store = dir.path().join(STORE);
        fs::write(&store, []).expect("emptied");
        let error = opened(&dir).await.expect_err("refused");
        assert!(error.contains("eventplane.redb is missing or empty"), "{error}");
        fs::remove_file(&store).expect("removed");
        let error = opened(&dir).await.expect_err("refused");
        assert!(error.contains("eventplane.redb is missing or empty"), "{error}");
        assert!(!store.exists(), "nothing is made");
    }

    #[tokio::test]
    async fn a_key_that_is_gone_is_not_made_anew_beside_its_store() {
        let dir = made().await;
        let key = dir.path().join(KEY);
        fs::remove_file(&key).expect("removed");
        let error = opened(&dir).await.expect_err("refused");
        assert!(error.contains("master.key is missing"), "{error}");
        assert!(!key.exists(), "nothing is made");
    }

    #[tokio::test]
    async fn a_key_with_a_flipped_bit_is_refused() {
        let dir = made().await;
        let key = fs::OpenOptions::new().read(true).write(true).open(dir.path().join(KEY));
        let key = key.expect("opens");
        let mut byte = [0];
        key.read_exact_at(&mut byte, 7).expect("read");
        key.write_all_at(&[byte[0] ^ 4], 7).expect("written");
        let error = opened(&dir).await.expect_err("refused");
        assert!(error.contains("master.key is damaged or another's"), "{error}");
    }

    #[tokio::test]
    async fn what_died_between_store_and_key_begins_where_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(EmbeddedStore::open(dir.path().join(STORE), &[DEAD_LETTERS]).expect("a store"));
        opened(&dir).await.expect("the key is made");
    }
}
