//! The tests: forgeries by enrolled writers, rival prunes, runs that wake too late, objects that are gone.

use super::*;

/// A signed object about the announcement that is open, by somebody who did not make it.
fn forge_end(lab: &Lab, evil: &Repository) {
    let names = lab.site.mem.list(Shelf::Intents, "").unwrap();
    let mut ids = names.iter().map(|listed| listed.key.name().split('.').next().unwrap());
    let is_open = |id: &&str| !names.iter().any(|other| other.key.name().starts_with(&format!("{id}.end")));
    let victim = ids.rfind(is_open).unwrap();
    let body = serde_json::json!({
        "v": 1, "intent": victim, "kind": "write", "domain": "00".repeat(16), "seq": 0, "tips": [], "note": "",
        "ended": "failed",
    });
    let signing = evil.keyring.signing().unwrap();
    for kind in ["write", "read"] {
        let mut body = body.clone();
        body["kind"] = kind.into();
        let object = envelope::close(Seal::Intent, evil.config.repository, &signing, &body).unwrap();
        let name = format!("{victim}.end.{}", blake3::hash(&object).to_hex());
        evil.store.put_new(&Key::new(Shelf::Intents, name).unwrap(), &object).unwrap();
    }
}

/// A record of a snapshot, signed by the writer, whose parts nobody can open.
fn forge_record(writer: &Repository) -> Vec<u8> {
    let (domain, _, signing) = keys_of(writer);
    let mut record = b"BSSN\x01\x01\0\0".to_vec();
    [writer.config.repository.0, domain.0, [7; 16], signing.id().0].iter().for_each(|id| record.extend_from_slice(id));
    (0..2).for_each(|_| record.extend_from_slice(&[&60u32.to_le_bytes()[..], &[1; 60]].concat()));
    let signature = signing.sign(&[b"backstay v1 snapshot\0", &record]);
    [record, signature.to_vec()].concat()
}

// ---- heads and records ----------------------------------------------------------------------------------------------

#[test]
fn a_writers_head_cannot_reorder_or_overflow() {
    let (lab, owner, evil) = Lab::with_writer();
    let made: Vec<Snapshot> = (1..4).map(|seed| back_up(&owner, &files(seed, 2)).snapshot).collect();
    let order = |more: &[SnapshotId]| -> Vec<SnapshotId> { made.iter().map(|s| s.id).chain(more.to_vec()).collect() };
    let now = || -> Vec<SnapshotId> { lab.open().snapshots().unwrap().iter().map(|s| s.id).collect() };
    let tip = evil.state().unwrap().next(&evil.world);
    let again = b64::encode(&made[2].record.bytes);
    forge_head(&evil, &Head { adds: vec![again.clone()], order: [(made[2].id, 0)].into(), ..tip.clone() });
    let oldest = owner.state().unwrap().heads.first().copied().unwrap();
    forge_head(&evil, &Head { adds: vec![again], parents: vec![oldest], ..tip.clone() });
    assert_eq!(now(), order(&[]), "the newest stays the newest");
    forge_head(&evil, &Head { height: u64::MAX, ..tip.clone() });
    let high = forge_head(&evil, &Head { height: u64::MAX, parents: vec![HeadId([9; 32])], ..tip.clone() });
    forge_head(&evil, &Head { parents: vec![high], ..tip });
    let last = back_up(&lab.open(), &files(5, 2)).snapshot.id;
    assert_eq!(now(), order(&[last]));
    assert_eq!(lab.open().history_problems().unwrap().len(), 1, "the head that never was is missed");
}

#[test]
fn one_unreadable_record_does_not_hide_the_rest() {
    let (lab, owner, evil) = Lab::with_writer();
    let (f, old) = (files(1, 20), back_up(&owner, &files(2, 20)).snapshot);
    let good = back_up(&owner, &f).snapshot;
    let record = forge_record(&evil);
    forge_head(&evil, &Head { adds: vec![b64::encode(&record)], ..evil.state().unwrap().next(&evil.world) });
    let listed: Vec<SnapshotId> = lab.open().snapshots().unwrap().iter().map(|s| s.id).collect();
    assert_eq!(listed, [old.id, good.id]);
    assert_eq!(lab.open().history_problems().unwrap().len(), 1);
    assert_whole(&lab, &good, &f);
    let packs = lab.count(Shelf::Packs);
    owner.forget(&[old.id]).unwrap();
    assert!(prune(&lab.open()).is_err(), "nobody knows what the unreadable one needs");
    assert_eq!(lab.count(Shelf::Packs), packs);
    owner.forget(&[SnapshotId(*blake3::hash(&record).as_bytes())]).unwrap();
    assert!(prune(&lab.open()).unwrap().packs_swept > 0, "forgotten, it is in nobody's way");
    assert_whole(&lab, &good, &f);
}

