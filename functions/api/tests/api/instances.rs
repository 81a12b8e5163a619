//! Instances as their users list, follow and end them.

use crate::world::{World, ids, instances};
use eventplane_capacity::Capacity;
use eventplane_domain::{InstanceId, Outcome, Reason, State};
use eventplane_events::{Data, Event, InstanceWithdrawn, Metadata, Reboot, Returned};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test]
async fn pages_bring_every_instance_once() {
    let world = World::new().await;
    let mut launched: BTreeSet<InstanceId> = BTreeSet::new();
    for _ in 0..5 {
        world.pass(10);
        launched.extend(world.launch(&json!({"instance_type": "t3.micro", "count": 5})).await);
    }
    let (mut seen, mut next) = (Vec::new(), None::<String>);
    for _ in 0..20 {
        let after = next.map(|next| format!("&next={next}")).unwrap_or_default();
        let page = world.get(&format!("/v1/instances?limit=4{after}")).await.with(200);
        let page_ids = ids(&page);
        assert!(page_ids.len() <= 4);
        seen.extend(page_ids);
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), launched.len());
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), launched);
}

#[tokio::test]
async fn filters_let_through_what_was_asked_for() {
    let world = World::new().await;
    let web = json!({"instance_type": "t3.micro", "tags": {"role": "web"}});
    let web = world.launch(&web).await.remove(0);
    let big = world.launch(&json!({"instance_type": "m5.large", "zone": "zone-a"})).await.remove(0);
    world.delete(&format!("/v1/instances/{big}")).await.with(200);
    for (query, found) in [
        ("state=pending", vec![&web]),
        ("state=shutting-down", vec![&big]),
        ("state=running", vec![]),
        ("instance_type=m5.large", vec![&big]),
        ("zone=zone-a", vec![&big]),
        ("zone=zone-b", vec![]),
        ("tag=role", vec![&web]),
        ("tag=role=web", vec![&web]),
        ("tag=role=db", vec![]),
        ("tag=role&state=shutting-down", vec![]),
    ] {
        let page = world.get(&format!("/v1/instances?{query}")).await.with(200);
        assert_eq!(ids(&page).iter().collect::<Vec<_>>(), found, "{query}");
    }
}

#[tokio::test]
async fn an_instance_shows_what_the_steps_have_done_and_whom_it_waits_for() {
    let world = World::new().await;
    let id = world.launch(&json!({"instance_type": "t3.micro"})).await.remove(0);
    let requested = world.published();
    world.pass(15);
    world.hear(Capacity, &requested).await;
    let shown = world.get(&format!("/v1/instances/{id}")).await.with(200);
    assert_eq!(shown["placement"]["host"], "host-1");
    assert_eq!(shown["pending"]["awaits"], json!(["network", "storage", "security"]));

    let events = world.get(&format!("/v1/instances/{id}/events")).await.with(200);
    let events = events["events"].as_array().expect("a list").clone();
    let told: Vec<_> = events
        .iter()
        .map(|line| (line["step"].as_str(), line["what"].as_str(), line["after_ms"].as_i64()))
        .collect();
    assert_eq!(
        told,
        [(Some("api"), Some("requested"), Some(0)), (Some("capacity"), Some("taken"), Some(15)),]
    );
}

#[tokio::test]
async fn a_termination_shows_at_once_and_repeated_it_is_a_success() {
    let world = World::new().await;
    let id = world.launch(&json!({"instance_type": "t3.micro"})).await.remove(0);
    world.published();
    let path = format!("/v1/instances/{id}");
    let states = |answer: &Value| {
        (answer["previous_state"].as_str().map(str::to_owned), answer["current_state"].clone())
    };
    let first = world.delete(&path).await.with(200);
    assert_eq!(states(&first), (Some("pending".to_owned()), json!("shutting-down")));
    assert_eq!(world.get(&path).await.with(200)["state"], "shutting-down");
    let again = world.delete(&path).await.with(200);
    assert_eq!(states(&again), (Some("shutting-down".to_owned()), json!("shutting-down")));
    let published = world.published();
    assert_eq!(published.len(), 2, "it is published again, in case the first was lost");
    for event in &published {
        assert!(matches!(event.data, Data::InstanceTerminationRequested(_)), "{event:?}");
        assert_eq!(event.metadata.generation, 1);
    }
}

