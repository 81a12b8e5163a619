//! Events for the tests of this crate.

use eventplane_domain::{HostId, InstanceId, Launch, LaunchSpec, Millis, Placement, Tenant};
use eventplane_events::{Data, Event, Metadata, SCHEMA_VERSION};
use serde_json::json;

pub(crate) const DEADLINE: Millis = Millis(1_000);

pub(crate) fn spec() -> LaunchSpec {
    let spec = json!({
        "reservation_id": "r-1", "instance_type": "t3.micro", "vcpus": 2, "memory_mib": 1024,
        "network_mbps": 64, "image_id": "ami-1", "volumes": [],
    });
    serde_json::from_value(spec).expect("a specification")
}

pub(crate) fn launch(has_run: bool) -> Launch {
    let host = HostId::parse("h-1").expect("a host id");
    let placement = Placement { host, zone: "a".to_owned(), rack: "r1".to_owned() };
    Launch { spec: spec(), placement, has_run, replaced: 0 }
}

pub(crate) fn event(generation: u32, data: Data) -> Event {
    Event {
        metadata: Metadata {
            id: "e-1".to_owned(),
            kind: data.name().to_owned(),
            schemaversion: SCHEMA_VERSION.to_owned(),
            time: Millis(1),
            source: "eventplane.test".to_owned(),
            subject: InstanceId::new(Millis(1), 1),
            correlationid: "c-1".to_owned(),
            causationid: None,
            tenant: Tenant::local(),
            generation,
            deadline: DEADLINE,
            hop: 3,
            traceparent: None,
        },
        data,
    }
}
