//! Receipts as items: what a step has recorded of one instance, and the decisions that every step
//! with a receipt makes alike. The law that they follow is `eventplane_domain::receipt`.

use crate::{Decision, Delivery, Emit, Fault, Logged, read_log, write_log};
use eventplane_domain::receipt::{Answer, Ask};
use eventplane_domain::{Millis, Mutant, Outcome, Reason, Step, code, planted};
use eventplane_events::{Data, Event, LaunchFailed, Returned};
use eventplane_store::{Condition, FaultKind, Item, ItemExt, Key, StoreFault, Value, Write};

/// How long a receipt is kept after it was given back for good and its newest deadline has
/// passed: 30 days, longer than any message can live.
pub const KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

const GENERATION: &str = "gen";
const ANSWER: &str = "answer";
const DEADLINE: &str = "deadline";
const LOG: &str = "log";
const REASON_CODE: &str = "code";
const REASON: &str = "why";
/// Time to live: garbage collection only; nothing reads it to decide.
const EXPIRES: &str = "expires_at";

/// A step's record of what it did for one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The newest generation.
    pub generation: u32,
    /// What was answered for it.
    pub answer: Answer,
    /// The newest deadline heard of.
    pub deadline: Millis,
    /// Why it was refused.
    pub reason: Option<Reason>,
    /// What happened when, oldest first.
    pub log: Vec<Logged<Answer>>,
    /// What is held, and what the answer said: attributes of the step's own. A refusal keeps
    /// what an older generation holds; a give-back leaves nothing.
    pub claim: Item,
}

impl Receipt {
    /// Reads the receipt that `item` is.
    ///
    /// # Errors
    /// A fault when it is not one: somebody has to look at the table.
    pub fn read(item: Option<&Item>) -> Result<Option<Receipt>, Fault> {
        let Some(item) = item else { return Ok(None) };
        let corrupt = || {
            let message = format!("not a receipt: {:?}", item.keys());
            Fault::Store(StoreFault::new(FaultKind::Corrupt, message))
        };
        let number = |name| item.number(name).ok_or_else(corrupt);
        let mut claim = item.clone();
        for own in [GENERATION, ANSWER, DEADLINE, LOG, REASON_CODE, REASON, EXPIRES] {
            claim.remove(own);
        }
        Ok(Some(Receipt {
            generation: u32::try_from(number(GENERATION)?).map_err(|_| corrupt())?,
            answer: item.text(ANSWER).and_then(Answer::of_name).ok_or_else(corrupt)?,
            deadline: Millis(number(DEADLINE)?),
            reason: item
                .text(REASON_CODE)
                .map(|code| Reason::new(code, item.text(REASON).unwrap_or_default())),
            log: item.text(LOG).map(|text| read_log(text, of_letter)).unwrap_or_default(),
            claim,
        }))
    }

    /// Generation and answer, for the law.
    #[must_use]
    pub fn recorded(&self) -> (u32, Answer) {
        (self.generation, self.answer)
    }

    /// The next receipt of an instance: the same log, one entry longer.
    #[must_use]
    fn next(
        before: Option<&Receipt>,
        generation: u32,
        answer: Answer,
        event: &Event,
        at: Delivery,
    ) -> Receipt {
        let log = before.map(|receipt| receipt.log.clone()).unwrap_or_default();
        let log = Logged::after(log, generation, answer, at);
        let deadline = event.metadata.deadline;
        Receipt {
            generation,
            answer,
            deadline: before.map_or(deadline, |receipt| receipt.deadline.max(deadline)),
            reason: None,
            log,
            claim: Item::new(),
        }
    }

