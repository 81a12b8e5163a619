//! Hosts that have enrolled: their agents sign, and speak for themselves alone.

use crate::world::{Answer, NOW, World, ZONE};
use axum::http::Method;
use eventplane_capacity::agents::agent_key;
use eventplane_domain::HostId;
use eventplane_keys::host::{HostKey, Signed};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

const SESSION: &str = "00112233445566778899aabbccddeeff";
const NEXT_SESSION: &str = "ffeeddccbbaa99887766554433221100";

/// An agent as it signs.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) host: &'static str,
    pub(crate) key: HostKey,
    pub(crate) session: Option<&'static str>,
}

impl Agent {
    pub(crate) fn new(host: &'static str, seed: u8) -> Agent {
        Agent { host, key: HostKey::from_bytes(&[seed; 32]), session: None }
    }

    /// Enrols with a token that an operator was given.
    pub(crate) async fn enrol(&self, world: &World, token: &str) -> Answer {
        let body = json!({ "token": token, "public_key": self.key.public_hex() });
        world.post(&format!("/v1/agents/{}/enrolment", self.host), &body).await
    }

    pub(crate) async fn send(
        &self,
        world: &World,
        method: Method,
        what: &str,
        body: &Value,
    ) -> Answer {
        let path = format!("/v1/agents/{}/{what}", self.host);
        self.sign(world, method, &path, body, world.ports.clock.now().0 / 1000).await
    }

    async fn sign(
        &self,
        world: &World,
        method: Method,
        path: &str,
        body: &Value,
        at_s: i64,
    ) -> Answer {
        let bytes = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
        let (before, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        let (method_name, session) = (method.as_str(), self.session);
        let signed = Signed { method: method_name, path: before, query, body: &bytes, session };
        let headers = self.key.sign(&signed, self.host, at_s);
        world.send_with(method, path, bytes, &headers).await
    }

    pub(crate) async fn get(&self, world: &World, what: &str) -> Answer {
        self.send(world, Method::GET, what, &Value::Null).await
    }
    pub(crate) async fn post(&self, world: &World, what: &str, body: &Value) -> Answer {
        self.send(world, Method::POST, what, body).await
    }
    pub(crate) async fn put(&self, world: &World, what: &str, body: &Value) -> Answer {
        self.send(world, Method::PUT, what, body).await
    }

    /// Begins `session` after `previous`, and registers the host.
    pub(crate) async fn begin(
        &self,
        world: &World,
        previous: Option<&str>,
        session: &str,
    ) -> Answer {
        let host = json!({ "zone": ZONE, "rack": "rack-1", "vcpus": 64, "memory_mib": 262_144,
            "network_mbps": 25_000 });
        let body = json!({ "previous": previous, "session": session, "host": host });
        self.post(world, "registration", &body).await
    }
}

async fn token_of(world: &World, body: Value) -> String {
    let given = world.post("/v1/enrolments", &body).await.with(201);
    given["token"].as_str().expect("a token").to_owned()
}

/// An agent that speaks for `host`, which it has registered.
pub(crate) async fn speaking(world: &World, host: &'static str, seed: u8) -> Agent {
    let agent = Agent::new(host, seed);
    let token = token_of(world, json!({ "host_id": host })).await;
    agent.enrol(world, &token).await.with(200);
    agent.begin(world, None, SESSION).await.with(200);
    Agent { session: Some(SESSION), ..agent }
}

fn refused(answer: &Answer, status: u16, code: &str) {
    let is = (answer.status.as_u16(), answer.error("code"));
    assert_eq!(is, (status, code), "{}", answer.body);
}

fn nothing() -> Value {
    json!({ "complete": true, "revision": 0, "instances": [], "let_go": [] })
}

#[tokio::test]
async fn a_host_enrols_once_registers_and_speaks_for_itself() {
    let world = World::empty();
    let given = world.post("/v1/enrolments", &json!({ "host_id": "host-1" })).await.with(201);
    assert_eq!(given["expires_at"], "2026-11-18T12:06:40Z", "an hour from now");
    let token = given["token"].as_str().expect("a token");
    assert!(token.starts_with("host-1.") && token.len() == 7 + 32, "{token}");
    let agent = Agent::new("host-1", 1);
    refused(&agent.get(&world, "assignments").await, 401, "HostUnauthenticated");
    assert_eq!(agent.enrol(&world, token).await.with(200), json!({ "host_id": "host-1" }));
    // Enrolled, and not registered yet.
    refused(&agent.get(&world, "assignments").await, 404, "InvalidHostID.NotFound");
    let host = agent.begin(&world, None, SESSION).await.with(200);
    assert_eq!((&host["host_id"], &host["state"]), (&json!("host-1"), &json!("active")));
    assert_eq!(host["enrolled"], true);
    assert_eq!(
        world.get("/v1/subnets").await.with(200)["subnets"].as_array().map(Vec::len),
        Some(1)
    );

    let agent = Agent { session: Some(SESSION), ..agent };
    let set = agent.get(&world, "assignments").await.with(200);
    assert_eq!(set["wanted"], json!([]));
    assert_eq!(agent.post(&world, "reports", &nothing()).await.with(200), json!({ "news": 0 }));
    // The token is kept nowhere.
    let id = HostId::parse("host-1").expect("a host id");
    let item = eventplane_store::Store::get(&*world.store, &agent_key(&id)).await.expect("read");
    assert!(!format!("{item:?}").contains(&token[7..]));
}

#[tokio::test]
async fn an_enrolled_host_runs_what_it_is_given() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = world.launch(&json!({ "instance_type": "t3.micro" })).await.remove(0);
    world.hand_off().await;
    let set = agent.get(&world, "assignments?after=0&wait=0").await.with(200);
    assert_eq!(set["wanted"][0]["instance_id"], json!(id));
    let seen = json!([{ "tenant": "default", "instance_id": id, "generation": 1,
        "state": "running" }]);
    let report = json!({ "complete": false, "revision": 1, "instances": seen });
    assert_eq!(agent.post(&world, "reports", &report).await.with(200), json!({ "news": 1 }));
    assert_eq!(world.published_names(), ["InstanceRunning"]);
}

