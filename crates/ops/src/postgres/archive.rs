//! The archive of a cluster's log: taking segments in, giving them out, and what they cover.
//!
//! What it is for: `wal push`, `wal get`, `wal status`, and the question whether a restore can reach its goal.
//! What it may not know: servers. Where data comes from and goes: files of the server into three ledgers of the repository, one
//! for segments, one for ends of timelines, one for histories; and back. `parts` keeps a segment that is still being written.

mod parts;

use super::{domain_of, snapshots_of};
use crate::ctx::Ctx;
use crate::failure::{Exit, Failure};
use crate::open::{read_memory, state_file, write_memory};
use repo::ledger::{Appended, Ledger, SegmentName, Stretch, gaps, parts_of};
use repo::{RepoError, Repository, Segments, Snapshot};
use serde::{Deserialize, Serialize};
use sources::postgres::Lsn;
use sources::postgres::base::Facts;
use sources::postgres::wal::{self, Name, Switch, WalFile};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub use parts::Tail;

/// The largest history file: a line for each switch of timelines.
const HISTORY_BYTES_MAX: u64 = 1 << 20;
/// How many segments are read to find the last moment that a transaction ended.
const LOOK_BACK_MAX: u64 = 64;

/// The archive of one source.
pub struct Archive<'r> {
    repository: &'r Repository,
    source: String,
    segments: Ledger<'r>,
    partials: Ledger<'r>,
    histories: Ledger<'r>,
    /// Parts of segments that were still being written when they were stored.
    parts: Ledger<'r>,
    /// What the newest snapshot of the source says about its log; none where there is no snapshot.
    known: Option<Segments>,
}

/// What became of a file that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pushed {
    /// It is new, and durable.
    New,
    /// The same bytes were there already.
    Same,
    /// It is of a kind that nobody needs for anything.
    Unneeded,
}

/// What is remembered about an archive on the machine that fills it.
#[derive(Serialize, Deserialize)]
struct Memory {
    v: u32,
    system: String,
    segment_bytes: u64,
}

