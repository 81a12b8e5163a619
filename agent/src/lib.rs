//! The data plane's program on a host.
//!
//! A host learns what it is to run from the [wanted set](wire::Assignments), acts on it, and says
//! what it sees. What it does about a set, a start or a deadline is decided in [`host`], a pure
//! state machine; [`Driver`] does it; everything else here is input and output.
//!
//! [`Agent`] is the agent of a real host: its instances are processes or virtual machines of their
//! own ([`machine`]), which outlive it. [`Fleet`] runs many simulated hosts in one process, over the
//! same loop: by HTTP, or straight into the router of a plane in the same process.

mod agent;
pub mod config;
mod disk;
mod driver;
mod fleet;
pub mod host;
mod identity;
mod journal;
pub mod machine;
pub mod measure;
pub mod metadata;
mod restart;
mod round;
mod simulated;
mod sizes;
mod speech;
mod transport;
pub mod wire;

pub use agent::{Agent, AgentError, DataDir};
pub use disk::{Disk, RealDisk, replace};
pub use driver::{Driver, Happened};
pub use fleet::{Fleet, FleetOptions, FleetStats};
pub use identity::{Identity, IdentityError};
pub use journal::JournalError;
pub use machine::run_instance;
pub use round::Silenced;
pub use sizes::{HostSize, registration};
pub use transport::{
    Answer, Http, InProcess, Method, NoAnswer, Request, Signer, Transport, innermost,
};

#[cfg(test)]
mod power_tests;
