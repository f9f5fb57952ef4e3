//! The engine through its public face, over the in-memory store.

use repo::{
    Assurance, CapturePlan, Compression, Credential, Entry, FileNode, Node, Outcome, PackSize, Process, RepoError,
    Repository, Shape, Want,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use store::{Backend, Key, Lanes, Listed, MemStore, Put, Shelf, Span, Store, StoreError, Timestamp, World};
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
        source: None,
        reason: None,
        program: "test".into(),
        process: Process::default(),
        compression: Compression::Level(3),
        time: None,
        assurance: Assurance::default(),
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
    store_files(repository, plan(), files).expect("commits")
}

fn store_files(
    repository: &Repository,
    plan: CapturePlan,
    files: &BTreeMap<String, Vec<u8>>,
) -> repo::Result<repo::Committed> {
    let mut capture = repository.capture(plan)?;
    let mut cutter = capture.cutter();
    for (key, data) in files {
        let mut cuts = Vec::new();
        let measured = cutter
            .cut(Shape::Stream, &mut data.as_slice(), &mut |cut| {
                cuts.push(cut);
                Ok(())
            })
            .expect("cuts");
        cuts.into_iter().try_for_each(|cut| capture.chunk(cut))?;
        let digest = (measured.chunks > 1).then_some(measured.digest);
        let file = FileNode { size: measured.bytes, chunks: measured.chunks, digest, extents: None };
        capture.entry(&entry(key, Node::File(file)))?;
    }
    capture.commit(Outcome::default())
}

/// A store that changes one bit of what is put on one shelf, or of the first answer about an object.
struct Twisting {
    mem: MemStore,
    shelf: Option<Shelf>,
    once: Mutex<Option<Key>>,
}

impl Backend for Twisting {
    fn put_new(&self, key: &Key, body: &[u8]) -> Result<Put, StoreError> {
        let mut body = body.to_vec();
        if Some(key.shelf()) == self.shelf {
            let last = body.len() - 1;
            body[last] ^= 1;
        }
        self.mem.put_new(key, &body)
    }
    fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError> {
        let mut body = self.mem.get(key, span)?;
        let mut once = self.once.lock().expect("no holder panics");
        if once.take_if(|wanted| wanted == key).is_some() {
            body[30] ^= 1;
        }
        Ok(body)
    }
    fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.mem.size(key)
    }
    fn list(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.mem.list(shelf, prefix)
    }
    fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        self.mem.delete(key)
    }
    fn tidy(&self) -> Result<u64, StoreError> {
        self.mem.tidy()
    }
    fn room(&self) -> Option<u64> {
        None
    }
    fn lists_at_once(&self) -> bool {
        true
    }
    fn warnings(&self) -> Vec<store::Warning> {
        Vec::new()
    }
    fn address(&self) -> String {
        "twisting".into()
    }
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
        files.insert("data/00003".into(), noise(3, 111));
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

fn prune_plan(max_unused: repo::MaxUnused, act: repo::Act) -> repo::PrunePlan<'static> {
    repo::PrunePlan {
        act,
        max_unused,
        grace: repo::Grace::Default,
        life: &|_| repo::Life::Unknown,
        process: Process::default(),
        as_if_forgotten: &[],
    }
}

fn prune(repository: &Repository) -> repo::PruneReport {
    repository.prune(&prune_plan(repo::MaxUnused::Percent(0.0), repo::Act::Do), &|_| {}).expect("prunes")
}

fn verify(repository: &Repository, depth: repo::Depth) -> repo::VerifyReport {
    let plan = repo::VerifyPlan { depth, share: repo::Share::All, snapshots: None, process: Process::default() };
    repository.verify(&plan, &|_| {}).expect("verifies")
}

fn reopen(mem: &MemStore) -> repo::Result<Repository> {
    let store = Store::new(Arc::new(mem.clone()));
    Repository::open(&store, &world(Lanes::Inline), &Credential::Passphrase(passphrase()))
}

