//! The configuration file: what is protected, where it is kept, and what opens that.
//!
//! What it is for: [`Config`] answers what a name means; [`Checked`] is everything that can be said about the files.
//! What it may not know: command lines, terminals, and what verbs do with a source.
//! Where data comes from and goes: `load.rs` finds TOML files, `tree.rs` makes one tree of them, `schema.rs` declares the
//! keys and `keys.rs` reads them, `check.rs` says what contradicts itself; verbs ask [`Config`]. Secrets are references
//! ([`Reference`]) until they are used.

mod check;
mod describe;
mod keys;
mod load;
mod reference;
mod schema;
mod tree;

use crate::failure::{Exit, Failure};
use keys::{Field, nearest};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub use load::Files;
pub use reference::Reference;
pub use schema::{
    Connect, Credentials, Defaults, Dump, DumpName, FilesSource, Logical, Method, Physical, Platform, PlatformName,
    PostgresSource, Receive, Repository, RepositoryName, Settings, Size, Slot, Source, SourceName, Span, SslMode,
    Version, Wal,
};
pub use tree::{Place, Problem};

/// A configuration without errors; empty where there are no files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    files: Vec<PathBuf>,
    settings: Settings,
}

/// Everything that can be said about the files of a configuration.
#[derive(Debug)]
pub struct Checked {
    /// The files that were read, the first one first.
    pub files: Vec<PathBuf>,
    /// What they say; none where there are errors.
    pub config: Option<Config>,
    /// What is wrong, in the order of files and lines.
    pub errors: Vec<Problem>,
    /// What is worth knowing, in the same order: keys that this version does nothing with, sources it cannot back up.
    pub warnings: Vec<Problem>,
}

/// Reads a configuration and says everything there is to say about it.
///
/// # Errors
/// `config-unreadable` with exit 2 for a file that cannot be read at all.
pub fn check(files: &Files) -> Result<Checked, Failure> {
    load::read(files)
}

/// The JSON Schema of a configuration file.
pub fn json_schema() -> serde_json::Value {
    describe::json_schema()
}

/// The documentation of every key, as Markdown.
pub fn documentation() -> String {
    describe::markdown()
}

impl Config {
    /// The configuration in these files. Where there are none and none was named, it is empty.
    ///
    /// # Errors
    /// `config` with exit 2 for the first thing that is wrong, with the number of the others; `config-unreadable`.
    pub fn load(files: &Files) -> Result<Config, Failure> {
        let checked = check(files)?;
        if let Some(config) = checked.config {
            return Ok(config);
        }
        let (first, rest) = checked.errors.split_first().expect("files without errors are a configuration");
        let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
        let help = match &first.help {
            Some(help) if more.is_empty() => help.clone(),
            Some(help) => format!("{help}; see all: backstay config check"),
            None => "see all: backstay config check".into(),
        };
        Err(Failure::new(Exit::Usage, "config", format!("{first}{more}")).help(help))
    }

    /// The files it was read from; none where nothing is configured.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// All that is set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All that is set and holds, as JSON: defaults filled in, paths absolute, secrets as references.
    pub fn shown(&self) -> serde_json::Value {
        self.settings.shown()
    }

    /// The same as TOML, as one file that means the same.
    ///
    /// # Errors
    /// Never for what was read from files; `config` otherwise.
    pub fn to_toml(&self) -> Result<String, Failure> {
        let text = toml::to_string_pretty(&self.shown());
        text.map_err(|e| Failure::new(Exit::Usage, "config", format!("cannot write the configuration: {e}")))
    }

    /// The repository of this name, where there is one.
    pub fn repository(&self, name: &str) -> Option<(&RepositoryName, &Repository)> {
        self.settings.repository.get_key_value(name)
    }

    /// The platform of this name.
    ///
    /// # Errors
    /// `unknown-platform` with exit 2.
    pub fn platform(&self, name: &str) -> Result<(&PlatformName, &Platform), Failure> {
        let platforms = &self.settings.platform;
        platforms.get_key_value(name).ok_or_else(|| unknown("unknown-platform", "no platform", name, platforms))
    }

    /// The source that `PLATFORM/SOURCE` names.
    ///
    /// # Errors
    /// `unknown-platform`, `unknown-source`, both exit 2.
    pub fn source(&self, text: &str) -> Result<(&PlatformName, &SourceName, &Source), Failure> {
        let (platform, source) = text.split_once('/').unwrap_or((text, ""));
        let (platform_name, platform) = self.platform(platform)?;
        let (source_name, source) = platform.source.get_key_value(source).ok_or_else(|| {
            let what = format!("no source of platform {platform_name}");
            unknown("unknown-source", &what, source, &platform.source)
        })?;
        Ok((platform_name, source_name, source))
    }

    /// The sources that `PLATFORM` or `PLATFORM/SOURCE` names, in the order of their names.
    ///
    /// # Errors
    /// As [`Config::source`].
    pub fn sources(&self, text: &str) -> Result<Vec<(&PlatformName, &SourceName, &Source)>, Failure> {
        if text.contains('/') {
            return Ok(vec![self.source(text)?]);
        }
        let (name, platform) = self.platform(text)?;
        Ok(platform.source.iter().map(|(source_name, source)| (name, source_name, source)).collect())
    }

    /// The repository that backups of a platform go into: its first, or the only one there is.
    ///
    /// # Errors
    /// `unknown-platform`; `which-repository` where neither is configured, both exit 2.
    pub fn repository_of(&self, platform: &str) -> Result<(&RepositoryName, &Repository), Failure> {
        let (_, platform) = self.platform(platform)?;
        match platform.repositories.first() {
            Some(name) => self.repository(name.as_str()).ok_or_else(|| self.which_repository()),
            None => self.only_repository().ok_or_else(|| self.which_repository()),
        }
    }

    /// The repository that is meant where none is named: the only one, or that of the only platform.
    ///
    /// # Errors
    /// `which-repository` with exit 2, with the names of all.
    pub fn default_repository(&self) -> Result<(&RepositoryName, &Repository), Failure> {
        let mut platforms = self.settings.platform.keys();
        match (self.only_repository(), platforms.next(), platforms.next()) {
            (Some(only), ..) => Ok(only),
            (None, Some(platform), None) => self.repository_of(platform.as_str()),
            _ => Err(self.which_repository()),
        }
    }

    fn only_repository(&self) -> Option<(&RepositoryName, &Repository)> {
        let mut all = self.settings.repository.iter();
        all.next().filter(|_| all.next().is_none())
    }

    fn which_repository(&self) -> Failure {
        let failure = Failure::new(Exit::Usage, "which-repository", "which repository?");
        let names: Vec<String> = self.settings.repository.keys().map(ToString::to_string).collect();
        match names.is_empty() {
            true => {
                failure.help("name it with --repo or BACKSTAY_REPOSITORY, or configure one (docs/configuration.md)")
            }
            false => failure.help(format!("name one with --repo: {}", names.join(", "))),
        }
    }
}

/// There is nothing of this name; perhaps something like it was meant.
fn unknown<K: Borrow<str> + Ord, V>(code: &'static str, what: &str, name: &str, known: &BTreeMap<K, V>) -> Failure {
    let names: Vec<&str> = known.keys().map(Borrow::borrow).collect();
    let failure = Failure::new(Exit::Usage, code, format!("there is {what} {name:?} in the configuration"));
    match nearest(name, names.iter().copied()) {
        Some(near) => failure.help(format!("did you mean {near:?}?")),
        None if names.is_empty() => failure.help("there are none: docs/configuration.md says how to configure one"),
        None => failure.help(format!("there are {}", names.join(", "))),
    }
}
