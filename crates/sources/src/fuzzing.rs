//! Entry points for fuzzing: hostile snapshots are restored and dumped, hostile files are captured, hostile patterns read.
//!
//! What it is for: one function per target, for the program in `fuzz/` and for the test that replays its corpora.
//! What it may not know: libFuzzer. It is compiled for tests and for fuzzing only.
//! Where data comes from and goes: bytes from a fuzzer or a corpus; whether they made sense goes back.

mod hostile;

use crate::files::apply::{
    AfterCheck, Extras, Owner, Rebase, RestoreMode, RestorePlan, Special, preview, restore as restore_files,
};
use crate::files::dump::{dump, dump_tar};
use crate::files::{FilesPlan, Pattern, Roots, Select, SelectSpec, capture as capture_files, parse_ignore_file};
use crate::sqlite::Sqlite;
use hostile::{Bytes, Place, Site};
use repo::{Node, Outcome};
use std::path::Path;

/// Takes hostile bytes and says whether they made sense. Panics where something breaks its word.
pub type Target = fn(&[u8]) -> bool;

/// All of them, by the names that their corpora have.
pub const TARGETS: &[(&str, Target)] = &[("patterns", patterns), ("capture", capture), ("restore", restore)];

/// The most bytes that a restore of an input may leave on the disk: chunks are smaller than the input.
const DISK_BYTES_MAX: u64 = 16 << 20;

/// Patterns of ignore files, of pattern files and of command lines. The last line is a path that they are asked about.
fn patterns(data: &[u8]) -> bool {
    let (rules, wrong) = parse_ignore_file(data);
    let path = data.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let lines = String::from_utf8_lossy(data);
    let pattern = |line: &str| Pattern { text: line.to_owned(), origin: "fuzz".into() };
    let place = Place::new();
    let file = place.root().join("patterns");
    std::fs::write(&file, data).expect("writes");
    let mut sound = wrong.is_empty();
    for spec in [
        SelectSpec { patterns: lines.lines().map(pattern).collect(), ..SelectSpec::default() },
        SelectSpec { pattern_files: vec![file], ..SelectSpec::default() },
    ] {
        match Select::new(&spec) {
            Ok(select) => {
                select.judge(path, true, std::iter::once((0, &rules)));
                select.leaves_out_root(path, false);
            }
            Err(_) => sound = false,
        }
    }
    sound
}

/// A file of hostile bytes under the name of a database and under another: what is stored comes back as it was, or is named.
fn capture(data: &[u8]) -> bool {
    let place = Place::new();
    let (from, to) = (place.root().join("from"), place.target());
    std::fs::create_dir(&from).expect("makes");
    std::fs::write(from.join("data"), data).expect("writes");
    std::fs::write(from.join(".backstayignore"), data).expect("writes");
    let site = Site::new();
    let plan = FilesPlan {
        roots: Roots::parse(std::slice::from_ref(&from), &from).expect("is a path"),
        select: Select::new(&SelectSpec::default()).expect("no patterns"),
        sqlite: Sqlite::Auto,
        cache: None,
        scratch: place.root().join("scratch"),
        moving: None,
        world: site.world().clone(),
    };
    let mut into = site.begin();
    let captured = capture_files(&plan, &mut into, &|_| {}).expect("what is wrong with a file stops nobody");
    let snapshot = into.commit(Outcome::default()).expect("commits").snapshot;
    let plan = RestorePlan {
        within: repo::key_of_path(from.as_os_str().as_encoded_bytes()).expect("is absolute"),
        rebase: Rebase::StripPrefix,
        ..RestorePlan::new(&to)
    };
    let report = site.with_reader(&snapshot, |reader| restore_files(&plan, reader, &|_| {})).expect("opens");
    assert_eq!(report.expect("restores").problems, []);
    if let Ok(restored) = std::fs::read(to.join("data"))
        && !data.starts_with(crate::sqlite::MAGIC)
    {
        assert_eq!(restored, data);
    }
    captured.report.problems.kept().is_empty()
}

