//! The cache before a store: it saves reads, and never changes what the store says.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use store::{
    Backend, CachedStore, Extended, Key, Kind, Listed, Lock, LockMode, MemStore, Put, Shelf, Span, Store, StoreError,
    Timestamp, Warning, World, conformance,
};

/// A store in memory that counts what is read from it.
#[derive(Clone, Default)]
struct Far(MemStore, Arc<AtomicU32>);

impl Backend for Far {
    fn put_new(&self, key: &Key, body: &[u8]) -> Result<Put, StoreError> {
        self.0.put_new(key, body)
    }
    fn put_locked(&self, key: &Key, body: Vec<u8>, lock: Lock) -> Result<Put, StoreError> {
        self.0.put_locked(key, body, lock)
    }
    fn extend_locks(&self, keys: &[Key], enough: Timestamp, lock: Lock) -> Result<Extended, StoreError> {
        self.1.fetch_add(keys.len() as u32, Ordering::SeqCst);
        self.0.extend_locks(keys, enough, lock)
    }
    fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.get(key, span)
    }
    fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.0.size(key)
    }
    fn list(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.0.list(shelf, prefix)
    }
    fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        self.0.delete(key)
    }
    fn tidy(&self) -> Result<u64, StoreError> {
        self.0.tidy()
    }
    fn room(&self) -> Option<u64> {
        self.0.room()
    }
    fn lists_at_once(&self) -> bool {
        true
    }
    fn warnings(&self) -> Vec<Warning> {
        self.0.warnings()
    }
    fn address(&self) -> String {
        self.0.address()
    }
}

impl Far {
    /// A run of the program: a new process knows nothing.
    fn run(&self, dir: &Path) -> CachedStore {
        CachedStore::new(Arc::new(self.clone()), dir.to_owned())
    }

    fn reads(&self) -> u32 {
        self.1.swap(0, Ordering::SeqCst)
    }
}