impl<'r> Archive<'r> {
    /// The archive of `source`, which is looked for where its snapshots are.
    ///
    /// # Errors
    /// `NotAuthorised` for a key that sees no domain.
    pub fn open(repository: &'r Repository, source: &str, snapshots: &[Snapshot]) -> Result<Archive<'r>, Failure> {
        let snapshots = snapshots_of(snapshots, source);
        let domain = domain_of(repository, &snapshots);
        let ledger = |name: &str| match domain {
            Some(domain) => repository.ledger_of(name, domain),
            None => repository.ledger(name),
        };
        let (whole, of) = (ledger_name("wal", source), |kind: &str| ledger(&ledger_name(kind, source)));
        let (segments, partials, histories) = (ledger(&whole)?, of("wal-partial")?, of("wal-history")?);
        let parts = ledger(&parts_of(&whole))?;
        let known = snapshots.last().and_then(|snapshot| snapshot.public.segments.clone());
        Ok(Archive { repository, source: source.to_owned(), segments, partials, histories, parts, known })
    }

    /// Name of the ledger of its segments.
    pub fn ledger(&self) -> String {
        ledger_name("wal", &self.source)
    }

    /// Stores a file that the server wants archived. When this returns `Ok` it survives power loss, and the server may
    /// remove it. With it comes the digest of the bytes that were stored.
    ///
    /// # Errors
    /// `wal-name`, `wal-damaged`, `wal-foreign` (of another cluster), `wal-differs` (other bytes were archived under this
    /// name: both are kept); whatever the repository returns.
    pub fn push(&self, ctx: &Ctx, path: &Path) -> Result<(Pushed, blake3::Hash), Failure> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let file = WalFile::parse(name).ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                "wal-name",
                format!("{name:?} is no name that a server gives to a file of its log"),
            )
            .help("archive_command = 'backstay wal push --source PLATFORM/SOURCE %p'")
        })?;
        let bytes_max = match file {
            WalFile::Label => return Ok((Pushed::Unneeded, blake3::hash(&[]))),
            WalFile::History(_) => HISTORY_BYTES_MAX,
            WalFile::Segment(_) | WalFile::Partial(_) => wal::SEGMENT_BYTES_MAX,
        };
        let bytes = read(path, bytes_max)?;
        Ok((self.keep(ctx, (path, file), &bytes)?, blake3::hash(&bytes)))
    }

    /// Stores a file of the log, which was found at this path or would have it as its name. As [`Archive::push`].
    ///
    /// # Errors
    /// As [`Archive::push`].
    pub fn keep(&self, ctx: &Ctx, (path, file): (&Path, WalFile), bytes: &[u8]) -> Result<Pushed, Failure> {
        let appended = match file {
            WalFile::Label => return Ok(Pushed::Unneeded),
            WalFile::History(timeline) => {
                let text = std::str::from_utf8(bytes).ok().and_then(wal::history);
                text.ok_or_else(|| damaged(path, "is no history of a timeline"))?;
                self.histories.append(SegmentName { timeline, number: 0 }, bytes)
            }
            WalFile::Segment(name) => self.segments.append(self.check(ctx, path, &name, bytes)?, bytes),
            WalFile::Partial(name) => self.partials.append(self.check(ctx, path, &name, bytes)?, bytes),
        };
        match appended {
            Ok(Appended::New) => Ok(Pushed::New),
            Ok(Appended::Same) => Ok(Pushed::Same),
            Err(RepoError::Differs(_)) => Err(differs(path, &self.source)),
            Err(e) => Err(e.into()),
        }
    }

    /// That a segment is what its name says, and of the cluster whose archive this is. Returns its place.
    fn check(&self, ctx: &Ctx, path: &Path, name: &Name, bytes: &[u8]) -> Result<SegmentName, Failure> {
        let header = wal::header(bytes).map_err(|e| damaged(path, &e.to_string()))?;
        let number = name.number(header.segment_bytes);
        // A timeline begins with a copy of the segment in which it left the one before.
        if header.start.0 != number * header.segment_bytes || header.timeline > name.timeline {
            return Err(damaged(path, &format!("holds the log from {} of timeline {}", header.start, header.timeline)));
        }
        self.claim(ctx, path, header.system, header.segment_bytes)?;
        Ok(SegmentName { timeline: name.timeline, number })
    }

    /// That this is the archive of this cluster, with segments of this length; it is from now on, if it was nobody's. `path` is
    /// what is said to be of the cluster.
    ///
    /// # Errors
    /// `wal-foreign`, `wal-damaged`.
    pub fn claim(&self, ctx: &Ctx, path: &Path, system: u64, segment_bytes: u64) -> Result<(), Failure> {
        let memory = state_file(ctx, self.repository, &format!("wal-{}", self.ledger().replace('/', "-")));
        let known = match read_memory::<Memory>(&memory) {
            Ok(Some(known)) if known.v == 1 => Some((known.system, known.segment_bytes)),
            // Whatever is wrong with it, the snapshots know better.
            _ => self.known.as_ref().map(|known| (known.origin.clone(), known.bytes)),
        };
        let system = system.to_string();
        match known {
            Some((known, _)) if known != system => Err(foreign(path, &self.source, &system, &known)),
            Some((_, known)) if known != segment_bytes => {
                let what = format!("{segment_bytes} bytes instead of {known}");
                Err(damaged(path, &what))
            }
            _ => {
                let memory_of_it = Memory { v: 1, system, segment_bytes };
                if let Err(e) = write_memory(&memory, &memory_of_it) {
                    ctx.remark(format!("cannot remember whose archive this is in {}: {e}", memory.display()));
                }
                Ok(())
            }
        }
    }

    /// Fetches the file of this name into `into`, which appears whole or not at all. `false` when the archive does not have
    /// it and nothing says that it should.
    ///
    /// # Errors
    /// `wal-gap` when it is missing between others: a server that took that for the end would lose what comes after it;
    /// `wal-name`; whatever the repository returns.
    pub fn fetch(&self, name: &str, into: &Path) -> Result<bool, Failure> {
        let file = WalFile::parse(name)
            .ok_or_else(|| Failure::new(Exit::Failed, "wal-name", format!("{name:?} is no file of a server's log")))?;
        let bytes = match file {
            WalFile::Label => None,
            WalFile::History(timeline) => self.histories.get(SegmentName { timeline, number: 0 })?,
            WalFile::Partial(name) => match self.length()? {
                Some(bytes) => self.partials.get(number_of(&name, bytes))?,
                None => None,
            },
            WalFile::Segment(segment) => match self.length()? {
                None => None,
                Some(bytes) => {
                    let at = number_of(&segment, bytes);
                    let found = self.so_far(at, bytes)?;
                    if found.is_none() && self.is_gap(at, bytes)? {
                        return Err(gap(name, &self.source));
                    }
                    found
                }
            },
        };
        let Some(bytes) = bytes else { return Ok(false) };
        keep(&bytes, into).map_err(|e| {
            Failure::new(Exit::TargetUnreachable, "target-denied", format!("cannot write {}: {e}", into.display()))
        })?;
        Ok(true)
    }

    /// The bytes of a segment, where segments have this length; none where it is not there.
    ///
    /// # Errors
    /// Whatever the repository returns.
    pub fn segment(&self, name: &Name, segment_bytes: u64) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.segments.get(number_of(name, segment_bytes))?)
    }

    /// Whether this segment is missing though later ones of its timeline are there. The first of a timeline is, whatever the one
    /// before has of that number: what the new one wrote is in its own copy alone.
    fn is_gap(&self, at: SegmentName, segment_bytes: u64) -> Result<bool, Failure> {
        let (stretches, tails) = (self.segments.coverage()?, self.tails(segment_bytes)?);
        let mut coverage = Coverage { stretches, tails, ..Coverage::default() };
        coverage.add_tails();
        let stretches = coverage.stretches;
        let later = stretches.iter().any(|s| s.timeline == at.timeline && s.first > at.number);
        let earlier = stretches.iter().any(|s| s.timeline == at.timeline && s.last < at.number);
        let of = |timeline| SegmentName { timeline, number: at.number };
        let elsewhere = stretches.iter().any(|s| s.timeline != at.timeline && s.holds(of(s.timeline)));
        Ok(later && ((earlier && !elsewhere) || self.begins(at.timeline, segment_bytes)? == Some(at.number)))
    }

    /// Number of the segment in which a timeline begins, where its history is there.
    fn begins(&self, timeline: u32, segment_bytes: u64) -> Result<Option<u64>, Failure> {
        let text = self.histories.get(SegmentName { timeline, number: 0 })?;
        let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
        let switches = text.as_deref().and_then(wal::history);
        Ok(switches.and_then(|switches| Some(switches.last()?.at.0 / segment_bytes)))
    }

    /// Length of segments, from the first one that can be read.
    fn length(&self) -> Result<Option<u64>, Failure> {
        if let Some(known) = &self.known {
            return Ok(Some(known.bytes));
        }
        for ledger in [&self.segments, &self.partials] {
            if let Some(first) = ledger.segments()?.first().copied() {
                return Ok(ledger.get(first)?.map(|bytes| bytes.len() as u64));
            }
        }
        Ok(None)
    }

    /// The stretches of complete segments.
    ///
    /// # Errors
    /// Whatever the repository returns.
    pub fn stretches(&self) -> Result<Vec<Stretch>, Failure> {
        Ok(self.segments.coverage()?)
    }

    /// Whether this segment is there, and can be given out.
    ///
    /// # Errors
    /// Whatever the repository returns.
    pub fn holds(&self, name: SegmentName) -> Result<bool, Failure> {
        Ok(self.segments.holds(name)?)
    }

    /// Everything that is there, as one picture.
    ///
    /// # Errors
    /// Whatever the repository returns.
    pub fn coverage(&self) -> Result<Coverage, Failure> {
        let mut histories = BTreeMap::new();
        for name in self.histories.segments()? {
            // A writer cannot read what is in it, only that it is there.
            let read = match self.histories.get(name) {
                Err(RepoError::NotAuthorised { .. }) => continue,
                read => read?,
            };
            let text = read.and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some(switches) = text.as_deref().and_then(wal::history) {
                histories.insert(name.timeline, switches);
            }
        }
        let mut coverage = Coverage { histories, stretches: self.segments.coverage()?, tails: Vec::new() };
        if let Some(bytes) = self.length()? {
            for tail in self.tails(bytes)? {
                // A writer cannot read what is in it, and takes it for what it should be.
                let end = match self.assembled(tail.segment(), bytes) {
                    Err(Failure { exit: Exit::NotAuthorised, .. }) => Some(tail.end),
                    Err(e) if e.code == "damaged" => None,
                    assembled => assembled?.map(|(_, end)| end),
                };
                coverage.tails.extend(end.map(|end| Tail { end, ..tail }));
            }
        }
        coverage.add_tails();
        Ok(coverage)
    }

    /// When the last transaction ended that is in the log up to this segment; none where no recent segment has one.
    ///
    /// # Errors
    /// Whatever the repository returns: a segment that is damaged, above all.
    pub fn last_end(
        &self,
        line: &[Leg],
        (first, last): (u64, u64),
        segment_bytes: u64,
    ) -> Result<Option<i64>, Failure> {
        for number in (first..=last).rev().take(LOOK_BACK_MAX as usize) {
            for leg in line.iter().rev().filter(|leg| leg.has(number)) {
                let at = SegmentName { timeline: leg.timeline, number };
                let Some(bytes) = self.so_far(at, segment_bytes)? else { continue };
                match wal::last_end(&bytes) {
                    Ok(Some(end)) => return Ok(Some(end)),
                    _ => break,
                }
            }
        }
        Ok(None)
    }

    /// What there is, for `wal status`.
    ///
    /// # Errors
    /// Whatever the repository returns.
    pub fn status(&self) -> Result<Status, Failure> {
        let coverage = self.coverage()?;
        let bytes = self.length()?.unwrap_or(16 << 20);
        let told = |stretch: &Stretch| Range {
            timeline: stretch.timeline,
            first: Name::of(stretch.timeline, stretch.first, bytes).to_string(),
            last: Name::of(stretch.timeline, stretch.last, bytes).to_string(),
            segments: stretch.last - stretch.first + 1,
            start: Lsn(stretch.first * bytes),
            end: Lsn((stretch.last + 1) * bytes),
        };
        let ranges: Vec<Range> = self.stretches()?.iter().map(told).collect();
        Ok(Status {
            source: self.source.clone(),
            segment_bytes: bytes,
            segments: ranges.iter().map(|range| range.segments).sum(),
            gaps: gaps(&coverage.stretches).iter().map(told).collect(),
            tails: coverage.tails.iter().map(|tail| tail.range(bytes)).collect(),
            timelines: coverage
                .stretches
                .iter()
                .map(|stretch| stretch.timeline)
                .chain(coverage.histories.keys().copied())
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect(),
            ranges,
        })
    }
}