#[test]
fn pruning_gives_space_back_and_survivors_stay_whole() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Threads(2));
    let old = tree(0, 800);
    let first = back_up(&repository, &old);
    let mut new = tree(0, 400);
    new.extend((400..800).map(|i| (format!("data/{i:05}"), noise(99_000 + i, 3000))));
    let second = back_up(&repository, &new);
    let before = repository.stats().expect("counts");
    repository.forget(&[first.snapshot.id]).expect("forgets");
    let preview =
        repository.prune(&prune_plan(repo::MaxUnused::Percent(0.0), repo::Act::Preview), &|_| {}).expect("previews");
    assert_eq!(repository.stats().expect("counts").pack_bytes, before.pack_bytes, "a preview deletes nothing");
    let report = prune(&repository);
    assert!(preview.bytes_freed > 500_000 && report.packs_swept > 0 && report.waiting_for.is_empty(), "{report:?}");
    let after = repository.stats().expect("counts");
    assert!(after.pack_bytes + 500_000 < before.pack_bytes, "{before:?} {after:?}");
    assert_eq!(restore(&repository, &second.snapshot), new);
    assert_eq!(verify(&repository, repo::Depth::Decoded).problems, []);
    let again = prune(&repository);
    assert_eq!((again.packs_swept, again.packs_condemned), (0, 0), "a second prune finds nothing to do");
    repository.forget(&[second.snapshot.id]).expect("forgets");
    prune(&repository);
    prune(&repository);
    let empty = repository.stats().expect("counts");
    assert_eq!((empty.packs, empty.runs, empty.index_tables), (0, 0, 0), "nothing is left of what nobody needs");
}

#[test]
fn segments_before_the_first_that_a_snapshot_needs_go_and_all_others_stay() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let name = |number| repo::ledger::SegmentName { timeline: 1, number };
    for (ledger, numbers) in [("wal:a", 1..=9), ("wal:b", 1..=3)] {
        let ledger = repository.ledger(ledger).expect("opens");
        for number in numbers {
            ledger.append(name(number), &[number as u8; 100]).expect("stores");
        }
    }
    let needing = |first, last| {
        let segments = repo::Segments {
            ledger: "wal:a".into(),
            origin: "7".into(),
            bytes: 100,
            first: name(first),
            last: name(last),
        };
        let capture = repository.capture(plan()).expect("begins");
        capture.commit(Outcome { segments: Some(segments), ..Outcome::default() }).expect("commits").snapshot
    };
    let (old, _new) = (needing(4, 5), needing(7, 8));
    let left = |ledger: &str| {
        let segments = repository.ledger(ledger).expect("opens").segments().expect("lists");
        segments.iter().map(|segment| segment.number).collect::<Vec<_>>()
    };
    let preview = prune_plan(repo::MaxUnused::Percent(0.0), repo::Act::Preview);
    assert_eq!(repository.prune(&preview, &|_| {}).expect("previews").segments_expired, 3);
    assert_eq!(left("wal:a"), (1..=9).collect::<Vec<_>>());
    assert_eq!(prune(&repository).segments_expired, 3);
    assert_eq!(left("wal:a"), (4..=9).collect::<Vec<_>>());
    repository.forget(&[old.id]).expect("forgets");
    prune(&repository);
    assert_eq!(left("wal:a"), [7, 8, 9]);
    // Nobody knows what an archive without snapshots is for.
    assert_eq!(left("wal:b"), [1, 2, 3]);
}

#[test]
fn a_prune_beside_a_running_backup_waits_and_loses_nothing() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let files = tree(0, 300);
    let first = back_up(&repository, &files);
    let writer = reopen(&mem).expect("opens");
    let mut capture = writer.capture(plan()).expect("begins");
    // The running backup relies on chunks that are about to lose their last snapshot.
    repository.forget(&[first.snapshot.id]).expect("forgets");
    let report = prune(&repository);
    assert_eq!(report.packs_swept, 0);
    assert!(!report.waiting_for.is_empty());
    let cutter = capture.cutter();
    for (key, data) in &files {
        let cut = cutter.whole(data.clone());
        let chunks = u64::from(!data.is_empty());
        if chunks > 0 {
            capture.chunk(cut).expect("stores");
        }
        let file = FileNode { size: data.len() as u64, chunks, digest: None, extents: None };
        capture.entry(&entry(key, Node::File(file))).expect("adds");
    }
    let done = capture.commit(Outcome::default()).expect("commits");
    for _ in 0..3 {
        prune(&repository);
    }
    assert_eq!(restore(&repository, &done.snapshot), files);
    assert_eq!(verify(&repository, repo::Depth::Decoded).problems, []);
}

