//! A repository in a directory: every object is a file of its name.
//!
//! What it is for: bytes that survive power loss on a disk of this machine, and nothing half written, ever.
//! What it may not know: what the bytes mean; whether the directory is a good repository (`repo` reads `backstay.json`).
//! Where data comes from and goes: an object is written to `tmp/`, flushed, moved to its name without replacing
//! anything, and its directory flushed. Reads go by position through a few files kept open.

mod handles;
mod place;
mod temp;
#[cfg(test)]
mod tests;

use crate::error::{Kind, StoreError};
use crate::finding::Finding;
use crate::key::{Key, Shelf};
use crate::store::{Backend, Listed, Put, Span, Warning};
use handles::Handles;
use place::Place;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fmt;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use temp::Temp;

pub use place::NetworkPolicy;

/// Where files stand while they are written. Not part of the repository.
const TMP: &str = "tmp";
/// Directories and objects belong to their owner alone; objects never change.
const DIR_MODE: Mode = Mode::RWXU;
const OBJECT_MODE: Mode = Mode::RUSR;
/// How many directories are remembered as reachable after power loss before all are forgotten and flushed again.
const ANCHORED_MAX: usize = 4096;

/// A repository in a directory of a file system. See the module's head for what it promises.
pub struct LocalStore {
    path: PathBuf,
    root: OwnedFd,
    place: Place,
    handles: Handles,
    /// Directories whose own names this process has flushed: `packs/ab/`.
    anchored: Mutex<HashSet<String>>,
    /// A directory or an existing file could not be flushed: the kernel reports that once and then forgets, so nothing
    /// this process learns later about durability can be believed.
    distrusted: AtomicBool,
    /// `fsync`; tests put a failing one here.
    flush: fn(BorrowedFd<'_>) -> Result<(), Errno>,
}

impl LocalStore {
    /// Makes the directories of a repository at `path`, durable with their parents when it returns, and tries that the
    /// file system keeps the promises a repository needs. A directory that already holds a repository, or the beginning
    /// of one, is completed and nothing in it is changed.
    ///
    /// # Errors
    /// `Unsuitable` when `path` is a file, or a directory with other things in it, or on a file system that `on_network`
    /// refuses or that replaces existing names: choose another place. `Denied`, `Full`, `Unreachable`.
    pub fn create(path: &Path, on_network: NetworkPolicy) -> Result<LocalStore, StoreError> {
        let what = format!("create a repository in {}", path.display());
        let path = std::path::absolute(path).map_err(|e| io_failure(&what, &e))?;
        refuse_foreign(&path, &what)?;
        make_dirs(&path, on_network, &what)?;
        let store = LocalStore::open_as(&path, on_network, &what)?;
        store.dir_for_writing(TMP, &what)?;
        for shelf in Shelf::ALL {
            store.dir_for_writing(shelf.dir(), &what)?;
        }
        place::prove(&store.dir(TMP).map_err(|e| failure(&what, e))?, &what)?;
        Ok(store)
    }

    /// The repository in the directory `path`. Whether it is one is for the caller to see from its `backstay.json`.
    ///
    /// # Errors
    /// `Absent` when there is no such directory; `Unsuitable` when it is a file or on a file system that `on_network`
    /// refuses; `Denied`, `Unreachable`.
    pub fn open(path: &Path, on_network: NetworkPolicy) -> Result<LocalStore, StoreError> {
        let what = format!("open the repository in {}", path.display());
        let path = std::path::absolute(path).map_err(|e| io_failure(&what, &e))?;
        LocalStore::open_as(&path, on_network, &what)
    }

    fn open_as(path: &Path, on_network: NetworkPolicy, what: &str) -> Result<LocalStore, StoreError> {
        let root = open_root(path).map_err(|e| match e {
            Errno::NOTDIR => StoreError::new(Kind::Unsuitable, what, "it is not a directory"),
            e => failure(what, e),
        })?;
        let place = place::admit(&root, on_network, what)?;
        Ok(LocalStore {
            path: path.to_owned(),
            root,
            place,
            handles: Handles::default(),
            anchored: Mutex::default(),
            distrusted: AtomicBool::new(false),
            flush: |fd| rustix::fs::fsync(fd),
        })
    }

    /// Opens the directory `path` of the repository, following no symbolic link.
    fn dir(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut at = open_dir(&self.root, ".")?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            at = open_dir(&at, part)?;
        }
        Ok(at)
    }

