//! The command as its user sees it: what it says, where, and with which exit code.

use crate::show::Screen;
use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A pipe that remembers.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Pipe {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (u8, String, String) {
    let (out, err) = (Pipe::default(), Pipe::default());
    let mut screen = Screen::pipes(Box::new(out.clone()), Box::new(err.clone()));
    let args = std::iter::once("eventplane").chain(args.iter().copied()).map(Into::into);
    let code = crate::run(args, &mut screen);
    (code, out.text(), err.text())
}

const ID: &str = "i-0123456789abcdef0";

fn instance(state: &str) -> Value {
    json!({"instance_id": ID, "instance_type": "t3.micro", "state": state,
        "placement": {"host": "host-0001", "zone": "zone-a"}, "private_ip": "172.31.0.4"})
}

/// Twice out of breath, then running.
async fn busy() -> (StatusCode, Json<Value>) {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    match ASKED.fetch_add(1, Ordering::Relaxed) {
        0 => (StatusCode::TOO_MANY_REQUESTS, Json(json!({"message": "Too Many Requests"}))),
        1 => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"message": "Service Unavailable"}))),
        _ => (StatusCode::OK, Json(instance("running"))),
    }
}

async fn show(Path(id): Path<String>) -> (StatusCode, Json<Value>) {
    match id.as_str() {
        "stuck" => {
            let pending = json!({"awaits": ["network"]});
            let stuck = json!({"instance_id": id, "state": "pending", "pending": pending});
            (StatusCode::OK, Json(stuck))
        }
        "failed" => {
            let reason = json!({"code": "Server.InsufficientInstanceCapacity", "message": "12"});
            let failed = json!({"instance_id": id, "state": "terminated", "state_reason": reason});
            (StatusCode::OK, Json(failed))
        }
        ID => (StatusCode::OK, Json(instance("running"))),
        _ => {
            let error = json!({"code": "InvalidInstanceID.NotFound", "message": "none",
                "hint": "GET /v1/instances lists the instances", "request_id": "req-7"});
            (StatusCode::NOT_FOUND, Json(json!({ "error": error })))
        }
    }
}

async fn launch(Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    if body["dry_run"] == true {
        let error = json!({"code": "DryRunOperation", "message": "would have been done"});
        return (StatusCode::PRECONDITION_FAILED, Json(json!({ "error": error })));
    }
    let id = match body["instance_type"].as_str() {
        Some("stuck") => "stuck",
        Some("failed") => "failed",
        Some("busy") => "busy",
        _ => ID,
    };
    let instances = json!([{"instance_id": id, "state": "pending", "asked": body}]);
    (StatusCode::ACCEPTED, Json(json!({"reservation_id": "r-1", "instances": instances})))
}

async fn list(RawQuery(query): RawQuery) -> Json<Value> {
    let query = query.unwrap_or_default();
    if query.contains("next=a%3Db") {
        return Json(json!({"instances": [instance("pending")], "next": null}));
    }
    Json(json!({"instances": [instance("running")], "next": "a=b"}))
}

/// A plane that knows a handful of answers by heart.
fn endpoint() -> String {
    let ended = json!({"instance_id": ID, "previous_state": "running",
        "current_state": "shutting-down"});
    let terminate = async move |Path(id): Path<String>| match id.as_str() {
        ID => (StatusCode::OK, Json(ended.clone())),
        _ => show(Path("nobody".to_owned())).await,
    };
    let who = async |headers: axum::http::HeaderMap| {
        let text =
            |name: &str| headers.get(name).and_then(|of| of.to_str().ok()).map(str::to_owned);
        match text("authorization").as_deref() {
            Some("Bearer good") => (StatusCode::OK, Json(json!({ "instance_types": [] }))),
            _ => (StatusCode::FORBIDDEN, Json(json!({ "message": "Forbidden" }))),
        }
    };
    let broken = json!({"verified": false, "broken": "entry 2 does not follow"});
    let router = Router::new()
        .route("/v1/instances", post(launch).get(list))
        .route("/v1/instances/{id}", get(show).merge(delete(terminate)))
        .route("/v1/instances/busy", get(busy))
        .route("/v1/instance-types", get(who))
        .route("/v1/instances/{id}/audit", get(async move || Json(broken.clone())));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
    });
    format!("http://{address}")
}

