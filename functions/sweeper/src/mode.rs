//! The rules of the plane's mode: what a sweep sees decides how much the plane takes on.
//!
//! A mode is entered at once, left after a while, and at half of what it is entered at, one step at a
//! time: so that what has waited comes back little by little.

use crate::{Swept, sweep};
use eventplane_domain::{Millis, Mode};
use eventplane_engine::{Fault, Ports};
use eventplane_instances::{NUDGE_AFTER_MS, Standing, mode_key};
use std::collections::VecDeque;
use tracing::warn;

/// How long a mode stays at least, in milliseconds.
const STAY_MS: i64 = 120_000;

/// What sweeps see, of how the plane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signals {
    /// How many instances are late though they have been nudged.
    pub late: usize,
    /// For how long the oldest of them has been late, in milliseconds.
    pub oldest_ms: i64,
    /// Whether the sweep itself failed.
    pub has_failed: bool,
}

/// What a mode is entered at: as many late for as long, or sweeps that fail for as long; in
/// milliseconds. What is never has no number.
struct Entry {
    mode: Mode,
    late: Option<(usize, i64)>,
    failing_ms: i64,
}

/// The strictest first. Only when nothing can be published or nudged for long do users change
/// nothing at all: each of their requests would have to be made up for.
const ENTRIES: [Entry; 3] = [
    Entry { mode: Mode::ReadOnly, late: None, failing_ms: 900_000 },
    Entry { mode: Mode::TerminateOnly, late: Some((100, 300_000)), failing_ms: 300_000 },
    Entry { mode: Mode::Shedding, late: Some((20, 0)), failing_ms: 120_000 },
];

/// The mode that these signals call for, at a part of what each is entered at.
fn called_for(signals: &Signals, failing_ms: Option<i64>, part: usize) -> Mode {
    let part_ms = i64::try_from(part).unwrap_or(1);
    let holds = |entry: &&Entry| {
        let is_late = entry.late.is_some_and(|(late, oldest_ms)| {
            signals.late * part >= late && signals.oldest_ms * part_ms >= oldest_ms
        });
        is_late || failing_ms.is_some_and(|ms| ms * part_ms >= entry.failing_ms)
    };
    ENTRIES.iter().find(holds).map_or(Mode::Normal, |entry| entry.mode)
}

/// What stands after a sweep that saw these signals. An operator's mode stays.
#[must_use]
pub fn next(before: &Standing, signals: &Signals, now: Millis) -> Standing {
    let failing_since = signals.has_failed.then_some(before.failing_since.unwrap_or(now));
    let same = Standing { failing_since, ..before.clone() };
    let failing_ms = failing_since.map(|since| now.since(since));
    let entered = called_for(signals, failing_ms, 1);
    let kept = called_for(signals, failing_ms, 2);
    let milder = Mode::ALL.into_iter().rev().find(|mode| *mode < before.mode);
    let (mode, reason) = if before.is_set {
        return same;
    } else if entered > before.mode {
        (entered, why(signals, failing_ms))
    } else if let Some(milder) = milder
        && kept < before.mode
        && now.since(before.since) >= STAY_MS
    {
        (milder, "what was late goes on again".to_owned())
    } else {
        return same;
    };
    Standing { mode, since: now, reason, ..same }
}

fn why(signals: &Signals, failing_ms: Option<i64>) -> String {
    if let Some(ms) = failing_ms.filter(|_| signals.late == 0) {
        return format!("the plane's own sweeps have failed for {} s", ms / 1000);
    }
    let (late, oldest_s) = (signals.late, signals.oldest_ms / 1000);
    format!("{late} instances are late and do not go on, the oldest for {oldest_s} s")
}

/// The sweeps of the last while: as long as it takes until everything that is late is nudged once
/// more, since a sweep sees only what is due by then.
#[derive(Debug, Default)]
pub struct Lately(VecDeque<(Millis, Swept)>);

impl Lately {
    /// What they have seen, this one included.
    fn signals(&mut self, outcome: Result<Swept, ()>, now: Millis) -> Signals {
        let is_old = |at: Millis| at > now || now.since(at) >= NUDGE_AFTER_MS;
        self.0.retain(|(at, _)| !is_old(*at));
        self.0.extend(outcome.ok().map(|swept| (now, swept)));
        Signals {
            late: self.0.iter().map(|(_, swept)| swept.still_late).sum(),
            oldest_ms: self.0.iter().map(|(_, swept)| swept.oldest_late_ms).max().unwrap_or(0),
            has_failed: outcome.is_err(),
        }
    }
}

/// Sweeps, and lets the rules decide on the mode by what was seen. It is written only when it
/// changes.
///
/// # Errors
/// A fault of the store or the bus; what was left is nudged by the next sweep.
pub async fn sweep_and_judge(ports: &Ports, lately: &mut Lately) -> Result<Swept, Fault> {
    let swept = sweep(ports).await;
    let now = ports.clock.now();
    let signals = lately.signals(swept.as_ref().copied().map_err(drop), now);
    if let Err(fault) = judge(ports, &signals, now).await {
        warn!(%fault, "the mode stays as it is");
    }
    swept
}

