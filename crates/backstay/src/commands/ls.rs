//! `backstay ls`: lists what is in a snapshot.

use super::choose::{self, Choose};
use crate::args::Global;
use crate::render::{Render, clean, json_path, local_time, shown};
use ops::listing::Listing;
use ops::ls::{LsRequest, Reach};
use ops::{Ctx, Exit, Failure};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Options of `ls`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Without a path everything is listed; with paths these, and what is directly in them.")]
pub struct Args {
    /// Snapshot: an id, `latest` or latest@TIME; with :/path only what is there
    #[arg(value_name = "SNAPSHOT[:/PATH]")]
    snapshot: OsString,
    /// Absolute paths
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    #[command(flatten)]
    choose: Choose,
    /// With mode, owner, size, time and target
    #[arg(short, long)]
    long: bool,
    /// Everything under the paths
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::ls::ls`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let (snapshot, within) = choose::split(&args.snapshot)?;
    let paths = within.into_iter().chain(args.paths).map(OsString::into_vec).collect();
    let reach = if args.recursive { Reach::All } else { Reach::Children };
    let request = LsRequest { snapshot, filter: args.choose.filter(), paths, reach };
    let repository = args.choose.about(global, &[&request.snapshot]).open(ctx, out)?;
    ops::ls::ls(ctx, &repository, &request, &mut |listing| {
        if out.is_json() {
            out.event("node", &fields(listing));
        } else if args.long {
            out.line(long(listing));
        } else {
            out.line(shown(&listing.path));
        }
        read_on(out)
    })?;
    Ok(Exit::Ok)
}

/// Whether anybody still reads.
pub(super) fn read_on(out: &Render) -> Result<(), Failure> {
    match out.is_broken() {
        true => Err(Failure::new(Exit::Failed, "output", "nobody reads standard output any more")),
        false => Ok(()),
    }
}

/// An entry for programs.
pub(super) fn fields(listing: &Listing) -> Map<String, Value> {
    let mut fields = json_path(&listing.path);
    if let Ok(Value::Object(more)) = serde_json::to_value(listing) {
        fields.extend(more);
    }
    fields
}

/// An entry as `ls -l` shows it.
pub(super) fn long(listing: &Listing) -> String {
    let owner = listing.user.as_deref().map_or_else(|| listing.uid.to_string(), clean);
    let group = listing.group.as_deref().map_or_else(|| listing.gid.to_string(), clean);
    let size = listing.size.map_or_else(|| "-".to_owned(), |size| size.to_string());
    let link = match (&listing.linktarget, &listing.hardlink) {
        (Some(target), _) => format!(" -> {}", clean(target)),
        (None, Some(first)) => format!(" = {}", clean(first)),
        (None, None) => String::new(),
    };
    let time = local_time(&listing.mtime);
    format!("{} {owner:8} {group:8} {size:>12} {time} {}{link}", listing.permissions, shown(&listing.path))
}
