//! Choosing what to restore for a moment: the backup, the timeline, and whether the log reaches it.
//!
//! What it is for: [`plan`] says how a goal is reached, or why it cannot be and what the last moment is that can.
//! What it may not know: targets. Nothing here writes.

use super::archive::{Archive, Coverage, Leg, Reach};
use super::snapshots_of;
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::select::parse_time;
use repo::{Reading, Repository, Snapshot, Status};
use serde::Serialize;
use sources::postgres::Lsn;
use sources::postgres::base::Facts;
use sources::postgres::cluster::Goal;
use sources::postgres::wal::Name;
use store::Timestamp;

/// What a person wants to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The end of the log.
    Latest,
    /// The end of a backup.
    Immediate,
    /// A time.
    Time(Timestamp),
    /// A position.
    Lsn(Lsn),
    /// A transaction.
    Xid(u64),
    /// A point that was named.
    Name(String),
}

impl Moment {
    /// What `--at` says: `latest`, `immediate`, `lsn:0/3000060`, `xid:1234`, `name:before-upgrade`, or a time.
    ///
    /// # Errors
    /// `usage` for what is none of these.
    pub fn parse(text: &str, now: Timestamp) -> Result<Moment, Failure> {
        let bad = |why: String| Failure::usage(format!("--at {text:?}: {why}"));
        Ok(match text.split_once(':') {
            Some(("lsn", lsn)) => Moment::Lsn(lsn.parse().map_err(|e| bad(format!("{e}")))?),
            Some(("xid", xid)) => Moment::Xid(xid.parse().map_err(|_| bad("that is no number".into()))?),
            Some(("name", name)) if !name.is_empty() => Moment::Name(name.to_owned()),
            _ if text == "latest" => Moment::Latest,
            _ if text == "immediate" => Moment::Immediate,
            _ => Moment::Time(parse_time(text, now)?),
        })
    }

    /// As the server wants to be told.
    pub fn goal(&self) -> Goal {
        match self {
            Moment::Latest => Goal::Latest,
            Moment::Immediate => Goal::Immediate,
            // Names of time zones, and Z is one, are not known yet when a server reads this.
            Moment::Time(at) => Goal::Time(repo::time::text(*at).replace('T', " ").replace('Z', "+00")),
            Moment::Lsn(lsn) => Goal::Lsn(*lsn),
            Moment::Xid(xid) => Goal::Xid(*xid),
            Moment::Name(name) => Goal::Name(name.clone()),
        }
    }
}

/// Which timeline to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The newest that comes from the backup's.
    Newest,
    /// The backup's own.
    OfTheBackup,
    /// This one.
    Number(u32),
}

/// How a moment is reached.
#[derive(Clone, Debug)]
pub struct Route {
    /// The backup.
    pub snapshot: Snapshot,
    /// What it says about itself.
    pub facts: Facts,
    /// The timeline at its end.
    pub timeline: u32,
    /// How many segments are replayed at most.
    pub segments: u64,
    /// Whether the log has a gap behind the moment.
    pub gap: bool,
}

/// Times that can be restored to: from the end of a backup to the end of the log behind it.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    /// The backup it begins with.
    pub snapshot_id: repo::SnapshotId,
    /// The timeline that is followed.
    pub timeline: u32,
    /// The first moment.
    pub from: String,
    /// The end of the last transaction in the log; none where no recent segment has one.
    pub to: Option<String>,
    /// Where the log ends.
    pub to_lsn: Lsn,
    /// The first segment that is missing there, where later ones exist.
    pub gap: Option<String>,
}

/// What the snapshot says about its cluster.
///
/// # Errors
/// `no-facts` for one without; whatever the repository returns.
pub fn facts(reading: &Reading<'_>, snapshot: &Snapshot) -> Result<Facts, Failure> {
    let reader = reading.open(snapshot)?;
    let facts = reader.facts().and_then(|facts| serde_json::from_value(facts.clone()).ok());
    facts.filter(|facts: &Facts| facts.segment_bytes.is_power_of_two()).ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            "no-facts",
            format!("snapshot {} is no usable backup of a cluster", snapshot.id.short()),
        )
    })
}

