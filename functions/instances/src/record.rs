//! The instance record, the request item beside it, and the client token: how they are stored.

use eventplane_domain::state::{Progress, Returned};
use eventplane_domain::{InstanceId, LaunchSpec, Millis, Outcome, Reason, State, Tenant};
use eventplane_engine::Fault;
use eventplane_store::{
    Condition, FaultKind, Index, Item, ItemExt, Key, StoreFault, Table, Update, Value, Write,
};
use std::collections::BTreeMap;

/// The table of instance records, request items and client tokens.
pub const TABLE: Table = Table {
    name: "instances",
    indexes: &[
        Index { name: BY_TENANT, partition: "tenant", sort: "id" },
        Index { name: OPEN, partition: "open", sort: NUDGE_AT },
    ],
};
/// The index of all of a tenant's instances, oldest first.
pub const BY_TENANT: &str = "by_tenant";
/// The index of the records that are on their way to another state and of the requests that no
/// record shows yet, by when the sweeper is to look at them.
pub const OPEN: &str = "open";
/// The attribute of records and requests that says when the sweeper is to look at them.
const NUDGE_AT: &str = "nudge_at";
/// The attribute that says since when it has been late.
const LATE: &str = "late";
/// Into how many partitions [`OPEN`] is divided, so that none of them is hot.
pub const OPEN_SHARDS: u64 = 8;
/// How long after a change the sweeper waits before it nudges, in milliseconds.
pub const NUDGE_AFTER_MS: i64 = 30_000;
/// How long an ended instance's client token is kept, in milliseconds: a day, as EC2 promises
/// ("Ensuring idempotency in Amazon EC2 API requests", EC2 API reference), and an hour more.
pub const TOKEN_KEPT_MS: i64 = 25 * 3600 * 1000;

/// Where an instance's record is kept.
#[must_use]
pub fn record_key(tenant: &Tenant, id: &InstanceId) -> Key {
    Key::new(TABLE.name, tenant.partition(id), "record")
}
/// Where it is kept what an instance's user wants now.
#[must_use]
pub fn request_key(tenant: &Tenant, id: &InstanceId) -> Key {
    Key::new(TABLE.name, tenant.partition(id), "request")
}
/// Where it is kept what a client token was answered.
#[must_use]
pub fn token_key(tenant: &Tenant, token: &str) -> Key {
    Key::new(TABLE.name, format!("{tenant}/token/{token}"), "token")
}

fn shard_of(id: &InstanceId) -> u64 {
    id.digits().bytes().fold(0, |sum, byte| sum + u64::from(byte))
}

/// When the sweeper is to look at the item, if it is to at all.
#[must_use]
pub fn nudge_at(item: &Item) -> Option<Millis> {
    item.text(NUDGE_AT).and_then(|ms| ms.parse().ok()).map(Millis)
}
/// Since when the record or request that `item` is has been late, if it was nudged and has not gone
/// on since: whoever writes it anew forgets that.
#[must_use]
pub fn late_since(item: &Item) -> Option<Millis> {
    item.number(LATE).map(Millis)
}
/// Sets the next look of the sweeper at the record or request under `key`, with since when it has
/// been late, or ends it; fails if that was changed since it was `due`.
#[must_use]
pub fn move_nudge(key: Key, due: Millis, next: Option<(Millis, Millis)>) -> Write {
    let updates = match next {
        Some((next, late)) => {
            vec![Update::set(NUDGE_AT, nudge_sort(next)), Update::set(LATE, late.0)]
        }
        None => vec![Update::remove("open"), Update::remove(NUDGE_AT)],
    };
    Write::update(key, updates).when(Condition::equals(NUDGE_AT, nudge_sort(due)))
}

/// Lets the sweeper look at a running instance whose host has let it go: before that is published,
/// so that it is heard also if every message of it is lost. Fails while it looks already.
#[must_use]
pub fn look_at_running(tenant: &Tenant, id: &InstanceId, now: Millis) -> Write {
    let updates = vec![
        Update::set("open", open_partition(shard_of(id))),
        Update::set(NUDGE_AT, nudge_sort(now.plus(NUDGE_AFTER_MS))),
    ];
    Write::update(record_key(tenant, id), updates)
        .when(Condition::equals(STATE, State::Running.name()))
        .when(Condition::absent(NUDGE_AT))
}

/// One of the partitions of [`OPEN`].
#[must_use]
pub fn open_partition(shard: u64) -> String {
    format!("open-{}", shard % OPEN_SHARDS)
}
/// The sort key of [`OPEN`]: texts in the order of their moments.
fn nudge_sort(at: Millis) -> String {
    format!("{:013}", at.0.max(0))
}

