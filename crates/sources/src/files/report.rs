//! What a capture of files says about itself: counts, problems, progress.
//!
//! It may not know how anything is captured. Filled by `walk`, `content` and `storing`; read by `ops`.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The snapshot is complete, but somebody should know.
    Warning,
    /// Something that was asked for is not in the snapshot, or not whole: the run is incomplete.
    Error,
}

/// Something that did not go as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Absolute path, as bytes.
    pub path: Vec<u8>,
    /// What happened, to be read after the path.
    pub what: String,
    /// How bad it is.
    pub severity: Severity,
}

/// How many problems of each severity are kept; all are counted.
pub const PROBLEMS_KEPT_MAX: usize = 1000;

/// Problems: all counted, the first [`PROBLEMS_KEPT_MAX`] of each severity kept.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    kept: Vec<Problem>,
    warnings: u64,
    errors: u64,
}

impl Problems {
    /// Those that were kept, in the order in which they were found.
    pub fn kept(&self) -> &[Problem] {
        &self.kept
    }

    /// How many warnings there were.
    pub fn warnings(&self) -> u64 {
        self.warnings
    }

    /// How many errors there were: anything but zero means that the snapshot is incomplete.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Counts a problem, and keeps it while there is room.
    pub fn note(&mut self, problem: Problem) {
        let count = match problem.severity {
            Severity::Warning => &mut self.warnings,
            Severity::Error => &mut self.errors,
        };
        *count += 1;
        if *count <= PROBLEMS_KEPT_MAX as u64 {
            self.kept.push(problem);
        }
    }
}

/// Problems noted by several threads.
#[derive(Default)]
pub(crate) struct Notes {
    problems: Mutex<Problems>,
    /// Somebody writes there, and that is as it should be.
    moving: bool,
}

impl Notes {
    pub(crate) fn of(moving: bool) -> Notes {
        Notes { moving, ..Notes::default() }
    }

    /// Something changed or vanished under our hands.
    pub(crate) fn moved(&self, key: &[u8], what: &str) {
        if !self.moving {
            self.warn(key, what);
        }
    }

    pub(crate) fn warn(&self, key: &[u8], what: impl Into<String>) {
        self.note(key, what.into(), Severity::Warning);
    }

    pub(crate) fn fail(&self, key: &[u8], what: impl Into<String>) {
        self.note(key, what.into(), Severity::Error);
    }

    /// All that was noted so far.
    pub(crate) fn take(&self) -> Problems {
        std::mem::take(&mut *self.lock())
    }

    fn note(&self, key: &[u8], what: String, severity: Severity) {
        self.lock().note(Problem { path: repo::path_of_key(key), what, severity });
    }

    fn lock(&self) -> MutexGuard<'_, Problems> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was left out, and why. A directory that was left out counts once, whatever is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excluded {
    /// By a pattern of the plan.
    pub by_pattern: u64,
    /// By an ignore file in the tree.
    pub by_ignore_file: u64,
    /// Because it stands beside a `CACHEDIR.TAG`.
    pub in_caches: u64,
    /// Because it is too large.
    pub too_large: u64,
    /// Mount points of other file systems, kept as empty directories.
    pub other_filesystems: u64,
    /// Mount points of file systems that hold the kernel's state and no data (`/proc`, `/sys`), kept as empty directories.
    pub kernel_filesystems: u64,
}

impl Excluded {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Excluded { by_pattern, by_ignore_file, in_caches, too_large, other_filesystems, kernel_filesystems } = self;
        by_pattern + by_ignore_file + in_caches + too_large + other_filesystems + kernel_filesystems
    }
}

/// What a capture of files did.
#[derive(Clone, Debug, Default)]
pub struct FilesReport {
    /// Regular files stored, hard links not counted.
    pub files: u64,
    /// Directories, the ancestors of the roots among them.
    pub dirs: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files that are stored already.
    pub hard_links: u64,
    /// Devices and named pipes.
    pub others: u64,
    /// Sum of the sizes of the regular files, holes included.
    pub bytes: u64,
    /// Bytes that were really read.
    pub bytes_read: u64,
    /// Files that were not known from the previous run.
    pub files_new: u64,
    /// Files that differ from the previous run.
    pub files_changed: u64,
    /// Files that are as in the previous run.
    pub files_unmodified: u64,
    /// SQLite databases taken through SQLite, already counted as files.
    pub databases: u64,
    /// `-wal`, `-shm` and `-journal` files that a database's copy covers.
    pub covered: u64,
    /// Sockets, which cannot be stored.
    pub sockets: u64,
    /// Things that were gone before they could be read.
    pub vanished: u64,
    /// What was left out on purpose.
    pub excluded: Excluded,
    /// What went wrong.
    pub problems: Problems,
}

/// What happened since the last call.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Entries done since then.
    pub entries: u64,
    /// Bytes of files done since then, unchanged ones included.
    pub bytes: u64,
    /// Path of one of them, as bytes, now and then.
    pub path: Option<&'a [u8]>,
}

/// What the previous run over the same roots found: something to judge progress by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries.
    pub entries: u64,
    /// Bytes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_never_crowd_out_errors() {
        let notes = Notes::default();
        (0..5000).for_each(|n| notes.warn(b"a", format!("{n}")));
        notes.fail(b"etc\0x", "cannot be opened");
        let problems = notes.take();
        assert_eq!((problems.warnings(), problems.errors(), problems.kept().len()), (5000, 1, PROBLEMS_KEPT_MAX + 1));
        assert_eq!(problems.kept().last().map(|p| p.path.as_slice()), Some(&b"/etc/x"[..]));
    }
}
