//! What hostile snapshots are made of, and the place that they are restored into.
//!
//! What it is for: bytes become entries that like to collide, to point outside and to lie about their content.
//! What it may not know: what is done with them.

use repo::{
    Assurance, Capture, CapturePlan, Compression, Entry, Extent, FileNode, Node, Outcome, PackSize, Process, RepoError,
    Repository, Snapshot, SnapshotReader,
};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Lanes, MemStore, Store, Timestamp, World};

/// Reads bytes; behind their end there are zeros.
pub(super) struct Bytes<'d>(pub(super) &'d [u8]);

impl<'d> Bytes<'d> {
    pub(super) fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes([self.u8(), self.u8(), self.u8(), self.u8()])
    }

    /// Small numbers often, the largest sometimes.
    fn size(&mut self) -> u64 {
        match self.u8() {
            255 => u64::MAX - u64::from(self.u8()),
            254 => i64::MAX as u64 - u64::from(self.u8()),
            253 => u64::from(self.u32()) << (self.u8() % 32),
            n => u64::from(n) * 64,
        }
    }

    fn take(&mut self, len: usize) -> &'d [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    fn sized(&mut self) -> &'d [u8] {
        let len = usize::from(self.u8());
        self.take(len)
    }
}

/// Chunks, and the entry that owns them.
pub(super) struct Thing {
    chunks: Vec<Vec<u8>>,
    pub(super) entry: Entry,
}

/// The things of one snapshot, in order; `left` snapshots share the bytes.
pub(super) fn things(bytes: &mut Bytes<'_>, left: u8) -> Vec<Thing> {
    let end = bytes.0.len() / usize::from(left);
    let mut own = Bytes(bytes.take(end));
    let mut things: Vec<Thing> = Vec::new();
    while !own.0.is_empty() && things.len() < 64 {
        let made = thing(&mut own);
        if !things.iter().any(|thing| thing.entry.key == made.entry.key) {
            things.push(made);
        }
    }
    things.sort_by(|a, b| a.entry.key.cmp(&b.entry.key));
    things
}

/// Few names, so that entries meet.
const NAMES: [&[u8]; 8] = [b"a", b"b", b"c", b"link", b"beside", b"target", b".backstay-a", b"\xff\n"];

fn key(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let shape = bytes.u8();
    if shape >= 250 {
        return bytes.sized().to_vec();
    }
    let depth = usize::from(shape % 4);
    let names: Vec<&[u8]> = (0..depth).map(|_| NAMES[usize::from(bytes.u8() % 8)]).collect();
    names.join(&0)
}

/// Where symbolic links of hostile snapshots lead: to what lies beside the target, mostly.
fn target(bytes: &mut Bytes<'_>) -> Vec<u8> {
    const TARGETS: [&[u8]; 8] =
        [b"..", b"../beside", b"../../beside", b"../../../beside", b"../file", b"a", b"/proc/self/cwd", b"link"];
    match bytes.u8() {
        n @ 0..=249 => TARGETS[usize::from(n % 8)].to_vec(),
        _ => bytes.sized().to_vec(),
    }
}

fn file(bytes: &mut Bytes<'_>) -> (Vec<Vec<u8>>, FileNode) {
    let shape = bytes.u8();
    let chunks: Vec<Vec<u8>> = (0..shape % 4).map(|_| bytes.sized().to_vec()).collect();
    let data = chunks.concat();
    let mut node = FileNode { size: data.len() as u64, chunks: chunks.len() as u64, digest: None, extents: None };
    if chunks.len() > 1 && shape & 8 == 0 {
        node.digest = Some(*blake3::hash(&data).as_bytes());
    }
    if shape & 16 != 0 {
        let extents = (0..bytes.u8() % 4).map(|_| Extent { hole: bytes.size(), data: bytes.size() });
        node.extents = Some(extents.collect());
    }
    if shape & 32 != 0 {
        // One stretch for all of the data, so that it fits.
        let hole = bytes.size() % (1 << 40);
        node.extents = Some(vec![Extent { hole, data: data.len() as u64 }]);
        node.size = hole + data.len() as u64;
    }
    if shape & 64 != 0 {
        node.size = bytes.size();
    }
    if shape & 128 != 0 {
        node.digest = Some([7; 32]);
    }
    (chunks, node)
}

