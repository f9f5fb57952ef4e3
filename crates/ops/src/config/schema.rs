//! Every key of the configuration, with its type and what people read about it.
//!
//! What it is for: the types that verbs work with. The comments here are the documentation: `config schema` and
//! `docs/generated/config.md` are made from them.
//! What it may not know: files, and what verbs do with a source.
//! Where data comes from and goes: see `keys.rs`, which makes readers and descriptions of these declarations.

use super::keys::{
    Field, Key, Later, Name, Reader, Shape, TableField, TableShape, choices, directory, is_something, joined, keys,
    names, nearest, not_a_name, told,
};
use super::reference::Reference;
use super::tree::{Node, Problem, Value};
use crate::open::{Locator, S3Login};
use crate::select::{parse_compression, parse_size, parse_span};
use repo::Compression;
use serde_json::Value as Json;
use sources::postgres::replication::is_slot_name;
use sources::sqlite::Sqlite;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

names! {
    /// Name of a repository.
    pub struct RepositoryName: "repository";
    /// Name of a platform.
    pub struct PlatformName: "platform";
    /// Name of a source within its platform.
    pub struct SourceName: "source";
    /// Name of a dump within its source.
    pub struct DumpName: "dump";
}

keys! {
    /// A configuration: all its files together.
    pub struct Settings {
        /// Version of the configuration's keys. Every file says it.
        version: Version,
        /// What holds where nothing else is said.
        defaults: Defaults = Defaults { compression: None },
        /// Where backups live, by name. The name serves wherever a repository is asked for: `-r NAME`.
        repository: BTreeMap<RepositoryName, Repository>,
        /// What is protected, by name: `backstay backup NAME`.
        platform: BTreeMap<PlatformName, Platform>,
    }
    later ["runbooks", "retention", "drill", "notify", "alert", "server", "audit", "escrow"]

    /// What holds where nothing else is said.
    pub struct Defaults {
        /// How hard backups of sources compress, where `--compression` does not say.
        compression: Option<Compression>,
    }
    later ["timezone", "jitter", "catch_up", "limits", "warn_at", "size_change", "verify"]

    /// A repository: where backups live, and what opens it.
    pub struct Repository {
        /// Where it is: a path, `file:///path`, `s3://HOST/BUCKET/PREFIX` or `s3:http://HOST:PORT/BUCKET/PREFIX`.
        url: Locator,
        /// The key or passphrase. An option or a variable of the environment goes before it. Where it is not set, the
        /// key comes from there or from a person.
        key: Option<Reference>,
        /// The access key of a bucket. Where it is not set: what the environment, the files of the AWS tools, or the
        /// machine's cloud say.
        credentials: Option<Credentials>,
        /// The repository that this one is a copy of. `init` does not make it: `backstay copy -r THAT --to THIS` does.
        copy_from: Option<RepositoryName>,
    }
    later ["place", "archive", "immutability"]

    /// The access key of a bucket.
    pub struct Credentials {
        /// Its name.
        id: Reference,
        /// Its secret.
        secret: Reference,
    }
    later []

    /// A platform: a system somebody runs, and what it consists of.
    pub struct Platform {
        /// The repositories it is kept in. Backups go into the first; `backstay copy` brings them to others. Where it is not
        /// set, there must be only one repository.
        repositories: Vec<RepositoryName>,
        /// What it consists of, by name: `backstay backup PLATFORM/NAME`. The `kind` of each says which keys it has.
        source: BTreeMap<SourceName, Source>,
    }
    later [
        "objective", "compose", "copy", "schedule", "retention", "scenario", "environments", "review", "not_backed_up",
        "privacy",
    ]

    /// A source of kind `files`: files and directories.
    pub struct FilesSource {
        /// Files and directories. A part of a path may have `*`, `?` and `[…]`, which stand for names that are there at the
        /// time of the backup, hidden ones too. What is not there is named, and the backup is incomplete.
        paths: Vec<PathBuf>,
        /// The same, but what is not there is left out without a word.
        optional_paths: Vec<PathBuf>,
        /// What to leave out, as in a .gitignore file: `*.log`, `cache/`, `/srv/**/tmp`.
        exclude: Vec<String>,
        /// Files with one such pattern per line.
        exclude_files: Vec<PathBuf>,
        /// Leave out what is in directories marked by a CACHEDIR.TAG.
        exclude_caches: bool = false,
        /// Leave out files that are larger.
        exclude_larger_than: Option<Size>,
        /// Stay on the file systems of the paths.
        one_file_system: bool = false,
        /// What to do with SQLite databases among the files.
        sqlite: Sqlite = Sqlite::Auto,
        /// Seal to other recipients than the repository's own. This version cannot: a source that has it is not backed up.
        encrypt_to: Vec<String>,
    }
    later ["class", "why", "schedule", "retention", "triggers", "secrets", "restore", "objective"]

    /// A source of kind `postgres`: a PostgreSQL cluster.
    pub struct PostgresSource {
        /// How to reach the server.
        connect: Connect,
        /// The data directory, where it can be read on this machine.
        data_directory: Option<PathBuf>,
        /// Back up the whole cluster, as files and WAL.
        physical: Option<Physical>,
        /// Back up databases with `pg_dump`.
        logical: Option<Logical>,
        /// More dumps, of a part of a database each, kept in the same snapshot.
        dumps: Vec<Dump>,
        /// Tables whose rows are counted with each backup, as `schema.table`: what a restore is compared with.
        count_tables: Vec<String>,
        /// Directory of the client programs (`pg_dump`, `pg_restore`, `psql`). Where it is not set, they are looked for.
        bin: Option<PathBuf>,
        /// How many tables are dumped at the same time, at most 64. Where it is not set: as many as there are processors, from
        /// 2 to 8.
        workers: Option<u32>,
    }
    later ["class", "why", "schedule", "retention", "triggers", "restore", "objective", "statistics"]

    /// How to reach a PostgreSQL server.
    pub struct Connect {
        /// Host name, address, or the directory of the server's socket. Where it is not set: the usual socket.
        host: Option<String>,
        /// Port.
        port: u16 = 5432,
        /// Who to connect as. Where it is not set: the name of the user who runs the program.
        user: Option<String>,
        /// The database.
        database: String = "postgres".to_owned(),
        /// The password.
        password: Option<Reference>,
        /// Whether the connection is encrypted, and what is checked.
        sslmode: SslMode = SslMode::Prefer,
        /// Certificates of those who may vouch for the server.
        sslrootcert: Option<PathBuf>,
        /// Certificate of the client.
        sslcert: Option<PathBuf>,
        /// Private key of the client.
        sslkey: Option<PathBuf>,
        /// Reach it through something else, such as `compose:SERVICE`. This version cannot: a source that has it is not
        /// backed up.
        via: Option<String>,
    }
    later []

    /// A physical backup of a PostgreSQL cluster.
    pub struct Physical {
        /// Where the files come from.
        method: Method = Method::Auto,
        /// Which WAL is kept.
        wal: Wal = Wal::Continuous,
        /// After how many backups a file that looks unchanged is read again.
        verify_every: u32 = 10,
        /// How `backstay wal receive` keeps up with the server.
        receive: Receive = Receive::default(),
    }
    later ["base", "incremental", "archive_timeout", "standby"]

    /// Receiving the WAL of a PostgreSQL cluster as it is written.
    pub struct Receive {
        /// The replication slot. Made where it is not there; where it is not set, it is `backstay_PLATFORM_SOURCE`.
        slot: Option<Slot>,
        /// How long what the server has written may wait before it is stored: what can be lost with the server.
        interval: Span = Receive::default().interval,
        /// When the server has to keep more WAL than this for the slot, that is worth a warning.
        held_warn: Size = Receive::default().held_warn,
    }
    later []

    /// A logical backup of PostgreSQL databases.
    pub struct Logical {
        /// Which databases; `"*"` is all but templates. Where it is not set: the one that `connect` names, or all where that is
        /// `postgres`.
        databases: Vec<String>,
        /// With roles and tablespaces.
        globals: bool = true,
        /// With large objects.
        blobs: bool = true,
        /// Tables to leave out, as patterns of `pg_dump`.
        exclude_tables: Vec<String>,
        /// A git repository, as an absolute path or an address, where the definitions are committed when they changed.
        schema_git: Option<String>,
    }
    later ["schedule"]

    /// A dump of a part of a PostgreSQL database.
    pub struct Dump {
        /// What it is called.
        name: DumpName,
        /// Another database than `connect` names.
        database: Option<String>,
        /// Only these tables, as patterns of `pg_dump`.
        tables: Vec<String>,
        /// Tables to leave out.
        exclude_tables: Vec<String>,
        /// Definitions without data.
        schema_only: bool = false,
    }
    later ["schedule"]
}

