//! Functions that are killed in mid-invocation: their processes, while launches are under way.

use super::site::Site;
use super::tap::Tap;
use anyhow::{Context, Result, ensure};
use eventplane_engine::Dice;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What the moments and the processes are drawn from.
const SEED: u64 = 1;
/// How many launches are under way, each with a token of its own.
const LAUNCHES: usize = 12;
/// How often a launch is asked for until it is answered: its answer dies with the api's process.
const TRIES_MAX: usize = 20;
/// How many processes are killed at least.
const KILLS_MIN: usize = 20;
/// The longest time between two kills, in milliseconds.
const PAUSE_MS_MAX: usize = 150;
/// How a function's process is called.
const PROCESS: &str = "bootstrap";

/// Whatever dies in between, every launch ends, running or refused; none is there twice, the ledger
/// balances, and what has ended holds nothing. What a function had received when it died comes again
/// after the visibility timeout, so that a launch may be over its deadline by then: that is a refusal.
pub(super) fn functions_are_killed(site: &Site, _: &Tap) -> Result<()> {
    let before = site.run(&["capacity"])?;
    let emulator = site.emulator.process();
    let is_over = AtomicBool::new(false);
    let (ids, killed) = thread::scope(|scope| {
        let killer = scope.spawn(|| kill_until(emulator, &is_over));
        let ids = (0..LAUNCHES).map(|n| launch(site, n)).collect::<Result<Vec<_>>>();
        is_over.store(true, Ordering::Relaxed);
        (ids, killer.join())
    });
    let killed = killed.ok().context("what kills has panicked")??;
    let ids = ids?;
    eprintln!("e2e: {killed} processes of functions were killed");
    ensure!(killed > 0, "no process of a function was found under the emulator's {emulator}");
    let mut running = 0;
    for id in &ids {
        site.until(&format!("{id} is running, or was refused"), |site| {
            let state = site.run(&["describe", id])?["state"].clone();
            running += usize::from(state == "running");
            Ok(state == "running" || state == "terminated")
        })?;
    }
    eprintln!("e2e: {running} of {LAUNCHES} run");
    ensure!(running > 0, "all of {LAUNCHES} launches were refused");
    let listed = site.run(&["list", "--tag", "Name=killed", "--output", "json"])?;
    let listed = listed["instances"].as_array().cloned().unwrap_or_default();
    let listed: BTreeSet<&str> =
        listed.iter().filter_map(|one| one["instance_id"].as_str()).collect();
    let answered: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
    ensure!(listed == answered, "there are {listed:?}, and these were answered: {answered:?}");
    site.until_quiet()?;
    ensure!(site.run(&["ledger", "check"])?["balances"] == true, "the ledger does not balance");
    site.run(&[&["terminate", "--wait"], &answered.into_iter().collect::<Vec<_>>()[..]].concat())?;
    site.until_quiet()?;
    ensure!(site.run(&["capacity"])? == before, "what has ended holds nothing");
    ensure!(site.run(&["ledger", "check"])?["balances"] == true, "the ledger does not balance");
    Ok(())
}

/// Launches, again and again with the same token, until there is an answer.
fn launch(site: &Site, n: usize) -> Result<String> {
    let token = format!("killed-{n}");
    let words = ["t3.micro", "--tag", "Name=killed", "--client-token", &token];
    let mut last = None;
    for _ in 0..TRIES_MAX {
        match site.launch(&words) {
            Ok(ids) => return ids.into_iter().next().context("an id"),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("it was not tried")?.context(format!("{TRIES_MAX} times without an answer")))
}

/// Kills one of the emulator's functions after another, at random; how many.
fn kill_until(emulator: u32, is_over: &AtomicBool) -> Result<usize> {
    let mut dice = Dice::new(SEED);
    let mut killed = 0;
    while !is_over.load(Ordering::Relaxed) || killed < KILLS_MIN {
        thread::park_timeout(Duration::from_millis(dice.below(PAUSE_MS_MAX) as u64));
        let functions = functions(emulator)?;
        if let Some(function) = functions.get(dice.below(functions.len())) {
            // It may have ended by itself.
            let told = Command::new("kill").args(["-9", &function.to_string()]).output()?;
            killed += usize::from(told.status.success());
        } else if is_over.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(killed)
}

/// The processes of functions that the emulator has started.
fn functions(emulator: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // `PID (NAME) STATE PARENT …`; it may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        let Some((begin, rest)) = stat.rsplit_once(") ") else { continue };
        let parent = rest.split(' ').nth(1).and_then(|parent| parent.parse::<u32>().ok());
        if parent == Some(emulator) && begin.ends_with(&format!("({PROCESS}")) {
            found.push(process);
        }
    }
    Ok(found)
}
