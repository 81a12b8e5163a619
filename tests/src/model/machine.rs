//! A host of the model: the real agent's decisions, what its disk remembers, and what runs on it.

use eventplane_agent::host::{Action, Change, Host, Known, Phase};
use eventplane_agent::wire::{Assignments, InstanceKey, Report};
use eventplane_domain::{Millis, Reason, code};
use std::collections::{BTreeMap, BTreeSet};

/// Whether a machine is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Life {
    #[default]
    Alive,
    /// It is gone, with all that ran on it.
    Gone,
    /// It is gone, and its operator has said so.
    SaidDead,
}

/// A host's agent and its machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    agent: Host,
    /// What is on its disk, for an agent that is started anew.
    memory: BTreeMap<InstanceKey, Known>,
    starting: BTreeSet<(InstanceKey, u32)>,
    pub(super) running: BTreeMap<InstanceKey, u32>,
    /// All that has ever run on it.
    pub(super) ran: BTreeSet<InstanceKey>,
    pub(super) life: Life,
    /// The answer that is on its way to the agent.
    pub(super) answer: Option<Assignments>,
}

impl Machine {
    /// The agent acts on the answer that has come.
    pub(super) fn hear(&mut self, now: Millis) {
        let Some(set) = self.answer.take() else { return };
        let actions = self.agent.on_wanted(&set, now);
        self.remember();
        self.act(actions);
    }

    /// Whether the answer that has come changes nothing.
    pub(super) fn knows_the_answer(&self, now: Millis) -> bool {
        let mut after = self.clone();
        after.hear(now);
        let before = Machine { answer: None, ..self.clone() };
        format!("{before:?}") == format!("{after:?}")
    }

    /// The agent lets go of what is late.
    pub(super) fn pass(&mut self, now: Millis) {
        let actions = self.agent.on_deadline(now);
        self.remember();
        self.act(actions);
    }

    /// What is being started.
    pub(super) fn starting(&self) -> impl Iterator<Item = &(InstanceKey, u32)> {
        self.starting.iter()
    }

    /// A start is done.
    pub(super) fn start(&mut self, key: &InstanceKey, generation: u32) {
        self.starting.remove(&(key.clone(), generation));
        if self.agent.on_started(key, generation) {
            self.ran.insert(key.clone());
            self.running.insert(key.clone(), generation);
        }
        self.remember();
    }

    /// A start has failed, or what runs has ended by itself.
    pub(super) fn end(&mut self, key: &InstanceKey, generation: u32) {
        self.starting.remove(&(key.clone(), generation));
        if self.running.get(key) == Some(&generation) {
            self.running.remove(key);
        }
        self.agent.on_ended(key, generation, Reason::new(code::INTERNAL, "-"));
        self.remember();
    }

    /// All that the agent sees.
    pub(super) fn report(&self) -> Report {
        self.agent.report(true).expect("a whole report is always one")
    }

    /// The control plane has taken a report.
    pub(super) fn reported(&mut self, report: &Report) {
        self.agent.on_reported(report);
        self.remember();
    }

    /// The agent is killed and started again: what runs runs on.
    pub(super) fn restart(&mut self) {
        self.starting.clear();
        self.answer = None;
        let known = self.memory.iter().map(|(key, known)| (key.clone(), *known));
        self.agent = Host::remembering(known);
    }

    /// The machine is gone, and with it all that ran on it and what it remembered.
    pub(super) fn die(&mut self) {
        let ran = std::mem::take(&mut self.ran);
        *self = Machine { life: Life::Gone, ran, ..Machine::default() };
    }

    fn remember(&mut self) {
        for change in self.agent.take_changes() {
            match change {
                Change::Stands(_, _, Phase::Starting) => {}
                Change::Stands(key, generation, phase) => {
                    let known = Known { generation, phase, reboots: 0, has_run: false };
                    self.memory.insert(key, known);
                }
                Change::Rebooted(key, number) => {
                    self.memory.entry(key).and_modify(|known| known.reboots = number);
                }
                Change::Ran(key) => {
                    self.memory.entry(key).and_modify(|known| known.has_run = true);
                }
                Change::Forgotten(key) => {
                    self.memory.remove(&key);
                }
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(key, generation) => {
                    self.starting.insert((key, generation));
                }
                // Nobody reboots in the model.
                Action::Reboot(..) => {}
                Action::Stop(key, generation) => {
                    self.starting.retain(|(other, g)| *other != key || *g > generation);
                    if self.running.get(&key).is_some_and(|running| *running <= generation) {
                        self.running.remove(&key);
                    }
                }
            }
        }
    }
}
