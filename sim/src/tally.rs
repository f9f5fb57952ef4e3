//! What a run of the simulation counts, and shows.

use std::collections::BTreeMap;
use std::time::Duration;

/// Kinds of errors that the scenarios lead to: a run that does not reach one of them does not ask what it should.
///
/// `Differs` takes two histories of an archive, which only random worlds have. The others cannot be: `BadKey`, `WrongKey` and
/// `NotAuthorised` are about keys, and everybody here has the right one; `Ambiguous` is about what people type, `Outside` and
/// `Limit` about sources, `Stopped` about signals, `LaterFormat` about later programs, `Store::Unsuitable` about places that are
/// refused at once.
const REACHABLE: [&str; 13] = [
    "AlreadyExists",
    "Busy",
    "Damaged",
    "Fenced",
    "LostHistory",
    "MissingChunk",
    "NoRepository",
    "NoSnapshot",
    "Store::Absent",
    "Store::Corrupt",
    "Store::Denied",
    "Store::Full",
    "Store::Unreachable",
];
/// Those that random worlds lead to besides.
const REACHABLE_BY_CHANCE: [&str; 1] = ["Differs"];

/// Counts of many worlds.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Worlds that were run.
    pub worlds: u64,
    /// Turns taken in them.
    pub turns: u64,
    /// What went wrong, by name.
    pub faults: BTreeMap<String, u64>,
    /// What the engine answered, by kind of error.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    /// One world more.
    pub fn add_world(&mut self, turns: u64, faults: &BTreeMap<String, u64>, errors: &BTreeMap<String, u64>) {
        self.add(&Tally { worlds: 1, turns, faults: faults.clone(), errors: errors.clone() });
    }

    /// What another counted.
    pub fn add(&mut self, other: &Tally) {
        self.worlds += other.worlds;
        self.turns += other.turns;
        for (mine, theirs) in [(&mut self.faults, &other.faults), (&mut self.errors, &other.errors)] {
            theirs.iter().for_each(|(name, count)| *mine.entry(name.clone()).or_default() += count);
        }
    }

    /// Kinds of errors that should have been reached, by chance too or not, and were not.
    pub fn unreached(&self, by_chance: bool) -> Vec<&'static str> {
        let besides = REACHABLE_BY_CHANCE.into_iter().filter(|_| by_chance);
        REACHABLE.into_iter().chain(besides).filter(|name| !self.errors.contains_key(*name)).collect()
    }

    /// As text.
    pub fn show(&self, took: Duration) -> String {
        let list = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        let faults: u64 = self.faults.values().sum();
        format!(
            "{} worlds, {} turns, {faults} faults, {:.0} s\nfaults by kind: {}\nerrors reached, {} kinds: {}",
            self.worlds,
            self.turns,
            took.as_secs_f64(),
            list(&self.faults),
            self.errors.len(),
            list(&self.errors)
        )
    }
}
