//! Whether an attempt of the SDK's at one write may have been done without its answer.

use aws_sdk_dynamodb::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use eventplane_store::{FaultKind, StoreFault};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The attempts at one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<AtomicBool>);

impl Attempts {
    /// Whether one of them ended without an answer, or with an error of the server's own: it may
    /// have been done. What DynamoDB refused, as for too many requests, was not.
    pub(super) fn may_be_done(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What a fault of the last attempt means, given the earlier ones.
    pub(super) fn of(&self, fault: StoreFault) -> StoreFault {
        match self.may_be_done() {
            true => StoreFault { kind: FaultKind::OutcomeUnknown, ..fault },
            false => fault,
        }
    }

    fn ended_with(&self, status: Option<u16>) {
        if status.is_none_or(|status| status >= 500) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }
    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.ended_with(context.response().map(|response| response.status().as_u16()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_without_an_answer_leaves_the_outcome_open() {
        for (attempts, kind) in [
            (&[][..], FaultKind::Throttled),
            (&[Some(400), Some(400), Some(400)], FaultKind::Throttled),
            (&[None, Some(400)], FaultKind::OutcomeUnknown),
            (&[Some(500), Some(400)], FaultKind::OutcomeUnknown),
        ] {
            let ended = Attempts::default();
            attempts.iter().for_each(|status| ended.ended_with(*status));
            let fault = ended.of(StoreFault::new(FaultKind::Throttled, "too much"));
            assert_eq!(fault.kind, kind, "{attempts:?}");
        }
    }
}
