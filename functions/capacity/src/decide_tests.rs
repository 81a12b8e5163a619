//! The table of cases, and the step in its loop over a real store.

use super::*;
use crate::fleet::{self, Registration};
use crate::{Capacity, TABLE};
use async_trait::async_trait;
use eventplane_domain::receipt::Answer;
use eventplane_domain::{GpuNeed, HostId, InstanceId, Millis, Outcome, Tenant};
use eventplane_engine::{Chance, Clock, Fault, Function, Handler, Ports, Publisher};
use eventplane_events::{Entry, InstanceWithdrawn, Metadata, SCHEMA_VERSION, envelope};
use eventplane_local::store::EmbeddedStore;
use eventplane_store::{Action, Store};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

fn id(text: &str) -> HostId {
    HostId::parse(text).expect("a host id")
}

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

fn host(name: &str, zone: &str, free: i64, model: Option<&str>) -> Host {
    let gpus = if model.is_some() { 4 } else { 0 };
    let total = Sizes { vcpus: 64, memory_mib: 100_000, network_mbps: 10_000, gpus };
    Host {
        id: id(name),
        zone: zone.to_owned(),
        rack: format!("{zone}1"),
        state: HostState::Active,
        gpu_model: model.map(str::to_owned),
        total,
        free: Sizes { vcpus: free, ..total },
        is_enrolled: false,
    }
}

fn event(instance: u64, generation: u32, data: Data) -> Event {
    Event {
        metadata: Metadata {
            id: "e-1".to_owned(),
            kind: data.name().to_owned(),
            schemaversion: SCHEMA_VERSION.to_owned(),
            time: Millis(1),
            source: "eventplane.test".to_owned(),
            subject: InstanceId::new(Millis(1), instance),
            correlationid: "c-1".to_owned(),
            causationid: None,
            tenant: Tenant::local(),
            generation,
            deadline: Millis(1_000),
            hop: 1,
            traceparent: None,
        },
        data,
    }
}

fn requested(spec: LaunchSpec) -> Data {
    Data::InstanceRequested(InstanceRequested { spec, has_run: false, replaced: 0 })
}

/// Asked for again after so many hosts in a row had it.
fn placed_again(spec: LaunchSpec, replaced: u32) -> Data {
    Data::InstanceRequested(InstanceRequested { spec, has_run: false, replaced })
}

fn withdrawn(outcome: Outcome) -> Data {
    let reason = Reason::new("Client.UserInitiatedShutdown", "asked");
    Data::InstanceWithdrawn(InstanceWithdrawn { outcome, reason, has_run: false })
}

fn decided(facts: &Facts, event: &Event, now: i64) -> Decision {
    let dice = &mut Dice::new(7);
    decide(event, facts, Moment { now: Millis(now), received: 1, dice })
}

fn seeing(hosts: Vec<Host>) -> Facts {
    Facts { seen: Some(Seen::All(hosts)), ..Facts::default() }
}

fn chosen(decision: &Decision) -> String {
    match &decision.events[..] {
        [emit] => match &emit.data {
            Data::CapacityAllocated(allocated) => allocated.launch.placement.host.to_string(),
            Data::LaunchFailed(failed) => failed.reason.message.clone(),
            data => data.name().to_owned(),
        },
        events => panic!("{events:?}"),
    }
}

fn check(hosts: Vec<Host>, spec: LaunchSpec, expected: &str) {
    let decision = decided(&seeing(hosts), &event(1, 1, requested(spec)), 5);
    assert_eq!(chosen(&decision), expected);
}

#[test]
fn the_host_with_the_most_room_is_taken_to_spread_and_the_fullest_that_fits_to_pack() {
    let hosts = || {
        vec![host("full", "a", 1, None), host("fuller", "a", 8, None), host("empty", "b", 60, None)]
    };
    check(hosts(), spec(2), "empty");
    check(hosts(), LaunchSpec { strategy: Strategy::Pack, ..spec(2) }, "fuller");
    check(hosts(), LaunchSpec { zone: Some("a".to_owned()), ..spec(2) }, "fuller");
}

#[test]
fn launches_that_see_the_same_fleet_at_once_do_not_all_choose_the_same_host() {
    let facts = seeing(vec![host("a1", "a", 64, None), host("b1", "b", 63, None)]);
    let event = event(1, 1, requested(spec(2)));
    let choose = |seed: u64| {
        let moment = Moment { now: Millis(5), received: 1, dice: &mut Dice::new(seed) };
        chosen(&decide(&event, &facts, moment))
    };
    let taken: std::collections::BTreeSet<String> = (0..64).map(choose).collect();
    assert_eq!(taken.len(), 2, "{taken:?}");
}

