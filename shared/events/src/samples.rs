//! One sample of every event, built from the real types so that none can drift: a launch and its
//! termination, and beside them what may come in between.

use crate::{
    CapacityAllocated, Data, Event, InstanceHalted, InstanceHandedOff, InstanceRequested,
    InstanceRunning, InstanceStartRequested, InstanceTerminated, InstanceWithdrawn, KINDS,
    LaunchFailed, Metadata, NetworkConfigured, Reboot, Returned, SCHEMA_VERSION,
    SecurityConfigured, TerminationRequested, VolumeProvisioned,
};
use eventplane_domain::{
    FirewallRule, HostId, Identity, InstanceId, Launch, LaunchSpec, Millis, Network, Outcome,
    Placement, Reason, Route, Step, Strategy, Tenant, Volume, VolumeSpec, code,
};

/// When the story of the samples begins: 2026-11-24T00:00:00Z.
const BEGIN: Millis = Millis(1_795_478_400_000);
/// How long the launch has, as its deadline says: five minutes.
const LAUNCH_MS: i64 = 300_000;
/// Between one event and the next that it caused.
const HOP_MS: i64 = 120;

/// A sample of every event, in the order of [`KINDS`].
#[must_use]
pub fn all() -> Vec<Event> {
    let mut samples = Vec::with_capacity(KINDS.len());
    // Hops: a request begins a chain, network, storage and security share theirs.
    samples.push(event(
        0,
        Data::InstanceRequested(InstanceRequested { spec: spec(), has_run: false, replaced: 0 }),
    ));
    samples.push(event(1, Data::CapacityAllocated(CapacityAllocated { launch: launch() })));
    samples.extend(side_by_side().map(|data| event(2, data)));
    let handed_off = InstanceHandedOff { placement: placement() };
    samples.push(event(3, Data::InstanceHandedOff(handed_off)));
    samples.push(event(0, Data::InstanceRunning(InstanceRunning { host: host().to_string() })));
    let halted = InstanceHalted { host: host().to_string(), reason: None, has_run: true };
    samples.push(event(0, Data::InstanceHalted(halted)));
    samples.push(event(1, Data::LaunchFailed(failed())));
    let asked = TerminationRequested { reason: asked() };
    samples.push(event(0, Data::InstanceStopRequested(asked.clone())));
    let start = InstanceStartRequested { reason: asked.reason.clone() };
    samples.push(event(0, Data::InstanceStartRequested(start)));
    samples.push(event(0, Data::InstanceRebootRequested(Reboot { number: 1 })));
    samples.push(event(1, Data::InstanceRebootOrdered(Reboot { number: 1 })));
    samples.push(event(0, Data::InstanceTerminationRequested(asked.clone())));
    let withdrawn = InstanceWithdrawn {
        outcome: Outcome::Terminate,
        reason: asked.reason.clone(),
        has_run: true,
    };
    samples.push(event(1, Data::InstanceWithdrawn(withdrawn)));
    let returned = Returned { for_good: true };
    samples.push(event(2, Data::CapacityReleased(returned.clone())));
    samples.push(event(2, Data::NetworkReleased(returned.clone())));
    samples.push(event(2, Data::VolumeReleased(returned.clone())));
    samples.push(event(2, Data::SecurityRevoked(returned)));
    let terminated = InstanceTerminated { reason: asked.reason };
    samples.push(event(3, Data::InstanceTerminated(terminated)));
    samples
}

fn event(hop: u32, data: Data) -> Event {
    let publisher = KINDS.iter().find(|kind| kind.name == data.name()).expect("is in the list");
    let metadata = Metadata {
        id: format!("e-{hop}"),
        kind: data.name().to_owned(),
        schemaversion: SCHEMA_VERSION.to_owned(),
        time: BEGIN.plus(i64::from(hop) * HOP_MS),
        source: format!("eventplane.{}", publisher.publishers[0]),
        subject: instance(),
        correlationid: "c-0190c6f6b5d07e1e".to_owned(),
        causationid: (hop > 0).then(|| format!("e-{}", hop - 1)),
        tenant: Tenant::local(),
        generation: 1,
        deadline: BEGIN.plus(LAUNCH_MS),
        hop,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    };
    Event { metadata, data }
}

