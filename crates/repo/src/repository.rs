//! A repository: making one, opening one, and what is known about it as a whole (`docs/format.md` §2 to §4).

use crate::chunk::Cuts;
use crate::crypt::{Secret, Signing, is_signed};
use crate::envelope::{self, Certificate, Seal, Trust};
use crate::error::{RepoError, Result};
use crate::head::{self, Head, Snapshot, State};
use crate::id::{DomainId, HeadId, RepositoryId, SignerId, hex, unhex};
use crate::keys::{
    Bundle, Credential, Keyring, Masters, Role, age_open_passphrase, age_passphrase, age_unwrap, age_wrap,
};
use crate::repair::is_damaged;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use store::{Key, Kind, LockMode, LockPolicy, Put, Reaper, Shelf, Span, Store, StoreError, World};
use zeroize::Zeroizing;

const CONFIG_NAME: &str = "backstay.json";
const CONFIG_BYTES_MAX: u64 = 64 << 10;
const CONFIG_CONTEXT: &[u8] = b"backstay v1 config\0";
const KEY_BYTES_MAX: u64 = 64 << 10;
/// Secrets are stored twice, so that one bad sector does not lose them.
const COPIES: [&str; 2] = ["a", "b"];
/// The mandatory feature of repositories whose writers lock what they write.
const LOCK_FEATURE: &str = "lock";
/// The format this program writes and the latest it reads.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) format: u32,
    pub(crate) suite: u32,
    pub(crate) features: Vec<String>,
    pub(crate) repository: RepositoryId,
    pub(crate) created: String,
    pub(crate) root: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) chunker: Cuts,
    pub(crate) pack_bytes: u32,
    pub(crate) generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<LockTerms>,
}

/// What is locked, as it stands in the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LockTerms {
    mode: String,
    days: u32,
}

impl Config {
    /// What is to be locked.
    fn lock_policy(&self) -> Option<LockPolicy> {
        let terms = self.lock.as_ref()?;
        Some(LockPolicy { mode: LockMode::parse(&terms.mode)?, days: terms.days })
    }

    /// Whether feature and terms go together, and the terms are possible.
    fn locks_are_sound(&self) -> bool {
        let named = self.features.iter().any(|feature| feature == LOCK_FEATURE);
        match self.lock_policy() {
            Some(policy) => named && (1..=LockPolicy::DAYS_MAX).contains(&policy.days),
            None => !named && self.lock.is_none(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct ConfigSignature {
    signature: String,
}

/// An open repository.
pub struct Repository {
    pub(crate) store: Store,
    pub(crate) world: World,
    pub(crate) config: Config,
    pub(crate) trust: Trust,
    pub(crate) keyring: Keyring,
    /// What was wrong with the repository and could be worked around: one sentence each.
    pub warnings: Vec<String>,
}

/// What the heads say about themselves.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Heads that no other head follows: what a client remembers to notice a rollback.
    pub tips: Vec<HeadId>,
    /// What is damaged or lost: one sentence each. See [`Repository::history_problems`].
    pub problems: Vec<String>,
}

/// How large packs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackSize {
    /// 16 MiB: disks and SFTP.
    Disk,
    /// What the place prefers: as on disks, or nearly 64 MiB where each object costs a request.
    Fitting,
    /// This many bytes, 1 KiB to 64 MiB.
    Bytes(u32),
}

/// What a new repository is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// How large its packs are.
    pub packs: PackSize,
    /// What its writers lock.
    pub lock: Option<LockPolicy>,
}

impl From<PackSize> for Layout {
    fn from(packs: PackSize) -> Layout {
        Layout { packs, lock: None }
    }
}

fn config_key() -> Key {
    Key::new(Shelf::Root, CONFIG_NAME).expect("a good name")
}

fn keys_key(label: &str, object: &[u8]) -> Key {
    Key::new(Shelf::Keys, format!("{label}.{}", blake3::hash(object).to_hex())).expect("a good name")
}

const RECOVERY: &str = "This directory or bucket is a Backstay repository: encrypted backups.

To restore, you need its key: a passphrase, a key file, or the printed recovery kit.

