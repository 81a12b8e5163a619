//! `cargo xtask test`: all that has to hold before a change lands.

use crate::python::run;
use crate::{e2e, fuzz, proof, template};
use anyhow::{Context, Result};
use std::process::Command;
use std::time::Instant;

/// The tests of all crates. The command is built as it is for AWS, whose parts have tests too.
const TESTS: &[&str] =
    &["test", "--workspace", "--features", "eventplane/aws", "--locked", "--quiet"];

/// How many histories of each profile: enough that each kind of trouble has to have struck.
const SEEDS: &str = "500";

/// Runs all of it, the first that fails ends it; says what took how long.
///
/// # Errors
/// A part cannot be started, or fails.
pub fn run_all() -> Result<()> {
    let begun = Instant::now();
    let say = |what: &str| eprintln!("\n-- {what} ({} s)", begun.elapsed().as_secs());
    say("the tests of all crates");
    run(Command::new("cargo").args(TESTS).current_dir(crate::workspace()))?;
    say("histories from seeds");
    proof::run("sim", &["--seeds", SEEDS], &proof::Options::default())
        .context("cargo xtask sim")?;
    say("planted bugs");
    proof::run("sim", &["--mutants", "--quick"], &proof::Options::default())
        .context("cargo xtask mutants")?;
    say("the model");
    proof::run("model", &[], &proof::Options::default()).context("cargo xtask model")?;
    say("the api, by its own document");
    fuzz::fuzz(&fuzz::Options { minutes: None, api: true, seed: 1 })
        .context("cargo xtask fuzz --api")?;
    say("the template");
    template::check(&template::Options::default()).context("cargo xtask template")?;
    say("end to end");
    e2e::run_all(e2e::Options::default()).context("cargo xtask e2e")?;
    say("all tests have passed");
    Ok(())
}
