//! Restores through the real engine, over the in-memory store, into temporary directories.

use super::*;
use crate::files::dump::{dump, dump_tar};
use crate::files::restored::{AfterCheck, Extras, Owner, Problem};
use repo::{Assurance, CapturePlan, Compression, Entry, Extent, Outcome, PackSize, Process, Repository, Snapshot};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use store::{Key, MemStore, Shelf, Store, Timestamp, World};
use tempfile::TempDir;

const WHEN: i64 = 1_600_000_000;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn key(path: &str) -> Vec<u8> {
    path.replace('/', "\0").into_bytes()
}

fn entry(path: &str, node: Node) -> Entry {
    Entry {
        key: key(path),
        mode: if matches!(node, Node::Dir) { 0o755 } else { 0o644 },
        node,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Timestamp::new(WHEN, 123_456_789),
        xattrs: Vec::new(),
        user: None,
        group: None,
        changed: false,
        sqlite: false,
    }
}

/// Chunks and the entry that owns them.
type Made = (Vec<Vec<u8>>, Entry);

fn file(path: &str, chunks: &[&[u8]]) -> Made {
    let data = chunks.concat();
    let digest = (chunks.len() > 1).then(|| *blake3::hash(&data).as_bytes());
    let node = FileNode { size: data.len() as u64, chunks: chunks.len() as u64, digest, extents: None };
    (chunks.iter().map(|chunk| chunk.to_vec()).collect(), entry(path, Node::File(node)))
}

fn bare(path: &str, node: Node) -> Made {
    (Vec::new(), entry(path, node))
}

fn with(mut made: Made, change: impl FnOnce(&mut Entry)) -> Made {
    change(&mut made.1);
    made
}

struct Fixture {
    mem: MemStore,
    repository: Repository,
    snapshot: Snapshot,
    dir: TempDir,
}

fn fixture(things: Vec<Made>) -> Fixture {
    fixture_in(World::real(), Outcome::default(), things)
}

fn fixture_in(world: World, outcome: Outcome, mut things: Vec<Made>) -> Fixture {
    let mem = MemStore::new();
    let store = Store::new(Arc::new(mem.clone()));
    let (repository, _) = Repository::init(&store, &world, None, "test", PackSize::Bytes(300_000)).expect("made");
    let plan = CapturePlan {
        host: "host".into(),
        user: "me".into(),
        kind: "files".into(),
        paths: vec!["/data".into(), "/srv/deep/data".into()],
        tags: Vec::new(),
        source: None,
        reason: None,
        program: "test".into(),
        process: Process::default(),
        compression: Compression::Level(1),
        time: None,
        assurance: Assurance::default(),
    };
    let mut capture = repository.capture(plan).expect("begins");
    let cutter = capture.cutter();
    things.sort_by(|a, b| a.1.key.cmp(&b.1.key));
    for (chunks, entry) in things {
        chunks.into_iter().for_each(|chunk| capture.chunk(cutter.whole(chunk)).expect("stores"));
        capture.entry(&entry).expect("adds");
    }
    let snapshot = capture.commit(outcome).expect("commits").snapshot;
    Fixture { mem, repository, snapshot, dir: TempDir::new().expect("a directory") }
}

impl Fixture {
    fn target(&self) -> std::path::PathBuf {
        self.dir.path().join("out")
    }

    fn plan(&self) -> RestorePlan {
        RestorePlan::new(self.target())
    }

    fn delta(&self, extras: Extras) -> RestorePlan {
        RestorePlan { mode: RestoreMode::Delta(extras), ..self.plan() }
    }

    fn with_reader<T>(&self, work: impl FnOnce(&SnapshotReader) -> T) -> T {
        let reading = self.repository.reading(&Process::default()).expect("reads");
        work(&reading.open(&self.snapshot).expect("opens"))
    }

    fn run(&self, plan: &RestorePlan) -> Result<RestoreReport, RestoreError> {
        self.with_reader(|reader| restore(plan, reader, &|_| {}))
    }

    fn restore(&self, plan: &RestorePlan) -> RestoreReport {
        self.run(plan).expect("restores")
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.target().join(path)).ok()
    }

    fn meta(&self, path: &str) -> std::fs::Metadata {
        std::fs::symlink_metadata(self.target().join(path)).expect("is there")
    }

    fn put(&self, path: &str, data: &[u8]) {
        let path = self.target().join(path);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
        std::fs::write(path, data).expect("written");
    }

    fn no_temporaries(&self) {
        fn walk(dir: &Path) {
            for entry in std::fs::read_dir(dir).expect("lists") {
                let entry = entry.expect("is there");
                assert!(!entry.file_name().to_string_lossy().contains(".backstay-"), "{:?}", entry.path());
                if entry.file_type().expect("has one").is_dir() {
                    walk(&entry.path());
                }
            }
        }
        walk(&self.target());
    }
}

fn clean(report: &RestoreReport) {
    assert_eq!(report.problems, [], "{report:?}");
    assert_eq!(report.notes, [], "{report:?}");
}

