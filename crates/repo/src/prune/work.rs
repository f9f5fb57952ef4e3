//! Who is at work beside a prune, and how one who is dead or silent is given up.
//!
//! It may not know what is needed. It reads announcements, deletes those of the given up, and fences their runs by a head.

use super::{Act, Keeper, Life};
use crate::error::Result;
use crate::head::{self, State};
use crate::id::IntentId;
use crate::intent::{self, Announced, Condemned, Work};
use crate::repository::Repository;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use store::Key;

/// An announcement that has not moved for this long, as seen by two prunes, is given up.
const SILENCE: Duration = Duration::from_secs(3600);
/// The same for a prune: another may not go on beside it.
const SILENCE_OF_KEEPERS: Duration = Duration::from_secs(24 * 3600);

/// Who is at work now.
#[derive(Default)]
pub(super) struct AtWork {
    pub(super) open: BTreeMap<IntentId, Announced>,
    pub(super) ended: Vec<Announced>,
    /// Given up just now for being silent: they still delay this prune.
    pub(super) silent: BTreeSet<IntentId>,
}

/// Who is to be given up.
#[derive(Default)]
struct GivenUp {
    /// All that they announced.
    keys: Vec<Key>,
    /// Those of them who could still commit.
    writers: BTreeSet<IntentId>,
    /// Lists of another prune, which was killed while it gave these up.
    begun: Vec<Key>,
}

impl Keeper<'_, '_> {
    /// Who is at work. Gives up who is dead or silent.
    pub(super) fn at_work(&mut self, lists: &[(Key, Condemned)]) -> Result<AtWork> {
        let repository = self.repository;
        let (announced, _) = intent::announced(&repository.store, &repository.trust, &|d| repository.keep_key(d))?;
        let now = repository.world.clock.now();
        let mut given_up = GivenUp::default();
        let mut at_work = AtWork { open: BTreeMap::new(), ended: Vec::new(), silent: self.silent.clone() };
        for (id, intent) in announced {
            if self.own.as_ref().is_some_and(|own| own.id() == id) {
                continue;
            }
            let life = intent.process.as_ref().map_or(Life::Unknown, |process| (self.plan.life)(process));
            // Where listings lag the end of who is dead may not show yet: then only who was seen before counts as dead.
            let dead = life == Life::Dead && repository.store.lists_at_once();
            let silent = life != Life::Alive
                && lists.iter().any(|(_, list)| {
                    let since = crate::time::parse(&list.time).map_or(Duration::ZERO, |then| now.since(then));
                    let patience = if intent.kind == Work::Keep { SILENCE_OF_KEEPERS } else { SILENCE };
                    list.intents.get(&id) == Some(&intent.seq) && since >= patience
                });
            self.known.extend(intent.head);
            if intent.ended {
                at_work.ended.push(intent);
            } else if (dead || silent) && self.plan.act == Act::Do {
                given_up.keys.extend(intent.keys);
                if intent.kind == Work::Write {
                    given_up.writers.insert(id);
                }
                if !dead {
                    self.silent.insert(id);
                    at_work.silent.insert(id);
                }
            } else if !dead {
                at_work.open.insert(id, intent);
            }
        }
        if store::sabotaged("ignore who is at work") {
            at_work.open.retain(|_, intent| intent.kind == Work::Keep);
        }
        if self.plan.act == Act::Do {
            for (key, list) in lists.iter().filter(|(_, list)| !list.given_up.is_empty()) {
                // Who is open here was not reached by the prune that was killed.
                if list.given_up.iter().all(|id| !at_work.open.contains_key(id)) {
                    given_up.writers.extend(&list.given_up);
                    given_up.begun.push(key.clone());
                }
            }
            self.give_up(given_up)?;
        }
        Ok(at_work)
    }

    /// Giving somebody up is deleting what they announced: they look for it before and after they commit. What they commit
    /// unseen by the head that follows does not count, because its chunks may be gone by then. The head cannot come first:
    /// who commits between the two would be told that it counts. So a list says what is about to happen, and is what is left
    /// of it should this process be killed in the middle: whoever finds it writes the head.
    fn give_up(&self, given_up: GivenUp) -> Result<()> {
        let Repository { store, trust, world, .. } = self.repository;
        let GivenUp { keys, writers, begun } = given_up;
        let mut lists = begun;
        if !keys.is_empty() && !writers.is_empty() && !store::sabotaged("give up without a note") {
            let time = crate::time::text(world.clock.now());
            let list = Condemned { v: 1, time, given_up: writers.clone(), ..Condemned::default() };
            lists.push(intent::condemn(store, trust, &self.signing, &list)?);
        }
        self.reaper.delete_all(&keys)?;
        if !writers.is_empty() {
            // Who committed before that was told that it counts: the head that fences must follow theirs.
            crate::replicate::settle(store, world)?;
        }
        if !writers.is_empty() && !store::sabotaged("fence nobody") {
            let mut next = State::load_knowing(store, trust, &self.known)?.next(world);
            next.fenced = writers.into_iter().collect();
            head::commit(store, trust, &self.signing, &next)?;
        }
        Ok(self.reaper.delete_all(&lists)?)
    }

    /// Who they are, for people.
    pub(super) fn names(&self, at_work: &AtWork) -> String {
        let name = |intent: &Announced| match &intent.process {
            Some(p) => format!("{} on {} (process {})", p.command, p.host, p.pid),
            None => "somebody this key cannot name".to_owned(),
        };
        let mut names: Vec<String> = at_work.open.values().map(name).collect();
        names.extend(at_work.silent.iter().map(|id| format!("{}, which fell silent", id.short())));
        names.join(", ")
    }

    /// Notes who is at work and how far they are, so that a later prune can tell whether they moved.
    pub(super) fn write_waiting_list(&self, of: Vec<String>, at_work: &AtWork) -> Result<()> {
        let Repository { store, trust, world, .. } = self.repository;
        let intents = at_work.open.iter().map(|(id, intent)| (*id, intent.seq)).collect();
        let list = Condemned { v: 1, time: crate::time::text(world.clock.now()), of, intents, ..Condemned::default() };
        intent::condemn(store, trust, &self.signing, &list)?;
        Ok(())
    }
}
