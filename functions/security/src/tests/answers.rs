//! The table of cases, and what becomes of a record that somebody has changed.

use super::*;
use crate::audit::{Deed, verify};
use crate::keys::Signing;
use ed25519_dalek::SigningKey;
use eventplane_domain::code;
use eventplane_engine::Dice;
use eventplane_events::{InstanceRequested, LaunchFailed};
use eventplane_keys::DataKey;
use eventplane_store::{Action, Item, ItemExt, Update, Write};

/// Everything that a launch needs, looked up.
fn facts(receipt: Option<Receipt>, role_exists: bool) -> Facts {
    let (world, key) = (World::default(), SigningKey::from_bytes(&[3; 32]));
    Facts {
        receipt,
        role_exists,
        signing_key: Some(Signing { id: "key-1".to_owned(), key }),
        tenant_key: Some(DataKey::from_bytes([4; 32])),
        secret: Some(claim::Secret::draw(&world)),
    }
}

fn decision(before: Option<&Receipt>, role_exists: bool, event: &Event, now: i64) -> Decision {
    decide::decide(event, &facts(before.cloned(), role_exists), Millis(now))
}

/// The receipt that a decision writes.
fn written(decision: &Decision) -> Option<Receipt> {
    assert!(decision.writes.len() <= 1, "each answer is one plain write");
    let Action::Put(item) = &decision.writes.first()?.action else { panic!("receipts are put") };
    Receipt::read(Some(item)).expect("readable")
}

fn then(before: Option<&Receipt>, role_exists: bool, event: &Event, now: i64) -> Receipt {
    written(&decision(before, role_exists, event, now)).expect("a receipt")
}

fn deeds(receipt: &Receipt) -> String {
    let (chain, head) = audit_of(receipt);
    assert_eq!(verify(&chain, &head), Ok(()), "{chain:?}");
    let letter = |deed| match deed {
        Deed::Granted => 'g',
        Deed::Refused => 'r',
        Deed::Revoked => 'x',
    };
    chain.iter().map(|entry| letter(entry.deed)).collect()
}

fn end() -> Event {
    withdrawn(Outcome::Terminate)
}

#[test]
fn each_event_is_answered_as_the_law_says_and_every_new_answer_is_noted() {
    let web = |generation| allocated(generation, Some("web"));
    let plain = |generation| allocated(generation, None);
    let granted = then(None, true, &web(1), 5);
    let refused = then(None, false, &web(1), 5);
    let late = then(None, true, &web(1), 1_001);
    let revoked = then(Some(&granted), true, &end(), 6);
    let never = then(None, true, &end(), 6);
    let second = then(Some(&granted), true, &web(2), 7);
    let kept = then(Some(&granted), false, &web(2), 7);
    let (configured, failed) = (Some("SecurityConfigured"), Some("LaunchFailed"));
    let back = Some("SecurityRevoked");
    // what is recorded, whether the role exists, the event, now; the answer, the record after it
    let cases = [
        (None, true, plain(1), 5, configured, Some("g")),
        (None, true, web(1), 5, configured, Some("g")),
        (None, true, web(1), 1_000, configured, Some("g")),
        (None, false, plain(1), 5, configured, Some("g")),
        (None, false, web(1), 5, failed, Some("r")),
        (None, true, web(1), 1_001, failed, Some("r")),
        (None, true, end(), 5, back, Some("x")),
        // once more the same
        (Some(&granted), true, web(1), 2_000, configured, None),
        (Some(&refused), true, web(1), 5, failed, None),
        (Some(&late), true, web(1), 5, failed, None),
        (Some(&revoked), true, end(), 5, back, None),
        // the end, in whatever order
        (Some(&granted), true, end(), 2_000, back, Some("gx")),
        (Some(&refused), true, end(), 5, back, Some("rx")),
        (Some(&second), true, end(), 5, back, Some("ggx")),
        (Some(&never), true, web(1), 5, back, None),
        (Some(&revoked), true, web(3), 5, back, None),
        // generations
        (Some(&granted), true, web(2), 5, configured, Some("gg")),
        (Some(&granted), false, web(2), 5, failed, Some("gr")),
        (Some(&kept), true, web(3), 5, configured, Some("grg")),
        (Some(&second), true, web(1), 5, None, None),
        // a stop and a replacement revoke nothing
        (Some(&granted), true, withdrawn(Outcome::Stop), 5, None, None),
        (Some(&granted), true, withdrawn(Outcome::Replace), 5, None, None),
    ];
    for (before, role_exists, event, now, answer, record) in cases {
        let what = format!("{before:?} heard {event:?} at {now}");
        let decision = decision(before, role_exists, &event, now);
        let published: Vec<_> = decision.events.iter().map(|emit| emit.data.name()).collect();
        assert_eq!(published, answer.into_iter().collect::<Vec<_>>(), "{what}");
        assert_eq!(written(&decision).map(|after| deeds(&after)).as_deref(), record, "{what}");
    }
}

#[test]
fn what_is_not_for_this_step_changes_nothing_even_if_a_wrong_rule_delivers_it() {
    let Data::CapacityAllocated(launch) = allocated(1, None).data else { panic!("a launch") };
    let spec = launch.launch.spec;
    let requested =
        Data::InstanceRequested(InstanceRequested { spec, has_run: false, replaced: 0 });
    let reason = Reason::new("Server.InternalError", "no");
    let failed = LaunchFailed { step: eventplane_domain::Step::Network, reason, has_run: false };
    let granted = then(None, true, &allocated(1, None), 5);
    for data in [requested, Data::LaunchFailed(failed)] {
        for before in [None, Some(&granted)] {
            let decision = decision(before, true, &event(1, data.clone()), 5);
            assert_eq!(decision, Decision::nothing());
        }
    }
}

