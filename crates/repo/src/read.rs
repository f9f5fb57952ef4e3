//! Reading: from a chunk's name to its bytes, verified; and a snapshot's entries and content.
//!
//! What is read is hostile until authenticated: a record must be what its index entry says, and a chunk what its name says.

use crate::crypt::{Aead, Secret};
use crate::entry::FileNode;
use crate::envelope::Trust;
use crate::error::{RepoError, Result};
use crate::head::Snapshot;
use crate::id::{ChunkId, DomainId, IntentId, PackId};
use crate::index::{Index, Place};
use crate::intent::{Announcement, Process, Work};
use crate::keys::{IdKeys, Role};
use crate::lanes;
use crate::pack::{self, pack_key};
use crate::recent::Recent;
use crate::repository::Repository;
use crate::runs::Runs;
use crate::seal::{ChunkKind, Origin, RECORD_PLAIN_MAX, Unsealer, record_key};
use crate::snapshot::Sealed;
use crate::tree::{Located, Tree, Walk};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use store::{Kind, Lanes, Shelf, Span, Store, World};

/// Decoded records kept in memory: metadata is read again and again.
const CACHE_BYTES: usize = 16 << 20;
/// The most that is read from a pack in one go.
const READ_BYTES: u64 = 4 << 20;
/// Unwanted bytes between two records that are read along rather than asked for separately.
const GAP_BYTES: u64 = 64 << 10;

type RecordAt = (PackId, u32);
/// What may open the records of one origin.
type Keys = Arc<Vec<Aead>>;

/// Chunks of one repository, as far as the key at hand opens them.
pub(crate) struct Chunks {
    store: Store,
    repository: crate::id::RepositoryId,
    trust: Trust,
    index: RwLock<Arc<Index>>,
    /// Places read from the trailers of packs that no table names; filled when a chunk is in no table.
    rescued: OnceLock<HashMap<ChunkId, Place>>,
    keep: Box<dyn Fn(DomainId) -> Option<Secret> + Send + Sync>,
    ids: Box<dyn Fn(DomainId) -> Option<IdKeys> + Send + Sync>,
    runs: Option<Runs>,
    keys: Mutex<HashMap<(Origin, ChunkKind), Keys>>,
    unsealers: Mutex<Vec<Unsealer>>,
    cache: Mutex<Recent<RecordAt, Arc<Vec<u8>>>>,
}

impl Chunks {
    pub(crate) fn new(repository: &Repository) -> Result<Chunks> {
        let keyring = repository.keyring.clone();
        let keep = move |domain| keyring.domain(domain).map(|keys| keys.keep_key);
        let keyring = repository.keyring.clone();
        let ids = move |domain| keyring.domain(domain).and_then(|keys| keys.ids());
        let runs = repository.keyring.opening().ok();
        let runs = runs.map(|identity| Runs::new(&repository.store, repository.config.repository, identity));
        Ok(Chunks {
            store: repository.store.clone(),
            repository: repository.config.repository,
            trust: repository.trust.clone(),
            index: RwLock::new(Arc::new(Index::open(&repository.store, &repository.trust, &keep)?)),
            rescued: OnceLock::new(),
            keep: Box::new(keep),
            ids: Box::new(ids),
            runs,
            keys: Mutex::default(),
            unsealers: Mutex::default(),
            cache: Mutex::new(Recent::new(CACHE_BYTES)),
        })
    }

