//! Entries in order become directories and windows of work.
//!
//! What it is for: it walks the snapshot once, makes directories on the way down, makes what holds no content at once
//! (`make`), and gathers files into windows. A directory is given its metadata with the window after which nothing more
//! comes into it.
//! What it may not know: how files are written (`write`), packs.
//! Where data comes from and goes: entries of a `SnapshotReader` in, [`Window`]s out.

use super::apply::Run;
use super::pick::Verdict;
use super::place::{self, DEPTH_MAX, Dir, Found, Inode};
use super::restored::{Extras, Rebase, RestoreError, RestoreMode, Special, add, words};
use super::window::{Closing, Draft, Kept, Link, Onto, Segment, Task, Window, last_name};
use repo::{Entry, Located, Node, is_within};
use rustix::fs::FileType;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The first window is small, so that fetching begins early.
const FIRST_FILES_MAX: usize = 2_048;
/// Path and attributes of an open directory that are kept in memory; longer ones are asked for again.
const KEPT_BYTES_MAX: usize = 4 << 10;
/// Unreadable stretches of entries after which a snapshot is given up.
const ERRORS_MAX: u64 = 10_000;
/// Groups of hard links whose file was left out that are kept together.
const ADOPTED_MAX: usize = 1 << 20;

/// Walks the snapshot.
pub(super) struct Planner<'r, 'a> {
    run: &'r Run<'a>,
    subtrees: VecDeque<Vec<u8>>,
    entries: Option<repo::Walk<'a>>,
    // Directories from the target down to where the walk is.
    levels: Vec<Level>,
    // The path key of the last of them.
    path: Vec<u8>,
    // The last entry that was no directory.
    leaf: Option<Vec<u8>>,
    carry: Option<Segment>,
    // Which entry first took the place of a file that is linked to but not restored.
    adopted: HashMap<Vec<u8>, Vec<u8>>,
    hasher: RandomState,
    errors: u64,
    files_max: usize,
    finished: bool,
}

struct Level {
    /// Length of its path key.
    end: usize,
    verdict: Verdict,
    kept: Option<Kept>,
    state: State,
    /// Hashes of the names the snapshot has in it: a collision keeps a file that should go.
    children: HashSet<u64>,
}

enum State {
    Waiting,
    Ready(Arc<Dir>, Found),
    Barred,
}

impl<'r, 'a> Planner<'r, 'a> {
    /// A walk over what the plan wants.
    pub fn new(run: &'r Run<'a>) -> Self {
        let root = Level {
            end: run.base.len(),
            verdict: run.pick.of(&run.base, true),
            kept: None,
            state: State::Ready(Arc::clone(run.tree.root()), run.tree.found),
            children: HashSet::new(),
        };
        Planner {
            run,
            subtrees: run.subtrees.clone().into(),
            entries: None,
            levels: vec![root],
            path: run.base.clone(),
            leaf: None,
            carry: None,
            adopted: HashMap::new(),
            hasher: RandomState::new(),
            errors: 0,
            files_max: FIRST_FILES_MAX,
            finished: false,
        }
    }

    /// The next window; `None` after the last.
    ///
    /// # Errors
    /// What stops the restore.
    pub fn next(&mut self) -> Result<Option<Window>, RestoreError> {
        if self.finished {
            return Ok(None);
        }
        let mut draft = Draft::default();
        if let Some(segment) = self.carry.take().filter(|segment| !segment.is_given_up()) {
            self.carry = draft.add(segment);
        }
        while self.carry.is_none() && !draft.is_full(self.files_max) {
            self.run.check_stop()?;
            match self.next_entry()? {
                Some(located) => self.take(located, &mut draft)?,
                None => {
                    while let Some(level) = self.levels.pop() {
                        self.close(level, &mut draft)?;
                    }
                    self.finished = true;
                    break;
                }
            }
        }
        self.files_max = super::window::FILES_MAX;
        draft.resolve(self.run).map(Some)
    }

    /// What directories are still waiting for their metadata, when a restore ends early.
    pub fn abandon(mut self) -> Vec<Closing> {
        let mut closing = Vec::new();
        while let Some(level) = self.levels.pop() {
            let key = self.path.get(..level.end).unwrap_or_default();
            closing.extend(closing_of(level, key, self.levels.is_empty(), self.run));
        }
        closing
    }

