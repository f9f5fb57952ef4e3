//! The command line: global options and the list of verbs. Each verb's own options are in `commands/<verb>.rs`.
//!
//! What it is for: parsing, and turning options, the environment and the configuration into a [`Locator`] and a [`KeyFrom`].
//! What it may not know: what verbs do.

use crate::commands as c;
use crate::progress::Show;
use crate::prompt;
use crate::render::Render;
use clap::{ArgAction, Parser, Subcommand};
use ops::config::{Config, Files, Reference, Repository as Configured, RepositoryName};
use ops::{Ctx, Exit, Failure, KeyFrom, Locator};
use repo::Repository;
use std::ffi::OsString;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Protects everything a platform runs on, proves that it can be restored, and restores it.
#[derive(Parser)]
#[command(
    name = "backstay",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Start with: backstay init -r /srv/repo; backstay backup -r /srv/repo /home\n\
                  See it work on this machine in a minute: backstay demo"
)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration
    /// [env: BACKSTAY_REPOSITORY]
    #[arg(short = 'r', long, global = true, value_name = "REPO")]
    pub repo: Option<String>,
    /// Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h
    #[arg(long, global = true, value_name = "TIME", allow_hyphen_values = true)]
    pub as_of: Option<String>,
    /// Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user's own [env: BACKSTAY_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File that holds the repository's address [env: BACKSTAY_REPOSITORY_FILE]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "repo")]
    pub repository_file: Option<PathBuf>,
    /// File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]
    #[arg(short = 'p', long, visible_alias = "password-file", global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]
    #[arg(
        long,
        visible_alias = "password-command",
        global = true,
        value_name = "COMMAND",
        conflicts_with = "key_file"
    )]
    pub key_command: Option<String>,
    /// File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE,
    /// BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]
    #[arg(long, global = true, value_name = "FILE")]
    pub key_passphrase_file: Option<PathBuf>,
    /// Write JSON: one document, or one line per event and a summary last
    #[arg(long, global = true)]
    pub json: bool,
    /// Only say what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice for still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Do not show progress
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Directory for what can be made again [env: BACKSTAY_CACHE_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// The platform that the command is about: see [`Global::about`].
    #[arg(skip)]
    pub platform: Option<String>,
}

/// The repository that is meant, and where its key is if the configuration says so.
struct Target {
    at: Locator,
    key: Option<Reference>,
}

impl Target {
    fn configured(repository: &Configured) -> Target {
        Target { at: repository.locator(), key: repository.key.clone() }
    }
}

/// What to do.
#[derive(Subcommand)]
pub enum Verb {
    /// Make a repository
    Init(c::init::Args),
    /// Back up files, directories, standard input or what a program prints
    Backup(c::backup::Args),
    /// List snapshots
    #[command(visible_alias = "list")]
    Snapshots(c::snapshots::Args),
    /// List what is in a snapshot
    Ls(c::ls::Args),
    /// Find files in snapshots
    Find(c::find::Args),
    /// Show what differs between two snapshots
    Diff(c::diff::Args),
    /// Restore a snapshot, or a part of it
    Restore(c::restore::Args),
    /// Write a file to standard output, or a directory as tar
    Dump(c::dump::Args),
    /// Start a PostgreSQL server on a backup, without restoring it
    Instant(c::instant::Args),
    /// Show snapshots as a file system
    Mount(c::mount::Args),
    /// Remove snapshots by a retention policy
    Forget(c::forget::Args),
    /// Give back the space of what no snapshot needs
    Prune(c::prune::Args),
    /// Check that everything is there and undamaged
    #[command(visible_alias = "check")]
    Verify(c::verify::Args),
    /// Copy a repository to another place
    Copy(c::copy::Args),
    /// Change the tags and holds of snapshots
    Tag(c::tag::Args),
    /// The log of a PostgreSQL cluster: push, get, status
    Wal(c::wal::Args),
    /// The moments that a PostgreSQL cluster can be brought back to
    Pitr(c::pitr::Args),
    /// The configuration: check it, show it, describe its keys
    Config(c::config::Args),
    /// Keys: list, add, remove, enrol, print the recovery kit
    Key(c::key::Args),
    /// What the repository holds
    #[command(visible_alias = "info")]
    Stats(c::stats::Args),
    /// Look at everything a backup depends on, and say what to do
    Doctor(c::doctor::Args),
    /// See backup, loss and recovery on this machine, in a temporary directory
    Demo(c::demo::Args),
    /// Print completions for a shell
    Completions(c::completions::Args),
    /// Print the manual page
    Man(c::man::Args),
    /// Print the version
    Version(c::version::Args),
    /// Help on a command, or on exit-codes
    Help(c::help::Args),
}

