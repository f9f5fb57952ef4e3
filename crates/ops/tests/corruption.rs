//! Small repositories of several shapes, damaged in every way a store can damage them: verification sees it and names whose
//! files suffer, a restore gives out no wrong byte and everything that is whole, and another copy mends it.
//!
//! What it is for: `CORRUPTIONS=20000 cargo test -p ops --test corruption` is the nightly form; without the variable a sample
//! is taken. `CORRUPTION=N` repeats the one that a failure names. What it may not know: how objects are made.
//! Where data comes from and goes: captured from files into memory; each damage to a copy in memory; restored to a temporary
//! directory.
#![allow(clippy::unwrap_used)]

use repo::{
    Act, Assurance, Capture, CapturePlan, Compression, Credential, Depth, Grace, HeadId, Life, MaxUnused, Outcome,
    PackSize, Process, PrunePlan, RepoError, Repository, Share, Snapshot, SnapshotId, VerifyPlan, VerifyReport,
};
use sources::files::apply::{RestorePlan, restore};
use sources::files::{FilesPlan, Roots, Select, SelectSpec};
use sources::sqlite::Sqlite;
use sources::stream::{StreamPlan, capture_stream};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use store::{Key, Lanes, MemStore, Shelf, Span, Store, World};

const SAMPLE: u64 = 300;

/// Numbers that a seed repeats.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.fill(&mut bytes);
        bytes
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        let bytes: [u8; 8] = self.bytes(8).try_into().unwrap();
        (u64::from_le_bytes(bytes) % n as u64) as usize
    }
}

// ---- repositories of several shapes ---------------------------------------------------------------------------------

type Objects = BTreeMap<Key, Vec<u8>>;
/// Paths and contents.
type Files = BTreeMap<String, Vec<u8>>;

/// A repository as it stands, as it stood before the last thing that was done to it, and what its snapshots hold.
struct Shape {
    name: &'static str,
    credential: Credential,
    objects: Objects,
    older: Objects,
    seen: Vec<HeadId>,
    holds: BTreeMap<SnapshotId, Files>,
}

/// A repository that is being made, over a tree of files.
struct Making {
    mem: MemStore,
    repository: Repository,
    credential: Credential,
    dir: tempfile::TempDir,
    older: Objects,
    holds: BTreeMap<SnapshotId, Files>,
}

fn world() -> World {
    World { lanes: Lanes::Inline, ..World::real() }
}

fn store_of(mem: &MemStore) -> Store {
    Store::new(Arc::new(mem.clone()))
}

fn objects_of(mem: &MemStore) -> Objects {
    mem.keys().into_iter().map(|key| (key.clone(), store_of(mem).get(&key, Span::Whole).unwrap())).collect()
}

fn mem_of(objects: &Objects) -> MemStore {
    let mem = MemStore::new();
    for (key, body) in objects {
        store_of(&mem).put_new(key, body).unwrap();
    }
    mem
}

impl Making {
    fn new() -> Making {
        let mem = MemStore::new();
        let made = Repository::init(&store_of(&mem), &world(), None, "test", PackSize::Bytes(20_000)).unwrap();
        let credential = Credential::Bundle(Box::new(made.1));
        let dir = tempfile::tempdir().unwrap();
        Making { mem, repository: made.0, credential, dir, older: Objects::new(), holds: BTreeMap::new() }
    }

    fn write(&self, name: &str, data: &[u8]) {
        let path = self.dir.path().join("src").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
    }

    /// Thirteen files, some of several chunks.
    fn fill(&self, seed: u64) {
        let mut dice = Dice::new(seed);
        for n in 0..12 {
            let size = if n % 5 == 4 { 150_000 } else { 1 + dice.below(9_000) };
            self.write(&format!("d{}/f{n:02}", n % 3), &dice.bytes(size));
        }
        self.write("empty", b"");
    }

