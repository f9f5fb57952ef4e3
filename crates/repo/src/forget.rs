//! What a keeper says about snapshots: that they go, and notes (tags, holds, verifications).

use crate::error::{RepoError, Result};
use crate::head::{self, Edit, Note, Snapshot, Verified};
use crate::id::SnapshotId;
use crate::repository::Repository;

/// Something to note about a snapshot. What is `None` stays as it is.
#[derive(Clone, Debug)]
pub struct Annotation<'s> {
    /// Which.
    pub snapshot: &'s Snapshot,
    /// All its tags from now on.
    pub tags: Option<Vec<String>>,
    /// Why it must not expire; `Some(None)` releases it.
    pub hold: Option<Option<String>>,
    /// It passed a verification of this depth: `digests` or `decoded`.
    pub verified: Option<&'static str>,
}

impl Repository {
    /// Removes snapshots, by one head. Their data goes with a later prune. Durable when it returns.
    ///
    /// # Errors
    /// `NotAuthorised` without a keeper's key; `NoSnapshot` when one is not there; whatever the store returns.
    pub fn forget(&self, ids: &[SnapshotId]) -> Result<()> {
        let signing = self.keyring.keeping()?;
        let state = self.state()?;
        if let Some(id) = ids.iter().find(|id| !state.records.contains_key(id)) {
            return Err(RepoError::NoSnapshot(id.to_string()));
        }
        if ids.is_empty() {
            return Ok(());
        }
        let mut next = state.next(&self.world);
        next.removes = ids.to_vec();
        head::commit(&self.store, &self.trust, &signing, &next)?;
        Ok(())
    }

    /// Notes something about snapshots, by one head. Durable when it returns.
    ///
    /// # Errors
    /// `NotAuthorised` without a keeper's key; whatever the store returns.
    pub fn annotate(&self, annotations: &[Annotation<'_>]) -> Result<()> {
        let signing = self.keyring.keeping()?;
        if annotations.is_empty() {
            return Ok(());
        }
        let at = crate::time::text(self.world.clock.now());
        let edits: Vec<Edit> = annotations
            .iter()
            .map(|annotation| {
                let keep_key = self.keep_key(annotation.snapshot.domain);
                let held = || RepoError::NotAuthorised { needed: "keeper", held: self.keyring.role().name().into() };
                let note = Note {
                    at: at.clone(),
                    tags: annotation.tags.clone(),
                    hold: annotation.hold.clone(),
                    verified: annotation.verified.map(|depth| Verified { depth: depth.into(), at: at.clone() }),
                };
                head::edit(&self.world, &self.trust, annotation.snapshot, &keep_key.ok_or_else(held)?, &note)
            })
            .collect::<Result<_>>()?;
        let mut next = self.state()?.next(&self.world);
        next.edits = edits;
        head::commit(&self.store, &self.trust, &signing, &next)?;
        Ok(())
    }
}