impl Verb {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Init(_) => "init",
            Verb::Backup(_) => "backup",
            Verb::Snapshots(_) => "snapshots",
            Verb::Ls(_) => "ls",
            Verb::Find(_) => "find",
            Verb::Diff(_) => "diff",
            Verb::Restore(_) => "restore",
            Verb::Dump(_) => "dump",
            Verb::Instant(_) => "instant",
            Verb::Mount(_) => "mount",
            Verb::Forget(_) => "forget",
            Verb::Prune(_) => "prune",
            Verb::Verify(_) => "verify",
            Verb::Copy(_) => "copy",
            Verb::Tag(_) => "tag",
            Verb::Wal(_) => "wal",
            Verb::Pitr(_) => "pitr",
            Verb::Config(_) => "config",
            Verb::Key(_) => "key",
            Verb::Stats(_) => "stats",
            Verb::Doctor(_) => "doctor",
            Verb::Demo(_) => "demo",
            Verb::Completions(_) => "completions",
            Verb::Man(_) => "man",
            Verb::Version(_) => "version",
            Verb::Help(_) => "help",
        }
    }
}

/// A variable that is set and not empty.
pub fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn env_text(name: &str) -> Result<Option<String>, Failure> {
    let text = env(name).map(|value| value.into_string().map_err(|_| Failure::usage(format!("{name} is not UTF-8"))));
    text.transpose()
}

impl Global {
    /// The same, for what belongs to `PLATFORM` or `PLATFORM/SOURCE`, where one is named: where nothing says which
    /// repository is meant, it is that platform's.
    #[must_use]
    pub fn about(&self, source: Option<&str>) -> Global {
        let platform = source.map(|source| source.split('/').next().unwrap_or(source).to_owned());
        Global { platform: platform.or_else(|| self.platform.clone()), ..self.clone() }
    }

