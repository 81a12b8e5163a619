//! Which volumes' data a host may delete: what is told here is the only word for it.

use crate::agents::{Agent, speaking};
use crate::world::World;
use eventplane_domain::{InstanceId, Millis};
use eventplane_handoff::Handoff;
use eventplane_storage::Storage;
use serde_json::{Value, json};

fn of(id: &InstanceId, index: usize) -> Value {
    json!({ "tenant": "default", "instance_id": id, "volume_id": id.volume(index) })
}

async fn gone(world: &World, agent: &Agent, volumes: &[Value]) -> Value {
    let answer = agent.post(world, "volumes", &json!({ "volumes": volumes })).await;
    answer.with(200)["gone"].clone()
}

async fn end(world: &World, id: &InstanceId) {
    world.delete(&format!("/v1/instances/{id}")).await.with(200);
    let withdrawn = world.hear(Handoff, &world.published()).await;
    let storage = Storage::new(world.master(), world.ports.chance.clone());
    world.hear(storage, &withdrawn).await;
}

#[tokio::test]
async fn only_volumes_that_went_with_their_instance_are_gone() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let data = json!([{ "size_gib": 8 }, { "size_gib": 8, "delete_on_termination": false }]);
    let body = json!({ "instance_type": "t3.micro", "volumes": data });
    let id = world.launch(&body).await.remove(0);
    let unknown = InstanceId::new(Millis(1), 1);
    let asked = [of(&id, 0), of(&id, 1), of(&id, 2), of(&unknown, 0)];
    assert_eq!(gone(&world, &agent, &asked).await, json!([]), "nothing is given back");
    world.hand_off().await;
    assert_eq!(gone(&world, &agent, &asked).await, json!([]), "it holds them");

    end(&world, &id).await;
    let went = json!([id.volume(0), id.volume(1)]);
    assert_eq!(gone(&world, &agent, &asked).await, went, "one outlives its instance");
    assert_eq!(gone(&world, &agent, &[]).await, json!([]));
    // Until its user deletes it.
    world.delete(&format!("/v1/volumes/{}", id.volume(2))).await.with(204);
    let all = json!([id.volume(0), id.volume(1), id.volume(2)]);
    assert_eq!(gone(&world, &agent, &asked).await, all);
}

#[tokio::test]
async fn what_is_no_volume_of_its_instance_and_too_many_are_refused() {
    let world = World::empty();
    let agent = speaking(&world, "host-1", 1).await;
    let (id, other) = (InstanceId::new(Millis(1), 1), InstanceId::new(Millis(1), 2));
    for volume in [other.volume(0), "vol-1".to_owned(), String::new()] {
        let asked = json!([of(&id, 0),
            { "tenant": "default", "instance_id": id, "volume_id": volume }]);
        let answer = agent.post(&world, "volumes", &json!({ "volumes": asked })).await;
        assert_eq!(answer.error("code"), "InvalidVolumeID.Malformed");
        assert!(answer.error("message").contains("volumes[1].volume_id"), "{}", answer.body);
        answer.with(400);
    }
    let many: Vec<Value> = (0..101).map(|_| of(&id, 0)).collect();
    let answer = agent.post(&world, "volumes", &json!({ "volumes": many })).await;
    assert_eq!(answer.error("field"), "volumes");
    answer.with(400);
    assert_eq!(gone(&world, &agent, &many[1..]).await, json!([]));
}