    /// Opens the directory `path`, made where it is missing. When it returns, the directory's own name survives power
    /// loss, whoever made it: another thread or a process that died may not have come to its flush.
    fn dir_for_writing(&self, path: &str, what: &str) -> Result<OwnedFd, StoreError> {
        let fail = |e| failure(what, e);
        let mut at = open_dir(&self.root, ".").map_err(fail)?;
        let mut so_far = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            so_far.push_str(part);
            so_far.push('/');
            let mut made = false;
            let next = match open_dir(&at, part) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&at, part, DIR_MODE) {
                        Ok(()) | Err(Errno::EXIST) => made = true,
                        Err(e) => return Err(fail(e)),
                    }
                    open_dir(&at, part)
                }
                other => other,
            }
            .map_err(fail)?;
            if made || !self.lock_anchored().contains(&so_far) {
                self.flush_dir(&at, what)?;
                let mut anchored = self.lock_anchored();
                if anchored.len() >= ANCHORED_MAX {
                    anchored.clear();
                }
                anchored.insert(so_far.clone());
            }
            at = next;
        }
        Ok(at)
    }

    fn lock_anchored(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.anchored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Directory fsync: without it a rename or an unlink is lost on power cut.
    fn flush_dir(&self, dir: &OwnedFd, what: &str) -> Result<(), StoreError> {
        match (self.flush)(dir.as_fd()) {
            // SMB and some FUSE file systems cannot flush directories; the owner accepted that.
            Err(Errno::INVAL | Errno::OPNOTSUPP) if self.place.is_network() => Ok(()),
            Err(e) => Err(self.distrust(what, e)),
            Ok(()) => Ok(()),
        }
    }

    fn distrust(&self, what: &str, e: Errno) -> StoreError {
        self.distrusted.store(true, Ordering::SeqCst);
        failure(what, e)
    }

    fn check_trust(&self, what: &str) -> Result<(), StoreError> {
        if !self.distrusted.load(Ordering::SeqCst) {
            return Ok(());
        }
        let why = format!("an earlier flush failed, so {} may have lost what it says it stored", self.path.display());
        Err(StoreError::new(Kind::Unreachable, what, why))
    }

    /// What stands at `name` when it is an object of `bytes` bytes, made durable first; `None` when nothing does.
    fn existing(&self, home: &OwnedFd, name: &str, bytes: u64, what: &str) -> Result<Option<Put>, StoreError> {
        let file = match open_object(home, name, what) {
            Err(e) if e.is_absent() => return Ok(None),
            other => other?,
        };
        let found = file_size(&rustix::fs::fstat(&file).map_err(|e| failure(what, e))?);
        if found != bytes {
            let why = format!("an object of that name with {found} bytes exists, and {bytes} were to be written");
            return Err(StoreError::new(Kind::Corrupt, what, why));
        }
        // Its writer may have died, or still be, between the rename and the flush.
        (self.flush)(file.as_fd()).map_err(|e| self.distrust(what, e))?;
        self.flush_dir(home, what)?;
        Ok(Some(Put::Existed))
    }

    fn open_for_reading(&self, key: &Key, span: Span, what: &str) -> Result<(Arc<OwnedFd>, Stat), StoreError> {
        let stat = |file: &OwnedFd| rustix::fs::fstat(file).map_err(|e| failure(what, e));
        if let Some(file) = self.handles.find(key) {
            let stat = stat(&file)?;
            if stat.st_nlink > 0 {
                return Ok((file, stat));
            }
            // Another process deleted it; the open file would keep its space taken.
            self.handles.forget(key);
        }
        let epoch = self.handles.epoch();
        let path = key.path();
        let (dir, name) = split(&path);
        let home = self.dir(dir).map_err(|e| failure(what, e))?;
        let file = Arc::new(open_object(&home, name, what)?);
        if span != Span::Whole {
            self.handles.keep(key, &file, epoch);
        }
        let stat = stat(&file)?;
        Ok((file, stat))
    }

    /// Adds the objects in the directory `at` to `walk`; `path` is its path with `/` at the end, `stem` what the names of
    /// all its objects begin with, and `below` how many levels of directories may be in it.
    fn walk(&self, walk: &mut Walk<'_>, at: &OwnedFd, path: &str, stem: &str, below: u32) -> Result<(), StoreError> {
        let what = walk.what;
        let fail = |e| failure(what, e);
        for entry in Dir::read_from(at).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if Key::new(Shelf::Root, name).is_none() {
                continue;
            }
            let full = format!("{path}{name}");
            let stat = match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Deleted since the directory was read.
                Err(Errno::NOENT) => continue,
                other => other.map_err(fail)?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let listed = Key::from_path(&full).filter(|key| key.shelf() == walk.shelf);
                    if let Some(key) = listed.filter(|key| key.name().starts_with(walk.prefix)) {
                        walk.found.push(Listed { key, bytes: file_size(&stat) });
                    }
                }
                FileType::Directory if below > 0 => {
                    let stem = if walk.shelf == Shelf::Packs { name.to_owned() } else { format!("{stem}{name}/") };
                    if !stem.starts_with(walk.prefix) && !walk.prefix.starts_with(&stem) {
                        continue;
                    }
                    match open_dir(at, name) {
                        Err(Errno::NOENT) => {}
                        Err(e) => return Err(fail(e)),
                        Ok(dir) => self.walk(walk, &dir, &format!("{full}/"), &stem, below - 1)?,
                    }
                }
                // Leaving out what a link leads to would make the list shorter in silence.
                FileType::Symlink if below > 0 => {
                    let why = format!("{full} is a symbolic link where a directory belongs");
                    return Err(StoreError::new(Kind::Corrupt, what, why));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

struct Walk<'a> {
    what: &'a str,
    shelf: Shelf,
    prefix: &'a str,
    found: Vec<Listed>,
}

/// What a close look finds.
impl LocalStore {
    fn promises(&self) -> Finding {
        const NAME: &str = "promises";
        let what = format!("try the file system of {}", self.path.display());
        let proof = self.dir_for_writing(TMP, &what).and_then(|tmp| place::prove(&tmp, &what));
        match proof {
            Ok(()) => Finding::ok(NAME, "the file system replaces nothing unasked, and its locks hold"),
            Err(e) if e.kind == Kind::Denied => {
                Finding::unknown(NAME, e.to_string(), "who backs up must be able to write there; who restores need not")
            }
            Err(e) => Finding::problem(NAME, e.to_string(), "put the repository on another file system"),
        }
    }

    fn space(&self) -> Finding {
        const NAME: &str = "free-space";
        let help = "make room: forget snapshots and prune, or use a larger disk";
        let Some(room) = self.room() else {
            return Finding::unknown(NAME, "the file system does not count its space", "");
        };
        let all = rustix::fs::fstatvfs(&self.root).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
        let text = format!("{} MiB of {} MiB are free", room >> 20, all >> 20);
        match room {
            _ if room < crate::store::RESERVE_BYTES + u64::from(self.pack_bytes()) => {
                Finding::problem(NAME, text, help)
            }
            _ if room < all / 20 => Finding::warning(NAME, text, help),
            _ => Finding::ok(NAME, text),
        }
    }

    fn dead_temps(&self) -> Option<Finding> {
        let tmp = self.dir(TMP).ok()?;
        let names = Dir::read_from(&tmp).ok()?.filter_map(Result::ok);
        let files = names.filter(|entry| matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown));
        let sizes: Vec<u64> = files.filter_map(|entry| temp::bytes_if_dead(&tmp, entry.file_name()).ok()?).collect();
        let text = format!("{} files of writers that died, {} MiB", sizes.len(), sizes.iter().sum::<u64>() >> 20);
        Some(match sizes.len() {
            0 => Finding::ok("leftover-files", "no writer that died left a file behind"),
            _ => Finding::warning("leftover-files", text, "backstay prune removes them"),
        })
    }
}

