//! The sorted stream of entries and the directory over it (`docs/format.md` §8.1): one path among millions is found by
//! reading a few chunks.

use crate::crypt::Secret;
use crate::entry::{self, Entry, KEY_BYTES_MAX, Node};
use crate::error::{RepoError, Result};
use crate::format::{Cursor, put_sized, put_varint};
use crate::id::ChunkId;
use crate::list::{Emit, Fetch, FetchFn, Sum};
use serde::{Deserialize, Serialize};

const LEAF_MIN: usize = 64;
const LEAF_MAX: usize = 2048;
const LEAF_BYTES_MAX: usize = 128 << 10;
const NODE_MIN: usize = 16;
const NODE_MAX: usize = 512;
const LEVEL_MAX: u8 = 16;
/// A writer closes a leaf at 2,048 entries; more key bytes than this no tree of real paths has in one.
const LEAF_KEY_BYTES_MAX: usize = 64 << 20;

/// The entries of a snapshot, by their root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tree {
    pub(crate) root: Option<ChunkId>,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone, Debug)]
struct Child {
    first: Vec<u8>,
    id: ChunkId,
    ids: u64,
    entries: u64,
    bytes: u64,
}

/// Builds the stream, entry by entry; memory does not grow with it.
pub(crate) struct TreeBuilder {
    id_key: Secret,
    leaf: Vec<u8>,
    leaf_entries: usize,
    first: Vec<u8>,
    last: Option<Vec<u8>>,
    ids: u64,
    bytes: u64,
    levels: Vec<Vec<Child>>,
    total: (u64, u64),
}

impl TreeBuilder {
    pub(crate) fn new(id_key: Secret) -> Self {
        TreeBuilder {
            id_key,
            leaf: vec![0, 1],
            leaf_entries: 0,
            first: Vec::new(),
            last: None,
            ids: 0,
            bytes: 0,
            levels: Vec::new(),
            total: (0, 0),
        }
    }

    /// Adds an entry; keys must ascend.
    pub(crate) fn push(&mut self, entry: &Entry, emit: Emit<'_>) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| *last >= entry.key) {
            return Err(RepoError::Limit(format!(
                "entries out of order: {} came after {}",
                entry::percent_path(&entry::path_of_key(&entry.key)),
                entry::percent_path(&entry::path_of_key(self.last.as_deref().unwrap_or_default()))
            )));
        }
        if entry.key.len() > KEY_BYTES_MAX {
            return Err(RepoError::Limit("a path of more than 1 MiB".into()));
        }
        let previous = if self.leaf_entries == 0 { &[][..] } else { self.last.as_deref().unwrap_or_default() };
        entry::encode(&mut self.leaf, entry, previous);
        if self.leaf_entries == 0 {
            self.first.clone_from(&entry.key);
        }
        self.leaf_entries += 1;
        if let Node::File(file) = &entry.node {
            self.ids += file.chunks;
            self.bytes = self.bytes.saturating_add(file.size);
        }
        self.last = Some(entry.key.clone());
        let cut = self.leaf_entries >= LEAF_MIN && blake3::hash(&entry.key).as_bytes()[0] == 0;
        if cut || self.leaf_entries >= LEAF_MAX || self.leaf.len() >= LEAF_BYTES_MAX {
            self.flush_leaf(emit)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self, emit: Emit<'_>) -> Result<Tree> {
        if self.leaf_entries > 0 {
            self.flush_leaf(emit)?;
        }
        let mut level = 0;
        let root = loop {
            let Some(children) = self.levels.get_mut(level) else { break None };
            let children = std::mem::take(children);
            let top = self.levels[level + 1..].iter().all(Vec::is_empty);
            match children.as_slice() {
                [only] if top => break Some(only.id),
                [] => {}
                _ => self.flush_node(level, children, emit)?,
            }
            level += 1;
        };
        Ok(Tree { root, count: self.total.0, bytes: self.total.1 })
    }

    fn flush_leaf(&mut self, emit: Emit<'_>) -> Result<()> {
        let bytes = std::mem::replace(&mut self.leaf, vec![0, 1]);
        let id = self.emit(bytes, emit)?;
        let child = Child {
            first: std::mem::take(&mut self.first),
            id,
            ids: std::mem::take(&mut self.ids),
            entries: std::mem::take(&mut self.leaf_entries) as u64,
            bytes: std::mem::take(&mut self.bytes),
        };
        self.total = (self.total.0 + child.entries, self.total.1.saturating_add(child.bytes));
        self.push_child(0, child, emit)
    }