    fn capture(&mut self, kind: &str, feed: impl Fn(&Making, &mut Capture<'_>)) -> SnapshotId {
        self.older = objects_of(&self.mem);
        let plan = CapturePlan {
            host: "host".into(),
            user: "me".into(),
            kind: kind.into(),
            paths: vec!["/src".into()],
            tags: Vec::new(),
            source: None,
            reason: None,
            assurance: Assurance::default(),
            program: "test".into(),
            process: Process::default(),
            compression: Compression::Level(1),
            time: None,
        };
        let mut capture = self.repository.capture(plan).unwrap();
        feed(self, &mut capture);
        let snapshot = capture.commit(Outcome::default()).unwrap().snapshot;
        let got = restored(&self.repository, &snapshot);
        assert!(got.lost.is_empty() && got.refused.is_none() && !got.files.is_empty(), "{got:?}");
        self.holds.insert(snapshot.id, got.files);
        snapshot.id
    }

    fn back_up(&mut self) -> SnapshotId {
        self.capture("files", |making, capture| {
            let plan = FilesPlan {
                roots: Roots::parse(&[making.dir.path().join("src")], Path::new("/")).unwrap(),
                select: Select::new(&SelectSpec::default()).unwrap(),
                sqlite: Sqlite::Auto,
                cache: None,
                scratch: making.dir.path().join("scratch"),
                moving: None,
                world: world(),
            };
            let captured = sources::files::capture(&plan, capture, &|_| {}).unwrap();
            assert_eq!(captured.report.problems.errors(), 0);
        })
    }

    fn forget(&mut self, id: SnapshotId) {
        self.repository.forget(&[id]).unwrap();
        self.holds.remove(&id);
    }

    fn prune(&mut self) {
        self.older = objects_of(&self.mem);
        let plan = PrunePlan {
            act: repo::Act::Do,
            max_unused: MaxUnused::Percent(0.0),
            grace: Grace::Default,
            life: &|_| Life::Dead,
            process: Process::default(),
            as_if_forgotten: &[],
        };
        self.repository.prune(&plan, &|_| {}).unwrap();
    }

    fn done(self, name: &'static str) -> Shape {
        let (objects, seen) = (objects_of(&self.mem), self.repository.tips().unwrap());
        let Making { credential, older, holds, .. } = self;
        Shape { name, credential, objects, older, seen, holds }
    }
}

fn one_snapshot() -> Shape {
    let mut making = Making::new();
    making.fill(1);
    making.back_up();
    making.done("one snapshot")
}

fn several_snapshots() -> Shape {
    let mut making = Making::new();
    making.fill(1);
    for seed in 1..4 {
        making.write("changing", &Dice::new(seed).bytes(30_000));
        making.back_up();
    }
    making.done("several snapshots")
}

fn stream() -> Shape {
    let mut making = Making::new();
    for seed in 1..3 {
        making.capture("stream", |_, capture| {
            let data = Dice::new(seed).bytes(200_000);
            let plan = StreamPlan::named("dump.sql").unwrap();
            capture_stream(&plan, &mut data.as_slice(), capture, (&world(), &|_| {})).unwrap();
        });
    }
    making.done("stream")
}

fn database() -> Shape {
    let mut making = Making::new();
    making.write("beside", b"a small file");
    let db = rusqlite::Connection::open(making.dir.path().join("src/live.db")).unwrap();
    db.execute_batch("create table t (n integer primary key, fill blob)").unwrap();
    for rows in [40, 10] {
        for _ in 0..rows {
            db.execute("insert into t (fill) values (randomblob(3000))", ()).unwrap();
        }
        making.back_up();
    }
    making.done("database")
}

fn pruned() -> Shape {
    let mut making = Making::new();
    making.fill(1);
    let first = making.back_up();
    making.write("d0/f00", &Dice::new(50).bytes(60_000));
    making.write("d1/f04", &Dice::new(51).bytes(60_000));
    making.back_up();
    making.fill(2);
    making.back_up();
    making.forget(first);
    making.prune();
    making.done("pruned and repacked")
}

fn folded() -> Shape {
    let mut making = Making::new();
    making.fill(3);
    let ids: Vec<SnapshotId> = (0..66).map(|_| making.back_up()).collect();
    ids[..63].iter().for_each(|id| making.forget(*id));
    making.prune();
    making.fill(4);
    making.back_up();
    making.done("heads folded")
}

fn copied() -> Shape {
    let shape = several_snapshots();
    let to = MemStore::new();
    let copy = |objects: &Objects| {
        repo::replicate(&store_of(&mem_of(objects)), &store_of(&to), &world(), Act::Do, &|_| {}).unwrap();
        objects_of(&to)
    };
    let older = copy(&shape.older);
    let objects = copy(&shape.objects);
    Shape { name: "copy", objects, older, ..shape }
}

// ---- restoring and verifying ----------------------------------------------------------------------------------------

#[derive(Debug, Default)]
struct Restored {
    files: Files,
    /// Paths that the restore says it could not have.
    lost: BTreeSet<String>,
    refused: Option<String>,
}

fn read_tree(at: &Path, top: &Path, into: &mut Files) {
    for entry in std::fs::read_dir(at).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_tree(&path, top, into);
        } else {
            into.insert(format!("/{}", path.strip_prefix(top).unwrap().display()), std::fs::read(&path).unwrap());
        }
    }
}

