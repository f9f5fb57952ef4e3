//! `backstay forget`: removes snapshots, by name or by a retention policy.

use super::choose::Choose;
use super::prune::{self, Unused};
use crate::args::Global;
use crate::progress::Progress;
use crate::render::{Render, clean, local_time};
use ops::forget::{ForgetGroup, ForgetReport, ForgetRequest, Which};
use ops::group::GroupBy;
use ops::prune::PruneRequest;
use ops::snapshots::SnapshotRow;
use ops::{Ctx, Exit, Failure};
use repo::Act;
use repo::retain::{AllowEmpty, Count, OfPeriod, Policy};
use serde_json::{Value, json};
use std::time::Duration;

const DAY: u64 = 86_400;

/// Options of `forget`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "A snapshot stays when any rule keeps it. Rules apply to each host and paths alone (--group-by). Held snapshots, \
                  those with doubtful clocks, and the newest complete and the newest verified of each group always stay.\n\
                  N is a number or `unlimited`. DURATION is written 30d, 2w, 1y6m, 36h: y is 366 days, m 31 days, and it \
                  counts back from the newest snapshot of the group.\n\
                  Space comes back with `backstay prune`, or --prune."
)]
pub struct Args {
    /// These snapshots, whatever the policy: ids, or `latest`
    #[arg(value_name = "SNAPSHOT", conflicts_with = "rules")]
    snapshots: Vec<String>,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    choose: Choose,
    /// Apply the rules to each of these alone: host, paths, tags; empty for all together
    #[arg(short, long, value_name = "KEYS", default_value = "host,paths")]
    group_by: String,
    /// A group may lose its newest complete and its newest verified snapshot
    #[arg(long)]
    allow_empty: bool,
    /// Say what would be removed, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Prune afterwards
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    unused: Unused,
}

#[derive(clap::Args, Debug)]
#[group(id = "rules", multiple = true)]
struct Rules {
    /// Keep the newest N
    #[arg(short = 'l', long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_last: Option<Count>,
    /// Keep the newest of each of the newest N hours that have one
    #[arg(short = 'H', long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_hourly: Option<Count>,
    /// The same of days
    #[arg(short = 'd', long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_daily: Option<Count>,
    /// The same of weeks
    #[arg(short = 'w', long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_weekly: Option<Count>,
    /// The same of months
    #[arg(short = 'm', long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_monthly: Option<Count>,
    /// The same of years
    #[arg(short = 'y', long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    keep_yearly: Option<Count>,
    /// Keep all that are less than this older than the newest
    #[arg(long, value_name = "DURATION", value_parser = span)]
    keep_within: Option<Duration>,
    /// Keep the newest of each hour less than this older than the newest
    #[arg(long, value_name = "DURATION", value_parser = span)]
    keep_within_hourly: Option<Duration>,
    /// The same of days
    #[arg(long, value_name = "DURATION", value_parser = span)]
    keep_within_daily: Option<Duration>,
    /// The same of weeks
    #[arg(long, value_name = "DURATION", value_parser = span)]
    keep_within_weekly: Option<Duration>,
    /// The same of months
    #[arg(long, value_name = "DURATION", value_parser = span)]
    keep_within_monthly: Option<Duration>,
    /// The same of years
    #[arg(long, value_name = "DURATION", value_parser = span)]
    keep_within_yearly: Option<Duration>,
    /// Of each hour, day, week, month and year keep the first instead of the newest
    #[arg(long)]
    keep_first: bool,
    /// Keep those with this tag; with a comma: with all of these; empty: without any
    #[arg(long, value_name = "TAG[,TAG]")]
    keep_tag: Vec<String>,
}

impl Rules {
    fn policy(self) -> Policy {
        let tags = |list: String| list.split(',').map(|tag| tag.trim().to_owned()).collect();
        Policy {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            within: self.keep_within,
            within_hourly: self.keep_within_hourly,
            within_daily: self.keep_within_daily,
            within_weekly: self.keep_within_weekly,
            within_monthly: self.keep_within_monthly,
            within_yearly: self.keep_within_yearly,
            of_period: if self.keep_first { OfPeriod::First } else { OfPeriod::Newest },
            tags: self.keep_tag.into_iter().map(tags).collect(),
            allow_empty: AllowEmpty::No,
        }
    }
}

fn count(text: &str) -> Result<Count, String> {
    match text {
        "unlimited" | "-1" => Ok(Count::All),
        text => text.parse().map(Count::Last).map_err(|_| "write a number, or unlimited".to_owned()),
    }
}

/// A length of time as restic writes it. Years and months count as the longest there are: never less is kept than asked.
fn span(text: &str) -> Result<Duration, String> {
    let bad = || "write a duration like 30d, 2w, 1y6m or 36h".to_owned();
    let (mut total, mut number) = (0u64, None::<u64>);
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            let tens = number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(u64::from(digit)));
            number = Some(tens.ok_or_else(bad)?);
            continue;
        }
        let unit = match c {
            'y' => 366 * DAY,
            'm' => 31 * DAY,
            'w' => 7 * DAY,
            'd' => DAY,
            'h' => 3600,
            _ => return Err(bad()),
        };
        let part = number.take().and_then(|n| n.checked_mul(unit)).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
    }
    match number {
        None if !text.is_empty() => Ok(Duration::from_secs(total)),
        _ => Err(bad()),
    }
}

