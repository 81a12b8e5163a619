//! One seed, one history: the real steps, the real api and the real agents' decisions over doors
//! that keep everybody waiting. At every call of a door others may come first, the call may fail
//! with or without its effect, and the process that made it may die. After every commit the books
//! are checked.

mod bus;
mod chaos;
mod check;
mod host;
mod store;
mod world;

pub use chaos::Chaos;
pub use store::SimStore;
pub use world::{History, Trouble, run};
