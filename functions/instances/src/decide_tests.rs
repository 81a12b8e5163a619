//! The table of cases: how far the record is, what is heard, what is written and published.

use super::*;
use crate::request::Want;
use eventplane_domain::{InstanceId, LaunchSpec, Outcome, Strategy, Tenant};
use eventplane_events::{
    InstanceRunning, InstanceStartRequested, InstanceWithdrawn, Metadata, Reboot, Returned,
    SCHEMA_VERSION,
};
use eventplane_store::Action;

const DEADLINE_MS: i64 = 60_000;
const NOW: Millis = Millis(5_000);

fn record() -> Record {
    let spec = LaunchSpec {
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
    };
    let id = InstanceId::new(Millis(1), 1);
    let token = Some("token".to_owned());
    let deadline = Millis(DEADLINE_MS);
    Record { token, ..Record::requested(Tenant::local(), id, spec, Millis(0), deadline) }
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
            deadline: Millis(DEADLINE_MS),
            hop: 1,
            traceparent: None,
        },
        data,
    }
}

fn running() -> Data {
    Data::InstanceRunning(InstanceRunning { host: "h-1".to_owned() })
}
fn withdrawn(outcome: Outcome) -> Data {
    let reason = Reason::new("Client.UserInitiatedShutdown", "asked");
    Data::InstanceWithdrawn(InstanceWithdrawn { outcome, reason, has_run: false })
}
fn back(data: fn(Returned) -> Data) -> Data {
    data(Returned { for_good: true })
}

/// The request behind a start.
fn start_of(event: &Event) -> Option<Request> {
    let Data::InstanceStartRequested(start) = &event.data else { return None };
    let (generation, reason) = (event.metadata.generation, start.reason.clone());
    let asked = Asked { wants: Want::Running, generation, at: Millis(1), reason };
    Some(Request { asked: Some(asked), ..Request::default() })
}

fn hear(record: Option<&Record>, event: &Event) -> Decision {
    let facts = Facts { record: record.cloned(), request: start_of(event), token_stands: true };
    let this =
        Instances { launch_deadline_ms: DEADLINE_MS, ending_deadline_ms: ENDING_DEADLINE_MS };
    decide(&this, event, &facts, NOW)
}

/// The record after the event, and what it published.
fn after(record: &Record, event: &Event) -> (Record, Vec<&'static str>) {
    let decision = hear(Some(record), event);
    let names = decision.events.iter().map(|emit| emit.data.name()).collect();
    let Some(Action::Put(item)) = decision.writes.first().map(|write| &write.action) else {
        return (record.clone(), names);
    };
    (Record::read(item).expect("a record"), names)
}

#[test]
fn a_launch_that_runs_is_nudged_no_more() {
    let (now, published) = after(&record(), &event(1, running()));
    assert_eq!((now.progress.state, published.len()), (State::Running, 0));
    assert_eq!((now.running_at, now.has_run, now.nudge_at), (Some(NOW), true, None));
    assert_eq!(hear(Some(&now), &event(1, running())), Decision::nothing());
}

#[test]
fn a_launch_that_its_host_let_go_before_it_was_heard_to_run_is_looked_at() {
    let let_go = Record { is_let_go: true, ..record() };
    let (now, _) = after(&let_go, &event(1, running()));
    assert_eq!((now.progress.state, now.is_let_go), (State::Running, false));
    assert_eq!(now.nudge_at, Some(NOW.plus(NUDGE_AFTER_MS)));
    let (next, _) = after(&let_go, &event(1, withdrawn(Outcome::Replace)));
    assert_eq!((next.progress.generation, next.is_let_go), (2, false));
}

#[test]
fn what_no_record_is_of_is_never_written() {
    assert_eq!(hear(None, &event(1, running())), Decision::nothing());
    assert_eq!(hear(None, &event(1, withdrawn(Outcome::Terminate))), Decision::nothing());
}