choices! {
    /// Where the files of a physical backup come from.
    pub enum Method {
        /// From the data directory where it can be read on this machine, and otherwise from the server.
        Auto = "auto",
        /// From the data directory: only what changed is read.
        Local = "local",
        /// From the server, over the connection: all of it is sent, and only what changed is stored.
        Remote = "remote",
    }

    /// Which WAL is kept beside a physical backup.
    pub enum Wal {
        /// All of it: any time between two backups can be restored to.
        Continuous = "continuous",
        /// What each backup needs to be consistent.
        Off = "off",
    }

    /// Whether a connection to PostgreSQL is encrypted, and what is checked: as for `psql`.
    pub enum SslMode {
        /// It is not.
        Disable = "disable",
        /// Only where the server insists.
        Allow = "allow",
        /// Where the server can.
        Prefer = "prefer",
        /// Always.
        Require = "require",
        /// Always, and the server's certificate is checked.
        VerifyCa = "verify-ca",
        /// Always, and the server's certificate and name are checked.
        VerifyFull = "verify-full",
    }
}

/// Kinds of sources that a configuration may have and that this version cannot back up.
const LATER_KINDS: &[&str] = &["sqlite", "redis", "s3", "azure-blob", "gcs", "secrets", "command"];

/// What a platform consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Files and directories.
    Files(FilesSource),
    /// A PostgreSQL cluster.
    Postgres(Box<PostgresSource>),
    /// Something of this kind, which this version knows by name only.
    Later(String),
}

