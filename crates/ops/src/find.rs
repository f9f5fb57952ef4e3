//! Where a name or path occurs, across snapshots.

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::listing::Listing;
use crate::ls::{OnListing, go_on};
use crate::select::{self, Filter};
use crate::snapshots::SnapshotRow;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use repo::{Node, RepoError, Repository, Snapshot, SnapshotReader, key_of_path, path_of_key};
use serde::Serialize;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Whether `A` matches `a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// It does not.
    Heeded,
    /// It does.
    Ignored,
}

/// What is asked of `find`.
pub struct FindRequest {
    /// Globs: of names, or of absolute paths where they begin with a slash. `**` crosses directories.
    pub patterns: Vec<String>,
    /// Capitals.
    pub case: Case,
    /// Only things of these kinds (`file`, `dir`, `symlink` …); none for all.
    pub kinds: Vec<String>,
    /// In these snapshots; none for all that the filter lets through.
    pub snapshots: Vec<String>,
    /// Among these.
    pub filter: Filter,
}

/// What was searched.
#[derive(Serialize)]
pub struct FindReport {
    /// How many snapshots.
    pub snapshots: u64,
    /// How many entries matched.
    pub matches: u64,
    /// Snapshots that could not be searched: id and why.
    pub unreadable: Vec<Unreadable>,
}

/// A snapshot that could not be searched.
#[derive(Serialize)]
pub struct Unreadable {
    /// Which.
    pub snapshot: SnapshotRow,
    /// Why.
    pub why: String,
}

/// Takes what matches: newest snapshot first, in order of paths within.
pub type OnMatch<'a> = &'a mut dyn FnMut(&SnapshotRow, &Listing) -> Result<(), Failure>;

/// Searches snapshots. One that is damaged does not keep the others from being searched.
///
/// # Errors
/// `Usage` for a pattern that makes no sense; `NotAuthorised` without a reader's key; whatever `on` returns.
pub fn find(ctx: &Ctx, repository: &Repository, request: &FindRequest, on: OnMatch<'_>) -> Result<FindReport, Failure> {
    let patterns = Patterns::new(request)?;
    let all = repository.snapshots()?;
    let mut chosen: Vec<&Snapshot> = if request.snapshots.is_empty() {
        all.iter().filter(|snapshot| request.filter.lets(snapshot)).collect()
    } else {
        let named = request.snapshots.iter().map(|name| select::pick(repository.world(), &all, name, &request.filter));
        named.collect::<Result<_, _>>()?
    };
    chosen.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.order));
    chosen.dedup_by_key(|snapshot| snapshot.id);
    let reading = repository.reading(&ctx.process)?;
    let mut report = FindReport { snapshots: 0, matches: 0, unreadable: Vec::new() };
    for snapshot in chosen {
        let row = SnapshotRow::of(snapshot);
        let searched = match reading.open(snapshot) {
            Ok(reader) => patterns.search(ctx, &reader, request, &mut |listing| {
                report.matches += 1;
                on(&row, listing)
            })?,
            Err(e) if e.is_damage() => Err(e),
            Err(e) => return Err(e.into()),
        };
        match searched {
            Ok(()) => report.snapshots += 1,
            Err(e) => report.unreadable.push(Unreadable { snapshot: row, why: e.to_string() }),
        }
    }
    Ok(report)
}

/// Patterns, sorted by how they are searched.
struct Patterns {
    /// Absolute paths without wildcards: looked up.
    literal: Vec<Vec<u8>>,
    /// All others: matched against every entry.
    globs: Option<Gitignore>,
}

impl Patterns {
    fn new(request: &FindRequest) -> Result<Patterns, Failure> {
        let refuse = |pattern: &str, why: String| {
            Failure::usage(format!("the pattern {pattern:?} cannot be used: {why}"))
                .help("quote patterns so that the shell leaves them alone, for example '*.conf' or '/etc/**/*.key'")
        };
        let mut builder = GitignoreBuilder::new("/");
        builder.case_insensitive(request.case == Case::Ignored).map_err(|e| refuse("", e.to_string()))?;
        let mut literal = Vec::new();
        let mut globs = false;
        for pattern in &request.patterns {
            if pattern.is_empty() {
                return Err(refuse(pattern, "it is empty".into()));
            }
            let plain = !pattern.contains(['*', '?', '[', '\\']) && request.case == Case::Heeded;
            match key_of_path(pattern.as_bytes()).filter(|_| plain) {
                Some(key) => literal.push(key),
                None => {
                    globs = true;
                    builder.add_line(None, &line(pattern)).map_err(|e| refuse(pattern, e.to_string()))?;
                }
            }
        }
        literal.sort();
        literal.dedup();
        let built = builder.build().map_err(|e| refuse(&request.patterns.join(" "), e.to_string()))?;
        Ok(Patterns { literal, globs: globs.then_some(built) })
    }

    /// Hands over what matches in one snapshot. The inner error is the snapshot's own.
    fn search(
        &self,
        ctx: &Ctx,
        reader: &SnapshotReader,
        request: &FindRequest,
        on: OnListing<'_>,
    ) -> Result<Result<(), RepoError>, Failure> {
        let mut show = |entry: &repo::Entry| {
            let listing = Listing::of(entry);
            match request.kinds.is_empty() || request.kinds.iter().any(|kind| kind == listing.kind) {
                true => on(&listing),
                false => Ok(()),
            }
        };
        let Some(globs) = &self.globs else {
            for key in &self.literal {
                match reader.get(key) {
                    Ok(Some(located)) => show(&located.entry)?,
                    Ok(None) => {}
                    Err(e) if e.is_damage() => return Ok(Err(e)),
                    Err(e) => return Err(e.into()),
                }
            }
            return Ok(Ok(()));
        };
        for located in reader.entries(b"") {
            go_on(ctx)?;
            let entry = match located {
                Ok(located) => located.entry,
                Err(e) if e.is_damage() => return Ok(Err(e)),
                Err(e) => return Err(e.into()),
            };
            if self.literal.binary_search(&entry.key).is_ok() || matches(globs, &entry) {
                show(&entry)?;
            }
        }
        Ok(Ok(()))
    }
}

fn matches(globs: &Gitignore, entry: &repo::Entry) -> bool {
    let path = path_of_key(&entry.key);
    !entry.key.is_empty() && globs.matched(OsStr::from_bytes(&path), entry.node == Node::Dir).is_ignore()
}

/// A pattern as a line of the pattern language: a relative one with slashes may begin in any directory, and nothing in it
/// is a comment or a negation.
fn line(pattern: &str) -> String {
    let begins_anywhere = !pattern.starts_with('/') && pattern.trim_end_matches('/').contains('/');
    match pattern.chars().next() {
        _ if begins_anywhere => format!("**/{pattern}"),
        Some('!' | '#') => format!("\\{pattern}"),
        _ => pattern.to_owned(),
    }
}
