//! What a function writes to its log: JSON lines for people, and metrics in CloudWatch's embedded
//! format.
//!
//! Source: "Specification: Embedded metric format", CloudWatch user guide.

use eventplane_engine::{Clock, METRIC, SystemClock};
use serde_json::{Value, json};
use std::io::Write;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// The namespace of all metrics.
const NAMESPACE: &str = "Eventplane";

/// Starts the log. `filter`: what is written, `info` and graver if it is none; `stack`: the metrics'
/// only dimension.
pub(crate) fn start(filter: Option<String>, stack: Option<String>) {
    // Not the larger filter that knows spans and patterns: it would be a tenth of each binary.
    let filter = filter.and_then(|filter| filter.parse::<Targets>().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_current_span(false)
        .with_span_list(false)
        .with_filter(filter.with_target(METRIC, LevelFilter::OFF));
    let metrics = metrics(stack.unwrap_or_else(|| "local".to_owned()), |line| {
        // A metric that cannot be written is no reason to fail.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    });
    // A second start, as in tests, leaves the first.
    let _ = tracing_subscriber::registry().with(lines).with(metrics).try_init();
}

/// Writes what the engine's `metric` says, and nothing else.
struct Metrics {
    stack: String,
    write: fn(&Value),
}

fn metrics<S>(stack: String, write: fn(&Value)) -> impl Layer<S>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    Metrics { stack, write }.with_filter(filter_fn(|of| of.target() == METRIC))
}

impl<S: Subscriber> Layer<S> for Metrics {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut metric = Metric::default();
        event.record(&mut metric);
        (self.write)(&metric.line(&self.stack, SystemClock.now().0));
    }
}

#[derive(Default)]
struct Metric {
    name: String,
    unit: String,
    value: i64,
}

impl Metric {
    fn line(&self, stack: &str, at_ms: i64) -> Value {
        let Metric { name, unit, value } = self;
        json!({
            "_aws": {
                "Timestamp": at_ms,
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [["Stack"]],
                    "Metrics": [{ "Name": name, "Unit": unit }],
                }],
            },
            "Stack": stack,
            name: value,
        })
    }
}

impl Visit for Metric {
    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "value" {
            self.value = value;
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "name" => value.clone_into(&mut self.name),
            "unit" => value.clone_into(&mut self.unit),
            _ => {}
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_metric_is_a_line_that_cloudwatch_reads() {
        let metric = Metric {
            name: "LaunchDuration".to_owned(),
            unit: "Milliseconds".to_owned(),
            value: 87,
        };
        let expected = json!({
            "_aws": {
                "Timestamp": 5,
                "CloudWatchMetrics": [{
                    "Namespace": "Eventplane",
                    "Dimensions": [["Stack"]],
                    "Metrics": [{ "Name": "LaunchDuration", "Unit": "Milliseconds" }],
                }],
            },
            "Stack": "site-1",
            "LaunchDuration": 87,
        });
        assert_eq!(metric.line("site-1", 5), expected);
    }

    #[test]
    fn what_the_engine_says_is_written_and_nothing_else() {
        static LINES: Mutex<Vec<Value>> = Mutex::new(Vec::new());
        let keep = |line: &Value| LINES.lock().expect("no panic holds it").push(line.clone());
        let layers = tracing_subscriber::registry().with(metrics("site-1".to_owned(), keep));
        tracing::subscriber::with_default(layers, || {
            tracing::info!("a line for people");
            eventplane_engine::metric("SweeperRescues", "Count", 3);
        });
        let lines = LINES.lock().expect("no panic holds it").clone();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            (&lines[0]["SweeperRescues"], &lines[0]["Stack"]),
            (&json!(3), &json!("site-1"))
        );
        let metrics = &lines[0]["_aws"]["CloudWatchMetrics"][0]["Metrics"][0];
        assert_eq!(*metrics, json!({ "Name": "SweeperRescues", "Unit": "Count" }));
    }
}
