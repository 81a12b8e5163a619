//! Credentials that rotate, and the tokens that say whose they are.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeSet;

const NOW: Millis = Millis(1_795_000_000_000);
const MINUTE_MS: i64 = 60_000;

impl Site {
    pub(super) async fn session(&self, generation: u32, now: Millis) -> Option<Session> {
        let sessions = Sessions::new(self.master.clone(), self.world.clone());
        let (tenant, id, receipt) = (Tenant::local(), id(), self.receipt().await);
        let of = (&tenant, &id, generation);
        sessions.session(&*self.store, &receipt, of, now).await.expect("no fault")
    }
}

async fn granted() -> Site {
    let site = Site::new();
    site.with_role().await;
    site.hear(&allocated(1, Some("web"))).await;
    site
}

#[tokio::test]
async fn new_credentials_come_well_before_the_old_ones_expire() {
    let site = granted().await;
    let mut before = site.session(1, NOW).await.expect("a role");
    let mut ids = BTreeSet::from([before.access_key_id.clone()]);
    for quarter in 1..=2 * 24 * 4 {
        let now = NOW.plus(quarter * 15 * MINUTE_MS);
        let session = site.session(1, now).await.expect("a role");
        assert!(session.updated_at <= now && now < session.expires_at, "good now");
        assert_eq!(session.expires_at.since(session.updated_at), SESSION_LIVE_MS);
        if session != before {
            let left_ms = before.expires_at.since(now);
            assert!(left_ms > 5 * MINUTE_MS, "the old ones are good for {left_ms} ms");
            assert_ne!(session.secret_access_key, before.secret_access_key);
            assert!(ids.insert(session.access_key_id.clone()), "no id comes twice");
        }
        before = session;
    }
    assert_eq!(ids.len(), 1 + 2 * 8, "every three hours");
}

#[tokio::test]
async fn they_are_the_same_in_every_process_and_nothing_is_written() {
    let site = granted().await;
    let (first, stats) = (site.session(1, NOW).await, site.store.stats());
    assert!(first.is_some());
    assert_eq!(site.session(1, NOW.plus(1)).await, first);
    assert_eq!(site.store.stats().items_written, stats.items_written);
}

#[tokio::test]
async fn instances_change_theirs_at_different_moments() {
    let site = granted().await;
    let sessions = Sessions::new(site.master.clone(), site.world.clone());
    let mut ends = BTreeSet::new();
    for n in 1..=8 {
        let (tenant, id) = (Tenant::local(), InstanceId::new(Millis(2), n));
        let mut event = allocated(1, Some("web"));
        event.metadata.subject = id.clone();
        site.hear(&event).await;
        let item = site.store.get(&receipt_key(&tenant, &id)).await.expect("no fault");
        let receipt = Receipt::read(item.as_ref()).expect("readable").expect("there");
        let of = (&tenant, &id, 1);
        let session = sessions.session(&*site.store, &receipt, of, NOW).await.expect("no fault");
        ends.insert(session.expect("a role").expires_at);
    }
    assert_eq!(ends.len(), 8);
}

#[tokio::test]
async fn they_end_with_their_generation() {
    let site = granted().await;
    let first = site.session(1, NOW).await.expect("a role");
    assert_eq!(site.session(2, NOW).await, None);
    site.hear(&allocated(2, Some("web"))).await;
    assert_eq!(site.session(1, NOW).await, None, "of an older one");
    let second = site.session(2, NOW).await.expect("a role");
    assert_ne!(first.secret_access_key, second.secret_access_key);
    assert_ne!(first.access_key_id, second.access_key_id);
    site.hear(&withdrawn(Outcome::Terminate)).await;
    assert_eq!(site.session(2, NOW).await, None, "revoked");
    let without = Site::new();
    without.hear(&allocated(1, None)).await;
    assert_eq!(without.session(1, NOW).await, None, "without a role");
}

#[tokio::test]
async fn a_token_says_whose_credentials_these_are_until_they_expire() {
    let site = granted().await;
    let session = site.session(1, NOW).await.expect("a role");
    let keys = published_keys(&*site.store).await.expect("no fault");
    let sessions = Sessions::new(site.master.clone(), site.world.clone());
    assert_eq!(sessions.published_keys(&*site.store).await.expect("no fault"), keys);
    let claims = Claims {
        tenant: Tenant::local(),
        instance: id(),
        generation: 1,
        role: "web".to_owned(),
        access_key_id: session.access_key_id.clone(),
        expires_at: session.expires_at,
    };
    for now in [NOW, session.expires_at] {
        assert_eq!(verify_token(&session.token, &keys, now), Ok(claims.clone()));
    }
    let late = verify_token(&session.token, &keys, session.expires_at.plus(1));
    assert_eq!(late, Err(TokenError::Expired));
    assert!(!session.token.contains(&session.secret_access_key));
}

#[tokio::test]
async fn a_token_that_anybody_has_changed_says_nothing() {
    let site = granted().await;
    let token = site.session(1, NOW).await.expect("a role").token;
    let keys = published_keys(&*site.store).await.expect("no fault");
    let dot = token.find('.').expect("two parts");
    for at in (0..token.len()).filter(|at| *at != dot) {
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        let mut changed = token.clone();
        changed.replace_range(at..=at, other);
        assert!(verify_token(&changed, &keys, NOW).is_err(), "letter {at}");
    }
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(&token[..dot]).expect("base64url"));
    let raised = claims.expect("JSON").replace("\"generation\":1", "\"generation\":2");
    let raised = format!("{}{}", URL_SAFE_NO_PAD.encode(raised), &token[dot..]);
    assert_eq!(verify_token(&raised, &keys, NOW), Err(TokenError::Wrong));
    assert_eq!(verify_token(&token, &[], NOW), Err(TokenError::Wrong));
    for bad in ["", ".", &token[..dot], &token[dot..], &format!("{token}="), "a.b"] {
        assert!(verify_token(bad, &keys, NOW).is_err(), "{bad}");
    }
    // What the same key has signed for another purpose is no token.
    let signed = document_of(&site.receipt().await).expect("a document");
    let signature = URL_SAFE_NO_PAD.encode(eventplane_keys::unhex(&signed.signature).expect("hex"));
    let posing = format!("{}.{signature}", URL_SAFE_NO_PAD.encode(&signed.document));
    assert_eq!(verify_token(&posing, &keys, NOW), Err(TokenError::Wrong));
}
