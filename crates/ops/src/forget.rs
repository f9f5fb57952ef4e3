//! Removing snapshots: by name, or by a retention policy that says why each stays or goes.
//!
//! What it is for: the decisions of `forget`. The policy itself is [`repo::retain`]; space comes back with `prune`.
//! What it may not know: terminals.
//! Where data comes from and goes: the repository's snapshots become points, verdicts become one head that removes.

use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::group::{Group, GroupBy};
use crate::open::remember;
use crate::prune::{self, PruneOutcome, PruneRequest};
use crate::select::{self, Filter};
use crate::snapshots::SnapshotRow;
use repo::retain::{self, AllowEmpty, Civil, Point, Policy, PolicyError, Verdict};
use repo::{Act, Removal, Repository, Snapshot, SnapshotId, Status};
use serde::Serialize;
use std::collections::BTreeMap;

/// Which snapshots to forget.
#[derive(Clone, Debug)]
pub enum Which {
    /// These, by id or `latest`.
    Named(Vec<String>),
    /// Those that a policy does not keep.
    Policy(Box<Policy>),
}

/// What is asked of `forget`.
pub struct ForgetRequest {
    /// Which snapshots.
    pub which: Which,
    /// Only among these.
    pub filter: Filter,
    /// What the policy is applied to, each alone.
    pub group_by: GroupBy,
    /// Whether anything is to change.
    pub act: Act,
    /// Whether a source may lose its last complete and its newest verified snapshot.
    pub allow_empty: AllowEmpty,
    /// Prune afterwards.
    pub prune: Option<PruneRequest>,
}

/// What became of the snapshots.
#[derive(Serialize)]
pub struct ForgetReport {
    /// One per group, in the order of their names.
    pub groups: Vec<ForgetGroup>,
    /// What the prune did, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneOutcome>,
}

impl ForgetReport {
    /// How many snapshots went, or would.
    pub fn removed(&self) -> usize {
        self.groups.iter().map(|group| group.remove.len()).sum()
    }

    /// How many stay.
    pub fn kept(&self) -> usize {
        self.groups.iter().map(|group| group.keep.len()).sum()
    }
}

/// What became of one group.
#[derive(Serialize)]
pub struct ForgetGroup {
    /// What its snapshots share.
    pub group: Group,
    /// What stays.
    pub keep: Vec<Kept>,
    /// What goes.
    pub remove: Vec<Removed>,
}

/// A snapshot that stays.
#[derive(Serialize)]
pub struct Kept {
    /// The snapshot.
    pub snapshot: SnapshotRow,
    /// Every reason why.
    pub reasons: Vec<String>,
}

/// A snapshot that goes.
#[derive(Serialize)]
pub struct Removed {
    /// The snapshot.
    pub snapshot: SnapshotRow,
    /// Why.
    pub reason: String,
}

/// Forgets. When this returns `Ok` and the act was not a preview, the snapshots are gone from the history, durably.
///
/// # Errors
/// `Usage` for a policy that would remove everything by its wording; `Confirmation` for named snapshots that are held or
/// that their source cannot do without; `NotAuthorised` without a keeper's key.
pub fn forget(
    ctx: &Ctx,
    repository: &Repository,
    request: &ForgetRequest,
    on: prune::On<'_>,
) -> Result<ForgetReport, Failure> {
    let all = repository.snapshots()?;
    let groups = match &request.which {
        Which::Named(names) => named(ctx, &all, names, request)?,
        Which::Policy(policy) => by_policy(ctx, &all, policy, request)?,
    };
    let ids: Vec<SnapshotId> = removed_of(&groups).map(|removed| removed.snapshot.id).collect();
    match request.act {
        Act::Preview => {}
        Act::Do if ids.is_empty() => {}
        Act::Do => {
            let why: BTreeMap<SnapshotId, &str> = removed_of(&groups).map(|r| (r.snapshot.id, &*r.reason)).collect();
            let going = all.iter().filter_map(|s| Some(Removal { snapshot: s, why: (*why.get(&s.id)?).to_owned() }));
            let by = format!("{}@{}", ctx.user, ctx.host);
            repository.note_removals(&going.collect::<Vec<_>>(), &by)?;
            repository.forget(&ids)?;
            remember(ctx, repository);
        }
    }
    let prune =
        request.prune.as_ref().map(|request| prune::prune_without(ctx, repository, request, &ids, on)).transpose()?;
    Ok(ForgetReport { groups, prune })
}

fn removed_of(groups: &[ForgetGroup]) -> impl Iterator<Item = &Removed> {
    groups.iter().flat_map(|group| &group.remove)
}

/// The named snapshots, when all of them may go.
fn named(ctx: &Ctx, all: &[Snapshot], names: &[String], request: &ForgetRequest) -> Result<Vec<ForgetGroup>, Failure> {
    let mut going: BTreeMap<SnapshotId, &Snapshot> = BTreeMap::new();
    for name in names {
        let snapshot = select::pick(&ctx.world, all, name, &request.filter)?;
        going.insert(snapshot.id, snapshot);
    }
    for snapshot in going.values() {
        if let Some(why) = &snapshot.hold {
            let why = if why.is_empty() { "no reason given" } else { why };
            let id = snapshot.id.short();
            return Err(Failure::new(Exit::Confirmation, "held", format!("snapshot {id} is held: {why}"))
                .help(format!("release it first: backstay tag --release {id}")));
        }
    }
    if request.allow_empty == AllowEmpty::No {
        let sources = GroupBy::default().split(&all.iter().collect::<Vec<_>>());
        for (source, snapshots) in &sources {
            guard(source, snapshots, &going)?;
        }
    }
    let gone: Vec<&Snapshot> = all.iter().filter(|snapshot| going.contains_key(&snapshot.id)).collect();
    let groups = request.group_by.split(&gone).into_iter().map(|(group, snapshots)| {
        let remove = snapshots
            .into_iter()
            .map(|snapshot| Removed { snapshot: SnapshotRow::of(snapshot), reason: "named".to_owned() });
        ForgetGroup { group, keep: Vec::new(), remove: remove.collect() }
    });
    Ok(groups.collect())
}

