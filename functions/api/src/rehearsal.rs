//! What a function would do about a message: it is run in the [`Shadow`] of the plane, where it
//! sees what stands and changes nothing.
//!
//! The verdict is read off what it did there. Whether a message that changes nothing is stale says
//! what is recorded of its instance: see [`past`].

use crate::error::Refusal;
use crate::extract::{Operator, Parameters, Path};
use crate::view::{Whole, read_all};
use crate::{Api, Shared, TABLES, dead_letters, handlers};
use axum::Json;
use eventplane_domain::receipt::Answer;
use eventplane_domain::{Outcome, State, Step};
use eventplane_engine::{DeadLetter, Effects, Handler, Shadow};
use eventplane_events::{Data, Entry, Event};
use eventplane_handoff::Stage;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long one function may take over one message, as long as on Lambda.
const REHEARSAL_MAX: Duration = Duration::from_secs(9);
/// How many letters one dry run of all looks at, the oldest: on Lambda an answer has 15 seconds.
const DRY_RUN_MAX: usize = 100;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(dry_run)).routes(routes!(dry_run_all))
}

/// What a message would come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Something would be written.
    Apply,
    /// Nothing would be written: what it asks is recorded, and at most published again.
    NothingToDo,
    /// Nothing would be written, and what is recorded is past the message.
    Stale,
    /// It fails here as well.
    Unsafe,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Apply => "apply",
            Verdict::NothingToDo => "nothing to do",
            Verdict::Stale => "stale",
            Verdict::Unsafe => "unsafe",
        }
    }
}

/// A verdict with its words, and what would be done.
pub(crate) struct Ruled {
    pub(crate) verdict: Verdict,
    pub(crate) why: String,
    pub(crate) effects: Effects,
}

impl Ruled {
    pub(crate) fn shown(&self) -> Value {
        let write = |(verb, key): &(eventplane_engine::Verb, eventplane_store::Key)| json!({ "do": verb.name(), "item": key.to_string() });
        let event = |entry: &Entry| entry.detail_type;
        json!({
            "verdict": self.verdict.name(),
            "why": self.why,
            "writes": self.effects.writes.iter().map(write).collect::<Vec<_>>(),
            "publishes": self.effects.events.iter().map(event).collect::<Vec<_>>(),
        })
    }
}

/// The functions in one shadow: each sees what those before it would have written.
pub(crate) struct Rehearsal {
    shadow: Shadow,
    functions: Vec<Arc<dyn Handler>>,
}

impl Rehearsal {
    pub(crate) fn of(api: &Api) -> Rehearsal {
        let shadow = Shadow::of(&api.ports, &TABLES);
        let deadline_ms = api.options.launch_deadline_ms;
        Rehearsal { functions: handlers(shadow.ports(), &api.master, deadline_ms), shadow }
    }

    /// The function of this name.
    pub(crate) fn function(&self, name: &str) -> Option<&Arc<dyn Handler>> {
        self.functions.iter().find(|function| function.name() == name)
    }

    /// Refuses a function that there is not.
    pub(crate) fn check(&self, name: &str) -> Result<(), Refusal> {
        if self.function(name).is_some() {
            return Ok(());
        }
        let names: Vec<&str> = self.functions.iter().map(|function| function.name()).collect();
        let message = format!("there is no function `{name}`: there are {}", names.join(", "));
        Err(Refusal::value("function", message))
    }

    /// What the function of this name would do about the message.
    pub(crate) async fn run(&self, function: &str, message: &str) -> Result<Ruled, Refusal> {
        let handled = match self.function(function) {
            Some(handler) => handle(handler.clone(), message).await,
            None => Err(format!("there is no function `{function}` any more")),
        };
        let effects = self.shadow.effects();
        if let Err(why) = handled {
            let why = format!("it fails here too: {why}");
            return Ok(Ruled { verdict: Verdict::Unsafe, why, effects: Effects::default() });
        }
        let published = published(&effects);
        if !effects.writes.is_empty() {
            let items = match effects.writes.len() {
                1 => "1 item".to_owned(),
                many => format!("{many} items"),
            };
            let why = format!("it would write {items}, and publish {published}");
            return Ok(Ruled { verdict: Verdict::Apply, why, effects });
        }
        let (verdict, why) = match self.past(function, message).await? {
            Some(past) => (Verdict::Stale, format!("{past}; it would publish {published}")),
            None if effects.events.is_empty() => {
                (Verdict::NothingToDo, "it is done, or none of this function's business".to_owned())
            }
            None => {
                (Verdict::NothingToDo, format!("it is done; it would publish {published} again"))
            }
        };
        Ok(Ruled { verdict, why, effects })
    }

    async fn past(&self, function: &str, message: &str) -> Result<Option<String>, Refusal> {
        let Ok(event) = eventplane_events::read(message) else { return Ok(None) };
        let (store, metadata) = (&*self.shadow.ports().store, &event.metadata);
        let ids = std::slice::from_ref(&metadata.subject);
        let whole = read_all(store, &metadata.tenant, ids).await?.pop().flatten();
        Ok(past(function, &event, whole.as_ref()))
    }
}

