//! What a month costs in which nothing is launched.

use crate::counts::{
    ASSIGNMENT_BYTES, HEARTBEAT_EVERY_S, HOST, INBOXES, POLL_EVERY_S, READ_UNIT_BYTES, SEEN_BYTES,
    SEEN_EVERY_S, SEEN_READS, SWEEP_SHARDS,
};
use crate::{ALARMS, Line, compute_gb_s, prices};
use serde::Serialize;

/// A month, in seconds: 730 hours, as AWS counts it.
pub const MONTH_S: f64 = 730.0 * 3_600.0;
/// Pollers of an inbox, which do not rest where a maximum of concurrency is set, and how long one asks
/// for: by "Using Lambda with Amazon SQS", Lambda developer guide, and not read on a bill.
const POLLERS: f64 = 5.0;
const LONG_POLL_S: f64 = 20.0;
/// Receives of an inbox that bring nothing, in a month.
pub const EMPTY_RECEIVES: f64 = POLLERS * MONTH_S / LONG_POLL_S;

/// What rests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rest {
    /// Hosts that are enrolled.
    pub hosts: u64,
    /// Instances that run on them.
    pub instances: u64,
    /// What the tables hold.
    pub gigabytes: f64,
    /// Metrics that alarms look at.
    pub alarms: u64,
}

impl Default for Rest {
    fn default() -> Self {
        Rest { hosts: 10, instances: 100, gigabytes: 1.0, alarms: ALARMS }
    }
}

/// What a month of it costs.
#[must_use]
pub fn lines(rest: &Rest) -> Vec<Line> {
    let (hosts, instances) = (rest.hosts as f64, rest.instances as f64);
    let sweeps = MONTH_S / 60.0;
    let polls = hosts * MONTH_S / POLL_EVERY_S as f64;
    let heartbeats = MONTH_S / HEARTBEAT_EVERY_S as f64;
    let requests = polls + hosts * heartbeats;
    // One page of a host's assignments is read as a whole, and the header with it.
    let on_a_host = rest.instances.checked_div(rest.hosts).unwrap_or(0);
    let more_units = (on_a_host * ASSIGNMENT_BYTES) / READ_UNIT_BYTES;
    let poll_halves = HOST.poll_read_halves + 2 * more_units;
    let halves = polls * poll_halves as f64
        + hosts * heartbeats * HOST.heartbeat_read_halves as f64
        + instances * heartbeats * HOST.instance_read_halves as f64;
    let seen_units = SEEN_BYTES as f64 / READ_UNIT_BYTES as f64;
    let heard = hosts * MONTH_S / SEEN_EVERY_S as f64;
    vec![
        Line::of(
            "empty receives of the inboxes",
            INBOXES as f64 * EMPTY_RECEIVES,
            &prices::QUEUE_REQUEST,
        ),
        Line::of("sweeps, one a minute", sweeps, &prices::INVOCATION),
        Line::of("GB-seconds of sweeps", compute_gb_s(sweeps), &prices::COMPUTE),
        // An eventual read that finds nothing costs half a unit; those of hosts, and of the plane's
        // mode, are consistent.
        Line::of(
            "read units of sweeps",
            sweeps * (SWEEP_SHARDS as f64 / 2.0 + 1.0 + SEEN_READS as f64 + hosts * seen_units),
            &prices::READ_UNIT,
        ),
        Line::of("write units of sweeps", sweeps, &prices::WRITE_UNIT),
        Line::of("metrics that alarms look at", rest.alarms as f64, &prices::ALARM),
        Line::of("dashboard", 1.0, &prices::DASHBOARD),
        Line::of("key", 1.0, &prices::KEY),
        Line::of("storage, GB", rest.gigabytes, &prices::STORAGE),
        Line::of("point-in-time recovery, GB", rest.gigabytes, &prices::RECOVERY),
        Line::of("hosts' polls and heartbeats", requests, &prices::HTTP_REQUEST),
        Line::of("invocations for hosts", requests, &prices::INVOCATION),
        Line::of("GB-seconds for hosts", compute_gb_s(requests), &prices::COMPUTE),
        Line::of("read units for hosts", halves / 2.0, &prices::READ_UNIT),
        Line::of("write units for hosts", heard, &prices::WRITE_UNIT),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::total_usd;

    #[test]
    fn each_host_costs_the_same_and_a_plane_without_hosts_costs_its_fixed_part() {
        let usd = |hosts| total_usd(&lines(&Rest { hosts, instances: 0, ..Rest::default() }));
        let [none, one, ten] = [0, 1, 10].map(usd);
        assert!(((one - none) * 10.0 - (ten - none)).abs() < 1e-9);
        // 613,200 requests of a dollar and twenty cents a million, and what they read.
        assert!((0.8..1.0).contains(&(one - none)), "{}", one - none);
        assert!((5.0..12.0).contains(&none), "{none}");
    }

    #[test]
    fn instances_cost_reads_whether_or_not_there_are_hosts_to_divide_them_by() {
        let usd =
            |hosts, instances| total_usd(&lines(&Rest { hosts, instances, ..Rest::default() }));
        assert!(usd(10, 100) > usd(10, 0));
        assert!(usd(0, 0).is_finite());
    }
}