#[test]
fn a_zone_with_more_room_comes_before_a_host_with_more_room() {
    let hosts =
        vec![host("a1", "a", 40, None), host("a2", "a", 0, None), host("b1", "b", 30, None)];
    check(hosts, spec(2), "b1");
}

#[test]
fn hosts_with_gpus_are_kept_for_those_who_need_them() {
    let hosts = || vec![host("gpu", "a", 60, Some("T4")), host("plain", "a", 8, None)];
    check(hosts(), spec(2), "plain");
    check(hosts(), spec(16), "gpu");
    let gpus = |model: &str| Some(GpuNeed { model: model.to_owned(), count: 1 });
    check(hosts(), LaunchSpec { gpus: gpus("T4"), ..spec(2) }, "gpu");
    let none = "2 hosts: 2 without GPUs of the model (counted host by host); the largest room free on \
                one host is 60 vCPUs and 97.6 GiB, 4 T4 in a";
    check(hosts(), LaunchSpec { gpus: gpus("H100"), ..spec(2) }, none);
}

#[test]
fn a_refusal_counts_why() {
    let mut hosts: Vec<Host> = (0..9).map(|n| host(&format!("h{n}"), "a", 1, None)).collect();
    hosts.extend([host("b1", "b", 60, None), host("b2", "b", 60, None)]);
    hosts.push(Host { state: HostState::Draining, ..host("d", "a", 60, None) });
    let wanted = LaunchSpec { zone: Some("a".to_owned()), ..spec(2) };
    let why = "12 hosts: 9 short of vCPUs, 2 in other zones, 1 draining (counted host by host); it \
               would fit in b";
    check(hosts.clone(), wanted.clone(), why);
    let why = "12 hosts: 11 short of vCPUs, 1 draining (counted host by host); the largest room free \
               on one host is 60 vCPUs and 97.6 GiB in b";
    check(hosts, LaunchSpec { zone: None, ..spec(61) }, why);
    check(vec![], spec(2), "no hosts are registered: start an agent on one");
}

#[test]
fn what_is_recorded_is_repeated_and_what_is_withdrawn_is_given_back() {
    let free = host("h", "a", 60, None);
    let request = event(1, 1, requested(spec(2)));
    let first = decided(&seeing(vec![free.clone()]), &request, 5);
    assert_eq!((first.writes.len(), chosen(&first)), (2, "h".to_owned()));
    let Action::Put(item) = &first.writes[0].action else { panic!("a receipt") };
    let receipt = Receipt::read(Some(item)).expect("readable");
    let holding = Some(Host { free: Sizes { vcpus: 58, ..free.free }, ..free.clone() });
    let taken = Facts { receipt, holding, seen: None };

    let again = decided(&taken, &request, 2_000);
    assert_eq!((again.writes.len(), chosen(&again)), (0, "h".to_owned()));
    for outcome in [Outcome::Terminate, Outcome::Stop, Outcome::Replace] {
        let back = decided(&taken, &event(1, 1, withdrawn(outcome)), 2_000);
        assert_eq!((back.writes.len(), chosen(&back)), (2, "CapacityReleased".to_owned()));
    }
    let tombstone = decided(&Facts::default(), &event(1, 1, withdrawn(Outcome::Terminate)), 5);
    assert_eq!((tombstone.writes.len(), chosen(&tombstone)), (1, "CapacityReleased".to_owned()));
    let late = decided(&Facts::default(), &request, 1_001);
    assert_eq!(chosen(&late), "capacity heard of the launch 1 ms after its deadline");

    // The next generation frees the old room and takes the new in one transaction.
    let other = Facts { seen: Some(Seen::All(vec![host("i", "a", 64, None)])), ..taken.clone() };
    let next = decided(&other, &event(1, 2, placed_again(spec(2), 1)), 5);
    assert_eq!((next.writes.len() >= 3, chosen(&next)), (true, "i".to_owned()));
    let same = Facts { seen: Some(Seen::All(vec![taken.holding.clone().expect("it")])), ..taken };
    let next = decided(&same, &event(1, 2, placed_again(spec(2), 1)), 5);
    assert_eq!(chosen(&next), "1 host: 1 that had it and did not run it (counted host by host)");
}

fn receipt_of(decision: &Decision) -> Option<Receipt> {
    let Action::Put(item) = &decision.writes[0].action else { panic!("a receipt") };
    Receipt::read(Some(item)).expect("readable")
}

