//! The protocol as a model: every state that can be reached is reached, in any order of deliveries,
//! with crashes, losses, silent hosts and lateness, and in each the laws are looked at.
//!
//! The transitions are the production code: the functions and the api run over the items of a
//! state, and the hosts' agents decide. The bus is a growing set: what was sent may be delivered any
//! number of times, at any moment. That is too kind in one way, for it delivers again what was lost;
//! so besides, from the states reached, all that is in flight is dropped, and the sweeper's nudges
//! have to bring everything to rest.

mod atoms;
mod canon;
mod check;
mod configuration;
mod doors;
mod explore;
mod heal;
mod machine;
mod plane;
mod show;
mod state;
mod steps;

pub use check::LAWS;
pub use configuration::{Configuration, LARGE, SHORT, TINY};
pub use explore::{Explored, explore};
pub use state::Left;

use eventplane_domain::Millis;

/// When every history begins.
pub(crate) const START: Millis = Millis(1_800_000_000_000);
/// How long a launch has until it must run, in milliseconds.
pub(crate) const DEADLINE_MS: i64 = 60_000;
