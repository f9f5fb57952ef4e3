//! Taking a cluster while it is written to, with the low-level backup API, where its data directory can be read
//! (PostgreSQL documentation, "Making a Base Backup Using the Low Level API").
//!
//! What it is for: between the server's start and stop calls, [`crate::files`] stores the directory and all tablespaces as
//! they are on the disk: changed under its hands, and made whole by the log when it is replayed. What must not be there when a
//! server starts is left out; `pg_control` and the label of the stop call are kept with the [`Facts`], so that no server
//! starts by accident on what is not a cluster yet.
//! What it may not know: where the log is archived. Without it the result is worth nothing: the caller waits for it.

use super::Lsn;
use super::control::{self, CONTROL_BYTES};
use super::pages::{self, PAGE_BYTES, Page};
use super::wire::{Connection, Server, WireError, literal};
use crate::files::{
    CacheSpec, Captured, FilesPlan, Inspector, Moving, NotAPath, Progress, Roots, Select, SelectError, SelectSpec,
    capture,
};
use crate::sqlite::Sqlite;
use repo::{Capture, RepoError, key_of_path, path_of_key};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use store::World;

/// The oldest supported server.
const VERSION_MIN: u32 = 130_000;
/// Pages in a file of a relation, which has 1 GiB at most (`RELSEG_SIZE`).
const BLOCKS_PER_FILE: u32 = 131_072;
/// How often a page is read again whose checksum is wrong, because it may be written right now.
const PAGE_TRIES_MAX: u32 = 5;
/// How many bad pages of one file are named.
const BAD_PAGES_NAMED_MAX: usize = 5;

/// What to take, and how.
pub struct BasePlan {
    /// Whom to ask.
    pub server: Server,
    /// Where its data directory is seen from here, when that differs from what the server says.
    pub data_directory: Option<PathBuf>,
    /// Tables of the database at hand whose rows are counted exactly, as SQL names them.
    pub count_tables: Vec<String>,
    /// How unchanged files are known.
    pub cache: Option<CacheSpec>,
    /// A private directory.
    pub scratch: PathBuf,
    /// Clock, lanes and the request to stop.
    pub world: World,
}

/// A tablespace other than the two that every cluster has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its number, and the name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Where it is, as the server says.
    pub location: String,
    /// What of it was stored: the directory of this version's files, without symbolic links, as a percent path.
    pub stored: String,
}

/// A database of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its number, and the name of its directory.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Its size in bytes; none where the role may not ask.
    pub bytes: Option<u64>,
    /// Its encoding.
    pub encoding: String,
    /// Its collation.
    pub collation: String,
}

/// A table of the database at hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Schema and name, as SQL writes them.
    pub name: String,
    /// Rows: as the planner estimates them, or as counted.
    pub rows: i64,
    /// Whether they were counted.
    pub counted: bool,
    /// Bytes with indexes and all.
    pub bytes: u64,
}

/// What the cluster said about itself, kept with the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of this record.
    pub v: u32,
    /// Drawn by `initdb`, in decimal.
    pub system: String,
    /// Version of the server, as `server_version_num` says it.
    pub version: u32,
    /// The line of history it was on.
    pub timeline: u32,
    /// Where replay begins.
    pub start: Lsn,
    /// Where it must have come to, at least, before the cluster is consistent.
    pub stop: Lsn,
    /// When that was, by the server's clock: RFC 3339.
    pub stopped: String,
    /// Length of segments of the log.
    pub segment_bytes: u64,
    /// Whether pages have checksums.
    pub checksums: bool,
    /// Whether the server was a standby.
    pub standby: bool,
    /// The data directory without symbolic links, as a percent path: where its entries are in the snapshot.
    pub data_directory: String,
    /// All but the two that every cluster has.
    pub tablespaces: Vec<Tablespace>,
    /// Files of configuration outside the data directory, as percent paths.
    pub configuration: Vec<String>,
    /// Settings that a server needs to be able to replay its log, and what it loads: name and value.
    pub settings: Vec<(String, String)>,
    /// The label of the stop call, to be written as it is.
    pub backup_label: String,
    /// `pg_control`, in base64.
    pub control: String,
    /// The databases.
    pub databases: Vec<Database>,
    /// Extensions of the database at hand with their versions.
    pub extensions: Vec<String>,
    /// The largest tables of the database at hand, and those that were counted.
    pub tables: Vec<Table>,
}

