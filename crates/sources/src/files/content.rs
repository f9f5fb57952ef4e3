//! Reading one regular file: its holes, its shape, its chunks, its attributes, and whether it changed meanwhile.
//!
//! It may not know in which order files are stored nor on which thread it runs: chunks go to whoever asked. A file is read
//! up to the size it had when it was opened, so that one that grows for ever comes to an end.

#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use repo::{Cut, Cutter, Entry, Extent, FileNode, Node, RepoError, Result, Shape, WHOLE_BYTES_MAX};
use rustix::fs::{AtFlags, FileType, SeekFrom, Stat, fstat, fstatfs, seek, statat};
use rustix::io::Errno;
use store::{Timestamp, World};

use super::meta::{self, Stamp, Xattrs, XattrsOf, file_id};
use super::moving::Moving;
use super::report::Notes;
use super::walk::open_file;
use crate::leftover::Scratch;
use crate::sqlite::{self, Refusal, Sqlite};

/// The smallest file that may be cut in pages, and what its size must be a multiple of.
const PAGES_BYTES_MIN: u64 = 1 << 20;
const PAGE_BYTES: u64 = 4096;
/// Fewer bytes of holes than this are not worth looking for.
const HOLES_BYTES_MIN: u64 = 32 << 10;
/// The most stretches of data of a sparse file; the holes behind them are stored as zeros.
const EXTENTS_MAX: usize = 1 << 18;
/// How often a small file that changes under our hands is read.
const TRIES_MAX: u32 = 3;
/// How much of a file is looked at to tell what it is.
const HEAD_BYTES: usize = 512;

/// A file to read.
pub(crate) struct Wanted {
    pub(crate) dir: Arc<OwnedFd>,
    pub(crate) name: CString,
    pub(crate) key: Vec<u8>,
    pub(crate) stat: Stat,
    pub(crate) was: Was,
}

/// What the previous run knew of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// Nothing.
    Unknown,
    /// Another state of it.
    Different,
    /// The same, but the repository lacks chunks of it.
    Same,
    /// The same, in this record; but that may not be believed.
    Doubted { record: u64, why: Doubt },
}

/// Why a file is read though it looks as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It had changed just before it was read.
    Fresh,
    /// It was not really read for many runs.
    Due,
}

/// A file that was read.
pub(crate) struct Taken {
    pub(crate) entry: Entry,
    pub(crate) was: Was,
    pub(crate) memory: Memory,
    /// It is the file that was to be read, not one that has taken its place.
    pub(crate) same: bool,
    pub(crate) bytes_read: u64,
}

/// What is remembered of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) stamp: Stamp,
    /// For a SQLite database, what its `-wal` looked like.
    pub(crate) wal: Option<Stamp>,
    /// It had changed just before it was read, or while it was: to be read again whatever it looks like then.
    pub(crate) fresh: bool,
}

/// What became of a file.
pub(crate) enum Outcome {
    Taken(Box<Taken>),
    /// It is not stored, and that was noted.
    Lost,
    /// It has more bytes than may be read now. Nothing was read.
    TooLarge,
}

/// What all readers share.
pub(crate) struct Ground<'a> {
    pub(crate) world: &'a World,
    pub(crate) notes: &'a Notes,
    pub(crate) sqlite: Sqlite,
    /// Where copies of databases may be made.
    pub(crate) scratch_under: &'a Path,
    pub(crate) scratch: OnceLock<io::Result<Scratch>>,
    pub(crate) moving: Option<&'a dyn Moving>,
    pub(crate) vanished: AtomicU64,
}

/// Whom chunks are given to.
pub(crate) type Emit<'e> = &'e mut dyn FnMut(Cut) -> Result<()>;

/// Reads files: one per thread.
pub(crate) struct Reader<'a> {
    pub(crate) ground: &'a Ground<'a>,
    pub(crate) cutter: Cutter,
}