#[test]
fn a_backup_that_begins_after_a_condemnation_stores_anew_what_is_about_to_go() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let files = tree(0, 300);
    let first = back_up(&repository, &files);
    let reader = reopen(&mem).expect("opens");
    let reading = reader.reading(&Process::default()).expect("reads");
    repository.forget(&[first.snapshot.id]).expect("forgets");
    assert!(!prune(&repository).waiting_for.is_empty(), "somebody reads");
    let second = back_up(&repository, &files);
    assert!(second.snapshot.public.stats.new_bytes > 100_000, "condemned chunks are not relied on");
    assert_eq!(restore(&reader, &first.snapshot), files, "a reader keeps what it began to read");
    drop(reading);
    assert!(prune(&repository).packs_swept > 0);
    assert_eq!(restore(&repository, &second.snapshot), files);
    assert_eq!(verify(&repository, repo::Depth::Decoded).problems, []);
}

#[test]
fn a_writer_that_was_given_up_does_not_commit() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let capture = repository.capture(plan()).expect("begins");
    let keeper = reopen(&mem).expect("opens");
    let plan = repo::PrunePlan { life: &|_| repo::Life::Dead, ..prune_plan(repo::MaxUnused::Unlimited, repo::Act::Do) };
    keeper.prune(&plan, &|_| {}).expect("prunes");
    assert!(matches!(capture.commit(Outcome::default()), Err(RepoError::Fenced)));
    assert!(keeper.snapshots().expect("lists").is_empty());
}

#[test]
fn any_damage_is_seen_and_nothing_wrong_is_given_out() {
    let good = MemStore::new();
    let files = tree(0, 60);
    back_up(&init(&good, Lanes::Inline), &files);
    let store = Store::new(Arc::new(good.clone()));
    for key in good.keys().into_iter().filter(|key| key.path() != "RECOVERY.txt") {
        let len = store.size(&key).expect("sizes").expect("is there") as usize;
        for how in 0..4 {
            let mem = MemStore::new();
            let copy = Store::new(Arc::new(mem.clone()));
            for key in good.keys() {
                copy.put_new(&key, &store.get(&key, store::Span::Whole).expect("reads")).expect("copies");
            }
            match how {
                0 => mem.corrupt(&key, |body| body[len / 2] ^= 4),
                1 => mem.corrupt(&key, |body| body.truncate(len / 3)),
                2 => mem.corrupt(&key, |body| body[..len.min(40)].fill(0x55)),
                _ => mem.remove(&key),
            }
            let outcome = reopen(&mem).and_then(|repository| {
                let plan = repo::VerifyPlan {
                    depth: repo::Depth::Decoded,
                    share: repo::Share::All,
                    snapshots: None,
                    process: Process::default(),
                };
                let found = repository.verify(&plan, &|_| {})?.problems;
                let snapshot = repository.snapshots()?.pop();
                Ok((found, snapshot.map(|snapshot| try_restore(&repository, &snapshot))))
            });
            let Ok((problems, restored)) = outcome else { continue };
            let harmless = how == 3 && restored.as_ref().is_some_and(|r| r.as_ref().is_ok_and(|r| *r == files));
            assert!(!problems.is_empty() || harmless, "damage {how} of {key} was not seen");
            if let Some(Ok(restored)) = restored {
                assert_eq!(restored, files, "damage {how} of {key}");
            }
        }
    }
}