#[tokio::test]
async fn a_token_is_good_once_for_one_host_and_for_its_time() {
    let world = World::empty();
    let (one, two) = (Agent::new("host-1", 1), Agent::new("host-1", 2));
    let token = token_of(&world, json!({ "host_id": "host-1", "ttl_s": 5 })).await;
    refused(&one.enrol(&world, "host-1.00").await, 403, "InvalidEnrolmentToken");
    let elsewhere = Agent::new("host-2", 1).enrol(&world, &token).await;
    refused(&elsewhere, 403, "InvalidEnrolmentToken");
    world.pass(5_001);
    refused(&one.enrol(&world, &token).await, 403, "InvalidEnrolmentToken");

    let token = token_of(&world, json!({ "host_id": "host-1" })).await;
    one.enrol(&world, &token).await.with(200);
    one.enrol(&world, &token).await.with(200);
    let late = two.enrol(&world, &token).await;
    refused(&late, 403, "EnrolmentTokenUsed");
    assert_eq!((late.error("class"), late.error("field")), ("auth", "token"));

    let again = world.post("/v1/enrolments", &json!({ "host_id": "host-1" })).await;
    refused(&again, 409, "IncorrectHostState");
    let token = token_of(&world, json!({ "host_id": "host-1", "replace": true })).await;
    one.begin(&world, None, SESSION).await.with(200);
    two.enrol(&world, &token).await.with(200);
    let one = Agent { session: Some(SESSION), ..one };
    refused(&one.get(&world, "assignments").await, 401, "HostUnauthenticated");
    two.begin(&world, None, NEXT_SESSION).await.with(200);
}

#[tokio::test]
async fn a_dead_host_enrols_anew_without_a_word() {
    let world = World::empty();
    speaking(&world, "host-1", 1).await;
    let ask = json!({ "host_id": "host-1" });
    refused(&world.post("/v1/enrolments", &ask).await, 409, "IncorrectHostState");
    world.put("/v1/hosts/host-1", &json!({ "state": "dead" })).await.with(200);
    world.post("/v1/enrolments", &ask).await.with(201);
}