/// Writes a file, which appears whole or not at all.
pub(super) fn keep(bytes: &[u8], into: &Path) -> std::io::Result<()> {
    let temp = into.with_extension("backstay-tmp");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    let written = file.write_all(bytes).and_then(|()| std::fs::rename(&temp, into));
    if written.is_err() {
        // Half of it is of no use, and takes room that the server needs.
        std::fs::remove_file(&temp).ok();
    }
    written
}

fn ledger_name(kind: &str, source: &str) -> String {
    format!("{kind}:{source}")
}

fn number_of(name: &Name, segment_bytes: u64) -> SegmentName {
    SegmentName { timeline: name.timeline, number: name.number(segment_bytes) }
}

/// A stretch of the archive.
#[derive(Clone, Debug, Serialize)]
pub struct Range {
    /// Which line of history.
    pub timeline: u32,
    /// Name of its first segment.
    pub first: String,
    /// Name of its last segment.
    pub last: String,
    /// How many segments.
    pub segments: u64,
    /// Position of its first byte.
    pub start: Lsn,
    /// Position behind its last byte.
    pub end: Lsn,
}

/// What an archive holds.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Platform and source.
    pub source: String,
    /// Length of segments.
    pub segment_bytes: u64,
    /// How many segments.
    pub segments: u64,
    /// Stretches without a gap, in order.
    pub ranges: Vec<Range>,
    /// What is missing between stretches of one timeline.
    pub gaps: Vec<Range>,
    /// Segments that are being written, as far as they are there.
    pub tails: Vec<Range>,
    /// The timelines.
    pub timelines: Vec<u32>,
}

