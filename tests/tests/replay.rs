//! The past once more, in the shadow: nothing is done twice, and what was never done shows.

use axum::http::{Method, StatusCode};
use eventplane_domain::Tenant;
use eventplane_tests::books::Books;
use eventplane_tests::site::Site;
use serde_json::{Value, json};

async fn replay(site: &Site, asked: &Value) -> (StatusCode, Value) {
    site.send(Method::POST, "/v1/replays", Some(asked.clone())).await
}

/// The verdicts: (event, function, verdict).
fn verdicts(replayed: &Value) -> Vec<(String, String, String)> {
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let events = replayed["events"].as_array().expect("events").iter();
    let of_event = events.flat_map(|event| {
        let functions = event["functions"].as_array().expect("functions").iter();
        functions.map(|one| (text(&event["event"]), text(&one["function"]), text(&one["verdict"])))
    });
    of_event.collect()
}

fn has(replayed: &Value, event: &str, function: &str, verdict: &str) -> bool {
    let is = |(e, f, v): &(String, String, String)| e == event && f == function && v == verdict;
    verdicts(replayed).iter().any(is)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_is_replayed_repeats_no_effect() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = Site::in_dir(6, dir.path()).await;
    let (id, other) = (site.launch_micro().await, site.launch_micro().await);
    site.until(&id, "running").await;
    site.until(&other, "running").await;
    site.plane.bus().idle().await;
    let (status, all) = replay(&site, &json!({ "instance_id": id })).await;
    assert_eq!(status, StatusCode::OK, "{all}");
    let names: Vec<&str> = all["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter_map(|e| e["event"].as_str())
        .collect();
    assert_eq!(names[..2], ["InstanceRequested", "CapacityAllocated"], "in order");
    assert!(names.contains(&"InstanceRunning"));
    assert!(names.contains(&"InstanceHandedOff"), "also what no function hears");
    // To capacity and handoff, to three steps, three joins, and the record; a host may report twice.
    assert!(all["summary"]["nothing to do"].as_u64().expect("a count") >= 9, "{all:#}");
    assert_eq!(verdicts(&all).len() as u64, all["summary"]["nothing to do"], "{all:#}");
    assert_eq!(all["events"][1]["caused_by"], all["events"][0]["event_id"]);

    site.terminate(&id).await;
    site.until(&id, "terminated").await;
    site.plane.bus().idle().await;
    let published = site.plane.bus().stats().published;
    let before = Books::read(&**site.plane.store(), &Tenant::local()).await;
    let (_, all) = replay(&site, &json!({ "instance_id": id })).await;
    assert!(has(&all, "CapacityAllocated", "network", "stale"), "{all:#}");
    assert!(has(&all, "InstanceWithdrawn", "network", "nothing to do"), "{all:#}");
    assert_eq!(all["summary"]["apply"], 0, "{all:#}");
    let (_, of_network) = replay(&site, &json!({ "instance_id": id, "function": "network" })).await;
    assert!(verdicts(&of_network).iter().all(|(_, function, _)| function == "network"));
    let after = Books::read(&**site.plane.store(), &Tenant::local()).await;
    assert_eq!(format!("{after:?}"), format!("{before:?}"));
    assert_eq!(site.plane.bus().stats().published, published);
    site.plane.shutdown().await;

    // The archive outlives the process.
    let site = Site::in_dir(6, dir.path()).await;
    let (_, again) = replay(&site, &json!({ "instance_id": other })).await;
    assert!(has(&again, "InstanceRequested", "capacity", "nothing to do"), "{again:#}");
    assert_eq!(site.get(&format!("/v1/instances/{other}")).await["state"], "running");
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_done_would_be_done_once_in_the_shadow() {
    let site = Site::with_hosts(6).await;
    site.plane.bus().pause("network");
    let id = site.launch_micro().await;
    while site.plane.bus().stats().published < 4 {
        tokio::task::yield_now().await;
    }
    let asked = json!({ "instance_id": id, "function": "network" });
    for _ in 0..2 {
        let (_, replayed) = replay(&site, &asked).await;
        assert_eq!(
            verdicts(&replayed),
            [("CapacityAllocated".into(), "network".into(), "apply".into())]
        );
    }
    // The same twice in one shadow: the second finds what the first would have written.
    let message = json!({ "function": "network", "message": requested(&site, &id).await });
    let rehearse = json!({ "deliveries": [message, message] });
    let (status, both) = site.send(Method::POST, "/v1/rehearsals", Some(rehearse)).await;
    assert_eq!(status, StatusCode::OK, "{both}");
    let verdict = |at: usize| both["rehearsed"][at]["verdict"].clone();
    assert_eq!((verdict(0), verdict(1)), (json!("apply"), json!("nothing to do")), "{both:#}");
    site.plane.bus().resume("network");
    site.until(&id, "running").await;
    site.plane.shutdown().await;
}

/// The placement of the launch, as its event would be.
async fn requested(site: &Site, id: &str) -> Value {
    use eventplane_events::{Data, envelope, samples};
    let mut all = samples::all().into_iter();
    let mut event =
        all.find(|event| matches!(event.data, Data::CapacityAllocated(_))).expect("a sample");
    let shown = site.get(&format!("/v1/instances/{id}")).await;
    event.metadata.subject = eventplane_domain::InstanceId::parse(id).expect("an id");
    event.metadata.tenant = Tenant::local();
    event.metadata.generation = 1;
    event.metadata.deadline = eventplane_domain::Millis(i64::MAX);
    if let Data::CapacityAllocated(allocated) = &mut event.data {
        let launch = &mut allocated.launch;
        launch.placement.zone = shown["placement"]["zone"].as_str().expect("a zone").to_owned();
        (launch.spec.subnet_id, launch.spec.private_ip) = (None, None);
        launch.spec.security_group_ids = vec![];
    }
    let message = envelope(&event.entry(), "e-1", "2026-11-25T00:00:00Z");
    serde_json::from_str(&message).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_cannot_be_says_what_would_be_right() {
    let site = Site::with_hosts(1).await;
    for (asked, code, word) in [
        (json!({ "from": "yesterday" }), "InvalidParameterValue", "2026-11-25T08:30:00Z"),
        (
            json!({ "from": "2026-11-25T09:00:00Z", "to": "2026-11-25T08:00:00Z" }),
            "InvalidParameterValue",
            "after `to`",
        ),
        (json!({ "function": "netwrk" }), "InvalidParameterValue", "network"),
        (json!({ "instance_id": "x" }), "InvalidInstanceID.Malformed", "i-"),
        (json!({ "since": "x" }), "UnknownParameter", "since"),
    ] {
        let (status, refused) = replay(&site, &asked).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
        let error = &refused["error"];
        assert_eq!(error["code"], code, "{refused}");
        assert!(error["message"].as_str().is_some_and(|said| said.contains(word)), "{refused}");
    }
    for deliveries in [json!([]), json!([{ "function": "netwrk", "message": {} }])] {
        let asked = json!({ "deliveries": deliveries });
        let (status, refused) = site.send(Method::POST, "/v1/rehearsals", Some(asked)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    }
    let (_, none) = replay(&site, &json!({ "to": "2020-01-01T00:00:00Z" })).await;
    assert_eq!(none["events"], json!([]));
    site.plane.shutdown().await;
}
