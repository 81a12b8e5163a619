//! One write alone: half the price of a transaction, and without its token.

use super::DynamoStore;
use super::attributes::{Attributes, to_item};
use super::fault::fault;
use super::write::transact_item;
use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    Delete, Put, ReturnValuesOnConditionCheckFailure as Return, TransactWriteItem,
    Update as DynamoUpdate,
};
use eventplane_store::{Action, Failed, Item, StoreFault, TransactError, Update, Write};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// Counts the attempts of one request.
#[derive(Debug, Clone, Default)]
struct Attempts(Arc<AtomicU32>);

impl Attempts {
    /// Whether an earlier attempt may have been done without an answer.
    fn several(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }
    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// One write under its conditions.
pub(super) async fn alone(store: &DynamoStore, write: Write) -> Result<(), TransactError> {
    let key = write.key.clone();
    let wanted = match &write.action {
        Action::Put(item) => Some(item.clone()),
        _ => None,
    };
    let attempts = Attempts::default();
    let done = match transact_item(store, write) {
        TransactWriteItem { put: Some(it), .. } => put(store, it, attempts.clone()).await,
        TransactWriteItem { update: Some(it), .. } => update(store, it).await,
        TransactWriteItem { delete: Some(it), .. } => delete(store, it).await,
        other => unreachable!("no request for {other:?}"),
    };
    match done {
        Ok(()) => Ok(()),
        Err(Refused::Fault(fault)) => Err(fault.into()),
        Err(Refused::Condition(stands)) => {
            let item = stands.map(to_item).transpose()?;
            if attempts.several() && is_own_win(wanted.as_ref(), item.as_ref()) {
                return Ok(());
            }
            Err(TransactError::ConditionFailed(vec![Failed { index: 0, key, item }]))
        }
    }
}

/// Whether what stands there is what this very write put there: its first attempt was done, its
/// answer was lost, and the second met what the first had written.
fn is_own_win(wanted: Option<&Item>, stands: Option<&Item>) -> bool {
    wanted.is_some() && wanted == stands
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

async fn update(store: &DynamoStore, update: DynamoUpdate) -> Result<(), Refused> {
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
    request.send().await.map(drop).map_err(|error| match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
            Refused::Condition(failed.item.clone())
        }
        _ => Refused::fault(&error),
    })
}

async fn delete(store: &DynamoStore, delete: Delete) -> Result<(), Refused> {
    let request = store
        .client
        .delete_item()
        .table_name(delete.table_name)
        .set_key(Some(delete.key))
        .set_condition_expression(delete.condition_expression)
        .set_expression_attribute_names(delete.expression_attribute_names)
        .set_expression_attribute_values(delete.expression_attribute_values)
        .return_values_on_condition_check_failure(Return::AllOld);
    request.send().await.map(drop).map_err(|error| match error.as_service_error() {
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