    fn push_child(&mut self, level: usize, child: Child, emit: Emit<'_>) -> Result<()> {
        if self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        let cut = child.id.0[31] < 4;
        let children = &mut self.levels[level];
        children.push(child);
        if (children.len() >= NODE_MIN && cut) || children.len() >= NODE_MAX {
            let children = std::mem::take(children);
            self.flush_node(level, children, emit)?;
        }
        Ok(())
    }

    fn flush_node(&mut self, level: usize, children: Vec<Child>, emit: Emit<'_>) -> Result<()> {
        let mut bytes = vec![u8::try_from(level + 1).expect("few levels"), 1];
        for child in &children {
            put_sized(&mut bytes, &child.first);
            bytes.extend_from_slice(&child.id.0);
            put_varint(&mut bytes, child.ids);
            put_varint(&mut bytes, child.entries);
            put_varint(&mut bytes, child.bytes);
        }
        let id = self.emit(bytes, emit)?;
        let mut whole = Child { first: Vec::new(), id, ids: 0, entries: 0, bytes: 0 };
        for child in &children {
            whole.ids += child.ids;
            whole.entries += child.entries;
            whole.bytes = whole.bytes.saturating_add(child.bytes);
        }
        whole.first = children.into_iter().next().map(|child| child.first).unwrap_or_default();
        self.push_child(level + 1, whole, emit)
    }

    fn emit(&self, bytes: Vec<u8>, emit: Emit<'_>) -> Result<ChunkId> {
        let id = ChunkId(*blake3::keyed_hash(&self.id_key.0, &bytes).as_bytes());
        emit(id, bytes)?;
        Ok(id)
    }
}

/// An entry and where its content begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The entry.
    pub entry: Entry,
    /// Position of its first chunk in the snapshot's content list.
    pub first: u64,
}

/// A chunk of entries as its parent names it; the root is only known by its id.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) id: ChunkId,
    level: Option<u8>,
    pub(crate) first: Option<Vec<u8>>,
    /// The position of its first id.
    start: u64,
    /// The position of its first entry, and how many there are.
    pub(crate) position: u64,
    pub(crate) entries: u64,
}

/// A chunk of entries, opened.
pub(crate) enum Opened {
    /// Entries, at least one, in order.
    Leaf(Vec<Located>),
    /// Chunks of entries, at least one, in order.
    Node(Vec<Named>),
}

impl Tree {
    /// What everything is found from.
    pub(crate) fn root(&self) -> Option<Named> {
        let (level, first) = (None, None);
        self.root.map(|id| Named { id, level, first, start: 0, position: 0, entries: self.count })
    }
}

impl Named {
    /// Opens it, given its bytes.
    ///
    /// # Errors
    /// `Damaged` for anything that no writer makes.
    pub(crate) fn open(&self, bytes: &[u8]) -> Result<Opened> {
        let mut cursor = Cursor::new("a chunk of entries", bytes);
        let [found, version] = cursor.array()?;
        if version != 1 || found > LEVEL_MAX || self.level.is_some_and(|level| level != found) {
            return Err(cursor.bad("is on the wrong level, or of a version that this program does not know"));
        }
        if found == 0 {
            self.open_leaf(cursor).map(Opened::Leaf)
        } else {
            self.open_node(cursor, found).map(Opened::Node)
        }
    }

    fn open_leaf(&self, mut cursor: Cursor<'_>) -> Result<Vec<Located>> {
        let mut entries: Vec<Located> = Vec::new();
        let mut key_bytes = 0usize;
        let mut at = self.start;
        while !cursor.is_empty() {
            let previous = entries.last().map(|located| located.entry.key.as_slice());
            let entry = entry::decode(&mut cursor, previous)?;
            // Shared prefixes make small bytes stand for large keys: bounded, so that a leaf fits into memory.
            key_bytes += entry.key.len();
            if key_bytes > LEAF_KEY_BYTES_MAX {
                return Err(cursor.bad("holds paths of more bytes than any leaf"));
            }
            let first = at;
            if let Node::File(file) = &entry.node {
                at = at.checked_add(file.chunks).ok_or_else(|| cursor.bad("counts too many chunks"))?;
            }
            entries.push(Located { entry, first });
        }
        if entries.is_empty() { Err(cursor.bad("has an empty leaf")) } else { Ok(entries) }
    }

