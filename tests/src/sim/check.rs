//! What has to hold after every commit, read straight from the items.

use super::host::SimHost;
use super::store::SimStore;
use eventplane_capacity::fleet::{Host, Sizes};
use eventplane_domain::receipt::Answer;
use eventplane_domain::{HostId, State};
use eventplane_engine::Receipt;
use eventplane_instances::{Record, Request, Want};
use eventplane_store::ItemExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The steps that hold things.
const HOLDERS: [&str; 4] = ["capacity", "network", "storage", "security"];

/// What is remembered from one check to the next.
#[derive(Default)]
pub(crate) struct Checker {
    states: BTreeMap<String, (State, u32)>,
    /// The address that each instance was first seen with.
    addresses: BTreeMap<String, String>,
}

/// All items, read.
#[derive(Default)]
struct Seen {
    hosts: BTreeMap<HostId, Host>,
    records: BTreeMap<String, Record>,
    requests: BTreeMap<String, Request>,
    receipts: BTreeMap<(String, &'static str), Receipt>,
    /// Partitions of instances that a host has an assignment of.
    assigned: BTreeSet<String>,
    taken_gib: i64,
}

fn read(store: &SimStore) -> Seen {
    let mut seen = Seen::default();
    for (key, item) in store.items().iter() {
        match (key.table, key.sort.as_str()) {
            ("capacity", "host") => {
                let id = HostId::parse(&key.partition["@host/".len()..]).expect("a host id");
                let host = Host::read(&id, item).expect("a host");
                seen.hosts.insert(id, host);
            }
            ("storage", "pool") => {
                let number = |name| item.number(name).expect("a pool");
                assert!(number("free_gib") >= 0 && number("free_iops") >= 0, "{key}: {item:?}");
                seen.taken_gib += number("total_gib") - number("free_gib");
            }
            ("instances", "record") => {
                let record = Record::read(item).expect("a record");
                seen.records.insert(key.partition.clone(), record);
            }
            ("instances", "request") => {
                let request = Request::read(item).expect("a request");
                seen.requests.insert(key.partition.clone(), request);
            }
            ("handoff", sort) => {
                if let Some(instance) = sort.strip_prefix("a/") {
                    seen.assigned.insert(instance.to_owned());
                }
            }
            (table, "receipt") if HOLDERS.contains(&table) => {
                let receipt = Receipt::read(Some(item)).expect("a receipt").expect("there");
                seen.receipts.insert((key.partition.clone(), table), receipt);
            }
            _ => {}
        }
    }
    seen
}

impl Seen {
    fn receipt(&self, partition: &str, table: &'static str) -> Option<&Receipt> {
        self.receipts.get(&(partition.to_owned(), table))
    }

    /// Whether an instance holds anything.
    fn holds(&self, partition: &str) -> bool {
        let [capacity, network, storage, security] =
            HOLDERS.map(|table| self.receipt(partition, table));
        capacity.and_then(eventplane_capacity::placement).is_some()
            || network.and_then(eventplane_network::lease).is_some()
            || storage.is_some_and(|one| !eventplane_storage::volumes(one).is_empty())
            || security.and_then(eventplane_security::identity).is_some()
            || self.assigned.contains(partition)
    }
}

impl Checker {
    /// Panics when an invariant does not hold.
    pub(crate) fn check(&mut self, store: &SimStore, hosts: &[Arc<SimHost>]) {
        let seen = read(store);
        books(&seen);
        self.states(&seen);
        self.address_stays(&seen);
        running(&seen, hosts);
        only_owners_end_what_has_run(&seen, hosts);
    }

    /// An address stays its instance's through stops, starts and new placements.
    fn address_stays(&mut self, seen: &Seen) {
        for ((partition, table), receipt) in &seen.receipts {
            let lease = Some(receipt).filter(|_| *table == "network");
            if let Some(lease) = lease.and_then(eventplane_network::lease) {
                let first = self.addresses.entry(partition.clone());
                let first = first.or_insert(lease.private_ip.clone());
                assert_eq!(*first, lease.private_ip, "{partition}");
            }
        }
    }

