//! What the previous run over the same roots saw, so that what did not change need not be read again.
//!
//! One file per repository, host and roots, in the order of the walk, so that reading it and writing the next one take
//! constant memory. It is disposable: whatever is not exactly as it was written is ignored, and everything is read anew.
//! It knows nothing of trees; `capture` reads it beside the walk.
//!
//! `BSTYFC1\n` | records | footer | length of the footer, 4 bytes | BLAKE3 of all before, 32 bytes. A record: length of its
//! body as a varint | body | chunk ids. Numbers are varints; keys share a prefix with the one before.

#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::PathBuf;
use std::sync::Arc;

use repo::{Basis, ChunkId, Entry, Extent, FileNode, Node, RepositoryId, SnapshotId, hex};
use rustix::fs::{CWD, Mode, OFlags, openat};
use store::{Timestamp, World};

use super::content::Memory;
use super::meta::Stamp;
use super::report::Totals;
use super::roots::Roots;
use crate::leftover;
use crate::sqlite::Sqlite;

const MAGIC: &[u8; 8] = b"BSTYFC1\n";
const TRAILER_BYTES: u64 = 4 + 32;
const ID_BYTES: usize = 32;
const BUFFER_BYTES: usize = 256 << 10;
/// No body of a record is larger: a path key of 1 MiB, attributes, extents of a very sparse file.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Where the cache of a set of roots lies and how it is used.
#[derive(Clone, Debug)]
pub struct CacheSpec {
    /// The directory; made when it does not exist.
    pub dir: PathBuf,
    /// The repository that is captured into.
    pub repository: RepositoryId,
    /// This host's name in snapshots.
    pub host: String,
    /// After how many runs a file is read again though it looks unchanged; 0 is never. Spread, so that not all come at once.
    pub rehash_every: u32,
}

/// How often files are read again by default.
pub const REHASH_EVERY: u32 = 30;

impl CacheSpec {
    /// The file for these roots.
    fn path(&self, roots: &Roots, sqlite: Sqlite) -> PathBuf {
        let mut hash = blake3::Hasher::new();
        let mut put = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        put(&self.repository.0);
        put(self.host.as_bytes());
        // What is read of a database depends on this.
        put(if sqlite == Sqlite::Auto { b"auto" } else { b"off" });
        roots.paths().iter().for_each(|path| put(path));
        self.dir.join(format!("files-{}.cache", hex(&hash.finalize().as_bytes()[..16])))
    }
}

/// What the previous run left behind.
pub(crate) struct Cache {
    file: Arc<File>,
    records_end: u64,
    pub(crate) basis: Basis,
    pub(crate) snapshot: SnapshotId,
    pub(crate) totals: Totals,
}

