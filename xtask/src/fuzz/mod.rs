//! `cargo xtask fuzz`: what reads from outside, put to whatever may come: the property tests with
//! many cases, or the HTTP API by its own document.

mod api;

use crate::python::run;
use anyhow::{Context, Result};
use clap::Args;
use std::process::Command;
use std::time::{Duration, Instant};

/// The property tests: package, and which target of it. The crates' own tests run them too, with
/// the 256 cases that are proptest's default.
const TARGETS: [(&str, &[&str]); 5] = [
    ("eventplane-pattern", &["--test", "agreement", "--test", "properties"]),
    ("eventplane-events", &["--test", "strange"]),
    ("eventplane-tests", &["--test", "strange_events"]),
    ("eventplane-local", &["--lib", "strange_files"]),
    ("eventplane-local", &["--lib", "route_tests"]),
];
/// How many cases each property gets in a round.
const CASES: &str = "4096";

/// What to fuzz.
#[derive(Debug, Args)]
pub struct Options {
    /// For how long, in minutes, at least a round of everything
    #[arg(long)]
    pub minutes: Option<u64>,
    /// The HTTP API of a running plane instead of the property tests
    #[arg(long)]
    pub api: bool,
    /// What the requests to the API are drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Fuzzes.
///
/// # Errors
/// Something panics, or answers what it should not: what has found it prints how to repeat it.
pub fn fuzz(options: &Options) -> Result<()> {
    let for_s = options.minutes.map(|minutes| minutes * 60);
    if options.api {
        return api::fuzz(options.seed, for_s);
    }
    let until = Instant::now() + Duration::from_secs(for_s.unwrap_or_default());
    for round in 1_usize.. {
        for (package, target) in TARGETS {
            run(Command::new("cargo")
                .args(["test", "--quiet", "--locked", "--package", package])
                .args(target)
                .env("PROPTEST_CASES", CASES)
                .current_dir(crate::workspace()))
            .with_context(|| format!("round {round}: proptest has noted the case in a file"))?;
        }
        eprintln!("round {round}: {CASES} cases of each property, and nothing found");
        if Instant::now() >= until {
            break;
        }
    }
    Ok(())
}
