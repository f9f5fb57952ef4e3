//! Seeds: real objects, opened and taken apart into what the targets take.
//!
//! What it may not know: what the targets make of them.

use super::joined;
use super::objects::packed;
use super::site::{self, Site, entries};
use crate::crypt::{Aead, Purpose, derive, nonce};
use crate::entry;
use crate::events::Removal;
use crate::format::{put_sized, put_varint, put_zigzag};
use crate::id::{HeadId, PackId, RunId};
use crate::intent::{Condemned, Process};
use crate::keys::{Masters, protect_key};
use crate::pack::{HEADER_BYTES, encode_trailer};
use serde::Serialize;
use store::{Shelf, Span};

/// A seed, and the name of its target.
pub type Seed = (&'static str, Vec<u8>);

/// Seeds for every target.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = metadata_seeds();
    seeds.extend(site::with(object_seeds));
    seeds.extend(site::with(json_seeds));
    seeds.extend(site::with(key_seeds));
    seeds
}

fn metadata_seeds() -> Vec<Seed> {
    let mut numbers = Vec::new();
    for n in [0, 300, u64::MAX] {
        numbers.push(0);
        put_varint(&mut numbers, n);
        numbers.push(2);
        put_zigzag(&mut numbers, -(n as i64));
        numbers.push(3);
        put_sized(&mut numbers, &n.to_le_bytes());
    }
    let mut leaf = Vec::new();
    let mut previous = Vec::new();
    for one in entries() {
        entry::encode(&mut leaf, &one, &previous);
        previous = one.key;
    }
    let mut seeds = vec![("numbers", numbers), ("entries", leaf.clone()), ("tree", joined(&[b"", &leaf_chunk(&leaf)]))];
    seeds.extend(["/srv/a b", "/\u{e9}%41/x", "/a//b/", "relative", "/a/../b"].map(|p| ("paths", p.into())));
    // A directory over two leaves; and two levels of directories whose children are all the same.
    let leaves = ["a", "b"].map(|name| {
        let mut leaf = Vec::new();
        entry::encode(&mut leaf, &entry::Entry { key: name.into(), ..entries().swap_remove(0) }, b"");
        leaf_chunk(&leaf)
    });
    let node = node_chunk(1, &[("a", 1), ("b", 2)]);
    seeds.push(("tree", joined(&[b"", &node, &leaves[0], &leaves[1]])));
    seeds.push(("tree", joined(&[b"b", &node, &leaves[0], &leaves[1]])));
    let [upper, lower] = [node_chunk(2, &[("a", 1); 20]), node_chunk(1, &[("a", 2); 20])];
    seeds.push(("tree", joined(&[b"", &upper, &lower, &leaves[0]])));
    // Lists: ids, a node over two leaves, and levels whose children claim to hold nothing.
    let leaf = [&[0][..], &[7; 32 * 5]].concat();
    let list_node = |level: u8, child: u8, ids: &[u64]| {
        let mut node = vec![level];
        for ids in ids {
            node.push(child);
            node.extend_from_slice(&[0; 31]);
            node.extend_from_slice(&ids.to_le_bytes());
        }
        node
    };
    let hollow: Vec<u64> = std::iter::once(1).chain([0; 20]).collect();
    let [upper, lower] = [list_node(2, 1, &hollow), list_node(1, 2, &hollow)];
    seeds.push(("list", joined(&[&[2, 3], &leaf])));
    seeds.push(("list", joined(&[&[3, 4], &list_node(1, 1, &[5, 5]), &leaf])));
    seeds.push(("list", joined(&[&[0, 14], &upper, &lower, &leaf])));
    seeds
}

fn leaf_chunk(entries: &[u8]) -> Vec<u8> {
    [&[0, 1], entries].concat()
}

fn node_chunk(level: u8, children: &[(&str, u8)]) -> Vec<u8> {
    let mut node = vec![level, 1];
    for (first, child) in children {
        put_sized(&mut node, first.as_bytes());
        node.push(*child);
        node.extend_from_slice(&[0; 31]);
        [0, 1, 0].iter().for_each(|n| put_varint(&mut node, *n));
    }
    node
}

