//! The table of cases: what is recorded, what is heard, what becomes of it.

use super::*;
use eventplane_domain::{HostId, InstanceId, LaunchSpec, Placement, Step, Strategy, Tenant};
use eventplane_events::{
    Metadata, NetworkConfigured, SCHEMA_VERSION, SecurityConfigured, TerminationRequested,
    VolumeProvisioned,
};

const DEADLINE: Millis = Millis(1_000);

fn launch() -> Launch {
    let spec = LaunchSpec {
        reservation_id: "r-1".to_owned(),
        launch_index: 0,
        instance_type: "t3.micro".to_owned(),
        vcpus: 2,
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
    };
    Launch { spec, placement: placement(), has_run: false, replaced: 0 }
}

fn placement() -> Placement {
    let host = HostId::parse("h-1").expect("a host id");
    Placement { host, zone: "a".to_owned(), rack: "r1".to_owned() }
}

fn network() -> Network {
    Network {
        interface_id: "eni-1".to_owned(),
        private_ip: "172.31.0.9".to_owned(),
        mac: "02:00:00:00:00:01".to_owned(),
        subnet_id: "subnet-1".to_owned(),
        cidr: "172.31.0.0/20".to_owned(),
        gateway: "172.31.0.1".to_owned(),
        security_group_ids: vec![],
        rules: vec![],
        routes: vec![],
    }
}

fn identity() -> Identity {
    let signing_key_id = "k-1".to_owned();
    Identity { role: None, credentials_ref: None, credentials_version: 1, signing_key_id }
}

fn event(generation: u32, data: Data) -> Event {
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
            hop: 1,
            traceparent: None,
        },
        data,
    }
}

fn join(part: usize) -> Data {
    match part {
        0 => Data::NetworkConfigured(NetworkConfigured { launch: launch(), network: network() }),
        1 => Data::VolumeProvisioned(VolumeProvisioned { launch: launch(), provisioned: vec![] }),
        _ => {
            Data::SecurityConfigured(SecurityConfigured { launch: launch(), identity: identity() })
        }
    }
}

fn part(index: usize) -> Part {
    match index {
        0 => Part::Network(network()),
        1 => Part::Volumes(vec![]),
        _ => Part::Identity(identity()),
    }
}

fn requested() -> Data {
    Data::InstanceRequested(InstanceRequested { spec: launch().spec, has_run: false, replaced: 0 })
}

fn reason() -> Reason {
    Reason::new("Client.UserInitiatedShutdown", "asked")
}

fn terminate() -> Data {
    Data::InstanceTerminationRequested(TerminationRequested { reason: reason() })
}

fn stop() -> Data {
    Data::InstanceStopRequested(TerminationRequested { reason: reason() })
}

fn failed(has_run: bool) -> Data {
    Data::LaunchFailed(LaunchFailed { step: Step::Network, reason: reason(), has_run })
}

fn halted(host: &str, has_run: bool) -> Data {
    Data::InstanceHalted(InstanceHalted { host: host.to_owned(), reason: None, has_run })
}

fn receipt(generation: u32, stage: Stage, ended: Option<Outcome>) -> Receipt {
    let ending = ended.map(|outcome| Ending { outcome, reason: reason(), has_run: false });
    Receipt {
        ending,
        placement: Some(placement()),
        ..Receipt::next(None, generation, DEADLINE, stage, Millis(1))
    }
}

fn joined(parts: &[usize]) -> Receipt {
    let parts = parts.iter().map(|index| part(*index)).collect();
    Receipt { parts, ..receipt(1, Stage::Joining, None) }
}

fn assignment(offered: bool) -> Assignment {
    let (spec, placement) = (launch().spec, placement());
    let body = AssignmentBody {
        spec,
        placement,
        network: network(),
        volumes: vec![],
        identity: identity(),
    };
    Assignment {
        tenant: Tenant::local(),
        instance: InstanceId::new(Millis(1), 1),
        generation: 1,
        deadline: DEADLINE,
        offered,
        withdrawing: false,
        has_run: false,
        replaced: 0,
        reboots: 0,
        consoles: 0,
        body,
    }
}

/// What a decision comes to: how many writes, and which events in short.
fn outcome(decision: &Decision) -> (usize, Vec<String>) {
    let short = |emit: &Emit| match &emit.data {
        Data::InstanceWithdrawn(withdrawn) => {
            format!("{} {}", withdrawn.outcome.name(), emit.generation)
        }
        data => data.name().to_owned(),
    };
    (decision.writes.len(), decision.events.iter().map(short).collect())
}

fn check(
    name: &str,
    facts: Facts,
    generation: u32,
    data: Data,
    now: i64,
    expected: (usize, &[&str]),
) {
    let decision = decide(&event(generation, data), &facts, Millis(now));
    let (writes, events) = outcome(&decision);
    assert_eq!(
        (writes, events.iter().map(String::as_str).collect::<Vec<_>>()),
        (expected.0, expected.1.to_vec()),
        "{name}"
    );
}

