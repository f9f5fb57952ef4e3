//! A place that keeps immutable objects: reads and creates, and has no delete.

use crate::error::{Kind, StoreError};
use crate::finding::Finding;
use crate::key::{Key, Shelf};
use crate::lock::{Extended, Lock, LockPolicy};
use crate::world::{Clock, Timestamp};
use std::fmt;
use std::sync::Arc;

/// Which bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// All of them.
    Whole,
    /// Exactly `len` bytes from `offset`.
    Range {
        /// First byte.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// The last `len` bytes, or all when there are fewer.
    Tail {
        /// How many bytes.
        len: u64,
    },
}

/// What a write found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object is new and durable.
    New,
    /// An object of that name and size was there already; it is durable and untouched.
    Existed,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: Key,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Something about the place its owner should know, with a stable name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Stable name, such as `network-filesystem`.
    pub name: &'static str,
    /// One sentence.
    pub text: String,
}

/// What a place must be able to do. Implemented by each kind of store; everybody else uses [`Store`] and
/// [`crate::Reaper`].
pub trait Backend: Send + Sync {
    /// Creates the object. Never overwrites. When it returns `Ok` the bytes and the name survive power loss; when it
    /// fails or is interrupted there is either the whole object or none.
    ///
    /// # Errors
    /// `Full`, `Denied`, `Unreachable`; `Corrupt` when an object of that name but another size exists.
    fn put_new(&self, key: &Key, body: &[u8]) -> Result<Put, StoreError>;

    /// As [`Backend::put_new`], of bytes that the caller gives away: a place that sends them somewhere needs no copy.
    ///
    /// # Errors
    /// See [`Backend::put_new`].
    fn put_owned(&self, key: &Key, body: Vec<u8>) -> Result<Put, StoreError> {
        self.put_new(key, &body)
    }

    /// As [`Backend::put_owned`], of an object that is locked from the beginning. A place without locks stores it without.
    ///
    /// # Errors
    /// See [`Backend::put_new`]; `Unsuitable` when a place that has locks does not lock here.
    fn put_locked(&self, key: &Key, body: Vec<u8>, _lock: Lock) -> Result<Put, StoreError> {
        self.put_owned(key, body)
    }

    /// Sees to it that each of these objects stays locked beyond `enough`: what would not gets `lock`. No lock ends earlier
    /// than before. A place without locks says that none was extended.
    ///
    /// # Errors
    /// `Absent` when one is not there; `Denied`, `Unreachable`: some may be extended then.
    fn extend_locks(&self, _keys: &[Key], _enough: Timestamp, _lock: Lock) -> Result<Extended, StoreError> {
        Ok(Extended::default())
    }

