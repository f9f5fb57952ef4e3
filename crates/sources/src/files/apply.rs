//! Restores files: the verb.
//!
//! What it is for: [`preview`] says what a restore would do, [`restore`] does it. The repository is taken to be hostile:
//! nothing an entry says leads out of the target, and what gives power over the machine comes back only where
//! [`Special`] says so.
//! What it may not know: how entries were captured, what the caller's flags are called.
//! Where data comes from and goes: a `SnapshotReader` through `plan` (what and in which order), `place` (where) and
//! `write` (content) into the target. Windows of work are planned on one thread while the one before is fetched.

use super::parts::Parts;
use super::pick::Pick;
use super::place::{self, Must, Tree};
use super::plan::Planner;
use super::readback;
pub use super::restored::{
    AfterCheck, Extras, LISTED_MAX, Note, Owner, Problem, Progress, Rebase, RestoreError, RestoreMode, RestorePlan,
    RestoreReport, Special, TargetError,
};
use super::restored::{Tally, words};
use super::stamp::Stamper;
use super::window::Window;
use repo::{FileNode, Node, RepoError, SnapshotReader, Status, is_within, key_of_path, unpercent_path};
use rustix::fs::{FileType, StatVfs};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use store::Lanes;

/// Names of things that would be overwritten, kept in a preview.
const NAMED_MAX: usize = 100;
/// Chunks between two reports of progress.
const TICK_PIECES: u64 = 64;

/// What a restore would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Regular files, hard links included.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symbolic links, pipes and devices.
    pub others: u64,
    /// Sum of the files' sizes, holes included.
    pub bytes: u64,
    /// Things in the target that would be rewritten or replaced: other kind, size or modification time.
    pub overwritten: u64,
    /// The first hundred of them: absolute paths in the snapshot.
    pub overwritten_first: Vec<Vec<u8>>,
    /// Bytes that the target's file system must have free.
    pub needs: u64,
    /// Bytes that it has free for this user.
    pub has: u64,
}

impl Preview {
    /// The refusal, if there is not enough space.
    ///
    /// # Errors
    /// `Full`.
    pub fn check_space(&self, plan: &RestorePlan) -> Result<(), TargetError> {
        if self.needs <= self.has {
            return Ok(());
        }
        Err(TargetError::Full { path: plan.target.clone(), need: self.needs, have: self.has })
    }
}

/// Everything the parts of a restore share.
pub(super) struct Run<'a> {
    pub plan: &'a RestorePlan,
    pub reader: &'a SnapshotReader,
    pub tally: &'a Tally,
    pub tree: Tree,
    pub stamper: Stamper<'a>,
    pub pick: Pick,
    /// Path key of what becomes the target.
    pub base: Vec<u8>,
    /// What has to be walked.
    pub subtrees: Vec<Vec<u8>>,
    /// Never `Auto`.
    pub special: Special,
    pub parts: Parts,
    pub tasks: AtomicU64,
    /// How names of unfinished files begin.
    pub token: String,
    roots: Vec<Vec<u8>>,
    on: &'a (dyn Fn(Progress) + Sync),
    ticks: AtomicU64,
    halted: AtomicBool,
    fatal: Mutex<Option<RestoreError>>,
}

