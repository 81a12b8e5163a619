//! Security gives a launch its identity: a signed document, credentials for its role, and an
//! audit record of who asked and what was granted.
//!
//! It contends for nothing, so each of its answers is one plain conditional write.

pub mod audit;
mod claim;
mod decide;
pub mod document;
mod keys;
pub mod roles;
mod session;

pub use claim::{Root, audit_of, document_of, identity, root};
pub use decide::Facts;
pub use keys::{PublishedKey, published_keys};
pub use session::{
    Claims, SESSION_EVERY_MS, SESSION_LIVE_MS, Session, Sessions, TokenError, verify_token,
};

use async_trait::async_trait;
use eventplane_domain::receipt::{Ruling, rule};
use eventplane_domain::{InstanceId, Tenant};
use eventplane_engine::{Chance, Decision, Fault, Look, Moment, Receipt, Step};
use eventplane_events::{Data, Event};
use eventplane_keys::MasterKey;
use eventplane_store::{Index, Key, Table};
use keys::Keys;
use std::sync::Arc;

/// The table of receipts, roles, and wrapped keys.
pub const TABLE: Table = Table {
    name: "security",
    indexes: &[Index { name: BY_ROLE, partition: claim::ROLE_OF, sort: claim::INSTANCE }],
};
/// The index of the instances that hold credentials of a role.
pub const BY_ROLE: &str = "by_role";

/// Where the receipt of an instance is kept.
#[must_use]
pub fn receipt_key(tenant: &Tenant, id: &InstanceId) -> Key {
    Key::new(TABLE.name, tenant.partition(id), "receipt")
}

/// The step that grants identities.
pub struct Security {
    keys: Keys,
    chance: Arc<dyn Chance>,
}

impl Security {
    /// The step, with the key that wraps its keys and the source of its secrets.
    pub fn new(master: Arc<dyn MasterKey>, chance: Arc<dyn Chance>) -> Self {
        Security { keys: Keys::new(master, chance.clone()), chance }
    }
}

#[async_trait]
impl Step for Security {
    type Facts = Facts;

    fn name(&self) -> &'static str {
        "security"
    }

    async fn look(&self, event: &Event, look: Look<'_>) -> Result<Facts, Fault> {
        let (tenant, id) = (&event.metadata.tenant, &event.metadata.subject);
        let Some(ask) = decide::asked(event) else { return Ok(Facts::default()) };
        let role = match &event.data {
            Data::CapacityAllocated(allocated) => allocated.launch.spec.role.as_deref(),
            _ => None,
        };
        let role = role.filter(|role| roles::is_name(role));
        let mut wanted = vec![receipt_key(tenant, id)];
        wanted.extend(role.map(|role| roles::key(tenant, role)));
        let items = look.store.batch_get(&wanted).await?;
        let receipt = Receipt::read(items[0].as_ref())?;
        receipt.as_ref().map_or(Ok(()), claim::check_readable)?;
        let ruling = rule(receipt.as_ref().map(Receipt::recorded), ask, look.now);
        let mut facts = Facts {
            receipt,
            role_exists: items.get(1).is_some_and(Option::is_some),
            ..Facts::default()
        };
        if ruling == Ruling::Decide {
            facts.signing_key = Some(self.keys.signing(look.store).await?);
            if role.is_some() {
                facts.tenant_key = Some(self.keys.of_tenant(look.store, tenant).await?);
                facts.secret = Some(claim::Secret::draw(&*self.chance));
            }
        }
        Ok(facts)
    }

    fn decide(&self, event: &Event, facts: &Facts, moment: Moment<'_>) -> Decision {
        decide::decide(event, facts, moment.delivery())
    }
}

#[cfg(test)]
mod tests;
