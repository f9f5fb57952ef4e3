//! Records: groups of chunks, compressed and sealed as one (`docs/format.md` §6.1).
//!
//! A record says by itself where its key comes from, so a keeper can move it unopened. Every record is opened again and
//! compared before it leaves: a compressor that stored wrong bytes has happened (restic#4677).

use crate::crypt::{Aead, Purpose, Secret, TAG_BYTES, derive, nonce};
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, RepositoryId, RunId};
use std::sync::Arc;
use zstd::zstd_safe::CParameter;

/// The most plain bytes a record may hold.
pub(crate) const RECORD_PLAIN_MAX: usize = 16 << 20;
/// The most chunks a record may hold.
pub(crate) const MEMBERS_MAX: usize = 4096;

/// Whether a record may have these lengths: sealing adds a tag, and what does not get smaller is stored as it is.
pub(crate) fn are_sound(plain_len: u32, stored_len: u32) -> bool {
    plain_len as usize <= RECORD_PLAIN_MAX && stored_len as usize <= plain_len as usize + TAG_BYTES
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ChunkKind {
    Content = 1,
    Entries = 2,
    List = 3,
}

impl ChunkKind {
    pub(crate) fn from_u8(byte: u8) -> Option<Self> {
        [ChunkKind::Content, ChunkKind::Entries, ChunkKind::List].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// How a record's plain bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Codec {
    Raw = 0,
    Zstd = 1,
}

impl Codec {
    pub(crate) fn from_u8(byte: u8) -> Option<Self> {
        [Codec::Raw, Codec::Zstd].into_iter().find(|codec| *codec as u8 == byte)
    }
}

/// A chunk's place in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: ChunkId,
    pub(crate) len: u32,
}

/// Where a record's key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) run: RunId,
    pub(crate) salt: [u8; 16],
}

/// Everything but the key that opening a record needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealing {
    pub(crate) origin: Origin,
    pub(crate) counter: u32,
    pub(crate) kind: ChunkKind,
    pub(crate) codec: Codec,
    pub(crate) plain_len: u32,
    pub(crate) members: [u8; 16],
}

