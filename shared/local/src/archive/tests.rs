//! What is kept, for how long, and that nobody waits for it.

use super::segments::{BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENTS_MAX};
use super::*;
use eventplane_events::{Entry, envelope};
use serde_json::json;
use std::fs;

fn message(name: &'static str, subject: &str, padding: usize) -> Arc<str> {
    let detail = json!({ "metadata": { "subject": subject }, "data": "x".repeat(padding) });
    let (source, detail_type) = ("eventplane.api".to_owned(), name);
    envelope(&Entry { source, detail_type, detail: detail.to_string() }, "e", "t").into()
}

fn id(n: u64) -> InstanceId {
    InstanceId::new(Millis(1), n)
}

fn span() -> Span {
    Span { from: Millis(0), to: Millis(i64::MAX), instance: None, limit: usize::MAX }
}

fn read(archive: &LocalArchive, span: &Span) -> Vec<i64> {
    archive.read_now(span).unwrap().events.iter().map(|event| event.at.0).collect()
}

fn check_it_selects(archive: &LocalArchive) {
    for n in 0..10_u64 {
        let message = message("InstanceRequested", id(n % 2).as_str(), 10);
        archive.keep(Millis(i64::try_from(n).unwrap()), &message);
    }
    assert_eq!(read(archive, &span()), Vec::from_iter(0..10));
    assert_eq!(read(archive, &Span { from: Millis(3), to: Millis(5), ..span() }), [3, 4, 5]);
    let of_one = Span { instance: Some(id(1)), limit: 3, ..span() };
    let found = archive.read_now(&of_one).unwrap();
    assert_eq!(found.events.iter().map(|event| event.at.0).collect::<Vec<_>>(), [1, 3, 5]);
    assert!(found.more, "two more are asked for, and there");
    assert!(!archive.read_now(&Span { limit: 5, ..of_one }).unwrap().more);
    assert_eq!(found.events[0].hearers, ["capacity", "handoff"], "as the rules have it");
    assert_eq!(found.dropped, 0);
}

#[test]
fn an_archive_finds_by_time_and_instance_in_the_order_of_publishing() {
    check_it_selects(&LocalArchive::in_memory(Wiring::built_in()));
    let dir = tempfile::tempdir().unwrap();
    check_it_selects(&LocalArchive::in_dir(dir.path(), Wiring::built_in()).unwrap());
}

#[test]
fn an_archive_in_files_outlives_its_process_and_a_torn_line() {
    let dir = tempfile::tempdir().unwrap();
    let open = || LocalArchive::in_dir(dir.path(), Wiring::built_in()).unwrap();
    let first = open();
    first.keep(Millis(1), &message("InstanceRequested", id(1).as_str(), 0));
    first.kept.flush();
    drop(first);
    let torn = dir.path().join("00000002.jsonl");
    fs::write(torn, "{\"at\":2,\"event\":{\"detail-type\":\"Inst").unwrap();
    let again = open();
    // Pretty JSON stays one line.
    let broken_up = message("InstanceRequested", id(1).as_str(), 0).replace(',', ",\n");
    again.keep(Millis(3), &broken_up.into());
    assert_eq!(read(&again, &span()), [1, 3]);
}

#[test]
fn the_oldest_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut segments = Segments::open(dir.path()).unwrap();
    let large = message("InstanceRequested", id(1).as_str(), 1024 * 1024);
    let many = i64::try_from(BYTES_MAX / (1024 * 1024)).unwrap() + 20;
    for at in 0..many {
        segments.write(Millis(at), &large).unwrap();
    }
    segments.flush(&AtomicU64::new(0));
    let sizes =
        fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    let sizes: Vec<u64> = sizes.collect();
    let bytes: u64 = sizes.iter().sum();
    assert!((BYTES_MAX / 2..=BYTES_MAX).contains(&bytes), "{sizes:?}");
    assert!(sizes.iter().all(|bytes| *bytes <= SEGMENT_BYTES_MAX), "{sizes:?}");
    let mut kept = Vec::new();
    segments.read(|at, _| kept.push(at.0)).unwrap();
    let newest = Vec::from_iter(kept[0]..many);
    assert_eq!(kept, newest, "what is left is the newest, without a gap");
    assert!(kept[0] > 0);
}

#[test]
fn every_start_begins_a_segment_and_costs_no_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let small = message("InstanceRequested", id(1).as_str(), 100);
    let starts = SEGMENTS_MAX + 5;
    for at in 0..starts {
        let mut segments = Segments::open(dir.path()).unwrap();
        segments.write(Millis(i64::try_from(at).unwrap()), &small).unwrap();
        segments.flush(&AtomicU64::new(0));
    }
    let mut kept = Vec::new();
    Segments::open(dir.path()).unwrap().read(|at, _| kept.push(at.0)).unwrap();
    assert_eq!(kept, Vec::from_iter(5..i64::try_from(starts).unwrap()), "the newest of them");
}

#[test]
fn memory_keeps_the_newest_bytes() {
    let archive = LocalArchive::in_memory(Wiring::built_in());
    let large = message("InstanceRequested", id(1).as_str(), 1024 * 1024);
    for at in 0..40 {
        archive.keep(Millis(at), &large);
    }
    assert_eq!(read(&archive, &span()), Vec::from_iter(25..40));
}

#[test]
fn what_comes_too_fast_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let archive = LocalArchive::in_dir(dir.path(), Wiring::built_in()).unwrap();
    let message = message("InstanceRequested", id(1).as_str(), 0);
    let many = 2 * WAITING_MAX;
    for _ in 0..many {
        archive.keep(Millis(1), &message);
    }
    let kept = read(&archive, &span()).len();
    assert_eq!(kept + usize::try_from(archive.dropped()).unwrap(), many);
}

#[test]
fn what_the_disk_does_not_take_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let archive = LocalArchive::in_dir(&dir.path().join("archive"), Wiring::built_in()).unwrap();
    fs::remove_dir_all(dir.path().join("archive")).unwrap();
    archive.keep(Millis(1), &message("InstanceRequested", id(1).as_str(), 0));
    archive.keep(Millis(2), &message("InstanceRequested", id(1).as_str(), 0));
    assert!(archive.read_now(&span()).is_err(), "there is nothing to read");
    assert_eq!(archive.dropped(), 2);
}
