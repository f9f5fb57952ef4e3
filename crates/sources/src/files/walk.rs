//! The sorted walk: everything under the roots, and the directories that lead to them, in the order of path keys.
//!
//! It may not know what is done with what it finds. Names come from directories that are held open; nothing is opened by a
//! path, so that nobody can lead the walk astray by exchanging a directory for a link while it runs. Frames live on the
//! heap and few directories stay open: depth costs neither stack nor descriptors.

#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ignore::gitignore::Gitignore;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use store::Stop;

use super::listing::Listing;
use super::meta::{FileId, file_id};
use super::moving::Moving;
use super::report::{Excluded, Notes};
use super::roots::{Link, Position, Roots};
use super::select::{self, Caches, Filesystems, Select, Verdict};
use crate::sqlite::{self, Sqlite};

/// How many directories the walk itself keeps open.
const OPEN_MAX: usize = 48;
/// The longest path key that a repository takes.
const KEY_BYTES_MAX: usize = 1 << 20;
const LIST_BUFFER_BYTES: usize = 64 << 10;

/// Something the walk came to; its key is [`Walker::key`].
pub(crate) enum Found {
    /// A directory. What is in it comes next.
    Dir { stat: Stat, open: Open },
    /// Anything else, to be found by [`Walker::place`].
    Leaf { stat: Stat },
}

/// How a directory was opened.
pub(crate) enum Open {
    /// For reading.
    Read(Arc<OwnedFd>),
    /// As a path: nothing in it was listed.
    Path(Arc<OwnedFd>),
    /// Not at all; that was noted as a problem.
    No,
}

/// What the walk passed over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    pub(crate) sockets: u64,
    pub(crate) vanished: u64,
    pub(crate) covered: u64,
    pub(crate) excluded: Excluded,
}

pub(crate) struct Walker<'a> {
    roots: &'a Roots,
    select: &'a Select,
    sqlite: Sqlite,
    notes: &'a Notes,
    stop: &'a Stop,
    moving: Option<&'a dyn Moving>,
    frames: Vec<Frame>,
    /// The path key, and the path without its leading slash: the same but for one byte between names.
    key: Vec<u8>,
    path: Vec<u8>,
    buffer: Vec<MaybeUninit<u8>>,
    begun: bool,
    pub(crate) passed: Passed,
}

/// A directory that the walk is in.
struct Frame {
    /// Open while it is among the last few.
    dir: Option<Arc<OwnedFd>>,
    id: FileId,
    ground: Ground,
    links: Links,
    /// Roots lie below it.
    above: bool,
    listing: Listing,
    next: usize,
    key_len: usize,
    ignore: Option<Gitignore>,
    /// Only its tag is taken.
    cache: bool,
    /// The listing has names as SQLite gives to its journals.
    journals: bool,
    /// Which names in the listing are SQLite databases with journals.
    databases: Vec<usize>,
}

/// Whether a directory is itself wanted, or only leads to a root.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ground {
    Wanted,
    Leading,
}

/// A name on which the walk decides.
struct Sight {
    dir: Arc<OwnedFd>,
    index: usize,
    position: Position,
    links: Links,
    ground: Ground,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(
        roots: &'a Roots,
        select: &'a Select,
        sqlite: Sqlite,
        (notes, stop): (&'a Notes, &'a Stop),
    ) -> Self {
        Walker {
            roots,
            select,
            sqlite,
            notes,
            stop,
            moving: None,
            frames: Vec::new(),
            key: Vec::new(),
            path: Vec::new(),
            buffer: vec![MaybeUninit::uninit(); LIST_BUFFER_BYTES],
            begun: false,
            passed: Passed::default(),
        }
    }

    /// Where somebody writes meanwhile: what he knows about the tree.
    pub(crate) fn moving(self, moving: Option<&'a dyn Moving>) -> Self {
        Walker { moving, ..self }
    }

    /// The path key of what was found last.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The directory and the name of the leaf that was found last.
    pub(crate) fn place(&self) -> Option<(Arc<OwnedFd>, &CStr)> {
        let frame = self.frames.last()?;
        Some((Arc::clone(frame.dir.as_ref()?), frame.listing.name(frame.next.checked_sub(1)?)))
    }