    /// The index as it is now.
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().expect("no holder panics"))
    }

    /// Every place where a chunk may be, best first. Where the tables have none, the index is read again if it was
    /// replaced meanwhile; after that packs that no table names are searched, so that a lost table costs time, not data.
    pub(crate) fn places(&self, id: &ChunkId) -> Result<Vec<Place>> {
        let in_tables = |index: &Index| -> Result<Vec<Place>> {
            // A place that cannot be must not hide one that can.
            let places = index.find_all(id)?.into_iter().map(|hit| index.place_of(&hit));
            places.filter(|place| !place.as_ref().is_err_and(RepoError::is_damage)).collect()
        };
        let index = self.index();
        match in_tables(&index) {
            Ok(places) if places.is_empty() => {}
            Err(e) if e.is_damage() => {}
            // What could not be asked is not missing.
            found => return found,
        }
        if index.has_vanished() {
            let again = Arc::new(Index::open(&self.store, &self.trust, &*self.keep)?);
            *self.index.write().expect("no holder panics") = Arc::clone(&again);
            let found = in_tables(&again)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let rescued = match self.rescued.get() {
            Some(rescued) => rescued,
            None => {
                let fresh = self.rescue()?;
                self.rescued.get_or_init(|| fresh)
            }
        };
        Ok(rescued.get(id).copied().into_iter().collect())
    }

    fn rescue(&self) -> Result<HashMap<ChunkId, Place>> {
        let index = self.index();
        let mut indexed: HashSet<PackId> = HashSet::new();
        for table in 0..index.table_count() {
            indexed.extend(index.table_packs(table).iter().map(|pack| pack.id));
        }
        let mut places = HashMap::new();
        for listed in self.store.list(Shelf::Packs)? {
            let Some(id) = PackId::parse(listed.key.name()).filter(|id| !indexed.contains(id)) else { continue };
            let contents = match pack::read_trailer(&self.store, &self.trust, &*self.keep, &id) {
                Ok(contents) => contents,
                Err(RepoError::Store(e)) if !matches!(e.kind, Kind::Absent | Kind::Corrupt) => return Err(e.into()),
                // A damaged pack holds nothing that can be rescued.
                Err(_) => continue,
            };
            for record in contents.records {
                let mut offset = 0;
                for member in &record.members {
                    places.insert(
                        member.id,
                        Place {
                            pack: id,
                            at: record.offset,
                            stored_len: record.stored_len,
                            sealing: record.sealing,
                            domain: contents.header.domain,
                            offset,
                            len: member.len,
                        },
                    );
                    offset += member.len;
                }
            }
        }
        Ok(places)
    }

    /// The keys that may open what is at `place`: one, unless somebody forged another for its run.
    fn keys(&self, place: &Place) -> Result<Keys> {
        let (origin, kind) = (place.sealing.origin, place.sealing.kind);
        if let Some(keys) = self.keys.lock().expect("no holder panics").get(&(origin, kind)) {
            return Ok(Arc::clone(keys));
        }
        let material = match kind {
            ChunkKind::List => (self.keep)(place.domain).map(|key| vec![key]),
            ChunkKind::Content | ChunkKind::Entries => match &self.runs {
                Some(runs) => Some(runs.keys(origin.run)?),
                None => None,
            },
        };
        let held = RepoError::NotAuthorised { needed: "reader", held: "key without the recovery identity".into() };
        let material = material.ok_or(held)?;
        let keys = Arc::new(material.iter().map(|key| record_key(kind, key, &origin)).collect());
        let mut known = self.keys.lock().expect("no holder panics");
        if known.len() > 4096 {
            known.clear();
        }
        known.insert((origin, kind), Arc::clone(&keys));
        Ok(keys)
    }

    pub(crate) fn open(&self, place: &Place, sealed: Vec<u8>) -> Result<Vec<u8>> {
        let keys = self.keys(place)?;
        let (last, others) = keys.split_last().expect("a run without a key is an error");
        let mut unsealer = match self.unsealers.lock().expect("no holder panics").pop() {
            Some(unsealer) => unsealer,
            None => Unsealer::new(self.repository)?,
        };
        let opened = others.iter().find_map(|key| unsealer.open(key, &place.sealing, sealed.clone()).ok());
        let plain = opened.map_or_else(|| unsealer.open(last, &place.sealing, sealed), Ok);
        self.unsealers.lock().expect("no holder panics").push(unsealer);
        plain.map_err(|e| match e {
            RepoError::Damaged { why, .. } => {
                RepoError::damaged(format!("a record at {} of {}", place.at, pack_key(&place.pack)), why)
            }
            e => e,
        })
    }

    pub(crate) fn is(&self, place: &Place, id: &ChunkId, data: &[u8]) -> Result<bool> {
        let keys = match place.sealing.kind {
            ChunkKind::List => None,
            _ => (self.ids)(place.domain),
        };
        let key = match (place.sealing.kind, &keys) {
            (ChunkKind::List, _) => {
                (self.keep)(place.domain).map(|keep| crate::crypt::derive(crate::crypt::Purpose::IdList, &[&keep.0]))
            }
            (ChunkKind::Content, Some(keys)) => Some(keys.content.clone()),
            (ChunkKind::Entries, Some(keys)) => Some(keys.entries.clone()),
            (_, None) => None,
        };
        let key = key.ok_or(RepoError::NotAuthorised { needed: "reader", held: "key without the id key".into() })?;
        Ok(*blake3::keyed_hash(&key.0, data).as_bytes() == id.0)
    }

    fn read_record(&self, place: &Place) -> Result<Arc<Vec<u8>>> {
        let at = (place.pack, place.at);
        if let Some(found) = self.cache.lock().expect("no holder panics").get(&at) {
            return Ok(found);
        }
        let span = Span::Range { offset: u64::from(place.at), len: u64::from(place.stored_len) };
        let sealed = self.store.get(&pack_key(&place.pack), span)?;
        let plain = Arc::new(self.open(place, sealed)?);
        self.cache.lock().expect("no holder panics").put(at, Arc::clone(&plain), plain.len());
        Ok(plain)
    }

    /// The verified bytes of one chunk of metadata.
    ///
    /// # Errors
    /// `MissingChunk`; what is wrong with the last place it should be at.
    pub(crate) fn chunk(&self, id: &ChunkId) -> Result<Arc<Vec<u8>>> {
        let mut last = RepoError::MissingChunk(*id);
        for place in self.places(id)? {
            let found = self.read_record(&place).and_then(|plain| {
                let data = slice(&plain, &place)?;
                match self.is(&place, id, data)? {
                    true => Ok(Arc::new(data.to_vec())),
                    false => Err(RepoError::damaged(format!("chunk {}", id.short()), "is not what its name says")),
                }
            });
            match found {
                Ok(data) => return Ok(data),
                Err(e) if e.is_damage() => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }
}

fn slice<'p>(plain: &'p [u8], place: &Place) -> Result<&'p [u8]> {
    let end = (place.offset as usize).checked_add(place.len as usize);
    let data = end.and_then(|end| plain.get(place.offset as usize..end));
    data.ok_or_else(|| RepoError::damaged("an index table", "places a chunk outside its record"))
}

