//! Strange events at the functions themselves: none panics, whatever an event of the right form says,
//! and what a function publishes then is an event too.

#[path = "../../shared/events/tests/strange/draw.rs"]
mod draw;

use async_trait::async_trait;
use draw::{change, changed, sample};
use eventplane_engine::{Failure, Fault, OsChance, Ports, Publisher, SystemClock};
use eventplane_events::{Entry, KINDS, envelope, read};
use eventplane_keys::{LocalMasterKey, MasterKey};
use eventplane_local::store::EmbeddedStore;
use eventplane_plane::{TABLES, handlers};
use eventplane_storage::PoolSizes;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use tokio::runtime::Builder;

/// How many events one world hears, each of them changed, or as it should be.
const EVENTS: usize = 6;

/// Keeps what is published.
#[derive(Default)]
struct Kept(Mutex<Vec<Entry>>);

#[async_trait]
impl Publisher for Kept {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        self.0.lock().expect("no panic").extend(entries);
        Ok(())
    }
}

/// Hands each message to every function, whether it has a rule for it or not.
async fn deliver(messages: &[String]) -> Vec<Entry> {
    let store = Arc::new(EmbeddedStore::in_memory(TABLES).expect("a store"));
    let (bus, chance) = (Arc::new(Kept::default()), Arc::new(OsChance::default()));
    let key = LocalMasterKey::from_bytes("strange", [7; 32], chance.clone());
    let master: Arc<dyn MasterKey> = Arc::new(key);
    let zones = ["local-a".to_owned()];
    let tenant = eventplane_domain::Tenant::local();
    eventplane_network::seed(&*store, &tenant, &zones).await.expect("seeded");
    eventplane_storage::seed(&*store, &zones, PoolSizes::default()).await.expect("seeded");
    let ports = Ports { store, bus: bus.clone(), clock: Arc::new(SystemClock), chance };
    for message in messages {
        for function in handlers(&ports, &master, 60_000) {
            match function.deliver(message, 1).await {
                Ok(()) | Err(Failure::Retry(_)) => {}
                Err(Failure::SetAside(why)) => {
                    assert!(read(message).is_err(), "{why}: {message}");
                }
            }
        }
    }
    let mut kept = bus.0.lock().expect("no panic");
    std::mem::take(&mut *kept)
}

/// A quarter of the cases that others have: each of these is a world of its own.
fn quarter() -> ProptestConfig {
    let all = ProptestConfig::default();
    ProptestConfig { cases: all.cases.div_ceil(4), ..all }
}

proptest! {
    #![proptest_config(quarter())]

    #[test]
    fn no_function_panics_at_a_strange_event_and_what_it_publishes_is_one(
        kinds in prop::collection::vec(
            (any::<usize>(), prop::collection::vec((any::<usize>(), change()), 0..3)), EVENTS,
        ),
    ) {
        let messages: Vec<String> =
            kinds.iter().map(|(kind, changes)| changed(sample(*kind), changes)).collect();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        for entry in runtime.block_on(deliver(&messages)) {
            let message = envelope(&entry, "b-1", "2026-11-23T00:00:00Z");
            prop_assert!(read(&message).is_ok(), "{}", message);
        }
    }
}

/// That this reaches the functions: as they should be, the samples make them publish.
#[test]
fn the_samples_themselves_are_handled_and_answered() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let messages: Vec<String> = (0..KINDS.len()).map(|kind| sample(kind).to_string()).collect();
    let published = runtime.block_on(deliver(&messages));
    assert!(published.len() >= 5, "{published:#?}");
}
