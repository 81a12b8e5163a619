//! `cargo xtask e2e`: the real binaries and the real template behind an endpoint of AWS.
//!
//! An emulator stands in for AWS, as a process on loopback. What it cannot show: IAM and queue
//! policies are not enforced, nothing is throttled, targets are not tried again, and no latency is
//! AWS's.

mod breaker;
mod emulator;
mod kills;
mod scenarios;
mod site;
mod tap;

use crate::lambda;
use crate::python::run;
use anyhow::{Context, Result};
use clap::Args;
use emulator::{Emulator, REGION, with_account};
use site::Site;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;
use tap::Tap;
use tempfile::TempDir;

/// The functions with inboxes, as their resources are named in the template.
const INBOXES: [&str; 6] = ["Capacity", "Network", "Storage", "Security", "Handoff", "Instances"];

type Scenario = fn(&Site, &Tap) -> Result<()>;

/// All scenarios, in their order.
const SCENARIOS: [(&str, Scenario); 12] = [
    ("launches to running, and terminates", scenarios::launches_and_terminates),
    ("stops, starts, reboots and protects", scenarios::stops_starts_and_protects),
    ("refuses what does not fit, and undoes it", scenarios::refuses_what_does_not_fit),
    ("duplicates change nothing", scenarios::duplicates_change_nothing),
    ("a broken step's dead letter is redriven", scenarios::a_broken_step_is_redriven),
    ("behind an open breaker events wait", breaker::events_wait),
    ("poison in a batch fails alone", scenarios::poison_fails_alone),
    ("terminates in mid-launch", scenarios::terminates_in_mid_launch),
    ("functions are killed in mid-launch", kills::functions_are_killed),
    ("a replay reaches the shadow alone", scenarios::a_replay_reaches_the_shadow_alone),
    ("nothing is left", scenarios::nothing_is_left),
    ("the data outlives the stack", scenarios::data_outlives_the_stack),
];

/// What to do with it.
#[derive(Debug, Default, Clone, Copy, Args)]
pub struct Options {
    /// Only deploy, with simulated hosts, and stay for whoever wants to use it
    #[arg(long)]
    pub stay: bool,
}

/// Builds, deploys, and runs the contract suite and all scenarios; or stays.
///
/// # Errors
/// What cannot be built or deployed, or the first scenario that fails.
pub fn run_all(options: Options) -> Result<()> {
    let begun = Instant::now();
    let say = |what: &str| eprintln!("e2e: {what} ({} s)", begun.elapsed().as_secs());
    say("building the functions");
    lambda::build(&lambda::Options { x86_64: true, ..lambda::Options::default() })?;
    say("building the command, with AWS");
    run(Command::new("cargo").current_dir(crate::workspace()).args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "eventplane",
        "--features",
        "aws",
    ]))?;
    let dir = TempDir::new()?;
    say("starting the emulator");
    let emulator = Emulator::start(dir.path())?;
    let outcome = match options.stay {
        true => stay(&emulator, &dir),
        false => on(&emulator, &dir, &say),
    };
    if outcome.is_err() {
        tell_log(&emulator);
    }
    outcome
}

/// The command, built as it is for AWS.
fn command() -> PathBuf {
    crate::workspace().join("target/debug/eventplane")
}

fn stay(emulator: &Emulator, dir: &TempDir) -> Result<()> {
    let site = Site::deploy(emulator, command(), dir.path())?;
    eprintln!("deployed, with simulated hosts. In another terminal:\n");
    eprintln!("  export AWS_ENDPOINT_URL={} AWS_REGION={REGION}", emulator.endpoint());
    eprintln!("  export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test");
    eprintln!("  export EVENTPLANE_SIGN=1 EVENTPLANE_ENDPOINT='{}'", site.endpoint());
    eprintln!("  {} launch t3.micro --wait\n", command().display());
    eprintln!("Its log is {}. Enter ends it.", emulator.log().display());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn on(emulator: &Emulator, dir: &TempDir, say: &dyn Fn(&str)) -> Result<()> {
    say("the store's contract suite on DynamoDB");
    let mut contract = Command::new("cargo");
    contract.current_dir(crate::workspace()).args(["test", "--quiet", "--locked"]);
    contract.args(["--package", "eventplane-aws", "--test", "contract", "--", "--ignored"]);
    with_account(&mut contract, emulator.endpoint());
    run(&mut contract)?;
    say("deploying template.yaml");
    let site = Site::deploy(emulator, command(), dir.path())?;
    let tap = Tap::on(&site)?;
    for (what, scenario) in SCENARIOS {
        scenario(&site, &tap).with_context(|| what.to_owned())?;
        say(what);
    }
    Ok(())
}

/// How many lines of the emulator's log are shown when something fails.
const LOG_LINES: usize = 60;

fn tell_log(emulator: &Emulator) {
    let log = std::fs::read(emulator.log()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    eprintln!("the end of the emulator's log:");
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        eprintln!("  {line}");
    }
}
