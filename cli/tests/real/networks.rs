//! Instances in network namespaces: their addresses are real, and their groups' rules hold. All of it
//! runs in a network of the test's own.

use crate::site::{EVENTPLANE, Site, ask, host_id, skipped, until};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

/// The test that runs within a network of its own.
const INSIDE: &str = "networks::inside_a_network_of_its_own";

/// Makes the network, and keeps the names of what is made in it from the machine.
const OWN: &str = "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && \
                   exec \"$@\"";

/// Why this machine cannot show it, if it cannot.
fn missing() -> Option<String> {
    for (program, package) in
        [("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux"), ("curl", "curl")]
    {
        if Command::new(program).arg("--version").output().is_err() {
            return Some(format!("{program} is not installed (package {package})"));
        }
    }
    let own = Command::new("unshare").args(["--net", "--mount", "true"]).output();
    match own {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

#[test]
fn instances_of_one_group_reach_each_other_and_one_of_another_does_not() {
    if let Some(why) = missing() {
        skipped(&format!("networks cannot be made here: {why}"));
        return;
    }
    let me = std::env::current_exe().expect("this test");
    let inside = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", OWN, "sh"])
        .arg(me)
        .args(["--exact", INSIDE, "--ignored", "--nocapture"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&inside.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.success() && said.contains("1 passed"), "{said}");
}

/// What a request from within an instance's network brings.
fn from_within(site: &Site, id: &str, url: &str, more: &[&str]) -> Option<String> {
    let run = fs::read(site.run_dir(&host_id(0), id).join("run.json")).expect("it runs");
    let run: Value = serde_json::from_slice(&run).expect("JSON");
    let output = Command::new("nsenter")
        .args(["--net", "--target", &run["pid"].to_string(), "curl", "-sf", "--max-time", "2"])
        .args(more)
        .arg(url)
        .output()
        .expect("nsenter");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test beside it, within a network of its own"]
async fn inside_a_network_of_its_own() {
    let mut site = Site::new(0, "10.77.0").await;
    site.describe_host(&host_id(0), "driver = \"netns\"");
    let agent = site.start_agent(&host_id(0)).await;
    site.agents.push(agent);
    // Of this group everybody may ask on one port; by default a group's members ask each other.
    let group = json!({ "name": "web", "description": "open to all" });
    let group = site.post("/v1/security-groups", group).await;
    let web = group["group_id"].as_str().unwrap_or_else(|| panic!("{group}")).to_owned();
    let rule = json!({
        "direction": "ingress", "protocol": "tcp", "from_port": 8080, "to_port": 8080,
        "peer": "0.0.0.0/0",
    });
    site.post(&format!("/v1/security-groups/{web}/rules"), rule).await;
    let hello = format!("#!/bin/sh\nexec {EVENTPLANE} hello 0.0.0.0:8080\n");
    let mut ids = Vec::new();
    for (address, more) in [
        ("10.77.0.10", json!({})),
        ("10.77.0.11", json!({})),
        ("10.77.0.12", json!({ "security_group_ids": [web] })),
    ] {
        let mut more = more;
        more["private_ip"] = json!(address);
        ids.extend(site.launch(1, &hello, more).await);
    }
    for id in &ids {
        site.state(id, "running").await;
    }
    let open: SocketAddr = "10.77.0.12:8080".parse().expect("an address");
    until("an answer at its leased address", async || ask(open).await.is_ok()).await;
    let reaches = |from: usize, to: &str| {
        from_within(&site, &ids[from], &format!("http://{to}:8080/"), &[]).is_some()
    };
    until("one of its group", async || reaches(0, "10.77.0.11")).await;
    assert!(reaches(1, "10.77.0.10"), "two of one group");
    assert!(!reaches(2, "10.77.0.10"), "one of another group");
    assert!(reaches(0, "10.77.0.12"), "whom all may ask");
    let closed: SocketAddr = "10.77.0.10:8080".parse().expect("an address");
    assert!(ask(closed).await.is_err(), "the host itself is not of the group");
    // Each learns about itself, at EC2's address.
    let service = "http://169.254.169.254/latest";
    let ttl = ["-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60"];
    for id in &ids {
        let token = from_within(&site, id, &format!("{service}/api/token"), &ttl).expect("a token");
        let token = format!("X-aws-ec2-metadata-token: {token}");
        let url = format!("{service}/meta-data/instance-id");
        assert_eq!(from_within(&site, id, &url, &["-H", &token]).as_deref(), Some(id.as_str()));
    }
    // The agent goes and comes back: what runs is still reached, and by nobody else.
    site.agents[0].kill();
    site.agents[0] = site.start_agent(&host_id(0)).await;
    let reaches = |from: usize, to: &str| {
        from_within(&site, &ids[from], &format!("http://{to}:8080/"), &[]).is_some()
    };
    assert!(reaches(0, "10.77.0.11") && !reaches(2, "10.77.0.10"));
    for id in &ids {
        site.send(eventplane_agent::Method::DELETE, &format!("/v1/instances/{id}"), None).await;
        site.state(id, "terminated").await;
    }
    let left = Command::new("ip").args(["-brief", "link"]).output().expect("ip");
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert_eq!(left.lines().count(), 1, "only its loopback is left: {left}");
}
