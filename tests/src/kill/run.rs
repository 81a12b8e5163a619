//! Kills a plane again and again, at moments drawn from a seed, and judges the history.

use super::check::judge;
use super::client::{self, Record, send};
use super::history::{Ask, Call, Got, Verb};
use super::process::Up;
use eventplane_agent::{Http, Method};
use eventplane_domain::State;
use eventplane_engine::Dice;
use serde_json::Value;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How many clients ask at the same time.
const CLIENTS: u64 = 8;
/// When a plane is killed: so many milliseconds after it is ready.
const KILL_AFTER_MS: (usize, usize) = (5, 160);
/// One of so many planes is killed during its start instead, within so many milliseconds.
const KILL_STARTING_ONE_OF: usize = 5;
const KILL_STARTING_MS: usize = 60;
/// After so many kills all instances are listed, and the history is judged.
const JUDGE_EVERY: usize = 25;
/// How long it may take until all has come to rest.
const REST: Duration = Duration::from_secs(120);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a run came to.
#[derive(Debug, Default)]
pub struct Totals {
    /// Planes that were killed, and how many of them before they were ready.
    pub kills: usize,
    /// Kills before the plane was ready.
    pub starting: usize,
    /// Requests that were sent.
    pub requests: usize,
    /// Requests that nothing was answered to.
    pub lost: usize,
    /// Instances that were launched.
    pub instances: usize,
    /// Those of them that did not run, since there was no room or no time.
    pub refused: usize,
    /// The longest time from a start to `ready`.
    pub recovery: Duration,
    /// The time of the whole run.
    pub took: Duration,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { kills, starting, requests, lost, instances, refused, .. } = self;
        let (recovery, took) = (self.recovery.as_millis(), self.took.as_secs_f64());
        let rate = *kills as f64 / took.max(f64::EPSILON);
        write!(
            f,
            "{kills} kills ({starting} of them during the start), {requests} requests, {lost} \
             answers lost, {instances} instances ({refused} of them refused), longest start {recovery} ms; {took:.0} s, \
             {rate:.1} kills a second"
        )
    }
}

/// Kills a plane with its data in `dir` so many times, and ends it in the end.
///
/// # Panics
/// When anything is not as it has to be, with what that is.
pub async fn run(binary: &Path, dir: &Path, times: usize, seed: u64) -> Totals {
    let begun = Instant::now();
    let mut dice = Dice::new(seed);
    let record = Arc::new(Record::default());
    let mut totals = Totals::default();
    let (mut up, http) = start(binary, dir, &mut totals).await;
    let empty = get(&http, "/v1/capacity").await;
    up.kill().await;
    while totals.kills < times {
        let mut up = Up::spawn(binary, dir, None);
        totals.kills += 1;
        if dice.below(KILL_STARTING_ONE_OF) == 0 {
            sleep(Duration::from_micros(dice.below(KILL_STARTING_MS * 1_000) as u64)).await;
            up.kill().await;
            totals.starting += 1;
            continue;
        }
        let spawned = Instant::now();
        let http = reach(&mut up).await;
        totals.recovery = totals.recovery.max(spawned.elapsed());
        let clients = clients(&record, &http, &mut dice);
        let (least, most) = KILL_AFTER_MS;
        let after_us = least * 1_000 + dice.below((most - least) * 1_000);
        sleep(Duration::from_micros(after_us as u64)).await;
        up.kill().await;
        clients.join_all().await;
        if totals.kills % JUDGE_EVERY == 0 {
            let (mut up, http) = start(binary, dir, &mut totals).await;
            record.ask(&http, Ask::List).await;
            up.kill().await;
            good(&record, seed);
            eprintln!("{} kills: all is well", totals.kills);
        }
    }
    let (up, http) = start(binary, dir, &mut totals).await;
    at_rest(&http, &record, &empty).await;
    good(&record, seed);
    assert!(up.end().await.success(), "told to end, it ends well");
    let calls = record.calls();
    totals.requests = calls.len();
    totals.lost = calls.iter().filter(|call| call.got == Got::Unknown).count();
    totals.instances = record.ids().len();
    totals.refused = refused(&calls);
    totals.took = begun.elapsed();
    totals
}

