//! Snapshots as a file system that nobody can write to.
//!
//! What it is for: the kernel's questions, answered from a [`Forest`] and [`View`]s. A number is made of the snapshot and the
//! place of a thing in it, so none has to be remembered or forgotten.
//! What it may not know: how anything is mounted.
//! Where data comes from and goes: requests of the kernel in, on several threads; answers out.

use super::attr::{self, Owner};
use super::content::{Cache, Content, Seek, next_of};
use super::forest::{Forest, Tree};
use super::trouble::Teller;
use super::view::{Enough, Found, Spot, View};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use repo::{Entry, Node, Opener, Recent, Snapshot};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// Nothing that is shown ever changes.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
const GENERATION: Generation = Generation(0);
/// How many snapshots are kept open.
const VIEWS_MAX: usize = 16;
/// How many snapshots have numbers.
pub(super) const SNAPSHOTS_MAX: usize = (1 << 16) - 1;
const POSITION_BITS: u32 = 40;
/// `lseek`'s way to look for data and for holes.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// What is shown.
pub(super) enum Root {
    /// Directories of snapshots.
    All(Forest),
    /// This of the only snapshot there is.
    One(Spot),
}

/// The file system.
pub(super) struct Snapshots {
    opener: Opener,
    snapshots: Vec<Snapshot>,
    root: Root,
    owner: Owner,
    teller: Arc<Teller>,
    cache: Arc<Cache>,
    views: Mutex<Recent<usize, Arc<View>>>,
    open: Mutex<HashMap<u64, Arc<Content>>>,
    next: AtomicU64,
}

/// What a number stands for.
enum Place {
    Above(usize),
    Inside(usize, Spot),
}

type Result<T> = std::result::Result<T, Errno>;

impl Snapshots {
    pub(super) fn new(
        (opener, snapshots): (Opener, Vec<Snapshot>),
        root: Root,
        owner: Owner,
        (teller, cache): (Arc<Teller>, Arc<Cache>),
    ) -> Snapshots {
        let (views, open, next) = (Mutex::new(Recent::new(VIEWS_MAX)), Mutex::default(), AtomicU64::new(1));
        Snapshots { opener, snapshots, root, owner, teller, cache, views, open, next }
    }

    fn place(&self, ino: INodeNo) -> Place {
        if let (Root::One(spot), INodeNo::ROOT) = (&self.root, ino) {
            return Place::Inside(0, *spot);
        }
        let (snapshot, rest) = ((ino.0 >> 48) as usize, ino.0 & ((1 << 48) - 1));
        let up = (rest >> POSITION_BITS) as u8;
        match snapshot.checked_sub(1) {
            Some(snapshot) => Place::Inside(snapshot, Spot { position: rest & ((1 << POSITION_BITS) - 1), up }),
            None => Place::Above(rest as usize - usize::from(rest > 0)),
        }
    }

    fn number(&self, place: &Place) -> Result<INodeNo> {
        Ok(INodeNo(match place {
            Place::Above(number) => *number as u64 + 1,
            Place::Inside(0, spot) if matches!(&self.root, Root::One(root) if root == spot) => {
                return Ok(INodeNo::ROOT);
            }
            Place::Inside(_, spot) if spot.position >> POSITION_BITS != 0 => return Err(Errno::EOVERFLOW),
            Place::Inside(snapshot, spot) => {
                ((*snapshot as u64 + 1) << 48) | (u64::from(spot.up) << POSITION_BITS) | spot.position
            }
        }))
    }