// ---- forged packs and tables ----------------------------------------------------------------------------------------

#[test]
fn a_writer_cannot_make_a_keeper_sweep_real_packs() {
    for well_signed in [false, true] {
        let (lab, owner, evil) = Lab::with_writer();
        let (f, g) = (files(1, 40), files(2, 10));
        let (theirs, ours) = (back_up(&evil, &f).snapshot, back_up(&owner, &g).snapshot);
        let contents = contents_of(&evil);
        if well_signed {
            forge_pack(&evil, &contents.into_iter().map(|(_, members)| members).collect::<Vec<_>>());
        } else {
            let junk = vec![0; 500];
            let pack = PackRef { id: PackId(*blake3::hash(&junk).as_bytes()), bytes: 500, kind: PackKind::Data };
            evil.store.put_new(&pack_key(&pack.id), &junk).unwrap();
            let claim = |(sealing, members)| Packed { sealing, offset: 96, stored_len: 10, members };
            forge_table(&evil, &[(pack, contents.into_iter().map(claim).collect())]);
        }
        assert_whole(&lab, &theirs, &f);
        for max_unused in [MaxUnused::Unlimited, MaxUnused::Percent(0.0), MaxUnused::Percent(0.0)] {
            assert_eq!(prune_with(&lab.open(), Life::Unknown, max_unused).unwrap().packs_swept, 0);
            assert_whole(&lab, &theirs, &f);
            assert_whole(&lab, &ours, &g);
        }
    }
}

#[test]
fn a_table_that_speaks_for_all_packs_takes_nothing_along() {
    let (lab, _, evil) = Lab::with_writer();
    let f = files(1, 40);
    let snapshot = back_up(&evil, &f).snapshot;
    (2..10).for_each(|seed| drop(back_up(&evil, &files(seed, 2))));
    let index = index_of(&evil);
    let packs = (0..index.table_count()).flat_map(|table| index.table_packs(table).to_vec());
    let (sealing, _) = contents_of(&evil).remove(0);
    let claim = |n: u8| {
        let members = vec![Member { id: ChunkId([n; 32]), len: 1 }];
        vec![Packed {
            sealing: Sealing { members: members_digest(&members), ..sealing },
            offset: 96,
            stored_len: 10,
            members,
        }]
    };
    forge_table(&evil, &(0..).zip(packs).map(|(n, pack)| (pack, claim(n))).collect::<Vec<_>>());
    assert_whole(&lab, &snapshot, &f);
    let first = prune(&lab.open()).unwrap();
    assert!(first.tables_merged > 8 && first.packs_swept == 0, "{first:?}");
    assert_whole(&lab, &snapshot, &f);
    assert_eq!(prune(&lab.open()).unwrap().packs_swept, 0);
    assert_whole(&lab, &snapshot, &f);
}

/// Puts a table that says that `id` lies at `offset` and is `len` long, whatever its record is.
fn forge_place(writer: &Repository, id: ChunkId, offset: u32, len: u32) {
    let (domain, keep_key, signing) = keys_of(writer);
    let (sealing, _) = contents_of(writer).remove(0);
    let mut table = TableBuilder::default();
    let pack = PackRef { id: PackId([1; 32]), bytes: 9, kind: PackKind::Data };
    let members = vec![Member { id, len: 1 }];
    table.add_pack(pack, &[Packed { sealing, offset: 96, stored_len: 10, members }]);
    let salt = writer.world.random();
    let header = HeaderParts { repository: writer.config.repository, domain, salt };
    let (_, mut object) = table.finish(header, &keep_key, &signing).unwrap();
    // The header and the head are signed; the body is whatever the key seals.
    let key = Aead::new(&derive(Purpose::Index, &[&keep_key.0, &salt]));
    let clear = object[..96].to_vec();
    let mut body = object.split_off(96 + 4 + 64 + 16 + 64);
    let mut plain = key.open(nonce(0), &clear, &mut body).unwrap().to_vec();
    let at = plain.len() - 12;
    plain[at..].copy_from_slice(&[0, offset, len].map(u32::to_le_bytes).concat());
    key.seal(nonce(0), &clear, &mut plain);
    object.extend_from_slice(&plain);
    let key = Key::new(Shelf::Index, blake3::hash(&object).to_hex().as_str()).unwrap();
    writer.store.put_new(&key, &object).unwrap();
}

