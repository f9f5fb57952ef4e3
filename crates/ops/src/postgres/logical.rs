//! Backing up databases with `pg_dump`: those of the configuration, roles, and what each consisted of.
//!
//! What it is for: one run takes everything that is configured of a source into one snapshot: `databases/NAME`,
//! `dumps/NAME` and `globals.sql`. If one dump fails there is no snapshot.
//! What it may not know: how `pg_dump` is run. Where data comes from and goes: `sources::postgres::dump` into a capture.

use super::{Cluster, schema_git};
use crate::backup::{Report, Request, Step, Taken, Trouble, conclude};
use crate::config::{Dump, Logical, PostgresSource};
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use repo::{Outcome, RepoError, Repository, Snapshot, percent_path};
use serde::{Deserialize, Serialize};
use sources::files::Severity;
use sources::postgres::census::{Database, Dumpable, Making, Table};
use sources::postgres::client::{self, ClientError};
use sources::postgres::dump::{Blobs, DumpError, DumpPlan, Entries, Extent, Rows, dump, script};
use sources::postgres::tools::Tools;
use sources::postgres::wire::{Connection, Server};
use std::collections::BTreeMap;
use std::path::Path;

/// The kind of snapshots of dumps.
pub const KIND: &str = "logical";
/// The oldest supported server.
const MAJOR_MIN: u32 = 13;
/// Where a connection that names no database of its own goes: then all databases are dumped.
const NO_DATABASE: &str = "postgres";
/// All databases, in the configuration.
const ALL: &str = "*";
/// How many tables are dumped at the same time, where nothing is said.
const WORKERS: (u32, u32) = (2, 8);

/// What a snapshot of dumps says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of this record.
    pub v: u32,
    /// Drawn by `initdb`, in decimal; none where the role may not ask.
    pub system: Option<String>,
    /// Version of the server, as `server_version_num` says it.
    pub version: u32,
    /// Major version of the programs that dumped.
    pub tools: u32,
    /// Roles and tablespaces.
    pub globals: Globals,
    /// The databases of the server, dumped or not.
    pub databases: Vec<Database>,
    /// What was dumped, in the order of paths.
    pub dumps: Vec<Part>,
}

impl Facts {
    /// Those of a snapshot.
    ///
    /// # Errors
    /// `no-facts` for one that has none, or those of a later version.
    pub fn of(reader: &repo::SnapshotReader) -> Result<Facts, Failure> {
        let known = reader.facts().and_then(|facts| serde_json::from_value::<Facts>(facts.clone()).ok());
        known.filter(|facts| facts.v == 1).ok_or_else(|| {
            Failure::new(Exit::Failed, "no-facts", "the snapshot does not say what was dumped")
                .help("restore it as files: backstay restore ID --target DIR, and use pg_restore on what comes back")
        })
    }
}

/// What was taken of roles and tablespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Globals {
    /// Everything.
    Whole,
    /// All but the passwords, which the role may not read.
    WithoutPasswords,
    /// Nothing.
    LeftOut,
}

/// A dump in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The name that the configuration gives it; none for a whole database.
    pub name: Option<String>,
    /// The database.
    pub database: String,
    /// Where it is in the snapshot, as a percent path: a directory with `dump` and `schema.sql`.
    pub path: String,
    /// Only these tables.
    pub tables_only: Vec<String>,
    /// Not these tables.
    pub exclude_tables: Vec<String>,
    /// Definitions without rows.
    pub schema_only: bool,
    /// How the database was made.
    pub making: Making,
    /// Its extensions with their versions.
    pub extensions: Vec<String>,
    /// Its largest tables, and those that were counted.
    pub tables: Vec<Table>,
}

/// The snapshots of dumps of a source, in the order of commits.
pub fn snapshots_of(snapshots: &[Snapshot], source: &str) -> Vec<Snapshot> {
    let of = |public: &repo::Public| public.kind == KIND && public.source.as_deref() == Some(source);
    snapshots.iter().filter(|snapshot| of(&snapshot.public)).cloned().collect()
}

/// One dump to make.
struct Task<'c> {
    dump: Option<&'c Dump>,
    database: String,
    extent: Extent,
    /// Directory and name.
    key: Vec<u8>,
}

