//! One run: chunks and entries in, a snapshot out. Dropped without a commit, nothing happened.
//!
//! It may not know what kind of source feeds it, and cannot open what it stores. Order: announce ▸ look what is condemned
//! ▸ read the index ▸ store packs ▸ store tables ▸ write the head.

use crate::chunk::{Cut, Cutter};
use crate::crypt::{Aead, Secret, Signing};
use crate::entry::{Entry, Node};
use crate::error::{RepoError, Result};
use crate::head::{self, Snapshot, State};
use crate::id::{ChunkId, PackId, RunId, hex, unhex};
use crate::index::{HeaderParts, Index, TABLE_ENTRIES_MAX, TableBuilder};
use crate::intent::{self, Announcer, Intent, Process, Work};
use crate::keys::DomainKeys;
use crate::list::ListBuilder;
use crate::pipeline::{Assurance, Pipeline, Stages, StoredPack};
use crate::repository::Repository;
use crate::runs;
use crate::seal::{ChunkKind, Compression, Group, MEMBERS_MAX, Member, Origin, record_key};
use crate::snapshot::{Making, Public, Record, Sealed, Segments, Stats, Status, Warning};
use crate::tree::TreeBuilder;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use store::Shelf;

/// How many groups are sealed under one salt.
const GROUPS_PER_SALT: u32 = 1 << 16;
/// The most warnings a snapshot keeps.
const WARNINGS_MAX: usize = 1000;

/// What a run is about.
#[derive(Clone, Debug)]
pub struct CapturePlan {
    /// Host name.
    pub host: String,
    /// Who runs it.
    pub user: String,
    /// `files` or `stream`.
    pub kind: String,
    /// What is protected, as percent paths.
    pub paths: Vec<String>,
    /// Which source it is of, `PLATFORM/SOURCE`, where it is one that has a name.
    pub source: Option<String>,
    /// Its owner's words for it.
    pub tags: Vec<String>,
    /// Why it is made.
    pub reason: Option<String>,
    /// Name and version of the program.
    pub program: String,
    /// Which process this is.
    pub process: Process,
    /// How hard to compress.
    pub compression: Compression,
    /// When the source was looked at; the world's clock when `None`.
    pub time: Option<store::Timestamp>,
    /// When what is stored counts as stored.
    pub assurance: Assurance,
}

/// How a run went, as far as the source can tell.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What could not be taken, as (percent path, what happened). The first thousand are kept with the snapshot.
    pub warnings: Vec<Warning>,
    /// How many things could not be taken: one or more makes the snapshot partial.
    pub errors: u64,
    /// What the source says about itself, for readers only.
    pub facts: Option<serde_json::Value>,
    /// The segments without which the snapshot is worth nothing.
    pub segments: Option<Segments>,
}

/// What index a cache was made against: when all of it is still there, what the cache remembers is too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis(BTreeSet<String>);

impl Basis {
    /// Bytes to keep.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().filter_map(|name| unhex::<32>(name)).flatten().collect()
    }

    /// The basis that was kept as these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Basis> {
        bytes.len().is_multiple_of(32).then(|| Basis(bytes.chunks_exact(32).map(hex).collect()))
    }
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What a cache of this run rests on.
    pub basis: Basis,
}

/// One run.
pub struct Capture<'r> {
    repository: &'r Repository,
    plan: CapturePlan,
    started: store::Timestamp,
    began: std::time::Duration,
    domain: DomainKeys,
    signing: Arc<Signing>,
    intent: Option<Intent>,
    run: RunId,
    data_key: Secret,
    cutter: Cutter,
    engine: Engine<'r>,
    content: ListBuilder,
    meta: ListBuilder,
    tree: TreeBuilder,
    pending: Vec<ChunkId>,
    stats: Stats,
}