/// Why a file is not stored.
enum Trouble {
    /// Something is wrong with the file.
    File(String),
    /// It is gone.
    Vanished,
    /// It is too large for now.
    TooLarge,
    /// The run ends.
    Repo(RepoError),
}

impl From<RepoError> for Trouble {
    fn from(e: RepoError) -> Self {
        Trouble::Repo(e)
    }
}

impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Self {
        Trouble::File(format!("cannot be read: {e}"))
    }
}

impl From<Errno> for Trouble {
    fn from(e: Errno) -> Self {
        io::Error::from(e).into()
    }
}

type Tried<T> = std::result::Result<T, Trouble>;

/// A file that is open, with what it looked like then.
struct Opened {
    file: File,
    stat: Stat,
    at: Timestamp,
}

/// What there is of a file's content.
struct Content {
    size: u64,
    extents: Option<Vec<Extent>>,
    chunks: u64,
    digest: Option<[u8; 32]>,
    bytes_read: u64,
    flaw: Flaw,
}

/// What makes content doubtful.
#[derive(PartialEq, Eq)]
enum Flaw {
    None,
    /// The file ended early.
    Short,
    /// Reading failed on the way.
    Broken(String),
}

impl Reader<'_> {
    /// Reads the file, if it has at most `bytes_max` bytes, and gives its chunks to `emit`, in order. Whatever is wrong with
    /// the file is noted. When it is lost or too large, no chunk was given.
    ///
    /// # Errors
    /// `Stopped`; whatever `emit` returns. Never for what is wrong with the file.
    pub(crate) fn take(&mut self, wanted: &Wanted, bytes_max: u64, emit: Emit<'_>) -> Result<Outcome> {
        match self.try_take(wanted, bytes_max, emit) {
            Ok(taken) => return Ok(Outcome::Taken(Box::new(taken))),
            Err(Trouble::Repo(e)) => return Err(e),
            Err(Trouble::TooLarge) => return Ok(Outcome::TooLarge),
            Err(Trouble::File(what)) => self.ground.notes.fail(&wanted.key, what),
            Err(Trouble::Vanished) => {
                self.ground.vanished.fetch_add(1, Ordering::Relaxed);
                self.ground.notes.moved(&wanted.key, "vanished before it was read");
            }
        }
        Ok(Outcome::Lost)
    }

    fn try_take(&mut self, wanted: &Wanted, bytes_max: u64, emit: Emit<'_>) -> Tried<Taken> {
        let mut opened = self.open(wanted)?;
        if size_of(&opened.stat) > bytes_max {
            return Err(Trouble::TooLarge);
        }
        if self.ground.moving.is_some() {
            return self.take_moving(wanted, &opened, emit);
        }
        if size_of(&opened.stat) <= WHOLE_BYTES_MAX as u64 {
            let (data, after) = read_settled(&mut opened)?;
            if self.is_database(&data) {
                return self.take_database(wanted, opened, bytes_max, emit);
            }
            let content = self.whole(data, &opened.stat, emit)?;
            return Ok(self.finish(wanted, &opened, content, after));
        }
        let mut head = [0u8; HEAD_BYTES];
        let len = read_at(&opened.file, &mut head, 0)?;
        let head = &head[..len];
        if self.is_database(head) {
            return self.take_database(wanted, opened, bytes_max, emit);
        }
        self.take_large(wanted, &opened, shape(size_of(&opened.stat), head), emit)
    }

    /// A file of a tree that somebody writes to: read once, whatever happens to it meanwhile, and looked at on the way.
    fn take_moving(&mut self, wanted: &Wanted, opened: &Opened, emit: Emit<'_>) -> Tried<Taken> {
        let moving = self.ground.moving;
        let mut inspector = moving.and_then(|moving| moving.inspector(&wanted.key));
        let size = size_of(&opened.stat);
        let shape = if inspector.is_some() { Shape::Pages } else { Shape::Stream };
        let mut content = {
            let mut look = |data: &[u8]| {
                if let Some(inspector) = &mut inspector {
                    inspector.bytes(data, &opened.file);
                }
            };
            if size <= WHOLE_BYTES_MAX as u64 {
                let mut data = vec![0; usize::try_from(size).unwrap_or(WHOLE_BYTES_MAX)];
                let len = read_at(&opened.file, &mut data, 0)?;
                data.truncate(len);
                look(&data);
                self.whole(data, &opened.stat, emit)?
            } else {
                let mut looked = |cut: Cut| {
                    look(&cut.data);
                    emit(cut)
                };
                self.stream(&opened.file, (size, None), shape, &mut looked)?
            }
        };
        if content.flaw == Flaw::Short {
            // Its owner cut it off, and knows.
            content.flaw = Flaw::None;
        }
        let verdict = inspector.and_then(|inspector| inspector.verdict());
        let is_bad = verdict.is_some();
        if let Some(what) = verdict {
            self.ground.notes.fail(&wanted.key, what);
        }
        let after = fstat(&opened.file).map_or(Stamp::default(), |stat| Stamp::of(&stat));
        let mut taken = self.finish(wanted, opened, content, after);
        taken.entry.changed = false;
        // To be looked at and named again, until somebody mends it.
        taken.memory.fresh |= is_bad;
        Ok(taken)
    }

    fn open(&self, wanted: &Wanted) -> Tried<Opened> {
        let at = self.ground.world.clock.now();
        let opened = open_file(&*wanted.dir, &wanted.name).and_then(|fd| Ok((fstat(&fd)?, fd)));
        match opened {
            Ok((stat, fd)) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Opened { file: fd.into(), stat, at })
            }
            Ok(_) | Err(Errno::LOOP | Errno::NXIO) => {
                Err(Trouble::File("was replaced by something else before it was read".to_owned()))
            }
            Err(Errno::NOENT) => Err(Trouble::Vanished),
            Err(e) => Err(Trouble::File(format!("cannot be opened: {e}"))),
        }
    }

    fn is_database(&self, head: &[u8]) -> bool {
        self.ground.sqlite == Sqlite::Auto && head.starts_with(sqlite::MAGIC)
    }

    fn whole(&self, data: Vec<u8>, stat: &Stat, emit: Emit<'_>) -> Result<Content> {
        let size = data.len() as u64;
        let flaw = if size < size_of(stat) { Flaw::Short } else { Flaw::None };
        if size > 0 {
            emit(self.cutter.whole(data))?;
        }
        Ok(Content { size, extents: None, chunks: u64::from(size > 0), digest: None, bytes_read: size, flaw })
    }

    fn take_large(&mut self, wanted: &Wanted, opened: &Opened, shape: Shape, emit: Emit<'_>) -> Tried<Taken> {
        let mut extents = data_extents(&opened.file, &opened.stat);
        if shape == Shape::Pages {
            let size = size_of(&opened.stat);
            extents = extents.map(|extents| widen(&extents, size)).filter(|wide| !is_all(wide, size));
        }
        let content = self.stream(&opened.file, (size_of(&opened.stat), extents), shape, emit)?;
        // What was given to `emit` cannot be taken back: from here on, there is an entry.
        let after = fstat(&opened.file).map_or(Stamp::default(), |stat| Stamp::of(&stat));
        Ok(self.finish(wanted, opened, content, after))
    }

    /// Reads and cuts the data of a file of this size with these extents.
    fn stream(
        &mut self,
        file: &File,
        (size, extents): (u64, Option<Vec<Extent>>),
        shape: Shape,
        emit: Emit<'_>,
    ) -> Tried<Content> {
        let node = FileNode { size, extents, ..FileNode::default() };
        let stretches = node.stretches();
        let mut data = Data { file, stretches: &stretches, done: 0, failed: None, world: self.ground.world };
        let measured = self.cutter.cut(shape, &mut data, emit);
        if self.ground.world.stop.requested() {
            return Err(RepoError::Stopped.into());
        }
        let measured = measured?;
        let flaw = match data.failed.take() {
            Some(e) if measured.bytes == 0 => return Err(e.into()),
            Some(e) => Flaw::Broken(e.to_string()),
            None if measured.bytes < node.data_bytes() => Flaw::Short,
            None => Flaw::None,
        };
        let FileNode { size, extents, .. } = if flaw == Flaw::None { node } else { cut_off(node, measured.bytes) };
        let digest = (measured.chunks > 1).then_some(measured.digest);
        Ok(Content { size, extents, chunks: measured.chunks, digest, bytes_read: measured.bytes, flaw })
    }

    /// Makes the entry of a file that looked like `after` when it had been read.
    fn finish(&self, wanted: &Wanted, opened: &Opened, content: Content, after: Stamp) -> Taken {
        let stamp = Stamp::of(&opened.stat);
        let changed = content.flaw != Flaw::None || after != stamp;
        match &content.flaw {
            Flaw::Broken(why) => {
                let what =
                    format!("could be read only in part, its first {} bytes are stored: {why}", content.bytes_read);
                self.ground.notes.fail(&wanted.key, what);
            }
            _ if changed => self.ground.notes.moved(&wanted.key, "changed while it was read"),
            _ => {}
        }
        let xattrs = self.xattrs(wanted, &opened.file);
        let memory = Memory { stamp, wal: None, fresh: changed || stamp.is_fresh(opened.at) };
        let mut taken = taken(wanted, &opened.stat, (xattrs, content), memory);
        taken.entry.changed = changed;
        taken
    }

    fn xattrs(&self, wanted: &Wanted, file: &File) -> Xattrs {
        meta::xattrs(XattrsOf::Open(file.as_fd())).unwrap_or_else(|e| {
            self.ground.notes.fail(&wanted.key, format!("is stored without its extended attributes: {e}"));
            Xattrs::new()
        })
    }

    fn take_database(&mut self, wanted: &Wanted, opened: Opened, bytes_max: u64, emit: Emit<'_>) -> Tried<Taken> {
        let Opened { file, stat, at } = opened;
        let xattrs = self.xattrs(wanted, &file);
        // Before SQLite opens it: closing a file gives up all locks that this process holds on it.
        drop(file);
        let stamp = Stamp::of(&stat);
        let wal = wal_stamp(&wanted.dir, &wanted.name);
        let scratch = self.ground.scratch.get_or_init(|| sqlite::scratch(self.ground.scratch_under, self.ground.world));
        let scratch = scratch.as_ref().map_err(|e| {
            let place = self.ground.scratch_under.display();
            Trouble::File(format!(
                "is a SQLite database and needs a private directory in {place}, which cannot be made: {e}"
            ))
        })?;
        let path = repo::path_of_key(&wanted.key);
        let copied = sqlite::copy(Path::new(OsStr::from_bytes(&path)), file_id(&stat), scratch, self.ground.world);
        let copied = match copied {
            Ok(copied) => copied,
            Err(Refusal::Stopped) => return Err(RepoError::Stopped.into()),
            Err(Refusal::Failed(why)) => {
                return Err(Trouble::File(format!("is a SQLite database and is not stored: it {why}")));
            }
            Err(Refusal::Damaged(why)) => {
                let what = format!("is a damaged SQLite database, and is stored as the bytes it has: {why}");
                self.ground.notes.fail(&wanted.key, what);
                let mut taken = self.take_large(wanted, &self.open(wanted)?, Shape::Pages, emit)?;
                taken.memory.fresh = true;
                return Ok(taken);
            }
        };
        if let Some(why) = copied.unchecked {
            self.ground
                .notes
                .warn(&wanted.key, format!("is a SQLite database whose integrity cannot be checked: {why}"));
        }
        let size = size_of(&fstat(&copied.file)?);
        if size > bytes_max {
            return Err(Trouble::TooLarge);
        }
        let content = self.stream(&copied.file, (size, None), Shape::Pages, emit)?;
        let broken = content.flaw != Flaw::None;
        if broken {
            self.ground.notes.fail(&wanted.key, "is a SQLite database whose copy could be read only in part");
        }
        let fresh = broken || stamp.is_fresh(at) || wal.is_some_and(|wal| wal.is_fresh(at));
        let mut taken = taken(wanted, &stat, (xattrs, content), Memory { stamp, wal, fresh });
        taken.entry.sqlite = true;
        taken.entry.changed = broken;
        Ok(taken)
    }
}

