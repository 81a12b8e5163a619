//! Several writes together: all of them or none.

use super::DynamoStore;
use super::attempts::Attempts;
use super::attributes::{key_attributes, to_attributes, to_item};
use super::expression::Expression;
use super::fault::fault;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure as Return,
    TransactWriteItem, Update as DynamoUpdate,
};
use eventplane_store::{Action, Failed, FaultKind, Key, StoreFault, TransactError, Write};

/// All writes or none.
pub(super) async fn together(store: &DynamoStore, writes: Vec<Write>) -> Result<(), TransactError> {
    let keys: Vec<Key> = writes.iter().map(|write| write.key.clone()).collect();
    let items: Vec<TransactWriteItem> =
        writes.into_iter().map(|write| transact_item(store, write)).collect();
    let attempts = Attempts::default();
    let request = store.client.transact_write_items().set_transact_items(Some(items));
    let sent = request.customize().interceptor(attempts.clone()).send().await;
    sent.map(drop).map_err(|error| match error.as_service_error() {
        // Of this very transaction, whichever attempt it was: all attempts have one token.
        Some(TransactWriteItemsError::TransactionCanceledException(why)) => {
            canceled(&keys, why.cancellation_reasons())
        }
        _ => attempts.of(fault(&error)).into(),
    })
}

pub(super) fn transact_item(store: &DynamoStore, write: Write) -> TransactWriteItem {
    let (_, name) = store.table(write.key.table);
    let Write { key, conditions, action } = write;
    let mut expression = Expression::default();
    let condition = expression.all(conditions);
    let item = TransactWriteItem::builder();
    let built = "what is required is given";
    match action {
        Action::Put(put) => {
            let (names, values) = expression.into_parts();
            let put = Put::builder()
                .table_name(name)
                .set_item(Some(to_attributes(&key, put)))
                .set_condition_expression(condition)
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(Return::AllOld);
            item.put(put.build().expect(built)).build()
        }
        Action::Update(updates) => {
            let updates = expression.updates(updates).unwrap_or_default();
            let (names, values) = expression.into_parts();
            let update = DynamoUpdate::builder()
                .table_name(name)
                .set_key(Some(key_attributes(&key)))
                .update_expression(updates)
                .set_condition_expression(condition)
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(Return::AllOld);
            item.update(update.build().expect(built)).build()
        }
        Action::Delete => {
            let (names, values) = expression.into_parts();
            let delete = Delete::builder()
                .table_name(name)
                .set_key(Some(key_attributes(&key)))
                .set_condition_expression(condition)
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(Return::AllOld);
            item.delete(delete.build().expect(built)).build()
        }
        Action::Check => {
            let (names, values) = expression.into_parts();
            let check = ConditionCheck::builder()
                .table_name(name)
                .set_key(Some(key_attributes(&key)))
                .condition_expression(condition.unwrap_or_default())
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(Return::AllOld);
            item.condition_check(check.build().expect(built)).build()
        }
    }
}

/// What a cancellation says, by the places of its reasons: a condition that did not hold comes
/// first, since whoever decides again reads again.
///
/// Source: "`TransactWriteItems`", DynamoDB API reference (cancellation reasons).
///
/// # Panics
/// When DynamoDB does not understand a write: a bug.
fn canceled(keys: &[Key], reasons: &[CancellationReason]) -> TransactError {
    let mut failed = Vec::new();
    let mut other: Option<StoreFault> = None;
    for (index, reason) in reasons.iter().enumerate() {
        let message = reason.message().unwrap_or_default();
        let kind = match reason.code().unwrap_or("None") {
            "None" => continue,
            "ConditionalCheckFailed" => {
                match reason.item.clone().filter(|item| !item.is_empty()).map(to_item).transpose() {
                    Ok(item) => failed.push(Failed { index, key: keys[index].clone(), item }),
                    Err(corrupt) => return corrupt.into(),
                }
                continue;
            }
            "TransactionConflict" => FaultKind::Conflict,
            "ProvisionedThroughputExceeded" | "ThrottlingError" => FaultKind::Throttled,
            "ValidationError" => panic!("DynamoDB does not understand {}: {message}", keys[index]),
            _ => FaultKind::Unavailable,
        };
        // A conflict is over soon; what lasts longer is what counts.
        if other.as_ref().is_none_or(|other| other.kind == FaultKind::Conflict) {
            let code = reason.code().unwrap_or_default();
            other = Some(StoreFault::new(kind, format!("{}: {code} {message}", keys[index])));
        }
    }
    match (failed.is_empty(), other) {
        (false, _) => TransactError::ConditionFailed(failed),
        (true, Some(fault)) => fault.into(),
        (true, None) => {
            StoreFault::new(FaultKind::Conflict, "a transaction was canceled without a reason")
                .into()
        }
    }
}
