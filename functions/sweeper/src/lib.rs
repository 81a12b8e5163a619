//! The sweeper nudges what is late: it publishes an instance's last request again, and has no
//! other verb. Every step answers a repeated request with what it has recorded, so the wave runs
//! on to the point where it had stopped.

mod decide;
mod hosts;
mod mode;

pub use decide::Open;
pub use hosts::{declare_dead, halt_all, watch_hosts};
pub use mode::{Lately, Signals, next, sweep_and_judge};

use eventplane_domain::Millis;
use eventplane_engine::{Fault, Origin, Ports, metric, stamp};
use eventplane_events::Entry;
use eventplane_instances::{
    OPEN, OPEN_SHARDS, TABLE, late_since, move_nudge, nudge_at, nudges, open_partition,
};
use eventplane_store::{Item, Key, Query, Table, Write};
use std::collections::BTreeSet;
use tracing::{info, warn};

/// The tables that it reads and writes: instances that wait, and hosts that are silent.
pub const TABLES: [Table; 3] =
    [eventplane_capacity::TABLE, eventplane_handoff::TABLE, eventplane_instances::TABLE];

/// How many instances one read brings.
const PAGE: usize = 50;
/// How many instances one sweep nudges at most: what is left waits for the next.
const SWEEP_MAX: usize = 5_000;

/// What a sweep has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many instances were late, and were nudged.
    pub nudged: usize,
    /// How many instances could not be read: each is named in the log.
    pub unreadable: usize,
    /// How many of the nudged are launches that had been nudged before, and have not gone on since.
    pub still_late: usize,
    /// For how long the oldest of these has been late, in milliseconds.
    pub oldest_late_ms: i64,
}

/// Nudges every instance whose time has come.
///
/// # Errors
/// A fault of the store or the bus; what was left is nudged by the next sweep.
pub async fn sweep(ports: &Ports) -> Result<Swept, Fault> {
    let now = ports.clock.now();
    walk(ports, now, |late: Millis| late <= now).await
}

/// Nudges every instance that is on its way to another state, late or not: for the start of a
/// plane whose queues did not outlive the process before it.
///
/// # Errors
/// A fault of the store or the bus.
pub async fn republish_open(ports: &Ports) -> Result<Swept, Fault> {
    walk(ports, ports.clock.now(), |_| true).await
}

async fn walk(ports: &Ports, now: Millis, is_due: impl Fn(Millis) -> bool) -> Result<Swept, Fault> {
    let mut swept = Swept::default();
    for shard in 0..OPEN_SHARDS {
        let mut query = Query::index(TABLE.name, OPEN, open_partition(shard), PAGE);
        // What is nudged moves to a later place of the index, and may be met there again.
        let mut seen = BTreeSet::new();
        loop {
            let page = ports.store.query(&query).await?;
            let due = |(key, item): &(Key, Item)| {
                nudge_at(item).is_some_and(&is_due).then(|| key.partition.clone())
            };
            let mut partitions: BTreeSet<String> = page.items.iter().filter_map(due).collect();
            partitions.retain(|partition| seen.insert(partition.clone()));
            let past_the_due = page.items.last().is_some_and(|last| due(last).is_none());
            nudge_all(ports, now, partitions, &mut swept).await?;
            match page.next {
                Some(next) if !past_the_due && swept.nudged < SWEEP_MAX => query.after = Some(next),
                _ => break,
            }
        }
    }
    if swept.nudged > 0 {
        metric("SweeperRescues", "Count", i64::try_from(swept.nudged).unwrap_or(i64::MAX));
    }
    Ok(swept)
}

/// Nudges the instances of these partitions, after moving each one's next nudge on: whoever moves
/// it is who nudges.
async fn nudge_all(
    ports: &Ports,
    now: Millis,
    partitions: BTreeSet<String>,
    swept: &mut Swept,
) -> Result<(), Fault> {
    let keys: Vec<Key> = partitions
        .iter()
        .flat_map(|partition| {
            ["record", "request"].map(|sort| Key::new(TABLE.name, partition.as_str(), sort))
        })
        .collect();
    let items = ports.store.batch_get(&keys).await?;
    let mut entries: Vec<Entry> = Vec::new();
    for (keys, items) in keys.chunks(2).zip(items.chunks(2)) {
        let open = match Open::read(items) {
            Ok(open) => open,
            Err(fault) => {
                warn!(key = %keys[0], %fault, "not swept");
                swept.unreadable += 1;
                continue;
            }
        };
        if !move_on(ports, now, keys, items, &open).await? {
            continue;
        }
        if let (Some(record), Some(emit)) = (&open.record, open.nudge()) {
            info!(instance = %record.id, tenant = %record.tenant, state = %record.progress.state,
                generation = record.progress.generation, nudges = record.nudges + 1,
                event = emit.data.name(), "nudged what was late");
            let (tenant, subject) = (&record.tenant, &record.id);
            let origin = Origin::Fresh { tenant, subject, traceparent: None };
            entries.push(stamp(ports, "sweeper", &origin, emit).entry());
            let late = items.iter().flatten().filter_map(late_since).min();
            if let Some(since) = late.filter(|_| open.is_launch()) {
                swept.still_late += 1;
                swept.oldest_late_ms = swept.oldest_late_ms.max(now.since(since));
            }
        }
    }
    swept.nudged += entries.len();
    if entries.is_empty() { Ok(()) } else { ports.bus.publish(entries).await }
}

/// Sets the next nudge of the record and of the request, or ends the request's once the record
/// shows it; false if either was changed meanwhile, as by another sweep.
async fn move_on(
    ports: &Ports,
    now: Millis,
    keys: &[Key],
    items: &[Option<Item>],
    open: &Open,
) -> Result<bool, Fault> {
    let mut writes: Vec<Write> = Vec::new();
    for (key, item) in keys.iter().zip(items) {
        let Some(item) = item else { continue };
        if let Some(due) = nudge_at(item) {
            let ends = key.sort == "request" && open.request_is_shown();
            let next = open.next_look(nudges(item), now);
            let since = late_since(item).unwrap_or(due);
            writes.push(move_nudge(key.clone(), due, (!ends).then_some((next, since))));
        }
    }
    if writes.is_empty() {
        return Ok(false);
    }
    Ok(ports.store.try_transact(writes).await?)
}

#[cfg(test)]
mod tests;
