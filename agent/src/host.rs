//! What a host does about what it hears: pure, without a clock, a network or a disk.
//!
//! A host keeps, for each instance, the newest generation that it has had to do with and how that
//! stands. A generation that was let go of is never run again, whatever a late answer says: that is
//! the promise on which rooms, addresses and volumes are given to others.

use crate::wire::{Assignments, InstanceKey, LetGo, Observed, ObservedState, Report, Wanted};
use eventplane_domain::{Millis, Reason, code};
use std::collections::{BTreeMap, BTreeSet};

/// How the newest generation of an instance stands on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It does not run, and never will up to this generation.
    LetGo,
}

/// What the host has to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start this generation, then tell [`Host::on_started`].
    Start(InstanceKey, u32),
    /// Start anew what runs, where it runs.
    Reboot(InstanceKey, u32),
    /// Make sure that no generation up to this one runs, before the next report leaves.
    Stop(InstanceKey, u32),
}

/// What changed in the host's memory: to be made durable before it acts or reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An instance stands so now.
    Stands(InstanceKey, u32, Phase),
    /// The order for this reboot of it is carried out, or is about to be.
    Rebooted(InstanceKey, u32),
    /// This generation of it has run: its promise has to say so, for then it is never terminated for
    /// having ended.
    Ran(InstanceKey),
    /// An instance is forgotten: no answer that the host would listen to can name it.
    Forgotten(InstanceKey),
}

/// What is remembered of an instance from before the agent was started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The newest generation that the host has had to do with.
    pub generation: u32,
    /// How that stands.
    pub phase: Phase,
    /// The newest reboot that was carried out.
    pub reboots: u32,
    /// Whether it has run.
    pub has_run: bool,
}

#[derive(Debug, Clone)]
struct Local {
    generation: u32,
    deadline: Millis,
    phase: Phase,
    reason: Option<Reason>,
    /// Whether the control plane has taken a report of it.
    is_said: bool,
    /// The revision that was known when it was let go of.
    since: u64,
    /// Whether this generation has run: then it was stopped, not a launch that failed.
    has_run: bool,
    /// The newest reboot that was carried out.
    reboots: u32,
}

/// A host's memory.
#[derive(Debug, Clone, Default)]
pub struct Host {
    revision: u64,
    local: BTreeMap<InstanceKey, Local>,
    /// Promises asked for about generations older than the one in `local`.
    older: Vec<LetGo>,
    changes: Vec<Change>,
}

impl Host {
    /// A host that remembers this from before its program was started anew. Its instances did not
    /// notice: they need no agent to run.
    #[must_use]
    pub fn remembering(known: impl IntoIterator<Item = (InstanceKey, Known)>) -> Self {
        let mut host = Host::default();
        for (key, Known { generation, phase, reboots, has_run }) in known {
            let local = Local {
                generation,
                deadline: Millis(i64::MAX),
                phase,
                reason: None,
                is_said: false,
                since: 0,
                has_run: has_run || phase == Phase::Running,
                reboots,
            };
            host.local.insert(key, local);
        }
        host
    }

    /// How each instance stands.
    #[must_use]
    pub fn standing(&self) -> Vec<(InstanceKey, u32, Phase)> {
        let one =
            |(key, local): (&InstanceKey, &Local)| (key.clone(), local.generation, local.phase);
        self.local.iter().map(one).collect()
    }

