//! Where chunks are: sorted tables, found by `pread` with a small cache (`docs/format.md` §7).
//!
//! An index is a hint. What it says is checked when a record is opened; any table may be missing; all can be rebuilt
//! from pack trailers. Memory: the filters and fences (about 1.7 bytes per chunk), and a bounded cache of blocks.

use crate::crypt::{Aead, Purpose, Secret, Signing, TAG_BYTES, derive, is_signed, nonce};
use crate::envelope::Trust;
use crate::error::{RepoError, Result};
use crate::format::Cursor;
use crate::id::{ChunkId, DomainId, PackId, RepositoryId, RunId, SignerId};
use crate::pack::{HEADER_BYTES, Header, PackKind, Packed};
use crate::seal::{ChunkKind, Codec, Member, Origin, Sealing, are_sound};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use store::{Key, Kind, Shelf, Span, Store, StoreError};

/// A table is written when it has this many entries.
pub(crate) const TABLE_ENTRIES_MAX: usize = 1 << 18;
const BLOCK_BYTES: usize = 8192;
const FENCE_EVERY: u32 = 64;
const ENTRY_BYTES: u64 = 44;
const RECORD_BYTES: u64 = 44;
const ORIGIN_BYTES: u64 = 32;
const PACK_BYTES: u64 = 40;
const HEAD_BYTES: usize = 64;
const FILTER_BLOCK: usize = 64;
/// Blocks kept in memory, over all tables: 24 MiB.
const CACHE_BLOCKS: usize = 3072;

/// Where a chunk is, with all that opening it needs but the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) pack: PackId,
    pub(crate) at: u32,
    pub(crate) stored_len: u32,
    pub(crate) sealing: Sealing,
    pub(crate) domain: DomainId,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

impl Place {
    /// The chunk's length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a chunk is never empty")]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the other chunk lies in the same record, so that whoever opens one has both.
    pub fn is_beside(&self, other: &Place) -> bool {
        (self.pack, self.at) == (other.pack, other.at)
    }
}

/// A pack, as tables name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackRef {
    pub(crate) id: PackId,
    pub(crate) bytes: u32,
    pub(crate) kind: PackKind,
}

/// One record as it stands in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableRecord {
    pub(crate) pack: u32,
    pub(crate) at: u32,
    pub(crate) stored_len: u32,
    pub(crate) sealing: Sealing,
}

/// A record and the chunks in it, each with its place in the group.
pub(crate) type Grouped = (TableRecord, Vec<(u32, Member)>);

/// An entry found: which table, which of its records, and the place in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) table: usize,
    pub(crate) record: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    id: ChunkId,
    record: u32,
    offset: u32,
    len: u32,
}

/// Collects packs until there are enough chunks for a table.
#[derive(Default)]
pub(crate) struct TableBuilder {
    packs: Vec<PackRef>,
    numbers: HashMap<PackId, u32>,
    seen: HashSet<(u32, u32, [u8; 16])>,
    origins: BTreeMap<Origin, u32>,
    records: Vec<TableRecord>,
    slots: Vec<Slot>,
}

impl TableBuilder {
    pub(crate) fn entries(&self) -> usize {
        self.slots.len()
    }

    /// Adds all records of a stored pack.
    pub(crate) fn add_pack(&mut self, pack: PackRef, records: &[Packed]) {
        let number = self.number(pack);
        for record in records {
            let mut offset = 0u32;
            let members = record.members.iter().map(|member| {
                let at = offset;
                offset += member.len;
                (at, *member)
            });
            let members: Vec<(u32, Member)> = members.collect();
            let table =
                TableRecord { pack: number, at: record.offset, stored_len: record.stored_len, sealing: record.sealing };
            self.add_record(table, &members);
        }
    }

    fn number(&mut self, pack: PackRef) -> u32 {
        let next = self.packs.len() as u32;
        *self.numbers.entry(pack.id).or_insert_with(|| {
            self.packs.push(pack);
            next
        })
    }

    /// Adds a record unless the same is there. Two records that claim one place both stay: one of them is forged, and who
    /// reads finds out which.
    fn add_record(&mut self, record: TableRecord, members: &[(u32, Member)]) {
        let TableRecord { pack, at, sealing, .. } = record;
        if !self.seen.insert((pack, at, sealing.members)) {
            return;
        }
        let next = self.origins.len() as u32;
        self.origins.entry(sealing.origin).or_insert(next);
        let number = self.records.len() as u32;
        self.records.push(record);
        for (offset, member) in members {
            self.slots.push(Slot { id: member.id, record: number, offset: *offset, len: member.len });
        }
    }

