//! `cargo xtask <task>`: the tasks of the workspace.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tokio::runtime::Builder;
use xtask::{bench, e2e, events, fuzz, lambda, proof, template, test};

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
    /// Runs histories of the whole plane over simulated doors
    Sim(proof::Options),
    /// Plants bugs, and prints in which history each is found
    Mutants(proof::Options),
    /// Explores the protocol's model: every state that can be reached
    Model(proof::Options),
    /// Prints what faults do to a launch as a chain of calls, and to the plane
    Chain(proof::Options),
    /// Kills the real plane again and again under load, and damages its files
    Kill(proof::Options),
    /// Puts whatever may come to what reads from outside
    Fuzz(fuzz::Options),
    /// Prints how fast the plane is, and what that costs
    Bench(bench::Options),
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
        Task::Sim(options) => proof::run("sim", &[], &options),
        Task::Mutants(options) => proof::run("sim", &["--mutants"], &options),
        Task::Model(options) => proof::run("model", &[], &options),
        Task::Chain(options) => proof::run("chain", &[], &options),
        Task::Kill(options) => proof::kill(&options),
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
