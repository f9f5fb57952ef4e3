//! Opening a repository: where it is, what opens it, and whether it is the one that was seen before.
//!
//! What it is for: [`Locator`], [`KeyFrom`], [`open`].
//! What it may not know: terminals; a prompt is a function it is handed.
//! Where data comes from and goes: addresses and key sources from the command line; an open [`Repository`] to a verb.

use crate::config::Reference;
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use repo::{Credential, HeadId, RepoError, Repository};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use store::{CachedStore, Kind, LocalStore, NetworkPolicy, PastStore, S3Identity, S3Place, S3Store, Store, Timestamp};
use zeroize::Zeroizing;

const KEY_BYTES_MAX: u64 = 64 << 10;

/// Variables that say where the key is, or hold it.
pub(crate) const KEY_VARIABLES: [&str; 7] = [
    "BACKSTAY_KEY",
    "BACKSTAY_KEY_FD",
    "BACKSTAY_KEY_FILE",
    "BACKSTAY_KEY_COMMAND",
    "BACKSTAY_KEY_PASSPHRASE",
    "BACKSTAY_KEY_PASSPHRASE_FILE",
    "BACKSTAY_KEY_PASSPHRASE_COMMAND",
];

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// In a directory.
    Local(PathBuf),
    /// In a bucket.
    S3(S3Place, S3Login),
    /// In a bucket that keeps versions, as it was at a moment. It can only be read.
    Past(S3Place, S3Login, Timestamp),
}

/// As whom a service that speaks S3 is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Login {
    /// As the environment, the files of the AWS tools, or the machine's cloud say.
    Surroundings,
    /// By an access key that is found there.
    Key {
        /// Its name.
        id: Reference,
        /// Its secret.
        secret: Reference,
    },
}

impl S3Login {
    fn identity(&self) -> Result<S3Identity, Failure> {
        Ok(match self {
            S3Login::Surroundings => S3Identity::Surroundings,
            S3Login::Key { id, secret } => {
                S3Identity::Key { id: id.read()?.to_string(), secret: secret.read()?.to_string() }
            }
        })
    }
}

impl std::fmt::Display for Locator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Locator::Local(path) => path.display().fmt(f),
            Locator::S3(place, _) | Locator::Past(place, ..) => place.fmt(f),
        }
    }
}

impl Locator {
    /// The place that a path or an address names.
    ///
    /// # Errors
    /// `usage` for an address of a kind that this version cannot reach.
    pub fn parse(text: &str) -> Result<Locator, Failure> {
        if text.is_empty() {
            return Err(Failure::usage("the repository's address is empty"));
        }
        if let Some(path) = text.strip_prefix("file://") {
            return match path.starts_with('/') {
                true => Ok(Locator::Local(path.into())),
                false => Err(Failure::usage(format!("{text:?} is not an absolute path"))
                    .help("write file:///srv/repo, with three slashes")),
            };
        }
        if let Some(place) = S3Place::parse(text) {
            return place.map(|place| Locator::S3(place, S3Login::Surroundings)).map_err(|e| {
                Failure::usage(e.to_string())
                    .help("write s3://HOST/BUCKET/PREFIX, or s3:http://HOST:PORT/BUCKET/PREFIX")
            });
        }
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        match scheme {
            Some(scheme @ ("azblob" | "gs" | "gcs" | "sftp")) => Err(Failure::new(
                Exit::Usage,
                "place-unknown",
                format!("cannot open {text:?}: this version cannot reach {scheme} yet"),
            )
            .help("use a path; a mounted remote file system is one (see init --allow-network-filesystem)")),
            Some(scheme) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => {
                Err(Failure::new(Exit::Usage, "place-unknown", format!("cannot open {text:?}: unknown kind of place"))
                    .help("give a path, or file:///path"))
            }
            _ => Ok(Locator::Local(text.into())),
        }
    }

