//! Ordered archives of named segments: WAL (`docs/format.md` §11).
//!
//! A segment is durable before `append` returns. The same name with the same bytes is success; with other bytes it is a
//! second history: both are kept, and it is an error. It may not know what a segment means; only that numbers ascend.

use crate::crypt::{Aead, Purpose, Secret, derive, is_signed, nonce};
use crate::error::{RepoError, Result};
use crate::format::Cursor;
use crate::id::{DomainId, RepositoryId, SignerId, SourceId, hex, unhex};
use crate::keys::{age_unwrap, age_wrap};
use crate::repository::Repository;
use crate::seal::compressor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::{Key, Listed, Shelf};

/// The largest segment: PostgreSQL's `--wal-segsize` allows up to 1 GiB.
pub const SEGMENT_BYTES_MAX: usize = 1 << 30;
const CONTEXT: &[u8] = b"backstay v1 segment\0";
const LEVEL: i32 = 3;

/// The name of the archive of parts for the archive `name`: of segments that were not complete yet when they were stored. The
/// number of a part is the position behind its last byte, so that the segment it is of can be told from the length of segments.
pub fn parts_of(name: &str) -> String {
    format!("{name}-part")
}

/// The place of a segment in its archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentName {
    /// Which line of history.
    pub timeline: u32,
    /// Its number in that line; the next segment has the next number.
    pub number: u64,
}

/// What an append found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The segment is new and durable.
    New,
    /// The same bytes were there already; they are durable.
    Same,
}

/// A stretch of segments without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Which line of history.
    pub timeline: u32,
    /// Number of the first segment.
    pub first: u64,
    /// Number of the last segment.
    pub last: u64,
}

impl Stretch {
    /// Whether this segment is in it.
    pub fn holds(&self, name: SegmentName) -> bool {
        name.timeline == self.timeline && (self.first..=self.last).contains(&name.number)
    }
}

/// A segment as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    name: SegmentName,
    mac: [u8; 16],
    key: Key,
}

/// One archive.
pub struct Ledger<'r> {
    repository: &'r Repository,
    source: SourceId,
    domain: DomainId,
}

impl Repository {
    /// The archive called `name`, of the domain that the key at hand writes in.
    ///
    /// # Errors
    /// `NotAuthorised` when the key sees no domain.
    pub fn ledger(&self, name: &str) -> Result<Ledger<'_>> {
        let denied = RepoError::NotAuthorised { needed: "writer", held: self.keyring.role().name().into() };
        let domain = self.keyring.bundle.domain.ok_or(denied)?;
        self.ledger_of(name, domain)
    }

    /// The archive called `name` of another domain, for readers and keepers.
    ///
    /// # Errors
    /// `NotAuthorised` when the key does not see the domain.
    pub fn ledger_of(&self, name: &str, domain: DomainId) -> Result<Ledger<'_>> {
        let denied = || RepoError::NotAuthorised { needed: "keeper", held: self.keyring.role().name().into() };
        let keep_key = self.keep_key(domain).ok_or_else(denied)?;
        // The store sees which archive a segment belongs to, not what it is called.
        let mut source = [0u8; 16];
        let key = derive(Purpose::Source, &[&keep_key.0]);
        source.copy_from_slice(&blake3::keyed_hash(&key.0, name.as_bytes()).as_bytes()[..16]);
        Ok(Ledger { repository: self, source: SourceId(source), domain })
    }
}

