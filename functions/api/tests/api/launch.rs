//! Launches: written down whole, published, and the same for the same token.

use crate::world::{NOW, Trouble, World, ids};
use eventplane_api::Options;
use eventplane_domain::{InstanceId, State};
use eventplane_events::Data;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn micro() -> Value {
    json!({"instance_type": "t3.micro"})
}

fn with_token(token: &str) -> Value {
    json!({"instance_type": "t3.micro", "count": 2, "client_token": token})
}

#[tokio::test]
async fn a_launch_is_written_published_and_readable_at_once() {
    let world = World::new().await;
    let body = json!({
        "instance_type": "t3.micro", "count": 3, "zone": "zone-a", "strategy": "pack",
        "tags": {"name": "web"}, "user_data": "#!/bin/sh\necho very secret",
        "volumes": [{"size_gib": 20}],
    });
    let answer = world.post("/v1/instances", &body).await.with(202);
    assert!(answer["reservation_id"].as_str().expect("an id").starts_with("r-"));
    let launched = ids(&answer);
    assert_eq!(launched.iter().collect::<BTreeSet<_>>().len(), 3);

    let published = world.published();
    assert_eq!(published.len(), 3);
    for (index, (id, event)) in launched.iter().zip(&published).enumerate() {
        let shown = world.get(&format!("/v1/instances/{id}")).await.with(200);
        assert_eq!(shown["state"], "pending");
        assert_eq!(shown["launch_index"], index);
        assert_eq!(shown["tags"]["name"], "web");
        assert_eq!(shown["pending"]["awaits"], json!(["capacity"]));

        let metadata = &event.metadata;
        assert_eq!((&metadata.subject, metadata.generation, metadata.hop), (id, 1, 0));
        assert_eq!(metadata.source, "eventplane.api");
        assert_eq!(metadata.deadline, NOW.plus(Options::default().launch_deadline_ms));
        let trace = metadata.traceparent.as_deref().expect("taken over");
        assert!(trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{trace}");
        let Data::InstanceRequested(requested) = &event.data else { panic!("{event:?}") };
        assert_eq!(requested.spec, world.record(id).await.spec);
        assert_eq!((requested.spec.vcpus, requested.spec.memory_mib), (2, 1024));
        assert_eq!(requested.spec.volumes.len(), 2);
        assert!(requested.spec.user_data_ref.is_some());
        assert!(!event.entry().detail.contains("very secret"), "user data never travels");
    }
}

#[tokio::test]
async fn a_launch_stands_also_when_the_bus_is_down() {
    let world = World::new().await;
    world.bus_is_down(true);
    let launched = world.launch(&micro()).await;
    let record = world.record(&launched[0]).await;
    assert_eq!(record.progress.state, State::Pending);
    assert!(record.nudge_at.is_some(), "the sweeper will publish it");
}

#[tokio::test]
async fn the_same_token_gets_the_same_reservation_and_is_published_again() {
    let world = World::new().await;
    let first = world.post("/v1/instances", &with_token("a")).await.with(202);
    world.published();
    world.pass(5_000);
    let again = world.post("/v1/instances", &with_token("a")).await.with(202);
    assert_eq!(again, first);
    assert_eq!(world.published_names(), ["InstanceRequested"; 2]);
    let other = world.post("/v1/instances", &with_token("A")).await.with(202);
    assert_ne!(other["reservation_id"], first["reservation_id"], "tokens tell case apart");
}

#[tokio::test]
async fn a_token_with_other_parameters_is_refused_and_with_a_dry_run_nothing_is_used_up() {
    let world = World::new().await;
    let mut dry = with_token("a");
    dry["dry_run"] = json!(true);
    let answer = world.post("/v1/instances", &dry).await;
    assert_eq!((answer.status.as_u16(), answer.error("code")), (412, "DryRunOperation"));
    world.launch(&with_token("a")).await;
    world.published();
    for other in [
        json!({"instance_type": "t3.small", "count": 2, "client_token": "a"}),
        json!({"instance_type": "t3.micro", "count": 3, "client_token": "a"}),
        json!({"instance_type": "t3.micro", "count": 2, "client_token": "a", "tags": {"x": "y"}}),
    ] {
        let answer = world.post("/v1/instances", &other).await;
        assert_eq!(answer.status.as_u16(), 409, "{other}");
        assert_eq!(answer.error("code"), "IdempotentParameterMismatch");
        assert_eq!(answer.error("field"), "client_token");
    }
    assert!(world.published().is_empty());
}

#[tokio::test]
async fn a_token_whose_image_is_gone_meanwhile_gets_the_same_answer() {
    let world = World::new().await;
    let (store, tenant) = (&*world.store, &eventplane_domain::Tenant::local());
    let new = eventplane_storage::images::NewImage {
        name: "golden".to_owned(),
        architecture: eventplane_storage::images::Architecture::X86_64,
        root_gib: 8,
    };
    let made = eventplane_storage::images::create(store, tenant, new, NOW, 1).await;
    let image = made.expect("written").expect("created").image_id;
    let body = json!({"instance_type": "t3.micro", "image_id": image, "client_token": "a"});
    let first = world.post("/v1/instances", &body).await.with(202);
    let gone = eventplane_storage::images::delete(store, tenant, &image).await;
    gone.expect("written").expect("deleted");
    assert_eq!(world.post("/v1/instances", &body).await.with(202), first);
}

#[tokio::test]
async fn a_token_of_terminated_instances_is_refused() {
    let world = World::new().await;
    let launched = world.launch(&with_token("a")).await;
    for (at, id) in launched.iter().enumerate() {
        let answer = world.post("/v1/instances", &with_token("a")).await;
        assert_eq!(answer.status.as_u16(), 202, "{at} of 2 are terminated");
        terminate(&world, id).await;
    }
    let answer = world.post("/v1/instances", &with_token("a")).await;
    assert_eq!(answer.error("code"), "IdempotentInstanceTerminated");
    assert!(answer.status.is_client_error());
}

async fn terminate(world: &World, id: &InstanceId) {
    let before = world.record(id).await;
    let mut after = before.clone();
    after.progress.state = State::Terminated;
    after.ended_at = Some(NOW);
    eventplane_store::Store::transact(&*world.store, vec![after.replace(&before)])
        .await
        .expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_posted_32_times_at_once_gets_one_reservation() {
    let world = std::sync::Arc::new(World::new().await);
    let posts: Vec<_> = (0..32)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.post("/v1/instances", &with_token("a")).await })
        })
        .collect();
    let mut answers = BTreeSet::new();
    for post in posts {
        answers.insert(post.await.expect("answered").with(202).to_string());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    let list = world.get("/v1/instances").await.with(200);
    assert_eq!(ids(&list).len(), 2);
    let subjects: BTreeSet<_> =
        world.published().into_iter().map(|event| event.metadata.subject).collect();
    assert_eq!(subjects.len(), 2, "nothing else was published");
}