/// What an archive covers.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Where each timeline but the first comes from.
    pub histories: BTreeMap<u32, Vec<Switch>>,
    /// Stretches without a gap, with the segments that are being written.
    pub stretches: Vec<Stretch>,
    /// Segments that are being written, as far as they are there.
    pub tails: Vec<Tail>,
}

/// A part of a way through the log: segments of one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Which timeline.
    pub timeline: u32,
    /// Number of the first segment.
    pub first: u64,
    /// Number of the last segment; none where it goes on as long as there are any.
    pub last: Option<u64>,
}

impl Leg {
    fn has(&self, number: u64) -> bool {
        number >= self.first && self.last.is_none_or(|last| number <= last)
    }
}

/// How far a way through the log can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Number of the last segment that is there without a gap before it; none when not even the first is.
    pub last: Option<u64>,
    /// Number of the first that is missing though later ones are there.
    pub gap: Option<u64>,
}

impl Coverage {
    /// Puts the segments that are being written behind those that are complete.
    fn add_tails(&mut self) {
        let Coverage { stretches, tails, .. } = self;
        // Where later ones are complete, this one will never be: nobody is given what there is of it.
        tails.retain(|tail| !stretches.iter().any(|s| s.timeline == tail.timeline && s.last >= tail.number));
        for Tail { timeline, number, .. } in tails {
            match stretches.iter_mut().find(|s| s.timeline == *timeline && s.last.checked_add(1) == Some(*number)) {
                Some(stretch) => stretch.last = *number,
                None => stretches.push(Stretch { timeline: *timeline, first: *number, last: *number }),
            }
        }
        stretches.sort_by_key(|stretch| (stretch.timeline, stretch.first));
    }

