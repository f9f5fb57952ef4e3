//! Runs: the random data key that each capture draws, wrapped to the recovery recipients (`docs/format.md` §5).

use crate::crypt::Secret;
use crate::error::{RepoError, Result};
use crate::format::Cursor;
use crate::id::{RepositoryId, RunId};
use crate::keys::{age_unwrap, age_wrap};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use store::{Key, Kind, Listed, Shelf, Store, World};
use zeroize::Zeroizing;

/// A new run: its id, data key, and stored wrapped key.
pub(crate) fn start(
    store: &Store,
    world: &World,
    repository: RepositoryId,
    recipients: &[String],
) -> Result<(RunId, Secret)> {
    let run = RunId(world.random());
    let key = Secret(world.random());
    let plain = Zeroizing::new([&b"BSRN"[..], &1u32.to_le_bytes(), &repository.0, &run.0, &key.0].concat());
    let object = age_wrap(recipients, &plain)?;
    let name = format!("{run}.{}", blake3::hash(&object).to_hex());
    store.put_new(&Key::new(Shelf::Runs, name).expect("hex is a good name"), &object)?;
    Ok((run, key))
}

/// Which run a `runs/` object belongs to.
pub(crate) fn run_of(key: &Key) -> Option<RunId> {
    RunId::parse(key.name().split('.').next()?)
}

/// The keys of one run, once they are known.
type Known = Mutex<Option<Vec<Secret>>>;

/// The data keys that an identity opens, each opened once.
pub(crate) struct Runs {
    store: Store,
    repository: RepositoryId,
    identity: age::x25519::Identity,
    known: Mutex<BTreeMap<RunId, Arc<Known>>>,
}

impl Runs {
    pub(crate) fn new(store: &Store, repository: RepositoryId, identity: &age::x25519::Identity) -> Self {
        Runs { store: store.clone(), repository, identity: identity.clone(), known: Mutex::default() }
    }

    /// Every data key that is stored for `run`: never none, and nearly always one. The recipients are public, so anybody can
    /// make an object of this name: of several keys, the right one is the one that opens what the run sealed.
    ///
    /// # Errors
    /// `Damaged` when its object is gone, damaged, or wrapped to somebody else; whatever the store returns.
    pub(crate) fn keys(&self, run: RunId) -> Result<Vec<Secret>> {
        let known = Arc::clone(self.known.lock().expect("no holder panics").entry(run).or_default());
        // Held while they are fetched: several lanes come for the same run at once.
        let mut known = known.lock().expect("no holder panics");
        if let Some(keys) = &*known {
            return Ok(keys.clone());
        }
        let mut why = "is gone: what it encrypts cannot be read any more";
        let mut keys: Vec<Secret> = Vec::new();
        for Listed { key: name, .. } in self.store.list_prefix(Shelf::Runs, &run.to_string())? {
            let object = match self.store.get_checked(&name) {
                Ok(object) => object,
                Err(e) if !matches!(e.kind, Kind::Absent | Kind::Corrupt) => return Err(e.into()),
                Err(e) => {
                    why = if e.is_absent() { why } else { "is damaged" };
                    continue;
                }
            };
            why = "cannot be opened with this key";
            let Some(plain) = age_unwrap(&self.identity, &object).map(Zeroizing::new) else { continue };
            if let Ok(key) = self.decode(run, &plain) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return Err(RepoError::damaged(format!("runs/{run}"), why));
        }
        *known = Some(keys.clone());
        Ok(keys)
    }

    fn decode(&self, run: RunId, plain: &[u8]) -> Result<Secret> {
        let mut cursor = Cursor::new("a run's key", plain);
        let sound = cursor.array::<4>()? == *b"BSRN"
            && cursor.u32()? == 1
            && RepositoryId(cursor.array()?) == self.repository
            && RunId(cursor.array()?) == run;
        match sound {
            true => Ok(Secret(cursor.array()?)),
            false => Err(cursor.bad("is another's")),
        }
    }
}
