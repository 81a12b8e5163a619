//! How many deliveries a second the bus carries, and what a thousand launches cost it.
//!
//! A launch is what the flow publishes of it: handlers that do nothing but publish the next event,
//! as their steps would, from `InstanceRequested` to `InstanceRunning`, and its termination to
//! `InstanceTerminated`. Prints numbers and judges none:
//!
//! `cargo run --release -p eventplane-local --example bus_bench -- [launches [directory to archive into]]`
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use async_trait::async_trait;
use eventplane_engine::SystemClock;
use eventplane_engine::{Failure, Handler, Publisher};
use eventplane_events::Entry;
use eventplane_local::archive::LocalArchive;
use eventplane_local::bus::{BusOptions, DEAD_LETTERS, LocalBus};
use eventplane_local::store::EmbeddedStore;
use eventplane_local::wiring::Wiring;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

const LAUNCHES: usize = 50_000;
/// Launches that are under way at a time.
const UNDER_WAY: usize = 64;
/// About what an event of a launch has.
const DETAIL_BYTES: usize = 1200;
/// Of `/proc/self/stat`, on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a function publishes when it hears an event: `handoff` answers the last of the three.
const FLOW: [(&str, &str, &str); 11] = [
    ("capacity", "InstanceRequested", "CapacityAllocated"),
    ("network", "CapacityAllocated", "NetworkConfigured"),
    ("storage", "CapacityAllocated", "VolumeProvisioned"),
    ("security", "CapacityAllocated", "SecurityConfigured"),
    ("handoff", "SecurityConfigured", "InstanceHandedOff"),
    ("handoff", "InstanceTerminationRequested", "InstanceWithdrawn"),
    ("capacity", "InstanceWithdrawn", "CapacityReleased"),
    ("network", "InstanceWithdrawn", "NetworkReleased"),
    ("storage", "InstanceWithdrawn", "VolumeReleased"),
    ("security", "InstanceWithdrawn", "SecurityRevoked"),
    ("instances", "SecurityRevoked", "InstanceTerminated"),
];

/// A function that only publishes what follows.
struct Follows {
    name: &'static str,
    bus: Arc<OnceLock<Weak<LocalBus>>>,
}

#[async_trait]
impl Handler for Follows {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn deliver(&self, message: &str, _: u32) -> Result<(), Failure> {
        let follows = FLOW.iter().find(|(function, heard, _)| {
            *function == self.name && message[..120.min(message.len())].contains(heard)
        });
        if let (Some((.., event)), Some(bus)) =
            (follows, self.bus.get().and_then(|bus| bus.upgrade()))
        {
            bus.publish(vec![entry(self.name, event)]).await?;
        }
        Ok(())
    }
}

fn entry(function: &str, event: &'static str) -> Entry {
    let detail = format!(r#"{{"metadata":"{}"}}"#, "x".repeat(DETAIL_BYTES));
    Entry { source: format!("eventplane.{function}"), detail_type: event, detail }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let launches = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(LAUNCHES);
    let store = Arc::new(EmbeddedStore::in_memory(&[DEAD_LETTERS]).expect("a store"));
    let wiring = Wiring::built_in();
    let bus = LocalBus::new(wiring, store, Arc::new(SystemClock), BusOptions::default());
    let archive = std::env::args()
        .nth(2)
        .map(|dir| LocalArchive::in_dir(dir.as_ref(), Wiring::built_in()).expect("a directory"));
    if let Some(archive) = &archive {
        bus.archive_to(archive.clone());
    }
    let of_handlers = Arc::new(OnceLock::new());
    let names = ["capacity", "network", "storage", "security", "handoff", "instances"];
    let handler = |name| Arc::new(Follows { name, bus: of_handlers.clone() }) as Arc<dyn Handler>;
    bus.start(names.map(handler).into());
    of_handlers.set(Arc::downgrade(&bus)).expect("set once");

    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut slowest = Duration::ZERO;
    for _ in 0..launches.div_ceil(UNDER_WAY) {
        let wave = Instant::now();
        for event in ["InstanceRequested", "InstanceRunning", "InstanceTerminationRequested"] {
            let entries = (0..UNDER_WAY).map(|_| entry("api", event)).collect();
            bus.publish(entries).await.expect("taken");
        }
        bus.idle().await;
        slowest = slowest.max(wave.elapsed());
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let stats = bus.stats();
    let launched = launches.div_ceil(UNDER_WAY) * UNDER_WAY;
    println!("{launched} launches and terminations, {UNDER_WAY} at a time, in {seconds:.2} s");
    println!("{:>10.0} launches/s", launched as f64 / seconds);
    println!("{:>10.0} events/s", stats.published as f64 / seconds);
    println!("{:>10.0} deliveries/s", stats.deliveries as f64 / seconds);
    println!("{:>10.3} CPU-seconds per 1,000 launches", cpu / launched as f64 * 1000.0);
    println!("{:>10.2} CPU-microseconds per delivery", cpu / stats.deliveries as f64 * 1e6);
    println!("{:>10.1} deliveries per launch", stats.deliveries as f64 / launched as f64);
    println!("{:>10.2} ms for the slowest wave", slowest.as_secs_f64() * 1000.0);
    if let Some(archive) = &archive {
        println!("{:>10} events that the archive had to drop", archive.dropped());
    }
    bus.stop().await;
}

/// What this process has used of the CPUs, in user and system mode.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    (ticks(13).unwrap_or(0.0) + ticks(14).unwrap_or(0.0)) / TICKS_PER_SECOND
}
