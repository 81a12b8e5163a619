//! The demonstration through the binary, as its reader runs it.

use std::process::Command;

/// Runs the demonstration, and checks that all of this is said, in this order.
fn plays(arguments: &[&str], scenes: &[&str]) {
    let ran = Command::new(env!("CARGO_BIN_EXE_eventplane")).args(arguments).output();
    let ran = ran.expect("the binary runs");
    let out = String::from_utf8_lossy(&ran.stdout);
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{out}\n{err}");
    assert_eq!(err, "", "{out}");
    let mut rest = &*out;
    for scene in scenes {
        let at = rest.find(scene).unwrap_or_else(|| panic!("`{scene}` is not there:\n{out}"));
        rest = &rest[at..];
    }
}

#[test]
fn the_demonstration_plays_all_scenes_and_ends_with_0() {
    let scenes = [
        "12 hosts in 3 zones",
        "One launch",
        "Six more",
        "waits for network",
        "is mended",
        "why: Server.InsufficientInstanceCapacity: 12 hosts:",
        "terminate all",
        "nothing: all that there is is free",
    ];
    plays(&["demo", "--exit"], &scenes);
}

#[test]
fn the_demonstration_on_real_processes_plays_all_scenes_and_leaves_none() {
    let scenes = [
        "three agents of this machine",
        "host-2",
        "Three instances",
        "says: hello from i-",
        "the same processes answer",
        "300 of 300 requests",
        "its agent has started it again: hello from i-",
        "nothing runs, and nothing is held",
    ];
    plays(&["demo", "--real", "--exit"], &scenes);
}
