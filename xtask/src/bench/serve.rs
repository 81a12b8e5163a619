//! The server that is measured, a process of its own: a plane on a data directory, and a gateway
//! that answers a launch when it runs.

use anyhow::{Context, Result, ensure};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Args;
use eventplane_agent::{Answer, FleetOptions, HostSize, InProcess, Method, Transport};
use eventplane_plane::{Plane, PlaneOptions};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

/// What the server prints once the plane answers, before the plane's address.
pub(super) const READY: &str = "ready at ";
/// What it prints once the gateway answers too, before the gateway's address.
pub(super) const GATEWAY: &str = "gateway at ";
/// What it prints once all of its hosts have registered.
pub(super) const REGISTERED: &str = "all hosts are registered";

/// The zones, in the order in which a launch numbers them.
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
/// Every host.
const HOST: HostSize = HostSize { vcpus: 128, memory_mib: 512 * 1024, network_mbps: 50_000 };
/// Each has 4,096 addresses, so that one zone's hosts can be filled.
const SUBNETS_PER_ZONE: usize = 16;
/// The one size of instances.
const INSTANCE_TYPE: &str = "t3.medium";
const VCPUS: u32 = 2;
const MEMORY_MIB: u32 = 4096;
/// How often a state is waited for, each time as long as the api allows.
const WAITS_MAX: usize = 4;

/// The options of the server.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where the plane keeps its memory.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// The port of the gateway on loopback; 0 for one that is free.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// How many simulated hosts there are.
    #[arg(long, default_value_t = 1_000)]
    pub hosts: usize,
}

struct Gateway {
    plane: Plane,
    api: InProcess,
    /// By zone.
    subnets: Vec<Vec<String>>,
    launches: AtomicUsize,
}

/// A launch as the peers' load generator asks for it.
#[derive(Deserialize)]
struct Asked {
    zone: usize,
    vcpus: u32,
    memory_mib: u32,
}

type Answered = Result<Json<Value>, (StatusCode, String)>;

/// Serves until the process is killed.
///
/// # Errors
/// When the plane does not start, or something else goes wrong on the way to the first request.
pub async fn serve(options: Serve) -> Result<()> {
    let fleet = FleetOptions {
        hosts: options.hosts,
        size: Some(HOST),
        start_ms: (0, 0),
        ..FleetOptions::default()
    };
    let zones = ZONES.map(str::to_owned).to_vec();
    let plane = Plane::start(PlaneOptions {
        data_dir: Some(options.data_dir),
        zones,
        fleet,
        ..PlaneOptions::default()
    })
    .await?;
    say(&format!("{READY}{}", plane.address()));
    let api = InProcess(plane.router());
    let subnets = subnets(&api).await?;
    let gateway = Arc::new(Gateway { plane, api, subnets, launches: AtomicUsize::new(0) });
    let routes = Router::new()
        .route("/launch", post(launch))
        .route("/launch-and-terminate", post(launch_and_terminate))
        .route("/stats", get(stats))
        .with_state(gateway.clone());
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    say(&format!("{GATEWAY}{}", listener.local_addr()?));
    tokio::spawn(async move {
        if gateway.plane.fleet().registered(Duration::from_secs(120)).await {
            say(REGISTERED);
        }
    });
    axum::serve(
        axum::serve::ListenerExt::tap_io(listener, |stream| {
            // A late answer is measured as one; there is nobody to tell.
            let _ = stream.set_nodelay(true);
        }),
        routes,
    )
    .await?;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "this is how the process that started it hears of it")]
fn say(line: &str) {
    println!("{line}");
}

/// The subnets of each zone: those that an earlier process made, or new ones.
async fn subnets(api: &InProcess) -> Result<Vec<Vec<String>>> {
    let found = subnets_found(api).await?;
    if found.iter().all(|ids| ids.len() == SUBNETS_PER_ZONE) {
        return Ok(found);
    }
    for (zone, name) in ZONES.iter().enumerate() {
        for number in 0..SUBNETS_PER_ZONE {
            let cidr = format!("10.{zone}.{}.0/20", number * 16);
            let body = json!({ "zone": name, "cidr_block": cidr });
            api.send(Method::POST, "/v1/subnets", Some(body.to_string().into_bytes())).await?;
        }
    }
    let found = subnets_found(api).await?;
    ensure!(found.iter().all(|ids| ids.len() == SUBNETS_PER_ZONE), "not all subnets: {found:?}");
    Ok(found)
}

/// The subnets of each zone, without the default ones.
async fn subnets_found(api: &InProcess) -> Result<Vec<Vec<String>>> {
    let mut found = vec![Vec::new(); ZONES.len()];
    let listed: Value = api.send(Method::GET, "/v1/subnets", None).await?.json()?;
    for subnet in listed["subnets"].as_array().context("a list of subnets")? {
        let zone = ZONES.iter().position(|name| subnet["zone"] == *name);
        if let (Some(zone), Some(id)) = (zone, subnet["subnet_id"].as_str())
            && subnet["default_for_zone"] == false
        {
            found[zone].push(id.to_owned());
        }
    }
    Ok(found)
}