    backstay -r THIS-PLACE snapshots
    backstay -r THIS-PLACE restore latest --target /some/empty/directory

Without the program: docs/format.md in its source describes every byte, and docs/reader/restore.py
restores files with nothing but Python. Do not change, rename or delete anything here by hand.
";

impl Repository {
    /// Makes a repository. `credential` becomes its owner's passphrase; with `None` the returned bundle is the only key
    /// there is. When this returns `Ok` the repository survives power loss.
    ///
    /// # Errors
    /// `AlreadyExists`; `BadKey` for a credential that is no passphrase; whatever the store returns.
    pub fn init(
        store: &Store,
        world: &World,
        passphrase: Option<&Zeroizing<String>>,
        label: &str,
        layout: impl Into<Layout>,
    ) -> Result<(Repository, Bundle)> {
        let owner = Bundle::owner(world, label);
        Ok((Repository::init_for(store, world, &owner, passphrase, layout)?, owner))
    }

    /// As [`Repository::init`], for an owner whose keys were made, and may have been stored, before.
    ///
    /// # Errors
    /// As [`Repository::init`]; the repository may be there already when the very last object could not be stored.
    pub fn init_for(
        store: &Store,
        world: &World,
        bundle: &Bundle,
        passphrase: Option<&Zeroizing<String>>,
        layout: impl Into<Layout>,
    ) -> Result<Repository> {
        let Layout { packs, lock } = layout.into();
        let store = &store.locking(lock, &world.clock);
        // Keys and heads of an init that was interrupted open nothing; they would only confuse. They are listed before it is looked
        // whether there is a repository: so that none of them is of one that somebody makes from here on.
        let mut leftovers = Vec::new();
        for shelf in [Shelf::Keys, Shelf::Heads] {
            leftovers.extend(store.list(shelf)?.into_iter().map(|listed| listed.key));
        }
        if store.size(&config_key())?.is_some() || leftovers.iter().any(|key| key.name().starts_with("config.")) {
            return Err(RepoError::AlreadyExists(store.address()));
        }
        if !store.list(Shelf::Packs)?.is_empty() || !store.list(Shelf::Runs)?.is_empty() {
            let why = "is gone, and so is its copy, but there are data: bring backstay.json back from a copy of the repository";
            return Err(RepoError::damaged(CONFIG_NAME, why));
        }
        let reaper = Reaper::of(store);
        reaper.delete_all(&leftovers)?;
        let root = Signing::from_seed(bundle.root_seed.as_ref().expect("an owner has it"));
        let recipient = bundle.identity.as_ref().expect("an owner has it").to_public().to_string();
        let pack_bytes = match packs {
            PackSize::Disk => 16 << 20,
            PackSize::Fitting => store.pack_bytes(),
            PackSize::Bytes(n) => n.clamp(1 << 10, 64 << 20),
        };
        let config = Config {
            format: FORMAT,
            suite: 1,
            features: lock.iter().map(|_| LOCK_FEATURE.to_owned()).collect(),
            repository: bundle.repository,
            created: crate::time::text(world.clock.now()),
            root: hex(&root.public()),
            recipients: vec![recipient],
            chunker: Cuts::DEFAULT,
            pack_bytes,
            generation: 1,
            lock: lock.map(|lock| LockTerms { mode: lock.mode.name().to_owned(), days: lock.days }),
        };
        let mut own = put_masters(store, bundle, &config)?;
        if let Some(passphrase) = passphrase {
            own.extend(put_owner(store, world, bundle, passphrase)?.1);
        }
        let mut trust = Trust::new(config.repository, bundle.root_public);
        own.extend(put_certificate(store, world, &mut trust, &root, bundle)?);
        let first = Head { v: 1, time: config.created.clone(), height: 1, ..Head::default() };
        own.push(head::head_key(&head::commit(store, &trust, &root, &first)?));
        let recovery = Key::new(Shelf::Root, "RECOVERY.txt").expect("a good name");
        store.put_new(&recovery, RECOVERY.as_bytes())?;
        let object = config_object(&config, &root);
        // From here on it is a repository.
        let is_ours = match store.put_new(&config_key(), &object) {
            Ok(Put::New) => true,
            // What carries it may have sent it twice.
            Ok(Put::Existed) => store.get(&config_key(), Span::Whole)? == object,
            Err(e) if e.kind == Kind::Corrupt => false,
            Err(e) => return Err(e.into()),
        };
        if !is_ours {
            // Somebody else made one meanwhile, where our objects are nobody's.
            reaper.delete_all(&own)?;
            return Err(RepoError::AlreadyExists(store.address()));
        }
        store.put_new(&keys_key("config", &object), &object)?;
        let keyring = Keyring { bundle: bundle.clone() };
        Ok(Repository { store: store.clone(), world: world.clone(), config, trust, keyring, warnings: Vec::new() })
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// `NoRepository`; `LaterFormat`; `WrongKey`; `Damaged` when what is needed to open it is gone.
    pub fn open(store: &Store, world: &World, credential: &Credential) -> Result<Repository> {
        let mut warnings = Vec::new();
        let config = read_config(store, &mut warnings)?;
        let root: [u8; 32] = unhex(&config.root).ok_or_else(|| RepoError::damaged(CONFIG_NAME, "has no root key"))?;
        let bundle = unlock(store, &config, credential, &mut warnings)?;
        if bundle.repository != config.repository || bundle.root_public != root {
            return Err(RepoError::WrongKey(format!("{} (the key belongs to another repository)", store.address())));
        }
        let trust = read_trust(store, config.repository, root, &mut warnings)?;
        let store = &store.locking(config.lock_policy(), &world.clock);
        let keyring = Keyring { bundle };
        let own = keyring.signing().and_then(|signing| trust.revoked(signing.id()).map(str::to_owned));
        if let Some(at) = own {
            return Err(RepoError::WrongKey(format!("{} (it was revoked at {at})", store.address())));
        }
        Ok(Repository { store: store.clone(), world: world.clone(), config, trust, keyring, warnings })
    }

    /// Checks what is clear in a repository: its configuration. Warns when only the copy of it is sound.
    pub(crate) fn check_config(store: &Store, warnings: &mut Vec<String>) -> Result<()> {
        read_config(store, warnings).map(drop)
    }

    /// The bytes of the configuration, when they are sound: a copy must not begin with damaged ones.
    pub(crate) fn sound_config(store: &Store) -> Result<Vec<u8>> {
        let body = store.get(&config_key(), Span::Whole)?;
        parse_config(store, &body)?;
        Ok(body)
    }

    /// What is to be locked of the repository in this place, in whatever place it is copied to.
    pub(crate) fn lock_policy_of(store: &Store, warnings: &mut Vec<String>) -> Result<Option<LockPolicy>> {
        Ok(read_config(store, warnings)?.lock_policy())
    }

    /// Which repository is in this place, as far as one can tell without a key.
    pub(crate) fn identity_of(store: &Store, warnings: &mut Vec<String>) -> Result<RepositoryId> {
        read_config(store, warnings).map(|config| config.repository)
    }

    /// Its id.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }

    /// What its writers lock, and for how long.
    pub fn lock_policy(&self) -> Option<LockPolicy> {
        self.config.lock_policy()
    }

    /// When it was made, RFC 3339.
    pub fn created(&self) -> &str {
        &self.config.created
    }

    /// Where it is.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The world it was opened in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What the key at hand can do.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Who was enrolled.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.trust.certificates().cloned().collect()
    }

