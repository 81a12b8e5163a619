//! The memory of simulated hosts on disk: what each runs and what it has promised. A process that
//! is killed and started again finds its hosts as they were, as real ones would be.
//!
//! One line for each change, appended; at the start the file is read and written anew, so that it
//! holds no more than what is remembered.

use crate::host::{Change, Known, Phase};
use crate::wire::InstanceKey;
use eventplane_domain::{InstanceId, Tenant};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

/// The memory of simulated hosts cannot be read or written.
#[derive(Debug, Error)]
#[error("the simulated hosts' memory {path} cannot be used: {source}")]
pub struct JournalError {
    path: PathBuf,
    source: std::io::Error,
}

/// What is remembered of one host's instances.
pub(crate) type Remembered = BTreeMap<InstanceKey, Known>;

/// The file.
pub(crate) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// Opens the file, or makes it, and says what each host remembers.
    pub(crate) fn open(
        path: &Path,
    ) -> Result<(Journal, BTreeMap<String, Remembered>), JournalError> {
        let because = |source| JournalError { path: path.to_owned(), source };
        let mut hosts = BTreeMap::new();
        if path.exists() {
            let text = std::fs::read(path).map_err(because)?;
            // A line that a crash cut short was not acted on.
            for line in String::from_utf8_lossy(&text).lines() {
                replay(line, &mut hosts);
            }
        }
        let fresh = path.with_extension("new");
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
        std::fs::write(&fresh, text).map_err(because)?;
        std::fs::rename(&fresh, path).map_err(because)?;
        let file = OpenOptions::new().append(true).open(path).map_err(because)?;
        Ok((Journal { path: path.to_owned(), file: Mutex::new(file) }, hosts))
    }

    /// Appends a host's changes, in one write.
    pub(crate) fn append(&self, host: &str, changes: &[Change]) -> Result<(), JournalError> {
        let text: String = changes.iter().map(|change| line(host, change)).collect();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes())
            .map_err(|source| JournalError { path: self.path.clone(), source })
    }
}

fn line(host: &str, change: &Change) -> String {
    let of = |letter: char, key: &InstanceKey, generation: u32| {
        format!("{letter} {host} {} {} {generation}\n", key.tenant, key.instance_id)
    };
    match change {
        // A start that was under way is begun again from the wanted set.
        Change::Stands(_, _, Phase::Starting) => String::new(),
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
    use eventplane_domain::Millis;

    #[test]
    fn a_host_remembers_what_it_runs_and_what_it_promised_and_no_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("hosts");
        let key =
            |n| InstanceKey { tenant: Tenant::local(), instance_id: InstanceId::new(Millis(7), n) };
        let (journal, known) = Journal::open(&path).expect("new");
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
        ];
        journal.append("h1", &changes).expect("written");
        let file = OpenOptions::new().append(true).open(&path);
        file.expect("there").write_all(b"r h1 default i-00").expect("a torn line");
        let runs = Known { generation: 1, phase: Phase::Running, reboots: 4, has_run: false };
        let promised = Known { phase: Phase::LetGo, reboots: 0, has_run: true, ..runs };
        let right = BTreeMap::from([(key(1), runs), (key(2), promised)]);
        for _ in 0..2 {
            let (_, known) = Journal::open(&path).expect("again");
            assert_eq!(known, BTreeMap::from([("h1".to_owned(), right.clone())]));
        }
    }
}
