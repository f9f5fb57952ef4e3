//! Every kind of store passes the one suite.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use store::{LocalStore, MemStore, NetworkPolicy, Store, conformance};

#[test]
fn the_store_in_memory_does_what_every_store_must() {
    conformance::check(|| Store::new(Arc::new(MemStore::new())));
}

#[test]
fn the_store_in_a_directory_does_what_every_store_must() {
    let temp = tempfile::tempdir().unwrap();
    let n = AtomicU32::new(0);
    conformance::check(|| {
        let path = temp.path().join(n.fetch_add(1, Ordering::SeqCst).to_string());
        Store::new(Arc::new(LocalStore::create(&path, NetworkPolicy::Accept).unwrap()))
    });
}

#[test]
fn a_directory_opened_again_has_what_was_written() {
    let temp = tempfile::tempdir().unwrap();
    let key = store::Key::new(store::Shelf::Heads, "a").unwrap();
    let first = Store::new(Arc::new(LocalStore::create(temp.path(), NetworkPolicy::Accept).unwrap()));
    first.put_new(&key, b"body").unwrap();
    let again = Store::new(Arc::new(LocalStore::open(temp.path(), NetworkPolicy::Accept).unwrap()));
    assert_eq!(again.get(&key, store::Span::Whole).unwrap(), b"body");
}
