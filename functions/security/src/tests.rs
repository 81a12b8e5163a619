//! The step in its loop over a real store: what it grants, repeats, refuses and revokes.

mod answers;
mod secrets;
mod sessions;

use super::*;
use eventplane_domain::{HostId, Launch, LaunchSpec, Millis, Outcome, Placement, Reason, Strategy};
use eventplane_engine::{Clock, Function, Handler, Ports, Publisher};
use eventplane_events::{
    CapacityAllocated, Entry, InstanceWithdrawn, Metadata, SCHEMA_VERSION, envelope,
};
use eventplane_keys::LocalMasterKey;
use eventplane_local::store::EmbeddedStore;
use eventplane_store::Store;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
struct World {
    published: Mutex<Vec<Entry>>,
    drawn: AtomicU64,
}
#[async_trait]
impl Publisher for World {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        self.published.lock().expect("no panic").extend(entries);
        Ok(())
    }
}
impl Clock for World {
    fn now(&self) -> Millis {
        Millis(5)
    }
}
impl Chance for World {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = (self.drawn.fetch_add(1, Ordering::Relaxed) % 251) as u8;
        }
    }
}

struct Site {
    world: Arc<World>,
    store: Arc<EmbeddedStore>,
    master: Arc<dyn MasterKey>,
}

impl Site {
    fn new() -> Site {
        let world = Arc::new(World::default());
        let master = LocalMasterKey::from_bytes("test", [7; 32], world.clone());
        let store = Arc::new(EmbeddedStore::in_memory(&[TABLE]).expect("a store"));
        Site { world, store, master: Arc::new(master) }
    }
    fn process(&self) -> Arc<Function<Security>> {
        let world = self.world.clone();
        let ports = Ports {
            store: self.store.clone(),
            bus: world.clone(),
            clock: world.clone(),
            chance: world.clone(),
        };
        Arc::new(Function::new(Security::new(self.master.clone(), world), ports))
    }
    async fn hear(&self, event: &Event) {
        let message = envelope(&event.entry(), "b", "2026-01-01T00:00:00Z");
        self.process().handle(&message).await.expect("handled");
    }
    fn last(&self) -> Entry {
        let published = self.world.published.lock().expect("no panic");
        published.last().expect("published").clone()
    }
    async fn receipt(&self) -> Receipt {
        let item = self.store.get(&receipt_key(&Tenant::local(), &id())).await.expect("no fault");
        Receipt::read(item.as_ref()).expect("readable").expect("there")
    }
    async fn with_role(&self) {
        let role = roles::Role {
            name: "web".to_owned(),
            description: String::new(),
            permissions: vec!["s3:GetObject".to_owned()],
        };
        let made = roles::create(&*self.store, &Tenant::local(), &role).await.expect("no fault");
        made.expect("made");
    }
}

fn id() -> InstanceId {
    InstanceId::new(Millis(1), 1)
}

fn event(generation: u32, data: Data) -> Event {
    Event {
        metadata: Metadata {
            id: "e-1".to_owned(),
            kind: data.name().to_owned(),
            schemaversion: SCHEMA_VERSION.to_owned(),
            time: Millis(1),
            source: "eventplane.test".to_owned(),
            subject: id(),
            correlationid: "c-1".to_owned(),
            causationid: None,
            tenant: Tenant::local(),
            generation,
            deadline: Millis(1_000),
            hop: 1,
            traceparent: None,
        },
        data,
    }
}

fn allocated(generation: u32, role: Option<&str>) -> Event {
    let spec = LaunchSpec {
        reservation_id: "r-1".to_owned(),
        launch_index: 0,
        instance_type: "t3.micro".to_owned(),
        vcpus: 2,
        memory_mib: 1024,
        network_mbps: 64,
        gpus: None,
        image_id: "ami-1".to_owned(),
        volumes: vec![],
        zone: None,
        subnet_id: None,
        private_ip: None,
        security_group_ids: vec![],
        role: role.map(str::to_owned),
        user_data_ref: None,
        strategy: Strategy::Spread,
    };
    let host = HostId::parse("h-1").expect("a host id");
    let placement = Placement { host, zone: "a".to_owned(), rack: "r".to_owned() };
    let launch = Launch { spec, placement, has_run: false, replaced: 0 };
    event(generation, Data::CapacityAllocated(CapacityAllocated { launch }))
}

fn withdrawn(outcome: Outcome) -> Event {
    let reason = Reason::new("Client.UserInitiatedShutdown", "asked");
    event(1, Data::InstanceWithdrawn(InstanceWithdrawn { outcome, reason, has_run: false }))
}

#[tokio::test]
async fn a_document_is_verified_with_the_published_key_alone_and_not_if_a_letter_was_changed() {
    let site = Site::new();
    site.hear(&allocated(1, None)).await;
    assert_eq!(site.last().detail_type, "SecurityConfigured");
    let signed = document_of(&site.receipt().await).expect("a document");
    let published = published_keys(&*site.store).await.expect("no fault");
    assert_eq!(published[0].key_id, signed.key_id);
    assert!(document::verify(&signed, &published[0].public_key));
    let forged = signed.document.replace("t3.micro", "t3.large");
    let forged = document::SignedDocument { document: forged, ..signed.clone() };
    assert!(!document::verify(&forged, &published[0].public_key));
    assert!(!document::verify(&signed, "00"));
    assert!(!document::verify(&signed, &"ab".repeat(32)));
}

