//! What becomes of the record: the state machine of `domain`, and what follows from its answer.

use crate::nudge::{NUDGE_AFTER_MS, first_nudge};
use crate::quota::uncount_write;
use crate::record::{RESERVATION, Record, TOKEN_KEPT_MS, token_key};
use crate::request::{Asked, Request, Want};
use eventplane_domain::state::{Heard, hear};
use eventplane_domain::{Millis, Outcome, Reason, State, Step, code};
use eventplane_engine::{Decision, Emit};
use eventplane_events::{Data, Event, InstanceTerminated, Reboot, TerminationRequested};
use eventplane_store::{Condition, Update, Write};

/// How long an instance may take to stop, or to shut down, before it is shown as overdue, in
/// milliseconds: ten minutes.
pub const ENDING_DEADLINE_MS: i64 = 600_000;

/// The function that keeps instance records.
#[derive(Debug, Clone)]
pub struct Instances {
    /// How long a new placement has until it must run, in milliseconds.
    pub launch_deadline_ms: i64,
    /// How long an instance may take to stop, or to shut down, before it is shown as overdue, in
    /// milliseconds.
    pub ending_deadline_ms: i64,
}

/// What it looks at.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The record; none after it has expired.
    pub record: Option<Record>,
    /// What its user wants, where the event asks for that: see [`reads_the_request`].
    pub request: Option<Request>,
    /// Whether the client token of an instance that ends now is still that of its reservation.
    pub token_stands: bool,
}

/// The client token and the reservation of an instance that the event ends.
pub(crate) fn ends<'r>(record: &'r Record, event: &Event) -> Option<(&'r str, &'r str)> {
    let token = record.token.as_deref()?;
    let after = hear(record.progress, heard(event)?)?;
    let is_end = after.state == State::Terminated;
    is_end.then_some((token, record.spec.reservation_id.as_str()))
}

/// Whether deciding about the event needs what the user wants: a stop outlives a new placement,
/// which it may meet on its way, and a start holds only while nothing else was asked for since.
pub(crate) fn reads_the_request(event: &Event) -> bool {
    match &event.data {
        Data::InstanceStopRequested(_) | Data::InstanceStartRequested(_) => true,
        Data::InstanceWithdrawn(withdrawn) => withdrawn.outcome == Outcome::Replace,
        _ => false,
    }
}

pub(crate) fn decide(this: &Instances, event: &Event, facts: &Facts, now: Millis) -> Decision {
    let Some(record) = &facts.record else { return Decision::nothing() };
    let stop = facts.request.as_ref().and_then(|request| request.stop_not_shown(record));
    match &event.data {
        Data::InstanceRebootOrdered(reboot) => return rebooted(event, record, reboot),
        Data::InstanceStopRequested(_) => return stop_the_newest(event, record, stop),
        Data::InstanceStartRequested(_) if !is_wanted(event, facts) => return Decision::nothing(),
        _ => {}
    }
    let Some(mut heard) = heard(event) else { return Decision::nothing() };
    if let (Heard::Withdrawn { outcome, .. }, Some(_)) = (&mut heard, stop) {
        *outcome = if *outcome == Outcome::Replace { Outcome::Stop } else { *outcome };
    }
    let Some(progress) = hear(record.progress, heard) else {
        return repeat(event, record);
    };
    let mut after = Record { progress, ..record.clone() };
    let mut events = Vec::new();
    if let Data::InstanceWithdrawn(withdrawn) = &event.data {
        after.reason = Some(stop.map_or(&withdrawn.reason, |stop| &stop.reason).clone());
        after.has_run |= withdrawn.has_run || stop.is_some();
    }
    let is_replaced = matches!(heard, Heard::Withdrawn { outcome: Outcome::Replace, .. });
    if progress.generation > record.progress.generation && progress.withdrawn.is_none() {
        after.deadline = now.plus(this.launch_deadline_ms);
        after.running_at = None;
        after.reboots = 0;
        after.replaced = if is_replaced { record.replaced + 1 } else { 0 };
        events.push(next_generation(&after));
    }
    if (progress.state, progress.generation) != (record.progress.state, record.progress.generation)
    {
        // Each of the steps' answers on the way leaves the sweeper's moment alone: moving it would
        // cost two writes of its index.
        let moment = match progress.state {
            State::Pending => first_nudge(now, after.deadline),
            _ => now.plus(NUDGE_AFTER_MS),
        };
        // What its host has let go already is looked at once it counts as running.
        let is_looked_at =
            progress.state.is_moving() || (progress.state == State::Running && record.is_let_go);
        after.nudge_at = is_looked_at.then_some(moment);
        after.is_let_go = false;
        after.nudges = 0;
        let is_ending = matches!(progress.state, State::Stopping | State::ShuttingDown);
        after.due = is_ending.then_some(now.plus(this.ending_deadline_ms));
    }
    match progress.state {
        State::Running if record.progress.state != State::Running => {
            after.running_at = Some(now);
            after.has_run = true;
            after.replaced = 0;
        }
        State::Terminated => {
            after.ended_at = Some(now);
            events.push(terminated(&after));
        }
        _ => {}
    }
    let mut writes = vec![after.replace(record)];
    if reads_the_request(event) {
        // What is decided for its user holds only while the user wants nothing else.
        let request = facts.request.as_ref();
        writes.push(Request::still_stands(request, &after.tenant, &after.id));
    }
    writes.extend(token_expiry(&after).filter(|_| facts.token_stands));
    if after.is_counted && progress.state == State::Terminated {
        writes.push(uncount_write(&after.tenant, &after.spec));
    }
    Decision::commit(writes, events)
}