    fn next_entry(&mut self) -> Result<Option<Located>, RestoreError> {
        loop {
            let Some(entries) = &mut self.entries else {
                let Some(subtree) = self.subtrees.pop_front() else { return Ok(None) };
                self.entries = Some(self.run.reader.entries(&subtree));
                continue;
            };
            match entries.next() {
                None => self.entries = None,
                Some(Ok(located)) => return Ok(Some(located)),
                Some(Err(e)) if e.is_damage() && self.errors < ERRORS_MAX => {
                    self.errors += 1;
                    self.run.tally.trouble(format!("a part of the list of files cannot be read: {e}"));
                }
                Some(Err(e)) => return Err(e.into()),
            }
        }
    }

    fn take(&mut self, located: Located, draft: &mut Draft) -> Result<(), RestoreError> {
        let run = self.run;
        draft.things += 1;
        let key = located.entry.key.as_slice();
        let is_dir = matches!(located.entry.node, Node::Dir);
        if self.leaf.as_ref().is_some_and(|leaf| is_within(key, leaf)) {
            run.tally.problem(key, "the snapshot has it under something that is no directory");
            return Ok(());
        }
        while self.levels.len() > 1 && !is_within(key, &self.path) {
            if let Some(level) = self.levels.pop() {
                self.close(level, draft)?;
            }
            self.path.truncate(self.levels.last().map_or(0, |above| above.end));
        }
        let Some(names) = run.names(key) else {
            run.tally.problem(key, "it lies outside of what was asked for");
            return Ok(());
        };
        if names.is_empty() {
            if let (true, Some(root)) = (is_dir, self.levels.first_mut()) {
                root.kept = Some(keep(located.entry));
            }
            return Ok(());
        }
        if names.len() > DEPTH_MAX {
            run.tally.problem(key, format!("it is nested deeper than {DEPTH_MAX} directories"));
            return Ok(());
        }
        let above = names.len() - 1;
        while self.levels.len() <= above {
            let end = self.path.len()
                + names.get(self.levels.len() - 1).map_or(0, |name| name.len())
                + usize::from(!self.path.is_empty());
            self.path = key.get(..end).unwrap_or(key).to_vec();
            let verdict =
                self.levels.last().map_or(run.pick.start(), |level| run.pick.child(level.verdict, &self.path, true));
            self.levels.push(Level { end, verdict, kept: None, state: State::Waiting, children: HashSet::new() });
        }
        let Some(parent) = self.levels.last_mut() else { return Ok(()) };
        if run.plan.mode == RestoreMode::Delta(Extras::Delete) {
            parent.children.insert(self.hasher.hash_one(last_name(key)));
        }
        let verdict = run.pick.child(parent.verdict, key, is_dir);
        if is_dir {
            self.path = key.to_vec();
            let end = key.len();
            let kept = Some(keep(located.entry));
            self.levels.push(Level { end, verdict, kept, state: State::Waiting, children: HashSet::new() });
            if verdict.picked() && self.ensure(self.levels.len() - 1)?.is_some() {
                add(&run.tally.dirs, 1);
            }
            return Ok(());
        }
        self.leaf = Some(key.to_vec());
        if verdict.picked() {
            match self.ensure(above)? {
                Some(dir) => self.leaf(located, &dir, draft)?,
                None => run.tally.problem(&located.entry.key, "its directory could not be made"),
            }
        }
        Ok(())
    }

