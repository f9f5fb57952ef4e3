//! What is kept of what is gone: for each snapshot that was forgotten, what it was, who removed it and why
//! (`docs/format.md` §12).
//!
//! A record is written before the head that removes, so that nothing goes without one. Where the head never came, the
//! snapshot is still there and its record says nothing. Records are never deleted: some hundred bytes for each snapshot.

use crate::b64;
use crate::crypt::{Purpose, Secret, open_small, seal_small};
use crate::envelope::{self, Seal};
use crate::error::{RepoError, Result};
use crate::head::Snapshot;
use crate::id::{DomainId, SnapshotId};
use crate::repository::Repository;
use crate::snapshot::Public;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::{Key, Kind, Listed, Shelf};

/// An object is closed when its records have so many bytes: one record more, and it is still far below the most that an
/// envelope may have.
const EVENT_BYTES: usize = 8 << 20;

/// A snapshot that is about to be forgotten.
#[derive(Clone, Debug)]
pub struct Removal<'s> {
    /// Which.
    pub snapshot: &'s Snapshot,
    /// Why, in words.
    pub why: String,
}

/// A snapshot that is gone.
#[derive(Clone, Debug)]
pub struct Removed {
    /// Which it was.
    pub id: SnapshotId,
    /// The domain it belonged to.
    pub domain: DomainId,
    /// When it was removed, RFC 3339, by the clock of who did it.
    pub at: String,
    /// Who removed it.
    pub by: String,
    /// Why, in words.
    pub why: String,
    /// Its tags when it was removed.
    pub tags: Vec<String>,
    /// What it was.
    pub public: Public,
}

/// An event as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Event {
    v: u32,
    at: String,
    removed: Vec<Sealed>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    id: SnapshotId,
    domain: DomainId,
    note: String,
}

#[derive(Serialize, Deserialize)]
struct Note {
    by: String,
    why: String,
    tags: Vec<String>,
    public: Public,
}

impl Repository {
    /// Keeps a record of snapshots that are about to be forgotten. Durable when it returns. Comes before
    /// [`Repository::forget`].
    ///
    /// # Errors
    /// `NotAuthorised` without a keeper's key; whatever the store returns.
    pub fn note_removals(&self, removals: &[Removal<'_>], by: &str) -> Result<()> {
        let signing = self.keyring.keeping()?;
        let at = crate::time::text(self.world.clock.now());
        let mut event = Event { v: 1, at, removed: Vec::new() };
        for (number, removal) in removals.iter().enumerate() {
            event.removed.push(self.seal_removal(removal, by)?);
            let bytes: usize = event.removed.iter().map(|sealed| sealed.note.len()).sum();
            if bytes >= EVENT_BYTES || number + 1 == removals.len() {
                let object = envelope::close(Seal::Event, self.trust.repository, &signing, &event)?;
                let name = blake3::hash(&object).to_hex();
                self.store.put_new(&Key::new(Shelf::Events, name.as_str()).expect("a hash is a good name"), &object)?;
                event.removed.clear();
            }
        }
        Ok(())
    }

    fn seal_removal(&self, removal: &Removal<'_>, by: &str) -> Result<Sealed> {
        let Removal { snapshot, why } = removal;
        let keep_key = self.keep_key(snapshot.domain);
        let keep_key = keep_key
            .ok_or_else(|| RepoError::NotAuthorised { needed: "keeper", held: self.keyring.role().name().into() })?;
        let note =
            Note { by: by.to_owned(), why: why.clone(), tags: snapshot.tags.clone(), public: snapshot.public.clone() };
        let plain = serde_json::to_vec(&note).map_err(|e| RepoError::Limit(format!("event: {e}")))?;
        let aad = [&b"BSEV note"[..], &self.trust.repository.0, &snapshot.domain.0, &snapshot.id.0];
        let sealed = seal_small(Purpose::Public, &keep_key, self.world.random(), &aad, &plain);
        Ok(Sealed { id: snapshot.id, domain: snapshot.domain, note: b64::encode(&sealed) })
    }

    /// The snapshots that were removed, as far as the key at hand can see them: the last removed comes last. Records that
    /// are damaged are left out; [`Repository::verify`] names them.
    ///
    /// # Errors
    /// Whatever the store returns.
    pub fn removed(&self) -> Result<Vec<Removed>> {
        let state = self.state()?;
        let domains = self.keyring.domains();
        let mut found: BTreeMap<SnapshotId, Removed> = BTreeMap::new();
        for listed in self.store.list(Shelf::Events)? {
            let Ok(event) = self.event(&listed)? else { continue };
            for sealed in event.removed {
                let seen = domains.as_ref().is_none_or(|own| own.contains(&sealed.domain));
                let Some(keep_key) = self.keep_key(sealed.domain).filter(|_| seen) else { continue };
                if state.records.contains_key(&sealed.id) {
                    continue;
                }
                let Some(note) = self.open_removal(&sealed, &keep_key) else { continue };
                let Note { by, why, tags, public } = note;
                let at = event.at.clone();
                let removed = Removed { id: sealed.id, domain: sealed.domain, at, by, why, tags, public };
                // Two keepers may have removed it at the same time: the first did.
                match found.get(&sealed.id) {
                    Some(known) if known.at <= removed.at => {}
                    _ => drop(found.insert(sealed.id, removed)),
                }
            }
        }
        let mut removed: Vec<Removed> = found.into_values().collect();
        removed.sort_by(|a, b| (&a.at, &a.public.time, a.id).cmp(&(&b.at, &b.public.time, b.id)));
        Ok(removed)
    }

    fn open_removal(&self, sealed: &Sealed, keep_key: &Secret) -> Option<Note> {
        let bytes = b64::decode(&sealed.note)?;
        let aad = [&b"BSEV note"[..], &self.trust.repository.0, &sealed.domain.0, &sealed.id.0];
        serde_json::from_slice(&open_small(Purpose::Public, keep_key, &aad, &bytes)?).ok()
    }

    /// One record, or what is wrong with it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) fn event(&self, listed: &Listed) -> Result<std::result::Result<Event, RepoError>> {
        let object = match self.store.get_checked(&listed.key) {
            Ok(object) => object,
            Err(e) if matches!(e.kind, Kind::Corrupt | Kind::Absent) => return Ok(Err(e.into())),
            Err(e) => return Err(e.into()),
        };
        let opened = envelope::open::<Event>(Seal::Event, &self.trust, &object);
        Ok(opened.and_then(|(event, signer)| match self.trust.was_keeper(signer) && event.v == 1 {
            true => Ok(event),
            false => {
                Err(RepoError::damaged(listed.key.path(), "was made by somebody who may not, or by a later version"))
            }
        }))
    }
}
