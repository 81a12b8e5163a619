//! What operators type of hosts that enrol, and users of what their instances have written; the host's
//! agent is played by hand.

mod typed;

use async_trait::async_trait;
use eventplane_agent::{Answer, Http, Method, NoAnswer, Request, Signer, Transport};
use eventplane_engine::{Clock, SystemClock};
use eventplane_keys::host::{HostKey, Signed};
use eventplane_tests::site::Site;
use serde_json::{Value, json};
use std::sync::Arc;
use typed::run;

const SESSION: &str = "00112233445566778899aabbccddeeff";

/// Signs for `host-1`.
struct Key(HostKey);

#[async_trait]
impl Signer for Key {
    async fn sign(&self, request: &mut Request<()>, body: &[u8]) -> Result<(), NoAnswer> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let (method, path, query) = (method.as_str(), uri.path(), uri.query());
        let session = Some(SESSION).filter(|_| !path.ends_with("/registration"));
        let signed = Signed { method, path, query, body, session };
        for (name, value) in self.0.sign(&signed, "host-1", SystemClock.now().0 / 1000) {
            request.headers_mut().insert(name, value.parse().expect("a header"));
        }
        Ok(())
    }
}

/// The agent of `host-1`, with a key of its own.
struct Played {
    http: Http,
}

impl Played {
    /// Enrols with the token and registers.
    async fn enrol(site: &Site, token: &str) -> Played {
        let key = HostKey::from_bytes(&[1; 32]);
        let plain = Http::new(&format!("http://{}", site.plane.address())).expect("an endpoint");
        let body = json!({ "token": token, "public_key": key.public_hex() });
        let played = Played { http: plain.signed_by(Arc::new(Key(key))) };
        played.send(Method::POST, "enrolment", Some(body)).await;
        let host = json!({ "zone": "zone-a", "rack": "r", "vcpus": 8, "memory_mib": 32_768,
            "network_mbps": 10_000 });
        let body = json!({ "previous": null, "session": SESSION, "host": host });
        played.send(Method::POST, "registration", Some(body)).await;
        played
    }

    async fn ask(&self, method: Method, what: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string().into_bytes());
        let path = format!("/v1/agents/host-1/{what}");
        self.http.send(method, &path, body).await.expect("an answer")
    }

    async fn send(&self, method: Method, what: &str, body: Option<Value>) -> Value {
        let answer = self.ask(method, what, body).await;
        assert!(answer.is_success(), "{what}: {answer:?}");
        answer.json().expect("JSON")
    }

    /// Sends what the instance has written.
    async fn put(&self, id: &str, text: &str) {
        let body = json!({ "generation": 1, "text": text, "at": SystemClock.now() });
        self.send(Method::PUT, &format!("instances/default/{id}/console"), Some(body)).await;
    }
}

async fn token(site: &Site, words: &[&str]) -> String {
    let (code, out, err) = run(site, words).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let given: Value = serde_json::from_str(&out).expect("JSON in a pipe");
    given["token"].as_str().expect("a token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_with_the_line_to_type_and_a_key_is_revoked() {
    let site = Site::with_hosts(0).await;
    let (code, out, err) = run(&site, &["hosts", "enrol", "host-1", "--output", "table"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let first = out.lines().next().expect("a token");
    assert!(first.starts_with("host-1."), "{out}");
    let line = format!("eventplane agent --host-config host.toml --enrol-token {first}\n");
    assert!(out.ends_with(&line), "{out}");

    let words = ["hosts", "enrol", "host-1", "--ttl", "60"];
    let agent = Played::enrol(&site, &token(&site, &words).await).await;
    agent.send(Method::GET, "assignments", None).await;
    let (code, out, err) = run(&site, &words).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("IncorrectHostState") && err.contains("`replace`"), "{err}");
    token(&site, &["hosts", "enrol", "host-1", "--replace"]).await;
    agent.send(Method::GET, "assignments", None).await;

    let (code, out, _) = run(&site, &["hosts", "revoke", "host-1", "--output", "table"]).await;
    assert_eq!((code, out.as_str()), (0, "The key of host-1 is revoked.\n"));
    let refused: Value =
        agent.ask(Method::GET, "assignments", None).await.json().expect("an error in JSON");
    assert_eq!(refused["error"]["code"], "HostKeyRevoked");
    for (words, exit, told) in [
        (&["hosts", "revoke", "host-2"][..], 1, "not enrolled"),
        (&["hosts", "enrol", "host-2", "--ttl", "0"], 1, "1 to 604800"),
        (&["hosts", "enrol", "a b"], 1, "a host id"),
        (&["hosts", "enrol"], 2, "<ID>"),
        (&["hosts", "enrol", "host-2", "--output", "ids"], 2, "--output ids"),
    ] {
        let (code, out, err) = run(&site, words).await;
        assert_eq!((code, out.as_str()), (exit, ""), "{words:?}: {err}");
        assert!(err.contains(told), "{words:?}: {err}");
    }
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_printed_as_it_was_written() {
    let site = Site::with_hosts(0).await;
    let given = token(&site, &["hosts", "enrol", "host-1"]).await;
    let agent = Played::enrol(&site, &given).await;
    let id = site.launch_micro().await;
    let (code, out, err) = run(&site, &["console", &id]).await;
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.starts_with("nothing: "), "{err}");

    site.plane.bus().idle().await;
    let set = agent.send(Method::GET, "assignments", None).await;
    let revision = set["revision"].as_u64().expect("a number");
    agent.put(&id, "booting\n\u{1b}[1mready").await;
    let (code, out, err) = run(&site, &["console", &id]).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "booting\n\u{1b}[1mready", ""));
    let (_, out, _) = run(&site, &["console", &id, "--output", "json"]).await;
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(shown["generation"], 1);

    let words = ["console", &id, "--latest"];
    let path = format!("assignments?after={revision}&wait=30");
    let host = async {
        let set = agent.send(Method::GET, &path, None).await;
        assert_eq!(set["wanted"][0]["consoles"], 1);
        agent.put(&id, "later\n").await;
    };
    let ((code, out, err), ()) = tokio::join!(run(&site, &words), host);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "later\n", ""));
    let (code, out, _) = run(&site, &["console", "i-00000000000000000"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    site.plane.shutdown().await;
}
