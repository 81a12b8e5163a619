//! Cases of what is nudged, and sweeps of a real store.

use super::*;
use async_trait::async_trait;
use eventplane_domain::{InstanceId, LaunchSpec, Outcome, Reason, State, Strategy, Tenant};
use eventplane_engine::{Chance, Clock, Publisher};
use eventplane_instances::{Asked, NUDGE_AFTER_MS, Record, Request, Want};
use eventplane_local::store::EmbeddedStore;
use eventplane_store::Store;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

fn spec() -> LaunchSpec {
    LaunchSpec {
        reservation_id: "r-1".to_owned(),
        launch_index: 0,
        instance_type: "any".to_owned(),
        vcpus: 1,
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

pub(crate) fn record(n: u64, state: State) -> Record {
    let id = InstanceId::new(Millis(1), n);
    let mut record = Record::requested(Tenant::local(), id, spec(), Millis(0), Millis(60_000));
    record.progress.state = state;
    record.progress.withdrawn = match state {
        State::ShuttingDown | State::Terminated => Some(Outcome::Terminate),
        State::Stopping | State::Stopped => Some(Outcome::Stop),
        State::Pending | State::Running => None,
    };
    record.nudge_at = state.is_moving().then_some(Millis(NUDGE_AFTER_MS));
    record
}

pub(crate) fn request(wants: Want, generation: u32) -> Request {
    let reason = Reason::new("Client.UserInitiatedShutdown", "asked");
    let asked = Asked { wants, generation, at: Millis(0), reason };
    Request { asked: Some(asked), reboots: 1, ..Request::default() }
}

#[test]
fn what_the_record_waits_for_is_asked_again_and_what_it_does_not_show_comes_first() {
    use State::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
    let (launch, stop, end) = (
        Some("InstanceRequested"),
        Some("InstanceStopRequested"),
        Some("InstanceTerminationRequested"),
    );
    let (start, reboot) = (Some("InstanceStartRequested"), Some("InstanceRebootRequested"));
    for (state, wants, nudged, shown) in [
        (Pending, None, launch, true),
        (Running, None, None, true),
        (Stopping, None, stop, true),
        (Stopped, None, None, true),
        (ShuttingDown, None, end, true),
        (Terminated, None, None, true),
        (Pending, Some((Want::Terminated, 1)), end, false),
        (Running, Some((Want::Terminated, 1)), end, false),
        (Stopped, Some((Want::Terminated, 1)), end, false),
        (ShuttingDown, Some((Want::Terminated, 1)), end, true),
        (Terminated, Some((Want::Terminated, 1)), None, true),
        (Running, Some((Want::Stopped, 1)), stop, false),
        // A stop outlives a new placement: it holds until something else is asked for.
        (Running, Some((Want::Stopped, 0)), stop, false),
        (Pending, Some((Want::Stopped, 0)), stop, false),
        (Stopping, Some((Want::Stopped, 1)), stop, true),
        (Stopped, Some((Want::Stopped, 1)), None, true),
        (Stopped, Some((Want::Running, 1)), start, false),
        (Stopped, Some((Want::Running, 0)), None, true),
        (Pending, Some((Want::Running, 0)), launch, true),
        (Running, Some((Want::Rebooted, 1)), reboot, false),
        (Running, Some((Want::Rebooted, 0)), None, true),
        (Stopped, Some((Want::Rebooted, 1)), None, true),
    ] {
        let request = wants.map(|(wants, generation)| request(wants, generation));
        let open = Open { record: Some(record(1, state)), request };
        let name = open.nudge().map(|emit| emit.data.name());
        assert_eq!((name, open.request_is_shown()), (nudged, shown), "{state} and {wants:?}");
    }
    assert_eq!(Open { record: None, request: None }.nudge(), None);
    let let_go = Record { nudge_at: Some(Millis(1)), ..record(1, Running) };
    let open = Open { record: Some(let_go), request: None };
    assert_eq!(open.nudge().map(|emit| emit.data.name()), launch, "its host has let it go");
}

#[derive(Default)]
struct World {
    published: Mutex<Vec<Entry>>,
    now: AtomicI64,
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
        Millis(self.now.load(Ordering::SeqCst))
    }
}
impl Chance for World {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn site() -> (Arc<World>, Ports) {
    let world = Arc::new(World::default());
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&[TABLE]).expect("a store"));
    let (bus, clock, chance) = (world.clone(), world.clone(), world.clone());
    (world, Ports { store, bus, clock, chance })
}

