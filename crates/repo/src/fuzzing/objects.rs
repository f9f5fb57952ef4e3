//! Targets for objects: the hostile bytes are what a writer with valid keys seals and signs, or the object as it is.

use super::parts;
use super::site::{self, Site};
use crate::b64;
use crate::crypt::{self, Aead, Purpose, derive, nonce, seal_small};
use crate::envelope::{self, Seal};
use crate::events::Event;
use crate::format::Cursor;
use crate::head::{Edit, Head};
use crate::id::{ChunkId, IntentId, RunId, SourceId};
use crate::index::{HeaderParts, Index, TableBuilder};
use crate::intent::{self, Condemned, Process};
use crate::keys::{Bundle, Credential, Masters, age_unwrap, age_wrap, is_protected_key};
use crate::ledger::SegmentName;
use crate::pack::{self, Header, PackBuilder, PackHeader, PackKind, Packed};
use crate::read::Want;
use crate::repository::Repository;
use crate::runs::Runs;
use crate::seal::{ChunkKind, Codec, Member, Origin, RECORD_PLAIN_MAX, Sealing, Unsealer, members_digest, record_key};
use crate::snapshot::{Public, Record};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::sync::Arc;
use store::{Key, MemStore, Shelf, Store};

const SALT: [u8; 32] = [5; 32];

/// A sealed record: the codec, the length it claims, and what is sealed.
pub(super) fn record(data: &[u8]) -> bool {
    let mut cursor = Cursor::new("a record", data);
    let (Ok(codec), Ok(plain_len)) = (cursor.u8(), cursor.u32()) else { return false };
    let mut bytes = cursor.take(cursor.left()).unwrap_or_default().to_vec();
    site::with(|site| {
        let sealing = Sealing {
            origin: Origin { run: site.run(), salt: [1; 16] },
            counter: 7,
            kind: ChunkKind::Content,
            codec: if codec == 0 { Codec::Raw } else { Codec::Zstd },
            plain_len,
            members: [0; 16],
        };
        let key = record_key(sealing.kind, &site.keys.keep_key, &sealing.origin);
        let id = site.repository.id();
        key.seal(nonce(u64::from(sealing.counter)), &sealing.aad(id), &mut bytes);
        let opened = Unsealer::new(id).expect("is made").open(&key, &sealing, bytes);
        assert!(opened.as_ref().map_or(0, Vec::len) <= RECORD_PLAIN_MAX, "a record is bounded");
        opened.is_ok_and(|plain| plain.len() == plain_len as usize)
    })
}

/// A pack: the object as it is, or a trailer that is sealed and signed behind a body of some length.
pub(super) fn pack(data: &[u8]) -> bool {
    let mut cursor = Cursor::new("a pack", data);
    let Ok(body) = cursor.u16() else { return false };
    let rest = cursor.take(cursor.left()).unwrap_or_default();
    site::with(|site| {
        let (trust, keep_key) = (&site.repository.trust, |domain| site.repository.keep_key(domain));
        pack::read_whole(trust, keep_key, rest).ok();
        let header = PackHeader {
            repository: site.repository.id(),
            domain: site.domain(),
            signer: site.signing.id(),
            kind: PackKind::Data,
            salt: SALT,
        };
        let object = pack_of(site, header, usize::from(body), rest);
        let whole = pack::read_whole(trust, keep_key, &object);
        let id = crate::id::PackId(*blake3::hash(&object).as_bytes());
        site.store().put_new(&pack::pack_key(&id), &object).expect("memory takes it");
        let tail = pack::read_trailer(site.store(), trust, keep_key, &id);
        assert_eq!(whole.is_ok(), tail.is_ok());
        let Ok(whole) = whole else { return false };
        assert_eq!(whole.records, tail.expect("as the whole").records);
        // What was read can be written and read again; the place of a record is where it is put.
        let bytes: usize = whole.records.iter().map(|record| record.stored_len as usize).sum();
        if bytes <= 1 << 20 {
            let header = PackHeader { salt: SALT, repository: site.repository.id(), ..parts_of(&whole.header) };
            let mut builder = PackBuilder::new(header, bytes);
            for record in &whole.records {
                builder.add_raw(record.sealing, &record.members, &vec![0; record.stored_len as usize]);
            }
            let again = builder.finish(&site.keys.keep_key, &site.signing);
            let read = pack::read_whole(trust, keep_key, &again.bytes).expect("is sound");
            let placed = |records: &[Packed]| -> Vec<_> {
                records.iter().map(|r| (r.sealing, r.stored_len, r.members.clone())).collect()
            };
            assert_eq!(placed(&read.records), placed(&whole.records));
        }
        !whole.records.is_empty()
    })
}

