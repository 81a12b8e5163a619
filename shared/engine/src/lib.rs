//! The engine: the one loop that every step runs in.
//!
//! A step [looks](Step::look), which is the only part that may wait, then [decides](Step::decide),
//! a pure function from the event and the facts to writes and events. The engine commits the
//! writes, publishes the events, and on a lost race looks and decides again, a bounded number of
//! times. It holds what every step needs and nothing of any one of them.

mod dice;
mod log;
mod metric;
mod ports;
mod receipt;
mod run;
#[cfg(test)]
mod samples;
mod shadow;
mod stamp;
mod system;

pub use dice::Dice;
pub use log::{Logged, read_log, write_log};
pub use metric::{METRIC, metric};
pub use ports::{
    Archive, Archived, Breaker, BreakerState, Breakers, Chance, Clock, DeadLetter, DeadLetters,
    Fault, Found, LetInByNobody, Ports, Publisher, Span, Waiter, Watching,
};
pub use receipt::{
    KEPT_MS, Receipt, TakesOn, ask_of, give_back, give_back_keeping, publish_again, refuse,
    refuse_late, refuse_noting, take,
};
pub use run::{
    Decision, Delivery, Emit, Failure, Function, Handler, Look, Moment, Step, TRIES_MAX,
};
pub use shadow::{Effects, Shadow, ShadowStore, Verb};
pub use stamp::{Origin, stamp};
pub use system::{OsChance, SystemClock};
