//! `backstay diff`: shows what differs between two snapshots.

use super::choose::Choose;
use super::ls::read_on;
use crate::args::Global;
use crate::render::{Render, bytes, json_path, shown};
use ops::diff::{Change, DiffRequest, Metadata, Tally};
use ops::{Ctx, Exit, Failure};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Options of `diff`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "+ only in TO, - only in FROM, M other content, T other type, U other metadata (with --metadata)."
)]
pub struct Args {
    /// The older snapshot
    #[arg(value_name = "FROM")]
    from: String,
    /// The newer snapshot
    #[arg(value_name = "TO")]
    to: String,
    /// Only this absolute path and what is under it
    #[arg(value_name = "PATH")]
    within: Option<OsString>,
    #[command(flatten)]
    choose: Choose,
    /// Also show what differs in nothing but mode, owner, times or attributes
    #[arg(long)]
    metadata: bool,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::diff::diff`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let request = DiffRequest {
        from: args.from,
        to: args.to,
        filter: args.choose.filter(),
        within: args.within.map(OsString::into_vec),
        metadata: if args.metadata { Metadata::Shown } else { Metadata::Counted },
    };
    let repository = args.choose.about(global, &[&request.from, &request.to]).open(ctx, out)?;
    let report = ops::diff::diff(ctx, &repository, &request, &mut |change| {
        out.event("change", &fields(change));
        out.line(format_args!("{:<5}{}", change.modifier, shown(&change.path)));
        read_on(out)
    })?;
    out.event("summary", &report);
    out.say("");
    out.say(format_args!("snapshot {} to {}", report.from.short_id, report.to.short_id));
    out.say(format_args!("added:     {}", told(&report.added)));
    out.say(format_args!("removed:   {}", told(&report.removed)));
    let (before, after) = (bytes(report.changed_bytes_before), bytes(report.changed_bytes_after));
    out.say(format_args!("changed:   {} ({before} before, {after} after)", report.changed));
    out.say(format_args!("metadata:  {} differ in nothing else", report.metadata_only));
    if report.retyped > 0 {
        out.say(format_args!("retyped:   {}", report.retyped));
    }
    Ok(Exit::Ok)
}

fn fields(change: &Change) -> Map<String, Value> {
    let mut fields = json_path(&change.path);
    if let Ok(Value::Object(more)) = serde_json::to_value(change) {
        fields.extend(more);
    }
    fields
}

fn told(tally: &Tally) -> String {
    format!("{} files, {} directories, {} others, {}", tally.files, tally.dirs, tally.others, bytes(tally.bytes))
}
