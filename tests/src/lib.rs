//! What no single crate can say: each file of `tests/` is about one such thing. Here is what they
//! share: a plane to talk to, its books, and the simulation.

pub mod books;
pub mod chain;
pub mod kill;
pub mod model;
mod nobody;
pub mod sim;
pub mod site;
