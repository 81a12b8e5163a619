//! Prints what faults do to a launch as a chain of synchronous calls, and to the plane: what
//! `cargo xtask chain` runs. The table is markdown, all times in it are virtual.

use clap::Parser;
use eventplane_tests::chain::{Fault, Row, compare, markdown};

/// A launch as a chain of synchronous calls, and as Eventplane does it, under the same faults.
#[derive(Parser)]
#[command(name = "cargo xtask chain", bin_name = "cargo xtask chain")]
struct Options {
    /// The seed of the histories
    #[arg(long, default_value_t = 3)]
    seed: u64,
}

#[allow(clippy::print_stdout, reason = "it is what the program is for")]
fn main() {
    let Options { seed } = Options::parse();
    let rows: Vec<Row> = Fault::ALL.iter().flat_map(|fault| compare(*fault, seed)).collect();
    print!("{}", markdown(&rows));
}
