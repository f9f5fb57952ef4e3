//! What a restore is asked to do and what it says afterwards: the plan, the report, the refusals.
//!
//! What it is for: the types between the verb `restore` and whoever calls it.
//! What it may not know: how anything is written.
//! Where data comes from and goes: `ops` fills in a plan; [`Tally`] collects from many threads what becomes the report.

use repo::{RepoError, path_of_key, percent_path};
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

/// How many problems, skipped things and names are kept word for word; all are counted.
pub const LISTED_MAX: usize = 1000;

/// What to restore, where to, and how.
#[derive(Clone, Debug)]
pub struct RestorePlan {
    /// Directory to restore into.
    pub target: PathBuf,
    /// Path key: only this and what is under it; empty for everything.
    pub within: Vec<u8>,
    /// Where in the target things go.
    pub rebase: Rebase,
    /// Only what matches one of these, and what is under it; empty for everything. A pattern is an absolute path of
    /// the snapshot (it and all under it) or one line of a `.gitignore`.
    pub include: Vec<String>,
    /// Nothing that matches one of these; stronger than `include`.
    pub exclude: Vec<String>,
    /// Into nothing, or over what is there.
    pub mode: RestoreMode,
    /// What of devices, setuid bits and privileged attributes comes back.
    pub special: Special,
    /// Who shall own what is restored.
    pub owner: Owner,
    /// What is checked when all is written.
    pub check: AfterCheck,
}

impl RestorePlan {
    /// A plan that restores everything into a new directory.
    pub fn new(target: impl Into<PathBuf>) -> Self {
        RestorePlan {
            target: target.into(),
            within: Vec::new(),
            rebase: Rebase::KeepAbsolute,
            include: Vec::new(),
            exclude: Vec::new(),
            mode: RestoreMode::NewTarget,
            special: Special::Auto,
            owner: Owner::usual(),
            check: AfterCheck::None,
        }
    }
}

/// Where in the target things go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebase {
    /// Under the target at their absolute path: `/etc/hosts` becomes `TARGET/etc/hosts`.
    KeepAbsolute,
    /// What is in the directory `within` comes directly under the target; a file comes under its own name.
    StripPrefix,
}

/// Into nothing, or over what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreMode {
    /// The target must be absent or an empty directory. Nothing that appears there meanwhile is replaced.
    NewTarget,
    /// Into an existing tree. Only chunks that differ are rewritten, in place: while that runs, a file of several
    /// chunks holds a mixture of old and new. Files of one chunk, files with other owners and files with other hard
    /// links are replaced by rename instead. What is of another kind is replaced, symbolic links included: they are
    /// never followed.
    Delta(Extras),
}

/// What becomes of things in the target that the snapshot does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extras {
    /// They stay. A directory that is not empty is not replaced by something else either.
    Keep,
    /// They are deleted, but only inside directories that the snapshot covers and where the patterns would have
    /// restored them, never on another file system, never sockets, and not at all when the snapshot is partial.
    Delete,
}

/// What of devices, setuid and setgid bits and privileged attributes (`security.*`, `trusted.*`) comes back.
///
/// A repository may have been filled by somebody hostile, and these are what turns a restored file into power over
/// the machine. But a restore by root into a new directory is a disaster recovery, and a system without its devices,
/// its `sudo` and its capabilities is not recovered: hence [`Special::Auto`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// As `Restore` when run by root into a new target; otherwise as `Never`.
    Auto,
    /// All of it, as far as the kernel allows.
    Restore,
    /// None of it: devices are skipped and listed, files lose the bits, the attributes are left out and noted.
    Never,
}

/// Who shall own what is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The recorded numbers.
    Numeric,
    /// The numbers that `/etc/passwd` and `/etc/group` of this machine give to the recorded names; the recorded
    /// numbers where a name is not there.
    Names,
    /// Whoever runs the restore.
    Skip,
}

impl Owner {
    /// What is usual for whoever runs this: `Numeric` for root, `Skip` for others.
    pub fn usual() -> Self {
        if rustix::process::geteuid().is_root() { Owner::Numeric } else { Owner::Skip }
    }
}

/// What is checked when all is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterCheck {
    /// Nothing more: chunks were checked before they were written, files of several chunks after.
    None,
    /// Every restored file is read again from the disk and compared.
    ReadBack,
}

