//! What differs between two snapshots: a merge of two sorted streams, in memory that does not grow with them.

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::listing::kind;
use crate::ls::{go_on, key, not_in};
use crate::select::{self, Filter};
use crate::snapshots::SnapshotRow;
use repo::{Entry, FileNode, Located, Node, RepoError, Repository, SnapshotReader, Want, path_of_key};
use serde::Serialize;
use std::cmp::Ordering;
use std::sync::Mutex;

/// How many chunk ids of a file are compared at a time.
const IDS_AT_ONCE: u64 = 65_536;

/// Whether differences of metadata alone are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// They are.
    Shown,
    /// They are counted only.
    Counted,
}

/// What is asked of `diff`.
pub struct DiffRequest {
    /// The older snapshot.
    pub from: String,
    /// The newer one.
    pub to: String,
    /// What `latest` means.
    pub filter: Filter,
    /// Only at and under this absolute path, as bytes; `None` for everything.
    pub within: Option<Vec<u8>>,
    /// Whether differences of metadata alone are shown.
    pub metadata: Metadata,
}

/// One difference.
#[derive(Debug, Serialize)]
pub struct Change {
    /// Where, as bytes; directories end in a slash.
    #[serde(skip)]
    pub path: Vec<u8>,
    /// `+` new, `-` gone, `M` other content, `T` other type; `U`, also after `M`: other metadata.
    pub modifier: String,
    /// Size before, of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_before: Option<u64>,
    /// Size after, of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_after: Option<u64>,
}

/// Counts of things on one side.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Links, pipes, devices.
    pub others: u64,
    /// The sum of the files' sizes.
    pub bytes: u64,
}

impl Tally {
    fn count(&mut self, entry: &Entry) {
        match &entry.node {
            Node::File(file) => {
                self.files += 1;
                self.bytes += file.size;
            }
            Node::Dir => self.dirs += 1,
            Node::HardLink { .. } => self.files += 1,
            _ => self.others += 1,
        }
    }
}

/// What differs, in sum.
#[derive(Serialize)]
pub struct DiffReport {
    /// The older snapshot.
    pub from: SnapshotRow,
    /// The newer one.
    pub to: SnapshotRow,
    /// What is only in the newer one.
    pub added: Tally,
    /// What is only in the older one.
    pub removed: Tally,
    /// Things with other content.
    pub changed: u64,
    /// The sum of their sizes before.
    pub changed_bytes_before: u64,
    /// The sum of their sizes after.
    pub changed_bytes_after: u64,
    /// Things of which only the metadata differs.
    pub metadata_only: u64,
    /// Things of another type.
    pub retyped: u64,
    /// Things that are the same.
    pub unchanged: u64,
}

/// Takes differences, in order of paths.
pub type OnChange<'a> = &'a mut dyn FnMut(&Change) -> Result<(), Failure>;

/// Compares two snapshots.
///
/// # Errors
/// `Failed` for a path that is in neither; `NotAuthorised` without a reader's key; whatever `on` returns.
pub fn diff(
    ctx: &Ctx,
    repository: &Repository,
    request: &DiffRequest,
    on: OnChange<'_>,
) -> Result<DiffReport, Failure> {
    let all = repository.snapshots()?;
    let from = select::pick(repository.world(), &all, &request.from, &request.filter)?;
    let to = select::pick(repository.world(), &all, &request.to, &request.filter)?;
    let within = request.within.as_deref().map(key).transpose()?.unwrap_or_default();
    let reading = repository.reading(&ctx.process)?;
    let sides = Sides { from: reading.open(from)?, to: reading.open(to)? };
    let mut report = DiffReport {
        from: SnapshotRow::of(from),
        to: SnapshotRow::of(to),
        added: Tally::default(),
        removed: Tally::default(),
        changed: 0,
        changed_bytes_before: 0,
        changed_bytes_after: 0,
        metadata_only: 0,
        retyped: 0,
        unchanged: 0,
    };
    let mut old = sides.from.entries(&within);
    let mut new = sides.to.entries(&within);
    let (mut a, mut b) = (old.next().transpose()?, new.next().transpose()?);
    if a.is_none() && b.is_none() && !within.is_empty() {
        return Err(not_in(&within, &report.to));
    }
    loop {
        go_on(ctx)?;
        let order = match (&a, &b) {
            (None, None) => return Ok(report),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.entry.key.cmp(&b.entry.key),
        };
        let before = if order.is_le() { std::mem::replace(&mut a, old.next().transpose()?) } else { None };
        let after = if order.is_ge() { std::mem::replace(&mut b, new.next().transpose()?) } else { None };
        if let Some(change) = sides.judge(before.as_ref(), after.as_ref(), request.metadata, &mut report)? {
            on(&change)?;
        }
    }
}

/// The two snapshots.
struct Sides {
    from: SnapshotReader,
    to: SnapshotReader,
}

