//! The engine's hot paths over a store in memory: what `benches/engine.rs` times and `main.rs` runs once to be counted.
//!
//! What it may not know: the inside of the engine; it goes in and out by its public face. Where data comes from and goes:
//! bytes that are the same every time in; a repository in memory out. Randomness is the same every time too: a count of
//! instructions must not depend on chance.

use repo::{
    Assurance, Capture, CapturePlan, ChunkId, Committed, Compression, Cut, Entry, FileNode, Node, Outcome, PackSize,
    Process, Reading, Repository, Result, Shape, SnapshotReader, Want,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Entropy, Lanes, MemStore, Store, Timestamp, World};

/// Numbers that look random and are the same every time (splitmix64).
pub struct Dice(u64);

impl Dice {
    /// Another sequence for each seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Bytes of which about half compress away, as rows of a table do.
pub fn rows(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut out = Vec::with_capacity(len + 64);
    while out.len() < len {
        out.extend_from_slice(&dice.roll().to_le_bytes());
        out.extend_from_slice(b" customer paid ");
        out.push(b'0' + (dice.roll() % 10) as u8);
    }
    out.truncate(len);
    out
}

/// So many small texts of 200 bytes to 8 KiB.
pub fn texts(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|n| rows(n, 200 + (Dice::new(n).roll() % 8000) as usize)).collect()
}

struct SameEveryTime(AtomicU64);

impl Entropy for SameEveryTime {
    fn fill(&self, into: &mut [u8]) {
        let mut dice = Dice::new(self.0.fetch_add(1, Ordering::Relaxed));
        for part in into.chunks_mut(8) {
            part.copy_from_slice(&dice.roll().to_le_bytes()[..part.len()]);
        }
    }
}

/// A new repository in memory.
///
/// # Errors
/// Whatever the engine returns.
pub fn repository(lanes: Lanes) -> Result<Repository> {
    let store = Store::new(Arc::new(MemStore::new()));
    let world = World { lanes, entropy: Arc::new(SameEveryTime(AtomicU64::new(0))), ..World::real() };
    Repository::init(&store, &world, None, "bench", PackSize::Disk).map(|(repository, _)| repository)
}

fn begin(repository: &Repository) -> Result<Capture<'_>> {
    repository.capture(CapturePlan {
        host: "host".into(),
        user: "user".into(),
        kind: "files".into(),
        paths: vec!["/".into()],
        tags: Vec::new(),
        source: None,
        reason: None,
        assurance: Assurance::default(),
        program: "bench".into(),
        process: Process::default(),
        compression: Compression::Level(3),
        time: None,
    })
}

/// The entry of the `n`-th file: keys ascend with `n`.
pub fn entry(n: u64, file: FileNode) -> Entry {
    Entry {
        key: format!("srv\0data\0{:04}\0file-{n:08}.txt", n / 1000).into_bytes(),
        node: Node::File(file),
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp::new(1_700_000_000 + n as i64, 123_456_789),
        xattrs: Vec::new(),
        user: Some(b"user".to_vec()),
        group: Some(b"user".to_vec()),
        changed: false,
        sqlite: false,
    }
}

/// Cuts `data` into pages, stores it as one file, and commits.
///
/// # Errors
/// Whatever the engine returns.
pub fn store_pages(repository: &Repository, data: &[u8]) -> Result<Committed> {
    let mut capture = begin(repository)?;
    let mut cutter = capture.cutter();
    let measured = cutter.cut(Shape::Pages, &mut &*data, &mut |cut| capture.chunk(cut))?;
    let digest = (measured.chunks > 1).then_some(measured.digest);
    capture.entry(&entry(0, FileNode { size: measured.bytes, chunks: measured.chunks, digest, extents: None }))?;
    capture.commit(Outcome::default())
}

/// Stores each of `files` whole, and commits.
///
/// # Errors
/// Whatever the engine returns.
pub fn store_files(repository: &Repository, files: &[Vec<u8>]) -> Result<Committed> {
    let mut capture = begin(repository)?;
    let cutter = capture.cutter();
    for (n, data) in files.iter().enumerate() {
        capture.chunk(cutter.whole(data.clone()))?;
        let file = FileNode { size: data.len() as u64, chunks: 1, digest: None, extents: None };
        capture.entry(&entry(n as u64, file))?;
    }
    capture.commit(Outcome::default())
}

