//! Locks on what snapshots need: extended before they run out.
//!
//! What it is for: where the repository asks for locks, everything that a snapshot needs is locked when it is written, and
//! a prune sees to it that it stays so. What nothing needs any more is left to the end of its lock.
//! What it may not know: how a place locks. Where data comes from and goes: what a prune found to be needed, as names; the
//! keeper's right to lock.

use super::{Act, Keeper, PackUse};
use crate::error::{RepoError, Result};
use crate::id::PackId;
use crate::pack::pack_key;
use std::collections::{HashMap, HashSet};
use store::{Key, Kind, Shelf};

/// Small objects that are all needed, for as long as they are there.
const NEEDED: [Shelf; 6] = [Shelf::Root, Shelf::Keys, Shelf::Runs, Shelf::Index, Shelf::Ledger, Shelf::Heads];

impl Keeper<'_, '_> {
    /// Deletes these objects. What a lock keeps is left for a later prune, which finds it again, and said.
    pub(super) fn delete_all(&mut self, keys: &[Key]) -> Result<()> {
        match self.reaper.delete_all(keys) {
            Err(e) if e.kind == Kind::Locked => {
                for key in keys {
                    if self.repository.store.size(key)?.is_some() {
                        self.left.insert(key.clone());
                    }
                }
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Says what locks kept from being deleted, and extends those of all that is needed and would be without one in half a
    /// period. A place without locks has none to extend.
    pub(super) fn extend_locks(&mut self, uses: &HashMap<PackId, PackUse>, repacked: &HashSet<PackId>) -> Result<()> {
        if !self.left.is_empty() {
            let why = format!("{} objects that nothing needs are locked: a later prune deletes them", self.left.len());
            self.report.waiting_for.push(why);
        }
        let repository = self.repository;
        let Some(policy) = repository.lock_policy().filter(|_| self.plan.act == Act::Do) else { return Ok(()) };
        if !repository.store.has_locks().or_else(unseen)? {
            return Ok(());
        }
        let stays = |used: &&PackUse| used.live_records > 0 && !repacked.contains(&used.pack.id);
        let mut keys: Vec<Key> = uses.values().filter(stays).map(|used| pack_key(&used.pack.id)).collect();
        for shelf in NEEDED {
            keys.extend(repository.store.list(shelf)?.into_iter().map(|listed| listed.key));
        }
        keys.retain(|key| !self.left.contains(key));
        keys.sort_unstable();
        let now = repository.world.clock.now();
        self.step("extending locks", 0, keys.len() as u64)?;
        let extended = self.reaper.extend_locks(&keys, policy, now)?;
        self.report.locks_extended = extended.count;
        if self.report.packs_swept > 0 {
            self.report.locked_until = Some(crate::time::text(policy.lock(now).until));
        }
        Ok(())
    }
}

/// Who may not ask whether a place locks finds out by locking.
fn unseen(e: store::StoreError) -> Result<bool> {
    if e.kind == Kind::Denied { Ok(true) } else { Err(RepoError::from(e)) }
}
