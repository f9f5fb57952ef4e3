//! Taking a cluster while it is written to: with the low-level backup API where its data directory can be read (PostgreSQL
//! documentation, "Making a Base Backup Using the Low Level API"), and from the server itself by `remote.rs` elsewhere.
//!
//! What it is for: between the server's start and stop calls, [`crate::files`] stores the directory and all tablespaces as
//! they are on the disk: changed under its hands, and made whole by the log when it is replayed. What must not be there when a
//! server starts is left out; `pg_control` and the label of the stop call are kept with the [`Facts`], so that no server
//! starts by accident on what is not a cluster yet.
//! What it may not know: where the log is archived. Without it the result is worth nothing: the caller waits for it.

use super::Lsn;
use super::census::{self, Database, Table, columns, number};
use super::control::{self, CONTROL_BYTES};
use super::layout::{Layout, Unlogged};
use super::remote;
use super::wire::{Connection, Server, WireError, literal};
use crate::files::{
    CacheSpec, Captured, FilesPlan, NotAPath, Progress, Roots, Select, SelectError, SelectSpec, capture,
};
use crate::sqlite::Sqlite;
use repo::{Capture, RepoError, key_of_path};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::World;

/// The oldest supported server.
const VERSION_MIN: u32 = 130_000;
/// Where files are kept of a server that does not say where its data directory is.
const NAMELESS: &str = "/cluster";

/// Which way files of a cluster are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// From its data directory where that can be read here, and from the server otherwise.
    Auto,
    /// From its data directory.
    Local,
    /// From the server.
    Remote,
}

/// What to take, and how.
pub struct BasePlan {
    /// Whom to ask.
    pub server: Server,
    /// Which way.
    pub method: Method,
    /// Where its data directory is seen from here, when that differs from what the server says.
    pub data_directory: Option<PathBuf>,
    /// Whether the server is to send the log that the backup needs, when it sends the files.
    pub brings_log: bool,
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
    /// The server does not send its files to this role.
    #[error("{what}")]
    NotLetIn {
        /// What it said, as a sentence.
        what: String,
        /// What it must be told, so that it does.
        needs: String,
    },
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

pub(super) type Result<T> = std::result::Result<T, BaseError>;

/// What was taken.
pub struct Based {
    /// What to keep with the snapshot.
    pub facts: Facts,
    /// The files.
    pub files: Captured,
}

/// A server that was looked at, and is about to be taken.
pub struct Survey {
    pub(super) connection: Connection,
    pub(super) version: u32,
    system: u64,
    standby: bool,
    pub(super) checksums: bool,
    segment_bytes: u64,
    way: Way,
}

/// Where the files come from.
pub(super) enum Way {
    /// From the disk.
    Local {
        /// The data directory without symbolic links.
        data: PathBuf,
        /// Files of configuration outside of it.
        configuration: Vec<PathBuf>,
    },
    /// From the server.
    Remote {
        /// The data directory, as far as the server says where it is.
        data: PathBuf,
        /// Why, where nobody asked for it.
        because: Option<String>,
    },
}

/// What only the end of a backup tells.
pub(super) struct Ending {
    pub start: Lsn,
    pub stop: Lsn,
    pub stopped: Option<String>,
    pub backup_label: String,
    pub control: Vec<u8>,
    pub tablespaces: Vec<Tablespace>,
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
        let system = number(system)?;
        let said = plan.data_directory.clone().or_else(|| path("data_directory"));
        let way = match plan.method {
            Method::Local => local(plan, said.as_deref(), system),
            Method::Remote => Ok(remote(said, None)),
            Method::Auto => local(plan, said.as_deref(), system).or_else(|e| match (e, &plan.data_directory) {
                // Where somebody says that it is here, it had better be.
                (BaseError::Source(why), None) => Ok(remote(said, Some(why))),
                (e, _) => Err(e),
            }),
        };
        let way = match way? {
            Way::Local { data, .. } => {
                let mut configuration: Vec<PathBuf> = ["config_file", "hba_file", "ident_file"]
                    .into_iter()
                    .filter_map(path)
                    .filter_map(|path| std::fs::canonicalize(path).ok())
                    .filter(|path| !path.starts_with(&data))
                    .collect();
                configuration.sort();
                Way::Local { data, configuration }
            }
            way => way,
        };
        let standby = standby.as_deref() == Some("t");
        let checksums = checksums.as_deref() == Some("on") && page.as_deref() == Some("8192");
        Ok(Survey { connection, version, system, standby, checksums, segment_bytes, way })
    }

    /// The cluster, as `initdb` drew it.
    pub fn system(&self) -> u64 {
        self.system
    }

    /// Its data directory, as a percent path.
    pub fn path(&self) -> String {
        let (Way::Local { data, .. } | Way::Remote { data, .. }) = &self.way;
        repo::percent_path(data.as_os_str().as_bytes())
    }

    /// Whether the files come from the server.
    pub fn is_remote(&self) -> bool {
        matches!(self.way, Way::Remote { .. })
    }

    /// Why the files come from the server though nobody asked for that.
    pub fn because(&self) -> Option<&str> {
        if let Way::Remote { because, .. } = &self.way { because.as_deref() } else { None }
    }

