//! Segments that no snapshot needs any more.
//!
//! What it is for: a snapshot names the first segment that it needs; of an archive that has snapshots, what is before the first
//! of the oldest can bring nothing back, and parts of a segment that is complete are not needed. An archive without snapshots
//! is left as it is.
//! What it may not know: what segments are. Where data comes from and goes: the public parts of all snapshots; names of
//! objects that are deleted.

use super::{Act, Keeper};
use crate::error::Result;
use crate::head::Snapshot;
use crate::id::DomainId;
use crate::ledger::parts_of;
use std::collections::BTreeMap;
use store::Key;

impl Keeper<'_, '_> {
    /// Deletes segments, and parts of them, that no snapshot needs; a preview counts them.
    pub(super) fn expire_segments(&mut self, snapshots: &[Snapshot]) -> Result<()> {
        let mut oldest: BTreeMap<(DomainId, &str), (u64, u64)> = BTreeMap::new();
        for snapshot in snapshots {
            let Some(segments) = &snapshot.public.segments else { continue };
            let (first, _) = oldest.entry((snapshot.domain, &segments.ledger)).or_insert((u64::MAX, segments.bytes));
            *first = (*first).min(segments.first.number);
        }
        for ((domain, name), (first, bytes)) in oldest {
            let ledger = self.repository.ledger_of(name, domain)?;
            let mut gone = ledger.before(first)?;
            gone.extend(self.repository.ledger_of(&parts_of(name), domain)?.superseded(&ledger, (first, bytes))?);
            self.report.segments_expired += gone.len() as u64;
            self.report.bytes_freed += gone.iter().map(|listed| listed.bytes).sum::<u64>();
            if self.plan.act == Act::Do {
                self.delete_all(&gone.into_iter().map(|listed| listed.key).collect::<Vec<Key>>())?;
            }
        }
        Ok(())
    }
}
