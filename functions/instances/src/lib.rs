//! `instances` keeps the instance record: it hears what changes an instance's state, and is the
//! only one to write it after its creation.

mod decide;
mod mode;
mod nudge;
mod quota;
mod record;
mod request;
pub mod tenants;

pub use decide::{ENDING_DEADLINE_MS, Facts, Instances};
pub use mode::{Standing, mode_key};
pub use nudge::{
    NUDGE_AFTER_MS, OPEN_SHARDS, late_since, look_at_running, move_nudge, nudge_at, nudge_wait_ms,
    nudges, open_partition,
};
pub use quota::{Counted, Quotas, Usage, count_write, quota_key, uncount_write};
pub use record::{
    BY_TENANT, OPEN, Record, TABLE, TOKEN_KEPT_MS, record_key, request_key, token_key,
};
pub use request::{Asked, Request, Want, shown_state};

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