/// The way to a moment, when there is one. `base` names the backup to begin with; otherwise the newest before the moment.
///
/// # Errors
/// `no-backup` when there is none before the moment; `needs-base` for moments that no backup can be chosen for; `wal-gap`,
/// `wal-missing` and `beyond-log` when the log does not reach it, with the last moment that it reaches; `timeline`.
pub fn plan(
    (repository, reading): (&Repository, &Reading<'_>),
    source: &str,
    (moment, line): (&Moment, Line),
    base: Option<&Snapshot>,
) -> Result<Route, Failure> {
    let snapshots = repository.snapshots()?;
    let archive = Archive::open(repository, source, &snapshots)?;
    let coverage = archive.coverage()?;
    let leads = |facts: &Facts| match line {
        Line::Number(timeline) => coverage.way(facts, timeline).is_some(),
        Line::Newest | Line::OfTheBackup => true,
    };
    let (snapshot, facts) = match base {
        Some(base) => (base.clone(), facts(reading, base)?),
        None => choose(reading, &snapshots_of(&snapshots, source), source, moment, &leads)?,
    };
    let timeline = match line {
        Line::Newest => coverage.newest(&facts),
        Line::OfTheBackup => facts.timeline,
        Line::Number(timeline) => timeline,
    };
    let way = coverage.way(&facts, timeline).ok_or_else(|| {
        let what = format!("timeline {timeline} does not come from timeline {} of the backup", facts.timeline);
        Failure::new(Exit::Failed, "timeline", what).help("backstay wal status names the timelines there are")
    })?;
    let reach = coverage.reach(&way);
    check(&archive, &facts, (moment, &way), (reach, &coverage))?;
    let last = reach.last.unwrap_or(facts.last_segment());
    let segments = last.saturating_sub(facts.first_segment()) + 1;
    Ok(Route { snapshot, facts, timeline, segments, gap: reach.gap.is_some() })
}

/// The newest complete backup that ended before the moment, of those that lead to the timeline that is wanted.
fn choose(
    reading: &Reading<'_>,
    snapshots: &[&Snapshot],
    source: &str,
    moment: &Moment,
    leads: &dyn Fn(&Facts) -> bool,
) -> Result<(Snapshot, Facts), Failure> {
    if let Moment::Xid(_) | Moment::Name(_) = moment {
        let what = "for a transaction or a name nobody can tell which backup came before it";
        return Err(Failure::new(Exit::Usage, "needs-base", what)
            .help("name the backup to begin with: --base SNAPSHOT (backstay snapshots)"));
    }
    let (mut oldest, mut elsewhere) = (None, false);
    for snapshot in snapshots.iter().rev().filter(|s| s.public.status == Status::Complete) {
        let facts = facts(reading, snapshot)?;
        if !leads(&facts) {
            elsewhere = true;
            continue;
        }
        let suits = match moment {
            Moment::Latest | Moment::Immediate | Moment::Xid(_) | Moment::Name(_) => true,
            Moment::Time(at) => repo::time::parse(&facts.stopped).is_some_and(|stopped| stopped <= *at),
            Moment::Lsn(lsn) => facts.stop <= *lsn,
        };
        if suits {
            return Ok(((*snapshot).clone(), facts));
        }
        oldest = Some(facts);
    }
    let what = match oldest {
        None if elsewhere => format!("no complete physical backup of {source} leads to the timeline that is wanted"),
        None => format!("there is no complete physical backup of {source}"),
        Some(facts) => format!(
            "the oldest physical backup of {source} ended at {} ({}), which is after the moment that is wanted",
            facts.stopped, facts.stop
        ),
    };
    Err(Failure::new(Exit::Failed, "no-backup", what).help("backstay pitr windows shows what can be restored"))
}

/// That the log reaches the moment.
fn check(
    archive: &Archive<'_>,
    facts: &Facts,
    (moment, way): (&Moment, &[Leg]),
    (reach, coverage): (Reach, &Coverage),
) -> Result<(), Failure> {
    let (first, needed) = (facts.first_segment(), facts.last_segment());
    let name = |number: u64| {
        let leg = way.iter().rev().find(|leg| number >= leg.first);
        Name::of(leg.map_or(facts.timeline, |leg| leg.timeline), number, facts.segment_bytes).to_string()
    };
    let Some(last) = reach.last.filter(|last| *last >= needed) else {
        let missing = name(reach.last.map_or(first, |last| last + 1));
        let what = format!("{missing} is missing in the archive, and the backup cannot become consistent without it");
        return Err(Failure::new(Exit::Failed, "wal-missing", what).help("begin with another backup: --base SNAPSHOT"));
    };
    let end = coverage.end(way, last, facts.segment_bytes);
    let last_end = || archive.last_end(way, (first, last), facts.segment_bytes);
    let until = |told: &str| -> Result<String, Failure> {
        let until = last_end()?;
        let until = until.map(|micros| repo::time::text(Timestamp(i128::from(micros) * 1000)));
        Ok(match until {
            Some(until) => format!("{told}: the last moment that can be reached is {until}"),
            None => format!("{told}: the last position that can be reached is {end}"),
        })
    };
    let beyond = |what: String| {
        Err(Failure::new(Exit::Failed, "beyond-log", what)
            .help("restore to an earlier moment, or push what the server has not archived yet"))
    };
    match (moment, reach.gap) {
        (Moment::Immediate, _) => Ok(()),
        (Moment::Latest | Moment::Xid(_) | Moment::Name(_), Some(gap)) => {
            let what = until(&format!("{} is missing in the archive though later segments are there", name(gap)))?;
            Err(Failure::new(Exit::Failed, "wal-gap", what)
                .help("restore to a moment before the gap, or begin after it: --base SNAPSHOT"))
        }
        (Moment::Latest | Moment::Xid(_) | Moment::Name(_), None) => Ok(()),
        (Moment::Lsn(lsn), _) if *lsn >= end => beyond(until(&format!("the log does not reach {lsn}"))?),
        (Moment::Lsn(_), _) => Ok(()),
        (Moment::Time(at), _) => {
            match last_end()?.map(|micros| Timestamp(i128::from(micros) * 1000)) {
                // A server that finds no transaction after the moment gives up at the end of its log.
                Some(until) if until >= *at => Ok(()),
                _ => beyond(until(&format!("the log does not reach {}", repo::time::text(*at)))?),
            }
        }
    }
}

/// The times that can really be restored to, the newest backup first.
///
/// # Errors
/// Whatever the repository returns.
pub fn windows(ctx: &Ctx, repository: &Repository, source: &str) -> Result<Vec<Window>, Failure> {
    let snapshots = repository.snapshots()?;
    let archive = Archive::open(repository, source, &snapshots)?;
    let reading = repository.reading(&ctx.process)?;
    let coverage = archive.coverage()?;
    let mut windows = Vec::new();
    for snapshot in snapshots_of(&snapshots, source).into_iter().rev().filter(|s| s.public.status == Status::Complete) {
        let facts = facts(&reading, snapshot)?;
        let timeline = coverage.newest(&facts);
        let Some(way) = coverage.way(&facts, timeline) else { continue };
        let reach = coverage.reach(&way);
        let Some(last) = reach.last.filter(|last| *last >= facts.last_segment()) else { continue };
        let to = archive.last_end(&way, (facts.first_segment(), last), facts.segment_bytes)?;
        windows.push(Window {
            snapshot_id: snapshot.id,
            timeline,
            from: facts.stopped.clone(),
            to: to.map(|micros| repo::time::text(Timestamp(i128::from(micros) * 1000))),
            to_lsn: coverage.end(&way, last, facts.segment_bytes),
            gap: reach.gap.map(|gap| Name::of(timeline, gap, facts.segment_bytes).to_string()),
        });
    }
    Ok(windows)
}
