//! Capacity finds a host for a launch and reserves the room on it.

pub mod fleet;
mod host;

use eventplane_store::Table;

/// The table of receipts, hosts, and the index of free room.
pub const TABLE: Table = Table { name: "capacity", indexes: &[] };