    /// The directory of a level, made if it is not there; `None` when that did not work, which was said then.
    fn ensure(&mut self, index: usize) -> Result<Option<Arc<Dir>>, RestoreError> {
        let waiting =
            self.levels.iter().rposition(|level| !matches!(level.state, State::Waiting)).map_or(0, |at| at + 1);
        for at in waiting..=index {
            let above = match self.levels.get(at.wrapping_sub(1)).map(|level| &level.state) {
                Some(State::Ready(dir, _)) => Some(Arc::clone(dir)),
                _ => None,
            };
            let Some(level) = self.levels.get_mut(at) else { break };
            let Some(above) = above else {
                level.state = State::Barred;
                continue;
            };
            let key = self.path.get(..level.end).unwrap_or_default();
            level.state = match self.run.directory(&above, last_name(key)) {
                Ok((dir, found)) => {
                    if found == Found::New && level.kept.is_none() {
                        // It leads to something that is wanted, without being wanted itself.
                        level.kept = match self.run.reader.get(key) {
                            Ok(located) => {
                                located.map(|found| found.entry).filter(|e| matches!(e.node, Node::Dir)).map(keep)
                            }
                            Err(e) if e.is_damage() => None,
                            Err(e) => return Err(e.into()),
                        };
                    }
                    State::Ready(dir, found)
                }
                Err(e) => {
                    self.run.here(key, "cannot make this directory", &e)?;
                    State::Barred
                }
            };
        }
        Ok(match self.levels.get(index).map(|level| &level.state) {
            Some(State::Ready(dir, _)) => Some(Arc::clone(dir)),
            _ => None,
        })
    }

    fn close(&mut self, level: Level, draft: &mut Draft) -> Result<(), RestoreError> {
        let run = self.run;
        let is_root = self.levels.is_empty();
        let key = self.path.get(..level.end).unwrap_or_default();
        let may_delete = run.may_delete() && level.kept.is_some() && level.verdict.picked() && run.is_covered(key);
        if may_delete && let State::Ready(dir, Found::Existing) = &level.state {
            if self.errors > 0 {
                run.tally.note(key, "what the snapshot does not have was not deleted: the list of files is damaged");
            } else if let Err(e) = self.delete_extras(key, dir, &level) {
                run.here(key, "cannot delete what the snapshot does not have", &e)?;
            }
        }
        if let Some(closing) = closing_of(level, key, is_root, run) {
            draft.close(closing);
        }
        Ok(())
    }

    fn delete_extras(&self, key: &[u8], dir: &Arc<Dir>, level: &Level) -> io::Result<()> {
        let run = self.run;
        let handle = run.tree.handle(dir)?;
        for (name, kind) in place::names(&handle)? {
            let child = if key.is_empty() { name.clone() } else { [key, &name].join(&0) };
            let stays = level.children.contains(&self.hasher.hash_one(name.as_slice()))
                || kind == FileType::Socket
                || run.is_temporary(&name)
                || !run.pick.child(level.verdict, &child, kind == FileType::Directory).picked();
            if !stays {
                match place::remove_all(&handle, &name) {
                    Ok(count) => add(&run.tally.deleted, count),
                    Err(e) => run
                        .tally
                        .problem(&child, format!("it is not in the snapshot and cannot be deleted: {}", words(&e))),
                }
            }
        }
        Ok(())
    }

    fn leaf(&mut self, located: Located, dir: &Arc<Dir>, draft: &mut Draft) -> Result<(), RestoreError> {
        let run = self.run;
        let entry = &located.entry;
        match &entry.node {
            Node::File(_) => self.file(located, dir, draft)?,
            Node::HardLink { to } => {
                let to = to.clone();
                self.hard_link(located.entry, to, dir, draft)?;
            }
            Node::Symlink { target } => {
                let target = target.clone();
                run.other(entry, dir, &|handle, name| place::symlink(handle, name, &target))?;
            }
            Node::Fifo => run.other(entry, dir, &|handle, name| place::node(handle, name, FileType::Fifo, 0))?,
            Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                if run.special != Special::Restore {
                    run.tally.skip(
                        &entry.key,
                        "devices come back only when root restores into a new target, or when asked for",
                    );
                    return Ok(());
                }
                let block = matches!(entry.node, Node::BlockDevice { .. });
                let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
                let device = rustix::fs::makedev(*major, *minor);
                run.other(entry, dir, &|handle, name| place::node(handle, name, kind, device))?;
            }
            Node::Dir => {}
        }
        Ok(())
    }

    fn file(&mut self, located: Located, dir: &Arc<Dir>, draft: &mut Draft) -> Result<(), RestoreError> {
        let position = located.first;
        if let Some(task) = self.run.task(located.entry, position, dir)? {
            self.carry = draft.add(Segment::all(task, position));
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: Entry, to: Vec<u8>, dir: &Arc<Dir>, draft: &mut Draft) -> Result<(), RestoreError> {
        let run = self.run;
        let key = entry.key;
        if to >= key {
            run.tally.problem(&key, "it is a hard link to something that comes later");
            return Ok(());
        }
        let is_restored =
            run.subtrees.iter().any(|subtree| is_within(&to, subtree)) && run.pick.of(&to, false).picked();
        let to = if is_restored { Some(&to) } else { self.adopted.get(&to) };
        if let Some(to) = to {
            draft.link(Link { dir: Arc::clone(dir), key, to: to.clone() });
            return Ok(());
        }
        let Node::HardLink { to } = entry.node else { return Ok(()) };
        if let Some(mut located) = run.linked_file(&key, &to)? {
            located.entry.key.clone_from(&key);
            if self.adopted.len() < ADOPTED_MAX {
                self.adopted.insert(to, key);
            } else {
                run.tally.note(&key, "hard links to files left out were restored as files of their own");
            }
            self.file(located, dir, draft)?;
        }
        Ok(())
    }
}

