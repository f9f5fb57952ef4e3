//! Bringing a cluster back to a moment, or a table of it.
//!
//! What it is for: a data directory that a server can be started on; or, by a private server on such a directory, the dump of a
//! table or a database, put into a file or straight into another database.
//! What it may not know: terminals. Where data comes from and goes: a snapshot and its log through `sources::postgres`.

use super::Cluster;
use super::instant::{Lazy, NotLazy};
use super::pitr::{Line, Moment, Route, plan};
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::pace::{self, Estimate};
use repo::{Opener, Repository, Snapshot, SnapshotReader};
use sources::files::apply::{Progress, RestoreMode};
use sources::postgres::base::Tablespace;
use sources::postgres::cluster::{Archiving, Arrival, ClusterError, ClusterPlan, ClusterReport, Edge, OVER, Recovery};
use sources::postgres::scratch::{Scratch, ScratchError};
use sources::postgres::tools::{NoTools, Tools};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, PoisonError};
use zeroize::Zeroizing;

/// What is wanted.
#[derive(Clone)]
pub struct Request {
    /// Platform and source.
    pub source: String,
    /// Which moment.
    pub moment: Moment,
    /// Along which timeline.
    pub line: Line,
    /// The backup to begin with; chosen by the moment when `None`.
    pub base: Option<Snapshot>,
    /// Whether what is exactly at the moment counts.
    pub edge: Edge,
    /// The data directory to make.
    pub target: PathBuf,
    /// Where tablespaces go, by name.
    pub tablespaces: BTreeMap<String, PathBuf>,
    /// What the server does at the moment.
    pub arrival: Arrival,
    /// Whether it archives.
    pub archiving: Archiving,
    /// Over what is there, or into nothing.
    pub over: Over,
    /// This program with the options that a server needs to fetch its log; `wal get …` is added.
    pub fetch: Vec<String>,
}

/// Whether the target may hold a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It must be absent or empty.
    Nothing,
    /// It may be a data directory of the same cluster: only what differs is written.
    Delta,
}

/// What a restore is about to do.
pub struct Prepared {
    /// How the moment is reached.
    pub route: Route,
    /// Where each tablespace goes: name and directory.
    pub tablespaces: Vec<(String, PathBuf)>,
    /// Files to restore.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it will take, without replay.
    pub estimate: Estimate,
    plan: ClusterPlan,
    reader: SnapshotReader,
}

/// Finds the way, and looks whether the target can be used. Touches nothing.
///
/// # Errors
/// As [`plan`]; refusals of the target with exit 21 or 6.
pub fn prepare(ctx: &Ctx, repository: &Repository, request: &Request) -> Result<Prepared, Failure> {
    let Way { route, tablespaces, plan, opener } = way(ctx, repository, request)?;
    let reader = opener.open(&route.snapshot)?;
    let (files, bytes) = plan.check(&route.facts, &reader)?;
    let estimate = pace::estimate(ctx, repository, files, bytes);
    Ok(Prepared { route, tablespaces, files, bytes, estimate, plan, reader })
}

/// How a moment is reached, wherever the files come from.
pub(super) struct Way {
    pub(super) route: Route,
    tablespaces: Vec<(String, PathBuf)>,
    pub(super) plan: ClusterPlan,
    pub(super) opener: Opener,
}

