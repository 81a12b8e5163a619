//! The host's table of cases.

use super::*;
use crate::wire::Wanted;
use eventplane_domain::{InstanceId, Tenant};

const DEADLINE: Millis = Millis(1000);

fn key(n: u64) -> InstanceKey {
    InstanceKey { tenant: Tenant::local(), instance_id: InstanceId::new(Millis(5), n) }
}
fn wanted(n: u64, generation: u32) -> Wanted {
    Wanted { key: key(n), generation, deadline: DEADLINE, reboots: 0 }
}
fn known(generation: u32, phase: Phase, reboots: u32) -> Known {
    Known { generation, phase, reboots, has_run: false }
}
fn let_go(n: u64, generation: u32) -> LetGo {
    LetGo { key: key(n), generation, reason: None, has_run: false }
}
fn start(n: u64, generation: u32) -> Action {
    Action::Start(key(n), generation)
}
fn stop(n: u64, generation: u32) -> Action {
    Action::Stop(key(n), generation)
}

/// What happens to a host, one after the other.
enum Step {
    /// A set arrives: revision, wanted, to let go of, at this moment.
    Set(u64, Vec<Wanted>, Vec<LetGo>, i64),
    /// A start is done.
    Started(u64, u32),
    /// Time has come to this.
    Clock(i64),
    /// A report is sent and taken.
    Reported,
}
use Step::{Clock, Reported, Set, Started};

struct Case {
    name: &'static str,
    steps: Vec<Step>,
    /// What the last step asks for.
    actions: Vec<Action>,
    /// What the host then has to say.
    running: Vec<(u64, u32)>,
    gone: Vec<(u64, u32)>,
}

fn check(case: Case) {
    let mut host = Host::default();
    let mut actions = Vec::new();
    for step in case.steps {
        actions = match step {
            Set(revision, wanted, let_go, now) => {
                let set = Assignments { revision, poll_after_ms: 0, wanted, let_go };
                host.on_wanted(&set, Millis(now))
            }
            Started(n, generation) => {
                host.on_started(&key(n), generation);
                vec![]
            }
            Clock(now) => host.on_deadline(Millis(now)),
            Reported => {
                if let Some(report) = host.report(false) {
                    host.on_reported(&report);
                }
                vec![]
            }
        };
    }
    assert_eq!(actions, case.actions, "{}: actions", case.name);
    let report = host.report(false).unwrap_or_default();
    let number = |key: &InstanceKey| {
        (1..10).find(|n| self::key(*n) == *key).expect("an instance of this test")
    };
    let running: Vec<(u64, u32)> =
        report.instances.iter().map(|o| (number(&o.key), o.generation)).collect();
    let gone: Vec<(u64, u32)> =
        report.let_go.iter().map(|l| (number(&l.key), l.generation)).collect();
    assert_eq!((running, gone), (case.running, case.gone), "{}: what it says", case.name);
}

fn case(
    name: &'static str,
    steps: Vec<Step>,
    actions: Vec<Action>,
    running: &[(u64, u32)],
    gone: &[(u64, u32)],
) -> Case {
    Case { name, steps, actions, running: running.to_vec(), gone: gone.to_vec() }
}

#[test]
fn starting_case_by_case() {
    for case in [
        case(
            "starts what is wanted, and says nothing before it runs",
            vec![Set(1, vec![wanted(1, 1), wanted(2, 1)], vec![], 0)],
            vec![start(1, 1), start(2, 1)],
            &[],
            &[],
        ),
        case(
            "says that it runs, several in one report",
            vec![Set(1, vec![wanted(1, 1), wanted(2, 1)], vec![], 0), Started(1, 1), Started(2, 1)],
            vec![],
            &[(1, 1), (2, 1)],
            &[],
        ),
        case(
            "starts once what is wanted twice, and says it once",
            vec![
                Set(1, vec![wanted(1, 1)], vec![], 0),
                Started(1, 1),
                Reported,
                Set(2, vec![wanted(1, 1)], vec![], 0),
            ],
            vec![],
            &[],
            &[],
        ),
        case(
            "says it again until a report was taken",
            vec![
                Set(1, vec![wanted(1, 1)], vec![], 0),
                Started(1, 1),
                Set(2, vec![wanted(1, 1)], vec![], 0),
            ],
            vec![],
            &[(1, 1)],
            &[],
        ),
        case(
            "a newer generation replaces an older one",
            vec![
                Set(1, vec![wanted(1, 1)], vec![], 0),
                Started(1, 1),
                Set(2, vec![wanted(1, 2)], vec![], 0),
            ],
            vec![stop(1, 1), start(1, 2)],
            &[],
            &[],
        ),
        case(
            "the start of a generation that was replaced meanwhile counts for nothing",
            vec![
                Set(1, vec![wanted(1, 1)], vec![], 0),
                Set(2, vec![wanted(1, 2)], vec![], 0),
                Started(1, 1),
            ],
            vec![],
            &[],
            &[],
        ),
    ] {
        check(case);
    }
}

