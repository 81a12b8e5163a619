//! Runs histories: `cargo xtask sim`.

use clap::Parser;
use eventplane_tests::sim::{self, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    sim::command(&Options::parse())
}