    /// Writes this receipt, if what stands there is still `before`.
    fn write(self, key: Key, before: Option<&Receipt>) -> Write {
        let expires =
            (self.answer == Answer::GivenBackForGood).then(|| self.deadline.plus(KEPT_MS).0 / 1000);
        let mut item = self.claim;
        item.insert(GENERATION.to_owned(), Value::N(i64::from(self.generation)));
        item.insert(ANSWER.to_owned(), self.answer.name().into());
        item.insert(DEADLINE.to_owned(), Value::N(self.deadline.0));
        item.insert(LOG.to_owned(), Value::S(write_log(&self.log, letter)));
        let item = item
            .with_some(REASON_CODE, self.reason.as_ref().map(|reason| reason.code.as_str()))
            .with_some(REASON, self.reason.as_ref().map(|reason| reason.message.as_str()))
            .with_some(EXPIRES, expires);
        let write = Write::put(key, item);
        let Some(before) = before else { return write.when(Condition::ItemAbsent) };
        let generation = Condition::equals(GENERATION, i64::from(before.generation));
        let answer = Condition::equals(ANSWER, before.answer.name());
        match before.answer {
            _ if planted(Mutant::GenerationCheckDropped) => write.when(answer),
            Answer::Taken if planted(Mutant::DoubleCredit) => write.when(generation),
            _ => write.when(generation).when(answer),
        }
    }
}

fn letter(answer: Answer) -> char {
    match answer {
        Answer::Taken => 't',
        Answer::Refused => 'r',
        Answer::GivenBack => 'b',
        Answer::GivenBackForGood => 'g',
    }
}

fn of_letter(letter: char) -> Option<Answer> {
    match letter {
        't' => Some(Answer::Taken),
        'r' => Some(Answer::Refused),
        'b' => Some(Answer::GivenBack),
        'g' => Some(Answer::GivenBackForGood),
        _ => None,
    }
}

/// Which event asks a step to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesOn {
    /// A request: the step gives a launch its place, and gives it back also when the instance is
    /// only stopped or replaced.
    Request,
    /// A launch that has its place: what the step takes stays with an instance that is stopped.
    Placement,
}

/// What the event asks of a step that takes and gives back, if it asks anything of it. An event that
/// a step should never hear asks nothing, whichever rule or hand has sent it.
#[must_use]
pub fn ask_of(event: &Event, takes_on: TakesOn) -> Option<Ask> {
    let generation = event.metadata.generation;
    match (takes_on, &event.data) {
        (TakesOn::Request, Data::InstanceRequested(_))
        | (TakesOn::Placement, Data::CapacityAllocated(_)) => {
            Some(Ask::Take { generation, deadline: event.metadata.deadline })
        }
        (_, Data::InstanceWithdrawn(withdrawn)) if withdrawn.outcome == Outcome::Terminate => {
            Some(Ask::GiveBackForGood)
        }
        (TakesOn::Request, Data::InstanceWithdrawn(_)) => Some(Ask::GiveBack { generation }),
        (_, Data::InstanceWithdrawn(_)) if planted(Mutant::StopGivesBackMore) => {
            Some(Ask::GiveBack { generation })
        }
        _ => None,
    }
}

/// Takes: the receipt with its claim, together with what is taken, then the event.
#[must_use]
pub fn take(
    event: &Event,
    key: Key,
    before: Option<&Receipt>,
    at: impl Into<Delivery>,
    claim: Item,
    mut resources: Vec<Write>,
    taken: Data,
) -> Decision {
    let generation = event.metadata.generation;
    let receipt =
        Receipt { claim, ..Receipt::next(before, generation, Answer::Taken, event, at.into()) };
    resources.insert(0, receipt.write(key, before));
    Decision::commit(resources, vec![Emit::of(event, taken)])
}

/// Refuses: the receipt keeps the claim of an older generation, and `LaunchFailed` says why.
#[must_use]
pub fn refuse(
    event: &Event,
    key: Key,
    before: Option<&Receipt>,
    at: impl Into<Delivery>,
    step: Step,
    reason: Reason,
) -> Decision {
    refuse_noting(event, key, before, at, step, reason, Item::new())
}

/// Refuses, and notes something in the claim: what a step keeps beyond all its answers.
#[must_use]
pub fn refuse_noting(
    event: &Event,
    key: Key,
    before: Option<&Receipt>,
    at: impl Into<Delivery>,
    step: Step,
    reason: Reason,
    notes: Item,
) -> Decision {
    let generation = event.metadata.generation;
    let held = before.filter(|_| !planted(Mutant::RefusalForgetsTheClaim));
    let mut claim = held.map(|receipt| receipt.claim.clone()).unwrap_or_default();
    claim.extend(notes);
    let receipt = Receipt {
        reason: Some(reason.clone()),
        claim,
        ..Receipt::next(before, generation, Answer::Refused, event, at.into())
    };
    let failed = failed(event, step, reason);
    Decision::commit(vec![receipt.write(key, before)], vec![failed])
}

