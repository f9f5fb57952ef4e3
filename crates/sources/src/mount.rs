//! Snapshots as file systems, through the kernel's FUSE and without libfuse.
//!
//! What it is for: [`Mounted`] is a mount for as long as it lives. `snapshots` answers the kernel, and `writable` where
//! it may be written to; `view` finds things in a snapshot, `content` their bytes.
//! What it may not know: which snapshots somebody wants, terminals.
//! Where data comes from and goes: a [`repo::Opener`] and the records of snapshots in; answers to the kernel out.

mod attr;
mod body;
mod content;
mod forest;
mod snapshots;
#[cfg(test)]
mod tests;
mod trouble;
mod view;
mod writable;

pub use trouble::OnTrouble;
pub use writable::Part;

use attr::Owner;
use content::Cache;
use forest::Forest;
use fuser::{MountOption, Session, SessionACL, SessionUnmounter};
use repo::{Node, Opener, RepoError, Snapshot, SnapshotReader, path_of_key};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Resource, Rlimit};
use snapshots::{Root, SNAPSHOTS_MAX, Snapshots};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use store::World;
use trouble::Teller;
use view::View;
use writable::Writable;

const DEVICE: &str = "/dev/fuse";
/// The most threads that answer the kernel.
const THREADS_MAX: usize = 8;
/// How long the threads may take to end once nothing is mounted any more.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Who may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Whoever mounted it, whatever the modes of files say.
    Owner,
    /// Everybody, as far as modes and owners of files let them.
    All,
}

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Showing {
    /// Directories of snapshots: by time, id, host, tag and source.
    All,
    /// What is under this path key of the only snapshot.
    One(Vec<u8>),
}

/// How to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPlan {
    /// An empty directory.
    pub dir: PathBuf,
    /// What to show there.
    pub showing: Showing,
    /// Who may look.
    pub audience: Audience,
    /// About how many bytes of content are kept in memory.
    pub cache_bytes: usize,
}

/// Why nothing is mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel has no FUSE.
    #[error("cannot mount: there is no {DEVICE}")]
    NoDevice,
    /// It has, but not for this user.
    #[error("cannot mount: this user may not open {DEVICE}: {0}")]
    Forbidden(io::Error),
    /// Who may not mount needs a program that is not there.
    #[error("cannot mount: this user may not, and the program that may, fusermount3, is not there")]
    NoHelper,
    /// That program does not let others look.
    #[error("cannot mount for others: only root may, unless /etc/fuse.conf says user_allow_other")]
    NotForOthers,
    /// A mount whose program was killed is there.
    #[error("{} is what is left of a mount whose program was killed", .0.display())]
    Left(PathBuf),
    /// Not an empty directory.
    #[error("{} {why}", dir.display())]
    BadDirectory {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The snapshot has nothing there.
    #[error("the snapshot has nothing at {}", repo::percent_path(.0))]
    NotInSnapshot(Vec<u8>),
    /// What is there is not a directory.
    #[error("{} is not a directory", repo::percent_path(.0))]
    NotADirectory(Vec<u8>),
    /// Anything else.
    #[error("cannot mount at {}: {source}", dir.display())]
    Other {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// Something that is mounted, until this is dropped or [`Mounted::end`] is called.
pub struct Mounted {
    dir: PathBuf,
    unmounter: SessionUnmounter,
    thread: Option<JoinHandle<io::Result<()>>>,
    world: World,
}

/// Mounts snapshots, which must be in the order of commits. When this returns, what is there can be read.
///
/// # Errors
/// [`MountError`]; nothing is mounted then.
pub fn mount(
    plan: &MountPlan,
    (opener, mut snapshots): (Opener, Vec<Snapshot>),
    world: &World,
    on: OnTrouble,
) -> Result<Mounted, MountError> {
    check(&plan.dir)?;
    let other = |source| MountError::Other { dir: plan.dir.clone(), source };
    let teller = Arc::new(Teller::new(on));
    let cache = Cache::new(plan.cache_bytes).map_err(other)?;
    // Numbers are for the newest.
    snapshots.drain(..snapshots.len().saturating_sub(SNAPSHOTS_MAX));
    let root = match &plan.showing {
        Showing::All => Root::All(Forest::of(&snapshots)),
        Showing::One(key) => {
            let missing = || MountError::NotInSnapshot(path_of_key(key));
            let reader = opener.open(snapshots.first().ok_or_else(missing)?)?;
            let found = View::new(reader, Arc::clone(&teller)).find(key).map_err(|_| missing())?;
            if !matches!(found.node(), Node::Dir) {
                return Err(MountError::NotADirectory(path_of_key(key)));
            }
            Root::One(found.spot)
        }
    };
    let owner = Owner::here();
    let system = Snapshots::new((opener, snapshots), root, owner, (teller, cache));
    Mounted::start(system, &plan.dir, (plan.audience, &[MountOption::RO]), world)
}

/// How to mount a snapshot that can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritablePlan {
    /// An empty directory.
    pub dir: PathBuf,
    /// Where changed pages go, as files without names; may be filled.
    pub beside: PathBuf,
    /// What is there.
    pub parts: Vec<Part>,
    /// About how many bytes of content are kept in memory.
    pub cache_bytes: usize,
}

/// Mounts directories of a snapshot to be written to. What is written goes with the mount; the snapshot stays as it is. Root
/// lets everybody look as far as modes let them, since what runs there is another user's; others look alone, and own it all.
///
/// # Errors
/// [`MountError`]; `Repo` also when an entry cannot be read. Nothing is mounted then.
pub fn mount_writable(
    plan: &WritablePlan,
    reader: SnapshotReader,
    world: &World,
    on: OnTrouble,
) -> Result<Mounted, MountError> {
    check(&plan.dir)?;
    let other = |source| MountError::Other { dir: plan.dir.clone(), source };
    raise_limit();
    let cache = Cache::new(plan.cache_bytes).map_err(other)?;
    let view = Arc::new(View::new(reader, Arc::new(Teller::new(on))));
    let owner = Owner::here();
    let audience = if owner.uid == 0 { Audience::All } else { Audience::Owner };
    let system = Writable::load((view, &plan.parts), cache, (&plan.beside, owner), world)?;
    Mounted::start(system, &plan.dir, (audience, &[]), world)
}

/// Each file with changed pages is open for as long as it is there.
fn raise_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Without it there is less room, which whoever writes is told.
    rustix::process::setrlimit(Resource::Nofile, most).unwrap_or_default();
}

