//! Eventplane under the same faults: the real functions, api, sweeper and agents' decisions, with
//! the template's rules, at the pace of AWS.

use super::bus::Bus;
use super::memory::Memory;
use super::weather::Weather;
use super::{Answer, ControlPlane, Listed, Stand};
use crate::nobody::Nobody;
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use eventplane_agent::host::{Action, Host};
use eventplane_agent::wire::{Assignments, InstanceKey};
use eventplane_api::{Api, Limits, Options};
use eventplane_domain::{State, Tenant};
use eventplane_engine::{Clock, Ports, Receipt};
use eventplane_instances::Record;
use eventplane_keys::{LocalMasterKey, MasterKey};
use eventplane_plane::{TABLES, handlers};
use eventplane_storage::PoolSizes;
use eventplane_store::Key;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

/// As `template.yaml` has it, in milliseconds.
const DEADLINE_MS: i64 = 300_000;
/// How often hosts ask, and report all that they see; how often the sweeper looks.
const POLL: Duration = Duration::from_secs(5);
const POLLS_A_HEARTBEAT: u64 = 6;
const SWEEP: Duration = Duration::from_secs(60);
/// How long an agent waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where an instance runs: the instance, its generation, and the host.
type Running = Mutex<BTreeMap<(InstanceKey, String), u32>>;

pub(crate) struct Eventplane {
    weather: Arc<Weather>,
    store: Arc<Memory>,
    router: Router,
    running: Arc<Running>,
}

impl Eventplane {
    /// A plane with its zones, pools, hosts and sweeper.
    pub(crate) async fn start(weather: Arc<Weather>) -> Arc<Eventplane> {
        let store = Memory::new(TABLES, weather.clone());
        let bus = Bus::new(weather.clone());
        let ports = Ports {
            store: store.clone(),
            bus: bus.clone(),
            clock: weather.clone(),
            chance: weather.clone(),
        };
        let key = LocalMasterKey::from_bytes("chain", [7; 32], weather.clone());
        let master: Arc<dyn MasterKey> = Arc::new(key);
        bus.start(handlers(&ports, &master, DEADLINE_MS));
        let zones = ["a".to_owned()];
        eventplane_network::seed(&*store, &Tenant::local(), &zones).await.expect("seeded");
        let sizes = PoolSizes::default();
        eventplane_storage::seed(&*store, &zones, sizes).await.expect("seeded");
        let router = eventplane_api::router(Api {
            ports: ports.clone(),
            waiter: Arc::new(Nobody),
            dead_letters: Arc::new(Nobody),
            breakers: Arc::new(Nobody),
            archive: None,
            master,
            options: Options { launch_deadline_ms: DEADLINE_MS, ..Options::default() },
            limits: Limits::off(),
        });
        let plane = Eventplane { weather, store, router, running: Arc::default() };
        let plane = Arc::new(plane);
        for host in 0..super::HOSTS {
            let body = json!({
                "host_id": super::host_id(host), "zone": "a", "rack": "r1",
                "vcpus": super::HOST_VCPUS, "memory_mib": 1024 * 1024, "network_mbps": 100_000,
            });
            let sent = send(plane.router.clone(), Method::POST, "/v1/hosts".to_owned(), Some(body));
            let (status, value) = sent.await;
            assert_eq!(status, 200, "{value}");
            tokio::spawn(plane.clone().agent(super::host_id(host)));
        }
        tokio::spawn(plane.clone().sweep(ports));
        plane
    }

    /// One request into the api, over the network; no answer if there comes none.
    async fn send(
        &self,
        method: Method,
        path: String,
        body: Option<Value>,
    ) -> Option<(u16, Value)> {
        let (router, weather) = (self.router.clone(), self.weather.clone());
        let work = async move {
            let sent = send(router, method, path, body);
            weather.until_crash(sent).await
        };
        self.weather.call("api", work).await.ok().flatten()
    }

    async fn sweep(self: Arc<Self>, ports: Ports) {
        loop {
            sleep(SWEEP).await;
            let swept = async {
                // What a sweep could not do, the next one does.
                let _ = eventplane_sweeper::sweep(&ports).await;
                let _ = eventplane_sweeper::watch_hosts(&ports, None).await;
            };
            self.weather.until_crash(swept).await;
        }
    }

