//! Signed JSON: heads, intents, condemned lists, certificates, events (`docs/format.md` §4.1), and whom to believe.

use crate::crypt::{Signing, is_signed, signer_id};
use crate::error::{RepoError, Result};
use crate::format::Cursor;
use crate::id::{DomainId, RepositoryId, SignerId, hex, unhex};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    Head,
    Intent,
    Condemned,
    Certificate,
    Event,
}

impl Seal {
    fn magic(self) -> &'static [u8; 4] {
        match self {
            Seal::Head => b"BSHD",
            Seal::Intent => b"BSIN",
            Seal::Condemned => b"BSCO",
            Seal::Certificate => b"BSCE",
            Seal::Event => b"BSEV",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Seal::Head => "a head",
            Seal::Intent => "an intent",
            Seal::Condemned => "a condemned list",
            Seal::Certificate => "a certificate",
            Seal::Event => "an event",
        }
    }
}

const CONTEXT: &[u8] = b"backstay v1 envelope\0";
const BODY_BYTES_MAX: usize = 64 << 20;

/// The envelope around `body`, signed.
pub(crate) fn close<T: Serialize>(
    seal: Seal,
    repository: RepositoryId,
    signing: &Signing,
    body: &T,
) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(body).map_err(|e| RepoError::Limit(format!("{}: {e}", seal.what())))?;
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= BODY_BYTES_MAX);
    let len = len.ok_or_else(|| RepoError::Limit(format!("{} of {} bytes is too large", seal.what(), body.len())))?;
    let mut object = Vec::with_capacity(body.len() + 100);
    object.extend_from_slice(seal.magic());
    object.extend_from_slice(&[1, 0, 0, 0]);
    object.extend_from_slice(&signing.id().0);
    object.extend_from_slice(&len.to_le_bytes());
    object.extend_from_slice(&body);
    let signature = signing.sign(&[CONTEXT, &repository.0, &object]);
    object.extend_from_slice(&signature);
    Ok(object)
}

/// The body of an envelope and who signed it, when the signature is good and `trust` knows the signer.
///
/// # Errors
/// `Damaged` in every other case.
pub(crate) fn open<T: DeserializeOwned>(seal: Seal, trust: &Trust, object: &[u8]) -> Result<(T, SignerId)> {
    let Parts { signer, body, signature } = parse(seal, object)?;
    let bad = |why: &str| RepoError::damaged(seal.what(), why);
    let public = trust.public(signer).ok_or_else(|| bad(&format!("is signed by {signer}, who is not enrolled")))?;
    let signed = &object[..object.len() - 64];
    let is_signed = is_signed(public, &[CONTEXT, &trust.repository.0, signed], &signature);
    if !is_signed && !store::sabotaged("check no signature") {
        return Err(bad("has a bad signature"));
    }
    let body = serde_json::from_slice(body).map_err(|e| bad(&format!("cannot be read: {e}")))?;
    Ok((body, signer))
}

/// What an envelope says, whoever made it: nothing may rest on it.
pub(crate) fn peek<T: DeserializeOwned>(seal: Seal, object: &[u8]) -> Option<T> {
    serde_json::from_slice(parse(seal, object).ok()?.body).ok()
}

struct Parts<'o> {
    signer: SignerId,
    body: &'o [u8],
    signature: [u8; 64],
}

fn parse(seal: Seal, object: &[u8]) -> Result<Parts<'_>> {
    let mut cursor = Cursor::new(seal.what(), object);
    if cursor.array::<4>()? != *seal.magic() {
        return Err(cursor.bad("is something else"));
    }
    if cursor.array::<4>()? != [1, 0, 0, 0] {
        return Err(cursor.bad("has a version that this program does not know"));
    }
    let signer = SignerId(cursor.array()?);
    let len = cursor.u32()? as usize;
    if len > BODY_BYTES_MAX {
        return Err(cursor.bad("is too large"));
    }
    let body = cursor.take(len)?;
    let signature = cursor.array::<64>()?;
    match cursor.is_empty() {
        true => Ok(Parts { signer, body, signature }),
        false => Err(cursor.bad("is followed by something else")),
    }
}

