//! Histories from seeds. A failing seed is the bug: run it alone with `SEED=n cargo test -p
//! eventplane-tests --test simulation`.

use eventplane_store::{Store, Table, contract};
use eventplane_tests::sim::{Chaos, History, SimStore, Trouble, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// How many histories of each kind are run.
const SEEDS: u64 = 30;

const CALM: Trouble = Trouble { losses: false, deadline_ms: 600_000 };
const HASTY: Trouble = Trouble { losses: false, deadline_ms: 600 };
const LOSSY: Trouble = Trouble { losses: true, deadline_ms: 600_000 };
const HASTY_AND_LOSSY: Trouble = Trouble { losses: true, deadline_ms: 600 };

#[allow(clippy::disallowed_methods, reason = "a person names the seed to run alone")]
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    }
}

#[allow(clippy::print_stdout, reason = "for whoever looks at what a run has covered")]
fn histories(trouble: Trouble) -> Vec<History> {
    let history = |seed: u64| match catch_unwind(AssertUnwindSafe(|| run(seed, trouble))) {
        Ok(history) => history,
        Err(_) => panic!("seed {seed} of {trouble:?} breaks an invariant: see above"),
    };
    let histories: Vec<History> = seeds().map(history).collect();
    let sum = |of: fn(&History) -> usize| histories.iter().map(of).sum::<usize>();
    println!(
        "{trouble:?}: {} histories, {} steps, {} instances and {} generations more, {} running and \
         {} stopped at rest, {} nudges",
        histories.len(),
        sum(|one| one.steps as usize),
        sum(|one| one.instances),
        sum(|one| one.generations),
        sum(|one| one.running),
        sum(|one| one.stopped),
        sum(|one| one.nudges),
    );
    histories
}

#[test]
fn with_reordering_duplicates_crashes_and_faults_all_comes_to_rest_without_the_sweeper() {
    let histories = histories(CALM);
    assert!(histories.iter().all(|history| history.nudges == 0));
    let some = |of: fn(&History) -> usize| histories.iter().any(|history| of(history) > 0);
    assert!(
        seeds().count() == 1
            || (some(|one| one.running) && some(|one| one.stopped) && some(|one| one.generations)),
        "histories in which nothing runs at rest, stops or starts again show little"
    );
}

#[test]
fn launches_that_are_late_end_and_hold_nothing() {
    let _ = histories(HASTY);
}

#[test]
fn lost_messages_and_an_api_that_dies_are_healed_by_the_sweeper() {
    let histories = histories(LOSSY);
    assert!(
        seeds().count() == 1 || histories.iter().any(|history| history.nudges > 0),
        "losses that nobody had to heal show nothing"
    );
}

#[test]
fn late_and_lost_together() {
    let _ = histories(HASTY_AND_LOSSY);
}

#[test]
fn the_same_seed_is_the_same_history() {
    assert_eq!(run(3, LOSSY), run(3, LOSSY));
}

#[tokio::test]
async fn the_simulations_store_passes_the_contract() {
    const TABLES: &[Table] = &[contract::TABLE];
    let chaos = Arc::new(Chaos::new(1, eventplane_domain::Millis(0)));
    let store: Arc<dyn Store> = Arc::new(SimStore::new(TABLES, chaos));
    contract::run_all(store).await;
}
