//! Packs: records behind a header, with a trailer for keepers and a signature (`docs/format.md` §6).

use crate::crypt::{Aead, Purpose, Secret, Signing, TAG_BYTES, derive, is_signed, nonce};
use crate::envelope::Trust;
use crate::error::{RepoError, Result};
use crate::format::Cursor;
use crate::id::{ChunkId, DomainId, PackId, RepositoryId, RunId, SignerId};
use crate::seal::{ChunkKind, Codec, MEMBERS_MAX, Member, Origin, Sealed, Sealing, are_sound, members_digest};
use std::collections::BTreeMap;
use store::{Key, Shelf, Span, Store};

pub(crate) const HEADER_BYTES: usize = 96;
const FOOTER_BYTES: usize = 72;
/// The largest pack a reader accepts.
const PACK_BYTES_MAX: u64 = 72 << 20;

/// What a pack holds, so that metadata can live in a faster place than data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PackKind {
    Data = 1,
    Meta = 2,
}

impl PackKind {
    pub(crate) fn from_u8(byte: u8) -> Option<Self> {
        [PackKind::Data, PackKind::Meta].into_iter().find(|kind| *kind as u8 == byte)
    }

    pub(crate) fn of(kind: ChunkKind) -> Self {
        match kind {
            ChunkKind::Content => PackKind::Data,
            ChunkKind::Entries | ChunkKind::List => PackKind::Meta,
        }
    }
}

/// The clear part at the beginning of packs and index tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 4],
    pub(crate) kind: u8,
    pub(crate) repository: RepositoryId,
    pub(crate) domain: DomainId,
    pub(crate) signer: SignerId,
    pub(crate) salt: [u8; 32],
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0u8; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.magic);
        bytes[4..8].copy_from_slice(&[1, 1, self.kind, 0]);
        bytes[8..24].copy_from_slice(&self.repository.0);
        bytes[24..40].copy_from_slice(&self.domain.0);
        bytes[40..56].copy_from_slice(&self.signer.0);
        bytes[56..88].copy_from_slice(&self.salt);
        bytes
    }

    pub(crate) fn decode(what: &'static str, magic: &[u8; 4], trust: &Trust, bytes: &[u8]) -> Result<Header> {
        let mut cursor = Cursor::new(what, bytes);
        if cursor.array::<4>()? != *magic {
            return Err(cursor.bad("is something else"));
        }
        let [version, suite, kind, flags] = cursor.array::<4>()?;
        if (version, suite, flags) != (1, 1, 0) {
            return Err(cursor.bad("has a version or feature that this program does not know"));
        }
        let header = Header {
            magic: *magic,
            kind,
            repository: RepositoryId(cursor.array()?),
            domain: DomainId(cursor.array()?),
            signer: SignerId(cursor.array()?),
            salt: cursor.array()?,
        };
        if header.repository != trust.repository {
            return Err(cursor.bad("belongs to another repository"));
        }
        if cursor.array::<8>()? != [0; 8] {
            return Err(cursor.bad("has something where nothing may be"));
        }
        // A keeper moves records between packs and merges tables; a writer speaks for its own domain only.
        if !trust.might_write(header.signer, header.domain) && !trust.was_keeper(header.signer) {
            return Err(cursor.bad(format!("is signed by {}, who may not write there", header.signer)));
        }
        Ok(header)
    }
}

/// A record in a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) sealing: Sealing,
    pub(crate) offset: u32,
    pub(crate) stored_len: u32,
    pub(crate) members: Vec<Member>,
}

/// What a pack's header needs from its maker.
pub(crate) struct PackHeader {
    pub(crate) repository: RepositoryId,
    pub(crate) domain: DomainId,
    pub(crate) signer: SignerId,
    pub(crate) kind: PackKind,
    pub(crate) salt: [u8; 32],
}

/// A pack that is being filled.
pub(crate) struct PackBuilder {
    header: Header,
    body: Vec<u8>,
    records: Vec<Packed>,
    trailer_bytes: usize,
}

/// A finished pack.
pub(crate) struct Pack {
    pub(crate) id: PackId,
    pub(crate) kind: PackKind,
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: Vec<Packed>,
}

impl PackBuilder {
    /// An empty pack with room for `capacity` bytes: growing by doubling would take twice the memory.
    pub(crate) fn new(header: PackHeader, capacity: usize) -> Self {
        let PackHeader { repository, domain, signer, kind, salt } = header;
        let header = Header { magic: *b"BSPK", kind: kind as u8, repository, domain, signer, salt };
        let mut body = Vec::with_capacity(capacity);
        body.extend_from_slice(&header.encode());
        PackBuilder { header, body, records: Vec::new(), trailer_bytes: 0 }
    }

