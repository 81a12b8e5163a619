//! A host and the room on it, as items: and how the room changes, with the place in the index that
//! follows from it.
//!
//! The index groups the active hosts by zone, GPU model, shard and class. The class is coarse (a
//! power of two of what is scarcest), so that most reservations change no class and so move no
//! index. A reservation's conditions are predicates under which the class stays exact: two
//! reservations on one host conflict only where one of them would change it, or take too much.

use eventplane_domain::{GpuNeed, HostId, LaunchSpec, Mutant, Placement, planted};
use eventplane_engine::Fault;
use eventplane_store::{
    Condition, FaultKind, Item, ItemExt, Key, StoreFault, Update, Value, Write,
};
use serde::Serialize;

/// The room of a host, or the need of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Sizes {
    /// Virtual CPUs.
    pub vcpus: i64,
    /// Memory in MiB.
    pub memory_mib: i64,
    /// Network bandwidth in Mbps.
    pub network_mbps: i64,
    /// GPUs, all of one model.
    pub gpus: i64,
}

/// How many dimensions room has.
const DIMENSIONS: usize = 4;
const FREE: [&str; DIMENSIONS] = ["free_vcpus", "free_memory", "free_network", "free_gpus"];
const TOTAL: [&str; DIMENSIONS] = ["vcpus", "memory", "network", "gpus"];
/// What people call the dimensions.
pub(crate) const DIMENSION_NAMES: [&str; DIMENSIONS] =
    ["vCPUs", "memory", "network bandwidth", "GPUs"];

impl Sizes {
    /// What the launch needs.
    #[must_use]
    pub fn needed(spec: &LaunchSpec) -> Sizes {
        Sizes {
            vcpus: i64::from(spec.vcpus),
            memory_mib: i64::from(spec.memory_mib),
            network_mbps: i64::from(spec.network_mbps),
            gpus: spec.gpus.as_ref().map_or(0, |gpus| i64::from(gpus.count)),
        }
    }

    pub(crate) fn each(self) -> [i64; DIMENSIONS] {
        [self.vcpus, self.memory_mib, self.network_mbps, self.gpus]
    }
    pub(crate) fn of(each: [i64; DIMENSIONS]) -> Sizes {
        let [vcpus, memory_mib, network_mbps, gpus] = each;
        Sizes { vcpus, memory_mib, network_mbps, gpus }
    }
    pub(crate) fn zip(self, other: Sizes, with: impl Fn(i64, i64) -> i64) -> Sizes {
        let (a, b) = (self.each(), other.each());
        Sizes::of(std::array::from_fn(|d| with(a[d], b[d])))
    }
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Sizes) -> Sizes {
        self.zip(other, |a, b| a.saturating_add(b))
    }
    /// This less the other.
    #[must_use]
    pub fn minus(self, other: Sizes) -> Sizes {
        self.zip(other, |a, b| a.saturating_sub(b))
    }
    /// The first dimension in which this is less than `need`.
    pub(crate) fn short_of(self, need: Sizes) -> Option<usize> {
        (0..DIMENSIONS).find(|d| self.each()[*d] < need.each()[*d])
    }

    pub(crate) fn read(item: &Item, names: [&str; DIMENSIONS]) -> Option<Sizes> {
        let mut each = [0; DIMENSIONS];
        for (d, name) in names.into_iter().enumerate() {
            each[d] = item.number(name)?;
        }
        Some(Sizes::of(each))
    }
    pub(crate) fn write(self, item: Item, names: [&str; DIMENSIONS]) -> Item {
        let mut item = item;
        for (name, value) in names.into_iter().zip(self.each()) {
            item.insert(name.to_owned(), Value::N(value));
        }
        item
    }
}

/// The highest class: 2^15 vCPUs free and what goes with them.
pub(crate) const CLASS_MAX: i64 = 16;

/// The least room that a host of this class has free, per dimension: class 1 begins at 1 vCPU,
/// 2 GiB and 64 Mbps, every class after it at twice the one before. Eight vCPUs count as much as
/// one GPU. Class 0 has less than that in some dimension.
#[must_use]
pub(crate) fn least_of_class(class: i64) -> Sizes {
    if class <= 0 {
        return Sizes::default();
    }
    let units = 1_i64 << (class.min(62) - 1);
    Sizes { vcpus: units, memory_mib: units * 2048, network_mbps: units * 64, gpus: units / 8 }
}

/// The class of a host with this room free; GPUs count only on a host that has some.
#[must_use]
pub(crate) fn class_of(free: Sizes, has_gpus: bool) -> i64 {
    (1..=CLASS_MAX).rev().find(|class| holds_class(free, *class, has_gpus)).unwrap_or(0)
}