/// Finds the way. Looks at no target.
pub(super) fn way(ctx: &Ctx, repository: &Repository, request: &Request) -> Result<Way, Failure> {
    let reading = repository.reading(&ctx.process)?;
    let goal = (&request.moment, request.line);
    let route = plan((repository, &reading), &request.source, goal, request.base.as_ref())?;
    let facts = &route.facts;
    if let Some(unknown) = request.tablespaces.keys().find(|name| facts.tablespaces.iter().all(|s| s.name != **name)) {
        let known: Vec<&str> = facts.tablespaces.iter().map(|s| s.name.as_str()).collect();
        let what = format!("the backup has no tablespace {unknown}");
        let help = if known.is_empty() { "it has none".into() } else { format!("it has {}", known.join(", ")) };
        return Err(Failure::usage(what).help(help));
    }
    let target = std::path::absolute(&request.target).unwrap_or_else(|_| request.target.clone());
    let tablespaces: Vec<(String, PathBuf)> = facts
        .tablespaces
        .iter()
        .map(|space| {
            let named = request
                .tablespaces
                .get(&space.name)
                .map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
            // Never to where it was unless somebody says so: a server may run there.
            (space.name.clone(), named.unwrap_or_else(|| beside(&target).join(directory_of(space))))
        })
        .collect();
    let mut fetch: Vec<String> = request.fetch.iter().map(|word| shell_word(word)).collect();
    fetch.extend(["wal", "get", "--source"].map(str::to_owned));
    fetch.push(shell_word(&request.source));
    fetch.extend(["%f", "%p"].map(str::to_owned));
    let plan = ClusterPlan {
        target,
        tablespaces: tablespaces.iter().map(|(_, dir)| dir.clone()).collect(),
        mode: match request.over {
            Over::Nothing => RestoreMode::NewTarget,
            Over::Delta => OVER,
        },
        recovery: Recovery {
            goal: request.moment.goal(),
            edge: request.edge,
            timeline: route.timeline,
            arrival: request.arrival,
            archiving: request.archiving,
            // Servers read ahead since version 15, and one that reads into a gap does not start.
            reads_ahead: !route.gap || facts.major() < 15,
            restore_command: fetch.join(" "),
        },
    };
    Ok(Way { route, tablespaces, plan, opener: reading.opener() })
}

/// Makes the data directory. When this returns `Ok`, a server can be started on it; it recovers by itself.
///
/// # Errors
/// Refusals of the target with exit 21; whatever the repository returns. No server starts on what is there then.
pub fn restore(
    ctx: &Ctx,
    repository: &Repository,
    prepared: &Prepared,
    on: &(dyn Fn(Progress) + Sync),
) -> Result<ClusterReport, Failure> {
    let began = ctx.world.clock.monotonic();
    let report = prepared.plan.restore(&prepared.route.facts, &prepared.reader, on)?;
    if report.files.problem_count == 0 && prepared.plan.mode == RestoreMode::NewTarget {
        let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
        pace::learn(ctx, repository, report.files.files, report.files.bytes, seconds);
    }
    Ok(report)
}

/// Where tablespaces go that nobody gave a place: beside the data directory.
fn beside(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push("-tablespaces");
    target.with_file_name(name)
}

/// The name of a tablespace's directory: its own, but for one that would lead elsewhere.
fn directory_of(space: &Tablespace) -> String {
    let plain = !matches!(&*space.name, "" | "." | "..") && !space.name.contains('/');
    if plain { space.name.clone() } else { space.oid.to_string() }
}

/// A word as a shell takes it, for the server runs its restore_command by one.
pub(super) fn shell_word(word: &str) -> String {
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+=:@,".contains(&b));
    // Of a percent sign the server thinks that it is its own.
    let word = word.replace('%', "%%");
    if plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// What is taken out of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Tables of a database, as `pg_dump --table` names them.
    Tables {
        /// The database.
        database: String,
        /// The tables.
        tables: Vec<String>,
    },
}

/// Where it goes.
pub enum Destination {
    /// Another database: `postgresql://…`.
    Database(String),
    /// A file that `pg_restore` reads. Must not exist.
    File(PathBuf),
}

/// What a part was taken out of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// Only what the server read was fetched.
    Mounted,
    /// The whole cluster was restored, because mounting it does not go: why, as a sentence.
    Restored(String),
}

