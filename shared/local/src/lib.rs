//! The doors of one machine: the embedded store, and the bus with the template's rules.

pub mod archive;
pub mod bus;
pub mod data_dir;
pub mod key_file;
pub mod store;
pub mod wiring;

#[cfg(test)]
mod strange_files;