    fn open_node(&self, mut cursor: Cursor<'_>, level: u8) -> Result<Vec<Named>> {
        let mut children: Vec<Named> = Vec::new();
        let (mut start, mut position) = (self.start, self.position);
        while !cursor.is_empty() {
            let first = cursor.sized()?;
            let id = ChunkId(cursor.array()?);
            let (ids, entries, _) = (cursor.varint()?, cursor.varint()?, cursor.varint()?);
            // A node begins where its parent says, and its children ascend: so none is gone into twice, and few nodes that
            // name each other, or one damaged leaf, again and again are no tree without end.
            let ascends = match children.last().and_then(|child| child.first.as_deref()) {
                Some(last) => last < first,
                None => self.first.as_ref().is_none_or(|begin| begin == first),
            };
            if !ascends {
                return Err(cursor.bad("names chunks of entries out of order"));
            }
            let (level, first) = (Some(level - 1), Some(first.to_vec()));
            children.push(Named { id, level, first, start, position, entries });
            start = start.checked_add(ids).ok_or_else(|| cursor.bad("counts too many chunks"))?;
            position = position.checked_add(entries).ok_or_else(|| cursor.bad("counts too many entries"))?;
        }
        if children.is_empty() { Err(cursor.bad("has an empty node")) } else { Ok(children) }
    }
}

enum Frame {
    /// Children of a directory node; nearest last.
    Nodes(Vec<Named>),
    Leaf(std::vec::IntoIter<Located>),
}