/// What stores chunks: everything but the lists and the tree, which hand it their nodes.
struct Engine<'r> {
    repository: &'r Repository,
    domain: DomainKeys,
    signing: Arc<Signing>,
    run: RunId,
    data_key: Secret,
    index: Index,
    /// Some of what the index names is about to go, or gone: what a cache remembers must be looked up.
    unsure: bool,
    fresh: HashSet<ChunkId>,
    table: TableBuilder,
    table_began: std::time::Duration,
    open: BTreeMap<ChunkKind, (Vec<Member>, Vec<u8>)>,
    origins: BTreeMap<ChunkKind, (Origin, Arc<Aead>, u32)>,
    pipeline: Option<Pipeline>,
    group_bytes: usize,
    assurance: Assurance,
    new_bytes: u64,
    stored_bytes: u64,
}

impl Repository {
    /// Begins a run. Announces it first; from then on nothing that it refers to can be swept.
    ///
    /// # Errors
    /// `NotAuthorised` without a writer's key; whatever the store returns.
    pub fn capture(&self, plan: CapturePlan) -> Result<Capture<'_>> {
        let (domain, signing) = self.keyring.writing()?;
        let signing = Arc::new(signing);
        let ids = domain
            .ids()
            .ok_or(RepoError::NotAuthorised { needed: "writer", held: self.keyring.role().name().into() })?;
        let seed = domain.chunker_seed().expect("a writer has the id key");
        let state = self.state()?;
        let announcer = Announcer { store: &self.store, world: &self.world, trust: &self.trust, signing: &signing };
        let intent = announcer.announce(Work::Write, domain.domain, &domain.keep_key, &state.tips, &plan.process)?;
        let lists = intent::condemned(&self.store, &self.trust)?;
        let condemned: Vec<PackId> = lists.iter().flat_map(|(_, list)| list.packs.iter().copied()).collect();
        let own = domain.clone();
        let mut index =
            Index::open(&self.store, &self.trust, &move |d| (d == own.domain).then(|| own.keep_key.clone()))?;
        index.leave_out_revoked(&self.trust);
        let mut gone = self.lost_packs(&index)?;
        gone.extend(self.unreadable_packs(&index, &lists)?);
        let condemned = if store::sabotaged("use what is condemned") { Vec::new() } else { condemned };
        let unsure = !condemned.is_empty() || !gone.is_empty();
        index.leave_out(condemned.into_iter().chain(gone));
        let (run, data_key) = runs::start(&self.store, &self.world, self.config.repository, &self.config.recipients)?;
        let stages = Stages {
            store: self.store.clone(),
            world: self.world.clone(),
            repository: self.config.repository,
            domain: domain.domain,
            keep_key: domain.keep_key.clone(),
            signing: Arc::clone(&signing),
            compression: plan.compression,
            pack_bytes: self.config.pack_bytes as usize,
            assurance: plan.assurance,
        };
        let engine = Engine {
            repository: self,
            domain: domain.clone(),
            signing: Arc::clone(&signing),
            run,
            data_key: data_key.clone(),
            index,
            unsure,
            fresh: HashSet::new(),
            table: TableBuilder::default(),
            table_began: self.world.clock.monotonic(),
            open: BTreeMap::new(),
            origins: BTreeMap::new(),
            pipeline: Some(Pipeline::start(stages)?),
            // A group lies in one pack.
            group_bytes: self.config.chunker.group.min(self.config.pack_bytes) as usize,
            assurance: plan.assurance,
            new_bytes: 0,
            stored_bytes: 0,
        };
        Ok(Capture {
            repository: self,
            started: plan
                .time
                .filter(|_| !store::sabotaged("stamp now instead of the source's time"))
                .unwrap_or_else(|| self.world.clock.now()),
            plan,
            began: self.world.clock.monotonic(),
            cutter: Cutter::new(self.config.chunker, seed, ids.content),
            content: ListBuilder::new(domain.list_ids(), domain.list_digest()),
            meta: ListBuilder::new(domain.list_ids(), domain.list_digest()),
            tree: TreeBuilder::new(ids.entries),
            domain,
            signing,
            intent: Some(intent),
            run,
            data_key,
            engine,
            pending: Vec::new(),
            stats: Stats::default(),
        })
    }
}