fn try_restore(repository: &Repository, snapshot: &repo::Snapshot) -> repo::Result<BTreeMap<String, Vec<u8>>> {
    let reading = repository.reading(&Process::default())?;
    let reader = reading.open(snapshot)?;
    let mut files = BTreeMap::new();
    for located in reader.entries(b"") {
        let located = located?;
        let Node::File(file) = &located.entry.node else { panic!("only files") };
        let data = Mutex::new(Vec::new());
        for id in reader.ids(located.first, file.chunks)? {
            let want = Want { id, place: reader.locate(&id)?, tag: 0 };
            let failed = reader.fetch(&[want], &|_, bytes| {
                data.lock().expect("lock").extend_from_slice(bytes);
                Ok(())
            })?;
            if let Some((_, e)) = failed.into_iter().next() {
                return Err(e);
            }
        }
        files.insert(
            String::from_utf8(located.entry.key).expect("text").replace('\0', "/"),
            data.into_inner().expect("lock"),
        );
    }
    Ok(files)
}

#[test]
fn a_copy_is_the_repository_and_mends_it() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let files = tree(0, 200);
    back_up(&repository, &files);
    let twin = MemStore::new();
    let to = Store::new(Arc::new(twin.clone()));
    let report = repo::replicate(repository.store(), &to, repository.world(), repo::Act::Do, &|_| {}).expect("copies");
    assert!(report.objects_copied > 5 && !report.already_equal);
    let again = repo::replicate(repository.store(), &to, repository.world(), repo::Act::Do, &|_| {}).expect("copies");
    assert!(again.already_equal);
    let copy = reopen(&twin).expect("opens");
    assert_eq!(restore(&copy, &copy.snapshots().expect("lists")[0]), files);
    let pack = mem.keys().into_iter().find(|key| key.path().starts_with("packs/")).expect("a pack");
    let index = mem.keys().into_iter().find(|key| key.path().starts_with("index/")).expect("a table");
    mem.corrupt(&pack, |body| body[200] ^= 1);
    mem.remove(&index);
    assert!(!verify(&repository, repo::Depth::Decoded).damaged_snapshots.is_empty());
    repository.mend(Some(&to), &Process::default(), &|_| repo::Life::Unknown).expect("mends");
    assert_eq!(verify(&repository, repo::Depth::Decoded).problems, []);
    let keyless = repo::verify_keyless(&to, repository.world(), &|_| {}).expect("verifies");
    assert_eq!(keyless.problems, []);
    twin.corrupt(&pack, |body| body[300] ^= 1);
    assert_eq!(repo::verify_keyless(&to, repository.world(), &|_| {}).expect("verifies").problems.len(), 1);
}

#[test]
fn each_role_can_do_its_part_and_no_more() {
    let mem = MemStore::new();
    let mut owner = init(&mem, Lanes::Inline);
    let files = tree(0, 50);
    back_up(&owner, &files);
    let store = Store::new(Arc::new(mem.clone()));
    let mut enrol = |role| {
        let bundle = owner.enrol(role, "helper", None).expect("enrols");
        let again = repo::Bundle::from_json(&bundle.to_json()).expect("reads");
        Repository::open(&store, &world(Lanes::Inline), &Credential::Bundle(Box::new(again))).expect("opens")
    };
    let writer = enrol(repo::Role::Writer);
    let written = back_up(&writer, &files);
    assert_eq!(back_up(&writer, &files).snapshot.public.stats.new_bytes, 0, "a writer knows its own history");
    assert_eq!(writer.snapshots().expect("lists").len(), 2, "and nobody else's");
    assert!(matches!(writer.reading(&Process::default()).map(drop), Err(RepoError::NotAuthorised { .. })));
    assert!(matches!(writer.forget(&[written.snapshot.id]), Err(RepoError::NotAuthorised { .. })));
    assert!(writer.prune(&prune_plan(repo::MaxUnused::Unlimited, repo::Act::Do), &|_| {}).is_err());
    let keeper = enrol(repo::Role::Keeper);
    assert_eq!(keeper.snapshots().expect("lists").len(), 3);
    assert!(matches!(keeper.reading(&Process::default()).map(drop), Err(RepoError::NotAuthorised { .. })));
    assert!(matches!(keeper.capture(plan()).map(drop), Err(RepoError::NotAuthorised { .. })));
    assert_eq!(verify(&keeper, repo::Depth::Digests).problems, []);
    keeper.forget(&[written.snapshot.id]).expect("forgets");
    prune(&keeper);
    let reader = enrol(repo::Role::Reader);
    assert!(matches!(reader.capture(plan()).map(drop), Err(RepoError::NotAuthorised { .. })));
    for snapshot in reader.snapshots().expect("lists") {
        assert_eq!(restore(&reader, &snapshot), files);
    }
    assert_eq!(verify(&owner, repo::Depth::Decoded).problems, []);
}

