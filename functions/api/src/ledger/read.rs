//! The ledger as it is read: what there is to hold, and who holds it.

use eventplane_capacity::fleet::{self, Host};
use eventplane_domain::{HostId, InstanceId, State, Tenant};
use eventplane_engine::{Fault, Receipt};
use eventplane_handoff::WantedSet;
use eventplane_instances::{BY_TENANT, Record, TABLE, record_key};
use eventplane_network::ledger as network;
use eventplane_storage::ledger as storage;
use eventplane_storage::{KeptVolume, kept};
use eventplane_store::{Key, Query, Store};
use std::collections::{BTreeMap, BTreeSet};

/// How many instances are read at once.
pub(crate) const PAGE: usize = 100;
/// How many ids of instances are read at once.
const IDS_AT_ONCE: usize = 1_000;
/// How many hosts are read at once.
const HOSTS_AT_ONCE: usize = 100;

/// Whose account it is.
pub type Who = (Tenant, InstanceId);

/// One instance: its record, and the receipts of capacity, network, storage and security.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its record.
    pub record: Record,
    /// The receipts, in that order.
    pub receipts: [Option<Receipt>; 4],
}

impl Account {
    /// Whether it neither takes nor gives back, as far as its record knows.
    pub(super) fn is_settled(&self) -> bool {
        let state = self.record.progress.state;
        matches!(state, State::Running | State::Stopped | State::Terminated)
            && self.record.nudge_at.is_none()
    }
}

/// All that can be held, as it stands.
#[derive(Debug, Clone, Default)]
pub struct Pots {
    /// The hosts.
    pub hosts: BTreeMap<HostId, Host>,
    /// The blocks of addresses that were ever used.
    pub blocks: BTreeMap<network::At, network::Stands>,
    /// The shards of the volume pools.
    pub shards: BTreeMap<String, storage::Stands>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pot {
    Host(HostId),
    Block(network::At),
    Shard(String),
}

/// The ledger as it was read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Whose instances there may be.
    pub tenants: Vec<Tenant>,
    /// What can be held.
    pub pots: Pots,
    /// All instances.
    pub accounts: BTreeMap<Who, Account>,
    /// The volumes that outlived their instances, by id.
    pub kept: BTreeMap<String, (Tenant, KeptVolume)>,
    /// What hosts are to run, or to let go.
    pub assignments: BTreeSet<(HostId, Tenant, InstanceId)>,
}

impl Reading {
    /// Reads all of it. While nothing moves it is exact.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn whole(store: &dyn Store, tenants: &[Tenant]) -> Result<Reading, Fault> {
        let mut reading = Reading { tenants: tenants.to_vec(), ..Reading::default() };
        reading.assignments = assignments(store, &hosts(store).await?).await?;
        reading.read_accounts(store).await?;
        // After the receipts: a volume goes from a receipt to these, and so is in one of them.
        reading.read_kept(store).await?;
        reading.pots = Pots::all(store, tenants).await?;
        Ok(reading)
    }

    pub(super) async fn read_kept(&mut self, store: &dyn Store) -> Result<(), Fault> {
        self.kept.clear();
        for tenant in &self.tenants {
            for volume in kept(store, tenant).await? {
                let id = volume.volume.volume_id.clone();
                self.kept.insert(id, (tenant.clone(), volume));
            }
        }
        Ok(())
    }

    /// Reads all instances again.
    pub(super) async fn read_accounts(&mut self, store: &dyn Store) -> Result<(), Fault> {
        for tenant in &self.tenants {
            let query = Query::index(TABLE.name, BY_TENANT, tenant.as_str(), IDS_AT_ONCE);
            let ids = ids(store, query).await?;
            self.accounts.extend(accounts(store, &ids).await?);
        }
        Ok(())
    }

    /// The instances since `since` that are not among these accounts.
    pub(super) async fn new_since(
        &self,
        store: &dyn Store,
        since: &InstanceId,
    ) -> Result<Vec<Who>, Fault> {
        let mut new = Vec::new();
        for tenant in &self.tenants {
            let query = Query::index(TABLE.name, BY_TENANT, tenant.as_str(), IDS_AT_ONCE);
            new.extend(ids(store, query.starting_at(since.as_str())).await?);
        }
        new.retain(|who| !self.accounts.contains_key(who));
        Ok(new)
    }
}

