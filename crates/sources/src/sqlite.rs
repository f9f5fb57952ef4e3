//! A consistent copy of one SQLite database, taken through SQLite's online backup API while others use it.
//!
//! It never falls back to copying the file: what cannot be copied properly is an error. It reads the database by its path,
//! since SQLite finds its journals by name, and checks before and after that the path leads to the same file.
//! Copies lie in a private directory that is removed on drop, or by the next run after a crash.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use repo::hex;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::stat;
use rustix::io::Errno;
use store::World;

use crate::files::meta::{FileId, Stamp, file_id};
use crate::leftover::Scratch;

/// What to do with SQLite databases among the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sqlite {
    /// Copy them through SQLite; their journals are covered by that.
    #[default]
    Auto,
    /// Treat them as any other file: right for databases that nobody has open.
    Off,
}

/// How a SQLite database begins.
pub(crate) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How the files end that belong to a database.
pub(crate) const JOURNAL_ENDS: [&[u8]; 3] = [b"-journal", b"-shm", b"-wal"];

/// How many pages are copied before others get a turn, and for how long.
const STEP_PAGES: i32 = 1024;
/// How often a copy that writers keep spoiling begins anew before it is made in one step, which keeps them waiting.
const RESTARTS_MAX: u32 = 3;
/// How long to wait for a lock, and how long between tries.
const LOCK_WAIT: Duration = Duration::from_secs(30);
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Why there is no copy.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The database is damaged.
    Damaged(String),
    /// It cannot be copied now.
    Failed(String),
    /// Somebody asked to stop.
    Stopped,
}

/// A copy, already without a name: gone when closed.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) file: File,
    /// Why its integrity could not be checked, if so.
    pub(crate) unchecked: Option<String>,
}

/// A private directory for copies, under `under`.
pub(crate) fn scratch(under: &Path, world: &World) -> io::Result<Scratch> {
    Scratch::create(under, "sqlite-", world)
}

/// Copies the database at `path`, which must be the file `id`, and checks the copy.
pub(crate) fn copy(path: &Path, id: FileId, scratch: &Scratch, world: &World) -> Result<Copied, Refusal> {
    let to = scratch.path().join(hex(&world.random::<8>()));
    let result = copy_to(path, id, &to, world);
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut name = to.clone().into_os_string();
        name.push(end);
        // Most of them do not exist; what stays goes with the directory.
        std::fs::remove_file(name).ok();
    }
    result
}

fn copy_to(path: &Path, id: FileId, to: &Path, world: &World) -> Result<Copied, Refusal> {
    // Asking for the locks of a database in WAL mode that nobody has open would leave `-wal` and `-shm` files beside it,
    // and fails where they cannot be made. One at rest is read without, and looked at again afterwards.
    if let Some(before) = at_rest(path, id, world)? {
        let copied = copy_by(path, Access::Immutable, to, world);
        if at_rest(path, id, world)? == Some(before) {
            return copied;
        }
    }
    let copied = copy_by(path, Access::Shared, to, world)?;
    look(path, id)?;
    Ok(copied)
}

/// What the file at `path` looks like.
fn look(path: &Path, id: FileId) -> Result<Stamp, Refusal> {
    let stat = stat(path).map_err(|e| Refusal::Failed(format!("cannot be looked at: {e}")))?;
    if file_id(&stat) != id {
        return Err(Refusal::Failed("was replaced while it was copied".to_owned()));
    }
    Ok(Stamp::of(&stat))
}

/// What the database looks like, when nobody has written to it lately and it has no journals.
fn at_rest(path: &Path, id: FileId, world: &World) -> Result<Option<Stamp>, Refusal> {
    let stamp = look(path, id)?;
    let no_journals = ["-wal", "-journal"].iter().all(|end| {
        let mut name = path.to_path_buf().into_os_string();
        name.push(end);
        matches!(rustix::fs::lstat(name.as_os_str()), Err(Errno::NOENT))
    });
    Ok((no_journals && !stamp.is_fresh(world.clock.now())).then_some(stamp))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// No locks: nobody writes.
    Immutable,
    /// With SQLite's locks.
    Shared,
}

