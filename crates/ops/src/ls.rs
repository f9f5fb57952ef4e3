//! What a snapshot holds: one entry after the other, never all at once.

use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::listing::Listing;
use crate::select::{self, Filter};
use crate::snapshots::SnapshotRow;
use repo::{RepoError, Repository, is_within, key_of_path, path_of_key, percent_path};
use serde::Serialize;

/// How much of a directory is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The directory and what is directly in it.
    Children,
    /// Everything under it.
    All,
}

/// What is asked of `ls`.
pub struct LsRequest {
    /// Which snapshot.
    pub snapshot: String,
    /// What `latest` means.
    pub filter: Filter,
    /// Absolute paths, as bytes; none for everything.
    pub paths: Vec<Vec<u8>>,
    /// How much of each path.
    pub reach: Reach,
}

/// What was listed.
#[derive(Serialize)]
pub struct LsReport {
    /// Of which snapshot.
    pub snapshot: SnapshotRow,
    /// How many entries.
    pub entries: u64,
    /// The sum of the files' sizes.
    pub bytes: u64,
}

/// Takes entries, in order.
pub type OnListing<'a> = &'a mut dyn FnMut(&Listing) -> Result<(), Failure>;

/// Lists a snapshot, in order of paths.
///
/// # Errors
/// `Usage` for a path that is not absolute; `Failed` for one that is not in the snapshot; `NotAuthorised` without a
/// reader's key; whatever `on` returns.
pub fn ls(ctx: &Ctx, repository: &Repository, request: &LsRequest, on: OnListing<'_>) -> Result<LsReport, Failure> {
    let all = repository.snapshots()?;
    let snapshot = select::pick(repository.world(), &all, &request.snapshot, &request.filter)?;
    let mut report = LsReport { snapshot: SnapshotRow::of(snapshot), entries: 0, bytes: 0 };
    let reading = repository.reading(&ctx.process)?;
    let reader = reading.open(snapshot)?;
    for (within, reach) in places(request)? {
        let mut found = within.is_empty();
        for located in reader.entries(&within) {
            let entry = located?.entry;
            go_on(ctx)?;
            found = true;
            if reach == Reach::Children && depth_below(&entry.key, &within) > 1 {
                continue;
            }
            let listing = Listing::of(&entry);
            report.entries += 1;
            report.bytes += listing.size.unwrap_or_default();
            on(&listing)?;
        }
        if !found {
            return Err(not_in(&within, &report.snapshot));
        }
    }
    Ok(report)
}

/// The keys to list, in order, none within another, each with how much of it.
fn places(request: &LsRequest) -> Result<Vec<(Vec<u8>, Reach)>, Failure> {
    if request.paths.is_empty() {
        return Ok(vec![(Vec::new(), Reach::All)]);
    }
    let mut keys = request.paths.iter().map(|path| key(path)).collect::<Result<Vec<_>, Failure>>()?;
    keys.sort();
    keys.dedup();
    if request.reach == Reach::All {
        let mut outer: Vec<Vec<u8>> = Vec::new();
        for key in keys {
            if !outer.last().is_some_and(|above| is_within(&key, above)) {
                outer.push(key);
            }
        }
        keys = outer;
    }
    Ok(keys.into_iter().map(|key| (key, request.reach)).collect())
}

/// The key of an absolute path.
pub(crate) fn key(path: &[u8]) -> Result<Vec<u8>, Failure> {
    key_of_path(path).ok_or_else(|| {
        Failure::usage(format!("{:?} is not an absolute path", percent_path(path)))
            .help("paths in snapshots begin with a slash, as `backstay ls` prints them")
    })
}

/// Whether nobody asked to stop.
pub(crate) fn go_on(ctx: &Ctx) -> Result<(), Failure> {
    if ctx.world.stop.requested() { Err(RepoError::Stopped.into()) } else { Ok(()) }
}

pub(crate) fn not_in(within: &[u8], snapshot: &SnapshotRow) -> Failure {
    let what = format!("{} is not in snapshot {}", percent_path(&path_of_key(within)), snapshot.short_id);
    Failure::new(Exit::Failed, "no-such-path", what)
        .help(format!("list what is there: backstay ls {}", snapshot.short_id))
}

/// How many levels `key` lies under `within`; zero for `within` itself.
fn depth_below(key: &[u8], within: &[u8]) -> usize {
    let levels = |key: &[u8]| if key.is_empty() { 0 } else { 1 + key.iter().filter(|b| **b == 0).count() };
    levels(key) - levels(within)
}
