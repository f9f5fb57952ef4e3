//! `backstay restore PLATFORM/SOURCE`: a PostgreSQL cluster, or tables of it, as they were at a moment.

use crate::args::Global;
use crate::progress::Progress;
use crate::render::{Render, bytes, clean, duration, local_time, shown, shown_path};
use ops::config::Source;
use ops::postgres::Cluster;
use ops::postgres::pitr::{Line, Moment};
use ops::postgres::recover::{Copied, Destination, Over, Part, Prepared, Request, extract, prepare, restore};
use ops::{Ctx, Exit, Failure, select};
use repo::{Repository, Snapshot};
use serde_json::json;
use sources::postgres::cluster::{Archiving, Arrival, Edge};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What `restore` takes for clusters only.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Restoring PostgreSQL (PLATFORM/SOURCE)")]
pub struct ClusterArgs {
    /// The moment: a time, latest, immediate (the end of a backup), lsn:0/3000060, xid:1234, name:POINT [default: latest]
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    at: Option<String>,
    /// Without what is exactly at the moment
    #[arg(long, requires = "at")]
    exclusive: bool,
    /// The backup to begin with; otherwise the newest before the moment
    #[arg(long, value_name = "SNAPSHOT")]
    base: Option<String>,
    /// Which line of history after a failover: newest, backup (its own), or a number
    #[arg(long, value_name = "TIMELINE", default_value = "newest")]
    timeline: String,
    /// Where a tablespace goes; otherwise into TARGET-tablespaces/NAME
    #[arg(long, value_name = "NAME=DIR")]
    tablespace: Vec<String>,
    /// What the server does when it is there
    #[arg(long, value_enum, default_value = "promote", value_name = "ACTION")]
    target_action: Action,
    /// Let the server archive its log as before: for one that takes the place of the old one
    #[arg(long)]
    archive: bool,
    /// Only this table, as pg_dump names it: schema.table. Needs --to, but for dumps
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,
    /// The database that the tables are in; otherwise the one that the configuration names
    #[arg(long, value_name = "DATABASE")]
    pub database: Option<String>,
    /// Where the tables go: postgresql://… (a database that exists), or a file for pg_restore; of dumps a directory
    #[arg(long, value_name = "URL|FILE")]
    pub to: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Action {
    /// Opens for writing, on a timeline of its own
    Promote,
    /// Waits, readable, until somebody calls pg_wal_replay_resume()
    Pause,
    /// Stops
    Shutdown,
}

impl ClusterArgs {
    /// Whether only a part of a cluster is wanted, which goes elsewhere.
    pub fn takes_a_part(&self) -> bool {
        !self.table.is_empty()
    }

    /// Whether a moment was given, or anything else that takes log to be reached.
    pub fn wants_log(&self) -> bool {
        self.at.is_some() || self.base.is_some() || !self.tablespace.is_empty() || self.archive
    }

