//! What is in a data directory: which files are taken, which have pages, and whether those are as they were written.
//!
//! What it is for: a server must not find what it makes anew or what belongs to a running one, and a page that is damaged is to
//! be noticed now. It may not know how files are read: bytes come to it, and it asks for a page again where it must.

use super::Lsn;
use super::pages::{self, PAGE_BYTES, Page};
use crate::files::{Inspector, Moving};
use repo::path_of_key;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

/// Pages in a file of a relation, which has 1 GiB at most (`RELSEG_SIZE`).
const BLOCKS_PER_FILE: u32 = 131_072;
/// How often a page is read again whose checksum is wrong, because it may be written right now.
const PAGE_TRIES_MAX: u32 = 5;
/// How many bad pages of one file are named.
const BAD_PAGES_NAMED_MAX: usize = 5;

/// What is known about the files of a cluster.
pub(super) struct Layout {
    /// Path key of the data directory.
    data: Vec<u8>,
    /// Path keys of the directories of tablespaces.
    spaces: Vec<Vec<u8>>,
    checksums: bool,
    start: Lsn,
    unlogged: Unlogged,
    /// The directory that was asked about last, and which of its relations have an init fork.
    inits: Mutex<(Vec<u8>, HashSet<Vec<u8>>)>,
}

/// What is done about relations that replay empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unlogged {
    /// They are looked for on the disk, and left out.
    LeaveOut,
    /// They do not come.
    Absent,
}

/// The parts of the name of a relation's file.
#[derive(Debug, PartialEq, Eq)]
struct Relation<'k> {
    node: &'k [u8],
    fork: Option<&'k [u8]>,
    segment: u32,
}

impl<'k> Relation<'k> {
    fn parse(name: &'k [u8]) -> Option<Relation<'k>> {
        let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let (stem, segment) = match name.iter().position(|byte| *byte == b'.') {
            Some(dot) if digits(&name[dot + 1..]) => {
                (&name[..dot], std::str::from_utf8(&name[dot + 1..]).ok()?.parse().ok()?)
            }
            Some(_) => return None,
            None => (name, 0),
        };
        let (node, fork) = match stem.iter().position(|byte| *byte == b'_') {
            Some(at) => (&stem[..at], Some(&stem[at + 1..])),
            None => (stem, None),
        };
        let known = fork.is_none_or(|fork| matches!(fork, b"fsm" | b"vm" | b"init"));
        (digits(node) && known).then_some(Relation { node, fork, segment })
    }
}

/// A relation that only the session sees that made it: `t3_16384`.
fn is_temporary(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"t") else { return false };
    let Some(at) = rest.iter().position(|byte| *byte == b'_') else { return false };
    at > 0 && rest[..at].iter().all(u8::is_ascii_digit) && Relation::parse(&rest[at + 1..]).is_some()
}

impl Layout {
    /// Of the data directory and the tablespaces with these path keys. Pages with checksums are looked at, if they were not
    /// changed after `start`.
    pub fn of(data: Vec<u8>, spaces: Vec<Vec<u8>>, (checksums, start): (bool, Lsn), unlogged: Unlogged) -> Layout {
        Layout { data, spaces, checksums, start, unlogged, inits: Mutex::default() }
    }

    /// What looks at the pages of the file at this path key, if it has pages.
    pub fn checker(&self, key: &[u8]) -> Option<Checker> {
        let (_, name) = self.relation(key)?;
        let relation = Relation::parse(name)?;
        Some(Checker {
            checksums: self.checksums,
            start: self.start,
            block: relation.segment.wrapping_mul(BLOCKS_PER_FILE),
            at: 0,
            rest: Vec::new(),
            bad: Vec::new(),
            bad_count: 0,
            unsure: None,
        })
    }

    /// The directory and the name of something that may belong to a relation.
    fn relation<'k>(&self, key: &'k [u8]) -> Option<(&'k [u8], &'k [u8])> {
        let at = key.iter().rposition(|byte| *byte == 0)?;
        let (dir, name) = (&key[..at], &key[at + 1..]);
        let under = |above: &[u8], dir: &[u8]| dir.strip_prefix(above)?.strip_prefix(&[0]).map(<[u8]>::to_vec);
        let in_data = under(&self.data, dir).is_some_and(|rest| rest == b"global" || rest.starts_with(b"base\0"));
        let in_space = self.spaces.iter().any(|space| under(space, dir).is_some());
        (in_data || in_space).then_some((dir, name))
    }

    /// Whether a relation is one that is emptied by replay.
    fn is_unlogged(&self, dir: &[u8], node: &[u8]) -> bool {
        if self.unlogged == Unlogged::Absent {
            return false;
        }
        let mut known = self.inits.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != dir {
            let path = path_of_key(dir);
            let names = std::fs::read_dir(OsStr::from_bytes(&path)).into_iter().flatten().flatten();
            let inits = names.filter_map(|entry| {
                let name = entry.file_name();
                Some(name.as_bytes().strip_suffix(b"_init")?.to_vec())
            });
            *known = (dir.to_vec(), inits.collect());
        }
        known.1.contains(node)
    }
}