impl Repository {
    /// Packs that the index names and the store does not have: what was in them must be stored anew.
    fn lost_packs(&self, index: &Index) -> Result<Vec<PackId>> {
        let listed: HashSet<PackId> =
            self.store.list(Shelf::Packs)?.iter().filter_map(|listed| PackId::parse(listed.key.name())).collect();
        let named = (0..index.table_count()).flat_map(|table| index.table_packs(table)).map(|pack| pack.id);
        Ok(named.filter(|id| !listed.contains(id)).collect())
    }

    /// Packs of runs whose data key is gone, or about to go: a run that was given up and did not know it yet may have stored
    /// and named them since. Looked at after the lists: a key goes before the list that condemns it.
    fn unreadable_packs(&self, index: &Index, lists: &[(store::Key, intent::Condemned)]) -> Result<BTreeSet<PackId>> {
        let condemned: HashSet<RunId> = lists.iter().flat_map(|(_, list)| list.runs.iter().copied()).collect();
        let there: HashSet<RunId> = self.store.list(Shelf::Runs)?.iter().filter_map(|l| runs::run_of(&l.key)).collect();
        index.packs_of_runs(&|run| condemned.contains(run) || !there.contains(run))
    }
}

impl Engine<'_> {
    fn known(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.fresh.contains(id) || self.index.find(id)?.is_some())
    }

    /// Stores a chunk unless it is known. Returns whether it was new.
    fn put(&mut self, kind: ChunkKind, id: ChunkId, data: &[u8]) -> Result<bool> {
        if self.known(&id)? {
            return Ok(false);
        }
        let limit = self.group_bytes;
        let full = |(members, plain): &(Vec<Member>, Vec<u8>)| {
            !plain.is_empty() && (plain.len() + data.len() > limit || members.len() >= MEMBERS_MAX)
        };
        if self.open.get(&kind).is_some_and(full) {
            self.close(kind)?;
        }
        let (members, plain) = self.open.entry(kind).or_default();
        if plain.capacity() == 0 {
            plain.reserve_exact(limit.max(data.len()));
        }
        members.push(Member { id, len: u32::try_from(data.len()).expect("chunks are within their limit") });
        plain.extend_from_slice(data);
        self.fresh.insert(id);
        self.new_bytes += data.len() as u64;
        Ok(true)
    }

    fn close(&mut self, kind: ChunkKind) -> Result<()> {
        let Some((members, plain)) = self.open.remove(&kind) else { return Ok(()) };
        let (origin, key, counter) = self.next_origin(kind);
        let group = Group { kind, origin, key, counter, members, plain };
        let pipeline = self.pipeline.as_mut().expect("the pipeline runs until the commit");
        pipeline.push(group)?;
        let stored = pipeline.done();
        self.note(stored)
    }

    fn next_origin(&mut self, kind: ChunkKind) -> (Origin, Arc<Aead>, u32) {
        let used_up = self.origins.get(&kind).is_none_or(|(_, _, next)| *next >= GROUPS_PER_SALT);
        if used_up {
            let origin = Origin { run: self.run, salt: self.repository.world.random() };
            let material = if kind == ChunkKind::List { &self.domain.keep_key } else { &self.data_key };
            let key = Arc::new(record_key(kind, material, &origin));
            self.origins.insert(kind, (origin, key, 0));
        }
        let (origin, key, next) = self.origins.get_mut(&kind).expect("made above");
        let counter = *next;
        if !store::sabotaged("use a nonce twice") {
            *next += 1;
        }
        (*origin, Arc::clone(key), counter)
    }

    /// Notes durable packs, and writes a table when there are enough: often enough that a run that is killed loses little.
    fn note(&mut self, stored: Vec<StoredPack>) -> Result<()> {
        for StoredPack { pack, records } in stored {
            self.stored_bytes += u64::from(pack.bytes);
            self.table.add_pack(pack, &records);
        }
        let waited = self.repository.world.clock.monotonic().saturating_sub(self.table_began);
        if self.table.entries() >= TABLE_ENTRIES_MAX || (self.table.entries() > 0 && waited >= intent::REFRESH) {
            self.write_table()?;
        }
        Ok(())
    }

    fn write_table(&mut self) -> Result<()> {
        let repository = self.repository;
        self.table_began = repository.world.clock.monotonic();
        let header = HeaderParts {
            repository: repository.config.repository,
            domain: self.domain.domain,
            salt: repository.world.random(),
        };
        let table = std::mem::take(&mut self.table);
        let Some((key, object)) = table.finish(header, &self.domain.keep_key, &self.signing) else { return Ok(()) };
        self.assurance.put(&repository.store, &key, &object)?;
        let own = self.domain.clone();
        match self.index.add(&repository.trust, &move |_| Some(own.keep_key.clone()), &key) {
            // A store that keeps nothing (a dry run) has no table to look into: what is new stays in memory.
            Err(RepoError::Store(e)) if e.is_absent() => return Ok(()),
            other => other?,
        }
        // What is in a table need not be kept in memory too.
        let index = &self.index;
        let mut failed = None;
        self.fresh.retain(|id| match index.find(id) {
            Ok(found) => found.is_none(),
            Err(e) => {
                failed.get_or_insert(e);
                true
            }
        });
        failed.map_or(Ok(()), Err)
    }
}