/// Says what a restore by this plan would do, without touching anything.
///
/// # Errors
/// A refusal of the target, a pattern that makes no sense, a snapshot without what was asked for, or the repository's.
pub fn preview(plan: &RestorePlan, reader: &SnapshotReader) -> Result<Preview, RestoreError> {
    let pick = Pick::new(plan)?;
    let base = base_of(plan, reader)?;
    let nearest = place::survey(&plan.target, must(plan))?;
    let space: StatVfs = rustix::fs::statvfs(&nearest).map_err(|e| TargetError::of(&plan.target, &e.into()))?;
    let block = space.f_frsize.max(1);
    let tree = match plan.mode {
        RestoreMode::Delta(_) if plan.target.is_dir() => Some(Tree::open(&plan.target, Must::BeDirectory)?),
        _ => None,
    };
    let mut preview = Preview { has: space.f_bavail.saturating_mul(block), ..Preview::default() };
    for subtree in pick.subtrees(&plan.within) {
        for located in reader.entries(&subtree) {
            if reader.world().stop.requested() {
                return Err(RepoError::Stopped.into());
            }
            let entry = match located {
                Ok(located) => located.entry,
                // The restore names it; the rest can be counted.
                Err(e) if e.is_damage() => continue,
                Err(e) => return Err(e.into()),
            };
            if !pick.of(&entry.key, matches!(entry.node, Node::Dir)).picked() {
                continue;
            }
            let (size, data) = match &entry.node {
                Node::File(file) => (file.size, file.data_bytes()),
                _ => (0, 0),
            };
            match &entry.node {
                Node::File(_) | Node::HardLink { .. } => preview.files += 1,
                Node::Dir => preview.dirs += 1,
                _ => preview.others += 1,
            }
            preview.bytes = preview.bytes.saturating_add(size);
            let there = tree.as_ref().and_then(|tree| stat_of(tree, &base, &entry.key));
            let there_already = there.as_ref().map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512);
            let needed = data.div_ceil(block).saturating_mul(block).saturating_sub(there_already);
            let kind_needs = if matches!(entry.node, Node::Dir) && there.is_none() { block } else { 0 };
            preview.needs = preview.needs.saturating_add(needed).saturating_add(kind_needs);
            if there.is_some_and(|stat| differs(&stat, &entry)) {
                preview.overwritten += 1;
                if preview.overwritten_first.len() < NAMED_MAX {
                    preview.overwritten_first.push(repo::path_of_key(&entry.key));
                }
            }
        }
    }
    Ok(preview)
}

fn stat_of(tree: &Tree, base: &[u8], key: &[u8]) -> Option<rustix::fs::Stat> {
    let names = names_under(base, key)?;
    let (name, above) = names.split_last()?;
    place::look(tree.find(above).ok()?, name).ok()?
}

fn differs(stat: &rustix::fs::Stat, entry: &repo::Entry) -> bool {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let time = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    match &entry.node {
        Node::File(FileNode { size, .. }) => {
            kind != FileType::RegularFile || u64::try_from(stat.st_size) != Ok(*size) || time != entry.mtime.0
        }
        Node::Dir => kind != FileType::Directory,
        Node::HardLink { .. } => kind != FileType::RegularFile,
        Node::Symlink { .. } => kind != FileType::Symlink,
        Node::Fifo => kind != FileType::Fifo,
        Node::CharDevice { .. } => kind != FileType::CharacterDevice,
        Node::BlockDevice { .. } => kind != FileType::BlockDevice,
    }
}

/// Restores by this plan. When this returns `Ok`, everything the report counts is on the disk, and what could not be
/// restored as it was stands among its `problems`. `on` is called from several threads.
///
/// # Errors
/// `Target` before anything was touched, or when it filled up or failed on the way; `Repo(Stopped)` when somebody asked
/// to stop; other errors of the repository that leave nothing to go on with. In all these cases files that were
/// complete stay, unfinished ones are removed.
pub fn restore(
    plan: &RestorePlan,
    reader: &SnapshotReader,
    on: &(dyn Fn(Progress) + Sync),
) -> Result<RestoreReport, RestoreError> {
    let tally = Tally::default();
    let run = Run::begin(plan, reader, &tally, on)?;
    run.complete()?;
    Ok(tally.report())
}

fn must(plan: &RestorePlan) -> Must {
    match plan.mode {
        RestoreMode::NewTarget => Must::BeEmpty,
        RestoreMode::Delta(_) => Must::BeDirectory,
    }
}

/// The path key of what becomes the target, when the snapshot has what is asked for.
fn base_of(plan: &RestorePlan, reader: &SnapshotReader) -> Result<Vec<u8>, RestoreError> {
    let within = plan.within.as_slice();
    let not_there = || RestoreError::NotInSnapshot(repo::path_of_key(within));
    let is_dir = match reader.entries(within).next() {
        _ if within.is_empty() => true,
        None => return Err(not_there()),
        Some(Ok(first)) => first.entry.key != within || matches!(first.entry.node, Node::Dir),
        Some(Err(e)) if e.is_damage() => true,
        Some(Err(e)) => return Err(e.into()),
    };
    Ok(match plan.rebase {
        Rebase::KeepAbsolute => Vec::new(),
        Rebase::StripPrefix if is_dir => within.to_vec(),
        Rebase::StripPrefix => {
            let end = within.iter().rposition(|b| *b == 0).unwrap_or(0);
            within.get(..end).unwrap_or_default().to_vec()
        }
    })
}