fn restored(repository: &Repository, snapshot: &Snapshot) -> Restored {
    let target = tempfile::tempdir().unwrap();
    let mut got = Restored::default();
    let reading = repository.reading(&Process::default());
    let reader =
        reading.as_ref().map_err(ToString::to_string).and_then(|r| r.open(snapshot).map_err(|e| e.to_string()));
    let done = reader
        .and_then(|reader| restore(&RestorePlan::new(target.path()), &reader, &|_| {}).map_err(|e| e.to_string()));
    read_tree(target.path(), target.path(), &mut got.files);
    match done {
        Ok(report) => {
            got.lost = report.problems.iter().map(|p| String::from_utf8_lossy(&p.path).into_owned()).collect();
        }
        Err(e) => got.refused = Some(e),
    }
    got
}

fn verify(repository: &Repository) -> repo::Result<VerifyReport> {
    let plan = VerifyPlan { depth: Depth::Decoded, share: Share::All, snapshots: None, process: Process::default() };
    repository.verify(&plan, &|_| {})
}

// ---- damage ---------------------------------------------------------------------------------------------------------

/// What is done to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Flip,
    Truncate,
    Extend,
    Zero,
    Swap,
    Duplicate,
    Remove,
    RollBack,
    RollBackShelf,
}

const KINDS: [Kind; 9] = [
    Kind::Flip,
    Kind::Truncate,
    Kind::Extend,
    Kind::Zero,
    Kind::Swap,
    Kind::Duplicate,
    Kind::Remove,
    Kind::RollBack,
    Kind::RollBackShelf,
];