#[tokio::test]
async fn fifty_instances_with_token_and_user_data_are_one_transaction() {
    let world = World::new().await;
    let body = json!({
        "instance_type": "t3.nano", "count": 50, "client_token": "a", "user_data": "x",
    });
    assert_eq!(world.launch(&body).await.len(), 50);
    assert_eq!(world.published_names().len(), 50);
    assert_eq!(world.launch(&body).await.len(), 50);
}

#[tokio::test]
async fn a_launch_whose_commit_was_not_answered_is_looked_for_before_anything_is_said() {
    let world = World::new().await;
    world.store_has(Trouble::AnswerLost);
    let launched = world.launch(&micro()).await;
    assert_eq!(world.published_names(), ["InstanceRequested"]);
    world.store_has(Trouble::None);
    assert_eq!(ids(&world.get("/v1/instances").await.with(200)), launched);

    world.store_has(Trouble::WriteLost);
    for (body, words) in [(micro(), "GET /v1/instances"), (with_token("a"), "same client_token")] {
        let answer = world.post("/v1/instances", &body).await;
        assert_eq!(answer.status.as_u16(), 503, "{}", answer.body);
        assert!(answer.error("message").contains(words), "{}", answer.body);
    }
    assert!(world.published().is_empty());
    world.store_has(Trouble::None);
    assert_eq!(ids(&world.get("/v1/instances").await.with(200)), launched);
}