impl Source {
    /// The word for its kind.
    pub fn kind(&self) -> &str {
        match self {
            Source::Files(_) => "files",
            Source::Postgres(_) => "postgres",
            Source::Later(kind) => kind,
        }
    }
}

impl Field for Source {
    fn shape() -> Shape {
        let kinds = vec![("files", FilesSource::table()), ("postgres", PostgresSource::table())];
        Shape::Kinds(kinds, LATER_KINDS)
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        let mut table = reader.table(node, at)?.clone();
        let Some(entry) = table.remove("kind") else {
            reader.problem(Problem::new(&node.place, format!("{at}.kind is missing")).help("write kind = \"files\""));
            return None;
        };
        let kind = reader.text(&entry.node, &joined(at, "kind"))?.to_owned();
        let rest = Node { place: node.place.clone(), value: Value::Table(table) };
        match kind.as_str() {
            "files" => FilesSource::read(&rest, at, reader).map(Source::Files),
            "postgres" => PostgresSource::read(&rest, at, reader).map(Box::new).map(Source::Postgres),
            later if LATER_KINDS.contains(&later) => {
                reader.unused(Later::Kind, later, &entry.node.place);
                Some(Source::Later(kind))
            }
            _ => {
                let problem =
                    Problem::new(&entry.node.place, format!("{at}.kind: there is no kind of source {kind:?}"));
                let known = ["files", "postgres"].into_iter().chain(LATER_KINDS.iter().copied());
                reader.problem(match nearest(&kind, known) {
                    Some(near) => problem.help(format!("did you mean {near:?}?")),
                    None => problem.help("it is files or postgres"),
                });
                None
            }
        }
    }

    fn shown(&self) -> Json {
        let mut shown = match self {
            Source::Files(files) => files.shown(),
            Source::Postgres(postgres) => postgres.shown(),
            Source::Later(_) => serde_json::json!({}),
        };
        shown["kind"] = self.kind().into();
        shown
    }
}

/// The version of the configuration's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version;

impl Field for Version {
    fn shape() -> Shape {
        Shape::Integer(1, 1)
    }

    fn read(node: &Node, _at: &str, reader: &mut Reader) -> Option<Self> {
        match node.value {
            Value::Integer(1) => Some(Version),
            Value::Integer(later) if later > 1 => {
                let problem = Problem::new(&node.place, format!("version {later} is of a later backstay"));
                reader.problem(problem.help("this one knows version = 1"));
                None
            }
            _ => {
                reader.problem(Problem::new(&node.place, "version must be 1"));
                None
            }
        }
    }

    fn shown(&self) -> Json {
        1.into()
    }
}