/// Dumps what the configuration says of a source. When this returns `Ok` with a snapshot, it survives power loss.
///
/// # Errors
/// `source-unreachable`, `source-refused`, `dump-failed`, all exit 20; `no-tools` and `no-database` with exit 2;
/// `scratch-full` with exit 21; whatever the repository returns. There is no snapshot then.
pub fn backup(
    ctx: &Ctx,
    repository: &Repository,
    (cluster, source): (&Cluster, &PostgresSource),
    request: &Request,
    on: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report, Failure> {
    let began = ctx.world.clock.monotonic();
    let mut asked = Dumpable::ask(Connection::open(&cluster.server, &ctx.world.stop)?)?;
    let major = asked.major();
    if major < MAJOR_MIN {
        let what = format!("the server is PostgreSQL {major}: {MAJOR_MIN} is the oldest that is supported");
        return Err(Failure::new(Exit::SourceUnreachable, "source-failed", what).help("upgrade the server"));
    }
    let tools = Tools::find_client("pg_dump", major, cluster.bin.as_deref())?;
    let databases = asked.databases()?;
    let defaults = Logical::default();
    // Who asks for dumps where none are configured gets those that would be the usual ones.
    let logical = source.logical.as_ref().or_else(|| source.dumps.is_empty().then_some(&defaults));
    let tasks = tasks((&cluster.name, &cluster.server.database), logical, &source.dumps, &databases)?;
    let scratch = ctx.cache_dir.join("scratch");
    let mut parts = Vec::new();
    for task in &tasks {
        let part = survey(ctx, cluster, task, &scratch, on);
        parts.push(part.map_err(|e| Failure { what: format!("cannot dump {}: {}", task.database, e.what), ..e })?);
    }
    let mut troubles = Vec::new();
    let mut note = |path: &str, what: String, severity| {
        troubles.push(Trouble { path: path.as_bytes().to_vec(), what, severity });
    };
    let wanted = logical.is_some_and(|logical| logical.globals);
    let (kept, globals) = if wanted { globals(ctx, cluster, &tools)? } else { (Globals::LeftOut, None) };
    if kept == Globals::WithoutPasswords {
        let what = format!("without passwords, which {} may not read: it takes a superuser", cluster.server.user);
        note(GLOBALS, what, Severity::Warning);
    }
    let mut paths: Vec<String> = parts.iter().map(|part| part.path.clone()).collect();
    paths.extend(globals.as_ref().map(|_| GLOBALS.to_owned()));
    let mut capture = repository.capture(request.capture_plan(ctx, KIND, &paths))?;
    let jobs = source.workers.map_or_else(|| default_workers(ctx), |workers| workers.min(64));
    let mut schemas = BTreeMap::new();
    let mut above: &[u8] = b"";
    for (task, part) in tasks.iter().zip(&parts) {
        let dir = task.key.split(|byte| *byte == 0).next().unwrap_or_default();
        if dir != above {
            Entries::new(&mut capture, &ctx.world).dir(dir)?;
            above = dir;
        }
        let server = Server { database: task.database.clone(), ..cluster.server.clone() };
        let plan = DumpPlan {
            server: &server,
            tools: &tools,
            extent: &task.extent,
            jobs,
            key: &task.key,
            scratch: &scratch,
            world: &ctx.world,
        };
        let tell = |entries, bytes, table: Option<&str>| {
            let name = table.map(|table| format!("{}: {table}", task.database));
            on(Step::Done { entries, bytes, path: name.as_ref().map(|name| name.as_bytes()) });
        };
        let dumped = dump(&plan, &mut capture, &tell).map_err(|e| told(e, &task.database, &scratch))?;
        dumped.warnings.into_iter().for_each(|warning| note(&part.path, warning, Severity::Warning));
        schemas.insert(part.path.trim_start_matches('/').to_owned(), dumped.schema);
    }
    if let Some(text) = globals {
        Entries::new(&mut capture, &ctx.world).text(&GLOBALS.as_bytes()[1..], text.as_bytes())?;
    }
    let facts = Facts {
        v: 1,
        system: asked.system.clone(),
        version: asked.version,
        tools: tools.major(),
        globals: kept,
        databases,
        dumps: parts,
    };
    let facts = serde_json::to_value(&facts);
    let facts = facts.map_err(|e| RepoError::Limit(format!("what the databases say about themselves: {e}")))?;
    let outcome = Outcome { facts: Some(facts), ..Outcome::default() };
    let taken = Taken { began, paths, files: None, missing: troubles, outcome };
    let mut report = conclude(ctx, (repository, request.act), capture, taken)?;
    let place = logical.and_then(|logical| logical.schema_git.as_deref());
    if let (Some(place), Some(snapshot)) = (place, &report.snapshot) {
        let message = format!("{} at {}", cluster.name, snapshot.public.time);
        if let Err(what) = schema_git::publish(ctx, place, (&cluster.name, &message), &schemas) {
            report.troubles.push(Trouble { path: place.into(), what, severity: Severity::Error });
            report.errors += 1;
        }
    }
    Ok(report)
}

/// Where roles and tablespaces are in a snapshot.
pub(super) const GLOBALS: &str = "/globals.sql";

fn default_workers(ctx: &Ctx) -> u32 {
    let lanes = match ctx.world.lanes {
        store::Lanes::Inline => 1,
        store::Lanes::Threads(lanes) => u32::try_from(lanes).unwrap_or(u32::MAX),
    };
    lanes.clamp(WORKERS.0, WORKERS.1)
}

/// Everything that is to be dumped, in the order of paths.
fn tasks<'c>(
    (name, own): (&str, &str),
    logical: Option<&Logical>,
    dumps: &'c [Dump],
    databases: &[Database],
) -> Result<Vec<Task<'c>>, Failure> {
    let there = |name: &str| databases.iter().any(|database| database.name == name);
    let missing = |database: &str| {
        let names: Vec<&str> = databases.iter().map(|database| database.name.as_str()).collect();
        Failure::new(Exit::Usage, "no-database", format!("{name} has no database {database:?}"))
            .help(format!("it has {}", names.join(", ")))
    };
    let mut tasks = Vec::new();
    if let Some(logical) = logical {
        let every =
            logical.databases.iter().any(|name| name == ALL) || (logical.databases.is_empty() && own == NO_DATABASE);
        let names: Vec<String> = match (every, logical.databases.is_empty()) {
            (true, _) => databases.iter().map(|database| database.name.clone()).collect(),
            (false, true) => vec![own.to_owned()],
            (false, false) => logical.databases.clone(),
        };
        if let Some(absent) = names.iter().find(|name| !there(name)) {
            return Err(missing(absent));
        }
        tasks.extend(names.into_iter().map(|database| Task {
            dump: None,
            key: [b"databases\0", file_name(&database).as_bytes()].concat(),
            extent: Extent {
                tables: Vec::new(),
                exclude_tables: logical.exclude_tables.clone(),
                rows: Rows::Taken,
                blobs: if logical.blobs { Blobs::WithTheDatabase } else { Blobs::LeftOut },
            },
            database,
        }));
    }
    for dump in dumps {
        let database = dump.database.clone().unwrap_or_else(|| own.to_owned());
        if !there(&database) {
            return Err(missing(&database));
        }
        tasks.push(Task {
            dump: Some(dump),
            key: [b"dumps\0", dump.name.as_str().as_bytes()].concat(),
            extent: Extent {
                tables: dump.tables.clone(),
                exclude_tables: dump.exclude_tables.clone(),
                rows: if dump.schema_only { Rows::LeftOut } else { Rows::Taken },
                blobs: Blobs::WithTheDatabase,
            },
            database,
        });
    }
    tasks.sort_by(|a, b| a.key.cmp(&b.key));
    tasks.dedup_by(|a, b| a.key == b.key);
    Ok(tasks)
}