    /// Position behind the last byte that is there of a way that can be followed to this segment.
    pub fn end(&self, way: &[Leg], last: u64, segment_bytes: u64) -> Lsn {
        let whole = Lsn((last + 1) * segment_bytes);
        let legs = way.iter().rev().filter(|leg| leg.has(last));
        let mut there = legs.map(|leg| SegmentName { timeline: leg.timeline, number: last });
        let there = there.find(|name| self.stretches.iter().any(|stretch| stretch.holds(*name)));
        let tail = there.and_then(|name| self.tails.iter().find(|tail| tail.segment() == name));
        tail.map_or(whole, |tail| tail.end)
    }

    /// The way from a backup to the end of timeline `to`; none when that timeline does not come from the backup's.
    pub fn way(&self, facts: &Facts, to: u32) -> Option<Vec<Leg>> {
        let first = facts.first_segment();
        if to == facts.timeline {
            return Some(vec![Leg { timeline: to, first, last: None }]);
        }
        let switches = self.histories.get(&to)?;
        let at = switches.iter().position(|switch| switch.timeline == facts.timeline)?;
        // A timeline that was left before the backup ended does not have what the backup has.
        if switches[at].at < facts.stop {
            return None;
        }
        let mut way = Vec::new();
        let mut from = first;
        for switch in &switches[at..] {
            let last = switch.at.0 / facts.segment_bytes;
            way.push(Leg { timeline: switch.timeline, first: from, last: Some(last) });
            from = last;
        }
        way.push(Leg { timeline: to, first: from, last: None });
        Some(way)
    }

