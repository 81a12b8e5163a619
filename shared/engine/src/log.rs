//! The log of a receipt: what happened when, and at which delivery, in one short text.

use crate::Delivery;
use eventplane_domain::Millis;

/// How many entries a log keeps: the newest.
const LOG_MAX: usize = 8;
/// What stands before the number of the delivery, if it was not the first.
const RECEIVED: char = 'x';

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged<W> {
    /// When it was.
    pub at: Millis,
    /// Of which generation.
    pub generation: u32,
    /// What happened.
    pub what: W,
    /// How often the event that led to it had been delivered, that time included.
    pub received: u32,
}

/// The log one entry longer, the oldest dropped where there are too many.
pub(crate) fn longer<W>(mut log: Vec<Logged<W>>, entry: Logged<W>) -> Vec<Logged<W>> {
    log.push(entry);
    let surplus = log.len().saturating_sub(LOG_MAX);
    log.drain(..surplus);
    log
}

impl<W> Logged<W> {
    /// The log with this at its end: something of a generation, at a delivery.
    #[must_use]
    pub fn after(log: Vec<Logged<W>>, generation: u32, what: W, at: Delivery) -> Vec<Logged<W>> {
        longer(log, Logged { at: at.now, generation, what, received: at.received })
    }
}

/// The log as it is stored: of each entry generation, letter and milliseconds, and the number of
/// the delivery where it is not the first.
pub fn write_log<W: Copy>(log: &[Logged<W>], letter: impl Fn(W) -> char) -> String {
    let entry = |entry: &Logged<W>| {
        let again = match entry.received {
            0 | 1 => String::new(),
            received => format!("{RECEIVED}{received}"),
        };
        format!("{}{}{}{again}", entry.generation, letter(entry.what), entry.at.0)
    };
    log.iter().map(entry).collect::<Vec<_>>().join(" ")
}

/// Reads what [`write_log`] has written; an entry that is none is left out.
pub fn read_log<W>(text: &str, of_letter: impl Fn(char) -> Option<W>) -> Vec<Logged<W>> {
    let entry = |entry: &str| {
        let at = entry.find(|c: char| c.is_ascii_alphabetic())?;
        let (generation, rest) = entry.split_at(at);
        let what = of_letter(rest.chars().next()?)?;
        let (ms, received) = rest[1..].split_once(RECEIVED).unwrap_or((&rest[1..], "1"));
        Some(Logged {
            at: Millis(ms.parse().ok()?),
            generation: generation.parse().ok()?,
            what,
            received: received.parse().ok()?,
        })
    };
    text.split(' ').filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(c: char) -> Option<char> {
        "tx".contains(c).then_some(c)
    }

    #[test]
    fn a_log_says_the_delivery_only_where_it_is_not_the_first() {
        let at = Delivery { now: Millis(12), received: 3 };
        let log = Logged::after(vec![], 1, 't', Millis(5).into());
        let log = Logged::after(log, 2, 'x', at);
        let text = write_log(&log, |letter| letter);
        assert_eq!(text, "1t5 2x12x3");
        assert_eq!(read_log(&text, letters), log);
    }

    #[test]
    fn entries_of_before_and_entries_that_are_none_are_read_as_far_as_they_go() {
        let read = read_log("1t5 9 7q1 1tx 2t6xx 2t7", letters);
        let brief: Vec<_> = read.iter().map(|one| (one.generation, one.at.0)).collect();
        assert_eq!(brief, [(1, 5), (2, 7)]);
        assert!(read.iter().all(|one| one.received == 1));
        assert_eq!(read_log("", letters), []);
    }

    #[test]
    fn a_log_keeps_its_newest_entries() {
        let add = |log, ms| Logged::after(log, 1, 't', Millis(ms).into());
        let log = (0..20).fold(vec![], add);
        assert_eq!(log.iter().map(|one| one.at.0).collect::<Vec<_>>(), Vec::from_iter(12..20));
    }
}