    /// The newest revision acted on.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many instances run, and how many are being started.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let of = |phase| self.local.values().filter(|local| local.phase == phase).count();
        (of(Phase::Running), of(Phase::Starting))
    }

    /// The control plane has said what is wanted. An older set than the newest is ignored.
    pub fn on_wanted(&mut self, set: &Assignments, now: Millis) -> Vec<Action> {
        if set.revision < self.revision {
            return Vec::new();
        }
        self.revision = set.revision;
        let mut actions = Vec::new();
        let mut named = BTreeSet::new();
        for order in &set.let_go {
            named.insert(&order.key);
            self.let_go_of(&order.key, order.generation, &mut actions);
        }
        for wanted in &set.wanted {
            named.insert(&wanted.key);
            let known = self.local.get_mut(&wanted.key);
            match known {
                Some(local) if local.generation > wanted.generation => {}
                Some(local) if local.generation == wanted.generation => {
                    local.deadline = wanted.deadline;
                    if local.reboots < wanted.reboots {
                        local.reboots = wanted.reboots;
                        let key = wanted.key.clone();
                        self.changes.push(Change::Rebooted(key.clone(), wanted.reboots));
                        // What is being started anyway needs no more.
                        if local.phase == Phase::Running {
                            actions.push(Action::Reboot(key, wanted.generation));
                        }
                    }
                }
                _ => {
                    if let Some(older) = known.filter(|local| local.phase != Phase::LetGo) {
                        actions.push(Action::Stop(wanted.key.clone(), older.generation));
                    }
                    self.begin(wanted);
                    if now <= wanted.deadline {
                        actions.push(Action::Start(wanted.key.clone(), wanted.generation));
                    }
                }
            }
        }
        self.drop_unnamed(&named, &mut actions);
        actions.extend(self.on_deadline(now));
        actions
    }

    fn let_go_of(&mut self, key: &InstanceKey, generation: u32, actions: &mut Vec<Action>) {
        match self.local.get(key) {
            Some(local) if local.generation > generation => {
                let promise = LetGo { key: key.clone(), generation, reason: None, has_run: false };
                if !self.older.contains(&promise) {
                    self.older.push(promise);
                }
            }
            Some(local) if local.generation == generation && local.phase == Phase::LetGo => {}
            known => {
                if known.is_some_and(|local| local.phase != Phase::LetGo) {
                    actions.push(Action::Stop(key.clone(), generation));
                }
                self.promise(key, generation, None);
            }
        }
    }

    /// What no list names any more is stopped; a promise that has done its work is forgotten.
    fn drop_unnamed(&mut self, named: &BTreeSet<&InstanceKey>, actions: &mut Vec<Action>) {
        let unnamed: Vec<(InstanceKey, u32, Phase, bool)> = self
            .local
            .iter()
            .filter(|(key, _)| !named.contains(key))
            .map(|(key, local)| {
                // What was not said yet may not be true yet: a driver takes its time to stop.
                let has_done_its_work = local.is_said && local.since < self.revision;
                (key.clone(), local.generation, local.phase, has_done_its_work)
            })
            .collect();
        for (key, generation, phase, has_done_its_work) in unnamed {
            if phase != Phase::LetGo {
                actions.push(Action::Stop(key.clone(), generation));
                self.promise(&key, generation, None);
            } else if has_done_its_work {
                self.local.remove(&key);
                self.changes.push(Change::Forgotten(key));
            }
        }
    }

    fn begin(&mut self, wanted: &Wanted) {
        let Wanted { key, generation, deadline, reboots } = wanted.clone();
        let local = Local {
            generation,
            deadline,
            phase: Phase::Starting,
            reason: None,
            is_said: true,
            since: 0,
            has_run: false,
            reboots,
        };
        self.local.insert(key.clone(), local);
        self.changes.push(Change::Stands(key, generation, Phase::Starting));
    }

    fn promise(&mut self, key: &InstanceKey, generation: u32, reason: Option<Reason>) {
        let has_run = self
            .local
            .get(key)
            .is_some_and(|local| local.generation == generation && local.has_run);
        let local = Local {
            generation,
            deadline: Millis(i64::MAX),
            phase: Phase::LetGo,
            reason,
            is_said: false,
            since: self.revision,
            has_run,
            reboots: 0,
        };
        self.local.insert(key.clone(), local);
        self.changes.push(Change::Stands(key.clone(), generation, Phase::LetGo));
        if has_run {
            self.changes.push(Change::Ran(key.clone()));
        }
    }

    /// A start is done. One that was let go of meanwhile stays so: `false` says to stop it again.
    pub fn on_started(&mut self, key: &InstanceKey, generation: u32) -> bool {
        match self.local.get_mut(key) {
            Some(local) if local.generation == generation && local.phase == Phase::Starting => {
                local.phase = Phase::Running;
                local.has_run = true;
                local.is_said = false;
                self.changes.push(Change::Stands(key.clone(), generation, Phase::Running));
                if local.reboots > 0 {
                    self.changes.push(Change::Rebooted(key.clone(), local.reboots));
                }
                true
            }
            Some(local) => local.generation == generation && local.phase == Phase::Running,
            None => false,
        }
    }

    /// A start has failed, or what ran has ended by itself: the host lets go of it and says why.
    pub fn on_ended(&mut self, key: &InstanceKey, generation: u32, reason: Reason) {
        let is_here = self
            .local
            .get(key)
            .is_some_and(|local| local.generation == generation && local.phase != Phase::LetGo);
        if is_here {
            self.promise(key, generation, Some(reason));
        } else if let Some(local) = self.local.get_mut(key)
            && (local.generation, local.phase) == (generation, Phase::LetGo)
            && !local.is_said
        {
            // The agent died before it could say why: its driver knows.
            local.reason.get_or_insert(reason);
        }
    }

    /// What does not run at its deadline is let go of; what runs is none of a deadline's business.
    pub fn on_deadline(&mut self, now: Millis) -> Vec<Action> {
        let late: Vec<(InstanceKey, u32, i64)> = self
            .local
            .iter()
            .filter(|(_, local)| local.phase == Phase::Starting && local.deadline < now)
            .map(|(key, local)| (key.clone(), local.generation, now.since(local.deadline)))
            .collect();
        let let_go = |(key, generation, late_ms): (InstanceKey, u32, i64)| {
            let message = format!("the host had not started it {late_ms} ms after its deadline");
            self.promise(&key, generation, Some(Reason::new(code::LAUNCH_TIMEOUT, message)));
            Action::Stop(key, generation)
        };
        late.into_iter().map(let_go).collect()
    }

    /// When [`Host::on_deadline`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let starting = self.local.values().filter(|local| local.phase == Phase::Starting);
        starting.map(|local| local.deadline).min()
    }

    /// What to say: everything, or what has changed and was not taken yet, if there is any.
    #[must_use]
    pub fn report(&self, complete: bool) -> Option<Report> {
        let mut report = Report { complete, revision: self.revision, ..Report::default() };
        for (key, local) in &self.local {
            if local.is_said && !complete {
                continue;
            }
            let (key, generation) = (key.clone(), local.generation);
            match local.phase {
                Phase::Starting => {}
                Phase::Running => {
                    let state = ObservedState::Running;
                    report.instances.push(Observed { key, generation, state });
                }
                Phase::LetGo => {
                    let reason = local.reason.clone();
                    let has_run = local.has_run;
                    report.let_go.push(LetGo { key, generation, reason, has_run });
                }
            }
        }
        report.let_go.extend(self.older.iter().cloned());
        let is_news = !report.instances.is_empty() || !report.let_go.is_empty();
        (complete || is_news).then_some(report)
    }

    /// The control plane has taken this report.
    pub fn on_reported(&mut self, report: &Report) {
        let running = report.instances.iter().map(|o| (&o.key, o.generation, Phase::Running));
        let let_go = report.let_go.iter().map(|l| (&l.key, l.generation, Phase::LetGo));
        for (key, generation, phase) in running.chain(let_go) {
            let said = self.local.get_mut(key);
            let same = said.filter(|l| l.generation == generation && l.phase == phase);
            if let Some(local) = same {
                local.is_said = true;
            }
        }
        self.older.retain(|promise| !report.let_go.contains(promise));
    }

    /// The control plane knows nothing of this host any more: it began anew, and so do its
    /// revisions. Promises stay.
    pub fn on_unknown(&mut self) {
        self.revision = 0;
        for local in self.local.values_mut() {
            local.since = 0;
            local.is_said = local.phase == Phase::Starting;
        }
    }

    /// What has changed since this was last asked.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