#[test]
fn lengths_that_overflow_stop_no_prune() {
    let (lab, _, evil) = Lab::with_writer();
    let f = files(1, 40);
    let snapshot = back_up(&evil, &f).snapshot;
    (2..11).for_each(|seed| drop(back_up(&evil, &files(seed, 2))));
    forge_place(&evil, ChunkId([1; 32]), u32::MAX, u32::MAX);
    for _ in 0..2 {
        assert_eq!(prune(&lab.open()).unwrap().packs_swept, 0);
        assert_whole(&lab, &snapshot, &f);
    }
}

// ---- announcements --------------------------------------------------------------------------------------------------

#[test]
fn a_forged_end_of_anothers_run_does_not_count() {
    for role in [Role::Reader, Role::Writer] {
        let (lab, mut owner) = Lab::new(60_000);
        let evil = lab.open_as(&owner.enrol(role, "evil", None).unwrap());
        let f = files(1, 40);
        let old = back_up(&owner, &f).snapshot;
        let mut capture = owner.capture(plan()).unwrap();
        forge_end(&lab, &evil);
        lab.open().forget(&[old.id]).unwrap();
        feed(&mut capture, &f).unwrap();
        let report = prune(&lab.open()).unwrap();
        assert_eq!((report.packs_swept, report.waiting_for.is_empty()), (0, false), "the run is still at work");
        let new = capture.commit(Outcome::default()).unwrap().snapshot;
        assert_whole(&lab, &new, &f);
        prune(&lab.open()).unwrap();
        assert_whole(&lab, &new, &f);
    }
}

#[test]
fn what_a_fenced_run_commits_late_does_not_count() {
    let (lab, owner) = Lab::new(60_000);
    let (f, g) = (files(1, 40), files(2, 10));
    let other = back_up(&owner, &g).snapshot;
    let mut capture = owner.capture(plan()).unwrap();
    feed(&mut capture, &f).unwrap();
    let beside = lab.clone();
    // The writer's machine sleeps between its last look and the write of its head.
    lab.before(Op::Put, Shelf::Heads, move || {
        let keeper = beside.open();
        prune(&keeper).unwrap();
        beside.wait(7200);
        assert!((0..2).map(|_| prune(&keeper).unwrap().packs_swept).sum::<u64>() > 0);
    });
    assert!(matches!(capture.commit(Outcome::default()), Err(RepoError::Fenced)));
    let listed: Vec<SnapshotId> = lab.open().snapshots().unwrap().iter().map(|s| s.id).collect();
    assert_eq!(listed, [other.id]);
    prune(&lab.open()).unwrap();
    assert_whole(&lab, &other, &g);
    let again = back_up(&lab.open(), &f).snapshot;
    assert_whole(&lab, &again, &f);
}

#[test]
fn who_was_given_up_by_a_keeper_that_was_killed_is_fenced_by_the_next() {
    let (lab, owner) = Lab::new(60_000);
    let (f, g) = (files(1, 40), files(2, 10));
    let other = back_up(&owner, &g).snapshot;
    let mut capture = owner.capture(plan()).unwrap();
    feed(&mut capture, &f).unwrap();
    let beside = lab.clone();
    // The writer's machine sleeps between its last look and the write of its head.
    lab.before(Op::Put, Shelf::Heads, move || {
        let keeper = beside.open();
        prune(&keeper).unwrap();
        beside.wait(7200);
        beside.before(Op::Put, Shelf::Heads, || panic!("killed before it fences"));
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prune(&keeper)));
        assert!(killed.is_err());
        beside.wait(90_000);
        assert!((0..2).map(|_| prune(&keeper).unwrap().packs_swept).sum::<u64>() > 0);
        assert_eq!(beside.count(Shelf::Condemned), 0, "nothing is left of it");
    });
    assert!(matches!(capture.commit(Outcome::default()), Err(RepoError::Fenced)));
    let listed: Vec<SnapshotId> = lab.open().snapshots().unwrap().iter().map(|s| s.id).collect();
    assert_eq!(listed, [other.id]);
    assert_whole(&lab, &other, &g);
}

