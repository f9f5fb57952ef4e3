//! Mending: writing again what another copy still has, or what can be rebuilt from what is left.
//!
//! It deletes only what is damaged and was replaced, or is worthless; never something sound (borg#3444).

use crate::error::{RepoError, Result};
use crate::head::{self, State};
use crate::id::{HeadId, PackId, RunId, SnapshotId};
use crate::index::{HeaderParts, Index, PackRef, TABLE_ENTRIES_MAX, TableBuilder};
use crate::intent::{self, Process, Work};
use crate::pack::{PackKind, read_whole};
use crate::prune::Life;
use crate::read::Chunks;
use crate::repository::Repository;
use crate::runs::run_of;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use store::{Key, Kind, Reaper, Shelf, Store};

/// How often something must look damaged or gone before it counts as that: a place may answer wrongly once, and nothing sound
/// may be given up for it.
const LOOKS: usize = 3;

/// What was mended.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MendReport {
    /// Objects brought back from another copy, or rebuilt.
    pub mended: Vec<String>,
    /// Packs that no table named and that are indexed again.
    pub packs_indexed: u64,
    /// Damaged objects that were worthless and are gone.
    pub discarded: Vec<String>,
    /// What could not be mended, and why.
    pub unmended: Vec<String>,
}

impl Repository {
    /// Mends what can be mended: from `copy`, where it has a sound object of the same name; keys from their second copy; the
    /// index from the packs.
    ///
    /// # Errors
    /// `NotAuthorised` without a keeper's key; whatever the stores return.
    pub fn mend(&self, copy: Option<&Store>, process: &Process, life: &dyn Fn(&Process) -> Life) -> Result<MendReport> {
        let signing = self.keyring.keeping()?;
        let reaper = Reaper::of(&self.store);
        let mut report = MendReport::default();
        // A prune must not take for garbage what is brought back, nor this for loose what a prune is about to sweep.
        let own = self.announce(Work::Keep, process)?;
        let (announced, _) = intent::announced(&self.store, &self.trust, &|d| self.keep_key(d))?;
        let other = announced.iter().find(|(id, intent)| {
            let dead = intent.process.as_ref().is_some_and(|process| life(process) == Life::Dead);
            intent.kind == Work::Keep && !intent.ended && !dead && own.as_ref().is_none_or(|own| own.id() != **id)
        });
        if other.is_some() {
            return Err(RepoError::Busy("a prune or another repair is at work".into()));
        }
        if let Some(copy) = copy {
            let theirs = Repository::identity_of(copy, &mut Vec::new())?;
            if theirs != self.config.repository {
                return Err(RepoError::AlreadyExists(format!(
                    "{}, but another one: it is no copy of this one",
                    copy.address()
                )));
            }
            self.mend_from(copy, &reaper, &mut report)?;
        }
        report.mended.extend(self.mend_keys()?);
        for shelf in [Shelf::Index, Shelf::Condemned, Shelf::Intents] {
            for listed in self.store.list(shelf)? {
                if is_damaged(&self.store, &listed.key) {
                    // Tables are rebuilt below; without its list nothing is swept; an intent only delayed.
                    reaper.delete(&listed.key)?;
                    report.discarded.push(listed.key.path());
                }
            }
        }
        // Who was enrolled by a certificate that came back just now counts only when the repository is opened again.
        if !report.mended.iter().any(|object| object.starts_with("keys/cert-")) {
            self.discard_forged(&reaper, &mut report)?;
        }
        self.index_loose_packs(&signing, &reaper, &mut report)?;
        for shelf in [Shelf::Packs, Shelf::Heads, Shelf::Runs, Shelf::Ledger, Shelf::Keys] {
            for listed in self.store.list(shelf)? {
                if is_damaged(&self.store, &listed.key) {
                    report.unmended.push(format!("{}: damaged, and no copy at hand has it", listed.key));
                }
            }
        }
        Ok(report)
    }

    /// Takes away tables and condemned lists that nobody made who may: they stop prunes, and the lists backups too. Tables can
    /// be made again from packs, and without a list nothing is swept.
    fn discard_forged(&self, reaper: &Reaper, report: &mut MendReport) -> Result<()> {
        let tables = Index::open(&self.store, &self.trust, &|d| self.keep_key(d))?.damaged;
        let lists = intent::not_keepers(&self.store, &self.trust)?;
        for (key, _) in tables.into_iter().chain(lists) {
            reaper.delete(&key)?;
            report.discarded.push(key.path());
        }
        Ok(())
    }