#[tokio::test]
async fn what_is_asked_of_an_enrolment_in_vain_is_told() {
    let world = World::empty();
    for (body, field, told) in [
        (json!({ "host_id": "a b" }), "host_id", "a host id"),
        (json!({ "host_id": "host-1", "ttl_s": 0 }), "ttl_s", "1 to 604800"),
        (json!({ "host_id": "host-1", "ttl_s": 604_801 }), "ttl_s", "1 to 604800"),
        (json!({}), "host_id", "missing field"),
        (json!({ "host_id": "host-1", "ttl": 1 }), "ttl", "unknown field"),
    ] {
        let answer = world.post("/v1/enrolments", &body).await;
        assert_eq!(answer.error("field"), field, "{}", answer.body);
        assert!(answer.error("message").contains(told), "{}", answer.body);
        answer.with(400);
    }
    let token = token_of(&world, json!({ "host_id": "host-1" })).await;
    let body = json!({ "token": token, "public_key": "00" });
    let answer = world.post("/v1/agents/host-1/enrolment", &body).await;
    assert_eq!(answer.error("field"), "public_key");
    assert!(answer.error("message").contains("64 hexadecimal digits"), "{}", answer.body);
    answer.with(400);
    let agent = Agent::new("host-1", 1);
    agent.enrol(&world, &token).await.with(200);
    for session in ["", "0011", "zz112233445566778899aabbccddeeff", &"0".repeat(65)] {
        let answer = agent.begin(&world, None, session).await;
        assert_eq!(answer.error("field"), "session", "{}", answer.body);
        answer.with(400);
    }
    // What the fleet refuses of a host's sizes loses nothing: the same session registers it then.
    let host = json!({ "zone": ZONE, "rack": "r", "vcpus": 0, "memory_mib": 1, "network_mbps": 1 });
    let body = json!({ "previous": null, "session": SESSION, "host": host });
    agent.post(&world, "registration", &body).await.with(400);
    agent.begin(&world, None, SESSION).await.with(200);
}

#[tokio::test]
async fn a_request_that_its_host_did_not_sign_is_refused() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let path = "/v1/agents/host-1/assignments";
    let unsigned = world.get(path).await;
    refused(&unsigned, 401, "HostUnauthenticated");
    assert_eq!(unsigned.error("class"), "auth");
    let thief = Agent { key: HostKey::from_bytes(&[9; 32]), ..agent.clone() };
    refused(&thief.get(&world, "assignments").await, 401, "HostUnauthenticated");
    let now_s = NOW.0 / 1000;
    for at_s in [now_s - 301, now_s + 301] {
        let late = agent.sign(&world, Method::GET, path, &Value::Null, at_s).await;
        refused(&late, 401, "HostUnauthenticated");
        assert!(late.error("message").contains(&now_s.to_string()), "{}", late.body);
    }
    // Signed for another method, path, query or body than what is sent.
    let signed = Signed { method: "GET", path, query: None, body: b"", session: Some(SESSION) };
    let headers = agent.key.sign(&signed, "host-1", now_s);
    world.send_with(Method::GET, path, vec![], &headers).await.with(200);
    let reports = "/v1/agents/host-1/reports";
    for (method, path, body) in [
        (Method::PUT, "/v1/agents/host-1/key", ""),
        (Method::GET, "/v1/agents/host-1/assignments?after=7", ""),
        (Method::POST, reports, ""),
        (Method::GET, path, "{}"),
    ] {
        let answer = world.send_with(method, path, body.into(), &headers).await;
        refused(&answer, 401, "HostUnauthenticated");
    }
}

