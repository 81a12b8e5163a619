//! One write alone: half the price of a transaction, and without its token.

use super::DynamoStore;
use super::attempts::Attempts;
use super::attributes::{Attributes, to_item};
use super::fault::fault;
use super::write::transact_item;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    Delete, Put, ReturnValuesOnConditionCheckFailure as Return, TransactWriteItem,
    Update as DynamoUpdate,
};
use eventplane_store::{Action, Failed, Item, StoreFault, TransactError, Update, Write};
use std::fmt::Debug;

/// Whether doing the write twice is doing it once: it may be repeated after a lost answer without
/// the token that only a transaction has.
pub(super) fn is_safe_alone(write: &Write) -> bool {
    match &write.action {
        Action::Put(_) | Action::Delete => true,
        Action::Update(updates) => !updates.iter().any(|one| matches!(one, Update::Add(..))),
        // There is no request that only checks.
        Action::Check => false,
    }
}

/// One write under its conditions.
pub(super) async fn alone(store: &DynamoStore, write: Write) -> Result<(), TransactError> {
    let (key, action) = (write.key.clone(), write.action.clone());
    let attempts = Attempts::default();
    let done = match transact_item(store, write) {
        TransactWriteItem { put: Some(it), .. } => put(store, it, attempts.clone()).await,
        TransactWriteItem { update: Some(it), .. } => update(store, it, attempts.clone()).await,
        TransactWriteItem { delete: Some(it), .. } => delete(store, it, attempts.clone()).await,
        other => unreachable!("no request for {other:?}"),
    };
    match done {
        Ok(()) => Ok(()),
        Err(Refused::Fault(fault)) => Err(attempts.of(fault).into()),
        Err(Refused::Condition(stands)) => {
            let item = stands.filter(|item| !item.is_empty()).map(to_item).transpose()?;
            if attempts.may_be_done() && is_own_win(&action, item.as_ref()) {
                return Ok(());
            }
            Err(TransactError::ConditionFailed(vec![Failed { index: 0, key, item }]))
        }
    }
}

/// Whether what stands there is what this very write has done: its first attempt was done, its
/// answer was lost, and the second met what the first had left.
fn is_own_win(action: &Action, stands: Option<&Item>) -> bool {
    match (action, stands) {
        (Action::Put(put), Some(stands)) => put == stands,
        (Action::Delete, None) => true,
        (Action::Update(updates), Some(stands)) => {
            let stands = |update: &Update| match update {
                Update::Set(name, value) => stands.get(name) == Some(value),
                Update::Remove(name) => !stands.contains_key(name),
                Update::Add(..) => false,
            };
            !updates.is_empty() && updates.iter().all(stands)
        }
        _ => false,
    }
}

async fn put(store: &DynamoStore, put: Put, attempts: Attempts) -> Result<(), Refused> {
    let request = store
        .client
        .put_item()
        .table_name(put.table_name)
        .set_item(Some(put.item))
        .set_condition_expression(put.condition_expression)
        .set_expression_attribute_names(put.expression_attribute_names)
        .set_expression_attribute_values(put.expression_attribute_values)
        .return_values_on_condition_check_failure(Return::AllOld);
    let sent = request.customize().interceptor(attempts).send().await;
    sent.map(drop).map_err(|error| match error.as_service_error() {
        Some(PutItemError::ConditionalCheckFailedException(failed)) => {
            Refused::Condition(failed.item.clone())
        }
        _ => Refused::fault(&error),
    })
}

async fn update(
    store: &DynamoStore,
    update: DynamoUpdate,
    attempts: Attempts,
) -> Result<(), Refused> {
    let expression = Some(update.update_expression).filter(|updates| !updates.is_empty());
    let request = store
        .client
        .update_item()
        .table_name(update.table_name)
        .set_key(Some(update.key))
        .set_update_expression(expression)
        .set_condition_expression(update.condition_expression)
        .set_expression_attribute_names(update.expression_attribute_names)
        .set_expression_attribute_values(update.expression_attribute_values)
        .return_values_on_condition_check_failure(Return::AllOld);
    let sent = request.customize().interceptor(attempts).send().await;
    sent.map(drop).map_err(|error| match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
            Refused::Condition(failed.item.clone())
        }
        _ => Refused::fault(&error),
    })
}

async fn delete(store: &DynamoStore, delete: Delete, attempts: Attempts) -> Result<(), Refused> {
    let request = store
        .client
        .delete_item()
        .table_name(delete.table_name)
        .set_key(Some(delete.key))
        .set_condition_expression(delete.condition_expression)
        .set_expression_attribute_names(delete.expression_attribute_names)
        .set_expression_attribute_values(delete.expression_attribute_values)
        .return_values_on_condition_check_failure(Return::AllOld);
    let sent = request.customize().interceptor(attempts).send().await;
    sent.map(drop).map_err(|error| match error.as_service_error() {
        Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
            Refused::Condition(failed.item.clone())
        }
        _ => Refused::fault(&error),
    })
}

/// Why a single write was not done.
enum Refused {
    /// A condition did not hold: what stands there.
    Condition(Option<Attributes>),
    Fault(StoreFault),
}

impl Refused {
    fn fault<E: ProvideErrorMetadata + Debug>(error: &SdkError<E>) -> Self {
        Refused::Fault(fault(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_store::ItemExt;

    #[test]
    fn what_the_first_attempt_has_left_is_known_again() {
        let item = || Item::new().with("owner", "i-1").with("n", 1);
        let set =
            |owner: &str| Action::Update(vec![Update::set("owner", owner), Update::remove("x")]);
        for (action, stands, own) in [
            (Action::Put(item()), Some(item()), true),
            (Action::Put(item()), Some(item().with("owner", "i-2")), false),
            (Action::Put(item()), None, false),
            (Action::Delete, None, true),
            (Action::Delete, Some(item()), false),
            (set("i-1"), Some(item()), true),
            (set("i-2"), Some(item()), false),
            (set("i-1"), Some(item().with("x", 1)), false),
            (set("i-1"), None, false),
        ] {
            assert_eq!(is_own_win(&action, stands.as_ref()), own, "{action:?} met {stands:?}");
        }
    }
}
