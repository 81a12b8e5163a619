//! A timeline as a waterfall: each line of it under the one before, with a bar for the time that
//! the step took from what it was waiting for.

use crate::show::{Ink, Screen, text_at};
use serde_json::Value;

/// The most columns that the longest time has.
const COLUMNS_MAX: usize = 40;
/// The fewest, however narrow the terminal.
const COLUMNS_MIN: usize = 8;

/// The columns between the texts of a line, and those of the time since the beginning.
const BETWEEN: usize = "    ".len() + "  123456 ms  ".len() + " ".len();

/// One line of a timeline.
struct Line {
    step: String,
    what: String,
    from_ms: u64,
    to_ms: u64,
    generation: u64,
    reason: Option<String>,
}

/// Steps that begin when capacity has answered, side by side.
const SIDE_BY_SIDE: [&str; 3] = ["network", "storage", "security"];

/// The lines, each beginning where what it was waiting for ended: the three in the middle at
/// capacity's answer, every other at the line before it.
fn lines(events: &[Value]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for event in events {
        let to_ms = event["after_ms"].as_u64().unwrap_or(0);
        let step = text_at(event, "step");
        let is_middle = |step: &str| SIDE_BY_SIDE.contains(&step);
        let cause = lines.iter().rev().find(|line| !is_middle(&step) || !is_middle(&line.step));
        let from_ms = cause.map_or(to_ms, |line| line.to_ms).min(to_ms);
        lines.push(Line {
            step,
            what: text_at(event, "what"),
            from_ms,
            to_ms,
            generation: event["generation"].as_u64().unwrap_or(1),
            reason: event["reason"].as_str().map(str::to_owned),
        });
    }
    lines
}

fn bar(line: &Line, end_ms: u64, columns: usize) -> String {
    let column = |ms: u64| {
        let of_all = u128::from(ms) * columns as u128 / u128::from(end_ms.max(1));
        usize::try_from(of_all).unwrap_or(0)
    };
    let (from, to) = (column(line.from_ms), column(line.to_ms));
    let long = (to - from).max(1);
    // What ends at the end, and begins there, still has its mark within the columns.
    let from = from.min(columns - 1);
    format!("{}{}", " ".repeat(from), "█".repeat(long))
}

/// The events of a timeline (`GET /v1/instances/{id}/events`) as lines of text.
pub(crate) fn text(screen: &Screen, timeline: &Value) -> String {
    let events = timeline["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines = lines(events);
    let end_ms = lines.iter().map(|line| line.to_ms).max().unwrap_or(0);
    let width = |of: fn(&Line) -> &String| lines.iter().map(|line| of(line).len()).max();
    let (steps, whats) = (width(|line| &line.step), width(|line| &line.what));
    let (steps, whats) = (steps.unwrap_or(0), whats.unwrap_or(0));
    let is_one_run = lines.iter().all(|line| line.generation == lines[0].generation);
    let run = |line: &Line| format!(" run {}", line.generation);
    let runs =
        if is_one_run { 0 } else { lines.iter().map(|line| run(line).len()).max().unwrap_or(0) };
    let took = |line: &Line| format!("+{} ms", line.to_ms - line.from_ms);
    let tooks = lines.iter().map(|line| took(line).len()).max().unwrap_or(0);
    let beside = BETWEEN + steps + whats + runs + tooks;
    let columns = screen.columns().saturating_sub(beside).clamp(COLUMNS_MIN, COLUMNS_MAX);
    let mut text = Vec::new();
    let mut said = None;
    for line in &lines {
        let Line { step, what, to_ms, reason, .. } = line;
        let run = if is_one_run { String::new() } else { run(line) };
        let ink = match what.as_str() {
            "refused" | "withdrawn" | "terminated" => Ink::Red,
            "running" => Ink::Green,
            what if what.starts_with("given back") => Ink::Dim,
            _ => Ink::Cyan,
        };
        let what = screen.ink(ink, format!("{what:<whats$}"));
        let bar = screen.ink(ink, bar(line, end_ms, columns));
        let took = screen.ink(Ink::Dim, took(line));
        text.push(format!("  {step:<steps$}  {what}{run}  {to_ms:>6} ms  {bar} {took}"));
        // What has been said once is not repeated at every line that it led to.
        let news = reason.iter().filter(|reason| said != Some(*reason));
        text.extend(news.map(|reason| {
            let reason = format!("  {:steps$}  └ {reason}", "");
            screen.ink(Ink::Dim, screen.wrapped(&reason, steps + 6))
        }));
        said = reason.as_ref().or(said);
    }
    text.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_steps_in_the_middle_begin_together_and_the_handoff_after_the_last() {
        let event = |after_ms: u64, step: &str| json!({"after_ms": after_ms, "step": step, "what": "taken", "generation": 1});
        let events = [
            json!({"after_ms": 0, "step": "api", "what": "requested", "generation": 1}),
            event(10, "capacity"),
            event(14, "security"),
            event(20, "network"),
            event(31, "storage"),
            json!({"after_ms": 40, "step": "handoff", "what": "handed off", "generation": 1}),
        ];
        let spans: Vec<_> = lines(&events).iter().map(|line| (line.from_ms, line.to_ms)).collect();
        assert_eq!(spans, [(0, 0), (0, 10), (10, 14), (10, 20), (10, 31), (31, 40)]);
    }

    #[test]
    fn a_waterfall_shows_times_bars_and_reasons() {
        let screen = Screen::pipes(Box::new(std::io::sink()), Box::new(std::io::sink()));
        let timeline = json!({"events": [
            {"after_ms": 0, "step": "api", "what": "requested", "generation": 1},
            {"after_ms": 5, "step": "capacity", "what": "refused", "generation": 1,
             "reason": "12 hosts: 12 short of vCPUs"},
            {"after_ms": 10, "step": "handoff", "what": "withdrawn", "generation": 1},
        ]});
        let right = "  api       requested       0 ms  █ +0 ms
  capacity  refused         5 ms  ████████████████████ +5 ms
            └ 12 hosts: 12 short of vCPUs
  handoff   withdrawn      10 ms                      ████████████████████ +5 ms";
        assert_eq!(text(&screen, &timeline), right);
    }

    #[test]
    fn nothing_breaks_on_an_empty_timeline_or_times_that_go_back() {
        let screen = Screen::pipes(Box::new(std::io::sink()), Box::new(std::io::sink()));
        assert_eq!(text(&screen, &json!({})), "");
        let odd = json!({"events": [{"after_ms": 9}, {"after_ms": 3}, {"after_ms": -4}]});
        assert_eq!(text(&screen, &odd).lines().count(), 3);
    }
}