#[tokio::test]
async fn a_host_speaks_for_no_other() {
    let world = World::empty();
    let one = speaking(&world, "host-1", 1).await;
    let two = speaking(&world, "host-2", 2).await;
    let now_s = NOW.0 / 1000;
    for what in ["assignments", "reports", "key", "registration"] {
        let method = if what == "assignments" { Method::GET } else { Method::POST };
        let method = if what == "key" { Method::PUT } else { method };
        let path = format!("/v1/agents/host-2/{what}");
        let answer = one.sign(&world, method.clone(), &path, &nothing(), now_s).await;
        refused(&answer, 403, "UnauthorizedOperation");
        // In the other's name, with its own key.
        let posing = Agent { host: "host-2", ..one.clone() };
        let answer = posing.sign(&world, method, &path, &nothing(), now_s).await;
        refused(&answer, 401, "HostUnauthenticated");
    }
    two.get(&world, "assignments").await.with(200);
}

#[tokio::test]
async fn of_two_agents_with_one_identity_one_is_fenced() {
    let world = World::empty();
    let first = speaking(&world, "host-1", 1).await;
    first.begin(&world, None, SESSION).await.with(200);
    // A copy of the disk: it knows the session that was, and takes it on as its own previous one.
    let copy = Agent { session: Some(NEXT_SESSION), ..first.clone() };
    refused(&copy.get(&world, "assignments").await, 409, "HostFenced");
    refused(&copy.begin(&world, None, NEXT_SESSION).await, 409, "HostFenced");
    copy.begin(&world, Some(SESSION), NEXT_SESSION).await.with(200);
    for answer in [
        first.get(&world, "assignments").await,
        first.post(&world, "reports", &nothing()).await,
        first.put(&world, "key", &json!({ "public_key": "00" })).await,
        first.begin(&world, Some(SESSION), SESSION).await,
        Agent { session: None, ..first.clone() }.get(&world, "assignments").await,
    ] {
        refused(&answer, 409, "HostFenced");
        assert!(answer.error("message").contains("--replace"), "{}", answer.body);
    }
    copy.post(&world, "reports", &nothing()).await.with(200);
}