#[test]
fn a_launch_sends_only_what_was_asked_for_and_prints_json_in_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("user-data");
    std::fs::write(&file, "#!/bin/sh").unwrap();
    let endpoint = endpoint();
    let (code, out, err) = run(&[
        "--endpoint",
        &endpoint,
        "launch",
        "t3.micro",
        "--count",
        "2",
        "--zone",
        "zone-a",
        "--subnet",
        "subnet-1",
        "--security-group",
        "sg-1",
        "--security-group",
        "sg-2",
        "--volume",
        "20",
        "--volume",
        "size_gib=8,volume_type=io2,iops=300,delete_on_termination=false",
        "--tag",
        "name=a=b",
        "--user-data",
        file.to_str().unwrap(),
        "--client-token",
        "t",
        "--strategy",
        "pack",
    ]);
    assert_eq!((code, err.as_str()), (0, ""));
    let answer: Value = serde_json::from_str(&out).unwrap();
    let right = json!({
        "instance_type": "t3.micro", "count": 2, "zone": "zone-a", "subnet_id": "subnet-1",
        "security_group_ids": ["sg-1", "sg-2"],
        "volumes": [{"size_gib": 20}, {"size_gib": 8, "volume_type": "io2", "iops": 300,
            "delete_on_termination": false}],
        "tags": {"name": "a=b"}, "user_data": "#!/bin/sh", "client_token": "t", "strategy": "pack",
    });
    assert_eq!(answer["instances"][0]["asked"], right);
    let (_, out, _) = run(&["--endpoint", &endpoint, "launch", "t3.micro"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["instances"][0]["asked"], json!({"instance_type": "t3.micro"}));
}

#[test]
fn the_exit_code_says_how_it_ended() {
    let endpoint = endpoint();
    let cases: [(&[&str], u8); 16] = [
        (&["launch", "t3.micro"], 0),
        (&["launch", "t3.micro", "--wait"], 0),
        (&["launch", "t3.micro", "--dry-run"], 0),
        (&["launch", "busy", "--wait"], 0),
        (&["launch", "failed", "--wait"], 1),
        (&["launch", "stuck", "--wait", "--timeout-s", "1"], 4),
        (&["describe", ID], 0),
        (&["describe", "i-unknown"], 1),
        (&["describe", ""], 2),
        (&["terminate", ID], 0),
        (&["terminate", ID, "i-unknown"], 1),
        (&["audit", ID], 1),
        (&["dead-letters", "redrive"], 2),
        (&["launch"], 2),
        (&["list", "--output", "ids"], 0),
        (&["capacity", "--output", "ids"], 2),
    ];
    for (args, right) in cases {
        let args: Vec<&str> = ["--endpoint", &endpoint].iter().chain(args).copied().collect();
        let (code, out, err) = run(&args);
        assert_eq!(code, right, "{args:?}\n{out}\n{err}");
        assert_eq!(err.is_empty(), right == 0, "{args:?}\n{err}");
    }
}

#[test]
fn an_endpoint_that_nobody_listens_at_has_an_exit_code_of_its_own() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let (code, out, err) = run(&["--endpoint", &endpoint, "list"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("cannot reach") && err.contains("eventplane up"), "{err}");
    let (code, _, err) = run(&["--endpoint", "ftp://somewhere", "list"]);
    assert_eq!(code, 2);
    assert!(err.contains("http://HOST:PORT"), "{err}");
}

