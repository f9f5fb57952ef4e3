use super::*;
use crate::files::report::{Problems, Severity};
use crate::files::select::{Pattern, SelectSpec};
use rustix::fs::{fstat, mkdirat};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

struct Walked {
    /// Paths, directories with a slash at their end.
    paths: Vec<String>,
    passed: Passed,
    problems: Problems,
    open_max: usize,
}

fn walk(roots: &[&Path], spec: &SelectSpec) -> Walked {
    let roots = Roots::parse(roots, Path::new("/")).expect("roots");
    let select = Select::new(spec).expect("patterns");
    let (notes, stop) = (Notes::default(), Stop::default());
    let mut walker = Walker::new(&roots, &select, Sqlite::Auto, (&notes, &stop));
    let (mut paths, mut open_max) = (Vec::new(), 0);
    let mut last: Option<Vec<u8>> = None;
    while let Some(found) = walker.next() {
        assert!(last.as_deref().is_none_or(|last| last < walker.key()), "keys ascend");
        last = Some(walker.key().to_vec());
        let slash = matches!(found, Found::Dir { .. });
        if !slash {
            assert!(walker.place().is_some_and(|(_, name)| walker.key().ends_with(name.to_bytes())));
        }
        let path = repo::path_of_key(walker.key());
        paths.push(String::from_utf8_lossy(&path).into_owned() + if slash && path != b"/" { "/" } else { "" });
        open_max = open_max.max(walker.frames.iter().filter(|frame| frame.dir.is_some()).count());
    }
    Walked { paths, passed: walker.passed, problems: notes.take(), open_max }
}

/// What was walked in `dir`, relative to it; ancestors are left out.
fn within(dir: &Path, walked: &Walked) -> Vec<String> {
    let prefix = format!("{}/", dir.display());
    walked
        .paths
        .iter()
        .filter_map(|path| path.strip_prefix(&prefix))
        .filter(|p| !p.is_empty())
        .map(str::to_owned)
        .collect()
}

fn put(dir: &Path, name: impl AsRef<Path>, data: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("has one")).expect("makes");
    std::fs::write(path, data).expect("writes");
}

fn patterns(texts: &[&str]) -> SelectSpec {
    let pattern = |text: &&str| Pattern { text: (*text).to_owned(), origin: "test".to_owned() };
    SelectSpec { patterns: texts.iter().map(pattern).collect(), ..SelectSpec::default() }
}

