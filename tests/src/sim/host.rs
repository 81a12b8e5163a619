//! A simulated host: the real agent's decisions, with one call of the api after the other.

use super::chaos::Chaos;
use super::fault::Kind;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use eventplane_agent::host::{Action, Change, Host, Known, Phase};
use eventplane_agent::wire::{Assignments, InstanceKey};
use eventplane_domain::{Reason, Tenant, code};
use eventplane_engine::Clock;
use http_body_util::BodyExt;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tower::ServiceExt;

/// What a host remembers, and what runs on it whether its agent lives or not.
#[derive(Default)]
pub(crate) struct Machine {
    agent: Host,
    /// What is on its disk, for an agent that is started anew.
    memory: BTreeMap<InstanceKey, Known>,
    starting: BTreeSet<(InstanceKey, u32)>,
    pub(crate) running: BTreeMap<InstanceKey, u32>,
    /// All that has ever run on it.
    pub(crate) ran: BTreeSet<InstanceKey>,
    pub(crate) life: Life,
}

/// Whether a machine is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Life {
    #[default]
    Alive,
    /// It is gone, with all that ran on it.
    Gone,
    /// It is gone, and its operator's word was taken.
    SaidDead,
}

pub(crate) struct SimHost {
    pub(crate) id: String,
    machine: Mutex<Machine>,
}

impl SimHost {
    pub(crate) fn new(id: String) -> Arc<Self> {
        Arc::new(SimHost { id, machine: Mutex::default() })
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One round of its agent: what is started has started, the wanted set is asked for and acted
    /// on, and what is seen is reported. The agent may die at any call.
    pub(crate) async fn round(self: Arc<Self>, router: Router, chaos: Arc<Chaos>) {
        if self.machine().life != Life::Alive {
            return;
        }
        self.machine().start_up(&chaos, &self.id);
        let is_cut_off = chaos.in_window(Kind::HostSilent, &self.id);
        let revision = self.machine().agent.revision();
        let path = format!("/v1/hosts/{}/assignments?after={revision}", self.id);
        let wanted = match is_cut_off {
            true => None,
            false => Some(send(&router, Method::GET, &path, None, None).await),
        };
        if let Some((200, set)) = wanted {
            let set: Assignments = serde_json::from_value(set).expect("a wanted set");
            let mut machine = self.machine();
            let actions = machine.agent.on_wanted(&set, chaos.now());
            machine.remember();
            machine.act(actions, &chaos, &self.id);
        }
        {
            let mut machine = self.machine();
            let actions = machine.agent.on_deadline(chaos.now());
            machine.remember();
            machine.act(actions, &chaos, &self.id);
        }
        chaos.pause().await;
        let complete = chaos.draws(4);
        let report = self.machine().agent.report(complete).filter(|_| !is_cut_off);
        let Some(report) = report else { return };
        let body = serde_json::to_value(&report).expect("plain data");
        let path = format!("/v1/hosts/{}/reports", self.id);
        let (status, _) = send(&router, Method::POST, &path, Some(body), None).await;
        if status == 200 {
            self.machine().agent.on_reported(&report);
        }
    }
}

impl Machine {
    /// What is being started has started, or cannot; and now and then one that runs ends.
    fn start_up(&mut self, chaos: &Chaos, host: &str) {
        for (key, generation) in std::mem::take(&mut self.starting) {
            let id = &key.instance_id;
            if chaos.strikes(Kind::StartFails, 6) {
                chaos.tell(|| format!("{host} cannot start {id} g{generation}"));
                self.agent.on_ended(&key, generation, Reason::new(code::INTERNAL, "it will not"));
            } else if self.agent.on_started(&key, generation) {
                chaos.tell(|| format!("{host} runs {id} g{generation}"));
                chaos.count(RUNS, host);
                self.ran.insert(key.clone());
                self.running.insert(key, generation);
            }
        }
        if !self.running.is_empty() && chaos.strikes(Kind::EndsItself, 15) {
            let drawn = chaos.of_kind(Kind::EndsItself, self.running.len());
            let (key, generation) = self.running.iter().nth(drawn).expect("it is there");
            let (key, generation) = (key.clone(), *generation);
            chaos.tell(|| format!("{} g{generation} on {host} ends by itself", key.instance_id));
            self.running.remove(&key);
            let reason = Reason::new(code::INSTANCE_SHUTDOWN, "it shut itself down");
            self.agent.on_ended(&key, generation, reason);
        }
        self.remember();
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

    /// Its agent is killed and started again: what runs runs on.
    pub(crate) fn restart_agent(&mut self) {
        self.starting.clear();
        let known = self.memory.iter().map(|(key, known)| (key.clone(), *known));
        self.agent = Host::remembering(known);
    }

    /// The whole machine is gone, and with it all that ran on it and what it remembered.
    pub(crate) fn die(&mut self) {
        let ran = std::mem::take(&mut self.ran);
        *self = Machine { life: Life::Gone, ran, ..Machine::default() };
    }

    fn act(&mut self, actions: Vec<Action>, chaos: &Chaos, host: &str) {
        for action in actions {
            match action {
                Action::Start(key, generation) => {
                    self.starting.insert((key, generation));
                }
                Action::Reboot(key, generation) => {
                    chaos.tell(|| format!("{host} reboots {} g{generation}", key.instance_id));
                    assert_eq!(self.running.get(&key), Some(&generation), "only what runs");
                }
                Action::Stop(key, generation) => {
                    self.starting.retain(|(other, g)| *other != key || *g > generation);
                    if self.running.get(&key).is_some_and(|running| *running <= generation) {
                        chaos.tell(|| format!("{host} stops {} g{generation}", key.instance_id));
                        let is_alone = chaos.in_any_window(Kind::PlaneGone);
                        assert!(!is_alone, "{} stopped without the plane", key.instance_id);
                        self.running.remove(&key);
                    }
                }
            }
        }
    }
}

/// What is counted of hosts: instances that have come to run.
pub(crate) const RUNS: &str = "runs";

/// Sends a request into the api, as this tenant, or as an operator or agent; a status and a value.
/// Who runs the plane, and its hosts, are no tenants.
pub(crate) async fn send(
    router: &Router,
    method: Method,
    path: &str,
    body: Option<Value>,
    tenant: Option<&Tenant>,
) -> (u16, Value) {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).body(Body::from(body));
    let mut request = request.expect("a request");
    if let Some(tenant) = tenant {
        request.extensions_mut().insert(Some(tenant.clone()));
    }
    let Ok(response) = router.clone().oneshot(request).await;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
