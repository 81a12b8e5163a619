//! The `eventplane` command.

fn main() {}