fn failed(status: StatusCode, message: impl ToString) -> (StatusCode, String) {
    (status, message.to_string())
}

impl Gateway {
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, (StatusCode, String)> {
        let body = body.map(|body| body.to_string().into_bytes());
        let answer = self.api.send(method, path, body).await;
        let answer: Answer = answer.map_err(|error| failed(StatusCode::BAD_GATEWAY, error))?;
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
        if !answer.is_success() {
            return Err(failed(status, String::from_utf8_lossy(&answer.body)));
        }
        answer.json().map_err(|error| failed(StatusCode::BAD_GATEWAY, error))
    }

    async fn launch(&self, token: &str, asked: &Asked) -> Result<Value, (StatusCode, String)> {
        let zone = ZONES.get(asked.zone).zip(self.subnets.get(asked.zone));
        let Some((zone, subnets)) = zone else {
            return Err(failed(StatusCode::BAD_REQUEST, "`zone` is 0, 1 or 2"));
        };
        if (asked.vcpus, asked.memory_mib) != (VCPUS, MEMORY_MIB) {
            let message = format!("`vcpus` is {VCPUS}, and `memory_mib` {MEMORY_MIB}");
            return Err(failed(StatusCode::BAD_REQUEST, message));
        }
        // The same token has to name the same subnet, so the token chooses it.
        let sum: usize = token.bytes().map(usize::from).sum();
        let subnet = &subnets[sum % subnets.len()];
        self.launches.fetch_add(1, Ordering::Relaxed);
        let body = json!({
            "instance_type": INSTANCE_TYPE, "zone": zone, "subnet_id": subnet, "client_token": token,
        });
        let launched = self.send(Method::POST, "/v1/instances", Some(body)).await?;
        let id = launched["instances"][0]["instance_id"].as_str().unwrap_or_default();
        self.until(id, "running").await
    }

    async fn until(&self, id: &str, state: &str) -> Result<Value, (StatusCode, String)> {
        let path = format!("/v1/instances/{id}?until={state}&wait=30");
        for _ in 0..WAITS_MAX {
            let shown = self.send(Method::GET, &path, None).await?;
            if shown["state"] == state {
                return Ok(shown);
            }
            if shown["state"] == "terminated" {
                return Err(failed(StatusCode::CONFLICT, shown));
            }
        }
        Err(failed(StatusCode::GATEWAY_TIMEOUT, format!("{id} is not {state}")))
    }
}

fn token(headers: &HeaderMap) -> Result<&str, (StatusCode, String)> {
    let token = headers.get("idempotency-key").and_then(|token| token.to_str().ok());
    token.ok_or_else(|| failed(StatusCode::BAD_REQUEST, "the header `idempotency-key` is missing"))
}

async fn launch(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Json(asked): Json<Asked>,
) -> Answered {
    let shown = gateway.launch(token(&headers)?, &asked).await?;
    let host = shown["placement"]["host"].as_str().unwrap_or_default();
    let number = host.rsplit('-').next().and_then(|number| number.parse::<u32>().ok());
    Ok(Json(json!({
        "instance_id": shown["instance_id"],
        "host": number,
        "ip": shown["private_ip"],
        "state": "RUNNING",
    })))
}

/// The whole life of an instance: history for the store, with nothing held at its end.
async fn launch_and_terminate(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    Json(asked): Json<Asked>,
) -> Answered {
    let shown = gateway.launch(token(&headers)?, &asked).await?;
    let id = shown["instance_id"].as_str().unwrap_or_default();
    gateway.send(Method::DELETE, &format!("/v1/instances/{id}"), None).await?;
    gateway.until(id, "terminated").await.map(Json)
}

/// The books, and what the store and the bus have done.
async fn stats(State(gateway): State<Arc<Gateway>>) -> Answered {
    let capacity = gateway.send(Method::GET, "/v1/capacity", None).await?;
    let store = gateway.plane.store().stats();
    let bus = gateway.plane.bus().stats();
    let fleet = gateway.plane.fleet().stats();
    let waiting: usize = bus.functions.iter().map(|f| f.queued + f.in_flight).sum();
    let dead: u64 = bus.functions.iter().map(|f| f.dead).sum();
    Ok(Json(json!({
        "capacity": capacity,
        "launches": gateway.launches.load(Ordering::Relaxed),
        "transactions": store.transactions,
        "commits": store.groups,
        "items_written": store.items_written,
        "reads": store.reads,
        "write_units": store.write_units,
        "events": bus.published,
        "deliveries": bus.deliveries,
        "waiting": waiting,
        "dead_letters": dead,
        "polls": fleet.polls,
        "reports": fleet.reports,
        "failed_requests_of_hosts": fleet.failed,
    })))
}