#[test]
fn many_heads_fold_into_a_checkpoint_that_says_the_same() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let files = tree(0, 3);
    let ids: Vec<_> = (0..70).map(|_| back_up(&repository, &files).snapshot.id).collect();
    repository.forget(&ids[..10]).expect("forgets");
    let seen = repository.tips().expect("tips");
    prune(&repository);
    assert!(repository.stats().expect("counts").heads <= 2);
    let now: Vec<_> = repository.snapshots().expect("lists").iter().map(|s| s.id).collect();
    assert_eq!(now, ids[10..]);
    repository.check_history(&seen).expect("the history goes on from what was seen");
    let next = back_up(&repository, &files);
    assert_eq!(repository.snapshots().expect("lists").last().map(|s| s.id), Some(next.snapshot.id));
    assert_eq!(verify(&repository, repo::Depth::Decoded).problems, []);
}

#[test]
fn a_rollback_is_noticed_by_who_saw_more() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    back_up(&repository, &tree(0, 3));
    let before: Vec<_> = mem.keys();
    back_up(&repository, &tree(0, 3));
    let seen = repository.tips().expect("tips");
    for key in mem.keys().into_iter().filter(|key| !before.contains(key)) {
        mem.remove(&key);
    }
    assert!(matches!(repository.check_history(&seen), Err(RepoError::LostHistory(_))));
}

#[test]
fn an_init_that_was_cut_off_can_be_repeated() {
    for puts in 0..12 {
        let mem = MemStore::new();
        mem.fail_after(puts, store::Kind::Unreachable);
        let store = Store::new(Arc::new(mem.clone()));
        let made = Repository::init(&store, &world(Lanes::Inline), Some(&passphrase()), "test", PackSize::Disk);
        mem.heal();
        if made.is_err()
            && store
                .size(&store::Key::new(store::Shelf::Root, "backstay.json").expect("good"))
                .expect("sizes")
                .is_none()
        {
            let opened = reopen(&mem);
            assert!(matches!(opened.map(drop), Err(RepoError::NoRepository(_))));
            Repository::init(&store, &world(Lanes::Inline), Some(&passphrase()), "test", PackSize::Disk).expect("made");
        }
        let repository = reopen(&mem).expect("opens");
        // Cut off at the very last object, the spare copy of the configuration, it is whole but for that.
        repository.mend(None, &Process::default(), &|_| repo::Life::Unknown).expect("mends");
        assert_eq!(verify(&repository, repo::Depth::Decoded).problems, [], "after {puts} puts");
    }
}

#[test]
fn a_store_that_fails_at_any_put_leaves_what_was_committed() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let old = tree(0, 40);
    let first = back_up(&repository, &old);
    let new = tree(1000, 40);
    for puts in 0..12 {
        mem.fail_after(puts, store::Kind::Full);
        let outcome = repository.capture(plan()).and_then(|mut capture| {
            for (key, data) in &new {
                let chunks = u64::from(!data.is_empty());
                if chunks > 0 {
                    let cut = capture.cutter().whole(data.clone());
                    capture.chunk(cut)?;
                }
                let file = FileNode { size: data.len() as u64, chunks, digest: None, extents: None };
                capture.entry(&entry(key, Node::File(file)))?;
            }
            capture.commit(Outcome::default())
        });
        mem.heal();
        let snapshots = repository.snapshots().expect("lists");
        assert_eq!(restore(&repository, &snapshots[0]), old);
        assert_eq!(snapshots[0].id, first.snapshot.id);
        for snapshot in &snapshots[1..] {
            assert_eq!(restore(&repository, snapshot), new, "what is visible is whole");
        }
        if outcome.is_ok() {
            assert_eq!(snapshots.last().map(|s| s.id), outcome.ok().map(|c| c.snapshot.id));
        }
        assert_eq!(verify(&repository, repo::Depth::Decoded).problems, []);
    }
}

