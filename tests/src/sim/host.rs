//! A simulated host: the real agent's decisions, with one call of the api after the other.

use super::chaos::Chaos;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use eventplane_agent::host::{Action, Host};
use eventplane_agent::wire::{Assignments, InstanceKey};
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
    starting: BTreeSet<(InstanceKey, u32)>,
    pub(crate) running: BTreeMap<InstanceKey, u32>,
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
        self.machine().start_up();
        let revision = self.machine().agent.revision();
        let path = format!("/v1/hosts/{}/assignments?after={revision}", self.id);
        let (status, set) = send(&router, Method::GET, &path, None).await;
        if status == 200 {
            let set: Assignments = serde_json::from_value(set).expect("a wanted set");
            let mut machine = self.machine();
            let actions = machine.agent.on_wanted(&set, chaos.now());
            machine.act(actions);
        }
        {
            let mut machine = self.machine();
            let actions = machine.agent.on_deadline(chaos.now());
            machine.act(actions);
        }
        chaos.pause().await;
        let complete = chaos.draws(4);
        let report = self.machine().agent.report(complete);
        let Some(report) = report else { return };
        let body = serde_json::to_value(&report).expect("plain data");
        let path = format!("/v1/hosts/{}/reports", self.id);
        let (status, _) = send(&router, Method::POST, &path, Some(body)).await;
        if status == 200 {
            self.machine().agent.on_reported(&report);
        }
    }
}

impl Machine {
    fn start_up(&mut self) {
        for (key, generation) in std::mem::take(&mut self.starting) {
            if self.agent.on_started(&key, generation) {
                self.running.insert(key, generation);
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(key, generation) => {
                    self.starting.insert((key, generation));
                }
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

/// Sends a request into the api; a status and a value.
pub(crate) async fn send(
    router: &Router,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).body(Body::from(body));
    let Ok(response) = router.clone().oneshot(request.expect("a request")).await;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