#[test]
fn letting_go_case_by_case() {
    for case in [
        case(
            "stops what it is told to let go of, and promises it",
            vec![
                Set(1, vec![wanted(1, 1)], vec![], 0),
                Started(1, 1),
                Reported,
                Set(2, vec![], vec![let_go(1, 1)], 0),
            ],
            vec![stop(1, 1)],
            &[],
            &[(1, 1)],
        ),
        case(
            "promises also what it has never heard of",
            vec![Set(1, vec![], vec![let_go(1, 3)], 0)],
            vec![],
            &[],
            &[(1, 3)],
        ),
        case(
            "stops what no list names any more",
            vec![Set(1, vec![wanted(1, 1)], vec![], 0), Started(1, 1), Set(2, vec![], vec![], 0)],
            vec![stop(1, 1)],
            &[],
            &[(1, 1)],
        ),
    ] {
        check(case);
    }
}

#[test]
fn promises_case_by_case() {
    for case in [
        case(
            "never starts again what it let go of, though the set still wants it",
            vec![
                Set(1, vec![], vec![let_go(1, 1)], 0),
                Reported,
                Set(2, vec![wanted(1, 1)], vec![], 0),
            ],
            vec![],
            &[],
            &[],
        ),
        case(
            "starts a newer generation of what it let go of",
            vec![Set(1, vec![], vec![let_go(1, 1)], 0), Set(2, vec![wanted(1, 2)], vec![], 0)],
            vec![start(1, 2)],
            &[],
            &[],
        ),
        case(
            "promises an older generation while a newer one runs",
            vec![
                Set(1, vec![wanted(1, 2)], vec![], 0),
                Started(1, 2),
                Reported,
                Set(2, vec![wanted(1, 2)], vec![let_go(1, 1)], 0),
            ],
            vec![],
            &[],
            &[(1, 1)],
        ),
        case(
            "a start that ends after the letting go changes nothing",
            vec![
                Set(1, vec![wanted(1, 1)], vec![], 0),
                Set(2, vec![], vec![let_go(1, 1)], 0),
                Started(1, 1),
            ],
            vec![],
            &[],
            &[(1, 1)],
        ),
        case(
            "repeats no promise that was taken",
            vec![
                Set(1, vec![], vec![let_go(1, 1)], 0),
                Reported,
                Set(2, vec![], vec![let_go(1, 1)], 0),
            ],
            vec![],
            &[],
            &[],
        ),
    ] {
        check(case);
    }
}

#[test]
fn revisions_and_deadlines_case_by_case() {
    for case in [
        case(
            "an older set is ignored",
            vec![Set(5, vec![wanted(1, 1)], vec![], 0), Set(4, vec![], vec![], 0)],
            vec![],
            &[],
            &[],
        ),
        case(
            "an older set cannot bring back what was forgotten",
            vec![
                Set(1, vec![wanted(1, 1)], vec![], 0),
                Set(2, vec![], vec![let_go(1, 1)], 0),
                Reported,
                Set(3, vec![], vec![], 0),
                Set(1, vec![wanted(1, 1)], vec![], 0),
            ],
            vec![],
            &[],
            &[],
        ),
        case(
            "what does not run at its deadline is let go of",
            vec![Set(1, vec![wanted(1, 1)], vec![], 0), Clock(1001)],
            vec![stop(1, 1)],
            &[],
            &[(1, 1)],
        ),
        case(
            "at the deadline itself there is still time",
            vec![Set(1, vec![wanted(1, 1)], vec![], 0), Clock(1000)],
            vec![],
            &[],
            &[],
        ),
        case(
            "what runs is none of a deadline's business",
            vec![Set(1, vec![wanted(1, 1)], vec![], 0), Started(1, 1), Clock(9999)],
            vec![],
            &[(1, 1)],
            &[],
        ),
        case(
            "what comes after its deadline is let go of and never started",
            vec![Set(1, vec![wanted(1, 1)], vec![], 2000)],
            vec![stop(1, 1)],
            &[],
            &[(1, 1)],
        ),
    ] {
        check(case);
    }
}

#[test]
fn a_promise_is_forgotten_once_it_was_heard_and_a_newer_set_names_it_no_more() {
    let mut host = Host::default();
    let order = vec![let_go(1, 1)];
    host.on_wanted(&Assignments { revision: 1, let_go: order, ..Default::default() }, Millis(0));
    host.on_wanted(&Assignments { revision: 1, ..Default::default() }, Millis(0));
    assert_eq!(host.report(true).expect("complete").let_go.len(), 1, "same revision: kept");
    // Not said yet, it may not be true yet.
    host.on_wanted(&Assignments { revision: 2, ..Default::default() }, Millis(0));
    let report = host.report(true).expect("complete");
    assert_eq!(report.let_go.len(), 1, "nobody has heard it");
    host.on_reported(&report);
    host.on_wanted(&Assignments { revision: 3, ..Default::default() }, Millis(0));
    assert_eq!(host.report(true).expect("complete").let_go.len(), 0);
    assert_eq!(host.take_changes().last(), Some(&Change::Forgotten(key(1))));
}