fn whats(report: &RestoreReport, path: &str) -> Vec<String> {
    let of_path = |problem: &&Problem| problem.path == path.as_bytes();
    report.problems.iter().filter(of_path).map(|problem| problem.what.clone()).collect()
}

#[test]
fn a_difficult_tree_comes_back() {
    let big: Vec<Vec<u8>> = (0..40).map(|i| noise(i, 50_000 + i as usize)).collect();
    let big: Vec<&[u8]> = big.iter().map(Vec::as_slice).collect();
    let sparse = FileNode {
        size: 3 << 30,
        chunks: 2,
        digest: Some(*blake3::hash(b"middleend").as_bytes()),
        extents: Some(vec![Extent { hole: 1 << 30, data: 6 }, Extent { hole: (2 << 30) - 9, data: 3 }]),
    };
    let f = fixture(vec![
        with(bare("data", Node::Dir), |e| e.mode = 0o1750),
        file("data/a", &[b"one"]),
        bare("data/b", Node::HardLink { to: key("data/a") }),
        file("data/big", &big),
        with(bare("data/dir", Node::Dir), |e| e.xattrs = vec![(b"user.bin".to_vec(), vec![0, 255])]),
        with(file("data/dir/none", &[b"secret"]), |e| e.mode = 0),
        with(file("data/dir/ro", &[b"x"]), |e| {
            e.mode = 0o400;
            e.xattrs = vec![(b"user.comment".to_vec(), b"hello".to_vec())];
        }),
        bare("data/empty", Node::File(FileNode::default())),
        bare("data/fifo", Node::Fifo),
        bare("data/link", Node::Symlink { target: b"/nowhere/\xff".to_vec() }),
        bare(
            "data/zero",
            Node::File(FileNode { size: 5 << 20, ..FileNode { extents: Some(vec![]), ..FileNode::default() } }),
        ),
        (vec![b"middl".to_vec(), b"eend".to_vec()], entry("data/sparse", Node::File(sparse))),
    ]);
    let report = f.restore(&RestorePlan { check: AfterCheck::ReadBack, ..f.plan() });
    assert_eq!(report.problems, []);
    // A file of mode 0 cannot be read back but by root.
    let unread = u64::from(!is_root());
    assert_eq!(report.notes.len() as u64, unread, "{:?}", report.notes);
    assert_eq!((report.files, report.dirs, report.links, report.others, report.checked), (7, 2, 2, 1, 7 - unread));
    assert_eq!(f.read("data/a").expect("is there"), b"one");
    assert_eq!(f.meta("data/a").ino(), f.meta("data/b").ino());
    assert_eq!(f.read("data/big").expect("is there"), big.concat());
    assert_eq!(f.meta("data").mode() & 0o7777, 0o1750);
    assert_eq!(f.meta("data/dir/none").mode() & 0o7777, 0);
    for path in ["data", "data/a", "data/big", "data/dir", "data/empty", "data/fifo", "data/link", "data/sparse"] {
        assert_eq!((f.meta(path).mtime(), f.meta(path).mtime_nsec()), (WHEN, 123_456_789), "{path}");
    }
    assert_eq!(f.meta("data/zero").size(), 5 << 20);
    assert_eq!(f.meta("data/sparse").size(), 3 << 30);
    assert!(f.meta("data/sparse").blocks() < 64);
    let mut six = [0; 6];
    std::fs::File::open(f.target().join("data/sparse"))
        .expect("opens")
        .read_exact_at(&mut six, 1 << 30)
        .expect("reads");
    assert_eq!(&six, b"middle");
    let link = std::fs::read_link(f.target().join("data/link")).expect("a link");
    assert_eq!(std::os::unix::ffi::OsStrExt::as_bytes(link.as_os_str()), b"/nowhere/\xff");
    let mut value = [0; 8];
    let len = rustix::fs::getxattr(f.target().join("data/dir"), "user.bin", &mut value).expect("has it");
    assert_eq!(&value[..len], [0, 255]);
    // Once more, without lanes.
    std::fs::remove_dir_all(f.target()).expect("removed");
    let world = World { lanes: Lanes::Inline, ..World::real() };
    let inline = fixture_in(world, Outcome::default(), vec![file("data/a", &[b"one"]), file("data/b", &big)]);
    clean(&inline.restore(&inline.plan()));
    assert_eq!(inline.read("data/b").expect("is there"), big.concat());
}

