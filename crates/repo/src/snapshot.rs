//! A snapshot: one point in time of one source, as a signed record (`docs/format.md` §8).

use crate::crypt::{Purpose, Secret, Signing, is_signed, open_small, seal_small};
use crate::envelope::Trust;
use crate::error::{RepoError, Result};
use crate::format::Cursor;
use crate::id::{DomainId, RepositoryId, RunId, SignerId, SnapshotId};
use crate::ledger::SegmentName;
use crate::list::List;
use crate::tree::Tree;
use serde::{Deserialize, Serialize};

const RECORD_BYTES_MAX: usize = 8 << 20;
const CONTEXT: &[u8] = b"backstay v1 snapshot\0";

/// Whether everything that was asked for is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything.
    Complete,
    /// Some files could not be read, or changed while they were.
    Partial,
}

/// Counts of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Links, pipes, devices.
    pub others: u64,
    /// Sum of the files' sizes.
    pub bytes: u64,
    /// Bytes of content that were not in the repository before.
    pub new_bytes: u64,
    /// Bytes added to the repository, compressed and sealed.
    pub stored_bytes: u64,
    /// Things that could not be taken.
    pub errors: u64,
    /// How long the run took.
    pub seconds: f64,
}

/// What keepers may see of a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Public {
    pub(crate) v: u32,
    /// When the run began, RFC 3339.
    pub time: String,
    /// When it was about to be committed, RFC 3339.
    pub finished: String,
    /// Which host.
    pub host: String,
    /// Who ran it.
    pub user: String,
    /// `files` or `stream`.
    pub kind: String,
    /// What was protected, as percent paths.
    pub paths: Vec<String>,
    /// Which source it is of, `PLATFORM/SOURCE`, where its writer gave one. Never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its owner's words for it, as of the run.
    pub tags: Vec<String>,
    /// Why it was made, where its owner said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether everything is in it.
    pub status: Status,
    /// Name and version of the program.
    pub program: String,
    /// Counts.
    pub stats: Stats,
    /// The segments without which it is worth nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<Segments>,
    /// Its content chunks, in the order of its entries.
    pub content: List,
    /// All its chunks of entries.
    pub meta: List,
}

/// Segments of an archive that a snapshot needs: retention keeps them, and all that come after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    /// Name of the archive ([`crate::Repository::ledger`]).
    pub ledger: String,
    /// Whose they are, in words of the source: segments of another origin do not belong into the archive.
    pub origin: String,
    /// Length of each.
    pub bytes: u64,
    /// The first.
    pub first: SegmentName,
    /// The last.
    pub last: SegmentName,
}

/// What could not be taken, kept with the snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Warning {
    /// Percent path.
    pub path: String,
    /// What happened.
    pub what: String,
}

/// What only readers see.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sealed {
    pub(crate) v: u32,
    pub(crate) entries: Tree,
    pub(crate) content: List,
    pub(crate) warnings: Vec<Warning>,
    /// What its source said about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) facts: Option<serde_json::Value>,
}

/// A snapshot record, split but not opened.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: SnapshotId,
    pub(crate) domain: DomainId,
    pub(crate) run: RunId,
    pub(crate) signer: SignerId,
    pub(crate) public: Vec<u8>,
    pub(crate) sealed: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

/// Who makes a record, and for what.
pub(crate) struct Making<'a> {
    pub(crate) repository: RepositoryId,
    pub(crate) domain: DomainId,
    pub(crate) run: RunId,
    pub(crate) keep_key: &'a Secret,
    pub(crate) data_key: &'a Secret,
    pub(crate) signing: &'a Signing,
    pub(crate) salts: [[u8; 32]; 2],
}

