//! `backstay wal`: the log of a PostgreSQL cluster: push, get, receive, status.

use crate::args::Global;
use crate::render::{self, Render, bytes, clean, count};
use ops::config::{Config, Source};
use ops::postgres::Cluster;
use ops::postgres::ahead::{self, Place, Waiting};
use ops::postgres::archive::{Archive, Pushed, Range, Status};
use ops::postgres::lag::{Held, Lag, lag};
use ops::postgres::receive::{Event, Loss, receive};
use ops::{Ctx, Exit, Failure};
use repo::{Repository, Snapshot};
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Options of `wal`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Archive a file of the log: archive_command = 'backstay wal push --source PLATFORM/SOURCE %p'
    Push(Push),
    /// Fetch a file of the log: restore_command = 'backstay wal get --source PLATFORM/SOURCE %f %p'
    Get(Get),
    /// Keep the archive within seconds of the server: by a replication slot, until it is told to stop
    Receive(Receive),
    /// What the archive holds: stretches, gaps, timelines
    Status(Of),
}

/// Options of `wal receive`.
#[derive(clap::Args)]
#[command(
    after_help = "What the server has written is stored after a few seconds (`receive.interval` in the configuration), and what is \
                        not stored yet is kept by the server. The role needs REPLICATION, and pg_hba.conf a line for it.\n\
                        SIGTERM stores the rest and ends with 0. What the server or the repository does not take is tried again."
)]
struct Receive {
    /// PLATFORM/SOURCE; may be left out where there is only one PostgreSQL source
    source: Option<String>,
    /// Where the slot or log is lost: make the slot anew, and go on behind the gap
    #[arg(long)]
    new_slot: bool,
}

/// Options of `wal push`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit 0 means that the file survives power loss in the repository: the server may remove its own.\n\
                        The same file once more is fine; another one of the same name is an error, and both are kept."
)]
struct Push {
    /// Whose log it is: PLATFORM/SOURCE
    #[arg(long, value_name = "SOURCE")]
    source: String,
    /// The file: %p
    file: PathBuf,
}

/// Options of `wal get`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit 1 means that the archive ends there. Whatever else goes wrong is exit 126, so that a server stops \
                        rather than takes it for the end of its log; so is a gap."
)]
struct Get {
    /// Whose log it is: PLATFORM/SOURCE
    #[arg(long, value_name = "SOURCE")]
    source: String,
    /// Name of the file: %f
    name: String,
    /// Where to write it: %p
    file: PathBuf,
}

/// Options of `wal status`.
#[derive(clap::Args)]
struct Of {
    /// PLATFORM/SOURCE
    source: String,
    /// Ask the server too: how far the archive is behind it, and how much it keeps for the slot
    #[arg(long)]
    server: bool,
}

/// Runs the verb.
///
/// # Errors
/// See [`Archive`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    match args.what {
        What::Push(args) => push(&args, global, ctx, out).inspect_err(|_| alarm(&args.file, out)),
        What::Get(args) => {
            let got = catch_unwind(AssertUnwindSafe(|| get(&args, global, ctx, out)));
            let got = got.unwrap_or_else(|_| Err(Failure::new(Exit::TryAgain, "panic", "the program failed")));
            got.map_err(|failure| Failure { exit: Exit::TryAgain, ..failure })
        }
        What::Receive(args) => receive_log(&args, global, ctx, out),
        What::Status(args) => status(&args, global, ctx, out),
    }
}

/// The archive of a source that somebody knows.
fn archive<'r>(repository: &'r Repository, source: &str, global: &Global) -> Result<Archive<'r>, Failure> {
    let snapshots = repository.snapshots()?;
    check_source(source, &snapshots, global)?;
    Archive::open(repository, source, &snapshots)
}

/// That somebody knows this source: what is archived under a mistyped name is lost, and an archive of nobody looks like one
/// that ends.
fn check_source(source: &str, snapshots: &[Snapshot], global: &Global) -> Result<(), Failure> {
    if !ops::postgres::snapshots_of(snapshots, source).is_empty() {
        return Ok(());
    }
    match global.configuration()?.source(source)?.2 {
        Source::Postgres(_) => Ok(()),
        _ => Err(Failure::usage(format!("{source} is no PostgreSQL source of the configuration"))),
    }
}

