//! Metadata of a snapshot as the kernel takes it.
//!
//! It may not know where anything is.

use super::view::Found;
use fuser::{FileAttr, FileType, INodeNo};
use repo::Node;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::Timestamp;

const BLOCK_BYTES: u64 = 512;

/// Who owns what no entry stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    /// Whoever runs this.
    pub(super) fn here() -> Owner {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Owner { uid: uid.as_raw(), gid: gid.as_raw() }
    }
}

/// What `stat` says of something, which has so many names.
pub(super) fn of(found: &Found, ino: INodeNo, names: u32, owner: Owner) -> FileAttr {
    let Some(located) = &found.located else { return directory(ino, UNIX_EPOCH, owner) };
    let entry = &located.entry;
    let time = time(entry.mtime);
    let (size, data, rdev) = match &entry.node {
        Node::File(file) => (file.size, file.data_bytes(), 0),
        Node::Symlink { target } => (target.len() as u64, 0, 0),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => (0, 0, device(*major, *minor)),
        Node::Dir => (4096, 4096, 0),
        Node::Fifo | Node::HardLink { .. } => (0, 0, 0),
    };
    FileAttr {
        ino,
        // The kernel counts with a sign.
        size: size.min(i64::MAX as u64),
        blocks: data.min(i64::MAX as u64).div_ceil(BLOCK_BYTES),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: kind(&entry.node),
        perm: (entry.mode & 0o7777) as u16,
        // Of a directory, one means that nobody counted.
        nlink: names,
        uid: entry.uid,
        gid: entry.gid,
        rdev,
        blksize: 4096,
        flags: 0,
    }
}

/// A directory that is in no snapshot.
pub(super) fn directory(ino: INodeNo, time: SystemTime, owner: Owner) -> FileAttr {
    FileAttr {
        ino,
        size: 4096,
        blocks: 8,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: FileType::Directory,
        perm: 0o555,
        nlink: 1,
        uid: owner.uid,
        gid: owner.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// What it is.
pub(super) fn kind(node: &Node) -> FileType {
    match node {
        Node::File(_) | Node::HardLink { .. } => FileType::RegularFile,
        Node::Dir => FileType::Directory,
        Node::Symlink { .. } => FileType::Symlink,
        Node::Fifo => FileType::NamedPipe,
        Node::CharDevice { .. } => FileType::CharDevice,
        Node::BlockDevice { .. } => FileType::BlockDevice,
    }
}

/// A moment; the epoch for one that no clock shows.
pub(super) fn time(at: Timestamp) -> SystemTime {
    let (secs, nanos) = (at.secs(), Duration::from_nanos(at.nanos().into()));
    let whole = Duration::from_secs(secs.unsigned_abs());
    let whole = if secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// A device number as the kernel packs it into 32 bits.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_the_epoch_and_beyond_all_clocks_are_told() {
        let told = |at: Timestamp| time(at).duration_since(UNIX_EPOCH).map_err(|before| before.duration());
        assert_eq!(told(Timestamp::new(5, 7)), Ok(Duration::new(5, 7)));
        assert_eq!(told(Timestamp::new(-5, 250_000_000)), Err(Duration::new(4, 750_000_000)));
        assert!(told(Timestamp::new(i64::MAX, 999_999_999)).is_ok());
        assert!(told(Timestamp::new(i64::MIN, 0)).is_err() || time(Timestamp::new(i64::MIN, 0)) == UNIX_EPOCH);
    }

    #[test]
    fn device_numbers_are_packed_as_the_kernel_does() {
        for (major, minor) in [(1, 3), (8, 1), (259, 300), (4095, (1 << 20) - 1)] {
            let packed = u64::from(device(major, minor));
            let (high, low) = ((packed >> 8) & 0xfff, (packed & 0xff) | ((packed >> 12) & 0xfff00));
            assert_eq!((high, low), (u64::from(major), u64::from(minor)));
        }
    }
}
