//! Capacity finds a host for a launch and reserves the room on it.
//!
//! `search` decides where to look, `decide` which of the hosts seen is taken, and `host` how its
//! room changes; `fleet` is what people do with hosts, `agents` who speaks for them, and `why` what
//! people are told of them.

pub mod agents;
mod claim;
mod decide;
pub mod fleet;
mod host;
pub mod ledger;
mod search;
pub mod seen;
pub mod why;

pub use claim::{held, placement, receipt_key};
pub use decide::Facts;
pub use search::{Counts, Seen};

use async_trait::async_trait;
use eventplane_domain::receipt::{Ask, Ruling, rule};
use eventplane_engine::{Decision, Fault, Look, Moment, Receipt, Step, TakesOn, ask_of};
use eventplane_events::{Data, Event};
use eventplane_store::Table;

/// The table of receipts, hosts, and the index of free room.
pub const TABLE: Table = Table { name: "capacity", indexes: &[] };

/// The step that places launches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Capacity;

#[async_trait]
impl Step for Capacity {
    type Facts = Facts;

    fn name(&self) -> &'static str {
        "capacity"
    }

    async fn look(&self, event: &Event, look: Look<'_>) -> Result<Facts, Fault> {
        let key = receipt_key(&event.metadata.tenant, &event.metadata.subject);
        let Some(ask) = ask_of(event, TakesOn::Request) else { return Ok(Facts::default()) };
        let takes = matches!(ask, Ask::Take { .. });
        let keys = [key, fleet::fleet_key()];
        let first = look.store.batch_get(if takes { &keys[..] } else { &keys[..1] }).await?;
        let receipt = Receipt::read(first[0].as_ref())?;
        let mut facts = Facts { receipt, ..Facts::default() };
        let ruling = rule(facts.receipt.as_ref().map(Receipt::recorded), ask, look.now);
        if !matches!(ruling, Ruling::Decide | Ruling::GiveBack) {
            return Ok(facts);
        }
        if let Some(held) = facts.receipt.as_ref().and_then(placement) {
            facts.holding = fleet::host(look.store, &held.host).await?;
        }
        if let (Ruling::Decide, Data::InstanceRequested(requested)) = (ruling, &event.data) {
            let fleet = first.get(1).and_then(Option::as_ref);
            let spec = decide::at_home(&requested.spec, facts.receipt.as_ref());
            facts.seen = Some(search::search(look.store, &spec, fleet, look.dice).await?);
        }
        Ok(facts)
    }

    fn decide(&self, event: &Event, facts: &Facts, moment: Moment<'_>) -> Decision {
        decide::decide(event, facts, moment)
    }
}
