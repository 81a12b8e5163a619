//! What has to hold after every commit, read straight from the items.

use super::host::SimHost;
use super::store::SimStore;
use eventplane_capacity::fleet::{Host, Sizes};
use eventplane_domain::{HostId, State};
use eventplane_engine::Receipt;
use eventplane_instances::Record;
use eventplane_store::ItemExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The steps that hold things.
const HOLDERS: [&str; 4] = ["capacity", "network", "storage", "security"];

/// What is remembered from one check to the next.
#[derive(Default)]
pub(crate) struct Checker {
    states: BTreeMap<String, (State, u32)>,
}

/// All items, read.
#[derive(Default)]
struct Seen {
    hosts: BTreeMap<HostId, Host>,
    records: BTreeMap<String, Record>,
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
        running(&seen, hosts);
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
                    State::Running => now.0 == State::Pending && now.1 == generation,
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

/// Whether every instance has come to rest: running, or terminated.
pub(crate) fn unsettled(store: &SimStore) -> Vec<String> {
    let seen = read(store);
    let items = store.items();
    let wants_end = |partition: &String| {
        items.keys().any(|key| {
            key.table == "instances" && key.partition == *partition && key.sort == "request"
        })
    };
    let unsettled = |(partition, record): &(&String, &Record)| match record.progress.state {
        State::Terminated | State::Stopped => false,
        State::Running => wants_end(partition),
        _ => true,
    };
    let told = |(partition, record): (&String, &Record)| {
        format!("{partition}: {} {:?}", record.progress.state, record.progress)
    };
    seen.records.iter().filter(unsettled).map(told).collect()
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
