//! Metadata: owner, mode, extended attributes, ACLs, capabilities, times, in the one order in which they hold.
//!
//! The order: owner (it clears setuid bits), attributes of users (they need write permission), mode, ACLs (a mode set
//! after them would change their mask), `security.*` (a chown after them would remove capabilities), times.
//! What it may not know: content, the repository.
//! Where data comes from and goes: entries in, calls on open files out. What this user or this file system cannot
//! have becomes a note per kind; it never fails a restore.

use super::place::{self, Heirs, Me};
use super::restored::{Owner, Special, Tally};
use repo::{Entry, Node};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The kernel's own limit for one attribute; larger ones cannot have come from it.
const XATTR_BYTES_MAX: usize = 64 << 10;
const ACL: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const SET_IDS: u32 = 0o6000;

/// What is known of an inode before it is stamped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Its owner and group, where certain.
    pub owner: Option<(u32, u32)>,
    /// Its permission bits, where certain.
    pub mode: Option<u32>,
    /// Whether it may carry attributes that are not its own.
    pub history: History,
}

/// Whether an inode may carry attributes that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum History {
    /// We made it.
    Fresh,
    /// We made it in a directory that hands down an ACL.
    Inherited,
    /// It was there before.
    Old,
}

impl Before {
    /// An inode that was there.
    pub fn old(stat: &Stat) -> Self {
        Before { owner: Some((stat.st_uid, stat.st_gid)), mode: Some(stat.st_mode & 0o7777), history: History::Old }
    }
}

/// Sets metadata as the plan wants it.
pub(super) struct Stamper<'a> {
    owner: Owner,
    names: Names,
    special: Special,
    me: Me,
    tally: &'a Tally,
}

impl<'a> Stamper<'a> {
    /// A stamper; `special` is decided already, never `Auto`.
    pub fn new(owner: Owner, special: Special, me: Me, tally: &'a Tally) -> Self {
        let names = if owner == Owner::Names { Names::of_this_machine() } else { Names::default() };
        Stamper { owner, names, special, me, tally }
    }

    /// Owner and group that the entry shall have, if any.
    pub fn owner_of(&self, entry: &Entry) -> Option<(u32, u32)> {
        let number = |names: &HashMap<Vec<u8>, u32>, name: &Option<Vec<u8>>, recorded: u32| {
            name.as_ref().and_then(|name| names.get(name)).copied().unwrap_or(recorded)
        };
        match self.owner {
            Owner::Skip => None,
            Owner::Numeric => Some((entry.uid, entry.gid)),
            Owner::Names => Some((
                number(&self.names.users, &entry.user, entry.uid),
                number(&self.names.groups, &entry.group, entry.gid),
            )),
        }
    }

    /// The mode to create a file with, and what it will be like then: never more open than it shall be in the end.
    pub fn creation(&self, entry: &Entry, heirs: Heirs) -> (u32, Before) {
        let stays = self.owner_of(entry).is_none_or(|owner| heirs.owner == Some(owner));
        // Only who may write a file may set attributes on it.
        let mode = if stays && entry.xattrs.is_empty() { entry.mode & 0o777 } else { 0o600 };
        let history = if heirs.acl { History::Inherited } else { History::Fresh };
        let known = (history == History::Fresh).then_some(mode & !self.me.umask);
        (mode, Before { owner: heirs.owner, mode: known, history })
    }

    /// The permission bits that the entry shall have.
    pub fn mode_of(&self, entry: &Entry) -> u32 {
        let is_dir = matches!(entry.node, Node::Dir);
        if is_dir || self.special == Special::Restore || entry.mode & SET_IDS == 0 {
            return entry.mode & 0o7777;
        }
        entry.mode & 0o1777
    }