    pub(crate) fn state(&self) -> Result<State> {
        State::load(&self.store, &self.trust)
    }

    /// The state, by the certificates that can be seen now.
    pub(crate) fn state_anew(&self) -> Result<State> {
        let trust = read_trust(&self.store, self.config.repository, self.keyring.bundle.root_public, &mut Vec::new())?;
        State::load(&self.store, &trust)
    }

    pub(crate) fn keep_key(&self, domain: DomainId) -> Option<Secret> {
        self.keyring.domain(domain).map(|keys| keys.keep_key)
    }

    /// The live snapshots that the key at hand can see, in the order of commits.
    ///
    /// # Errors
    /// `LostHistory`, `Damaged`; whatever the store returns.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.state()?.snapshots(&self.trust, &self.keyring)
    }

    /// What is damaged or lost of the history: one sentence each. While there is any, what is shown may be less than was
    /// committed, and nothing may be deleted.
    ///
    /// # Errors
    /// Whatever the store returns.
    pub fn history_problems(&self) -> Result<Vec<String>> {
        Ok(self.problems_of(&self.state()?))
    }

    fn problems_of(&self, state: &State) -> Vec<String> {
        let heads = state.problems.iter().map(|(_, e)| e.to_string());
        heads.chain(state.unreadable(&self.trust, &self.keyring).into_iter().map(|(_, e)| e.to_string())).collect()
    }