#[test]
fn nothing_leads_out_of_the_target() {
    let outside = TempDir::new().expect("a directory");
    std::fs::write(outside.path().join("precious"), b"precious").expect("written");
    let there = std::os::unix::ffi::OsStrExt::as_bytes(outside.path().as_os_str()).to_vec();
    let f = fixture(vec![
        bare("data", Node::Dir),
        bare("data/a", Node::Symlink { target: there.clone() }),
        file("data/a/planted", &[b"bad"]),
        bare("data/a/sub", Node::Dir),
        file("data/a/sub/precious", &[b"bad"]),
        bare("data/b", Node::Symlink { target: b"..".to_vec() }),
        bare("data/h", Node::HardLink { to: key("data/b/../../precious") }),
        bare("data/i", Node::HardLink { to: key("../precious") }),
        bare("data/j", Node::HardLink { to: key("data/z") }),
        bare("data/k", Node::HardLink { to: key("data") }),
        bare("data/l", Node::HardLink { to: Vec::new() }),
        file("data/z", &[b"good"]),
    ]);
    for plan in [f.plan(), f.delta(Extras::Keep), f.delta(Extras::Delete)] {
        let report = f.restore(&plan);
        assert_eq!(report.problem_count, 8, "{:?}", report.problems);
        assert_eq!(f.read("data/z").expect("is there"), b"good");
        assert_eq!(std::fs::read_dir(outside.path()).expect("lists").count(), 1);
        assert_eq!(std::fs::read(outside.path().join("precious")).expect("is there"), b"precious");
        assert!(!f.dir.path().join("precious").exists());
    }
}

#[test]
fn links_planted_in_an_existing_target_are_replaced_not_followed() {
    let outside = TempDir::new().expect("a directory");
    std::fs::write(outside.path().join("file"), b"old").expect("written");
    let f = fixture(vec![
        bare("data", Node::Dir),
        bare("data/dir", Node::Dir),
        file("data/dir/file", &[b"new"]),
        file("data/file", &[b"new"]),
        file("data/parts", &[b"new", b"er"]),
        file("data/tree", &[b"new"]),
        file("data/full", &[b"new"]),
    ]);
    f.put("data/other", b"mine");
    f.put("data/full/kept", b"mine");
    let at = |path: &str| f.target().join("data").join(path);
    symlink(outside.path(), at("dir")).expect("made");
    symlink(outside.path().join("file"), at("file")).expect("made");
    symlink(outside.path().join("file"), at("parts")).expect("made");
    std::fs::create_dir(at("tree")).expect("made");
    let report = f.restore(&f.delta(Extras::Keep));
    assert_eq!(report.problem_count, 1, "{:?}", report.problems);
    assert_eq!(whats(&report, "/data/full"), ["cannot restore it: a directory that is not empty is in the way"]);
    assert_eq!(std::fs::read(outside.path().join("file")).expect("is there"), b"old");
    assert_eq!(f.read("data/parts").expect("is there"), b"newer");
    assert_eq!(f.read("data/dir/file").expect("is there"), b"new");
    assert_eq!(f.read("data/tree").expect("is there"), b"new");
    assert_eq!(f.read("data/other").expect("stays"), b"mine");
    assert!(f.meta("data/dir").is_dir() && f.meta("data/file").is_file());
    let report = f.restore(&f.delta(Extras::Delete));
    clean(&report);
    assert_eq!((f.read("data/other"), f.read("data/full")), (None, Some(b"new".to_vec())));
    assert_eq!(report.deleted, 2);
    assert_eq!(report.unchanged_bytes, 3 + 3 + 5 + 3);
}

#[test]
fn a_delta_rewrites_only_chunks_that_differ() {
    let chunks: Vec<Vec<u8>> = (0..20).map(|i| noise(i, 30_000)).collect();
    let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    let f = fixture(vec![bare("data", Node::Dir), file("data/big", &chunks), file("data/small", &[b"small"])]);
    clean(&f.restore(&f.plan()));
    let inode = f.meta("data/big").ino();
    let spoil = || {
        let file = std::fs::OpenOptions::new().write(true).open(f.target().join("data/big")).expect("opens");
        file.write_all_at(b"changed", 100_000).expect("written");
        file.set_len(700_000).expect("longer");
    };
    spoil();
    let report = f.restore(&RestorePlan { check: AfterCheck::ReadBack, ..f.delta(Extras::Keep) });
    clean(&report);
    assert_eq!((report.bytes_written, report.unchanged_bytes), (30_000, 19 * 30_000 + 5));
    assert_eq!(f.read("data/big").expect("is there"), chunks.concat());
    assert_eq!((f.meta("data/big").ino(), f.meta("data/big").mtime()), (inode, WHEN));
    let again = f.restore(&f.delta(Extras::Keep));
    assert_eq!((again.bytes_written, again.files), (0, 2));
    // Shorter than it should be, and with another name: that one must keep what it has.
    let other = f.dir.path().join("other name");
    std::fs::hard_link(f.target().join("data/big"), &other).expect("linked");
    std::fs::write(&other, b"theirs").expect("written");
    clean(&f.restore(&f.delta(Extras::Keep)));
    assert_eq!(f.read("data/big").expect("is there"), chunks.concat());
    assert_eq!(std::fs::read(other).expect("is there"), b"theirs");
    // With another name, but right: nothing is touched.
    let inode = f.meta("data/big").ino();
    std::fs::hard_link(f.target().join("data/big"), f.dir.path().join("third name")).expect("linked");
    assert_eq!(f.restore(&f.delta(Extras::Keep)).bytes_written, 0);
    assert_eq!(f.meta("data/big").ino(), inode);
    f.no_temporaries();
}

