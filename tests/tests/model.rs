//! The protocol's model, as far as a debug build can explore it: `cargo xtask model` explores more.

use eventplane_tests::model::{Explored, TINY, explore};

#[test]
fn no_law_is_broken_in_any_state_that_can_be_reached() {
    println!("{}", Explored::HEADER);
    for configuration in TINY {
        let found = explore(*configuration, 2, None);
        println!("{found}");
        assert_eq!(found.broken, [], "{}: see the counterexample above", found.name);
        assert!(found.is_whole && found.healed > 0, "{found:?}");
    }
}
