//! A breaker on the deployed stack: the event source mapping of a step is disabled, and enabled again.

use super::site::Site;
use super::tap::Tap;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The step whose breaker is opened, and its queues.
const STEP: &str = "network";
const INBOX: &str = "NetworkInbox";
const DEAD_LETTERS: &str = "NetworkDeadLetters";

/// Behind network's open breaker launches and terminations wait for network alone, and nothing
/// becomes a dead letter; closed, all of them end as they were to.
pub(super) fn events_wait(site: &Site, _: &Tap) -> Result<()> {
    let before = site.run(&["capacity"])?;
    set(site, "open")?;
    let ids = site.launch(&["t3.micro", "--count", "3"])?;
    for id in &ids {
        site.until(&format!("{id} waits for {STEP} alone"), |site| {
            let shown = site.run(&["describe", id])?;
            Ok(shown["pending"]["awaits"] == json!([STEP]))
        })?;
    }
    all_wait(site, ids.len())?;
    set(site, "close")?;
    for id in &ids {
        site.until_state(id, "running")?;
    }

    set(site, "open")?;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    site.run(&[&["terminate"], &ids[..]].concat())?;
    all_wait(site, ids.len())?;
    for id in &ids {
        let state = site.run(&["describe", id])?["state"].clone();
        ensure!(state == "shutting-down", "{id} holds its address, and is {state}");
    }
    set(site, "close")?;
    for id in &ids {
        site.until_state(id, "terminated")?;
    }
    site.until_quiet()?;
    ensure!(site.messages(DEAD_LETTERS)? == 0, "what waited has become dead letters");
    ensure!(site.run(&["capacity"])? == before, "what has ended holds nothing");
    Ok(())
}

/// Opens or closes the step's breaker, and waits until it is so.
fn set(site: &Site, verb: &str) -> Result<()> {
    site.run(&["breaker", verb, STEP])?;
    let wanted = if verb == "open" { "open" } else { "closed" };
    site.until(&format!("the breaker is {wanted}"), |site| Ok(breaker(site)?["state"] == wanted))
}

fn breaker(site: &Site) -> Result<Value> {
    let answer = site.run(&["breaker", "list"])?;
    let all = answer["breakers"].as_array().cloned().unwrap_or_default();
    ensure!(all.len() == super::INBOXES.len(), "each inbox has a breaker: {answer:#}");
    all.into_iter().find(|one| one["function"] == STEP).context("it has a breaker")
}

/// All of these messages wait, and stay: the breaker says how many.
fn all_wait(site: &Site, messages: usize) -> Result<()> {
    site.until("all events wait", |site| Ok(breaker(site)?["waiting"] == messages))?;
    let inbox = site.messages(INBOX)?;
    ensure!(inbox == messages as u64, "{inbox} messages are in the inbox");
    ensure!(site.messages(DEAD_LETTERS)? == 0, "what waits has become a dead letter");
    Ok(())
}
