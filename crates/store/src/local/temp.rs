//! Files that are being written, and those whose writers died.
//!
//! A writer holds a lock on its file for as long as it lives, so that `tidy` knows dead ones without asking a clock. It
//! may not know what the file becomes.

use crate::world::{Entropy, SystemEntropy};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;

const WRITING_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// How often a writer draws another name when `tidy` took its file in the moment before it was locked.
const TEMP_TRIES_MAX: usize = 16;

/// A file that is being written. The lock on it says that its writer lives; dropped, it is removed.
pub(super) struct Temp<'a> {
    dir: &'a OwnedFd,
    pub(super) name: String,
    pub(super) file: File,
    moved: bool,
}

impl<'a> Temp<'a> {
    /// A new file in the directory `dir`, locked by this process.
    pub(super) fn create(dir: &'a OwnedFd) -> Result<Temp<'a>, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TEMP_TRIES_MAX {
            let name = random_name();
            let file = File::from(rustix::fs::openat(dir, &*name, flags, WRITING_MODE)?);
            let temp = Temp { dir, name, file, moved: false };
            match rustix::fs::flock(&temp.file, FlockOperation::NonBlockingLockExclusive) {
                // `tidy` was quicker and is removing the file.
                Err(Errno::WOULDBLOCK) => continue,
                // Without locks `tidy` cannot take one either, and keeps every file.
                Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(e) => return Err(e),
            }
            // `tidy` may have had the lock and the file already.
            if rustix::fs::fstat(&temp.file)?.st_nlink > 0 {
                return Ok(temp);
            }
        }
        Err(Errno::AGAIN)
    }

    /// Gives the file its final name. `EXIST` when something has that name already.
    pub(super) fn move_to(&mut self, home: &OwnedFd, name: &str) -> Result<(), Errno> {
        match rustix::fs::renameat_with(self.dir, &*self.name, home, name, RenameFlags::NOREPLACE) {
            // The file system (NFS) or a sandbox does not know this call. Not permitted means the same for a link.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => self.link_to(home, name),
            Ok(()) => {
                self.moved = true;
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// As [`Temp::move_to`], where rename cannot promise to replace nothing.
    pub(super) fn link_to(&self, home: &OwnedFd, name: &str) -> Result<(), Errno> {
        // The temporary name goes when this is dropped; if that fails, `tidy` removes it.
        rustix::fs::linkat(self.dir, &*self.name, home, name, AtFlags::empty())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.moved {
            // Best effort: what stays is removed by `tidy` once the lock is gone.
            rustix::fs::unlinkat(self.dir, &*self.name, AtFlags::empty()).ok();
        }
    }
}

/// The temporary file `name`, locked, when its writer is dead.
fn dead(tmp: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |access| rustix::fs::openat(tmp, name, access | flags, Mode::empty());
    // NFS locks exclusively only what is open for writing; a finished file cannot be opened so.
    let file = match open(OFlags::RDWR).or_else(|_| open(OFlags::RDONLY)) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    Ok(rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file))
}

/// How many bytes the temporary file `name` takes up, when its writer is dead.
pub(super) fn bytes_if_dead(tmp: &OwnedFd, name: &CStr) -> Result<Option<u64>, Errno> {
    dead(tmp, name)?.map(|file| Ok(super::file_size(&rustix::fs::fstat(&file)?))).transpose()
}

/// Removes the temporary file `name` unless its writer lives; returns how many bytes that freed.
pub(super) fn remove_if_dead(tmp: &OwnedFd, name: &CStr) -> Result<u64, Errno> {
    let Some(file) = dead(tmp, name)? else { return Ok(0) };
    let stat = rustix::fs::fstat(&file)?;
    match rustix::fs::unlinkat(tmp, name, AtFlags::empty()) {
        // A second name means that the object is in its place and keeps its bytes.
        Ok(()) => Ok(if stat.st_nlink > 1 { 0 } else { super::file_size(&stat) }),
        Err(Errno::NOENT) => Ok(0),
        Err(e) => Err(e),
    }
}

/// A name nobody else draws.
pub(super) fn random_name() -> String {
    let mut bytes = [0u8; 16];
    SystemEntropy.fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}
