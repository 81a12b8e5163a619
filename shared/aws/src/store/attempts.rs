//! How often the SDK has sent one request.

use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use eventplane_store::{FaultKind, StoreFault};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the attempts of one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<AtomicU32>);

impl Attempts {
    /// Whether an earlier attempt may have been done without an answer.
    pub(super) fn several(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }

    /// What a fault of a write means: whatever the last attempt says, an earlier one may have been
    /// done.
    pub(super) fn of(&self, fault: StoreFault) -> StoreFault {
        match self.several() {
            true => StoreFault { kind: FaultKind::OutcomeUnknown, ..fault },
            false => fault,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_after_several_attempts_leaves_the_outcome_open() {
        let attempts = Attempts::default();
        let throttled = StoreFault::new(FaultKind::Throttled, "too much");
        attempts.0.store(1, Ordering::Relaxed);
        assert_eq!(attempts.of(throttled.clone()).kind, FaultKind::Throttled);
        attempts.0.store(2, Ordering::Relaxed);
        assert_eq!(attempts.of(throttled).kind, FaultKind::OutcomeUnknown);
    }
}
