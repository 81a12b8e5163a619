//! What a host is to run: one item per instance in the host's own partition, beside a header that
//! says how often the whole has changed.

use eventplane_domain::{
    FirewallRule, HostId, Identity, InstanceId, LaunchSpec, Millis, Mutant, Network, Placement,
    Route, Tenant, Volume, VolumeSpec, planted,
};
use eventplane_engine::Fault;
use eventplane_store::{
    Condition, FaultKind, Item, ItemExt, Key, Query, Store, StoreFault, Table, Update, Write,
};
use serde::{Deserialize, Serialize};

/// The table of receipts and of the hosts' assignments.
pub const TABLE: Table = Table { name: "handoff", indexes: &[] };

/// How many items one read of a host's partition brings.
const PAGE: usize = 500;

const REVISION: &str = "rev";
const DEAD: &str = "dead";
const GENERATION: &str = "gen";
const DEADLINE: &str = "deadline";
const OFFERED: &str = "offered";
const WITHDRAWING: &str = "withdrawing";
const HAS_RUN: &str = "has_run";
const REPLACED: &str = "replaced";
const REBOOTS: &str = "reboots";
const CONSOLES: &str = "consoles";
const BODY: &str = "body";

/// The partition of a host's header and assignments.
#[must_use]
pub fn host_partition(host: &HostId) -> String {
    format!("@host/{host}")
}
/// Where a host's header is kept.
#[must_use]
pub fn header_key(host: &HostId) -> Key {
    Key::new(TABLE.name, host_partition(host), "!header")
}
/// Where a host's assignment of an instance is kept.
#[must_use]
pub fn assignment_key(host: &HostId, tenant: &Tenant, instance: &InstanceId) -> Key {
    Key::new(TABLE.name, host_partition(host), format!("a/{tenant}/{instance}"))
}

/// All that a host needs to run an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentBody {
    /// What was asked for.
    pub spec: LaunchSpec,
    /// Where it runs.
    pub placement: Placement,
    /// Its interface.
    pub network: Network,
    /// Its volumes, the root volume first.
    pub volumes: Vec<Volume>,
    /// References to its identity.
    pub identity: Identity,
}

/// The body as it is stored: without the names of fields that every assignment has, and without
/// what the key or another field says, so that a usual assignment stays within a kilobyte.
#[derive(Serialize, Deserialize)]
struct Kept {
    spec: LaunchSpec,
    /// Zone and rack.
    place: (String, String),
    network: KeptNetwork,
    volumes: Vec<KeptVolume>,
    identity: Identity,
}

/// Interface, address, hardware address, subnet, its block, its router, groups, rules, routes.
type KeptNetwork =
    (String, String, String, String, String, String, Vec<String>, Vec<FirewallRule>, Vec<Route>);

/// Id, pool, key, device, type, GiB, IOPS, and whether it goes with the instance.
type KeptVolume = (String, String, String, String, String, u32, u32, bool);

impl Kept {
    fn of(body: &AssignmentBody) -> Kept {
        let AssignmentBody { spec, placement, network, volumes, identity } = body.clone();
        let kept = |volume: Volume| {
            let Volume { volume_id, spec, pool, key_id } = volume;
            let VolumeSpec { device, volume_type, size_gib, iops, delete_on_termination } = spec;
            (volume_id, pool, key_id, device, volume_type, size_gib, iops, delete_on_termination)
        };
        Kept {
            spec: LaunchSpec { volumes: vec![], ..spec },
            place: (placement.zone, placement.rack),
            network: (
                network.interface_id,
                network.private_ip,
                network.mac,
                network.subnet_id,
                network.cidr,
                network.gateway,
                network.security_group_ids,
                network.rules,
                network.routes,
            ),
            volumes: volumes.into_iter().map(kept).collect(),
            identity,
        }
    }

    fn body(self, host: HostId) -> AssignmentBody {
        let Kept { spec, place: (zone, rack), network, volumes, identity } = self;
        let (interface_id, private_ip, mac, subnet_id, cidr, gateway, groups, rules, routes) =
            network;
        let security_group_ids = groups;
        let network = Network {
            interface_id,
            private_ip,
            mac,
            subnet_id,
            cidr,
            gateway,
            security_group_ids,
            rules,
            routes,
        };
        let volume = |kept: KeptVolume| {
            let (volume_id, pool, key_id, device, volume_type, size_gib, iops, goes) = kept;
            let delete_on_termination = goes;
            let spec = VolumeSpec { device, volume_type, size_gib, iops, delete_on_termination };
            Volume { volume_id, spec, pool, key_id }
        };
        let volumes: Vec<Volume> = volumes.into_iter().map(volume).collect();
        let spec = LaunchSpec { volumes: volumes.iter().map(|v| v.spec.clone()).collect(), ..spec };
        let placement = Placement { host, zone, rack };
        AssignmentBody { spec, placement, network, volumes, identity }
    }
}

