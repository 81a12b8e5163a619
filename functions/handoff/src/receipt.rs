//! The handoff's own record of an instance: what has joined, who has it, and how it ends.

use eventplane_domain::{
    HostId, Identity, InstanceId, Millis, Mutant, Network, Outcome, Placement, Reason, Tenant,
    Volume, planted,
};
use eventplane_engine::{Delivery, Fault, KEPT_MS, Logged, read_log, write_log};
use eventplane_store::{
    Condition, FaultKind, Item, ItemExt, Key, StoreFault, Update, Value, Write,
};
use serde::{Deserialize, Serialize};

/// How far the handoff of the newest generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not all three parts are here.
    Joining,
    /// The host has its assignment.
    HandedOff,
    /// The host has been told to let it go, and has not promised yet.
    Withdrawing,
    /// It is decided how the generation ends; nothing runs it any more.
    Withdrawn,
}

const STAGES: [(Stage, &str, char); 4] = [
    (Stage::Joining, "joining", 'j'),
    (Stage::HandedOff, "handed off", 'h'),
    (Stage::Withdrawing, "withdrawing", 'w'),
    (Stage::Withdrawn, "withdrawn", 'e'),
];

impl Stage {
    /// The stage's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        STAGES.iter().find(|(stage, ..)| *stage == self).map_or("", |(_, name, _)| name)
    }
}

/// One of the three things that are joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Part {
    Network(Network),
    Volumes(Vec<Volume>),
    Identity(Identity),
}

/// The names of the parts' attributes, in their order.
const PARTS: [&str; 3] = ["network", "volumes", "identity"];

impl Part {
    /// The name of its attribute.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Part::Network(_) => PARTS[0],
            Part::Volumes(_) => PARTS[1],
            Part::Identity(_) => PARTS[2],
        }
    }
}

/// How a generation ends, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// How.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// Whether any generation has run, or may have.
    pub has_run: bool,
}

/// The record of one instance's newest generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The newest generation.
    pub generation: u32,
    /// How far it is.
    pub stage: Stage,
    /// The newest deadline heard of.
    pub deadline: Millis,
    /// The parts that have joined, until the host has them.
    pub parts: Vec<Part>,
    /// Who has it, or had it.
    pub placement: Option<Placement>,
    /// How it ends, once that is decided.
    pub ending: Option<Ending>,
    /// What happened when, oldest first.
    pub log: Vec<Logged<Stage>>,
}

const GENERATION: &str = "gen";
const STAGE: &str = "stage";
const DEADLINE: &str = "deadline";
const PLACEMENT: &str = "placement";
const OUTCOME: &str = "outcome";
const CODE: &str = "code";
const WHY: &str = "why";
const HAS_RUN: &str = "has_run";
const LOG: &str = "log";
const EXPIRES: &str = "expires_at";

/// Where the receipt of an instance is kept.
#[must_use]
pub fn receipt_key(tenant: &Tenant, id: &InstanceId) -> Key {
    Key::new(crate::TABLE.name, tenant.partition(id), "receipt")
}

impl Receipt {
    /// Reads the receipt that `item` is.
    ///
    /// # Errors
    /// A fault when it is not one: somebody has to look at the table.
    pub fn read(item: Option<&Item>) -> Result<Option<Receipt>, Fault> {
        let Some(item) = item else { return Ok(None) };
        Receipt::of(item).map(Some).ok_or_else(|| {
            let message = format!("not a receipt of the handoff: {:?}", item.keys());
            Fault::Store(StoreFault::new(FaultKind::Corrupt, message))
        })
    }

    fn of(item: &Item) -> Option<Receipt> {
        let stage = item.text(STAGE)?;
        let ending = match item.text(OUTCOME) {
            None => None,
            Some(outcome) => Some(Ending {
                outcome: Outcome::of_name(outcome)?,
                reason: Reason::new(item.text(CODE)?, item.text(WHY)?),
                has_run: item.is_true(HAS_RUN),
            }),
        };
        let mut parts = Vec::new();
        for json in PARTS.iter().filter_map(|name| item.text(name)) {
            parts.push(serde_json::from_str(json).ok()?);
        }
        let placement = match item.text(PLACEMENT) {
            None => None,
            Some(text) => Some(read_placement(text)?),
        };
        Some(Receipt {
            generation: u32::try_from(item.number(GENERATION)?).ok()?,
            stage: STAGES.iter().find(|(_, name, _)| *name == stage)?.0,
            deadline: Millis(item.number(DEADLINE)?),
            parts,
            placement,
            ending,
            log: item.text(LOG).map(|text| read_log(text, of_letter)).unwrap_or_default(),
        })
    }

