//! Why an instance is not running, as a tree for people.

use crate::client::Client;
use crate::problem::Problem;
use crate::show::{Ink, Screen, text_at};
use crate::verbs::instance_path;
use serde_json::Value;

pub(crate) async fn why(client: &Client, screen: &mut Screen, id: &str) -> Result<(), Problem> {
    let why = client.get(&format!("{}/why", instance_path(id)?)).await?;
    screen.either(&why, |screen| text(screen, &why));
    Ok(())
}

fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    value.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The summary, the checks that something falls to, and the changes that would do.
fn text(screen: &Screen, why: &Value) -> String {
    let state = screen.state(&text_at(why, "state"));
    let id = screen.ink(Ink::Bold, text_at(why, "instance_id"));
    let mut lines = vec![format!("{id} {state}, as of {}", text_at(why, "as_of"))];
    lines.push(screen.wrapped(&text_at(why, "summary"), 0));
    let checks = list(why, "/tree/capacity/checks");
    if !checks.is_empty() {
        let row = |check: &Value| {
            let dash = |path: &str| text_at(check, path);
            let name = match check["state"].as_str() {
                Some(state) => format!("{} ({state})", dash("check")),
                None => dash("check"),
            };
            let short = match &check["short_by"] {
                Value::Null => "-".to_owned(),
                short if short["least"] == short["most"] => {
                    format!("{} {}", short["least"], text_at(short, "unit"))
                }
                short => {
                    format!("{} to {} {}", short["least"], short["most"], text_at(short, "unit"))
                }
            };
            vec![name, dash("hosts"), dash("alone"), short]
        };
        let rows = checks.iter().map(row).collect();
        lines.push(screen.table(&["CHECK", "HOSTS", "ONLY THIS", "SHORT BY"], rows));
    }
    let mut places = Vec::new();
    for (step, what) in [("network", "reason/message"), ("storage", "short/check")] {
        for zone in list(why, &format!("/tree/{step}/zones")) {
            let verdict = if zone["fits"] == true { "room" } else { "none" };
            let row = [step.to_owned(), text_at(zone, "zone"), verdict.to_owned()];
            places.push([&row[..], &[text_at(zone, what)]].concat());
        }
    }
    if !places.is_empty() {
        lines.push(screen.table(&["STEP", "ZONE", "ROOM", "WHY NOT"], places));
    }
    let suggestions = list(why, "/suggestions");
    if !suggestions.is_empty() {
        lines.push("It would run, as it stands, with one of these:".to_owned());
    }
    lines.extend(suggestions.iter().map(|one| {
        let words = screen.wrapped(&format!("- {}", text_at(one, "words")), 2);
        format!("{words}\n  {}", screen.ink(Ink::Dim, one["change"].to_string()))
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_is_shown_with_its_checks_and_what_would_run() {
        let screen = Screen::pipes(Box::new(std::io::sink()), Box::new(std::io::sink()));
        let why = json!({
            "instance_id": "i-1", "state": "terminated", "as_of": "now", "summary": "it failed",
            "tree": {
                "capacity": { "checks": [
                    { "check": "state", "state": "draining", "hosts": 1, "alone": 1 },
                    { "check": "vcpus", "hosts": 7, "alone": 5,
                        "short_by": { "least": 2, "most": 14, "unit": "vCPUs" } },
                ] },
                "network": { "zones": [{ "zone": "a", "fits": false,
                    "reason": { "code": "c", "message": "full" } }] },
            },
            "suggestions": [{ "words": "b instead of a", "change": { "zone": "b" } }],
        });
        let text = text(&screen, &why);
        for part in [
            "i-1 terminated, as of now\nit failed\n",
            "state (draining)  1      1          -\n",
            "vcpus             7      5          2 to 14 vCPUs\n",
            "network  a     none  full\n",
            "- b instead of a\n  {\"zone\":\"b\"}",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let running = json!({ "instance_id": "i-1", "state": "running", "summary": "it runs" });
        assert!(!super::text(&screen, &running).contains("CHECK"));
    }
}
