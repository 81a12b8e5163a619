//! `cargo xtask bench aws`: what a cold start of each function takes beside a bare hello, and what a
//! launch costs on AWS by its counted requests.
//!
//! The functions are the deployed binaries, for this machine's processors; Lambda's runtime API and
//! AWS are servers on loopback. What it cannot show is Lambda itself: fetching the code, starting
//! the sandbox, and a CPU that is a fraction of this one's.

mod cold;
mod runtime_api;
mod stub;

use super::say;
use crate::lambda::{self, FUNCTIONS};
use crate::python::{Tools, run};
use anyhow::Result;
use cold::{Cold, Start};
use eventplane_cost::launch::{Phase, WAYS, lines, usd};
use eventplane_cost::prices::Price;
use stub::Aws;
use tempfile::TempDir;

/// How often each function is started.
const STARTS: usize = 20;
/// What costs are told for.
const MILLION: f64 = 1e6;

/// Measures, and prints.
///
/// # Errors
/// When a function cannot be built or started, or does not poll.
pub(super) async fn bench() -> Result<()> {
    lambda::build(&lambda::Options { x86_64: true, ..lambda::Options::default() })?;
    let mut hello = Tools::of("sam")?.command("cargo-lambda");
    hello.args(["lambda", "build", "--locked", "--profile", "lambda", "--x86-64"]);
    hello.args(["--package", "eventplane-aws", "--example", "hello"]);
    run(hello.current_dir(crate::workspace()))?;
    let dir = TempDir::new()?;
    let aws = Aws::start(dir.path()).await?;
    let mut all: Vec<Cold> = ["hello"].into_iter().chain(FUNCTIONS).map(Cold::new).collect();
    // In turns, so that whatever else the machine does meets all of them alike.
    for _ in 0..STARTS {
        for cold in &mut all {
            cold.start(Start::ToFirstPoll, &aws).await?;
            cold.start(Start::ToFirstAnswer, &aws).await?;
        }
    }
    say(&format!(
        "cold starts, medians of {STARTS}: from exec to the first poll, and to the first event \
         answered, with its requests over TLS to a server on loopback"
    ));
    let hello = all[0].medians();
    for cold in &all {
        say(&cold.line(hello));
    }
    costs();
    Ok(())
}

/// What a million launches and terminations cost, by way.
fn costs() {
    for (phase, name) in [(Phase::Launch, "launches"), (Phase::Termination, "terminations")] {
        say(&format!("a million {name}, by the requests that a test counts:"));
        for way in WAYS {
            let total = usd(phase, way, MILLION);
            say(&format!("  {way:?}: ${total:.2}"));
            for line in lines(phase, way, MILLION).iter().filter(|line| line.count > 0.0) {
                say(&format!("    {:<44} {:>14.0}  ${:.2}", line.what, line.count, line.usd));
            }
        }
    }
    say("prices, in us-east-1:");
    for price in eventplane_cost::prices::ALL {
        let Price { what, usd, per, page, known } = price;
        say(&format!("  {what}: ${usd} for {per:.0} ({known:?}, {page})"));
    }
}
