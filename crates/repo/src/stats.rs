//! How large a repository is, and of what.

use crate::error::Result;
use crate::index::Index;
use crate::repository::Repository;
use serde::Serialize;
use store::Shelf;

/// Counts and sizes of a repository.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RepositoryStats {
    /// Live snapshots that the key at hand can see.
    pub snapshots: u64,
    /// Packs.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Index tables.
    pub index_tables: u64,
    /// Their bytes.
    pub index_bytes: u64,
    /// Chunks that the tables name.
    pub chunks: u64,
    /// Runs whose keys are kept.
    pub runs: u64,
    /// Heads.
    pub heads: u64,
    /// Bytes of everything else.
    pub other_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
}

impl Repository {
    /// Counts and sizes, from listings and the index.
    ///
    /// # Errors
    /// Whatever the store returns.
    pub fn stats(&self) -> Result<RepositoryStats> {
        let mut stats = RepositoryStats { snapshots: self.snapshots()?.len() as u64, ..RepositoryStats::default() };
        for shelf in Shelf::ALL {
            let listed = self.store.list(shelf)?;
            let bytes: u64 = listed.iter().map(|object| object.bytes).sum();
            let count = listed.len() as u64;
            stats.total_bytes += bytes;
            match shelf {
                Shelf::Packs => (stats.packs, stats.pack_bytes) = (count, bytes),
                Shelf::Index => (stats.index_tables, stats.index_bytes) = (count, bytes),
                Shelf::Runs => stats.runs = count,
                Shelf::Heads => stats.heads = count,
                _ => {}
            }
            if !matches!(shelf, Shelf::Packs | Shelf::Index) {
                stats.other_bytes += bytes;
            }
        }
        stats.chunks = Index::open(&self.store, &self.trust, &|d| self.keep_key(d))?.entries();
        Ok(stats)
    }
}
