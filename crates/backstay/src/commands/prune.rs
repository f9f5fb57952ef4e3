//! `backstay prune`: gives back the space of what no snapshot needs.

use crate::args::Global;
use crate::progress::{Counters, Progress};
use crate::render::{Render, bytes, clean, local_time};
use ops::prune::{PruneOutcome, PruneRequest};
use ops::{Ctx, Exit, Failure};
use repo::{Act, Grace, MaxUnused, PruneStep};

/// Options of `prune`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "What nothing needs is first condemned, and deleted when every backup that was running then has ended: no prune \
                  stands in the way of a backup or a restore. Run it again later for what is left."
)]
pub struct Args {
    /// Say what would be freed, and free nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    unused: Unused,
}

/// How much may stay unused, and how long.
#[derive(clap::Args, Debug)]
pub struct Unused {
    /// How much unused data may stay inside objects that are needed: a percentage, a size, or unlimited
    #[arg(long, value_name = "LIMIT", default_value = "5%")]
    max_unused: String,
    /// How long what is condemned waits at least: 24h, 90m, 7d [default: not at all on a local disk]
    #[arg(long, value_name = "DURATION")]
    grace: Option<String>,
}

impl Unused {
    /// The request that these options make.
    ///
    /// # Errors
    /// `usage` for what is no limit or duration.
    pub fn request(&self) -> Result<PruneRequest, Failure> {
        let grace = match &self.grace {
            None => Grace::Default,
            Some(text) => Grace::For(ops::select::parse_span(text).ok_or_else(|| {
                Failure::usage(format!("--grace {text:?} is no duration")).help("write 24h, 90m or 7d")
            })?),
        };
        Ok(PruneRequest { act: Act::Do, max_unused: max_unused(&self.max_unused)?, grace })
    }
}

fn max_unused(text: &str) -> Result<MaxUnused, Failure> {
    let bad = || {
        Failure::usage(format!("--max-unused {text:?} is no limit"))
            .help("write a percentage (5%), a size (5GiB) or unlimited")
    };
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
        return (0.0..=100.0).contains(&percent).then_some(MaxUnused::Percent(percent)).ok_or_else(bad);
    }
    ops::select::parse_size(text).map(MaxUnused::Bytes).ok_or_else(bad)
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::prune::prune`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let act = if args.dry_run { Act::Preview } else { Act::Do };
    let request = PruneRequest { act, ..args.unused.request()? };
    let repository = global.open(ctx, out)?;
    let progress = Progress::start(out, global.show(), "prune");
    let outcome = ops::prune::prune(ctx, &repository, &request, &|step| advance(progress.counters(), step));
    progress.finish();
    let outcome = outcome?;
    out.event("summary", &outcome);
    told(out, &outcome);
    Ok(Exit::Ok)
}

/// Shows how far a prune is.
pub fn advance(counters: &Counters, step: PruneStep) {
    counters.name(&format!("{} {}/{}", step.phase, step.done, step.total));
}

/// What a prune did, for people.
pub fn told(out: &Render, outcome: &PruneOutcome) {
    let report = &outcome.report;
    let freed = bytes(report.bytes_freed);
    if outcome.dry_run {
        out.say(format_args!("would free {freed}"));
    } else {
        out.say(format_args!("freed {freed}: {} of {} packs deleted", report.packs_swept, report.packs_total));
    }
    if report.bytes_condemned > 0 {
        out.say(format_args!("condemned, to be deleted by a later prune: {}", bytes(report.bytes_condemned)));
    }
    for why in &report.waiting_for {
        out.say(format_args!("  waiting: {}", clean(why)));
    }
    if report.segments_expired > 0 {
        let verb = if outcome.dry_run { "would be deleted" } else { "deleted" };
        out.say(format_args!("segments of log that no snapshot needs, {verb}: {}", report.segments_expired));
    }
    if report.locks_extended > 0 {
        out.say(format_args!("locks extended: {}", report.locks_extended));
    }
    if let Some(until) = &report.locked_until {
        out.say(format_args!(
            "what is locked of it takes space until its lock has run out, {} at the latest",
            local_time(until)
        ));
    }
    out.say(format_args!("unused inside of kept packs: {}", bytes(report.bytes_unused)));
    if out.verbose() > 0 {
        out.say(format_args!(
            "packs: {} before, {} needed, {} repacked",
            report.packs_total, report.packs_kept, report.packs_repacked
        ));
        out.say(format_args!("bytes of packs before: {}", bytes(report.bytes_before)));
        out.say(format_args!("packs condemned now: {}", report.packs_condemned));
        out.say(format_args!("index tables merged: {}", report.tables_merged));
        out.say(format_args!("data keys erased: {}", report.runs_erased));
        out.say(format_args!("left behind by dead writers: {} removed", bytes(report.tidied_bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_percentages_sizes_or_none() {
        assert_eq!(max_unused("5%"), Ok(MaxUnused::Percent(5.0)));
        assert_eq!(max_unused("5GiB"), Ok(MaxUnused::Bytes(5 << 30)));
        assert_eq!(max_unused("unlimited"), Ok(MaxUnused::Unlimited));
        for bad in ["", "%", "-1%", "101%", "NaN%", "much"] {
            assert_eq!(max_unused(bad).map_err(|f| f.exit), Err(Exit::Usage), "{bad}");
        }
    }
}
