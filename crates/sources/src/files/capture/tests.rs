//! Captures through the real engine, over the in-memory store, and what comes out of it.

use super::*;
use crate::files::report::{Problems, Severity};
use crate::files::select::{Pattern, SelectSpec};
use repo::{
    Assurance, CapturePlan, Compression, Entry, FileNode, Located, Node, Outcome, PackSize, Process, Repository,
    Snapshot,
};
use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, SystemTime};
use store::{Clock, MemStore, Store, Timestamp};
use tempfile::TempDir;

/// The system's clock, moved forward; sleeping only moves it further.
struct Ahead(Arc<dyn Clock>, AtomicI64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.now().0 + i128::from(self.1.load(Ordering::SeqCst)))
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic() + Duration::from_nanos(self.1.load(Ordering::SeqCst).cast_unsigned())
    }

    fn sleep(&self, how_long: Duration) {
        self.1.fetch_add(i64::try_from(how_long.as_nanos()).expect("is short"), Ordering::SeqCst);
    }
}

/// A world in which everything that was written up to now is long settled.
pub(crate) fn later() -> World {
    let mut world = World::real();
    world.clock = Arc::new(Ahead(world.clock, AtomicI64::new(60_000_000_000)));
    world
}

struct Rig {
    mem: MemStore,
    repository: Repository,
    dir: TempDir,
    plan: FilesPlan,
    commits: bool,
}

struct Run {
    report: FilesReport,
    entries: BTreeMap<String, Located>,
    snapshot: Option<Snapshot>,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().expect("temp dir");
        let world = later();
        let mem = MemStore::new();
        let store = Store::new(Arc::new(mem.clone()));
        let (repository, _) = Repository::init(&store, &world, None, "test", PackSize::Bytes(300_000)).expect("made");
        std::fs::create_dir(dir.path().join("src")).expect("makes");
        let cache = CacheSpec {
            dir: dir.path().join("cache"),
            repository: repository.id(),
            host: "host".to_owned(),
            rehash_every: 0,
        };
        let plan = FilesPlan {
            roots: Roots::parse(&[dir.path().join("src")], Path::new("/")).expect("roots"),
            select: Select::new(&SelectSpec::default()).expect("patterns"),
            sqlite: Sqlite::Auto,
            cache: Some(cache),
            scratch: dir.path().join("cache"),
            moving: None,
            world,
        };
        Rig { mem, repository, dir, plan, commits: true }
    }

    fn src(&self, name: &str) -> PathBuf {
        self.dir.path().join("src").join(name)
    }

    fn put(&self, name: &str, data: &[u8]) {
        let path = self.src(name);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("makes");
        std::fs::write(path, data).expect("writes");
    }

    fn capture(&self) -> repo::Capture<'_> {
        let plan = CapturePlan {
            host: "host".into(),
            user: "me".into(),
            kind: "files".into(),
            paths: vec!["/src".into()],
            tags: Vec::new(),
            source: None,
            reason: None,
            program: "test".into(),
            process: Process::default(),
            compression: Compression::Level(1),
            time: None,
            assurance: Assurance::default(),
        };
        self.repository.capture(plan).expect("begins")
    }

    fn run(&self) -> Run {
        let mut capture = self.capture();
        let captured = super::capture(&self.plan, &mut capture, &|_| {}).expect("captures");
        if !self.commits {
            return Run { report: captured.report, entries: BTreeMap::new(), snapshot: None };
        }
        let committed = capture.commit(Outcome::default()).expect("commits");
        captured.cache.finish(&committed.snapshot.id, &committed.basis).expect("remembers");
        let prefix = format!("{}/src", self.dir.path().display());
        let reading = self.repository.reading(&Process::default()).expect("reads");
        let reader = reading.open(&committed.snapshot).expect("opens");
        let mut entries = BTreeMap::new();
        for located in reader.entries(b"") {
            let located = located.expect("is sound");
            let path = String::from_utf8_lossy(&repo::path_of_key(&located.entry.key)).into_owned();
            if let Some(name) = path.strip_prefix(&prefix) {
                entries.insert(name.trim_start_matches('/').to_owned(), located);
            }
        }
        Run { report: captured.report, entries, snapshot: Some(committed.snapshot) }
    }

    /// What a restore would write.
    fn content(&self, run: &Run, name: &str) -> Vec<u8> {
        let located = &run.entries[name];
        let Node::File(file) = &located.entry.node else { panic!("{name} is no file") };
        let reading = self.repository.reading(&Process::default()).expect("reads");
        let reader = reading.open(run.snapshot.as_ref().expect("was committed")).expect("opens");
        let mut data = Vec::new();
        for id in reader.ids(located.first, file.chunks).expect("are there") {
            let want = repo::Want { id, place: reader.locate(&id).expect("is there"), tag: 0 };
            let got = std::sync::Mutex::new(Vec::new());
            let failed = reader.fetch(&[want], &|_, bytes| {
                got.lock().expect("is sound").extend_from_slice(bytes);
                Ok(())
            });
            assert!(failed.expect("fetches").is_empty());
            data.append(&mut got.into_inner().expect("is sound"));
        }
        if let Some(digest) = file.digest {
            assert_eq!(*blake3::hash(&data).as_bytes(), digest);
        }
        let mut whole = vec![0; usize::try_from(file.size).expect("is small")];
        let mut rest = data.as_slice();
        for (start, len) in file.stretches() {
            let (now, later) = rest.split_at(len as usize);
            whole[start as usize..(start + len) as usize].copy_from_slice(now);
            rest = later;
        }
        assert!(rest.is_empty());
        whole
    }
}