/// A size in bytes, written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Field for Size {
    fn shape() -> Shape {
        Shape::Text("size: \"500K\", \"10M\", \"1.5G\"")
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        reader.parsed(node, at, |text| {
            parse_size(text)
                .map(Size)
                .ok_or_else(|| format!("{text:?} is no size: write \"500K\", \"10M\" or \"1.5G\""))
        })
    }

    fn shown(&self) -> Json {
        let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
        let whole = units.iter().find(|(_, bits)| self.0 > 0 && self.0.trailing_zeros() >= *bits);
        whole.map_or_else(|| format!("{}B", self.0), |(unit, bits)| format!("{}{unit}", self.0 >> bits)).into()
    }
}

/// A length of time, written with its unit; a second at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Field for Span {
    fn shape() -> Shape {
        Shape::Text("time: \"5s\", \"2m\", \"1h30m\"")
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        reader.parsed(node, at, |text| {
            let span = parse_span(text).filter(|span| *span >= Duration::from_secs(1));
            span.map(Span).ok_or_else(|| format!("{text:?} is no length of time: write \"5s\", \"2m\" or \"1h30m\""))
        })
    }

    fn shown(&self) -> Json {
        format!("{}s", self.0.as_secs()).into()
    }
}

/// Name of a replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot(pub String);

impl Field for Slot {
    fn shape() -> Shape {
        Shape::Text("name: small letters, digits and _, 63 at most")
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        reader.parsed(node, at, |text| {
            let good = is_slot_name(text).then(|| Slot(text.to_owned()));
            good.ok_or_else(|| format!("{text:?} cannot be a slot: small letters, digits and _, 63 at most"))
        })
    }

    fn shown(&self) -> Json {
        self.0.clone().into()
    }
}

impl Default for Receive {
    fn default() -> Self {
        Receive { slot: None, interval: Span(Duration::from_secs(5)), held_warn: Size(8 << 30) }
    }
}

impl Field for Compression {
    fn shape() -> Shape {
        Shape::Text("\"off\", \"fast\", \"auto\", \"max\", or \"zstd:LEVEL\" with a level from -7 to 19")
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        reader.parsed(node, at, parse_compression)
    }

    fn shown(&self) -> Json {
        match self {
            Compression::Off => "off".into(),
            Compression::Level(level) => format!("zstd:{level}").into(),
        }
    }
}

impl Field for Sqlite {
    fn shape() -> Shape {
        let auto = "Copy them through SQLite, consistent while others use them.";
        Shape::Choice(vec![("auto", auto.to_owned()), ("off", "Treat them as any other file.".to_owned())])
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        reader.parsed(node, at, |text| match text {
            "auto" => Ok(Sqlite::Auto),
            "off" => Ok(Sqlite::Off),
            _ => Err(format!("{text:?} is none of auto, off")),
        })
    }

    fn shown(&self) -> Json {
        match self {
            Sqlite::Auto => "auto".into(),
            Sqlite::Off => "off".into(),
        }
    }
}

impl Field for Locator {
    fn shape() -> Shape {
        Shape::Text("path or address")
    }

    fn read(node: &Node, at: &str, reader: &mut Reader) -> Option<Self> {
        let parsed = Locator::parse(reader.text(node, at)?);
        match parsed {
            Ok(Locator::Local(path)) => Some(Locator::Local(directory(node).join(path))),
            Ok(other) => Some(other),
            Err(failure) => {
                let problem = Problem::new(&node.place, format!("{at}: {}", failure.what));
                reader.problem(Problem { help: failure.help, ..problem });
                None
            }
        }
    }

    fn shown(&self) -> Json {
        self.to_string().into()
    }
}

impl Default for Logical {
    /// What holds where nothing is said.
    fn default() -> Logical {
        Logical { databases: Vec::new(), globals: true, blobs: true, exclude_tables: Vec::new(), schema_git: None }
    }
}

impl Default for Settings {
    /// Nothing is configured.
    fn default() -> Settings {
        let defaults = Defaults { compression: None };
        Settings { version: Version, defaults, repository: BTreeMap::new(), platform: BTreeMap::new() }
    }
}

impl Repository {
    /// Where it is, and as whom it is asked.
    pub fn locator(&self) -> Locator {
        match (&self.url, &self.credentials) {
            (Locator::S3(place, _), Some(Credentials { id, secret })) => {
                Locator::S3(place.clone(), S3Login::Key { id: id.clone(), secret: secret.clone() })
            }
            (url, _) => url.clone(),
        }
    }
}
