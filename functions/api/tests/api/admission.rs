//! All agents come back at once: some are told to come again, and users notice nothing.

use crate::agents::{Agent, speaking};
use crate::world::{Answer, Trouble, World, ids};
use eventplane_api::Options;
use serde_json::{Value, json};

fn nothing() -> Value {
    json!({ "complete": true, "revision": 0 })
}

/// Agents of a plane that works on so many of their requests at once.
async fn agents(at_once: usize, names: &[&'static str]) -> (World, Vec<Agent>) {
    let world = World::with(Options { agents_in_flight_max: at_once, ..Options::default() });
    let mut agents = Vec::new();
    for (name, seed) in names.iter().zip(1..) {
        agents.push(speaking(&world, name, seed).await);
    }
    (world, agents)
}

fn told_to_come_again(answer: &Answer) {
    let is = (answer.status.as_u16(), answer.error("code"), answer.error("class"));
    assert_eq!(is, (503, "RequestLimitExceeded", "throttled"), "{}", answer.body);
    assert_eq!(answer.body["error"]["retry"], true);
    let after = answer.headers.get("retry-after").expect("a header").to_str().expect("text");
    assert!((1..=5).contains(&after.parse::<u64>().expect("seconds")), "{after}");
}

#[tokio::test]
async fn agents_beyond_the_bound_are_told_to_come_again_and_users_are_served() {
    let (world, agents) = agents(2, &["host-1", "host-2", "host-3"]).await;
    world.store_has(Trouble::SlowOfAgents);
    let two = [0, 1].map(|n| agents[n].post(&world, "reports", &Value::Null));
    let [first, second] = two;
    let meanwhile = async {
        for _ in 0..3 {
            told_to_come_again(&agents[2].post(&world, "reports", &nothing()).await);
        }
        told_to_come_again(&agents[2].get(&world, "assignments?wait=30").await);
        let session = "ffeeddccbbaa99887766554433221100";
        told_to_come_again(&agents[2].begin(&world, None, session).await);
        let launched = world.launch(&json!({ "instance_type": "t3.micro" })).await;
        assert_eq!(ids(&world.get("/v1/instances").await.with(200)), launched);
        // Who shows nothing takes nobody's place, and is told the truth.
        world.get("/v1/agents/host-3/assignments").await.with(401);
        world.store_has(Trouble::None);
    };
    let (first, second, ()) = tokio::join!(first, second, meanwhile);
    for answer in [first, second] {
        assert_eq!(answer.error("code"), "MalformedBody", "they were admitted: {}", answer.body);
    }
    // Whatever became of them, their places are free again.
    for agent in &agents {
        agent.post(&world, "reports", &nothing()).await.with(200);
    }
}

#[tokio::test]
async fn a_poll_that_waits_takes_nobodys_place() {
    let (world, agents) = agents(1, &["host-1", "host-2"]).await;
    let set = agents[0].get(&world, "assignments").await.with(200);
    let path = format!("assignments?after={}&wait=30", set["revision"]);
    world.put("/v1/hosts/host-2", &json!({ "state": "draining" })).await.with(200);
    let poll = agents[0].get(&world, &path);
    let meanwhile = async {
        agents[1].post(&world, "reports", &nothing()).await.with(200);
        world.launch(&json!({ "instance_type": "t3.micro" })).await;
        world.hand_off().await;
    };
    let (set, ()) = tokio::join!(poll, meanwhile);
    assert_eq!(set.with(200)["wanted"].as_array().map(Vec::len), Some(1));
    agents[1].post(&world, "reports", &nothing()).await.with(200);
}
