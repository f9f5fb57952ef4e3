//! Windows: bounded amounts of work, and the files in them.
//!
//! What it is for: it gathers files until a limit is reached, asks for the names of their chunks in long stretches, and
//! works out where in which file each chunk goes. What a file's entry says of its content is checked here.
//! What it may not know: the target.
//! Where data comes from and goes: files from `plan` in; wants for `SnapshotReader::fetch` out.

use super::apply::Run;
use super::place::{Dir, Found, Inode};
use super::restored::RestoreError;
use repo::{ChunkId, Entry, FileNode, RepoError, Want};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Limits of one window.
pub(super) const FILES_MAX: usize = 16_384;
const CHUNKS_MAX: u64 = 131_072;
const BYTES_MAX: u64 = 4 << 30;
const WEIGHT_MAX: usize = 32 << 20;
/// Ids asked for at once.
const IDS_MAX: u64 = 8_192;

/// Where in a file its data goes.
pub(super) enum Spread {
    /// It is all data.
    Whole,
    /// (offset in the data, offset in the file, length), in order.
    Stretches(Vec<(u64, u64, u64)>),
}

impl Spread {
    /// How the data of a file is spread.
    pub fn of(file: &FileNode) -> Self {
        if file.extents.is_none() {
            return Spread::Whole;
        }
        let mut data = 0u64;
        let place = |(offset, len): (u64, u64)| {
            let stretch = (data, offset, len);
            data = data.saturating_add(len);
            stretch
        };
        Spread::Stretches(file.stretches().into_iter().map(place).filter(|stretch| stretch.2 > 0).collect())
    }

    /// Where these bytes of data go: (offset in the file, length), in order.
    pub fn ranges(&self, from: u64, len: u64) -> Vec<(u64, u64)> {
        let Spread::Stretches(stretches) = self else { return vec![(from, len)] };
        let first = stretches.partition_point(|(data, _, length)| data + length <= from);
        let mut ranges = Vec::new();
        let (mut from, mut left) = (from, len);
        for (data, offset, length) in stretches.get(first..).unwrap_or_default() {
            if left == 0 {
                break;
            }
            let skip = from - data;
            let taken = left.min(length - skip);
            ranges.push((offset + skip, taken));
            from += taken;
            left -= taken;
        }
        ranges
    }

    /// The holes: (offset, length), in order.
    pub fn holes(&self, size: u64) -> Vec<(u64, u64)> {
        let Spread::Stretches(stretches) = self else { return Vec::new() };
        let mut at = 0;
        let mut holes = Vec::new();
        for (_, offset, length) in stretches {
            holes.push((at, offset - at));
            at = offset + length;
        }
        holes.push((at, size.saturating_sub(at)));
        holes.retain(|(_, length)| *length > 0);
        holes
    }
}

/// What stands under the name of a file to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onto {
    /// Nothing, and whatever appears there is not ours to replace.
    Nothing,
    /// A file that gives way to the new one.
    Other,
    /// A file whose chunks are compared, then kept or rewritten.
    Same(Inode),
}

/// One file to be restored.
pub(super) struct Task {
    pub id: u64,
    pub entry: Entry,
    pub dir: Arc<Dir>,
    pub onto: Onto,
    pub size: u64,
    /// Bytes of data.
    pub data: u64,
    pub chunks: u64,
    pub digest: Option<[u8; 32]>,
    pub spread: Spread,
    /// It will not be restored, and a problem says so.
    pub failed: AtomicBool,
    /// Digest of the data on disk, as far as it is complete from the beginning.
    pub follow: Mutex<Option<Box<Follow>>>,
    /// Bytes of data that earlier windows hold.
    planned: AtomicU64,
}

/// How far a file's digest is.
pub(super) struct Follow {
    pub hasher: blake3::Hasher,
    /// Chunks of the file that are in it.
    pub chunks: u64,
    pub buffer: Vec<u8>,
}

impl Task {
    /// The file that an entry describes.
    ///
    /// # Errors
    /// The path key, and what is wrong with the entry.
    pub fn new(id: u64, mut entry: Entry, dir: &Arc<Dir>) -> Result<Task, (Vec<u8>, String)> {
        let mut file = match &mut entry.node {
            repo::Node::File(file) => std::mem::take(file),
            _ => FileNode::default(),
        };
        let (size, data, chunks, digest) = (file.size, file.data_bytes(), file.chunks, file.digest.take());
        if (chunks == 0) != (data == 0) || chunks > data {
            return Err((entry.key, format!("its entry is damaged: {chunks} chunks for {data} bytes")));
        }
        Ok(Task {
            id,
            entry,
            dir: Arc::clone(dir),
            onto: Onto::Nothing,
            size,
            data,
            chunks,
            digest,
            spread: Spread::of(&file),
            failed: AtomicBool::new(false),
            follow: Mutex::new(None),
            planned: AtomicU64::new(0),
        })
    }

