//! A snapshot as a file system that can be written to: what is written lies over what was backed up and goes with the mount.
//!
//! What it is for: a server that runs on a backup. Names are kept in memory, changed pages in files without names beside the mount:
//! the kernel gives their space back when this program ends, however it ends. Nothing survives that, so nothing is synced.
//! What it may not know: what runs on it.
//! Where data comes from and goes: entries and [`Content`] of a snapshot and requests of the kernel in; answers out.

use super::attr::{self, Owner};
use super::body::Body;
use super::content::{Cache, Content};
use super::view::View;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use repo::{Located, Node, RepoError, path_of_key};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use store::World;

/// Only this mount changes what is in it, so what the kernel knows stays true.
const LONG: Duration = Duration::from_secs(3600);
const GENERATION: Generation = Generation(0);

/// A directory of the mount, and what of the snapshot is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Names from the root of the mount down.
    pub names: Vec<String>,
    /// Path key of a directory of the snapshot.
    pub within: Vec<u8>,
}

/// The file system.
pub(super) struct Writable {
    view: Arc<View>,
    cache: Arc<Cache>,
    /// Where changed pages go, as files without names.
    beside: PathBuf,
    owner: Owner,
    /// Whether what is in the snapshot belongs to whom it belonged to.
    as_recorded: bool,
    world: World,
    nodes: Mutex<Nodes>,
    lists: Mutex<HashMap<u64, Arc<Vec<Name>>>>,
    next_list: AtomicU64,
}

struct Nodes {
    all: HashMap<u64, Inode>,
    next: u64,
}

struct Inode {
    mode: u16,
    uid: u32,
    gid: u32,
    mtime: SystemTime,
    names: u32,
    /// How often the kernel was told of it and has not forgotten.
    known: u64,
    what: What,
}

enum What {
    Dir(BTreeMap<Vec<u8>, u64>),
    File(Arc<Body>),
    Link(Vec<u8>),
}

type Name = (u64, FileType, Vec<u8>);
type Result<T> = std::result::Result<T, Errno>;

impl Writable {
    /// Reads all names of the parts: directories and files.
    ///
    /// # Errors
    /// When some cannot be read: what runs on it must not run on less.
    pub(super) fn load(
        (view, parts): (Arc<View>, &[Part]),
        cache: Arc<Cache>,
        (beside, owner): (&Path, Owner),
        world: &World,
    ) -> std::result::Result<Writable, RepoError> {
        let writable = Writable {
            view: Arc::clone(&view),
            cache,
            beside: beside.to_owned(),
            owner,
            as_recorded: owner.uid == 0,
            world: world.clone(),
            nodes: Mutex::new(Nodes { all: HashMap::new(), next: INodeNo::ROOT.0 }),
            lists: Mutex::default(),
            next_list: AtomicU64::new(1),
        };
        {
            let mut nodes = writable.lock();
            let root = writable.plain(0o755, What::Dir(BTreeMap::new()));
            nodes.add(root);
            for part in parts {
                let mut top = INodeNo::ROOT.0;
                for name in &part.names {
                    top = match nodes.child(top, name.as_bytes()) {
                        Ok(known) => known,
                        Err(_) => {
                            let dir = writable.plain(0o700, What::Dir(BTreeMap::new()));
                            nodes.add_as(top, name.as_bytes(), dir)
                        }
                    };
                }
                writable.load_part(&mut nodes, top, &part.within)?;
            }
        }
        Ok(writable)
    }

    fn load_part(&self, nodes: &mut Nodes, top: u64, within: &[u8]) -> std::result::Result<(), RepoError> {
        // Directories from the top down to where the stream is.
        let mut above: Vec<(Vec<u8>, u64)> = vec![(within.to_vec(), top)];
        let mut any = false;
        for located in self.view.reader().entries(within) {
            let located = located?;
            any = true;
            let key = located.entry.key.clone();
            if key == within {
                let inode = self.inode(&located, What::Dir(BTreeMap::new()));
                if let Some(node) = nodes.all.get_mut(&top) {
                    *node = inode;
                }
                continue;
            }
            while above.last().is_some_and(|(dir, _)| !repo::is_within(&key, dir) || *dir == key) && above.len() > 1 {
                above.pop();
            }
            let Some((dir, parent)) = above.last() else { break };
            let name = key.get(dir.len() + usize::from(!dir.is_empty())..).unwrap_or_default().to_vec();
            if name.contains(&0) {
                let what = "has no entry for the directory that it is in";
                return Err(RepoError::damaged(repo::percent_path(&path_of_key(&key)), what));
            }
            let what = match &located.entry.node {
                Node::Dir => What::Dir(BTreeMap::new()),
                Node::File(_) => What::File(Arc::new(Body::of(Content::of(&self.view, &located)))),
                // Of a cluster these are nothing. A link would lead whoever writes here out of the mount; those to tablespaces are
                // made anew.
                Node::Symlink { .. }
                | Node::Fifo
                | Node::CharDevice { .. }
                | Node::BlockDevice { .. }
                | Node::HardLink { .. } => continue,
            };
            let is_dir = matches!(what, What::Dir(_));
            let number = nodes.add_as(*parent, &name, self.inode(&located, what));
            if is_dir {
                above.push((key, number));
            }
        }
        match any {
            true => Ok(()),
            false => Err(RepoError::damaged(repo::percent_path(&path_of_key(within)), "is not in the snapshot")),
        }
    }