    /// The next thing, in the order of path keys; `None` at the end, and when asked to stop.
    pub(crate) fn next(&mut self) -> Option<Found> {
        if !self.begun {
            self.begun = true;
            if !self.roots.is_empty() {
                return self.begin();
            }
        }
        while !self.stop.requested() {
            let frame = self.frames.last_mut()?;
            self.key.truncate(frame.key_len);
            self.path.truncate(frame.key_len);
            if frame.next == frame.listing.len() {
                self.frames.pop();
                continue;
            }
            let name = frame.listing.name(frame.next).to_bytes();
            if frame.key_len > 0 {
                self.key.push(0);
                self.path.push(b'/');
            }
            self.key.extend_from_slice(name);
            self.path.extend_from_slice(name);
            frame.next += 1;
            if self.key.len() > KEY_BYTES_MAX {
                self.notes.fail(&self.key[..200], "begins a path that is too long to be stored");
                continue;
            }
            if let Some(found) = self.visit() {
                return Some(found);
            }
        }
        None
    }

    /// The root of the file system, where every walk begins.
    fn begin(&mut self) -> Option<Found> {
        let position = self.roots.position(&self.key);
        let ground = if position.root.is_some() { Ground::Wanted } else { Ground::Leading };
        let opened = open_dir(CWD, c"/", ground, Links::Follow).and_then(|dir| Ok((fstat(&dir)?, dir)));
        match opened {
            Ok((stat, dir)) => {
                let sight = Sight { dir: Arc::new(dir), index: 0, position, links: Links::Follow, ground };
                Some(self.enter(sight, stat, Content::All))
            }
            Err(e) => {
                self.notes.fail(&self.key, format!("cannot be opened: {e}"));
                None
            }
        }
    }