#[tokio::test]
async fn credentials_are_sealed_revoked_and_in_no_event() {
    let site = Site::new();
    site.with_role().await;
    site.hear(&allocated(1, Some("web"))).await;
    let open = |generation| {
        let (master, chance) = (site.master.clone(), site.world.clone());
        let store = site.store.clone();
        async move { root(&*store, master, chance, &Tenant::local(), &id(), generation).await }
    };
    let first = open(1).await.expect("no fault").expect("a secret");
    let receipt = site.receipt().await;
    assert!(!format!("{receipt:?}").contains(first.expose()));
    assert!(!format!("{first:?}").contains(first.expose()));
    assert_eq!(identity(&receipt).map(|identity| identity.credentials_version), Some(1));
    let in_use = roles::delete(&*site.store, &Tenant::local(), "web").await.expect("no fault");
    assert!(in_use.expect_err("in use").message.contains(id().as_str()));

    site.hear(&allocated(2, Some("web"))).await;
    assert_eq!(open(1).await.expect("no fault"), None, "only the newest generation's");
    let second = open(2).await.expect("no fault").expect("a secret");
    assert_ne!(first, second);
    site.hear(&allocated(1, Some("web"))).await;
    assert_eq!(open(2).await.expect("no fault"), Some(second.clone()), "an older one is stale");
    for entry in site.world.published.lock().expect("no panic").iter() {
        assert!(!entry.detail.contains(first.expose()));
        assert!(!entry.detail.contains(second.expose()));
    }

    site.hear(&withdrawn(Outcome::Stop)).await;
    assert!(open(2).await.expect("no fault").is_some(), "a stop revokes nothing");
    site.hear(&withdrawn(Outcome::Terminate)).await;
    assert_eq!(site.last().detail_type, "SecurityRevoked");
    assert_eq!(open(2).await.expect("no fault"), None);
    let gone = roles::delete(&*site.store, &Tenant::local(), "web").await.expect("no fault");
    gone.expect("nobody holds it");
}

#[tokio::test]
async fn a_role_that_is_not_there_is_refused_and_the_refusal_is_in_the_record() {
    let site = Site::new();
    site.hear(&allocated(1, Some("web"))).await;
    assert_eq!(site.last().detail_type, "LaunchFailed");
    assert!(site.last().detail.contains("there is no role `web`"));
    let (chain, head) = audit_of(&site.receipt().await);
    assert_eq!((chain[0].deed, chain[0].role.as_deref()), (audit::Deed::Refused, Some("web")));
    assert_eq!(audit::verify(&chain, &head), Ok(()));
}

#[tokio::test]
async fn the_audit_record_outlives_the_grant_and_shows_every_change() {
    let site = Site::new();
    site.hear(&allocated(1, None)).await;
    site.hear(&allocated(2, None)).await;
    site.hear(&withdrawn(Outcome::Terminate)).await;
    let (chain, head) = audit_of(&site.receipt().await);
    let deeds: Vec<audit::Deed> = chain.iter().map(|entry| entry.deed).collect();
    assert_eq!(deeds, [audit::Deed::Granted, audit::Deed::Granted, audit::Deed::Revoked]);
    assert_eq!(audit::verify(&chain, &head), Ok(()));
    let mut changed = chain.clone();
    changed[1].tenant = "other".to_owned();
    let mut dropped = chain.clone();
    dropped.remove(0);
    let mut moved = chain.clone();
    moved.swap(0, 1);
    let cut = chain[..2].to_vec();
    let mut last_changed = chain.clone();
    last_changed[2].at += 1;
    for bad in [changed, dropped, moved, cut, last_changed, vec![]] {
        assert!(audit::verify(&bad, &head).is_err(), "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_make_the_keys_at_once_agree_on_one() {
    let site = Site::new();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let mut event = allocated(1, None);
        event.metadata.subject = InstanceId::new(Millis(1), n);
        let message = envelope(&event.entry(), "b", "2026-01-01T00:00:00Z");
        let process = site.process();
        tasks.spawn(async move { process.handle(&message).await.expect("handled") });
    }
    tasks.join_all().await;
    let key = published_keys(&*site.store).await.expect("no fault").remove(0);
    for n in 0..16 {
        let at = receipt_key(&Tenant::local(), &InstanceId::new(Millis(1), n));
        let item = site.store.get(&at).await.expect("no fault");
        let receipt = Receipt::read(item.as_ref()).expect("readable").expect("there");
        let signed = document_of(&receipt).expect("a document");
        assert!(document::verify(&signed, &key.public_key));
    }
}

#[tokio::test]
async fn a_warm_process_takes_one_read_and_one_write_a_launch_of_at_most_a_kilobyte() {
    let site = Site::new();
    site.with_role().await;
    let process = site.process();
    let hear = async |n: u64| {
        let mut event = allocated(1, Some("web"));
        event.metadata.subject = InstanceId::new(Millis(1), n);
        let message = envelope(&event.entry(), "b", "2026-01-01T00:00:00Z");
        process.handle(&message).await.expect("handled");
    };
    hear(1).await;
    let before = site.store.stats();
    hear(2).await;
    let after = site.store.stats();
    assert_eq!((after.reads - before.reads, after.items_written - before.items_written), (1, 1));
    // One for the receipt, and one for its place among those that hold its role.
    assert_eq!(after.write_units - before.write_units, 2);
}

#[tokio::test]
async fn what_is_recorded_is_repeated_and_a_late_grant_after_the_end_is_answered_with_it() {
    let site = Site::new();
    site.hear(&withdrawn(Outcome::Terminate)).await;
    assert_eq!(site.last().detail_type, "SecurityRevoked");
    site.hear(&allocated(1, None)).await;
    assert_eq!(site.last().detail_type, "SecurityRevoked");
}
