//! Content becomes files: whole ones under their name at once, large ones beside it until they are complete.
//!
//! What it is for: the chunks of a [`Window`] arrive in any order on several threads. A file of one chunk is created
//! when its verified content is in hand. A file of several is written as `.backstay-<random>-<n>.tmp`, its digest is
//! taken from what is on the disk as far as that is complete from the beginning, compared, and only then it gets its
//! name. In a delta restore the chunks of existing files are compared first and only others are fetched.
//! What it may not know: where entries come from (`plan`).
//! Where data comes from and goes: chunks from `SnapshotReader::fetch` to the target.

use super::apply::{Run, weigh};
use super::place::{self, Access, Found, Inode, Over};
use super::plan::{
    Closing, Draft, Follow, Job, Kept, Link, Onto, Piece, Segment, Spread, Table, Task, Window, last_name, words,
};
use super::restored::{Extras, RestoreError, RestoreMode, add};
use super::stamp::{Before, History};
use repo::{Entry, Located, Node, RepoError, Want};
use rustix::fs::{FallocateFlags, FileType, SeekFrom};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Files of several chunks that are open at once.
const OPEN_MAX: usize = 256;
const BUFFER_BYTES: usize = 256 << 10;
/// Pieces that one thread compares before it asks for more.
const COMPARE_PIECES: usize = 16;

/// Files of several chunks that are not complete.
#[derive(Default)]
pub(super) struct Parts {
    inner: Mutex<PartsInner>,
}

#[derive(Default)]
struct PartsInner {
    started: HashMap<u64, (Arc<Task>, Part)>,
    open: HashMap<u64, Arc<File>>,
    order: VecDeque<u64>,
}

/// Where a file of several chunks is written.
#[derive(Clone, Copy)]
enum Part {
    /// Beside its name.
    Temporary(Inode),
    /// Over the file that is there.
    InPlace(Inode),
}

/// Why a file could not be written.
enum Trouble {
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

