//! What every store must do, as one suite that each kind of store runs in its tests.
//!
//! It may not know which store it has before it: it uses [`Store`] and [`Reaper`] alone. It panics with one sentence when
//! a promise of [`crate::Backend`] is broken.

use crate::error::{Kind, StoreError};
use crate::key::{Key, Shelf};
use crate::reaper::Reaper;
use crate::store::{Listed, Put, Span, Store};
use std::fmt::Debug;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How long a store whose listings lag may take to show an object.
const LISTING_LAG_MAX: Duration = Duration::from_secs(30);
const RACES: u32 = 16;
const BIG_BYTES: usize = 20 << 20;

/// Runs the suite. `make` gives a new empty store each time it is called.
///
/// # Panics
/// When the store breaks a promise; the message says which.
pub fn check(make: impl Fn() -> Store) {
    an_object_is_created_once(&make());
    spans_are_exact(&make());
    absent_is_not_an_error_of_another_kind(&make());
    listings_are_sorted_and_whole(&make());
    delete_can_be_repeated(&make());
    of_two_racing_writers_one_is_first(&make());
    sizes_from_nothing_to_big_come_back(&make());
    a_wrong_digest_is_found(&make());
    nothing_is_left_to_tidy(&make());
}

fn an_object_is_created_once(store: &Store) {
    let key = key(Shelf::Heads, hash(1));
    is("the first write says that the object is new", done(store.put_new(&key, b"first")), Put::New);
    is("the same write again says that it existed", done(store.put_new(&key, b"first")), Put::Existed);
    fails("a write of another size under an existing name", store.put_new(&key, b"other size"), Kind::Corrupt);
    fails("an empty write under an existing name", store.put_new(&key, b""), Kind::Corrupt);
    is("the first bytes are still there", done(store.get(&key, Span::Whole)), b"first".to_vec());
    is("the size is that of the first bytes", done(store.size(&key)), Some(5));
}

fn spans_are_exact(store: &Store) {
    let key = key(Shelf::Index, hash(2));
    let body: Vec<u8> = (0..=255).cycle().take(1000).collect();
    done(store.put_new(&key, &body));
    // Twice: the second time a store may answer from what it kept.
    for _ in 0..2 {
        is("the whole is every byte", done(store.get(&key, Span::Whole)), body.clone());
        for (offset, len) in [(0, 1000), (0, 1), (999, 1), (256, 300), (500, 0), (1000, 0)] {
            let wanted = body[offset..offset + len].to_vec();
            let span = Span::Range { offset: offset as u64, len: len as u64 };
            is("a range is its bytes and no others", done(store.get(&key, span)), wanted);
        }
        for len in [0, 1, 999, 1000, 1001, u64::MAX] {
            let wanted = body[1000 - usize::try_from(len.min(1000)).unwrap_or(1000)..].to_vec();
            is("a tail is the last bytes, or all", done(store.get(&key, Span::Tail { len })), wanted);
        }
        for (offset, len) in [(0, 1001), (999, 2), (1000, 1), (1001, 0), (5000, 10), (u64::MAX, 1), (1, u64::MAX)] {
            let got = store.get(&key, Span::Range { offset, len });
            fails("a range that ends after the object", got, Kind::Corrupt);
        }
    }
}

fn absent_is_not_an_error_of_another_kind(store: &Store) {
    for key in one_of_each() {
        is("an absent object has no size", done(store.size(&key)), None);
        for span in [Span::Whole, Span::Range { offset: 0, len: 1 }, Span::Tail { len: 1 }] {
            fails("reading an absent object", store.get(&key, span), Kind::Absent);
        }
        fails("a checked read of an absent object", store.get_checked(&key), Kind::Absent);
        is("deleting an absent object finds nothing", done(Reaper::of(store).delete(&key)), false);
    }
    for shelf in Shelf::ALL {
        is("a new store has no objects", done(store.list(shelf)), Vec::new());
    }
}