impl Cache {
    /// Opens the cache of these roots, if there is one and all of it is as it was written.
    pub(crate) fn open(spec: &CacheSpec, roots: &Roots, sqlite: Sqlite) -> Option<Cache> {
        let cache = Cache::open_unchecked(spec, roots, sqlite)?;
        let len = cache.file.metadata().ok()?.len();
        let mut hash = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER_BYTES * 4];
        let (mut at, end) = (0, len.checked_sub(32)?);
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            cache.file.read_exact_at(&mut buffer[..want], at).ok()?;
            hash.update(&buffer[..want]);
            at += want as u64;
        }
        let mut expect = [0; 32];
        cache.file.read_exact_at(&mut expect, end).ok()?;
        (hash.finalize() == expect).then_some(cache)
    }

    /// As `open`, without looking at more than its end: good enough for an estimate.
    pub(crate) fn open_unchecked(spec: &CacheSpec, roots: &Roots, sqlite: Sqlite) -> Option<Cache> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(CWD, spec.path(roots, sqlite), flags, Mode::empty()).ok()?);
        let len = file.metadata().ok()?.len();
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0).ok()?;
        let mut footer_len = [0; 4];
        let footer_end = len.checked_sub(TRAILER_BYTES)?;
        file.read_exact_at(&mut footer_len, footer_end).ok()?;
        let footer_len = u32::from_le_bytes(footer_len);
        let records_end = footer_end.checked_sub(footer_len.into())?;
        if &magic != MAGIC || records_end < MAGIC.len() as u64 || footer_len > 1 << 20 {
            return None;
        }
        let mut footer = vec![0; footer_len as usize];
        file.read_exact_at(&mut footer, records_end).ok()?;
        let mut footer = Fields(&footer);
        let basis = Basis::from_bytes(footer.sized()?)?;
        let snapshot = SnapshotId(footer.take(32)?.try_into().ok()?);
        let totals = Totals { entries: footer.number()?, bytes: footer.number()? };
        Some(Cache { file: Arc::new(file), records_end, basis, snapshot, totals })
    }

    /// Reads the records, from the first. Several may be read at once.
    pub(crate) fn records(&self) -> Records {
        Records {
            file: Arc::clone(&self.file),
            buffer: Vec::new(),
            at: 0,
            read_to: MAGIC.len() as u64,
            end: self.records_end,
            key: Vec::new(),
            head: None,
            rest: 0..0,
            ids_left: 0,
            next: 0,
        }
    }
}

/// What a record says but for the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) memory: Memory,
    pub(crate) kind: Kind,
    /// A SQLite database taken through SQLite.
    pub(crate) sqlite: bool,
    /// How many runs ago it was read.
    pub(crate) age: u32,
    /// How many chunk ids follow.
    pub(crate) ids: u64,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File = 1,
    Dir = 2,
    Symlink = 3,
    Fifo = 4,
    CharDevice = 5,
    BlockDevice = 6,
}

impl Kind {
    fn of(node: &Node) -> Option<Kind> {
        match node {
            Node::File(_) => Some(Kind::File),
            Node::Dir => Some(Kind::Dir),
            Node::Symlink { .. } => Some(Kind::Symlink),
            Node::Fifo => Some(Kind::Fifo),
            Node::CharDevice { .. } => Some(Kind::CharDevice),
            Node::BlockDevice { .. } => Some(Kind::BlockDevice),
            // Made anew from what the walk sees: which name comes first may differ.
            Node::HardLink { .. } => None,
        }
    }