#[test]
fn the_kit_alone_opens_the_repository_and_no_other() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let files = tree(0, 20);
    back_up(&repository, &files);
    let kit = Credential::parse(&format!("printed kit\n{}\n", *repository.identity().expect("has it"))).expect("reads");
    let store = Store::new(Arc::new(mem.clone()));
    let opened = Repository::open(&store, &world(Lanes::Inline), &kit).expect("opens");
    assert_eq!(restore(&opened, &opened.snapshots().expect("lists")[0]), files);
    let other = MemStore::new();
    init(&other, Lanes::Inline);
    let store = Store::new(Arc::new(other));
    assert!(matches!(Repository::open(&store, &world(Lanes::Inline), &kit).map(drop), Err(RepoError::WrongKey(_))));
}

#[test]
fn one_lost_table_costs_time_and_not_data() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let files = tree(0, 100);
    let done = back_up(&repository, &files);
    let tables: Vec<_> = mem.keys().into_iter().filter(|key| key.shelf() == store::Shelf::Index).collect();
    tables.iter().for_each(|key| mem.remove(key));
    assert_eq!(restore(&repository, &done.snapshot), files);
    repository.mend(None, &Process::default(), &|_| repo::Life::Unknown).expect("mends");
    assert_eq!(repository.stats().expect("counts").index_tables, 1);
    assert_eq!(verify(&repository, repo::Depth::Decoded).problems, []);
}

#[test]
fn a_lost_head_stops_deletion_and_not_reading() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let files = tree(0, 20);
    back_up(&repository, &files);
    let heads: Vec<_> = mem.keys().into_iter().filter(|key| key.shelf() == store::Shelf::Heads).collect();
    let last = back_up(&repository, &files);
    let victim = heads.iter().find(|key| mem.keys().contains(key)).expect("a head");
    mem.remove(victim);
    assert!(!repository.history_problems().expect("reads").is_empty());
    assert_eq!(restore(&repository, &last.snapshot), files);
    let refused = repository.prune(&prune_plan(repo::MaxUnused::Unlimited, repo::Act::Do), &|_| {});
    assert!(matches!(refused.map(drop), Err(RepoError::LostHistory(_))));
    assert!(!verify(&repository, repo::Depth::Listed).problems.is_empty());
}

#[test]
fn a_loss_that_is_accepted_leaves_a_repository_that_can_be_pruned() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let files = tree(0, 20);
    let first = back_up(&repository, &files);
    let before = mem.keys();
    back_up(&repository, &tree(500, 20));
    let last = back_up(&repository, &files);
    let victim = mem.keys().into_iter().find(|key| key.shelf() == store::Shelf::Heads && !before.contains(key));
    let gone = [victim.expect("a head")];
    mem.corrupt(&gone[0], |body| body[30] ^= 1);
    let damaged = repository.history_problems().expect("reads").len();
    assert_eq!(repository.accept_loss().expect("accepts"), damaged);
    assert_eq!(repository.history_problems().expect("reads"), Vec::<String>::new());
    let left = repository.snapshots().expect("lists");
    assert!(left.iter().any(|s| s.id == first.snapshot.id));
    prune(&repository);
    for snapshot in left.iter().filter(|s| s.id == first.snapshot.id || s.id == last.snapshot.id) {
        assert_eq!(restore(&repository, snapshot), files);
    }
}