fn listings_are_sorted_and_whole(store: &Store) {
    let mut keys = one_of_each();
    for n in [0x00, 0x01, 0x0f, 0x10, 0xab, 0xff] {
        keys.push(key(Shelf::Packs, hash(n)));
        // A second one in the same fan-out directory.
        keys.push(key(Shelf::Packs, format!("{n:02x}{}", "5".repeat(62))));
        keys.push(key(Shelf::Heads, hash(n)));
        for timeline in [1, 2] {
            keys.push(key(Shelf::Ledger, format!("{n:02x}/{timeline:08x}/seg-{n}.{}", hash(n))));
            keys.push(key(Shelf::Ledger, format!("{n:02x}-b/{timeline:08x}/seg.{}", hash(n))));
        }
    }
    // Against the order: a listing must sort, not repeat.
    keys.sort();
    keys.dedup();
    keys.reverse();
    for (n, key) in keys.iter().enumerate() {
        is("a new name is new", done(store.put_new(key, &vec![7; n])), Put::New);
        if store.lists_at_once() {
            let there = done(store.list(key.shelf())).iter().any(|listed| listed.key == *key);
            assert!(there, "conformance: {key} was written and a listing after it does not show it");
        }
    }
    let mut wanted: Vec<Listed> =
        keys.iter().enumerate().map(|(n, key)| Listed { key: key.clone(), bytes: n as u64 }).collect();
    wanted.sort_by(|a, b| a.key.cmp(&b.key));
    for shelf in Shelf::ALL {
        let wanted: Vec<Listed> = wanted.iter().filter(|listed| listed.key.shelf() == shelf).cloned().collect();
        lists(store, "a listing is every object of the shelf, sorted", &wanted, || done(store.list(shelf)));
        for prefix in ["", "0", "00", "ab", "abab", "0f/", "0f/0000", "0f/00000001/seg", "ff-b/", "zz", "a/b/c/d", "ü"]
        {
            let wanted: Vec<Listed> =
                wanted.iter().filter(|listed| listed.key.name().starts_with(prefix)).cloned().collect();
            let what = format!("a listing of {shelf:?} by the prefix {prefix:?} is what begins with it");
            lists(store, &what, &wanted, || done(store.list_prefix(shelf, prefix)));
        }
    }
}

fn delete_can_be_repeated(store: &Store) {
    let reaper = Reaper::of(store);
    for (n, key) in one_of_each().into_iter().enumerate() {
        done(store.put_new(&key, b"to be deleted"));
        // Read parts of it, so that a store that keeps files open has this one.
        done(store.get(&key, Span::Tail { len: 4 }));
        is("deleting an object finds it", done(reaper.delete(&key)), true);
        is("deleting it again finds nothing", done(reaper.delete(&key)), false);
        is("a deleted object has no size", done(store.size(&key)), None);
        fails("reading a deleted object", store.get(&key, Span::Whole), Kind::Absent);
        fails("reading a part of a deleted object", store.get(&key, Span::Tail { len: 4 }), Kind::Absent);
        lists(store, "a deleted object is not listed", &[], || done(store.list(key.shelf())));
        is("a deleted name can be written again", done(store.put_new(&key, &vec![1; n])), Put::New);
        is("and has its new bytes", done(store.get(&key, Span::Tail { len: 100 })), vec![1; n]);
        done(reaper.delete(&key));
    }
}

fn of_two_racing_writers_one_is_first(store: &Store) {
    let body = vec![3; 70_000];
    for n in 0..RACES {
        // A fan-out directory of its own, so that making it is part of the race.
        let key = key(Shelf::Packs, hash(n as u8));
        let start = Barrier::new(2);
        let write = || {
            start.wait();
            done(store.put_new(&key, &body))
        };
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(write);
            let other = scope.spawn(write);
            (one.join().expect("the first writer ends"), other.join().expect("the second writer ends"))
        });
        let new = [one, other].iter().filter(|put| **put == Put::New).count();
        assert!(new == 1, "conformance: of two racing writers of {key}, {new} were told that the object is new");
        is("what racing writers wrote is whole", done(store.get(&key, Span::Whole)), body.clone());
    }
}

