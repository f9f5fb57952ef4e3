//! Doing more than a server asked for: it asks for one file of its log at a time, and starts a program for each.
//!
//! What it is for: a call that stores a segment also stores those that wait behind it, several at once, and one that fetches a
//! segment also fetches those that come next; the calls that follow are answered from what is remembered, without opening the
//! repository.
//! What it may not know: terminals. Where data comes from and goes: `pg_wal` into the archive and back; digests of what was
//! stored ahead into the state directory, segments that were fetched ahead into the cache.
//!
//! A file is answered for only when these very bytes are durable in the repository. Nothing is ever dropped: where the
//! repository cannot be reached the server keeps its log, and is told how much of it waits.

use super::archive::{Archive, Pushed, keep};
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::open::{place_digest, read_memory, write_memory};
use serde::{Deserialize, Serialize};
use sources::postgres::wal::{Name, WalFile};
use std::collections::VecDeque;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use store::Timestamp;

/// How much is stored by one call at most.
const PUSH_BYTES_MAX: u64 = 512 << 20;
/// How much is fetched by one call at most. It lies in the cache until the server asks for it.
const FETCH_BYTES_MAX: u64 = 128 << 20;
/// What is worked on at the same time takes three times its length of memory.
const LANES_BYTES_MAX: u64 = 192 << 20;
const LANES_MAX: u64 = 4;
/// What was stored or fetched ahead longer ago is not believed: it may have been for another repository at this place.
const TRUST: Duration = Duration::from_secs(300);

/// The archive of a source as it is known before a repository is opened.
pub struct Place<'a> {
    /// Address of the repository.
    pub repository: &'a str,
    /// Platform and source.
    pub source: &'a str,
}

impl Place<'_> {
    fn digest(&self) -> String {
        let digest = blake3::Hasher::new()
            .update(place_digest(self.repository).as_bytes())
            .update(self.source.as_bytes())
            .finalize();
        digest.to_hex()[..32].to_owned()
    }

    fn memory(&self, ctx: &Ctx) -> PathBuf {
        ctx.state_dir.join(format!("wal-ahead-{}.json", self.digest()))
    }

    fn fetched(&self, ctx: &Ctx) -> PathBuf {
        ctx.cache_dir.join("wal-ahead").join(self.digest())
    }
}

/// What was stored before the server asked for it.
#[derive(Serialize, Deserialize)]
struct Memory {
    v: u32,
    /// When, in seconds since 1970.
    at: i64,
    /// Name and digest of each.
    files: Vec<(String, String)>,
}

/// Whether an earlier call stored this file, with these bytes.
pub fn was_stored(ctx: &Ctx, place: &Place<'_>, path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let Ok(Some(memory)) = read_memory::<Memory>(&place.memory(ctx)) else { return false };
    let known = memory.files.iter().find(|(known, _)| known == name).map(|(_, digest)| digest);
    let fresh = memory.v == 1 && is_fresh(ctx, Timestamp::new(memory.at, 0));
    // Read only when it may be worth it.
    let same = |known: &String| {
        let mut hasher = blake3::Hasher::new();
        let read = std::fs::File::open(path).and_then(|file| hasher.update_reader(file).map(drop));
        read.is_ok() && hasher.finalize().to_hex().as_str() == known
    };
    fresh && known.is_some_and(same)
}

/// Stores a file, and those that wait behind it. What became of those is for the calls that ask for them: this is about
/// `path` alone.
///
/// # Errors
/// As [`Archive::push`].
pub fn push(ctx: &Ctx, archive: &Archive<'_>, place: &Place<'_>, path: &Path) -> Result<Pushed, Failure> {
    let behind = waiting(path);
    let Some(bytes) = path.metadata().ok().map(|meta| meta.len()).filter(|_| !behind.is_empty()) else {
        return Ok(archive.push(ctx, path)?.0);
    };
    let most = (PUSH_BYTES_MAX / bytes.max(1)) as usize;
    let queue: Vec<&PathBuf> = behind.iter().take(most.saturating_sub(1)).collect();
    let asked = Mutex::new(None);
    let stored = Mutex::new(Vec::new());
    let first = path.to_owned();
    in_lanes(bytes, std::iter::once(&first).chain(queue), |file| {
        let done = archive.push(ctx, file);
        let good = done.is_ok();
        match (&done, file.file_name().and_then(|name| name.to_str())) {
            _ if *file == first => *asked.lock().expect("no holder panics") = Some(done),
            (Ok((_, digest)), Some(name)) => {
                stored.lock().expect("no holder panics").push((name.to_owned(), digest.to_hex().to_string()));
            }
            _ => {}
        }
        good
    });
    let memory =
        Memory { v: 1, at: ctx.world.clock.now().secs(), files: stored.into_inner().expect("no holder panics") };
    if let Err(e) = write_memory(&place.memory(ctx), &memory) {
        ctx.remark(format!("cannot remember what was archived ahead of time: {e}"));
    }
    let asked = asked.into_inner().expect("no holder panics");
    Ok(asked.expect("the first of a queue is always taken")?.0)
}

