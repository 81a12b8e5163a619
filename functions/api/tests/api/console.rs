//! What instances write to their consoles, and how they end by themselves.

use crate::agents::{Agent, speaking};
use crate::world::{Answer, World, instances};
use axum::http::Method;
use eventplane_capacity::Capacity;
use eventplane_domain::InstanceId;
use eventplane_handoff::Handoff;
use serde_json::{Value, json};
use std::time::Duration;

async fn put(world: &World, agent: &Agent, id: &InstanceId, generation: u32, text: &str) -> Answer {
    let body = json!({ "generation": generation, "text": text, "at": 1_795_000_000_500_i64 });
    agent.put(world, &format!("instances/default/{id}/console"), &body).await
}

async fn console(world: &World, id: &InstanceId, query: &str) -> Value {
    world.get(&format!("/v1/instances/{id}/console{query}")).await.with(200)
}

async fn wanted(world: &World, agent: &Agent) -> Value {
    agent.get(world, "assignments").await.with(200)
}

/// An instance that the agent's host was offered.
async fn offered(world: &World, agent: &Agent) -> InstanceId {
    let id = world.launch(&json!({ "instance_type": "t3.micro" })).await.remove(0);
    world.hand_off().await;
    wanted(world, agent).await;
    id
}

/// The host says that it let the instance go, and why; then what follows is handled.
async fn ends(world: &World, agent: &Agent, id: &InstanceId, generation: u32, reason: &Value) {
    let let_go = json!([{ "tenant": "default", "instance_id": id, "generation": generation,
        "reason": reason, "has_run": true }]);
    let report = json!({ "complete": false, "revision": 1, "let_go": let_go });
    assert_eq!(agent.post(world, "reports", &report).await.with(200), json!({ "news": 1 }));
    let withdrawn = world.hear(Handoff, &world.published()).await;
    let mut after = world.hear(instances(), &withdrawn).await;
    after.extend(world.hear(Capacity, &withdrawn).await);
    world.hear(instances(), &after).await;
}

async fn runs(world: &World, agent: &Agent, id: &InstanceId) {
    let seen =
        json!([{ "tenant": "default", "instance_id": id, "generation": 1, "state": "running" }]);
    let report = json!({ "complete": false, "revision": 1, "instances": seen });
    agent.post(world, "reports", &report).await.with(200);
    world.hear(instances(), &world.published()).await;
}

#[tokio::test]
async fn the_newest_output_is_shown_with_when_it_was_so() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = offered(&world, &agent).await;
    put(&world, &agent, &id, 1, "booting\n").await.with(200);
    put(&world, &agent, &id, 1, "booting\nready \u{1b}[0m\u{0}\n").await.with(200);
    let shown = console(&world, &id, "").await;
    assert_eq!(shown["output"], "booting\nready \u{1b}[0m\u{0}\n");
    assert_eq!((&shown["generation"], &shown["instance_id"]), (&json!(1), &json!(id)));
    assert_eq!(shown["at"], "2026-11-18T11:06:40.5Z");
}

#[tokio::test]
async fn where_there_is_no_output_it_is_said_why() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = world.launch(&json!({ "instance_type": "t3.micro" })).await.remove(0);
    let shown = console(&world, &id, "?latest=true").await;
    assert_eq!((&shown["output"], &shown["why"]), (&Value::Null, &json!("no host has it yet")));
    world.hand_off().await;
    wanted(&world, &agent).await;
    let shown = console(&world, &id, "").await;
    assert!(shown["why"].as_str().is_some_and(|why| why.contains("with `latest`")), "{shown}");
    let missing = InstanceId::new(eventplane_domain::Millis(1), 1);
    world.get(&format!("/v1/instances/{missing}/console")).await.with(404);
    world.get(&format!("/v1/instances/{id}/console?wait=31")).await.with(400);
    world.get(&format!("/v1/instances/{id}/console?last=1")).await.with(400);
}