/// Does it, and says what was done; nothing where that changes nothing.
fn damage(kind: Kind, shape: &Shape, objects: &mut Objects, dice: &mut Dice) -> Option<String> {
    let keys: Vec<Key> = objects.keys().filter(|key| key.path() != "RECOVERY.txt").cloned().collect();
    // First the shelf, then the object: most objects are of few kinds.
    let shelves: Vec<Shelf> = keys.iter().map(Key::shelf).collect::<BTreeSet<_>>().into_iter().collect();
    let shelf = shelves[dice.below(shelves.len())];
    let there: Vec<&Key> = keys.iter().filter(|key| key.shelf() == shelf).collect();
    let key = there[dice.below(there.len())].clone();
    let before = objects[&key].clone();
    let body = objects.get_mut(&key)?;
    let at = dice.below(body.len());
    match kind {
        Kind::Flip => body[at] ^= 1 << dice.below(8),
        Kind::Truncate => body.truncate(at),
        Kind::Extend => body.extend_from_slice(&vec![dice.below(256) as u8; 1 + dice.below(5_000)]),
        Kind::Zero => {
            let end = (at + [1, 16, 512, 4096][dice.below(4)]).min(body.len());
            body[at..end].fill(0);
        }
        Kind::Swap => {
            let near = dice.below(4) > 0 && there.len() > 1;
            let other =
                if near { there[dice.below(there.len())].clone() } else { keys[dice.below(keys.len())].clone() };
            let theirs = objects.insert(other.clone(), before.clone())?;
            objects.insert(key.clone(), theirs.clone());
            return (theirs != before).then(|| format!("{key} and {other}"));
        }
        Kind::Duplicate => {
            // The same bytes under another good name: on another shelf, or beside it.
            let digest = blake3::hash(&before).to_hex();
            let stem = key.name().split('.').next().unwrap_or_default();
            let name = match [Shelf::Packs, Shelf::Index, Shelf::Heads, Shelf::Keys, Shelf::Runs][dice.below(5)] {
                Shelf::Keys => Key::new(Shelf::Keys, format!("{stem}-again.{digest}")),
                Shelf::Runs => Key::new(Shelf::Runs, format!("{}.{digest}", "5a".repeat(16))),
                shelf => Key::new(shelf, digest.as_str()),
            };
            let name = name.filter(|name| !shape.objects.contains_key(name))?;
            objects.insert(name.clone(), before);
            return Some(format!("{key} again as {name}"));
        }
        Kind::Remove => {
            objects.remove(&key);
        }
        Kind::RollBack => {
            objects.clone_from(&shape.older);
            return Some("everything".into());
        }
        Kind::RollBackShelf => {
            objects.retain(|key, _| key.shelf() != shelf);
            let theirs = shape.older.iter().filter(|(key, _)| key.shelf() == shelf);
            objects.extend(theirs.map(|(key, body)| (key.clone(), body.clone())));
            return (*objects != shape.objects).then(|| format!("{shelf:?}"));
        }
    }
    (objects.get(&key) != Some(&before)).then(|| key.path())
}

/// How a damage was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    /// Verification says so.
    Seen,
    /// Who saw the repository before can tell, and does.
    Remembered,
    /// Nothing that anybody needs was touched: everything restores.
    Harmless,
}

struct Case<'a> {
    shape: &'a Shape,
    kind: Kind,
    what: String,
    objects: Objects,
}

impl Case<'_> {
    fn demand(&self, holds: bool, why: impl FnOnce() -> String) {
        assert!(holds, "{}: {:?} of {}: {}", self.shape.name, self.kind, self.what, why());
    }

    fn open(&self, mem: &MemStore) -> Repository {
        let opened = Repository::open(&store_of(mem), &world(), &self.shape.credential);
        self.demand(opened.is_ok(), || format!("cannot be opened: {:?}", opened.as_ref().err()));
        opened.unwrap()
    }

    fn check(&self) -> Met {
        let mem = mem_of(&self.objects);
        let repository = self.open(&mem);
        let history = repository.check_history(&self.shape.seen);
        let report = verify(&repository);
        self.demand(report.is_ok(), || format!("cannot be verified: {:?}", report.as_ref().err()));
        let report = report.unwrap();
        let whole = self.check_restores(&repository, &report);
        let met = match (report.problems.is_empty(), history) {
            (false, _) => Met::Seen,
            (true, Err(RepoError::LostHistory(_))) => Met::Remembered,
            (true, _) => Met::Harmless,
        };
        let in_place = matches!(self.kind, Kind::Flip | Kind::Truncate | Kind::Extend | Kind::Zero | Kind::Swap);
        self.demand(!in_place || met == Met::Seen, || "verification does not see it".into());
        self.demand(whole || met != Met::Harmless, || "something is lost, and nobody sees it".into());
        self.check_mends(&mem);
        met
    }

    /// No wrong byte; what is not named is whole. Returns whether everything that was there is there.
    fn check_restores(&self, repository: &Repository, report: &VerifyReport) -> bool {
        let visible = repository.snapshots().unwrap_or_default();
        let mut whole = true;
        for (id, files) in &self.shape.holds {
            let Some(snapshot) = visible.iter().find(|snapshot| snapshot.id == *id) else {
                whole = false;
                continue;
            };
            let got = restored(repository, snapshot);
            if let Some((path, _)) = got.files.iter().find(|(path, data)| files.get(*path) != Some(data)) {
                self.demand(false, || format!("a wrong {path} was given out"));
            }
            let missing: Vec<&String> = files.keys().filter(|path| !got.files.contains_key(*path)).collect();
            if missing.is_empty() {
                continue;
            }
            whole = false;
            let hurt = report.damaged_snapshots.iter().find(|hurt| hurt.id == *id);
            self.demand(hurt.is_some(), || format!("{} has lost {missing:?} and is not named", id.short()));
            // Where entries themselves are lost, nobody knows which paths there were.
            let named = &hurt.unwrap().paths;
            let all = named.is_empty() || !report.problems.iter().all(|problem| problem.object.starts_with("packs/"));
            for path in missing {
                let told = got.refused.is_some() || got.lost.contains(path) || all && !got.lost.is_empty();
                self.demand(told, || format!("{path} is left out without a word: {:?}", got.lost));
                self.demand(all || named.contains(path), || format!("{path} is lost, and {named:?} are named"));
            }
        }
        whole
    }

    /// Another copy brings everything back.
    fn check_mends(&self, mem: &MemStore) {
        let copy = store_of(&mem_of(&self.shape.objects));
        let mended = self.open(mem).mend(Some(&copy), &Process::default(), &|_| Life::Dead);
        self.demand(mended.is_ok(), || format!("cannot be mended: {:?}", mended.err()));
        let repository = self.open(mem);
        let left = verify(&repository).unwrap().problems;
        // A good object in a wrong place is nobody's to take away.
        self.demand(left.is_empty() || self.kind == Kind::Duplicate, || format!("after mending: {left:?}"));
        let visible = repository.snapshots().unwrap();
        for (id, files) in &self.shape.holds {
            let snapshot = visible.iter().find(|snapshot| snapshot.id == *id);
            self.demand(snapshot.is_some(), || format!("after mending snapshot {} is gone", id.short()));
            let got = restored(&repository, snapshot.unwrap());
            self.demand(got.files == *files, || format!("after mending: {:?} {:?}", got.lost, got.refused));
        }
    }
}

