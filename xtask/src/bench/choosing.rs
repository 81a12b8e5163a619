//! Choosing a host among very many: capacity's own look and decision, on a store in memory.

use anyhow::{Context, Result, ensure};
use eventplane_capacity::fleet::{self, Registration};
use eventplane_capacity::{Capacity, TABLE};
use eventplane_domain::{HostId, InstanceId, Millis};
use eventplane_engine::{Dice, Look, Moment, Step};
use eventplane_events::{Data, Event, samples};
use eventplane_local::store::EmbeddedStore;
use eventplane_store::Store;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How many hosts register at the same time.
const REGISTERING: usize = 256;

/// How long each decision took, shortest first.
///
/// # Errors
/// When a host cannot be registered, or none is found for a launch.
pub(super) async fn run(hosts: usize, decisions: usize) -> Result<Vec<Duration>> {
    let store = Arc::new(EmbeddedStore::in_memory(&[TABLE])?);
    let mut tasks = JoinSet::new();
    for first in 0..REGISTERING {
        tasks.spawn(register(store.clone(), first, hosts));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let sample = samples::all().into_iter().next().context("a sample of a request")?;
    let mut dice = Dice::new(0);
    let mut took = Vec::with_capacity(decisions);
    for number in 0..decisions {
        let event = request(&sample, number);
        let now = event.metadata.time;
        let begun = Instant::now();
        let look = Look { store: &*store, now, dice: &mut dice, lost: &[] };
        let facts = Capacity.look(&event, look).await?;
        let decision =
            Capacity.decide(&event, &facts, Moment { now, received: 1, dice: &mut dice });
        took.push(begun.elapsed());
        let is_taken =
            matches!(decision.events[..], [ref emit] if emit.data.name() == "CapacityAllocated");
        ensure!(is_taken, "no host was found: {decision:?}");
        let written = store.transact(decision.writes).await;
        written.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    }
    took.sort_unstable();
    Ok(took)
}

/// Registers every [`REGISTERING`]th host from `first` on.
async fn register(store: Arc<EmbeddedStore>, first: usize, hosts: usize) -> Result<()> {
    for number in (first..hosts).step_by(REGISTERING) {
        let zone = format!("zone-{}", number % 3);
        let host = Registration {
            rack: format!("{zone}-r{}", number / 3 % 4),
            zone,
            vcpus: 128,
            memory_mib: 512 * 1024,
            network_mbps: 50_000,
            gpus: None,
            is_enrolled: false,
        };
        let id = HostId::parse(&format!("host-{number:06}")).map_err(anyhow::Error::msg)?;
        let registered = fleet::register(&*store, &id, &host).await?;
        registered.map_err(|reason| anyhow::anyhow!("{}", reason.message))?;
    }
    Ok(())
}

/// A request for another instance than the sample's, in any zone.
fn request(sample: &Event, number: usize) -> Event {
    let mut event = sample.clone();
    event.metadata.subject = InstanceId::new(Millis(event.metadata.time.0), number as u64);
    if let Data::InstanceRequested(requested) = &mut event.data {
        requested.spec.zone = None;
        requested.spec.subnet_id = None;
        requested.spec.gpus = None;
    }
    event
}
