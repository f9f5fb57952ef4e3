//! Dumping one database with `pg_dump`, as a directory that `pg_restore` takes.
//!
//! What it is for: several tables at the same time, uncompressed, so that a table that did not change is not stored again.
//! `pg_dump` writes a file for each table into a private directory. As soon as it has closed one, its content is stored and
//! the file is removed: there need be room for the tables that are being written, not for all of them. Where room gets short
//! because storing is slower, `pg_dump` is paused. The entries follow at the end, in their order.
//! What it may not know: which databases there are, and why they are dumped.
//! Where data comes from and goes: files of `pg_dump` into a [`Capture`]; nothing is committed.

use super::client::{self, Brake, ClientError, Running, Said};
use super::script::settled;
use super::tools::Tools;
use super::wire::Server;
use crate::files::meta::Names;
use crate::stream::own_entry;

use repo::{Capture, ChunkId, Cut, Cutter, FileNode, Measured, Node, RepoError, Shape};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use store::{Timestamp, World};

pub use crate::leftover::Scratch;

/// How long `pg_dump` waits for a table that somebody has locked.
const LOCK_WAIT_MS: u32 = 300_000;
/// How long a look at the directory lasts.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How many ids are read at a time.
const IDS_MAX: usize = 4096;
const ID_BYTES: usize = 32;
/// Behind the ids of a file: bytes, chunks, digest.
const TRAILER_BYTES: usize = 8 + 8 + 32;
/// The longest script that is taken.
const SCRIPT_BYTES_MAX: u64 = 1 << 30;

/// What of a database is dumped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Only these tables, as patterns of `pg_dump`; all where there are none.
    pub tables: Vec<String>,
    /// Not these.
    pub exclude_tables: Vec<String>,
    /// Whether the rows of tables are taken.
    pub rows: Rows,
    /// Whether large objects are taken.
    pub blobs: Blobs,
}

/// Whether the rows of tables are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// They are.
    Taken,
    /// Definitions only.
    LeftOut,
}

/// Whether large objects are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blobs {
    /// Where a whole database is.
    WithTheDatabase,
    /// They are not.
    LeftOut,
}

impl Extent {
    /// Whether nothing is left out by the names of tables.
    pub fn is_whole(&self) -> bool {
        self.tables.is_empty() && self.exclude_tables.is_empty() && self.rows == Rows::Taken
    }
}

/// What to dump, and how.
pub struct DumpPlan<'a> {
    /// Whom to ask; its database is dumped.
    pub server: &'a Server,
    /// Programs of the server's version, or a later one.
    pub tools: &'a Tools,
    /// What of it.
    pub extent: &'a Extent,
    /// How many tables at the same time.
    pub jobs: u32,
    /// Path key of the directory that becomes of it, which holds `dump` and `schema.sql`.
    pub key: &'a [u8],
    /// Where a private directory may be made.
    pub scratch: &'a Path,
    /// Clock and the request to stop.
    pub world: &'a World,
}

/// What was dumped.
pub struct Dumped {
    /// The definitions, as SQL.
    pub schema: String,
    /// What `pg_dump` warned of.
    pub warnings: Vec<String>,
}

