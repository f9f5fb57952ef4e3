//! What a prune found to be needed, and where it lies.

use super::PackUse;
use crate::error::Result;
use crate::id::PackId;
use crate::index::Index;
use std::collections::{HashMap, HashSet};

/// What is needed: per pack, and per table one bit for each record.
pub(super) struct Marks {
    pub(super) uses: HashMap<PackId, PackUse>,
    pub(super) live: Vec<Vec<u64>>,
}

impl Marks {
    /// Where in these packs the records lie that are needed.
    pub(super) fn live_offsets(&self, index: &Index, packs: &HashSet<PackId>) -> Result<HashMap<PackId, HashSet<u32>>> {
        let mut offsets: HashMap<PackId, HashSet<u32>> = HashMap::new();
        for (table, live) in self.live.iter().enumerate() {
            let names = index.table_packs(table);
            if !names.iter().any(|pack| packs.contains(&pack.id)) {
                continue;
            }
            for (number, record) in index.records_of(table)?.iter().enumerate() {
                let pack = names[record.pack as usize].id;
                if packs.contains(&pack) && live[number / 64] & (1 << (number % 64)) != 0 {
                    offsets.entry(pack).or_default().insert(record.at);
                }
            }
        }
        Ok(offsets)
    }
}