#[test]
fn everything_comes_in_the_order_of_path_keys() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in ["a", "a/b", "a/b/c", "a-b", "a.x", "a/b-c", "z/é/漢", "z/e", "-r", "new\nline/x", "empty/"] {
        names.push(name.trim_end_matches('/').as_bytes().to_vec());
    }
    names.push(b"bytes/\xff\xfe raw".to_vec());
    names.push(b"bytes/\x01".to_vec());
    let is_dir = |name: &[u8]| {
        name == b"empty"
            || names
                .iter()
                .any(|other| other.len() > name.len() && other.starts_with(name) && other[name.len()] == b'/')
    };
    for name in &names {
        let path = dir.path().join(std::ffi::OsStr::from_bytes(name));
        match is_dir(name) {
            true => std::fs::create_dir_all(path).expect("makes"),
            false => put(dir.path(), path, b"x"),
        }
    }
    let roots = Roots::parse(&[dir.path()], Path::new("/")).expect("roots");
    let select = Select::new(&SelectSpec::default()).expect("patterns");
    let (notes, stop) = (Notes::default(), Stop::default());
    let mut walker = Walker::new(&roots, &select, Sqlite::Auto, (&notes, &stop));
    let mut keys = Vec::new();
    while walker.next().is_some() {
        keys.push(walker.key().to_vec());
    }
    // Naively: every prefix of every path, sorted by key.
    let mut expect = std::collections::BTreeSet::new();
    for name in names.iter().chain([&Vec::new()]) {
        let path = [dir.path().as_os_str().as_bytes(), b"/", name].concat();
        let key = repo::key_of_path(&path).expect("is absolute");
        expect.extend((0..key.len()).filter(|at| key[*at] == 0).map(|at| key[..at].to_vec()));
        expect.insert(key);
        expect.insert(Vec::new());
    }
    assert_eq!(keys, expect.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_tree_a_thousand_levels_deep_is_walked_with_few_directories_open() {
    const LEVELS: usize = 1000;
    let dir = tempfile::tempdir().expect("temp dir");
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut at = openat(CWD, dir.path(), flags, Mode::empty()).expect("opens");
    for _ in 0..LEVELS {
        mkdirat(&at, c"ddddddddd", Mode::RWXU).expect("makes");
        // Comes after the directory, so that the walk has to come back for it.
        openat(&at, c"z", OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RWXU).expect("makes");
        at = openat(&at, c"ddddddddd", flags, Mode::empty()).expect("opens");
    }
    let walked = walk(&[dir.path()], &SelectSpec::default());
    assert_eq!(walked.problems.kept(), []);
    assert_eq!(within(dir.path(), &walked).len(), 2 * LEVELS);
    assert!(walked.paths.iter().any(|path| path.len() > 9 * LEVELS), "deeper than a path may be long");
    assert!(walked.open_max <= OPEN_MAX + 1, "{}", walked.open_max);
    // The standard library would hold all of it open.
    let removed = std::process::Command::new("rm").arg("-rf").arg(dir.path()).status();
    assert!(removed.is_ok_and(|status| status.success()));
}

#[test]
fn a_directory_that_is_replaced_while_it_is_walked_is_an_error() {
    let dir = tempfile::tempdir().expect("temp dir");
    let levels = OPEN_MAX + 10;
    let deep = (0..levels).fold(dir.path().join("top"), |path, _| path.join("d"));
    std::fs::create_dir_all(&deep).expect("makes");
    put(dir.path(), "top/d/d/z", b"");
    let roots = Roots::parse(&[dir.path()], Path::new("/")).expect("roots");
    let select = Select::new(&SelectSpec::default()).expect("patterns");
    let (notes, stop) = (Notes::default(), Stop::default());
    let mut walker = Walker::new(&roots, &select, Sqlite::Auto, (&notes, &stop));
    let end = repo::key_of_path(deep.as_os_str().as_bytes()).expect("is absolute");
    while walker.next().is_some() && walker.key() != end {}
    std::fs::rename(dir.path().join("top/d"), dir.path().join("moved")).expect("moves");
    put(dir.path(), "top/d/d/z", b"another");
    let mut rest = Vec::new();
    while walker.next().is_some() {
        rest.push(walker.key().to_vec());
    }
    let problems = notes.take();
    assert!(rest.is_empty() && problems.errors() == 1, "{rest:?} {problems:?}");
    assert!(problems.kept()[0].what.contains("replaced"));
}

#[test]
fn patterns_ignore_files_caches_and_sizes_leave_out() {
    let dir = tempfile::tempdir().expect("temp dir");
    let at = dir.path();
    for name in
        ["keep.c", "a.o", "sub/b.o", "sub/keep", "many/1", "ign/x.tmp", "ign/y", "ign/deep/z.tmp", "ign/deep/k.tmp"]
    {
        put(at, name, b"x");
    }
    put(at, "ign/.backstayignore", b"*.tmp\n[z-a]\n");
    put(at, "ign/deep/.backstayignore", b"!k.tmp\n");
    put(at, "cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n# more");
    put(at, "cache/junk/1", b"x");
    put(at, "cache/other", b"x");
    put(at, "nocache/CACHEDIR.TAG", b"Signature: no");
    put(at, "nocache/data", b"x");
    put(at, "large", &[0; 2000]);
    let many = at.join("many");
    let spec = SelectSpec {
        caches: Caches::LeaveOut,
        size_bytes_max: Some(1999),
        ..patterns(&["*.o", many.to_str().expect("is text")])
    };
    let walked = walk(&[at], &spec);
    let expect = [
        "cache/",
        "cache/CACHEDIR.TAG",
        "ign/",
        "ign/.backstayignore",
        "ign/deep/",
        "ign/deep/.backstayignore",
        "ign/deep/k.tmp",
        "ign/y",
        "keep.c",
        "nocache/",
        "nocache/CACHEDIR.TAG",
        "nocache/data",
        "sub/",
        "sub/keep",
    ];
    assert_eq!(within(at, &walked), expect);
    let excluded = Excluded { by_pattern: 3, by_ignore_file: 2, in_caches: 2, too_large: 1, ..Excluded::default() };
    assert_eq!(walked.passed.excluded, excluded);
    assert_eq!((walked.problems.warnings(), walked.problems.errors()), (1, 0));
    assert!(walked.problems.kept()[0].what.contains("line 2"), "{:?}", walked.problems);
}

#[test]
fn what_was_asked_for_is_taken_though_a_pattern_covers_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let at = dir.path();
    for name in ["p/node_modules/a", "p/node_modules/keep/b", "p/src", "q/tmp/c"] {
        put(at, name, b"x");
    }
    let (p, keep, tmp) = (at.join("p"), at.join("p/node_modules/keep"), at.join("q/tmp"));
    let walked = walk(&[&p, &keep, &tmp], &patterns(&["node_modules", "tmp"]));
    let expect =
        ["p/", "p/node_modules/", "p/node_modules/keep/", "p/node_modules/keep/b", "p/src", "q/", "q/tmp/", "q/tmp/c"];
    assert_eq!(within(at, &walked), expect);
    assert_eq!(walked.problems.kept(), []);
    // Unless its own whole path is left out, and then it is said.
    let walked = walk(&[&p, &tmp], &patterns(&[tmp.to_str().expect("is text")]));
    assert!(!walked.paths.iter().any(|path| path.contains("tmp/c")));
    assert!(walked.problems.kept()[0].what.contains("asked for"), "{:?}", walked.problems);
}