/// Fetches a file into `into`, and those that come next into the cache.
///
/// # Errors
/// As [`Archive::fetch`].
pub fn fetch(ctx: &Ctx, archive: &Archive<'_>, place: &Place<'_>, name: &str, into: &Path) -> Result<bool, Failure> {
    let dir = place.fetched(ctx);
    forget(ctx, &dir);
    let found = archive.fetch(name, into)?;
    let Some((segment, bytes)) = segment_of(name).zip(into.metadata().ok().map(|meta| meta.len())).filter(|_| found)
    else {
        return Ok(found);
    };
    let number = segment.number(bytes.max(1));
    let next: Vec<Name> =
        (1..FETCH_BYTES_MAX / bytes.max(1)).map(|n| Name::of(segment.timeline, number + n, bytes)).collect();
    // Best effort: whoever asks for them is told what is wrong.
    if std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).is_ok() {
        in_lanes(bytes, next.iter(), |name| {
            archive
                .segment(name, bytes)
                .is_ok_and(|found| found.is_some_and(|found| keep(&found, &dir.join(name.to_string())).is_ok()))
        });
    }
    Ok(true)
}

/// Moves a file that an earlier call fetched to `into`; `false` where there is none.
pub fn was_fetched(ctx: &Ctx, place: &Place<'_>, name: &str, into: &Path) -> bool {
    let Some(segment) = segment_of(name) else { return false };
    let at = place.fetched(ctx).join(segment.to_string());
    if !is_fresh_file(ctx, &at) {
        return false;
    }
    // Where the cache lies on another file system.
    let copied = || std::fs::read(&at).and_then(|bytes| keep(&bytes, into)).and_then(|()| std::fs::remove_file(&at));
    std::fs::rename(&at, into).or_else(|_| copied()).is_ok()
}

/// How much of its log a server keeps because it is not archived yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Files.
    pub files: u64,
    /// Bytes left on their disk.
    pub room: u64,
}

/// What waits to be archived in the directory of this file; none where that is no server's.
pub fn backlog(path: &Path) -> Option<Waiting> {
    let dir = directory(path);
    let files = std::fs::read_dir(dir.join("archive_status")).ok()?;
    let ready = files.filter_map(Result::ok).filter(|file| file.path().extension().is_some_and(|kind| kind == "ready"));
    let disk = rustix::fs::statvfs(&dir).ok()?;
    Some(Waiting { files: ready.count() as u64, room: disk.f_bavail.saturating_mul(disk.f_frsize) })
}

/// The segments that wait behind this one, in order.
fn waiting(path: &Path) -> Vec<PathBuf> {
    let Some(asked) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let dir = directory(path);
    let Some(files) = segment_of(asked).and_then(|_| std::fs::read_dir(dir.join("archive_status")).ok()) else {
        return Vec::new();
    };
    let mut names: Vec<String> = files
        .filter_map(|file| file.ok()?.file_name().to_str()?.strip_suffix(".ready").map(str::to_owned))
        .filter(|name| segment_of(name).is_some())
        .collect();
    names.sort_unstable();
    // Only the server itself asks for what is marked as ready: somebody who archives by hand wants this file.
    match names.binary_search_by(|name| name.as_str().cmp(asked)) {
        Ok(at) => names[at + 1..].iter().map(|name| dir.join(name)).collect(),
        Err(_) => Vec::new(),
    }
}

fn directory(path: &Path) -> PathBuf {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn segment_of(name: &str) -> Option<Name> {
    match WalFile::parse(name)? {
        WalFile::Segment(name) => Some(name),
        _ => None,
    }
}

/// Works on several at once, in order, until one fails.
fn in_lanes<T: Send>(bytes: u64, of: impl Iterator<Item = T>, work: impl Fn(T) -> bool + Sync) {
    let queue: Mutex<VecDeque<T>> = Mutex::new(of.collect());
    let lanes = (LANES_BYTES_MAX / (3 * bytes.max(1))).clamp(1, LANES_MAX);
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no holder panics").pop_front();
                    let Some(next) = next else { return };
                    if !work(next) {
                        queue.lock().expect("no holder panics").clear();
                    }
                }
            });
        }
    });
}

fn is_fresh(ctx: &Ctx, made: Timestamp) -> bool {
    let now = ctx.world.clock.now();
    made <= now && now.since(made) <= TRUST
}

fn is_fresh_file(ctx: &Ctx, path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| is_fresh(ctx, Timestamp::new(meta.mtime(), 0)))
}

/// Removes what nobody asked for in time.
fn forget(ctx: &Ctx, dir: &Path) {
    let Ok(files) = std::fs::read_dir(dir) else { return };
    for file in files.filter_map(Result::ok).filter(|file| !is_fresh_file(ctx, &file.path())) {
        std::fs::remove_file(file.path()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_behind_a_segment_is_what_the_server_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let asked = at("000000010000000000000005");
        assert!(waiting(&asked).is_empty(), "no server's directory");
        std::fs::create_dir(at("archive_status")).expect("made");
        for name in ["000000010000000000000004", "000000010000000000000006", "000000010000000000000007"] {
            std::fs::write(at("archive_status").join(format!("{name}.ready")), "").expect("written");
        }
        std::fs::write(at("archive_status/00000002.history.ready"), "").expect("written");
        std::fs::write(at("archive_status/000000010000000000000008.done"), "").expect("written");
        assert!(waiting(&asked).is_empty(), "somebody asks by hand");
        std::fs::write(at("archive_status/000000010000000000000005.ready"), "").expect("written");
        assert_eq!(waiting(&asked), [at("000000010000000000000006"), at("000000010000000000000007")]);
        assert!(waiting(&at("00000002.history")).is_empty(), "a history is stored alone");
        assert_eq!(backlog(&asked).expect("a server's directory").files, 5);
    }

    #[test]
    fn the_first_failure_ends_what_is_ahead() {
        let done = Mutex::new(Vec::new());
        in_lanes(LANES_BYTES_MAX, 0..10, |n| {
            done.lock().expect("no holder panics").push(n);
            n < 3
        });
        assert_eq!(done.into_inner().expect("no holder panics"), [0, 1, 2, 3]);
    }
}
