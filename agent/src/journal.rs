//! The memory of hosts on disk: what each runs and what it has promised. An agent that is killed and
//! started again finds its host as it was.
//!
//! One line for each change, appended; at the start, and when it has grown, the file is read and
//! written anew, so that it holds no more than what is remembered.

use crate::disk::{Disk, replace};
use crate::host::{Change, Known, Phase};
use crate::wire::InstanceKey;
use eventplane_domain::{InstanceId, Tenant};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// The file is written anew when so many bytes were appended.
const APPENDED_BYTES_MAX: usize = 1024 * 1024;

/// The memory of hosts cannot be read or written.
#[derive(Debug, Error)]
#[error(
    "the hosts' memory {path} cannot be used: {source}; it has to be a file that can be written"
)]
pub struct JournalError {
    path: PathBuf,
    source: io::Error,
}

/// What is remembered of one host's instances.
pub(crate) type Remembered = BTreeMap<InstanceKey, Known>;

/// The file.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Whether what was appended outlives a loss of power, and not only the process.
    is_durable: bool,
    state: Mutex<Appended>,
}

/// What was done to the file since it was written anew.
#[derive(Default)]
struct Appended {
    bytes: usize,
    /// Whether the last line may be cut short.
    is_torn: bool,
}

impl Journal {
    /// Opens the file, or makes it, and says what each host remembers.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        is_durable: bool,
    ) -> Result<(Journal, BTreeMap<String, Remembered>), JournalError> {
        let path = path.to_owned();
        let journal = Journal { disk, path, is_durable, state: Mutex::default() };
        let hosts = journal.write_anew().map_err(|source| journal.error(source))?;
        Ok((journal, hosts))
    }

    fn error(&self, source: io::Error) -> JournalError {
        JournalError { path: self.path.clone(), source }
    }

    /// Reads the file, and writes it with what it says and no more.
    fn write_anew(&self) -> io::Result<BTreeMap<String, Remembered>> {
        let mut hosts = BTreeMap::new();
        let kept = self.disk.read(&self.path)?.unwrap_or_default();
        // A line that a crash cut short was not acted on; whatever it says now, it was to say more.
        let whole = kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        for line in String::from_utf8_lossy(&kept[..whole]).lines() {
            replay(line, &mut hosts);
        }
        let mut text = String::new();
        for (host, remembered) in &hosts {
            for (key, known) in remembered {
                text += &line(host, &Change::Stands(key.clone(), known.generation, known.phase));
                if known.reboots > 0 {
                    text += &line(host, &Change::Rebooted(key.clone(), known.reboots));
                }
                if known.has_run {
                    text += &line(host, &Change::Ran(key.clone()));
                }
            }
        }
        replace(&*self.disk, &self.path, text.as_bytes())?;
        Ok(hosts)
    }

    /// Appends a host's changes, in one write.
    pub(crate) fn append(&self, host: &str, changes: &[Change]) -> Result<(), JournalError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A torn line might say something else than it was to: it is made to say nothing.
        let mut text = if state.is_torn { " torn\n".to_owned() } else { String::new() };
        text.extend(changes.iter().map(|change| line(host, change)));
        let appended = self.append_text(&text, &mut state);
        state.is_torn = appended.is_err();
        appended.map_err(|source| self.error(source))
    }

    fn append_text(&self, text: &str, state: &mut Appended) -> io::Result<()> {
        self.disk.append(&self.path, text.as_bytes())?;
        if self.is_durable {
            self.disk.sync(&self.path)?;
        }
        state.bytes += text.len();
        if state.bytes > APPENDED_BYTES_MAX {
            self.write_anew()?;
            state.bytes = 0;
        }
        Ok(())
    }
}

fn line(host: &str, change: &Change) -> String {
    let of = |letter: char, key: &InstanceKey, generation: u32| {
        format!("{letter} {host} {} {} {generation}\n", key.tenant, key.instance_id)
    };
    match change {
        Change::Stands(key, generation, Phase::Starting) => of('s', key, *generation),
        Change::Stands(key, generation, Phase::Running) => of('r', key, *generation),
        Change::Stands(key, generation, Phase::LetGo) => of('l', key, *generation),
        Change::Rebooted(key, number) => of('b', key, *number),
        Change::Ran(key) => of('h', key, 0),
        Change::Forgotten(key) => of('f', key, 0),
    }
}

fn replay(line: &str, hosts: &mut BTreeMap<String, Remembered>) {
    let [letter, host, tenant, instance, number] = line.split(' ').collect::<Vec<_>>()[..] else {
        return;
    };
    let (Ok(tenant), Ok(instance_id), Ok(number)) =
        (Tenant::parse(tenant), InstanceId::parse(instance), number.parse())
    else {
        return;
    };
    let key = InstanceKey { tenant, instance_id };
    let remembered = hosts.entry(host.to_owned()).or_default();
    let stands = |phase| Known { generation: number, phase, reboots: 0, has_run: false };
    match letter {
        "s" => drop(remembered.insert(key, stands(Phase::Starting))),
        "r" => drop(remembered.insert(key, stands(Phase::Running))),
        "l" => drop(remembered.insert(key, stands(Phase::LetGo))),
        "b" => drop(remembered.entry(key).and_modify(|known| known.reboots = number)),
        "h" => drop(remembered.entry(key).and_modify(|known| known.has_run = true)),
        "f" => drop(remembered.remove(&key)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use eventplane_domain::Millis;
    use std::fs::OpenOptions;
    use std::io::Write;

    #[test]
    fn a_host_remembers_what_it_runs_and_what_it_promised_and_no_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("hosts");
        let key =
            |n| InstanceKey { tenant: Tenant::local(), instance_id: InstanceId::new(Millis(7), n) };
        let open = || Journal::open(Arc::new(RealDisk), &path, true);
        let (journal, known) = open().expect("new");
        assert!(known.is_empty());
        let changes = [
            Change::Stands(key(1), 1, Phase::Starting),
            Change::Stands(key(1), 1, Phase::Running),
            Change::Rebooted(key(1), 4),
            Change::Stands(key(2), 1, Phase::Running),
            Change::Stands(key(2), 1, Phase::LetGo),
            Change::Ran(key(2)),
            Change::Stands(key(3), 1, Phase::LetGo),
            Change::Forgotten(key(3)),
            Change::Stands(key(4), 2, Phase::Starting),
        ];
        journal.append("h1", &changes).expect("written");
        let file = OpenOptions::new().append(true).open(&path);
        // Of "12" only the first digit came to be written.
        let torn = line("h1", &Change::Stands(key(1), 1, Phase::LetGo));
        file.expect("there").write_all(torn.trim_end().as_bytes()).expect("a torn line");
        let runs = Known { generation: 1, phase: Phase::Running, reboots: 4, has_run: false };
        let promised = Known { phase: Phase::LetGo, reboots: 0, has_run: true, ..runs };
        let starts = Known { generation: 2, phase: Phase::Starting, reboots: 0, has_run: false };
        let right = BTreeMap::from([(key(1), runs), (key(2), promised), (key(4), starts)]);
        for _ in 0..2 {
            let (_, known) = open().expect("again");
            assert_eq!(known, BTreeMap::from([("h1".to_owned(), right.clone())]));
        }
    }
}