fn parts_of(header: &Header) -> PackHeader {
    let Header { repository, domain, signer, salt, .. } = *header;
    PackHeader { repository, domain, signer, kind: PackKind::Data, salt }
}

fn pack_of(site: &Site, header: PackHeader, body: usize, trailer: &[u8]) -> Vec<u8> {
    let PackHeader { repository, domain, signer, kind, salt } = header;
    let clear = Header { magic: *b"BSPK", kind: kind as u8, repository, domain, signer, salt }.encode();
    let mut sealed = trailer.to_vec();
    Aead::new(&derive(Purpose::Trailer, &[&site.keys.keep_key.0, &salt])).seal(nonce(0), &clear, &mut sealed);
    let mut object = clear.to_vec();
    object.resize(clear.len() + body, 0);
    object.extend_from_slice(&sealed);
    let len = (sealed.len() as u32).to_le_bytes();
    let digest = blake3::hash(&object);
    let signature = site.signing.sign(&[b"backstay v1 pack\0", &repository.0, digest.as_bytes(), &len]);
    [&object[..], &len, b"BSPE", &signature].concat()
}

/// How the plain head of an index table begins, and how many bytes its body then has.
fn body_bytes(head: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new("a head", head);
    let [packs, origins, records, entries, filter] =
        [cursor.u32().ok()?, cursor.u32().ok()?, cursor.u32().ok()?, cursor.u32().ok()?, cursor.u32().ok()?];
    let fences = u64::from(entries.div_ceil(64)) * 8;
    let arrays = [(packs, 40), (origins, 32), (records, 44), (entries, 44), (filter, 1)];
    Some(arrays.iter().fold(fences, |sum, (count, bytes)| sum + u64::from(*count) * bytes))
}

/// An index table: its plain head, and its body, which is cut or filled up to the length that the head says.
pub(super) fn index(data: &[u8]) -> bool {
    let parts = parts(data);
    let (Some(head), Some(body)) = (parts.first(), parts.get(1)) else { return false };
    site::with(|site| {
        let mut head = head.to_vec();
        head.resize(64, 0);
        let mut body = body.to_vec();
        if let Some(len) = body_bytes(&head).filter(|len| *len <= 1 << 18) {
            body.resize(len as usize, 0);
        }
        let header = Header {
            magic: *b"BSIX",
            kind: 0,
            repository: site.repository.id(),
            domain: site.domain(),
            signer: site.signing.id(),
            salt: SALT,
        };
        let clear = header.encode();
        let key = Aead::new(&derive(Purpose::Index, &[&site.keys.keep_key.0, &SALT]));
        key.seal(nonce(u64::MAX), &clear, &mut head);
        let len = (head.len() as u32).to_le_bytes();
        let signature = site.signing.sign(&[b"backstay v1 index\0", &header.repository.0, &clear, &len, &head]);
        let mut object = [&clear[..], &len, &head, &signature].concat();
        for (number, plain) in body.chunks(8192).enumerate() {
            let mut block = plain.to_vec();
            key.seal(nonce(number as u64), &clear, &mut block);
            object.extend_from_slice(&block);
        }
        let ids = body.rchunks_exact(44).map(|entry| ChunkId(entry[..32].try_into().expect("32 of 44 bytes")));
        let ids: Vec<ChunkId> = ids.take(64).collect();
        use_table(site, &site.put(Shelf::Index, "", &object), &ids)
    })
}

