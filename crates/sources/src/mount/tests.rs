//! Snapshots that no sound writer makes, and damaged ones, as a mount sees them; without a kernel.

use super::body::{Body, without_name};
use super::content::{Cache, Content, Seek, next_of};
use super::trouble::Teller;
use super::view::{Enough, Found, View};
use fuser::Errno;
use repo::{
    Assurance, CapturePlan, Compression, Entry, Extent, FileNode, Node, Outcome, PackSize, Process, Repository,
    Snapshot,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{Key, MemStore, Shelf, Store, Timestamp, World};

struct Fixture {
    mem: MemStore,
    repository: Repository,
    snapshot: Snapshot,
}

type Made = (Vec<Vec<u8>>, Entry);

fn entry(path: &str, node: Node) -> Made {
    let key = path.replace('/', "\0").into_bytes();
    let (uid, gid, mtime) = (1, 2, Timestamp::new(5, 6));
    let (xattrs, user, group, changed, sqlite) = (Vec::new(), None, None, false, false);
    (Vec::new(), Entry { key, node, mode: 0o640, uid, gid, mtime, xattrs, user, group, changed, sqlite })
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn file(path: &str, chunks: Vec<Vec<u8>>, extents: Option<Vec<Extent>>) -> Made {
    let data: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    let size = extents.as_ref().map_or(data, |all| all.iter().map(|extent| extent.hole + extent.data).sum::<u64>() + 7);
    let node = FileNode { size, chunks: chunks.len() as u64, digest: None, extents };
    (chunks, entry(path, Node::File(node)).1)
}

fn fixture(mut things: Vec<Made>) -> Fixture {
    let (mem, world) = (MemStore::new(), World::real());
    let store = Store::new(Arc::new(mem.clone()));
    let (repository, _) = Repository::init(&store, &world, None, "test", PackSize::Bytes(60_000)).expect("made");
    let plan = CapturePlan {
        host: "host".into(),
        user: "me".into(),
        kind: "files".into(),
        paths: vec!["/".into()],
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
    let snapshot = capture.commit(Outcome::default()).expect("commits").snapshot;
    Fixture { mem, repository, snapshot }
}

impl Fixture {
    fn view(&self) -> Option<Arc<View>> {
        let reading = self.repository.reading(&Process::default()).ok()?;
        let reader = reading.opener().open(&self.snapshot).ok()?;
        Some(Arc::new(View::new(reader, Arc::new(Teller::new(Box::new(|_, _| {}))))))
    }
}

/// All names in a directory, so many at a time.
fn names(view: &View, dir: &Found, at_once: usize) -> (Vec<String>, Result<(), Errno>) {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let mut some = Vec::new();
        let listed = view.list(dir, after, &mut |name, found, position| {
            if some.len() == at_once {
                return Enough::Yes;
            }
            // What it is told by is what it is found by.
            assert_eq!(view.at(found.spot).expect("is there").key, found.key);
            assert_eq!(view.lookup(dir, name).expect("is there").spot, found.spot);
            some.push((String::from_utf8_lossy(name).into_owned(), position));
            Enough::No
        });
        let Some((_, last)) = some.last() else { return (all, listed) };
        assert_eq!(listed, Ok(()));
        after = Some(*last);
        all.extend(some.into_iter().map(|(name, _)| name));
    }
}

#[test]
fn directories_that_no_entry_stands_for_are_there_all_the_same() {
    let f = fixture(vec![
        entry("a/b/c/one", Node::Fifo),
        entry("a/b/c/two", Node::Fifo),
        entry("a/b.x", Node::Fifo),
        entry("a/b!", Node::Dir),
        entry("a/z/deep", Node::Dir),
        entry("a/z/deep/er", Node::Fifo),
        entry("z", Node::HardLink { to: b"nowhere".to_vec() }),
    ]);
    let view = f.view().expect("opens");
    for at_once in [1, 2, 100] {
        let told = |path: &str| {
            let dir = view.find(path.replace('/', "\0").as_bytes()).expect("is there");
            names(&view, &dir, at_once)
        };
        let all = |names: &[&str]| (names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), Ok(()));
        // A link that leads nowhere is missing, and that is said.
        assert_eq!(told(""), (vec!["a".to_owned()], Err(Errno::EIO)));
        assert_eq!(told("a"), all(&["b", "b!", "b.x", "z"]));
        assert_eq!(told("a/b"), all(&["c"]));
        assert_eq!(told("a/b/c"), all(&["one", "two"]));
        assert_eq!(told("a/b!"), all(&[]));
        assert_eq!(told("a/z"), all(&["deep"]));
        assert_eq!(told("a/z/deep"), all(&["er"]));
    }
    for missing in ["b", "a/b/", "a/b/c/on", "a/b/c/one/x", "a/zz"] {
        assert!(view.find(missing.replace('/', "\0").as_bytes()).is_err(), "{missing}");
    }
}

#[test]
fn a_damaged_list_shows_what_is_left_and_then_says_so() {
    // Long names, so that their list is in several records.
    let long = |n: u64| format!("wide/{n:05}-{}", blake3::hash(&n.to_le_bytes()).to_hex().repeat(3));
    let wide: Vec<String> = (0..8000).map(long).collect();
    let mut things =
        vec![entry("", Node::Dir), entry("after", Node::Dir), entry("wide", Node::Dir), entry("xyz", Node::Fifo)];
    things.extend(wide.iter().map(|path| entry(path, Node::Fifo)));
    things.extend((0..40).map(|n| entry(&format!("{}/below", long(n * 100 + 50)), Node::Fifo)));
    let f = fixture(things);
    let whole: BTreeSet<String> = wide.iter().map(|path| path["wide/".len()..].to_owned()).collect();
    let packs: Vec<Key> = f.mem.keys().into_iter().filter(|key| key.shelf() == Shelf::Packs).collect();
    let mut partly = 0;
    for pack in packs {
        let mut good = Vec::new();
        f.mem.corrupt(&pack, |bytes| good.clone_from(bytes));
        for at in (100..good.len()).step_by(good.len() / 12 + 1) {
            f.mem.corrupt(&pack, |bytes| bytes[at] ^= 1);
            if let Some(view) = f.view()
                && let Ok(dir) = view.find(b"wide")
            {
                let (told, end) = names(&view, &dir, 500);
                let told: BTreeSet<String> = told.into_iter().collect();
                assert!(told.is_subset(&whole));
                assert_eq!(end.is_ok(), told.len() == whole.len(), "{} of {}", told.len(), whole.len());
                partly += usize::from(!told.is_empty() && end.is_err());
            }
            f.mem.corrupt(&pack, |bytes| bytes.clone_from(&good));
        }
    }
    assert!(partly > 2, "{partly}");
}

#[test]
fn bytes_are_found_anywhere_in_files_of_many_chunks() {
    let pages: Vec<Vec<u8>> = (0..300).map(|n| noise(n, if n == 299 { 4096 } else { 32 << 10 })).collect();
    let odd: Vec<Vec<u8>> = (0..200).map(|n| noise(1000 + n, 70_000 + 997 * n as usize)).collect();
    let holes = vec![Extent { hole: 5000, data: 40_000 }, Extent { hole: 1 << 30, data: 124_009 }];
    let sparse = vec![noise(5000, 90_000), noise(5001, 74_009)];
    let mut bytes: Vec<(&str, Vec<u8>)> = vec![("pages", pages.concat()), ("odd", odd.concat())];
    let data = sparse.concat();
    let f = fixture(vec![file("pages", pages, None), file("odd", odd, None), file("sparse", sparse, Some(holes))]);
    let view = f.view().expect("opens");
    let cache = Cache::new(1 << 20).expect("threads");
    let open = |path: &str| {
        let found = view.find(path.as_bytes()).expect("is there");
        Arc::new(Content::of(&view, &found.located.expect("an entry")).expect("a file"))
    };
    let mut seed = 1u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for (name, good) in bytes.drain(..) {
        let content = open(name);
        assert_eq!(content.size(), good.len() as u64);
        for _ in 0..200 {
            let at = next(good.len() as u64) as usize;
            let len = (next(300_000) as usize).min(good.len() - at);
            let mut got = vec![1; len];
            content.read(&cache, at as u64, &mut got).expect("reads");
            assert!(got == good[at..at + len], "{name} at {at}, {len} bytes");
        }
    }
    let content = open("sparse");
    let mut got = vec![1; 46_000];
    content.read(&cache, 0, &mut got).expect("reads");
    assert!(got[..5000].iter().all(|byte| *byte == 0) && got[5000..45_000] == data[..40_000] && got[45_999] == 0);
    let second = 45_000 + (1 << 30);
    let mut got = vec![1; 124_016];
    content.read(&cache, second, &mut got).expect("reads");
    assert!(got[..124_009] == data[40_000..] && got[124_009..].iter().all(|byte| *byte == 0));
    let found = view.find(b"sparse").expect("is there").located.expect("an entry");
    let Node::File(node) = found.entry.node else { panic!("a file") };
    for (offset, data, hole) in [
        (0, Some(5000), Some(0)),
        (6000, Some(6000), Some(45_000)),
        (50_000, Some(second), Some(50_000)),
        (node.size, None, None),
    ] {
        assert_eq!((next_of(&node, offset, Seek::Data), next_of(&node, offset, Seek::Hole)), (data, hole), "{offset}");
    }
    assert_eq!(next_of(&node, second + 124_010, Seek::Data), None);
}

#[test]
fn what_is_written_over_a_backup_reads_as_in_a_file_of_its_own() {
    let chunks: Vec<Vec<u8>> = (0..12).map(|n| noise(n, 32 << 10)).collect();
    let backed_up = chunks.concat();
    let f = fixture(vec![file("table", chunks, None)]);
    let view = f.view().expect("opens");
    let cache = Cache::new(1 << 20).expect("threads");
    let dir = tempfile::tempdir().expect("a directory");
    let located = view.find(b"table").expect("is there").located.expect("an entry");
    for seed in 0..40u64 {
        let mut state = seed;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        // Every other one is new, as a server makes many.
        let body = Body::of((seed % 2 == 0).then(|| Content::of(&view, &located).expect("a file")));
        let mut model = if seed % 2 == 0 { backed_up.clone() } else { Vec::new() };
        for step in 0..120u64 {
            match next(10) {
                0 => {
                    let size = next(500_000);
                    body.resize(size as u64).expect("resizes");
                    model.resize(size, 0);
                }
                1..=6 => {
                    // Whole pages as a rule, but not always.
                    let unit = if next(3) == 0 { 1 } else { 8192 };
                    let (at, len) = (next(450_000) / unit * unit, (next(40_000) / unit + 1) * unit);
                    let data = noise(seed * 1000 + step, len);
                    let file = || without_name(dir.path());
                    body.write(&cache, &file, at as u64, &data).expect("writes");
                    model.resize(model.len().max(at + len), 0);
                    model[at..at + len].copy_from_slice(&data);
                }
                _ => {
                    let (at, len) = (next(500_000), next(100_000));
                    let got = body.read(&cache, at as u64, len as u32).expect("reads");
                    let good = model.get(at.min(model.len())..(at + len).min(model.len())).unwrap_or_default();
                    assert!(got == good, "seed {seed}, step {step}: {len} bytes at {at}");
                }
            }
            assert_eq!(body.size(), model.len() as u64);
        }
        assert!(body.read(&cache, 0, u32::MAX).expect("reads") == model, "seed {seed}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 0, "files for pages have no names");
}

#[test]
fn files_with_several_names_are_one_file() {
    let f = fixture(vec![
        entry("a", Node::Dir),
        file("a/first", vec![noise(1, 10)], None),
        entry("b", Node::HardLink { to: b"a\0first".to_vec() }),
        entry("c", Node::HardLink { to: b"a\0first".to_vec() }),
        file("d", vec![noise(2, 10)], None),
    ]);
    let view = f.view().expect("opens");
    let spot = |path: &[u8]| view.find(path).expect("is there").spot;
    assert_eq!((spot(b"b"), spot(b"c")), (spot(b"a\0first"), spot(b"a\0first")));
    assert_eq!((view.names(b"a\0first"), view.names(b"d")), (3, 1));
}