impl Sealing {
    pub(crate) fn aad(&self, repository: RepositoryId) -> [u8; 80] {
        let mut aad = [0u8; 80];
        let parts: [&[u8]; 8] = [
            b"BSR1",
            &[1, self.kind as u8, self.codec as u8, 0],
            &repository.0,
            &self.origin.run.0,
            &self.origin.salt,
            &self.counter.to_le_bytes(),
            &self.plain_len.to_le_bytes(),
            &self.members,
        ];
        let mut at = 0;
        for part in parts {
            aad[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        assert_eq!(at, aad.len(), "the aad of a record has a fixed length");
        aad
    }
}

/// A sealed record, not yet in a pack.
pub(crate) struct Sealed {
    pub(crate) sealing: Sealing,
    pub(crate) members: Vec<Member>,
    pub(crate) bytes: Vec<u8>,
}

/// The digest that binds a record to its members.
pub(crate) fn members_digest(members: &[Member]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for member in members {
        hasher.update(&member.id.0);
        hasher.update(&member.len.to_le_bytes());
    }
    let mut digest = [0u8; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

/// The key of the records of one origin: `material` is the run's data key, or the domain's keep key for lists.
pub(crate) fn record_key(kind: ChunkKind, material: &Secret, origin: &Origin) -> Aead {
    let purpose = match kind {
        ChunkKind::Content | ChunkKind::Entries => Purpose::Records,
        ChunkKind::List => Purpose::ListRecords,
    };
    Aead::new(&derive(purpose, &[&material.0, &origin.salt]))
}

fn record_nonce(counter: u32) -> [u8; 12] {
    nonce(u64::from(counter))
}

/// How hard to try to make data smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Off,
    /// A zstd level, -7 to 19. Level 3 uses smaller tables than zstd would (`docs/benchmarks.md`).
    Level(i32),
}

/// What compresses at this level.
///
/// A record is at most 512 KiB for most data, and at level 3 zstd's tables for that (768 KiB) push it out of the cache of
/// a core. With 192 KiB the stored bytes grow by 0.3 % (text) to 0.9 % (database pages) and a core compresses a third
/// faster: `docs/benchmarks.md`, "Compression". Of log, segments of 16 MiB, they make twice as fast at 0.6 % more.
pub(crate) fn compressor(level: i32) -> Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    if level == 3 {
        compressor.set_parameter(CParameter::HashLog(15))?;
        compressor.set_parameter(CParameter::ChainLog(14))?;
    }
    Ok(compressor)
}

/// One group on its way to being sealed: the right to use one counter of one origin.
pub(crate) struct Group {
    pub(crate) kind: ChunkKind,
    pub(crate) origin: Origin,
    pub(crate) key: Arc<Aead>,
    pub(crate) counter: u32,
    pub(crate) members: Vec<Member>,
    pub(crate) plain: Vec<u8>,
}

/// Seals groups; one per thread. Cannot open anything but what it just sealed.
pub(crate) struct Sealer {
    repository: RepositoryId,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    decompressor: zstd::bulk::Decompressor<'static>,
    scratch: Vec<u8>,
    again: Vec<u8>,
}

impl Sealer {
    pub(crate) fn new(repository: RepositoryId, compression: Compression) -> Result<Self> {
        let compressor = match compression {
            Compression::Off => None,
            Compression::Level(level) => Some(compressor(level)?),
        };
        let decompressor = zstd::bulk::Decompressor::new()?;
        Ok(Sealer { repository, compressor, decompressor, scratch: Vec::new(), again: Vec::new() })
    }

    /// Seals the group, after checking that what was sealed opens to what was given.
    pub(crate) fn seal(&mut self, group: Group) -> Result<Sealed> {
        assert!(group.plain.len() <= RECORD_PLAIN_MAX, "a group is within its limit");
        assert_eq!(
            group.members.iter().map(|m| m.len as usize).sum::<usize>(),
            group.plain.len(),
            "a group's members are its bytes"
        );
        let compressed = self.compress(&group.plain)?;
        let codec = if compressed.is_some() { Codec::Zstd } else { Codec::Raw };
        let sealing = Sealing {
            origin: group.origin,
            counter: group.counter,
            kind: group.kind,
            codec,
            plain_len: u32::try_from(group.plain.len()).expect("a group is within its limit"),
            members: members_digest(&group.members),
        };
        let mut bytes = match compressed {
            Some(compressed) => compressed,
            None => {
                let mut copy = Vec::with_capacity(group.plain.len() + TAG_BYTES);
                copy.extend_from_slice(&group.plain);
                copy
            }
        };
        let aad = sealing.aad(self.repository);
        group.key.seal(record_nonce(group.counter), &aad, &mut bytes);
        self.scratch.clear();
        self.scratch.extend_from_slice(&bytes);
        let opened = group.key.open(record_nonce(group.counter), &aad, &mut self.scratch);
        let same = match (opened, codec) {
            (Some(plain), Codec::Raw) => *plain == *group.plain,
            (Some(frame), Codec::Zstd) => {
                self.again.clear();
                self.again.reserve(group.plain.len());
                self.decompressor.decompress_to_buffer(frame, &mut self.again).is_ok() && self.again == group.plain
            }
            (None, _) => false,
        };
        if !same {
            let why = "did not open to what was sealed: the memory or processor of this machine is faulty";
            return Err(RepoError::damaged("a record just sealed", why));
        }
        Ok(Sealed { sealing, members: group.members, bytes })
    }

    fn compress(&mut self, plain: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(compressor) = &mut self.compressor else { return Ok(None) };
        if plain.len() < 64 || !looks_compressible(plain) {
            return Ok(None);
        }
        let mut frame = Vec::with_capacity(zstd::zstd_safe::compress_bound(plain.len()) + TAG_BYTES);
        compressor.compress_to_buffer(plain, &mut frame)?;
        Ok((frame.len() < plain.len()).then_some(frame))
    }
}

/// Whether samples of the data get smaller. Media and archives do not, and zstd would spend a second per gigabyte to find
/// out. At level 1, not below: negative levels do not code literals, so that text without repeats would look like noise.
fn looks_compressible(plain: &[u8]) -> bool {
    const SAMPLE: usize = 4096;
    if plain.len() < 8 * SAMPLE {
        return true;
    }
    let step = plain.len() / 4;
    let sample: Vec<u8> = (0..4).flat_map(|i| plain[i * step..][..SAMPLE].iter().copied()).collect();
    zstd::bulk::compress(&sample, 1).is_ok_and(|small| small.len() < sample.len() - sample.len() / 50)
}

/// Opens records; one per thread.
pub(crate) struct Unsealer {
    repository: RepositoryId,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl Unsealer {
    pub(crate) fn new(repository: RepositoryId) -> Result<Self> {
        Ok(Unsealer { repository, decompressor: zstd::bulk::Decompressor::new()? })
    }

    /// The plain bytes of a record, authenticated. `sealed` is overwritten.
    ///
    /// # Errors
    /// `Damaged` when it is not what its index entry says.
    pub(crate) fn open(&mut self, key: &Aead, sealing: &Sealing, mut sealed: Vec<u8>) -> Result<Vec<u8>> {
        let bad = |why: &str| RepoError::damaged("a record", why);
        let plain_len = sealing.plain_len as usize;
        if plain_len > RECORD_PLAIN_MAX {
            return Err(bad("claims to be too large"));
        }
        let aad = sealing.aad(self.repository);
        let opened =
            key.open(record_nonce(sealing.counter), &aad, &mut sealed).ok_or_else(|| bad("is not authentic"))?;
        let plain = match sealing.codec {
            Codec::Raw => {
                let len = opened.len();
                sealed.truncate(len);
                sealed
            }
            Codec::Zstd => {
                self.decompressor.decompress(opened, plain_len).map_err(|_| bad("cannot be decompressed"))?
            }
        };
        if plain.len() != plain_len {
            return Err(bad("has another length than it says"));
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(plain: Vec<u8>) -> (Group, Arc<Aead>) {
        let origin = Origin { run: RunId([1; 16]), salt: [2; 16] };
        let key = Arc::new(record_key(ChunkKind::Content, &Secret([3; 32]), &origin));
        let len = u32::try_from(plain.len()).expect("small");
        let members = vec![Member { id: ChunkId([4; 32]), len }];
        (Group { kind: ChunkKind::Content, origin, key: Arc::clone(&key), counter: 9, members, plain }, key)
    }

    #[test]
    fn records_open_to_what_was_sealed() {
        let random: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for plain in [Vec::new(), vec![7], vec![0; 300_000], random] {
            for compression in [Compression::Off, Compression::Level(3)] {
                let (group, key) = group(plain.clone());
                let sealed =
                    Sealer::new(RepositoryId([5; 16]), compression).expect("made").seal(group).expect("sealed");
                let mut unsealer = Unsealer::new(RepositoryId([5; 16])).expect("made");
                assert_eq!(unsealer.open(&key, &sealed.sealing, sealed.bytes).expect("opens"), plain);
            }
        }
    }

    #[test]
    fn text_without_repeats_is_compressed_and_noise_is_not() {
        let mut noise = vec![0; 300_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert!(!looks_compressible(&noise));
        let hex: Vec<u8> = crate::id::hex(&noise).into_bytes();
        assert!(looks_compressible(&hex));
        let (group, _) = group(hex.clone());
        let sealed =
            Sealer::new(RepositoryId([5; 16]), Compression::Level(3)).expect("made").seal(group).expect("sealed");
        assert!(sealed.bytes.len() < hex.len() * 6 / 10);
    }

    #[test]
    fn anything_that_differs_from_what_was_sealed_does_not_open() {
        let (group, key) = group(vec![1; 5000]);
        let sealed =
            Sealer::new(RepositoryId([5; 16]), Compression::Level(3)).expect("made").seal(group).expect("sealed");
        let mut unsealer = Unsealer::new(RepositoryId([5; 16])).expect("made");
        let other = Sealing { counter: 10, ..sealed.sealing };
        assert!(unsealer.open(&key, &other, sealed.bytes.clone()).is_err());
        let other = Sealing { members: [0; 16], ..sealed.sealing };
        assert!(unsealer.open(&key, &other, sealed.bytes.clone()).is_err());
        let other = Sealing { kind: ChunkKind::Entries, ..sealed.sealing };
        assert!(unsealer.open(&key, &other, sealed.bytes.clone()).is_err());
        for at in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.clone();
            bytes[at] ^= 1;
            assert!(unsealer.open(&key, &sealed.sealing, bytes).is_err());
        }
        assert!(Unsealer::new(RepositoryId([6; 16])).expect("made").open(&key, &sealed.sealing, sealed.bytes).is_err());
    }
}
