//! What operators do: breakers, and dead letters by the many.

use crate::world::{NOW, World};
use eventplane_domain::Millis;
use eventplane_engine::DeadLetter;
use serde_json::{Value, json};

fn keep(world: &World, id: &str, function: &str, at: Millis) {
    world.letters.kept.lock().expect("not poisoned").push(DeadLetter {
        id: id.to_owned(),
        function: function.to_owned(),
        reason: "it is broken".to_owned(),
        received: 5,
        at,
        body: "{}".to_owned(),
    });
}

async fn letters(world: &World) -> Vec<String> {
    let all = world.get("/v1/dead-letters").await.with(200);
    let letters = all["dead_letters"].as_array().expect("a list").clone();
    letters.iter().map(|letter| letter["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn a_breaker_is_opened_closed_and_shown() {
    let world = World::empty();
    let open = world.put("/v1/breakers/network", &json!({ "state": "open" })).await.with(200);
    let shown = json!({ "function": "network", "state": "open", "since": null, "waiting": 3 });
    assert_eq!(open, shown);
    assert_eq!(world.get("/v1/breakers").await.with(200), json!({ "breakers": [shown] }));
    let closed = world.put("/v1/breakers/network", &json!({ "state": "closed" })).await.with(200);
    assert_eq!(closed["state"], "closed");
}

#[tokio::test]
async fn what_is_no_breaker_or_no_state_is_refused_with_what_would_be_right() {
    let world = World::empty();
    for (path, body, status, code, field, told) in [
        (
            "/v1/breakers/teapot",
            json!({ "state": "open" }),
            404,
            "InvalidFunction.NotFound",
            "function",
            "capacity, network, storage, security, handoff, instances",
        ),
        (
            "/v1/breakers/network",
            json!({ "state": "ajar" }),
            400,
            "InvalidParameterValue",
            "state",
            "expected `open` or `closed`",
        ),
        ("/v1/breakers/network", json!({}), 400, "MissingParameter", "state", "missing field"),
        (
            "/v1/breakers/network",
            json!({ "state": "open", "for": 5 }),
            400,
            "UnknownParameter",
            "for",
            "unknown field",
        ),
    ] {
        let answer = world.put(path, &body).await;
        assert_eq!((answer.error("code"), answer.error("field")), (code, field), "{body}");
        assert!(answer.error("message").contains(told), "{}", answer.body);
        answer.with(status);
    }
}

#[tokio::test]
async fn a_redrive_takes_as_many_as_it_may_and_nothing_that_came_later() {
    let world = World::empty();
    for (id, at) in [("a", NOW), ("b", NOW), ("c", NOW)] {
        keep(&world, id, "network", at);
    }
    let empty = json!({});
    let first = world.post("/v1/dead-letters/redrive?limit=2", &empty).await.with(200);
    assert_eq!((&first["redriven"], letters(&world).await), (&json!(2), vec!["c".to_owned()]));
    // What failed again at once is a later letter.
    world.pass(5);
    keep(&world, "a-again", "network", NOW.plus(5));
    let until = first["until"].as_str().expect("a moment").replace(':', "%3A");
    let path = format!("/v1/dead-letters/redrive?limit=2&until={until}");
    let second = world.post(&path, &empty).await.with(200);
    assert_eq!((&second["redriven"], &second["until"]), (&json!(1), &first["until"]));
    assert_eq!(world.post(&path, &empty).await.with(200)["redriven"], 0);
    assert_eq!(letters(&world).await, ["a-again"]);
    assert_eq!(world.post("/v1/dead-letters/redrive", &empty).await.with(200)["redriven"], 1);
}

#[tokio::test]
async fn a_purge_removes_one_functions_letters_if_its_name_is_repeated() {
    let world = World::empty();
    for (id, function) in [("a", "network"), ("b", "storage"), ("c", "storage")] {
        keep(&world, id, function, NOW);
    }
    let purge = |confirm: &str| json!({ "function": "storage", "confirm": confirm });
    for wrong in ["", "Storage", "network"] {
        let answer = world.post("/v1/dead-letters/purge", &purge(wrong)).await;
        assert_eq!((answer.error("code"), answer.error("field")), VALUE_OF_CONFIRM, "{wrong}");
        assert!(answer.error("message").contains("`storage`"), "{}", answer.body);
    }
    assert_eq!(letters(&world).await.len(), 3, "nothing was removed");
    let purged = world.post("/v1/dead-letters/purge", &purge("storage")).await.with(200);
    assert_eq!((&purged["function"], &purged["purged"]), (&json!("storage"), &json!(2)));
    assert_eq!(letters(&world).await, ["a"]);
}

const VALUE_OF_CONFIRM: (&str, &str) = ("InvalidParameterValue", "confirm");

#[tokio::test]
async fn dead_letters_of_no_function_and_limits_of_no_sense_are_refused() {
    let world = World::empty();
    let confirmed = json!({ "function": "teapot", "confirm": "teapot" });
    for (path, body, code, field) in [
        ("/v1/dead-letters/redrive?limit=0", json!({}), "InvalidParameterValue", "limit"),
        ("/v1/dead-letters/redrive?limit=1001", json!({}), "InvalidParameterValue", "limit"),
        ("/v1/dead-letters/redrive?until=noon", json!({}), "InvalidParameterValue", "until"),
        ("/v1/dead-letters/redrive?rate=1", json!({}), "UnknownParameter", "rate"),
        (
            "/v1/dead-letters/redrive?function=teapot",
            json!({}),
            "InvalidFunction.NotFound",
            "function",
        ),
        ("/v1/dead-letters/purge", confirmed, "InvalidFunction.NotFound", "function"),
        ("/v1/dead-letters/purge", json!({ "function": "network" }), "MissingParameter", "confirm"),
    ] {
        let answer = world.post(path, &body).await;
        assert_eq!((answer.error("code"), answer.error("field")), (code, field), "{path} {body}");
    }
    let listed: Value = world.get("/v1/dead-letters?function=teapot").await.body;
    assert_eq!(listed["error"]["code"], "InvalidFunction.NotFound");
}
