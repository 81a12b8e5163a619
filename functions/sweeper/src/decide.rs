//! Which request of an instance is its last, and whether it has been heard.

use eventplane_domain::{Reason, State, code};
use eventplane_engine::{Emit, Fault};
use eventplane_events::{Data, InstanceRequested, TerminationRequested};
use eventplane_instances::{Record, Request, Want};
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

    /// Whether the record shows what the user wants: then the request needs no more nudges, the
    /// record has its own.
    #[must_use]
    pub fn request_is_shown(&self) -> bool {
        let (Some(record), Some(request)) = (&self.record, &self.request) else { return true };
        let state = record.progress.state;
        match request.wants {
            Want::Terminated => matches!(state, State::ShuttingDown | State::Terminated),
            Want::Stopped if request.generation < record.progress.generation => true,
            Want::Stopped => !matches!(state, State::Pending | State::Running),
        }
    }

    /// The request to publish again, if the instance waits for anything: what its user wants,
    /// where the record does not show it yet, and otherwise what the record waits for. It keeps
    /// its deadline: a nudge extends none.
    #[must_use]
    pub fn nudge(&self) -> Option<Emit> {
        let record = self.record.as_ref()?;
        let unheard = self.request.as_ref().filter(|_| !self.request_is_shown());
        let unsaid = || Reason::new(code::INTERNAL, "the reason was not recorded");
        let asked = self.request.as_ref().map(|request| &request.reason).or(record.reason.as_ref());
        let ask = TerminationRequested { reason: asked.cloned().unwrap_or_else(unsaid) };
        let data = match (unheard.map(|request| request.wants), record.progress.state) {
            (_, State::Terminated) => return None,
            (Some(Want::Terminated), _) | (_, State::ShuttingDown) => {
                Data::InstanceTerminationRequested(ask)
            }
            (Some(Want::Stopped), _) | (_, State::Stopping) => Data::InstanceStopRequested(ask),
            // What runs is looked at only after its host has let it go: the handoff says again how
            // it ended.
            (None, State::Running) if record.nudge_at.is_none() => return None,
            (None, State::Pending | State::Running) => Data::InstanceRequested(InstanceRequested {
                spec: record.spec.clone(),
                has_run: record.has_run,
            }),
            (None, State::Stopped) => return None,
        };
        let generation = record.progress.generation;
        Some(Emit { data, generation, deadline: record.deadline })
    }
}
