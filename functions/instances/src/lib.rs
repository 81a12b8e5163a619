//! `instances` keeps the instance record: it hears what changes an instance's state, and is the
//! only one to write it after its creation.

mod decide;
mod record;
pub mod tenants;

pub use decide::{Facts, Instances};
pub use record::{
    BY_TENANT, NUDGE_AFTER_MS, OPEN, OPEN_SHARDS, Record, Request, TABLE, TOKEN_KEPT_MS, Want,
    look_at_running, move_nudge, nudge_at, open_partition, record_key, request_key, shown_state,
    token_key,
};

use async_trait::async_trait;
use eventplane_engine::{Decision, Fault, Look, Moment, Step};
use eventplane_events::Event;

#[async_trait]
impl Step for Instances {
    type Facts = Facts;

    fn name(&self) -> &'static str {
        "instances"
    }

    async fn look(&self, event: &Event, look: Look<'_>) -> Result<Facts, Fault> {
        let key = record_key(&event.metadata.tenant, &event.metadata.subject);
        let item = look.store.get(&key).await?;
        Ok(Facts { record: item.as_ref().map(Record::read).transpose()? })
    }

    fn decide(&self, event: &Event, facts: &Facts, moment: Moment<'_>) -> Decision {
        decide::decide(self, event, facts, moment.now)
    }
}
