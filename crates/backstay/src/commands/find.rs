//! `backstay find`: finds files in snapshots.

use super::choose::Choose;
use super::ls::{fields, long, read_on};
use crate::args::Global;
use crate::render::{Render, clean, local_time, shown};
use ops::find::{Case, FindRequest};
use ops::listing::Listing;
use ops::snapshots::SnapshotRow;
use ops::{Ctx, Exit, Failure};

/// Options of `find`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "A pattern without a slash is compared with names; one that begins with a slash with absolute paths; any other \
                  with ends of paths. `*` stands for anything but a slash, `**` for slashes too. Quote patterns."
)]
pub struct Args {
    /// Names or paths, with wildcards
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,
    #[command(flatten)]
    choose: Choose,
    /// Only in this snapshot
    #[arg(short, long, value_name = "SNAPSHOT")]
    snapshot: Vec<String>,
    /// Capitals do not matter
    #[arg(short, long)]
    ignore_case: bool,
    /// Only things of this type
    #[arg(short = 't', long = "type", value_name = "TYPE", value_parser = ["file", "dir", "symlink", "fifo", "chardev", "dev"])]
    kind: Vec<String>,
    /// With mode, owner, size, time and target
    #[arg(short, long)]
    long: bool,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::find::find`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let request = FindRequest {
        patterns: args.patterns,
        case: if args.ignore_case { Case::Ignored } else { Case::Heeded },
        kinds: args.kind,
        snapshots: args.snapshot,
        filter: args.choose.filter(),
    };
    let repository = args.choose.about(global, &request.snapshots).open(ctx, out)?;
    let mut shown = Shown { out, long: args.long, at: None, hits: 0 };
    let report = ops::find::find(ctx, &repository, &request, &mut |snapshot, listing| shown.put(snapshot, listing))?;
    shown.end()?;
    for unreadable in &report.unreadable {
        out.trouble(b"", &format!("snapshot {} cannot be searched: {}", unreadable.snapshot.short_id, unreadable.why));
    }
    if report.matches == 0 {
        out.say(format_args!("nothing found in {} snapshots", report.snapshots));
    }
    Ok(if report.unreadable.is_empty() { Exit::Ok } else { Exit::Incomplete })
}

/// Writes matches as they come: for programs, one array with an element per snapshot.
struct Shown<'o> {
    out: &'o Render,
    long: bool,
    at: Option<SnapshotRow>,
    hits: u64,
}

impl Shown<'_> {
    fn put(&mut self, snapshot: &SnapshotRow, listing: &Listing) -> Result<(), Failure> {
        if self.at.as_ref().is_none_or(|at| at.id != snapshot.id) {
            let begun = self.at.is_some();
            self.close()?;
            if self.out.is_json() {
                self.raw(if begun { ",{\"matches\":[" } else { "[{\"matches\":[" })?;
            } else {
                let host = clean(&snapshot.hostname);
                self.out.line(format_args!(
                    "{}snapshot {} of {host}, {}:",
                    if begun { "\n" } else { "" },
                    snapshot.short_id,
                    local_time(&snapshot.time)
                ));
            }
            self.at = Some(snapshot.clone());
        }
        if self.out.is_json() {
            let comma = if self.hits > 0 { "," } else { "" };
            self.raw(&format!("{comma}{}", serde_json::Value::Object(fields(listing))))?;
        } else if self.long {
            self.out.line(long(listing));
        } else {
            self.out.line(shown(&listing.path));
        }
        self.hits += 1;
        read_on(self.out)
    }

    fn close(&mut self) -> Result<(), Failure> {
        let hits = std::mem::take(&mut self.hits);
        match &self.at {
            Some(at) if self.out.is_json() => {
                self.raw(&format!("],\"hits\":{hits},\"snapshot\":\"{}\",\"short_id\":\"{}\"}}", at.id, at.short_id))
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.close()?;
        match (self.out.is_json(), self.at.is_some()) {
            (true, true) => self.raw("]\n"),
            (true, false) => self.raw("[]\n"),
            (false, _) => Ok(()),
        }
    }

    fn raw(&self, text: &str) -> Result<(), Failure> {
        super::print(self.out, text.as_bytes())
    }
}
