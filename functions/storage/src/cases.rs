//! What the tests of this crate begin with.

use eventplane_domain::{
    HostId, InstanceId, Launch, LaunchSpec, Millis, Outcome, Placement, Reason, Strategy, Tenant,
    VolumeSpec, code,
};
use eventplane_events::{
    CapacityAllocated, Data, Event, InstanceWithdrawn, Metadata, SCHEMA_VERSION,
};

pub(crate) const DEADLINE: Millis = Millis(1_795_000_060_000);
pub(crate) const NOW: Millis = Millis(1_795_000_000_000);

pub(crate) fn instance(number: u64) -> InstanceId {
    InstanceId::new(NOW, number)
}

pub(crate) fn volume(device: &str, volume_type: &str, size_gib: u32, iops: u32) -> VolumeSpec {
    VolumeSpec {
        device: device.to_owned(),
        volume_type: volume_type.to_owned(),
        size_gib,
        iops,
        delete_on_termination: true,
    }
}

pub(crate) fn root() -> VolumeSpec {
    volume("/dev/xvda", "gp3", 8, 3_000)
}

/// A data volume that outlives its instance.
pub(crate) fn data() -> VolumeSpec {
    VolumeSpec { delete_on_termination: false, ..volume("/dev/sdf", "io2", 100, 5_000) }
}

pub(crate) fn launch(zone: &str, volumes: Vec<VolumeSpec>) -> Launch {
    let spec = LaunchSpec {
        reservation_id: "r-1".to_owned(),
        launch_index: 0,
        instance_type: "t3.micro".to_owned(),
        vcpus: 2,
        memory_mib: 1024,
        network_mbps: 64,
        gpus: None,
        image_id: "ami-1".to_owned(),
        volumes,
        zone: None,
        subnet_id: None,
        private_ip: None,
        security_group_ids: vec![],
        role: None,
        user_data_ref: None,
        strategy: Strategy::Spread,
    };
    let host = HostId::parse("h-1").expect("a host id");
    let placement = Placement { host, zone: zone.to_owned(), rack: "r1".to_owned() };
    Launch { spec, placement, has_run: false, replaced: 0 }
}

pub(crate) fn event(instance: &InstanceId, generation: u32, data: Data) -> Event {
    Event {
        metadata: Metadata {
            id: "e-1".to_owned(),
            kind: data.name().to_owned(),
            schemaversion: SCHEMA_VERSION.to_owned(),
            time: NOW,
            source: "eventplane.test".to_owned(),
            subject: instance.clone(),
            correlationid: "c-1".to_owned(),
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

pub(crate) fn allocated(zone: &str, volumes: Vec<VolumeSpec>) -> Data {
    Data::CapacityAllocated(CapacityAllocated { launch: launch(zone, volumes) })
}

pub(crate) fn withdrawn(outcome: Outcome) -> Data {
    let reason = Reason::new(code::USER_SHUTDOWN, "asked");
    Data::InstanceWithdrawn(InstanceWithdrawn { outcome, reason, has_run: false })
}
