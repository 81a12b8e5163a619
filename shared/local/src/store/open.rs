//! Opening the file: whether it is ours, and which tables and indexes stand in it.

use super::encoding;
use super::layout::{CATALOGUE, ITEMS, Layout, Placed, ROWS, row};
use eventplane_store::{StoreFault, Table};
use redb::{
    Builder, Database, DatabaseError, ReadableTable, StorageError, TableHandle, WriteTransaction,
};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What redb may keep in memory, in bytes, pages to read and pages to write together.
pub(super) const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// How large a file is read as a whole at every opening, in bytes, so that what was changed or cut
/// outside of redb is found. redb's checksums are looked at then, and not when a page is read; above
/// this size a start would take seconds, and what is damaged shows when it is used, or never.
const VERIFIED_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The name that the format's version has in the catalogue; no table is called so.
const FORMAT_NAME: &str = "";
/// The version of the layout and of the encoding of items.
const FORMAT: u8 = 1;

/// Why a store could not be opened: each says what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has the file open.
    #[error("the store {0} is already open: stop the process that uses it, or take another file")]
    InUse(PathBuf),
    /// The file is of something else.
    #[error("{0} is no store of Eventplane ({1}): give another path, or move the file away")]
    Foreign(PathBuf, String),
    /// The file was a store and cannot be read any more.
    #[error(
        "the store {0} is damaged ({1}): restore a copy of its directory, or move that away to \
         begin anew"
    )]
    Damaged(PathBuf, String),
    /// The file is of a newer or older Eventplane.
    #[error("the store {0} has format {1}, not {FORMAT}: use the program that wrote it")]
    Format(PathBuf, u8),
    /// The operating system does not let us.
    #[error(
        "the store {0} cannot be opened ({1}): check that its directory exists, may be written \
         and has room"
    )]
    Unusable(PathBuf, String),
    /// An item that stands there already cannot stand in a new index.
    #[error("the store {0} cannot take its new index ({1}): drop the index, or mend the item")]
    Index(PathBuf, String),
    /// All ids are taken.
    #[error("the store {0} has no id left for another table or index")]
    Full(PathBuf),
}

impl OpenError {
    fn of_storage(path: &Path, error: StorageError) -> Self {
        let path = path.to_owned();
        match error {
            StorageError::Corrupted(reason) => OpenError::Damaged(path, reason),
            StorageError::Io(error) if error.kind() == ErrorKind::InvalidData => {
                OpenError::Foreign(path, error.to_string())
            }
            StorageError::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                OpenError::Damaged(path, "it ends too early".to_owned())
            }
            other => OpenError::Unusable(path, other.to_string()),
        }
    }

    fn of(path: &Path, error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::Corrupted(reason) => OpenError::Damaged(path.to_owned(), reason),
            redb::Error::Io(error) => OpenError::of_storage(path, StorageError::Io(error)),
            other => OpenError::Unusable(path.to_owned(), other.to_string()),
        }
    }
}

/// Opens the file at `path`, or makes it.
pub(super) fn open_file(path: &Path) -> Result<Database, OpenError> {
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    if bytes > VERIFIED_BYTES_MAX {
        tracing::warn!(path = %path.display(), bytes, "the store is too large to be verified");
    }
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_check_integrity_on_open(bytes <= VERIFIED_BYTES_MAX);
    builder.create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse(path.to_owned())
        }
        DatabaseError::UpgradeRequired(version) => {
            OpenError::Foreign(path.to_owned(), format!("redb's old file format {version}"))
        }
        DatabaseError::Storage(error) => OpenError::of_storage(path, error),
        other => OpenError::Unusable(path.to_owned(), other.to_string()),
    })
}

/// Reads the catalogue and brings it to the declared `tables`: gives ids to what is new, builds new
/// indexes from the items that stand there, and drops indexes that a declared table has no more.
pub(super) fn place(
    database: &Database,
    path: &Path,
    tables: &[Table],
) -> Result<Layout, OpenError> {
    let mut transaction = database.begin_write().map_err(|error| OpenError::of(path, error))?;
    transaction.set_quick_repair(true);
    let known = read_catalogue(&transaction, path)?;
    let mut plan = Plan { path, known: known.clone(), fresh: Vec::new(), stale: Vec::new() };
    let layout = plan.place(tables)?;
    if plan.known == known {
        transaction.abort().map_err(|error| OpenError::of(path, error))?;
        return Ok(layout);
    }
    for id in &plan.stale {
        drop_rows(&transaction, *id).map_err(|error| OpenError::of(path, error))?;
    }
    for (table, index) in &plan.fresh {
        build(&transaction, path, &layout.tables[*table], *index)?;
    }
    write_catalogue(&transaction, &plan.known).map_err(|error| OpenError::of(path, error))?;
    transaction.commit().map_err(|error| OpenError::of(path, error))?;
    Ok(layout)
}

struct Plan<'p> {
    path: &'p Path,
    known: BTreeMap<String, u8>,
    /// Indexes to build: the table's place in the layout, and the index's in the table.
    fresh: Vec<(usize, usize)>,
    /// Ids of indexes to drop.
    stale: Vec<u8>,
}

