//! Is everything there, is it what it says it is, and whose files suffer when it is not.
//!
//! Three depths: *listed* (metadata is read, data is looked for), *digests* (every object's bytes match its name: needs no
//! key), *decoded* (every record is opened and every chunk compared with its name). It never changes anything.

use crate::entry::{Node, path_of_key, percent_path};
use crate::error::{RepoError, Result};
use crate::head::{Snapshot, State};
use crate::id::{ChunkId, IntentId, PackId, SnapshotId};
use crate::index::Index;
use crate::intent::{self, Process};
use crate::lanes;
use crate::pack::{self, Packed, pack_key};
use crate::read::{Checked, Chunks, Reading};
use crate::repository::Repository;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Kind, Listed, Shelf, Store, World};

/// The most paths that are named per snapshot.
const PATHS_MAX: usize = 100;

/// How deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Metadata is read; data is looked for and its size compared.
    Listed,
    /// Every object's bytes match its name.
    Digests,
    /// Every record opens, every chunk matches its name.
    Decoded,
}

/// Of which packs the data is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// All.
    All,
    /// About so many percent, others each time.
    Percent(f64),
    /// The `n`-th of `of` parts, the same every time.
    Part {
        /// From 1.
        n: u32,
        /// How many parts.
        of: u32,
    },
}

/// What to verify.
pub struct VerifyPlan<'a> {
    /// How deep.
    pub depth: Depth,
    /// How much of the data.
    pub share: Share,
    /// Only what these snapshots need; all snapshots when `None`.
    pub snapshots: Option<&'a [SnapshotId]>,
    /// Who does it.
    pub process: Process,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug)]
pub struct VerifyStep {
    /// What it does.
    pub phase: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is.
    pub total: u64,
    /// Bytes read so far.
    pub bytes: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Objects looked at.
    pub objects: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Snapshots checked.
    pub snapshots: u64,
    /// Chunks opened and compared with their names.
    pub chunks: u64,
    /// What is wrong.
    pub problems: Vec<VerifyProblem>,
    /// Whose files suffer.
    pub damaged_snapshots: Vec<SnapshotDamage>,
    /// Harmless things worth knowing.
    pub notes: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyProblem {
    /// Which object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// What a snapshot lost.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotDamage {
    /// Which snapshot.
    pub id: SnapshotId,
    /// The first hundred of its damaged paths, as percent paths.
    pub paths: Vec<String>,
    /// How many more there are.
    pub more: u64,
}

const HELP_COPY: &str = "if another copy of the repository has it: backstay verify --repair-from COPY";
const HELP_REPAIR: &str = "backstay verify --repair writes it again";
const HELP_DISCARD: &str = "backstay verify --repair takes it away";
const HELP_FORGED: &str = "somebody put it there: find out who could, and remove it";
const HELP_HISTORY: &str =
    "snapshots may be missing from the list: bring it back from a copy with verify --repair-from COPY";

fn problem(object: impl Into<String>, what: impl Into<String>, help: &str) -> VerifyProblem {
    VerifyProblem { object: object.into(), what: what.into(), help: help.to_owned() }
}

/// What a pack is to a verification.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Snapshots need it.
    Needed,
    /// A table names it, and no snapshot that is verified needs it.
    Indexed,
    /// No table names it.
    Loose,
}

/// Counts shared by the lanes.
struct Counts<'a> {
    on: &'a (dyn Fn(VerifyStep) + Sync),
    bytes: AtomicU64,
    done: AtomicU64,
    problems: Mutex<Vec<VerifyProblem>>,
}

impl<'a> Counts<'a> {
    fn new(on: &'a (dyn Fn(VerifyStep) + Sync)) -> Self {
        Counts { on, bytes: AtomicU64::new(0), done: AtomicU64::new(0), problems: Mutex::default() }
    }

    fn report(&self, problem: VerifyProblem) {
        self.problems.lock().expect("no holder panics").push(problem);
    }

    fn step(&self, phase: &'static str, total: u64, bytes: u64) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.on)(VerifyStep { phase, done, total, bytes });
    }
}

