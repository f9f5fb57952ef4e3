//! Making a repository and its first key.
//!
//! What it is for: `backstay init`. What it may not know: terminals.
//! Where data comes from and goes: an address and a way to come by a key; an empty repository, and a key file if asked.

use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::open::{KeyFrom, Locator, remember};
use repo::{Bundle, Credential, Layout, RepoError, Repository};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use store::{Kind, NetworkPolicy, Store, StoreError};

/// Below this many characters a passphrase gets a warning.
const PASSPHRASE_CHARS_MIN: usize = 12;

/// What the first key is.
pub enum FirstKey {
    /// A passphrase, from there.
    Passphrase(KeyFrom),
    /// Made up, and written to this file, which must not exist.
    NewFile(PathBuf),
}

/// What is wanted.
pub struct Request {
    /// Where.
    pub at: Locator,
    /// Its first key.
    pub key: FirstKey,
    /// How large packs are, and what is locked.
    pub layout: Layout,
    /// Whether it may lie on a network file system.
    pub on_network: NetworkPolicy,
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The repository's id.
    pub id: String,
    /// Where it is.
    pub repository: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Version of its format.
    pub format: u32,
    /// `passphrase` or `key file`.
    pub key: &'static str,
    /// The key file that was written.
    pub key_file: Option<String>,
    /// For how many days what is written is locked, where it is.
    pub lock_days: Option<u32>,
    /// How: `compliance` or `governance`.
    pub lock_mode: Option<&'static str>,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// Makes a repository. When this returns `Ok` it, and the key file, survive power loss.
///
/// # Errors
/// `repository-exists`; `key-file-exists`; whatever the store returns.
pub fn init(ctx: &Ctx, request: &Request) -> Result<Report, Failure> {
    if let Ok(store) = request.at.store(ctx)
        && crate::open::looks_like_one(&store)?
    {
        return Err(RepoError::AlreadyExists(store.address()).into());
    }
    let label = format!("{}@{}", ctx.user, ctx.host);
    let mut warnings = Vec::new();
    let (repository, key, file) = match &request.key {
        FirstKey::Passphrase(from) => {
            let read = from.read("new passphrase: ")?;
            warnings.extend(read.warning);
            let Credential::Passphrase(passphrase) = Credential::parse(&read.text)? else {
                return Err(Failure::new(
                    Exit::WrongKey,
                    "bad-key",
                    "a new repository needs a passphrase, and this is a key of another kind",
                )
                .help("give a passphrase, or have a key made: --generate-key FILE"));
            };
            if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
                warnings.push(format!(
                    "the passphrase is short: with fewer than {PASSPHRASE_CHARS_MIN} characters it may be guessed"
                ));
            }
            let store = place(ctx, request)?;
            let made = Repository::init(&store, &ctx.world, Some(&passphrase), &label, request.layout)?;
            (made.0, "passphrase", None)
        }
        FirstKey::NewFile(path) => {
            let mut file = KeyFile::reserve(path)?;
            let store = place(ctx, request)?;
            let owner = Bundle::owner(&ctx.world, &label);
            // First the key: a repository that nobody has a key to would stand in the way of the next try.
            file.write(owner.to_json().as_bytes())?;
            let made = Repository::init_for(&store, &ctx.world, &owner, None, request.layout);
            if made.is_ok() || crate::open::looks_like_one(&store).unwrap_or(true) {
                file.keep();
            }
            (made?, "key file", Some(path.display().to_string()))
        }
    };
    // What a place is like may show only when something has been written to it.
    warnings.extend(repository.store().warnings().into_iter().map(|w| w.text));
    warnings.extend(remember(ctx, &repository));
    Ok(Report {
        id: repository.id().to_string(),
        repository: repository.store().address(),
        created: repository.created().to_owned(),
        format: repo::FORMAT,
        key,
        key_file: file,
        lock_days: repository.lock_policy().map(|policy| policy.days),
        lock_mode: repository.lock_policy().map(|policy| policy.mode.name()),
        warnings,
    })
}

/// The place, made where there is nothing yet, when it can do what is asked of it.
fn place(ctx: &Ctx, request: &Request) -> Result<Store, Failure> {
    if let (Locator::Local(path), Some(_)) = (&request.at, request.layout.lock) {
        let what = format!("{} is a directory, and only buckets with object lock lock what is in them", path.display());
        return Err(Failure::usage(what).help("leave --lock-days out, or name a bucket that has object lock"));
    }
    let store = request.at.create(ctx, request.on_network)?;
    if request.layout.lock.is_some() && !store.has_locks()? {
        let why = "the bucket has no object lock, which has to be turned on when a bucket is made";
        let what = format!("lock what is in {}", store.address());
        return Err(StoreError::new(Kind::Unsuitable, what, why).into());
    }
    Ok(store)
}

/// A new file for a key, readable by its owner only. Dropped before it is to be kept, it is removed.
pub struct KeyFile {
    path: PathBuf,
    file: File,
    keep: bool,
}

impl KeyFile {
    /// Makes the file, empty.
    ///
    /// # Errors
    /// `key-file-exists` when something has that name already; `key-file` when it cannot be made.
    pub fn reserve(path: &Path) -> Result<KeyFile, Failure> {
        let file = File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::new(Exit::Failed, "key-file-exists", format!("{} exists already", path.display()))
                    .help("name a new file: an existing key is never overwritten")
            }
            _ => KeyFile::failed(path, &e),
        })?;
        Ok(KeyFile { path: path.to_path_buf(), file, keep: false })
    }

    /// Writes the key, and keeps the file. When this returns `Ok` it survives power loss.
    ///
    /// # Errors
    /// `key-file` when it cannot be written.
    pub fn fill(mut self, key: &[u8]) -> Result<(), Failure> {
        self.write(key)?;
        self.keep();
        Ok(())
    }

    fn keep(&mut self) {
        self.keep = true;
    }

    fn write(&mut self, key: &[u8]) -> Result<(), Failure> {
        let mut write = || {
            self.file.write_all(key)?;
            self.file.write_all(b"\n")?;
            self.file.sync_all()?;
            let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // Directory fsync: without it the file's name is lost on power cut.
            File::open(dir)?.sync_all()
        };
        write().map_err(|e| KeyFile::failed(&self.path, &e))
    }

    /// Writes the key and puts it in the place of `old`. When this returns `Ok` it survives power loss; until then `old` does.
    ///
    /// # Errors
    /// `key-file` when it cannot be written.
    pub fn replace(self, old: &Path, key: &[u8]) -> Result<(), Failure> {
        let path = self.path.clone();
        self.fill(key)?;
        let dir = old.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let renamed = std::fs::rename(&path, old).and_then(|()| File::open(dir)?.sync_all());
        renamed.map_err(|e| KeyFile::failed(old, &e))
    }

    fn failed(path: &Path, e: &std::io::Error) -> Failure {
        Failure::new(Exit::TargetUnreachable, "key-file", format!("cannot write the key file {}: {e}", path.display()))
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if !self.keep {
            // An empty file that stays is harmless and visible.
            drop(std::fs::remove_file(&self.path));
        }
    }
}