/// Path keys of what was backed up. Directories above are in the snapshot only because they lead there.
fn roots(reader: &SnapshotReader) -> Vec<Vec<u8>> {
    let public = &reader.snapshot().public;
    public.paths.iter().filter_map(|path| key_of_path(&unpercent_path(path))).collect()
}

fn names_under<'k>(base: &[u8], key: &'k [u8]) -> Option<Vec<&'k [u8]>> {
    if !is_within(key, base) {
        return None;
    }
    let rest = key.get(base.len()..)?;
    let rest = if base.is_empty() { rest } else { rest.strip_prefix(b"\0").unwrap_or(rest) };
    Some(if rest.is_empty() { Vec::new() } else { rest.split(|b| *b == 0).collect() })
}

/// The end of the restore that a system error amounts to, if it is one.
pub(super) fn weigh(run: &Run<'_>, error: &io::Error) -> Option<RestoreError> {
    let path = run.plan.target.clone();
    let tally = run.tally;
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(TargetError::FilledUp {
            path,
            files: tally.files.load(Ordering::Relaxed),
            bytes: tally.bytes_written.load(Ordering::Relaxed),
        }),
        io::ErrorKind::ReadOnlyFilesystem => Some(TargetError::ReadOnly(path)),
        _ => None,
    }
    .map(RestoreError::from)
}

