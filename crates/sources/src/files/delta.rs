//! Delta restores: what is there already is compared, and only the rest fetched.
//!
//! It may not know packs or entries: a chunk is where it belongs when the bytes there have its name.
//! Where data comes from and goes: existing files are read on all lanes; pieces that are equal are marked as done.

use super::apply::Run;
use super::parts::Part;
use super::place::{self, Access, Inode};
use super::restored::RestoreError;
use super::stamp::Before;
use super::window::{Job, Onto, Piece, Spread, Table, Task};
use super::write::Trouble;
use repo::{Entry, Want};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pieces that one thread compares before it asks for more.
const COMPARE_PIECES: usize = 16;
const ZEROS_BYTES: usize = 256 << 10;

impl Run<'_> {
    /// Compares what is there with what shall be there, on all lanes; what is equal is done.
    pub(super) fn compare(&self, table: &Table, wants: &[Want]) -> Result<(), RestoreError> {
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

    pub(super) fn restamp(&self, file: &File, entry: &Entry) -> io::Result<()> {
        let stat = rustix::fs::fstat(file)?;
        if !self.stamper.matches(file.as_fd(), &stat, entry) {
            self.stamper.open(file.as_fd(), entry, Before::old(&stat));
        }
        Ok(())
    }
}

/// Makes holes of what shall be holes, and zeros where that is impossible.
pub(super) fn clear_holes(file: &File, spread: &Spread, size: u64) -> io::Result<()> {
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
                let zeros = vec![0u8; ZEROS_BYTES];
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
