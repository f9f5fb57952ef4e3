//! Announced work, and lists of packs about to be swept (`docs/format.md` §10).
//!
//! A writer announces itself before it looks what is condemned; a keeper condemns before it looks who is at work. One of
//! them always sees the other, whatever the clocks say.

use crate::b64;
use crate::crypt::{Purpose, Secret, Signing, open_small, seal_small};
use crate::envelope::{self, Seal, Trust};
use crate::error::{RepoError, Result};
use crate::head::{State, head_key};
use crate::id::{DomainId, HeadId, IntentId, PackId, RunId, SignerId};
use crate::repository::Repository;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use store::{Key, Shelf, Store, World};

/// How often a writer shows that it lives.
pub(crate) const REFRESH: Duration = Duration::from_secs(300);

/// What somebody announced to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// A capture.
    Write,
    /// A restore, a mount, a verification.
    Read,
    /// A prune.
    Keep,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Body {
    v: u32,
    intent: IntentId,
    kind: Work,
    domain: DomainId,
    seq: u32,
    tips: Vec<HeadId>,
    note: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<HeadId>,
}

impl Body {
    fn may_be_signed_by(&self, trust: &Trust, signer: SignerId) -> bool {
        match self.kind {
            Work::Write => trust.might_write(signer, self.domain),
            Work::Keep => trust.was_keeper(signer),
            Work::Read => true,
        }
    }
}

/// Which process announced it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// When the process started, in clock ticks since boot: tells a process from a later one of the same id.
    pub started: u64,
    /// Id of the host's boot.
    pub boot: String,
    /// What it does.
    pub command: String,
}

/// An open announcement.
pub(crate) struct Intent {
    body: Body,
    first: Key,
    refreshed: Duration,
}

/// What somebody who announces needs.
pub(crate) struct Announcer<'a> {
    pub(crate) store: &'a Store,
    pub(crate) world: &'a World,
    pub(crate) trust: &'a Trust,
    pub(crate) signing: &'a Signing,
}

impl Announcer<'_> {
    pub(crate) fn announce(
        &self,
        kind: Work,
        domain: DomainId,
        keep_key: &Secret,
        tips: &BTreeSet<HeadId>,
        process: &Process,
    ) -> Result<Intent> {
        let plain = serde_json::to_vec(process).map_err(|e| RepoError::Limit(format!("intent: {e}")))?;
        let aad: [&[u8]; 3] = [b"BSIN note", &self.trust.repository.0, &domain.0];
        let note = b64::encode(&seal_small(Purpose::Public, keep_key, self.world.random(), &aad, &plain));
        let intent = IntentId(self.world.random());
        let tips = tips.iter().copied().collect();
        let body = Body { v: 1, intent, kind, domain, seq: 0, tips, note, ended: None, head: None };
        let first = self.put(&body, &format!("{:08x}", 0))?;
        Ok(Intent { body, first, refreshed: self.world.clock.monotonic() })
    }

    /// Shows that the work goes on, when it is time to.
    pub(crate) fn refresh(&self, intent: &mut Intent) -> Result<()> {
        let now = self.world.clock.monotonic();
        if now.saturating_sub(intent.refreshed) < REFRESH {
            return Ok(());
        }
        self.check(intent)?;
        intent.body.seq += 1;
        self.put(&intent.body, &format!("{:08x}", intent.body.seq))?;
        intent.refreshed = now;
        Ok(())
    }

    /// Whether the announcement still stands: a keeper gives one up by deleting it.
    ///
    /// # Errors
    /// `Fenced` when it is gone.
    pub(crate) fn check(&self, intent: &Intent) -> Result<()> {
        match self.store.size(&intent.first)? {
            Some(_) => Ok(()),
            None => Err(RepoError::Fenced),
        }
    }

    pub(crate) fn end(&self, intent: &Intent, how: &str, head: Option<HeadId>) -> Result<()> {
        let body = Body { ended: Some(how.to_owned()), head, ..intent.body.clone() };
        self.put(&body, "end")?;
        Ok(())
    }

    fn put(&self, body: &Body, step: &str) -> Result<Key> {
        let object = envelope::close(Seal::Intent, self.trust.repository, self.signing, body)?;
        let name = format!("{}.{step}.{}", body.intent, blake3::hash(&object).to_hex());
        let key = Key::new(Shelf::Intents, name).expect("hex is a good name");
        self.store.put_new(&key, &object)?;
        Ok(key)
    }
}

impl Intent {
    pub(crate) fn id(&self) -> IntentId {
        self.body.intent
    }
}

/// An announcement that ends when it is dropped.
pub(crate) struct Announcement {
    store: Store,
    world: World,
    trust: Trust,
    signing: Signing,
    intent: Mutex<Intent>,
    id: IntentId,
}

