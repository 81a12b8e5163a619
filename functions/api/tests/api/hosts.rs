//! Hosts and their agents: the agent's own words go through the router, both ways.

use crate::world::{NOW, Trouble, World, ZONE, instances};
use eventplane_agent::wire::{Assignments, InstanceKey, LetGo, Observed, ObservedState, Report};
use eventplane_domain::{InstanceId, Reason, State, Tenant};
use eventplane_events::Data;
use eventplane_handoff::Handoff;
use serde_json::{Value, json};
use std::sync::Arc;

const HOST: &str = "/v1/hosts/host-1";

async fn assignments(world: &World, query: &str) -> Assignments {
    let answer = world.get(&format!("{HOST}/assignments{query}")).await.with(200);
    serde_json::from_value(answer).expect("what the agent reads")
}

async fn report(world: &World, report: &Report) -> Value {
    let body = serde_json::to_value(report).expect("plain data");
    world.post(&format!("{HOST}/reports"), &body).await.with(200)
}

fn key(id: &InstanceId) -> InstanceKey {
    InstanceKey { tenant: Tenant::local(), instance_id: id.clone() }
}

fn runs(id: &InstanceId) -> Report {
    let seen = Observed { key: key(id), generation: 1, state: ObservedState::Running };
    Report { complete: true, revision: 1, instances: vec![seen], let_go: vec![] }
}

fn let_go(id: &InstanceId, generation: u32) -> Report {
    let reason = Some(Reason::new("Server.InternalError", "the disk is gone"));
    let promise = LetGo { key: key(id), generation, reason, has_run: false };
    Report { complete: false, revision: 1, instances: vec![], let_go: vec![promise] }
}

/// An instance that is handed to `host-1`, and not offered yet.
async fn handed_off(world: &World) -> InstanceId {
    let id = world.launch(&json!({"instance_type": "t3.micro"})).await.remove(0);
    world.hand_off().await;
    id
}

#[tokio::test]
async fn a_launch_runs_when_the_agent_has_heard_of_it_and_said_so() {
    let world = World::new().await;
    assert_eq!(assignments(&world, "").await.wanted, []);
    let id = handed_off(&world).await;

    let set = assignments(&world, "").await;
    assert_eq!(set.wanted.len(), 1);
    let wanted = &set.wanted[0];
    assert_eq!((&wanted.key, wanted.generation), (&key(&id), 1));
    assert_eq!(wanted.deadline, world.record(&id).await.deadline);
    assert!(set.poll_after_ms < 1_000, "something is pending");
    let once_more = assignments(&world, "").await;
    assert_eq!(once_more.wanted, set.wanted, "it is always the full set");
    assert!(once_more.poll_after_ms > 1_000, "nothing in it is new to the host");

    report(&world, &runs(&id)).await;
    let published = world.published();
    assert_eq!(published.len(), 1);
    assert!(matches!(published[0].data, Data::InstanceRunning(_)));
    world.hear(instances(), &published).await;
    let shown = world.get(&format!("/v1/instances/{id}")).await.with(200);
    assert_eq!(shown["state"], "running");
    assert_eq!(shown["placement"]["host"], "host-1");
    assert!(shown["private_ip"].is_string() && shown["volumes"].is_array(), "{shown}");

    report(&world, &runs(&id)).await;
    assert!(world.published().is_empty(), "what is known is no news");
}

#[tokio::test]
async fn an_assignment_is_marked_as_offered_before_the_host_sees_it() {
    let world = World::new().await;
    let id = handed_off(&world).await;
    let host = eventplane_domain::HostId::parse("host-1").expect("a host id");
    let wanted = eventplane_handoff::WantedSet::of(&*world.store, &host).await.expect("read");
    assert!(!wanted.assignments[0].offered);
    assignments(&world, "").await;
    let wanted = eventplane_handoff::WantedSet::of(&*world.store, &host).await.expect("read");
    assert!(wanted.assignments[0].offered);

    // From now on a termination waits for the host's promise.
    world.delete(&format!("/v1/instances/{id}")).await.with(200);
    let asked = world.published();
    assert!(world.hear(Handoff, &asked).await.is_empty());
    let set = assignments(&world, "").await;
    assert_eq!(set.wanted, []);
    assert_eq!((&set.let_go[0].key, set.let_go[0].generation), (&key(&id), 1));
    report(&world, &let_go(&id, 1)).await;
    let promised = world.published();
    assert!(matches!(promised[0].data, Data::InstanceHalted(_)), "{promised:?}");
    let withdrawn = world.hear(Handoff, &promised).await;
    assert!(matches!(withdrawn[0].data, Data::InstanceWithdrawn(_)), "{withdrawn:?}");
    let set = assignments(&world, "").await;
    assert_eq!((set.wanted, set.let_go), (vec![], vec![]));
    report(&world, &let_go(&id, 1)).await;
    assert!(world.published().is_empty(), "a promise that was heard is no news");
}

