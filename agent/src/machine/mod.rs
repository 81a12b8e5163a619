//! Where instances run: what the drivers share.

pub mod firewall;
pub mod netns;
pub mod port;
