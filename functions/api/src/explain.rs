//! What led to what in an instance's life: a tree for each thing that somebody asked for, derived
//! from its record, its request and the receipts, and stored nowhere a second time.
//!
//! A receipt says what was answered, when, and at which delivery; what it answered follows from who
//! hears what. So each fact has one cause: of several that it had to wait for, the last. The chain
//! of causes back from the last fact is the longest one, where time was spent.

use crate::Shared;
use crate::answer::rfc3339;
use crate::error::Refusal;
use crate::extract::{Caller, Path};
use crate::view::{HOLDERS, Whole, instance_id, read};
use axum::Json;
use eventplane_domain::receipt::Answer;
use eventplane_domain::{Millis, Reason, Step};
use eventplane_engine::Logged;
use eventplane_handoff::Stage;
use eventplane_instances::Want;
use eventplane_store::Key;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(explain))
}

/// What a fact says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Requested,
    Asked(Want),
    Answered(Step, Answer),
    Staged(Stage),
    Running,
    Terminated,
}

impl What {
    /// Who it was, and what.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            What::Requested => ("api", "requested"),
            What::Asked(Want::Terminated) => ("api", "termination requested"),
            What::Asked(Want::Stopped) => ("api", "stop requested"),
            What::Asked(Want::Running) => ("api", "start requested"),
            What::Asked(Want::Rebooted) => ("api", "reboot requested"),
            What::Answered(step, answer) => (step.name(), answer.name()),
            What::Staged(stage) => ("handoff", stage.name()),
            What::Running => ("instances", "running"),
            What::Terminated => ("instances", "terminated"),
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
struct Fact {
    what: What,
    at: Millis,
    generation: u32,
    /// At which delivery of its cause.
    received: u32,
    /// Where it is recorded.
    recorded: String,
    host: Option<String>,
    reason: Option<Reason>,
}

/// All that is recorded, in the order of time.
fn facts(whole: &Whole) -> Vec<Fact> {
    let record = &whole.record;
    let (tenant, id) = (&record.tenant, &record.id);
    let newest = record.progress.generation;
    let fact = |what, at, generation, key: Key| Fact {
        what,
        at,
        generation,
        received: 1,
        recorded: key.to_string(),
        host: None,
        reason: None,
    };
    let record_key = || eventplane_instances::record_key(tenant, id);
    let mut facts = vec![fact(What::Requested, record.created, 1, record_key())];
    let asked = whole.request.as_ref().and_then(|request| request.asked.as_ref());
    facts.extend(asked.map(|asked| Fact {
        reason: Some(asked.reason.clone()),
        ..fact(
            What::Asked(asked.wants),
            asked.at,
            asked.generation,
            eventplane_instances::request_key(tenant, id),
        )
    }));
    let keys = [
        eventplane_capacity::receipt_key(tenant, id),
        eventplane_network::receipt_key(tenant, id),
        eventplane_storage::receipt_key(tenant, id),
        eventplane_security::receipt_key(tenant, id),
    ];
    for ((step, receipt), key) in HOLDERS.into_iter().zip(&whole.receipts).zip(keys) {
        let Some(receipt) = receipt else { continue };
        let host = (step == Step::Capacity).then(|| eventplane_capacity::placement(receipt));
        let host = host.flatten().map(|placement| placement.host.to_string());
        let answered = |logged: &Logged<Answer>| {
            let fact =
                fact(What::Answered(step, logged.what), logged.at, logged.generation, key.clone());
            Fact { received: logged.received, ..fact }
        };
        facts.extend(receipt.log.iter().map(answered));
        if let (Some(last), false) = (facts.last_mut(), receipt.log.is_empty()) {
            (last.host, last.reason) = (host, receipt.reason.clone());
        }
    }
    if let Some(handoff) = &whole.handoff {
        let key = eventplane_handoff::receipt_key(tenant, id);
        let staged = |logged: &Logged<Stage>| {
            let fact = fact(What::Staged(logged.what), logged.at, logged.generation, key.clone());
            Fact { received: logged.received, ..fact }
        };
        facts.extend(handoff.log.iter().map(staged));
        if let (Some(last), false) = (facts.last_mut(), handoff.log.is_empty()) {
            last.host = handoff.placement.as_ref().map(|placement| placement.host.to_string());
            last.reason = handoff.ending.as_ref().map(|ending| ending.reason.clone());
        }
    }
    let of_record = |what, at: Option<Millis>| at.map(|at| fact(what, at, newest, record_key()));
    facts.extend(of_record(What::Running, record.running_at));
    facts.extend(of_record(What::Terminated, record.ended_at));
    facts.sort_by_key(|fact| fact.at);
    facts
}

/// The place of the fact that led to `facts[index]`; none if a user did, or if it is not kept: a
/// receipt keeps its newest entries only.
fn cause(facts: &[Fact], index: usize) -> Option<usize> {
    let fact = &facts[index];
    let here = |is: fn(What) -> bool| beside(facts, fact, is);
    let last = |found: Vec<usize>| found.last().copied();
    // Clocks of two machines differ: where only one can be the cause, its time is not asked.
    let last_before = |found: Vec<usize>| {
        let before = found.iter().rev().find(|at| facts[**at].at <= fact.at);
        before.or(found.last()).copied()
    };
    match fact.what {
        What::Requested | What::Asked(_) => None,
        What::Answered(Step::Capacity, Answer::Taken | Answer::Refused) => {
            let requested = last(here(|what| what == What::Requested));
            requested.or_else(|| began(facts, fact))
        }
        What::Answered(_, Answer::Taken | Answer::Refused) => {
            last(here(|what| what == What::Answered(Step::Capacity, Answer::Taken)))
        }
        What::Answered(_, Answer::GivenBack | Answer::GivenBackForGood) => {
            last_before(here(|what| what == What::Staged(Stage::Withdrawn)))
        }
        What::Staged(Stage::Joining) => here(joins).first().copied(),
        What::Staged(Stage::HandedOff) => last_before(here(joins)),
        What::Staged(Stage::Withdrawing) => {
            asked(facts, fact).or_else(|| last(here(|what| what == What::Staged(Stage::HandedOff))))
        }
        What::Staged(Stage::Withdrawn) => ended_by(facts, fact),
        What::Running => last(here(|what| what == What::Staged(Stage::HandedOff))),
        What::Terminated => {
            let back = |what: What| matches!(what, What::Answered(_, Answer::GivenBackForGood));
            last_before(here(back))
        }
    }
}

/// What a later generation began with, as far as that is kept: its user's start of the one before, or
/// the end of the one before where that was a new placement.
fn began(facts: &[Fact], fact: &Fact) -> Option<usize> {
    let of_the_one_before = |is: fn(&Fact) -> bool| {
        facts.iter().rposition(|other| other.generation + 1 == fact.generation && is(other))
    };
    let started = of_the_one_before(|other| other.what == What::Asked(Want::Running));
    let gave_back =
        of_the_one_before(|other| other.what == What::Answered(Step::Capacity, Answer::GivenBack));
    let replaced = of_the_one_before(|other| other.what == What::Staged(Stage::Withdrawn));
    // A new placement does not wait for the old room; a start does.
    let is_new_placement = gave_back.is_none_or(|back| facts[back].at > fact.at);
    started.or(replaced.filter(|_| is_new_placement))
}

/// The facts of the same generation that are so.
fn beside(facts: &[Fact], fact: &Fact, is: fn(What) -> bool) -> Vec<usize> {
    let is_one = |other: &Fact| other.generation == fact.generation && is(other.what);
    (0..facts.len()).filter(|at| is_one(&facts[*at])).collect()
}

/// Whether it is a part of what the handoff joins.
fn joins(what: What) -> bool {
    matches!(what, What::Answered(step, Answer::Taken) if step != Step::Capacity)
}

/// What a user asked for before the fact.
fn asked(facts: &[Fact], fact: &Fact) -> Option<usize> {
    let ends = |what| matches!(what, What::Asked(Want::Stopped | Want::Terminated));
    let is = |other: &Fact| ends(other.what) && other.at <= fact.at;
    facts.iter().rposition(is)
}

/// What ended a generation: the host's promise, a refusal, or a user; otherwise its host or its
/// deadline, of which the launch itself is all that is recorded.
fn ended_by(facts: &[Fact], fact: &Fact) -> Option<usize> {
    let here = |is: fn(What) -> bool| beside(facts, fact, is);
    let promised = here(|what| what == What::Staged(Stage::Withdrawing));
    let promised = promised.into_iter().rev().find(|at| facts[*at].at <= fact.at);
    // A refusal and a user's wish may both have come: the reason says which was heard first.
    let asked = asked(facts, fact);
    let wished = asked.filter(|at| fact.reason.is_some() && facts[*at].reason == fact.reason);
    let refused =
        || here(|what| matches!(what, What::Answered(_, Answer::Refused))).first().copied();
    let launch = || {
        let handed_off = here(|what| what == What::Staged(Stage::HandedOff)).pop();
        handed_off.or_else(|| here(|what| what == What::Requested).pop())
    };
    // Why an older generation ended is not kept.
    let perhaps = || asked.filter(|_| fact.reason.is_none());
    promised.or(wished).or_else(refused).or_else(perhaps).or_else(launch)
}

/// The facts with their causes, and which of them are on a longest chain.
struct Chains {
    facts: Vec<Fact>,
    causes: Vec<Option<usize>>,
    is_critical: Vec<bool>,
}

impl Chains {
    fn of(whole: &Whole) -> Chains {
        let facts = facts(whole);
        let causes: Vec<_> = (0..facts.len()).map(|index| cause(&facts, index)).collect();
        let mut chains = Chains { is_critical: vec![false; facts.len()], facts, causes };
        for root in chains.led_to(None) {
            let mut next = Some(chains.end_of(root));
            while let Some(index) = next {
                chains.is_critical[index] = true;
                next = chains.causes[index];
            }
        }
        chains
    }

