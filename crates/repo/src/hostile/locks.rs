//! Locks: what a snapshot needs is locked for as long as it is needed, and nothing fails because something still is.

use super::*;
use crate::replicate::replicate;
use store::{LockMode, LockPolicy};

const DAY: u64 = 86_400;
const POLICY: LockPolicy = LockPolicy { mode: LockMode::Compliance, days: 10 };

/// A repository that locks for ten days, in a place that refuses to delete what is locked.
fn locking() -> (Lab, Repository) {
    let clock = Arc::new(Hand::default());
    let mem = MemStore::with_locks(&(Arc::clone(&clock) as Arc<dyn Clock>));
    let layout = Layout { packs: PackSize::Bytes(60_000), lock: Some(POLICY) };
    Lab::at(Hooked { mem, ..Hooked::default() }, clock, layout)
}

impl Lab {
    /// For how many whole days from now each object is locked, with its shelf.
    fn days_locked(&self) -> Vec<(Key, Option<u64>)> {
        let days = |lock: Lock| lock.until.since(self.clock.now()).as_secs() / DAY;
        let lock_of = |key: &Key| self.site.mem.lock_of(key).map(days);
        self.site.mem.keys().into_iter().map(|key| (key.clone(), lock_of(&key))).collect()
    }

    #[track_caller]
    fn assert_all_locked(&self, days_min: u64) {
        for (key, days) in self.days_locked().into_iter().filter(|(key, _)| LockPolicy::covers(key.shelf())) {
            assert!(days >= Some(days_min), "{key} is locked for {days:?} days");
        }
    }
}

#[test]
fn what_a_snapshot_needs_is_locked_and_what_must_go_soon_is_not() {
    let (lab, repository) = locking();
    back_up(&repository, &files(1, 40));
    lab.assert_all_locked(10);
    for (key, days) in lab.days_locked() {
        assert_eq!(days.is_some(), LockPolicy::covers(key.shelf()), "{key}");
    }
    let seen = |shelf| lab.count(shelf) > 0;
    assert!(seen(Shelf::Packs) && seen(Shelf::Runs) && seen(Shelf::Keys) && seen(Shelf::Heads) && seen(Shelf::Intents));
}

#[test]
fn every_writer_locks_because_the_configuration_says_so() {
    let (lab, mut owner) = locking();
    let bundle = owner.enrol(Role::Writer, "host", None).unwrap();
    let writer = lab.open_as(&bundle);
    assert_eq!(writer.lock_policy(), Some(POLICY));
    back_up(&writer, &files(2, 40));
    lab.assert_all_locked(10);
}

#[test]
fn terms_of_locks_that_root_did_not_sign_are_not_believed() {
    let (lab, repository) = locking();
    back_up(&repository, &files(1, 5));
    let config = Key::new(Shelf::Root, "backstay.json").unwrap();
    for (from, to) in [("\"days\":10", "\"days\":99"), ("[\"lock\"]", "[      ]"), ("compliance", "governance")] {
        let original = lab.site.mem.get(&config, Span::Whole).unwrap();
        lab.site.mem.corrupt(&config, |body| {
            *body = String::from_utf8(body.clone()).unwrap().replace(from, to).into_bytes();
            assert_ne!(*body, original, "{from} stands there");
        });
        // The signed copy is used instead.
        let opened = lab.open();
        assert_eq!(opened.lock_policy(), Some(POLICY));
        assert!(opened.warnings.iter().any(|warning| warning.contains("backstay.json")), "{:?}", opened.warnings);
        lab.site.mem.corrupt(&config, |body| *body = original);
    }
}

#[test]
fn locks_of_what_is_needed_are_extended_in_their_second_half_and_others_run_out() {
    let (lab, repository) = locking();
    let (kept, gone) = (files(1, 40), files(2, 40));
    let first = back_up(&repository, &kept);
    let second = back_up(&repository, &gone);
    lab.wait(4 * DAY);
    assert_eq!(prune(&repository).unwrap().locks_extended, 0);
    lab.wait(2 * DAY);
    repository.forget(&[second.snapshot.id]).unwrap();
    let report = prune(&repository).unwrap();
    assert!(report.locks_extended > 0);
    assert_eq!(prune(&repository).unwrap().locks_extended, 0);
    let days: Vec<_> = lab.days_locked().into_iter().filter(|(key, _)| key.shelf() == Shelf::Packs).collect();
    assert!(
        days.iter().any(|(_, days)| *days == Some(10)) && days.iter().any(|(_, days)| *days == Some(4)),
        "{days:?}"
    );
    // Whatever is deleted with all rights there are, the snapshot is whole until the new end.
    lab.wait(9 * DAY);
    for key in lab.site.mem.keys() {
        lab.site.mem.delete(&key).ok();
    }
    let opened = lab.open();
    let left = opened.snapshots().unwrap();
    assert_eq!(left.iter().map(|s| s.id).collect::<Vec<_>>(), [first.snapshot.id]);
    assert_whole(&lab, &left[0], &kept);
}

#[test]
fn a_prune_leaves_what_is_locked_for_later_says_so_and_takes_it_when_it_can() {
    let (lab, repository) = locking();
    let kept = files(1, 40);
    back_up(&repository, &kept);
    let second = back_up(&repository, &files(2, 400));
    let packs = lab.count(Shelf::Packs);
    repository.forget(&[second.snapshot.id]).unwrap();
    for _ in 0..2 {
        let report = prune(&repository).unwrap();
        assert!(report.waiting_for.iter().any(|why| why.contains("locked")), "{report:?}");
        assert_eq!(lab.count(Shelf::Packs), packs);
    }
    lab.wait(11 * DAY);
    let report = prune(&repository).unwrap();
    assert!(report.waiting_for.is_empty(), "{report:?}");
    assert!(lab.count(Shelf::Packs) < packs / 2, "{report:?}");
    let snapshot = &repository.snapshots().unwrap()[0];
    assert_whole(&lab, snapshot, &kept);
}

#[test]
fn a_copy_is_locked_where_that_is_possible_and_is_a_copy_elsewhere() {
    let (lab, repository) = locking();
    let kept = files(1, 40);
    back_up(&repository, &kept);
    let (from, world) = places(&lab.site, &lab.clock);
    let clock = Arc::clone(&lab.clock) as Arc<dyn Clock>;
    for mem in [MemStore::with_locks(&clock), MemStore::new()] {
        replicate(&from, &Store::new(Arc::new(mem.clone())), &world, Act::Do, &|_| {}).unwrap();
        let copy = Lab { site: Hooked { mem: mem.clone(), ..Hooked::default() }, ..lab.clone() };
        if mem.has_locks().unwrap() {
            copy.assert_all_locked(10);
        }
        let opened = copy.open();
        assert_whole(&copy, &opened.snapshots().unwrap()[0], &kept);
        back_up(&opened, &files(3, 5));
        assert_eq!(prune(&opened).unwrap().locks_extended, 0);
    }
}
