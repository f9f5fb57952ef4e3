//! The directory that the demonstration plays in: files, a database in use, a disaster.

use super::{After, broken, name};
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const TEXTS: usize = 1200;
const LARGE_BYTES: usize = 12 << 20;
const START: i64 = 1_000_000;
/// Directory with the database: its files change all the time and are judged by SQLite, not by their bytes.
const APP: &str = "app";

/// What was made.
pub(super) struct Tree {
    /// Regular files.
    pub(super) files: u64,
    /// Bytes in them.
    pub(super) bytes: u64,
    /// Text that must not be readable in the repository.
    pub(super) secret: Vec<u8>,
}

/// What stands under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    mode: u32,
    mtime: (i64, i64),
    links: u64,
    content: Vec<u8>,
}

/// All names with what stands under them, but for the database.
pub(super) type Survey = BTreeMap<PathBuf, Seen>;

/// A private temporary directory.
pub(super) struct Place {
    /// Where it is.
    pub(super) dir: PathBuf,
    after: After,
}

/// The failure of something on `path`.
pub(super) fn io(path: &Path, e: &std::io::Error) -> Failure {
    Failure::new(Exit::TargetUnreachable, "demo-directory", format!("cannot use {}: {e}", path.display()))
        .help("set TMPDIR to a directory with some 300 MiB free")
}

fn sql(e: &rusqlite::Error) -> Failure {
    broken(format!("the database: {e}"))
}

impl Place {
    /// Makes it.
    pub(super) fn make(ctx: &Ctx, after: After) -> Result<Place, Failure> {
        let base = std::env::temp_dir();
        let base = base.canonicalize().map_err(|e| io(&base, &e))?;
        let dir = base.join(format!("backstay-demo-{}", repo::hex(&ctx.world.random::<6>())));
        DirBuilder::new().mode(0o700).create(&dir).map_err(|e| io(&dir, &e))?;
        Ok(Place { dir, after })
    }

    /// The context with its own cache and memory.
    pub(super) fn ctx(&self, ctx: &Ctx) -> Ctx {
        Ctx {
            world: ctx.world.clone(),
            cache_dir: self.dir.join("cache"),
            state_dir: self.dir.join("state"),
            process: ctx.process.clone(),
            host: ctx.host.clone(),
            user: ctx.user.clone(),
            program: ctx.program.clone(),
            remarks: ctx.remarks.clone(),
        }
    }

    /// What is backed up.
    pub(super) fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// The repository.
    pub(super) fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    /// The key file.
    pub(super) fn key(&self) -> PathBuf {
        self.dir.join("owner.key")
    }

    /// Makes the tree.
    pub(super) fn grow(&self, ctx: &Ctx) -> Result<Tree, Failure> {
        let tree = self.tree();
        let secret = format!("token = {}\n", repo::hex(&ctx.world.random::<24>())).into_bytes();
        let grow = || -> std::io::Result<()> {
            for dir in ["texts", "large", "secrets", "odd", APP] {
                std::fs::create_dir_all(tree.join(dir))?;
            }
            for n in 0..TEXTS {
                let dir = tree.join(format!("texts/{:02}", n % 24));
                std::fs::create_dir_all(&dir)?;
                let line = format!("entry {n}: {}\n", repo::hex(&ctx.world.random::<8>()));
                std::fs::write(dir.join(format!("{n}.txt")), line.repeat(1 + n % 200))?;
            }
            for n in 0..3 {
                std::fs::write(tree.join(format!("large/{n}.bin")), noise(ctx, LARGE_BYTES))?;
            }
            let file = tree.join("secrets/api.token");
            std::fs::write(&file, secret.repeat(20))?;
            std::fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            std::fs::write(tree.join("odd").join(name(b"line\nend \xff raw")), "not every name is text")?;
            std::fs::write(tree.join("odd/-rf"), "")?;
            std::fs::hard_link(tree.join("large/0.bin"), tree.join("odd/second-name.bin"))?;
            symlink("../texts/00/0.txt", tree.join("odd/link"))?;
            symlink("/nowhere", tree.join("odd/dangling"))?;
            let mut holes = File::create(tree.join("odd/holes"))?;
            holes.set_len(16 << 20)?;
            holes.seek(SeekFrom::Start(10 << 20))?;
            holes.write_all(b"an island")
        };
        grow().map_err(|e| io(&tree, &e))?;
        self.make_database().map_err(|e| sql(&e))?;
        let survey = self.survey()?;
        let files = survey.values().filter(|seen| seen.mode & 0o170_000 == 0o100_000);
        let (count, bytes) = files.fold((0, 0), |(n, bytes), seen| (n + 1, bytes + size_of(seen)));
        Ok(Tree { files: count + 1, bytes, secret })
    }

