//! From groups of chunks to durable packs: seal ▸ pack ▸ store, over bounded queues.
//!
//! Memory is bounded by the queues: a few groups and a few packs. Order is kept, so that what was read together is stored
//! together. It may not know chunks' meaning, nor the index.

use crate::crypt::{Secret, Signing};
use crate::error::{RepoError, Result};
use crate::id::{DomainId, RepositoryId};
use crate::index::PackRef;
use crate::pack::{Pack, PackBuilder, PackHeader, PackKind, Packed, pack_key};
use crate::seal::{Compression, Group, Sealed, Sealer};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use store::{Key, Lanes, Store, World};

/// When an object that was handed to the store counts as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assurance {
    /// When the store says that it is durable.
    #[default]
    Acknowledged,
    /// When it was read back as well and is what was handed over, or the place compared it by itself. Until then no index
    /// names it and no snapshot needs it.
    ReadBack,
}

impl Assurance {
    /// Stores an object; what this promises holds when it returns `Ok`.
    ///
    /// # Errors
    /// Whatever the store returns; `Corrupt` when it gives back something else.
    pub(crate) fn put(self, store: &Store, key: &Key, object: &[u8]) -> Result<()> {
        store.put_new(key, object)?;
        self.look(store, key, object.len() as u64)
    }

    /// Looks at an object that was stored, where this promises to.
    ///
    /// # Errors
    /// As [`Assurance::put`].
    fn look(self, store: &Store, key: &Key, bytes: u64) -> Result<()> {
        match self {
            Assurance::Acknowledged => Ok(()),
            Assurance::ReadBack if store.checks_writes() => Ok(()),
            Assurance::ReadBack => Ok(store.check(key, bytes)?),
        }
    }
}

/// A pack that is durable.
pub(crate) struct StoredPack {
    pub(crate) pack: PackRef,
    pub(crate) records: Vec<Packed>,
}

/// What the stages need to know.
#[derive(Clone)]
pub(crate) struct Stages {
    pub(crate) store: Store,
    pub(crate) world: World,
    pub(crate) repository: RepositoryId,
    pub(crate) domain: DomainId,
    pub(crate) keep_key: Secret,
    pub(crate) signing: Arc<Signing>,
    pub(crate) compression: Compression,
    pub(crate) pack_bytes: usize,
    pub(crate) assurance: Assurance,
}

/// Fills packs, one of each kind at a time.
pub(crate) struct Packer {
    stages: Stages,
    open: BTreeMap<u8, PackBuilder>,
}

impl Packer {
    pub(crate) fn new(stages: Stages) -> Self {
        Packer { stages, open: BTreeMap::new() }
    }

    /// The pack that records of this kind go to.
    pub(crate) fn builder(&mut self, kind: PackKind) -> &mut PackBuilder {
        let Stages { repository, domain, signing, world, pack_bytes, .. } = &self.stages;
        self.open.entry(kind as u8).or_insert_with(|| {
            let (repository, domain, signer) = (*repository, *domain, signing.id());
            let header = PackHeader { repository, domain, signer, kind, salt: world.random() };
            // The last group may reach over the size at which a pack is closed; behind it comes the trailer.
            PackBuilder::new(header, pack_bytes + pack_bytes / 8 + (1 << 20))
        })
    }

    fn add(&mut self, sealed: &Sealed) -> Option<Pack> {
        let kind = PackKind::of(sealed.sealing.kind);
        self.builder(kind).add(sealed);
        self.full(kind)
    }

    /// The pack of this kind, when it is full.
    pub(crate) fn full(&mut self, kind: PackKind) -> Option<Pack> {
        if self.builder(kind).bytes() < self.stages.pack_bytes {
            return None;
        }
        let builder = self.open.remove(&(kind as u8))?;
        Some(builder.finish(&self.stages.keep_key, &self.stages.signing))
    }

    /// What is left.
    pub(crate) fn finish(self) -> Vec<Pack> {
        let Stages { keep_key, signing, .. } = &self.stages;
        self.open.into_values().map(|builder| builder.finish(keep_key, signing)).collect()
    }
}

/// How many bytes of packs may be on the way: in the one that grows, and in those that are full.
const PACKS_BYTES_MAX: usize = 128 << 20;
/// How many packs are stored at once, at most.
const STORING_MAX: usize = 2;

/// Stores a pack; durable when it returns.
pub(crate) fn store_pack(store: &Store, pack: Pack, assurance: Assurance) -> Result<StoredPack> {
    let bytes = u32::try_from(pack.bytes.len()).expect("a pack is within its limit");
    let key = pack_key(&pack.id);
    let put = store
        .put_owned(&key, pack.bytes)
        .map_err(RepoError::from)
        .and_then(|_| assurance.look(store, &key, bytes.into()));
    if !store::sabotaged("drop an error of an upload") {
        put?;
    }
    Ok(StoredPack { pack: PackRef { id: pack.id, bytes, kind: pack.kind }, records: pack.records })
}

/// The running stages.
pub(crate) struct Pipeline {
    how: How,
}

enum How {
    Inline(Box<Inline>),
    Threads {
        groups: Sender<(u64, Group)>,
        next: u64,
        done: Receiver<StoredPack>,
        failed: Failed,
        threads: Vec<JoinHandle<()>>,
    },
}

/// The stages where they run on the caller.
struct Inline {
    sealer: Sealer,
    packer: Packer,
    store: Store,
    assurance: Assurance,
    done: Vec<StoredPack>,
}

