//! The power is cut, or the agent killed, between every two writes of its memory: whatever is left of
//! the disk, what was promised holds, nothing runs twice, and all that is wanted runs in the end.

use crate::disk::Disk;
use crate::driver::{Driver, Happened};
use crate::host::{Host, Phase};
use crate::journal::Journal;
use crate::round::{Counts, HostLoop, Pace, Shared};
use crate::sizes::registration;
use crate::speech::Speech;
use crate::wire::{InstanceKey, Report};
use crate::{Answer, Method, NoAnswer, Transport};
use async_trait::async_trait;
use eventplane_domain::{InstanceId, Millis, Reason, Tenant, code};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// What is left when it happens.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// The agent is killed: its machine, and what it has written, live on.
    Kill,
    /// The power is gone: of files and names only what was synced is left.
    Power,
    /// The same, but half of what was appended and not synced is there too.
    TornPower,
}

#[derive(Default, Clone)]
struct Bytes {
    synced: Vec<u8>,
    now: Vec<u8>,
}

/// A disk that counts its operations and dies before the one that it is told.
#[derive(Default)]
struct Platter {
    files: Vec<Bytes>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    operations: usize,
    dies_before: usize,
}

impl Platter {
    fn operation(&mut self) -> io::Result<()> {
        if self.operations >= self.dies_before {
            return Err(io::Error::other("the power is gone"));
        }
        self.operations += 1;
        Ok(())
    }

    fn file(&mut self, path: &Path) -> io::Result<&mut Bytes> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let file = self.names.get(path).copied().ok_or_else(gone)?;
        Ok(&mut self.files[file])
    }

    fn revive(&mut self, cut: Cut) {
        self.dies_before = usize::MAX;
        if cut == Cut::Kill {
            return;
        }
        self.names = self.synced_names.clone();
        for file in &mut self.files {
            let appended = file.now.strip_prefix(&*file.synced).unwrap_or_default();
            let torn = if cut == Cut::TornPower { appended.len() / 2 } else { 0 };
            file.synced = [&file.synced, &appended[..torn]].concat();
            file.now = file.synced.clone();
        }
    }
}

struct SimDisk(Mutex<Platter>);

impl SimDisk {
    fn is_dead(&self) -> bool {
        let platter = self.0.lock().unwrap();
        platter.operations >= platter.dies_before
    }
}

impl Disk for SimDisk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        Ok(platter.file(path).ok().map(|file| file.now.clone()))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        if !platter.names.contains_key(path) {
            let file = platter.files.len();
            platter.files.push(Bytes::default());
            platter.names.insert(path.to_owned(), file);
        }
        platter.file(path)?.now = bytes.to_vec();
        Ok(())
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        platter.file(path)?.now.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        let file = platter.file(path)?;
        file.synced = file.now.clone();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        let file = platter.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        platter.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_names(&self, _: &Path) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.operation()?;
        platter.synced_names = platter.names.clone();
        Ok(())
    }
}

/// What runs, and what was promised of it: the truth, which no agent's death changes.
#[derive(Default)]
struct Truth {
    running: BTreeMap<InstanceKey, u32>,
    promised: BTreeMap<InstanceKey, u32>,
    reboots: usize,
    wrong: Vec<String>,
}

impl Truth {
    fn start(&mut self, key: &InstanceKey, generation: u32) {
        if self.promised.get(key).is_some_and(|promised| generation <= *promised) {
            self.wrong.push(format!("{generation} of {key:?} runs although it was let go of"));
        }
        if let Some(other) = self.running.insert(key.clone(), generation) {
            self.wrong.push(format!("{generation} of {key:?} runs beside {other}"));
        }
    }
}

/// Instances that are entries of the truth.
struct Entries {
    truth: Arc<Mutex<Truth>>,
    happened: Vec<Happened>,
}