#[test]
fn an_entry_says_who_asked_for_what_and_a_refusal_why() {
    let granted = then(None, true, &allocated(1, Some("web")), 5);
    let refused = then(Some(&granted), false, &allocated(2, Some("web")), 6);
    let revoked = then(Some(&refused), false, &end(), 7);
    let (chain, _) = audit_of(&revoked);
    for (entry, (at, generation)) in chain.iter().zip([(5, 1), (6, 2), (7, 1)]) {
        assert_eq!((entry.at, entry.generation), (at, generation));
        assert_eq!((entry.tenant.as_str(), entry.request.as_str()), ("default", "c-1"));
        assert_eq!(entry.source, "eventplane.test");
        assert_eq!(entry.role.as_deref(), Some("web"));
    }
    assert_eq!(refused.reason.map(|reason| reason.code), Some(code::ROLE_NOT_FOUND.to_owned()));
    assert!(refused.claim.contains_key("sealed"), "a refusal keeps what is held");
    let left: Vec<&str> = revoked.claim.keys().map(String::as_str).collect();
    assert_eq!(left, ["audit", "audit_head"], "only the record outlives the grant");
}

#[test]
fn a_decision_is_a_function_of_its_arguments() {
    let step = Site::new();
    let security = Security::new(step.master.clone(), step.world.clone());
    let (event, facts) = (allocated(1, Some("web")), facts(None, true));
    let decide = || {
        let moment = Moment { now: Millis(5), received: 1, dice: &mut Dice::new(1) };
        security.decide(&event, &facts, moment)
    };
    assert_eq!(decide(), decide());
}

/// Changes the stored record as somebody with the table's password would.
async fn tamper(site: &Site, update: Update) {
    let key = receipt_key(&Tenant::local(), &id());
    site.store.transact(vec![Write::update(key, vec![update])]).await.expect("written");
}

#[tokio::test]
async fn a_changed_newest_entry_is_not_covered_up_by_the_next_one() {
    let site = Site::new();
    site.hear(&allocated(1, None)).await;
    let audit = site.receipt().await.claim.text("audit").expect("a record").to_owned();
    let forged = audit.replace("\"default\"", "\"another\"");
    assert_ne!(audit, forged);
    tamper(&site, Update::set("audit", forged)).await;
    let (chain, head) = audit_of(&site.receipt().await);
    assert!(verify(&chain, &head).is_err());
    site.hear(&withdrawn(Outcome::Terminate)).await;
    let (chain, head) = audit_of(&site.receipt().await);
    assert_eq!((chain.len(), verify(&chain, &head).map_err(|broken| broken.at)), (2, Err(1)));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_a_fault_and_never_begun_anew() {
    for change in [Update::set("audit", "[["), Update::remove("audit")] {
        let site = Site::new();
        site.hear(&allocated(1, None)).await;
        tamper(&site, change).await;
        let before = site.receipt().await;
        let (chain, head) = audit_of(&before);
        assert!(verify(&chain, &head).is_err());
        let message = envelope(&end().entry(), "b", "2026-01-01T00:00:00Z");
        let failure = site.process().handle(&message).await.expect_err("unreadable");
        assert!(failure.to_string().contains("audit record"), "{failure}");
        assert_eq!(site.receipt().await, before);
    }
    assert!(verify(&[], "").is_err(), "no record is not a good record");
}

/// Names as long as they are in a region: what the item of a launch really costs.
fn as_in_a_region(generation: u32, role: Option<&str>) -> Event {
    let mut event = allocated(generation, role);
    event.metadata.correlationid = "0199f3c0-0000-7000-8000-000000000001".to_owned();
    event.metadata.source = "eventplane.capacity".to_owned();
    event.metadata.deadline = Millis(1_795_000_060_000);
    let Data::CapacityAllocated(allocated) = &mut event.data else { panic!("a launch") };
    allocated.launch.spec.image_id = "ami-0123456789abcdef0".to_owned();
    allocated.launch.spec.instance_type = "m7i.metal-24xl".to_owned();
    allocated.launch.placement.zone = "eu-central-1a".to_owned();
    allocated.launch.placement.host = HostId::parse("host-eu-central-1a-0042").expect("an id");
    event
}

#[test]
fn a_launch_writes_at_most_a_kilobyte_and_each_generation_adds_at_most_a_quarter_of_one() {
    let size = |receipt: &Item| -> usize {
        let value = |value: &eventplane_store::Value| match value {
            eventplane_store::Value::S(text) => text.len(),
            eventplane_store::Value::B(bytes) => bytes.len(),
            _ => 9,
        };
        let at = receipt_key(&Tenant::local(), &id());
        let key = at.partition.len() + at.sort.len() + 4;
        key + receipt.iter().map(|(name, of)| name.len() + value(of)).sum::<usize>()
    };
    let of = |before: Option<&Receipt>, event: &Event| {
        let decision = decision(before, true, event, 1_795_000_000_000);
        let Action::Put(item) = &decision.writes[0].action else { panic!("a receipt") };
        (size(item), written(&decision).expect("a receipt"))
    };
    let role = Some("web-frontend-production");
    let (first, receipt) = of(None, &as_in_a_region(1, role));
    let (second, _) = of(Some(&receipt), &as_in_a_region(2, role));
    assert!(first <= 1024 && second - first <= 256, "{first} bytes, then {second}");
}