/// Whether a directory can be mounted at: what fails later is harder to understand.
fn check(dir: &Path) -> Result<(), MountError> {
    let bad = |why: &str| MountError::BadDirectory { dir: dir.to_owned(), why: why.to_owned() };
    match std::fs::read_dir(dir) {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOTCONN.raw_os_error()) => {
            return Err(MountError::Left(dir.to_owned()));
        }
        Err(e) if e.kind() == ErrorKind::NotADirectory => return Err(bad("is not a directory")),
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(bad("does not exist")),
        Err(e) => return Err(bad(&format!("cannot be read: {e}"))),
        Ok(mut names) => {
            if names.next().is_some() {
                return Err(bad("is not empty"));
            }
        }
    }
    match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(MountError::NoDevice),
        // The device of a module that is not there.
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Err(MountError::NoDevice),
        Err(e) => Err(MountError::Forbidden(e)),
    }
}

impl Mounted {
    fn start(
        system: impl fuser::Filesystem,
        dir: &Path,
        (audience, options): (Audience, &[MountOption]),
        world: &World,
    ) -> Result<Mounted, MountError> {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let mut config = fuser::Config::default();
        config.mount_options = [MountOption::FSName("backstay".into()), MountOption::Subtype("backstay".into())].into();
        config.mount_options.extend([MountOption::NoDev, MountOption::NoSuid, MountOption::NoAtime]);
        config.mount_options.extend_from_slice(options);
        if audience == Audience::All {
            config.acl = SessionACL::All;
            config.mount_options.push(MountOption::DefaultPermissions);
        }
        config.n_threads = Some(world.lanes.count().clamp(2, THREADS_MAX));
        config.clone_fd = true;
        let mut session = Session::new(system, &dir, &config).map_err(|e| refused(&dir, audience, e))?;
        let unmounter = session.unmount_callable();
        let thread = std::thread::Builder::new().name("mount".into()).spawn(move || session.run());
        let thread = thread.map_err(|source| MountError::Other { dir: dir.clone(), source })?;
        Ok(Mounted { dir, unmounter, thread: Some(thread), world: world.clone() })
    }

    /// Whether it still is mounted: somebody may have unmounted it.
    pub fn stands(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Unmounts. What is open there fails from now on.
    ///
    /// # Errors
    /// What the system says, when it is still there.
    pub fn end(mut self) -> io::Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if !thread.is_finished() {
            let unmounted = self.unmounter.unmount();
            // Somebody is in there. Whoever ends this wants it gone.
            let unmounted = unmounted
                .or_else(|_| Ok::<(), io::Error>(unmount(&self.dir, UnmountFlags::FORCE | UnmountFlags::DETACH)?));
            let began = self.world.clock.monotonic();
            while !thread.is_finished() && self.world.clock.monotonic().saturating_sub(began) < END_PATIENCE {
                self.world.clock.sleep(Duration::from_millis(5));
            }
            unmounted?;
        }
        // Threads that still wait for somebody's open file end with the program.
        if thread.is_finished() {
            return thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that answered the kernel failed")));
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What is left says so to whoever mounts there again.
        self.finish().unwrap_or_default();
    }
}

/// What a refusal means.
fn refused(dir: &Path, audience: Audience, error: io::Error) -> MountError {
    let root = rustix::process::geteuid().is_root();
    match error.kind() {
        // The directory and the device are there: it is the program that mounts for those who may not.
        ErrorKind::NotFound => MountError::NoHelper,
        ErrorKind::PermissionDenied if audience == Audience::All && !root => MountError::NotForOthers,
        _ => {
            // The program that mounts says what it says in lines.
            let words = error.to_string();
            let first = words.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("refused").to_owned();
            MountError::Other { dir: dir.to_owned(), source: io::Error::other(first) }
        }
    }
}
