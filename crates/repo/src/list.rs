//! Merkle lists of chunk ids: nodes are chunks cut by content, so snapshots share the stretches that did not change and
//! marking costs what changed (`docs/format.md` §8.2).

use crate::crypt::Secret;
use crate::error::{RepoError, Result};
use crate::format::Cursor;
use crate::id::{ChunkId, hex, unhex};
use serde::{Deserialize, Serialize};

const LEAF_MIN: usize = 256;
const LEAF_MAX: usize = 4096;
const LEAF_MODULUS: u32 = 1024;
const NODE_MIN: usize = 32;
const NODE_MAX: usize = 1024;
const NODE_MODULUS: u32 = 128;
/// More levels than any list that fits on Earth.
const LEVEL_MAX: u8 = 12;

/// A list, by its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    pub(crate) root: Option<ChunkId>,
    /// How many ids, with repetition.
    pub count: u64,
    pub(crate) digest: Sum,
}

/// An order-free digest: the sum of keyed hashes, modulo 2^256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Sum([u64; 4]);

impl Sum {
    pub(crate) fn add(&mut self, key: &Secret, id: &ChunkId) {
        let hash = *blake3::keyed_hash(&key.0, &id.0).as_bytes();
        let mut one = Sum::default();
        for (limb, bytes) in one.0.iter_mut().zip(hash.chunks_exact(8)) {
            *limb = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        }
        self.merge(&one);
    }

    pub(crate) fn merge(&mut self, other: &Sum) {
        let mut carry = 0u64;
        for (limb, value) in self.0.iter_mut().zip(other.0) {
            let sum = u128::from(*limb) + u128::from(value) + u128::from(carry);
            *limb = sum as u64;
            carry = (sum >> 64) as u64;
        }
    }
}

impl Serialize for Sum {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|limb| limb.to_le_bytes()).collect();
        s.serialize_str(&hex(&bytes))
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        let bytes: [u8; 32] = unhex(&text).ok_or_else(|| serde::de::Error::custom("not a digest"))?;
        let mut limbs = [0u64; 4];
        for (limb, bytes) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            *limb = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        }
        Ok(Sum(limbs))
    }
}

/// What was added up of nodes.
pub(crate) type Memo = std::collections::HashMap<ChunkId, (u64, Sum)>;

/// Takes a finished node: its id and bytes.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(ChunkId, Vec<u8>) -> Result<()>;

/// Builds a list, id by id; memory does not grow with it.
pub(crate) struct ListBuilder {
    id_key: Secret,
    digest_key: Secret,
    leaf: Vec<u8>,
    levels: Vec<Vec<(ChunkId, u64)>>,
    count: u64,
    digest: Sum,
}

fn modulus_of(id: &ChunkId) -> u32 {
    u32::from_le_bytes(id.0[28..].try_into().expect("four bytes"))
}

impl ListBuilder {
    pub(crate) fn new(id_key: Secret, digest_key: Secret) -> Self {
        ListBuilder { id_key, digest_key, leaf: vec![0], levels: Vec::new(), count: 0, digest: Sum::default() }
    }