    fn contents(&self, table: &Table, wants: &[Want]) -> Result<(), RestoreError> {
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
    fn settle_part(&self, task: &Task, outcome: Result<(), Trouble>) -> Result<(), RestoreError> {
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
            let why = format!("{why}; what stood there before is overwritten in part");
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
        let started = std::mem::take(&mut self.parts.lock().started);
        for (task, part) in started.into_values() {
            match part {
                Part::Temporary(_) => self.remove_temporary(&task),
                Part::InPlace(_) => {
                    self.tally
                        .problem(&task.entry.key, "the restore ended early: it may hold a mixture of old and new");
                }
            }
        }
    }

    fn count(&self, task: &Task) {
        add(&self.tally.files, 1);
        add(&self.tally.bytes, task.size);
    }

    fn count_written(&self, bytes: u64) {
        add(&self.tally.bytes_written, bytes);
        add(&self.tally.content, bytes);
    }

    fn count_unchanged(&self, bytes: u64) {
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
    fn arrived(&self, table: &Table, job: &Job, piece: &Piece, file: &File) -> Result<(), Trouble> {
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

    fn temporary(&self, task: &Task) -> Vec<u8> {
        format!("{}{:x}.tmp", self.token, task.id).into_bytes()
    }

    /// Whether a name is one of this run's unfinished files.
    pub(super) fn is_temporary(&self, name: &[u8]) -> bool {
        name.starts_with(self.token.as_bytes())
    }

    fn restamp(&self, file: &File, entry: &Entry) -> io::Result<()> {
        let stat = rustix::fs::fstat(file)?;
        if !self.stamper.matches(file.as_fd(), &stat, entry) {
            self.stamper.open(file.as_fd(), entry, Before::old(&stat));
        }
        Ok(())
    }

    /// Compares what is there with what shall be there, on all lanes; what is equal is done.
    fn compare(&self, table: &Table, wants: &[Want]) -> Result<(), RestoreError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut buffer = Vec::new();
            loop {
                let from = next.fetch_add(COMPARE_PIECES, Ordering::Relaxed);
                let Some(wants) = wants.get(from..wants.len().min(from + COMPARE_PIECES)) else { return };
                for want in wants {
                    let Some((piece, job)) = table.of(want.tag) else { continue };
                    let outcome = self.compare_piece(table, want, piece, job, &mut buffer);
                    if self.check_stop().is_err() || self.settle_part(&job.task, outcome).is_err() {
                        return;
                    }
                    self.tick();
                }
                if wants.is_empty() {
                    return;
                }
            }
        };
        self.on_lanes(&work);
        self.check_stop()
    }

    fn compare_piece(
        &self,
        table: &Table,
        want: &Want,
        piece: &Piece,
        job: &Job,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Trouble> {
        let task = &job.task;
        let Onto::Same(inode) = task.onto else { return Ok(()) };
        if task.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        if task.chunks > 1 {
            let (file, part) = self.parts.open(self, task)?;
            if matches!(part, Part::InPlace(_)) && self.holds(&file, &task.spread, piece, want, buffer) {
                self.count_unchanged(piece.len.into());
                return self.arrived(table, job, piece, &file);
            }
            return Ok(());
        }
        let Ok((file, stat)) = place::open(self.tree.handle(&task.dir)?, task.name(), Access::Read) else {
            return Ok(());
        };
        let size_fits = u64::try_from(stat.st_size).is_ok_and(|size| size == task.size);
        if Inode::of(&stat) == inode && size_fits && self.holds(&file, &task.spread, piece, want, buffer) {
            clear_holes(&file, &task.spread, task.size)?;
            self.restamp(&file, &task.entry)?;
            piece.done.store(true, Ordering::Release);
            job.left.store(0, Ordering::Release);
            self.count_unchanged(task.data);
            self.count(task);
        }
        Ok(())
    }

    /// Whether a file holds this chunk already. What cannot be read is not there.
    fn holds(&self, file: &File, spread: &Spread, piece: &Piece, want: &Want, buffer: &mut Vec<u8>) -> bool {
        let mut small = [0u8; 0];
        let mut whole = std::mem::take(buffer);
        whole.resize(piece.len as usize, 0);
        let mut at = 0;
        let mut read = || -> io::Result<()> {
            for (offset, len) in spread.ranges(piece.offset, piece.len.into()) {
                let end = at + usize::try_from(len).unwrap_or(usize::MAX);
                file.read_exact_at(whole.get_mut(at..end).unwrap_or(&mut small), offset)?;
                at = end;
            }
            Ok(())
        };
        let held = read().is_ok() && at == whole.len() && self.reader.id_of(&whole) == want.id;
        *buffer = whole;
        held
    }

    /// Whether a file with other names is what the entry says in every respect, so that nothing need be touched.
    pub(super) fn is_identical(&self, task: &Task, position: u64) -> io::Result<bool> {
        let dir = self.tree.handle(&task.dir)?;
        let Ok((file, stat)) = place::open(&dir, task.name(), Access::Read) else { return Ok(false) };
        let size_fits = u64::try_from(stat.st_size).is_ok_and(|size| size == task.size);
        if !size_fits || task.data != task.size || !self.stamper.matches(file.as_fd(), &stat, &task.entry) {
            return Ok(false);
        }
        let mut buffer = Vec::new();
        let mut offset = 0u64;
        let mut done = 0u64;
        while done < task.chunks {
            let count = (task.chunks - done).min(1024);
            let Ok(ids) = self.reader.ids(position.saturating_add(done), count) else { return Ok(false) };
            for id in &ids {
                let Ok(len) = self.reader.locate(id).map(|place| u64::from(place.len())) else { return Ok(false) };
                buffer.resize(usize::try_from(len).unwrap_or(0), 0);
                if file.read_exact_at(&mut buffer, offset).is_err() || self.reader.id_of(&buffer) != *id {
                    return Ok(false);
                }
                offset += len;
            }
            done += count;
        }
        if offset != task.size {
            return Ok(false);
        }
        self.count_unchanged(task.data);
        self.count(task);
        Ok(true)
    }

    /// Makes room for something of another kind: only in a delta restore.
    pub(super) fn clear_way(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let RestoreMode::Delta(extras) = self.plan.mode else { return Ok(()) };
        let Some(stat) = place::look(dir, name)? else { return Ok(()) };
        match (FileType::from_raw_mode(stat.st_mode), extras) {
            (FileType::Directory, Extras::Delete) => {
                add(&self.tally.deleted, place::remove_all(dir, name)?.saturating_sub(1));
                Ok(())
            }
            (FileType::Directory, Extras::Keep) => place::remove_dir(dir, name),
            _ => place::remove(dir, name),
        }
    }

    /// A link, pipe or device.
    pub(super) fn other(
        &self,
        entry: &Entry,
        dir: &Arc<place::Dir>,
        make: &dyn Fn(&OwnedFd, &[u8]) -> io::Result<()>,
    ) -> Result<(), RestoreError> {
        let name = last_name(&entry.key);
        let made = self.tree.handle(dir).and_then(|handle| {
            self.clear_way(&handle, name)?;
            make(&handle, name)?;
            self.stamper.named(handle.as_fd(), name, entry);
            Ok(())
        });
        match made {
            Ok(()) => {
                let is_link = matches!(entry.node, Node::Symlink { .. });
                add(if is_link { &self.tally.links } else { &self.tally.others }, 1);
                Ok(())
            }
            Err(e) => self.here(&entry.key, "cannot make it", &e),
        }
    }

    /// The entry of a file that a hard link names, unless there is none, which is said then.
    ///
    /// # Errors
    /// What stops the restore.
    pub(super) fn linked_file(&self, key: &[u8], to: &[u8]) -> Result<Option<Located>, RestoreError> {
        match self.reader.get(to) {
            Ok(Some(located)) if matches!(located.entry.node, Node::File(_)) => return Ok(Some(located)),
            Ok(_) => self.tally.problem(key, "it is a hard link to a file that the snapshot does not have"),
            Err(e) if e.is_damage() => {
                self.tally.problem(key, format!("the entry of the file it is a hard link to cannot be read: {e}"));
            }
            Err(e) => return Err(e.into()),
        }
        Ok(None)
    }

    fn link(&self, link: &Link) -> Result<(), RestoreError> {
        self.check_stop()?;
        if self.tally.has_failed(&link.to) {
            self.tally.problem(&link.key, "the file it is a hard link to could not be restored");
            return Ok(());
        }
        // What stands in an existing tree under that name is ours only if the snapshot has a file there.
        if self.plan.mode != RestoreMode::NewTarget && self.linked_file(&link.key, &link.to)?.is_none() {
            return Ok(());
        }
        match self.try_link(link) {
            Ok(()) => {
                add(&self.tally.links, 1);
                Ok(())
            }
            Err(e) if may_copy(&e) => self.copy(link),
            Err(e) => self.here(&link.key, "cannot make the hard link", &e),
        }
    }

    fn try_link(&self, link: &Link) -> io::Result<()> {
        let names = self.names(&link.to).filter(|names| !names.is_empty());
        let Some((old, above)) = names.as_ref().and_then(|names| names.split_last()) else {
            return Err(Errno::NOENT.into());
        };
        let from = self.tree.find(above)?;
        let dir = self.tree.handle(&link.dir)?;
        let name = last_name(&link.key);
        if self.plan.mode != RestoreMode::NewTarget
            && let (Some(new), Some(old)) = (place::look(&dir, name)?, place::look(&from, old)?)
        {
            if Inode::of(&new) == Inode::of(&old) {
                return Ok(());
            }
            self.clear_way(&dir, name)?;
        }
        Ok(place::link(&from, old, &dir, name)?)
    }

    /// Restores the content of a hard link as a file of its own.
    fn copy(&self, link: &Link) -> Result<(), RestoreError> {
        let Some(mut located) = self.linked_file(&link.key, &link.to)? else { return Ok(()) };
        self.tally.note(&link.key, "hard links that could not be made were restored as files of their own");
        located.entry.key.clone_from(&link.key);
        let position = located.first;
        let Some(task) = self.task(located.entry, position, &link.dir)? else { return Ok(()) };
        let mut rest = Some(Segment::all(task, position));
        while let Some(segment) = rest {
            let mut draft = Draft::default();
            rest = draft.add(segment);
            let Window { table, wants, .. } = draft.resolve(self)?;
            self.contents(&table, &wants)?;
        }
        Ok(())
    }

    /// Gives directories their metadata, in this order.
    pub(super) fn close(&self, closing: Vec<Closing>) {
        for Closing { dir, found, kept } in closing {
            let entry = match kept {
                Kept::Here(entry) => entry,
                Kept::Ask(key) => match self.reader.get(&key) {
                    Ok(Some(located)) => Box::new(located.entry),
                    Ok(None) => continue,
                    Err(e) => {
                        self.tally.problem(&key, format!("its metadata cannot be read: {e}"));
                        continue;
                    }
                },
            };
            let stamp = || -> io::Result<()> {
                let handle = self.tree.handle(&dir)?;
                let stat = rustix::fs::fstat(&handle)?;
                if found == Found::New {
                    self.stamper.open(handle.as_fd(), &entry, Before { history: History::Fresh, ..Before::old(&stat) });
                } else if !self.stamper.matches(handle.as_fd(), &stat, &entry) {
                    self.stamper.open(handle.as_fd(), &entry, Before::old(&stat));
                }
                Ok(())
            };
            if let Err(e) = stamp() {
                self.tally.problem(&entry.key, format!("cannot set its metadata: {}", words(&e)));
            }
            self.tree.forget(&dir);
        }
    }

    /// A directory in `above`, made if it is not there.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn directory(&self, above: &Arc<place::Dir>, name: &[u8]) -> io::Result<(Arc<place::Dir>, Found)> {
        if self.plan.mode != RestoreMode::NewTarget {
            match self.tree.open_dir(above, name) {
                Ok(dir) => return Ok((dir, Found::Existing)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => match Errno::from_io_error(&e) {
                    Some(Errno::NOTDIR | Errno::LOOP) => self.clear_way(&*self.tree.handle(above)?, name)?,
                    _ => return Err(e),
                },
            }
        }
        Ok((self.tree.make_dir(above, name)?, Found::New))
    }
}

/// Whether a hard link failed for a reason that a file of its own does not have: too many links, another file system,
/// no such links here, or no way to the first name.
fn may_copy(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::ACCESS | Errno::NOENT)
    )
}

