//! One snapshot as a file system sees it: directories, names in them, metadata.
//!
//! What it is for: nothing is remembered of what was looked up. A thing's number is its position in the stream of entries, the
//! next name of a directory is found from the last one's position, and a directory that no entry stands for (an entry is
//! damaged, or its writer left it out) is numbered by the first entry in it. So memory does not grow with what is mounted.
//! What it may not know: the kernel's numbers, content.
//! Where data comes from and goes: entries through [`Browse`]; [`Found`] things to `snapshots` and `writable`.

use super::trouble::Teller;
use fuser::Errno;
use repo::{Browse, Gap, Leaf, Located, Node, RepoError, SnapshotReader, is_within};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Longest name of a file anywhere.
const NAME_BYTES_MAX: usize = 255;

/// Where something is: the position of its entry, or for a directory without one, of the first entry in it, and how many
/// levels further up it is than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    pub(super) position: u64,
    pub(super) up: u8,
}

/// Something in a snapshot.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) spot: Spot,
    /// Its path key; of something with several names, the first.
    pub(super) key: Vec<u8>,
    /// `None` for a directory that no entry stands for.
    pub(super) located: Option<Located>,
}

impl Found {
    pub(super) fn node(&self) -> &Node {
        self.located.as_ref().map_or(&Node::Dir, |located| &located.entry.node)
    }

    fn depth(&self) -> usize {
        depth(&self.key)
    }
}

/// A snapshot that is looked into. May be used by several threads.
pub(super) struct View {
    browse: Browse,
    teller: Arc<Teller>,
    /// For each file with several names, the hash of its first one's key and how many others there are.
    links: OnceLock<HashMap<u64, u32>>,
    hasher: RandomState,
    /// Directories of which names are missing.
    hurt: Mutex<HashSet<Spot>>,
}

type Result<T> = std::result::Result<T, Errno>;

impl View {
    pub(super) fn new(reader: SnapshotReader, teller: Arc<Teller>) -> View {
        let (links, hasher, hurt) = (OnceLock::new(), RandomState::new(), Mutex::default());
        View { browse: Browse::new(reader), teller, links, hasher, hurt }
    }

    pub(super) fn reader(&self) -> &SnapshotReader {
        self.browse.reader()
    }

    pub(super) fn teller(&self) -> &Teller {
        &self.teller
    }

    /// What is at this path.
    pub(super) fn find(&self, key: &[u8]) -> Result<Found> {
        let gone = |gap: Gap| self.teller.tell(key, &gap.error);
        let Some(leaf) = self.browse.leaf_of(key).map_err(gone)? else { return Err(Errno::ENOENT) };
        let position = leaf.seek(key);
        let leaf = if position < leaf.end() { Some(leaf) } else { self.browse.leaf_at(position).map_err(gone)? };
        let Some(located) = leaf.as_ref().and_then(|leaf| leaf.get(position)) else { return Err(Errno::ENOENT) };
        match located.entry.key == key {
            true => self.resolve(Spot { position, up: 0 }, located.clone()),
            false => implied(located, position, key).ok_or(Errno::ENOENT),
        }
    }

    /// What has this number.
    pub(super) fn at(&self, spot: Spot) -> Result<Found> {
        let located = self.entry(spot.position)?;
        if spot.up == 0 {
            return Ok(Found { spot, key: located.entry.key.clone(), located: Some(located) });
        }
        let parts: Vec<&[u8]> = parts(&located.entry.key).collect();
        let kept = parts.len().checked_sub(usize::from(spot.up)).ok_or(Errno::ESTALE)?;
        Ok(Found { spot, key: parts[..kept].join(&0), located: None })
    }

