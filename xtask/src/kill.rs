//! `cargo xtask kill`: the real plane, killed again and again under load, and its files damaged.

use crate::python::run;
use anyhow::Result;
use clap::Args;
use std::process::Command;

/// How often, and when.
#[derive(Debug, Clone, Copy, Args)]
pub struct Options {
    /// How many kills
    #[arg(long, default_value_t = 100)]
    pub times: usize,
    /// How often the files are damaged
    #[arg(long, default_value_t = 40)]
    pub damages: usize,
    /// What their moments, the load, and what is damaged are drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Builds the plane and what kills it, both in release, and runs them.
///
/// # Errors
/// When a build fails, or the plane does not hold.
pub fn run_all(options: Options) -> Result<()> {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.current_dir(crate::workspace()).args(arguments);
        command
    };
    run(&mut cargo(&["build", "--release", "--locked", "--package", "eventplane"]))?;
    let mut kill = cargo(&["run", "--release", "--locked", "--package", "eventplane-tests"]);
    kill.args(["--bin", "kill", "--", "--binary"]);
    kill.arg(crate::workspace().join("target/release/eventplane"));
    let Options { times, damages, seed } = options;
    kill.args(["--times", &times.to_string(), "--damages", &damages.to_string()]);
    kill.args(["--seed", &seed.to_string()]);
    run(&mut kill)
}