fn taken(wanted: &Wanted, stat: &Stat, (xattrs, content): (Xattrs, Content), memory: Memory) -> Taken {
    let Content { size, extents, chunks, digest, bytes_read, .. } = content;
    let node = Node::File(FileNode { size, chunks, digest, extents });
    let entry = meta::entry(wanted.key.clone(), node, stat, xattrs);
    Taken { entry, was: wanted.was, memory, same: file_id(&wanted.stat) == file_id(stat), bytes_read }
}

/// What the `-wal` of a database looks like, if there is one. Without the time of its last status change: SQLite, run by
/// root, sets that by giving the file to its owner whenever it opens it.
pub(crate) fn wal_stamp(dir: impl AsFd, name: &CStr) -> Option<Stamp> {
    let name = CString::new([name.to_bytes(), b"-wal"].concat()).ok()?;
    let stamp = Stamp::of(&statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?);
    Some(Stamp { ctime: stamp.mtime, ..stamp })
}

/// The data of a small file and what it looked like afterwards. Reads again when it changed meanwhile; `opened` is then
/// what it looked like before the last time.
fn read_settled(opened: &mut Opened) -> io::Result<(Vec<u8>, Stamp)> {
    let mut tries = 1;
    loop {
        let mut data = vec![0; usize::try_from(size_of(&opened.stat)).unwrap_or(WHOLE_BYTES_MAX)];
        let len = read_at(&opened.file, &mut data, 0)?;
        data.truncate(len);
        let after = fstat(&opened.file)?;
        let settled = Stamp::of(&after) == Stamp::of(&opened.stat);
        if settled || tries == TRIES_MAX || size_of(&after) > WHOLE_BYTES_MAX as u64 {
            return Ok((data, Stamp::of(&after)));
        }
        opened.stat = after;
        tries += 1;
    }
}