impl Moving for Layout {
    fn takes(&self, key: &[u8]) -> bool {
        let name = key.rsplit(|byte| *byte == 0).next().unwrap_or_default();
        if name.starts_with(b"pgsql_tmp") || name.starts_with(b"pg_internal.init") {
            return false;
        }
        if let Some((dir, name)) = self.relation(key) {
            if is_temporary(name) {
                return false;
            }
            if let Some(Relation { node, fork, .. }) = Relation::parse(name) {
                return fork == Some(b"init") || !self.is_unlogged(dir, node);
            }
        }
        let Some(rest) = key.strip_prefix(self.data.as_slice()).and_then(|rest| rest.strip_prefix(&[0])) else {
            return true;
        };
        // PostgreSQL source, basebackup.c: excludeFiles, excludeDirContents.
        const FILES: [&[u8]; 14] = [
            b"postmaster.pid",
            b"postmaster.opts",
            b"postgresql.auto.conf.tmp",
            b"current_logfiles.tmp",
            b"backup_label",
            b"backup_label.old",
            b"tablespace_map",
            b"tablespace_map.old",
            b"backup_manifest",
            b"recovery.signal",
            b"standby.signal",
            b"global\0pg_control",
            // What is left of a server that has not been told yet where its log comes from: made anew by a restore.
            b"pg_wal",
            b"recovery.conf",
        ];
        const EMPTIED: [&[u8]; 8] = [
            b"pg_stat_tmp\0",
            b"pg_replslot\0",
            b"pg_dynshmem\0",
            b"pg_notify\0",
            b"pg_serial\0",
            b"pg_snapshots\0",
            b"pg_subtrans\0",
            b"pg_tblspc\0",
        ];
        !FILES.contains(&rest) && !EMPTIED.iter().any(|dir| rest.starts_with(dir))
    }

    fn inspector(&self, key: &[u8]) -> Option<Box<dyn Inspector + '_>> {
        Some(Box::new(self.checker(key)?))
    }
}

/// A page that was asked for again.
pub(super) enum Again {
    /// As it is now.
    Page(Box<[u8; PAGE_BYTES]>),
    /// It is not there any more.
    Gone,
    /// It cannot be had, for this reason.
    Unknown(String),
}

/// Compares the checksum of each page.
pub(super) struct Checker {
    checksums: bool,
    start: Lsn,
    /// Number of the next page in its relation.
    block: u32,
    /// Where it is in the file.
    at: u64,
    /// The beginning of a page whose end has not come yet.
    rest: Vec<u8>,
    bad: Vec<u32>,
    bad_count: u64,
    /// Why a page could not be read again.
    unsure: Option<String>,
}

impl Checker {
    /// The bytes that come next. `again` gives the page at a position of the file once more.
    pub fn feed(&mut self, mut data: &[u8], again: &mut dyn FnMut(u64) -> Again) {
        if !self.checksums {
            return;
        }
        while !data.is_empty() {
            if self.rest.is_empty()
                && let Some((page, behind)) = data.split_first_chunk::<PAGE_BYTES>()
            {
                self.page(page, again);
                data = behind;
                continue;
            }
            let take = (PAGE_BYTES - self.rest.len()).min(data.len());
            self.rest.extend_from_slice(&data[..take]);
            data = &data[take..];
            if let Some(page) = self.rest.first_chunk::<PAGE_BYTES>().copied() {
                self.rest.clear();
                self.page(&page, again);
            }
        }
    }

    fn page(&mut self, page: &[u8; PAGE_BYTES], again: &mut dyn FnMut(u64) -> Again) {
        if self.is_bad(page) && self.stays_bad(again) {
            self.bad_count += 1;
            if self.bad.len() < BAD_PAGES_NAMED_MAX {
                self.bad.push(self.block);
            }
        }
        self.block = self.block.wrapping_add(1);
        self.at += PAGE_BYTES as u64;
    }

    /// A page that was changed after the start is replaced as a whole by replay, whatever is in it.
    fn is_bad(&self, page: &[u8; PAGE_BYTES]) -> bool {
        matches!(pages::check(page, self.block), Page::Bad { lsn } if lsn < self.start.0)
    }

    fn stays_bad(&mut self, again: &mut dyn FnMut(u64) -> Again) -> bool {
        for _ in 0..PAGE_TRIES_MAX {
            std::thread::yield_now();
            match again(self.at) {
                Again::Page(page) if self.is_bad(&page) => {}
                // It was torn.
                Again::Page(_) | Again::Gone => return false,
                Again::Unknown(why) => {
                    self.unsure = Some(why);
                    return true;
                }
            }
        }
        true
    }

    /// What was wrong, as a sentence without its subject.
    pub fn verdict(self) -> Option<String> {
        let blocks: Vec<String> = self.bad.iter().map(u32::to_string).collect();
        let more = match self.bad_count as usize - self.bad.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let then = match self.unsure {
            None => "the database is damaged there".to_owned(),
            Some(why) => format!("it is damaged, or was being written: it could not be read again ({why})"),
        };
        let blocks = blocks.join(", ");
        let what = format!("has pages with wrong checksums and is stored as it is: block {blocks}{more}; {then}");
        (self.bad_count > 0).then_some(what)
    }
}