/// Compares the bytes of every object of `shelves` with its name. Needs no key.
fn check_digests(store: &Store, world: &World, objects: &[Listed], counts: &Counts<'_>) -> Result<()> {
    let total = objects.len() as u64;
    let on = (world, lanes::reading(world, store));
    lanes::each(on, objects, &|listed| listed.bytes, &|listed| {
        match store.get_checked(&listed.key) {
            Ok(body) => counts.step("digests", total, body.len() as u64),
            // A prune takes such away while this runs. Whether what is gone is missed, other checks tell.
            Err(e) if e.is_absent() && is_passing(listed.key.shelf()) => counts.step("digests", total, 0),
            Err(e) if matches!(e.kind, Kind::Corrupt | Kind::Absent) => {
                counts.report(problem(listed.key.path(), e.why, HELP_COPY));
                counts.step("digests", total, 0);
            }
            Err(e) => return Err(e.into()),
        }
        Ok(())
    })
}

/// Whether objects of this shelf go in a sound repository although nothing was forgotten.
fn is_passing(shelf: Shelf) -> bool {
    matches!(shelf, Shelf::Intents | Shelf::Condemned | Shelf::Index | Shelf::Heads)
}

fn named_objects(store: &Store) -> Result<Vec<Listed>> {
    let mut objects = Vec::new();
    for shelf in Shelf::ALL.into_iter().filter(|shelf| *shelf != Shelf::Root) {
        objects.extend(store.list(shelf)?);
    }
    Ok(objects)
}

/// Compares every object's bytes with its name, with no key at all.
///
/// # Errors
/// `NoRepository`; whatever the store returns.
pub fn verify_keyless(store: &Store, world: &World, on: &(dyn Fn(VerifyStep) + Sync)) -> Result<VerifyReport> {
    let began = world.clock.monotonic();
    let counts = Counts::new(on);
    let mut warnings = Vec::new();
    Repository::check_config(store, &mut warnings)?;
    let objects = named_objects(store)?;
    for listed in objects.iter().filter(|listed| listed.key.digest().is_none()) {
        counts.report(problem(
            listed.key.path(),
            "has a name without a digest",
            "it does not belong here: look at it, and remove it",
        ));
    }
    let named: Vec<Listed> = objects.into_iter().filter(|listed| listed.key.digest().is_some()).collect();
    check_digests(store, world, &named, &counts)?;
    let mut report = VerifyReport {
        objects: named.len() as u64 + 1,
        bytes_read: counts.bytes.load(Ordering::Relaxed),
        problems: counts.problems.into_inner().expect("no holder panics"),
        seconds: world.clock.monotonic().saturating_sub(began).as_secs_f64(),
        ..VerifyReport::default()
    };
    report.problems.extend(warnings.into_iter().map(|what| problem("backstay.json", what, HELP_REPAIR)));
    report.problems.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(report)
}

