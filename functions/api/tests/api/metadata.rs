//! What an enrolled host is told of the instances that it runs.

use crate::agents::{Agent, speaking};
use crate::world::{Answer, World};
use axum::http::Method;
use eventplane_domain::{InstanceId, Millis, Outcome, Reason, Tenant};
use eventplane_events::Data;
use eventplane_handoff::Handoff;
use eventplane_security::document::{SignedDocument, verify};
use eventplane_security::{PublishedKey, Security, verify_token};
use serde_json::{Value, json};

async fn told(world: &World, agent: &Agent, id: &InstanceId, generation: u32) -> Answer {
    agent.get(world, &format!("instances/default/{id}?generation={generation}")).await
}

fn not_found(answer: &Answer) {
    let is = (answer.status.as_u16(), answer.error("code"));
    assert_eq!(is, (404, "InvalidInstanceID.NotFound"), "{}", answer.body);
}

/// An instance with all that it can have, handed to the agent's host, which has not asked yet.
async fn handed_off(world: &World, body: Value) -> InstanceId {
    world.post("/v1/roles", &json!({ "name": "web" })).await.with(201);
    let id = world.launch(&body).await.remove(0);
    world.hand_off().await;
    id
}

fn whole() -> Value {
    json!({ "instance_type": "t3.micro", "role": "web", "user_data": "#!/bin/sh\n",
        "tags": { "Name": "web-1" } })
}

#[tokio::test]
async fn a_host_is_told_all_that_its_instance_may_learn() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = handed_off(&world, whole()).await;
    agent.get(&world, "assignments").await.with(200);
    let told = told(&world, &agent, &id, 1).await.with(200);
    assert_eq!(told["tags"], json!({ "Name": "web-1" }));
    assert_eq!(told["user_data"], "#!/bin/sh\n");
    let document: SignedDocument =
        serde_json::from_value(told["document"].clone()).expect("a signed document");
    let key = told["keys"][0]["public_key"].as_str().expect("a key");
    assert!(verify(&document, key) && document.document.contains(id.as_str()));
    assert_eq!(world.get("/v1/identity-keys").await.with(200)["keys"], told["keys"]);

    let credentials = &told["credentials"];
    let now = world.ports.clock.now();
    let ms = |name: &str| Millis(credentials[name].as_i64().expect("milliseconds"));
    assert!(ms("updated_at") <= now && now < ms("expires_at"));
    let published =
        [PublishedKey { key_id: "k".to_owned(), algorithm: "Ed25519", public_key: key.to_owned() }];
    let token = credentials["token"].as_str().expect("a token");
    let claims = verify_token(token, &published, now).expect("the plane's own");
    assert_eq!((claims.tenant, claims.instance, claims.generation), (Tenant::local(), id, 1));
    assert_eq!((claims.role.as_str(), &credentials["role"]), ("web", &json!("web")));
    assert_eq!(credentials["access_key_id"], claims.access_key_id);
    assert!(credentials["secret_access_key"].as_str().is_some_and(|secret| secret.len() == 40));
}

#[tokio::test]
async fn what_an_instance_has_not_is_null() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = handed_off(&world, json!({ "instance_type": "t3.micro" })).await;
    agent.get(&world, "assignments").await.with(200);
    let told = told(&world, &agent, &id, 1).await.with(200);
    assert_eq!((&told["credentials"], &told["user_data"]), (&Value::Null, &Value::Null));
    assert_eq!(told["tags"], json!({}));
}

#[tokio::test]
async fn it_is_told_from_the_offer_until_it_has_to_let_go_and_nobody_else_is() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = handed_off(&world, whole()).await;
    let other = speaking(&world, "host-2", 2).await;
    not_found(&told(&world, &agent, &id, 1).await);
    agent.get(&world, "assignments").await.with(200);
    told(&world, &agent, &id, 1).await.with(200);
    not_found(&told(&world, &agent, &id, 2).await);
    not_found(&told(&world, &other, &id, 1).await);
    not_found(&told(&world, &agent, &InstanceId::new(Millis(1), 1), 1).await);
    let unsigned = format!("/v1/agents/host-1/instances/default/{id}?generation=1");
    world.get(&unsigned).await.with(401);

    world.delete(&format!("/v1/instances/{id}")).await.with(200);
    world.hear(Handoff, &world.published()).await;
    not_found(&told(&world, &agent, &id, 1).await);
}

#[tokio::test]
async fn what_was_revoked_is_given_to_nobody_even_while_the_host_has_the_instance() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = handed_off(&world, whole()).await;
    agent.get(&world, "assignments").await.with(200);
    let given = told(&world, &agent, &id, 1).await.with(200);
    assert!(given["credentials"].is_object());
    world.delete(&format!("/v1/instances/{id}")).await.with(200);
    let mut revoked = world.published().remove(0);
    let reason = Reason::new("Client.UserInitiatedShutdown", "asked");
    let outcome = Outcome::Terminate;
    revoked.data = Data::InstanceWithdrawn(eventplane_events::InstanceWithdrawn {
        outcome,
        reason,
        has_run: true,
    });
    let security = Security::new(world.master(), world.ports.chance.clone());
    world.hear(security, &[revoked]).await;
    not_found(&told(&world, &agent, &id, 1).await);
}

#[tokio::test]
async fn what_is_asked_in_a_wrong_form_is_told() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let id = InstanceId::new(Millis(1), 1);
    for (path, field) in [
        (format!("instances/default/{id}"), "generation"),
        (format!("instances/default/{id}?generation=x"), "generation"),
        (format!("instances/-/{id}?generation=1"), "tenant"),
        ("instances/default/i-1?generation=1".to_owned(), "instance_id"),
    ] {
        let answer = agent.send(&world, Method::GET, &path, &Value::Null).await;
        assert_eq!(answer.status.as_u16(), 400, "{path}: {}", answer.body);
        let said = format!("{} {}", answer.error("field"), answer.error("message"));
        assert!(said.contains(field), "{path}: {}", answer.body);
    }
}