    /// The tips of the DAG of heads: what a client remembers to notice a rollback.
    ///
    /// # Errors
    /// As [`Repository::snapshots`].
    pub fn tips(&self) -> Result<Vec<HeadId>> {
        Ok(self.state()?.tips.into_iter().collect())
    }

    /// Checks that the history still contains the heads in `seen`, and returns what there is now.
    ///
    /// # Errors
    /// `LostHistory` when one is gone: lost, hidden or rolled back.
    pub fn check_history(&self, seen: &[HeadId]) -> Result<History> {
        let state = State::load_knowing(&self.store, &self.trust, seen)?;
        // One that is there and damaged is no rollback: it is among the problems.
        let damaged =
            |head: &HeadId| state.problems.iter().any(|(id, e)| id == head && !matches!(e, RepoError::LostHistory(_)));
        let known = |head: &HeadId| damaged(head) || state.heads.contains(head) || state.covered.contains(head);
        if let Some(lost) = seen.iter().find(|head| !known(head)) {
            return Err(RepoError::LostHistory(format!("head {lost}, which was seen here before, is gone")));
        }
        let problems = self.problems_of(&state);
        // What is damaged now may be gone tomorrow, and must be missed then.
        let tips = state.tips.iter().chain(seen.iter().filter(|head| damaged(head))).copied().collect();
        Ok(History { tips, problems })
    }

    /// Enrols somebody: returns the bundle with their keys, which is stored nowhere.
    ///
    /// # Errors
    /// `NotAuthorised` without root.
    pub fn enrol(&mut self, role: Role, label: &str, domain: Option<DomainId>) -> Result<Bundle> {
        let root = self.keyring.root()?;
        let bundle = self.keyring.bundle.enrol(&self.world, role, label, domain)?;
        put_certificate(&self.store, &self.world, &mut self.trust, &root, &bundle)?;
        Ok(bundle)
    }

    /// When the key of `signer` was revoked, RFC 3339, if it was.
    pub fn revoked(&self, signer: SignerId) -> Option<&str> {
        self.trust.revoked(signer)
    }

    /// Revokes the key of somebody who was enrolled: what they committed so far stays, what they commit from now on does
    /// not count. Durable when it returns. A reader's key goes on opening what it opens.
    ///
    /// # Errors
    /// `NotAuthorised` without root; `BadKey` when nobody has this key, or it is that of a passphrase, which is root
    /// itself; whatever keeps the history from being read.
    pub fn revoke(&mut self, signer: SignerId) -> Result<()> {
        let root = self.keyring.root()?;
        let certificate = self.trust.certificates().find(|certificate| certificate.signer == signer).cloned();
        let certificate =
            certificate.ok_or_else(|| RepoError::BadKey(format!("nobody was enrolled with the key {signer}")))?;
        if certificate.roles.len() > 1 {
            let what = "this is the key of a passphrase, whose owner holds the root key: it cannot be revoked";
            return Err(RepoError::BadKey(what.into()));
        }
        // What was said so far counts from here on because a checkpoint says it.
        self.fold_heads(&root)?;
        let created = crate::time::text(self.world.clock.now());
        let revocation = Certificate { roles: Vec::new(), created, ..certificate };
        let object = envelope::close(Seal::Certificate, self.config.repository, &root, &revocation)?;
        put_copies(&self.store, &format!("cert-{signer}-revoked"), || Ok(object.clone()))?;
        // And what came meanwhile: whoever committed it did not know better.
        self.fold_heads(&root)?;
        self.trust.enrol(&object)
    }

    fn fold_heads(&self, signing: &Signing) -> Result<()> {
        let state = self.state()?.whole()?;
        head::commit(&self.store, &self.trust, signing, &state.checkpoint(&self.world)).map(drop)
    }

