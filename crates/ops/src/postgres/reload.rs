//! Bringing dumps back: a database under a new name, some of its tables, or the directory that `pg_restore` takes.
//!
//! What it is for: nothing that exists is changed. A database is made anew; one that is to take the place of another gets its
//! name only when it is complete, and the other one keeps everything but its name. What fails half-way is dropped.
//! What it may not know: terminals. Where data comes from and goes: files of a snapshot, through `pg_restore`, into a server.

use super::Cluster;
use super::logical::{Facts, GLOBALS, Part};
use super::recover::without_password;
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use repo::{Reading, RepoError, Repository, Snapshot, SnapshotReader, key_of_path, unpercent_path};
use sources::files::apply::{Progress, Rebase, RestorePlan, preview};
use sources::files::dump::dump as read_file;
use sources::postgres::client::{self, ClientError, Running};
use sources::postgres::dump::{Scratch, script};
use sources::postgres::script::{identifier, quoted, statements};
use sources::postgres::toc::{Chosen, Contents};
use sources::postgres::tools::Tools;
use sources::postgres::wire::{Connection, Server, WireError, literal};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The longest name of a database (`NAMEDATALEN`).
const NAME_BYTES_MAX: usize = 63;
/// Databases that a server usually has, to ask it from while another one is made.
const ALWAYS_THERE: [&str; 2] = ["postgres", "template1"];

/// What is wanted.
pub struct Request {
    /// The snapshot of dumps.
    pub snapshot: Snapshot,
    /// Which of its dumps, by its name in the configuration.
    pub dump: Option<String>,
    /// Which of its databases; the only one, or the one of the configuration.
    pub database: Option<String>,
    /// Only these tables; everything where there are none.
    pub tables: Vec<String>,
    /// Where to.
    pub to: To,
    /// What is done about roles.
    pub roles: Roles,
    /// How many tables at the same time.
    pub jobs: u32,
}

/// Where a dump goes.
pub enum To {
    /// A new database of the server that it is of; named after the old one and the time, where nothing is said.
    New(Option<String>),
    /// The place of this database, which keeps everything but its name.
    Replace(String),
    /// A database that exists: `postgresql://…`. All of it or nothing.
    Existing(String),
    /// A directory, as `pg_restore` takes it. Must not exist, or be empty.
    Directory(PathBuf),
}

/// What is done about roles that the server lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// Nothing.
    AsTheyAre,
    /// They are made as they were, with their memberships. Those that exist are not touched.
    Made,
}

/// What is about to be done.
pub struct Prepared<'r> {
    /// What is brought back.
    pub part: Part,
    /// The database that becomes of it, where it has a name.
    pub name: Option<String>,
    /// Tables with their partitions, and foreign keys that are left out; none where everything is brought back.
    pub chosen: Option<Chosen>,
    /// Files that pass through the private directory.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    facts: Facts,
    reader: SnapshotReader,
    /// Says that somebody reads, until it ends.
    _reading: Reading<'r>,
    tools: Tools,
    scratch: Scratch,
    request: &'r Request,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Reloaded {
    /// Roles that were made.
    pub roles: Vec<String>,
    /// The name that the database has now that was replaced.
    pub replaced: Option<String>,
    /// What is worth a warning.
    pub notes: Vec<String>,
}

/// Looks whether it can be done. Changes nothing but the private directory.
///
/// # Errors
/// `which-database`, `no-table` with exit 2; `no-tools`; `database-exists` with exit 6; a target that is not empty or has no room,
/// with exit 6 or 21; `source-unreachable` and its like when the server cannot be asked.
pub fn prepare<'r>(
    ctx: &Ctx,
    repository: &'r Repository,
    cluster: &Cluster,
    request: &'r Request,
) -> Result<Prepared<'r>, Failure> {
    let reading = repository.reading(&ctx.process)?;
    let reader = reading.open(&request.snapshot)?;
    let facts = Facts::of(&reader)?;
    let part = pick(&facts, request, &cluster.server.database)?.clone();
    let tools = Tools::find_client("pg_restore", facts.tools, cluster.bin.as_deref())?;
    let name = match &request.to {
        To::New(name) => Some(name.clone().unwrap_or_else(|| dated(ctx, &part.database, "restored"))),
        To::Replace(_) => Some(dated(ctx, &part.database, "restored")),
        To::Existing(_) | To::Directory(_) => None,
    };
    if let (To::New(_), Some(name)) = (&request.to, &name)
        && exists(&mut ask(ctx, cluster)?, name)?
    {
        let what = format!("there is a database {name:?}");
        return Err(Failure::new(Exit::Confirmation, "database-exists", what)
            .help("give another name, or name it twice to put it aside: --into NAME --confirm NAME"));
    }
    if let To::Replace(place) = &request.to
        && !exists(&mut ask(ctx, cluster)?, place)?
    {
        return Err(Failure::usage(format!("there is no database {place:?} to be replaced"))
            .help("leave out --confirm: a new one is made"));
    }
    let scratch = Scratch::create(&ctx.cache_dir.join("scratch"), "restore-", &ctx.world)
        .map_err(|e| no_place(&ctx.cache_dir, &e.to_string()))?;
    let mut prepared = Prepared {
        part,
        name,
        chosen: None,
        files: 0,
        bytes: 0,
        facts,
        reader,
        _reading: reading,
        tools,
        scratch,
        request,
    };
    if !request.tables.is_empty() {
        prepared.choose(ctx)?;
    }
    prepared.measure()?;
    Ok(prepared)
}