/// Walks the entries at or under one key, in order. An item that is damage stands for the entries of one chunk; the walk
/// goes on behind it. After any other error it ends.
pub struct Walk<'a> {
    fetch: Box<FetchFn<'a>>,
    within: Vec<u8>,
    stack: Vec<Frame>,
    root: Option<Named>,
    last: Option<Vec<u8>>,
    failed: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(tree: &Tree, within: &[u8], fetch: Box<FetchFn<'a>>) -> Walk<'a> {
        Walk { fetch, within: within.to_vec(), stack: Vec::new(), root: tree.root(), last: None, failed: false }
    }

    fn enter(&mut self, named: &Named) -> Result<()> {
        let bytes = (self.fetch)(&named.id)?;
        let children = match named.open(&bytes)? {
            Opened::Leaf(mut entries) => {
                // Across leaves too: a leaf that comes again would be a tree without end.
                let first = entries.first().map(|located| &located.entry.key);
                if self.last.as_ref().zip(first).is_some_and(|(last, first)| last >= first) {
                    return Err(RepoError::damaged("a chunk of entries", "holds paths out of order"));
                }
                self.last = entries.last().map(|located| located.entry.key.clone());
                entries.retain(|located| entry::is_within(&located.entry.key, &self.within));
                self.stack.push(Frame::Leaf(entries.into_iter()));
                return Ok(());
            }
            Opened::Node(children) => children,
        };
        // A child holds keys from its first up to the next child's first.
        let mut wanted = Vec::new();
        let mut children = children.into_iter().peekable();
        while let Some(child) = children.next() {
            let first = child.first.as_deref().unwrap_or_default();
            let next = children.peek().and_then(|next| next.first.as_deref());
            let after = next.is_some_and(|next| next <= self.within.as_slice());
            let before = first > self.within.as_slice() && !entry::is_within(first, &self.within);
            if !after && !before {
                wanted.push(child);
            }
        }
        wanted.reverse();
        self.stack.push(Frame::Nodes(wanted));
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Located>> {
        if let Some(root) = self.root.take() {
            self.enter(&root)?;
        }
        loop {
            match self.stack.last_mut() {
                None => return Ok(None),
                Some(Frame::Leaf(entries)) => match entries.next() {
                    Some(located) => return Ok(Some(located)),
                    None => {
                        self.stack.pop();
                    }
                },
                Some(Frame::Nodes(children)) => match children.pop() {
                    Some(child) => self.enter(&child)?,
                    None => {
                        self.stack.pop();
                    }
                },
            }
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Located>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.step().transpose();
        // A damaged chunk takes its own entries along, not those behind it: where they begin stands in its parent.
        self.failed = matches!(&next, Some(Err(e)) if !e.is_damage());
        next
    }
}

/// What a chunk of entries holds and what is below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ids: u64,
    pub(crate) entries: u64,
    /// How many chunks of entries, and the order-free digest of their names: what keepers must know of.
    pub(crate) chunks: u64,
    pub(crate) sum: Sum,
}

/// What was counted of chunks of entries.
pub(crate) type Counted = std::collections::HashMap<ChunkId, Counts>;

/// Reads all chunks of entries under `tree` that `seen` does not hold, and adds up what they are.
pub(crate) fn check(tree: &Tree, fetch: Fetch<'_>, digest_key: &Secret, seen: &mut Counted) -> Result<Counts> {
    // Depth is bounded by the levels, which strictly fall.
    fn of(id: ChunkId, level: Option<u8>, fetch: Fetch<'_>, digest_key: &Secret, seen: &mut Counted) -> Result<Counts> {
        if let Some(counts) = seen.get(&id) {
            return Ok(*counts);
        }
        let bytes = fetch(&id)?;
        let mut cursor = Cursor::new("a chunk of entries", &bytes);
        let [found, version] = cursor.array()?;
        if version != 1 || found > LEVEL_MAX || level.is_some_and(|level| level != found) {
            return Err(cursor.bad("is on the wrong level, or of a version that this program does not know"));
        }
        let mut counts = Counts { chunks: 1, ..Counts::default() };
        counts.sum.add(digest_key, &id);
        let mut previous: Option<Vec<u8>> = None;
        while !cursor.is_empty() {
            if found == 0 {
                let entry = entry::decode(&mut cursor, previous.as_deref())?;
                if let Node::File(file) = &entry.node {
                    counts.ids = counts.ids.saturating_add(file.chunks);
                }
                counts.entries += 1;
                previous = Some(entry.key);
                continue;
            }
            cursor.sized()?;
            let child = ChunkId(cursor.array()?);
            let (ids, entries, _) = (cursor.varint()?, cursor.varint()?, cursor.varint()?);
            let below = of(child, Some(found - 1), fetch, digest_key, seen)?;
            if (below.ids, below.entries) != (ids, entries) {
                return Err(cursor.bad("counts other entries or chunks than there are"));
            }
            counts.ids = counts.ids.saturating_add(ids);
            counts.entries = counts.entries.saturating_add(entries);
            counts.chunks = counts.chunks.saturating_add(below.chunks);
            counts.sum.merge(&below.sum);
        }
        seen.insert(id, counts);
        Ok(counts)
    }
    tree.root.map_or(Ok(Counts::default()), |root| of(root, None, fetch, digest_key, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::FileNode;
    use std::collections::HashMap;
    use std::sync::Arc;
    use store::Timestamp;

    fn file(key: Vec<u8>, chunks: u64) -> Entry {
        Entry {
            key,
            node: Node::File(FileNode { size: 10, chunks, digest: None, extents: None }),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp::new(1, 2),
            xattrs: Vec::new(),
            user: None,
            group: None,
            changed: false,
            sqlite: false,
        }
    }

    fn key(n: u32) -> Vec<u8> {
        format!("dir{:03}\0file{:05}", n / 100, n).into_bytes()
    }

    fn build(numbers: impl Iterator<Item = u32>, chunks: &mut HashMap<ChunkId, Arc<Vec<u8>>>) -> (Tree, usize) {
        let mut new = 0;
        let mut emit = |id: ChunkId, bytes: Vec<u8>| {
            new += usize::from(chunks.insert(id, Arc::new(bytes)).is_none());
            Ok(())
        };
        let mut builder = TreeBuilder::new(Secret([1; 32]));
        for n in numbers {
            builder.push(&file(key(n), u64::from(n % 3)), &mut emit).expect("pushes");
        }
        let tree = builder.finish(&mut emit).expect("finishes");
        (tree, new)
    }

    #[test]
    fn entries_come_back_in_order_with_the_position_of_their_content() {
        let mut chunks = HashMap::new();
        let (tree, _) = build(0..50_000, &mut chunks);
        assert_eq!((tree.count, tree.bytes), (50_000, 500_000));
        let fetch = |id: &ChunkId| chunks.get(id).cloned().ok_or(RepoError::MissingChunk(*id));
        let mut first = 0;
        let mut n = 0;
        for located in Walk::new(&tree, b"", Box::new(fetch)) {
            let located = located.expect("walks");
            assert_eq!((located.entry.key, located.first), (key(n), first));
            first += u64::from(n % 3);
            n += 1;
        }
        assert_eq!(n, 50_000);
    }

    #[test]
    fn one_path_is_found_by_reading_a_few_chunks() {
        let mut chunks = HashMap::new();
        let (tree, all) = build(0..50_000, &mut chunks);
        for (within, expect) in
            [(key(40_000), 1), (b"dir400".to_vec(), 100), (b"dir4".to_vec(), 0), (b"zzz".to_vec(), 0)]
        {
            let reads = std::cell::Cell::new(0);
            let fetch = |id: &ChunkId| {
                reads.set(reads.get() + 1);
                chunks.get(id).cloned().ok_or(RepoError::MissingChunk(*id))
            };
            let found: Vec<_> = Walk::new(&tree, &within, Box::new(fetch)).collect::<Result<_>>().expect("walks");
            assert_eq!(found.len(), expect);
            assert!(reads.get() < 8, "{} of {all} chunks read", reads.get());
            if let Some(located) = found.first() {
                let n: u32 = 40_000;
                assert_eq!(located.first, (0..n).map(|n| u64::from(n % 3)).sum::<u64>());
            }
        }
    }

    #[test]
    fn one_changed_entry_makes_few_new_chunks() {
        let mut chunks = HashMap::new();
        let (_, all) = build(0..50_000, &mut chunks);
        let (_, new) = build((0..50_000).filter(|n| *n != 25_000), &mut chunks);
        assert!(all > 100 && new <= 5, "{all} chunks, {new} new");
    }

    #[test]
    fn a_lost_chunk_of_entries_takes_only_its_own_along() {
        let mut chunks = HashMap::new();
        let (tree, _) = build(0..50_000, &mut chunks);
        let victim = *chunks.iter().find(|(_, bytes)| bytes[0] == 0).expect("a leaf").0;
        chunks.remove(&victim);
        let fetch = |id: &ChunkId| chunks.get(id).cloned().ok_or(RepoError::MissingChunk(*id));
        let (mut found, mut lost) = (0, 0);
        for located in Walk::new(&tree, b"", Box::new(fetch)) {
            match located {
                Ok(located) => {
                    let n: u32 =
                        std::str::from_utf8(&located.entry.key[11..]).expect("digits").parse().expect("number");
                    assert_eq!(located.first, (0..n).map(|n| u64::from(n % 3)).sum::<u64>());
                    found += 1;
                }
                Err(_) => lost += 1,
            }
        }
        assert!(lost == 1 && (47_000..50_000).contains(&found), "{found} found, {lost} lost");
    }

    #[test]
    fn chunks_of_entries_that_name_each_other_again_and_again_come_to_an_end() {
        // The leaf is damaged; above it, level after level of nodes that name the one below a thousand times.
        let id = |level: u8| ChunkId([level; 32]);
        let firsts: [fn(u16) -> Vec<u8>; 2] = [|_| vec![1, 1], |n| n.to_be_bytes().to_vec()];
        for first in firsts {
            let mut chunks = HashMap::from([(id(0), Arc::new(vec![0, 1]))]);
            for level in 1..=10 {
                let mut node = vec![level, 1];
                for n in 0..1000 {
                    put_sized(&mut node, &first(n));
                    node.extend_from_slice(&id(level - 1).0);
                    node.extend_from_slice(&[0, 1, 0]);
                }
                chunks.insert(id(level), Arc::new(node));
            }
            let tree = Tree { root: Some(id(10)), count: u64::MAX, bytes: 0 };
            let reads = std::cell::Cell::new(0);
            let fetch = |id: &ChunkId| {
                reads.set(reads.get() + 1);
                // So that the test ends whatever the walk does.
                if reads.get() > 50_000 {
                    return Err(RepoError::Stopped);
                }
                chunks.get(id).cloned().ok_or(RepoError::MissingChunk(*id))
            };
            assert!(Walk::new(&tree, b"", Box::new(fetch)).all(|located| located.is_err_and(|e| e.is_damage())));
            assert!(reads.get() <= 10_001, "{} reads", reads.get());
        }
    }

    #[test]
    fn entries_out_of_order_are_refused() {
        let mut builder = TreeBuilder::new(Secret([1; 32]));
        let mut emit = |_, _| Ok(());
        builder.push(&file(b"b".to_vec(), 0), &mut emit).expect("first");
        assert!(builder.push(&file(b"b".to_vec(), 0), &mut emit).is_err());
        assert!(builder.push(&file(b"a".to_vec(), 0), &mut emit).is_err());
    }
}