    /// The same place as it was.
    ///
    /// # Errors
    /// `usage` for a place that keeps nothing of its past.
    pub fn as_of(self, at: Timestamp) -> Result<Locator, Failure> {
        match self {
            Locator::S3(place, login) | Locator::Past(place, login, _) => Ok(Locator::Past(place, login, at)),
            Locator::Local(path) => Err(Failure::usage(format!("{} has no past that could be read", path.display()))
                .help("--as-of is for buckets that keep versions; to go back to a snapshot, name it")),
        }
    }

    /// The store at this place, which must exist. Everything is read from the place itself.
    ///
    /// # Errors
    /// `no-repository` when there is nothing; whatever the store returns.
    pub fn store(&self, ctx: &Ctx) -> Result<Store, Failure> {
        match self {
            Locator::Local(path) => match LocalStore::open(path, NetworkPolicy::Accept) {
                Ok(local) => Ok(Store::new(Arc::new(local))),
                Err(e) if e.kind == Kind::Absent => Err(RepoError::NoRepository(self.to_string()).into()),
                Err(e) => Err(e.into()),
            },
            Locator::S3(place, login) => Ok(Store::new(Arc::new(S3Store::open(place, &ctx.world, login.identity()?)?))),
            Locator::Past(place, login, at) => {
                Ok(Store::new(Arc::new(PastStore::open(place, &ctx.world, login.identity()?, *at)?)))
            }
        }
    }

    /// As [`Locator::store`], with a cache before what is far away.
    pub(crate) fn cached_store(&self, ctx: &Ctx) -> Result<Store, Failure> {
        self.store_before(ctx, Cache::Kept)
    }

    fn store_before(&self, ctx: &Ctx, cache: Cache) -> Result<Store, Failure> {
        // One directory for each view, which drops what the view does not show.
        let dir = |view: &str| {
            let name = blake3::hash(self.to_string().as_bytes()).to_hex();
            let dir = ctx.cache_dir.join("objects").join(format!("{view}-{}", &name[..16]));
            match cache {
                Cache::Kept => dir,
                Cache::Fresh => {
                    let fresh = dir.with_extension("fresh");
                    // What another process has open of it, it keeps; the rest it fetches again.
                    drop(std::fs::remove_dir_all(&fresh));
                    fresh
                }
            }
        };
        let cached = match self {
            Locator::Local(_) => return self.store(ctx),
            Locator::S3(place, login) => {
                CachedStore::new(Arc::new(S3Store::open(place, &ctx.world, login.identity()?)?), dir("now"))
            }
            Locator::Past(place, login, at) => {
                let past = PastStore::open(place, &ctx.world, login.identity()?, *at)?;
                CachedStore::new(Arc::new(past), dir("past"))
            }
        };
        Ok(Store::new(Arc::new(cached)))
    }

    /// The store at this place, made where there is nothing yet.
    ///
    /// # Errors
    /// Whatever the store returns: a directory that holds something else, a network file system that was not allowed, a
    /// bucket that does not exist.
    pub fn create(&self, ctx: &Ctx, on_network: NetworkPolicy) -> Result<Store, Failure> {
        Ok(match self {
            Locator::Local(path) => Store::new(Arc::new(LocalStore::create(path, on_network)?)),
            Locator::S3(place, login) => Store::new(Arc::new(S3Store::create(place, &ctx.world, login.identity()?)?)),
            // Says by itself that it cannot be written.
            Locator::Past(..) => self.store(ctx)?,
        })
    }
}

/// What a cache holds when a run begins.
#[derive(Clone, Copy)]
enum Cache {
    /// What earlier runs left.
    Kept,
    /// Nothing: all that is seen was read in this run, each object once.
    Fresh,
}

/// Where a key or passphrase comes from.
#[derive(Clone)]
pub enum KeyFrom {
    /// It is known already: from the environment.
    Text(Zeroizing<String>),
    /// A file.
    File(PathBuf),
    /// What a program prints. Started as it is, without a shell.
    Command(Vec<String>),
    /// An open file descriptor.
    Fd(u32),
    /// A person, by a function that is given the question.
    Prompt(fn(&str) -> Result<Zeroizing<String>, Failure>),
    /// From there; and where it turns out to have a passphrase of its own, that comes from elsewhere.
    Protected {
        /// The key.
        key: Box<KeyFrom>,
        /// The passphrase of its file.
        passphrase: Box<KeyFrom>,
    },
}

