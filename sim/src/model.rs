//! What must hold, as plain maps: the specification that the engine is compared with.
//!
//! It may not know how anything is stored. Hosts tell it what they are about to do and what they were told; it says what
//! may be seen after that, and what must be.

use repo::ledger::SegmentName;
use repo::{Bundle, HeadId, RepoError, SnapshotId};
use std::collections::{BTreeMap, BTreeSet};
use store::Timestamp;

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Whether a snapshot was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gone {
    /// It must be there, once it was committed.
    No,
    /// Somebody wanted to forget it and was not told how that went.
    Perhaps,
    /// It must not be there.
    Yes,
}

/// What one run was about.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What a restore must give.
    pub files: Files,
    /// When the source was looked at.
    pub time: Timestamp,
    /// Things that could not be taken.
    pub errors: u64,
    /// Its snapshot, once its commit was acknowledged.
    pub id: Option<SnapshotId>,
    /// Whether it was forgotten.
    pub gone: Gone,
}

/// What one archive must hold at a place.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// What somebody tried to append.
    pub tried: BTreeSet<Vec<u8>>,
    /// What was acknowledged.
    pub kept: Option<Vec<u8>>,
}

/// What a snapshot looks like from outside.
pub struct Seen {
    /// Its label.
    pub label: String,
    /// Its id.
    pub id: SnapshotId,
    /// Its time as text.
    pub time: String,
    /// Whether it is complete.
    pub complete: bool,
}

/// The specification.
#[derive(Clone, Default)]
pub struct Model {
    /// Runs by label.
    pub specs: BTreeMap<String, Spec>,
    /// Segments by name.
    pub segments: BTreeMap<SegmentName, Segment>,
    /// What each place must show because a copy to it was acknowledged.
    pub copied: BTreeMap<usize, BTreeSet<String>>,
    /// Keys of those who were told that they made the repository.
    pub owners: Vec<Bundle>,
    /// The heads that were seen last, by anybody.
    pub seen: Vec<HeadId>,
    /// What is wrong: one sentence each.
    pub violations: Vec<String>,
    /// How often each kind of error was returned.
    pub errors: BTreeMap<String, u64>,
    /// Whether a store broke its promises here: then errors about damage are true.
    pub broken: bool,
}

impl Model {
    /// A run begins.
    pub fn begins(&mut self, label: &str, files: &Files, time: Timestamp, errors: u64) {
        let spec = Spec { files: files.clone(), time, errors, id: None, gone: Gone::No };
        self.specs.insert(label.to_owned(), spec);
    }

    /// Its commit was acknowledged.
    pub fn committed(&mut self, label: &str, id: SnapshotId) {
        if let Some(spec) = self.specs.get_mut(label) {
            spec.id = Some(id);
        }
    }

    /// Snapshots are forgotten, perhaps.
    pub fn forgets(&mut self, labels: &[String], gone: Gone) {
        for label in labels {
            if let Some(spec) = self.specs.get_mut(label) {
                spec.gone = spec.gone.max(gone);
            }
        }
    }

    /// Labels of what must be visible in the repository.
    pub fn standing(&self) -> BTreeSet<String> {
        let stands = |spec: &Spec| spec.id.is_some() && spec.gone == Gone::No;
        self.specs.iter().filter(|(_, spec)| stands(spec)).map(|(label, _)| label.clone()).collect()
    }

    /// What a place shows is compared with what it must and may show.
    pub fn check_visible(&mut self, place: usize, seen: &[Seen]) {
        let mut wrong = Vec::new();
        let labels: BTreeSet<&String> = seen.iter().map(|snapshot| &snapshot.label).collect();
        if labels.len() != seen.len() {
            wrong.push(format!("place {place}: one run made two snapshots"));
        }
        let must = match place {
            0 => self.standing(),
            _ => self.copied.get(&place).cloned().unwrap_or_default(),
        };
        for label in must.iter().filter(|label| self.specs[*label].gone == Gone::No) {
            if !labels.contains(label) {
                wrong.push(format!("place {place}: snapshot {label} was committed and is not there"));
            }
        }
        for snapshot in seen {
            let label = &snapshot.label;
            let Some(spec) = self.specs.get(label) else {
                wrong.push(format!("place {place}: snapshot {label} was never made"));
                continue;
            };
            if place == 0 && spec.gone == Gone::Yes {
                wrong.push(format!("place {place}: snapshot {label} was forgotten and is there"));
            }
            if spec.id.is_some_and(|id| id != snapshot.id) {
                wrong.push(format!("place {place}: snapshot {label} is another one than was acknowledged"));
            }
            if repo::time::text(spec.time) != snapshot.time {
                wrong.push(format!("place {place}: snapshot {label} says {} for its time", snapshot.time));
            }
            if snapshot.complete != (spec.errors == 0) {
                wrong.push(format!("place {place}: snapshot {label} says wrongly whether it is complete"));
            }
        }
        self.violations.extend(wrong);
    }

    /// What came back of a snapshot is compared with what went in.
    pub fn check_restored(&mut self, place: usize, label: &str, got: &Files) {
        if self.specs.get(label).is_some_and(|spec| spec.files != *got) {
            self.violations.push(format!("place {place}: snapshot {label} came back with other bytes"));
        }
    }

    /// What came back of an archive is compared with what was acknowledged.
    pub fn check_segment(&mut self, name: SegmentName, got: Option<&Vec<u8>>) {
        let Some(segment) = self.segments.get(&name) else { return };
        let wrong = match (&segment.kept, got) {
            (Some(kept), Some(got)) => kept != got,
            (Some(_), None) => true,
            (None, Some(got)) => !segment.tried.contains(got),
            (None, None) => false,
        };
        if wrong {
            self.violations.push(format!("segment {name:?} is not what was acknowledged"));
        }
    }

    /// Something failed. Where no store broke its promises, nothing may be called damaged or lost.
    pub fn failed(&mut self, what: &str, e: &RepoError) {
        *self.errors.entry(variant(e)).or_default() += 1;
        if !self.broken && e.is_damage() {
            self.violations.push(format!("{what} speaks of damage where there is none: {e}"));
        }
    }

    /// Something that must not happen.
    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }
}

/// The name of an error's kind; for the store's, with theirs.
pub fn variant(e: &RepoError) -> String {
    match e {
        RepoError::Store(e) => format!("Store::{:?}", e.kind),
        e => {
            let text = format!("{e:?}");
            text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
        }
    }
}