#[test]
fn a_delta_makes_holes_again() {
    let sparse = FileNode {
        size: 1 << 20,
        chunks: 2,
        digest: Some(*blake3::hash(b"abcdef").as_bytes()),
        extents: Some(vec![Extent { hole: 100_000, data: 3 }, Extent { hole: 500_000, data: 3 }]),
    };
    let f = fixture(vec![(vec![b"abcd".to_vec(), b"ef".to_vec()], entry("data/sparse", Node::File(sparse)))]);
    clean(&f.restore(&f.plan()));
    let good = f.read("data/sparse").expect("is there");
    std::fs::write(f.target().join("data/sparse"), vec![7; 2 << 20]).expect("written");
    clean(&f.restore(&f.delta(Extras::Keep)));
    assert!(f.read("data/sparse").expect("is there") == good);
    assert_eq!(good.len(), 1 << 20);
}

#[test]
fn a_partial_snapshot_deletes_nothing() {
    let partial = Outcome { errors: 1, ..Outcome::default() };
    let f = fixture_in(World::real(), partial, vec![bare("data", Node::Dir), file("data/a", &[b"a"])]);
    f.put("data/extra", b"mine");
    assert_eq!(f.restore(&f.delta(Extras::Delete)).deleted, 0);
    assert!(f.read("data/extra").is_some());
    let f = fixture(vec![bare("", Node::Dir), bare("data", Node::Dir), file("data/a", &[b"a"])]);
    f.put("data/extra", b"mine");
    f.put("beside", b"mine");
    assert_eq!(f.restore(&f.delta(Extras::Delete)).deleted, 1);
    assert!(f.read("data/extra").is_none() && f.read("beside").is_some());
}

#[test]
fn damage_is_named_and_nothing_else_is_lost() {
    let chunks: Vec<Vec<u8>> = (0..30).map(|i| noise(100 + i, 90_000)).collect();
    let parts: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    let mut things = vec![bare("data", Node::Dir), file("data/parts", &parts)];
    for i in 0..60 {
        things.push(file(&format!("data/{i:02}"), &[&noise(i, 40_000)]));
    }
    let f = fixture(things);
    let packs: Vec<Key> = f.mem.keys().into_iter().filter(|key| key.shelf() == Shelf::Packs).collect();
    let mut damaged = 0;
    for (n, pack) in packs.iter().enumerate() {
        let mut whole = Vec::new();
        f.mem.corrupt(pack, |bytes| whole.clone_from(bytes));
        if n % 2 == 0 {
            f.mem.remove(pack);
        } else {
            f.mem.corrupt(pack, |bytes| bytes.iter_mut().step_by(997).for_each(|byte| *byte ^= 1));
        }
        let plan = RestorePlan { target: f.dir.path().join(format!("out{n}")), ..f.plan() };
        let read = |path: &str| std::fs::read(plan.target.join(path)).ok();
        if let Ok(report) = f.run(&plan) {
            let mut missing = 0;
            for i in 0..60 {
                match read(&format!("data/{i:02}")) {
                    Some(data) => assert!(data == noise(i, 40_000), "{i} is wrong"),
                    None => missing += 1,
                }
            }
            match read("data/parts") {
                Some(data) => assert!(data == chunks.concat()),
                None => missing += 1,
            }
            assert!(report.problem_count >= u64::from(missing > 0), "{report:?}");
            if missing > 0 && missing < 61 {
                damaged += 1;
                assert_eq!(report.problem_count, missing, "{:?}", report.problems);
            }
        }
        assert!(
            !plan.target.join("data").exists()
                || std::fs::read_dir(plan.target.join("data")).expect("lists").all(|entry| !entry
                    .expect("is there")
                    .file_name()
                    .to_string_lossy()
                    .contains(".tmp"))
        );
        f.mem.remove(pack);
        Store::new(Arc::new(f.mem.clone())).put_new(pack, &whole).expect("back again");
    }
    assert!(damaged >= 5, "{damaged}");
    clean(&f.restore(&f.plan()));
}

#[test]
fn entries_that_lie_about_content_are_named() {
    let change = |made: Made, change: &dyn Fn(&mut FileNode)| {
        with(made, |e| {
            if let Node::File(file) = &mut e.node {
                change(file);
            }
        })
    };
    let f = fixture(vec![
        change(file("data/digest", &[b"one", b"two"]), &|file| file.digest = Some([0; 32])),
        file("data/good", &[b"one", b"two"]),
        change(file("data/long", &[b"one", b"two"]), &|file| file.size = 5),
        change(file("data/none", &[b"one"]), &|file| file.size = 0),
        change(file("data/short", &[b"one"]), &|file| file.size = 4),
        change(bare("data/some", Node::File(FileNode::default())), &|file| file.size = 1),
    ]);
    for plan in [f.plan(), f.delta(Extras::Keep)] {
        let report = f.restore(&plan);
        assert_eq!((report.problem_count, report.files), (5, 1), "{report:?}");
        assert_eq!(whats(&report, "/data/digest"), ["its content is not what was read when it was backed up"]);
        assert_eq!(std::fs::read_dir(f.target().join("data")).expect("lists").count(), 1);
    }
}

