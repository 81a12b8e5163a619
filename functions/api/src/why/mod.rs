//! Why an instance is not running: what a pending one awaits and since when, why a failed one
//! failed, and with which change of its request it would run as everything stands.

mod grounds;
mod queue;
mod suggest;

use crate::answer::rfc3339;
use crate::catalogue::{self, InstanceType};
use crate::error::Refusal;
use crate::extract::{Caller, Path};
use crate::launch::{LaunchRequest, plan};
use crate::view::{HOLDERS, Whole, instance_id, read};
use crate::{Api, Shared};
use axum::Json;
use eventplane_domain::receipt::Answer;
use eventplane_domain::{LaunchSpec, Millis, Reason, State, Strategy, VolumeSpec, code};
use eventplane_engine::Logged;
use grounds::{Grounds, Open};
use serde_json::{Map, Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many of the things that a launch names may be left out, and once more to see what is left.
const MENDED_MAX: usize = 3;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(why))
}

/// Why an instance is pending, or has failed: a tree of reasons, and changes with which its launch
/// would run now. All but the recorded reason is as of the moment that the answer names.
#[utoipa::path(get, path = "/v1/instances/{instance_id}/why", tag = "instances",
    params(("instance_id" = String, Path)),
    responses((status = 200, description = "Why it is not running")))]
async fn why(Caller(api): Caller, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let id = instance_id(&id)?;
    let whole = read(&*api.ports.store, &api.options.tenant, &id).await?;
    let (state, now) = (whole.state(), api.ports.clock.now());
    let mut answer = Map::new();
    answer.insert("instance_id".to_owned(), json!(id));
    answer.insert("state".to_owned(), json!(state));
    answer.insert("as_of".to_owned(), json!(rfc3339(now.0)));
    let failed = failure(&whole);
    let mut words = Vec::new();
    if state == State::Pending {
        let (waits, told) = waiting(&api, &whole).await?;
        answer.insert("waits".to_owned(), waits);
        words.push(told);
    } else if let Some((step, reason, at)) = &failed {
        let by = step.unwrap_or("the control plane");
        words.push(format!("it failed: {by} says {reason}"));
        let at = at.map(|at| rfc3339(at.0));
        let refusal = Refusal::from(reason.clone());
        let failed = json!({
            "step": step,
            "code": reason.code,
            "message": reason.message,
            "class": refusal.class(),
            "retry": refusal.retry(),
            "at": at,
        });
        answer.insert("failed".to_owned(), failed);
    } else {
        words.push(match &whole.record.reason {
            Some(reason) if state != State::Running => format!("it is {state}: {reason}"),
            _ => format!("it is {state}: there is nothing that it waits for"),
        });
    }
    if state == State::Pending || failed.is_some() {
        words.extend(analysis(&api, &whole, now, &mut answer).await?);
    }
    answer.insert("summary".to_owned(), json!(words.join(". ")));
    Ok(Json(Value::Object(answer)))
}

/// What a pending instance awaits, since when and until when, and how many are before it.
async fn waiting(api: &Api, whole: &Whole) -> Result<(Value, String), Refusal> {
    let awaits = whole.awaits();
    let since = since(whole, &awaits);
    let deadline = rfc3339(whole.record.deadline.0);
    let queue = queue::before(&*api.ports.store, &whole.record.id).await?;
    let words = format!(
        "it waits for {} since {}, and has until {deadline}; {}{} on their way were asked for \
         before it",
        awaits.join(", "),
        rfc3339(since.0),
        queue.instances,
        if queue.at_least { " or more" } else { "" },
    );
    let waits = json!({
        "for": awaits,
        "since": rfc3339(since.0),
        "deadline": deadline,
        "queue": { "before": queue.instances, "at_least": queue.at_least },
    });
    Ok((waits, words))
}