impl Facts {
    /// Major version of the server.
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// Number of the segment that replay begins in.
    pub fn first_segment(&self) -> u64 {
        self.start.0 / self.segment_bytes
    }

    /// Number of the last segment that is needed.
    pub fn last_segment(&self) -> u64 {
        // A position at the beginning of a segment needs nothing of that segment.
        self.stop.0.saturating_sub(1) / self.segment_bytes
    }
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The server.
    #[error(transparent)]
    Server(#[from] WireError),
    /// What is wrong at the source, as a sentence.
    #[error("{0}")]
    Source(String),
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl From<NotAPath> for BaseError {
    fn from(e: NotAPath) -> Self {
        BaseError::Source(e.to_string())
    }
}

impl From<SelectError> for BaseError {
    fn from(e: SelectError) -> Self {
        BaseError::Source(e.to_string())
    }
}

type Result<T> = std::result::Result<T, BaseError>;

/// What was taken.
pub struct Based {
    /// What to keep with the snapshot.
    pub facts: Facts,
    /// The files.
    pub files: Captured,
}

/// A server that was looked at, and is about to be taken.
pub struct Survey {
    connection: Connection,
    version: u32,
    system: u64,
    standby: bool,
    checksums: bool,
    segment_bytes: u64,
    data: PathBuf,
    configuration: Vec<PathBuf>,
}

impl Survey {
    /// Asks the server what it is, and looks whether its data directory is here. Changes nothing.
    ///
    /// # Errors
    /// [`BaseError`], with a sentence on what is missing.
    pub fn take(plan: &BasePlan) -> Result<Survey> {
        let mut connection = Connection::open(&plan.server, &plan.world.stop)?;
        let version = number(connection.value("select current_setting('server_version_num')")?)?;
        if version < VERSION_MIN {
            let found = version / 10_000;
            return Err(BaseError::Source(format!(
                "the server is PostgreSQL {found}: 13 is the oldest that is supported"
            )));
        }
        let [system, standby, checksums, segment, page] = connection.row(
            "select (select system_identifier from pg_control_system()), pg_is_in_recovery(), \
             current_setting('data_checksums'), (select setting from pg_settings where name = 'wal_segment_size'), \
             current_setting('block_size')",
        )?;
        let segment_bytes: u64 = number(segment)?;
        if !segment_bytes.is_power_of_two() {
            return Err(BaseError::Source(format!("segments of {segment_bytes} bytes make no sense")));
        }
        let paths = connection.query(
            "select name, setting from pg_settings where name in ('data_directory', 'config_file', 'hba_file', 'ident_file')",
        )?;
        let path = |wanted: &str| {
            let row = paths.iter().find(|row| row.first().is_some_and(|name| name.as_deref() == Some(wanted)));
            row.and_then(|row| row.get(1)?.clone()).filter(|path| !path.is_empty()).map(PathBuf::from)
        };
        let said = plan.data_directory.clone().or_else(|| path("data_directory")).ok_or_else(|| {
            let user = &plan.server.user;
            BaseError::Source(format!(
                "{user} may not ask where the data directory is: grant pg_read_all_settings to {user}"
            ))
        })?;
        let data = std::fs::canonicalize(&said)
            .map_err(|e| BaseError::Source(format!("cannot look into the data directory {}: {e}", said.display())))?;
        let system = number(system)?;
        let control = read_control(&data, &plan.world)?;
        if control::system(&control) != Some(system) {
            let (data, server) = (data.display(), &plan.server);
            return Err(BaseError::Source(format!(
                "{data} is not the data directory of {server}, but of another cluster"
            )));
        }
        let mut configuration: Vec<PathBuf> = ["config_file", "hba_file", "ident_file"]
            .into_iter()
            .filter_map(path)
            .filter_map(|path| std::fs::canonicalize(path).ok())
            .filter(|path| !path.starts_with(&data))
            .collect();
        configuration.sort();
        let standby = standby.as_deref() == Some("t");
        let checksums = checksums.as_deref() == Some("on") && page.as_deref() == Some("8192");
        Ok(Survey { connection, version, system, standby, checksums, segment_bytes, data, configuration })
    }

    /// The cluster, as `initdb` drew it.
    pub fn system(&self) -> u64 {
        self.system
    }

    /// Its data directory, as a percent path.
    pub fn path(&self) -> String {
        repo::percent_path(self.data.as_os_str().as_bytes())
    }

    /// Takes the cluster into `into`. Commits nothing. When this fails, or the process dies, the server leaves its backup
    /// mode by itself.
    ///
    /// # Errors
    /// [`BaseError`]; what is wrong with single files stands in the report.
    pub fn capture(
        mut self,
        plan: &BasePlan,
        into: &mut Capture<'_>,
        on: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Based> {
        let label = literal("backstay");
        let (start, stop) = match self.version >= 150_000 {
            true => (
                format!("select pg_backup_start({label}, true)"),
                "select lsn, labelfile, clock_timestamp() from pg_backup_stop(false)",
            ),
            false => (
                format!("select pg_start_backup({label}, true, false)"),
                "select lsn, labelfile, clock_timestamp() from pg_stop_backup(false, false)",
            ),
        };
        let start: Lsn = lsn(self.connection.value(&start)?)?;
        // A tablespace that is made after this is made again by replay.
        let tablespaces = self.tablespaces()?;
        let files = self.files(plan, (start, &tablespaces), into, on)?;
        // After everything else: on a standby, how far replay must go to be consistent stands in it.
        let control = read_control(&self.data, &plan.world)?;
        let [stop, backup_label, stopped] = self.connection.row(stop)?;
        let stop = lsn(stop)?;
        let backup_label = backup_label.ok_or_else(|| BaseError::Source("the server gave no backup label".into()))?;
        let timeline = backup_label.lines().find_map(|line| line.strip_prefix("START TIMELINE: ")?.trim().parse().ok());
        let timeline =
            timeline.ok_or_else(|| BaseError::Source("the server's backup label names no timeline".into()))?;
        let percent = |path: &PathBuf| repo::percent_path(path.as_os_str().as_bytes());
        let facts = Facts {
            v: 1,
            system: self.system.to_string(),
            version: self.version,
            timeline,
            start,
            stop,
            stopped: stopped.as_deref().and_then(rfc3339).ok_or_else(|| nonsense("a time", stopped.as_ref()))?,
            segment_bytes: self.segment_bytes,
            checksums: self.checksums,
            standby: self.standby,
            data_directory: percent(&self.data),
            tablespaces,
            configuration: self.configuration.iter().map(percent).collect(),
            settings: self.settings()?,
            backup_label,
            control: repo::base64(&control),
            databases: self.databases()?,
            extensions: self.extensions()?,
            tables: self.tables(&plan.count_tables)?,
        };
        Ok(Based { facts, files })
    }

    fn files(
        &self,
        plan: &BasePlan,
        (start, tablespaces): (Lsn, &[Tablespace]),
        into: &mut Capture<'_>,
        on: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Captured> {
        let spaces: Vec<PathBuf> = tablespaces
            .iter()
            .map(|space| PathBuf::from(OsStr::from_bytes(&repo::unpercent_path(&space.stored))))
            .collect();
        let all: Vec<&PathBuf> = std::iter::once(&self.data).chain(&spaces).chain(&self.configuration).collect();
        let key = |path: &PathBuf| {
            let key = key_of_path(path.as_os_str().as_bytes());
            key.ok_or_else(|| BaseError::Source(format!("{} cannot be stored", path.display())))
        };
        let cluster = Cluster {
            data: key(&self.data)?,
            spaces: spaces.iter().map(key).collect::<Result<_>>()?,
            checksums: self.checksums,
            start,
            unlogged: Mutex::default(),
        };
        let files = FilesPlan {
            roots: Roots::parse(&all, Path::new("/"))?,
            select: Select::new(&SelectSpec::default())?,
            sqlite: Sqlite::Off,
            cache: plan.cache.clone(),
            scratch: plan.scratch.clone(),
            moving: Some(Arc::new(cluster)),
            world: plan.world.clone(),
        };
        Ok(capture(&files, into, on)?)
    }

    fn tablespaces(&mut self) -> Result<Vec<Tablespace>> {
        let rows = self.connection.query(
            "select oid, spcname, pg_tablespace_location(oid) from pg_tablespace \
             where spcname not in ('pg_default', 'pg_global') order by oid",
        )?;
        let version = self.version / 10_000;
        rows.into_iter()
            .map(|row| {
                let [oid, name, location] = columns(row)?;
                let (name, location) = (name.unwrap_or_default(), location.unwrap_or_default());
                // As seen from here: a data directory that is mounted elsewhere has its links.
                let link = self.data.join("pg_tblspc").join(oid.as_deref().unwrap_or_default());
                let stored = std::fs::read_dir(&link).and_then(|entries| {
                    let prefix = format!("PG_{version}_");
                    let mut found = None;
                    for entry in entries {
                        let entry = entry?;
                        if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                            found = Some(std::fs::canonicalize(entry.path())?);
                        }
                    }
                    found.ok_or_else(|| std::io::Error::other("it has no directory of this version"))
                });
                let stored = stored
                    .map_err(|e| BaseError::Source(format!("cannot look into tablespace {name} at {location}: {e}")))?;
                let stored = repo::percent_path(stored.as_os_str().as_bytes());
                Ok(Tablespace { oid: number(oid)?, name, location, stored })
            })
            .collect()
    }

    fn settings(&mut self) -> Result<Vec<(String, String)>> {
        let rows = self.connection.query(
            "select name, current_setting(name) from pg_settings where name in ('max_connections', \
             'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', 'max_locks_per_transaction', \
             'wal_level', 'shared_preload_libraries', 'lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time') order by 1",
        )?;
        rows.into_iter()
            .map(|row| {
                let [name, value] = columns(row)?;
                Ok((name.unwrap_or_default(), value.unwrap_or_default()))
            })
            .collect()
    }

    fn databases(&mut self) -> Result<Vec<Database>> {
        let rows = self.connection.query(
            "select oid, datname, case when has_database_privilege(oid, 'connect') then pg_database_size(oid) end, \
             pg_encoding_to_char(encoding), datcollate from pg_database order by datname",
        )?;
        rows.into_iter()
            .map(|row| {
                let [oid, name, bytes, encoding, collation] = columns(row)?;
                Ok(Database {
                    oid: number(oid)?,
                    name: name.unwrap_or_default(),
                    bytes: bytes.and_then(|bytes| bytes.parse().ok()),
                    encoding: encoding.unwrap_or_default(),
                    collation: collation.unwrap_or_default(),
                })
            })
            .collect()
    }

    fn extensions(&mut self) -> Result<Vec<String>> {
        let rows = self.connection.query("select extname || ' ' || extversion from pg_extension order by 1")?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }

    fn tables(&mut self, counted: &[String]) -> Result<Vec<Table>> {
        const NAMED_MAX: u32 = 1000;
        let rows = self.connection.query(&format!(
            "select quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.reltuples::bigint, \
             pg_total_relation_size(c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where c.relkind in ('r', 'm') and c.relpersistence = 'p' and n.nspname <> 'information_schema' \
             and n.nspname !~ '^pg_' order by 3 desc, 1 limit {NAMED_MAX}",
        ))?;
        let mut tables = Vec::new();
        for row in rows {
            let [name, rows, bytes] = columns(row)?;
            // A table that was dropped meanwhile has no size.
            let Some(bytes) = bytes.and_then(|bytes| bytes.parse().ok()) else { continue };
            tables.push(Table { name: name.unwrap_or_default(), rows: number(rows)?, counted: false, bytes });
        }
        for wanted in counted {
            let [name, bytes] = self.connection.row(&format!(
                "select quote_ident(n.nspname) || '.' || quote_ident(c.relname), pg_total_relation_size(c.oid) from pg_class c \
                 join pg_namespace n on n.oid = c.relnamespace where c.oid = {}::regclass",
                literal(wanted)
            ))?;
            let name = name.unwrap_or_default();
            let rows = number(self.connection.value(&format!("select count(*) from {name}"))?)?;
            tables.retain(|table| table.name != name);
            tables.push(Table { name, rows, counted: true, bytes: number(bytes)? });
        }
        Ok(tables)
    }
}

fn columns<const N: usize>(row: Vec<Option<String>>) -> Result<[Option<String>; N]> {
    row.try_into().map_err(|_| BaseError::Source("the server answered with another number of columns".into()))
}

fn nonsense(what: &str, found: Option<&String>) -> BaseError {
    BaseError::Source(format!("the server gave {found:?} for {what}"))
}

fn number<T: std::str::FromStr>(text: Option<String>) -> Result<T> {
    text.as_ref().and_then(|text| text.trim().parse().ok()).ok_or_else(|| nonsense("a number", text.as_ref()))
}

fn lsn(text: Option<String>) -> Result<Lsn> {
    text.as_ref().and_then(|text| text.parse().ok()).ok_or_else(|| nonsense("a position", text.as_ref()))
}

/// RFC 3339 of what the server writes as `2026-11-20 18:05:01.123456+00`.
fn rfc3339(text: &str) -> Option<String> {
    let (date, rest) = text.split_once(' ')?;
    let sign = rest.rfind(['+', '-'])?;
    let (time, zone) = rest.split_at(sign);
    let zone = if zone.len() == 3 { format!("{zone}:00") } else { zone.to_owned() };
    Some(format!("{date}T{time}{zone}"))
}

/// `pg_control`, read until it is whole: the server may be writing it.
fn read_control(data: &Path, world: &World) -> Result<Vec<u8>> {
    let path = data.join("global/pg_control");
    let mut last = String::from("its checksum stays wrong");
    for _ in 0..50 {
        match std::fs::read(&path) {
            Ok(bytes) if bytes.len() == CONTROL_BYTES && control::system(&bytes).is_some() => return Ok(bytes),
            Ok(_) => {}
            Err(e) => last = e.to_string(),
        }
        world.clock.sleep(std::time::Duration::from_millis(20));
    }
    Err(BaseError::Source(format!("cannot read {}: {last}", path.display())))
}

/// What is known about the files of a cluster.
struct Cluster {
    /// Path key of the data directory.
    data: Vec<u8>,
    /// Path keys of the directories of tablespaces.
    spaces: Vec<Vec<u8>>,
    checksums: bool,
    start: Lsn,
    /// The directory that was asked about last, and which of its relations have an init fork.
    unlogged: Mutex<(Vec<u8>, HashSet<Vec<u8>>)>,
}

/// The parts of the name of a relation's file.
#[derive(Debug, PartialEq, Eq)]
struct Relation<'k> {
    node: &'k [u8],
    fork: Option<&'k [u8]>,
    segment: u32,
}

impl<'k> Relation<'k> {
    fn parse(name: &'k [u8]) -> Option<Relation<'k>> {
        let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let (stem, segment) = match name.iter().position(|byte| *byte == b'.') {
            Some(dot) if digits(&name[dot + 1..]) => {
                (&name[..dot], std::str::from_utf8(&name[dot + 1..]).ok()?.parse().ok()?)
            }
            Some(_) => return None,
            None => (name, 0),
        };
        let (node, fork) = match stem.iter().position(|byte| *byte == b'_') {
            Some(at) => (&stem[..at], Some(&stem[at + 1..])),
            None => (stem, None),
        };
        let known = fork.is_none_or(|fork| matches!(fork, b"fsm" | b"vm" | b"init"));
        (digits(node) && known).then_some(Relation { node, fork, segment })
    }
}

/// A relation that only the session sees that made it: `t3_16384`.
fn is_temporary(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"t") else { return false };
    let Some(at) = rest.iter().position(|byte| *byte == b'_') else { return false };
    at > 0 && rest[..at].iter().all(u8::is_ascii_digit) && Relation::parse(&rest[at + 1..]).is_some()
}

impl Cluster {
    /// The directory and the name of something that may belong to a relation.
    fn relation<'k>(&self, key: &'k [u8]) -> Option<(&'k [u8], &'k [u8])> {
        let at = key.iter().rposition(|byte| *byte == 0)?;
        let (dir, name) = (&key[..at], &key[at + 1..]);
        let under = |above: &[u8], dir: &[u8]| dir.strip_prefix(above)?.strip_prefix(&[0]).map(<[u8]>::to_vec);
        let in_data = under(&self.data, dir).is_some_and(|rest| rest == b"global" || rest.starts_with(b"base\0"));
        let in_space = self.spaces.iter().any(|space| under(space, dir).is_some());
        (in_data || in_space).then_some((dir, name))
    }

    /// Whether a relation is one that is emptied by replay.
    fn is_unlogged(&self, dir: &[u8], node: &[u8]) -> bool {
        let mut known = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != dir {
            let path = path_of_key(dir);
            let names = std::fs::read_dir(OsStr::from_bytes(&path)).into_iter().flatten().flatten();
            let inits = names.filter_map(|entry| {
                let name = entry.file_name();
                Some(name.as_bytes().strip_suffix(b"_init")?.to_vec())
            });
            *known = (dir.to_vec(), inits.collect());
        }
        known.1.contains(node)
    }
}

impl Moving for Cluster {
    fn takes(&self, key: &[u8]) -> bool {
        let name = key.rsplit(|byte| *byte == 0).next().unwrap_or_default();
        if name.starts_with(b"pgsql_tmp") || name.starts_with(b"pg_internal.init") {
            return false;
        }
        if let Some((dir, name)) = self.relation(key) {
            if is_temporary(name) {
                return false;
            }
            if let Some(Relation { node, fork, .. }) = Relation::parse(name) {
                return fork == Some(b"init") || !self.is_unlogged(dir, node);
            }
        }
        let Some(rest) = key.strip_prefix(self.data.as_slice()).and_then(|rest| rest.strip_prefix(&[0])) else {
            return true;
        };
        // PostgreSQL source, basebackup.c: excludeFiles, excludeDirContents.
        const FILES: [&[u8]; 14] = [
            b"postmaster.pid",
            b"postmaster.opts",
            b"postgresql.auto.conf.tmp",
            b"current_logfiles.tmp",
            b"backup_label",
            b"backup_label.old",
            b"tablespace_map",
            b"tablespace_map.old",
            b"backup_manifest",
            b"recovery.signal",
            b"standby.signal",
            b"global\0pg_control",
            // What is left of a server that has not been told yet where its log comes from: made anew by a restore.
            b"pg_wal",
            b"recovery.conf",
        ];
        const EMPTIED: [&[u8]; 8] = [
            b"pg_stat_tmp\0",
            b"pg_replslot\0",
            b"pg_dynshmem\0",
            b"pg_notify\0",
            b"pg_serial\0",
            b"pg_snapshots\0",
            b"pg_subtrans\0",
            b"pg_tblspc\0",
        ];
        !FILES.contains(&rest) && !EMPTIED.iter().any(|dir| rest.starts_with(dir))
    }