    fn view(&self, snapshot: usize) -> Result<Arc<View>> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(&snapshot) {
            return Ok(view);
        }
        let of = self.snapshots.get(snapshot).ok_or(Errno::ESTALE)?;
        let opened = self.opener.open(of).map_err(|e| self.teller.tell(of.id.short().as_bytes(), &e))?;
        let view = Arc::new(View::new(opened, Arc::clone(&self.teller)));
        views.put(snapshot, Arc::clone(&view), 1);
        Ok(view)
    }

    /// What is in a snapshot under this number.
    fn inside(&self, ino: INodeNo) -> Result<(Arc<View>, Found)> {
        match self.place(ino) {
            Place::Inside(snapshot, spot) => {
                let view = self.view(snapshot)?;
                let found = view.at(spot)?;
                Ok((view, found))
            }
            Place::Above(_) => Err(Errno::EINVAL),
        }
    }

    fn above(&self, number: usize) -> Result<&Tree> {
        match &self.root {
            Root::All(forest) => forest.get(number).ok_or(Errno::ESTALE),
            Root::One(_) => Err(Errno::ESTALE),
        }
    }

    fn attr_above(&self, number: usize) -> Result<FileAttr> {
        let ino = self.number(&Place::Above(number))?;
        match self.above(number)? {
            Tree::Dir(_) => Ok(attr::directory(ino, UNIX_EPOCH, self.owner)),
            Tree::Link(target) => Ok(FileAttr {
                kind: FileType::Symlink,
                perm: 0o777,
                size: target.len() as u64,
                ..attr::directory(ino, UNIX_EPOCH, self.owner)
            }),
            // Its own root, by the number that it has there.
            Tree::Snapshot(snapshot) => {
                let view = self.view(*snapshot)?;
                self.attr_inside(*snapshot, &view, &root_of(&view)?)
            }
        }
    }

    fn attr_inside(&self, snapshot: usize, view: &View, found: &Found) -> Result<FileAttr> {
        let ino = self.number(&Place::Inside(snapshot, found.spot))?;
        let names = if matches!(found.node(), Node::File(_)) { view.names(&found.key) } else { 1 };
        Ok(attr::of(found, ino, names, self.owner))
    }

    fn attr(&self, ino: INodeNo) -> Result<FileAttr> {
        match self.place(ino) {
            Place::Above(number) => self.attr_above(number),
            Place::Inside(snapshot, spot) => {
                let view = self.view(snapshot)?;
                self.attr_inside(snapshot, &view, &view.at(spot)?)
            }
        }
    }

    fn look(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr> {
        match self.place(parent) {
            Place::Above(number) => {
                let Tree::Dir(names) = self.above(number)? else { return Err(Errno::ENOTDIR) };
                let number = name.to_str().and_then(|name| names.get(name)).ok_or(Errno::ENOENT)?;
                self.attr_above(*number)
            }
            Place::Inside(snapshot, spot) => {
                let view = self.view(snapshot)?;
                let dir = view.at(spot)?;
                if !matches!(dir.node(), Node::Dir) {
                    return Err(Errno::ENOTDIR);
                }
                let found = view.lookup(&dir, name.as_bytes())?;
                self.attr_inside(snapshot, &view, &found)
            }
        }
    }

    /// Names of a directory behind `offset`. `add` takes a number, an offset, a kind, a name and what tells the rest; it says
    /// whether there is no room for it.
    fn list(&self, ino: INodeNo, offset: u64, add: &mut Add<'_>) -> Result<()> {
        // The directories themselves come first; what is above matters to nobody, the kernel knows it.
        for (at, name) in [(0, "."), (1, "..")] {
            if offset <= at
                && add(ino, at + 1, FileType::Directory, OsStr::new(name), &|| self.attr(ino)) == Enough::Yes
            {
                return Ok(());
            }
        }
        let after = offset.checked_sub(2);
        match self.place(ino) {
            Place::Above(number) => {
                let Tree::Dir(names) = self.above(number)? else { return Err(Errno::ENOTDIR) };
                let skipped = usize::try_from(after.unwrap_or(0)).unwrap_or(usize::MAX);
                for (at, (name, number)) in names.iter().enumerate().skip(skipped) {
                    let kind = match self.above(*number)? {
                        Tree::Link(_) => FileType::Symlink,
                        Tree::Dir(_) | Tree::Snapshot(_) => FileType::Directory,
                    };
                    let ino = self.number(&Place::Above(*number))?;
                    if add(ino, at as u64 + 3, kind, OsStr::new(name), &|| self.attr_above(*number)) == Enough::Yes {
                        return Ok(());
                    }
                }
                Ok(())
            }
            Place::Inside(snapshot, spot) => {
                let view = self.view(snapshot)?;
                let dir = view.at(spot)?;
                if !matches!(dir.node(), Node::Dir) {
                    return Err(Errno::ENOTDIR);
                }
                let after = after.and_then(|after| after.checked_sub(1));
                let mut failed = None;
                view.list(&dir, after, &mut |name, found, position| {
                    let place = Place::Inside(snapshot, found.spot);
                    let ino = match self.number(&place) {
                        Ok(ino) => ino,
                        Err(e) => {
                            failed = Some(e);
                            return Enough::Yes;
                        }
                    };
                    let told = || self.attr_inside(snapshot, &view, found);
                    add(ino, position + 3, attr::kind(found.node()), OsStr::from_bytes(name), &told)
                })?;
                failed.map_or(Ok(()), Err)
            }
        }
    }

    fn link(&self, ino: INodeNo) -> Result<Vec<u8>> {
        if let Place::Above(number) = self.place(ino) {
            return match self.above(number)? {
                Tree::Link(target) => Ok(target.clone().into_bytes()),
                Tree::Dir(_) | Tree::Snapshot(_) => Err(Errno::EINVAL),
            };
        }
        match self.inside(ino)?.1.node() {
            Node::Symlink { target } => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open_file(&self, ino: INodeNo, flags: OpenFlags) -> Result<u64> {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return Err(Errno::EROFS);
        }
        let (view, found) = self.inside(ino)?;
        let content = found.located.as_ref().and_then(|located| Content::of(&view, located)).ok_or(Errno::EINVAL)?;
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(content));
        Ok(handle)
    }

    fn read_file(&self, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>> {
        let content = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned();
        let content = content.ok_or(Errno::EBADF)?;
        let left = content.size().saturating_sub(offset).min(u64::from(size));
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(0)];
        content.read(&self.cache, offset, &mut bytes)?;
        Ok(bytes)
    }

    fn seek(&self, ino: INodeNo, offset: i64, whence: i32) -> Result<i64> {
        let (_, found) = self.inside(ino)?;
        let Node::File(file) = found.node() else { return Err(Errno::EINVAL) };
        let what = match whence {
            SEEK_DATA => Seek::Data,
            SEEK_HOLE => Seek::Hole,
            _ => return Err(Errno::EINVAL),
        };
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        next_of(file, offset, what).and_then(|at| i64::try_from(at).ok()).ok_or(Errno::ENXIO)
    }

    fn attributes(&self, ino: INodeNo) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if let Place::Above(_) = self.place(ino) {
            return Ok(Vec::new());
        }
        Ok(self
            .inside(ino)?
            .1
            .located
            .map(|located| located.entry)
            .map(|entry: Entry| entry.xattrs)
            .unwrap_or_default())
    }
}