fn none() -> Facts {
    Facts::default()
}
fn at(receipt: Receipt) -> Facts {
    Facts { receipt: Some(receipt), ..Facts::default() }
}
fn on_host(stage: Stage, ended: Option<Outcome>, offered: bool) -> Facts {
    let receipt = Some(receipt(1, stage, ended));
    Facts { receipt, assignment: Some(assignment(offered)), host_is_dead: false }
}
fn on_dead_host(stage: Stage, ended: Option<Outcome>) -> Facts {
    Facts { host_is_dead: true, ..on_host(stage, ended, true) }
}

const LATE: i64 = 1_001;
use Outcome::{Replace, Stop, Terminate};
use Stage::{HandedOff, Withdrawing, Withdrawn};

#[test]
fn joins_in_any_order_and_hands_off_with_the_third() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        check("first", none(), 1, join(order[0]), 5, (1, &[]));
        check("second", at(joined(&order[..1])), 1, join(order[1]), 5, (1, &[]));
        let two = at(joined(&order[..2]));
        check("third", two, 1, join(order[2]), 5, (3, &["InstanceHandedOff"]));
    }
    check("the same again", at(joined(&[0])), 1, join(0), 5, (0, &[]));
    let handed_off = on_host(HandedOff, None, false);
    check("again after all", handed_off, 1, join(2), 5, (0, &["InstanceHandedOff"]));
}

#[test]
fn a_join_that_comes_late_withdraws_and_one_that_comes_after_the_end_repeats_it() {
    check("first", none(), 1, join(0), LATE, (1, &["terminate 1"]));
    check("third", at(joined(&[0, 1])), 1, join(2), LATE, (1, &["terminate 1"]));
    let ended = || at(receipt(1, Withdrawn, Some(Terminate)));
    check("after the end", ended(), 1, join(0), 5, (0, &["terminate 1"]));
    check("after the end, newer", ended(), 2, join(0), 5, (0, &["terminate 1"]));
    check("after a newer one", at(receipt(2, HandedOff, None)), 1, join(0), 5, (0, &[]));
    let replaced = at(receipt(1, Withdrawn, Some(Replace)));
    check("of the next generation", replaced, 2, join(0), 5, (1, &[]));
    let dead = Facts { host_is_dead: true, ..at(joined(&[0, 1])) };
    check("to a dead host", dead, 1, join(2), 5, (1, &["replace 1"]));
    let going = at(receipt(1, Withdrawing, Some(Terminate)));
    check("while the host is asked to let go", going, 1, join(0), 5, (0, &[]));
}

#[test]
fn a_refusal_ends_what_no_host_has() {
    check("unknown", none(), 1, failed(false), 5, (1, &["terminate 1"]));
    check("what has run is stopped", none(), 2, failed(true), 5, (1, &["stop 2"]));
    check("joining", at(joined(&[0])), 1, failed(false), 5, (1, &["terminate 1"]));
    check("handed off", on_host(HandedOff, None, false), 1, failed(false), 5, (0, &[]));
    let ended = at(receipt(1, Withdrawn, Some(Terminate)));
    check("again", ended, 1, failed(false), 5, (0, &["terminate 1"]));
}

#[test]
fn a_nudge_repeats_what_is_recorded_and_enforces_the_deadline() {
    check("unknown, in time", none(), 1, requested(), 5, (0, &[]));
    check("unknown, late", none(), 1, requested(), LATE, (1, &["terminate 1"]));
    check("joining, in time", at(joined(&[0])), 1, requested(), 5, (0, &[]));
    check("joining, late", at(joined(&[0])), 1, requested(), LATE, (1, &["terminate 1"]));
    let unseen = || on_host(HandedOff, None, false);
    let seen = || on_host(HandedOff, None, true);
    check("handed off", unseen(), 1, requested(), 5, (0, &["InstanceHandedOff"]));
    check("never offered, late", unseen(), 1, requested(), LATE, (3, &["replace 1"]));
    check("offered, late: it may run", seen(), 1, requested(), LATE, (0, &["InstanceHandedOff"]));
    let dead = on_dead_host(HandedOff, None);
    check("offered to a host that died", dead, 1, requested(), 5, (3, &["replace 1"]));
    let going = on_host(Withdrawing, Some(Stop), true);
    check("the promise is awaited", going, 1, requested(), LATE, (0, &[]));
    let dead = on_dead_host(Withdrawing, Some(Stop));
    check("awaited of a dead host", dead, 1, requested(), 5, (3, &["stop 1"]));
    check("ended", at(receipt(1, Withdrawn, Some(Stop))), 1, requested(), 5, (0, &["stop 1"]));
    check(
        "next, late",
        at(receipt(1, Withdrawn, Some(Stop))),
        2,
        requested(),
        LATE,
        (1, &["terminate 2"]),
    );
}

