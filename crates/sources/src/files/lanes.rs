//! Several files at once, stored in order: one thread walks, some read, the caller stores.
//!
//! It may not know what a file is. Memory is bounded: what was read and not yet stored counts against a budget that the
//! walk draws on in order, so that whoever is next to be stored always has its share.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use repo::{Cut, Cutter, RepoError, Result};

use super::content::{Ground, Outcome, Reader, Wanted};
use super::meta::{FileId, file_id};
use super::scout::{Read, Scout, Step};
use super::storing::Storing;
use super::walk::Passed;

/// Files of more bytes than this are handed over piece by piece.
const LARGE_BYTES: u64 = 1 << 20;
/// What may be read ahead of what is stored.
const AHEAD_BYTES_MAX: u64 = 24 << 20;
/// What one large file may have in flight: two pieces waiting or in the making, each with one chunk more than it should
/// have, and the cutter's window.
const LARGE_COST: u64 = 6 << 20;
const PIECE_BYTES: usize = 512 << 10;
/// A batch ends at one of these.
const BATCH_READS_MAX: usize = 64;
const BATCH_BYTES_MAX: u64 = 1 << 20;
const BATCH_DIRS_MAX: usize = 16;
const BATCH_STEPS_MAX: usize = 512;
/// Every batch that waits may keep as many directories open as it has.
const JOBS_WAITING_MAX: usize = 8;
const SLOTS_WAITING_MAX: usize = 64;
const READERS_MAX: usize = 8;

/// What comes next for whoever stores.
enum Slot {
    /// Steps that need no reading.
    Ready(Vec<Step>),
    /// Steps of which some are being read, and what they cost.
    Batch(Receiver<Result<Vec<Step>>>, u64),
    /// A large file.
    Large(Receiver<Piece>),
}

/// What readers do.
enum Job {
    Batch(Vec<Step>, Sender<Result<Vec<Step>>>),
    Large(Box<Wanted>, Sender<Piece>),
}

enum Piece {
    Cuts(Vec<Cut>),
    End(Result<Outcome>, Option<FileId>),
}

/// Walks, reads and stores on the calling thread.
///
/// # Errors
/// `Stopped`; whatever storing returns.
pub(crate) fn inline(mut scout: Scout<'_>, ground: &Ground<'_>, storing: &mut Storing<'_, '_>) -> Result<Passed> {
    let mut steps = 0usize;
    while let Some(step) = scout.next() {
        storing.step(step)?;
        steps += 1;
        if steps.is_multiple_of(BATCH_READS_MAX) {
            storing.tell();
        }
    }
    ended(&scout, ground)
}

/// What the walk passed over, when it came to its end.
fn ended(scout: &Scout<'_>, ground: &Ground<'_>) -> Result<Passed> {
    if ground.world.stop.requested() { Err(RepoError::Stopped) } else { Ok(scout.passed()) }
}

/// Walks on one thread, reads on up to `readers`, and stores on the calling one.
///
/// # Errors
/// `Stopped`; whatever storing returns.
pub(crate) fn threaded(
    scout: Scout<'_>,
    ground: &Ground<'_>,
    (readers, cutter): (usize, Cutter),
    storing: &mut Storing<'_, '_>,
) -> Result<Passed> {
    let budget = Budget::default();
    let (slots_in, slots) = bounded(SLOTS_WAITING_MAX);
    let (jobs_in, jobs) = bounded(JOBS_WAITING_MAX);
    std::thread::scope(|scope| {
        for _ in 0..readers.clamp(1, READERS_MAX) {
            let (jobs, cutter, budget) = (jobs.clone(), cutter.clone(), &budget);
            scope.spawn(move || read(Reader { ground, cutter }, &jobs, budget));
        }
        drop(jobs);
        let walk = scope.spawn(|| Walk { slots: slots_in, jobs: jobs_in, budget: &budget }.run(scout, ground));
        let stored = slots.iter().try_for_each(|slot| store(slot, storing, &budget));
        if stored.is_err() {
            budget.close();
        }
        // Whoever still waits to hand over something finds nobody, and ends.
        drop(slots);
        let walked = walk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        stored.and(walked)
    })
}

struct Walk<'b> {
    slots: Sender<Slot>,
    jobs: Sender<Job>,
    budget: &'b Budget,
}

impl Walk<'_> {
    fn run(self, mut scout: Scout<'_>, ground: &Ground<'_>) -> Result<Passed> {
        let mut batch = Batch::default();
        while let Some(step) = scout.next() {
            match step {
                Step::File(wanted) if size_of(&wanted) > LARGE_BYTES => {
                    self.send(std::mem::take(&mut batch))?;
                    self.send_large(wanted)?;
                }
                step => {
                    batch.push(step);
                    if batch.is_full() {
                        self.send(std::mem::take(&mut batch))?;
                    }
                }
            }
        }
        self.send(batch)?;
        ended(&scout, ground)
    }

    fn send(&self, batch: Batch) -> Result<()> {
        if batch.reads == 0 {
            return self.slots.send(Slot::Ready(batch.steps)).map_err(|_| RepoError::Stopped);
        }
        self.budget.take(batch.bytes)?;
        let (done, result) = bounded(1);
        self.jobs.send(Job::Batch(batch.steps, done)).map_err(|_| RepoError::Stopped)?;
        self.slots.send(Slot::Batch(result, batch.bytes)).map_err(|_| RepoError::Stopped)
    }

    fn send_large(&self, wanted: Box<Wanted>) -> Result<()> {
        self.budget.take(LARGE_COST)?;
        let (pieces_in, pieces) = bounded(1);
        self.jobs.send(Job::Large(wanted, pieces_in)).map_err(|_| RepoError::Stopped)?;
        self.slots.send(Slot::Large(pieces)).map_err(|_| RepoError::Stopped)
    }
}

