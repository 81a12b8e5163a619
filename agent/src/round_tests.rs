//! How often a host asks and reports, in virtual time.

use crate::{Answer, Fleet, FleetOptions, Method, NoAnswer, Transport};
use async_trait::async_trait;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// What the plane of a test does with a question.
#[derive(Clone, Copy, PartialEq)]
enum Plane {
    /// Answers at once, and says how soon to ask again.
    Lambda,
    /// Holds the answer back for as long as it was asked to.
    Waits,
    /// Takes every registration, and knows nobody.
    Forgets,
    /// Answers with errors of a gateway.
    Throttles,
}

/// After a change, this many answers ask for the next question soon.
const SOON: usize = 3;

/// A plane of one host: its set changes at the given second.
struct Scripted {
    plane: Plane,
    begun: Instant,
    changes_at_s: Option<u64>,
    /// When each question came, in milliseconds, and reports.
    polls: Mutex<Vec<u64>>,
    reports: Mutex<Vec<u64>>,
}

impl Scripted {
    fn ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }
}

#[async_trait]
impl Transport for Scripted {
    async fn send(
        &self,
        method: Method,
        path: &str,
        _body: Option<Vec<u8>>,
    ) -> Result<Answer, NoAnswer> {
        let answer = |status, json: serde_json::Value| {
            Ok(Answer { status, body: json.to_string().into_bytes().into() })
        };
        // A request takes its time: nothing is free.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if self.plane == Plane::Throttles {
            self.polls.lock().unwrap().push(self.ms());
            return answer(429, json!({ "message": "Too Many Requests" }));
        }
        if method == Method::POST {
            if path.ends_with("/reports") {
                self.reports.lock().unwrap().push(self.ms());
            }
            return answer(200, json!({}));
        }
        let after_change = {
            let mut polls = self.polls.lock().unwrap();
            polls.push(self.ms());
            let change_ms = self.changes_at_s.map_or(u64::MAX, |at_s| at_s * 1_000);
            polls.iter().filter(|at_ms| **at_ms >= change_ms).count()
        };
        if self.plane == Plane::Forgets {
            return answer(404, json!({ "error": { "code": "InvalidHostID.NotFound" } }));
        }
        let waits_for = path.rsplit('=').next().and_then(|wait| wait.parse().ok()).unwrap_or(0);
        if self.plane == Plane::Waits {
            tokio::time::sleep(Duration::from_secs(waits_for)).await;
        }
        let revision = if after_change > 0 { 2 } else { 1 };
        let poll_after_ms = if (1..=SOON).contains(&after_change) { 250 } else { 5_000 };
        let set = json!({ "revision": revision, "poll_after_ms": poll_after_ms });
        answer(200, set)
    }
}

/// When a host asked and reported in so many seconds, in milliseconds.
async fn watched(plane: Plane, changes_at_s: Option<u64>, seconds: u64) -> (Vec<u64>, Vec<u64>) {
    let begun = Instant::now();
    let scripted =
        Scripted { plane, begun, changes_at_s, polls: Mutex::default(), reports: Mutex::default() };
    let scripted = Arc::new(scripted);
    let options = FleetOptions { hosts: 1, ..FleetOptions::default() };
    let fleet = Fleet::run(options, scripted.clone()).unwrap();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    fleet.stop().await;
    let (polls, reports) = (scripted.polls.lock().unwrap(), scripted.reports.lock().unwrap());
    (polls.clone(), reports.clone())
}

#[tokio::test(start_paused = true)]
async fn a_plane_that_does_not_wait_is_asked_when_it_said_and_hears_a_heartbeat_every_30_s() {
    let (polls, reports) = watched(Plane::Lambda, None, 600).await;
    assert!((118..=124).contains(&polls.len()), "{} polls", polls.len());
    assert!((18..=22).contains(&reports.len()), "{} reports", reports.len());
    for pair in reports.windows(2) {
        assert!((26_500..=33_500).contains(&(pair[1] - pair[0])), "{reports:?}");
    }
    // The first two find out that it does not wait.
    for pair in polls[2..].windows(2) {
        assert!(pair[1] - pair[0] >= 5_000, "{polls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_change_such_a_plane_is_asked_again_when_it_said_and_no_sooner() {
    let (polls, _) = watched(Plane::Lambda, Some(31), 60).await;
    let gaps: Vec<u64> = polls[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    let soon: Vec<&u64> = gaps.iter().filter(|gap| **gap < 5_000).collect();
    assert_eq!(soon.len(), SOON, "{polls:?}");
    assert!(soon.iter().all(|gap| (250..300).contains(*gap)), "{polls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_plane_that_waits_is_asked_again_at_once() {
    let (polls, _) = watched(Plane::Waits, None, 600).await;
    assert!((28..=32).contains(&polls.len()), "{} polls", polls.len());
    for pair in polls[1..].windows(2) {
        assert!(pair[1] - pair[0] <= 20_100, "{polls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plane_that_knows_nobody_or_throttles_is_asked_ever_more_rarely() {
    for plane in [Plane::Forgets, Plane::Throttles] {
        let (polls, _) = watched(plane, None, 600).await;
        // Five seconds at most, half of it chance; a heartbeat that is taken begins anew.
        assert!((110..=360).contains(&polls.len()), "{} polls", polls.len());
    }
}
