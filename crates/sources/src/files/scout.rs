//! Beside the walk: decides for everything found whether it is as in the previous run, another name of something, or to be
//! read.
//!
//! It stores nothing and reads no content, so that it can run far ahead of those who do.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use repo::{Cut, Entry, Node};
use rustix::fs::{FileType, Stat, major, minor, readlinkat};
use rustix::io::Errno;

use super::cache::{self, Head, Kind, Records};
use super::content::{Doubt, Ground, Memory, Outcome, Wanted, Was, wal_stamp};
use super::meta::{self, FileId, Stamp, Xattrs, XattrsOf, file_id};
use super::walk::{Found, Open, Passed, Walker};

/// When the repository lacks chunks of so many files that looked unchanged, all are read.
const LOST_MAX: u64 = 256;

/// What to do next, in the order of path keys.
pub(crate) enum Step {
    /// As in this record of the previous run.
    Known(u64),
    /// Not a file: nothing to read.
    Plain(Box<Plain>),
    /// Another name of an earlier file.
    Link(Box<Link>),
    /// A file to read.
    File(Box<Wanted>),
    /// A file that was read.
    Read(Box<Read>),
}

pub(crate) struct Plain {
    pub(crate) entry: Entry,
    pub(crate) memory: Memory,
}

pub(crate) struct Link {
    pub(crate) entry: Entry,
    pub(crate) id: FileId,
}

pub(crate) struct Read {
    /// Which file was to be read, when it has several names.
    pub(crate) linked: Option<FileId>,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) outcome: Outcome,
}

pub(crate) struct Scout<'a> {
    walker: Walker<'a>,
    ground: &'a Ground<'a>,
    old: Option<Records>,
    rehash_every: u32,
    /// Of how many unchanged files the repository lacked chunks.
    lost: &'a AtomicU64,
    /// Files with several names, of which some are still to come.
    links: HashMap<FileId, Names>,
}

struct Names {
    first: Vec<u8>,
    to_come: u64,
}

impl<'a> Scout<'a> {
    /// `old` are the records of the previous run, if there was one.
    pub(crate) fn new(
        walker: Walker<'a>,
        ground: &'a Ground<'a>,
        (mut old, rehash_every): (Option<Records>, u32),
        lost: &'a AtomicU64,
    ) -> Self {
        if let Some(old) = &mut old {
            old.advance();
        }
        Scout { walker, ground, old, rehash_every, lost, links: HashMap::new() }
    }

    /// What the walk passed over so far.
    pub(crate) fn passed(&self) -> Passed {
        self.walker.passed
    }