#[test]
fn who_was_about_to_be_given_up_and_moved_is_not_fenced() {
    let (lab, owner) = Lab::new(60_000);
    let f = files(1, 40);
    let mut capture = owner.capture(plan()).unwrap();
    feed(&mut capture, &f).unwrap();
    prune(&lab.open()).unwrap();
    lab.wait(7200);
    let keeper = lab.open();
    lab.before(Op::Delete, Shelf::Intents, || panic!("killed before it deletes the announcement"));
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prune(&keeper)));
    assert!(killed.is_err());
    let new = capture.commit(Outcome::default()).unwrap().snapshot;
    (0..2).for_each(|_| drop(prune(&lab.open()).unwrap()));
    assert_whole(&lab, &new, &f);
    assert_eq!(lab.count(Shelf::Condemned), 0, "nothing is left of it");
}

#[test]
fn the_prune_that_gives_a_silent_run_up_sweeps_nothing_of_it() {
    let (lab, owner) = Lab::new(60_000);
    let old = back_up(&owner, &files(7, 40)).snapshot;
    let mut capture = owner.capture(plan()).unwrap();
    owner.forget(&[old.id]).unwrap();
    assert_eq!(prune(&lab.open()).unwrap().packs_swept, 0);
    feed(&mut capture, &files(1, 100)).unwrap();
    lab.wait(7200);
    let report = prune(&lab.open()).unwrap();
    assert_eq!((report.packs_swept, report.waiting_for.is_empty()), (0, false));
    assert!(matches!(capture.commit(Outcome::default()), Err(RepoError::Fenced)));
    assert!(prune(&lab.open()).unwrap().packs_swept > 0);
}

#[test]
fn a_restore_that_is_known_to_run_is_never_given_up() {
    let (lab, owner) = Lab::new(60_000);
    let f = files(1, 40);
    let snapshot = back_up(&owner, &f).snapshot;
    let restorer = lab.open();
    let reading = restorer.reading(&Process::default()).unwrap();
    let reader = reading.open(&snapshot).unwrap();
    owner.forget(&[snapshot.id]).unwrap();
    for _ in 0..4 {
        let report = prune_with(&lab.open(), Life::Alive, MaxUnused::Unlimited).unwrap();
        assert_eq!((report.packs_swept, report.waiting_for.is_empty()), (0, false));
        lab.wait(90_000);
    }
    assert!(restore_by(&reader).unwrap() == f);
    drop((reader, reading));
    assert!(prune(&lab.open()).unwrap().packs_swept > 0);
}

// ---- rival prunes ---------------------------------------------------------------------------------------------------

/// A repository with much to do for a prune, and the snapshot that stays.
fn much_to_prune() -> (Lab, Snapshot, Files) {
    let (lab, owner) = Lab::new(300_000);
    let kept: Files = files(1, 150).into_iter().take(100).collect();
    let old = back_up(&owner, &files(1, 150)).snapshot;
    let snapshot = back_up(&owner, &kept).snapshot;
    let more: Vec<SnapshotId> = (2..11).map(|seed| back_up(&owner, &files(seed, 1)).snapshot.id).collect();
    owner.forget(&[old.id, more[0]]).unwrap();
    (lab, snapshot, kept)
}

fn prune_all(repository: &Repository) -> Result<PruneReport> {
    prune_with(repository, Life::Unknown, MaxUnused::Percent(0.0))
}

/// A prune, and those that ran beside it; none when it has fewer steps.
struct Rivals {
    lab: Lab,
    snapshot: Snapshot,
    kept: Files,
    long: Result<PruneReport>,
    others: Vec<Result<PruneReport>>,
}

/// Lets `rounds` prunes run, `pause` seconds apart, at the `steps`-th step of another prune.
fn rivals_at_step(steps: usize, rounds: usize, pause: u64) -> Rivals {
    let (lab, snapshot, kept) = much_to_prune();
    let (beside, others) = (lab.clone(), Arc::new(Mutex::new(Vec::new())));
    let (mut left, results) = (steps, Arc::clone(&others));
    let when = move |_, _| {
        let due = left == 0;
        left = left.wrapping_sub(1);
        due
    };
    let happens = move || {
        for _ in 0..rounds {
            results.lock().unwrap().push(prune_all(&beside.open()));
            beside.wait(pause);
        }
    };
    let keeper = lab.open();
    lab.site.hooks.lock().unwrap().push((Box::new(when), Box::new(happens)));
    let long = prune_all(&keeper);
    lab.site.hooks.lock().unwrap().clear();
    let others = std::mem::take(&mut *others.lock().unwrap());
    Rivals { lab, snapshot, kept, long, others }
}

