//! Numbers for alarms and dashboards: said here, written by whoever runs the function.

/// The target of the trace events that are metrics.
pub const METRIC: &str = "eventplane::metric";

/// Says a number, such as the milliseconds that a launch took. `unit` is one of CloudWatch's names:
/// `Milliseconds`, `Count`.
///
/// Source: "`MetricDatum`", CloudWatch API reference.
pub fn metric(name: &'static str, unit: &'static str, value: i64) {
    tracing::info!(target: METRIC, name, unit, value);
}
