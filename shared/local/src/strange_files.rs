//! Strange files: whatever stands where a data file, a key file or an archive should be, opening it
//! is an error in words or a thing that works, never a panic and never without end.

use crate::archive::LocalArchive;
use crate::key_file;
use crate::store::EmbeddedStore;
use crate::wiring::Wiring;
use eventplane_domain::Millis;
use eventplane_engine::{Archive, Chance, Dice, Span};
use eventplane_store::{Item, ItemExt, Key, Query, Store, Table, TransactError, Write};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;
use tempfile::tempdir;

const TABLES: &[Table] = &[Table {
    name: "t",
    indexes: &[eventplane_store::Index { name: "i", partition: "p", sort: "s" }],
}];
const ITEMS: u32 = 60;
/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done to a file: at a place, counted from the start of its first kilobytes or of all.
#[derive(Debug, Clone)]
enum Damage {
    Flip { near: bool, at: prop::sample::Index, mask: u8 },
    Zero { at: prop::sample::Index, bytes: usize },
    Cut(prop::sample::Index),
    Grow(usize),
    Other(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        6 => (any::<bool>(), at(), 1_u8..).prop_map(|(near, at, mask)| Damage::Flip { near, at, mask }),
        2 => (at(), 1..5_000_usize).prop_map(|(at, bytes)| Damage::Zero { at, bytes }),
        2 => at().prop_map(Damage::Cut),
        1 => (1..9_000_usize).prop_map(Damage::Grow),
        1 => prop::collection::vec(any::<u8>(), 0..5_000).prop_map(Damage::Other),
    ]
}

fn damaged(mut bytes: Vec<u8>, all: &[Damage]) -> Vec<u8> {
    for damage in all {
        match damage {
            Damage::Other(other) => bytes.clone_from(other),
            Damage::Grow(by) => bytes.resize(bytes.len() + by, 0xa5),
            _ if bytes.is_empty() => {}
            Damage::Flip { near, at, mask } => {
                let among = if *near { bytes.len().min(4_096) } else { bytes.len() };
                bytes[at.index(among)] ^= mask;
            }
            Damage::Zero { at, bytes: count } => {
                let from = at.index(bytes.len());
                let to = bytes.len().min(from + count);
                bytes[from..to].fill(0);
            }
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
    bytes
}

/// Runs it on a thread of its own; fails if it panics or does not end.
fn ends(work: impl FnOnce() + Send + 'static) -> Result<(), TestCaseError> {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let panicked = catch_unwind(AssertUnwindSafe(work)).is_err();
        // Nobody listens any more if it took too long.
        let _ = done.send(panicked);
    });
    match ended.recv_timeout(PATIENCE) {
        Ok(false) => Ok(()),
        Ok(true) => Err(TestCaseError::fail("it panics")),
        Err(_) => Err(TestCaseError::fail("it hangs")),
    }
}

struct Seeded(Mutex<Dice>);
impl Chance for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = self.0.lock().expect("no panic");
        bytes.iter_mut().for_each(|byte| *byte = dice.draw().to_le_bytes()[0]);
    }
}

fn now<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

fn key(n: u32) -> Key {
    Key::new("t", format!("p{}", n % 7), format!("s{n}"))
}

/// The file of a store with some items.
fn store_file() -> Vec<u8> {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || {
        let dir = tempdir().expect("a directory");
        let path = dir.path().join("store");
        let store = EmbeddedStore::open(&path, TABLES).expect("opened");
        for n in 0..ITEMS {
            let item =
                Item::new().with("p", "x").with("s", format!("{n}")).with("text", "y".repeat(200));
            now(store.transact(vec![Write::put(key(n), item)])).expect("written");
        }
        drop(store);
        fs::read(path).expect("stands there")
    };
    FILE.get_or_init(make).clone()
}

