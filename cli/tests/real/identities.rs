//! Who a host is, and who may speak for it.

use crate::site::{Process, Site, address, ask, hello, host_id, process, until};
use eventplane_agent::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_with_one_identity_one_is_fenced() {
    let mut site = Site::new(1, "127.47.0").await;
    let ids = site.launch(1, &hello(), json!({})).await;
    let at = address(&site.state(&ids[0], "running").await);
    until("an answer", async || ask(at).await.is_ok()).await;
    let before = process(&ask(at).await.expect("an answer"));
    // In one folder there is one agent.
    let mut second = site.agent(&host_id(0));
    assert_eq!(second.code().await, Some(1));
    assert!(second.said().contains("another agent works in"), "{}", second.said());
    // A copy of the folder has the same name and key.
    let copied =
        Command::new("cp").arg("-a").arg(site.path("host-0")).arg(site.path("copy")).status();
    assert!(copied.expect("cp").success());
    let toml = fs::read_to_string(site.path("host-0.toml")).expect("there");
    let toml = toml.replace("data_dir = \"host-0\"", "data_dir = \"copy\"");
    fs::write(site.path("copy.toml"), toml).expect("written");
    let mut copy = site.start_agent("copy").await;
    assert_eq!(site.agents[0].code().await, Some(1));
    assert!(site.agents[0].said().contains("HostFenced"), "{}", site.agents[0].said());
    // It comes back with a session that is history.
    let mut old: Process = site.agent(&host_id(0));
    assert_eq!(old.code().await, Some(1));
    assert!(old.said().contains("HostFenced"), "{}", old.said());
    assert_eq!(process(&ask(at).await.expect("an answer")), before);
    assert_eq!(site.get(&format!("/v1/instances/{}", ids[0])).await["state"], "running");
    copy.kill();
}

fn identity(site: &Site) -> (PathBuf, Value) {
    let path = site.path("host-0").join("identity.json");
    let json = serde_json::from_slice(&fs::read(&path).expect("there")).expect("JSON");
    (path, json)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_gets_another_key_in_time_and_goes_on_with_it() {
    let mut site = Site::new(1, "127.51.0").await;
    site.agents[0].kill();
    let (path, mut old) = identity(&site);
    // It was made when time began.
    old["key_made_at"] = json!(0);
    fs::write(&path, old.to_string()).expect("written");
    site.agents[0] = site.start_agent(&host_id(0)).await;
    until("another key", async || identity(&site).1["secret_key"] != old["secret_key"]).await;
    assert_eq!(identity(&site).1["next_key"], Value::Null);
    let ids = site.launch(1, &hello(), json!({})).await;
    site.state(&ids[0], "running").await;

    // The plane had taken the new one, and the answer was lost: it is found out by trying.
    site.agents[0].kill();
    let (_, new) = identity(&site);
    let mut torn = new.clone();
    torn["next_key"] = new["secret_key"].clone();
    torn["secret_key"] = old["secret_key"].clone();
    fs::write(&path, torn.to_string()).expect("written");
    let mut agent = site.agent(&host_id(0));
    agent.until_it_says("ready").await;
    site.agents[0] = agent;
    assert_eq!(identity(&site).1["secret_key"], new["secret_key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_revoked_says_no_more_until_it_is_enrolled_anew() {
    let mut site = Site::new(1, "127.52.0").await;
    let ids = site.launch(1, &hello(), json!({})).await;
    let at = address(&site.state(&ids[0], "running").await);
    until("an answer", async || ask(at).await.is_ok()).await;
    let before = process(&ask(at).await.expect("an answer"));
    let revoked = site.send(Method::DELETE, "/v1/hosts/host-0/key", None).await;
    assert!(revoked.is_success());
    assert_eq!(site.agents[0].code().await, Some(1));
    assert!(site.agents[0].said().contains("HostKeyRevoked"), "{}", site.agents[0].said());
    // Nor may anybody else speak for it without a key.
    let path = "/v1/hosts/host-0/assignments";
    assert_eq!(site.send(Method::GET, path, None).await.status, 403);
    // What it runs runs on, and is found by the agent that is let in again.
    let token = site.post("/v1/enrolments", json!({ "host_id": "host-0" })).await;
    let token = token["token"].as_str().expect("a token");
    let config = site.path("host-0.toml").display().to_string();
    let endpoint = site.http.endpoint().to_owned();
    let agent =
        ["agent", "--host-config", &config, "--endpoint", &endpoint, "--enrol-token", token];
    site.agents[0] = Process::start(&agent);
    site.agents[0].until_it_says("ready").await;
    assert_eq!(process(&ask(at).await.expect("an answer")), before);
    // A token is good once: somebody else who has seen it is not let in.
    site.describe_host("thief", "");
    let toml = fs::read_to_string(site.path("thief.toml")).expect("there");
    let toml = toml.replace("host_id = \"thief\"", "host_id = \"host-0\"");
    fs::write(site.path("thief.toml"), toml).expect("written");
    let thief = site.path("thief.toml").display().to_string();
    let mut thief = Process::start(&[
        "agent",
        "--host-config",
        &thief,
        "--endpoint",
        &endpoint,
        "--enrol-token",
        token,
    ]);
    assert_eq!(thief.code().await, Some(1));
    assert!(thief.said().contains("not enrolled"), "{}", thief.said());
    // The same one again is no news to its host.
    site.agents[0].kill();
    site.agents[0] = Process::start(&agent);
    site.agents[0].until_it_says("ready").await;
}
