//! The network step: gives each instance an address in a subnet of its zone, and tells its host
//! the rules and routes that go with it.
//!
//! The choice is in [`mod@decide`]; [`blocks`] says how addresses are kept, [`claim`] what a
//! receipt holds, and [`manage`] what people do with subnets, route tables and security groups.

pub mod blocks;
pub mod claim;
pub mod decide;
pub mod groups;
pub mod ledger;
mod look;
pub mod manage;
pub mod routes;
mod seed;
pub mod subnets;
pub mod why;

pub use claim::lease;
pub use decide::Facts;
pub use seed::seed;

use async_trait::async_trait;
use eventplane_domain::{InstanceId, Tenant};
use eventplane_engine::{Decision, Fault, Look, Moment, Step};
use eventplane_events::Event;
use eventplane_store::{Key, Table};

/// The step's table: receipts, address blocks, subnets, route tables and security groups.
pub const TABLE: Table = Table { name: "network", indexes: &[] };

/// The network step.
#[derive(Debug, Clone, Copy)]
pub struct Networking;

/// Where the step's receipt for an instance is kept.
#[must_use]
pub fn receipt_key(tenant: &Tenant, instance: &InstanceId) -> Key {
    Key::new(TABLE.name, tenant.partition(instance), "receipt")
}

#[async_trait]
impl Step for Networking {
    type Facts = Facts;

    fn name(&self) -> &'static str {
        "network"
    }

    async fn look(&self, event: &Event, look: Look<'_>) -> Result<Facts, Fault> {
        look::look(event, look).await
    }

    fn decide(&self, event: &Event, facts: &Facts, moment: Moment<'_>) -> Decision {
        decide::decide(event, facts, moment)
    }
}
