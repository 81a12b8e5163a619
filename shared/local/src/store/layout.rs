//! Where things stand in the file: three trees.
//!
//! ```text
//! catalogue  name                                                         -> id
//! items      table id, partition, 0x00, sort                              -> item
//! rows       index id, partition, 0x00, sort, 0x00, (the item's key without its table id) -> ()
//! ```
//!
//! An id is one byte and not zero, given at the first opening with a table or an index and kept from then on;
//! tables may come later. Keys are not hashed: most of them grow with time, and neighbours in time
//! then share their pages.

use eventplane_store::{FaultKind, Index, Item, Key, StoreFault, Table, Value};
use redb::TableDefinition;

/// Ids by the names of tables and indexes.
pub(super) const CATALOGUE: TableDefinition<&str, u8> = TableDefinition::new("eventplane");
/// Items by their keys.
pub(super) const ITEMS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("items");
/// The rows of all indexes.
pub(super) const ROWS: TableDefinition<&[u8], ()> = TableDefinition::new("rows");

/// Ends a part of a key; no part holds it.
pub(super) const SEPARATOR: u8 = 0;

/// A declared table with the ids that the file knows it by.
pub(super) struct Placed {
    pub(super) table: Table,
    pub(super) id: u8,
    pub(super) indexes: Vec<(Index, u8)>,
}

/// The declared tables.
pub(super) struct Layout {
    pub(super) tables: Vec<Placed>,
}

impl Layout {
    /// The table called `name`.
    ///
    /// # Panics
    /// When no such table was declared: a caller's bug.
    pub(super) fn table(&self, name: &str) -> &Placed {
        let found = self.tables.iter().find(|placed| placed.table.name == name);
        found.unwrap_or_else(|| panic!("no table `{name}` was declared when the store was opened"))
    }

    /// The bytes that stand for `key`.
    pub(super) fn key(&self, key: &Key) -> Vec<u8> {
        join(self.table(key.table).id, &[&key.partition, &key.sort])
    }

    /// The table of the item that stands under the bytes `key`.
    pub(super) fn table_of(&self, key: &[u8]) -> Option<&Placed> {
        let id = key.first()?;
        self.tables.iter().find(|placed| placed.id == *id)
    }
}

/// `id`, then `parts` with a separator between two of them.
pub(super) fn join(id: u8, parts: &[&str]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len() + 1).sum();
    let mut out = Vec::with_capacity(1 + length);
    out.push(id);
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            out.push(SEPARATOR);
        }
        out.extend_from_slice(part.as_bytes());
    }
    out
}

/// The part of an item's key that names table and partition.
pub(super) fn partition_of(key: &[u8]) -> &[u8] {
    let end = key.iter().position(|byte| *byte == SEPARATOR);
    &key[..end.unwrap_or(key.len())]
}

/// Where `item` stands in an index: the index's partition and sort key, if it stands there.
///
/// # Errors
/// What DynamoDB would refuse: an attribute of the index that is no text, or an empty one.
pub(super) fn standing<'i>(
    index: &Index,
    item: &'i Item,
) -> Result<Option<(&'i str, &'i str)>, String> {
    let part = |name: &str| match item.get(name) {
        None => Ok(None),
        Some(Value::S(text)) if !text.is_empty() && !text.contains('\0') => Ok(Some(text.as_str())),
        Some(other) => Err(format!(
            "`{name}` places an item in the index {} and is no text, empty or with a NUL: {other:?}",
            index.name
        )),
    };
    Ok(part(index.partition)?.zip(part(index.sort)?))
}

/// The row of the item under `key` in an index, if it stands there.
///
/// # Errors
/// As [`standing`].
pub(super) fn row(
    index: &Index,
    id: u8,
    key: &[u8],
    item: &Item,
) -> Result<Option<Vec<u8>>, String> {
    let Some((partition, sort)) = standing(index, item)? else {
        return Ok(None);
    };
    let mut row = join(id, &[partition, sort, ""]);
    row.extend_from_slice(key.get(1..).unwrap_or_default());
    Ok(Some(row))
}

/// The next part of a key in `rest`, up to the separator or the end.
///
/// # Errors
/// [`FaultKind::Corrupt`] when it is no text.
pub(super) fn next_part(rest: &mut &[u8]) -> Result<String, StoreFault> {
    let end = rest.iter().position(|byte| *byte == SEPARATOR).unwrap_or(rest.len());
    let part = std::str::from_utf8(&rest[..end]).map_err(|_| broken_key())?.to_owned();
    *rest = rest.get(end + 1..).unwrap_or_default();
    Ok(part)
}

/// What a key says that no writer of this store wrote.
pub(super) fn broken_key() -> StoreFault {
    StoreFault::new(FaultKind::Corrupt, "a stored key cannot be read")
}