impl Backend for LocalStore {
    fn put_new(&self, key: &Key, body: &[u8]) -> Result<Put, StoreError> {
        let what = format!("write {key}");
        let fail = |e| failure(&what, e);
        self.check_trust(&what)?;
        let path = key.path();
        let (dir, name) = split(&path);
        let home = self.dir_for_writing(dir, &what)?;
        if let Some(put) = self.existing(&home, name, body.len() as u64, &what)? {
            return Ok(put);
        }

        let tmp = self.dir_for_writing(TMP, &what)?;
        let mut temp = Temp::create(&tmp).map_err(fail)?;
        temp.file.write_all(body).map_err(|e| io_failure(&what, &e))?;
        rustix::fs::fchmod(&temp.file, OBJECT_MODE).map_err(fail)?;
        // Once: after a failure the kernel may call the same pages clean. The file is thrown away instead.
        (self.flush)(temp.file.as_fd()).map_err(fail)?;
        match temp.move_to(&home, name) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let gone = || StoreError::new(Kind::Unreachable, what.as_str(), "it appeared and vanished meanwhile");
                return self.existing(&home, name, body.len() as u64, &what)?.ok_or_else(gone);
            }
            Err(e) => return Err(fail(e)),
        }
        self.flush_dir(&home, &what)?;
        // Another writer's failed flush may have used up the error that was ours.
        self.check_trust(&what)?;
        Ok(Put::New)
    }

    fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError> {
        let what = format!("read {key}");
        let (file, stat) = self.open_for_reading(key, span, &what)?;
        let size = file_size(&stat);
        let (offset, len) = match span {
            Span::Whole => (0, size),
            Span::Range { offset, len } => (offset, len),
            Span::Tail { len } => (size - len.min(size), len.min(size)),
        };
        let short = || {
            let why = format!("it has {size} bytes, and {len} were wanted from byte {offset}");
            StoreError::new(Kind::Corrupt, what.as_str(), why)
        };
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(short());
        }
        let len = usize::try_from(len).map_err(|_| failure(&what, Errno::NOMEM))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| failure(&what, Errno::NOMEM))?;
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            match rustix::io::pread(&*file, rustix::buffer::spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(short()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(failure(&what, e)),
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        let what = format!("look for {key}");
        let path = key.path();
        let (dir, name) = split(&path);
        let stat = self.dir(dir).and_then(|home| rustix::fs::statat(&home, name, AtFlags::SYMLINK_NOFOLLOW));
        match stat {
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(failure(&what, e)),
            Ok(stat) => check_is_file(&stat, &what).map(|()| Some(file_size(&stat))),
        }
    }

    fn list(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let what = if shelf == Shelf::Root { "list the repository".into() } else { format!("list {}", shelf.dir()) };
        let mut walk = Walk { what: &what, shelf, prefix, found: Vec::new() };
        let (path, below) = match shelf {
            Shelf::Root => (String::new(), 0),
            Shelf::Packs => (format!("{}/", shelf.dir()), 1),
            Shelf::Ledger => (format!("{}/", shelf.dir()), 2),
            _ => (format!("{}/", shelf.dir()), 0),
        };
        match self.dir(shelf.dir()) {
            Err(Errno::NOENT) => {}
            Err(e) => return Err(failure(&what, e)),
            Ok(dir) => self.walk(&mut walk, &dir, &path, "", below)?,
        }
        walk.found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(walk.found)
    }

    fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        let what = format!("delete {key}");
        self.check_trust(&what)?;
        let path = key.path();
        let (dir, name) = split(&path);
        let home = match self.dir(dir) {
            Err(Errno::NOENT) => return Ok(false),
            other => other.map_err(|e| failure(&what, e))?,
        };
        let was_there = match rustix::fs::unlinkat(&home, name, AtFlags::empty()) {
            Ok(()) => true,
            Err(Errno::NOENT) => false,
            Err(e) => return Err(failure(&what, e)),
        };
        self.handles.forget(key);
        // Also when it was gone: who deleted it may have died before the flush.
        self.flush_dir(&home, &what)?;
        Ok(was_there)
    }

    fn tidy(&self) -> Result<u64, StoreError> {
        let what = format!("tidy {}", self.path.display());
        let fail = |e| failure(&what, e);
        let tmp = match self.dir(TMP) {
            Err(Errno::NOENT) => return Ok(0),
            other => other.map_err(fail)?,
        };
        let mut freed = 0;
        for entry in Dir::read_from(&tmp).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown) {
                freed += temp::remove_if_dead(&tmp, entry.file_name()).map_err(fail)?;
            }
        }
        Ok(freed)
    }

    fn examine(&self) -> Vec<Finding> {
        let leftovers = self.dead_temps();
        [place::finding(self.place, &self.path), self.promises(), self.space()].into_iter().chain(leftovers).collect()
    }

    fn room(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.root).ok()?;
        // Zero blocks in all: the file system does not count them.
        (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lists_at_once(&self) -> bool {
        !self.place.is_network()
    }

    fn warnings(&self) -> Vec<Warning> {
        self.place.warning(&self.path).into_iter().collect()
    }

    fn address(&self) -> String {
        self.path.display().to_string()
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalStore({})", self.path.display())
    }
}