/// One instance that a host is to run, or to let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Whose instance.
    pub tenant: Tenant,
    /// The instance.
    pub instance: InstanceId,
    /// Which run of it.
    pub generation: u32,
    /// When it has to run: what does not by then, the host lets go.
    pub deadline: Millis,
    /// Whether the host may have seen it.
    pub offered: bool,
    /// Whether the host is to let it go.
    pub withdrawing: bool,
    /// Whether an earlier generation has run.
    pub has_run: bool,
    /// How many hosts in a row had this launch before, and did not run it.
    pub replaced: u32,
    /// The newest reboot that its user asked for; 0 for none.
    pub reboots: u32,
    /// The newest request for what it has written to its console; 0 for none.
    pub consoles: u32,
    /// What the host needs to run it.
    pub body: AssignmentBody,
}

impl Assignment {
    /// Reads the assignment that stands under `key`.
    ///
    /// # Errors
    /// A fault when it is not one: somebody has to look at the table.
    pub fn read(key: &Key, item: &Item) -> Result<Self, Fault> {
        let corrupt = || {
            let message = format!("{key} is not an assignment: {:?}", item.keys());
            Fault::Store(StoreFault::new(FaultKind::Corrupt, message))
        };
        let named = key.sort.strip_prefix("a/").and_then(|name| name.split_once('/'));
        let (tenant, instance) = named.ok_or_else(corrupt)?;
        let generation = item.number(GENERATION).and_then(|n| u32::try_from(n).ok());
        let count = |name| u32::try_from(item.number(name).unwrap_or(0)).map_err(|_| corrupt());
        let host = key.partition.strip_prefix("@host/").and_then(|host| HostId::parse(host).ok());
        let kept = item.text(BODY).and_then(|json| serde_json::from_str(json).ok());
        let kept: Kept = kept.ok_or_else(corrupt)?;
        let body = kept.body(host.ok_or_else(corrupt)?);
        Ok(Assignment {
            tenant: Tenant::parse(tenant).map_err(|_| corrupt())?,
            instance: InstanceId::parse(instance).map_err(|_| corrupt())?,
            generation: generation.ok_or_else(corrupt)?,
            deadline: Millis(item.number(DEADLINE).ok_or_else(corrupt)?),
            offered: item.is_true(OFFERED),
            withdrawing: item.is_true(WITHDRAWING),
            has_run: item.is_true(HAS_RUN),
            replaced: count(REPLACED)?,
            reboots: count(REBOOTS)?,
            consoles: count(CONSOLES)?,
            body,
        })
    }

    /// Where it is kept.
    #[must_use]
    pub fn key(&self) -> Key {
        assignment_key(&self.body.placement.host, &self.tenant, &self.instance)
    }

    /// Puts it where the host will find it.
    #[must_use]
    pub(crate) fn put(&self) -> Write {
        let body = serde_json::to_string(&Kept::of(&self.body)).expect("plain data");
        let item = Item::new()
            .with(GENERATION, i64::from(self.generation))
            .with(DEADLINE, self.deadline.0)
            .with(BODY, body)
            .with_some(HAS_RUN, self.has_run.then_some(true))
            .with_some(REPLACED, some_above_0(self.replaced))
            .with_some(REBOOTS, some_above_0(self.reboots))
            .with_some(CONSOLES, some_above_0(self.consoles));
        Write::put(self.key(), item).when(Condition::ItemAbsent)
    }

    /// Takes it away: at once while the host cannot have seen it, otherwise only once the host has
    /// promised, or is dead.
    #[must_use]
    pub(crate) fn remove(&self, host_is_done: bool) -> Write {
        let write = Write::delete(self.key())
            .when(Condition::equals(GENERATION, i64::from(self.generation)));
        if host_is_done || planted(Mutant::WithdrawnAlthoughOffered) {
            return write;
        }
        write.when(Condition::absent(OFFERED))
    }