    fn inspector(&self, key: &[u8]) -> Option<Box<dyn Inspector + '_>> {
        let (_, name) = self.relation(key)?;
        let relation = Relation::parse(name)?;
        Some(Box::new(Checker {
            checksums: self.checksums,
            start: self.start,
            block: relation.segment.wrapping_mul(BLOCKS_PER_FILE),
            at: 0,
            rest: Vec::new(),
            bad: Vec::new(),
            bad_count: 0,
        }))
    }
}

/// Compares the checksum of each page.
struct Checker {
    checksums: bool,
    start: Lsn,
    /// Number of the next page in its relation.
    block: u32,
    /// Where it is in the file.
    at: u64,
    /// The beginning of a page whose end has not come yet.
    rest: Vec<u8>,
    bad: Vec<u32>,
    bad_count: u64,
}

impl Checker {
    fn page(&mut self, page: &[u8; PAGE_BYTES], file: &File) {
        if self.is_bad(page) && self.stays_bad(file) {
            self.bad_count += 1;
            if self.bad.len() < BAD_PAGES_NAMED_MAX {
                self.bad.push(self.block);
            }
        }
        self.block = self.block.wrapping_add(1);
        self.at += PAGE_BYTES as u64;
    }

    /// A page that was changed after the start is replaced as a whole by replay, whatever is in it.
    fn is_bad(&self, page: &[u8; PAGE_BYTES]) -> bool {
        matches!(pages::check(page, self.block), Page::Bad { lsn } if lsn < self.start.0)
    }

