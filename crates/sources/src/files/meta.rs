//! Metadata of one thing in the tree: what `stat`, the attributes and the user database say.
//!
//! It reads no content. Extended attributes are read through file descriptors or through `/proc/self/fd`, so that no path
//! is resolved twice.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use repo::{Entry, Node};
use rustix::fs::Stat;
use rustix::io::Errno;
use store::Timestamp;

/// Names of users and groups, from `/etc/passwd` and `/etc/group`: no name service is asked, since one may hang.
#[derive(Default, Debug)]
pub(crate) struct Names {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl Names {
    /// Those of this system; none where the files cannot be read.
    pub(crate) fn of_system() -> Names {
        let read = |path: &str| std::fs::read(Path::new(path)).map(|bytes| parse_names(&bytes)).unwrap_or_default();
        Names { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    /// Puts the names of its owner and group into `entry`.
    pub(crate) fn put_into(&self, entry: &mut Entry) {
        entry.user = self.users.get(&entry.uid).cloned();
        entry.group = self.groups.get(&entry.gid).cloned();
    }
}

/// Lines of `name:password:number:…`; the first name of a number counts, as in the C library.
fn parse_names(bytes: &[u8]) -> HashMap<u32, Vec<u8>> {
    let mut names = HashMap::new();
    for line in bytes.split(|b| *b == b'\n') {
        let mut fields = line.split(|b| *b == b':');
        if let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next())
            && let Some(number) = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok())
            && !name.is_empty()
        {
            names.entry(number).or_insert_with(|| name.to_vec());
        }
    }
    names
}

/// When something changed, as the file system tells it: seconds and nanoseconds since the epoch.
pub(crate) type Moment = (i64, u32);

/// What is compared to see whether something changed. Not the device number: those of network file systems, btrfs
/// subvolumes and LVM snapshots differ with every mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    pub(crate) mtime: Moment,
    pub(crate) ctime: Moment,
    pub(crate) ino: u64,
}

impl Stamp {
    // The field types of `Stat` differ between architectures.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    pub(crate) fn of(stat: &Stat) -> Stamp {
        Stamp {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime.into(), stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime.into(), stat.st_ctime_nsec as u32),
            ino: stat.st_ino.into(),
        }
    }

    /// Whether it may have changed once more after `read_at` without a later time to show for it: file systems stamp with
    /// a clock that ticks slowly, and network ones with another machine's.
    pub(crate) fn is_fresh(&self, read_at: Timestamp) -> bool {
        const SETTLED_SECS: i64 = 2;
        let latest = self.mtime.max(self.ctime);
        Timestamp::new(latest.0, latest.1) > Timestamp::new(read_at.secs() - SETTLED_SECS, read_at.nanos())
    }
}

/// Device and inode: the same file whatever its name.
pub(crate) type FileId = (u64, u64);

#[allow(clippy::useless_conversion)]
pub(crate) fn file_id(stat: &Stat) -> FileId {
    (stat.st_dev.into(), stat.st_ino.into())
}

/// An entry with what `stat` says; names of owners come later.
pub(crate) fn entry(key: Vec<u8>, node: Node, stat: &Stat, xattrs: Xattrs) -> Entry {
    let stamp = Stamp::of(stat);
    Entry {
        key,
        node,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp::new(stamp.mtime.0, stamp.mtime.1),
        xattrs,
        user: None,
        group: None,
        changed: false,
        sqlite: false,
    }
}

/// Extended attributes, sorted by name.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Where attributes are read from.
#[derive(Clone, Copy)]
pub(crate) enum XattrsOf<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// A directory that was opened as a path only.
    Path(BorrowedFd<'a>),
    /// A name in a directory, itself not followed when it is a symbolic link.
    Name(BorrowedFd<'a>, &'a CStr),
}