    fn led_to(&self, cause: Option<usize>) -> Vec<usize> {
        (0..self.facts.len()).filter(|index| self.causes[*index] == cause).collect()
    }

    /// The last of all that `index` led to, itself if nothing.
    fn end_of(&self, index: usize) -> usize {
        let ends = self.led_to(Some(index)).into_iter().map(|next| self.end_of(next));
        ends.max_by_key(|end| (self.facts[*end].at, *end)).unwrap_or(index)
    }

    fn shown(&self, index: usize) -> Value {
        let fact = &self.facts[index];
        let (step, what) = fact.what.names();
        let mut shown = json!({
            "step": step,
            "what": what,
            "at": rfc3339(fact.at.0),
            "recorded": fact.recorded,
            "critical": self.is_critical[index],
        });
        if let Some(cause) = self.causes[index] {
            shown["after_ms"] = json!(fact.at.since(self.facts[cause].at));
        }
        if fact.received > 1 {
            shown["try"] = json!(fact.received);
        }
        if let Some(host) = &fact.host {
            shown["host"] = json!(host);
        }
        if let Some(reason) = &fact.reason {
            shown["reason"] = json!(reason);
        }
        let led_to = self.led_to(Some(index));
        if !led_to.is_empty() {
            let led_to: Vec<Value> = led_to.into_iter().map(|next| self.shown(next)).collect();
            shown["led_to"] = json!(led_to);
        }
        shown
    }

    fn generations(&self) -> Vec<Value> {
        let mut by_generation: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
        for root in self.led_to(None) {
            let took_ms = self.facts[self.end_of(root)].at.since(self.facts[root].at);
            let mut chain = self.shown(root);
            chain["took_ms"] = json!(took_ms);
            by_generation.entry(self.facts[root].generation).or_default().push(chain);
        }
        let shown = |(generation, chains)| json!({ "generation": generation, "chains": chains });
        by_generation.into_iter().map(shown).collect()
    }
}

/// What caused what in an instance's life. `after_ms` counts from the cause, `try` is the delivery
/// at which it was answered if not at the first, and `critical` marks each chain's longest path.
#[utoipa::path(get, path = "/v1/instances/{instance_id}/explain", tag = "instances",
    params(("instance_id" = String, Path)),
    responses((status = 200, description = "By generation, the chains of causes")))]
async fn explain(Caller(api): Caller, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let id = instance_id(&id)?;
    let whole = read(&*api.ports.store, &api.options.tenant, &id).await?;
    let generations = Chains::of(&whole).generations();
    Ok(Json(json!({ "instance_id": id, "state": whole.state(), "generations": generations })))
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
