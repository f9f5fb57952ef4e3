//! The tree under the target: directories opened and made beneath it, names that cannot leave it.
//!
//! What it is for: everything a restore does to the file system goes through here, so that no entry, however hostile,
//! and no symbolic link in the target leads out of it. Nothing here takes a path: only an open directory and one
//! name, and such a name holds no `/` and is not `.` or `..`. Directories that are no longer open are found again by
//! `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS` from the target down, or step by step
//! with `O_NOFOLLOW` where the kernel has no `openat2`, and must still be the directory they were.
//! What it may not know: snapshots, content.
//! Where data comes from and goes: `plan` makes directories, `write` makes files in them.

use super::restored::TargetError;
use rustix::fs::{AtFlags, Dev, Dir as Listing, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

/// Deepest path under the target, in names. Linux programs that use paths end at 2,048.
pub(super) const DEPTH_MAX: usize = 4096;
/// Open directories that are remembered.
const HANDLES_MAX: usize = 256;
/// A path handed to the kernel is shorter than this; longer ones are walked in pieces.
const PATH_BYTES_MAX: usize = 3900;

/// Which inode something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub fn of(stat: &Stat) -> Self {
        Inode { device: stat.st_dev, number: stat.st_ino }
    }
}

/// What new things in a directory get without being asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heirs {
    /// Their owner and group, where that is certain.
    pub owner: Option<(u32, u32)>,
    /// They inherit an ACL, which is not theirs.
    pub acl: bool,
}

/// A directory beneath the target, open or not.
#[derive(Debug)]
pub(super) struct Dir {
    id: u64,
    parent: Option<Arc<Dir>>,
    name: Vec<u8>,
    inode: Inode,
    /// What new things in it get.
    pub heirs: Heirs,
}

/// Who we are and what the system does to modes we ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Me {
    pub uid: u32,
    pub gid: u32,
    /// Bits that the system takes away from the mode of a new file; all of them when unknown.
    pub umask: u32,
}

impl Me {
    fn here() -> Self {
        // Reading the mask by umask(2) would change it for other threads.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let umask = line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o777);
        Me { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), umask }
    }

    pub fn is_root(self) -> bool {
        self.uid == 0
    }
}

/// Whether the target was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It was there before.
    Existing,
    /// We made it.
    New,
}

/// What a target must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Must {
    /// Absent, or an empty directory.
    BeEmpty,
    /// Absent, or a directory.
    BeDirectory,
}

/// Whether a rename may replace something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing may be there.
    Nothing,
    /// What is there is replaced.
    Anything,
}

/// The target of a restore and the directories beneath it.
pub(super) struct Tree {
    /// Who restores.
    pub me: Me,
    /// Whether the target itself was there before.
    pub found: Found,
    root: Arc<Dir>,
    root_fd: Arc<OwnedFd>,
    handles: Mutex<Handles>,
    ids: AtomicU64,
    stepwise: AtomicBool,
}

#[derive(Default)]
struct Handles {
    open: HashMap<u64, Arc<OwnedFd>>,
    order: VecDeque<u64>,
}

