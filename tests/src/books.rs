//! The books of a plane: what is held, read from all tables, and whether it adds up.

use eventplane_api::ledger::{Reading, balance};
use eventplane_capacity::fleet::{Host, Sizes};
use eventplane_domain::{HostId, InstanceId, Tenant};
use eventplane_store::Store;

pub use eventplane_api::ledger::Account;

/// What a plane holds.
#[derive(Debug)]
pub struct Books {
    /// All instances.
    pub accounts: Vec<Account>,
    /// All hosts.
    pub hosts: Vec<Host>,
    /// What the hosts are to run, or to let go: (host, instance).
    pub assignments: Vec<(HostId, InstanceId)>,
    /// The ledger that these are from.
    reading: Reading,
}

impl Books {
    /// Reads the books: while nothing moves they are exact.
    ///
    /// # Panics
    /// When something cannot be read.
    pub async fn read(store: &dyn Store, tenant: &Tenant) -> Books {
        let tenants = std::slice::from_ref(tenant);
        let reading = Reading::whole(store, tenants).await.expect("the ledger");
        let assignments = reading.assignments.iter();
        Books {
            accounts: reading.accounts.values().cloned().collect(),
            hosts: reading.pots.hosts.values().cloned().collect(),
            assignments: assignments.map(|(host, _, id)| (host.clone(), id.clone())).collect(),
            reading,
        }
    }

    /// Panics unless everything adds up at the first look: the ledger balances, and each instance
    /// holds as much room as it was asked for with.
    pub fn check(&self) {
        let off: Vec<String> = balance(&self.reading).iter().map(ToString::to_string).collect();
        assert_eq!(off, Vec::<String>::new(), "the ledger does not balance");
        for Account { record, receipts } in &self.accounts {
            if let Some(held) = receipts[0].as_ref().and_then(eventplane_capacity::held) {
                assert_eq!(held, Sizes::needed(&record.spec), "{}", record.id);
            }
        }
    }

    /// Panics unless nothing at all is held.
    pub fn check_nothing_is_held(&self) {
        self.check();
        for host in &self.hosts {
            assert_eq!(host.free, host.total, "{}", host.id);
        }
        for shard in self.reading.pots.shards.values() {
            assert_eq!((shard.gib.0, shard.iops.0), (shard.gib.1, shard.iops.1), "{shard:?}");
        }
        for block in self.reading.pots.blocks.values() {
            assert!(block.leases().is_empty(), "{block:?}");
        }
        assert_eq!(self.assignments, []);
    }
}