    /// Takes the cluster into `into`. Commits nothing. When this fails, or the process dies, the server leaves its backup
    /// mode by itself. `log` is given segments, by name, that the server sends along where the plan asks for them; what it
    /// returns ends the backup when it is `false`.
    ///
    /// # Errors
    /// [`BaseError`]; what is wrong with single files stands in the report.
    pub fn capture(
        mut self,
        plan: &BasePlan,
        into: &mut Capture<'_>,
        log: &mut dyn FnMut(&str, &[u8]) -> bool,
        on: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Based> {
        let (ending, files) = match self.is_remote() {
            true => remote::take(&mut self, plan, into, log, on)?,
            false => self.take_local(plan, into, on)?,
        };
        let facts = self.facts(plan, ending)?;
        Ok(Based { facts, files })
    }

    /// Everything that is known about the cluster when its files are taken.
    fn facts(&mut self, plan: &BasePlan, ending: Ending) -> Result<Facts> {
        let Ending { start, stop, stopped, backup_label, control, tablespaces } = ending;
        let timeline = backup_label.lines().find_map(|line| line.strip_prefix("START TIMELINE: ")?.trim().parse().ok());
        let timeline =
            timeline.ok_or_else(|| BaseError::Source("the server's backup label names no timeline".into()))?;
        let percent = |path: &PathBuf| repo::percent_path(path.as_os_str().as_bytes());
        let configuration = match &self.way {
            Way::Local { configuration, .. } => configuration.iter().map(percent).collect(),
            Way::Remote { .. } => Vec::new(),
        };
        Ok(Facts {
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
            data_directory: self.path(),
            tablespaces,
            configuration,
            settings: self.settings()?,
            backup_label,
            control: repo::base64(&control),
            databases: census::databases(&mut self.connection)?,
            extensions: census::extensions(&mut self.connection)?,
            tables: census::tables_unless_locked(&mut self.connection, &plan.count_tables)?,
        })
    }

    fn take_local(
        &mut self,
        plan: &BasePlan,
        into: &mut Capture<'_>,
        on: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<(Ending, Captured)> {
        let Way::Local { data, configuration } = &self.way else {
            return Err(BaseError::Source("its files are not here".into()));
        };
        let (data, configuration) = (data.clone(), configuration.clone());
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
        let tablespaces = self.tablespaces(&data)?;
        let files = self.files(plan, (&data, &configuration), (start, &tablespaces), into, on)?;
        // After everything else: on a standby, how far replay must go to be consistent stands in it.
        let control = read_control(&data, &plan.world)?;
        let [stop, backup_label, stopped] = self.connection.row(stop)?;
        let stop = lsn(stop)?;
        let backup_label = backup_label.ok_or_else(|| BaseError::Source("the server gave no backup label".into()))?;
        Ok((Ending { start, stop, stopped, backup_label, control, tablespaces }, files))
    }

    fn files(
        &self,
        plan: &BasePlan,
        (data, configuration): (&PathBuf, &[PathBuf]),
        (start, tablespaces): (Lsn, &[Tablespace]),
        into: &mut Capture<'_>,
        on: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Captured> {
        let spaces: Vec<PathBuf> = tablespaces
            .iter()
            .map(|space| PathBuf::from(OsStr::from_bytes(&repo::unpercent_path(&space.stored))))
            .collect();
        let all: Vec<&PathBuf> = std::iter::once(data).chain(&spaces).chain(configuration).collect();
        let key = |path: &PathBuf| {
            let key = key_of_path(path.as_os_str().as_bytes());
            key.ok_or_else(|| BaseError::Source(format!("{} cannot be stored", path.display())))
        };
        let spaces = spaces.iter().map(key).collect::<Result<_>>()?;
        let layout = Layout::of(key(data)?, spaces, (self.checksums, start), Unlogged::LeaveOut);
        let files = FilesPlan {
            roots: Roots::parse(&all, Path::new("/"))?,
            select: Select::new(&SelectSpec::default())?,
            sqlite: Sqlite::Off,
            cache: plan.cache.clone(),
            scratch: plan.scratch.clone(),
            moving: Some(Arc::new(layout)),
            world: plan.world.clone(),
        };
        Ok(capture(&files, into, on)?)
    }

    fn tablespaces(&mut self, data: &Path) -> Result<Vec<Tablespace>> {
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
                let link = data.join("pg_tblspc").join(oid.as_deref().unwrap_or_default());
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
}

pub(super) fn nonsense(what: &str, found: Option<&String>) -> BaseError {
    BaseError::Source(format!("the server gave {found:?} for {what}"))
}

pub(super) fn lsn(text: Option<String>) -> Result<Lsn> {
    text.as_ref().and_then(|text| text.parse().ok()).ok_or_else(|| nonsense("a position", text.as_ref()))
}

/// The way from the disk, where the data directory of this cluster is there.
fn local(plan: &BasePlan, said: Option<&Path>, system: u64) -> Result<Way> {
    let said = said.ok_or_else(|| {
        let user = &plan.server.user;
        BaseError::Source(format!(
            "{user} may not ask where the data directory is: grant pg_read_all_settings to {user}"
        ))
    })?;
    let data = std::fs::canonicalize(said)
        .map_err(|e| BaseError::Source(format!("cannot look into the data directory {}: {e}", said.display())))?;
    let control = read_control(&data, &plan.world)?;
    if control::system(&control) != Some(system) {
        let (data, server) = (data.display(), &plan.server);
        return Err(BaseError::Source(format!("{data} is not the data directory of {server}, but of another cluster")));
    }
    Ok(Way::Local { data, configuration: Vec::new() })
}

/// The way from the server.
fn remote(said: Option<PathBuf>, because: Option<String>) -> Way {
    // Where the entries of the snapshot are is all that it says.
    let data = said.filter(|path| path.is_absolute()).unwrap_or_else(|| PathBuf::from(NAMELESS));
    Way::Remote { data, because }
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

#[cfg(test)]
mod tests {
    use super::*;

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
