//! The engine through its public face, over the in-memory store.

use repo::{
    CapturePlan, Compression, Credential, Entry, FileNode, Node, Outcome, PackSize, Process, RepoError, Repository, Shape, Want,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use store::{Lanes, MemStore, Store, Timestamp, World};
use zeroize::Zeroizing;

fn world(lanes: Lanes) -> World {
    World { lanes, ..World::real() }
}

fn passphrase() -> Zeroizing<String> {
    Zeroizing::new("correct horse".into())
}

fn init(mem: &MemStore, lanes: Lanes) -> Repository {
    let store = Store::new(Arc::new(mem.clone()));
    Repository::init(&store, &world(lanes), Some(&passphrase()), "test", PackSize::Bytes(300_000)).expect("made").0
}

fn plan() -> CapturePlan {
    CapturePlan {
        host: "host".into(),
        user: "me".into(),
        kind: "files".into(),
        paths: vec!["/data".into()],
        tags: Vec::new(),
        program: "test".into(),
        process: Process::default(),
        compression: Compression::Level(3),
        time: None,
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn entry(key: &str, node: Node) -> Entry {
    Entry {
        key: key.replace('/', "\0").into_bytes(),
        node,
        mode: 0o644,
        uid: 1,
        gid: 2,
        mtime: Timestamp::new(1_600_000_000, 5),
        xattrs: Vec::new(),
        user: None,
        group: None,
        changed: false,
        sqlite: false,
    }
}

fn back_up(repository: &Repository, files: &BTreeMap<String, Vec<u8>>) -> repo::Committed {
    let mut capture = repository.capture(plan()).expect("begins");
    let mut cutter = capture.cutter();
    for (key, data) in files {
        let mut cuts = Vec::new();
        let measured = cutter
            .cut(Shape::Stream, &mut data.as_slice(), &mut |cut| {
                cuts.push(cut);
                Ok(())
            })
            .expect("cuts");
        cuts.into_iter().for_each(|cut| capture.chunk(cut).expect("stores"));
        let digest = (measured.chunks > 1).then_some(measured.digest);
        let file = FileNode { size: measured.bytes, chunks: measured.chunks, digest, extents: None };
        capture.entry(&entry(key, Node::File(file))).expect("adds");
    }
    capture.commit(Outcome::default()).expect("commits")
}

fn restore(repository: &Repository, snapshot: &repo::Snapshot) -> BTreeMap<String, Vec<u8>> {
    let reading = repository.reading(&Process::default()).expect("reads");
    let reader = reading.open(snapshot).expect("opens");
    let mut files = BTreeMap::new();
    for located in reader.entries(b"") {
        let located = located.expect("walks");
        let Node::File(file) = &located.entry.node else { panic!("only files") };
        let ids = reader.ids(located.first, file.chunks).expect("ids");
        let wants: Vec<Want> = (0u64..)
            .zip(&ids)
            .map(|(tag, id)| Want { id: *id, place: reader.locate(id).expect("is somewhere"), tag })
            .collect();
        let parts: Mutex<BTreeMap<u64, Vec<u8>>> = Mutex::default();
        let failed = reader
            .fetch(&wants, &|want, data| {
                parts.lock().expect("lock").insert(want.tag, data.to_vec());
                Ok(())
            })
            .expect("fetches");
        assert!(failed.is_empty(), "{failed:?}");
        let data: Vec<u8> = parts.into_inner().expect("lock").into_values().flatten().collect();
        assert_eq!(data.len() as u64, file.size);
        files.insert(String::from_utf8(located.entry.key).expect("text").replace('\0', "/"), data);
    }
    files
}

fn tree(seed: u64, count: usize) -> BTreeMap<String, Vec<u8>> {
    (0..count).map(|i| (format!("data/{:05}", i), noise(seed + i as u64, i * 37 % 5000))).collect()
}

#[test]
fn what_goes_in_comes_out_whatever_the_lanes() {
    for lanes in [Lanes::Inline, Lanes::Threads(2)] {
        let mem = MemStore::new();
        let repository = init(&mem, lanes);
        let mut files = tree(0, 2000);
        files.insert("data/big".into(), noise(7, 5_000_000));
        files.insert("data/zero".into(), vec![0; 3_000_000]);
        let first = back_up(&repository, &files);
        let objects = mem.keys().len();
        let second = back_up(&repository, &files);
        assert!(mem.keys().len() <= objects + 5, "an unchanged tree stores heads, intents and a key, nothing else");
        files.insert("data/00003".into(), b"changed".to_vec());
        let third = back_up(&repository, &files);

        let store = Store::new(Arc::new(mem.clone()));
        let again = Repository::open(&store, &world(lanes), &Credential::Passphrase(passphrase())).expect("opens");
        let snapshots = again.snapshots().expect("lists");
        let ids: Vec<_> = snapshots.iter().map(|s| s.id).collect();
        assert_eq!(ids, [first.snapshot.id, second.snapshot.id, third.snapshot.id]);
        assert_eq!(restore(&again, &snapshots[2]), files);
        files.insert("data/00003".into(), noise(3, 3 * 37 % 5000));
        assert_eq!(restore(&again, &snapshots[0]), files);
    }
}

#[test]
fn a_wrong_passphrase_opens_nothing() {
    let mem = MemStore::new();
    init(&mem, Lanes::Inline);
    let store = Store::new(Arc::new(mem));
    let wrong = Credential::Passphrase(Zeroizing::new("wrong".into()));
    let opened = Repository::open(&store, &world(Lanes::Inline), &wrong);
    assert!(matches!(opened, Err(RepoError::WrongKey(_))));
    let nothing = Store::new(Arc::new(MemStore::new()));
    let opened = Repository::open(&nothing, &world(Lanes::Inline), &wrong);
    assert!(matches!(opened, Err(RepoError::NoRepository(_))));
}

#[test]
fn a_capture_that_is_dropped_never_happened() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Threads(2));
    let mut capture = repository.capture(plan()).expect("begins");
    let cut = capture.cutter().whole(noise(1, 100_000));
    capture.chunk(cut).expect("stores");
    drop(capture);
    assert!(repository.snapshots().expect("lists").is_empty());
    let files = tree(0, 10);
    back_up(&repository, &files);
    assert_eq!(repository.snapshots().expect("lists").len(), 1);
}

#[test]
fn plaintext_and_paths_are_in_no_object() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let files = BTreeMap::from([("data/canary-path".to_owned(), b"canary content".repeat(50))]);
    back_up(&repository, &files);
    let store = Store::new(Arc::new(mem.clone()));
    for key in mem.keys() {
        let body = store.get(&key, store::Span::Whole).expect("reads");
        for canary in [&b"canary"[..], b"/data", b"correct horse"] {
            assert!(!body.windows(canary.len()).any(|window| window == canary), "{key} holds {canary:?}");
        }
    }
}