impl Repository {
    /// Announces work on the whole repository; `None` with a key that cannot sign or sees one domain only.
    pub(crate) fn announce(&self, kind: Work, process: &Process) -> Result<Option<Announcement>> {
        let nowhere = DomainId::default();
        let Some((signing, keep_key)) = self.keyring.signing().zip(self.keep_key(nowhere)) else { return Ok(None) };
        let announcer = Announcer { store: &self.store, world: &self.world, trust: &self.trust, signing: &signing };
        let intent = announcer.announce(kind, nowhere, &keep_key, &BTreeSet::new(), process)?;
        let id = intent.id();
        let (store, world, trust) = (self.store.clone(), self.world.clone(), self.trust.clone());
        Ok(Some(Announcement { store, world, trust, signing, intent: Mutex::new(intent), id }))
    }
}

impl Announcement {
    pub(crate) fn id(&self) -> IntentId {
        self.id
    }

    fn announcer(&self) -> Announcer<'_> {
        Announcer { store: &self.store, world: &self.world, trust: &self.trust, signing: &self.signing }
    }

    /// Shows that the work goes on, when it is time to.
    ///
    /// # Errors
    /// `Fenced` when somebody gave it up.
    pub(crate) fn refresh(&self) -> Result<()> {
        self.announcer().refresh(&mut self.intent.lock().expect("no holder panics"))
    }

    /// # Errors
    /// `Fenced` when somebody gave it up.
    pub(crate) fn check(&self) -> Result<()> {
        self.announcer().check(&self.intent.lock().expect("no holder panics"))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Best effort: an announcement without an end only delays the next prune. It may be dropped by what unwinds.
        let intent = self.intent.lock().unwrap_or_else(PoisonError::into_inner);
        self.announcer().end(&intent, "nothing", None).ok();
    }
}

/// What the intents shelf says about one announcement.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    pub(crate) kind: Work,
    pub(crate) seq: u32,
    pub(crate) ended: bool,
    pub(crate) head: Option<HeadId>,
    pub(crate) process: Option<Process>,
    pub(crate) keys: Vec<Key>,
}

/// Everything announced, and the objects that are damaged.
pub(crate) type Shelved = (BTreeMap<IntentId, Announced>, Vec<(Key, RepoError)>);

/// Everything on the intents shelf. Only what the author of an announcement's first object signed says anything about it.
/// A damaged object counts as an open announcement of its name: it only delays.
pub(crate) fn announced(
    store: &Store,
    trust: &Trust,
    keep_key: &dyn Fn(DomainId) -> Option<Secret>,
) -> Result<Shelved> {
    /// An object's name, whether it is an end, and what it says and who, where it can be read.
    type Object = (Key, bool, Option<(Body, SignerId)>);
    let mut objects: BTreeMap<IntentId, Vec<Object>> = BTreeMap::new();
    let mut damaged = Vec::new();
    for listed in store.list(Shelf::Intents)? {
        let mut parts = listed.key.name().split('.');
        let Some(id) = parts.next().and_then(IntentId::parse) else { continue };
        let is_end = parts.next() == Some("end");
        let opened = store
            .get_checked(&listed.key)
            .map_err(RepoError::from)
            .and_then(|object| envelope::open::<Body>(Seal::Intent, trust, &object))
            .and_then(|(body, signer)| match body.intent == id && body.may_be_signed_by(trust, signer) {
                true => Ok((body, signer)),
                false => Err(RepoError::damaged("an intent", format!("is not {signer}'s to announce"))),
            });
        let opened = match opened {
            Ok(opened) => Some(opened),
            Err(RepoError::Store(e)) if e.is_absent() => continue,
            Err(e) if e.is_damage() => {
                damaged.push((listed.key.clone(), e));
                None
            }
            Err(e) => return Err(e),
        };
        objects.entry(id).or_default().push((listed.key, is_end, opened));
    }
    let mut all = BTreeMap::new();
    for (id, objects) in objects {
        let sound = || objects.iter().filter_map(|(_, is_end, opened)| Some((*is_end, opened.as_ref()?)));
        let mut authors: Vec<(&Body, SignerId)> = Vec::new();
        for (_, (body, signer)) in sound().filter(|(is_end, (body, _))| !is_end && body.seq == 0) {
            if authors.iter().all(|(_, author)| author != signer) {
                authors.push((body, *signer));
            }
        }
        let keys = objects.iter().map(|(key, ..)| key.clone()).collect();
        // Without its first object it was given up; a first object that cannot be read still delays. Of several authors
        // all but one are forgers, and nobody knows which: it ends when all say so, and moves when one does.
        let unreadable = objects.iter().any(|(_, _, opened)| opened.is_none());
        let mut announced = Announced {
            kind: Work::Write,
            seq: 0,
            ended: !unreadable || !authors.is_empty(),
            head: None,
            process: None,
            keys,
        };
        if let [(body, _)] = authors.as_slice() {
            let aad: [&[u8]; 3] = [b"BSIN note", &trust.repository.0, &body.domain.0];
            let note = keep_key(body.domain).zip(b64::decode(&body.note));
            let note = note.and_then(|(key, note)| open_small(Purpose::Public, &key, &aad, &note));
            announced.process = note.and_then(|note| serde_json::from_slice(&note).ok());
            announced.kind = body.kind;
        }
        for (_, author) in &authors {
            // Whose key was revoked holds nobody up.
            let revoked = trust.revoked(*author).is_some();
            let mut ended = revoked;
            let mut seq = 0;
            for (is_end, (body, _)) in sound().filter(|(_, (_, signer))| signer == author) {
                seq = seq.max(body.seq);
                if is_end && body.ended.is_some() {
                    ended = true;
                    announced.head = body.head.filter(|_| !revoked).or(announced.head);
                }
            }
            announced.seq = announced.seq.saturating_add(seq);
            announced.ended &= ended;
        }
        all.insert(id, announced);
    }
    Ok((all, damaged))
}