/// A chunk that somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// Its name.
    pub id: ChunkId,
    /// Where it is.
    pub place: Place,
    /// For whoever asks.
    pub tag: u64,
}

/// Takes chunks, from several threads and in no order.
pub type Sink<'a> = &'a (dyn Fn(&Want, &[u8]) -> Result<()> + Sync);

impl Chunks {
    /// Fetches chunks in the order in which packs hold them, each record once, on as many lanes as the place wants.
    pub(crate) fn fetch(&self, world: &World, wants: &[Want], sink: Sink<'_>) -> Result<Vec<(usize, RepoError)>> {
        let mut order: Vec<usize> = (0..wants.len()).collect();
        order.sort_unstable_by_key(|i| {
            let place = &wants[*i].place;
            (place.pack, place.at, place.offset)
        });
        let spans = spans(wants, &order);
        let next = AtomicUsize::new(0);
        let failed: Mutex<Vec<(usize, RepoError)>> = Mutex::default();
        let fatal: Mutex<Option<RepoError>> = Mutex::default();
        let over = AtomicBool::new(false);
        // One stretch is one read: not worth a thread.
        let lanes = if spans.len() > 1 { lanes::reading(world, &self.store) } else { Lanes::Inline };
        lanes.each(&|| {
            while !over.load(Ordering::Relaxed) {
                let Some(span) = spans.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                let result = match world.stop.requested() {
                    true => Err(RepoError::Stopped),
                    false => self.fetch_span(wants, span, sink, &failed),
                };
                if let Err(e) = result {
                    fatal.lock().expect("no holder panics").get_or_insert(e);
                    over.store(true, Ordering::Relaxed);
                }
            }
        });
        match fatal.into_inner().expect("no holder panics") {
            Some(e) => Err(e),
            None => Ok(failed.into_inner().expect("no holder panics")),
        }
    }