#[tokio::test]
async fn the_latest_output_is_asked_of_the_host_and_waited_for() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = offered(&world, &agent).await;
    put(&world, &agent, &id, 1, "old").await.with(200);
    let before = wanted(&world, &agent).await;
    assert_eq!(before["wanted"][0].get("consoles"), None);
    assert_eq!(console(&world, &id, "").await["output"], "old");
    assert_eq!(wanted(&world, &agent).await["revision"], before["revision"], "nothing was asked");

    let newest = console(&world, &id, "?latest=true&wait=30");
    let host = async {
        let path = format!("assignments?after={}&wait=30", before["revision"]);
        let set = agent.get(&world, &path).await.with(200);
        assert_eq!(set["wanted"][0]["consoles"], 1);
        put(&world, &agent, &id, 1, "new").await.with(200);
    };
    let (shown, ()) = tokio::join!(newest, host);
    assert_eq!(shown["output"], "new");
    // Without waiting: what stands, and the host is asked all the same.
    assert_eq!(console(&world, &id, "?latest=true").await["output"], "new");
    assert_eq!(wanted(&world, &agent).await["wanted"][0]["consoles"], 2);
}

#[tokio::test]
async fn nobody_waits_for_output_that_cannot_come() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = offered(&world, &agent).await;
    put(&world, &agent, &id, 1, "all").await.with(200);
    runs(&world, &agent, &id).await;
    let reason = json!({ "code": "Client.InstanceInitiatedShutdown", "message": "it ended" });
    ends(&world, &agent, &id, 1, &reason).await;
    let waits = console(&world, &id, "?latest=true&wait=30");
    let shown = tokio::time::timeout(Duration::from_secs(20), waits).await;
    assert_eq!(shown.expect("at once")["output"], "all");
}

#[tokio::test]
async fn output_is_taken_from_who_has_or_had_the_instance_and_of_no_older_run() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = offered(&world, &agent).await;
    let other = speaking(&world, "host-2", 2).await;
    for (who, generation) in [(&other, 1), (&agent, 2)] {
        let answer = put(&world, who, &id, generation, "x").await;
        let is = (answer.status.as_u16(), answer.error("code"));
        assert_eq!(is, (404, "InvalidInstanceID.NotFound"), "{}", answer.body);
    }
    runs(&world, &agent, &id).await;
    let reason = json!({ "code": "Client.InstanceInitiatedShutdown", "message": "it ended" });
    ends(&world, &agent, &id, 1, &reason).await;
    put(&world, &agent, &id, 1, "its last words").await.with(200);
    assert_eq!(console(&world, &id, "").await["output"], "its last words");

    let long = put(&world, &agent, &id, 1, &"\u{1b}".repeat(16 * 1024)).await;
    long.with(200);
    let long = put(&world, &agent, &id, 1, &"a".repeat(16 * 1024 + 1)).await;
    assert_eq!(long.error("field"), "text");
    assert!(long.error("message").contains("16384 bytes, not 16385"), "{}", long.body);
    long.with(400);
    let unsigned = format!("/v1/agents/host-1/instances/default/{id}/console");
    world.send(Method::PUT, &unsigned, b"{}".to_vec()).await.with(401);
}

/// EC2 stops an instance that shuts itself down, unless it was launched to be terminated then
/// ("InstanceInitiatedShutdownBehavior" of RunInstances, EC2 API reference).
#[tokio::test]
async fn an_instance_whose_program_ends_is_stopped_and_says_why() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = offered(&world, &agent).await;
    runs(&world, &agent, &id).await;
    let code = "Client.InstanceInitiatedShutdown";
    let reason = json!({ "code": code, "message": "its program exited with code 3" });
    ends(&world, &agent, &id, 1, &reason).await;
    let shown = world.get(&format!("/v1/instances/{id}")).await.with(200);
    assert_eq!(shown["state"], "stopped", "{shown}");
    assert_eq!(shown["state_reason"], reason, "{shown}");
    assert_eq!(wanted(&world, &agent).await["wanted"], json!([]));

    // It is started again where its volumes are, and its host is told that they are there.
    world.post(&format!("/v1/instances/{id}/start"), &json!({})).await.with(200);
    let asked = world.hear(instances(), &world.published()).await;
    world.publish(&asked).await;
    world.hand_off().await;
    let set = wanted(&world, &agent).await;
    let again = &set["wanted"][0];
    assert_eq!((&again["generation"], &again["has_run"]), (&json!(2), &json!(true)), "{set}");
    put(&world, &agent, &id, 2, "second").await.with(200);
    put(&world, &agent, &id, 1, "first").await.with(200);
    assert_eq!(console(&world, &id, "").await["output"], "second");
}
