//! What becomes of a launch: joined, handed to its host, or withdrawn. No other function decides
//! how a generation ends.

use crate::assignment::{Assignment, AssignmentBody, count_change, count_new};
use crate::receipt::{Ending, Part, Receipt, Stage, receipt_key};
use eventplane_domain::{
    HostId, Identity, Launch, Millis, Mutant, Network, Outcome, Reason, Volume, code, planted,
};
use eventplane_engine::{Decision, Delivery, Emit};
use eventplane_events::{
    Data, Event, InstanceHalted, InstanceHandedOff, InstanceRequested, InstanceWithdrawn,
    LaunchFailed, Reboot,
};
use eventplane_store::{Key, Write};
use std::cmp::Ordering::{Equal, Greater, Less};

/// How many hosts in a row may have a launch and not run it, before it fails.
pub const PLACEMENTS_MAX: u32 = 3;

/// What the handoff looks at.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What it has recorded of the instance.
    pub receipt: Option<Receipt>,
    /// The host's assignment, if the event may change it and it stands.
    pub assignment: Option<Assignment>,
    /// Whether an operator has said that the host is dead.
    pub host_is_dead: bool,
}

/// Whether deciding about the event may need the host's assignment.
pub(crate) fn reads_the_assignment(event: &Event, receipt: &Receipt) -> bool {
    let has_one = matches!(receipt.stage, Stage::HandedOff | Stage::Withdrawing);
    has_one
        && matches!(
            &event.data,
            Data::InstanceRequested(_)
                | Data::InstanceHalted(_)
                | Data::InstanceStopRequested(_)
                | Data::InstanceRebootRequested(_)
                | Data::InstanceTerminationRequested(_)
        )
}

pub(crate) fn decide(event: &Event, facts: &Facts, at: impl Into<Delivery>) -> Decision {
    let at = at.into();
    let case = Case { event, facts, now: at.now, at };
    match &event.data {
        Data::NetworkConfigured(data) => {
            case.join(&data.launch, Part::Network(data.network.clone()))
        }
        Data::VolumeProvisioned(data) => {
            case.join(&data.launch, Part::Volumes(data.provisioned.clone()))
        }
        Data::SecurityConfigured(data) => {
            case.join(&data.launch, Part::Identity(data.identity.clone()))
        }
        Data::InstanceRequested(requested) => case.requested(requested),
        Data::LaunchFailed(failed) => case.refused(failed),
        Data::InstanceHalted(halted) => case.halted(halted),
        Data::InstanceStopRequested(stop) => case.asked(Outcome::Stop, &stop.reason),
        Data::InstanceRebootRequested(reboot) => case.reboot(reboot),
        Data::InstanceTerminationRequested(termination) => {
            case.asked(Outcome::Terminate, &termination.reason)
        }
        _ => Decision::nothing(),
    }
}

/// One event and all that bears on it.
struct Case<'a> {
    event: &'a Event,
    facts: &'a Facts,
    now: Millis,
    at: Delivery,
}

