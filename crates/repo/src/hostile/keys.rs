//! The tests: objects that anybody can make because recipients are public, and what nobody may put beside others' own.

use super::*;
use crate::keys::{age_passphrase, age_wrap};
use crate::repair::MendReport;
use crate::verify::{Depth, Share, VerifyPlan};
use zeroize::Zeroizing;

/// Puts an object of `shelf` whose name begins with `stem` and sorts before all others that do.
fn put_first(lab: &Lab, evil: &Repository, (shelf, stem): (Shelf, &str), make: impl Fn() -> Vec<u8>) -> Key {
    let named = |listed: &&Listed| listed.key.name().starts_with(stem);
    let first = lab.site.mem.list(shelf, "").unwrap().iter().find(named).map(|listed| listed.key.clone());
    loop {
        let object = make();
        let key = Key::new(shelf, format!("{stem}{}", blake3::hash(&object).to_hex())).unwrap();
        if first.as_ref().is_none_or(|first| key < *first) {
            evil.store.put_new(&key, &object).unwrap();
            return key;
        }
    }
}

fn problems(repository: &Repository) -> Vec<String> {
    let plan = VerifyPlan { depth: Depth::Decoded, share: Share::All, snapshots: None, process: Process::default() };
    repository.verify(&plan, &|_| {}).unwrap().problems.into_iter().map(|problem| problem.object).collect()
}

fn mend(repository: &Repository) -> MendReport {
    repository.mend(None, &Process::default(), &|_| Life::Unknown).unwrap()
}

#[test]
fn a_forged_key_of_anothers_run_hides_no_snapshot() {
    let (lab, owner, evil) = Lab::with_writer();
    let f = files(1, 20);
    let snapshot = back_up(&owner, &f).snapshot;
    let run = snapshot.record.run;
    let (repository, recipients) = (evil.config.repository, &evil.config.recipients);
    let plain = [&b"BSRN"[..], &1u32.to_le_bytes(), &repository.0, &run.0, &[0; 32]].concat();
    put_first(&lab, &evil, (Shelf::Runs, &format!("{run}.")), || age_wrap(recipients, &plain).unwrap());
    assert_whole(&lab, &snapshot, &f);
    assert_eq!(problems(&lab.open()), Vec::<String>::new());
}

#[test]
fn forged_master_keys_do_not_stop_the_kit_and_are_named() {
    let (lab, owner, evil) = Lab::with_writer();
    let f = files(1, 5);
    let snapshot = back_up(&owner, &f).snapshot;
    let config = &evil.config;
    let mut forged = Vec::new();
    for root in [config.root.clone(), "33".repeat(32)] {
        let masters = serde_json::json!({
            "v": 1, "repository": config.repository, "root_public": root, "id_master": "11".repeat(32),
            "keep_master": "22".repeat(32), "signature": "44".repeat(64),
        });
        let make = || age_wrap(&config.recipients, masters.to_string().as_bytes()).unwrap();
        forged.push(put_first(&lab, &evil, (Shelf::Keys, "masters-a."), make).path());
    }
    let kit = Credential::parse(&owner.identity().unwrap()).unwrap();
    let reader = Repository::open(&owner.store, &owner.world, &kit).unwrap();
    assert_eq!(restore(&reader, &snapshot).unwrap(), f);
    forged.sort();
    assert_eq!(problems(&lab.open()), forged);
}

#[test]
fn forged_copies_of_a_passphrase_lock_nobody_out_and_are_named() {
    let (lab, mut owner, evil) = Lab::with_writer();
    let word = Zeroizing::new("correct horse".to_owned());
    let name = owner.add_passphrase(&word, "me").unwrap();
    let forge = || age_passphrase("another", b"{}").unwrap();
    put_first(&lab, &evil, (Shelf::Keys, &format!("{name}-a.")), forge);
    Repository::open(&owner.store, &owner.world, &Credential::Passphrase(word)).unwrap();
    assert_eq!(problems(&lab.open()), [format!("keys/{name}")]);
}