    /// The newest timeline that can be reached from a backup.
    pub fn newest(&self, facts: &Facts) -> u32 {
        let reachable = self.histories.keys().rev().find(|to| self.way(facts, **to).is_some());
        reachable.copied().unwrap_or(facts.timeline).max(facts.timeline)
    }

    /// How far a way can be followed.
    pub fn reach(&self, way: &[Leg]) -> Reach {
        let there = |name| self.stretches.iter().any(|stretch| stretch.holds(name));
        let name = |timeline, number| SegmentName { timeline, number };
        // The segment in which a timeline was left exists in both. Where the new one went on, only its own will do.
        let begun = |leg: &&Leg| self.stretches.iter().any(|s| s.timeline == leg.timeline && s.last >= leg.first);
        let has = |number: u64| {
            let leg = way.iter().rev().filter(|leg| leg.has(number)).find(begun);
            leg.is_some_and(|leg| there(name(leg.timeline, number)))
        };
        let Some(first) = way.first().map(|leg| leg.first) else { return Reach { last: None, gap: None } };
        let highest = way
            .iter()
            .flat_map(|leg| self.stretches.iter().filter(|s| s.timeline == leg.timeline).map(move |s| (leg, s)))
            .filter_map(|(leg, s)| {
                let last = leg.last.map_or(s.last, |last| last.min(s.last));
                (last >= leg.first && last >= s.first).then_some(last)
            })
            .max();
        let mut next = first;
        while has(next) {
            next += 1;
        }
        Reach { last: (next > first).then(|| next - 1), gap: highest.filter(|highest| *highest > next).map(|_| next) }
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 <= bytes_max => Ok(bytes),
        Ok(_) => Err(damaged(path, "is too large")),
        Err(e) => {
            let what = format!("cannot read {}: {e}", path.display());
            Err(Failure::new(Exit::SourceUnreachable, "source-failed", what)
                .help("run this as the user that the server runs as"))
        }
    }
}

fn damaged(path: &Path, why: &str) -> Failure {
    Failure::new(Exit::Failed, "wal-damaged", format!("{} is not what it should be: it {why}", path.display()))
        .help("nothing was archived; look at the disk of the server, and take a backup")
}

fn foreign(path: &Path, source: &str, found: &str, known: &str) -> Failure {
    let what = format!(
        "{} is of the cluster {found}, and the archive of {source} belongs to the cluster {known}",
        path.display()
    );
    Failure::new(Exit::Failed, "wal-foreign", what)
        .help("give a new cluster a source of its own in the configuration, and point its archive_command there")
}

fn differs(path: &Path, source: &str) -> Failure {
    let name = path.file_name().unwrap_or_default().display();
    let what = format!("{name} was archived for {source} before, with other content: two servers write one history");
    Failure::new(Exit::Failed, "wal-differs", what).help(
        "both are kept; find out whether a copy of the server runs that still archives, or whether its disk was set back",
    )
}