/// Checks a target without touching it: the nearest directory that exists.
///
/// # Errors
/// The refusal, when it cannot be used.
pub(super) fn survey(path: &Path, must: Must) -> Result<PathBuf, TargetError> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(TargetError::NotADirectory(path.to_path_buf())),
        Ok(_) => {
            rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
                .map_err(|e| TargetError::of(path, &e.into()))?;
            if must == Must::BeEmpty {
                for entry in std::fs::read_dir(path).map_err(|e| TargetError::of(path, &e))? {
                    let entry = entry.map_err(|e| TargetError::of(path, &e))?;
                    // A fresh ext4 file system has this and is empty all the same.
                    if entry.file_name() != "lost+found" {
                        return Err(TargetError::NotEmpty(path.to_path_buf()));
                    }
                }
            }
            Ok(path.to_path_buf())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // A dangling symbolic link is in the way of mkdir, too.
            if std::fs::symlink_metadata(path).is_ok() {
                return Err(TargetError::NotADirectory(path.to_path_buf()));
            }
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if parent == path { Err(TargetError::of(path, &e)) } else { survey(parent, Must::BeDirectory) }
        }
        Err(e) => Err(TargetError::of(path, &e)),
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Tree {
    /// The target, made with mode 0700 if it was absent. Its own path is the caller's word and may hold links.
    ///
    /// # Errors
    /// The refusal; nothing was touched.
    pub fn open(path: &Path, must: Must) -> Result<Tree, TargetError> {
        survey(path, must)?;
        let refuse = |e: io::Error| TargetError::of(path, &e);
        let found = if path.is_dir() { Found::Existing } else { Found::New };
        if found == Found::New {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refuse)?;
        }
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| refuse(e.into()))?;
        let me = Me::here();
        let (inode, heirs) = describe(&fd, me, Found::Existing).map_err(refuse)?;
        Ok(Tree {
            me,
            found,
            root: Arc::new(Dir { id: 0, parent: None, name: Vec::new(), inode, heirs }),
            root_fd: Arc::new(fd),
            handles: Mutex::default(),
            ids: AtomicU64::new(1),
            stepwise: AtomicBool::new(false),
        })
    }

    /// The target directory itself.
    pub fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// Its open handle.
    pub fn root_fd(&self) -> &OwnedFd {
        &self.root_fd
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn remember(&self, id: u64, fd: &Arc<OwnedFd>) {
        let mut handles = self.handles();
        if handles.open.insert(id, Arc::clone(fd)).is_none() {
            handles.order.push_back(id);
        }
        while handles.order.len() > HANDLES_MAX {
            let Some(oldest) = handles.order.pop_front() else { break };
            handles.open.remove(&oldest);
        }
    }

    /// Nothing more will be done in this directory.
    pub fn forget(&self, dir: &Dir) {
        let mut handles = self.handles();
        if handles.open.remove(&dir.id).is_some() {
            handles.order.retain(|id| *id != dir.id);
        }
    }

    /// An open handle of the directory.
    ///
    /// # Errors
    /// When it is gone, or another directory stands under its name.
    pub fn handle(&self, dir: &Arc<Dir>) -> io::Result<Arc<OwnedFd>> {
        let mut names = Vec::new();
        let mut at = dir;
        let base = loop {
            let Some(parent) = &at.parent else { break Arc::clone(&self.root_fd) };
            if let Some(fd) = self.handles().open.get(&at.id) {
                break Arc::clone(fd);
            }
            names.push(at.name.as_slice());
            at = parent;
        };
        if names.is_empty() {
            return Ok(base);
        }
        names.reverse();
        let fd = Arc::new(self.walk(base.as_fd(), &names)?);
        if Inode::of(&rustix::fs::fstat(&fd)?) != dir.inode {
            return Err(io::Error::other("another directory stands under its name"));
        }
        self.remember(dir.id, &fd);
        Ok(fd)
    }

    /// The directory that these names lead to from the target.
    ///
    /// # Errors
    /// As the system says; a symbolic link on the way is an error.
    pub fn find(&self, names: &[&[u8]]) -> io::Result<OwnedFd> {
        if names.is_empty() { Ok(self.root_fd.try_clone()?) } else { self.walk(self.root_fd.as_fd(), names) }
    }

    fn walk(&self, base: BorrowedFd<'_>, names: &[&[u8]]) -> io::Result<OwnedFd> {
        let mut at: Option<OwnedFd> = None;
        let mut rest = names;
        while let Some(first) = rest.first() {
            let from = at.as_ref().map_or(base, |fd| fd.as_fd());
            let mut piece = checked(first)?.to_vec();
            let mut taken = 1;
            while let Some(name) = rest.get(taken).filter(|n| piece.len() + n.len() < PATH_BYTES_MAX) {
                piece.push(b'/');
                piece.extend_from_slice(checked(name)?);
                taken += 1;
            }
            let (fd, stepped) = match self.beneath(from, &piece, DIRECTORY)? {
                Some(fd) => (fd, taken),
                None => (rustix::fs::openat(from, *first, DIRECTORY, Mode::empty())?, 1),
            };
            rest = rest.get(stepped..).unwrap_or_default();
            at = Some(fd);
        }
        at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }

    /// What openat2 finds beneath `from`; `None` where the kernel has no openat2.
    fn beneath(&self, from: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<Option<OwnedFd>> {
        if self.stepwise.load(Relaxed) {
            return Ok(None);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(from, path, flags, Mode::empty(), resolve) {
            Ok(fd) => Ok(Some(fd)),
            // EPERM: container runtimes of 2020 answered so to calls they did not know.
            Err(Errno::NOSYS | Errno::PERM) => {
                self.stepwise.store(true, Relaxed);
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// A new directory with mode 0700, to be given its own when all is in it.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` when anything is there.
    pub fn make_dir(&self, parent: &Arc<Dir>, name: &[u8]) -> io::Result<Arc<Dir>> {
        let handle = self.handle(parent)?;
        rustix::fs::mkdirat(&handle, checked(name)?, Mode::RWXU)?;
        let dir = self.adopt(parent, &handle, name, Found::New)?;
        if parent.heirs.acl {
            let fd = self.handle(&dir)?;
            drop_acl(fd.as_fd())?;
            return self.adopt(parent, &handle, name, Found::New);
        }
        Ok(dir)
    }

    /// A directory that is there.
    ///
    /// # Errors
    /// As the system says; a symbolic link is an error.
    pub fn open_dir(&self, parent: &Arc<Dir>, name: &[u8]) -> io::Result<Arc<Dir>> {
        let handle = self.handle(parent)?;
        self.adopt(parent, &handle, name, Found::Existing)
    }

    fn adopt(&self, parent: &Arc<Dir>, handle: &OwnedFd, name: &[u8], found: Found) -> io::Result<Arc<Dir>> {
        let fd = rustix::fs::openat(handle, checked(name)?, DIRECTORY, Mode::empty())?;
        let (inode, heirs) = describe(&fd, self.me, found)?;
        let id = self.ids.fetch_add(1, Relaxed);
        self.remember(id, &Arc::new(fd));
        Ok(Arc::new(Dir { id, parent: Some(Arc::clone(parent)), name: name.to_vec(), inode, heirs }))
    }
}

fn describe(fd: &OwnedFd, me: Me, found: Found) -> io::Result<(Inode, Heirs)> {
    let stat = rustix::fs::fstat(fd)?;
    // A group that was handed down once (setgid directory, `grpid` mount) is handed down again. An owner that is not
    // us is a file system that decides itself (root squashed by NFS): then every file is told explicitly.
    let gid = match stat.st_gid {
        gid if gid == me.gid || stat.st_mode & 0o2000 != 0 => Some(gid),
        _ => None,
    };
    let uid = (found == Found::Existing || stat.st_uid == me.uid).then_some(me.uid);
    let acl = rustix::fs::fgetxattr_query(fd, "system.posix_acl_default").is_ok_and(|len| len > 0);
    Ok((Inode::of(&stat), Heirs { owner: uid.zip(gid), acl }))
}

/// Takes away the ACLs that a new file or directory inherited.
///
/// # Errors
/// As the system says; having none is fine.
pub(super) fn drop_acl(fd: BorrowedFd<'_>) -> io::Result<()> {
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        match rustix::fs::fremovexattr(fd, name) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCESS) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The name, if it is one: not empty, not `.` or `..`, no `/`, no zero byte.
///
/// # Errors
/// `InvalidInput` otherwise.
pub(super) fn checked(name: &[u8]) -> io::Result<&[u8]> {
    let sound = !matches!(name, b"" | b"." | b"..") && !name.iter().any(|b| matches!(b, b'/' | 0));
    if sound { Ok(name) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file name")) }
}

/// A new file for writing and reading; never through a link, never over anything.
///
/// # Errors
/// As the system says.
pub(super) fn create(dir: impl AsFd, name: &[u8], mode: u32) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(dir, checked(name)?, flags, Mode::from_raw_mode(mode & 0o777))?))
}

/// What an existing file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reading, and changing its metadata.
    Read,
    /// Reading and writing.
    Write,
}

/// An existing regular file; never through a link, never a device or pipe.
///
/// # Errors
/// As the system says.
pub(super) fn open(dir: impl AsFd, name: &[u8], access: Access) -> io::Result<(File, Stat)> {
    let access = if access == Access::Write { OFlags::RDWR } else { OFlags::RDONLY };
    // NONBLOCK: a pipe that was put there meanwhile would make us wait for its other end.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, checked(name)?, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok((File::from(fd), stat))
}

/// What stands under a name, if anything; a link itself, not what it points at.
///
/// # Errors
/// As the system says.
pub(super) fn look(dir: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, checked(name)?, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Removes a name that is no directory.
///
/// # Errors
/// As the system says.
pub(super) fn remove(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, checked(name)?, AtFlags::empty())?)
}

/// Removes an empty directory.
///
/// # Errors
/// As the system says.
pub(super) fn remove_dir(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, checked(name)?, AtFlags::REMOVEDIR)?)
}