/// How far a restore is. Totals come from [`preview`](super::apply::preview).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files that are done, unchanged ones included.
    pub files: u64,
    /// Bytes of content that are done, unchanged ones included.
    pub bytes: u64,
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Regular files restored or found unchanged.
    pub files: u64,
    /// Directories of the snapshot that are there now.
    pub dirs: u64,
    /// Symbolic and hard links.
    pub links: u64,
    /// Pipes and devices.
    pub others: u64,
    /// Sum of the sizes of the files, holes included.
    pub bytes: u64,
    /// Bytes of content that were written.
    pub bytes_written: u64,
    /// Bytes of content that were there already.
    pub unchanged_bytes: u64,
    /// Things deleted because the snapshot does not have them.
    pub deleted: u64,
    /// Files read back from the disk and compared.
    pub checked: u64,
    /// Things left out on purpose, the first [`LISTED_MAX`].
    pub skipped: Vec<Problem>,
    /// How many were left out on purpose.
    pub skipped_count: u64,
    /// What is not as it was, the first [`LISTED_MAX`]. Nothing stands under the name of a file that could not be
    /// restored whole, unless it says so.
    pub problems: Vec<Problem>,
    /// How many things are not as they were.
    pub problem_count: u64,
    /// Metadata that this user or this file system cannot have: one per kind.
    pub notes: Vec<Note>,
}

impl RestoreReport {
    /// Adds what another restore did.
    pub fn add(&mut self, other: RestoreReport) {
        self.files += other.files;
        self.dirs += other.dirs;
        self.links += other.links;
        self.others += other.others;
        self.bytes += other.bytes;
        self.bytes_written += other.bytes_written;
        self.unchanged_bytes += other.unchanged_bytes;
        self.deleted += other.deleted;
        self.checked += other.checked;
        self.skipped.extend(other.skipped);
        self.skipped_count += other.skipped_count;
        self.problems.extend(other.problems);
        self.problem_count += other.problem_count;
        self.notes.extend(other.notes);
    }
}

/// One thing that is not as it was, or was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Absolute path in the snapshot, as bytes; empty when it concerns no path.
    pub path: Vec<u8>,
    /// What happened.
    pub what: String,
}

/// One kind of metadata that could not be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What was not restored, and why.
    pub what: String,
    /// For how many things.
    pub count: u64,
    /// The first of them: absolute path in the snapshot.
    pub first: Vec<u8>,
}