#[tokio::test]
async fn more_assignments_than_a_transaction_takes_are_all_offered() {
    let world = World::new().await;
    for _ in 0..3 {
        world.launch(&json!({"instance_type": "t3.nano", "count": 10})).await;
        world.hand_off().await;
    }
    let big = json!({
        "host_id": "host-1", "zone": ZONE, "rack": "rack-1",
        "vcpus": 1000, "memory_mib": 1_000_000, "network_mbps": 1_000_000,
    });
    world.post("/v1/hosts", &big).await.with(200);
    for _ in 0..2 {
        world.launch(&json!({"instance_type": "t3.nano", "count": 50})).await;
        world.hand_off().await;
    }
    assert_eq!(assignments(&world, "").await.wanted.len(), 130);
}

#[tokio::test]
async fn a_host_that_waits_is_answered_when_something_comes_for_it() {
    let world = Arc::new(World::new().await);
    let revision = assignments(&world, "").await.revision;
    let waiting = {
        let world = world.clone();
        tokio::spawn(
            async move { assignments(&world, &format!("?after={revision}&wait=30")).await },
        )
    };
    let id = handed_off(&world).await;
    let set = waiting.await.expect("answered");
    assert!(set.revision > revision);
    assert_eq!(set.wanted[0].key, key(&id));
}

#[tokio::test]
async fn what_a_host_says_of_others_instances_or_of_older_generations_is_no_news() {
    let world = World::new().await;
    let id = handed_off(&world).await;
    assignments(&world, "").await;
    world.register("host-2").await;
    let body = serde_json::to_value(runs(&id)).expect("plain data");
    world.post("/v1/hosts/host-2/reports", &body).await.with(200);
    let mut newer = runs(&id);
    newer.instances[0].generation = 2;
    report(&world, &newer).await;
    report(&world, &let_go(&id, 0)).await;
    report(&world, &runs(&InstanceId::new(NOW, 77))).await;
    assert!(world.published().is_empty());
}

#[tokio::test]
async fn what_a_host_lets_go_by_itself_is_told_with_its_reason() {
    let world = World::new().await;
    let id = handed_off(&world).await;
    assignments(&world, "").await;
    report(&world, &runs(&id)).await;
    let running = world.published();
    world.hear(instances(), &running).await;
    report(&world, &let_go(&id, 1)).await;
    let published = world.published();
    let Data::InstanceHalted(halted) = &published[0].data else { panic!("{published:?}") };
    assert_eq!(halted.host, "host-1");
    assert!(halted.has_run);
    assert_eq!(halted.reason.as_ref().expect("a reason").message, "the disk is gone");
}

#[tokio::test]
async fn what_ended_before_it_was_heard_to_run_is_looked_at_once_it_counts_as_running() {
    for is_declared_dead in [false, true] {
        let world = World::new().await;
        let id = handed_off(&world).await;
        assignments(&world, "").await;
        report(&world, &runs(&id)).await;
        let running = world.published();
        if is_declared_dead {
            world.put(HOST, &json!({"state": "dead"})).await.with(200);
        } else {
            report(&world, &let_go(&id, 1)).await;
        }
        // The promise is lost, and what was said before it comes late.
        assert_eq!(world.published_names(), ["InstanceHalted"]);
        world.hear(instances(), &running).await;
        let record = world.record(&id).await;
        assert_eq!(record.progress.state, State::Running);
        assert!(record.nudge_at.is_some(), "the sweeper asks how it ended: {record:?}");
    }
}

#[tokio::test]
async fn the_word_that_a_host_is_dead_ends_what_it_had_and_is_taken_back() {
    let world = World::new().await;
    let id = handed_off(&world).await;
    assignments(&world, "").await;
    let shown = world.put(HOST, &json!({"state": "dead"})).await.with(200);
    assert_eq!(shown["state"], "dead");
    let published = world.published();
    assert_eq!(published.len(), 1);
    let Data::InstanceHalted(halted) = &published[0].data else { panic!("{published:?}") };
    assert!(halted.has_run, "it was offered, so it may have run");
    assert_eq!(published[0].metadata.subject, id);
    let withdrawn = world.hear(Handoff, &published).await;
    assert!(matches!(withdrawn[0].data, Data::InstanceWithdrawn(_)), "{withdrawn:?}");

    let shown = world.put(HOST, &json!({"state": "active"})).await.with(200);
    assert_eq!(shown["state"], "active");
    handed_off(&world).await;
    assert_eq!(assignments(&world, "").await.wanted.len(), 1, "it takes instances again");
}

