//! Giving space back, in two phases, beside running backups, restores and other prunes (`docs/format.md` §10).
//!
//! Condemn: an object names the packs that nothing needs. Wait: until everybody who was at work then has ended. Sweep:
//! look again, and delete by explicit name what is still not needed. Clocks only ever delay. It may not open contents.

mod locks;
mod marks;
mod segments;
mod work;

use self::marks::Marks;
use self::work::AtWork;
use crate::crypt::Signing;
use crate::error::{RepoError, Result};
use crate::head::{self, Snapshot, State};
use crate::id::{ChunkId, DomainId, HeadId, IntentId, PackId, RunId, SnapshotId};
use crate::index::{HeaderParts, Hit, Index, PackRef, TABLE_ENTRIES_MAX, TableBuilder};
use crate::intent::{self, Announced, Announcement, Condemned, Process, Work};
use crate::pack::{PackBuilder, PackHeader, pack_key, read_whole};
use crate::pipeline::{Assurance, StoredPack, store_pack};
use crate::read::Chunks;
use crate::repository::Repository;
use crate::runs::run_of;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use store::{Key, Kind, Reaper, Shelf};

/// Heads are folded into a checkpoint when there are more than this.
const HEADS_MAX: usize = 64;
/// Between so many deletions it is looked whether to go on.
const DELETE_BATCH: usize = 100;
/// Packs much smaller than they could be are put together when a domain has this many of a kind.
const SMALL_PACKS_MAX: usize = 32;
/// Tables much smaller than they could be are put together when a domain has this many.
const SMALL_TABLES_MAX: usize = 8;

/// Whether to do it or only to say what would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Say.
    Preview,
    /// Do.
    Do,
}

/// How much dead data may stay inside packs that are still needed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxUnused {
    /// Percent of what is kept.
    Percent(f64),
    /// Bytes.
    Bytes(u64),
    /// Any amount: nothing is repacked.
    Unlimited,
}

/// How long condemned packs stay at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// Not at all where listings show everything at once, otherwise a day.
    Default,
    /// This long.
    For(Duration),
}

/// What is known about a process that announced something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Alive,
    /// It is gone.
    Dead,
    /// It cannot be seen from here.
    Unknown,
}

/// What a prune should do.
pub struct PrunePlan<'a> {
    /// Do it or say it.
    pub act: Act,
    /// When to repack.
    pub max_unused: MaxUnused,
    /// How long to wait.
    pub grace: Grace,
    /// What is known about a process.
    pub life: &'a (dyn Fn(&Process) -> Life + Sync),
    /// Who does it.
    pub process: Process,
    /// For a preview: these snapshots count as forgotten.
    pub as_if_forgotten: &'a [SnapshotId],
}

/// What a prune did, or would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PruneReport {
    /// Packs before.
    pub packs_total: u64,
    /// Packs that are needed.
    pub packs_kept: u64,
    /// Packs condemned by this prune.
    pub packs_condemned: u64,
    /// Packs deleted.
    pub packs_swept: u64,
    /// Packs whose live part was copied into new ones.
    pub packs_repacked: u64,
    /// Bytes of all packs before.
    pub bytes_before: u64,
    /// Bytes given back; or, in a preview, that would be.
    pub bytes_freed: u64,
    /// Bytes condemned and not yet deleted.
    pub bytes_condemned: u64,
    /// Dead bytes left inside packs that are kept.
    pub bytes_unused: u64,
    /// Segments deleted that no snapshot needs any more; or, in a preview, that would be.
    pub segments_expired: u64,
    /// Index tables replaced by fewer.
    pub tables_merged: u64,
    /// Data keys deleted: what they encrypted cannot be read any more, on any copy.
    pub runs_erased: u64,
    /// Why something condemned is not deleted yet: one sentence each.
    pub waiting_for: Vec<String>,
    /// Locks that were extended because what they keep is still needed.
    pub locks_extended: u64,
    /// Where the place locks: what was deleted takes space until its lock has run out, at the latest then, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<String>,
    /// Bytes of half-written files of dead writers removed.
    pub tidied_bytes: u64,
}

/// How far a prune is.
#[derive(Clone, Copy, Debug)]
pub struct PruneStep {
    /// What it does.
    pub phase: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is.
    pub total: u64,
}

struct PackUse {
    pack: PackRef,
    domain: DomainId,
    /// The first table that names it: another that does so too must not count its dead records again.
    table: usize,
    live_records: u32,
    live_bytes: u64,
    dead_bytes: u64,
}

/// What one prune condemns.
struct Doomed {
    packs: Vec<PackId>,
    copies: Vec<PackId>,
    runs: Vec<RunId>,
}

