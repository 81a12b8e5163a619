//! Makes a failing history smaller: less trouble, fewer launches, fewer steps, while it fails.

use super::command::try_run;
use super::fault::Kinds;
use super::setup::Setup;
use super::world::Stage;

/// The smallest setup that was found to fail still, and what it says.
pub(crate) fn shrink(setup: Setup, said: String) -> (Setup, String) {
    let mut stage = None;
    let mut smallest = (setup, said);
    loop {
        let before = smallest.0;
        without_kinds(&mut stage, &mut smallest);
        with_fewer(&mut stage, &mut smallest);
        if smallest.0 == before {
            return smallest;
        }
    }
}

fn keep_if_it_fails(
    stage: &mut Option<Stage>,
    smallest: &mut (Setup, String),
    setup: Setup,
) -> bool {
    let fails = try_run(stage, setup, false).err();
    if let Some(said) = fails {
        *smallest = (setup, said);
        return true;
    }
    false
}

/// Leaves out each kind of trouble that it fails without.
fn without_kinds(stage: &mut Option<Stage>, smallest: &mut (Setup, String)) {
    for kind in smallest.0.kinds.iter().collect::<Vec<_>>() {
        let kinds: Kinds = smallest.0.kinds.without(kind);
        let setup = Setup { kinds, ..smallest.0 };
        keep_if_it_fails(stage, smallest, setup);
    }
}

/// Cuts launches one by one, and steps by halves.
fn with_fewer(stage: &mut Option<Stage>, smallest: &mut (Setup, String)) {
    while smallest.0.launches > 1 {
        let setup = Setup { launches: smallest.0.launches - 1, ..smallest.0 };
        if !keep_if_it_fails(stage, smallest, setup) {
            break;
        }
    }
    let mut cut = smallest.0.steps / 2;
    while cut > 0 {
        let setup = Setup { steps: smallest.0.steps - cut, ..smallest.0 };
        if !keep_if_it_fails(stage, smallest, setup) {
            cut /= 2;
        }
    }
}
