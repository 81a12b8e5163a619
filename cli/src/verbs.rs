//! What each verb of a user does: one request, or a few, and what is shown of the answers.

use crate::args::{Launch, LetterVerb, List, Wait};
use crate::client::{Client, encode, is_over};
use crate::problem::Problem;
use crate::show::{Ink, Screen, text_at};
use crate::{body, operate, rehearsal, tables, tree, waterfall};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;

/// An id as a part of a path.
pub(crate) fn path_of(id: &str) -> Result<String, Problem> {
    // A dot by itself would climb, and nothing would be the list.
    if id.is_empty() || id == "." || id == ".." {
        return Err(Problem::Input(format!("`{id}` is no id")));
    }
    Ok(encode(id))
}

pub(crate) fn instance_path(id: &str) -> Result<String, Problem> {
    Ok(format!("/v1/instances/{}", path_of(id)?))
}

/// The instances of an answer.
fn instances_of(answer: &Value) -> Vec<Value> {
    answer["instances"].as_array().cloned().unwrap_or_default()
}

pub(crate) async fn launch(
    client: &Client,
    screen: &mut Screen,
    asked: &Launch,
) -> Result<(), Problem> {
    let answer = match client.post("/v1/instances", &body::launch(asked)?).await {
        Err(Problem::Refused(refusal)) if asked.dry_run && refusal.code == "DryRunOperation" => {
            let would = json!({ "dry_run": true, "code": refusal.code });
            screen.either(&would, |_| "It would be launched.".to_owned());
            return Ok(());
        }
        answer => answer?,
    };
    let mut instances = instances_of(&answer);
    if !asked.wait.wait {
        screen.either(&answer, |screen| tables::instances(screen, &instances));
        return Ok(());
    }
    let waited = until(client, screen, &mut instances, "running", &asked.wait).await;
    let mut answer = answer;
    answer["instances"] = json!(instances);
    screen.either(&answer, |screen| tables::instances(screen, &instances));
    waited
}

/// Waits until every one of these is in the state `wanted`, showing how many are; what stands then
/// is left in `instances`.
pub(crate) async fn until(
    client: &Client,
    screen: &mut Screen,
    instances: &mut [Value],
    wanted: &'static str,
    wait: &Wait,
) -> Result<(), Problem> {
    let patience = Duration::from_secs(wait.timeout_s);
    let mut waits = JoinSet::new();
    for (index, instance) in instances.iter().enumerate() {
        let (client, id) = (client.clone(), text_at(instance, "instance_id"));
        waits.spawn(async move { (index, client.instance_until(&id, wanted, patience).await) });
    }
    let (mut arrived, mut total) = (0, 0);
    let all = instances.len();
    // Whoever gives up waiting still knows what was launched.
    if let Some(first) = instances.first() {
        let more = if all > 1 { format!(" and {} more", all - 1) } else { String::new() };
        screen.progress(&format!("0 of {all} {wanted}: {}{more}", text_at(first, "instance_id")));
    }
    let mut unanswered = None;
    while let Some(joined) = waits.join_next().await {
        let (index, answer) = joined.expect("a wait does not panic");
        total += 1;
        match answer {
            Ok(instance) => {
                arrived += usize::from(instance["state"] == wanted);
                instances[index] = instance;
            }
            Err(problem) => {
                unanswered.get_or_insert(problem);
            }
        }
        screen.progress(&format!("{arrived} of {all} {wanted}, {} to come", all - total));
    }
    if let Some(problem) = unanswered {
        return Err(problem);
    }
    let is_ended = |one: &&Value| is_over(one["state"].as_str().unwrap_or_default(), wanted);
    let ended: Vec<&Value> = instances.iter().filter(is_ended).collect();
    if let Some(first) = ended.first() {
        let (count, state, why) = (ended.len(), text_at(first, "state"), tables::why(first));
        return Err(Problem::Failed(format!(
            "{count} of {all} will not be {wanted}: {state}, {why}"
        )));
    }
    match instances.iter().find(|one| one["state"] != wanted) {
        None => Ok(()),
        Some(late) => Err(Problem::TimedOut(format!(
            "{} of {all} are not {wanted} after {} s: {} is {} ({})",
            all - arrived,
            wait.timeout_s,
            text_at(late, "instance_id"),
            text_at(late, "state"),
            tables::why(late),
        ))),
    }
}