/// What condemned lists say: which packs go, and which were made of what is needed of them.
struct Going {
    condemned: HashSet<PackId>,
    /// Originals, and the packs that a keeper made of what is needed of them.
    replaced: Vec<(HashSet<PackId>, HashSet<PackId>)>,
}

impl Going {
    /// Whether a chunk that is in all of `places` need not be kept in `pack`, because a keeper's copy of that very pack is
    /// among them and stays.
    fn is_replaced(&self, pack: &PackId, places: &[PackId]) -> bool {
        self.replaced.iter().any(|(originals, copies)| {
            originals.contains(pack) && places.iter().any(|p| copies.contains(p) && !self.condemned.contains(p))
        })
    }
}

struct Keeper<'r, 'p> {
    repository: &'r Repository,
    plan: &'p PrunePlan<'p>,
    on: &'p (dyn Fn(PruneStep) + Sync),
    signing: Signing,
    reaper: Reaper,
    /// While it stands, no other prune takes what this one writes for garbage.
    own: Option<Announcement>,
    /// Given up by this prune for being silent: they still delay it.
    silent: BTreeSet<IntentId>,
    /// What was to be deleted and could not be because it is locked.
    left: BTreeSet<Key>,
    /// Heads that announcements name: where listings lag, what they hold must not look unneeded.
    known: Vec<HeadId>,
    report: PruneReport,
}

impl Repository {
    /// Deletes what no snapshot needs. Safe at any time beside backups, restores and other prunes.
    ///
    /// # Errors
    /// `NotAuthorised` without a keeper's key; `LostHistory`, `Damaged`, `MissingChunk` when the repository is not
    /// sound: then nothing is deleted.
    pub fn prune(&self, plan: &PrunePlan<'_>, on: &(dyn Fn(PruneStep) + Sync)) -> Result<PruneReport> {
        let signing = self.keyring.keeping()?;
        let reaper = Reaper::of(&self.store);
        let own = match plan.act {
            Act::Preview => None,
            Act::Do => Some(self.announce(Work::Keep, &plan.process)?.ok_or(RepoError::Fenced)?),
        };
        let (silent, left, report) = (BTreeSet::new(), BTreeSet::new(), PruneReport::default());
        let known = Vec::new();
        let keeper = Keeper { repository: self, plan, on, signing, reaper, own, silent, left, known, report };
        match keeper.run() {
            Err(RepoError::Store(e)) if e.is_absent() => {
                Err(RepoError::Busy(format!("the repository was changed meanwhile ({e}): run it again")))
            }
            other => other,
        }
    }
}

