//! Hostile writers, rival prunes and lost objects: what reviews found, as tests.

mod forgeries;
mod keys;
mod locks;

use crate::b64;
use crate::capture::{Capture, CapturePlan, Committed, Outcome};
use crate::crypt::{Aead, Purpose, Secret, Signing, derive, nonce};
use crate::entry::{self, Entry, FileNode, Node};
use crate::envelope::{self, Seal};
use crate::error::{RepoError, Result};
use crate::head::{self, Head, Snapshot};
use crate::id::{ChunkId, DomainId, HeadId, PackId, RunId, SnapshotId};
use crate::index::{HeaderParts, Index, PackRef, TableBuilder};
use crate::intent::Process;
use crate::keys::{Bundle, Credential, Role};
use crate::pack::{PackBuilder, PackHeader, PackKind, Packed, pack_key};
use crate::pipeline::{Assurance, store_pack};
use crate::prune::{Act, Grace, Life, MaxUnused, PrunePlan, PruneReport};
use crate::read::{SnapshotReader, Want};
use crate::repository::{Layout, PackSize, Repository};
use crate::seal::{ChunkKind, Codec, Compression, Member, Origin, Sealing, members_digest};
use crate::tree::{Tree, Walk};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{
    Backend, Clock, Extended, Key, Lanes, Listed, Lock, MemStore, Put, Shelf, Span, Store, StoreError, Timestamp, World,
};

// ---- a store, a clock and a repository that tests hold in their hands -----------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Put,
    List,
    Delete,
}

/// When, and what happens then. Each happens once.
type Hook = (Box<dyn FnMut(Op, Shelf) -> bool + Send>, Box<dyn FnOnce() + Send>);

/// A store where something happens just before a write or a deletion, or just after a listing.
#[derive(Clone, Default)]
struct Hooked {
    mem: MemStore,
    hooks: Arc<Mutex<Vec<Hook>>>,
    room: Arc<Mutex<Option<u64>>>,
}

impl Hooked {
    fn fire(&self, op: Op, shelf: Shelf) {
        let mut hooks = self.hooks.lock().unwrap();
        let due = hooks.iter_mut().position(|(when, _)| when(op, shelf)).map(|at| hooks.remove(at));
        drop(hooks);
        if let Some((_, happens)) = due {
            happens();
        }
    }
}

impl Backend for Hooked {
    fn put_new(&self, key: &Key, body: &[u8]) -> std::result::Result<Put, StoreError> {
        self.fire(Op::Put, key.shelf());
        self.mem.put_new(key, body)
    }
    fn put_locked(&self, key: &Key, body: Vec<u8>, lock: Lock) -> std::result::Result<Put, StoreError> {
        self.fire(Op::Put, key.shelf());
        self.mem.put_locked(key, body, lock)
    }
    fn extend_locks(&self, keys: &[Key], enough: Timestamp, lock: Lock) -> std::result::Result<Extended, StoreError> {
        self.mem.extend_locks(keys, enough, lock)
    }
    fn has_locks(&self) -> std::result::Result<bool, StoreError> {
        self.mem.has_locks()
    }
    fn get(&self, key: &Key, span: Span) -> std::result::Result<Vec<u8>, StoreError> {
        self.mem.get(key, span)
    }
    fn size(&self, key: &Key) -> std::result::Result<Option<u64>, StoreError> {
        self.mem.size(key)
    }
    fn list(&self, shelf: Shelf, prefix: &str) -> std::result::Result<Vec<Listed>, StoreError> {
        let listed = self.mem.list(shelf, prefix);
        self.fire(Op::List, shelf);
        listed
    }
    fn delete(&self, key: &Key) -> std::result::Result<bool, StoreError> {
        self.fire(Op::Delete, key.shelf());
        self.mem.delete(key)
    }
    fn tidy(&self) -> std::result::Result<u64, StoreError> {
        Ok(0)
    }
    fn room(&self) -> Option<u64> {
        *self.room.lock().unwrap()
    }
    fn lists_at_once(&self) -> bool {
        true
    }
    fn warnings(&self) -> Vec<store::Warning> {
        Vec::new()
    }
    fn address(&self) -> String {
        "hooked".into()
    }
}

#[derive(Default)]
struct Hand(Mutex<u64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::new(1_700_000_000 + *self.0.lock().unwrap() as i64, 0)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_secs(*self.0.lock().unwrap())
    }
    fn sleep(&self, _: Duration) {}
}