#[test]
fn roots_are_merged_and_their_ancestors_come_once() {
    let dir = tempfile::tempdir().expect("temp dir");
    let at = dir.path();
    for name in ["x/1", "x/sub/2", "y/3", "not/asked", "z"] {
        put(at, name, b"");
    }
    let roots = [at.join("y/3"), at.join("x/sub"), at.join("x"), at.join("z")];
    let walked = walk(&roots.each_ref().map(|path| path.as_path()), &SelectSpec::default());
    assert_eq!(within(at, &walked), ["x/", "x/1", "x/sub/", "x/sub/2", "y/", "y/3", "z"]);
    assert_eq!(walked.paths.first().map(String::as_str), Some("/"));
    assert_eq!(walked.paths.len(), 7 + at.components().count());
}

#[test]
fn links_are_followed_on_the_way_to_a_root_and_nowhere_else() {
    let dir = tempfile::tempdir().expect("temp dir");
    let at = dir.path();
    put(at, "real/in/1", b"");
    symlink("real", at.join("link")).expect("links");
    // A root that is a link is the link; with a slash, what it leads to.
    assert_eq!(within(at, &walk(&[&at.join("link")], &SelectSpec::default())), ["link"]);
    assert_eq!(within(at, &walk(&[&at.join("link/")], &SelectSpec::default())), ["link/", "link/in/", "link/in/1"]);
    // On the way to a root, a link is a directory.
    let below = at.join("link/in");
    assert_eq!(within(at, &walk(&[&below], &SelectSpec::default())), ["link/", "link/in/", "link/in/1"]);
    // Within a root it is a link, so that what lies behind cannot be reached by that name: an error, not silence.
    let walked = walk(&[at, &below], &SelectSpec::default());
    assert_eq!(within(at, &walked), ["link", "real/", "real/in/", "real/in/1"]);
    assert_eq!(walked.problems.errors(), 1);
}