impl Keeper<'_, '_> {
    fn run(mut self) -> Result<PruneReport> {
        let Repository { store, trust, .. } = self.repository;
        let lists = intent::condemned(store, trust)?;
        let at_work = self.at_work(&lists)?;
        self.be_alone(&lists, &at_work)?;
        let ripe = self.ripe(&lists, &at_work)?;
        let state = State::load_knowing(store, trust, &self.known)?.whole()?;
        let going = Going {
            condemned: lists.iter().flat_map(|(_, list)| list.packs.iter().copied()).collect(),
            replaced: lists
                .iter()
                .filter(|(_, list)| !list.copies.is_empty())
                .map(|(_, list)| (list.packs.iter().copied().collect(), list.copies.iter().copied().collect()))
                .collect(),
        };
        let all_condemned = &going.condemned;
        let mut snapshots = state.snapshots(trust, &self.repository.keyring)?;
        if snapshots.len() != state.records.len() {
            let mut unreadable = state.unreadable(trust, &self.repository.keyring);
            let held = "key that does not see every domain".into();
            return Err(unreadable.pop().map_or(RepoError::NotAuthorised { needed: "keeper", held }, |(_, e)| e));
        }
        if self.plan.act == Act::Preview {
            snapshots.retain(|snapshot| !self.plan.as_if_forgotten.contains(&snapshot.id));
        }
        let chunks = Chunks::new(self.repository)?;
        let index = chunks.index();
        if let Some((key, e)) = index.damaged.first() {
            return Err(RepoError::damaged(key.path(), format!("cannot be used ({e})")));
        }
        let listed: HashMap<PackId, u64> = store
            .list(Shelf::Packs)?
            .into_iter()
            .filter_map(|listed| Some((PackId::parse(listed.key.name())?, listed.bytes)))
            .collect();
        let mut marks = self.mark(&chunks, &going, &listed, &snapshots)?;
        self.report.packs_total = listed.len() as u64;
        self.report.bytes_before = listed.values().sum();
        if let Some(lost) = marks.uses.values().find(|u| u.live_records > 0 && !listed.contains_key(&u.pack.id)) {
            return Err(RepoError::damaged(pack_key(&lost.pack.id).path(), "is needed and gone"));
        }
        let gone: HashSet<PackId> = marks.uses.keys().filter(|id| !listed.contains_key(id)).copied().collect();
        marks.uses.retain(|id, _| listed.contains_key(id));
        let uses = &marks.uses;
        let repack = self.choose_repack(uses, all_condemned);
        // The tables that say so are replaced by what follows.
        let live = marks.live_offsets(&index, &repack.iter().copied().collect())?;

        let swept = self.sweep_ripe(&index, &ripe, uses, &listed)?;
        // What follows opens the index anew: of a large repository, two at a time would be most of a prune's memory.
        drop((index, chunks));
        let stays = |id: &PackId| !swept.contains(id);
        let mut dead: Vec<PackId> = listed
            .keys()
            .filter(|id| stays(id) && !all_condemned.contains(id) && uses.get(id).is_none_or(|u| u.live_records == 0))
            .copied()
            .collect();
        dead.sort();
        let kept = |u: &&PackUse| u.live_records > 0 && !repack.contains(&u.pack.id);
        self.report.packs_kept = uses.values().filter(kept).count() as u64;
        self.report.bytes_unused = uses.values().filter(kept).map(|u| u.dead_bytes).sum();
        let bytes_of = |ids: &[PackId]| ids.iter().filter_map(|id| listed.get(id)).sum::<u64>();
        let waste: u64 = repack.iter().filter_map(|id| uses.get(id)).map(|u| u.dead_bytes).sum();
        let condemned_before: Vec<PackId> = all_condemned.iter().filter(|id| stays(id)).copied().collect();
        let still_condemned = bytes_of(
            &condemned_before
                .into_iter()
                .filter(|id| uses.get(id).is_none_or(|u| u.live_records == 0))
                .collect::<Vec<_>>(),
        );
        if self.plan.act == Act::Preview {
            self.report.packs_condemned = (dead.len() + repack.len()) as u64;
            self.report.packs_repacked = repack.len() as u64;
            self.report.bytes_freed += bytes_of(&dead) + waste + still_condemned;
            self.expire_segments(&snapshots)?;
            return Ok(self.report);
        }
        self.report.bytes_condemned = still_condemned;
        // What is wholly dead goes first: on a full disk it makes the room that repacking needs.
        let runs = self.dead_runs(&snapshots, &lists)?;
        if !dead.is_empty() || !runs.is_empty() {
            self.condemn_and_sweep(&state, Doomed { packs: dead, copies: Vec::new(), runs }, &listed)?;
        }
        let repacked: HashSet<PackId> = repack.iter().copied().collect();
        match self.repack(&live, uses, &repack) {
            Ok(copies) if !repack.is_empty() => {
                let doomed = Doomed { packs: repack, copies, runs: Vec::new() };
                self.condemn_and_sweep(&state, doomed, &listed)?;
            }
            Ok(_) => {}
            Err(RepoError::Store(e)) if e.kind == Kind::Full => {
                let why = "there is no room to put half-empty packs together: the next prune tries again";
                self.report.waiting_for.push(why.to_owned());
            }
            Err(e) => return Err(e),
        }
        self.drop_names(&at_work, &gone)?;
        self.merge_tables(&at_work)?;
        self.clean(&at_work)?;
        // Who is at work may need older ones than what is committed.
        if at_work.open.is_empty() {
            self.expire_segments(&snapshots)?;
        }
        self.extend_locks(&marks.uses, &repacked)?;
        Ok(self.report)
    }

    fn step(&self, phase: &'static str, done: u64, total: u64) -> Result<()> {
        (self.on)(PruneStep { phase, done, total });
        if let Some(own) = &self.own {
            own.refresh()?;
        }
        match self.repository.world.stop.requested() {
            true => Err(RepoError::Stopped),
            false => Ok(()),
        }
    }

    /// That no other prune gave this one up: what it wrote and found could be swept or stale.
    fn check_own(&self) -> Result<()> {
        self.own.as_ref().map_or(Ok(()), Announcement::check)
    }

    /// That no other prune is at work. Both announced themselves before they looked, so at most one goes on.
    fn be_alone(&self, lists: &[(Key, Condemned)], at_work: &AtWork) -> Result<()> {
        let others: Vec<(&IntentId, &Announced)> =
            at_work.open.iter().filter(|(_, intent)| intent.kind == Work::Keep).collect();
        let Some((id, other)) = others.first() else { return Ok(()) };
        let watched = lists.iter().any(|(_, list)| list.intents.get(id) == Some(&other.seq));
        if self.plan.act == Act::Do && !watched {
            // So that a later one can tell whether it moved.
            let only = AtWork { open: BTreeMap::from([(**id, (*other).clone())]), ..AtWork::default() };
            self.write_waiting_list(vec![id.to_string()], &only)?;
        }
        Err(RepoError::Busy(format!("another prune or repair is at work: {}", self.names(at_work))))
    }