/// Reads the data of a file that lies at these offsets of its data.
pub(super) fn read_back(
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

/// Makes holes of what shall be holes, and zeros where that is impossible.
fn clear_holes(file: &File, spread: &Spread, size: u64) -> io::Result<()> {
    for (offset, len) in spread.holes(size) {
        let end = offset + len;
        match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) if data < end => {}
            Ok(_) | Err(Errno::NXIO) => continue,
            Err(e) => return Err(e.into()),
        }
        match rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => {
                let zeros = vec![0u8; BUFFER_BYTES];
                let mut at = offset;
                while at < end {
                    let now = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeros.len());
                    file.write_all_at(zeros.get(..now).unwrap_or_default(), at)?;
                    at += now as u64;
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

impl Parts {
    fn lock(&self) -> MutexGuard<'_, PartsInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_in_place(&self, id: u64) -> bool {
        self.lock().started.get(&id).is_some_and(|(_, part)| matches!(part, Part::InPlace(_)))
    }

    /// The file is complete or given up.
    fn end(&self, id: u64) -> Option<Part> {
        let mut inner = self.lock();
        if inner.open.remove(&id).is_some() {
            inner.order.retain(|other| *other != id);
        }
        inner.started.remove(&id).map(|(_, part)| part)
    }

    /// The open file that chunks of this task are written to.
    fn open(&self, run: &Run<'_>, task: &Arc<Task>) -> io::Result<(Arc<File>, Part)> {
        let mut inner = self.lock();
        let started = inner.started.get(&task.id).map(|(_, part)| *part);
        if let (Some(file), Some(part)) = (inner.open.get(&task.id), started) {
            return Ok((Arc::clone(file), part));
        }
        if task.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("it was given up"));
        }
        let dir = run.tree.handle(&task.dir)?;
        let (file, part) = match started {
            Some(part) => {
                let temporary = run.temporary(task);
                let (name, inode) = match part {
                    Part::Temporary(inode) => (temporary.as_slice(), inode),
                    Part::InPlace(inode) => (task.name(), inode),
                };
                let (file, stat) = place::open(&dir, name, Access::Write)?;
                if Inode::of(&stat) != inode {
                    return Err(io::Error::other("somebody replaced it meanwhile"));
                }
                (file, part)
            }
            None => match in_place(&dir, task)? {
                Some((file, inode)) => (file, Part::InPlace(inode)),
                None => {
                    let file = place::create(&dir, &run.temporary(task), 0o600)?;
                    let inode = Inode::of(&rustix::fs::fstat(&file)?);
                    (file, Part::Temporary(inode))
                }
            },
        };
        let file = Arc::new(file);
        inner.started.entry(task.id).or_insert_with(|| (Arc::clone(task), part));
        inner.open.insert(task.id, Arc::clone(&file));
        inner.order.push_back(task.id);
        while inner.order.len() > OPEN_MAX {
            let Some(oldest) = inner.order.pop_front() else { break };
            inner.open.remove(&oldest);
        }
        drop(inner);
        if started.is_none() && (matches!(part, Part::InPlace(_)) || matches!(task.spread, Spread::Stretches(_))) {
            rustix::fs::ftruncate(&*file, task.size)?;
        }
        Ok((file, part))
    }
}

/// The existing file, opened to be rewritten in place; `None` when it has to be written anew.
fn in_place(dir: &OwnedFd, task: &Task) -> io::Result<Option<(File, Inode)>> {
    let Onto::Same(inode) = task.onto else { return Ok(None) };
    // A running program, or a file that its owner may not write: the directory still lets us replace it.
    let Ok((file, stat)) = place::open(dir, task.name(), Access::Write) else { return Ok(None) };
    if Inode::of(&stat) != inode {
        return Ok(None);
    }
    // Whoever shall not read the new content must not read it while it is written.
    let mode = stat.st_mode & 0o7777;
    if mode & !task.entry.mode != 0 {
        rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(mode & task.entry.mode | 0o600))?;
    }
    Ok(Some((file, inode)))
}