    /// The finished table object and its id, or `None` when there is nothing in it.
    pub(crate) fn finish(
        mut self,
        header: HeaderParts,
        keep_key: &Secret,
        signing: &Signing,
    ) -> Option<(Key, Vec<u8>)> {
        if self.slots.is_empty() {
            return None;
        }
        self.slots.sort_unstable_by_key(|slot| slot.id);
        let header = Header {
            magic: *b"BSIX",
            kind: 0,
            repository: header.repository,
            domain: header.domain,
            signer: signing.id(),
            salt: header.salt,
        };
        let fences: Vec<u64> = self.slots.iter().step_by(FENCE_EVERY as usize).map(|slot| prefix(&slot.id)).collect();
        let filter_blocks = (self.slots.len() * 12).div_ceil(FILTER_BLOCK * 8).max(1);
        let mut filter = vec![0u8; filter_blocks * FILTER_BLOCK];
        self.slots.iter().for_each(|slot| filter_add(&mut filter, &slot.id));

        let mut head = Vec::with_capacity(HEAD_BYTES);
        for count in [self.packs.len(), self.origins.len(), self.records.len(), self.slots.len(), filter.len(), 0] {
            head.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for slot in [self.slots.first(), self.slots.last()] {
            head.extend_from_slice(&slot.expect("a table has entries").id.0[..8]);
        }
        head.resize(HEAD_BYTES, 0);

        let mut body = Vec::new();
        fences.iter().for_each(|fence| body.extend_from_slice(&fence.to_le_bytes()));
        body.extend_from_slice(&filter);
        for pack in &self.packs {
            body.extend_from_slice(&pack.id.0);
            body.extend_from_slice(&pack.bytes.to_le_bytes());
            body.extend_from_slice(&[pack.kind as u8, 0, 0, 0]);
        }
        let mut origins: Vec<(&Origin, &u32)> = self.origins.iter().collect();
        origins.sort_by_key(|(_, number)| **number);
        for (origin, _) in origins {
            body.extend_from_slice(&origin.run.0);
            body.extend_from_slice(&origin.salt);
        }
        for record in &self.records {
            let s = &record.sealing;
            let origin = self.origins[&s.origin];
            for number in [record.pack, record.at, record.stored_len, s.plain_len, origin, s.counter] {
                body.extend_from_slice(&number.to_le_bytes());
            }
            body.extend_from_slice(&[s.kind as u8, s.codec as u8, 0, 0]);
            body.extend_from_slice(&s.members);
        }
        for slot in &self.slots {
            body.extend_from_slice(&slot.id.0);
            for number in [slot.record, slot.offset, slot.len] {
                body.extend_from_slice(&number.to_le_bytes());
            }
        }

        let clear = header.encode();
        let key = Aead::new(&derive(Purpose::Index, &[&keep_key.0, &header.salt]));
        key.seal(nonce(u64::MAX), &clear, &mut head);
        let head_len = (head.len() as u32).to_le_bytes();
        let signature = signing.sign(&[b"backstay v1 index\0", &header.repository.0, &clear, &head_len, &head]);
        let mut object = [&clear[..], &head_len, &head, &signature].concat();
        let mut block = Vec::with_capacity(BLOCK_BYTES + TAG_BYTES);
        for (number, plain) in body.chunks(BLOCK_BYTES).enumerate() {
            block.clear();
            block.extend_from_slice(plain);
            key.seal(nonce(number as u64), &clear, &mut block);
            object.extend_from_slice(&block);
        }
        let name = blake3::hash(&object).to_hex();
        Some((Key::new(Shelf::Index, name.as_str()).expect("a hash is a good name"), object))
    }
}

/// What a table's header needs from its maker.
#[derive(Clone, Copy)]
pub(crate) struct HeaderParts {
    pub(crate) repository: RepositoryId,
    pub(crate) domain: DomainId,
    pub(crate) salt: [u8; 32],
}

fn prefix(id: &ChunkId) -> u64 {
    u64::from_be_bytes(id.0[..8].try_into().expect("eight bytes"))
}

fn filter_bits(id: &ChunkId, blocks: usize) -> (usize, [u16; 8]) {
    let word = |at: usize| u64::from_le_bytes(id.0[at..at + 8].try_into().expect("eight bytes"));
    let block = ((u128::from(word(8)) * blocks as u128) >> 64) as usize;
    let (b, c) = (word(16), word(24));
    let bit = |word: u64, i: u32| ((word >> (9 * i)) & 511) as u16;
    (block, [bit(b, 0), bit(b, 1), bit(b, 2), bit(b, 3), bit(c, 0), bit(c, 1), bit(c, 2), bit(c, 3)])
}

fn filter_add(filter: &mut [u8], id: &ChunkId) {
    let (block, bits) = filter_bits(id, filter.len() / FILTER_BLOCK);
    for bit in bits {
        filter[block * FILTER_BLOCK + usize::from(bit >> 3)] |= 1 << (bit & 7);
    }
}

fn filter_has(filter: &[u8], id: &ChunkId) -> bool {
    if filter.is_empty() {
        return true;
    }
    let (block, bits) = filter_bits(id, filter.len() / FILTER_BLOCK);
    bits.iter().all(|bit| filter[block * FILTER_BLOCK + usize::from(bit >> 3)] & (1 << (bit & 7)) != 0)
}

/// Where the arrays of a table's body begin, in bytes of the body.
#[derive(Clone, Copy)]
struct Layout {
    records: u64,
    entries: u64,
    end: u64,
}

/// One opened table.
pub(crate) struct Table {
    key: Key,
    domain: DomainId,
    signer: SignerId,
    clear: [u8; HEADER_BYTES],
    aead: Aead,
    blocks_at: u64,
    n_records: u32,
    n_entries: u32,
    layout: Layout,
    fences: Vec<u64>,
    filter: Vec<u8>,
    packs: Vec<PackRef>,
    origins: Vec<Origin>,
}

impl Table {
    fn open(
        store: &Store,
        trust: &Trust,
        keep_key: &dyn Fn(DomainId) -> Option<Secret>,
        key: &Key,
    ) -> Result<Option<Table>> {
        let bad = |why: &str| RepoError::damaged(key.path(), why);
        let fixed = HEADER_BYTES + 4 + HEAD_BYTES + TAG_BYTES + 64;
        let start = store.get(key, Span::Range { offset: 0, len: fixed as u64 })?;
        let header = Header::decode("an index table", b"BSIX", trust, &start)?;
        let Some(keep_key) = keep_key(header.domain) else { return Ok(None) };
        let clear = header.encode();
        let mut cursor = Cursor::new("an index table", &start[HEADER_BYTES..]);
        if cursor.u32()? as usize != HEAD_BYTES + TAG_BYTES {
            return Err(bad("has a head of another size"));
        }
        let head = cursor.take(HEAD_BYTES + TAG_BYTES)?;
        let signature = cursor.array::<64>()?;
        let public = trust.public(header.signer).ok_or_else(|| bad("is signed by nobody known"))?;
        let signed = &start[HEADER_BYTES..HEADER_BYTES + 4];
        if !is_signed(public, &[b"backstay v1 index\0", &trust.repository.0, &clear, signed, head], &signature) {
            return Err(bad("has a bad signature"));
        }
        let aead = Aead::new(&derive(Purpose::Index, &[&keep_key.0, &header.salt]));
        let mut head = head.to_vec();
        let head = aead.open(nonce(u64::MAX), &clear, &mut head).ok_or_else(|| bad("is not authentic"))?;
        let mut cursor = Cursor::new("an index table", head);
        let [n_packs, n_origins, n_records, n_entries, filter_bytes, _] =
            [cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?];
        let fences = u64::from(n_entries.div_ceil(FENCE_EVERY)) * 8;
        let packs = fences + u64::from(filter_bytes);
        let origins = packs + u64::from(n_packs) * PACK_BYTES;
        let records = origins + u64::from(n_origins) * ORIGIN_BYTES;
        let entries = records + u64::from(n_records) * RECORD_BYTES;
        let end = entries + u64::from(n_entries) * ENTRY_BYTES;
        let layout = Layout { records, entries, end };
        let blocks_at = fixed as u64;
        let expected = blocks_at + end + end.div_ceil(BLOCK_BYTES as u64) * TAG_BYTES as u64;
        let size = store.size(key)?;
        if size.is_none() {
            // A prune replaced it between the two questions.
            return Err(StoreError::new(Kind::Absent, format!("read {key}"), "there is no such object").into());
        }
        if size != Some(expected) || !(filter_bytes as usize).is_multiple_of(FILTER_BLOCK) {
            return Err(bad("has another size than it says"));
        }
        let mut table = Table {
            key: key.clone(),
            domain: header.domain,
            signer: header.signer,
            clear,
            aead,
            blocks_at,
            n_records,
            n_entries,
            layout,
            fences: Vec::new(),
            filter: Vec::new(),
            packs: Vec::new(),
            origins: Vec::new(),
        };
        let resident = table.read_uncached(store, 0, layout.records)?;
        let mut cursor = Cursor::new("an index table", &resident);
        for _ in 0..n_entries.div_ceil(FENCE_EVERY) {
            table.fences.push(cursor.u64()?);
        }
        table.filter = cursor.take(filter_bytes as usize)?.to_vec();
        for _ in 0..n_packs {
            let id = PackId(cursor.array()?);
            let bytes = cursor.u32()?;
            let [kind, ..] = cursor.array::<4>()?;
            let kind = PackKind::from_u8(kind).ok_or_else(|| bad("names an unknown kind of pack"))?;
            table.packs.push(PackRef { id, bytes, kind });
        }
        for _ in 0..n_origins {
            table.origins.push(Origin { run: RunId(cursor.array()?), salt: cursor.array()? });
        }
        Ok(Some(table))
    }

