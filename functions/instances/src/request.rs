//! The request item: what an instance's user wants now, written before the request is published, so
//! that a request whose publication is lost is not.

use crate::nudge::{NUDGE_AFTER_MS, NUDGE_AT, nudge_sort, open_partition, shard_of};
use crate::record::{GENERATION, Record, request_key};
use eventplane_domain::{InstanceId, Millis, Reason, State, Tenant};
use eventplane_engine::Fault;
use eventplane_store::{Condition, FaultKind, Item, ItemExt, StoreFault, Write};

/// What an instance's user wants it to become. The newest want holds until it is shown or until
/// another one takes its place; nothing takes the place of a termination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Want {
    Running,
    Rebooted,
    Stopped,
    Terminated,
}

const WANTS: [(Want, &str); 4] = [
    (Want::Running, "running"),
    (Want::Rebooted, "rebooted"),
    (Want::Stopped, "stopped"),
    (Want::Terminated, "terminated"),
];

/// One thing that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What the instance is to become.
    pub wants: Want,
    /// The generation that the user saw.
    pub generation: u32,
    /// When it was asked.
    pub at: Millis,
    /// Who asked, and why.
    pub reason: Reason,
}

/// All that users have said of an instance since its launch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// What was asked for last.
    pub asked: Option<Asked>,
    /// How many reboots have been asked for.
    pub reboots: u32,
    /// Whether terminations are refused.
    pub is_protected: bool,
    /// How often it was written: whoever changes it has seen it as it stands.
    pub version: u32,
}

const WANTED: &str = "wants";
const REBOOTS: &str = "reboots";
const PROTECTED: &str = "protected";
const VERSION: &str = "version";

impl Request {
    /// What the user wants now, if anything was asked for after the launch.
    #[must_use]
    pub fn wants(&self) -> Option<Want> {
        self.asked.as_ref().map(|asked| asked.wants)
    }

    /// The same with `asked` in the place of what was asked for before.
    #[must_use]
    pub fn asking(&self, asked: Asked) -> Request {
        let reboots = self.reboots + u32::from(asked.wants == Want::Rebooted);
        Request { asked: Some(asked), reboots, ..self.clone() }
    }

    /// Writes this in the place of `before`, if that still stands there, and puts it where the
    /// sweeper looks until the record shows it.
    #[must_use]
    pub fn replace(&self, before: Option<&Request>, tenant: &Tenant, id: &InstanceId) -> Write {
        let version = before.map_or(0, |before| before.version);
        let mut item = Item::new()
            .with(VERSION, i64::from(version) + 1)
            .with_some(REBOOTS, (self.reboots > 0).then_some(i64::from(self.reboots)))
            .with_some(PROTECTED, self.is_protected.then_some(true));
        if let Some(asked) = &self.asked {
            let wants = WANTS.iter().find(|(want, _)| *want == asked.wants).map(|(_, name)| *name);
            item = item
                .with_some(WANTED, wants)
                .with(GENERATION, i64::from(asked.generation))
                .with("at", asked.at.0)
                .with("code", asked.reason.code.as_str())
                .with("why", asked.reason.message.as_str())
                .with("open", open_partition(shard_of(id)))
                .with(NUDGE_AT, nudge_sort(asked.at.plus(NUDGE_AFTER_MS)));
        }
        let write = Write::put(request_key(tenant, id), item);
        match before {
            None => write.when(Condition::ItemAbsent),
            Some(_) => write.when(Condition::equals(VERSION, i64::from(version))),
        }
    }

    /// Holds while this request, or none, is what stands there.
    #[must_use]
    pub(crate) fn still_stands(seen: Option<&Request>, tenant: &Tenant, id: &InstanceId) -> Write {
        let write = Write::check(request_key(tenant, id));
        match seen {
            None => write.when(Condition::ItemAbsent),
            Some(seen) => write.when(Condition::equals(VERSION, i64::from(seen.version))),
        }
    }

    /// The stop that was asked for, if that is what was asked for last and the record does not show
    /// it.
    pub(crate) fn stop_not_shown(&self, record: &Record) -> Option<&Asked> {
        let stop = self.asked.as_ref().filter(|asked| asked.wants == Want::Stopped);
        stop.filter(|_| !self.is_shown(record))
    }

    /// Reads the request that `item` is.
    ///
    /// # Errors
    /// A fault when it is not one.
    pub fn read(item: &Item) -> Result<Request, Fault> {
        let small = |name: &str| item.number(name).map_or(Some(0), |n| u32::try_from(n).ok());
        let asked = |name: &str| {
            Some(Asked {
                wants: WANTS.iter().find(|(_, wants)| *wants == name)?.0,
                generation: small(GENERATION)?,
                at: Millis(item.number("at")?),
                reason: Reason::new(item.text("code")?, item.text("why")?),
            })
        };
        let read = || {
            Some(Request {
                asked: match item.text(WANTED) {
                    Some(name) => Some(asked(name)?),
                    None => None,
                },
                reboots: small(REBOOTS)?,
                is_protected: item.is_true(PROTECTED),
                version: small(VERSION)?,
            })
        };
        read().ok_or_else(|| {
            let message = format!("not a request item: {:?}", item.keys());
            Fault::Store(StoreFault::new(FaultKind::Corrupt, message))
        })
    }

    /// Whether the record shows what the user wants: then the request needs no more nudges, the
    /// record has its own. A stop holds for every generation until something else is asked for: a
    /// new placement does not take it back.
    #[must_use]
    pub fn is_shown(&self, record: &Record) -> bool {
        let Some(asked) = &self.asked else { return true };
        let (state, generation) = (record.progress.state, record.progress.generation);
        match (asked.wants, state) {
            (_, State::ShuttingDown | State::Terminated) => true,
            (Want::Terminated, _) => false,
            (Want::Stopped, _) => matches!(state, State::Stopping | State::Stopped),
            (Want::Running, _) => generation > asked.generation || state != State::Stopped,
            (Want::Rebooted, State::Running) => {
                generation > asked.generation || record.reboots >= self.reboots
            }
            (Want::Rebooted, _) => true,
        }
    }
}

/// The state that a user sees: what was asked for shows at once, before anybody has acted on it.
#[must_use]
pub fn shown_state(record: &Record, request: Option<&Request>) -> State {
    let state = record.progress.state;
    let Some(request) = request.filter(|request| !request.is_shown(record)) else { return state };
    match request.wants() {
        Some(Want::Terminated) => State::ShuttingDown,
        Some(Want::Stopped) => State::Stopping,
        Some(Want::Running) => State::Pending,
        Some(Want::Rebooted) | None => state,
    }
}
