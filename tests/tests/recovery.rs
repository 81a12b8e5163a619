//! Planes that stop in the middle, messages that nobody could handle, hosts that die: what goes on,
//! and what is given back.

use async_trait::async_trait;
use axum::http::{Method, StatusCode};
use eventplane_agent::{Answer, Fleet, FleetOptions, InProcess, NoAnswer, Transport};
use eventplane_domain::{InstanceId, Millis, Tenant};
use eventplane_engine::{Clock, Ports};
use eventplane_instances::{NUDGE_AFTER_MS, Record, record_key};
use eventplane_local::bus::BusOptions;
use eventplane_plane::PlaneOptions;
use eventplane_store::Store;
use eventplane_tests::books::Books;
use eventplane_tests::site::{Site, options};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const FUNCTIONS: [&str; 6] = ["capacity", "network", "storage", "security", "handoff", "instances"];

async fn books(site: &Site) -> Books {
    let idle = tokio::time::timeout(Duration::from_secs(30), site.plane.bus().idle());
    idle.await.expect("the bus comes to rest");
    Books::read(&**site.plane.store(), &Tenant::local()).await
}

async fn record(site: &Site, id: &str) -> Record {
    let id = InstanceId::parse(id).expect("an id");
    let item = site.plane.store().get(&record_key(&Tenant::local(), &id)).await;
    Record::read(&item.expect("a store").expect("a record")).expect("readable")
}

/// Says what is to become of a host.
async fn change_host(site: &Site, host: &str, state: &str) {
    let path = format!("/v1/hosts/{host}");
    let (status, host) = site.send(Method::PUT, &path, Some(json!({ "state": state }))).await;
    assert_eq!((status, &host["state"]), (StatusCode::OK, &json!(state)), "{host}");
}

fn host_of(shown: &Value) -> String {
    shown["placement"]["host"].as_str().expect("a host").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plane_that_stops_with_any_function_stuck_goes_on_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut site = Site::in_dir(6, dir.path()).await;
    for stuck in FUNCTIONS {
        let runs = site.launch_micro().await;
        site.until(&runs, "running").await;
        site.plane.bus().pause(stuck);
        let launching = site.launch_micro().await;
        site.terminate(&runs).await;
        // As far as it comes.
        tokio::time::sleep(Duration::from_millis(50)).await;
        site.plane.shutdown().await;
        site = Site::in_dir(6, dir.path()).await;
        site.until(&launching, "running").await;
        site.until(&runs, "terminated").await;
        books(&site).await.check();
        site.terminate(&launching).await;
        site.until(&launching, "terminated").await;
        books(&site).await.check_nothing_is_held();
    }
    site.plane.shutdown().await;
}

/// Writes an instance's record and nothing else, as an api that dies before it publishes; its id.
async fn written_but_not_published(site: &Site, like: &str, n: u64) -> String {
    let like = record(site, like).await;
    let now = site.plane.ports().clock.now();
    let id = InstanceId::new(now, n);
    let text = id.to_string();
    let record = Record::requested(like.tenant, id, like.spec, now, now.plus(60_000));
    site.plane.store().transact(vec![record.create()]).await.expect("written");
    text
}

/// A clock that runs ahead.
struct Ahead(Arc<dyn Clock>, i64);