/// Which dump is meant.
fn pick<'f>(facts: &'f Facts, request: &Request, usual: &str) -> Result<&'f Part, Failure> {
    let of = |part: &&Part| {
        request.database.as_ref().is_none_or(|database| part.database == *database)
            && match &request.dump {
                Some(name) => part.name.as_ref() == Some(name),
                None => part.name.is_none(),
            }
    };
    let mut found: Vec<&Part> = facts.dumps.iter().filter(of).collect();
    if found.is_empty() && request.dump.is_none() {
        // Where only a part of it is dumped, that is what there is.
        let named = request.database.as_deref();
        found = facts.dumps.iter().filter(|part| named.is_none_or(|database| part.database == database)).collect();
    }
    if found.len() > 1 && request.database.is_none() {
        let usual: Vec<&Part> = found.iter().copied().filter(|part| part.database == usual).collect();
        found = if usual.is_empty() { found } else { usual };
    }
    match found.as_slice() {
        [one] => Ok(one),
        [] | [_, ..] => {
            let told = |part: &Part| match &part.name {
                Some(name) => format!("--dump {name} (of {})", part.database),
                None => format!("--database {}", part.database),
            };
            let all: Vec<String> = facts.dumps.iter().map(told).collect();
            let what = if found.is_empty() { "the snapshot has no such dump" } else { "which database?" };
            Err(Failure::new(Exit::Usage, "which-database", what).help(format!("it has {}", all.join(", "))))
        }
    }
}

/// A name for a database that tells what it is and since when.
fn dated(ctx: &Ctx, database: &str, what: &str) -> String {
    let time = repo::time::text(ctx.world.clock.now());
    let digits: String = time.chars().filter(char::is_ascii_digit).take(14).collect();
    let (day, hour) = digits.split_at(digits.len().min(8));
    let end = format!("_{what}_{day}_{hour}");
    let mut room = NAME_BYTES_MAX.saturating_sub(end.len()).min(database.len());
    while !database.is_char_boundary(room) {
        room -= 1;
    }
    format!("{}{end}", &database[..room])
}

/// A connection to the server, by whichever database it has. The configured one comes last: it may be gone, or about to be
/// put aside.
fn ask(ctx: &Ctx, cluster: &Cluster) -> Result<Connection, Failure> {
    for database in ALWAYS_THERE {
        let server = Server { database: database.to_owned(), ..cluster.server.clone() };
        match Connection::open(&server, &ctx.world.stop) {
            Err(WireError::Refused { .. }) => {}
            asked => return Ok(asked?),
        }
    }
    Ok(Connection::open(&cluster.server, &ctx.world.stop)?)
}

fn exists(connection: &mut Connection, database: &str) -> Result<bool, Failure> {
    let found = connection.query(&format!("select 1 from pg_database where datname = {}", literal(database)))?;
    Ok(!found.is_empty())
}

fn no_place(dir: &Path, why: &str) -> Failure {
    Failure::new(Exit::TargetUnreachable, "target-denied", format!("cannot use {}: {why}", dir.display()))
        .help("see whether it can be written, or name another place")
}

