//! Roles, identities and the audit record.

use crate::world::World;
use eventplane_security::document::{SignedDocument, verify};
use serde_json::{Value, json};

fn role(name: &str) -> Value {
    json!({"name": name, "permissions": ["logs:write"]})
}

#[tokio::test]
async fn a_role_is_made_once_shown_listed_and_deleted() {
    let world = World::new().await;
    world.post("/v1/roles", &role("web")).await.with(201);
    let answer = world.post("/v1/roles", &role("web")).await;
    assert_eq!(answer.status.as_u16(), 409, "{}", answer.body);
    assert_eq!(world.get("/v1/roles/web").await.with(200)["permissions"], json!(["logs:write"]));
    let list = world.get("/v1/roles").await.with(200);
    assert_eq!(list["roles"].as_array().expect("a list").len(), 1);
    world.delete("/v1/roles/web").await.with(204);
    assert_eq!(world.get("/v1/roles/web").await.status.as_u16(), 404);
    assert_eq!(world.delete("/v1/roles/web").await.status.as_u16(), 404);
}

#[tokio::test]
async fn a_role_that_is_not_right_is_refused() {
    let world = World::new().await;
    for body in [
        json!({"permissions": []}),
        role(""),
        role("a/b"),
        role("a\u{0}b"),
        role(&"x".repeat(65)),
        json!({"name": "web", "permissions": [1]}),
        json!({"name": "web", "permissions": [""]}),
        json!({"name": "web", "permissions": ["a"], "colour": "blue"}),
    ] {
        let answer = world.post("/v1/roles", &body).await;
        assert_eq!(answer.status.as_u16(), 400, "{body}: {}", answer.body);
    }
    let list = world.get("/v1/roles").await.with(200);
    assert_eq!(list["roles"], json!([]));
}

#[tokio::test]
async fn a_launch_names_a_role_that_is_there_and_the_role_stays_while_it_is_held() {
    let world = World::new().await;
    let body = json!({"instance_type": "t3.micro", "role": "web"});
    let answer = world.post("/v1/instances", &body).await;
    assert_eq!((answer.status.as_u16(), answer.error("field")), (400, "role"), "{}", answer.body);
    world.post("/v1/roles", &role("web")).await.with(201);
    let id = world.launch(&body).await.remove(0);
    world.hand_off().await;
    let shown = world.get(&format!("/v1/instances/{id}")).await.with(200);
    assert_eq!(shown["role"], "web");
    let answer = world.delete("/v1/roles/web").await;
    assert_eq!((answer.status.as_u16(), answer.error("code")), (409, "DependencyViolation"));
    assert!(answer.error("message").contains(id.as_str()), "{}", answer.body);
}

#[tokio::test]
async fn an_identity_is_there_once_it_is_granted_and_its_instance_is_never_not_found() {
    let world = World::new().await;
    let id = world.launch(&json!({"instance_type": "t3.micro"})).await.remove(0);
    let (identity, audit) =
        (format!("/v1/instances/{id}/identity"), format!("/v1/instances/{id}/audit"));
    let early = world.get(&identity).await;
    assert_eq!((early.status.as_u16(), early.error("code")), (404, "InvalidIdentity.NotFound"));
    let nothing = world.get(&audit).await.with(200);
    assert_eq!((&nothing["entries"], &nothing["verified"]), (&json!([]), &Value::Null));

    world.hand_off().await;
    let document = world.get(&identity).await.with(200);
    let text = |from: &Value, name: &str| from[name].as_str().expect("a text").to_owned();
    let signed = SignedDocument {
        document: text(&document, "document"),
        signature: text(&document, "signature"),
        key_id: text(&document, "key_id"),
    };
    assert!(signed.document.contains(id.as_str()), "{document}");
    let keys = world.get("/v1/identity-keys").await.with(200);
    assert_eq!(text(&keys["keys"][0], "key_id"), signed.key_id);
    assert!(verify(&signed, &text(&keys["keys"][0], "public_key")), "it is verifiable offline");
    let audit = world.get(&audit).await.with(200);
    assert_eq!(audit["verified"], true);
    assert_eq!(audit["entries"].as_array().expect("a list").len(), 1);

    let none = world.get("/v1/instances/i-0000000000000000f/audit").await;
    assert_eq!(none.error("code"), "InvalidInstanceID.NotFound");
}