    fn inode(&self, located: &Located, what: What) -> Inode {
        let entry = &located.entry;
        let (uid, gid) = if self.as_recorded { (entry.uid, entry.gid) } else { (self.owner.uid, self.owner.gid) };
        let mode = (entry.mode & 0o7777) as u16;
        Inode { mode, uid, gid, mtime: attr::time(entry.mtime), names: 0, known: 0, what }
    }

    fn plain(&self, mode: u32, what: What) -> Inode {
        let (mode, Owner { uid, gid }) = ((mode & 0o7777) as u16, self.owner);
        Inode { mode, uid, gid, mtime: self.now(), names: 0, known: 0, what }
    }

    fn made_by(&self, by: &Request, mode: u32, what: What) -> Inode {
        Inode { uid: by.uid(), gid: by.gid(), ..self.plain(mode, what) }
    }

    fn now(&self) -> SystemTime {
        attr::time(self.world.clock.now())
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn body(&self, ino: INodeNo) -> Result<Arc<Body>> {
        match &self.lock().get(ino.0)?.what {
            What::File(body) => Ok(Arc::clone(body)),
            What::Dir(_) => Err(Errno::EISDIR),
            What::Link(_) => Err(Errno::EINVAL),
        }
    }

    fn page_file(&self) -> std::io::Result<File> {
        super::body::without_name(&self.beside)
    }

    fn make(&self, parent: u64, name: &OsStr, inode: Inode) -> Result<FileAttr> {
        let mut nodes = self.lock();
        if nodes.child(parent, name.as_bytes()).is_ok() {
            return Err(Errno::EEXIST);
        }
        nodes.dir(parent)?;
        let number = nodes.add_as(parent, name.as_bytes(), inode);
        self.touch(&mut nodes, parent);
        nodes.told(number)
    }

    fn touch(&self, nodes: &mut Nodes, dir: u64) {
        if let Some(inode) = nodes.all.get_mut(&dir) {
            inode.mtime = self.now();
        }
    }

    fn remove(&self, parent: u64, name: &OsStr, want: Want) -> Result<()> {
        let mut nodes = self.lock();
        let number = nodes.child(parent, name.as_bytes())?;
        match (&nodes.get(number)?.what, want) {
            (What::Dir(names), Want::Dir) if !names.is_empty() => return Err(Errno::ENOTEMPTY),
            (What::Dir(_), Want::Dir) => {}
            (What::Dir(_), Want::Other) => return Err(Errno::EISDIR),
            (_, Want::Dir) => return Err(Errno::ENOTDIR),
            (_, Want::Other) => {}
        }
        nodes.cut(parent, name.as_bytes())?;
        self.touch(&mut nodes, parent);
        Ok(())
    }

    fn rename_to(&self, from: (u64, &OsStr), to: (u64, &OsStr), flags: RenameFlags) -> Result<()> {
        let mut nodes = self.lock();
        let (old, new) = (from.1.as_bytes(), to.1.as_bytes());
        let number = nodes.child(from.0, old)?;
        match nodes.child(to.0, new) {
            Ok(_) if flags.contains(RenameFlags::RENAME_NOREPLACE) => return Err(Errno::EEXIST),
            Ok(there) if there == number => return Ok(()),
            Ok(there) => {
                if let What::Dir(names) = &nodes.get(there)?.what
                    && !names.is_empty()
                {
                    return Err(Errno::ENOTEMPTY);
                }
                nodes.cut(to.0, new)?;
            }
            Err(_) => {}
        }
        // In this order: it must not be without a name and be forgotten.
        nodes.name(to.0, new, number)?;
        nodes.cut(from.0, old)?;
        self.touch(&mut nodes, from.0);
        self.touch(&mut nodes, to.0);
        Ok(())
    }

    fn change(&self, ino: INodeNo, change: &Change) -> Result<FileAttr> {
        if let Some(size) = change.size {
            self.body(ino)?.resize(size).map_err(Errno::from)?;
        }
        let now = self.now();
        let mut nodes = self.lock();
        let inode = nodes.all.get_mut(&ino.0).ok_or(Errno::ESTALE)?;
        inode.mode = change.mode.map_or(inode.mode, |mode| (mode & 0o7777) as u16);
        inode.uid = change.uid.unwrap_or(inode.uid);
        inode.gid = change.gid.unwrap_or(inode.gid);
        inode.mtime = match change.mtime {
            Some(TimeOrNow::SpecificTime(time)) => time,
            Some(TimeOrNow::Now) => now,
            None if change.size.is_some() => now,
            None => inode.mtime,
        };
        Ok(inode.attr(ino.0))
    }
}

/// What `setattr` asks for.
struct Change {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    mtime: Option<TimeOrNow>,
}

/// What is to be removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Dir,
    Other,
}