impl Prepared<'_> {
    /// Path key of something in the dump.
    fn key(&self, below: &str) -> Result<Vec<u8>, Failure> {
        let path = [&unpercent_path(&self.part.path)[..], b"/dump", below.as_bytes()].concat();
        key_of_path(&path)
            .ok_or_else(|| Failure::new(Exit::Failed, "damaged", "the snapshot names paths that make no sense"))
    }

    /// The directory that `pg_restore` reads.
    fn dir(&self) -> PathBuf {
        match &self.request.to {
            To::Directory(dir) => dir.clone(),
            _ => self.scratch.path().join("dump"),
        }
    }

    /// Finds what the wanted tables consist of, by the table of contents alone.
    fn choose(&mut self, ctx: &Ctx) -> Result<(), Failure> {
        let dir = self.scratch.path().join("contents");
        let failed = |e: std::io::Error| no_place(&dir, &e.to_string());
        DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
        let mut file = File::create(dir.join("toc.dat")).map_err(failed)?;
        read_file(&self.reader, &self.key("/toc.dat")?, &mut file)?;
        let mut command = client::elsewhere(&self.tools, "pg_restore");
        command.args(["--list", "--verbose"]).arg(&dir);
        let list = script(command, "pg_restore", &ctx.world).map_err(|e| {
            Failure::new(Exit::Failed, "load-failed", e.to_string()).help("restore the dump as files, and see")
        })?;
        let chosen = Contents::parse(&list).choose(&self.request.tables).map_err(|e| {
            Failure::new(Exit::Usage, "no-table", e.to_string())
                .help(format!("see which there are: backstay dump ID{}/schema.sql", self.part.path))
        })?;
        self.chosen = Some(chosen);
        Ok(())
    }

    /// Counts what is to be fetched, and looks whether there is room for it.
    fn measure(&mut self) -> Result<(), Failure> {
        let plan = self.plan()?;
        let mut found = preview(&plan, &self.reader)?;
        if let Some(chosen) = &self.chosen {
            (found.files, found.bytes) = (1, 0);
            for id in &chosen.rows {
                let located = self.reader.get(&self.key(&format!("/{id}.dat"))?)?;
                if let Some(repo::Node::File(file)) = located.map(|located| located.entry.node) {
                    found.files += 1;
                    found.bytes += file.size;
                }
            }
            found.needs = found.bytes;
        }
        found.check_space(&plan).map_err(sources::files::apply::RestoreError::from)?;
        (self.files, self.bytes) = (found.files, found.bytes);
        Ok(())
    }

    fn plan(&self) -> Result<RestorePlan, Failure> {
        let within = self.key("")?;
        Ok(RestorePlan { within, rebase: Rebase::StripPrefix, ..RestorePlan::new(self.dir()) })
    }

    /// Brings the files of the dump into the directory, and the list of entries where tables were chosen.
    fn fetch(&self, on: &(dyn Fn(Progress) + Sync)) -> Result<Option<PathBuf>, Failure> {
        let dir = self.dir();
        let Some(chosen) = &self.chosen else {
            let report = sources::files::apply::restore(&self.plan()?, &self.reader, on)?;
            return match report.problems.first() {
                None => Ok(None),
                Some(problem) => {
                    let what = format!("{}: {}", repo::percent_path(&problem.path), problem.what);
                    Err(Failure::new(Exit::Failed, "damaged", what).help("restore another snapshot, or single tables"))
                }
            };
        };
        let failed = |e: std::io::Error| no_place(&dir, &e.to_string());
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        }
        let (mut files, mut bytes) = (0, 0);
        let rows = chosen.rows.iter().map(|id| format!("{id}.dat"));
        for name in rows.chain(["toc.dat".to_owned()]) {
            let key = self.key(&format!("/{name}"))?;
            // What is filled by a query has rows to be made, and no file.
            if self.reader.get(&key)?.is_none() {
                continue;
            }
            let mut file = File::create_new(dir.join(&name)).map_err(failed)?;
            read_file(&self.reader, &key, &mut file)?;
            files += 1;
            bytes += file.metadata().map_err(failed)?.len();
            on(Progress { files, bytes });
        }
        let list = dir.join("restore.list");
        let text: String = chosen.entries.iter().map(|id| format!("{id}; 0 0\n")).collect();
        std::fs::write(&list, text).map_err(failed)?;
        Ok(Some(list))
    }

    /// Brings it back. When this returns `Ok`, all of it is there.
    ///
    /// # Errors
    /// `load-failed` when the server does not take it: nothing is left of it then, or what is left is named. What is wrong with
    /// the snapshot or the place that it passes through.
    pub fn restore(self, ctx: &Ctx, cluster: &Cluster, on: &(dyn Fn(Progress) + Sync)) -> Result<Reloaded, Failure> {
        let mut reloaded = Reloaded::default();
        let list = self.fetch(on)?;
        let name = match (&self.request.to, &self.name) {
            (To::Existing(url), _) => {
                self.load_beside(ctx, url, list.as_deref())?;
                return Ok(reloaded);
            }
            // A directory is all that was wanted.
            (_, None) => return Ok(reloaded),
            (_, Some(name)) => name.clone(),
        };
        let mut asked = ask(ctx, cluster)?;
        if self.request.roles == Roles::Made {
            self.make_roles(&mut asked, &mut reloaded)?;
        }
        self.create(&mut asked, &name)?;
        let mut command = client::command(&self.tools, "pg_restore", &cluster.server);
        command.args(["--exit-on-error", "--no-password", "--verbose"]).arg(format!("--jobs={}", self.request.jobs));
        command.arg(format!("--dbname={}", client::conninfo(&name)));
        if let Err(failure) = self.load(ctx, command, list.as_deref()) {
            let gone = ask(ctx, cluster)
                .and_then(|mut asked| Ok(asked.query(&format!("drop database {} with (force)", quoted(&name)))?));
            return Err(match gone {
                Ok(_) => failure,
                Err(_) => {
                    Failure { what: format!("{}; half of it is left as database {name:?}", failure.what), ..failure }
                }
            });
        }
        let server = Server { database: name.clone(), ..cluster.server.clone() };
        for setting in &self.part.making.settings {
            if let Err(e) = set(ctx, &server, setting) {
                reloaded.notes.push(format!("the setting {setting} of the database was not made: {e}"));
            }
        }
        if let To::Replace(place) = &self.request.to {
            reloaded.replaced = Some(replace(ctx, &mut asked, (&name, place))?);
        }
        Ok(reloaded)
    }

    /// Into a database that exists, all of it or nothing.
    fn load_beside(&self, ctx: &Ctx, url: &str, list: Option<&Path>) -> Result<(), Failure> {
        let (url, password) = without_password(url);
        let mut command = client::elsewhere(&self.tools, "pg_restore");
        command.args(["--single-transaction", "--no-password"]).arg(format!("--dbname={url}"));
        if let Some(password) = &password {
            command.env("PGPASSWORD", password.as_str());
        }
        self.load(ctx, command, list).map_err(|failure| failure.help(HELP_EXISTING))
    }

    /// Runs `pg_restore` on the directory.
    fn load(&self, ctx: &Ctx, mut command: std::process::Command, list: Option<&Path>) -> Result<(), Failure> {
        if let Some(list) = list {
            command.arg("--use-list").arg(list);
        }
        command.arg("--format=directory").arg(self.dir());
        let running = Running::start(command, "pg_restore", &ctx.world).map_err(told)?;
        running.finish().map(drop).map_err(told)
    }

    fn create(&self, asked: &mut Connection, name: &str) -> Result<(), Failure> {
        let making = &self.part.making;
        let mut sql = format!(
            "create database {} template template0 encoding {} lc_collate {} lc_ctype {}",
            quoted(name),
            literal(&making.encoding),
            literal(&making.collate),
            literal(&making.ctype)
        );
        if let Some((provider, locale)) = &making.provider {
            let provider = if provider == "icu" { "icu" } else { "builtin" };
            sql.push_str(&format!(" locale_provider {provider} {provider}_locale {}", literal(locale)));
        }
        asked.query(&sql).map(drop).map_err(|e| {
            Failure::new(Exit::TargetUnreachable, "target-denied", format!("cannot make the database {name:?}: {e}"))
                .help("the role needs CREATEDB, and the server the locale that the database had")
        })
    }

    fn make_roles(&self, asked: &mut Connection, reloaded: &mut Reloaded) -> Result<(), Failure> {
        let key = key_of_path(GLOBALS.as_bytes()).unwrap_or_default();
        if self.reader.get(&key)?.is_none() {
            reloaded.notes.push("the snapshot has no roles: the configuration says globals = false".into());
            return Ok(());
        }
        let mut script = Vec::new();
        read_file(&self.reader, &key, &mut script)?;
        let existing = asked.query("select rolname from pg_roles")?;
        let mut filter = RoleFilter {
            existing: existing.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect(),
            made: Vec::new(),
        };
        for statement in statements(&String::from_utf8_lossy(&script)) {
            if filter.takes(&statement)
                && let Err(e) = asked.query(&statement)
            {
                // What follows CREATE ROLE may have a password in it.
                let what: String = statement.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
                reloaded.notes.push(format!("{what}: {e}"));
            }
        }
        if self.facts.globals == super::logical::Globals::WithoutPasswords && !filter.made.is_empty() {
            reloaded.notes.push("the roles that were made have no passwords: the snapshot has none".into());
        }
        reloaded.roles = filter.made;
        Ok(())
    }
}