/// All extended attributes that this process may see; none where the file system has none.
///
/// # Errors
/// `ENOENT` when the thing is gone; what the kernel says else.
pub(crate) fn xattrs(of: XattrsOf<'_>) -> Result<Xattrs, Errno> {
    let path = match of {
        XattrsOf::Open(_) => CString::default(),
        XattrsOf::Path(fd) => proc_path(fd, b""),
        XattrsOf::Name(dir, name) => proc_path(dir, name.to_bytes()),
    };
    let list = sized(256, |buffer| match of {
        XattrsOf::Open(fd) => rustix::fs::flistxattr(fd, buffer),
        XattrsOf::Path(_) => rustix::fs::listxattr(&path, buffer),
        XattrsOf::Name(..) => rustix::fs::llistxattr(&path, buffer),
    });
    let list = match list {
        Ok(list) => list,
        Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        Err(e) => return Err(e),
    };
    let mut found = Xattrs::new();
    for name in list.split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let value = sized(1024, |buffer| match of {
            XattrsOf::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            XattrsOf::Path(_) => rustix::fs::getxattr(&path, name, buffer),
            XattrsOf::Name(..) => rustix::fs::lgetxattr(&path, name, buffer),
        });
        match value {
            Ok(value) => found.push((name.to_bytes().to_vec(), value)),
            // Taken away since it was listed, or listed though it cannot be had (some network file systems).
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(e) => return Err(e),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Calls `read` with a larger buffer until it fits. Attributes of one file are at most 64 KiB each, and their list too.
fn sized(first: usize, read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = [0u8; 1024];
    let first = first.min(buffer.len());
    match read(&mut buffer[..first]) {
        Ok(len) => return Ok(buffer[..len].to_vec()),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e),
    }
    let mut buffer = vec![0; 1 << 16];
    let len = read(&mut buffer)?;
    buffer.truncate(len);
    Ok(buffer)
}

/// A path that leads to `name` in the open directory `dir`, or to `dir` itself when `name` is empty.
fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> CString {
    let mut path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()).into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    CString::new(path).expect("a number and a name without zero bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, XattrFlags};

    #[test]
    fn names_are_read_as_the_c_library_reads_them() {
        let names = parse_names(b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0\n\n#c\nbad:x:no:1\nme:x:1000:1000\n:x:7:7\n");
        assert_eq!(names.len(), 2);
        assert_eq!(names.get(&0).map(Vec::as_slice), Some(&b"root"[..]));
        assert_eq!(names.get(&1000).map(Vec::as_slice), Some(&b"me"[..]));
    }

    #[test]
    fn what_changed_lately_is_not_to_be_trusted() {
        let stamp = |mtime, ctime| Stamp { mtime, ctime, ..Stamp::default() };
        let read_at = Timestamp::new(1000, 500);
        assert!(!stamp((900, 0), (998, 500)).is_fresh(read_at));
        assert!(stamp((900, 0), (998, 501)).is_fresh(read_at));
        assert!(stamp((998, 501), (900, 0)).is_fresh(read_at));
        assert!(stamp((5000, 0), (900, 0)).is_fresh(read_at));
    }

    #[test]
    fn attributes_come_sorted_whatever_way_they_are_read() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("f");
        std::fs::write(&file, "x").expect("writes");
        let large = vec![7; 3000];
        for (name, value) in [("user.z", &b""[..]), ("user.b", &large), ("user.a", b"\0\xff")] {
            match rustix::fs::setxattr(&file, name, value, XattrFlags::empty()) {
                Err(Errno::NOTSUP) => return,
                set => set.expect("sets"),
            }
        }
        let expect: Xattrs = vec![
            (b"user.a".to_vec(), b"\0\xff".to_vec()),
            (b"user.b".to_vec(), large.clone()),
            (b"user.z".to_vec(), Vec::new()),
        ];
        let open = std::fs::File::open(&file).expect("opens");
        let dir_fd = rustix::fs::openat(CWD, dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("opens");
        let users =
            |found: Xattrs| found.into_iter().filter(|(name, _)| name.starts_with(b"user.")).collect::<Xattrs>();
        assert_eq!(users(xattrs(XattrsOf::Open(open.as_fd())).expect("reads")), expect);
        assert_eq!(users(xattrs(XattrsOf::Name(dir_fd.as_fd(), c"f")).expect("reads")), expect);
        let file_path = rustix::fs::openat(CWD, &file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("opens");
        assert_eq!(users(xattrs(XattrsOf::Path(file_path.as_fd())).expect("reads")), expect);
        assert_eq!(xattrs(XattrsOf::Name(dir_fd.as_fd(), c"gone")), Err(Errno::NOENT));
    }

    #[test]
    fn an_entry_has_what_stat_says() {
        let stat = rustix::fs::statat(CWD, c"/", AtFlags::SYMLINK_NOFOLLOW).expect("stats");
        let entry = entry(Vec::new(), Node::Dir, &stat, Xattrs::new());
        assert_eq!(entry.uid, stat.st_uid);
        assert_eq!(entry.mtime.nanos(), Stamp::of(&stat).mtime.1);
        let mut named = entry;
        Names::of_system().put_into(&mut named);
        if named.uid == 0 {
            assert_eq!(named.user.as_deref(), Some(&b"root"[..]));
        }
    }
}