fn thing(bytes: &mut Bytes<'_>) -> Thing {
    const XATTRS: [&[u8]; 6] =
        [b"user.a", b"security.capability", b"trusted.a", b"system.posix_acl_access", b"", b"user.\0"];
    let (kind, key) = (bytes.u8(), key(bytes));
    let mut chunks = Vec::new();
    let node = match kind % 9 {
        0..=2 => {
            let (own, node) = file(bytes);
            chunks = own;
            Node::File(node)
        }
        3 | 4 => Node::Dir,
        5 => Node::Symlink { target: target(bytes) },
        6 => Node::Fifo,
        7 => match bytes.u8() % 2 {
            0 => Node::CharDevice { major: bytes.u32(), minor: bytes.u32() },
            _ => Node::BlockDevice { major: bytes.u32(), minor: bytes.u32() },
        },
        _ => Node::HardLink { to: self::key(bytes) },
    };
    let more = kind >= 128;
    let mode = if more { bytes.u32() & 0o7777 } else { 0o755 };
    let mtime = if more { Timestamp::new(i64::from(bytes.u32() as i32) << (bytes.u8() % 32), 5) } else { Timestamp(0) };
    let xattrs = match more {
        true => (0..bytes.u8() % 3).map(|_| (XATTRS[usize::from(bytes.u8() % 6)].to_vec(), bytes.sized().to_vec())),
        false => return Thing { chunks, entry: plain(key, node, mode, mtime) },
    };
    let xattrs = xattrs.collect();
    let (uid, gid) = (u32::from(bytes.u8()), bytes.u32());
    let user = Some(bytes.sized().to_vec());
    Thing { chunks, entry: Entry { xattrs, uid, gid, user, ..plain(key, node, mode, mtime) } }
}

fn plain(key: Vec<u8>, node: Node, mode: u32, mtime: Timestamp) -> Entry {
    let (xattrs, user, group, changed, sqlite) = (Vec::new(), None, None, false, false);
    Entry { key, node, mode, uid: 0, gid: 0, mtime, xattrs, user, group, changed, sqlite }
}

/// Inputs of the restore, by hand: plain trees, links that a second snapshot goes through, holes, hard links.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let dir = [3, 1, 0];
    let file_in_dir = [0, 2, 0, 1, 2, 5, b'h', b'e', b'l', b'l', b'o', 1, b'!'];
    let link = [5, 1, 0, 1];
    let hard = [8, 2, 0, 2, 2, 0, 1];
    let sparse = [0, 1, 2, 33, 3, b'x', b'y', b'z', 200];
    let huge = [0, 1, 2, 64 + 16, 1, 255, 0, 0, 255, 0];
    let device = [135, 1, 1, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0xff, 0x0f, 0, 0, 1, 0, 0, 0, 0];
    let one = |options: u8, things: &[&[u8]]| [&[0, options, 0][..], &things.concat()].concat();
    // Both rounds have as many bytes: the shorter one is filled up with directories.
    let two = |options: u8, first: &[&[u8]], second: &[&[u8]]| {
        let (mut first, mut second) = (first.concat(), second.concat());
        while first.len() != second.len() {
            if first.len() < second.len() { first.push(3) } else { second.push(3) }
        }
        [&[1, options, 0][..], &first, &second].concat()
    };
    vec![
        one(0, &[&dir, &file_in_dir]),
        one(32, &[&dir, &file_in_dir, &hard]),
        one(0, &[&sparse]),
        one(0, &[&huge]),
        one(16, &[&device]),
        one(4, &[&dir, &file_in_dir, &sparse]),
        two(2, &[&link], &[&dir, &file_in_dir]),
        two(3, &[&dir, &file_in_dir], &[&link]),
        two(2, &[&dir, &file_in_dir], &[&dir, &hard, &file_in_dir]),
    ]
}