/// A repository seen from outside. Cloning shares it.
#[derive(Clone)]
struct Lab {
    site: Hooked,
    clock: Arc<Hand>,
    owner: Bundle,
}

impl Lab {
    fn new(pack_bytes: u32) -> (Lab, Repository) {
        Lab::at(Hooked::default(), Arc::new(Hand::default()), PackSize::Bytes(pack_bytes).into())
    }

    fn at(site: Hooked, clock: Arc<Hand>, layout: Layout) -> (Lab, Repository) {
        let (store, world) = places(&site, &clock);
        let (repository, owner) = Repository::init(&store, &world, None, "t", layout).unwrap();
        (Lab { site, clock, owner }, repository)
    }

    /// Small packs, and a writer besides the owner: the one that a test may call hostile.
    fn with_writer() -> (Lab, Repository, Repository) {
        let (lab, mut owner) = Lab::new(60_000);
        let bundle = owner.enrol(Role::Writer, "host", None).unwrap();
        let writer = lab.open_as(&bundle);
        (lab, owner, writer)
    }

    fn open_as(&self, bundle: &Bundle) -> Repository {
        let (store, world) = places(&self.site, &self.clock);
        Repository::open(&store, &world, &Credential::Bundle(Box::new(bundle.clone()))).unwrap()
    }

    fn open(&self) -> Repository {
        self.open_as(&self.owner)
    }

    fn wait(&self, seconds: u64) {
        *self.clock.0.lock().unwrap() += seconds;
    }

    fn before(&self, op: Op, shelf: Shelf, happens: impl FnOnce() + Send + 'static) {
        let when = move |o, s| (o, s) == (op, shelf);
        self.site.hooks.lock().unwrap().push((Box::new(when), Box::new(happens)));
    }

    fn count(&self, shelf: Shelf) -> usize {
        self.site.mem.keys().iter().filter(|key| key.shelf() == shelf).count()
    }
}

fn places(site: &Hooked, clock: &Arc<Hand>) -> (Store, World) {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    (Store::new(Arc::new(site.clone())), World { lanes: Lanes::Inline, clock, ..World::real() })
}

fn plan() -> CapturePlan {
    CapturePlan {
        host: "h".into(),
        user: "u".into(),
        kind: "files".into(),
        paths: vec!["/d".into()],
        tags: Vec::new(),
        source: None,
        reason: None,
        program: "t".into(),
        process: Process::default(),
        compression: Compression::Off,
        time: None,
        assurance: Assurance::default(),
    }
}

type Files = BTreeMap<String, Vec<u8>>;

/// Files of noise: those of another seed share nothing with them.
fn files(seed: u64, count: u64) -> Files {
    let noise = |n: u64| {
        let mut out = vec![0; 4000];
        blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    };
    (0..count).map(|i| (format!("d\0{seed:04}-{i:05}"), noise(seed * 100_000 + i))).collect()
}

fn entry(key: &str, node: Node) -> Entry {
    let (key, mtime) = (key.as_bytes().to_vec(), Timestamp::new(1, 0));
    let (xattrs, user, group, changed, sqlite) = (Vec::new(), None, None, false, false);
    Entry { key, node, mode: 0o644, uid: 0, gid: 0, mtime, xattrs, user, group, changed, sqlite }
}

fn feed(capture: &mut Capture<'_>, files: &Files) -> Result<()> {
    for (key, data) in files {
        let cut = capture.cutter().whole(data.clone());
        capture.chunk(cut)?;
        let file = FileNode { size: data.len() as u64, chunks: 1, digest: None, extents: None };
        capture.entry(&entry(key, Node::File(file)))?;
    }
    Ok(())
}

fn back_up(repository: &Repository, files: &Files) -> Committed {
    let mut capture = repository.capture(plan()).unwrap();
    feed(&mut capture, files).unwrap();
    capture.commit(Outcome::default()).unwrap()
}

fn restore(repository: &Repository, snapshot: &Snapshot) -> Result<Files> {
    let reading = repository.reading(&Process::default())?;
    restore_by(&reading.open(snapshot)?)
}