/// Refuses when one source would lose its newest verified or its last complete snapshot.
fn guard(source: &Group, snapshots: &[&Snapshot], going: &BTreeMap<SnapshotId, &Snapshot>) -> Result<(), Failure> {
    let refuse = |snapshot: &Snapshot, what: &str| {
        let what = format!("snapshot {} is the {what} of {source}", snapshot.id.short());
        Err(Failure::new(Exit::Confirmation, "last-of-source", what)
            .help("add --allow-empty if it may go all the same"))
    };
    let newest = |proof: &dyn Fn(&Snapshot) -> bool| snapshots.iter().copied().rfind(|snapshot| proof(snapshot));
    let complete = |snapshot: &Snapshot| snapshot.public.status == Status::Complete;
    let proven = newest(&|snapshot| complete(snapshot) && snapshot.verified.is_some());
    if let Some(snapshot) = proven.filter(|snapshot| going.contains_key(&snapshot.id)) {
        return refuse(snapshot, "newest verified snapshot");
    }
    let stays = snapshots.iter().any(|snapshot| complete(snapshot) && !going.contains_key(&snapshot.id));
    match newest(&complete).filter(|_| !stays) {
        Some(snapshot) => refuse(snapshot, "last complete snapshot"),
        None => Ok(()),
    }
}

/// The verdict of a policy on every snapshot that the filter lets through.
fn by_policy(
    ctx: &Ctx,
    all: &[Snapshot],
    policy: &Policy,
    request: &ForgetRequest,
) -> Result<Vec<ForgetGroup>, Failure> {
    let zone = jiff::tz::TimeZone::system();
    let chosen: Vec<&Snapshot> = all.iter().filter(|snapshot| request.filter.lets(snapshot)).collect();
    let groups = request.group_by.split(&chosen);
    let numbered: Vec<(Group, Vec<&Snapshot>)> = groups.into_iter().collect();
    let mut points = Vec::with_capacity(chosen.len());
    for (number, (_, snapshots)) in numbered.iter().enumerate() {
        for snapshot in snapshots {
            points.push(point(snapshot, number.to_string(), &zone)?);
        }
    }
    let policy = Policy { allow_empty: request.allow_empty, ..policy.clone() };
    let verdicts = retain::decide(&points, &policy, ctx.world.clock.now()).map_err(|e| refused(&e))?;
    let verdicts: BTreeMap<SnapshotId, Verdict> =
        verdicts.into_iter().map(|(id, verdict)| (SnapshotId(id), verdict)).collect();
    let groups = numbered.into_iter().map(|(group, snapshots)| {
        let (mut keep, mut remove) = (Vec::new(), Vec::new());
        for snapshot in snapshots {
            let row = SnapshotRow::of(snapshot);
            match verdicts.get(&snapshot.id) {
                Some(Verdict::Remove(reason)) => remove.push(Removed { snapshot: row, reason: reason.to_string() }),
                Some(Verdict::Keep(reasons)) => {
                    keep.push(Kept { snapshot: row, reasons: reasons.iter().map(ToString::to_string).collect() });
                }
                None => keep.push(Kept { snapshot: row, reasons: vec!["no verdict".to_owned()] }),
            }
        }
        ForgetGroup { group, keep, remove }
    });
    Ok(groups.collect())
}

fn refused(e: &PolicyError) -> Failure {
    let what = e.to_string();
    let failure = match e {
        PolicyError::NoRule | PolicyError::KeepsNothing => Failure::new(Exit::Usage, "policy-keeps-nothing", what),
        PolicyError::NoTag | PolicyError::TagsMatchNothing { .. } => Failure::new(Exit::Usage, "policy-tags", what),
        PolicyError::GivenTwice { .. } => Failure::new(Exit::Failed, "policy-given-twice", what),
    };
    failure.help(e.help())
}

/// What retention needs to know of a snapshot. The order of events is that of `finished`; the day it belongs to is that
/// of its start, as people mean when they say "Monday's backup".
fn point(snapshot: &Snapshot, group: String, zone: &jiff::tz::TimeZone) -> Result<Point, Failure> {
    let public = &snapshot.public;
    let bad = || {
        let what = format!("snapshot {} has a time that is none: {:?}", snapshot.id.short(), public.time);
        Failure::new(Exit::Failed, "bad-snapshot-time", what)
            .help("nothing was removed; forget that snapshot by its id")
    };
    let time = repo::time::parse(&public.finished).or_else(|| repo::time::parse(&public.time)).ok_or_else(bad)?;
    let start: jiff::Timestamp = public.time.parse().map_err(|_| bad())?;
    Ok(Point {
        id: snapshot.id.0,
        group,
        order: snapshot.order,
        time,
        civil: civil(&start.to_zoned(zone.clone())),
        tags: snapshot.tags.clone(),
        hold: snapshot.hold.clone(),
        complete: public.status == Status::Complete,
        verified: snapshot.verified.is_some(),
    })
}

fn civil(at: &jiff::Zoned) -> Civil {
    let week = at.date().iso_week_date();
    let small = |n: i8| u8::try_from(n).unwrap_or_default();
    Civil {
        year: i32::from(at.year()),
        month: small(at.month()),
        day: small(at.day()),
        hour: small(at.hour()),
        iso_year: i32::from(week.year()),
        iso_week: small(week.week()),
    }
}
