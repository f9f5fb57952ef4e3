//! How large a repository is, and of what.

use crate::error::Result;
use crate::index::Index;
use crate::intent::{self, Process};
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

/// What is under way, or was left by who did not end.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
    /// Who announced work and has not ended it; `None` for who cannot be named with the key at hand.
    pub open: Vec<Option<Process>>,
    /// Lists of packs that wait to be deleted.
    pub condemned: usize,
}

impl Repository {
    /// What is under way, or was left.
    ///
    /// # Errors
    /// Whatever the store returns.
    pub fn leftovers(&self) -> Result<Leftovers> {
        let (announced, _) = intent::announced(&self.store, &self.trust, &|d| self.keep_key(d))?;
        let open = announced.into_values().filter(|intent| !intent.ended).map(|intent| intent.process);
        let lists = intent::condemned(&self.store, &self.trust)?;
        let condemned = lists.iter().filter(|(_, list)| list.of.is_empty()).count();
        Ok(Leftovers { open: open.collect(), condemned })
    }

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
