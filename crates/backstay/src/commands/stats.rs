//! `backstay stats`: what the repository holds.

use super::choose::Choose;
use crate::args::Global;
use crate::render::{Render, bytes, clean, local_time};
use ops::stats::{StatsReport, StatsRequest};
use ops::{Ctx, Exit, Failure};

/// Options of `stats`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Also what these snapshots hold: ids, or `latest`
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    choose: Choose,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::stats::stats`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let request = StatsRequest { snapshots: args.snapshots, filter: args.choose.filter() };
    let repository = args.choose.about(global, &request.snapshots).open(ctx, out)?;
    let report = ops::stats::stats(ctx, &repository, &request)?;
    out.document(&report);
    told(out, &report);
    Ok(Exit::Ok)
}

fn told(out: &Render, report: &StatsReport) {
    let totals = &report.totals;
    out.line(format_args!("repository {} at {}", report.repository_id, clean(&report.repository)));
    out.line(format_args!("  made          {}", local_time(&report.created)));
    out.line(format_args!("  snapshots     {}", totals.snapshots));
    out.line(format_args!("  restore size  {} (all snapshots)", bytes(report.restore_size)));
    out.line(format_args!("  stored        {} ({:.1} times less)", bytes(totals.total_bytes), report.ratio));
    out.line(format_args!("    packs       {} in {}", bytes(totals.pack_bytes), totals.packs));
    out.line(format_args!(
        "    index       {} in {} tables, {} chunks",
        bytes(totals.index_bytes),
        totals.index_tables,
        totals.chunks
    ));
    out.line(format_args!(
        "    other       {} ({} heads, {} runs)",
        bytes(totals.other_bytes),
        totals.heads,
        totals.runs
    ));
    for detail in &report.details {
        let snapshot = &detail.snapshot;
        out.line("");
        out.line(format_args!(
            "snapshot {} of {}, {}",
            snapshot.short_id,
            clean(&snapshot.hostname),
            local_time(&snapshot.time)
        ));
        out.line(format_args!("  entries       {} ({} files)", detail.entries, detail.files));
        out.line(format_args!("  restore size  {}", bytes(detail.restore_size)));
        out.line(format_args!(
            "  raw data      {} in {} chunks ({:.1} times less)",
            bytes(detail.raw_data),
            detail.chunks,
            detail.ratio
        ));
    }
}