/// Asks a table for everything that it can be asked for; whether it could be opened and each of its records is possible.
fn use_table(site: &Site, key: &Key, ids: &[ChunkId]) -> bool {
    let repository = &site.repository;
    let keep_key = |domain| repository.keep_key(domain);
    let index = Index::open(site.store(), &repository.trust, &keep_key).expect("one bad table stops nobody");
    let Some(table) = (0..index.table_count()).find(|table| index.table_key(*table) == key) else { return false };
    let grouped = index.members_of(table);
    for id in ids {
        for hit in index.find_all(id).unwrap_or_default() {
            let place = index.place_of(&hit);
            assert!(place.is_err() || place.is_ok_and(|place| place.len() as usize <= RECORD_PLAIN_MAX));
        }
    }
    let mut merged = TableBuilder::default();
    let copied = index.copy_without(table, &HashSet::new(), &mut merged);
    let entries = merged.entries();
    let header = HeaderParts { repository: repository.id(), domain: site.domain(), salt: [6; 32] };
    if let (Ok(()), Some((key, object))) = (&copied, merged.finish(header, &site.keys.keep_key, &site.signing)) {
        site.store().put_new(&key, &object).expect("memory takes it");
        let index = Index::open(site.store(), &repository.trust, &keep_key).expect("opens");
        let again = (0..index.table_count()).find(|table| *index.table_key(*table) == key).expect("is sound");
        assert_eq!(index.table_entries(again) as usize, entries, "what was read was written");
    }
    // What a table says of places leads to an error at worst.
    let reading = repository.reading(&Process::default()).expect("reads");
    let chunks = reading.chunks();
    let wanted = ids.iter().filter_map(|id| {
        chunks.chunk(id).ok();
        Some(Want { id: *id, place: chunks.places(id).ok()?.into_iter().next()?, tag: 0 })
    });
    let wanted: Vec<Want> = wanted.collect();
    chunks.fetch(&repository.world, &wanted, &|_, _| Ok(())).expect("a bad place is noted");
    grouped.is_ok_and(|grouped| !grouped.is_empty())
}

/// What is written again after it was read: the same, however often.
fn settled<T: Serialize + DeserializeOwned>(read: &T) {
    let text = serde_json::to_vec(read).expect("is plain data");
    let again: T = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(serde_json::to_vec(&again).expect("is plain data"), text);
}

/// A snapshot record: the plain public part, the plain sealed part. Signed, committed, listed, opened and walked.
pub(super) fn snapshot(data: &[u8]) -> bool {
    let parts = parts(data);
    let (Some(public), Some(sealed)) = (parts.first(), parts.get(1)) else { return false };
    site::with(|site| {
        let (repository, domain, run) = (site.repository.id(), site.domain(), site.run());
        let aad: [&[u8]; 4] = [b"BSSN public", &repository.0, &domain.0, &run.0];
        let public = seal_small(Purpose::Public, &site.keys.keep_key, SALT, &aad, public);
        let digest = blake3::hash(&public);
        let aad: [&[u8]; 2] = [b"BSSN sealed", digest.as_bytes()];
        let sealed = seal_small(Purpose::Snapshot, &site.data_key(), SALT, &aad, sealed);
        let mut record = [&b"BSSN"[..], &[1, 1, 0, 0]].concat();
        for id in [&repository.0, &domain.0, &run.0, &site.signing.id().0] {
            record.extend_from_slice(id);
        }
        for part in [&public, &sealed] {
            record.extend_from_slice(&(part.len() as u32).to_le_bytes());
            record.extend_from_slice(part);
        }
        record.extend_from_slice(&site.signing.sign(&[b"backstay v1 snapshot\0", &record]));
        Record::decode(&site.repository.trust, data).expect_err("nobody signed this");
        let decoded = Record::decode(&site.repository.trust, &record).expect("is signed");
        if let Ok(public) = decoded.open_public(repository, &site.keys.keep_key) {
            // JSON keeps the last digit of such a number only in some programs.
            settled(&Public { stats: crate::snapshot::Stats { seconds: 0.0, ..public.stats }, ..public });
        }
        let head = Head { adds: vec![b64::encode(&record)], ..next_head(site) };
        site.put(Shelf::Heads, "", &close(site, Seal::Head, &head));
        read_all(site, decoded.id)
    })
}

