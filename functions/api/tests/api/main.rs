//! The api through its router: a store in memory, a bus that remembers, a clock that is set.
#![allow(missing_docs)]

mod admission;
mod agents;
mod console;
mod hosts;
mod instances;
mod launch;
mod limits;
mod metadata;
mod operators;
mod refusals;
mod security;
mod silence;
mod tenants;
mod volumes;
mod world;