fn object_seeds(site: &Site) -> Vec<Seed> {
    let record =
        |codec: u8, len: usize, bytes: &[u8]| ("record", [&[codec][..], &(len as u32).to_le_bytes(), bytes].concat());
    let plain = b"some plain bytes, some plain bytes, some plain bytes";
    let frame = zstd::bulk::compress(plain, 3).expect("compresses");
    let mut seeds = vec![record(0, plain.len(), plain), record(1, plain.len(), &frame), record(1, 5, &frame)];
    let two = [packed(site), packed(site)];
    seeds.push(("pack", [&1000u16.to_le_bytes()[..], &encode_trailer(&two)].concat()));
    for listed in site.store().list(Shelf::Index).expect("lists") {
        let mut object = site.store().get(&listed.key, Span::Whole).expect("reads");
        let (clear, rest) = object.split_at_mut(HEADER_BYTES);
        let salt = &clear[56..88];
        let key = Aead::new(&derive(Purpose::Index, &[&site.keys.keep_key.0, salt]));
        let (head, body) = rest[4..].split_at_mut(80);
        let head = key.open(nonce(u64::MAX), clear, head).expect("is ours");
        let mut plain = Vec::new();
        for (number, block) in body[64..].chunks_mut(8192 + 16).enumerate() {
            plain.extend_from_slice(key.open(nonce(number as u64), clear, block).expect("is ours"));
        }
        seeds.push(("index", joined(&[head, &plain])));
    }
    seeds.extend([&b"\0\x05\0\0\0plain"[..], b"\x01\x05\0\0\0plain"].map(|bytes| ("segment", bytes.to_vec())));
    seeds.push(("segment", [&[1, plain.len() as u8, 0, 0, 0][..], &frame].concat()));
    seeds
}

/// What the envelopes on a shelf hold.
fn bodies(site: &Site, shelf: Shelf, prefix: &str) -> Vec<Vec<u8>> {
    let listed = site.store().list_prefix(shelf, prefix).expect("lists");
    let objects = listed.iter().map(|listed| site.store().get(&listed.key, Span::Whole).expect("reads"));
    objects.map(|object| object[28..object.len() - 64].to_vec()).collect()
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("is plain data")
}

fn json_seeds(site: &Site) -> Vec<Seed> {
    let sealed = site.snapshot.record.open_sealed(&site.data_key()).expect("is ours");
    let mut seeds = vec![("snapshot", joined(&[&json(&site.snapshot.public), &json(&sealed)]))];
    let mut put = |kind: u8, body: &[u8]| seeds.push(("envelope", [&[kind], body].concat()));
    let removal = Removal { snapshot: &site.snapshot, why: "too old".into() };
    site.repository.note_removals(&[removal], "owner").expect("stores");
    for (kind, shelf, prefix) in
        [(0, Shelf::Heads, ""), (1, Shelf::Intents, ""), (3, Shelf::Keys, "cert-"), (4, Shelf::Events, "")]
    {
        bodies(site, shelf, prefix).iter().for_each(|body| put(kind, body));
    }
    let condemned = Condemned {
        v: 1,
        packs: vec![PackId([1; 32])],
        runs: vec![RunId([2; 16])],
        tips: vec![HeadId([3; 32])],
        ..Condemned::default()
    };
    put(2, &json(&condemned));
    put(5, br#"{"at":"2025-01-01T00:00:00Z","tags":["a"],"hold":"legal","verified":{"depth":"digests","at":"now"}}"#);
    put(6, &json(&Process { host: "host".into(), pid: 7, ..Process::default() }));
    put(7, b"BSHD\x01\0\0\0");
    seeds
}

fn key_seeds(site: &Site) -> Vec<Seed> {
    let config = json(&site.repository.config);
    let masters = json(&Masters::sign(&site.owner));
    let kit = site.repository.identity().expect("an owner reads").as_bytes().to_vec();
    let run = [&b"BSRN"[..], &1u32.to_le_bytes(), &site.repository.id().0, &[3; 16], &[8; 32]].concat();
    let protected = protect_key("key", "passphrase").expect("is made");
    let mut seeds = vec![("config", config), ("keys", masters), ("keys", kit), ("keys", run)];
    seeds.push(("keys", protected.into_bytes()));
    seeds.push(("keys", site.owner.to_json().as_bytes().to_vec()));
    seeds.push(("keys", b"a passphrase\n".to_vec()));
    seeds
}