impl Making<'_> {
    /// The signed record of a snapshot.
    pub(crate) fn record(&self, public: &Public, sealed: &Sealed) -> Result<Vec<u8>> {
        let json = |e: serde_json::Error| RepoError::Limit(format!("snapshot: {e}"));
        let public = serde_json::to_vec(public).map_err(json)?;
        let sealed = serde_json::to_vec(sealed).map_err(json)?;
        let aad: [&[u8]; 4] = [b"BSSN public", &self.repository.0, &self.domain.0, &self.run.0];
        let public = seal_small(Purpose::Public, self.keep_key, self.salts[0], &aad, &public);
        let digest = blake3::hash(&public);
        let aad: [&[u8]; 2] = [b"BSSN sealed", digest.as_bytes()];
        let sealed = seal_small(Purpose::Snapshot, self.data_key, self.salts[1], &aad, &sealed);
        if public.len() + sealed.len() > RECORD_BYTES_MAX - 1024 {
            return Err(RepoError::Limit("a snapshot with too many paths, tags or warnings".into()));
        }
        let mut record = Vec::with_capacity(public.len() + sealed.len() + 200);
        record.extend_from_slice(b"BSSN");
        record.extend_from_slice(&[1, 1, 0, 0]);
        for id in [&self.repository.0, &self.domain.0, &self.run.0, &self.signing.id().0] {
            record.extend_from_slice(id);
        }
        for part in [&public, &sealed] {
            record.extend_from_slice(&(part.len() as u32).to_le_bytes());
            record.extend_from_slice(part);
        }
        let signature = self.signing.sign(&[CONTEXT, &record]);
        record.extend_from_slice(&signature);
        Ok(record)
    }
}

impl Record {
    /// The record that these bytes are, signed by somebody who may write in its domain.
    pub(crate) fn decode(trust: &Trust, bytes: &[u8]) -> Result<Record> {
        let mut cursor = Cursor::new("a snapshot record", bytes);
        if bytes.len() > RECORD_BYTES_MAX || cursor.array::<4>()? != *b"BSSN" {
            return Err(cursor.bad("is something else"));
        }
        if cursor.array::<4>()? != [1, 1, 0, 0] {
            return Err(cursor.bad("has a version that this program does not know"));
        }
        let repository = RepositoryId(cursor.array()?);
        let (domain, run, signer) = (DomainId(cursor.array()?), RunId(cursor.array()?), SignerId(cursor.array()?));
        let len = cursor.u32()? as usize;
        let public = cursor.take(len)?.to_vec();
        let len = cursor.u32()? as usize;
        let sealed = cursor.take(len)?.to_vec();
        let signature = cursor.array::<64>()?;
        if !cursor.is_empty() || repository != trust.repository {
            return Err(cursor.bad("does not belong here"));
        }
        let key = trust.public(signer).filter(|_| trust.might_write(signer, domain));
        let key = key.ok_or_else(|| cursor.bad(format!("is signed by {signer}, who may not write there")))?;
        if !is_signed(key, &[CONTEXT, &bytes[..bytes.len() - 64]], &signature) {
            return Err(cursor.bad("has a bad signature"));
        }
        let id = SnapshotId(*blake3::hash(bytes).as_bytes());
        Ok(Record { id, domain, run, signer, public, sealed, bytes: bytes.to_vec() })
    }

    /// The public part, for holders of the domain's keep key.
    pub(crate) fn open_public(&self, repository: RepositoryId, keep_key: &Secret) -> Result<Public> {
        let aad: [&[u8]; 4] = [b"BSSN public", &repository.0, &self.domain.0, &self.run.0];
        let plain = open_small(Purpose::Public, keep_key, &aad, &self.public);
        let plain =
            plain.ok_or_else(|| RepoError::damaged(format!("snapshot {}", self.id.short()), "is not authentic"))?;
        serde_json::from_slice(&plain)
            .map_err(|e| RepoError::damaged(format!("snapshot {}", self.id.short()), format!("cannot be read: {e}")))
    }

    /// The sealed part, for holders of the run's data key.
    pub(crate) fn open_sealed(&self, data_key: &Secret) -> Result<Sealed> {
        let digest = blake3::hash(&self.public);
        let aad: [&[u8]; 2] = [b"BSSN sealed", digest.as_bytes()];
        let plain = open_small(Purpose::Snapshot, data_key, &aad, &self.sealed);
        let plain =
            plain.ok_or_else(|| RepoError::damaged(format!("snapshot {}", self.id.short()), "is not authentic"))?;
        serde_json::from_slice(&plain)
            .map_err(|e| RepoError::damaged(format!("snapshot {}", self.id.short()), format!("cannot be read: {e}")))
    }
}