#[test]
fn a_termination_is_never_stale_and_waits_for_the_host_that_may_have_seen_it() {
    check("unknown", none(), 1, terminate(), 5, (1, &["terminate 1"]));
    check("joining", at(joined(&[0, 1])), 1, terminate(), 5, (1, &["terminate 1"]));
    check(
        "never offered",
        on_host(HandedOff, None, false),
        1,
        terminate(),
        5,
        (3, &["terminate 1"]),
    );
    check("offered", on_host(HandedOff, None, true), 1, terminate(), 5, (3, &[]));
    check(
        "offered, dead host",
        on_dead_host(HandedOff, None),
        1,
        terminate(),
        5,
        (3, &["terminate 1"]),
    );
    check(
        "beats a stop under way",
        on_host(Withdrawing, Some(Stop), true),
        1,
        terminate(),
        5,
        (3, &[]),
    );
    let going = on_host(Withdrawing, Some(Terminate), true);
    check("again", going, 1, terminate(), 5, (0, &[]));
    check(
        "beats a stop",
        at(receipt(1, Withdrawn, Some(Stop))),
        1,
        terminate(),
        5,
        (1, &["terminate 1"]),
    );
    let ended = at(receipt(1, Withdrawn, Some(Terminate)));
    check("ended", ended, 1, terminate(), 5, (0, &["terminate 1"]));
    let newer = Facts { receipt: Some(receipt(2, Stage::Joining, None)), ..none() };
    check("of an older generation", newer, 1, terminate(), 5, (1, &["terminate 2"]));
}

#[test]
fn a_stop_is_for_its_own_generation_and_never_beats_a_termination() {
    check("offered", on_host(HandedOff, None, true), 1, stop(), 5, (3, &[]));
    check("stale", at(receipt(2, HandedOff, None)), 1, stop(), 5, (0, &[]));
    let ended = at(receipt(1, Withdrawn, Some(Terminate)));
    check("terminated", ended, 1, stop(), 5, (0, &["terminate 1"]));
    let going = on_host(Withdrawing, Some(Terminate), true);
    check("being terminated", going, 1, stop(), 5, (0, &[]));
}

#[test]
fn the_hosts_promise_ends_what_it_was_offered() {
    check("unknown", none(), 1, halted("h-1", false), 5, (0, &[]));
    let seen = || on_host(HandedOff, None, true);
    check("it never ran", seen(), 1, halted("h-1", false), 5, (3, &["replace 1"]));
    check("it has run", seen(), 1, halted("h-1", true), 5, (3, &["stop 1"]));
    check("another host's word", seen(), 1, halted("h-2", false), 5, (0, &[]));
    let asked = || on_host(Withdrawing, Some(Terminate), true);
    check("asked for", asked(), 1, halted("h-1", true), 5, (3, &["terminate 1"]));
    check("a promise up to a newer one", asked(), 2, halted("h-1", true), 5, (3, &["terminate 1"]));
    let newer = Facts { receipt: Some(receipt(2, HandedOff, None)), ..seen() };
    check("an older promise", newer, 1, halted("h-1", false), 5, (0, &[]));
    let ended = at(receipt(1, Withdrawn, Some(Terminate)));
    check("again", ended, 1, halted("h-1", false), 5, (0, &["terminate 1"]));
}

#[test]
fn a_receipt_comes_back_as_it_was_written() {
    use eventplane_store::{Action, apply};
    for receipt in [
        joined(&[0, 2]),
        receipt(3, Withdrawing, Some(Stop)),
        receipt(2, Withdrawn, Some(Terminate)),
        receipt(1, HandedOff, None),
    ] {
        let write =
            receipt.write(receipt_key(&Tenant::local(), &InstanceId::new(Millis(1), 1)), None);
        let Action::Put(item) = write.action else { panic!("a put") };
        assert_eq!(Receipt::read(Some(&item)).expect("readable"), Some(receipt));
        assert!(apply(Action::Check, Some(item)).is_some());
    }
}

#[test]
fn an_assignment_comes_back_as_it_was_written_each_field_in_its_own_place() {
    use eventplane_domain::VolumeSpec;
    let spec = VolumeSpec {
        device: "/dev/xvda".to_owned(),
        volume_type: "gp3".to_owned(),
        size_gib: 8,
        iops: 3_000,
        delete_on_termination: true,
    };
    let volume = Volume {
        volume_id: "vol-1".to_owned(),
        spec: spec.clone(),
        pool: "a/gp3/1".to_owned(),
        key_id: "key-1".to_owned(),
    };
    let given = Assignment { generation: 2, has_run: true, replaced: 1, ..assignment(false) };
    let mut assignment = Assignment { reboots: 3, ..given };
    assignment.body.spec.volumes = vec![spec];
    assignment.body.volumes = vec![volume];
    let write = assignment.put();
    let eventplane_store::Action::Put(item) = write.action else { panic!("a put") };
    assert_eq!(Assignment::read(&write.key, &item).expect("readable"), assignment);
}