#[test]
fn a_new_placement_keeps_its_zone_and_goes_to_another_host_and_a_start_to_any() {
    let in_a = || ["h", "i"].map(|name| host(name, "a", 64, None));
    let in_b = host("j", "b", 64, None);
    let first = decided(&seeing(in_a()[..1].to_vec()), &event(1, 1, requested(spec(2))), 5);
    let taken =
        Facts { receipt: receipt_of(&first), holding: Some(host("h", "a", 62, None)), seen: None };
    let everywhere = || Some(Seen::All(in_a().into_iter().chain([in_b.clone()]).collect()));
    for (outcome, replaced, goes_to) in
        [(Outcome::Replace, 1, &["i"][..]), (Outcome::Stop, 0, &["h", "i"])]
    {
        let back = decided(&taken, &event(1, 1, withdrawn(outcome)), 5);
        let given = Facts { receipt: receipt_of(&back), holding: None, seen: everywhere() };
        let next = decided(&given, &event(1, 2, placed_again(spec(2), replaced)), 5);
        assert!(goes_to.contains(&chosen(&next).as_str()), "{outcome:?}: {}", chosen(&next));
        // A host that had it stays one that had it, also after the next one took it.
        let then = Facts { receipt: receipt_of(&next), ..taken.clone() };
        let back = decided(&then, &event(1, 2, withdrawn(Outcome::Replace)), 5);
        let given = Facts { receipt: receipt_of(&back), holding: None, seen: everywhere() };
        let last = decided(&given, &event(1, 3, placed_again(spec(2), replaced + 1)), 5);
        let is_refused = chosen(&last).contains("had it and did not run it");
        assert_eq!(is_refused, outcome == Outcome::Replace, "{}", chosen(&last));
        // Once it has run, what came before is history: only the last host had it in a row.
        let again = decided(&given, &event(1, 3, placed_again(spec(2), 1)), 5);
        assert!(["h", "i"].contains(&chosen(&again).as_str()), "{}", chosen(&again));
        assert_ne!(chosen(&again), chosen(&next), "that one just had it");
    }
    let back = decided(&taken, &event(1, 1, withdrawn(Outcome::Terminate)), 5);
    assert_eq!(receipt_of(&back).expect("a receipt").claim, eventplane_store::Item::new());
}

#[test]
fn a_new_placement_writes_each_item_once_also_where_both_hosts_are_counted_in_one_directory() {
    let small = |name: &str, free: i64| {
        let total = Sizes { vcpus: 4, memory_mib: 8_192, network_mbps: 256, gpus: 0 };
        Host { total, free: Sizes { vcpus: free, ..total }, ..host(name, "a", free, None) }
    };
    let names = (0..100).map(|n| format!("h-{n}"));
    let of_one_shard = names.filter(|name| small(name, 4).shard() == small("h-0", 4).shard());
    let [first, second] = [0, 1].map(|n| of_one_shard.clone().nth(n).expect("two of eight"));
    let taken = decided(&seeing(vec![small(&first, 4)]), &event(1, 1, requested(spec(4))), 5);
    let facts = Facts {
        receipt: receipt_of(&taken),
        holding: Some(small(&first, 0)),
        seen: Some(Seen::All(vec![small(&first, 0), small(&second, 4)])),
    };
    let next = decided(&facts, &event(1, 2, placed_again(spec(4), 1)), 5);
    assert_eq!(chosen(&next), second);
    let keys: std::collections::BTreeSet<_> =
        next.writes.iter().map(|write| write.key.to_string()).collect();
    assert_eq!(keys.len(), next.writes.len(), "{:#?}", next.writes);
    let directories = next.writes.iter().filter(|w| w.key.partition.starts_with("@directory"));
    let sums = directories.map(|directory| match &directory.action {
        Action::Update(updates) => updates
            .iter()
            .map(|update| match update {
                Update::Add(_, amount) => *amount,
                other => panic!("{other:?} counts nothing"),
            })
            .sum::<i64>(),
        other => panic!("{other:?} counts nothing"),
    });
    assert_eq!(sums.collect::<Vec<_>>(), [0], "as many hosts as before");
}

/// A bus that keeps what it is given, a clock that stands, and numbers that count up.
#[derive(Default)]
struct World {
    published: Mutex<Vec<Entry>>,
    drawn: AtomicU64,
}

#[async_trait]
impl Publisher for World {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        self.published.lock().expect("no panic").extend(entries);
        Ok(())
    }
}
impl Clock for World {
    fn now(&self) -> Millis {
        Millis(5)
    }
}
impl Chance for World {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let n = self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            chunk.copy_from_slice(&n.to_le_bytes()[..chunk.len()]);
        }
    }
}

