//! A launch as a chain of calls, and as Eventplane does it, under the same faults. `cargo xtask
//! chain` prints the whole table.

use eventplane_tests::chain::{Fault, Kind, Row, compare, run};

const SEED: u64 = 3;
/// Launches that were asked for just before the fault began.
const BEFORE: usize = 8;

/// The three rows of a fault. Whatever it is, Eventplane loses nothing and leaves nothing behind,
/// and is well again when it is over.
fn rows(fault: Fault) -> [Row; 3] {
    let rows: [Row; 3] = compare(fault, SEED).try_into().expect("a row of each kind");
    let ours = &rows[2];
    assert_eq!(ours.kind, Kind::Eventplane);
    assert_eq!((ours.lost, ours.left_behind), (0, 0), "{ours:?}");
    assert_eq!(ours.running + ours.refused, ours.asked, "{ours:?}");
    assert!(ours.well_after_ms.is_some(), "{ours:?}");
    for row in &rows {
        assert!(row.running + row.refused + row.lost <= row.asked, "{row:?}");
        assert!(row.well_after_ms.is_some() == (row.lost + row.left_behind == 0), "{row:?}");
    }
    rows
}

/// Nobody waits for a launch: the answer is that it is taken on.
fn answers_at_once(row: &Row) {
    assert!(row.hung_ms_max < 1_000, "{row:?}");
}

#[test]
fn without_a_fault_all_of_them_launch_everything() {
    let [chain, careful, ours] = rows(Fault::Nothing);
    for row in [&chain, &careful, &ours] {
        assert_eq!(row.running, row.asked, "{row:?}");
    }
    answers_at_once(&ours);
    assert!(chain.hung_ms_median > 1_000, "the chain's user waits for the volume");
    assert!(chain.ran_after_ms_median < ours.ran_after_ms_median, "and has the instance earlier");
}

#[test]
fn a_step_throttled_for_an_hour_makes_the_chain_leak_and_both_refuse_the_whole_hour() {
    let [chain, careful, ours] = rows(Fault::StepThrottled);
    assert_eq!(chain.left_behind, chain.asked - BEFORE, "{chain:?}");
    assert_eq!((careful.running, careful.left_behind), (BEFORE, 0), "{careful:?}");
    assert!(ours.running > BEFORE, "those whose deadline is not over run: {ours:?}");
    answers_at_once(&ours);
}

#[test]
fn a_step_failing_for_five_minutes_is_waited_out_by_eventplane_alone() {
    let [chain, careful, ours] = rows(Fault::StepFailing);
    assert_eq!(chain.left_behind, chain.asked - BEFORE, "{chain:?}");
    assert_eq!(careful.running, BEFORE, "{careful:?}");
    assert!(ours.running * 10 >= ours.asked * 9, "{ours:?}");
    answers_at_once(&ours);
}

#[test]
fn callers_that_crash_lose_launches_of_both_chains() {
    let [chain, careful, ours] = rows(Fault::CallersCrash);
    assert!(chain.lost > 10 && chain.left_behind > 10, "{chain:?}");
    assert!(careful.lost > 0 && careful.left_behind > 0, "{careful:?}");
    assert_eq!(ours.running, ours.asked, "{ours:?}");
}

#[test]
fn lost_answers_make_the_chain_lose_and_leak_and_both_hang() {
    let [chain, careful, ours] = rows(Fault::AnswersLost);
    assert!(chain.lost > 0 && chain.left_behind > 0, "{chain:?}");
    assert!(careful.hung_ms_median > 10_000, "{careful:?}");
    assert!(ours.hung_ms_median < 5_000 && ours.running > careful.running, "{ours:?} {careful:?}");
}

#[test]
fn a_fifth_of_calls_failing_makes_both_chains_leak() {
    let [chain, careful, ours] = rows(Fault::FifthFails);
    assert!(chain.left_behind > 10, "{chain:?}");
    let careful_left =
        (0..8).map(|seed| run(Kind::CarefulChain, Fault::FifthFails, seed).left_behind);
    let careful_left: Vec<usize> = careful_left.collect();
    assert!(careful_left.iter().sum::<usize>() > 0, "an undo fails too: {careful_left:?}");
    assert!(ours.running > careful.running, "{ours:?} {careful:?}");
    answers_at_once(&ours);
}

#[test]
fn the_store_gone_for_three_hours_leaves_what_neither_chain_can_undo() {
    let [chain, careful, ours] = rows(Fault::StoreGone);
    assert!(chain.left_behind > 0, "{chain:?}");
    assert!(careful.left_behind > 0, "{careful:?}");
    assert!(careful.hung_ms_max > 10_000, "{careful:?}");
    answers_at_once(&ours);
}

#[test]
fn a_host_lost_before_it_confirms_costs_the_chains_its_launches_and_eventplane_none() {
    let [chain, careful, ours] = rows(Fault::HostLost);
    assert!(chain.left_behind > 0, "{chain:?}");
    assert!(careful.running < careful.asked && careful.hung_ms_max > 30_000, "{careful:?}");
    assert_eq!(ours.running, ours.asked, "{ours:?}");
    answers_at_once(&ours);
}

#[test]
fn a_burst_of_twenty_times_breaks_both_chains_down_and_is_a_queue_for_eventplane() {
    let [chain, careful, ours] = rows(Fault::Burst);
    assert!(chain.running * 4 < chain.asked && chain.left_behind > 0, "{chain:?}");
    assert!(careful.running * 4 < careful.asked, "{careful:?}");
    assert!(careful.hung_ms_median > 30_000, "{careful:?}");
    assert_eq!(ours.running, ours.asked, "{ours:?}");
    answers_at_once(&ours);
}

#[test]
fn the_same_seed_is_the_same_row_and_another_one_is_another() {
    for kind in Kind::ALL {
        let [once, again, other] = [1, 1, 2].map(|seed| run(kind, Fault::CallersCrash, seed));
        assert_eq!(once, again);
        assert_ne!(once, other);
    }
}