fn push(args: &Push, global: &Global, ctx: &Ctx, out: &Render) -> Result<Exit, Failure> {
    let global = &global.about(Some(&args.source));
    let place = Place { repository: &global.address()?, source: &args.source };
    let pushed = if ahead::was_stored(ctx, &place, &args.file) {
        Ok(Pushed::Same)
    } else {
        let repository = global.open(ctx, out)?;
        ahead::push(ctx, &archive(&repository, &args.source, global)?, &place, &args.file)
    };
    out.repository_warnings(&ctx.take_remarks());
    let pushed = pushed?;
    let name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    out.event("summary", &json!({ "source": args.source, "file": name, "result": pushed }));
    if out.verbose() > 0 {
        out.line(match pushed {
            Pushed::New => format!("{}: archived", clean(&name)),
            Pushed::Same => format!("{}: was archived before", clean(&name)),
            Pushed::Unneeded => format!("{}: not needed", clean(&name)),
        });
    }
    Ok(Exit::Ok)
}

/// A server that cannot archive keeps its log until its disk is full, and then stops.
fn alarm(file: &Path, out: &Render) {
    let Some(Waiting { files, room }) = ahead::backlog(file).filter(|waiting| waiting.files > 1) else { return };
    let (files, room) = (count(files), bytes(room));
    out.warning(format!("{files} files of the log wait to be archived, and their disk has room for {room} more"));
}

fn get(args: &Get, global: &Global, ctx: &Ctx, out: &Render) -> Result<Exit, Failure> {
    let global = &global.about(Some(&args.source));
    let place = Place { repository: &global.address()?, source: &args.source };
    let found = ahead::was_fetched(ctx, &place, &args.name, &args.file) || {
        let repository = global.open(ctx, out)?;
        ahead::fetch(ctx, &archive(&repository, &args.source, global)?, &place, &args.name, &args.file)?
    };
    out.event("summary", &json!({ "source": args.source, "file": args.name, "found": found }));
    if !found && out.verbose() > 0 {
        out.line(format_args!("{}: not in the archive", clean(&args.name)));
    }
    Ok(if found { Exit::Ok } else { Exit::Failed })
}

fn receive_log(args: &Receive, global: &Global, ctx: &Ctx, out: &Render) -> Result<Exit, Failure> {
    let config = global.configuration()?;
    let name = match &args.source {
        Some(name) => name.clone(),
        None => only_cluster(&config)?,
    };
    let cluster = cluster(&name, &config)?;
    let repository = global.about(Some(&name)).open(ctx, out)?;
    let loss = if args.new_slot { Loss::Accept } else { Loss::Refuse };
    receive(ctx, &repository, &cluster, loss, &mut |event| {
        out.repository_warnings(&ctx.take_remarks());
        told(&name, &event, out);
        out.flush();
    })?;
    Ok(Exit::Ok)
}

fn cluster(name: &str, config: &Config) -> Result<Cluster, Failure> {
    match config.source(name)?.2 {
        Source::Postgres(source) => Cluster::of(name, source),
        _ => Err(Failure::usage(format!("{name} is no PostgreSQL source of the configuration"))),
    }
}

/// The only PostgreSQL source there is.
fn only_cluster(config: &Config) -> Result<String, Failure> {
    let platforms = config.settings().platform.iter();
    let sources = platforms.flat_map(|(platform, about)| about.source.iter().map(move |source| (platform, source)));
    let clusters = sources.filter(|(_, (_, source))| matches!(source, Source::Postgres(_)));
    let names: Vec<String> = clusters.map(|(platform, (name, _))| format!("{platform}/{name}")).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::usage("there is no PostgreSQL source in the configuration")),
        _ => Err(Failure::usage("whose log is to be received?").help(format!("name one: {}", names.join(", ")))),
    }
}