/// Removes whatever stands under a name, with all in it; how many things that were. Links are removed, not followed;
/// another file system mounted inside is an error.
///
/// # Errors
/// As the system says; some of it may be gone then.
pub(super) fn remove_all(dir: impl AsFd, name: &[u8]) -> io::Result<u64> {
    let Some(stat) = look(&dir, name)? else { return Ok(0) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        remove(dir, name)?;
        return Ok(1);
    }
    let device = rustix::fs::fstat(&dir)?.st_dev;
    let open = |at: BorrowedFd<'_>, name: &[u8]| -> io::Result<Level> {
        let fd = rustix::fs::openat(at, checked(name)?, DIRECTORY, Mode::empty())?;
        if rustix::fs::fstat(&fd)?.st_dev != device {
            return Err(io::Error::other("another file system is mounted in it"));
        }
        Ok(Level { names: names(&fd)?, fd, name: name.to_vec() })
    };
    // A stack of our own, not the thread's: directories may be nested deeper than that.
    let mut stack = vec![open(dir.as_fd(), name)?];
    let mut removed = 0;
    loop {
        let depth = stack.len();
        let Some(level) = stack.last_mut() else { break };
        if let Some((name, kind)) = level.names.pop() {
            let is_dir = match kind {
                FileType::Directory => true,
                FileType::Unknown => look(&level.fd, &name)?
                    .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
                _ => false,
            };
            if !is_dir {
                remove(&level.fd, &name)?;
                removed += 1;
            } else if depth < DEPTH_MAX {
                let next = open(level.fd.as_fd(), &name)?;
                stack.push(next);
            } else {
                return Err(io::Error::other("it is nested too deeply"));
            }
        } else if let Some(empty) = stack.pop() {
            remove_dir(stack.last().map_or(dir.as_fd(), |above| above.fd.as_fd()), &empty.name)?;
            removed += 1;
        }
    }
    Ok(removed)
}

