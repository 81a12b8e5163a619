//! What is seen to happen on the deployed stack, one after the other.

use super::site::{STACK, Site};
use super::tap::Tap;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Launches to running and back: every step has its line in the timeline, and nothing is held in the
/// end.
pub(super) fn launches_and_terminates(site: &Site, _: &Tap) -> Result<()> {
    let before = site.run(&["capacity"])?;
    let ids = site.launch(&["t3.micro", "--count", "3", "--tag", "Name=e2e", "--wait"])?;
    ensure!(ids.len() == 3, "three were asked for: {ids:?}");
    let timeline = site.run(&["events", &ids[0]])?;
    for step in ["api", "capacity", "network", "storage", "security", "handoff", "instances"] {
        let lines = timeline["events"].as_array().cloned().unwrap_or_default();
        ensure!(lines.iter().any(|line| line["step"] == step), "no line of {step}: {timeline:#}");
    }
    let explained = site.run(&["explain", &ids[0]])?;
    let chain = &explained["generations"][0]["chains"][0];
    ensure!(chain["led_to"][0]["what"] == "taken", "capacity comes first: {explained:#}");
    ensure!(explained.to_string().contains(r#""what":"running""#), "no end: {explained:#}");
    let audit = site.run(&["audit", &ids[0]])?;
    ensure!(audit["verified"] == true, "the audit record is not what it says: {audit:#}");
    ensure!(site.run(&["capacity"])? != before, "what runs takes room");
    let words = [&["terminate", "--wait"], &ids.iter().map(String::as_str).collect::<Vec<_>>()[..]];
    site.run(&words.concat())?;
    ensure!(site.run(&["capacity"])? == before, "what has ended holds nothing");
    Ok(())
}

/// What is stopped keeps its address and volumes, what is started has them again, a reboot is done
/// where it runs, and what is protected is not terminated.
pub(super) fn stops_starts_and_protects(site: &Site, _: &Tap) -> Result<()> {
    let before = site.run(&["capacity"])?;
    let ids = site.launch(&["t3.micro", "--termination-protection", "--wait"])?;
    let id = ids[0].as_str();
    let ran = site.run(&["describe", id])?;
    site.run(&["reboot", id])?;
    site.run(&["stop", "--wait", id])?;
    ensure!(site.run(&["start", id])?["instances"][0]["current_state"] == "pending");
    let runs = site.until_state(id, "running")?;
    for same in ["private_ip", "mac", "volumes"] {
        ensure!(runs[same] == ran[same], "{same} is another after a start: {runs:#}");
    }
    ensure!(runs["generation"] == 2, "a start is a generation more: {runs:#}");
    ensure!(site.run(&["terminate", id]).is_err(), "it is protected");
    site.run(&["protect", "--off", id])?;
    site.run(&["terminate", "--wait", id])?;
    site.until_quiet()?;
    ensure!(site.run(&["capacity"])? == before, "what has ended holds nothing");
    ensure!(site.run(&["ledger", "check"])?["balances"] == true, "the ledger does not balance");
    Ok(())
}

/// What fits nowhere is refused with its reason, and everything is given back.
pub(super) fn refuses_what_does_not_fit(site: &Site, _: &Tap) -> Result<()> {
    let before = site.run(&["capacity"])?;
    let ids = site.launch(&["p4d.24xlarge"])?;
    let ended = site.until_state(&ids[0], "terminated")?;
    let code = ended["state_reason"]["code"].as_str().unwrap_or_default();
    ensure!(code == "Server.InsufficientInstanceCapacity", "refused for {code}: {ended:#}");
    site.until_quiet()?;
    ensure!(site.run(&["capacity"])? == before, "what was refused holds nothing");
    Ok(())
}

/// One token asked with many times at once is one launch, and every event of it once more, to every
/// inbox, changes nothing.
pub(super) fn duplicates_change_nothing(site: &Site, tap: &Tap) -> Result<()> {
    let words = ["launch", "t3.micro", "--client-token", "e2e-token"];
    let answers = site.run_at_once(4, &words)?;
    let id = |answer: &Value| answer["instances"][0]["instance_id"].as_str().map(str::to_owned);
    let ids: Vec<Option<String>> = answers.iter().map(id).collect();
    ensure!(ids.iter().all(|one| *one == ids[0]), "one token, several instances: {ids:?}");
    let id = ids[0].clone().context("an id")?;
    let running = site.until_state(&id, "running")?;
    site.until_quiet()?;
    let capacity = site.run(&["capacity"])?;
    let events = tap.events(site, &id)?;
    ensure!(events.len() >= 7, "a launch has seven events or more, not {}", events.len());
    for inbox in super::INBOXES {
        for part in events.chunks(10) {
            send(site, inbox, part)?;
        }
    }
    site.until_quiet()?;
    ensure!(site.run(&["describe", &id])? == running, "events once more changed {id}");
    ensure!(site.run(&["capacity"])? == capacity, "events once more took or gave back room");
    site.run(&["terminate", "--wait", &id])?;
    Ok(())
}

/// A deployment that makes a step fail: its message ends in its dead letters with the reason, the
/// others go on, and once the step is mended the letter is redriven to a running instance.
pub(super) fn a_broken_step_is_redriven(site: &Site, _: &Tap) -> Result<()> {
    let good = site.deployed("storage")?;
    site.deploy_broken("storage")?;
    let ids = site.launch(&["t3.micro"])?;
    let mut letters = Value::Null;
    site.until("storage has a dead letter", |site| {
        letters = site.run(&["dead-letters", "list", "--function", "storage"])?;
        Ok(letters["dead_letters"].as_array().is_some_and(|letters| !letters.is_empty()))
    })?;
    let letter = &letters["dead_letters"][0];
    let (id, reason) = (letter["id"].as_str(), letter["reason"].as_str());
    ensure!(reason.is_some_and(|why| why.contains("ResourceNotFound")), "no reason: {letter:#}");
    ensure!(letter["received"] == 5, "five tries: {letter:#}");
    let state = site.run(&["describe", &ids[0]])?["state"].clone();
    ensure!(state == "pending", "without its volume it waits, and is {state}");
    site.deploy_version("storage", &good)?;
    let id = id.context("a letter has an id")?;
    let shown = site.run(&["dead-letters", "show", id])?;
    ensure!(shown["message"]["detail-type"] == "CapacityAllocated", "{shown:#}");
    let ruled = site.run(&["dead-letters", "redrive", id, "--dry-run"])?;
    ensure!(ruled["verdict"] == "apply", "a redrive would go on: {ruled:#}");
    ensure!(ruled["publishes"] == json!(["VolumeProvisioned"]), "{ruled:#}");
    let redriven = site.run(&["dead-letters", "redrive", id])?;
    ensure!(redriven["redriven"] == 1, "{redriven}");
    site.until_state(&ids[0], "running")?;
    ensure!(site.messages("StorageDeadLetters")? == 0, "the letter is gone");
    site.run(&["terminate", "--wait", &ids[0]])?;
    Ok(())
}

/// A message that is no event, among nine good ones: it alone becomes a dead letter, at once.
pub(super) fn poison_fails_alone(site: &Site, tap: &Tap) -> Result<()> {
    let ids = site.launch(&["t3.micro", "--wait"])?;
    site.until_quiet()?;
    let events = tap.events(site, &ids[0])?;
    let good = events.iter().find(|event| event.contains("InstanceRequested"));
    let mut bodies = vec![good.context("the launch was requested")?.clone(); 9];
    bodies.insert(4, r#"{"detail-type": "InstanceRequested", "detail": "poison"}"#.to_owned());
    send(site, "Capacity", &bodies)?;
    site.until(
        "the poison is a dead letter",
        |site| Ok(site.messages("CapacityDeadLetters")? > 0),
    )?;
    site.until_quiet()?;
    let letters = site.run(&["dead-letters", "list"])?;
    let letters = letters["dead_letters"].as_array().cloned().unwrap_or_default();
    ensure!(letters.len() == 1, "the poison alone: {letters:#?}");
    let reason = letters[0]["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("not an event"), "set aside for {reason}");
    // Redriven, it is set aside again: nothing is lost, and nothing loops.
    let redriven = site.run(&["dead-letters", "redrive", "--all"])?;
    ensure!(redriven["redriven"] == 1, "once, though it fails again: {redriven}");
    site.until_quiet()?;
    site.until("it is a dead letter again", |site| Ok(site.messages("CapacityDeadLetters")? == 1))?;
    let purge = ["dead-letters", "purge", "--function", "capacity", "--yes-purge", "capacity"];
    let purged = site.run(&purge)?;
    ensure!(purged["purged"] == 1, "the poison goes: {purged}");
    site.run(&["terminate", "--wait", &ids[0]])?;
    Ok(())
}

/// Terminated while it is launched: it ends, and holds nothing.
pub(super) fn terminates_in_mid_launch(site: &Site, _: &Tap) -> Result<()> {
    let before = site.run(&["capacity"])?;
    let ids = site.launch(&["t3.micro", "--count", "4"])?;
    let words = [&["terminate", "--wait"], &ids.iter().map(String::as_str).collect::<Vec<_>>()[..]];
    site.run(&words.concat())?;
    site.until_quiet()?;
    ensure!(site.run(&["capacity"])? == before, "what was terminated in mid-launch holds nothing");
    Ok(())
}

/// What was archived is replayed onto the bus: no step hears it, the shadow does, and what it says
/// each step would do is nothing. The emulator does not look at a replay's rules, only at their
/// patterns; the template has no archive there, so that one is made here.
pub(super) fn a_replay_reaches_the_shadow_alone(site: &Site, _: &Tap) -> Result<()> {
    let stacks =
        site.emulator.call("cloudformation", "describe_stacks", &json!({ "StackName": STACK }))?;
    let outputs = stacks["Stacks"][0]["Outputs"].as_array().cloned().unwrap_or_default();
    let bus = outputs.iter().find(|output| output["OutputKey"] == "BusArn");
    let bus = bus.context("the stack says which its bus is")?["OutputValue"].clone();
    let archive = json!({ "ArchiveName": "e2e", "EventSourceArn": bus });
    site.emulator.call("events", "create_archive", &archive)?;
    let ids = site.launch(&["t3.micro", "--wait"])?;
    site.until_quiet()?;
    let seen = |site: &Site| -> Result<(Value, Value)> {
        Ok((site.run(&["events", &ids[0]])?, site.run(&["capacity"])?))
    };
    let before = seen(site)?;
    let span = ["--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"];
    let words = [&["replay", "--stack", STACK, "--instance", &ids[0]], &span[..]].concat();
    let replayed = site.run(&words)?;
    let events = replayed["events"].as_array().map_or(0, Vec::len);
    ensure!(events >= 7, "a launch has seven events or more, not {events}: {replayed:#}");
    let summary = &replayed["summary"];
    ensure!(summary["nothing to do"].as_u64() >= Some(9), "not all is recorded: {replayed:#}");
    for verdict in ["apply", "stale", "unsafe"] {
        ensure!(summary[verdict] == 0, "{verdict}: {replayed:#}");
    }
    site.until_quiet()?;
    ensure!(seen(site)? == before, "a replay had an effect");
    ensure!(site.messages("ShadowInbox")? == 0, "what was replayed is drained");
    site.run(&["terminate", "--wait", &ids[0]])?;
    Ok(())
}

/// After all of it no letter is left and no instance runs.
pub(super) fn nothing_is_left(site: &Site, _: &Tap) -> Result<()> {
    site.until_quiet()?;
    for inbox in super::INBOXES {
        let letters = site.messages(&format!("{inbox}DeadLetters"))?;
        ensure!(letters == 0, "{letters} dead letters of {inbox} are left");
    }
    let instances = site.run(&["list"])?["instances"].as_array().cloned().unwrap_or_default();
    let alive: Vec<&Value> = instances.iter().filter(|one| one["state"] != "terminated").collect();
    ensure!(alive.is_empty(), "still there: {alive:#?}");
    Ok(())
}

/// The stack goes, its data stays; and goes when its owner says so.
pub(super) fn data_outlives_the_stack(site: &Site, _: &Tap) -> Result<()> {
    let tables = |site: &Site| -> Result<usize> {
        let all = site.emulator.call("dynamodb", "list_tables", &json!({}))?;
        let names = all["TableNames"].as_array().cloned().unwrap_or_default();
        let is_ours = |name: &&Value| name.as_str().is_some_and(|name| name.contains("Table"));
        Ok(names.iter().filter(is_ours).count())
    };
    ensure!(tables(site)? == 6, "each function with a receipt has its table");
    ensure!(site.purge_data().is_err(), "data is not deleted under a stack that stands");
    site.delete()?;
    ensure!(tables(site)? == 6, "the tables went with the stack");
    site.purge_data()?;
    site.until("the tables are deleted", |site| Ok(tables(site)? == 0))
}

/// Puts bodies into a function's inbox, past the bus.
fn send(site: &Site, inbox: &str, bodies: &[String]) -> Result<()> {
    let url = site.resource(&format!("{inbox}Inbox"))?;
    let entry = |(n, body): (usize, &String)| json!({ "Id": n.to_string(), "MessageBody": body });
    let entries: Vec<Value> = bodies.iter().enumerate().map(entry).collect();
    let arguments = json!({ "QueueUrl": url, "Entries": entries });
    let answer = site.emulator.call("sqs", "send_message_batch", &arguments)?;
    ensure!(answer["Failed"].as_array().is_none_or(Vec::is_empty), "not sent: {answer:#}");
    Ok(())
}