#[tokio::test]
async fn before_the_word_that_a_host_is_dead_stands_all_that_it_has_is_marked() {
    let world = World::new().await;
    let id = handed_off(&world).await;
    assignments(&world, "").await;
    report(&world, &runs(&id)).await;
    world.hear(instances(), &world.published()).await;
    // The first write is done, and then the api dies: from the word on, the handoff may end what
    // the host has on the next message, and if its answer is lost nobody else would ask.
    world.store_has(Trouble::AnswerLost);
    world.put(HOST, &json!({"state": "dead"})).await.with(503);
    world.store_has(Trouble::None);
    assert!(world.record(&id).await.nudge_at.is_some(), "the sweeper asks how it ended");
    world.put(HOST, &json!({"state": "dead"})).await.with(200);
    assert_eq!(world.published_names(), ["InstanceHalted"]);
}

#[tokio::test]
async fn a_host_that_is_drained_takes_nothing_new() {
    let world = World::new().await;
    world.put(HOST, &json!({"state": "draining"})).await.with(200);
    let id = handed_off(&world).await;
    assert_eq!(assignments(&world, "").await.wanted, []);
    assert_eq!(world.record(&id).await.progress.state, State::Pending);
    let answer = world.put(HOST, &json!({"state": "broken"})).await;
    assert_eq!((answer.status.as_u16(), answer.error("field")), (400, "state"));
}

#[tokio::test]
async fn hosts_are_listed_in_pages_and_counted_by_zone() {
    let world = World::empty();
    for n in 1..=5 {
        world.register(&format!("host-{n}")).await;
    }
    world.register("host-1").await;
    let page = world.get("/v1/hosts?limit=3").await.with(200);
    let next = page["next"].as_str().expect("there are more").to_owned();
    let rest = world.get(&format!("/v1/hosts?limit=3&next={next}")).await.with(200);
    let count = |page: &Value| page["hosts"].as_array().expect("a list").len();
    assert_eq!((count(&page), count(&rest)), (3, 2));
    assert!(rest["next"].is_null());
    let capacity = world.get("/v1/capacity").await.with(200);
    let zone = &capacity["zones"][0];
    assert_eq!((&zone["zone"], &zone["hosts"]), (&json!(ZONE), &json!(5)));
    assert_eq!(zone["total"]["vcpus"], 5 * 64);
    assert!(!capacity["pools"].as_array().expect("a list").is_empty());
}

#[tokio::test]
async fn a_host_that_is_not_registered_is_told_to_register() {
    let world = World::empty();
    let answer = world.get("/v1/hosts/host-9/assignments").await;
    assert_eq!(answer.status.as_u16(), 404);
    assert!(answer.error("message").contains("register"), "{}", answer.body);
    let body = serde_json::to_value(Report::default()).expect("plain data");
    let answer = world.post("/v1/hosts/host-9/reports", &body).await;
    assert_eq!(answer.error("code"), "InvalidHostID.NotFound");
}

#[tokio::test]
async fn dead_letters_are_shown_and_redriven() {
    let world = World::empty();
    for (id, function) in [("a", "network"), ("b", "storage"), ("c", "storage")] {
        world.letters.kept.lock().expect("not poisoned").push(eventplane_engine::DeadLetter {
            id: id.to_owned(),
            function: function.to_owned(),
            reason: "it is broken".to_owned(),
            received: 5,
            at: NOW,
            body: "not even JSON".to_owned(),
        });
    }
    let count = |list: &Value| list["dead_letters"].as_array().expect("a list").len();
    let all = world.get("/v1/dead-letters").await.with(200);
    let storage = world.get("/v1/dead-letters?function=storage").await.with(200);
    assert_eq!((count(&all), count(&storage)), (3, 2));
    assert_eq!(world.get("/v1/dead-letters/a").await.with(200)["message"], "not even JSON");
    let empty = json!({});
    let one = world.post("/v1/dead-letters/b/redrive", &empty).await.with(200);
    assert_eq!(one["redriven"], 1);
    let answer = world.post("/v1/dead-letters/b/redrive", &empty).await;
    assert_eq!(answer.status.as_u16(), 404);
    let rest = world.post("/v1/dead-letters/redrive?function=storage", &empty).await.with(200);
    assert_eq!(rest["redriven"], 1);
    assert_eq!(count(&world.get("/v1/dead-letters").await.with(200)), 1);
}