#[test]
fn a_target_that_is_not_new_is_refused_before_anything_is_touched() {
    let f = fixture(vec![file("data/a", &[b"a"])]);
    f.put("x", b"x");
    match f.run(&f.plan()) {
        Err(RestoreError::Target(e @ TargetError::NotEmpty(_))) => assert!(!e.help().is_empty()),
        other => panic!("{other:?}"),
    }
    for target in [f.target().join("x"), f.target().join("x/y")] {
        let plan = RestorePlan { target, ..f.plan() };
        assert!(matches!(f.run(&plan), Err(RestoreError::Target(TargetError::NotADirectory(_)))));
    }
    assert_eq!(std::fs::read_dir(f.target()).expect("lists").count(), 1);
    if !is_root() {
        std::fs::set_permissions(f.target(), std::fs::Permissions::from_mode(0o500)).expect("set");
        let plan = RestorePlan { target: f.target().join("new"), ..f.plan() };
        assert!(matches!(f.run(&plan), Err(RestoreError::Target(TargetError::Denied(_)))));
    }
    let plan = RestorePlan { within: key("data/none"), ..f.plan() };
    assert!(matches!(f.run(&plan), Err(RestoreError::NotInSnapshot(path)) if path == b"/data/none"));
}

#[test]
fn hard_links_to_files_left_out_become_files() {
    let f = fixture(vec![
        bare("data", Node::Dir),
        with(file("data/a", &[b"shared", b"content"]), |e| e.mode = 0o640),
        bare("data/links", Node::Dir),
        bare("data/links/b", Node::HardLink { to: key("data/a") }),
        bare("data/links/c", Node::HardLink { to: key("data/a") }),
    ]);
    let report = f.restore(&RestorePlan { include: vec!["/data/links".into()], ..f.plan() });
    clean(&report);
    assert_eq!((report.files, report.links, f.read("data/a")), (1, 1, None));
    assert_eq!(f.read("data/links/b").expect("is there"), b"sharedcontent");
    assert_eq!(f.meta("data/links/b").ino(), f.meta("data/links/c").ino());
    assert_eq!(f.meta("data/links/c").mode() & 0o7777, 0o640);
    // It leads there without being asked for, and gets its metadata all the same: we made it.
    assert_eq!((f.meta("data").mode() & 0o7777, f.meta("data").mtime()), (0o755, WHEN));
}

#[test]
fn a_part_comes_directly_under_the_target() {
    let f = fixture(vec![
        bare("data", Node::Dir),
        with(bare("data/sub", Node::Dir), |e| e.mode = 0o711),
        file("data/sub/a.log", &[b"a"]),
        file("data/sub/b", &[b"b"]),
        file("data/subway", &[b"c"]),
    ]);
    let plan =
        RestorePlan { rebase: Rebase::StripPrefix, within: key("data/sub"), exclude: vec!["*.log".into()], ..f.plan() };
    clean(&f.restore(&plan));
    assert_eq!(f.read("b").expect("is there"), b"b");
    assert_eq!(std::fs::read_dir(f.target()).expect("lists").count(), 1);
    assert_eq!(f.meta("").mode() & 0o7777, 0o711);
    let plan = RestorePlan { target: f.dir.path().join("one"), within: key("data/subway"), ..plan };
    clean(&f.restore(&plan));
    assert_eq!(std::fs::read(plan.target.join("subway")).expect("is there"), b"c");
    assert_eq!(std::fs::read_dir(&plan.target).expect("lists").count(), 1);
}

#[test]
fn power_over_the_machine_comes_back_only_when_wanted() {
    let f = fixture(vec![
        with(file("data/setuid", &[b"s"]), |e| e.mode = 0o4755),
        with(bare("data/dir", Node::Dir), |e| e.mode = 0o2755),
        with(bare("data/null", Node::CharDevice { major: 1, minor: 3 }), |e| e.mode = 0o666),
    ]);
    let mut wanted = vec![(Special::Never, false)];
    if is_root() {
        wanted.extend([(Special::Auto, true), (Special::Restore, true)]);
    }
    for (special, comes) in wanted {
        let target = f.dir.path().join(format!("{special:?}"));
        let report = f.restore(&RestorePlan { special, target: target.clone(), ..f.plan() });
        let mode = |path: &str| std::fs::metadata(target.join(path)).map(|meta| meta.mode() & 0o7777).ok();
        assert_eq!(mode("data/setuid"), Some(if comes { 0o4755 } else { 0o755 }));
        assert_eq!(mode("data/null"), comes.then_some(0o666));
        assert_eq!(mode("data/dir"), Some(0o2755));
        assert_eq!((report.skipped_count, report.notes.len()), if comes { (0, 0) } else { (1, 1) }, "{report:?}");
        assert_eq!(report.problem_count, 0);
    }
}