    pub(crate) fn push(&mut self, id: ChunkId, emit: Emit<'_>) -> Result<()> {
        self.count += 1;
        self.digest.add(&self.digest_key, &id);
        self.leaf.extend_from_slice(&id.0);
        let n = self.leaf.len() / 32;
        if (n >= LEAF_MIN && modulus_of(&id).is_multiple_of(LEAF_MODULUS)) || n >= LEAF_MAX {
            self.flush_leaf(emit)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self, emit: Emit<'_>) -> Result<List> {
        if self.leaf.len() > 1 {
            self.flush_leaf(emit)?;
        }
        let mut level = 0;
        let root = loop {
            let Some(children) = self.levels.get_mut(level) else { break None };
            let children = std::mem::take(children);
            let top = self.levels[level + 1..].iter().all(Vec::is_empty);
            match children.as_slice() {
                [(only, _)] if top => break Some(*only),
                [] => {}
                _ => self.flush_node(level, children, emit)?,
            }
            level += 1;
        };
        Ok(List { root, count: self.count, digest: self.digest })
    }

    fn flush_leaf(&mut self, emit: Emit<'_>) -> Result<()> {
        let bytes = std::mem::replace(&mut self.leaf, vec![0]);
        let ids = (bytes.len() / 32) as u64;
        let id = self.emit(bytes, emit)?;
        self.push_child(0, id, ids, emit)
    }

    fn push_child(&mut self, level: usize, id: ChunkId, ids: u64, emit: Emit<'_>) -> Result<()> {
        if self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        let children = &mut self.levels[level];
        children.push((id, ids));
        let n = children.len();
        if (n >= NODE_MIN && modulus_of(&id).is_multiple_of(NODE_MODULUS)) || n >= NODE_MAX {
            let children = std::mem::take(children);
            self.flush_node(level, children, emit)?;
        }
        Ok(())
    }

    fn flush_node(&mut self, level: usize, children: Vec<(ChunkId, u64)>, emit: Emit<'_>) -> Result<()> {
        let mut bytes = vec![u8::try_from(level + 1).expect("few levels")];
        for (id, ids) in &children {
            bytes.extend_from_slice(&id.0);
            bytes.extend_from_slice(&ids.to_le_bytes());
        }
        let id = self.emit(bytes, emit)?;
        self.push_child(level + 1, id, children.iter().map(|(_, ids)| ids).sum(), emit)
    }

    fn emit(&self, bytes: Vec<u8>, emit: Emit<'_>) -> Result<ChunkId> {
        let id = ChunkId(*blake3::keyed_hash(&self.id_key.0, &bytes).as_bytes());
        emit(id, bytes)?;
        Ok(id)
    }
}

enum ListNode {
    Leaf(Vec<ChunkId>),
    Children(Vec<(ChunkId, u64)>),
}

fn decode(bytes: &[u8], level: Option<u8>) -> Result<(u8, ListNode)> {
    let mut cursor = Cursor::new("a list of chunks", bytes);
    let found = cursor.u8()?;
    if level.is_some_and(|level| level != found) || found > LEVEL_MAX {
        return Err(cursor.bad("has a node on the wrong level"));
    }
    let mut leaf = Vec::new();
    let mut children = Vec::new();
    while !cursor.is_empty() {
        let id = ChunkId(cursor.array()?);
        match found {
            0 => leaf.push(id),
            _ => children.push((id, cursor.u64()?)),
        }
    }
    // A node without ids would let few chunks pretend to be a list without end.
    if leaf.is_empty() && children.is_empty() {
        return Err(cursor.bad("has an empty node"));
    }
    Ok((found, if found == 0 { ListNode::Leaf(leaf) } else { ListNode::Children(children) }))
}

/// Gives a chunk's bytes.
pub(crate) type Fetch<'a> = &'a FetchFn<'a>;
/// What [`Fetch`] points to, for those who own it.
pub(crate) type FetchFn<'a> = dyn Fn(&ChunkId) -> Result<std::sync::Arc<Vec<u8>>> + 'a;

impl List {
    /// Count and digest of the ids, adding up each node once: `memo` remembers nodes over many lists.
    pub(crate) fn summed(&self, fetch: Fetch<'_>, key: &Secret, memo: &mut Memo) -> Result<(u64, Sum)> {
        let Some(root) = self.root else { return Ok((0, Sum::default())) };
        // Depth is bounded by the levels, which strictly fall.
        fn of(id: ChunkId, level: Option<u8>, fetch: Fetch<'_>, key: &Secret, memo: &mut Memo) -> Result<(u64, Sum)> {
            if let Some(known) = memo.get(&id) {
                return Ok(*known);
            }
            let mut total = (0u64, Sum::default());
            match decode(&fetch(&id)?, level)? {
                (_, ListNode::Leaf(ids)) => {
                    total.0 = ids.len() as u64;
                    ids.iter().for_each(|id| total.1.add(key, id));
                }
                (level, ListNode::Children(children)) => {
                    for (child, ids) in children {
                        let (count, sum) = of(child, Some(level - 1), fetch, key, memo)?;
                        if count != ids {
                            return Err(RepoError::damaged("a list of chunks", "counts other ids than there are"));
                        }
                        total.0 = total.0.saturating_add(count);
                        total.1.merge(&sum);
                    }
                }
            }
            memo.insert(id, total);
            Ok(total)
        }
        of(root, None, fetch, key, memo)
    }

    /// Calls `visit` for every id in order. `enter` is asked before each node whether to go into it, so that shared nodes
    /// are visited once.
    pub(crate) fn mark(
        &self,
        fetch: Fetch<'_>,
        enter: &mut dyn FnMut(&ChunkId) -> bool,
        visit: &mut dyn FnMut(ChunkId) -> Result<()>,
    ) -> Result<()> {
        let Some(root) = self.root else { return Ok(()) };
        // A stack, not recursion: depth is bounded by the levels, which strictly fall, and the visits by the ids.
        let mut left = self.count;
        let mut stack = vec![(root, None)];
        while let Some((id, level)) = stack.pop() {
            if !enter(&id) {
                continue;
            }
            match decode(&fetch(&id)?, level)? {
                (_, ListNode::Leaf(ids)) => {
                    let longer = || RepoError::damaged("a list of chunks", "is longer than it says");
                    left = left.checked_sub(ids.len() as u64).ok_or_else(longer)?;
                    ids.into_iter().try_for_each(&mut *visit)?;
                }
                (level, ListNode::Children(children)) => {
                    stack.extend(children.into_iter().rev().map(|(child, _)| (child, Some(level - 1))));
                }
            }
        }
        Ok(())
    }