fn next_head(site: &Site) -> Head {
    site.repository.state().expect("loads").next(&site.repository.world)
}

fn close<T: Serialize>(site: &Site, seal: Seal, body: &T) -> Vec<u8> {
    envelope::close(seal, site.repository.id(), &site.signing, body).expect("is within its limit")
}

/// Lists the snapshots and reads as much of one as a restore does, within bounds.
fn read_all(site: &Site, id: crate::id::SnapshotId) -> bool {
    const STEPS: usize = 1000;
    let snapshots = site.repository.snapshots().expect("one bad record stops nobody");
    site.repository.history_problems().expect("lists");
    let Some(snapshot) = snapshots.iter().find(|snapshot| snapshot.id == id) else { return false };
    let reading = site.repository.reading(&Process::default()).expect("reads");
    let Ok(reader) = reading.open(snapshot) else { return false };
    let mut sound = true;
    for located in reader.entries(b"").take(STEPS) {
        let Ok(located) = located else {
            sound = false;
            continue;
        };
        for id in reader.ids(located.first, 8).unwrap_or_default() {
            reader.locate(&id).ok();
        }
    }
    reader.ids(reader.count(), reader.count()).ok();
    let checked = reader.check(&site.keys.list_digest(), &mut crate::read::Checked::default());
    sound && checked.is_ok()
}

/// A signed envelope. The first byte says what of: the body, or the note in it, is hostile.
pub(super) fn envelope(data: &[u8]) -> bool {
    let Some((kind, body)) = data.split_first() else { return false };
    site::with(|site| match kind % 8 {
        0 => head(site, &signed(site, Seal::Head, body)),
        1 => announcement(site, body),
        2 => {
            let object = signed(site, Seal::Condemned, body);
            site.put(Shelf::Condemned, "", &object);
            body_settles::<Condemned>(site, Seal::Condemned, &object);
            intent::condemned(site.store(), &site.repository.trust).is_ok()
        }
        3 => {
            let mut trust = site.repository.trust.clone();
            trust.enrol(&signed(site, Seal::Certificate, body)).is_ok()
        }
        4 => {
            site.put(Shelf::Events, "", &signed(site, Seal::Event, body));
            body_settles::<Event>(site, Seal::Event, &signed(site, Seal::Event, body))
        }
        5 => {
            let (id, domain) = (site.snapshot.id, site.domain());
            let aad: [&[u8]; 3] = [b"BSHD note", &site.repository.id().0, &domain.0];
            let note = b64::encode(&seal_small(Purpose::Public, &site.keys.keep_key, SALT, &aad, body));
            let edited = Head { edits: vec![Edit { id, domain, note }], ..next_head(site) };
            head(site, &close(site, Seal::Head, &edited))
        }
        6 => {
            let aad: [&[u8]; 3] = [b"BSIN note", &site.repository.id().0, &site.domain().0];
            let note = b64::encode(&seal_small(Purpose::Public, &site.keys.keep_key, SALT, &aad, body));
            let (intent, domain) = (IntentId([1; 16]), site.domain());
            let body = serde_json::json!({
                "v": 1, "intent": intent, "kind": "write", "domain": domain, "seq": 0, "tips": [], "note": note
            });
            announcement(site, body.to_string().as_bytes())
        }
        _ => {
            // The object as it is: nobody signed it.
            let trust = &site.repository.trust;
            for seal in [Seal::Head, Seal::Intent, Seal::Condemned, Seal::Certificate, Seal::Event] {
                envelope::open::<serde_json::Value>(seal, trust, body).expect_err("nobody signed this");
            }
            false
        }
    })
}

