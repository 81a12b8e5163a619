//! The simulation: the real functions, the real api, and the rules of `template.yaml`, over doors
//! that do what EventBridge, SQS and DynamoDB may do, in one thread, from one seed.
//!
//! Every call of a door is a point where others may come first, where it may fail, or where its
//! caller may die. After every commit the invariants are checked; then the trouble ends, and all
//! has to come to rest.

mod bus;
mod chaos;
mod check;
#[cfg(feature = "mutants")]
mod command;
mod fault;
mod host;
#[cfg(feature = "mutants")]
mod mutants;
mod rest;
mod setup;
#[cfg(feature = "mutants")]
mod shrink;
mod store;
#[cfg(feature = "mutants")]
mod totals;
mod users;
mod world;

pub use chaos::{Chaos, Counts};
#[cfg(feature = "mutants")]
pub use command::{Options, command};
pub use fault::{KINDS, Kind, Kinds, PROFILES, Profile};
pub use rest::History;
pub use setup::Setup;
pub use store::SimStore;
pub use world::Stage;