    fn mend_from(&self, copy: &Store, reaper: &Reaper, report: &mut MendReport) -> Result<()> {
        let state = self.state()?;
        // Where a table is lost too, nothing here says which packs are missing: then all of the copy's come.
        let mut all_packs = self.lacks_chunks(&state)?;
        let mut runs: HashSet<RunId> =
            state.records.values().map(|record| record.run).chain(self.named_runs()?).collect();
        // What heads that come back will need comes before them: nothing here names it yet.
        let coming = State::load(copy, &self.trust)?;
        if coming.heads.iter().any(|id| !state.heads.contains(id) && !state.covered.contains(id)) {
            all_packs = true;
            let records = coming.records.iter().filter(|(id, _)| !state.removed.contains(*id));
            runs.extend(records.map(|(_, record)| record.run));
        }
        for shelf in [Shelf::Keys, Shelf::Runs, Shelf::Packs, Shelf::Index, Shelf::Ledger, Shelf::Events, Shelf::Heads]
        {
            let theirs: BTreeMap<Key, u64> =
                copy.list(shelf)?.into_iter().map(|listed| (listed.key, listed.bytes)).collect();
            let ours: HashSet<Key> = self.store.list(shelf)?.into_iter().map(|listed| listed.key).collect();
            let named = self.named_packs()?;
            for key in theirs.keys() {
                let bad = match ours.contains(key) {
                    true => is_damaged(&self.store, key),
                    // What was removed here stays removed: only what is named here and missing is fetched.
                    false => match shelf {
                        Shelf::Packs => PackId::parse(key.name()).is_some_and(|id| named.contains(&id) || all_packs),
                        // Tables are made anew from the packs.
                        Shelf::Index => false,
                        Shelf::Runs => run_of(key).is_some_and(|run| runs.contains(&run)),
                        Shelf::Keys => !key.name().starts_with("owner-"),
                        Shelf::Heads => HeadId::parse(key.name()).is_some_and(|id| !state.covered.contains(&id)),
                        _ => true,
                    },
                };
                if !bad {
                    continue;
                }
                match copy.get_checked(key) {
                    Ok(body) => {
                        reaper.delete(key)?;
                        self.store.put_new(key, &body)?;
                        report.mended.push(key.path());
                    }
                    Err(e) => report.unmended.push(format!("{key}: the other copy does not have it either ({e})")),
                }
            }
        }
        Ok(())
    }

    /// Whether a live snapshot needs a chunk that is in no pack that can be found.
    fn lacks_chunks(&self, state: &State) -> Result<bool> {
        let chunks = Chunks::new(self)?;
        let mut seen = HashSet::new();
        for snapshot in state.snapshots(&self.trust, &self.keyring)? {
            for list in [&snapshot.public.content, &snapshot.public.meta] {
                let mut visit = |id| match chunks.places(&id)?.is_empty() {
                    true => Err(RepoError::MissingChunk(id)),
                    false => Ok(()),
                };
                match list.mark(&|id| chunks.chunk(id), &mut |id| seen.insert(*id), &mut visit) {
                    Err(e) if e.is_damage() => return Ok(true),
                    other => other?,
                }
            }
        }
        Ok(false)
    }

    /// Gives up for lost the heads that are named and gone, damaged or invalid, and the snapshots whose records cannot be
    /// opened: from then on the repository is what is
    /// left, and can be pruned again. Returns how many there were.
    ///
    /// # Errors
    /// `NotAuthorised` without a keeper's key; whatever the store returns.
    pub fn accept_loss(&self) -> Result<usize> {
        let signing = self.keyring.keeping()?;
        let reaper = Reaper::of(&self.store);
        let mut state = self.state()?;
        let mut lost: BTreeSet<HeadId> = state.problems.iter().map(|(id, _)| *id).collect();
        for _ in 1..LOOKS {
            if !lost.is_empty() && !store::sabotaged("give up what is damaged once") {
                state = self.state_anew()?;
                lost.retain(|id| state.problems.iter().any(|(problem, _)| problem == id));
            }
        }
        let (announced, _) = intent::announced(&self.store, &self.trust, &|d| self.keep_key(d))?;
        for head in announced.values().filter_map(|intent| intent.head) {
            let mut looks = (0..LOOKS).map(|_| intent::is_lost(&self.store, &state, &head));
            if looks.try_fold(true, |all, look| Ok::<_, RepoError>(all && look?))? {
                lost.insert(head);
            }
        }
        let unreadable: Vec<SnapshotId> =
            state.unreadable(&self.trust, &self.keyring).into_iter().map(|(id, _)| id).collect();
        if lost.is_empty() && unreadable.is_empty() {
            return Ok(0);
        }
        let mut checkpoint = state.checkpoint(&self.world);
        checkpoint.covers.extend(&lost);
        checkpoint.removes.extend(&unreadable);
        head::commit(&self.store, &self.trust, &signing, &checkpoint)?;
        for id in state.heads.iter().chain(&lost) {
            reaper.delete(&head::head_key(id))?;
        }
        Ok(lost.len() + unreadable.len())
    }

