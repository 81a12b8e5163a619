//! The trees and what is suggested, case by case, and a fleet that is counted by class.

use super::*;
use crate::TABLE;
use crate::fleet::{self, Registration};
use crate::search::search;
use eventplane_domain::{HostId, Strategy};
use eventplane_engine::Dice;
use eventplane_local::store::EmbeddedStore;
use proptest::prelude::*;

const TOTAL: Sizes = Sizes { vcpus: 64, memory_mib: 65_536, network_mbps: 10_000, gpus: 0 };

fn spec(vcpus: u32) -> LaunchSpec {
    LaunchSpec {
        reservation_id: "r-1".to_owned(),
        launch_index: 0,
        instance_type: "any".to_owned(),
        vcpus,
        memory_mib: 1024,
        network_mbps: 64,
        gpus: None,
        image_id: "ami-1".to_owned(),
        volumes: vec![],
        zone: None,
        subnet_id: None,
        private_ip: None,
        security_group_ids: vec![],
        role: None,
        user_data_ref: None,
        strategy: Strategy::Spread,
    }
}

fn host(name: &str, zone: &str, vcpus: i64) -> Host {
    Host {
        id: HostId::parse(name).expect("a host id"),
        zone: zone.to_owned(),
        rack: "r".to_owned(),
        state: HostState::Active,
        gpu_model: None,
        total: TOTAL,
        free: Sizes { vcpus, ..TOTAL },
        is_enrolled: false,
    }
}

fn gpus(host: Host, model: &str, count: i64) -> Host {
    let free = Sizes { gpus: count, ..host.free };
    Host { gpu_model: Some(model.to_owned()), free, ..host }
}

fn need(model: &str, count: u32) -> Option<GpuNeed> {
    Some(GpuNeed { model: model.to_owned(), count })
}

#[test]
fn a_tree_says_which_hosts_fell_to_what_and_by_how_much() {
    let hosts = vec![
        host("h-1", "a", 6),
        host("h-2", "a", 2),
        Host { free: Sizes { vcpus: 4, memory_mib: 512, ..TOTAL }, ..host("h-3", "a", 0) },
        host("h-4", "b", 60),
        host("h-5", "b", 1),
        Host { state: HostState::Draining, ..host("h-6", "a", 60) },
        Host { state: HostState::Dead, ..host("h-7", "a", 0) },
    ];
    let tree = Fleet::Hosts(hosts).tree(&LaunchSpec { zone: Some("a".to_owned()), ..spec(8) });
    let checks: Vec<_> = tree
        .checks
        .iter()
        .map(|one| {
            let short = one.short_by.map(|short| (short.least, short.most, short.unit));
            (one.check, one.state, one.hosts, one.alone, short)
        })
        .collect();
    assert_eq!(
        checks,
        [
            ("zone", None, 2, Some(1), None),
            ("state", Some("draining"), 1, Some(1), None),
            ("state", Some("dead"), 1, Some(0), None),
            ("vcpus", None, 3, Some(2), Some((2, 6, "vCPUs"))),
        ]
    );
    assert_eq!((tree.hosts, tree.fit), (7, 0));
    assert_eq!(tree.binds, Some(Binds { check: "vcpus", lets_through: 2 }));
    let near = tree.nearest.clone().expect("one is nearest");
    assert_eq!((near.host.as_str(), near.short_by.vcpus, near.checks), ("h-1", 2, vec!["vcpus"]));
    assert_eq!(
        tree.words(),
        "7 hosts: 2 in other zones, 1 draining, 1 dead, 3 short by 2 to 6 vCPUs (host by host); the \
         nearest is h-1 in a, short by 2 vCPUs"
    );
}

