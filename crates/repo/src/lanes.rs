//! Many things at once, within a bound of memory.
//!
//! What it is for: a disk is kept busy by as many lanes as there are processors; a service that is far away wants more, and
//! what is on the way must not grow with them.
//! What it may not know: what the work is. Where data comes from and goes: items in; the first error out.

use crate::error::{RepoError, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use store::{Lanes, Store, World};

/// How many bytes of objects that are read whole may be in memory at once, on all lanes. One object may be larger.
const BYTES_MAX: u64 = 128 << 20;

/// The lanes for reading from `store`: those of the world, or as many as the place wants.
pub(crate) fn reading(world: &World, store: &Store) -> Lanes {
    match world.lanes {
        Lanes::Inline => Lanes::Inline,
        Lanes::Threads(n) => Lanes::Threads(n.max(store.reads_at_once())),
    }
}

/// Runs `each` over all items on these lanes. `bytes` says how much memory one takes while it is worked on. Stops at the
/// first error, or when somebody asks to.
pub(crate) fn each<T: Sync>(
    (world, lanes): (&World, Lanes),
    items: &[T],
    bytes: &(dyn Fn(&T) -> u64 + Sync),
    each: &(dyn Fn(&T) -> Result<()> + Sync),
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<RepoError>> = Mutex::default();
    let room = Room { left: Mutex::new(BYTES_MAX), freed: Condvar::new() };
    lanes.each(&|| {
        while failed.lock().expect("no holder panics").is_none() {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            let taken = room.take(bytes(item));
            let result = if world.stop.requested() { Err(RepoError::Stopped) } else { each(item) };
            drop(taken);
            if let Err(e) = result {
                failed.lock().expect("no holder panics").get_or_insert(e);
            }
        }
    });
    failed.into_inner().expect("no holder panics").map_or(Ok(()), Err)
}

/// Memory that lanes share.
struct Room {
    left: Mutex<u64>,
    freed: Condvar,
}

/// A part of it; given back when this is dropped.
struct Taken<'r> {
    room: &'r Room,
    bytes: u64,
}

impl Room {
    /// Waits until there is room for this much, at most all there is.
    fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(BYTES_MAX);
        let mut left = self.left.lock().expect("no holder panics");
        while *left < bytes {
            left = self.freed.wait(left).expect("no holder panics");
        }
        *left -= bytes;
        Taken { room: self, bytes }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.room.left.lock().expect("no holder panics") += self.bytes;
        self.room.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// The most bytes that were worked on at once.
    fn most(lanes: usize, sizes: &[u64]) -> u64 {
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let done = each((&World::real(), Lanes::Threads(lanes)), sizes, &|size| *size, &|size| {
            most.fetch_max(now.fetch_add(*size, Ordering::SeqCst) + *size, Ordering::SeqCst);
            // Long enough for others to come by.
            assert_ne!(blake3::hash(&[7; 4096]).as_bytes(), &[0; 32]);
            now.fetch_sub(*size, Ordering::SeqCst);
            Ok(())
        });
        done.unwrap();
        assert_eq!(now.into_inner(), 0);
        most.into_inner()
    }

    #[test]
    fn what_is_in_work_stays_within_its_bound_however_many_lanes_there_are() {
        let sizes: Vec<u64> = (0..200).map(|n| (n % 7) * (20 << 20)).collect();
        assert!(most(16, &sizes) <= BYTES_MAX);
        // What is larger than all the room goes alone.
        assert_eq!(most(4, &[BYTES_MAX * 2, BYTES_MAX * 2]), BYTES_MAX * 2);
    }

    #[test]
    fn the_first_error_ends_it_and_so_does_a_request_to_stop() {
        let (world, done) = (World::real(), AtomicUsize::new(0));
        let lanes = Lanes::Threads(3);
        let failed = each((&world, lanes), &[1; 10_000], &|_| 1, &|_| match done.fetch_add(1, Ordering::SeqCst) {
            5 => Err(RepoError::Fenced),
            _ => Ok(()),
        });
        assert!(matches!(failed, Err(RepoError::Fenced)), "{failed:?}");
        assert!(done.into_inner() < 10_000);
        world.stop.request();
        let stopped = each((&world, lanes), &[1; 10], &|_| 1, &|_| panic!("nothing is begun any more"));
        assert!(matches!(stopped, Err(RepoError::Stopped)), "{stopped:?}");
    }
}