/// The envelope of a body that need not be JSON, signed by root, who may say everything.
fn signed(site: &Site, seal: Seal, body: &[u8]) -> Vec<u8> {
    let root = site.repository.keyring.root().expect("an owner is root");
    let magic: &[u8] = match seal {
        Seal::Head => b"BSHD",
        Seal::Intent => b"BSIN",
        Seal::Condemned => b"BSCO",
        Seal::Certificate => b"BSCE",
        Seal::Event => b"BSEV",
    };
    let len = (body.len() as u32).to_le_bytes();
    let object = [magic, &[1, 0, 0, 0], &root.id().0, &len, body].concat();
    let signature = root.sign(&[b"backstay v1 envelope\0", &site.repository.id().0, &object]);
    [&object[..], &signature].concat()
}

fn body_settles<T: Serialize + DeserializeOwned>(site: &Site, seal: Seal, object: &[u8]) -> bool {
    let opened = envelope::open::<T>(seal, &site.repository.trust, object);
    opened.is_ok_and(|(body, _)| {
        settled(&body);
        true
    })
}

/// A head among the others: the history can be read, folded into a checkpoint and read again.
fn head(site: &Site, object: &[u8]) -> bool {
    body_settles::<Head>(site, Seal::Head, object);
    site.put(Shelf::Heads, "", object);
    let repository = &site.repository;
    repository.history_problems().expect("one bad head stops nobody");
    repository.removed().expect("lists");
    let state = repository.state().expect("loads");
    let before: Vec<_> = state.snapshots(&repository.trust, &repository.keyring).expect("lists");
    let Ok(state) = state.whole() else { return false };
    let folded = close(site, Seal::Head, &state.checkpoint(&repository.world));
    site.put(Shelf::Heads, "", &folded);
    let after = repository.snapshots().expect("lists");
    let told = |s: &crate::head::Snapshot| (s.id, s.order, s.tags.clone(), s.hold.clone(), s.verified.clone());
    assert_eq!(after.iter().map(told).collect::<Vec<_>>(), before.iter().map(told).collect::<Vec<_>>());
    true
}

/// An announcement under the name that its body says.
fn announcement(site: &Site, body: &[u8]) -> bool {
    let named = serde_json::from_slice::<serde_json::Value>(body).ok();
    let named = named.and_then(|body| IntentId::parse(body.get("intent")?.as_str()?)).unwrap_or_default();
    let object = signed(site, Seal::Intent, body);
    for step in ["00000000", "end"] {
        site.put(Shelf::Intents, &format!("{named}.{step}"), &object);
    }
    let keep_key = |domain| site.repository.keep_key(domain);
    let (all, damaged) = intent::announced(site.store(), &site.repository.trust, &keep_key).expect("lists");
    damaged.is_empty() && all.get(&named).is_some_and(|announced| announced.process.is_some())
}

/// A segment of an archive: kept and given back; and an object in its place, as it is.
pub(super) fn segment(data: &[u8]) -> bool {
    site::with(|site| {
        let ledger = site.repository.ledger("archive").expect("an owner has one");
        let name = SegmentName { timeline: 1, number: 2 };
        ledger.append(name, data).expect("stores");
        assert_eq!(ledger.get(name).expect("reads").as_deref(), Some(data));
        let source = site.store().list(Shelf::Ledger).expect("lists")[0].key.name()[..32].to_owned();
        let place = format!("{source}/00000001/{:016x}.{}", 3, "00".repeat(16));
        let source = SourceId::parse(&source).expect("an id");
        site.put(Shelf::Ledger, &place, data);
        site.put(Shelf::Ledger, &place.replace("0003.", "0004."), &segment_of(site, source, data));
        for number in [3, 4] {
            ledger.get(SegmentName { timeline: 1, number }).expect_err("is not what its name says");
        }
        ledger.coverage().expect("lists");
        true
    })
}