/// Why nothing was dumped.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// A program.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The private directory.
    #[error("cannot keep a dump in {}: {source}", dir.display())]
    Scratch {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

type Result<T> = std::result::Result<T, DumpError>;

/// How far it is: files and bytes since the last time, and the table that is read.
pub type On<'a> = &'a dyn Fn(u64, u64, Option<&str>);

/// Dumps a database into `into`, and gives the entries of `plan.key` and below, in order. Commits nothing.
///
/// # Errors
/// [`DumpError`]: the caller must not commit then.
pub fn dump(plan: &DumpPlan<'_>, into: &mut Capture<'_>, on: On<'_>) -> Result<Dumped> {
    let scratch = Scratch::create(plan.scratch, "dump-", plan.world).map_err(at(plan.scratch))?;
    let place = Place { dump: scratch.path().join("dump"), taken: scratch.path().join("taken") };
    for dir in [&place.dump, &place.taken] {
        DirBuilder::new().mode(0o700).create(dir).map_err(at(dir))?;
    }
    let said = run(plan, &place, into, on)?;
    let schema = schema(plan, &place)?;
    let now = plan.world.clock.now();
    let mut entries = Entries { into, names: Names::of_system(), now };
    entries.dir(plan.key)?;
    let inner = [plan.key, b"\0dump"].concat();
    entries.dir(&inner)?;
    place.give(&inner, &mut entries, on)?;
    entries.text(&[plan.key, b"\0schema.sql"].concat(), schema.as_bytes())?;
    Ok(Dumped { schema, warnings: said.warnings })
}

/// What a program writes to its standard output, as text.
///
/// # Errors
/// `Client`; `Scratch` for what is no text, or too long.
pub fn script(mut command: Command, name: &str, world: &World) -> Result<String> {
    command.stdout(Stdio::piped());
    let mut running = Running::start(command, name, world)?;
    let mut text = String::new();
    let read = running.output().map(|output| output.take(SCRIPT_BYTES_MAX).read_to_string(&mut text));
    running.finish()?;
    let failed = |why: String| ClientError::Failed { program: name.to_owned(), why };
    match read {
        Some(Err(e)) => Err(failed(format!("cannot read what it writes: {e}")).into()),
        _ if text.len() as u64 == SCRIPT_BYTES_MAX => Err(failed("it writes too much".into()).into()),
        _ => Ok(settled(&text)),
    }
}

fn at(dir: &Path) -> impl Fn(io::Error) -> DumpError + '_ {
    move |source| DumpError::Scratch { dir: dir.to_owned(), source }
}

/// Runs `pg_dump` and takes each file that it has closed.
fn run(plan: &DumpPlan<'_>, place: &Place, into: &mut Capture<'_>, on: On<'_>) -> Result<Said> {
    let mut command = client::command(plan.tools, "pg_dump", plan.server);
    command.args(["--format=directory", "--compress=0", "--no-sync", "--no-password", "--verbose"]);
    command.arg(format!("--jobs={}", plan.jobs)).arg(format!("--lock-wait-timeout={LOCK_WAIT_MS}"));
    command.args(plan.extent.tables.iter().map(|table| format!("--table={table}")));
    command.args(plan.extent.exclude_tables.iter().map(|table| format!("--exclude-table={table}")));
    if plan.extent.rows == Rows::LeftOut {
        command.arg("--schema-only");
    }
    if plan.extent.blobs == Blobs::LeftOut {
        command.arg("--no-blobs");
    }
    command.arg("--file").arg(&place.dump).arg(format!("--dbname={}", client::conninfo(&plan.server.database)));
    // Without it, all files wait for the end.
    let closing = Closing::watch(&place.dump).ok();
    let mut running = Running::start(command, "pg_dump", plan.world)?;
    let watch = Watch::over(&place.dump, running.brake());
    std::thread::scope(|scope| {
        scope.spawn(|| watch.run(plan.world));
        let _over = Over(&watch);
        let mut cutter = into.cutter();
        let mut closed: VecDeque<String> = VecDeque::new();
        while !running.has_ended()? {
            let patience = if closed.is_empty() { TICK } else { Timespec::default() };
            match &closing {
                Some(closing) => closed.extend(closing.wait(&patience).into_iter().filter(|name| is_final(name))),
                None => drop(poll(&mut [], Some(&patience))),
            }
            if let Some(name) = closed.pop_front() {
                watch.may_pause(true);
                let taken = place.take(&name, &mut cutter, into);
                // What it has written is stored: whether the rest fits is for it to find out.
                watch.may_pause(false);
                on(1, taken?, running.said().doing.as_deref());
            }
            on(0, 0, running.said().doing.as_deref());
        }
        Ok::<(), DumpError>(())
    })?;
    Ok(running.finish()?)
}

/// The definitions alone, of the same moment as the rows: from the table of contents.
fn schema(plan: &DumpPlan<'_>, place: &Place) -> Result<String> {
    let mut command = client::command(plan.tools, "pg_restore", plan.server);
    command.args(["--schema-only", "--file=-"]).arg(&place.dump);
    script(command, "pg_restore", plan.world)
}

/// Whether a file is written once and not again: rows of a table, or a large object. Tables of contents are added to.
fn is_final(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".dat") else { return false };
    let number = stem.strip_prefix("blob_").unwrap_or(stem);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// How much of the free room at the beginning is left before `pg_dump` is paused, as one part of so many.
const RESERVE: u64 = 4;