/// A name of a database as the name of a directory: whatever could be taken for something else is a percent sign and digits.
pub(super) fn file_name(database: &str) -> String {
    let mut name = String::new();
    for (at, c) in database.char_indices() {
        if c == '/' || c == '%' || c.is_control() || (at == 0 && c == '.') {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| name.push_str(&format!("%{byte:02X}")));
        } else {
            name.push(c);
        }
    }
    name
}

/// What a database consists of, and whether there is room for its largest table on its way.
fn survey(
    ctx: &Ctx,
    cluster: &Cluster,
    task: &Task<'_>,
    scratch: &Path,
    on: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Part, Failure> {
    let server = Server { database: task.database.clone(), ..cluster.server.clone() };
    let mut asked = Dumpable::ask(Connection::open(&server, &ctx.world.stop)?)?;
    let counted = if task.database == cluster.server.database { cluster.count_tables.as_slice() } else { &[] };
    let tables = asked.tables(counted)?;
    if task.extent.is_whole() {
        let (all, largest) = asked.table_bytes()?;
        on(Step::Expect { entries: tables.len() as u64, bytes: all });
        check_room(scratch, &task.database, largest)?;
    }
    Ok(Part {
        name: task.dump.map(|dump| dump.name.to_string()),
        database: task.database.clone(),
        path: percent_path(&repo::path_of_key(&task.key)),
        tables_only: task.extent.tables.clone(),
        exclude_tables: task.extent.exclude_tables.clone(),
        schema_only: task.extent.rows == Rows::LeftOut,
        making: asked.making()?,
        extensions: asked.extensions()?,
        tables,
    })
}

/// A table is stored when all of it was written. Without room for the largest, the dump would fail after hours.
fn check_room(scratch: &Path, database: &str, largest: u64) -> Result<(), Failure> {
    let failed = |e: std::io::Error| {
        let what = format!("cannot make {}: {e}", scratch.display());
        Failure::new(Exit::TargetUnreachable, "target-denied", what).help("name another place with --cache-dir")
    };
    std::fs::create_dir_all(scratch).map_err(failed)?;
    let space = rustix::fs::statvfs(scratch).map_err(|e| failed(e.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize.max(1));
    if largest <= free {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    let what = format!(
        "the largest table of {database} has {} MiB, and {} has {} MiB free for it to pass through",
        mib(largest),
        scratch.display(),
        mib(free)
    );
    Err(Failure::new(Exit::TargetUnreachable, "scratch-full", what)
        .help("make room there, or name another place with --cache-dir"))
}

/// Roles and tablespaces as SQL, as far as the role may read them.
fn globals(ctx: &Ctx, cluster: &Cluster, tools: &Tools) -> Result<(Globals, Option<String>), Failure> {
    let run = |more: &[&str]| {
        let mut command = client::command(tools, "pg_dumpall", &cluster.server);
        command.args(["--globals-only", "--no-password"]).args(more);
        command.arg(format!("--database={}", client::conninfo(&cluster.server.database)));
        script(command, "pg_dumpall", &ctx.world)
    };
    let scratch = ctx.cache_dir.join("scratch");
    match run(&[]) {
        Ok(text) => Ok((Globals::Whole, Some(text))),
        // The table that has the passwords is for superusers.
        Err(DumpError::Client(ClientError::Failed { why, .. })) if why.contains("pg_authid") => {
            let text = run(&["--no-role-passwords"]).map_err(|e| told(e, "the roles", &scratch))?;
            Ok((Globals::WithoutPasswords, Some(text)))
        }
        Err(e) => Err(told(e, "the roles", &scratch)),
    }
}

fn told(e: DumpError, of: &str, scratch: &Path) -> Failure {
    let full = |why: &str| why.contains("No space left");
    let help = match &e {
        DumpError::Repo(_) | DumpError::Client(ClientError::Stopped) => "",
        DumpError::Client(ClientError::Failed { why, .. }) if !full(why) => {
            "no snapshot was made; see what it says, and try again"
        }
        DumpError::Scratch { source, .. } if source.kind() != std::io::ErrorKind::StorageFull => {
            "no snapshot was made; see whether that place can be written"
        }
        _ => {
            let what = format!("{of} does not fit into {}, through which it passes: {e}", scratch.display());
            return Failure::new(Exit::TargetUnreachable, "scratch-full", what)
                .help("no snapshot was made; make room there, or name another place with --cache-dir");
        }
    };
    match e {
        DumpError::Repo(e) => e.into(),
        DumpError::Client(ClientError::Stopped) => RepoError::Stopped.into(),
        e => Failure::new(Exit::SourceUnreachable, "dump-failed", format!("cannot dump {of}: {e}")).help(help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dumped_is_the_database_at_hand_or_all_or_those_that_are_named() {
        let databases: Vec<Database> = ["postgres", "shop", "wiki"]
            .map(|name| Database {
                oid: 1,
                name: name.into(),
                bytes: None,
                encoding: "UTF8".into(),
                collation: "C".into(),
            })
            .into();
        let check = |own: &str, named: &[&str], expect: Option<&[&str]>| {
            let databases_named = named.iter().map(|name| (*name).to_owned()).collect();
            let logical = Logical { databases: databases_named, ..Logical::default() };
            let tasks = tasks(("shop/db", own), Some(&logical), &[], &databases);
            let found = tasks.map(|tasks| tasks.iter().map(|task| task.database.clone()).collect::<Vec<_>>()).ok();
            let expect = expect.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            assert_eq!(found, expect, "{own} {named:?}");
        };
        check("shop", &[], Some(&["shop"]));
        check("postgres", &[], Some(&["postgres", "shop", "wiki"]));
        check("shop", &["*"], Some(&["postgres", "shop", "wiki"]));
        check("shop", &["wiki", "postgres", "wiki"], Some(&["postgres", "wiki"]));
        check("gone", &[], None);
        check("shop", &["gone"], None);
    }

    #[test]
    fn odd_names_of_databases_are_names_of_directories() {
        for (name, expect) in [
            ("shop", "shop"),
            ("../etc", "%2E./etc".replace('/', "%2F").as_str()),
            (".", "%2E"),
            ("100%", "100%25"),
            ("a\nb", "a%0Ab"),
            ("Müller's \"db\"", "Müller's \"db\""),
            ("-x", "-x"),
        ] {
            assert_eq!(file_name(name), expect);
        }
    }
}