fn holds_class(free: Sizes, class: i64, has_gpus: bool) -> bool {
    let mut least = least_of_class(class);
    if !has_gpus {
        least.gpus = 0;
    }
    free.short_of(least).is_none()
}

/// The lowest class in which every host fits the need.
#[must_use]
pub(crate) fn class_that_fits(need: Sizes) -> Option<i64> {
    (1..=CLASS_MAX).find(|class| least_of_class(*class).short_of(need).is_none())
}

/// The lowest class in which a host may fit the need: in lower ones none does.
#[must_use]
pub(crate) fn class_that_may_fit(need: Sizes, has_gpus: bool) -> i64 {
    class_of(need, has_gpus)
}

/// Whether a host takes new instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// It takes new instances.
    Active,
    /// It runs what it has, and takes nothing new.
    Draining,
    /// It has been silent for too long: what it has may run on, and nothing new is sent to it.
    Impaired,
    /// An operator has said that it is dead.
    Dead,
}

impl HostState {
    /// All states.
    pub const ALL: [HostState; 4] =
        [HostState::Active, HostState::Draining, HostState::Impaired, HostState::Dead];

    /// The state's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            HostState::Active => "active",
            HostState::Draining => "draining",
            HostState::Impaired => "impaired",
            HostState::Dead => "dead",
        }
    }
    /// The state of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<HostState> {
        HostState::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A host, as its item has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its zone.
    pub zone: String,
    /// Its rack.
    pub rack: String,
    /// Whether it takes new instances.
    pub state: HostState,
    /// The model of its GPUs, if it has any.
    pub gpu_model: Option<String>,
    /// All its room.
    pub total: Sizes,
    /// Its room that nobody holds.
    pub free: Sizes,
    /// Whether an agent has enrolled for it: then it speaks for itself, and nobody else does.
    pub is_enrolled: bool,
}

const ZONE: &str = "zone";
const RACK: &str = "rack";
const STATE: &str = "state";
const MODEL: &str = "model";
const CLASS: &str = "class";
/// Whether an agent has enrolled for it, and it speaks for itself.
pub(crate) const ENROLLED: &str = "enrolled";

/// Into how many shards the hosts of a zone and model are divided.
pub(crate) const SHARDS: u64 = 8;
/// How the index names hosts without GPUs.
pub(crate) const NO_GPUS: &str = "-";

/// Where a host is kept.
#[must_use]
pub fn host_key(host: &HostId) -> Key {
    Key::new(crate::TABLE.name, format!("@host/{host}"), "host")
}

/// The partition of the index in which the hosts of one class stand, in an order of no meaning.
pub(crate) fn index_partition(zone: &str, model: &str, shard: u64, class: i64) -> String {
    format!("@free/{zone}/{model}/{shard}/{class:02}")
}

/// Where it is counted how many hosts of a zone, model and shard are in which class.
pub(crate) fn directory_key(zone: &str, model: &str, shard: u64) -> Key {
    Key::new(crate::TABLE.name, format!("@directory/{zone}/{model}"), format!("{shard}"))
}

/// The directory's attribute for a class, or for a state in which hosts are not in the index.
pub(crate) fn class_count(class: i64) -> String {
    format!("c{class}")
}