type Add<'a> = dyn FnMut(INodeNo, u64, FileType, &OsStr, &dyn Fn() -> Result<FileAttr>) -> Enough + 'a;

/// The root of a snapshot, which every one has.
fn root_of(view: &View) -> Result<Found> {
    match view.find(b"") {
        Ok(found) => Ok(found),
        // One of nothing at all.
        Err(_) => Ok(Found { spot: Spot { position: 0, up: 0 }, key: Vec::new(), located: None }),
    }
}

/// Hands out bytes as the calls for attributes want them: first their length, then all or nothing.
fn sized(reply: ReplyXattr, size: u32, bytes: &[u8]) {
    match size {
        0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        size if bytes.len() <= size as usize => reply.data(bytes),
        _ => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for Snapshots {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // What the kernel does not know it does without.
        for wish in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ] {
            config.add_capabilities(wish).unwrap_or_default();
        }
        config.set_max_readahead(1 << 20).map(drop).unwrap_or_default();
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.look(parent, name) {
            Ok(attr) => reply.entry(&FOR_EVER, &attr, GENERATION),
            Err(e) => reply.error(e),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Ok(attr) => reply.attr(&FOR_EVER, &attr),
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.link(ino) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(e),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(ino, flags) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH),
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_file(handle.0, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(e),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed =
            self.list(ino, offset, &mut |ino, offset, kind, name, _| match reply.add(ino, offset, kind, name) {
                true => Enough::Yes,
                false => Enough::No,
            });
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let mut failed = None;
        let listed = self.list(ino, offset, &mut |_, offset, _, name, attr| match attr() {
            Ok(attr) => match reply.add(attr.ino, offset, name, &FOR_EVER, &attr, GENERATION) {
                true => Enough::Yes,
                false => Enough::No,
            },
            Err(e) => {
                failed = Some(e);
                Enough::Yes
            }
        });
        match listed.and(failed.map_or(Ok(()), Err)) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let bytes = self.snapshots.iter().map(|snapshot| snapshot.public.stats.bytes).fold(0, u64::saturating_add);
        let files = self.snapshots.iter().map(|snapshot| snapshot.public.stats.files).fold(0, u64::saturating_add);
        reply.statfs(bytes.div_ceil(4096), 0, 0, files, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.attributes(ino) {
            Ok(xattrs) => match xattrs.iter().find(|(known, _)| known == name.as_bytes()) {
                Some((_, value)) => sized(reply, size, value),
                None => reply.error(Errno::ENODATA),
            },
            Err(e) => reply.error(e),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.attributes(ino) {
            Ok(xattrs) => {
                // A name with a zero in it would be two.
                let names = xattrs.iter().filter(|(name, _)| !name.is_empty() && !name.contains(&0));
                let bytes: Vec<u8> = names.flat_map(|(name, _)| name.iter().copied().chain([0])).collect();
                sized(reply, size, &bytes);
            }
            Err(e) => reply.error(e),
        }
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        match self.seek(ino, offset, whence) {
            Ok(at) => reply.offset(at),
            Err(e) => reply.error(e),
        }
    }
}