/// What a certificate says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    pub(crate) v: u32,
    /// Whom it is about.
    pub signer: SignerId,
    pub(crate) public: String,
    /// What they may do: `writer`, `keeper`, `reader`. Nothing at all revokes the key.
    pub roles: Vec<String>,
    /// The only domain they may write in, for writers.
    pub domain: Option<DomainId>,
    /// What their owner calls them.
    pub label: String,
    /// When they were enrolled; when they were revoked where there are no roles.
    pub created: String,
}

impl Certificate {
    pub(crate) fn new(
        signing: &Signing,
        roles: &[&str],
        domain: Option<DomainId>,
        label: &str,
        created: String,
    ) -> Self {
        Certificate {
            v: 1,
            signer: signing.id(),
            public: hex(&signing.public()),
            roles: roles.iter().map(|r| (*r).to_owned()).collect(),
            domain,
            label: label.to_owned(),
            created,
        }
    }
}

/// Whose signatures count in one repository, and for what.
#[derive(Clone)]
pub(crate) struct Trust {
    pub(crate) repository: RepositoryId,
    root: (SignerId, [u8; 32]),
    enrolled: BTreeMap<SignerId, ([u8; 32], Certificate)>,
    revoked: BTreeMap<SignerId, String>,
}

impl Trust {
    /// Trust in root alone.
    pub(crate) fn new(repository: RepositoryId, root_public: [u8; 32]) -> Self {
        Trust {
            repository,
            root: (signer_id(&root_public), root_public),
            enrolled: BTreeMap::new(),
            revoked: BTreeMap::new(),
        }
    }

    /// Adds whom root enrolled, or revokes whom root revoked, by this certificate object. In whatever order they come,
    /// a revocation counts.
    pub(crate) fn enrol(&mut self, object: &[u8]) -> Result<()> {
        let (certificate, by): (Certificate, _) = open(Seal::Certificate, self, object)?;
        let bad = |why: &str| RepoError::damaged("a certificate", why);
        if by != self.root.0 {
            return Err(bad("is not signed by root"));
        }
        let public: [u8; 32] = unhex(&certificate.public).ok_or_else(|| bad("has no public key"))?;
        if signer_id(&public) != certificate.signer {
            return Err(bad("names another key than it holds"));
        }
        match certificate.roles.is_empty() {
            true => drop(self.revoked.insert(certificate.signer, certificate.created)),
            false => drop(self.enrolled.insert(certificate.signer, (public, certificate))),
        }
        Ok(())
    }

    pub(crate) fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.enrolled.values().map(|(_, certificate)| certificate)
    }

    pub(crate) fn public(&self, signer: SignerId) -> Option<&[u8; 32]> {
        if signer == self.root.0 {
            return Some(&self.root.1);
        }
        self.enrolled.get(&signer).map(|(public, _)| public)
    }

    fn has_role(&self, signer: SignerId, role: &str) -> bool {
        signer == self.root.0 || self.enrolled.get(&signer).is_some_and(|(_, c)| c.roles.iter().any(|r| r == role))
    }

    /// When this signer's key was revoked, if it was. What it said before still counts: see [`crate::head`].
    pub(crate) fn revoked(&self, signer: SignerId) -> Option<&str> {
        self.revoked.get(&signer).map(String::as_str)
    }

    /// Whether this signer may, or might before it was revoked, prune, checkpoint and annotate.
    pub(crate) fn was_keeper(&self, signer: SignerId) -> bool {
        self.has_role(signer, "keeper")
    }

    /// Whether this signer may, or might before it was revoked, commit.
    pub(crate) fn was_writer(&self, signer: SignerId) -> bool {
        self.has_role(signer, "writer")
    }

    /// Whether everybody who may write may also prune: then nobody gains by a forged pack.
    pub(crate) fn writers_are_keepers(&self) -> bool {
        let is = |c: &Certificate, role: &str| c.roles.iter().any(|r| r == role);
        self.certificates().all(|c| !is(c, "writer") || is(c, "keeper"))
    }

    /// Whether this signer's snapshots, packs and tables count in `domain`, as far as a head that counts names them.
    pub(crate) fn might_write(&self, signer: SignerId, domain: DomainId) -> bool {
        let own = self.enrolled.get(&signer).is_some_and(|(_, c)| c.domain.is_none_or(|own| own == domain));
        signer == self.root.0 || (self.has_role(signer, "writer") && own)
    }
}