struct Site {
    world: Arc<World>,
    store: Arc<EmbeddedStore>,
    capacity: Arc<Function<Capacity>>,
}

impl Site {
    async fn with(hosts: usize, vcpus: u32) -> Site {
        let world = Arc::new(World::default());
        let store = Arc::new(EmbeddedStore::in_memory(&[TABLE]).expect("a store"));
        for n in 0..hosts {
            let registration = Registration {
                zone: ["a", "b", "c"][n % 3].to_owned(),
                rack: format!("r{}", n % 7),
                vcpus,
                memory_mib: vcpus * 4096,
                network_mbps: vcpus * 128,
                gpus: None,
                is_enrolled: false,
            };
            let done = fleet::register(&*store, &id(&format!("h-{n:05}")), &registration).await;
            done.expect("no fault").expect("registered");
        }
        let ports = Ports {
            store: store.clone(),
            bus: world.clone(),
            clock: world.clone(),
            chance: world.clone(),
        };
        Site { world, store, capacity: Arc::new(Function::new(Capacity, ports)) }
    }

    async fn hear(&self, event: Event) {
        let message = envelope(&event.entry(), "b", "2026-01-01T00:00:00Z");
        self.capacity.handle(&message).await.expect("handled");
    }

    async fn hear_at_once(&self, events: Vec<Event>) {
        let mut tasks = tokio::task::JoinSet::new();
        for event in events {
            let message = envelope(&event.entry(), "b", "2026-01-01T00:00:00Z");
            let capacity = self.capacity.clone();
            tasks.spawn(async move { capacity.handle(&message).await });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no panic").expect("handled");
        }
    }

    fn published(&self, name: &str) -> usize {
        let published = self.world.published.lock().expect("no panic");
        published.iter().filter(|entry| entry.detail_type == name).count()
    }

    async fn free_vcpus(&self) -> Vec<i64> {
        let (hosts, _) = fleet::hosts(&*self.store, None, 10_000).await.expect("no fault");
        hosts.iter().map(|host| host.free.vcpus).collect()
    }

