//! `cargo xtask model`: explores the protocol's model, optimized.

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::ffi::OsString;
use std::process::Command;

/// What is explored.
#[derive(Args)]
pub struct Options {
    /// `--large` for the large set; `--help` says what else there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Explores the model and prints a table.
///
/// # Errors
/// When it cannot be built, or a property does not hold.
pub fn explore(options: &Options) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--release", "--quiet", "--package", "eventplane-tests", "--bin", "model"]);
    let status = cargo.arg("--").args(&options.arguments).current_dir(crate::workspace()).status();
    let is_good = status.context("cargo could not be started")?.success();
    ensure!(is_good, "the model was not explored, or a property does not hold: see above");
    Ok(())
}
