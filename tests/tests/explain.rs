//! What led to what, over HTTP: a launch whose step failed twice, one that was refused, and a
//! termination.

use axum::http::StatusCode;
use eventplane_tests::site::Site;
use serde_json::{Value, json};

/// Each fact of the chains, with the names of its ancestors before it.
fn paths(explained: &Value) -> Vec<(Vec<String>, Value)> {
    fn walk(fact: &Value, above: &[String], found: &mut Vec<(Vec<String>, Value)>) {
        let name = |of: &str| fact[of].as_str().expect("a text");
        let path = [above, &[format!("{} {}", name("step"), name("what"))]].concat();
        for next in fact["led_to"].as_array().into_iter().flatten() {
            walk(next, &path, found);
        }
        found.push((path, fact.clone()));
    }
    let mut found = Vec::new();
    for generation in explained["generations"].as_array().expect("generations") {
        for chain in generation["chains"].as_array().expect("chains") {
            walk(chain, &[], &mut found);
        }
    }
    found
}

/// The fact that is called so.
fn fact(explained: &Value, name: &str) -> (Vec<String>, Value) {
    let mut named = paths(explained)
        .into_iter()
        .filter(|(path, _)| path.last().is_some_and(|last| last == name));
    let found = named.next().unwrap_or_else(|| panic!("no `{name}`: {explained:#}"));
    assert!(named.next().is_none(), "`{name}` twice: {explained:#}");
    found
}

async fn explained(site: &Site, id: &str) -> Value {
    site.plane.bus().idle().await;
    site.get(&format!("/v1/instances/{id}/explain")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_failed_twice_shows_at_which_try_it_answered_and_holds_the_longest_chain() {
    let site = Site::with_hosts(6).await;
    site.plane.bus().break_function("storage", "broken by the test");
    let before = site.plane.bus().stats().deliveries;
    let id = site.launch_micro().await;
    // Capacity, handoff, three steps and two joins: seven deliveries, and one more that fails.
    while site.plane.bus().stats().deliveries < before + 8 {
        tokio::task::yield_now().await;
    }
    site.plane.bus().mend("storage");
    site.until(&id, "running").await;
    let explained = explained(&site, &id).await;
    let (path, storage) = fact(&explained, "storage taken");
    assert_eq!(path, ["api requested", "capacity taken", "storage taken"]);
    let tries = storage["try"].as_u64().expect("it was tried more than once");
    assert!((3..=5).contains(&tries), "{storage:#}");
    assert!(storage["recorded"].as_str().unwrap().starts_with("storage/default/"), "{storage:#}");
    for untried in ["network taken", "capacity taken", "handoff handed off"] {
        assert_eq!(fact(&explained, untried).1["try"], Value::Null, "{untried}");
    }
    let (path, running) = fact(&explained, "instances running");
    let longest = [
        "api requested",
        "capacity taken",
        "storage taken",
        "handoff handed off",
        "instances running",
    ];
    assert_eq!(path, longest, "storage was the last to join");
    let chain = &explained["generations"][0]["chains"][0];
    let sum: i64 = paths(&explained)
        .iter()
        .filter(|(path, fact)| {
            fact["critical"] == true && longest.starts_with(path_of(path).as_slice())
        })
        .filter_map(|(_, fact)| fact["after_ms"].as_i64())
        .sum();
    assert_eq!(chain["took_ms"].as_i64(), Some(sum), "the edges add up");
    assert!(fact(&explained, "capacity taken").1["host"].is_string());
    assert_eq!(running["critical"], true);
    site.plane.shutdown().await;
}

fn path_of(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_launch_leads_from_its_refusal_to_four_give_backs_and_the_end() {
    let site = Site::with_hosts(6).await;
    let volumes = json!([{ "volume_type": "io2", "size_gib": 65_536, "iops": 100 }]);
    let volumes: Vec<Value> = vec![volumes[0].clone(); 9];
    let id = site.launch(json!({ "instance_type": "t3.micro", "volumes": volumes })).await;
    site.until(&id, "terminated").await;
    let explained = explained(&site, &id).await;
    let (path, withdrawn) = fact(&explained, "handoff withdrawn");
    let undone = ["api requested", "capacity taken", "storage refused", "handoff withdrawn"];
    assert_eq!(path, undone);
    assert!(withdrawn["reason"]["code"].as_str().unwrap().contains("InsufficientVolumeCapacity"));
    for step in ["capacity", "network", "storage", "security"] {
        let (path, _) = fact(&explained, &format!("{step} given back for good"));
        assert_eq!(path[..4], undone);
    }
    let (path, end) = fact(&explained, "instances terminated");
    assert_eq!(path[..4], undone);
    assert_eq!((path.len(), &end["critical"]), (6, &json!(true)));
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_termination_is_a_chain_of_its_own() {
    let site = Site::with_hosts(6).await;
    let id = site.launch_micro().await;
    site.until(&id, "running").await;
    site.terminate(&id).await;
    site.until(&id, "terminated").await;
    let explained = explained(&site, &id).await;
    assert_eq!(fact(&explained, "instances running").0[0], "api requested");
    let (path, _) = fact(&explained, "instances terminated");
    assert_eq!(path[..2], ["api termination requested", "handoff withdrawing"]);
    let (status, refused) =
        site.send(axum::http::Method::GET, "/v1/instances/i-00000000000000000/explain", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{refused}");
    site.plane.shutdown().await;
}