/// A hostile snapshot, or two one after the other, into one target: nothing beside the target changes.
fn restore(data: &[u8]) -> bool {
    let mut bytes = Bytes(data);
    let [rounds, options, within] = [bytes.u8() % 2 + 1, bytes.u8(), bytes.u8()];
    let place = Place::new();
    let before = place.beside();
    let site = Site::new();
    let mut sound = true;
    for round in 0..rounds {
        let made = hostile::things(&mut bytes, rounds - round);
        let keys: Vec<Vec<u8>> = made.iter().map(|thing| thing.entry.key.clone()).collect();
        let Ok(snapshot) = site.commit(made) else { return false };
        let pick = |at: u8| keys.get(usize::from(at % 8)).filter(|_| at >= 128).cloned().unwrap_or_default();
        let mode = match (round, options & 3) {
            (0, 0 | 1) => RestoreMode::NewTarget,
            (_, 0 | 2) => RestoreMode::Delta(Extras::Keep),
            _ => RestoreMode::Delta(Extras::Delete),
        };
        let plan = RestorePlan {
            within: pick(within),
            rebase: if options & 4 == 0 { Rebase::KeepAbsolute } else { Rebase::StripPrefix },
            mode,
            special: if options & 8 == 0 { Special::Auto } else { Special::Never },
            owner: if options & 16 == 0 { Owner::Skip } else { Owner::usual() },
            check: if options & 32 == 0 { AfterCheck::None } else { AfterCheck::ReadBack },
            ..RestorePlan::new(place.target())
        };
        let restored = site.with_reader(&snapshot, |reader| {
            preview(&plan, reader).ok();
            let restored = restore_files(&plan, reader, &|_| {});
            for located in reader.entries(b"").flatten() {
                if matches!(located.entry.node, Node::File(_) | Node::HardLink { .. }) {
                    dump(reader, &located.entry.key, &mut Bounded(1 << 20)).ok();
                }
            }
            dump_tar(reader, &plan.within, &mut Bounded(1 << 20)).ok();
            restored
        });
        sound &= matches!(restored, Ok(Ok(report)) if report.problem_count == 0);
        assert_eq!(place.beside(), before, "something beside the target changed");
        assert!(used(&place.target()) <= DISK_BYTES_MAX, "a small snapshot fills the disk");
    }
    sound
}

/// Bytes on the disk at and under `path`.
fn used(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    let below = std::fs::read_dir(path).into_iter().filter(|_| meta.is_dir()).flatten().flatten();
    meta.blocks() * 512 + below.map(|entry| used(&entry.path())).sum::<u64>()
}

/// Takes so many bytes and then fails, as a full disk does.
struct Bounded(usize);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| std::io::Error::other("enough"))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Seeds for every target, each with the name of its target.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let place = Place::new();
    let path = place.root().join("seed.db");
    let database = rusqlite::Connection::open(&path).expect("opens");
    database.execute_batch("PRAGMA page_size=512; CREATE TABLE t(a); INSERT INTO t VALUES (1), ('x');").expect("runs");
    database.close().expect("closes");
    let mut seeds = vec![
        ("patterns", b"# rules\n*.log\n!keep.log\n/srv/**/tmp/\n[a-c]?x\nsrv/a/tmp".to_vec()),
        ("patterns", b"a//b\n/a/./c\n\\#x\n \n{a,b}\na".to_vec()),
        ("capture", std::fs::read(path).expect("reads")),
        ("capture", b"*.log\n!data\n".to_vec()),
        ("capture", vec![0; 9000]),
    ];
    seeds.extend(hostile::seeds().into_iter().map(|seed| ("restore", seed)));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_corpus_file_is_handled() {
        for (name, target) in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
            let files = std::fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display()));
            let inputs = files.map(|file| std::fs::read(file.expect("lists").path()).expect("reads"));
            let understood = inputs.filter(|input| target(input)).count();
            assert!(understood > 0, "nothing in the corpus of {name} makes sense");
        }
    }

    #[test]
    fn every_target_has_a_seed_that_makes_sense() {
        let seeds = seeds();
        for (name, target) in TARGETS {
            let mut of_target = seeds.iter().filter(|(of, _)| of == name);
            assert!(of_target.any(|(_, seed)| target(seed)), "no seed of {name} makes sense");
        }
    }
}
