//! What AWS would make of `template.yaml`, after SAM has expanded it: checks that no linter has.
//!
//! `cargo xtask template` writes the expansions and runs these. Every check is shown to find what it
//! is for: [`faults`] plants a fault for each.

mod faults;
mod outside;
mod parameters;
mod plane;
mod queues;
mod roles;
mod rules;

use plane::Plane;
use std::fs;
use xtask::template::VARIANTS;

/// The functions that hear events.
const STEPS: [&str; 6] = ["Capacity", "Network", "Storage", "Security", "Handoff", "Instances"];

/// All functions.
const FUNCTIONS: [&str; 8] =
    ["Capacity", "Network", "Storage", "Security", "Handoff", "Instances", "Sweeper", "Api"];

/// Looks for what is wrong, and says each where and what.
type Check = fn(&Plane) -> Vec<String>;

/// Every check, under a name that says what holds.
const CHECKS: &[(&str, Check)] = &[
    ("every target of a rule has dead letters and a retry policy", rules::targets),
    ("every queue that EventBridge writes to lets it", queues::policies),
    ("an inbox is kept less long than its dead letters, and tried five times", queues::inboxes),
    ("there is a wait for every receive but the last", queues::waits),
    ("a message stays hidden for six times the function's timeout", queues::visibility),
    ("every event has a rule or is terminal", rules::events),
    ("every rule has a publisher of all that it hears, and no other source", rules::publishers),
    ("no rule matches its own function's output", rules::loops),
    ("rules of steps refuse replays", rules::replays),
    ("each tenant has its fair share of an inbox", rules::fair_shares),
    ("the shadow hears replays alone, and no function reads them", rules::shadow),
    ("mappings report batch item failures, are bounded, and filter nothing", queues::mappings),
    ("roles hold what their functions' ports need and nothing else", roles::ports),
    ("no action is a wildcard, and no policy is managed", roles::wildcards),
    ("tables are what the code says, and keep their data", outside::tables),
    ("the master key is rotated and kept", outside::master_key),
    ("logs end, and every function has its own", outside::logs),
    ("functions are told what they read", outside::environment),
    ("a parameter that changes makes another version", outside::versions),
    ("an asynchronous function says where its failures go", outside::failures),
    ("new code goes back whatever fails", outside::rollback),
    ("parameters that let in nobody, or anybody, are refused", parameters::together),
    ("routes ask who is there, and lead to the alias", outside::routes),
    ("an emulator is not asked for what it does not know", outside::emulator),
];

fn expansion(name: &str) -> Plane {
    let path = xtask::workspace().join(format!("target/template/{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; `cargo xtask template` writes it", path.display())
    });
    Plane::new(serde_json::from_str(&text).expect("an expansion is JSON"))
}

#[test]
#[ignore = "needs the expanded template: cargo xtask template runs them"]
fn the_template_passes_every_check() {
    for (variant, _) in VARIANTS {
        let plane = expansion(variant);
        for (name, check) in CHECKS {
            assert_eq!(check(&plane), [""; 0], "{variant}: {name}");
        }
    }
}

#[test]
#[ignore = "needs the expanded template: cargo xtask template runs them"]
fn every_check_finds_what_it_is_for() {
    let plane = expansion("expanded");
    let with_faults: Vec<&str> = faults::FAULTS.iter().map(|(check, _)| *check).collect();
    let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    assert_eq!(with_faults, names, "each check is shown to find something");
    for ((name, check), (_, faults)) in CHECKS.iter().zip(faults::FAULTS) {
        for fault in *faults {
            assert!(!check(&fault.plant(&plane)).is_empty(), "{name}: overlooks {}", fault.0);
        }
    }
}
