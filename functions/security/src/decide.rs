//! What is granted, refused and revoked.

use crate::audit::{Deed, Entry};
use crate::claim::{Grant, ROLE, Secret, audit_of, identity, with_audit};
use crate::keys::Signing;
use crate::{document, receipt_key};
use eventplane_domain::receipt::{Answer, Ask, Ruling, rule};
use eventplane_domain::{Launch, Millis, Mutant, Reason, Step, code, planted};
use eventplane_engine::{
    Decision, Delivery, Receipt, TakesOn, ask_of, give_back_keeping, publish_again, refuse_noting,
    take,
};
use eventplane_events::{Data, Event, SecurityConfigured};
use eventplane_keys::DataKey;
use eventplane_store::{Item, ItemExt};

/// What the step looks at.
#[derive(Default)]
pub struct Facts {
    /// What it has recorded of the instance.
    pub receipt: Option<Receipt>,
    /// Whether the role that the launch names exists.
    pub role_exists: bool,
    pub(crate) signing_key: Option<Signing>,
    pub(crate) tenant_key: Option<DataKey>,
    pub(crate) secret: Option<Secret>,
}

/// What the event asks: a launch comes from capacity, and nothing else is one.
pub(crate) fn asked(event: &Event) -> Option<Ask> {
    ask_of(event, TakesOn::Placement)
}

pub(crate) fn decide(event: &Event, facts: &Facts, at: impl Into<Delivery>) -> Decision {
    let at = at.into();
    let now = at.now;
    let Some(ask) = asked(event) else { return Decision::nothing() };
    let before = facts.receipt.as_ref();
    let key = receipt_key(&event.metadata.tenant, &event.metadata.subject);
    match rule(before.map(Receipt::recorded), ask, now) {
        Ruling::Stale => Decision::nothing(),
        Ruling::Repeat => {
            publish_again(event, before, Step::Security, Data::SecurityRevoked, |receipt| {
                configured(event, receipt)
            })
        }
        Ruling::RefuseLate => {
            let late_ms = now.since(event.metadata.deadline);
            let message = format!("security heard of the launch {late_ms} ms after its deadline");
            refuse(event, facts, at, Reason::new(code::LAUNCH_TIMEOUT, message))
        }
        Ruling::GiveBack => {
            let role = before.and_then(|receipt| receipt.claim.text(ROLE));
            let kept = with_audit(Item::new(), &noted(event, before, now, Deed::Revoked, role));
            give_back_keeping(event, key, before, at, vec![], Data::SecurityRevoked, kept)
        }
        Ruling::Decide => match &event.data {
            Data::CapacityAllocated(allocated) => grant(event, facts, &allocated.launch, at),
            _ => Decision::nothing(),
        },
    }
}

fn grant(event: &Event, facts: &Facts, launch: &Launch, at: Delivery) -> Decision {
    let before = facts.receipt.as_ref();
    let (tenant, id) = (&event.metadata.tenant, &event.metadata.subject);
    let key = receipt_key(tenant, id);
    let role = launch.spec.role.as_deref();
    if let Some(role) = role.filter(|_| !facts.role_exists) {
        let message = format!("there is no role `{role}`: it was deleted, or never made");
        return refuse(event, facts, at, Reason::new(code::ROLE_NOT_FOUND, message));
    }
    let signing = facts.signing_key.as_ref().expect("it was looked up to decide");
    let document = document::sign(event, launch, at.now.0, signing);
    let sealed_with = facts.secret.as_ref().zip(facts.tenant_key.as_ref());
    let is_raised = !planted(Mutant::CredentialVersionNotRaised);
    let generation = if is_raised { event.metadata.generation } else { 1 };
    let role_with = role.zip(sealed_with).map(|(role, (secret, key))| (role, secret, key));
    let grant = Grant { tenant, id, generation, document: &document, role: role_with };
    let claim = grant.claim(&noted(event, before, at.now, Deed::Granted, role));
    let granted = Receipt {
        generation,
        answer: Answer::Taken,
        deadline: event.metadata.deadline,
        reason: None,
        log: vec![],
        claim: claim.clone(),
    };
    let data = configured(event, &granted);
    take(event, key, before, at, claim, vec![], data)
}

/// Refuses, and notes it in the audit record.
fn refuse(event: &Event, facts: &Facts, at: Delivery, reason: Reason) -> Decision {
    let before = facts.receipt.as_ref();
    let key = receipt_key(&event.metadata.tenant, &event.metadata.subject);
    let role = match &event.data {
        Data::CapacityAllocated(allocated) => allocated.launch.spec.role.as_deref(),
        _ => None,
    };
    let notes = with_audit(Item::new(), &noted(event, before, at.now, Deed::Refused, role));
    refuse_noting(event, key, before, at, Step::Security, reason, notes)
}

fn configured(event: &Event, receipt: &Receipt) -> Data {
    let Data::CapacityAllocated(allocated) = &event.data else {
        unreachable!("only a launch is answered with what was granted")
    };
    let identity = identity(receipt).expect("what was granted is in the claim");
    Data::SecurityConfigured(SecurityConfigured { launch: allocated.launch.clone(), identity })
}

/// The audit record, one entry longer. The entry follows the recorded head, not what the newest
/// entry says now: a changed one is never covered up by the next.
fn noted(
    event: &Event,
    before: Option<&Receipt>,
    now: Millis,
    deed: Deed,
    role: Option<&str>,
) -> Vec<Entry> {
    let (mut chain, head) = before.map(audit_of).unwrap_or_default();
    chain.push(Entry {
        at: now.0,
        generation: event.metadata.generation,
        deed,
        tenant: event.metadata.tenant.to_string(),
        source: event.metadata.source.clone(),
        request: event.metadata.correlationid.clone(),
        role: role.map(str::to_owned),
        before: head,
    });
    chain
}