    /// Whether an inode has all the metadata of the entry already.
    pub fn matches(&self, fd: BorrowedFd<'_>, stat: &Stat, entry: &Entry) -> bool {
        let owner = self.owner_of(entry).is_none_or(|owner| owner == (stat.st_uid, stat.st_gid));
        let time = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec) == entry.mtime.0;
        owner && time && stat.st_mode & 0o7777 == self.mode_of(entry) && self.has_xattrs(fd, entry)
    }

    fn has_xattrs(&self, fd: BorrowedFd<'_>, entry: &Entry) -> bool {
        let wanted: Vec<_> = entry.xattrs.iter().filter(|(name, _)| self.wants_xattr(name)).collect();
        let Ok(there) = list_xattrs(fd) else { return wanted.is_empty() };
        let ours = there.iter().filter(|name| is_removable(name)).count();
        let wanted_ours = wanted.iter().filter(|(name, _)| is_removable(name)).count();
        ours == wanted_ours
            && wanted.iter().all(|(name, value)| {
                let mut held = vec![0u8; XATTR_BYTES_MAX];
                rustix::fs::fgetxattr(fd, name.as_slice(), held.as_mut_slice())
                    .is_ok_and(|len| held.get(..len) == Some(value.as_slice()))
            })
    }

    fn wants_xattr(&self, name: &[u8]) -> bool {
        self.special == Special::Restore || !(name.starts_with(b"security.") || name.starts_with(b"trusted."))
    }

    /// Gives an open file or directory the metadata of `entry`.
    pub fn open(&self, fd: BorrowedFd<'_>, entry: &Entry, before: Before) {
        self.stamp(&On::Open(fd), entry, before);
    }

    /// Gives what stands under a name, a link, pipe or device, the metadata of `entry`; never what a link points at.
    pub fn named(&self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match place::checked(name).and_then(|name| Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)) {
            Ok(fd) => {
                let before = Before { owner: None, mode: None, history: History::Fresh };
                self.stamp(&On::Path(fd.as_fd()), entry, before);
            }
            Err(e) => self.note(entry, "metadata", &e),
        }
    }

    fn stamp(&self, on: &On<'_>, entry: &Entry, before: Before) {
        let mut mode = self.mode_of(entry);
        if mode != entry.mode & 0o7777 {
            self.tally.note(&entry.key, "setuid and setgid bits were left out");
        }
        if let Some(owner) = self.owner_of(entry).filter(|owner| before.owner != Some(*owner))
            && let Err(e) = on.chown(owner)
        {
            self.note(entry, "owner", &e);
            // Set for one owner, a setuid bit means something else for another.
            mode &= !SET_IDS;
        }
        if before.history != History::Fresh {
            self.clear_xattrs(on, entry, before.history);
        }
        let xattrs: Vec<_> = entry.xattrs.iter().filter(|(name, _)| self.keeps(entry, name)).collect();
        let set = |which: &dyn Fn(&[u8]) -> bool| {
            xattrs
                .iter()
                .filter(|(name, _)| which(name))
                .for_each(|(name, value)| self.set_xattr(on, entry, name, value));
        };
        let is_acl = |name: &[u8]| ACL.contains(&name);
        let is_security = |name: &[u8]| name.starts_with(b"security.");
        let has_plain = xattrs.iter().any(|(name, _)| !is_acl(name) && !is_security(name));
        if has_plain && !self.me.is_root() && before.history == History::Old {
            // As for new files. Where it is refused, so are the attributes, and that is noted.
            on.chmod(before.mode.unwrap_or(0) | 0o600).ok();
        }
        set(&|name| !is_acl(name) && !is_security(name));
        if !matches!(entry.node, Node::Symlink { .. })
            && (before.mode != Some(mode) || before.history != History::Fresh)
            && let Err(e) = on.chmod(mode)
        {
            self.note(entry, "mode", &e);
        }
        set(&is_acl);
        set(&is_security);
        if let Err(e) = on.set_time(entry) {
            self.note(entry, "modification time", &e);
        }
    }

    fn keeps(&self, entry: &Entry, name: &[u8]) -> bool {
        if !self.wants_xattr(name) {
            self.tally.note(&entry.key, format!("{} attributes were left out", namespace(name)));
            return false;
        }
        true
    }

    fn set_xattr(&self, on: &On<'_>, entry: &Entry, name: &[u8], value: &[u8]) {
        if value.len() > XATTR_BYTES_MAX {
            let name = repo::percent_path(name);
            return self.tally.problem(&entry.key, format!("its attribute {name} is larger than any system allows"));
        }
        match on.set_xattr(name, value) {
            Ok(()) => {}
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::DQUOT | Errno::RANGE) => {
                let name = repo::percent_path(name);
                self.tally.problem(&entry.key, format!("its attribute {name} does not fit on this file system"));
            }
            Err(e) => self.note(entry, &format!("{} attributes", namespace(name)), &e.into()),
        }
    }

    /// Removes attributes that the entry does not have. Labels that the system itself puts on stay.
    fn clear_xattrs(&self, on: &On<'_>, entry: &Entry, history: History) {
        let On::Open(fd) = on else { return };
        let Ok(there) = list_xattrs(*fd) else { return };
        for name in there {
            let foreign = if history == History::Old { is_removable(&name) } else { ACL.contains(&name.as_slice()) };
            let wanted = entry.xattrs.iter().any(|(wanted, _)| *wanted == name) && self.wants_xattr(&name);
            if foreign
                && !wanted
                && let Err(e) = rustix::fs::fremovexattr(fd, name.as_slice())
                && e != Errno::NODATA
            {
                self.note(entry, "absence of attributes", &e.into());
            }
        }
    }

    fn note(&self, entry: &Entry, what: &str, error: &io::Error) {
        let why = match Errno::from_io_error(error) {
            Some(Errno::PERM | Errno::ACCESS) => "this user may not set them".to_string(),
            Some(Errno::OPNOTSUPP) => "this file system has none".to_string(),
            Some(errno) => io::Error::from(errno).to_string(),
            None => error.to_string(),
        };
        self.tally.note(&entry.key, format!("{what} not restored: {why}"));
    }
}