    /// The agent of one host. Where that is the fault, its machine is gone the moment it has been
    /// told to start something.
    async fn agent(self: Arc<Self>, id: String) {
        let mut host = Host::default();
        let is_doomed = self.weather.fault == super::Fault::HostLost && id == super::host_id(0);
        for round in 0_u64.. {
            sleep(POLL).await;
            let path = format!("/v1/hosts/{id}/assignments?after={}", host.revision());
            let asked = timeout(PATIENCE, self.send(Method::GET, path, None)).await;
            if let Ok(Some((200, set))) = asked {
                let set: Assignments = serde_json::from_value(set).expect("a wanted set");
                let actions = host.on_wanted(&set, self.weather.now());
                if is_doomed && !actions.is_empty() {
                    return;
                }
                self.act(&id, &mut host, actions).await;
            }
            let late = host.on_deadline(self.weather.now());
            self.act(&id, &mut host, late).await;
            let Some(report) = host.report(round % POLLS_A_HEARTBEAT == 0) else { continue };
            let body = serde_json::to_value(&report).expect("plain data");
            let path = format!("/v1/hosts/{id}/reports");
            let said = timeout(PATIENCE, self.send(Method::POST, path, Some(body))).await;
            if let Ok(Some((200, _))) = said {
                host.on_reported(&report);
            }
        }
    }

    async fn act(&self, id: &str, host: &mut Host, actions: Vec<Action>) {
        if actions.iter().any(|action| matches!(action, Action::Start(..))) {
            sleep(Duration::from_millis(super::START_MS)).await;
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for action in actions {
            match action {
                Action::Start(key, generation) => {
                    if host.on_started(&key, generation) {
                        running.insert((key, id.to_owned()), generation);
                    }
                }
                Action::Stop(key, _) => {
                    running.remove(&(key, id.to_owned()));
                }
                Action::Reboot(..) => {}
            }
        }
    }

    /// How many of the four things that it needs an instance holds.
    fn held(&self, partition: &str) -> usize {
        let items = self.store.items();
        let receipt = |table| {
            let item = items.get(&Key::new(table, partition, "receipt"));
            Receipt::read(item).expect("a receipt")
        };
        let held = [
            receipt("capacity").as_ref().and_then(eventplane_capacity::placement).is_some(),
            receipt("network").as_ref().and_then(eventplane_network::lease).is_some(),
            receipt("storage").is_some_and(|one| !eventplane_storage::volumes(&one).is_empty()),
            receipt("security").as_ref().and_then(eventplane_security::identity).is_some(),
        ];
        held.into_iter().filter(|held| *held).count()
    }
}

#[async_trait]
impl ControlPlane for Eventplane {
    async fn ask(self: Arc<Self>, launch: usize) -> Answer {
        let body = json!({ "instance_type": "t3.micro", "client_token": super::token(launch) });
        match self.send(Method::POST, "/v1/instances".to_owned(), Some(body)).await {
            Some((202, _)) => Answer::Yes,
            Some((400..500, _)) => Answer::No,
            _ => Answer::Unknown,
        }
    }

    fn knows_tokens(&self) -> bool {
        true
    }

    async fn host_is_dead(&self, host: &str) {
        let body = json!({ "state": "dead" });
        let sent = self.send(Method::PUT, format!("/v1/hosts/{host}"), Some(body)).await;
        assert!(sent.is_some_and(|(status, _)| status == 200), "the operator is heard");
    }

    fn sweeps(&self) -> bool {
        true
    }

    fn stands(&self, launches: usize) -> Vec<Stand> {
        let records: Vec<Record> = {
            let items = self.store.items();
            let records = items.iter().filter(|(key, _)| {
                key.table == eventplane_instances::TABLE.name && key.sort == "record"
            });
            records.map(|(_, item)| Record::read(item).expect("a record")).collect()
        };
        let mut stands = vec![Stand::default(); launches];
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let launch = record.token.as_deref().and_then(super::of_token).expect("a launch");
            let stand = &mut stands[launch];
            assert_eq!(stand.listed, None, "one token, two instances");
            stand.listed = Some(match record.progress.state {
                State::Running => Listed::Running,
                State::Terminated => Listed::Ended,
                _ => Listed::Pending,
            });
            stand.held = self.held(&record.tenant.partition(&record.id));
            let here = running.keys().filter(|(key, _)| key.instance_id == record.id);
            stand.running = here.count();
            stand.since = record.running_at;
        }
        stands
    }
}

/// Sends a request into the api; a status and a value.
async fn send(router: Router, method: Method, path: String, body: Option<Value>) -> (u16, Value) {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).body(Body::from(body));
    let Ok(response) = router.oneshot(request.expect("a request")).await;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
