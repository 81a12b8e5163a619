//! The instance record, and where the request item and the client token beside it are kept.

use crate::nudge::{NUDGE_AT, NUDGES, first_nudge, nudge_at, nudge_sort, open_partition, shard_of};
use eventplane_domain::state::{Progress, Returned};
use eventplane_domain::{InstanceId, LaunchSpec, Millis, Outcome, Reason, State, Tenant};
use eventplane_engine::Fault;
use eventplane_events::InstanceRequested;
use eventplane_store::{Condition, FaultKind, Index, Item, ItemExt, Key, StoreFault, Table, Write};
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
/// The attribute of a client token that says which reservation it was answered with.
pub(crate) const RESERVATION: &str = "reservation";
/// Where it is kept what a client token was answered.
#[must_use]
pub fn token_key(tenant: &Tenant, token: &str) -> Key {
    Key::new(TABLE.name, format!("{tenant}/token/{token}"), "token")
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
    /// Whether a generation has run, or may have.
    pub has_run: bool,
    /// How many hosts in a row had the newest generations and did not run them.
    pub replaced: u32,
    /// The newest reboot that its host has the order for; 0 for none.
    pub reboots: u32,
    /// By when the state that it is moving through should be over, apart from a launch's deadline:
    /// nothing is forced then, for what holds it up is the word of a host. It is shown.
    pub due: Option<Millis>,
    /// How often the sweeper has nudged it in this state.
    pub nudges: u32,
    /// When the newest generation began to run.
    pub running_at: Option<Millis>,
    /// When it was terminated.
    pub ended_at: Option<Millis>,
    /// When the sweeper is to look at it: while it is moving.
    pub nudge_at: Option<Millis>,
    /// Whether its host has let the newest generation go before the record shows that it runs.
    pub is_let_go: bool,
    /// Whether the tenant's counter has it, which gives it back when it is terminated: so that quotas
    /// may come and go meanwhile.
    pub is_counted: bool,
}

pub(crate) const GENERATION: &str = "gen";
pub(crate) const STATE: &str = "state";
pub(crate) const LET_GO: &str = "let_go";
const WITHDRAWN: &str = "withdrawn";
const RETURNED: &str = "returned";
const ROOM_RETURNED: &str = "room";
const REBOOTS: &str = "reboots";
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
            replaced: 0,
            reboots: 0,
            due: None,
            nudges: 0,
            running_at: None,
            ended_at: None,
            nudge_at: Some(first_nudge(created, deadline)),
            is_let_go: false,
            is_counted: false,
        }
    }

    /// What is asked of the steps for the newest generation.
    #[must_use]
    pub fn requested_now(&self) -> InstanceRequested {
        let (spec, has_run, replaced) = (self.spec.clone(), self.has_run, self.replaced);
        InstanceRequested { spec, has_run, replaced }
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
        let names =
            [STATE, GENERATION, WITHDRAWN, RETURNED, ROOM_RETURNED, REBOOTS, NUDGE_AT, LET_GO];
        let unchanged = names.map(|name| match old.get(name) {
            Some(value) => Condition::equals(name, value.clone()),
            None => Condition::absent(name),
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
            .with_some("replaced", some_above_0(self.replaced))
            .with_some(REBOOTS, some_above_0(self.reboots))
            .with_some("due", ms(self.due))
            .with_some(NUDGES, some_above_0(self.nudges))
            .with_some("running_at", ms(self.running_at))
            .with_some("ended_at", ms(self.ended_at))
            .with_some(LET_GO, self.is_let_go.then_some(true))
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
        replaced: small("replaced")?,
        reboots: small(REBOOTS)?,
        due: moment("due"),
        nudges: small(NUDGES)?,
        running_at: moment("running_at"),
        ended_at: moment("ended_at"),
        nudge_at: nudge_at(item),
        is_let_go: item.is_true(LET_GO),
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