fn published(effects: &Effects) -> String {
    let names: Vec<&str> = effects.events.iter().map(|entry| entry.detail_type).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Hands a message to a function; with words if it fails, panics, or takes too long.
async fn handle(handler: Arc<dyn Handler>, message: &str) -> Result<(), String> {
    let (name, message) = (handler.name(), message.to_owned());
    let mut task = tokio::spawn(async move { handler.handle(&message).await });
    match timeout(REHEARSAL_MAX, &mut task).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(failure))) => Err(failure.to_string()),
        Ok(Err(panicked)) => Err(format!("{name} has a bug: {panicked}")),
        Err(_) => {
            task.abort();
            Err(format!("{name} took longer than {REHEARSAL_MAX:?}"))
        }
    }
}

/// Why what is recorded is past the event, if it is: the instance has ended or is on its way there,
/// or a newer generation is recorded, by the function or in the instance's record. What is itself
/// a part of the end is never stale.
fn past(function: &str, event: &Event, whole: Option<&Whole>) -> Option<String> {
    let of_the_end = match &event.data {
        Data::InstanceTerminationRequested(_) | Data::InstanceTerminated(_) => true,
        Data::InstanceWithdrawn(withdrawn) => withdrawn.outcome == Outcome::Terminate,
        Data::CapacityReleased(back)
        | Data::NetworkReleased(back)
        | Data::VolumeReleased(back)
        | Data::SecurityRevoked(back) => back.for_good,
        _ => false,
    };
    if of_the_end {
        return None;
    }
    let id = &event.metadata.subject;
    let Some(whole) = whole else {
        return Some(format!("{id} has no record: it has expired, or never was"));
    };
    if whole.record.progress.state == State::Terminated {
        return Some(format!("{id} has ended"));
    }
    let (own, is_over) = recorded(function, whole);
    if is_over {
        return Some(format!("{function} has recorded the end of {id}"));
    }
    let (of, newest) = (event.metadata.generation, own.max(whole.record.progress.generation));
    (newest > of).then(|| format!("generation {of} of {id} is over: {newest} is recorded"))
}

/// The newest generation that the function has recorded, and whether that is the instance's end.
fn recorded(function: &str, whole: &Whole) -> (u32, bool) {
    if function == Step::Handoff.name() {
        let Some(handoff) = &whole.handoff else { return (0, false) };
        let terminates =
            handoff.ending.as_ref().is_some_and(|ending| ending.outcome == Outcome::Terminate);
        return (handoff.generation, terminates && handoff.stage == Stage::Withdrawn);
    }
    let held = crate::view::HOLDERS.iter().zip(&whole.receipts);
    let own = held.filter(|(step, _)| step.name() == function).find_map(|(_, own)| own.as_ref());
    own.map_or((0, false), |own| (own.generation, own.answer == Answer::GivenBackForGood))
}

/// How many there are of each verdict.
pub(crate) fn summary(verdicts: &[Verdict]) -> Value {
    let all = [Verdict::Apply, Verdict::NothingToDo, Verdict::Stale, Verdict::Unsafe];
    let count = |of: Verdict| verdicts.iter().filter(|verdict| **verdict == of).count();
    let counts: BTreeMap<&str, usize> = all.map(|of| (of.name(), count(of))).into();
    json!(counts)
}

async fn of_letter(
    rehearsal: &Rehearsal,
    letter: &DeadLetter,
) -> Result<(Verdict, Value), Refusal> {
    let ruled = rehearsal.run(&letter.function, &letter.body).await?;
    let mut shown = ruled.shown();
    shown["id"] = json!(letter.id);
    shown["function"] = json!(letter.function);
    Ok((ruled.verdict, shown))
}

/// What a redrive of one dead letter would do now.
#[utoipa::path(get, path = "/v1/dead-letters/{id}/dry-run", tag = "dead letters",
    params(("id" = String, Path)), responses((status = 200, description = "The verdict: apply, nothing to do, stale or unsafe")))]
async fn dry_run(Operator(api): Operator, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let letter = api.dead_letters.get(&id).await?.ok_or_else(|| dead_letters::none(&id))?;
    Ok(Json(of_letter(&Rehearsal::of(&api), &letter).await?.1))
}

/// What a redrive of all dead letters would do now, or of those of one function: of the oldest
/// hundred, each after those before it.
#[utoipa::path(get, path = "/v1/dead-letters/dry-run", tag = "dead letters",
    params(("function" = Option<String>, Query, description = "Only those of this function")),
    responses((status = 200, description = "The verdicts, and how many there are of each")))]
async fn dry_run_all(
    Operator(api): Operator,
    Parameters(of): Parameters<dead_letters::OfFunction>,
) -> Result<Json<Value>, Refusal> {
    let letters = api.dead_letters.list(of.function.as_deref(), DRY_RUN_MAX).await?;
    let rehearsal = Rehearsal::of(&api);
    let (mut verdicts, mut shown) = (Vec::new(), Vec::new());
    for letter in &letters {
        let (verdict, one) = of_letter(&rehearsal, letter).await?;
        verdicts.push(verdict);
        shown.push(one);
    }
    Ok(Json(json!({ "dead_letters": shown, "summary": summary(&verdicts) })))
}

#[cfg(test)]
#[path = "rehearsal_tests.rs"]
mod tests;