    /// Whether anything was given that means something for clusters only.
    pub fn is_given(&self) -> bool {
        self.at.is_some()
            || self.base.is_some()
            || !self.tablespace.is_empty()
            || !self.table.is_empty()
            || self.database.is_some()
            || self.to.is_some()
            || self.archive
    }
}

/// What `restore` found out already.
pub struct Found<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its snapshots.
    pub snapshots: &'a [Snapshot],
    /// Platform and source.
    pub source: &'a str,
    /// The snapshot that was named by its id.
    pub named: Option<&'a Snapshot>,
    /// The data directory to make.
    pub target: Option<PathBuf>,
    /// Over what is there.
    pub over: Over,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// Restores a cluster, or tables of it.
///
/// # Errors
/// See [`prepare`] and [`restore`].
pub fn run(
    args: &ClusterArgs,
    found: &Found<'_>,
    global: &Global,
    ctx: &Ctx,
    out: &mut Render,
) -> Result<Exit, Failure> {
    match (args.table.is_empty(), &args.to, &args.database) {
        (false, None, _) => {
            return Err(Failure::usage("where do the tables go?")
                .help("name a database that exists, or a file: --to postgresql://… or --to FILE"));
        }
        (true, Some(_), _) | (true, _, Some(_)) => {
            return Err(Failure::usage("--to and --database go with --table, or with dumps").help("see --type logical"));
        }
        _ => {}
    }
    let now = ctx.world.clock.now();
    let moment = match (&args.at, found.named) {
        (Some(text), _) => Moment::parse(text, now)?,
        // A backup that is named by its id is wanted as it was.
        (None, Some(_)) => Moment::Immediate,
        (None, None) => Moment::Latest,
    };
    let base = match (&args.base, found.named) {
        (Some(name), _) => {
            let filter = select::Filter::default().of_source(Some(found.source));
            Some(select::pick(&ctx.world, found.snapshots, name, &filter)?.clone())
        }
        (None, named) => named.cloned(),
    };
    let line = line(&args.timeline)?;
    let mut tablespaces = BTreeMap::new();
    for text in &args.tablespace {
        let (name, dir) = text
            .split_once('=')
            .filter(|(name, dir)| !name.is_empty() && !dir.is_empty())
            .ok_or_else(|| Failure::usage(format!("--tablespace {text:?}: write NAME=DIR")))?;
        tablespaces.insert(name.to_owned(), PathBuf::from(dir));
    }
    let target = match (&found.target, args.table.is_empty()) {
        (Some(target), true) => target.clone(),
        (None, true) => {
            return Err(Failure::usage("restore to where?").help("name a new data directory with --target"));
        }
        // A copy of the cluster for as long as it takes.
        (_, false) => {
            let place = found.target.clone().unwrap_or_else(|| ctx.cache_dir.join("scratch"));
            std::fs::create_dir_all(&place).map_err(|e| {
                Failure::new(Exit::TargetUnreachable, "target-denied", format!("cannot make {}: {e}", place.display()))
            })?;
            place.join(format!("cluster-{}", std::process::id()))
        }
    };
    let request = Request {
        source: found.source.to_owned(),
        moment,
        line,
        base,
        edge: if args.exclusive { Edge::Exclusive } else { Edge::Inclusive },
        target,
        tablespaces,
        arrival: match args.target_action {
            Action::Promote => Arrival::Promote,
            Action::Pause => Arrival::Pause,
            Action::Shutdown => Arrival::Shutdown,
        },
        archiving: if args.archive { Archiving::AsBefore } else { Archiving::Off },
        over: found.over,
        fetch: global.as_command()?,
    };
    let progress = Progress::start(out, global.show(), "restore");
    let counters = progress.counters();
    let began = ctx.world.clock.monotonic();
    if !args.table.is_empty() {
        let to = args.to.as_deref().unwrap_or_default();
        let destination = match to.starts_with("postgresql://") || to.starts_with("postgres://") {
            true => Destination::Database(to.to_owned()),
            false => Destination::File(to.into()),
        };
        let config = global.configuration()?;
        let Source::Postgres(source) = config.source(found.source)?.2 else {
            return Err(Failure::usage(format!("{} is no PostgreSQL source of the configuration", found.source)));
        };
        let cluster = Cluster::of(found.source, source)?;
        let database = args.database.clone().unwrap_or_else(|| cluster.server.database.clone());
        let part = Part::Tables { database, tables: args.table.clone() };
        let done = extract(ctx, found.repository, (&cluster, &request), (&part, &destination), &|done| {
            counters.set(done.files, done.bytes);
        });
        progress.finish();
        out.repository_warnings(&ctx.take_remarks());
        let copied = done?;
        let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
        out.event(
            "summary",
            &json!({ "source": found.source, "tables": args.table, "total_duration": seconds,
            "mounted": copied == Copied::Mounted }),
        );
        out.say(format_args!("{} of {} put into {}", args.table.join(", "), found.source, told_place(&destination)));
        if let Copied::Restored(why) = copied {
            out.say(format_args!("  the whole cluster was restored for it: {}", clean(&why)));
        }
        return Ok(Exit::Ok);
    }
    let prepared = prepare(ctx, found.repository, &request)?;
    counters.set_total(prepared.files, prepared.bytes);
    told_plan(out, &request, &prepared);
    if found.dry_run {
        progress.finish();
        return Ok(Exit::Ok);
    }
    let report = restore(ctx, found.repository, &prepared, &|done| counters.set(done.files, done.bytes));
    progress.finish();
    let report = report?.files;
    let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
    for problem in &report.problems {
        out.trouble(&problem.path, &problem.what);
    }
    out.event(
        "summary",
        &json!({
            "source": found.source,
            "snapshot_id": prepared.route.snapshot.id,
            "target": shown_path(&request.target),
            "timeline": prepared.route.timeline,
            "tablespaces": prepared.tablespaces.iter().map(|(name, dir)| json!({ "name": name, "path": shown_path(dir) }))
                .collect::<Vec<_>>(),
            "files": report.files,
            "bytes": report.bytes,
            "bytes_written": report.bytes_written,
            "bytes_unchanged": report.unchanged_bytes,
            "errors": report.problem_count,
            "total_duration": seconds,
        }),
    );
    out.say(format_args!(
        "restored {} files, {} of {} to {} in {}",
        report.files,
        bytes(report.bytes),
        clean(found.source),
        shown_path(&request.target),
        duration(seconds),
    ));
    for (name, dir) in &prepared.tablespaces {
        out.say(format_args!("  tablespace {} is in {}", clean(name), shown_path(dir)));
    }
    out.say(format_args!(
        "  start the server on it: it replays {} segments at most{}",
        prepared.route.segments,
        if args.archive { "" } else { ", and archives nothing (archive_mode = off in postgresql.auto.conf)" },
    ));
    Ok(if report.problem_count == 0 { Exit::Ok } else { Exit::Failed })
}

/// The line of history that `--timeline` names.
///
/// # Errors
/// `usage` for words that name none.
pub fn line(text: &str) -> Result<Line, Failure> {
    let none = || Failure::usage(format!("--timeline {text:?} is none of newest, backup, or a number"));
    match text {
        "newest" => Ok(Line::Newest),
        "backup" => Ok(Line::OfTheBackup),
        number => number.parse().map(Line::Number).map_err(|_| none()),
    }
}

fn told_place(to: &Destination) -> String {
    match to {
        // There may be a password in it.
        Destination::Database(_) => "the database".to_owned(),
        Destination::File(path) => shown_path(path),
    }
}

/// The moment as it was understood, both as universal and as local time, and where it begins.
fn told_plan(out: &Render, request: &Request, prepared: &Prepared) {
    let public = &prepared.route.snapshot.public;
    let moment = match &request.moment {
        Moment::Latest => "the end of the log".to_owned(),
        Moment::Immediate => format!("the end of the backup, {}", local_time(&prepared.route.facts.stopped)),
        Moment::Time(at) => {
            let text = repo::time::text(*at);
            format!("{text}, which is {} here", local_time(&text))
        }
        Moment::Lsn(lsn) => format!("position {lsn}"),
        Moment::Xid(xid) => format!("transaction {xid}"),
        Moment::Name(name) => format!("the point {name}"),
    };
    let estimate = &prepared.estimate;
    out.event(
        "plan",
        &json!({
            "snapshot_id": prepared.route.snapshot.id,
            "moment": moment,
            "timeline": prepared.route.timeline,
            "segments": prepared.route.segments,
            "files": prepared.files,
            "bytes": prepared.bytes,
            "estimated_seconds": estimate.seconds,
            "estimate_measured": estimate.measured,
        }),
    );
    if out.is_quiet() || out.is_json() {
        return;
    }
    out.complain(&format!(
        "{} to {}: begins with backup {} of {}, timeline {}, {} segments of log at most",
        shown(request.source.as_bytes()),
        clean(&moment),
        prepared.route.snapshot.id.short(),
        local_time(&public.time),
        prepared.route.timeline,
        prepared.route.segments,
    ));
    let about = duration(estimate.seconds.max(1.0).round());
    out.complain(&format!("{} files, {}: about {about}, without the replay", prepared.files, bytes(prepared.bytes)));
}
