//! A store behind a directory that keeps small objects of it: for places where each read costs a round trip.
//!
//! What it is for: heads, condemned lists and index tables are read in every run, and never change. A run lists them, and
//! fetches what is new.
//! What it may not know: what the bytes mean. It may never make an object seem to be there: what is kept is given out only
//! after the store itself has shown the name in this process, and only when its bytes match the digest in the name.
//! Where data comes from and goes: from the store below; to files that anybody may remove at any time.

use crate::error::{Kind, StoreError};
use crate::finding::Finding;
use crate::key::{Key, Shelf};
use crate::lock::{Extended, Lock};
use crate::store::{Backend, Listed, Put, Span, Warning};
use crate::world::Timestamp;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is kept. Keys and the data keys of runs are not: a copy on a disk would outlive their removal.
const KEPT: [Shelf; 3] = [Shelf::Heads, Shelf::Condemned, Shelf::Index];
/// Where the ends of locks are kept: one line each, in seconds, cut and never rounded up.
const LOCKS: &str = "locks";
/// Files kept open. Index tables are read in small pieces, again and again.
const OPEN_MAX: usize = 256;

/// A store with a cache before it. See the module's head for what it promises.
pub struct CachedStore {
    store: Arc<dyn Backend>,
    dir: PathBuf,
    seen: Mutex<Seen>,
    temps: AtomicU64,
}

/// What this process knows.
#[derive(Default)]
struct Seen {
    /// Objects that the store has shown.
    there: HashSet<Key>,
    /// Files whose digest was right when they were opened.
    open: HashMap<Key, Arc<File>>,
}

impl CachedStore {
    /// The store, with what it keeps in the directory `dir`, which is made when there is something to keep. Each place
    /// needs a directory of its own.
    pub fn new(store: Arc<dyn Backend>, dir: PathBuf) -> CachedStore {
        CachedStore { store, dir, seen: Mutex::default(), temps: AtomicU64::new(0) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(key.path())
    }

    /// The file of an object that the store has shown, when there is one and its digest is right.
    fn kept(&self, key: &Key) -> Option<Arc<File>> {
        {
            let seen = self.seen();
            if !seen.there.contains(key) {
                return None;
            }
            if let Some(file) = seen.open.get(key) {
                return Some(Arc::clone(file));
            }
        }
        let mut file = File::open(self.path(key)).ok()?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hasher.update(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
        }
        if key.digest() != Some(*hasher.finalize().as_bytes()) {
            // Damaged: it will be fetched again, and put in its place.
            return None;
        }
        let file = Arc::new(file);
        let mut seen = self.seen();
        if seen.open.len() >= OPEN_MAX {
            seen.open.clear();
        }
        seen.open.insert(key.clone(), Arc::clone(&file));
        Some(file)
    }

    /// Keeps an object, when it is of a kind that is kept and its bytes are right. A cache that cannot be written only
    /// makes the next run slower.
    fn keep(&self, key: &Key, body: &[u8]) {
        if !is_kept(key) || key.digest() != Some(*blake3::hash(body).as_bytes()) {
            return;
        }
        self.seen().there.insert(key.clone());
        let path = self.path(key);
        let Some(home) = path.parent() else { return };
        let temp = home.join(format!(".{}.{}", std::process::id(), self.temps.fetch_add(1, Ordering::Relaxed)));
        let write = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(home)?;
            File::options().write(true).create_new(true).mode(0o600).open(&temp)?.write_all(body)?;
            fs::rename(&temp, &path)
        };
        if write().is_err() {
            // What is half written has a name that no object has, and goes with the next listing.
            drop(fs::remove_file(&temp));
        }
    }

    fn forget(&self, key: &Key) {
        let mut seen = self.seen();
        seen.there.remove(key);
        seen.open.remove(key);
        drop(seen);
        if is_kept(key) {
            // What stays is not given out: the store does not show it.
            drop(fs::remove_file(self.path(key)));
        }
    }

    /// Takes the store's word for what is on the shelf, and drops what is gone.
    fn adopt(&self, shelf: Shelf, listed: &[Listed]) {
        let there: HashSet<Key> = listed.iter().map(|object| object.key.clone()).filter(is_kept).collect();
        let mut seen = self.seen();
        seen.there.retain(|key| key.shelf() != shelf);
        seen.open.retain(|key, _| key.shelf() != shelf || there.contains(key));
        let Ok(files) = fs::read_dir(self.dir.join(shelf.dir())) else {
            seen.there.extend(there);
            return;
        };
        for file in files.flatten() {
            let key = file.file_name().to_str().and_then(|name| Key::new(shelf, name));
            if !key.is_some_and(|key| there.contains(&key)) {
                // Another process may have been quicker, or still be writing, which it then repeats.
                drop(fs::remove_file(file.path()));
            }
        }
        seen.there.extend(there);
    }

    /// When locks end, as far as it was seen.
    fn known_ends(&self) -> HashMap<Key, Timestamp> {
        let text = fs::read_to_string(self.dir.join(LOCKS)).unwrap_or_default();
        let ends = text.lines().filter_map(|line| {
            let (secs, path) = line.split_once(' ')?;
            Some((Key::from_path(path)?, Timestamp::new(secs.parse().ok()?, 0)))
        });
        ends.collect()
    }

