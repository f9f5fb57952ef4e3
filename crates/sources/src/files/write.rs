//! Content becomes files: whole ones under their name at once, large ones beside it until they are complete.
//!
//! What it is for: the chunks of a [`Window`] arrive in any order on several threads. A file of one chunk is created
//! when its verified content is in hand. A file of several is written as `.backstay-<random>-<n>.tmp`, its digest is
//! taken from what is on the disk as far as that is complete from the beginning, compared, and only then it gets its
//! name. In a delta restore the chunks of existing files are compared first and only others are fetched.
//! What it may not know: where entries come from (`plan`).
//! Where data comes from and goes: chunks from `SnapshotReader::fetch` to the target.

use super::apply::{Run, weigh};
use super::delta::clear_holes;
use super::parts::Part;
use super::place::{self, Access, Over};
use super::restored::{RestoreError, add, words};
use super::stamp::Before;
use super::window::{Follow, Job, Onto, Piece, Spread, Table, Task, Window};
use repo::{RepoError, Want};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, TryLockError};

const BUFFER_BYTES: usize = 256 << 10;

/// Why a file could not be written.
pub(super) enum Trouble {
    Io(io::Error),
    Content(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Io(error)
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Trouble::Io(errno.into())
    }
}

impl<'a> Run<'a> {
    /// Does the work of a window, and gives the directories that are complete then their metadata, whatever happens.
    ///
    /// # Errors
    /// What stops the restore.
    pub(super) fn apply(&self, window: Window) -> Result<(), RestoreError> {
        let Window { table, wants, links, closing } = window;
        let outcome = self.contents(&table, &wants).and_then(|()| links.iter().try_for_each(|link| self.link(link)));
        self.close(closing);
        self.on_progress();
        outcome
    }

    pub(super) fn contents(&self, table: &Table, wants: &[Want]) -> Result<(), RestoreError> {
        let missing;
        let wants = if table.jobs.iter().any(|job| matches!(job.task.onto, Onto::Same(_))) {
            self.compare(table, wants)?;
            let is_open =
                |want: &&Want| table.of(want.tag).is_some_and(|(piece, _)| !piece.done.load(Ordering::Acquire));
            missing = wants.iter().filter(is_open).cloned().collect::<Vec<_>>();
            missing.as_slice()
        } else {
            wants
        };
        if wants.is_empty() {
            return self.check_stop();
        }
        let outcome = self.reader.fetch(wants, &|want, data| self.receive(table, want, data));
        self.check_stop()?;
        for (index, error) in outcome? {
            if let Some((_, job)) = wants.get(index).and_then(|want| table.of(want.tag)) {
                self.fail(&job.task, &format!("its content cannot be had: {error}"));
            }
        }
        for job in &table.jobs {
            if job.left.load(Ordering::Acquire) > 0 {
                self.fail(&job.task, "its content did not arrive");
            }
        }
        Ok(())
    }

    fn receive(&self, table: &Table, want: &Want, data: &[u8]) -> repo::Result<()> {
        self.check_stop().map_err(|_| RepoError::Stopped)?;
        let Some((piece, job)) = table.of(want.tag) else { return Ok(()) };
        if job.task.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let outcome = if data.len() != piece.len as usize {
            Err(Trouble::Content("a chunk has not the length that the index says".into()))
        } else if job.task.chunks == 1 {
            self.whole(&job.task, data).map(|()| {
                piece.done.store(true, Ordering::Release);
                job.left.store(0, Ordering::Release);
            })
        } else {
            self.part(table, job, piece, data)
        };
        self.tick();
        self.settle_part(&job.task, outcome).map_err(|_| RepoError::Stopped)
    }