/// A signed segment number 4 whose codec and length are the first five bytes, and whose plain bytes are the rest.
fn segment_of(site: &Site, source: SourceId, data: &[u8]) -> Vec<u8> {
    let (codec, rest) = data.split_first().unwrap_or((&0, &[]));
    let (len, plain) = rest.split_first_chunk::<4>().unwrap_or((&[0; 4], rest));
    let mut object = [&b"BSWL"[..], &[1, 1, codec % 2, 0]].concat();
    for id in [&site.repository.id().0, &site.domain().0, &site.signing.id().0, &source.0] {
        object.extend_from_slice(id);
    }
    object.extend_from_slice(&1u32.to_le_bytes());
    object.extend_from_slice(&4u64.to_le_bytes());
    object.extend_from_slice(len);
    let key = crypt::Secret([9; 32]);
    let mut cipher = plain.to_vec();
    Aead::new(&key).seal(nonce(0), &object, &mut cipher);
    let wrapped = age_wrap(&site.repository.config.recipients, &key.0).expect("wraps");
    for part in [&wrapped, &cipher] {
        object.extend_from_slice(&(part.len() as u32).to_le_bytes());
        object.extend_from_slice(part);
    }
    let signature = site.signing.sign(&[b"backstay v1 segment\0", &object]);
    object.extend_from_slice(&signature);
    object
}

/// Keys as people hand them in, as they are stored, and what is wrapped to them.
pub(super) fn keys(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    is_protected_key(&text);
    crypt::unarmored(&text);
    let parsed = Credential::parse(&text);
    if let Ok(Credential::Bundle(bundle)) = &parsed {
        let json = bundle.to_json();
        let again = Bundle::from_json(&json).expect("what was written can be read");
        assert_eq!(*again.to_json(), *json);
    }
    site::with(|site| {
        let identity = site.repository.keyring.opening().expect("an owner reads");
        age_unwrap(identity, data);
        if let Ok(masters) = serde_json::from_slice::<Masters>(data) {
            masters.reader(identity);
        }
        let wrapped = age_wrap(&site.repository.config.recipients, data).expect("wraps");
        let run = RunId([3; 16]);
        site.put(Shelf::Runs, &run.to_string(), &wrapped);
        Runs::new(site.store(), site.repository.id(), identity).keys(run).ok();
    });
    parsed.is_ok()
}

/// The configuration: the object as it is, and its first line signed by root.
pub(super) fn config(data: &[u8]) -> bool {
    let line = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    site::with(|site| {
        let root = site.repository.keyring.root().expect("an owner is root");
        let signature = crate::id::hex(&root.sign(&[b"backstay v1 config\0", line]));
        let end = format!("\n{{\"signature\":\"{signature}\"}}\n");
        let open = |object: &[u8]| {
            let store = Store::new(Arc::new(MemStore::new()));
            let key = Key::new(Shelf::Root, "backstay.json").expect("a good name");
            store.put_new(&key, object).expect("memory takes it");
            let credential = Credential::Bundle(Box::new(site.owner.clone()));
            Repository::open(&store, &site.repository.world, &credential)
        };
        open(data).ok();
        let Ok(opened) = open(&[line, end.as_bytes()].concat()) else { return false };
        settled(&opened.config);
        true
    })
}

/// A record of a pack, for seeds.
pub(super) fn packed(site: &Site) -> Packed {
    let members = vec![Member { id: ChunkId([1; 32]), len: 40 }, Member { id: ChunkId([2; 32]), len: 60 }];
    let sealing = Sealing {
        origin: Origin { run: site.run(), salt: [4; 16] },
        counter: 1,
        kind: ChunkKind::Content,
        codec: Codec::Raw,
        plain_len: 100,
        members: members_digest(&members),
    };
    Packed { sealing, offset: 96, stored_len: 116, members }
}
