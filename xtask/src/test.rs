//! `cargo xtask test`: all that has to hold before a change lands.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// What is run, in this order: the first that fails ends it.
const COMMANDS: &[&[&str]] = &[&["cargo", "test", "--workspace", "--locked"]];

/// Runs all of it.
///
/// # Errors
/// A command cannot be started, or fails.
pub fn run() -> Result<()> {
    for command in COMMANDS {
        let line = command.join(" ");
        eprintln!("$ {line}");
        let (program, arguments) = command.split_first().context("a command has a program")?;
        let status = Command::new(program)
            .args(arguments)
            .current_dir(crate::workspace())
            .status()
            .with_context(|| format!("`{line}` could not be started"))?;
        ensure!(status.success(), "`{line}` failed");
    }
    Ok(())
}