#[test]
fn a_missing_root_is_an_error_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().expect("temp dir");
    put(dir.path(), "a/1", b"");
    put(dir.path(), "file", b"");
    let at = dir.path();
    for missing in ["gone", "gone/deeper", "a/gone", "file/x"] {
        let walked = walk(&[&at.join("a"), &at.join(missing)], &SelectSpec::default());
        assert_eq!(walked.problems.errors(), 1, "{missing}: {:?}", walked.problems);
        assert!(within(at, &walked).contains(&"a/1".to_owned()));
    }
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_goes_on() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("temp dir");
    put(dir.path(), "shut/1", b"");
    put(dir.path(), "z", b"");
    let mode = |mode| std::fs::set_permissions(dir.path().join("shut"), PermissionsExt::from_mode(mode)).expect("sets");
    mode(0);
    let walked = walk(&[dir.path()], &SelectSpec::default());
    mode(0o700);
    assert_eq!(within(dir.path(), &walked), ["shut/", "z"]);
    assert_eq!(walked.problems.kept()[0].severity, Severity::Error);
}

#[test]
fn the_kernels_state_and_other_file_systems_are_kept_as_empty_directories() {
    let proc_only = ["/*", "!/proc"];
    let walked = walk(&[Path::new("/")], &patterns(&proc_only));
    assert_eq!(walked.paths, ["/", "/proc/"]);
    assert_eq!(walked.passed.excluded.kernel_filesystems, 1);
    let one = SelectSpec { filesystems: Filesystems::OfTheRoots, ..patterns(&proc_only) };
    let walked = walk(&[Path::new("/")], &one);
    assert_eq!(walked.paths, ["/", "/proc/"]);
    assert_eq!(walked.passed.excluded.other_filesystems, 1);
    // What is asked for by name is taken wherever it is mounted.
    let hostname = Path::new("/proc/sys/kernel/hostname");
    let walked = walk(&[Path::new("/"), hostname], &one);
    assert_eq!(walked.paths, ["/", "/proc/", "/proc/sys/", "/proc/sys/kernel/", "/proc/sys/kernel/hostname"]);
}

#[test]
fn sockets_are_counted_and_journals_of_databases_are_covered() {
    let dir = tempfile::tempdir().expect("temp dir");
    let at = dir.path();
    let socket = std::os::unix::net::UnixListener::bind(at.join("socket")).expect("binds");
    put(at, "db", sqlite::MAGIC);
    for name in ["db-wal", "db-shm", "db-journal", "db-else", "text", "text-wal", "alone-wal"] {
        put(at, name, b"not a database");
    }
    let walked = walk(&[at], &SelectSpec::default());
    assert_eq!(within(at, &walked), ["alone-wal", "db", "db-else", "text", "text-wal"]);
    assert_eq!((walked.passed.sockets, walked.passed.covered), (1, 3));
    // A database that is left out covers nothing.
    let walked = walk(&[at], &patterns(&["/**/db"]));
    assert_eq!(walked.passed.covered, 0);
    drop(socket);
}

#[test]
fn the_parent_of_a_key_is_opened_without_following_links_within_a_root() {
    let dir = tempfile::tempdir().expect("temp dir");
    put(dir.path(), "real/in/1", b"");
    symlink("real", dir.path().join("link")).expect("links");
    let key = |name: &str| repo::key_of_path(dir.path().join(name).as_os_str().as_bytes()).expect("is absolute");
    let roots = |root: &str| Roots::parse(&[dir.path().join(root)], Path::new("/")).expect("roots");
    let (parent, name) = open_parent(&roots(""), &key("real/in/1")).expect("opens");
    assert_eq!(name.as_c_str(), c"1");
    let in_real = std::fs::metadata(dir.path().join("real/in")).expect("is there");
    assert_eq!(file_id(&fstat(parent).expect("is open")).1, std::os::unix::fs::MetadataExt::ino(&in_real));
    assert!(open_parent(&roots(""), &key("link/in/1")).is_err());
    open_parent(&roots("link/in"), &key("link/in/1")).expect("opens");
    open_parent(&roots("link/"), &key("link/in/1")).expect("opens");
}