/// The `n`-th damage, judged.
fn judge(shapes: &[Shape], n: u64) -> Result<(Kind, Met), String> {
    let shape = &shapes[n as usize % shapes.len()];
    let kind = KINDS[n as usize / shapes.len() % KINDS.len()];
    let mut dice = Dice::new(n);
    let case = loop {
        let mut objects = shape.objects.clone();
        if let Some(what) = damage(kind, shape, &mut objects, &mut dice) {
            break Case { shape, kind, what, objects };
        }
    };
    let met = catch_unwind(AssertUnwindSafe(|| case.check()));
    met.map(|met| (kind, met)).map_err(|why| {
        let why = why.downcast_ref::<String>().map_or("it panicked", String::as_str);
        format!("CORRUPTION={n}, {:?} of {}: {why}", case.kind, case.what)
    })
}

#[test]
fn every_damage_is_seen_gives_out_nothing_wrong_and_can_be_mended() {
    let shapes = [one_snapshot(), several_snapshots(), stream(), database(), pruned(), folded(), copied()];
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (from, until) = match number("CORRUPTION") {
        Some(one) => (one, one + 1),
        None => (0, number("CORRUPTIONS").unwrap_or(SAMPLE)),
    };
    let next = AtomicU64::new(from);
    let judged: Mutex<Vec<Result<(Kind, Met), String>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < until) {
                    let verdict = judge(&shapes, n);
                    judged.lock().unwrap().push(verdict);
                }
            });
        }
    });
    let mut counts: BTreeMap<(Kind, Met), u64> = BTreeMap::new();
    let mut failures = Vec::new();
    for verdict in judged.into_inner().unwrap() {
        match verdict {
            Ok(met) => *counts.entry(met).or_default() += 1,
            Err(why) => failures.push(why),
        }
    }
    if let Ok(path) = std::env::var("CORRUPTION_COUNTS") {
        let lines: Vec<String> = counts.iter().map(|((kind, met), n)| format!("{kind:?} {met:?} {n}\n")).collect();
        std::fs::write(path, lines.concat()).unwrap();
    }
    let first = failures[..failures.len().min(20)].join("\n");
    assert!(failures.is_empty(), "{} of {} damages:\n{first}", failures.len(), until - from);
}
