//! Where to look for a host: at all of them while they are few, otherwise at some that the index
//! says have room. Three reads after the fleet's counts are known, however many hosts there are.

use crate::fleet::{HOSTS, ROSTER, groups, read_hosts, roster_ids};
use crate::host::{
    CLASS_MAX, Host, HostState, NO_GPUS, SHARDS, Sizes, class_count, class_that_fits,
    class_that_may_fit, directory_key, host_at, index_partition,
};
use eventplane_domain::{HostId, LaunchSpec, Strategy};
use eventplane_engine::{Dice, Fault};
use eventplane_store::{Item, ItemExt, Key, Query, Store};

/// Up to this many hosts, all of them are looked at for every launch.
pub(crate) const LOOK_AT_ALL: i64 = 32;
/// Up to this many hosts, all of them are looked at before a launch is refused, so that the
/// refusal's counts are exact.
pub(crate) const EXACT_UP_TO: i64 = 1_000;
/// How many hosts are looked at when the index says that each of them has room: the best of a few
/// is nearly as good as the best of all, and each one more is read and decoded at every launch.
const SURE: usize = 8;
/// How many hosts are looked at when the index says that each of them may have room.
const PERHAPS: usize = 100;
/// How often a walk may find that the hosts counted have moved to another class meanwhile, which
/// takes a race for the last ones of a class.
const WALKS: usize = 3;
/// How many places the index has to begin a walk at.
const PLACES: usize = 1 << 16;

/// What the search has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Every host of the fleet.
    All(Vec<Host>),
    /// Some hosts, and how many there are of which kind.
    Some(Vec<Host>, Counts),
}

/// How many hosts there are, from the fleet's and the index's counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// All hosts.
    pub hosts: i64,
    /// Hosts in zones that the launch does not allow.
    pub other_zones: i64,
    /// Hosts of the right zones without the GPUs that the launch needs.
    pub other_models: i64,
    /// Of the others: those being drained.
    pub draining: i64,
    /// Of the others: those that have been silent for too long.
    pub impaired: i64,
    /// Of the others: those declared dead.
    pub dead: i64,
    /// Of the others: those that may have the room.
    pub may_fit: i64,
    /// Of the others: those that have not.
    pub too_full: i64,
}

/// The hosts of one zone, GPU model and shard, counted by class.
pub(crate) struct Directory<'f> {
    pub(crate) zone: &'f str,
    pub(crate) model: &'f str,
    shard: u64,
    pub(crate) counts: Item,
}

impl Directory<'_> {
    fn count(&self, class: i64) -> i64 {
        self.counts.number(&class_count(class)).unwrap_or(0)
    }
    fn of_state(&self, state: HostState) -> i64 {
        self.counts.number(state.name()).unwrap_or(0)
    }
    fn may_fit_from(&self, need: Sizes) -> i64 {
        class_that_may_fit(need, self.model != NO_GPUS)
    }
}

/// A part of the index in which all hosts are of one class.
struct Cell<'d, 'f> {
    directory: &'d Directory<'f>,
    class: i64,
}

/// Looks for hosts for the launch.
pub(crate) async fn search(
    store: &dyn Store,
    spec: &LaunchSpec,
    fleet: Option<&Item>,
    dice: &mut Dice,
) -> Result<Seen, Fault> {
    let Some(fleet) = fleet else { return Ok(Seen::All(vec![])) };
    let hosts = fleet.number(HOSTS).unwrap_or(0);
    if hosts <= LOOK_AT_ALL {
        return Ok(Seen::All(all(store).await?));
    }
    let need = Sizes::needed(spec);
    let least = class_that_fits(need).unwrap_or(CLASS_MAX + 1);
    for _ in 0..WALKS {
        let directories = directories(store, spec, fleet).await?;
        let counts = count(spec, need, fleet, &directories);
        let surely = |_: &Directory| least..CLASS_MAX + 1;
        let perhaps = |directory: &Directory| directory.may_fit_from(need)..least;
        let (cell, limit) = match pick(&directories, surely, spec.strategy, dice) {
            Some(cell) => (cell, SURE),
            None if hosts <= EXACT_UP_TO => return Ok(Seen::All(all(store).await?)),
            None => match pick(&directories, perhaps, spec.strategy, dice) {
                Some(cell) => (cell, PERHAPS),
                None => return Ok(Seen::Some(vec![], counts)),
            },
        };
        let hosts = walk(store, &cell, limit, dice).await?;
        if !hosts.is_empty() {
            return Ok(Seen::Some(hosts, counts));
        }
    }
    let message = "the hosts that the index counted had other classes when they were read";
    Err(Fault::Other(message.to_owned()))
}

/// Every host of a fleet of up to [`EXACT_UP_TO`].
pub(crate) async fn all(store: &dyn Store) -> Result<Vec<Host>, Fault> {
    let limit = usize::try_from(EXACT_UP_TO).unwrap_or(usize::MAX);
    let roster = store.query(&Query::partition(crate::TABLE.name, ROSTER, limit)).await?;
    let ids = roster_ids(roster.items.iter().map(|(key, _)| key));
    read_hosts(store, &ids).await
}