/// Reads until `into` is full or the file ends.
fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < into.len() {
        match file.read_at(&mut into[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

/// The stretches of data of a file, one after the other.
struct Data<'a> {
    file: &'a File,
    stretches: &'a [(u64, u64)],
    /// Bytes of the first stretch that were read.
    done: u64,
    /// Why it ended before its end. To the cutter this looks like an end, so that what was read is cut properly.
    failed: Option<io::Error>,
    world: &'a World,
}

impl Read for Data<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.world.stop.requested() {
            return Err(io::Error::other("interrupted"));
        }
        while let Some((start, len)) = self.stretches.first().copied() {
            if self.done == len {
                (self.stretches, self.done) = (&self.stretches[1..], 0);
                continue;
            }
            let want = usize::try_from(len - self.done).unwrap_or(usize::MAX).min(into.len());
            match self.file.read_at(&mut into[..want], start + self.done) {
                Ok(n) => {
                    if n == 0 {
                        self.stretches = &[];
                    }
                    self.done += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
                Err(e) => {
                    self.failed = Some(e);
                    self.stretches = &[];
                }
            }
        }
        Ok(0)
    }
}

/// Where the data of a sparse file lies; `None` when all of it is data, or nothing better is known.
fn data_extents(file: &File, stat: &Stat) -> Option<Vec<Extent>> {
    let size = size_of(stat);
    let stored = u64::try_from(stat.st_blocks).unwrap_or(u64::MAX).saturating_mul(512);
    if stored.saturating_add(HOLES_BYTES_MIN) > size || reports_false_holes(file) {
        return None;
    }
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(_) if extents.len() + 1 == EXTENTS_MAX => size,
            Ok(end) => end.min(size),
            Err(_) => return None,
        };
        if end <= start {
            return None;
        }
        extents.push(Extent { hole: start - at, data: end - start });
        at = end;
    }
    (!is_all(&extents, size)).then_some(extents)
}