    /// This program with the options that lead it to the same repository and key, for somebody else to run: paths are
    /// absolute, and no secret is among them.
    ///
    /// # Errors
    /// When the program does not know where it is.
    pub fn as_command(&self) -> Result<Vec<String>, Failure> {
        let unknown = |e: std::io::Error| {
            Failure::new(Exit::Failed, "program", format!("cannot tell which program this is: {e}"))
        };
        let program = std::env::current_exe().map_err(unknown)?;
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path).display().to_string();
        let mut words = vec![absolute(program)];
        let mut put = |option: &str, path: Option<PathBuf>| {
            if let Some(path) = path {
                words.extend([option.to_owned(), absolute(path)]);
            }
        };
        put("--config", self.config.clone().or_else(|| env("BACKSTAY_CONFIG").map(PathBuf::from)));
        put("--key-file", self.key_file.clone().or_else(|| env("BACKSTAY_KEY_FILE").map(PathBuf::from)));
        put("--cache-dir", self.cache_dir.clone().or_else(|| env("BACKSTAY_CACHE_DIR").map(PathBuf::from)));
        if let Some(named) = self.named()? {
            words.extend([
                "--repo".to_owned(),
                match Locator::parse(&named) {
                    Ok(Locator::Local(path)) if self.configuration().is_ok_and(|c| c.repository(&named).is_none()) => {
                        absolute(path)
                    }
                    _ => named,
                },
            ]);
        }
        Ok(words)
    }

    /// The same, in this repository.
    #[must_use]
    pub fn at(&self, repository: &str) -> Global {
        Global { repo: Some(repository.to_owned()), ..self.clone() }
    }

    /// Where the configuration is: the option, `BACKSTAY_CONFIG`, the machine's, the user's.
    pub fn config_files(&self) -> Files {
        match self.config.clone().or_else(|| env("BACKSTAY_CONFIG").map(PathBuf::from)) {
            Some(file) => Files::Named(file),
            None => {
                let own = env("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
                let own = own.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".config")));
                Files::Standard { system: "/etc/backstay".into(), user: own.map(|dir| dir.join("backstay")) }
            }
        }
    }

    /// The configuration; empty where there is none.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn configuration(&self) -> Result<Config, Failure> {
        Config::load(&self.config_files())
    }

    /// Where the repository is: the option, its file, `BACKSTAY_REPOSITORY`, `BACKSTAY_REPOSITORY_FILE`, the
    /// configuration.
    ///
    /// # Errors
    /// `which-repository` when nothing says so; those of a configuration that is needed.
    pub fn locator(&self) -> Result<Locator, Failure> {
        Ok(self.target()?.at)
    }

    /// The repository that a text means: a name from the configuration, or an address.
    ///
    /// # Errors
    /// As [`Locator::parse`]; those of the configuration, where the text may be a name.
    pub fn place(&self, text: &str) -> Result<Locator, Failure> {
        Ok(self.meant(text)?.at)
    }

    fn target(&self) -> Result<Target, Failure> {
        let target = match self.named()? {
            Some(text) => self.meant(&text)?,
            None => {
                let config = self.configuration()?;
                let of_platform = self.platform.as_ref().filter(|platform| config.platform(platform).is_ok());
                let (_, repository) = match of_platform {
                    Some(platform) => config.repository_of(platform)?,
                    None => config.default_repository()?,
                };
                Target::configured(repository)
            }
        };
        match &self.as_of {
            Some(time) => {
                let at = target.at.as_of(ops::select::parse_time(time, store::World::real().clock.now())?)?;
                Ok(Target { at, ..target })
            }
            None => Ok(target),
        }
    }

    /// Address of the repository that is meant.
    ///
    /// # Errors
    /// `usage` where nothing says which one.
    pub fn address(&self) -> Result<String, Failure> {
        Ok(self.target()?.at.to_string())
    }

    fn meant(&self, text: &str) -> Result<Target, Failure> {
        // A directory of that name is ./NAME.
        if RepositoryName::parse(text).is_some()
            && let Some((_, repository)) = self.configuration()?.repository(text)
        {
            return Ok(Target::configured(repository));
        }
        Ok(Target { at: Locator::parse(text)?, key: None })
    }

    /// What options and the environment say about which repository is meant.
    ///
    /// # Errors
    /// `usage` for a file or a variable that cannot be read.
    pub fn named(&self) -> Result<Option<String>, Failure> {
        if let Some(text) = &self.repo {
            return Ok(Some(text.clone()));
        }
        let file = match &self.repository_file {
            Some(file) => Some(file.clone()),
            None => match env_text("BACKSTAY_REPOSITORY")? {
                Some(text) => return Ok(Some(text)),
                None => env("BACKSTAY_REPOSITORY_FILE").map(PathBuf::from),
            },
        };
        let Some(file) = file else { return Ok(None) };
        let text = std::fs::read_to_string(&file).map_err(|e| {
            Failure::usage(format!("cannot read the repository's address from {}: {e}", file.display()))
        })?;
        Ok(Some(text.trim().to_owned()))
    }

    /// Where the key comes from: the options, then `BACKSTAY_KEY_FD`, `BACKSTAY_KEY`, `BACKSTAY_KEY_FILE`,
    /// `BACKSTAY_KEY_COMMAND`, the configuration of the repository, systemd's credential `backstay-key`, and on a terminal
    /// a person.
    ///
    /// # Errors
    /// `usage` when there is none of these.
    pub fn key(&self) -> Result<KeyFrom, Failure> {
        self.key_of(&self.target()?)
    }

    fn key_of(&self, target: &Target) -> Result<KeyFrom, Failure> {
        let key = match self.key_given()? {
            Some(key) => key,
            None => key_otherwise(target)?,
        };
        if matches!(key, KeyFrom::Prompt(_)) {
            return Ok(key);
        }
        Ok(match self.passphrase()? {
            Some(passphrase) => KeyFrom::Protected { key: Box::new(key), passphrase: Box::new(passphrase) },
            None => key,
        })
    }

    /// Where the passphrase of a key file comes from, should it have one: the option, `BACKSTAY_KEY_PASSPHRASE`,
    /// `…_FILE`, `…_COMMAND`, and on a terminal a person.
    ///
    /// # Errors
    /// `usage` for variables that make no sense.
    pub fn passphrase(&self) -> Result<Option<KeyFrom>, Failure> {
        if let Some(file) = &self.key_passphrase_file {
            return Ok(Some(KeyFrom::File(file.clone())));
        }
        if let Some(text) = env_text("BACKSTAY_KEY_PASSPHRASE")? {
            return Ok(Some(KeyFrom::Text(Zeroizing::new(text))));
        }
        if let Some(file) = env("BACKSTAY_KEY_PASSPHRASE_FILE") {
            return Ok(Some(KeyFrom::File(file.into())));
        }
        if let Some(command) = env_text("BACKSTAY_KEY_PASSPHRASE_COMMAND")? {
            return Ok(Some(KeyFrom::Command(ops::split_words(&command)?)));
        }
        Ok(prompt::is_possible().then_some(KeyFrom::Prompt(prompt::secret)))
    }

    /// What options and variables say about where the key is.
    fn key_given(&self) -> Result<Option<KeyFrom>, Failure> {
        if let Some(file) = &self.key_file {
            return Ok(Some(KeyFrom::File(file.clone())));
        }
        if let Some(command) = &self.key_command {
            return Ok(Some(KeyFrom::Command(ops::split_words(command)?)));
        }
        if let Some(fd) = env_text("BACKSTAY_KEY_FD")? {
            let fd =
                fd.parse().map_err(|_| Failure::usage(format!("BACKSTAY_KEY_FD is {fd:?}, which is no number")))?;
            return Ok(Some(KeyFrom::Fd(fd)));
        }
        if let Some(text) = env_text("BACKSTAY_KEY")? {
            return Ok(Some(KeyFrom::Text(Zeroizing::new(text))));
        }
        if let Some(file) = env("BACKSTAY_KEY_FILE") {
            return Ok(Some(KeyFrom::File(file.into())));
        }
        env_text("BACKSTAY_KEY_COMMAND")?.map(|command| Ok(KeyFrom::Command(ops::split_words(&command)?))).transpose()
    }

    /// Opens the repository, and passes its warnings on.
    ///
    /// # Errors
    /// As [`ops::open`].
    pub fn open(&self, ctx: &Ctx, out: &Render) -> Result<Repository, Failure> {
        self.open_by(ctx, out, |at, key| ops::open(ctx, at, key))
    }

    /// As [`Global::open`], in a way of its own.
    ///
    /// # Errors
    /// As `how`.
    pub fn open_by(
        &self,
        ctx: &Ctx,
        out: &Render,
        how: impl FnOnce(&Locator, &KeyFrom) -> Result<Repository, Failure>,
    ) -> Result<Repository, Failure> {
        let target = self.target()?;
        // That there is no repository is said before that there is no key.
        let key = match self.key_of(&target) {
            Err(no_key) => target.at.store(ctx).and(Err(no_key)),
            key => key,
        };
        let repository = how(&target.at, &key?)?;
        out.repository_warnings(&ctx.take_remarks());
        out.repository_warnings(&repository.warnings);
        Ok(repository)
    }

    /// Whether to show progress.
    pub fn show(&self) -> Show {
        if self.no_progress { Show::Never } else { Show::Auto }
    }

    /// Directory for what can be made again.
    pub fn cache_dir(&self) -> PathBuf {
        let own = self.cache_dir.clone().or_else(|| env("BACKSTAY_CACHE_DIR").map(PathBuf::from));
        own.unwrap_or_else(|| place("XDG_CACHE_HOME", ".cache", "/var/cache/backstay"))
    }
}

