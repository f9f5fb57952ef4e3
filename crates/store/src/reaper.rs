//! The right to delete, and to say for how long nobody may, apart from the right to write.

use crate::error::StoreError;
use crate::key::Key;
use crate::lock::{Extended, LockPolicy};
use crate::store::{Backend, Store};
use crate::world::Timestamp;
use std::sync::Arc;

/// Deletes objects by explicit name. Held by keepers only.
#[derive(Clone)]
pub struct Reaper {
    backend: Arc<dyn Backend>,
}

impl Reaper {
    /// The right to delete from `store`. Remote stores are opened with other credentials for this.
    pub fn of(store: &Store) -> Self {
        Reaper { backend: store.backend() }
    }

    /// Deletes the object. `Ok(false)` when it was not there. Durable when it returns.
    ///
    /// # Errors
    /// See [`Backend::delete`].
    pub fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        self.backend.delete(key)
    }

    /// Deletes these objects, those that are not there included; see [`Backend::delete_all`].
    ///
    /// # Errors
    /// See [`Backend::delete_all`].
    pub fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.backend.delete_all(keys)
    }

    /// Sees to it that each of these objects stays locked for at least half of the period of `policy` from `now` on: what would
    /// not is locked for all of it. Costs requests for what is near the end of its lock, or never seen before.
    ///
    /// # Errors
    /// See [`Backend::extend_locks`].
    pub fn extend_locks(&self, keys: &[Key], policy: LockPolicy, now: Timestamp) -> Result<Extended, StoreError> {
        self.backend.extend_locks(keys, policy.enough(now), policy.lock(now))
    }

    /// Removes what dead writers left half done; see [`Backend::tidy`].
    ///
    /// # Errors
    /// See [`Backend::tidy`].
    pub fn tidy(&self) -> Result<u64, StoreError> {
        self.backend.tidy()
    }
}
