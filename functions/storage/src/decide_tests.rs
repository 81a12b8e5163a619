//! The table of cases: what is recorded, what is heard, what becomes of it.

use super::*;
use crate::asked::{DATA_DEVICES, VOLUMES_MAX};
use crate::cases::{DEADLINE, NOW, allocated, data, event, instance, root, volume, withdrawn};
use crate::pools::shard_key;
use crate::tenant_key::tenant_key_key;
use eventplane_domain::receipt::Answer;
use eventplane_domain::{Outcome, Tenant};
use eventplane_events::{InstanceRequested, LaunchFailed, Returned};
use eventplane_store::{Action, Condition, ItemExt, Key, Update, Value};

fn shard(volume_type: &str, number: u8, free_gib: i64, free_iops: i64) -> Shard {
    Shard { volume_type: volume_type.to_owned(), number, free_gib, free_iops }
}

/// A zone with room, and a tenant that has its key.
fn roomy() -> Facts {
    Facts {
        key: Some(TenantKey { id: "key-1".to_owned(), new: None }),
        shards: vec![shard("gp3", 3, 1_000, 100_000), shard("io2", 3, 1_000, 100_000)],
        types: vec!["gp3".to_owned(), "io2".to_owned()],
        ..Facts::default()
    }
}

/// What the step has recorded after it decided `event` on `facts`.
fn recorded(event: &Event, facts: &Facts) -> Facts {
    let decision = decide(event, facts, NOW);
    let receipt = decision.writes.iter().find(|write| write.key.sort == "receipt");
    let Some(Write { action: Action::Put(item), .. }) = receipt else {
        panic!("no receipt in {decision:?}");
    };
    Facts::recorded(Some(item)).expect("readable")
}

fn taken(volumes: Vec<VolumeSpec>) -> Facts {
    recorded(&event(&instance(1), 1, allocated("a", volumes)), &roomy())
}

fn launch_of_two(generation: u32) -> Event {
    event(&instance(1), generation, allocated("a", vec![root(), data()]))
}

fn end(outcome: Outcome) -> Event {
    event(&instance(1), 1, withdrawn(outcome))
}

/// What becomes of it, in a word: the answer that is recorded, and the events.
fn check(event: &Event, facts: &Facts, now: Millis) -> (Option<Answer>, Vec<&'static str>) {
    let decision = decide(event, facts, now);
    let put = decision.writes.iter().find(|write| write.key.sort == "receipt");
    let answer = put.map(|write| match &write.action {
        Action::Put(item) => item.text("answer").and_then(Answer::of_name).expect("an answer"),
        other => panic!("a receipt is put, not {other:?}"),
    });
    (answer, decision.events.iter().map(|emit| emit.data.name()).collect())
}

#[test]
fn what_is_recorded_and_what_is_heard_decide_what_becomes_of_it() {
    use Answer::{GivenBackForGood, Refused, Taken};
    let nothing = Facts::default;
    let full = || Facts { shards: vec![shard("gp3", 0, 1, 1)], ..roomy() };
    let refused = || recorded(&launch_of_two(1), &full());
    let gone = || recorded(&end(Outcome::Terminate), &nothing());
    let held = || taken(vec![root(), data()]);
    let late = DEADLINE.plus(1);
    let requested = Data::InstanceRequested(InstanceRequested {
        spec: launch_of(&launch_of_two(1)).spec.clone(),
        has_run: false,
        replaced: 0,
    });
    let (take, take_2) = (launch_of_two(1), launch_of_two(2));
    let cases = [
        ("a launch takes", &take, roomy(), NOW, Some(Taken), "VolumeProvisioned"),
        ("no room is refused", &take, full(), NOW, Some(Refused), "LaunchFailed"),
        ("late is refused", &take, roomy(), late, Some(Refused), "LaunchFailed"),
        ("taken is repeated", &take, held(), NOW, None, "VolumeProvisioned"),
        ("taken is repeated also late", &take, held(), late, None, "VolumeProvisioned"),
        ("refused is repeated", &take, refused(), NOW, None, "LaunchFailed"),
        ("given back first, refused then", &take, gone(), NOW, None, "VolumeReleased"),
        ("a new generation keeps", &take_2, held(), NOW, Some(Taken), "VolumeProvisioned"),
        ("an old one is stale", &take, recorded(&take_2, &held()), NOW, None, ""),
        (
            "a termination gives back",
            &end(Outcome::Terminate),
            held(),
            late,
            Some(GivenBackForGood),
            "VolumeReleased",
        ),
        (
            "a termination answers for nothing",
            &end(Outcome::Terminate),
            nothing(),
            NOW,
            Some(GivenBackForGood),
            "VolumeReleased",
        ),
        (
            "a termination is repeated",
            &end(Outcome::Terminate),
            gone(),
            NOW,
            None,
            "VolumeReleased",
        ),
        ("a stop changes nothing", &end(Outcome::Stop), held(), NOW, None, ""),
        ("a replacement changes nothing", &end(Outcome::Replace), held(), NOW, None, ""),
        (
            "another step's event changes nothing",
            &event(&instance(1), 1, requested),
            roomy(),
            NOW,
            None,
            "",
        ),
    ];
    for (case, event, facts, now, answer, published) in cases {
        let published: Vec<&str> = published.split(' ').filter(|name| !name.is_empty()).collect();
        assert_eq!(check(event, &facts, now), (answer, published), "{case}");
    }
}

