//! Who may do what: the four roles, the bundles that carry their keys, and the keys of a deduplication domain.
//!
//! Authority is a type: a [`Keyring`] gives a writer what seals, and what opens only to who holds the recovery identity.

use crate::crypt::{self, Purpose, Secret, Signing, derive};
use crate::error::{RepoError, Result};
use crate::id::{DomainId, RepositoryId, hex, unhex};
use age::secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use store::World;
use zeroize::{Zeroize, Zeroizing};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, for one person.
    Owner,
    /// Enrols the others. Kept offline.
    Root,
    /// Backs up; cannot read what it wrote.
    Writer,
    /// Prunes, copies, scrubs: sees ids and places, never contents.
    Keeper,
    /// Restores.
    Reader,
}

impl Role {
    /// Its name, as in bundles and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Root => "root",
            Role::Writer => "writer",
            Role::Keeper => "keeper",
            Role::Reader => "reader",
        }
    }
}

/// A key as a person hands it in: from a file, the environment or a command.
pub enum Credential {
    /// Opens the `keys/owner-…` objects.
    Passphrase(Zeroizing<String>),
    /// Carries one role's keys.
    Bundle(Box<Bundle>),
    /// A recovery identity, as on the printed kit, and the root key that stands there with it.
    Identity {
        /// What opens.
        identity: Box<age::x25519::Identity>,
        /// Whose repository it must be; without it a forged repository cannot be told from the right one.
        root: Option<[u8; 32]>,
    },
}

impl Credential {
    /// What `text` is: a key bundle, an age identity, or else a passphrase. One line end at the end does not count.
    ///
    /// # Errors
    /// `BadKey` when it is empty, or looks like a bundle or identity and is none.
    pub fn parse(text: &str) -> Result<Credential> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(RepoError::BadKey("it is empty".into()));
        }
        if trimmed.starts_with('{') {
            let bundle = Bundle::from_json(trimmed)?;
            return Ok(Credential::Bundle(Box::new(bundle)));
        }
        if is_protected_key(trimmed) {
            return Err(RepoError::BadKey("the key file has a passphrase of its own, which is not known".into()));
        }
        let identity = trimmed.lines().map(str::trim).find(|line| line.starts_with("AGE-SECRET-KEY-1"));
        match identity {
            Some(line) => {
                let identity = line.parse().map_err(|e: &str| RepoError::BadKey(format!("age identity: {e}")))?;
                let root = trimmed.lines().find_map(|line| line.trim().strip_prefix("root:")).map(str::trim);
                let bad = || RepoError::BadKey("its root key is not 64 hex digits".into());
                let root = root.map(|root| unhex(root).ok_or_else(bad)).transpose()?;
                Ok(Credential::Identity { identity: Box::new(identity), root })
            }
            None => Ok(Credential::Passphrase(Zeroizing::new(text.to_owned()))),
        }
    }
}

/// Whether a key file has a passphrase of its own: see [`protect_key`].
pub fn is_protected_key(text: &str) -> bool {
    crypt::is_armored(text)
}

/// A key file under a passphrase of its own: an age file in letters, which `age -d` opens too.
///
/// # Errors
/// `BadKey` when it cannot be made.
pub fn protect_key(key: &str, passphrase: &str) -> Result<String> {
    crypt::armored(&age_passphrase(passphrase, key.as_bytes())?)
}

