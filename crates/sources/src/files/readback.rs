//! Reads restored files from the disk again and compares them with the snapshot.
//!
//! It may not know how they were written: it walks the snapshot anew, opens what the target has under each name, and
//! computes what its chunks would be called.

use super::apply::Run;
use super::place::{self, Access};
use super::restored::{AfterCheck, RestoreError, add, words};
use super::window::{Spread, last_name};
use repo::{ChunkId, Located, Node, RepoError};
use rustix::fs::Advice;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Files and chunks compared in one go.
const FILES_MAX: usize = 4_096;
const CHUNKS_MAX: u64 = 65_536;
/// Ids asked for at once.
const IDS_MAX: u64 = 8_192;
/// Chunks that one thread takes at once.
const TAKEN: usize = 32;

struct Check {
    key: Vec<u8>,
    spread: Spread,
    size: u64,
    /// Its place in the snapshot's list of content.
    first: u64,
    chunks: u64,
    state: AtomicU8,
}

/// What is known of a file: nothing yet, that it was opened and has its size, that it differs, that it is closed to us.
const UNSEEN: u8 = 0;
const SEEN: u8 = 1;
const DIFFERS: u8 = 2;
const CLOSED: u8 = 3;

/// Why a restored file cannot be read.
enum Closed {
    ToUs,
    Wrong(String),
}

struct Piece {
    file: usize,
    id: ChunkId,
    offset: u64,
    len: u64,
}

#[derive(Default)]
struct Batch {
    files: Vec<Check>,
    chunks: u64,
    pieces: Vec<Piece>,
}

/// Reads back what the plan restored, if it asks for that.
///
/// # Errors
/// What stops the restore. A file that differs is a problem of the report.
pub(super) fn check(run: &Run<'_>) -> Result<(), RestoreError> {
    if run.plan.check == AfterCheck::None {
        return Ok(());
    }
    let mut batch = Batch::default();
    for subtree in &run.subtrees {
        for located in run.reader.entries(subtree) {
            run.check_stop()?;
            // Entries that cannot be read were named when they should have been restored.
            let Ok(located) = located else { continue };
            let key = &located.entry.key;
            let is_wanted = matches!(located.entry.node, Node::File(_)) && run.pick.of(key, false).picked();
            if is_wanted && !run.tally.has_failed(key) {
                batch.add(&located);
                if batch.files.len() >= FILES_MAX || batch.chunks >= CHUNKS_MAX {
                    std::mem::take(&mut batch).finish(run)?;
                }
            }
        }
    }
    batch.finish(run)
}

impl Batch {
    fn add(&mut self, located: &Located) {
        let Node::File(file) = &located.entry.node else { return };
        self.chunks = self.chunks.saturating_add(file.chunks);
        self.files.push(Check {
            key: located.entry.key.clone(),
            spread: Spread::of(file),
            size: file.size,
            first: located.first,
            chunks: file.chunks,
            state: AtomicU8::new(UNSEEN),
        });
    }

    fn finish(mut self, run: &Run<'_>) -> Result<(), RestoreError> {
        let (mut file, mut done, mut offset) = (0, 0, 0);
        while let Some(check) = self.files.get(file) {
            if done == check.chunks {
                (file, done, offset) = (file + 1, 0, 0);
                continue;
            }
            let first = check.first.saturating_add(done);
            // Neighbouring files are neighbours in the list of content: one question for many of them.
            let mut count = check.chunks - done;
            for next in self.files.get(file + 1..).unwrap_or_default() {
                if count >= IDS_MAX || first.checked_add(count) != Some(next.first) {
                    break;
                }
                count += next.chunks;
            }
            let ids = run.reader.ids(first, count.min(IDS_MAX))?;
            if ids.is_empty() {
                return Err(RepoError::damaged("a list of content", "is shorter than the entries say").into());
            }
            for id in ids {
                while self.files.get(file).is_some_and(|check| done == check.chunks) {
                    (file, done, offset) = (file + 1, 0, 0);
                }
                let len = u64::from(run.reader.locate(&id)?.len());
                self.pieces.push(Piece { file, id, offset, len });
                (done, offset) = (done + 1, offset + len);
            }
            if self.pieces.len() as u64 >= CHUNKS_MAX {
                self.compare(run)?;
                self.pieces.clear();
            }
        }
        self.compare(run)?;
        let mut walker = Walker::new(run);
        for file in &self.files {
            if file.state.load(Ordering::Acquire) == UNSEEN {
                walker.open(file).ok();
            }
            if file.state.load(Ordering::Acquire) != CLOSED {
                add(&run.tally.checked, 1);
            }
        }
        Ok(())
    }

