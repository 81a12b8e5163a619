//! The `eventplane` command: every verb of a user, and the whole control plane in one process.
//!
//! It holds no rules of the control plane: the verbs speak HTTP with one, as any other client.

mod args;
mod body;
mod client;
mod confirm;
mod console;
mod cost;
mod demo;
mod hello;
mod host;
mod hosts;
#[cfg(feature = "aws")]
mod kept;
mod ledger;
mod lifecycle;
mod limits;
mod operate;
mod problem;
mod purge;
mod reach;
mod real_demo;
mod rehearsal;
#[cfg(feature = "aws")]
mod replay_aws;
mod serve;
mod show;
#[cfg(feature = "aws")]
mod sign;
mod tables;
mod test_pattern;
mod tree;
mod verbs;
mod waterfall;
mod why;

#[cfg(test)]
mod tests;

pub use show::Screen;

use args::{Agent, AgentKind, Cli, LetterVerb, Verb};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use client::Client;
use problem::Problem;
use show::Output;
use std::ffi::OsString;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

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
    if let Verb::RunInstance { dir } = &cli.verb {
        // Without threads, and without a log: nobody reads it but the agent.
        return u8::from(eventplane_agent::run_instance(dir).is_err());
    }
    log(&cli.verb);
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
    if cli.output == Some(Output::Ids) && !has_ids(&cli.verb) {
        let right = "`--output ids` is for what answers with instances, hosts or dead letters";
        return Err(Problem::Input(format!("{right}; others print json or table")));
    }
    let client = async || Client::reach(&cli.reach).await;
    match &cli.verb {
        Verb::Demo { exit, real: true } => real_demo::demo(*exit, screen).await,
        Verb::Demo { exit, real: false } => demo::demo(*exit, screen).await,
        Verb::Up(asked) => serve::up(asked, screen).await,
        Verb::Agent(asked) => match &asked.kind.host_config {
            Some(config) => host::agent(config, asked, &cli.reach, screen).await,
            None => serve::agent(asked, &cli.reach, screen).await,
        },
        Verb::RunInstance { .. } => unreachable!("it is done without a runtime"),
        Verb::Hello { listen } => hello::hello(*listen, screen).await,
        Verb::Launch(asked) => verbs::launch(&client().await?, screen, asked).await,
        Verb::List(filters) => verbs::list(&client().await?, screen, filters).await,
        Verb::Describe { id } => verbs::describe(&client().await?, screen, id).await,
        Verb::Events { id } => verbs::events(&client().await?, screen, id).await,
        Verb::Console(asked) => console::console(&client().await?, screen, asked, cli.output).await,
        Verb::Why { id } => why::why(&client().await?, screen, id).await,
        Verb::Explain { id } => verbs::explain(&client().await?, screen, id).await,
        Verb::Start { ids, wait } => {
            let start = lifecycle::Change::Start;
            lifecycle::change(&client().await?, screen, start, ids, Some(wait)).await
        }
        Verb::Stop { ids, wait } => {
            let stop = lifecycle::Change::Stop;
            lifecycle::change(&client().await?, screen, stop, ids, Some(wait)).await
        }
        Verb::Reboot { ids } => {
            let reboot = lifecycle::Change::Reboot;
            lifecycle::change(&client().await?, screen, reboot, ids, None).await
        }
        Verb::Terminate { ids, wait } => {
            let terminate = lifecycle::Change::Terminate;
            lifecycle::change(&client().await?, screen, terminate, ids, Some(wait)).await
        }
        Verb::Protect { id, off } => lifecycle::protect(&client().await?, screen, id, *off).await,
        Verb::Hosts { verb } => hosts::hosts(&client().await?, screen, verb.as_ref()).await,
        Verb::Capacity => verbs::capacity(&client().await?, screen).await,
        Verb::Types => verbs::types(&client().await?, screen).await,
        Verb::Ledger { verb } => ledger::ledger(&client().await?, screen, verb).await,
        Verb::Breaker { verb } => operate::breaker(&client().await?, screen, verb).await,
        Verb::DeadLetters { verb } => verbs::letters(&client().await?, screen, verb).await,
        Verb::Limits => limits::limits(&client().await?, screen).await,
        Verb::Mode { verb } => limits::mode(&client().await?, screen, verb.as_ref()).await,
        Verb::Replay(asked) => rehearsal::replay(&client().await?, screen, asked).await,
        Verb::Audit { id } => verbs::audit(&client().await?, screen, id).await,
        Verb::TestPattern { pattern, event } => {
            let matches = test_pattern::matches(pattern, event)?;
            screen.line(matches.to_string());
            Ok(())
        }
        Verb::Cost(asked) => {
            cost::cost(asked, screen);
            Ok(())
        }
        Verb::Purge(asked) => purge::purge(asked, screen).await,
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "eventplane", &mut text);
            screen.line(String::from_utf8_lossy(&text).trim_end());
            Ok(())
        }
    }
}

/// Whether it answers with instances, hosts or dead letters, which have ids.
fn has_ids(verb: &Verb) -> bool {
    match verb {
        Verb::Launch(_)
        | Verb::List(_)
        | Verb::Describe { .. }
        | Verb::Start { .. }
        | Verb::Stop { .. }
        | Verb::Reboot { .. }
        | Verb::Protect { .. }
        | Verb::Terminate { .. } => true,
        Verb::Hosts { verb } => verb.as_ref().is_none_or(hosts::HostVerb::has_ids),
        Verb::DeadLetters { verb } => {
            matches!(verb, LetterVerb::List { .. } | LetterVerb::Show { .. })
        }
        _ => false,
    }
}

/// The log goes to standard error: warnings, unless `EVENTPLANE_LOG` says otherwise. What the
/// demonstration breaks on purpose is no warning.
fn log(verb: &Verb) {
    let unless_told = match verb {
        Verb::Demo { .. } => "error",
        // Whoever runs a host wants to know what begins and ends on it.
        Verb::Agent(Agent { kind: AgentKind { host_config: Some(_), .. }, .. }) => {
            "warn,eventplane_agent=info,aws_config=off"
        }
        // Places where nobody keeps region or credentials are no news: what is missing is said once.
        _ => "warn,aws_config=off",
    };
    let filter = EnvFilter::try_from_env("EVENTPLANE_LOG");
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(unless_told));
    // Whoever runs a second command in one process keeps the first one's log.
    let is_terminal = std::io::stderr().is_terminal();
    let _ = tracing_subscriber::fmt()
        .with_ansi(is_terminal)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}