    fn block(&self, store: &Store, number: u64) -> Result<Vec<u8>> {
        let first = number * BLOCK_BYTES as u64;
        let plain = (self.layout.end - first).min(BLOCK_BYTES as u64);
        let offset = self.blocks_at + number * (BLOCK_BYTES + TAG_BYTES) as u64;
        let mut block = store.get(&self.key, Span::Range { offset, len: plain + TAG_BYTES as u64 })?;
        let open = self.aead.open(nonce(number), &self.clear, &mut block).map(|plain| plain.len());
        let len = open.ok_or_else(|| RepoError::damaged(self.key.path(), "is not authentic"))?;
        block.truncate(len);
        Ok(block)
    }

    /// `len` bytes of the body from `from`, read in one go and not kept.
    fn read_uncached(&self, store: &Store, from: u64, to: u64) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity((to - from) as usize);
        let mut number = from / BLOCK_BYTES as u64;
        // Some blocks at a time: one read each would cost a call per 8 KiB.
        while number * (BLOCK_BYTES as u64) < to {
            let end = to.div_ceil(BLOCK_BYTES as u64).min(number + 128);
            let plain_end = (end * BLOCK_BYTES as u64).min(self.layout.end);
            let count = end - number;
            let offset = self.blocks_at + number * (BLOCK_BYTES + TAG_BYTES) as u64;
            let len = plain_end - number * BLOCK_BYTES as u64 + count * TAG_BYTES as u64;
            let mut sealed = store.get(&self.key, Span::Range { offset, len })?;
            for block in sealed.chunks_mut(BLOCK_BYTES + TAG_BYTES) {
                let plain = self.aead.open(nonce(number), &self.clear, block);
                let plain = plain.ok_or_else(|| RepoError::damaged(self.key.path(), "is not authentic"))?;
                let first = number * BLOCK_BYTES as u64;
                let a = from.saturating_sub(first).min(plain.len() as u64) as usize;
                let b = (to - first).min(plain.len() as u64) as usize;
                out.extend_from_slice(&plain[a..b]);
                number += 1;
            }
        }
        Ok(out)
    }