    /// State never goes back, and what is terminated holds nothing.
    fn states(&mut self, seen: &Seen) {
        for (partition, record) in &seen.records {
            let now = (record.progress.state, record.progress.generation);
            if let Some((state, generation)) = self.states.insert(partition.clone(), now) {
                let went_back = match state {
                    State::Terminated => now.0 != State::Terminated,
                    State::ShuttingDown => {
                        !matches!(now.0, State::ShuttingDown | State::Terminated)
                    }
                    State::Running | State::Stopped | State::Stopping => {
                        now.0 == State::Pending && now.1 == generation
                    }
                    _ => false,
                };
                assert!(!went_back && now.1 >= generation, "{partition}: {state} then {now:?}");
            }
            if now.0 == State::Terminated {
                assert!(!seen.holds(partition), "{partition} is terminated and holds something");
            }
        }
    }
}

/// No host is over-committed, free and held is total, and no address is held twice.
fn books(seen: &Seen) {
    let mut held: BTreeMap<HostId, Sizes> = BTreeMap::new();
    let mut addresses = BTreeSet::new();
    let mut gib = 0;
    for ((partition, table), receipt) in &seen.receipts {
        if *table == "capacity"
            && let Some(placement) = eventplane_capacity::placement(receipt)
        {
            let need = Sizes::needed(&seen.records[partition].spec);
            let sum = held.entry(placement.host).or_default();
            sum.vcpus += need.vcpus;
            sum.memory_mib += need.memory_mib;
        }
        if *table == "network"
            && let Some(lease) = eventplane_network::lease(receipt)
        {
            assert!(addresses.insert(lease.private_ip.clone()), "{} twice", lease.private_ip);
        }
        if *table == "storage" {
            let volumes = eventplane_storage::volumes(receipt);
            gib += volumes.iter().map(|one| i64::from(one.spec.size_gib)).sum::<i64>();
        }
    }
    assert_eq!(seen.taken_gib, gib, "the pools");
    for (id, host) in &seen.hosts {
        let held = held.get(id).copied().unwrap_or_default();
        assert!(host.free.vcpus >= 0 && host.free.memory_mib >= 0, "{host:?}");
        assert_eq!(host.total.vcpus - host.free.vcpus, held.vcpus, "{id}");
        assert_eq!(host.total.memory_mib - host.free.memory_mib, held.memory_mib, "{id}");
    }
}

/// Nothing is given back while a host runs the instance, and no two hosts run one.
fn running(seen: &Seen, hosts: &[Arc<SimHost>]) {
    let mut running = BTreeSet::new();
    for host in hosts {
        for (key, generation) in &host.machine().running {
            let partition = key.tenant.partition(&key.instance_id);
            assert!(running.insert(partition.clone()), "{partition} runs on two hosts");
            let placed = seen
                .receipt(&partition, "capacity")
                .filter(|receipt| receipt.generation == *generation)
                .and_then(eventplane_capacity::placement);
            let here = placed.is_some_and(|placement| placement.host.as_str() == host.id);
            assert!(here, "{partition} runs on {} and its room was given back", host.id);
            let lease = seen.receipt(&partition, "network").and_then(eventplane_network::lease);
            assert!(lease.is_some(), "{partition} runs and its address was given back");
        }
    }
}

/// What has run is terminated, and its volumes deleted, by its owner's request and nothing else.
fn only_owners_end_what_has_run(seen: &Seen, hosts: &[Arc<SimHost>]) {
    for host in hosts {
        for key in &host.machine().ran {
            let partition = key.tenant.partition(&key.instance_id);
            let storage = seen.receipt(&partition, "storage").map(|receipt| receipt.answer);
            let is_asked =
                seen.requests.get(&partition).and_then(Request::wants) == Some(Want::Terminated);
            let is_gone = storage == Some(Answer::GivenBackForGood);
            assert!(is_asked || !is_gone, "{partition} has run, and its volumes are gone");
        }
    }
}

/// What has not come to rest: running, stopped or terminated, as its user wants it.
pub(crate) fn unsettled(store: &SimStore) -> Vec<String> {
    let seen = read(store);
    let unsettled = |(partition, record): &(&String, &Record)| {
        let is_shown = seen.requests.get(*partition).is_none_or(|one| one.is_shown(record));
        record.progress.state.is_moving() || !is_shown
    };
    let told = |(partition, record): (&String, &Record)| {
        let request = seen.requests.get(partition);
        format!("{partition}: {} {:?} {request:?}", record.progress.state, record.progress)
    };
    seen.records.iter().filter(unsettled).map(told).collect()
}

/// How many instances are stopped, and how many generations there were beyond the first ones.
pub(crate) fn standing(store: &SimStore) -> (usize, usize) {
    let records = read(store).records;
    let stopped = records.values().filter(|one| one.progress.state == State::Stopped).count();
    let later = records.values().map(|one| one.progress.generation as usize - 1).sum();
    (stopped, later)
}

/// Panics unless nothing is held at all.
pub(crate) fn nothing_is_held(store: &SimStore) {
    let seen = read(store);
    for partition in seen.records.keys() {
        assert!(!seen.holds(partition), "{partition} holds something");
    }
    for host in seen.hosts.values() {
        assert_eq!(host.free, host.total, "{}", host.id);
    }
    assert_eq!((seen.taken_gib, seen.assigned.len()), (0, 0));
}