/// Whether the stretches are all of the file.
fn is_all(extents: &[Extent], size: u64) -> bool {
    extents == [Extent { hole: 0, data: size }]
}

/// The same stretches, each from the beginning of a block to the end of one. So every page that is cut lies where a page of
/// the file does, and a hole that is filled later adds pages without moving those behind it.
fn widen(extents: &[Extent], size: u64) -> Vec<Extent> {
    const BLOCK_BYTES: u64 = 32 << 10;
    let mut wide: Vec<Extent> = Vec::new();
    // Ends of what was read of the old extents, and of the new ones.
    let (mut at, mut covered) = (0, 0);
    for extent in extents {
        let start = (at + extent.hole) / BLOCK_BYTES * BLOCK_BYTES;
        at += extent.hole + extent.data;
        let end = at.next_multiple_of(BLOCK_BYTES).min(size);
        match wide.last_mut() {
            Some(last) if start <= covered => last.data += end.saturating_sub(covered),
            _ => wide.push(Extent { hole: start - covered, data: end - start }),
        }
        covered = covered.max(end);
    }
    wide
}

/// ZFS has reported holes where data had just been written (openzfs#15526).
fn reports_false_holes(file: &File) -> bool {
    const ZFS: u32 = 0x2fc1_2fc1;
    fstatfs(file).is_ok_and(|fs| fs.f_type as u32 == ZFS)
}