/// Nothing was lost, the next prunes succeed and leave nothing waiting, and a backup relies on nothing that is gone.
fn assert_settles(lab: &Lab, snapshot: &Snapshot, kept: &Files, what: &str) {
    assert_whole(lab, snapshot, kept);
    for _ in 0..2 {
        let next = prune_all(&lab.open());
        assert!(next.is_ok(), "{what}; then {next:?}");
        assert_whole(lab, snapshot, kept);
    }
    assert_eq!(lab.count(Shelf::Condemned), 0, "{what}");
    let again = back_up(&lab.open(), &files(1, 150)).snapshot;
    assert_whole(lab, &again, &files(1, 150));
}

/// Lets `rounds` prunes run, `pause` seconds apart, at each step of another prune in turn: nothing is lost and the next
/// prune succeeds. Returns how many steps there were, and how many of the rivals stepped back.
fn prune_beside_each_step(rounds: usize, pause: u64) -> (usize, usize) {
    let (mut steps, mut refused) = (0usize, 0usize);
    loop {
        let Rivals { lab, snapshot, kept, long, others } = rivals_at_step(steps, rounds, pause);
        if others.is_empty() {
            assert!(long.unwrap().packs_repacked > 0);
            return (steps, refused);
        }
        let what = format!("{pause} s at step {steps}: {long:?} beside {others:?}");
        for result in others.iter().chain([&long]) {
            assert!(matches!(result, Ok(_) | Err(RepoError::Busy(_))), "{what}");
        }
        assert_settles(&lab, &snapshot, &kept, &what);
        refused += others.iter().filter(|other| other.is_err()).count();
        steps += 1;
    }
}

#[test]
fn a_second_prune_steps_back() {
    let (steps, refused) = prune_beside_each_step(1, 0);
    assert!(steps > 30 && refused > steps / 2, "{refused} of {steps}");
}

#[test]
fn a_long_prune_beside_others_loses_nothing() {
    let (steps, refused) = prune_beside_each_step(4, 3700);
    assert!(steps > 30 && refused > steps * 2, "{refused} of {steps}");
}

#[test]
fn the_key_of_a_run_that_is_needed_is_not_erased() {
    let (lab, owner) = Lab::new(60_000);
    let f = files(1, 40);
    let mut capture = owner.capture(plan()).unwrap();
    feed(&mut capture, &f).unwrap();
    assert!(!prune(&lab.open()).unwrap().waiting_for.is_empty(), "the run is condemned: nothing names it yet");
    let first = capture.commit(Outcome::default()).unwrap().snapshot;
    // Nothing is built on a run that is condemned: what follows needs it no more than what came before.
    let snapshot = back_up(&owner, &f).snapshot;
    (2..12).for_each(|seed| drop(back_up(&owner, &files(seed, 2))));
    fn hour(repository: &Repository) -> Result<PruneReport> {
        let (process, grace) = (Process::default(), Grace::For(Duration::from_secs(3600)));
        let (max_unused, life) = (MaxUnused::Unlimited, &|_: &Process| Life::Unknown);
        let plan = PrunePlan { act: Act::Do, max_unused, grace, life, process, as_if_forgotten: &[] };
        repository.prune(&plan, &|_| {})
    }
    let beside = lab.clone();
    lab.before(Op::Put, Shelf::Index, move || {
        beside.wait(3601);
        assert!(matches!(hour(&beside.open()), Err(RepoError::Busy(_))));
    });
    assert!(hour(&lab.open()).unwrap().tables_merged > 8);
    lab.wait(3601);
    assert_eq!(hour(&lab.open()).unwrap().runs_erased, 0);
    assert_whole(&lab, &first, &f);
    assert_whole(&lab, &snapshot, &f);
}

#[test]
fn nothing_is_built_on_what_a_run_stored_after_its_key_was_erased() {
    let (lab, owner) = Lab::new(60_000);
    let f = files(1, 40);
    let mut late = owner.capture(plan()).unwrap();
    feed(&mut late, &f).unwrap();
    let erased: u64 =
        (0..2).map(|_| prune_with(&lab.open(), Life::Dead, MaxUnused::Percent(0.0)).unwrap().runs_erased).sum();
    assert_eq!(erased, 1, "it was given up, and its key went");
    // It does not know yet: it stores what it has left, names it in a table, and only then looks.
    assert!(matches!(late.commit(Outcome::default()), Err(RepoError::Fenced)));
    assert!(lab.count(Shelf::Index) > 0);
    let snapshot = back_up(&owner, &f).snapshot;
    assert_whole(&lab, &snapshot, &f);
}

