use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

fn tree() -> (TempDir, Tree) {
    let dir = TempDir::new().expect("a directory");
    let tree = Tree::open(&dir.path().join("out"), Must::BeEmpty).expect("opens");
    (dir, tree)
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let (_dir, tree) = tree();
    let root = tree.handle(tree.root()).expect("open");
    for name in [&b""[..], b".", b"..", b"a/b", b"/etc", b"a\0b", b"../x"] {
        assert!(tree.make_dir(tree.root(), name).is_err(), "{name:?}");
        assert!(tree.open_dir(tree.root(), name).is_err(), "{name:?}");
        assert!(create(&root, name, 0o600).is_err(), "{name:?}");
        assert!(open(&root, name, Access::Write).is_err(), "{name:?}");
        assert!(look(&root, name).is_err(), "{name:?}");
        assert!(remove(&root, name).is_err() && remove_dir(&root, name).is_err() && remove_all(&root, name).is_err());
        assert!(
            rename(&root, b"x", name, Over::Anything).is_err() && rename(&root, name, b"x", Over::Nothing).is_err()
        );
        assert!(link(&root, name, &root, b"x").is_err() && link(&root, b"x", &root, name).is_err());
        assert!(symlink_at(&root, name).is_err() && node(&root, name, FileType::Fifo, 0).is_err());
        assert!(tree.find(&[name]).is_err(), "{name:?}");
    }
}

fn symlink_at(dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    super::symlink(dir, name, b"target")
}

#[test]
fn links_inside_the_target_are_not_followed() {
    for stepwise in [false, true] {
        let (dir, tree) = tree();
        tree.stepwise.store(stepwise, Relaxed);
        let outside = dir.path().join("outside");
        std::fs::create_dir_all(outside.join("sub")).expect("made");
        std::fs::write(outside.join("file"), b"theirs").expect("written");
        let target = dir.path().join("out");
        symlink(&outside, target.join("dir")).expect("made");
        symlink(outside.join("file"), target.join("file")).expect("made");
        symlink(outside.join("new"), target.join("dangling")).expect("made");
        let root = tree.handle(tree.root()).expect("open");
        assert!(tree.open_dir(tree.root(), b"dir").is_err());
        assert!(tree.make_dir(tree.root(), b"dir").is_err());
        assert!(tree.find(&[b"dir"]).is_err() && tree.find(&[b"dir", b"sub"]).is_err());
        assert!(create(&root, b"dangling", 0o600).is_err() && !outside.join("new").exists());
        assert!(create(&root, b"file", 0o600).is_err());
        assert!(open(&root, b"file", Access::Write).is_err() && open(&root, b"file", Access::Read).is_err());
        // A hard link names the link, not what it points at.
        link(&root, b"file", &root, b"other").expect("linked");
        assert!(std::fs::symlink_metadata(target.join("other")).expect("is there").is_symlink());
        assert_eq!(remove_all(&root, b"dir").expect("removed"), 1);
        assert!(outside.join("sub").exists());
    }
}

#[test]
fn a_directory_that_was_replaced_meanwhile_is_refused() {
    for stepwise in [false, true] {
        let (dir, tree) = tree();
        tree.stepwise.store(stepwise, Relaxed);
        let a = tree.make_dir(tree.root(), b"a").expect("made");
        let b = tree.make_dir(&a, b"b").expect("made");
        let at = |path: &str| dir.path().join("out").join(path);
        tree.forget(&a);
        tree.forget(&b);
        tree.handle(&b).expect("is found again");
        tree.forget(&b);
        std::fs::rename(at("a/b"), at("a/old")).expect("moved");
        std::fs::create_dir(at("a/b")).expect("made");
        assert!(tree.handle(&b).is_err());
        std::fs::remove_dir(at("a/b")).expect("removed");
        symlink(at("a/old"), at("a/b")).expect("made");
        assert!(tree.handle(&b).is_err());
        std::fs::remove_file(at("a/b")).expect("removed");
        std::fs::rename(at("a/old"), at("a/b")).expect("moved back");
        tree.handle(&b).expect("is itself again");
        symlink("/", at("l")).expect("made");
        std::fs::rename(at("a"), at("c")).expect("moved");
        std::fs::rename(at("l"), at("a")).expect("moved");
        tree.forget(&b);
        assert!(tree.handle(&b).is_err());
    }
}

#[test]
fn a_rename_replaces_only_when_told_to() {
    let (dir, tree) = tree();
    let root = tree.handle(tree.root()).expect("open");
    drop(create(&root, b"a", 0o600).expect("made"));
    drop(create(&root, b"b", 0o600).expect("made"));
    let refused = rename(&root, b"a", b"b", Over::Nothing).expect_err("something is there");
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    rename(&root, b"a", b"b", Over::Anything).expect("renamed");
    rename(&root, b"b", b"c", Over::Nothing).expect("renamed");
    assert_eq!(names(&root).expect("lists"), [(b"c".to_vec(), FileType::RegularFile)]);
    drop(dir);
}

#[test]
fn whole_trees_are_removed_however_deep() {
    let (_dir, tree) = tree();
    let mut at = Arc::clone(tree.root());
    for _ in 0..1500 {
        at = tree.make_dir(&at, b"deeper").expect("made");
    }
    drop(create(tree.handle(&at).expect("open"), b"file", 0o600).expect("made"));
    let root = tree.handle(tree.root()).expect("open");
    assert_eq!(remove_all(&root, b"deeper").expect("removed"), 1501);
    assert_eq!(remove_all(&root, b"deeper").expect("is gone"), 0);
}

#[test]
fn an_empty_file_system_counts_as_empty() {
    let dir = TempDir::new().expect("a directory");
    std::fs::create_dir(dir.path().join("lost+found")).expect("made");
    survey(dir.path(), Must::BeEmpty).expect("is empty");
    assert_eq!(survey(&dir.path().join("a/b/c"), Must::BeEmpty).expect("can be made"), dir.path());
    std::fs::write(dir.path().join("x"), b"").expect("written");
    assert!(matches!(survey(dir.path(), Must::BeEmpty), Err(TargetError::NotEmpty(_))));
    survey(dir.path(), Must::BeDirectory).expect("is a directory");
    symlink(dir.path().join("nowhere"), dir.path().join("dangling")).expect("made");
    let dangling = survey(&dir.path().join("dangling"), Must::BeEmpty);
    assert!(matches!(dangling, Err(TargetError::NotADirectory(_))));
}
