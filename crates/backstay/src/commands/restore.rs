//! `backstay restore`: brings a snapshot, or a part of it, back.

use super::choose::Choose;
use super::cluster::Found;
use crate::args::Global;
use crate::progress::Progress;
use crate::render::{Render, bytes, clean, duration, shown, shown_path};
use ops::pace::Estimate;
use ops::postgres::logical;
use ops::postgres::recover::Over;
use ops::restore::{Act, Report, Request};
use ops::{Ctx, Exit, Failure, select};
use repo::{Repository, Snapshot, key_of_path};
use serde_json::json;
use sources::files::apply::Preview;
use sources::files::apply::{AfterCheck, Extras, Owner, Rebase, RestoreMode, RestorePlan, RestoreReport, Special};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How many problems are named one by one.
const NAMED_MAX: usize = 20;

/// Options of `restore`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Everything comes back under DIR at its absolute path: /etc/hosts becomes DIR/etc/hosts. With SNAPSHOT:/etc \
                  what is in /etc comes directly under DIR.\nFiles that are damaged in the repository are named and left \
                  out; everything else is restored, and the exit code is 1."
)]
pub struct Args {
    /// Snapshot: an id, `latest`, latest-complete or latest@TIME; PLATFORM/SOURCE for the latest of a source, or with :ID or
    /// @TIME another of it; with :/path only what is there
    #[arg(value_name = "SNAPSHOT[:/PATH]")]
    snapshot: OsString,
    /// Directory to restore into: new or empty, but for --delta and --in-place
    #[arg(short, long, value_name = "DIR")]
    target: Option<OsString>,
    #[command(flatten)]
    choose: Choose,
    /// Only this: an absolute path, or a pattern as in .gitignore
    #[arg(short, long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Not this; stronger than --include
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Into a directory that is there: rewrite only what differs
    #[arg(long)]
    delta: bool,
    /// To where it came from (the target is / unless named): rewrite only what differs
    #[arg(long)]
    in_place: bool,
    /// Delete what the snapshot does not have, inside of what it covers
    #[arg(long)]
    delete: bool,
    /// The target once more: needed where something that is there will be changed
    #[arg(long, value_name = "TARGET")]
    confirm: Option<OsString>,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Read everything back from the disk and compare
    #[arg(long)]
    verify: bool,
    /// Who shall own the files: the recorded numbers, the recorded names, or whoever runs this [default: numeric for
    /// root, skip for others]
    #[arg(long, value_enum, value_name = "WHO")]
    owner: Option<Who>,
    /// No devices, setuid bits and privileged attributes
    #[arg(long)]
    no_special: bool,
    #[command(flatten)]
    cluster: super::cluster::ClusterArgs,
    #[command(flatten)]
    dumps: super::logical::DumpArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Who {
    Numeric,
    Names,
    Skip,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::restore::restore`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    if args.delete && !args.delta && !args.in_place {
        return Err(Failure::usage("--delete goes with --delta or --in-place"));
    }
    let (name, within) = super::choose::split(&args.snapshot)?;
    let in_part = within.is_some() || !args.include.is_empty() || !args.exclude.is_empty();
    if args.target.as_ref().is_some_and(|target| target.is_empty()) {
        return Err(Failure::usage("--target is empty"));
    }
    let takes_a_part = args.cluster.takes_a_part() || args.dumps.is_given();
    if args.target.is_none() && !args.in_place && !takes_a_part {
        return Err(Failure::usage("restore to where?").help("name a new directory with --target, or see --in-place"));
    }
    let repository = args.choose.about(global, &[&name]).open(ctx, out)?;
    let snapshots = repository.snapshots()?;
    let meant = meant(&args, &name, ctx, &repository, &snapshots)?;
    out.repository_warnings(&ctx.take_remarks());
    let is_of_dumps = matches!(meant, Meant::Dumps { .. });
    if is_of_dumps && args.cluster.wants_log() {
        return Err(Failure::usage("a dump is of one moment: log cannot be applied to it").help(
            "name an earlier dump by its time: PLATFORM/SOURCE@TIME; or restore a physical backup: --type physical",
        ));
    }
    if is_of_dumps && args.target.is_some() && (args.cluster.is_given() || args.dumps.wants_a_database()) {
        return Err(Failure::usage("--target takes all of a snapshot of dumps, as files")
            .help("leave it out, and name a database with --into or --to, or a directory with --to"));
    }
    let snapshot: &Snapshot = match &meant {
        Meant::Cluster { source, named } if !in_part => {
            let found = Found {
                repository: &repository,
                snapshots: &snapshots,
                source,
                named: *named,
                target: args.target.as_ref().map(PathBuf::from),
                over: over(&args)?,
                dry_run: args.dry_run,
            };
            return super::cluster::run(&args.cluster, &found, global, ctx, out);
        }
        Meant::Dumps { source, snapshot } if !in_part && args.target.is_none() => {
            let found = super::logical::Found {
                repository: &repository,
                snapshot: snapshot.clone(),
                source,
                confirm: args.confirm.as_ref().map(|name| name.to_string_lossy().into_owned()),
                dry_run: args.dry_run,
            };
            return super::logical::run((&args.dumps, &args.cluster), found, global, ctx, out);
        }
        Meant::Dumps { snapshot, .. } => snapshot,
        Meant::Cluster { named: Some(snapshot), .. } | Meant::Files(snapshot) => snapshot,
        Meant::Cluster { named: None, .. } => {
            select::pick_to_restore(ctx, &repository, &snapshots, &name, &args.choose.filter())?
        }
    };
    if args.cluster.is_given() || (args.dumps.is_given() && !is_of_dumps) {
        return Err(Failure::usage("--at, --table and their like are for PostgreSQL, and this is none")
            .help("name the source: backstay restore PLATFORM/SOURCE --at TIME --target DIR"));
    }
    let target = args.target.clone().unwrap_or_else(|| "/".into());
    let mode = match (args.delta || args.in_place, args.delete) {
        (false, _) => RestoreMode::NewTarget,
        (true, false) => RestoreMode::Delta(Extras::Keep),
        (true, true) => RestoreMode::Delta(Extras::Delete),
    };
    let mut plan = RestorePlan::new(PathBuf::from(&target));
    plan.mode = mode;
    plan.include = args.include;
    plan.exclude = args.exclude;
    if let Some(within) = &within {
        plan.within = key_of_path(within.as_bytes())
            .ok_or_else(|| Failure::usage(format!("{} is no path", shown(within.as_bytes()))))?;
        // In place means: to the absolute path it came from.
        if args.target.is_some() {
            plan.rebase = Rebase::StripPrefix;
        }
    }
    if args.no_special {
        plan.special = Special::Never;
    }
    match args.owner {
        Some(Who::Numeric) => plan.owner = Owner::Numeric,
        Some(Who::Names) => plan.owner = Owner::Names,
        Some(Who::Skip) => plan.owner = Owner::Skip,
        None => {}
    }
    if args.verify {
        plan.check = AfterCheck::ReadBack;
    }
    let act = if args.dry_run { Act::Preview } else { Act::Do };
    let request = Request { snapshot, plan, target, confirmed: args.confirm, act };
    let began = ctx.world.clock.monotonic();
    let progress = Progress::start(out, global.show(), "restore");
    let counters = progress.counters();
    let result = ops::restore::restore(
        ctx,
        &repository,
        &request,
        &|found, estimate| {
            counters.set_total(found.files, found.bytes);
            if act == Act::Do {
                told_plan(out, found, estimate);
            }
        },
        &|done| counters.set(done.files, done.bytes),
    );
    progress.finish();
    let report = result?;
    let seconds = (ctx.world.clock.monotonic() - began).as_secs_f64();
    report.warnings.iter().for_each(|warning| out.warning(warning));
    Ok(match &report.done {
        None => told_preview(out, &request, &report),
        Some(done) => told(out, &request, &report.preview, done, seconds),
    })
}

/// What a name stands for.
enum Meant<'s> {
    /// A cluster, at any moment; or as one backup of it was.
    Cluster { source: String, named: Option<&'s Snapshot> },
    /// Dumps of a source's databases.
    Dumps { source: String, snapshot: Box<Snapshot> },
    /// A snapshot.
    Files(&'s Snapshot),
}

fn meant<'s>(
    args: &Args,
    name: &str,
    ctx: &Ctx,
    repository: &Repository,
    snapshots: &'s [Snapshot],
) -> Result<Meant<'s>, Failure> {
    let (source, rest) = select::split_source(name);
    if let Some(source) = source
        && args.dumps.wants_dumps()
    {
        let dumps = logical::snapshots_of(snapshots, source);
        let snapshot = select::pick_to_restore(ctx, repository, &dumps, name, &args.choose.filter())?;
        return Ok(Meant::Dumps { source: source.to_owned(), snapshot: Box::new(snapshot.clone()) });
    }
    if let (Some(source), "latest") = (source, rest)
        && !ops::postgres::snapshots_of(snapshots, source).is_empty()
    {
        return Ok(Meant::Cluster { source: source.to_owned(), named: None });
    }
    let snapshot = select::pick_to_restore(ctx, repository, snapshots, name, &args.choose.filter())?;
    let id = snapshot.id.short();
    match (&snapshot.public.source, snapshot.public.kind.as_str()) {
        (_, ops::postgres::KIND) if args.dumps.wants_dumps() => {
            Err(Failure::usage(format!("snapshot {id} is a physical backup, and no dump"))
                .help("restore the cluster, or tables of it: --table TABLE --to DATABASE"))
        }
        (_, logical::KIND) if args.dumps.wants_files() => {
            Err(Failure::usage(format!("snapshot {id} is one of dumps, and no physical backup"))
                .help("leave out --type physical"))
        }
        (Some(source), ops::postgres::KIND) => Ok(Meant::Cluster { source: source.clone(), named: Some(snapshot) }),
        (Some(source), logical::KIND) => {
            Ok(Meant::Dumps { source: source.clone(), snapshot: Box::new(snapshot.clone()) })
        }
        _ => Ok(Meant::Files(snapshot)),
    }
}

/// Whether a data directory that is there may be changed: only one that was named twice.
fn over(args: &Args) -> Result<Over, Failure> {
    match (args.delta || args.in_place, &args.target, &args.confirm) {
        (false, ..) => Ok(Over::Nothing),
        (true, Some(target), Some(confirm)) if target == confirm => Ok(Over::Delta),
        _ => Err(Failure::new(Exit::Confirmation, "not-confirmed", "a delta restore changes the data directory")
            .help("name it twice: --target DIR --delta --confirm DIR")),
    }
}

/// What is about to be done and how long it will take, before it begins.
fn told_plan(out: &Render, found: &Preview, estimate: &Estimate) {
    let Preview { files, dirs, bytes: size, .. } = found;
    out.event(
        "plan",
        &json!({
            "files": files,
            "dirs": dirs,
            "bytes": size,
            "estimated_seconds": estimate.seconds,
            "estimate_measured": estimate.measured,
        }),
    );
    if !out.is_quiet() && !out.is_json() {
        out.complain(&format!("{files} files, {dirs} directories, {}: {}", bytes(*size), told_estimate(estimate)));
    }
}

fn told_estimate(estimate: &Estimate) -> String {
    let about = duration(estimate.seconds.max(1.0).round());
    match estimate.measured {
        true => format!("about {about}, going by the restores here before"),
        false => format!("about {about}, a cautious guess: nothing was restored here before"),
    }
}

fn told_preview(out: &Render, request: &Request<'_>, report: &Report) -> Exit {
    let preview = &report.preview;
    let room = preview.needs <= preview.has;
    if !room {
        out.warning(format_args!("it needs {} there and {} are free", bytes(preview.needs), bytes(preview.has)));
    }
    out.event(
        "summary",
        &json!({
            "dry_run": true,
            "snapshot_id": request.snapshot.id,
            "target": shown_path(&request.plan.target),
            "files": preview.files,
            "dirs": preview.dirs,
            "others": preview.others,
            "bytes": preview.bytes,
            "overwritten": preview.overwritten,
            "overwritten_first": preview.overwritten_first.iter().map(|path| shown(path)).collect::<Vec<_>>(),
            "bytes_needed": preview.needs,
            "bytes_free": preview.has,
            "estimated_seconds": report.estimate.seconds,
            "estimate_measured": report.estimate.measured,
        }),
    );
    out.line(format_args!(
        "{} would be restored to {}",
        told_snapshot(request.snapshot),
        shown_path(&request.plan.target)
    ));
    let (files, dirs) = (preview.files, preview.dirs);
    out.line(format_args!("  {files} files, {dirs} directories, {}", bytes(preview.bytes)));
    out.line(format_args!("  needs {}, free {}", bytes(preview.needs), bytes(preview.has)));
    out.line(format_args!("  {}", told_estimate(&report.estimate)));
    if matches!(request.plan.mode, RestoreMode::Delta(_)) {
        out.line(format_args!("  {} things that are there would be overwritten", preview.overwritten));
        preview.overwritten_first.iter().take(NAMED_MAX).for_each(|path| out.line(format_args!("    {}", shown(path))));
    }
    if room { Exit::Ok } else { Exit::Incomplete }
}

fn told(out: &Render, request: &Request<'_>, preview: &Preview, done: &RestoreReport, seconds: f64) -> Exit {
    for problem in done.problems.iter().take(NAMED_MAX) {
        out.trouble(&problem.path, &problem.what);
    }
    let unnamed = done.problem_count.saturating_sub(NAMED_MAX as u64);
    if unnamed > 0 {
        out.trouble(b"", &format!("and {unnamed} more"));
    }
    for skipped in done.skipped.iter().take(NAMED_MAX) {
        out.warning(format_args!("left out {}: {}", shown(&skipped.path), skipped.what));
    }
    let unnamed = done.skipped_count.saturating_sub(NAMED_MAX as u64);
    if unnamed > 0 {
        out.warning(format_args!("left out {unnamed} more"));
    }
    for note in &done.notes {
        out.warning(format_args!("{}: {} times, first {}", note.what, note.count, shown(&note.first)));
    }
    let asked_for = request.plan.special == Special::Never;
    let (status, exit) = match (done.problem_count, done.notes.is_empty() && (asked_for || done.skipped_count == 0)) {
        (0, true) => ("complete", Exit::Ok),
        (0, false) => ("warnings", Exit::Incomplete),
        _ => ("incomplete", Exit::Failed),
    };
    out.event(
        "summary",
        &json!({
            "snapshot_id": request.snapshot.id,
            "target": shown_path(&request.plan.target),
            "files": done.files,
            "dirs": done.dirs,
            "links": done.links,
            "others": done.others,
            "bytes": done.bytes,
            "total_files": preview.files,
            "total_bytes": preview.bytes,
            "bytes_written": done.bytes_written,
            "bytes_unchanged": done.unchanged_bytes,
            "deleted": done.deleted,
            "checked": done.checked,
            "skipped": done.skipped_count,
            "errors": done.problem_count,
            "total_duration": seconds,
            "status": status,
        }),
    );
    let verb = if exit == Exit::Failed { "INCOMPLETE: restored" } else { "restored" };
    let rate = if seconds > 0.0 { done.bytes_written as f64 / seconds } else { 0.0 };
    out.say(format_args!(
        "{verb} {} files, {} directories, {} links, {} of {} to {}",
        done.files,
        done.dirs,
        done.links,
        bytes(done.bytes),
        told_snapshot(request.snapshot),
        shown_path(&request.plan.target),
    ));
    let mut details =
        format!("  {} written in {} ({}/s)", bytes(done.bytes_written), duration(seconds), bytes(rate as u64));
    if done.unchanged_bytes > 0 {
        details.push_str(&format!(", {} unchanged", bytes(done.unchanged_bytes)));
    }
    for (amount, what) in [(done.deleted, "deleted"), (done.checked, "files read back"), (done.problem_count, "FAILED")]
    {
        if amount > 0 {
            details.push_str(&format!(", {amount} {what}"));
        }
    }
    out.say(details);
    exit
}

fn told_snapshot(snapshot: &Snapshot) -> String {
    let public = &snapshot.public;
    clean(&format!("snapshot {} of {}, {}", snapshot.id.short(), public.host, crate::render::local_time(&public.time)))
}
