//! A repository with as many chunks, packs, files and snapshots as a huge one, of which only the data is missing.
//!
//! Every chunk is real: cut, named, compressed, sealed, packed, indexed. But its content is a number and zeros, which
//! compress away, and packs are closed after about as many chunks as a pack of 16 MiB holds of real ones. So every count
//! that memory could grow with is that of a huge repository, and on the disk it is small. What it may not know: the inside
//! of the engine. Where data comes from and goes: counts in; a repository in a directory, its key, and the names of all
//! chunks in a file, as the cache of a backup keeps them, out.

use repo::{
    Assurance, Basis, Bundle, Capture, CapturePlan, ChunkId, Compression, Credential, Cut, Cutter, Entry, FileNode,
    Node, Outcome, PackSize, Process, RepoError, Repository,
};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{LocalStore, NetworkPolicy, Store, Timestamp, World};

/// One file of a hundred has other content in the second snapshot.
const CHANGED_EVERY: u64 = 100;
const FILES_IN_DIR: u64 = 1000;

/// How large.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Chunks of content.
    pub chunks: u64,
    /// Files.
    pub files: u64,
    /// Bytes of a chunk before compression. A group holds 512 KiB of them: this decides how many share a record.
    pub chunk_bytes: u64,
    /// Bytes at which a pack is closed.
    pub pack_bytes: u64,
}

/// Where it lies.
pub struct Home(PathBuf);

impl Home {
    /// All in this directory.
    pub fn new(dir: &Path) -> Home {
        Home(dir.to_owned())
    }

    /// The repository.
    pub fn repository(&self) -> PathBuf {
        self.0.join("repository")
    }

    /// Its key: a bundle, so that no passphrase's cost hides what is measured.
    pub fn key(&self) -> PathBuf {
        self.0.join("key")
    }

    fn ids(&self) -> PathBuf {
        self.0.join("ids")
    }

    fn basis(&self) -> PathBuf {
        self.0.join("basis")
    }
}

/// The path of the `n`-th file, as a person would write it.
pub fn path_of(n: u64) -> String {
    format!("/srv/data/{:05}/file-{n:08}.dat", n / FILES_IN_DIR)
}

/// What failed, in one line.
pub type Failed = String;

/// Makes the repository with its first snapshot.
///
/// # Errors
/// Whatever failed.
pub fn build(home: &Home, size: &Size) -> Result<(), Failed> {
    let local = LocalStore::create(&home.repository(), NetworkPolicy::Refuse).map_err(|e| e.to_string())?;
    let store = Store::new(Arc::new(local));
    let packs = PackSize::Bytes(u32::try_from(size.pack_bytes).map_err(|e| e.to_string())?);
    let (repository, bundle) = Repository::init(&store, &World::real(), None, "huge", packs).map_err(told)?;
    write_key(&home.key(), &bundle).map_err(about(&home.key()))?;
    let mut names = BufWriter::new(File::create(home.ids()).map_err(about(&home.ids()))?);
    let basis = run(&repository, size, &mut |capture, cutter, file| {
        for n in chunks_of(size, file) {
            let cut = chunk(cutter, size, n, 0);
            names.write_all(&cut.id.0)?;
            capture.chunk(cut)?;
        }
        Ok(())
    })?;
    names.flush().map_err(about(&home.ids()))?;
    std::fs::write(home.basis(), basis.to_bytes()).map_err(about(&home.basis()))
}

/// Adds the second snapshot: as a backup does that finds one file of a hundred changed, and remembers the others.
///
/// # Errors
/// Whatever failed.
pub fn increment(home: &Home, size: &Size) -> Result<(), Failed> {
    let local = LocalStore::open(&home.repository(), NetworkPolicy::Refuse).map_err(|e| e.to_string())?;
    let text = std::fs::read_to_string(home.key()).map_err(about(&home.key()))?;
    let credential = Credential::parse(&text).map_err(told)?;
    let repository = Repository::open(&Store::new(Arc::new(local)), &World::real(), &credential).map_err(told)?;
    let bytes = std::fs::read(home.basis()).map_err(about(&home.basis()))?;
    let basis = Basis::from_bytes(&bytes).ok_or("the basis is damaged")?;
    let mut names = BufReader::with_capacity(1 << 18, File::open(home.ids()).map_err(about(&home.ids()))?);
    run(&repository, size, &mut |capture, cutter, file| {
        if file == 0 && !capture.trusts(&basis) {
            return Err(RepoError::Limit("the second run does not trust what the first one remembered".into()));
        }
        let mut ids = Vec::new();
        for _ in chunks_of(size, file) {
            let mut id = ChunkId([0; 32]);
            names.read_exact(&mut id.0)?;
            ids.push(id);
        }
        if file % CHANGED_EVERY == 0 {
            return chunks_of(size, file).try_for_each(|n| capture.chunk(chunk(cutter, size, n, 1)));
        }
        capture.reuse_unchecked(&ids)
    })?;
    Ok(())
}