    fn compare(&self, run: &Run<'_>) -> Result<(), RestoreError> {
        let next = AtomicUsize::new(0);
        run.on_lanes(&|| {
            let mut walker = Walker::new(run);
            let mut last: Option<(usize, Option<File>)> = None;
            let mut buffer = Vec::new();
            loop {
                let from = next.fetch_add(TAKEN, Ordering::Relaxed);
                let pieces = self.pieces.get(from..self.pieces.len().min(from + TAKEN)).unwrap_or_default();
                if pieces.is_empty() || run.check_stop().is_err() {
                    return;
                }
                for piece in pieces {
                    let Some(file) = self.files.get(piece.file) else { continue };
                    if last.as_ref().is_none_or(|(index, _)| *index != piece.file) {
                        last = Some((piece.file, walker.open(file).ok()));
                    }
                    if let Some((_, Some(open))) = &last {
                        piece.compare(run, file, open, &mut buffer);
                    }
                }
            }
        });
        run.check_stop()
    }
}

impl Piece {
    fn compare(&self, run: &Run<'_>, check: &Check, file: &File, buffer: &mut Vec<u8>) {
        buffer.resize(usize::try_from(self.len).unwrap_or(0), 0);
        let mut at = 0;
        for (offset, len) in check.spread.ranges(self.offset, self.len) {
            let end = at + usize::try_from(len).unwrap_or(0);
            if let Err(e) = buffer.get_mut(at..end).map_or(Ok(()), |space| file.read_exact_at(space, offset)) {
                return check.differs(run, &format!("it cannot be read: {}", words(&e)));
            }
            at = end;
        }
        if at != buffer.len() || run.reader.id_of(buffer) != self.id {
            check.differs(run, "it holds something else");
        }
    }
}

impl Check {
    fn differs(&self, run: &Run<'_>, why: &str) {
        if self.state.swap(DIFFERS, Ordering::AcqRel) != DIFFERS {
            run.tally.problem(&self.key, format!("read back from the disk, {why}"));
        }
    }
}

/// Opens restored files; neighbours are in the same directory.
struct Walker<'r, 'a> {
    run: &'r Run<'a>,
    dir: Option<(Vec<u8>, OwnedFd)>,
}

impl<'r, 'a> Walker<'r, 'a> {
    fn new(run: &'r Run<'a>) -> Self {
        Walker { run, dir: None }
    }

    /// The file; what is wrong with it is said.
    fn open(&mut self, check: &Check) -> Result<File, ()> {
        match self.try_open(check) {
            Ok(file) => {
                // Only the first that opens it, and never over what another thread found.
                check.state.compare_exchange(UNSEEN, SEEN, Ordering::AcqRel, Ordering::Acquire).ok();
                Ok(file)
            }
            Err(Closed::Wrong(why)) => {
                check.differs(self.run, &why);
                Err(())
            }
            Err(Closed::ToUs) => {
                if check.state.swap(CLOSED, Ordering::AcqRel) != CLOSED {
                    self.run.tally.note(&check.key, "files not read back: this user may not read them");
                }
                Err(())
            }
        }
    }

    fn try_open(&mut self, check: &Check) -> Result<File, Closed> {
        let run = self.run;
        let say = |e: io::Error| match e.kind() {
            // Its own mode keeps its owner out.
            io::ErrorKind::PermissionDenied if !run.tree.me.is_root() => Closed::ToUs,
            _ => Closed::Wrong(format!("it cannot be opened: {}", words(&e))),
        };
        let name = last_name(&check.key);
        let above = check.key.get(..check.key.len() - name.len()).unwrap_or_default();
        if self.dir.as_ref().is_none_or(|(key, _)| key != above) {
            let names = run.names(&check.key).unwrap_or_default();
            let (_, names) = names.split_last().ok_or_else(|| Closed::Wrong("it has no name".into()))?;
            self.dir = Some((above.to_vec(), run.tree.find(names).map_err(say)?));
        }
        let (_, dir) = self.dir.as_ref().ok_or(Closed::ToUs)?;
        let (file, stat) = place::open(dir, name, Access::Read).map_err(say)?;
        if u64::try_from(stat.st_size) != Ok(check.size) {
            return Err(Closed::Wrong("it has another size".into()));
        }
        // So that what is read comes from the disk, not from memory. Where this is refused, memory is compared.
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).ok();
        Ok(file)
    }
}