impl Clock for Ahead {
    fn now(&self) -> Millis {
        self.0.now().plus(self.1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_was_written_but_not_published_is_found_by_the_sweeper_or_the_next_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = Site::in_dir(6, dir.path()).await;
    let first = site.launch_micro().await;
    site.until(&first, "running").await;

    let swept = written_but_not_published(&site, &first, 1).await;
    let ports = site.plane.ports().clone();
    assert_eq!(eventplane_sweeper::sweep(&ports).await.expect("swept").nudged, 0, "too early");
    assert_eq!(record(&site, &swept).await.progress.state.name(), "pending");
    let clock = Arc::new(Ahead(ports.clock.clone(), NUDGE_AFTER_MS));
    let later = Ports { clock, ..ports };
    assert_eq!(eventplane_sweeper::sweep(&later).await.expect("swept").nudged, 1);
    site.until(&swept, "running").await;

    let restarted = written_but_not_published(&site, &first, 2).await;
    drop(later);
    site.plane.shutdown().await;
    let site = Site::in_dir(6, dir.path()).await;
    site.until(&restarted, "running").await;
    let books = books(&site).await;
    books.check();
    assert_eq!(books.assignments.len(), 3);
    site.plane.shutdown().await;
}

/// Waits until this many dead letters are listed.
async fn until_dead(site: &Site, letters: usize) -> Vec<Value> {
    for _ in 0..3_000 {
        let listed = site.get("/v1/dead-letters").await;
        let listed = listed["dead_letters"].as_array().expect("letters").clone();
        if listed.len() >= letters {
            return listed;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no {letters} dead letters came");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_could_not_handle_is_kept_and_goes_on_when_it_is_redriven() {
    let dir = tempfile::tempdir().expect("a directory");
    let bus = BusOptions { backoff_ms_max: 1, ..BusOptions::default() };
    let with =
        || PlaneOptions { bus: bus.clone(), data_dir: Some(dir.path().to_owned()), ..options(6) };
    let site = Site::start(with()).await;
    for function in ["capacity", "storage", "instances"] {
        site.plane.bus().break_function(function, "broken by the test");
        let id = site.launch_micro().await;
        let letter = until_dead(&site, 1).await[0].clone();
        assert_eq!((&letter["function"], &letter["received"]), (&json!(function), &json!(5)));
        assert!(letter.to_string().contains("broken by the test"), "{letter}");
        assert_eq!(site.get(&format!("/v1/instances/{id}")).await["state"], "pending");
        site.plane.bus().mend(function);
        let path = format!("/v1/dead-letters/{}/redrive", letter["id"].as_str().expect("an id"));
        let (status, answer) = site.send(Method::POST, &path, None).await;
        assert!(status.is_success(), "{answer}");
        site.until(&id, "running").await;
        books(&site).await.check();
        let left = site.get("/v1/dead-letters").await;
        assert_eq!(left["dead_letters"], json!([]), "handled, and gone");
    }

    // A letter outlives the process, and does no harm when everything has gone on without it.
    site.plane.bus().break_function("network", "broken by the test");
    let id = site.launch_micro().await;
    until_dead(&site, 1).await;
    site.plane.shutdown().await;
    let site = Site::start(with()).await;
    site.until(&id, "running").await;
    until_dead(&site, 1).await;
    let (status, answer) =
        site.send(Method::POST, "/v1/dead-letters/redrive", Some(json!({}))).await;
    assert!(status.is_success(), "{answer}");
    let books = books(&site).await;
    books.check();
    assert_eq!(books.assignments.len(), 4);
    assert_eq!(site.get("/v1/dead-letters").await["dead_letters"], json!([]));
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_on_a_host_that_is_declared_dead_runs_elsewhere_in_its_zone_as_it_was() {
    let site = Site::with_hosts(6).await;
    let id = site.launch_micro().await;
    let before = site.until(&id, "running").await;
    let host = host_of(&before);
    change_host(&site, &host, "dead").await;
    let after = site.until_generation(&id, 2, "running").await;
    assert_ne!(host_of(&after), host);
    for same in ["private_ip", "volumes", "subnet_id", "mac"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_eq!(after["placement"]["zone"], before["placement"]["zone"]);
    books(&site).await.check();
    change_host(&site, &host, "active").await;
    site.terminate(&id).await;
    site.until(&id, "terminated").await;
    books(&site).await.check_nothing_is_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_run_and_fits_nowhere_else_is_stopped_and_starts_once_there_is_room() {
    // Two hosts, each in a zone of its own.
    let site = Site::with_hosts(2).await;
    let id = site.launch_micro().await;
    let host = host_of(&site.until(&id, "running").await);
    change_host(&site, &host, "dead").await;
    let shown = site.until(&id, "stopped").await;
    let reason = &shown["state_reason"];
    assert_eq!(reason["code"], "Server.InsufficientInstanceCapacity", "{shown:#}");
    assert!(reason["message"].as_str().expect("words").contains("was declared dead"), "{reason}");
    let standing = books(&site).await;
    standing.check();
    assert_eq!(standing.assignments, []);
    for _ in 0..4 {
        let other = site.launch_micro().await;
        assert_ne!(host_of(&site.until(&other, "running").await), host);
        site.terminate(&other).await;
        site.until(&other, "terminated").await;
    }
    change_host(&site, &host, "active").await;
    let (status, answer) =
        site.send(Method::POST, &format!("/v1/instances/{id}/start"), None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(host_of(&site.until(&id, "running").await), host);
    site.terminate(&id).await;
    site.until(&id, "terminated").await;
    books(&site).await.check_nothing_is_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_host_was_offered_may_have_run_and_is_never_terminated_for_it() {
    let site = Site::with_hosts(0).await;
    // A host that never finishes a start, and then is silent.
    let slow = FleetOptions { start_ms: (600_000, 600_000), ..options(1).fleet };
    let agent = Fleet::run(slow, Arc::new(InProcess(site.plane.router()))).expect("no memory");
    assert!(agent.registered(Duration::from_secs(60)).await);
    let id = site.launch_micro().await;
    let host = until_handed_off(&site, &id, true).await;
    drop(agent);
    change_host(&site, &host, "dead").await;
    let shown = site.until(&id, "stopped").await;
    let message = shown["state_reason"]["message"].as_str().expect("words");
    assert!(message.contains("was declared dead"), "{shown:#}");
    books(&site).await.check();
    site.terminate(&id).await;
    site.until(&id, "terminated").await;
    books(&site).await.check_nothing_is_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_host_has_never_seen_is_terminated() {
    let site = Site::with_hosts(0).await;
    let host = json!({
        "host_id": "silent", "zone": "zone-a", "rack": "r1",
        "vcpus": 8, "memory_mib": 16_384, "network_mbps": 10_000,
    });
    let (status, answer) = site.send(Method::POST, "/v1/hosts", Some(host)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let id = site.launch_micro().await;
    assert_eq!(until_handed_off(&site, &id, false).await, "silent");
    change_host(&site, "silent", "dead").await;
    let shown = site.until(&id, "terminated").await;
    let message = shown["state_reason"]["message"].as_str().expect("words");
    assert!(message.contains("silent was declared dead"), "{shown:#}");
    books(&site).await.check_nothing_is_held();
    let refused = site.launch_micro().await;
    let shown = site.until(&refused, "terminated").await;
    assert!(shown.to_string().contains("InsufficientInstanceCapacity"), "{shown:#}");
    change_host(&site, "silent", "active").await;
    let id = site.launch_micro().await;
    assert_eq!(until_handed_off(&site, &id, false).await, "silent");
}

/// Waits until a host has the instance's assignment, and has been offered it if so said; the host.
async fn until_handed_off(site: &Site, id: &str, offered: bool) -> String {
    for _ in 0..3_000 {
        let hosts = Books::read(&**site.plane.store(), &Tenant::local()).await.hosts;
        for host in hosts {
            let store = &**site.plane.store();
            let wanted = eventplane_handoff::WantedSet::of(store, &host.id).await.expect("a set");
            let mut mine = wanted.assignments.iter().filter(|a| a.instance.as_str() == id);
            if mine.any(|assignment| assignment.offered == offered) {
                return host.id.to_string();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} was not handed off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_host_keeps_what_it_has_and_takes_nothing_new() {
    let site = Site::with_hosts(2).await;
    let stays = site.launch_micro().await;
    let draining = host_of(&site.until(&stays, "running").await);
    change_host(&site, &draining, "draining").await;
    let mut other = String::new();
    for _ in 0..5 {
        let id = site.launch_micro().await;
        other = host_of(&site.until(&id, "running").await);
        assert_ne!(other, draining);
    }
    change_host(&site, &other, "draining").await;
    let refused = site.launch_micro().await;
    let reason = site.until(&refused, "terminated").await["state_reason"].to_string();
    assert!(reason.contains("2 hosts: 2 draining"), "{reason}");
    assert_eq!(site.get(&format!("/v1/instances/{stays}")).await["state"], "running");
    change_host(&site, &draining, "active").await;
    let back = site.launch_micro().await;
    assert_eq!(host_of(&site.until(&back, "running").await), draining);
    books(&site).await.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_whose_agents_were_killed_keep_what_they_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = Site::with_hosts(0).await;
    let agents = || {
        let memory = Some(dir.path().join("hosts.journal"));
        let options = FleetOptions { memory, heartbeat_ms: 200, ..options(3).fleet };
        Fleet::run(options, Arc::new(InProcess(site.plane.router()))).expect("their memory")
    };
    let before = agents();
    assert!(before.registered(Duration::from_secs(60)).await);
    let mut ids = Vec::new();
    for _ in 0..6 {
        let id = site.launch_micro().await;
        site.until(&id, "running").await;
        ids.push(id);
    }
    assert_eq!(before.stats().started, 6);
    // Dropped, they are silent at once.
    drop(before);
    let asleep = site.launch_micro().await;
    site.terminate(&ids[0]).await;
    let after = agents();
    site.until(&asleep, "running").await;
    site.until(&ids[0], "terminated").await;
    while after.stats().reports < 9 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stats = after.stats();
    assert_eq!((stats.started, stats.stopped), (1, 1), "what runs was not touched: {stats:?}");
    for id in &ids[1..] {
        assert_eq!(site.get(&format!("/v1/instances/{id}")).await["state"], "running");
    }
    let books = books(&site).await;
    books.check();
    assert_eq!(books.assignments.len(), 6);
    after.stop().await;
}

/// The way to a plane that may go: then no request under way is answered.
struct Line(watch::Sender<Option<InProcess>>);

impl Line {
    fn lead_to(&self, site: Option<&Site>) {
        self.0.send_replace(site.map(|site| InProcess(site.plane.router())));
    }
}

#[async_trait]
impl Transport for Line {
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, NoAnswer> {
        let gone = || NoAnswer::unsent("there is no plane".to_owned());
        let mut line = self.0.subscribe();
        let plane = line.borrow_and_update().clone().ok_or_else(gone)?;
        tokio::select! {
            answer = plane.send(method, path, body) => answer,
            _ = line.changed() => Err(gone()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_outlive_the_plane_keep_what_runs_and_say_again_what_was_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = Site::in_dir(0, dir.path()).await;
    let line = Arc::new(Line(watch::Sender::new(None)));
    line.lead_to(Some(&site));
    let agents = FleetOptions { heartbeat_ms: 300, wait_s: 1, ..options(3).fleet };
    let agents = Fleet::run(agents, line.clone()).expect("no memory");
    assert!(agents.registered(Duration::from_secs(60)).await);
    let runs = site.launch_micro().await;
    site.until(&runs, "running").await;
    // Its report is taken, and what it says is lost with the inbox.
    site.plane.bus().pause("instances");
    let unheard = site.launch_micro().await;
    for _ in 0..3_000 {
        let stats = site.plane.bus().stats();
        let inbox = stats.functions.iter().find(|of| of.function == "instances");
        if inbox.is_some_and(|inbox| inbox.queued > 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    line.lead_to(None);
    site.plane.shutdown().await;
    let failed = agents.stats().failed;
    while agents.stats().failed < failed + 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((agents.stats().started, agents.stats().stopped), (2, 0));

    let site = Site::in_dir(0, dir.path()).await;
    line.lead_to(Some(&site));
    site.until(&unheard, "running").await;
    assert_eq!(site.get(&format!("/v1/instances/{runs}")).await["state"], "running");
    assert_eq!((agents.stats().started, agents.stats().stopped), (2, 0));
    books(&site).await.check();
    for id in [&runs, &unheard] {
        site.terminate(id).await;
    }
    for id in [&runs, &unheard] {
        site.until(id, "terminated").await;
    }
    books(&site).await.check_nothing_is_held();
    agents.stop().await;
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_unasked_is_heard_also_if_the_plane_stops_before_the_record_shows_it() {
    for stuck in ["capacity", "handoff", "instances"] {
        let dir = tempfile::tempdir().expect("a directory");
        let site = Site::in_dir(2, dir.path()).await;
        let id = site.launch_micro().await;
        let host = host_of(&site.until(&id, "running").await);
        site.plane.bus().pause(stuck);
        change_host(&site, &host, "dead").await;
        // As far as it comes: what waits in the inbox then is lost with the process.
        tokio::time::sleep(Duration::from_millis(50)).await;
        site.plane.shutdown().await;
        let site = Site::in_dir(2, dir.path()).await;
        let shown = site.until(&id, "stopped").await;
        let message = shown["state_reason"]["message"].as_str().expect("words");
        assert!(message.contains("was declared dead"), "{stuck}: {shown:#}");
        books(&site).await.check();
        site.plane.shutdown().await;
    }
}
