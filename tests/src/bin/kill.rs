//! Kills a real plane again and again under load, and damages its files: see `cargo xtask kill`.

use clap::Parser;
use eventplane_tests::kill::{disk, run};
use std::path::PathBuf;

/// Kills `eventplane up` again and again, and judges what its clients were answered.
#[derive(Parser)]
struct Options {
    /// The `eventplane` to kill.
    #[arg(long)]
    binary: PathBuf,
    /// How many kills.
    #[arg(long, default_value_t = 100)]
    times: usize,
    /// How many times the files are damaged.
    #[arg(long, default_value_t = 40)]
    damages: usize,
    /// What the moments, the load and the damages are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() {
    let Options { binary, times, damages, seed } = Options::parse();
    let dir = tempfile::tempdir().expect("a directory");
    let totals = run::run(&binary, dir.path(), times, seed).await;
    eprintln!("seed {seed}: {totals}");
    let dir = tempfile::tempdir().expect("a directory");
    disk::fill(&binary, dir.path()).await;
    eprintln!("a full disk: refused, nothing lost");
    let dir = tempfile::tempdir().expect("a directory");
    eprint!("{}", disk::damage(&binary, dir.path(), damages, seed).await);
}
