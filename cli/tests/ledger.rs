//! `eventplane ledger` against a plane: its exit code says whether the ledger balances.

use eventplane_store::{Key, Store, Update, Write};
use eventplane_tests::site::Site;
use serde_json::Value;
use std::process::Command;

/// Exit code, standard output, standard error.
async fn run(site: &Site, words: &[&str]) -> (Option<i32>, String, String) {
    let endpoint = format!("http://{}", site.plane.address());
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventplane"));
    command.args(words).env("EVENTPLANE_ENDPOINT", endpoint);
    let done = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let done = done.expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("a text");
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_is_0_while_the_ledger_balances_and_1_when_it_does_not() {
    let site = Site::with_hosts(3).await;
    let id = site.launch_micro().await;
    let shown = site.until(&id, "running").await;
    let (code, out, err) = run(&site, &["ledger", "check"]).await;
    assert_eq!((code, &err[..]), (Some(0), ""));
    let report: Value = serde_json::from_str(&out).expect("JSON in a pipe");
    assert_eq!(report["balances"], true);
    let (code, out, _) = run(&site, &["ledger", "check", "--output", "table"]).await;
    assert!(code == Some(0) && out.starts_with("3 hosts, 1 leased") && out.ends_with("balances\n"));
    let (code, out, _) = run(&site, &["ledger", "show", "--output", "table"]).await;
    assert_eq!((code, out.lines().count()), (Some(0), 5), "a line for each step: {out}");
    assert!(out.contains(&id) && out.contains("2 vCPUs, 1024 MiB, 64 Mbps of host-"), "{out}");

    let host = shown["placement"]["host"].as_str().expect("a host");
    let key = Key::new("capacity", format!("@host/{host}"), "host");
    let lost = Write::update(key, vec![Update::add("free_vcpus", -2)]);
    site.plane.store().transact(vec![lost]).await.expect("written");
    let (code, out, err) = run(&site, &["ledger", "check", "--output", "table"]).await;
    assert_eq!(code, Some(1), "{out}{err}");
    let said = format!("host {host}: 2 vCPUs are neither free nor held by a receipt");
    assert!(
        out.contains(&said) && out.contains(&format!("  held by default/{id} (run 1, running)"))
    );
    assert_eq!(err, "error: the ledger does not balance: 1 found\n");
}