type Failed = Arc<Mutex<Option<RepoError>>>;

fn fail(failed: &Failed, error: RepoError) {
    failed.lock().expect("no holder panics").get_or_insert(error);
}

impl Pipeline {
    pub(crate) fn start(stages: Stages) -> Result<Pipeline> {
        let lanes = stages.world.lanes;
        let Lanes::Threads(n) = lanes else {
            let sealer = Sealer::new(stages.repository, stages.compression)?;
            let (store, assurance) = (stages.store.clone(), stages.assurance);
            let inline = Inline { sealer, packer: Packer::new(stages), store, assurance, done: Vec::new() };
            return Ok(Pipeline { how: How::Inline(Box::new(inline)) });
        };
        let failed: Failed = Arc::default();
        let (groups, groups_in) = bounded::<(u64, Group)>(n + 1);
        let (sealed, sealed_in) = bounded::<(u64, Sealed)>(n + 1);
        let storing = (PACKS_BYTES_MAX / stages.pack_bytes).saturating_sub(1).clamp(1, STORING_MAX);
        // Large packs are handed over, small ones may wait.
        let waiting = usize::from(stages.pack_bytes * 4 <= PACKS_BYTES_MAX);
        let (packs, packs_in) = bounded::<Pack>(waiting);
        let (stored, done) = unbounded::<StoredPack>();
        let mut threads = Vec::new();
        for _ in 0..n {
            let (groups_in, sealed, failed) = (groups_in.clone(), sealed.clone(), Arc::clone(&failed));
            let mut sealer = Sealer::new(stages.repository, stages.compression)?;
            threads.push(lanes.start("seal", move || {
                for (number, group) in groups_in {
                    match sealer.seal(group) {
                        Ok(record) => {
                            if sealed.send((number, record)).is_err() {
                                return;
                            }
                        }
                        Err(e) => return fail(&failed, e),
                    }
                }
            }));
        }
        drop((groups_in, sealed));
        {
            let mut packer = Packer::new(stages.clone());
            threads.push(lanes.start("pack", move || {
                let mut waiting = BTreeMap::new();
                let mut next = 0;
                for (number, record) in sealed_in {
                    waiting.insert(number, record);
                    while let Some(record) = waiting.remove(&next) {
                        next += 1;
                        if let Some(pack) = packer.add(&record)
                            && packs.send(pack).is_err()
                        {
                            return;
                        }
                    }
                }
                // A gap means that a sealer failed: what is left must not look like an end.
                if waiting.is_empty() {
                    for pack in packer.finish() {
                        if packs.send(pack).is_err() {
                            return;
                        }
                    }
                }
            }));
        }
        let assurance = stages.assurance;
        for _ in 0..storing {
            let (store, packs_in, stored, failed) =
                (stages.store.clone(), packs_in.clone(), stored.clone(), Arc::clone(&failed));
            threads.push(lanes.start("store", move || {
                for pack in packs_in {
                    match store_pack(&store, pack, assurance) {
                        Ok(pack) => {
                            if stored.send(pack).is_err() {
                                return;
                            }
                        }
                        Err(e) => return fail(&failed, e),
                    }
                }
            }));
        }
        Ok(Pipeline { how: How::Threads { groups, next: 0, done, failed, threads } })
    }

    /// Hands over a group. Waits while the stages are busy.
    pub(crate) fn push(&mut self, group: Group) -> Result<()> {
        match &mut self.how {
            How::Inline(inline) => {
                let sealed = inline.sealer.seal(group)?;
                if let Some(pack) = inline.packer.add(&sealed) {
                    inline.done.push(store_pack(&inline.store, pack, inline.assurance)?);
                }
                Ok(())
            }
            How::Threads { groups, next, failed, .. } => {
                if failed.lock().expect("no holder panics").is_some() {
                    return Err(take(failed));
                }
                let number = *next;
                *next += 1;
                groups.send((number, group)).map_err(|_| take(failed))
            }
        }
    }

    /// The packs that became durable since this was last asked.
    pub(crate) fn done(&mut self) -> Vec<StoredPack> {
        match &mut self.how {
            How::Inline(inline) => std::mem::take(&mut inline.done),
            How::Threads { done, .. } => done.try_iter().collect(),
        }
    }

    /// Waits until everything handed over is durable, and returns the packs not yet asked for.
    pub(crate) fn finish(self) -> Result<Vec<StoredPack>> {
        match self.how {
            How::Inline(inline) => {
                let Inline { packer, store, assurance, mut done, .. } = *inline;
                for pack in packer.finish() {
                    done.push(store_pack(&store, pack, assurance)?);
                }
                Ok(done)
            }
            How::Threads { groups, done, failed, threads, .. } => {
                drop(groups);
                for thread in threads {
                    if thread.join().is_err() {
                        fail(&failed, RepoError::damaged("a stage of the pipeline", "panicked: this is a bug"));
                    }
                }
                match failed.lock().expect("no holder panics").take() {
                    Some(error) => Err(error),
                    None => Ok(done.try_iter().collect()),
                }
            }
        }
    }
}

/// The error that stopped the stages. Another takes its place, so that nobody who goes on can believe that all was stored.
fn take(failed: &Failed) -> RepoError {
    let after = RepoError::damaged("this run", "lost data to an earlier error");
    let error = failed.lock().expect("no holder panics").replace(after);
    error.unwrap_or_else(|| RepoError::damaged("the pipeline", "ended early: this is a bug"))
}
