//! A plane under more than it can take: quotas under concurrency, the rules of its modes, and fair
//! shares between tenants. What the clock has to decide, the test's own clock does.

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use eventplane_cost::counts::{Count, least};
use eventplane_domain::{InstanceId, Millis, Tenant};
use eventplane_engine::{Clock, Fault, Ports, Publisher, Receipt, SystemClock};
use eventplane_events::Entry;
use eventplane_instances::{NUDGE_AFTER_MS, Standing, mode_key};
use eventplane_local::bus::BusOptions;
use eventplane_plane::{LimitSettings, Plane, PlaneOptions};
use eventplane_store::Store;
use eventplane_sweeper::{Lately, sweep_and_judge};
use eventplane_tests::site::{Site, options};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// How often something is looked for, 20 ms apart.
const LOOKS_MAX: usize = 1_500;

/// A clock that stands still until it is moved, or that moves a millisecond with every look.
struct Moved {
    ms: AtomicI64,
    each_look_ms: i64,
}

impl Moved {
    fn new(each_look_ms: i64) -> Arc<Moved> {
        Arc::new(Moved { ms: AtomicI64::new(SystemClock.now().0), each_look_ms })
    }
    fn pass(&self, ms: i64) {
        self.ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Moved {
    fn now(&self) -> Millis {
        Millis(self.ms.fetch_add(self.each_look_ms, Ordering::SeqCst))
    }
}

fn limited(hosts: usize, limits: &str) -> PlaneOptions {
    let limits = LimitSettings::parse(limits).expect("limits");
    PlaneOptions { limits, ..options(hosts) }
}

async fn by_clock(options: PlaneOptions, clock: Arc<Moved>) -> Site {
    let plane = Plane::start_by(options, clock).await.expect("the plane starts");
    assert!(plane.fleet().registered(Duration::from_secs(60)).await, "all hosts register");
    Site { plane }
}

async fn launches(site: &Site, count: u32) -> (StatusCode, Value) {
    let asked = json!({ "instance_type": "t3.micro", "count": count });
    site.send(Method::POST, "/v1/instances", Some(asked)).await
}

fn ids(answer: &Value) -> Vec<String> {
    let all = answer["instances"].as_array().expect("instances").iter();
    all.map(|one| one["instance_id"].as_str().expect("an id").to_owned()).collect()
}

async fn used(site: &Site, name: &str) -> i64 {
    let limits = site.get("/v1/limits").await;
    let quotas = limits["quotas"].as_array().expect("quotas");
    let of = quotas.iter().find(|of| of["name"] == name).expect("a quota");
    of["used"].as_i64().expect("a number")
}

/// Terminates these, and waits until they hold nothing.
async fn end(site: &Site, ids: &[String]) {
    for id in ids {
        site.terminate(id).await;
    }
    for id in ids {
        site.until(id, "terminated").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_refused_what_the_quota_would_refuse() {
    let site = Site::start(limited(3, "instances=2")).await;
    let dry =
        |count: u32| Some(json!({ "instance_type": "t3.micro", "count": count, "dry_run": true }));
    for (count, code) in [(2, "DryRunOperation"), (3, "InstanceLimitExceeded")] {
        let (_, answer) = site.send(Method::POST, "/v1/instances", dry(count)).await;
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
    let (status, _) = launches(&site, 2).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (_, answer) = site.send(Method::POST, "/v1/instances", dry(1)).await;
    assert_eq!(answer["error"]["code"], "InstanceLimitExceeded", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_launches_at_once_get_what_the_quota_has_and_terminations_give_it_back() {
    let site = Arc::new(Site::start(limited(6, "instances=8")).await);
    let mut asked = JoinSet::new();
    for _ in 0..20 {
        let site = site.clone();
        asked.spawn(async move { launches(&site, 1).await });
    }
    let (mut launched, mut refused) = (Vec::new(), 0);
    while let Some(answer) = asked.join_next().await {
        match answer.expect("no panic") {
            (StatusCode::ACCEPTED, answer) => launched.extend(ids(&answer)),
            (status, answer) => {
                assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
                assert_eq!(answer["error"]["code"], "InstanceLimitExceeded");
                refused += 1;
            }
        }
    }
    assert_eq!((launched.len(), refused, used(&site, "instances").await), (8, 12, 8));
    // One goes, and then another goes twice: each frees one, and only once.
    end(&site, &launched[..1]).await;
    end(&site, &launched[1..2]).await;
    site.terminate(&launched[1]).await;
    assert_eq!(launches(&site, 3).await.0, StatusCode::BAD_REQUEST, "all or nothing");
    let (status, answer) = launches(&site, 2).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    assert_eq!(launches(&site, 1).await.0, StatusCode::BAD_REQUEST);
    launched.extend(ids(&answer));
    end(&site, &launched[2..]).await;
    assert_eq!((used(&site, "instances").await, used(&site, "vcpus").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_fails_gives_back_what_it_was_counted_for() {
    // No host has room for any: there is none.
    let site = Site::start(limited(0, "instances=1")).await;
    for _ in 0..3 {
        let (status, answer) = launches(&site, 1).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        site.until(&ids(&answer)[0], "terminated").await;
    }
    assert_eq!(used(&site, "instances").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_that_come_and_go_leave_the_counter_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let start = async |limits: &str| {
        let data_dir = Some(dir.path().to_owned());
        Site::start(PlaneOptions { data_dir, ..limited(3, limits) }).await
    };
    let site = start("off").await;
    let before = site.launch_micro().await;
    assert_eq!(used(&site, "instances").await, 0, "nothing is counted while nothing is limited");
    site.plane.shutdown().await;
    let site = start("instances=1").await;
    let counted = site.launch_micro().await;
    assert_eq!(launches(&site, 1).await.0, StatusCode::BAD_REQUEST);
    end(&site, &[before]).await;
    assert_eq!(used(&site, "instances").await, 1, "it was never counted");
    assert_eq!(launches(&site, 1).await.0, StatusCode::BAD_REQUEST);
    site.plane.shutdown().await;
    let site = start("off").await;
    end(&site, &[counted]).await;
    assert_eq!(used(&site, "instances").await, 0, "it was, and is given back though nobody asks");
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_gives_what_it_holds_and_no_more_however_many_ask_at_once() {
    let site = Arc::new(by_clock(limited(6, "RunInstances=7/1"), Moved::new(0)).await);
    let mut asked = JoinSet::new();
    for _ in 0..20 {
        let site = site.clone();
        asked.spawn(async move { launches(&site, 1).await.0 });
    }
    let answers = asked.join_all().await;
    let mut launched = answers.iter().filter(|status| **status == StatusCode::ACCEPTED).count();
    // Who met too many others was refused, and may come again.
    while launches(&site, 1).await.0 == StatusCode::ACCEPTED {
        launched += 1;
    }
    assert_eq!(launched, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn launches_are_shed_while_every_running_instance_can_be_terminated() {
    let site = by_clock(limited(6, "shed=2/1"), Moved::new(0)).await;
    let (_, answer) = launches(&site, 10).await;
    let running = ids(&answer);
    for id in &running {
        site.until(id, "running").await;
    }
    let shedding = json!({ "mode": "shedding", "reason": "a drill" });
    let (status, mode) = site.send(Method::PUT, "/v1/mode", Some(shedding)).await;
    assert_eq!((status, &mode["mode"]), (StatusCode::OK, &json!("shedding")));
    let mut launched = Vec::new();
    for _ in 0..12 {
        let (status, answer) = launches(&site, 1).await;
        match status {
            StatusCode::ACCEPTED => launched.extend(ids(&answer)),
            status => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
                assert_eq!(answer["error"]["code"], "RequestLimitExceeded");
            }
        }
    }
    assert_eq!(launched.len(), 2, "as many as the plane lets through at once");
    end(&site, &running).await;
    site.until(&launched[0], "running").await;
}

/// The mode as it is stored, once it is `mode`.
async fn until_mode(site: &Site, mode: &str) -> Standing {
    let mut last = None;
    for _ in 0..LOOKS_MAX {
        let item = site.plane.store().get(&mode_key()).await.expect("a store");
        last = item.map(|item| Standing::read(&item).expect("a mode"));
        if let Some(standing) = last.as_ref().filter(|standing| standing.mode.name() == mode) {
            return standing.clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the plane is never {mode}: {last:?}");
}

/// Waits until the sweeper has published so many more requests.
async fn until_nudged(site: &Site, published: u64, more: u64) {
    for _ in 0..LOOKS_MAX {
        if site.plane.bus().stats().published >= published + more {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing was nudged: {:?}", site.plane.bus().stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_step_makes_the_plane_shed_launches_and_mending_it_ends_that() {
    let clock = Moved::new(0);
    let options = PlaneOptions { launch_deadline_ms: 3_600_000, ..limited(6, "modes=on,shed=1/1") };
    let site = by_clock(options, clock.clone()).await;
    assert_eq!(site.get("/health").await["mode"], "normal");
    site.plane.bus().pause("capacity");
    let (_, answer) = launches(&site, 25).await;
    let late = ids(&answer);
    // They are late, and nudged: that may have been all that they needed.
    let published = site.plane.bus().stats().published;
    clock.pass(NUDGE_AFTER_MS);
    until_nudged(&site, published, 25).await;
    assert_eq!(site.get("/health").await["mode"], "normal");
    // They are late again.
    clock.pass(NUDGE_AFTER_MS);
    let shedding = until_mode(&site, "shedding").await;
    assert_eq!((shedding.is_set, shedding.since), (false, clock.now()));
    assert!(shedding.reason.starts_with("25 instances are late"), "{}", shedding.reason);
    clock.pass(5_000);
    let health = site.get("/health").await;
    let told = [&health["mode"], &health["set_by"], &health["reason"]];
    assert_eq!(told, ["shedding", "rules", &*shedding.reason]);
    assert_eq!(launches(&site, 1).await.0, StatusCode::ACCEPTED);
    assert_eq!(launches(&site, 1).await.0, StatusCode::SERVICE_UNAVAILABLE);
    site.terminate(&late[0]).await;

    site.plane.bus().resume("capacity");
    for id in &late[1..] {
        site.until(id, "running").await;
    }
    site.until(&late[0], "terminated").await;
    // Not at once: it stays for two minutes.
    clock.pass(60_000);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(until_mode(&site, "shedding").await.since, shedding.since);
    clock.pass(60_000);
    let normal = until_mode(&site, "normal").await;
    assert!(!normal.is_set && normal.since > shedding.since);
    clock.pass(5_000);
    assert_eq!(site.get("/health").await["mode"], "normal");
    let (status, answer) = launches(&site, 3).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
}

/// A bus that takes nothing while it is down, and tells nobody what it takes.
struct Deaf(AtomicBool);

#[async_trait]
impl Publisher for Deaf {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(Fault::Other(format!("{} events are not taken", entries.len()))),
            false => Ok(()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeps_that_fail_for_long_stop_users_little_by_little_and_come_back_so() {
    let site = by_clock(limited(0, "off"), Moved::new(0)).await;
    site.plane.bus().pause("capacity");
    launches(&site, 1).await;
    let (clock, bus) = (Moved::new(0), Arc::new(Deaf(AtomicBool::new(true))));
    let ports = Ports { clock: clock.clone(), bus: bus.clone(), ..site.plane.ports().clone() };
    // As on AWS: a sweep a minute, each by a process that remembers nothing.
    let mut entered = Vec::new();
    for minute in 1..=26 {
        bus.0.store(minute <= 17, Ordering::SeqCst);
        clock.pass(60_000);
        let swept = sweep_and_judge(&ports, &mut Lately::default()).await;
        assert_eq!(swept.is_err(), minute <= 17, "{swept:?}");
        let item = site.plane.store().get(&mode_key()).await.expect("a store");
        let mode = item.as_ref().map(|item| Standing::read(item).expect("a mode").mode.name());
        let last = entered.last().map(|(_, mode)| *mode);
        if mode != last {
            entered.extend(mode.map(|mode| (minute, mode)));
        }
    }
    let right = [
        (1, "normal"),
        (3, "shedding"),
        (6, "terminate-only"),
        (16, "read-only"),
        (18, "terminate-only"),
        (20, "shedding"),
        (22, "normal"),
    ];
    assert_eq!(entered, right);
    let before = site.plane.store().stats().write_units;
    sweep_and_judge(&ports, &mut Lately::default()).await.expect("nothing is due");
    let after = site.plane.store().stats().write_units;
    assert_eq!(after, before, "a mode that stays is not written");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_goes_on_while_users_change_nothing() {
    let site = Site::start(limited(3, "off")).await;
    site.plane.bus().pause("handoff");
    let id = site.launch_micro().await;
    let wanted = json!({ "mode": "read-only", "reason": "the tables are moved" });
    site.send(Method::PUT, "/v1/mode", Some(wanted)).await;
    let (status, refused) = launches(&site, 1).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let told = refused["error"]["message"].as_str().expect("a message");
    assert!(told.ends_with("the tables are moved"), "{told}");
    site.plane.bus().resume("handoff");
    site.until(&id, "running").await;
    let path = format!("/v1/instances/{id}");
    let (status, _) = site.send(Method::DELETE, &path, None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(site.get(&path).await["state"], "running");
    let auto = json!({ "mode": "auto" });
    site.send(Method::PUT, "/v1/mode", Some(auto)).await;
    end(&site, &[id]).await;
}

/// Sends a request of a tenant.
async fn of_tenant(
    site: &Site,
    tenant: &str,
    method: Method,
    path: &str,
    body: Value,
) -> (StatusCode, Value) {
    let tenant = Some(Tenant::parse(tenant).expect("a tenant"));
    let request = Request::builder().method(method).uri(path).extension(tenant);
    let request = request.body(Body::from(body.to_string())).expect("a request");
    let Ok(response) = site.plane.router().oneshot(request).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

/// When capacity was taken for an instance.
async fn placed_at(site: &Site, tenant: &str, id: &str) -> Millis {
    let tenant = Tenant::parse(tenant).expect("a tenant");
    let key = eventplane_capacity::receipt_key(&tenant, &InstanceId::parse(id).expect("an id"));
    let item = site.plane.store().get(&key).await.expect("a store");
    Receipt::read(item.as_ref()).expect("readable").expect("a receipt").log[0].at
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_ten_times_as_many_launches_waits_for_itself_alone() {
    // Every look at the clock is later than the one before, so receipts tell their order.
    let bus = BusOptions { concurrency: 1, ..BusOptions::default() };
    let options = PlaneOptions { bus, tenant_of_request: true, ..options(6) };
    let site = by_clock(options, Moved::new(1)).await;
    site.plane.bus().pause("capacity");
    let asked = |count: u32| json!({ "instance_type": "t3.micro", "count": count });
    let mut launched = Vec::new();
    for (tenant, count) in [("noisy", 40), ("quiet", 4)] {
        let (status, answer) =
            of_tenant(&site, tenant, Method::POST, "/v1/instances", asked(count)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        launched.push(ids(&answer));
    }
    site.plane.bus().resume("capacity");
    tokio::time::timeout(Duration::from_secs(30), site.plane.bus().idle())
        .await
        .expect("the bus comes to rest");
    let mut noisy = Vec::new();
    for id in &launched[0] {
        noisy.push(placed_at(&site, "noisy", id).await);
    }
    let mut last = Millis(0);
    for id in &launched[1] {
        last = last.max(placed_at(&site, "quiet", id).await);
    }
    let before = noisy.iter().filter(|at| **at < last).count();
    assert_eq!(before, 4, "the last of the four was placed after the fourth of the forty");
}

/// What a launch to running and a termination write at least, in write units: of 20 of each, since a
/// host that changes its class of room writes more.
async fn written(limits: &str) -> [u64; 2] {
    let bus = BusOptions { concurrency: 1, ..BusOptions::default() };
    let site = Site::start(PlaneOptions { bus, ..limited(12, limits) }).await;
    let mut least = [u64::MAX; 2];
    // The first makes its tenant's keys.
    for round in 0..=20 {
        let so_far = async || {
            site.plane.bus().idle().await;
            site.plane.store().stats().write_units
        };
        let before = so_far().await;
        let token = format!("token-{round}");
        let id = site.launch(json!({ "instance_type": "t3.micro", "client_token": token })).await;
        site.until(&id, "running").await;
        let running = so_far().await;
        end(&site, &[id]).await;
        let ended = so_far().await;
        if round > 0 {
            least = [least[0].min(running - before), least[1].min(ended - running)];
        }
    }
    site.plane.shutdown().await;
    least
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_cost_three_write_units_a_launch_and_three_a_termination_and_nothing_when_off() {
    let off = written("off").await;
    assert_eq!(off, least(Count::WriteUnits));
    // Two of the counter, in transactions that there are anyway, and one of a bucket.
    assert_eq!(written("ec2,RunInstances=100/1").await, off.map(|units| units + 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_have_quotas_and_rates_of_their_own() {
    let options =
        PlaneOptions { tenant_of_request: true, ..limited(6, "instances=2,RunInstances=3/1") };
    let site = by_clock(options, Moved::new(0)).await;
    for tenant in ["acme", "umbrella"] {
        let launch = async || {
            let asked = json!({ "instance_type": "t3.micro" });
            let answer = of_tenant(&site, tenant, Method::POST, "/v1/instances", asked).await;
            answer.1["error"]["code"].as_str().unwrap_or("launched").to_owned()
        };
        let told = [launch().await, launch().await, launch().await, launch().await];
        let right = ["launched", "launched", "InstanceLimitExceeded", "RequestLimitExceeded"];
        assert_eq!(told, right, "{tenant}");
        let (_, limits) = of_tenant(&site, tenant, Method::GET, "/v1/limits", Value::Null).await;
        assert_eq!(limits["quotas"][0]["used"], 2);
    }
}
