//! Histories that are good, and for each rule histories that break it and no other.

use super::*;

/// A call that took from `begun` to `begun + 5`.
fn call(begun: u64, ask: Ask, got: Got) -> Call {
    Call { begun, ended: begun + 5, ask, got }
}

fn launch(token: Option<&str>, label: &str, count: usize) -> Ask {
    Ask::Launch { token: token.map(str::to_owned), label: label.to_owned(), count }
}

/// An instance of the label that is its id without what follows a dot.
fn is(id: &str, state: State, generation: u32) -> Seen {
    let label = id.split('.').next().unwrap_or(id).to_owned();
    let by_user = !matches!(state, State::Running);
    Seen { id: id.to_owned(), label, state, generation, by_user }
}

/// The launch of `a`, at 0.
fn launched() -> Call {
    call(0, launch(Some("t"), "a", 1), Got::Seen(vec![is("a", State::Pending, 1)]))
}

fn show(begun: u64, state: State, generation: u32) -> Call {
    call(begun, Ask::Show("a".to_owned()), Got::Seen(vec![is("a", state, generation)]))
}

fn ask(begun: u64, verb: Verb, got: Got) -> Call {
    call(begun, Ask::Do(verb, "a".to_owned()), got)
}

fn stopped(begun: u64) -> Call {
    ask(begun, Verb::Stop, Got::Changed(State::Running, State::Stopping))
}

fn started(begun: u64) -> Call {
    ask(begun, Verb::Start, Got::Changed(State::Stopped, State::Pending))
}

fn terminated(begun: u64) -> Call {
    ask(begun, Verb::Terminate, Got::Changed(State::Running, State::ShuttingDown))
}

fn list(begun: u64, seen: Vec<Seen>) -> Call {
    call(begun, Ask::List, Got::Seen(seen))
}

fn refused(status: u16, code: &str) -> Got {
    Got::Refused(status, code.to_owned())
}

/// Which rules the calls break after the launch of `a`.
fn broken(calls: Vec<Call>) -> Vec<Rule> {
    let history: Vec<Call> = std::iter::once(launched()).chain(calls).collect();
    let rules: BTreeSet<Rule> = judge(&history).into_iter().map(|wrong| wrong.rule).collect();
    rules.into_iter().collect()
}

#[test]
fn a_whole_life_is_good() {
    let life = vec![
        show(10, State::Pending, 1),
        show(20, State::Running, 1),
        stopped(30),
        show(40, State::Stopping, 1),
        show(50, State::Stopped, 1),
        started(60),
        show(70, State::Pending, 1),
        show(80, State::Pending, 2),
        show(90, State::Running, 2),
        terminated(100),
        show(110, State::ShuttingDown, 2),
        show(120, State::Terminated, 2),
        ask(130, Verb::Terminate, Got::Changed(State::Terminated, State::Terminated)),
        ask(140, Verb::Stop, refused(409, "IncorrectInstanceState")),
        list(150, vec![is("a", State::Terminated, 2)]),
    ];
    assert_eq!(broken(life), []);
}

#[test]
fn answers_that_overlap_may_come_in_any_order() {
    let mut long = show(10, State::Pending, 1);
    long.ended = 100;
    assert_eq!(broken(vec![long, show(20, State::Running, 1)]), []);
    assert_eq!(
        broken(vec![show(20, State::Running, 1), show(25, State::Pending, 1)]),
        [],
        "the second began as the first ended"
    );
}

#[test]
fn what_was_lost_may_have_been_done_or_not() {
    let lost = |begun, verb| ask(begun, verb, Got::Unknown);
    let runs = || show(10, State::Running, 1);
    assert_eq!(broken(vec![runs(), lost(20, Verb::Stop), show(30, State::Running, 1)]), []);
    assert_eq!(broken(vec![runs(), lost(20, Verb::Stop), show(30, State::Stopped, 1)]), []);
    assert_eq!(broken(vec![lost(20, Verb::Terminate), show(30, State::Terminated, 1)]), []);
    let started = vec![runs(), stopped(20), lost(30, Verb::Start), show(40, State::Running, 2)];
    assert_eq!(broken(started), []);
}

