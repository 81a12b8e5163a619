//! Explores the protocol's model and prints a table: what `cargo xtask model` runs.
#![allow(clippy::print_stdout, reason = "a command's output")]

use clap::Parser;
use eventplane_tests::model::{Explored, LARGE, SHORT, explore};
use std::process::ExitCode;
use std::thread::available_parallelism;

/// Explores the protocol's model: every state that can be reached.
#[derive(Parser)]
#[command(name = "cargo xtask model", bin_name = "cargo xtask model")]
struct Options {
    /// The large set, which takes minutes and several GiB, instead of the short one
    #[arg(long)]
    large: bool,
    /// Only the configurations whose names have this in them
    #[arg(long, default_value = "")]
    only: String,
    /// Stops each after about so many states
    #[arg(long)]
    limit: Option<usize>,
    /// How many threads explore; one for each core if it is not said
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let set = if options.large { LARGE } else { SHORT };
    let cores = || available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or_else(cores);
    let mut is_good = true;
    println!("{}", Explored::HEADER);
    for configuration in set.iter().filter(|one| one.name.contains(&options.only)) {
        let found = explore(*configuration, threads, options.limit);
        is_good &= found.broken.is_empty();
        println!("{found}");
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
