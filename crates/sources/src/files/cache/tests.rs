use super::*;
use std::path::Path;

fn spec(dir: &Path) -> CacheSpec {
    let repository = RepositoryId([7; 16]);
    CacheSpec { dir: dir.to_path_buf(), repository, host: "host".to_owned(), rehash_every: 0 }
}

fn roots() -> Roots {
    Roots::parse(&["/srv"], Path::new("/")).expect("roots")
}

fn entry(key: &str, node: Node) -> Entry {
    Entry {
        key: key.replace('/', "\0").into_bytes(),
        node,
        mode: 0o4755,
        uid: 0,
        gid: u32::MAX,
        mtime: Timestamp::new(-5, 999_999_999),
        xattrs: vec![(b"security.x".to_vec(), vec![]), (b"user.a".to_vec(), vec![0, 255])],
        user: None,
        group: None,
        changed: false,
        sqlite: false,
    }
}

fn file(key: &str, chunks: u64) -> Entry {
    let extents = (chunks == 3).then(|| vec![Extent { hole: 1 << 40, data: 5 }, Extent { hole: 0, data: 1 }]);
    let digest = (chunks > 1).then_some([9; 32]);
    let mut entry = entry(key, Node::File(FileNode { size: chunks * 1000, chunks, digest, extents }));
    entry.sqlite = chunks == 2;
    entry
}

fn memory(number: u64) -> Memory {
    let stamp = Stamp { size: number, mtime: (-7, 8), ctime: (1 << 40, 999_999_999), ino: u64::MAX - number };
    Memory { stamp, wal: (number % 3 == 2).then_some(Stamp { size: 1, ..stamp }), fresh: number.is_multiple_of(2) }
}

fn id(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn things() -> Vec<Entry> {
    vec![
        entry("", Node::Dir),
        entry("srv", Node::Dir),
        file("srv/a", 0),
        file("srv/a/b", 1),
        file("srv/a/bc", 2),
        file("srv/a/é", 3),
        entry("srv/b", Node::Symlink { target: b"../\xff".to_vec() }),
        entry("srv/c", Node::Fifo),
        entry("srv/d", Node::CharDevice { major: 1, minor: u32::MAX }),
        entry("srv/e", Node::BlockDevice { major: 0, minor: 1 }),
        file("srv/large", 20_000),
        file("srv/z", 1),
    ]
}

fn write(dir: &Path, things: &[Entry]) {
    let mut next = NextCache::create(&spec(dir), &roots(), Sqlite::Auto, &World::real()).expect("begins");
    for (number, entry) in things.iter().enumerate() {
        next.put(entry, memory(number as u64), number as u32);
        if let Node::File(file) = &entry.node {
            let ids: Vec<ChunkId> = (0..file.chunks).map(|chunk| id(number as u64 * 100_000 + chunk)).collect();
            ids.chunks(1000).for_each(|ids| next.ids(ids));
        }
    }
    next.set_totals(Totals { entries: things.len() as u64, bytes: 77 });
    let basis = Basis::from_bytes(&[3; 64]).expect("is one");
    next.finish(&SnapshotId([5; 32]), &basis).expect("finishes");
}

fn open(dir: &Path) -> Option<Cache> {
    Cache::open(&spec(dir), &roots(), Sqlite::Auto)
}

fn all_ids(records: &mut Records) -> Vec<ChunkId> {
    let (mut all, mut some) = (Vec::new(), Vec::new());
    while records.ids(&mut some).is_some() && !some.is_empty() {
        all.append(&mut some);
    }
    all
}

#[test]
fn what_was_remembered_comes_back() {
    let dir = tempfile::tempdir().expect("temp dir");
    assert!(open(dir.path()).is_none());
    write(dir.path(), &things());
    let cache = open(dir.path()).expect("is whole");
    assert_eq!(cache.snapshot, SnapshotId([5; 32]));
    assert_eq!(cache.totals, Totals { entries: 12, bytes: 77 });
    assert_eq!(cache.basis.to_bytes(), Basis::from_bytes(&[3; 64]).expect("is one").to_bytes());
    let mut records = cache.records();
    for (number, entry) in things().iter().enumerate() {
        let head = records.advance().expect("is there");
        assert_eq!((records.key(), records.number()), (entry.key.as_slice(), number as u64));
        assert_eq!((head.memory, head.age), (memory(number as u64), number as u32));
        assert_eq!(records.entry().as_ref(), Some(entry));
        // Some are read, some are passed over.
        if number % 3 != 0 {
            let expect: Vec<ChunkId> = (0..head.ids).map(|chunk| id(number as u64 * 100_000 + chunk)).collect();
            assert_eq!(all_ids(&mut records), expect);
        }
    }
    assert_eq!(records.advance(), None);
    let mut records = cache.records();
    assert_eq!(records.advance_to(4).map(|head| head.sqlite), Some(true));
    assert_eq!(records.key(), b"srv\0a\0bc");
    assert!(records.advance_to(11).is_some() && records.key() == b"srv\0z");
    assert_eq!(records.advance_to(3), None);
}

#[test]
fn a_cache_that_is_not_as_it_was_written_is_none() {
    let dir = tempfile::tempdir().expect("temp dir");
    write(dir.path(), &things()[..8]);
    let path = spec(dir.path()).path(&roots(), Sqlite::Auto);
    let whole = std::fs::read(&path).expect("reads");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        std::fs::write(&path, &damaged).expect("writes");
        assert!(open(dir.path()).is_none(), "byte {at}");
        std::fs::write(&path, &whole[..at]).expect("writes");
        assert!(open(dir.path()).is_none(), "cut off at {at}");
    }
    std::fs::write(&path, [whole.as_slice(), b"x"].concat()).expect("writes");
    assert!(open(dir.path()).is_none());
    std::fs::write(&path, &whole).expect("writes");
    assert!(open(dir.path()).is_some());
}