    /// Reads one stretch of a pack and hands out what is wanted of it. Errors of `sink` are fatal; others are noted.
    fn fetch_span(
        &self,
        wants: &[Want],
        span: &[usize],
        sink: Sink<'_>,
        failed: &Mutex<Vec<(usize, RepoError)>>,
    ) -> Result<()> {
        let place = |i: &usize| &wants[*i].place;
        let (Some(first), Some(last)) = (span.first().map(place), span.last().map(place)) else { return Ok(()) };
        let start = u64::from(first.at);
        let end = span.iter().map(place).map(|p| u64::from(p.at) + u64::from(p.stored_len)).max().unwrap_or(start);
        assert_eq!(first.pack, last.pack, "a span lies in one pack");
        let bytes = self.store.get(&pack_key(&first.pack), Span::Range { offset: start, len: end - start });
        for record in span.chunk_by(|a, b| place(a).at == place(b).at) {
            let at = place(&record[0]);
            let opened = match &bytes {
                Ok(bytes) => {
                    let from = (u64::from(at.at) - start) as usize;
                    self.open(at, bytes[from..from + at.stored_len as usize].to_vec())
                }
                // One bad record must not take its neighbours along: try it alone, and in its other places.
                Err(_) => Err(RepoError::MissingChunk(wants[record[0]].id)),
            };
            for i in record {
                let want = &wants[*i];
                if let ControlFlow::Break(e) = self.hand_out(want, opened.as_ref().ok().map(Vec::as_slice), sink)? {
                    failed.lock().expect("no holder panics").push((*i, e));
                }
            }
        }
        Ok(())
    }

    fn hand_out(&self, want: &Want, plain: Option<&[u8]>, sink: Sink<'_>) -> Result<ControlFlow<RepoError>> {
        if let Some(plain) = plain
            && let Ok(data) = slice(plain, &want.place)
            && self.is(&want.place, &want.id, data)?
        {
            sink(want, data)?;
            return Ok(ControlFlow::Continue(()));
        }
        match self.chunk(&want.id) {
            Ok(data) => {
                sink(want, &data)?;
                Ok(ControlFlow::Continue(()))
            }
            Err(e @ (RepoError::NotAuthorised { .. } | RepoError::Stopped)) => Err(e),
            Err(e) => Ok(ControlFlow::Break(e)),
        }
    }
}

/// Cuts the sorted wants into stretches that are read in one go: one pack, small gaps, bounded length, whole records.
fn spans<'o>(wants: &[Want], order: &'o [usize]) -> Vec<&'o [usize]> {
    let mut spans = Vec::new();
    let mut start = 0;
    for i in 1..=order.len() {
        let fits = order.get(i).is_some_and(|next| {
            let (first, last, next) = (&wants[order[start]].place, &wants[order[i - 1]].place, &wants[*next].place);
            let last_end = u64::from(last.at) + u64::from(last.stored_len);
            let next_end = u64::from(next.at) + u64::from(next.stored_len);
            next.pack == last.pack
                && (next.at == last.at
                    || (u64::from(next.at) <= last_end + GAP_BYTES && next_end - u64::from(first.at) <= READ_BYTES))
        });
        if !fits && i > start {
            spans.push(&order[start..i]);
            start = i;
        }
    }
    spans
}

/// A snapshot opened for reading.
pub struct SnapshotReader {
    snapshot: Snapshot,
    announcement: Option<Arc<Announcement>>,
    sealed: Sealed,
    chunks: Arc<Chunks>,
    content_key: Secret,
    page_bytes: Option<u32>,
    world: World,
}

/// Opens snapshots. While one lives, a prune knows that somebody reads.
pub struct Reading<'r> {
    repository: &'r Repository,
    chunks: Arc<Chunks>,
    announcement: Option<Arc<Announcement>>,
}