#[tokio::test]
async fn an_agent_that_is_fenced_while_it_waits_hears_of_nothing_new() {
    let world = World::empty();
    let first = speaking(&world, "host-1", 1).await;
    let second = Agent { session: Some(NEXT_SESSION), ..first.clone() };
    let waiting = first.get(&world, "assignments?after=0&wait=30");
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        second.begin(&world, Some(SESSION), NEXT_SESSION).await.with(200);
        world.launch(&json!({ "instance_type": "t3.micro" })).await;
        world.hand_off().await;
    };
    let (answer, ()) = tokio::join!(waiting, meanwhile);
    refused(&answer, 409, "HostFenced");
    let set = second.get(&world, "assignments").await.with(200);
    assert_eq!(set["wanted"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_key_is_rotated_and_the_answer_may_be_lost() {
    let world = World::empty();
    let old = speaking(&world, "host-1", 1).await;
    let new = Agent { key: HostKey::from_bytes(&[2; 32]), ..old.clone() };
    let body = json!({ "public_key": new.key.public_hex() });
    refused(&new.put(&world, "key", &body).await, 401, "HostUnauthenticated");
    old.put(&world, "key", &json!({ "public_key": "00" })).await.with(400);
    old.put(&world, "key", &body).await.with(200);
    refused(&old.put(&world, "key", &body).await, 401, "HostUnauthenticated");
    new.put(&world, "key", &body).await.with(200);
    new.get(&world, "assignments").await.with(200);
}

#[tokio::test]
async fn a_revoked_key_signs_nothing_until_the_host_enrols_anew() {
    let world = World::empty();
    let key = "/v1/hosts/host-1/key";
    refused(&world.delete(key).await, 404, "InvalidHostKey.NotFound");
    let agent = speaking(&world, "host-1", 1).await;
    world.delete(key).await.with(204);
    world.delete(key).await.with(204);
    for answer in [
        agent.get(&world, "assignments").await,
        agent.post(&world, "reports", &nothing()).await,
        agent.begin(&world, Some(SESSION), NEXT_SESSION).await,
    ] {
        refused(&answer, 403, "HostKeyRevoked");
    }
    // Whoever has not the key is not told that it was revoked.
    let stranger = Agent { key: HostKey::from_bytes(&[9; 32]), ..agent.clone() };
    refused(&stranger.get(&world, "assignments").await, 401, "HostUnauthenticated");
    let token = token_of(&world, json!({ "host_id": "host-1" })).await;
    let next = Agent::new("host-1", 3);
    next.enrol(&world, &token).await.with(200);
    next.begin(&world, None, NEXT_SESSION).await.with(200);
}

#[tokio::test]
async fn no_operator_speaks_for_a_host_that_is_enrolled() {
    let world = World::new().await;
    let report = "/v1/hosts/host-1/reports";
    world.post(report, &nothing()).await.with(200);
    speaking(&world, "host-1", 1).await;
    let mut partial = nothing();
    partial["complete"] = json!(false);
    let registration = json!({ "host_id": "host-1", "zone": ZONE, "rack": "rack-1", "vcpus": 64,
        "memory_mib": 262_144, "network_mbps": 25_000 });
    for answer in [
        world.get("/v1/hosts/host-1/assignments").await,
        world.post(report, &nothing()).await,
        world.post(report, &partial).await,
        world.post("/v1/hosts", &registration).await,
    ] {
        refused(&answer, 403, "HostIsEnrolled");
    }
    // One that has enrolled and not registered yet is nobody else's either.
    let agent = Agent::new("host-2", 2);
    let token = token_of(&world, json!({ "host_id": "host-2" })).await;
    agent.enrol(&world, &token).await.with(200);
    let registration = json!({ "host_id": "host-2", "zone": ZONE, "rack": "rack-1", "vcpus": 64,
        "memory_mib": 262_144, "network_mbps": 25_000 });
    refused(&world.post("/v1/hosts", &registration).await, 403, "HostIsEnrolled");
    world.put("/v1/hosts/host-1", &json!({ "state": "draining" })).await.with(200);
}

#[tokio::test]
async fn who_was_let_in_by_nobody_is_nobody_but_to_agents_routes() {
    let world = World::new().await;
    let token = token_of(&world, json!({ "host_id": "host-2" })).await;
    world.door_is_open.store(true, Ordering::Relaxed);
    for path in
        ["/v1/instances", "/v1/hosts", "/v1/hosts/host-1/assignments", "/v1/ledger", "/v1/limits"]
    {
        refused(&world.get(path).await, 403, "UnauthorizedOperation");
    }
    let launch = json!({ "instance_type": "t3.micro" });
    refused(&world.post("/v1/instances", &launch).await, 403, "UnauthorizedOperation");
    let ask = json!({ "host_id": "host-3" });
    refused(&world.post("/v1/enrolments", &ask).await, 403, "UnauthorizedOperation");
    refused(&world.delete("/v1/hosts/host-2/key").await, 403, "UnauthorizedOperation");
    let agent = Agent::new("host-2", 2);
    agent.enrol(&world, &token).await.with(200);
    agent.begin(&world, None, SESSION).await.with(200);
    Agent { session: Some(SESSION), ..agent }.get(&world, "assignments").await.with(200);
}

#[tokio::test]
async fn what_anybody_may_send_asks_the_store_for_nothing() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    world.store_was_asked();
    let path = "/v1/agents/host-1/assignments";
    world.get(path).await.with(401);
    let late = NOW.0 / 1000 - 301;
    agent.sign(&world, Method::GET, path, &Value::Null, late).await.with(401);
    let other = Agent { host: "host-2", ..agent.clone() };
    other.sign(&world, Method::GET, path, &Value::Null, NOW.0 / 1000).await.with(403);
    assert_eq!(world.store_was_asked(), 0);
    agent.get(&world, "assignments").await.with(200);
    assert_eq!(world.store_was_asked(), 2, "who it is, and its set");
    agent.post(&world, "reports", &nothing()).await.with(200);
    assert_eq!(world.store_was_asked(), 1, "who it is, and when it was last heard of");
}