/// The key in a file that has a passphrase of its own.
///
/// # Errors
/// `BadKey` when the file is damaged or the passphrase is another one.
pub fn unprotect_key(text: &str, passphrase: &str) -> Result<Zeroizing<String>> {
    let bad = |why: &str| RepoError::BadKey(format!("key file with a passphrase: {why}"));
    let file = crypt::unarmored(text).ok_or_else(|| bad("it is damaged"))?;
    let plain = age_open_passphrase(passphrase, &file).map(Zeroizing::new);
    let plain = plain.ok_or_else(|| bad("the passphrase is another one, or the file is damaged"))?;
    let text = std::str::from_utf8(&plain).map_err(|_| bad("it holds no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The keys of one role, as `docs/format.md` §4 writes them.
#[derive(Clone)]
pub struct Bundle {
    /// Which repository it is for.
    pub repository: RepositoryId,
    /// Which role.
    pub role: Role,
    /// What its owner calls it.
    pub label: String,
    pub(crate) root_public: [u8; 32],
    pub(crate) root_seed: Option<Secret>,
    pub(crate) sign_seed: Option<Secret>,
    pub(crate) identity: Option<age::x25519::Identity>,
    pub(crate) id_master: Option<Secret>,
    pub(crate) keep_master: Option<Secret>,
    pub(crate) domain: Option<DomainId>,
    pub(crate) id_key: Option<Secret>,
    pub(crate) keep_key: Option<Secret>,
}

#[derive(Serialize, Deserialize, Zeroize)]
#[serde(deny_unknown_fields)]
struct BundleJson {
    v: u32,
    #[zeroize(skip)]
    repository: RepositoryId,
    #[zeroize(skip)]
    role: Role,
    label: String,
    root_public: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_master: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_master: Option<String>,
    #[zeroize(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<DomainId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_key: Option<String>,
}

impl Bundle {
    /// New keys for a new repository: an owner's bundle.
    pub fn owner(world: &World, label: &str) -> Bundle {
        let root_seed = Secret(world.random());
        Bundle {
            repository: RepositoryId(world.random()),
            role: Role::Owner,
            label: label.to_owned(),
            root_public: Signing::from_seed(&root_seed).public(),
            root_seed: Some(root_seed),
            sign_seed: Some(Secret(world.random())),
            identity: Some(age::x25519::Identity::generate()),
            id_master: Some(Secret(world.random())),
            keep_master: Some(Secret(world.random())),
            domain: Some(DomainId(world.random())),
            id_key: None,
            keep_key: None,
        }
    }

    /// The part of an owner's or root's bundle that `role` needs, with a signing key of its own.
    ///
    /// # Errors
    /// `NotAuthorised` when this bundle lacks what the role needs.
    pub(crate) fn enrol(&self, world: &World, role: Role, label: &str, domain: Option<DomainId>) -> Result<Bundle> {
        let lacks = || RepoError::NotAuthorised { needed: "root", held: self.role.name().into() };
        self.root_seed.as_ref().ok_or_else(lacks)?;
        let id_master = self.id_master.clone().ok_or_else(lacks)?;
        let keep_master = self.keep_master.clone().ok_or_else(lacks)?;
        let mut bundle = Bundle {
            repository: self.repository,
            role,
            label: label.to_owned(),
            root_public: self.root_public,
            root_seed: None,
            sign_seed: Some(Secret(world.random())),
            identity: None,
            id_master: None,
            keep_master: None,
            domain: None,
            id_key: None,
            keep_key: None,
        };
        match role {
            Role::Writer => {
                let domain = domain.unwrap_or_else(|| DomainId(world.random()));
                bundle.domain = Some(domain);
                bundle.id_key = Some(derive(Purpose::DomainId, &[&id_master.0, &domain.0]));
                bundle.keep_key = Some(derive(Purpose::DomainKeep, &[&keep_master.0, &domain.0]));
            }
            Role::Keeper => bundle.keep_master = Some(keep_master),
            Role::Reader => {
                // Root cannot read, so it cannot make a reader either.
                let not_root = || RepoError::NotAuthorised { needed: "owner", held: self.role.name().into() };
                bundle.identity = Some(self.identity.clone().ok_or_else(not_root)?);
                bundle.id_master = Some(id_master);
                bundle.keep_master = Some(keep_master);
            }
            Role::Root => {
                bundle.root_seed.clone_from(&self.root_seed);
                bundle.sign_seed = None;
                bundle.id_master = Some(id_master);
                bundle.keep_master = Some(keep_master);
            }
            Role::Owner => {
                bundle = Bundle { label: label.to_owned(), sign_seed: bundle.sign_seed, ..self.clone() };
            }
        }
        Ok(bundle)
    }

    /// The bundle as JSON, for a file of mode 0600 or for wrapping.
    pub fn to_json(&self) -> Zeroizing<String> {
        let secret = |secret: &Option<Secret>| secret.as_ref().map(|s| hex(&s.0));
        let mut json = BundleJson {
            v: 1,
            repository: self.repository,
            role: self.role,
            label: self.label.clone(),
            root_public: hex(&self.root_public),
            root_seed: secret(&self.root_seed),
            sign_seed: secret(&self.sign_seed),
            identity: self.identity.as_ref().map(|i| i.to_string().expose_secret().to_owned()),
            id_master: secret(&self.id_master),
            keep_master: secret(&self.keep_master),
            domain: self.domain,
            id_key: secret(&self.id_key),
            keep_key: secret(&self.keep_key),
        };
        let text = serde_json::to_string(&json).expect("a bundle is plain data");
        json.zeroize();
        Zeroizing::new(text)
    }

    /// The bundle that this JSON is.
    ///
    /// # Errors
    /// `BadKey` when it is none.
    pub fn from_json(text: &str) -> Result<Bundle> {
        let bad = |why: &str| RepoError::BadKey(format!("key bundle: {why}"));
        // The message of a JSON error may quote the text, which is secret: only its place is told.
        let mut json: BundleJson = serde_json::from_str(text)
            .map_err(|e| bad(&format!("not a key bundle (line {}, column {})", e.line(), e.column())))?;
        if json.v != 1 {
            return Err(bad("made by a later version"));
        }
        let secret = |text: &Option<String>| -> Result<Option<Secret>> {
            text.as_ref().map(|t| unhex(t).map(Secret).ok_or_else(|| bad("a key is not 64 hex digits"))).transpose()
        };
        let identity =
            json.identity.as_ref().map(|t| t.parse().map_err(|_| bad("its identity is none"))).transpose()?;
        let bundle = Bundle {
            repository: json.repository,
            role: json.role,
            label: json.label.clone(),
            root_public: unhex(&json.root_public).ok_or_else(|| bad("root_public is not 64 hex digits"))?,
            root_seed: secret(&json.root_seed)?,
            sign_seed: secret(&json.sign_seed)?,
            identity,
            id_master: secret(&json.id_master)?,
            keep_master: secret(&json.keep_master)?,
            domain: json.domain,
            id_key: secret(&json.id_key)?,
            keep_key: secret(&json.keep_key)?,
        };
        json.zeroize();
        Ok(bundle)
    }

    pub(crate) fn signing(&self) -> Option<Signing> {
        self.sign_seed.as_ref().or(self.root_seed.as_ref()).map(Signing::from_seed)
    }
}

/// The keys of one deduplication domain, as far as the bundle at hand gives them.
#[derive(Clone)]
pub struct DomainKeys {
    /// Which domain.
    pub domain: DomainId,
    pub(crate) id_key: Option<Secret>,
    pub(crate) keep_key: Secret,
}

/// The keys that chunk ids are made with.
#[derive(Clone)]
pub(crate) struct IdKeys {
    pub(crate) content: Secret,
    pub(crate) entries: Secret,
}

impl DomainKeys {
    /// The ids' keys, where the bundle at hand has the id key.
    pub(crate) fn ids(&self) -> Option<IdKeys> {
        let id_key = self.id_key.as_ref()?;
        Some(IdKeys {
            content: derive(Purpose::IdContent, &[&id_key.0]),
            entries: derive(Purpose::IdEntries, &[&id_key.0]),
        })
    }

    pub(crate) fn list_ids(&self) -> Secret {
        derive(Purpose::IdList, &[&self.keep_key.0])
    }

    pub(crate) fn list_digest(&self) -> Secret {
        derive(Purpose::ListDigest, &[&self.keep_key.0])
    }

    pub(crate) fn chunker_seed(&self) -> Option<u64> {
        let seed = derive(Purpose::Chunker, &[&self.id_key.as_ref()?.0]);
        Some(u64::from_le_bytes(seed.0[..8].try_into().expect("eight bytes")))
    }
}

/// What the credential at hand can do in one repository.
#[derive(Clone)]
pub struct Keyring {
    pub(crate) bundle: Bundle,
}

impl Keyring {
    /// The role of the key at hand.
    pub fn role(&self) -> Role {
        self.bundle.role
    }

    /// What its owner calls it.
    pub fn label(&self) -> &str {
        &self.bundle.label
    }

    /// The domain that the key at hand writes in, where it does.
    pub fn domain_of_writer(&self) -> Option<DomainId> {
        self.bundle.domain
    }

    /// The keys of `domain`, where the bundle has any.
    pub(crate) fn domain(&self, domain: DomainId) -> Option<DomainKeys> {
        let bundle = &self.bundle;
        if bundle.domain == Some(domain) && bundle.keep_key.is_some() {
            return Some(DomainKeys { domain, id_key: bundle.id_key.clone(), keep_key: bundle.keep_key.clone()? });
        }
        let keep_master = bundle.keep_master.as_ref()?;
        Some(DomainKeys {
            domain,
            id_key: bundle.id_master.as_ref().map(|master| derive(Purpose::DomainId, &[&master.0, &domain.0])),
            keep_key: derive(Purpose::DomainKeep, &[&keep_master.0, &domain.0]),
        })
    }

    /// The domain this key writes into.
    ///
    /// # Errors
    /// `NotAuthorised` when it is no writer's.
    pub(crate) fn writing(&self) -> Result<(DomainKeys, Signing)> {
        let denied = || self.denied("writer");
        let domain = self.bundle.domain.ok_or_else(denied)?;
        let keys = self.domain(domain).filter(|keys| keys.id_key.is_some()).ok_or_else(denied)?;
        Ok((keys, self.bundle.signing().ok_or_else(denied)?))
    }

    /// The signing key of a keeper.
    ///
    /// # Errors
    /// `NotAuthorised` when it is no keeper's.
    pub(crate) fn keeping(&self) -> Result<Signing> {
        let keeper =
            self.bundle.keep_master.is_some() && matches!(self.role(), Role::Owner | Role::Keeper | Role::Root);
        let signing = self.bundle.signing().filter(|_| keeper);
        signing.ok_or_else(|| self.denied("keeper"))
    }

    /// The signing key of whoever this is, for intents.
    pub(crate) fn signing(&self) -> Option<Signing> {
        self.bundle.signing()
    }

    /// The recovery identity.
    ///
    /// # Errors
    /// `NotAuthorised` when it is no reader's.
    pub(crate) fn opening(&self) -> Result<&age::x25519::Identity> {
        let identity = self.bundle.identity.as_ref().filter(|_| self.bundle.id_master.is_some());
        identity.ok_or_else(|| self.denied("reader"))
    }

    /// The key that enrols others.
    ///
    /// # Errors
    /// `NotAuthorised` when it is not root's.
    pub(crate) fn root(&self) -> Result<Signing> {
        let seed = self.bundle.root_seed.as_ref().ok_or_else(|| self.denied("root"))?;
        Ok(Signing::from_seed(seed))
    }

    /// Which domains this key can see; `None` means all of them.
    pub(crate) fn domains(&self) -> Option<BTreeSet<DomainId>> {
        match self.bundle.keep_master {
            Some(_) => None,
            None => Some(self.bundle.domain.into_iter().collect()),
        }
    }

    fn denied(&self, needed: &'static str) -> RepoError {
        RepoError::NotAuthorised { needed, held: self.role().name().into() }
    }
}

const MASTERS_CONTEXT: &[u8] = b"backstay v1 masters\0";

/// The two master secrets, as wrapped to the recipients in `keys/masters…`. Signed, since anybody can wrap others to them.
#[derive(Serialize, Deserialize, Zeroize)]
pub(crate) struct Masters {
    pub(crate) v: u32,
    #[zeroize(skip)]
    pub(crate) repository: RepositoryId,
    pub(crate) root_public: String,
    pub(crate) id_master: String,
    pub(crate) keep_master: String,
    pub(crate) signature: String,
}

impl Masters {
    /// The masters that a bundle with root's key holds.
    pub(crate) fn sign(bundle: &Bundle) -> Option<Masters> {
        let (id_master, keep_master) = (&bundle.id_master.as_ref()?.0, &bundle.keep_master.as_ref()?.0);
        let root = Signing::from_seed(bundle.root_seed.as_ref()?);
        Some(Masters {
            v: 1,
            repository: bundle.repository,
            root_public: hex(&bundle.root_public),
            id_master: hex(id_master),
            keep_master: hex(keep_master),
            signature: hex(&root.sign(&[MASTERS_CONTEXT, &bundle.repository.0, id_master, keep_master])),
        })
    }

    /// Whether the holder of the root key whose public half is `root` (hex) signed them.
    pub(crate) fn are_roots(&self, root: &str) -> bool {
        let signed = || {
            let (id_master, keep_master) = (unhex::<32>(&self.id_master)?, unhex::<32>(&self.keep_master)?);
            let parts: [&[u8]; 4] = [MASTERS_CONTEXT, &self.repository.0, &id_master, &keep_master];
            Some(crypt::is_signed(&unhex(root)?, &parts, &unhex::<64>(&self.signature)?))
        };
        self.root_public == root && signed() == Some(true)
    }

    /// A reader's bundle from these and the identity that opened them.
    pub(crate) fn reader(&self, identity: &age::x25519::Identity) -> Option<Bundle> {
        Some(Bundle {
            repository: self.repository,
            role: Role::Reader,
            label: "recovery identity".into(),
            root_public: unhex(&self.root_public)?,
            root_seed: None,
            sign_seed: None,
            identity: Some(identity.clone()),
            id_master: Some(Secret(unhex(&self.id_master)?)),
            keep_master: Some(Secret(unhex(&self.keep_master)?)),
            domain: None,
            id_key: None,
            keep_key: None,
        })
    }
}

pub(crate) use crypt::{age_open_passphrase, age_passphrase, age_unwrap, age_wrap};