    /// How many bytes it will have, with its trailer: many tiny chunks make a large one.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + self.trailer_bytes
    }

    pub(crate) fn add(&mut self, sealed: &Sealed) {
        self.add_raw(sealed.sealing, &sealed.members, &sealed.bytes);
    }

    pub(crate) fn add_raw(&mut self, sealing: Sealing, members: &[Member], bytes: &[u8]) {
        assert!((self.body.len() + bytes.len()) as u64 <= PACK_BYTES_MAX, "a pack is closed before it is too large");
        assert!(members.len() <= MEMBERS_MAX, "a group is within its limit");
        self.records.push(Packed {
            sealing,
            offset: u32::try_from(self.body.len()).expect("a pack is within its limit"),
            stored_len: u32::try_from(bytes.len()).expect("a record is within its limit"),
            members: members.to_vec(),
        });
        self.body.extend_from_slice(bytes);
        self.trailer_bytes += 24 + 36 * members.len();
    }

    /// The pack, signed.
    pub(crate) fn finish(self, keep_key: &Secret, signing: &Signing) -> Pack {
        let mut body = self.body;
        let mut trailer = encode_trailer(&self.records);
        let key = Aead::new(&derive(Purpose::Trailer, &[&keep_key.0, &self.header.salt]));
        key.seal(nonce(0), &self.header.encode(), &mut trailer);
        let trailer_len = u32::try_from(trailer.len()).expect("a trailer is within its limit").to_le_bytes();
        body.extend_from_slice(&trailer);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&body);
        let digest = hasher.finalize();
        let signature =
            signing.sign(&[b"backstay v1 pack\0", &self.header.repository.0, digest.as_bytes(), &trailer_len]);
        let footer = [&trailer_len[..], b"BSPE", &signature].concat();
        body.extend_from_slice(&footer);
        hasher.update(&footer);
        Pack {
            id: PackId(*hasher.finalize().as_bytes()),
            kind: PackKind::from_u8(self.header.kind).expect("made from a kind"),
            bytes: body,
            records: self.records,
        }
    }
}

fn encode_trailer(records: &[Packed]) -> Vec<u8> {
    let mut origins: BTreeMap<Origin, u32> = BTreeMap::new();
    for record in records {
        let next = origins.len() as u32;
        origins.entry(record.sealing.origin).or_insert(next);
    }
    let mut in_order: Vec<(&Origin, &u32)> = origins.iter().collect();
    in_order.sort_by_key(|(_, number)| **number);
    let mut out = Vec::with_capacity(64 + records.iter().map(|r| 30 + 36 * r.members.len()).sum::<usize>());
    out.extend_from_slice(&(in_order.len() as u32).to_le_bytes());
    for (origin, _) in in_order {
        out.extend_from_slice(&origin.run.0);
        out.extend_from_slice(&origin.salt);
    }
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    for record in records {
        let Sealing { origin, counter, kind, codec, plain_len, .. } = record.sealing;
        for number in [origins[&origin], counter, record.offset, record.stored_len, plain_len] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&[kind as u8, codec as u8]);
        out.extend_from_slice(&(record.members.len() as u16).to_le_bytes());
        for member in &record.members {
            out.extend_from_slice(&member.id.0);
            out.extend_from_slice(&member.len.to_le_bytes());
        }
    }
    out
}

fn decode_trailer(bytes: &[u8], body_bytes: u64) -> Result<Vec<Packed>> {
    let mut cursor = Cursor::new("a pack's trailer", bytes);
    let n_origins = cursor.u32()? as usize;
    if n_origins > cursor.left() / 32 {
        return Err(cursor.bad("ends too early"));
    }
    let mut origins = Vec::with_capacity(n_origins);
    for _ in 0..n_origins {
        origins.push(Origin { run: RunId(cursor.array()?), salt: cursor.array()? });
    }
    let n_records = cursor.u32()? as usize;
    if n_records > cursor.left() / 24 {
        return Err(cursor.bad("ends too early"));
    }
    let mut records = Vec::with_capacity(n_records);
    for _ in 0..n_records {
        let origin = cursor.u32()? as usize;
        let counter = cursor.u32()?;
        let offset = cursor.u32()?;
        let stored_len = cursor.u32()?;
        let plain_len = cursor.u32()?;
        let [kind, codec] = cursor.array()?;
        let n_members = usize::from(cursor.u16()?);
        let mut members = Vec::with_capacity(n_members.min(MEMBERS_MAX));
        for _ in 0..n_members {
            members.push(Member { id: ChunkId(cursor.array()?), len: cursor.u32()? });
        }
        let origin = *origins.get(origin).ok_or_else(|| cursor.bad("names an origin that is not there"))?;
        let kind = ChunkKind::from_u8(kind).ok_or_else(|| cursor.bad("names an unknown kind"))?;
        let codec = Codec::from_u8(codec).ok_or_else(|| cursor.bad("names an unknown codec"))?;
        let end = u64::from(offset) + u64::from(stored_len);
        let sum: u64 = members.iter().map(|m| u64::from(m.len)).sum();
        let members_fit = (1..=MEMBERS_MAX).contains(&members.len()) && sum == u64::from(plain_len);
        if (offset as usize) < HEADER_BYTES || end > body_bytes || !members_fit || !are_sound(plain_len, stored_len) {
            return Err(cursor.bad("names a record that cannot be"));
        }
        let sealing = Sealing { origin, counter, kind, codec, plain_len, members: members_digest(&members) };
        records.push(Packed { sealing, offset, stored_len, members });
    }
    if !cursor.is_empty() {
        return Err(cursor.bad("is followed by something else"));
    }
    Ok(records)
}