    fn named_runs(&self) -> Result<HashSet<RunId>> {
        let index = Index::open(&self.store, &self.trust, &|d| self.keep_key(d))?;
        Ok((0..index.table_count()).flat_map(|table| index.table_origins(table)).map(|origin| origin.run).collect())
    }

    fn named_packs(&self) -> Result<HashSet<PackId>> {
        let index = Index::open(&self.store, &self.trust, &|d| self.keep_key(d))?;
        Ok((0..index.table_count()).flat_map(|table| index.table_packs(table)).map(|pack| pack.id).collect())
    }

    /// Indexes packs that no table names, and takes packs that are gone or damaged out of the tables, so that the next
    /// backup stores what was in them anew.
    fn index_loose_packs(
        &self,
        signing: &crate::crypt::Signing,
        reaper: &Reaper,
        report: &mut MendReport,
    ) -> Result<()> {
        let index = Index::open(&self.store, &self.trust, &|d| self.keep_key(d))?;
        let mut listed = HashSet::new();
        let mut damaged = HashSet::new();
        let mut loose = Vec::new();
        let named = self.named_packs()?;
        let lists = intent::condemned(&self.store, &self.trust)?;
        let condemned: HashSet<PackId> = lists.into_iter().flat_map(|(_, list)| list.packs).collect();
        for object in self.store.list(Shelf::Packs)? {
            let Some(id) = PackId::parse(object.key.name()) else { continue };
            listed.insert(id);
            let is_sound = match self.store.get_checked(&object.key) {
                Ok(_) => true,
                Err(e) if e.kind == Kind::Corrupt => !is_damaged(&self.store, &object.key),
                Err(e) => return Err(e.into()),
            };
            // What is about to be swept is no find.
            if !is_sound {
                damaged.insert(id);
            } else if !named.contains(&id) && !condemned.contains(&id) {
                loose.push(id);
            }
        }
        let mut tables: BTreeMap<crate::id::DomainId, TableBuilder> = BTreeMap::new();
        for id in loose {
            let bytes = self.store.get_checked(&crate::pack::pack_key(&id))?;
            match read_whole(&self.trust, |d| self.keep_key(d), &bytes) {
                Ok(contents) => {
                    let kind = PackKind::from_u8(contents.header.kind).unwrap_or(PackKind::Data);
                    let pack = PackRef { id, bytes: bytes.len() as u32, kind };
                    let table = tables.entry(contents.header.domain).or_default();
                    table.add_pack(pack, &contents.records);
                    report.packs_indexed += 1;
                    if table.entries() >= TABLE_ENTRIES_MAX {
                        let table = std::mem::take(table);
                        self.put_table(contents.header.domain, table, signing)?;
                    }
                }
                Err(e) => report.unmended.push(format!("packs/{id}: {e}")),
            }
        }
        let mut gone = damaged;
        for id in named.iter().filter(|id| !listed.contains(id)).collect::<BTreeSet<_>>() {
            // A listing may lag: only what is not there when it is asked for by name is gone.
            if self.store.size(&crate::pack::pack_key(id))?.is_none() {
                gone.insert(*id);
            }
        }
        let mut old = Vec::new();
        for table in 0..index.table_count() {
            if index.table_packs(table).iter().any(|pack| gone.contains(&pack.id)) {
                index.copy_without(table, &gone, tables.entry(index.table_domain(table)).or_default())?;
                old.push(index.table_key(table).clone());
            }
        }
        for (domain, table) in tables {
            self.put_table(domain, table, signing)?;
        }
        for key in old {
            reaper.delete(&key)?;
            report.mended.push(key.path());
        }
        Ok(())
    }

    fn put_table(
        &self,
        domain: crate::id::DomainId,
        table: TableBuilder,
        signing: &crate::crypt::Signing,
    ) -> Result<()> {
        let Some(keep_key) = self.keep_key(domain) else { return Ok(()) };
        let header = HeaderParts { repository: self.config.repository, domain, salt: self.world.random() };
        if let Some((key, object)) = table.finish(header, &keep_key, signing) {
            self.store.put_new(&key, &object)?;
        }
        Ok(())
    }
}

/// Whether every look at an object shows that its bytes are not those of its name.
pub(crate) fn is_damaged(store: &Store, key: &Key) -> bool {
    (0..LOOKS).all(|_| store.get_checked(key).is_err_and(|e| e.kind == Kind::Corrupt))
}
