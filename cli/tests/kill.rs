//! `kill -9` at any moment: what is started again goes on where it was. Nothing is lost, nothing is
//! there twice.

use eventplane_agent::{Http, Method, Transport};
use eventplane_domain::Tenant;
use eventplane_local::store::EmbeddedStore;
use eventplane_tests::books::Books;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// How many instances are launched, each with a token of its own.
const LAUNCHES: usize = 200;
/// How many requests are under way at the same time.
const AT_ONCE: usize = 32;
/// How long an instance may take to become what it is to become.
const PATIENCE: Duration = Duration::from_secs(90);

/// `eventplane up`, in a process of its own.
struct Up {
    child: Child,
    /// What it prints; closed, it could not print any more.
    said: BufReader<ChildStdout>,
}

impl Up {
    fn spawn(dir: &Path) -> Up {
        let mut child = Command::new(env!("CARGO_BIN_EXE_eventplane"))
            .args(["up", "--port", "0", "--hosts", "12", "--data-dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Up { child, said }
    }

    /// Waits until it is ready: how it is reached.
    fn ready(&mut self) -> Arc<Http> {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line");
        let endpoint = line.split_whitespace().find(|word| word.starts_with("http://"));
        let endpoint = endpoint.unwrap_or_else(|| panic!("not ready: `{line}`"));
        Arc::new(Http::new(endpoint).expect("an endpoint"))
    }

    /// SIGKILL: the process has no say in it.
    fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Killed already, in a test that succeeds.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a request was answered: its number, the status and the body.
type Answered = (usize, u16, Value);

/// Sends the requests, several at a time, and kills the process when `kill_at` of them are
/// answered, while others are under way.
async fn send_all(
    up: &mut Up,
    http: &Arc<Http>,
    requests: Vec<(Method, String, Option<Value>)>,
    kill_at: Option<usize>,
) -> Vec<Answered> {
    let waiting = Arc::new(Mutex::new(requests.into_iter().enumerate()));
    let (answer, mut answers) = mpsc::unbounded_channel();
    for _ in 0..AT_ONCE {
        let (http, waiting, answer) = (http.clone(), waiting.clone(), answer.clone());
        tokio::spawn(async move {
            loop {
                let next = waiting.lock().expect("no panic holds it").next();
                let Some((n, (method, path, body))) = next else { return };
                let body = body.map(|body| body.to_string().into_bytes());
                // No answer: it was killed.
                let Ok(got) = http.send(method, &path, body).await else { return };
                let _ = answer.send((n, got.status, got.json().expect("JSON")));
            }
        });
    }
    drop(answer);
    let mut answered = Vec::new();
    while let Some(one) = answers.recv().await {
        answered.push(one);
        if kill_at == Some(answered.len()) {
            up.kill();
        }
    }
    answered
}

/// The tokens' requests; the same token always asks for the same.
fn launches() -> Vec<(Method, String, Option<Value>)> {
    let launch = |n| {
        let body = json!({ "instance_type": "t3.micro", "client_token": format!("token-{n}") });
        (Method::POST, "/v1/instances".to_owned(), Some(body))
    };
    (0..LAUNCHES).map(launch).collect()
}

/// Writes down which instance each token was answered: always the same.
fn note(ids: &mut BTreeMap<usize, String>, answered: Vec<Answered>) {
    for (n, status, body) in answered {
        assert_eq!(status, 202, "{body}");
        let id = body["instances"][0]["instance_id"].as_str().expect("an id").to_owned();
        let before = ids.entry(n).or_insert_with(|| id.clone());
        assert_eq!(*before, id, "token {n} has two instances");
    }
}

fn terminations(ids: &BTreeMap<usize, String>) -> Vec<(Method, String, Option<Value>)> {
    ids.values().map(|id| (Method::DELETE, format!("/v1/instances/{id}"), None)).collect()
}

/// Waits until all instances are in `state`.
async fn until(http: &Http, ids: &BTreeMap<usize, String>, state: &str) {
    let all = async {
        for id in ids.values() {
            let path = format!("/v1/instances/{id}?until={state}&wait=30");
            loop {
                let answer = http.send(Method::GET, &path, None).await.expect("an answer");
                let shown: Value = answer.json().expect("JSON");
                if shown["state"] == state {
                    break;
                }
                // There is no way back from there.
                assert_ne!(shown["state"], "terminated", "{shown:#}");
            }
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, all).await;
    assert!(in_time.is_ok(), "not all are {state} after {PATIENCE:?}");
}

/// The books of a process that was killed. What is held is written down together with what it is
/// taken from, so that they add up at any moment.
async fn books(dir: &Path) -> Books {
    let path = dir.join("eventplane.redb");
    let store = EmbeddedStore::open(path, eventplane_plane::TABLES).expect("the store opens");
    Books::read(&store, &Tenant::local()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_killed_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut ids = BTreeMap::new();
    for kill_at in [5, 60, 130, 190] {
        let mut up = Up::spawn(dir);
        let http = up.ready();
        note(&mut ids, send_all(&mut up, &http, launches(), Some(kill_at)).await);
        books(dir).await.check();
    }
    // In the middle of its start.
    for ms in [30, 150, 400] {
        let mut up = Up::spawn(dir);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        up.kill();
        books(dir).await.check();
    }
    let mut up = Up::spawn(dir);
    let http = up.ready();
    // By itself, before anybody asks again.
    until(&http, &ids, "running").await;
    note(&mut ids, send_all(&mut up, &http, launches(), None).await);
    assert_eq!(ids.len(), LAUNCHES);
    until(&http, &ids, "running").await;
    up.kill();
    let standing = books(dir).await;
    standing.check();
    assert_eq!((standing.accounts.len(), standing.assignments.len()), (LAUNCHES, LAUNCHES));

    let mut asked = BTreeMap::new();
    for kill_at in [20, 110, 180] {
        let mut up = Up::spawn(dir);
        let http = up.ready();
        for (n, status, body) in send_all(&mut up, &http, terminations(&ids), Some(kill_at)).await {
            assert_eq!(status, 200, "{body}");
            asked.insert(n, ids[&n].clone());
        }
        books(dir).await.check();
    }
    let mut up = Up::spawn(dir);
    let http = up.ready();
    until(&http, &asked, "terminated").await;
    let answered = send_all(&mut up, &http, terminations(&ids), None).await;
    assert_eq!(answered.len(), LAUNCHES);
    until(&http, &ids, "terminated").await;
    up.kill();
    let left = books(dir).await;
    left.check_nothing_is_held();
    assert_eq!(left.accounts.len(), LAUNCHES);
}
