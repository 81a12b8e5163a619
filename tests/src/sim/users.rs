//! What users and operators ask, and what befalls functions, hosts and the store for a while.

use super::fault::{Kind, Profile};
use super::host::{Life, send};
use super::world::{HOSTS, Task, What, World};
use axum::http::Method;
use eventplane_domain::{State, Tenant};
use eventplane_instances::Record;
use serde_json::{Value, json};

/// How long trouble lasts, in milliseconds: short enough that launches outlive it, or once in so
/// many times as long as the kind says.
const SHORT_MS: usize = 2_000;
const LONG_ONE_IN: usize = 5;
const MINUTE_MS: i64 = 60_000;
/// How long somebody waits before asking again, in milliseconds.
const ASKS_AGAIN_MS: i64 = 200;

/// A request of a user.
struct Ask {
    method: Method,
    path: String,
    body: Option<Value>,
    tenant: Tenant,
}

impl World<'_> {
    /// A user launches, launches again with the same token, or asks something of an instance,
    /// whether it may be asked of it now or not.
    pub(super) fn ask_something(&mut self) {
        let launch = self.chaos().below(self.setup.launches);
        let Some(id) = self.launched().get(&launch).cloned() else {
            if self.asks(launch, "launch") {
                self.launch(launch);
            }
            return;
        };
        let path = format!("/v1/instances/{id}");
        if self.chaos().may(Kind::Mistakes) && self.chaos().of_kind(Kind::Mistakes, 6) == 0 {
            return self.make_a_mistake(launch, path);
        }
        let tenant = self.tenant_of(launch).0.clone();
        let verb = match self.chaos().below(40) {
            0..=3 => "launch",
            4 => "terminate",
            5..=14 => "stop",
            15..=32 => "start",
            33..=36 if self.setup.profile == Profile::H => "terminate",
            _ => "reboot",
        };
        if !self.asks(launch, verb) {
            return;
        }
        let (method, path) = match verb {
            "launch" => return self.launch(launch),
            "terminate" => (Method::DELETE, path),
            verb => (Method::POST, format!("{path}/{verb}")),
        };
        self.ask(Ask { method, path, body: None, tenant });
    }

    /// Whether a user asks this: again, or only if it was not asked before.
    fn asks(&mut self, launch: usize, what: &'static str) -> bool {
        self.asked.insert((launch, what)) || !self.asks_once
    }

    /// Whose launch this is, and the subnet and the address that it asks for if addresses are
    /// scarce.
    pub(super) fn tenant_of(&self, launch: usize) -> &(Tenant, String, String) {
        let tenants = &self.stage.tenants;
        &tenants[usize::from(launch % 3 == 2) % tenants.len()]
    }

    fn body_of(&self, launch: usize) -> Value {
        let mut body = json!({
            "instance_type": "t3.micro",
            "client_token": format!("token-{launch}"),
        });
        if launch.is_multiple_of(2) {
            body["role"] = "reader".into();
        }
        if self.setup.kinds.has(Kind::Scarce) {
            let (_, subnet, address) = self.tenant_of(launch);
            body["subnet_id"] = subnet.as_str().into();
            body["private_ip"] = address.as_str().into();
        }
        body
    }

    pub(super) fn launch(&mut self, launch: usize) {
        let tenant = self.tenant_of(launch).0.clone();
        let (router, ids, chaos) =
            (self.router.clone(), self.ids.clone(), self.stage.chaos.clone());
        let body = self.body_of(launch);
        let request = async move {
            let path = "/v1/instances";
            // Whoever is told that it may not have been done asks again.
            let (status, value) = loop {
                let answer =
                    send(&router, Method::POST, path, Some(body.clone()), Some(&tenant)).await;
                if answer.0 < 500 {
                    break answer;
                }
                chaos.sleep(ASKS_AGAIN_MS).await;
            };
            if value["error"]["code"] == "IdempotentInstanceTerminated" {
                let id = ids.lock().expect("no panic").get(&launch).cloned();
                return chaos.tell(|| format!("launch {launch}, {id:?}, has ended"));
            }
            assert_eq!(status, 202, "launch {launch}: {value}");
            let id = value["instances"][0]["instance_id"].as_str().expect("an id").to_owned();
            chaos.tell(|| format!("launch {launch} is answered with {id}"));
            let before = ids.lock().expect("no panic").insert(launch, id.clone());
            assert!(before.is_none_or(|before| before == id), "one token, two instances");
        };
        self.begin("api", What::Client(Box::pin(request)));
    }

    /// A user asks, and asks again until it is answered.
    fn ask(&mut self, ask: Ask) {
        let (router, chaos) = (self.router.clone(), self.stage.chaos.clone());
        let Ask { method, path, body, tenant } = ask;
        let request = async move {
            loop {
                let (status, _) =
                    send(&router, method.clone(), &path, body.clone(), Some(&tenant)).await;
                if status < 500 {
                    return chaos.tell(|| format!("{method} {path} is answered with {status}"));
                }
                chaos.sleep(ASKS_AGAIN_MS).await;
            }
        };
        self.begin("api", What::Client(Box::pin(request)));
    }

    /// Terminates all, also what was launched and never answered.
    pub(super) fn terminate_all(&mut self) {
        self.ask_of_all(Method::DELETE, "", |_| true);
    }

    /// Starts all that is stopped.
    pub(super) fn start_all(&mut self) {
        self.ask_of_all(Method::POST, "/start", |state| state == State::Stopped);
    }

    fn ask_of_all(&mut self, method: Method, verb: &str, is_asked: impl Fn(State) -> bool) {
        let asks = |(_, record): (&String, &Record)| {
            is_asked(record.progress.state).then(|| Ask {
                method: method.clone(),
                path: format!("/v1/instances/{}{verb}", record.id),
                body: None,
                tenant: record.tenant.clone(),
            })
        };
        let all: Vec<Ask> = self.checker.records().filter_map(asks).collect();
        all.into_iter().for_each(|ask| self.ask(ask));
    }

    /// A user names another one's instance, or uses a token for something else than before: both
    /// are refused, and nothing comes of it.
    fn make_a_mistake(&mut self, launch: usize, path: String) {
        let tenants = &self.stage.tenants;
        let owner = self.tenant_of(launch).0.clone();
        let (method, path, body, tenant, expected) = if self.chaos().draws(2) {
            let other = tenants.iter().map(|one| &one.0).find(|tenant| **tenant != owner);
            (Method::DELETE, path, None, other.expect("another tenant").clone(), 404)
        } else {
            let mut body = self.body_of(launch);
            body["instance_type"] = "t3.small".into();
            (Method::POST, "/v1/instances".to_owned(), Some(body), owner, 409)
        };
        self.chaos().count(Kind::Mistakes.name(), if expected == 404 { "tenant" } else { "token" });
        let router = self.router.clone();
        let request = async move {
            let (status, value) = send(&router, method, &path, body, Some(&tenant)).await;
            assert!(status == expected || status >= 500, "{path} by {tenant}: {status} {value}");
        };
        self.begin("api", What::Client(Box::pin(request)));
    }

    /// Something goes wrong that lasts a while, or that befalls a host.
    pub(super) fn trouble_something(&mut self) {
        const LASTS: [Kind; 17] = [
            Kind::HostDies,
            Kind::AgentRestarts,
            Kind::HostSilent,
            Kind::Throttled,
            Kind::PublishThrottled,
            Kind::RuleGone,
            Kind::NoPermission,
            Kind::StuckGiveBack,
            Kind::HotKey,
            Kind::Conflicts,
            Kind::StoreDown,
            Kind::LateIndex,
            Kind::SweeperDown,
            Kind::PlaneGone,
            Kind::Poison,
            Kind::Redrive,
            Kind::ManyRefused,
        ];
        let may: Vec<Kind> = LASTS.into_iter().filter(|kind| self.chaos().may(*kind)).collect();
        if may.is_empty() {
            return;
        }
        let kind = may[self.chaos().below(may.len())];
        let minutes = match kind {
            Kind::HostDies | Kind::AgentRestarts => return self.trouble_a_host(kind),
            Kind::PlaneGone => return self.plane_dies(),
            Kind::Poison => return self.stage.bus.put_poison(),
            Kind::ManyRefused => return,
            Kind::Redrive => {
                self.stage.bus.redrive_all(2);
                return;
            }
            Kind::Throttled => 60,
            Kind::HostSilent | Kind::StuckGiveBack => 30,
            Kind::HotKey | Kind::Conflicts => 1,
            Kind::StoreDown if self.chaos().draws(4) => 180,
            Kind::StoreDown => 5,
            Kind::SweeperDown => 120,
            _ => 10,
        };
        let for_ms = match self.chaos().draws(LONG_ONE_IN) {
            true => minutes * MINUTE_MS,
            false => 1 + self.chaos().below(SHORT_MS) as i64,
        };
        let target = self.target_of(kind);
        if matches!(kind, Kind::Throttled | Kind::HostSilent | Kind::LateIndex | Kind::SweeperDown)
        {
            self.chaos().struck(kind, &target);
        }
        self.chaos().open_window(kind, &target, for_ms);
    }

    /// What trouble of this kind befalls: a function, a host, an instance, or all.
    fn target_of(&self, kind: Kind) -> String {
        let functions = self.stage.bus.functions();
        match kind {
            Kind::Throttled | Kind::RuleGone | Kind::NoPermission | Kind::StuckGiveBack => {
                functions[self.chaos().below(functions.len())].to_owned()
            }
            Kind::HostSilent => format!("host-{}", self.chaos().below(HOSTS)),
            Kind::HotKey => {
                let ids: Vec<String> = self.launched().into_values().collect();
                match ids.get(self.chaos().below(ids.len() + 1)) {
                    Some(id) => id.clone(),
                    None => format!("@host/host-{}", self.chaos().below(HOSTS)),
                }
            }
            _ => String::new(),
        }
    }

    /// An agent is killed and started again; or a host is gone, and its operator says so; or a new
    /// machine takes its place, once the operator's word was taken and nothing is left of the old
    /// one. An operator says one thing after the other.
    fn trouble_a_host(&mut self, kind: Kind) {
        let host = self.chaos().below(HOSTS);
        let machine = self.hosts[host].clone();
        let is_of_it = |task: &Task| matches!(task.what, What::Agent(busy, _) if busy == host);
        let life = machine.machine().life;
        match (life, kind) {
            (Life::Alive, Kind::AgentRestarts) => {
                self.tasks.retain(|task| !is_of_it(task));
                self.chaos().struck(kind, &machine.id);
                machine.machine().restart_agent();
            }
            (Life::Alive, _) => {
                self.tasks.retain(|task| !is_of_it(task));
                self.chaos().struck(kind, &machine.id);
                machine.machine().die();
                self.say_of(host, "dead");
            }
            (Life::Gone, _) => self.say_of(host, "dead"),
            (Life::SaidDead, _) => self.say_of(host, "active"),
        }
    }
}