#[async_trait]
impl Driver for Entries {
    fn resume(&mut self, remembered: Vec<(InstanceKey, u32, Phase)>) {
        let running = self.truth.lock().unwrap().running.clone();
        for key in running.keys() {
            let known = remembered.iter().find(|(known, _, _)| known == key);
            if known.is_none_or(|(_, _, phase)| *phase == Phase::LetGo) {
                self.truth.lock().unwrap().running.remove(key);
            }
        }
        for (key, generation, phase) in remembered {
            if phase != Phase::LetGo {
                self.start(&key, generation);
            }
        }
    }

    fn start(&mut self, key: &InstanceKey, generation: u32) {
        let mut truth = self.truth.lock().unwrap();
        if truth.running.get(key) != Some(&generation) {
            truth.start(key, generation);
        }
        self.happened.push(Happened::Started(key.clone(), generation));
        if *key == self::key(3) {
            truth.running.remove(key);
            let reason = Reason::new(code::INSTANCE_SHUTDOWN, "its program exited with code 0");
            self.happened.push(Happened::Ended(key.clone(), generation, reason));
        }
    }

    fn reboot(&mut self, _: &InstanceKey, _: u32) {
        self.truth.lock().unwrap().reboots += 1;
    }

    fn stop(&mut self, key: &InstanceKey, generation: u32) {
        let mut truth = self.truth.lock().unwrap();
        if truth.running.get(key).is_some_and(|running| *running <= generation) {
            truth.running.remove(key);
        }
    }

    async fn happened(&mut self) -> Vec<Happened> {
        if self.happened.is_empty() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
        std::mem::take(&mut self.happened)
    }
}

fn key(n: u64) -> InstanceKey {
    InstanceKey { tenant: Tenant::local(), instance_id: InstanceId::new(Millis(7), n) }
}

/// A plane with a plot: each act begins when what the one before wanted is true.
struct Plot {
    act: Mutex<usize>,
    disk: Arc<SimDisk>,
    truth: Arc<Mutex<Truth>>,
}

const ACTS: usize = 5;

impl Plot {
    fn set(&self) -> Value {
        let act = *self.act.lock().unwrap();
        let wanted = |n: u64, generation: u32, reboots: u32| {
            let InstanceKey { tenant, instance_id } = key(n);
            json!({ "tenant": tenant, "instance_id": instance_id, "generation": generation,
                "deadline": i64::MAX, "reboots": reboots })
        };
        let (runs, goes) = match act {
            0 => (vec![wanted(1, 1, 0), wanted(2, 1, 0)], vec![]),
            1 => (vec![wanted(2, 1, 1)], vec![wanted(1, 1, 0)]),
            2 => (vec![wanted(1, 2, 0), wanted(2, 1, 1), wanted(3, 1, 0)], vec![]),
            // The third has ended by itself, which the plane takes in only later.
            3 => (vec![wanted(1, 2, 0), wanted(3, 1, 0)], vec![wanted(2, 1, 1)]),
            _ => (vec![wanted(1, 2, 0), wanted(3, 1, 0)], vec![]),
        };
        let goes: Vec<Value> = goes
            .into_iter()
            .map(|mut one| {
                one.as_object_mut()
                    .unwrap()
                    .retain(|name, _| name != "deadline" && name != "reboots");
                one
            })
            .collect();
        json!({ "revision": act + 1, "poll_after_ms": 50, "wanted": runs, "let_go": goes })
    }

    fn take(&self, report: &Report) {
        let mut truth = self.truth.lock().unwrap();
        for promise in &report.let_go {
            let (key, generation) = (promise.key.clone(), promise.generation);
            if truth.running.get(&key).is_some_and(|running| *running <= generation) {
                truth.wrong.push(format!("{key:?} is let go of and runs"));
            }
            truth.promised.insert(key, generation);
        }
        let runs = |n, generation| {
            report.instances.iter().any(|one| one.key == key(n) && one.generation == generation)
        };
        let gone = |n| report.let_go.iter().any(|one| one.key == key(n));
        let mut act = self.act.lock().unwrap();
        let is_over = match *act {
            0 => truth.running.len() == 2,
            1 => gone(1),
            2 => truth.running.get(&key(1)) == Some(&2) && gone(3),
            3 => gone(2),
            _ => report.complete && runs(1, 2),
        };
        *act += usize::from(is_over);
    }
}

