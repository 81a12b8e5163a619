//! Real agents and real instances, end to end on one machine: the plane, three agents and all
//! instances are processes of their own, and any of them can be killed.

mod come_back;
mod identities;
mod networks;
mod site;
mod virtual_machine;

use serde_json::{Value, json};
use site::{Site, address, ask, hello, host_id, is_open, process, until};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Asks an address without a pause until it is told to stop, and counts; every failure counts too.
struct Client {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Client {
    fn of(address: std::net::SocketAddr) -> Client {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (stop.clone(), asked.clone());
        let task = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                failures.extend(ask(address).await.err());
                count.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(2)).await;
            }
            failures
        });
        Client { stop, asked, task }
    }

    async fn has_asked(&self, more: usize) {
        let until_then = self.asked.load(Ordering::Relaxed) + more;
        until("more requests", async || self.asked.load(Ordering::Relaxed) >= until_then).await;
    }

    async fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_launched_answers_at_its_address_and_what_is_terminated_is_gone() {
    let site = Site::new(3, "127.41.0").await;
    let ids = site.launch(3, &hello(), json!({ "volumes": [{ "size_gib": 1 }] })).await;
    let mut hosts = Vec::new();
    let mut addresses = Vec::new();
    for id in &ids {
        let instance = site.state(id, "running").await;
        let address = address(&instance);
        until("an answer", async || ask(address).await.is_ok()).await;
        let text = ask(address).await.expect("an answer");
        let host = instance["placement"]["host"]
            .as_str()
            .unwrap_or_else(|| panic!("{instance}"))
            .to_owned();
        assert!(
            text.starts_with(&format!("hello from {id} on {host} in zone-a, run 1,")),
            "{text}"
        );
        hosts.push(host);
        addresses.push(address);
    }
    hosts.sort();
    assert_eq!(hosts, (0..3).map(host_id).collect::<Vec<_>>(), "one on each");
    let volumes = site.path("volumes").join("default");
    assert_eq!(fs::read_dir(&volumes).expect("there").count(), 3);
    for (id, address) in ids.iter().zip(&addresses) {
        site.send(eventplane_agent::Method::DELETE, &format!("/v1/instances/{id}"), None).await;
        site.state(id, "terminated").await;
        assert!(!is_open(*address), "{id} still answers");
    }
    // Its folder and its volumes go too, once the plane has said that they were given back.
    until("the end of the volumes", async || {
        fs::read_dir(&volumes).expect("there").next().is_none()
    })
    .await;
    for host in hosts {
        until("the end of its folder", async || {
            fs::read_dir(site.path(&host).join("instances/default")).map_or(0, Iterator::count) == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_notice_nothing_while_the_whole_control_plane_is_gone() {
    let mut site = Site::new(1, "127.42.0").await;
    let ids = site.launch(1, &hello(), json!({})).await;
    let running = site.state(&ids[0], "running").await;
    let address = address(&running);
    until("an answer", async || ask(address).await.is_ok()).await;
    let before = process(&ask(address).await.expect("an answer"));
    let client = Client::of(address);
    client.has_asked(50).await;
    site.plane.take().expect("it runs").kill();
    client.has_asked(200).await;
    // The agent goes too, and comes back while the plane is still away.
    site.agents[0].kill();
    client.has_asked(100).await;
    site.agents[0] = site.agent(&host_id(0));
    client.has_asked(200).await;
    let plan = site.run_dir(&host_id(0), &ids[0]).join("plan.json");
    let plan: Value = serde_json::from_slice(&fs::read(plan).expect("there")).expect("JSON");
    let metadata = plan["metadata"].as_str().expect("an address").to_owned();
    until("its metadata", async || imds(&metadata, "/latest/meta-data/instance-id").is_some())
        .await;
    let said = imds(&metadata, "/latest/meta-data/instance-id");
    assert_eq!(said.as_deref(), Some(ids[0].as_str()));
    site.start_plane().await;
    site.agents[0].until_it_says("ready").await;
    client.has_asked(100).await;
    assert_eq!(client.failures().await, Vec::<String>::new());
    assert_eq!(process(&ask(address).await.expect("an answer")), before, "it was started anew");
    // And the plane goes on with it.
    site.send(eventplane_agent::Method::DELETE, &format!("/v1/instances/{}", ids[0]), None).await;
    site.state(&ids[0], "terminated").await;
    assert!(!is_open(address));
}

/// One request of HTTP/1.1, by hand: status and body.
fn http(address: &str, request: &str, header: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let head =
        format!("{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{header}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// One answer of a metadata service, asked with a token.
fn imds(address: &str, path: &str) -> Option<String> {
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60";
    let (_, token) = http(address, "PUT /latest/api/token", ttl)?;
    let token = format!("X-aws-ec2-metadata-token: {token}");
    let (status, body) = http(address, &format!("GET {path}"), &token)?;
    (status == 200).then_some(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_finds_the_same_processes_again() {
    let mut site = Site::new(2, "127.43.0").await;
    let ids = site.launch(4, &hello(), json!({})).await;
    let mut processes = Vec::new();
    for id in &ids {
        let address = address(&site.state(id, "running").await);
        until("an answer", async || ask(address).await.is_ok()).await;
        processes.push((address, process(&ask(address).await.expect("an answer"))));
    }
    for _ in 0..3 {
        for index in 0..2 {
            site.agents[index].kill();
            site.agents[index] = site.start_agent(&host_id(index)).await;
        }
        for (address, before) in &processes {
            assert_eq!(process(&ask(*address).await.expect("an answer")), *before);
        }
    }
    // What it has found it also ends.
    for (id, (address, _)) in ids.iter().zip(&processes) {
        site.send(eventplane_agent::Method::DELETE, &format!("/v1/instances/{id}"), None).await;
        site.state(id, "terminated").await;
        assert!(!is_open(*address));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_again_and_again_runs_each_instance_once_and_loses_none() {
    let mut site = Site::new(1, "127.44.0").await;
    let mut ids = Vec::new();
    for round in 0..12_u64 {
        ids.extend(site.launch(2, &hello(), json!({})).await);
        if let Some(id) = ids.get(ids.len().saturating_sub(4)) {
            let path = format!("/v1/instances/{id}");
            site.send(eventplane_agent::Method::DELETE, &path, None).await;
        }
        // At another moment of the launches each time.
        sleep(Duration::from_millis(round * 37 % 230)).await;
        site.agents[0].kill();
        // One that has just forked is two for a moment.
        until("one keeper of each", async || {
            keepers(&site.path(&host_id(0))).values().all(|count| *count == 1)
        })
        .await;
        site.agents[0] = site.start_agent(&host_id(0)).await;
    }
    let mut running = 0;
    for id in &ids {
        let instance = site.get(&format!("/v1/instances/{id}?until=running&wait=20")).await;
        let state = match instance["state"].as_str() {
            Some("shutting-down") => site.state(id, "terminated").await["state"].clone(),
            _ => instance["state"].clone(),
        };
        if state == "running" {
            let address = address(&instance);
            until("an answer", async || ask(address).await.is_ok()).await;
            running += 1;
        } else {
            assert_eq!(state, "terminated", "{instance}");
        }
    }
    until("as many keepers as instances that run", async || {
        keepers(&site.path(&host_id(0))).len() == running
    })
    .await;
    let ledger = site.get("/v1/ledger").await;
    assert_eq!(ledger["balances"], true, "{ledger}");
}

/// The living keepers of a host, by the instance's directory.
fn keepers(host: &Path) -> std::collections::BTreeMap<String, usize> {
    let mut keepers = std::collections::BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if let [_, verb, dir, ..] = &words[..]
            && verb == "run-instance"
            && Path::new(dir).starts_with(host)
        {
            *keepers.entry(dir.clone()).or_default() += 1;
        }
    }
    keepers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_exits_says_so_and_one_that_crashes_is_started_again_ever_more_seldom() {
    let mut site = Site::new(1, "127.45.0").await;
    let done = "#!/bin/sh\necho all is done\nexit 0\n";
    let ids = site.launch(1, done, json!({})).await;
    let stopped = site.state(&ids[0], "stopped").await;
    let reason = stopped["state_reason"].to_string();
    assert!(reason.contains("Client.InstanceInitiatedShutdown"), "{stopped}");
    assert!(reason.contains("its program exited with code 0"), "{stopped}");
    let path = format!("/v1/instances/{}/console", ids[0]);
    until("its output", async || {
        let console = site.send(eventplane_agent::Method::GET, &path, None).await;
        console.json::<Value>().is_ok_and(|said| said["output"] == "all is done\n")
    })
    .await;

    // Quick first restarts, so that the test need not wait for a second and two and four.
    site.describe_host(&host_id(0), "[restart]\nfirst_ms = 40\nlongest_ms = 60000");
    site.agents[0].kill();
    site.agents[0] = site.start_agent(&host_id(0)).await;
    let crash = "#!/bin/sh\ndate +%s%N >> runs\necho no luck >&2\nexit 3\n";
    let ids = site.launch(1, crash, json!({})).await;
    site.state(&ids[0], "running").await;
    // The restarts are the agent's own.
    site.plane.take().expect("it runs").kill();
    let volumes = site.path("volumes/default").join(&ids[0]);
    let volume =
        fs::read_dir(volumes).expect("there").next().expect("a volume").expect("one").path();
    let runs = || fs::read_to_string(volume.join("runs")).unwrap_or_default();
    until("six runs", async || runs().lines().count() >= 6).await;
    let at: Vec<u128> = runs().lines().map(|line| line.parse().expect("a number")).collect();
    let gaps_ms: Vec<u128> = at.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
    // Each wait is twice the one before; what a run takes besides only adds to it.
    for (gap_ms, least_ms) in gaps_ms.iter().zip([40, 80, 160, 320, 640]) {
        assert!(*gap_ms >= least_ms, "{gaps_ms:?}");
    }
    site.start_plane().await;
    assert_eq!(site.state(&ids[0], "running").await["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_instance_starts_with_what_was_on_its_volumes_wherever_it_runs() {
    let site = Site::new(2, "127.46.0").await;
    let keeps = format!(
        "#!/bin/sh\necho run $EVENTPLANE_GENERATION >> kept\nexec {} hello \"$EVENTPLANE_PRIVATE_IP:8080\"\n",
        site::EVENTPLANE
    );
    let ids = site.launch(1, &keeps, json!({})).await;
    let first = address(&site.state(&ids[0], "running").await);
    until("an answer", async || ask(first).await.is_ok()).await;
    for generation in 2..4 {
        site.post(&format!("/v1/instances/{}/stop", ids[0]), json!({})).await;
        site.state(&ids[0], "stopped").await;
        assert!(!is_open(first));
        site.post(&format!("/v1/instances/{}/start", ids[0]), json!({})).await;
        let again = site.state(&ids[0], "running").await;
        assert_eq!(address(&again), first, "its address stays its own");
        until("an answer", async || ask(first).await.is_ok()).await;
        let text = ask(first).await.expect("an answer");
        assert!(text.contains(&format!("run {generation},")), "{text}");
    }
    let volumes = site.path("volumes/default").join(&ids[0]);
    let volume =
        fs::read_dir(volumes).expect("there").next().expect("a volume").expect("one").path();
    assert_eq!(fs::read_to_string(volume.join("kept")).expect("kept"), "run 1\nrun 2\nrun 3\n");
    // Rebooted where it runs: another process, the same run.
    let before = process(&ask(first).await.expect("an answer"));
    site.post(&format!("/v1/instances/{}/reboot", ids[0]), json!({})).await;
    until("another process", async || {
        ask(first).await.is_ok_and(|text| process(&text) != before && text.contains("run 3,"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_learns_from_its_host_what_it_is_and_its_credentials() {
    let site = Site::new(1, "127.48.0").await;
    site.post("/v1/roles", json!({ "name": "reader", "permissions": ["read"] })).await;
    let data = "#!/bin/sh\nexec sleep 600\n";
    let more = json!({ "role": "reader", "tags": { "Name": "web" } });
    let ids = site.launch(1, data, more).await;
    let instance = site.state(&ids[0], "running").await;
    let run_dir = site.run_dir(&host_id(0), &ids[0]);
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(run_dir.join(name)).expect("there")).expect("JSON")
    };
    let metadata = read("plan.json")["metadata"].as_str().expect("an address").to_owned();
    let get = |path: &str| imds(&metadata, path).unwrap_or_else(|| panic!("no {path}"));
    assert_eq!(get("/latest/meta-data/instance-id"), ids[0]);
    assert_eq!(get("/latest/meta-data/placement/availability-zone"), "zone-a");
    assert_eq!(get("/latest/meta-data/local-ipv4"), instance["private_ip"].as_str().expect("one"));
    assert_eq!(get("/latest/meta-data/tags/instance/Name"), "web");
    assert_eq!(get("/latest/user-data"), data);
    let document: Value =
        serde_json::from_str(&get("/latest/dynamic/instance-identity/document")).expect("JSON");
    assert_eq!(document["instanceId"], ids[0].as_str());
    let role = get("/latest/meta-data/iam/security-credentials/");
    assert_eq!(role, "reader");
    let credentials: Value =
        serde_json::from_str(&get("/latest/meta-data/iam/security-credentials/reader"))
            .expect("JSON");
    assert_eq!(credentials["Code"], "Success", "{credentials}");
    assert!(credentials["SecretAccessKey"].as_str().is_some_and(|secret| secret.len() >= 32));
    // Nobody without a token learns anything.
    let refused = http(&metadata, "GET /latest/user-data", "Accept: */*").expect("an answer");
    assert_eq!(refused.0, 401);
}

/// Kills a keeper and its program at once, as a loss of power does.
fn lose_power(run_dir: &Path, program: &str) {
    let run: Value =
        serde_json::from_slice(&fs::read(run_dir.join("run.json")).expect("there")).expect("JSON");
    let killed = Command::new("kill").args(["-9", &run["pid"].to_string(), program]).status();
    assert!(killed.expect("kill").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_when_its_machine_went_down_runs_again_when_it_comes_back_without_a_plane() {
    let mut site = Site::new(1, "127.53.0").await;
    // As a service should, it ends with code 0 when it is told to.
    let keeps = format!(
        "#!/bin/sh\ntrap 'kill $!; exit 0' TERM\necho up >> kept\n\
         {} hello \"$EVENTPLANE_PRIVATE_IP:8080\" &\nwait\n",
        site::EVENTPLANE
    );
    let ids = site.launch(1, &keeps, json!({})).await;
    let at = address(&site.state(&ids[0], "running").await);
    until("an answer", async || ask(at).await.is_ok()).await;
    let run_dir = site.run_dir(&host_id(0), &ids[0]);
    let volume = |site: &Site| {
        let volumes = site.path("volumes/default").join(&ids[0]);
        fs::read_dir(volumes).expect("there").next().expect("a volume").expect("one").path()
    };
    site.plane.take().expect("it runs").kill();

    // The power is lost: nothing is written down of the end.
    let before = process(&ask(at).await.expect("an answer"));
    site.agents[0].kill();
    lose_power(&run_dir, &before);
    until("the end", async || !is_open(at)).await;
    site.agents[0] = site.agent(&host_id(0));
    until("an answer after the loss", async || ask(at).await.is_ok()).await;

    // It shuts down as it should: keeper and program are told to end, and end with code 0.
    site.agents[0].kill();
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(run_dir.join(name)).expect("there")).expect("JSON")
    };
    let told = Command::new("kill").arg(read("run.json")["pid"].to_string()).status();
    assert!(told.expect("kill").success());
    until("its end", async || !is_open(at) && run_dir.join("exit.json").exists()).await;
    assert_eq!(read("exit.json")["code"], 0);
    site.agents[0] = site.agent(&host_id(0));
    until("an answer after the shutdown", async || ask(at).await.is_ok()).await;
    assert_eq!(fs::read_to_string(volume(&site).join("kept")).expect("kept"), "up\nup\nup\n");

    // A volume that is not there is not made anew for what has run.
    site.agents[0].kill();
    let before = process(&ask(at).await.expect("an answer"));
    lose_power(&run_dir, &before);
    fs::rename(site.path("volumes"), site.path("unmounted")).expect("moved");
    site.agents[0] = site.agent(&host_id(0));
    site.agents[0].until_it_says("is not on this host").await;
    assert!(!is_open(at));
    fs::rename(site.path("unmounted"), site.path("volumes")).expect("moved back");
    until("an answer with its volume", async || ask(at).await.is_ok()).await;
    site.start_plane().await;
    assert_eq!(site.state(&ids[0], "running").await["state"], "running");
    assert_eq!(fs::read_to_string(volume(&site).join("kept")).expect("kept").lines().count(), 4);
}
