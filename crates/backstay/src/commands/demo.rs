//! `backstay demo`: backup, loss and recovery, in a temporary directory.

use crate::args::Global;
use crate::render::{Render, clean, duration};
use ops::demo::After;
use ops::{Ctx, Exit, Failure};

/// Options of `demo`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Everything happens in a private directory below TMPDIR, which is removed afterwards, and takes some 300 MiB.\n\
                  Everything that is claimed is checked; the exit code is 4 when anything is not as promised."
)]
pub struct Args {
    /// Keep the directory, to look around in it
    #[arg(long)]
    keep: bool,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::demo::demo`].
pub fn run(args: Args, _global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    out.say("This is the real program on real files, in a temporary directory.");
    out.say("");
    out.flush();
    let after = if args.keep { After::Keep } else { After::Remove };
    let report = ops::demo::demo(ctx, after, &|step| {
        out.event("item", step);
        out.say(format_args!("{:>14}  {}  [{}]", step.name, clean(&step.told), duration(step.seconds)));
        out.flush();
    })?;
    out.event("summary", &report);
    out.say("");
    out.say(format_args!("Everything was as promised, in {}.", duration(report.seconds)));
    if let Some(dir) = &report.kept {
        let dir = clean(&dir.display().to_string());
        out.say(format_args!("The directory is still there: {dir}"));
        out.say(format_args!("    backstay -r {dir}/repository -p {dir}/owner.key snapshots"));
    }
    out.say("");
    out.say("The same with your own files:");
    out.say("    export BACKSTAY_REPOSITORY=/srv/backup          # better on another disk than the files");
    out.say("    export BACKSTAY_KEY_FILE=/root/backstay.key     # a file with a long passphrase, mode 0600");
    out.say("    backstay init                                   # then print the recovery kit: backstay key kit");
    out.say("    backstay backup /home /etc");
    out.say("    backstay snapshots");
    out.say("    backstay restore latest --target /tmp/look --verify");
    out.say("    backstay verify --read-data");
    out.say("    backstay forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --prune");
    Ok(Exit::Ok)
}