impl Run {
    fn entry(&self, name: &str) -> &Entry {
        &self.entries[name].entry
    }

    fn file(&self, name: &str) -> &FileNode {
        match &self.entry(name).node {
            Node::File(file) => file,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// New, changed and unmodified files.
    fn counts(&self) -> (u64, u64, u64) {
        (self.report.files_new, self.report.files_changed, self.report.files_unmodified)
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn no_problems(problems: &Problems) {
    assert_eq!(problems.kept(), []);
}

#[test]
fn a_difficult_tree_is_stored_whole_whatever_the_lanes() {
    for lanes in [Lanes::Inline, Lanes::Threads(1), Lanes::Threads(4)] {
        let mut rig = Rig::new();
        rig.plan.world.lanes = lanes;
        rig.put("empty", b"");
        rig.put("one", b"x");
        rig.put("modes/none", b"s");
        let mut expect = BTreeMap::new();
        for number in 0..700u64 {
            let name = format!("many/{:02}/{number:04}", number % 40);
            let data = noise(number, (number * 37 % 3000) as usize);
            rig.put(&name, &data);
            expect.insert(name, data);
        }
        for (name, len) in [("a/whole", 128 << 10), ("b/medium", 900_000), ("c/large", 5_000_001), ("d/pages", 6 << 20)]
        {
            let data = noise(len as u64, len);
            rig.put(name, &data);
            expect.insert(name.to_owned(), data);
        }
        symlink("../one", rig.src("link")).expect("links");
        rustix::fs::mknodat(rustix::fs::CWD, rig.src("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("makes");
        std::fs::set_permissions(rig.src("modes"), std::fs::Permissions::from_mode(0o1750)).expect("sets");
        let when = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        File::open(rig.src("one")).and_then(|f| f.set_times(FileTimes::new().set_modified(when))).expect("sets");
        let attributes =
            rustix::fs::setxattr(rig.src("one"), "user.a", b"\0b", rustix::fs::XattrFlags::empty()).is_ok();

        for again in [false, true] {
            let run = rig.run();
            no_problems(&run.report.problems);
            for (name, data) in &expect {
                assert!(rig.content(&run, name) == *data, "{name} again: {again}");
            }
            assert_eq!(run.file("empty").chunks, 0);
            assert_eq!(run.file("d/pages").chunks, (6 << 20) / (32 << 10));
            assert!(run.file("c/large").chunks < 60 && run.file("c/large").digest.is_some());
            assert_eq!(run.entry("link").node, Node::Symlink { target: b"../one".to_vec() });
            assert_eq!(run.entry("pipe").node, Node::Fifo);
            assert_eq!(run.entry("modes").mode, 0o1750);
            assert_eq!(run.entry("one").mtime, Timestamp::new(1_000_000_000, 123_456_789));
            if attributes {
                assert_eq!(
                    run.entry("one").xattrs.iter().find(|(n, _)| n == b"user.a").map(|(_, v)| &v[..]),
                    Some(&b"\0b"[..])
                );
            }
            let meta = std::fs::metadata(rig.src("one")).expect("is there");
            assert_eq!((run.entry("one").uid, run.entry("one").gid), (meta.uid(), meta.gid()));
            assert_eq!((run.report.files, run.report.symlinks, run.report.others), (707, 1, 1));
            assert_eq!(
                run.report.bytes,
                run.entries
                    .values()
                    .filter_map(|l| match &l.entry.node {
                        Node::File(f) => Some(f.size),
                        _ => None,
                    })
                    .sum::<u64>()
            );
            assert_eq!(run.counts(), if again { (0, 0, 707) } else { (707, 0, 0) });
            assert_eq!(run.report.bytes_read, if again { 0 } else { run.report.bytes });
        }
        let previous = previous(&rig.plan).expect("is remembered");
        assert_eq!(previous.totals.bytes, expect.values().map(|data| data.len() as u64).sum::<u64>() + 2);
    }
}

#[test]
fn only_what_changed_is_read_again() {
    let rig = Rig::new();
    for name in ["a", "b", "c", "d/e", "f"] {
        rig.put(name, name.as_bytes());
    }
    symlink("a", rig.src("s")).expect("links");
    assert_eq!(rig.run().counts(), (5, 0, 0));
    rig.put("b", b"longer than before");
    std::fs::set_permissions(rig.src("c"), std::fs::Permissions::from_mode(0o600)).expect("sets");
    std::fs::remove_file(rig.src("d/e")).expect("removes");
    rig.put("new", b"n");
    std::fs::remove_file(rig.src("s")).expect("removes");
    symlink("b", rig.src("s")).expect("links");
    let run = rig.run();
    assert_eq!(run.counts(), (1, 2, 2));
    assert_eq!(run.entry("c").mode, 0o600);
    assert_eq!(run.entry("s").node, Node::Symlink { target: b"b".to_vec() });
    assert_eq!(rig.content(&run, "b"), b"longer than before");
    assert!(!run.entries.contains_key("d/e") && run.entries.contains_key("d"));
    assert_eq!(rig.run().counts(), (0, 0, 5));
}

#[test]
fn what_changed_just_before_it_was_read_is_read_again() {
    let mut rig = Rig::new();
    rig.plan.world = World::real();
    rig.put("a", b"first");
    assert_eq!(rig.run().counts(), (1, 0, 0));
    // The same size, and perhaps the same tick of the file system's clock.
    rig.put("a", b"other");
    let run = rig.run();
    assert_eq!((run.counts(), rig.content(&run, "a")), ((0, 1, 0), b"other".to_vec()));
    // Nothing changed, but that cannot be known yet: read, and found to be the same.
    let run = rig.run();
    assert_eq!((run.counts(), run.report.bytes_read), ((0, 0, 1), 5));
}

#[test]
fn files_are_really_read_now_and_then() {
    let mut rig = Rig::new();
    for number in 0..100 {
        rig.put(&format!("{number}"), b"content");
    }
    if let Some(cache) = &mut rig.plan.cache {
        cache.rehash_every = 4;
    }
    let runs: Vec<Run> = (0..6).map(|_| rig.run()).collect();
    let read: Vec<u64> = runs.iter().map(|run| run.report.bytes_read / 7).collect();
    // Not in the next two runs; then each file in the run in which its turn comes.
    assert_eq!(read[..4], [100, 0, 0, 0], "{read:?}");
    assert_eq!(read[4] + read[5], 100, "{read:?}");
    assert!(read[4] > 20 && read[5] > 20, "{read:?}");
    for run in &runs[1..] {
        assert_eq!(run.counts(), (0, 0, 100));
        no_problems(&run.report.problems);
    }
}

#[test]
fn a_change_that_hides_itself_is_found_when_the_file_is_read_again() {
    let mut rig = Rig::new();
    rig.put("a", b"content");
    rig.put("b", b"content");
    rig.run();
    rig.put("b", b"CONTENT");
    // No file system lets a test set back the time of the last change, so the cache is made to believe it.
    let spec = rig.plan.cache.clone().expect("has one");
    let cache = Cache::open(&spec, &rig.plan.roots, Sqlite::Auto).expect("is whole");
    let mut next = NextCache::create(&spec, &rig.plan.roots, Sqlite::Auto, &rig.plan.world).expect("begins");
    let (mut records, mut ids) = (cache.records(), Vec::new());
    while let Some(head) = records.advance() {
        let mut memory = head.memory;
        let path = repo::path_of_key(records.key());
        let stat = rustix::fs::lstat(std::ffi::OsStr::from_bytes(&path)).expect("is there");
        memory.stamp = crate::files::meta::Stamp::of(&stat);
        next.put(&records.entry().expect("is whole"), memory, 100);
        records.ids(&mut ids).expect("are there");
        next.ids(&ids);
    }
    next.finish(&cache.snapshot, &cache.basis).expect("finishes");
    assert_eq!(rig.run().counts(), (0, 0, 2), "nothing shows");
    let records = &mut Cache::open(&spec, &rig.plan.roots, Sqlite::Auto).expect("is whole").records();
    assert!(records.advance().is_some_and(|head| head.age == 101));
    if let Some(cache) = &mut rig.plan.cache {
        cache.rehash_every = 30;
    }
    let run = rig.run();
    assert_eq!((run.counts(), rig.content(&run, "b")), ((0, 1, 1), b"CONTENT".to_vec()));
    assert_eq!((run.report.problems.warnings(), run.report.problems.errors()), (1, 0));
    assert!(run.report.problems.kept()[0].path.ends_with(b"/b"));
}

#[test]
fn without_a_commit_nothing_is_remembered() {
    let mut rig = Rig::new();
    rig.put("a", b"x");
    rig.commits = false;
    rig.run();
    assert_eq!(previous(&rig.plan), None);
    assert_eq!(rig.run().counts(), (1, 0, 0));
}

#[test]
fn chunks_that_the_repository_lost_are_stored_again() {
    for large in [100, 600_000] {
        let rig = Rig::new();
        for number in 0..20 {
            rig.put(&format!("{number:02}"), &noise(number, large));
        }
        rig.run();
        // Another repository under the same name: nothing that the cache speaks of is there.
        let mut other = Rig::new();
        other.dir = rig.dir;
        let id = rig.plan.cache.as_ref().map(|cache| cache.repository);
        other.plan.roots = rig.plan.roots.clone();
        other.plan.cache = rig.plan.cache.clone();
        assert!(id.is_some());
        let run = other.run();
        assert_eq!(run.counts(), (0, 0, 20));
        assert_eq!(run.report.bytes_read, 20 * large as u64);
        for number in 0..20 {
            assert!(other.content(&run, &format!("{number:02}")) == noise(number, large));
        }
        assert_eq!(other.run().report.bytes_read, 0);
        drop(rig.mem);
    }
}

#[test]
fn further_names_of_a_file_lead_to_the_first_that_is_stored() {
    let mut rig = Rig::new();
    rig.put("sub/a", b"content");
    for name in ["sub/b", "top", "excluded"] {
        std::fs::hard_link(rig.src("sub/a"), rig.src(name)).expect("links");
    }
    let text = rig.src("excluded").to_str().expect("is text").to_owned();
    let spec = SelectSpec { patterns: vec![Pattern { text, origin: "test".into() }], ..SelectSpec::default() };
    rig.plan.select = Select::new(&spec).expect("is sound");
    for _ in 0..2 {
        let run = rig.run();
        let first = run.entry("sub/a").key.clone();
        assert_eq!(rig.content(&run, "sub/a"), b"content");
        for name in ["sub/b", "top"] {
            assert_eq!(run.entry(name).node, Node::HardLink { to: first.clone() });
        }
        assert_eq!((run.report.files, run.report.hard_links, run.report.bytes), (1, 2, 7));
        assert!(!run.entries.contains_key("excluded"));
    }
    // The first name goes: the next one is the file, though the previous run knows it as a link.
    std::fs::remove_file(rig.src("sub/a")).expect("removes");
    let run = rig.run();
    assert_eq!(rig.content(&run, "sub/b"), b"content");
    assert_eq!(run.entry("top").node, Node::HardLink { to: run.entry("sub/b").key.clone() });
}

#[test]
fn when_the_first_name_cannot_be_stored_the_next_one_is_the_file() {
    let rig = Rig::new();
    rig.put("a", b"content");
    for name in ["b", "c"] {
        std::fs::hard_link(rig.src("a"), rig.src(name)).expect("links");
    }
    let mut capture = rig.capture();
    let (notes, lost) = (Notes::default(), AtomicU64::new(0));
    let ground = Ground {
        world: &rig.plan.world,
        notes: &notes,
        sqlite: Sqlite::Auto,
        scratch_under: &rig.plan.scratch,
        scratch: OnceLock::new(),
        moving: None,
        vanished: AtomicU64::new(0),
    };
    let walker = Walker::new(&rig.plan.roots, &rig.plan.select, Sqlite::Auto, (&notes, &rig.plan.world.stop));
    let mut scout = Scout::new(walker, &ground, (None, 0), &lost);
    let cutter = capture.cutter();
    let mut storing = Storing {
        trusted: false,
        into: &mut capture,
        roots: &rig.plan.roots,
        ground: &ground,
        reader: Reader { ground: &ground, cutter },
        names: Names::default(),
        old: None,
        next: None,
        lost: &lost,
        moved: HashMap::new(),
        report: FilesReport::default(),
        on: &|_| {},
        untold: Totals::default(),
        entries: 0,
        key: Vec::new(),
        ids: Vec::new(),
    };
    let mut steps = Vec::new();
    while let Some(step) = scout.next() {
        steps.push(step);
    }
    // Gone between the walk and the reading.
    std::fs::remove_file(rig.src("a")).expect("removes");
    steps.into_iter().for_each(|step| storing.step(step).expect("stores"));
    let (report, _) = storing.finish();
    assert_eq!((report.files, report.hard_links), (1, 1));
    let snapshot = capture.commit(Outcome::default()).expect("commits").snapshot;
    let reading = rig.repository.reading(&Process::default()).expect("reads");
    let reader = reading.open(&snapshot).expect("opens");
    let key = |name: &str| repo::key_of_path(rig.src(name).as_os_str().as_bytes()).expect("is absolute");
    let node = |name: &str| reader.get(&key(name)).expect("reads").map(|located| located.entry.node);
    assert_eq!(node("a"), None);
    assert!(matches!(node("b"), Some(Node::File(file)) if file.size == 7));
    assert_eq!(node("c"), Some(Node::HardLink { to: key("b") }));
}

#[test]
fn holes_cost_nothing_and_come_back() {
    let rig = Rig::new();
    let file = File::create(rig.src("sparse")).expect("makes");
    file.set_len(20 << 20).expect("sets");
    file.write_all_at(&noise(1, 6000), 5 << 20).expect("writes");
    file.write_all_at(b"end", (20 << 20) - 3).expect("writes");
    File::create(rig.src("hollow")).and_then(|f| f.set_len(3 << 30)).expect("makes");
    let run = rig.run();
    no_problems(&run.report.problems);
    assert!(run.file("sparse").data_bytes() < 1 << 20 && run.file("sparse").size == 20 << 20);
    assert_eq!((run.file("hollow").size, run.file("hollow").chunks), (3 << 30, 0));
    assert_eq!(run.file("hollow").extents, Some(Vec::new()));
    assert!(run.report.bytes_read < 1 << 20);
    assert!(rig.content(&run, "sparse") == std::fs::read(rig.src("sparse")).expect("reads"));
    assert_eq!(rig.run().file("hollow").extents, Some(Vec::new()), "from the cache");
}

/// Reads one file through a reader whose chunks are given to `emit`, which may do mischief.
fn take_with(rig: &Rig, name: &str, emit: &mut dyn FnMut()) -> (Outcome_, Problems) {
    let notes = Notes::default();
    let ground = Ground {
        world: &rig.plan.world,
        notes: &notes,
        sqlite: Sqlite::Auto,
        scratch_under: &rig.plan.scratch,
        scratch: OnceLock::new(),
        moving: None,
        vanished: AtomicU64::new(0),
    };
    let capture = rig.capture();
    let mut reader = Reader { ground: &ground, cutter: capture.cutter() };
    let key = repo::key_of_path(rig.src(name).as_os_str().as_bytes()).expect("is absolute");
    let (dir, file) = crate::files::walk::open_parent(&rig.plan.roots, &key).expect("opens");
    let stat = rustix::fs::statat(&dir, &file, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("is there");
    let wanted = crate::files::content::Wanted {
        dir: Arc::new(dir),
        name: file,
        key,
        stat,
        was: crate::files::content::Was::Unknown,
    };
    let outcome = reader.take(&wanted, u64::MAX, &mut |_| {
        emit();
        Ok(())
    });
    (outcome.expect("nothing is wrong with the engine"), notes.take())
}

use crate::files::content::Outcome as Outcome_;

#[test]
fn a_file_that_changes_while_it_is_read_is_marked_and_told() {
    let rig = Rig::new();
    let data = noise(1, 8 << 20);
    for (what, mischief) in [
        ("grows", &(|file: &File| drop(file.write_all_at(b"more", 8 << 20))) as &dyn Fn(&File)),
        ("shrinks", &|file: &File| file.set_len(3 << 20).expect("cuts")),
        ("is rewritten", &|file: &File| file.write_all_at(b"other", 0).expect("writes")),
    ] {
        rig.put("f", &data[..data.len() - 1]);
        let file = File::options().write(true).open(rig.src("f")).expect("opens");
        let mut done = false;
        let (outcome, problems) = take_with(&rig, "f", &mut || {
            if !std::mem::replace(&mut done, true) {
                mischief(&file);
            }
        });
        let Outcome_::Taken(taken) = outcome else { panic!("{what}: not taken") };
        let Node::File(node) = &taken.entry.node else { panic!("{what}: no file") };
        assert!(taken.entry.changed && taken.memory.fresh, "{what}");
        assert_eq!((problems.warnings(), problems.errors()), (1, 0), "{what}");
        let expect = if what == "shrinks" { 3 << 20 } else { (8 << 20) - 1 };
        assert_eq!(node.size, expect, "{what}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_by_name_and_the_rest_is_stored() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let rig = Rig::new();
    rig.put("a", b"x");
    rig.put("shut", b"x");
    rig.put("z", b"x");
    std::fs::set_permissions(rig.src("shut"), std::fs::Permissions::from_mode(0o000)).expect("sets");
    let run = rig.run();
    assert_eq!((run.report.files, run.report.problems.errors()), (2, 1));
    let problem = &run.report.problems.kept()[0];
    assert!(problem.path.ends_with(b"/shut") && problem.severity == Severity::Error);
}

#[test]
fn progress_adds_up_and_a_request_to_stop_is_heard() {
    let rig = Rig::new();
    for number in 0..300 {
        rig.put(&format!("{number:03}"), &noise(number, 5000));
    }
    rig.put("large", &noise(1, 4 << 20));
    let (entries, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let on = |progress: Progress<'_>| {
        entries.fetch_add(progress.entries, Ordering::SeqCst);
        bytes.fetch_add(progress.bytes, Ordering::SeqCst);
    };
    let mut capture = rig.capture();
    let captured = super::capture(&rig.plan, &mut capture, &on).expect("captures");
    assert_eq!(bytes.load(Ordering::SeqCst), captured.report.bytes);
    assert_eq!(entries.load(Ordering::SeqCst), captured.report.files + captured.report.dirs);
    drop(capture);
    for lanes in [Lanes::Inline, Lanes::Threads(2)] {
        let mut plan = rig.plan.clone();
        (plan.world.stop, plan.world.lanes) = (store::Stop::default(), lanes);
        let stop = plan.world.stop.clone();
        let seen = AtomicU64::new(0);
        let on = |progress: Progress<'_>| {
            if seen.fetch_add(progress.entries, Ordering::SeqCst) > 0 || lanes == Lanes::Inline {
                stop.request();
            }
        };
        if lanes == Lanes::Inline {
            stop.request();
        }
        let stopped = super::capture(&plan, &mut rig.capture(), &on);
        assert!(matches!(stopped, Err(repo::RepoError::Stopped)), "{lanes:?}");
    }
}

#[test]
fn an_engine_that_fails_ends_the_run_without_hanging() {
    let rig = Rig::new();
    for number in 0..500 {
        rig.put(&format!("{number:03}"), &noise(number, 20_000));
    }
    rig.put("large", &noise(1, 40 << 20));
    let mut capture = rig.capture();
    // A key that comes after all others: the engine refuses everything else.
    let mut last = rig.run().entries.remove("").expect("is there").entry;
    last.key = vec![0xff];
    capture.entry(&last).expect("adds");
    assert!(matches!(super::capture(&rig.plan, &mut capture, &|_| {}), Err(repo::RepoError::Limit(_))));
}

#[test]
fn a_database_is_copied_through_sqlite_and_its_journals_are_covered() {
    let rig = Rig::new();
    let db = rusqlite::Connection::open(rig.src("app.db")).expect("opens");
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1),(2);").expect("writes");
    rig.put("app.db.txt", b"beside it");
    let read = |run: &Run| {
        let copy = rig.dir.path().join("copy.db");
        std::fs::write(&copy, rig.content(run, "app.db")).expect("writes");
        let copy = rusqlite::Connection::open(&copy).expect("opens");
        copy.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).expect("reads")
    };
    let run = rig.run();
    no_problems(&run.report.problems);
    assert_eq!((run.report.databases, run.report.covered), (1, 2));
    assert!(
        run.entry("app.db").sqlite && !run.entries.contains_key("app.db-wal") && run.entries.contains_key("app.db.txt")
    );
    assert_eq!(read(&run), 2);
    let meta = std::fs::metadata(rig.src("app.db")).expect("is there");
    assert_eq!(run.entry("app.db").mtime, Timestamp::new(meta.mtime(), meta.mtime_nsec() as u32));
    assert_eq!(rig.run().counts(), (0, 0, 2));
    // What is committed is in the journal only, which the file itself does not show.
    let before = std::fs::metadata(rig.src("app.db")).and_then(|m| m.modified()).expect("is there");
    db.execute_batch("INSERT INTO t VALUES (3)").expect("writes");
    assert_eq!(std::fs::metadata(rig.src("app.db")).and_then(|m| m.modified()).expect("is there"), before);
    let run = rig.run();
    assert_eq!((run.counts(), read(&run)), ((0, 1, 1), 3));
    // Nothing is left of the copies.
    let left = std::fs::read_dir(&rig.plan.scratch)
        .expect("lists")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().as_bytes().starts_with(b"sqlite-")));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_damaged_database_is_an_error_and_its_bytes_are_kept() {
    let rig = Rig::new();
    let mut bytes = b"SQLite format 3\0".to_vec();
    bytes.extend_from_slice(&noise(1, 300_000));
    rig.put("broken.db", &bytes);
    rig.put("broken.db-wal", b"covered");
    for _ in 0..2 {
        let run = rig.run();
        assert_eq!(run.report.problems.errors(), 1, "{:?}", run.report.problems);
        assert!(run.report.problems.kept()[0].what.contains("damaged"));
        assert!(!run.entry("broken.db").sqlite && rig.content(&run, "broken.db") == bytes);
        assert_eq!(run.report.databases, 0);
    }
}

#[test]
fn databases_are_files_like_others_when_asked() {
    let mut rig = Rig::new();
    let db = rusqlite::Connection::open(rig.src("app.db")).expect("opens");
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x);").expect("writes");
    rig.plan.sqlite = Sqlite::Off;
    let run = rig.run();
    assert!(run.entries.contains_key("app.db-wal") && !run.entry("app.db").sqlite);
    assert_eq!((run.report.covered, run.report.databases), (0, 0));
}

#[test]
fn a_stream_becomes_one_private_file() {
    let rig = Rig::new();
    let data = noise(5, 3 << 20);
    let plan = crate::stream::StreamPlan::named("db/dump.sql").expect("is a name");
    let mut capture = rig.capture();
    let told = AtomicU64::new(0);
    let on = |bytes| {
        told.fetch_add(bytes, Ordering::SeqCst);
    };
    let world = &rig.plan.world;
    let streamed =
        crate::stream::capture_stream(&plan, &mut data.as_slice(), &mut capture, (world, &on)).expect("stores");
    assert_eq!((streamed.bytes, told.load(Ordering::SeqCst)), (3 << 20, 3 << 20));
    let snapshot = capture.commit(Outcome::default()).expect("commits").snapshot;
    let reading = rig.repository.reading(&Process::default()).expect("reads");
    let entries: Vec<Entry> =
        reading.open(&snapshot).expect("opens").entries(b"").map(|e| e.expect("is sound").entry).collect();
    assert_eq!(entries.iter().map(|e| e.key.as_slice()).collect::<Vec<_>>(), [&b"db"[..], b"db\0dump.sql"]);
    assert_eq!((entries[0].mode, entries[1].mode), (0o700, 0o600));
    let Node::File(file) = &entries[1].node else { panic!("no file") };
    assert_eq!((file.size, file.digest), (3 << 20, Some(*blake3::hash(&data).as_bytes())));
    // A stream that breaks is no snapshot.
    struct Broken(usize);
    impl std::io::Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 5 { Err(std::io::Error::other("broken pipe")) } else { Ok(into.len().min(1000)) }
        }
    }
    let failed = crate::stream::capture_stream(&plan, &mut Broken(0), &mut rig.capture(), (world, &on));
    assert!(matches!(failed, Err(repo::RepoError::Outside(_))));
    for bad in ["", "/", "a/", "a/../b", "."] {
        assert!(crate::stream::StreamPlan::named(bad).is_err(), "{bad}");
    }
}