#[test]
fn owners_are_set_before_modes_and_capabilities() {
    if !is_root() {
        return;
    }
    // Version 2 of the attribute, permitting CAP_NET_BIND_SERVICE.
    let capability: Vec<u8> = [[1, 0, 0, 2], [0, 4, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
    let f = fixture(vec![
        with(file("data/a", &[b"s"]), |e| {
            (e.uid, e.gid, e.mode) = (12345, 54321, 0o6711);
            e.xattrs = vec![(b"security.capability".to_vec(), capability.clone())];
        }),
        with(bare("data/link", Node::Symlink { target: b"a".to_vec() }), |e| (e.uid, e.gid) = (1, 2)),
        with(file("data/parts", &[b"s", b"t"]), |e| (e.uid, e.gid, e.mode) = (12345, 54321, 0o4711)),
    ]);
    clean(&f.restore(&f.plan()));
    for (path, owner, mode) in [("data/a", (12345, 54321), 0o6711), ("data/parts", (12345, 54321), 0o4711)] {
        assert_eq!(((f.meta(path).uid(), f.meta(path).gid()), f.meta(path).mode() & 0o7777), (owner, mode), "{path}");
    }
    assert_eq!((f.meta("data/link").uid(), f.meta("data/link").gid()), (1, 2));
    let mut value = [0; 64];
    let len = rustix::fs::getxattr(f.target().join("data/a"), "security.capability", &mut value).expect("has it");
    assert_eq!(&value[..len], capability);
    let plan =
        RestorePlan { target: f.dir.path().join("mine"), owner: Owner::Skip, special: Special::Never, ..f.plan() };
    let report = f.restore(&plan);
    let meta = std::fs::metadata(plan.target.join("data/a")).expect("is there");
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o711));
    assert_eq!(report.problem_count, 0);
    // A file of somebody else, who may hold it open, gives way to a new one.
    std::os::unix::fs::chown(f.target().join("data/a"), Some(99), None).expect("given away");
    let inode = f.meta("data/a").ino();
    f.restore(&f.delta(Extras::Keep));
    assert_eq!((f.meta("data/a").uid(), f.meta("data/a").ino() == inode), (12345, false));
}

#[test]
fn an_inherited_acl_does_not_stay() {
    let f = fixture(vec![
        bare("data", Node::Dir),
        file("data/a", &[b"a"]),
        file("data/b", &[b"b", b"c"]),
        file("c", &[b"c"]),
    ]);
    std::fs::create_dir(f.target()).expect("made");
    let tag = |tag: u16, perm: u16, id: u32| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes()[..], &id.to_le_bytes()[..]].concat()
    };
    let none = u32::MAX;
    let entries = [tag(1, 7, none), tag(2, 7, 12345), tag(4, 5, none), tag(16, 7, none), tag(32, 5, none)];
    let acl = [&2u32.to_le_bytes()[..], &entries.concat()].concat();
    let set = rustix::fs::setxattr(f.target(), "system.posix_acl_default", &acl, rustix::fs::XattrFlags::empty());
    if set.is_err() {
        // This file system has no ACLs.
        return;
    }
    clean(&f.restore(&f.plan()));
    for path in ["data", "data/a", "data/b", "c"] {
        for name in ["system.posix_acl_access", "system.posix_acl_default"] {
            let held = rustix::fs::getxattr(f.target().join(path), name, &mut [0u8; 100]);
            assert_eq!(held, Err(rustix::io::Errno::NODATA), "{path}");
        }
        assert_eq!(f.meta(path).mode() & 0o777, if path == "data" { 0o755 } else { 0o644 }, "{path}");
    }
}

#[test]
fn a_stopped_restore_leaves_no_unfinished_files() {
    let world = World::real();
    let mut things = vec![bare("data", Node::Dir)];
    for i in 0..300 {
        things.push(file(&format!("data/{i:03}"), &[&noise(i, 20_000), &noise(i + 1000, 20_000)]));
    }
    let f = fixture_in(world.clone(), Outcome::default(), things);
    let result = f.with_reader(|reader| restore(&f.plan(), reader, &|_| world.stop.request()));
    assert!(matches!(result, Err(RestoreError::Repo(RepoError::Stopped))), "{result:?}");
    f.no_temporaries();
    for entry in std::fs::read_dir(f.target().join("data")).expect("lists") {
        assert_eq!(entry.expect("is there").metadata().expect("has it").len(), 40_000);
    }
}