    /// What has this name in a directory.
    pub(super) fn lookup(&self, dir: &Found, name: &[u8]) -> Result<Found> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Errno::ENOENT);
        }
        self.find(&below(&dir.key, name))
    }

    fn entry(&self, position: u64) -> Result<Located> {
        let leaf = self.browse.leaf_at(position).map_err(|gap| self.teller.tell(b"", &gap.error))?;
        leaf.as_ref().and_then(|leaf| leaf.get(position)).cloned().ok_or(Errno::ESTALE)
    }

    /// The file that an entry stands for: another name of a file is that file.
    fn resolve(&self, spot: Spot, located: Located) -> Result<Found> {
        let key = located.entry.key.clone();
        let Node::HardLink { to } = &located.entry.node else { return Ok(Found { spot, key, located: Some(located) }) };
        let astray = || RepoError::damaged("a hard link", "leads to a file that the snapshot does not have");
        let gone = |gap: Gap| self.teller.tell(&key, &gap.error);
        let leaf = self.browse.leaf_of(to).map_err(gone)?;
        let position = leaf.as_ref().map_or(0, |leaf| leaf.seek(to));
        let file = leaf.as_ref().and_then(|leaf| leaf.get(position));
        let file = file.filter(|file| file.entry.key == *to && matches!(file.entry.node, Node::File(_)));
        let file = file.ok_or_else(|| self.teller.tell(&key, &astray()))?;
        Ok(Found { spot: Spot { position, up: 0 }, key: to.clone(), located: Some(file.clone()) })
    }

    /// Gives the names in a directory behind the position `after`, in order, until `take` has enough. A name is handed out
    /// with what stands behind it and the position to go on from.
    ///
    /// # Errors
    /// `EIO` behind the last name, when there are others that cannot be had.
    pub(super) fn list(
        &self,
        dir: &Found,
        after: Option<u64>,
        take: &mut dyn FnMut(&[u8], &Found, u64) -> Enough,
    ) -> Result<()> {
        let depth = dir.depth();
        let mut given = false;
        // The key of the last name; what is in it is passed over.
        let mut last = match after {
            Some(position) => Some(top(&self.entry(position)?.entry.key, depth + 1)),
            None => None,
        };
        let mut position = match after {
            Some(position) => position + 1,
            None if dir.located.is_some() => dir.spot.position + 1,
            None => dir.spot.position,
        };
        let mut leaf: Option<Arc<Leaf>> = None;
        loop {
            let located = match leaf.as_ref().and_then(|leaf| leaf.get(position)) {
                Some(located) => located,
                None => match self.browse.leaf_at(position) {
                    Ok(Some(found)) if found.get(position).is_some() => {
                        leaf = Some(found);
                        continue;
                    }
                    Ok(_) => break,
                    Err(gap) => {
                        position = self.pass(dir, gap, position);
                        continue;
                    }
                },
            };
            let key = &located.entry.key;
            if let Some(last) = last.as_ref().filter(|last| is_within(key, last)) {
                // A directory may hold millions: go round it.
                let behind = [last, &[1][..]].concat();
                let here = leaf.as_ref().map_or(0, |leaf| leaf.seek(&behind));
                if leaf.as_ref().is_some_and(|leaf| here < leaf.end()) {
                    position = here;
                    continue;
                }
                let to = match self.browse.leaf_of(&behind) {
                    Ok(found) => found.map_or(u64::MAX, |found| found.seek(&behind)),
                    Err(gap) => self.pass(dir, gap, position),
                };
                // Only what is damaged on purpose stands still.
                position = to.max(position + 1);
                continue;
            }
            if !is_within(key, &dir.key) || *key == dir.key {
                break;
            }
            let child = top(key, depth + 1);
            let name = child.get(child.len() - parts(&child).next_back().map_or(0, <[u8]>::len)..).unwrap_or_default();
            let found = match child.len() == key.len() {
                true => self.resolve(Spot { position, up: 0 }, located.clone()),
                false => implied(located, position, &child).ok_or(Errno::EIO),
            };
            match found {
                Ok(found) if name.len() <= NAME_BYTES_MAX => match take(name, &found, position) {
                    Enough::Yes => return Ok(()),
                    Enough::No => given = true,
                },
                // A name that no file system has.
                Ok(_) => {}
                Err(_) => self.hurts(dir),
            }
            last = Some(child);
            position += 1;
        }
        let hurt = !given && self.hurt.lock().unwrap_or_else(PoisonError::into_inner).contains(&dir.spot);
        if hurt { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Tells that names of a directory are missing, and returns where to go on.
    fn pass(&self, dir: &Found, gap: Gap, position: u64) -> u64 {
        self.teller.tell(&dir.key, &gap.error);
        self.hurts(dir);
        gap.end.max(position + 1)
    }

    fn hurts(&self, dir: &Found) {
        self.hurt.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.spot);
    }

    /// How many names a file has. The first call reads all entries: which others a file has stands nowhere else.
    pub(super) fn names(&self, key: &[u8]) -> u32 {
        let links = self.links.get_or_init(|| {
            let mut links: HashMap<u64, u32> = HashMap::new();
            // Damage is told when somebody looks there.
            for located in self.reader().entries(b"").flatten() {
                if let Node::HardLink { to } = &located.entry.node {
                    let others = links.entry(self.hasher.hash_one(to)).or_default();
                    *others = others.saturating_add(1);
                }
            }
            links
        });
        links.get(&self.hasher.hash_one(key)).map_or(1, |others| others.saturating_add(1))
    }
}

/// Whether more names are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enough {
    Yes,
    No,
}

/// The directory with this key, if what is at `position` is in it.
fn implied(located: &Located, position: u64, key: &[u8]) -> Option<Found> {
    if !is_within(&located.entry.key, key) {
        return None;
    }
    let up = u8::try_from(depth(&located.entry.key) - depth(key)).ok()?;
    Some(Found { spot: Spot { position, up }, key: key.to_vec(), located: None })
}

/// The key of a name in a directory.
pub(super) fn below(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, &[0][..], name].concat() }
}

fn parts(key: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    key.split(|byte| *byte == 0).filter(|part| !part.is_empty())
}

fn depth(key: &[u8]) -> usize {
    parts(key).count()
}

/// The first so many names of a key.
fn top(key: &[u8], names: usize) -> Vec<u8> {
    let end = key.iter().enumerate().filter(|(_, byte)| **byte == 0).nth(names.saturating_sub(1)).map(|(at, _)| at);
    key.get(..end.unwrap_or(key.len())).unwrap_or_default().to_vec()
}