    fn make_database(&self) -> rusqlite::Result<()> {
        let database = Connection::open(self.tree().join(APP).join("app.db"))?;
        database.pragma_update(None, "journal_mode", "WAL")?;
        database.execute_batch(
            "create table account (id integer primary key, balance integer not null);
             create table transfer (id integer primary key, amount integer not null, note text not null);",
        )?;
        for id in [1, 2] {
            database.execute("insert into account values (?1, ?2)", (id, START))?;
        }
        Ok(())
    }

    /// Writes to the database, a transaction every millisecond or so, until `stop`.
    pub(super) fn write_database(&self, stop: &AtomicBool, commits: &AtomicU64) -> rusqlite::Result<()> {
        let mut database = Connection::open(self.tree().join(APP).join("app.db"))?;
        database.busy_timeout(Duration::from_secs(30))?;
        let mut amount = 1i64;
        while !stop.load(Ordering::SeqCst) {
            amount = amount % 97 + 1;
            let transaction = database.transaction()?;
            transaction.execute("update account set balance = balance - ?1 where id = 1", [amount])?;
            transaction.execute("insert into transfer (amount, note) values (?1, ?2)", (amount, "x".repeat(200)))?;
            transaction.execute("update account set balance = balance + ?1 where id = 2", [amount])?;
            transaction.commit()?;
            commits.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Checks the database under `tree`; returns how many rows it has.
    pub(super) fn check_database(tree: &Path) -> Result<u64, Failure> {
        let check = || -> rusqlite::Result<(String, i64, i64, i64, i64)> {
            let database = Connection::open(tree.join(APP).join("app.db"))?;
            let sound = database.query_row("pragma integrity_check", [], |row| row.get(0))?;
            let balance = |id: i64| {
                database.query_row("select balance from account where id = ?1", [id], |row| row.get::<_, i64>(0))
            };
            let (moved, rows) =
                database.query_row("select coalesce(sum(amount), 0), count(*) from transfer", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            Ok((sound, balance(1)?, balance(2)?, moved, rows))
        };
        let (sound, one, two, moved, rows) = check().map_err(|e| sql(&e))?;
        if sound != "ok" {
            return Err(broken(format!("the restored database is damaged: {sound}")));
        }
        if one + moved != START || two - moved != START || rows == 0 {
            return Err(broken(format!(
                "half a transaction was restored: {one} and {two} after {moved} in {rows} rows"
            )));
        }
        Ok(rows.unsigned_abs())
    }

    /// A day's work.
    pub(super) fn edit(&self, ctx: &Ctx) -> Result<(), Failure> {
        let tree = self.tree();
        let edit = || -> std::io::Result<()> {
            for n in 0..20 {
                std::fs::write(tree.join(format!("texts/{:02}/{n}.txt", n % 24)), format!("changed {n}\n").repeat(50))?;
            }
            std::fs::write(tree.join("texts/new.txt"), "a new file\n")?;
            std::fs::remove_file(tree.join("texts/01/25.txt"))?;
            // A few bytes in the middle of a large file.
            File::options()
                .write(true)
                .open(tree.join("large/1.bin"))?
                .write_all_at(&ctx.world.random::<16>(), 5 << 20)?;
            // The first snapshot alone has the old content of this one: pruning it frees something.
            std::fs::write(tree.join("large/2.bin"), noise(ctx, LARGE_BYTES / 2))
        };
        edit().map_err(|e| io(&tree, &e))
    }

    /// Loses and damages files; returns how many.
    pub(super) fn disaster(&self, ctx: &Ctx) -> Result<u64, Failure> {
        let tree = self.tree();
        let mut lost = 0;
        let mut ruin = || -> std::io::Result<()> {
            for entry in std::fs::read_dir(tree.join("texts/03"))? {
                std::fs::remove_file(entry?.path())?;
                lost += 1;
            }
            for entry in std::fs::read_dir(tree.join("texts/04"))? {
                std::fs::write(entry?.path(), noise(ctx, 4096))?;
                lost += 1;
            }
            let large = tree.join("large/0.bin");
            let time = std::fs::metadata(&large)?.modified()?;
            let file = File::options().write(true).open(&large)?;
            file.write_all_at(&noise(ctx, 8192), 3 << 20)?;
            // Size and time say that nothing happened.
            file.set_modified(time)?;
            File::options().write(true).open(tree.join("large/1.bin"))?.set_len(1000)?;
            std::fs::remove_dir_all(tree.join("secrets"))?;
            std::fs::write(tree.join("odd/RANSOM-NOTE.txt"), "pay up")?;
            std::fs::write(tree.join(APP).join("app.db"), noise(ctx, 50_000))?;
            lost += 4;
            Ok(())
        };
        ruin().map_err(|e| io(&tree, &e))?;
        Ok(lost)
    }

    /// What the tree holds.
    pub(super) fn survey(&self) -> Result<Survey, Failure> {
        Place::survey_of(&self.tree())
    }

    /// What a directory holds.
    pub(super) fn survey_of(dir: &Path) -> Result<Survey, Failure> {
        let mut survey = Survey::new();
        look(dir, Path::new(""), &mut survey).map_err(|e| io(dir, &e))?;
        Ok(survey)
    }

    /// The object of the repository in which this text is readable, if there is one.
    pub(super) fn leaks(&self, text: &[u8]) -> Result<Option<PathBuf>, Failure> {
        let root = self.repository();
        let search = || -> std::io::Result<Option<PathBuf>> {
            for path in files_under(&root)? {
                let data = std::fs::read(&path)?;
                if data.windows(text.len()).any(|window| window == text) {
                    return Ok(Some(path));
                }
            }
            Ok(None)
        };
        search().map_err(|e| io(&root, &e))
    }

    /// A copy of the repository in which one bit of a pack is not as it was, and the name of that object.
    pub(super) fn damaged_copy(&self, ctx: &Ctx) -> Result<(PathBuf, String), Failure> {
        let (from, to) = (self.repository(), self.dir.join("damaged-copy"));
        let copy = || -> std::io::Result<Option<PathBuf>> {
            copy_dir(&from, &to)?;
            let packs = files_under(&to.join("packs"))?;
            let at = u64::from_le_bytes(ctx.world.random()) as usize % packs.len().max(1);
            let Some(victim) = packs.into_iter().nth(at) else { return Ok(None) };
            std::fs::set_permissions(&victim, Permissions::from_mode(0o600))?;
            let file = File::options().read(true).write(true).open(&victim)?;
            let offset = u64::from_le_bytes(ctx.world.random()) % file.metadata()?.len().max(1);
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset)?;
            file.write_all_at(&[byte[0] ^ 0x10], offset)?;
            Ok(Some(victim))
        };
        let victim = copy().map_err(|e| io(&to, &e))?.ok_or_else(|| broken("the repository has no packs"))?;
        let name = victim.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((to, name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.after == After::Remove {
            // What cannot be removed lies in the directory for temporary files, and is visible.
            std::fs::remove_dir_all(&self.dir).ok();
        }
    }
}

fn size_of(seen: &Seen) -> u64 {
    seen.content.get(..8).and_then(|len| len.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn noise(ctx: &Ctx, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ctx.world.entropy.fill(&mut bytes);
    bytes
}

fn look(dir: &Path, at: &Path, survey: &mut Survey) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir.join(at))? {
        let path = at.join(entry?.file_name());
        if path == Path::new(APP) {
            continue;
        }
        let full = dir.join(&path);
        let meta = std::fs::symlink_metadata(&full)?;
        let content = match meta.file_type() {
            kind if kind.is_dir() => {
                look(dir, &path, survey)?;
                Vec::new()
            }
            kind if kind.is_symlink() => std::fs::read_link(&full)?.into_os_string().into_encoded_bytes(),
            _ => digest(&full, meta.len())?,
        };
        let links = if meta.is_dir() { 1 } else { meta.nlink() };
        let mtime = (meta.mtime(), meta.mtime_nsec());
        survey.insert(path, Seen { mode: meta.mode(), mtime, links, content });
    }
    Ok(())
}

/// Length and BLAKE3 of a file.
fn digest(path: &Path, len: u64) -> std::io::Result<Vec<u8>> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        };
    }
    Ok([&len.to_le_bytes()[..], hasher.finalize().as_bytes()].concat())
}

fn files_under(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files.extend(files_under(&path)?),
            false => files.push(path),
        }
    }
    Ok(files)
}

fn copy_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let into = to.join(path.file_name().unwrap_or_default());
        match path.is_dir() {
            true => copy_dir(&path, &into)?,
            false => drop(std::fs::copy(&path, &into)?),
        }
    }
    Ok(())
}
