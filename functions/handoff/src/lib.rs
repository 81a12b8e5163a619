//! The handoff joins network, storage and security in any order, gives the finished launch to its
//! host, and is the pivot: it alone decides how a generation ends.

mod assignment;
mod decide;
mod receipt;

pub use assignment::{
    Assignment, AssignmentBody, TABLE, WantedSet, alive_write, assignment_key, console_writes,
    dead_write, header_key, host_partition, offer_write,
};
pub use decide::{Facts, PLACEMENTS_MAX};
pub use receipt::{Ending, Part, Receipt, Stage, receipt_key};

use async_trait::async_trait;
use eventplane_engine::{Decision, Fault, Look, Moment, Step};
use eventplane_events::Event;

/// The handoff.
#[derive(Debug, Clone, Copy, Default)]
pub struct Handoff;

#[async_trait]
impl Step for Handoff {
    type Facts = Facts;

    fn name(&self) -> &'static str {
        "handoff"
    }

    async fn look(&self, event: &Event, look: Look<'_>) -> Result<Facts, Fault> {
        let (tenant, instance) = (&event.metadata.tenant, &event.metadata.subject);
        let key = receipt_key(tenant, instance);
        let receipt = match look.lost.iter().find(|lost| lost.key == key) {
            Some(lost) => Receipt::read(lost.item.as_ref())?,
            None => Receipt::read(look.store.get(&key).await?.as_ref())?,
        };
        let dead_by_then = look.lost.iter().any(|lost| assignment::is_dead(lost.item.as_ref()));
        let mut facts = Facts { receipt, assignment: None, host_is_dead: dead_by_then };
        let Some(receipt) = &facts.receipt else { return Ok(facts) };
        let Some(placement) = &receipt.placement else { return Ok(facts) };
        if receipt.stage == Stage::Withdrawn || !decide::reads_the_assignment(event, receipt) {
            return Ok(facts);
        }
        let of_host =
            [assignment_key(&placement.host, tenant, instance), header_key(&placement.host)];
        let items = look.store.batch_get(&of_host).await?;
        if let Some(item) = &items[0] {
            facts.assignment = Some(Assignment::read(&of_host[0], item)?);
        }
        facts.host_is_dead = assignment::is_dead(items[1].as_ref());
        Ok(facts)
    }

    fn decide(&self, event: &Event, facts: &Facts, moment: Moment<'_>) -> Decision {
        decide::decide(event, facts, moment.delivery())
    }
}
