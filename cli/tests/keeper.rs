//! The process between an agent and an instance's program: by itself, as the agent runs it.

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn plan(dir: &Path, script: &str, grace_ms: u64) {
    let plan = json!({
        "generation": 3, "program": ["sh", "-c", script], "work_dir": dir, "grace_ms": grace_ms,
        "env": { "PATH": "/usr/bin:/bin", "EVENTPLANE_INSTANCE_ID": "i-1" },
        "metadata": "127.0.0.1:1", "crashes": 0, "planned_at": 0,
    });
    fs::write(dir.join("plan.json"), plan.to_string()).expect("written");
}

/// Starts a keeper, and says what it says.
fn keeper(dir: &Path) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_eventplane"))
        .arg("run-instance")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let said = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line);
    said.expect("it speaks");
    (child, line.trim_end().to_owned())
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} never came");
        std::thread::yield_now();
    }
}

fn exit(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("exit.json")).expect("it is there")).expect("JSON")
}

fn console(dir: &Path) -> String {
    fs::read_to_string(dir.join("console.log")).unwrap_or_default()
}

fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn terminate(keeper: &Child) {
    let done = Command::new("kill").arg(keeper.id().to_string()).status().expect("kill");
    assert!(done.success());
}

#[test]
fn output_and_exit_code_are_written_down_although_nobody_asks() {
    let dir = tempfile::tempdir().expect("a folder");
    plan(dir.path(), "echo out; echo err >&2; exit 7", 1_000);
    let (mut keeper, said) = keeper(dir.path());
    assert_eq!(said, "started");
    assert!(keeper.wait().expect("it ends").success());
    assert_eq!(console(dir.path()), "out\nerr\n");
    let right = json!({ "generation": 3, "code": 7, "signal": null, "was_told_to": false });
    assert_eq!(exit(dir.path()), right);
}

#[test]
fn what_the_program_left_behind_ends_with_it() {
    let dir = tempfile::tempdir().expect("a folder");
    // A daemon: in a session of its own, of a parent that is gone, and deaf to a polite end.
    let daemon = "setsid sh -c 'trap \"\" TERM; echo $$ > daemon; sleep 600' & sleep 0.3; exit 0";
    plan(dir.path(), daemon, 1_000);
    let (mut keeper, said) = keeper(dir.path());
    assert_eq!(said, "started");
    assert!(keeper.wait().expect("it ends").success());
    let daemon = fs::read_to_string(dir.path().join("daemon")).expect("it ran");
    assert!(!lives(&daemon));
}

#[test]
fn a_program_is_asked_to_end_and_then_made_to() {
    for (script, grace_ms, signal) in [
        ("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done", 20_000, None),
        ("trap '' TERM; echo ready; while :; do sleep 0.05; done", 100, Some(9)),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        plan(dir.path(), script, grace_ms);
        let (mut keeper, said) = keeper(dir.path());
        assert_eq!(said, "started");
        until("its output", || console(dir.path()).contains("ready"));
        terminate(&keeper);
        assert!(keeper.wait().expect("it ends").success());
        let exit = exit(dir.path());
        assert_eq!(exit["signal"].as_i64(), signal, "{exit}");
        assert_eq!(exit["was_told_to"], true);
        assert_eq!(console(dir.path()).contains("bye"), signal.is_none());
    }
}

#[test]
fn one_instance_has_one_keeper_and_a_program_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    plan(dir.path(), "echo ready; sleep 600", 100);
    let (mut first, said) = keeper(dir.path());
    assert_eq!(said, "started");
    let (mut second, said) = keeper(dir.path());
    assert_eq!(said, "it is kept by another process");
    assert!(!second.wait().expect("it ends").success());
    terminate(&first);
    assert!(first.wait().expect("it ends").success());

    let path = dir.path().join("plan.json");
    let mut plan: Value = serde_json::from_slice(&fs::read(&path).expect("there")).expect("JSON");
    plan["program"] = json!(["/no/such/program"]);
    fs::write(&path, plan.to_string()).expect("written");
    let (mut keeper, said) = keeper(dir.path());
    assert!(said.starts_with("/no/such/program: No such file"), "{said}");
    assert!(!keeper.wait().expect("it ends").success());
}

#[test]
fn the_log_forgets_its_oldest_half() {
    let dir = tempfile::tempdir().expect("a folder");
    plan(
        dir.path(),
        "i=0; while [ $i -lt 60000 ]; do echo line $i of a long log that goes on and on; i=$((i+1)); done",
        100,
    );
    let (mut keeper, _) = keeper(dir.path());
    assert!(keeper.wait().expect("it ends").success());
    assert!(console(dir.path()).ends_with("line 59999 of a long log that goes on and on\n"));
    for log in ["console.log", "console.log.1"] {
        let bytes = fs::metadata(dir.path().join(log)).expect("there").len();
        assert!(bytes <= 1024 * 1024 + 64 * 1024, "{log} has {bytes}");
    }
}