/// How often the room is looked at.
const ROOM_TICK: Duration = Duration::from_millis(5);

/// Watches the room on the way: where files are stored more slowly than they are written, the writer waits.
struct Watch {
    dir: PathBuf,
    reserve: u64,
    brake: Brake,
    /// Whether a file is being stored, so that there will be more room.
    busy: Mutex<bool>,
    over: AtomicBool,
}

impl Watch {
    fn over(dir: &Path, brake: Brake) -> Watch {
        let reserve = free(dir) / RESERVE;
        Watch { dir: dir.to_owned(), reserve, brake, busy: Mutex::new(false), over: AtomicBool::new(false) }
    }

    fn may_pause(&self, busy: bool) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = busy;
        if !busy {
            self.brake.resume();
        }
    }

    fn run(&self, world: &World) {
        while !self.over.load(Ordering::Relaxed) {
            if free(&self.dir) < self.reserve {
                // Held meanwhile: nobody looks whether the program has ended while a file is being stored.
                let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
                if *busy {
                    self.brake.pause();
                }
            }
            world.clock.sleep(ROOM_TICK);
        }
    }
}

/// Ends a watch, whatever happens.
struct Over<'a>(&'a Watch);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Bytes that are free; as many as there can be where nobody can tell.
fn free(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(u64::MAX, |space| space.f_bavail.saturating_mul(space.f_frsize.max(1)))
}

/// Hears of files in a directory that whoever wrote them has closed.
struct Closing(OwnedFd);

impl Closing {
    fn watch(dir: &Path) -> rustix::io::Result<Closing> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&fd, dir, inotify::WatchFlags::CLOSE_WRITE)?;
        Ok(Closing(fd))
    }

    /// The names of those that were closed since the last time, or within this time. What it misses is there at the end.
    fn wait(&self, patience: &Timespec) -> Vec<String> {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(patience)).ok();
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        while let Ok(event) = reader.next() {
            names.extend(event.file_name().and_then(|name| name.to_str().ok()).map(str::to_owned));
        }
        names
    }
}

/// The private directory: what `pg_dump` writes, and for each file that was stored already, its chunks.
struct Place {
    dump: PathBuf,
    taken: PathBuf,
}

impl Place {
    /// Stores the content of a file, notes its chunks, and removes it. Returns its length.
    fn take(&self, name: &str, cutter: &mut Cutter, into: &mut Capture<'_>) -> Result<u64> {
        let (from, to) = (self.dump.join(name), self.taken.join(name));
        let mut file = File::open(&from).map_err(at(&from))?;
        let mut noted = BufWriter::new(File::create(&to).map_err(at(&to))?);
        let measured = cutter.cut(Shape::Stream, &mut file, &mut |cut: Cut| {
            let id = into.store_ahead(cut)?;
            noted.write_all(&id.0).map_err(RepoError::Outside)
        })?;
        noted.write_all(&trailer(&measured)).and_then(|()| noted.flush()).map_err(at(&to))?;
        std::fs::remove_file(&from).map_err(at(&from))?;
        Ok(measured.bytes)
    }