impl Ledger<'_> {
    /// Stores one segment. When this returns `Ok` it survives power loss.
    ///
    /// # Errors
    /// `Differs` when the name exists with other bytes: both are kept, and two histories share an archive; do not retry.
    /// `NotAuthorised` without a writer's key; whatever the store returns.
    pub fn append(&self, name: SegmentName, plain: &[u8]) -> Result<Appended> {
        if plain.len() > SEGMENT_BYTES_MAX {
            return Err(RepoError::Limit(format!("a segment of {} bytes is too large", plain.len())));
        }
        let mac = self.mac(name, plain)?;
        let there = self.stored(Some(name))?;
        if there.iter().any(|stored| stored.mac == mac) && there.iter().all(|stored| stored.mac == mac) {
            return Ok(Appended::Same);
        }
        if !there.is_empty() && store::sabotaged("take another segment of the name for the same") {
            return Ok(Appended::Same);
        }
        if !there.iter().any(|stored| stored.mac == mac) {
            let object = self.seal(name, plain)?;
            self.repository.store.put_new(&self.key(name, &mac, &object), &object)?;
        }
        // Look again: somebody may have stored another one at the same time.
        let now = self.stored(Some(name))?;
        match there.iter().chain(&now).any(|stored| stored.mac != mac) {
            true => Err(RepoError::Differs(format!("segment {:016x} of timeline {}", name.number, name.timeline))),
            false => Ok(Appended::New),
        }
    }

    /// The bytes of a segment, or `None` when it is not there.
    ///
    /// # Errors
    /// `Differs` when there are two of the name; `Damaged`; `NotAuthorised` without a reader's key.
    pub fn get(&self, name: SegmentName) -> Result<Option<Vec<u8>>> {
        let stored = self.stored(Some(name))?;
        let Some(first) = stored.first() else { return Ok(None) };
        if stored.iter().any(|other| other.mac != first.mac) {
            return Err(RepoError::Differs(format!("segment {:016x} of timeline {}", name.number, name.timeline)));
        }
        let mut last = RepoError::damaged(first.key.path(), "is gone");
        for stored in &stored {
            let opened = self.repository.store.get_checked(&stored.key).map_err(RepoError::from);
            match opened.and_then(|object| self.open(name, &stored.mac, &object)) {
                Ok(plain) => return Ok(Some(plain)),
                Err(e) if e.is_damage() => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }

    /// The names of all segments, in order.
    ///
    /// # Errors
    /// Whatever the store returns.
    pub fn segments(&self) -> Result<Vec<SegmentName>> {
        let mut names: Vec<SegmentName> = self.stored(None)?.into_iter().map(|stored| stored.name).collect();
        names.dedup();
        Ok(names)
    }

    /// The stretches without a gap, in order. Where one ends and another begins on the same timeline, segments are missing,
    /// or there with different bytes, so that none are given out.
    ///
    /// # Errors
    /// Whatever the store returns.
    pub fn coverage(&self) -> Result<Vec<Stretch>> {
        let mut macs: BTreeMap<SegmentName, Option<[u8; 16]>> = BTreeMap::new();
        for Stored { name, mac, .. } in self.stored(None)? {
            let known = macs.entry(name).or_insert(Some(mac));
            *known = known.filter(|known| *known == mac);
        }
        let usable: Vec<SegmentName> = macs.into_iter().filter_map(|(name, mac)| mac.map(|_| name)).collect();
        Ok(stretches(&usable))
    }

    /// Whether this segment is there, with one content only, so that it can be given out.
    ///
    /// # Errors
    /// Whatever the store returns.
    pub fn holds(&self, name: SegmentName) -> Result<bool> {
        let stored = self.stored(Some(name))?;
        Ok(stored.first().is_some_and(|first| stored.iter().all(|other| other.mac == first.mac)))
    }

    /// The objects of all segments with lower numbers than this one.
    pub(crate) fn before(&self, number: u64) -> Result<Vec<Listed>> {
        let listed = self.repository.store.list_prefix(Shelf::Ledger, &format!("{}/", self.source))?;
        let is_before = |listed: &Listed| parse(&listed.key).is_some_and(|stored| stored.name.number < number);
        Ok(listed.into_iter().filter(is_before).collect())
    }

    /// The objects of all parts whose segment has a lower number than `number`, or is complete in `whole`. This is the archive
    /// of parts, and `bytes` the length of segments.
    pub(crate) fn superseded(&self, whole: &Ledger<'_>, (number, bytes): (u64, u64)) -> Result<Vec<Listed>> {
        let listed = self.repository.store.list_prefix(Shelf::Ledger, &format!("{}/", self.source))?;
        let complete = whole.coverage()?;
        let is_over = |listed: &Listed| {
            let Some(Stored { name: part, .. }) = parse(&listed.key) else { return false };
            let of = SegmentName { timeline: part.timeline, number: part.number.saturating_sub(1) / bytes.max(1) };
            of.number < number || complete.iter().any(|stretch| stretch.holds(of))
        };
        Ok(listed.into_iter().filter(is_over).collect())
    }

    fn mac(&self, name: SegmentName, plain: &[u8]) -> Result<[u8; 16]> {
        let denied =
            || RepoError::NotAuthorised { needed: "writer", held: self.repository.keyring.role().name().into() };
        let keys = self.repository.keyring.domain(self.domain).ok_or_else(denied)?;
        let key = derive(Purpose::IdSegment, &[&keys.id_key.as_ref().ok_or_else(denied)?.0]);
        let mut hasher = blake3::Hasher::new_keyed(&key.0);
        hasher.update(&name.timeline.to_le_bytes());
        hasher.update(&name.number.to_le_bytes());
        hasher.update(plain);
        let mut mac = [0u8; 16];
        mac.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok(mac)
    }

    fn prefix(&self, name: SegmentName) -> String {
        format!("{}/{:08x}/{:016x}.", self.source, name.timeline, name.number)
    }

    fn key(&self, name: SegmentName, mac: &[u8; 16], object: &[u8]) -> Key {
        let text = format!("{}{}.{}", self.prefix(name), hex(mac), blake3::hash(object).to_hex());
        Key::new(Shelf::Ledger, text).expect("hex is a good name")
    }

    fn stored(&self, name: Option<SegmentName>) -> Result<Vec<Stored>> {
        let prefix = name.map_or(format!("{}/", self.source), |name| self.prefix(name));
        let listed = self.repository.store.list_prefix(Shelf::Ledger, &prefix)?;
        Ok(listed.into_iter().filter_map(|listed| parse(&listed.key)).collect())
    }

    fn seal(&self, name: SegmentName, plain: &[u8]) -> Result<Vec<u8>> {
        let (_, signing) = self.repository.keyring.writing()?;
        let world = &self.repository.world;
        let key = Secret(world.random());
        let small = compressor(LEVEL)?.compress(plain)?;
        let (codec, mut cipher) = if small.len() < plain.len() { (1u8, small) } else { (0, plain.to_vec()) };
        let plain_len = u32::try_from(plain.len()).expect("a segment is within its limit");
        let mut object = b"BSWL".to_vec();
        object.extend_from_slice(&[1, 1, codec, 0]);
        for id in [&self.repository.config.repository.0, &self.domain.0, &signing.id().0, &self.source.0] {
            object.extend_from_slice(id);
        }
        object.extend_from_slice(&name.timeline.to_le_bytes());
        object.extend_from_slice(&name.number.to_le_bytes());
        object.extend_from_slice(&plain_len.to_le_bytes());
        Aead::new(&key).seal(nonce(0), &object, &mut cipher);
        let wrapped = age_wrap(&self.repository.config.recipients, &key.0)?;
        for part in [&wrapped, &cipher] {
            object.extend_from_slice(&(part.len() as u32).to_le_bytes());
            object.extend_from_slice(part);
        }
        let signature = signing.sign(&[CONTEXT, &object]);
        object.extend_from_slice(&signature);
        Ok(object)
    }

    fn open(&self, name: SegmentName, mac: &[u8; 16], object: &[u8]) -> Result<Vec<u8>> {
        let identity = self.repository.keyring.opening()?;
        let mut cursor = Cursor::new("a segment", object);
        if cursor.array::<4>()? != *b"BSWL" {
            return Err(cursor.bad("is something else"));
        }
        let [version, suite, codec, flags] = cursor.array()?;
        let repository = RepositoryId(cursor.array()?);
        let domain = DomainId(cursor.array()?);
        let signer = SignerId(cursor.array()?);
        let source = SourceId(cursor.array()?);
        let found = SegmentName { timeline: cursor.u32()?, number: cursor.u64()? };
        let plain_len = cursor.u32()? as usize;
        let aad_len = object.len() - cursor.left();
        let fits = (version, suite, flags) == (1, 1, 0) && codec <= 1 && plain_len <= SEGMENT_BYTES_MAX;
        let ours = repository == self.repository.config.repository && domain == self.domain && source == self.source;
        if !fits || !ours || found != name {
            return Err(cursor.bad("is of another kind, or belongs elsewhere"));
        }
        let len = cursor.u32()? as usize;
        let wrapped = cursor.take(len)?;
        let len = cursor.u32()? as usize;
        let mut cipher = cursor.take(len)?.to_vec();
        let signature: [u8; 64] = cursor.array()?;
        let trust = &self.repository.trust;
        let public = trust.public(signer).filter(|_| trust.might_write(signer, domain));
        let public = public.ok_or_else(|| cursor.bad("is signed by somebody who may not write there"))?;
        let signed = &object[..object.len() - 64];
        if !cursor.is_empty() || !is_signed(public, &[CONTEXT, signed], &signature) {
            return Err(cursor.bad("has a bad signature"));
        }
        let key = age_unwrap(identity, wrapped).and_then(|key| <[u8; 32]>::try_from(key).ok());
        let key = Secret(key.ok_or_else(|| cursor.bad("is wrapped to another key"))?);
        let opened = Aead::new(&key).open(nonce(0), &object[..aad_len], &mut cipher);
        let opened = opened.ok_or_else(|| cursor.bad("is not authentic"))?;
        let plain = match codec {
            0 => opened.to_vec(),
            _ => zstd::bulk::decompress(opened, plain_len).map_err(|_| cursor.bad("cannot be decompressed"))?,
        };
        match plain.len() == plain_len && self.mac(name, &plain)? == *mac {
            true => Ok(plain),
            false => Err(cursor.bad("is not what its name says")),
        }
    }
}

fn parse(key: &Key) -> Option<Stored> {
    let mut parts = key.name().split('/').skip(1);
    let timeline = u32::from_str_radix(parts.next()?, 16).ok()?;
    let mut parts = parts.next()?.split('.');
    let number = u64::from_str_radix(parts.next()?, 16).ok()?;
    let mac = unhex(parts.next()?)?;
    Some(Stored { name: SegmentName { timeline, number }, mac, key: key.clone() })
}

fn stretches(names: &[SegmentName]) -> Vec<Stretch> {
    let mut by_timeline: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for name in names {
        by_timeline.entry(name.timeline).or_default().push(name.number);
    }
    let mut stretches: Vec<Stretch> = Vec::new();
    for (timeline, mut numbers) in by_timeline {
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            match stretches.last_mut() {
                Some(last) if last.timeline == timeline && last.last.checked_add(1) == Some(number) => {
                    last.last = number
                }
                _ => stretches.push(Stretch { timeline, first: number, last: number }),
            }
        }
    }
    stretches
}

