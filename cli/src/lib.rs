//! The `eventplane` command: every verb of a user, and the whole control plane in one process.
//!
//! It holds no rules of the control plane: the verbs speak HTTP with one, as any other client.

mod args;
mod body;
mod client;
mod problem;
mod show;
mod tables;
mod test_pattern;
mod verbs;
mod waterfall;

#[cfg(test)]
mod tests;

pub use show::Screen;

use args::{Cli, Verb};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use client::Client;
use problem::Problem;
use std::ffi::OsString;

/// Runs the command with these arguments, the first being its own name, and answers with its exit
/// code: 0 done, 1 refused or failed, 2 bad usage or input, 3 not reachable, 4 waited in vain.
pub fn run(args: impl IntoIterator<Item = OsString>, screen: &mut Screen) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            screen.line(screen.help(&error).trim_end());
            return 0;
        }
        Err(error) => {
            screen.aside(screen.help(&error).trim_end());
            return 2;
        }
    };
    screen.choose(cli.output);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.aside(format!("error: no threads to run on: {error}"));
            return 1;
        }
    };
    let done = runtime.block_on(verb(&cli, screen));
    // What still hangs on a connection keeps nobody waiting.
    runtime.shutdown_background();
    match done {
        Ok(()) => 0,
        Err(problem) => {
            let text = problem.to_string();
            if !text.is_empty() {
                screen.aside(text);
            }
            problem.exit_code()
        }
    }
}

async fn verb(cli: &Cli, screen: &mut Screen) -> Result<(), Problem> {
    match &cli.verb {
        Verb::TestPattern { pattern, event } => {
            let matches = test_pattern::matches(pattern, event)?;
            screen.line(matches.to_string());
            Ok(())
        }
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "eventplane", &mut text);
            screen.line(String::from_utf8_lossy(&text).trim_end());
            Ok(())
        }
        other => ask(&Client::new(&cli.endpoint)?, screen, other).await,
    }
}

async fn ask(client: &Client, screen: &mut Screen, verb: &Verb) -> Result<(), Problem> {
    match verb {
        Verb::Launch(asked) => verbs::launch(client, screen, asked).await,
        Verb::List(filters) => verbs::list(client, screen, filters).await,
        Verb::Describe { id } => verbs::describe(client, screen, id).await,
        Verb::Events { id } => verbs::events(client, screen, id).await,
        Verb::Terminate { ids, wait } => verbs::terminate(client, screen, ids, wait).await,
        Verb::Hosts { verb } => verbs::hosts(client, screen, verb.as_ref()).await,
        Verb::Capacity => verbs::capacity(client, screen).await,
        Verb::Types => verbs::types(client, screen).await,
        Verb::DeadLetters { verb } => verbs::letters(client, screen, verb).await,
        Verb::Audit { id } => verbs::audit(client, screen, id).await,
        other => Err(Problem::Failed(format!("not built in yet: {other:?}"))),
    }
}