/// Whether a head that its author noted as committed is gone.
pub(crate) fn is_lost(store: &Store, state: &State, head: &HeadId) -> Result<bool> {
    let known = state.heads.contains(head) || state.covered.contains(head);
    Ok(!known && store.size(&head_key(head))?.is_none())
}

/// A list of packs about to be swept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Condemned {
    pub(crate) v: u32,
    pub(crate) time: String,
    /// Packs about to be swept. A writer does not use what is in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) packs: Vec<PackId>,
    /// Packs that a keeper made of what is needed of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) copies: Vec<PackId>,
    /// Runs whose keys go when nothing needs them any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) runs: Vec<RunId>,
    /// The tips that this was computed from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tips: Vec<HeadId>,
    /// For a waiting list: the condemned lists that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) of: Vec<String>,
    /// For a waiting list: who was at work after those were written, and how far they had got.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) intents: BTreeMap<IntentId, u32>,
    /// Runs that are being given up: once their announcements are gone, a head must fence them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) given_up: BTreeSet<IntentId>,
}

impl Condemned {
    /// Whether it condemns packs, or runs: some are only notes of keepers for each other.
    pub(crate) fn is_about_packs(&self) -> bool {
        self.of.is_empty() && self.given_up.is_empty()
    }
}

/// Writes a condemned list; durable when it returns.
pub(crate) fn condemn(store: &Store, trust: &Trust, signing: &Signing, list: &Condemned) -> Result<Key> {
    let object = envelope::close(Seal::Condemned, trust.repository, signing, list)?;
    let key = Key::new(Shelf::Condemned, blake3::hash(&object).to_hex().as_str()).expect("a hash is a good name");
    store.put_new(&key, &object)?;
    Ok(key)
}

/// Every condemned list. A damaged one is an error: ignoring it could let a writer use what is about to go.
pub(crate) fn condemned(store: &Store, trust: &Trust) -> Result<Vec<(Key, Condemned)>> {
    let mut lists = Vec::new();
    for listed in store.list(Shelf::Condemned)? {
        match condemned_list(store, trust, &listed.key) {
            Ok(list) => lists.push((listed.key, list)),
            Err(RepoError::Store(e)) if e.is_absent() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(lists)
}

/// What stands among the condemned lists and is damaged or no keeper's.
pub(crate) fn not_keepers(store: &Store, trust: &Trust) -> Result<Vec<(Key, RepoError)>> {
    let mut found = Vec::new();
    for listed in store.list(Shelf::Condemned)? {
        match condemned_list(store, trust, &listed.key) {
            Ok(_) => {}
            Err(RepoError::Store(e)) if e.is_absent() => {}
            Err(e) if e.is_damage() => found.push((listed.key, e)),
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

fn condemned_list(store: &Store, trust: &Trust, key: &Key) -> Result<Condemned> {
    let object = store.get_checked(key)?;
    let named = |e| match e {
        RepoError::Damaged { object, why } => RepoError::damaged(key.path(), format!("({object}) {why}")),
        other => other,
    };
    let (list, signer): (Condemned, SignerId) = envelope::open(Seal::Condemned, trust, &object).map_err(named)?;
    match trust.was_keeper(signer) {
        true => Ok(list),
        false => Err(RepoError::damaged(key.path(), format!("is signed by {signer}, who is no keeper"))),
    }
}