/// The segments missing between stretches of one timeline.
pub fn gaps(stretches: &[Stretch]) -> Vec<Stretch> {
    let pairs = stretches.windows(2).filter(|pair| pair[0].timeline == pair[1].timeline);
    pairs.map(|pair| Stretch { timeline: pair[0].timeline, first: pair[0].last + 1, last: pair[1].first - 1 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::PackSize;
    use std::sync::Arc;
    use store::{MemStore, Store, World};

    fn name(number: u64) -> SegmentName {
        SegmentName { timeline: 1, number }
    }

    fn repository(mem: &MemStore) -> Repository {
        let store = Store::new(Arc::new(mem.clone()));
        Repository::init(&store, &World::real(), None, "test", PackSize::Disk).expect("made").0
    }

    #[test]
    fn the_same_segment_twice_is_success_and_another_of_its_name_is_not() {
        let mem = MemStore::new();
        let repository = repository(&mem);
        let ledger = repository.ledger("db").expect("opens");
        assert_eq!(ledger.append(name(5), b"segment").expect("stores"), Appended::New);
        assert_eq!(ledger.append(name(5), b"segment").expect("stores"), Appended::Same);
        assert_eq!(ledger.get(name(5)).expect("reads").as_deref(), Some(&b"segment"[..]));
        assert_eq!(ledger.get(name(6)).expect("reads"), None);
        assert!(matches!(ledger.append(name(5), b"another"), Err(RepoError::Differs(_))));
        assert!(matches!(ledger.get(name(5)), Err(RepoError::Differs(_))), "which one is right is for a person to say");
        assert!(ledger.coverage().expect("lists").is_empty(), "what nobody gets is not there to be counted on");
        assert!(!ledger.holds(name(5)).expect("lists"), "nor here");
        assert!(repository.ledger("other").expect("opens").segments().expect("lists").is_empty());
    }

    #[test]
    fn gaps_are_seen_per_timeline() {
        let mem = MemStore::new();
        let repository = repository(&mem);
        let ledger = repository.ledger("db").expect("opens");
        for number in [1, 2, 3, 7, 8] {
            ledger.append(name(number), &number.to_le_bytes()).expect("stores");
        }
        ledger.append(SegmentName { timeline: 2, number: 9 }, b"x").expect("stores");
        let stretch = |timeline, first, last| Stretch { timeline, first, last };
        let stretches = ledger.coverage().expect("lists");
        assert_eq!(stretches, [stretch(1, 1, 3), stretch(1, 7, 8), stretch(2, 9, 9)]);
        assert_eq!(gaps(&stretches), [stretch(1, 4, 6)]);
        for number in 1..=9 {
            let there = ledger.holds(name(number)).expect("lists");
            assert_eq!(there, stretches.iter().any(|stretch| stretch.holds(name(number))), "{number}");
        }
    }

    #[test]
    fn a_damaged_segment_is_never_given_out() {
        let mem = MemStore::new();
        let repository = repository(&mem);
        let ledger = repository.ledger("db").expect("opens");
        ledger.append(name(1), &[7; 10_000]).expect("stores");
        let key = mem.keys().into_iter().find(|key| key.shelf() == Shelf::Ledger).expect("is there");
        mem.corrupt(&key, |body| body[150] ^= 1);
        assert!(ledger.get(name(1)).expect_err("damaged").is_damage());
    }
    #[test]
    fn parts_are_needed_until_their_segment_is_complete_or_too_old() {
        let mem = MemStore::new();
        let repository = repository(&mem);
        let whole = repository.ledger("db").expect("opens");
        let parts = repository.ledger(&parts_of("db")).expect("opens");
        for number in [5, 7] {
            whole.append(name(number), b"segment").expect("stores");
        }
        // Of the segments 4, 5, 5, 6 and 8, and of another timeline's 5.
        for end in [450, 510, 600, 601, 810] {
            parts.append(name(end), b"part").expect("stores");
        }
        parts.append(SegmentName { timeline: 2, number: 600 }, b"part").expect("stores");
        let gone = parts.superseded(&whole, (5, 100)).expect("lists");
        let mut gone: Vec<u64> = gone.iter().filter_map(|listed| Some(parse(&listed.key)?.name.number)).collect();
        gone.sort_unstable();
        assert_eq!(gone, [450, 510, 600]);
    }
}
