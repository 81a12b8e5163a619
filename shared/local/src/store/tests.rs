//! The contract in both modes, and what only this store promises.

use super::*;
use eventplane_store::contract;

#[tokio::test]
async fn the_store_in_memory_keeps_the_contract() {
    let store = EmbeddedStore::in_memory(&[contract::TABLE]).unwrap();
    contract::run_all(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_in_a_file_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path().join("store"), &[contract::TABLE]).unwrap();
    contract::run_all(Arc::new(store)).await;
}

mod damaged {
    use super::*;
    use eventplane_engine::Dice;
    use eventplane_store::{Item, ItemExt, Key, Write};
    use std::fs;
    use std::path::Path;

    /// How many items stand in the file.
    const ITEMS: usize = 300;
    /// How many bytes at the beginning hold what all else hangs on.
    const HEADER_BYTES: usize = 320;
    /// The byte of them that says which commit is the newest, and how the file was left.
    const SWITCHES: usize = 9;
    /// The one bit of a file that nothing guards: which of the two newest commits is the newer one.
    /// Flipped, the last commit is lost, as if the process had died just before it was done.
    const NEWEST: usize = 0;
    /// How many flips anywhere.
    const FLIPS: usize = 60;

    fn key(n: usize) -> Key {
        Key::new(contract::TABLE.name, format!("partition-{}", n % 7), format!("{n:04}"))
    }

    /// The bytes of a store with items, closed or as a kill leaves it.
    async fn written(path: &Path, is_closed: bool) -> Vec<u8> {
        let store = EmbeddedStore::open(path, &[contract::TABLE]).unwrap();
        for n in 0..ITEMS {
            let item = Item::new().with("number", n as i64).with("text", "x".repeat(n % 90));
            store.transact(vec![Write::put(key(n), item)]).await.unwrap();
        }
        match is_closed {
            true => drop(store),
            false => {
                let left = fs::read(path).unwrap();
                drop(store);
                return left;
            }
        }
        fs::read(path).unwrap()
    }

    /// Opens the damaged store: it says that it is damaged, or every item is what it was.
    async fn look(path: &Path, bytes: &[u8], what: &str) -> bool {
        fs::write(path, bytes).unwrap();
        let store = match EmbeddedStore::open(path, &[contract::TABLE]) {
            Ok(store) => store,
            Err(error) => {
                assert!(error.to_string().contains(&path.display().to_string()), "{error}");
                return true;
            }
        };
        for n in 0..ITEMS {
            let found = store.get(&key(n)).await.unwrap();
            let number = found.as_ref().and_then(|item| item.number("number"));
            assert_eq!(number, Some(n as i64), "{what}: item {n} is lost");
            let text = found.as_ref().and_then(|item| item.text("text"));
            assert_eq!(text.map(str::len), Some(n % 90), "{what}: item {n} is another");
        }
        false
    }

    #[tokio::test]
    async fn a_flipped_bit_is_found_or_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let mut dice = Dice::new(1);
        for is_closed in [true, false] {
            let path = dir.path().join(format!("whole-{is_closed}"));
            let whole = written(&path, is_closed).await;
            let path = dir.path().join("flipped");
            let somewhere = (0..FLIPS).map(|_| dice.below(whole.len()));
            let bytes: Vec<usize> = (0..HEADER_BYTES).step_by(5).chain(somewhere).collect();
            let mut flips: Vec<(usize, usize)> =
                bytes.into_iter().map(|byte| (byte, dice.below(8))).collect();
            flips.retain(|(byte, _)| *byte != SWITCHES);
            flips.extend((NEWEST + 1..8).map(|bit| (SWITCHES, bit)));
            let mut found = 0;
            for (byte, bit) in flips {
                let mut bytes = whole.clone();
                bytes[byte] ^= 1 << bit;
                let what = format!("bit {bit} of byte {byte}, closed: {is_closed}");
                found += usize::from(look(&path, &bytes, &what).await);
            }
            assert!(found > FLIPS / 4, "only {found} were found");
        }
    }

    #[tokio::test]
    async fn the_bit_that_nothing_guards_takes_the_last_commit_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("whole");
        let mut bytes = written(&path, false).await;
        bytes[SWITCHES] ^= 1 << NEWEST;
        fs::write(&path, bytes).unwrap();
        let store = EmbeddedStore::open(&path, &[contract::TABLE]).unwrap();
        assert_eq!(store.get(&key(ITEMS - 1)).await.unwrap(), None, "it is guarded: say so");
        assert!(store.get(&key(ITEMS - 2)).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_file_that_is_cut_short_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut dice = Dice::new(1);
        let whole = written(&dir.path().join("whole"), false).await;
        let path = dir.path().join("cut");
        for _ in 0..40 {
            // Of an empty file nobody can tell what it was: see the data directory for that.
            let bytes = 1 + dice.below(whole.len() - 1);
            look(&path, &whole[..bytes], &format!("{bytes} bytes of {}", whole.len())).await;
        }
    }
}