impl Capture<'_> {
    /// What cuts and hashes content for this run. Give each thread its own.
    pub fn cutter(&self) -> Cutter {
        self.cutter.clone()
    }

    /// Adds a chunk of the entry that is given next. Stores it unless it is known.
    ///
    /// # Errors
    /// Whatever the store returned for this or an earlier chunk.
    pub fn chunk(&mut self, cut: Cut) -> Result<()> {
        self.look_up()?;
        self.engine.put(ChunkKind::Content, cut.id, &cut.data)?;
        self.note_content(cut.id)
    }

    /// Stores a chunk that belongs to no entry yet, unless it is known. [`Capture::reuse`] gives it to one later in this run:
    /// for content that comes in another order than its entries.
    ///
    /// # Errors
    /// As [`Capture::chunk`].
    pub fn store_ahead(&mut self, cut: Cut) -> Result<ChunkId> {
        self.look_up()?;
        self.engine.put(ChunkKind::Content, cut.id, &cut.data)?;
        Ok(cut.id)
    }

    /// Adds stored chunks to the entry that is given next, if all of them are there; otherwise adds none and returns
    /// `false`.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn reuse(&mut self, ids: &[ChunkId]) -> Result<bool> {
        for id in ids {
            if !self.engine.known(id)? {
                return Ok(false);
            }
        }
        self.reuse_unchecked(ids)?;
        Ok(true)
    }

    /// Whether everything that was stored when `basis` was taken is still there.
    pub fn trusts(&self, basis: &Basis) -> bool {
        let tables: BTreeSet<&str> = self.engine.index.table_keys().map(store::Key::name).collect();
        !self.engine.unsure && basis.0.iter().all(|name| tables.contains(name.as_str()))
    }

    /// As [`Capture::reuse`] without looking: only for ids remembered with a basis that this run trusts.
    ///
    /// # Errors
    /// Whatever the store returned for an earlier chunk.
    pub fn reuse_unchecked(&mut self, ids: &[ChunkId]) -> Result<()> {
        ids.iter().try_for_each(|id| self.note_content(*id))
    }

    fn note_content(&mut self, id: ChunkId) -> Result<()> {
        let Capture { content, engine, pending, .. } = self;
        pending.push(id);
        content.push(id, &mut |id, bytes| engine.put(ChunkKind::List, id, &bytes).map(drop))
    }

    /// The chunks given since the last entry.
    pub fn pending(&self) -> &[ChunkId] {
        &self.pending
    }

    /// Adds an entry. Keys must ascend. A file owns the chunks given since the previous entry.
    ///
    /// # Errors
    /// `Limit` for keys out of order, or a file whose count of chunks is another than was given.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.look_up()?;
        let given = self.pending.len() as u64;
        let counted = if let Node::File(file) = &entry.node { file.chunks } else { 0 };
        if counted != given {
            return Err(RepoError::Limit(format!("an entry counts {counted} chunks and {given} were given")));
        }
        self.pending.clear();
        match &entry.node {
            Node::File(file) => {
                self.stats.files += 1;
                self.stats.bytes = self.stats.bytes.saturating_add(file.size);
            }
            Node::Dir => self.stats.dirs += 1,
            _ => self.stats.others += 1,
        }
        let Capture { tree, meta, content: _, engine, .. } = self;
        tree.push(entry, &mut |id, bytes| put_entries(engine, meta, id, &bytes))
    }

    /// Counts so far.
    pub fn stats(&self) -> Stats {
        Stats { new_bytes: self.engine.new_bytes, stored_bytes: self.engine.stored_bytes, ..self.stats.clone() }
    }

    fn look_up(&mut self) -> Result<()> {
        let Repository { store, world, trust, .. } = self.repository;
        if world.stop.requested() {
            return Err(RepoError::Stopped);
        }
        let announcer = Announcer { store, world, trust, signing: &self.signing };
        match &mut self.intent {
            Some(intent) => announcer.refresh(intent),
            None => Ok(()),
        }
    }

    /// Makes the snapshot. When this returns `Ok` the snapshot and all that it refers to survive power loss. The only
    /// way a snapshot appears.
    ///
    /// # Errors
    /// `Fenced` when a keeper gave the run up, whatever the store returns: nothing is visible then. But for a run that
    /// is given up in the very moment in which it commits: its snapshot is visible, and `verify` tells whether it is whole.
    pub fn commit(mut self, outcome: Outcome) -> Result<Committed> {
        self.look_up()?;
        let Capture { engine, tree, meta, content, .. } = &mut self;
        let fresh = || ListBuilder::new(engine.domain.list_ids(), engine.domain.list_digest());
        let (content, mut meta) = (std::mem::replace(content, fresh()), std::mem::replace(meta, fresh()));
        let empty = TreeBuilder::new(engine.data_key.clone());
        let entries =
            std::mem::replace(tree, empty).finish(&mut |id, bytes| put_entries(engine, &mut meta, id, &bytes))?;
        let mut put_node = |id, bytes: Vec<u8>| engine.put(ChunkKind::List, id, &bytes).map(drop);
        let content = content.finish(&mut put_node)?;
        let meta = meta.finish(&mut put_node)?;
        for kind in [ChunkKind::Content, ChunkKind::Entries, ChunkKind::List] {
            engine.close(kind)?;
        }
        let stored = engine.pipeline.take().expect("the pipeline runs until the commit").finish()?;
        engine.note(stored)?;
        if !store::sabotaged("commit before the index") {
            engine.write_table()?;
        }

        let stats = Stats {
            errors: outcome.errors,
            seconds: self.repository.world.clock.monotonic().saturating_sub(self.began).as_secs_f64(),
            ..self.stats()
        };
        let public = Public {
            v: 1,
            time: crate::time::text(self.started),
            finished: crate::time::text(self.repository.world.clock.now()),
            host: self.plan.host.clone(),
            user: self.plan.user.clone(),
            kind: self.plan.kind.clone(),
            paths: self.plan.paths.clone(),
            source: self.plan.source.clone(),
            tags: self.plan.tags.clone(),
            reason: self.plan.reason.clone(),
            status: if outcome.errors == 0 { Status::Complete } else { Status::Partial },
            program: self.plan.program.clone(),
            stats,
            segments: outcome.segments,
            content: content.clone(),
            meta,
        };
        let mut warnings = outcome.warnings;
        warnings.truncate(WARNINGS_MAX);
        let sealed = Sealed { v: 1, entries, content, warnings, facts: outcome.facts };
        let record = self.making().record(&public, &sealed)?;
        let snapshot = match self.write_head(&record) {
            Err(e) if store::sabotaged("take an unclear answer for failure and begin anew") && !e.is_damage() => {
                self.write_head(&self.making().record(&public, &sealed)?)?
            }
            written => written?,
        };
        if store::sabotaged("commit before the index") {
            self.engine.write_table()?;
        }
        let basis = Basis(self.engine.index.table_keys().map(|key| key.name().to_owned()).collect());
        Ok(Committed { snapshot, basis })
    }

    fn making(&self) -> Making<'_> {
        let world = &self.repository.world;
        Making {
            repository: self.repository.config.repository,
            domain: self.domain.domain,
            run: self.run,
            keep_key: &self.domain.keep_key,
            data_key: &self.data_key,
            signing: &self.signing,
            salts: [world.random(), world.random()],
        }
    }

    fn write_head(&mut self, record: &[u8]) -> Result<Snapshot> {
        let Repository { store, world, trust, .. } = self.repository;
        let mut next = State::load(store, trust)?.next(world);
        if next.parents.is_empty() {
            // Nobody but root begins a history: a head that follows nothing would not count.
            return Err(RepoError::LostHistory("not one head can be seen".into()));
        }
        next.adds = vec![crate::b64::encode(record)];
        next.intent = self.intent.as_ref().map(Intent::id);
        self.check_not_fenced()?;
        let id = match head::commit(store, trust, &self.signing, &next) {
            Err(RepoError::Store(e)) if e.may_pass() && !store::sabotaged("end what may still arrive") => {
                // It may arrive yet. Without an end its announcement is waited for, and fenced when it is given up: then
                // a head that comes too late does not count.
                self.intent = None;
                return Err(e.into());
            }
            committed => committed?,
        };
        // A keeper that gives us up deletes our announcement and then reads the heads; we write the head and then look
        // for our announcement: one of us sees the other.
        self.check_not_fenced()?;
        // It is committed: what fails from here on must not look as if it were not.
        if let Some(intent) = self.intent.take() {
            let announcer = Announcer { store, world, trust, signing: &self.signing };
            announcer.end(&intent, "committed", Some(id)).ok();
        }
        let record = Record::decode(trust, record)?;
        let public = record.open_public(trust.repository, &self.domain.keep_key)?;
        Ok(Snapshot::new(record, public, next.height))
    }

    fn check_not_fenced(&self) -> Result<()> {
        if store::sabotaged("fence nobody") {
            return Ok(());
        }
        let Repository { store, world, trust, .. } = self.repository;
        let announcer = Announcer { store, world, trust, signing: &self.signing };
        self.intent.as_ref().map_or(Ok(()), |intent| announcer.check(intent))
    }
}

fn put_entries(engine: &mut Engine<'_>, meta: &mut ListBuilder, id: ChunkId, bytes: &[u8]) -> Result<()> {
    engine.put(ChunkKind::Entries, id, bytes)?;
    meta.push(id, &mut |id, bytes| engine.put(ChunkKind::List, id, &bytes).map(drop))
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        let Repository { store, world, trust, .. } = self.repository;
        if let Some(intent) = self.intent.take() {
            let announcer = Announcer { store, world, trust, signing: &self.signing };
            // Best effort: an intent without an end only delays the next prune.
            announcer.end(&intent, "failed", None).ok();
        }
    }
}