/// Refuses to make a repository of a file, or among things that are not ours.
fn refuse_foreign(path: &Path, what: &str) -> Result<(), StoreError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) => {
            return match Errno::from_io_error(&e) {
                Some(Errno::NOENT) => Ok(()),
                Some(Errno::NOTDIR) => {
                    Err(StoreError::new(Kind::Unsuitable, what, "it, or a part of its path, is a file"))
                }
                _ => Err(io_failure(what, &e)),
            };
        }
    };
    let mut foreign = None;
    for entry in entries {
        let entry = entry.map_err(|e| io_failure(what, &e))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            foreign = Some(entry.path());
            continue;
        };
        if name == "backstay.json" {
            return Ok(());
        }
        let is_dir = entry.file_type().map_err(|e| io_failure(what, &e))?.is_dir();
        let is_shelf = Shelf::ALL.iter().any(|shelf| *shelf != Shelf::Root && shelf.dir() == name);
        // A fresh ext4 file system has lost+found at its root.
        if !(is_dir && (is_shelf || name == TMP || name == "lost+found") || name == "RECOVERY.txt") {
            foreign = Some(entry.path());
        }
    }
    foreign.map_or(Ok(()), |path| {
        let why = format!("the directory is not empty and no repository: it has {}", path.display());
        Err(StoreError::new(Kind::Unsuitable, what, why))
    })
}

