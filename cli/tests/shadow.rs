//! What happened, what led to what, and what would be done: as the command shows it.

mod typed;

use eventplane_local::bus::BusOptions;
use eventplane_tests::site::Site;
use serde_json::Value;

/// What the command prints with these words, on either output, and its exit code.
async fn run(site: &Site, words: &[&str]) -> (u8, String) {
    let (code, out, err) = typed::run(site, words).await;
    (code, out + &err)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_explained_replayed_and_a_redrive_is_tried_without_effect() {
    let bus = BusOptions { backoff_ms_max: 1, ..BusOptions::default() };
    let site = Site::with_bus(3, bus).await;
    let id = site.launch_micro().await;
    site.until(&id, "running").await;

    let (code, out) = run(&site, &["explain", &id]).await;
    let explained: Value = serde_json::from_str(&out).expect("JSON in a pipe");
    assert_eq!((code, &explained["state"]), (0, &Value::from("running")));
    let (_, tree) = run(&site, &["explain", &id, "--output", "table"]).await;
    assert!(tree.contains("└─ capacity taken") && tree.contains("instances running"), "{tree}");

    let (code, out) = run(&site, &["replay", "--instance", &id]).await;
    let replayed: Value = serde_json::from_str(&out).expect("JSON in a pipe");
    assert_eq!((code, &replayed["summary"]["apply"]), (0, &Value::from(0)), "{replayed:#}");
    let (_, table) = run(&site, &["replay", "--function", "network", "--output", "table"]).await;
    assert!(table.contains("nothing to do") && table.contains("CapacityAllocated"), "{table}");
    let (code, refused) = run(&site, &["replay", "--from", "yesterday"]).await;
    assert!(code == 1 && refused.contains("2026-11-25T08:30:00Z"), "{refused}");

    site.plane.bus().break_function("storage", "broken by the test");
    site.launch_micro().await;
    let mut letters = Value::Null;
    for _ in 0..3_000 {
        letters = site.get("/v1/dead-letters").await["dead_letters"].clone();
        if letters[0].is_object() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let letter = letters[0]["id"].as_str().expect("a letter");
    let (code, out) = run(&site, &["dead-letters", "redrive", letter, "--dry-run"]).await;
    let ruled: Value = serde_json::from_str(&out).expect("JSON in a pipe");
    assert_eq!((code, &ruled["verdict"]), (0, &Value::from("apply")), "{ruled:#}");
    let words = ["dead-letters", "redrive", "--all", "--dry-run", "--output", "table"];
    let (code, table) = run(&site, &words).await;
    assert!(code == 0 && table.contains("1 apply, 0 nothing to do"), "{table}");
    assert_eq!(site.get("/v1/dead-letters").await["dead_letters"], letters, "nothing was redriven");
    let (code, _) = run(&site, &["replay", "--stack", "plane"]).await;
    assert_eq!(code, 2, "a stack's replay names its span");
    site.plane.shutdown().await;
}