#[test]
fn where_a_host_has_room_it_is_said_how_many_and_none_is_nearest() {
    let tree = Fleet::Hosts(vec![host("h-1", "a", 8), host("h-2", "b", 7)]).tree(&spec(8));
    assert_eq!((tree.fit, tree.nearest.clone()), (1, None));
    assert!(tree.words().starts_with("2 hosts: 1 with room, 1 short by 1 vCPUs"), "{tree:?}");
    assert_eq!(Fleet::Hosts(vec![]).tree(&spec(8)).words(), "no hosts are registered");
}

#[test]
fn zones_are_those_where_a_host_has_room_of_those_that_are_allowed() {
    let fleet = Fleet::Hosts(vec![
        host("h-1", "a", 8),
        gpus(host("h-2", "b", 8), "T4", 1),
        Host { state: HostState::Draining, ..host("h-3", "c", 60) },
    ]);
    let zones = |spec: &LaunchSpec| fleet.zones(spec).into_iter().collect::<Vec<_>>();
    assert_eq!(zones(&spec(8)), ["a", "b"]);
    assert_eq!(zones(&LaunchSpec { zone: Some("a".to_owned()), ..spec(8) }), ["a"]);
    assert_eq!(zones(&LaunchSpec { gpus: need("T4", 1), ..spec(8) }), ["b"]);
    assert!(zones(&spec(9)).is_empty());
    assert_eq!(fleet.all_zones().len(), 3);
}

fn kind(
    name: &'static str,
    vcpus: i64,
    gib: i64,
    gpus: Option<(&'static str, i64)>,
) -> Kind<'static> {
    let count = gpus.map_or(0, |(_, count)| count);
    let needs = Sizes { vcpus, memory_mib: gib * 1024, network_mbps: vcpus * 100, gpus: count };
    Kind { name, needs, gpu_model: gpus.map(|(model, _)| model) }
}

#[test]
fn what_is_suggested_is_the_closest_and_the_largest_and_of_gpus_fewer_or_others() {
    let small = kind("small", 2, 4, None);
    let middle = kind("middle", 4, 8, None);
    let large = kind("large", 16, 16, None);
    let t4 = kind("t4", 4, 16, Some(("T4", 1)));
    let four = kind("four-t4", 48, 192, Some(("T4", 4)));
    let eight = kind("eight-t4", 96, 384, Some(("T4", 8)));
    let h100 = kind("h100", 96, 384, Some(("H100", 8)));
    let cases: [(&Kind, Vec<&Kind>, &[&str]); 5] = [
        (&middle, vec![&small, &large, &t4], &["small", "large"]),
        (&middle, vec![&small, &middle], &["small"]),
        (&eight, vec![&t4, &four, &h100, &large], &["four-t4", "h100"]),
        (&eight, vec![&small, &large], &["large"]),
        (&small, vec![&t4], &["t4"]),
    ];
    for (wanted, fitting, right) in cases {
        let fitting: Vec<Kind> = fitting.into_iter().cloned().collect();
        let names: Vec<&str> =
            kinds_instead(wanted, &fitting).iter().map(|(_, kind)| kind.name).collect();
        assert_eq!(names, right, "instead of {}", wanted.name);
    }
}

#[test]
fn a_refusal_names_other_zones_before_other_sizes_and_stays_short() {
    let long = |n: u32| format!("{:a<62}{n:02}", "zone-");
    let hosts: Vec<Host> = (0..40).map(|n| host(&format!("h-{n}"), &long(n), 60)).collect();
    let nowhere = LaunchSpec { zone: Some("nowhere".to_owned()), ..spec(8) };
    let told = instead(&nowhere, &hosts, "one host");
    assert!(told.starts_with("; it would fit in zone-") && told.len() < 300, "{told}");
    let told = instead(&spec(61), &[gpus(host("h", "a", 60), "T4", 1)], "one host");
    assert_eq!(told, "; the largest room free on one host is 60 vCPUs and 64 GiB in a");
    let t4 = LaunchSpec { gpus: need("T4", 2), ..spec(2) };
    let told = instead(&t4, &[host("g", "a", 64), gpus(host("h", "b", 60), "T4", 1)], "one host");
    assert!(told.ends_with("60 vCPUs and 64 GiB, 1 T4 in b"), "{told}");
    assert_eq!(instead(&spec(61), &[host("h", "a", 0)], "one host"), "");
}

