//! `cargo xtask sim`: builds the simulation as fast code, and runs it.

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::ffi::OsString;
use std::process::Command;

/// Histories of the whole plane over simulated doors: `--help` tells the options.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// Its own options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// Runs it with these arguments and its own. It is built so that bugs can be planted, also where
/// none are: one build does for both.
///
/// # Errors
/// When it cannot be built, or a history fails.
pub fn run(arguments: &[&str], options: &Options) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--locked", "--profile", "sim"]);
    cargo.args(["--package", "eventplane-tests", "--bin", "sim", "--features", "mutants"]);
    let status = cargo
        .arg("--")
        .args(arguments)
        .args(&options.rest)
        .current_dir(crate::workspace())
        .status();
    ensure!(status.context("cargo could not be started")?.success(), "the simulation failed");
    Ok(())
}