pub(crate) async fn list(
    client: &Client,
    screen: &mut Screen,
    filters: &List,
) -> Result<(), Problem> {
    let List { state, zone, instance_type, tag } = filters;
    let filters =
        [("state", state), ("zone", zone), ("instance_type", instance_type), ("tag", tag)];
    let mut path = "/v1/instances?limit=100".to_owned();
    for (name, value) in filters {
        if let Some(value) = value {
            path += &format!("&{name}={}", encode(value));
        }
    }
    let instances = client.list(&path, "instances").await?;
    let answer = json!({ "instances": instances });
    screen.either(&answer, |screen| tables::instances(screen, &instances));
    Ok(())
}

pub(crate) async fn describe(
    client: &Client,
    screen: &mut Screen,
    id: &str,
) -> Result<(), Problem> {
    let instance = client.get(&instance_path(id)?).await?;
    screen.either(&instance, |screen| tables::whole(screen, &instance));
    Ok(())
}

pub(crate) async fn events(client: &Client, screen: &mut Screen, id: &str) -> Result<(), Problem> {
    let timeline = client.get(&format!("{}/events", instance_path(id)?)).await?;
    screen.either(&timeline, |screen| {
        let state = screen.state(&text_at(&timeline, "state"));
        let text = waterfall::text(screen, &timeline);
        format!("{} {state}\n{text}", screen.ink(Ink::Bold, id))
    });
    Ok(())
}

pub(crate) async fn explain(client: &Client, screen: &mut Screen, id: &str) -> Result<(), Problem> {
    let explained = client.get(&format!("{}/explain", instance_path(id)?)).await?;
    screen.either(&explained, |screen| {
        let state = screen.state(&text_at(&explained, "state"));
        format!("{} {state}\n{}", screen.ink(Ink::Bold, id), tree::text(screen, &explained))
    });
    Ok(())
}

pub(crate) async fn audit(client: &Client, screen: &mut Screen, id: &str) -> Result<(), Problem> {
    let audit = client.get(&format!("{}/audit", instance_path(id)?)).await?;
    screen.either(&audit, |screen| tables::audit(screen, &audit));
    if audit["verified"] == true {
        return Ok(());
    }
    let why = text_at(&audit, "broken");
    Err(Problem::Failed(format!("the audit record of {id} was changed: {why}")))
}

pub(crate) async fn capacity(client: &Client, screen: &mut Screen) -> Result<(), Problem> {
    let capacity = client.get("/v1/capacity").await?;
    screen.either(&capacity, |screen| tables::capacity(screen, &capacity));
    Ok(())
}

pub(crate) async fn types(client: &Client, screen: &mut Screen) -> Result<(), Problem> {
    let types = client.list("/v1/instance-types", "instance_types").await?;
    let answer = json!({ "instance_types": types });
    screen.either(&answer, |screen| tables::types(screen, &types));
    Ok(())
}

pub(crate) async fn letters(
    client: &Client,
    screen: &mut Screen,
    verb: &LetterVerb,
) -> Result<(), Problem> {
    match verb {
        LetterVerb::List { function } => {
            let of = function.iter().map(|name| format!("?function={}", encode(name)));
            let path = format!("/v1/dead-letters{}", of.collect::<String>());
            let letters = client.list(&path, "dead_letters").await?;
            let answer = json!({ "dead_letters": letters });
            screen.either(&answer, |screen| tables::letters(screen, &letters));
        }
        LetterVerb::Show { id } => {
            let letter = client.get(&format!("/v1/dead-letters/{}", path_of(id)?)).await?;
            screen.either(&letter, |screen| tables::whole(screen, &letter));
        }
        LetterVerb::Redrive { id, dry_run: true, function, .. } => {
            rehearsal::dry_run(client, screen, id.as_deref(), function.as_deref()).await?;
        }
        LetterVerb::Redrive { id: Some(id), .. } => {
            let path = format!("/v1/dead-letters/{}/redrive", path_of(id)?);
            let answer = client.post(&path, &json!({})).await?;
            screen.either(&answer, |_| format!("redriven: {}", text_at(&answer, "redriven")));
        }
        LetterVerb::Redrive { id: None, function, rate, .. } => {
            operate::redrive_all(client, screen, function.as_deref(), *rate).await?;
        }
        LetterVerb::Purge { function, yes_purge } => {
            operate::purge(client, screen, function, yes_purge.as_deref()).await?;
        }
    }
    Ok(())
}