fn is_removable(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"trusted.") || ACL.contains(&name) || name == b"security.capability"
}

fn namespace(name: &[u8]) -> String {
    let end = name.iter().position(|b| *b == b'.').unwrap_or(name.len().min(32));
    match name {
        b"system.posix_acl_access" | b"system.posix_acl_default" => "ACL".into(),
        b"security.capability" => "capability".into(),
        _ => format!("{}.*", repo::percent_path(name.get(..end).unwrap_or_default())),
    }
}

fn list_xattrs(fd: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut small = [0u8; 1024];
    let mut large = Vec::new();
    let list = match rustix::fs::flistxattr(fd, small.as_mut_slice()) {
        Ok(len) => small.get(..len).unwrap_or_default(),
        Err(Errno::RANGE) => {
            large.resize(XATTR_BYTES_MAX, 0);
            let len = rustix::fs::flistxattr(fd, large.as_mut_slice())?;
            large.get(..len).unwrap_or_default()
        }
        Err(Errno::OPNOTSUPP) => &[],
        Err(e) => return Err(e.into()),
    };
    Ok(list.split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// What is stamped: an open file, or one opened as a mere path, because opening it would act on a device.
enum On<'a> {
    Open(BorrowedFd<'a>),
    Path(BorrowedFd<'a>),
}

impl On<'_> {
    fn chown(&self, (uid, gid): (u32, u32)) -> io::Result<()> {
        // All bits set means "leave it" to the kernel.
        let (Some(uid), Some(gid)) = (Some(uid).filter(|n| *n != u32::MAX), Some(gid).filter(|n| *n != u32::MAX))
        else {
            return Err(Errno::INVAL.into());
        };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let done = match self {
            On::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            On::Path(fd) => rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH),
        };
        Ok(done?)
    }

    fn chmod(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        let done = match self {
            On::Open(fd) => rustix::fs::fchmod(fd, mode),
            On::Path(fd) => rustix::fs::chmodat(rustix::fs::CWD, magic(*fd), mode, AtFlags::empty()),
        };
        Ok(done?)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            On::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            On::Path(fd) => rustix::fs::setxattr(magic(*fd), name, value, XattrFlags::empty()),
        }
    }

    fn set_time(&self, entry: &Entry) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            last_modification: Timespec { tv_sec: entry.mtime.secs(), tv_nsec: entry.mtime.nanos().into() },
        };
        let done = match self {
            On::Open(fd) => rustix::fs::futimens(fd, &times),
            On::Path(fd) => rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH),
        };
        Ok(done?)
    }
}

/// The name under which the system shows the inode itself that a descriptor stands for, links included.
fn magic(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Names of users and groups.
#[derive(Default)]
struct Names {
    users: HashMap<Vec<u8>, u32>,
    groups: HashMap<Vec<u8>, u32>,
}

impl Names {
    fn of_this_machine() -> Self {
        let read = |path: &str| parse_names(&std::fs::read(path).unwrap_or_default());
        Names { users: read("/etc/passwd"), groups: read("/etc/group") }
    }
}

/// Names and numbers: the first and third field of `/etc/passwd` and `/etc/group` alike.
fn parse_names(text: &[u8]) -> HashMap<Vec<u8>, u32> {
    let lines = text.split(|b| *b == b'\n');
    lines
        .filter_map(|line| {
            let mut fields = line.split(|b| *b == b':');
            let (name, number) = (fields.next()?, fields.nth(1)?);
            Some((name.to_vec(), std::str::from_utf8(number).ok()?.parse().ok()?))
        })
        .collect()
}
