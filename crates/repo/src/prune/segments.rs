//! Segments that no snapshot needs any more.
//!
//! What it is for: a snapshot names the first segment that it needs; of an archive that has snapshots, what is before the first
//! of the oldest can bring nothing back. An archive without snapshots is left as it is.
//! What it may not know: what segments are. Where data comes from and goes: the public parts of all snapshots; names of
//! objects that are deleted.

use super::{Act, Keeper};
use crate::error::Result;
use crate::head::Snapshot;
use crate::id::DomainId;
use std::collections::BTreeMap;
use store::Key;

impl Keeper<'_, '_> {
    /// Deletes the segments that come before everything that a snapshot needs; a preview counts them.
    pub(super) fn expire_segments(&mut self, snapshots: &[Snapshot]) -> Result<()> {
        let mut oldest: BTreeMap<(DomainId, &str), u64> = BTreeMap::new();
        for snapshot in snapshots {
            let Some(segments) = &snapshot.public.segments else { continue };
            let first = oldest.entry((snapshot.domain, &segments.ledger)).or_insert(u64::MAX);
            *first = (*first).min(segments.first.number);
        }
        for ((domain, name), first) in oldest {
            let gone = self.repository.ledger_of(name, domain)?.before(first)?;
            self.report.segments_expired += gone.len() as u64;
            self.report.bytes_freed += gone.iter().map(|listed| listed.bytes).sum::<u64>();
            if self.plan.act == Act::Do {
                self.delete_all(&gone.into_iter().map(|listed| listed.key).collect::<Vec<Key>>())?;
            }
        }
        Ok(())
    }
}