/// A file of which only so many bytes of data could be read.
fn cut_off(node: FileNode, bytes: u64) -> FileNode {
    let Some(extents) = node.extents else { return FileNode { size: bytes, ..node } };
    let (mut left, mut end) = (bytes, 0);
    let mut kept = Vec::new();
    for extent in extents {
        if left == 0 {
            break;
        }
        let data = extent.data.min(left);
        kept.push(Extent { hole: extent.hole, data });
        end += extent.hole + data;
        left -= data;
    }
    FileNode { size: end, extents: Some(kept), ..node }
}

/// How a large file is cut: in pages when it looks like something that is changed in place.
fn shape(size: u64, head: &[u8]) -> Shape {
    if size < PAGES_BYTES_MIN || !size.is_multiple_of(PAGE_BYTES) || is_stream(head) {
        return Shape::Stream;
    }
    Shape::Pages
}

/// Whether the file is of a kind that is written from beginning to end, whatever its size is.
fn is_stream(head: &[u8]) -> bool {
    // gzip, bzip2, xz, zstd, lz4, zip (two), 7z, rar, PDF, Matroska, Ogg, FLAC, MP3, PNG, JPEG, RIFF, pg_dump, ELF, cpio,
    // ar, squashfs.
    const BEGINNINGS: [&[u8]; 22] = [
        b"\x1f\x8b",
        b"BZh",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"\x04\x22\x4d\x18",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"7z\xbc\xaf\x27\x1c",
        b"Rar!",
        b"%PDF",
        b"\x1a\x45\xdf\xa3",
        b"OggS",
        b"fLaC",
        b"ID3",
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"RIFF",
        b"PGDMP",
        b"\x7fELF",
        b"0707",
        b"!<arch>",
        b"hsqs",
    ];
    let is_at = |at: usize, what: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(what));
    BEGINNINGS.iter().any(|beginning| is_at(0, beginning)) || is_at(4, b"ftyp") || is_at(257, b"ustar") || is_text(head)
}

fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character may be cut off at the end.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !valid.is_empty() && !valid.chars().any(|c| c.is_control() && !c.is_ascii_whitespace() && c != '\x1b')
}

// The type of the field differs between architectures.
fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}
