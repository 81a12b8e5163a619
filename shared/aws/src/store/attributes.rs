//! Items as DynamoDB has them.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use eventplane_store::{FaultKind, Item, Key, StoreFault, Value};
use std::collections::HashMap;

/// The attribute that is every table's partition key; `template.yaml` declares it.
pub(super) const PARTITION: &str = "pk";
/// The attribute that is every table's sort key.
pub(super) const SORT: &str = "sk";

/// An item with its key, as DynamoDB sends it.
pub(super) type Attributes = HashMap<String, AttributeValue>;

pub(super) fn to_attribute(value: Value) -> AttributeValue {
    match value {
        Value::N(n) => AttributeValue::N(n.to_string()),
        Value::S(text) => AttributeValue::S(text),
        Value::B(bytes) => AttributeValue::B(Blob::new(bytes)),
        Value::Bool(is) => AttributeValue::Bool(is),
    }
}

/// The two attributes of a key.
pub(super) fn key_attributes(key: &Key) -> Attributes {
    HashMap::from([
        (PARTITION.to_owned(), AttributeValue::S(key.partition.clone())),
        (SORT.to_owned(), AttributeValue::S(key.sort.clone())),
    ])
}

/// An item with its key.
pub(super) fn to_attributes(key: &Key, item: Item) -> Attributes {
    let mut attributes = key_attributes(key);
    attributes.extend(item.into_iter().map(|(name, value)| (name, to_attribute(value))));
    attributes
}

/// An item without its key.
///
/// # Errors
/// [`FaultKind::Corrupt`] when it has an attribute that no writer of this store wrote.
pub(super) fn to_item(attributes: Attributes) -> Result<Item, StoreFault> {
    let not_ours = |name: &str, value: &dyn std::fmt::Debug| {
        let message = format!("`{name}` is no value of this store: {value:?}");
        StoreFault::new(FaultKind::Corrupt, message)
    };
    let mut item = Item::new();
    for (name, value) in attributes {
        if name == PARTITION || name == SORT {
            continue;
        }
        let value = match value {
            AttributeValue::N(n) => Value::N(n.parse().map_err(|_| not_ours(&name, &n))?),
            AttributeValue::S(text) => Value::S(text),
            AttributeValue::B(bytes) => Value::B(bytes.into_inner()),
            AttributeValue::Bool(is) => Value::Bool(is),
            other => return Err(not_ours(&name, &other)),
        };
        item.insert(name, value);
    }
    Ok(item)
}

/// A text attribute.
///
/// # Errors
/// [`FaultKind::Corrupt`] when it is missing or no text: every item has its key.
pub(super) fn text(attributes: &Attributes, name: &str) -> Result<String, StoreFault> {
    match attributes.get(name) {
        Some(AttributeValue::S(text)) => Ok(text.clone()),
        other => {
            let message = format!("the key `{name}` of an item is {other:?}");
            Err(StoreFault::new(FaultKind::Corrupt, message))
        }
    }
}

/// The key of an item in `table`.
///
/// # Errors
/// As [`text`].
pub(super) fn key_of(table: &'static str, attributes: &Attributes) -> Result<Key, StoreFault> {
    Ok(Key::new(table, text(attributes, PARTITION)?, text(attributes, SORT)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_store::ItemExt;

    #[test]
    fn an_item_comes_back_as_it_went() {
        let item =
            Item::new().with("n", i64::MIN).with("s", "").with("b", vec![0, 255]).with("yes", true);
        let key = Key::new("t", "p", "s");
        let attributes = to_attributes(&key, item.clone());
        assert_eq!(key_of("t", &attributes), Ok(key));
        assert_eq!(to_item(attributes), Ok(item));
    }

    #[test]
    fn what_no_writer_of_this_store_wrote_is_corrupt() {
        for value in [
            AttributeValue::N("1.5".to_owned()),
            AttributeValue::N("9223372036854775808".to_owned()),
            AttributeValue::Null(true),
            AttributeValue::L(vec![]),
        ] {
            let told = format!("{value:?}");
            let error = to_item(HashMap::from([("a".to_owned(), value)])).expect_err(&told);
            assert_eq!(error.kind, FaultKind::Corrupt, "{told}");
        }
    }
}
