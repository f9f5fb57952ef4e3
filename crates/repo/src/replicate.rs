//! Copying a repository, bit by bit, to another place: sealed objects, heads last. Needs no key, trusts nothing it reads.
//!
//! It never deletes at the destination: a copy prunes on its own, so that what is deleted here lives on there.

use crate::error::{RepoError, Result};
use crate::head;
use crate::lanes;
use crate::prune::Act;
use crate::repository::Repository;
use serde::Serialize;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::{Key, Lanes, Listed, Shelf, Span, Store, World};

/// Where listings lag, they show what was there so long ago: network file systems keep directories for up to a minute.
const LISTINGS_SETTLE: Duration = Duration::from_secs(90);
/// So often it is looked, while that passes, whether to go on.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How far a copy is.
#[derive(Clone, Copy, Debug)]
pub struct CopyStep {
    /// Objects copied.
    pub done: u64,
    /// Objects to copy.
    pub total: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Bytes to copy.
    pub bytes_total: u64,
}

/// What was copied, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CopyReport {
    /// Objects at the source.
    pub objects_total: u64,
    /// Objects copied.
    pub objects_copied: u64,
    /// Bytes copied.
    pub bytes_copied: u64,
    /// Objects that were there already.
    pub objects_present: u64,
    /// Nothing had to be copied.
    pub already_equal: bool,
}

/// Copies what `to` lacks of the repository in `from`. A snapshot shows at the destination only when all that it needs is
/// durable there.
///
/// # Errors
/// `NoRepository`; `AlreadyExists` when another repository is at the destination; `Damaged` when an object at the source
/// does not match its name: nothing that could refer to it is copied then.
pub fn replicate(
    from: &Store,
    to: &Store,
    world: &World,
    act: Act,
    on: &(dyn Fn(CopyStep) + Sync),
) -> Result<CopyReport> {
    let config = Key::new(Shelf::Root, "backstay.json").expect("a good name");
    let mut warnings = Vec::new();
    let identity = Repository::identity_of(from, &mut warnings)?;
    match Repository::identity_of(to, &mut warnings) {
        Ok(other) if other != identity => return Err(RepoError::AlreadyExists(to.address())),
        Ok(_) | Err(RepoError::NoRepository(_)) => {}
        Err(e) => return Err(e),
    }
    let to = &to.locking(Repository::lock_policy_of(from, &mut warnings)?, &world.clock);
    // What refers is listed before, and copied after, what it refers to: so that whatever is cut off or committed
    // meanwhile, nothing at the destination names what is not there. Announcements and condemned lists are about one
    // place, not about the repository. Tables are listed first of all: a prune replaces those that name what it sweeps, so
    // that none of it went between the heads and what they need while these are still there.
    let before = from.list(Shelf::Index)?;
    let heads = from.list(Shelf::Heads)?;
    if act == Act::Do && !store::sabotaged("copy what does not show yet") {
        settle(from, world)?;
    }
    let order = [Shelf::Keys, Shelf::Ledger, Shelf::Events, Shelf::Runs, Shelf::Packs, Shelf::Index];
    let mut parts: Vec<Vec<Listed>> =
        order.iter().rev().map(|shelf| from.list(*shelf)).collect::<std::result::Result<_, _>>()?;
    parts.reverse();
    let tables = parts[5].clone();
    parts.push(heads.clone());
    if store::sabotaged("copy heads first") {
        parts.reverse();
    }
    if heads.is_empty() {
        return Err(RepoError::LostHistory(format!("not one head can be seen at {}", from.address())));
    }
    let mut report = CopyReport::default();
    for part in &mut parts {
        let Some(shelf) = part.first().map(|listed| listed.key.shelf()) else { continue };
        let present: HashSet<Key> = to.list(shelf)?.into_iter().map(|listed| listed.key).collect();
        report.objects_total += part.len() as u64;
        let before = part.len();
        part.retain(|listed| !present.contains(&listed.key));
        report.objects_present += (before - part.len()) as u64;
        // The copy of the configuration is what makes a place a repository: it goes with the last.
        part.retain(|listed| !listed.key.name().starts_with("config."));
    }
    let total: u64 = parts.iter().map(|part| part.len() as u64).sum();
    let bytes_total = parts.iter().flatten().map(|listed| listed.bytes).sum();
    report.already_equal = total == 0;
    if act == Act::Preview {
        report.objects_copied = total;
        report.bytes_copied = bytes_total;
        return Ok(report);
    }
    let copied = (AtomicU64::new(0), AtomicU64::new(0));
    let last = parts.len() - 1;
    let one_by_one = World { lanes: Lanes::Inline, ..world.clone() };
    for (n, part) in parts.iter_mut().enumerate() {
        let mut world = world;
        if n == last {
            still_there(from, Shelf::Index, &before)?;
            still_there(from, Shelf::Index, &tables)?;
            still_there(from, Shelf::Heads, &heads)?;
            // Parents first: a copy that is cut off must not look as if it had lost history.
            parents_first(from, part)?;
            world = &one_by_one;
        }
        copy_part(from, to, world, part, &|bytes| {
            let done = copied.0.fetch_add(1, Ordering::Relaxed) + 1;
            let bytes = copied.1.fetch_add(bytes, Ordering::Relaxed) + bytes;
            on(CopyStep { done, total, bytes, bytes_total });
        })?;
    }
    let body = Repository::sound_config(from)?;
    if to.size(&config)?.is_none() {
        to.put_new(&config, &body)?;
    }
    for listed in from.list_prefix(Shelf::Keys, "config.")? {
        to.put_new(&listed.key, &from.get_checked(&listed.key)?)?;
    }
    let recovery = Key::new(Shelf::Root, "RECOVERY.txt").expect("a good name");
    if let (Some(_), None) = (from.size(&recovery)?, to.size(&recovery)?) {
        to.put_new(&recovery, &from.get(&recovery, Span::Whole)?)?;
    }
    report.objects_copied = copied.0.into_inner();
    report.bytes_copied = copied.1.into_inner();
    Ok(report)
}

