//! What launches and terminations cost.

use crate::counts::{Count, HOST, least};
use crate::{Line, compute_gb_s, prices, total_usd};
use serde::Serialize;

/// How many messages a function is handed at a time when queues are full enough.
pub const BATCH: f64 = 5.0;

/// What is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// From the request until it runs.
    Launch,
    /// From the request until nothing is held.
    Termination,
}

/// How the steps are held together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Events and queues, every message by itself: a quiet plane.
    Alone,
    /// Events and queues, five messages at a time: a busy plane.
    Batches,
    /// A Standard workflow instead. Taken for a launch: start, capacity, a Parallel of network,
    /// storage and security, handoff, end; for a termination: start, handoff, a wait for the host,
    /// a Parallel of four steps, the record, end. No bus, no queues, no dead letters, and nothing
    /// that wakes it when the host reports.
    Standard,
    /// An Express workflow instead: the same states, one second for a launch and two for a
    /// termination in one chunk of memory. It cannot wait for longer than five minutes.
    Express,
}

/// All of them.
pub const WAYS: [Way; 4] = [Way::Alone, Way::Batches, Way::Standard, Way::Express];

/// State transitions of a launch and of a termination.
const TRANSITIONS: [f64; 2] = [8.0, 10.0];
/// Functions that a workflow invokes: the steps, and the one that keeps the record.
const TASKS: [f64; 2] = [6.0, 6.0];
/// How long an Express workflow takes, in seconds.
const EXPRESS_S: [f64; 2] = [1.0, 2.0];
/// One chunk of an Express workflow's memory, in GB.
const EXPRESS_GB: f64 = 0.0625;
/// Polls beyond the usual ones, which follow a change at once: an assumption.
const POLLS_SOON: [f64; 2] = [1.0, 2.0];

/// What `n` launches or terminations cost. What users ask besides is not in it.
#[must_use]
pub fn lines(phase: Phase, way: Way, n: f64) -> Vec<Line> {
    let at = usize::from(phase == Phase::Termination);
    let of = |count: Count| least(count)[at] as f64;
    let is_ours = matches!(way, Way::Alone | Way::Batches);
    let ours = |count: f64| if is_ours { count } else { 0.0 };
    let messages = of(Count::Deliveries);
    let handed = if way == Way::Batches { messages / BATCH } else { messages };
    // A rule sends each message by itself; receiving and deleting take a batch at a time.
    let queue_requests = of(Count::QueueRequests) - 2.0 * messages + 2.0 * handed;
    let (tasks, handled) = if is_ours { (handed, messages) } else { (TASKS[at], TASKS[at]) };
    // One request of the user, one report of the host, and the polls between.
    let requests = 2.0 + POLLS_SOON[at];
    let host_halves = (HOST.report_read_halves + HOST.instance_read_halves) as f64
        + POLLS_SOON[at] * HOST.poll_read_halves as f64;
    let halves = of(Count::ReadHalves) + of(Count::RequestReadHalves) + host_halves;
    let standard = if way == Way::Standard { TRANSITIONS[at] } else { 0.0 };
    let express = f64::from(u8::from(way == Way::Express));
    let express_gb_s = express * EXPRESS_S[at] * EXPRESS_GB;
    vec![
        Line::of("write units", n * of(Count::WriteUnits), &prices::WRITE_UNIT),
        Line::of("read units", n * halves / 2.0, &prices::READ_UNIT),
        Line::of("events", n * ours(of(Count::Events)), &prices::EVENT),
        Line::of("queue requests", n * ours(queue_requests), &prices::QUEUE_REQUEST),
        Line::of("state transitions", n * standard, &prices::TRANSITION),
        Line::of("workflows", n * express, &prices::EXPRESS),
        Line::of("workflow GB-s", n * express_gb_s, &prices::EXPRESS_COMPUTE),
        Line::of("invocations", n * (tasks + requests), &prices::INVOCATION),
        Line::of("GB-s", n * compute_gb_s(handled + requests), &prices::COMPUTE),
        Line::of("HTTP API requests", n * requests, &prices::HTTP_REQUEST),
    ]
}

/// What `n` of them cost together, in dollars.
#[must_use]
pub fn usd(phase: Phase, way: Way, n: f64) -> f64 {
    total_usd(&lines(phase, way, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_save_receives_deletes_and_invocations_and_nothing_else() {
        let [alone, batches] = [Way::Alone, Way::Batches].map(|way| lines(Phase::Launch, way, 1.0));
        for (alone, batches) in alone.iter().zip(&batches) {
            let differs = (alone.count - batches.count).abs() > 1e-9;
            let may_differ = ["queue requests", "invocations"].contains(&alone.what);
            assert_eq!(differs, may_differ, "{alone:?} {batches:?}");
        }
        let messages = least(Count::Deliveries)[0] as f64;
        let right = messages + 2.0 * messages / 5.0;
        assert!((batches[3].count - right).abs() < 1e-9, "{batches:?}");
    }

    #[test]
    fn a_workflow_pays_transitions_or_requests_instead_of_events_and_queues() {
        for (way, what) in [(Way::Standard, "state transitions"), (Way::Express, "workflows")] {
            let lines = lines(Phase::Launch, way, 1e6);
            let count = |what: &str| lines.iter().find(|line| line.what == what).unwrap().count;
            assert!(count(what) > 0.0 && count("events") + count("queue requests") == 0.0);
        }
        let standard = lines(Phase::Launch, Way::Standard, 1e6);
        assert!((standard[4].usd - 200.0).abs() < 1e-6, "{standard:?}");
    }

    #[test]
    fn a_thousand_cost_a_thousandth_of_a_million() {
        for way in WAYS {
            let [few, many] = [1e3, 1e6].map(|n| usd(Phase::Termination, way, n));
            assert!((few * 1e3 - many).abs() < 1e-6);
        }
    }
}