#[test]
fn the_fourth_that_gives_back_ends_it_and_sets_the_tokens_expiry() {
    let (mut now, _) = after(&record(), &event(1, withdrawn(Outcome::Terminate)));
    assert_eq!(now.progress.state, State::ShuttingDown);
    assert_eq!(now.reason.as_ref().map(|r| r.code.as_str()), Some("Client.UserInitiatedShutdown"));
    assert_eq!(now.nudge_at, Some(NOW.plus(NUDGE_AFTER_MS)));
    let all = [Data::NetworkReleased, Data::CapacityReleased, Data::SecurityRevoked];
    for data in all {
        let (next, published) = after(&now, &event(1, back(data)));
        assert_eq!((next.progress.state, published.len()), (State::ShuttingDown, 0));
        now = next;
    }
    let last = event(1, back(Data::VolumeReleased));
    let decision = hear(Some(&now), &last);
    assert_eq!(decision.writes.len(), 2, "the record, and the token's expiry");
    let expired = Facts { record: Some(now.clone()), request: None, token_stands: false };
    let this =
        Instances { launch_deadline_ms: DEADLINE_MS, ending_deadline_ms: ENDING_DEADLINE_MS };
    assert_eq!(decide(&this, &last, &expired, NOW).writes.len(), 1, "a token may be gone by then");
    let (ended, published) = after(&now, &last);
    assert_eq!((ended.progress.state, published), (State::Terminated, vec!["InstanceTerminated"]));
    assert_eq!((ended.ended_at, ended.nudge_at), (Some(NOW), None));
    let (same, published) = after(&ended, &last);
    assert_eq!((same, published), (ended, vec!["InstanceTerminated"]));
}

#[test]
fn what_was_counted_is_given_back_once_with_the_end() {
    for is_counted in [true, false] {
        let mut now = Record { is_counted, ..record() };
        let withdrawal = event(1, withdrawn(Outcome::Terminate));
        let back = [Data::NetworkReleased, Data::CapacityReleased, Data::SecurityRevoked]
            .map(|data| event(1, back(data)));
        let last = event(1, self::back(Data::VolumeReleased));
        let mut counters = 0;
        for heard in [&withdrawal].into_iter().chain(&back).chain([&last, &last, &withdrawal]) {
            let writes = hear(Some(&now), heard).writes;
            counters += writes.iter().filter(|write| write.key.sort == "quota").count();
            now = after(&now, heard).0;
        }
        assert_eq!((now.progress.state, now.is_counted), (State::Terminated, is_counted));
        assert_eq!(counters, usize::from(is_counted));
    }
}

#[test]
fn a_replacement_asks_for_the_next_generation_and_asks_again_when_it_hears_it_again() {
    let replaced = event(1, withdrawn(Outcome::Replace));
    let (now, published) = after(&record(), &replaced);
    assert_eq!((now.progress.generation, published), (2, vec!["InstanceRequested"]));
    assert_eq!((now.deadline, now.replaced), (NOW.plus(DEADLINE_MS), 1));
    let again = hear(Some(&now), &replaced);
    assert_eq!((again.writes.len(), again.events.len()), (0, 1));
    assert_eq!((again.events[0].generation, again.events[0].deadline), (2, now.deadline));
    let (ran, _) = after(&now, &event(2, running()));
    assert_eq!(ran.replaced, 0, "a host ran it: what comes next is counted anew");
    assert_eq!(hear(Some(&ran), &replaced), Decision::nothing());
    assert_eq!(hear(Some(&now), &event(1, running())), Decision::nothing());
}