impl Inspector for Checker {
    fn bytes(&mut self, data: &[u8], file: &File) {
        let mut page = Box::new([0; PAGE_BYTES]);
        self.feed(data, &mut |at| match file.read_exact_at(&mut page[..], at) {
            Ok(()) => Again::Page(page.clone()),
            Err(_) => Again::Gone,
        });
    }

    fn verdict(self: Box<Self>) -> Option<String> {
        Checker::verdict(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repo::key_of_path;

    fn layout(data: &str) -> Layout {
        let key = |path: &str| key_of_path(path.as_bytes()).expect("a path");
        Layout {
            data: key(data),
            spaces: vec![key("/ts/PG_15_202209061")],
            checksums: true,
            start: Lsn(100),
            unlogged: Unlogged::LeaveOut,
            inits: Mutex::default(),
        }
    }

    #[test]
    fn what_must_not_be_there_when_a_server_starts_is_left_out() {
        let dir = tempfile::tempdir().expect("makes");
        let data = dir.path().to_str().expect("text");
        let base = dir.path().join("base/5");
        std::fs::create_dir_all(&base).expect("makes");
        for name in ["70_init", "70", "70_fsm", "70.1", "71"] {
            std::fs::write(base.join(name), b"").expect("writes");
        }
        let layout = layout(data);
        let takes = |path: &str| layout.takes(&key_of_path(format!("{data}/{path}").as_bytes()).expect("a path"));
        for path in [
            "postmaster.pid",
            "pg_wal",
            "backup_label",
            "recovery.signal",
            "standby.signal",
            "global/pg_control",
            "pg_replslot/a",
            "pg_notify/0000",
            "pg_stat_tmp/x",
            "pg_tblspc/16400",
            "base/pgsql_tmp",
            "base/5/pgsql_tmp1.0",
            "base/5/pg_internal.init",
            "global/pg_internal.init.77",
            "base/5/t3_16384",
            "base/5/t3_16384_fsm.1",
            "base/5/70",
            "base/5/70_fsm",
            "base/5/70.1",
            "tablespace_map",
            "postgresql.auto.conf.tmp",
        ] {
            assert!(!takes(path), "{path}");
        }
        for path in [
            "PG_VERSION",
            "base/5/70_init",
            "base/5/71",
            "base/5/71_vm",
            "base/5/71.2",
            "pg_replslot",
            "pg_notify",
            "pg_tblspc",
            "global/1262",
            "global/pg_filenode.map",
            "pg_xact/0000",
            "postgresql.conf",
            "pg_twophase/1",
            "base/5/table",
            "pg_logical/mappings",
            "base/5/PG_VERSION",
        ] {
            assert!(takes(path), "{path}");
        }
        assert!(!layout.takes(b"ts\0PG_15_202209061\x005\0t1_9"));
        assert!(layout.takes(b"etc\0postgresql\x0015\0main\0pg_hba.conf"));
    }

    #[test]
    fn only_files_of_relations_are_cut_and_checked_as_pages() {
        let layout = layout("/d");
        for (key, expect) in [
            (&b"d\0base\x005\x001249"[..], true),
            (b"d\0base\x005\x001249_fsm", true),
            (b"d\0global\x001260.3", true),
            (b"d\0global\0pg_filenode.map", false),
            (b"d\0base\x005\0PG_VERSION", false),
            (b"d\0pg_xact\x000000", false),
            (b"ts\0PG_15_202209061\x005\x0016400", true),
            (b"ts\0PG_16_x\x005\x0016400", false),
        ] {
            assert_eq!(layout.inspector(key).is_some(), expect, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_page_with_a_wrong_checksum_is_named_by_its_block_however_it_is_cut() {
        let mut page = [7u8; PAGE_BYTES];
        page[..8].copy_from_slice(&[0, 0, 0, 0, 9, 0, 0, 0]);
        let file = tempfile::NamedTempFile::new().expect("makes");
        std::fs::write(file.path(), [[0; PAGE_BYTES].as_slice(), &page, &[0; PAGE_BYTES]].concat()).expect("writes");
        let opened = File::open(file.path()).expect("opens");
        let bytes = std::fs::read(file.path()).expect("reads");
        for step in [1000, PAGE_BYTES, 3 * PAGE_BYTES] {
            let layout = layout("/d");
            let mut checker = layout.inspector(b"d\0base\x005\x001249.2").expect("a relation");
            bytes.chunks(step).for_each(|part| checker.bytes(part, &opened));
            let verdict = checker.verdict().expect("bad");
            assert!(verdict.contains("block 262145;"), "{verdict}");
        }
        // Changed after the start: replay replaces it.
        page[..8].copy_from_slice(&[0, 0, 0, 0, 200, 0, 0, 0]);
        let layout = layout("/d");
        let mut checker = layout.inspector(b"d\0base\x005\x001249").expect("a relation");
        checker.bytes(&page, &opened);
        assert_eq!(checker.verdict(), None);
    }
}
