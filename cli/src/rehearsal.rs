//! What would be done, asked before it is done or once more: dry runs of dead letters, and replays.

use crate::args::Replay;
use crate::client::{Client, encode};
use crate::problem::Problem;
use crate::show::{Ink, Screen, text_at};
use crate::verbs::path_of;
use serde_json::{Map, Value, json};

/// `dead-letters redrive --dry-run`: of one letter, or of all.
pub(crate) async fn dry_run(
    client: &Client,
    screen: &mut Screen,
    id: Option<&str>,
    function: Option<&str>,
) -> Result<(), Problem> {
    let Some(id) = id else {
        let of = function.map(|name| format!("?function={}", encode(name))).unwrap_or_default();
        let answer = client.get(&format!("/v1/dead-letters/dry-run{of}")).await?;
        let letters = answer["dead_letters"].as_array().cloned().unwrap_or_default();
        screen.either(&answer, |screen| {
            format!("{}\n{}", letters_table(screen, &letters), counts(&answer["summary"]))
        });
        return Ok(());
    };
    let letter = client.get(&format!("/v1/dead-letters/{}/dry-run", path_of(id)?)).await?;
    screen.either(&letter, |screen| {
        let mut text = letters_table(screen, std::slice::from_ref(&letter));
        for write in letter["writes"].as_array().into_iter().flatten() {
            let line = format!("{} {}", text_at(write, "do"), text_at(write, "item"));
            text += &format!("\n  {}", screen.ink(Ink::Dim, line));
        }
        text
    });
    Ok(())
}

fn letters_table(screen: &Screen, letters: &[Value]) -> String {
    let row = |letter: &Value| {
        ["id", "function", "verdict", "why"].map(|name| text_at(letter, name)).to_vec()
    };
    let rows = letters.iter().map(row).collect();
    screen.table(&["DEAD LETTER", "FUNCTION", "VERDICT", "WHY"], rows)
}

/// How many there are of each verdict, in a line.
fn counts(summary: &Value) -> String {
    let counts = summary.as_object().into_iter().flatten();
    counts.map(|(verdict, many)| format!("{many} {verdict}")).collect::<Vec<_>>().join(", ")
}

/// `replay`: of the plane's own archive, or of a stack's.
pub(crate) async fn replay(
    client: &Client,
    screen: &mut Screen,
    asked: &Replay,
) -> Result<(), Problem> {
    if let Some(stack) = &asked.stack {
        return of_stack(client, screen, stack, asked).await;
    }
    let mut body = Map::new();
    let fields = [
        ("from", &asked.from),
        ("to", &asked.to),
        ("instance_id", &asked.instance),
        ("function", &asked.function),
    ];
    for (name, value) in fields {
        body.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
    }
    let answer = client.post("/v1/replays", &Value::Object(body)).await?;
    show(screen, &answer);
    Ok(())
}

#[cfg(feature = "aws")]
use crate::replay_aws::of_stack;

/// A replay of a stack, in a build that knows no AWS.
#[cfg(not(feature = "aws"))]
#[allow(clippy::unused_async, reason = "as the other one")]
async fn of_stack(_: &Client, _: &mut Screen, _: &str, _: &Replay) -> Result<(), Problem> {
    let message = format!("this build does not speak with AWS; {}", crate::reach::WITH_AWS);
    Err(Problem::Input(message))
}

/// By event and function the verdicts, and how many there are of each.
pub(crate) fn show(screen: &mut Screen, answer: &Value) {
    screen.either(answer, |screen| {
        let mut rows = Vec::new();
        for event in answer["events"].as_array().into_iter().flatten() {
            let of_event = ["at", "event", "instance_id"].map(|name| text_at(event, name));
            let functions = event["functions"].as_array().map_or(&[][..], Vec::as_slice);
            let row = |function: &Value| {
                let ruled = ["function", "verdict", "why"].map(|name| text_at(function, name));
                [&of_event[..], &ruled].concat()
            };
            rows.extend(functions.iter().map(row));
            if functions.is_empty() {
                let unheard = ["-", "-", "no function hears it"].map(str::to_owned);
                rows.push([&of_event[..], &unheard].concat());
            }
        }
        let headings = ["AT", "EVENT", "INSTANCE", "FUNCTION", "VERDICT", "WHY"];
        format!("{}\n{}", screen.table(&headings, rows), counts(&answer["summary"]))
    });
    if let Some(from) = answer["more_from"].as_str() {
        screen.aside(format!("there is more: --from {from} goes on"));
    }
    if let Some(lost) = answer["not_archived"].as_u64().filter(|lost| *lost > 0) {
        screen.aside(format!("warning: {lost} events are not in the archive: it was too slow"));
    }
}
