//! A control plane that comes back to a thousand hosts which have all waited for it.

use crate::site::{Site, until};
use eventplane_agent::{Fleet, FleetOptions, Http};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const HOSTS: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_agents_that_come_back_at_once_do_not_knock_the_plane_over() {
    let mut site = Site::new(0, "127.50.0").await;
    let options = FleetOptions {
        hosts: HOSTS,
        zones: vec!["zone-a".to_owned()],
        heartbeat_ms: 3_000,
        wait_s: 10,
        ..FleetOptions::default()
    };
    let http = Http::new(site.http.endpoint()).expect("an endpoint");
    let fleet = Fleet::run(options, Arc::new(http)).expect("a fleet");
    assert!(fleet.registered(Duration::from_secs(120)).await, "{:?}", fleet.stats());
    site.plane.take().expect("it runs").kill();
    until("hosts that ask in vain", async || fleet.stats().failed > 2 * HOSTS).await;
    let away = fleet.stats();
    site.start_plane().await;
    let back = Instant::now();
    // Whoever uses the plane meanwhile is served.
    let mut launched = 0;
    until("a report of every host", async || {
        site.launch(1, "", json!({})).await;
        launched += 1;
        fleet.stats().reports >= away.reports + HOSTS
    })
    .await;
    let stats = fleet.stats();
    println!(
        "{HOSTS} hosts were back after {} ms; {launched} launches were asked for and taken meanwhile; \
         {} requests of hosts had failed while it was away, {} since",
        back.elapsed().as_millis(),
        away.failed,
        stats.failed - away.failed
    );
    let ids = site.launch(1, "", json!({})).await;
    site.state(&ids[0], "running").await;
    fleet.stop().await;
}
