//! Heads: the signed DAG of commits, and the state of the repository that it adds up to (`docs/format.md` §9).
//!
//! The one commit point. A snapshot exists when a head adds it and none removes it. No lock is taken and no conditional
//! write is trusted: heads are named by content, each names the tips its author saw, and the state is the union of all.

use crate::b64;
use crate::crypt::{Purpose, Secret, Signing, open_small, seal_small};
use crate::envelope::{self, Seal, Trust};
use crate::error::{RepoError, Result};
use crate::id::{DomainId, HeadId, IntentId, SignerId, SnapshotId};
use crate::keys::Keyring;
use crate::snapshot::{Public, Record};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use store::{Key, Shelf, Store, World};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) v: u32,
    #[serde(default)]
    pub(crate) features: Vec<String>,
    pub(crate) parents: Vec<HeadId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) covers: Vec<HeadId>,
    pub(crate) time: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) adds: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) removes: Vec<SnapshotId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) edits: Vec<Edit>,
    /// The announcement of the run that this commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) intent: Option<IntentId>,
    /// Runs that a keeper gave up: what they commit without being seen by this head does not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) fenced: Vec<IntentId>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) order: BTreeMap<SnapshotId, u64>,
    #[serde(default)]
    pub(crate) height: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Edit {
    pub(crate) id: SnapshotId,
    pub(crate) domain: DomainId,
    pub(crate) note: String,
}

/// What an edit says about a snapshot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<Vec<String>>,
    /// `Some(None)` releases.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub(crate) hold: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verified: Option<Verified>,
}

fn present<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(d).map(Some)
}

/// How deep a verification went, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// `digests` or `decoded`.
    pub depth: String,
    /// RFC 3339.
    pub at: String,
}

/// A live snapshot with everything known about it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The domain it belongs to.
    pub domain: DomainId,
    /// Who signed it.
    pub signer: SignerId,
    /// Its place in the order of commits: later ones are greater.
    pub order: u64,
    /// What keepers may see.
    pub public: Public,
    /// Its tags now.
    pub tags: Vec<String>,
    /// Why it must not expire, if it must not.
    pub hold: Option<String>,
    /// The deepest verification it passed.
    pub verified: Option<Verified>,
    pub(crate) record: Record,
}

impl Snapshot {
    /// A snapshot as its record says, without notes.
    pub(crate) fn new(record: Record, public: Public, order: u64) -> Snapshot {
        let tags = public.tags.clone();
        let (id, domain, signer) = (record.id, record.domain, record.signer);
        Snapshot { id, domain, signer, order, public, tags, hold: None, verified: None, record }
    }
}

/// Everything the heads say.
#[derive(Default)]
pub(crate) struct State {
    /// Heads that no other head follows.
    pub(crate) tips: BTreeSet<HeadId>,
    /// All heads that are present, those of revoked keys too.
    pub(crate) heads: BTreeSet<HeadId>,
    /// Heads that a checkpoint stands for: where they are still there (on a copy, say) they say nothing any more.
    pub(crate) covered: BTreeSet<HeadId>,
    pub(crate) records: BTreeMap<SnapshotId, Record>,
    pub(crate) removed: BTreeSet<SnapshotId>,
    pub(crate) order: BTreeMap<SnapshotId, u64>,
    pub(crate) edits: Vec<(HeadId, Edit)>,
    pub(crate) height: u64,
    pub(crate) fenced: BTreeSet<IntentId>,
    /// Heads that are named and gone, damaged or forged, and what is wrong. What remains can be read; nothing may be
    /// deleted by it.
    pub(crate) problems: Vec<(HeadId, RepoError)>,
}

pub(crate) fn head_key(id: &HeadId) -> Key {
    Key::new(Shelf::Heads, id.to_string()).expect("a hash is a good name")
}

impl State {
    /// Reads every head. Damaged and lost ones are in `problems`.
    ///
    /// # Errors
    /// Whatever the store returns.
    pub(crate) fn load(store: &Store, trust: &Trust) -> Result<State> {
        State::load_knowing(store, trust, &[])
    }

    /// As [`State::load`], for who knows of heads that a listing may not show yet. Such that are not there are left out.
    pub(crate) fn load_knowing(store: &Store, trust: &Trust, known: &[HeadId]) -> Result<State> {
        // A checkpoint may replace heads between our listing and our reading: then look again.
        for _ in 0..5 {
            if let Some(state) = State::try_load(store, trust, known)? {
                return Ok(state);
            }
        }
        Err(RepoError::LostHistory("heads vanish as fast as they are listed".into()))
    }

