use super::*;
use crate::files::capture::tests::later;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

struct Place {
    dir: tempfile::TempDir,
    scratch: Scratch,
    world: World,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("temp dir");
        let world = later();
        let scratch = scratch(&dir.path().join("private"), &world).expect("makes");
        Place { dir, scratch, world }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("a b%?#é.db")
    }

    fn make(&self, mode: &str) -> Connection {
        let db = Connection::open(self.path()).expect("opens");
        db.execute_batch(&format!(
            "PRAGMA journal_mode={mode}; CREATE TABLE t(x INTEGER PRIMARY KEY, y); CREATE INDEX i ON t(y);
             WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000)
             INSERT INTO t SELECT x, hex(randomblob(50)) FROM n;"
        ))
        .expect("writes");
        db
    }

    fn copy(&self) -> Result<Copied, Refusal> {
        let id = file_id(&stat(self.path()).expect("is there"));
        copy(&self.path(), id, &self.scratch, &self.world)
    }

    /// How many rows the copy has, after a full check of it.
    fn rows(&self, mut copied: Copied) -> i64 {
        let path = self.dir.path().join("restored.db");
        io::copy(&mut copied.file, &mut File::create(&path).expect("makes")).expect("copies");
        let db = Connection::open(&path).expect("opens");
        let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checks");
        assert_eq!(verdict, "ok");
        db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("reads")
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.dir.path()).expect("lists");
        entries.map(|entry| entry.expect("is there").file_name().to_string_lossy().into_owned()).collect()
    }
}

#[test]
fn a_copy_has_everything_that_is_committed() {
    for mode in ["wal", "delete", "truncate", "persist"] {
        for open in [false, true] {
            let place = Place::new();
            let db = place.make(mode);
            let mut held = Some(db);
            if !open {
                held = None;
            }
            let before = place.names();
            let copied = place.copy().expect(mode);
            assert_eq!(copied.unchecked, None);
            assert_eq!(place.names(), before, "{mode}: nothing is left beside the database");
            assert_eq!(place.rows(copied), 5000, "{mode}, open: {open}");
            drop(held);
        }
    }
}

#[test]
fn a_copy_leaves_out_what_is_not_committed() {
    for mode in ["wal", "delete"] {
        let place = Place::new();
        let db = place.make(mode);
        db.execute_batch("BEGIN IMMEDIATE; DELETE FROM t WHERE x > 10;").expect("writes");
        let copied = place.copy().expect(mode);
        assert_eq!(place.rows(copied), 5000, "{mode}");
    }
}

#[test]
fn a_copy_is_whole_while_others_write() {
    for mode in ["wal", "delete"] {
        let mut place = Place::new();
        place.world = World::real();
        drop(place.make(mode));
        let (stop, path) = (AtomicBool::new(false), place.path());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let db = Connection::open(&path).expect("opens");
                db.busy_timeout(Duration::from_secs(60)).expect("sets");
                while !stop.load(Ordering::SeqCst) {
                    // Both or neither.
                    db.execute_batch(
                        "BEGIN IMMEDIATE; INSERT INTO t(y) SELECT hex(randomblob(2000)) FROM t LIMIT 20;
                         UPDATE t SET y = hex(randomblob(60)) WHERE x % 7 = abs(random()) % 7; COMMIT;",
                    )
                    .expect("writes");
                }
            });
            for _ in 0..5 {
                let copied = place.copy().expect(mode);
                assert_eq!(place.rows(copied) % 20, 0, "{mode}");
            }
            stop.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn a_database_that_stays_locked_is_refused() {
    let place = Place::new();
    let db = place.make("delete");
    db.execute_batch("BEGIN EXCLUSIVE; DELETE FROM t;").expect("locks");
    // Written pages make it a hot one, were the lock not held.
    match place.copy() {
        Err(Refusal::Failed(why)) => assert!(why.contains("locked"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transaction_that_was_cut_off_is_refused() {
    let place = Place::new();
    drop(place.make("delete"));
    let db = Connection::open(place.path()).expect("opens");
    db.execute_batch("PRAGMA cache_size=1; BEGIN; UPDATE t SET y = hex(randomblob(60));").expect("writes");
    // As after a crash: the database half written, its journal beside it, and nobody holding a lock.
    let crashed = place.dir.path().join("crashed.db");
    std::fs::copy(place.path(), &crashed).expect("copies");
    std::fs::copy(format!("{}-journal", place.path().display()), format!("{}-journal", crashed.display()))
        .expect("copies");
    let id = file_id(&stat(&crashed).expect("is there"));
    match copy(&crashed, id, &place.scratch, &place.world) {
        Err(Refusal::Failed(why)) => assert!(why.contains("transaction"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn damage_is_found() {
    let place = Place::new();
    drop(place.make("delete"));
    let whole = std::fs::read(place.path()).expect("reads");
    let header_only = whole[..100].to_vec();
    let cut_off = whole[..whole.len() / 2].to_vec();
    let mut scrambled = whole.clone();
    scrambled[4096 * 20..4096 * 24].fill(0xa5);
    for (what, bytes) in [("header only", header_only), ("cut off", cut_off), ("scrambled", scrambled)] {
        std::fs::write(place.path(), bytes).expect("writes");
        assert!(matches!(place.copy(), Err(Refusal::Damaged(_))), "{what}");
    }
}

#[test]
fn a_database_that_is_replaced_is_refused() {
    let place = Place::new();
    drop(place.make("delete"));
    let id = file_id(&stat(place.path()).expect("is there"));
    assert!(matches!(copy(&place.path(), (id.0, id.1 + 1), &place.scratch, &place.world), Err(Refusal::Failed(_))));
}

#[test]
fn a_check_that_needs_an_extension_is_told_and_the_copy_stays() {
    let place = Place::new();
    let db = place.make("delete");
    db.execute_batch(
        "PRAGMA writable_schema=ON;
        INSERT INTO sqlite_schema VALUES ('index','j','t',2,'CREATE INDEX j ON t(y COLLATE strange)');",
    )
    .expect("writes");
    drop(db);
    match place.copy() {
        Ok(copied) => assert!(copied.unchecked.is_some()),
        Err(Refusal::Damaged(why)) => assert!(!why.is_empty()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_private_directory_is_private_and_goes() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let path = place.scratch.path().to_owned();
    assert_eq!(std::fs::metadata(&path).expect("is there").mode() & 0o777, 0o700);
    drop(place.make("wal"));
    let copied = place.copy().expect("copies");
    assert_eq!(std::fs::read_dir(&path).expect("lists").count(), 0, "the copy has no name any more");
    drop(copied);
    drop(place.scratch);
    assert!(!path.exists());
}