#[test]
fn a_copy_that_is_cut_off_has_no_head_without_its_parents() {
    let (mem, copy) = (MemStore::new(), MemStore::new());
    let repository = init(&mem, Lanes::Inline);
    let stores = [&mem, &copy].map(|mem| Store::new(Arc::new(mem.clone())));
    let replicate =
        || repo::replicate(&stores[0], &stores[1], &world(Lanes::Threads(4)), repo::Act::Do, &|_| {}).map(drop);
    back_up(&repository, &tree(0, 3));
    replicate().expect("copies");
    (1..7).for_each(|n| drop(back_up(&repository, &tree(n * 100, 3))));
    let mut cut_off = 0;
    loop {
        copy.fail_after(1, store::Kind::Full);
        let done = replicate();
        copy.heal();
        let opened = reopen(&copy).expect("it is a repository all the time");
        assert_eq!(opened.history_problems().expect("reads"), Vec::<String>::new());
        if done.is_ok() {
            break;
        }
        cut_off += 1;
    }
    assert!(cut_off > 12, "once at least for each pack and head");
    assert_eq!(verify(&reopen(&copy).expect("opens"), repo::Depth::Decoded).problems, []);
}

#[test]
fn a_committed_head_that_is_gone_is_named_until_it_is_given_up() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    back_up(&repository, &tree(0, 5));
    let before = mem.keys();
    back_up(&repository, &tree(100, 5));
    // The last one: no other head names it.
    let lost = mem.keys().into_iter().find(|key| key.shelf() == Shelf::Heads && !before.contains(key)).expect("a head");
    mem.remove(&lost);
    let named = || verify(&repository, repo::Depth::Listed).problems.iter().any(|p| p.object == lost.path());
    assert!(named());
    prune(&repository);
    assert!(named(), "a prune does not take the last witness away");
    assert_eq!(repository.accept_loss().expect("accepts"), 1);
    prune(&repository);
    assert_eq!(verify(&repository, repo::Depth::Decoded).problems, []);
}

#[test]
fn a_run_that_left_packs_behind_and_whose_key_is_gone_is_no_damage() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let kept = back_up(&repository, &tree(0, 5));
    let before = mem.keys();
    let mut capture = repository.capture(plan()).expect("begins");
    for data in tree(100, 400).into_values().filter(|data| !data.is_empty()) {
        let cut = capture.cutter().whole(data);
        capture.chunk(cut).expect("stores");
    }
    drop(capture);
    let left = |shelf: Shelf| mem.keys().into_iter().filter(move |key| key.shelf() == shelf);
    assert!(left(Shelf::Packs).any(|key| !before.contains(&key)), "it stored something");
    let key = left(Shelf::Runs).find(|key| !before.contains(key)).expect("a run has a key");
    mem.remove(&key);
    assert_eq!(verify(&repository, repo::Depth::Decoded).problems, []);
    // Of a run that a snapshot needs it is.
    mem.remove(&left(Shelf::Runs).next().expect("the first run's"));
    assert!(!verify(&repository, repo::Depth::Decoded).problems.is_empty());
    assert_eq!(repository.snapshots().expect("lists").len(), 1, "{}", kept.snapshot.id);
}

#[test]
fn what_reads_wrongly_only_once_is_not_given_up_for_lost() {
    let mem = MemStore::new();
    let repository = init(&mem, Lanes::Inline);
    let snapshots: Vec<_> = (0..3).map(|n| back_up(&repository, &tree(n * 100, 5)).snapshot.id).collect();
    let heads: Vec<_> = mem.keys().into_iter().filter(|key| key.shelf() == Shelf::Heads).collect();
    for head in heads {
        let twisted = Twisting { mem: mem.clone(), shelf: None, once: Mutex::new(Some(head.clone())) };
        let credential = Credential::Passphrase(passphrase());
        let flaky =
            Repository::open(&Store::new(Arc::new(twisted)), &world(Lanes::Inline), &credential).expect("opens");
        assert_eq!(flaky.accept_loss().expect("looks"), 0, "{head}");
        let left: Vec<_> = repository.snapshots().expect("lists").iter().map(|s| s.id).collect();
        assert_eq!(left, snapshots, "{head}");
    }
}

