//! The services that a chain calls one after the other. Each is as good as one transaction can make
//! it: what it does for a launch it does once, however often it is asked, and it gives back by the
//! launch's name.

use super::memory::Memory;
use super::weather::Weather;
use eventplane_store::{
    Condition, Item, ItemExt, Key, Query, Store, Table, TransactError, Update, Write,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// The chain's table.
pub(crate) const TABLES: &[Table] = &[Table { name: "chain", indexes: &[] }];
/// How many addresses and storage pools there are, and how often a lost race is run again.
const ADDRESSES: usize = 1_024;
const POOLS: usize = 8;
const TRIES_MAX: usize = 8;
/// What one launch needs.
const VCPUS: i64 = 2;
const GIB: i64 = 8;

/// The steps of a launch, in the order in which they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Capacity,
    Network,
    Storage,
    Security,
    Host,
}

pub(crate) const STEPS: [Step; 5] =
    [Step::Capacity, Step::Network, Step::Storage, Step::Security, Step::Host];

impl Step {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Step::Capacity => "capacity",
            Step::Network => "network",
            Step::Storage => "storage",
            Step::Security => "security",
            Step::Host => "host",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Take,
    GiveBack,
}

/// Why a call has no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No: asking again does not help.
    No,
    /// It was not done, or nobody knows.
    Fault,
}

impl From<eventplane_store::StoreFault> for Trouble {
    fn from(_: eventplane_store::StoreFault) -> Self {
        Trouble::Fault
    }
}

/// The machines: what runs on each, and whether it is there.
#[derive(Default)]
pub(crate) struct Machines {
    running: BTreeSet<(String, String)>,
    gone: BTreeSet<String>,
}

pub(crate) struct Services {
    pub(crate) store: Arc<Memory>,
    weather: Arc<Weather>,
    machines: Mutex<Machines>,
    at_once: BTreeMap<&'static str, Semaphore>,
}

pub(crate) fn key(partition: &str, sort: impl Into<String>) -> Key {
    Key::new("chain", partition, sort)
}

impl Services {
    pub(crate) fn new(weather: Arc<Weather>) -> Arc<Services> {
        let store = Memory::new(TABLES, weather.clone());
        let put = |key, item| drop(store.items().insert(key, item));
        for host in 0..super::HOSTS {
            let vcpus = i64::from(super::HOST_VCPUS);
            put(key("hosts", super::host_id(host)), Item::new().with("free", vcpus));
        }
        for pool in 0..POOLS {
            put(key("pools", format!("{pool}")), Item::new().with("free", 100_000));
        }
        let at_once = STEPS.map(|step| {
            let (at_once, _) = super::pace(step.name());
            (step.name(), Semaphore::new(at_once))
        });
        let at_once = at_once.into_iter().collect();
        Arc::new(Services { store, weather, machines: Mutex::default(), at_once })
    }

    pub(crate) fn machines(&self) -> MutexGuard<'_, Machines> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of one service.
    pub(crate) async fn serve(
        self: Arc<Self>,
        step: Step,
        ask: Ask,
        launch: String,
    ) -> Result<(), Trouble> {
        let (_, takes_ms) = super::pace(step.name());
        let _turn = self.at_once[step.name()].acquire().await.map_err(|_| Trouble::Fault)?;
        sleep(Duration::from_millis(takes_ms)).await;
        match (step, ask) {
            (Step::Host, ask) => self.host(ask, &launch).await,
            (step, Ask::Take) => self.take(step, &launch).await,
            (step, Ask::GiveBack) => self.give_back(step, &launch).await,
        }
    }

    async fn take(&self, step: Step, launch: &str) -> Result<(), Trouble> {
        let own = key(step.name(), launch);
        for _ in 0..TRIES_MAX {
            if self.store.get(&own).await?.is_some() {
                return Ok(());
            }
            let mut writes = self.choose(step, launch).await?;
            let from = writes.first().map_or("", |write| write.key.sort.as_str());
            let item = Item::new().with("from", from);
            writes.push(Write::put(own.clone(), item).when(Condition::ItemAbsent));
            match self.store.transact(writes).await {
                Ok(()) => return Ok(()),
                Err(TransactError::ConditionFailed(_)) => {}
                Err(TransactError::Fault(fault)) => return Err(fault.into()),
            }
        }
        Err(Trouble::Fault)
    }