impl Case<'_> {
    fn receipt(&self) -> Option<&Receipt> {
        self.facts.receipt.as_ref()
    }

    /// The recorded stage, as far as it bears on the event's generation: a withdrawn older one is
    /// history, and a termination holds for all that follow.
    fn standing(&self) -> Standing {
        let Some(receipt) = self.receipt() else { return Standing::New };
        let ended_for_good = receipt.stage == Stage::Withdrawn
            && receipt.ending.as_ref().is_some_and(|e| e.outcome == Outcome::Terminate);
        if ended_for_good {
            return Standing::At(Stage::Withdrawn);
        }
        match receipt.generation.cmp(&self.event.metadata.generation) {
            Greater => Standing::Stale,
            Equal => Standing::At(receipt.stage),
            Less if receipt.stage == Stage::Withdrawn => Standing::New,
            // A generation begins only after the one before is withdrawn, so this one's is on its
            // way to being written: the sweeper's nudge finds it written.
            Less => Standing::Stale,
        }
    }

    fn is_late(&self) -> bool {
        self.now > self.event.metadata.deadline
    }

    fn key(&self) -> Key {
        receipt_key(&self.event.metadata.tenant, &self.event.metadata.subject)
    }

    /// The next receipt: of the event's generation, or of a newer one that is recorded.
    fn next(&self, stage: Stage) -> Receipt {
        let metadata = &self.event.metadata;
        let newest = self.receipt().map_or(0, |receipt| receipt.generation);
        let generation = metadata.generation.max(newest);
        Receipt::next(self.receipt(), generation, metadata.deadline, stage, self.at)
    }

    fn join(&self, launch: &Launch, part: Part) -> Decision {
        let stage = match self.standing() {
            Standing::Stale => return Decision::nothing(),
            Standing::New => None,
            Standing::At(Stage::Withdrawn) if planted(Mutant::HandoffJoinsAfterItsFence) => None,
            Standing::At(stage) => Some(stage),
        };
        match stage {
            None if self.is_late() => self.withdraw(timeout(launch.has_run, self.late_join())),
            None => {
                let placement = Some(launch.placement.clone());
                let first = Receipt { parts: vec![part], placement, ..self.next(Stage::Joining) };
                Decision::commit(vec![first.write(self.key(), self.receipt())], vec![])
            }
            Some(Stage::Joining) => self.join_others(launch, part),
            Some(Stage::HandedOff) => self.repeat_handed_off(),
            Some(Stage::Withdrawing) => Decision::nothing(),
            Some(Stage::Withdrawn) => self.repeat_withdrawn(),
        }
    }

    fn join_others(&self, launch: &Launch, part: Part) -> Decision {
        let receipt = self.receipt().expect("somebody has joined");
        if receipt.parts.iter().any(|joined| joined.name() == part.name()) {
            return Decision::nothing();
        }
        if self.is_late() {
            return self.withdraw(timeout(launch.has_run, self.late_join()));
        }
        if self.facts.host_is_dead {
            return self.withdraw(host_dead(launch.has_run, &launch.placement.host));
        }
        let mut parts = receipt.parts.clone();
        parts.push(part);
        match all_three(&parts) {
            Some((network, volumes, identity)) => {
                let spec = launch.spec.clone();
                let placement = launch.placement.clone();
                self.hand_off(
                    launch,
                    AssignmentBody { spec, placement, network, volumes, identity },
                )
            }
            None => {
                let part = parts.last().expect("it was just pushed");
                Decision::commit(vec![Receipt::join(self.key(), receipt, part)], vec![])
            }
        }
    }

    fn hand_off(&self, launch: &Launch, body: AssignmentBody) -> Decision {
        let metadata = &self.event.metadata;
        let assignment = Assignment {
            tenant: metadata.tenant.clone(),
            instance: metadata.subject.clone(),
            generation: metadata.generation,
            deadline: metadata.deadline,
            offered: false,
            withdrawing: false,
            has_run: launch.has_run,
            replaced: launch.replaced,
            reboots: 0,
            consoles: 0,
            body,
        };
        let placement = Some(launch.placement.clone());
        let receipt = Receipt { placement, ..self.next(Stage::HandedOff) };
        let writes = vec![
            receipt.write(self.key(), self.receipt()),
            assignment.put(),
            count_new(&launch.placement.host),
        ];
        Decision::commit(writes, vec![self.handed_off(&receipt)])
    }

    fn requested(&self, requested: &InstanceRequested) -> Decision {
        let message = || "the launch was not handed to a host before its deadline".to_owned();
        match self.standing() {
            Standing::Stale => Decision::nothing(),
            Standing::New | Standing::At(Stage::Joining) if self.is_late() => {
                self.withdraw(timeout(requested.has_run, message()))
            }
            Standing::New | Standing::At(Stage::Joining) => Decision::nothing(),
            Standing::At(Stage::HandedOff) => self.requested_again(requested),
            Standing::At(Stage::Withdrawing) => self.go_on_withdrawing(),
            Standing::At(Stage::Withdrawn) => self.repeat_withdrawn(),
        }
    }

    /// A nudge of what a host has: it ends only if the host is dead, or cannot have seen it.
    fn requested_again(&self, requested: &InstanceRequested) -> Decision {
        let Some(assignment) = &self.facts.assignment else { return self.repeat_handed_off() };
        if self.facts.host_is_dead {
            let may_have_run = requested.has_run || assignment.offered;
            return self.finish(host_dead(may_have_run, &assignment.body.placement.host));
        }
        let is_let_go = !assignment.offered || planted(Mutant::DeadlineAgainstSkewedClock);
        if self.is_late() && is_let_go {
            let why = format!(
                "the host {} did not ask for its assignment before the deadline",
                assignment.body.placement.host
            );
            return self.finish(not_run(assignment, Reason::new(code::LAUNCH_TIMEOUT, why)));
        }
        self.repeat_handed_off()
    }

    /// A refusal never undoes what has been handed off: the refusing step had answered already.
    fn refused(&self, failed: &LaunchFailed) -> Decision {
        match self.standing() {
            Standing::New | Standing::At(Stage::Joining) => {
                self.withdraw(ending(failed.has_run, self.and_before(&failed.reason)))
            }
            Standing::At(Stage::Withdrawn) => self.repeat_withdrawn(),
            Standing::Stale | Standing::At(Stage::HandedOff)
                if planted(Mutant::LateLaunchFailedHonoured) =>
            {
                self.withdraw(ending(failed.has_run, failed.reason.clone()))
            }
            Standing::Stale | Standing::At(Stage::HandedOff | Stage::Withdrawing) => {
                Decision::nothing()
            }
        }
    }

    /// A refusal of a placement that followed another one: why that one came to nothing is part of
    /// why.
    fn and_before(&self, reason: &Reason) -> Reason {
        let replaced = self.receipt().and_then(|receipt| receipt.ending.as_ref());
        match replaced.filter(|before| before.outcome == Outcome::Replace) {
            Some(before) => {
                let message = format!("{}; before that: {}", reason.message, before.reason.message);
                Reason::new(&reason.code, message)
            }
            None => reason.clone(),
        }
    }

    /// A user asks to reboot. It is for its own generation: a newer one has just been started.
    fn reboot(&self, asked: &Reboot) -> Decision {
        let assignment = match (self.standing(), &self.facts.assignment) {
            (Standing::At(Stage::HandedOff), Some(assignment)) => assignment,
            // Whoever asks for it has not heard that it ended: that is said again.
            (Standing::At(Stage::Withdrawn), _) => return self.repeat_withdrawn(),
            (Standing::At(Stage::Withdrawing), _) => return self.go_on_withdrawing(),
            _ => return Decision::nothing(),
        };
        let ordered = Emit::of(self.event, Data::InstanceRebootOrdered(asked.clone()));
        if assignment.reboots >= asked.number {
            return Decision::publish(vec![ordered]);
        }
        let host = &assignment.body.placement.host;
        Decision::commit(vec![assignment.reboot(asked.number), count_change(host)], vec![ordered])
    }

    /// A user asks to stop or to terminate. A termination is never stale.
    fn asked(&self, outcome: Outcome, reason: &Reason) -> Decision {
        // Whoever may stop an instance has seen it run.
        let has_run = outcome == Outcome::Stop;
        let wanted = Ending { outcome, reason: reason.clone(), has_run };
        let standing = match (self.standing(), self.receipt()) {
            (Standing::Stale, Some(receipt))
                if outcome == Outcome::Terminate && !planted(Mutant::TerminationDroppedAsStale) =>
            {
                Standing::At(receipt.stage)
            }
            (standing, _) => standing,
        };
        match standing {
            Standing::Stale => Decision::nothing(),
            Standing::New | Standing::At(Stage::Joining)
                if planted(Mutant::TerminateDuringLaunchIgnored) =>
            {
                Decision::nothing()
            }
            Standing::New | Standing::At(Stage::Joining) => self.withdraw(wanted),
            Standing::At(Stage::HandedOff) => self.let_go(wanted),
            Standing::At(Stage::Withdrawing) if self.is_beaten_by(outcome) => self.let_go(wanted),
            Standing::At(Stage::Withdrawing) => self.go_on_withdrawing(),
            Standing::At(Stage::Withdrawn) if self.is_beaten_by(outcome) => self.withdraw(wanted),
            Standing::At(Stage::Withdrawn) => self.repeat_withdrawn(),
        }
    }

    /// Terminate beats stop and replace at any time.
    fn is_beaten_by(&self, outcome: Outcome) -> bool {
        let recorded = self.receipt().and_then(|receipt| receipt.ending.as_ref());
        outcome == Outcome::Terminate
            && recorded.is_some_and(|ending| ending.outcome != Outcome::Terminate)
    }

    /// The host promises, or an operator says that it is dead: nothing runs it any more.
    fn halted(&self, halted: &InstanceHalted) -> Decision {
        let Some(receipt) = self.receipt() else { return Decision::nothing() };
        let of_this_host =
            receipt.placement.as_ref().is_some_and(|p| p.host.as_str() == halted.host);
        // A promise holds up to its generation: one for a newer run covers the recorded one.
        if !of_this_host || self.event.metadata.generation < receipt.generation {
            return Decision::nothing();
        }
        let assignment = self.facts.assignment.as_ref();
        match receipt.stage {
            Stage::Joining => Decision::nothing(),
            Stage::Withdrawn => self.repeat_withdrawn(),
            Stage::Withdrawing => self.finish(recorded_ending(receipt)),
            Stage::HandedOff => match assignment {
                Some(assignment) => self.finish(self.let_go_unasked(halted, assignment)),
                None => self.finish(ending(halted.has_run, unsaid(halted))),
            },
        }
    }

    /// How a generation ends whose host has let it go unasked: what a dead host had, or what never
    /// ran, is placed again elsewhere.
    fn let_go_unasked(&self, halted: &InstanceHalted, assignment: &Assignment) -> Ending {
        // An agent that still lives on a host that was declared dead is told to let go of all.
        let is_dead = match &halted.reason {
            Some(reason) => reason.code == code::HOST_DEAD,
            None => self.facts.host_is_dead,
        };
        if is_dead {
            // What was offered after the operator's word was read out to all may have run too.
            let has_run = halted.has_run || assignment.has_run || assignment.offered;
            return host_dead(has_run, &assignment.body.placement.host);
        }
        if halted.has_run {
            return ending(true, unsaid(halted));
        }
        not_run(assignment, unsaid(halted))
    }

    /// Ends what no host has.
    fn withdraw(&self, ending: Ending) -> Decision {
        self.end(ending, vec![])
    }

    /// Ends what a host has, or may have: at once if it cannot have seen it, or is dead; otherwise
    /// the host is told, and its promise awaited.
    fn let_go(&self, ending: Ending) -> Decision {
        let Some(assignment) = &self.facts.assignment else {
            return self.withdraw(ending);
        };
        let may_run = assignment.offered && !planted(Mutant::GiveBackBeforeLetGo);
        if !may_run || self.facts.host_is_dead {
            return self.finish(ending);
        }
        let placement = self.receipt().and_then(|receipt| receipt.placement.clone());
        let receipt = Receipt {
            ending: Some(ending),
            placement,
            ..self.next_of_recorded(Stage::Withdrawing)
        };
        let writes = vec![
            receipt.write(self.key(), self.receipt()),
            assignment.withdraw(),
            count_change(&assignment.body.placement.host),
        ];
        Decision::commit(writes, vec![])
    }

    /// Says again what is awaited of the host, unless it is dead: then nothing is.
    fn go_on_withdrawing(&self) -> Decision {
        let receipt = self.receipt().expect("it is withdrawing");
        match (&self.facts.assignment, self.facts.host_is_dead) {
            (Some(_), false) => Decision::nothing(),
            _ => self.finish(recorded_ending(receipt)),
        }
    }

    /// Ends what the host is done with: its assignment goes.
    fn finish(&self, ending: Ending) -> Decision {
        let Some(assignment) = &self.facts.assignment else { return self.withdraw(ending) };
        let may_have_seen = assignment.offered;
        let host = &assignment.body.placement.host;
        self.end(ending, vec![assignment.remove(may_have_seen), count_change(host)])
    }

    fn end(&self, ending: Ending, mut others: Vec<Write>) -> Decision {
        let placement = self.receipt().and_then(|receipt| receipt.placement.clone());
        let receipt =
            Receipt { ending: Some(ending), placement, ..self.next_of_recorded(Stage::Withdrawn) };
        others.insert(0, receipt.write(self.key(), self.receipt()));
        Decision::commit(others, vec![withdrawn(&receipt)])
    }

    /// A promise may be for a newer generation than the one that it ends; what ends is the
    /// recorded one while something of it stands.
    fn next_of_recorded(&self, stage: Stage) -> Receipt {
        let next = self.next(stage);
        match self.receipt() {
            Some(receipt) if receipt.stage != Stage::Withdrawn => {
                Receipt { generation: receipt.generation, ..next }
            }
            _ => next,
        }
    }

    fn handed_off(&self, receipt: &Receipt) -> Emit {
        let placement = receipt.placement.clone().expect("a host has it");
        Emit::of(self.event, Data::InstanceHandedOff(InstanceHandedOff { placement }))
    }

    fn repeat_handed_off(&self) -> Decision {
        let receipt = self.receipt().expect("it is handed off");
        Decision::publish(vec![self.handed_off(receipt)])
    }

    fn repeat_withdrawn(&self) -> Decision {
        Decision::publish(vec![withdrawn(self.receipt().expect("it is withdrawn"))])
    }

    fn late_join(&self) -> String {
        let late_ms = self.now.since(self.event.metadata.deadline);
        format!("{} came {late_ms} ms after the launch's deadline", self.event.data.name())
    }
}

