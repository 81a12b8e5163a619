//! (being built)

pub mod key_file;
pub mod store;
