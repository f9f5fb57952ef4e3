//! The cryptographic operations of `docs/format.md` §1, each by a library, under the names the format uses.

use crate::error::{RepoError, Result};
use crate::id::SignerId;
use age::secrecy::SecretString;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Thirty-two secret bytes. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub(crate) [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The purposes keys are derived for. Contexts are the format's; each is used for one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    DomainId,
    DomainKeep,
    IdContent,
    IdEntries,
    IdList,
    IdSegment,
    Chunker,
    ListDigest,
    Trailer,
    Index,
    Records,
    ListRecords,
    Public,
    Snapshot,
    Source,
}

/// A key derived from the concatenation of `material`.
pub(crate) fn derive(purpose: Purpose, material: &[&[u8]]) -> Secret {
    let context = match purpose {
        Purpose::DomainId => "backstay v1 domain id",
        Purpose::DomainKeep => "backstay v1 domain keep",
        Purpose::IdContent => "backstay v1 id content",
        Purpose::IdEntries => "backstay v1 id entries",
        Purpose::IdList => "backstay v1 id list",
        Purpose::IdSegment => "backstay v1 id segment",
        Purpose::Chunker => "backstay v1 chunker",
        Purpose::ListDigest => "backstay v1 list digest",
        Purpose::Trailer => "backstay v1 trailer",
        Purpose::Index => "backstay v1 index",
        Purpose::Records => "backstay v1 records",
        Purpose::ListRecords => "backstay v1 list records",
        Purpose::Public => "backstay v1 public",
        Purpose::Snapshot => "backstay v1 snapshot",
        Purpose::Source => "backstay v1 source",
    };
    let mut hasher = blake3::Hasher::new_derive_key(context);
    material.iter().for_each(|part| {
        hasher.update(part);
    });
    Secret(*hasher.finalize().as_bytes())
}

/// AES-256-GCM under one key.
pub(crate) struct Aead(LessSafeKey);

/// Bytes that sealing adds.
pub(crate) const TAG_BYTES: usize = 16;

impl Aead {
    pub(crate) fn new(key: &Secret) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &key.0).expect("a 32-byte key is a key");
        Aead(LessSafeKey::new(key))
    }

    /// Seals `buffer` where it lies and appends the tag.
    pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], buffer: &mut Vec<u8>) {
        let sealed = self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), buffer);
        sealed.expect("messages are far below the limit of AES-GCM");
    }

    /// Opens `buffer` where it lies; the plaintext is all but its last [`TAG_BYTES`]. `None` when it is not authentic.
    pub(crate) fn open<'b>(&self, nonce: [u8; 12], aad: &[u8], buffer: &'b mut [u8]) -> Option<&'b mut [u8]> {
        self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), buffer).ok()
    }
}

/// A nonce that begins with `number`.
pub(crate) fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0u8; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce
}

/// `salt ‖ AEAD(derive(purpose, material ‖ salt), 0, aad, plain)`: the envelope of small secrets.
pub(crate) fn seal_small(purpose: Purpose, material: &Secret, salt: [u8; 32], aad: &[&[u8]], plain: &[u8]) -> Vec<u8> {
    let mut body = plain.to_vec();
    Aead::new(&derive(purpose, &[&material.0, &salt])).seal(nonce(0), &aad.concat(), &mut body);
    [&salt[..], &body].concat()
}

/// What [`seal_small`] sealed, or `None` when it is not authentic.
pub(crate) fn open_small(purpose: Purpose, material: &Secret, aad: &[&[u8]], sealed: &[u8]) -> Option<Vec<u8>> {
    let (salt, body) = sealed.split_first_chunk::<32>()?;
    let mut body = body.to_vec();
    let plain = Aead::new(&derive(purpose, &[&material.0, salt])).open(nonce(0), &aad.concat(), &mut body)?;
    Some(plain.to_vec())
}