/// Why nothing, or not everything, was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The target cannot be used, or cannot any longer.
    #[error("{0}")]
    Target(#[from] TargetError),
    /// The repository failed, or somebody asked to stop.
    #[error("{0}")]
    Repo(#[from] RepoError),
    /// The snapshot does not have what was asked for.
    #[error("the snapshot has no {}", percent_path(.0))]
    NotInSnapshot(Vec<u8>),
    /// A pattern makes no sense.
    #[error("cannot understand the pattern {pattern:?}: {why}")]
    Pattern {
        /// As given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
}

impl RestoreError {
    /// What the reader can do, in one sentence; empty when the repository's own error says it.
    pub fn help(&self) -> String {
        match self {
            RestoreError::Target(e) => e.help(),
            RestoreError::Repo(_) => String::new(),
            RestoreError::NotInSnapshot(_) => {
                "list what the snapshot holds with `backstay ls`; paths are absolute, as they were backed up".into()
            }
            RestoreError::Pattern { .. } => {
                "give an absolute path, or a pattern as in a .gitignore file: *.log, cache/, /srv/**/tmp".into()
            }
        }
    }
}

/// Why the target cannot be used. Before anything is touched, except for `FilledUp`, and for `Denied` and `ReadOnly`
/// when the system finds out late.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is something in it.
    #[error("cannot restore into {}: it is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// It, or something on the way to it, is not a directory.
    #[error("cannot restore into {}: it is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// It is on a file system that is mounted read-only.
    #[error("cannot restore into {}: the file system is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// This user may not write there.
    #[error("cannot restore into {}: permission denied", .0.display())]
    Denied(PathBuf),
    /// There is not enough space: found by a preview, nothing was written.
    #[error("cannot restore into {}: it needs {need} bytes and {have} are free", path.display())]
    Full {
        /// The target.
        path: PathBuf,
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        have: u64,
    },
    /// Space or quota ran out on the way. What was complete stays, what was not was removed.
    #[error("no space left in {} after {files} files, {bytes} bytes", path.display())]
    FilledUp {
        /// The target.
        path: PathBuf,
        /// Files that are complete.
        files: u64,
        /// Bytes that were written.
        bytes: u64,
    },
    /// The system refused in another way.
    #[error("cannot restore into {}: {why}", path.display())]
    Failed {
        /// The target.
        path: PathBuf,
        /// In the words of the system.
        why: String,
    },
}

impl TargetError {
    /// What the reader can do, in one sentence.
    pub fn help(&self) -> String {
        match self {
            TargetError::NotEmpty(_) => {
                "name a new or empty directory, or restore over what is there with a delta restore".into()
            }
            TargetError::NotADirectory(path) => {
                format!("name a directory, or move {} out of the way", path.display())
            }
            TargetError::ReadOnly(_) => "mount it for writing, or name a directory elsewhere".into(),
            TargetError::Denied(_) => "run this as a user who may write there, or name a directory elsewhere".into(),
            TargetError::Full { need, have, .. } => {
                format!("free {} bytes there, or restore a part with --include", need.saturating_sub(*have))
            }
            TargetError::FilledUp { .. } => {
                "make room there and run a delta restore into it: what is complete is kept".into()
            }
            TargetError::Failed { .. } => "see whether the path exists and the disk is healthy".into(),
        }
    }

    /// The refusal that this system error on `path` amounts to.
    pub fn of(path: &Path, error: &io::Error) -> Self {
        use io::ErrorKind as K;
        let path = path.to_path_buf();
        match error.kind() {
            K::PermissionDenied => TargetError::Denied(path),
            K::ReadOnlyFilesystem => TargetError::ReadOnly(path),
            K::NotADirectory | K::AlreadyExists => TargetError::NotADirectory(path),
            K::StorageFull | K::QuotaExceeded => TargetError::FilledUp { path, files: 0, bytes: 0 },
            _ => TargetError::Failed { path, why: error.to_string() },
        }
    }
}

/// What several threads report while a restore runs.
#[derive(Default)]
pub(super) struct Tally {
    pub files: AtomicU64,
    pub dirs: AtomicU64,
    pub links: AtomicU64,
    pub others: AtomicU64,
    pub bytes: AtomicU64,
    pub bytes_written: AtomicU64,
    pub unchanged_bytes: AtomicU64,
    pub deleted: AtomicU64,
    pub checked: AtomicU64,
    /// Content that is done, for the progress.
    pub content: AtomicU64,
    lists: Mutex<Lists>,
    hasher: RandomState,
}

#[derive(Default)]
struct Lists {
    skipped: Vec<Problem>,
    skipped_count: u64,
    problems: Vec<Problem>,
    problem_count: u64,
    notes: BTreeMap<String, (u64, Vec<u8>)>,
    // Hashes of the keys of what failed: eight bytes each, and a collision only withholds a hard link.
    failed: HashSet<u64>,
}

/// Kinds of notes kept; names of attributes could make any number of them.
const NOTES_MAX: usize = 100;

impl Tally {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes that the thing with this key is not as it was.
    pub fn problem(&self, key: &[u8], what: impl Into<String>) {
        self.problem_without_path(path_of_key(key), what.into(), Some(self.hasher.hash_one(key)));
    }

    /// Notes a problem that concerns no path that is known.
    pub fn trouble(&self, what: impl Into<String>) {
        self.problem_without_path(Vec::new(), what.into(), None);
    }

    fn problem_without_path(&self, path: Vec<u8>, what: String, failed: Option<u64>) {
        let mut lists = self.lists();
        lists.problem_count += 1;
        if lists.problems.len() < LISTED_MAX {
            lists.problems.push(Problem { path, what });
        }
        lists.failed.extend(failed);
    }

    /// Whether a problem was noted for this key.
    pub fn has_failed(&self, key: &[u8]) -> bool {
        self.lists().failed.contains(&self.hasher.hash_one(key))
    }

    /// Notes that the thing with this key was left out on purpose.
    pub fn skip(&self, key: &[u8], what: impl Into<String>) {
        let mut lists = self.lists();
        lists.skipped_count += 1;
        if lists.skipped.len() < LISTED_MAX {
            lists.skipped.push(Problem { path: path_of_key(key), what: what.into() });
        }
        lists.failed.insert(self.hasher.hash_one(key));
    }

    /// Notes that some metadata of the thing with this key could not be restored.
    pub fn note(&self, key: &[u8], what: impl Into<String>) {
        let what = what.into();
        let mut lists = self.lists();
        let full = lists.notes.len() >= NOTES_MAX && !lists.notes.contains_key(&what);
        let what = if full { "other metadata was not restored".to_string() } else { what };
        lists.notes.entry(what).or_insert_with(|| (0, path_of_key(key))).0 += 1;
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress { files: self.files.load(Relaxed), bytes: self.content.load(Relaxed) }
    }

    /// The report.
    pub fn report(&self) -> RestoreReport {
        let lists = self.lists();
        let notes = lists.notes.iter();
        RestoreReport {
            files: self.files.load(Relaxed),
            dirs: self.dirs.load(Relaxed),
            links: self.links.load(Relaxed),
            others: self.others.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed),
            unchanged_bytes: self.unchanged_bytes.load(Relaxed),
            deleted: self.deleted.load(Relaxed),
            checked: self.checked.load(Relaxed),
            skipped: lists.skipped.clone(),
            skipped_count: lists.skipped_count,
            problems: lists.problems.clone(),
            problem_count: lists.problem_count,
            notes: notes
                .map(|(what, (count, first))| Note { what: what.clone(), count: *count, first: first.clone() })
                .collect(),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

/// A system error in plain words, without its number.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match error.kind() {
        io::ErrorKind::AlreadyExists => "something stands there already".into(),
        io::ErrorKind::DirectoryNotEmpty => "a directory that is not empty is in the way".into(),
        _ => {
            let mut chars = text.chars();
            chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
        }
    }
}