/// Waits until all that is there now shows in listings, where they lag.
pub(crate) fn settle(store: &Store, world: &World) -> Result<()> {
    if store.lists_at_once() {
        return Ok(());
    }
    let began = world.clock.monotonic();
    while world.clock.monotonic().saturating_sub(began) < LISTINGS_SETTLE {
        if world.stop.requested() {
            return Err(RepoError::Stopped);
        }
        world.clock.sleep(LOOK_EVERY);
    }
    Ok(())
}

fn pruned_meanwhile() -> RepoError {
    RepoError::Busy("the repository was pruned while it was copied: copy again".into())
}

/// That a prune did not replace meanwhile what the copy goes by.
fn still_there(from: &Store, shelf: Shelf, seen: &[Listed]) -> Result<()> {
    let now: HashSet<Key> = from.list(shelf)?.into_iter().map(|listed| listed.key).collect();
    match seen.iter().all(|listed| now.contains(&listed.key)) {
        true => Ok(()),
        false => Err(pruned_meanwhile()),
    }
}

fn parents_first(from: &Store, heads: &mut Vec<Listed>) -> Result<()> {
    let rank = |listed: Listed| Ok((head::rank(&get(from, &listed.key)?), listed));
    let mut ranked = std::mem::take(heads).into_iter().map(rank).collect::<Result<Vec<_>>>()?;
    ranked.sort_by_key(|(rank, _)| *rank);
    heads.extend(ranked.into_iter().map(|(_, listed)| listed));
    Ok(())
}

fn get(from: &Store, key: &Key) -> Result<Vec<u8>> {
    from.get_checked(key).map_err(|e| if e.is_absent() { pruned_meanwhile() } else { e.into() })
}

fn copy_part(from: &Store, to: &Store, world: &World, part: &[Listed], on: &(dyn Fn(u64) + Sync)) -> Result<()> {
    let over = (world, lanes::reading(world, from));
    // A body is held while it is stored, by some stores twice.
    lanes::each(over, part, &|listed| listed.bytes * 2, &|listed| {
        let body = get(from, &listed.key)?;
        let bytes = body.len() as u64;
        to.put_owned(&listed.key, body)?;
        on(bytes);
        Ok(())
    })
}
