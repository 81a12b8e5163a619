//! What operators type, against a plane: breakers, and dead letters by the many.

mod typed;

use eventplane_local::bus::BusOptions;
use eventplane_plane::PlaneOptions;
use eventplane_tests::site::{Site, options};
use serde_json::{Value, json};
use typed::run;

/// What it prints, if it succeeds.
async fn told(site: &Site, words: &[&str]) -> Value {
    let (code, out, err) = run(site, words).await;
    assert_eq!(code, 0, "{words:?}: {err}");
    serde_json::from_str(&out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_is_opened_listed_and_closed() {
    let site = Site::with_hosts(3).await;
    assert_eq!(told(&site, &["breaker", "open", "network"]).await["state"], "open");
    let id = site.launch_micro().await;
    let (_, table, _) = run(&site, &["breaker", "list", "--output", "table"]).await;
    assert!(table.starts_with("FUNCTION") && table.contains("WAITING"), "{table}");
    let line = table.lines().find(|line| line.trim().starts_with("network")).expect("a line");
    assert!(line.contains("open"), "{line}");
    let (code, _, err) = run(&site, &["breaker", "open", "teapot"]).await;
    assert_eq!(code, 1);
    for part in ["teapot", "capacity, network", "hint: `eventplane breaker list`"] {
        assert!(err.contains(part), "{err}");
    }
    told(&site, &["breaker", "close", "network"]).await;
    site.until(&id, "running").await;
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_redriven_once_each_and_purged_by_who_types_the_functions_name() {
    let bus = BusOptions { backoff_ms_max: 1, ..BusOptions::default() };
    let site = Site::start(PlaneOptions { bus, ..options(3) }).await;
    site.plane.bus().break_function("storage", "broken by the test");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(site.launch_micro().await);
    }
    site.plane.bus().idle().await;
    // Still broken, each fails again, and is left alone: it ends.
    let words = ["dead-letters", "redrive", "--all", "--function", "storage", "--rate", "1000"];
    assert_eq!(told(&site, &words).await, json!({ "redriven": 3 }));
    site.plane.bus().idle().await;
    let left = told(&site, &["dead-letters", "list", "--function", "storage"]).await;
    assert_eq!(left["dead_letters"].as_array().map(Vec::len), Some(3));

    let purge = ["dead-letters", "purge", "--function", "storage"];
    for (more, told) in [
        (&[][..], "--yes-purge storage"),
        (&["--yes-purge", "network"], "`network` is not `storage`: nothing was deleted"),
    ] {
        let (code, out, err) = run(&site, &[&purge, more].concat()).await;
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains("3 dead letters") && err.contains(told), "{err}");
    }
    let (code, _, err) = run(&site, &["dead-letters", "purge", "--function", "teapot"]).await;
    assert!(code == 1 && err.contains("`eventplane breaker list`"), "{code}: {err}");

    site.plane.bus().mend("storage");
    assert_eq!(told(&site, &["dead-letters", "redrive", "--all"]).await["redriven"], 3);
    for id in &ids {
        site.until(id, "running").await;
    }
    site.plane.bus().break_function("storage", "broken by the test");
    site.launch_micro().await;
    site.plane.bus().idle().await;
    let yes = [&purge[..], &["--yes-purge", "storage"]].concat();
    assert_eq!(told(&site, &yes).await, json!({ "function": "storage", "purged": 1 }));
    assert_eq!(told(&site, &yes).await["purged"], 0, "there are none left");
    site.plane.shutdown().await;
}
