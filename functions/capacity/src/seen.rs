//! When hosts were last heard of, and what follows from their silence: one that is silent for too
//! long takes nothing new. What it holds stays held: silence is not death.

use crate::fleet::{self, HostState};
use crate::host::{Host, SHARDS, spread};
use eventplane_domain::{HostId, Millis};
use eventplane_engine::Fault;
use eventplane_store::{Condition, Item, ItemExt, Key, Query, Store, Update, Write};

/// How often a host's moment is written, in milliseconds: a write a minute for each host.
pub const SEEN_EVERY_MS: i64 = 60_000;
/// After how long a silence a host takes nothing new, in milliseconds.
pub const SILENT_AFTER_MS: i64 = 180_000;
/// How often whoever watches the hosts looks, in milliseconds.
pub const LOOK_EVERY_MS: i64 = 30_000;
/// After how long without a look the watch has to be taken for blind, in milliseconds: what hosts
/// did meanwhile nobody knows, and their silence counts from its end.
pub const BLIND_AFTER_MS: i64 = 90_000;
/// How many hosts a second are taken back at most: after an outage not all of them are sent
/// launches at once.
pub const BACK_PER_S: i64 = 10;

const AT: &str = "at";
const IMPAIRED: &str = "impaired";
const LOOKED: &str = "looked";
const AWAKE: &str = "awake";
const WINDOW: &str = "second";
const BACK: &str = "back";
/// How many moments one read brings.
const PAGE: usize = 1_000;

/// Where it is kept when a host was last heard of.
#[must_use]
pub fn seen_key(host: &HostId) -> Key {
    Key::new(crate::TABLE.name, partition(spread(host) % SHARDS), host.as_str())
}

fn partition(shard: u64) -> String {
    format!("@seen/{shard}")
}

fn watch_key() -> Key {
    Key::new(crate::TABLE.name, "@fleet", "watch")
}

fn back_key() -> Key {
    Key::new(crate::TABLE.name, "@fleet", "back")
}

/// A host is heard of: what stands under its [`seen_key`] decides what has to be written. One that
/// was silent for too long is taken back, unless too many others are at this moment.
///
/// # Errors
/// A fault of the store.
pub async fn heard(
    store: &dyn Store,
    host: &Host,
    seen: Option<&Item>,
    now: Millis,
) -> Result<(), Fault> {
    let is_impaired = host.state == HostState::Impaired;
    if is_impaired && may_come_back(store, now).await? {
        // An operator who is faster decides: whatever stands then stays.
        let _ = fleet::take_back(store, &host.id).await?;
    }
    let at = seen.and_then(|item| item.number(AT)).map_or(Millis(0), Millis);
    if now.since(at) >= SEEN_EVERY_MS || (is_impaired && seen.is_some_and(|s| s.is_true(IMPAIRED)))
    {
        let item = Item::new().with(AT, now.0);
        store.try_transact(vec![Write::put(seen_key(&host.id), item)]).await?;
    }
    Ok(())
}

/// Counts one host more in this second, if it is not full.
async fn may_come_back(store: &dyn Store, now: Millis) -> Result<bool, Fault> {
    let second = now.0 / 1000;
    let count = Write::update(back_key(), vec![Update::add(BACK, 1)])
        .when(Condition::equals(WINDOW, second))
        .when(Condition::at_most(BACK, BACK_PER_S - 1));
    if store.try_transact(vec![count]).await? {
        return Ok(true);
    }
    let item = Item::new().with(WINDOW, second).with(BACK, 1);
    let next = Write::put(back_key(), item).when(Condition::differs(WINDOW, second));
    Ok(store.try_transact(vec![next]).await?)
}

/// When the watch last looked, and since when it has done so without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Watch {
    pub(crate) looked: Millis,
    pub(crate) awake: Millis,
}

/// The watch after a look now; none while the last one is fresh.
pub(crate) fn look(before: Option<Watch>, now: Millis) -> Option<Watch> {
    let Some(Watch { looked, awake }) = before else {
        return Some(Watch { looked: now, awake: now });
    };
    match now.since(looked) {
        // The clock went back.
        _ if now < looked => Some(Watch { looked: now, awake: now }),
        ..LOOK_EVERY_MS => None,
        LOOK_EVERY_MS..BLIND_AFTER_MS => Some(Watch { looked: now, awake }),
        _ => Some(Watch { looked: now, awake: now }),
    }
}

/// For how long a host has been silent, as far as somebody listened.
pub(crate) fn silence_ms(at: Millis, watch: Watch, now: Millis) -> i64 {
    now.since(at.max(watch.awake))
}

/// What a look at the hosts has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Silent {
    /// Hosts that take nothing new from now on.
    pub impaired: Vec<HostId>,
    /// Hosts that have been silent for as long as they may be before they count as dead, and do
    /// not yet, each with when it was last heard of. None while nobody at all is heard of: then it
    /// is the way to the plane that is gone, and not the hosts.
    pub lost: Vec<(HostId, Millis)>,
}