    fn stays_bad(&self, file: &File) -> bool {
        let mut page = [0; PAGE_BYTES];
        for _ in 0..PAGE_TRIES_MAX {
            std::thread::yield_now();
            match file.read_exact_at(&mut page, self.at) {
                Ok(()) if self.is_bad(&page) => {}
                // It was torn, or is not there any more.
                _ => return false,
            }
        }
        true
    }
}

impl Inspector for Checker {
    fn bytes(&mut self, mut data: &[u8], file: &File) {
        if !self.checksums {
            return;
        }
        while !data.is_empty() {
            if self.rest.is_empty()
                && let Some((page, behind)) = data.split_first_chunk::<PAGE_BYTES>()
            {
                self.page(page, file);
                data = behind;
                continue;
            }
            let take = (PAGE_BYTES - self.rest.len()).min(data.len());
            self.rest.extend_from_slice(&data[..take]);
            data = &data[take..];
            if let Some(page) = self.rest.first_chunk::<PAGE_BYTES>().copied() {
                self.rest.clear();
                self.page(&page, file);
            }
        }
    }

    fn verdict(self: Box<Self>) -> Option<String> {
        let blocks: Vec<String> = self.bad.iter().map(u32::to_string).collect();
        let more = match self.bad_count as usize - self.bad.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = format!(
            "has pages with wrong checksums and is stored as it is: block {}{more}; the database is damaged there",
            blocks.join(", ")
        );
        (self.bad_count > 0).then_some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(data: &str) -> Cluster {
        let key = |path: &str| key_of_path(path.as_bytes()).expect("a path");
        Cluster {
            data: key(data),
            spaces: vec![key("/ts/PG_15_202209061")],
            checksums: true,
            start: Lsn(100),
            unlogged: Mutex::default(),
        }
    }

    #[test]
    fn what_must_not_be_there_when_a_server_starts_is_left_out() {
        let dir = tempfile::tempdir().expect("makes");
        let data = dir.path().to_str().expect("text");
        let base = dir.path().join("base/5");
        std::fs::create_dir_all(&base).expect("makes");
        for name in ["70_init", "70", "70_fsm", "70.1", "71"] {
            std::fs::write(base.join(name), b"").expect("writes");
        }
        let cluster = cluster(data);
        let takes = |path: &str| cluster.takes(&key_of_path(format!("{data}/{path}").as_bytes()).expect("a path"));
        for path in [
            "postmaster.pid",
            "pg_wal",
            "backup_label",
            "recovery.signal",
            "standby.signal",
            "global/pg_control",
            "pg_replslot/a",
            "pg_notify/0000",
            "pg_stat_tmp/x",
            "pg_tblspc/16400",
            "base/pgsql_tmp",
            "base/5/pgsql_tmp1.0",
            "base/5/pg_internal.init",
            "global/pg_internal.init.77",
            "base/5/t3_16384",
            "base/5/t3_16384_fsm.1",
            "base/5/70",
            "base/5/70_fsm",
            "base/5/70.1",
            "tablespace_map",
            "postgresql.auto.conf.tmp",
        ] {
            assert!(!takes(path), "{path}");
        }
        for path in [
            "PG_VERSION",
            "base/5/70_init",
            "base/5/71",
            "base/5/71_vm",
            "base/5/71.2",
            "pg_replslot",
            "pg_notify",
            "pg_tblspc",
            "global/1262",
            "global/pg_filenode.map",
            "pg_xact/0000",
            "postgresql.conf",
            "pg_twophase/1",
            "base/5/table",
            "pg_logical/mappings",
            "base/5/PG_VERSION",
        ] {
            assert!(takes(path), "{path}");
        }
        assert!(!cluster.takes(b"ts\0PG_15_202209061\x005\0t1_9"));
        assert!(cluster.takes(b"etc\0postgresql\x0015\0main\0pg_hba.conf"));
    }

    #[test]
    fn only_files_of_relations_are_cut_and_checked_as_pages() {
        let cluster = cluster("/d");
        for (key, expect) in [
            (&b"d\0base\x005\x001249"[..], true),
            (b"d\0base\x005\x001249_fsm", true),
            (b"d\0global\x001260.3", true),
            (b"d\0global\0pg_filenode.map", false),
            (b"d\0base\x005\0PG_VERSION", false),
            (b"d\0pg_xact\x000000", false),
            (b"ts\0PG_15_202209061\x005\x0016400", true),
            (b"ts\0PG_16_x\x005\x0016400", false),
        ] {
            assert_eq!(cluster.inspector(key).is_some(), expect, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_page_with_a_wrong_checksum_is_named_by_its_block_however_it_is_cut() {
        let mut page = [7u8; PAGE_BYTES];
        page[..8].copy_from_slice(&[0, 0, 0, 0, 9, 0, 0, 0]);
        let file = tempfile::NamedTempFile::new().expect("makes");
        std::fs::write(file.path(), [[0; PAGE_BYTES].as_slice(), &page, &[0; PAGE_BYTES]].concat()).expect("writes");
        let opened = File::open(file.path()).expect("opens");
        let bytes = std::fs::read(file.path()).expect("reads");
        for step in [1000, PAGE_BYTES, 3 * PAGE_BYTES] {
            let cluster = cluster("/d");
            let mut checker = cluster.inspector(b"d\0base\x005\x001249.2").expect("a relation");
            bytes.chunks(step).for_each(|part| checker.bytes(part, &opened));
            let verdict = checker.verdict().expect("bad");
            assert!(verdict.contains("block 262145;"), "{verdict}");
        }
        // Changed after the start: replay replaces it.
        page[..8].copy_from_slice(&[0, 0, 0, 0, 200, 0, 0, 0]);
        let cluster = cluster("/d");
        let mut checker = cluster.inspector(b"d\0base\x005\x001249").expect("a relation");
        checker.bytes(&page, &opened);
        assert_eq!(checker.verdict(), None);
    }

    #[test]
    fn times_of_a_server_become_rfc_3339() {
        for (text, expect) in [
            ("2026-11-20 18:05:01.123456+00", "2026-11-20T18:05:01.123456+00:00"),
            ("2026-11-20 18:05:01-03:30", "2026-11-20T18:05:01-03:30"),
        ] {
            assert_eq!(rfc3339(text).as_deref(), Some(expect));
        }
        assert_eq!(rfc3339("infinity"), None);
    }
}