impl Inode {
    fn kind(&self) -> FileType {
        match self.what {
            What::Dir(_) => FileType::Directory,
            What::File(_) => FileType::RegularFile,
            What::Link(_) => FileType::Symlink,
        }
    }

    fn attr(&self, number: u64) -> FileAttr {
        let size = match &self.what {
            What::Dir(_) => 4096,
            What::File(body) => body.size(),
            What::Link(target) => target.len() as u64,
        };
        let nlink = if let What::Dir(_) = self.what { 1 } else { self.names };
        FileAttr {
            size,
            blocks: size.div_ceil(512),
            kind: self.kind(),
            perm: self.mode,
            nlink,
            ..attr::directory(INodeNo(number), self.mtime, Owner { uid: self.uid, gid: self.gid })
        }
    }
}

impl Nodes {
    fn get(&self, number: u64) -> Result<&Inode> {
        self.all.get(&number).ok_or(Errno::ESTALE)
    }

    fn dir(&mut self, number: u64) -> Result<&mut BTreeMap<Vec<u8>, u64>> {
        match &mut self.all.get_mut(&number).ok_or(Errno::ESTALE)?.what {
            What::Dir(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn child(&mut self, dir: u64, name: &[u8]) -> Result<u64> {
        self.dir(dir)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn add(&mut self, inode: Inode) -> u64 {
        let number = self.next;
        self.next += 1;
        self.all.insert(number, inode);
        number
    }

    fn add_as(&mut self, dir: u64, name: &[u8], inode: Inode) -> u64 {
        let number = self.add(inode);
        self.name(dir, name, number).unwrap_or_default();
        number
    }

    fn name(&mut self, dir: u64, name: &[u8], number: u64) -> Result<()> {
        self.dir(dir)?.insert(name.to_vec(), number);
        if let Some(inode) = self.all.get_mut(&number) {
            inode.names += 1;
        }
        Ok(())
    }

    fn cut(&mut self, dir: u64, name: &[u8]) -> Result<()> {
        let number = self.dir(dir)?.remove(name).ok_or(Errno::ENOENT)?;
        if let Some(inode) = self.all.get_mut(&number) {
            inode.names = inode.names.saturating_sub(1);
        }
        self.forget(number, 0);
        Ok(())
    }

    /// The kernel forgot it so many times. What it does not know and has no name goes.
    fn forget(&mut self, number: u64, times: u64) {
        let Some(inode) = self.all.get_mut(&number) else { return };
        inode.known = inode.known.saturating_sub(times);
        if inode.known == 0 && inode.names == 0 && number != INodeNo::ROOT.0 {
            self.all.remove(&number);
        }
    }

    /// What the kernel is told of it, which it remembers then.
    fn told(&mut self, number: u64) -> Result<FileAttr> {
        let inode = self.all.get_mut(&number).ok_or(Errno::ESTALE)?;
        inode.known += 1;
        Ok(inode.attr(number))
    }
}

fn entered(reply: ReplyEntry, made: Result<FileAttr>) {
    match made {
        Ok(attr) => reply.entry(&LONG, &attr, GENERATION),
        Err(e) => reply.error(e),
    }
}

fn done(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

impl Filesystem for Writable {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for wish in [InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_ATOMIC_O_TRUNC] {
            config.add_capabilities(wish).unwrap_or_default();
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut nodes = self.lock();
        let found = nodes.child(parent.0, name.as_bytes()).and_then(|number| nodes.told(number));
        drop(nodes);
        entered(reply, found);
    }

    fn forget(&self, _: &Request, ino: INodeNo, times: u64) {
        self.lock().forget(ino.0, times);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attr = self.lock().get(ino.0).map(|inode| inode.attr(ino.0));
        match attr {
            Ok(attr) => reply.attr(&LONG, &attr),
            Err(e) => reply.error(e),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.change(ino, &Change { mode, uid, gid, size, mtime }) {
            Ok(attr) => reply.attr(&LONG, &attr),
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let nodes = self.lock();
        match nodes.get(ino.0).map(|inode| &inode.what) {
            Ok(What::Link(target)) => reply.data(target),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(e) => reply.error(e),
        }
    }

    fn mkdir(&self, by: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        entered(reply, self.make(parent.0, name, self.made_by(by, mode & !umask, What::Dir(BTreeMap::new()))));
    }

    fn symlink(&self, by: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let what = What::Link(target.as_os_str().as_bytes().to_vec());
        entered(reply, self.make(parent.0, name, self.made_by(by, 0o777, what)));
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut nodes = self.lock();
        let made = match nodes.child(parent.0, name.as_bytes()) {
            Ok(_) => Err(Errno::EEXIST),
            Err(_) => nodes.name(parent.0, name.as_bytes(), ino.0).and_then(|()| nodes.told(ino.0)),
        };
        drop(nodes);
        entered(reply, made);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.remove(parent.0, name, Want::Other));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.remove(parent.0, name, Want::Dir));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            return reply.error(Errno::EINVAL);
        }
        done(reply, self.rename_to((parent.0, name), (new_parent.0, new_name), flags));
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.body(ino).and_then(|body| match flags.0 & rustix::fs::OFlags::TRUNC.bits() as i32 {
            0 => Ok(()),
            _ => body.resize(0).map_err(Errno::from),
        });
        match opened {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH),
            Err(e) => reply.error(e),
        }
    }

    fn create(&self, by: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        let body = Arc::new(Body::of(None));
        match self.make(parent.0, name, self.made_by(by, mode & !umask, What::File(body))) {
            Ok(attr) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
                reply.created(&LONG, &attr, GENERATION, FileHandle(0), flags);
            }
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.body(ino).and_then(|body| body.read(&self.cache, offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(e),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.body(ino).and_then(|body| body.write(&self.cache, &|| self.page_file(), offset, data));
        if let Some(inode) = self.lock().all.get_mut(&ino.0) {
            inode.mtime = self.now();
        }
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(e) => reply.error(e),
        }
    }

    fn fallocate(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, len: u64, mode: i32, reply: ReplyEmpty) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let end = offset.saturating_add(len);
        let longer = |body: Arc<Body>| if end > body.size() { body.resize(end).map_err(Errno::from) } else { Ok(()) };
        done(reply, self.body(ino).and_then(longer));
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // As it is now: names go while somebody lists them.
        let mut nodes = self.lock();
        let names = match nodes.dir(ino.0) {
            Ok(names) => names.clone(),
            Err(e) => return reply.error(e),
        };
        let named = names.into_iter().filter_map(|(name, number)| Some((number, nodes.get(number).ok()?.kind(), name)));
        let list: Vec<Name> = named.collect();
        drop(nodes);
        let handle = self.next_list.fetch_add(1, Ordering::Relaxed);
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(list));
        reply.opened(FileHandle(handle), FopenFlags::empty());
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let list = self.lists.lock().unwrap_or_else(PoisonError::into_inner).get(&handle.0).cloned();
        let Some(list) = list else { return reply.error(Errno::EBADF) };
        let own = [&b"."[..], b".."].map(|name| (ino.0, FileType::Directory, name));
        let names = list.iter().map(|(number, kind, name)| (*number, *kind, name.as_slice()));
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (number, kind, name)) in own.into_iter().chain(names).enumerate().skip(skipped) {
            if reply.add(INodeNo(number), at as u64 + 1, kind, OsStr::from_bytes(name)) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        // There is as much room as for changed pages.
        match rustix::fs::statvfs(&self.beside) {
            Ok(s) => {
                let block = u32::try_from(s.f_frsize).unwrap_or(4096);
                reply.statfs(s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, block, 255, block);
            }
            Err(_) => reply.error(Errno::EIO),
        }
    }
}
