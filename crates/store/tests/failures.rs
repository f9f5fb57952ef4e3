//! What goes wrong around a store in a directory: writers that die, disks that fill, places that are none.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use rustix::fs::FlockOperation;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use store::{Backend, Key, Kind, LocalStore, NetworkPolicy, Put, Reaper, Shelf, Span, Store};

const ACCEPT: NetworkPolicy = NetworkPolicy::Accept;

fn create(path: &Path) -> LocalStore {
    LocalStore::create(path, ACCEPT).unwrap()
}

fn pack(n: u8) -> Key {
    Key::new(Shelf::Packs, format!("{n:02x}").repeat(32)).unwrap()
}

fn n_files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// A tmpfs that goes away with the test; `None`, with the reason printed, where none can be mounted.
struct SmallDisk(PathBuf, #[allow(dead_code)] tempfile::TempDir);

impl SmallDisk {
    fn mount(mib: u32) -> Option<SmallDisk> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("disk");
        std::fs::create_dir(&path).unwrap();
        let size = format!("size={mib}m");
        if !run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "backstay-test"]).arg(&path)) {
            eprintln!("skipped: only root can mount a small disk");
            return None;
        }
        Some(SmallDisk(path, temp))
    }

    fn make_read_only(&self) -> bool {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn run(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn a_killed_writer_leaves_no_object_and_tidy_frees_what_it_wrote() {
    let temp = tempfile::tempdir().unwrap();
    let store = create(temp.path());
    std::fs::write(temp.path().join("tmp/0123"), vec![0; 5000]).unwrap();
    std::fs::write(temp.path().join("tmp/4567"), b"").unwrap();
    for shelf in Shelf::ALL {
        assert_eq!(store.list(shelf, "").unwrap(), [], "{shelf:?}");
    }
    assert_eq!(store.tidy().unwrap(), 5000);
    assert_eq!(n_files(&temp.path().join("tmp")), 0);
    assert_eq!(store.tidy().unwrap(), 0);
}

#[test]
fn tidy_keeps_what_a_living_writer_is_writing() {
    let temp = tempfile::tempdir().unwrap();
    let store = create(temp.path());
    let path = temp.path().join("tmp/0123");
    let mut writer = File::create_new(&path).unwrap();
    rustix::fs::flock(&writer, FlockOperation::LockExclusive).unwrap();
    writer.write_all(b"half of an obj").unwrap();
    assert_eq!(store.tidy().unwrap(), 0);
    assert!(path.exists());
    drop(writer);
    assert_eq!(store.tidy().unwrap(), 14);
    assert!(!path.exists());
}

#[test]
fn writers_and_tidy_at_the_same_time_lose_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let store = create(temp.path());
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u8)
            .map(|w| {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..50u8 {
                        assert_eq!(store.put_new(&pack(w * 50 + n), &[w; 3000]).unwrap(), Put::New);
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            store.tidy().unwrap();
        }
    });
    assert_eq!(store.list(Shelf::Packs, "").unwrap().len(), 200);
    assert_eq!(n_files(&temp.path().join("tmp")), 0);
}

#[test]
fn a_full_disk_is_reported_and_holds_nothing_half_written() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let store = create(&disk.0.join("repo"));
    assert_eq!(store.warnings()[0].name, "memory-filesystem");
    let body = vec![5; 3 << 20];
    let mut written = 0;
    let error = loop {
        match store.put_new(&pack(written), &body) {
            Ok(put) => assert_eq!(put, Put::New),
            Err(e) => break e,
        }
        written += 1;
    };
    assert_eq!(error.kind, Kind::Full, "{error}");
    assert_eq!(written, 2);
    assert_eq!(n_files(&disk.0.join("repo/tmp")), 0);
    let listed = store.list(Shelf::Packs, "").unwrap();
    assert_eq!(listed.len(), 2);
    for object in listed {
        assert_eq!(store.get(&object.key, Span::Whole).unwrap(), body);
    }
    // What the failed write had taken is free again.
    assert_eq!(store.put_new(&Key::new(Shelf::Heads, "a").unwrap(), b"small").unwrap(), Put::New);
    assert!(store.delete(&pack(0)).unwrap());
    assert_eq!(store.put_new(&pack(9), &body).unwrap(), Put::New);
}