    fn parse(number: u8) -> Option<Kind> {
        use Kind::*;
        [File, Dir, Symlink, Fifo, CharDevice, BlockDevice].into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Whether a file whose record is so old should be read again.
pub(crate) fn is_due(key: &[u8], age: u32, every: u32) -> bool {
    match every {
        0 => return false,
        1 => return true,
        _ if age <= every / 2 => return false,
        _ => {}
    }
    // Each path has its own interval between half of it and all of it.
    let [a, b, ..] = *blake3::hash(key).as_bytes();
    let sooner = u32::from(u16::from_le_bytes([a, b])) % (every / 2 + 1);
    age.saturating_add(sooner) >= every
}

/// Reads records in order. A record that makes no sense is the end.
pub(crate) struct Records {
    file: Arc<File>,
    buffer: Vec<u8>,
    /// Where in `buffer` the next byte is.
    at: usize,
    /// Up to where the file is in `buffer`.
    read_to: u64,
    end: u64,
    key: Vec<u8>,
    head: Option<Head>,
    /// Where in `buffer` the rest of the body is, which has the entry.
    rest: std::ops::Range<usize>,
    ids_left: u64,
    /// Number of the next record.
    next: u64,
}

impl Records {
    /// Moves to the next record.
    pub(crate) fn advance(&mut self) -> Option<Head> {
        self.head = None;
        self.head = self.parse();
        self.head
    }

    /// Moves forward to the record of this number.
    pub(crate) fn advance_to(&mut self, number: u64) -> Option<Head> {
        while self.next <= number {
            self.advance()?;
        }
        self.head.filter(|_| self.next == number + 1)
    }

    /// The current record's head, if there is a current record.
    pub(crate) fn head(&self) -> Option<Head> {
        self.head
    }

    /// The current record's path key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The current record's number.
    pub(crate) fn number(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// The current record's entry, without names of owners. Before its ids are read.
    pub(crate) fn entry(&self) -> Option<Entry> {
        get_entry(&mut Fields(self.buffer.get(self.rest.clone())?), &self.key, &self.head?)
    }

    /// The next chunk ids of the current record, at most 4,096; none at their end.
    pub(crate) fn ids(&mut self, into: &mut Vec<ChunkId>) -> Option<()> {
        into.clear();
        let count = self.ids_left.min(4096) as usize;
        self.fill(count * ID_BYTES)?;
        let bytes = &self.buffer[self.at..self.at + count * ID_BYTES];
        into.extend(bytes.as_chunks::<ID_BYTES>().0.iter().map(|id| ChunkId(*id)));
        self.at += count * ID_BYTES;
        self.ids_left -= count as u64;
        Some(())
    }

    fn parse(&mut self) -> Option<Head> {
        self.skip_ids()?;
        if self.buffer.len() - self.at < 10 {
            let left = self.end - self.read_to + (self.buffer.len() - self.at) as u64;
            self.fill(left.min(10) as usize)?;
        }
        let mut fields = Fields(&self.buffer[self.at..]);
        let len = usize::try_from(fields.number().filter(|len| *len <= BODY_BYTES_MAX)?).ok()?;
        self.at = self.buffer.len() - fields.0.len();
        self.fill(len)?;
        let mut fields = Fields(&self.buffer[self.at..self.at + len]);
        let shared = usize::try_from(fields.number()?).ok().filter(|shared| *shared <= self.key.len())?;
        let suffix = fields.sized()?;
        self.key.truncate(shared);
        self.key.extend_from_slice(suffix);
        let kind = Kind::parse(fields.byte()?)?;
        let flags = fields.byte()?;
        let stamp = get_stamp(&mut fields)?;
        let wal = if flags & FLAG_WAL != 0 { Some(get_stamp(&mut fields)?) } else { None };
        let age = u32::try_from(fields.number()?).ok()?;
        let ids = fields.number()?;
        let memory = Memory { stamp, wal, fresh: flags & FLAG_FRESH != 0 };
        self.rest = self.at + len - fields.0.len()..self.at + len;
        self.at += len;
        self.ids_left = ids;
        self.next += 1;
        Some(Head { memory, kind, sqlite: flags & FLAG_SQLITE != 0, age, ids })
    }

    fn skip_ids(&mut self) -> Option<()> {
        let skip = self.ids_left.checked_mul(ID_BYTES as u64)?;
        self.ids_left = 0;
        let buffered = (self.buffer.len() - self.at) as u64;
        if skip <= buffered {
            self.at += skip as usize;
            return Some(());
        }
        self.read_to = self.read_to.checked_add(skip - buffered).filter(|to| *to <= self.end)?;
        self.buffer.clear();
        self.at = 0;
        Some(())
    }

    /// Makes sure that `len` bytes are in the buffer from `at` on. Moves them, so that ranges into it are void.
    fn fill(&mut self, len: usize) -> Option<()> {
        let have = self.buffer.len() - self.at;
        if have >= len {
            return Some(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        self.rest = 0..0;
        let want = (len.max(BUFFER_BYTES) - have) as u64;
        let want = usize::try_from(want.min(self.end - self.read_to)).ok()?;
        if have + want < len {
            return None;
        }
        self.buffer.resize(have + want, 0);
        self.file.read_exact_at(&mut self.buffer[have..], self.read_to).ok()?;
        self.read_to += want as u64;
        Some(())
    }
}

/// The cache of this run, while it is written. Takes effect with [`NextCache::finish`]; dropped before, it leaves nothing.
#[derive(Debug)]
pub struct NextCache {
    file: File,
    temp: PathBuf,
    path: PathBuf,
    buffer: Vec<u8>,
    hash: blake3::Hasher,
    key: Vec<u8>,
    totals: Totals,
    /// The first thing that went wrong; from then on nothing is written.
    failed: Option<io::Error>,
    done: bool,
}

impl NextCache {
    /// Begins a cache for these roots. Removes what crashed runs left.
    pub(crate) fn create(spec: &CacheSpec, roots: &Roots, sqlite: Sqlite, world: &World) -> io::Result<NextCache> {
        DirBuilder::new().recursive(true).mode(0o700).create(&spec.dir)?;
        let path = spec.path(roots, sqlite);
        let mut prefix = path.file_name().unwrap_or_default().to_os_string();
        prefix.push(".new-");
        leftover::sweep(&spec.dir, prefix.as_bytes(), world)?;
        let mut temp = prefix;
        temp.push(hex(&world.random::<8>()));
        let temp = spec.dir.join(temp);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(CWD, &temp, flags, Mode::from_raw_mode(0o600))?;
        leftover::hold(&file)?;
        let mut next = NextCache {
            file: file.into(),
            temp,
            path,
            buffer: Vec::with_capacity(BUFFER_BYTES + 4096),
            hash: blake3::Hasher::new(),
            key: Vec::new(),
            totals: Totals::default(),
            failed: None,
            done: false,
        };
        next.buffer.extend_from_slice(MAGIC);
        Ok(next)
    }

    /// Remembers an entry that was read so many runs ago; its chunk ids follow by `ids`. Hard links are not remembered.
    pub(crate) fn put(&mut self, entry: &Entry, memory: Memory, age: u32) {
        let Some(kind) = Kind::of(&entry.node) else { return };
        let shared = entry.key.iter().zip(&self.key).take_while(|(a, b)| a == b).count();
        let mut body = Vec::with_capacity(128 + entry.key.len() - shared);
        put_number(&mut body, shared as u64);
        put_sized(&mut body, &entry.key[shared..]);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags =
            flag(memory.wal.is_some(), FLAG_WAL) | flag(memory.fresh, FLAG_FRESH) | flag(entry.sqlite, FLAG_SQLITE);
        body.extend_from_slice(&[kind as u8, flags]);
        put_stamp(&mut body, &memory.stamp);
        if let Some(wal) = &memory.wal {
            put_stamp(&mut body, wal);
        }
        put_number(&mut body, age.into());
        put_number(&mut body, if let Node::File(file) = &entry.node { file.chunks } else { 0 });
        put_entry(&mut body, entry);
        put_sized(&mut self.buffer, &body);
        self.key.truncate(shared);
        self.key.extend_from_slice(&entry.key[shared..]);
        self.flush_if_full();
    }

    /// Chunk ids of the entry that was put last, in order.
    pub(crate) fn ids(&mut self, ids: &[ChunkId]) {
        ids.iter().for_each(|id| self.buffer.extend_from_slice(&id.0));
        self.flush_if_full();
    }

    /// What the walk found, for the next run's estimate.
    pub(crate) fn set_totals(&mut self, totals: Totals) {
        self.totals = totals;
    }

    /// Puts the cache into its place: from now on the next run reads it. To be called when `snapshot` is committed, with
    /// what its index was then.
    ///
    /// # Errors
    /// Whatever went wrong since it was begun. The old cache stays; nothing else is lost.
    pub fn finish(mut self, snapshot: &SnapshotId, basis: &Basis) -> io::Result<()> {
        let mut footer = Vec::new();
        put_sized(&mut footer, &basis.to_bytes());
        footer.extend_from_slice(&snapshot.0);
        put_number(&mut footer, self.totals.entries);
        put_number(&mut footer, self.totals.bytes);
        self.buffer.extend_from_slice(&footer);
        self.buffer.extend_from_slice(&u32::try_from(footer.len()).map_err(io::Error::other)?.to_le_bytes());
        self.flush();
        let hash = self.hash.finalize();
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        self.file.write_all(hash.as_bytes())?;
        std::fs::rename(&self.temp, &self.path)?;
        self.done = true;
        Ok(())
    }

    fn flush_if_full(&mut self) {
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            self.hash.update(&self.buffer);
            self.failed = self.file.write_all(&self.buffer).err();
        }
        self.buffer.clear();
    }
}

impl Drop for NextCache {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is removed by the next run.
            std::fs::remove_file(&self.temp).ok();
        }
    }
}

const FLAG_WAL: u8 = 1;
const FLAG_FRESH: u8 = 2;
const FLAG_SQLITE: u8 = 4;

/// Reads numbers and bytes from a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        self.number().map(|n| (n >> 1).cast_signed() ^ -((n & 1).cast_signed()))
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.take(usize::try_from(len).ok()?)
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    put_number(out, stamp.size);
    for (secs, nanos) in [stamp.mtime, stamp.ctime] {
        put_signed(out, secs);
        put_number(out, nanos.into());
    }
    put_number(out, stamp.ino);
}

fn get_stamp(fields: &mut Fields<'_>) -> Option<Stamp> {
    let size = fields.number()?;
    let mtime = (fields.signed()?, fields.small()?);
    let ctime = (fields.signed()?, fields.small()?);
    Some(Stamp { size, mtime, ctime, ino: fields.number()? })
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    [entry.mode, entry.uid, entry.gid].into_iter().for_each(|n| put_number(out, n.into()));
    put_signed(out, entry.mtime.secs());
    put_number(out, entry.mtime.nanos().into());
    put_number(out, entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        put_sized(out, name);
        put_sized(out, value);
    }
    match &entry.node {
        Node::File(file) => {
            put_number(out, file.size);
            put_sized(out, file.digest.as_ref().map_or(&[], |digest| digest.as_slice()));
            put_number(out, file.extents.as_ref().map_or(0, |extents| extents.len() as u64 + 1));
            for extent in file.extents.iter().flatten() {
                put_number(out, extent.hole);
                put_number(out, extent.data);
            }
        }
        Node::Symlink { target } => put_sized(out, target),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            put_number(out, (*major).into());
            put_number(out, (*minor).into());
        }
        Node::Dir | Node::Fifo | Node::HardLink { .. } => {}
    }
}