/// Where the key is when neither an option nor a variable says so.
fn key_otherwise(target: &Target) -> Result<KeyFrom, Failure> {
    if let Some(reference) = &target.key {
        return reference.key();
    }
    let credential = env("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join("backstay-key"));
    if let Some(file) = credential.filter(|file| file.exists()) {
        return Ok(KeyFrom::File(file));
    }
    if prompt::is_possible() {
        return Ok(KeyFrom::Prompt(prompt::secret));
    }
    Err(Failure::new(Exit::WrongKey, "no-key", "there is no key or passphrase")
        .help("name it with --key-file, --key-command, BACKSTAY_KEY or BACKSTAY_KEY_FILE, or in the configuration"))
}

/// Directory for what is remembered.
pub fn state_dir() -> PathBuf {
    let own = env("BACKSTAY_STATE_DIR").map(PathBuf::from);
    own.unwrap_or_else(|| place("XDG_STATE_HOME", ".local/state", "/var/lib/backstay"))
}

fn place(variable: &str, below_home: &str, of_root: &str) -> PathBuf {
    if let Some(dir) = env(variable).map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return dir.join("backstay");
    }
    match env("HOME") {
        Some(home) if !rustix::process::geteuid().is_root() => PathBuf::from(home).join(below_home).join("backstay"),
        _ => of_root.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
