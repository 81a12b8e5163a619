//! The programs that prove what the plane claims: `sim`, `mutants`, `model`, `chain` and `kill`. They
//! stand in the crate of the tests, are built as fast code, and take their own options.

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::ffi::OsString;
use std::process::Command;

/// Its own options: `--help` tells them.
#[derive(Debug, Default, Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// Options of the program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<OsString>,
}

/// Runs a program with these arguments and its own options. All are built so that bugs can be
/// planted, also where none are: one build does for all.
///
/// # Errors
/// When it cannot be built, or something does not hold.
pub fn run(program: &str, arguments: &[&str], options: &Options) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--locked", "--profile", "sim"]);
    cargo.args(["--package", "eventplane-tests", "--features", "mutants", "--bin", program]);
    cargo.arg("--").args(arguments).args(&options.rest).current_dir(crate::workspace());
    let status = cargo.status().context("cargo could not be started")?;
    ensure!(status.success(), "`{program}` failed: see above");
    Ok(())
}

/// Builds the plane as it ships, and runs what kills it.
///
/// # Errors
/// As [`run`].
pub fn kill(options: &Options) -> Result<()> {
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--locked", "--package", "eventplane"]);
    let status = build.current_dir(crate::workspace()).status();
    ensure!(status.context("cargo could not be started")?.success(), "the plane was not built");
    let binary = crate::workspace().join("target/release/eventplane");
    let binary = binary.to_str().context("the path of the workspace has to be text")?;
    run("kill", &["--binary", binary], options)
}
