//! Requests whose token names a tenant, as the authorizer on AWS has verified it.

use crate::world::{World, ids};
use eventplane_api::Options;
use eventplane_domain::Tenant;
use serde_json::json;

/// A plane of many tenants with one host, which its operator has registered.
async fn shared_plane() -> World {
    let world = World::with(Options { tenant_of_request: true, ..Options::default() });
    world.register("host-1").await;
    world
}

fn becomes(world: &World, token: Option<Option<&str>>) {
    let tenant = |name: &str| Tenant::parse(name).expect("a tenant");
    *world.token.lock().expect("not poisoned") = token.map(|named| named.map(tenant));
}

#[tokio::test]
async fn a_tenant_sees_its_own_and_no_others() {
    let world = shared_plane().await;
    becomes(&world, Some(Some("acme")));
    let id = world.launch(&json!({ "instance_type": "t3.micro" })).await.remove(0);
    let subnets = world.get("/v1/subnets").await.with(200);
    assert_eq!(subnets["subnets"].as_array().map(Vec::len), Some(1), "it has a default subnet");
    becomes(&world, Some(Some("umbrella")));
    assert!(ids(&world.get("/v1/instances").await.with(200)).is_empty());
    world.get(&format!("/v1/instances/{id}")).await.with(404);
    world.delete(&format!("/v1/instances/{id}")).await.with(404);
    becomes(&world, Some(Some("acme")));
    assert_eq!(ids(&world.get("/v1/instances").await.with(200)), [id]);
}

#[tokio::test]
async fn what_runs_the_plane_is_for_no_tenant() {
    let world = shared_plane().await;
    for token in [Some("acme"), None] {
        becomes(&world, Some(token));
        for path in [
            "/v1/hosts",
            "/v1/hosts/host-1",
            "/v1/capacity",
            "/v1/dead-letters",
            "/v1/breakers",
            "/v1/ledger",
            "/v1/ledger/entries",
        ] {
            let answer = world.get(path).await;
            let error = (answer.status.as_u16(), answer.error("code"), answer.error("class"));
            assert_eq!(error, (403, "UnauthorizedOperation", "auth"), "{path}");
        }
        world.put("/v1/hosts/host-1", &json!({ "state": "dead" })).await.with(403);
        world.get("/v1/hosts/host-1/assignments").await.with(403);
        world.post("/v1/dead-letters/redrive", &json!({})).await.with(403);
        world.post("/v1/dead-letters/purge", &json!({})).await.with(403);
        world.put("/v1/breakers/network", &json!({ "state": "open" })).await.with(403);
        world.get("/v1/dead-letters/dry-run").await.with(403);
        world.get("/v1/dead-letters/x.1/dry-run").await.with(403);
        world.post("/v1/replays", &json!({})).await.with(403);
        world.post("/v1/rehearsals", &json!({ "deliveries": [] })).await.with(403);
    }
    becomes(&world, None);
    world.get("/v1/hosts/host-1").await.with(200);
}

#[tokio::test]
async fn the_ledger_has_the_entries_of_all_tenants_page_by_page() {
    let world = shared_plane().await;
    for name in ["acme", "umbrella"] {
        becomes(&world, Some(Some(name)));
        world.launch(&json!({ "instance_type": "t3.micro", "count": 2 })).await;
        world.hand_off().await;
    }
    becomes(&world, None);
    let report = world.get("/v1/ledger").await.with(200);
    assert_eq!((&report["balances"], &report["imbalances"]), (&json!(true), &json!([])));
    let read = &report["read"];
    let right = (&json!(3), &json!(4), &json!(4));
    assert_eq!((&read["tenants"], &read["instances"], &read["leased"]), right, "default is one");
    let mut path = "/v1/ledger/entries".to_owned();
    let mut owners = Vec::new();
    loop {
        let page = world.get(&path).await.with(200);
        let entries = page["entries"].as_array().expect("entries").clone();
        owners.extend(entries.iter().map(|one| one["owner"]["tenant"].to_string()));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/ledger/entries?next={next}"),
            None => break,
        }
    }
    let of = |name: &str| owners.iter().filter(|owner| owner.contains(name)).count();
    assert_eq!((of("acme"), of("umbrella"), owners.len()), (8, 8, 16), "two of four steps each");
}

#[tokio::test]
async fn who_names_no_tenant_is_let_in_nowhere() {
    let world = shared_plane().await;
    for token in [Some(None), None] {
        becomes(&world, token);
        let answer = world.post("/v1/instances", &json!({ "instance_type": "t3.micro" })).await;
        assert_eq!(answer.error("code"), "UnauthorizedOperation");
        answer.with(403);
        world.get("/v1/instances").await.with(403);
    }
    // Nor where all are of one tenant: a token that names none was meant for something else.
    let alone = World::new().await;
    becomes(&alone, Some(None));
    alone.get("/v1/instances").await.with(403);
    becomes(&alone, None);
    alone.get("/v1/instances").await.with(200);
}
