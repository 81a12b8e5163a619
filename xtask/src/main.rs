//! `cargo xtask <task>`: the tasks of the workspace.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tokio::runtime::Builder;
use xtask::{bench, chain, e2e, events, fuzz, lambda, template, test};

/// The tasks of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Command {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Writes `events/`: schemas and samples of all events
    Events,
    /// Runs all that has to hold before a change lands
    Test,
    /// Checks `template.yaml`: linters, and the tests of what SAM makes of it
    Template(template::Options),
    /// Builds the functions for Lambda, where `template.yaml` looks for them
    BuildLambda(lambda::Options),
    /// Deploys the template with the real functions on an emulator of AWS, and uses it
    E2e(e2e::Options),
    /// Prints how fast the plane is, and what that costs
    Bench(bench::Options),
    /// Prints what faults do to a launch as a chain of calls, and to the plane
    Chain(chain::Options),
    /// Puts whatever may come to what reads from outside
    Fuzz(fuzz::Options),
    /// The server that the bench measures
    #[command(hide = true)]
    BenchServe(bench::Serve),
}

fn main() -> ExitCode {
    match run(Command::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Events => events::write(),
        Task::Test => test::run_all(),
        Task::Template(options) => template::check(&options),
        Task::BuildLambda(options) => lambda::build(&options),
        Task::E2e(options) => e2e::run_all(options),
        Task::Chain(options) => {
            chain::print(&options);
            Ok(())
        }
        Task::Fuzz(options) => fuzz::fuzz(&options),
        Task::Bench(options) if cfg!(debug_assertions) => bench::run_optimized(&options),
        // One thread for the clients: the cores are the server's.
        Task::Bench(options) => {
            Builder::new_current_thread().enable_all().build()?.block_on(bench::run(options))
        }
        Task::BenchServe(options) => {
            tracing_subscriber::fmt().with_env_filter("warn").with_writer(std::io::stderr).init();
            Builder::new_multi_thread().enable_all().build()?.block_on(bench::serve(options))
        }
    }
}