// ---- full disks, lost packs, odd sizes ------------------------------------------------------------------------------

#[test]
fn a_full_store_is_pruned_by_deleting_the_dead_first() {
    let (lab, owner) = Lab::new(300_000);
    let kept: Files = files(1, 300).into_iter().take(100).collect();
    let (all, snapshot) = (back_up(&owner, &files(1, 300)).snapshot, back_up(&owner, &kept).snapshot);
    let dead = back_up(&owner, &files(5, 300)).snapshot;
    owner.forget(&[all.id, dead.id]).unwrap();
    *lab.site.room.lock().unwrap() = Some(1 << 20);
    let before = lab.count(Shelf::Packs);
    let report = prune_with(&lab.open(), Life::Unknown, MaxUnused::Percent(0.0)).unwrap();
    assert!(report.packs_swept > 0 && lab.count(Shelf::Packs) < before, "{report:?}");
    assert!(report.waiting_for.iter().any(|why| why.contains("no room")), "{report:?}");
    assert_whole(&lab, &snapshot, &kept);
    *lab.site.room.lock().unwrap() = None;
    assert!(prune_with(&lab.open(), Life::Unknown, MaxUnused::Percent(0.0)).unwrap().packs_repacked > 0);
    assert_whole(&lab, &snapshot, &kept);
}

#[test]
fn what_was_in_lost_packs_is_stored_anew() {
    let (lab, owner) = Lab::new(60_000);
    let f = files(1, 40);
    back_up(&owner, &f);
    let keys = lab.site.mem.keys();
    keys.iter().filter(|key| key.shelf() == Shelf::Packs).for_each(|key| lab.site.mem.remove(key));
    let again = back_up(&lab.open(), &f).snapshot;
    assert!(again.public.stats.new_bytes >= 40 * 4000, "{:?}", again.public.stats);
    assert_whole(&lab, &again, &f);
}

#[test]
fn a_leaf_whose_paths_would_fill_the_memory_is_refused() {
    let (mut leaf, mut previous) = (vec![0, 1], Vec::new());
    for n in 0..600 {
        let key = format!("{}{n:06}", "a".repeat(200_000));
        entry::encode(&mut leaf, &entry(&key, Node::Dir), &previous);
        previous = key.into_bytes();
    }
    assert!(leaf.len() < 1 << 20, "600 paths of 200 kB in {} bytes", leaf.len());
    let leaf = Arc::new(leaf);
    let tree = Tree { root: Some(ChunkId([1; 32])), count: 600, bytes: 0 };
    let mut walk = Walk::new(&tree, b"", Box::new(|_| Ok(Arc::clone(&leaf))));
    assert!(matches!(walk.find_map(|found| found.err()), Some(RepoError::Damaged { .. })));
}

#[test]
fn packs_of_tiny_files_are_no_larger_than_others() {
    let (lab, owner) = Lab::new(1 << 20);
    let mut capture = owner.capture(CapturePlan { compression: Compression::Level(3), ..plan() }).unwrap();
    let cutter = capture.cutter();
    for n in 0..60_000 {
        capture.chunk(cutter.whole(n.to_string().into_bytes())).unwrap();
        let file = FileNode { size: 1, chunks: 1, digest: None, extents: None };
        capture.entry(&entry(&format!("{n:09}"), Node::File(file))).unwrap();
    }
    capture.commit(Outcome::default()).unwrap();
    let packs: Vec<u64> = lab.site.mem.list(Shelf::Packs, "").unwrap().iter().map(|listed| listed.bytes).collect();
    assert!(packs.iter().all(|bytes| *bytes < (2 << 20)), "{packs:?}");
}

/// A signed object about the announcement that is open, by somebody who did not make it.
fn forge_intent(lab: &Lab, evil: &Repository, step: &str, ended: Option<&str>, sorts_first: bool) {
    let names = lab.site.mem.list(Shelf::Intents, "").unwrap();
    let mut ids = names.iter().map(|listed| listed.key.name().split('.').next().unwrap());
    let is_open = |id: &&str| !names.iter().any(|other| other.key.name().starts_with(&format!("{id}.end")));
    let victim = ids.rfind(is_open).unwrap();
    let first = names.iter().find(|listed| listed.key.name().starts_with(&format!("{victim}.0"))).unwrap();
    for n in 0.. {
        let body = serde_json::json!({
            "v": 1, "intent": victim, "kind": "read", "domain": "00".repeat(16), "seq": 0, "tips": [],
            "note": n.to_string(), "ended": ended,
        });
        let signing = evil.keyring.signing().unwrap();
        let object = envelope::close(Seal::Intent, evil.config.repository, &signing, &body).unwrap();
        let key = Key::new(Shelf::Intents, format!("{victim}.{step}.{}", blake3::hash(&object).to_hex())).unwrap();
        if !sorts_first || key < first.key {
            evil.store.put_new(&key, &object).unwrap();
            return;
        }
    }
}

