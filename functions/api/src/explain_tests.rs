//! Lives as receipts tell them, and the chains that follow.

use super::*;
use eventplane_domain::{HostId, InstanceId, Outcome, Placement, Tenant};
use eventplane_engine::Receipt;
use eventplane_handoff::Ending;
use eventplane_instances::{Asked, Record, Request};
use eventplane_store::Item;

type Log<'a, W> = &'a [(i64, u32, W)];

fn log<W: Copy>(log: Log<'_, W>, received: u32) -> Vec<Logged<W>> {
    let entry = |&(at, generation, what)| Logged { at: Millis(at), generation, what, received };
    log.iter().map(entry).collect()
}

fn reason(why: &str) -> Reason {
    Reason::new("Server.Told", why)
}

fn whole() -> Whole {
    let sample = eventplane_events::samples::all().into_iter().find_map(|event| match event.data {
        eventplane_events::Data::InstanceRequested(requested) => Some(requested.spec),
        _ => None,
    });
    let id = InstanceId::new(Millis(100), 1);
    let spec = sample.expect("a sample of a request");
    Whole::new(Record::requested(Tenant::local(), id, spec, Millis(100), Millis(60_000)))
}

fn receipt(of: Log<'_, Answer>, received: u32, why: Option<&str>) -> Option<Receipt> {
    let &(_, generation, answer) = of.last()?;
    let (log, reason) = (log(of, received), why.map(reason));
    let claim = Item::new();
    Some(Receipt { generation, answer, deadline: Millis(60_000), reason, log, claim })
}

fn handoff(of: Log<'_, Stage>, why: Option<&str>) -> Option<eventplane_handoff::Receipt> {
    let &(_, generation, stage) = of.last()?;
    let host = HostId::parse("host-1").expect("a host");
    let placement = Some(Placement { host, zone: "a".to_owned(), rack: "r".to_owned() });
    let ending =
        why.map(|why| Ending { outcome: Outcome::Terminate, reason: reason(why), has_run: false });
    let (deadline, log) = (Millis(60_000), log(of, 1));
    Some(eventplane_handoff::Receipt {
        generation,
        stage,
        deadline,
        parts: vec![],
        placement,
        ending,
        log,
    })
}

fn asks(whole: &mut Whole, at: i64, why: &str) {
    let (at, reason) = (Millis(at), reason(why));
    whole.request = Some(Request {
        asked: Some(Asked { wants: Want::Terminated, generation: 1, at, reason }),
        ..Request::default()
    });
}

/// Each line a fact: how deep, who and what, milliseconds after its cause, `*` on a longest chain.
fn lines(whole: &Whole) -> Vec<String> {
    fn walk(chain: &Value, depth: usize, lines: &mut Vec<String>) {
        let text = |name: &str| chain[name].as_str().expect("a text").to_owned();
        let after = chain["after_ms"].as_i64().map_or(String::new(), |ms| format!(" {ms}"));
        let try_ = chain["try"].as_u64().map_or(String::new(), |n| format!(" try {n}"));
        let star = if chain["critical"] == true { " *" } else { "" };
        let indent = ".".repeat(depth);
        lines.push(format!("{indent}{} {}{after}{try_}{star}", text("step"), text("what")));
        for next in chain["led_to"].as_array().into_iter().flatten() {
            walk(next, depth + 1, lines);
        }
    }
    let mut lines = Vec::new();
    for of in Chains::of(whole).generations() {
        for chain in of["chains"].as_array().expect("chains") {
            lines.push(format!("{} in {}", of["generation"], chain["took_ms"]));
            walk(chain, 0, &mut lines);
        }
    }
    lines
}

use Answer::{GivenBack, GivenBackForGood, Refused, Taken};

#[test]
fn a_launch_waits_for_the_last_that_joins() {
    let mut whole = whole();
    whole.receipts = [
        receipt(&[(103, 1, Taken)], 1, None),
        receipt(&[(105, 1, Taken)], 1, None),
        receipt(&[(140, 1, Taken)], 3, None),
        receipt(&[(104, 1, Taken)], 1, None),
    ];
    whole.handoff = handoff(&[(106, 1, Stage::Joining), (142, 1, Stage::HandedOff)], None);
    whole.record.running_at = Some(Millis(150));
    let expected = [
        "1 in 50",
        "api requested *",
        ".capacity taken 3 *",
        "..security taken 1",
        "...handoff joining 2",
        "..network taken 2",
        "..storage taken 37 try 3 *",
        "...handoff handed off 2 *",
        "....instances running 8 *",
    ];
    assert_eq!(lines(&whole), expected);
}