impl Repository {
    /// Begins to read: announces it where the store can be written, so that nothing is swept underneath, and reads the
    /// index.
    ///
    /// # Errors
    /// `NotAuthorised` without a reader's key; whatever the store returns.
    pub fn reading(&self, process: &Process) -> Result<Reading<'_>> {
        self.keyring.opening()?;
        self.reading_ids(process)
    }

    /// As [`Repository::reading`], for keepers: ids and lists only.
    pub(crate) fn reading_ids(&self, process: &Process) -> Result<Reading<'_>> {
        // A store that cannot be written cannot be pruned through this mount either: best effort.
        let announcement = self.announce(Work::Read, process).ok().flatten().map(Arc::new);
        Ok(Reading { repository: self, chunks: Arc::new(Chunks::new(self)?), announcement })
    }
}

impl Reading<'_> {
    pub(crate) fn chunks(&self) -> &Arc<Chunks> {
        &self.chunks
    }

    /// What this reader announced itself as.
    pub(crate) fn intent(&self) -> Option<IntentId> {
        self.announcement.as_ref().map(|announcement| announcement.id())
    }

    /// Opens a snapshot.
    ///
    /// # Errors
    /// `Damaged` when its run's key or its record cannot be opened, or when its two halves disagree.
    pub fn open(&self, snapshot: &Snapshot) -> Result<SnapshotReader> {
        self.opener().open(snapshot)
    }

    /// The same reading, for what outlives the verb that began it: a mount. Prunes know of it until this and everything that
    /// it opened is dropped.
    pub fn opener(&self) -> Opener {
        Opener {
            chunks: Arc::clone(&self.chunks),
            announcement: self.announcement.clone(),
            role: self.repository.keyring.role(),
            page_bytes: self.repository.config.chunker.told_by_count(),
            world: self.repository.world.clone(),
        }
    }
}

/// Opens snapshots without holding on to the repository.
pub struct Opener {
    chunks: Arc<Chunks>,
    announcement: Option<Arc<Announcement>>,
    role: Role,
    page_bytes: Option<u32>,
    world: World,
}

impl Opener {
    /// Opens a snapshot.
    ///
    /// # Errors
    /// As [`Reading::open`].
    pub fn open(&self, snapshot: &Snapshot) -> Result<SnapshotReader> {
        let runs = self.chunks.runs.as_ref();
        let held = || RepoError::NotAuthorised { needed: "reader", held: self.role.name().into() };
        let data_keys = runs.ok_or_else(held)?.keys(snapshot.record.run)?;
        let opened = data_keys.iter().map(|key| snapshot.record.open_sealed(key)).reduce(Result::or);
        let sealed = opened.expect("a run without a key is an error")?;
        // What keepers keep alive must be what readers need.
        if sealed.content != snapshot.public.content {
            let why = "has two halves that disagree about its content";
            return Err(RepoError::damaged(format!("snapshot {}", snapshot.id.short()), why));
        }
        let ids = (self.chunks.ids)(snapshot.domain).ok_or_else(held)?;
        Ok(SnapshotReader {
            snapshot: snapshot.clone(),
            announcement: self.announcement.clone(),
            sealed,
            chunks: Arc::clone(&self.chunks),
            content_key: ids.content,
            page_bytes: self.page_bytes,
            world: self.world.clone(),
        })
    }

    /// Shows prunes that the reading goes on, when it is time to: for whoever reads nothing for a long time. Calling it often
    /// costs nothing.
    ///
    /// # Errors
    /// `Fenced` when a prune gave it up: what was forgotten may be gone then. Whatever the store returns.
    pub fn keep_alive(&self) -> Result<()> {
        self.announcement.as_ref().map_or(Ok(()), |announcement| announcement.refresh())
    }
}

impl SnapshotReader {
    /// Shows prunes that the reading goes on. One that gave it up can take away only what was forgotten, and what is read
    /// is verified anyway: best effort.
    fn refresh(&self) {
        if let Some(announcement) = &self.announcement {
            announcement.refresh().ok();
        }
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How many entries it has.
    pub fn count(&self) -> u64 {
        self.sealed.entries.count
    }

    /// What could not be taken when it was made.
    pub fn warnings(&self) -> &[crate::snapshot::Warning] {
        &self.sealed.warnings
    }

    /// What its source said about itself.
    pub fn facts(&self) -> Option<&serde_json::Value> {
        self.sealed.facts.as_ref()
    }

    /// The entries at or under `within`, in order. Reads a few chunks to get there, then as many as there are.
    pub fn entries(&self, within: &[u8]) -> Walk<'_> {
        Walk::new(&self.sealed.entries, within, Box::new(|id| self.chunks.chunk(id)))
    }