impl Sides {
    /// Counts a pair, and says what is to be shown of it.
    fn judge(
        &self,
        before: Option<&Located>,
        after: Option<&Located>,
        metadata: Metadata,
        report: &mut DiffReport,
    ) -> Result<Option<Change>, RepoError> {
        let (before, after) = match (before, after) {
            (None, None) => return Ok(None),
            (Some(gone), None) => {
                report.removed.count(&gone.entry);
                return Ok(Some(change("-", Some(gone), None)));
            }
            (None, Some(new)) => {
                report.added.count(&new.entry);
                return Ok(Some(change("+", None, Some(new))));
            }
            (Some(before), Some(after)) => (before, after),
        };
        if kind(&before.entry.node) != kind(&after.entry.node) {
            report.retyped += 1;
            return Ok(Some(change("T", Some(before), Some(after))));
        }
        let other_content = !self.same_content(before, after)?;
        let other_metadata = !same_metadata(&before.entry, &after.entry);
        let modifier = match (other_content, other_metadata) {
            (true, true) => "MU",
            (true, false) => "M",
            (false, true) => "U",
            (false, false) => {
                report.unchanged += 1;
                return Ok(None);
            }
        };
        if other_content {
            report.changed += 1;
            report.changed_bytes_before += size(before).unwrap_or_default();
            report.changed_bytes_after += size(after).unwrap_or_default();
        } else {
            report.metadata_only += 1;
        }
        let modifier = match metadata {
            Metadata::Shown => modifier,
            Metadata::Counted if other_content => "M",
            Metadata::Counted => return Ok(None),
        };
        Ok(Some(change(modifier, Some(before), Some(after))))
    }

    fn same_content(&self, before: &Located, after: &Located) -> Result<bool, RepoError> {
        let before = followed(&self.from, before)?;
        let after = followed(&self.to, after)?;
        match (&before.entry.node, &after.entry.node) {
            (Node::File(a), Node::File(b)) => self.same_file((a, before.first), (b, after.first)),
            (a, b) => Ok(a == b),
        }
    }

    fn same_file(&self, (a, a_first): (&FileNode, u64), (b, b_first): (&FileNode, u64)) -> Result<bool, RepoError> {
        if a.size != b.size || a.extents != b.extents {
            return Ok(false);
        }
        // A file may be cut in another way than before; the digest of its data does not depend on that.
        if let (Some(a), Some(b)) = (a.digest, b.digest) {
            return Ok(a == b);
        }
        if a.chunks != b.chunks {
            return Ok(false);
        }
        if self.from.snapshot().domain != self.to.snapshot().domain {
            return self.same_data(a.chunks, a_first, b_first);
        }
        let mut at = 0;
        while at < a.chunks {
            let count = (a.chunks - at).min(IDS_AT_ONCE);
            if self.from.ids(a_first + at, count)? != self.to.ids(b_first + at, count)? {
                return Ok(false);
            }
            at += count;
        }
        Ok(true)
    }

    /// Names of chunks in different domains cannot be compared: reads one side, and asks the other how it would name that.
    fn same_data(&self, chunks: u64, a_first: u64, b_first: u64) -> Result<bool, RepoError> {
        for at in 0..chunks {
            let ours = self.from.ids(a_first + at, 1)?;
            let theirs = self.to.ids(b_first + at, 1)?;
            let (Some(ours), Some(theirs)) = (ours.first(), theirs.first()) else { return Ok(false) };
            let want = Want { id: *ours, place: self.from.locate(ours)?, tag: 0 };
            let named = Mutex::new(None);
            let failed = self.from.fetch(&[want], &|_, data| {
                *named.lock().expect("no holder panics") = Some(self.to.id_of(data));
                Ok(())
            })?;
            if let Some((_, e)) = failed.into_iter().next() {
                return Err(e);
            }
            if named.into_inner().expect("no holder panics") != Some(*theirs) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The entry that holds the content: for a hard link, that of the file's first name.
fn followed(reader: &SnapshotReader, located: &Located) -> Result<Located, RepoError> {
    match &located.entry.node {
        Node::HardLink { to } => Ok(reader.get(to)?.unwrap_or_else(|| located.clone())),
        _ => Ok(located.clone()),
    }
}

/// Whether two entries differ in nothing but where they are and what is in them.
fn same_metadata(a: &Entry, b: &Entry) -> bool {
    let owners = (a.uid, a.gid, &a.user, &a.group) == (b.uid, b.gid, &b.user, &b.group);
    owners && (a.mode, a.mtime, &a.xattrs) == (b.mode, b.mtime, &b.xattrs)
}

fn size(located: &Located) -> Option<u64> {
    match &located.entry.node {
        Node::File(file) => Some(file.size),
        _ => None,
    }
}

fn change(modifier: &str, before: Option<&Located>, after: Option<&Located>) -> Change {
    let shown = after.or(before).expect("a change has a side");
    let mut path = path_of_key(&shown.entry.key);
    if shown.entry.node == Node::Dir && !shown.entry.key.is_empty() {
        path.push(b'/');
    }
    Change { path, modifier: modifier.to_owned(), size_before: before.and_then(size), size_after: after.and_then(size) }
}