const HELP_EXISTING: &str =
    "nothing was changed there: it is all or nothing; what is there already cannot be brought back beside it";

fn told(e: ClientError) -> Failure {
    match e {
        ClientError::Stopped => RepoError::Stopped.into(),
        ClientError::Failed { why, .. } => {
            let help = if why.contains("role \"") && why.contains("does not exist") {
                "nothing is left of it; --roles makes the roles that the server lacks"
            } else if why.contains("unrecognized configuration parameter") {
                "nothing is left of it; dump and restore with programs of the server's version (`bin` in the configuration)"
            } else {
                "nothing is left of it; see what it says, and try again"
            };
            Failure::new(Exit::Failed, "load-failed", format!("pg_restore: {why}")).help(help)
        }
    }
}

/// Makes a setting of a database, as `name=value`: a session that has it says that it is for all others too. A list stays one.
fn set(ctx: &Ctx, server: &Server, setting: &str) -> Result<(), WireError> {
    let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
    let mut connection = Connection::open(server, &ctx.world.stop)?;
    connection.query(&format!("select set_config({}, {}, false)", literal(name), literal(value)))?;
    let name: Vec<String> = name.split('.').map(quoted).collect();
    let database = quoted(&server.database);
    connection.query(&format!("alter database {database} set {} from current", name.join("."))).map(drop)
}