    /// Gives an entry for each file, in order.
    fn give(&self, key: &[u8], entries: &mut Entries<'_, '_>, on: On<'_>) -> Result<()> {
        let mut names = Vec::new();
        for dir in [&self.dump, &self.taken] {
            for entry in std::fs::read_dir(dir).map_err(at(dir))? {
                let name = entry.map_err(at(dir))?.file_name().into_string();
                let name = name.map_err(|_| at(dir)(io::Error::other("a file has a name that is no text")))?;
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            let key = [key, b"\0", name.as_bytes()].concat();
            let (taken, left) = (self.taken.join(&name), self.dump.join(&name));
            match File::open(&taken) {
                Ok(file) => {
                    let node = reuse(file, entries.into).map_err(|e| match e {
                        RepoError::Outside(e) => at(&taken)(e),
                        e => e.into(),
                    })?;
                    entries.file(&key, node)?;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let bytes = entries.content(&key, &mut File::open(&left).map_err(at(&left))?)?;
                    on(1, bytes, None);
                }
                Err(e) => return Err(at(&taken)(e)),
            }
        }
        Ok(())
    }
}

fn trailer(measured: &Measured) -> [u8; TRAILER_BYTES] {
    let mut bytes = [0; TRAILER_BYTES];
    bytes[..8].copy_from_slice(&measured.bytes.to_le_bytes());
    bytes[8..16].copy_from_slice(&measured.chunks.to_le_bytes());
    bytes[16..].copy_from_slice(&measured.digest);
    bytes
}

/// Gives the noted chunks to the next entry, which is this one.
fn reuse(file: File, into: &mut Capture<'_>) -> std::result::Result<FileNode, RepoError> {
    let mut noted = BufReader::new(file);
    let mut trailer = [0; TRAILER_BYTES];
    let read = noted.seek(SeekFrom::End(-(TRAILER_BYTES as i64))).and_then(|_| noted.read_exact(&mut trailer));
    read.and_then(|()| noted.rewind()).map_err(RepoError::Outside)?;
    let number = |from: usize| trailer[from..from + 8].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let (size, chunks) = (number(0), number(8));
    let mut digest = [0; 32];
    digest.copy_from_slice(&trailer[16..]);
    let mut left = chunks;
    while left > 0 {
        let count = left.min(IDS_MAX as u64) as usize;
        let mut bytes = vec![0; count * ID_BYTES];
        noted.read_exact(&mut bytes).map_err(RepoError::Outside)?;
        let ids: Vec<ChunkId> = bytes.as_chunks::<ID_BYTES>().0.iter().map(|id| ChunkId(*id)).collect();
        let known = into.reuse(&ids)?;
        assert!(known, "what this run stored is known to it");
        left -= count as u64;
    }
    Ok(node(size, chunks, digest))
}

fn node(size: u64, chunks: u64, digest: [u8; 32]) -> FileNode {
    FileNode { size, chunks, digest: (chunks > 1).then_some(digest), extents: None }
}

/// Gives entries that belong to whoever runs this.
pub struct Entries<'c, 'r> {
    into: &'c mut Capture<'r>,
    names: Names,
    now: Timestamp,
}

impl<'c, 'r> Entries<'c, 'r> {
    /// Into this capture, dated now.
    pub fn new(into: &'c mut Capture<'r>, world: &World) -> Entries<'c, 'r> {
        Entries { into, names: Names::of_system(), now: world.clock.now() }
    }

    /// A directory.
    ///
    /// # Errors
    /// Whatever the repository returns.
    pub fn dir(&mut self, key: &[u8]) -> std::result::Result<(), RepoError> {
        self.into.entry(&own_entry(key.to_vec(), Node::Dir, self.now, &self.names))
    }

    /// A file with this text in it.
    ///
    /// # Errors
    /// Whatever the repository returns.
    pub fn text(&mut self, key: &[u8], mut text: &[u8]) -> std::result::Result<(), RepoError> {
        self.content(key, &mut text).map(drop)
    }

    fn content(&mut self, key: &[u8], from: &mut dyn Read) -> std::result::Result<u64, RepoError> {
        let measured = self.into.cutter().cut(Shape::Stream, from, &mut |cut| self.into.chunk(cut))?;
        self.file(key, node(measured.bytes, measured.chunks, measured.digest))?;
        Ok(measured.bytes)
    }

    fn file(&mut self, key: &[u8], node: FileNode) -> std::result::Result<(), RepoError> {
        self.into.entry(&own_entry(key.to_vec(), Node::File(node), self.now, &self.names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_once_is_taken_before_the_end() {
        for (name, expect) in [
            ("3345.dat", true),
            ("blob_16401.dat", true),
            ("toc.dat", false),
            ("blobs.toc", false),
            ("blobs_4001.toc", false),
            (".dat", false),
            ("blob_.dat", false),
            ("3345.dat.gz", false),
        ] {
            assert_eq!(is_final(name), expect, "{name}");
        }
    }

    #[test]
    fn a_file_is_heard_of_when_it_is_closed_and_not_before() {
        let dir = tempfile::tempdir().expect("makes");
        let closing = Closing::watch(dir.path()).expect("watches");
        let mut open = File::create(dir.path().join("1.dat")).expect("makes");
        open.write_all(b"half").expect("writes");
        std::fs::write(dir.path().join("2.dat"), b"whole").expect("writes");
        assert_eq!(closing.wait(&TICK), ["2.dat"]);
        drop(open);
        assert_eq!(closing.wait(&TICK), ["1.dat"]);
    }
}
