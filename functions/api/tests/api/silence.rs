//! Hosts that are not heard of, on a clock that the tests move.

use crate::world::World;
use eventplane_capacity::Capacity;
use eventplane_capacity::seen::{BACK_PER_S, LOOK_EVERY_MS};
use eventplane_domain::InstanceId;
use eventplane_events::Data;
use serde_json::{Value, json};

const HOST: &str = "/v1/hosts/host-1";

/// An instance that is handed to `host-1`, and that it has been offered.
async fn offered(world: &World) -> InstanceId {
    let id = world.launch(&json!({ "instance_type": "t3.micro" })).await.remove(0);
    world.hand_off().await;
    world.get(&format!("{HOST}/assignments")).await.with(200);
    id
}

/// The state of the one host.
async fn state(world: &World) -> Value {
    world.get(HOST).await.with(200)["state"].clone()
}

async fn look(world: &World, after_ms: i64, dead_after_ms: Option<i64>) {
    world.pass(after_ms);
    eventplane_sweeper::watch_hosts(&world.ports, dead_after_ms).await.expect("no fault");
}

async fn heartbeat(world: &World) {
    let report = json!({ "complete": true, "revision": 0 });
    world.post(&format!("{HOST}/reports"), &report).await.with(200);
}

#[tokio::test]
async fn a_silent_host_takes_nothing_new_keeps_what_it_has_and_is_taken_back_when_heard_of() {
    let world = World::new().await;
    offered(&world).await;
    for _ in 0..6 {
        look(&world, LOOK_EVERY_MS, None).await;
    }
    assert_eq!(state(&world).await, "active", "two and a half minutes since the first look");
    look(&world, LOOK_EVERY_MS, None).await;
    assert_eq!(state(&world).await, "impaired");
    let capacity = world.get("/v1/capacity").await.with(200);
    assert_eq!(capacity["zones"][0]["impaired"], 1);
    let host = world.get(HOST).await.with(200);
    assert_ne!(host["free"], host["total"], "what it holds is held");
    world.published();
    world.launch(&json!({ "instance_type": "t3.micro" })).await;
    let answers = world.hear(Capacity, &world.published()).await;
    let Data::LaunchFailed(failed) = &answers[0].data else { panic!("{answers:?}") };
    assert!(failed.reason.message.contains("1 silent"), "{}", failed.reason);
    for _ in 0..100 {
        look(&world, LOOK_EVERY_MS, None).await;
    }
    assert_eq!(state(&world).await, "impaired", "silence is not death");
    heartbeat(&world).await;
    assert_eq!(state(&world).await, "active");
    look(&world, LOOK_EVERY_MS, None).await;
    assert_eq!(state(&world).await, "active");
}

#[tokio::test]
async fn idle_hosts_are_not_lost_because_nobody_looked_for_an_hour() {
    let world = World::new().await;
    look(&world, LOOK_EVERY_MS, Some(1)).await;
    look(&world, 3_600_000, Some(1)).await;
    assert_eq!(state(&world).await, "active", "the plane was blind, the host was not gone");
    for _ in 0..6 {
        assert_eq!(state(&world).await, "active");
        look(&world, LOOK_EVERY_MS, Some(600_000)).await;
    }
    assert_eq!(state(&world).await, "impaired", "three minutes after the plane sees again");
}

#[tokio::test]
async fn a_lost_host_counts_as_dead_only_where_that_is_the_policy() {
    let world = World::new().await;
    let id = offered(&world).await;
    world.published();
    for _ in 0..30 {
        look(&world, LOOK_EVERY_MS, Some(600_000)).await;
    }
    assert_eq!(state(&world).await, "impaired");
    assert_eq!(world.published_names(), Vec::<&str>::new(), "nobody is heard of: the way is gone");
    world.register("host-2").await;
    look(&world, LOOK_EVERY_MS, Some(600_000)).await;
    assert_eq!(state(&world).await, "dead");
    let halted = world.published();
    assert_eq!(halted[0].data.name(), "InstanceHalted");
    assert_eq!(halted[0].metadata.subject, id);
    heartbeat(&world).await;
    assert_eq!(state(&world).await, "dead", "only an operator takes that word back");
    let back = world.put(HOST, &json!({ "state": "active" })).await.with(409);
    assert_eq!(back["error"]["code"], "IncorrectHostState", "what it had is not taken from it yet");
    assert_eq!(world.published_names(), ["InstanceHalted"], "it is said again");
}

#[tokio::test]
async fn hosts_that_were_silent_are_taken_back_at_a_limited_rate() {
    let world = World::empty();
    let names: Vec<String> = (0..25).map(|n| format!("many-{n}")).collect();
    for name in &names {
        let host = json!({
            "host_id": name, "zone": "zone-a", "rack": "r1",
            "vcpus": 4, "memory_mib": 8_192, "network_mbps": 1_000,
        });
        world.post("/v1/hosts", &host).await.with(200);
    }
    for _ in 0..7 {
        look(&world, LOOK_EVERY_MS, None).await;
    }
    let mut active = vec![];
    for _ in 0..3 {
        for name in &names {
            let report = json!({ "complete": true, "revision": 0 });
            world.post(&format!("/v1/hosts/{name}/reports"), &report).await.with(200);
        }
        let capacity = world.get("/v1/capacity").await.with(200);
        active.push(capacity["zones"][0]["active"].as_i64().expect("a count"));
        world.pass(1_000);
    }
    assert_eq!(active, [BACK_PER_S, 2 * BACK_PER_S, 25]);
}

#[tokio::test]
async fn a_silent_host_that_is_set_active_falls_silent_again() {
    let world = World::new().await;
    for _ in 0..7 {
        look(&world, LOOK_EVERY_MS, None).await;
    }
    assert_eq!(state(&world).await, "impaired");
    world.put(HOST, &json!({ "state": "active" })).await.with(200);
    assert_eq!(state(&world).await, "active");
    look(&world, LOOK_EVERY_MS, None).await;
    assert_eq!(state(&world).await, "impaired", "nothing was heard of it since");
}