/// A key as read, with what is worth a warning about where it was.
pub struct KeyText {
    /// The text.
    pub text: Zeroizing<String>,
    /// One sentence, where something is.
    pub warning: Option<String>,
}

impl KeyFrom {
    /// Reads the key. `question` is what a person is asked.
    ///
    /// # Errors
    /// `key-unreadable` with exit 12 when there is none to be had.
    pub fn read(&self, question: &str) -> Result<KeyText, Failure> {
        let mut warning = None;
        let text = match self {
            KeyFrom::Text(text) => text.clone(),
            KeyFrom::Prompt(ask) => ask(question)?,
            KeyFrom::File(path) => {
                let mut file =
                    std::fs::File::open(path).map_err(|e| unreadable(format!("key file {}", path.display()), &e))?;
                if let Ok(meta) = file.metadata()
                    && meta.is_file()
                    && meta.mode() & 0o077 != 0
                {
                    let path = path.display();
                    warning = Some(format!("others may read the key file {path}: chmod 600 {path}"));
                }
                read_all(&mut file).map_err(|e| unreadable(format!("key file {}", path.display()), &e))?
            }
            KeyFrom::Fd(fd) => {
                let what = || format!("key from file descriptor {fd}");
                let file = std::fs::File::open(format!("/proc/self/fd/{fd}"));
                file.and_then(|mut file| read_all(&mut file)).map_err(|e| unreadable(what(), &e))?
            }
            KeyFrom::Command(argv) => {
                let program = argv.first().ok_or_else(|| Failure::usage("the key command is empty"))?;
                printed_by(argv).map_err(|e| unreadable(format!("key that {program:?} prints"), &e))?
            }
            KeyFrom::Protected { key, passphrase } => {
                let read = key.read(question)?;
                warning = read.warning;
                if !repo::is_protected_key(&read.text) {
                    return Ok(KeyText { text: read.text, warning });
                }
                let passphrase = passphrase.read("passphrase of the key file: ")?;
                warning = warning.or(passphrase.warning);
                repo::unprotect_key(&read.text, first_line(&passphrase.text))?
            }
        };
        Ok(KeyText { text, warning })
    }
}

/// A passphrase without the end of its line.
pub(crate) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn unreadable(what: String, e: &std::io::Error) -> Failure {
    Failure::new(Exit::WrongKey, "key-unreadable", format!("cannot read the {what}: {e}"))
        .help("name the key with --key-file or --key-command, or restore it from the recovery kit")
}

