//! Breakers on AWS: the event source mapping between a function's inbox and the function is disabled
//! and enabled. A message that nobody receives is not counted as received, so that none becomes a
//! dead letter of it; a concurrency of 0 would have the mapping receive each until it is one.
//!
//! What waited comes no faster after that than the mapping's maximum concurrency allows. Sources:
//! "`UpdateEventSourceMapping`" and "`GetEventSourceMapping`", Lambda API reference, on the states
//! and on when they changed; "Configuring scaling behavior for SQS event source mappings", Lambda
//! developer guide.

use async_trait::async_trait;
use aws_sdk_lambda::error::DisplayErrorContext;
use aws_sdk_lambda::primitives::DateTime;
use aws_sdk_sqs::types::QueueAttributeName;
use eventplane_domain::Millis;
use eventplane_engine::{Breaker, BreakerState, Breakers, Fault};

/// What waits in a queue: to be received, and received already but not done with, such as between two
/// tries. Source: "`GetQueueAttributes`", SQS API reference; both are approximate.
const WAITING: [QueueAttributeName; 2] = [
    QueueAttributeName::ApproximateNumberOfMessages,
    QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
];

/// A function's mapping by its id, and the queue that it reads by its address.
pub(crate) struct Mapping {
    pub(crate) function: String,
    pub(crate) id: String,
    pub(crate) inbox: String,
}

/// The breakers of all functions that have an inbox.
pub struct MappingBreakers {
    lambda: aws_sdk_lambda::Client,
    sqs: aws_sdk_sqs::Client,
    mappings: Vec<Mapping>,
}

impl MappingBreakers {
    pub(crate) fn new(
        lambda: aws_sdk_lambda::Client,
        sqs: aws_sdk_sqs::Client,
        mappings: Vec<Mapping>,
    ) -> Self {
        MappingBreakers { lambda, sqs, mappings }
    }

    async fn waiting(&self, of: &Mapping) -> Result<u64, Fault> {
        let request = self.sqs.get_queue_attributes().queue_url(&of.inbox);
        let sent = request.set_attribute_names(Some(WAITING.to_vec())).send().await;
        let attributes = sent.map_err(|error| fault(of, &error))?.attributes.unwrap_or_default();
        let count = |name: &QueueAttributeName| attributes.get(name)?.parse::<u64>().ok();
        Ok(WAITING.iter().filter_map(count).sum())
    }

    async fn breaker(
        &self,
        of: &Mapping,
        state: Option<&str>,
        changed: Option<&DateTime>,
    ) -> Result<Breaker, Fault> {
        let since = changed.and_then(|at| at.to_millis().ok()).map(Millis);
        let waiting = self.waiting(of).await?;
        Ok(Breaker { function: of.function.clone(), state: meaning(state)?, since, waiting })
    }
}

#[async_trait]
impl Breakers for MappingBreakers {
    async fn breakers(&self) -> Result<Vec<Breaker>, Fault> {
        let mut breakers = Vec::with_capacity(self.mappings.len());
        for of in &self.mappings {
            let sent = self.lambda.get_event_source_mapping().uuid(&of.id).send().await;
            let now = sent.map_err(|error| fault(of, &error))?;
            breakers.push(self.breaker(of, now.state(), now.last_modified()).await?);
        }
        Ok(breakers)
    }

    async fn set_breaker(&self, function: &str, is_open: bool) -> Result<Option<Breaker>, Fault> {
        let Some(of) = self.mappings.iter().find(|of| of.function == function) else {
            return Ok(None);
        };
        let request = self.lambda.update_event_source_mapping().uuid(&of.id);
        // While it changes it takes no other change: the caller repeats it.
        let sent = request.enabled(!is_open).send().await;
        let now = sent.map_err(|error| fault(of, &error))?;
        self.breaker(of, now.state(), now.last_modified()).await.map(Some)
    }
}

/// What a mapping's state means for the messages in its queue.
fn meaning(state: Option<&str>) -> Result<BreakerState, Fault> {
    match state.unwrap_or_default() {
        "Enabled" | "Updating" => Ok(BreakerState::Closed),
        "Creating" | "Enabling" => Ok(BreakerState::Enabling),
        "Disabling" => Ok(BreakerState::Disabling),
        "Disabled" | "Deleting" => Ok(BreakerState::Open),
        other => Err(Fault::Other(format!("no state of an event source mapping: `{other}`"))),
    }
}

fn fault<E: std::error::Error>(of: &Mapping, error: &E) -> Fault {
    Fault::Other(format!("the breaker of {}: {}", of.function, DisplayErrorContext(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mappings_state_is_a_breakers() {
        for (state, breaker) in [
            ("Creating", "enabling"),
            ("Enabling", "enabling"),
            ("Enabled", "closed"),
            ("Updating", "closed"),
            ("Disabling", "disabling"),
            ("Disabled", "open"),
            ("Deleting", "open"),
        ] {
            assert_eq!(meaning(Some(state)).map(BreakerState::name).expect(state), breaker);
        }
        for state in [None, Some("Asleep")] {
            meaning(state).expect_err("no state of a mapping");
        }
    }
}
