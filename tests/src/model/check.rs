//! The laws: what holds in every state, read straight from its items and its hosts.

use super::atoms::{Atoms, Cell};
use super::machine::{Life, Machine};
use super::state::Cells;
use eventplane_capacity::fleet::{Host, Sizes};
use eventplane_domain::{HostId, State};
use eventplane_engine::Receipt;
use eventplane_handoff::Assignment;
use eventplane_instances::{Record, Request, Want};
use eventplane_store::{Item, ItemExt, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The laws that are read from one state, or from two in a row: a state has a bit for each.
pub const LAWS: [&str; 8] = [
    "no address is leased twice",
    "free and held is total, and nothing is below zero",
    "what is terminated holds nothing",
    "nothing is given back while a host runs it",
    "no state goes back",
    "only its owner ends what has run, or takes its volumes and address",
    "no two hosts run one instance",
    "every event can be handled",
];
pub(super) const WENT_BACK: u16 = 1 << 4;
pub(super) const NOT_HANDLED: u16 = 1 << 7;

/// The steps that hold things.
const HOLDERS: [&str; 4] = ["capacity", "network", "storage", "security"];

/// What the laws read of an item.
pub(super) enum Fact {
    Host(Box<Host>),
    /// Free and total GiB, and free IOPS.
    Pool(i64, i64, i64),
    Record(Box<Record>),
    Request(Box<Request>),
    Held(Held),
    /// A host has an assignment of the instance of this partition.
    Assigned(String),
    Other,
}

/// What a step's receipt holds.
pub(super) struct Held {
    table: &'static str,
    generation: u32,
    room: Option<(HostId, Sizes)>,
    address: Option<String>,
    gib: i64,
    has_identity: bool,
}

impl Held {
    fn read(table: &'static str, item: &Item) -> Held {
        let receipt = Receipt::read(Some(item)).expect("a receipt").expect("it is there");
        let is = |name: &str| table == name;
        let placement = eventplane_capacity::placement(&receipt).filter(|_| is("capacity"));
        let held = eventplane_capacity::held(&receipt);
        let volumes = eventplane_storage::volumes(&receipt);
        Held {
            table,
            generation: receipt.generation,
            room: placement.map(|one| (one.host, held.expect("it says how much"))),
            address: eventplane_network::lease(&receipt)
                .filter(|_| is("network"))
                .map(|lease| lease.private_ip),
            gib: if is("storage") {
                volumes.iter().map(|one| i64::from(one.spec.size_gib)).sum()
            } else {
                0
            },
            has_identity: is("security") && eventplane_security::identity(&receipt).is_some(),
        }
    }

    fn holds(&self) -> bool {
        self.room.is_some() || self.address.is_some() || self.gib > 0 || self.has_identity
    }
}

impl Fact {
    pub(super) fn read(key: &Key, item: &Item) -> Fact {
        match (key.table, key.sort.as_str()) {
            ("capacity", "host") => {
                let id = HostId::parse(&key.partition["@host/".len()..]).expect("a host id");
                Fact::Host(Box::new(Host::read(&id, item).expect("a host")))
            }
            ("storage", "pool") => {
                let number = |name| item.number(name).expect("a pool");
                Fact::Pool(number("free_gib"), number("total_gib"), number("free_iops"))
            }
            ("instances", "record") => {
                Fact::Record(Box::new(Record::read(item).expect("a record")))
            }
            ("instances", "request") => {
                Fact::Request(Box::new(Request::read(item).expect("a request")))
            }
            ("handoff", sort) if sort.starts_with("a/") => {
                let assignment = Assignment::read(key, item).expect("an assignment");
                let partition = assignment.tenant.partition(&assignment.instance);
                Fact::Assigned(partition)
            }
            (table, "receipt") if HOLDERS.contains(&table) => Fact::Held(Held::read(table, item)),
            _ => Fact::Other,
        }
    }
}

/// All facts of a state.
pub(super) struct Facts {
    cells: Vec<Arc<Cell>>,
}

impl Facts {
    pub(super) fn of(atoms: &Atoms, cells: &Cells) -> Facts {
        Facts { cells: cells.iter().map(|(_, cell)| atoms.cells.value(cell)).collect() }
    }

    fn held(&self) -> impl Iterator<Item = (&str, &Held)> {
        self.cells.iter().filter_map(|cell| match &cell.fact {
            Fact::Held(held) => Some((cell.key.partition.as_str(), held)),
            _ => None,
        })
    }

    fn held_by<'a>(&'a self, partition: &'a str, table: &str) -> Option<&'a Held> {
        self.held().find(|(of, held)| *of == partition && held.table == table).map(|found| found.1)
    }

    fn records(&self) -> impl Iterator<Item = (&str, &Record)> {
        self.cells.iter().filter_map(|cell| match &cell.fact {
            Fact::Record(record) => Some((cell.key.partition.as_str(), &**record)),
            _ => None,
        })
    }

    fn request(&self, partition: &str) -> Option<&Request> {
        self.cells.iter().find_map(|cell| match &cell.fact {
            Fact::Request(request) if cell.key.partition == partition => Some(&**request),
            _ => None,
        })
    }

    fn is_assigned(&self, partition: &str) -> bool {
        let is_it = |cell: &Arc<Cell>| matches!(&cell.fact, Fact::Assigned(of) if of == partition);
        self.cells.iter().any(is_it)
    }

    fn holds(&self, partition: &str) -> bool {
        self.held().any(|(of, held)| of == partition && held.holds()) || self.is_assigned(partition)
    }

    /// The laws that do not hold of a state, but for those that two states in a row break.
    pub(super) fn broken(&self, machines: &[Arc<Machine>]) -> u16 {
        [
            self.addresses_are_one_instances(),
            self.books_balance(),
            self.records()
                .all(|(of, one)| one.progress.state != State::Terminated || !self.holds(of)),
            self.what_runs_is_held(machines),
            true,
            self.only_owners_end_what_has_run(machines),
            is_run_once(machines),
        ]
        .iter()
        .enumerate()
        .map(|(law, holds)| if *holds { 0 } else { 1 << law })
        .sum()
    }

    fn addresses_are_one_instances(&self) -> bool {
        let mut addresses = BTreeSet::new();
        self.held().filter_map(|(_, held)| held.address.as_ref()).all(|one| addresses.insert(one))
    }

    fn books_balance(&self) -> bool {
        let mut taken: BTreeMap<&HostId, Sizes> = BTreeMap::new();
        for (host, room) in self.held().filter_map(|(_, held)| held.room.as_ref()) {
            let sum = taken.entry(host).or_default();
            sum.vcpus += room.vcpus;
            sum.memory_mib += room.memory_mib;
            sum.network_mbps += room.network_mbps;
        }
        let mut gib: i64 = self.held().map(|(_, held)| held.gib).sum();
        let mut is_good = true;
        for cell in &self.cells {
            match &cell.fact {
                Fact::Host(host) => {
                    let taken = taken.get(&host.id).copied().unwrap_or_default();
                    let (free, total) = (host.free, host.total);
                    is_good &= [
                        (free.vcpus, taken.vcpus, total.vcpus),
                        (free.memory_mib, taken.memory_mib, total.memory_mib),
                        (free.network_mbps, taken.network_mbps, total.network_mbps),
                    ]
                    .iter()
                    .all(|(free, taken, total)| *free >= 0 && free + taken == *total);
                }
                Fact::Pool(free, total, iops) => {
                    is_good &= *free >= 0 && *iops >= 0;
                    gib -= total - free;
                }
                _ => {}
            }
        }
        is_good && gib == 0
    }

    fn what_runs_is_held(&self, machines: &[Arc<Machine>]) -> bool {
        let is_held = |number: usize, partition: &str, generation: u32| {
            let room = self.held_by(partition, "capacity");
            let room = room.filter(|held| held.generation == generation);
            let room = room.and_then(|held| held.room.as_ref());
            room.is_some_and(|(host, _)| host.as_str() == host_name(number))
                && self.held_by(partition, "network").is_some_and(|held| held.address.is_some())
                && self.held_by(partition, "storage").is_some_and(|held| held.gib > 0)
                && self.held_by(partition, "security").is_some_and(|held| held.has_identity)
                && self.is_assigned(partition)
        };
        machines.iter().enumerate().all(|(number, machine)| {
            machine.running.iter().all(|(key, generation)| {
                is_held(number, &key.tenant.partition(&key.instance_id), *generation)
            })
        })
    }

    fn only_owners_end_what_has_run(&self, machines: &[Arc<Machine>]) -> bool {
        let is_ended = |partition: &str| {
            let (network, storage) =
                (self.held_by(partition, "network"), self.held_by(partition, "storage"));
            let record = self.records().find(|(of, _)| *of == partition);
            storage.is_none_or(|held| held.gib == 0)
                || network.is_none_or(|held| held.address.is_none())
                || record.is_some_and(|(_, record)| {
                    matches!(record.progress.state, State::ShuttingDown | State::Terminated)
                })
        };
        let wants_it = |partition: &str| {
            self.request(partition).and_then(Request::wants) == Some(Want::Terminated)
        };
        machines.iter().flat_map(|machine| &machine.ran).all(|key| {
            let partition = key.tenant.partition(&key.instance_id);
            !is_ended(&partition) || wants_it(&partition)
        })
    }

    /// What has not come to rest: running, stopped or terminated, as its user wants it, and so on
    /// its host as well.
    pub(super) fn unrest(&self, machines: &[Arc<Machine>]) -> Vec<String> {
        let mut unrest = Vec::new();
        for (partition, record) in self.records() {
            let state = record.progress.state;
            let runs = machines.iter().any(|machine| {
                machine
                    .running
                    .keys()
                    .any(|key| key.tenant.partition(&key.instance_id) == partition)
            });
            let wants = self.request(partition);
            let holds_room =
                self.held_by(partition, "capacity").is_some_and(|held| held.room.is_some());
            let why = match state {
                _ if state.is_moving() => "is on its way",
                _ if wants.is_some_and(|one| !one.is_shown(record)) => {
                    "is not as its user wants it"
                }
                State::Running if !runs => "runs by its record, and on no host",
                State::Stopped | State::Terminated if runs => "runs on a host",
                State::Stopped if holds_room => "is stopped and holds room",
                State::Stopped if self.is_assigned(partition) => "is stopped and assigned",
                _ => continue,
            };
            unrest.push(format!("{partition} is {state} and {why}"));
        }
        let unsaid = machines.iter().any(|machine| machine.life == Life::Gone);
        unrest.extend(unsaid.then(|| "a dead host was not declared dead".to_owned()));
        unrest
    }

    /// How many instances are in this state.
    pub(super) fn count(&self, state: State) -> usize {
        self.records().filter(|(_, record)| record.progress.state == state).count()
    }
}

/// Whether a cell takes a state back.
pub(super) fn goes_back(before: &Cell, after: &Cell) -> bool {
    let (Fact::Record(before), Fact::Record(after)) = (&before.fact, &after.fact) else {
        return false;
    };
    let (was, is) = (before.progress, after.progress);
    let state = match was.state {
        State::Terminated => is.state != State::Terminated,
        State::ShuttingDown => !matches!(is.state, State::ShuttingDown | State::Terminated),
        State::Running | State::Stopped | State::Stopping => {
            is.state == State::Pending && is.generation == was.generation
        }
        State::Pending => false,
    };
    state || is.generation < was.generation
}

fn is_run_once(machines: &[Arc<Machine>]) -> bool {
    let mut running = BTreeSet::new();
    machines.iter().flat_map(|machine| machine.running.keys()).all(|key| running.insert(key))
}

/// The name of a host by its number.
pub(super) fn host_name(number: usize) -> String {
    format!("host-{number}")
}