#[async_trait]
impl Transport for Plot {
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, NoAnswer> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        if self.disk.is_dead() {
            return Err(NoAnswer::lost("nobody is left to hear it".to_owned()));
        }
        let answer = match (method, path) {
            (Method::GET, _) => self.set(),
            (_, path) if path.ends_with("/reports") => {
                self.take(&serde_json::from_slice(&body.unwrap_or_default()).unwrap());
                json!({})
            }
            _ => json!({}),
        };
        Ok(Answer { status: 200, body: answer.to_string().into_bytes().into() })
    }
}

/// One life of the agent: until its disk dies, or the plot is over.
async fn live(plot: &Arc<Plot>) {
    let path = Path::new("/data/host.journal");
    let Ok((journal, mut hosts)) = Journal::open(plot.disk.clone(), path, true) else { return };
    let registration = registration("host", 0, &["zone-a".to_owned()], None);
    let id = registration.host_id.clone();
    let host = Host::remembering(hosts.remove(&id).unwrap_or_default());
    let shared = Shared {
        transport: plot.clone(),
        journal: Some(journal),
        registering: Semaphore::new(1),
        registered: watch::channel(0).0,
        counts: Counts::default(),
        pace: Pace { heartbeat_ms: 500, wait_s: 0, poll_gap_ms: 5 },
    };
    let driver = Box::new(Entries { truth: plot.truth.clone(), happened: Vec::new() });
    let speech = Speech::ForOperator(registration);
    let host_loop = HostLoop::new(&id, speech, host, driver, Arc::new(shared), 7);
    let (_stop, stopped) = watch::channel(false);
    let agent = tokio::spawn(host_loop.run(stopped));
    while !plot.disk.is_dead() && *plot.act.lock().unwrap() < ACTS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    agent.abort();
    let _ = agent.await;
}

/// The plot with these cuts: each is so many operations after the life began that it ends. Says how
/// many operations the last life took.
async fn played(cut: Cut, cuts: &[usize]) -> usize {
    let disk = Arc::new(SimDisk(Mutex::default()));
    let truth = Arc::new(Mutex::new(Truth::default()));
    let plot = Arc::new(Plot { act: Mutex::new(0), disk: disk.clone(), truth: truth.clone() });
    let mut lives = cuts.iter().copied().chain([usize::MAX]);
    loop {
        let lasts = lives.next().expect("the last life ends with the plot");
        let began = {
            let mut platter = disk.0.lock().unwrap();
            platter.revive(cut);
            platter.dies_before = platter.operations.saturating_add(lasts);
            platter.operations
        };
        tokio::time::timeout(Duration::from_secs(600), live(&plot)).await.expect("it goes on");
        if *plot.act.lock().unwrap() == ACTS {
            let truth = truth.lock().unwrap();
            assert_eq!(truth.wrong, Vec::<String>::new(), "{cut:?} {cuts:?}");
            assert_eq!(truth.running, BTreeMap::from([(key(1), 2)]), "{cut:?} {cuts:?}");
            assert!(truth.reboots <= 1, "{cut:?} {cuts:?}: {} reboots", truth.reboots);
            return disk.0.lock().unwrap().operations - began;
        }
        if cut != Cut::Kill {
            truth.lock().unwrap().running.clear();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_cut_between_two_writes_leaves_promises_hold_and_all_runs_in_the_end() {
    for cut in [Cut::Kill, Cut::Power, Cut::TornPower] {
        let all = played(cut, &[]).await;
        assert!(all >= 10, "{all} operations are no history");
        for first in 0..all {
            played(cut, &[first]).await;
            // All of the next opening, and some of what comes after it.
            for second in (0..all).filter(|second| *second < 6 || second % 3 == 0) {
                played(cut, &[first, second]).await;
            }
        }
    }
}