fn restore_by(reader: &SnapshotReader) -> Result<Files> {
    let mut out = BTreeMap::new();
    for located in reader.entries(b"") {
        let located = located?;
        let id = reader.ids(located.first, 1)?[0];
        let got = Mutex::new(Vec::new());
        let bad = reader.fetch(&[Want { id, place: reader.locate(&id)?, tag: 0 }], &|_, data| {
            got.lock().unwrap().extend_from_slice(data);
            Ok(())
        })?;
        if let Some((_, e)) = bad.into_iter().next() {
            return Err(e);
        }
        out.insert(String::from_utf8(located.entry.key).unwrap(), got.into_inner().unwrap());
    }
    Ok(out)
}

#[track_caller]
fn assert_whole(lab: &Lab, snapshot: &Snapshot, files: &Files) {
    let got = restore(&lab.open(), snapshot).unwrap_or_else(|e| panic!("cannot be restored: {e}"));
    assert!(got == *files, "{} files came back, and {} were backed up", got.len(), files.len());
}

fn prune_with(repository: &Repository, life: Life, max_unused: MaxUnused) -> Result<PruneReport> {
    let (process, life) = (Process::default(), move |_: &Process| life);
    let plan =
        PrunePlan { act: Act::Do, max_unused, grace: Grace::Default, life: &life, process, as_if_forgotten: &[] };
    repository.prune(&plan, &|_| {})
}

fn prune(repository: &Repository) -> Result<PruneReport> {
    prune_with(repository, Life::Unknown, MaxUnused::Unlimited)
}

// ---- what a writer can forge ----------------------------------------------------------------------------------------

fn index_of(repository: &Repository) -> Index {
    Index::open(&repository.store, &repository.trust, &|domain| repository.keep_key(domain)).unwrap()
}

/// The writer's domain, and keys.
fn keys_of(writer: &Repository) -> (DomainId, Secret, Signing) {
    let (keys, signing) = writer.keyring.writing().unwrap();
    (keys.domain, keys.keep_key, signing)
}

/// Records of content that the writer can see: how they are sealed, and their members.
fn contents_of(writer: &Repository) -> Vec<(Sealing, Vec<Member>)> {
    let index = index_of(writer);
    let records = (0..index.table_count()).flat_map(|table| index.members_of(table).unwrap());
    let records = records.filter(|(record, _)| record.sealing.kind == ChunkKind::Content);
    records.map(|(record, members)| (record.sealing, members.into_iter().map(|(_, member)| member).collect())).collect()
}

/// A signed table that says what the writer likes, and sorts before all others.
fn forge_table(writer: &Repository, packs: &[(PackRef, Vec<Packed>)]) {
    let (domain, keep_key, signing) = keys_of(writer);
    loop {
        let mut table = TableBuilder::default();
        packs.iter().for_each(|(pack, records)| table.add_pack(*pack, records));
        let header = HeaderParts { repository: writer.config.repository, domain, salt: writer.world.random() };
        let (key, object) = table.finish(header, &keep_key, &signing).unwrap();
        if index_of(writer).table_keys().all(|other| key.name() < other.name()) {
            writer.store.put_new(&key, &object).unwrap();
            return;
        }
    }
}

/// A well-signed pack whose records of zeroes claim to hold `claims`, and the table that says so.
fn forge_pack(writer: &Repository, claims: &[Vec<Member>]) {
    let (domain, keep_key, signing) = keys_of(writer);
    let (repository, signer, kind) = (writer.config.repository, signing.id(), PackKind::Data);
    let header = PackHeader { repository, domain, signer, kind, salt: writer.world.random() };
    let mut pack = PackBuilder::new(header, 1000);
    for (counter, members) in (0..).zip(claims) {
        let sealing = Sealing {
            origin: Origin { run: RunId([1; 16]), salt: [4; 16] },
            counter,
            kind: ChunkKind::Content,
            codec: Codec::Raw,
            plain_len: members.iter().map(|member| member.len).sum(),
            members: members_digest(members),
        };
        pack.add_raw(sealing, members, &[0; 500]);
    }
    let stored = store_pack(&writer.store, pack.finish(&keep_key, &signing), Assurance::Acknowledged).unwrap();
    forge_table(writer, &[(stored.pack, stored.records)]);
}

/// A head that the writer signs.
fn forge_head(writer: &Repository, head: &Head) -> HeadId {
    head::commit(&writer.store, &writer.trust, &keys_of(writer).2, head).unwrap()
}
