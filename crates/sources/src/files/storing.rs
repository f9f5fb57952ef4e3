//! Storing what was found, in order: the one place that talks to the repository and writes the next cache.
//!
//! It may not know who read what on which thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use repo::{Capture, ChunkId, Cut, Entry, Node, RepoError, Result};
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::cache::{Head, NextCache, Records};
use super::content::{Doubt, Ground, Memory, Outcome, Reader, Taken, Wanted, Was};
use super::lanes::linked;
use super::meta::{FileId, Names};
use super::report::{FilesReport, Progress, Totals};
use super::roots::Roots;
use super::scout::{Link, Plain, Read, Step};
use super::walk::open_parent;

/// The most chunks of one file whose ids are held in memory at once.
const IDS_MAX: u64 = 1 << 20;

pub(crate) struct Storing<'a, 'r> {
    pub(crate) into: &'a mut Capture<'r>,
    pub(crate) roots: &'a Roots,
    pub(crate) ground: &'a Ground<'a>,
    pub(crate) reader: Reader<'a>,
    pub(crate) names: Names,
    /// What the previous run knew, and whether all that it refers to is still stored.
    pub(crate) old: Option<Records>,
    pub(crate) trusted: bool,
    pub(crate) next: Option<Box<NextCache>>,
    /// Of how many unchanged files the repository lacked chunks.
    pub(crate) lost: &'a AtomicU64,
    /// Files whose first name was not stored: what their further names are, once one was.
    pub(crate) moved: HashMap<FileId, Option<Vec<u8>>>,
    pub(crate) report: FilesReport,
    pub(crate) on: &'a (dyn Fn(Progress<'_>) + Sync),
    pub(crate) untold: Totals,
    pub(crate) entries: u64,
    /// Where we are, for messages.
    pub(crate) key: Vec<u8>,
    pub(crate) ids: Vec<ChunkId>,
}

impl Storing<'_, '_> {
    /// Stores one step.
    ///
    /// # Errors
    /// `Stopped`; whatever the repository returns.
    pub(crate) fn step(&mut self, step: Step) -> Result<()> {
        if self.ground.world.stop.requested() {
            return Err(RepoError::Stopped);
        }
        match step {
            Step::Known(number) => self.known(number),
            Step::Plain(plain) => self.plain(*plain),
            Step::Link(link) => self.link(*link),
            Step::File(wanted) => self.file(&wanted),
            Step::Read(read) => {
                let Read { linked, cuts, outcome } = *read;
                self.chunks(cuts)?;
                self.outcome(outcome, linked)
            }
        }
    }

    /// Stores chunks of the file that comes next.
    pub(crate) fn chunks(&mut self, cuts: Vec<Cut>) -> Result<()> {
        for cut in cuts {
            self.untold.bytes += cut.data.len() as u64;
            self.into.chunk(cut)?;
        }
        Ok(())
    }

    /// Stores a file whose chunks were given. `linked`: which file it is, when it has several names.
    pub(crate) fn outcome(&mut self, outcome: Outcome, linked: Option<FileId>) -> Result<()> {
        let taken = match outcome {
            Outcome::Taken(taken) => taken,
            Outcome::Lost | Outcome::TooLarge => {
                self.moved.extend(linked.map(|id| (id, None)));
                return Ok(());
            }
        };
        if let Some(id) = linked {
            match self.moved.get_mut(&id) {
                Some(first) if taken.same => *first = Some(taken.entry.key.clone()),
                None if !taken.same => drop(self.moved.insert(id, None)),
                _ => {}
            }
        }
        self.taken(*taken)
    }

    /// Says what happened since the last time.
    pub(crate) fn tell(&mut self) {
        let Totals { entries, bytes } = std::mem::take(&mut self.untold);
        if entries > 0 || bytes > 0 {
            let path = repo::path_of_key(&self.key);
            (self.on)(Progress { entries, bytes, path: Some(&path) });
        }
    }

    /// The end: the report, and the next cache.
    pub(crate) fn finish(mut self) -> (FilesReport, Option<Box<NextCache>>) {
        self.tell();
        if let Some(next) = &mut self.next {
            next.set_totals(Totals { entries: self.entries, bytes: self.report.bytes });
        }
        (self.report, self.next)
    }

    fn known(&mut self, number: u64) -> Result<()> {
        let head = self.old.as_mut().and_then(|old| old.advance_to(number));
        let entry = self.old.as_ref().and_then(Records::entry);
        let (Some(head), Some(entry)) = (head, entry) else { return Err(cache_changed()) };
        if let Node::File(file) = &entry.node {
            if !self.reuse(&head)? {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return self.read_again(&entry.key, Was::Same);
            }
            self.report.files_unmodified += 1;
            self.untold.bytes += file.size;
        }
        self.entry(entry, head.memory, head.age.saturating_add(1))
    }