/// An instance, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its id.
    pub id: InstanceId,
    /// What was asked for.
    pub spec: LaunchSpec,
    /// How far it is.
    pub progress: Progress,
    /// When it was asked for.
    pub created: Millis,
    /// When the newest generation has to run.
    pub deadline: Millis,
    /// Why it is ending or has ended.
    pub reason: Option<Reason>,
    /// The client token that it was asked for with.
    pub token: Option<String>,
    /// The user's tags.
    pub tags: BTreeMap<String, String>,
    /// Whether a generation has run.
    pub has_run: bool,
    /// When the newest generation began to run.
    pub running_at: Option<Millis>,
    /// When it was terminated.
    pub ended_at: Option<Millis>,
    /// When the sweeper is to look at it: while it is moving.
    pub nudge_at: Option<Millis>,
    /// Whether the tenant's counter has it, which gives it back when it is terminated: so that quotas
    /// may come and go meanwhile.
    pub is_counted: bool,
}

const GENERATION: &str = "gen";
const STATE: &str = "state";
const WITHDRAWN: &str = "withdrawn";
const RETURNED: &str = "returned";
const ROOM_RETURNED: &str = "room";
const TAGS: &str = "tags";

impl Record {
    /// The record of an instance that is asked for now.
    #[must_use]
    pub fn requested(
        tenant: Tenant,
        id: InstanceId,
        spec: LaunchSpec,
        created: Millis,
        deadline: Millis,
    ) -> Self {
        Record {
            tenant,
            id,
            spec,
            progress: Progress::requested(),
            created,
            deadline,
            reason: None,
            token: None,
            tags: BTreeMap::new(),
            has_run: false,
            running_at: None,
            ended_at: None,
            nudge_at: Some(created.plus(NUDGE_AFTER_MS)),
            is_counted: false,
        }
    }

    /// Writes the record of a new instance.
    #[must_use]
    pub fn create(&self) -> Write {
        Write::put(record_key(&self.tenant, &self.id), self.item()).when(Condition::ItemAbsent)
    }

    /// Writes the record anew, if it is still as far as `before` was.
    #[must_use]
    pub fn replace(&self, before: &Record) -> Write {
        let (old, item) = (before.item(), self.item());
        let unchanged =
            [STATE, GENERATION, WITHDRAWN, RETURNED, ROOM_RETURNED].map(|name| {
                match old.get(name) {
                    Some(value) => Condition::equals(name, value.clone()),
                    None => Condition::absent(name),
                }
            });
        Write::put(record_key(&self.tenant, &self.id), item).when_all(unchanged)
    }

    fn item(&self) -> Item {
        let progress = &self.progress;
        let ms = |at: Option<Millis>| at.map(|at| at.0);
        let json = |value: Result<String, serde_json::Error>| value.expect("plain data");
        let tags = (!self.tags.is_empty()).then(|| json(serde_json::to_string(&self.tags)));
        Item::new()
            .with("tenant", self.tenant.as_str())
            .with("id", self.id.as_str())
            .with("spec", json(serde_json::to_string(&self.spec)))
            .with(STATE, progress.state.name())
            .with(GENERATION, i64::from(progress.generation))
            .with("created", self.created.0)
            .with("deadline", self.deadline.0)
            .with_some(WITHDRAWN, progress.withdrawn.map(Outcome::name))
            .with_some(RETURNED, returned_text(progress.returned))
            .with_some(ROOM_RETURNED, some_above_0(progress.room_returned))
            .with_some("code", self.reason.as_ref().map(|reason| reason.code.as_str()))
            .with_some("why", self.reason.as_ref().map(|reason| reason.message.as_str()))
            .with_some("token", self.token.as_deref())
            .with_some(TAGS, tags)
            .with_some("has_run", self.has_run.then_some(true))
            .with_some("running_at", ms(self.running_at))
            .with_some("ended_at", ms(self.ended_at))
            .with_some("counted", self.is_counted.then_some(true))
            .with_some("open", self.nudge_at.map(|_| open_partition(shard_of(&self.id))))
            .with_some(NUDGE_AT, self.nudge_at.map(nudge_sort))
    }

    /// Reads the record that `item` is.
    ///
    /// # Errors
    /// A fault when it is not one: somebody has to look at the table.
    pub fn read(item: &Item) -> Result<Record, Fault> {
        parse(item).ok_or_else(|| {
            let message = format!("not an instance record: {:?}", item.keys());
            Fault::Store(StoreFault::new(FaultKind::Corrupt, message))
        })
    }
}

