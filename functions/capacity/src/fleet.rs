//! The fleet as people manage it: hosts register, are drained, come back, and are declared dead.

pub use crate::host::{Host, HostState, Sizes, host_key};

use eventplane_domain::{GpuNeed, HostId, Reason};
use eventplane_engine::{Fault, TRIES_MAX};
use eventplane_store::{Item, Key, Query, Store, Update, Value, Write};
use serde::Serialize;
use std::collections::BTreeMap;

/// How a host introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its zone.
    pub zone: String,
    /// Its rack.
    pub rack: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Network bandwidth in Mbps.
    pub network_mbps: u32,
    /// Its GPUs, if it has any: all of one model.
    pub gpus: Option<GpuNeed>,
    /// Whether its own agent says so, which has enrolled.
    pub is_enrolled: bool,
}

/// What one zone has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ZoneSummary {
    /// The zone.
    pub zone: String,
    /// How many hosts it has.
    pub hosts: u64,
    /// How many of them take new instances.
    pub active: u64,
    /// How many of them are being drained.
    pub draining: u64,
    /// How many of them have been silent for too long.
    pub impaired: u64,
    /// How many of them have been declared dead.
    pub dead: u64,
    /// The room of all of them.
    pub total: Sizes,
    /// The room that nobody holds.
    pub free: Sizes,
}

/// How many hosts one read of a list brings.
const PAGE: usize = 100;

/// Where the fleet as a whole is counted: its hosts, and the groups of zone and GPU model.
pub(crate) fn fleet_key() -> Key {
    Key::new(crate::TABLE.name, "@fleet", "fleet")
}
/// The partition in which every host has an item of nothing but its id.
pub(crate) const ROSTER: &str = "@hosts";
/// How many hosts the fleet has.
pub(crate) const HOSTS: &str = "hosts";

fn group(zone: &str, model: &str) -> String {
    format!("g/{zone}/{model}")
}

/// The fleet's groups of hosts: (zone, model, how many).
pub(crate) fn groups(fleet: &Item) -> impl Iterator<Item = (&str, &str, i64)> {
    fleet.iter().filter_map(|(name, value)| {
        let (zone, model) = name.strip_prefix("g/")?.split_once('/')?;
        let Value::N(count) = value else { return None };
        Some((zone, model, *count))
    })
}

fn invalid(message: impl Into<String>) -> Reason {
    Reason::new("InvalidParameterValue", message)
}

fn check_name(what: &str, name: &str) -> Result<(), Reason> {
    let good = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let right = "has 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit";
    if good { Ok(()) } else { Err(invalid(format!("a {what} {right}; not `{name}`"))) }
}

fn check(registration: &Registration) -> Result<(), Reason> {
    check_name("zone", &registration.zone)?;
    check_name("rack", &registration.rack)?;
    let sizes = [
        ("vcpus", registration.vcpus),
        ("memory_mib", registration.memory_mib),
        ("network_mbps", registration.network_mbps),
    ];
    for (name, size) in sizes {
        if size == 0 {
            return Err(invalid(format!("`{name}` has to be at least 1")));
        }
    }
    match &registration.gpus {
        None => Ok(()),
        Some(gpus) if gpus.count == 0 => {
            Err(invalid("`gpus.count` has to be at least 1; leave `gpus` out if there are none"))
        }
        Some(gpus) => check_name("GPU model", &gpus.model),
    }
}

fn sizes(registration: &Registration) -> Sizes {
    Sizes {
        vcpus: i64::from(registration.vcpus),
        memory_mib: i64::from(registration.memory_mib),
        network_mbps: i64::from(registration.network_mbps),
        gpus: registration.gpus.as_ref().map_or(0, |gpus| i64::from(gpus.count)),
    }
}

fn newcomer(id: &HostId, registration: &Registration) -> Host {
    let total = sizes(registration);
    Host {
        id: id.clone(),
        zone: registration.zone.clone(),
        rack: registration.rack.clone(),
        state: HostState::Active,
        gpu_model: registration.gpus.as_ref().map(|gpus| gpus.model.clone()),
        total,
        free: total,
        is_enrolled: registration.is_enrolled,
    }
}

fn admit(host: &Host) -> Vec<Write> {
    let roster = Key::new(crate::TABLE.name, ROSTER, host.id.as_str());
    let counts = vec![Update::add(HOSTS, 1), Update::add(group(&host.zone, host.model()), 1)];
    let mut writes = host.create();
    writes.push(Write::put(roster, Item::new()));
    writes.push(Write::update(fleet_key(), counts));
    writes
}

/// What a host that registers again changes; nothing if it is as it was.
fn readmit(host: &Host, registration: &Registration) -> Result<Vec<Write>, Reason> {
    let again = newcomer(&host.id, registration);
    if (again.zone.as_str(), again.model()) != (host.zone.as_str(), host.model()) {
        let message = format!(
            "{} is registered in zone {} with GPU model {}: a machine that moves or changes its \
             GPUs registers under a new id",
            host.id,
            host.zone,
            host.model()
        );
        return Err(Reason::new("IncorrectHostState", message));
    }
    if again.total == host.total && again.rack == host.rack {
        return Ok(vec![]);
    }
    host.change_sizes(again.total, &again.rack).ok_or_else(|| {
        let held = host.total.minus(host.free);
        let message = format!(
            "{} holds {} vCPUs, {} MiB, {} Mbps and {} GPUs for instances: the new sizes have to \
             be at least that",
            host.id, held.vcpus, held.memory_mib, held.network_mbps, held.gpus
        );
        Reason::new("IncorrectHostState", message)
    })
}

