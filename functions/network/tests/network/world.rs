//! A small world around the step: a store in memory, a bus that remembers, a clock that is set.

use async_trait::async_trait;
use eventplane_domain::{
    HostId, InstanceId, Launch, LaunchSpec, Millis, Outcome, Placement, Reason, Strategy, Tenant,
    code,
};
use eventplane_engine::{Chance, Clock, Dice, Fault, Function, Handler, Ports, Publisher};
use eventplane_events::{
    CapacityAllocated, Data, Entry, Event, InstanceWithdrawn, Metadata, SCHEMA_VERSION, envelope,
    read,
};
use eventplane_local::store::EmbeddedStore;
use eventplane_network::{Networking, TABLE, seed};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) const NOW: Millis = Millis(1_795_000_000_000);
pub(crate) const DEADLINE: Millis = Millis(NOW.0 + 300_000);
pub(crate) const ZONE: &str = "zone-a";

struct Remembering(Mutex<Vec<Event>>);

#[async_trait]
impl Publisher for Remembering {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        let events = entries.iter().map(|entry| {
            read(&envelope(entry, "0", "2026-11-18T00:26:40Z")).expect("what is published is read")
        });
        self.0.lock().expect("not poisoned").extend(events);
        Ok(())
    }
}

struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::Relaxed))
    }
}

struct Seeded(Mutex<Dice>);

impl Chance for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = self.0.lock().expect("not poisoned");
        bytes.fill_with(|| dice.draw().to_le_bytes()[0]);
    }
}

pub(crate) struct World {
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) ports: Ports,
    pub(crate) step: Function<Networking>,
    pub(crate) tenant: Tenant,
    bus: Arc<Remembering>,
    clock: Arc<Set>,
}

impl World {
    /// A world with what a tenant begins with, in these zones.
    pub(crate) async fn new(zones: &[&str]) -> World {
        let store = Arc::new(EmbeddedStore::in_memory(&[TABLE]).expect("a store in memory"));
        let tenant = Tenant::local();
        let zones: Vec<String> = zones.iter().map(ToString::to_string).collect();
        seed(&*store, &tenant, &zones).await.expect("seeded");
        let bus = Arc::new(Remembering(Mutex::default()));
        let clock = Arc::new(Set(AtomicI64::new(NOW.0)));
        let ports = Ports {
            store: store.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            chance: Arc::new(Seeded(Mutex::new(Dice::new(7)))),
        };
        let step = Function::new(Networking, ports.clone());
        World { store, ports, step, tenant, bus, clock }
    }

    pub(crate) fn pass(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    /// Lets the step handle the event, and returns what it published.
    pub(crate) async fn hear(&self, event: &Event) -> Vec<Data> {
        self.step.handle(&message(event)).await.expect("handled");
        let mut published = self.bus.0.lock().expect("not poisoned");
        let events = std::mem::take(&mut *published);
        events.into_iter().map(|event| event.data).collect()
    }

    /// The same, of which exactly one was published.
    pub(crate) async fn answer(&self, event: &Event) -> Data {
        let mut answers = self.hear(event).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// All that was published since anybody last looked.
    pub(crate) fn published(&self) -> Vec<Event> {
        std::mem::take(&mut *self.bus.0.lock().expect("not poisoned"))
    }
}

pub(crate) fn message(event: &Event) -> String {
    envelope(&event.entry(), "0", "2026-11-18T00:26:40Z")
}

pub(crate) fn instance(n: u64) -> InstanceId {
    InstanceId::new(NOW, n)
}

pub(crate) fn spec() -> LaunchSpec {
    LaunchSpec {
        reservation_id: "r-01a1f0b3c0000001".to_owned(),
        launch_index: 0,
        instance_type: "t3.micro".to_owned(),
        vcpus: 2,
        memory_mib: 1024,
        network_mbps: 500,
        gpus: None,
        image_id: "ami-0123456789abcdef0".to_owned(),
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

pub(crate) fn event(instance: &InstanceId, generation: u32, data: Data) -> Event {
    Event {
        metadata: Metadata {
            id: "01234567-0000-7000-8000-000000000000".to_owned(),
            kind: data.name().to_owned(),
            schemaversion: SCHEMA_VERSION.to_owned(),
            time: NOW,
            source: "eventplane.test".to_owned(),
            subject: instance.clone(),
            correlationid: "01234567-0000-7000-8000-000000000001".to_owned(),
            causationid: None,
            tenant: Tenant::local(),
            generation,
            deadline: DEADLINE,
            hop: 1,
            traceparent: None,
        },
        data,
    }
}

pub(crate) fn allocated(
    instance: &InstanceId,
    generation: u32,
    zone: &str,
    spec: LaunchSpec,
) -> Event {
    let placement = Placement {
        host: HostId::parse("host-1").expect("a host's id"),
        zone: zone.to_owned(),
        rack: "rack-1".to_owned(),
    };
    let launch = Launch { spec, placement, has_run: false, replaced: 0 };
    event(instance, generation, Data::CapacityAllocated(CapacityAllocated { launch }))
}

pub(crate) fn withdrawn(instance: &InstanceId, generation: u32, outcome: Outcome) -> Event {
    let reason = Reason::new(code::USER_SHUTDOWN, "asked for");
    event(
        instance,
        generation,
        Data::InstanceWithdrawn(InstanceWithdrawn { outcome, reason, has_run: false }),
    )
}