fn gap(name: &str, source: &str) -> Failure {
    let what = format!("{name} is missing in the archive of {source}, and later ones are there: the log has a gap");
    Failure::new(Exit::Failed, "wal-gap", what).help("backstay wal status shows it; restore to a moment before it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(timeline: u32, start: u64, stop: u64) -> Facts {
        let facts = serde_json::json!({
            "v": 1, "system": "7", "version": 150000, "timeline": timeline, "start": Lsn(start), "stop": Lsn(stop),
            "stopped": "2026-11-20T18:00:00Z", "segment_bytes": 1 << 24, "checksums": true, "standby": false,
            "data_directory": "/d", "tablespaces": [], "configuration": [], "settings": [], "backup_label": "",
            "control": "", "databases": [], "extensions": [], "tables": [],
        });
        serde_json::from_value(facts).expect("facts")
    }

    fn stretch(timeline: u32, first: u64, last: u64) -> Stretch {
        Stretch { timeline, first, last }
    }

    #[test]
    fn a_gap_ends_the_reach_and_the_end_of_the_archive_is_no_gap() {
        let way = [Leg { timeline: 1, first: 2, last: None }];
        let reach = |stretches: Vec<Stretch>| Coverage { stretches, ..Coverage::default() }.reach(&way);
        assert_eq!(reach(vec![stretch(1, 1, 9)]), Reach { last: Some(9), gap: None });
        assert_eq!(reach(vec![stretch(1, 1, 4), stretch(1, 6, 9)]), Reach { last: Some(4), gap: Some(5) });
        assert_eq!(reach(vec![stretch(1, 3, 9)]), Reach { last: None, gap: Some(2) });
        assert_eq!(reach(vec![stretch(2, 1, 9)]), Reach { last: None, gap: None });
    }

    #[test]
    fn a_segment_that_is_being_written_counts_up_to_where_it_is_there() {
        let tail = |timeline, number: u64, end| Tail { timeline, number, end: Lsn(number << 24 | end) };
        let mut coverage = Coverage {
            stretches: vec![stretch(1, 1, 4), stretch(2, 5, 6), stretch(3, 1, 2), stretch(3, 4, 5)],
            tails: vec![tail(1, 5, 0x99), tail(2, 6, 0x10), tail(2, 9, 0x20), tail(3, 3, 0x30)],
            ..Coverage::default()
        };
        coverage.add_tails();
        let expect = [stretch(1, 1, 5), stretch(2, 5, 6), stretch(2, 9, 9), stretch(3, 1, 2), stretch(3, 4, 5)];
        assert_eq!(coverage.stretches, expect);
        assert_eq!(coverage.tails, [tail(1, 5, 0x99), tail(2, 9, 0x20)], "what comes before complete ones is not used");
        let old = Leg { timeline: 1, first: 1, last: None };
        assert_eq!(coverage.end(&[old], 5, 1 << 24), Lsn(5 << 24 | 0x99));
        // Servers look for the newer timeline first, and there the segment is complete.
        let way = [Leg { last: Some(5), ..old }, Leg { timeline: 2, first: 5, last: None }];
        assert_eq!(coverage.end(&way, 5, 1 << 24), Lsn(6 << 24));
        assert_eq!(gaps(&coverage.stretches), [stretch(2, 7, 8), stretch(3, 3, 3)]);
    }

    #[test]
    fn a_way_follows_a_failover_and_only_one_after_the_backup() {
        let at = |timeline, segment: u64| Switch { timeline, at: Lsn(segment << 24 | 0x99) };
        let coverage = Coverage {
            histories: BTreeMap::from([(2, vec![at(1, 5)]), (3, vec![at(1, 5), at(2, 7)])]),
            stretches: vec![stretch(1, 2, 4), stretch(2, 5, 6), stretch(3, 7, 9)],
            tails: Vec::new(),
        };
        let backup = facts(1, 2 << 24 | 0x28, 3 << 24);
        assert_eq!(coverage.newest(&backup), 3);
        let way = coverage.way(&backup, 3).expect("a way");
        let leg = |timeline, first, last| Leg { timeline, first, last };
        assert_eq!(way, [leg(1, 2, Some(5)), leg(2, 5, Some(7)), leg(3, 7, None)]);
        // The segment in which a timeline was left may be there of either.
        assert_eq!(coverage.reach(&way), Reach { last: Some(9), gap: None });
        // Where a timeline begins, what the one before has of that segment is not what it wrote itself.
        let mut without =
            Coverage { stretches: vec![stretch(1, 2, 5), stretch(2, 6, 6), stretch(3, 7, 9)], ..coverage.clone() };
        assert_eq!(without.reach(&way), Reach { last: Some(4), gap: Some(5) });
        // Nothing of it is there: the old one's is as far as one can go.
        without.stretches = vec![stretch(1, 2, 5)];
        assert_eq!(without.reach(&way), Reach { last: Some(5), gap: None });
        let late = facts(1, 6 << 24, 6 << 24 | 0x100);
        assert_eq!(coverage.newest(&late), 1, "timeline 2 was left before this backup ended");
    }
}
