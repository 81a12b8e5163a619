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
    NUDGE_AFTER_MS, OPEN_SHARDS, late_since, look_at_let_go, move_nudge, nudge_at, nudge_wait_ms,
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
use eventplane_store::ItemExt;
use record::RESERVATION;

#[async_trait]
impl Step for Instances {
    type Facts = Facts;

    fn name(&self) -> &'static str {
        "instances"
    }

    async fn look(&self, event: &Event, look: Look<'_>) -> Result<Facts, Fault> {
        let (tenant, id) = (&event.metadata.tenant, &event.metadata.subject);
        let keys = [record_key(tenant, id), request_key(tenant, id)];
        let read = if decide::reads_the_request(event) { &keys[..] } else { &keys[..1] };
        let items = look.store.batch_get(read).await?;
        let mut facts = Facts {
            record: items[0].as_ref().map(Record::read).transpose()?,
            request: items.get(1).and_then(Option::as_ref).map(Request::read).transpose()?,
            token_stands: false,
        };
        if let Some((token, reservation)) =
            facts.record.as_ref().and_then(|r| decide::ends(r, event))
        {
            let item = look.store.get(&token_key(tenant, token)).await?;
            facts.token_stands =
                item.is_some_and(|item| item.text(RESERVATION) == Some(reservation));
        }
        Ok(facts)
    }

    fn decide(&self, event: &Event, facts: &Facts, moment: Moment<'_>) -> Decision {
        decide::decide(self, event, facts, moment.now)
    }
}