/// Takes tables out of a cluster as it was at a moment, and puts them into a database or a file. A private server runs on the
/// mounted backup, where this machine can mount, or on a restored copy. `request.target` is a directory that is made for it
/// and goes again.
///
/// # Errors
/// As [`prepare`]; `no-tools`, `scratch-failed`, `dump-failed`, `load-failed`.
pub fn extract(
    ctx: &Ctx,
    repository: &Repository,
    (cluster, request): (&Cluster, &Request),
    (part, to): (&Part, &Destination),
    on: &(dyn Fn(Progress) + Sync),
) -> Result<Copied, Failure> {
    if let Destination::File(path) = to
        && path.exists()
    {
        return Err(Failure::new(Exit::Confirmation, "target-not-empty", format!("{} exists", path.display()))
            .help("name another file"));
    }
    let remarks = Arc::clone(&ctx.remarks);
    let damaged = Box::new(move |path: &[u8], what: &str| {
        let mut remarks = remarks.lock().unwrap_or_else(PoisonError::into_inner);
        remarks.push(format!("{}: {what}", repo::percent_path(path)));
    });
    let tools = |program: &str, route: &Route| Tools::find(program, route.facts.major(), cluster.bin.as_deref());
    let why = match Lazy::mount((ctx, repository), request, &request.target, damaged) {
        Ok((lazy, route)) => {
            let (server, clients) = (tools("postgres", &route)?, tools("pg_dump", &route)?);
            let server = Scratch::start(&server, lazy.data(), &lazy.socket(), &cluster.server.user, &ctx.world)?;
            return dump(&clients, &server, &ctx.world, part, to).map(|()| Copied::Mounted);
        }
        Err(NotLazy::Mount(e)) => e.to_string(),
        Err(NotLazy::Other(failure)) => return Err(failure),
    };
    let prepared = prepare(ctx, repository, request)?;
    // Before anything is restored: it would be for nothing.
    let (tools, clients) = (tools("postgres", &prepared.route)?, tools("pg_dump", &prepared.route)?);
    let scratch = Removed(prepared.plan.target.clone());
    let spaces = Removed(beside(&prepared.plan.target));
    let report = restore(ctx, repository, &prepared, on)?;
    if let Some(problem) = report.files.problems.first() {
        let what = format!("{}: {}", repo::percent_path(&problem.path), problem.what);
        return Err(Failure::new(Exit::Failed, "damaged", what).help("restore another backup: --base SNAPSHOT"));
    }
    let socket = scratch.0.with_extension("run");
    let server = Scratch::start(&tools, &scratch.0, &socket, &cluster.server.user, &ctx.world)?;
    let result = dump(&clients, &server, &ctx.world, part, to);
    drop(server);
    drop((scratch, spaces));
    result.map(|()| Copied::Restored(why))
}

/// A directory that goes with this.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn dump(clients: &Tools, server: &Scratch, world: &store::World, part: &Part, to: &Destination) -> Result<(), Failure> {
    let Part::Tables { database, tables } = part;
    let from = server.server(database);
    let mut dump = Command::new(clients.program("pg_dump"));
    dump.args(["--format=custom", "--compress=0", "--no-password", "--host"]).arg(&from.host);
    dump.args(["--port", &from.port.to_string(), "--username", &from.user, "--dbname", database]);
    for table in tables {
        dump.args(["--table", table]);
    }
    dump.stdin(Stdio::null()).stderr(Stdio::piped());
    let failed = |program: &str, code: &'static str, why: &str| {
        Failure::new(Exit::Failed, code, format!("{program}: {}", why.trim()))
            .help("nothing of it was kept; see what it says, and try again")
    };
    let start = |program: &str, e: std::io::Error| failed(program, "dump-failed", &e.to_string());
    match to {
        Destination::File(path) => {
            let temp = path.with_extension("backstay-tmp");
            let gone = RemovedFile(temp.clone());
            dump.arg("--file").arg(&temp).stdout(Stdio::null());
            let output = dump.spawn().and_then(|child| child.wait_with_output()).map_err(|e| start("pg_dump", e))?;
            if !output.status.success() {
                return Err(failed("pg_dump", "dump-failed", &String::from_utf8_lossy(&output.stderr)));
            }
            let kept =
                std::fs::File::open(&temp).and_then(|file| file.sync_all()).and_then(|()| std::fs::rename(&temp, path));
            drop(gone);
            kept.map_err(|e| failed("pg_dump", "dump-failed", &e.to_string()))
        }
        Destination::Database(url) => {
            let (url, password) = without_password(url);
            dump.stdout(Stdio::piped());
            let mut dumping = dump.spawn().map_err(|e| start("pg_dump", e))?;
            let mut load = Command::new(clients.program("pg_restore"));
            // All of it or nothing.
            load.args(["--single-transaction", "--exit-on-error", "--no-password", "--dbname", &url]);
            if let Some(password) = &password {
                load.env("PGPASSWORD", password.as_str());
            }
            if let Some(stdout) = dumping.stdout.take() {
                load.stdin(stdout);
            }
            load.stdout(Stdio::null()).stderr(Stdio::piped());
            let loading = load.spawn();
            // What a program complains about must be read, or it waits for ever.
            let complaints = dumping.stderr.take().map(|mut stderr| {
                std::thread::spawn(move || {
                    let mut text = Vec::new();
                    std::io::Read::read_to_end(&mut stderr, &mut text).ok();
                    text
                })
            });
            let loaded = loading.and_then(|child| child.wait_with_output()).map_err(|e| {
                dumping.kill().ok();
                dumping.wait().ok();
                start("pg_restore", e)
            })?;
            let dumped = dumping.wait().map_err(|e| start("pg_dump", e))?;
            let complaints = complaints.and_then(|thread| thread.join().ok()).unwrap_or_default();
            if world.stop.requested() {
                return Err(repo::RepoError::Stopped.into());
            }
            // A dump that ends early may look like a short one to whoever loads it: both must say that all is well. When both
            // fail, a dump that ended by itself was first; one whose reader went away was ended by a signal.
            match (dumped.success(), loaded.status.success()) {
                (true, true) => Ok(()),
                (false, loaded) if loaded || dumped.code().is_some() => {
                    Err(failed("pg_dump", "dump-failed", &String::from_utf8_lossy(&complaints)))
                }
                _ => Err(failed("pg_restore", "load-failed", &String::from_utf8_lossy(&loaded.stderr))),
            }
        }
    }
}