/// Whether nothing was heard of a lost host since: asked right before it counts as dead.
///
/// # Errors
/// A fault of the store.
pub async fn is_still_silent(store: &dyn Store, host: &HostId, at: Millis) -> Result<bool, Fault> {
    let item = store.get(&seen_key(host)).await?;
    Ok(item.is_some_and(|item| item.is_true(IMPAIRED) && item.number(AT) == Some(at.0)))
}

/// Looks at a host anew that an operator has taken back: if it stays silent it is impaired again.
///
/// # Errors
/// A fault of the store.
pub async fn look_anew(store: &dyn Store, host: &HostId) -> Result<(), Fault> {
    let write = Write::update(seen_key(host), vec![Update::remove(IMPAIRED)]);
    store.try_transact(vec![write.when(Condition::present(IMPAIRED))]).await?;
    Ok(())
}

/// Looks at when hosts were last heard of, if the last look is not fresh: those that are silent for
/// too long take nothing new. `dead_after_ms`: after how long a silence a host counts as lost, if
/// ever.
///
/// # Errors
/// A fault of the store; what was not looked at is with the next look.
pub async fn watch(
    store: &dyn Store,
    now: Millis,
    dead_after_ms: Option<i64>,
) -> Result<Silent, Fault> {
    let mut silent = Silent::default();
    let item = store.get(&watch_key()).await?;
    let before = item.as_ref().and_then(read_watch);
    let Some(watch) = look(before, now) else { return Ok(silent) };
    let written = Item::new().with(LOOKED, watch.looked.0).with(AWAKE, watch.awake.0);
    let write = Write::put(watch_key(), written);
    let write = match before {
        None => write.when(Condition::ItemAbsent),
        Some(before) => write.when(Condition::equals(LOOKED, before.looked.0)),
    };
    if !store.try_transact(vec![write]).await? {
        return Ok(silent);
    }
    let mut newest = Millis(0);
    for shard in 0..SHARDS {
        let mut query = Query::partition(crate::TABLE.name, partition(shard), PAGE);
        loop {
            let page = store.query(&query).await?;
            for (key, item) in &page.items {
                let at = Millis(item.number(AT).unwrap_or(0));
                newest = newest.max(at);
                let silence_ms = silence_ms(at, watch, now);
                if let Ok(host) = HostId::parse(&key.sort) {
                    judge(store, host, item, silence_ms, dead_after_ms, &mut silent).await?;
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
    }
    if silence_ms(newest, watch, now) >= SILENT_AFTER_MS {
        silent.lost.clear();
    }
    Ok(silent)
}

async fn judge(
    store: &dyn Store,
    host: HostId,
    item: &Item,
    silence_ms: i64,
    dead_after_ms: Option<i64>,
    silent: &mut Silent,
) -> Result<(), Fault> {
    let is_marked = item.is_true(IMPAIRED);
    if silence_ms >= SILENT_AFTER_MS && !is_marked {
        if fleet::impair(store, &host).await? {
            silent.impaired.push(host.clone());
        }
        let mark = Write::update(seen_key(&host), vec![Update::set(IMPAIRED, true)])
            .when(Condition::equals(AT, item.number(AT).unwrap_or(0)));
        store.try_transact(vec![mark]).await?;
    }
    let is_lost = dead_after_ms.is_some_and(|ms| silence_ms >= ms.max(SILENT_AFTER_MS));
    if is_lost && is_marked {
        let found = fleet::host(store, &host).await?;
        if found.is_some_and(|found| found.state == HostState::Impaired) {
            silent.lost.push((host, Millis(item.number(AT).unwrap_or(0))));
        }
    }
    Ok(())
}

fn read_watch(item: &Item) -> Option<Watch> {
    Some(Watch { looked: Millis(item.number(LOOKED)?), awake: Millis(item.number(AWAKE)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_only_while_somebody_listened() {
        let first = look(None, Millis(1_000)).expect("the first look");
        assert_eq!(look(Some(first), Millis(1_000 + LOOK_EVERY_MS - 1)), None, "it is fresh");
        let next = Millis(1_000 + LOOK_EVERY_MS);
        let second = look(Some(first), next).expect("a look");
        assert_eq!((second.looked, second.awake), (next, Millis(1_000)));
        let after = next.plus(BLIND_AFTER_MS);
        let third = look(Some(second), after).expect("a look");
        assert_eq!((third.looked, third.awake), (after, after), "it was blind");
        let back = look(Some(third), Millis(5)).expect("a look");
        assert_eq!(back.awake, Millis(5), "the clock went back");
        assert_eq!(silence_ms(Millis(2_000), second, next), next.since(Millis(2_000)));
        assert_eq!(silence_ms(Millis(2_000), third, after), 0, "nobody listened");
    }
}
