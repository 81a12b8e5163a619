//! What a tenant may have and how often it may ask, and the mode that the plane is in.

use crate::args::ModeVerb;
use crate::client::Client;
use crate::problem::Problem;
use crate::show::{Ink, Screen, text_at};
use serde_json::{Value, json};

pub(crate) async fn limits(client: &Client, screen: &mut Screen) -> Result<(), Problem> {
    let limits = client.get("/v1/limits").await?;
    screen.either(&limits, |screen| tables(screen, &limits));
    Ok(())
}

fn rows(value: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect()
}

/// A rate as how many at once, and how many a second after that.
fn rate(rate: &Value) -> String {
    match (rate["size"].as_u64(), rate["per_s"].as_u64()) {
        (Some(size), Some(per_s)) => format!("{size}, then {per_s}/s"),
        _ => "-".to_owned(),
    }
}

fn tables(screen: &Screen, limits: &Value) -> String {
    let quota = |of: &Value| vec![text_at(of, "name"), text_at(of, "used"), text_at(of, "limit")];
    let quotas = screen.table(&["QUOTA", "USED", "LIMIT"], rows(&limits["quotas"], quota));
    let of_action =
        |of: &Value| vec![text_at(of, "action"), rate(&of["requests"]), rate(&of["instances"])];
    let rates =
        screen.table(&["ACTION", "REQUESTS", "INSTANCES"], rows(&limits["rates"], of_action));
    format!("{quotas}\n\n{rates}")
}

pub(crate) async fn mode(
    client: &Client,
    screen: &mut Screen,
    verb: Option<&ModeVerb>,
) -> Result<(), Problem> {
    let wanted = match verb {
        None => None,
        Some(ModeVerb::Set { mode, reason }) => Some(json!({ "mode": mode, "reason": reason })),
        Some(ModeVerb::Auto) => Some(json!({ "mode": "auto" })),
    };
    let mode = match wanted {
        None => client.get("/v1/mode").await?,
        Some(wanted) => client.put("/v1/mode", &wanted).await?,
    };
    screen.either(&mode, |screen| {
        let name = text_at(&mode, "mode");
        let ink = if name == "normal" { Ink::Green } else { Ink::Yellow };
        let (by, reason) = (text_at(&mode, "set_by"), text_at(&mode, "reason"));
        let since = match text_at(&mode, "since").as_str() {
            "-" => String::new(),
            since => format!(" since {since}"),
        };
        format!("{}{since}, by the {by}: {reason}", screen.ink(ink, name))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_two_tables_and_what_has_none_is_a_dash() {
        let screen = Screen::pipes(Box::new(std::io::sink()), Box::new(std::io::sink()));
        let limits = json!({
            "quotas": [
                { "name": "instances", "used": 2, "limit": null },
                { "name": "vcpus", "used": 4, "limit": 5 },
            ],
            "rates": [{ "action": "RunInstances", "requests": { "size": 5, "per_s": 2 },
                "instances": null }],
        });
        let text = tables(&screen, &limits);
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[1..3], [vec!["instances", "2", "-"], vec!["vcpus", "4", "5"]]);
        assert_eq!(lines[5], ["RunInstances", "5,", "then", "2/s", "-"]);
    }
}
