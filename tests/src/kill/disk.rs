//! A disk that is full, and files that are cut short or have flipped bits: a plane either has all
//! that it acknowledged, or says what is wrong and does not start. Never is it silently emptier.

use super::check::judge;
use super::client::{Record, send};
use super::history::{Ask, Got, Verb};
use super::process::{NotReady, Up};
use super::run::{get, reach, settled};
use eventplane_agent::{Http, Method};
use eventplane_engine::Dice;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// How many instances stand in the files before they are damaged.
const INSTANCES: usize = 40;
/// How large a file may become on a full disk, in blocks of 512 bytes: a little more than what a new
/// plane begins with.
const FULL_BLOCKS: usize = 1_600;
/// How many launches at most fill that.
const LAUNCHES_MAX: usize = 400;
/// The files of a data directory, by how much of them is damaged at a time: one more of the store's,
/// since there all is.
const FILES: [&str; 4] = ["eventplane.redb", "eventplane.redb", "master.key", "hosts.journal"];

/// What became of damaged files.
#[derive(Debug, Default)]
pub struct Totals {
    /// By file and kind of damage: how often it was found and said, and how often all was there.
    pub outcomes: BTreeMap<(String, &'static str), (usize, usize)>,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((file, damage), (said, whole)) in &self.outcomes {
            writeln!(f, "{file} {damage}: {said} times refused, {whole} times all was there")?;
        }
        Ok(())
    }
}

/// Fills the disk: no file may become larger than a limit. What was acknowledged is there when there
/// is room again; what could not be done was answered so.
///
/// # Panics
/// When anything is not as it has to be, with what that is.
pub async fn fill(binary: &Path, dir: &Path) {
    let record = Record::default();
    let limit = format!("trap '' XFSZ; ulimit -f {FULL_BLOCKS}; exec \"$@\"");
    let mut up = Up::spawn(binary, dir, Some(&limit));
    let http = reach(&mut up).await;
    let mut is_full = false;
    for n in 0..LAUNCHES_MAX {
        let (token, label) = (Some(format!("token-{n}")), format!("label-{n}"));
        let ask = Ask::Launch { token, label, count: 1 };
        assert!(record.ask(&http, ask).await, "it answers also when the disk is full");
        is_full = record.calls().last().is_some_and(|call| call.got == Got::Unknown);
        if is_full {
            break;
        }
    }
    assert!(is_full, "the disk was never full");
    let launch = json!({ "instance_type": "t3.micro" });
    let answer = send(&http, Method::POST, "/v1/instances", Some(launch)).await.expect("an answer");
    let body: Value = answer.json().expect("JSON");
    assert_eq!((answer.status, &body["error"]["code"]), (503, &json!("ServiceUnavailable")));
    up.kill().await;
    let mut up = Up::spawn(binary, dir, Some(&limit));
    match up.ready().await {
        Ok(_) => up.kill().await,
        Err(NotReady { status, error }) => {
            let code = status.and_then(|status| status.code());
            assert!(code.is_some_and(|code| code != 0 && code != 101), "{status:?} {error}");
            let says_why = error.contains("see to the disk") || error.contains("has room");
            assert!(says_why && !error.contains("panicked"), "{error}");
        }
    }
    let mut up = Up::spawn(binary, dir, None);
    let http = reach(&mut up).await;
    for ask in record.unanswered() {
        assert!(record.ask(&http, ask).await, "an answer");
    }
    settled(&http).await;
    record.ask(&http, Ask::List).await;
    for id in record.ids() {
        record.ask(&http, Ask::Show(id.clone())).await;
        record.ask(&http, Ask::Do(Verb::Terminate, id)).await;
    }
    settled(&http).await;
    record.ask(&http, Ask::List).await;
    let wrong: Vec<String> = judge(&record.calls()).iter().map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "a full disk: {}", wrong.join("\n"));
    up.kill().await;
}

/// Damages the files of a plane in so many ways, each time those of a fresh copy.
///
/// # Panics
/// When a plane starts and something is gone, or does not and does not say why.
pub async fn damage(binary: &Path, dir: &Path, times: usize, seed: u64) -> Totals {
    let (whole, copy) = (dir.join("whole"), dir.join("copy"));
    let ids = fill_in(binary, &whole).await;
    let mut dice = Dice::new(seed);
    let mut totals = Totals::default();
    for n in 0..times {
        let file = if n % 10 == 9 { newest_segment(&whole) } else { FILES[n % FILES.len()].into() };
        let _ = fs::remove_dir_all(&copy);
        copy_dir(&whole, &copy);
        let damage = match dice.below(3) {
            0 => cut(&copy.join(&file), &mut dice),
            _ => flip(&copy.join(&file), &mut dice),
        };
        let what = format!("seed {seed}, {n}: {} {damage:?}", file.display());
        let is_whole = look(binary, &copy, &ids, &what).await;
        let kind = if matches!(damage, Damage::Cut(_)) { "cut" } else { "flipped" };
        let name = file.components().next().map(|part| part.as_os_str().to_string_lossy());
        let entry = totals.outcomes.entry((name.unwrap_or_default().into_owned(), kind));
        let (said, there) = entry.or_default();
        *(if is_whole { there } else { said }) += 1;
    }
    totals
}