    // ---- who is at work ------------------------------------------------------------------------------------------

    /// The condemned lists whose time has come.
    fn ripe<'l>(&mut self, lists: &'l [(Key, Condemned)], at_work: &AtWork) -> Result<Vec<&'l (Key, Condemned)>> {
        let now = self.repository.world.clock.now();
        let grace = self.grace();
        let mut ripe = Vec::new();
        let mut unwatched = Vec::new();
        for list in lists.iter().filter(|(_, list)| list.is_about_packs()) {
            let name = list.0.name();
            let waits: Vec<&Condemned> =
                lists.iter().map(|(_, waits)| waits).filter(|waits| waits.of.iter().any(|of| of == name)).collect();
            if waits.is_empty() && !at_work.open.is_empty() {
                unwatched.push(name.to_owned());
            }
            let blocking = at_work
                .open
                .keys()
                .chain(&at_work.silent)
                .any(|id| waits.is_empty() || waits.iter().any(|waits| waits.intents.contains_key(id)));
            let waited = crate::time::parse(&list.1.time).map_or(Duration::ZERO, |then| now.since(then));
            if blocking {
                let who = self.names(at_work);
                self.report
                    .waiting_for
                    .push(format!("{} packs wait for work that began earlier: {who}", list.1.packs.len()));
            } else if waited < grace {
                let left = grace.saturating_sub(waited).as_secs();
                self.report
                    .waiting_for
                    .push(format!("{} packs stay for another {left} s of grace", list.1.packs.len()));
            } else {
                ripe.push(list);
            }
        }
        if !unwatched.is_empty() && self.plan.act == Act::Do {
            self.write_waiting_list(unwatched, at_work)?;
        }
        Ok(ripe)
    }

    fn grace(&self) -> Duration {
        match self.plan.grace {
            _ if store::sabotaged("sweep without grace") => Duration::ZERO,
            Grace::For(grace) => grace,
            Grace::Default if self.repository.store.lists_at_once() => Duration::ZERO,
            Grace::Default => Duration::from_secs(24 * 3600),
        }
    }

    // ---- what is needed ------------------------------------------------------------------------------------------

    /// Walks every snapshot's lists, shared nodes once, and adds up what of each pack is needed.
    fn mark(
        &self,
        chunks: &Chunks,
        going: &Going,
        listed: &HashMap<PackId, u64>,
        snapshots: &[Snapshot],
    ) -> Result<Marks> {
        let index = chunks.index();
        let mut live: Vec<Vec<u64>> = Vec::new();
        for table in 0..index.table_count() {
            live.push(vec![0; index.records_of(table)?.len().div_ceil(64)]);
        }
        // Where somebody may write who is no keeper, a second place of a chunk may be a forgery: then every place counts,
        // but for the originals of what a keeper itself put together anew.
        let one_is_enough = self.repository.trust.writers_are_keepers();
        let places = |id: &ChunkId| -> Result<Vec<(Hit, PackId)>> {
            let mut hits: Vec<(Hit, PackId)> = Vec::new();
            for hit in index.find_all(id)? {
                // A place that cannot be is no place.
                match index.place_of(&hit) {
                    Ok(place) => hits.push((hit, place.pack)),
                    Err(e) if e.is_damage() && !index.has_vanished() => {}
                    Err(e) => return Err(e),
                }
            }
            if hits.iter().any(|(_, pack)| listed.contains_key(pack)) {
                hits.retain(|(_, pack)| listed.contains_key(pack));
            }
            if hits.len() > 1 {
                let packs: Vec<PackId> = hits.iter().map(|(_, pack)| *pack).collect();
                hits.retain(|(_, pack)| !going.is_replaced(pack, &packs));
            }
            // What is only in condemned packs is rescued by being marked there.
            if one_is_enough && hits.iter().any(|(_, pack)| !going.condemned.contains(pack)) {
                hits.retain(|(_, pack)| !going.condemned.contains(pack));
            }
            Ok(hits)
        };
        // Chunks for which any of several places would do.
        let mut several: BTreeSet<ChunkId> = BTreeSet::new();
        let mut mark = |id: &ChunkId| -> Result<()> {
            let hits = places(id)?;
            if hits.is_empty() {
                return Err(match index.has_vanished() {
                    true => RepoError::Busy("another prune changed the repository meanwhile: run it again".into()),
                    false => RepoError::MissingChunk(*id),
                });
            }
            if hits.len() > 1 && one_is_enough {
                several.insert(*id);
                return Ok(());
            }
            for (hit, _) in hits {
                live[hit.table][hit.record as usize / 64] |= 1 << (hit.record % 64);
            }
            Ok(())
        };
        let mut seen = HashSet::new();
        for (n, snapshot) in snapshots.iter().enumerate() {
            self.step("marking", n as u64, snapshots.len() as u64)?;
            for list in [&snapshot.public.content, &snapshot.public.meta] {
                let mut fresh = Vec::new();
                let mut enter = |id: &ChunkId| {
                    let new = seen.insert(*id);
                    if new {
                        fresh.push(*id);
                    }
                    new
                };
                list.mark(&|id| chunks.chunk(id), &mut enter, &mut |id| mark(&id))?;
                fresh.iter().try_for_each(&mut mark)?;
            }
        }
        // What lies in a record that is needed for another chunk is there already: a second place would be kept for nothing, and
        // go only with a later prune.
        for id in &several {
            let hits = places(id)?;
            let is_live = |hit: &Hit| live[hit.table][hit.record as usize / 64] & (1 << (hit.record % 64)) != 0;
            let first = hits.first().filter(|_| !hits.iter().any(|(hit, _)| is_live(hit)));
            if let Some((hit, _)) = first {
                live[hit.table][hit.record as usize / 64] |= 1 << (hit.record % 64);
            }
        }
        let mut uses: HashMap<PackId, PackUse> = HashMap::new();
        for (table, live) in live.iter().enumerate() {
            let packs = index.table_packs(table);
            for pack in packs {
                let domain = index.table_domain(table);
                uses.entry(pack.id).or_insert(PackUse {
                    pack: *pack,
                    domain,
                    table,
                    live_records: 0,
                    live_bytes: 0,
                    dead_bytes: 0,
                });
            }
            for (number, record) in index.records_of(table)?.iter().enumerate() {
                let pack = packs[record.pack as usize].id;
                let is_live = live[number / 64] & (1 << (number % 64)) != 0;
                let Some(used) = uses.get_mut(&pack) else { continue };
                if is_live {
                    used.live_records += 1;
                    used.live_bytes += u64::from(record.stored_len);
                } else if used.table == table {
                    used.dead_bytes += u64::from(record.stored_len);
                }
            }
        }
        Ok(Marks { uses, live })
    }

    fn choose_repack(&self, uses: &HashMap<PackId, PackUse>, condemned: &HashSet<PackId>) -> Vec<PackId> {
        let needed = || uses.values().filter(|u| u.live_records > 0 && !condemned.contains(&u.pack.id));
        let kept: u64 = needed().map(|u| u.live_bytes).sum();
        let mut unused: u64 = needed().map(|u| u.dead_bytes).sum();
        let limit = match self.plan.max_unused {
            MaxUnused::Percent(percent) => (kept as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64,
            MaxUnused::Bytes(bytes) => bytes,
            MaxUnused::Unlimited => return Vec::new(),
        };
        let mut wasteful: Vec<&PackUse> = needed().filter(|u| u.dead_bytes > 0).collect();
        wasteful.sort_by(|a, b| {
            let share = |u: &PackUse| u.dead_bytes as f64 / (u.live_bytes + u.dead_bytes) as f64;
            share(b).total_cmp(&share(a)).then(a.pack.id.cmp(&b.pack.id))
        });
        let mut chosen = Vec::new();
        for used in wasteful {
            if unused <= limit {
                break;
            }
            unused -= used.dead_bytes;
            chosen.push(used.pack.id);
        }
        let mut small: BTreeMap<(DomainId, u8), Vec<PackId>> = BTreeMap::new();
        for used in needed().filter(|u| u.pack.bytes < self.repository.config.pack_bytes / 4) {
            small.entry((used.domain, used.pack.kind as u8)).or_default().push(used.pack.id);
        }
        for packs in small.into_values().filter(|packs| packs.len() >= SMALL_PACKS_MAX) {
            chosen.extend(packs);
        }
        chosen.sort();
        chosen.dedup();
        chosen
    }

    // ---- repack --------------------------------------------------------------------------------------------------

    /// Copies what is needed of these packs into new ones, unopened. Durable, with its tables, when it returns.
    fn repack(
        &mut self,
        live: &HashMap<PackId, HashSet<u32>>,
        uses: &HashMap<PackId, PackUse>,
        packs: &[PackId],
    ) -> Result<Vec<PackId>> {
        let repository = self.repository;
        let mut copies = Vec::new();
        let mut builders: BTreeMap<(DomainId, u8), PackBuilder> = BTreeMap::new();
        let mut tables: BTreeMap<DomainId, TableBuilder> = BTreeMap::new();
        for (n, id) in packs.iter().enumerate() {
            self.step("repacking", n as u64, packs.len() as u64)?;
            let Some(used) = uses.get(id) else { continue };
            let bytes = repository.store.get_checked(&pack_key(id))?;
            let contents = read_whole(&repository.trust, |d| repository.keep_key(d), &bytes)?;
            let needed = live.get(id).cloned().unwrap_or_default();
            let found = contents.records.iter().filter(|record| needed.contains(&record.offset)).count();
            if found != needed.len() {
                return Err(RepoError::damaged(pack_key(id).path(), "does not hold what the index says"));
            }
            for record in contents.records.iter().filter(|record| needed.contains(&record.offset)) {
                let at = (used.domain, used.pack.kind as u8);
                let kind = used.pack.kind;
                let builder = builders.entry(at).or_insert_with(|| {
                    let (id, signer) = (repository.config.repository, self.signing.id());
                    let salt = repository.world.random();
                    let header = PackHeader { repository: id, domain: used.domain, signer, kind, salt };
                    PackBuilder::new(header, repository.config.pack_bytes as usize)
                });
                let from = record.offset as usize;
                builder.add_raw(record.sealing, &record.members, &bytes[from..from + record.stored_len as usize]);
                if builder.bytes() >= repository.config.pack_bytes as usize
                    && let Some(builder) = builders.remove(&at)
                {
                    let stored = self.close_pack(used.domain, builder)?;
                    copies.push(stored.pack.id);
                    tables.entry(used.domain).or_default().add_pack(stored.pack, &stored.records);
                }
            }
            self.report.packs_repacked += 1;
        }
        for ((domain, _), builder) in builders {
            let stored = self.close_pack(domain, builder)?;
            copies.push(stored.pack.id);
            tables.entry(domain).or_default().add_pack(stored.pack, &stored.records);
        }
        self.check_own()?;
        for (domain, table) in tables {
            self.write_table(domain, table)?;
        }
        Ok(copies)
    }

    fn close_pack(&self, domain: DomainId, builder: PackBuilder) -> Result<StoredPack> {
        let keep_key = self.repository.keep_key(domain).ok_or(RepoError::Fenced)?;
        store_pack(&self.repository.store, builder.finish(&keep_key, &self.signing), Assurance::Acknowledged)
    }

    fn write_table(&self, domain: DomainId, table: TableBuilder) -> Result<()> {
        let repository = self.repository;
        let keep_key = repository.keep_key(domain).ok_or(RepoError::Fenced)?;
        let header = HeaderParts { repository: repository.config.repository, domain, salt: repository.world.random() };
        if let Some((key, object)) = table.finish(header, &keep_key, &self.signing) {
            repository.store.put_new(&key, &object)?;
        }
        Ok(())
    }

    // ---- sweep ---------------------------------------------------------------------------------------------------

    /// Sweeps the condemned lists whose time has come: what of them is still not needed. Returns what went.
    fn sweep_ripe(
        &mut self,
        index: &Index,
        ripe: &[&(Key, Condemned)],
        uses: &HashMap<PackId, PackUse>,
        listed: &HashMap<PackId, u64>,
    ) -> Result<HashSet<PackId>> {
        let doomed: Vec<PackId> = ripe
            .iter()
            .flat_map(|(_, list)| list.packs.iter().copied())
            .filter(|id| listed.contains_key(id) && uses.get(id).is_none_or(|used| used.live_records == 0))
            .collect();
        if self.plan.act == Act::Preview {
            self.report.bytes_freed += doomed.iter().filter_map(|id| listed.get(id)).sum::<u64>();
            return Ok(doomed.into_iter().collect());
        }
        let runs: Vec<RunId> = ripe.iter().flat_map(|(_, list)| list.runs.iter().copied()).collect();
        self.sweep(index, &doomed, &runs, listed)?;
        self.delete_all(&ripe.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>())?;
        // A waiting list goes with the last list that it is about.
        let now = intent::condemned(&self.repository.store, &self.repository.trust)?;
        let still_there: HashSet<String> = now.iter().map(|(key, _)| key.name().to_owned()).collect();
        for (key, list) in now {
            if !list.of.is_empty() && !list.of.iter().any(|of| still_there.contains(of)) {
                self.delete_all(&[key])?;
            }
        }
        Ok(doomed.into_iter().collect())
    }

    /// Deletes packs that nothing needs and whose time has come. Tables first: nobody may find what is about to go.
    fn sweep(&mut self, index: &Index, doomed: &[PackId], runs: &[RunId], listed: &HashMap<PackId, u64>) -> Result<()> {
        self.check_own()?;
        self.replace_tables(index, &doomed.iter().copied().collect())?;
        for (n, batch) in doomed.chunks(DELETE_BATCH).enumerate() {
            self.step("deleting", (n * DELETE_BATCH) as u64, doomed.len() as u64)?;
            self.delete_all(&batch.iter().map(pack_key).collect::<Vec<_>>())?;
            self.report.packs_swept += batch.len() as u64;
            self.report.bytes_freed += batch.iter().filter_map(|id| listed.get(id)).sum::<u64>();
        }
        self.erase_runs(runs)
    }

    /// Writes anew the tables that name one of these packs, without them.
    fn replace_tables(&mut self, index: &Index, gone: &HashSet<PackId>) -> Result<()> {
        let mut tables: BTreeMap<DomainId, TableBuilder> = BTreeMap::new();
        let mut old = Vec::new();
        for table in 0..index.table_count() {
            if !index.table_packs(table).iter().any(|pack| gone.contains(&pack.id)) {
                continue;
            }
            let domain = index.table_domain(table);
            let builder = tables.entry(domain).or_default();
            index.copy_without(table, gone, builder)?;
            if builder.entries() >= TABLE_ENTRIES_MAX {
                self.write_table(domain, std::mem::take(builder))?;
            }
            old.push(index.table_key(table).clone());
        }
        for (domain, table) in tables {
            self.write_table(domain, table)?;
        }
        self.delete_all(&old)
    }

    /// Takes packs that are gone and that nothing needs out of the tables: a run that was given up may have named them
    /// after they were swept.
    fn drop_names(&mut self, at_work: &AtWork, unlisted: &HashSet<PackId>) -> Result<()> {
        if unlisted.is_empty() || !at_work.open.is_empty() {
            return Ok(());
        }
        let mut gone = HashSet::new();
        for id in unlisted.iter().collect::<BTreeSet<_>>() {
            // A listing may lag: only what is not there when it is asked for by name is gone.
            let size = self.repository.store.size(&pack_key(id))?;
            gone.extend(size.is_none().then_some(*id));
        }
        self.check_own()?;
        self.replace_tables(&self.sound_index()?, &gone)
    }

    /// Deletes the keys of these runs, but of those that something needs again.
    fn erase_runs(&mut self, runs: &[RunId]) -> Result<()> {
        if runs.is_empty() {
            return Ok(());
        }
        let repository = self.repository;
        let state = State::load_knowing(&repository.store, &repository.trust, &self.known)?.whole()?;
        let mut used: BTreeSet<RunId> = state.records.values().map(|record| record.run).collect();
        used.extend(self.indexed_runs()?);
        if store::sabotaged("erase a key that is needed") {
            used.clear();
        }
        for run in runs.iter().filter(|run| !used.contains(run)) {
            let keys = repository.store.list_prefix(Shelf::Runs, &run.to_string())?;
            self.delete_all(&keys.into_iter().map(|listed| listed.key).collect::<Vec<_>>())?;
            self.report.runs_erased += 1;
        }
        Ok(())
    }

    /// The index as it is now, when no table of it is damaged.
    fn sound_index(&self) -> Result<Index> {
        let repository = self.repository;
        let mut index = Index::open(&repository.store, &repository.trust, &|d| repository.keep_key(d))?;
        match index.damaged.pop() {
            Some((key, e)) => Err(RepoError::damaged(key.path(), format!("cannot be used ({e})"))),
            None => Ok(index),
        }
    }

    /// The runs that tables name now, when no table is damaged.
    fn indexed_runs(&self) -> Result<BTreeSet<RunId>> {
        let Repository { store, trust, .. } = self.repository;
        Index::runs(store, trust, &|d| self.repository.keep_key(d))
    }

    /// Runs that no record and no snapshot names and that are not condemned yet.
    fn dead_runs(&self, snapshots: &[Snapshot], lists: &[(Key, Condemned)]) -> Result<Vec<RunId>> {
        let repository = self.repository;
        let listed = repository.store.list(Shelf::Runs)?;
        let mut used: BTreeSet<RunId> = snapshots.iter().map(|snapshot| snapshot.record.run).collect();
        used.extend(lists.iter().flat_map(|(_, list)| list.runs.iter().copied()));
        used.extend(self.indexed_runs()?);
        let runs: BTreeSet<RunId> = listed.iter().filter_map(|listed| run_of(&listed.key)).collect();
        Ok(runs.into_iter().filter(|run| !used.contains(run)).collect())
    }

    /// Condemns, looks who is at work, and sweeps at once when nobody is and nothing asks for patience.
    fn condemn_and_sweep(&mut self, state: &State, doomed: Doomed, listed: &HashMap<PackId, u64>) -> Result<()> {
        let Doomed { packs, copies, runs } = doomed;
        let Repository { store, trust, world, .. } = self.repository;
        let tips = state.tips.iter().copied().collect();
        let time = crate::time::text(world.clock.now());
        self.check_own()?;
        let list =
            Condemned { v: 1, time, packs: packs.clone(), copies, runs: runs.clone(), tips, ..Condemned::default() };
        let key = intent::condemn(store, trust, &self.signing, &list)?;
        self.report.packs_condemned += packs.len() as u64;
        let bytes: u64 = packs.iter().filter_map(|id| listed.get(id)).sum();
        // Whoever announced itself before it could see the list is in this listing.
        let at_work = self.at_work(&[])?;
        if !at_work.open.is_empty() || !at_work.silent.is_empty() {
            let names = self.names(&at_work);
            self.write_waiting_list(vec![key.name().to_owned()], &at_work)?;
            self.report.bytes_condemned += bytes;
            self.report.waiting_for.push(format!("{} packs wait for work that began earlier: {names}", packs.len()));
            return Ok(());
        }
        if !self.grace().is_zero() {
            let seconds = self.grace().as_secs();
            self.report.bytes_condemned += bytes;
            self.report.waiting_for.push(format!("{} packs stay for {seconds} s of grace", packs.len()));
            return Ok(());
        }
        let now = State::load_knowing(store, trust, &self.known)?.whole()?;
        let new = now.records.keys().any(|id| !state.records.contains_key(id));
        if new && !store::sabotaged("look once before sweeping") {
            self.report.bytes_condemned += bytes;
            self.report.waiting_for.push("a snapshot was committed meanwhile: the next prune goes on".to_owned());
            return Ok(());
        }
        // With a table that cannot be read, what names these packs could stay behind.
        self.sweep(&self.sound_index()?, &packs, &runs, listed)?;
        self.delete_all(&[key])?;
        Ok(())
    }

    // ---- upkeep --------------------------------------------------------------------------------------------------

    /// Puts small tables together, so that look-ups stay quick after many small backups.
    fn merge_tables(&mut self, at_work: &AtWork) -> Result<()> {
        if !at_work.open.is_empty() {
            return Ok(());
        }
        let repository = self.repository;
        let index = Index::open(&repository.store, &repository.trust, &|d| repository.keep_key(d))?;
        let mut small: BTreeMap<DomainId, Vec<usize>> = BTreeMap::new();
        for table in (0..index.table_count()).filter(|t| index.table_entries(*t) < TABLE_ENTRIES_MAX as u32 / 2) {
            small.entry(index.table_domain(table)).or_default().push(table);
        }
        for (domain, tables) in small.into_iter().filter(|(_, tables)| tables.len() >= SMALL_TABLES_MAX) {
            let mut builder = TableBuilder::default();
            for table in &tables {
                index.copy_without(*table, &HashSet::new(), &mut builder)?;
                if builder.entries() >= TABLE_ENTRIES_MAX {
                    self.write_table(domain, std::mem::take(&mut builder))?;
                }
            }
            self.write_table(domain, builder)?;
            let old: Vec<Key> = tables.iter().map(|table| index.table_key(*table).clone()).collect();
            self.delete_all(&old)?;
            self.report.tables_merged += tables.len() as u64;
        }
        Ok(())
    }

    /// Folds heads into a checkpoint when there are many, and removes ended announcements and dead writers' leftovers.
    fn clean(&mut self, at_work: &AtWork) -> Result<()> {
        let Repository { store, trust, world, .. } = self.repository;
        let state = State::load_knowing(store, trust, &self.known)?.whole()?;
        if state.heads.len() > HEADS_MAX {
            let folded: Vec<Key> = state.heads.iter().map(head::head_key).collect();
            if store::sabotaged("fold heads by deleting first") {
                self.delete_all(&folded)?;
            }
            head::commit(store, trust, &self.signing, &state.checkpoint(world))?;
            self.delete_all(&folded)?;
        }
        for intent in &at_work.ended {
            // What it committed is gone, and nothing else may say so.
            let is_witness = intent.head.map_or(Ok(false), |head| intent::is_lost(store, &state, &head))?;
            if !is_witness {
                self.delete_all(&intent.keys)?;
            }
        }
        self.report.tidied_bytes = self.reaper.tidy()?;
        Ok(())
    }
}
