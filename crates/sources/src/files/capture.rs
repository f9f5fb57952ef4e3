//! Capturing trees of files: the plan, and the one function that carries it out.
//!
//! It may not know policies. It reads the tree, and the cache that the previous run left; it gives chunks and entries to
//! [`Capture`], and a report with the next cache to the caller, who commits the first and then puts the second into place.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use repo::{Basis, Capture, Result, SnapshotId};
use store::{Lanes, World};

use super::cache::{Cache, CacheSpec, NextCache};
use super::content::{Ground, Reader};
use super::lanes;
use super::meta::Names;
use super::moving::Moving;
use super::report::{FilesReport, Notes, Progress, Totals};
use super::roots::Roots;
use super::scout::Scout;
use super::select::Select;
use super::storing::Storing;
use super::walk::Walker;
use crate::sqlite::Sqlite;

/// What to capture, and how.
#[derive(Clone)]
pub struct FilesPlan {
    /// The places.
    pub roots: Roots,
    /// What to leave out.
    pub select: Select,
    /// What to do with SQLite databases.
    pub sqlite: Sqlite,
    /// How to remember what was seen; `None` to read everything, and to remember nothing.
    pub cache: Option<CacheSpec>,
    /// A private directory with room for a copy of the largest SQLite database. Made when it does not exist.
    pub scratch: PathBuf,
    /// Where somebody writes meanwhile: what he knows about the tree.
    pub moving: Option<Arc<dyn Moving>>,
    /// Clock, lanes and the request to stop.
    pub world: World,
}

/// What a capture came to.
#[derive(Debug)]
pub struct Captured {
    /// What was done.
    pub report: FilesReport,
    /// What the next run should know, once the snapshot is committed.
    pub cache: Remembered,
}

/// A cache that waits for the commit.
#[derive(Debug)]
pub enum Remembered {
    /// None was asked for.
    Nothing,
    /// It could not be begun.
    Failed(io::Error),
    /// It is written but for its end.
    Next(Box<NextCache>),
}

impl Remembered {
    /// Puts the cache into place, for the next run to read. To be called after the commit with what it returned.
    ///
    /// # Errors
    /// When there is none though one was asked for: the next run will then read every file. Nothing else is lost.
    pub fn finish(self, snapshot: &SnapshotId, basis: &Basis) -> io::Result<()> {
        match self {
            Remembered::Nothing => Ok(()),
            Remembered::Failed(e) => Err(e),
            Remembered::Next(next) => next.finish(snapshot, basis),
        }
    }
}

/// What the previous run over the same roots was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its snapshot, which may be gone since.
    pub snapshot: SnapshotId,
    /// What it found.
    pub totals: Totals,
}

/// The previous run with the same plan, as far as the cache tells: an estimate of what is to be done, for nothing.
pub fn previous(plan: &FilesPlan) -> Option<Previous> {
    let cache = Cache::open_unchecked(plan.cache.as_ref()?, &plan.roots, plan.sqlite)?;
    Some(Previous { snapshot: cache.snapshot, totals: cache.totals })
}

/// Gives everything that `plan` names to `into`, in the order of path keys, and tells `on` now and then how far it is.
/// What cannot be read is named in the report, and the rest goes on. Commits nothing. Leaves what it reads as it is, but for
/// access times where the file system does not let them be left alone, and the `-shm` file that SQLite makes beside the
/// `-wal` of a database that was not closed.
///
/// # Errors
/// `Stopped` when asked to; whatever the repository returns. Never for what is wrong with a file.
pub fn capture(plan: &FilesPlan, into: &mut Capture<'_>, on: &(dyn Fn(Progress<'_>) + Sync)) -> Result<Captured> {
    let FilesPlan { roots, select, sqlite, cache, scratch, moving, world } = plan;
    let old = cache.as_ref().and_then(|spec| Cache::open(spec, roots, *sqlite));
    let next = match cache.as_ref().map(|spec| NextCache::create(spec, roots, *sqlite, world)) {
        None => Remembered::Nothing,
        Some(Err(e)) => Remembered::Failed(e),
        Some(Ok(next)) => Remembered::Next(Box::new(next)),
    };
    let (next, failed) = match next {
        Remembered::Next(next) => (Some(next), Remembered::Nothing),
        other => (None, other),
    };

    let notes = Notes::of(moving.is_some());
    let ground = Ground {
        world,
        notes: &notes,
        sqlite: *sqlite,
        scratch_under: scratch,
        scratch: OnceLock::new(),
        moving: moving.as_deref(),
        vanished: AtomicU64::new(0),
    };
    let lost = AtomicU64::new(0);
    let rehash_every = cache.as_ref().map_or(0, |spec| spec.rehash_every);
    let walker = Walker::new(roots, select, *sqlite, (&notes, &world.stop)).moving(moving.as_deref());
    let scout = Scout::new(walker, &ground, (old.as_ref().map(Cache::records), rehash_every), &lost);
    let cutter = into.cutter();
    let mut storing = Storing {
        trusted: old.as_ref().is_some_and(|old| into.trusts(&old.basis)),
        into,
        roots,
        ground: &ground,
        reader: Reader { ground: &ground, cutter: cutter.clone() },
        names: Names::of_system(),
        old: old.as_ref().map(Cache::records),
        next,
        lost: &lost,
        moved: HashMap::new(),
        report: FilesReport::default(),
        on,
        untold: Totals::default(),
        entries: 0,
        key: Vec::new(),
        ids: Vec::new(),
    };
    let passed = match world.lanes {
        Lanes::Inline => lanes::inline(scout, &ground, &mut storing)?,
        Lanes::Threads(readers) => lanes::threaded(scout, &ground, (readers, cutter), &mut storing)?,
    };
    let (mut report, next) = storing.finish();
    report.covered = passed.covered;
    report.sockets = passed.sockets;
    report.vanished = passed.vanished + ground.vanished.load(Ordering::Relaxed);
    report.excluded = passed.excluded;
    report.problems = notes.take();
    Ok(Captured { report, cache: next.map_or(failed, Remembered::Next) })
}
