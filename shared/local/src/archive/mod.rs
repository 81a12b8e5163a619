//! The archive of one machine: every event that was published, as far back as there is room.
//!
//! It is an aid for people, who look at what happened or replay it into a shadow. The truth is in
//! the receipts: nothing is decided by the archive, so it may lose what it cannot keep up with, and
//! publishing never waits for it.

mod segments;

use crate::wiring::Wiring;
use async_trait::async_trait;
use eventplane_domain::{InstanceId, Millis};
use eventplane_engine::{Archive, Archived, Fault, Found, Span};
use segments::Segments;
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How many bytes of events are kept where there is no data directory; the oldest go first.
pub const MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many events may wait for the disk; what comes beyond is dropped, and counted.
const WAITING_MAX: usize = 16_384;
/// How long events gather before they are written: a thread that is woken for each one, and writes
/// each by itself, costs publishing more than all else.
const GATHER: Duration = Duration::from_millis(20);

/// The archive; clones are of the same one.
#[derive(Clone)]
pub struct LocalArchive {
    kept: Arc<Kept>,
    wiring: Arc<Wiring>,
    dropped: Arc<AtomicU64>,
}

enum Kept {
    InMemory(Mutex<Memory>),
    InFiles { segments: Segments, queue: SyncSender<Job> },
}

impl Kept {
    /// Waits until all that was kept so far is in the files.
    fn flush(&self) {
        if let Kept::InFiles { queue, .. } = self {
            let (done, written) = mpsc::channel();
            // If the writer has ended, what it wrote is all there is.
            let _ = queue.send(Job::Flush(done)).map(|()| written.recv());
        }
    }
}

#[derive(Default)]
struct Memory {
    events: VecDeque<(Millis, Arc<str>)>,
    bytes: usize,
}

enum Job {
    Keep(Millis, Arc<str>),
    /// Answers when all before it is in the files.
    Flush(Sender<()>),
}

impl LocalArchive {
    /// An archive in memory, of the newest [`MEMORY_BYTES_MAX`].
    #[must_use]
    pub fn in_memory(wiring: Wiring) -> Self {
        let kept = Arc::new(Kept::InMemory(Mutex::default()));
        LocalArchive { kept, wiring: Arc::new(wiring), dropped: Arc::default() }
    }

    /// An archive in files of the directory, which is made if it is not there.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn in_dir(dir: &Path, wiring: Wiring) -> io::Result<Self> {
        let segments = Segments::open(dir)?;
        let dropped = Arc::new(AtomicU64::new(0));
        let (queue, jobs) = mpsc::sync_channel(WAITING_MAX);
        let (of_writer, count) = (segments.clone(), dropped.clone());
        // It ends with the queue, and nobody waits for that: whoever has to has it flushed.
        thread::Builder::new()
            .name("archive-writer".to_owned())
            .spawn(move || write(of_writer, &jobs, &count))?;
        let kept = Arc::new(Kept::InFiles { segments, queue });
        Ok(LocalArchive { kept, wiring: Arc::new(wiring), dropped })
    }

    /// Keeps an event in its envelope; never waits.
    pub fn keep(&self, at: Millis, message: &Arc<str>) {
        match &*self.kept {
            Kept::InMemory(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.bytes += message.len();
                memory.events.push_back((at, message.clone()));
                while memory.bytes > MEMORY_BYTES_MAX {
                    let Some((_, oldest)) = memory.events.pop_front() else { break };
                    memory.bytes -= oldest.len();
                }
            }
            Kept::InFiles { queue, .. } => {
                let job = Job::Keep(at, message.clone());
                if queue.try_send(job).is_err() {
                    lost(&self.dropped);
                }
            }
        }
    }

    /// Completes when all that was kept so far is in the files.
    pub async fn flush(&self) {
        let kept = self.kept.clone();
        // It cannot fail: a thread that waits for another one does nothing else.
        let _ = tokio::task::spawn_blocking(move || kept.flush()).await;
    }

    /// How many events it could not keep since the process began.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn select(&self, span: &Span, found: &mut Found, at: Millis, message: &str) {
        if found.more || at < span.from || at > span.to {
            return;
        }
        let of = |id: &InstanceId| message.contains(id.as_str());
        if !span.instance.as_ref().is_none_or(of) {
            return;
        }
        let Ok(event) = serde_json::from_str::<Value>(message) else { return };
        let subject = &event["detail"]["metadata"]["subject"];
        if !span.instance.as_ref().is_none_or(|id| subject == id.as_str()) {
            return;
        }
        if found.events.len() >= span.limit {
            found.more = true;
            return;
        }
        let hearers = self.wiring.hearers(&event).map(str::to_owned).collect();
        found.events.push(Archived { at, message: message.to_owned(), hearers });
    }
}

/// Counts an event that is not kept, and says so at the first.
fn lost(dropped: &AtomicU64) {
    if dropped.fetch_add(1, Ordering::Relaxed) == 0 {
        tracing::warn!("the archive does not keep up: events are missing from it");
    }
}

/// Writes what comes, so much at once as has gathered.
#[allow(clippy::disallowed_methods, reason = "it blocks a thread of its own")]
fn write(mut segments: Segments, jobs: &Receiver<Job>, dropped: &AtomicU64) {
    while let Ok(first) = jobs.recv() {
        if matches!(first, Job::Keep(..)) {
            thread::sleep(GATHER);
        }
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Keep(at, message) => {
                    if let Err(error) = segments.write(at, &message) {
                        tracing::debug!(%error, "an event is not archived");
                        lost(dropped);
                    }
                }
                Job::Flush(done) => {
                    segments.flush(dropped);
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
            }
            next = jobs.try_recv().ok();
        }
        segments.flush(dropped);
    }
}

#[async_trait]
impl Archive for LocalArchive {
    async fn read(&self, span: &Span) -> Result<Found, Fault> {
        let (archive, span) = (self.clone(), span.clone());
        // Files are read on a thread that may wait.
        let read = tokio::task::spawn_blocking(move || archive.read_now(&span)).await;
        let read = read.map_err(|error| Fault::Other(format!("the archive: {error}")))?;
        read.map_err(|error| Fault::Other(format!("the archive cannot be read: {error}")))
    }
}

impl LocalArchive {
    fn read_now(&self, span: &Span) -> io::Result<Found> {
        let mut found = Found::default();
        match &*self.kept {
            Kept::InMemory(memory) => {
                let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                let events: Vec<_> = memory.events.iter().cloned().collect();
                drop(memory);
                for (at, message) in events {
                    self.select(span, &mut found, at, &message);
                }
            }
            Kept::InFiles { segments, .. } => {
                self.kept.flush();
                segments.read(|at, message| self.select(span, &mut found, at, message))?;
            }
        }
        found.dropped = self.dropped();
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