#[test]
fn no_state_goes_back() {
    for (before, after) in [
        ((State::Running, 1), (State::Pending, 1)),
        ((State::Stopped, 1), (State::Stopping, 1)),
        ((State::Running, 2), (State::Stopped, 1)),
        ((State::ShuttingDown, 1), (State::Running, 1)),
        ((State::Terminated, 1), (State::ShuttingDown, 1)),
        ((State::Terminated, 1), (State::Running, 2)),
    ] {
        // All of them asked for, but not acknowledged.
        let asked = [Verb::Stop, Verb::Start, Verb::Terminate];
        let asked = asked.map(|verb| Call { ended: 900, ..ask(6, verb, Got::Unknown) });
        let seen = [show(20, before.0, before.1), show(30, after.0, after.1)];
        let calls = asked.into_iter().chain(seen).collect();
        let right: &[Rule] = match (before, after) {
            // Pending, it may have been asked to start again.
            ((State::Running, 1), (State::Pending, 1)) => &[],
            _ => &[Rule::Forward],
        };
        assert_eq!(broken(calls), right, "{before:?} {after:?}");
    }
}

#[test]
fn a_verb_that_finds_an_ended_instance_alive_is_wrong() {
    let ended = vec![terminated(10), stopped(20)];
    assert_eq!(broken(ended), [Rule::Forward]);
}

#[test]
fn an_acknowledged_termination_is_seen() {
    assert_eq!(broken(vec![terminated(10), show(20, State::ShuttingDown, 1)]), []);
    for state in [State::Pending, State::Running, State::Stopped] {
        let calls = vec![stopped(7), terminated(20), show(30, state, 1)];
        assert!(broken(calls).contains(&Rule::Forward), "{state}");
    }
}

#[test]
fn an_acknowledged_stop_holds_until_a_start() {
    let runs = show(10, State::Running, 1);
    let calls = |between: Vec<Call>, state, generation| {
        let before = vec![runs.clone(), stopped(20)];
        before.into_iter().chain(between).chain([show(60, state, generation)]).collect()
    };
    assert_eq!(broken(calls(vec![], State::Running, 1)), [Rule::Acknowledged]);
    assert_eq!(broken(calls(vec![started(40)], State::Running, 2)), []);
    let refused = ask(40, Verb::Start, refused(409, "IncorrectInstanceState"));
    assert!(broken(calls(vec![refused], State::Running, 2)).contains(&Rule::Acknowledged));
    let earlier = ask(6, Verb::Start, Got::Unknown);
    let calls = vec![earlier, runs.clone(), stopped(20), show(60, State::Running, 2)];
    assert_eq!(broken(calls), [Rule::Acknowledged], "that start was before the stop");
}

#[test]
fn an_acknowledged_start_holds_unless_there_is_no_room() {
    let back = |by_user| {
        let mut stopped = show(60, State::Stopped, 2);
        if let Got::Seen(seen) = &mut stopped.got {
            seen[0].by_user = by_user;
        }
        stopped
    };
    let before = [show(10, State::Running, 1), stopped(20), started(40)];
    let after = |last| before.iter().cloned().chain([last]).collect();
    assert_eq!(broken(after(back(false))), []);
    assert_eq!(broken(after(back(true))), [Rule::Acknowledged]);
}

#[test]
fn nothing_happens_that_nobody_asked_for() {
    assert_eq!(broken(vec![show(20, State::Stopped, 1)]), [Rule::Caused]);
    assert_eq!(broken(vec![show(20, State::Terminated, 1)]), [Rule::Caused]);
    assert_eq!(broken(vec![show(20, State::Running, 2)]), [Rule::Caused]);
    let twice = [show(10, State::Running, 1), stopped(20), started(40), started(50)];
    let third = twice.iter().cloned().chain([show(60, State::Running, 3)]).collect();
    assert_eq!(broken(third), [], "two starts, two generations");
    let third = vec![twice[0].clone(), stopped(20), started(40), show(60, State::Running, 3)];
    assert_eq!(broken(third), [Rule::Caused], "one start, two generations");
}

