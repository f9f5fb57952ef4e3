//! The right to delete, apart from the right to write.

use crate::error::StoreError;
use crate::key::Key;
use crate::store::{Backend, Store};
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

    /// Removes what dead writers left half done; see [`Backend::tidy`].
    ///
    /// # Errors
    /// See [`Backend::tidy`].
    pub fn tidy(&self) -> Result<u64, StoreError> {
        self.backend.tidy()
    }
}