fn read_all(from: &mut dyn Read) -> std::io::Result<Zeroizing<String>> {
    // Reserved at once, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES_MAX as usize + 1));
    from.take(KEY_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > KEY_BYTES_MAX {
        return Err(std::io::Error::other("it is too large to be a key"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| std::io::Error::other("it is not text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The text of a file, if it is no larger than a key may be.
pub(crate) fn read_file(path: &Path) -> std::io::Result<Zeroizing<String>> {
    read_all(&mut std::fs::File::open(path)?)
}

/// What a program prints. It is started as it is, without a shell.
pub(crate) fn printed_by(argv: &[String]) -> std::io::Result<Zeroizing<String>> {
    let Some((program, args)) = argv.split_first() else {
        return Err(std::io::Error::other("there is no program"));
    };
    let mut child = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let text = match child.stdout.take() {
        Some(mut stdout) => read_all(&mut stdout),
        None => Err(std::io::Error::other("it has no output")),
    };
    let status = child.wait()?;
    if !status.success() {
        return Err(std::io::Error::other(format!("it ended with {status}")));
    }
    text
}

/// The words of a command line: separated by blanks, with quotes and backslashes as in a shell, and nothing else of one.
///
/// # Errors
/// `usage` for a quote that is never closed.
pub fn split_words(line: &str) -> Result<Vec<String>, Failure> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, ' ' | '\t' | '\n') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(q), _) if c == q => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Failure::usage("a quote in the command is never closed"));
    }
    words.extend(word);
    Ok(words)
}

/// Opens the repository, and checks that it still has the history that was seen here before.
///
/// # Errors
/// `no-repository`, `wrong-key`, `history-lost`; whatever the repository returns.
pub fn open(ctx: &Ctx, at: &Locator, key: &KeyFrom) -> Result<Repository, Failure> {
    open_view(ctx, at, &at.cached_store(ctx)?, key)
}

/// As [`open`], with an empty cache: for who wants to know what the place itself holds.
///
/// # Errors
/// As [`open`].
pub fn open_uncached(ctx: &Ctx, at: &Locator, key: &KeyFrom) -> Result<Repository, Failure> {
    open_view(ctx, at, &at.store_before(ctx, Cache::Fresh)?, key)
}

/// Of the past nothing is remembered: that it lacks what came later is no alarm.
fn open_view(ctx: &Ctx, at: &Locator, store: &Store, key: &KeyFrom) -> Result<Repository, Failure> {
    match at {
        Locator::Past(..) => open_unremembered(ctx, store, key),
        Locator::Local(_) | Locator::S3(..) => open_store(ctx, store, key),
    }
}

/// As [`open`], of the repository in this store.
pub(crate) fn open_store(ctx: &Ctx, store: &Store, key: &KeyFrom) -> Result<Repository, Failure> {
    let repository = open_unremembered(ctx, store, key)?;
    check_memory(ctx, &repository)?;
    Ok(repository)
}

fn open_unremembered(ctx: &Ctx, store: &Store, key: &KeyFrom) -> Result<Repository, Failure> {
    if !looks_like_one(store)? {
        return Err(RepoError::NoRepository(store.address()).into());
    }
    let key = key.read(&format!("key or passphrase of {}: ", store.address()))?;
    let repository = Repository::open(store, &ctx.world, &Credential::parse(&key.text)?)?;
    store.warnings().into_iter().for_each(|warning| ctx.remark(format!("{}: {}", warning.name, warning.text)));
    key.warning.into_iter().for_each(|warning| ctx.remark(warning));
    Ok(repository)
}

/// Compares the repository with what was seen of it before, and remembers what is new.
pub(crate) fn check_memory(ctx: &Ctx, repository: &Repository) -> Result<(), Failure> {
    let memory = memory_of(ctx, repository);
    let seen = match recall(&memory) {
        Ok(seen) => seen,
        Err(why) => {
            ctx.remark(why);
            Vec::new()
        }
    };
    match repository.check_history(&seen) {
        Ok(history) => {
            for problem in &history.problems {
                ctx.remark(format!("snapshots may be missing: {problem}"));
            }
            if history.tips != seen {
                remember_heads(&memory, &history.tips).err().into_iter().for_each(|why| ctx.remark(why));
            }
        }
        Err(e @ RepoError::LostHistory(_)) => {
            return Err(Failure::from(e).help(format!(
                "find out who changed the repository; if you put an older copy in its place, remove {}",
                memory.display()
            )));
        }
        // What else keeps the heads from being read shows when a verb reads them: `verify` must be able to name it.
        Err(_) => {}
    }
    Ok(())
}

/// Whether anything of a repository is there: asked before a person is asked for a key.
pub(crate) fn looks_like_one(store: &Store) -> Result<bool, Failure> {
    let config = store::Key::new(store::Shelf::Root, "backstay.json").expect("a good name");
    if store.size(&config)?.is_some() {
        return Ok(true);
    }
    match store.list_prefix(store::Shelf::Keys, "config.") {
        // A bucket that does not exist.
        Err(e) if e.is_absent() => Ok(false),
        keys => Ok(!keys?.is_empty()),
    }
}

/// Remembers the newest heads, so that a later [`open`] notices when they are gone. For verbs that committed something.
/// What was lost while the verb ran stays remembered. Returns one sentence when something is wrong.
pub fn remember(ctx: &Ctx, repository: &Repository) -> Option<String> {
    let memory = memory_of(ctx, repository);
    match repository.check_history(&recall(&memory).unwrap_or_default()) {
        Ok(history) => remember_heads(&memory, &history.tips).err(),
        Err(e @ RepoError::LostHistory(_)) => Some(e.to_string()),
        Err(_) => None,
    }
}

#[derive(Serialize, Deserialize)]
struct Memory {
    v: u32,
    heads: Vec<HeadId>,
}

/// One file for each place: a copy that lags behind its original was not rolled back.
fn memory_of(ctx: &Ctx, repository: &Repository) -> PathBuf {
    state_file(ctx, repository, "")
}

/// Where `what` is remembered about the repository in this place.
pub(crate) fn state_file(ctx: &Ctx, repository: &Repository, what: &str) -> PathBuf {
    let what = if what.is_empty() { String::new() } else { format!("-{what}") };
    let place = place_digest(&repository.store().address());
    ctx.state_dir.join(format!("{}-{place}{what}.json", repository.id()))
}

/// A place by its address, whatever leads there.
pub(crate) fn place_digest(address: &str) -> String {
    let place = std::fs::canonicalize(address).map(|path| path.into_os_string().into_encoded_bytes());
    blake3::hash(&place.unwrap_or_else(|_| address.into())).to_hex()[..16].to_owned()
}

/// What is remembered in this file; `None` where there is no such file.
pub(crate) fn read_memory<T: DeserializeOwned>(path: &Path) -> std::io::Result<Option<T>> {
    match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(serde_json::from_slice(&other?)?)),
    }
}

