//! `backstay wal`: the log of a PostgreSQL cluster: push, get, status.

use crate::args::Global;
use crate::render::{Render, bytes, clean, count};
use ops::config::Source;
use ops::postgres::ahead::{self, Place, Waiting};
use ops::postgres::archive::{Archive, Pushed, Range, Status};
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
    /// What the archive holds: stretches, gaps, timelines
    Status(Of),
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

fn status(args: &Of, global: &Global, ctx: &Ctx, out: &Render) -> Result<Exit, Failure> {
    let repository = global.about(Some(&args.source)).open(ctx, out)?;
    let status = archive(&repository, &args.source, global)?.status()?;
    if out.is_json() {
        out.document(&status);
        return Ok(Exit::Ok);
    }
    let Status { source, segments, ranges, gaps, .. } = &status;
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
    let rows: Vec<Vec<String>> =
        ranges.iter().map(|range| row("there", range)).chain(gaps.iter().map(|gap| row("MISSING", gap))).collect();
    if !rows.is_empty() {
        out.table(&["", "timeline", "first", "last", "segments", "positions"], &[1, 4], &rows);
    }
    if !gaps.is_empty() {
        out.warning("the log has gaps: nothing between a gap and the next backup can be restored");
    }
    Ok(Exit::Ok)
}
