//! Plants each bug in turn: each has to be found, or the simulation proves less than it says.

use super::command::{Options, run_all};
use super::fault::Profile;
use eventplane_domain::Mutant;
use std::process::ExitCode;

/// In which of so many histories of some profile each bug has to be found.
const FOUND_WITHIN: u64 = 300;

/// The profiles that find most of them, the best first.
const BEST: [Profile; 9] = [
    Profile::I,
    Profile::B,
    Profile::C,
    Profile::H,
    Profile::F,
    Profile::G,
    Profile::A,
    Profile::E,
    Profile::D,
];

/// Prints, for each bug and profile, how many histories it takes until it is found.
#[allow(clippy::print_stdout, reason = "its output is what it is for")]
pub(crate) fn find_all(options: &Options) -> ExitCode {
    let mut profiles = options.profiles();
    if options.quick {
        // Those that find most come first.
        profiles.sort_by_key(|profile| BEST.iter().position(|best| best == profile));
    }
    let letters: Vec<String> =
        profiles.iter().map(|profile| format!("{:>4}", profile.letter())).collect();
    println!("{:<38}{}  found by", "planted bug: found in history", letters.concat());
    let mut not_found = vec![];
    for mutant in Mutant::ALL {
        let options = Options { mutant: Some(mutant), seeds: FOUND_WITHIN, ..options.clone() };
        let mut found: Option<(u64, String)> = None;
        let mut line = format!("{:<38}", mutant.name());
        for profile in &profiles {
            if options.quick && found.is_some() {
                line += "    ";
                continue;
            }
            match run_all(&options, *profile) {
                Ok(_) => line += "   -",
                Err((setup, said)) => {
                    let after = setup.seed - options.first + 1;
                    line += &format!("{after:>4}");
                    if found.as_ref().is_none_or(|(least, _)| after < *least) {
                        found = Some((after, said));
                    }
                }
            }
        }
        match found {
            Some((_, said)) => println!("{line}  {}", in_short(&said)),
            None => {
                println!("{line}  nothing");
                not_found.push(mutant.name());
            }
        }
    }
    if not_found.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("not found in {FOUND_WITHIN} histories of any profile: {}", not_found.join(", "));
    ExitCode::FAILURE
}

/// The check's words, without ids and numbers that differ from history to history.
fn in_short(said: &str) -> String {
    let line = said.lines().next().unwrap_or_default();
    line.chars().take(90).collect()
}