#[tokio::test]
async fn a_termination_stands_also_when_the_bus_is_down() {
    let world = World::new().await;
    let id = world.launch(&json!({"instance_type": "t3.micro"})).await.remove(0);
    world.bus_is_down(true);
    let path = format!("/v1/instances/{id}");
    world.delete(&path).await.with(200);
    assert_eq!(world.get(&path).await.with(200)["state"], "shutting-down");
}

#[tokio::test]
async fn whoever_waits_for_a_state_is_answered_when_it_is_there() {
    let world = std::sync::Arc::new(World::new().await);
    let id = world.launch(&json!({"instance_type": "t3.micro"})).await.remove(0);
    let requested = world.published();
    let path = format!("/v1/instances/{id}?until=running&wait=30");
    let waiting = {
        let world = world.clone();
        tokio::spawn(async move { world.get(&path).await.with(200) })
    };
    let mut running = requested[0].clone();
    running.data =
        Data::InstanceRunning(eventplane_events::InstanceRunning { host: "host-1".to_owned() });
    running.metadata.kind = "InstanceRunning".to_owned();
    world.hear(instances(), &[running]).await;
    assert_eq!(waiting.await.expect("answered")["state"], "running");
    assert_eq!(world.record(&id).await.progress.state, State::Running);
}

#[tokio::test]
async fn whoever_does_not_wait_is_answered_with_what_stands() {
    let world = World::new().await;
    let id = world.launch(&json!({"instance_type": "t3.micro"})).await.remove(0);
    let shown = world.get(&format!("/v1/instances/{id}?until=running")).await.with(200);
    assert_eq!(shown["state"], "pending");
    let answer = world.get(&format!("/v1/instances/{id}?until=broken&wait=1")).await;
    assert_eq!((answer.status.as_u16(), answer.error("field")), (400, "until"));
    let answer = world.get(&format!("/v1/instances/{id}?until=running&wait=31")).await;
    assert_eq!((answer.status.as_u16(), answer.error("field")), (400, "wait"));
}

/// The event after `cause` that says this of the same instance.
fn next(cause: &Event, data: Data) -> Event {
    let kind = data.name().to_owned();
    let metadata = Metadata { kind, hop: cause.metadata.hop + 1, ..cause.metadata.clone() };
    Event { metadata, data }
}

#[tokio::test]
async fn what_a_user_asks_starts_the_hops_anew_and_says_so_of_the_generation_that_was_seen() {
    let world = World::new().await;
    let id = world.launch(&json!({"instance_type": "t3.micro"})).await.remove(0);
    let mut requested = world.published().remove(0);
    requested.metadata.hop = 7;
    let host = "host-1".to_owned();
    let running = Data::InstanceRunning(eventplane_events::InstanceRunning { host });
    world.hear(instances(), &[next(&requested, running)]).await;
    let path = format!("/v1/instances/{id}");
    let ask = async |verb: &str| {
        world.post(&format!("{path}/{verb}"), &json!({})).await.with(200);
        world.published().remove(0)
    };
    let reboot = ask("reboot").await;
    assert_eq!(reboot.data, Data::InstanceRebootRequested(Reboot { number: 1 }));
    let stop = ask("stop").await;
    let ended = InstanceWithdrawn {
        outcome: Outcome::Stop,
        reason: Reason::new("Client.UserInitiatedShutdown", "asked"),
        has_run: true,
    };
    let withdrawn = next(&stop, Data::InstanceWithdrawn(ended));
    let room = next(&withdrawn, Data::CapacityReleased(Returned { for_good: false }));
    world.hear(instances(), &[withdrawn, room]).await;
    let start = ask("start").await;
    for (event, name) in [
        (&reboot, "InstanceRebootRequested"),
        (&stop, "InstanceStopRequested"),
        (&start, "InstanceStartRequested"),
    ] {
        let metadata = &event.metadata;
        assert_eq!((event.data.name(), metadata.hop, metadata.generation), (name, 0, 1));
    }
    let begun = world.hear(instances(), &[start]).await.remove(0);
    assert_eq!((begun.data.name(), begun.metadata.generation), ("InstanceRequested", 2));
    let record = world.record(&id).await;
    assert_eq!(begun.metadata.deadline, record.deadline, "a time of its own");
    assert!(matches!(begun.data, Data::InstanceRequested(requested) if requested.has_run));
}