/// A pack's header and records, from its trailer.
pub(crate) struct Contents {
    pub(crate) header: Header,
    pub(crate) records: Vec<Packed>,
}

pub(crate) fn pack_key(id: &PackId) -> Key {
    Key::new(Shelf::Packs, id.to_string()).expect("a hash is a good name")
}

/// As [`read_whole`]; `None` when the pack belongs to a domain that the key at hand cannot see.
pub(crate) fn read_visible(
    trust: &Trust,
    keep_key: impl Fn(DomainId) -> Option<Secret>,
    bytes: &[u8],
) -> Result<Option<Contents>> {
    let header = Header::decode("a pack", b"BSPK", trust, bytes)?;
    if keep_key(header.domain).is_none() {
        return Ok(None);
    }
    read_whole(trust, keep_key, bytes).map(Some)
}

/// What the whole pack `bytes` holds, with its signature checked.
///
/// # Errors
/// `Damaged`.
pub(crate) fn read_whole(
    trust: &Trust,
    keep_key: impl Fn(DomainId) -> Option<Secret>,
    bytes: &[u8],
) -> Result<Contents> {
    let bad = |why: &str| RepoError::damaged("a pack", why);
    let end = bytes.len().checked_sub(FOOTER_BYTES).ok_or_else(|| bad("ends too early"))?;
    let header = Header::decode("a pack", b"BSPK", trust, bytes)?;
    let (trailer_len, signature) = decode_footer(&bytes[end..])?;
    let public = trust.public(header.signer).ok_or_else(|| bad("is signed by nobody known"))?;
    let digest = blake3::hash(&bytes[..end]);
    let message: [&[u8]; 4] = [b"backstay v1 pack\0", &trust.repository.0, digest.as_bytes(), &bytes[end..end + 4]];
    if !is_signed(public, &message, &signature) {
        return Err(bad("has a bad signature"));
    }
    let start =
        end.checked_sub(trailer_len).filter(|start| *start >= HEADER_BYTES).ok_or_else(|| bad("ends too early"))?;
    let keep_key = keep_key(header.domain).ok_or_else(|| bad("belongs to a domain that this key cannot see"))?;
    let records = open_trailer(&header, &keep_key, bytes[start..end].to_vec(), start as u64)?;
    Ok(Contents { header, records })
}

/// What the pack `id` of `size` bytes holds, read from its header and trailer only; the signature is not checked.
pub(crate) fn read_trailer(
    store: &Store,
    trust: &Trust,
    keep_key: impl Fn(DomainId) -> Option<Secret>,
    id: &PackId,
) -> Result<Contents> {
    let key = pack_key(id);
    let bad = |why: &str| RepoError::damaged(key.path(), why);
    let header = Header::decode(
        "a pack",
        b"BSPK",
        trust,
        &store.get(&key, Span::Range { offset: 0, len: HEADER_BYTES as u64 })?,
    )?;
    let size = store.size(&key)?.ok_or_else(|| bad("is gone"))?;
    let guess = store.get(&key, Span::Tail { len: 64 << 10 })?;
    let footer_at = guess.len().checked_sub(FOOTER_BYTES).ok_or_else(|| bad("ends too early"))?;
    let (trailer_len, _) = decode_footer(&guess[footer_at..])?;
    let end = size - FOOTER_BYTES as u64;
    let start = end.checked_sub(trailer_len as u64).ok_or_else(|| bad("ends too early"))?;
    let trailer = match footer_at.checked_sub(trailer_len) {
        Some(at) => guess[at..footer_at].to_vec(),
        None => store.get(&key, Span::Range { offset: start, len: trailer_len as u64 })?,
    };
    let keep_key = keep_key(header.domain).ok_or_else(|| bad("belongs to a domain that this key cannot see"))?;
    let records = open_trailer(&header, &keep_key, trailer, start)?;
    Ok(Contents { header, records })
}

fn decode_footer(bytes: &[u8]) -> Result<(usize, [u8; 64])> {
    let mut cursor = Cursor::new("a pack", bytes);
    let trailer_len = cursor.u32()? as usize;
    if cursor.array::<4>()? != *b"BSPE" || (trailer_len as u64) > PACK_BYTES_MAX {
        return Err(cursor.bad("has no proper end"));
    }
    Ok((trailer_len, cursor.array()?))
}

fn open_trailer(header: &Header, keep_key: &Secret, mut trailer: Vec<u8>, body_bytes: u64) -> Result<Vec<Packed>> {
    let key = Aead::new(&derive(Purpose::Trailer, &[&keep_key.0, &header.salt]));
    if trailer.len() < TAG_BYTES {
        return Err(RepoError::damaged("a pack's trailer", "ends too early"));
    }
    let plain = key.open(nonce(0), &header.encode(), &mut trailer);
    let plain = plain.ok_or_else(|| RepoError::damaged("a pack's trailer", "is not authentic"))?;
    decode_trailer(plain, body_bytes)
}
