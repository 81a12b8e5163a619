//! The functions that a plane has, and their tables.

use eventplane_store::Table;

pub use eventplane_api::handlers;

/// All tables: those of the functions, and the local bus's own.
pub const TABLES: &[Table] = &{
    let [a, b, c, d, e, f] = eventplane_api::TABLES;
    [a, b, c, d, e, f, eventplane_local::bus::DEAD_LETTERS]
};