    /// Its file name.
    pub fn name(&self) -> &[u8] {
        last_name(&self.entry.key)
    }
}

/// The last name of a path key.
pub(super) fn last_name(key: &[u8]) -> &[u8] {
    key.rsplit(|b| *b == 0).next().unwrap_or_default()
}

/// The chunks of one file that one window holds.
pub(super) struct Job {
    pub task: Arc<Task>,
    /// Where in the window's pieces they begin.
    pub first: usize,
    pub count: usize,
    /// Chunks of the file before them.
    pub base: u64,
    /// Chunks that are not on the disk yet.
    pub left: AtomicUsize,
}

impl Job {
    /// Whether the file ends in this window.
    pub fn is_last(&self) -> bool {
        self.base + self.count as u64 == self.task.chunks
    }
}

/// One chunk of one file.
pub(super) struct Piece {
    pub job: u32,
    pub len: u32,
    /// Where in the data of the file it begins.
    pub offset: u64,
    pub done: AtomicBool,
}

/// A hard link to be made when the file it belongs to is there.
pub(super) struct Link {
    pub dir: Arc<Dir>,
    pub key: Vec<u8>,
    pub to: Vec<u8>,
}

/// The metadata a directory is given in the end.
pub(super) enum Kept {
    /// This.
    Here(Box<Entry>),
    /// What the snapshot has under this path key: too much to keep in memory.
    Ask(Vec<u8>),
}

/// A directory that nothing more comes into.
pub(super) struct Closing {
    pub dir: Arc<Dir>,
    pub found: Found,
    pub kept: Kept,
}

impl Closing {
    fn weight(&self) -> usize {
        match &self.kept {
            Kept::Here(_) => 2048,
            Kept::Ask(key) => 1024 + key.len(),
        }
    }
}

/// A bounded amount of work.
pub(super) struct Window {
    pub table: Table,
    /// Tags are indexes of pieces.
    pub wants: Vec<Want>,
    pub links: Vec<Link>,
    pub closing: Vec<Closing>,
}

/// What the wants of a window are for.
#[derive(Default)]
pub(super) struct Table {
    pub jobs: Vec<Job>,
    pub pieces: Vec<Piece>,
}

impl Table {
    /// The piece and the job of a want.
    pub fn of(&self, tag: u64) -> Option<(&Piece, &Job)> {
        let piece = self.pieces.get(usize::try_from(tag).ok()?)?;
        Some((piece, self.jobs.get(piece.job as usize)?))
    }
}

/// A window that is being filled.
#[derive(Default)]
pub(super) struct Draft {
    segments: Vec<Segment>,
    links: Vec<Link>,
    closing: Vec<Closing>,
    /// Entries seen while it was filled.
    pub things: usize,
    chunks: u64,
    bytes: u64,
    weight: usize,
}

/// Neighbouring chunks of one file.
pub(super) struct Segment {
    task: Arc<Task>,
    /// Their place in the snapshot's list of content.
    position: u64,
    count: u64,
    base: u64,
}

impl Segment {
    /// Whether its file was given up.
    pub fn is_given_up(&self) -> bool {
        self.task.failed.load(Relaxed)
    }

    /// All chunks of a file.
    pub fn all(task: Task, position: u64) -> Self {
        Segment { count: task.chunks, task: Arc::new(task), position, base: 0 }
    }
}

impl Draft {
    /// Adds what fits of a file; gives back what does not.
    pub fn add(&mut self, mut segment: Segment) -> Option<Segment> {
        let count = segment.count.min(CHUNKS_MAX.saturating_sub(self.chunks)).max(1);
        self.chunks += count;
        let share = u128::from(segment.task.data) * u128::from(count) / u128::from(segment.task.chunks.max(1));
        self.bytes = self.bytes.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
        self.weight += 1024 + heft(&segment.task);
        let rest = segment.count - count;
        let position = segment.position.saturating_add(count);
        let rest = (rest > 0).then(|| Segment {
            task: Arc::clone(&segment.task),
            position,
            count: rest,
            base: segment.base + count,
        });
        segment.count = count;
        self.segments.push(segment);
        rest
    }

    /// Adds a hard link, to be made when the files of this window are there.
    pub fn link(&mut self, link: Link) {
        self.weight += link.key.len() + link.to.len();
        self.links.push(link);
    }

