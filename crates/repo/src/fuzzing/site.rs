//! A repository that hostile objects are put into: the same in every run, so that a corpus can name what is in it.
//!
//! What it may not know: what is done to it. What was put into it is taken out before the next use.

use crate::capture::{CapturePlan, Outcome};
use crate::crypt::{Secret, Signing};
use crate::entry::{Entry, FileNode, Node};
use crate::head::Snapshot;
use crate::id::{DomainId, RunId};
use crate::intent::Process;
use crate::keys::{Bundle, DomainKeys};
use crate::pipeline::Assurance;
use crate::repository::{PackSize, Repository};
use crate::runs::Runs;
use crate::seal::Compression;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::{Clock, Entropy, Key, Lanes, MemStore, Shelf, Stop, Store, Timestamp, World};

/// A repository with one snapshot, whose owner's keys are at hand.
pub(super) struct Site {
    pub(super) mem: MemStore,
    pub(super) repository: Repository,
    pub(super) owner: Bundle,
    pub(super) snapshot: Snapshot,
    pub(super) keys: DomainKeys,
    pub(super) signing: Signing,
    kept: BTreeSet<Key>,
}

thread_local! {
    static SITE: Site = Site::new();
}

/// Hands out the site as it was made.
pub(super) fn with<T>(work: impl FnOnce(&Site) -> T) -> T {
    SITE.with(|site| {
        let added: Vec<Key> = site.mem.keys().into_iter().filter(|key| !site.kept.contains(key)).collect();
        added.iter().for_each(|key| site.mem.remove(key));
        work(site)
    })
}

/// Bytes that look random and are the same in every run; a clock that stands still; no threads.
struct Fixed(AtomicU64);

impl Entropy for Fixed {
    fn fill(&self, into: &mut [u8]) {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(into);
    }
}

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::new(1_700_000_000, 0)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) {}
}

impl Site {
    fn new() -> Site {
        let fixed = Arc::new(Fixed(AtomicU64::new(1)));
        let clock: Arc<dyn Clock> = Arc::clone(&fixed) as _;
        let world = World { clock, entropy: fixed, lanes: Lanes::Inline, stop: Stop::default() };
        let mem = MemStore::new();
        let store = Store::new(Arc::new(mem.clone()));
        let (repository, owner) =
            Repository::init(&store, &world, None, "owner", PackSize::Bytes(60_000)).expect("is made");
        let mut capture = repository.capture(plan()).expect("begins");
        for entry in entries() {
            if let Node::File(file) = &entry.node {
                for number in 0..file.chunks {
                    let len = (file.data_bytes() / file.chunks) as usize;
                    let cut = capture.cutter().whole(vec![number as u8; len]);
                    capture.chunk(cut).expect("stores");
                }
            }
            capture.entry(&entry).expect("adds");
        }
        let snapshot = capture.commit(Outcome::default()).expect("commits").snapshot;
        let (keys, signing) = repository.keyring.writing().expect("an owner writes");
        let kept = mem.keys().into_iter().collect();
        Site { mem, repository, owner, snapshot, keys, signing, kept }
    }

    pub(super) fn store(&self) -> &Store {
        &self.repository.store
    }

    pub(super) fn domain(&self) -> DomainId {
        self.keys.domain
    }

    pub(super) fn run(&self) -> RunId {
        self.snapshot.record.run
    }

    /// The data key of the run that made the snapshot.
    pub(super) fn data_key(&self) -> Secret {
        let identity = self.repository.keyring.opening().expect("an owner reads");
        Runs::new(self.store(), self.repository.id(), identity).keys(self.run()).expect("is there").remove(0)
    }

    /// Puts an object under the hash of its bytes, behind `label` where there is one.
    pub(super) fn put(&self, shelf: Shelf, label: &str, object: &[u8]) -> Key {
        let hash = blake3::hash(object).to_hex();
        let name = if label.is_empty() { hash.to_string() } else { format!("{label}.{hash}") };
        let key = Key::new(shelf, name).expect("labels are good names");
        self.store().put_new(&key, object).expect("memory takes it");
        key
    }
}

fn plan() -> CapturePlan {
    CapturePlan {
        host: "host".into(),
        user: "user".into(),
        kind: "files".into(),
        paths: vec!["/d".into()],
        tags: vec!["daily".into()],
        source: Some("shop/db".into()),
        reason: Some("upgrade".into()),
        program: "backstay".into(),
        process: Process::default(),
        compression: Compression::Level(3),
        time: None,
        assurance: Assurance::default(),
    }
}

/// One entry of each kind.
pub(super) fn entries() -> Vec<Entry> {
    let file = |size, chunks| FileNode { size, chunks, digest: None, extents: None };
    let sparse = FileNode { extents: Some(vec![crate::entry::Extent { hole: 4096, data: 900 }]), ..file(9000, 1) };
    let nodes: [(&[u8], Node); 9] = [
        (b"", Node::Dir),
        (b"d", Node::Dir),
        (b"d\0block", Node::BlockDevice { major: 8, minor: 1 }),
        (b"d\0char", Node::CharDevice { major: 1, minor: 3 }),
        (b"d\0fifo", Node::Fifo),
        (b"d\0file", Node::File(FileNode { digest: Some([7; 32]), ..file(6000, 3) })),
        (b"d\0hard", Node::HardLink { to: b"d\0file".to_vec() }),
        (b"d\0link", Node::Symlink { target: b"../etc".to_vec() }),
        (b"d\0sparse", Node::File(sparse)),
    ];
    let entry = |(key, node): (&[u8], Node)| Entry {
        key: key.to_vec(),
        node,
        mode: 0o755,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp::new(1_600_000_000, 5),
        xattrs: vec![(b"user.a".to_vec(), b"b".to_vec())],
        user: Some(b"user".to_vec()),
        group: Some(b"group".to_vec()),
        changed: key.ends_with(b"file"),
        sqlite: false,
    };
    nodes.into_iter().map(entry).collect()
}
