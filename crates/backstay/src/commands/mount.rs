//! `backstay mount`: snapshots as a file system.

use super::choose::Choose;
use crate::args::Global;
use crate::render::{Render, shown_path};
use ops::mount::{Report, Request, mount};
use ops::{Ctx, Exit, Failure};
use serde_json::json;
use sources::mount::Audience;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Options of `mount`.
#[derive(clap::Args, Debug)]
#[command(
    override_usage = "backstay mount [OPTIONS] [SNAPSHOT[:/PATH]] <DIR>",
    after_help = "Without SNAPSHOT there are DIR/snapshots/TIME, DIR/ids/ID, DIR/hosts/HOST, DIR/tags/TAG and \
                  DIR/sources/PLATFORM/SOURCE, each with `latest`; with it, what is in that snapshot. Ctrl-C unmounts.\n\
                  backstay mount /mnt/backups\nbackstay mount latest:/home /mnt/home"
)]
pub struct Args {
    /// The snapshot to show, if only one: an id, `latest`, latest@TIME, PLATFORM/SOURCE; with :/path only what is there.
    /// Then the directory to mount at, which must be empty
    #[arg(value_name = "DIR", num_args = 1..=2, required = true)]
    places: Vec<OsString>,
    #[command(flatten)]
    choose: Choose,
    /// Let other users look too, as far as modes and owners of files let them
    #[arg(long)]
    allow_other: bool,
    /// About how much content to keep in memory
    #[arg(long, value_name = "SIZE", default_value = "128M")]
    cache_size: String,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::mount::mount`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let (snapshot, dir) = match args.places.as_slice() {
        [dir] => (None, dir),
        [snapshot, dir] => (Some(super::choose::split(snapshot)?), dir),
        _ => return Err(Failure::usage("mount takes a snapshot, if only one is wanted, and a directory")),
    };
    let cache_bytes = ops::select::parse_size(&args.cache_size).and_then(|bytes| usize::try_from(bytes).ok());
    let cache_bytes = cache_bytes.ok_or_else(|| {
        Failure::usage(format!("--cache-size {:?} is no size", args.cache_size)).help("write 64M, or 1G")
    })?;
    let named: Vec<&String> = snapshot.iter().map(|(name, _)| name).collect();
    let repository = args.choose.about(global, &named).open(ctx, out)?;
    let request = Request {
        snapshot: snapshot.map(|(name, within)| (name, within.map(OsString::into_vec))),
        filter: args.choose.filter(),
        dir: PathBuf::from(dir),
        audience: if args.allow_other { Audience::All } else { Audience::Owner },
        cache_bytes,
    };
    let trouble = out.clone();
    let ready = |report: &Report| {
        out.repository_warnings(&ctx.take_remarks());
        out.event("mounted", &json!({ "path": shown_path(&request.dir), "snapshots": report.snapshots }));
        out.say(format_args!("{} snapshots at {}; ctrl-C unmounts them", report.snapshots, shown_path(&request.dir)));
        out.flush();
    };
    let on = Box::new(move |path: &[u8], what: &str| trouble.trouble(path, what));
    let report = mount(ctx, &repository, &request, (&ready, on))?;
    out.event("summary", &json!({ "path": shown_path(&request.dir), "snapshots": report.snapshots }));
    Ok(Exit::Ok)
}
