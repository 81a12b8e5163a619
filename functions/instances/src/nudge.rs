//! When the sweeper looks at an instance: the moment that records and requests carry, and the index
//! of those moments.

use crate::record::{GENERATION, LET_GO, STATE, record_key};
use eventplane_domain::{InstanceId, Millis, Mutant, State, Tenant, planted};
use eventplane_store::{Condition, Item, ItemExt, Key, Store, StoreFault, Update, Write};

/// The attribute of records and requests that says when the sweeper is to look at them.
pub(crate) const NUDGE_AT: &str = "nudge_at";
/// The attribute that says how often it has.
pub(crate) const NUDGES: &str = "nudges";
/// The attribute that says since when it has been late.
const LATE: &str = "late";
/// Into how many partitions [`OPEN`](crate::OPEN) is divided, so that none of them is hot.
pub const OPEN_SHARDS: u64 = 8;
/// How long after a change the sweeper waits before it nudges, in milliseconds.
pub const NUDGE_AFTER_MS: i64 = 30_000;
/// How often the wait is doubled: what does not move for long is looked at every half hour, so that
/// a step that fails for good does not fill its dead letters.
const DOUBLED_MAX: u32 = 6;

/// How long the sweeper waits after it has nudged an instance so often in the same state.
#[must_use]
pub fn nudge_wait_ms(nudges: u32) -> i64 {
    NUDGE_AFTER_MS << nudges.min(DOUBLED_MAX)
}

/// When the sweeper first looks at a launch that began now: not after the end of its time.
pub(crate) fn first_nudge(now: Millis, deadline: Millis) -> Millis {
    now.plus(NUDGE_AFTER_MS).min(deadline.plus(1)).max(now)
}

pub(crate) fn shard_of(id: &InstanceId) -> u64 {
    id.digits().bytes().fold(0, |sum, byte| sum + u64::from(byte))
}

/// When the sweeper is to look at the item, if it is to at all.
#[must_use]
pub fn nudge_at(item: &Item) -> Option<Millis> {
    item.text(NUDGE_AT).and_then(|ms| ms.parse().ok()).map(Millis)
}

/// How often the sweeper has looked at the item since it was written anew.
#[must_use]
pub fn nudges(item: &Item) -> u32 {
    item.number(NUDGES).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// Since when the record or request that `item` is has been late, if it was nudged and has not gone
/// on since: whoever writes it anew forgets that.
#[must_use]
pub fn late_since(item: &Item) -> Option<Millis> {
    item.number(LATE).map(Millis)
}

/// Sets the next look of the sweeper at the record or request under `key`, with since when it has
/// been late, or ends it; fails if that was changed since it was `due`.
#[must_use]
pub fn move_nudge(key: Key, due: Millis, next: Option<(Millis, Millis)>) -> Write {
    let updates = match next {
        Some((next, late)) => vec![
            Update::set(NUDGE_AT, nudge_sort(next)),
            Update::set(LATE, late.0),
            Update::add(NUDGES, 1),
        ],
        None => vec![Update::remove("open"), Update::remove(NUDGE_AT)],
    };
    let is_unchanged = Condition::equals(NUDGE_AT, nudge_sort(due));
    let conditions = (!planted(Mutant::SweeperWithoutConditionalBump)).then_some(is_unchanged);
    Write::update(key, updates).when_all(conditions)
}

/// Lets the sweeper look at an instance whose host has let this generation of it go unasked: to be
/// called before that is published, so that it is heard also if every message of it is lost. What
/// does not run yet by its record is looked at once it does: that it began may be heard later than
/// that it ended.
///
/// # Errors
/// A fault of the store.
pub async fn look_at_let_go(
    store: &dyn Store,
    tenant: &Tenant,
    id: &InstanceId,
    generation: u32,
    now: Millis,
) -> Result<(), StoreFault> {
    let write = |state: State, updates| {
        Write::update(record_key(tenant, id), updates)
            .when(Condition::equals(STATE, state.name()))
            .when(Condition::equals(GENERATION, i64::from(generation)))
    };
    let mark = write(State::Pending, vec![Update::set(LET_GO, true)]);
    let look = vec![
        Update::set("open", open_partition(shard_of(id))),
        Update::set(NUDGE_AT, nudge_sort(now.plus(NUDGE_AFTER_MS))),
    ];
    let look = write(State::Running, look).when(Condition::absent(NUDGE_AT));
    // In this order: what is no longer pending when it is tried runs when it is tried again. Neither
    // is written where the instance ends, or is looked at already.
    if !store.try_transact(vec![mark]).await? {
        store.try_transact(vec![look]).await?;
    }
    Ok(())
}

/// One of the partitions of [`OPEN`](crate::OPEN).
#[must_use]
pub fn open_partition(shard: u64) -> String {
    format!("open-{}", shard % OPEN_SHARDS)
}

/// The sort key of [`OPEN`](crate::OPEN): texts in the order of their moments.
pub(crate) fn nudge_sort(at: Millis) -> String {
    format!("{:013}", at.0.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_move_is_looked_at_ever_more_seldom_up_to_half_an_hour() {
        let waits_s: Vec<i64> = (0..9).map(|nudges| nudge_wait_ms(nudges) / 1000).collect();
        assert_eq!(waits_s, [30, 60, 120, 240, 480, 960, 1920, 1920, 1920]);
    }
}
