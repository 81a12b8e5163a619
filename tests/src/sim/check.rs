//! What has to hold after every commit, read straight from the items that it changed.

use super::host::SimHost;
use super::store::{Data, SimStore};
use eventplane_capacity::fleet::{Host, Sizes};
use eventplane_domain::receipt::Answer;
use eventplane_domain::{HostId, State};
use eventplane_engine::Receipt;
use eventplane_instances::{Record, Request, Want};
use eventplane_store::{Item, ItemExt, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The steps that hold things.
const HOLDERS: [&str; 4] = ["capacity", "network", "storage", "security"];

/// All that was read, kept from one check to the next.
#[derive(Default)]
pub(crate) struct Checker {
    instances: BTreeMap<String, Seen>,
    hosts: BTreeMap<HostId, Host>,
    /// What is held on each host.
    held: BTreeMap<HostId, Sizes>,
    /// Who has each address of each tenant.
    addresses: BTreeMap<String, String>,
    /// What is taken of each pool, in GiB, and of all by the receipts.
    pools: BTreeMap<String, i64>,
    gib: i64,
}

/// What is known of one instance.
#[derive(Default)]
struct Seen {
    record: Option<Record>,
    request: Option<Request>,
    receipts: [Option<Receipt>; 4],
    /// Whether a host has an assignment of it.
    is_assigned: bool,
    /// What was counted of it.
    room: Option<(HostId, Sizes)>,
    address: Option<String>,
    gib: i64,
    /// The address that it was first seen with.
    first_address: Option<String>,
    state: Option<(State, u32)>,
}

impl Seen {
    fn receipt(&self, step: &str) -> Option<&Receipt> {
        let at = HOLDERS.iter().position(|holder| *holder == step)?;
        self.receipts[at].as_ref()
    }

    /// Whether it holds anything.
    fn holds(&self) -> bool {
        let [capacity, network, storage, security] = &self.receipts;
        capacity.as_ref().and_then(eventplane_capacity::placement).is_some()
            || network.as_ref().and_then(eventplane_network::lease).is_some()
            || storage.as_ref().is_some_and(|one| !eventplane_storage::volumes(one).is_empty())
            || security.as_ref().and_then(eventplane_security::identity).is_some()
            || self.is_assigned
    }
}

impl Checker {
    /// Reads what has changed, and panics when an invariant does not hold.
    pub(crate) fn check(&mut self, store: &SimStore, hosts: &[Arc<SimHost>]) {
        let changed = store.take_changed();
        let mut touched = BTreeSet::new();
        {
            let data = store.data();
            for key in &changed {
                self.read(key, data.items.get(key), &mut touched);
            }
        }
        for partition in &touched {
            self.count(partition);
        }
        self.books();
        for partition in &touched {
            self.states(partition);
            self.address_stays(partition);
            self.nudges_and_versions(partition);
        }
        self.running(hosts);
    }

    fn read(&mut self, key: &Key, item: Option<&Item>, touched: &mut BTreeSet<String>) {
        let mut seen = |partition: &str| {
            touched.insert(partition.to_owned());
            partition.to_owned()
        };
        match (key.table, key.sort.as_str()) {
            ("capacity", "host") => {
                let id = HostId::parse(&key.partition["@host/".len()..]).expect("a host id");
                let host = Host::read(&id, item.expect("hosts stay")).expect("a host");
                self.hosts.insert(id, host);
            }
            ("storage", "pool") => {
                let item = item.expect("pools stay");
                let number = |name| item.number(name).expect("a pool");
                assert!(number("free_gib") >= 0 && number("free_iops") >= 0, "{key}: {item:?}");
                let taken = number("total_gib") - number("free_gib");
                self.pools.insert(key.partition.clone(), taken);
            }
            ("instances", "record") => {
                let record = item.map(|item| Record::read(item).expect("a record"));
                self.instances.entry(seen(&key.partition)).or_default().record = record;
            }
            ("instances", "request") => {
                let request = item.map(|item| Request::read(item).expect("a request"));
                self.instances.entry(seen(&key.partition)).or_default().request = request;
            }
            ("handoff", sort) => {
                if let Some(partition) = sort.strip_prefix("a/") {
                    let one = self.instances.entry(seen(partition)).or_default();
                    one.is_assigned = item.is_some();
                }
            }
            (table, "receipt") => {
                if let Some(at) = HOLDERS.iter().position(|holder| *holder == table) {
                    let receipt = Receipt::read(item).expect("a receipt");
                    self.instances.entry(seen(&key.partition)).or_default().receipts[at] = receipt;
                }
            }
            _ => {}
        }
    }

    /// Counts anew what an instance holds.
    fn count(&mut self, partition: &str) {
        let Some(seen) = self.instances.get_mut(partition) else { return };
        if let Some((host, sizes)) = seen.room.take() {
            let held = self.held.entry(host).or_default();
            *held = held.minus(sizes);
        }
        if let Some(address) = seen.address.take() {
            self.addresses.remove(&address);
        }
        self.gib -= seen.gib;
        let placement = seen.receipt("capacity").and_then(eventplane_capacity::placement);
        if let Some(placement) = placement {
            let record = seen.record.as_ref().expect("what has a place was asked for");
            let need = Sizes::needed(&record.spec);
            let held = self.held.entry(placement.host.clone()).or_default();
            *held = held.plus(need);
            seen.room = Some((placement.host, need));
        }
        if let Some(network) = seen.receipt("network").and_then(eventplane_network::lease) {
            let tenant = partition.split('/').next().unwrap_or_default();
            let address = format!("{tenant}/{}/{}", network.subnet_id, network.private_ip);
            let other = self.addresses.insert(address.clone(), partition.to_owned());
            assert!(other.is_none(), "{address} is leased to {partition} and {other:?}");
            seen.address = Some(address);
        }
        let volumes = seen.receipt("storage").map(eventplane_storage::volumes).unwrap_or_default();
        seen.gib = volumes.iter().map(|one| i64::from(one.spec.size_gib)).sum();
        self.gib += seen.gib;
    }

    /// No host is over-committed, and free and held is total, of hosts and of pools.
    fn books(&self) {
        let taken: i64 = self.pools.values().sum();
        assert_eq!(taken, self.gib, "GiB taken of the pools, and held by instances");
        for (id, host) in &self.hosts {
            let held = self.held.get(id).copied().unwrap_or_default();
            let free = host.free;
            let least = free.vcpus.min(free.memory_mib).min(free.network_mbps).min(free.gpus);
            assert!(least >= 0, "{id} is over-committed: {host:?}");
            assert_eq!(host.total.minus(free), held, "taken of {id}, and held by instances");
        }
    }

    /// State never goes back, and what is terminated holds nothing.
    fn states(&mut self, partition: &str) {
        let Some(seen) = self.instances.get_mut(partition) else { return };
        let Some(record) = &seen.record else { return };
        let now = (record.progress.state, record.progress.generation);
        if let Some((state, generation)) = seen.state.replace(now) {
            let went_back = match state {
                State::Terminated => now.0 != State::Terminated,
                State::ShuttingDown => !matches!(now.0, State::ShuttingDown | State::Terminated),
                State::Pending => false,
                _ if now.1 > generation => false,
                State::Running => now.0 == State::Pending,
                State::Stopping => matches!(now.0, State::Pending | State::Running),
                State::Stopped => {
                    matches!(now.0, State::Pending | State::Running | State::Stopping)
                }
            };
            assert!(!went_back && now.1 >= generation, "{partition}: {state} then {now:?}");
        }
        if now.0 == State::Terminated {
            assert!(!seen.holds(), "{partition} is terminated and holds something");
        }
    }

    /// An address stays its instance's through stops, starts and new placements.
    fn address_stays(&mut self, partition: &str) {
        let Some(seen) = self.instances.get_mut(partition) else { return };
        if let Some(address) = &seen.address {
            let first = seen.first_address.get_or_insert_with(|| address.clone());
            assert_eq!(first, address, "the address of {partition}");
        }
    }

    /// What neither moves nor runs waits for no nudge, and credentials are of their generation.
    fn nudges_and_versions(&self, partition: &str) {
        let Some(seen) = self.instances.get(partition) else { return };
        if let Some(record) = &seen.record {
            let rests = matches!(record.progress.state, State::Stopped | State::Terminated);
            let waits = record.nudge_at.is_some();
            assert!(!rests || !waits, "{partition} is {} and waits", record.progress.state);
        }
        if let Some(receipt) = seen.receipt("security").filter(|one| one.answer == Answer::Taken) {
            let identity = eventplane_security::identity(receipt).expect("it was granted");
            let version = identity.credentials_version;
            assert_eq!(version, receipt.generation, "the credentials' version of {partition}");
        }
    }

    /// Nothing is given back while a host runs the instance, no two hosts run one, and what has run
    /// is terminated, and its volumes deleted, by its owner's request and nothing else.
    fn running(&self, hosts: &[Arc<SimHost>]) {
        let mut running = BTreeSet::new();
        for host in hosts {
            let machine = host.machine();
            for (key, generation) in &machine.running {
                let partition = key.tenant.partition(&key.instance_id);
                let seen = &self.instances[&partition];
                let room = seen.receipt("capacity");
                let room = room.filter(|receipt| receipt.generation == *generation);
                let placed = room.and_then(eventplane_capacity::placement);
                let here = placed.is_some_and(|placement| placement.host.as_str() == host.id);
                assert!(here, "{partition} runs on {} and its room was given back", host.id);
                let lease = seen.receipt("network").and_then(eventplane_network::lease);
                assert!(lease.is_some(), "{partition} runs and its address was given back");
                assert!(running.insert(partition), "{key:?} runs on two hosts");
            }
            for key in &machine.ran {
                let seen = &self.instances[&key.tenant.partition(&key.instance_id)];
                let is_asked =
                    seen.request.as_ref().and_then(Request::wants) == Some(Want::Terminated);
                let is_gone = seen.receipt("storage").map(|receipt| receipt.answer)
                    == Some(Answer::GivenBackForGood);
                assert!(is_asked || !is_gone, "{key:?} has run, and its volumes are gone");
            }
        }
    }

    /// What has not come to rest: running, stopped or terminated, as its user wants it.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let unsettled = |(_, seen): &(&String, &Seen)| {
            let Some(record) = &seen.record else { return false };
            let is_shown = seen.request.as_ref().is_none_or(|one| one.is_shown(record));
            record.progress.state.is_moving() || record.nudge_at.is_some() || !is_shown
        };
        let told = |(partition, seen): (&String, &Seen)| {
            format!(
                "{partition}: {:?}, {:?}",
                seen.record.as_ref().map(|one| &one.progress),
                seen.request
            )
        };
        self.instances.iter().filter(unsettled).map(told).collect()
    }

    /// What the records say to be running is what runs, of the same generation.
    pub(crate) fn runs_what_it_says(&self, hosts: &[Arc<SimHost>]) {
        let said: BTreeMap<&String, u32> = (self.records())
            .filter(|(_, record)| record.progress.state == State::Running)
            .map(|(partition, record)| (partition, record.progress.generation))
            .collect();
        let mut runs = BTreeMap::new();
        for host in hosts {
            let machine = host.machine();
            let running = machine.running.iter();
            runs.extend(running.map(|(key, of)| (key.tenant.partition(&key.instance_id), *of)));
        }
        assert!(said.into_iter().eq(runs.iter().map(|(at, of)| (at, *of))), "only {runs:?} run");
    }

    /// The records, by partition.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&String, &Record)> {
        self.instances.iter().filter_map(|(at, seen)| Some((at, seen.record.as_ref()?)))
    }

    /// Panics unless nothing is held at all.
    pub(crate) fn nothing_is_held(&self) {
        for (partition, seen) in &self.instances {
            assert!(!seen.holds(), "{partition} holds something");
        }
        for host in self.hosts.values() {
            assert_eq!(host.free, host.total, "{}", host.id);
        }
        assert_eq!(self.gib, 0, "GiB held");
    }

    /// Panics unless every item that was read is as it stands: a check that looks at changes alone
    /// must not miss one.
    pub(crate) fn has_missed_nothing(&self, data: &Data) {
        let records =
            data.items.keys().filter(|key| key.table == "instances" && key.sort == "record");
        assert_eq!(records.count(), self.records().count(), "records");
    }
}