#[test]
fn a_revoked_writer_adds_nothing_more_and_disturbs_nobody() {
    let mem = MemStore::new();
    let mut owner = init(&mem, Lanes::Inline);
    let store = Store::new(Arc::new(mem.clone()));
    let bundle = owner.enrol(repo::Role::Writer, "stolen", None).expect("enrols");
    let credential = Credential::Bundle(Box::new(bundle));
    let thief = Repository::open(&store, &world(Lanes::Inline), &credential).expect("opens");
    let files = tree(0, 40);
    let before = back_up(&thief, &files);
    let announced = thief.capture(plan()).expect("begins");
    owner.revoke(before.snapshot.signer).expect("revokes");
    // Who opened the repository before can still write into the store; what they say does not count.
    back_up(&thief, &tree(1, 5));
    let live =
        |repository: &Repository| -> Vec<_> { repository.snapshots().expect("lists").iter().map(|s| s.id).collect() };
    let fresh = Repository::open(&store, &world(Lanes::Inline), &Credential::Passphrase(passphrase())).expect("opens");
    assert_eq!(live(&fresh), [before.snapshot.id]);
    assert_eq!(fresh.history_problems().expect("reads"), Vec::<String>::new());
    assert!(matches!(
        Repository::open(&store, &world(Lanes::Inline), &credential).map(drop),
        Err(RepoError::WrongKey(why)) if why.contains("revoked")
    ));
    let own = back_up(&fresh, &files);
    prune(&fresh);
    prune(&fresh);
    drop(announced);
    assert_eq!(live(&fresh), [before.snapshot.id, own.snapshot.id]);
    for snapshot in fresh.snapshots().expect("lists") {
        assert_eq!(restore(&fresh, &snapshot), files);
    }
    assert_eq!(verify(&fresh, repo::Depth::Decoded).problems, []);
    assert!(matches!(owner.revoke(own.snapshot.signer), Err(RepoError::BadKey(_))), "an owner is root itself");
}

#[test]
fn a_revoked_keeper_removes_nothing_more_and_what_it_removed_stays_removed() {
    let mem = MemStore::new();
    let mut owner = init(&mem, Lanes::Inline);
    let store = Store::new(Arc::new(mem.clone()));
    let bundle = owner.enrol(repo::Role::Keeper, "stolen", None).expect("enrols");
    let thief = Repository::open(&store, &world(Lanes::Inline), &Credential::Bundle(Box::new(bundle))).expect("opens");
    let ids: Vec<_> = (0..3).map(|n| back_up(&owner, &tree(n, 10)).snapshot.id).collect();
    thief.forget(&ids[..1]).expect("forgets");
    let signer = owner.certificates().iter().find(|c| c.label == "stolen").expect("is listed").signer;
    owner.revoke(signer).expect("revokes");
    thief.forget(&ids[1..2]).expect("writes");
    let fresh = Repository::open(&store, &world(Lanes::Inline), &Credential::Passphrase(passphrase())).expect("opens");
    let live: Vec<_> = fresh.snapshots().expect("lists").iter().map(|s| s.id).collect();
    assert_eq!(live, ids[1..]);
    prune(&fresh);
    assert_eq!(verify(&fresh, repo::Depth::Decoded).problems, []);
}

#[test]
fn a_store_that_gives_back_something_else_fails_a_run_that_reads_back() {
    for shelf in [Shelf::Packs, Shelf::Index] {
        let mem = MemStore::new();
        let repository = init(&mem, Lanes::Inline);
        let twisted = Twisting { mem: mem.clone(), shelf: Some(shelf), once: Mutex::default() };
        let store = Store::new(Arc::new(twisted));
        let open =
            || Repository::open(&store, &world(Lanes::Inline), &Credential::Passphrase(passphrase())).expect("opens");
        let read_back = CapturePlan { assurance: Assurance::ReadBack, ..plan() };
        let failed = store_files(&open(), read_back, &tree(0, 20)).map(drop);
        assert!(failed.is_err_and(|e| e.is_damage()), "{shelf:?}");
        assert_eq!(repository.snapshots().expect("lists").len(), 0, "{shelf:?}");
        // Nothing rests on what was twisted.
        let again = back_up(&repository, &tree(0, 20));
        assert_eq!(restore(&repository, &again.snapshot), tree(0, 20), "{shelf:?}");
    }
}
