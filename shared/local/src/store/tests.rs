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
