//! The books of a plane: what is held, read from all tables, and whether it adds up.

use eventplane_capacity::fleet::{self, Host, Sizes};
use eventplane_domain::{HostId, InstanceId, Tenant};
use eventplane_engine::Receipt;
use eventplane_handoff::WantedSet;
use eventplane_instances::{BY_TENANT, Record, TABLE};
use eventplane_store::{Key, Query, Store};
use std::collections::{BTreeMap, BTreeSet};

/// One instance, as all tables have it.
#[derive(Debug)]
pub struct Account {
    /// Its record.
    pub record: Record,
    /// The receipts of capacity, network, storage and security.
    pub receipts: [Option<Receipt>; 4],
}

/// What a plane holds.
#[derive(Debug)]
pub struct Books {
    /// All instances.
    pub accounts: Vec<Account>,
    /// All hosts.
    pub hosts: Vec<Host>,
    /// What the hosts are to run, or to let go: (host, instance).
    pub assignments: Vec<(HostId, InstanceId)>,
    /// Free and total GiB and IOPS of all pools together.
    pub pools: [i64; 4],
}

impl Books {
    /// Reads the books: while nothing moves they are exact.
    ///
    /// # Panics
    /// When something cannot be read.
    pub async fn read(store: &dyn Store, tenant: &Tenant) -> Books {
        let (hosts, more) = fleet::hosts(store, None, 10_000).await.expect("hosts");
        assert_eq!(more, None, "all hosts in one page");
        let mut assignments = Vec::new();
        for host in &hosts {
            let wanted = WantedSet::of(store, &host.id).await.expect("a wanted set");
            assignments
                .extend(wanted.assignments.into_iter().map(|one| (host.id.clone(), one.instance)));
        }
        let pools = eventplane_storage::pools(store).await.expect("pools");
        let sum = |of: fn(&eventplane_storage::PoolState) -> i64| pools.iter().map(of).sum();
        let pools = [
            sum(|pool| pool.free_gib),
            sum(|pool| pool.total_gib),
            sum(|pool| pool.free_iops),
            sum(|pool| pool.total_iops),
        ];
        Books { accounts: accounts(store, tenant).await, hosts, assignments, pools }
    }

    /// Panics unless everything adds up: free and held is total on every host and in the pools, no
    /// address is held twice, and what is terminated holds nothing.
    pub fn check(&self) {
        let mut held: BTreeMap<HostId, Sizes> = BTreeMap::new();
        let mut addresses = BTreeSet::new();
        let (mut gib, mut iops) = (0, 0);
        for Account { record, receipts } in &self.accounts {
            let [capacity, network, storage, _] = receipts;
            if let Some(placement) = capacity.as_ref().and_then(eventplane_capacity::placement) {
                let need = Sizes::needed(&record.spec);
                let sum = held.entry(placement.host).or_default();
                sum.vcpus += need.vcpus;
                sum.memory_mib += need.memory_mib;
                sum.network_mbps += need.network_mbps;
                sum.gpus += need.gpus;
            }
            if let Some(lease) = network.as_ref().and_then(eventplane_network::lease) {
                let address = (lease.subnet_id, lease.private_ip);
                assert!(addresses.insert(address.clone()), "{address:?} is leased twice");
            }
            for volume in storage.as_ref().map(eventplane_storage::volumes).unwrap_or_default() {
                gib += i64::from(volume.spec.size_gib);
                iops += i64::from(volume.spec.iops);
            }
        }
        for host in &self.hosts {
            let held = held.get(&host.id).copied().unwrap_or_default();
            assert_eq!(host.total.vcpus - host.free.vcpus, held.vcpus, "vCPUs of {}", host.id);
            assert_eq!(host.total.memory_mib - host.free.memory_mib, held.memory_mib);
            assert_eq!(host.total.network_mbps - host.free.network_mbps, held.network_mbps);
            assert_eq!(host.total.gpus - host.free.gpus, held.gpus);
            assert!(host.free.vcpus >= 0 && host.free.memory_mib >= 0, "{host:?}");
        }
        let [free_gib, total_gib, free_iops, total_iops] = self.pools;
        assert_eq!((total_gib - free_gib, total_iops - free_iops), (gib, iops), "the pools");
        self.check_ended();
    }

    fn check_ended(&self) {
        use eventplane_domain::State::Terminated;
        for Account { record, receipts } in &self.accounts {
            if record.progress.state != Terminated {
                continue;
            }
            let [capacity, network, storage, security] = receipts;
            let holds = capacity.as_ref().and_then(eventplane_capacity::placement).is_some()
                || network.as_ref().and_then(eventplane_network::lease).is_some()
                || storage.as_ref().is_some_and(|s| !eventplane_storage::volumes(s).is_empty())
                || security.as_ref().and_then(eventplane_security::identity).is_some()
                || self.assignments.iter().any(|(_, instance)| *instance == record.id);
            assert!(!holds, "{} is terminated and holds something: {receipts:?}", record.id);
        }
    }

    /// Panics unless nothing at all is held.
    pub fn check_nothing_is_held(&self) {
        self.check();
        for host in &self.hosts {
            assert_eq!(host.free, host.total, "{}", host.id);
        }
        assert_eq!((self.pools[0], self.pools[2]), (self.pools[1], self.pools[3]));
        assert_eq!(self.assignments, []);
    }
}

async fn accounts(store: &dyn Store, tenant: &Tenant) -> Vec<Account> {
    let mut accounts = Vec::new();
    let mut query = Query::index(TABLE.name, BY_TENANT, tenant.as_str(), 100);
    loop {
        let page = store.query(&query).await.expect("a page of instances");
        let keys: Vec<Key> = page.items.into_iter().map(|(key, _)| key).collect();
        let items = store.batch_get(&keys).await.expect("records");
        for item in items.iter().flatten() {
            let record = Record::read(item).expect("a record");
            let id = &record.id;
            let keys = [
                eventplane_capacity::receipt_key(tenant, id),
                eventplane_network::receipt_key(tenant, id),
                eventplane_storage::receipt_key(tenant, id),
                eventplane_security::receipt_key(tenant, id),
            ];
            let items = store.batch_get(&keys).await.expect("receipts");
            let receipt = |at: usize| Receipt::read(items[at].as_ref()).expect("a receipt");
            let receipts = [receipt(0), receipt(1), receipt(2), receipt(3)];
            accounts.push(Account { record, receipts });
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return accounts,
        }
    }
}