impl Plan<'_> {
    fn place(&mut self, tables: &[Table]) -> Result<Layout, OpenError> {
        let mut placed = Vec::with_capacity(tables.len());
        for (at, table) in tables.iter().enumerate() {
            self.drop_undeclared(table);
            let (id, _) = self.id(table.name.to_owned())?;
            let mut indexes = Vec::with_capacity(table.indexes.len());
            for (index_at, index) in table.indexes.iter().enumerate() {
                let (id, is_new) = self.id(index_name(table, index))?;
                if is_new {
                    self.fresh.push((at, index_at));
                }
                indexes.push((*index, id));
            }
            placed.push(Placed { table: *table, id, indexes });
        }
        Ok(Layout { tables: placed })
    }

    fn drop_undeclared(&mut self, table: &Table) {
        let declared: Vec<_> = table.indexes.iter().map(|index| index_name(table, index)).collect();
        let of_table = format!("{}/", table.name);
        let stale = |name: &str| name.starts_with(&of_table) && !declared.iter().any(|n| n == name);
        self.stale.extend(self.known.iter().filter(|(name, _)| stale(name)).map(|(_, id)| *id));
        self.known.retain(|name, _| !stale(name));
    }

    fn id(&mut self, name: String) -> Result<(u8, bool), OpenError> {
        if let Some(id) = self.known.get(&name) {
            return Ok((*id, false));
        }
        let free = |id: &u8| self.known.values().all(|used| used != id) && !self.stale.contains(id);
        let id = (1..=u8::MAX).find(free).ok_or_else(|| OpenError::Full(self.path.to_owned()))?;
        self.known.insert(name, id);
        Ok((id, true))
    }
}

/// An index over other attributes is another index, and is built anew.
fn index_name(table: &Table, index: &eventplane_store::Index) -> String {
    format!("{}/{}/{}/{}", table.name, index.name, index.partition, index.sort)
}

fn read_catalogue(
    transaction: &WriteTransaction,
    path: &Path,
) -> Result<BTreeMap<String, u8>, OpenError> {
    let fail = |error: redb::Error| OpenError::of(path, error);
    let names: Vec<_> = transaction.list_tables().map_err(|error| fail(error.into()))?.collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    if !names.iter().any(|table| table.name() == CATALOGUE.name()) {
        let reason = "a redb file of another program".to_owned();
        return Err(OpenError::Foreign(path.to_owned(), reason));
    }
    let catalogue = transaction.open_table(CATALOGUE).map_err(|error| fail(error.into()))?;
    let mut known = BTreeMap::new();
    for entry in catalogue.iter().map_err(|error| fail(error.into()))? {
        let (name, id) = entry.map_err(|error| fail(error.into()))?;
        known.insert(name.value().to_owned(), id.value());
    }
    match known.remove(FORMAT_NAME) {
        Some(FORMAT) => Ok(known),
        Some(other) => Err(OpenError::Format(path.to_owned(), other)),
        None => Err(OpenError::Damaged(path.to_owned(), "it does not say its format".to_owned())),
    }
}

fn write_catalogue(
    transaction: &WriteTransaction,
    known: &BTreeMap<String, u8>,
) -> Result<(), redb::Error> {
    let mut catalogue = transaction.open_table(CATALOGUE)?;
    catalogue.retain(|_, _| false)?;
    catalogue.insert(FORMAT_NAME, FORMAT)?;
    for (name, id) in known {
        catalogue.insert(name.as_str(), id)?;
    }
    // Reads expect both trees to be there.
    transaction.open_table(ITEMS)?;
    transaction.open_table(ROWS)?;
    Ok(())
}

fn drop_rows(transaction: &WriteTransaction, id: u8) -> Result<(), redb::Error> {
    let mut rows = transaction.open_table(ROWS)?;
    rows.retain(|row, ()| row.first() != Some(&id))?;
    Ok(())
}

fn build(
    transaction: &WriteTransaction,
    path: &Path,
    placed: &Placed,
    index: usize,
) -> Result<(), OpenError> {
    let fail = |error: redb::Error| OpenError::of(path, error);
    let corrupt = |fault: StoreFault| OpenError::Damaged(path.to_owned(), fault.message);
    let (index, id) = &placed.indexes[index];
    let items = transaction.open_table(ITEMS).map_err(|error| fail(error.into()))?;
    let mut rows = transaction.open_table(ROWS).map_err(|error| fail(error.into()))?;
    let first = [placed.id];
    for entry in items.range(first.as_slice()..).map_err(|error| fail(error.into()))? {
        let (key, item) = entry.map_err(|error| fail(error.into()))?;
        if key.value().first() != Some(&placed.id) {
            break;
        }
        let item = encoding::decode(item.value()).map_err(corrupt)?;
        let row = row(index, *id, key.value(), &item)
            .map_err(|reason| OpenError::Index(path.to_owned(), reason))?;
        if let Some(row) = row {
            rows.insert(row.as_slice(), ()).map_err(|error| fail(error.into()))?;
        }
    }
    Ok(())
}