/// Whether this very start is what the user asked for last: one that comes late, or from among the
/// dead letters, starts nothing that was stopped since.
fn is_wanted(event: &Event, facts: &Facts) -> bool {
    let asked = facts.request.as_ref().and_then(|request| request.asked.as_ref());
    asked.is_some_and(|asked| {
        (asked.wants, asked.generation) == (Want::Running, event.metadata.generation)
    })
}

/// A stop of a generation that has been replaced is one of the newest.
fn stop_the_newest(event: &Event, record: &Record, stop: Option<&Asked>) -> Decision {
    let newest = record.progress.generation;
    let Some(stop) = stop.filter(|_| event.metadata.generation < newest) else {
        return Decision::nothing();
    };
    let data = Data::InstanceStopRequested(TerminationRequested { reason: stop.reason.clone() });
    Decision::publish(vec![Emit { data, generation: newest, deadline: record.deadline }])
}

/// The host has the order: the record shows it, so that the request needs no more nudges.
fn rebooted(event: &Event, record: &Record, reboot: &Reboot) -> Decision {
    let is_news = record.progress.generation == event.metadata.generation
        && record.progress.state == State::Running
        && record.reboots < reboot.number;
    if !is_news {
        return Decision::nothing();
    }
    let after = Record { reboots: reboot.number, ..record.clone() };
    Decision::commit(vec![after.replace(record)], vec![])
}

/// What the event says of the instance.
fn heard(event: &Event) -> Option<Heard> {
    let generation = event.metadata.generation;
    let returned = |step, for_good| Some(Heard::Returned { step, generation, for_good });
    match &event.data {
        Data::InstanceRunning(_) => Some(Heard::Running { generation }),
        Data::InstanceWithdrawn(withdrawn) => {
            Some(Heard::Withdrawn { generation, outcome: withdrawn.outcome })
        }
        Data::InstanceStartRequested(_) => Some(Heard::StartRequested { generation }),
        Data::CapacityReleased(back) => returned(Step::Capacity, back.for_good),
        Data::NetworkReleased(back) => returned(Step::Network, back.for_good),
        Data::VolumeReleased(back) => returned(Step::Storage, back.for_good),
        Data::SecurityRevoked(back) => returned(Step::Security, back.for_good),
        _ => None,
    }
}

/// What has been recorded already is published again, in case its publication was lost.
fn repeat(event: &Event, record: &Record) -> Decision {
    match (&event.data, record.progress.state) {
        (Data::InstanceWithdrawn(_) | Data::InstanceStartRequested(_), State::Pending)
            if record.progress.generation == event.metadata.generation + 1 =>
        {
            Decision::publish(vec![next_generation(record)])
        }
        (_, State::Terminated) => Decision::publish(vec![terminated(record)]),
        _ => Decision::nothing(),
    }
}

fn next_generation(record: &Record) -> Emit {
    Emit {
        data: Data::InstanceRequested(record.requested_now()),
        generation: record.progress.generation,
        deadline: record.deadline,
    }
}

fn terminated(record: &Record) -> Emit {
    let unsaid = || Reason::new(code::INTERNAL, "the reason was not recorded");
    let reason = record.reason.clone().unwrap_or_else(unsaid);
    Emit {
        data: Data::InstanceTerminated(InstanceTerminated { reason }),
        generation: record.progress.generation,
        deadline: record.deadline,
    }
}

/// A client token outlives its instance: its expiry is set when the instance ends, and set later
/// by each of the reservation's other instances that ends later. One that has expired meanwhile, or
/// is another reservation's by now, is left alone.
fn token_expiry(record: &Record) -> Option<Write> {
    let (token, ended) = (record.token.as_ref()?, record.ended_at?);
    let expires_s = ended.plus(TOKEN_KEPT_MS).0 / 1000;
    let key = token_key(&record.tenant, token);
    let update = vec![Update::set("expires_at", expires_s)];
    let reservation = record.spec.reservation_id.as_str();
    Some(Write::update(key, update).when(Condition::equals(RESERVATION, reservation)))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