    /// Looks at the name that `key` now ends with.
    fn visit(&mut self) -> Option<Found> {
        let top = self.frames.len() - 1;
        let dir = match self.open_frame(top) {
            Ok(dir) => dir,
            Err(e) => {
                self.key.truncate(self.frames[top].key_len);
                self.notes.fail(&self.key, format!("was replaced while it was read, the rest of it is missing: {e}"));
                self.frames[top].next = self.frames[top].listing.len();
                return None;
            }
        };
        let frame = &self.frames[top];
        let index = frame.next - 1;
        let position = if frame.above { self.roots.position(&self.key) } else { Position::APART };
        let links = match position.root {
            Some(Link::Follow) => Links::Follow,
            // Links are followed on the way to a root, never within one.
            None if frame.ground == Ground::Leading && !self.roots.contain(&self.key) => Links::Follow,
            _ => Links::Keep,
        };
        let ground = match frame.ground == Ground::Wanted || position.root.is_some() {
            true => Ground::Wanted,
            false => Ground::Leading,
        };
        let mut kind = frame.listing.kind(index);
        let mut sight = Sight { dir, index, position, links, ground };
        let mut stat = None;
        if kind == FileType::Unknown || links == Links::Follow {
            let looked = self.look(&sight)?;
            kind = FileType::from_raw_mode(looked.st_mode);
            stat = Some(looked);
        }
        sight.ground = self.admit(kind == FileType::Directory, &sight)?;
        let stat = match stat {
            Some(stat) => stat,
            None => self.look(&sight)?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return self.visit_dir(sight, stat);
        }
        if position.above {
            self.notes.fail(&self.key, "is not a directory, so that what was asked for below it cannot be reached");
        }
        if sight.ground == Ground::Leading {
            return None;
        }
        match kind {
            FileType::Socket => {
                self.passed.sockets += 1;
                None
            }
            FileType::RegularFile => self.visit_file(&sight, stat),
            FileType::Symlink | FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                Some(Found::Leaf { stat })
            }
            _ => {
                self.notes.fail(&self.key, "is of a kind that cannot be stored");
                None
            }
        }
    }

    /// Whether what `key` names is taken, by its path alone; counts it when not.
    fn admit(&mut self, is_dir: bool, sight: &Sight) -> Option<Ground> {
        let frame = self.frames.last()?;
        if frame.ground == Ground::Leading || sight.position.root.is_some() {
            if self.select.has_patterns()
                && let Some(pattern) = self.select.leaves_out_root(&self.path, is_dir)
            {
                let what = format!(
                    "is left out by the exclude pattern {pattern:?}, though it or something in it was asked for"
                );
                self.notes.warn(&self.key, what);
                self.passed.excluded.by_pattern += 1;
                return None;
            }
            return Some(sight.ground);
        }
        let excluded = &mut self.passed.excluded;
        if self.moving.is_some_and(|moving| !moving.takes(&self.key)) {
            excluded.by_pattern += 1;
            return None;
        }
        let count = if frame.cache && frame.listing.name(sight.index).to_bytes() != select::CACHE_TAG {
            &mut excluded.in_caches
        } else {
            let ignores = self.frames.iter().rev().filter_map(|frame| Some((frame.key_len, frame.ignore.as_ref()?)));
            match self.select.judge(&self.path, is_dir, ignores) {
                Verdict::In => return Some(Ground::Wanted),
                Verdict::OutByPattern => &mut excluded.by_pattern,
                Verdict::OutByIgnoreFile => &mut excluded.by_ignore_file,
            }
        };
        if sight.position.above {
            return Some(Ground::Leading);
        }
        *count += 1;
        None
    }

    fn look(&mut self, sight: &Sight) -> Option<Stat> {
        let name = self.frames.last()?.listing.name(sight.index);
        let follow = if sight.links == Links::Follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        match statat(&sight.dir, name, follow | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) if sight.position == Position::APART => {
                self.passed.vanished += 1;
                self.notes.moved(&self.key, "vanished while its directory was read");
                None
            }
            Err(e) => {
                self.notes.fail(&self.key, format!("cannot be looked at: {e}"));
                None
            }
        }
    }

    fn visit_dir(&mut self, sight: Sight, stat: Stat) -> Option<Found> {
        let Sight { position, mut ground, links, .. } = sight;
        let frame = self.frames.last()?;
        // Mount points matter strictly inside a root: what was asked for by name is taken wherever it is mounted.
        let inside = frame.ground == Ground::Wanted && position.root.is_none() && ground == Ground::Wanted;
        let parent = frame.id.0;
        let mut content = Content::All;
        if inside && file_id(&stat).0 != parent && self.select.filesystems == Filesystems::OfTheRoots {
            content = Content::OtherFilesystem;
        }
        let open_as = if content == Content::All { ground } else { Ground::Leading };
        let name = frame.listing.name(sight.index);
        let opened = open_dir(&sight.dir, name, open_as, links).and_then(|fd| Ok((fstat(&fd)?, fd)));
        let (stat, fd) = match opened {
            Ok((stat, fd)) => (stat, fd),
            Err(Errno::NOENT) if position == Position::APART => {
                self.passed.vanished += 1;
                self.notes.moved(&self.key, "vanished while its directory was read");
                return None;
            }
            Err(e) => {
                self.notes.fail(&self.key, format!("cannot be opened, what is in it is missing: {e}"));
                return Some(Found::Dir { stat, open: Open::No });
            }
        };
        // Opening may have mounted something (autofs), so this asks the directory that is open now.
        if inside && content == Content::All && file_id(&stat).0 != parent {
            content = match self.select.filesystems {
                Filesystems::OfTheRoots => Content::OtherFilesystem,
                Filesystems::All if is_kernel_state(&fd) => Content::KernelState,
                Filesystems::All => Content::All,
            };
        }
        match content {
            Content::All => {}
            Content::OtherFilesystem => self.passed.excluded.other_filesystems += 1,
            Content::KernelState => self.passed.excluded.kernel_filesystems += 1,
        }
        if content != Content::All && position.above {
            (content, ground) = (Content::All, Ground::Leading);
        }
        let sight = Sight { dir: Arc::new(fd), ground, ..sight };
        Some(self.enter(sight, stat, content))
    }

    /// Lists the directory `sight.dir` and steps into it.
    fn enter(&mut self, sight: Sight, stat: Stat, content: Content) -> Found {
        let Sight { dir: fd, position, links, ground, .. } = sight;
        let mut frame = Frame {
            dir: Some(Arc::clone(&fd)),
            id: file_id(&stat),
            ground,
            links,
            above: position.above,
            listing: Listing::default(),
            next: 0,
            key_len: self.key.len(),
            ignore: None,
            cache: false,
            journals: false,
            databases: Vec::new(),
        };
        if content != Content::All {
            return Found::Dir { stat, open: Open::Path(fd) };
        }
        let below = if position.above { self.roots.names_below(&self.key) } else { Vec::new() };
        let open = match ground {
            Ground::Leading => {
                frame.listing = Listing::of(&below);
                Open::Path(fd)
            }
            Ground::Wanted => {
                let (listing, result) = Listing::read(fd.as_fd(), &mut self.buffer);
                if let Err(e) = result {
                    self.notes
                        .fail(&self.key, format!("cannot be listed to its end, something in it may be missing: {e}"));
                }
                frame.listing = listing;
                for name in below.iter().filter(|name| frame.listing.find(name).is_none()) {
                    let key = repo_key(&self.key, name);
                    self.notes.fail(&key, "was asked for, or leads to what was, but does not exist");
                }
                self.read_marks(&mut frame, &fd);
                Open::Read(fd)
            }
        };
        self.frames.push(frame);
        if let Some(at) = self.frames.len().checked_sub(OPEN_MAX + 1).filter(|at| *at > 0) {
            self.frames[at].dir = None;
        }
        Found::Dir { stat, open }
    }

    /// Looks for the files that say what to leave out.
    fn read_marks(&mut self, frame: &mut Frame, fd: &OwnedFd) {
        frame.journals = self.sqlite == Sqlite::Auto && frame.listing.any_ends_with(&sqlite::JOURNAL_ENDS);
        if self.select.caches == Caches::LeaveOut && frame.listing.find(select::CACHE_TAG).is_some() {
            let mut head = [0u8; select::CACHE_SIGNATURE.len()];
            let tag = CString::new(select::CACHE_TAG).unwrap_or_default();
            frame.cache = read_head(fd, &tag, &mut head) == Ok(head.len()) && head == select::CACHE_SIGNATURE;
        }
        let name = select::IGNORE_FILE;
        if let Some(index) = frame.listing.find(name.as_bytes()) {
            let mut bytes = vec![0; select::IGNORE_BYTES_MAX as usize + 1];
            let key = repo_key(&self.key, name.as_bytes());
            match read_head(fd, frame.listing.name(index), &mut bytes) {
                Ok(len) if len as u64 > select::IGNORE_BYTES_MAX => {
                    self.notes
                        .warn(&key, format!("is not heeded: it has more than {} bytes", select::IGNORE_BYTES_MAX));
                }
                Ok(len) => {
                    let (rules, wrong) = select::parse_ignore_file(&bytes[..len]);
                    for what in wrong {
                        self.notes.warn(&key, format!("has a line that is not heeded: {what}"));
                    }
                    frame.ignore = (!rules.is_empty()).then_some(rules);
                }
                Err(e) => self.notes.warn(&key, format!("is not heeded: {e}")),
            }
        }
    }

    fn visit_file(&mut self, sight: &Sight, stat: Stat) -> Option<Found> {
        let index = sight.index;
        if u64::try_from(stat.st_size).unwrap_or(0) > self.select.size_bytes_max {
            self.passed.excluded.too_large += 1;
            return None;
        }
        let frame = self.frames.last_mut()?;
        if frame.journals {
            let name = frame.listing.name(index).to_bytes();
            let base = sqlite::JOURNAL_ENDS.iter().find_map(|end| frame.listing.find(name.strip_suffix(*end)?));
            if base.is_some_and(|base| frame.databases.contains(&base)) {
                self.passed.covered += 1;
                return None;
            }
            // The database comes before its journals, and is looked into here rather than then: closing a file gives up
            // the locks that SQLite holds on it in this process, so no one may open it while it is being copied.
            let has_journal =
                sqlite::JOURNAL_ENDS.iter().any(|end| frame.listing.find(&[name, end].concat()).is_some());
            let mut head = [0u8; sqlite::MAGIC.len()];
            if has_journal
                && read_head(&sight.dir, frame.listing.name(index), &mut head) == Ok(head.len())
                && &head == sqlite::MAGIC
            {
                frame.databases.push(index);
            }
        }
        Some(Found::Leaf { stat })
    }

    /// The directory of a frame, opened anew from the nearest one that still is open, name by name, when it had to be
    /// closed; fails when it is no longer the same directory.
    fn open_frame(&mut self, index: usize) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(dir) = &self.frames[index].dir {
            return Ok(Arc::clone(dir));
        }
        // The first frame is never closed.
        let (mut at, mut dir) =
            (0..index).rev().find_map(|at| Some((at, Arc::clone(self.frames[at].dir.as_ref()?)))).ok_or(Errno::BADF)?;
        while at < index {
            let (parent, child) = (&self.frames[at], &self.frames[at + 1]);
            dir = Arc::new(open_dir(&dir, parent.listing.name(parent.next - 1), child.ground, child.links)?);
            at += 1;
            if file_id(&fstat(&dir)?) != self.frames[at].id {
                return Err(Errno::STALE);
            }
            if at + OPEN_MAX / 2 > index {
                self.frames[at].dir = Some(Arc::clone(&dir));
            }
        }
        Ok(dir)
    }
}

