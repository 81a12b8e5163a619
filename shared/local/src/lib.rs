//! The doors of one machine: the embedded store, the bus with the template's rules, the clock and
//! chance.

pub mod bus;
pub mod clock;
pub mod key_file;
pub mod store;
pub mod wiring;