async fn sweep_at(world: &World, ports: &Ports, now: i64) -> usize {
    world.now.store(now, Ordering::SeqCst);
    sweep(ports).await.expect("no fault").nudged
}

#[tokio::test]
async fn a_late_launch_is_nudged_once_per_interval_and_at_its_deadline_and_no_other() {
    let (world, ports) = site();
    for n in 0..120 {
        ports.store.transact(vec![record(n, State::Pending).create()]).await.expect("written");
    }
    ports.store.transact(vec![record(999, State::Running).create()]).await.expect("written");
    assert_eq!(sweep_at(&world, &ports, NUDGE_AFTER_MS - 1).await, 0);
    assert_eq!(sweep_at(&world, &ports, NUDGE_AFTER_MS + 10).await, 120);
    assert_eq!(sweep_at(&world, &ports, NUDGE_AFTER_MS + 11).await, 0);
    let deadline = 60_000;
    assert_eq!(sweep_at(&world, &ports, deadline).await, 0);
    assert_eq!(sweep_at(&world, &ports, deadline + 1).await, 120, "its time is over");
    let next = deadline + 1 + NUDGE_AFTER_MS;
    assert_eq!(sweep_at(&world, &ports, next - 1).await, 0);
    assert_eq!(sweep_at(&world, &ports, next).await, 120);
    world.now.store(next + 5, Ordering::SeqCst);
    assert_eq!(republish_open(&ports).await.expect("no fault").nudged, 120);
    let published = world.published.lock().expect("no panic");
    assert!(published.iter().all(|entry| entry.detail_type == "InstanceRequested"));
}

#[tokio::test]
async fn a_request_that_nobody_heard_is_nudged_until_the_record_shows_it() {
    let (world, ports) = site();
    let running = record(1, State::Running);
    let request = request(Want::Terminated, 1);
    let request = request.replace(None, &running.tenant, &running.id);
    ports.store.transact(vec![running.create(), request]).await.expect("written");
    assert_eq!(sweep_at(&world, &ports, NUDGE_AFTER_MS).await, 1);
    let mut ended = running.clone();
    ended.progress.state = State::Terminated;
    ended.progress.withdrawn = Some(Outcome::Terminate);
    ports.store.transact(vec![ended.replace(&running)]).await.expect("written");
    assert_eq!(sweep_at(&world, &ports, 3 * NUDGE_AFTER_MS).await, 0);
    let open = |shard| Query::index(TABLE.name, OPEN, open_partition(shard), 10);
    for shard in 0..OPEN_SHARDS {
        let left = ports.store.query(&open(shard)).await.expect("no fault");
        assert!(left.items.is_empty(), "what has ended is looked at no more: {left:?}");
    }
}

#[tokio::test]
async fn what_does_not_end_is_nudged_ever_more_seldom() {
    let (world, ports) = site();
    let ending = record(1, State::ShuttingDown);
    ports.store.transact(vec![ending.create()]).await.expect("written");
    let mut now = NUDGE_AFTER_MS;
    for waits in [2, 4, 8] {
        assert_eq!(sweep_at(&world, &ports, now - 1).await, 0);
        assert_eq!(sweep_at(&world, &ports, now).await, 1);
        now += waits * NUDGE_AFTER_MS;
    }
}
