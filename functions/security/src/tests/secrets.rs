//! Secrets: where they are not, who opens them, and how often a key is unwrapped.

use super::*;
use crate::document::{SignedDocument, verify};
use eventplane_engine::Failure;
use eventplane_store::{ItemExt, Query, Value, Write};
use std::sync::atomic::AtomicUsize;

async fn open(site: &Site, id: &InstanceId) -> Result<Option<Root>, Fault> {
    let (master, chance) = (site.master.clone(), site.world.clone());
    root(&*site.store, master, chance, &Tenant::local(), id, 1).await
}

async fn signed(site: &Site) -> (SignedDocument, String) {
    site.hear(&allocated(1, None)).await;
    let published = published_keys(&*site.store).await.expect("no fault").remove(0);
    (document_of(&site.receipt().await).expect("a document"), published.public_key)
}

#[tokio::test]
async fn a_change_of_any_letter_of_document_or_signature_is_noticed() {
    let site = Site::new();
    let (good, key) = signed(&site).await;
    assert!(verify(&good, &key));
    for at in 0..good.document.len() {
        let mut bytes = good.document.clone().into_bytes();
        bytes[at] ^= 1;
        let document = String::from_utf8(bytes).expect("still ASCII");
        assert!(!verify(&SignedDocument { document, ..good.clone() }, &key), "letter {at}");
    }
    for at in 0..good.signature.len() {
        let mut signature = good.signature.clone();
        let other = if &signature[at..=at] == "0" { "1" } else { "0" };
        signature.replace_range(at..=at, other);
        assert!(!verify(&SignedDocument { signature, ..good.clone() }, &key), "digit {at}");
    }
    for signature in ["", "0", "zz", "+f", &good.signature[2..], "ü"] {
        let bad = SignedDocument { signature: signature.to_owned(), ..good.clone() };
        assert!(!verify(&bad, &key), "{signature}");
    }
}

#[tokio::test]
async fn a_document_says_what_was_launched_and_where() {
    let (good, _) = signed(&Site::new()).await;
    let said: serde_json::Value = serde_json::from_str(&good.document).expect("JSON");
    for (name, right) in [
        ("instanceId", id().as_str()),
        ("accountId", "default"),
        ("instanceType", "t3.micro"),
        ("imageId", "ami-1"),
        ("availabilityZone", "a"),
        ("host", "h-1"),
    ] {
        assert_eq!(said[name], right, "{name}");
    }
    assert_eq!((said["generation"].as_u64(), said["pendingTime"].as_i64()), (Some(1), Some(5)));
}

#[tokio::test]
async fn no_secret_stands_in_the_clear_in_the_table_an_event_or_an_output() {
    let site = Site::new();
    site.with_role().await;
    site.hear(&allocated(1, Some("web"))).await;
    let granted = open(&site, &id()).await.expect("no fault").expect("a secret");
    let session = site.session(1, Millis(5)).await.expect("a role");
    let mut seen = format!("{granted:?} {session:?} {:?}", site.receipt().await);
    for partition in [format!("default/{}", id()), "default/key".into(), "@keys".into()] {
        let query = Query::partition(TABLE.name, partition, 10);
        let page = site.store.query(&query).await.expect("no fault");
        assert!(!page.items.is_empty());
        for value in page.items.iter().flat_map(|(_, item)| item.values()) {
            match value {
                Value::B(bytes) => seen += &String::from_utf8_lossy(bytes),
                other => seen += &format!("{other:?}"),
            }
        }
    }
    site.hear(&withdrawn(Outcome::Terminate)).await;
    for entry in site.world.published.lock().expect("no panic").iter() {
        seen += &entry.detail;
    }
    assert!(seen.contains(&session.access_key_id), "what is shown is searched");
    for secret in [granted.expose(), &session.secret_access_key, &session.token] {
        assert!(!seen.contains(secret));
    }
}

#[tokio::test]
async fn credentials_open_for_their_own_instance_and_master_key_alone() {
    let site = Site::new();
    site.with_role().await;
    site.hear(&allocated(1, Some("web"))).await;
    let other = InstanceId::new(Millis(1), 2);
    assert_eq!(open(&site, &other).await.expect("no fault"), None, "there is no receipt");
    let at = receipt_key(&Tenant::local(), &id());
    let item = site.store.get(&at).await.expect("no fault").expect("a receipt");
    let copy = Write::put(receipt_key(&Tenant::local(), &other), item.clone());
    site.store.transact(vec![copy]).await.expect("written");
    let fault = open(&site, &other).await.expect_err("another instance's").to_string();
    assert!(fault.contains("the credentials of"), "{fault}");
    let stranger = LocalMasterKey::from_bytes("other", [8; 32], site.world.clone());
    let stranger = Site { master: Arc::new(stranger), world: site.world.clone(), ..site };
    assert!(open(&stranger, &id()).await.is_err());
    assert!(item.bytes("sealed").is_some());
}

