//! `cargo xtask chain`: a launch as a chain of synchronous calls, and as Eventplane does it, under
//! the same faults, as a table in markdown. All times are virtual.

use clap::Args;
use eventplane_tests::chain::{Fault, Row, compare, markdown};

/// What to compare.
#[derive(Debug, Args)]
pub struct Options {
    /// The seed of the histories
    #[arg(long, default_value_t = 3)]
    pub seed: u64,
}

/// Prints the table.
#[allow(clippy::print_stdout, reason = "it is what the task is for")]
pub fn print(options: &Options) {
    let of_fault = |fault: &Fault| compare(*fault, options.seed);
    let rows: Vec<Row> = Fault::ALL.iter().flat_map(of_fault).collect();
    print!("{}", markdown(&rows));
}
