//! A store that takes everything and keeps nothing, over one that is only read: what a dry run writes to.
//!
//! What it may not know: repositories. Where data comes from and goes: reads come from the real store; writes go nowhere.

use std::sync::Arc;
use store::{Backend, Key, Listed, Put, Shelf, Span, Store, StoreError, Warning};

/// The store to read from.
struct Dry(Store);

/// The same store, but what is written to the one returned is thrown away.
pub(crate) fn dry(store: &Store) -> Store {
    Store::new(Arc::new(Dry(store.clone())))
}

impl Backend for Dry {
    fn put_new(&self, _key: &Key, _body: &[u8]) -> Result<Put, StoreError> {
        Ok(Put::New)
    }

    fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError> {
        self.0.get(key, span)
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.0.size(key)
    }

    fn list(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.0.list_prefix(shelf, prefix)
    }

    fn delete(&self, _key: &Key) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn tidy(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn room(&self) -> Option<u64> {
        None
    }

    fn lists_at_once(&self) -> bool {
        self.0.lists_at_once()
    }

    fn reads_at_once(&self) -> usize {
        self.0.reads_at_once()
    }

    fn warnings(&self) -> Vec<Warning> {
        self.0.warnings()
    }

    fn address(&self) -> String {
        self.0.address()
    }
}