struct Level {
    fd: OwnedFd,
    name: Vec<u8>,
    names: Vec<(Vec<u8>, FileType)>,
}

/// The names in a directory and what they are, in no order.
///
/// # Errors
/// As the system says.
pub(super) fn names(dir: impl AsFd) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    for entry in Listing::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    Ok(names)
}

/// Gives a file its final name in the same directory.
///
/// # Errors
/// As the system says; `AlreadyExists` when something is there and must not be replaced.
pub(super) fn rename(dir: impl AsFd, from: &[u8], to: &[u8], over: Over) -> io::Result<()> {
    let (from, to, dir) = (checked(from)?, checked(to)?, dir.as_fd());
    if over == Over::Anything {
        return Ok(rustix::fs::renameat(dir, from, dir, to)?);
    }
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Not every file system can: a hard link refuses to replace, too.
        Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::linkat(dir, from, dir, to, AtFlags::empty()) {
            Ok(()) => remove(dir, from),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => match look(dir, to)? {
                None => Ok(rustix::fs::renameat(dir, from, dir, to)?),
                Some(_) => Err(Errno::EXIST.into()),
            },
            Err(e) => Err(e.into()),
        },
        Err(e) => Err(e.into()),
    }
}

/// Another name for a file: for the link itself where the first name is a symbolic link.
///
/// # Errors
/// As the system says.
pub(super) fn link(from: impl AsFd, old: &[u8], to: impl AsFd, new: &[u8]) -> Result<(), Errno> {
    let bad = |_| Errno::INVAL;
    let (old, new) = (checked(old).map_err(bad)?, checked(new).map_err(bad)?);
    rustix::fs::linkat(from, old, to, new, AtFlags::empty())
}

/// A symbolic link with any text.
///
/// # Errors
/// As the system says.
pub(super) fn symlink(dir: impl AsFd, name: &[u8], text: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(text, dir, checked(name)?)?)
}

/// A pipe or device, for its owner only.
///
/// # Errors
/// As the system says.
pub(super) fn node(dir: impl AsFd, name: &[u8], kind: FileType, device: Dev) -> io::Result<()> {
    Ok(rustix::fs::mknodat(dir, checked(name)?, kind, Mode::RUSR | Mode::WUSR, device)?)
}

#[cfg(test)]
mod tests;
