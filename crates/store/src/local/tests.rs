//! What the disk can do to a store from inside: flushes that fail, links, leftovers.
#![allow(clippy::unwrap_used)]

use super::*;
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use tempfile::TempDir;

fn store() -> (TempDir, LocalStore) {
    let temp = tempfile::tempdir().unwrap();
    let store = LocalStore::create(&temp.path().join("repo"), NetworkPolicy::Accept).unwrap();
    (temp, store)
}

fn key(n: u8) -> Key {
    Key::new(Shelf::Packs, format!("{n:02x}").repeat(32)).unwrap()
}

fn is_dir(fd: BorrowedFd<'_>) -> bool {
    FileType::from_raw_mode(rustix::fs::fstat(fd).unwrap().st_mode) == FileType::Directory
}

fn tmp_is_empty(store: &LocalStore) -> bool {
    std::fs::read_dir(store.path.join(TMP)).unwrap().next().is_none()
}

thread_local! {
    static FLUSHED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn a_file_is_flushed_once_after_the_directories_above_it_and_before_its_own() {
    let (_temp, mut store) = store();
    store.flush = |fd| {
        FLUSHED.with_borrow_mut(|flushed| flushed.push(rustix::fs::fstat(fd).unwrap().st_ino));
        Ok(())
    };
    let inode = |path: &str| std::fs::metadata(store.path.join(path)).unwrap().ino();
    // A directory whose maker died before its flush counts as new.
    std::fs::create_dir(store.path.join("packs/02")).unwrap();
    for n in [1, 2] {
        FLUSHED.take();
        store.put_new(&key(n), b"body").unwrap();
        let wanted = [inode("packs"), inode(&key(n).path()), inode(&format!("packs/{n:02x}"))];
        assert_eq!(FLUSHED.take(), wanted);
    }
    let second = Key::new(Shelf::Packs, "01ff").unwrap();
    store.put_new(&second, b"body").unwrap();
    assert_eq!(FLUSHED.take(), [inode(&second.path()), inode("packs/01")]);
}

#[test]
fn an_object_whose_file_cannot_be_flushed_does_not_exist() {
    let (_temp, mut store) = store();
    store.flush = |fd| if is_dir(fd) { Ok(()) } else { Err(Errno::IO) };
    assert_eq!(store.put_new(&key(1), b"body").unwrap_err().kind, Kind::Unreachable);
    assert_eq!(store.size(&key(1)).unwrap(), None);
    assert!(tmp_is_empty(&store));
    store.flush = |fd| rustix::fs::fsync(fd);
    assert_eq!(store.put_new(&key(1), b"body").unwrap(), Put::New);
}

#[test]
fn a_quota_found_at_the_flush_is_a_full_store() {
    let (_temp, mut store) = store();
    store.flush = |fd| if is_dir(fd) { Ok(()) } else { Err(Errno::DQUOT) };
    assert_eq!(store.put_new(&key(1), b"body").unwrap_err().kind, Kind::Full);
    assert!(tmp_is_empty(&store));
}

#[test]
fn after_a_directory_could_not_be_flushed_nothing_is_called_durable_any_more() {
    let (_temp, mut store) = store();
    store.put_new(&key(1), b"body").unwrap();
    store.flush = |fd| if is_dir(fd) { Err(Errno::IO) } else { Ok(()) };
    assert_eq!(store.put_new(&key(2), b"body").unwrap_err().kind, Kind::Unreachable);
    // The kernel has reported the failure and forgotten it: the next flush would succeed.
    store.flush = |_| Ok(());
    for n in [1, 2, 3] {
        assert_eq!(store.put_new(&key(n), b"body").unwrap_err().kind, Kind::Unreachable);
    }
    assert_eq!(store.delete(&key(1)).unwrap_err().kind, Kind::Unreachable);
    assert_eq!(store.get(&key(1), Span::Whole).unwrap(), b"body");
}

#[test]
fn an_object_that_exists_is_flushed_before_it_is_called_durable() {
    let (_temp, mut store) = store();
    store.put_new(&key(1), b"body").unwrap();
    store.flush = |fd| if is_dir(fd) { Ok(()) } else { Err(Errno::IO) };
    assert_eq!(store.put_new(&key(1), b"body").unwrap_err().kind, Kind::Unreachable);
    store.flush = |_| Ok(());
    assert_eq!(store.put_new(&key(1), b"body").unwrap_err().kind, Kind::Unreachable);
}

#[test]
fn only_an_accepted_network_may_be_unable_to_flush_directories() {
    let (_temp, mut store) = store();
    store.put_new(&key(1), b"body").unwrap();
    store.flush = |fd| if is_dir(fd) { Err(Errno::INVAL) } else { Ok(()) };
    store.place = Place::Network("cifs");
    assert_eq!(store.put_new(&key(2), b"body").unwrap(), Put::New);
    assert!(!store.lists_at_once());
    assert_eq!(store.warnings()[0].name, "network-filesystem");
    store.place = Place::Disk;
    assert_eq!(store.put_new(&key(3), b"body").unwrap_err().kind, Kind::Unreachable);
}

#[test]
fn a_link_replaces_nothing_where_rename_cannot_promise_it() {
    let (_temp, store) = store();
    let (tmp, heads) = (store.dir(TMP).unwrap(), store.dir("heads").unwrap());
    let mut first = Temp::create(&tmp).unwrap();
    first.file.write_all(b"first").unwrap();
    first.link_to(&heads, "a").unwrap();
    // As after a crash between link and unlink: the second name is freed, and no byte with it.
    drop(std::mem::replace(&mut first.file, File::open("/dev/null").unwrap()));
    assert_eq!(store.tidy().unwrap(), 0);
    drop(first);
    assert!(tmp_is_empty(&store));

    let second = Temp::create(&tmp).unwrap();
    assert_eq!(second.link_to(&heads, "a"), Err(Errno::EXIST));
    drop(second);
    assert!(tmp_is_empty(&store));
    let key = Key::new(Shelf::Heads, "a").unwrap();
    assert_eq!(store.get(&key, Span::Whole).unwrap(), b"first");
}

#[test]
fn no_symbolic_link_is_followed_inside_the_repository() {
    let (temp, store) = store();
    let outside = temp.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("a"), b"secret").unwrap();
    symlink(outside.join("a"), store.path.join("heads/a")).unwrap();
    let head = Key::new(Shelf::Heads, "a").unwrap();
    assert_eq!(store.get(&head, Span::Whole).unwrap_err().kind, Kind::Corrupt);
    assert_eq!(store.put_new(&head, b"secret").unwrap_err().kind, Kind::Corrupt);
    assert_eq!(store.size(&head).unwrap_err().kind, Kind::Corrupt);
    assert_eq!(store.list(Shelf::Heads, "").unwrap(), []);

    symlink(&outside, store.path.join("packs/01")).unwrap();
    assert!(store.put_new(&key(1), b"body").is_err());
    assert!(store.list(Shelf::Packs, "").is_err());
    assert_eq!(store.list(Shelf::Packs, "02").map_err(|e| e.kind), Err(Kind::Corrupt));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn names_that_are_no_objects_are_not_listed() {
    let (_temp, store) = store();
    store.put_new(&key(1), b"body").unwrap();
    for name in ["heads/.hidden", "heads/a b", "packs/stray", "packs/01/0200", "ledger/.x", "lost+found"] {
        std::fs::write(store.path.join(name), b"x").unwrap();
    }
    std::fs::create_dir(store.path.join("heads/dir")).unwrap();
    std::fs::create_dir_all(store.path.join("ledger/a/b/c")).unwrap();
    std::fs::write(store.path.join("ledger/a/b/c/deep"), b"x").unwrap();
    for shelf in [Shelf::Root, Shelf::Heads, Shelf::Ledger] {
        assert_eq!(store.list(shelf, "").unwrap(), [], "{shelf:?}");
    }
    assert_eq!(store.list(Shelf::Packs, "").unwrap(), [Listed { key: key(1), bytes: 4 }]);
    std::fs::remove_dir_all(store.path.join("packs")).unwrap();
    assert_eq!(store.list(Shelf::Packs, "").unwrap(), []);
    assert_eq!(store.put_new(&key(1), b"body").unwrap(), Put::New);
}

#[test]
fn what_another_process_deleted_is_absent_though_its_file_was_open() {
    let (_temp, store) = store();
    store.put_new(&key(1), b"body").unwrap();
    assert_eq!(store.get(&key(1), Span::Tail { len: 2 }).unwrap(), b"dy");
    assert!(store.handles.find(&key(1)).is_some());
    LocalStore::open(&store.path, NetworkPolicy::Accept).unwrap().delete(&key(1)).unwrap();
    assert!(store.get(&key(1), Span::Tail { len: 2 }).unwrap_err().is_absent());
    assert!(store.handles.find(&key(1)).is_none());
}

#[test]
fn an_object_cut_short_on_the_disk_is_found_corrupt() {
    let (_temp, store) = store();
    store.put_new(&key(1), b"body").unwrap();
    let span = Span::Range { offset: 1, len: 3 };
    assert_eq!(store.get(&key(1), span).unwrap(), b"ody");
    let path = store.path.join(key(1).path());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
    assert_eq!(store.get(&key(1), span).unwrap_err().kind, Kind::Corrupt);
    assert_eq!(store.put_new(&key(1), b"body").unwrap_err().kind, Kind::Corrupt);
}

#[test]
fn everything_belongs_to_its_owner_alone() {
    let (_temp, store) = store();
    store.put_new(&key(1), b"body").unwrap();
    let mode = |path: &str| std::fs::metadata(store.path.join(path)).unwrap().permissions().mode() & 0o7777;
    for dir in ["", "tmp", "heads", "packs", "packs/01"] {
        assert_eq!(mode(dir), 0o700, "{dir}");
    }
    assert_eq!(mode(&key(1).path()), 0o400);
    let tmp = store.dir(TMP).unwrap();
    let temp = Temp::create(&tmp).unwrap();
    assert_eq!(mode(&format!("tmp/{}", temp.name)), 0o600);
}

#[test]
fn errors_of_the_system_have_the_kind_that_decides_what_to_do() {
    for (errno, kind) in [
        (Errno::NOSPC, Kind::Full),
        (Errno::DQUOT, Kind::Full),
        (Errno::ACCESS, Kind::Denied),
        (Errno::PERM, Kind::Denied),
        (Errno::ROFS, Kind::Denied),
        (Errno::NOENT, Kind::Absent),
        (Errno::IO, Kind::Unreachable),
        (Errno::STALE, Kind::Unreachable),
        (Errno::MFILE, Kind::Unreachable),
    ] {
        assert_eq!(failure("read x", errno).kind, kind, "{errno:?}");
    }
}
