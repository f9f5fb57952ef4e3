//! Files of several chunks that are not complete: where they are written, and the few of them that are open.
//!
//! It may not know content. A file that was closed in between is opened again by name and must be the same inode.

use super::apply::Run;
use super::place::{self, Access, Inode};
use super::window::{Onto, Spread, Task};
use rustix::fs::Mode;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files that are open at once.
const OPEN_MAX: usize = 256;

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
pub(super) enum Part {
    /// Beside its name.
    Temporary(Inode),
    /// Over the file that is there.
    InPlace(Inode),
}

impl Parts {
    fn lock(&self) -> MutexGuard<'_, PartsInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a file that was begun is written over the one that is there.
    pub fn is_in_place(&self, id: u64) -> bool {
        self.lock().started.get(&id).is_some_and(|(_, part)| matches!(part, Part::InPlace(_)))
    }

    /// Forgets all that were begun.
    pub fn end_all(&self) -> Vec<(Arc<Task>, Part)> {
        std::mem::take(&mut self.lock().started).into_values().collect()
    }

    /// The file is complete or given up.
    pub fn end(&self, id: u64) -> Option<Part> {
        let mut inner = self.lock();
        if inner.open.remove(&id).is_some() {
            inner.order.retain(|other| *other != id);
        }
        inner.started.remove(&id).map(|(_, part)| part)
    }

    /// The open file that chunks of this task are written to.
    pub fn open(&self, run: &Run<'_>, task: &Arc<Task>) -> io::Result<(Arc<File>, Part)> {
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
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & task.entry.mode | 0o600))?;
    }
    Ok(Some((file, inode)))
}