impl Repository {
    /// Checks the repository as deep as asked, and says whose files suffer from what is wrong.
    ///
    /// # Errors
    /// `NotAuthorised` when the key cannot look that deep; whatever the store returns. Damage is no error here: it is in
    /// the report.
    pub fn verify(&self, plan: &VerifyPlan<'_>, on: &(dyn Fn(VerifyStep) + Sync)) -> Result<VerifyReport> {
        let began = self.world.clock.monotonic();
        if plan.depth == Depth::Decoded {
            self.keyring.opening()?;
        }
        let counts = Counts::new(on);
        let mut report = VerifyReport::default();
        for warning in &self.warnings {
            counts.report(problem("the repository's keys", warning, HELP_REPAIR));
        }
        self.check_keys(&counts)?;
        let reading = self.reading_ids(&plan.process)?;
        let state = State::load(&self.store, &self.trust)?;
        for (id, e) in &state.problems {
            counts.report(problem(format!("heads/{id}"), e.to_string(), HELP_HISTORY));
        }
        for (id, e) in state.unreadable(&self.trust, &self.keyring) {
            counts.report(problem(format!("snapshot {}", id.short()), e.to_string(), HELP_COPY));
        }
        self.check_work(&state, reading.intent(), &counts, &mut report)?;
        let chunks = reading.chunks();
        let index = chunks.index();
        for (key, e) in &index.damaged {
            counts.report(problem(key.path(), e.to_string(), HELP_REPAIR));
        }
        let snapshots: Vec<Snapshot> = self.visible(&state, plan, &counts)?;
        report.snapshots = snapshots.len() as u64;

        let mut damage = Damage::default();
        let packs = self.check_listed(&index, &counts, &mut damage, &mut report)?;
        let needed = self.check_snapshots(&reading, &snapshots, &counts, &mut damage)?;
        let (missed, forgotten): (Vec<PackId>, Vec<PackId>) = damage.gone.iter().partition(|id| needed.contains(id));
        for id in missed {
            counts.report(problem(pack_key(&id).path(), "is gone", HELP_COPY));
            damage.packs.insert(id);
        }
        if !forgotten.is_empty() {
            let count = forgotten.len();
            report.notes.push(format!(
                "{count} packs are gone that an index table names and no snapshot needs: prune forgets them"
            ));
        }
        let all = plan.snapshots.is_none();
        let standing = |id: &PackId, named: bool| match (needed.contains(id), named) {
            (true, _) => Standing::Needed,
            (false, true) => Standing::Indexed,
            (false, false) => Standing::Loose,
        };
        let chosen: Vec<(PackId, Standing)> = packs
            .iter()
            .map(|(id, named)| (*id, standing(id, *named)))
            .filter(|(id, standing)| (all || *standing == Standing::Needed) && self.is_chosen(plan.share, id))
            .collect();
        let mut objects = Vec::new();
        match plan.depth {
            Depth::Listed => {}
            Depth::Digests | Depth::Decoded => {
                let small = named_objects(&self.store)?.into_iter().filter(|listed| listed.key.shelf() != Shelf::Packs);
                objects.extend(small);
                check_digests(&self.store, &self.world, &objects, &counts)?;
            }
        }
        if plan.depth >= Depth::Digests {
            self.check_packs(plan, chunks, &chosen, &counts, &mut damage, &mut report)?;
        }
        report.objects += (objects.len() + packs.len()) as u64;
        self.name_victims(&reading, &snapshots, &damage, &mut report)?;
        report.bytes_read = counts.bytes.load(Ordering::Relaxed);
        report.problems = counts.problems.into_inner().expect("no holder panics");
        report.problems.sort_by(|a, b| (&a.object, &a.what).cmp(&(&b.object, &b.what)));
        report.problems.dedup_by(|a, b| a.object == b.object);
        report.seconds = self.world.clock.monotonic().saturating_sub(began).as_secs_f64();
        Ok(report)
    }

    /// Whether a table names this pack now. A prune that puts what is needed elsewhere takes it out of the tables first.
    fn is_named(&self, id: &PackId) -> Result<bool> {
        let index = Index::open(&self.store, &self.trust, &|domain| self.keep_key(domain))?;
        Ok((0..index.table_count()).any(|table| index.table_packs(table).iter().any(|pack| pack.id == *id)))
    }

    fn is_chosen(&self, share: Share, id: &PackId) -> bool {
        let number = u32::from_le_bytes([id.0[0], id.0[1], id.0[2], id.0[3]]);
        match share {
            Share::All => true,
            Share::Part { n, of } => of > 0 && number % of == n.saturating_sub(1) % of,
            Share::Percent(percent) => {
                let draw = u32::from_le_bytes(self.world.random());
                f64::from(draw) < f64::from(u32::MAX) * (percent / 100.0).clamp(0.0, 1.0)
            }
        }
    }

    /// Keys, certificates, and the configuration's copies.
    fn check_keys(&self, counts: &Counts<'_>) -> Result<()> {
        let mut copies: BTreeMap<String, u32> = BTreeMap::new();
        for listed in self.store.list(Shelf::Keys)? {
            let label = listed.key.name().split('.').next().unwrap_or_default().to_owned();
            let stem = label.strip_suffix("-a").or(label.strip_suffix("-b")).unwrap_or(&label).to_owned();
            match self.store.get_checked(&listed.key) {
                Ok(object) => {
                    let sound = copies.entry(stem.clone()).or_default();
                    match self.belongs(&stem, &object) {
                        Ok(()) => *sound += 1,
                        Err(what) => counts.report(problem(listed.key.path(), what, HELP_FORGED)),
                    }
                }
                Err(e) if matches!(e.kind, Kind::Corrupt | Kind::Absent) => {
                    copies.entry(stem).or_default();
                    counts.report(problem(listed.key.path(), e.why, HELP_REPAIR));
                }
                Err(e) => return Err(e.into()),
            }
        }
        for (stem, sound) in &copies {
            let wanted = if stem == "config" { 1 } else { 2 };
            if *sound < wanted {
                counts.report(problem(
                    format!("keys/{stem}"),
                    format!("has {sound} sound copies instead of {wanted}"),
                    HELP_REPAIR,
                ));
            }
        }
        for (stem, sound) in copies.iter().filter(|(stem, sound)| stem.starts_with("owner-") && **sound > 2) {
            let what = format!("has {sound} copies instead of 2, and somebody else put the others there");
            counts.report(problem(format!("keys/{stem}"), what, "backstay key passwd puts a new one in its place"));
        }
        for stem in ["config", "masters"] {
            if !copies.contains_key(stem) {
                counts.report(problem(format!("keys/{stem}"), "is gone", HELP_REPAIR));
            }
        }
        Ok(())
    }