/// Since when what is awaited has been asked for: since the step before it answered.
fn since(whole: &Whole, awaits: &[&'static str]) -> Millis {
    let generation = whole.record.progress.generation;
    let taken = |step: usize| {
        let log = whole.receipts[step].as_ref().map(|receipt| &receipt.log[..]).unwrap_or_default();
        let is_it = |logged: &&Logged<Answer>| {
            (logged.generation, logged.what) == (generation, Answer::Taken)
        };
        log.iter().filter(is_it).map(|logged| logged.at).next_back()
    };
    let asked = || {
        // A later generation was asked for once the one before had given back its room.
        let log = whole.receipts[0].iter().flat_map(|receipt| &receipt.log);
        let before = log.filter(|logged| logged.generation < generation).map(|logged| logged.at);
        before.max().unwrap_or(whole.record.created)
    };
    let since = match awaits {
        ["capacity"] => None,
        ["handoff"] => (1..HOLDERS.len()).filter_map(taken).max(),
        ["host"] => whole.handoff.as_ref().and_then(|one| one.log.last()).map(|logged| logged.at),
        _ => taken(0),
    };
    since.unwrap_or_else(asked)
}

/// Why a launch or a start failed: the step that refused, if one did, the reason, and when.
fn failure(whole: &Whole) -> Option<(Option<&'static str>, Reason, Option<Millis>)> {
    let reason = whole.record.reason.clone()?;
    let asked_for = [code::USER_SHUTDOWN, code::INSTANCE_SHUTDOWN].contains(&reason.code.as_str());
    let is_over = matches!(whole.state(), State::ShuttingDown | State::Terminated | State::Stopped);
    if asked_for || !is_over {
        return None;
    }
    let refused = HOLDERS.iter().zip(&whole.receipts).filter_map(|(step, receipt)| {
        let log = &receipt.as_ref()?.log;
        let refused = log.iter().rev().find(|logged| logged.what == Answer::Refused)?;
        Some((refused.at, step.name()))
    });
    let last = refused.max();
    Some((last.map(|(_, step)| step), reason, last.map(|(at, _)| at)))
}

/// The trees of what is not held yet, whether it would fit, and what else would.
async fn analysis(
    api: &Api,
    whole: &Whole,
    now: Millis,
    answer: &mut Map<String, Value>,
) -> Result<Vec<String>, Refusal> {
    let (store, tenant) = (&*api.ports.store, &api.options.tenant);
    let spec = &whole.record.spec;
    let [capacity, network, storage, _] = &whole.receipts;
    let placement = capacity.as_ref().and_then(eventplane_capacity::placement);
    let volumes = storage.as_ref().map(eventplane_storage::volumes).unwrap_or_default();
    let open = Open {
        capacity: placement.is_none(),
        network: network.as_ref().and_then(eventplane_network::lease).is_none(),
        storage: volumes.is_empty(),
    };
    // Where it is placed, or where its volumes are, it has to stay.
    let kept = volumes.first().and_then(|volume| volume.pool.split('/').next());
    let zone = placement.map(|placement| placement.zone).or(kept.map(str::to_owned));
    let bound = LaunchSpec { zone: zone.or_else(|| spec.zone.clone()), ..spec.clone() };
    let grounds = Grounds {
        fleet: eventplane_capacity::why::look(store).await?,
        network: eventplane_network::why::look(store, tenant, spec, now).await?,
        storage: eventplane_storage::why::look(store).await?,
    };
    let (mut trees, mut words, mut fits) = grounds.trees(&bound, open);
    let is_pending = whole.state() == State::Pending;
    let is_new = !whole.record.has_run;
    let mended = if is_new && !is_pending { mended(api, whole).await? } else { Mended::of(spec) };
    if let Some(refusal) = &mended.refused {
        fits = false;
        words.push(format!("its request would be refused now: {}", refusal.message));
        let Refusal { code, message, field, .. } = refusal;
        let refused = json!({ "code": code, "message": message, "field": field });
        trees.insert("request".to_owned(), refused);
    }
    answer.insert("tree".to_owned(), Value::Object(trees));
    answer.insert("fits_now".to_owned(), json!(fits));
    let mut suggestions = Vec::new();
    if fits && !is_pending {
        let again = if whole.state() == State::Stopped { "starts" } else { "is asked for" };
        words.push(format!("now it would fit, if it {again} again"));
    } else if !fits && is_new {
        suggestions = suggested(api, whole, &grounds, mended).await?;
        words.extend(suggestions.first().map(|first| {
            format!("it would run so: {}", first["words"].as_str().unwrap_or_default())
        }));
    }
    answer.insert("suggestions".to_owned(), json!(suggestions));
    Ok(words)
}

/// A launch without what it names and what is gone by now.
struct Mended {
    spec: LaunchSpec,
    words: Vec<String>,
    /// Why its request would be refused as it was.
    refused: Option<Refusal>,
}

impl Mended {
    fn of(spec: &LaunchSpec) -> Mended {
        Mended { spec: spec.clone(), words: vec![], refused: None }
    }
}

/// Asks whether the launch's request would still be taken, and leaves out groups and a role that
/// would be refused.
async fn mended(api: &Api, whole: &Whole) -> Result<Mended, Refusal> {
    let mut mended = Mended::of(&whole.record.spec);
    for _ in 0..MENDED_MAX {
        let request = json!(request_of(whole, &mended.spec));
        let Ok(launch) = serde_json::from_value::<LaunchRequest>(request) else { break };
        let Err(refusal) = plan(api, &launch).await else { break };
        if refusal.status.is_server_error() {
            return Err(refusal);
        }
        let field = refusal.field.clone();
        mended.refused.get_or_insert(refusal);
        match field.as_deref() {
            Some("security_group_ids") => {
                mended.words.push("with the default security group".to_owned());
                mended.spec.security_group_ids.clear();
            }
            Some("role") => {
                mended.words.push("without its role".to_owned());
                mended.spec.role = None;
            }
            _ => break,
        }
    }
    Ok(mended)
}

/// The suggestions whose requests would be taken: each is checked as a launch is.
async fn suggested(
    api: &Api,
    whole: &Whole,
    grounds: &Grounds,
    mended: Mended,
) -> Result<Vec<Value>, Refusal> {
    let spec = &whole.record.spec;
    let architecture = catalogue::find(&spec.instance_type).map(|kind| kind.architecture);
    let kinds: Vec<&InstanceType> = catalogue::instance_types()
        .iter()
        .filter(|kind| Some(kind.architecture) == architecture)
        .collect();
    let asked = request_of(whole, spec);
    let mut kept = Vec::new();
    for suggestion in suggest::suggest(mended.spec, mended.words, grounds, &kinds) {
        let request = request_of(whole, &suggestion.spec);
        let Ok(launch) = serde_json::from_value::<LaunchRequest>(json!(request)) else { continue };
        match plan(api, &launch).await {
            Ok(plan) if grounds.fit(&plan.spec) => {}
            // What it names may be gone by now: the store's own faults are the caller's to know.
            Err(refusal) if refusal.status.is_server_error() => return Err(refusal),
            _ => continue,
        }
        let change = change(&asked, &request);
        kept.push(json!({ "words": suggestion.words, "change": change, "request": request }));
    }
    Ok(kept)
}

/// The request of one instance with this specification. User data is left out: only its owner
/// has it, and it changes nothing about what fits.
fn request_of(whole: &Whole, spec: &LaunchSpec) -> Map<String, Value> {
    let volume = |volume: &VolumeSpec| {
        let VolumeSpec { device, volume_type, size_gib, iops, delete_on_termination } = volume;
        let mut shown = json!({
            "device": device,
            "volume_type": volume_type,
            "size_gib": size_gib,
            "delete_on_termination": delete_on_termination,
        });
        if *iops > 0 {
            shown["iops"] = json!(iops);
        }
        shown
    };
    let some = |list: &Vec<String>| if list.is_empty() { Value::Null } else { json!(list) };
    let tags = &whole.record.tags;
    let fields = [
        ("instance_type", json!(spec.instance_type)),
        ("image_id", json!(spec.image_id)),
        ("zone", json!(spec.zone)),
        ("subnet_id", json!(spec.subnet_id)),
        ("private_ip", json!(spec.private_ip)),
        ("security_group_ids", some(&spec.security_group_ids)),
        ("volumes", json!(spec.volumes.iter().map(volume).collect::<Vec<_>>())),
        ("role", json!(spec.role)),
        ("tags", if tags.is_empty() { Value::Null } else { json!(tags) }),
        ("strategy", if spec.strategy == Strategy::Pack { json!("pack") } else { Value::Null }),
    ];
    let is_there = |(_, value): &(&str, Value)| !value.is_null();
    fields.into_iter().filter(is_there).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What makes one request of the other: fields with their new values, null for those that go (as
/// JSON merge patches have it, RFC 7396).
fn change(from: &Map<String, Value>, to: &Map<String, Value>) -> Map<String, Value> {
    let gone = from.keys().filter(|name| !to.contains_key(*name));
    let gone = gone.map(|name| (name.clone(), Value::Null));
    let new = to.iter().filter(|(name, value)| from.get(*name) != Some(value));
    gone.chain(new.map(|(name, value)| (name.clone(), value.clone()))).collect()
}
