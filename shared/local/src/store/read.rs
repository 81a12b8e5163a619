//! Reads: of the state after the last commit, on the caller's thread.

use super::layout::{ITEMS, Placed, ROWS, SEPARATOR, broken_key, join, next_part};
use super::{encoding, fault};
use eventplane_store::{Index, Item, ItemExt, Key, Page, Query, StoreFault};
use redb::{AccessGuard, Database, ReadOnlyTable, ReadableDatabase, StorageError, Value};
use std::ops::Bound;

/// The store as one commit left it.
pub(super) struct Snapshot {
    items: ReadOnlyTable<&'static [u8], &'static [u8]>,
    rows: ReadOnlyTable<&'static [u8], ()>,
}

impl Snapshot {
    pub(super) fn of(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        Ok(Snapshot { items: transaction.open_table(ITEMS)?, rows: transaction.open_table(ROWS)? })
    }

    /// The item under the bytes `key`.
    pub(super) fn item(&self, key: &[u8]) -> Result<Option<Item>, StoreFault> {
        let stored = self.items.get(key).map_err(fault)?;
        stored.map(|bytes| encoding::decode(bytes.value())).transpose()
    }

    pub(super) fn query(&self, placed: &Placed, query: &Query) -> Result<Page, StoreFault> {
        let index = query.index.map(|name| index_of(placed, name));
        let id = index.map_or(placed.id, |(_, id)| id);
        let Some((from, to)) = bounds(id, query) else {
            return Ok(Page::default());
        };
        let range = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        let Some((index, _)) = index else {
            let items = self.items.range::<&[u8]>(range).map_err(fault)?;
            return page(query, items, |key, item| {
                let (key, token) = table_key(query.table, key)?;
                Ok((key, encoding::decode(item.value())?, token))
            });
        };
        let rows = self.rows.range::<&[u8]>(range).map_err(fault)?;
        page(query, rows, |row, _| index_row(index, query.table, row))
    }
}

fn index_of(placed: &Placed, name: &str) -> (Index, u8) {
    let found = placed.indexes.iter().find(|(index, _)| index.name == name);
    let declared =
        || panic!("the table {} was declared without an index `{name}`", placed.table.name);
    found.copied().unwrap_or_else(declared)
}

type Guard<V> = AccessGuard<'static, V>;
type Entry<V> = Result<(Guard<&'static [u8]>, Guard<V>), StorageError>;

/// Reads a page from `entries`, each of which `read` makes a key, an item and a token.
fn page<V: Value + 'static>(
    query: &Query,
    mut entries: impl DoubleEndedIterator<Item = Entry<V>>,
    read: impl Fn(&[u8], &Guard<V>) -> Result<(Key, Item, String), StoreFault>,
) -> Result<Page, StoreFault> {
    let mut page = Page::default();
    let mut last = None;
    loop {
        let entry = if query.descending { entries.next_back() } else { entries.next() };
        let Some(entry) = entry else {
            return Ok(page);
        };
        if page.items.len() >= query.limit.max(1) {
            page.next = last;
            return Ok(page);
        }
        let (key, value) = entry.map_err(fault)?;
        let (key, item, token) = read(key.value(), &value)?;
        page.items.push((key, item));
        last = Some(token);
    }
}

/// An item's key, and the token behind which the next page begins.
fn table_key(table: &'static str, bytes: &[u8]) -> Result<(Key, String), StoreFault> {
    let mut rest = bytes.get(1..).ok_or_else(broken_key)?;
    let partition = next_part(&mut rest)?;
    let sort = next_part(&mut rest)?;
    Ok((Key { table, partition, sort: sort.clone() }, sort))
}

/// The key of a row's item, what the index holds of it, and the token.
fn index_row(
    index: Index,
    table: &'static str,
    row: &[u8],
) -> Result<(Key, Item, String), StoreFault> {
    let mut rest = row.get(1..).ok_or_else(broken_key)?;
    let of_index = next_part(&mut rest)?;
    let token = std::str::from_utf8(rest).map_err(|_| broken_key())?.to_owned();
    let item = Item::new().with(index.partition, of_index).with(index.sort, next_part(&mut rest)?);
    let partition = next_part(&mut rest)?;
    let sort = next_part(&mut rest)?;
    Ok((Key { table, partition, sort }, item, token))
}

/// One end of a range of keys.
type End = Bound<Vec<u8>>;

/// From where to where a query reads; `None` when nothing can be there.
fn bounds(id: u8, query: &Query) -> Option<(End, End)> {
    if query.partition.contains('\0') {
        return None;
    }
    let at = |sort: &str| join(id, &[&query.partition, sort]);
    let mut from = Bound::Included(at(&query.prefix));
    let mut to = Bound::Excluded(behind(at(&query.prefix)));
    if let Some(start) = &query.from {
        if query.descending {
            to = earlier(to, Bound::Excluded(behind_all_of(at(start))));
        } else {
            from = later(from, Bound::Included(at(start)));
        }
    }
    if let Some(after) = &query.after {
        if query.descending {
            to = earlier(to, Bound::Excluded(at(after)));
        } else {
            from = later(from, Bound::Excluded(at(after)));
        }
    }
    let (Bound::Included(first) | Bound::Excluded(first)) = &from else { return None };
    let Bound::Excluded(last) = &to else { return None };
    (first < last).then_some((from, to))
}

/// The least key greater than every key that begins with `prefix`.
fn behind(mut prefix: Vec<u8>) -> Vec<u8> {
    // No byte of a key is 0xff: its parts are UTF-8. The id may be, and stands alone then.
    if let Some(last) = prefix.last_mut() {
        *last += 1;
    }
    prefix
}

/// The least key greater than `sort` itself and, in an index, than every row of that sort key.
fn behind_all_of(mut sort: Vec<u8>) -> Vec<u8> {
    sort.push(SEPARATOR + 1);
    sort
}

fn value(bound: &End) -> Option<&Vec<u8>> {
    match bound {
        Bound::Included(value) | Bound::Excluded(value) => Some(value),
        Bound::Unbounded => None,
    }
}

fn later(a: End, b: End) -> End {
    // At the same key, the second excludes it, and that is the later one.
    if value(&b) >= value(&a) { b } else { a }
}

fn earlier(a: End, b: End) -> End {
    if value(&b) < value(&a) { b } else { a }
}
