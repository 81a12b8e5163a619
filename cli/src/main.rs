//! The `eventplane` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(eventplane::run(std::env::args_os(), &mut eventplane::Screen::standard()))
}
