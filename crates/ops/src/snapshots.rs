//! The snapshots of a repository, as people and programs see them.

use crate::failure::Failure;
use crate::group::{Group, GroupBy};
use crate::select::Filter;
use repo::{DomainId, Repository, Snapshot, SnapshotId, Stats, Status, Verified};
use serde::Serialize;
use std::collections::BTreeMap;

/// What is asked of `snapshots`.
pub struct SnapshotsRequest {
    /// Only these.
    pub filter: Filter,
    /// Only the newest so many of each host and paths.
    pub latest: Option<usize>,
    /// What is shown together; `None` for one list.
    pub group_by: Option<GroupBy>,
}

/// One snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotRow {
    /// Its full id.
    pub id: SnapshotId,
    /// Enough of the id for people.
    pub short_id: String,
    /// When its run began, RFC 3339.
    pub time: String,
    /// When it was committed, RFC 3339.
    pub finished: String,
    /// Which host.
    pub hostname: String,
    /// Who ran it.
    pub username: String,
    /// What was protected, as percent paths.
    pub paths: Vec<String>,
    /// Which source it is of, `PLATFORM/SOURCE`, where that has a name.
    pub source: Option<String>,
    /// Its tags now.
    pub tags: Vec<String>,
    /// Why it was made, where somebody said so.
    pub reason: Option<String>,
    /// `files` or `stream`.
    pub kind: String,
    /// `complete` or `partial`.
    pub status: Status,
    /// Why it must not expire, if it must not.
    pub hold: Option<String>,
    /// The last verification it passed.
    pub verified: Option<Verified>,
    /// Its place in the order of commits.
    pub order: u64,
    /// Which writer's domain it belongs to.
    pub domain: DomainId,
    /// Name and version of the program that made it.
    pub program_version: String,
    /// Counts of its run.
    pub summary: Stats,
}

impl SnapshotRow {
    /// What there is to say of a snapshot.
    pub fn of(snapshot: &Snapshot) -> SnapshotRow {
        let public = &snapshot.public;
        SnapshotRow {
            id: snapshot.id,
            short_id: snapshot.id.short(),
            time: public.time.clone(),
            finished: public.finished.clone(),
            hostname: public.host.clone(),
            username: public.user.clone(),
            paths: public.paths.clone(),
            source: public.source.clone(),
            tags: snapshot.tags.clone(),
            reason: public.reason.clone(),
            kind: public.kind.clone(),
            status: public.status,
            hold: snapshot.hold.clone(),
            verified: snapshot.verified.clone(),
            order: snapshot.order,
            domain: snapshot.domain,
            program_version: public.program.clone(),
            summary: public.stats.clone(),
        }
    }
}

/// A snapshot that was removed.
#[derive(Clone, Debug, Serialize)]
pub struct RemovedRow {
    /// Its full id.
    pub id: SnapshotId,
    /// Enough of the id for people.
    pub short_id: String,
    /// When it was removed, RFC 3339.
    pub removed_at: String,
    /// Who removed it.
    pub removed_by: String,
    /// Why.
    pub removed_because: String,
    /// When its run began, RFC 3339.
    pub time: String,
    /// Which host.
    pub hostname: String,
    /// Who ran it.
    pub username: String,
    /// What was protected, as percent paths.
    pub paths: Vec<String>,
    /// Which source it is of, `PLATFORM/SOURCE`, where that has a name.
    pub source: Option<String>,
    /// Its tags when it was removed.
    pub tags: Vec<String>,
    /// Why it was made, where somebody said so.
    pub reason: Option<String>,
    /// `complete` or `partial`.
    pub status: Status,
    /// Counts of its run.
    pub summary: Stats,
}

/// The snapshots that were removed and that the filter lets through, the last removed last.
///
/// # Errors
/// When the records cannot be read.
pub fn removed(repository: &Repository, filter: &Filter) -> Result<Vec<RemovedRow>, Failure> {
    let removed = repository.removed()?.into_iter().filter(|removed| filter.lets_of(&removed.public, &removed.tags));
    let row = |removed: repo::Removed| RemovedRow {
        id: removed.id,
        short_id: removed.id.short(),
        removed_at: removed.at,
        removed_by: removed.by,
        removed_because: removed.why,
        time: removed.public.time,
        hostname: removed.public.host,
        username: removed.public.user,
        paths: removed.public.paths,
        source: removed.public.source,
        tags: removed.tags,
        reason: removed.public.reason,
        status: removed.public.status,
        summary: removed.public.stats,
    };
    Ok(removed.map(row).collect())
}

/// Snapshots that are shown together.
#[derive(Serialize)]
pub struct SnapshotGroup {
    /// What they share.
    pub group: Group,
    /// In the order of commits.
    pub snapshots: Vec<SnapshotRow>,
}

/// The snapshots that the key at hand can see and the filter lets through, in groups: one nameless group where none was
/// asked for.
///
/// # Errors
/// When the history cannot be read.
pub fn snapshots(repository: &Repository, request: &SnapshotsRequest) -> Result<Vec<SnapshotGroup>, Failure> {
    let all = repository.snapshots()?;
    let mut chosen: Vec<&Snapshot> = all.iter().filter(|snapshot| request.filter.lets(snapshot)).collect();
    if let Some(count) = request.latest {
        let sources = GroupBy::default();
        let mut taken: BTreeMap<Group, usize> = BTreeMap::new();
        chosen.reverse();
        chosen.retain(|snapshot| {
            let taken = taken.entry(sources.of(snapshot)).or_default();
            *taken += 1;
            *taken <= count
        });
        chosen.reverse();
    }
    let Some(group_by) = &request.group_by else {
        let snapshots = chosen.into_iter().map(SnapshotRow::of).collect();
        return Ok(vec![SnapshotGroup { group: Group::default(), snapshots }]);
    };
    let groups = group_by.split(&chosen).into_iter();
    Ok(groups
        .map(|(group, rows)| SnapshotGroup { group, snapshots: rows.into_iter().map(SnapshotRow::of).collect() })
        .collect())
}