/// How many instances the plane itself has ended, as the last list shows them.
fn refused(calls: &[Call]) -> usize {
    let list = calls.iter().rev().find(|call| call.ask == Ask::List);
    let Some(Got::Seen(seen)) = list.map(|call| &call.got) else { return 0 };
    seen.iter().filter(|one| one.state == State::Terminated && !one.by_user).count()
}

/// Starts a plane, and waits until it is ready.
async fn start(binary: &Path, dir: &Path, totals: &mut Totals) -> (Up, Http) {
    let mut up = Up::spawn(binary, dir, None);
    let spawned = Instant::now();
    let http = reach(&mut up).await;
    totals.recovery = totals.recovery.max(spawned.elapsed());
    (up, http)
}

/// Waits until it is ready: the way to it.
///
/// # Panics
/// When it does not start.
pub async fn reach(up: &mut Up) -> Http {
    let endpoint = up.ready().await;
    let endpoint = endpoint.unwrap_or_else(|why| panic!("it does not start again: {why:?}"));
    Http::new(&endpoint).expect("an endpoint")
}

fn clients(record: &Arc<Record>, http: &Http, dice: &mut Dice) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (record, http, seed) = (record.clone(), http.clone(), dice.draw());
        clients.spawn(async move { client::run(&record, &http, seed).await });
    }
    clients
}

/// Panics unless the history so far is good.
fn good(record: &Record, seed: u64) {
    let wrong: Vec<String> = judge(&record.calls()).iter().map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "seed {seed}: {} wrongs\n{}", wrong.len(), wrong.join("\n"));
}

/// What is at `path`.
///
/// # Panics
/// When it is not there.
pub async fn get(http: &Http, path: &str) -> Value {
    let answer = send(http, Method::GET, path, None).await.expect("an answer");
    assert!(answer.is_success(), "{path}: {} {:?}", answer.status, answer.body);
    answer.json().expect("JSON")
}

/// Without kills everything ends: what was not answered is asked again and answered once, nothing
/// moves any more, and when all is terminated nothing is held.
async fn at_rest(http: &Http, record: &Record, empty: &Value) {
    for ask in record.unanswered() {
        assert!(record.ask(http, ask).await, "an answer");
    }
    settled(http).await;
    record.ask(http, Ask::List).await;
    for id in record.ids() {
        record.ask(http, Ask::Show(id)).await;
    }
    let letters = get(http, "/v1/dead-letters").await;
    assert_eq!(letters["dead_letters"], serde_json::json!([]), "{letters}");
    let shown = all_of(record);
    for id in shown {
        record.ask(http, Ask::Do(Verb::Terminate, id)).await;
    }
    settled(http).await;
    record.ask(http, Ask::List).await;
    let live = get(http, "/v1/ledger").await["read"]["live"].clone();
    assert_eq!(live, 0, "all are terminated");
    assert_eq!(get(http, "/v1/capacity").await, *empty, "nothing is held, all room is free");
}

/// The ids of the last list: also those of launches without a token whose answer was lost.
fn all_of(record: &Record) -> Vec<String> {
    let calls = record.calls();
    let lists = calls.iter().rev().find(|call| call.ask == Ask::List);
    match lists.map(|call| &call.got) {
        Some(Got::Seen(seen)) => seen.iter().map(|one| one.id.clone()).collect(),
        other => panic!("no list: {other:?}"),
    }
}

/// Waits until no instance moves, and the ledger balances.
///
/// # Panics
/// When that takes too long, or it does not balance.
pub async fn settled(http: &Http) {
    let begun = Instant::now();
    for state in ["pending", "stopping", "shutting-down"] {
        while moves(http, state).await {
            assert!(begun.elapsed() < REST, "there are {state} instances after {REST:?}");
            sleep(LOOK_EVERY).await;
        }
    }
    let ledger = get(http, "/v1/ledger").await;
    assert_eq!(ledger["balances"], true, "{ledger:#}");
}

/// Whether any instance is in this state.
async fn moves(http: &Http, state: &str) -> bool {
    let mut next = String::new();
    loop {
        let page = get(http, &format!("/v1/instances?limit=100&state={state}{next}")).await;
        if page["instances"].as_array().is_some_and(|found| !found.is_empty()) {
            return true;
        }
        let Some(end) = page["next"].as_str() else { return false };
        next = format!("&next={end}");
    }
}