/// Puts a table that says that `id` lies at `offset` and is `len` long, whatever its record is.
fn forge_place_of(writer: &Repository, id: ChunkId, record: u32, offset: u32, len: u32) {
    let (domain, keep_key, signing) = keys_of(writer);
    let (sealing, _) = contents_of(writer).remove(0);
    let mut table = TableBuilder::default();
    let pack = PackRef { id: PackId([1; 32]), bytes: 9, kind: PackKind::Data };
    let members = vec![Member { id, len: 1 }];
    table.add_pack(pack, &[Packed { sealing, offset: 96, stored_len: 10, members }]);
    let salt = writer.world.random();
    let header = HeaderParts { repository: writer.config.repository, domain, salt };
    let (_, mut object) = table.finish(header, &keep_key, &signing).unwrap();
    // The header and the head are signed; the body is whatever the key seals.
    let key = Aead::new(&derive(Purpose::Index, &[&keep_key.0, &salt]));
    let clear = object[..96].to_vec();
    let mut body = object.split_off(96 + 4 + 64 + 16 + 64);
    let mut plain = key.open(nonce(0), &clear, &mut body).unwrap().to_vec();
    let at = plain.len() - 12;
    plain[at..].copy_from_slice(&[record, offset, len].map(u32::to_le_bytes).concat());
    key.seal(nonce(0), &clear, &mut plain);
    object.extend_from_slice(&plain);
    let key = Key::new(Shelf::Index, blake3::hash(&object).to_hex().as_str()).unwrap();
    writer.store.put_new(&key, &object).unwrap();
}

#[test]
fn a_forged_beginning_of_anothers_run_does_not_count() {
    let (lab, mut owner) = Lab::new(60_000);
    let evil = lab.open_as(&owner.enrol(Role::Reader, "evil", None).unwrap());
    let f = files(1, 40);
    let old = back_up(&owner, &f).snapshot;
    let owners: &'static Repository = Box::leak(Box::new(lab.open()));
    let mut capture = owners.capture(plan()).unwrap();
    forge_intent(&lab, &evil, "00000000", None, true);
    forge_intent(&lab, &evil, "end", Some("failed"), false);
    owner.forget(&[old.id]).unwrap();
    feed(&mut capture, &f).unwrap();
    let committed = Arc::new(Mutex::new(None));
    let result = Arc::clone(&committed);
    lab.before(Op::Delete, Shelf::Packs, move || {
        *result.lock().unwrap() = capture.commit(Outcome::default()).ok();
    });
    let report = prune(&lab.open()).unwrap();
    assert_eq!(report.packs_swept, 0, "the run is still at work");
    if let Some(committed) = committed.lock().unwrap().take() {
        assert_whole(&lab, &committed.snapshot, &f);
    }
}

#[test]
fn a_keepers_copy_of_a_forged_record_does_not_displace_the_real_one() {
    let (lab, owner, evil) = Lab::with_writer();
    let (f, gone) = (files(1, 40), back_up(&owner, &files(2, 10)).snapshot);
    let snapshot = back_up(&evil, &f).snapshot;
    // What is dead in it makes a keeper copy what is live of it.
    let dead = vec![Member { id: ChunkId([7; 32]), len: 600 }];
    let claims = contents_of(&evil).into_iter().map(|(_, members)| members).chain([dead]);
    forge_pack(&evil, &claims.collect::<Vec<_>>());
    assert_whole(&lab, &snapshot, &f);
    owner.forget(&[gone.id]).unwrap();
    // While somebody is at work, the originals wait.
    let capture = evil.capture(plan()).unwrap();
    for _ in 0..2 {
        prune_with(&lab.open(), Life::Alive, MaxUnused::Percent(0.0)).unwrap();

        assert_whole(&lab, &snapshot, &f);
    }
    drop(capture);
    for _ in 0..2 {
        prune_with(&lab.open(), Life::Alive, MaxUnused::Percent(0.0)).unwrap();

        assert_whole(&lab, &snapshot, &f);
    }
}