fn table(body: &[u8]) -> Key {
    Key::new(Shelf::Index, blake3::hash(body).to_hex().to_string()).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir.join("index")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

const PART: Span = Span::Range { offset: 1, len: 3 };

#[test]
fn a_store_with_a_cache_does_what_every_store_must() {
    let temp = tempfile::tempdir().unwrap();
    let n = AtomicU32::new(0);
    conformance::check(|| {
        let dir = temp.path().join(n.fetch_add(1, Ordering::SeqCst).to_string());
        Store::new(Arc::new(CachedStore::new(Arc::new(MemStore::new()), dir)))
    });
}

#[test]
fn what_is_new_is_fetched_once_and_by_the_run_that_wrote_it_never() {
    let (temp, far) = (tempfile::tempdir().unwrap(), Far::default());
    let (ours, theirs) = (table(b"ours"), table(b"theirs"));
    far.run(temp.path()).put_new(&ours, b"ours").unwrap();
    far.0.put_new(&theirs, b"theirs").unwrap();
    for fetched in [1, 0] {
        let run = far.run(temp.path());
        assert_eq!(run.list(Shelf::Index, "").unwrap().len(), 2);
        for _ in 0..3 {
            assert_eq!(run.get(&ours, PART).unwrap(), b"urs");
            assert_eq!(run.get(&theirs, PART).unwrap(), b"hei");
            assert_eq!(run.get(&theirs, Span::Whole).unwrap(), b"theirs");
        }
        assert_eq!(far.reads(), fetched);
    }
}

#[test]
fn what_the_store_does_not_show_is_not_there_and_is_dropped() {
    let (temp, far) = (tempfile::tempdir().unwrap(), Far::default());
    let key = table(b"body");
    far.run(temp.path()).put_new(&key, b"body").unwrap();
    assert_eq!(files(temp.path()).len(), 1);
    far.0.remove(&key);
    let run = far.run(temp.path());
    assert!(run.get(&key, Span::Whole).unwrap_err().is_absent());
    assert_eq!(run.list(Shelf::Index, "").unwrap(), []);
    assert_eq!(run.get(&key, PART).unwrap_err().kind, Kind::Absent);
    assert_eq!(files(temp.path()), [] as [PathBuf; 0]);
}

#[test]
fn a_damaged_file_is_fetched_again_and_mended() {
    let (temp, far) = (tempfile::tempdir().unwrap(), Far::default());
    let key = table(b"body");
    far.run(temp.path()).put_new(&key, b"body").unwrap();
    for damage in [&b"bodx"[..], b"bo", b"", b"body and more"] {
        std::fs::write(&files(temp.path())[0], damage).unwrap();
        for fetched in [1, 0] {
            let run = far.run(temp.path());
            run.list(Shelf::Index, "").unwrap();
            assert_eq!(run.get(&key, PART).unwrap(), b"ody");
            assert_eq!(far.reads(), fetched, "{damage:?}");
        }
    }
}

#[test]
fn damage_in_the_store_is_not_kept() {
    let (temp, far) = (tempfile::tempdir().unwrap(), Far::default());
    let key = table(b"body");
    far.0.put_new(&key, b"body").unwrap();
    far.0.corrupt(&key, |body| body[2] ^= 1);
    let run = far.run(temp.path());
    run.list(Shelf::Index, "").unwrap();
    assert_eq!(run.get(&key, Span::Whole).unwrap(), b"boey");
    assert_eq!(files(temp.path()), [] as [PathBuf; 0]);
    assert_eq!(Store::new(Arc::new(run)).get_checked(&key).unwrap_err().kind, Kind::Corrupt);
}

#[test]
fn keys_and_data_keys_are_never_kept_and_a_cache_that_cannot_be_written_changes_nothing() {
    let (temp, far) = (tempfile::tempdir().unwrap(), Far::default());
    let hash = blake3::hash(b"secret").to_hex();
    let run = far.run(temp.path());
    for shelf in [Shelf::Keys, Shelf::Runs] {
        let key = Key::new(shelf, format!("a.{hash}")).unwrap();
        run.put_new(&key, b"secret").unwrap();
        run.list(shelf, "").unwrap();
        assert_eq!(run.get(&key, Span::Whole).unwrap(), b"secret");
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    let no_directory = temp.path().join("file");
    std::fs::write(&no_directory, "").unwrap();
    let (run, key) = (far.run(&no_directory), table(b"body"));
    run.put_new(&key, b"body").unwrap();
    run.list(Shelf::Index, "").unwrap();
    assert_eq!(run.get(&key, PART).unwrap(), b"ody");
}

#[test]
fn a_lock_is_looked_at_once_and_again_when_it_comes_near_its_end() {
    let temp = tempfile::tempdir().unwrap();
    let far = Far(MemStore::with_locks(&World::real().clock), Arc::default());
    let at = |secs| Timestamp::new(secs, 0);
    let lock = |secs| Lock { mode: LockMode::Compliance, until: at(secs) };
    let keys: Vec<Key> = [&b"a"[..], b"b"].map(table).to_vec();
    far.run(temp.path()).put_locked(&keys[0], b"a".to_vec(), lock(1000)).unwrap();
    far.run(temp.path()).put_locked(&keys[1], b"b".to_vec(), lock(100)).unwrap();
    // (what would be enough, how many are asked for, how many are extended)
    for (enough, asked, extended) in [(500, 2, 1), (500, 0, 0), (900, 0, 0), (1500, 2, 2), (1600, 0, 0)] {
        let got = far.run(temp.path()).extend_locks(&keys, at(enough), lock(enough * 2)).unwrap();
        assert_eq!((far.reads(), got.count), (asked, extended), "{enough}");
        assert!(got.ends.iter().all(|end| *end >= at(enough)), "{enough}: {:?}", got.ends);
    }
    // What was kept is only a hint that may be lost.
    std::fs::remove_file(temp.path().join("locks")).unwrap();
    assert_eq!(far.run(temp.path()).extend_locks(&keys, at(1600), lock(4000)).unwrap().count, 0);
    assert_eq!(far.reads(), 2);
}