/// What of a directory is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    All,
    OtherFilesystem,
    KernelState,
}

/// What to do with a symbolic link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Keep,
    Follow,
}

fn open_dir(dir: impl AsFd, name: &CStr, ground: Ground, links: Links) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    if links == Links::Keep {
        flags |= OFlags::NOFOLLOW;
    }
    match ground {
        // What only leads to a root need not be readable.
        Ground::Leading => openat(dir, name, flags | OFlags::PATH, Mode::empty()),
        Ground::Wanted => open_noatime(dir, name, flags | OFlags::RDONLY),
    }
}

/// Opens without leaving a trace in the access time, where that is allowed: to owners and root.
pub(crate) fn open_noatime(dir: impl AsFd, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    match openat(&dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(&dir, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// Opens a regular file for reading without ever waiting for it.
pub(crate) fn open_file(dir: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    // Not blocking: a pipe may have taken its place. Only who holds a lease on the file may make us wait.
    match open_noatime(&dir, name, flags | OFlags::NONBLOCK) {
        Err(Errno::AGAIN) => open_noatime(&dir, name, flags),
        opened => opened,
    }
}

/// Opens the directory of `key` from the root of the file system, name by name, following links only on the way to a root.
pub(crate) fn open_parent(roots: &Roots, key: &[u8]) -> Result<(OwnedFd, CString), Errno> {
    let mut dir = open_dir(CWD, c"/", Ground::Leading, Links::Follow)?;
    let mut start = 0;
    while let Some(len) = key[start..].iter().position(|b| *b == 0) {
        let (end, name) = (start + len, CString::new(&key[start..start + len]).map_err(|_| Errno::INVAL)?);
        let follow = match roots.position(&key[..end]).root {
            Some(link) => link == Link::Follow,
            None => !roots.contain(&key[..end]),
        };
        dir = open_dir(&dir, &name, Ground::Leading, if follow { Links::Follow } else { Links::Keep })?;
        start = end + 1;
    }
    Ok((dir, CString::new(&key[start..]).map_err(|_| Errno::INVAL)?))
}

fn read_head(dir: &OwnedFd, name: &CStr, into: &mut [u8]) -> Result<usize, Errno> {
    let file = open_file(dir, name)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut len = 0;
    while len < into.len() {
        match rustix::io::read(&file, &mut into[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

/// Whether this is a file system in which the kernel shows its state: reading it may never end, and restoring it means nothing.
fn is_kernel_state(dir: &OwnedFd) -> bool {
    // proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, devpts, pstore, efivarfs, selinux, configfs, mqueue,
    // hugetlbfs, binfmt_misc, rpc_pipefs, nsfs, fusectl: numbers of linux/magic.h.
    const KERNEL: [u32; 19] = [
        0x9fa0,
        0x6265_6572,
        0x27_e0eb,
        0x6367_7270,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
        0x1cd1,
        0x6165_676c,
        0xde5e_81e4,
        0xf97c_ff8c,
        0x6265_6570,
        0x1980_0202,
        0x9584_58f6,
        0x4249_4e4d,
        0x6759_6969,
        0x6e73_6673,
        0x6573_5543,
    ];
    // The type of the field differs between architectures; the numbers have 32 bits.
    rustix::fs::fstatfs(dir).is_ok_and(|fs| KERNEL.contains(&(fs.f_type as u32)))
}

/// The key of `name` in directory `key`.
fn repo_key(key: &[u8], name: &[u8]) -> Vec<u8> {
    if key.is_empty() { name.to_vec() } else { [key, name].join(&0) }
}