    fn try_load(store: &Store, trust: &Trust, known: &[HeadId]) -> Result<Option<State>> {
        let mut heads: Heads = BTreeMap::new();
        let listed: Vec<HeadId> =
            store.list(Shelf::Heads)?.iter().filter_map(|listed| HeadId::parse(listed.key.name())).collect();
        let unlisted: BTreeSet<HeadId> = known.iter().filter(|id| !listed.contains(id)).copied().collect();
        let mut wanted: Vec<HeadId> = listed.into_iter().chain(unlisted.iter().copied()).collect();
        let mut missing = BTreeSet::new();
        // Heads that a revoked key signed. They count as far as checkpoints carry what they said.
        let mut revoked = BTreeSet::new();
        let mut problems: BTreeMap<HeadId, RepoError> = BTreeMap::new();
        while let Some(id) = wanted.pop() {
            let known = missing.contains(&id) || revoked.contains(&id);
            if known || heads.contains_key(&id) || problems.contains_key(&id) {
                continue;
            }
            let key = head_key(&id);
            let object = match store.get_checked(&key) {
                Ok(object) => object,
                Err(e) if e.is_absent() => {
                    missing.insert(id);
                    continue;
                }
                Err(e) if e.kind == store::Kind::Corrupt => {
                    problems.insert(id, e.into());
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            let (head, by) = match decode(trust, &key, &object) {
                // What it names is of no interest unless a checkpoint covers it, and then it is not needed.
                Ok((_, by)) if by.revoked => {
                    revoked.insert(id);
                    continue;
                }
                Ok(head) => head,
                Err(e) => {
                    problems.insert(id, e);
                    continue;
                }
            };
            // A listing may lag: what is named is fetched even when it was not listed.
            if !store::sabotaged("trust a listing") {
                wanted.extend(head.parents.iter().copied());
            }
            heads.insert(id, (head, by));
        }
        let covered: BTreeSet<HeadId> = heads.values().flat_map(|(head, _)| head.covers.iter().copied()).collect();
        let named: BTreeSet<HeadId> = heads.values().flat_map(|(head, _)| head.parents.iter().copied()).collect();
        for id in missing.into_iter().filter(|id| !covered.contains(id)) {
            match named.contains(&id) {
                true => {}
                false if unlisted.contains(&id) => continue,
                false => return Ok(None),
            }
            problems.insert(id, RepoError::LostHistory(format!("head {id} is named by a later head and is gone")));
        }
        problems.retain(|id, _| !covered.contains(id));
        if heads.is_empty() && problems.is_empty() {
            problems.insert(HeadId::default(), RepoError::LostHistory("there is not one head left".into()));
        }
        let mut state = State {
            problems: problems.into_iter().collect(),
            tips: heads.keys().filter(|id| !named.contains(id) && !covered.contains(id)).copied().collect(),
            heads: heads.keys().chain(&revoked).copied().collect(),
            covered,
            ..State::default()
        };
        state.absorb(trust, &heads);
        Ok(Some(state))
    }

    fn absorb(&mut self, trust: &Trust, heads: &Heads) {
        let heights = heights(heads);
        let late = late(heads);
        for (id, (head, by)) in heads.iter().filter(|(id, _)| !self.covered.contains(id)) {
            self.fenced.extend(&head.fenced);
            let height = heights.get(id).copied().unwrap_or_default();
            self.height = self.height.max(height);
            self.removed.extend(&head.removes);
            if late.contains(id) {
                continue;
            }
            for add in &head.adds {
                let what = || head_key(id).path();
                let bytes =
                    b64::decode(add).ok_or_else(|| RepoError::damaged(what(), "holds a snapshot that is not base64"));
                let record = bytes.and_then(|b| Record::decode(trust, &b).map_err(|e| name_damage(e, &head_key(id))));
                let record = match record {
                    // Nobody commits another's snapshot again, but a keeper in a checkpoint.
                    Ok(record) if record.signer != by.signer && !by.keeper => continue,
                    Ok(record) => record,
                    Err(e) => {
                        self.problems.push((*id, e));
                        continue;
                    }
                };
                let told = head.order.get(&record.id).filter(|_| by.keeper && !head.covers.is_empty());
                let order = told.copied().unwrap_or(height);
                let known = self.order.entry(record.id).or_insert(order);
                *known = order.min(*known);
                self.records.insert(record.id, record);
            }
            self.edits.extend(head.edits.iter().map(|edit| (*id, edit.clone())));
        }
        let removed = &self.removed;
        self.records.retain(|id, _| !removed.contains(id));
        self.edits.retain(|(_, edit)| !removed.contains(&edit.id));
    }

    /// The state, when nothing of the history is damaged or lost.
    ///
    /// # Errors
    /// The first problem.
    pub(crate) fn whole(mut self) -> Result<State> {
        match self.problems.is_empty() {
            true => Ok(self),
            false => Err(self.problems.swap_remove(0).1),
        }
    }

    /// The live snapshots of the domains that `keyring` can see, in the order of commits. Records that cannot be opened are
    /// left out; [`State::unreadable`] names them.
    pub(crate) fn snapshots(&self, trust: &Trust, keyring: &Keyring) -> Result<Vec<Snapshot>> {
        let domains = keyring.domains();
        let mut snapshots = BTreeMap::new();
        for record in self.records.values() {
            if domains.as_ref().is_some_and(|own| !own.contains(&record.domain)) {
                continue;
            }
            let Some(keys) = keyring.domain(record.domain) else { continue };
            let Ok(public) = record.open_public(trust.repository, &keys.keep_key) else { continue };
            let order = self.order.get(&record.id).copied().unwrap_or_default();
            snapshots.insert(record.id, Snapshot::new(record.clone(), public, order));
        }
        let mut notes: Vec<(Note, HeadId, SnapshotId)> = Vec::new();
        for (head, edit) in &self.edits {
            if let Some(keys) = keyring.domain(edit.domain).filter(|_| snapshots.contains_key(&edit.id)) {
                // A note that cannot be opened says nothing: tags and holds as they were before it.
                notes.extend(open_note(trust, edit, &keys.keep_key).ok().map(|note| (note, *head, edit.id)));
            }
        }
        notes.sort_by(|a, b| (&a.0.at, a.1).cmp(&(&b.0.at, b.1)));
        for (note, _, id) in notes {
            let Some(snapshot) = snapshots.get_mut(&id) else { continue };
            if let Some(tags) = note.tags {
                snapshot.tags = tags;
            }
            if let Some(hold) = note.hold {
                snapshot.hold = hold;
            }
            if note.verified.is_some() {
                snapshot.verified = note.verified;
            }
        }
        let mut snapshots: Vec<Snapshot> = snapshots.into_values().collect();
        snapshots.sort_by(|a, b| (a.order, &a.public.time, a.id).cmp(&(b.order, &b.public.time, b.id)));
        Ok(snapshots)
    }

    /// Records of domains that `keyring` can see and whose public part cannot be opened: one hostile or broken writer must
    /// not hide the others' history.
    pub(crate) fn unreadable(&self, trust: &Trust, keyring: &Keyring) -> Vec<(SnapshotId, RepoError)> {
        let domains = keyring.domains();
        let mine = |record: &&Record| domains.as_ref().is_none_or(|own| own.contains(&record.domain));
        let opened = self.records.values().filter(mine).filter_map(|record| {
            let keys = keyring.domain(record.domain)?;
            Some((record.id, record.open_public(trust.repository, &keys.keep_key).err()?))
        });
        opened.collect()
    }

    /// A head that follows this state's tips and says nothing yet.
    pub(crate) fn next(&self, world: &World) -> Head {
        Head {
            v: 1,
            parents: self.tips.iter().copied().collect(),
            time: crate::time::text(world.clock.now()),
            height: self.height.saturating_add(1),
            ..Head::default()
        }
    }

    /// A head that stands for all heads present.
    pub(crate) fn checkpoint(&self, world: &World) -> Head {
        let mut head = self.next(world);
        head.covers = self.heads.iter().chain(&self.covered).copied().collect();
        head.adds = self.records.values().map(|record| b64::encode(&record.bytes)).collect();
        head.removes = self.removed.iter().copied().collect();
        head.edits = self.edits.iter().map(|(_, edit)| edit.clone()).collect();
        head.fenced = self.fenced.iter().copied().collect();
        head.order =
            self.order.iter().filter(|(id, _)| self.records.contains_key(id)).map(|(id, n)| (*id, *n)).collect();
        head
    }
}

/// Where a head stands among those that are copied one after the other: none comes before one that it names as a parent, or that
/// stands for a parent. Checkpoints name nothing that they do not stand for. What it says of itself is believed: a wrong
/// order costs nothing once all are there.
pub(crate) fn rank(object: &[u8]) -> (bool, u64) {
    let head: Option<Head> = envelope::peek(Seal::Head, object);
    head.map_or((true, u64::MAX), |head| (head.covers.is_empty(), head.height))
}

/// Who signed a head.
#[derive(Clone, Copy)]
pub(crate) struct By {
    signer: SignerId,
    keeper: bool,
    revoked: bool,
}

type Heads = BTreeMap<HeadId, (Head, By)>;

/// A head object: what it says, and who says it.
fn decode(trust: &Trust, key: &Key, object: &[u8]) -> Result<(Head, By)> {
    let (head, signer): (Head, _) = envelope::open(Seal::Head, trust, object).map_err(|e| name_damage(e, key))?;
    if trust.revoked(signer).is_some() {
        return Ok((head, By { signer, keeper: false, revoked: true }));
    }
    if head.v != 1 || !head.features.is_empty() {
        return Err(RepoError::damaged(key.path(), "was made by a later version of the program"));
    }
    let keeper = trust.was_keeper(signer);
    if !keeper && !trust.was_writer(signer) {
        return Err(RepoError::damaged(key.path(), format!("is signed by {signer}, who may not commit")));
    }
    let only_adds = head.removes.is_empty()
        && head.covers.is_empty()
        && head.edits.is_empty()
        && head.fenced.is_empty()
        && !head.parents.is_empty();
    if !keeper && !only_adds {
        return Err(RepoError::damaged(key.path(), format!("is signed by {signer}, who may only add")));
    }
    Ok((head, By { signer, keeper, revoked: false }))
}

/// Heads of runs that a keeper gave up and that it had not seen when it did: what they refer to may be swept.
fn late(heads: &Heads) -> BTreeSet<HeadId> {
    let mut late = BTreeSet::new();
    for (fence, (head, _)) in heads.iter().filter(|(_, (head, _))| !head.fenced.is_empty()) {
        let suspects: Vec<&HeadId> = heads
            .iter()
            .filter(|(_, (h, _))| h.intent.is_some_and(|i| head.fenced.contains(&i)))
            .map(|(id, _)| id)
            .collect();
        if suspects.is_empty() {
            continue;
        }
        let mut seen = BTreeSet::from([*fence]);
        let mut stack = vec![*fence];
        while let Some(id) = stack.pop() {
            let Some((below, _)) = heads.get(&id) else { continue };
            stack.extend(below.parents.iter().chain(&below.covers).filter(|id| seen.insert(**id)).copied());
        }
        late.extend(suspects.into_iter().filter(|id| !seen.contains(id)));
    }
    late
}

/// No repository has more heads on a path; keeps sums of heights from overflowing.
const HEIGHT_MAX: u64 = 1 << 53;

/// How many heads lie on the longest path to each. A head whose parents are gone counts from what it says of itself.
fn heights(heads: &Heads) -> BTreeMap<HeadId, u64> {
    // What a keeper says of itself counts, because the heads below it may be gone; what a writer says does not.
    let told = |head: &Head| head.height.min(HEIGHT_MAX);
    let checkpoints = heads.values().filter(|(head, by)| by.keeper && !head.covers.is_empty());
    let folded = checkpoints.map(|(head, _)| told(head)).max().unwrap_or(0);
    let mut heights: BTreeMap<HeadId, u64> = BTreeMap::new();
    let mut stack: Vec<HeadId> = heads.keys().copied().collect();
    while let Some(id) = stack.last().copied() {
        let Some((head, by)) = heads.get(&id).filter(|_| !heights.contains_key(&id)) else {
            stack.pop();
            continue;
        };
        // Names are hashes of content, so there are no cycles.
        let waiting: Vec<HeadId> =
            head.parents.iter().filter(|p| heads.contains_key(p) && !heights.contains_key(p)).copied().collect();
        if waiting.is_empty() {
            let above = head.parents.iter().filter_map(|p| heights.get(p)).max().copied().unwrap_or(0);
            let orphan = head.parents.iter().any(|p| !heads.contains_key(p));
            let below = if orphan && head.covers.is_empty() { above.max(folded) } else { above };
            let own = if by.keeper { told(head) } else { 0 };
            heights.insert(id, own.max(below.saturating_add(1)));
            stack.pop();
        } else {
            stack.extend(waiting);
        }
    }
    heights
}

fn name_damage(e: RepoError, key: &Key) -> RepoError {
    match e {
        RepoError::Damaged { object, why } => RepoError::damaged(key.path(), format!("({object}) {why}")),
        other => other,
    }
}

fn open_note(trust: &Trust, edit: &Edit, keep_key: &Secret) -> Result<Note> {
    let bad = |why: &str| RepoError::damaged(format!("a note about snapshot {}", edit.id.short()), why);
    let sealed = b64::decode(&edit.note).ok_or_else(|| bad("is not base64"))?;
    let aad: [&[u8]; 3] = [b"BSHD note", &trust.repository.0, &edit.domain.0];
    let plain = open_small(Purpose::Public, keep_key, &aad, &sealed).ok_or_else(|| bad("is not authentic"))?;
    serde_json::from_slice(&plain).map_err(|_| bad("cannot be read"))
}

/// An edit of a snapshot, sealed for keepers.
pub(crate) fn edit(world: &World, trust: &Trust, snapshot: &Snapshot, keep_key: &Secret, note: &Note) -> Result<Edit> {
    let plain = serde_json::to_vec(note).map_err(|e| RepoError::Limit(format!("note: {e}")))?;
    let aad: [&[u8]; 3] = [b"BSHD note", &trust.repository.0, &snapshot.domain.0];
    let sealed = seal_small(Purpose::Public, keep_key, world.random(), &aad, &plain);
    Ok(Edit { id: snapshot.id, domain: snapshot.domain, note: b64::encode(&sealed) })
}

/// Writes a head and returns its id. When this returns `Ok` the commit survives power loss.
pub(crate) fn commit(store: &Store, trust: &Trust, signing: &Signing, head: &Head) -> Result<HeadId> {
    let object = envelope::close(Seal::Head, trust.repository, signing, head)?;
    let id = HeadId(*blake3::hash(&object).as_bytes());
    let put = store.put_new(&head_key(&id), &object);
    if !store::sabotaged("acknowledge before it is durable") {
        put?;
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Role;
    use crate::repository::{PackSize, Repository};
    use std::sync::Arc;
    use store::MemStore;

    fn made() -> (MemStore, Repository, Signing, Signing) {
        let mem = MemStore::new();
        let store = Store::new(Arc::new(mem.clone()));
        let (mut repository, _) = Repository::init(&store, &World::real(), None, "t", PackSize::Disk).expect("made");
        let writer = repository.enrol(Role::Writer, "w", None).expect("enrols").signing().expect("signs");
        let reader = repository.enrol(Role::Reader, "r", None).expect("enrols").signing().expect("signs");
        (mem, repository, writer, reader)
    }

    #[test]
    fn a_writer_can_neither_remove_nor_checkpoint_nor_annotate() {
        let (_, repository, writer, reader) = made();
        let Repository { store, trust, world, .. } = &repository;
        let state = repository.state().expect("loads");
        let id = SnapshotId([9; 32]);
        let edit = Edit { id, domain: DomainId([1; 16]), note: String::new() };
        let tip = state.tips.iter().copied().collect::<Vec<_>>();
        for head in [
            Head { removes: vec![id], ..state.next(world) },
            Head { covers: tip.clone(), ..state.next(world) },
            Head { edits: vec![edit], ..state.next(world) },
        ] {
            commit(store, trust, &writer, &head).expect("stores");
        }
        commit(store, trust, &reader, &state.next(world)).expect("stores");
        let after = repository.state().expect("loads");
        assert_eq!(after.problems.len(), 4, "{:?}", after.problems);
        assert_eq!(after.tips, state.tips, "what it says does not count");
        assert!(after.removed.is_empty() && after.covered.is_empty());
    }

    #[test]
    fn a_head_of_a_stranger_or_of_another_repository_does_not_count() {
        let (_, repository, ..) = made();
        let (_, other, ..) = made();
        let Repository { store, trust, world, .. } = &repository;
        let state = repository.state().expect("loads");
        let stranger = Signing::from_seed(&Secret([5; 32]));
        commit(store, trust, &stranger, &state.next(world)).expect("stores");
        let root = other.keyring.root().expect("owner");
        commit(store, &other.trust, &root, &state.next(world)).expect("stores");
        assert_eq!(repository.state().expect("loads").problems.len(), 2);
    }

    #[test]
    fn heads_of_two_authors_who_did_not_see_each_other_add_up() {
        let (_, repository, writer, _) = made();
        let Repository { store, trust, world, .. } = &repository;
        let state = repository.state().expect("loads");
        let one = commit(store, trust, &writer, &state.next(world)).expect("stores");
        let two = commit(store, trust, &writer, &Head { time: "later".into(), ..state.next(world) }).expect("stores");
        let both = repository.state().expect("loads");
        assert_eq!(both.tips, BTreeSet::from([one, two]));
        let merged = commit(store, trust, &writer, &both.next(world)).expect("stores");
        let after = repository.state().expect("loads");
        assert_eq!((after.tips, after.height), (BTreeSet::from([merged]), 3));
    }
}