/// Gives the content of one file to a run.
type Give<'a> = &'a mut dyn FnMut(&mut Capture<'_>, &Cutter, u64) -> Result<(), RepoError>;

fn run(repository: &Repository, size: &Size, give: Give<'_>) -> Result<Basis, Failed> {
    let plan = CapturePlan {
        host: "huge".into(),
        user: "huge".into(),
        kind: "files".into(),
        paths: vec!["/srv/data".into()],
        tags: Vec::new(),
        source: None,
        reason: None,
        assurance: Assurance::default(),
        program: "huge".into(),
        process: Process::default(),
        compression: Compression::Level(-7),
        time: None,
    };
    let mut capture = repository.capture(plan).map_err(told)?;
    let cutter = capture.cutter();
    for dir in ["", "/srv", "/srv/data"] {
        capture.entry(&entry(dir, Node::Dir)).map_err(told)?;
    }
    for n in 0..size.files {
        let path = path_of(n);
        if n % FILES_IN_DIR == 0
            && let Some((dir, _)) = path.rsplit_once('/')
        {
            capture.entry(&entry(dir, Node::Dir)).map_err(told)?;
        }
        give(&mut capture, &cutter, n).map_err(told)?;
        let chunks = chunks_of(size, n).count() as u64;
        // As real digests do, it does not compress.
        let digest = (chunks > 1).then(|| cutter.id_of(&n.to_le_bytes()).0);
        let file = FileNode { size: chunks * size.chunk_bytes, chunks, digest, extents: None };
        capture.entry(&entry(&path, Node::File(file))).map_err(told)?;
    }
    Ok(capture.commit(Outcome::default()).map_err(told)?.basis)
}

/// The chunks of a file, by number: all files together have them all, in order.
fn chunks_of(size: &Size, file: u64) -> std::ops::Range<u64> {
    let first = |file: u64| (u128::from(file) * u128::from(size.chunks) / u128::from(size.files)) as u64;
    first(file)..first(file + 1)
}

fn chunk(cutter: &Cutter, size: &Size, n: u64, generation: u64) -> Cut {
    let mut data = vec![0; size.chunk_bytes as usize];
    data[..8].copy_from_slice(&n.to_le_bytes());
    data[8..16].copy_from_slice(&generation.to_le_bytes());
    cutter.whole(data)
}

fn entry(path: &str, node: Node) -> Entry {
    Entry {
        key: path.trim_start_matches('/').replace('/', "\0").into_bytes(),
        node,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp::new(1_700_000_000, 123_456_789),
        xattrs: Vec::new(),
        user: Some(b"user".to_vec()),
        group: Some(b"group".to_vec()),
        changed: false,
        sqlite: false,
    }
}

fn write_key(path: &Path, bundle: &Bundle) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bundle.to_json().as_bytes())
}

fn told(e: RepoError) -> Failed {
    e.to_string()
}

fn about(path: &Path) -> impl Fn(std::io::Error) -> Failed {
    let path = path.display().to_string();
    move |e| format!("{path}: {e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_share_all_chunks_in_order() {
        let size = Size { chunks: 23, files: 7, chunk_bytes: 16, pack_bytes: 1024 };
        let all: Vec<u64> = (0..7).flat_map(|file| chunks_of(&size, file)).collect();
        assert_eq!(all, (0..23).collect::<Vec<_>>());
    }

    #[test]
    fn the_repository_is_sound_and_has_the_counts_asked_for() {
        let dir = std::env::temp_dir().join(format!("huge-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let home = Home::new(&dir);
        let size = Size { chunks: 5_000, files: 1_200, chunk_bytes: 8192, pack_bytes: 1024 };
        build(&home, &size).unwrap();
        increment(&home, &size).unwrap();
        let local = LocalStore::open(&home.repository(), NetworkPolicy::Refuse).unwrap();
        let credential = Credential::parse(&std::fs::read_to_string(home.key()).unwrap()).unwrap();
        let repository = Repository::open(&Store::new(Arc::new(local)), &World::real(), &credential).unwrap();
        let snapshots = repository.snapshots().unwrap();
        let counts = |n: usize| (snapshots[n].public.stats.files, snapshots[n].public.content.count);
        assert_eq!([counts(0), counts(1)], [(1_200, 5_000); 2]);
        let plan = repo::VerifyPlan {
            depth: repo::Depth::Decoded,
            share: repo::Share::All,
            snapshots: None,
            process: Process::default(),
        };
        let report = repository.verify(&plan, &|_| {}).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert!(report.chunks > 5_000, "{}", report.chunks);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