fn volumes_in(decision: &Decision) -> &[eventplane_domain::Volume] {
    match &decision.events[0].data {
        Data::VolumeProvisioned(provisioned) => &provisioned.provisioned,
        other => panic!("not provisioned: {other:?}"),
    }
}

fn refusal(decision: &Decision) -> &Reason {
    match &decision.events[0].data {
        Data::LaunchFailed(LaunchFailed { step: Step::Storage, reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn volumes_have_ids_of_the_instance_places_in_its_zone_and_the_tenants_key() {
    let decision = decide(&launch_of_two(1), &roomy(), NOW);
    let volumes: Vec<_> = volumes_in(&decision)
        .iter()
        .map(|volume| (volume.volume_id.clone(), volume.pool.as_str(), volume.key_id.as_str()))
        .collect();
    let expected =
        [(instance(1).volume(0), "a/gp3/3", "key-1"), (instance(1).volume(1), "a/io2/3", "key-1")];
    assert_eq!(volumes, expected);
    assert_eq!(volumes_in(&decision)[1].spec, data());
}

#[test]
fn room_is_taken_under_conditions_on_what_is_free() {
    let one_pool = vec![root(), volume("/dev/sdg", "gp3", 20, 4_000)];
    let decision = decide(&event(&instance(1), 1, allocated("a", one_pool)), &roomy(), NOW);
    let room: Vec<&Write> = decision.writes.iter().filter(|w| w.key.sort == "pool").collect();
    let expected = Write::update(
        shard_key("a/gp3/3"),
        vec![Update::add("free_gib", -28), Update::add("free_iops", -7_000)],
    )
    .when(Condition::at_least("free_gib", 28))
    .when(Condition::at_least("free_iops", 7_000));
    assert_eq!(room, [&expected], "both volumes in one write of their shard");
}

#[test]
fn volumes_of_one_type_may_come_from_different_shards() {
    let shards = vec![shard("gp3", 7, 10, 3_500), shard("gp3", 0, 30, 3_500)];
    let volumes = vec![root(), volume("/dev/sdg", "gp3", 30, 3_000)];
    let decision =
        decide(&event(&instance(1), 1, allocated("a", volumes)), &Facts { shards, ..roomy() }, NOW);
    let pools: Vec<_> = volumes_in(&decision).iter().map(|v| v.pool.as_str()).collect();
    assert_eq!(pools, ["a/gp3/7", "a/gp3/0"]);
}

#[test]
fn a_shard_that_is_short_of_either_is_passed_over() {
    let shards =
        vec![shard("gp3", 0, 7, 100_000), shard("gp3", 1, 1_000, 2_999), shard("gp3", 2, 8, 3_000)];
    let decision = decide(
        &event(&instance(1), 1, allocated("a", vec![root()])),
        &Facts { shards, ..roomy() },
        NOW,
    );
    assert_eq!(volumes_in(&decision)[0].pool, "a/gp3/2");
}

#[test]
fn a_refusal_for_want_of_room_says_how_much_there_is() {
    let shards = vec![shard("gp3", 0, 7, 90_000), shard("gp3", 1, 5, 2_999)];
    let facts = Facts { shards, ..roomy() };
    let decision = decide(&event(&instance(1), 1, allocated("a", vec![root()])), &facts, NOW);
    let reason = refusal(&decision);
    assert_eq!(reason.code, code::INSUFFICIENT_VOLUME_CAPACITY);
    assert_eq!(
        reason.message,
        "/dev/xvda asks for 8 GiB and 3000 IOPS of gp3 in a; free beside the launch's other \
         volumes: 12 GiB and 92999 IOPS in the pool's 8 shards, at most 7 GiB and 90000 IOPS in one"
    );
    let only_the_receipt = decision.writes.iter().all(|write| write.key.sort == "receipt");
    assert!(only_the_receipt, "a refusal takes nothing: {:?}", decision.writes);
}

#[test]
fn a_type_that_the_zone_does_not_have_is_refused_with_those_it_has() {
    for (types, said) in [(vec!["gp3", "io2"], "it has gp3, io2"), (vec![], "it has none at all")] {
        let types = types.into_iter().map(str::to_owned).collect();
        let facts = Facts { shards: vec![], types, ..roomy() };
        let wants = vec![volume("/dev/sda1", "gp9", 8, 0)];
        let decision = decide(&event(&instance(1), 1, allocated("a", wants)), &facts, NOW);
        let reason = refusal(&decision);
        assert_eq!(reason.code, code::UNKNOWN_VOLUME_TYPE);
        assert_eq!(reason.message, format!("a has no volumes of type gp9 (for /dev/sda1), {said}"));
    }
}

#[test]
fn a_new_tenants_key_is_put_together_with_its_first_volumes_and_is_in_no_event() {
    let item = Item::new().with("id", "key-1").with("wrapped", vec![1, 2, 3]).with("master", "m");
    let key = TenantKey { id: "key-1".to_owned(), new: Some(item.clone()) };
    let decision = decide(&launch_of_two(1), &Facts { key: Some(key), ..roomy() }, NOW);
    let put = Write::put(tenant_key_key(&Tenant::local()), item).when(Condition::ItemAbsent);
    assert!(decision.writes.contains(&put), "{:?}", decision.writes);
    assert!(!format!("{:?}", decision.events).contains("wrapped"));
}

#[test]
fn a_newer_generation_keeps_its_volumes_and_writes_only_its_receipt() {
    let decision = decide(&launch_of_two(2), &taken(vec![root(), data()]), NOW);
    assert_eq!(decision.writes.len(), 1);
    assert_eq!(decision.events[0].generation, 2);
    let first = decide(&launch_of_two(1), &roomy(), NOW);
    assert_eq!(volumes_in(&decision), volumes_in(&first));
}

#[test]
fn a_newer_generation_in_another_zone_is_refused_and_keeps_its_volumes() {
    let moved = event(&instance(1), 2, allocated("b", vec![root(), data()]));
    let held = taken(vec![root(), data()]);
    let decision = decide(&moved, &held, NOW);
    let reason = refusal(&decision);
    assert_eq!(reason.code, code::VOLUME_ZONE_MISMATCH);
    assert!(reason.message.contains("are in a, and it was placed in b"), "{reason}");
    assert_eq!(recorded(&moved, &held).claim, held.claim);
}

#[test]
fn in_the_end_volumes_go_or_stay_as_their_flag_says() {
    let decision = decide(&end(Outcome::Terminate), &taken(vec![root(), data()]), NOW);
    let back = Write::update(
        shard_key("a/gp3/3"),
        vec![Update::add("free_gib", 8), Update::add("free_iops", 3_000)],
    );
    assert!(decision.writes.contains(&back), "{:?}", decision.writes);
    let stayed = Key::new("storage", "default/volumes", instance(1).volume(1));
    assert!(decision.writes.iter().any(|write| write.key == stayed));
    assert_eq!(decision.writes.len(), 3, "receipt, room, and the one that stays");
    assert_eq!(decision.events[0].data, Data::VolumeReleased(Returned { for_good: true }));
}

/// The size of an item as DynamoDB counts it, at most.
fn bytes(write: &Write) -> usize {
    let Action::Put(item) = &write.action else { panic!("{write:?}") };
    let value = |value: &Value| match value {
        Value::S(text) => text.len(),
        Value::B(bytes) => bytes.len(),
        Value::N(_) | Value::Bool(_) => 12,
    };
    let attributes: usize = item.iter().map(|(name, v)| name.len() + value(v)).sum();
    attributes + write.key.partition.len() + write.key.sort.len() + "pksk".len()
}

#[test]
fn a_receipt_is_at_most_1_kb_with_as_many_volumes_as_an_instance_can_have() {
    let large = |at| VolumeSpec {
        size_gib: 65_536,
        iops: 256_000,
        ..volume(DATA_DEVICES.get(at).copied().unwrap_or("/dev/sda1"), "io2", 1, 1)
    };
    let facts = Facts { shards: vec![shard("io2", 3, 1_000_000, 10_000_000)], ..roomy() };
    // The log grows to eight entries of this length, if the instance is stopped and started.
    let more_log = 7 * " 10t1795000000000".len();
    for (volumes, bytes_max) in [(2, 512), (VOLUMES_MAX, 1024)] {
        let wants = (0..volumes).map(large).collect();
        let wide = event(&instance(1), 1, allocated("eu-central-1-zone-a", wants));
        let decision = decide(&wide, &facts, NOW);
        assert_eq!(volumes_in(&decision).len(), volumes);
        let bytes = bytes(&decision.writes[0]) + more_log;
        assert!(bytes <= bytes_max, "{volumes} volumes: {bytes} bytes");
    }
}