    /// The entry with this key.
    ///
    /// # Errors
    /// When its chunks cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Located>> {
        match self.entries(key).next() {
            Some(Ok(located)) if located.entry.key == key => Ok(Some(located)),
            Some(Err(e)) => Err(e),
            _ => Ok(None),
        }
    }

    /// The names of the content chunks at these positions of the snapshot's list.
    ///
    /// # Errors
    /// When the list cannot be read or is shorter.
    pub fn ids(&self, first: u64, count: u64) -> Result<Vec<ChunkId>> {
        self.refresh();
        self.sealed.content.ids(&|id| self.chunks.chunk(id), first, count)
    }

    /// Where a chunk is.
    ///
    /// # Errors
    /// `MissingChunk` when nowhere.
    pub fn locate(&self, id: &ChunkId) -> Result<Place> {
        let first = self.chunks.index().place(id);
        let place = match first {
            Ok(Some(place)) => place,
            _ => self.chunks.places(id)?.into_iter().next().ok_or(RepoError::MissingChunk(*id))?,
        };
        let sound = place.sealing.kind == ChunkKind::Content && place.len as usize <= RECORD_PLAIN_MAX;
        sound.then_some(place).ok_or_else(|| RepoError::damaged("an index table", "places content where there is none"))
    }

    /// Fetches chunks in the order in which packs hold them, each record once, on all lanes, and hands each, verified, to
    /// `sink`. Returns what could not be had, as indices into `wants`.
    ///
    /// # Errors
    /// Whatever `sink` returned; `Stopped`.
    pub fn fetch(&self, wants: &[Want], sink: Sink<'_>) -> Result<Vec<(usize, RepoError)>> {
        self.refresh();
        self.chunks.fetch(&self.world, wants, &|want, data| {
            self.refresh();
            sink(want, data)
        })
    }

    /// The name that these bytes would have as content of this snapshot.
    pub fn id_of(&self, data: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.content_key.0, data).as_bytes())
    }

    /// The length of all chunks but the last of a file with this content, where it is known without asking for each.
    pub fn page_bytes(&self, file: &FileNode) -> Option<u64> {
        let page = u64::from(self.page_bytes?);
        (file.chunks == file.data_bytes().div_ceil(page)).then_some(page)
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.sealed.entries
    }

    pub(crate) fn metadata(&self, id: &ChunkId) -> Result<Arc<Vec<u8>>> {
        self.chunks.chunk(id)
    }

    /// The world it is read in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Compares what keepers keep alive with what the entries need (H7 of the format's review), and reads every entry.
    /// What `checked` has seen in another snapshot is not read again.
    pub(crate) fn check(&self, digest_key: &Secret, checked: &mut Checked) -> Result<()> {
        let bad = |why: &str| RepoError::damaged(format!("snapshot {}", self.snapshot.id.short()), why);
        let fetch = |id: &ChunkId| self.chunks.chunk(id);
        let public = &self.snapshot.public;
        for list in [&public.content, &public.meta] {
            if list.summed(&fetch, digest_key, &mut checked.lists)? != (list.count, list.digest) {
                return Err(bad("names other chunks than its digest says"));
            }
        }
        let counts = crate::tree::check(&self.sealed.entries, &fetch, digest_key, &mut checked.entries)?;
        if (counts.chunks, counts.sum) != (public.meta.count, public.meta.digest) {
            return Err(bad("has entries in chunks that keepers do not know of"));
        }
        match counts.ids == public.content.count && counts.entries == self.sealed.entries.count {
            true => Ok(()),
            false => Err(bad("has entries that count other chunks than its list")),
        }
    }
}

/// What a verification has seen, over all snapshots.
#[derive(Default)]
pub(crate) struct Checked {
    lists: crate::list::Memo,
    entries: crate::tree::Counted,
}