/// Registers a host. Once more the same changes nothing; other sizes change its total and its free
/// room by the difference.
///
/// # Errors
/// A refusal when the registration is not possible (inner), or a fault of the store.
pub async fn register(
    store: &dyn Store,
    id: &HostId,
    registration: &Registration,
) -> Result<Result<Host, Reason>, Fault> {
    if let Err(reason) = check(registration) {
        return Ok(Err(reason));
    }
    change(store, id, |host| match host {
        None => Ok(admit(&newcomer(id, registration))),
        Some(host) => readmit(host, registration),
    })
    .await
}

/// Drains a host, takes it back, or writes down an operator's word that it is dead.
///
/// # Errors
/// A refusal when there is no such host (inner), or a fault of the store.
pub async fn set_state(
    store: &dyn Store,
    id: &HostId,
    state: HostState,
) -> Result<Result<Host, Reason>, Fault> {
    change(store, id, |host| match host {
        None => Err(not_found(id)),
        Some(host) if host.state == state => Ok(vec![]),
        Some(host) => Ok(host.change_state(state)),
    })
    .await
}

/// A host is silent for too long: one that takes new instances takes none from now on. Whether it
/// was one.
pub(crate) async fn impair(store: &dyn Store, id: &HostId) -> Result<bool, Fault> {
    change_from(store, id, |host| host.state == HostState::Active, HostState::Impaired).await
}

/// A host that was silent is heard of again. Whether it was one.
pub(crate) async fn take_back(store: &dyn Store, id: &HostId) -> Result<bool, Fault> {
    change_from(store, id, |host| host.state == HostState::Impaired, HostState::Active).await
}

async fn change_from(
    store: &dyn Store,
    id: &HostId,
    from: fn(&Host) -> bool,
    to: HostState,
) -> Result<bool, Fault> {
    let mut was = false;
    let changed = change(store, id, |host| {
        was = host.is_some_and(from);
        Ok(host.filter(|_| was).map(|host| host.change_state(to)).unwrap_or_default())
    });
    match host(store, id).await? {
        // Nothing to change of a host that is not there.
        None => Ok(false),
        Some(_) => changed.await.map(|_| was),
    }
}

/// The refusal when there is no such host.
#[must_use]
pub fn not_found(id: &HostId) -> Reason {
    let message = format!("there is no host {id}: it has to register first");
    Reason::new("InvalidHostID.NotFound", message)
}

/// Changes one host, and looks again while others change it at the same time.
async fn change(
    store: &dyn Store,
    id: &HostId,
    mut writes: impl FnMut(Option<&Host>) -> Result<Vec<Write>, Reason> + Send,
) -> Result<Result<Host, Reason>, Fault> {
    for _ in 0..TRIES_MAX {
        let found = host(store, id).await?;
        let writes = match writes(found.as_ref()) {
            Ok(writes) => writes,
            Err(reason) => return Ok(Err(reason)),
        };
        match found {
            Some(host) if writes.is_empty() => return Ok(Ok(host)),
            _ => {}
        }
        if !store.try_transact(writes).await? {
            continue;
        }
        if let Some(host) = host(store, id).await? {
            return Ok(Ok(host));
        }
    }
    Err(Fault::Contention { tries: TRIES_MAX, contended: host_key(id).to_string() })
}

/// One host, if there is such a one.
///
/// # Errors
/// A fault of the store.
pub async fn host(store: &dyn Store, id: &HostId) -> Result<Option<Host>, Fault> {
    let item = store.get(&host_key(id)).await?;
    item.map(|item| Host::read(id, &item)).transpose()
}

/// A page of hosts in the order of their ids, those after the id `after`; and the last id, if
/// there may be more.
///
/// # Errors
/// A fault of the store.
pub async fn hosts(
    store: &dyn Store,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<Host>, Option<String>), Fault> {
    let mut query = Query::partition(crate::TABLE.name, ROSTER, limit.max(1) + 1);
    if let Some(after) = after {
        // The first key behind it: no id holds a character below `!`.
        query = query.starting_at(format!("{after}!"));
    }
    let page = store.query(&query).await?;
    let mut ids = roster_ids(page.items.iter().map(|(key, _)| key));
    let more = ids.len() > limit;
    ids.truncate(limit);
    let hosts = read_hosts(store, &ids).await?;
    let last = ids.last().filter(|_| more).map(ToString::to_string);
    Ok((hosts, last))
}

pub(crate) fn roster_ids<'k>(keys: impl Iterator<Item = &'k Key>) -> Vec<HostId> {
    keys.filter_map(|key| HostId::parse(&key.sort).ok()).collect()
}

pub(crate) async fn read_hosts(store: &dyn Store, ids: &[HostId]) -> Result<Vec<Host>, Fault> {
    let keys: Vec<Key> = ids.iter().map(host_key).collect();
    let items = store.batch_get(&keys).await?;
    let found = ids.iter().zip(items).filter_map(|(id, item)| Some((id, item?)));
    found.map(|(id, item)| Host::read(id, &item)).collect()
}

/// What every zone has, counted host by host.
///
/// # Errors
/// A fault of the store.
pub async fn summary(store: &dyn Store) -> Result<Vec<ZoneSummary>, Fault> {
    let mut zones: BTreeMap<String, ZoneSummary> = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let (page, next) = hosts(store, after.as_deref(), PAGE).await?;
        for host in page {
            let zone = zones.entry(host.zone.clone()).or_default();
            zone.zone = host.zone;
            zone.hosts += 1;
            match host.state {
                HostState::Active => zone.active += 1,
                HostState::Draining => zone.draining += 1,
                HostState::Impaired => zone.impaired += 1,
                HostState::Dead => zone.dead += 1,
            }
            zone.total = zone.total.plus(host.total);
            zone.free = zone.free.plus(host.free);
        }
        if next.is_none() {
            return Ok(zones.into_values().collect());
        }
        after = next;
    }
}