    fn decode_record(&self, bytes: &[u8]) -> Result<TableRecord> {
        let mut c = Cursor::new("an index table", bytes);
        let (pack, at, stored_len, plain_len) = (c.u32()?, c.u32()?, c.u32()?, c.u32()?);
        let (origin, counter) = (c.u32()? as usize, c.u32()?);
        let [kind, codec, _, _] = c.array()?;
        let members = c.array()?;
        let origin = *self.origins.get(origin).ok_or_else(|| c.bad("names an origin that is not there"))?;
        let kind = ChunkKind::from_u8(kind).ok_or_else(|| c.bad("names an unknown kind"))?;
        let codec = Codec::from_u8(codec).ok_or_else(|| c.bad("names an unknown codec"))?;
        if self.packs.len() <= pack as usize {
            return Err(c.bad("names a pack that is not there"));
        }
        if !are_sound(plain_len, stored_len) {
            return Err(c.bad("names a record that cannot be"));
        }
        let sealing = Sealing { origin, counter, kind, codec, plain_len, members };
        Ok(TableRecord { pack, at, stored_len, sealing })
    }
}

/// All tables that a key can see.
pub(crate) struct Index {
    store: Store,
    tables: Vec<Table>,
    without: HashSet<PackId>,
    cache: Mutex<Cache>,
    vanished: AtomicBool,
    /// Tables that could not be used, and why: a repository works without them once they are rebuilt.
    pub(crate) damaged: Vec<(Key, RepoError)>,
}