/// Remembers it, instead of what was remembered before.
pub(crate) fn write_memory(path: &Path, what: &impl Serialize) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(dir)?;
    let temp = dir.join(format!(".{}.tmp", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    serde_json::to_writer(&mut file, what)?;
    file.flush()?;
    std::fs::rename(&temp, path)
}

fn recall(path: &Path) -> Result<Vec<HeadId>, String> {
    let untold = |why: &dyn std::fmt::Display| {
        format!("cannot tell whether the repository lost history: {}: {why}", path.display())
    };
    match read_memory::<Memory>(path) {
        Ok(None) => Ok(Vec::new()),
        Ok(Some(memory)) if memory.v == 1 => Ok(memory.heads),
        Ok(Some(_)) => Err(untold(&"it was written by a later version")),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => Err(untold(&"it is damaged")),
        Err(e) => Err(untold(&e)),
    }
}

fn remember_heads(path: &Path, heads: &[HeadId]) -> Result<(), String> {
    let memory = Memory { v: 1, heads: heads.to_vec() };
    write_memory(path, &memory)
        .map_err(|e| format!("cannot remember the repository's history in {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_in_a_shell_and_nothing_is_expanded() {
        for (line, expect) in [
            ("pass show backup", &["pass", "show", "backup"][..]),
            ("  a 'b c' \"d \\\" e\" f\\ g '' ", &["a", "b c", "d \" e", "f g", ""]),
            ("echo $HOME;id `id`", &["echo", "$HOME;id", "`id`"]),
            ("", &[]),
        ] {
            assert_eq!(split_words(line).expect("splits"), expect, "{line}");
        }
        assert!(split_words("a 'b").is_err());
    }

    #[test]
    fn addresses_are_paths_or_refused_with_a_remedy() {
        let local = |path: &str| Locator::Local(path.into());
        assert_eq!(Locator::parse("/srv/repo"), Ok(local("/srv/repo")));
        assert_eq!(Locator::parse("file:///srv/repo"), Ok(local("/srv/repo")));
        assert_eq!(Locator::parse("a:b"), Ok(local("a:b")));
        for text in ["s3://minio:9000/bucket/a", "s3:http://127.0.0.1:9000/bucket"] {
            let place = Locator::parse(text).expect("a place");
            assert!(matches!(place, Locator::S3(..)), "{text}");
            assert_eq!(place.to_string(), text);
        }
        for text in ["s3://h/b", "s3://user:secret@h/bucket", "sftp://u@h/p", "file://x", "nope://x", ""] {
            assert_eq!(Locator::parse(text).map_err(|f| f.exit), Err(Exit::Usage), "{text}");
        }
    }
}
