//! What an instance has written to its console.

use crate::client::Client;
use crate::problem::Problem;
use crate::show::{Output, Screen};
use crate::verbs::instance_path;
use clap::Args;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// How long a host may take to send what it is asked for: it asks for orders every five seconds where
/// nobody tells it of them.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a plane that does not wait is asked whether it has come.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Console {
    /// The instance's id.
    id: String,
    /// Ask its host for it anew.
    #[arg(long)]
    latest: bool,
}

/// Prints the output as it was written, and nothing else, unless JSON is asked for by name.
pub(crate) async fn console(
    client: &Client,
    screen: &mut Screen,
    asked: &Console,
    output: Option<Output>,
) -> Result<(), Problem> {
    let path = format!("{}/console", instance_path(&asked.id)?);
    let mut answer = client.get(&path).await?;
    if asked.latest {
        let newest = |answer: &Value| (answer["generation"].clone(), answer["at"].clone());
        let (before, end) = (newest(&answer), Instant::now() + PATIENCE);
        let wait_s = PATIENCE.as_secs();
        answer = client.get(&format!("{path}?latest=true&wait={wait_s}")).await?;
        let is_asked = answer["asked"] == true;
        while is_asked && newest(&answer) == before && Instant::now() < end {
            tokio::time::sleep(AGAIN).await;
            answer = client.get(&path).await?;
        }
        if !is_asked {
            screen.aside("note: no host has it now: this is what was sent last");
        } else if newest(&answer) == before {
            screen.aside(format!("note: its host has sent nothing newer within {wait_s} s"));
        }
    }
    match (&answer["output"], output) {
        (_, Some(Output::Json)) => screen.line(format!("{answer:#}")),
        (Value::String(output), _) => screen.raw(output),
        _ => screen.aside(format!("nothing: {}", answer["why"].as_str().unwrap_or("it is empty"))),
    }
    Ok(())
}