impl Pots {
    /// All that can be held, as it stands.
    ///
    /// # Errors
    /// A fault of the store.
    pub(super) async fn all(store: &dyn Store, tenants: &[Tenant]) -> Result<Pots, Fault> {
        let mut pots = Pots { hosts: hosts(store).await?, ..Pots::default() };
        for tenant in tenants {
            let blocks = network::all(store, tenant).await?;
            pots.blocks.extend(blocks.into_iter().map(|stands| (stands.at.clone(), stands)));
        }
        let shards = storage::all(store).await?;
        pots.shards = shards.into_iter().map(|stands| (stands.name.clone(), stands)).collect();
        Ok(pots)
    }

    /// This one, as it stands now.
    pub(super) async fn one(store: &dyn Store, pot: &Pot) -> Result<Pots, Fault> {
        let mut pots = Pots::default();
        match pot {
            Pot::Host(id) => {
                let host = fleet::host(store, id).await?;
                pots.hosts = host.map(|host| (id.clone(), host)).into_iter().collect();
            }
            Pot::Block(at) => {
                let block = network::one(store, at).await?;
                pots.blocks = block.map(|block| (at.clone(), block)).into_iter().collect();
            }
            Pot::Shard(name) => {
                let shard = storage::one(store, name).await?;
                pots.shards = shard.map(|shard| (name.clone(), shard)).into_iter().collect();
            }
        }
        Ok(pots)
    }

    /// Those that are not as they are in `other`.
    pub(super) fn differing(&self, other: &Pots) -> BTreeSet<Pot> {
        fn differ<'m, K: Ord + Clone, V: PartialEq>(
            of: &'m BTreeMap<K, V>,
            other: &'m BTreeMap<K, V>,
        ) -> impl Iterator<Item = K> + 'm {
            let keys: BTreeSet<&K> = of.keys().chain(other.keys()).collect();
            keys.into_iter().filter(|key| of.get(*key) != other.get(*key)).cloned()
        }
        differ(&self.hosts, &other.hosts)
            .map(Pot::Host)
            .chain(differ(&self.blocks, &other.blocks).map(Pot::Block))
            .chain(differ(&self.shards, &other.shards).map(Pot::Shard))
            .collect()
    }
}

async fn hosts(store: &dyn Store) -> Result<BTreeMap<HostId, Host>, Fault> {
    let (mut all, mut after) = (BTreeMap::new(), None::<String>);
    loop {
        let (page, next) = fleet::hosts(store, after.as_deref(), HOSTS_AT_ONCE).await?;
        all.extend(page.into_iter().map(|host| (host.id.clone(), host)));
        match next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

pub(super) async fn assignments(
    store: &dyn Store,
    hosts: &BTreeMap<HostId, Host>,
) -> Result<BTreeSet<(HostId, Tenant, InstanceId)>, Fault> {
    let mut all = BTreeSet::new();
    for id in hosts.keys() {
        let wanted = WantedSet::of(store, id).await?.assignments.into_iter();
        all.extend(wanted.map(|one| (id.clone(), one.tenant, one.instance)));
    }
    Ok(all)
}

/// All that a query of the index leads to.
async fn ids(store: &dyn Store, mut query: Query) -> Result<Vec<Who>, Fault> {
    let mut all = Vec::new();
    loop {
        let page = store.query(&query).await?;
        all.extend(page.items.iter().filter_map(|(key, _)| who(key)));
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(all),
        }
    }
}

/// Whose record it is that is kept there.
pub(crate) fn who(key: &Key) -> Option<Who> {
    let (tenant, id) = key.partition.split_once('/')?;
    Some((Tenant::parse(tenant).ok()?, InstanceId::parse(id).ok()?))
}

/// Reads these instances; those without a record are left out.
pub(crate) async fn accounts(
    store: &dyn Store,
    whose: &[Who],
) -> Result<Vec<(Who, Account)>, Fault> {
    let mut all = Vec::new();
    for page in whose.chunks(PAGE) {
        let keys = page.iter().flat_map(|(tenant, id)| {
            [
                record_key(tenant, id),
                eventplane_capacity::receipt_key(tenant, id),
                eventplane_network::receipt_key(tenant, id),
                eventplane_storage::receipt_key(tenant, id),
                eventplane_security::receipt_key(tenant, id),
            ]
        });
        let items = store.batch_get(&keys.collect::<Vec<_>>()).await?;
        for (who, items) in page.iter().zip(items.chunks(5)) {
            let Some(record) = &items[0] else { continue };
            let receipt = |at: usize| Receipt::read(items[at].as_ref());
            let receipts = [receipt(1)?, receipt(2)?, receipt(3)?, receipt(4)?];
            all.push((who.clone(), Account { record: Record::read(record)?, receipts }));
        }
    }
    Ok(all)
}