/// Makes `path` and what is missing above it, each durable in the one above.
fn make_dirs(path: &Path, on_network: NetworkPolicy, what: &str) -> Result<(), StoreError> {
    let fail = |e| failure(what, e);
    let mut missing = Vec::new();
    let mut at = path;
    let base = loop {
        match open_root(at) {
            Ok(base) => break base,
            Err(Errno::NOENT) => missing.push(at),
            Err(e) => return Err(fail(e)),
        }
        at = at.parent().ok_or_else(|| fail(Errno::NOENT))?;
    };
    // Before anything is made in a place that will be refused.
    place::admit(&base, on_network, what)?;
    if let Some(Ok(above)) = at.parent().map(open_root) {
        // Who made the last directory may have died before its flush.
        flush_parent(&above, what)?;
    }
    let mut parent = base;
    for dir in missing.into_iter().rev() {
        match rustix::fs::mkdir(dir, DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(fail(e)),
        }
        flush_parent(&parent, what)?;
        parent = open_root(dir).map_err(fail)?;
    }
    Ok(())
}

fn flush_parent(dir: &OwnedFd, what: &str) -> Result<(), StoreError> {
    match rustix::fs::fsync(dir) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) if place::of(dir).is_ok_and(Place::is_network) => Ok(()),
        other => other.map_err(|e| failure(what, e)),
    }
}

/// Opens a directory by the path its owner gave; links on the way there are the owner's business.
fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn open_dir(at: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Opens an object for reading. Anything else of that name is damage; a pipe must not make us wait.
fn open_object(home: &OwnedFd, name: &str, what: &str) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(home, name, flags, Mode::empty()).map_err(|e| match e {
        Errno::LOOP => StoreError::new(Kind::Corrupt, what, "it is a symbolic link"),
        e => failure(what, e),
    })?;
    check_is_file(&rustix::fs::fstat(&file).map_err(|e| failure(what, e))?, what)?;
    Ok(file)
}

fn check_is_file(stat: &Stat, what: &str) -> Result<(), StoreError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        other => Err(StoreError::new(Kind::Corrupt, what, format!("it is not a file but a {other:?}"))),
    }
}

fn file_size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).expect("the size of a file is never negative")
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn io_failure(what: &str, e: &std::io::Error) -> StoreError {
    match Errno::from_io_error(e) {
        Some(errno) => failure(what, errno),
        None => StoreError::new(Kind::Unreachable, what, e.to_string()),
    }
}

fn failure(what: &str, e: Errno) -> StoreError {
    let kind = match e {
        Errno::NOSPC | Errno::DQUOT => Kind::Full,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Kind::Denied,
        Errno::NOENT => Kind::Absent,
        _ => Kind::Unreachable,
    };
    StoreError::new(kind, what, std::io::Error::from(e).to_string())
}
