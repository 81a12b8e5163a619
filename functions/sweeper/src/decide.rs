//! Which request of an instance is its last, and whether it has been heard.

use eventplane_domain::{Millis, Mutant, Reason, State, code, planted};
use eventplane_engine::{Emit, Fault};
use eventplane_events::{Data, InstanceStartRequested, Reboot, TerminationRequested};
use eventplane_instances::{NUDGE_AFTER_MS, Record, Request, Want, nudge_wait_ms};
use eventplane_store::Item;

/// An instance that waits for something: its record, and what its user wants now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The record; none after it has expired.
    pub record: Option<Record>,
    /// What the user wants, if anything was asked after the launch.
    pub request: Option<Request>,
}

impl Open {
    /// Reads record and request, in this order.
    pub(crate) fn read(items: &[Option<Item>]) -> Result<Open, Fault> {
        let item = |index: usize| items.get(index).and_then(Option::as_ref);
        Ok(Open {
            record: item(0).map(Record::read).transpose()?,
            request: item(1).map(Request::read).transpose()?,
        })
    }

    /// Whether the record shows what the user wants, or nothing is wanted of a record that is gone.
    #[must_use]
    pub fn request_is_shown(&self) -> bool {
        let (Some(record), Some(request)) = (&self.record, &self.request) else { return true };
        request.is_shown(record)
    }

    /// The request to publish again, if the instance waits for anything: what its user wants,
    /// where the record does not show it yet, and otherwise what the record waits for. It keeps
    /// its deadline: a nudge extends none.
    #[must_use]
    pub fn nudge(&self) -> Option<Emit> {
        let record = self.record.as_ref()?;
        let request = self.request.as_ref();
        let unheard = request.filter(|request| !request.is_shown(record));
        let asked = request.and_then(|request| request.asked.as_ref()).map(|asked| &asked.reason);
        let unsaid = || Reason::new(code::INTERNAL, "the reason was not recorded");
        let reason = || asked.or(record.reason.as_ref()).cloned().unwrap_or_else(unsaid);
        let data = match (unheard.and_then(Request::wants), record.progress.state) {
            (_, State::Terminated) => return None,
            _ if planted(Mutant::SweeperNudgesOnlyRequests) => {
                Data::InstanceRequested(record.requested_now())
            }
            (Some(Want::Terminated), _) | (_, State::ShuttingDown) => {
                Data::InstanceTerminationRequested(TerminationRequested { reason: reason() })
            }
            (Some(Want::Stopped), _) | (_, State::Stopping) => {
                Data::InstanceStopRequested(TerminationRequested { reason: reason() })
            }
            (Some(Want::Running), _) => {
                Data::InstanceStartRequested(InstanceStartRequested { reason: reason() })
            }
            (Some(Want::Rebooted), _) => {
                let number = unheard.map_or(0, |request| request.reboots);
                Data::InstanceRebootRequested(Reboot { number })
            }
            // What runs is looked at only after its host has let it go: the handoff says again how
            // it ended.
            (None, State::Running) if record.nudge_at.is_none() => return None,
            (None, State::Pending | State::Running) => {
                Data::InstanceRequested(record.requested_now())
            }
            (None, State::Stopped) => return None,
        };
        // A start is one of the generation that was seen stopped, which still stands there.
        let generation = record.progress.generation;
        Some(Emit { data, generation, deadline: record.deadline })
    }

    /// Whether it is a launch, which waits for the plane: what is to end may wait for the word of a
    /// host, which says nothing of how busy the plane is.
    #[must_use]
    pub fn is_launch(&self) -> bool {
        let is_pending = |record: &Record| record.progress.state == State::Pending;
        self.record.as_ref().is_some_and(is_pending) && self.request_is_shown()
    }

    /// When to look again at an instance that has been nudged so often. One that ends is looked at
    /// ever more seldom, for what holds it up may be a step that fails for good; a launch as often
    /// as ever, and not after the end of its time, which ends it.
    #[must_use]
    pub fn next_look(&self, nudges: u32, now: Millis) -> Millis {
        let record = self.record.as_ref();
        let wants = self.request.as_ref().and_then(Request::wants);
        let is_to_end = matches!(wants, Some(Want::Stopped | Want::Terminated));
        if is_to_end && !self.request_is_shown() {
            return now.plus(nudge_wait_ms(nudges + 1));
        }
        match record.map(|record| (record.progress.state, record.deadline.plus(1))) {
            Some((State::Stopping | State::ShuttingDown, _)) => now.plus(nudge_wait_ms(nudges + 1)),
            // What runs may be well: its host was marked, and then not declared dead.
            Some((State::Running, _)) if self.request_is_shown() => {
                now.plus(nudge_wait_ms(nudges + 1))
            }
            Some((State::Pending, end)) if end > now => now.plus(NUDGE_AFTER_MS).min(end),
            _ => now.plus(NUDGE_AFTER_MS),
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