    /// Announcements, condemned lists, events. What a finished run says it committed must be there.
    fn check_work(
        &self,
        state: &State,
        own: Option<IntentId>,
        counts: &Counts<'_>,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let (announced, damaged) = intent::announced(&self.store, &self.trust, &|d| self.keep_key(d))?;
        for (key, e) in damaged {
            counts.report(problem(key.path(), e.to_string(), HELP_REPAIR));
        }
        for (id, intent) in &announced {
            match intent.head {
                // It may have been committed after the heads were read.
                Some(head) if intent::is_lost(&self.store, state, &head)? => {
                    let what = "was committed, as its author noted, and is gone";
                    counts.report(problem(format!("heads/{head}"), what, HELP_HISTORY));
                }
                _ => {}
            }
            if !intent.ended && Some(*id) != own {
                let who =
                    intent.process.as_ref().map(|p| format!(" by {} on {}", p.command, p.host)).unwrap_or_default();
                report.notes.push(format!("work {} is open{who}: it runs, or it was killed", id.short()));
            }
        }
        for (key, e) in intent::not_keepers(&self.store, &self.trust)? {
            counts.report(problem(key.path(), e.to_string(), HELP_DISCARD));
        }
        for listed in self.store.list(Shelf::Events)? {
            if let Err(e) = self.event(&listed)? {
                counts.report(problem(listed.key.path(), e.to_string(), HELP_COPY));
            }
        }
        Ok(())
    }

    fn visible(&self, state: &State, plan: &VerifyPlan<'_>, counts: &Counts<'_>) -> Result<Vec<Snapshot>> {
        match state.snapshots(&self.trust, &self.keyring) {
            Ok(snapshots) => Ok(snapshots
                .into_iter()
                .filter(|snapshot| plan.snapshots.is_none_or(|wanted| wanted.contains(&snapshot.id)))
                .collect()),
            Err(e) if e.is_damage() => {
                counts.report(problem("heads/", e.to_string(), HELP_HISTORY));
                Ok(Vec::new())
            }
            Err(e) => Err(e),
        }
    }

    /// Every pack that a table names is listed with its size; what no table names is noted. Returns the packs, and whether a
    /// table names them.
    fn check_listed(
        &self,
        index: &Index,
        counts: &Counts<'_>,
        damage: &mut Damage,
        report: &mut VerifyReport,
    ) -> Result<BTreeMap<PackId, bool>> {
        let listed: BTreeMap<PackId, u64> = self
            .store
            .list(Shelf::Packs)?
            .into_iter()
            .filter_map(|listed| Some((PackId::parse(listed.key.name())?, listed.bytes)))
            .collect();
        let mut named = HashSet::new();
        for table in 0..index.table_count() {
            for pack in index.table_packs(table) {
                if !named.insert(pack.id) {
                    continue;
                }
                match listed.get(&pack.id) {
                    Some(bytes) if *bytes == u64::from(pack.bytes) => {}
                    Some(bytes) => {
                        let what = format!("has {bytes} bytes instead of {}", pack.bytes);
                        counts.report(problem(pack_key(&pack.id).path(), what, HELP_COPY));
                        damage.packs.insert(pack.id);
                    }
                    // Whether it is missed, the snapshots tell.
                    None => {
                        damage.gone.insert(pack.id);
                    }
                }
            }
        }
        let loose = listed.keys().filter(|id| !named.contains(id)).count();
        if loose > 0 {
            report.notes.push(format!(
                "{loose} packs are in no index table: left by a run that was cut off, or the table is lost"
            ));
        }
        Ok(listed.into_keys().map(|id| (id, named.contains(&id))).collect())
    }

