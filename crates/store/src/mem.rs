//! A store in memory, for tests and simulations.
//!
//! It may not know the disk. It forgets everything when the last clone goes, and can be told to fail or to rot.

use crate::error::{Kind, StoreError};
use crate::key::{Key, Shelf};
use crate::lock::{Extended, Lock};
use crate::store::{Backend, Listed, Put, Span, Warning};
use crate::world::{Clock, Timestamp};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store in memory. Cloning shares it.
#[derive(Clone, Default)]
pub struct MemStore(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    shelves: BTreeMap<Shelf, BTreeMap<String, Vec<u8>>>,
    fault: Option<Fault>,
    /// When locks end, and the clock that they go by; without one nothing is locked.
    locks: BTreeMap<Key, Lock>,
    clock: Option<Arc<dyn Clock>>,
}

struct Fault {
    puts_left: u64,
    kind: Kind,
}

impl MemStore {
    /// An empty store.
    pub fn new() -> Self {
        MemStore::default()
    }

    /// An empty store with locks that go by this clock. It refuses to delete what is locked.
    pub fn with_locks(clock: &Arc<dyn Clock>) -> Self {
        let store = MemStore::new();
        store.lock().clock = Some(Arc::clone(clock));
        store
    }

    /// The lock of an object, where it has one.
    pub fn lock_of(&self, key: &Key) -> Option<Lock> {
        self.lock().locks.get(key).copied()
    }

    /// Changes the bytes of an object behind everybody's back, as bit rot does.
    ///
    /// # Panics
    /// When there is no such object: the test means another.
    pub fn corrupt(&self, key: &Key, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.lock();
        let body = inner.shelves.get_mut(&key.shelf()).and_then(|shelf| shelf.get_mut(key.name()));
        change(body.unwrap_or_else(|| panic!("{key} is to be damaged and does not exist")));
    }

    /// Takes an object away behind everybody's back. Nothing happens when it is not there.
    pub fn remove(&self, key: &Key) {
        self.lock().take(key);
    }

    /// The names of all objects, sorted.
    pub fn keys(&self) -> Vec<Key> {
        let inner = self.lock();
        let names = inner.shelves.iter().flat_map(|(shelf, objects)| objects.keys().map(|name| key(*shelf, name)));
        names.collect()
    }

    /// Lets `n_puts` more writes through; each one after them fails as `kind` and stores nothing, until
    /// [`MemStore::heal`].
    pub fn fail_after(&self, n_puts: u64, kind: Kind) {
        self.lock().fault = Some(Fault { puts_left: n_puts, kind });
    }

    /// Ends what [`MemStore::fail_after`] began.
    pub fn heal(&self) {
        self.lock().fault = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn find(&self, key: &Key) -> Option<&Vec<u8>> {
        self.shelves.get(&key.shelf())?.get(key.name())
    }

    fn take(&mut self, key: &Key) -> Option<Vec<u8>> {
        self.shelves.get_mut(&key.shelf())?.remove(key.name())
    }
}

fn key(shelf: Shelf, name: &str) -> Key {
    Key::new(shelf, name).expect("only good names are stored")
}

impl Backend for MemStore {
    fn put_new(&self, key: &Key, body: &[u8]) -> Result<Put, StoreError> {
        let mut inner = self.lock();
        if let Some(fault) = &mut inner.fault {
            if fault.puts_left == 0 {
                return Err(StoreError::new(fault.kind, format!("write {key}"), "the test wants it so"));
            }
            fault.puts_left -= 1;
        }
        match inner.find(key).map(Vec::len) {
            Some(found) if found == body.len() => Ok(Put::Existed),
            Some(found) => {
                let why = format!("an object of that name with {found} bytes exists, and {} are written", body.len());
                Err(StoreError::new(Kind::Corrupt, format!("write {key}"), why))
            }
            None => {
                inner.shelves.entry(key.shelf()).or_default().insert(key.name().to_owned(), body.to_vec());
                Ok(Put::New)
            }
        }
    }

    fn put_locked(&self, key: &Key, body: Vec<u8>, lock: Lock) -> Result<Put, StoreError> {
        let put = self.put_new(key, &body)?;
        let mut inner = self.lock();
        if inner.clock.is_some() && put == Put::New {
            inner.locks.insert(key.clone(), lock);
        }
        Ok(put)
    }