#[test]
fn tables_and_lists_of_those_who_may_not_make_them_are_named_and_a_repair_takes_them_away() {
    let (lab, owner, evil) = Lab::with_writer();
    let f = files(1, 20);
    let snapshot = back_up(&owner, &f).snapshot;
    back_up(&evil, &files(2, 3));
    let (sealing, members) = contents_of(&evil).remove(0);
    let record = Packed { sealing, offset: 96, stored_len: 1, members };
    let packs = lab.site.mem.list(Shelf::Packs, "").unwrap();
    let packs: Vec<PackId> = packs.iter().filter_map(|listed| PackId::parse(listed.key.name())).collect();
    let stranger = Signing::from_seed(&Secret([5; 32]));
    for signing in [&keys_of(&evil).2, &stranger] {
        let list = serde_json::json!({ "v": 1, "time": "", "packs": packs });
        let object = envelope::close(Seal::Condemned, evil.config.repository, signing, &list).unwrap();
        let name = blake3::hash(&object).to_hex();
        evil.store.put_new(&Key::new(Shelf::Condemned, name.as_str()).unwrap(), &object).unwrap();
        let (domain, salt) = (snapshot.domain, evil.world.random());
        let mut table = TableBuilder::default();
        packs.iter().for_each(|id| table.add_pack(PackRef { id: *id, bytes: 1, kind: PackKind::Data }, &[]));
        table.add_pack(PackRef { id: packs[0], bytes: 1, kind: PackKind::Data }, std::slice::from_ref(&record));
        let header = HeaderParts { repository: evil.config.repository, domain, salt };
        let (key, object) = table.finish(header, &keys_of(&evil).1, signing).unwrap();
        evil.store.put_new(&key, &object).unwrap();
    }
    assert!(prune(&lab.open()).is_err(), "nothing is deleted beside what nobody can vouch for");
    assert_eq!(problems(&lab.open()).len(), 4);
    assert_eq!(mend(&lab.open()).discarded.len(), 4);
    assert_eq!(problems(&lab.open()), Vec::<String>::new());
    prune(&lab.open()).unwrap();
    assert_whole(&lab, &snapshot, &f);
}

#[test]
fn of_two_who_make_a_repository_at_once_one_fails_and_leaves_nothing() {
    for (op, shelf) in
        [(Op::Delete, Shelf::Keys), (Op::Put, Shelf::Keys), (Op::Put, Shelf::Heads), (Op::Put, Shelf::Root)]
    {
        let (site, clock) = (Hooked::default(), Arc::new(Hand::default()));
        let (store, world) = places(&site, &clock);
        // What an init that was cut off left behind.
        site.mem.put_new(&Key::new(Shelf::Keys, "masters-a.00").unwrap(), b"left over").unwrap();
        let made = Arc::new(Mutex::new(None));
        let (beside, theirs) = ((site.clone(), Arc::clone(&clock)), Arc::clone(&made));
        let makes_one = move || {
            let (store, world) = places(&beside.0, &beside.1);
            *theirs.lock().unwrap() = Some(Repository::init(&store, &world, None, "quick", PackSize::Disk).unwrap().1);
        };
        site.hooks.lock().unwrap().push((Box::new(move |o, s| (o, s) == (op, shelf)), Box::new(makes_one)));
        let slow = Repository::init(&store, &world, None, "slow", PackSize::Disk);
        assert!(matches!(slow.map(drop), Err(RepoError::AlreadyExists(_))), "{op:?} {shelf:?}");
        let owner = made.lock().unwrap().take().unwrap();
        let lab = Lab { site, clock, owner };
        assert_eq!(problems(&lab.open()), Vec::<String>::new(), "{op:?} {shelf:?}");
        let f = files(1, 2);
        let snapshot = back_up(&lab.open(), &f).snapshot;
        prune(&lab.open()).unwrap();
        assert_whole(&lab, &snapshot, &f);
    }
}