fn get_entry(fields: &mut Fields<'_>, key: &[u8], head: &Head) -> Option<Entry> {
    let (mode, uid, gid) = (fields.small()?, fields.small()?, fields.small()?);
    let mtime = Timestamp::new(fields.signed()?, fields.small()?);
    let mut xattrs = Vec::new();
    for _ in 0..fields.number()? {
        let name = fields.sized()?.to_vec();
        xattrs.push((name, fields.sized()?.to_vec()));
    }
    let node = match head.kind {
        Kind::File => {
            let size = fields.number()?;
            let digest = match fields.sized()? {
                [] => None,
                digest => Some(digest.try_into().ok()?),
            };
            let extents = match fields.number()? {
                0 => None,
                count => {
                    let mut extents = Vec::new();
                    for _ in 1..count {
                        extents.push(Extent { hole: fields.number()?, data: fields.number()? });
                    }
                    Some(extents)
                }
            };
            Node::File(FileNode { size, chunks: head.ids, digest, extents })
        }
        Kind::Dir => Node::Dir,
        Kind::Symlink => Node::Symlink { target: fields.sized()?.to_vec() },
        Kind::Fifo => Node::Fifo,
        Kind::CharDevice => Node::CharDevice { major: fields.small()?, minor: fields.small()? },
        Kind::BlockDevice => Node::BlockDevice { major: fields.small()?, minor: fields.small()? },
    };
    let (key, sqlite) = (key.to_vec(), head.sqlite);
    Some(Entry { key, node, mode, uid, gid, mtime, xattrs, user: None, group: None, changed: false, sqlite })
}
