//! What operators do to a whole function: its breaker, and its dead letters by the many.

use crate::args::BreakerVerb;
use crate::client::{Client, encode};
use crate::confirm::{Owner, confirm, person};
use crate::problem::Problem;
use crate::show::{Screen, text_at};
use crate::tables;
use crate::verbs::path_of;
use serde_json::{Value, json};
use std::io::BufRead;
use std::time::Duration;
use tokio::time::Instant;

/// How many dead letters the API lists at most.
const LISTED_MAX: usize = 100;

pub(crate) async fn breaker(
    client: &Client,
    screen: &mut Screen,
    verb: &BreakerVerb,
) -> Result<(), Problem> {
    let (function, state) = match verb {
        BreakerVerb::List => {
            let breakers = client.list("/v1/breakers", "breakers").await?;
            let answer = json!({ "breakers": breakers });
            screen.either(&answer, |screen| tables::breakers(screen, &breakers));
            return Ok(());
        }
        BreakerVerb::Open { function } => (function, "open"),
        BreakerVerb::Close { function } => (function, "closed"),
    };
    let path = format!("/v1/breakers/{}", path_of(function)?);
    let breaker = client.put(&path, &json!({ "state": state })).await?;
    screen.either(&breaker, |screen| tables::breakers(screen, std::slice::from_ref(&breaker)));
    Ok(())
}

/// Redrives what is a dead letter now, at most `rate` a second. What fails again meanwhile is a later
/// letter, and is left alone: so it ends.
pub(crate) async fn redrive_all(
    client: &Client,
    screen: &mut Screen,
    function: Option<&str>,
    rate: u32,
) -> Result<(), Problem> {
    let begun = Instant::now();
    let (mut total, mut until) = (0_u64, Value::Null);
    loop {
        let mut path = format!("/v1/dead-letters/redrive?limit={rate}");
        let named = [("function", function), ("until", until.as_str())];
        for (name, value) in named {
            path.extend(value.map(|value| format!("&{name}={}", encode(value))));
        }
        let answer = client.post(&path, &json!({})).await.inspect_err(|_| {
            screen.aside(format!("redriven before that: {total}"));
        })?;
        let redriven = answer["redriven"].as_u64().unwrap_or_default();
        total += redriven;
        until = answer["until"].clone();
        if redriven == 0 {
            break;
        }
        screen.progress(&format!("redriven: {total} so far, {rate} a second"));
        let due = Duration::from_secs(total) / rate;
        tokio::time::sleep_until(begun + due).await;
    }
    screen.either(&json!({ "redriven": total }), |_| format!("redriven: {total}"));
    Ok(())
}

/// Removes a function's dead letters for ever, if whoever asks means it.
pub(crate) async fn purge(
    client: &Client,
    screen: &mut Screen,
    function: &str,
    given: Option<&str>,
) -> Result<(), Problem> {
    let path = format!("/v1/dead-letters?function={}", encode(function));
    let letters = client.list(&path, "dead_letters").await?;
    let mut purged = 0;
    if !letters.is_empty() {
        let (count, oldest) = (letters.len(), text_at(&letters[0], "reason"));
        let more = if count < LISTED_MAX { "" } else { " or more" };
        screen.aside(format!(
            "of {function}, for ever: {count} dead letters{more}; the oldest: {oldest}"
        ));
        let mut person = person();
        let typed = person.as_mut().map(|person| person as &mut dyn BufRead);
        let owner = Owner { kind: "function", name: function, option: "--yes-purge" };
        confirm(owner, given, typed, screen)?;
        purged = purge_until_none(client, screen, function).await?;
    }
    let answer = json!({ "function": function, "purged": purged });
    screen.either(&answer, |_| format!("purged of {function}: {purged}"));
    Ok(())
}

/// Purges what is a dead letter now, in as many turns as it takes; how many went.
async fn purge_until_none(
    client: &Client,
    screen: &mut Screen,
    function: &str,
) -> Result<u64, Problem> {
    let mut body = json!({ "function": function, "confirm": function });
    let mut total = 0;
    loop {
        let answer = client.post("/v1/dead-letters/purge", &body).await?;
        let purged = answer["purged"].as_u64().unwrap_or_default();
        if purged == 0 {
            return Ok(total);
        }
        total += purged;
        body["until"] = answer["until"].clone();
        screen.progress(&format!("purged: {total} so far"));
    }
}