#[test]
fn a_launch_that_has_failed_may_be_terminated_once_more() {
    let mut failed = show(20, State::Terminated, 1);
    if let Got::Seen(seen) = &mut failed.got {
        seen[0].by_user = false;
    }
    let again = ask(30, Verb::Terminate, Got::Changed(State::Terminated, State::Terminated));
    assert_eq!(broken(vec![failed, again]), []);
}

#[test]
fn an_answered_id_stays() {
    let missing = ask(20, Verb::Stop, refused(404, "InvalidInstanceID.NotFound"));
    assert_eq!(broken(vec![missing]), [Rule::Kept]);
    assert_eq!(broken(vec![list(20, vec![])]), [Rule::Kept]);
    assert_eq!(broken(vec![list(3, vec![])]), [], "it was answered after the list began");
}

#[test]
fn there_is_no_instance_that_nobody_asked_for() {
    let of = |id| is(id, State::Pending, 1);
    assert_eq!(broken(vec![list(20, vec![of("a"), of("b")])]), [Rule::Asked]);
    assert_eq!(broken(vec![list(20, vec![of("a"), of("a")])]), [Rule::Asked]);
    assert_eq!(broken(vec![list(20, vec![of("a"), of("a.2")])]), [Rule::Asked]);
    let lost = call(10, launch(None, "b", 2), Got::Unknown);
    let after = |listed| vec![lost.clone(), list(20, listed)];
    assert_eq!(broken(after(vec![of("a"), of("b.1"), of("b.2")])), []);
    assert_eq!(broken(after(vec![of("a")])), []);
    let three = vec![of("a"), of("b.1"), of("b.2"), of("b.3")];
    assert_eq!(broken(after(three)), [Rule::Asked]);
    let refused = call(10, launch(None, "b", 1), refused(400, "InvalidParameterValue"));
    assert_eq!(broken(vec![refused, list(20, vec![of("a"), of("b")])]), [Rule::Asked]);
    let few = call(10, launch(None, "b", 2), Got::Seen(vec![of("b")]));
    assert_eq!(broken(vec![few]), [Rule::Asked]);
}

#[test]
fn a_token_has_one_answer() {
    let again = |label, id| {
        call(20, launch(Some("t"), label, 1), Got::Seen(vec![is(id, State::Pending, 1)]))
    };
    assert_eq!(broken(vec![again("a", "a")]), []);
    assert_eq!(broken(vec![again("a", "a.2")]), [Rule::Asked, Rule::Token]);
    assert_eq!(broken(vec![again("b", "b")]), [Rule::Token], "with other parameters");
    let refuses =
        |label| call(20, launch(Some("t"), label, 1), refused(409, "IdempotentParameterMismatch"));
    assert_eq!(broken(vec![refuses("b")]), []);
    assert_eq!(broken(vec![refuses("a")]), [Rule::Token], "these are its parameters");
    let ended = call(30, launch(Some("t"), "a", 1), Got::Seen(vec![is("a", State::Terminated, 1)]));
    assert_eq!(broken(vec![terminated(10), ended]), [Rule::Token]);
}

#[test]
fn a_token_that_is_refused_since_all_have_ended_has_none_that_lives() {
    let refuses =
        || call(20, launch(Some("t"), "a", 1), refused(400, "IdempotentInstanceTerminated"));
    assert_eq!(broken(vec![terminated(10), refuses(), show(30, State::Terminated, 1)]), []);
    let ending = show(30, State::ShuttingDown, 1);
    assert_eq!(broken(vec![terminated(10), refuses(), ending]), [Rule::Token]);
    let never = call(20, launch(Some("u"), "u", 1), refused(400, "IdempotentInstanceTerminated"));
    assert_eq!(broken(vec![never]), [Rule::Token]);
}

#[test]
fn an_internal_error_is_no_answer() {
    assert_eq!(broken(vec![ask(20, Verb::Stop, refused(500, "InternalError"))]), [Rule::Answered]);
}