/// Gives a database the name of another, which gets a new one. Returns that.
fn replace(ctx: &Ctx, asked: &mut Connection, (name, place): (&str, &str)) -> Result<String, Failure> {
    let aside = dated(ctx, place, "replaced");
    let failed = |e: WireError, help: String| {
        let what = format!("the restored database is {name:?}, and did not get the name {place:?}: {e}");
        Failure::new(Exit::Failed, "not-replaced", what).help(help)
    };
    let rename = |from: &str, to: &str| format!("alter database {} rename to {}", quoted(from), quoted(to));
    asked.query(&rename(place, &aside)).map_err(|e| {
        failed(e, format!("end all sessions in {place:?}, and rename both: ALTER DATABASE … RENAME TO …"))
    })?;
    asked.query(&rename(name, place)).map_err(|e| {
        failed(e, format!("the old one is {aside:?} now; rename it yourself: ALTER DATABASE … RENAME TO …"))
    })?;
    Ok(aside)
}

/// Which statements about roles are carried out: those about roles that were not there before.
struct RoleFilter {
    existing: BTreeSet<String>,
    made: Vec<String>,
}

impl RoleFilter {
    fn takes(&mut self, statement: &str) -> bool {
        let role = |prefix: &str| statement.strip_prefix(prefix).and_then(identifier);
        if let Some((name, _)) = role("CREATE ROLE ") {
            let is_new = !self.existing.contains(&name);
            if is_new {
                self.made.push(name);
            }
            return is_new;
        }
        if let Some((name, _)) = role("ALTER ROLE ").or_else(|| role("COMMENT ON ROLE ")) {
            return self.made.contains(&name);
        }
        // GRANT group TO member …
        let member = role("GRANT ").and_then(|(_, rest)| identifier(rest.strip_prefix(" TO ")?));
        member.is_some_and(|(name, _)| self.made.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_roles_that_were_not_there_are_made_and_changed() {
        let mut filter =
            RoleFilter { existing: BTreeSet::from(["postgres".into(), "old one".into()]), made: Vec::new() };
        for (statement, expect) in [
            ("CREATE ROLE postgres", false),
            ("ALTER ROLE postgres WITH SUPERUSER", false),
            ("CREATE ROLE \"old one\"", false),
            ("ALTER ROLE \"old one\" WITH PASSWORD 'x'", false),
            ("CREATE ROLE clerk", true),
            ("ALTER ROLE clerk WITH LOGIN", true),
            ("GRANT \"old one\" TO clerk WITH INHERIT TRUE GRANTED BY postgres", true),
            ("GRANT clerk TO \"old one\"", false),
            ("GRANT CREATE ON TABLESPACE fast TO clerk", false),
            ("CREATE TABLESPACE fast OWNER clerk LOCATION '/x'", false),
            ("SET standard_conforming_strings = on", false),
        ] {
            assert_eq!(filter.takes(statement), expect, "{statement}");
        }
        assert_eq!(filter.made, ["clerk"]);
    }
}