    /// Gives the chunks of the current old record to the repository, if it still has them all.
    fn reuse(&mut self, head: &Head) -> Result<bool> {
        let Some(old) = &mut self.old else { return Ok(false) };
        if !self.trusted && head.ids > IDS_MAX {
            return Ok(false);
        }
        let mut all = Vec::new();
        loop {
            old.ids(&mut self.ids).ok_or_else(cache_changed)?;
            match self.trusted {
                true if !self.ids.is_empty() => self.into.reuse_unchecked(&self.ids)?,
                true => return Ok(true),
                false if !self.ids.is_empty() => all.append(&mut self.ids),
                // Of chunks that are not all there, none may be noted: so they are asked for in one go.
                false => return self.into.reuse(&all),
            }
        }
    }

    fn plain(&mut self, plain: Plain) -> Result<()> {
        self.entry(plain.entry, plain.memory, 0)
    }

    fn link(&mut self, link: Link) -> Result<()> {
        let Link { mut entry, id } = link;
        match self.moved.get(&id) {
            None => {}
            Some(Some(first)) => entry.node = Node::HardLink { to: first.clone() },
            // The name that it should lead to is not there: this one is the file now.
            Some(None) => return self.read_again(&entry.key, Was::Different),
        }
        self.entry(entry, Memory::default(), 0)
    }

    /// Reads a file here and now and stores it.
    fn file(&mut self, wanted: &Wanted) -> Result<()> {
        let Storing { into, reader, untold, .. } = self;
        let outcome = reader.take(wanted, u64::MAX, &mut |cut| {
            untold.bytes += cut.data.len() as u64;
            into.chunk(cut)
        })?;
        self.outcome(outcome, linked(wanted))
    }

    /// As `file`, for one that has only a name.
    fn read_again(&mut self, key: &[u8], was: Was) -> Result<()> {
        let found = open_parent(self.roots, key)
            .and_then(|(dir, name)| Ok((statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?, dir, name)));
        match found {
            Ok((stat, dir, name)) => self.file(&Wanted { dir: dir.into(), name, key: key.to_vec(), stat, was }),
            Err(Errno::NOENT) => {
                self.ground.vanished.fetch_add(1, Ordering::Relaxed);
                self.ground.notes.moved(key, "vanished before it was read");
                Ok(())
            }
            Err(e) => {
                self.ground.notes.fail(key, format!("cannot be opened: {e}"));
                Ok(())
            }
        }
    }

    fn taken(&mut self, taken: Taken) -> Result<()> {
        let Taken { entry, was, memory, bytes_read, .. } = taken;
        let as_before = match was {
            Was::Unknown | Was::Different => false,
            Was::Same => true,
            Was::Doubted { record, why } => {
                let same = self.is_as_in(record)?;
                if !same && why == Doubt::Due && !entry.sqlite && !entry.changed {
                    let what = "has other content than before, though its size and times are the same: it was changed by \
                                something that hides it, or the disk is failing";
                    self.ground.notes.warn(&entry.key, what);
                }
                same
            }
        };
        match (as_before, was) {
            (true, _) => self.report.files_unmodified += 1,
            (false, Was::Unknown) => self.report.files_new += 1,
            (false, _) => self.report.files_changed += 1,
        }
        self.report.bytes_read += bytes_read;
        self.entry(entry, memory, 0)
    }

    /// Whether the chunks just given are those of this old record.
    fn is_as_in(&mut self, record: u64) -> Result<bool> {
        let Some(old) = &mut self.old else { return Ok(false) };
        let head = old.advance_to(record).ok_or_else(cache_changed)?;
        let mut given = self.into.pending();
        if head.ids != given.len() as u64 {
            return Ok(false);
        }
        while !given.is_empty() {
            old.ids(&mut self.ids).ok_or_else(cache_changed)?;
            match given.strip_prefix(self.ids.as_slice()) {
                Some(rest) if rest.len() < given.len() => given = rest,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Stores an entry whose chunks were given, and remembers it.
    fn entry(&mut self, mut entry: Entry, memory: Memory, age: u32) -> Result<()> {
        if let Some(next) = &mut self.next {
            next.put(&entry, memory, age);
            next.ids(self.into.pending());
        }
        self.names.put_into(&mut entry);
        let report = &mut self.report;
        match &entry.node {
            Node::File(file) => {
                report.files += 1;
                report.bytes += file.size;
                report.databases += u64::from(entry.sqlite);
            }
            Node::Dir => report.dirs += 1,
            Node::Symlink { .. } => report.symlinks += 1,
            Node::HardLink { .. } => report.hard_links += 1,
            Node::Fifo | Node::CharDevice { .. } | Node::BlockDevice { .. } => report.others += 1,
        }
        self.untold.entries += 1;
        self.entries += 1;
        self.into.entry(&entry)?;
        self.key = entry.key;
        Ok(())
    }
}

/// The cache was whole when it was opened.
fn cache_changed() -> RepoError {
    RepoError::Outside(std::io::Error::other(
        "the cache of the previous run was whole, and cannot be read any more: remove it (see --cache-dir)",
    ))
}