/// What was done to a file.
#[derive(Debug)]
#[expect(dead_code, reason = "told when it was too much")]
enum Damage {
    /// It has so many bytes now.
    Cut(usize),
    /// This bit of this byte is another.
    Flipped(usize, usize),
}

fn cut(file: &Path, dice: &mut Dice) -> Damage {
    let mut bytes = fs::read(file).expect("it is there");
    bytes.truncate(dice.below(bytes.len()));
    fs::write(file, &bytes).expect("written");
    Damage::Cut(bytes.len())
}

fn flip(file: &Path, dice: &mut Dice) -> Damage {
    let mut bytes = fs::read(file).expect("it is there");
    let (byte, bit) = (dice.below(bytes.len()), dice.below(8));
    bytes[byte] ^= 1 << bit;
    fs::write(file, &bytes).expect("written");
    Damage::Flipped(byte, bit)
}

/// A plane that has run and was killed: its instances.
async fn fill_in(binary: &Path, dir: &Path) -> BTreeSet<String> {
    let mut up = Up::spawn(binary, dir, None);
    let http = reach(&mut up).await;
    let record = Record::default();
    for n in 0..INSTANCES / 4 {
        record.ask(&http, Ask::Launch { token: None, label: n.to_string(), count: 4 }).await;
    }
    settled(&http).await;
    let ids: Vec<String> = record.ids();
    for id in &ids[..INSTANCES / 4] {
        record.ask(&http, Ask::Do(Verb::Terminate, id.clone())).await;
        record.ask(&http, Ask::Do(Verb::Stop, id.clone())).await;
    }
    settled(&http).await;
    up.kill().await;
    ids.into_iter().collect()
}

/// Starts a plane on damaged files: whether all is there. If not, it has said so.
async fn look(binary: &Path, dir: &Path, ids: &BTreeSet<String>, what: &str) -> bool {
    let mut up = Up::spawn(binary, dir, None);
    let endpoint = match up.ready().await {
        Ok(endpoint) => endpoint,
        Err(refused) => {
            is_clear(&refused, dir, what);
            return false;
        }
    };
    let http = Http::new(&endpoint).expect("an endpoint");
    let record = Record::default();
    record.ask(&http, Ask::List).await;
    let listed: BTreeSet<String> = record.ids().into_iter().collect();
    assert_eq!(&listed, ids, "{what}: silently another store");
    settled(&http).await;
    let ledger = get(&http, "/v1/ledger").await;
    assert_eq!(ledger["read"]["instances"], ids.len(), "{what}: {ledger:#}");
    // Its keys seal and sign as they did: a launch needs them.
    let launch = json!({ "instance_type": "t3.micro", "tags": { "label": "last" } });
    let answer = send(&http, Method::POST, "/v1/instances", Some(launch)).await;
    let answer: Value = answer.expect("an answer").json().expect("JSON");
    let id = answer["instances"][0]["instance_id"].as_str();
    let id = id.unwrap_or_else(|| panic!("{what}: {answer:#}"));
    let path = format!("/v1/instances/{id}?until=running&wait=30");
    let shown = get(&http, &path).await;
    assert_eq!(shown["state"], "running", "{what}: {shown:#}");
    up.kill().await;
    true
}

/// It has ended by itself with an error that names the file and what would be right.
fn is_clear(refused: &NotReady, dir: &Path, what: &str) {
    let NotReady { status, error } = refused;
    let code = status.and_then(|status| status.code());
    assert!(code.is_some_and(|code| code != 0 && code != 101), "{what}: {status:?} {error}");
    assert!(!error.contains("panicked"), "{what}: {error}");
    let names_it = error.contains(&dir.display().to_string());
    let says_what_to_do = ["restore a copy", "give another path", "move"].iter();
    let says_what_to_do = says_what_to_do.clone().any(|remedy| error.contains(remedy));
    assert!(names_it && says_what_to_do, "{what}: {error}");
}

/// The newest file of the archive, seen from its directory.
fn newest_segment(dir: &Path) -> PathBuf {
    let segments = fs::read_dir(dir.join("archive")).expect("the archive");
    let mut names: Vec<_> = segments.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    Path::new("archive").join(names.pop().expect("a segment"))
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("an entry");
        let copy = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy_dir(&entry.path(), &copy),
            false => drop(fs::copy(entry.path(), copy).expect("copied")),
        }
    }
}
