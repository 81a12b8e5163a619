//! The nouns and laws that two rooms need: ids, the launch's specification, what the steps hand
//! over, the law of receipts, and the instance's state machine.
//!
//! Nothing here waits, reads a clock, draws a random number, or knows AWS or a text format.

mod id;
mod launch;
mod mode;
mod mutant;
mod reason;
pub mod receipt;
pub mod state;
mod time;

pub use id::{HostId, InstanceId, MalformedId, Tenant};
pub use launch::{
    FirewallRule, GpuNeed, Identity, Launch, LaunchSpec, Network, Placement, Route, Strategy,
    Volume, VolumeSpec,
};
pub use mode::Mode;
#[cfg(feature = "mutants")]
pub use mutant::plant;
pub use mutant::{Mutant, planted};
pub use reason::{Reason, Step, code};
pub use state::{Outcome, State};
pub use time::Millis;
