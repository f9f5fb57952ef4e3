//! What people say about snapshots: tags, and holds that keep them from expiring.

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::open::remember;
use crate::select::{self, Filter};
use crate::snapshots::SnapshotRow;
use repo::{Annotation, Repository, Snapshot};
use serde::Serialize;

/// What becomes of the tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// These come, those go.
    Edit {
        /// To add.
        add: Vec<String>,
        /// To remove.
        remove: Vec<String>,
    },
    /// These and no others.
    Set(Vec<String>),
}

/// What becomes of the hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It stays as it is.
    Leave,
    /// It must not expire, for this reason.
    Place(String),
    /// It may expire again.
    Release,
}

/// What is asked of `tag`.
pub struct TagRequest {
    /// Which snapshots; none for all that the filter lets through.
    pub snapshots: Vec<String>,
    /// Among these.
    pub filter: Filter,
    /// What becomes of the tags.
    pub tags: Tags,
    /// What becomes of the hold.
    pub hold: Hold,
}

/// What changed.
#[derive(Serialize)]
pub struct TagReport {
    /// The snapshots that changed, as they are now.
    pub changed: Vec<SnapshotRow>,
    /// How many were so already.
    pub unchanged: u64,
}

/// Notes tags and holds on snapshots, by one commit. Their ids stay the same.
///
/// # Errors
/// `NotAuthorised` without a keeper's key; a name that is no snapshot's: nothing is changed then.
pub fn tag(ctx: &Ctx, repository: &Repository, request: &TagRequest) -> Result<TagReport, Failure> {
    let all = repository.snapshots()?;
    let mut chosen: Vec<&Snapshot> = match request.snapshots.is_empty() {
        true => all.iter().filter(|snapshot| request.filter.lets(snapshot)).collect(),
        false => {
            let named =
                request.snapshots.iter().map(|name| select::pick(repository.world(), &all, name, &request.filter));
            named.collect::<Result<_, _>>()?
        }
    };
    chosen.sort_by_key(|snapshot| (snapshot.order, snapshot.id));
    chosen.dedup_by_key(|snapshot| snapshot.id);
    let mut report = TagReport { changed: Vec::new(), unchanged: 0 };
    let mut notes = Vec::new();
    for snapshot in chosen {
        let tags = request.tags.of(snapshot);
        let hold = match &request.hold {
            Hold::Leave => None,
            Hold::Place(why) => Some(Some(why.clone())).filter(|hold| *hold != snapshot.hold),
            Hold::Release => snapshot.hold.as_ref().map(|_| None),
        };
        if tags.is_none() && hold.is_none() {
            report.unchanged += 1;
            continue;
        }
        let mut row = SnapshotRow::of(snapshot);
        row.tags = tags.clone().unwrap_or(row.tags);
        row.hold = hold.clone().unwrap_or(row.hold);
        report.changed.push(row);
        notes.push(Annotation { snapshot, tags, hold, verified: None });
    }
    if !notes.is_empty() {
        repository.annotate(&notes)?;
        remember(ctx, repository);
    }
    Ok(report)
}

impl Tags {
    /// The snapshot's new tags, where they differ from those it has.
    fn of(&self, snapshot: &Snapshot) -> Option<Vec<String>> {
        let mut tags = match self {
            Tags::Set(tags) => tags.clone(),
            Tags::Edit { add, remove } => {
                let kept = snapshot.tags.iter().filter(|tag| !remove.contains(tag));
                kept.chain(add).cloned().collect()
            }
        };
        let mut seen = std::collections::BTreeSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        Some(tags).filter(|tags| *tags != snapshot.tags)
    }
}
