//! What DynamoDB's errors mean.
//!
//! Source: "Error handling with DynamoDB", DynamoDB developer guide.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use eventplane_store::{FaultKind, StoreFault};
use std::fmt::Debug;

/// The fault that an error of the SDK is, after its own repetitions.
///
/// # Panics
/// When DynamoDB does not understand the request: a bug.
pub(super) fn fault<E: ProvideErrorMetadata + Debug>(error: &SdkError<E>) -> StoreFault {
    let (kind, message) = match error {
        SdkError::ServiceError(refused) => {
            let code = refused.err().code().unwrap_or("no code");
            let message = refused.err().message().unwrap_or("no message");
            assert!(
                !matches!(code, "ValidationException" | "SerializationException"),
                "DynamoDB does not understand a request: {message}"
            );
            let is_theirs = refused.raw().status().is_server_error();
            (kind_of(code, is_theirs), format!("{code}: {message}"))
        }
        SdkError::ConstructionFailure(why) => (FaultKind::Unavailable, format!("{why:?}")),
        SdkError::DispatchFailure(why) if why.is_user() => {
            (FaultKind::Unavailable, format!("{why:?}"))
        }
        other => (FaultKind::OutcomeUnknown, format!("{other:?}")),
    };
    StoreFault::new(kind, message)
}

/// The kind of a fault by DynamoDB's code. `is_theirs`: an error of the server, which may come after
/// the write was done.
fn kind_of(code: &str, is_theirs: bool) -> FaultKind {
    match code {
        "TransactionConflictException" => FaultKind::Conflict,
        // An earlier attempt with the same token is being carried out.
        "TransactionInProgressException" => FaultKind::OutcomeUnknown,
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "LimitExceededException" => FaultKind::Throttled,
        _ if is_theirs => FaultKind::OutcomeUnknown,
        _ => FaultKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_kind() {
        for (code, is_theirs, kind) in [
            ("TransactionConflictException", false, FaultKind::Conflict),
            ("TransactionInProgressException", false, FaultKind::OutcomeUnknown),
            ("ProvisionedThroughputExceededException", false, FaultKind::Throttled),
            ("ThrottlingException", false, FaultKind::Throttled),
            ("InternalServerError", true, FaultKind::OutcomeUnknown),
            ("ResourceNotFoundException", false, FaultKind::Unavailable),
            ("AccessDeniedException", false, FaultKind::Unavailable),
        ] {
            assert_eq!(kind_of(code, is_theirs), kind, "{code}");
        }
    }
}
