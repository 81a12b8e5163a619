//! The README's session does what it says.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// The commands of the README's session, one a line.
fn session() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).expect("the README");
    let block = text.split("```sh session\n").nth(1).expect("a session in the README");
    let block = block.split("```").next().expect("its end");
    block.lines().map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_session_succeeds() {
    let command = env!("CARGO_BIN_EXE_eventplane");
    let dir = tempfile::tempdir().expect("a directory");
    // Free a moment ago: nobody else on this machine asks for it in between.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let run = |words: &[&str]| {
        let mut child = Command::new(command);
        child.args(words).current_dir(dir.path()).env("EVENTPLANE_ENDPOINT", &endpoint);
        child
    };
    let lines = session();
    let first: Vec<&str> = lines[0].trim_end_matches(" &").split(' ').skip(1).collect();
    let port = port.to_string();
    let mut up = run(&[&first[..], &["--port", &port]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the plane starts");
    // The command itself says when nobody answers: exit code 3.
    let is_up = (0..600).any(|_| {
        std::thread::yield_now();
        let asked = run(&["capacity"]).output().expect("it runs");
        asked.status.success()
    });
    let mut failed = Vec::new();
    for line in &lines[1..] {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let output = run(&words).output().expect("it runs");
        if !output.status.success() {
            failed.push(format!("{line}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    up.kill().expect("it ends");
    up.wait().expect("it has ended");
    assert!(is_up, "the plane did not answer");
    assert!(lines.len() > 3, "the session is there: {lines:?}");
    assert_eq!(failed, Vec::<String>::new());
}