#[test]
fn a_place_that_cannot_be_hides_no_other() {
    for (record, offset, len) in [(0, u32::MAX, u32::MAX), (9, 0, 1)] {
        let (lab, _, evil) = Lab::with_writer();
        let f = files(1, 40);
        let snapshot = back_up(&evil, &f).snapshot;
        for (_, members) in contents_of(&evil) {
            members.iter().for_each(|member| forge_place_of(&evil, member.id, record, offset, len));
        }
        assert_whole(&lab, &snapshot, &f);
        drop(prune(&lab.open()));
        assert_whole(&lab, &snapshot, &f);
    }
}

#[test]
fn what_a_fenced_run_commits_after_a_checkpoint_does_not_count() {
    for checkpoint in [false, true] {
        let (lab, owner) = Lab::new(60_000);
        let g = files(2, 10);
        let other = back_up(&owner, &g).snapshot;
        let mut capture = owner.capture(plan()).unwrap();
        feed(&mut capture, &files(1, 40)).unwrap();
        let beside = lab.clone();
        // The writer's machine sleeps between its last look and the write of its head.
        lab.before(Op::Put, Shelf::Heads, move || {
            let keeper = beside.open();
            prune(&keeper).unwrap();
            beside.wait(7200);
            prune(&keeper).unwrap();
            if checkpoint {
                (0..35).for_each(|_| keeper.forget(&[back_up(&keeper, &files(3, 1)).snapshot.id]).unwrap());
            }
            assert!(prune(&keeper).unwrap().packs_swept > 0);
            assert!(beside.count(Shelf::Heads) < if checkpoint { 3 } else { 9 });
        });
        assert!(matches!(capture.commit(Outcome::default()), Err(RepoError::Fenced)));
        let listed: Vec<SnapshotId> = lab.open().snapshots().unwrap().iter().map(|s| s.id).collect();
        assert_eq!(listed, [other.id], "checkpoint {checkpoint}");
        prune(&lab.open()).unwrap();
        assert_whole(&lab, &other, &g);
        let again = back_up(&lab.open(), &files(1, 40)).snapshot;
        assert_whole(&lab, &again, &files(1, 40));
    }
}

/// Lets `rounds` prunes run, `pause` seconds apart, at each step of another prune in turn. Whatever comes of them, nothing
/// is lost and the next prune succeeds. Returns how many steps there were, and of how many the other prune was given up.
fn give_up_at_each_step(rounds: usize, pause: u64) -> (usize, usize) {
    let (mut steps, mut given_up) = (0usize, 0usize);
    loop {
        let Rivals { lab, snapshot, kept, long, others } = rivals_at_step(steps, rounds, pause);
        if others.is_empty() {
            assert!(long.unwrap().packs_repacked > 0);
            return (steps, given_up);
        }
        let what = format!("{pause} s at step {steps}: {long:?} beside {others:?}");
        for other in &others {
            assert!(matches!(other, Ok(_) | Err(RepoError::Busy(_))), "{what}");
        }
        match long {
            Ok(_) | Err(RepoError::Busy(_)) => {}
            Err(RepoError::Fenced) => given_up += 1,
            Err(_) => panic!("{what}"),
        }
        assert_settles(&lab, &snapshot, &kept, &what);
        steps += 1;
    }
}

#[test]
fn a_prune_that_was_given_up_loses_nothing() {
    let (steps, given_up) = give_up_at_each_step(4, 90_000);
    assert!(given_up > steps / 4, "{given_up} of {steps}");
}

#[test]
fn what_lies_in_two_places_is_kept_in_the_one_that_is_needed_anyway() {
    // Names of tables are random, and which place comes first with them.
    for seed in 0..8 {
        let (lab, owner) = Lab::new(60_000);
        let both = files(seed, 2);
        let one: Files = both.clone().into_iter().take(1).collect();
        // Two who do not see each other store the same file, one of them together with another.
        let (mut left, mut right) = (owner.capture(plan()).unwrap(), owner.capture(plan()).unwrap());
        feed(&mut left, &both).unwrap();
        feed(&mut right, &one).unwrap();
        let left = left.commit(Outcome::default()).unwrap().snapshot;
        let right = right.commit(Outcome::default()).unwrap().snapshot;
        let report = prune_with(&lab.open(), Life::Unknown, MaxUnused::Bytes(0)).unwrap();
        assert_eq!(report.packs_swept, 1, "the pack that holds the shared file only");
        assert_whole(&lab, &left, &both);
        assert_whole(&lab, &right, &one);
    }
}