    fn extend_locks(&self, keys: &[Key], enough: Timestamp, lock: Lock) -> Result<Extended, StoreError> {
        let mut inner = self.lock();
        let mut extended = Extended::default();
        if inner.clock.is_none() {
            return Ok(extended);
        }
        for key in keys {
            let what = || format!("lock {key}");
            inner.find(key).ok_or_else(|| StoreError::new(Kind::Absent, what(), "there is no such object"))?;
            let now = inner.locks.get(key).map_or(Timestamp::default(), |lock| lock.until);
            if now < enough {
                inner.locks.insert(key.clone(), lock);
                extended.count += 1;
            }
            extended.ends.push(now.max(if now < enough { lock.until } else { now }));
        }
        Ok(extended)
    }

    fn has_locks(&self) -> Result<bool, StoreError> {
        Ok(self.lock().clock.is_some())
    }

    fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError> {
        let fail = |kind, why: &str| StoreError::new(kind, format!("read {key}"), why);
        let inner = self.lock();
        let body = inner.find(key).ok_or_else(|| fail(Kind::Absent, "there is no such object"))?;
        let bytes = match span {
            Span::Whole => Some(body.as_slice()),
            Span::Tail { len } => {
                let len = usize::try_from(len).unwrap_or(usize::MAX).min(body.len());
                body.get(body.len() - len..)
            }
            Span::Range { offset, len } => {
                let end = offset.checked_add(len).and_then(|end| usize::try_from(end).ok());
                let start = usize::try_from(offset).ok();
                start.zip(end).and_then(|(start, end)| body.get(start..end))
            }
        };
        bytes
            .map(<[u8]>::to_vec)
            .ok_or_else(|| fail(Kind::Corrupt, "the object ends before the bytes that were wanted"))
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        Ok(self.lock().find(key).map(|body| body.len() as u64))
    }

    fn list(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let inner = self.lock();
        let Some(objects) = inner.shelves.get(&shelf) else { return Ok(Vec::new()) };
        let from = objects.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let matching = from.take_while(|(name, _)| name.starts_with(prefix));
        Ok(matching.map(|(name, body)| Listed { key: key(shelf, name), bytes: body.len() as u64 }).collect())
    }

    fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let now = inner.clock.as_ref().map(|clock| clock.now());
        if let (Some(lock), Some(now)) = (inner.locks.get(key), now)
            && lock.until > now
        {
            return Err(StoreError::new(Kind::Locked, format!("delete {key}"), "it is locked"));
        }
        inner.locks.remove(key);
        Ok(inner.take(key).is_some())
    }

    fn tidy(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn room(&self) -> Option<u64> {
        None
    }

    fn lists_at_once(&self) -> bool {
        true
    }

    fn warnings(&self) -> Vec<Warning> {
        Vec::new()
    }

    fn address(&self) -> String {
        "memory".to_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn puts_fail_after_the_given_number_until_healed() {
        let store = MemStore::new();
        let key = |n: u32| Key::new(Shelf::Heads, format!("{n}")).unwrap();
        store.fail_after(2, Kind::Full);
        assert_eq!(store.put_new(&key(0), b"a").unwrap(), Put::New);
        assert_eq!(store.put_new(&key(1), b"b").unwrap(), Put::New);
        for _ in 0..2 {
            assert_eq!(store.put_new(&key(2), b"c").unwrap_err().kind, Kind::Full);
        }
        assert_eq!(store.keys(), [key(0), key(1)]);
        store.heal();
        assert_eq!(store.clone().put_new(&key(2), b"c").unwrap(), Put::New);
        assert_eq!(store.size(&key(2)).unwrap(), Some(1));
    }

    #[test]
    fn objects_can_rot_and_vanish() {
        let store = MemStore::new();
        let key = Key::new(Shelf::Heads, "a").unwrap();
        store.put_new(&key, b"abc").unwrap();
        store.corrupt(&key, |body| body[1] ^= 1);
        assert_eq!(store.get(&key, Span::Whole).unwrap(), b"acc");
        store.remove(&key);
        assert!(store.get(&key, Span::Whole).unwrap_err().is_absent());
    }
}