async fn judge(ports: &Ports, signals: &Signals, now: Millis) -> Result<(), Fault> {
    let item = ports.store.batch_get(&[mode_key()]).await?.into_iter().next().flatten();
    let read = item.as_ref().map(Standing::read).transpose()?;
    let before = read.clone().unwrap_or_default();
    let after = next(&before, signals, now);
    if after == before {
        return Ok(());
    }
    // Where somebody was faster, the next sweep judges what stands there then.
    let is_written = ports.store.try_transact(vec![after.write(read.as_ref())]).await?;
    if is_written && after.mode != before.mode {
        let (was, is) = (before.mode.name(), after.mode.name());
        warn!(was, is, reason = after.reason, "the plane's mode");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mode::{Normal, ReadOnly, Shedding, TerminateOnly};

    const S: i64 = 1_000;

    fn late(late: usize, oldest_s: i64) -> Signals {
        Signals { late, oldest_ms: oldest_s * S, has_failed: false }
    }
    fn failed() -> Signals {
        Signals { has_failed: true, ..Signals::default() }
    }

    /// A mode that stands since the moment 0, and sweeps that fail since so many seconds later.
    fn standing(mode: Mode, failing_since_s: Option<i64>) -> Standing {
        let failing_since = failing_since_s.map(|since| Millis(since * S));
        Standing { mode, failing_since, ..Standing::default() }
    }

    #[test]
    fn a_mode_is_entered_at_once_and_left_late_by_one_step() {
        for (mode, failing_since_s, signals, now_s, right) in [
            (Normal, None, late(0, 0), 1_000, Normal),
            (Normal, None, late(19, 9_999), 1_000, Normal),
            (Normal, None, late(20, 30), 1_000, Shedding),
            (Normal, None, late(99, 9_999), 1_000, Shedding),
            (Normal, None, late(100, 299), 1_000, Shedding),
            (Normal, None, late(100, 300), 1_000, TerminateOnly),
            (Shedding, None, late(100, 300), 1, TerminateOnly),
            (TerminateOnly, None, late(5_000, 9_999), 1_000, TerminateOnly),
            // It stays until half of what it was entered at, and for a while.
            (Shedding, None, late(10, 30), 1_000, Shedding),
            (Shedding, None, late(9, 30), 119, Shedding),
            (Shedding, None, late(9, 30), 120, Normal),
            (TerminateOnly, None, late(50, 150), 1_000, TerminateOnly),
            (TerminateOnly, None, late(50, 149), 1_000, Shedding),
            (TerminateOnly, None, late(0, 0), 119, TerminateOnly),
            (TerminateOnly, None, late(0, 0), 1_000, Shedding),
            (ReadOnly, None, late(0, 0), 1_000, TerminateOnly),
            (ReadOnly, None, late(5_000, 9_999), 1_000, TerminateOnly),
            // Sweeps that fail.
            (Normal, None, failed(), 1_000, Normal),
            (Normal, Some(881), failed(), 1_000, Normal),
            (Normal, Some(880), failed(), 1_000, Shedding),
            (Normal, Some(700), failed(), 1_000, TerminateOnly),
            (Normal, Some(100), failed(), 1_000, ReadOnly),
            (Shedding, Some(880), late(0, 0), 1_000, Normal),
            (ReadOnly, Some(0), failed(), 1_000, ReadOnly),
        ] {
            let before = standing(mode, failing_since_s);
            let after = next(&before, &signals, Millis(now_s * S));
            assert_eq!(after.mode, right, "{before:?} {signals:?} at {now_s}");
            let is_new = after.mode != mode;
            assert_eq!(after.since == Millis(now_s * S), is_new);
            assert_eq!(after.failing_since.is_some(), signals.has_failed);
            assert_eq!(after.reason != before.reason, is_new);
        }
    }

    #[test]
    fn no_rule_changes_what_an_operator_has_set() {
        for mode in Mode::ALL {
            let before = Standing { is_set: true, ..standing(mode, None) };
            for signals in [late(0, 0), late(5_000, 9_999), failed()] {
                let after = next(&before, &signals, Millis(9_999 * S));
                assert_eq!(after.mode, mode);
                assert_eq!(after.failing_since.is_some(), signals.has_failed, "it is remembered");
            }
        }
    }

    #[test]
    fn sweeps_in_short_succession_count_together_and_one_after_the_other_does_not() {
        let swept = |still_late| Swept { still_late, oldest_late_ms: 30 * S, ..Swept::default() };
        let mut lately = Lately::default();
        let mut see = |at_s: i64, outcome| lately.signals(outcome, Millis(at_s * S));
        assert_eq!(see(1, Ok(swept(7))), late(7, 30));
        assert_eq!(see(2, Ok(swept(5))), late(12, 30));
        assert_eq!(see(3, Err(())), Signals { has_failed: true, ..late(12, 30) });
        assert_eq!(see(30, Ok(Swept::default())), late(12, 30));
        assert_eq!(see(31, Ok(Swept::default())), late(5, 30), "the first is nudged again by now");
        assert_eq!(see(90, Ok(swept(7))), late(7, 30));
        assert_eq!(see(10, Ok(swept(1))), late(1, 30), "a clock that jumped back");
    }
}