    /// Reads each snapshot's lists and entries; looks up every chunk. Returns the packs that the snapshots need.
    fn check_snapshots(
        &self,
        reading: &Reading<'_>,
        snapshots: &[Snapshot],
        counts: &Counts<'_>,
        damage: &mut Damage,
    ) -> Result<HashSet<PackId>> {
        let chunks = reading.chunks();
        let mut needed = HashSet::new();
        let mut seen_nodes = HashSet::new();
        let mut checked = Checked::default();
        let can_open = self.keyring.opening().is_ok();
        counts.done.store(0, Ordering::Relaxed);
        for snapshot in snapshots {
            if self.world.stop.requested() {
                return Err(RepoError::Stopped);
            }
            let mut missing: Vec<ChunkId> = Vec::new();
            for list in [&snapshot.public.content, &snapshot.public.meta] {
                let mut enter = |id: &ChunkId| seen_nodes.insert(*id);
                let mut visit = |id: ChunkId| {
                    match chunks.places(&id) {
                        Ok(places) if places.is_empty() => missing.push(id),
                        Ok(places) => {
                            needed.insert(places[0].pack);
                        }
                        Err(e) if e.is_damage() => missing.push(id),
                        Err(e) => return Err(e),
                    }
                    Ok(())
                };
                if let Err(e) = list.mark(&|id| chunks.chunk(id), &mut enter, &mut visit) {
                    note_snapshot(snapshot, e, counts, damage)?;
                }
            }
            if let Some(first) = missing.first() {
                let what = format!("{} chunks are in no pack, {} the first", missing.len(), first.short());
                counts.report(problem(format!("snapshot {}", snapshot.id.short()), what, HELP_COPY));
                damage.chunks.extend(missing);
            }
            if can_open {
                let opened = reading.open(snapshot).and_then(|reader| {
                    let keys = self.keyring.domain(snapshot.domain);
                    let keys = keys.ok_or_else(|| RepoError::damaged("a domain", "is not this key's to see"))?;
                    reader.check(&keys.list_digest(), &mut checked)
                });
                if let Err(e) = opened {
                    note_snapshot(snapshot, e, counts, damage)?;
                }
            }
            counts.step("snapshots", snapshots.len() as u64, 0);
        }
        Ok(needed)
    }

    fn check_packs(
        &self,
        plan: &VerifyPlan<'_>,
        chunks: &Chunks,
        packs: &[(PackId, Standing)],
        counts: &Counts<'_>,
        damage: &mut Damage,
        report: &mut VerifyReport,
    ) -> Result<()> {
        counts.done.store(0, Ordering::Relaxed);
        let total = packs.len() as u64;
        let opened = AtomicU64::new(0);
        let bad: Mutex<(HashSet<PackId>, HashSet<ChunkId>)> = Mutex::default();
        let on = (&self.world, lanes::reading(&self.world, &self.store));
        let bytes = u64::from(self.config.pack_bytes);
        lanes::each(on, packs, &|_| bytes, &|(id, standing)| {
            let key = pack_key(id);
            let checked = self.store.get_checked(&key).map_err(RepoError::from).and_then(|bytes| {
                counts.step("packs", total, bytes.len() as u64);
                // Whose contents this key cannot see, its digest can.
                let Some(contents) = pack::read_visible(&self.trust, |d| self.keep_key(d), &bytes)? else {
                    return Ok(());
                };
                if plan.depth < Depth::Decoded {
                    return Ok(());
                }
                for record in &contents.records {
                    let from = record.offset as usize;
                    let sealed = bytes[from..from + record.stored_len as usize].to_vec();
                    match chunks.check_record(*id, contents.header.domain, record, sealed) {
                        Ok(()) => {
                            opened.fetch_add(record.members.len() as u64, Ordering::Relaxed);
                        }
                        // The key of a run that nothing names may go before the last pack that the run left behind.
                        Err(RepoError::Damaged { object, .. })
                            if *standing == Standing::Loose && object.starts_with("runs/") => {}
                        Err(e) if e.is_damage() => {
                            counts.report(problem(key.path(), format!("record at {}: {e}", record.offset), HELP_COPY));
                            let mut bad = bad.lock().expect("no holder panics");
                            bad.1.extend(record.members.iter().map(|member| member.id));
                        }
                        Err(e) => return Err(e),
                    }
                }
                Ok(())
            });
            match checked {
                // A prune that began earlier swept it.
                Err(RepoError::Store(e))
                    if e.is_absent() && (*standing != Standing::Needed || !self.is_named(id)?) =>
                {
                    Ok(())
                }
                Err(RepoError::Store(e)) if matches!(e.kind, Kind::Corrupt | Kind::Absent) => {
                    counts.report(problem(key.path(), e.why, HELP_COPY));
                    bad.lock().expect("no holder panics").0.insert(*id);
                    Ok(())
                }
                Err(e) if e.is_damage() => {
                    counts.report(problem(key.path(), e.to_string(), HELP_COPY));
                    bad.lock().expect("no holder panics").0.insert(*id);
                    Ok(())
                }
                other => other,
            }
        })?;
        let (bad_packs, bad_chunks) = bad.into_inner().expect("no holder panics");
        damage.packs.extend(bad_packs);
        damage.chunks.extend(bad_chunks);
        report.chunks = opened.into_inner();
        Ok(())
    }

