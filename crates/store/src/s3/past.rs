//! A bucket that keeps versions, as it was.
//!
//! What it is for: to read under what was deleted or replaced since, by mistake or on purpose. Whoever may write may put a
//! delete marker over every object; the versions below stay for as long as the bucket keeps them.
//! What it may not know: what the bytes mean. It writes and deletes nothing.
//! Where data comes from: the service's list of versions, by its own clock; reads name the version.

use super::{S3Identity, S3Place, S3Store, failure, stem};
use crate::error::{Kind, StoreError};
use crate::key::{Key, Shelf};
use crate::store::{Backend, Listed, Put, Span, Warning};
use crate::world::{Timestamp, World};
use futures::TryStreamExt;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A repository in a bucket as it was at a moment. See the module's head for what it promises.
pub struct PastStore {
    now: S3Store,
    at: Timestamp,
    shelves: Mutex<BTreeMap<Shelf, Arc<Versions>>>,
    /// The bucket was found not to keep versions.
    forgets: AtomicBool,
}

type Versions = BTreeMap<Key, Version>;

/// What was newest at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    made: Timestamp,
    /// The newest of all.
    is_current: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Object { id: String, bytes: u64 },
    Deleted,
}

impl PastStore {
    /// The repository at `place` as it was at the moment `at`, by the service's clock.
    ///
    /// # Errors
    /// As [`S3Store::open`]; and what keeps the service from listing versions.
    pub fn open(place: &S3Place, world: &World, who: S3Identity, at: Timestamp) -> Result<PastStore, StoreError> {
        let now = S3Store::open(place, world, who)?;
        let past = PastStore { now, at, shelves: Mutex::default(), forgets: AtomicBool::new(false) };
        past.shelf(Shelf::Root)?;
        Ok(past)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Shelf, Arc<Versions>>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything on a shelf, listed once: the past does not change.
    fn shelf(&self, shelf: Shelf) -> Result<Arc<Versions>, StoreError> {
        if let Some(versions) = self.lock().get(&shelf) {
            return Ok(Arc::clone(versions));
        }
        let what = match shelf {
            Shelf::Root => "list versions of the repository".to_owned(),
            shelf => format!("list versions of {}", shelf.dir()),
        };
        let stem = stem(shelf, "").unwrap_or_default();
        let versions = self.now.ask(async |_| {
            let mut newest = Versions::new();
            let list = self.now.operator.lister_with(&stem).recursive(shelf != Shelf::Root);
            let mut entries = list.versions(true).deleted(true).await?;
            while let Some(entry) = entries.try_next().await? {
                let meta = entry.metadata();
                let key = Key::from_path(entry.path()).filter(|key| key.shelf() == shelf);
                let (Some(key), Some(made)) = (key, meta.last_modified()) else { continue };
                let made = made.into_inner();
                let version = Version {
                    made: Timestamp(made.as_nanosecond()),
                    is_current: meta.is_current() == Some(true),
                    what: match meta.is_deleted() {
                        true => What::Deleted,
                        false => What::Object {
                            id: meta.version().unwrap_or_default().to_owned(),
                            bytes: meta.content_length(),
                        },
                    },
                };
                if !meta.is_deleted() && matches!(meta.version(), None | Some("null" | "")) {
                    self.forgets.store(true, Ordering::SeqCst);
                }
                if version.made <= self.at && newest.get(&key).is_none_or(|other| version.hides(other)) {
                    newest.insert(key, version);
                }
            }
            newest.retain(|_, version| version.what != What::Deleted);
            Ok(newest)
        });
        let versions = Arc::new(versions.map_err(|e| failure(&what, &e))?);
        self.lock().insert(shelf, Arc::clone(&versions));
        Ok(versions)
    }

    fn refuse<T>(&self, what: String) -> Result<T, StoreError> {
        Err(StoreError::new(Kind::Denied, what, "the past can only be read"))
    }
}

impl Version {
    /// Whether this is what was to be seen rather than `other`, of the same name. Services that count whole seconds leave
    /// it open what came last within one: an object is shown rather than hidden then, unless it is known to be gone.
    fn hides(&self, other: &Version) -> bool {
        let is_object = |version: &Version| version.what != What::Deleted;
        (self.made, self.is_current, is_object(self)) > (other.made, other.is_current, is_object(other))
    }
}

impl Backend for PastStore {
    fn put_new(&self, key: &Key, _body: &[u8]) -> Result<Put, StoreError> {
        self.refuse(format!("write {key}"))
    }

    fn get(&self, key: &Key, span: Span) -> Result<Vec<u8>, StoreError> {
        match self.shelf(key.shelf())?.get(key) {
            Some(Version { what: What::Object { id, .. }, .. }) => self.now.get_version(key, span, Some(id)),
            _ => Err(StoreError::new(Kind::Absent, format!("read {key}"), "it was not there then")),
        }
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        Ok(match self.shelf(key.shelf())?.get(key) {
            Some(Version { what: What::Object { bytes, .. }, .. }) => Some(*bytes),
            _ => None,
        })
    }

    fn list(&self, shelf: Shelf, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let versions = self.shelf(shelf)?;
        let found = versions.iter().filter(|(key, _)| key.name().starts_with(prefix));
        let found = found.filter_map(|(key, version)| match version.what {
            What::Object { bytes, .. } => Some(Listed { key: key.clone(), bytes }),
            What::Deleted => None,
        });
        Ok(found.collect())
    }

    fn delete(&self, key: &Key) -> Result<bool, StoreError> {
        self.refuse(format!("delete {key}"))
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

    fn reads_at_once(&self) -> usize {
        self.now.reads_at_once()
    }

    fn warnings(&self) -> Vec<Warning> {
        let forgets = self.forgets.load(Ordering::SeqCst).then(|| Warning {
            name: "no-versions",
            text: format!(
                "{} keeps no versions of all objects: what was deleted or replaced is not shown",
                self.now.place
            ),
        });
        self.now.warnings().into_iter().chain(forgets).collect()
    }

    fn address(&self) -> String {
        self.now.address()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_is_seen_and_within_one_second_an_object_unless_it_is_known_to_be_gone() {
        let object = |secs, is_current| Version {
            made: Timestamp::new(secs, 0),
            is_current,
            what: What::Object { id: "v".into(), bytes: 1 },
        };
        let deleted = |secs, is_current| Version { made: Timestamp::new(secs, 0), is_current, what: What::Deleted };
        for (seen, hidden) in [
            (object(2, false), object(1, false)),
            (deleted(2, false), object(1, false)),
            (object(3, false), deleted(2, false)),
            (object(2, false), deleted(2, false)),
            (deleted(2, true), object(2, false)),
            (object(2, true), deleted(2, false)),
        ] {
            assert!(seen.hides(&hidden) && !hidden.hides(&seen), "{seen:?} {hidden:?}");
        }
    }
}
