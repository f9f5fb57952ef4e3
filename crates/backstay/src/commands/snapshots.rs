//! `backstay snapshots`: lists snapshots.

use super::choose::Choose;
use crate::args::Global;
use crate::render::{Render, bytes, clean, local_time};
use ops::group::GroupBy;
use ops::snapshots::{RemovedRow, SnapshotGroup, SnapshotRow, SnapshotsRequest};
use ops::{Ctx, Exit, Failure};
use repo::Status;

/// Options of `snapshots`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Marks: partial (something could not be read), held (never expires), verified (was read back whole)."
)]
pub struct Args {
    /// Only snapshots of this source, or of this platform
    #[arg(value_name = "PLATFORM[/SOURCE]", conflicts_with = "source")]
    of: Option<String>,
    #[command(flatten)]
    choose: Choose,
    /// Only the newest N of each host and paths
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
    /// List the snapshots that were removed instead: which, when, by whom and why
    #[arg(long, conflicts_with_all = ["latest", "group_by"])]
    removed: bool,
    /// Show together what has these in common: host, paths, tags
    #[arg(short, long, value_name = "KEYS")]
    group_by: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::snapshots::snapshots`].
pub fn run(mut args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    args.choose.source = args.choose.source.or(args.of);
    let group_by = args.group_by.as_deref().map(GroupBy::parse).transpose()?;
    let request = SnapshotsRequest { filter: args.choose.filter(), latest: args.latest, group_by };
    let repository = args.choose.about(global, &[""; 0]).open(ctx, out)?;
    if args.removed {
        told_removed(out, &ops::snapshots::removed(&repository, &request.filter)?);
        return Ok(Exit::Ok);
    }
    let groups = ops::snapshots::snapshots(&repository, &request)?;
    if request.group_by.is_some() {
        out.document(&groups);
    } else {
        let rows: Vec<&SnapshotRow> = groups.iter().flat_map(|group| &group.snapshots).collect();
        out.document(&rows);
    }
    for group in &groups {
        if request.group_by.is_some() {
            out.line(format_args!("{}:", clean(&group.group.to_string())));
        }
        told(out, group);
        if request.group_by.is_some() {
            out.line("");
        }
    }
    let count: usize = groups.iter().map(|group| group.snapshots.len()).sum();
    out.say(format_args!("{count} {}", if count == 1 { "snapshot" } else { "snapshots" }));
    Ok(Exit::Ok)
}

fn told_removed(out: &Render, removed: &[RemovedRow]) {
    out.document(&removed);
    let rows: Vec<Vec<String>> = removed
        .iter()
        .map(|row| {
            vec![
                row.short_id.clone(),
                local_time(&row.time),
                clean(&row.hostname),
                clean(&row.paths.join(", ")),
                local_time(&row.removed_at),
                clean(&row.removed_by),
                clean(&row.removed_because),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.table(&["ID", "TIME", "HOST", "PATHS", "REMOVED", "BY", "WHY"], &[], &rows);
    }
    let count = removed.len();
    out.say(format_args!("{count} removed {}", if count == 1 { "snapshot" } else { "snapshots" }));
}

fn told(out: &Render, group: &SnapshotGroup) {
    if group.snapshots.is_empty() {
        return;
    }
    let mut rows: Vec<Vec<String>> = group.snapshots.iter().map(row).collect();
    let mut head = vec!["ID", "TIME", "HOST", "TAGS", "MARKS", "PATHS", "SIZE"];
    if group.snapshots.iter().any(|snapshot| snapshot.reason.is_some()) {
        head.push("REASON");
        let reasons = group.snapshots.iter().map(|snapshot| clean(snapshot.reason.as_deref().unwrap_or_default()));
        rows.iter_mut().zip(reasons).for_each(|(row, reason)| row.push(reason));
    }
    out.table(&head, &[6], &rows);
}

fn row(snapshot: &SnapshotRow) -> Vec<String> {
    vec![
        snapshot.short_id.clone(),
        local_time(&snapshot.time),
        clean(&snapshot.hostname),
        clean(&snapshot.tags.join(",")),
        marks(snapshot),
        of(snapshot),
        bytes(snapshot.summary.bytes),
    ]
}

/// The source where it has a name, and the paths.
fn of(snapshot: &SnapshotRow) -> String {
    let source = snapshot.source.as_ref().map(|source| format!("{source}: ")).unwrap_or_default();
    clean(&format!("{source}{}", snapshot.paths.join(", ")))
}

/// What is to be known of a snapshot before one relies on it.
fn marks(snapshot: &SnapshotRow) -> String {
    let mut marks = Vec::new();
    if snapshot.status == Status::Partial {
        marks.push("partial");
    }
    if snapshot.hold.is_some() {
        marks.push("held");
    }
    if snapshot.verified.is_some() {
        marks.push("verified");
    }
    marks.join(",")
}