#[test]
fn it_belongs_to_one_repository_host_and_set_of_roots() {
    let dir = tempfile::tempdir().expect("temp dir");
    write(dir.path(), &things());
    let here = spec(dir.path());
    let other_repository = CacheSpec { repository: RepositoryId([8; 16]), ..here.clone() };
    let other_host = CacheSpec { host: "other".to_owned(), ..here.clone() };
    let other_roots = Roots::parse(&["/srv", "/etc"], Path::new("/")).expect("roots");
    assert!(Cache::open(&here, &roots(), Sqlite::Auto).is_some());
    assert!(Cache::open(&other_repository, &roots(), Sqlite::Auto).is_none());
    assert!(Cache::open(&other_host, &roots(), Sqlite::Auto).is_none());
    assert!(Cache::open(&here, &other_roots, Sqlite::Auto).is_none());
    assert!(Cache::open(&here, &roots(), Sqlite::Off).is_none());
}

#[test]
fn one_that_is_not_finished_leaves_the_old_one_and_nothing_else() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("temp dir");
    write(dir.path(), &things());
    let mut next = NextCache::create(&spec(dir.path()), &roots(), Sqlite::Auto, &World::real()).expect("begins");
    next.put(&things()[0], Memory::default(), 0);
    drop(next);
    assert_eq!(open(dir.path()).map(|cache| cache.totals.entries), Some(12));
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("lists").map(|e| e.expect("is there")).collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].metadata().expect("has some").mode() & 0o777, 0o600);
}

#[test]
fn files_fall_due_between_half_of_the_interval_and_all_of_it() {
    let first_due = |key: &str, every| (0..=every * 2).find(|age| is_due(key.as_bytes(), *age, every));
    let mut when = std::collections::BTreeMap::new();
    for number in 0..3000 {
        *when.entry(first_due(&format!("srv\0{number}"), 30).expect("falls due")).or_insert(0) += 1;
    }
    assert!(when.keys().all(|age| (16..=30).contains(age)), "{when:?}");
    assert!(when.len() >= 15 && when.values().all(|count| *count < 600), "{when:?}");
    assert_eq!(first_due("a", 1), Some(0), "every run means the next one too");
    assert!(!is_due(b"a", u32::MAX, 0));
}
