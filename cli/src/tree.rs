//! The chains of an instance's life, as trees.

use crate::show::{Ink, Screen, text_at};
use crate::tables;
use serde_json::Value;

/// What is said below the trees.
const LEGEND: &str = "* on the longest chain, where the time went; +ms after what is above it";

/// All chains, by generation.
pub(crate) fn text(screen: &Screen, explained: &Value) -> String {
    let mut lines = Vec::new();
    for generation in explained["generations"].as_array().into_iter().flatten() {
        for chain in generation["chains"].as_array().into_iter().flatten() {
            let of = text_at(generation, "generation");
            let took = text_at(chain, "took_ms");
            lines.push(screen.ink(Ink::Dim, format!("generation {of}, {took} ms")));
            branch(screen, chain, "", "", &mut lines);
        }
    }
    lines.push(screen.ink(Ink::Dim, LEGEND));
    lines.join("\n")
}

/// One fact and all that it led to: `first` stands before its line, `rest` before those below.
fn branch(screen: &Screen, fact: &Value, first: &str, rest: &str, lines: &mut Vec<String>) {
    lines.push(format!("{first}{}", line(screen, fact)));
    let led_to = fact["led_to"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, next) in led_to.iter().enumerate() {
        let is_last = index + 1 == led_to.len();
        let (first, further) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        branch(screen, next, &format!("{rest}{first}"), &format!("{rest}{further}"), lines);
    }
}

fn line(screen: &Screen, fact: &Value) -> String {
    let what = format!("{} {}", text_at(fact, "step"), text_at(fact, "what"));
    let is_critical = fact["critical"] == true;
    let mut words = vec![if is_critical { screen.ink(Ink::Bold, what) } else { what }];
    if let Some(ms) = fact["after_ms"].as_i64() {
        words.push(format!("{ms:+} ms"));
    }
    if is_critical {
        words.push("*".to_owned());
    }
    if let Some(tries) = fact["try"].as_u64() {
        words.push(screen.ink(Ink::Yellow, format!("try {tries}")));
    }
    words.extend(fact["host"].as_str().map(|host| format!("on {host}")));
    words.push(screen.ink(Ink::Dim, text_at(fact, "recorded")));
    let why = tables::reason(&fact["reason"]);
    if !why.is_empty() {
        words.push(format!("({why})"));
    }
    words.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tree_hangs_what_was_led_to_below_its_cause() {
        let fact = |what: &str, critical: bool, led_to: Value| {
            json!({ "step": "s", "what": what, "recorded": "t/k", "critical": critical,
                "after_ms": 2, "led_to": led_to })
        };
        let mut first = fact("two", false, json!([fact("three", false, json!([]))]));
        first["try"] = json!(3);
        let mut root = fact("one", true, json!([first, fact("four", true, json!([]))]));
        root["took_ms"] = json!(4);
        root["host"] = json!("host-1");
        root["reason"] = json!({ "code": "Code", "message": "why" });
        let explained = json!({ "generations": [{ "generation": 1, "chains": [root] }] });
        let nowhere = || Box::new(std::io::sink());
        let text = text(&Screen::pipes(nowhere(), nowhere()), &explained);
        let expected = "\
generation 1, 4 ms
s one  +2 ms  *  on host-1  t/k  (Code: why)
├─ s two  +2 ms  try 3  t/k
│  └─ s three  +2 ms  t/k
└─ s four  +2 ms  *  t/k";
        assert_eq!(text, format!("{expected}\n{LEGEND}"));
    }
}