    /// Adds a directory that nothing comes into after this window.
    pub fn close(&mut self, closing: Closing) {
        self.weight += closing.weight();
        self.closing.push(closing);
    }

    /// Whether it should be worked on.
    pub fn is_full(&self, files_max: usize) -> bool {
        self.segments.len() + self.links.len() + self.closing.len() + self.things >= files_max
            || self.chunks >= CHUNKS_MAX
            || self.bytes >= BYTES_MAX
            || self.weight >= WEIGHT_MAX
    }

    /// Looks up where all chunks are. Files that cannot be had become problems.
    ///
    /// # Errors
    /// What stops the restore.
    pub fn resolve(self, run: &Run<'_>) -> Result<Window, RestoreError> {
        let mut table = Table::default();
        let mut wants = Vec::with_capacity(usize::try_from(self.chunks).unwrap_or(0));
        let mut rest = self.segments.as_slice();
        while let Some(first) = rest.first() {
            // Neighbouring files are neighbours in the list of content: one question for many of them.
            let mut count = first.count;
            let mut taken = 1;
            while let Some(next) = rest.get(taken) {
                if first.position.checked_add(count) != Some(next.position) || count + next.count > IDS_MAX {
                    break;
                }
                count += next.count;
                taken += 1;
            }
            let (now, later) = rest.split_at(taken);
            rest = later;
            run.check_stop()?;
            match ids(run, first.position, count) {
                Ok(ids) => {
                    let mut ids = ids.as_slice();
                    for segment in now {
                        let (own, others) = ids.split_at(usize::try_from(segment.count).unwrap_or(0).min(ids.len()));
                        ids = others;
                        segment.want(run, own, &mut table, &mut wants)?;
                    }
                }
                Err(e) if !e.is_damage() => return Err(e.into()),
                Err(_) => {
                    for segment in now {
                        match ids(run, segment.position, segment.count) {
                            Ok(own) => segment.want(run, &own, &mut table, &mut wants)?,
                            Err(e) if !e.is_damage() => return Err(e.into()),
                            Err(e) => run.fail(&segment.task, &format!("the list of its content is damaged: {e}")),
                        }
                    }
                }
            }
        }
        Ok(Window { table, wants, links: self.links, closing: self.closing })
    }
}

fn ids(run: &Run<'_>, first: u64, count: u64) -> repo::Result<Vec<ChunkId>> {
    let ids = run.reader.ids(first, count)?;
    if ids.len() as u64 != count {
        return Err(RepoError::damaged("a list of content", "is shorter than the entries say"));
    }
    Ok(ids)
}

fn heft(task: &Task) -> usize {
    let xattrs: usize = task.entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
    let stretches = if let Spread::Stretches(list) = &task.spread { list.len() * 24 } else { 0 };
    xattrs + stretches + task.entry.key.len()
}

impl Segment {
    fn want(
        &self,
        run: &Run<'_>,
        ids: &[ChunkId],
        table: &mut Table,
        wants: &mut Vec<Want>,
    ) -> Result<(), RestoreError> {
        let task = &self.task;
        if task.failed.load(Relaxed) {
            return Ok(());
        }
        let (first, job) = (table.pieces.len(), table.jobs.len());
        let mut offset = task.planned.load(Relaxed);
        for id in ids {
            match run.reader.locate(id) {
                Ok(place) => {
                    let (tag, len) = (table.pieces.len() as u64, place.len());
                    // A window holds at most 16,384 jobs.
                    let piece = Piece { job: job as u32, len, offset, done: AtomicBool::new(false) };
                    table.pieces.push(piece);
                    wants.push(Want { id: *id, place, tag });
                    offset = offset.saturating_add(u64::from(len));
                }
                Err(e) if !e.is_damage() => return Err(e.into()),
                Err(e) => {
                    self.give_up(run, first, table, wants, &e.to_string());
                    return Ok(());
                }
            }
        }
        let is_last = self.base + self.count == task.chunks;
        if offset > task.data || (is_last && offset != task.data) {
            let why = format!("its chunks hold {offset} bytes and its entry says {}", task.data);
            self.give_up(run, first, table, wants, &why);
            return Ok(());
        }
        task.planned.store(offset, Relaxed);
        let count = ids.len();
        table.jobs.push(Job { task: Arc::clone(task), first, count, base: self.base, left: AtomicUsize::new(count) });
        Ok(())
    }

    fn give_up(&self, run: &Run<'_>, first: usize, table: &mut Table, wants: &mut Vec<Want>, why: &str) {
        table.pieces.truncate(first);
        while wants.last().is_some_and(|want| want.tag >= first as u64) {
            wants.pop();
        }
        run.fail(&self.task, why);
    }
}