/// A number that is peculiar to the host and spreads evenly (FNV-1a).
pub(crate) fn spread(host: &HostId) -> u64 {
    host.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Host {
    /// Reads the host that `item` is.
    ///
    /// # Errors
    /// A fault when it is not one: somebody has to look at the table.
    pub fn read(id: &HostId, item: &Item) -> Result<Host, Fault> {
        let read = || {
            Some(Host {
                id: id.clone(),
                zone: item.text(ZONE)?.to_owned(),
                rack: item.text(RACK)?.to_owned(),
                state: HostState::of_name(item.text(STATE)?)?,
                gpu_model: item.text(MODEL).map(str::to_owned),
                total: Sizes::read(item, TOTAL)?,
                free: Sizes::read(item, FREE)?,
                is_enrolled: item.is_true(ENROLLED),
            })
        };
        read().ok_or_else(|| {
            let message = format!("{id} is not a host: {:?}", item.keys());
            Fault::Store(StoreFault::new(FaultKind::Corrupt, message))
        })
    }

    /// The item of the host.
    fn item(&self) -> Item {
        let item = Item::new()
            .with(ZONE, self.zone.as_str())
            .with(RACK, self.rack.as_str())
            .with(STATE, self.state.name())
            .with(CLASS, self.class())
            .with_some(MODEL, self.gpu_model.as_deref())
            .with_some(ENROLLED, self.is_enrolled.then_some(true));
        self.free.write(self.total.write(item, TOTAL), FREE)
    }

    /// Where an instance on it is.
    #[must_use]
    pub fn placement(&self) -> Placement {
        Placement { host: self.id.clone(), zone: self.zone.clone(), rack: self.rack.clone() }
    }

    /// How the index names its GPUs.
    pub(crate) fn model(&self) -> &str {
        self.gpu_model.as_deref().unwrap_or(NO_GPUS)
    }

    /// Whether it has the GPUs that are needed, used or not.
    pub(crate) fn has_model(&self, gpus: Option<&GpuNeed>) -> bool {
        gpus.is_none_or(|need| self.gpu_model.as_deref() == Some(need.model.as_str()))
    }

    pub(crate) fn shard(&self) -> u64 {
        spread(&self.id) % SHARDS
    }
    fn class(&self) -> i64 {
        class_of(self.free, self.gpu_model.is_some())
    }
    fn index_key(&self, class: i64) -> Key {
        let partition = index_partition(&self.zone, self.model(), self.shard(), class);
        Key::new(
            crate::TABLE.name,
            partition,
            index_sort((spread(&self.id) >> 32) as u16, &self.id),
        )
    }
    /// How it is counted in its directory.
    fn counted_as(&self) -> String {
        match self.state {
            HostState::Active => class_count(self.class()),
            state => state.name().to_owned(),
        }
    }

    /// Writes a host that was never there, without the fleet's own count.
    pub(crate) fn create(&self) -> Vec<Write> {
        let directory = directory_key(&self.zone, self.model(), self.shard());
        vec![
            Write::put(host_key(&self.id), self.item()).when(Condition::ItemAbsent),
            Write::put(self.index_key(self.class()), Item::new()),
            Write::update(directory, vec![Update::add(self.counted_as(), 1)]),
        ]
    }

    /// Gives (what is positive) and takes (what is negative) room. Holds only while the host's
    /// state is as read and the class, before and after, is as computed here.
    pub(crate) fn change_room(&self, change: Sizes) -> Vec<Write> {
        let after = Host { free: self.free.plus(change), ..self.clone() };
        let (old, new) = (self.class(), after.class());
        let mut write = Write::update(host_key(&self.id), room_updates(change, old, new))
            .when(Condition::equals(STATE, self.state.name()))
            .when(Condition::equals(CLASS, old));
        let least = self.least_of(new);
        for (d, free) in FREE.into_iter().enumerate() {
            let (change, least) = (change.each()[d], least.each()[d]);
            // Where nothing is taken and the class does not rise, it holds by itself.
            let binds = change < 0 || new > old;
            if binds && !planted(Mutant::CounterOutsideItsCondition) {
                write = write.when(Condition::at_least(free, least - change));
            }
        }
        let only_takes = change.each().iter().all(|change| *change <= 0);
        if new < CLASS_MAX && !(only_takes && new == old) {
            let above = self.least_of(new + 1);
            let binding = after.free.short_of(above).expect("it is not of the class above");
            let most = above.each()[binding] - 1 - change.each()[binding];
            write = write.when(Condition::at_most(FREE[binding], most));
        }
        let mut writes = vec![write];
        if old != new && self.state == HostState::Active {
            writes.extend(self.move_index(&after));
        }
        writes
    }

    fn least_of(&self, class: i64) -> Sizes {
        let mut least = least_of_class(class);
        if self.gpu_model.is_none() {
            least.gpus = 0;
        }
        least
    }

    /// Moves the host in the index, and in the directory, to where `after` belongs.
    fn move_index(&self, after: &Host) -> Vec<Write> {
        let mut writes = vec![];
        if self.state == HostState::Active {
            writes.push(Write::delete(self.index_key(self.class())));
        }
        if after.state == HostState::Active {
            writes.push(Write::put(after.index_key(after.class()), Item::new()));
        }
        let directory = directory_key(&self.zone, self.model(), self.shard());
        let counts = vec![Update::add(self.counted_as(), -1), Update::add(after.counted_as(), 1)];
        writes.push(Write::update(directory, counts));
        writes
    }

    /// Changes whether it takes new instances; holds while state and class are as read.
    pub(crate) fn change_state(&self, state: HostState) -> Vec<Write> {
        let after = Host { state, ..self.clone() };
        let write = Write::update(host_key(&self.id), vec![Update::set(STATE, after.state.name())])
            .when(Condition::equals(STATE, self.state.name()))
            .when(Condition::equals(CLASS, self.class()));
        let mut writes = vec![write];
        writes.extend(self.move_index(&after));
        writes
    }

    /// Changes its sizes: total and free by the same difference, in one condition. `None` if more
    /// is held than would be left.
    pub(crate) fn change_sizes(&self, total: Sizes, rack: &str) -> Option<Vec<Write>> {
        let difference = total.minus(self.total);
        if self.free.plus(difference).short_of(Sizes::default()).is_some() {
            return None;
        }
        let mut writes = self.change_room(difference);
        let host = &mut writes[0];
        let eventplane_store::Action::Update(updates) = &mut host.action else {
            unreachable!("room changes by an update")
        };
        for (name, value) in TOTAL.into_iter().zip(total.each()) {
            updates.push(Update::set(name, value));
        }
        updates.push(Update::set(RACK, rack));
        for (name, value) in TOTAL.into_iter().zip(self.total.each()) {
            host.conditions.push(Condition::equals(name, value));
        }
        Some(writes)
    }
}

fn room_updates(change: Sizes, old: i64, new: i64) -> Vec<Update> {
    let mut updates: Vec<Update> = FREE
        .into_iter()
        .zip(change.each())
        .filter(|(_, change)| *change != 0)
        .map(|(name, change)| Update::add(name, change))
        .collect();
    if old != new {
        updates.push(Update::set(CLASS, new));
    }
    updates
}

/// The sort key in the index: a place of no meaning first, so that a walk may begin anywhere.
pub(crate) fn index_sort(place: u16, host: &HostId) -> String {
    format!("{place:04x}/{host}")
}

/// The host that stands at this place of the index.
pub(crate) fn host_at(sort: &str) -> Option<HostId> {
    HostId::parse(sort.split_once('/')?.1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_store::{apply, holds};
    use proptest::prelude::*;

    fn host(free: Sizes, total: Sizes, gpus: bool) -> Host {
        Host {
            id: HostId::parse("h-1").expect("a host id"),
            zone: "a".to_owned(),
            rack: "r".to_owned(),
            state: HostState::Active,
            gpu_model: gpus.then(|| "T4".to_owned()),
            total,
            free,
            is_enrolled: false,
        }
    }

    fn sizes() -> impl proptest::strategy::Strategy<Value = Sizes> {
        (0..200_i64, 0..400_000_i64, 0..30_000_i64, 0..9_i64)
            .prop_map(|(v, m, n, g)| Sizes::of([v, m, n, g]))
    }

    #[test]
    fn every_host_of_the_class_that_fits_fits_and_below_the_one_that_may_none_does() {
        let need = Sizes { vcpus: 2, memory_mib: 8192, network_mbps: 500, gpus: 0 };
        assert_eq!(class_that_fits(need), Some(4));
        assert_eq!(class_that_may_fit(need, false), 2);
        let gpu = Sizes { vcpus: 4, memory_mib: 16384, network_mbps: 500, gpus: 1 };
        assert_eq!(class_that_fits(gpu), Some(4));
        assert_eq!(class_that_fits(Sizes { vcpus: 1 << 20, ..need }), None);
    }

    proptest! {
        #[test]
        fn classes_bound_what_fits(free in sizes(), need in sizes(), gpus: bool) {
            let gpus = gpus || need.gpus > 0;
            let free = if gpus { free } else { Sizes { gpus: 0, ..free } };
            let class = class_of(free, gpus);
            let fits = free.short_of(need).is_none();
            if class_that_fits(need).is_some_and(|least| class >= least) {
                prop_assert!(fits);
            }
            if class < class_that_may_fit(need, gpus) {
                prop_assert!(!fits);
            }
        }

        /// Whatever has happened to the host since it was read: if the conditions hold, the class
        /// written is the class of the room that is then free, and no room is below zero.
        #[test]
        fn the_class_stays_exact(
            read in sizes(), now in sizes(), change in sizes(), gives: bool, gpus: bool,
        ) {
            let total = Sizes::of([1 << 20; 4]);
            let only = |s: Sizes| if gpus { s } else { Sizes { gpus: 0, ..s } };
            let (read, now, change) = (only(read), only(now), only(change));
            let change = if gives { change } else { Sizes::default().minus(change) };
            prop_assume!(read.plus(change).short_of(Sizes::default()).is_none());
            let write = host(read, total, gpus).change_room(change).remove(0);
            for stands in [now, read] {
                let item = host(stands, total, gpus).item();
                if write.conditions.iter().all(|c| holds(c, Some(&item))) {
                    let after = apply(write.action.clone(), Some(item)).expect("an item");
                    let free = Sizes::read(&after, FREE).expect("sizes");
                    prop_assert!(free.short_of(Sizes::default()).is_none(), "over-committed");
                    prop_assert_eq!(after.number(CLASS), Some(class_of(free, gpus)));
                } else {
                    prop_assert!(stands != read, "what is as it was read can be written");
                }
            }
        }
    }
}
