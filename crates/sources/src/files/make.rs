//! What holds no content: directories, links, pipes, devices, and the metadata of directories in the end.
//!
//! It may not know content, except that a hard link which cannot be made becomes a file of its own.
//! Where data comes from and goes: `plan` and `write` ask for one thing at a time, in a directory that is open.

use super::apply::Run;
use super::place::{self, Dir, Found, Inode};
use super::restored::{Extras, RestoreError, RestoreMode, add, words};
use super::stamp::{Before, History};
use super::window::{Closing, Draft, Kept, Link, Segment, Window, last_name};
use repo::{Entry, Located, Node};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

impl Run<'_> {
    /// A directory in `above`, made if it is not there.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn directory(&self, above: &Arc<Dir>, name: &[u8]) -> io::Result<(Arc<Dir>, Found)> {
        if self.plan.mode != RestoreMode::NewTarget {
            match self.tree.open_dir(above, name) {
                Ok(dir) => return Ok((dir, Found::Existing)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => match Errno::from_io_error(&e) {
                    Some(Errno::NOTDIR | Errno::LOOP) => self.clear_way(&*self.tree.handle(above)?, name)?,
                    _ => return Err(e),
                },
            }
        }
        Ok((self.tree.make_dir(above, name)?, Found::New))
    }

    /// Makes room for something of another kind: only in a delta restore.
    pub(super) fn clear_way(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let RestoreMode::Delta(extras) = self.plan.mode else { return Ok(()) };
        let Some(stat) = place::look(dir, name)? else { return Ok(()) };
        match (FileType::from_raw_mode(stat.st_mode), extras) {
            (FileType::Directory, Extras::Delete) => {
                add(&self.tally.deleted, place::remove_all(dir, name)?.saturating_sub(1));
                Ok(())
            }
            (FileType::Directory, Extras::Keep) => place::remove_dir(dir, name),
            _ => place::remove(dir, name),
        }
    }

    /// A link, pipe or device.
    pub(super) fn other(
        &self,
        entry: &Entry,
        dir: &Arc<Dir>,
        make: &dyn Fn(&OwnedFd, &[u8]) -> io::Result<()>,
    ) -> Result<(), RestoreError> {
        let name = last_name(&entry.key);
        let made = self.tree.handle(dir).and_then(|handle| {
            self.clear_way(&handle, name)?;
            make(&handle, name)?;
            self.stamper.named(handle.as_fd(), name, entry);
            Ok(())
        });
        match made {
            Ok(()) => {
                let is_link = matches!(entry.node, Node::Symlink { .. });
                add(if is_link { &self.tally.links } else { &self.tally.others }, 1);
                Ok(())
            }
            Err(e) => self.here(&entry.key, "cannot make it", &e),
        }
    }

    /// The entry of a file that a hard link names, unless there is none, which is said then.
    ///
    /// # Errors
    /// What stops the restore.
    pub(super) fn linked_file(&self, key: &[u8], to: &[u8]) -> Result<Option<Located>, RestoreError> {
        match self.reader.get(to) {
            Ok(Some(located)) if matches!(located.entry.node, Node::File(_)) => return Ok(Some(located)),
            Ok(_) => self.tally.problem(key, "it is a hard link to a file that the snapshot does not have"),
            Err(e) if e.is_damage() => {
                self.tally.problem(key, format!("the entry of the file it is a hard link to cannot be read: {e}"));
            }
            Err(e) => return Err(e.into()),
        }
        Ok(None)
    }

    pub(super) fn link(&self, link: &Link) -> Result<(), RestoreError> {
        self.check_stop()?;
        if self.tally.has_failed(&link.to) {
            self.tally.problem(&link.key, "the file it is a hard link to could not be restored");
            return Ok(());
        }
        // What stands in an existing tree under that name is ours only if the snapshot has a file there.
        if self.plan.mode != RestoreMode::NewTarget && self.linked_file(&link.key, &link.to)?.is_none() {
            return Ok(());
        }
        match self.try_link(link) {
            Ok(()) => {
                add(&self.tally.links, 1);
                Ok(())
            }
            Err(e) if may_copy(&e) => self.copy(link),
            Err(e) => self.here(&link.key, "cannot make the hard link", &e),
        }
    }

    fn try_link(&self, link: &Link) -> io::Result<()> {
        let names = self.names(&link.to).filter(|names| !names.is_empty());
        let Some((old, above)) = names.as_ref().and_then(|names| names.split_last()) else {
            return Err(Errno::NOENT.into());
        };
        let from = self.tree.find(above)?;
        let dir = self.tree.handle(&link.dir)?;
        let name = last_name(&link.key);
        if self.plan.mode != RestoreMode::NewTarget
            && let (Some(new), Some(old)) = (place::look(&dir, name)?, place::look(&from, old)?)
        {
            if Inode::of(&new) == Inode::of(&old) {
                return Ok(());
            }
            self.clear_way(&dir, name)?;
        }
        Ok(place::link(&from, old, &dir, name)?)
    }

    /// Restores the content of a hard link as a file of its own.
    fn copy(&self, link: &Link) -> Result<(), RestoreError> {
        let Some(mut located) = self.linked_file(&link.key, &link.to)? else { return Ok(()) };
        self.tally.note(&link.key, "hard links that could not be made were restored as files of their own");
        located.entry.key.clone_from(&link.key);
        let position = located.first;
        let Some(task) = self.task(located.entry, position, &link.dir)? else { return Ok(()) };
        let mut rest = Some(Segment::all(task, position));
        while let Some(segment) = rest {
            let mut draft = Draft::default();
            rest = draft.add(segment);
            let Window { table, wants, .. } = draft.resolve(self)?;
            self.contents(&table, &wants)?;
        }
        Ok(())
    }

    /// Gives directories their metadata, in this order.
    pub(super) fn close(&self, closing: Vec<Closing>) {
        for Closing { dir, found, kept } in closing {
            let entry = match kept {
                Kept::Here(entry) => entry,
                Kept::Ask(key) => match self.reader.get(&key) {
                    Ok(Some(located)) => Box::new(located.entry),
                    Ok(None) => continue,
                    Err(e) => {
                        self.tally.problem(&key, format!("its metadata cannot be read: {e}"));
                        continue;
                    }
                },
            };
            let stamp = || -> io::Result<()> {
                let handle = self.tree.handle(&dir)?;
                let stat = rustix::fs::fstat(&handle)?;
                if found == Found::New {
                    self.stamper.open(handle.as_fd(), &entry, Before { history: History::Fresh, ..Before::old(&stat) });
                } else if !self.stamper.matches(handle.as_fd(), &stat, &entry) {
                    self.stamper.open(handle.as_fd(), &entry, Before::old(&stat));
                }
                Ok(())
            };
            if let Err(e) = stamp() {
                self.tally.problem(&entry.key, format!("cannot set its metadata: {}", words(&e)));
            }
            self.tree.forget(&dir);
        }
    }
}

/// Whether a hard link failed for a reason that a file of its own does not have: too many links, another file system,
/// no such links here, or no way to the first name.
fn may_copy(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::ACCESS | Errno::NOENT)
    )
}