fn instance() -> InstanceId {
    InstanceId::new(BEGIN, 0x00ab_cdef)
}

fn host() -> HostId {
    HostId::parse("host-a1-01").expect("a host's id")
}

fn volume() -> VolumeSpec {
    VolumeSpec {
        device: "/dev/sda1".to_owned(),
        volume_type: "gp3".to_owned(),
        size_gib: 8,
        iops: 3000,
        delete_on_termination: true,
    }
}

fn spec() -> LaunchSpec {
    LaunchSpec {
        reservation_id: "r-0123456789abcdef0".to_owned(),
        launch_index: 0,
        instance_type: "t3.micro".to_owned(),
        vcpus: 2,
        memory_mib: 1024,
        network_mbps: 100,
        gpus: None,
        image_id: "ami-0123456789abcdef0".to_owned(),
        volumes: vec![volume()],
        zone: None,
        subnet_id: None,
        private_ip: None,
        security_group_ids: vec![],
        role: Some("web".to_owned()),
        user_data_ref: None,
        strategy: Strategy::Spread,
    }
}

fn placement() -> Placement {
    Placement { host: host(), zone: "local-a".to_owned(), rack: "a1".to_owned() }
}

fn launch() -> Launch {
    Launch { spec: spec(), placement: placement(), has_run: false, replaced: 0 }
}

fn side_by_side() -> [Data; 3] {
    let provisioned = Volume {
        volume_id: instance().volume(0),
        spec: volume(),
        pool: "local-a/gp3/0".to_owned(),
        key_id: format!("key-{}", instance().digits()),
    };
    let identity = Identity {
        role: Some("web".to_owned()),
        credentials_ref: Some(format!("credentials/{}", instance())),
        credentials_version: 1,
        signing_key_id: "key-1".to_owned(),
    };
    [
        Data::NetworkConfigured(NetworkConfigured { launch: launch(), network: network() }),
        Data::VolumeProvisioned(VolumeProvisioned {
            launch: launch(),
            provisioned: vec![provisioned],
        }),
        Data::SecurityConfigured(SecurityConfigured { launch: launch(), identity }),
    ]
}

fn network() -> Network {
    let rule = |ingress, protocol: &str, ports, peer: &str| FirewallRule {
        ingress,
        protocol: protocol.to_owned(),
        ports,
        peer: peer.to_owned(),
    };
    Network {
        interface_id: instance().interface(),
        private_ip: "172.31.0.4".to_owned(),
        mac: "02:00:ac:1f:00:04".to_owned(),
        subnet_id: "subnet-0123456789abcdef0".to_owned(),
        cidr: "172.31.0.0/20".to_owned(),
        gateway: "172.31.0.1".to_owned(),
        security_group_ids: vec!["sg-0123456789abcdef0".to_owned()],
        rules: vec![
            rule(true, "tcp", Some((22, 22)), "10.0.0.0/8"),
            rule(false, "-1", None, "0.0.0.0/0"),
        ],
        routes: vec![Route { destination: "172.31.0.0/16".to_owned(), target: "local".to_owned() }],
    }
}

fn failed() -> LaunchFailed {
    LaunchFailed {
        step: Step::Capacity,
        reason: Reason::new(
            code::INSUFFICIENT_CAPACITY,
            "no host has 2 vCPUs, 1024 MiB and 100 Mbps free",
        ),
        has_run: false,
    }
}

fn asked() -> Reason {
    Reason::new(code::USER_SHUTDOWN, "User initiated")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HOPS_MAX;

    #[test]
    fn every_event_has_one_sample_in_the_order_of_the_list() {
        let of_samples: Vec<_> = all().iter().map(|event| event.data.name()).collect();
        let of_kinds: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(of_samples, of_kinds);
    }

    #[test]
    fn samples_name_their_cause_unless_a_person_or_a_host_began_them() {
        for event in all() {
            assert_eq!(event.metadata.causationid.is_some(), event.metadata.hop > 0);
            assert!(event.metadata.hop <= HOPS_MAX, "{event:?}");
        }
    }
}