#[test]
fn an_answer_that_is_lost_is_no_endpoint_that_cannot_be_reached() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it"));
    // Reads what is sent, and hangs up.
    let hangs_up = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("somebody");
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]).expect("a request");
        }
    });
    let (code, _, said) = run(&["terminate", "i-1", "--endpoint", &endpoint]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("it may have been done"), "{said}");
    let (code, _, said) = run(&["list", "--endpoint", &endpoint]);
    assert_eq!(code, 3, "nothing was to be changed: {said}");
    hangs_up.join().expect("it has hung up");
}

#[test]
fn an_error_shows_its_hint_and_its_request_id_beside_the_output() {
    let endpoint = endpoint();
    let (code, out, err) = run(&["--endpoint", &endpoint, "describe", "i-unknown"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let right = "error: InvalidInstanceID.NotFound: none\n hint: `eventplane list` lists the \
                 instances\n request id: req-7\n";
    assert_eq!(err, right);
}

#[test]
fn a_list_reads_every_page_and_is_a_table_when_asked() {
    let endpoint = endpoint();
    let (code, out, _) = run(&["--endpoint", &endpoint, "list", "--output", "table"]);
    assert_eq!(code, 0);
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].starts_with("INSTANCE"), "{out}");
    assert!(lines[1].starts_with(ID) && lines[1].contains("running"), "{out}");
    assert!(lines[2].contains("pending"), "{out}");
    assert!(!out.contains('\x1b'), "no colour in a pipe: {out}");
    let (_, out, _) = run(&["--endpoint", &endpoint, "list"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    let ids: Vec<&str> = json["instances"].as_array().unwrap().iter().map(id_of).collect();
    assert_eq!(ids.len(), 2);
    let (_, out, _) = run(&["--endpoint", &endpoint, "list", "--output", "ids"]);
    assert_eq!(out.lines().collect::<Vec<_>>(), ids);
}

fn id_of(instance: &Value) -> &str {
    instance["instance_id"].as_str().unwrap()
}

#[test]
fn waiting_in_vain_says_what_the_launch_waits_for() {
    let endpoint = endpoint();
    let (_, out, err) =
        run(&["--endpoint", &endpoint, "launch", "stuck", "--wait", "--timeout-s", "1"]);
    assert!(err.contains("waits for network"), "{err}");
    assert!(out.contains("\"pending\""), "what stands is printed: {out}");
    let (_, _, err) = run(&["--endpoint", &endpoint, "launch", "failed", "--wait"]);
    assert!(err.contains("Server.InsufficientInstanceCapacity"), "{err}");
}

#[test]
fn a_pattern_matches_or_not_and_an_invalid_one_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let event = file("event", r#"{"source": "eventplane.api", "detail": {"n": 7}}"#);
    let cases = [
        (r#"{"source": ["eventplane.api"]}"#, 0, "true\n"),
        (
            r#"{"source": [{"prefix": "eventplane."}], "detail": {"n": [{"numeric": [">", 6]}]}}"#,
            0,
            "true\n",
        ),
        (r#"{"source": ["aws.ec2"]}"#, 0, "false\n"),
        (r#"{"source": "eventplane.api"}"#, 2, ""),
        (r#"{"source": [{"prefx": "x"}]}"#, 2, ""),
        ("no json", 2, ""),
    ];
    for (text, code, out) in cases {
        let pattern = file("pattern", text);
        let found = run(&["test-pattern", "--pattern", &pattern, "--event", &event]);
        assert_eq!((found.0, found.1.as_str()), (code, out), "{text}: {}", found.2);
        assert_eq!(found.2.contains("is no event pattern"), code == 2, "{text}: {}", found.2);
    }
    let pattern = file("pattern", r#"{"source": ["a"]}"#);
    for bad in [file("bad", "[]"), file("bad2", "{"), "/nowhere/at/all".to_owned()] {
        let (code, out, err) = run(&["test-pattern", "--pattern", &pattern, "--event", &bad]);
        assert_eq!((code, out.as_str()), (2, ""), "{bad}");
        assert!(err.contains(&bad), "{err}");
    }
}

#[test]
fn bad_words_are_wrong_usage() {
    let cases: [&[&str]; 10] = [
        &["nonsense"],
        &["launch", "t3.micro", "--tag", "=x"],
        &["launch", "t3.micro", "--volume", "big"],
        &["launch", "t3.micro", "--volume", "colour=red"],
        &["launch", "t3.micro", "--timeout-s", "3"],
        &["up", "--port", "70000"],
        &["agent", "--simulated", "100001"],
        &["dead-letters", "redrive", "id", "--all"],
        &["up", "--limits", "aws"],
        &["mode", "set", "read-only"],
    ];
    for args in cases {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.starts_with("error: "), "{args:?}: {err}");
    }
}

#[test]
fn help_version_and_completions_are_no_errors() {
    let (code, out, err) = run(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("Exit codes:") && out.contains("test-pattern"), "{out}");
    assert_eq!(run(&["--version"]).0, 0);
    let (code, out, _) = run(&["completions", "bash"]);
    assert_eq!(code, 0);
    assert!(out.contains("eventplane"), "{out}");
}

#[test]
fn a_token_is_sent_and_a_gateway_that_refuses_says_what_it_wants() {
    let endpoint = endpoint();
    let types = |args: &[&str]| run(&[&["--endpoint", &endpoint, "types"], args].concat());
    assert_eq!(types(&["--token", "good"]).0, 0);
    let cases: [(&[&str], &str); 2] =
        [(&[], "--sign"), (&["--token", "bad"], "token is not taken")];
    for (args, hint) in cases {
        let (code, out, err) = types(args);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.starts_with("error: status 403: Forbidden\n hint: "), "{err}");
        assert!(err.contains(hint), "{err}");
    }
    let (code, _, err) = types(&["--token", "good", "--sign"]);
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = run(&["--endpoint", "http://plane.example", "types", "--token", "good"]);
    assert!(code == 2 && !err.contains("good"), "{code}: {err}");
}

#[cfg(not(feature = "aws"))]
#[test]
fn what_needs_aws_says_which_build_can() {
    let cases: [&[&str]; 5] = [
        &["replay", "--stack", "plane", "--from", "x", "--to", "x"],
        &["purge", "--stack", "plane"],
        &["list", "--sign"],
        &["--endpoint", "https://a1b2.execute-api.us-east-1.amazonaws.com", "list"],
        &["--endpoint", "https://plane.example", "agent", "--simulated", "1"],
    ];
    for args in cases {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains("cargo install --path cli --features aws"), "{args:?}: {err}");
    }
}

#[test]
fn cost_adds_up_and_its_tables_fit_a_terminal() {
    let (code, out, err) = run(&["cost", "--hosts", "3", "--launches-per-month", "5000"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let cost: Value = serde_json::from_str(&out).unwrap();
    let lines = cost["at_rest"]["lines"].as_array().unwrap();
    let sum: f64 = lines.iter().map(|line| line["usd"].as_f64().unwrap()).sum();
    assert!((sum - cost["at_rest"]["total_usd"].as_f64().unwrap()).abs() < 1e-9);
    assert_eq!(cost["at_rest"]["of"]["hosts"], 3);
    for phase in ["launches", "terminations"] {
        let ways: Vec<&str> =
            cost[phase].as_array().unwrap().iter().filter_map(|way| way["way"].as_str()).collect();
        assert_eq!(ways, ["alone", "batches", "standard", "express"]);
    }
    let (_, out, _) = run(&["cost", "--output", "table"]);
    for what in ["A month at rest", "A million launches", "a thousand", "empty receives"] {
        assert!(out.contains(what), "{what}: {out}");
    }
    // A pipe is as wide as it likes: a terminal takes a column less between its columns.
    for line in
        out.lines().filter(|line| !line.starts_with("As JSON") && !line.starts_with("A month"))
    {
        assert!(line.chars().count() <= 84, "{line}");
    }
}
