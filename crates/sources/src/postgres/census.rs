//! What is in a server: databases, extensions, tables, how many rows, and how a database would have to be made again.
//!
//! What it is for: facts that are kept with a backup, for who compares a restore with them. It may not know how the backup is
//! made. Where data comes from and goes: questions in SQL; answers as values.

use super::wire::{Connection, WireError, literal};
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, WireError>;

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

/// How a database was made, and what is set for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// Its encoding.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Who compares text, as `CREATE DATABASE` names it, and by which rules; none where the C library does.
    pub provider: Option<(String, String)>,
    /// Settings of the database, each as `name=value`.
    pub settings: Vec<String>,
}

/// The databases of the cluster.
pub(crate) fn databases(connection: &mut Connection) -> Result<Vec<Database>> {
    let rows = connection.query(
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

/// Extensions of the database at hand with their versions.
pub(crate) fn extensions(connection: &mut Connection) -> Result<Vec<String>> {
    let rows = connection.query("select extname || ' ' || extversion from pg_extension order by 1")?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// The largest tables of the database at hand, and those of `counted` with their rows counted.
pub(crate) fn tables(connection: &mut Connection, counted: &[String]) -> Result<Vec<Table>> {
    let mut tables = largest(connection, "pg_total_relation_size(c.oid)")?;
    for wanted in counted {
        let [name, bytes] = connection.row(&format!(
            "select quote_ident(n.nspname) || '.' || quote_ident(c.relname), pg_total_relation_size(c.oid) from pg_class c \
             join pg_namespace n on n.oid = c.relnamespace where c.oid = {}::regclass",
            literal(wanted)
        ))?;
        let name = name.unwrap_or_default();
        let rows = number(connection.value(&format!("select count(*) from {name}"))?)?;
        tables.retain(|table| table.name != name);
        tables.push(Table { name, rows, counted: true, bytes: number(bytes)? });
    }
    Ok(tables)
}

/// As [`tables`], for who must not wait: where somebody holds a lock on one of them for long, sizes are those of their own
/// pages as the server last counted them, and no rows are counted.
pub(crate) fn tables_unless_locked(connection: &mut Connection, counted: &[String]) -> Result<Vec<Table>> {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    connection.query("set lock_timeout = '10s'")?;
    match tables(connection, counted) {
        Err(WireError::Refused { code, .. }) if code == LOCK_NOT_AVAILABLE => {
            largest(connection, "c.relpages::bigint * current_setting('block_size')::bigint")
        }
        tables => tables,
    }
}

/// The largest tables, whose sizes are what this says.
fn largest(connection: &mut Connection, bytes: &str) -> Result<Vec<Table>> {
    const NAMED_MAX: u32 = 1000;
    let rows = connection.query(&format!(
        "select quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.reltuples::bigint, {bytes} \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
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
    Ok(tables)
}

/// What can be dumped of a server.
pub struct Dumpable {
    connection: Connection,
    /// Version, as `server_version_num` says it.
    pub version: u32,
    /// Drawn by `initdb`; none where the role may not ask.
    pub system: Option<String>,
}

/// The databases that can be connected to, and what is in the one at hand.
impl Dumpable {
    /// Asks the server at the other end.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn ask(mut connection: Connection) -> Result<Dumpable> {
        // A table that somebody has locked cannot be looked at, nor dumped.
        connection.query("set lock_timeout = '5min'")?;
        let version = number(connection.value("select current_setting('server_version_num')")?)?;
        // A right that roles usually have, and that can be taken from them.
        let system = connection.value("select system_identifier from pg_control_system()").ok().flatten();
        Ok(Dumpable { connection, version, system })
    }

    /// Major version of the server.
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// All databases but templates and those that nobody may connect to.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn databases(&mut self) -> Result<Vec<Database>> {
        let open = self.connection.query("select datname from pg_database where datallowconn and not datistemplate")?;
        let open: Vec<String> = open.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
        let mut all = databases(&mut self.connection)?;
        all.retain(|database| open.contains(&database.name));
        Ok(all)
    }

    /// Extensions of the database at hand with their versions.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn extensions(&mut self) -> Result<Vec<String>> {
        extensions(&mut self.connection)
    }

    /// The largest tables of the database at hand, and those of `counted` with their rows counted.
    ///
    /// # Errors
    /// [`WireError`], also for one of `counted` that is not there.
    pub fn tables(&mut self, counted: &[String]) -> Result<Vec<Table>> {
        tables(&mut self.connection, counted)
    }

    /// Bytes of all tables without their indexes, and of the largest.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn table_bytes(&mut self) -> Result<(u64, u64)> {
        let [all, largest] = self.connection.row(
            "select coalesce(sum(bytes), 0)::bigint, coalesce(max(bytes), 0) from \
             (select pg_table_size(oid) bytes from pg_class where relkind in ('r', 'm') and relpersistence = 'p') t",
        )?;
        Ok((number(all)?, number(largest)?))
    }

    /// How the database at hand was made.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn making(&mut self) -> Result<Making> {
        // Who compares text is said since version 15, and the name of the rules has changed since.
        let rules = match self.major() {
            ..15 => "'c', null",
            15..17 => "datlocprovider, daticulocale",
            17.. => "datlocprovider, datlocale",
        };
        let [encoding, collate, ctype, provider, locale] = self.connection.row(&format!(
            "select pg_encoding_to_char(encoding), datcollate, datctype, {rules} from pg_database \
             where datname = current_database()"
        ))?;
        let settings = self.connection.query(
            "select unnest(setconfig) from pg_db_role_setting where setrole = 0 and setdatabase = \
             (select oid from pg_database where datname = current_database()) order by 1",
        )?;
        let provider = match provider.as_deref() {
            Some("i") => Some("icu"),
            Some("b") => Some("builtin"),
            _ => None,
        };
        Ok(Making {
            encoding: encoding.unwrap_or_default(),
            collate: collate.unwrap_or_default(),
            ctype: ctype.unwrap_or_default(),
            provider: provider.map(|provider| (provider.to_owned(), locale.unwrap_or_default())),
            settings: settings.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect(),
        })
    }
}

pub(crate) fn columns<const N: usize>(row: Vec<Option<String>>) -> Result<[Option<String>; N]> {
    row.try_into().map_err(|_| WireError::Nonsense("another number of columns".into()))
}

pub(crate) fn number<T: std::str::FromStr>(text: Option<String>) -> Result<T> {
    let parsed = text.as_ref().and_then(|text| text.trim().parse().ok());
    parsed.ok_or_else(|| WireError::Nonsense(format!("{text:?} for a number")))
}