/// A signing key, with the id it signs under.
pub(crate) struct Signing {
    pair: Ed25519KeyPair,
    id: SignerId,
}

impl Signing {
    pub(crate) fn from_seed(seed: &Secret) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed.0).expect("any 32 bytes are an Ed25519 seed");
        let id = signer_id(pair.public_key().as_ref());
        Signing { pair, id }
    }

    pub(crate) fn id(&self) -> SignerId {
        self.id
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        self.pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
    }

    pub(crate) fn sign(&self, message: &[&[u8]]) -> [u8; 64] {
        let signature = self.pair.sign(&message.concat());
        signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

/// The id of the signer with this public key.
pub(crate) fn signer_id(public: &[u8]) -> SignerId {
    let mut id = [0u8; 16];
    id.copy_from_slice(&blake3::hash(public).as_bytes()[..16]);
    SignerId(id)
}

/// Whether `signature` over the concatenation of `message` is that key's.
pub(crate) fn is_signed(public: &[u8; 32], message: &[&[u8]], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(&message.concat(), signature).is_ok()
}

/// log2 of scrypt's N for passphrases: 64 MiB and about 0.2 s. `docs/adr/0008` says why not more.
const SCRYPT_LOG_N: u8 = 16;
/// The most that a hostile key object may ask of us.
const SCRYPT_LOG_N_MAX: u8 = 18;

/// `plain` as an age file under a passphrase.
pub(crate) fn age_passphrase(passphrase: &str, plain: &[u8]) -> Result<Vec<u8>> {
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
    recipient.set_work_factor(SCRYPT_LOG_N);
    age::encrypt(&recipient, plain).map_err(|e| RepoError::BadKey(e.to_string()))
}

/// The content of an age file under a passphrase, or `None` when the passphrase is another one.
pub(crate) fn age_open_passphrase(passphrase: &str, file: &[u8]) -> Option<Vec<u8>> {
    let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
    identity.set_max_work_factor(SCRYPT_LOG_N_MAX);
    age::decrypt(&identity, file).ok()
}

/// How a file begins that `age -p -a` wrote.
const ARMOR: &str = "-----BEGIN AGE ENCRYPTED FILE-----";

/// Whether this text is an age file in letters.
pub(crate) fn is_armored(text: &str) -> bool {
    text.trim_start().starts_with(ARMOR)
}

/// An age file in letters.
pub(crate) fn armored(file: &[u8]) -> Result<String> {
    use std::io::Write;
    let mut writer = age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor)?;
    writer.write_all(file)?;
    let text = writer.finish()?;
    String::from_utf8(text).map_err(|_| RepoError::BadKey("cannot be written in letters".into()))
}

/// The age file in these letters, or `None` when they are damaged.
pub(crate) fn unarmored(text: &str) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut file = Vec::new();
    age::armor::ArmoredReader::new(text.trim().as_bytes()).read_to_end(&mut file).ok()?;
    Some(file)
}

/// `plain` as an age file to all `recipients`.
pub(crate) fn age_wrap(recipients: &[String], plain: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write;
    let recipients: Vec<age::x25519::Recipient> = recipients
        .iter()
        .map(|r| r.parse().map_err(|e| RepoError::BadKey(format!("recipient {r:?}: {e}"))))
        .collect::<Result<_>>()?;
    let encryptor = age::Encryptor::with_recipients(recipients.iter().map(|r| r as &dyn age::Recipient))
        .map_err(|e| RepoError::BadKey(e.to_string()))?;
    let mut file = Vec::new();
    let mut writer = encryptor.wrap_output(&mut file)?;
    writer.write_all(plain)?;
    writer.finish()?;
    Ok(file)
}

/// The content of an age file to the recipient of this identity, or `None` when it is not to it or damaged.
pub(crate) fn age_unwrap(identity: &age::x25519::Identity, file: &[u8]) -> Option<Vec<u8>> {
    age::decrypt(identity, file).ok()
}