    /// The index says of every host what its item says.
    async fn check_index(&self) {
        let (hosts, _) = fleet::hosts(&*self.store, None, 10_000).await.expect("no fault");
        for host in &hosts {
            let item = self.store.get(&crate::host::host_key(&host.id)).await.expect("no fault");
            let item = item.expect("there");
            let class = crate::host::class_of(host.free, host.gpu_model.is_some());
            assert_eq!(eventplane_store::ItemExt::number(&item, "class"), Some(class));
            let partition =
                crate::host::index_partition(&host.zone, host.model(), host.shard(), class);
            let query = eventplane_store::Query::partition(TABLE.name, partition, 10_000);
            let page = self.store.query(&query).await.expect("no fault");
            let stands = page
                .items
                .iter()
                .any(|(key, _)| crate::host::host_at(&key.sort).as_ref() == Some(&host.id));
            assert_eq!(stands, host.state == HostState::Active, "{host:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_launches_at_once_fill_the_fleet_exactly_and_the_rest_are_refused() {
    for (hosts, vcpus) in [(6, 16), (40, 8)] {
        let site = Site::with(hosts, vcpus).await;
        let fits = hosts * vcpus as usize / 2;
        let launches = (0..fits + 10).map(|n| event(n as u64, 1, requested(spec(2)))).collect();
        site.hear_at_once(launches).await;
        assert_eq!(site.published("CapacityAllocated"), fits);
        assert_eq!(site.published("LaunchFailed"), 10);
        assert!(site.free_vcpus().await.iter().all(|free| *free == 0));
        site.check_index().await;
        let back = (0..fits + 10).map(|n| event(n as u64, 1, withdrawn(Outcome::Terminate)));
        site.hear_at_once(back.collect()).await;
        assert_eq!(site.published("CapacityReleased"), fits + 10);
        assert!(site.free_vcpus().await.iter().all(|free| *free == i64::from(vcpus)));
        site.check_index().await;
    }
}

#[tokio::test]
async fn a_decision_takes_at_most_four_reads_and_most_reservations_two_writes() {
    for (hosts, reads) in [(12, 3), (300, 4)] {
        let site = Site::with(hosts, 64).await;
        let before = site.store.stats();
        site.hear(event(1, 1, requested(spec(2)))).await;
        let stats = site.store.stats();
        assert_eq!(stats.reads - before.reads, reads, "{hosts} hosts");
        // The first launch on an empty host moves it one class down: out of one place of the
        // index, into another, and in the directory.
        assert_eq!(stats.items_written - before.items_written, 5);
    }
}

#[tokio::test]
async fn draining_hosts_take_nothing_new_and_give_back_what_they_held() {
    let site = Site::with(3, 16).await;
    site.hear_at_once((0..6).map(|n| event(n, 1, requested(spec(2)))).collect()).await;
    for n in 0..3 {
        let host = id(&format!("h-{n:05}"));
        let drained = fleet::set_state(&*site.store, &host, HostState::Draining).await;
        drained.expect("no fault").expect("drained");
    }
    site.hear(event(9, 1, requested(spec(2)))).await;
    assert_eq!(site.published("LaunchFailed"), 1);
    site.hear_at_once((0..6).map(|n| event(n, 1, withdrawn(Outcome::Terminate))).collect()).await;
    assert_eq!(site.free_vcpus().await, [16, 16, 16]);
    site.check_index().await;
    let back = fleet::set_state(&*site.store, &id("h-00001"), HostState::Active).await;
    back.expect("no fault").expect("active");
    site.check_index().await;
    site.hear(event(10, 1, requested(spec(2)))).await;
    assert_eq!(site.published("CapacityAllocated"), 7);
}

#[tokio::test]
async fn a_host_that_registers_again_changes_by_the_difference() {
    let site = Site::with(1, 16).await;
    site.hear(event(1, 1, requested(spec(4)))).await;
    let host = id("h-00000");
    let again = |vcpus| Registration {
        zone: "a".to_owned(),
        rack: "r9".to_owned(),
        vcpus,
        memory_mib: 65_536,
        network_mbps: 2_048,
        gpus: None,
        is_enrolled: false,
    };
    let grown = fleet::register(&*site.store, &host, &again(20)).await.expect("no fault");
    let grown = grown.expect("registered");
    assert_eq!((grown.total.vcpus, grown.free.vcpus, grown.rack.as_str()), (20, 16, "r9"));
    site.check_index().await;
    let refused = fleet::register(&*site.store, &host, &again(3)).await.expect("no fault");
    assert!(refused.expect_err("too small").message.contains("holds 4 vCPUs"));
    let moved = Registration { zone: "b".to_owned(), ..again(20) };
    let refused = fleet::register(&*site.store, &host, &moved).await.expect("no fault");
    assert!(refused.expect_err("moved").message.contains("under a new id"));
    let nothing = Registration { vcpus: 0, ..again(1) };
    let refused = fleet::register(&*site.store, &host, &nothing).await.expect("no fault");
    assert!(refused.expect_err("no room").message.contains("`vcpus`"));
    let zones = fleet::summary(&*site.store).await.expect("no fault");
    assert_eq!((zones[0].hosts, zones[0].total.vcpus, zones[0].free.vcpus), (1, 20, 16));
}

#[test]
fn a_receipt_of_room_reads_back() {
    let placement = host("h", "a", 1, None).placement();
    let item = claim(&placement, Sizes { vcpus: 2, ..Sizes::default() }, &[id("i")]);
    let receipt = Receipt {
        generation: 1,
        answer: Answer::Taken,
        deadline: Millis(1),
        reason: None,
        log: vec![],
        claim: item,
    };
    assert_eq!(super::placement(&receipt), Some(placement));
    assert_eq!(held(&receipt).map(|held| held.vcpus), Some(2));
    assert_eq!(not_again(Some(&receipt), 2), [id("i"), id("h")]);
    assert_eq!(not_again(Some(&receipt), 1), [id("h")]);
}

/// Two hosts of one shard are counted in the same directory, which a transaction may write once.
#[test]
fn what_two_hosts_change_in_one_directory_is_added_up() {
    let directory = || crate::host::directory_key("a", "-", 1);
    let host = |name: &str| crate::host::host_key(&id(name));
    let update = |key, updates: &[(&str, i64)]| {
        Write::update(key, updates.iter().map(|(name, n)| Update::add(*name, *n)).collect())
    };
    let taking =
        vec![update(host("h-1"), &[("free", -2)]), update(directory(), &[("c3", -1), ("c2", 1)])];
    let giving =
        vec![update(host("h-2"), &[("free", 2)]), update(directory(), &[("c2", -3), ("c4", 1)])];
    let both = update(directory(), &[("c3", -1), ("c2", -2), ("c4", 1)]);
    let right =
        vec![update(host("h-1"), &[("free", -2)]), both, update(host("h-2"), &[("free", 2)])];
    assert_eq!(together(taking, giving), right);
}