fn is_right(spec: &LaunchSpec, zone: &str, model: &str) -> bool {
    spec.zone.as_deref().is_none_or(|wanted| wanted == zone)
        && spec.gpus.as_ref().is_none_or(|gpus| gpus.model == model)
}

async fn directories<'f>(
    store: &dyn Store,
    spec: &LaunchSpec,
    fleet: &'f Item,
) -> Result<Vec<Directory<'f>>, Fault> {
    directories_of(store, groups(fleet).filter(|(zone, model, _)| is_right(spec, zone, model)))
        .await
}

/// The directories of the whole fleet.
pub(crate) async fn directories_of_all<'f>(
    store: &dyn Store,
    fleet: &'f Item,
) -> Result<Vec<Directory<'f>>, Fault> {
    directories_of(store, groups(fleet)).await
}

async fn directories_of<'f>(
    store: &dyn Store,
    groups: impl Iterator<Item = (&'f str, &'f str, i64)>,
) -> Result<Vec<Directory<'f>>, Fault> {
    let places: Vec<(&str, &str, u64)> = groups
        .flat_map(|(zone, model, _)| (0..SHARDS).map(move |shard| (zone, model, shard)))
        .collect();
    let keys: Vec<Key> =
        places.iter().map(|(zone, model, shard)| directory_key(zone, model, *shard)).collect();
    let items = store.batch_get(&keys).await?;
    let read = |((zone, model, shard), item): ((&'f str, &'f str, u64), Option<Item>)| {
        Some(Directory { zone, model, shard, counts: item? })
    };
    Ok(places.into_iter().zip(items).filter_map(read).collect())
}

fn count(spec: &LaunchSpec, need: Sizes, fleet: &Item, directories: &[Directory]) -> Counts {
    let mut counts = Counts { hosts: fleet.number(HOSTS).unwrap_or(0), ..Counts::default() };
    for (zone, model, hosts) in groups(fleet) {
        if spec.zone.as_deref().is_some_and(|wanted| wanted != zone) {
            counts.other_zones += hosts;
        } else if !is_right(spec, zone, model) {
            counts.other_models += hosts;
        }
    }
    for directory in directories {
        counts.draining += directory.of_state(HostState::Draining);
        counts.impaired += directory.of_state(HostState::Impaired);
        counts.dead += directory.of_state(HostState::Dead);
        let may_fit = directory.may_fit_from(need);
        counts.too_full += (0..may_fit).map(|class| directory.count(class)).sum::<i64>();
        counts.may_fit += (may_fit..=CLASS_MAX).map(|class| directory.count(class)).sum::<i64>();
    }
    counts
}

/// Picks a part of the index to walk. To spread: one of all, as often as it has room, so that many
/// launches at once do not meet. To pack: one of the lowest class. Hosts with GPUs only if no others are there, unless the
/// launch needs GPUs (then no others are looked at).
fn pick<'d, 'f>(
    directories: &'d [Directory<'f>],
    classes: impl Fn(&Directory) -> std::ops::Range<i64>,
    strategy: Strategy,
    dice: &mut Dice,
) -> Option<Cell<'d, 'f>> {
    let cells = directories.iter().flat_map(|directory| {
        let filled = classes(directory).filter(|class| directory.count(*class) > 0);
        filled.map(move |class| Cell { directory, class })
    });
    let mut cells: Vec<Cell> = cells.collect();
    if cells.iter().any(|cell| cell.directory.model == NO_GPUS) {
        cells.retain(|cell| cell.directory.model == NO_GPUS);
    }
    if strategy == Strategy::Pack {
        let lowest = cells.iter().map(|cell| cell.class).min()?;
        cells.retain(|cell| cell.class == lowest);
    }
    let by_room = |cell: &Cell| cell.directory.count(cell.class).unsigned_abs() << cell.class;
    let drawn = draw(&cells, by_room, dice)?;
    Some(cells.swap_remove(drawn))
}

/// Draws a cell, each as often as its weight says.
fn draw(cells: &[Cell], weight: impl Fn(&Cell) -> u64, dice: &mut Dice) -> Option<usize> {
    let total: u64 = cells.iter().map(&weight).sum();
    let mut drawn = dice.below(usize::try_from(total).unwrap_or(usize::MAX)) as u64;
    cells.iter().position(|cell| {
        let weight = weight(cell);
        let is_it = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        is_it
    })
}

/// Reads up to `limit` hosts of a cell, from a random place on.
async fn walk(
    store: &dyn Store,
    cell: &Cell<'_, '_>,
    limit: usize,
    dice: &mut Dice,
) -> Result<Vec<Host>, Fault> {
    let Directory { zone, model, shard, .. } = cell.directory;
    let partition = index_partition(zone, model, *shard, cell.class);
    let hosts = usize::try_from(cell.directory.count(cell.class)).unwrap_or(0);
    // Early enough that as many hosts as are wanted can be expected behind it.
    let start = dice.below(PLACES - PLACES * limit.min(hosts) / hosts.max(1));
    let query = Query::partition(crate::TABLE.name, partition, limit);
    let page = store.query(&query.starting_at(format!("{start:04x}"))).await?;
    let ids: Vec<HostId> = page.items.iter().filter_map(|(key, _)| host_at(&key.sort)).collect();
    read_hosts(store, &ids).await
}
