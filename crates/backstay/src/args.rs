//! The command line: global options and the list of verbs. Each verb's own options are in `commands/<verb>.rs`.
//!
//! What it is for: parsing, and turning options and the environment into a [`Locator`] and a [`KeyFrom`].
//! What it may not know: what verbs do.

use crate::commands as c;
use crate::progress::Show;
use crate::prompt;
use crate::render::Render;
use clap::{ArgAction, Parser, Subcommand};
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
    /// Repository: a path, s3://HOST/BUCKET/PREFIX, or s3:http://HOST:PORT/BUCKET/PREFIX [env: BACKSTAY_REPOSITORY]
    #[arg(short = 'r', long, global = true, value_name = "REPO")]
    pub repo: Option<String>,
    /// Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h
    #[arg(long, global = true, value_name = "TIME", allow_hyphen_values = true)]
    pub as_of: Option<String>,
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
            Verb::Forget(_) => "forget",
            Verb::Prune(_) => "prune",
            Verb::Verify(_) => "verify",
            Verb::Copy(_) => "copy",
            Verb::Tag(_) => "tag",
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
    /// Where the repository is: the option, its file, `BACKSTAY_REPOSITORY`, `BACKSTAY_REPOSITORY_FILE`.
    ///
    /// # Errors
    /// `usage` when nothing says so.
    pub fn locator(&self) -> Result<Locator, Failure> {
        let at = self.named()?;
        match &self.as_of {
            Some(time) => at.as_of(ops::select::parse_time(time, store::World::real().clock.now())?),
            None => Ok(at),
        }
    }

    fn named(&self) -> Result<Locator, Failure> {
        if let Some(text) = &self.repo {
            return Locator::parse(text);
        }
        let file = match &self.repository_file {
            Some(file) => Some(file.clone()),
            None => match env_text("BACKSTAY_REPOSITORY")? {
                Some(text) => return Locator::parse(&text),
                None => env("BACKSTAY_REPOSITORY_FILE").map(PathBuf::from),
            },
        };
        let Some(file) = file else {
            return Err(Failure::usage("which repository?").help("name it with --repo or BACKSTAY_REPOSITORY"));
        };
        let text = std::fs::read_to_string(&file).map_err(|e| {
            Failure::usage(format!("cannot read the repository's address from {}: {e}", file.display()))
        })?;
        Locator::parse(text.trim())
    }

    /// Where the key comes from: the options, then `BACKSTAY_KEY_FD`, `BACKSTAY_KEY`, `BACKSTAY_KEY_FILE`,
    /// `BACKSTAY_KEY_COMMAND`, systemd's credential `backstay-key`, and on a terminal a person.
    ///
    /// # Errors
    /// `usage` when there is none of these.
    pub fn key(&self) -> Result<KeyFrom, Failure> {
        let key = self.key_itself()?;
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

    fn key_itself(&self) -> Result<KeyFrom, Failure> {
        if let Some(file) = &self.key_file {
            return Ok(KeyFrom::File(file.clone()));
        }
        if let Some(command) = &self.key_command {
            return Ok(KeyFrom::Command(ops::split_words(command)?));
        }
        if let Some(fd) = env_text("BACKSTAY_KEY_FD")? {
            let fd =
                fd.parse().map_err(|_| Failure::usage(format!("BACKSTAY_KEY_FD is {fd:?}, which is no number")))?;
            return Ok(KeyFrom::Fd(fd));
        }
        if let Some(text) = env_text("BACKSTAY_KEY")? {
            return Ok(KeyFrom::Text(Zeroizing::new(text)));
        }
        if let Some(file) = env("BACKSTAY_KEY_FILE") {
            return Ok(KeyFrom::File(file.into()));
        }
        if let Some(command) = env_text("BACKSTAY_KEY_COMMAND")? {
            return Ok(KeyFrom::Command(ops::split_words(&command)?));
        }
        let credential = env("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join("backstay-key"));
        if let Some(file) = credential.filter(|file| file.exists()) {
            return Ok(KeyFrom::File(file));
        }
        if prompt::is_possible() {
            return Ok(KeyFrom::Prompt(prompt::secret));
        }
        Err(Failure::new(Exit::WrongKey, "no-key", "there is no key or passphrase")
            .help("name it with --key-file, --key-command, BACKSTAY_KEY or BACKSTAY_KEY_FILE"))
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
        let repository = how(&self.locator()?, &self.key_unless_absent(ctx)?)?;
        out.repository_warnings(&ctx.take_remarks());
        out.repository_warnings(&repository.warnings);
        Ok(repository)
    }

    /// As [`Global::key`]; but that there is no repository is said before that there is no key.
    fn key_unless_absent(&self, ctx: &Ctx) -> Result<KeyFrom, Failure> {
        match self.key() {
            Err(no_key) => self.locator()?.store(ctx).and(Err(no_key)),
            key => key,
        }
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