    /// Whether the place locks objects when it is asked to.
    ///
    /// # Errors
    /// `Denied` when it may not be asked; `Unreachable`.
    fn has_locks(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// The bytes of `span`, exactly: a short answer is an error, never a short result.
    ///
    /// # Errors
    /// `Absent`; `Corrupt` when the object ends before the span does; `Denied`, `Unreachable`.
    fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError>;

    /// The object's size in bytes, or `None` when it is absent.
    ///
    /// # Errors
    /// `Denied`, `Unreachable`.
    fn size(&self, key: &Key) -> Result<Option<u64>, StoreError>;

    /// Every object of the shelf, sorted by name, whose name begins with `prefix`. Proves presence, never absence. Files
    /// that are no object names are left out.
    ///
    /// # Errors
    /// `Denied`, `Unreachable`. An incomplete listing is an error, never a shorter list.
    fn list(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError>;

    /// Deletes the object. `Ok(false)` when it was not there. Durable when it returns.
    ///
    /// # Errors
    /// `Denied`, `Unreachable`; `Locked` where a lock keeps the very name.
    fn delete(&self, key: &Key) -> Result<bool, StoreError>;

    /// Deletes these objects, those that are not there included. Durable when it returns; after an error some may be gone,
    /// and after `Locked` all are but those that are locked.
    ///
    /// # Errors
    /// `Denied`, `Unreachable`, `Locked`.
    fn delete_all(&self, keys: &[Key]) -> Result<(), StoreError> {
        let mut locked = None;
        for key in keys {
            match self.delete(key) {
                Err(e) if e.kind == Kind::Locked => locked = Some(e),
                other => drop(other?),
            }
        }
        locked.map_or(Ok(()), Err)
    }

    /// Removes what writers that died left half done, and returns how many bytes that freed. Never touches what a living
    /// writer is writing.
    ///
    /// # Errors
    /// `Denied`, `Unreachable`.
    fn tidy(&self) -> Result<u64, StoreError>;

    /// Free bytes that may still be written, when the place can tell.
    fn room(&self) -> Option<u64>;

    /// Whether a listing always shows what was written before it began.
    fn lists_at_once(&self) -> bool;

    /// Whether the place compares what it stores with a digest that goes along: then reading it back tells nothing new.
    fn checks_writes(&self) -> bool {
        false
    }

    /// How many reads at once make good use of the place: more where each waits for a network.
    fn reads_at_once(&self) -> usize {
        1
    }

    /// How large packs should be here when nobody says otherwise: large where each object costs a request.
    fn pack_bytes(&self) -> u32 {
        16 << 20
    }

    /// A close look at the place: whether it keeps what a repository needs, now and later. May write once more what is there.
    fn examine(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// What its owner should know about the place.
    fn warnings(&self) -> Vec<Warning>;

    /// The place as a person would write it.
    fn address(&self) -> String;
}

/// A place that keeps immutable objects. Cloning shares it.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    locking: Option<Locking>,
}

/// What is locked of what is written, and from when.
#[derive(Clone)]
struct Locking {
    policy: LockPolicy,
    clock: Arc<dyn Clock>,
}

/// Objects that only grow with data stop this many bytes before the disk is full, so that there is always room for the
/// small objects that free space again (condemned lists, heads, tables).
pub(crate) const RESERVE_BYTES: u64 = 16 << 20;

impl Store {
    /// The store over a backend.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Store { backend, locking: None }
    }

    /// The same store, which locks from now on what it writes as `policy` says, where the place has locks.
    #[must_use]
    pub fn locking(&self, policy: Option<LockPolicy>, clock: &Arc<dyn Clock>) -> Store {
        let locking = policy.map(|policy| Locking { policy, clock: Arc::clone(clock) });
        Store { backend: Arc::clone(&self.backend), locking }
    }

    fn lock_for(&self, key: &Key) -> Option<Lock> {
        let locking = self.locking.as_ref().filter(|_| LockPolicy::covers(key.shelf()))?;
        Some(locking.policy.lock(locking.clock.now()))
    }

    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.backend)
    }

    /// Creates the object; see [`Backend::put_new`]. Packs and ledger segments are refused early when the place is nearly
    /// full.
    ///
    /// # Errors
    /// See [`Backend::put_new`].
    pub fn put_new(&self, key: &Key, body: &[u8]) -> Result<Put, StoreError> {
        self.check_room(key, body)?;
        match self.lock_for(key) {
            Some(lock) => self.backend.put_locked(key, body.to_vec(), lock),
            None => self.backend.put_new(key, body),
        }
    }

    /// As [`Store::put_new`], of bytes that the caller gives away.
    ///
    /// # Errors
    /// See [`Backend::put_new`].
    pub fn put_owned(&self, key: &Key, body: Vec<u8>) -> Result<Put, StoreError> {
        self.check_room(key, &body)?;
        match self.lock_for(key) {
            Some(lock) => self.backend.put_locked(key, body, lock),
            None => self.backend.put_owned(key, body),
        }
    }

    fn check_room(&self, key: &Key, body: &[u8]) -> Result<(), StoreError> {
        if matches!(key.shelf(), Shelf::Packs | Shelf::Ledger) {
            let need = body.len() as u64 + RESERVE_BYTES;
            if let Some(room) = self.backend.room().filter(|room| *room < need) {
                let why = format!("{room} bytes are free at {} and {need} are needed", self.address());
                return Err(StoreError::new(Kind::Full, format!("write {key}"), why));
            }
        }
        Ok(())
    }

    /// The bytes of `span`; see [`Backend::get`].
    ///
    /// # Errors
    /// See [`Backend::get`].
    pub fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError> {
        let limit = key.shelf().bytes_max();
        let wanted = match span {
            // Asked for at its end only: a backend looks at the size before it reads.
            Span::Whole => Span::Tail { len: limit + 1 },
            Span::Tail { len } => Span::Tail { len: len.min(limit + 1) },
            Span::Range { len, .. } if len > limit => {
                return Err(StoreError::new(
                    Kind::Corrupt,
                    format!("read {key}"),
                    "more is asked for than can be there",
                ));
            }
            range => range,
        };
        let body = self.backend.get(key, wanted)?;
        if let Span::Range { len, .. } = span
            && body.len() as u64 != len
        {
            let why = format!("{} bytes came back and {len} were asked for", body.len());
            return Err(StoreError::new(Kind::Corrupt, format!("read {key}"), why));
        }
        match body.len() as u64 > limit {
            true => {
                Err(StoreError::new(Kind::Corrupt, format!("read {key}"), "it is larger than anything of its kind"))
            }
            false => Ok(body),
        }
    }

    /// The whole object, when its bytes have the digest its name carries.
    ///
    /// # Errors
    /// `Corrupt` when they have not; otherwise as [`Backend::get`].
    pub fn get_checked(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        let body = self.get(key, Span::Whole)?;
        match key.digest() {
            Some(_) if crate::sabotaged("check no digest") => Ok(body),
            Some(digest) if *blake3::hash(&body).as_bytes() != digest => Err(StoreError::new(
                Kind::Corrupt,
                format!("read {key}"),
                "its bytes do not match its name: the object is damaged",
            )),
            _ => Ok(body),
        }
    }

    /// Reads an object of so many bytes, a piece at a time, and compares it with its name.
    ///
    /// # Errors
    /// `Corrupt` when it is something else; otherwise as [`Backend::get`].
    pub fn check(&self, key: &Key, bytes: u64) -> Result<(), StoreError> {
        const PIECE_BYTES: u64 = 1 << 20;
        let corrupt = |why| StoreError::new(Kind::Corrupt, format!("read {key}"), why);
        let mut digest = blake3::Hasher::new();
        let mut offset = 0;
        while offset < bytes {
            let len = PIECE_BYTES.min(bytes - offset);
            digest.update(&self.get(key, Span::Range { offset, len })?);
            offset += len;
        }
        if self.size(key)? != Some(bytes) {
            return Err(corrupt("it has another length than was written"));
        }
        match key.digest() {
            Some(named) if *digest.finalize().as_bytes() != named => {
                Err(corrupt("its bytes do not match its name: the object is damaged"))
            }
            _ => Ok(()),
        }
    }

    /// The object's size in bytes, or `None` when it is absent.
    ///
    /// # Errors
    /// See [`Backend::size`].
    pub fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.backend.size(key)
    }

    /// Every object of the shelf, sorted by name.
    ///
    /// # Errors
    /// See [`Backend::list`].
    pub fn list(&self, shelf: Shelf) -> Result<Vec<Listed>, StoreError> {
        self.backend.list(shelf, "")
    }

    /// Every object of the shelf whose name begins with `prefix`, sorted by name.
    ///
    /// # Errors
    /// See [`Backend::list`].
    pub fn list_prefix(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.backend.list(shelf, prefix)
    }

    /// Free bytes that may still be written, when the place can tell.
    pub fn room(&self) -> Option<u64> {
        self.backend.room()
    }

    /// Whether a listing always shows what was written before it began.
    pub fn lists_at_once(&self) -> bool {
        self.backend.lists_at_once()
    }

    /// See [`Backend::checks_writes`].
    pub fn checks_writes(&self) -> bool {
        self.backend.checks_writes()
    }

    /// See [`Backend::reads_at_once`].
    pub fn reads_at_once(&self) -> usize {
        self.backend.reads_at_once()
    }

    /// How large packs should be here when nobody says otherwise.
    pub fn pack_bytes(&self) -> u32 {
        self.backend.pack_bytes()
    }

    /// See [`Backend::has_locks`].
    ///
    /// # Errors
    /// See [`Backend::has_locks`].
    pub fn has_locks(&self) -> Result<bool, StoreError> {
        self.backend.has_locks()
    }

    /// See [`Backend::examine`].
    pub fn examine(&self) -> Vec<Finding> {
        self.backend.examine()
    }

    /// What its owner should know about the place.
    pub fn warnings(&self) -> Vec<Warning> {
        self.backend.warnings()
    }

    /// The place as a person would write it.
    pub fn address(&self) -> String {
        self.backend.address()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.address())
    }
}