#[derive(Default)]
struct Cache {
    young: HashMap<(usize, u64), Arc<Vec<u8>>>,
    old: HashMap<(usize, u64), Arc<Vec<u8>>>,
}

impl Index {
    /// Opens every table listed now. A table that vanished meanwhile is skipped; a damaged one is remembered in
    /// `damaged`.
    pub(crate) fn open(store: &Store, trust: &Trust, keep_key: &dyn Fn(DomainId) -> Option<Secret>) -> Result<Index> {
        // A prune may replace tables between our listing and our reading: then look again.
        for _ in 0..5 {
            let index = Index::open_once(store, trust, keep_key)?;
            if !index.has_vanished() {
                return Ok(index);
            }
        }
        Index::open_once(store, trust, keep_key)
    }

    fn open_once(store: &Store, trust: &Trust, keep_key: &dyn Fn(DomainId) -> Option<Secret>) -> Result<Index> {
        let mut index = Index {
            store: store.clone(),
            tables: Vec::new(),
            without: HashSet::new(),
            cache: Mutex::default(),
            vanished: AtomicBool::new(false),
            damaged: Vec::new(),
        };
        for listed in store.list(Shelf::Index)? {
            match Table::open(store, trust, keep_key, &listed.key) {
                Ok(Some(table)) => index.tables.push(table),
                Ok(None) => {}
                Err(RepoError::Store(e)) if e.is_absent() => index.vanished.store(true, Ordering::Relaxed),
                Err(e) if e.is_damage() => index.damaged.push((listed.key, e)),
                Err(e) => return Err(e),
            }
        }
        Ok(index)
    }

