//! `backstay copy`: copies a repository to another place.

use crate::args::Global;
use crate::progress::Progress;
use crate::render::{Render, bytes, clean};
use ops::copy::{CopyRequest, ReadBack};
use ops::{Ctx, Exit, Failure};
use repo::Act;

/// Options of `copy`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Sealed objects are copied as they are, so this needs no key, and the copy opens with the same keys. What the copy \
                  has already is not copied again; nothing is ever deleted there. Prune the copy on its own."
)]
pub struct Args {
    /// Where the copy is, or is to be
    #[arg(long, value_name = "REPO")]
    to: String,
    /// Say what would be copied, and copy nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Read the whole copy back and compare digests
    #[arg(long)]
    verify: bool,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::copy::copy`]. A copy that is found damaged is exit code 4.
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let request = CopyRequest {
        from: global.locator()?,
        to: global.place(&args.to)?,
        act: if args.dry_run { Act::Preview } else { Act::Do },
        read_back: if args.verify { ReadBack::All } else { ReadBack::Nothing },
    };
    let progress = Progress::start(out, global.show(), "copy");
    let counters = progress.counters();
    let outcome = ops::copy::copy(
        ctx,
        &request,
        &|step| {
            counters.set_total(step.total, step.bytes_total);
            counters.set(step.done, step.bytes);
        },
        &|step| counters.name(&format!("reading back: {} {}/{}", step.phase, step.done, step.total)),
    );
    progress.finish();
    let outcome = outcome?;
    out.event("summary", &outcome);
    let report = &outcome.report;
    let verb = if outcome.dry_run { "would copy" } else { "copied" };
    let to = clean(&outcome.to);
    if report.already_equal {
        out.say(format_args!("{to} has everything already: {} objects", report.objects_present));
    } else {
        let (copied, size) = (report.objects_copied, bytes(report.bytes_copied));
        out.say(format_args!("{verb} {copied} objects, {size}, to {to}; {} were there", report.objects_present));
    }
    let Some(verified) = &outcome.verified else { return Ok(Exit::Ok) };
    for problem in &verified.report.problems {
        out.line(format_args!("problem: {} {}", clean(&problem.object), clean(&problem.what)));
        out.line(format_args!("  help: {}", clean(&problem.help)));
    }
    if verified.ok {
        out.say(format_args!("verification successful: {} objects read back", verified.report.objects));
        return Ok(Exit::Ok);
    }
    out.line(format_args!("verification FAILED: {} problems at {to}", verified.report.problems.len()));
    Ok(Exit::Verification)
}