/// Stores entries of so many empty files, and commits.
///
/// # Errors
/// Whatever the engine returns.
pub fn store_entries(repository: &Repository, count: u64) -> Result<Committed> {
    let mut capture = begin(repository)?;
    (0..count).try_for_each(|n| capture.entry(&entry(n, FileNode::default())))?;
    capture.commit(Outcome::default())
}

/// Stores so many chunks of 8 bytes, and commits. Returns their names as well.
///
/// # Errors
/// Whatever the engine returns.
pub fn store_chunks(repository: &Repository, count: u64) -> Result<(Committed, Vec<ChunkId>)> {
    let mut capture = begin(repository)?;
    let cutter = capture.cutter();
    let cuts: Vec<Cut> = (0..count).map(|n| cutter.whole(n.to_le_bytes().to_vec())).collect();
    let ids = cuts.iter().map(|cut| cut.id).collect();
    cuts.into_iter().try_for_each(|cut| capture.chunk(cut))?;
    let file = FileNode { size: count * 8, chunks: count, digest: Some([0; 32]), extents: None };
    capture.entry(&entry(0, file))?;
    Ok((capture.commit(Outcome::default())?, ids))
}

/// Begins to read a repository.
///
/// # Errors
/// Whatever the engine returns.
pub fn reading(repository: &Repository) -> Result<Reading<'_>> {
    repository.reading(&Process::default())
}

/// How many of these chunks a new run finds stored.
///
/// # Errors
/// Whatever the engine returns.
pub fn count_known(capture: &mut Capture<'_>, ids: &[ChunkId]) -> Result<usize> {
    let mut known = 0;
    for id in ids {
        known += usize::from(capture.reuse(std::slice::from_ref(id))?);
    }
    Ok(known)
}

/// A run that only looks up: dropped, it never happened.
///
/// # Errors
/// Whatever the engine returns.
pub fn looking_up(repository: &Repository) -> Result<Capture<'_>> {
    begin(repository)
}

/// Reads all content of a snapshot back, verified, and returns how many bytes that is.
///
/// # Errors
/// Whatever the engine returns.
pub fn read_back(reader: &SnapshotReader) -> Result<u64> {
    let mut wants = Vec::new();
    for located in reader.entries(b"") {
        let located = located?;
        let Node::File(file) = &located.entry.node else { continue };
        for id in reader.ids(located.first, file.chunks)? {
            wants.push(Want { id, place: reader.locate(&id)?, tag: 0 });
        }
    }
    let bytes = AtomicU64::new(0);
    let lost = reader.fetch(&wants, &|_, data| {
        bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    })?;
    match lost.into_iter().next() {
        Some((_, e)) => Err(e),
        None => Ok(bytes.into_inner()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_does_what_it_says() {
        let repository = repository(Lanes::Inline).unwrap();
        let pages = store_pages(&repository, &rows(1, 1 << 20)).unwrap();
        let files = store_files(&repository, &texts(50)).unwrap();
        let entries = store_entries(&repository, 3_000).unwrap();
        let (_, ids) = store_chunks(&repository, 100).unwrap();
        let reading = reading(&repository).unwrap();
        assert_eq!(read_back(&reading.open(&pages.snapshot).unwrap()).unwrap(), 1 << 20);
        let bytes: usize = texts(50).iter().map(Vec::len).sum();
        assert_eq!(read_back(&reading.open(&files.snapshot).unwrap()).unwrap(), bytes as u64);
        let reader = reading.open(&entries.snapshot).unwrap();
        assert_eq!(reader.entries(b"").count(), 3_000);
        assert!(reader.get(&entry(1_234, FileNode::default()).key).unwrap().is_some());
        let mut capture = looking_up(&repository).unwrap();
        let strangers: Vec<ChunkId> = (0..100u8).map(|n| ChunkId([n; 32])).collect();
        assert_eq!(
            (count_known(&mut capture, &ids).unwrap(), count_known(&mut capture, &strangers).unwrap()),
            (100, 0)
        );
    }
}