    /// The runs that the tables listed now name. Opens one table at a time: beside an index, a second one would double
    /// the memory of whoever asks.
    ///
    /// # Errors
    /// `Damaged` for the first table that cannot be used; `Busy` when tables are replaced all the time.
    pub(crate) fn runs(
        store: &Store,
        trust: &Trust,
        keep_key: &dyn Fn(DomainId) -> Option<Secret>,
    ) -> Result<BTreeSet<RunId>> {
        'again: for _ in 0..5 {
            let mut runs = BTreeSet::new();
            for listed in store.list(Shelf::Index)? {
                match Table::open(store, trust, keep_key, &listed.key) {
                    Ok(table) => runs.extend(table.iter().flat_map(|table| &table.origins).map(|origin| origin.run)),
                    Err(RepoError::Store(e)) if e.is_absent() => continue 'again,
                    Err(e) if e.is_damage() => {
                        return Err(RepoError::damaged(listed.key.path(), format!("cannot be used ({e})")));
                    }
                    Err(e) => return Err(e),
                }
            }
            return Ok(runs);
        }
        Err(RepoError::Busy("another prune changed the repository meanwhile: run it again".into()))
    }

    /// Adds a table that was just written.
    pub(crate) fn add(
        &mut self,
        trust: &Trust,
        keep_key: &dyn Fn(DomainId) -> Option<Secret>,
        key: &Key,
    ) -> Result<()> {
        self.tables.extend(Table::open(&self.store, trust, keep_key, key)?);
        Ok(())
    }

    /// From now on chunks in these packs count as absent.
    pub(crate) fn leave_out(&mut self, packs: impl IntoIterator<Item = PackId>) {
        self.without.extend(packs);
    }

    /// From now on tables of revoked keys do not count. For who stores: what such a table says is stored may not be, and a
    /// new snapshot must not rest on it.
    pub(crate) fn leave_out_revoked(&mut self, trust: &Trust) {
        self.tables.retain(|table| trust.revoked(table.signer).is_none());
    }

    /// The packs that have records of these runs.
    pub(crate) fn packs_of_runs(&self, is_one: &dyn Fn(&RunId) -> bool) -> Result<BTreeSet<PackId>> {
        let mut packs = BTreeSet::new();
        for (number, table) in self.tables.iter().enumerate() {
            if !table.origins.iter().any(|origin| is_one(&origin.run)) {
                continue;
            }
            let named = self.table_packs(number);
            let records = self.records_of(number)?;
            let of_run = records.iter().filter(|record| is_one(&record.sealing.origin.run));
            packs.extend(of_run.filter_map(|record| named.get(record.pack as usize)).map(|pack| pack.id));
        }
        Ok(packs)
    }

    /// The names of the tables in use.
    pub(crate) fn table_keys(&self) -> impl Iterator<Item = &Key> {
        self.tables.iter().map(|table| &table.key)
    }

    pub(crate) fn table_count(&self) -> usize {
        self.tables.len()
    }

    pub(crate) fn table_origins(&self, table: usize) -> &[Origin] {
        &self.tables[table].origins
    }

    pub(crate) fn table_entries(&self, table: usize) -> u32 {
        self.tables[table].n_entries
    }

    pub(crate) fn table_domain(&self, table: usize) -> DomainId {
        self.tables[table].domain
    }

    pub(crate) fn table_key(&self, table: usize) -> &Key {
        &self.tables[table].key
    }

    pub(crate) fn table_packs(&self, table: usize) -> &[PackRef] {
        &self.tables[table].packs
    }

    /// Whether a table was replaced since the index was opened.
    pub(crate) fn has_vanished(&self) -> bool {
        self.vanished.load(Ordering::Relaxed)
    }

    /// All records of a table, in their order.
    pub(crate) fn records_of(&self, number: usize) -> Result<Vec<TableRecord>> {
        let table = &self.tables[number];
        let records = table.read_uncached(&self.store, table.layout.records, table.layout.entries)?;
        records.chunks_exact(RECORD_BYTES as usize).map(|record| table.decode_record(record)).collect()
    }

    /// How many entries all tables have.
    pub(crate) fn entries(&self) -> u64 {
        self.tables.iter().map(|table| u64::from(table.n_entries)).sum()
    }

    /// Where a chunk is: the first place that is not left out.
    pub(crate) fn find(&self, id: &ChunkId) -> Result<Option<Hit>> {
        let mut found = None;
        for table in 0..self.tables.len() {
            self.find_in(table, id, &mut |hit| {
                let out = !self.without.is_empty() && self.without.contains(&self.pack_of(&hit)?);
                found = found.or((!out).then_some(hit));
                Ok(found.is_some())
            })?;
            if found.is_some() {
                break;
            }
        }
        Ok(found)
    }

    fn pack_of(&self, hit: &Hit) -> Result<PackId> {
        let record = self.record(hit.table, hit.record)?;
        Ok(self.tables[hit.table].packs[record.pack as usize].id)
    }

    /// Every place where a chunk is, also those left out.
    pub(crate) fn find_all(&self, id: &ChunkId) -> Result<Vec<Hit>> {
        let mut hits = Vec::new();
        for table in 0..self.tables.len() {
            self.find_in(table, id, &mut |hit| {
                hits.push(hit);
                Ok(false)
            })?;
        }
        Ok(hits)
    }

    /// The chunk's place, or `None` when it is in no table.
    pub(crate) fn place(&self, id: &ChunkId) -> Result<Option<Place>> {
        self.find(id)?.map(|hit| self.place_of(&hit)).transpose()
    }

    pub(crate) fn place_of(&self, hit: &Hit) -> Result<Place> {
        let record = self.record(hit.table, hit.record)?;
        let table = &self.tables[hit.table];
        let end = u64::from(hit.offset) + u64::from(hit.len);
        if end > u64::from(record.sealing.plain_len) {
            return Err(RepoError::damaged(table.key.path(), "places a chunk outside its record"));
        }
        Ok(Place {
            pack: table.packs[record.pack as usize].id,
            at: record.at,
            stored_len: record.stored_len,
            sealing: record.sealing,
            domain: table.domain,
            offset: hit.offset,
            len: hit.len,
        })
    }

    pub(crate) fn record(&self, table: usize, record: u32) -> Result<TableRecord> {
        let t = &self.tables[table];
        if record >= t.n_records {
            return Err(RepoError::damaged(t.key.path(), "names a record that is not there"));
        }
        let mut bytes = [0u8; RECORD_BYTES as usize];
        self.read(table, t.layout.records + u64::from(record) * RECORD_BYTES, &mut bytes)?;
        t.decode_record(&bytes)
    }

    /// Looks in one table. A table that a prune replaced meanwhile is as good as empty: what it said stands in its
    /// successor, and `vanished` says so.
    fn find_in(&self, number: usize, id: &ChunkId, enough: &mut dyn FnMut(Hit) -> Result<bool>) -> Result<()> {
        match self.find_in_present(number, id, enough) {
            Err(RepoError::Store(e)) if e.is_absent() => {
                self.vanished.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => other,
        }
    }

    fn find_in_present(&self, number: usize, id: &ChunkId, enough: &mut dyn FnMut(Hit) -> Result<bool>) -> Result<()> {
        let table = &self.tables[number];
        if !filter_has(&table.filter, id) {
            return Ok(());
        }
        let prefix = prefix(id);
        let fence = table.fences.partition_point(|fence| *fence < prefix).saturating_sub(1);
        let mut at = fence as u32 * FENCE_EVERY;
        while at < table.n_entries {
            let count = (table.n_entries - at).min(FENCE_EVERY);
            let mut bytes = [0u8; FENCE_EVERY as usize * ENTRY_BYTES as usize];
            let bytes = &mut bytes[..count as usize * ENTRY_BYTES as usize];
            self.read(number, table.layout.entries + u64::from(at) * ENTRY_BYTES, bytes)?;
            for entry in bytes.chunks_exact(ENTRY_BYTES as usize) {
                match entry[..32].cmp(&id.0[..]) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Greater => return Ok(()),
                    std::cmp::Ordering::Equal => {
                        let mut c = Cursor::new("an index table", &entry[32..]);
                        let hit = Hit { table: number, record: c.u32()?, offset: c.u32()?, len: c.u32()? };
                        if enough(hit)? {
                            return Ok(());
                        }
                    }
                }
            }
            at += count;
        }
        Ok(())
    }

    fn read(&self, number: usize, from: u64, into: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < into.len() {
            let at = from + done as u64;
            let block = self.cached(number, at / BLOCK_BYTES as u64)?;
            let skip = (at % BLOCK_BYTES as u64) as usize;
            let part = block.get(skip..).unwrap_or_default();
            let len = part.len().min(into.len() - done);
            if len == 0 {
                return Err(RepoError::damaged(self.tables[number].key.path(), "ends too early"));
            }
            into[done..done + len].copy_from_slice(&part[..len]);
            done += len;
        }
        Ok(())
    }

    fn cached(&self, table: usize, block: u64) -> Result<Arc<Vec<u8>>> {
        let at = (table, block);
        {
            let mut cache = self.cache.lock().expect("no holder panics");
            if let Some(found) = cache.young.get(&at) {
                return Ok(Arc::clone(found));
            }
            if let Some(found) = cache.old.remove(&at) {
                cache.young.insert(at, Arc::clone(&found));
                return Ok(found);
            }
        }
        let fresh = Arc::new(self.tables[table].block(&self.store, block)?);
        let mut cache = self.cache.lock().expect("no holder panics");
        if cache.young.len() >= CACHE_BLOCKS / 2 {
            cache.old = std::mem::take(&mut cache.young);
        }
        cache.young.insert(at, Arc::clone(&fresh));
        Ok(fresh)
    }

    /// All records of a table with their members, in the order of the records: what merging and pruning walk.
    pub(crate) fn members_of(&self, number: usize) -> Result<Vec<Grouped>> {
        let table = &self.tables[number];
        let mut out: Vec<Grouped> = self.records_of(number)?.into_iter().map(|record| (record, Vec::new())).collect();
        let entries = table.read_uncached(&self.store, table.layout.entries, table.layout.end)?;
        let mut members: Vec<Vec<(u32, Member)>> = vec![Vec::new(); out.len()];
        for entry in entries.chunks_exact(ENTRY_BYTES as usize) {
            let mut c = Cursor::new("an index table", entry);
            let id = ChunkId(c.array()?);
            let (record, offset, len) = (c.u32()? as usize, c.u32()?, c.u32()?);
            // An entry of a record that is not there is no place of anything.
            if let Some(slot) = members.get_mut(record) {
                slot.push((offset, Member { id, len }));
            }
        }
        for ((_, out), mut members) in out.iter_mut().zip(members) {
            members.sort_by_key(|(offset, _)| *offset);
            out.append(&mut members);
        }
        Ok(out)
    }

    /// Adds to `into` table `number` says, but for the packs that `drop` names.
    pub(crate) fn copy_without(&self, number: usize, drop: &HashSet<PackId>, into: &mut TableBuilder) -> Result<()> {
        let packs = self.table_packs(number);
        for (record, members) in self.members_of(number)? {
            let pack = packs[record.pack as usize];
            if !drop.contains(&pack.id) {
                let pack = into.number(pack);
                into.add_record(TableRecord { pack, ..record }, &members);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SignerId;
    use crate::seal::members_digest;
    use std::sync::Arc;
    use store::MemStore;

    fn id(n: u32) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn packed(first: u32, count: u32, at: u32) -> Packed {
        let members: Vec<Member> = (first..first + count).map(|n| Member { id: id(n), len: 10 + n % 7 }).collect();
        let plain_len = members.iter().map(|m| m.len).sum();
        let sealing = Sealing {
            origin: Origin { run: RunId([1; 16]), salt: [(first % 3) as u8; 16] },
            counter: first,
            kind: ChunkKind::Content,
            codec: Codec::Zstd,
            plain_len,
            members: members_digest(&members),
        };
        Packed { sealing, offset: at, stored_len: 100, members }
    }

    fn setup() -> (Store, Trust, Secret, Signing) {
        let signing = Signing::from_seed(&Secret([7; 32]));
        let trust = Trust::new(RepositoryId([1; 16]), signing.public());
        (Store::new(Arc::new(MemStore::new())), trust, Secret([9; 32]), signing)
    }

    #[test]
    fn every_chunk_of_a_table_is_found_and_no_other() {
        let (store, trust, keep, signing) = setup();
        let header = HeaderParts { repository: RepositoryId([1; 16]), domain: DomainId([2; 16]), salt: [3; 32] };
        let mut builder = TableBuilder::default();
        for pack in 0..20u32 {
            let records: Vec<Packed> = (0..10).map(|r| packed(pack * 1000 + r * 100, 100, 96 + r * 100)).collect();
            let pack = PackRef { id: PackId([pack as u8; 32]), bytes: 5000, kind: PackKind::Data };
            builder.add_pack(pack, &records);
        }
        let (key, object) = builder.finish(header, &keep, &signing).expect("not empty");
        store.put_new(&key, &object).expect("stored");
        let keep_key = |_| Some(keep.clone());
        let mut index = Index::open(&store, &trust, &keep_key).expect("opens");
        assert_eq!(index.entries(), 20_000);
        for n in 0..20_000u32 {
            let place = index.place(&id(n)).expect("reads").expect("is there");
            assert_eq!((place.pack.0[0], place.len), ((n / 1000) as u8, 10 + n % 7));
            assert_eq!(place.sealing.counter, n / 100 * 100);
        }
        for n in 20_000..30_000 {
            assert_eq!(index.place(&id(n)).expect("reads"), None);
        }
        index.leave_out([PackId([3; 32])]);
        assert_eq!(index.place(&id(3500)).expect("reads"), None);
        assert!(index.place(&id(4500)).expect("reads").is_some());
        let mut smaller = TableBuilder::default();
        index.copy_without(0, &HashSet::from([PackId([0; 32])]), &mut smaller).expect("copies");
        assert_eq!(smaller.entries(), 19_000);
        assert_eq!(signing.id(), SignerId(signing.id().0));
    }

    #[test]
    fn a_damaged_table_is_named_and_the_rest_works() {
        let (store, trust, keep, signing) = setup();
        let header = HeaderParts { repository: RepositoryId([1; 16]), domain: DomainId([2; 16]), salt: [3; 32] };
        let mut builder = TableBuilder::default();
        builder.add_pack(PackRef { id: PackId([1; 32]), bytes: 1, kind: PackKind::Data }, &[packed(0, 5, 96)]);
        let (_, mut object) = builder.finish(header, &keep, &signing).expect("not empty");
        for at in [0, 5, 30, 100, 150, 200, object.len() - 1] {
            object[at] ^= 1;
            let name = blake3::hash(&object).to_hex().to_string();
            let key = Key::new(Shelf::Index, name).expect("good");
            store.put_new(&key, &object).expect("stored");
            object[at] ^= 1;
        }
        let index = Index::open(&store, &trust, &|_| Some(keep.clone())).expect("opens");
        assert_eq!(index.damaged.len(), 7);
        assert_eq!(index.place(&id(1)).expect("reads"), None);
    }
}
