//! Real processes that are killed, and files that are damaged: `eventplane up` under load, and a
//! checker outside of it that judges what its clients were answered.

pub mod check;
pub mod client;
pub mod disk;
pub mod history;
pub mod process;
pub mod run;