/// A master key that counts, and takes its time.
struct Counting(LocalMasterKey, AtomicUsize, AtomicUsize);
#[async_trait]
impl MasterKey for Counting {
    fn id(&self) -> &str {
        self.0.id()
    }
    async fn wrap(&self, key: &[u8; 32], context: &str) -> Result<Vec<u8>, Fault> {
        self.1.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.0.wrap(key, context).await
    }
    async fn unwrap(&self, wrapped: &[u8], context: &str) -> Result<[u8; 32], Fault> {
        self.2.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.0.unwrap(wrapped, context).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn launches_at_once_in_one_process_unwrap_each_key_once() {
    let mut site = Site::new();
    site.with_role().await;
    let local = LocalMasterKey::from_bytes("test", [7; 32], site.world.clone());
    let master = Arc::new(Counting(local, AtomicUsize::new(0), AtomicUsize::new(0)));
    site.master = master.clone();
    let process = site.process();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let mut event = allocated(1, Some("web"));
        event.metadata.subject = InstanceId::new(Millis(1), n);
        let message = envelope(&event.entry(), "b", "2026-01-01T00:00:00Z");
        let process = process.clone();
        tasks.spawn(async move { process.handle(&message).await });
    }
    let answers: Vec<Result<(), Failure>> = tasks.join_all().await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    assert_eq!((count(&master.1), count(&master.2)), (2, 2), "the signing key, the tenant's key");
}

#[tokio::test]
async fn a_launch_of_a_cold_process_takes_at_most_four_reads_and_one_write() {
    let site = Site::new();
    site.with_role().await;
    site.hear(&allocated(1, Some("web"))).await;
    let before = site.store.stats();
    site.hear(&allocated(2, Some("web"))).await;
    let after = site.store.stats();
    assert!(after.reads - before.reads <= 4, "{} reads", after.reads - before.reads);
    assert_eq!(after.items_written - before.items_written, 1);
}

#[tokio::test]
async fn roles_are_made_once_listed_wholly_and_refused_with_what_would_be_right() {
    let (site, tenant) = (Site::new(), Tenant::local());
    let store = &*site.store;
    let role = |name: &str| roles::Role {
        name: name.to_owned(),
        description: String::new(),
        permissions: vec![],
    };
    for n in 0..130 {
        let made = roles::create(store, &tenant, &role(&format!("role-{n:03}"))).await;
        made.expect("no fault").expect("made");
    }
    assert_eq!(roles::list(store, &tenant).await.expect("no fault").len(), 130);
    let long = "x".repeat(65);
    let many = roles::Role { permissions: vec!["p".to_owned(); 51], ..role("many") };
    let empty = roles::Role { permissions: vec![String::new()], ..role("empty") };
    for (bad, why) in [
        (role("role-000"), "already"),
        (role(""), "1 to 64"),
        (role(&long), "1 to 64"),
        (role("a/b"), "1 to 64"),
        (many, "at most 50"),
        (empty, "1 to 256"),
    ] {
        let refusal = roles::create(store, &tenant, &bad).await.expect("no fault");
        let refusal = refusal.expect_err(why);
        assert!(refusal.message.contains(why), "{refusal}");
    }
    for missing in ["never", "", "a\0b", &long] {
        let refusal = roles::delete(store, &tenant, missing).await.expect("no fault");
        assert!(refusal.expect_err("not there").code.ends_with(".NotFound"));
        let mut event = allocated(1, Some(missing));
        event.metadata.subject = InstanceId::new(Millis(1), missing.len() as u64);
        site.hear(&event).await;
        assert_eq!(site.last().detail_type, "LaunchFailed", "`{missing}`");
    }
    roles::delete(store, &tenant, "role-000").await.expect("no fault").expect("deleted");
    assert!(roles::get(store, &tenant, "role-000").await.expect("no fault").is_err());
    let other = Tenant::parse("other").expect("a tenant");
    assert_eq!(roles::list(store, &other).await.expect("no fault"), []);
}