    /// The ids at the positions `first` to `first + count`.
    ///
    /// # Errors
    /// `Damaged` when the list is shorter than it says.
    pub(crate) fn ids(&self, fetch: Fetch<'_>, first: u64, count: u64) -> Result<Vec<ChunkId>> {
        let short = || RepoError::damaged("a list of chunks", "is shorter than it says");
        let end = first.checked_add(count).filter(|end| *end <= self.count).ok_or_else(short)?;
        let mut out = Vec::new();
        if count == 0 {
            return Ok(out);
        }
        let mut stack = vec![(self.root.ok_or_else(short)?, None, 0u64)];
        while let Some((id, level, at)) = stack.pop() {
            if at >= end {
                break;
            }
            match decode(&fetch(&id)?, level)? {
                (_, ListNode::Leaf(ids)) => {
                    let from = first.saturating_sub(at).min(ids.len() as u64) as usize;
                    let to = (end - at).min(ids.len() as u64) as usize;
                    out.extend_from_slice(ids.get(from..to).unwrap_or_default());
                    // Nodes that claim to hold nothing would let few chunks stand for ids without end.
                    if out.len() as u64 > count {
                        return Err(RepoError::damaged("a list of chunks", "is longer than it says"));
                    }
                }
                (level, ListNode::Children(children)) => {
                    let mut wanted = Vec::new();
                    let mut start = at;
                    for (child, ids) in children {
                        let stop = start.checked_add(ids).ok_or_else(short)?;
                        if stop > first && start < end {
                            wanted.push((child, Some(level - 1), start));
                        }
                        start = stop;
                    }
                    stack.extend(wanted.into_iter().rev());
                }
            }
        }
        if out.len() as u64 != count {
            return Err(short());
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::Arc;

    fn id(n: u64) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn build(ids: impl Iterator<Item = u64>, nodes: &mut HashMap<ChunkId, Arc<Vec<u8>>>) -> (List, usize) {
        let mut builder = ListBuilder::new(Secret([1; 32]), Secret([2; 32]));
        let mut new = 0;
        let mut emit = |id: ChunkId, bytes: Vec<u8>| {
            new += usize::from(nodes.insert(id, Arc::new(bytes)).is_none());
            Ok(())
        };
        for n in ids {
            builder.push(id(n), &mut emit).expect("pushes");
        }
        let list = builder.finish(&mut emit).expect("finishes");
        (list, new)
    }

    #[test]
    fn lists_give_back_their_ids_whole_and_in_part() {
        for count in [0u64, 1, 255, 256, 5000, 200_000] {
            let mut nodes = HashMap::new();
            let (list, _) = build(0..count, &mut nodes);
            let fetch = |id: &ChunkId| nodes.get(id).cloned().ok_or(RepoError::MissingChunk(*id));
            let mut seen = Vec::new();
            list.mark(&fetch, &mut |_| true, &mut |id| {
                seen.push(id);
                Ok(())
            })
            .expect("walks");
            assert_eq!(seen, (0..count).map(id).collect::<Vec<_>>());
            for (first, n) in [(0, count.min(3)), (count / 2, count / 4), (count.saturating_sub(1), count.min(1))] {
                let part = list.ids(&fetch, first, n).expect("reads");
                assert_eq!(part, (first..first + n).map(id).collect::<Vec<_>>());
            }
            assert!(list.ids(&fetch, count, 1).is_err());
        }
    }

    #[test]
    fn nodes_that_claim_to_hold_nothing_are_not_read_without_end() {
        // Level after level of nodes, each of a thousand times the one below, all but the first of which have no ids.
        let mut nodes = HashMap::from([(id(0), Arc::new([&[0][..], &[7; 32 * 9]].concat()))]);
        for level in 1..=10 {
            let child = |ids: u64| [&id(level - 1).0[..], &ids.to_le_bytes()].concat();
            nodes.insert(id(level), Arc::new([vec![level as u8], child(1), child(0).repeat(1000)].concat()));
        }
        let list = List { root: Some(id(10)), count: u64::MAX, digest: Sum::default() };
        let reads = std::cell::Cell::new(0);
        let fetch = |id: &ChunkId| {
            reads.set(reads.get() + 1);
            nodes.get(id).cloned().ok_or(RepoError::MissingChunk(*id))
        };
        assert!(list.ids(&fetch, 0, 8).expect_err("hostile").is_damage());
        assert!(reads.get() < 20, "{} reads", reads.get());
    }

    #[test]
    fn a_small_change_makes_few_new_nodes_and_order_does_not_change_the_digest() {
        let mut nodes = HashMap::new();
        let (first, all) = build(0..200_000, &mut nodes);
        let (_, new) = build((0..70_000).chain(999_999..1_000_000).chain(70_000..200_000), &mut nodes);
        assert!(all > 100 && new < 8, "{all} nodes, {new} new after one insertion");
        let (turned, _) = build((0..200_000).rev(), &mut nodes);
        assert_eq!(turned.digest, first.digest);
        assert_ne!(turned.root, first.root);
    }
}