    /// What is taken, from a random start.
    async fn choose(&self, step: Step, launch: &str) -> Result<Vec<Write>, Trouble> {
        let take = |key: Key, amount: i64| {
            let update = Write::update(key, vec![Update::add("free", -amount)]);
            vec![update.when(Condition::at_least("free", amount))]
        };
        match step {
            Step::Capacity => {
                let page = self.store.query(&Query::partition("chain", "hosts", 100)).await?;
                let mut fit = page.items;
                fit.retain(|(_, host)| host.number("free") >= Some(VCPUS) && !host.is_true("dead"));
                if fit.is_empty() {
                    return Err(Trouble::No);
                }
                let drawn = self.weather.below(fit.len());
                Ok(take(fit.swap_remove(drawn).0, VCPUS))
            }
            Step::Network => {
                let query = Query::partition("chain", "addresses", ADDRESSES);
                let taken = self.store.query(&query).await?.items;
                let taken: BTreeSet<&str> =
                    taken.iter().map(|(key, _)| key.sort.as_str()).collect();
                let start = self.weather.below(ADDRESSES);
                let mut all = (0..ADDRESSES).map(|n| (start + n) % ADDRESSES);
                let address = |n| format!("10.0.{}.{}", n / 256, n % 256);
                let free = all.find_map(|n| Some(address(n)).filter(|a| !taken.contains(&**a)));
                let lease = Write::put(
                    key("addresses", free.ok_or(Trouble::No)?),
                    Item::new().with("owner", launch),
                );
                Ok(vec![lease.when(Condition::ItemAbsent)])
            }
            Step::Storage => Ok(take(key("pools", format!("{}", self.weather.below(POOLS))), GIB)),
            Step::Security | Step::Host => Ok(vec![]),
        }
    }

    async fn give_back(&self, step: Step, launch: &str) -> Result<(), Trouble> {
        let own = key(step.name(), launch);
        let Some(item) = self.store.get(&own).await? else { return Ok(()) };
        let from = item.text("from").unwrap_or_default();
        let mut writes = vec![Write::delete(own).when(Condition::ItemPresent)];
        let add = |partition, amount| {
            Write::update(key(partition, from), vec![Update::add("free", amount)])
        };
        match step {
            Step::Capacity => writes.push(add("hosts", VCPUS)),
            Step::Network => writes.push(Write::delete(key("addresses", from))),
            Step::Storage => writes.push(add("pools", GIB)),
            Step::Security | Step::Host => {}
        }
        // Whoever was faster has given it back.
        self.store.try_transact(writes).await?;
        Ok(())
    }

    /// The host's own program: it starts or stops what it is told to.
    async fn host(&self, ask: Ask, launch: &str) -> Result<(), Trouble> {
        let room = self.store.get(&key("capacity", launch)).await?;
        let Some(host) = room.as_ref().and_then(|room| room.text("from")) else {
            return if ask == Ask::Take { Err(Trouble::No) } else { Ok(()) };
        };
        if self.weather.fault == super::Fault::HostLost && host == super::host_id(0) {
            self.machines().gone.insert(host.to_owned());
        }
        if self.machines().gone.contains(host) {
            return std::future::pending().await;
        }
        let place = (launch.to_owned(), host.to_owned());
        match ask {
            Ask::Take => {
                sleep(Duration::from_millis(super::START_MS)).await;
                self.machines().running.insert(place);
            }
            Ask::GiveBack => {
                self.machines().running.remove(&place);
            }
        }
        Ok(())
    }

    /// Its operator takes a dead host out of the inventory.
    pub(crate) fn host_is_dead(&self, host: &str) {
        if let Some(item) = self.store.items().get_mut(&key("hosts", host)) {
            *item = item.clone().with("dead", true);
        }
    }

    /// What is held for a launch, and on how many machines it runs.
    pub(crate) fn held(&self, launch: &str) -> (usize, usize) {
        let items = self.store.items();
        let held = STEPS[..4].iter().filter(|step| items.contains_key(&key(step.name(), launch)));
        let running = &self.machines().running;
        (held.count(), running.iter().filter(|(name, _)| name == launch).count())
    }
}
