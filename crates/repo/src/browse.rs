//! Browsing: entries by their position and by their path, in any order, as a file system asks for them.
//!
//! What it is for: the position of an entry in the stream is its number for as long as a snapshot lives, so whoever browses
//! need not remember where anything is.
//! What it may not know: file systems.
//! Where data comes from and goes: chunks of entries through a [`SnapshotReader`]; those used last are kept, opened.

use crate::error::RepoError;
use crate::id::ChunkId;
use crate::read::SnapshotReader;
use crate::recent::Recent;
use crate::tree::{Located, Named, Opened};
use std::sync::{Arc, Mutex, PoisonError};

/// Opened chunks of entries that are kept.
const KEPT_BYTES: usize = 16 << 20;

/// Entries that follow each other.
pub struct Leaf {
    position: u64,
    entries: Vec<Located>,
}

impl Leaf {
    /// The position behind its last entry.
    pub fn end(&self) -> u64 {
        self.position + self.entries.len() as u64
    }

    /// The entry at this position.
    pub fn get(&self, position: u64) -> Option<&Located> {
        self.entries.get(usize::try_from(position.checked_sub(self.position)?).ok()?)
    }

    /// The position of the first entry here whose key is not less; that of the end when there is none.
    pub fn seek(&self, key: &[u8]) -> u64 {
        self.position + self.entries.partition_point(|located| located.entry.key.as_slice() < key) as u64
    }
}

/// Entries that cannot be had.
pub struct Gap {
    /// The position behind them.
    pub end: u64,
    /// Why.
    pub error: RepoError,
}

#[derive(Clone)]
enum Kept {
    Leaf(Arc<Leaf>),
    Node(Arc<Vec<Named>>),
}

/// A snapshot to browse in. May be used by several threads.
pub struct Browse {
    reader: SnapshotReader,
    kept: Mutex<Recent<ChunkId, Kept>>,
}

impl Browse {
    /// Browses in a snapshot.
    pub fn new(reader: SnapshotReader) -> Browse {
        Browse { reader, kept: Mutex::new(Recent::new(KEPT_BYTES)) }
    }

    /// The snapshot.
    pub fn reader(&self) -> &SnapshotReader {
        &self.reader
    }

    /// The leaf that holds the entry at this position; `None` behind the last.
    ///
    /// # Errors
    /// [`Gap`] when it cannot be had.
    pub fn leaf_at(&self, position: u64) -> Result<Option<Arc<Leaf>>, Gap> {
        if position >= self.reader.count() {
            return Ok(None);
        }
        self.find(&|children| children.partition_point(|child| child.position <= position))
    }

    /// The leaf that the entry with this key is in, if there is one. The first entry with a greater key may be the first of
    /// the leaf that follows.
    ///
    /// # Errors
    /// [`Gap`] when it cannot be had.
    pub fn leaf_of(&self, key: &[u8]) -> Result<Option<Arc<Leaf>>, Gap> {
        self.find(&|children| {
            children.partition_point(|child| child.first.as_deref().is_some_and(|first| first <= key))
        })
    }

    /// Goes down to a leaf. `behind` says how many children are not behind what is looked for: the last of them holds it.
    fn find(&self, behind: &dyn Fn(&[Named]) -> usize) -> Result<Option<Arc<Leaf>>, Gap> {
        let Some(mut named) = self.reader.tree().root() else { return Ok(None) };
        // It ends: levels strictly fall.
        loop {
            let gap = |error| Gap { end: named.position.saturating_add(named.entries), error };
            match self.open(&named).map_err(gap)? {
                Kept::Leaf(leaf) => return Ok(Some(leaf)),
                Kept::Node(children) => {
                    let at = behind(&children).saturating_sub(1);
                    let child = children.get(at).cloned();
                    named = child.ok_or_else(|| gap(RepoError::damaged("a chunk of entries", "has an empty node")))?;
                }
            }
        }
    }

    fn open(&self, named: &Named) -> Result<Kept, RepoError> {
        if let Some(kept) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&named.id) {
            return Ok(kept);
        }
        let bytes = self.reader.metadata(&named.id)?;
        let (kept, weight) = match named.open(&bytes)? {
            Opened::Leaf(entries) => {
                // Positions are worth nothing where a leaf does not hold what its parent says.
                let first = entries.first().map(|located| &located.entry.key);
                if entries.len() as u64 != named.entries
                    || named.first.as_ref().is_some_and(|named| Some(named) != first)
                {
                    return Err(RepoError::damaged("a chunk of entries", "holds other entries than its parent says"));
                }
                let weight = entries.iter().map(|located| weight_of(&located.entry)).sum();
                (Kept::Leaf(Arc::new(Leaf { position: named.position, entries })), weight)
            }
            Opened::Node(children) => {
                let weight = |child: &Named| 128 + child.first.as_ref().map_or(0, Vec::len);
                let weight = children.iter().map(weight).sum();
                (Kept::Node(Arc::new(children)), weight)
            }
        };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(named.id, kept.clone(), weight);
        Ok(kept)
    }
}

/// About how much memory an entry takes.
fn weight_of(entry: &crate::entry::Entry) -> usize {
    use crate::entry::Node;
    let node = match &entry.node {
        Node::File(file) => file.extents.as_ref().map_or(0, |extents| extents.len() * 16),
        Node::Symlink { target } => target.len(),
        Node::HardLink { to } => to.len(),
        Node::Dir | Node::Fifo | Node::CharDevice { .. } | Node::BlockDevice { .. } => 0,
    };
    let xattrs: usize = entry.xattrs.iter().map(|(name, value)| 48 + name.len() + value.len()).sum();
    256 + entry.key.len() + node + xattrs
}