fn keep(entry: Entry) -> Kept {
    let bytes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    // Thousands of directories may be open, each with the path of the one above and more.
    if bytes + entry.key.len() > KEPT_BYTES_MAX { Kept::Ask(Vec::new()) } else { Kept::Here(Box::new(entry)) }
}

fn closing_of(level: Level, key: &[u8], is_root: bool, run: &Run<'_>) -> Option<Closing> {
    let State::Ready(dir, found) = level.state else { return None };
    // The target, and what only leads to wanted things, are given metadata only if we made them.
    let ours = match found {
        Found::New => !is_root || run.plan.rebase == Rebase::StripPrefix,
        Found::Existing => !is_root && level.verdict.picked() && run.is_covered(key),
    };
    match level.kept.filter(|_| ours) {
        Some(Kept::Ask(_)) => Some(Closing { dir, found, kept: Kept::Ask(key.to_vec()) }),
        Some(kept) => Some(Closing { dir, found, kept }),
        None => {
            if !is_root {
                run.tree.forget(&dir);
            }
            None
        }
    }
}

impl Run<'_> {
    /// The file to be restored for an entry, unless it is done already or cannot be, which is said then.
    ///
    /// # Errors
    /// What stops the restore.
    pub(super) fn task(&self, entry: Entry, position: u64, dir: &Arc<Dir>) -> Result<Option<Task>, RestoreError> {
        let mut task = match Task::new(self.tasks.fetch_add(1, Relaxed), entry, dir) {
            Ok(task) => task,
            Err((key, why)) => {
                self.tally.problem(&key, why);
                return Ok(None);
            }
        };
        match self.onto(&task, position) {
            Ok(Some(onto)) => task.onto = onto,
            Ok(None) => return Ok(None),
            Err(e) => {
                self.here(&task.entry.key, "cannot restore it", &e)?;
                return Ok(None);
            }
        }
        if task.chunks == 0 {
            self.settle(&task, self.empty(&task))?;
            return Ok(None);
        }
        Ok(Some(task))
    }

    /// What stands in the place of the file; `None` when it is there already in every respect.
    fn onto(&self, task: &Task, position: u64) -> io::Result<Option<Onto>> {
        if self.plan.mode == RestoreMode::NewTarget {
            return Ok(Some(Onto::Nothing));
        }
        let handle = self.tree.handle(&task.dir)?;
        let Some(stat) = place::look(&handle, task.name())? else { return Ok(Some(Onto::Nothing)) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.clear_way(&handle, task.name())?;
            return Ok(Some(Onto::Nothing));
        }
        if stat.st_nlink > 1 {
            // Written in place it would change under its other names too, and those may be outside.
            let done = self.is_identical(task, position)?;
            return Ok((!done).then_some(Onto::Other));
        }
        let uid = match self.stamper.owner_of(&task.entry) {
            Some((uid, _)) => uid,
            None if self.tree.me.is_root() => stat.st_uid,
            None => self.tree.me.uid,
        };
        // Whoever owned it may still hold it open for writing.
        if stat.st_uid != uid { Ok(Some(Onto::Other)) } else { Ok(Some(Onto::Same(Inode::of(&stat)))) }
    }
}