#[test]
fn a_stop_is_done_when_the_room_is_given_back() {
    let (ran, _) = after(&record(), &event(1, running()));
    let (stopping, _) = after(&ran, &event(1, withdrawn(Outcome::Stop)));
    assert_eq!(stopping.progress.state, State::Stopping);
    let room = Data::CapacityReleased(Returned { for_good: false });
    let (stopped, _) = after(&stopping, &event(1, room));
    assert_eq!((stopped.progress.state, stopped.nudge_at), (State::Stopped, None));
    assert_eq!((stopping.due, stopped.due), (Some(NOW.plus(ENDING_DEADLINE_MS)), None));
    let start = |generation| {
        let reason = Reason::new("Client.UserInitiatedShutdown", "asked");
        event(generation, Data::InstanceStartRequested(InstanceStartRequested { reason }))
    };
    let (begun, published) = after(&stopped, &start(1));
    assert_eq!((begun.progress.generation, published), (2, vec!["InstanceRequested"]));
    assert_eq!((begun.deadline, begun.has_run), (NOW.plus(DEADLINE_MS), true));
    let stale = Facts { record: Some(stopped), request: None, token_stands: true };
    let this =
        Instances { launch_deadline_ms: DEADLINE_MS, ending_deadline_ms: ENDING_DEADLINE_MS };
    assert_eq!(decide(&this, &start(1), &stale, NOW), Decision::nothing(), "nobody wants it now");
    let (same, published) = after(&begun, &start(1));
    assert_eq!((same, published), (begun, vec!["InstanceRequested"]), "it may have been lost");
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let mut odd = record();
    odd.tags.insert("Name".to_owned(), "a \"b\"".to_owned());
    odd.progress.returned.storage = true;
    odd.progress.room_returned = 3;
    odd.progress.withdrawn = Some(Outcome::Stop);
    odd.reason = Some(Reason::new("c", "m"));
    (odd.replaced, odd.reboots, odd.nudges, odd.due) = (1, 2, 3, Some(Millis(4)));
    odd.is_counted = true;
    for record in [record(), odd] {
        let Action::Put(item) = record.create().action else { panic!("a put") };
        assert_eq!(Record::read(&item).expect("readable"), record);
    }
}

#[test]
fn a_give_back_that_overtakes_its_withdrawal_does_not_change_when_it_began_to_run() {
    let (ran, _) = after(&record(), &event(1, running()));
    let began = Record { running_at: Some(Millis(1_000)), ..ran };
    let (then, _) = after(&began, &event(1, Data::CapacityReleased(Returned { for_good: true })));
    assert_eq!((then.progress.state, then.running_at), (State::Running, Some(Millis(1_000))));
}

#[test]
fn what_may_have_run_is_remembered_from_the_word_that_ends_it() {
    let reason = Reason::new("Server.HostDead", "dead");
    let replaced = InstanceWithdrawn { outcome: Outcome::Replace, reason, has_run: true };
    let (now, _) = after(&record(), &event(1, Data::InstanceWithdrawn(replaced)));
    assert!(now.has_run, "a failed start of the next generation must not terminate it");
}

#[test]
fn a_reboot_is_shown_once_its_host_has_the_order() {
    let ordered =
        |generation, number| event(generation, Data::InstanceRebootOrdered(Reboot { number }));
    let (ran, _) = after(&record(), &event(1, running()));
    let (now, published) = after(&ran, &ordered(1, 2));
    assert_eq!((now.reboots, now.progress, published.len()), (2, ran.progress, 0));
    for nothing in [ordered(1, 1), ordered(1, 2), ordered(2, 3)] {
        assert_eq!(hear(Some(&now), &nothing), Decision::nothing());
    }
    assert_eq!(hear(Some(&record()), &ordered(1, 1)), Decision::nothing(), "it does not run yet");
}

