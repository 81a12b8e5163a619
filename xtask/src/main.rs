//! `cargo xtask <task>`: the tasks of the workspace.

use std::env;
use std::process::ExitCode;

const TASKS: &str = "cargo xtask takes one task:
  events  writes `events/`: schemas and samples of all events
  test    runs all that has to hold before a change lands";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["events"] => xtask::events::write(),
        ["test"] => xtask::test::run(),
        _ => Err(anyhow::anyhow!(TASKS)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