    /// Keeps when these locks end, and nothing else. What cannot be kept is asked for again.
    fn keep_ends(&self, ends: &[(&Key, Timestamp)]) {
        let temp = self.dir.join(format!(".{}.{}", std::process::id(), self.temps.fetch_add(1, Ordering::Relaxed)));
        let write = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            let file = File::options().write(true).create_new(true).mode(0o600).open(&temp)?;
            let mut out = io::BufWriter::new(file);
            ends.iter().try_for_each(|(key, end)| writeln!(out, "{} {key}", end.secs()))?;
            out.flush()?;
            fs::rename(&temp, self.dir.join(LOCKS))
        };
        if write().is_err() {
            drop(fs::remove_file(&temp));
        }
    }

    fn fetch(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        let body = self.store.get(key, Span::Tail { len: key.shelf().bytes_max() + 1 })?;
        self.keep(key, &body);
        Ok(body)
    }
}

fn is_kept(key: &Key) -> bool {
    KEPT.contains(&key.shelf()) && key.digest().is_some()
}

/// The bytes of `span` in a file, as [`Backend::get`] promises them.
fn part(file: &File, span: Span, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
    let Ok(size) = file.metadata().map(|meta| meta.len()) else { return Ok(None) };
    let (offset, len) = match span {
        Span::Whole => (0, size),
        Span::Range { offset, len } => (offset, len),
        Span::Tail { len } => (size - len.min(size), len.min(size)),
    };
    if offset.checked_add(len).is_none_or(|end| end > size) {
        let why = format!("it has {size} bytes, and {len} were wanted from byte {offset}");
        return Err(StoreError::new(Kind::Corrupt, format!("read {key}"), why));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    Ok(file.read_exact_at(&mut bytes, offset).is_ok().then_some(bytes))
}

impl Backend for CachedStore {
    fn put_new(&self, key: &Key, body: &[u8]) -> Result<Put, StoreError> {
        let put = self.store.put_new(key, body)?;
        self.keep(key, body);
        Ok(put)
    }

    fn put_owned(&self, key: &Key, body: Vec<u8>) -> Result<Put, StoreError> {
        if is_kept(key) { self.put_new(key, &body) } else { self.store.put_owned(key, body) }
    }

    fn put_locked(&self, key: &Key, body: Vec<u8>, lock: Lock) -> Result<Put, StoreError> {
        if !is_kept(key) {
            return self.store.put_locked(key, body, lock);
        }
        let put = self.store.put_locked(key, body.clone(), lock)?;
        self.keep(key, &body);
        Ok(put)
    }

    /// Asks only for locks that are not known to last: they end no earlier than they did.
    fn extend_locks(&self, keys: &[Key], enough: Timestamp, lock: Lock) -> Result<Extended, StoreError> {
        let mut ends = self.known_ends();
        let near: Vec<Key> = keys.iter().filter(|key| ends.get(key).is_none_or(|end| *end < enough)).cloned().collect();
        let extended = self.store.extend_locks(&near, enough, lock)?;
        ends.extend(near.into_iter().zip(extended.ends));
        let ends: Vec<(&Key, Timestamp)> = keys.iter().filter_map(|key| Some((key, *ends.get(key)?))).collect();
        self.keep_ends(&ends);
        Ok(Extended { ends: ends.into_iter().map(|(_, end)| end).collect(), count: extended.count })
    }

    fn has_locks(&self) -> Result<bool, StoreError> {
        self.store.has_locks()
    }

    fn examine(&self) -> Vec<Finding> {
        self.store.examine()
    }

    fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError> {
        if !is_kept(key) {
            return self.store.get(key, span);
        }
        if let Some(file) = self.kept(key)
            && let Some(bytes) = part(&file, span, key)?
        {
            return Ok(bytes);
        }
        let whole = self.fetch(key)?;
        match span {
            Span::Whole => Ok(whole),
            Span::Tail { len } if len >= whole.len() as u64 => Ok(whole),
            // Whoever reads a piece will read more of them.
            _ => match self.kept(key) {
                Some(file) => part(&file, span, key)?.map_or_else(|| self.store.get(key, span), Ok),
                None => self.store.get(key, span),
            },
        }
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.store.size(key)
    }

    fn list(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let listed = self.store.list(shelf, prefix)?;
        if prefix.is_empty() && KEPT.contains(&shelf) {
            self.adopt(shelf, &listed);
        }
        Ok(listed)
    }

    fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        self.forget(key);
        self.store.delete(key)
    }

    fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        keys.iter().for_each(|key| self.forget(key));
        self.store.delete_all(keys)
    }

    fn tidy(&self) -> Result<u64, StoreError> {
        self.store.tidy()
    }

    fn room(&self) -> Option<u64> {
        self.store.room()
    }

    fn lists_at_once(&self) -> bool {
        self.store.lists_at_once()
    }

    fn checks_writes(&self) -> bool {
        self.store.checks_writes()
    }

    fn pack_bytes(&self) -> u32 {
        self.store.pack_bytes()
    }

    fn reads_at_once(&self) -> usize {
        self.store.reads_at_once()
    }

    fn warnings(&self) -> Vec<Warning> {
        self.store.warnings()
    }

    fn address(&self) -> String {
        self.store.address()
    }
}
