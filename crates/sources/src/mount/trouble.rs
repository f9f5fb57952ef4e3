//! What is wrong with what is mounted: told to a person once, and to the kernel as a number each time.
//!
//! It may not know who listens.

use fuser::Errno;
use repo::{RepoError, path_of_key};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// How many different troubles are told.
const TOLD_MAX: usize = 1000;

/// Takes a path of a snapshot and what is wrong with it.
pub type OnTrouble = Box<dyn Fn(&[u8], &str) + Send + Sync>;

/// Tells each trouble once.
pub(super) struct Teller {
    say: OnTrouble,
    told: Mutex<HashSet<Vec<u8>>>,
}

impl Teller {
    pub(super) fn new(say: OnTrouble) -> Self {
        Teller { say, told: Mutex::default() }
    }

    /// Tells what is wrong with what has this key, unless that was told, and returns what the kernel is told.
    pub(super) fn tell(&self, key: &[u8], error: &RepoError) -> Errno {
        if !matches!(error, RepoError::Stopped) {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() < TOLD_MAX && told.insert(key.to_vec()) {
                (self.say)(&path_of_key(key), &error.to_string());
            }
        }
        Errno::EIO
    }
}
