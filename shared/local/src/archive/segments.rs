//! The archive's files: lines of JSON, appended, in segments of which the oldest go.

use eventplane_domain::Millis;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes a segment has at most, and all of them together.
pub(super) const SEGMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
pub(super) const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many there are at most: every process begins one, however little the one before has written.
pub(super) const SEGMENTS_MAX: usize = 512;
/// What the names of segments end with; before it stands a number that grows.
const SUFFIX: &str = ".jsonl";
/// How a line ends.
const END: &[u8] = b"}\n";
/// How much is written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// The segments of one directory.
pub(super) struct Segments {
    dir: PathBuf,
    /// The segment that is written; none before the first event.
    open: Option<Open>,
}

struct Open {
    file: BufWriter<File>,
    bytes: u64,
    /// Events that are not in the file yet.
    buffered: u64,
}

/// Another one that reads the same files: what is open is its writer's.
impl Clone for Segments {
    fn clone(&self) -> Self {
        Segments { dir: self.dir.clone(), open: None }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    at: i64,
    #[serde(borrow)]
    event: &'a RawValue,
}

impl Segments {
    pub(super) fn open(dir: &Path) -> io::Result<Segments> {
        fs::create_dir_all(dir)?;
        Ok(Segments { dir: dir.to_owned(), open: None })
    }

    /// The numbers of the segments, oldest first.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:08}{SUFFIX}"))
    }

    /// Begins the next segment, and lets the oldest go where there are too many.
    fn begin(&self) -> io::Result<Open> {
        let numbers = self.numbers()?;
        let mut number = numbers.last().map_or(1, |last| last + 1);
        let file = loop {
            match File::create_new(self.path(number)) {
                // A process that ends may still write the one before.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                file => break file?,
            }
        };
        // The newest that fit beside a full new one stay.
        let (mut bytes, mut stay) = (SEGMENT_BYTES_MAX, 1);
        for number in numbers.iter().rev() {
            bytes += fs::metadata(self.path(*number))?.len();
            stay += 1;
            if bytes > BYTES_MAX || stay > SEGMENTS_MAX {
                fs::remove_file(self.path(*number))?;
            }
        }
        Ok(Open { file: BufWriter::with_capacity(BUFFER_BYTES, file), bytes: 0, buffered: 0 })
    }

    /// Appends an event. It is in the file when [`Segments::flush`] has been called.
    pub(super) fn write(&mut self, at: Millis, message: &str) -> io::Result<()> {
        // In JSON a line break stands between two tokens, and there it says nothing.
        let one_line = match message.contains('\n') {
            true => Cow::Owned(message.replace('\n', " ")),
            false => Cow::Borrowed(message),
        };
        let begin = format!("{{\"at\":{},\"event\":", at.0);
        let bytes = (begin.len() + one_line.len() + END.len()) as u64;
        let is_full = |open: &Open| open.bytes > 0 && open.bytes + bytes > SEGMENT_BYTES_MAX;
        let mut open = match self.open.take() {
            Some(open) if !is_full(&open) => open,
            before => {
                if let Some(mut full) = before {
                    full.file.flush()?;
                }
                self.begin()?
            }
        };
        // One that fails half way is given up, and the next event begins another.
        for part in [begin.as_bytes(), one_line.as_bytes(), END] {
            open.file.write_all(part)?;
        }
        open.bytes += bytes;
        open.buffered += 1;
        self.open = Some(open);
        Ok(())
    }

    /// Makes what was written visible to whoever reads; what cannot be is counted as dropped.
    pub(super) fn flush(&mut self, dropped: &AtomicU64) {
        let Some(open) = &mut self.open else { return };
        match open.file.flush() {
            Ok(()) => open.buffered = 0,
            Err(error) => {
                tracing::warn!(%error, "events are missing from the archive");
                dropped.fetch_add(open.buffered, Ordering::Relaxed);
                self.open = None;
            }
        }
    }

    /// Reads all events in the order in which they were written. A line that is none, such as the
    /// last of a process that was killed, is passed over.
    pub(super) fn read(&self, mut each: impl FnMut(Millis, &str)) -> io::Result<()> {
        for number in self.numbers()? {
            let file = match File::open(self.path(number)) {
                Ok(file) => file,
                // It went meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut file = BufReader::new(file);
            let mut line = Vec::new();
            while file.read_until(b'\n', &mut line)? > 0 {
                if let Ok(Line { at, event }) = serde_json::from_slice(&line) {
                    each(Millis(at), event.get());
                }
                line.clear();
            }
        }
        Ok(())
    }
}
