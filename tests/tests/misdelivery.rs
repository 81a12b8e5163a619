//! Events that come to functions whose rules would never have let them through: a wrong rule, or a
//! wrong hand.

use eventplane_domain::{InstanceId, Tenant};
use eventplane_engine::OsChance;
use eventplane_events::{Event, envelope, samples};
use eventplane_keys::{LocalMasterKey, MasterKey};
use eventplane_local::wiring::Wiring;
use eventplane_plane::handlers;
use eventplane_tests::books::Books;
use eventplane_tests::site::Site;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_function_should_never_hear_changes_nothing() {
    let site = Site::with_hosts(6).await;
    let id = site.launch_micro().await;
    let running = site.until(&id, "running").await;
    site.plane.bus().idle().await;
    let ports = site.plane.ports();
    let key: Arc<dyn MasterKey> =
        Arc::new(LocalMasterKey::from_bytes("none", [0; 32], Arc::new(OsChance::default())));
    let wiring = Wiring::built_in();
    let mut handed = 0;
    for handler in handlers(ports, &key, 60_000) {
        for sample in samples::all() {
            let mut event: Event = sample;
            event.metadata.subject = InstanceId::parse(&id).expect("an id");
            event.metadata.tenant = Tenant::local();
            event.metadata.generation = 1;
            let message = envelope(&event.entry(), "e-1", "2026-11-25T00:00:00Z");
            let read = serde_json::from_str(&message).expect("JSON");
            if wiring.hearers(&read).any(|function| function == handler.name()) {
                continue;
            }
            let told = format!("{} by {}", event.data.name(), handler.name());
            handler.handle(&message).await.unwrap_or_else(|failure| panic!("{told}: {failure}"));
            site.plane.bus().idle().await;
            assert_eq!(site.get(&format!("/v1/instances/{id}")).await, running, "{told}");
            handed += 1;
        }
    }
    assert!(handed > 60, "only {handed} events were handed over");
    Books::read(&**site.plane.store(), &Tenant::local()).await;
    site.plane.shutdown().await;
}