#[test]
fn a_complete_report_says_everything_each_time() {
    let mut host = Host::remembering([
        (key(1), known(1, Phase::Running, 0)),
        (key(2), known(4, Phase::LetGo, 0)),
    ]);
    for _ in 0..2 {
        let report = host.report(true).expect("complete reports are never empty-handed");
        assert_eq!((report.instances.len(), report.let_go.len()), (1, 1));
        host.on_reported(&report);
    }
    assert_eq!(host.report(false), None);
}

#[test]
fn what_it_remembers_running_outlives_its_deadline_and_its_agent() {
    let mut host = Host::remembering([(key(1), known(1, Phase::Running, 0))]);
    let set = Assignments { revision: 9, wanted: vec![wanted(1, 1)], ..Default::default() };
    assert_eq!(host.on_wanted(&set, Millis(99_999)), vec![]);
    assert_eq!(host.counts(), (1, 0));
}

#[test]
fn a_failed_start_is_let_go_of_with_its_reason() {
    let mut host = Host::default();
    let set = Assignments { revision: 1, wanted: vec![wanted(1, 1)], ..Default::default() };
    host.on_wanted(&set, Millis(0));
    host.on_ended(&key(1), 1, Reason::new(code::INTERNAL, "no such kernel"));
    let report = host.report(false).expect("news");
    assert_eq!(report.let_go[0].reason.as_ref().expect("said").message, "no such kernel");
    assert!(!host.on_started(&key(1), 1));
}

#[test]
fn a_promise_says_whether_the_instance_has_run() {
    for (has_started, has_run) in [(true, true), (false, false)] {
        let mut host = Host::default();
        let set = Assignments { revision: 1, wanted: vec![wanted(1, 1)], ..Assignments::default() };
        host.on_wanted(&set, Millis(0));
        if has_started {
            assert!(host.on_started(&key(1), 1));
        }
        host.on_ended(&key(1), 1, Reason::new("Client.InstanceInitiatedShutdown", "it ended"));
        let report = host.report(false).expect("news");
        assert_eq!(report.let_go.iter().map(|one| one.has_run).collect::<Vec<_>>(), [has_run]);
    }
    let mut host = Host::remembering([(key(1), known(1, Phase::Running, 0))]);
    host.on_ended(&key(1), 1, Reason::new("Client.InstanceInitiatedShutdown", "it ended"));
    assert!(host.report(false).expect("news").let_go[0].has_run);
}

#[test]
fn a_reboot_is_done_once_and_remembered_and_a_fresh_start_needs_none() {
    let set = |revision, reboots| Assignments {
        revision,
        wanted: vec![Wanted { reboots, ..wanted(1, 1) }],
        ..Assignments::default()
    };
    let mut host = Host::default();
    host.on_wanted(&set(1, 1), Millis(0));
    assert!(host.on_started(&key(1), 1));
    host.take_changes();
    assert_eq!(host.on_wanted(&set(2, 1), Millis(0)), vec![], "it began after that order");
    let reboot = vec![Action::Reboot(key(1), 1)];
    assert_eq!(host.on_wanted(&set(3, 3), Millis(0)), reboot, "two orders before one was seen");
    assert_eq!(host.take_changes(), [Change::Rebooted(key(1), 3)]);
    assert_eq!(host.on_wanted(&set(4, 3), Millis(0)), vec![]);
    let mut again = Host::remembering([(key(1), known(1, Phase::Running, 3))]);
    assert_eq!(again.on_wanted(&set(5, 3), Millis(0)), vec![]);
    assert_eq!(again.on_wanted(&set(6, 4), Millis(0)), reboot);
    assert_eq!(again.on_wanted(&Assignments::default(), Millis(0)), vec![], "an older set");
}

#[test]
fn a_promise_says_that_it_has_run_also_after_the_agent_was_started_anew() {
    let mut host = Host::default();
    let set = Assignments { revision: 1, wanted: vec![wanted(1, 1)], ..Assignments::default() };
    host.on_wanted(&set, Millis(0));
    assert!(host.on_started(&key(1), 1));
    host.take_changes();
    host.on_ended(&key(1), 1, Reason::new("Client.InstanceInitiatedShutdown", "it ended"));
    let changes = [Change::Stands(key(1), 1, Phase::LetGo), Change::Ran(key(1))];
    assert_eq!(host.take_changes(), changes);
    let promised = Known { has_run: true, ..known(1, Phase::LetGo, 0) };
    let again = Host::remembering([(key(1), promised)]);
    assert!(again.report(true).expect("all").let_go[0].has_run);
}