fn copy_by(path: &Path, access: Access, to: &Path, world: &World) -> Result<Copied, Refusal> {
    // Made here, so that the copy is private whatever the umask is.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .map_err(|e| Refusal::Failed(format!("cannot be copied to {}: {e}", to.display())))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(to, flags)?;
    // A copy that is cut off is thrown away: it needs neither a journal nor the disk.
    copy.pragma_update(None, "journal_mode", "OFF")?;
    copy.pragma_update(None, "synchronous", "OFF")?;
    copy.pragma_update(None, "locking_mode", "EXCLUSIVE")?;

    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(uri(path, access), flags)?;
    from.busy_timeout(Duration::ZERO)?;
    copy_pages(&from, &mut copy, world)?;
    drop(from);

    let unchecked = quick_check(&copy)?;
    copy.close().map_err(|(_, e)| e)?;
    let mut wal = to.to_path_buf().into_os_string();
    wal.push("-wal");
    if std::fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0) {
        return Err(Refusal::Failed("was copied, but the copy is not whole without its journal".to_owned()));
    }
    let file = File::open(to).map_err(|e| Refusal::Failed(format!("was copied, but the copy cannot be read: {e}")))?;
    Ok(Copied { file, unchecked })
}

fn copy_pages(from: &Connection, to: &mut Connection, world: &World) -> Result<(), Refusal> {
    let deadline = world.clock.monotonic() + LOCK_WAIT;
    let mode: String = patiently(world, deadline, || from.pragma_query_value(None, "journal_mode", |row| row.get(0)))?;
    if mode == "wal" {
        // Readers and writers of a WAL do not wait for each other: one look at the database for the whole copy, which
        // writers then cannot spoil.
        from.execute_batch("BEGIN")?;
        patiently(world, deadline, || from.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))?;
    }
    let backup = Backup::new(from, to)?;
    let (mut pages, mut restarts, mut remaining) = (STEP_PAGES, 0, i32::MAX);
    let mut deadline = deadline;
    loop {
        if world.stop.requested() {
            return Err(Refusal::Stopped);
        }
        match backup.step(pages)? {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked => {
                if world.clock.monotonic() >= deadline {
                    let secs = LOCK_WAIT.as_secs();
                    return Err(Refusal::Failed(format!("is locked by another program, and was for {secs} s")));
                }
                world.clock.sleep(LOCK_RETRY);
            }
            _ => {
                deadline = world.clock.monotonic() + LOCK_WAIT;
                let left = backup.progress().remaining;
                if left >= remaining {
                    restarts += 1;
                    if restarts >= RESTARTS_MAX {
                        pages = -1;
                    }
                }
                remaining = left;
            }
        }
    }
}

/// Tries until it is not locked any more, or until the deadline.
fn patiently<T>(
    world: &World,
    deadline: Duration,
    mut what: impl FnMut() -> rusqlite::Result<T>,
) -> Result<T, Refusal> {
    loop {
        match what() {
            Err(e) if is_busy(&e) && world.clock.monotonic() < deadline => {
                if world.stop.requested() {
                    return Err(Refusal::Stopped);
                }
                world.clock.sleep(LOCK_RETRY);
            }
            result => return Ok(result?),
        }
    }
}

fn is_busy(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Checks the copy. `Some(why)` when it cannot be checked, as when it needs an extension that is not here.
fn quick_check(copy: &Connection) -> Result<Option<String>, Refusal> {
    // The schema may be hostile.
    copy.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    copy.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    match copy.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(verdict) if verdict == "ok" => Ok(None),
        Ok(verdict) => Err(Refusal::Damaged(verdict.replace('\n', " "))),
        Err(e) => match Refusal::from(e) {
            Refusal::Failed(why) => Ok(Some(why)),
            damaged => Err(damaged),
        },
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(e: rusqlite::Error) -> Self {
        // Extended codes of SQLITE_READONLY: _RECOVERY, _CANTLOCK, _ROLLBACK, _CANTINIT.
        const READ_ONLY_STUCK: [i32; 4] = [8 | (1 << 8), 8 | (2 << 8), 8 | (3 << 8), 8 | (5 << 8)];
        let stuck = e.sqlite_error().is_some_and(|e| READ_ONLY_STUCK.contains(&e.extended_code));
        match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Refusal::Damaged(e.to_string()),
            _ if stuck => Refusal::Failed(format!(
                "was left in the middle of a transaction, which only a program that may write to it can resolve: {e}"
            )),
            Some(ErrorCode::CannotOpen) => {
                Refusal::Failed(format!("cannot be opened, or its -shm file cannot be made: {e}"))
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Refusal::Failed(format!("is locked by another program, and was for {} s", LOCK_WAIT.as_secs()))
            }
            _ => Refusal::Failed(format!("cannot be copied: {e}")),
        }
    }
}

fn uri(path: &Path, access: Access) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => uri.push(char::from(*byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str(match access {
        Access::Immutable => "?mode=ro&immutable=1",
        Access::Shared => "?mode=ro",
    });
    uri
}
