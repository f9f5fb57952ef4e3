//! Reads restored files from the disk again and compares them with the snapshot.
//!
//! It may not know how they were written: it walks the snapshot anew, opens what the target has under each name, and
//! computes what its chunks would be called.

use super::apply::Run;
use super::place::{self, Access};
use super::plan::{Spread, last_name, words};
use super::restored::{AfterCheck, RestoreError, add};
use super::write::read_back;
use repo::{ChunkId, Node};
use rustix::fs::Advice;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Files and chunks compared in one go.
const FILES_MAX: usize = 4_096;
const CHUNKS_MAX: usize = 65_536;
/// Chunks that one thread takes at once.
const TAKEN: usize = 32;

struct Check {
    key: Vec<u8>,
    spread: Spread,
    size: u64,
    mismatch: AtomicBool,
}

/// Why a restored file cannot be read.
#[derive(Clone)]
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
            let Node::File(file) = &located.entry.node else { continue };
            let key = &located.entry.key;
            if !run.pick.of(key, false).picked() || run.tally.has_failed(key) {
                continue;
            }
            let index = batch.files.len();
            let mut offset = 0;
            let mut done = 0;
            batch.files.push(Check {
                key: key.clone(),
                spread: Spread::of(file),
                size: file.size,
                mismatch: AtomicBool::new(false),
            });
            let mut index = index;
            while done < file.chunks {
                let count = (file.chunks - done).min(TAKEN as u64 * 32);
                for id in run.reader.ids(located.first.saturating_add(done), count)? {
                    let len = u64::from(run.reader.locate(&id)?.len());
                    batch.pieces.push(Piece { file: index, id, offset, len });
                    offset += len;
                }
                done += count;
                if batch.pieces.len() >= CHUNKS_MAX && done < file.chunks {
                    batch.compare(run)?;
                    batch.pieces.clear();
                    batch.files.drain(..index);
                    index = 0;
                }
            }
            if batch.files.len() >= FILES_MAX || batch.pieces.len() >= CHUNKS_MAX {
                std::mem::take(&mut batch).finish(run)?;
            }
        }
    }
    batch.finish(run)
}

impl Batch {
    fn finish(self, run: &Run<'_>) -> Result<(), RestoreError> {
        self.compare(run)?;
        for file in &self.files {
            match open(run, &file.key) {
                Ok((_, size)) if size == file.size => {}
                Ok(_) => file.differs(run, "it has another size"),
                Err(Closed::Wrong(why)) => file.differs(run, &why),
                Err(Closed::ToUs) => {
                    run.tally.note(&file.key, "files not read back: this user may not read them");
                    continue;
                }
            }
            add(&run.tally.checked, 1);
        }
        Ok(())
    }

    fn compare(&self, run: &Run<'_>) -> Result<(), RestoreError> {
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<RestoreError>> = Mutex::new(None);
        run.on_lanes(&|| {
            let mut last: Option<(usize, Result<File, Closed>)> = None;
            let mut buffer = vec![0u8; 256 << 10];
            loop {
                let from = next.fetch_add(TAKEN, Ordering::Relaxed);
                let Some(pieces) = self.pieces.get(from..self.pieces.len().min(from + TAKEN)) else { return };
                if pieces.is_empty() {
                    return;
                }
                if let Err(e) = run.check_stop() {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                    return;
                }
                for piece in pieces {
                    let Some(file) = self.files.get(piece.file) else { continue };
                    if last.as_ref().is_none_or(|(index, _)| *index != piece.file) {
                        last = Some((piece.file, open(run, &file.key).map(|(file, _)| file)));
                    }
                    match &last {
                        Some((_, Ok(open))) => piece.compare(run, file, open, &mut buffer),
                        Some((_, Err(Closed::Wrong(why)))) => file.differs(run, why),
                        Some((_, Err(Closed::ToUs))) | None => {}
                    }
                }
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl Check {
    fn differs(&self, run: &Run<'_>, why: &str) {
        if !self.mismatch.swap(true, Ordering::AcqRel) {
            run.tally.problem(&self.key, format!("read back from the disk, {why}"));
        }
    }
}

impl Piece {
    fn compare(&self, run: &Run<'_>, check: &Check, file: &File, buffer: &mut [u8]) {
        let mut data = Vec::with_capacity(usize::try_from(self.len).unwrap_or(0));
        let read =
            read_back(file, &check.spread, self.offset, self.len, buffer, &mut |bytes| data.extend_from_slice(bytes));
        match read {
            Ok(()) if run.reader.id_of(&data) == self.id => {}
            Ok(()) => check.differs(run, "it holds something else"),
            Err(e) => check.differs(run, &format!("it cannot be read: {}", words(&e))),
        }
    }
}

/// The restored file and its size, so that what is read comes from the disk, not from memory.
fn open(run: &Run<'_>, key: &[u8]) -> Result<(File, u64), Closed> {
    let names = run.names(key).unwrap_or_default();
    let (_, above) = names.split_last().ok_or_else(|| Closed::Wrong("it has no name".into()))?;
    let say = |e: std::io::Error| match e.kind() {
        // Its own mode keeps its owner out.
        std::io::ErrorKind::PermissionDenied if !run.tree.me.is_root() => Closed::ToUs,
        _ => Closed::Wrong(format!("it cannot be opened: {}", words(&e))),
    };
    let dir: OwnedFd = run.tree.find(above).map_err(say)?;
    let (file, stat) = place::open(&dir, last_name(key), Access::Read).map_err(say)?;
    // A hint only: where it is refused, memory is compared.
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).ok();
    Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
}