    /// Adds a passphrase that does everything the key at hand does.
    ///
    /// # Errors
    /// `NotAuthorised` unless the key at hand is an owner's.
    pub fn add_passphrase(&mut self, passphrase: &Zeroizing<String>, label: &str) -> Result<String> {
        let root = self.keyring.root()?;
        let mut bundle = self.keyring.bundle.clone();
        if bundle.role != Role::Owner {
            return Err(RepoError::NotAuthorised { needed: "owner", held: bundle.role.name().into() });
        }
        label.clone_into(&mut bundle.label);
        bundle.sign_seed = Some(Secret(self.world.random()));
        put_certificate(&self.store, &self.world, &mut self.trust, &root, &bundle)?;
        Ok(put_owner(&self.store, &self.world, &bundle, passphrase)?.0)
    }

    /// The names of the passphrases, as `key list` shows them.
    ///
    /// # Errors
    /// Whatever the store returns.
    pub fn passphrases(&self) -> Result<Vec<String>> {
        Ok(owners(&self.store)?.into_keys().collect())
    }

    /// Removes a passphrase by name. Data that its holder could read stays readable to whoever kept a copy of the key.
    ///
    /// # Errors
    /// `NotAuthorised` unless root; `Limit` when it is the last; `NoSnapshot`-like `BadKey` when there is none of that
    /// name.
    pub fn remove_passphrase(&self, name: &str) -> Result<()> {
        self.keyring.root()?;
        let mut owners = owners(&self.store)?;
        let objects =
            owners.remove(name).ok_or_else(|| RepoError::BadKey(format!("there is no passphrase {name:?}")))?;
        if owners.is_empty() {
            return Err(RepoError::Limit(
                "this is the last passphrase: without it nobody could open the repository".into(),
            ));
        }
        let reaper = Reaper::of(&self.store);
        objects.iter().try_for_each(|key| reaper.delete(key).map(drop))?;
        Ok(())
    }

    /// What the printed kit holds, as the two lines that [`Credential::parse`] reads: the recovery identity and the root
    /// key.
    ///
    /// # Errors
    /// `NotAuthorised` without a reader's key.
    pub fn identity(&self) -> Result<Zeroizing<String>> {
        use age::secrecy::ExposeSecret;
        let identity = self.keyring.opening()?.to_string();
        Ok(Zeroizing::new(format!("{}\nroot: {}", identity.expose_secret(), self.config.root)))
    }

    /// Whether the sound object `object` on the shelf of keys belongs there, as far as the key at hand can tell; what is wrong
    /// with it if not. `stem` is its name without copy and digest.
    pub(crate) fn belongs(&self, stem: &str, object: &[u8]) -> std::result::Result<(), &'static str> {
        if stem.starts_with("cert-") {
            let certificate = envelope::open::<Certificate>(Seal::Certificate, &self.trust, object);
            return certificate.map(drop).map_err(|_| "is no certificate of this repository");
        }
        if stem == "config" {
            let own = parse_config(&self.store, object).is_ok_and(|config| config.root == self.config.root);
            return own.then_some(()).ok_or("is not a configuration of this repository");
        }
        let Some(identity) = self.keyring.opening().ok().filter(|_| stem == "masters") else { return Ok(()) };
        let plain = age_unwrap(identity, object).map(Zeroizing::new);
        let masters = plain.and_then(|plain| serde_json::from_slice::<Masters>(&plain).ok());
        masters.filter(|masters| masters.are_roots(&self.config.root)).map(drop).ok_or("is not signed by root")
    }

    /// Writes again what can be rebuilt of the objects that open the repository: `backstay.json`, its copy, certificates.
    /// Returns the names of the objects that were written.
    pub(crate) fn mend_keys(&self) -> Result<Vec<String>> {
        let Ok(root) = self.keyring.root() else { return Ok(Vec::new()) };
        let object = config_object(&self.config, &root);
        let mut written = Vec::new();
        let reaper = Reaper::of(&self.store);
        let bad = match read_config_at(&self.store, &config_key()) {
            Ok(_) => false,
            Err(RepoError::NoRepository(_)) => true,
            Err(e) if e.is_damage() => true,
            Err(e) => return Err(e),
        };
        if bad {
            reaper.delete(&config_key())?;
            self.store.put_new(&config_key(), &object)?;
            written.push(CONFIG_NAME.to_owned());
        }
        let copy = keys_key("config", &object);
        if self.store.get_checked(&copy).is_err_and(|e| matches!(e.kind, Kind::Absent | Kind::Corrupt)) {
            reaper.delete(&copy)?;
            self.store.put_new(&copy, &object)?;
            written.push(copy.path());
        }
        for listed in self.store.list(Shelf::Keys)? {
            if is_damaged(&self.store, &listed.key) {
                let twin = twin_of(&self.store, &listed.key)?;
                if let Some(body) = twin {
                    reaper.delete(&listed.key)?;
                    let label = listed.key.name().split('.').next().unwrap_or_default();
                    self.store.put_new(&keys_key(label, &body), &body)?;
                    written.push(listed.key.path());
                }
            }
        }
        written.extend(self.mend_twins()?);
        Ok(written)
    }

    /// Writes the second copy of what has only one: somebody was cut off between the two, or one was lost.
    fn mend_twins(&self) -> Result<Vec<String>> {
        let listed = self.store.list(Shelf::Keys)?;
        let label_of = |key: &Key| key.name().split('.').next().unwrap_or_default().to_owned();
        let labels: BTreeSet<String> = listed.iter().map(|listed| label_of(&listed.key)).collect();
        let mut written = Vec::new();
        for key in listed.iter().map(|listed| &listed.key) {
            let label = label_of(key);
            let twin = match (label.strip_suffix("-a"), label.strip_suffix("-b")) {
                (Some(stem), _) => format!("{stem}-b"),
                (_, Some(stem)) => format!("{stem}-a"),
                _ => continue,
            };
            if labels.contains(&twin) {
                continue;
            }
            // What is damaged itself is no original.
            let Ok(body) = self.store.get_checked(key) else { continue };
            let second = keys_key(&twin, &body);
            self.store.put_new(&second, &body)?;
            written.push(second.path());
        }
        Ok(written)
    }
}