/// Reads and writes all that there should be; how many items there are as they were. What cannot be
/// read is a fault.
fn use_store(path: &Path) -> Option<usize> {
    let store = match EmbeddedStore::open(path, TABLES) {
        Ok(store) => store,
        Err(error) => {
            assert!(error.to_string().contains("store"), "{error}");
            return None;
        }
    };
    let mut found = 0;
    for n in 0..ITEMS {
        let read = now(store.get(&key(n)));
        found += usize::from(matches!(read, Ok(Some(item)) if item.number("s").is_none()));
        let item = Item::new().with("p", "x").with("s", format!("{n}"));
        match now(store.transact(vec![Write::put(key(n), item)])) {
            Ok(()) | Err(TransactError::Fault(_)) => {}
            Err(TransactError::ConditionFailed(failed)) => panic!("{failed:?}"),
        }
    }
    for partition in 0..7 {
        let _ = now(store.query(&Query::partition("t", format!("p{partition}"), 100)));
    }
    let _ = now(store.query(&Query::index("t", "i", "x", 100)));
    Some(found)
}

/// A quarter of the cases that others have: each of these writes to a disk.
fn quarter() -> ProptestConfig {
    let all = ProptestConfig::default();
    ProptestConfig { cases: all.cases.div_ceil(4), ..all }
}

proptest! {
    #![proptest_config(quarter())]

    #[test]
    fn a_damaged_data_file_is_an_error_or_a_store(
        all in prop::collection::vec(damage(), 1..4),
    ) {
        let dir = tempdir().expect("a directory");
        let path = dir.path().join("store");
        fs::write(&path, damaged(store_file(), &all)).expect("written");
        ends(move || {
            use_store(&path);
        })?;
    }

    #[test]
    fn a_damaged_key_file_is_an_error_or_a_key(all in prop::collection::vec(damage(), 1..3)) {
        let dir = tempdir().expect("a directory");
        let path = dir.path().join("key");
        let bytes = damaged(vec![7; 32], &all);
        let is_key = bytes.len() == 32;
        fs::write(&path, &bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        let chance: Arc<dyn Chance> = Arc::new(Seeded(Mutex::new(Dice::new(1))));
        prop_assert_eq!(key_file::open_or_create(&path, &chance).is_ok(), is_key);
        prop_assert_eq!(fs::read(&path).expect("left alone"), bytes);
    }

    #[test]
    fn a_damaged_archive_gives_what_can_be_read(
        all in prop::collection::vec(damage(), 1..4), name in "[0-9]{0,20}\\.jsonl|[a-z]{1,4}",
    ) {
        let dir = tempdir().expect("a directory");
        let line = r#"{"at":5,"event":{"detail":{"metadata":{"subject":"i-0"}},"x":[1,"a\n"]}}"#;
        let text = format!("{line}\n").repeat(20).into_bytes();
        fs::write(dir.path().join(name), damaged(text, &all)).expect("written");
        ends(move || {
            let archive = LocalArchive::in_dir(dir.path(), Wiring::built_in()).expect("opened");
            archive.keep(Millis(6), &Arc::from(r#"{"detail":{}}"#));
            let span = Span { from: Millis(6), to: Millis(6), instance: None, limit: 10 };
            let found = now(archive.read(&span)).expect("read");
            let newest = found.events.iter().any(|event| event.message == r#"{"detail":{}}"#);
            assert!(newest || found.dropped > 0, "what is kept now is found, or counted");
        })?;
    }
}

/// That the cases are worth something: a whole file opens with all that is in it, and of those with
/// one bit flipped some do and some do not.
#[test]
fn a_whole_file_is_a_store_and_one_with_a_flipped_bit_is_not_always() {
    let open = |bytes: &[u8]| {
        let dir = tempdir().expect("a directory");
        let path = dir.path().join("store");
        fs::write(&path, bytes).expect("written");
        use_store(&path)
    };
    let whole = store_file();
    assert_eq!(open(&whole), Some(ITEMS as usize));
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        open(&bytes)
    };
    assert_eq!(flipped(0), None, "the file's first bytes say what it is");
    assert!(open(b"something else").is_none());
}