/// Runs the verb.
///
/// # Errors
/// See [`ops::forget::forget`].
pub fn run(args: Args, global: &Global, ctx: &Ctx, out: &mut Render) -> Result<Exit, Failure> {
    let policy = args.rules.policy();
    if args.snapshots.is_empty() && policy == Policy::default() {
        return Err(Failure::usage("which snapshots? No rule says what to keep, and none is named")
            .help("for example --keep-daily 7 --keep-weekly 4 --keep-monthly 12; see backstay forget --help"));
    }
    let act = if args.dry_run { Act::Preview } else { Act::Do };
    let prune = match args.prune {
        true => Some(PruneRequest { act, ..args.unused.request()? }),
        false => None,
    };
    let about = args.choose.about(global, &args.snapshots);
    let request = ForgetRequest {
        which: if args.snapshots.is_empty() { Which::Policy(Box::new(policy)) } else { Which::Named(args.snapshots) },
        filter: args.choose.filter(),
        group_by: GroupBy::parse(&args.group_by)?,
        act,
        allow_empty: if args.allow_empty { AllowEmpty::Yes } else { AllowEmpty::No },
        prune,
    };
    let repository = about.open(ctx, out)?;
    // Programs get one document, so there are no lines of progress for them.
    let progress = Some(()).filter(|()| !out.is_json()).map(|()| Progress::start(out, global.show(), "prune"));
    let report = ops::forget::forget(ctx, &repository, &request, &|step| {
        if let Some(progress) = &progress {
            prune::advance(progress.counters(), step);
        }
    });
    drop(progress);
    let report = report?;
    out.document(&document(&report)?);
    told(out, &report, act);
    Ok(Exit::Ok)
}

/// One element per group and, after a prune, one for that.
fn document(report: &ForgetReport) -> Result<Value, Failure> {
    let bad = |e: serde_json::Error| Failure::new(Exit::Failed, "output", format!("cannot write JSON: {e}"));
    let mut list: Vec<Value> = report.groups.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(bad)?;
    if let Some(prune) = &report.prune {
        list.push(json!({ "prune": prune }));
    }
    Ok(Value::Array(list))
}

fn told(out: &Render, report: &ForgetReport, act: Act) {
    if !out.is_quiet() {
        report.groups.iter().for_each(|group| told_group(out, group, act));
    }
    let removed = report.removed();
    let verb = if act == Act::Preview { "would remove" } else { "removed" };
    out.say(format_args!("{verb} {removed} {}, kept {}", snapshots(removed), report.kept()));
    match &report.prune {
        Some(prune) => {
            prune::told(out, prune);
        }
        None if removed > 0 && act == Act::Do => out.say("their space comes back with: backstay prune"),
        None => {}
    }
}

fn told_group(out: &Render, group: &ForgetGroup, act: Act) {
    out.line(format_args!("{}:", clean(&group.group.to_string())));
    if !group.keep.is_empty() {
        out.line(format_args!("keep {} {}:", group.keep.len(), snapshots(group.keep.len())));
        let rows: Vec<_> = group.keep.iter().map(|kept| row(&kept.snapshot, &kept.reasons.join("; "))).collect();
        out.table(&HEAD, &[], &rows);
    }
    if !group.remove.is_empty() {
        let verb = if act == Act::Preview { "would remove" } else { "remove" };
        out.line(format_args!("{verb} {} {}:", group.remove.len(), snapshots(group.remove.len())));
        let rows: Vec<_> = group.remove.iter().map(|removed| row(&removed.snapshot, &removed.reason)).collect();
        out.table(&HEAD, &[], &rows);
    }
    out.line("");
}

const HEAD: [&str; 6] = ["ID", "TIME", "HOST", "TAGS", "PATHS", "WHY"];

fn row(snapshot: &SnapshotRow, why: &str) -> Vec<String> {
    vec![
        snapshot.short_id.clone(),
        local_time(&snapshot.time),
        clean(&snapshot.hostname),
        clean(&snapshot.tags.join(",")),
        clean(&snapshot.paths.join(", ")),
        clean(why),
    ]
}

fn snapshots(count: usize) -> &'static str {
    if count == 1 { "snapshot" } else { "snapshots" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_what_restic_takes_and_never_shorter() {
        let days = |text: &str| span(text).map(|span| span.as_secs() / DAY);
        assert_eq!((days("30d"), days("1y5m7d2h"), days("2w"), days("36h")), (Ok(30), Ok(528), Ok(14), Ok(1)));
        for bad in ["", "d", "3", "3x", "-3d", "99999999999999999999d"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
