//! Temporary files and directories of runs that crashed: whoever makes one holds a lock on it, so what nobody holds is a
//! leftover.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use repo::hex;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use store::{Timestamp, World};

/// Younger ones may be about to be locked.
const AGE_MIN: Duration = Duration::from_secs(60);

/// Says that `file` is in use until it is closed.
pub(crate) fn hold(file: &OwnedFd) -> io::Result<()> {
    Ok(flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// Removes everything in `dir` whose name begins with `prefix` and that nobody holds. What cannot be removed stays.
pub(crate) fn sweep(dir: &Path, prefix: &[u8], world: &World) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.as_bytes().starts_with(prefix)) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let (Ok(file), Ok(meta)) = (openat(CWD, &path, flags, Mode::empty()), std::fs::symlink_metadata(&path)) else {
            continue;
        };
        let made = Timestamp::new(meta.mtime(), 0);
        if world.clock.now().since(made) >= AGE_MIN && hold(&file).is_ok() {
            let removed = if meta.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.ok();
        }
    }
    Ok(())
}

/// A private directory, removed with all that is in it on drop, or by the next run after a crash.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Held, so that nobody takes the directory for a leftover.
    _lock: OwnedFd,
}

impl Scratch {
    /// A new directory whose name begins with `prefix` under `under`, which is made when it does not exist. Removes what
    /// crashed runs left there under such names.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn create(under: &Path, prefix: &str, world: &World) -> io::Result<Scratch> {
        DirBuilder::new().recursive(true).mode(0o700).create(under)?;
        sweep(under, prefix.as_bytes(), world)?;
        let path = under.join(format!("{prefix}{}", hex(&world.random::<8>())));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        hold(&lock)?;
        Ok(Scratch { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        std::fs::remove_dir_all(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_and_not_held_goes() {
        let dir = tempfile::tempdir().expect("temp dir");
        let world = World::real();
        let old = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        for name in ["x-old", "x-held", "y-old"] {
            let file = std::fs::File::create(dir.path().join(name)).expect("makes");
            file.set_times(old).expect("sets");
        }
        std::fs::write(dir.path().join("x-new"), "").expect("writes");
        std::fs::DirBuilder::new().mode(0o700).create(dir.path().join("x-dir")).expect("makes");
        std::fs::write(dir.path().join("x-dir/f"), "").expect("writes");
        std::fs::File::open(dir.path().join("x-dir")).and_then(|d| d.set_times(old)).expect("sets");
        let held = std::fs::File::open(dir.path().join("x-held")).expect("opens").into();
        hold(&held).expect("holds");
        sweep(dir.path(), b"x-", &world).expect("sweeps");
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).expect("lists").map(|e| e.expect("is there").file_name()).collect();
        left.sort();
        assert_eq!(left, ["x-held", "x-new", "y-old"]);
    }
}