#[test]
fn many_directories_and_open_files_fit_into_few_descriptors() {
    let mut things = Vec::new();
    for i in 0..700u64 {
        things.push(bare(&format!("data/{i:03}"), Node::Dir));
        // The same two chunks everywhere: each arrives for all files before the other.
        things.push(file(&format!("data/{i:03}/f"), &[&noise(1, 70_000), &noise(2, 70_000), &i.to_le_bytes()]));
    }
    let f = fixture(things);
    let report = f.restore(&RestorePlan { check: AfterCheck::ReadBack, ..f.plan() });
    clean(&report);
    assert_eq!(report.checked, 700);
    for i in 0..700u64 {
        let expect = [noise(1, 70_000), noise(2, 70_000), i.to_le_bytes().to_vec()].concat();
        assert!(f.read(&format!("data/{i:03}/f")) == Some(expect), "{i}");
    }
    f.no_temporaries();
}

#[test]
fn paths_longer_than_the_kernel_takes_come_back() {
    let deep = vec!["abcdefghij"; 800].join("/");
    let too_deep = vec!["d"; 5000].join("/");
    let f = fixture(vec![
        file(&format!("{deep}/file"), &[b"deep", b"er"]),
        bare(&deep, Node::Dir),
        file(&too_deep, &[b"x"]),
    ]);
    let report = f.restore(&RestorePlan { check: AfterCheck::ReadBack, ..f.plan() });
    assert_eq!((report.files, report.problem_count, report.checked), (1, 1, 1), "{report:?}");
    place::remove_all(std::fs::File::open(f.dir.path()).expect("opens"), b"out").expect("removes");
}

#[test]
fn what_changed_on_the_disk_meanwhile_is_found_by_reading_back() {
    let f = fixture(vec![file("data/a", &[b"good"]), file("data/b", &[b"good"])]);
    let target = f.target().join("data/b");
    let plan = RestorePlan { check: AfterCheck::ReadBack, ..f.plan() };
    let spoil = |_| {
        if target.exists() {
            std::fs::write(&target, b"evil").expect("written");
        }
    };
    let report = f.with_reader(|reader| restore(&plan, reader, &spoil)).expect("restores");
    assert_eq!(whats(&report, "/data/b"), ["read back from the disk, it holds something else"]);
    assert_eq!((report.problem_count, report.checked), (1, 2));
}

#[test]
fn a_preview_counts_and_touches_nothing() {
    let f = fixture(vec![bare("data", Node::Dir), file("data/a", &[b"abc"]), file("data/b", &[b"abc", b"d"])]);
    let before = f.with_reader(|reader| preview(&f.plan(), reader)).expect("looks");
    assert!(!f.target().exists());
    assert_eq!((before.files, before.dirs, before.bytes, before.overwritten), (2, 1, 7, 0));
    assert!(before.needs >= 7 && before.needs < 100_000 && before.has > 0);
    before.check_space(&f.plan()).expect("fits");
    let none = Preview { has: 0, ..before };
    assert!(matches!(none.check_space(&f.plan()), Err(TargetError::Full { have: 0, .. })));
    f.put("data/a", b"other");
    let after = f.with_reader(|reader| preview(&f.delta(Extras::Keep), reader)).expect("looks");
    assert_eq!((after.overwritten, after.overwritten_first), (1, vec![b"/data/a".to_vec()]));
    assert_eq!(f.read("data/a").expect("is there"), b"other");
}

#[test]
fn a_dump_is_the_content() {
    let chunks: Vec<Vec<u8>> = (0..400).map(|i| noise(i, 100_000)).collect();
    let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    let extents = Some(vec![Extent { hole: 5, data: 2 }, Extent { hole: 100_000, data: 4 }]);
    let sparse = FileNode { size: 100_020, chunks: 2, digest: Some(*blake3::hash(b"abcdef").as_bytes()), extents };
    let f = fixture(vec![
        bare("data", Node::Dir),
        file("data/big", &chunks),
        bare("data/empty", Node::File(FileNode::default())),
        bare("data/link", Node::HardLink { to: key("data/big") }),
        (vec![b"abc".to_vec(), b"def".to_vec()], entry("data/sparse", Node::File(sparse))),
        with(file("data/wrong", &[b"a", b"b"]), |e| {
            e.node = Node::File(FileNode { size: 2, chunks: 2, digest: Some([0; 32]), extents: None });
        }),
    ]);
    let get = |path: &str| {
        let mut out = Vec::new();
        f.with_reader(|reader| dump(reader, &key(path), &mut out)).map(|()| out)
    };
    assert!(get("data/big").expect("dumps") == chunks.concat());
    assert!(get("data/link").expect("dumps") == chunks.concat());
    assert_eq!(get("data/empty").expect("dumps"), b"");
    let mut expect = vec![0; 100_020];
    expect[5..7].copy_from_slice(b"ab");
    expect[100_007..100_011].copy_from_slice(b"cdef");
    assert!(get("data/sparse").expect("dumps") == expect);
    assert!(matches!(get("data/none"), Err(RestoreError::NotInSnapshot(_))));
    assert!(matches!(get("data"), Err(RestoreError::NotInSnapshot(_))));
    assert!(matches!(get("data/wrong"), Err(RestoreError::Repo(RepoError::Damaged { .. }))));
}

