//! `backstay verify`: checks that everything is there and undamaged.

use super::choose::Choose;
use crate::args::Global;
use crate::progress::Progress;
use crate::render::{Render, bytes, clean, duration};
use ops::verify::{Mend, VerifyOutcome, VerifyRequest};
use ops::{Ctx, Exit, Failure};
use repo::{Depth, Share};

/// Options of `verify`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Without options all metadata is read, and every object that it names must be there with its size. --digests reads \
                  every object and compares its bytes with its name: no key can do more without opening contents. --read-data \
                  opens everything. Exit code 4 means that something is wrong."
)]
pub struct Args {
    /// Only what these snapshots need: ids, or `latest`
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    choose: Choose,
    /// Open all data, or a share of it: 5%, or part 3/16
    #[arg(long, visible_alias = "read-data-subset", value_name = "SHARE", num_args = 0..=1, default_missing_value = "100%")]
    read_data: Option<String>,
    /// Compare every object's bytes with its name
    #[arg(long, conflicts_with = "read_data")]
    digests: bool,
    /// As --digests, without opening the repository: needs no key
    #[arg(long, conflicts_with_all = ["read_data", "digests", "snapshots", "repair", "repair_from"])]
    no_key: bool,
    /// First write again what can be made from the repository itself
    #[arg(long)]
    repair: bool,
    /// First write again what another copy of the repository still has
    #[arg(long, value_name = "REPO")]
    repair_from: Option<String>,
    /// Give up for lost the part of the history that is damaged or gone and that no copy has: what is left is the
    /// repository then, and can be pruned again
    #[arg(long, conflicts_with_all = ["no_key", "repair_from"])]
    accept_loss: bool,
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::verify::verify`]. Damage is exit code 4, not an error.
pub fn run(mut args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let share = match args.read_data.as_deref().map(share) {
        None => None,
        Some(Ok(share)) => Some(share),
        // `--read-data SNAPSHOT`: what looks like no share belongs to the snapshots.
        Some(Err(failure)) => match args.read_data.take() {
            Some(text) if !text.contains(['%', '/']) => {
                args.snapshots.insert(0, text);
                Some(Share::All)
            }
            _ => return Err(failure),
        },
    };
    let depth = match share {
        Some(_) => Depth::Decoded,
        None if args.digests => Depth::Digests,
        None => Depth::Listed,
    };
    let progress = |out: &Render| Progress::start(out, global.show(), "verify");
    let outcome = if args.no_key {
        let store = global.locator()?.store(ctx)?;
        let progress = progress(out);
        ops::verify::verify_without_key(ctx, &store, &|step| advance(&progress, step))?
    } else {
        let copy = args.repair_from.as_deref().map(|text| global.place(text)?.store(ctx)).transpose()?;
        let mend = match &copy {
            Some(copy) => Mend::FromCopy(copy),
            None if args.repair => Mend::FromItself,
            None => Mend::Nothing,
        };
        let request = VerifyRequest {
            depth,
            share: share.unwrap_or(Share::All),
            snapshots: args.snapshots,
            filter: args.choose.filter(),
            mend,
        };
        // What is on this machine's disk says nothing about the place.
        let about = args.choose.about(global, &request.snapshots);
        let mut repository = about.open_by(ctx, out, |at, key| ops::open_uncached(ctx, at, key))?;
        if args.accept_loss {
            let lost = ops::verify::accept_loss(ctx, &repository)?;
            out.say(format_args!("given up for lost: {lost} heads or snapshots"));
        }
        let progress = progress(out);
        ops::verify::verify(ctx, &mut repository, &request, &|step| advance(&progress, step))?
    };
    out.event("summary", &outcome);
    told(out, &outcome);
    Ok(if outcome.ok { Exit::Ok } else { Exit::Verification })
}

fn advance(progress: &Progress, step: repo::VerifyStep) {
    let counters = progress.counters();
    counters.name(&format!("{} {}/{}", step.phase, step.done, step.total));
    counters.set(step.done, step.bytes);
}

/// `5%`, `3/16`, `100%`.
fn share(text: &str) -> Result<Share, Failure> {
    let bad = || {
        Failure::usage(format!("--read-data {text:?} is no share"))
            .help("write a percentage (5%) or a part of so many (3/16)")
    };
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
        return match percent {
            100.0 => Ok(Share::All),
            percent if percent > 0.0 && percent < 100.0 => Ok(Share::Percent(percent)),
            _ => Err(bad()),
        };
    }
    let (n, of) = text.split_once('/').ok_or_else(bad)?;
    let (n, of): (u32, u32) = (n.trim().parse().map_err(|_| bad())?, of.trim().parse().map_err(|_| bad())?);
    if n < 1 || n > of {
        return Err(bad());
    }
    Ok(if of == 1 { Share::All } else { Share::Part { n, of } })
}

fn told(out: &Render, outcome: &VerifyOutcome) {
    let report = &outcome.report;
    if let Some(mended) = &outcome.mended {
        for object in &mended.mended {
            out.say(format_args!("mended: {}", clean(object)));
        }
        if mended.packs_indexed > 0 {
            out.say(format_args!("mended: the index of {} packs", mended.packs_indexed));
        }
        for object in &mended.discarded {
            out.say(format_args!("discarded: {} (damaged, and worthless)", clean(object)));
        }
        for object in &mended.unmended {
            out.line(format_args!("not mended: {}", clean(object)));
        }
    }
    for note in &report.notes {
        out.say(format_args!("note: {}", clean(note)));
    }
    for problem in &report.problems {
        out.line(format_args!("problem: {} {}", clean(&problem.object), clean(&problem.what)));
        if !problem.help.is_empty() {
            out.line(format_args!("  help: {}", clean(&problem.help)));
        }
    }
    for damage in &report.damaged_snapshots {
        out.line(format_args!("snapshot {} is damaged:", damage.id.short()));
        for path in &damage.paths {
            out.line(format_args!("  {}", clean(path)));
        }
        if damage.more > 0 {
            out.line(format_args!("  and {} more", damage.more));
        }
    }
    if !outcome.ok {
        let (problems, damaged) = (report.problems.len(), report.damaged_snapshots.len());
        out.line(format_args!("verification FAILED: {problems} problems, {damaged} damaged snapshots"));
        return;
    }
    let mut verdict = format!("verification successful: {} snapshots, {} objects", report.snapshots, report.objects);
    if report.chunks > 0 {
        verdict.push_str(&format!(", {} chunks", report.chunks));
    }
    verdict.push_str(&format!(", {} read in {}", bytes(report.bytes_read), duration(report.seconds)));
    out.say(verdict);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages_or_parts() {
        assert_eq!(share("100%"), Ok(Share::All));
        assert_eq!(share("5%"), Ok(Share::Percent(5.0)));
        assert_eq!(share("3/16"), Ok(Share::Part { n: 3, of: 16 }));
        for bad in ["", "0%", "101%", "0/3", "4/3", "x/y", "5", "latest"] {
            assert_eq!(share(bad).map_err(|f| f.exit), Err(Exit::Usage), "{bad}");
        }
    }
}
