//! What the plane costs on AWS: counted requests times published prices.
//!
//! [`counts`] is the one table of what a launch and a termination cost in requests; a test of the
//! whole plane holds it to what is really counted. [`prices`] says what AWS asks for each, and where
//! that was read. [`launch`] and [`rest`] only multiply. Free tiers, logs, traces and data transfer
//! are left out.

pub mod counts;
pub mod launch;
pub mod prices;
pub mod rest;

use prices::Price;
use serde::Serialize;

/// How many metrics the alarms of a stack look at, unless told otherwise. An alarm that computes pays
/// for each metric that it computes from.
pub const ALARMS: u64 = 25;
/// How much memory a function has, in GB: as `template.yaml` gives it unless told otherwise.
pub const MEMORY_GB: f64 = 0.25;
/// How long an invocation takes for each message or request, in milliseconds: an assumption, a few
/// calls of DynamoDB one after the other. A batch is taken to take as long as its messages would
/// alone.
pub const INVOCATION_MS: f64 = 20.0;

/// So much of something, and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What it is.
    pub what: &'static str,
    /// How much of it, in the price's unit.
    pub count: f64,
    /// What that costs, in dollars.
    pub usd: f64,
}

impl Line {
    pub(crate) fn of(what: &'static str, count: f64, price: &Price) -> Line {
        Line { what, count, usd: count * price.usd / price.per }
    }
}

/// What these cost together, in dollars.
#[must_use]
pub fn total_usd(lines: &[Line]) -> f64 {
    lines.iter().map(|line| line.usd).sum()
}

/// The compute of so many invocations' worth of messages or requests, in GB-seconds.
pub(crate) fn compute_gb_s(handled: f64) -> f64 {
    handled * INVOCATION_MS / 1_000.0 * MEMORY_GB
}
