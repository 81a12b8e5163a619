//! Reads: of a table consistently, of an index as it stands.

use super::DynamoStore;
use super::attributes::{Attributes, PARTITION, SORT, key_attributes, key_of, text, to_item};
use super::expression::Expression;
use super::fault::fault;
use super::range::{Range, range};
use crate::backoff::pause;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use eventplane_store::{FaultKind, Index, Item, Key, Page, Query, StoreFault, Value};
use std::collections::{HashMap, HashSet};

/// The most keys of one `BatchGetItem`.
///
/// Source: "`BatchGetItem`", DynamoDB API reference, as is that it may leave keys unprocessed.
const BATCH_KEYS_MAX: usize = 100;
/// How often keys that were left are asked for in all.
const TRIES_MAX: u32 = 6;

pub(super) async fn get(store: &DynamoStore, key: &Key) -> Result<Option<Item>, StoreFault> {
    let (_, name) = store.table(key.table);
    let sent = store
        .client
        .get_item()
        .table_name(name)
        .set_key(Some(key_attributes(key)))
        .consistent_read(true)
        .send()
        .await;
    let answer = sent.map_err(|error| fault(&error))?;
    answer.item.map(to_item).transpose()
}

pub(super) async fn batch_get(
    store: &DynamoStore,
    keys: &[Key],
) -> Result<Vec<Option<Item>>, StoreFault> {
    let mut seen = HashSet::with_capacity(keys.len());
    let different: Vec<&Key> = keys.iter().filter(|key| seen.insert(*key)).collect();
    let mut found: HashMap<Key, Item> = HashMap::with_capacity(keys.len());
    for part in different.chunks(BATCH_KEYS_MAX) {
        found.extend(one_batch(store, part).await?);
    }
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

async fn one_batch(store: &DynamoStore, keys: &[&Key]) -> Result<Vec<(Key, Item)>, StoreFault> {
    let mut wanted: HashMap<String, Vec<Attributes>> = HashMap::new();
    for key in keys {
        let (_, name) = store.table(key.table);
        wanted.entry(name.clone()).or_default().push(key_attributes(key));
    }
    let consistent = |(name, keys): (String, Vec<Attributes>)| {
        let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true);
        (name, wanted.build().expect("keys are given"))
    };
    let mut wanted: HashMap<String, KeysAndAttributes> =
        wanted.into_iter().map(consistent).collect();
    let mut found = Vec::with_capacity(keys.len());
    for tries in 1..=TRIES_MAX {
        let sent = store.client.batch_get_item().set_request_items(Some(wanted)).send().await;
        let answer = sent.map_err(|error| fault(&error))?;
        for (name, items) in answer.responses.unwrap_or_default() {
            let (table, _) =
                store.tables.iter().find(|(_, known)| *known == name).ok_or_else(|| {
                    StoreFault::new(FaultKind::Unavailable, format!("nobody asked for {name}"))
                })?;
            for attributes in items {
                found.push((key_of(table.name, &attributes)?, to_item(attributes)?));
            }
        }
        match answer.unprocessed_keys {
            Some(left) if !left.is_empty() => wanted = left,
            _ => return Ok(found),
        }
        if tries < TRIES_MAX {
            pause(&*store.chance, tries).await;
        }
    }
    let message = format!("keys were left unread {TRIES_MAX} times");
    Err(StoreFault::new(FaultKind::Throttled, message))
}

pub(super) async fn query(store: &DynamoStore, query: &Query) -> Result<Page, StoreFault> {
    let Some(range) = range(query) else { return Ok(Page::default()) };
    let (table, name) = store.table(query.table);
    let index = query.index.map(|name| {
        let found = table.indexes.iter().find(|index| index.name == name);
        found.unwrap_or_else(|| panic!("the table {} has no index `{name}`", table.name))
    });
    let (partition, sort) = index.map_or((PARTITION, SORT), |index| (index.partition, index.sort));
    let mut expression = Expression::default();
    let condition = key_condition(&mut expression, (partition, &query.partition), (sort, range));
    let (names, values) = expression.into_parts();
    let after = query.after.as_deref().map(|token| start_key(query, index, token)).transpose()?;
    let sent = store
        .client
        .query()
        .table_name(name)
        .set_index_name(query.index.map(str::to_owned))
        .key_condition_expression(condition)
        .set_expression_attribute_names(names)
        .set_expression_attribute_values(values)
        .set_exclusive_start_key(after)
        .scan_index_forward(!query.descending)
        .limit(i32::try_from(query.limit.max(1)).unwrap_or(i32::MAX))
        // An index is never read consistently: DynamoDB refuses it.
        .consistent_read(index.is_none())
        .send()
        .await;
    let answer = sent.map_err(|error| fault(&error))?;
    let mut page = Page::default();
    for attributes in answer.items.unwrap_or_default() {
        page.items.push((key_of(query.table, &attributes)?, to_item(attributes)?));
    }
    page.next = answer.last_evaluated_key.map(|last| token(index, &last)).transpose()?;
    Ok(page)
}

fn key_condition(
    expression: &mut Expression,
    (partition, is): (&str, &str),
    (sort, range): (&str, Range),
) -> String {
    let of_partition = format!("{} = {}", expression.name(partition), expression.value(is.into()));
    let mut value = |text: String| expression.value(Value::S(text));
    let of_sort = match range {
        Range::All => return of_partition,
        Range::BeginsWith(prefix) => {
            let value = value(prefix);
            format!("begins_with({}, {value})", expression.name(sort))
        }
        Range::AtLeast(from) => {
            let value = value(from);
            format!("{} >= {value}", expression.name(sort))
        }
        Range::AtMost(to) => {
            let value = value(to);
            format!("{} <= {value}", expression.name(sort))
        }
        Range::Between(from, to) => {
            let (from, to) = (value(from), value(to));
            format!("{} BETWEEN {from} AND {to}", expression.name(sort))
        }
    };
    format!("{of_partition} AND {of_sort}")
}

/// Where a page ended: the last item's sort key, and of an index its place there and its own key.
fn token(index: Option<&Index>, last: &Attributes) -> Result<String, StoreFault> {
    let names = match index {
        None => vec![SORT],
        Some(index) => vec![index.sort, PARTITION, SORT],
    };
    let parts: Result<Vec<String>, StoreFault> =
        names.into_iter().map(|name| text(last, name)).collect();
    Ok(parts?.join("\0"))
}

fn start_key(query: &Query, index: Option<&Index>, token: &str) -> Result<Attributes, StoreFault> {
    let parts: Vec<&str> = token.split('\0').collect();
    let whole = parts.iter().all(|part| !part.is_empty());
    let named = match (index, &parts[..]) {
        _ if !whole => vec![],
        (None, [sort]) => vec![(PARTITION, query.partition.as_str()), (SORT, sort)],
        (Some(index), [place, partition, sort]) => vec![
            (index.partition, query.partition.as_str()),
            (index.sort, place),
            (PARTITION, partition),
            (SORT, sort),
        ],
        _ => vec![],
    };
    if named.is_empty() {
        let message = format!("{token:?} is no end of a page of {}", query.table);
        return Err(StoreFault::new(FaultKind::Unavailable, message));
    }
    let attribute =
        |(name, text): (&str, &str)| (name.to_owned(), AttributeValue::S(text.to_owned()));
    Ok(named.into_iter().map(attribute).collect())
}