#[test]
fn the_last_space_is_kept_for_the_small_objects_that_free_space() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let local = Arc::new(create(&disk.0.join("repo")));
    let store = Store::new(Arc::clone(&local) as Arc<dyn Backend>);
    let mut written = 0;
    let error = loop {
        match store.put_new(&pack(written), &vec![5; 1 << 20]) {
            Ok(put) => assert_eq!(put, Put::New),
            Err(e) => break e,
        }
        written += 1;
    };
    assert_eq!(error.kind, Kind::Full, "{error}");
    assert!((6..=8).contains(&written), "{written}");
    assert!(store.room().unwrap() >= 15 << 20);
    for shelf in [Shelf::Condemned, Shelf::Heads, Shelf::Index] {
        assert_eq!(store.put_new(&Key::new(shelf, "a").unwrap(), &[1; 100_000]).unwrap(), Put::New);
    }
    assert!(Reaper::of(&store).delete(&pack(0)).unwrap());
    assert_eq!(store.put_new(&pack(100), &[1; 1000]).unwrap(), Put::New);
}

#[test]
fn a_read_only_directory_can_be_read_and_says_that_writing_is_denied() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let path = disk.0.join("repo");
    let store = create(&path);
    store.put_new(&pack(1), b"body").unwrap();
    assert!(disk.make_read_only(), "a tmpfs of ours can be made read-only");
    let store = LocalStore::open(&path, ACCEPT).unwrap();
    assert_eq!(store.get(&pack(1), Span::Whole).unwrap(), b"body");
    // In a directory that exists, and in one that would have to be made.
    let head = Key::new(Shelf::Heads, "a").unwrap();
    for key in [head, pack(2)] {
        assert_eq!(store.put_new(&key, b"body").unwrap_err().kind, Kind::Denied);
    }
    assert_eq!(store.delete(&pack(1)).unwrap_err().kind, Kind::Denied);
    assert_eq!(store.put_new(&pack(1), b"body").unwrap(), Put::Existed);
    assert_eq!(LocalStore::create(&disk.0.join("other"), ACCEPT).unwrap_err().kind, Kind::Denied);
}

#[test]
fn a_target_that_is_a_file_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    std::fs::write(&path, b"precious").unwrap();
    for target in [path.clone(), path.join("below")] {
        assert_eq!(LocalStore::create(&target, ACCEPT).unwrap_err().kind, Kind::Unsuitable);
        assert_eq!(LocalStore::open(&target, ACCEPT).unwrap_err().kind, Kind::Unsuitable);
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_directory_with_other_things_in_it_is_refused_and_untouched() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("keys")).unwrap();
    std::fs::write(temp.path().join("photo.jpg"), b"precious").unwrap();
    let error = LocalStore::create(temp.path(), ACCEPT).unwrap_err();
    assert_eq!(error.kind, Kind::Unsuitable);
    assert!(error.why.contains("photo.jpg"), "{error}");
    assert_eq!(n_files(temp.path()), 2);
}

#[test]
fn a_repository_that_was_half_created_can_be_created_again() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("deep/er/repo");
    let first = create(&path);
    first.put_new(&pack(1), b"body").unwrap();
    std::fs::remove_dir(path.join("heads")).unwrap();
    std::fs::create_dir(path.join("lost+found")).unwrap();
    let again = create(&path);
    assert_eq!(again.get(&pack(1), Span::Whole).unwrap(), b"body");
    assert!(path.join("heads").is_dir());
    assert_eq!(n_files(&path.join("tmp")), 0);
}

#[test]
fn a_missing_directory_is_absent() {
    let temp = tempfile::tempdir().unwrap();
    let error = LocalStore::open(&temp.path().join("nothing"), ACCEPT).unwrap_err();
    assert_eq!(error.kind, Kind::Absent);
    assert_eq!(n_files(temp.path()), 0);
}