/// The body of the other copy of a key object, when that is sound.
fn twin_of(store: &Store, key: &Key) -> Result<Option<Vec<u8>>> {
    let label = key.name().split('.').next().unwrap_or_default();
    let other = match label.strip_suffix("-a") {
        Some(stem) => format!("{stem}-b."),
        None => match label.strip_suffix("-b") {
            Some(stem) => format!("{stem}-a."),
            None => return Ok(None),
        },
    };
    for listed in store.list_prefix(Shelf::Keys, &other)? {
        if let Ok(body) = store.get_checked(&listed.key) {
            return Ok(Some(body));
        }
    }
    Ok(None)
}

fn config_object(config: &Config, root: &Signing) -> Vec<u8> {
    let line = serde_json::to_string(config).expect("a configuration is plain data");
    let signature = hex(&root.sign(&[CONFIG_CONTEXT, line.as_bytes()]));
    let signature = serde_json::to_string(&ConfigSignature { signature }).expect("plain data");
    format!("{line}\n{signature}\n").into_bytes()
}

fn read_config(store: &Store, warnings: &mut Vec<String>) -> Result<Config> {
    let first = read_config_at(store, &config_key());
    let why = match first {
        Ok(config) => return Ok(config),
        Err(e @ (RepoError::LaterFormat { .. } | RepoError::NoRepository(_))) => e,
        Err(RepoError::Store(e)) if !matches!(e.kind, Kind::Absent | Kind::Corrupt) => return Err(e.into()),
        Err(e) => e,
    };
    if matches!(why, RepoError::LaterFormat { .. }) {
        return Err(why);
    }
    let mut best: Option<Config> = None;
    for listed in store.list_prefix(Shelf::Keys, "config.")? {
        if let Ok(config) =
            store.get_checked(&listed.key).map_err(RepoError::from).and_then(|b| parse_config(store, &b))
        {
            best = best.filter(|best| best.generation >= config.generation).or(Some(config));
        }
    }
    match best {
        Some(config) => {
            warnings.push(format!("{why}; its copy under keys/ is used: run `backstay verify --repair`"));
            Ok(config)
        }
        None => Err(why),
    }
}

fn read_config_at(store: &Store, key: &Key) -> Result<Config> {
    let absent = |e: &StoreError| e.is_absent();
    match store.size(key) {
        Ok(Some(size)) if size <= CONFIG_BYTES_MAX => {}
        Ok(Some(_)) => return Err(RepoError::damaged(CONFIG_NAME, "is too large")),
        Ok(None) => return Err(RepoError::NoRepository(store.address())),
        Err(e) if absent(&e) => return Err(RepoError::NoRepository(store.address())),
        Err(e) => return Err(e.into()),
    }
    parse_config(store, &store.get(key, Span::Whole)?)
}

