//! A few files kept open, so that looking into an index does not open it each time.
//!
//! It may not know the disk: it hands back what it was handed. Objects never change, so an open file stays right until
//! its object is deleted.

use crate::key::Key;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const OPEN_MAX: usize = 32;

/// The files read last, the latest in front.
#[derive(Default)]
pub(super) struct Handles(Mutex<Held>);

#[derive(Default)]
struct Held {
    files: VecDeque<(Key, Arc<OwnedFd>)>,
    deletions: u64,
}

/// A moment between two deletions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u64);

impl Handles {
    /// The open file of `key`, when it is held.
    pub(super) fn find(&self, key: &Key) -> Option<Arc<OwnedFd>> {
        let mut held = self.lock();
        let at = held.files.iter().position(|(held, _)| held == key)?;
        let entry = held.files.remove(at)?;
        let file = Arc::clone(&entry.1);
        held.files.push_front(entry);
        Some(file)
    }

    /// To be asked before a file is opened that is then given to [`Handles::keep`].
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.lock().deletions)
    }

    /// Holds the open file of `key`, unless something was deleted since `opened`: it could be this object.
    pub(super) fn keep(&self, key: &Key, file: &Arc<OwnedFd>, opened: Epoch) {
        let mut held = self.lock();
        if Epoch(held.deletions) != opened || held.files.iter().any(|(held, _)| held == key) {
            return;
        }
        held.files.truncate(OPEN_MAX - 1);
        held.files.push_front((key.clone(), Arc::clone(file)));
    }

    /// Drops the file of `key`; to be called after its name is gone.
    pub(super) fn forget(&self, key: &Key) {
        let mut held = self.lock();
        held.deletions += 1;
        held.files.retain(|(held, _)| held != key);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::key::Shelf;

    fn key(n: usize) -> Key {
        Key::new(Shelf::Index, format!("{n}")).unwrap()
    }

    fn file() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/dev/null").unwrap().into())
    }

    #[test]
    fn the_file_unused_for_longest_is_closed_first() {
        let handles = Handles::default();
        for n in 0..OPEN_MAX {
            handles.keep(&key(n), &file(), handles.epoch());
        }
        assert!(handles.find(&key(0)).is_some());
        handles.keep(&key(OPEN_MAX), &file(), handles.epoch());
        assert!(handles.find(&key(0)).is_some());
        assert!(handles.find(&key(1)).is_none());
        assert_eq!(handles.lock().files.len(), OPEN_MAX);
    }

    #[test]
    fn a_file_opened_before_a_deletion_is_not_held_after_it() {
        let handles = Handles::default();
        let opened = handles.epoch();
        handles.forget(&key(1));
        handles.keep(&key(1), &file(), opened);
        assert!(handles.find(&key(1)).is_none());
    }
}
