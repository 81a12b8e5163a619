//! What becomes of the record: the state machine of `domain`, and what follows from its answer.

use crate::quota::uncount_write;
use crate::record::{NUDGE_AFTER_MS, Record, TOKEN_KEPT_MS, token_key};
use eventplane_domain::state::{Heard, Progress, hear};
use eventplane_domain::{Millis, Reason, State, Step, code};
use eventplane_engine::{Decision, Emit};
use eventplane_events::{Data, Event, InstanceRequested, InstanceTerminated};
use eventplane_store::{Condition, Update, Write};

/// The function that keeps instance records.
#[derive(Debug, Clone)]
pub struct Instances {
    /// How long a new placement has until it must run, in milliseconds.
    pub launch_deadline_ms: i64,
}

/// What it looks at.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The record; none after it has expired.
    pub record: Option<Record>,
}

pub(crate) fn decide(this: &Instances, event: &Event, facts: &Facts, now: Millis) -> Decision {
    let (Some(record), Some(heard)) = (&facts.record, heard(event)) else {
        return Decision::nothing();
    };
    let Some(progress) = hear(record.progress, heard) else {
        return repeat(event, record);
    };
    let mut after = Record { progress, ..record.clone() };
    let mut events = Vec::new();
    if let Data::InstanceWithdrawn(withdrawn) = &event.data {
        after.reason = Some(withdrawn.reason.clone());
    }
    if progress.generation > record.progress.generation && progress.withdrawn.is_none() {
        after.deadline = now.plus(this.launch_deadline_ms);
        after.running_at = None;
        events.push(next_generation(&after));
    }
    // Each of the steps' answers on the way leaves the sweeper's moment alone: moving it would cost
    // two writes of its index.
    let stays = |progress: &Progress| (progress.state, progress.generation);
    let is_on_its_way = stays(&progress) == stays(&record.progress);
    let moment = record.nudge_at.filter(|_| is_on_its_way).unwrap_or(now.plus(NUDGE_AFTER_MS));
    after.nudge_at = progress.state.is_moving().then_some(moment);
    match progress.state {
        State::Running if record.progress.state != State::Running => {
            after.running_at = Some(now);
            after.has_run = true;
        }
        State::Terminated => {
            after.ended_at = Some(now);
            events.push(terminated(&after));
        }
        _ => {}
    }
    let mut writes = vec![after.replace(record)];
    writes.extend(token_expiry(&after));
    if after.is_counted && progress.state == State::Terminated {
        writes.push(uncount_write(&after.tenant, &after.spec));
    }
    Decision::commit(writes, events)
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
        (Data::InstanceWithdrawn(_), State::Pending)
            if record.progress.generation == event.metadata.generation + 1 =>
        {
            Decision::publish(vec![next_generation(record)])
        }
        (_, State::Terminated) => Decision::publish(vec![terminated(record)]),
        _ => Decision::nothing(),
    }
}

fn next_generation(record: &Record) -> Emit {
    let requested = InstanceRequested { spec: record.spec.clone(), has_run: record.has_run };
    Emit {
        data: Data::InstanceRequested(requested),
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
/// by each of the reservation's other instances that ends later.
fn token_expiry(record: &Record) -> Option<Write> {
    let (token, ended) = (record.token.as_ref()?, record.ended_at?);
    let expires_s = ended.plus(TOKEN_KEPT_MS).0 / 1000;
    let key = token_key(&record.tenant, token);
    let update = vec![Update::set("expires_at", expires_s)];
    Some(Write::update(key, update).when(Condition::ItemPresent))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
