//! How many launches a second the embedded store carries, and what a thousand of them cost.
//!
//! A launch is six transactions in a row, as the steps make them: each puts a receipt of about 300
//! bytes under a key that grows with time, and updates one of a few hundred resources. The first
//! step's receipts also stand in an index. Prints numbers and judges none:
//!
//! `cargo run --release -p eventplane-local --example store_bench -- [seconds]`
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use eventplane_local::store::{EmbeddedStore, StoreStats};
use eventplane_store::{Condition, Index, Item, ItemExt, Key, Store, Table, Update, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const STEPS: [Table; 6] = [
    Table {
        name: "instances",
        indexes: &[Index { name: "by_state", partition: "state", sort: "since" }],
    },
    Table { name: "capacity", indexes: &[] },
    Table { name: "network", indexes: &[] },
    Table { name: "storage", indexes: &[] },
    Table { name: "security", indexes: &[] },
    Table { name: "handoff", indexes: &[] },
];

const RESOURCES: u64 = 256;
const SECONDS: u64 = 5;
/// Of `/proc/self/stat`, on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let duration = Duration::from_secs(seconds);
    for callers in [1, 64] {
        let store = EmbeddedStore::in_memory(&STEPS).expect("a store in memory");
        measure("memory", store, callers, duration).await;
    }
    for callers in [1, 64] {
        let dir = tempfile::tempdir().expect("a directory for the file");
        let path = dir.path().join("store");
        let store = EmbeddedStore::open(&path, &STEPS).expect("a store in a file");
        measure("file", store, callers, duration).await;
        let bytes = std::fs::metadata(&path).expect("the file is there").len();
        println!("       the file has {} MiB", bytes / (1 << 20));
        let opening = Instant::now();
        EmbeddedStore::open(&path, &STEPS).expect("it opens again");
        println!("       and opens again in {} ms", opening.elapsed().as_millis());
    }
}

async fn measure(mode: &str, store: EmbeddedStore, callers: u64, duration: Duration) {
    let store = Arc::new(store);
    let (launches, next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (store, launches, next) = (store.clone(), launches.clone(), next.clone());
        tasks.spawn(async move {
            while start.elapsed() < duration {
                launch(&store, start, next.fetch_add(1, Ordering::Relaxed)).await;
                launches.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    #[expect(clippy::cast_precision_loss, reason = "a few digits are enough")]
    let n = |n: u64| n as f64;
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let launches = n(launches.load(Ordering::Relaxed));
    let StoreStats { transactions, groups, write_units, .. } = store.stats();
    println!(
        "{mode:6} {callers:2} callers: {:7.0} launches/s, {:.3} CPU s per 1,000, \
         {:.2} ms a transaction, {:.1} transactions a commit, {:.1} write units a launch",
        launches / elapsed,
        cpu / launches * 1000.0,
        elapsed * 1000.0 * n(callers) / n(transactions),
        n(transactions) / n(groups),
        n(write_units) / launches,
    );
}

async fn launch(store: &EmbeddedStore, start: Instant, n: u64) {
    let millis = 0x199_0000_0000 + start.elapsed().as_millis();
    let id = format!("i-{millis:011x}{:06x}", n.wrapping_mul(0x9e37_79b9) & 0xff_ffff);
    for (at, table) in STEPS.iter().enumerate() {
        let receipt = Item::new()
            .with("generation", 1)
            .with("answer", "taken")
            .with("state", "pending")
            .with("since", format!("{millis:011x}"))
            .with("deadline", 1_756_000_000_000)
            .with("events", format!(r#"{{"id":"{id}","detail":"{}"}}"#, "x".repeat(150)));
        let resource = n.wrapping_mul(7 + at as u64) % RESOURCES;
        let take = vec![Update::add("taken", 1), Update::set("last", id.as_str())];
        let resource = Key::new(table.name, format!("resource-{resource:03}"), "resource");
        let writes = vec![
            Write::put(Key::new(table.name, id.as_str(), "receipt"), receipt)
                .when(Condition::ItemAbsent),
            Write::update(resource, take).when(Condition::absent_or_at_most("taken", i64::MAX - 1)),
        ];
        store.transact(writes).await.expect("it is written");
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let times = behind_name.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}