    /// The next receipt of an instance, with nothing in it but the log.
    pub(crate) fn next(
        before: Option<&Receipt>,
        generation: u32,
        deadline: Millis,
        stage: Stage,
        at: impl Into<Delivery>,
    ) -> Receipt {
        let log = before.map(|receipt| receipt.log.clone()).unwrap_or_default();
        let log = Logged::after(log, generation, stage, at.into());
        Receipt {
            generation,
            stage,
            deadline: before.map_or(deadline, |receipt| receipt.deadline.max(deadline)),
            parts: vec![],
            placement: None,
            ending: None,
            log,
        }
    }

    fn item(&self) -> Item {
        let ending = self.ending.as_ref();
        let for_good = ending.is_some_and(|ending| ending.outcome == Outcome::Terminate)
            && self.stage == Stage::Withdrawn;
        let mut item = Item::new()
            .with(GENERATION, i64::from(self.generation))
            .with(STAGE, self.stage.name())
            .with(DEADLINE, self.deadline.0)
            .with(LOG, write_log(&self.log, letter))
            .with_some(PLACEMENT, self.placement.as_ref().map(write_placement))
            .with_some(OUTCOME, ending.map(|ending| ending.outcome.name()))
            .with_some(CODE, ending.map(|ending| ending.reason.code.as_str()))
            .with_some(WHY, ending.map(|ending| ending.reason.message.as_str()))
            .with_some(HAS_RUN, ending.is_some_and(|ending| ending.has_run).then_some(true))
            .with_some(EXPIRES, for_good.then(|| self.deadline.plus(KEPT_MS).0 / 1000));
        for part in &self.parts {
            item.insert(part.name().to_owned(), Value::S(part_json(part)));
        }
        item
    }

    /// Writes this receipt, if what stands there is still `before`, its parts included.
    pub(crate) fn write(&self, key: Key, before: Option<&Receipt>) -> Write {
        unchanged(Write::put(key, self.item()), before)
    }

    /// Writes one part more into a receipt that is joining, if it is still as it was seen: the
    /// one that sees the other two is the one that hands off.
    pub(crate) fn join(key: Key, before: &Receipt, part: &Part) -> Write {
        let update = Update::set(part.name(), part_json(part));
        unchanged(Write::update(key, vec![update]), Some(before))
    }
}

fn unchanged(write: Write, before: Option<&Receipt>) -> Write {
    let Some(before) = before else { return write.when(Condition::ItemAbsent) };
    let mut write = write
        .when(Condition::equals(GENERATION, i64::from(before.generation)))
        .when(Condition::equals(STAGE, before.stage.name()));
    write = match &before.ending {
        Some(ending) => write.when(Condition::equals(OUTCOME, ending.outcome.name())),
        None => write.when(Condition::absent(OUTCOME)),
    };
    for name in PARTS.into_iter().filter(|_| !planted(Mutant::JoinForgetsOne)) {
        let seen = before.parts.iter().any(|part| part.name() == name);
        let as_seen = if seen { Condition::present(name) } else { Condition::absent(name) };
        write = write.when(as_seen);
    }
    write
}

fn part_json(part: &Part) -> String {
    serde_json::to_string(part).expect("a part is plain data")
}

/// `host zone rack`: names without spaces.
fn write_placement(placement: &Placement) -> String {
    format!("{} {} {}", placement.host, placement.zone, placement.rack)
}

fn read_placement(text: &str) -> Option<Placement> {
    let mut words = text.splitn(3, ' ');
    Some(Placement {
        host: HostId::parse(words.next()?).ok()?,
        zone: words.next()?.to_owned(),
        rack: words.next()?.to_owned(),
    })
}

fn letter(stage: Stage) -> char {
    STAGES.iter().find(|(s, ..)| *s == stage).map_or('?', |entry| entry.2)
}

fn of_letter(letter: char) -> Option<Stage> {
    STAGES.iter().find(|(.., l)| *l == letter).map(|entry| entry.0)
}