fn parse_config(store: &Store, object: &[u8]) -> Result<Config> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
        #[serde(default)]
        features: Vec<String>,
    }
    let bad = |why: &str| RepoError::damaged(CONFIG_NAME, why);
    let text = std::str::from_utf8(object).map_err(|_| bad("is not text"))?;
    let (line, rest) = text.split_once('\n').ok_or_else(|| bad("ends too early"))?;
    let version: Version = serde_json::from_str(line).map_err(|_| bad("cannot be read"))?;
    let later = |what| RepoError::LaterFormat { place: store.address(), what };
    if version.format > FORMAT {
        return Err(later(format!("format {}", version.format)));
    }
    if let Some(feature) = version.features.iter().find(|feature| *feature != LOCK_FEATURE) {
        return Err(later(format!("the feature {feature:?}")));
    }
    let config: Config = serde_json::from_str(line).map_err(|_| bad("cannot be read"))?;
    let signature: ConfigSignature = serde_json::from_str(rest.trim_end()).map_err(|_| bad("has no signature"))?;
    let root: [u8; 32] = unhex(&config.root).ok_or_else(|| bad("has no root key"))?;
    let signature: [u8; 64] = unhex(&signature.signature).ok_or_else(|| bad("has no signature"))?;
    let text_end = rest.strip_suffix('\n').is_some_and(|last| !last.contains('\n'));
    if !is_signed(&root, &[CONFIG_CONTEXT, line.as_bytes()], &signature) || !text_end {
        return Err(bad("has a bad signature"));
    }
    let sound = config.format == 1 && config.suite == 1 && config.chunker.are_sound();
    let sound = sound && config.locks_are_sound();
    if !sound || !(1 << 10..=64 << 20).contains(&config.pack_bytes) {
        return Err(bad("has impossible parameters"));
    }
    Ok(config)
}

/// Whom root enrolled and whom it revoked, as far as certificates can be seen.
fn read_trust(store: &Store, repository: RepositoryId, root: [u8; 32], warnings: &mut Vec<String>) -> Result<Trust> {
    let mut trust = Trust::new(repository, root);
    for listed in store.list_prefix(Shelf::Keys, "cert-")? {
        let enrolled = get_key_object(store, &listed.key).and_then(|object| trust.enrol(&object));
        match enrolled {
            Err(e) if e.is_damage() => warnings.push(format!("certificate {}: {e}", listed.key)),
            other => other?,
        }
    }
    Ok(trust)
}

fn get_key_object(store: &Store, key: &Key) -> Result<Vec<u8>> {
    match store.size(key)? {
        Some(size) if size <= KEY_BYTES_MAX => Ok(store.get_checked(key)?),
        Some(_) => Err(RepoError::damaged(key.path(), "is too large")),
        None => Err(RepoError::damaged(key.path(), "is gone")),
    }
}

/// The passphrases' objects, by name: `owner-…` and its copies.
fn owners(store: &Store) -> Result<BTreeMap<String, Vec<Key>>> {
    let mut owners: BTreeMap<String, Vec<Key>> = BTreeMap::new();
    for listed in store.list_prefix(Shelf::Keys, "owner-")? {
        let label = listed.key.name().split('.').next().unwrap_or_default();
        let name = label.trim_end_matches("-a").trim_end_matches("-b").to_owned();
        owners.entry(name).or_default().push(listed.key);
    }
    Ok(owners)
}