    /// Turns a failure into a problem of this file, or stops everything.
    pub(super) fn settle_part(&self, task: &Task, outcome: Result<(), Trouble>) -> Result<(), RestoreError> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Trouble::Content(why)) => {
                self.fail(task, &why);
                Ok(())
            }
            Err(Trouble::Io(e)) => match weigh(self, &e) {
                Some(fatal) => {
                    self.halt(fatal);
                    self.check_stop()
                }
                None => {
                    self.fail(task, &format!("cannot write it: {}", words(&e)));
                    Ok(())
                }
            },
        }
    }

    /// As [`Run::settle_part`], for what fails by system errors only.
    pub(super) fn settle(&self, task: &Task, outcome: io::Result<()>) -> Result<(), RestoreError> {
        self.settle_part(task, outcome.map_err(Trouble::Io))
    }

    /// Notes that a file will not be restored and removes what there is of it.
    pub(super) fn fail(&self, task: &Task, why: &str) {
        if task.failed.swap(true, Ordering::AcqRel) {
            return;
        }
        let part = self.parts.end(task.id);
        if let Some(Part::InPlace(_)) = part {
            let why = format!("{why}; what stood there before may be overwritten in part");
            return self.tally.problem(&task.entry.key, why);
        }
        self.tally.problem(&task.entry.key, why);
        if part.is_some() {
            self.remove_temporary(task);
        }
    }

    fn remove_temporary(&self, task: &Task) {
        let removed = self.tree.handle(&task.dir).and_then(|dir| place::remove(&dir, &self.temporary(task)));
        if let Err(e) = removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }) {
            let name = repo::percent_path(&self.temporary(task));
            self.tally.note(&task.entry.key, format!("the unfinished file {name} could not be removed: {}", words(&e)));
        }
    }

    /// Removes all unfinished files, when a restore ends early.
    pub(super) fn clean(&self) {
        for (task, part) in self.parts.end_all() {
            match part {
                Part::Temporary(_) => self.remove_temporary(&task),
                Part::InPlace(_) => {
                    self.tally
                        .problem(&task.entry.key, "the restore ended early: it may hold a mixture of old and new");
                }
            }
        }
    }

    pub(super) fn count(&self, task: &Task) {
        add(&self.tally.files, 1);
        add(&self.tally.bytes, task.size);
    }

    fn count_written(&self, bytes: u64) {
        add(&self.tally.bytes_written, bytes);
        add(&self.tally.content, bytes);
    }

    pub(super) fn count_unchanged(&self, bytes: u64) {
        add(&self.tally.unchanged_bytes, bytes);
        add(&self.tally.content, bytes);
    }

    /// A file without content, or without anything but holes.
    pub(super) fn empty(&self, task: &Task) -> io::Result<()> {
        if let (Onto::Same(_), 0) = (task.onto, task.size)
            && let Ok((file, stat)) = place::open(self.tree.handle(&task.dir)?, task.name(), Access::Read)
            && stat.st_size == 0
        {
            self.restamp(&file, &task.entry)?;
            self.count(task);
            return Ok(());
        }
        match self.whole(task, &[]) {
            Ok(()) => Ok(()),
            Err(Trouble::Io(e)) => Err(e),
            Err(Trouble::Content(why)) => Err(io::Error::other(why)),
        }
    }

    /// A file whose content is in hand.
    fn whole(&self, task: &Task, data: &[u8]) -> Result<(), Trouble> {
        let dir = self.tree.handle(&task.dir)?;
        let temporary;
        let (mode, before) = self.stamper.creation(&task.entry, task.dir.heirs);
        let name = match task.onto {
            Onto::Nothing => task.name(),
            Onto::Other | Onto::Same(_) => {
                temporary = self.temporary(task);
                temporary.as_slice()
            }
        };
        let file = place::create(&dir, name, mode)?;
        let fill = || -> io::Result<()> {
            let mut rest = data;
            for (offset, len) in task.spread.ranges(0, data.len() as u64) {
                let (now, later) = rest.split_at(usize::try_from(len).unwrap_or(0).min(rest.len()));
                file.write_all_at(now, offset)?;
                rest = later;
            }
            if matches!(task.spread, Spread::Stretches(_)) {
                rustix::fs::ftruncate(&file, task.size)?;
            }
            self.stamper.open(file.as_fd(), &task.entry, before);
            if task.onto != Onto::Nothing {
                place::rename(&dir, name, task.name(), Over::Anything)?;
            }
            Ok(())
        };
        if let Err(e) = fill() {
            return Err(match place::remove(&dir, name) {
                Ok(()) => e.into(),
                Err(left) => {
                    let name = repo::percent_path(name);
                    self.tally.note(
                        &task.entry.key,
                        format!("the unfinished file {name} could not be removed: {}", words(&left)),
                    );
                    e.into()
                }
            });
        }
        self.count(task);
        self.count_written(task.data);
        Ok(())
    }

    fn part(&self, table: &Table, job: &Job, piece: &Piece, data: &[u8]) -> Result<(), Trouble> {
        let task = &job.task;
        let (file, _) = self.parts.open(self, task)?;
        let mut rest = data;
        for (offset, len) in task.spread.ranges(piece.offset, data.len() as u64) {
            let (now, later) = rest.split_at(usize::try_from(len).unwrap_or(0).min(rest.len()));
            file.write_all_at(now, offset)?;
            rest = later;
        }
        self.count_written(data.len() as u64);
        self.arrived(table, job, piece, &file)
    }

    /// A chunk is where it belongs.
    pub(super) fn arrived(&self, table: &Table, job: &Job, piece: &Piece, file: &File) -> Result<(), Trouble> {
        piece.done.store(true, Ordering::Release);
        let is_complete = job.left.fetch_sub(1, Ordering::AcqRel) == 1;
        self.follow(table, job, file, is_complete)?;
        if is_complete && job.is_last() {
            self.finish(&job.task, file)?;
        }
        Ok(())
    }

    /// Takes the digest of what is on the disk, as far as it is complete from the beginning of the file. While another
    /// thread does that this one goes on; whoever brings the last chunk waits and does the rest.
    fn follow(&self, table: &Table, job: &Job, file: &File, is_complete: bool) -> io::Result<()> {
        let task = &job.task;
        if task.digest.is_none() || self.parts.is_in_place(task.id) {
            return Ok(());
        }
        let mut guard = match task.follow.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::WouldBlock) if !is_complete => return Ok(()),
            Err(_) => task.follow.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let follow = guard.get_or_insert_with(|| {
            Box::new(Follow { hasher: blake3::Hasher::new(), chunks: 0, buffer: vec![0; BUFFER_BYTES] })
        });
        let pieces = table.pieces.get(job.first..job.first + job.count).unwrap_or_default();
        let done = usize::try_from(follow.chunks.saturating_sub(job.base)).unwrap_or(usize::MAX);
        for piece in pieces.get(done..).unwrap_or_default() {
            if !piece.done.load(Ordering::Acquire) {
                break;
            }
            let Follow { hasher, buffer, .. } = &mut **follow;
            read_back(file, &task.spread, piece.offset, piece.len.into(), buffer, &mut |bytes| {
                hasher.update(bytes);
            })?;
            follow.chunks += 1;
        }
        Ok(())
    }

    /// All chunks are there: the file is checked, stamped and named.
    fn finish(&self, task: &Arc<Task>, file: &File) -> Result<(), Trouble> {
        let follow = task.follow.lock().unwrap_or_else(PoisonError::into_inner).take();
        let in_place = self.parts.is_in_place(task.id);
        if in_place {
            clear_holes(file, &task.spread, task.size)?;
            self.restamp(file, &task.entry)?;
        } else {
            if let Some(digest) = task.digest
                && follow.is_none_or(|follow| *follow.hasher.finalize().as_bytes() != digest)
            {
                return Err(Trouble::Content("its content is not what was read when it was backed up".into()));
            }
            let (_, before) = self.stamper.creation(&task.entry, task.dir.heirs);
            let mode = before.mode.is_some().then_some(0o600 & !self.tree.me.umask);
            self.stamper.open(file.as_fd(), &task.entry, Before { mode, ..before });
            let over = if task.onto == Onto::Nothing { Over::Nothing } else { Over::Anything };
            place::rename(self.tree.handle(&task.dir)?, &self.temporary(task), task.name(), over)?;
        }
        self.parts.end(task.id);
        self.count(task);
        Ok(())
    }

    pub(super) fn temporary(&self, task: &Task) -> Vec<u8> {
        format!("{}{:x}.tmp", self.token, task.id).into_bytes()
    }

    /// Whether a name is one of this run's unfinished files.
    pub(super) fn is_temporary(&self, name: &[u8]) -> bool {
        name.starts_with(self.token.as_bytes())
    }
}

/// Reads the data of a file that lies at these offsets of its data.
fn read_back(
    file: &File,
    spread: &Spread,
    from: u64,
    len: u64,
    buffer: &mut [u8],
    take: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    for (mut offset, mut left) in spread.ranges(from, len) {
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let Some(space) = buffer.get_mut(..now).filter(|space| !space.is_empty()) else { break };
            file.read_exact_at(space, offset)?;
            take(space);
            offset += now as u64;
            left -= now as u64;
        }
    }
    Ok(())
}