proptest! {
    /// The tree counts every host once, and says that one fits exactly where the step would take it.
    #[test]
    fn the_tree_and_the_step_never_disagree(
        free in prop::collection::vec((0..12_i64, 0..4_000_i64, 0..3_usize, 0..3_usize), 0..20),
        vcpus in 1..12_u32,
        zone in prop::option::of(0..3_usize),
    ) {
        let zones = ["a", "b", "c"];
        let hosts: Vec<Host> = free
            .into_iter()
            .enumerate()
            .map(|(n, (vcpus, memory_mib, zone, state))| Host {
                state: HostState::ALL[state],
                free: Sizes { vcpus, memory_mib, ..TOTAL },
                ..host(&format!("h-{n}"), zones[zone], 0)
            })
            .collect();
        let wanted = LaunchSpec { zone: zone.map(|z| zones[z].to_owned()), ..spec(vcpus) };
        let fitting = hosts.iter().filter(|one| fit(&wanted, one, &[]).is_ok());
        let zones: BTreeSet<String> = fitting.clone().map(|one| one.zone.clone()).collect();
        let (fits, all) = (fitting.count() as i64, hosts.len() as i64);
        let fleet = Fleet::Hosts(hosts);
        let tree = fleet.tree(&wanted);
        prop_assert_eq!(tree.fit, fits);
        prop_assert_eq!(tree.checks.iter().map(|one| one.hosts).sum::<i64>() + fits, all);
        prop_assert_eq!(fleet.zones(&wanted), zones);
    }
}

#[tokio::test]
async fn above_a_thousand_hosts_it_is_by_class_and_where_it_says_room_the_search_finds_it() {
    let store = EmbeddedStore::in_memory(&[TABLE]).expect("a store");
    for n in 0..1_002 {
        let registration = Registration {
            zone: ["a", "b"][n % 2].to_owned(),
            rack: "r".to_owned(),
            vcpus: if n % 2 == 0 { 8 } else { 64 },
            memory_mib: 262_144,
            network_mbps: 10_000,
            gpus: None,
            is_enrolled: false,
        };
        let id = HostId::parse(&format!("h-{n:05}")).expect("a host id");
        fleet::register(&store, &id, &registration).await.expect("no fault").expect("registered");
    }
    let first = HostId::parse("h-00001").expect("a host id");
    let drained = fleet::set_state(&store, &first, HostState::Draining).await;
    drained.expect("no fault").expect("drained");
    let fleet = look(&store).await.expect("no fault");
    let large = LaunchSpec { memory_mib: 32_768, network_mbps: 1_024, ..spec(16) };
    let in_a = LaunchSpec { zone: Some("a".to_owned()), ..large.clone() };
    let tree = fleet.tree(&in_a);
    assert_eq!((tree.hosts, tree.fit, tree.counted), (1_002, 0, "by class"));
    let told: Vec<(&str, i64)> = tree.checks.iter().map(|one| (one.check, one.hosts)).collect();
    assert_eq!(told, [("room", 501), ("zone", 501)]);
    assert_eq!(fleet.tree(&large).fit, 500, "all of b but the one that is drained");
    assert_eq!(fleet.zones(&large).into_iter().collect::<Vec<_>>(), ["b"]);
    // What it is sure of, the step's own search finds.
    let counts = store.get(&fleet_key()).await.expect("no fault");
    let in_b = LaunchSpec { zone: Some("b".to_owned()), ..large };
    let seen = search(&store, &in_b, counts.as_ref(), &mut Dice::new(7)).await.expect("no fault");
    let crate::Seen::Some(seen, _) = seen else { panic!("not all are looked at") };
    assert!(seen.iter().all(|one| fit(&in_b, one, &[]).is_ok()) && !seen.is_empty());
}