impl<'a> Run<'a> {
    /// Opens the target, after everything that can be known before was found in order.
    ///
    /// # Errors
    /// As [`restore`], before anything was touched.
    fn begin(
        plan: &'a RestorePlan,
        reader: &'a SnapshotReader,
        tally: &'a Tally,
        on: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Self, RestoreError> {
        let pick = Pick::new(plan)?;
        let base = base_of(plan, reader)?;
        let tree = Tree::open(&plan.target, must(plan))?;
        let special = match plan.special {
            Special::Auto if plan.mode == RestoreMode::NewTarget && tree.me.is_root() => Special::Restore,
            Special::Auto => Special::Never,
            decided => decided,
        };
        Ok(Run {
            plan,
            reader,
            tally,
            stamper: Stamper::new(plan.owner, special, tree.me, tally),
            tree,
            subtrees: pick.subtrees(&plan.within),
            pick,
            base,
            special,
            parts: Parts::default(),
            tasks: AtomicU64::new(0),
            token: format!(".backstay-{}-", repo::hex(&reader.world().random::<8>())),
            roots: roots(reader),
            on,
            ticks: AtomicU64::new(0),
            halted: AtomicBool::new(false),
            fatal: Mutex::new(None),
        })
    }

    /// Restores, syncs, reads back.
    fn complete(&self) -> Result<(), RestoreError> {
        self.check_includes()?;
        if let Err(e) = self.everything() {
            self.clean();
            // The first thread that failed knows why; the others only know that they had to stop.
            let why = self.fatal.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(why.unwrap_or(e));
        }
        rustix::fs::syncfs(self.tree.root_fd()).map_err(|e| TargetError::of(&self.plan.target, &e.into()))?;
        readback::check(self)
    }

    /// The names that lead from the target to the thing with this key; `None` when it is not under the target.
    pub fn names<'k>(&self, key: &'k [u8]) -> Option<Vec<&'k [u8]>> {
        names_under(&self.base, key)
    }

    /// Whether this was backed up for its own sake, not because it leads to what was.
    pub fn is_covered(&self, key: &[u8]) -> bool {
        self.roots.iter().any(|root| is_within(key, root))
    }

    /// Whether what the snapshot does not have may be deleted in what it covers.
    pub fn may_delete(&self) -> bool {
        let is_complete = self.reader.snapshot().public.status == Status::Complete;
        is_complete && self.plan.mode == RestoreMode::Delta(Extras::Delete)
    }

    /// Says which `include` names nothing.
    fn check_includes(&self) -> Result<(), RestoreError> {
        for pattern in &self.plan.include {
            let Some(key) = key_of_path(pattern.as_bytes()) else { continue };
            if pattern.contains(['*', '?', '[', '\\']) {
                continue;
            }
            match self.reader.entries(&key).next() {
                None => self.tally.problem(&key, "the snapshot does not have it"),
                Some(Err(e)) if !e.is_damage() => return Err(e.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes a system error as a problem of this entry, or stops the restore where it concerns everything.
    ///
    /// # Errors
    /// When the target is full or read-only.
    pub(super) fn here(&self, key: &[u8], what: &str, error: &io::Error) -> Result<(), RestoreError> {
        match weigh(self, error) {
            Some(fatal) => Err(fatal),
            None => {
                self.tally.problem(key, format!("{what}: {}", words(error)));
                Ok(())
            }
        }
    }

    /// Ends the restore. The first reason is the one that is told.
    pub fn halt(&self, why: RestoreError) {
        let mut fatal = self.fatal.lock().unwrap_or_else(PoisonError::into_inner);
        fatal.get_or_insert(why);
        self.halted.store(true, Ordering::SeqCst);
    }

    /// # Errors
    /// `Stopped`, whatever the reason: the restore as a whole ends with the reason that [`Run::halt`] was told.
    pub fn check_stop(&self) -> Result<(), RestoreError> {
        if self.halted.load(Ordering::SeqCst) {
            return Err(RepoError::Stopped.into());
        }
        if self.reader.world().stop.requested() { Err(RepoError::Stopped.into()) } else { Ok(()) }
    }

    /// Reports progress now and then.
    pub fn tick(&self) {
        if self.ticks.fetch_add(1, Ordering::Relaxed) % TICK_PIECES == TICK_PIECES - 1 {
            self.on_progress();
        }
    }

    /// Reports progress.
    pub fn on_progress(&self) {
        (self.on)(self.tally.progress());
    }

    /// Runs the same work on every lane until all are done.
    pub fn on_lanes(&self, work: &(dyn Fn() + Sync)) {
        match self.reader.world().lanes {
            Lanes::Inline => work(),
            Lanes::Threads(count) => std::thread::scope(|scope| {
                for _ in 1..count {
                    scope.spawn(work);
                }
                work();
            }),
        }
    }

    fn everything(&self) -> Result<(), RestoreError> {
        if self.reader.world().lanes == Lanes::Inline {
            let mut planner = Planner::new(self);
            let outcome = loop {
                match planner.next() {
                    Ok(Some(window)) => {
                        if let Err(e) = self.apply(window) {
                            break Err(e);
                        }
                    }
                    Ok(None) => break Ok(()),
                    Err(e) => break Err(e),
                }
            };
            self.close(planner.abandon());
            return outcome;
        }
        std::thread::scope(|scope| {
            // No buffer: one window in work, one being planned.
            let (give, take) = mpsc::sync_channel::<Window>(0);
            let planning = scope.spawn(move || {
                let mut planner = Planner::new(self);
                loop {
                    match planner.next() {
                        Ok(Some(window)) => {
                            if let Err(mpsc::SendError(window)) = give.send(window) {
                                let mut closing = window.closing;
                                closing.extend(planner.abandon());
                                return (closing, Ok(()));
                            }
                        }
                        Ok(None) => return (Vec::new(), Ok(())),
                        Err(e) => return (planner.abandon(), Err(e)),
                    }
                }
            });
            let mut outcome = Ok(());
            for window in &take {
                if let Err(e) = self.apply(window) {
                    outcome = Err(e);
                    break;
                }
            }
            drop(take);
            if outcome.is_err() {
                self.halted.store(true, Ordering::SeqCst);
            }
            match planning.join() {
                Ok((closing, planned)) => {
                    // What is there stays usable: its directories are not left closed to everybody.
                    self.close(closing);
                    outcome.and(planned)
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

#[cfg(test)]
mod tests;