fn unlock(store: &Store, config: &Config, credential: &Credential, warnings: &mut Vec<String>) -> Result<Bundle> {
    let wrong = || RepoError::WrongKey(store.address());
    match credential {
        Credential::Bundle(bundle) => Ok((**bundle).clone()),
        Credential::Identity { identity, root } => {
            let recipient = identity.to_public().to_string();
            if root.is_some_and(|root| hex(&root) != config.root) || !config.recipients.contains(&recipient) {
                return Err(wrong());
            }
            let mut last = RepoError::damaged("keys/masters", "is gone");
            for listed in store.list_prefix(Shelf::Keys, "masters-")? {
                let opened = get_key_object(store, &listed.key).and_then(|object| {
                    let plain = age_unwrap(identity, &object).map(Zeroizing::new).ok_or_else(wrong)?;
                    let masters: Option<Masters> = serde_json::from_slice(&plain).ok();
                    let reader = masters.filter(|m| m.are_roots(&config.root)).and_then(|m| m.reader(identity));
                    reader.ok_or_else(|| RepoError::damaged(listed.key.path(), "is not signed by root"))
                });
                match opened {
                    Ok(bundle) => return Ok(bundle),
                    Err(e) => {
                        warnings.push(format!("{}: {e}", listed.key));
                        last = e;
                    }
                }
            }
            Err(last)
        }
        Credential::Passphrase(passphrase) => {
            let owners = owners(store)?;
            if owners.is_empty() {
                let why = "are gone, or there never was a passphrase: use a key file or the recovery identity";
                return Err(RepoError::damaged("keys/owner-… (the keys that passphrases open)", why));
            }
            let mut readable = false;
            for keys in owners.values() {
                for key in keys {
                    let object = match get_key_object(store, key) {
                        Ok(object) => object,
                        Err(e) if e.is_damage() => {
                            warnings.push(format!("{key}: {e}; the other copy is used"));
                            continue;
                        }
                        Err(e) => return Err(e),
                    };
                    readable = true;
                    if let Some(plain) = age_open_passphrase(passphrase, &object).map(Zeroizing::new) {
                        let text =
                            std::str::from_utf8(&plain).map_err(|_| RepoError::damaged(key.path(), "is not text"))?;
                        return Bundle::from_json(text);
                    }
                    // Both copies hold the same under the same passphrase: trying the second costs time for nothing. Of more
                    // than two some are forged, and any may be the right one.
                    if keys.len() <= COPIES.len() {
                        break;
                    }
                }
            }
            match readable {
                true => Err(wrong()),
                false => {
                    Err(RepoError::damaged("keys/owner-… (the keys that passphrases open)", "are damaged, every copy"))
                }
            }
        }
    }
}

/// Stores the copies of a secret, and returns their names.
fn put_copies(store: &Store, stem: &str, mut object: impl FnMut() -> Result<Vec<u8>>) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    for copy in COPIES {
        let object = object()?;
        let key = keys_key(&format!("{stem}-{copy}"), &object);
        store.put_new(&key, &object)?;
        keys.push(key);
    }
    Ok(keys)
}

/// Stores what a passphrase opens; returns its name, and those of its objects.
fn put_owner(store: &Store, world: &World, bundle: &Bundle, passphrase: &str) -> Result<(String, Vec<Key>)> {
    let name = format!("owner-{}", hex(&world.random::<4>()));
    let keys = put_copies(store, &name, || age_passphrase(passphrase, bundle.to_json().as_bytes()))?;
    Ok((name, keys))
}

fn put_masters(store: &Store, bundle: &Bundle, config: &Config) -> Result<Vec<Key>> {
    let masters =
        Masters::sign(bundle).ok_or(RepoError::NotAuthorised { needed: "root", held: bundle.role.name().into() })?;
    let plain = Zeroizing::new(serde_json::to_vec(&masters).expect("plain data"));
    put_copies(store, "masters", || age_wrap(&config.recipients, &plain))
}

fn put_certificate(
    store: &Store,
    world: &World,
    trust: &mut Trust,
    root: &Signing,
    bundle: &Bundle,
) -> Result<Vec<Key>> {
    let Some(signing) = bundle.sign_seed.as_ref().map(Signing::from_seed) else { return Ok(Vec::new()) };
    let roles: &[&str] = match bundle.role {
        Role::Owner => &["writer", "keeper", "reader"],
        Role::Writer => &["writer"],
        Role::Keeper => &["keeper"],
        Role::Reader => &["reader"],
        Role::Root => &[],
    };
    let domain = bundle.domain.filter(|_| bundle.role == Role::Writer);
    let created = crate::time::text(world.clock.now());
    let certificate = Certificate::new(&signing, roles, domain, &bundle.label, created);
    let object = envelope::close(Seal::Certificate, bundle.repository, root, &certificate)?;
    let keys = put_copies(store, &format!("cert-{}", signing.id()), || Ok(object.clone()))?;
    trust.enrol(&object)?;
    Ok(keys)
}