    /// The next step; `None` at the end, and when asked to stop.
    pub(crate) fn next(&mut self) -> Option<Step> {
        loop {
            let step = match self.walker.next()? {
                Found::Dir { stat, open } => Some(self.dir(&stat, &open)),
                Found::Leaf { stat } if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    self.file(stat)
                }
                Found::Leaf { stat } => self.special(&stat),
            };
            if step.is_some() {
                return step;
            }
        }
    }

    fn dir(&mut self, stat: &Stat, open: &Open) -> Step {
        if let Some(known) = self.known(stat, Kind::Dir) {
            return known;
        }
        let xattrs = match open {
            Open::Read(dir) => self.xattrs(XattrsOf::Open(dir.as_fd())),
            Open::Path(dir) => self.xattrs(XattrsOf::Path(dir.as_fd())),
            Open::No => Xattrs::new(),
        };
        self.plain(Node::Dir, stat, xattrs)
    }

    fn special(&mut self, stat: &Stat) -> Option<Step> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice,
            _ => Kind::BlockDevice,
        };
        if let Some(known) = self.known(stat, kind) {
            return Some(known);
        }
        let (dir, name) = self.walker.place()?;
        let device = (major(stat.st_rdev), minor(stat.st_rdev));
        let node = match kind {
            Kind::Symlink => match readlinkat(&dir, name, Vec::new()) {
                Ok(target) => Node::Symlink { target: target.into_bytes() },
                Err(Errno::NOENT) => {
                    self.ground.vanished.fetch_add(1, Ordering::Relaxed);
                    self.ground.notes.moved(self.walker.key(), "vanished before it was read");
                    return None;
                }
                Err(e) => {
                    self.ground.notes.fail(self.walker.key(), format!("cannot be read: {e}"));
                    return None;
                }
            },
            Kind::Fifo => Node::Fifo,
            Kind::CharDevice => Node::CharDevice { major: device.0, minor: device.1 },
            _ => Node::BlockDevice { major: device.0, minor: device.1 },
        };
        let xattrs = self.xattrs(XattrsOf::Name(dir.as_fd(), name));
        Some(self.plain(node, stat, xattrs))
    }

    fn file(&mut self, stat: Stat) -> Option<Step> {
        if stat.st_nlink > 1 {
            let id = file_id(&stat);
            if let Some(names) = self.links.get_mut(&id) {
                let to = names.first.clone();
                names.to_come = names.to_come.saturating_sub(1);
                if names.to_come == 0 {
                    self.links.remove(&id);
                }
                // Its attributes are those of the file, which came before.
                let entry = meta::entry(self.walker.key().to_vec(), Node::HardLink { to }, &stat, Xattrs::new());
                return Some(Step::Link(Box::new(Link { entry, id })));
            }
            self.links.insert(id, Names { first: self.walker.key().to_vec(), to_come: links_of(&stat) - 1 });
        }
        let was = match self.recall(&stat, Kind::File) {
            Recalled::Same(number) => {
                if self.lost.load(Ordering::Relaxed) < LOST_MAX {
                    return Some(Step::Known(number));
                }
                Was::Same
            }
            Recalled::Doubted(record, why) => Was::Doubted { record, why },
            Recalled::Different => Was::Different,
            Recalled::Nothing => Was::Unknown,
        };
        let (dir, name) = self.walker.place()?;
        let (name, key) = (name.to_owned(), self.walker.key().to_vec());
        Some(Step::File(Box::new(Wanted { dir, name, key, stat, was })))
    }

    /// The step for something that has no content and is as in the previous run.
    fn known(&mut self, stat: &Stat, kind: Kind) -> Option<Step> {
        match self.recall(stat, kind) {
            Recalled::Same(number) => Some(Step::Known(number)),
            _ => None,
        }
    }

    /// What the previous run knows of what the walk just found.
    fn recall(&mut self, stat: &Stat, kind: Kind) -> Recalled {
        let Some(old) = &mut self.old else { return Recalled::Nothing };
        while old.head().is_some() && old.key() < self.walker.key() {
            old.advance();
        }
        let Some(head) = old.head().filter(|_| old.key() == self.walker.key()) else { return Recalled::Nothing };
        if head.kind != kind || head.memory.stamp != Stamp::of(stat) || !self.has_same_wal(&head) {
            return Recalled::Different;
        }
        let number = self.old.as_ref().map_or(0, Records::number);
        if head.memory.fresh {
            return Recalled::Doubted(number, Doubt::Fresh);
        }
        if kind == Kind::File && cache::is_due(self.walker.key(), head.age, self.rehash_every) {
            return Recalled::Doubted(number, Doubt::Due);
        }
        Recalled::Same(number)
    }

    /// Whether the journal of a database is as it was: what was committed last may be only there.
    fn has_same_wal(&self, head: &Head) -> bool {
        if !head.sqlite {
            return true;
        }
        self.walker.place().is_some_and(|(dir, name)| wal_stamp(&dir, name) == head.memory.wal)
    }

    fn plain(&self, node: Node, stat: &Stat, xattrs: Xattrs) -> Step {
        let stamp = Stamp::of(stat);
        let memory = Memory { stamp, wal: None, fresh: stamp.is_fresh(self.ground.world.clock.now()) };
        let entry = meta::entry(self.walker.key().to_vec(), node, stat, xattrs);
        Step::Plain(Box::new(Plain { entry, memory }))
    }

    fn xattrs(&self, of: XattrsOf<'_>) -> Xattrs {
        meta::xattrs(of).unwrap_or_else(|e| {
            let hint = if e == Errno::NOENT { " (is /proc mounted?)" } else { "" };
            let what = format!("is stored without its extended attributes: {e}{hint}");
            self.ground.notes.fail(self.walker.key(), what);
            Xattrs::new()
        })
    }
}

// The type of the field differs between architectures.
#[allow(clippy::useless_conversion)]
fn links_of(stat: &Stat) -> u64 {
    stat.st_nlink.into()
}

enum Recalled {
    Nothing,
    Different,
    Doubted(u64, Doubt),
    Same(u64),
}
