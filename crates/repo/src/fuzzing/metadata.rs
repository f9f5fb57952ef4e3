//! Targets for what stands inside chunks and paths: numbers, paths, entries, trees and lists.

use super::parts;
use crate::crypt::Secret;
use crate::entry::{self, Node, is_within, key_of_path, path_of_key, percent_path, unpercent_path};
use crate::error::{RepoError, Result};
use crate::format::{Cursor, put_sized, put_varint, put_zigzag};
use crate::id::ChunkId;
use crate::list::{List, Sum};
use crate::tree::{self, Tree, Walk};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Numbers and byte strings: what is read can be written and read again, in no more bytes.
pub(super) fn numbers(data: &[u8]) -> bool {
    fn same<T: PartialEq + std::fmt::Debug>(
        cursor: &mut Cursor<'_>,
        read: impl Fn(&mut Cursor<'_>) -> Result<T>,
        put: impl Fn(&mut Vec<u8>, &T),
    ) -> bool {
        let before = cursor.left();
        let Ok(value) = read(cursor) else { return false };
        let mut out = Vec::new();
        put(&mut out, &value);
        assert!(out.len() <= before - cursor.left(), "the shortest form is written");
        let mut again = Cursor::new("a number", &out);
        assert_eq!(read(&mut again).ok(), Some(value));
        assert!(again.is_empty());
        true
    }
    let mut cursor = Cursor::new("numbers", data);
    while !cursor.is_empty() {
        let kind = cursor.u8().unwrap_or_default();
        let understood = match kind % 5 {
            0 => same(&mut cursor, |c| c.varint(), |out, n| put_varint(out, *n)),
            1 => same(&mut cursor, |c| c.varint32(), |out, n| put_varint(out, u64::from(*n))),
            2 => same(&mut cursor, |c| c.zigzag(), |out, n| put_zigzag(out, *n)),
            3 => same(&mut cursor, |c| c.sized().map(<[u8]>::to_vec), |out, bytes| put_sized(out, bytes)),
            _ => cursor.u16().and_then(|len| cursor.take(usize::from(len))).is_ok(),
        };
        if !understood {
            return false;
        }
    }
    true
}

/// Paths as text and as keys: nothing is lost on the way there and back.
pub(super) fn paths(data: &[u8]) -> bool {
    assert_eq!(unpercent_path(&percent_path(data)), data);
    let text = String::from_utf8_lossy(data);
    let bytes = unpercent_path(&text);
    assert_eq!(unpercent_path(&percent_path(&bytes)), bytes);
    let Some(key) = key_of_path(data) else { return false };
    let path = path_of_key(&key);
    assert_eq!(key_of_path(&path).as_ref(), Some(&key));
    assert!(is_within(&key, &key) && is_within(&key, b""));
    true
}

/// The entries of one leaf: each can be written and read again, and none leads out.
pub(super) fn entries(data: &[u8]) -> bool {
    let mut cursor = Cursor::new("entries", data);
    let mut previous: Option<Vec<u8>> = None;
    while !cursor.is_empty() {
        let Ok(read) = entry::decode(&mut cursor, previous.as_deref()) else { return false };
        let mut out = Vec::new();
        entry::encode(&mut out, &read, previous.as_deref().unwrap_or_default());
        let mut again = Cursor::new("an entry", &out);
        assert_eq!(entry::decode(&mut again, previous.as_deref()).ok().as_ref(), Some(&read));
        assert!(again.is_empty());
        assert_eq!(key_of_path(&path_of_key(&read.key)).as_ref(), Some(&read.key), "a key is a path");
        if let Node::File(file) = &read.node {
            let end = file.stretches().last().map_or(0, |(offset, len)| offset + len);
            assert!(end <= file.size, "data lies in the file");
        }
        previous = Some(read.key);
    }
    previous.is_some()
}

/// Chunks that name each other by their place: the first byte of an id. Counts how often they are asked for.
struct Web<'d> {
    chunks: Vec<&'d [u8]>,
    reads: Cell<usize>,
}

impl Web<'_> {
    fn fetch(&self, id: &ChunkId) -> Result<Arc<Vec<u8>>> {
        self.reads.set(self.reads.get() + 1);
        let chunk = self.chunks.get(usize::from(id.0[0]));
        chunk.map(|chunk| Arc::new(chunk.to_vec())).ok_or(RepoError::MissingChunk(*id))
    }
}

/// A tree of which every chunk is hostile: a walk ends, in order, and reads no more chunks than are named.
pub(super) fn tree(data: &[u8]) -> bool {
    let parts = parts(data);
    let Some((within, chunks)) = parts.split_first() else { return false };
    let web = Web { chunks: chunks.to_vec(), reads: Cell::default() };
    let tree = Tree { root: Some(ChunkId([0; 32])), count: 0, bytes: 0 };
    let mut last: Option<Vec<u8>> = None;
    let mut sound = true;
    for located in Walk::new(&tree, within, Box::new(|id| web.fetch(id))) {
        match located {
            Ok(located) => {
                assert!(is_within(&located.entry.key, within));
                assert!(last.as_ref().is_none_or(|last| *last < located.entry.key), "keys ascend");
                last = Some(located.entry.key);
            }
            Err(_) => sound = false,
        }
    }
    // A chunk of n bytes names at most n / 32 others, and each is gone into once.
    assert!(web.reads.get() <= 1 + data.len() / 32, "{} reads for {} bytes", web.reads.get(), data.len());
    let digest_key = Secret([0; 32]);
    let counted = tree::check(&tree, &|id| web.fetch(id), &digest_key, &mut HashMap::new());
    sound && counted.is_ok() && last.is_some()
}

/// A list of which every node is hostile: reading a stretch, marking and adding up end soon.
pub(super) fn list(data: &[u8]) -> bool {
    let parts = parts(data);
    let Some((range, nodes)) = parts.split_first() else { return false };
    let mut range = Cursor::new("a range", range);
    let (Ok(first), Ok(count)) = (range.varint(), range.u8()) else { return false };
    let web = Web { chunks: nodes.to_vec(), reads: Cell::default() };
    let fetch = |id: &ChunkId| web.fetch(id);
    let list = List { root: Some(ChunkId([0; 32])), count: first.saturating_add(1000), digest: Sum::default() };
    let count = u64::from(count);
    let ids = list.ids(&fetch, first, count);
    assert!(ids.as_ref().is_ok_and(|ids| ids.len() as u64 == count) || ids.is_err());
    // On each level there is one node at most that gives nothing, and no list has more than a dozen levels.
    assert!(web.reads.get() as u64 <= 13 * (count + 2), "{} reads for {count} ids", web.reads.get());
    let (mut entered, mut marked) = (HashSet::new(), 0);
    let mark = list.mark(&fetch, &mut |id| entered.insert(*id), &mut |_| {
        marked += 1;
        Ok(())
    });
    assert!(marked <= list.count);
    let summed = list.summed(&fetch, &Secret([0; 32]), &mut HashMap::new());
    ids.is_ok() && mark.is_ok() && summed.is_ok()
}