#[test]
fn a_stop_outlives_the_new_placement_that_it_meets_on_its_way() {
    let this =
        Instances { launch_deadline_ms: DEADLINE_MS, ending_deadline_ms: ENDING_DEADLINE_MS };
    let reason = Reason::new("Client.UserInitiatedShutdown", "asked");
    let (ran, _) = after(&record(), &event(1, running()));
    let asked =
        Asked { wants: Want::Stopped, generation: 1, at: Millis(1), reason: reason.clone() };
    let request = Some(Request { asked: Some(asked), version: 3, ..Request::default() });
    // The stop was written first: there is no next generation.
    let facts = Facts { record: Some(ran.clone()), request: request.clone(), token_stands: true };
    let replaced = event(1, withdrawn(Outcome::Replace));
    let decision = decide(&this, &replaced, &facts, NOW);
    let Action::Put(item) = &decision.writes[0].action else { panic!("a record") };
    let stopping = Record::read(item).expect("a record");
    assert_eq!((stopping.progress.state, stopping.progress.generation), (State::Stopping, 1));
    assert_eq!((stopping.reason, decision.events.len()), (Some(reason.clone()), 0));
    assert_eq!(decision.writes[1].action, Action::Check, "the user may want something else by now");
    // The new placement was first: the stop is one of the newest generation.
    let (next, _) = after(&ran, &replaced);
    let stop = event(1, Data::InstanceStopRequested(TerminationRequested { reason }));
    let facts = Facts { record: Some(next), request, token_stands: true };
    let decision = decide(&this, &stop, &facts, NOW);
    assert_eq!((decision.writes.len(), decision.events[0].generation), (0, 2));
    let of_its_own = Facts { record: Some(ran), ..facts };
    assert_eq!(decide(&this, &stop, &of_its_own, NOW), Decision::nothing());
    assert_eq!(
        decide(&this, &stop, &Facts { request: None, ..of_its_own }, NOW),
        Decision::nothing()
    );
}

#[test]
fn what_the_user_wants_is_read_where_it_counts_and_the_token_where_the_instance_ends() {
    let reason = || Reason::new("Client.UserInitiatedShutdown", "asked");
    let start = Data::InstanceStartRequested(InstanceStartRequested { reason: reason() });
    let stop = Data::InstanceStopRequested(TerminationRequested { reason: reason() });
    for (data, reads) in [
        (start, true),
        (stop, true),
        (withdrawn(Outcome::Replace), true),
        (withdrawn(Outcome::Stop), false),
        (withdrawn(Outcome::Terminate), false),
        (running(), false),
    ] {
        let event = event(1, data);
        assert_eq!(reads_the_request(&event), reads, "{}", event.data.name());
    }
    let mut ending = after(&record(), &event(1, withdrawn(Outcome::Terminate))).0;
    for data in [Data::NetworkReleased, Data::CapacityReleased, Data::SecurityRevoked] {
        assert_eq!(ends(&ending, &event(1, back(data))), None);
        ending = after(&ending, &event(1, back(data))).0;
    }
    let last = event(1, back(Data::VolumeReleased));
    assert_eq!(ends(&ending, &last), Some(("token", "r-1")));
    assert_eq!(ends(&Record { token: None, ..ending }, &last), None);
}

#[test]
fn a_token_expires_so_long_after_its_instance_has_ended() {
    let mut ended = record();
    assert_eq!(token_expiry(&ended), None);
    ended.ended_at = Some(NOW);
    let write = token_expiry(&ended).expect("it has a token");
    let at_s = (NOW.0 + TOKEN_KEPT_MS) / 1000;
    assert_eq!(write.action, Action::Update(vec![Update::set("expires_at", at_s)]));
    assert_eq!(write.conditions, [Condition::equals(RESERVATION, "r-1")]);
}

#[test]
fn a_new_placement_is_looked_at_no_later_than_its_deadline() {
    let this = Instances { launch_deadline_ms: 10_000, ending_deadline_ms: ENDING_DEADLINE_MS };
    let facts = Facts { record: Some(record()), request: None, token_stands: true };
    let decision = decide(&this, &event(1, withdrawn(Outcome::Replace)), &facts, NOW);
    let Action::Put(item) = &decision.writes[0].action else { panic!("a record") };
    let next = Record::read(item).expect("a record");
    assert_eq!((next.deadline, next.nudge_at), (NOW.plus(10_000), Some(NOW.plus(10_001))));
}

#[test]
fn only_the_word_on_the_generation_before_is_answered_with_the_next() {
    let third = {
        let (second, _) = after(&record(), &event(1, withdrawn(Outcome::Replace)));
        after(&second, &event(2, withdrawn(Outcome::Replace))).0
    };
    assert_eq!((third.progress.generation, third.replaced), (3, 2));
    let again = |generation| hear(Some(&third), &event(generation, withdrawn(Outcome::Replace)));
    assert_eq!(again(1), Decision::nothing());
    assert_eq!(again(2).events.len(), 1);
}