    /// Tells the host to reboot it where it runs.
    #[must_use]
    pub(crate) fn reboot(&self, number: u32) -> Write {
        Write::update(self.key(), vec![Update::set(REBOOTS, i64::from(number))])
            .when(Condition::equals(GENERATION, i64::from(self.generation)))
            .when(Condition::absent(WITHDRAWING))
            .when(match self.reboots {
                0 => Condition::absent(REBOOTS),
                n => Condition::equals(REBOOTS, i64::from(n)),
            })
    }

    /// Tells the host to let it go.
    #[must_use]
    pub(crate) fn withdraw(&self) -> Write {
        Write::update(self.key(), vec![Update::set(WITHDRAWING, true)])
            .when(Condition::equals(GENERATION, i64::from(self.generation)))
            .when(Condition::present(OFFERED))
    }
}

fn some_above_0(n: u32) -> Option<i64> {
    (n > 0).then_some(i64::from(n))
}

/// Marks an assignment as offered: to be written before an answer that holds it leaves for the
/// host. Fails when it has been withdrawn in the meantime: then it must not be in the answer.
#[must_use]
pub fn offer_write(assignment: &Assignment) -> Write {
    Write::update(assignment.key(), vec![Update::set(OFFERED, true)])
        .when(Condition::equals(GENERATION, i64::from(assignment.generation)))
        .when(Condition::absent(WITHDRAWING))
}

/// Asks the host of this generation for what it has written to its console, once more. Fails when the
/// host has it no longer, or is to let it go.
#[must_use]
pub fn console_writes(
    host: &HostId,
    tenant: &Tenant,
    instance: &InstanceId,
    generation: u32,
) -> Vec<Write> {
    let key = assignment_key(host, tenant, instance);
    let ask = Write::update(key, vec![Update::add(CONSOLES, 1)])
        .when(Condition::equals(GENERATION, i64::from(generation)))
        .when(Condition::absent(WITHDRAWING));
    vec![ask, count_change(host)]
}

/// Counts a change of a host's assignments, unless the host is dead and takes nothing new.
#[must_use]
pub(crate) fn count_new(host: &HostId) -> Write {
    count_change(host).when(Condition::absent(DEAD))
}
/// Counts a change of a host's assignments.
#[must_use]
pub(crate) fn count_change(host: &HostId) -> Write {
    Write::update(header_key(host), vec![Update::add(REVISION, 1)])
}

/// Writes down that a host is dead, so that nothing is handed to it and what it has been offered
/// counts as let go. Fails if its wanted set has changed since it was read.
#[must_use]
pub fn dead_write(host: &HostId, seen: &WantedSet) -> Write {
    let updates = vec![Update::set(DEAD, true), Update::add(REVISION, 1)];
    let write = Write::update(header_key(host), updates);
    match i64::try_from(seen.revision) {
        Ok(0) | Err(_) => write.when(Condition::absent(REVISION)),
        Ok(revision) => write.when(Condition::equals(REVISION, revision)),
    }
}

/// Writes down that a host lives again.
#[must_use]
pub fn alive_write(host: &HostId) -> Write {
    let updates = vec![Update::remove(DEAD), Update::add(REVISION, 1)];
    Write::update(header_key(host), updates)
}

/// Whether the header says that the host is dead.
pub(crate) fn is_dead(header: Option<&Item>) -> bool {
    header.is_some_and(|header| header.is_true(DEAD))
}

/// All that a host is to run and to let go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedSet {
    /// Grows with every change.
    pub revision: u64,
    /// Whether an operator has said that the host is dead.
    pub dead: bool,
    /// The assignments, those to be let go included.
    pub assignments: Vec<Assignment>,
}

impl WantedSet {
    /// Reads a host's wanted set. Its revision is that of the first page, so that a change between
    /// two pages is seen again with the next revision.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn of(store: &dyn Store, host: &HostId) -> Result<WantedSet, Fault> {
        let mut wanted = WantedSet::default();
        let mut query = Query::partition(TABLE.name, host_partition(host), PAGE);
        loop {
            let page = store.query(&query).await?;
            for (key, item) in &page.items {
                if key.sort == "!header" {
                    let revision = item.number(REVISION).unwrap_or(0);
                    wanted.revision = u64::try_from(revision).unwrap_or(0);
                    wanted.dead = is_dead(Some(item));
                } else {
                    wanted.assignments.push(Assignment::read(key, item)?);
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(wanted),
            }
        }
    }
}