/// A file that goes with this, when it is still there.
struct RemovedFile(PathBuf);

impl Drop for RemovedFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// The address of a database without the password in it, which must not be seen among the arguments of a program.
pub(super) fn without_password(url: &str) -> (String, Option<Zeroizing<String>>) {
    let none = || (url.to_owned(), None);
    let Some((scheme, rest)) = url.split_once("://") else { return none() };
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let Some((user, host)) = authority.rsplit_once('@') else { return none() };
    let Some((user, password)) = user.split_once(':') else { return none() };
    let password = String::from_utf8(repo::unpercent_path(password)).ok();
    (format!("{scheme}://{user}@{host}{path}"), password.map(Zeroizing::new))
}

impl From<ClusterError> for Failure {
    fn from(e: ClusterError) -> Self {
        let what = e.to_string();
        match e {
            ClusterError::Files(e) => e.into(),
            ClusterError::Target(_) => Failure::new(Exit::TargetUnreachable, "target-denied", what)
                .help("nothing was changed; name another target"),
            ClusterError::Write { .. } => Failure::new(Exit::TargetUnreachable, "target-denied", what)
                .help("no server starts on what is there; make room or rights, and restore again"),
        }
    }
}

impl From<NoTools> for Failure {
    fn from(e: NoTools) -> Self {
        Failure::new(Exit::Usage, "no-tools", e.to_string())
    }
}

impl From<ScratchError> for Failure {
    fn from(e: ScratchError) -> Self {
        match e {
            ScratchError::Wire(e) => e.into(),
            ScratchError::Start { .. } => Failure::new(Exit::Failed, "scratch-failed", e.to_string())
                .help("see its last words; a restore to another directory shows the same"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell_and_the_server() {
        for (word, expect) in [
            ("/usr/bin/backstay", "/usr/bin/backstay"),
            ("my dir/it's", "'my dir/it'\\''s'"),
            ("50%", "'50%%'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(word), expect);
        }
    }

    #[test]
    fn a_password_leaves_the_address() {
        let take = |url: &str| {
            let (url, password) = without_password(url);
            (url, password.map(|password| password.to_string()))
        };
        assert_eq!(take("postgresql://u:p%40ss@h:5/d?x=1"), ("postgresql://u@h:5/d?x=1".into(), Some("p@ss".into())));
        assert_eq!(take("postgresql:///d?host=/s"), ("postgresql:///d?host=/s".into(), None));
        assert_eq!(take("host=x dbname=d"), ("host=x dbname=d".into(), None));
    }

    #[test]
    fn a_tablespaces_name_leads_nowhere_else() {
        for (name, expect) in
            [("fast", "fast"), ("..", "77"), ("/etc", "77"), ("a/../../b", "77"), ("", "77"), ("a b", "a b")]
        {
            let (name, location, stored) = (name.to_owned(), String::new(), String::new());
            assert_eq!(directory_of(&Tablespace { oid: 77, name, location, stored }), expect);
        }
    }

    #[test]
    fn tablespaces_without_a_place_go_beside_the_data_directory() {
        assert_eq!(beside(Path::new("/srv/pg/r1")), Path::new("/srv/pg/r1-tablespaces"));
    }
}
