//! `backstay dump`: a file to standard output, a directory as tar.

use super::choose::Choose;
use crate::args::Global;
use crate::render::Render;
use ops::dump::Shape;
use ops::{Ctx, Exit, Failure, select};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;

/// Options of `dump`.
#[derive(clap::Args, Debug)]
#[command(after_help = "backstay dump latest /etc/hosts\nbackstay dump latest /etc | tar -tv")]
pub struct Args {
    /// Snapshot: an id, `latest` or latest@TIME
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,
    /// Absolute path in it
    #[arg(value_name = "PATH")]
    file: OsString,
    #[command(flatten)]
    choose: Choose,
    /// Write a single file as tar too, with its metadata
    #[arg(long)]
    tar: bool,
}

struct Out<'r>(&'r Render);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.raw(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::dump::dump`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    if args.tar && std::io::stdout().is_terminal() {
        return Err(Failure::usage("a tar archive does no good to a terminal").help("redirect it: … > archive.tar"));
    }
    let repository = args.choose.about(global, &[&args.snapshot]).open(ctx, out)?;
    let snapshots = repository.snapshots()?;
    let snapshot = select::pick_to_restore(ctx, &repository, &snapshots, &args.snapshot, &args.choose.filter())?;
    out.repository_warnings(&ctx.take_remarks());
    let shape = if args.tar { Shape::Tar } else { Shape::Auto };
    ops::dump::dump(ctx, &repository, snapshot, (args.file.as_bytes(), shape), &mut Out(out))?;
    Ok(Exit::Ok)
}