/// One line for each thing that happens.
fn told(source: &str, event: &Event<'_>, out: &Render) {
    match event {
        Event::Began { slot, is_new, timeline, start } => {
            let fields =
                json!({ "source": source, "slot": slot, "slot_made": is_new, "timeline": timeline, "lsn": start });
            out.event("receiving", &fields);
            let made = if *is_new { ", which was made" } else { "" };
            out.say(format_args!("{}: receiving timeline {timeline} from {start} by slot {slot}{made}", clean(source)));
        }
        Event::Segment { name, pushed, end } => {
            out.event("segment", &json!({ "source": source, "file": name, "result": pushed, "lsn": end }));
            let again = if *pushed == Pushed::Same { ", was archived before" } else { "" };
            out.say(format_args!("{name}: stored{again}"));
        }
        Event::Part { name, end } => {
            out.event("part", &json!({ "source": source, "file": name, "lsn": end }));
            if out.verbose() > 0 {
                out.say(format_args!("{name}: stored up to {end}"));
            }
        }
        Event::TimelineEnds { timeline, at } => {
            out.event("timeline", &json!({ "source": source, "timeline": timeline, "lsn": at }));
            out.say(format_args!("timeline {timeline} ends at {at}"));
        }
        Event::Waits { why } => out.warning(format_args!("{why}; it is tried again")),
        Event::Holds { bytes } => out.warning(format_args!(
            "the server keeps {} of log that the archive does not have yet: it must not run out of room",
            render::bytes(*bytes)
        )),
        Event::Gap { from, to } => {
            out.event("gap", &json!({ "source": source, "from": from, "to": to }));
            out.warning(format_args!(
                "the log from {from} to {to} is lost: take a backup now, backstay backup {source}"
            ));
        }
        Event::Ended { safe } => {
            out.event("summary", &json!({ "source": source, "lsn": safe }));
            out.say(format_args!("ended; everything up to {safe} is stored"));
        }
    }
}

fn status(args: &Of, global: &Global, ctx: &Ctx, out: &Render) -> Result<Exit, Failure> {
    let repository = global.about(Some(&args.source)).open(ctx, out)?;
    let status = archive(&repository, &args.source, global)?.status()?;
    let lag = match args.server {
        true => Some(lag(ctx, &cluster(&args.source, &global.configuration()?)?, &status)?),
        false => None,
    };
    if out.is_json() {
        let mut document = json!(status);
        if let Some(lag) = &lag {
            document["server"] = json!(lag);
        }
        out.document(&document);
        return Ok(Exit::Ok);
    }
    let Status { source, segments, ranges, gaps, tails, .. } = &status;
    out.line(format_args!("{}: {} segments", clean(source), count(*segments)));
    let row = |what: &str, range: &Range| {
        let Range { timeline, first, last, segments, start, end } = range;
        vec![
            what.to_owned(),
            timeline.to_string(),
            first.clone(),
            last.clone(),
            count(*segments),
            format!("{start} to {end}"),
        ]
    };
    let parts = [("there", ranges), ("MISSING", gaps), ("in part", tails)];
    let rows: Vec<Vec<String>> =
        parts.iter().flat_map(|(what, ranges)| ranges.iter().map(|range| row(what, range))).collect();
    if !rows.is_empty() {
        out.table(&["", "timeline", "first", "last", "segments", "positions"], &[1, 4], &rows);
    }
    if let Some(lag) = &lag {
        told_lag(lag, out);
    }
    if !gaps.is_empty() {
        out.warning("the log has gaps: nothing between a gap and the next backup can be restored");
    }
    Ok(Exit::Ok)
}

fn told_lag(lag: &Lag, out: &Render) {
    let Lag { server, behind_bytes, slot, .. } = lag;
    let behind = behind_bytes.map_or("has nothing yet".to_owned(), |n| format!("is {} behind", bytes(n)));
    out.line(format_args!("server at {server}: the archive {behind}"));
    if let Some(Held { name, in_use, status, bytes: held }) = slot {
        let used = if *in_use { "in use" } else { "not in use" };
        let held = held.map_or("nothing".to_owned(), bytes);
        out.line(format_args!("slot {name}: {used}, {}, keeps {held} of log at the server", clean(status)));
    }
}