fn sizes_from_nothing_to_big_come_back(store: &Store) {
    let empty = key(Shelf::Events, hash(1));
    is("an empty object is new", done(store.put_new(&empty, b"")), Put::New);
    is("an empty object existed", done(store.put_new(&empty, b"")), Put::Existed);
    is("an empty object has no bytes", done(store.get(&empty, Span::Whole)), Vec::new());
    is("its tail is empty", done(store.get(&empty, Span::Tail { len: 10 })), Vec::new());
    is("its size is zero", done(store.size(&empty)), Some(0));
    let past = store.get(&empty, Span::Range { offset: 0, len: 1 });
    fails("a byte of an empty object", past, Kind::Corrupt);

    let body: Vec<u8> = (0..BIG_BYTES as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let big = key(Shelf::Packs, blake3::hash(&body).to_hex().to_string());
    is("a big object is new", done(store.put_new(&big, &body)), Put::New);
    let whole = done(store.get_checked(&big));
    assert!(whole == body, "conformance: an object of {BIG_BYTES} bytes came back changed");
    let middle = done(store.get(&big, Span::Range { offset: 7_000_001, len: 9_000_000 }));
    assert!(middle == body[7_000_001..16_000_001], "conformance: 9 million bytes from the middle came back changed");
}

fn a_wrong_digest_is_found(store: &Store) {
    let good = key(Shelf::Runs, format!("run.{}", blake3::hash(b"good").to_hex()));
    done(store.put_new(&good, b"good"));
    is("bytes that match their name are given", done(store.get_checked(&good)), b"good".to_vec());
    let bad = key(Shelf::Runs, format!("run.{}", blake3::hash(b"other").to_hex()));
    done(store.put_new(&bad, b"bytes"));
    fails("a checked read of bytes that do not match their name", store.get_checked(&bad), Kind::Corrupt);
    let plain = key(Shelf::Root, "backstay.json");
    done(store.put_new(&plain, b"{}"));
    is("a name without a digest is not checked", done(store.get_checked(&plain)), b"{}".to_vec());
}

fn nothing_is_left_to_tidy(store: &Store) {
    for key in one_of_each() {
        done(store.put_new(&key, b"x"));
        done(store.put_new(&key, b"x"));
        fails("a write of another size", store.put_new(&key, b"xx"), Kind::Corrupt);
    }
    is("writes that ended leave nothing to tidy", done(Reaper::of(store).tidy()), 0);
    for key in one_of_each() {
        is("tidying touches no object", done(store.get(&key, Span::Whole)), b"x".to_vec());
    }
}

/// A name on each shelf, formed as `docs/format.md` §2 says.
fn one_of_each() -> Vec<Key> {
    let hash = hash(0xab);
    let intent = "0".repeat(32);
    vec![
        key(Shelf::Root, "backstay.json"),
        key(Shelf::Keys, format!("cert-00ff.{hash}")),
        key(Shelf::Runs, format!("{intent}.{hash}")),
        key(Shelf::Packs, hash.clone()),
        key(Shelf::Index, hash.clone()),
        key(Shelf::Heads, hash.clone()),
        key(Shelf::Intents, format!("{intent}.end.{hash}")),
        key(Shelf::Condemned, hash.clone()),
        key(Shelf::Ledger, format!("00ff/00000001/000000010000000000000001.{intent}.{hash}")),
        key(Shelf::Events, hash),
    ]
}

fn hash(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

fn key(shelf: Shelf, name: impl Into<String>) -> Key {
    Key::new(shelf, name).expect("the suite uses good names")
}

fn done<T>(result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|e| panic!("conformance: the store failed where it must not: {e} ({:?})", e.kind))
}

fn is<T: PartialEq + Debug>(what: &str, got: T, wanted: T) {
    assert!(got == wanted, "conformance: {what}; but it gave {got:?} instead of {wanted:?}");
}

fn fails<T: Debug>(what: &str, got: Result<T, StoreError>, kind: Kind) {
    match got {
        Ok(value) => panic!("conformance: {what} must fail as {kind:?}; but it gave {value:?}"),
        Err(e) => {
            assert!(e.kind == kind, "conformance: {what} must fail as {kind:?}; but it failed as {:?}: {e}", e.kind)
        }
    }
}

/// Asks again for a while when the store's listings lag.
fn lists(store: &Store, what: &str, wanted: &[Listed], list: impl Fn() -> Vec<Listed>) {
    let deadline = Instant::now() + LISTING_LAG_MAX;
    let mut got = list();
    while got != wanted && !store.lists_at_once() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        got = list();
    }
    is(what, got.as_slice(), wanted);
}
