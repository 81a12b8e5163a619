//! The command killed at random moments under load, on a full disk, and with damaged files: a short
//! set of `cargo xtask kill`.

use eventplane_tests::kill::{disk, run};
use std::path::Path;

/// What moments, load and damages are drawn from.
const SEED: u64 = 1;

fn command() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_eventplane"))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_keeps_what_it_has_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let totals = run::run(command(), dir.path(), 20, SEED).await;
    assert!(totals.instances > 20 && totals.lost > 10, "there was no load: {totals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_it_refuses_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    disk::fill(command(), dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_damaged_files_it_has_all_or_says_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let totals = disk::damage(command(), dir.path(), 20, SEED).await;
    let said: usize = totals.outcomes.values().map(|(said, _)| said).sum();
    assert!(said > 0, "nothing was damaged: {totals}");
}