/// Refuses a take that comes after its generation's deadline.
#[must_use]
pub fn refuse_late(
    event: &Event,
    key: Key,
    before: Option<&Receipt>,
    at: impl Into<Delivery>,
    step: Step,
) -> Decision {
    let at = at.into();
    let late_ms = at.now.since(event.metadata.deadline);
    let message = format!("{} heard of the launch {late_ms} ms after its deadline", step.name());
    refuse(event, key, before, at, step, Reason::new(code::LAUNCH_TIMEOUT, message))
}

/// Gives back: a receipt without a claim, together with the resources' own writes. It answers
/// also where nothing was held, and is then the tombstone that a late take meets.
#[must_use]
pub fn give_back(
    event: &Event,
    key: Key,
    before: Option<&Receipt>,
    at: impl Into<Delivery>,
    resources: Vec<Write>,
    returned: fn(Returned) -> Data,
) -> Decision {
    give_back_keeping(event, key, before, at, resources, returned, Item::new())
}

/// Gives back, and keeps this in the claim: what a step keeps beyond all its answers.
#[must_use]
pub fn give_back_keeping(
    event: &Event,
    key: Key,
    before: Option<&Receipt>,
    at: impl Into<Delivery>,
    mut resources: Vec<Write>,
    returned: fn(Returned) -> Data,
    kept: Item,
) -> Decision {
    let for_good = matches!(&event.data,
        Data::InstanceWithdrawn(withdrawn) if withdrawn.outcome == Outcome::Terminate);
    let answer = if for_good { Answer::GivenBackForGood } else { Answer::GivenBack };
    let newest = before.map_or(0, |receipt| receipt.generation);
    let generation = event.metadata.generation.max(newest);
    let receipt =
        Receipt { claim: kept, ..Receipt::next(before, generation, answer, event, at.into()) };
    let emit =
        Emit { data: returned(Returned { for_good }), generation, deadline: receipt.deadline };
    if before.is_none() && planted(Mutant::TombstoneDropped) {
        return Decision::publish(vec![emit]);
    }
    resources.insert(0, receipt.write(key, before));
    Decision::commit(resources, vec![emit])
}

/// Publishes the recorded answer again. `taken` builds the step's own event from its cause and
/// what the receipt holds.
///
/// # Panics
/// When the law ruled `Repeat` with nothing recorded: a bug.
#[must_use]
pub fn publish_again(
    event: &Event,
    receipt: Option<&Receipt>,
    step: Step,
    returned: fn(Returned) -> Data,
    taken: impl FnOnce(&Receipt) -> Data,
) -> Decision {
    let receipt = receipt.expect("a ruling to repeat rests on a receipt");
    if planted(Mutant::RedeliverySwallowsPublish) {
        return Decision::nothing();
    }
    let emit = match receipt.answer {
        Answer::Taken => Emit::of(event, taken(receipt)),
        Answer::Refused => {
            let unsaid = || Reason::new(code::INTERNAL, "the reason was not recorded");
            failed(event, step, receipt.reason.clone().unwrap_or_else(unsaid))
        }
        Answer::GivenBack | Answer::GivenBackForGood => Emit {
            data: returned(Returned { for_good: receipt.answer == Answer::GivenBackForGood }),
            generation: receipt.generation,
            deadline: receipt.deadline,
        },
    };
    Decision::publish(vec![emit])
}

fn failed(event: &Event, step: Step, reason: Reason) -> Emit {
    let has_run = match &event.data {
        Data::InstanceRequested(requested) => requested.has_run,
        Data::CapacityAllocated(allocated) => allocated.launch.has_run,
        _ => false,
    };
    Emit::of(event, Data::LaunchFailed(LaunchFailed { step, reason, has_run }))
}

#[cfg(test)]
#[path = "receipt_tests.rs"]
mod tests;
