//! The ledger: whether everything adds up, and who holds what.

use crate::args::LedgerVerb;
use crate::client::Client;
use crate::problem::Problem;
use crate::show::{Ink, Screen, text_at};
use serde_json::{Value, json};

pub(crate) async fn ledger(
    client: &Client,
    screen: &mut Screen,
    verb: &LedgerVerb,
) -> Result<(), Problem> {
    match verb {
        LedgerVerb::Check => check(client, screen).await,
        LedgerVerb::Show => {
            let entries = client.list("/v1/ledger/entries", "entries").await?;
            screen.either(&json!({ "entries": entries }), |screen| open(screen, &entries));
            Ok(())
        }
    }
}

async fn check(client: &Client, screen: &mut Screen) -> Result<(), Problem> {
    let report = client.get("/v1/ledger").await?;
    screen.either(&report, |screen| checked(screen, &report));
    if report["balances"] == true {
        return Ok(());
    }
    let off = report["imbalances"].as_array().map_or(0, Vec::len);
    Err(Problem::Failed(format!("the ledger does not balance: {off} found")))
}

/// What was looked at, and what does not add up, each with its owners.
fn checked(screen: &Screen, report: &Value) -> String {
    let read = |name: &str| text_at(report, &format!("read/{name}"));
    let mut lines = vec![format!(
        "{} hosts, {} leased addresses ({} more rest), {} shards of pools; {} instances ({} not \
         terminated) and {} detached volumes of {} tenants",
        read("hosts"),
        read("leased"),
        read("resting"),
        read("shards"),
        read("instances"),
        read("live"),
        read("detached_volumes"),
        read("tenants"),
    )];
    let off = report["imbalances"].as_array().map(Vec::as_slice).unwrap_or_default();
    if off.is_empty() {
        lines.push(screen.ink(Ink::Green, "balances"));
    }
    for one in off {
        let (what, id) = (text_at(one, "what"), text_at(one, "id"));
        let said = format!("{what} {id}: {}", text_at(one, "message"));
        lines.push(screen.wrapped(&screen.ink(Ink::Red, said), 2));
        let owners = one["owners"].as_array().map(Vec::as_slice).unwrap_or_default();
        lines.extend(owners.iter().map(|owner| format!("  held by {}", owned(owner))));
    }
    screen.wrapped(&lines.remove(0), 0) + "\n" + &lines.join("\n")
}

/// An owner as `tenant/instance`, with its generation, state and volume as far as there are some.
fn owned(owner: &Value) -> String {
    let mut text = format!("{}/{}", text_at(owner, "tenant"), text_at(owner, "instance_id"));
    if let Some(generation) = owner["generation"].as_u64() {
        text += &format!(" (run {generation}, {})", text_at(owner, "state"));
    }
    if let Some(volume) = owner["volume_id"].as_str() {
        text += &format!(" ({volume}, which outlived it)");
    }
    text
}

/// Open entries, one a line.
fn open(screen: &Screen, entries: &[Value]) -> String {
    if entries.is_empty() {
        return "nobody holds anything".to_owned();
    }
    let row = |entry: &Value| {
        vec![
            text_at(entry, "owner/tenant"),
            text_at(entry, "owner/instance_id"),
            text_at(entry, "owner/generation"),
            text_at(entry, "owner/state"),
            text_at(entry, "step"),
            text_at(entry, "holds"),
            text_at(entry, "since"),
        ]
    };
    let headings = ["TENANT", "INSTANCE", "RUN", "STATE", "STEP", "HOLDS", "SINCE"];
    screen.table(&headings, entries.iter().map(row).collect())
}