#[test]
fn what_an_agent_lets_go_of_because_its_host_was_declared_dead_ends_with_that_reason() {
    for (facts, code) in [
        (on_dead_host(HandedOff, None), code::HOST_DEAD),
        (on_host(HandedOff, None, true), code::INTERNAL),
    ] {
        let decision = decide(&event(1, halted("h-1", false)), &facts, Millis(5));
        let Data::InstanceWithdrawn(withdrawn) = &decision.events[0].data else {
            panic!("it ends")
        };
        assert_eq!(withdrawn.reason.code, code);
    }
}

/// What is said of the generation that the decision ends.
fn withdrawn_by(decision: &Decision) -> InstanceWithdrawn {
    match &decision.events[0].data {
        Data::InstanceWithdrawn(withdrawn) => withdrawn.clone(),
        other => panic!("{other:?} ends nothing"),
    }
}

#[test]
fn what_a_dead_host_had_is_placed_again_and_what_it_was_offered_may_have_run() {
    let host_dead = Reason::new(code::HOST_DEAD, "the host h-1 was declared dead");
    let halt = Data::InstanceHalted(InstanceHalted {
        host: "h-1".to_owned(),
        reason: Some(host_dead),
        has_run: false,
    });
    let mut often = on_dead_host(HandedOff, None);
    often.assignment.as_mut().expect("it has one").replaced = 9;
    let unseen = Facts { host_is_dead: true, ..on_host(HandedOff, None, false) };
    for (facts, has_run) in [(on_dead_host(HandedOff, None), true), (often, true), (unseen, false)]
    {
        let ended = withdrawn_by(&decide(&event(1, halt.clone()), &facts, Millis(5)));
        assert_eq!((ended.outcome, ended.has_run), (Replace, has_run));
    }
}

#[test]
fn a_launch_that_no_host_runs_goes_to_so_many_hosts_and_no_more() {
    for (replaced, has_run, ends) in [
        (0, false, Replace),
        (PLACEMENTS_MAX - 2, false, Replace),
        (PLACEMENTS_MAX - 1, false, Terminate),
        (0, true, Replace),
        (PLACEMENTS_MAX - 1, true, Stop),
    ] {
        for (data, now, offered) in [(halted("h-1", false), 5, true), (requested(), LATE, false)] {
            let mut facts = on_host(HandedOff, None, offered);
            let assignment = facts.assignment.as_mut().expect("it has one");
            (assignment.replaced, assignment.has_run) = (replaced, has_run);
            let ended = withdrawn_by(&decide(&event(1, data), &facts, Millis(now)));
            assert_eq!((ended.outcome, ended.has_run), (ends, has_run), "{replaced} before");
        }
    }
}

#[test]
fn a_refusal_after_a_replacement_says_why_there_was_one() {
    let replaced = at(receipt(1, Withdrawn, Some(Replace)));
    let ended = withdrawn_by(&decide(&event(2, failed(false)), &replaced, Millis(5)));
    assert_eq!(ended.outcome, Terminate);
    assert_eq!(ended.reason.message, "asked; before that: asked");
}

#[test]
fn a_reboot_is_ordered_once_of_the_host_that_has_the_instance() {
    let reboot = |number| Data::InstanceRebootRequested(Reboot { number });
    let running = |reboots| {
        let mut facts = on_host(HandedOff, None, true);
        facts.assignment.as_mut().expect("it has one").reboots = reboots;
        facts
    };
    check("first", running(0), 1, reboot(1), 5, (2, &["InstanceRebootOrdered"]));
    check("again", running(1), 1, reboot(1), 5, (0, &["InstanceRebootOrdered"]));
    check("an older one", running(2), 1, reboot(1), 5, (0, &["InstanceRebootOrdered"]));
    check("the next", running(1), 1, reboot(2), 5, (2, &["InstanceRebootOrdered"]));
    check("of another generation", running(0), 2, reboot(1), 5, (0, &[]));
    check("going", on_host(Withdrawing, Some(Stop), true), 1, reboot(1), 5, (0, &[]));
    let ended = at(receipt(1, Withdrawn, Some(Stop)));
    check("it ended, unheard", ended, 1, reboot(1), 5, (0, &["stop 1"]));
    check("unknown", none(), 1, reboot(1), 5, (0, &[]));
}

#[path = "written_tests.rs"]
mod written;