#[test]
fn tar_understands_the_archive() {
    let long = format!("data/sub/{}", ["directory"; 20].join("/"));
    let f = fixture(vec![
        bare("data", Node::Dir),
        file("data/a", &[b"one"]),
        bare("data/sub", Node::Dir),
        file(&format!("{long}/file"), &[&noise(1, 100_000), &noise(2, 1000)]),
        bare(&long, Node::Dir),
        with(bare("data/sub/b", Node::HardLink { to: key("data/a") }), |e| e.mode = 0o600),
        bare("data/sub/c", Node::HardLink { to: key("data/a") }),
        bare("data/sub/empty", Node::File(FileNode::default())),
        bare("data/sub/link", Node::Symlink { target: vec![b'x'; 150] }),
    ]);
    let unpack = |within: &str| {
        let archive = f.dir.path().join("a.tar");
        let mut out = std::fs::File::create(&archive).expect("made");
        f.with_reader(|reader| dump_tar(reader, &key(within), &mut out)).expect("dumps");
        let to = TempDir::new().expect("a directory");
        let done = std::process::Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(to.path()).output();
        let done = done.expect("tar runs");
        assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
        to
    };
    for (within, above) in [("", "data/sub"), ("data", "data/sub"), ("data/sub", "sub")] {
        let to = unpack(within);
        let at = |path: &str| to.path().join(above).join(path);
        let deep = at(long.strip_prefix("data/sub/").expect("is there")).join("file");
        assert!(std::fs::read(&deep).expect("is there") == [noise(1, 100_000), noise(2, 1000)].concat());
        let meta = std::fs::metadata(&deep).expect("is there");
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (WHEN, 123_456_789));
        assert_eq!(std::fs::read(at("b")).expect("is there"), b"one");
        let inode = |path: &str| std::fs::metadata(at(path)).expect("is there").ino();
        assert_eq!(inode("b"), inode("c"));
        assert_eq!(std::fs::metadata(at("empty")).expect("is there").len(), 0);
        assert_eq!(std::fs::read_link(at("link")).expect("is there").as_os_str().len(), 150);
    }
    let one = unpack("data/a");
    assert_eq!(std::fs::read(one.path().join("a")).expect("is there"), b"one");
}

#[test]
fn the_first_reason_to_stop_is_the_one_that_is_told() {
    let f = fixture(vec![file("data/a", &[b"a"]), file("data/b", &[b"a", b"b"])]);
    f.with_reader(|reader| {
        let (plan, tally) = (f.plan(), Tally::default());
        let run = Run::begin(&plan, reader, &tally, &|_| {}).expect("begins");
        let error = weigh(&run, &io::Error::from(io::ErrorKind::StorageFull)).expect("ends a restore");
        run.halt(error);
        run.halt(RestoreError::Repo(RepoError::Stopped));
        match run.complete() {
            Err(RestoreError::Target(e @ TargetError::FilledUp { files: 0, .. })) => assert!(!e.help().is_empty()),
            other => panic!("{other:?}"),
        }
    });
    f.no_temporaries();
}

#[test]
fn directories_that_only_lead_there_keep_their_metadata() {
    let f = fixture(vec![
        with(bare("srv", Node::Dir), |e| e.mode = 0o700),
        with(bare("srv/deep", Node::Dir), |e| e.mode = 0o700),
        with(bare("srv/deep/data", Node::Dir), |e| e.mode = 0o701),
        file("srv/deep/data/a", &[b"a"]),
    ]);
    std::fs::create_dir_all(f.target().join("srv")).expect("made");
    std::fs::set_permissions(f.target().join("srv"), std::fs::Permissions::from_mode(0o755)).expect("set");
    f.put("srv/extra", b"mine");
    clean(&f.restore(&f.delta(Extras::Delete)));
    let mode = |path: &str| f.meta(path).mode() & 0o7777;
    assert_eq!((mode("srv"), mode("srv/deep"), mode("srv/deep/data")), (0o755, 0o700, 0o701));
    f.put("srv/deep/data/extra", b"theirs");
    std::fs::set_permissions(f.target().join("srv/deep/data"), std::fs::Permissions::from_mode(0o755)).expect("set");
    let report = f.restore(&f.delta(Extras::Delete));
    assert_eq!((report.deleted, mode("srv/deep/data")), (1, 0o701));
    assert!(f.read("srv/extra").is_some());
}

#[test]
fn a_file_that_claims_to_be_larger_than_any_is_damage_in_an_archive() {
    let hole = FileNode { size: u64::MAX, extents: Some(Vec::new()), ..FileNode::default() };
    let f = fixture(vec![bare("data", Node::Dir), bare("data/hole", Node::File(hole))]);
    let error = f.with_reader(|reader| dump_tar(reader, b"", &mut Vec::new())).expect_err("no archive holds it");
    assert!(matches!(error, RestoreError::Repo(e) if e.is_damage()));
}
