//! The one thread that writes: it takes what is queued as one group and commits it once.

use super::Shared;
use super::group::{Change, Group, Refusal, Tally, Writes};
use super::layout::{ITEMS, ROWS, partition_of};
use super::stats::Counters;
use eventplane_store::{FaultKind, StoreFault};
use redb::CommitError;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use tokio::sync::oneshot;

/// The most transactions in one commit.
const GROUP_TRANSACTIONS_MAX: usize = 256;

/// The answer to a transaction.
pub(super) type Answer = Result<(), Refusal>;

/// A transaction and who waits for it.
pub(super) struct Job {
    pub(super) writes: Writes,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Writes until nobody can queue anything any more.
pub(super) fn run(shared: &Arc<Shared>, queue: &Receiver<Job>) {
    let mut writer = Writer { shared, broken: None };
    while let Ok(first) = queue.recv() {
        let mut jobs = vec![first];
        jobs.extend(queue.try_iter().take(GROUP_TRANSACTIONS_MAX - 1));
        writer.write(jobs);
    }
}

struct Writer<'w> {
    shared: &'w Shared,
    /// Why nothing is written any more.
    broken: Option<StoreFault>,
}

impl Writer<'_> {
    /// Judges and commits a group, and only then answers all of it: also a loser, since the item
    /// that it is shown may be of this very group.
    fn write(&mut self, jobs: Vec<Job>) {
        let counters = &self.shared.counters;
        Counters::add(&counters.transactions, jobs.len() as u64);
        let (answers, outcome) = self.judge_and_commit(jobs);
        for (waiting, answer) in answers {
            let answer = match (&outcome, answer) {
                (_, Err(Refusal::Bug(bug))) => Err(Refusal::Bug(bug)),
                (Err(fault), _) => Err(Refusal::Fault(fault.clone())),
                (Ok(()), answer) => answer,
            };
            // Whoever stopped waiting does not want to know.
            let _ = waiting.send(answer);
        }
    }

    #[expect(clippy::type_complexity, reason = "the pair is taken apart at its only use")]
    fn judge_and_commit(
        &mut self,
        jobs: Vec<Job>,
    ) -> (Vec<(oneshot::Sender<Answer>, Answer)>, Result<(), StoreFault>) {
        let unanswered =
            |jobs: Vec<Job>| jobs.into_iter().map(|job| (job.answer, Ok(()))).collect();
        if let Some(broken) = &self.broken {
            return (unanswered(jobs), Err(broken.clone()));
        }
        let snapshot = match self.shared.snapshot() {
            Ok(snapshot) => snapshot,
            Err(fault) => return (unanswered(jobs), Err(fault)),
        };
        let mut group = Group::new(&self.shared.layout, &snapshot);
        let answers = jobs.into_iter().map(|job| (job.answer, group.judge(job.writes))).collect();
        let (changes, tally) = group.finish();
        // A snapshot that lives keeps the pages that the commit replaces from being used again.
        drop(snapshot);
        if changes.is_empty() {
            self.count(&tally);
            return (answers, Ok(()));
        }
        let outcome = self.commit(&changes);
        // Before anybody is answered: a read after the answer sees the commit.
        self.shared.forget_snapshot();
        if outcome.is_ok() {
            Counters::add(&self.shared.counters.groups, 1);
            self.count(&tally);
        }
        // Also after a commit of unknown outcome: looking once too often does no harm.
        self.shared.watchers.wake(changes.iter().map(|change| partition_of(&change.key)));
        (answers, outcome)
    }

    fn count(&self, tally: &Tally) {
        let counters = &self.shared.counters;
        Counters::add(&counters.items_written, tally.items_written);
        Counters::add(&counters.write_units, tally.write_units);
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreFault> {
        let not_done = |error: redb::Error| {
            let message = format!("nothing was written ({error}): see to the disk");
            StoreFault::new(FaultKind::Unavailable, message)
        };
        let transaction = self.shared.transaction(changes).map_err(not_done)?;
        match transaction.commit() {
            Ok(()) => Ok(()),
            Err(CommitError::TransactionPoisoned) => {
                Err(not_done(CommitError::TransactionPoisoned.into()))
            }
            Err(error) => {
                // redb writes no more after this; reopening settles what the file holds.
                let reason = format!(
                    "nothing more is written since a commit failed ({error}): \
                     see to the disk, then start again"
                );
                self.broken = Some(StoreFault::new(FaultKind::Unavailable, reason));
                let message = format!(
                    "a commit failed and may have been done ({error}): see to the disk, then start \
                     again"
                );
                Err(StoreFault::new(FaultKind::OutcomeUnknown, message))
            }
        }
    }
}

impl Shared {
    /// A transaction that holds `changes`, to be committed.
    fn transaction(&self, changes: &[Change]) -> Result<redb::WriteTransaction, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(self.is_durable);
        {
            let mut items = transaction.open_table(ITEMS)?;
            for change in changes {
                match &change.item {
                    Some(item) => items.insert(change.key.as_slice(), item.as_slice())?,
                    None => items.remove(change.key.as_slice())?,
                };
            }
            if changes.iter().any(|change| change.rows_gone.len() + change.rows_new.len() > 0) {
                let mut rows = transaction.open_table(ROWS)?;
                for row in changes.iter().flat_map(|change| &change.rows_gone) {
                    rows.remove(row.as_slice())?;
                }
                for row in changes.iter().flat_map(|change| &change.rows_new) {
                    rows.insert(row.as_slice(), ())?;
                }
            }
        }
        Ok(transaction)
    }
}