/// Steps that belong together.
#[derive(Default)]
struct Batch {
    steps: Vec<Step>,
    reads: usize,
    bytes: u64,
    dirs: BTreeSet<i32>,
}

impl Batch {
    fn push(&mut self, step: Step) {
        if let Step::File(wanted) = &step {
            self.reads += 1;
            // Something for the entry and the bookkeeping.
            self.bytes += size_of(wanted) + 512;
            self.dirs.insert(wanted.dir.as_raw_fd());
        }
        self.steps.push(step);
    }

    fn is_full(&self) -> bool {
        self.reads >= BATCH_READS_MAX
            || self.bytes >= BATCH_BYTES_MAX
            || self.dirs.len() >= BATCH_DIRS_MAX
            || self.steps.len() >= BATCH_STEPS_MAX
    }
}

/// Reads until there is nothing more to read.
fn read(mut reader: Reader<'_>, jobs: &Receiver<Job>, budget: &Budget) {
    for job in jobs {
        match job {
            Job::Batch(steps, done) => {
                let steps = steps.into_iter().map(|step| read_step(&mut reader, step, budget)).collect();
                // Nobody to hand it to: the run has ended.
                done.send(steps).ok();
            }
            Job::Large(wanted, pieces) => read_large(&mut reader, &wanted, &pieces),
        }
    }
}

fn read_step(reader: &mut Reader<'_>, step: Step, budget: &Budget) -> Result<Step> {
    let Step::File(wanted) = step else { return Ok(step) };
    if budget.is_closed() {
        return Err(RepoError::Stopped);
    }
    let mut cuts = Vec::new();
    let outcome = reader.take(&wanted, LARGE_BYTES, &mut |cut| {
        cuts.push(cut);
        Ok(())
    })?;
    Ok(match outcome {
        // It grew since the walk saw it; whoever stores reads it then.
        Outcome::TooLarge => Step::File(wanted),
        outcome => Step::Read(Box::new(Read { linked: linked(&wanted), cuts, outcome })),
    })
}

fn read_large(reader: &mut Reader<'_>, wanted: &Wanted, pieces: &Sender<Piece>) {
    let (mut cuts, mut bytes) = (Vec::new(), 0);
    let send = |cuts: Vec<Cut>| pieces.send(Piece::Cuts(cuts)).map_err(|_| RepoError::Stopped);
    let mut outcome = reader.take(wanted, u64::MAX, &mut |cut| {
        bytes += cut.data.len();
        cuts.push(cut);
        if bytes < PIECE_BYTES {
            return Ok(());
        }
        bytes = 0;
        send(std::mem::take(&mut cuts))
    });
    if let Err(e) = send(cuts) {
        outcome = outcome.and(Err(e));
    }
    // Nobody to hand it to: the run has ended.
    pieces.send(Piece::End(outcome, linked(wanted))).ok();
}

fn store(slot: Slot, storing: &mut Storing<'_, '_>, budget: &Budget) -> Result<()> {
    match slot {
        Slot::Ready(steps) => steps.into_iter().try_for_each(|step| storing.step(step))?,
        Slot::Batch(result, cost) => {
            let steps = result.recv().map_err(|_| RepoError::Stopped)??;
            steps.into_iter().try_for_each(|step| storing.step(step))?;
            budget.give_back(cost);
        }
        Slot::Large(pieces) => {
            loop {
                match pieces.recv().map_err(|_| RepoError::Stopped)? {
                    Piece::Cuts(cuts) => storing.chunks(cuts)?,
                    Piece::End(outcome, linked) => break storing.outcome(outcome?, linked)?,
                }
            }
            budget.give_back(LARGE_COST);
        }
    }
    storing.tell();
    Ok(())
}

/// Which file this is, when it has several names.
pub(crate) fn linked(wanted: &Wanted) -> Option<FileId> {
    (wanted.stat.st_nlink > 1).then(|| file_id(&wanted.stat))
}

fn size_of(wanted: &Wanted) -> u64 {
    u64::try_from(wanted.stat.st_size).unwrap_or(0)
}

/// How many bytes are in flight.
#[derive(Default)]
struct Budget {
    used: Mutex<u64>,
    freed: Condvar,
    closed: AtomicBool,
}

impl Budget {
    /// Waits until there is room for so many bytes. One who asks for more than there ever is waits until he is alone.
    fn take(&self, bytes: u64) -> Result<()> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |used: &mut u64| *used > 0 && *used + bytes > AHEAD_BYTES_MAX && !self.is_closed();
        let mut used = self.freed.wait_while(used, full).unwrap_or_else(PoisonError::into_inner);
        *used += bytes;
        if self.is_closed() { Err(RepoError::Stopped) } else { Ok(()) }
    }

    fn give_back(&self, bytes: u64) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) -= bytes;
        self.freed.notify_all();
    }

    /// Nobody stores any more.
    fn close(&self) {
        // Under the lock, so that nobody who is about to wait misses it.
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::SeqCst);
        drop(used);
        self.freed.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}