fn parse(item: &Item) -> Option<Record> {
    let moment = |name: &str| item.number(name).map(Millis);
    let small = |name: &str| item.number(name).map_or(Some(0), |n| u32::try_from(n).ok());
    let tags =
        item.text(TAGS).map_or(Some(BTreeMap::new()), |json| serde_json::from_str(json).ok());
    let withdrawn = match item.text(WITHDRAWN) {
        Some(name) => Some(Outcome::of_name(name)?),
        None => None,
    };
    Some(Record {
        tenant: Tenant::parse(item.text("tenant")?).ok()?,
        id: InstanceId::parse(item.text("id")?).ok()?,
        spec: serde_json::from_str(item.text("spec")?).ok()?,
        progress: Progress {
            state: State::of_name(item.text(STATE)?)?,
            generation: small(GENERATION)?,
            withdrawn,
            returned: item.text(RETURNED).map(read_returned).unwrap_or_default(),
            room_returned: small(ROOM_RETURNED)?,
        },
        created: moment("created")?,
        deadline: moment("deadline")?,
        reason: item
            .text("code")
            .map(|code| Reason::new(code, item.text("why").unwrap_or_default())),
        token: item.text("token").map(str::to_owned),
        tags: tags?,
        has_run: item.is_true("has_run"),
        running_at: moment("running_at"),
        ended_at: moment("ended_at"),
        nudge_at: nudge_at(item),
        is_counted: item.is_true("counted"),
    })
}

fn some_above_0(n: u32) -> Option<i64> {
    (n > 0).then_some(i64::from(n))
}

/// Who has given back for good, as letters: c, n, s (storage), x (security).
fn returned_text(returned: Returned) -> Option<String> {
    let text: String = [
        (returned.capacity, 'c'),
        (returned.network, 'n'),
        (returned.storage, 's'),
        (returned.security, 'x'),
    ]
    .into_iter()
    .filter_map(|(has, letter)| has.then_some(letter))
    .collect();
    (!text.is_empty()).then_some(text)
}

fn read_returned(text: &str) -> Returned {
    Returned {
        capacity: text.contains('c'),
        network: text.contains('n'),
        storage: text.contains('s'),
        security: text.contains('x'),
    }
}

/// What an instance's user wants it to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Want {
    Stopped,
    Terminated,
}

/// The request item: what the user wants now, written before the request is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it is to become.
    pub wants: Want,
    /// The generation that the user saw.
    pub generation: u32,
    /// When it was asked.
    pub at: Millis,
    /// Who asked, and why.
    pub reason: Reason,
}

impl Request {
    /// Writes the request, and puts it where the sweeper looks until the record shows it. A
    /// termination is never taken back, so nothing overwrites one.
    #[must_use]
    pub fn write(&self, tenant: &Tenant, id: &InstanceId) -> Write {
        let wants = match self.wants {
            Want::Stopped => "stopped",
            Want::Terminated => "terminated",
        };
        let item = Item::new()
            .with("wants", wants)
            .with(GENERATION, i64::from(self.generation))
            .with("at", self.at.0)
            .with("code", self.reason.code.as_str())
            .with("why", self.reason.message.as_str())
            .with("open", open_partition(shard_of(id)))
            .with(NUDGE_AT, nudge_sort(self.at.plus(NUDGE_AFTER_MS)));
        Write::put(request_key(tenant, id), item)
            .when(Condition::differs("wants", Value::from("terminated")))
    }

    /// Reads the request that `item` is.
    ///
    /// # Errors
    /// A fault when it is not one.
    pub fn read(item: &Item) -> Result<Request, Fault> {
        let read = || {
            Some(Request {
                wants: match item.text("wants")? {
                    "stopped" => Want::Stopped,
                    "terminated" => Want::Terminated,
                    _ => return None,
                },
                generation: u32::try_from(item.number(GENERATION)?).ok()?,
                at: Millis(item.number("at")?),
                reason: Reason::new(item.text("code")?, item.text("why")?),
            })
        };
        read().ok_or_else(|| {
            let message = format!("not a request item: {:?}", item.keys());
            Fault::Store(StoreFault::new(FaultKind::Corrupt, message))
        })
    }
}

/// The state that a user sees: what was asked for shows at once, before anybody has acted on it.
#[must_use]
pub fn shown_state(record: &Record, request: Option<&Request>) -> State {
    match (record.progress.state, request.map(|request| request.wants)) {
        (State::Terminated, _) => State::Terminated,
        (_, Some(Want::Terminated)) => State::ShuttingDown,
        (State::Pending | State::Running, Some(Want::Stopped))
            if request.is_some_and(|r| r.generation == record.progress.generation) =>
        {
            State::Stopping
        }
        (state, _) => state,
    }
}