/// A repository in memory that a hostile writer fills.
pub(super) struct Site {
    repository: Repository,
}

impl Site {
    pub(super) fn new() -> Site {
        let world = World { lanes: Lanes::Inline, ..World::real() };
        let store = Store::new(Arc::new(MemStore::new()));
        let made = Repository::init(&store, &world, None, "fuzz", PackSize::Bytes(60_000));
        Site { repository: made.expect("is made").0 }
    }

    pub(super) fn world(&self) -> &World {
        self.repository.world()
    }

    pub(super) fn begin(&self) -> Capture<'_> {
        let plan = CapturePlan {
            host: "host".into(),
            user: "user".into(),
            kind: "files".into(),
            paths: vec!["/a".into(), "/".into()],
            tags: Vec::new(),
            source: None,
            reason: None,
            program: "fuzz".into(),
            process: Process::default(),
            compression: Compression::Off,
            time: None,
            assurance: Assurance::default(),
        };
        self.repository.capture(plan).expect("begins")
    }

    /// The snapshot of these things.
    ///
    /// # Errors
    /// When even a hostile writer cannot write it.
    pub(super) fn commit(&self, things: Vec<Thing>) -> Result<Snapshot, RepoError> {
        let mut capture = self.begin();
        let cutter = capture.cutter();
        for Thing { chunks, entry } in things {
            chunks.into_iter().try_for_each(|chunk| capture.chunk(cutter.whole(chunk)))?;
            capture.entry(&entry)?;
        }
        Ok(capture.commit(Outcome::default())?.snapshot)
    }

    pub(super) fn with_reader<T>(
        &self,
        snapshot: &Snapshot,
        work: impl FnOnce(&SnapshotReader) -> T,
    ) -> Result<T, RepoError> {
        Ok(work(&self.repository.reading(&Process::default())?.open(snapshot)?))
    }
}

/// A directory of its own, with a target to restore into and things beside it that must stay as they are.
pub(super) struct Place(PathBuf);

/// What is known of one thing beside the target.
type Seen = (PathBuf, u32, u64, i64, i64, u64, Vec<u8>);

impl Place {
    pub(super) fn new() -> Place {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let memory = Path::new("/dev/shm");
        let under = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let root = under.join(format!("backstay-fuzz-{}-{number}", std::process::id()));
        std::fs::create_dir_all(root.join("in/target")).expect("makes");
        for dir in ["", "in"] {
            std::fs::create_dir(root.join(dir).join("beside")).expect("makes");
            std::fs::write(root.join(dir).join("beside/kept"), b"kept").expect("writes");
            std::fs::write(root.join(dir).join("file"), b"kept").expect("writes");
        }
        Place(root)
    }

    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    pub(super) fn target(&self) -> PathBuf {
        self.0.join("in/target")
    }

    /// Everything beside the target: names, modes, owners, times, links, content.
    pub(super) fn beside(&self) -> Vec<Seen> {
        fn look(path: &Path, but: &Path, seen: &mut Vec<Seen>) {
            if path == but {
                return;
            }
            let meta = std::fs::symlink_metadata(path).expect("is there");
            let content = if meta.is_file() { std::fs::read(path).expect("reads") } else { Vec::new() };
            let owner = u64::from(meta.uid()) << 32 | u64::from(meta.gid());
            // The directory of the target changes with it, if the target itself is replaced.
            let times = (meta.mtime(), meta.mtime_nsec());
            seen.push((path.to_path_buf(), meta.mode(), owner, times.0, times.1, meta.nlink(), content));
            if meta.is_dir() {
                let mut names: Vec<PathBuf> =
                    std::fs::read_dir(path).expect("lists").map(|entry| entry.expect("lists").path()).collect();
                names.sort();
                names.iter().for_each(|name| look(name, but, seen));
            }
        }
        let mut seen = Vec::new();
        look(&self.0, &self.target(), &mut seen);
        seen
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Directories that a snapshot made unreadable cannot be emptied by everybody.
        std::fs::remove_dir_all(&self.0).ok();
    }
}