    /// Names the paths whose content lies in damaged packs or chunks.
    fn name_victims(
        &self,
        reading: &Reading<'_>,
        snapshots: &[Snapshot],
        damage: &Damage,
        report: &mut VerifyReport,
    ) -> Result<()> {
        if damage.packs.is_empty() && damage.chunks.is_empty() && damage.snapshots.is_empty() {
            return Ok(());
        }
        let chunks = reading.chunks();
        let mut verdicts: HashMap<ChunkId, bool> = HashMap::new();
        let mut is_bad = |id: &ChunkId| -> bool {
            *verdicts.entry(*id).or_insert_with(|| {
                let places = chunks.places(id).unwrap_or_default();
                damage.chunks.contains(id) || places.iter().all(|place| damage.packs.contains(&place.pack))
            })
        };
        for snapshot in snapshots {
            let mut hurt = SnapshotDamage { id: snapshot.id, paths: Vec::new(), more: 0 };
            let mut whole = damage.snapshots.contains_key(&snapshot.id);
            if let Ok(reader) = reading.open(snapshot) {
                for located in reader.entries(b"") {
                    let Ok(located) = located else {
                        whole = true;
                        break;
                    };
                    let Node::File(file) = &located.entry.node else { continue };
                    let bad = match reader.ids(located.first, file.chunks) {
                        Ok(ids) => ids.iter().any(&mut is_bad),
                        Err(_) => true,
                    };
                    if bad && hurt.paths.len() < PATHS_MAX {
                        hurt.paths.push(percent_path(&path_of_key(&located.entry.key)));
                    } else if bad {
                        hurt.more += 1;
                    }
                }
            }
            if whole || !hurt.paths.is_empty() {
                report.damaged_snapshots.push(hurt);
            }
        }
        Ok(())
    }
}

/// What was found damaged so far.
#[derive(Default)]
struct Damage {
    packs: HashSet<PackId>,
    /// Packs that tables name and that are not there.
    gone: BTreeSet<PackId>,
    chunks: HashSet<ChunkId>,
    snapshots: BTreeMap<SnapshotId, ()>,
}

fn note_snapshot(snapshot: &Snapshot, e: RepoError, counts: &Counts<'_>, damage: &mut Damage) -> Result<()> {
    if !e.is_damage() {
        return Err(e);
    }
    damage.snapshots.insert(snapshot.id, ());
    counts.report(problem(format!("snapshot {}", snapshot.id.short()), e.to_string(), HELP_COPY));
    Ok(())
}

impl Chunks {
    /// Opens a record and compares every chunk in it with its name.
    fn check_record(&self, pack: PackId, domain: crate::id::DomainId, record: &Packed, sealed: Vec<u8>) -> Result<()> {
        let mut place = crate::index::Place {
            pack,
            at: record.offset,
            stored_len: record.stored_len,
            sealing: record.sealing,
            domain,
            offset: 0,
            len: 0,
        };
        let plain = self.open(&place, sealed)?;
        for member in &record.members {
            place.len = member.len;
            let end = (place.offset + member.len) as usize;
            let data = plain.get(place.offset as usize..end);
            let data =
                data.ok_or_else(|| RepoError::damaged(pack_key(&pack).path(), "has a record shorter than it says"))?;
            if !self.is(&place, &member.id, data)? {
                return Err(RepoError::damaged(format!("chunk {}", member.id.short()), "is not what its name says"));
            }
            place.offset += member.len;
        }
        Ok(())
    }
}
