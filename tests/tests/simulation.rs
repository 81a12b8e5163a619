//! Histories from seeds, some of each profile: `cargo xtask sim` runs as many as are wanted.

use eventplane_store::{Store, Table, contract};
use eventplane_tests::sim::{Chaos, PROFILES, Profile, Setup, SimStore, Stage};
use std::sync::Arc;

#[tokio::test]
async fn the_simulations_store_passes_the_contract() {
    const TABLES: &[Table] = &[contract::TABLE];
    let store: Arc<dyn Store> = Arc::new(SimStore::new(TABLES, Arc::new(Chaos::new())));
    contract::run_all(store).await;
}

#[test]
fn the_same_seed_is_the_same_history_whatever_came_before() {
    let of = |profile, seed| Setup::of(profile, seed, None);
    let stage = Stage::new();
    let first = stage.run(of(Profile::A, 3), false);
    let _ = stage.run(of(Profile::C, 4), false);
    assert_eq!(first, stage.run(of(Profile::A, 3), true));
    assert_eq!(first, Stage::new().run(of(Profile::A, 3), false));
}

#[test]
fn some_histories_of_each_profile_keep_every_invariant() {
    let stage = Stage::new();
    for (profile, _) in PROFILES {
        for seed in 0..10 {
            let _ = stage.run(Setup::of(profile, seed, None), false);
        }
    }
}
