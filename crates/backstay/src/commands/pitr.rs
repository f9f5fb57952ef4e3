//! `backstay pitr`: the moments that a PostgreSQL cluster can be brought back to.

use crate::args::Global;
use crate::render::{Render, clean, local_time};
use ops::postgres::pitr::{Window, windows};
use ops::{Ctx, Exit, Failure};
use serde_json::json;

/// Options of `pitr`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The times that can be restored to: `restore PLATFORM/SOURCE --at TIME`
    Windows {
        /// PLATFORM/SOURCE
        source: String,
    },
}

/// Runs the verb.
///
/// # Errors
/// See [`windows`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let What::Windows { source } = args.what;
    let repository = global.about(Some(&source)).open(ctx, out)?;
    let windows = windows(ctx, &repository, &source)?;
    if out.is_json() {
        out.document(&json!({ "source": source, "windows": windows }));
        return Ok(Exit::Ok);
    }
    let rows: Vec<Vec<String>> = windows
        .iter()
        .map(|Window { snapshot_id, timeline, from, to, to_lsn, gap }| {
            let end = to.as_deref().map_or_else(|| to_lsn.to_string(), local_time);
            let ends = gap.as_ref().map_or_else(|| "end of the log".to_owned(), |gap| format!("{gap} is MISSING"));
            vec![snapshot_id.short().to_string(), timeline.to_string(), local_time(from), end, ends]
        })
        .collect();
    if rows.is_empty() {
        out.line(format_args!("{}: nothing can be restored: there is no backup with its log", clean(&source)));
        return Ok(Exit::Ok);
    }
    out.table(&["backup", "timeline", "from", "to", "then"], &[1], &rows);
    Ok(Exit::Ok)
}