/// How the record bears on an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nothing is recorded for this generation.
    New,
    /// This stage is.
    At(Stage),
    /// A newer generation is recorded.
    Stale,
}

/// What has run is stopped, and may be started again; what never ran is terminated.
fn ending(has_run: bool, reason: Reason) -> Ending {
    let outcome = if has_run { Outcome::Stop } else { Outcome::Terminate };
    Ending { outcome, reason, has_run }
}

fn timeout(has_run: bool, message: String) -> Ending {
    ending(has_run, Reason::new(code::LAUNCH_TIMEOUT, message))
}

/// A host had it, and did not run it: another one has its turn, until enough of them had.
fn not_run(assignment: &Assignment, reason: Reason) -> Ending {
    let has_run = assignment.has_run;
    if assignment.replaced + 1 >= PLACEMENTS_MAX {
        let tried = format!("{} (the last of {PLACEMENTS_MAX} hosts in a row)", reason.message);
        return ending(has_run, Reason::new(&reason.code, tried));
    }
    Ending { outcome: Outcome::Replace, reason, has_run }
}

/// Nothing of a dead host runs any more: what it had is placed again elsewhere, however often that
/// happens, for each time takes an operator's word.
fn host_dead(has_run: bool, host: &HostId) -> Ending {
    let message = format!("the host {host} was declared dead");
    let reason = Reason::new(code::HOST_DEAD, message);
    Ending { outcome: Outcome::Replace, reason, has_run }
}

fn unsaid(halted: &InstanceHalted) -> Reason {
    let message = || format!("the host {} let the instance go and did not say why", halted.host);
    halted.reason.clone().unwrap_or_else(|| Reason::new(code::INTERNAL, message()))
}

fn recorded_ending(receipt: &Receipt) -> Ending {
    receipt.ending.clone().expect("what is being withdrawn has an ending")
}

fn withdrawn(receipt: &Receipt) -> Emit {
    let Ending { outcome, reason, has_run } = recorded_ending(receipt);
    Emit {
        data: Data::InstanceWithdrawn(InstanceWithdrawn { outcome, reason, has_run }),
        generation: receipt.generation,
        deadline: receipt.deadline,
    }
}

fn all_three(parts: &[Part]) -> Option<(Network, Vec<Volume>, Identity)> {
    let mut found = (None, None, None);
    for part in parts {
        match part {
            Part::Network(network) => found.0 = Some(network.clone()),
            Part::Volumes(volumes) => found.1 = Some(volumes.clone()),
            Part::Identity(identity) => found.2 = Some(identity.clone()),
        }
    }
    Some((found.0?, found.1?, found.2?))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