#[test]
fn a_refusal_leads_to_the_end_and_the_last_give_back_ends_it() {
    let mut whole = whole();
    whole.receipts = [
        receipt(&[(103, 1, Taken), (122, 1, GivenBackForGood)], 1, None),
        receipt(&[(105, 1, Taken), (125, 1, GivenBackForGood)], 1, None),
        receipt(&[(110, 1, Refused), (121, 1, GivenBackForGood)], 1, None),
        receipt(&[(124, 1, GivenBackForGood)], 1, None),
    ];
    whole.handoff =
        handoff(&[(106, 1, Stage::Joining), (120, 1, Stage::Withdrawn)], Some("no room"));
    whole.record.ended_at = Some(Millis(126));
    // A user asked too; the refusal's own reason went with what was given back.
    asks(&mut whole, 119, "asked");
    let expected = [
        "1 in 26",
        "api requested *",
        ".capacity taken 3 *",
        "..network taken 2",
        "...handoff joining 1",
        "..storage refused 7 *",
        "...handoff withdrawn 10 *",
        "....storage given back for good 1",
        "....capacity given back for good 2",
        "....security given back for good 4",
        "....network given back for good 5 *",
        ".....instances terminated 1 *",
        "1 in 0",
        "api termination requested *",
    ];
    assert_eq!(lines(&whole), expected);
}

#[test]
fn a_refusal_that_stands_is_the_cause_of_the_end() {
    let mut whole = whole();
    whole.receipts = [
        receipt(&[(103, 1, Taken)], 1, None),
        receipt(&[(104, 1, Taken)], 1, None),
        receipt(&[(110, 1, Refused)], 2, Some("no room")),
        None,
    ];
    whole.handoff =
        handoff(&[(106, 1, Stage::Joining), (120, 1, Stage::Withdrawn)], Some("no room"));
    asks(&mut whole, 115, "asked");
    let expected = [
        "1 in 20",
        "api requested *",
        ".capacity taken 3 *",
        "..network taken 1",
        "...handoff joining 2",
        "..storage refused 7 try 2 *",
        "...handoff withdrawn 10 *",
        "1 in 0",
        "api termination requested *",
    ];
    assert_eq!(lines(&whole), expected);
    // The user was heard first.
    whole.handoff = handoff(&[(120, 1, Stage::Withdrawn)], Some("asked"));
    assert!(lines(&whole).contains(&".handoff withdrawn 5 *".to_owned()));
}

#[test]
fn a_termination_is_a_chain_of_its_own_and_waits_for_the_hosts_promise() {
    let mut whole = whole();
    let back = |taken, back| receipt(&[(taken, 1, Taken), (back, 1, GivenBackForGood)], 1, None);
    whole.receipts = [back(103, 233), back(104, 236), back(105, 234), back(106, 235)];
    whole.handoff = handoff(
        &[
            (105, 1, Stage::Joining),
            (107, 1, Stage::HandedOff),
            (202, 1, Stage::Withdrawing),
            (230, 1, Stage::Withdrawn),
        ],
        Some("asked"),
    );
    whole.record.running_at = Some(Millis(150));
    asks(&mut whole, 200, "asked");
    whole.record.ended_at = Some(Millis(240));
    let lines = lines(&whole);
    let of_the_end = [
        "1 in 40",
        "api termination requested *",
        ".handoff withdrawing 2 *",
        "..handoff withdrawn 28 *",
        "...capacity given back for good 3",
        "...storage given back for good 4",
        "...security given back for good 5",
        "...network given back for good 6 *",
        "....instances terminated 4 *",
    ];
    assert_eq!(lines[lines.len() - of_the_end.len()..], of_the_end);
    assert!(lines.contains(&"....instances running 43 *".to_owned()), "{lines:#?}");
}

#[test]
fn generations_come_one_after_the_other() {
    let mut whole = whole();
    whole.record.progress.generation = 2;
    whole.receipts = [
        receipt(&[(103, 1, Taken), (131, 1, GivenBack), (203, 2, Taken)], 1, None),
        receipt(&[(104, 1, Taken), (204, 2, Taken)], 1, None),
        receipt(&[(105, 1, Taken), (206, 2, Taken)], 1, None),
        receipt(&[(106, 1, Taken), (205, 2, Taken)], 1, None),
    ];
    let stages = [
        (107, 1, Stage::HandedOff),
        (130, 1, Stage::Withdrawn),
        (205, 2, Stage::Joining),
        (207, 2, Stage::HandedOff),
    ];
    whole.handoff = handoff(&stages, None);
    whole.record.running_at = Some(Millis(210));
    let lines = lines(&whole);
    let second = lines.iter().position(|line| line == "2 in 7").expect("a second generation");
    assert!(lines[..second].contains(&".....capacity given back 1 *".to_owned()), "{lines:#?}");
    assert_eq!(lines[second + 1], "capacity taken *");
    assert_eq!(lines.last().expect("lines"), "...instances running 3 *");
}
